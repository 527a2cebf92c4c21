/* Files for clients of Xet: which chunks they are made of, links to them, and their bytes. */
#include "hub/blobs.h"
#include "hub/xet_internal.h"

#include "net/url.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINK_SECONDS 3600
#define LINK_RANGES  64 /* in one link: its length stays below 2 KiB */
#define COPY_BYTES   ((size_t)256 << 10)

/* ---- reconstructions ---- */

typedef struct piece {
    fs_xet_hash xorb;
    uint32_t begin, end; /* chunks */
    uint64_t byte_begin, byte_end; /* of the xorb */
} piece;

static int by_place(const void *pa, const void *pb)
{
    const piece *a = pa, *b = pb;
    int d = memcmp(a->xorb.bytes, b->xorb.bytes, sizeof a->xorb.bytes);

    return d ? d : (a->begin > b->begin) - (a->begin < b->begin);
}

/* Those of one xorb that touch become one. */
static size_t join(piece *p, size_t n)
{
    size_t to = 0;

    qsort(p, n, sizeof *p, by_place);
    for (size_t i = 0; i < n; i++) {
        if (to && fs_xet_hash_equal(&p[to - 1].xorb, &p[i].xorb) && p[i].begin <= p[to - 1].end) {
            if (p[i].end > p[to - 1].end) {
                p[to - 1].end = p[i].end;
                p[to - 1].byte_end = p[i].byte_end;
            }
        } else {
            p[to++] = p[i];
        }
    }
    return to;
}

static void sign_link(const fs_hub *h, const char *hash, const char *ranges, int64_t expires, char ret[65])
{
    char text[3200];

    snprintf(text, sizeof text, "xet data %s %s %lld", hash, ranges, (long long)expires);
    fs_hub_sign(h, text, ret);
}

/* A link to the bytes of p [n], of one xorb. */
static void emit_link(fs_hub_call *c, fs_emit *e, const piece *p, size_t n)
{
    char hash[65], ranges[LINK_RANGES * 24], signature[65], url[3600];
    int64_t expires = (int64_t)time(NULL) + LINK_SECONDS;
    size_t at = 0;

    fs_xet_hash_text(&p->xorb, hash);
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(ranges + at, sizeof ranges - at, "%s%llu-%llu", i ? "," : "", (unsigned long long)p[i].byte_begin, (unsigned long long)p[i].byte_end - 1);
    sign_link(c->hub, hash, ranges, expires, signature);
    snprintf(url, sizeof url, "%s/xet/data/%s?r=%s&exp=%lld&sig=%s", c->base, hash, ranges, (long long)expires, signature);
    fs_emit_str(e, "url", url);
}

static void emit_range(fs_emit *e, const char *key, uint64_t begin, uint64_t end)
{
    fs_emit_key(e, key);
    fs_emit_begin(e, '{');
    fs_emit_int(e, "start", (int64_t)begin);
    fs_emit_int(e, "end", (int64_t)end);
    fs_emit_end(e, '}');
}

/* p [n], sorted and joined, by xorb. */
static void emit_fetch(fs_hub_call *c, fs_emit *e, const piece *p, size_t n, bool v1)
{
    fs_emit_key(e, v1 ? "fetch_info" : "xorbs");
    fs_emit_begin(e, '{');
    for (size_t i = 0; i < n;) {
        char hash[65];
        size_t end = i;
        while (end < n && fs_xet_hash_equal(&p[end].xorb, &p[i].xorb))
            end++;
        fs_xet_hash_text(&p[i].xorb, hash);
        fs_emit_key(e, hash);
        fs_emit_begin(e, '[');
        while (i < end) {
            size_t k = v1 ? 1 : end - i < LINK_RANGES ? end - i : LINK_RANGES;
            fs_emit_begin(e, '{');
            emit_link(c, e, p + i, k);
            if (v1) {
                emit_range(e, "range", p[i].begin, p[i].end);
                emit_range(e, "url_range", p[i].byte_begin, p[i].byte_end - 1);
            } else {
                fs_emit_key(e, "ranges");
                fs_emit_begin(e, '[');
                for (size_t r = i; r < i + k; r++) {
                    fs_emit_begin(e, '{');
                    emit_range(e, "chunks", p[r].begin, p[r].end);
                    emit_range(e, "bytes", p[r].byte_begin, p[r].byte_end - 1);
                    fs_emit_end(e, '}');
                }
                fs_emit_end(e, ']');
            }
            fs_emit_end(e, '}');
            i += k;
        }
        fs_emit_end(e, ']');
    }
    fs_emit_end(e, '}');
}

