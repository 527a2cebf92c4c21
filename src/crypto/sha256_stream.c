/* See the header. */
#include "crypto/sha256_stream.h"

#include "crypto/sha256.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define ALONE_BYTES ((uint64_t)1 << 20) /* less than that is hashed at once */
#define RING_BYTES  ((size_t)512 << 10)
#define PIECE_BYTES ((size_t)64 << 10) /* the hasher is woken for, and takes, no less, but at the end */

struct fs_sha256_stream {
    fs_sha256 sha;
    uint64_t n_bytes;
    bool threaded, refused;
    /* from here on shared with the thread */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t put, taken;
    uint8_t *ring;
    uint64_t n_put, n_taken; /* bytes of the ring's whole life */
    bool ended;
};

static void *hash(void *ud)
{
    fs_sha256_stream *s = ud;

    pthread_mutex_lock(&s->lock);
    for (;;) {
        size_t at = s->n_taken % RING_BYTES, n;
        while (s->n_put - s->n_taken < PIECE_BYTES && !s->ended)
            pthread_cond_wait(&s->put, &s->lock);
        n = (size_t)(s->n_put - s->n_taken);
        if (n == 0)
            break;
        n = n < RING_BYTES - at ? n : RING_BYTES - at;
        n = n < 2 * PIECE_BYTES ? n : 2 * PIECE_BYTES;
        pthread_mutex_unlock(&s->lock);
        fs_sha256_update(&s->sha, s->ring + at, n);
        pthread_mutex_lock(&s->lock);
        s->n_taken += n;
        pthread_cond_signal(&s->taken);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void start(fs_sha256_stream *s)
{
    s->ring = malloc(RING_BYTES);
    s->threaded = s->ring && pthread_create(&s->thread, NULL, hash, s) == 0;
    s->refused = !s->threaded;
}

/* Until all that was put is hashed. */
static void end(fs_sha256_stream *s)
{
    if (!s->threaded)
        return;
    pthread_mutex_lock(&s->lock);
    s->ended = true;
    pthread_cond_signal(&s->put);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    s->threaded = false;
}

fs_status fs_sha256_stream_open(fs_sha256_stream **ret, fs_error *err)
{
    fs_sha256_stream *s = calloc(1, sizeof *s);
    fs_status rc = s ? fs_sha256_init(&s->sha, err) : fs_fail_memory(err, sizeof *s);

    if (rc) {
        free(s);
        return rc;
    }
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->put, NULL);
    pthread_cond_init(&s->taken, NULL);
    *ret = s;
    return FS_OK;
}

void fs_sha256_stream_put(fs_sha256_stream *s, const void *data, size_t n_bytes)
{
    const uint8_t *p = data;

    if (!s->threaded && !s->refused && s->n_bytes + n_bytes > ALONE_BYTES)
        start(s);
    s->n_bytes += n_bytes;
    if (!s->threaded) {
        fs_sha256_update(&s->sha, data, n_bytes);
        return;
    }
    while (n_bytes) {
        size_t at = s->n_put % RING_BYTES, n = n_bytes < RING_BYTES - at ? n_bytes : RING_BYTES - at, room;
        pthread_mutex_lock(&s->lock);
        while (s->n_put - s->n_taken == RING_BYTES)
            pthread_cond_wait(&s->taken, &s->lock);
        room = RING_BYTES - (size_t)(s->n_put - s->n_taken);
        pthread_mutex_unlock(&s->lock);
        n = n < room ? n : room;
        memcpy(s->ring + at, p, n);
        pthread_mutex_lock(&s->lock);
        s->n_put += n;
        if (s->n_put - s->n_taken >= PIECE_BYTES)
            pthread_cond_signal(&s->put);
        pthread_mutex_unlock(&s->lock);
        p += n;
        n_bytes -= n;
    }
}

void fs_sha256_stream_final_hex(fs_sha256_stream *s, char ret_hex[65])
{
    end(s);
    fs_sha256_final_hex(&s->sha, ret_hex);
    fs_sha256_stream_close(s);
}

void fs_sha256_stream_close(fs_sha256_stream *s)
{
    if (!s)
        return;
    end(s);
    fs_sha256_done(&s->sha);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->put);
    pthread_cond_destroy(&s->taken);
    free(s->ring);
    free(s);
}
