/* The server: libmicrohttpd's threads move bytes, workers run handlers; a connection whose next byte has to wait for a worker is
 * suspended until then.
 *
 * A request is referred to by its connection, by its job while that is queued or running, and by a streamed response. Its lock is
 * taken before any of libmicrohttpd's, never within a callback that holds one of those for another request. */
#include "net/request.h"

#include "base/clock.h"
#include "base/pool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define HEADER_BYTES_MAX  ((size_t)16 << 10) /* a connection's memory, idle ones' too: request line, headers, and what a read takes at once */
#define DISCARD_BYTES_MAX ((uint64_t)64 << 20) /* of a body that nobody wants, before the connection is closed */
#define MOUNTS_MAX        4
#define WORKER_IDLE_SECONDS 20

typedef struct mount {
    const fs_http_route *routes;
    size_t n_routes;
    void *ud;
} mount;

struct fs_http_server {
    fs_http_options options;
    mount mounts[MOUNTS_MAX];
    size_t n_mounts;
    struct MHD_Daemon *daemon;
    char url[96];

    pthread_mutex_t lock;
    pthread_cond_t changed;    /* jobs for the workers */
    pthread_cond_t left;       /* a request or a worker is gone */
    fs_http_request *jobs, **jobs_end;
    fs_http_request *requests; /* all of them */
    size_t n_requests;
    int n_workers, n_idle;
    _Atomic bool stopping, aborting;
};

/* ---- requests ---- */

static void *on_uri(void *ud, const char *uri, struct MHD_Connection *connection)
{
    fs_http_server *s = ud;
    fs_http_request *r = calloc(1, sizeof *r);

    (void)connection;
    if (!r || !(r->uri = strdup(uri))) {
        free(r);
        return NULL;
    }
    r->server = s;
    r->started = fs_seconds_now();
    r->n_refs = 1;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    pthread_mutex_lock(&s->lock);
    r->next = s->requests;
    if (r->next)
        r->next->previous = r;
    s->requests = r;
    s->n_requests++;
    pthread_mutex_unlock(&s->lock);
    return r;
}

static void request_free(fs_http_request *r)
{
    fs_http_server *s = r->server;

    pthread_mutex_lock(&s->lock);
    if (r->previous)
        r->previous->next = r->next;
    else
        s->requests = r->next;
    if (r->next)
        r->next->previous = r->previous;
    s->n_requests--;
    pthread_cond_broadcast(&s->left);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < r->n_params; i++)
        free(r->params[i]);
    fs_http_pairs_done(&r->headers);
    fs_http_pairs_done(&r->query);
    fs_http_pairs_done(&r->reply_headers);
    fs_buf_done(&r->body);
    free(r->in.data);
    free(r->out.data);
    free(r->uri);
    free(r->path);
    free(r->query_text);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void fs_http_request_unref(fs_http_request *r)
{
    int n;

    pthread_mutex_lock(&r->lock);
    n = --r->n_refs;
    pthread_mutex_unlock(&r->lock);
    if (n == 0)
        request_free(r);
}

static void on_completed(void *ud, struct MHD_Connection *connection, void **request, enum MHD_RequestTerminationCode code)
{
    fs_http_request *r = *request;
    struct MHD_Response *unsent;

    (void)ud;
    (void)connection;
    (void)code;
    *request = NULL;
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->connection = NULL;
    r->gone = true;
    unsent = r->response; /* a streamed one refers to r: it must not be freed last */
    r->response = NULL;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    if (unsent)
        MHD_destroy_response(unsent);
    if (r->server->options.log)
        r->server->options.log(r->server->options.ud, r->method, r->uri, r->status, fs_seconds_now() - r->started);
    fs_http_request_unref(r);
}

/* ---- workers ---- */

static struct timespec seconds_from_now(double seconds)
{
    struct timespec t;
    int64_t ns;

    clock_gettime(CLOCK_REALTIME, &t);
    ns = t.tv_nsec + (int64_t)(seconds * 1e9);
    t.tv_sec += ns / 1000000000;
    t.tv_nsec = ns % 1000000000;
    return t;
}

static void run_job(fs_http_request *r)
{
    r->route->handler(r->ud, r);
    if (!r->replied)
        fs_http_reply(r, 500, "text/plain", "no reply\n", strlen("no reply\n"));
    pthread_mutex_lock(&r->lock);
    r->out_ended = true;
    fs_http_wake(r);
    pthread_mutex_unlock(&r->lock);
    fs_http_request_unref(r);
}

