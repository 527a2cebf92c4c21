/* The bytes of pull: pieces of all files are taken by a handful of threads, each from the mirror that promises to be fastest. A file whose
 * hash is wrong at the end is fetched again from one mirror at a time, so that the one that lies is known and left out. */
#include "hub/pull_internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "crypto/sha256.h"
#include "net/url.h"

#include <errno.h>
#include <fcntl.h>
#include <git2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PIECE_BYTES   ((uint64_t)16 << 20)
#define RATE_BYTES    ((uint64_t)1 << 20) /* what is smaller says how far a mirror is, not how fast */
#define TRIES_MAX     6 /* of one piece, with pauses of 0.5, 1, 2, 4, 8 s */
#define FAILURES_MAX  8 /* of a mirror: 64 s is the longest pause */
#define OLD           (1u << 31) /* among the contributors: bytes of an earlier run */

enum { MISSING, TAKEN, DONE };

struct blob {
    const fs_remote_file *f;
    char *path, *part, *parts; /* where it goes, and its two files on the way */
    int fd, parts_fd, lock_fd;
    enum { NEW, OPENING, OPEN, CLOSED } state;
    uint8_t *pieces;
    uint32_t n_pieces, n_done, n_tries;
    bool one_at_a_time; /* its hash was wrong, and more than one mirror had sent of it */
    uint32_t allowed, contributors; /* mirrors, a bit each */
};

struct mirror {
    const char *base;
    double rate; /* bytes a second of one connection; 0: not known */
    int n_active, n_failures; /* one after another */
    double not_before;        /* after a failure */
};

struct pull {
    const fs_pull_options *o;
    const char *commit;
    struct blob *blobs;
    size_t n, n_closed, first; /* those before first are closed */
    struct mirror mirrors[FS_PULL_MIRRORS_MAX];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    atomic_bool stop;
    atomic_ullong n_bytes; /* that are there, for progress */
    uint64_t n_fetched;
    fs_status rc;
    fs_error err;
};

/* ---- one file on its way ---- */
struct journal {
    char magic[8];
    uint64_t n_bytes, piece_bytes;
};

static struct journal journal_of(const struct blob *b)
{
    return (struct journal){ "fs-part", b->f->n_bytes, PIECE_BYTES };
}

static uint64_t piece_bytes(const struct blob *b, uint32_t i)
{
    uint64_t left = b->f->n_bytes - i * PIECE_BYTES;

    return left < PIECE_BYTES ? left : PIECE_BYTES;
}

static fs_status start_journal(struct blob *b, fs_error *err)
{
    struct journal j = journal_of(b);

    if (ftruncate(b->fd, 0) != 0 || ftruncate(b->fd, (off_t)b->f->n_bytes) != 0 || ftruncate(b->parts_fd, 0) != 0 ||
        ftruncate(b->parts_fd, (off_t)(sizeof j + b->n_pieces)) != 0 || pwrite(b->parts_fd, &j, sizeof j, 0) != sizeof j)
        return fs_fail_errno(err, errno, "cannot write '%s'", b->part);
    memset(b->pieces, MISSING, b->n_pieces);
    b->n_done = 0;
    b->contributors = 0;
    return FS_OK;
}

/* Takes up what an earlier run left, if it is of the same file. */
static void resume(struct pull *p, struct blob *b)
{
    struct journal j, want = journal_of(b);

    if (pread(b->parts_fd, &j, sizeof j, 0) != sizeof j || memcmp(&j, &want, sizeof j) != 0 ||
        pread(b->parts_fd, b->pieces, b->n_pieces, sizeof j) != (ssize_t)b->n_pieces)
        return;
    for (uint32_t i = 0; i < b->n_pieces; i++) {
        b->pieces[i] = b->pieces[i] == DONE ? DONE : MISSING;
        if (b->pieces[i] == DONE) {
            b->n_done++;
            b->contributors = OLD;
            atomic_fetch_add(&p->n_bytes, piece_bytes(b, i));
        }
    }
}

