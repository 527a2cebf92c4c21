/* Blobs in a bucket of an S3 store.
 *
 * A row of blobs says of each what it is: COMING, while it is sent; HERE; GOING, while it is removed. So nothing is asked of the store within a transaction,
 * and who sends what just goes waits until it is gone, and until no request to remove it can come late. An upload goes to the store part by part as it arrives, beside it to a file here, whose hash is known
 * before the store is told to show it. */
#include "hub/blobs_s3.h"

#include "base/clock.h"
#include "base/file.h"
#include "crypto/sha256.h"
#include "net/s3.h"
#include "net/url.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { COMING, HERE, GOING };

#define GONE_SECONDS 20                     /* that who sends waits for who removes */
#define STALE_MS     ((int64_t)1800 * 1000) /* a store refuses what was signed over 15 minutes ago; by its clock, which may be as much behind */
#define LINK_SECONDS 3600
#define HOLD_BYTES   ((size_t)64 << 10) /* of a file's end, until its hash is known */

static const char *const kinds[] = { "objects", "xorbs" };

void fs_blob_s3_key(fs_blob_kind kind, const char *name, char ret[100])
{
    snprintf(ret, 100, "%s/%.2s/%.2s/%.64s", kinds[kind], name, name + 2, name);
}

fs_status fs_blob_s3_need_keys(const fs_hub *h, fs_error *err)
{
    return h->s3 ? FS_OK : fs_fail(err, FS_ERR_ARGUMENT, FS_BLOB_NO_KEYS, h->s3_url);
}

/* ---- rows ---- */

static fs_status is_here(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, const char *name, bool *ret, uint64_t *ret_bytes, fs_error *err)
{
    int64_t n = 0;
    fs_status rc = fs_db_int(db, &n, ret, err, "SELECT n_bytes FROM blobs WHERE kind = ? AND name = ? AND state = ?", "isi", (int64_t)kind, name, (int64_t)HERE);

    (void)h;
    if (!rc && *ret)
        *ret_bytes = (uint64_t)n;
    return rc;
}

/* When asked, the store had it not, whatever the row says: then it is to be sent again, unless it came since. */
static void forget(const fs_hub *h, fs_blob_kind kind, const char *name, int64_t asked_ms)
{
    sqlite3 *db = NULL;
    uint64_t n = 0;

    if (fs_s3_size(h->s3, "hub", &n, NULL) != FS_OK) /* it is not the bucket that it was */
        return;
    if (fs_db_take(h->db, &db, NULL) == FS_OK)
        fs_db_run(db, NULL, "DELETE FROM blobs WHERE kind = ? AND name = ? AND state = ? AND touched_ms < ?", "isii", (int64_t)kind, name, (int64_t)HERE, asked_ms);
    fs_db_give(h->db, db);
    fs_blob_cache_drop(h, kind, name);
}

static fs_status state_of(sqlite3 *db, fs_blob_kind kind, const char *name, int64_t *ret_state, int64_t *ret_touched, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(db, &st, err, "SELECT state, touched_ms FROM blobs WHERE kind = ? AND name = ?", "is", (int64_t)kind, name);

    *ret_state = -1;
    if (rc)
        return rc;
    if (fs_db_next(st)) {
        *ret_state = sqlite3_column_int64(st, 0);
        *ret_touched = sqlite3_column_int64(st, 1);
    }
    return fs_db_end(st, err);
}

/* A row that says COMING, unless it is here. */
static fs_status claim(sqlite3 *db, fs_blob_kind kind, const char *name, uint64_t n_bytes, bool again, bool *ret_here, fs_error *err)
{
    double until = fs_seconds_now() + GONE_SECONDS;
    int64_t state, touched = 0;

    for (;;) {
        fs_status rc = fs_db_begin(db, err);
        if (!rc)
            rc = state_of(db, kind, name, &state, &touched, err);
        if (!rc && (state != GOING || touched < fs_unix_ms() - STALE_MS)) {
            *ret_here = state == HERE && !again;
            rc = fs_db_run(db, err, "INSERT INTO blobs(kind, name, n_bytes, state, touched_ms) VALUES(?1, ?2, ?3, ?4, ?5) ON CONFLICT(kind, name) DO UPDATE SET n_bytes = ?3,"
                                    " state = ?4, touched_ms = ?5",
                           "isiii", (int64_t)kind, name, (int64_t)n_bytes, (int64_t)(*ret_here ? HERE : COMING), fs_unix_ms());
            if (!rc)
                rc = fs_db_commit(db, err);
            fs_db_rollback(db);
            return rc;
        }
        fs_db_rollback(db);
        if (rc)
            return rc;
        if (fs_seconds_now() > until)
            return fs_fail(err, FS_ERR_IO, "%s is just being removed: send it again", name);
        nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
    }
}

