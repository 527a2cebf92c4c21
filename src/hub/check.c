/* Looking after a hub: garbage taken away beside writers, everything checked.
 *
 * An object goes when no repository holds it and it was not touched for a while: its row first, then, in a transaction of its own, the file that has no
 * row, so that a kill between the two leaves no row without a file. Whoever adds a row does it in a transaction that fails without the file. What is in xorbs alone
 * goes in one transaction with what is known of its chunks; its xorbs go when no file is made of them (xet_check.c). */
#include "hub/blobs.h"
#include "hub/xet_store.h"

#include "base/file.h"
#include "crypto/sha256.h"
#include "net/url.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UPLOAD_MS ((int64_t)7 * 24 * 3600 * 1000)
#define PUSH_MS   ((int64_t)24 * 3600 * 1000) /* no push takes longer */

fs_status fs_hub_each(const char *folder, fs_hub_file_fn *fn, void *ud, fs_error *err)
{
    DIR *d = opendir(folder);
    struct dirent *e;
    char path[700];
    fs_status rc = FS_OK;

    if (!d)
        return errno == ENOENT ? FS_OK : fs_fail_errno(err, errno, "cannot read '%s'", folder);
    while (!rc && (e = readdir(d)) != NULL)
        if (e->d_name[0] != '.' && snprintf(path, sizeof path, "%s/%s", folder, e->d_name) < (int)sizeof path)
            rc = fn(ud, path, e->d_name, err);
    closedir(d);
    return rc;
}

typedef struct keeper {
    fs_hub *hub;
    sqlite3 *db;
    int64_t before_ms; /* what was touched later stays */
    fs_hub_gc_result *gc;
    fs_hub_check *check;
    int depth; /* of folders within objects/ and repos/ */
} keeper;

static int64_t touched_ms(const struct stat *st)
{
    return (int64_t)st->st_ctim.tv_sec * 1000 + st->st_ctim.tv_nsec / 1000000;
}

/* ---- garbage ---- */

static fs_status gc_object(void *ud, const char *name, uint64_t size, fs_error *err)
{
    keeper *k = ud;
    uint8_t oid[32];
    uint64_t n_bytes = 0;
    int64_t n = 0;
    bool removed = false;
    fs_status rc;

    (void)size;
    if (!fs_hex_read(fs_bytes_str(name), oid, sizeof oid))
        return FS_OK;
    rc = fs_db_int(k->db, &n, NULL, err, "SELECT count(*) FROM repo_objects WHERE oid = ?", "b", (fs_bytes){ oid, sizeof oid });
    if (rc || n > 0)
        return rc;
    rc = fs_db_begin(k->db, err);
    if (!rc)
        rc = fs_db_run(k->db, err, "DELETE FROM objects WHERE oid = ?1 AND NOT EXISTS(SELECT 1 FROM repo_objects WHERE oid = ?1)", "b", (fs_bytes){ oid, sizeof oid });
    if (!rc)
        rc = fs_db_commit(k->db, err);
    fs_db_rollback(k->db);
    if (!rc)
        rc = k->hub->store->remove(k->hub, k->db, FS_BLOB_OBJECT, name, k->before_ms, fs_blob_object_is_needed, &removed, &n_bytes, err);
    k->gc->n_objects += removed;
    k->gc->n_bytes += removed ? n_bytes : 0;
    return rc;
}

/* What git keeps a push in until it is looked at, of one that was killed. */
static fs_status gc_push(void *ud, const char *path, const char *name, fs_error *err)
{
    keeper *k = ud;
    struct stat st;

    (void)err;
    if (strncmp(name, "tmp_objdir-", 11) == 0 && lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && (int64_t)st.st_mtim.tv_sec * 1000 <= k->before_ms &&
        (int64_t)st.st_mtim.tv_sec * 1000 <= fs_unix_ms() - PUSH_MS) {
        fs_hub_tree_remove(path);
        k->gc->n_uploads++;
    }
    return FS_OK;
}

