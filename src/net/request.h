/* What server.c, jobs.c and request.c share: the inside of a server and of a request.
 *
 * A request is referred to by its connection, by its job while that is queued or running, and by a streamed response. Its lock is
 * taken before any of libmicrohttpd's and before the server's, never within a callback that holds one of those for another request. */
#ifndef FS_NET_REQUEST_H
#define FS_NET_REQUEST_H

#include "net/http.h"
#include "net/listener.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

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

typedef struct fs_http_mount {
    const fs_http_route *routes;
    size_t n_routes;
    void *ud;
    fs_http_admit *admit;
} fs_http_mount;

/* Handlers wait in two lanes: those that only compute, and those that go as fast as their client. */
enum { LANE_PLAIN, LANE_STREAMS, LANES };

typedef struct fs_http_lane {
    fs_http_request *jobs, **jobs_end;
    int n_jobs, n_running, n_max;
} fs_http_lane;

/* What is left of a reply from a file once the handler has returned (reply_file.c). */
typedef enum fs_http_file_how {
    FILE_DONE,
    FILE_CORKED, /* libmicrohttpd sends it, with the socket as it should not be */
    FILE_OURS,   /* all but the head; one of n_files */
} fs_http_file_how;

#define MOUNTS_MAX 4

struct fs_http_server {
    fs_http_options options;
    fs_http_mount mounts[MOUNTS_MAX];
    size_t n_mounts;
    struct MHD_Daemon *daemon; /* without a socket of its own */
    fs_listener *listener;
    char url[96];

    pthread_mutex_t lock;
    pthread_cond_t changed;    /* jobs for the workers */
    pthread_cond_t left;       /* a request or a worker is gone, or a place in a lane */
    pthread_cond_t tick;       /* the ticker is to end */
    fs_http_lane lanes[LANES];
    fs_http_request *requests; /* all of them */
    size_t n_requests;
    int n_workers, n_idle;
    int n_files; /* of the lane of streams: FILE_OURS, and no reason to be strict with others */
    bool has_ticker;
    _Atomic bool stopping, aborting;
    _Atomic uint64_t n_buffered, n_buffered_unknown; /* bytes of bodies in memory; of those that nobody is known to send */
};

struct fs_http_request {
    fs_http_server *server;
    fs_http_request *next_job, *previous, *next; /* the queue of workers; the list of all, guarded by the server's lock */
    double started;

    /* Filled before a handler runs, not changed afterwards. */
    char *uri, *path, *query_text;
    char client[48];
    char method[16];
    fs_http_pairs headers, query;
    const fs_http_route *route;
    const fs_http_mount *mount;
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
    bool asking, admitted, known; /* admit is asked; it has answered; what it said */
    int lane;                     /* that the job runs in */
    uint64_t body_bytes_max, n_received, n_discarded, n_charged;
    double body_started, waited; /* of waiting for the client, since its bytes were last counted */
    uint64_t n_moved;
    bool too_slow, writing, events;
    double written;              /* when a stream of events last said something */
    bool too_large, out_of_memory, broken;
    fs_http_ring in, out;
    bool head_sent; /* of a stream, and nothing was there to follow it */
    bool out_ended, out_broken;
    struct MHD_Response *response; /* until it is queued */
    bool replied;
    int status;
    fs_http_file_how file_how; /* this and the file: the worker's alone */
    int file;                  /* FILE_OURS */
    uint64_t file_offset, file_bytes;
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
/* Waits for a change that the client makes, under the request's lock; false: it has moved too little. */
bool fs_http_await_client(fs_http_request *r);
/* Gives up one of the references; the last frees. */
void fs_http_request_unref(fs_http_request *r);
/* Under the lock: lets the connection go on, if it rests. */
void fs_http_wake(fs_http_request *r);

/* The reply, with r's headers; takes response. NULL, no memory: the connection is closed. */
void fs_http_reply_with(fs_http_request *r, int status, const char *type, struct MHD_Response *response);
/* What comes into r->out, n_bytes or MHD_SIZE_UNKNOWN, handed on in blocks; NULL: no memory. */
struct MHD_Response *fs_http_stream_response(fs_http_request *r, uint64_t n_bytes, size_t block_bytes);

/* What the reply from a file leaves to do, when r's handler has returned. */
void fs_http_file_send(fs_http_request *r);

/* ---- jobs.c ---- */

void fs_http_lanes_init(fs_http_server *s);
/* Queues r; false when no thread will ever take it. */
bool fs_http_dispatch(fs_http_server *s, fs_http_request *r);
/* The running job of r goes on in the lane of streams, as soon as there is a place. */
void fs_http_become_stream(fs_http_request *r);
/* The same to send a file, if that leaves three quarters of the places there; else false, and it stays where it is. */
bool fs_http_try_file(fs_http_request *r);
/* What a client must move in a second, as scarce as places are now. */
uint64_t fs_http_rate_floor(fs_http_server *s);
/* Whether the comments in streams of events are kept going; starts the thread that does. */
void fs_http_tick(fs_http_server *s);

#endif