/* ---- putting ---- */

/* Whether the store still has what the row says. */
static fs_status is_there(const fs_hub *h, const char *key, uint64_t n_bytes, bool *ret, fs_error *err)
{
    uint64_t is = 0;
    fs_status rc = fs_s3_size(h->s3, key, &is, err);

    *ret = !rc && is == n_bytes;
    return rc == FS_ERR_NOT_FOUND ? FS_OK : rc;
}

static fs_status send_file(const fs_hub *h, fs_blob_kind kind, const char *name, int fd, uint64_t n_bytes, fs_blob_push *push, fs_error *err)
{
    fs_blob_push *own = NULL;
    char key[100], hex[65];
    fs_status rc = FS_OK;

    fs_blob_s3_key(kind, name, key);
    if (!push)
        rc = fs_blob_push_open(h, kind, name, fd, n_bytes, &own, err);
    if (!rc && own)
        rc = fs_blob_push_end(own, n_bytes, err);
    push = push ? push : own;
    if (!rc && push) {
        rc = fs_blob_push_complete(push, n_bytes, err);
    } else if (!rc) {
        snprintf(hex, sizeof hex, "%s", name);
        if (kind != FS_BLOB_OBJECT)
            rc = fs_sha256_of_file(fd, name, n_bytes, NULL, hex, err);
        if (!rc)
            rc = fs_s3_put(h->s3, key, fd, n_bytes, hex, err);
    }
    fs_blob_push_close(own);
    return rc;
}

static fs_status put_it(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, const char *name, const char *from, int fd, uint64_t n_bytes, fs_blob_push *push, fs_error *err)
{
    bool here = false, there = true;
    char key[100];
    fs_status rc = claim(db, kind, name, n_bytes, false, &here, err);

    fs_blob_s3_key(kind, name, key);
    if (!rc && here && kind == FS_BLOB_OBJECT) {
        rc = is_there(h, key, n_bytes, &there, err);
        if (!rc && !there)
            rc = claim(db, kind, name, n_bytes, true, &here, err);
    }
    if (rc || here)
        return rc;
    rc = send_file(h, kind, name, fd, n_bytes, push, err);
    if (!rc)
        rc = fs_db_run(db, err, "UPDATE blobs SET state = ?, touched_ms = ? WHERE kind = ? AND name = ? AND state <> ?", "iiisi", (int64_t)HERE, fs_unix_ms(), (int64_t)kind, name, (int64_t)GOING);
    if (!rc && sqlite3_changes(db) == 0)
        rc = fs_fail(err, FS_ERR_IO, "%s went as garbage: send it again", name);
    if (!rc) {
        fs_blob_cache_drop(h, kind, name);
        if (fdatasync(fd) == 0)
            fs_blob_cache_keep(h, kind, name, false, from, fd);
    }
    return rc;
}

static fs_status put(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, const char *name, const char *from, int fd, uint64_t n_bytes, fs_blob_push *push, fs_error *err)
{
    static pthread_mutex_t locks[16] = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
                                         PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
                                         PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
                                         PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER };
    pthread_mutex_t *lock = kind == FS_BLOB_XORB ? &locks[name[0] % 16] : NULL; /* the same chunks may be packed otherwise: the first's packing stays */
    fs_status rc = fs_blob_s3_need_keys(h, err);

    if (!rc && push)
        rc = fs_blob_push_end(push, n_bytes, err);
    if (rc)
        return rc;
    if (lock)
        pthread_mutex_lock(lock);
    rc = put_it(h, db, kind, name, from, fd, n_bytes, push, err);
    if (lock)
        pthread_mutex_unlock(lock);
    return rc;
}

/* ---- reading ---- */

