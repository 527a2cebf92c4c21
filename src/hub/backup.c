/* A copy of a whole hub beside a running server. What never changes (objects, xorbs, git's objects) is linked where the file system can, else copied; refs
 * are copied before the objects that they need can go, the database by SQLite's backup after the repositories. So the database may know of more than the
 * repositories' copies have, never of less: repositories and pull requests that came in between are taken out of it again, and uploads that are under
 * way are left out. The folder has its name when it is whole. */
#include "hub/blobs.h"

#include "base/file.h"
#include "crypto/sha256.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 64

typedef struct copy {
    fs_hub_backup_result *result;
    bool linked; /* may be linked: what is there never changes */
} copy;

static fs_status copy_bytes(const char *from, const char *to, mode_t mode, fs_hub_backup_result *r, fs_error *err)
{
    int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), out = -1;
    char *part = NULL;
    fs_status rc = FS_OK;
    ssize_t n = 0;

    if (in < 0)
        return errno == ENOENT ? FS_ERR_NOT_FOUND : fs_fail_errno(err, errno, "cannot open '%s'", from);
    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode & 0700);
    if (out < 0)
        rc = fs_fail_errno(err, errno, "cannot make '%s'", to);
    if (!rc && !(part = malloc(1 << 20)))
        rc = fs_fail_memory(err, 1 << 20);
    while (!rc && (n = read(in, part, 1 << 20)) > 0) {
        rc = fs_fd_write(out, to, part, (size_t)n, err);
        r->n_bytes += (uint64_t)n;
    }
    if (!rc && n < 0)
        rc = fs_fail_errno(err, errno, "cannot read '%s'", from);
    free(part);
    close(in);
    if (out >= 0)
        close(out);
    return rc;
}

/* FS_ERR_NOT_FOUND: it went meanwhile. */
static fs_status copy_file(const char *from, const char *to, const copy *c, fs_error *err)
{
    struct stat st;

    if (c->linked && fs_file_exists(to))
        return FS_OK; /* a pack that was there at the first look, too */
    if (c->linked && link(from, to) == 0) {
        c->result->n_linked++;
        return FS_OK;
    }
    if (c->linked && errno != EXDEV && errno != EPERM && errno != EMLINK && errno != ENOENT && errno != EOPNOTSUPP)
        return fs_fail_errno(err, errno, "cannot link '%s'", to);
    if (lstat(from, &st) != 0)
        return errno == ENOENT ? FS_ERR_NOT_FOUND : fs_fail_errno(err, errno, "cannot look at '%s'", from);
    c->result->n_copied++;
    return copy_bytes(from, to, st.st_mode, c->result, err);
}

/* What is being written, and git's locks. */
static bool is_passing(const char *name)
{
    return fs_ends_with(name, ".lock") || strncmp(name, "tmp_", 4) == 0 || strncmp(name, "incoming-", 9) == 0;
}

static fs_status copy_folder(const char *from, const char *to, const copy *c, int depth, fs_error *err)
{
    DIR *dir;
    struct dirent *e;
    fs_status rc = FS_OK;

    if (depth > DEPTH_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "'%s' is too deep", from);
    dir = opendir(from);
    if (!dir)
        return errno == ENOENT ? FS_OK : fs_fail_errno(err, errno, "cannot open '%s'", from);
    if (mkdir(to, 0700) != 0 && errno != EEXIST)
        rc = fs_fail_errno(err, errno, "cannot make '%s'", to);
    while (!rc && (e = readdir(dir)) != NULL) {
        char *a, *b;
        struct stat st = { 0 }; /* it may have gone */
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || is_passing(e->d_name))
            continue;
        a = fs_path_join(from, e->d_name);
        b = fs_path_join(to, e->d_name);
        if (!a || !b)
            rc = fs_fail_memory(err, strlen(from) + 300);
        else if (lstat(a, &st) == 0 && S_ISDIR(st.st_mode))
            rc = copy_folder(a, b, c, depth + 1, err);
        else if (S_ISREG(st.st_mode)) {
            rc = copy_file(a, b, c, err);
            if (rc == FS_ERR_NOT_FOUND)
                rc = FS_OK; /* a ref that was removed, an object that became part of a pack: packs are read behind it */
        }
        free(a);
        free(b);
    }
    closedir(dir);
    return rc;
}

