/* See the header. */
#include "hub/through.h"

#include "hub/blobs.h"

#include "base/clock.h"
#include "crypto/sha256.h"
#include "net/url.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define JOBS_MAX      8 /* fetches at a time */
#define ABSENT_MAX    512
#define ABSENT_SECONDS 30
#define FRESH_MS      ((int64_t)30 * 1000)
#define WAIT_SECONDS  45
#define QUOTA_DEFAULT ((uint64_t)50 << 30)
#define HOLD_BYTES    ((uint64_t)64 << 10) /* of a file's end, until its hash is known */
#define SOON_SECONDS  4                    /* a file that is here by then is sent like any other */
#define SEND_BYTES    ((size_t)256 << 10)
#define USED_MS       ((int64_t)60 * 1000)

typedef struct job {
    char key[300]; /* type/id, or a repository's number and an object's SHA-256; "": free */
    int n_refs;    /* who runs it and who waits for it */
    uint64_t n_bytes;
    bool running;
    fs_status rc;
    fs_error err;
    /* of an object */
    fs_through *through;
    char type[16], id[200], sha256[65];
    int64_t repo;
} job;

struct fs_through {
    fs_hub *hub;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    job jobs[4 * JOBS_MAX];
    int n_running;
    atomic_bool stopping;
    struct {
        char key[300];
        double until;
    } absent[ABSENT_MAX];
    size_t next_absent;
};

fs_status fs_through_new(fs_hub *h, fs_through **ret, fs_error *err)
{
    fs_through *t = calloc(1, sizeof *t);

    if (!t)
        return fs_fail_memory(err, sizeof *t);
    t->hub = h;
    pthread_mutex_init(&t->lock, NULL);
    fs_cond_init(&t->changed);
    *ret = t;
    return FS_OK;
}