static fs_status read_blob(const fs_hub *h, fs_blob_kind kind, const char *name, uint64_t begin, uint64_t n_bytes, fs_fetch_sink *sink, void *ud, fs_error *err)
{
    int64_t asked_ms = fs_unix_ms();
    char key[100];
    fs_status rc = fs_blob_s3_need_keys(h, err);

    fs_blob_s3_key(kind, name, key);
    if (!rc)
        rc = fs_s3_get(h->s3, key, begin, n_bytes, sink, ud, err);
    if (rc == FS_ERR_NOT_FOUND)
        forget(h, kind, name, asked_ms);
    return rc;
}

typedef struct arrival {
    int fd;
    uint64_t n_bytes;
    fs_sha256 sha;
} arrival;

static fs_status arrive(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    arrival *a = ud;
    fs_status rc = fs_fd_write(a->fd, "cache", data, n_bytes, err);

    if (!rc && a->sha.evp)
        fs_sha256_update(&a->sha, data, n_bytes);
    a->n_bytes += rc ? 0 : n_bytes;
    return rc;
}

static fs_status make_file(const fs_hub *h, arrival *a, fs_error *err)
{
    char folder[400];

    fs_blob_folder(h, FS_BLOB_OBJECT, folder);
    a->fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0400);
    return a->fd < 0 ? fs_fail_errno(err, errno, "cannot make a file in '%s'", folder) : FS_OK;
}

static fs_status bring(const fs_hub *h, fs_blob_kind kind, const char *name, bool fresh, int *ret_fd, uint64_t *ret_bytes, fs_error *err)
{
    arrival a = { .fd = -1 };
    char key[100], got[65];
    uint64_t n_bytes = 0;
    int64_t asked_ms = fs_unix_ms();
    fs_status rc = fs_blob_s3_need_keys(h, err);

    fs_blob_s3_key(kind, name, key);
    if (!rc)
        rc = fs_s3_size(h->s3, key, &n_bytes, err);
    if (rc == FS_ERR_NOT_FOUND && !fresh)
        forget(h, kind, name, asked_ms);
    if (!rc)
        rc = fs_hub_disk_room(h, n_bytes, err);
    if (!rc)
        rc = make_file(h, &a, err);
    if (!rc && kind == FS_BLOB_OBJECT && !fresh)
        rc = fs_sha256_init(&a.sha, err);
    if (!rc && n_bytes)
        rc = read_blob(h, kind, name, 0, n_bytes, arrive, &a, err);
    if (!rc && a.sha.evp) {
        fs_sha256_final_hex(&a.sha, got);
        if (strcmp(got, name) != 0)
            rc = fs_fail(err, FS_ERR_IO, "what the S3 store has under %s has the hash %s", name, got);
    }
    fs_sha256_done(&a.sha);
    if (!rc && !fresh && fdatasync(a.fd) == 0)
        fs_blob_cache_keep(h, kind, name, false, NULL, a.fd);
    if (rc && a.fd >= 0)
        close(a.fd);
    if (!rc) {
        *ret_fd = a.fd;
        *ret_bytes = n_bytes;
    }
    return rc;
}

static fs_status open_blob(const fs_hub *h, fs_blob_kind kind, const char *name, bool fresh, int *ret_fd, uint64_t *ret_bytes, fs_error *err)
{
    if (!fresh && fs_blob_cache_open(h, kind, name, false, ret_fd, ret_bytes) == FS_OK)
        return FS_OK;
    return bring(h, kind, name, fresh, ret_fd, ret_bytes, err);
}

static fs_status open_head(const fs_hub *h, fs_blob_kind kind, const char *name, uint64_t n_bytes, int *ret_fd, fs_error *err)
{
    arrival a = { .fd = -1 };
    uint64_t is = 0, n = n_bytes < FS_BLOB_HEAD_BYTES ? n_bytes : FS_BLOB_HEAD_BYTES, all;
    fs_status rc;

    if (fs_blob_cache_open(h, kind, name, false, ret_fd, &is) == FS_OK || fs_blob_cache_open(h, kind, name, true, ret_fd, &is) == FS_OK)
        return FS_OK;
    rc = make_file(h, &a, err);
    if (!rc && n)
        rc = read_blob(h, kind, name, 0, n, arrive, &a, err);
    all = rc ? 0 : fs_blob_head_bytes(a.fd, n_bytes);
    if (!rc && all > n)
        rc = read_blob(h, kind, name, n, all - n, arrive, &a, err);
    if (!rc && (ftruncate(a.fd, (off_t)n_bytes) != 0 || fdatasync(a.fd) != 0))
        rc = fs_fail_errno(err, errno, "cannot write to the cache");
    if (!rc) {
        fs_blob_cache_keep(h, kind, name, true, NULL, a.fd);
        *ret_fd = a.fd;
    } else if (a.fd >= 0) {
        close(a.fd);
    }
    return rc;
}

