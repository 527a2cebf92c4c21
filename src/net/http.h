/* An HTTP/1.1 server, thin over libmicrohttpd and without any meaning of its own: connections wait in epoll and cost no thread, a
 * request is answered by a handler on a worker thread, which may block.
 *
 *   routes    a table; the first entry whose method and path fit answers
 *   bodies    whole in memory before the handler runs (up to the route's limit), or, of streamed routes, read by the handler as they
 *             arrive: what it does not read stays with the client
 *   replies   from memory, from a part of a file (sendfile), or written piece by piece, as fast as the client takes them
 *
 * What many or slow clients can hold is bounded: bodies in memory all together, and before a larger one is taken the table's admit is
 * asked; handlers that wait for their client are counted apart, so that they keep no other from running, and one whose client moves
 * too little is broken off: the scarcer their places, the sooner.
 *
 * A request and what it lends (strings, the body) belong to the handler's call. One thread at a time uses a request. */
#ifndef FS_NET_HTTP_H
#define FS_NET_HTTP_H

#include "base/mem.h"

typedef struct fs_http_server fs_http_server;
typedef struct fs_http_request fs_http_request;

/* Answers r: exactly one fs_http_reply*, or fs_http_stream_begin. Without one the client reads 500. */
typedef void fs_http_handler(void *ud, fs_http_request *r);

/* Asked on a worker thread before a body of more than FS_HTTP_SMALL_BYTES, or of unknown length, is taken into memory: how many bytes of
 * it may be. It may reply instead. *ret_known: by somebody who is known; what the others send fills at most half of the memory. */
typedef uint64_t fs_http_admit(void *ud, fs_http_request *r, bool *ret_known);

#define FS_HTTP_SMALL_BYTES ((uint64_t)16 << 10)
#define FS_HTTP_PARAMS_MAX 8

typedef struct fs_http_route {
    const char *method; /* a route of GET answers HEAD too */
    /* Segments are taken as they stand, "{}" is any one segment, a last "{*}" whatever is left, with its slashes, and may be
     * empty. What braces stand for are the parameters, in order. */
    const char *path;
    fs_http_handler *handler;
    const void *arg; /* for the handler: fs_http_route_arg */
    uint64_t body_bytes_max;
    bool streamed;
} fs_http_route;

typedef struct fs_http_options {
    const char *address; /* numeric, or "localhost"; NULL: 127.0.0.1 */
    int port;            /* 0: a free one */
    int n_threads;       /* that move bytes; 0: one a usable CPU */
    int n_workers_max;   /* handlers at a time; 0: 128 */
    int n_streams_max;   /* besides, those that read or write as their client goes; 0: 512 */
    int n_connections_max; /* 0: 4096 */
    int idle_seconds;    /* after which a silent connection is closed; 0: 120 */
    /* A client that a handler waits for so long has moved at least rate_min bytes a second (0: 4096), and as much more as places for
     * streams are scarce: 16 times from one half on, 64 times from seven eighths. 0: 60 */
    int patience_seconds;
    uint64_t rate_min;
    uint64_t buffered_bytes_max; /* of all bodies in memory; 0: 256 MiB */
    int keep_alive_seconds; /* between comments in a silent stream of events; 0: 15 */
    const char *tls_cert, *tls_key; /* the texts of PEM files; NULL: plain HTTP */
    /* What one request came to; called on any thread. May be NULL. */
    void (*log)(void *ud, const char *method, const char *uri, int status, double seconds);
    void *ud;
} fs_http_options;