/* ---- repositories ---- */

/* Loose objects before packs, since that is the way they go. */
fs_status fs_hub_git_copy(const char *from, const char *to, fs_hub_backup_result *r, fs_error *err)
{
    static const struct {
        const char *name;
        bool linked;
    } parts[] = { { "refs", false }, { "packed-refs", false }, { "objects", true }, { "objects/pack", true }, { "HEAD", false }, { "config", false }, { "info", false } };
    fs_status rc = mkdir(to, 0700) != 0 ? fs_fail_errno(err, errno, "cannot make '%s'", to) : FS_OK;

    for (size_t i = 0; i < sizeof parts / sizeof *parts && !rc; i++) {
        copy c = { r, parts[i].linked };
        char *a = fs_path_join(from, parts[i].name), *b = fs_path_join(to, parts[i].name);
        struct stat st;
        if (!a || !b)
            rc = fs_fail_memory(err, strlen(from) + 64);
        else if (lstat(a, &st) == 0 && S_ISDIR(st.st_mode))
            rc = copy_folder(a, b, &c, 0, err);
        else if (lstat(a, &st) == 0) {
            rc = copy_file(a, b, &c, err);
            rc = rc == FS_ERR_NOT_FOUND ? FS_OK : rc;
        }
        free(a);
        free(b);
    }
    r->n_repos += !rc;
    return rc;
}

static fs_status copy_repos(fs_hub *h, sqlite3 *db, const char *to, fs_hub_backup_result *r, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    char from[512], path[800], *slash;
    fs_status rc = fs_db_query(db, &st, err, "SELECT folder FROM repos", "");

    if (rc)
        return rc;
    while (!rc && fs_db_next(st)) {
        rc = fs_hub_repo_path(h, fs_db_text(st, 0), from, err);
        if (rc || !fs_file_is_folder(from))
            continue;
        snprintf(path, sizeof path, "%s%s", to, from + strlen(h->data));
        slash = strrchr(path, '/');
        *slash = 0;
        rc = fs_hub_folders_make(path, err);
        *slash = '/';
        if (!rc)
            rc = fs_hub_git_copy(from, path, r, err);
    }
    return rc ? (fs_db_end(st, NULL), rc) : fs_db_end(st, err);
}

/* ---- large files of another store ---- */

typedef struct fetch {
    fs_hub *hub;
    sqlite3 *db;
    const char *to;
    fs_blob_kind kind;
    fs_hub_backup_result *result;
    int fd;
    fs_sha256 sha;
} fetch;

static fs_status take_bytes(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    fetch *f = ud;

    fs_sha256_update(&f->sha, data, n_bytes);
    f->result->n_bytes += n_bytes;
    return fs_fd_write(f->fd, f->to, data, n_bytes, err);
}

static fs_status fetch_blob(void *ud, const char *name, uint64_t size, fs_error *err)
{
    fetch *f = ud;
    char path[900], got[65], *slash;
    bool needed = true;
    fs_status rc;

    (void)size;
    snprintf(path, sizeof path, "%s/%s/%.2s/%.2s/%s", f->to, f->kind == FS_BLOB_OBJECT ? "objects" : "xorbs", name, name + 2, name);
    slash = strrchr(path, '/');
    *slash = 0;
    rc = fs_hub_folders_make(path, err);
    *slash = '/';
    if (!rc)
        rc = fs_sha256_init(&f->sha, err);
    if (rc)
        return rc;
    f->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    rc = f->fd < 0 ? fs_fail_errno(err, errno, "cannot make '%s'", path) : f->hub->store->read(f->hub, f->kind, name, 0, UINT64_MAX, take_bytes, f, err);
    if (!rc) {
        fs_sha256_final_hex(&f->sha, got);
        if (f->kind == FS_BLOB_OBJECT && strcmp(got, name) != 0)
            rc = fs_fail(err, FS_ERR_IO, "what the store has under %s has the hash %s: hub fsck --repair moves it away", name, got);
    }
    fs_sha256_done(&f->sha);
    if (f->fd >= 0)
        close(f->fd);
    if (rc == FS_ERR_NOT_FOUND) {
        unlink(path);
        rc = f->kind == FS_BLOB_OBJECT ? fs_blob_object_is_needed(f->db, name, &needed, err) : fs_xet_xorb_is_needed(f->db, name, &needed, err);
        return rc ? rc : needed ? fs_fail(err, FS_ERR_IO, "%s is missing in the store of large files: hub fsck --repair lets it be uploaded again", name) : FS_OK; /* it went as garbage */
    }
    f->result->n_copied += !rc;
    return rc;
}