static fs_status link_to(const fs_hub *h, fs_blob_kind kind, const char *name, fs_buf *ret, fs_error *err)
{
    char key[100];

    fs_blob_s3_key(kind, name, key);
    return h->s3_redirect && h->s3 ? fs_s3_link(h->s3, key, LINK_SECONDS, ret, err) : FS_OK;
}

/* ---- downloads through here ---- */

typedef struct download {
    fs_hub_call *c;
    const char *name, *type;
    int status;
    uint64_t n_bytes, at;
    fs_sha256 sha; /* of whole objects */
    uint8_t *held;
    size_t n_held;
    bool begun;
} download;

static fs_status pass_on(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    download *d = ud;
    uint64_t open_end = d->sha.evp && d->n_bytes > HOLD_BYTES ? d->n_bytes - HOLD_BYTES : d->sha.evp ? 0 : d->n_bytes;
    size_t n = d->at >= open_end ? 0 : n_bytes < open_end - d->at ? n_bytes : (size_t)(open_end - d->at);
    fs_status rc = FS_OK;

    if (!d->begun) {
        d->begun = true;
        d->c->replied = true;
        fs_http_stream_begin_sized(d->c->http, d->status, d->type, d->n_bytes);
    }
    if (d->sha.evp)
        fs_sha256_update(&d->sha, data, n_bytes);
    if (n)
        rc = fs_http_stream_write(d->c->http, data, n, err);
    if (!rc && n_bytes > n && d->n_held + (n_bytes - n) > HOLD_BYTES)
        rc = fs_fail(err, FS_ERR_IO, "the S3 store sent too much");
    if (!rc && n_bytes > n) {
        memcpy(d->held + d->n_held, (const uint8_t *)data + n, n_bytes - n);
        d->n_held += n_bytes - n;
    }
    d->at += n_bytes;
    return rc;
}

/* Whole objects are held to their hash: whoever reads one to its end has the right one. */
static void send_along(fs_hub_call *c, fs_blob_kind kind, const char *name, uint64_t begin, uint64_t n_bytes, bool whole, int status, const char *type)
{
    download d = { .c = c, .name = name, .type = type ? type : "application/octet-stream", .status = status, .n_bytes = n_bytes, .held = malloc(HOLD_BYTES) };
    char got[65] = "";
    fs_status rc = d.held ? FS_OK : fs_fail_memory(&c->err, HOLD_BYTES);

    if (!rc && whole && kind == FS_BLOB_OBJECT)
        rc = fs_sha256_init(&d.sha, &c->err);
    if (!rc)
        rc = read_blob(c->hub, kind, name, begin, n_bytes, pass_on, &d, &c->err);
    if (!rc && d.sha.evp) {
        fs_sha256_final_hex(&d.sha, got);
        rc = strcmp(got, name) == 0 ? fs_http_stream_write(c->http, d.held, d.n_held, &c->err)
                                    : fs_fail(&c->err, FS_ERR_IO, "what the S3 store has under %s has the hash %s", name, got);
    }
    fs_sha256_done(&d.sha);
    free(d.held);
    if (rc && d.begun)
        fs_http_stream_break(c->http);
    else if (rc == FS_ERR_NOT_FOUND)
        fs_hub_error(c, 404, "EntryNotFound", "the file's content %s is not in this hub", name);
    else if (rc == FS_ERR_IO)
        fs_hub_error(c, 502, NULL, "%s", c->err.message);
    else
        fs_hub_failed(c, rc);
}

