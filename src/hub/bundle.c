/* Repositories in one file, for hubs that no net connects. The file is "farseek bundle 1\n" and entries, each a line of JSON and, where it says "size", as
 * many bytes:
 *
 *   {"entry": "repo", "type", "id", "private", "gated", "description",
 *    "protectedBranches", "protectedTags", "branchProtection"}        what follows is of it
 *   {"entry": "object", "oid", "size"}                                  a large file, named by its SHA-256
 *   {"entry": "git", "size", "sha256"}                                  branches and tags, a git bundle: the last of a repository
 *   {"entry": "end"}
 *
 * Importing verifies every hash. A repository is seen when all of it is here: until then it is disabled, or keeps the refs that it has; objects that came are
 * skipped when a run that was cut short is done again. */
#include "hub/internal.h"

#include "base/file.h"
#include "crypto/sha256.h"
#include "net/url.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC    "farseek bundle 1\n"
#define LINE_BYTES_MAX ((size_t)16 << 10)
#define STAGE    "refs/mirror/" /* hidden from every client */

static fs_status git_run(const char *path, const char *const *words, fs_error *err)
{
    static const char *const pairs[][2] = { { "core.fsync", "all" }, { "safe.directory", "*" }, { "fetch.fsckObjects", "true" }, { "gc.auto", "0" }, { "protocol.allow", "never" },
                                            { "protocol.file.allow", "always" }, { "fetch.unpackLimit", "1" } };
    fs_hub_words argv = { .n = 0 }, env = { .n = 0 };
    fs_status rc;

    fs_hub_words_add(&argv, "git");
    fs_hub_words_add(&argv, "--git-dir=%s", path);
    for (; *words; words++)
        fs_hub_words_add(&argv, "%s", *words);
    fs_hub_git_environment(&env, pairs, sizeof pairs / sizeof *pairs);
    rc = fs_hub_git_run(&argv, &env, err);
    fs_hub_words_done(&argv);
    fs_hub_words_done(&env);
    return rc;
}

/* ---- export ---- */

static fs_status put_line(FILE *f, fs_emit *e, fs_error *err)
{
    fs_status rc = e->rc;

    if (!rc && (fwrite(e->out.data, 1, e->out.n_bytes, f) != e->out.n_bytes || fputc('\n', f) == EOF))
        rc = fs_fail_errno(err, errno, "cannot write the bundle");
    fs_emit_done(e);
    *e = (fs_emit){ 0 };
    return rc;
}

/* n_bytes of fd, which is closed. */
static fs_status put_bytes(FILE *f, int fd, uint64_t n_bytes, fs_error *err)
{
    char *part = malloc(1 << 20);
    fs_status rc = part ? FS_OK : fs_fail_memory(err, 1 << 20);

    while (!rc && n_bytes) {
        ssize_t n = read(fd, part, n_bytes < 1 << 20 ? (size_t)n_bytes : 1 << 20);
        if (n <= 0)
            rc = fs_fail(err, FS_ERR_IO, "a file is shorter than it was");
        else if (fwrite(part, 1, (size_t)n, f) != (size_t)n)
            rc = fs_fail_errno(err, errno, "cannot write the bundle");
        n_bytes -= n > 0 ? (uint64_t)n : 0;
    }
    free(part);
    close(fd);
    return rc;
}

static fs_status put_objects(const fs_hub *h, sqlite3 *db, int64_t repo, FILE *f, fs_hub_bundle_result *r, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(db, &st, err, "SELECT lower(hex(oid)) FROM repo_objects WHERE repo = ? ORDER BY oid", "i", repo);

    if (rc)
        return rc;
    while (!rc && fs_db_next(st)) {
        fs_emit e = { 0 };
        uint64_t n = 0;
        int fd = -1;
        rc = fs_hub_object_open(h, fs_db_text(st, 0), &fd, &n, err);
        if (rc)
            break;
        fs_emit_begin(&e, '{');
        fs_emit_str(&e, "entry", "object");
        fs_emit_str(&e, "oid", fs_db_text(st, 0));
        fs_emit_int(&e, "size", (int64_t)n);
        fs_emit_end(&e, '}');
        rc = put_line(f, &e, err);
        if (rc)
            close(fd);
        else
            rc = put_bytes(f, fd, n, err);
        r->n_objects++;
        r->n_bytes += n;
    }
    return rc ? (fs_db_end(st, NULL), rc) : fs_db_end(st, err);
}

