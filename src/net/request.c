/* Requests: their parts, and what handlers do with them. */
#include "net/request.h"

#include "base/clock.h"
#include "net/url.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- pairs and rings ---- */

fs_status fs_http_pairs_add(fs_http_pairs *p, const char *name, const char *value)
{
    size_t n_name = strlen(name) + 1, n_value = strlen(value) + 1;
    char *text;

    if (p->n == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 16;
        fs_http_pair *items = realloc(p->items, capacity * sizeof *items);
        if (!items)
            return FS_ERR_MEMORY;
        p->items = items;
        p->capacity = capacity;
    }
    text = malloc(n_name + n_value);
    if (!text)
        return FS_ERR_MEMORY;
    memcpy(text, name, n_name);
    memcpy(text + n_name, value, n_value);
    p->items[p->n++] = (fs_http_pair){ text, text + n_name };
    return FS_OK;
}

void fs_http_pairs_done(fs_http_pairs *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->items[i].name);
    free(p->items);
    *p = (fs_http_pairs){ 0 };
}

size_t fs_http_ring_put(fs_http_ring *ring, const void *data, size_t n_bytes)
{
    const uint8_t *from = data;
    size_t n, end, first;

    if (!ring->data && !(ring->data = malloc(RING_BYTES)))
        return 0;
    n = n_bytes < RING_BYTES - ring->n_bytes ? n_bytes : RING_BYTES - ring->n_bytes;
    end = (ring->begin + ring->n_bytes) % RING_BYTES;
    first = n < RING_BYTES - end ? n : RING_BYTES - end;
    memcpy(ring->data + end, from, first);
    memcpy(ring->data, from + first, n - first);
    ring->n_bytes += n;
    return n;
}

size_t fs_http_ring_take(fs_http_ring *ring, void *ret, size_t capacity)
{
    uint8_t *to = ret;
    size_t n = capacity < ring->n_bytes ? capacity : ring->n_bytes, first;

    if (n == 0)
        return 0;
    first = n < RING_BYTES - ring->begin ? n : RING_BYTES - ring->begin;
    memcpy(to, ring->data + ring->begin, first);
    memcpy(to + first, ring->data, n - first);
    ring->begin = (ring->begin + n) % RING_BYTES;
    ring->n_bytes -= n;
    if (ring->n_bytes == 0)
        ring->begin = 0;
    return n;
}

/* ---- parsing ---- */

#define QUERY_PAIRS_MAX 1024

bool fs_http_request_parse(fs_http_request *r)
{
    char *question = strchr(r->uri, '?');
    fs_bytes rest, name, value;

    r->path = question ? strndup(r->uri, (size_t)(question - r->uri)) : strdup(r->uri);
    r->query_text = strdup(question ? question + 1 : "");
    if (!r->path || !r->query_text || r->path[0] != '/')
        return false;
    rest = fs_bytes_str(r->query_text);
    while (fs_url_next_pair(&rest, &name, &value)) {
        char *k = malloc(name.n_bytes + 1), *v = malloc(value.n_bytes + 1);
        bool ok = k && v && r->query.n < QUERY_PAIRS_MAX && fs_url_decode(name, true, k) && fs_url_decode(value, true, v);
        if (ok && fs_ends_with(k, "[]"))
            k[strlen(k) - 2] = 0;
        ok = ok && fs_http_pairs_add(&r->query, k, v) == FS_OK;
        free(k);
        free(v);
        if (!ok)
            return false;
    }
    return true;
}

static void params_clear(fs_http_request *r)
{
    for (int i = 0; i < r->n_params; i++)
        free(r->params[i]);
    r->n_params = 0;
}

bool fs_http_request_match(fs_http_request *r, const fs_http_route *route, bool *ret_bad)
{
    const char *p = r->path, *want = route->path;

    *ret_bad = false;
    params_clear(r);
    while (*want) {
        size_t n, n_want;
        if (strcmp(want, "/{*}") == 0) {
            if (*p && *p != '/')
                break;
            r->params[r->n_params++] = strdup(*p ? p + 1 : "");
            return true;
        }
        if (*p != '/')
            break;
        n = strcspn(++p, "/");
        n_want = strcspn(++want, "/");
        if (n_want == 2 && memcmp(want, "{}", 2) == 0) {
            char *text = malloc(n + 1);
            if (n == 0 || !text || !fs_url_decode((fs_bytes){ (const uint8_t *)p, n }, false, text)) {
                *ret_bad = n > 0;
                free(text);
                if (n == 0)
                    break;
                text = strdup("");
            }
            r->params[r->n_params++] = text;
        } else if (n != n_want || memcmp(p, want, n) != 0) {
            break;
        }
        p += n;
        want += n_want;
    }
    if (*want || *p) {
        params_clear(r);
        return false;
    }
    return true;
}

/* ---- asking ---- */

const char *fs_http_method(const fs_http_request *r)
{
    return r->method;
}

const char *fs_http_client(const fs_http_request *r)
{
    return r->client;
}

const char *fs_http_uri(const fs_http_request *r)
{
    return r->uri;
}

