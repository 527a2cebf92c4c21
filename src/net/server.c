/* The server: libmicrohttpd's threads move bytes, workers run handlers; a connection whose next byte has to wait for a worker is
 * suspended until then. */
#include "net/request.h"

#include "base/clock.h"
#include "base/pool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define HEADER_BYTES_MAX  ((size_t)16 << 10) /* a connection's memory, idle ones' too: request line, headers, and what a read takes at once */
#define SPARE_CONNECTIONS 64u /* a thread: connections handed over that its thread has not counted yet */
#define DISCARD_BYTES_MAX ((uint64_t)64 << 20) /* of a body that nobody wants, before the connection is closed */

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
    fs_cond_init(&r->changed);
    pthread_mutex_lock(&s->lock);
    r->next = s->requests;
    if (r->next)
        r->next->previous = r;
    s->requests = r;
    s->n_requests++;
    pthread_mutex_unlock(&s->lock);
    return r;
}

/* Memory of bodies that are n_bytes longer; false: there is none. */
static bool charge(fs_http_request *r, size_t n_bytes)
{
    fs_http_server *s = r->server;
    bool known = r->known || !r->mount->admit;
    uint64_t most = s->options.buffered_bytes_max;

    if (atomic_fetch_add(&s->n_buffered, n_bytes) + n_bytes > most ||
        (!known && atomic_fetch_add(&s->n_buffered_unknown, n_bytes) + n_bytes > most / 2 && (atomic_fetch_sub(&s->n_buffered_unknown, n_bytes), true))) {
        atomic_fetch_sub(&s->n_buffered, n_bytes);
        return false;
    }
    r->n_charged += n_bytes;
    return true;
}

static void uncharge(fs_http_request *r)
{
    if (!r->n_charged)
        return;
    atomic_fetch_sub(&r->server->n_buffered, r->n_charged);
    if (!r->known && r->mount->admit)
        atomic_fetch_sub(&r->server->n_buffered_unknown, r->n_charged);
    r->n_charged = 0;
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
    uncharge(r);
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

/* ---- what libmicrohttpd calls ---- */

/* A header's name (RFC 9110 section 5.6.2): with a space in it, before the colon say, another reader may take it for another. */
static bool is_token(const char *name)
{
    for (const char *p = name; *p; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("!#$%&'*+-.^_`|~", *p)))
            return false;
    return *name;
}

/* Says where the request ends or for whom it is: of two one must be wrong. */
static bool is_once(const char *name)
{
    return strcasecmp(name, "Content-Length") == 0 || strcasecmp(name, "Transfer-Encoding") == 0 || strcasecmp(name, "Host") == 0;
}

static enum MHD_Result on_header(void *ud, enum MHD_ValueKind kind, const char *name, const char *value)
{
    fs_http_request *r = ud;

    (void)kind;
    if (!is_token(name) || (is_once(name) && fs_http_header(r, name)))
        r->broken = true;
    if (fs_http_pairs_add(&r->headers, name, value ? value : "") != FS_OK)
        r->out_of_memory = true;
    return MHD_YES;
}