static fs_status put_repo(fs_hub *h, sqlite3 *db, const char *type, const char *id, const char *temp, FILE *f, fs_hub_bundle_result *r, fs_error *err)
{
    const char *const words[] = { "bundle", "create", "--quiet", temp, "--branches", "--tags", NULL };
    sqlite3_stmt *st = NULL;
    fs_hub_rules rules;
    fs_emit e = { 0 };
    char path[512], hex[65];
    int64_t repo = 0;
    uint64_t n = 0;
    int fd = -1;
    fs_status rc = fs_db_query(db, &st, err, "SELECT r.id, r.folder, r.private, coalesce(r.gated, ''), coalesce(r.description, '') FROM repos r JOIN accounts a ON a.id = r.owner"
                                             " WHERE r.type = ? AND a.name || '/' || r.name = ? COLLATE NOCASE", "ss", type, id);

    if (rc)
        return rc;
    if (!fs_db_next(st)) {
        rc = fs_db_end(st, err);
        return rc ? rc : fs_fail(err, FS_ERR_NOT_FOUND, "there is no '%.200s' among the %s here", id, type);
    }
    repo = sqlite3_column_int64(st, 0);
    rc = fs_hub_repo_path(h, fs_db_text(st, 1), path, err);
    if (!rc)
        rc = fs_hub_rules_read(db, repo, &rules, err);
    if (rc) {
        fs_db_end(st, NULL);
        return rc;
    }
    fs_emit_begin(&e, '{');
    fs_emit_str(&e, "entry", "repo");
    fs_emit_str(&e, "type", type);
    fs_emit_str(&e, "id", id);
    fs_emit_bool(&e, "private", sqlite3_column_int(st, 2) != 0);
    fs_emit_str(&e, "gated", fs_db_text(st, 3));
    fs_emit_str(&e, "description", fs_db_text(st, 4));
    fs_hub_rules_emit(&e, &rules);
    fs_emit_end(&e, '}');
    fs_db_end(st, NULL);
    rc = put_line(f, &e, err);
    if (!rc) /* before the objects are listed: what its refs need is among them */
        rc = git_run(path, words, err);
    if (!rc)
        rc = put_objects(h, db, repo, f, r, err);
    if (!rc)
        rc = fs_hub_open_stored(temp, &fd, &n, err);
    if (!rc)
        rc = fs_sha256_of_file(fd, temp, n, NULL, hex, err);
    if (!rc) {
        fs_emit_begin(&e, '{');
        fs_emit_str(&e, "entry", "git");
        fs_emit_int(&e, "size", (int64_t)n);
        fs_emit_str(&e, "sha256", hex);
        fs_emit_end(&e, '}');
        rc = put_line(f, &e, err);
    }
    if (!rc) {
        rc = put_bytes(f, fd, n, err);
        r->n_repos++;
    } else if (fd >= 0) {
        close(fd);
    }
    unlink(temp);
    return rc;
}