static void send_blob(fs_hub_call *c, fs_blob_kind kind, const char *name, uint64_t n_bytes, const char *type)
{
    fs_buf url = { 0 };
    uint64_t begin, n, is = 0;
    int fd, status;

    if (kind == FS_BLOB_OBJECT && !type && fs_hub_failed(c, link_to(c->hub, kind, name, &url, &c->err)))
        return;
    if (url.n_bytes) {
        fs_http_reply_header(c->http, "Location", url.data);
        c->replied = true;
        fs_http_reply(c->http, 302, NULL, "", 0);
    } else if (fs_blob_cache_open(c->hub, kind, name, false, &fd, &is) == FS_OK) {
        fs_hub_send_file(c, fd, is, type);
    } else if (strcmp(fs_http_method(c->http), "HEAD") == 0 || n_bytes == 0) {
        fs_hub_send_size(c, n_bytes, type);
    } else if (fs_hub_need_range(c, n_bytes, &begin, &n, &status)) {
        send_along(c, kind, name, begin, n, n == n_bytes, status, type);
    }
    fs_buf_done(&url);
}

/* ---- looking after it ---- */

typedef struct names {
    fs_buf list; /* 65 bytes each */
    fs_blob_kind kind;
} names;

static fs_status add_name(names *n, const char *name, fs_error *err)
{
    return strlen(name) == 64 ? fs_buf_append(&n->list, name, 65, err) : FS_OK;
}

static fs_status add_stored(void *ud, const char *key, uint64_t n_bytes, int64_t ms, fs_error *err)
{
    const char *slash = strrchr(key, '/');

    (void)n_bytes, (void)ms;
    return slash ? add_name(ud, slash + 1, err) : FS_OK;
}

static fs_status list(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, bool stored, int64_t before_ms, fs_blob_list_fn *fn, void *ud, fs_error *err)
{
    names n = { .kind = kind };
    char begin[20];
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_blob_s3_need_keys(h, err);

    snprintf(begin, sizeof begin, "%s/", kinds[kind]);
    if (!rc && stored) {
        rc = fs_s3_list(h->s3, begin, add_stored, &n, err);
    } else if (!rc) {
        rc = fs_db_query(db, &st, err, "SELECT name FROM blobs WHERE kind = ? AND touched_ms <= ?", "ii", (int64_t)kind, before_ms);
        while (!rc && fs_db_next(st))
            rc = add_name(&n, fs_db_text(st, 0), err);
        if (st) {
            fs_status end = fs_db_end(st, rc ? NULL : err);
            rc = rc ? rc : end;
        }
    }
    for (size_t i = 0; i < n.list.n_bytes && !rc; i += 65)
        rc = fn(ud, n.list.data + i, 0, err);
    fs_buf_done(&n.list);
    return rc;
}

static fs_status let_go(sqlite3 *db, fs_blob_kind kind, const char *name, fs_error *err)
{
    return fs_db_run(db, err, "INSERT INTO blobs(kind, name, n_bytes, state, touched_ms) VALUES(?1, ?2, 0, ?3, ?4) ON CONFLICT(kind, name) DO UPDATE SET state = ?3, touched_ms = ?4", "isii",
                     (int64_t)kind, name, (int64_t)GOING, fs_unix_ms());
}

/* Removes what goes, then its row. Where a request got no answer the row stays, and nobody sends it again before it is stale: the store may still do what it
 * was asked for, to a new one. */
static fs_status remove_going(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, const char *name, fs_error *err)
{
    fs_error why = { .message = "" }; /* stays that of a request before the one that succeeded */
    char key[100];
    fs_status rc;

    fs_blob_s3_key(kind, name, key);
    rc = fs_s3_remove(h->s3, key, &why);
    fs_blob_cache_drop(h, kind, name);
    if (rc && err)
        *err = why;
    if (!rc && (!*why.message || why.code == FS_ERR_NOT_FOUND))
        rc = fs_db_run(db, err, "DELETE FROM blobs WHERE kind = ? AND name = ? AND state = ?", "isi", (int64_t)kind, name, (int64_t)GOING);
    return rc;
}