static fs_status fetch_blobs(fs_hub *h, sqlite3 *db, const char *to, fs_hub_backup_result *r, fs_error *err)
{
    fs_status rc = fs_hub_blobs_reach(h, err);

    for (int kind = 0; kind < 2 && !rc; kind++) {
        fetch f = { .hub = h, .db = db, .to = to, .kind = (fs_blob_kind)kind, .result = r };
        rc = h->store->list(h, db, f.kind, false, INT64_MAX, fetch_blob, &f, err);
    }
    return rc;
}

/* ---- the database ---- */

static fs_status copy_db(sqlite3 *from, const char *path, fs_error *err)
{
    sqlite3 *to = NULL;
    sqlite3_backup *b = NULL;
    fs_status rc = FS_OK;

    if (sqlite3_open_v2(path, &to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) != SQLITE_OK || !(b = sqlite3_backup_init(to, "main", from, "main")) ||
        sqlite3_backup_step(b, -1) != SQLITE_DONE)
        rc = fs_fail(err, FS_ERR_IO, "cannot copy the database: %s", to ? sqlite3_errmsg(to) : "out of memory");
    sqlite3_backup_finish(b);
    if (!rc) /* the copy has its large files beside it */
        rc = fs_db_run(to, err, "DELETE FROM blob_store", "");
    if (!rc)
        rc = fs_db_run(to, err, "DELETE FROM blobs", "");
    sqlite3_close_v2(to);
    return rc;
}

/* Pull requests of c->repo whose ref is not in the copy. */
static fs_status drop_new_prs(sqlite3 *db, const fs_hub *copy, int64_t repo, const char *folder, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    git_repository *git = NULL;
    char path[512];
    fs_status rc = fs_hub_repo_path(copy, folder, path, err);

    if (rc)
        return rc;
    if (git_repository_open_ext(&git, path, GIT_REPOSITORY_OPEN_NO_SEARCH | GIT_REPOSITORY_OPEN_BARE | GIT_REPOSITORY_OPEN_NO_DOTGIT, NULL) != 0)
        return fs_db_run(db, err, "DELETE FROM repos WHERE id = ?", "i", repo); /* made after the repositories were copied */
    rc = fs_db_query(db, &st, err, "SELECT num FROM discussions WHERE repo = ? AND is_pr", "i", repo);
    while (!rc && fs_db_next(st)) {
        char ref[64];
        git_oid oid;
        snprintf(ref, sizeof ref, "refs/pr/%lld", (long long)sqlite3_column_int64(st, 0));
        if (git_reference_name_to_id(&oid, git, ref) != 0)
            rc = fs_db_run(db, err, "DELETE FROM discussions WHERE repo = ? AND num = ?", "ii", repo, sqlite3_column_int64(st, 0));
    }
    git_repository_free(git);
    if (st && !rc)
        rc = fs_db_end(st, err);
    else if (st)
        fs_db_end(st, NULL);
    return rc;
}

