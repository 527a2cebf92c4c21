/* See the header. */
#include "net/fetch.h"

#include "net/address.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define REDIRECTS_MAX    5
#define HEADER_BYTES_MAX ((size_t)64 << 10)
#define CONNECT_SECONDS  20L

struct fs_fetch {
    CURL *curl;
    char message[CURL_ERROR_SIZE];
    fs_buf headers; /* of the last reply, lines as they came */
    char value[4096];
    int status;
    bool (*go_on)(void *ud);
    void *go_on_ud;
    /* of the transfer under way */
    fs_fetch_sink *sink;
    void *sink_ud;
    const fs_fetch_part *part;
    uint64_t n_sent;
    bool any_status, stopped, guarded;
    bool refused, any_address; /* any_address: of the request under way */
    const char *home;          /* the origin that was chosen; NULL: none */
    fs_status sink_rc;
    fs_error sink_err;
};

static void setup(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

fs_status fs_fetch_new(const char *user_agent, fs_fetch **ret, fs_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    fs_fetch *f = calloc(1, sizeof *f);

    pthread_once(&once, setup);
    if (!f || !(f->curl = curl_easy_init())) {
        free(f);
        return fs_fail_memory(err, sizeof *f);
    }
    curl_easy_setopt(f->curl, CURLOPT_USERAGENT, user_agent);
    *ret = f;
    return FS_OK;
}

void fs_fetch_free(fs_fetch *f)
{
    if (!f)
        return;
    curl_easy_cleanup(f->curl);
    fs_buf_done(&f->headers);
    free(f);
}

void fs_fetch_watch(fs_fetch *f, bool (*go_on)(void *ud), void *ud)
{
    f->go_on = go_on;
    f->go_on_ud = ud;
}

static curl_socket_t connect_public(void *ud, curlsocktype purpose, struct curl_sockaddr *a)
{
    (void)ud;
    (void)purpose;
    return fs_address_is_public(&a->addr) ? socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol) : CURL_SOCKET_BAD;
}

void fs_fetch_guard(fs_fetch *f, bool private_too, int seconds)
{
    f->guarded = true;
    if (!private_too)
        curl_easy_setopt(f->curl, CURLOPT_OPENSOCKETFUNCTION, connect_public);
    curl_easy_setopt(f->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(f->curl, CURLOPT_TIMEOUT, (long)seconds);
}

void fs_fetch_keep_to(fs_fetch *f, const char *base)
{
    f->home = base;
}

/* ---- what curl calls ---- */

/* The address that is really connected to: a name may mean another one each time. */
static curl_socket_t open_socket(void *ud, curlsocktype purpose, struct curl_sockaddr *a)
{
    fs_fetch *f = ud;

    (void)purpose;
    if (!f->any_address && !fs_address_is_public(&a->addr)) {
        f->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static size_t take_header(char *data, size_t size, size_t n, void *ud)
{
    fs_fetch *f = ud;
    size_t n_bytes = size * n;

    if (n_bytes >= 5 && !memcmp(data, "HTTP/", 5))
        fs_buf_clear(&f->headers); /* of the reply that counts: the last one */
    if (f->headers.n_bytes + n_bytes > HEADER_BYTES_MAX || fs_buf_append(&f->headers, data, n_bytes, NULL))
        return 0;
    return n_bytes;
}

static size_t take_body(char *data, size_t size, size_t n, void *ud)
{
    fs_fetch *f = ud;
    long status = 0;

    curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &status);
    if (!f->any_status && (status < 200 || status > 299))
        return size * n;
    f->sink_rc = f->sink(f->sink_ud, data, size * n, &f->sink_err);
    return f->sink_rc ? 0 : size * n;
}

static size_t give_body(char *data, size_t size, size_t n, void *ud)
{
    fs_fetch *f = ud;
    uint64_t left = f->part->n_bytes - f->n_sent, room = size * n;
    ssize_t got = pread(f->part->fd, data, left < room ? left : room, (off_t)(f->part->offset + f->n_sent));

    if (got < 0 || (got == 0 && left > 0))
        return CURL_READFUNC_ABORT;
    f->n_sent += (uint64_t)got;
    if (f->part->sent && got)
        f->part->sent(f->part->ud, (uint64_t)got);
    return (size_t)got;
}

/* curl sends a body again after a connection that was closed while it rested. */
static int seek_body(void *ud, curl_off_t offset, int origin)
{
    fs_fetch *f = ud;

    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > f->part->n_bytes)
        return CURL_SEEKFUNC_FAIL;
    f->n_sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

static int watch(void *ud, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    fs_fetch *f = ud;

    (void)a, (void)b, (void)c, (void)d;
    f->stopped = f->go_on && !f->go_on(f->go_on_ud);
    return f->stopped;
}

/* ---- a request ---- */
static struct curl_slist *add(struct curl_slist *list, const char *line, bool *ok)
{
    struct curl_slist *longer = *ok ? curl_slist_append(list, line) : NULL;

    *ok = *ok && longer != NULL;
    return longer ? longer : list;
}

/* Scheme, host and port of a URL: what a token was given for. */
static bool origin_of(const char *url, char ret[512])
{
    CURLU *u = curl_url();
    char *scheme = NULL, *host = NULL, *port = NULL;
    bool ok = u && !curl_url_set(u, CURLUPART_URL, url, 0) && !curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) && !curl_url_get(u, CURLUPART_HOST, &host, 0) &&
              !curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);

    ok = ok && snprintf(ret, 512, "%s://%s:%s", scheme, host, port) < 512;
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    return ok;
}