static fs_status remove_blob(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, const char *name, int64_t before_ms, fs_blob_needed_fn *needed, bool *ret, uint64_t *ret_bytes, fs_error *err)
{
    bool is_needed = true;
    int64_t state = -1, touched = 0, n_bytes = 0;
    fs_status rc = fs_blob_s3_need_keys(h, err);

    *ret = false;
    if (!rc)
        rc = fs_db_begin(db, err);
    if (!rc)
        rc = needed(db, name, &is_needed, err);
    if (!rc)
        rc = state_of(db, kind, name, &state, &touched, err);
    if (!rc)
        rc = fs_db_int(db, &n_bytes, NULL, err, "SELECT n_bytes FROM blobs WHERE kind = ? AND name = ?", "is", (int64_t)kind, name);
    if (rc || is_needed || (state >= 0 && touched > before_ms) || (state == GOING && touched >= fs_unix_ms() - STALE_MS)) {
        fs_db_rollback(db);
        return rc;
    }
    rc = let_go(db, kind, name, err);
    if (!rc)
        rc = fs_db_commit(db, err);
    fs_db_rollback(db);
    if (!rc)
        rc = remove_going(h, db, kind, name, err);
    if (!rc) {
        *ret = true;
        *ret_bytes = (uint64_t)n_bytes;
    }
    return rc;
}