void fs_through_stop(fs_through *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->stopping = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

void fs_through_free(fs_through *t)
{
    if (!t)
        return;
    fs_through_stop(t);
    pthread_mutex_lock(&t->lock);
    while (t->n_running > 0)
        pthread_cond_wait(&t->changed, &t->lock);
    pthread_mutex_unlock(&t->lock);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static bool go_on(void *ud, uint64_t done, uint64_t total)
{
    fs_through *t = ud;

    (void)done, (void)total;
    return !t->stopping;
}

/* ---- jobs, under the lock ---- */

/* One that runs, or with no key a free place: what has ended is kept for those who have not left it yet, and nobody joins it. */
static job *find_job(fs_through *t, const char *key)
{
    for (size_t i = 0; i < sizeof t->jobs / sizeof *t->jobs; i++)
        if (strcmp(t->jobs[i].key, key) == 0 && t->jobs[i].running == (key[0] != 0))
            return t->jobs + i;
    return NULL;
}

/* One more for who runs it; NULL: too many. */
static job *new_job(fs_through *t, const char *key)
{
    job *j = t->n_running < JOBS_MAX && !t->stopping ? find_job(t, "") : NULL;

    if (j) {
        *j = (job){ .n_refs = 1, .running = true, .through = t };
        snprintf(j->key, sizeof j->key, "%s", key);
        t->n_running++;
    }
    return j;
}

static void leave_job(job *j)
{
    if (--j->n_refs == 0)
        j->key[0] = 0;
}

static void end_job(fs_through *t, job *j, fs_status rc, const fs_error *err)
{
    pthread_mutex_lock(&t->lock);
    j->running = false;
    j->rc = rc;
    j->err = *err;
    t->n_running--;
    pthread_cond_broadcast(&t->changed);
    leave_job(j);
    pthread_mutex_unlock(&t->lock);
}

/* Until it has ended; false: the time was up first. */
static bool wait_for_job(fs_through *t, const job *j, double seconds)
{
    double until = fs_seconds_now() + seconds;

    while (j->running && !t->stopping && fs_cond_wait_until(&t->changed, &t->lock, until))
        ;
    return !j->running;
}

/* ---- repositories ---- */

static bool is_absent(fs_through *t, const char *key)
{
    bool found = false;

    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < ABSENT_MAX && !found; i++)
        found = t->absent[i].until > fs_seconds_now() && strcmp(t->absent[i].key, key) == 0;
    pthread_mutex_unlock(&t->lock);
    return found;
}

static void set_absent(fs_through *t, const char *key)
{
    pthread_mutex_lock(&t->lock);
    snprintf(t->absent[t->next_absent].key, sizeof t->absent[0].key, "%s", key);
    t->absent[t->next_absent].until = fs_seconds_now() + ABSENT_SECONDS;
    t->next_absent = (t->next_absent + 1) % ABSENT_MAX;
    pthread_mutex_unlock(&t->lock);
}

/* Whether upstream may be asked for the name: not when it is here and no copy of that kind, nor when the namespace is somebody's here. Fresh copies
 * need no asking. */
static fs_status may_ask(fs_hub_call *c, const char *type, const char *owner, const char *name, bool *ret, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(c->db, &st, err,
                               "SELECT coalesce(a.upstream, '') = ?1, r.id IS NOT NULL, coalesce(m.lazy, 0), coalesce(m.tried_ms, 0) FROM accounts a "
                               "LEFT JOIN repos r ON r.owner = a.id AND r.type = ?2 AND r.name = ?4 LEFT JOIN mirrors m ON m.repo = r.id WHERE a.name = ?3",
                               "ssss", c->hub->options.upstream, type, owner, name);

    if (rc)
        return rc;
    *ret = true;
    if (fs_db_next(st)) {
        bool ours = sqlite3_column_int(st, 0) != 0, here = sqlite3_column_int(st, 1) != 0, lazy = sqlite3_column_int(st, 2) != 0;
        *ret = ours && (!here || (lazy && sqlite3_column_int64(st, 3) < fs_unix_ms() - FRESH_MS));
    }
    return fs_db_end(st, err);
}

/* Whether somebody brings it just now; then not before that has ended. */
static bool wait_for_other(fs_through *t, const char *key)
{
    job *j;

    pthread_mutex_lock(&t->lock);
    j = find_job(t, key);
    if (j) {
        j->n_refs++;
        wait_for_job(t, j, WAIT_SECONDS);
        leave_job(j);
    }
    pthread_mutex_unlock(&t->lock);
    return j != NULL;
}

void fs_through_repo(fs_hub_call *c, const char *type, const char *owner, const char *name)
{
    fs_through *t = c->hub->through;
    char id[200], key[300];
    bool may = false;
    fs_hub_mirror_options o;
    fs_hub_mirror_result r;
    fs_error err = { 0 };
    fs_status rc;
    job *j;

    if (!t || !fs_hub_name_is_valid(owner) || fs_hub_name_is_reserved(owner) || !fs_hub_name_is_valid(name))
        return;
    snprintf(id, sizeof id, "%s/%s", owner, name);
    snprintf(key, sizeof key, "%s/%s", type, id);
    if (wait_for_other(t, key) || may_ask(c, type, owner, name, &may, NULL) != FS_OK || !may || is_absent(t, key))
        return;
    pthread_mutex_lock(&t->lock);
    j = find_job(t, key) ? NULL : new_job(t, key);
    pthread_mutex_unlock(&t->lock);
    if (!j) {
        wait_for_other(t, key);
        return;
    }
    o = (fs_hub_mirror_options){ .url = c->hub->options.upstream, .type = type, .id = id, .lazy = true, .progress = { go_on, t } };
    rc = fs_hub_mirror(c->hub, &o, &r, &err);
    if (rc)
        set_absent(t, key);
    end_job(t, j, rc, &err);
}

bool fs_through_is_lazy(const fs_hub *h, sqlite3 *db, int64_t repo)
{
    int64_t n = 0;

    return h->through && fs_db_int(db, &n, NULL, NULL, "SELECT count(*) FROM mirrors WHERE repo = ? AND lazy AND url = ?", "is", repo, h->options.upstream) == FS_OK && n > 0;
}

bool fs_through_has(const fs_hub *h, sqlite3 *db, int64_t repo, const char *sha256, uint64_t n_bytes)
{
    uint8_t oid[32];
    int64_t n = 0;

    return fs_through_is_lazy(h, db, repo) && fs_hex_read(fs_bytes_str(sha256), oid, sizeof oid) &&
           fs_db_int(db, &n, NULL, NULL, "SELECT count(*) FROM through_objects WHERE repo = ? AND oid = ? AND size = ?", "ibi", repo, (fs_bytes){ oid, sizeof oid }, (int64_t)n_bytes) == FS_OK &&
           n > 0;
}

/* ---- room ---- */

void fs_through_used(const fs_hub *h, sqlite3 *db, const char *sha256)
{
    uint8_t oid[32];
    int64_t now = fs_unix_ms();

    if (h->through && fs_hex_read(fs_bytes_str(sha256), oid, sizeof oid))
        fs_db_run(db, NULL, "INSERT INTO through_used(oid, used_ms) VALUES(?1, ?2) ON CONFLICT(oid) DO UPDATE SET used_ms = ?2 WHERE used_ms < ?3", "bii", (fs_bytes){ oid, sizeof oid }, now,
                  now - USED_MS);
}

/* The file goes when nobody holds it: as fs_hub_gc takes it, with the database locked between looking and removing. */
static fs_status remove_object(fs_hub *h, sqlite3 *db, fs_bytes oid, fs_error *err)
{
    char hex[65];
    bool removed;
    uint64_t n_bytes;
    fs_status rc = fs_db_begin(db, err);

    fs_hex(oid.data, oid.n_bytes, hex);
    if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM repo_objects WHERE oid = ? AND repo IN (SELECT repo FROM mirrors WHERE lazy)", "b", oid);
    if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM through_used WHERE oid = ?", "b", oid);
    if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM objects WHERE oid = ?1 AND NOT EXISTS(SELECT 1 FROM repo_objects WHERE oid = ?1)", "b", oid);
    if (!rc)
        rc = fs_db_commit(db, err);
    fs_db_rollback(db);
    return rc ? rc : h->store->remove(h, db, FS_BLOB_OBJECT, hex, INT64_MAX, fs_blob_object_is_needed, &removed, &n_bytes, err);
}

/* Room for n_bytes more beside coming, by taking away what was not read for longest. */
static fs_status make_room(fs_hub *h, sqlite3 *db, uint64_t n_bytes, uint64_t coming, fs_error *err)
{
    uint64_t quota = h->options.upstream_quota ? h->options.upstream_quota : QUOTA_DEFAULT;
    fs_status rc = FS_OK;

    if (n_bytes > quota)
        return fs_fail(err, FS_ERR_ARGUMENT, "the file has %llu bytes, and this hub keeps %llu of its upstream's", (unsigned long long)n_bytes, (unsigned long long)quota);
    while (!rc) {
        sqlite3_stmt *st = NULL;
        uint8_t oid[32];
        int64_t used = 0;
        bool any;
        rc = fs_db_int(db, &used, NULL, err,
                       "SELECT coalesce(sum(size), 0) FROM objects WHERE oid IN (SELECT oid FROM repo_objects WHERE repo IN (SELECT repo FROM mirrors WHERE lazy))", "");
        if (rc || (uint64_t)used + coming + n_bytes <= quota)
            return rc;
        rc = fs_db_query(db, &st, err,
                         "SELECT oid FROM objects LEFT JOIN through_used u USING(oid) WHERE oid IN (SELECT oid FROM repo_objects WHERE repo IN (SELECT repo FROM mirrors WHERE lazy)) "
                         "ORDER BY coalesce(u.used_ms, 0) LIMIT 1",
                         "");
        if (rc)
            return rc;
        any = fs_db_next(st) && sqlite3_column_bytes(st, 0) == 32;
        if (any)
            memcpy(oid, sqlite3_column_blob(st, 0), 32);
        rc = fs_db_end(st, err);
        if (!rc && !any)
            return fs_fail(err, FS_ERR_IO, "too much is coming from upstream at once: try again");
        if (!rc)
            rc = remove_object(h, db, (fs_bytes){ oid, 32 }, err);
    }
    return rc;
}

/* ---- large files ---- */

static void *bring_object(void *ud)
{
    job *j = ud;
    fs_through *t = j->through;
    fs_hub_mirror_options o = { .url = t->hub->options.upstream, .type = j->type, .id = j->id, .lazy = true, .progress = { go_on, t } };
    uint64_t coming = 0;
    sqlite3 *db = NULL;
    fs_error err = { 0 };
    fs_status rc = fs_db_take(t->hub->db, &db, &err);

    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < sizeof t->jobs / sizeof *t->jobs; i++)
        coming += t->jobs[i].key[0] && t->jobs[i].running && t->jobs + i != j ? t->jobs[i].n_bytes : 0;
    pthread_mutex_unlock(&t->lock);
    if (!rc)
        rc = make_room(t->hub, db, j->n_bytes, coming, &err);
    if (!rc)
        rc = fs_hub_mirror_object(t->hub, &o, j->repo, j->sha256, j->n_bytes, &err);
    if (!rc)
        fs_through_used(t->hub, db, j->sha256);
    fs_db_give(t->hub->db, db);
    end_job(t, j, rc, &err);
    return NULL;
}