static bool is_there(const struct blob *b)
{
    struct stat st;

    return stat(b->path, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == b->f->n_bytes;
}

/* With the lock that other clients take, too; another may have finished it meanwhile. */
static fs_status open_blob(struct pull *p, struct blob *b, const char *locks, bool *ret_there, fs_error *err)
{
    fs_buf lock = { 0 };
    fs_status rc = fs_buf_printf(&lock, err, "%s/%s.lock", locks, b->f->etag);

    *ret_there = false;
    if (!rc) {
        b->lock_fd = open(lock.data, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (b->lock_fd < 0)
            rc = fs_fail_errno(err, errno, "cannot open '%s'", lock.data);
    }
    while (!rc && flock(b->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            rc = fs_fail_errno(err, errno, "cannot lock '%s'", lock.data);
        else if (atomic_load(&p->stop))
            rc = fs_fail(err, FS_ERR_INTERRUPTED, "interrupted");
        else
            nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
    }
    fs_buf_done(&lock);
    if (rc)
        return rc;
    *ret_there = is_there(b);
    if (*ret_there)
        return FS_OK;
    b->n_pieces = (uint32_t)((b->f->n_bytes + PIECE_BYTES - 1) / PIECE_BYTES);
    b->pieces = calloc(b->n_pieces + 1, 1);
    if (!b->pieces)
        return fs_fail_memory(err, b->n_pieces);
    b->fd = open(b->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    b->parts_fd = b->fd < 0 ? -1 : open(b->parts, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (b->parts_fd < 0)
        return fs_fail_errno(err, errno, "cannot open '%s'", b->part);
    resume(p, b);
    return b->n_done ? FS_OK : start_journal(b, err);
}

static void close_blob(struct blob *b)
{
    int *fds[] = { &b->fd, &b->parts_fd, &b->lock_fd };

    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
    free(b->pieces);
    b->pieces = NULL;
}

/* ---- hashes ---- */
static fs_status hash_of(const struct blob *b, char ret[65], fs_error *err)
{
    git_oid oid;

    if (b->f->large)
        return fs_sha256_of_file(b->fd, b->part, b->f->n_bytes, NULL, ret, err);
    if (git_odb_hashfile(&oid, b->part, GIT_OBJECT_BLOB) != 0)
        return fs_fail(err, FS_ERR_IO, "cannot read '%s'", b->part);
    git_oid_tostr(ret, 65, &oid);
    return FS_OK;
}

static const char *only_mirror(const struct pull *p, uint32_t mask)
{
    for (size_t i = 0; i < p->o->n_mirrors; i++)
        if (mask == 1u << i)
            return p->mirrors[i].base;
    return NULL;
}

/* All pieces are there. *ret_again: the hash is wrong, and others than those who sent it are left. */
static fs_status finish(struct pull *p, struct blob *b, bool *ret_again, fs_error *err)
{
    char got[65];
    fs_status rc = hash_of(b, got, err);

    *ret_again = false;
    if (rc)
        return rc;
    if (!strcmp(got, b->f->etag)) {
        if (fsync(b->fd) != 0 || rename(b->part, b->path) != 0)
            return fs_fail_errno(err, errno, "cannot write '%s'", b->path);
        unlink(b->parts);
        return FS_OK;
    }
    atomic_fetch_sub(&p->n_bytes, b->f->n_bytes);
    if (only_mirror(p, b->contributors)) {
        b->allowed &= ~b->contributors;
        if (!b->allowed) {
            unlink(b->part);
            unlink(b->parts);
            return fs_fail(err, FS_ERR_FORMAT, "'%s' from %s has the hash %.16s..., not %.16s... as it is listed", b->f->path, only_mirror(p, b->contributors), got,
                           b->f->etag);
        }
    }
    *ret_again = true;
    return start_journal(b, err);
}

/* ---- which piece, from where ---- */
/* The mirror to take a piece of b from; -1: none that is allowed is ready. */
static int choose_mirror(struct pull *p, const struct blob *b, double now)
{
    uint32_t allowed = b->allowed;
    int best = -1;
    double best_score = 0;

    if (b->one_at_a_time)
        allowed &= -allowed;
    for (size_t i = 0; i < p->o->n_mirrors; i++) {
        const struct mirror *m = p->mirrors + i;
        double score = (m->n_active + 1) / (m->rate > 0 ? m->rate : m->n_active == 0 ? 1e12 : 1);
        if (!(allowed >> i & 1) || m->not_before > now)
            continue;
        if (best < 0 || score < best_score) {
            best = (int)i;
            best_score = score;
        }
    }
    return best;
}

struct work {
    struct blob *b;
    uint32_t piece;
    int mirror;
    bool opens, closes;
};

/* Under the lock: until something changed, or a tenth of a second. */
static void wait_a_moment(struct pull *p)
{
    fs_cond_wait_until(&p->changed, &p->lock, fs_seconds_now() + 0.1);
}

/* Waits for something to do; false: all is done, or the whole stops. */
static bool take(struct pull *p, struct work *ret)
{
    bool got = false;

    pthread_mutex_lock(&p->lock);
    while (!got && !p->rc && !atomic_load(&p->stop) && p->n_closed < p->n) {
        double now = fs_seconds_now();
        while (p->first < p->n && p->blobs[p->first].state == CLOSED)
            p->first++;
        for (size_t i = p->first; i < p->n && !got; i++) {
            struct blob *b = p->blobs + i;
            if (b->state == NEW) {
                b->state = OPENING;
                *ret = (struct work){ .b = b, .opens = true };
                got = true;
            }
            for (uint32_t k = 0; b->state == OPEN && k < b->n_pieces && !got; k++) {
                int m = b->pieces[k] == MISSING ? choose_mirror(p, b, now) : -1;
                if (m < 0)
                    continue;
                b->pieces[k] = TAKEN;
                p->mirrors[m].n_active++;
                *ret = (struct work){ .b = b, .piece = k, .mirror = m };
                got = true;
            }
        }
        if (!got)
            wait_a_moment(p);
    }
    pthread_mutex_unlock(&p->lock);
    return got;
}

struct stream {
    struct pull *p;
    int fd;
    uint64_t at, end, n_bytes;
};

static fs_status store(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    struct stream *s = ud;
    const uint8_t *p = data;

    if (n_bytes > s->end - s->at)
        return fs_fail(err, FS_ERR_IO, "more bytes than were asked for");
    while (n_bytes) {
        ssize_t n = pwrite(s->fd, p, n_bytes, (off_t)s->at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fs_fail(err, FS_ERR_ARGUMENT, "cannot write what was fetched: %s", strerror(n < 0 ? errno : ENOSPC));
        s->at += (uint64_t)n;
        s->n_bytes += (uint64_t)n;
        p += n;
        n_bytes -= (size_t)n;
        atomic_fetch_add(&s->p->n_bytes, (uint64_t)n);
    }
    return FS_OK;
}

static fs_status fetch_piece(struct pull *p, fs_fetch *f, const struct work *w, fs_error *err)
{
    const fs_pull_options *o = p->o;
    const char *prefix = !strcmp(o->type, "models") ? "" : !strcmp(o->type, "datasets") ? "datasets/" : "spaces/";
    uint64_t begin = w->piece * PIECE_BYTES, n = piece_bytes(w->b, w->piece);
    struct stream s = { p, w->b->fd, begin, begin + n, 0 };
    bool whole = n == w->b->f->n_bytes;
    fs_buf url = { 0 };
    fs_status rc = fs_buf_printf(&url, err, "%s/%s%s/resolve/%s/", p->mirrors[w->mirror].base, prefix, o->id, p->commit);

    if (!rc)
        rc = fs_url_encode(&url, fs_bytes_str(w->b->f->path), "/", err);
    if (!rc)
        rc = fs_fetch_run(f, &(fs_fetch_request){ .url = url.data, .token = w->mirror == 0 ? o->token : NULL, .range_begin = begin, .range_bytes = whole ? 0 : n }, store, &s, err);
    if (!rc && fs_fetch_status(f) != (whole ? 200 : 206))
        rc = fs_fail(err, FS_ERR_IO, "%s answered %d", url.data, fs_fetch_status(f));
    if (!rc && s.n_bytes != n)
        rc = fs_fail(err, FS_ERR_IO, "%s: %llu bytes came where %llu were asked for", url.data, (unsigned long long)s.n_bytes, (unsigned long long)n);
    if (rc)
        atomic_fetch_sub(&p->n_bytes, s.n_bytes);
    fs_buf_done(&url);
    return rc;
}

/* ---- threads ---- */
struct worker {
    struct pull *p;
    const char *locks;
    pthread_t thread;
};

static bool go_on(void *ud)
{
    return !atomic_load(&((struct pull *)ud)->stop);
}

/* Under the lock: the first failure is the one that is told. */
static void fail(struct pull *p, fs_status rc, const fs_error *err)
{
    if (!p->rc) {
        p->rc = rc;
        p->err = *err;
    }
    atomic_store(&p->stop, true);
}

static void close_it(struct pull *p, struct blob *b)
{
    close_blob(b);
    b->state = CLOSED;
    p->n_closed++;
}

/* A piece, or all of an empty file, is there. Called under the lock, which is given up while the hash is made: nobody else has the blob then. */
static void complete(struct pull *p, struct blob *b)
{
    bool again = false, mixed;
    fs_error err;
    fs_status rc;

    if (b->n_done < b->n_pieces)
        return;
    b->state = OPENING;
    mixed = !only_mirror(p, b->contributors);
    pthread_mutex_unlock(&p->lock);
    rc = finish(p, b, &again, &err);
    pthread_mutex_lock(&p->lock);
    if (rc)
        fail(p, rc, &err);
    if (again) {
        b->state = OPEN;
        if (mixed && !(b->contributors & OLD))
            b->one_at_a_time = true;
    } else {
        close_it(p, b);
    }
}

static void open_it(struct pull *p, struct blob *b, const char *locks)
{
    bool there = false;
    fs_error err;
    fs_status rc = open_blob(p, b, locks, &there, &err);

    pthread_mutex_lock(&p->lock);
    b->state = OPEN;
    if (rc)
        fail(p, rc, &err);
    if (rc || there) {
        if (there)
            atomic_fetch_add(&p->n_bytes, b->f->n_bytes);
        close_it(p, b);
    } else {
        complete(p, b);
    }
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

static void end_piece(struct pull *p, const struct work *w, fs_status rc, const fs_error *err, double seconds)
{
    struct mirror *m = p->mirrors + w->mirror;
    struct blob *b = w->b;
    static const uint8_t done = DONE;

    pthread_mutex_lock(&p->lock);
    m->n_active--;
    if (!rc && pwrite(b->parts_fd, &done, 1, (off_t)(sizeof(struct journal) + w->piece)) == 1) {
        if (piece_bytes(b, w->piece) >= RATE_BYTES) {
            double rate = (double)piece_bytes(b, w->piece) / (seconds > 1e-6 ? seconds : 1e-6);
            m->rate = m->rate > 0 ? 0.7 * m->rate + 0.3 * rate : rate;
        }
        b->pieces[w->piece] = DONE;
        b->n_done++;
        b->n_tries = 0;
        m->n_failures = 0;
        b->contributors |= 1u << w->mirror;
        p->n_fetched += piece_bytes(b, w->piece);
        complete(p, b);
    } else {
        double now = fs_seconds_now();
        b->pieces[w->piece] = MISSING;
        if (rc == FS_ERR_INTERRUPTED || rc == FS_ERR_ARGUMENT || rc == FS_ERR_MEMORY || !rc || b->n_tries + 1 >= TRIES_MAX * p->o->n_mirrors)
            fail(p, rc ? rc : FS_ERR_IO, err);
        if (now >= m->not_before) { /* else others failed at the same time */
            m->n_failures++;
            m->not_before = now + 0.25 * (double)(1u << (m->n_failures < FAILURES_MAX ? m->n_failures : FAILURES_MAX));
        }
        m->rate /= 2; /* one that never sent anything stays unknown: it is asked again */
        b->n_tries++;
    }
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

static void *run_worker(void *ud)
{
    struct worker *me = ud;
    struct pull *p = me->p;
    fs_fetch *f = NULL;
    fs_error err = { 0 };
    struct work w;
    fs_status rc = fs_fetch_new("farseek/" FS_VERSION, &f, &err);

    if (rc) {
        pthread_mutex_lock(&p->lock);
        fail(p, rc, &err);
        pthread_mutex_unlock(&p->lock);
        return NULL;
    }
    fs_fetch_watch(f, go_on, p);
    while (take(p, &w)) {
        double start = fs_seconds_now();
        if (w.opens) {
            open_it(p, w.b, me->locks);
            continue;
        }
        rc = fetch_piece(p, f, &w, &err);
        end_piece(p, &w, rc, &err, fs_seconds_now() - start);
    }
    fs_fetch_free(f);
    return NULL;
}

/* ---- all ---- */
static int by_etag(const void *pa, const void *pb)
{
    const struct blob *a = pa, *b = pb;

    return strcmp(a->f->etag, b->f->etag);
}

static int by_place(const void *pa, const void *pb)
{
    const struct blob *a = pa, *b = pb;

    return (a->f > b->f) - (a->f < b->f);
}

/* One blob for each content, in the list's order. */
static fs_status plan(struct pull *p, const char *folder, const fs_remote_list *list, fs_error *err)
{
    size_t n = 0;
    fs_status rc = FS_OK;

    p->blobs = calloc(list->n + 1, sizeof *p->blobs);
    if (!p->blobs)
        return fs_fail_memory(err, list->n * sizeof *p->blobs);
    for (size_t i = 0; i < list->n; i++)
        p->blobs[i].f = list->items + i;
    qsort(p->blobs, list->n, sizeof *p->blobs, by_etag);
    for (size_t i = 0; i < list->n; i++)
        if (n == 0 || strcmp(p->blobs[n - 1].f->etag, p->blobs[i].f->etag) != 0)
            p->blobs[n++].f = p->blobs[i].f;
    qsort(p->blobs, n, sizeof *p->blobs, by_place);
    p->n = n;
    for (size_t i = 0; i < n && !rc; i++) {
        struct blob *b = p->blobs + i;
        b->fd = b->parts_fd = b->lock_fd = -1;
        b->allowed = (1u << p->o->n_mirrors) - 1;
        if (asprintf(&b->path, "%s/%s", folder, b->f->etag) < 0 || asprintf(&b->part, "%s.part", b->path) < 0 || asprintf(&b->parts, "%s.parts", b->path) < 0)
            rc = fs_fail_memory(err, strlen(folder));
        if (!rc && is_there(b)) {
            b->state = CLOSED;
            p->n_closed++;
            atomic_fetch_add(&p->n_bytes, b->f->n_bytes);
        }
    }
    return rc;
}

/* The caller's thread tells how far it is while the others work. */
static void wait_for(struct pull *p, uint64_t total)
{
    pthread_mutex_lock(&p->lock);
    while (p->n_closed < p->n && !p->rc && !atomic_load(&p->stop)) {
        wait_a_moment(p);
        pthread_mutex_unlock(&p->lock);
        fs_error err;
        fs_status rc = fs_progress_tell(&p->o->progress, atomic_load(&p->n_bytes), total, &err);
        pthread_mutex_lock(&p->lock);
        if (rc)
            fail(p, rc, &err);
    }
    pthread_mutex_unlock(&p->lock);
}

fs_status fs_pull_blobs(const fs_pull_options *o, const char *commit, const char *blobs, const char *locks, const fs_remote_list *list, fs_pull_result *ret,
                        fs_error *err)
{
    struct pull p = { .o = o, .commit = commit };
    int n_threads = o->n_connections ? o->n_connections : 8, n_started = 0;
    struct worker *workers = calloc((size_t)n_threads, sizeof *workers);
    uint64_t total = 0;
    fs_status rc = workers ? FS_OK : fs_fail_memory(err, (size_t)n_threads * sizeof *workers);

    git_libgit2_init();
    pthread_mutex_init(&p.lock, NULL);
    fs_cond_init(&p.changed);
    for (size_t i = 0; i < o->n_mirrors; i++)
        p.mirrors[i].base = o->mirrors[i];
    if (!rc)
        rc = plan(&p, blobs, list, err);
    for (size_t i = 0; i < p.n && !rc; i++) {
        total += p.blobs[i].f->n_bytes;
        ret->n_fetched += p.blobs[i].state == NEW;
    }
    for (int i = 0; i < n_threads && !rc && p.n_closed < p.n; i++) {
        workers[i] = (struct worker){ .p = &p, .locks = locks };
        if (pthread_create(&workers[i].thread, NULL, run_worker, workers + i) != 0)
            break;
        n_started++;
    }
    if (!rc && p.n_closed < p.n && n_started == 0)
        rc = fs_fail(err, FS_ERR_MEMORY, "cannot start a thread");
    if (!rc)
        wait_for(&p, total);
    for (int i = 0; i < n_started; i++)
        pthread_join(workers[i].thread, NULL);
    if (!rc && p.rc) {
        rc = p.rc;
        if (err)
            *err = p.err;
    }
    for (size_t i = 0; p.blobs && i < p.n; i++) {
        close_blob(p.blobs + i);
        free(p.blobs[i].path);
        free(p.blobs[i].part);
        free(p.blobs[i].parts);
    }
    free(p.blobs);
    free(workers);
    pthread_cond_destroy(&p.changed);
    pthread_mutex_destroy(&p.lock);
    git_libgit2_shutdown();
    ret->n_bytes = total;
    ret->n_bytes_fetched = p.n_fetched;
    return rc;
}