/* The terms that bytes begin..end of the file need, cut to whole chunks. */
static fs_status emit_terms(fs_hub_call *c, fs_emit *e, const fs_shard_term *terms, uint32_t n_terms, uint64_t begin, uint64_t end, piece *pieces, size_t *ret_n, fs_error *err)
{
    fs_xet_source xorbs = { .hub = c->hub, .db = c->db, .c = c };
    uint64_t at = 0, skipped = 0;
    size_t n = 0;
    fs_status rc = FS_OK;

    fs_emit_key(e, "terms");
    fs_emit_begin(e, '[');
    for (uint32_t t = 0; t < n_terms && at < end && !rc; at += terms[t++].n_bytes) {
        const fs_xorb *x = NULL;
        uint32_t first = terms[t].begin, last = terms[t].end;
        uint64_t from = at, to = at + terms[t].n_bytes;
        char hash[65];
        if (to <= begin)
            continue;
        rc = fs_xet_source_find(&xorbs, &terms[t].xorb, &x, err);
        if (!rc && last > x->n_chunks)
            rc = fs_fail(err, FS_ERR_FORMAT, "database: a file has chunks that its xorb has not");
        if (rc)
            break;
        while (from + x->chunks[first].n_bytes <= begin)
            from += x->chunks[first++].n_bytes;
        while (to - x->chunks[last - 1].n_bytes >= end)
            to -= x->chunks[--last].n_bytes;
        if (n == 0)
            skipped = begin - from;
        fs_xet_hash_text(&terms[t].xorb, hash);
        fs_emit_begin(e, '{');
        fs_emit_str(e, "hash", hash);
        fs_emit_int(e, "unpacked_length", (int64_t)(to - from));
        emit_range(e, "range", first, last);
        fs_emit_end(e, '}');
        pieces[n++] = (piece){ terms[t].xorb, first, last, fs_xorb_begin(x, first), x->chunks[last - 1].end };
    }
    fs_emit_end(e, ']');
    fs_emit_int(e, "offset_into_first_range", (int64_t)skipped);
    fs_xet_source_done(&xorbs);
    *ret_n = n;
    return rc;
}

static void reconstruct(fs_hub_call *c, bool v1)
{
    fs_http_range ranges[FS_HTTP_RANGES_MAX];
    const char *range = fs_http_header(c->http, "Range");
    fs_shard_term *terms = NULL;
    piece *pieces = NULL;
    uint32_t n_terms = 0;
    uint64_t n_bytes = 0, begin = 0, end;
    size_t n = 0;
    fs_xet_hash hash;
    fs_emit e = { 0 };
    fs_status rc;
    int asked;

    if (!fs_xet_need_token(c, false) || !fs_xet_need_hash(c, 0, &hash) ||
        fs_hub_failed(c, fs_xet_file_find(c->db, c->xet.repo, &hash, &terms, &n_terms, &n_bytes, &c->err)))
        return;
    end = n_bytes;
    asked = fs_http_ranges(range, n_bytes, ranges);
    if (asked < 0) {
        fs_http_reply_headerf(c->http, "Content-Range", "bytes */%llu", (unsigned long long)n_bytes);
        fs_hub_error(c, 416, NULL, "the file has %llu bytes", (unsigned long long)n_bytes);
        goto out;
    }
    if (asked > 0) {
        begin = ranges[0].begin;
        end = begin + ranges[0].n_bytes;
    }
    pieces = malloc((n_terms + 1) * sizeof *pieces);
    fs_emit_begin(&e, '{');
    rc = pieces ? emit_terms(c, &e, terms, n_terms, begin, end, pieces, &n, &c->err) : fs_fail_memory(&c->err, n_terms * sizeof *pieces);
    if (!rc)
        emit_fetch(c, &e, pieces, join(pieces, n), v1);
    fs_emit_end(&e, '}');
    if (!fs_hub_failed(c, rc))
        fs_hub_reply(c, 200, &e);
out:
    fs_emit_done(&e);
    free(pieces);
    free(terms);
}

void fs_hub_xet_file(fs_hub_call *c)
{
    reconstruct(c, false);
}

void fs_hub_xet_file_v1(fs_hub_call *c)
{
    reconstruct(c, true);
}