static void refuse(fs_http_request *r, int status, const char *sentence)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(strlen(sentence), (void *)(uintptr_t)sentence, MHD_RESPMEM_PERSISTENT);

    if (response)
        MHD_add_response_header(response, "Content-Type", "text/plain");
    if (response && status == 503)
        MHD_add_response_header(response, "Retry-After", "1");
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
                r->mount = &s->mounts[m];
                r->body_bytes_max = route->body_bytes_max;
                r->lane = route->streamed ? LANE_STREAMS : LANE_PLAIN;
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
    if (r->out_of_memory || r->broken || (length && coding) || (length && !r->has_length) || (coding && strcasecmp(coding, "chunked") != 0) ||
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
    if (r->n_received == 0)
        r->body_started = fs_seconds_now();
    if (n_bytes > r->body_bytes_max - r->n_received) {
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
    } else if (!charge(r, n) || fs_buf_append(&r->body, data, n, NULL) != FS_OK) {
        fs_buf_done(&r->body);
        uncharge(r);
        refuse(r, 503, "no memory is left for this body: try again\n");
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
    r->n_refs++;
    if (!fs_http_dispatch(r->server, r)) {
        r->n_refs--;
        r->asking = false;
        refuse(r, 503, "no thread is left\n");
    }
}

/* Whether the table's owner is to be asked before the body comes. */
static bool is_to_ask(const fs_http_request *r)
{
    return !r->route->streamed && !r->admitted && r->mount->admit && r->body_bytes_max > FS_HTTP_SMALL_BYTES &&
           (fs_http_header(r, "Transfer-Encoding") || (r->has_length && r->content_length > FS_HTTP_SMALL_BYTES));
}

/* With the headers: whether the body may come; a reply without it. */
static enum MHD_Result head(fs_http_request *r, const char *method)
{
    if (!r->begun)
        begin(r, method);
    if (!r->replied && r->route->streamed && !r->dispatched) {
        r->dispatched = true;
        start(r);
    }
    if (!r->replied && !r->asking && is_to_ask(r)) {
        r->asking = true;
        start(r);
    }
    if (!r->replied && !r->asking && r->admitted && r->has_length && r->content_length > r->body_bytes_max)
        refuse(r, 413, "the body is too large for who sends it\n");
    if (r->replied) { /* before the body: it need not be sent */
        enum MHD_Result result = queue(r);
        r->past_headers = result == MHD_YES;
        return result;
    }
    if (r->asking || (r->route->streamed && !r->body_wanted))
        return rest(r);
    r->past_headers = true;
    return MHD_YES;
}

/* A body that is waited for in memory: the same floor as for streams, while many are there. */
static bool arrives_too_slowly(const fs_http_request *r)
{
    const fs_http_options *o = &r->server->options;
    double seconds = fs_seconds_now() - r->body_started;

    return r->route && !r->route->streamed && seconds > o->patience_seconds && (double)r->n_received < (double)o->rate_min * seconds;
}

static void set_client(fs_http_request *r)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);

    if (info && info->client_addr && info->client_addr->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)info->client_addr)->sin_addr, r->client, sizeof r->client);
    else if (info && info->client_addr && info->client_addr->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)info->client_addr)->sin6_addr, r->client, sizeof r->client);
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
        set_client(r);
        result = head(r, method);
    } else if (*n_data > 0) {
        size_t n = take_body(r, data, *n_data);
        *n_data -= n;
        if (r->n_discarded > DISCARD_BYTES_MAX || (n == 0 && r->out_of_memory) || r->too_slow || arrives_too_slowly(r))
            result = MHD_NO;
        else if (*n_data > 0)
            result = rest(r);
    } else {
        if (!r->body_ended) {
            r->body_ended = true;
            pthread_cond_broadcast(&r->changed);
        }
        if (!r->replied && !r->dispatched) {
            r->dispatched = true;
            start(r);
        }
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
    if (s->options.n_streams_max == 0)
        s->options.n_streams_max = 512;
    if (s->options.n_connections_max == 0)
        s->options.n_connections_max = 4096;
    if (s->options.idle_seconds == 0)
        s->options.idle_seconds = 120;
    if (s->options.patience_seconds == 0)
        s->options.patience_seconds = 60;
    if (s->options.rate_min == 0)
        s->options.rate_min = 4096;
    if (s->options.buffered_bytes_max == 0)
        s->options.buffered_bytes_max = (uint64_t)256 << 20;
    if (s->options.keep_alive_seconds == 0)
        s->options.keep_alive_seconds = 15;
    pthread_mutex_init(&s->lock, NULL);
    fs_cond_init(&s->changed);
    fs_cond_init(&s->left);
    fs_cond_init(&s->tick);
    fs_http_lanes_init(s);
    *ret = s;
    return FS_OK;
}

fs_status fs_http_server_mount(fs_http_server *s, const fs_http_route *routes, size_t n_routes, void *ud, fs_http_admit *admit, fs_error *err)
{
    if (s->n_mounts == MOUNTS_MAX)
        return fs_fail(err, FS_ERR_ARGUMENT, "more than %d tables of routes", MOUNTS_MAX);
    s->mounts[s->n_mounts++] = (fs_http_mount){ routes, n_routes, ud, admit };
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
    snprintf(s->url, sizeof s->url, address->sa_family == AF_INET6 ? "http%s://[%s]:%d" : "http%s://%s:%d", s->options.tls_cert ? "s" : "", text, port);
}