/* The job that brings the object, one for all who wait for it; the caller leaves it. NULL after a reply. */
static job *object_job(fs_hub_call *c, int64_t repo, const char *sha256, uint64_t n_bytes)
{
    fs_through *t = c->hub->through;
    char type[16] = "", id[200] = "", key[100];
    sqlite3_stmt *st = NULL;
    pthread_t thread;
    bool made = false;
    job *j;

    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT r.type, m.id FROM mirrors m JOIN repos r ON r.id = m.repo WHERE m.repo = ?", "i", repo)))
        return NULL;
    if (fs_db_next(st)) {
        snprintf(type, sizeof type, "%s", fs_db_text(st, 0));
        snprintf(id, sizeof id, "%s", fs_db_text(st, 1));
    }
    if (fs_hub_failed(c, fs_db_end(st, &c->err)))
        return NULL;
    pthread_mutex_lock(&t->lock);
    snprintf(key, sizeof key, "%lld %s", (long long)repo, sha256); /* what another repository has is not this one's */
    j = find_job(t, key);
    if (j)
        j->n_refs++;
    else
        made = (j = new_job(t, key)) != NULL;
    if (made) {
        j->n_refs++;
        j->n_bytes = n_bytes;
        j->repo = repo;
        memcpy(j->type, type, sizeof type);
        memcpy(j->id, id, sizeof id);
        snprintf(j->sha256, sizeof j->sha256, "%s", sha256);
    }
    pthread_mutex_unlock(&t->lock);
    if (made && pthread_create(&thread, NULL, bring_object, j) != 0) {
        fs_error err = { 0 };
        end_job(t, j, fs_fail(&err, FS_ERR_MEMORY, "no thread for a fetch"), &err);
    } else if (made) {
        pthread_detach(thread);
    }
    if (!j) {
        fs_http_reply_header(c->http, "Retry-After", "5");
        fs_hub_error(c, 503, NULL, "this hub fetches much from its upstream just now: try again");
    }
    return j;
}

