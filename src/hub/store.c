/* Large files: written to an unnamed file, hashed on the way, on the disk before they have a name. A name once given never changes its
 * content, so equal files of all repositories are one. */
#include "hub/blobs.h"

#include "base/clock.h"
#include "base/file.h"
#include "crypto/sha256.h"
#include "crypto/sha256_stream.h"
#include "net/url.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define KEPT_BYTES  ((uint64_t)64 << 20) /* of a disk that nobody uploads to, so that what is there can be taken away and looked after */
#define FLUSH_BYTES ((uint64_t)32 << 20) /* the disk is kept busy while the rest arrives */

fs_status fs_hub_folder_sync(const char *path, fs_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    fs_status rc = FS_OK;

    if (fd < 0)
        return fs_fail_errno(err, errno, "cannot open '%s'", path);
    if (fsync(fd) != 0)
        rc = fs_fail_errno(err, errno, "cannot write '%s'", path);
    close(fd);
    return rc;
}

fs_status fs_hub_folders_make(const char *path, fs_error *err)
{
    char part[600];
    size_t n = strlen(path);

    if (n >= sizeof part)
        return fs_fail(err, FS_ERR_ARGUMENT, "a path of %zu bytes", n);
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        char c = part[i], *slash;
        if (c != '/' && c != 0)
            continue;
        part[i] = 0;
        if (mkdir(part, 0700) == 0) { /* its entry is in its parent */
            slash = strrchr(part, '/');
            if (slash && slash != part) {
                *slash = 0;
                fs_status rc = fs_hub_folder_sync(part, err);
                *slash = '/';
                if (rc)
                    return rc;
            }
        } else if (errno != EEXIST) {
            return fs_fail_errno(err, errno, "cannot make the folder '%s'", part);
        }
        part[i] = c;
    }
    return FS_OK;
}

static fs_status need_oid(const char *oid_hex, fs_error *err)
{
    uint8_t oid[32];

    return fs_hex_read(fs_bytes_str(oid_hex), oid, sizeof oid) ? FS_OK : fs_fail(err, FS_ERR_ARGUMENT, "'%.80s' is no SHA-256", oid_hex);
}

fs_status fs_hub_incoming_open(const fs_hub *h, const char *oid_hex, uint64_t n_bytes, fs_hub_incoming *ret, fs_error *err)
{
    char path[400];
    fs_status rc = oid_hex ? need_oid(oid_hex, err) : FS_OK;

    *ret = (fs_hub_incoming){ .fd = -1 };
    if (!rc)
        rc = fs_sha256_stream_open(&ret->sha, err);
    fs_blob_folder(h, FS_BLOB_OBJECT, path);
    if (!rc) {
        ret->fd = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0400);
        if (ret->fd < 0)
            rc = fs_fail_errno(err, errno, "cannot make a file in '%s'", path);
    }
    if (!rc && oid_hex)
        rc = fs_blob_push_open(h, FS_BLOB_OBJECT, oid_hex, ret->fd, n_bytes, &ret->push, err);
    return rc;
}

void fs_hub_write_behind(int fd, uint64_t before, uint64_t n_bytes)
{
    uint64_t first = before / FLUSH_BYTES, end = n_bytes / FLUSH_BYTES;

    if (end != first)
        sync_file_range(fd, (off_t)(first * FLUSH_BYTES), (off_t)((end - first) * FLUSH_BYTES), SYNC_FILE_RANGE_WRITE);
}

fs_status fs_hub_incoming_put(fs_hub_incoming *in, const void *data, size_t n_bytes, fs_error *err)
{
    fs_status rc;

    fs_sha256_stream_put(in->sha, data, n_bytes);
    rc = fs_fd_write(in->fd, "objects", data, n_bytes, err);
    if (rc)
        return rc;
    in->n_bytes += n_bytes;
    fs_hub_write_behind(in->fd, in->n_bytes - n_bytes, in->n_bytes);
    return in->push ? fs_blob_push_more(in->push, in->n_bytes, err) : FS_OK;
}

fs_status fs_hub_name_file(int fd, const char *from, char *path, fs_error *err)
{
    char proc[64], *slash = strrchr(path, '/');
    fs_status rc;

    *slash = 0;
    rc = fs_hub_folders_make(path, err);
    *slash = '/';
    if (rc)
        return rc;
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, from ? from : proc, AT_FDCWD, path, from ? 0 : AT_SYMLINK_FOLLOW) != 0) {
        if (errno == ENOENT && !from) /* it had the name and lost it again, before any repository held it: a collection with no age to speak of */
            return fs_fail(err, FS_ERR_IO, "'%s' went as garbage: send it again", path);
        if (errno != EEXIST)
            return fs_fail_errno(err, errno, "cannot name '%s'", path);
        utimensat(AT_FDCWD, path, NULL, 0);
    }
    *slash = 0;
    rc = fs_hub_folder_sync(path, err);
    *slash = '/';
    return rc;
}

