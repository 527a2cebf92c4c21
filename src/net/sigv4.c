/* See the header. */
#include "net/sigv4.h"

#include "crypto/sha256.h"
#include "net/url.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void fs_sigv4_date(int64_t seconds, char ret[17])
{
    time_t t = (time_t)seconds;
    struct tm tm;

    if (!gmtime_r(&t, &tm) || strftime(ret, 17, "%Y%m%dT%H%M%SZ", &tm) != 16)
        snprintf(ret, 17, "19700101T000000Z");
}

static fs_status hmac(const void *key, size_t n_key, const char *text, uint8_t ret[32], fs_error *err)
{
    unsigned n = 0;

    if (!HMAC(EVP_sha256(), key, (int)n_key, (const uint8_t *)text, strlen(text), ret, &n) || n != 32)
        return fs_fail_memory(err, 0);
    return FS_OK;
}

static int by_name(const void *a, const void *b)
{
    const fs_sigv4_pair *x = a, *y = b;
    int order = strcmp(x->name, y->name);

    return order ? order : strcmp(x->value, y->value);
}

static fs_status put_query(fs_buf *out, const fs_sigv4_pair *query, size_t n, fs_error *err)
{
    fs_sigv4_pair sorted[FS_SIGV4_PAIRS_MAX];
    fs_status rc = FS_OK;

    if (n > FS_SIGV4_PAIRS_MAX)
        return fs_fail(err, FS_ERR_ARGUMENT, "a query of %zu parts", n);
    if (n)
        memcpy(sorted, query, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_name);
    for (size_t i = 0; i < n && !rc; i++) {
        rc = i ? fs_buf_append_str(out, "&", err) : FS_OK;
        if (!rc)
            rc = fs_url_encode(out, fs_bytes_str(sorted[i].name), "", err);
        if (!rc)
            rc = fs_buf_append_str(out, "=", err);
        if (!rc)
            rc = fs_url_encode(out, fs_bytes_str(sorted[i].value), "", err);
    }
    return rc;
}

/* "host;x-amz-date", of sorted headers. */
static fs_status put_names(fs_buf *out, const fs_sigv4_pair *headers, size_t n, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < n && !rc; i++)
        rc = fs_buf_printf(out, err, "%s%s", i ? ";" : "", headers[i].name);
    return rc;
}

static fs_status signature_of(const fs_sigv4_keys *k, const fs_sigv4_request *q, const fs_sigv4_pair *headers, const char *query, const char *names, char ret[65], fs_error *err)
{
    fs_buf text = { 0 };
    uint8_t digest[32], key[32];
    char hex[65], first[300];
    fs_status rc = fs_buf_printf(&text, err, "%s\n%s\n%s\n", q->method, q->path, query);

    for (size_t i = 0; i < q->n_headers && !rc; i++)
        rc = fs_buf_printf(&text, err, "%s:%s\n", headers[i].name, headers[i].value);
    if (!rc)
        rc = fs_buf_printf(&text, err, "\n%s\n%s", names, q->payload);
    if (!rc)
        rc = fs_sha256_of(fs_buf_bytes(&text), digest, err);
    if (rc)
        goto out;
    fs_hex(digest, sizeof digest, hex);
    fs_buf_clear(&text);
    rc = fs_buf_printf(&text, err, "AWS4-HMAC-SHA256\n%s\n%.8s/%s/%s/aws4_request\n%s", q->date, q->date, k->region, k->service, hex);
    if (!rc && snprintf(first, sizeof first, "AWS4%s", k->secret_key) >= (int)sizeof first)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "the secret key is too long");
    snprintf(hex, sizeof hex, "%.8s", q->date);
    if (!rc)
        rc = hmac(first, strlen(first), hex, key, err);
    if (!rc)
        rc = hmac(key, sizeof key, k->region, key, err);
    if (!rc)
        rc = hmac(key, sizeof key, k->service, key, err);
    if (!rc)
        rc = hmac(key, sizeof key, "aws4_request", key, err);
    if (!rc)
        rc = hmac(key, sizeof key, text.data, digest, err);
    if (!rc)
        fs_hex(digest, sizeof digest, ret);