/* How far the file may be sent: what has arrived, without its end while it is not known to hold. -1: it failed. */
static int64_t may_send(fs_through *t, const job *j, int *fd, const char *path)
{
    struct stat st;
    bool running, failed;

    pthread_mutex_lock(&t->lock);
    running = j->running;
    failed = !running && j->rc;
    pthread_mutex_unlock(&t->lock);
    if (failed)
        return -1;
    if (!running)
        return (int64_t)j->n_bytes;
    if (*fd < 0)
        *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (*fd < 0 || fstat(*fd, &st) != 0)
        return 0;
    return (uint64_t)st.st_size + HOLD_BYTES >= j->n_bytes ? (j->n_bytes > HOLD_BYTES ? (int64_t)(j->n_bytes - HOLD_BYTES) : 0) : (int64_t)st.st_size;
}

static fs_status send_range(fs_hub_call *c, int fd, uint64_t begin, uint64_t end, fs_error *err)
{
    char *buf = malloc(SEND_BYTES);
    fs_status rc = buf ? FS_OK : fs_fail_memory(err, SEND_BYTES);

    while (!rc && begin < end) {
        ssize_t n = pread(fd, buf, end - begin < SEND_BYTES ? end - begin : SEND_BYTES, (off_t)begin);
        if (n <= 0)
            rc = fs_fail(err, FS_ERR_IO, "cannot read what came from upstream");
        else
            rc = fs_http_stream_write(c->http, buf, (size_t)n, err);
        begin += n > 0 ? (uint64_t)n : 0;
    }
    free(buf);
    return rc;
}