fs_status fs_hub_export(fs_hub *h, const char *type, const char *const *ids, int n_ids, const char *to, fs_hub_bundle_result *ret, fs_error *err)
{
    char part[600], temp[600];
    sqlite3 *db = NULL;
    fs_emit e = { 0 };
    FILE *f;
    fs_status rc;

    *ret = (fs_hub_bundle_result){ 0 };
    if (snprintf(part, sizeof part, "%s.part", to) >= (int)sizeof part || snprintf(temp, sizeof temp, "%s.git", to) >= (int)sizeof temp)
        return fs_fail(err, FS_ERR_ARGUMENT, "the name '%.100s...' is too long", to);
    f = fopen(part, "we");
    if (!f)
        return fs_fail_errno(err, errno, "cannot make '%s'", part);
    rc = fputs(MAGIC, f) == EOF ? fs_fail_errno(err, errno, "cannot write '%s'", part) : fs_db_take(h->db, &db, err);
    for (int i = 0; i < n_ids && !rc; i++)
        rc = put_repo(h, db, type, ids[i], temp, f, ret, err);
    fs_db_give(h->db, db);
    if (!rc) {
        fs_emit_begin(&e, '{');
        fs_emit_str(&e, "entry", "end");
        fs_emit_end(&e, '}');
        rc = put_line(f, &e, err);
    }
    if (!rc && (fflush(f) != 0 || fsync(fileno(f)) != 0))
        rc = fs_fail_errno(err, errno, "cannot write '%s'", part);
    if (fclose(f) != 0 && !rc)
        rc = fs_fail_errno(err, errno, "cannot write '%s'", part);
    if (!rc && rename(part, to) != 0)
        rc = fs_fail_errno(err, errno, "cannot name '%s'", to);
    if (rc)
        unlink(part);
    return rc;
}

/* ---- import ---- */

typedef struct import {
    fs_hub *hub;
    sqlite3 *db;
    FILE *f;
    const char *what;
    fs_hub_bundle_result *result;
    int64_t repo; /* the one whose entries come; 0: none */
    bool is_new;  /* it was not whole here yet */
    char path[512];
    git_repository *git;
} import;

static void leave_repo(import *m)
{
    git_repository_free(m->git);
    m->git = NULL;
    m->repo = 0;
}

static fs_status take_repo(import *m, struct json_object *o, fs_error *err)
{
    char type[16], owner_name[100], folder[40], sha[41];
    const char *id = json_object_get_string(fs_json_member(o, "id")), *t = json_object_get_string(fs_json_member(o, "type")), *slash = id ? strchr(id, '/') : NULL;
    const char *gated = json_object_get_string(fs_json_member(o, "gated")), *description = json_object_get_string(fs_json_member(o, "description"));
    fs_hub_rules rules = { .branches = "main" };
    bool private = true;
    int64_t owner = 0, importing = 0, is_mirror = 0, now = fs_unix_ms();
    int making;
    sqlite3_stmt *st = NULL;
    fs_status rc;

    leave_repo(m);
    if (!t || !fs_hub_type_is_valid(t) || !slash || slash - id >= (ptrdiff_t)sizeof owner_name || !fs_hub_name_is_valid(slash + 1) ||
        fs_json_bool(o, "private", &private, NULL, err) != FS_OK || (gated && *gated && strcmp(gated, "auto") != 0 && strcmp(gated, "manual") != 0))
        return fs_fail(err, FS_ERR_FORMAT, "'%s': a repository of no name or kind", m->what);
    if (fs_hub_rules_take(o, &rules, err) != FS_OK)
        return fs_fail_prefix(err, "'%s'", m->what);
    snprintf(type, sizeof type, "%s", t);
    snprintf(owner_name, sizeof owner_name, "%.*s", (int)(slash - id), id);
    rc = fs_hub_owner_make(m->hub, m->db, owner_name, &owner, err);
    if (!rc)
        rc = fs_db_query(m->db, &st, err, "SELECT r.id, r.folder, (SELECT count(*) FROM imports WHERE repo = r.id), (SELECT count(*) FROM mirrors WHERE repo = r.id) FROM repos r"
                                          " WHERE r.type = ? AND r.owner = ? AND r.name = ?", "sis", type, owner, slash + 1);
    if (rc)
        return rc;
    if (fs_db_next(st)) {
        m->repo = sqlite3_column_int64(st, 0);
        snprintf(folder, sizeof folder, "%s", fs_db_text(st, 1));
        importing = sqlite3_column_int64(st, 2);
        is_mirror = sqlite3_column_int64(st, 3);
    }
    rc = fs_db_end(st, err);
    if (!rc && is_mirror)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' is here as a copy of another hub's", id);
    m->is_new = !m->repo || importing;
    if (!rc && !m->repo) {
        fs_hub_random_name(folder, 33);
        rc = fs_hub_making_begin(m->hub, &making, err);
        if (!rc)
            rc = fs_hub_git_init(m->hub, folder, "import", sha, err);
        if (!rc)
            rc = fs_db_begin(m->db, err);
        if (!rc)
            rc = fs_db_run(m->db, err,
                           "INSERT INTO repos(type, owner, name, folder, private, gated, description, protected, protection, protected_tags, disabled, created_ms, modified_ms, sha)"
                           " VALUES(?, ?, ?, ?, ?, nullif(?, ''), nullif(?, ''), ?, ?, ?, 1, ?, ?, ?)",
                           "sississsssiis", type, owner, slash + 1, folder, (int64_t)private, gated ? gated : "", description ? description : "", rules.branches,
                           fs_hub_protection_word(rules.protection), rules.tags, now, now, sha);
        m->repo = sqlite3_last_insert_rowid(m->db);
        if (!rc)
            rc = fs_db_run(m->db, err, "INSERT INTO imports(repo, started_ms) VALUES(?, ?)", "ii", m->repo, now);
        if (!rc)
            rc = fs_db_commit(m->db, err);
        if (rc) {
            fs_db_rollback(m->db);
            fs_hub_git_remove(m->hub, folder);
        }
        fs_hub_making_end(making);
    }
    if (!rc)
        rc = fs_hub_repo_path(m->hub, folder, m->path, err);
    if (!rc && git_repository_open_ext(&m->git, m->path, GIT_REPOSITORY_OPEN_NO_SEARCH | GIT_REPOSITORY_OPEN_BARE | GIT_REPOSITORY_OPEN_NO_DOTGIT, NULL) != 0)
        rc = fs_hub_git_fail(err, "cannot open the repository");
    if (rc)
        leave_repo(m);
    return rc;
}