/* Folders of repositories that were being made, or removed, when the hub was killed. */
static fs_status gc_repo(void *ud, const char *path, const char *name, fs_error *err)
{
    keeper *k = ud;
    char folder[64], objects[720];
    struct stat st;
    int64_t n = 0;
    fs_status rc;

    if (k->depth < 1) {
        k->depth++;
        rc = fs_hub_each(path, gc_repo, k, err);
        k->depth--;
        return rc;
    }
    if (!fs_ends_with(name, ".git") || strlen(name) - 4 >= sizeof folder || stat(path, &st) != 0)
        return FS_OK;
    snprintf(objects, sizeof objects, "%s/objects", path);
    rc = fs_hub_each(objects, gc_push, k, err);
    if (rc || touched_ms(&st) > k->before_ms)
        return rc;
    snprintf(folder, sizeof folder, "%.*s", (int)strlen(name) - 4, name);
    rc = fs_db_int(k->db, &n, NULL, err, "SELECT count(*) FROM repos WHERE folder = ?", "s", folder);
    if (rc || n > 0 || !fs_hub_making_nobody(k->hub))
        return rc;
    rc = fs_db_int(k->db, &n, NULL, err, "SELECT count(*) FROM repos WHERE folder = ?", "s", folder); /* it may just have been made */
    if (!rc && n == 0) {
        fs_hub_git_remove(k->hub, folder);
        k->gc->n_repos++;
    }
    return rc;
}

/* Files of uploads in parts that nobody knows. */
static fs_status gc_part(void *ud, const char *path, const char *name, fs_error *err)
{
    keeper *k = ud;
    struct stat st;
    int64_t n = 0;
    fs_status rc = fs_db_int(k->db, &n, NULL, err, "SELECT count(*) FROM uploads WHERE id = ?", "s", name);

    if (!rc && n == 0 && stat(path, &st) == 0 && touched_ms(&st) <= k->before_ms && unlink(path) == 0) {
        k->gc->n_uploads++;
        k->gc->n_bytes += (uint64_t)st.st_size;
    }
    return rc;
}

fs_status fs_hub_gc(fs_hub *h, int64_t age_ms, fs_hub_gc_result *ret, fs_error *err)
{
    keeper k = { .hub = h, .before_ms = fs_unix_ms() - age_ms, .gc = ret };
    char path[600];
    fs_status rc = fs_db_take(h->db, &k.db, err);

    *ret = (fs_hub_gc_result){ 0 };
    if (rc)
        return rc;
    rc = fs_hub_blobs_reach(h, err);
    if (rc) {
        fs_db_give(h->db, k.db);
        return rc;
    }
    rc = fs_db_run(k.db, err, "DELETE FROM uploads WHERE created_ms < ?", "i", fs_unix_ms() - UPLOAD_MS);
    snprintf(path, sizeof path, "%s/parts", h->data);
    if (!rc)
        rc = fs_hub_each(path, gc_part, &k, err);
    snprintf(path, sizeof path, "%s/repos", h->data);
    if (!rc)
        rc = fs_hub_each(path, gc_repo, &k, err);
    if (!rc)
        rc = fs_xet_gc(h, k.db, k.before_ms, &ret->n_xorbs, &ret->n_bytes, err);
    if (!rc)
        rc = h->store->list(h, k.db, FS_BLOB_OBJECT, false, k.before_ms, gc_object, &k, err);
    if (!rc && h->store->tidy)
        rc = h->store->tidy(h, k.db, k.before_ms, &ret->n_uploads, err);
    fs_db_give(h->db, k.db);
    return rc;
}

/* ---- checking ---- */

