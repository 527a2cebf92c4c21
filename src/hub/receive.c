/* What a push must be: refs that may move, and files that git itself should hold or that were uploaded before. Runs within git's pre-receive
 * hook, before any ref moves, with the pushed objects still in quarantine. */
#include "hub/internal.h"

#include <stdlib.h>
#include <string.h>

#define LINES_MAX 10000

typedef struct push {
    fs_hub *hub;
    sqlite3 *db;
    git_repository *git;
    int64_t repo, user;
    bool writer;
    fs_buf command; /* git rev-list ... */
    bool any;
    fs_hub_scans scans;
} push;

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
        rc = fs_db_int(p->db, &author, &found, err, "SELECT author FROM discussions WHERE repo = ? AND num = ? AND is_pr AND status IN ('open', 'draft')", "ii", p->repo,
                       (int64_t)num);
    if (!rc && !found)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "%.200s is no open pull request", ref);
    if (!rc && !p->writer && author != p->user)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "%.200s is another's pull request", ref);
    return rc;
}

static fs_status check_ref(push *p, const char *ref, bool removes, fs_error *err)
{
    bool branch = strncmp(ref, "refs/heads/", 11) == 0, tag = strncmp(ref, "refs/tags/", 10) == 0;

    if (strncmp(ref, "refs/pr/", 8) == 0)
        return removes ? fs_fail(err, FS_ERR_ARGUMENT, "%.200s: a pull request is closed, not deleted", ref) : check_pr(p, ref, err);
    if (!branch && !tag)
        return fs_fail(err, FS_ERR_ARGUMENT, "%.200s: only branches, tags and pull requests can be pushed", ref);
    if (!p->writer)
        return fs_fail(err, FS_ERR_ARGUMENT, "you have no right to write to this repository");
    if (!fs_hub_ref_name_is_valid(ref + (branch ? 11 : 10)))
        return fs_fail(err, FS_ERR_ARGUMENT, "%.200s cannot be a name here", ref);
    if (removes && strcmp(ref, "refs/heads/main") == 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "main cannot be deleted");
    return FS_OK;
}

static fs_status check_object(push *p, const char *hex, const char *path, fs_error *err)
{
    git_odb *odb = NULL;
    git_object_t type = GIT_OBJECT_INVALID;
    git_oid oid;
    size_t n = 0;
    fs_hub_file f;
    fs_hub_scan scan;
    uint64_t n_held = 0;
    bool held = false;
    fs_status rc = FS_OK;

    if (git_oid_fromstr(&oid, hex) != 0 || git_repository_odb(&odb, p->git) != 0 || git_odb_read_header(&n, &type, odb, &oid) != 0)
        rc = fs_hub_git_fail(err, "cannot read what was pushed");
    git_odb_free(odb);
    if (rc)
        return rc;
    if (*path && !fs_hub_path_is_valid(path))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' cannot be a path here", path);
    if (type != GIT_OBJECT_BLOB)
        return FS_OK;
    if (n > p->hub->options.regular_bytes_max)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' has %zu bytes: files over %llu belong to Git LFS (git lfs track)", path, n,
                       (unsigned long long)p->hub->options.regular_bytes_max);
    rc = fs_hub_file_read(p->git, &oid, &f, err);
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
    return rc;
}

static fs_status check_objects(push *p, fs_error *err)
{
    char line[4200];
    FILE *list;
    fs_status rc = fs_buf_append_str(&p->command, " --not --all", err);

    if (rc)
        return rc;
    list = popen(p->command.data, "re"); /* of ids that are hexadecimal digits */
    if (!list)
        return fs_fail(err, FS_ERR_IO, "cannot start git");
    while (!rc && fgets(line, sizeof line, list)) {
        char *path;
        line[strcspn(line, "\n")] = 0;
        path = strchr(line, ' ');
        if (path)
            *path++ = 0;
        rc = check_object(p, line, path ? path : "", err);
    }
    if (pclose(list) != 0 && !rc)
        rc = fs_fail(err, FS_ERR_FORMAT, "git cannot list what was pushed");
    return rc;
}

fs_status fs_hub_pre_receive(fs_hub *h, int64_t repo, int64_t user, bool writer, FILE *lines, fs_error *err)
{
    push p = { .hub = h, .repo = repo, .user = user, .writer = writer };
    char line[1024], old[64], new[64], ref[300];
    fs_status rc = fs_db_take(h->db, &p.db, err);

    if (rc)
        return rc;
    if (git_repository_open_ext(&p.git, NULL, GIT_REPOSITORY_OPEN_FROM_ENV | GIT_REPOSITORY_OPEN_BARE, NULL) != 0)
        rc = fs_hub_git_fail(err, "cannot open the repository");
    if (!rc)
        rc = fs_buf_append_str(&p.command, "git rev-list --objects", err);
    for (int n = 0; !rc && fgets(line, sizeof line, lines); n++) {
        if (n == LINES_MAX || sscanf(line, "%63s %63s %299s", old, new, ref) != 3 || !is_oid(old) || !is_oid(new))
            rc = fs_fail(err, FS_ERR_FORMAT, "a push that is not understood");
        if (!rc)
            rc = check_ref(&p, ref, is_zero(new), err);
        if (!rc && !is_zero(new)) {
            p.any = true;
            rc = fs_buf_printf(&p.command, err, " %s", new);
        }
    }
    if (!rc && p.any)
        rc = check_objects(&p, err);
    if (!rc)
        rc = fs_hub_scans_keep(p.db, &p.scans, err);
    fs_hub_scans_done(&p.scans);
    fs_buf_done(&p.command);
    git_repository_free(p.git);
    fs_db_give(h->db, p.db);
    return rc;
}