/* The next n bytes, to in or to fd. */
static fs_status take_bytes(import *m, uint64_t n, fs_hub_incoming *in, int fd, fs_error *err)
{
    char *part = malloc(1 << 20);
    fs_status rc = part ? FS_OK : fs_fail_memory(err, 1 << 20);

    while (!rc && n) {
        size_t k = fread(part, 1, n < 1 << 20 ? (size_t)n : 1 << 20, m->f);
        if (k == 0)
            rc = fs_fail(err, FS_ERR_FORMAT, "'%s' ends early", m->what);
        else
            rc = in ? fs_hub_incoming_put(in, part, k, err) : fs_fd_write(fd, m->what, part, k, err);
        n -= k;
    }
    free(part);
    return rc;
}

static fs_status take_object(import *m, const char *oid, uint64_t n, fs_error *err)
{
    fs_hub_incoming in = { .fd = -1 };
    uint64_t n_held = 0;
    bool held = false;
    fs_status rc = fs_hub_object_of(m->hub, m->db, m->repo, oid, &held, &n_held, err);

    if (!rc && held && n_held == n)
        return fseeko(m->f, (off_t)n, SEEK_CUR) == 0 ? FS_OK : fs_fail_errno(err, errno, "cannot read '%s'", m->what);
    if (!rc)
        rc = fs_hub_incoming_open(m->hub, oid, n, &in, err);
    if (!rc)
        rc = take_bytes(m, n, &in, -1, err);
    if (!rc)
        rc = fs_hub_incoming_add(m->hub, &in, m->db, m->repo, oid, err);
    fs_hub_incoming_close(&in);
    m->result->n_objects += !rc;
    m->result->n_bytes += rc ? 0 : n;
    return rc;
}

typedef struct pointers {
    import *m;
    fs_error *err;
    fs_status rc;
} pointers;