bool fs_fetch_same_origin(const char *a, const char *b)
{
    char of_a[512], of_b[512];

    return origin_of(a, of_a) && origin_of(b, of_b) && !strcmp(of_a, of_b);
}

/* The headers of q; the token only where url is of the origin. */
static struct curl_slist *header_list(const fs_fetch_request *q, const char *url, bool *ok)
{
    char *line = NULL;
    struct curl_slist *list = NULL;

    for (size_t i = 0; q->headers && q->headers[i]; i++)
        list = add(list, q->headers[i], ok);
    if (q->token && *q->token && fs_fetch_same_origin(url, q->url)) {
        *ok = *ok && asprintf(&line, "Authorization: Bearer %s", q->token) >= 0;
        if (*ok)
            list = add(list, line, ok);
        free(line);
    }
    return list;
}

static fs_status one(fs_fetch *f, const fs_fetch_request *q, const char *url, fs_error *err)
{
    CURL *c = f->curl;
    char range[64];
    bool ok = true;
    struct curl_slist *list = header_list(q, url, &ok);
    long status = 0;
    CURLcode rc;

    if (!ok) {
        curl_slist_free_all(list);
        return fs_fail_memory(err, 0);
    }
    fs_buf_clear(&f->headers);
    f->status = 0;
    f->stopped = false;
    f->sink_rc = FS_OK;
    f->message[0] = 0;
    f->refused = false;
    if (f->home) {
        f->any_address = fs_fetch_same_origin(url, f->home);
        curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket);
        curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, f);
        curl_easy_setopt(c, CURLOPT_NOPROXY, f->any_address ? NULL : "*");
    }
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, f->message);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)(q->silence_seconds ? q->silence_seconds : 30));
    curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L << 10);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, list);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, f);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, f);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, watch);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, f);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_NOBODY, 0L);
    curl_easy_setopt(c, CURLOPT_UPLOAD, 0L);
    curl_easy_setopt(c, CURLOPT_HTTPGET, 1L);
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, NULL);
    f->part = q->part;
    f->n_sent = 0;
    if (q->part) {
        curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(c, CURLOPT_READFUNCTION, give_body);
        curl_easy_setopt(c, CURLOPT_READDATA, f);
        curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, seek_body);
        curl_easy_setopt(c, CURLOPT_SEEKDATA, f);
        curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)q->part->n_bytes);
        curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, 512L << 10);
    } else if (q->body.data) {
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body.n_bytes);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->body.data);
    }
    if (q->method && !strcmp(q->method, "HEAD"))
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    else if (q->method && strcmp(q->method, q->part ? "PUT" : q->body.data ? "POST" : "GET") != 0)
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
    snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)q->range_begin, (unsigned long long)(q->range_begin + q->range_bytes - 1));
    curl_easy_setopt(c, CURLOPT_RANGE, q->range_bytes ? range : NULL);
    rc = curl_easy_perform(c);
    curl_slist_free_all(list);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, NULL);
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, NULL);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    f->status = (int)status;
    if (f->sink_rc) {
        if (err)
            *err = f->sink_err;
        return f->sink_rc;
    }
    if (f->stopped)
        return fs_fail(err, FS_ERR_INTERRUPTED, "interrupted");
    if (rc != CURLE_OK && f->refused)
        return fs_fail(err, FS_ERR_IO, "%s is at an address of this machine or its neighbours, which only who runs this may name", url);
    if (rc != CURLE_OK)
        return fs_fail(err, FS_ERR_IO, "%s: %s", url, f->message[0] ? f->message : curl_easy_strerror(rc));
    return FS_OK;
}