void fs_hub_incoming_hash(fs_hub_incoming *in, char ret[65])
{
    if (in->sha) {
        fs_sha256_stream_final_hex(in->sha, in->oid);
        in->sha = NULL;
    }
    memcpy(ret, in->oid, sizeof in->oid);
}

fs_status fs_hub_incoming_commit(const fs_hub *h, fs_hub_incoming *in, sqlite3 *db, const char *oid_hex, fs_error *err)
{
    char got[65];

    fs_hub_incoming_hash(in, got);
    if (strcmp(got, oid_hex) != 0)
        return fs_fail(err, FS_ERR_FORMAT, "%llu bytes arrived whose SHA-256 is %s, not %s", (unsigned long long)in->n_bytes, got, oid_hex);
    return h->store->put(h, db, FS_BLOB_OBJECT, oid_hex, NULL, in->fd, in->n_bytes, in->push, err);
}

fs_status fs_hub_incoming_add(const fs_hub *h, fs_hub_incoming *in, sqlite3 *db, int64_t repo, const char *oid_hex, fs_error *err)
{
    fs_status rc = fs_hub_incoming_commit(h, in, db, oid_hex, err);

    return rc ? rc : fs_hub_object_hold(h, db, repo, oid_hex, in->n_bytes, err);
}

fs_status fs_hub_object_adopt(const fs_hub *h, sqlite3 *db, int64_t repo, const char *path, int fd, const char *oid_hex, uint64_t n_bytes, fs_error *err)
{
    char got[65];
    struct stat st;
    fs_status rc = need_oid(oid_hex, err);

    if (!rc && (fstat(fd, &st) != 0 || (uint64_t)st.st_size != n_bytes))
        rc = fs_fail(err, FS_ERR_FORMAT, "%lld bytes are there, not %llu", (long long)st.st_size, (unsigned long long)n_bytes);
    if (!rc)
        rc = fs_sha256_of_file(fd, path, n_bytes, NULL, got, err);
    if (!rc && strcmp(got, oid_hex) != 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "%llu bytes are there whose SHA-256 is %s, not %s", (unsigned long long)n_bytes, got, oid_hex);
    if (!rc && fchmod(fd, 0400) != 0)
        rc = fs_fail_errno(err, errno, "cannot write '%s'", path);
    if (!rc)
        rc = h->store->put(h, db, FS_BLOB_OBJECT, oid_hex, path, fd, n_bytes, NULL, err);
    return rc ? rc : fs_hub_object_hold(h, db, repo, oid_hex, n_bytes, err);
}

bool fs_hub_part_lock(int fd, bool alone, double seconds)
{
    double end = fs_seconds_now() + seconds;

    while (flock(fd, (alone ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || fs_seconds_now() >= end)
            return false;
        nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
    }
    return true;
}

bool fs_hub_part_lock_to_write(int fd, bool alone)
{
    struct stat st;

    return fs_hub_part_lock(fd, alone, 0) && fstat(fd, &st) == 0 && st.st_mode & S_IWUSR; /* which fs_hub_object_adopt takes away */
}

void fs_hub_incoming_close(fs_hub_incoming *in)
{
    fs_blob_push_close(in->push);
    fs_sha256_stream_close(in->sha);
    if (in->fd >= 0)
        close(in->fd);
    *in = (fs_hub_incoming){ .fd = -1 };
}

fs_status fs_hub_open_stored(const char *path, int *ret_fd, uint64_t *ret_bytes, fs_error *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return errno == ENOENT ? fs_fail(err, FS_ERR_NOT_FOUND, "no %s", strrchr(path, '/') + 1) : fs_fail_errno(err, errno, "cannot open '%s'", path);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return fs_fail(err, FS_ERR_IO, "'%s' is no file", path);
    }
    *ret_fd = fd;
    *ret_bytes = (uint64_t)st.st_size;
    return FS_OK;
}

fs_status fs_hub_object_open(const fs_hub *h, const char *oid_hex, int *ret_fd, uint64_t *ret_bytes, fs_error *err)
{
    fs_status rc = need_oid(oid_hex, err);

    return rc ? rc : h->store->open(h, FS_BLOB_OBJECT, oid_hex, false, ret_fd, ret_bytes, err);
}

fs_status fs_hub_object_add(sqlite3 *db, int64_t repo, const char *oid_hex, uint64_t n_bytes, fs_error *err)
{
    uint8_t oid[32];
    fs_bytes key = { oid, sizeof oid };
    fs_status rc;

    if (!fs_hex_read(fs_bytes_str(oid_hex), oid, sizeof oid))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.80s' is no SHA-256", oid_hex);
    rc = fs_db_run(db, err, "INSERT OR IGNORE INTO objects(oid, size, created_ms) VALUES(?, ?, ?)", "bii", key, (int64_t)n_bytes, fs_unix_ms());
    if (!rc)
        rc = fs_db_run(db, err, "INSERT OR IGNORE INTO repo_objects(oid, repo) VALUES(?, ?)", "bi", key, repo);
    return rc;
}