/* Every pointer to a large file that git has here is to one that came. */
static int check_pointer(const git_oid *oid, void *ud)
{
    pointers *p = ud;
    git_odb *odb = NULL;
    git_object_t type = GIT_OBJECT_INVALID;
    fs_hub_file f = { 0 };
    uint64_t n = 0;
    size_t size = 0;
    bool held = false;

    if (git_repository_odb(&odb, p->m->git) != 0 || git_odb_read_header(&size, &type, odb, oid) != 0)
        p->rc = fs_hub_git_fail(p->err, "cannot read an object");
    git_odb_free(odb);
    if (!p->rc && type == GIT_OBJECT_BLOB && size < FS_HUB_POINTER_BYTES_MAX)
        p->rc = fs_hub_file_read(p->m->git, oid, &f, p->err);
    if (!p->rc && f.lfs)
        p->rc = fs_hub_object_of(p->m->hub, p->m->db, p->m->repo, f.sha256, &held, &n, p->err);
    if (!p->rc && f.lfs && !held)
        p->rc = fs_fail(p->err, FS_ERR_FORMAT, "'%s' lacks the large file %s", p->m->what, f.sha256);
    return p->rc ? GIT_EUSER : 0;
}

static fs_status drop_staged(import *m, fs_error *err)
{
    git_strarray names = { 0 };
    fs_status rc = FS_OK;

    if (git_reference_list(&names, m->git) != 0)
        return fs_hub_git_fail(err, "cannot list refs");
    for (size_t i = 0; i < names.count && !rc; i++)
        if (strncmp(names.strings[i], STAGE, strlen(STAGE)) == 0)
            rc = fs_hub_ref_remove(m->path, m->git, names.strings[i], err);
    git_strarray_dispose(&names);
    return rc;
}

/* Refs last, all at once; without force they only go on. */
static fs_status move_refs(import *m, fs_error *err)
{
    const char *const onward[] = { "fetch", "--atomic", "--no-tags", "--no-write-fetch-head", m->path, STAGE "heads/*:refs/heads/*", STAGE "tags/*:refs/tags/*", NULL };
    const char *const anew[] = { "fetch", "--quiet", "--atomic", "--no-tags", "--no-write-fetch-head", m->path, "+" STAGE "heads/*:refs/heads/*", "+" STAGE "tags/*:refs/tags/*", NULL };
    fs_hub_call c = { .hub = m->hub, .db = m->db, .git = m->git, .repo = { .id = m->repo } };
    fs_error said = { 0 };
    fs_status rc = git_run(m->path, m->is_new ? anew : onward, &said);

    if (rc)
        return strstr(said.message, "rejected") ? fs_fail(err, FS_ERR_FORMAT, "'%s': a branch or tag was changed on both sides, and stays as it is here", m->what)
                                                : fs_fail(err, rc, "%s", said.message);
    rc = drop_staged(m, err);
    if (!rc)
        rc = fs_hub_card_refresh(&c, err);
    if (!rc && m->is_new)
        rc = fs_db_begin(m->db, err);
    if (!rc && m->is_new)
        rc = fs_db_run(m->db, err, "UPDATE repos SET disabled = 0 WHERE id = ?", "i", m->repo);
    if (!rc && m->is_new)
        rc = fs_db_run(m->db, err, "DELETE FROM imports WHERE repo = ?", "i", m->repo);
    if (!rc && m->is_new)
        rc = fs_db_commit(m->db, err);
    fs_db_rollback(m->db);
    m->result->n_repos += !rc;
    return rc;
}

/* Else git takes what the file says for a repository of this machine: "gitdir: /..." leads to any. */
static fs_status need_git_bundle(const import *m, int fd, fs_error *err)
{
    static const char *const begins[] = { "# v2 git bundle\n", "# v3 git bundle\n" };
    char begin[16];
    bool is = pread(fd, begin, sizeof begin, 0) == sizeof begin && (memcmp(begin, begins[0], sizeof begin) == 0 || memcmp(begin, begins[1], sizeof begin) == 0);

    return is ? FS_OK : fs_fail(err, FS_ERR_FORMAT, "'%s': its history is no bundle of git", m->what);
}