out:
    explicit_bzero(first, sizeof first);
    explicit_bzero(key, sizeof key);
    fs_buf_done(&text);
    return rc;
}

/* The request's headers in order, and their names. */
static fs_status sort_headers(const fs_sigv4_request *q, fs_sigv4_pair ret[FS_SIGV4_PAIRS_MAX], fs_buf *ret_names, fs_error *err)
{
    if (q->n_headers > FS_SIGV4_PAIRS_MAX)
        return fs_fail(err, FS_ERR_ARGUMENT, "%zu headers to sign", q->n_headers);
    memcpy(ret, q->headers, q->n_headers * sizeof *ret);
    qsort(ret, q->n_headers, sizeof *ret, by_name);
    return put_names(ret_names, ret, q->n_headers, err);
}

fs_status fs_sigv4_sign(const fs_sigv4_keys *k, const fs_sigv4_request *q, fs_buf *ret_query, fs_buf *ret_authorization, fs_error *err)
{
    fs_sigv4_pair headers[FS_SIGV4_PAIRS_MAX];
    fs_buf names = { 0 }, query = { 0 };
    char signature[65];
    fs_status rc = sort_headers(q, headers, &names, err);

    if (!rc)
        rc = put_query(&query, q->query, q->n_query, err);
    if (!rc)
        rc = signature_of(k, q, headers, query.data ? query.data : "", names.data ? names.data : "", signature, err);
    if (!rc)
        rc = fs_buf_printf(ret_authorization, err, "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/%s/aws4_request,SignedHeaders=%s,Signature=%s", k->access_key, q->date, k->region, k->service,
                           names.data ? names.data : "", signature);
    if (!rc && query.data)
        rc = fs_buf_append_str(ret_query, query.data, err);
    fs_buf_done(&names);
    fs_buf_done(&query);
    return rc;
}

fs_status fs_sigv4_presign(const fs_sigv4_keys *k, const fs_sigv4_request *q, const char *token, int seconds, fs_buf *ret_query, fs_error *err)
{
    fs_sigv4_pair headers[FS_SIGV4_PAIRS_MAX], query[FS_SIGV4_PAIRS_MAX];
    fs_buf names = { 0 }, text = { 0 };
    char signature[65], credential[400], expires[24];
    size_t n = q->n_query;
    fs_status rc = n > FS_SIGV4_PAIRS_MAX - 6 ? fs_fail(err, FS_ERR_ARGUMENT, "a query of %zu parts", n) : sort_headers(q, headers, &names, err);

    if (rc)
        goto out;
    if (n)
        memcpy(query, q->query, n * sizeof *query);
    snprintf(credential, sizeof credential, "%s/%.8s/%s/%s/aws4_request", k->access_key, q->date, k->region, k->service);
    snprintf(expires, sizeof expires, "%d", seconds);
    query[n++] = (fs_sigv4_pair){ "X-Amz-Algorithm", "AWS4-HMAC-SHA256" };
    query[n++] = (fs_sigv4_pair){ "X-Amz-Credential", credential };
    query[n++] = (fs_sigv4_pair){ "X-Amz-Date", q->date };
    query[n++] = (fs_sigv4_pair){ "X-Amz-Expires", expires };
    query[n++] = (fs_sigv4_pair){ "X-Amz-SignedHeaders", names.data ? names.data : "" };
    if (token)
        query[n++] = (fs_sigv4_pair){ "X-Amz-Security-Token", token };
    rc = put_query(&text, query, n, err);
    if (!rc)
        rc = signature_of(k, q, headers, text.data, names.data ? names.data : "", signature, err);
    if (!rc)
        rc = fs_buf_printf(ret_query, err, "%s&X-Amz-Signature=%s", text.data, signature);
out:
    fs_buf_done(&names);
    fs_buf_done(&text);
    return rc;
}