/* Sends from begin to the end as it arrives. */
static void send_along(fs_hub_call *c, job *j, uint64_t begin, const char *type)
{
    fs_through *t = c->hub->through;
    char path[600];
    int fd = -1;
    uint64_t at = begin, n;
    fs_status rc = FS_OK;

    snprintf(path, sizeof path, "%s/parts/mirror-%s", c->hub->data, j->sha256);
    if (begin)
        fs_http_reply_headerf(c->http, "Content-Range", "bytes %llu-%llu/%llu", (unsigned long long)begin, (unsigned long long)(j->n_bytes - 1), (unsigned long long)j->n_bytes);
    c->replied = true;
    fs_http_stream_begin(c->http, begin ? 206 : 200, type ? type : "application/octet-stream");
    while (!rc && at < j->n_bytes) {
        int64_t end = may_send(t, j, &fd, path);
        if (end == (int64_t)j->n_bytes && fd < 0) /* it was here before the part was opened */
            rc = fs_hub_object_open(c->hub, j->sha256, &fd, &n, &c->err);
        if (end < 0)
            rc = fs_fail(&c->err, FS_ERR_IO, "upstream sent something else");
        else if (!rc && (uint64_t)end > at) {
            rc = send_range(c, fd, at, (uint64_t)end, &c->err);
            at = (uint64_t)end;
        } else if (!rc) {
            if (t->stopping)
                rc = FS_ERR_INTERRUPTED;
            nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
        }
    }
    if (rc)
        fs_http_stream_break(c->http);
    if (fd >= 0)
        close(fd);
}

void fs_through_send(fs_hub_call *c, int64_t repo, const char *sha256, uint64_t n_bytes, const char *type)
{
    fs_through *t = c->hub->through;
    fs_http_range range[FS_HTTP_RANGES_MAX] = { 0 };
    int n_ranges = fs_http_ranges(fs_http_header(c->http, "Range"), n_bytes, range);
    bool to_end = n_ranges == 0 || (n_ranges == 1 && range[0].begin + range[0].n_bytes == n_bytes), ended;
    job *j;

    if (strcmp(fs_http_method(c->http), "HEAD") == 0) {
        fs_hub_send_size(c, n_bytes, type);
        return;
    }
    j = object_job(c, repo, sha256, n_bytes);
    if (!j)
        return;
    pthread_mutex_lock(&t->lock);
    ended = wait_for_job(t, j, to_end ? SOON_SECONDS : WAIT_SECONDS);
    pthread_mutex_unlock(&t->lock);
    if (ended && j->rc) {
        int status = j->rc == FS_ERR_NOT_FOUND ? 404 : j->rc == FS_ERR_ARGUMENT ? 507 : 502;
        fs_hub_error(c, status, j->rc == FS_ERR_NOT_FOUND ? "EntryNotFound" : NULL, "%s", j->err.message);
    } else if (ended) {
        c->hub->store->send(c, FS_BLOB_OBJECT, sha256, n_bytes, type);
    } else if (to_end) {
        send_along(c, j, n_ranges ? range[0].begin : 0, type);
    } else {
        fs_http_reply_header(c->http, "Retry-After", "5");
        fs_hub_error(c, 503, NULL, "the file is on its way from upstream: try again");
    }
    pthread_mutex_lock(&t->lock);
    leave_job(j);
    pthread_mutex_unlock(&t->lock);
}
