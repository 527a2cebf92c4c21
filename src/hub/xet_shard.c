/* See the header. */
#include "hub/xet_shard.h"

#include <stdlib.h>
#include <string.h>

#define RECORD       48
#define FOOTER_BYTES 200
#define WITH_RANGES  (1u << 31)
#define WITH_SHA256  (1u << 30)

static const uint8_t tag[32] = { 'H', 'F', 'R', 'e', 'p', 'o', 'M', 'e', 't', 'a', 'D', 'a', 't', 'a', 0,  85,
                                 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169 };

static uint32_t u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t u64(const uint8_t *p)
{
    return u32(p) | (uint64_t)u32(p + 4) << 32;
}

/* ---- reading ---- */
struct reader {
    fs_bytes rest;
};

/* The next n records; NULL when fewer are left. */
static const uint8_t *records(struct reader *r, uint64_t n)
{
    const uint8_t *p = r->rest.data;

    if (n > r->rest.n_bytes / RECORD)
        return NULL;
    r->rest.data += n * RECORD;
    r->rest.n_bytes -= n * RECORD;
    return p;
}

/* By its hash alone, as xet-core has it: what else stands in the record counts for nothing. */
static bool is_end(const uint8_t *record)
{
    for (int i = 0; i < 32; i++)
        if (record[i] != 0xff)
            return false;
    return true;
}

static fs_status cut_short(fs_error *err)
{
    return fs_fail(err, FS_ERR_FORMAT, "shard: it ends inside a section");
}

/* One walk over the files. With ret it is filled, whose files and terms are as many as the walk without said. */
static fs_status walk_files(struct reader *r, fs_shard *ret, size_t *ret_n_files, size_t *ret_n_terms, fs_error *err)
{
    size_t n_files = 0, n_terms = 0;

    for (;; n_files++) {
        const uint8_t *head = records(r, 1), *terms, *ranges = NULL, *sha256 = NULL;
        uint32_t flags, n;
        if (!head)
            return cut_short(err);
        if (is_end(head))
            break;
        flags = u32(head + 32);
        n = u32(head + 36);
        terms = records(r, n);
        if (terms && flags & WITH_RANGES)
            ranges = records(r, n);
        if (terms && flags & WITH_SHA256)
            sha256 = records(r, 1);
        if (!terms || (flags & WITH_RANGES && !ranges) || (flags & WITH_SHA256 && !sha256))
            return cut_short(err);
        if (ret) {
            fs_shard_file *f = ret->files + n_files;
            fs_xet_hash turned;
            *f = (fs_shard_file){ .has_ranges = ranges != NULL, .has_sha256 = sha256 != NULL, .terms = ret->terms + n_terms, .n_terms = n };
            memcpy(f->hash.bytes, head, 32);
            if (sha256) {
                fs_xet_hash_of_sha256(sha256, &turned);
                memcpy(f->sha256, turned.bytes, 32);
            }
            for (uint32_t i = 0; i < n; i++) {
                fs_shard_term *t = f->terms + i;
                const uint8_t *p = terms + (size_t)i * RECORD;
                memcpy(t->xorb.bytes, p, 32);
                t->n_bytes = u32(p + 36);
                t->begin = u32(p + 40);
                t->end = u32(p + 44);
                if (ranges)
                    memcpy(t->range.bytes, ranges + (size_t)i * RECORD, 32);
                if (t->begin >= t->end)
                    return fs_fail(err, FS_ERR_FORMAT, "shard: a term of the chunks %u to %u", t->begin, t->end);
                f->n_bytes += t->n_bytes;
            }
        }
        n_terms += n;
    }
    *ret_n_files = n_files;
    *ret_n_terms = n_terms;
    return FS_OK;
}

static fs_status walk_xorbs(struct reader *r, fs_error *err)
{
    for (;;) {
        const uint8_t *head = records(r, 1);
        if (!head)
            return cut_short(err);
        if (is_end(head))
            return FS_OK;
        if (!records(r, u32(head + 36)))
            return cut_short(err);
    }
}

fs_status fs_shard_read(fs_bytes bytes, fs_shard *ret, fs_error *err)
{
    struct reader r = { bytes }, again;
    fs_shard s = { 0 };
    size_t n_files, n_terms;
    const uint8_t *head = records(&r, 1);
    fs_status rc;

    if (!head || memcmp(head, tag, sizeof tag))
        return fs_fail(err, FS_ERR_FORMAT, "shard: it does not begin as one");
    if (u64(head + 32) != 2)
        return fs_fail(err, FS_ERR_FORMAT, "shard: version %llu, known is 2", (unsigned long long)u64(head + 32));
    again = r;
    rc = walk_files(&r, NULL, &n_files, &n_terms, err);
    if (!rc)
        rc = walk_xorbs(&r, err);
    if (rc)
        return rc;
    s.n_files = (uint32_t)n_files;
    s.files = calloc(n_files + 1, sizeof *s.files);
    s.terms = calloc(n_terms + 1, sizeof *s.terms);
    if (!s.files || !s.terms)
        rc = fs_fail(err, FS_ERR_MEMORY, "shard: no memory for %zu files", n_files);
    if (!rc)
        rc = walk_files(&again, &s, &n_files, &n_terms, err);
    if (rc)
        fs_shard_done(&s);
    else
        *ret = s;
    return rc;
}

void fs_shard_done(fs_shard *s)
{
    if (!s)
        return;
    free(s->files);
    free(s->terms);
    *s = (fs_shard){ 0 };
}