const void *fs_http_route_arg(const fs_http_request *r)
{
    return r->route->arg;
}

bool fs_http_is_tls(const fs_http_request *r)
{
    return r->server->options.tls_cert != NULL;
}

const char *fs_http_param(const fs_http_request *r, int i)
{
    return i < r->n_params && r->params[i] ? r->params[i] : "";
}

int fs_http_n_params(const fs_http_request *r)
{
    return r->n_params;
}

const char *fs_http_query(const fs_http_request *r, const char *name, int i)
{
    for (size_t k = 0; k < r->query.n; k++)
        if (strcmp(r->query.items[k].name, name) == 0 && i-- == 0)
            return r->query.items[k].value;
    return NULL;
}

const char *fs_http_query_raw(const fs_http_request *r)
{
    return r->query_text;
}

const char *fs_http_header(const fs_http_request *r, const char *name)
{
    for (size_t k = 0; k < r->headers.n; k++)
        if (strcasecmp(r->headers.items[k].name, name) == 0)
            return r->headers.items[k].value;
    return NULL;
}

fs_bytes fs_http_body(const fs_http_request *r)
{
    return fs_buf_bytes(&r->body);
}

bool fs_http_content_length(const fs_http_request *r, uint64_t *ret)
{
    if (r->has_length)
        *ret = r->content_length;
    return r->has_length;
}

bool fs_http_await_client(fs_http_request *r)
{
    double begin = fs_seconds_now(), floor;

    fs_cond_wait_until(&r->changed, &r->lock, begin + 1);
    r->waited += fs_seconds_now() - begin;
    if (r->waited < r->server->options.patience_seconds)
        return true;
    floor = (double)fs_http_rate_floor(r->server) * r->waited;
    r->too_slow = r->too_slow || (double)r->n_moved < floor;
    r->waited = 0;
    r->n_moved = 0;
    return !r->too_slow;
}

static fs_status too_slow(fs_error *err)
{
    return fs_fail(err, FS_ERR_IO, "the client is too slow");
}

fs_status fs_http_read(fs_http_request *r, void *buf, size_t capacity, size_t *ret_n, fs_error *err)
{
    fs_status rc = FS_OK;
    size_t n = 0;

    pthread_mutex_lock(&r->lock);
    if (!r->body_wanted) {
        r->body_wanted = true;
        fs_http_wake(r);
    }
    while (r->in.n_bytes == 0 && !r->body_ended && !r->gone && !r->too_large && !r->out_of_memory && !r->too_slow)
        fs_http_await_client(r);
    if (r->too_large)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "the body is over %llu bytes", (unsigned long long)r->body_bytes_max);
    else if (r->too_slow)
        rc = too_slow(err);
    else if (r->out_of_memory)
        rc = fs_fail_memory(err, RING_BYTES);
    else if (r->in.n_bytes == 0 && !r->body_ended)
        rc = fs_fail(err, FS_ERR_IO, "the client went away");
    else
        n = fs_http_ring_take(&r->in, buf, capacity);
    r->n_moved += n;
    if (n > 0 && r->in.n_bytes <= RING_BYTES / 2)
        fs_http_wake(r);
    pthread_mutex_unlock(&r->lock);
    if (!rc)
        *ret_n = n;
    return rc;
}

/* ---- replying ---- */

