/* What a push must be: refs that may move, and files that git itself should hold or that were uploaded before. Runs within git's pre-receive
 * hook, before any ref moves, with the pushed objects still in quarantine.
 *
 * Files are looked at by each name that a commit gives them, since it depends on the name what a file is taken for; other objects, once. Nothing else may
 * come: an object that no ref leads to would be here without having been looked at, to be named by its id. */
#include "hub/internal.h"
#include "hub/scan.h"

#include "base/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LINES_MAX   10000
#define REFUSED_MAX 50 /* sentences */

/* A table by open addressing; kind is scan.h's, NULL of plain objects. */
typedef struct seen {
    struct seen_item {
        git_oid oid;
        const char *kind;
        bool used;
    } *items;
    size_t n, capacity;
} seen;

typedef struct push {
    fs_hub *hub;
    sqlite3 *db;
    git_repository *git;
    int64_t repo, user;
    bool writer;
    fs_hub_rules rules;
    fs_buf revs; /* what refs are to be, a line each */
    int fd;      /* the same, for git: as words of a command they were too long */
    seen objects, files;
    fs_hub_scans scans;
} push;

static struct seen_item *place(const seen *s, const git_oid *oid, const char *kind)
{
    size_t i;

    memcpy(&i, oid->id, sizeof i);
    for (i &= s->capacity - 1; s->items[i].used; i = (i + 1) & (s->capacity - 1))
        if (git_oid_equal(&s->items[i].oid, oid) && s->items[i].kind == kind)
            break;
    return s->items + i;
}

static fs_status add_seen(seen *s, const git_oid *oid, const char *kind, fs_error *err)
{
    struct seen_item *at;

    if (2 * s->n >= s->capacity) {
        seen more = { .n = s->n, .capacity = s->capacity ? 2 * s->capacity : 1024 };
        more.items = calloc(more.capacity, sizeof *more.items);
        if (!more.items)
            return fs_fail_memory(err, more.capacity * sizeof *more.items);
        for (size_t i = 0; i < s->capacity; i++)
            if (s->items[i].used)
                *place(&more, &s->items[i].oid, s->items[i].kind) = s->items[i];
        free(s->items);
        *s = more;
    }
    at = place(s, oid, kind);
    s->n += !at->used;
    *at = (struct seen_item){ *oid, kind, true };
    return FS_OK;
}

static bool is_seen(const seen *s, const git_oid *oid, const char *kind)
{
    return s->capacity && place(s, oid, kind)->used;
}

static bool is_oid(const char *text)
{
    return strlen(text) == GIT_OID_HEXSZ && strspn(text, "0123456789abcdef") == GIT_OID_HEXSZ;
}

static bool is_zero(const char *oid)
{
    return strspn(oid, "0") == GIT_OID_HEXSZ;
}

static fs_status check_pr(push *p, const char *ref, fs_error *err)
{
    int64_t author = 0;
    bool found = false;
    char same[64];
    long long num = strtoll(ref + 8, NULL, 10);
    fs_status rc = FS_OK;

    snprintf(same, sizeof same, "refs/pr/%lld", num);
    if (num > 0 && strcmp(ref, same) == 0) /* neither +1 nor 01 */
        rc = fs_hub_pr_author(p->db, p->repo, (int64_t)num, &author, &found, err);
    if (!rc && !found)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "%.200s is no open pull request", ref);
    if (!rc && !p->writer && author != p->user)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "%.200s is another's pull request", ref);
    return rc;
}

/* old is what the client says; git moves no ref that says something else by then. A tag that is there goes nowhere without being forced. */
static fs_status check_rules(push *p, const char *ref, const char *old, const char *new, fs_error *err)
{
    git_oid from, to;
    fs_hub_change change = FS_HUB_FORCE;

    if (is_zero(new))
        change = FS_HUB_REMOVE;
    else if (is_zero(old) || (strncmp(ref, "refs/heads/", 11) == 0 && fs_hub_rules_cover(&p->rules, ref) && git_oid_fromstr(&from, old) == 0 && git_oid_fromstr(&to, new) == 0 &&
                              git_graph_descendant_of(p->git, &to, &from) == 1))
        change = FS_HUB_EXTEND;
    return fs_hub_rules_check(&p->rules, ref, change, err);
}

static fs_status check_ref(push *p, const char *ref, const char *old, const char *new, fs_error *err)
{
    bool branch = strncmp(ref, "refs/heads/", 11) == 0, tag = strncmp(ref, "refs/tags/", 10) == 0;

    if (strncmp(ref, "refs/pr/", 8) == 0)
        return is_zero(new) ? fs_fail(err, FS_ERR_ARGUMENT, "%.200s: a pull request is closed, not deleted", ref) : check_pr(p, ref, err);
    if (!branch && !tag)
        return fs_fail(err, FS_ERR_ARGUMENT, "%.200s: only branches, tags and pull requests can be pushed", ref);
    if (!p->writer)
        return fs_fail(err, FS_ERR_ARGUMENT, "you have no right to write to this repository");
    if (!fs_hub_ref_name_is_valid(ref + (branch ? 11 : 10)))
        return fs_fail(err, FS_ERR_ARGUMENT, "%.200s cannot be a name here", ref);
    return check_rules(p, ref, old, new, err);
}

