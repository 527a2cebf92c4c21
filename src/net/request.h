/* What server.c and request.c share: the inside of a request. */
#ifndef FS_NET_REQUEST_H
#define FS_NET_REQUEST_H

#include "net/http.h"

#include <microhttpd.h>
#include <pthread.h>

#define RING_BYTES ((size_t)1 << 20)

/* Bytes from one thread to another, at most RING_BYTES of them. */
typedef struct fs_http_ring {
    uint8_t *data; /* made when it is first used */
    size_t begin, n_bytes;
} fs_http_ring;

typedef struct fs_http_pair {
    char *name, *value; /* value within name's memory */
} fs_http_pair;

typedef struct fs_http_pairs {
    fs_http_pair *items;
    size_t n, capacity;
} fs_http_pairs;

struct fs_http_request {
    fs_http_server *server;
    fs_http_request *next_job, *previous, *next; /* the queue of workers; the list of all, guarded by the server's lock */
    double started;

    /* Filled before a handler runs, not changed afterwards. */
    char *uri, *path, *query_text;
    char method[16];
    fs_http_pairs headers, query;
    const fs_http_route *route;
    void *ud;
    char *params[FS_HTTP_PARAMS_MAX];
    int n_params;
    bool has_length;
    uint64_t content_length;
    fs_buf body;

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    struct MHD_Connection *connection; /* NULL before the headers came and when the client is gone */
    int n_refs;
    bool begun, suspended, dispatched, past_headers, body_wanted, body_ended, gone;
    uint64_t n_received, n_discarded;
    bool too_large, out_of_memory;
    fs_http_ring in, out;
    bool out_ended, out_broken;
    struct MHD_Response *response; /* until it is queued */
    bool replied;
    int status;
    fs_http_pairs reply_headers;
};

/* Splits uri into path and query and decodes the query; false for what no client sends. Takes no lock: nobody else has r yet. */
bool fs_http_request_parse(fs_http_request *r);
/* Whether route's path fits, with the parameters filled. *ret_bad: it fits but a parameter does not decode. */
bool fs_http_request_match(fs_http_request *r, const fs_http_route *route, bool *ret_bad);
fs_status fs_http_pairs_add(fs_http_pairs *p, const char *name, const char *value);
void fs_http_pairs_done(fs_http_pairs *p);
/* As much as fits; how much that was. */
size_t fs_http_ring_put(fs_http_ring *ring, const void *data, size_t n_bytes);
size_t fs_http_ring_take(fs_http_ring *ring, void *ret, size_t capacity);
/* Gives up one of the references; the last frees. */
void fs_http_request_unref(fs_http_request *r);
/* Under the lock: lets the connection go on, if it rests. */
void fs_http_wake(fs_http_request *r);

#endif