static void wrong(keeper *k, bool repaired, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void wrong(keeper *k, bool repaired, const char *format, ...)
{
    char sentence[900];
    va_list ap;

    va_start(ap, format);
    vsnprintf(sentence, sizeof sentence, format, ap);
    va_end(ap);
    k->check->n_wrong++;
    k->check->n_repaired += repaired;
    if (k->check->on_wrong)
        k->check->on_wrong(k->check->ud, sentence, repaired);
}

static void xorb_wrong(void *ud, const char *sentence)
{
    keeper *k = ud;

    wrong(k, k->check->repair, "%s", sentence);
}

static void blob_wrong(void *ud, const char *sentence, bool repaired)
{
    wrong(ud, repaired, "%s", sentence);
}

static fs_status add_to_hash(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    (void)err;
    fs_sha256_update(ud, data, n_bytes);
    return FS_OK;
}

static fs_status hash_object(const fs_hub *h, const char *name, char ret[65], fs_error *err)
{
    fs_sha256 sha;
    fs_status rc = fs_sha256_init(&sha, err);

    if (!rc)
        rc = h->store->read(h, FS_BLOB_OBJECT, name, 0, UINT64_MAX, add_to_hash, &sha, err);
    if (!rc)
        fs_sha256_final_hex(&sha, ret);
    fs_sha256_done(&sha);
    return rc;
}

/* One that is not what its name says goes to DATA/lost: it is in xorbs still, or a client uploads it again. */
static fs_status check_object(void *ud, const char *name, uint64_t size, fs_error *err)
{
    keeper *k = ud;
    char got[65] = "";
    uint8_t oid[32];
    fs_error why;
    fs_status rc = FS_OK;

    (void)size;
    k->check->n_objects++;
    if (!fs_hex_read(fs_bytes_str(name), oid, sizeof oid)) {
        wrong(k, false, "'%.200s' among the objects is none", name);
        return FS_OK;
    }
    rc = hash_object(k->hub, name, got, &why);
    if (rc == FS_OK && strcmp(got, name) == 0)
        return FS_OK;
    if (rc && k->hub->s3_url) { /* that it could not be read says nothing of what is there */
        if (rc != FS_ERR_NOT_FOUND) /* removed meanwhile */
            wrong(k, false, "object %s: %s", name, why.message);
        return FS_OK;
    }
    rc = FS_OK;
    if (k->check->repair)
        rc = k->hub->store->take_out(k->hub, k->db, FS_BLOB_OBJECT, name, err);
    if (*got)
        wrong(k, k->check->repair && !rc, "object %s: its content has the hash %s", name, got);
    else
        wrong(k, k->check->repair && !rc, "object %s: %s", name, why.message);
    return rc;
}

typedef struct made {
    fs_xet_hash file;
    char sha256[65];
} made;

/* Objects that are in xorbs alone: what their chunks make. */
static fs_status check_made(keeper *k, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_buf all = { 0 };
    fs_status rc = fs_db_query(k->db, &st, err, "SELECT hash, lower(hex(sha256)) FROM xet_files", "");

    while (!rc && fs_db_next(st)) {
        made m = { 0 };
        if (sqlite3_column_bytes(st, 0) == FS_XET_HASH_BYTES)
            memcpy(m.file.bytes, sqlite3_column_blob(st, 0), FS_XET_HASH_BYTES);
        snprintf(m.sha256, sizeof m.sha256, "%s", fs_db_text(st, 1));
        rc = fs_buf_append(&all, &m, sizeof m, err);
    }
    if (st && rc)
        fs_db_end(st, NULL);
    else if (st)
        rc = fs_db_end(st, err);
    for (size_t i = 0; i < all.n_bytes && !rc; i += sizeof(made)) {
        made m;
        char got[65] = "";
        fs_error why = { 0 };
        memcpy(&m, all.data + i, sizeof m);
        if (fs_blob_has_file(k->hub, m.sha256))
            continue;
        k->check->n_objects++;
        rc = fs_xet_file_hash(k->hub, k->db, &m.file, got, &why);
        if (rc == FS_ERR_MEMORY || rc == FS_ERR_IO) {
            rc = fs_fail(err, rc, "object %s: %s", m.sha256, why.message);
        } else if (rc == FS_ERR_NOT_FOUND || (!rc && strcmp(got, m.sha256) == 0)) { /* not found: it went, or has a file now */
            rc = FS_OK;
        } else {
            rc = k->check->repair ? fs_xet_forget_file(k->db, &m.file, err) : FS_OK;
            wrong(k, k->check->repair && !rc, *got ? "object %s: its chunks have the hash %s" : "object %s: %s", m.sha256, *got ? got : why.message);
        }
    }
    fs_buf_done(&all);
    return rc;
}

/* Rows without a file. A repository that holds such an object is offered it by nobody: its next upload brings it again. */
static fs_status check_rows(keeper *k, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    uint64_t n_bytes = 0;
    bool here = false;
    fs_buf missing = { 0 };
    fs_status rc = fs_db_query(k->db, &st, err, "SELECT lower(hex(oid)), size FROM objects", "");

    while (!rc && fs_db_next(st)) {
        const char *oid = fs_db_text(st, 0);
        rc = k->hub->store->is_here(k->hub, k->db, FS_BLOB_OBJECT, oid, &here, &n_bytes, err);
        if (rc)
            break;
        if (!here) {
            wrong(k, k->check->repair, "object %s of %lld bytes is missing", oid, (long long)sqlite3_column_int64(st, 1));
            rc = fs_buf_append(&missing, oid, 64, err);
        } else if ((int64_t)n_bytes != sqlite3_column_int64(st, 1)) {
            wrong(k, false, "object %s has %lld bytes, the database says %lld", oid, (long long)n_bytes, (long long)sqlite3_column_int64(st, 1));
        }
    }
    if (!rc)
        rc = fs_db_end(st, err);
    else
        fs_db_end(st, NULL);
    for (size_t i = 0; i < missing.n_bytes && !rc && k->check->repair; i += 64) {
        uint8_t oid[32];
        fs_hex_read((fs_bytes){ (const uint8_t *)missing.data + i, 64 }, oid, sizeof oid);
        rc = fs_db_run(k->db, err, "DELETE FROM repo_objects WHERE oid = ?", "b", (fs_bytes){ oid, sizeof oid });
        if (!rc)
            rc = fs_db_run(k->db, err, "DELETE FROM objects WHERE oid = ?", "b", (fs_bytes){ oid, sizeof oid });
    }
    fs_buf_done(&missing);
    return rc;
}

/* ---- repositories ---- */

typedef struct tree_check {
    keeper *k;
    git_repository *git;
    int64_t repo;
    int64_t lazy; /* its large files come when they are asked for */
    const char *what;
} tree_check;

/* Every blob can be read, and what a pointer names is there. */
static fs_status check_file(void *ud, const char *path, const git_oid *oid, git_object_t type, fs_error *err)
{
    tree_check *t = ud;
    bool held = false, here = false;
    uint64_t n = 0;
    fs_hub_file f;
    fs_error why;
    fs_status rc;

    if (type != GIT_OBJECT_BLOB)
        return FS_OK;
    if (fs_hub_file_read(t->git, oid, &f, &why) != FS_OK) {
        wrong(t->k, false, "%s: '%s': %s", t->what, path, why.message);
        return FS_OK;
    }
    if (!f.lfs)
        return FS_OK;
    rc = fs_hub_object_of(t->k->hub, t->k->db, t->repo, f.sha256, &held, &n, err);
    if (rc || held)
        return rc;
    rc = t->k->hub->store->is_here(t->k->hub, t->k->db, FS_BLOB_OBJECT, f.sha256, &here, &n, err);
    if (!rc && here && n == f.n_bytes) { /* the row was lost, the file was not */
        if (t->k->check->repair)
            rc = fs_hub_object_add(t->k->db, t->repo, f.sha256, f.n_bytes, err);
        wrong(t->k, t->k->check->repair, "%s: '%s' points to %s, which the database does not give it", t->what, path, f.sha256);
    } else if (!rc && !t->lazy) {
        wrong(t->k, false, "%s: '%s' points to %s, which is not here", t->what, path, f.sha256);
    }
    return rc;
}

static void check_refs(tree_check *t)
{
    git_reference_iterator *it = NULL;
    git_reference *ref = NULL;
    git_object *tree = NULL;
    fs_error why = { 0 };

    if (git_reference_iterator_new(&it, t->git) != 0) {
        fs_hub_git_fail(&why, "its refs");
        wrong(t->k, false, "%s: %s", t->what, why.message);
        return;
    }
    while (git_reference_next(&ref, it) == 0) {
        if (git_reference_peel(&tree, ref, GIT_OBJECT_TREE) != 0) {
            fs_hub_git_fail(&why, git_reference_name(ref));
            wrong(t->k, false, "%s: %s", t->what, why.message);
        } else {
            if (fs_hub_walk(t->git, git_object_id(tree), "", true, check_file, t, &why) != FS_OK)
                wrong(t->k, false, "%s: %s: %s", t->what, git_reference_name(ref), why.message);
        }
        git_object_free(tree);
        tree = NULL;
        git_reference_free(ref);
        ref = NULL;
    }
    git_reference_iterator_free(it);
}

/* git's own look at every object. */
static fs_status run_fsck(keeper *k, const char *path, const char *what, fs_error *err)
{
    fs_buf command = { 0 };
    char line[400];
    FILE *out;
    fs_status rc = fs_buf_printf(&command, err, "git -c safe.directory='*' --git-dir='");

    for (const char *p = path; *p && !rc; p++)
        rc = *p == '\'' ? fs_buf_append_str(&command, "'\\''", err) : fs_buf_append(&command, p, 1, err);
    if (!rc)
        rc = fs_buf_append_str(&command, "' fsck --full --no-dangling --no-progress 2>&1", err);
    out = rc ? NULL : popen(command.data, "re");
    fs_buf_done(&command);
    if (!out)
        return rc ? rc : fs_fail(err, FS_ERR_IO, "cannot start git");
    while (fgets(line, sizeof line, out)) {
        line[strcspn(line, "\n")] = 0;
        wrong(k, false, "%s: git: %s", what, line);
    }
    pclose(out);
    return FS_OK;
}

static fs_status check_repo(keeper *k, int64_t repo, const char *folder, const char *what, fs_error *err)
{
    tree_check t = { .k = k, .repo = repo, .what = what };
    char path[512];
    fs_error why = { 0 };
    fs_status rc = fs_hub_repo_path(k->hub, folder, path, err);

    k->check->n_repos++;
    if (!rc)
        rc = fs_db_int(k->db, &t.lazy, NULL, err, "SELECT lazy FROM mirrors WHERE repo = ?", "i", repo);
    if (rc)
        return rc;
    if (git_repository_open_bare(&t.git, path) != 0) {
        fs_hub_git_fail(&why, "cannot open it");
        wrong(k, false, "%s: %s", what, why.message);
        return FS_OK;
    }
    rc = run_fsck(k, path, what, err);
    if (!rc)
        check_refs(&t);
    git_repository_free(t.git);
    return rc;
}

static fs_status check_repos(keeper *k, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    char what[300], folder[64];
    fs_status rc = fs_db_query(k->db, &st, err, "SELECT r.id, r.folder, r.type || '/' || a.name || '/' || r.name FROM repos r JOIN accounts a ON a.id = r.owner ORDER BY r.id", "");

    while (!rc && fs_db_next(st)) {
        snprintf(folder, sizeof folder, "%s", fs_db_text(st, 1));
        snprintf(what, sizeof what, "%s", fs_db_text(st, 2));
        rc = check_repo(k, sqlite3_column_int64(st, 0), folder, what, err);
    }
    if (rc)
        fs_db_end(st, NULL);
    return rc ? rc : fs_db_end(st, err);
}

static fs_status check_database(keeper *k, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(k->db, &st, err, "PRAGMA integrity_check", "");

    while (!rc && fs_db_next(st))
        if (strcmp(fs_db_text(st, 0), "ok") != 0)
            wrong(k, false, "the database: %s", fs_db_text(st, 0));
    return rc ? rc : fs_db_end(st, err);
}

fs_status fs_hub_fsck(fs_hub *h, fs_hub_check *check, fs_error *err)
{
    keeper k = { .hub = h, .check = check };
    fs_status rc = fs_db_take(h->db, &k.db, err);

    if (rc)
        return rc;
    rc = fs_hub_blobs_reach(h, err);
    if (!rc)
        rc = check_database(&k, err);
    for (int kind = 0; kind < 2 && !rc && h->store->compare; kind++)
        rc = h->store->compare(h, k.db, (fs_blob_kind)kind, check->repair, blob_wrong, &k, err);
    if (!rc)
        rc = h->store->list(h, k.db, FS_BLOB_OBJECT, true, INT64_MAX, check_object, &k, err);
    if (!rc)
        rc = fs_xet_check(h, k.db, check->repair, xorb_wrong, &k, &check->n_xorbs, err);
    if (!rc)
        rc = check_made(&k, err);
    if (!rc)
        rc = check_rows(&k, err);
    if (!rc)
        rc = check_repos(&k, err);
    fs_db_give(h->db, k.db);
    return rc;
}