/* ---- writing ---- */
struct record {
    uint8_t bytes[RECORD];
    int at;
};

static void put(struct record *r, const void *data, int n)
{
    memcpy(r->bytes + r->at, data, (size_t)n);
    r->at += n;
}

static void put_number(struct record *r, uint64_t v, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++)
        r->bytes[r->at++] = (uint8_t)(v >> 8 * i);
}

static fs_status put_record(fs_buf *out, const struct record *r, fs_error *err)
{
    return fs_buf_append(out, r->bytes, RECORD, err);
}

static fs_status put_end(fs_buf *out, fs_error *err)
{
    struct record r = { 0 };

    memset(r.bytes, 0xff, 32);
    return put_record(out, &r, err);
}

static fs_status put_header(fs_buf *out, uint64_t footer_bytes, fs_error *err)
{
    struct record r = { 0 };

    put(&r, tag, sizeof tag);
    put_number(&r, 2, 8);
    put_number(&r, footer_bytes, 8);
    return put_record(out, &r, err);
}

fs_status fs_shard_begin(fs_buf *out, fs_error *err)
{
    return put_header(out, 0, err);
}

fs_status fs_shard_end_files(fs_buf *out, fs_error *err)
{
    return put_end(out, err);
}

fs_status fs_shard_end_xorbs(fs_buf *out, fs_error *err)
{
    return put_end(out, err);
}

fs_status fs_shard_put_file(fs_buf *out, const fs_shard_file *f, fs_error *err)
{
    struct record r = { 0 };
    fs_xet_hash turned;
    fs_status rc;

    put(&r, f->hash.bytes, 32);
    put_number(&r, (f->has_ranges ? WITH_RANGES : 0) | (f->has_sha256 ? WITH_SHA256 : 0), 4);
    put_number(&r, f->n_terms, 4);
    rc = put_record(out, &r, err);
    for (uint32_t i = 0; i < f->n_terms && !rc; i++) {
        r = (struct record){ 0 };
        put(&r, f->terms[i].xorb.bytes, 32);
        put_number(&r, 0, 4);
        put_number(&r, f->terms[i].n_bytes, 4);
        put_number(&r, f->terms[i].begin, 4);
        put_number(&r, f->terms[i].end, 4);
        rc = put_record(out, &r, err);
    }
    for (uint32_t i = 0; f->has_ranges && i < f->n_terms && !rc; i++) {
        r = (struct record){ 0 };
        put(&r, f->terms[i].range.bytes, 32);
        rc = put_record(out, &r, err);
    }
    if (rc || !f->has_sha256)
        return rc;
    r = (struct record){ 0 };
    fs_xet_hash_of_sha256(f->sha256, &turned);
    put(&r, turned.bytes, 32);
    return put_record(out, &r, err);
}

/* key NULL: the hashes as they are. */
static fs_status put_xorb(fs_buf *out, const fs_xorb *x, const uint8_t *key, fs_error *err)
{
    struct record r = { 0 };
    uint64_t at = 0;
    fs_status rc;

    put(&r, x->hash.bytes, 32);
    put_number(&r, 0, 4);
    put_number(&r, x->n_chunks, 4);
    put_number(&r, x->n_bytes, 4);
    put_number(&r, fs_xorb_begin(x, x->n_chunks), 4);
    rc = put_record(out, &r, err);
    for (uint32_t i = 0; i < x->n_chunks && !rc; i++) {
        fs_xet_hash hash = x->chunks[i].hash;
        if (key)
            fs_xet_hash_hide(&x->chunks[i].hash, key, &hash);
        r = (struct record){ 0 };
        put(&r, hash.bytes, 32);
        put_number(&r, at, 4);
        put_number(&r, x->chunks[i].n_bytes, 4);
        rc = put_record(out, &r, err);
        at += x->chunks[i].n_bytes;
    }
    return rc;
}

fs_status fs_shard_put_xorb(fs_buf *out, const fs_xorb *x, fs_error *err)
{
    return put_xorb(out, x, NULL, err);
}

fs_status fs_shard_answer_begin(fs_buf *out, fs_error *err)
{
    fs_status rc = put_header(out, FOOTER_BYTES, err);

    return rc ? rc : put_end(out, err);
}

fs_status fs_shard_answer_xorb(fs_buf *out, const fs_xorb *x, const uint8_t key[32], fs_error *err)
{
    return put_xorb(out, x, key, err);
}

fs_status fs_shard_answer_end(fs_buf *out, const uint8_t key[32], uint64_t now, uint64_t expires, fs_error *err)
{
    uint8_t footer[FOOTER_BYTES] = { 0 };
    fs_status rc = put_end(out, err);
    /* OFFSET in the footer, and what stands there; the key stands at 72. */
    const uint64_t fields[][2] = {
        { 0, 1 },              /* version */
        { 8, RECORD },         /* where the files begin */
        { 16, 2 * RECORD },    /* and the xorbs, behind the end of no files */
        { 24, out->n_bytes },  /* three tables that we do not write would begin here: readers take it as the xorbs' end */
        { 40, out->n_bytes },
        { 56, out->n_bytes },
        { 104, now },
        { 112, expires },
        { 192, out->n_bytes }, /* where the footer begins */
    };

    if (rc)
        return rc;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        for (uint64_t b = 0; b < 8; b++)
            footer[fields[i][0] + b] = (uint8_t)(fields[i][1] >> 8 * b);
    memcpy(footer + 72, key, 32);
    return fs_buf_append(out, footer, sizeof footer, err);
}