static void *worker(void *ud)
{
    fs_http_server *s = ud;
    struct timespec until;

    fs_fp_environment();
    pthread_mutex_lock(&s->lock);
    for (;;) {
        fs_http_request *r = s->jobs;
        if (r) {
            s->jobs = r->next_job;
            if (!s->jobs)
                s->jobs_end = &s->jobs;
            pthread_mutex_unlock(&s->lock);
            run_job(r);
            pthread_mutex_lock(&s->lock);
            continue;
        }
        if (s->aborting)
            break;
        s->n_idle++;
        until = seconds_from_now(WORKER_IDLE_SECONDS);
        if (pthread_cond_timedwait(&s->changed, &s->lock, &until) == ETIMEDOUT && !s->jobs) {
            s->n_idle--;
            break;
        }
        s->n_idle--;
    }
    s->n_workers--;
    pthread_cond_broadcast(&s->left);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Queues r; false when no thread will ever take it. */
static bool dispatch(fs_http_server *s, fs_http_request *r)
{
    pthread_attr_t attr;
    pthread_t thread;
    bool ok = true;
    int n_jobs = 1;

    pthread_mutex_lock(&s->lock);
    for (fs_http_request *j = s->jobs; j; j = j->next_job)
        n_jobs++;
    if (s->n_idle < n_jobs && s->n_workers < s->options.n_workers_max) {
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attr, 2 << 20);
        if (pthread_create(&thread, &attr, worker, s) == 0)
            s->n_workers++;
        pthread_attr_destroy(&attr);
        ok = s->n_workers > 0;
    }
    if (ok) {
        r->next_job = NULL;
        *s->jobs_end = r;
        s->jobs_end = &r->next_job;
        pthread_cond_signal(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return ok;
}

/* ---- what libmicrohttpd calls ---- */

static enum MHD_Result on_header(void *ud, enum MHD_ValueKind kind, const char *name, const char *value)
{
    fs_http_request *r = ud;

    (void)kind;
    if (strcasecmp(name, "Content-Length") == 0 && fs_http_header(r, name))
        r->out_of_memory = true; /* two of them: refused with the sentence of a bad request below */
    if (fs_http_pairs_add(&r->headers, name, value ? value : "") != FS_OK)
        r->out_of_memory = true;
    return MHD_YES;
}

static void refuse(fs_http_request *r, int status, const char *sentence)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(strlen(sentence), (void *)(uintptr_t)sentence, MHD_RESPMEM_PERSISTENT);

    if (response)
        MHD_add_response_header(response, "Content-Type", "text/plain");
    r->replied = true;
    r->status = status;
    r->response = response;
}

static bool number_read(const char *text, uint64_t *ret)
{
    uint64_t n = 0;

    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || n > (UINT64_MAX - 9) / 10)
            return false;
        n = n * 10 + (uint64_t)(*text - '0');
    }
    *ret = n;
    return true;
}

static void find_route(fs_http_request *r)
{
    fs_http_server *s = r->server;
    const char *method = strcmp(r->method, "HEAD") == 0 ? "GET" : r->method;
    bool known = false, bad = false;

    for (size_t m = 0; m < s->n_mounts; m++)
        for (size_t i = 0; i < s->mounts[m].n_routes; i++) {
            const fs_http_route *route = &s->mounts[m].routes[i];
            if (!fs_http_request_match(r, route, &bad))
                continue;
            known = true;
            if (strcmp(route->method, method) != 0)
                continue;
            if (bad) {
                refuse(r, 400, "a broken escape in the path\n");
            } else {
                r->route = route;
                r->ud = s->mounts[m].ud;
            }
            return;
        }
    refuse(r, known ? 405 : 404, known ? "no such method here\n" : "nothing is here\n");
}

/* The headers are complete: finds the route, or fills in a refusal. */
static void begin(fs_http_request *r, const char *method)
{
    const char *length, *coding;

    r->begun = true;
    snprintf(r->method, sizeof r->method, "%s", method);
    MHD_get_connection_values(r->connection, MHD_HEADER_KIND, on_header, r);
    length = fs_http_header(r, "Content-Length");
    coding = fs_http_header(r, "Transfer-Encoding");
    r->has_length = length && number_read(length, &r->content_length);
    /* What two readers could cut differently is no request (RFC 9112 section 6.3). */
    if (r->out_of_memory || (length && coding) || (length && !r->has_length) || (coding && strcasecmp(coding, "chunked") != 0) ||
        strlen(method) >= sizeof r->method || !fs_http_request_parse(r)) {
        refuse(r, 400, "a bad request\n");
        return;
    }
    find_route(r);
    if (r->route && r->has_length && r->content_length > r->route->body_bytes_max)
        refuse(r, 413, "the body is too large\n");
}