fs_status fs_hub_object_hold(const fs_hub *h, sqlite3 *db, int64_t repo, const char *oid_hex, uint64_t n_bytes, fs_error *err)
{
    fs_status rc = fs_db_begin(db, err);

    if (!rc)
        rc = fs_hub_object_add(db, repo, oid_hex, n_bytes, err);
    if (!rc && !fs_hub_object_is_here(h, db, oid_hex))
        rc = fs_fail(err, FS_ERR_IO, "the object %s went as garbage: send it again", oid_hex);
    if (!rc)
        rc = fs_db_commit(db, err);
    if (rc)
        fs_db_rollback(db);
    return rc;
}

bool fs_hub_object_is_here(const fs_hub *h, sqlite3 *db, const char *oid_hex)
{
    uint64_t n_bytes;
    bool here = false;

    return need_oid(oid_hex, NULL) == FS_OK && h->store->is_here(h, db, FS_BLOB_OBJECT, oid_hex, &here, &n_bytes, NULL) == FS_OK && here;
}

fs_status fs_hub_object_of(const fs_hub *h, sqlite3 *db, int64_t repo, const char *oid_hex, bool *ret_held, uint64_t *ret_bytes, fs_error *err)
{
    uint8_t oid[32];
    uint64_t n_bytes = 0;
    int64_t size = 0;
    fs_status rc;

    if (!fs_hex_read(fs_bytes_str(oid_hex), oid, sizeof oid))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.80s' is no SHA-256", oid_hex);
    rc = fs_db_int(db, &size, ret_held, err, "SELECT size FROM objects JOIN repo_objects USING(oid) WHERE oid = ? AND repo = ?", "bi",
                   (fs_bytes){ oid, sizeof oid }, repo);
    if (!rc && *ret_held) { /* what is not there is to be sent again, whatever the database says */
        rc = h->store->is_here(h, db, FS_BLOB_OBJECT, oid_hex, ret_held, &n_bytes, err);
        *ret_held = !rc && *ret_held && n_bytes == (uint64_t)size;
        *ret_bytes = (uint64_t)size;
    }
    return rc;
}

fs_status fs_hub_quota_of(sqlite3 *db, int64_t owner, int64_t *ret_quota, int64_t *ret_used, int64_t *ret_loose, fs_error *err)
{
    fs_status rc;

    *ret_quota = -1;
    rc = fs_db_int(db, ret_quota, NULL, err, "SELECT coalesce(quota_bytes, -1) FROM accounts WHERE id = ?", "i", owner);
    if (!rc && *ret_quota >= 0)
        rc = fs_db_int(db, ret_used, NULL, err,
                       "SELECT coalesce(sum(size), 0) FROM objects WHERE oid IN (SELECT oid FROM repo_objects ro JOIN repos r ON r.id = ro.repo WHERE r.owner = ?)", "i",
                       owner);
    if (!rc && *ret_quota >= 0)
        rc = fs_db_int(db, ret_loose, NULL, err,
                       "SELECT coalesce(sum(n_bytes), 0) FROM xet_xorbs WHERE hash IN (SELECT xorb FROM xet_xorb_repos x JOIN repos r ON r.id = x.repo WHERE r.owner = ?) AND"
                       " hash NOT IN (SELECT xorb FROM xet_file_xorbs)",
                       "i", owner);
    return rc;
}

uint64_t fs_hub_disk_left(const fs_hub *h)
{
    struct statvfs disk;
    uint64_t kept, free_bytes;

    if (statvfs(h->data, &disk) != 0)
        return UINT64_MAX;
    kept = (uint64_t)disk.f_blocks * disk.f_frsize / 16;
    if (kept > KEPT_BYTES)
        kept = KEPT_BYTES;
    free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    return free_bytes > kept ? free_bytes - kept : 0;
}

fs_status fs_hub_disk_room(const fs_hub *h, uint64_t n_bytes, fs_error *err)
{
    uint64_t left = fs_hub_disk_left(h);

    return left == 0 || n_bytes > left ? fs_fail_errno(err, ENOSPC, "%llu bytes", (unsigned long long)n_bytes) : FS_OK;
}

fs_status fs_hub_room_for(const fs_hub *h, sqlite3 *db, int64_t repo, uint64_t n_bytes, bool of_xorbs, fs_error *err)
{
    int64_t owner = 0, quota = -1, used = 0, loose = 0;
    bool found = false;
    fs_status rc = fs_db_int(db, &owner, &found, err, "SELECT owner FROM repos WHERE id = ?", "i", repo);

    if (!rc && !found)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "the repository is not there any more");
    if (!rc)
        rc = fs_hub_quota_of(db, owner, &quota, &used, &loose, err);
    used += of_xorbs ? 0 : loose;
    if (!rc && quota >= 0 && (used > quota || n_bytes > (uint64_t)(quota - used)))
        rc = fs_fail(err, FS_ERR_ARGUMENT, FS_HUB_QUOTA_USED);
    return rc ? rc : fs_hub_disk_room(h, n_bytes, err);
}