void fs_hub_xet_file_head(fs_hub_call *c)
{
    fs_shard_term *terms = NULL;
    uint32_t n_terms;
    uint64_t n_bytes = 0;
    fs_xet_hash hash;
    char text[32];

    if (!fs_xet_need_token(c, false) || !fs_xet_need_hash(c, 0, &hash) ||
        fs_hub_failed(c, fs_xet_file_find(c->db, c->xet.repo, &hash, &terms, &n_terms, &n_bytes, &c->err)))
        return;
    free(terms);
    snprintf(text, sizeof text, "{\"size\":%llu}", (unsigned long long)n_bytes);
    c->replied = true;
    fs_http_reply(c->http, 200, "application/json", text, strlen(text));
}

/* ---- bytes ---- */

static bool is_signed(const char *list, uint64_t begin, uint64_t end)
{
    for (const char *p = list; *p;) {
        char *after;
        uint64_t a = strtoull(p, &after, 10), b;
        if (*after != '-')
            return false;
        b = strtoull(after + 1, &after, 10);
        if (begin >= a && end <= b + 1)
            return true;
        p = *after == ',' ? after + 1 : after;
        if (*after != ',' && *after)
            return false;
    }
    return false;
}

static fs_status write_on(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    return fs_http_stream_write(ud, data, n_bytes, err);
}

static fs_status send_part(fs_hub_call *c, const char *name, const fs_http_range *r, uint64_t n_total, const char *boundary, fs_error *err)
{
    char head[300];
    fs_status rc;

    snprintf(head, sizeof head, "\r\n--%s\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes %llu-%llu/%llu\r\n\r\n", boundary, (unsigned long long)r->begin,
             (unsigned long long)(r->begin + r->n_bytes - 1), (unsigned long long)n_total);
    rc = fs_http_stream_write(c->http, head, strlen(head), err);
    return rc ? rc : c->hub->store->read(c->hub, FS_BLOB_XORB, name, r->begin, r->n_bytes, write_on, c->http, err);
}

/* Several ranges as multipart/byteranges: RFC 9110, section 14.6. */
static void send_parts(fs_hub_call *c, const char *name, const fs_http_range *r, int n, uint64_t n_total)
{
    char boundary[33], type[80], end[64];
    fs_status rc = FS_OK;

    fs_hub_random_name(boundary, sizeof boundary);
    snprintf(type, sizeof type, "multipart/byteranges; boundary=%s", boundary);
    c->replied = true;
    fs_http_stream_begin(c->http, 206, type);
    for (int i = 0; i < n && !rc; i++)
        rc = send_part(c, name, r + i, n_total, boundary, &c->err);
    snprintf(end, sizeof end, "\r\n--%s--\r\n", boundary);
    if (!rc)
        rc = fs_http_stream_write(c->http, end, strlen(end), &c->err);
    if (rc)
        fs_http_stream_break(c->http);
}

void fs_hub_xet_data(fs_hub_call *c)
{
    const char *name = fs_http_param(c->http, 0), *list = fs_http_query(c->http, "r", 0), *exp = fs_http_query(c->http, "exp", 0);
    const char *signature = fs_http_query(c->http, "sig", 0);
    int64_t expires = exp ? strtoll(exp, NULL, 10) : 0;
    fs_http_range ranges[FS_HTTP_RANGES_MAX];
    char text[3200];
    fs_xet_hash hash;
    uint64_t n_bytes = 0;
    bool here = false;
    int n;

    if (!fs_xet_need_hash(c, 0, &hash))
        return;
    if (!list || strlen(list) > LINK_RANGES * 24 || !signature ||
        (snprintf(text, sizeof text, "xet data %s %s %lld", name, list, (long long)expires), !fs_hub_sign_check(c->hub, text, signature)) || expires < (int64_t)time(NULL)) {
        fs_hub_error(c, 403, NULL, "this link is not valid, or not any more");
        return;
    }
    if (fs_hub_failed(c, c->hub->store->is_here(c->hub, c->db, FS_BLOB_XORB, name, &here, &n_bytes, &c->err)))
        return;
    if (!here) {
        fs_hub_error(c, 404, NULL, "no xorb %s", name);
        return;
    }
    n = fs_http_ranges(fs_http_header(c->http, "Range"), n_bytes, ranges);
    for (int i = 0; i < n; i++)
        if (!is_signed(list, ranges[i].begin, ranges[i].begin + ranges[i].n_bytes))
            n = 0;
    if (n <= 0) {
        fs_hub_error(c, 403, NULL, "the link is for other bytes");
    } else if (n > 1) {
        send_parts(c, name, ranges, n, n_bytes);
    } else {
        c->hub->store->send(c, FS_BLOB_XORB, name, n_bytes, NULL);
    }
}