/* The next piece of a body; how much of it was taken. */
static size_t take_body(fs_http_request *r, const char *data, size_t n_bytes)
{
    size_t n = n_bytes;

    if (r->replied || r->too_large) {
        r->n_discarded += n;
        return n;
    }
    if (n_bytes > r->route->body_bytes_max - r->n_received) {
        r->too_large = true;
        if (!r->route->streamed)
            refuse(r, 413, "the body is too large\n");
        pthread_cond_broadcast(&r->changed);
        return n;
    }
    if (r->route->streamed) {
        n = fs_http_ring_put(&r->in, data, n_bytes);
        r->out_of_memory = r->out_of_memory || !r->in.data;
        pthread_cond_broadcast(&r->changed);
    } else if (fs_buf_append(&r->body, data, n, NULL) != FS_OK) {
        refuse(r, 503, "out of memory\n");
    }
    r->n_received += n;
    return n;
}

static enum MHD_Result queue(fs_http_request *r)
{
    struct MHD_Response *response = r->response;
    enum MHD_Result ok;

    if (!response)
        return MHD_NO;
    r->response = NULL;
    pthread_mutex_unlock(&r->lock); /* a response's lock comes before a request's: next_bytes */
    ok = MHD_queue_response(r->connection, (unsigned)r->status, response);
    MHD_destroy_response(response);
    pthread_mutex_lock(&r->lock);
    return ok;
}

static enum MHD_Result rest(fs_http_request *r)
{
    r->suspended = true;
    MHD_suspend_connection(r->connection);
    return MHD_YES;
}

/* A job gets its reference before it is queued. */
static void start(fs_http_request *r)
{
    r->dispatched = true;
    r->n_refs++;
    if (!dispatch(r->server, r)) {
        r->n_refs--;
        refuse(r, 503, "no thread is left\n");
    }
}

static enum MHD_Result on_access(void *ud, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
                                 const char *data, size_t *n_data, void **request)
{
    fs_http_server *s = ud;
    fs_http_request *r = *request;
    enum MHD_Result result = MHD_YES;

    (void)url;
    (void)version;
    if (!r)
        return MHD_NO;
    pthread_mutex_lock(&r->lock);
    r->connection = connection;
    if (s->aborting || r->gone) {
        result = MHD_NO;
    } else if (!r->past_headers) {
        if (!r->begun)
            begin(r, method);
        if (!r->replied && r->route->streamed && !r->dispatched)
            start(r);
        if (r->replied)
            result = queue(r); /* before the body: it need not be sent */
        else if (r->route->streamed && !r->body_wanted)
            result = rest(r);
        r->past_headers = !r->route || !r->route->streamed || r->body_wanted || (r->replied && result == MHD_YES);
    } else if (*n_data > 0) {
        size_t n = take_body(r, data, *n_data);
        *n_data -= n;
        if (r->n_discarded > DISCARD_BYTES_MAX || (n == 0 && r->out_of_memory))
            result = MHD_NO;
        else if (*n_data > 0)
            result = rest(r);
    } else {
        if (!r->body_ended) {
            r->body_ended = true;
            pthread_cond_broadcast(&r->changed);
        }
        if (!r->replied && !r->dispatched)
            start(r);
        if (r->replied)
            result = r->response ? queue(r) : MHD_NO;
        else
            result = rest(r);
    }
    pthread_mutex_unlock(&r->lock);
    return result;
}

/* ---- the server ---- */

fs_status fs_http_server_new(const fs_http_options *options, fs_http_server **ret, fs_error *err)
{
    fs_http_server *s = calloc(1, sizeof *s);

    if (!s)
        return fs_fail_memory(err, sizeof *s);
    s->options = *options;
    if (s->options.n_threads == 0)
        s->options.n_threads = fs_cpu_count();
    if (s->options.n_workers_max == 0)
        s->options.n_workers_max = 128;
    if (s->options.n_connections_max == 0)
        s->options.n_connections_max = 4096;
    if (s->options.idle_seconds == 0)
        s->options.idle_seconds = 120;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    pthread_cond_init(&s->left, NULL);
    s->jobs_end = &s->jobs;
    *ret = s;
    return FS_OK;
}