static bool is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static fs_status nothing(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    (void)ud, (void)data, (void)n_bytes, (void)err;
    return FS_OK;
}

fs_status fs_fetch_run(fs_fetch *f, const fs_fetch_request *q, fs_fetch_sink *sink, void *ud, fs_error *err)
{
    char *url = strdup(q->url);
    fs_status rc = url ? FS_OK : fs_fail_memory(err, strlen(q->url));

    f->sink = sink ? sink : nothing;
    f->sink_ud = ud;
    for (int n = 0; !rc; n++) {
        char *next = NULL;
        rc = one(f, q, url, err);
        if (rc || !is_redirect(f->status) || f->guarded)
            break;
        if (curl_easy_getinfo(f->curl, CURLINFO_REDIRECT_URL, &next) != CURLE_OK || !next || n == REDIRECTS_MAX) {
            rc = fs_fail(err, FS_ERR_IO, "%s: %s", url, n == REDIRECTS_MAX ? "too many redirects" : "a redirect that leads nowhere");
            break;
        }
        free(url);
        url = strdup(next);
        if (!url)
            rc = fs_fail_memory(err, strlen(next));
    }
    free(url);
    return rc;
}

struct whole {
    fs_buf *out;
    size_t max_bytes;
};

static fs_status keep(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    struct whole *w = ud;

    if (n_bytes > w->max_bytes - w->out->n_bytes)
        return fs_fail(err, FS_ERR_FORMAT, "a reply of more than %zu bytes", w->max_bytes);
    return fs_buf_append(w->out, data, n_bytes, err);
}

fs_status fs_fetch_whole(fs_fetch *f, const fs_fetch_request *q, size_t max_bytes, fs_buf *out, fs_error *err)
{
    struct whole w = { out, max_bytes };
    fs_status rc;

    fs_buf_clear(out);
    f->any_status = true;
    rc = fs_fetch_run(f, q, keep, &w, err);
    f->any_status = false;
    return rc;
}

/* ---- the reply ---- */
int fs_fetch_status(const fs_fetch *f)
{
    return f->status;
}

const char *fs_fetch_url(const fs_fetch *f)
{
    char *url = NULL;

    return curl_easy_getinfo(f->curl, CURLINFO_EFFECTIVE_URL, &url) == CURLE_OK && url ? url : "";
}

const char *fs_fetch_header(fs_fetch *f, const char *name)
{
    size_t n_name = strlen(name);

    for (const char *line = f->headers.data; line && *line;) {
        const char *end = strchr(line, '\n');
        size_t n = end ? (size_t)(end - line) : strlen(line);
        if (n > n_name && !strncasecmp(line, name, n_name) && line[n_name] == ':') {
            fs_bytes v = fs_bytes_trim((fs_bytes){ (const uint8_t *)line + n_name + 1, n - n_name - 1 }, FS_SPACES);
            snprintf(f->value, sizeof f->value, "%.*s", (int)v.n_bytes, (const char *)v.data);
            return f->value;
        }
        line = end ? end + 1 : NULL;
    }
    return NULL;
}

bool fs_fetch_link(fs_fetch *f, const char *rel, fs_buf *ret)
{
    const char *link = fs_fetch_header(f, "Link");
    char want[64];

    snprintf(want, sizeof want, "rel=\"%s\"", rel);
    while (link && (link = strchr(link, '<'))) {
        const char *end = strchr(link, '>'), *next = end ? strchr(end, '<') : NULL, *found = end ? strstr(end, want) : NULL;
        if (!end)
            return false;
        if (found && (!next || found < next)) {
            fs_buf_clear(ret);
            return fs_buf_append(ret, link + 1, (size_t)(end - link - 1), NULL) == FS_OK;
        }
        link = next;
    }
    return false;
}
