/* An upload on its way to an S3 store, in parts, several at a time: a request spends its time on the way and in the store. Threads of
 * their own send what has arrived in the file that it arrives in; nothing is shown before fs_blob_push_complete. */
#include "hub/blobs_s3.h"

#include "net/s3.h"

#include <stdlib.h>

#define WHOLE_BYTES ((uint64_t)16 << 20) /* up to here in one request */
#define SENDERS     4

struct fs_blob_push {
    fs_s3 *s3;
    char key[100], upload[FS_S3_UPLOAD_BYTES];
    int fd, n_parts, n_parts_max;
    uint64_t part_bytes, n_ready, n_taken;
    char (*etags)[FS_S3_ETAG_BYTES];
    pthread_t threads[SENDERS];
    int n_threads;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ended, stopped, asked, begun, completed;
    fs_status rc; /* of the first that failed */
    fs_error err;
};

/* The next thing there is to ask of the store, under the lock, which is given up meanwhile; false: there is none any more. */
static bool send_next(fs_blob_push *p)
{
    uint64_t n = p->n_ready - p->n_taken, offset = p->n_taken;
    bool begins = !p->asked;
    int part = p->n_parts;
    fs_error err = { 0 };
    fs_status rc;

    if (p->rc || p->stopped || (p->begun && p->ended && n == 0))
        return false;
    if (!begins && (!p->begun || (n < p->part_bytes && !p->ended))) {
        pthread_cond_wait(&p->changed, &p->lock);
        return true;
    }
    p->asked = true;
    if (!begins) {
        n = n > p->part_bytes ? p->part_bytes : n;
        p->n_taken += n;
        p->n_parts++;
    }
    pthread_mutex_unlock(&p->lock);
    rc = begins                     ? fs_s3_begin(p->s3, p->key, p->upload, &err)
         : part >= p->n_parts_max ? fs_fail(&err, FS_ERR_FORMAT, "more arrived than was announced")
                                  : fs_s3_part(p->s3, p->key, p->upload, part + 1, p->fd, offset, n, p->etags[part], &err);
    pthread_mutex_lock(&p->lock);
    p->begun = p->begun || (begins && !rc);
    if (rc && !p->rc) {
        p->rc = rc;
        p->err = err;
    }
    if (rc || begins)
        pthread_cond_broadcast(&p->changed);
    return true;
}

static void *send_parts(void *ud)
{
    fs_blob_push *p = ud;

    pthread_mutex_lock(&p->lock);
    while (send_next(p))
        ;
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* Every part is sent, or nothing more is. */
static void join_senders(fs_blob_push *p, bool stop)
{
    pthread_mutex_lock(&p->lock);
    p->ended = true;
    p->stopped = stop;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    while (p->n_threads > 0)
        pthread_join(p->threads[--p->n_threads], NULL);
}

fs_status fs_blob_push_open(const fs_hub *h, fs_blob_kind kind, const char *name, int fd, uint64_t n_bytes, fs_blob_push **ret, fs_error *err)
{
    fs_blob_push *p;
    fs_status rc;

    *ret = NULL;
    if (!h->s3_url)
        return FS_OK;
    rc = fs_blob_s3_need_keys(h, err);
    if (rc || n_bytes <= WHOLE_BYTES)
        return rc;
    p = calloc(1, sizeof *p);
    if (!p)
        return fs_fail_memory(err, sizeof *p);
    p->s3 = h->s3;
    p->fd = fd;
    fs_blob_s3_key(kind, name, p->key);
    p->part_bytes = FS_S3_PART_BYTES_MIN;
    while ((n_bytes + p->part_bytes - 1) / p->part_bytes > FS_S3_PARTS_MAX)
        p->part_bytes *= 2;
    p->n_parts_max = (int)((n_bytes + p->part_bytes - 1) / p->part_bytes);
    p->etags = calloc((size_t)p->n_parts_max, sizeof *p->etags);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    while (p->etags && p->n_threads < SENDERS && pthread_create(&p->threads[p->n_threads], NULL, send_parts, p) == 0)
        p->n_threads++;
    if (p->n_threads == 0) {
        fs_blob_push_close(p);
        return fs_fail_memory(err, (size_t)p->n_parts_max * sizeof *p->etags);
    }
    *ret = p;
    return FS_OK;
}

fs_status fs_blob_push_more(fs_blob_push *p, uint64_t n_bytes, fs_error *err)
{
    fs_status rc;

    pthread_mutex_lock(&p->lock);
    p->n_ready = n_bytes;
    rc = p->rc;
    if (rc && err)
        *err = p->err;
    if (p->n_ready - p->n_taken >= p->part_bytes)
        pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return rc;
}

fs_status fs_blob_push_end(fs_blob_push *p, uint64_t n_bytes, fs_error *err)
{
    pthread_mutex_lock(&p->lock);
    p->n_ready = n_bytes;
    pthread_mutex_unlock(&p->lock);
    join_senders(p, false);
    if (p->rc && err)
        *err = p->err;
    return p->rc;
}

fs_status fs_blob_push_complete(fs_blob_push *p, uint64_t n_bytes, fs_error *err)
{
    fs_status rc = fs_s3_complete(p->s3, p->key, p->upload, (const char (*)[FS_S3_ETAG_BYTES])p->etags, p->n_parts, n_bytes, err);

    p->completed = rc == FS_OK;
    return rc;
}

void fs_blob_push_close(fs_blob_push *p)
{
    if (!p)
        return;
    join_senders(p, true);
    if (p->begun && !p->completed)
        fs_s3_abort(p->s3, p->key, p->upload, NULL); /* what fails here, hub gc aborts */
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->changed);
    free(p->etags);
    free(p);
}