/* ---- what is pushed ---- */

static fs_status read_header(push *p, const git_oid *oid, git_object_t *ret_type, size_t *ret_bytes, fs_error *err)
{
    git_odb *odb = NULL;
    bool ok = git_repository_odb(&odb, p->git) == 0 && git_odb_read_header(ret_bytes, ret_type, odb, oid) == 0;

    git_odb_free(odb);
    return ok ? FS_OK : fs_hub_git_fail(err, "cannot read what was pushed");
}

/* A file by one of its names. */
static fs_status check_file(push *p, const git_oid *oid, const char *path, fs_error *err)
{
    const char *kind = fs_scan_kind(path);
    git_object_t type = GIT_OBJECT_INVALID;
    size_t n = 0;
    fs_hub_file f;
    fs_hub_scan scan;
    uint64_t n_held = 0;
    bool held = false;
    fs_status rc;

    if (is_seen(&p->files, oid, kind))
        return FS_OK;
    rc = read_header(p, oid, &type, &n, err);
    if (!rc && n > p->hub->options.regular_bytes_max)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' has %zu bytes: files over %llu belong to Git LFS (git lfs track)", path, n,
                     (unsigned long long)p->hub->options.regular_bytes_max);
    if (!rc)
        rc = fs_hub_file_read(p->git, oid, &f, err);
    if (!rc && f.lfs)
        rc = fs_hub_object_of(p->hub, p->db, p->repo, f.sha256, &held, &n_held, err);
    if (!rc && f.lfs && (!held || n_held != f.n_bytes))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' points to %s, which was not uploaded (git lfs push)", path, f.sha256);
    if (!rc)
        rc = fs_hub_scan_file(p->hub, p->db, p->git, &f, path, &p->scans, &scan, err);
    if (!rc) {
        rc = fs_hub_scan_refuse(p->hub, &scan, path, err);
        fs_hub_scan_done(&scan);
    }
    if (!rc)
        rc = add_seen(&p->files, oid, kind, err);
    return rc ? rc : add_seen(&p->files, oid, NULL, err);
}

static fs_status not_understood(fs_error *err)
{
    return fs_fail(err, FS_ERR_FORMAT, "what was pushed is not understood");
}

/* What a command of git prints. */
static fs_status start_git(const char *command, FILE **ret, fs_error *err)
{
    *ret = popen(command, "re");
    return *ret ? FS_OK : fs_fail(err, FS_ERR_IO, "cannot start git");
}

/* rc: of reading it. */
static fs_status end_git(FILE *list, fs_status rc, fs_error *err)
{
    return list && pclose(list) != 0 && !rc ? fs_fail(err, FS_ERR_FORMAT, "git cannot list what was pushed") : rc;
}

/* ":mode mode id id status" of git diff-tree --raw, of a merge with a colon, a mode and an id more for each further parent: the last mode and id. */
static bool read_change(char *text, const char **ret_mode, git_oid *ret)
{
    size_t n = strspn(text, ":"), n_words = 0;
    char *id = NULL, *rest = NULL;

    *ret_mode = NULL;
    for (char *word = strtok_r(text + n, " ", &rest); word; word = strtok_r(NULL, " ", &rest), n_words++)
        if (n_words == n)
            *ret_mode = word;
        else if (n_words == 2 * n + 1)
            id = word;
    return n > 0 && n_words == 2 * (n + 1) + 1 && git_oid_fromstr(ret, id) == 0;
}

/* Each file that a new commit has and none of its parents has there. */
static fs_status check_files(push *p, fs_error *err)
{
    fs_buf command = { 0 };
    char *text = NULL;
    const char *mode;
    size_t capacity = 0;
    FILE *list = NULL;
    git_oid oid;
    fs_status rc = fs_buf_printf(&command, err, "c=$(git rev-list --stdin --not --all </proc/self/fd/%d) && { test -z \"$c\" || printf '%%s\\n' \"$c\" |"
                                                " git diff-tree --stdin -r -c --root --raw -z --no-renames --no-commit-id --abbrev=40; }", p->fd);

    if (!rc)
        rc = start_git(command.data, &list, err);
    while (!rc && getdelim(&text, &capacity, 0, list) > 0) {
        bool is_link;
        if (!read_change(text, &mode, &oid)) {
            rc = not_understood(err);
            break;
        }
        is_link = strcmp(mode, "160000") == 0; /* to a commit of another repository */
        if (getdelim(&text, &capacity, 0, list) <= 0)
            rc = not_understood(err);
        else if (!git_oid_is_zero(&oid) && !fs_hub_path_is_valid(text))
            rc = fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' cannot be a path here", text);
        else if (!git_oid_is_zero(&oid) && !is_link)
            rc = check_file(p, &oid, text, err);
    }
    rc = end_git(list, rc, err);
    fs_buf_done(&command);
    free(text);
    return rc;
}