static fs_status take_git(import *m, const char *sha256, uint64_t n, fs_error *err)
{
    char temp[600], got[65];
    const char *const words[] = { "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", temp, "+refs/heads/*:" STAGE "heads/*", "+refs/tags/*:" STAGE "tags/*", NULL };
    pointers p = { m, err, FS_OK };
    git_odb *odb = NULL;
    int fd;
    fs_status rc;

    fs_hub_locks_drop(m->hub, m->path);
    snprintf(temp, sizeof temp, "%s/parts/import.XXXXXX", m->hub->data);
    fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0)
        return fs_fail_errno(err, errno, "cannot make '%s'", temp);
    rc = take_bytes(m, n, NULL, fd, err);
    if (!rc)
        rc = fs_sha256_of_file(fd, temp, n, NULL, got, err);
    if (!rc && strcmp(got, sha256) != 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s': its history has the SHA-256 %s, not %s", m->what, got, sha256);
    if (!rc)
        rc = need_git_bundle(m, fd, err);
    close(fd);
    if (!rc)
        rc = git_run(m->path, words, err);
    unlink(temp);
    if (!rc && (git_repository_odb(&odb, m->git) != 0 || git_odb_refresh(odb) != 0))
        rc = fs_hub_git_fail(err, "cannot read what came");
    if (!rc && git_odb_foreach(odb, check_pointer, &p) != 0)
        rc = p.rc ? p.rc : fs_hub_git_fail(err, "cannot read what came");
    git_odb_free(odb);
    return rc ? rc : move_refs(m, err);
}

static fs_status take_entry(import *m, const char *line, bool *ret_end, fs_error *err)
{
    struct json_object *o = NULL;
    const char *entry, *hash;
    int64_t n = 0;
    uint8_t bytes[32];
    fs_status rc = fs_json_parse(fs_bytes_str(line), m->what, &o, err);

    if (!rc && !json_object_is_type(o, json_type_object))
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s': a line is no JSON object", m->what);
    if (!rc)
        rc = fs_json_int(o, "size", 0, INT64_MAX, &n, NULL, err);
    if (rc) {
        json_object_put(o);
        return rc;
    }
    entry = json_object_get_string(fs_json_member(o, "entry"));
    hash = json_object_get_string(fs_json_member(o, entry && strcmp(entry, "git") == 0 ? "sha256" : "oid"));
    if (entry && strcmp(entry, "end") == 0)
        *ret_end = true;
    else if (entry && strcmp(entry, "repo") == 0)
        rc = take_repo(m, o, err);
    else if (!entry || !m->repo || !hash || !fs_hex_read(fs_bytes_str(hash), bytes, sizeof bytes))
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s': an entry that is none, or of no repository", m->what);
    else if (strcmp(entry, "object") == 0)
        rc = take_object(m, hash, (uint64_t)n, err);
    else if (strcmp(entry, "git") == 0)
        rc = take_git(m, hash, (uint64_t)n, err);
    else
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "'%s': an entry '%.40s', of a newer farseek", m->what, entry);
    json_object_put(o);
    return rc;
}

fs_status fs_hub_import(fs_hub *h, const char *from, fs_hub_bundle_result *ret, fs_error *err)
{
    import m = { .hub = h, .what = from, .result = ret };
    char *line = malloc(LINE_BYTES_MAX);
    bool end = false;
    fs_status rc;

    *ret = (fs_hub_bundle_result){ 0 };
    m.f = fopen(from, "re");
    if (!line || !m.f) {
        rc = line ? fs_fail_errno(err, errno, "cannot open '%s'", from) : fs_fail_memory(err, LINE_BYTES_MAX);
        free(line);
        if (m.f)
            fclose(m.f);
        return rc;
    }
    rc = fs_db_take(h->db, &m.db, err);
    if (!rc && (!fgets(line, LINE_BYTES_MAX, m.f) || strcmp(line, MAGIC) != 0))
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' is no bundle of a hub", from);
    while (!rc && !end) {
        if (!fgets(line, LINE_BYTES_MAX, m.f) || !fs_ends_with(line, "\n"))
            rc = fs_fail(err, FS_ERR_FORMAT, "'%s' ends early: repositories that were whole in it are here", from);
        else
            rc = take_entry(&m, line, &end, err);
    }
    leave_repo(&m);
    fs_db_give(h->db, m.db);
    fclose(m.f);
    free(line);
    return rc;
}