/* libmicrohttpd would only say that it cannot start. */
static fs_status check_tls(const fs_http_options *o, fs_error *err)
{
    BIO *cert_text = BIO_new_mem_buf(o->tls_cert, -1), *key_text = BIO_new_mem_buf(o->tls_key ? o->tls_key : "", -1);
    X509 *cert = cert_text ? PEM_read_bio_X509(cert_text, NULL, NULL, NULL) : NULL;
    EVP_PKEY *key = key_text ? PEM_read_bio_PrivateKey(key_text, NULL, NULL, NULL) : NULL;
    fs_status rc = FS_OK;

    if (!cert || !key)
        rc = fs_fail(err, FS_ERR_FORMAT, "the TLS %s is none in PEM", cert ? "key" : "certificate");
    else if (X509_check_private_key(cert, key) != 1)
        rc = fs_fail(err, FS_ERR_FORMAT, "the TLS key is not the certificate's");
    EVP_PKEY_free(key);
    X509_free(cert);
    BIO_free(key_text);
    BIO_free(cert_text);
    return rc;
}

fs_status fs_http_server_start(fs_http_server *s, fs_error *err)
{
    struct addrinfo *address = NULL;
    unsigned n_threads = (unsigned)(s->options.n_threads < 2 ? 2 : s->options.n_threads), n_connections = (unsigned)s->options.n_connections_max;
    struct MHD_OptionItem tls[4] = { { MHD_OPTION_END, 0, NULL } };
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET;
    fs_status rc = s->options.tls_cert ? check_tls(&s->options, err) : FS_OK;

    if (!rc)
        rc = address_of(s, &address, err);
    if (rc)
        return rc;
    rc = fs_listener_new(address, s->options.address ? s->options.address : "127.0.0.1", s->options.port, &s->listener, err);
    if (!rc)
        set_url(s, address->ai_addr, fs_listener_port(s->listener));
    freeaddrinfo(address);
    if (rc)
        return rc;
    if (s->options.tls_cert) {
        flags |= MHD_USE_TLS;
        tls[0] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)s->options.tls_cert };
        tls[1] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)s->options.tls_key };
        tls[2] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2" };
        tls[3] = (struct MHD_OptionItem){ MHD_OPTION_END, 0, NULL };
    }
    errno = 0;
    s->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_access, s,
                                 MHD_OPTION_URI_LOG_CALLBACK, on_uri, s,
                                 MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEADER_BYTES_MAX,
                                 MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)4 << 10,
                                 MHD_OPTION_CONNECTION_LIMIT, n_connections + n_threads * SPARE_CONNECTIONS,
                                 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)s->options.idle_seconds,
                                 MHD_OPTION_THREAD_POOL_SIZE, n_threads,
                                 MHD_OPTION_STRICT_FOR_CLIENT, 1,
                                 MHD_OPTION_ARRAY, tls,
                                 MHD_OPTION_END);
    if (!s->daemon)
        return fs_fail_errno(err, errno, "cannot start the HTTP server's threads");
    return fs_listener_start(s->listener, s->daemon, n_connections, err);
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
    double end = fs_seconds_now() + drain_seconds;

    if (!s)
        return;
    fs_listener_stop(s->listener);
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    while (s->n_requests > 0 && fs_seconds_now() < end)
        fs_cond_wait_until(&s->left, &s->lock, fs_seconds_now() + 1);
    s->aborting = true;
    while (!all_told_gone(s) || s->n_workers > 0) {
        pthread_cond_broadcast(&s->changed);
        pthread_cond_broadcast(&s->tick);
        fs_cond_wait_until(&s->left, &s->lock, fs_seconds_now() + 0.05);
    }
    pthread_mutex_unlock(&s->lock);
    if (s->daemon)
        MHD_stop_daemon(s->daemon);
    pthread_cond_destroy(&s->tick);
    pthread_cond_destroy(&s->left);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