void fs_http_reply_header(fs_http_request *r, const char *name, const char *value)
{
    for (const char *c = value; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return;
    if (fs_http_pairs_add(&r->reply_headers, name, value) != FS_OK) {
        pthread_mutex_lock(&r->lock);
        r->out_of_memory = true;
        pthread_mutex_unlock(&r->lock);
    }
}

void fs_http_reply_headerf(fs_http_request *r, const char *name, const char *format, ...)
{
    char *text = NULL;
    va_list ap;
    int n;

    va_start(ap, format);
    n = vasprintf(&text, format, ap);
    va_end(ap);
    if (n >= 0)
        fs_http_reply_header(r, name, text);
    if (n >= 0)
        free(text);
}

void fs_http_reply_with(fs_http_request *r, int status, const char *type, struct MHD_Response *response)
{
    if (response) {
        if (type)
            MHD_add_response_header(response, "Content-Type", type);
        for (size_t i = 0; i < r->reply_headers.n; i++)
            MHD_add_response_header(response, r->reply_headers.items[i].name, r->reply_headers.items[i].value);
    }
    pthread_mutex_lock(&r->lock);
    if (!r->replied && !r->gone) {
        r->response = response; /* NULL: no memory, the connection is closed */
        response = NULL;
    }
    if (!r->replied)
        r->status = status;
    r->replied = true;
    fs_http_wake(r);
    pthread_mutex_unlock(&r->lock);
    if (response)
        MHD_destroy_response(response);
}

void fs_http_reply(fs_http_request *r, int status, const char *type, const void *data, size_t n_bytes)
{
    fs_http_reply_with(r, status, type, MHD_create_response_from_buffer(n_bytes, (void *)(uintptr_t)data, MHD_RESPMEM_MUST_COPY));
}

void fs_http_reply_buf(fs_http_request *r, int status, const char *type, fs_buf *body)
{
    if (!body->data) {
        fs_http_reply(r, status, type, "", 0);
        return;
    }
    fs_http_reply_with(r, status, type, MHD_create_response_from_buffer(body->n_bytes, body->data, MHD_RESPMEM_MUST_FREE));
    *body = (fs_buf){ 0 };
}

static ssize_t next_bytes(void *ud, uint64_t pos, char *buf, size_t capacity)
{
    fs_http_request *r = ud;
    ssize_t n;

    (void)pos;
    pthread_mutex_lock(&r->lock);
    n = (ssize_t)fs_http_ring_take(&r->out, buf, capacity);
    if (n > 0) {
        pthread_cond_broadcast(&r->changed);
    } else if (r->out_broken || r->gone) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (r->out_ended) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else if (r->connection) {
        r->head_sent = true;
        pthread_cond_broadcast(&r->changed);
        r->suspended = true;
        MHD_suspend_connection(r->connection);
    }
    pthread_mutex_unlock(&r->lock);
    return n;
}

static void stream_done(void *ud)
{
    fs_http_request_unref(ud);
}

struct MHD_Response *fs_http_stream_response(fs_http_request *r, uint64_t n_bytes, size_t block_bytes)
{
    struct MHD_Response *response = MHD_create_response_from_callback(n_bytes, block_bytes, next_bytes, r, stream_done);

    if (response) {
        pthread_mutex_lock(&r->lock);
        r->n_refs++;
        pthread_mutex_unlock(&r->lock);
    }
    return response;
}

static void begin_stream(fs_http_request *r, int status, const char *type, uint64_t n_bytes)
{
    fs_http_become_stream(r);
    fs_http_reply_with(r, status, type, fs_http_stream_response(r, n_bytes, 64 << 10));
}

void fs_http_stream_begin(fs_http_request *r, int status, const char *type)
{
    begin_stream(r, status, type, MHD_SIZE_UNKNOWN);
}

void fs_http_stream_begin_sized(fs_http_request *r, int status, const char *type, uint64_t n_bytes)
{
    begin_stream(r, status, type, n_bytes);
}

fs_status fs_http_stream_write(fs_http_request *r, const void *data, size_t n_bytes, fs_error *err)
{
    const uint8_t *p = data;
    fs_status rc = FS_OK;

    pthread_mutex_lock(&r->lock);
    r->writing = true;
    while (n_bytes > 0 && !rc) {
        size_t n = r->gone || r->too_slow ? 0 : fs_http_ring_put(&r->out, p, n_bytes);
        if (r->gone || (n == 0 && !r->out.data)) {
            rc = fs_fail(err, FS_ERR_IO, "the client went away");
        } else if (r->too_slow) {
            r->out_broken = true;
            fs_http_wake(r);
            rc = too_slow(err);
        } else if (n == 0) {
            fs_http_await_client(r);
        } else {
            p += n;
            n_bytes -= n;
            r->n_moved += n;
            fs_http_wake(r);
        }
    }
    r->writing = false;
    r->written = fs_seconds_now();
    pthread_mutex_unlock(&r->lock);
    return rc;
}

void fs_http_stream_break(fs_http_request *r)
{
    pthread_mutex_lock(&r->lock);
    r->out_broken = true;
    pthread_mutex_unlock(&r->lock);
}

void fs_http_events_begin(fs_http_request *r)
{
    fs_http_reply_header(r, "Cache-Control", "no-cache");
    fs_http_reply_header(r, "X-Accel-Buffering", "no"); /* nginx would keep them */
    fs_http_stream_begin(r, 200, "text/event-stream");
    pthread_mutex_lock(&r->lock);
    r->events = true;
    r->written = fs_seconds_now();
    pthread_mutex_unlock(&r->lock);
    fs_http_tick(r->server);
}

fs_status fs_http_event(fs_http_request *r, const char *event, fs_bytes data, fs_error *err)
{
    fs_buf b = { 0 };
    size_t at = 0;
    fs_status rc = event ? fs_buf_printf(&b, err, "event: %s\n", event) : FS_OK;

    while (!rc) { /* each line by itself; CR, LF and both end one */
        size_t n = 0;
        while (at + n < data.n_bytes && data.data[at + n] != '\n' && data.data[at + n] != '\r')
            n++;
        rc = fs_buf_append_str(&b, "data: ", err);
        if (!rc)
            rc = fs_buf_append(&b, data.data + at, n, err);
        if (!rc)
            rc = fs_buf_append_str(&b, "\n", err);
        at += n;
        if (at >= data.n_bytes)
            break;
        at += data.data[at] == '\r' && at + 1 < data.n_bytes && data.data[at + 1] == '\n' ? 2 : 1;
    }
    if (!rc)
        rc = fs_buf_append_str(&b, "\n", err);
    if (!rc)
        rc = fs_http_stream_write(r, b.data, b.n_bytes, err);
    fs_buf_done(&b);
    return rc;
}

void fs_http_wake(fs_http_request *r)
{
    if (r->suspended && r->connection) {
        r->suspended = false;
        MHD_resume_connection(r->connection);
    }
}