static fs_status take_out(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, const char *name, fs_error *err)
{
    char key[100], lost[700];
    arrival a = { .fd = -1 };
    fs_status rc = fs_blob_s3_need_keys(h, err);

    fs_blob_s3_key(kind, name, key);
    snprintf(lost, sizeof lost, "%s/lost", h->data);
    if (!rc)
        rc = fs_hub_folders_make(lost, err);
    snprintf(lost, sizeof lost, "%s/lost/%s", h->data, name);
    if (!rc && (a.fd = open(lost, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
        rc = fs_fail_errno(err, errno, "cannot make '%s'", lost);
    if (!rc)
        rc = fs_s3_get(h->s3, key, 0, UINT64_MAX, arrive, &a, err);
    if (!rc && fsync(a.fd) != 0)
        rc = fs_fail_errno(err, errno, "cannot write '%s'", lost);
    if (a.fd >= 0)
        close(a.fd);
    if (!rc)
        rc = let_go(db, kind, name, err);
    return rc ? rc : remove_going(h, db, kind, name, err);
}

typedef struct compare {
    sqlite3 *db;
    fs_blob_kind kind;
} compare_to;

static fs_status note_stored(void *ud, const char *key, uint64_t n_bytes, int64_t ms, fs_error *err)
{
    compare_to *c = ud;
    const char *slash = strrchr(key, '/');

    (void)ms;
    return slash && strlen(slash) == 65 ? fs_db_run(c->db, err, "INSERT OR REPLACE INTO temp.stored(name, n_bytes) VALUES(?, ?)", "si", slash + 1, (int64_t)n_bytes) : FS_OK;
}

/* A row whose blob the store has not; looked for again, since it may have come after the list. */
static fs_status row_alone(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, const char *name, bool repair, fs_blob_wrong_fn *wrong, void *ud, fs_error *err)
{
    char key[100], sentence[200];
    uint64_t n = 0;
    int64_t asked_ms = fs_unix_ms();
    bool here = false;
    fs_status rc;

    fs_blob_s3_key(kind, name, key);
    rc = fs_s3_size(h->s3, key, &n, err);
    if (rc != FS_ERR_NOT_FOUND)
        return rc;
    rc = is_here(h, db, kind, name, &here, &n, err); /* it may have gone as garbage */
    if (rc || !here)
        return rc;
    if (repair)
        forget(h, kind, name, asked_ms);
    snprintf(sentence, sizeof sentence, "%s %s is missing in the S3 store", kind == FS_BLOB_OBJECT ? "object" : "xorb", name);
    wrong(ud, sentence, repair);
    return FS_OK;
}

static fs_status compare(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, bool repair, fs_blob_wrong_fn *wrong, void *ud, fs_error *err)
{
    compare_to c = { db, kind };
    names alone = { 0 }, unknown = { 0 };
    char begin[20];
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_blob_s3_need_keys(h, err);

    snprintf(begin, sizeof begin, "%s/", kinds[kind]);
    if (!rc)
        rc = fs_db_run(db, err, "CREATE TEMP TABLE IF NOT EXISTS stored(name TEXT PRIMARY KEY, n_bytes INTEGER NOT NULL) WITHOUT ROWID", "");
    if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM temp.stored", "");
    if (!rc)
        rc = fs_s3_list(h->s3, begin, note_stored, &c, err);
    if (!rc)
        rc = fs_db_query(db, &st, err, "SELECT name FROM blobs WHERE kind = ? AND state = ? AND name NOT IN (SELECT name FROM temp.stored)", "ii", (int64_t)kind, (int64_t)HERE);
    while (!rc && fs_db_next(st))
        rc = add_name(&alone, fs_db_text(st, 0), err);
    if (!rc)
        rc = fs_db_end(st, err);
    if (!rc)
        rc = fs_db_query(db, &st, err, "SELECT name FROM temp.stored WHERE name NOT IN (SELECT name FROM blobs WHERE kind = ?)", "i", (int64_t)kind);
    while (!rc && fs_db_next(st))
        rc = add_name(&unknown, fs_db_text(st, 0), err);
    if (!rc)
        rc = fs_db_end(st, err);
    for (size_t i = 0; i < alone.list.n_bytes && !rc; i += 65)
        rc = row_alone(h, db, kind, alone.list.data + i, repair, wrong, ud, err);
    for (size_t i = 0; i < unknown.list.n_bytes && !rc && repair; i += 65) /* nothing is lost by one that is there too much: hub gc removes it, or a repository has it again */
        rc = fs_db_run(db, err, "INSERT OR IGNORE INTO blobs(kind, name, n_bytes, state, touched_ms) SELECT ?1, name, n_bytes, ?2, ?3 FROM temp.stored WHERE name = ?4", "iiis", (int64_t)kind,
                       (int64_t)HERE, fs_unix_ms(), unknown.list.data + i);
    fs_buf_done(&alone.list);
    fs_buf_done(&unknown.list);
    return rc;
}

typedef struct strays {
    const fs_hub *hub;
    sqlite3 *db;
    int64_t before_ms;
    names n;
} strays;

static fs_status add_old(void *ud, const char *key, uint64_t n_bytes, int64_t ms, fs_error *err)
{
    strays *s = ud;

    return ms <= s->before_ms ? add_stored(&s->n, key, n_bytes, ms, err) : FS_OK;
}

static fs_status is_known(sqlite3 *db, fs_blob_kind kind, const char *name, bool *ret, fs_error *err)
{
    int64_t n = 1;
    fs_status rc = fs_db_int(db, &n, NULL, err, "SELECT count(*) FROM blobs WHERE kind = ? AND name = ?", "is", (int64_t)kind, name);

    *ret = n > 0;
    return rc;
}

static fs_status object_is_known(sqlite3 *db, const char *name, bool *ret, fs_error *err)
{
    return is_known(db, FS_BLOB_OBJECT, name, ret, err);
}

static fs_status xorb_is_known(sqlite3 *db, const char *name, bool *ret, fs_error *err)
{
    return is_known(db, FS_BLOB_XORB, name, ret, err);
}

/* Uploads that were given up, and objects that no row knows: of an older copy of the database, say. */
static fs_status tidy(const fs_hub *h, sqlite3 *db, int64_t before_ms, uint64_t *ret_n, fs_error *err)
{
    fs_blob_needed_fn *const known[] = { object_is_known, xorb_is_known };
    fs_status rc = fs_blob_s3_need_keys(h, err);

    for (int kind = 0; kind < 2 && !rc; kind++) {
        strays s = { h, db, before_ms, { .kind = (fs_blob_kind)kind } };
        char begin[20];
        snprintf(begin, sizeof begin, "%s/", kinds[kind]);
        rc = fs_s3_abort_old(h->s3, begin, before_ms, ret_n, err);
        if (!rc)
            rc = fs_s3_list(h->s3, begin, add_old, &s, err);
        for (size_t i = 0; i < s.n.list.n_bytes && !rc; i += 65) {
            bool removed = false, is = true;
            uint64_t n_bytes;
            rc = known[kind](db, s.n.list.data + i, &is, err);
            if (!rc && !is)
                rc = remove_blob(h, db, (fs_blob_kind)kind, s.n.list.data + i, before_ms, known[kind], &removed, &n_bytes, err);
            *ret_n += removed;
        }
        fs_buf_done(&s.n.list);
    }
    return rc;
}

const fs_blob_store fs_blobs_s3 = { is_here, open_blob, open_head, read_blob, send_blob, link_to, put, list, remove_blob, take_out, compare, tidy };