/* Of what no commit has, a tag's blob say, the one name that git knows. */
static fs_status check_object(push *p, const char *hex, const char *path, fs_error *err)
{
    git_object_t type = GIT_OBJECT_INVALID;
    size_t n = 0;
    git_oid oid;
    fs_status rc;

    if (git_oid_fromstr(&oid, hex) != 0)
        return not_understood(err);
    rc = read_header(p, &oid, &type, &n, err);
    if (!rc && *path && !fs_hub_path_is_valid(path))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' cannot be a path here", path);
    if (!rc)
        rc = add_seen(&p->objects, &oid, NULL, err);
    return rc || type != GIT_OBJECT_BLOB || is_seen(&p->files, &oid, NULL) ? rc : check_file(p, &oid, path, err);
}

static fs_status check_objects(push *p, fs_error *err)
{
    fs_buf command = { 0 };
    char line[4200];
    FILE *list = NULL;
    fs_status rc = fs_buf_printf(&command, err, "git rev-list --objects --stdin --not --all </proc/self/fd/%d", p->fd);

    if (!rc)
        rc = start_git(command.data, &list, err);
    while (!rc && fgets(line, sizeof line, list)) {
        char *path;
        line[strcspn(line, "\n")] = 0;
        path = strchr(line, ' ');
        if (path)
            *path++ = 0;
        rc = check_object(p, line, path ? path : "", err);
    }
    rc = end_git(list, rc, err);
    fs_buf_done(&command);
    return rc;
}

/* The quarantine has nothing but what was looked at, and what is here already. */
static fs_status check_rest(push *p, fs_error *err)
{
    char path[600], line[64];
    git_odb *here = NULL;
    git_oid oid;
    FILE *list = NULL;
    fs_status rc;

    snprintf(path, sizeof path, "%sobjects", git_repository_path(p->git));
    if (git_odb_open(&here, path) != 0)
        return fs_hub_git_fail(err, "cannot open the repository");
    rc = start_git("GIT_ALTERNATE_OBJECT_DIRECTORIES= git cat-file --batch-all-objects --unordered --batch-check='%(objectname)'", &list, err);
    while (!rc && fgets(line, sizeof line, list)) {
        line[strcspn(line, "\n")] = 0;
        if (git_oid_fromstr(&oid, line) != 0)
            rc = not_understood(err);
        else if (!is_seen(&p->objects, &oid, NULL) && !git_odb_exists(here, &oid))
            rc = fs_fail(err, FS_ERR_ARGUMENT, "the push has the object %s, which none of its refs leads to", line);
    }
    rc = end_git(list, rc, err);
    git_odb_free(here);
    return rc;
}

static fs_status check_pushed(push *p, fs_error *err)
{
    fs_status rc;

    p->fd = memfd_create("revs", 0); /* git inherits it */
    if (p->fd < 0)
        return fs_fail_errno(err, errno, "no file for what is pushed");
    rc = fs_fd_write(p->fd, "revs", p->revs.data, p->revs.n_bytes, err);
    if (!rc)
        rc = check_files(p, err);
    if (!rc)
        rc = check_objects(p, err);
    if (!rc)
        rc = check_rest(p, err);
    close(p->fd);
    return rc;
}

fs_status fs_hub_pre_receive(fs_hub *h, int64_t repo, int64_t user, bool writer, FILE *lines, fs_hub_refused_fn *on_refused, void *ud, fs_error *err)
{
    push p = { .hub = h, .repo = repo, .user = user, .writer = writer };
    char line[1024], old[64], new[64], ref[300];
    int n_refused = 0;
    fs_error why;
    fs_status rc = fs_db_take(h->db, &p.db, err);

    if (rc)
        return rc;
    if (git_repository_open_ext(&p.git, NULL, GIT_REPOSITORY_OPEN_FROM_ENV | GIT_REPOSITORY_OPEN_BARE, NULL) != 0)
        rc = fs_hub_git_fail(err, "cannot open the repository");
    if (!rc)
        rc = fs_hub_rules_read(p.db, repo, &p.rules, err);
    for (int n = 0; !rc && fgets(line, sizeof line, lines); n++) {
        if (n == LINES_MAX || sscanf(line, "%63s %63s %299s", old, new, ref) != 3 || !is_oid(old) || !is_oid(new))
            rc = fs_fail(err, FS_ERR_FORMAT, "a push that is not understood");
        if (rc)
            break;
        rc = check_ref(&p, ref, old, new, &why);
        if (rc == FS_ERR_ARGUMENT && n_refused++ < REFUSED_MAX) {
            on_refused(ud, why.message);
            rc = FS_OK;
        } else if (rc) {
            if (err)
                *err = why;
        } else if (!is_zero(new)) {
            rc = fs_buf_printf(&p.revs, err, "%s\n", new);
        }
    }
    if (!rc && n_refused)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "nothing of this push was taken");
    if (!rc && p.revs.n_bytes)
        rc = check_pushed(&p, err);
    if (!rc)
        rc = fs_hub_scans_keep(p.db, &p.scans, err);
    fs_hub_scans_done(&p.scans);
    fs_buf_done(&p.revs);
    free(p.objects.items);
    free(p.files.items);
    git_repository_free(p.git);
    fs_db_give(h->db, p.db);
    return rc;
}