/* What the database knows and the copies do not have. */
static fs_status mend_db(const char *to, fs_error *err)
{
    fs_hub *copy = NULL;
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_hub_open(to, NULL, &copy, err);

    if (!rc)
        rc = fs_db_take(copy->db, &db, err);
    if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM uploads", "");
    if (!rc)
        rc = fs_db_query(db, &st, err, "SELECT id, folder FROM repos", "");
    while (!rc && fs_db_next(st))
        rc = drop_new_prs(db, copy, sqlite3_column_int64(st, 0), fs_db_text(st, 1), err);
    if (st) {
        fs_status end = fs_db_end(st, rc ? NULL : err);
        rc = rc ? rc : end;
    }
    if (!rc)
        rc = fs_db_run(db, err, "PRAGMA wal_checkpoint(TRUNCATE)", "");
    if (copy)
        fs_db_give(copy->db, db);
    fs_hub_close(copy);
    return rc;
}

/* ---- all of it ---- */

/* The files that stand in the hub's folder itself: what signs links and feeds. */
static fs_status copy_secrets(const fs_hub *h, const char *to, fs_hub_backup_result *r, fs_error *err)
{
    DIR *dir = opendir(h->data);
    struct dirent *e;
    fs_status rc = dir ? FS_OK : fs_fail_errno(err, errno, "cannot open '%s'", h->data);
    copy c = { r, false };

    while (!rc && (e = readdir(dir)) != NULL) {
        char *a = fs_path_join(h->data, e->d_name), *b = fs_path_join(to, e->d_name);
        struct stat st;
        if (!a || !b)
            rc = fs_fail_memory(err, 600);
        else if (strncmp(e->d_name, "hub.db", 6) != 0 && lstat(a, &st) == 0 && S_ISREG(st.st_mode))
            rc = copy_file(a, b, &c, err);
        rc = rc == FS_ERR_NOT_FOUND ? FS_OK : rc;
        free(a);
        free(b);
    }
    if (dir)
        closedir(dir);
    return rc;
}

fs_status fs_hub_backup(fs_hub *h, const char *to, fs_hub_backup_result *ret, fs_error *err)
{
    static const char *const stores[] = { "xorbs", "objects" }; /* an object may leave its xorbs meanwhile (xet_plain.c), and has a file before it does */
    copy linked = { ret, true };
    sqlite3 *db = NULL;
    char part[400], from[600], path[800];
    int fd;
    fs_status rc;

    *ret = (fs_hub_backup_result){ 0 };
    if (snprintf(part, sizeof part, "%s.part", to) >= (int)sizeof part)
        return fs_fail(err, FS_ERR_ARGUMENT, "the name of the folder '%.100s...' is too long", to);
    if (fs_file_exists(to) || fs_file_is_folder(to))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' exists already: each copy is a folder of its own", to);
    if (mkdir(part, 0700) != 0)
        return fs_fail_errno(err, errno, errno == EEXIST ? "'%s' is what a run left that was cut short, or of one that goes on: remove it" : "cannot make '%s'", part);
    rc = fs_db_take(h->db, &db, err);
    if (!rc)
        rc = copy_secrets(h, part, ret, err);
    if (!rc)
        rc = copy_repos(h, db, part, ret, err);
    snprintf(path, sizeof path, "%s/hub.db", part);
    if (!rc)
        rc = copy_db(db, path, err);
    if (!rc && h->s3_url)
        rc = fetch_blobs(h, db, part, ret, err);
    for (size_t i = 0; i < sizeof stores / sizeof *stores && !rc && !h->s3_url; i++) {
        snprintf(from, sizeof from, "%s/%s", h->data, stores[i]);
        snprintf(path, sizeof path, "%s/%s", part, stores[i]);
        rc = copy_folder(from, path, &linked, 0, err);
    }
    fs_db_give(h->db, db);
    if (!rc)
        rc = mend_db(part, err);
    if (!rc) {
        fd = open(part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || syncfs(fd) != 0 || rename(part, to) != 0 || fsync(fd) != 0)
            rc = fs_fail_errno(err, errno, "cannot complete '%s'", to);
        if (fd >= 0)
            close(fd);
    }
    return rc;
}
