/* See the header. */
#include "net/s3.h"

#include "crypto/sha256.h"
#include "net/sigv4.h"
#include "net/url.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define TRIES          5
#define SILENCE        20 /* seconds */
#define REST_MAX       16 /* connections that are kept */
#define REPLY_MAX      ((size_t)4 << 20)
#define EMPTY_SHA256   "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct fs_s3 {
    char *endpoint, *host, *region, *bucket, *prefix, *access_key, *secret_key, *session_token;
    pthread_mutex_t lock;
    fs_fetch *resting[REST_MAX];
    int n_resting;
};

/* ---- the client ---- */

static fs_status copy(char **to, const char *from, fs_error *err)
{
    *to = strdup(from);
    return *to ? FS_OK : fs_fail_memory(err, strlen(from));
}

/* What is sent as Host: without the port that is the scheme's own. */
static void drop_port(char *endpoint)
{
    const char *port = strncmp(endpoint, "https:", 6) == 0 ? ":443" : ":80";

    if (fs_ends_with(endpoint, port))
        endpoint[strlen(endpoint) - strlen(port)] = 0;
}

static bool is_plain(const char *s, const char *others)
{
    for (; *s; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || strchr(others, *s)))
            return false;
    return true;
}

fs_status fs_s3_new(const fs_s3_options *o, fs_s3 **ret, fs_error *err)
{
    fs_s3 *s;
    const char *host = strstr(o->endpoint, "://");
    fs_status rc = FS_OK;

    if ((strncmp(o->endpoint, "http://", 7) != 0 && strncmp(o->endpoint, "https://", 8) != 0) || !host[3] || strchr(host + 3, '/') || strchr(host, '@') || strchr(host, '?'))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' is no endpoint: http:// or https:// and a name, and a port if need be", o->endpoint);
    if (!*o->bucket || strlen(o->bucket) > 63 || !is_plain(o->bucket, "-._") || !is_plain(o->prefix, "-._/") || strlen(o->prefix) > 200 || *o->prefix == '/' || strstr(o->prefix, "//") ||
        strstr(o->prefix, "..") || (*o->prefix && !fs_ends_with(o->prefix, "/")))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.80s/%.200s' is no bucket and prefix of letters, digits and \"-._/\"", o->bucket, o->prefix);
    if (!*o->region || strlen(o->region) > 60 || !is_plain(o->region, "-"))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.80s' is no region", o->region);
    if (!*o->access_key || strlen(o->access_key) > 128 || !*o->secret_key || strlen(o->secret_key) > 200)
        return fs_fail(err, FS_ERR_ARGUMENT, "the keys of the S3 store are empty or too long");
    s = calloc(1, sizeof *s);
    if (!s)
        return fs_fail_memory(err, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    rc = copy(&s->endpoint, o->endpoint, err);
    if (!rc) {
        drop_port(s->endpoint);
        rc = copy(&s->host, strstr(s->endpoint, "://") + 3, err);
    }
    if (!rc)
        rc = copy(&s->region, o->region, err);
    if (!rc)
        rc = copy(&s->bucket, o->bucket, err);
    if (!rc)
        rc = copy(&s->prefix, o->prefix, err);
    if (!rc)
        rc = copy(&s->access_key, o->access_key, err);
    if (!rc)
        rc = copy(&s->secret_key, o->secret_key, err);
    if (!rc && o->session_token && *o->session_token)
        rc = copy(&s->session_token, o->session_token, err);
    if (rc)
        fs_s3_free(s);
    else
        *ret = s;
    return rc;
}

void fs_s3_free(fs_s3 *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n_resting; i++)
        fs_fetch_free(s->resting[i]);
    if (s->secret_key)
        explicit_bzero(s->secret_key, strlen(s->secret_key));
    free(s->endpoint);
    free(s->host);
    free(s->region);
    free(s->bucket);
    free(s->prefix);
    free(s->access_key);
    free(s->secret_key);
    free(s->session_token);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static fs_status take(fs_s3 *s, fs_fetch **ret, fs_error *err)
{
    *ret = NULL;
    pthread_mutex_lock(&s->lock);
    if (s->n_resting > 0)
        *ret = s->resting[--s->n_resting];
    pthread_mutex_unlock(&s->lock);
    if (*ret)
        return FS_OK;
    fs_status rc = fs_fetch_new("farseek/" FS_VERSION, ret, err);
    if (!rc)
        fs_fetch_guard(*ret, true, 0); /* a signature is for one host: no redirect takes it elsewhere */
    return rc;
}

static void give(fs_s3 *s, fs_fetch *f)
{
    pthread_mutex_lock(&s->lock);
    if (s->n_resting < REST_MAX) {
        s->resting[s->n_resting++] = f;
        f = NULL;
    }
    pthread_mutex_unlock(&s->lock);
    fs_fetch_free(f);
}

/* ---- one request, tried again ---- */

typedef struct ask {
    const char *method, *key; /* NULL: of the bucket */
    const fs_sigv4_pair *query;
    size_t n_query;
    fs_bytes body;
    const fs_fetch_part *part;
    const char *sha256; /* of body or part; NULL: there is none */
    uint64_t begin, n_bytes; /* n_bytes 0: no range */
} ask;

/* Of the answer that was last. */
typedef struct answer {
    int status;
    char etag[FS_S3_ETAG_BYTES];
    bool has_length;
    uint64_t length;
    fs_buf *body; /* NULL: not wanted */
} answer;

static fs_status put_path(const fs_s3 *s, const char *key, fs_buf *out, fs_error *err)
{
    return key ? fs_buf_printf(out, err, "/%s/%s%s", s->bucket, s->prefix, key) : fs_buf_printf(out, err, "/%s", s->bucket);
}

static fs_status once(fs_s3 *s, fs_fetch *f, const ask *a, fs_fetch_sink *sink, void *ud, fs_buf *body, fs_error *err)
{
    fs_buf path = { 0 }, query = { 0 }, authorization = { 0 }, url = { 0 }, lines[4] = { 0 };
    const char *payload = a->sha256 ? a->sha256 : EMPTY_SHA256, *headers[8] = { NULL };
    char date[17];
    fs_sigv4_pair pairs[5] = { { "host", s->host }, { "x-amz-content-sha256", payload }, { "x-amz-date", date } };
    const fs_sigv4_keys keys = { s->access_key, s->secret_key, s->region, "s3" };
    fs_sigv4_request q = { .method = a->method, .query = a->query, .n_query = a->n_query, .headers = pairs, .n_headers = 3, .payload = payload, .date = date };
    fs_status rc = put_path(s, a->key, &path, err);

    fs_sigv4_date((int64_t)time(NULL), date);
    if (s->session_token)
        pairs[q.n_headers++] = (fs_sigv4_pair){ "x-amz-security-token", s->session_token };
    q.path = path.data;
    if (!rc)
        rc = fs_sigv4_sign(&keys, &q, &query, &authorization, err);
    if (!rc)
        rc = fs_buf_printf(&lines[0], err, "Authorization: %s", authorization.data);
    if (!rc)
        rc = fs_buf_printf(&lines[1], err, "x-amz-content-sha256: %s", payload);
    if (!rc)
        rc = fs_buf_printf(&lines[2], err, "x-amz-date: %s", date);
    if (!rc && s->session_token)
        rc = fs_buf_printf(&lines[3], err, "x-amz-security-token: %s", s->session_token);
    if (!rc)
        rc = fs_buf_printf(&url, err, "%s%s%s%s", s->endpoint, path.data, query.n_bytes ? "?" : "", query.n_bytes ? query.data : "");
    if (!rc) {
        fs_fetch_request r = { .method = a->method, .url = url.data, .headers = headers, .body = a->body, .part = a->part, .range_begin = a->begin, .range_bytes = a->n_bytes,
                               .silence_seconds = SILENCE };
        for (int i = 0; i < 4; i++)
            headers[i] = lines[i].data;
        headers[s->session_token ? 4 : 3] = "Expect:";
        headers[s->session_token ? 5 : 4] = a->body.data ? "Content-Type: application/xml" : "Content-Type: application/octet-stream";
        rc = sink ? fs_fetch_run(f, &r, sink, ud, err) : fs_fetch_whole(f, &r, REPLY_MAX, body, err);
    }
    for (int i = 0; i < 4; i++)
        fs_buf_done(&lines[i]);
    fs_buf_done(&path);
    fs_buf_done(&query);
    fs_buf_done(&authorization);
    fs_buf_done(&url);
    return rc;
}

static bool is_passing(int status)
{
    return status == 408 || status == 429 || status >= 500;
}

static void rest(int n)
{
    uint16_t random = 0;
    long ms = 200L << n;

    (void)!getrandom(&random, sizeof random, 0);
    ms = ms / 2 + ms / 2 * random / 65535; /* clients that failed together do not come together again */
    nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

static fs_status refused(const ask *a, int status, const fs_buf *body, fs_error *err)
{
    char code[100], message[300];

    fs_s3_error_read(body ? fs_buf_bytes(body) : (fs_bytes){ 0 }, code, message);
    if (status == 404)
        return fs_fail(err, strcmp(code, "NoSuchBucket") == 0 ? FS_ERR_IO : FS_ERR_NOT_FOUND, "the S3 store has no %s%s%s", a->key ? a->key : "such bucket", *code ? ": " : "", code);
    return fs_fail(err, FS_ERR_IO, "the S3 store answers %d to %s %s%s%s%s%s", status, a->method, a->key ? a->key : "the bucket", *code ? ": " : "", code, *message ? ", " : "", message);
}

/* Everything but bodies that are handed on: until there is an answer that counts. */
static fs_status run(fs_s3 *s, const ask *a, answer *ret, fs_error *err)
{
    fs_fetch *f;
    fs_buf own = { 0 }, *body = ret->body ? ret->body : &own;
    fs_status rc = take(s, &f, err);

    if (rc)
        return rc;
    for (int i = 0; i < TRIES; i++) {
        if (i)
            rest(i - 1);
        rc = once(s, f, a, NULL, NULL, body, err);
        ret->status = fs_fetch_status(f);
        if (rc == FS_OK && !is_passing(ret->status))
            break;
        if (rc && rc != FS_ERR_IO)
            break;
    }
    if (!rc) {
        const char *etag = fs_fetch_header(f, "ETag"), *length;
        snprintf(ret->etag, sizeof ret->etag, "%.79s", etag ? etag : "");
        length = fs_fetch_header(f, "Content-Length");
        ret->has_length = length && fs_s3_number(length, &ret->length);
        if (ret->status < 200 || ret->status > 299)
            rc = refused(a, ret->status, body, err);
    }
    give(s, f);
    fs_buf_done(&own);
    return rc;
}

/* ---- objects ---- */

fs_status fs_s3_size(fs_s3 *s, const char *key, uint64_t *ret, fs_error *err)
{
    answer r = { 0 };
    fs_status rc = run(s, &(ask){ .method = "HEAD", .key = key }, &r, err);

    if (!rc && !r.has_length)
        rc = fs_fail(err, FS_ERR_IO, "the S3 store does not say how long %s is", key);
    if (!rc)
        *ret = r.length;
    return rc;
}

typedef struct flow {
    fs_fetch_sink *sink;
    void *ud;
    uint64_t n_done;
    uint64_t n_bytes;
    const char *key;
    bool failed; /* the sink, which is nothing to try again for */
} flow;

static fs_status pass_on(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    flow *w = ud;
    fs_status rc = n_bytes > w->n_bytes - w->n_done ? fs_fail(err, FS_ERR_IO, "the S3 store sent more of %s than was asked for", w->key)
                                                    : w->sink(w->ud, data, n_bytes, err);

    w->failed = rc != FS_OK;
    w->n_done += rc ? 0 : n_bytes;
    return rc;
}

fs_status fs_s3_get(fs_s3 *s, const char *key, uint64_t begin, uint64_t n_bytes, fs_fetch_sink *sink, void *ud, fs_error *err)
{
    bool all = n_bytes == UINT64_MAX;
    flow w = { .sink = sink, .ud = ud, .key = key };
    uint64_t seen = 0;
    fs_fetch *f;
    fs_status rc = all ? fs_s3_size(s, key, &n_bytes, err) : FS_OK;

    if (rc || (n_bytes == 0 && all))
        return rc;
    w.n_bytes = n_bytes;
    rc = take(s, &f, err);
    if (rc)
        return rc;
    for (int i = 0; w.n_done < n_bytes && i < TRIES;) {
        ask a = { .method = "GET", .key = key, .begin = begin + w.n_done, .n_bytes = n_bytes - w.n_done };
        int status;
        rc = once(s, f, &a, pass_on, &w, NULL, err);
        status = fs_fetch_status(f);
        if (w.failed || (rc && rc != FS_ERR_IO))
            break;
        if (!rc && !is_passing(status) && status != 206 && !(status == 200 && begin == 0 && w.n_done >= n_bytes)) {
            rc = status == 416 ? fs_fail(err, FS_ERR_IO, "the object %s in the S3 store is shorter than it was", key) : refused(&a, status, NULL, err);
            break;
        }
        if (!rc && w.n_done < n_bytes)
            rc = fs_fail(err, FS_ERR_IO, "the S3 store sent %llu of the %llu bytes of %s (status %d)", (unsigned long long)w.n_done, (unsigned long long)n_bytes, key, status);
        if (!rc)
            break;
        if (w.n_done > seen)
            i = 0; /* it moves */
        seen = w.n_done;
        rest(i++);
    }
    give(s, f);
    return rc;
}

fs_status fs_s3_put(fs_s3 *s, const char *key, int fd, uint64_t n_bytes, const char *sha256, fs_error *err)
{
    const fs_fetch_part part = { .fd = fd, .n_bytes = n_bytes };
    answer r = { 0 };

    return run(s, &(ask){ .method = "PUT", .key = key, .part = &part, .sha256 = sha256 }, &r, err);
}

fs_status fs_s3_put_text(fs_s3 *s, const char *key, const char *text, fs_error *err)
{
    uint8_t digest[32];
    char hex[65];
    answer r = { 0 };
    fs_status rc = fs_sha256_of(fs_bytes_str(text), digest, err);

    fs_hex(digest, sizeof digest, hex);
    return rc ? rc : run(s, &(ask){ .method = "PUT", .key = key, .body = fs_bytes_str(text), .sha256 = hex }, &r, err);
}

fs_status fs_s3_remove(fs_s3 *s, const char *key, fs_error *err)
{
    answer r = { 0 };
    fs_status rc = run(s, &(ask){ .method = "DELETE", .key = key }, &r, err);

    return rc == FS_ERR_NOT_FOUND ? FS_OK : rc;
}

/* ---- uploads in parts ---- */

fs_status fs_s3_begin(fs_s3 *s, const char *key, char ret_upload[FS_S3_UPLOAD_BYTES], fs_error *err)
{
    const fs_sigv4_pair query[] = { { "uploads", "" } };
    fs_buf body = { 0 };
    answer r = { .body = &body };
    fs_status rc = run(s, &(ask){ .method = "POST", .key = key, .query = query, .n_query = 1, .body = FS_BYTES_LIT("") }, &r, err);

    if (!rc)
        rc = fs_s3_upload_read(fs_buf_bytes(&body), ret_upload, err);
    fs_buf_done(&body);
    return rc;
}

static fs_status hash_span(int fd, uint64_t offset, uint64_t n_bytes, char ret[65], fs_error *err)
{
    uint8_t *part = malloc(1 << 20);
    fs_sha256 sha = { 0 };
    fs_status rc = part ? fs_sha256_init(&sha, err) : fs_fail_memory(err, 1 << 20);

    while (!rc && n_bytes) {
        ssize_t n = pread(fd, part, n_bytes < 1 << 20 ? (size_t)n_bytes : 1 << 20, (off_t)offset);
        if (n <= 0) {
            rc = fs_fail(err, FS_ERR_IO, "a file is shorter than it was");
            break;
        }
        fs_sha256_update(&sha, part, (size_t)n);
        offset += (uint64_t)n;
        n_bytes -= (uint64_t)n;
    }
    if (!rc)
        fs_sha256_final_hex(&sha, ret);
    fs_sha256_done(&sha);
    free(part);
    return rc;
}

fs_status fs_s3_part(fs_s3 *s, const char *key, const char *upload, int n, int fd, uint64_t offset, uint64_t n_bytes, char ret_etag[FS_S3_ETAG_BYTES], fs_error *err)
{
    const fs_fetch_part part = { .fd = fd, .offset = offset, .n_bytes = n_bytes };
    char number[16], hex[65];
    fs_sigv4_pair query[] = { { "partNumber", number }, { "uploadId", upload } };
    answer r = { 0 };
    fs_status rc = hash_span(fd, offset, n_bytes, hex, err);

    snprintf(number, sizeof number, "%d", n);
    if (!rc)
        rc = run(s, &(ask){ .method = "PUT", .key = key, .query = query, .n_query = 2, .part = &part, .sha256 = hex }, &r, err);
    if (!rc && !*r.etag)
        rc = fs_fail(err, FS_ERR_IO, "the S3 store took a part without an ETag");
    if (!rc)
        memcpy(ret_etag, r.etag, FS_S3_ETAG_BYTES);
    return rc;
}

fs_status fs_s3_complete(fs_s3 *s, const char *key, const char *upload, const char (*etags)[FS_S3_ETAG_BYTES], int n, uint64_t n_bytes, fs_error *err)
{
    const fs_sigv4_pair query[] = { { "uploadId", upload } };
    fs_buf text = { 0 }, body = { 0 };
    answer r = { .body = &body };
    uint8_t digest[32];
    char hex[65], code[100], message[300];
    uint64_t is = 0;
    fs_status rc = fs_buf_append_str(&text, "<CompleteMultipartUpload>", err);

    for (int i = 0; i < n && !rc; i++) {
        rc = fs_buf_printf(&text, err, "<Part><PartNumber>%d</PartNumber><ETag>", i + 1);
        for (const char *p = etags[i]; *p && !rc; p++)
            rc = *p == '"' ? fs_buf_append_str(&text, "&quot;", err) : *p == '&' ? fs_buf_append_str(&text, "&amp;", err) : *p == '<' ? FS_OK : fs_buf_append(&text, p, 1, err);
        if (!rc)
            rc = fs_buf_append_str(&text, "</ETag></Part>", err);
    }
    if (!rc)
        rc = fs_buf_append_str(&text, "</CompleteMultipartUpload>", err);
    if (!rc)
        rc = fs_sha256_of(fs_buf_bytes(&text), digest, err);
    if (!rc) {
        fs_hex(digest, sizeof digest, hex);
        rc = run(s, &(ask){ .method = "POST", .key = key, .query = query, .n_query = 1, .body = fs_buf_bytes(&text), .sha256 = hex }, &r, err);
        if (!rc && fs_s3_error_read(fs_buf_bytes(&body), code, message)) /* of status 200: it was found late */
            rc = refused(&(ask){ .method = "POST", .key = key }, 500, &body, err);
        else if (!rc)
            rc = fs_s3_completed_read(fs_buf_bytes(&body), err);
        else if (rc == FS_ERR_NOT_FOUND && fs_s3_size(s, key, &is, NULL) == FS_OK && is == n_bytes)
            rc = FS_OK; /* the try before this one did it, and its answer was lost */
        else if (rc == FS_ERR_NOT_FOUND)
            rc = fs_fail(err, FS_ERR_IO, "the S3 store knows nothing of the upload of %s any more", key);
    }
    fs_buf_done(&text);
    fs_buf_done(&body);
    return rc;
}

fs_status fs_s3_abort(fs_s3 *s, const char *key, const char *upload, fs_error *err)
{
    const fs_sigv4_pair query[] = { { "uploadId", upload } };
    answer r = { 0 };
    fs_status rc = run(s, &(ask){ .method = "DELETE", .key = key, .query = query, .n_query = 1 }, &r, err);

    return rc == FS_ERR_NOT_FOUND ? FS_OK : rc;
}

/* ---- lists ---- */

static fs_status put_prefix(const fs_s3 *s, const char *begin, char **ret, fs_error *err)
{
    if (asprintf(ret, "%s%s", s->prefix, begin) >= 0)
        return FS_OK;
    *ret = NULL;
    return fs_fail_memory(err, strlen(s->prefix));
}

fs_status fs_s3_list(fs_s3 *s, const char *begin, fs_s3_list_fn *fn, void *ud, fs_error *err)
{
    char token[FS_S3_TOKEN_BYTES] = "", more[FS_S3_TOKEN_BYTES] = "", *prefix;
    fs_buf body = { 0 };
    fs_status rc = put_prefix(s, begin, &prefix, err);

    do {
        const fs_sigv4_pair query[] = { { "list-type", "2" }, { "prefix", prefix }, { "continuation-token", token } };
        answer r = { .body = &body };
        memcpy(token, more, sizeof token);
        if (!rc)
            rc = run(s, &(ask){ .method = "GET", .query = query, .n_query = *token ? 3 : 2 }, &r, err);
        if (rc == FS_ERR_NOT_FOUND)
            rc = fs_fail(err, FS_ERR_IO, "the S3 store has no bucket '%s'", s->bucket);
        if (!rc)
            rc = fs_s3_list_read(fs_buf_bytes(&body), s->prefix, fn, ud, more, err);
        if (!rc && *more && strcmp(more, token) == 0)
            rc = fs_fail(err, FS_ERR_IO, "the S3 store's list does not go on");
    } while (!rc && *more);
    free(prefix);
    fs_buf_done(&body);
    return rc;
}

typedef struct aborting {
    fs_s3 *s;
    const char *begin;
    int64_t before_ms;
    uint64_t *n;
} aborting;

static fs_status abort_old(void *ud, const char *key, const char *upload, int64_t ms, fs_error *err)
{
    const aborting *a = ud;
    fs_status rc;

    if (strncmp(key, a->begin, strlen(a->begin)) != 0 || ms > a->before_ms)
        return FS_OK;
    rc = fs_s3_abort(a->s, key, upload, err);
    *a->n += !rc;
    return rc;
}

fs_status fs_s3_abort_old(fs_s3 *s, const char *begin, int64_t before_ms, uint64_t *ret_n, fs_error *err)
{
    aborting a = { s, begin, before_ms, ret_n };
    char *prefix;
    fs_buf body = { 0 };
    fs_status rc = put_prefix(s, begin, &prefix, err);
    const fs_sigv4_pair query[] = { { "uploads", "" }, { "prefix", prefix } };
    answer r = { .body = &body };

    if (!rc)
        rc = run(s, &(ask){ .method = "GET", .query = query, .n_query = 2 }, &r, err);
    if (!rc) /* at most 1000 a time: the next run takes the rest */
        rc = fs_s3_uploads_read(fs_buf_bytes(&body), s->prefix, abort_old, &a, err);
    free(prefix);
    fs_buf_done(&body);
    return rc;
}

/* ---- links ---- */

fs_status fs_s3_link(const fs_s3 *s, const char *key, int seconds, fs_buf *ret, fs_error *err)
{
    const fs_sigv4_keys keys = { s->access_key, s->secret_key, s->region, "s3" };
    const fs_sigv4_pair host = { "host", s->host }, type = { "response-content-type", "application/octet-stream" };
    fs_buf path = { 0 }, query = { 0 };
    char date[17];
    fs_status rc = put_path(s, key, &path, err);

    fs_sigv4_date((int64_t)time(NULL), date);
    if (!rc)
        rc = fs_sigv4_presign(&keys, &(fs_sigv4_request){ .method = "GET", .path = path.data, .query = &type, .n_query = 1, .headers = &host, .n_headers = 1,
                                                          .payload = "UNSIGNED-PAYLOAD", .date = date },
                              s->session_token, seconds, &query, err);
    if (!rc)
        rc = fs_buf_printf(ret, err, "%s%s?%s", s->endpoint, path.data, query.data);
    fs_buf_done(&path);
    fs_buf_done(&query);
    return rc;
}