/* What options points to is borrowed until the server is started, and ud until it is stopped. */
fs_status fs_http_server_new(const fs_http_options *options, fs_http_server **ret, fs_error *err);
/* Before the start. routes [n_routes] is borrowed until the server is stopped; admit NULL: routes' limits alone hold. */
fs_status fs_http_server_mount(fs_http_server *s, const fs_http_route *routes, size_t n_routes, void *ud, fs_http_admit *admit, fs_error *err);
/* The server answers from here on. */
fs_status fs_http_server_start(fs_http_server *s, fs_error *err);
/* "http://127.0.0.1:8080", or https; valid after start. */
const char *fs_http_server_url(const fs_http_server *s);
/* Accepts nothing more, lets what runs come to its end for at most drain_seconds, then breaks off what is left; and frees. */
void fs_http_server_stop(fs_http_server *s, double drain_seconds);

/* ---- the request ---- */
const char *fs_http_method(const fs_http_request *r); /* "HEAD" for a HEAD */
const char *fs_http_client(const fs_http_request *r); /* the address it comes from; "" unknown */
const char *fs_http_uri(const fs_http_request *r);    /* as sent, with the query */
const void *fs_http_route_arg(const fs_http_request *r);
bool fs_http_is_tls(const fs_http_request *r);
/* The i-th parameter: percent-decoded, and without U+0000 (such a request is refused before); of "{*}" as it was sent. */
const char *fs_http_param(const fs_http_request *r, int i);
int fs_http_n_params(const fs_http_request *r);
/* Decoded; NULL: absent. The i-th of that name, from 0. A "name[]" counts as name. */
const char *fs_http_query(const fs_http_request *r, const char *name, int i);
const char *fs_http_query_raw(const fs_http_request *r); /* "" when there is none */
const char *fs_http_header(const fs_http_request *r, const char *name);
/* The whole body; of a streamed route empty. */
fs_bytes fs_http_body(const fs_http_request *r);
/* Whether a body is announced, and its size where it is known. */
bool fs_http_content_length(const fs_http_request *r, uint64_t *ret);
/* The next bytes of a streamed body, at least one; *ret_n = 0 at its end. FS_ERR_IO when the client went away or is too slow,
 * FS_ERR_ARGUMENT when the route's limit is passed. */
fs_status fs_http_read(fs_http_request *r, void *buf, size_t capacity, size_t *ret_n, fs_error *err);

/* ---- the reply ---- */
/* Before the reply: one header more. A value with a control character is dropped. */
void fs_http_reply_header(fs_http_request *r, const char *name, const char *value);
void fs_http_reply_headerf(fs_http_request *r, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* From memory, copied. type may be NULL. */
void fs_http_reply(fs_http_request *r, int status, const char *type, const void *data, size_t n_bytes);
/* Takes body's memory. */
void fs_http_reply_buf(fs_http_request *r, int status, const char *type, fs_buf *body);
/* n_bytes of an open file from offset; takes fd, in every case. The connection ends with a large one that is whole (status 200), and with a
 * HEAD for it: reply_file.c. */
void fs_http_reply_fd(fs_http_request *r, int status, const char *type, int fd, uint64_t offset, uint64_t n_bytes);
/* A body of unknown length, sent as it is written; it ends when the handler returns. */
void fs_http_stream_begin(fs_http_request *r, int status, const char *type);
/* The same of a body that will have n_bytes, which are announced. */
void fs_http_stream_begin_sized(fs_http_request *r, int status, const char *type, uint64_t n_bytes);
/* Waits while the client is slow; FS_ERR_IO when it went away or is too slow. */
fs_status fs_http_stream_write(fs_http_request *r, const void *data, size_t n_bytes, fs_error *err);
/* The stream will not be whole: the connection breaks instead of ending it. */
void fs_http_stream_break(fs_http_request *r);
/* A stream of server-sent events (text/event-stream, https://html.spec.whatwg.org/multipage/server-sent-events.html). While the handler
 * says nothing, comments keep proxies and clients from giving up; it ends when the handler returns. */
void fs_http_events_begin(fs_http_request *r);
/* One event: event NULL is "message", without control characters; data may have lines. */
fs_status fs_http_event(fs_http_request *r, const char *event, fs_bytes data, fs_error *err);

#endif