fs_status fs_http_server_mount(fs_http_server *s, const fs_http_route *routes, size_t n_routes, void *ud, fs_error *err)
{
    if (s->n_mounts == MOUNTS_MAX)
        return fs_fail(err, FS_ERR_ARGUMENT, "more than %d tables of routes", MOUNTS_MAX);
    s->mounts[s->n_mounts++] = (mount){ routes, n_routes, ud };
    return FS_OK;
}

static fs_status address_of(const fs_http_server *s, struct addrinfo **ret, fs_error *err)
{
    const char *address = s->options.address ? s->options.address : "127.0.0.1";
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV };
    char port[16];
    int rc;

    if (strcmp(address, "localhost") == 0)
        address = "127.0.0.1";
    snprintf(port, sizeof port, "%d", s->options.port);
    rc = getaddrinfo(address, port, &hints, ret);
    return rc ? fs_fail(err, FS_ERR_ARGUMENT, "'%.100s' is no address to listen at: %s", address, gai_strerror(rc)) : FS_OK;
}

static void set_url(fs_http_server *s, const struct sockaddr *address, int port)
{
    char text[INET6_ADDRSTRLEN] = "";

    if (address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, text, sizeof text);
    else
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)address)->sin_addr, text, sizeof text);
    snprintf(s->url, sizeof s->url, address->sa_family == AF_INET6 ? "http://[%s]:%d" : "http://%s:%d", text, port);
}

fs_status fs_http_server_start(fs_http_server *s, fs_error *err)
{
    struct addrinfo *address = NULL;
    const union MHD_DaemonInfo *info;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME;
    fs_status rc = address_of(s, &address, err);

    if (rc)
        return rc;
    if (address->ai_family == AF_INET6)
        flags |= MHD_USE_IPv6;
    errno = 0;
    s->daemon = MHD_start_daemon(flags, (uint16_t)s->options.port, NULL, NULL, on_access, s,
                                 MHD_OPTION_SOCK_ADDR, address->ai_addr,
                                 MHD_OPTION_URI_LOG_CALLBACK, on_uri, s,
                                 MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEADER_BYTES_MAX,
                                 MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)4 << 10,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)s->options.n_connections_max,
                                 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)s->options.idle_seconds,
                                 MHD_OPTION_THREAD_POOL_SIZE, (unsigned)(s->options.n_threads < 2 ? 2 : s->options.n_threads),
                                 MHD_OPTION_LISTEN_BACKLOG_SIZE, 1024u,
                                 MHD_OPTION_STRICT_FOR_CLIENT, 1,
                                 MHD_OPTION_END);
    if (!s->daemon) {
        rc = fs_fail_errno(err, errno, "cannot listen at %s port %d", s->options.address ? s->options.address : "127.0.0.1", s->options.port);
    } else {
        info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);
        set_url(s, address->ai_addr, info ? info->port : s->options.port);
    }
    freeaddrinfo(address);
    return rc;
}

const char *fs_http_server_url(const fs_http_server *s)
{
    return s->url;
}

/* Under the server's lock: whoever waits for a request's client is told that it is gone; its connection goes on, to its end. A request
 * leaves the list, and is freed, under that lock only. Its own lock may be held by who wants the server's: false, then once more. */
static bool all_told_gone(fs_http_server *s)
{
    bool all = true;

    for (fs_http_request *r = s->requests; r; r = r->next) {
        if (pthread_mutex_trylock(&r->lock) != 0) {
            all = false;
            continue;
        }
        r->gone = true;
        pthread_cond_broadcast(&r->changed);
        fs_http_wake(r);
        pthread_mutex_unlock(&r->lock);
    }
    return all;
}

void fs_http_server_stop(fs_http_server *s, double drain_seconds)
{
    struct timespec until;
    double end = fs_seconds_now() + drain_seconds;
    int listening;

    if (!s)
        return;
    if (s->daemon && (listening = MHD_quiesce_daemon(s->daemon)) >= 0)
        close(listening);
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    while (s->n_requests > 0 && fs_seconds_now() < end) {
        until = seconds_from_now(1);
        pthread_cond_timedwait(&s->left, &s->lock, &until);
    }
    s->aborting = true;
    while (!all_told_gone(s) || s->n_workers > 0) {
        pthread_cond_broadcast(&s->changed);
        until = seconds_from_now(0.05);
        pthread_cond_timedwait(&s->left, &s->lock, &until);
    }
    pthread_mutex_unlock(&s->lock);
    if (s->daemon)
        MHD_stop_daemon(s->daemon);
    pthread_cond_destroy(&s->left);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
