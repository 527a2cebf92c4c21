/* A shard that is uploaded: every file in it is read through and checked before it counts. */
#include "hub/xet_internal.h"

#include "crypto/sha256.h"
#include "crypto/sha256_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FILE_CHUNKS_MAX ((uint64_t)1 << 25) /* 2 TiB of chunks of the mean length */
#define TERMS_LEAST     1024
#define TERM_BYTES_MEAN ((uint64_t)64 << 10) /* a chunk's mean; clients join several, and whoever reads a file has its terms in memory */

typedef struct ingest {
    fs_hub_call *c;
    bool streamed;
    uint64_t verified, total; /* files */
    fs_xet_source source;
} ingest;

/* The terms name chunks that are here, prove that the client knows them, and together have the file's hash. */
static fs_status check_terms(ingest *g, const fs_shard_file *f, fs_error *err)
{
    fs_xet_tree tree = { 0 };
    fs_xet_hash *hashes, hash;
    uint64_t total = 0;
    fs_status rc = FS_OK;

    for (uint32_t t = 0; t < f->n_terms; t++)
        total += f->terms[t].end - f->terms[t].begin;
    if (f->n_terms == 0 || !f->has_ranges || !f->has_sha256)
        return fs_fail(err, FS_ERR_FORMAT, "shard: a file needs terms, their verification and its SHA-256");
    if (total > FILE_CHUNKS_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "shard: a file of %llu chunks, at most %llu are allowed", (unsigned long long)total, (unsigned long long)FILE_CHUNKS_MAX);
    if (f->n_terms > TERMS_LEAST + f->n_bytes / TERM_BYTES_MEAN)
        return fs_fail(err, FS_ERR_FORMAT, "shard: a file of %llu bytes in %u terms, at most %llu are allowed", (unsigned long long)f->n_bytes, f->n_terms,
                       (unsigned long long)(TERMS_LEAST + f->n_bytes / TERM_BYTES_MEAN));
    hashes = malloc((size_t)FS_XORB_CHUNKS_MAX * sizeof *hashes);
    if (!hashes)
        rc = fs_fail_memory(err, FS_XORB_CHUNKS_MAX * sizeof *hashes);
    for (uint32_t t = 0; t < f->n_terms && !rc; t++) {
        const fs_shard_term *term = f->terms + t;
        const fs_xorb *x = NULL;
        uint64_t n_bytes = 0;
        rc = fs_xet_source_find(&g->source, &term->xorb, &x, err);
        if (rc)
            break;
        if (term->end > x->n_chunks) {
            rc = fs_fail(err, FS_ERR_FORMAT, "shard: a term of the chunks %u to %u of a xorb with %u", term->begin, term->end, x->n_chunks);
            break;
        }
        for (uint32_t i = term->begin; i < term->end; i++) {
            hashes[i - term->begin] = x->chunks[i].hash;
            fs_xet_tree_add(&tree, &x->chunks[i].hash, x->chunks[i].n_bytes);
            n_bytes += x->chunks[i].n_bytes;
        }
        fs_xet_range_hash(hashes, term->end - term->begin, &hash);
        if (n_bytes != term->n_bytes || !fs_xet_hash_equal(&hash, &term->range))
            rc = fs_fail(err, FS_ERR_FORMAT, "shard: a term's bytes or verification are not those of its chunks");
    }
    if (!rc) {
        fs_xet_tree_end_file(&tree, &hash);
        if (!fs_xet_hash_equal(&hash, &f->hash))
            rc = fs_fail(err, FS_ERR_FORMAT, "shard: a file's hash is not that of its chunks");
    }
    free(hashes);
    return rc;
}

static fs_status tell(ingest *g, fs_error *err)
{
    char line[120];

    if (!g->streamed)
        return FS_OK;
    snprintf(line, sizeof line, "{\"type\":\"validating\",\"verified\":%llu,\"total\":%llu}\n", (unsigned long long)g->verified, (unsigned long long)g->total);
    return fs_http_stream_write(g->c->http, line, strlen(line), err);
}

typedef struct reading {
    ingest *g;
    fs_hub_incoming *in; /* a file of it, where one is made */
    fs_sha256_stream *sha;
    uint64_t n_bytes, told;
} reading;

/* A client that hears nothing for long gives up. */
static fs_status take(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    reading *r = ud;
    fs_status rc = FS_OK;

    if (r->in)
        rc = fs_hub_incoming_put(r->in, data, n_bytes, err);
    else
        fs_sha256_stream_put(r->sha, data, n_bytes);
    r->n_bytes += n_bytes;
    if (rc || r->n_bytes - r->told <= (uint64_t)256 << 20)
        return rc;
    r->told = r->n_bytes;
    return tell(r->g, err);
}

/* All of the file's content to take. What is not as it was checked when it came is no fault of the client's. */
static fs_status read_all(ingest *g, const fs_shard_file *f, reading *r, fs_error *err)
{
    fs_status rc = fs_xet_source_read(&g->source, f->terms, f->n_terms, 0, UINT64_MAX, take, r, err);
    fs_error why = *err;

    return rc == FS_ERR_FORMAT ? fs_fail(err, FS_ERR_IO, "%s", why.message) : rc;
}

/* Whether the content is what the client says. */
static fs_status check_content(ingest *g, const fs_shard_file *f, const char *sha256, fs_error *err)
{
    reading r = { .g = g };
    char got[65] = "";
    fs_status rc = fs_sha256_stream_open(&r.sha, err);

    if (!rc)
        rc = read_all(g, f, &r, err);
    if (!rc) {
        fs_sha256_stream_final_hex(r.sha, got);
        r.sha = NULL;
        if (strcmp(got, sha256) != 0)
            rc = fs_fail(err, FS_ERR_FORMAT, "%llu bytes arrived whose SHA-256 is %s, not %s", (unsigned long long)r.n_bytes, got, sha256);
    }
    fs_sha256_stream_close(r.sha);
    return rc;
}

/* An S3 store has the whole file too: it sends what is there. */
static fs_status build(ingest *g, const fs_shard_file *f, const char *sha256, fs_error *err)
{
    const fs_hub *h = g->c->hub;
    fs_hub_incoming in = { .fd = -1 };
    reading r = { .g = g, .in = &in };
    fs_status rc = fs_hub_incoming_open(h, sha256, f->n_bytes, &in, err);

    if (!rc)
        rc = read_all(g, f, &r, err);
    if (!rc)
        rc = fs_hub_incoming_commit(h, &in, g->c->db, sha256, err);
    fs_hub_incoming_close(&in);
    return rc;
}

/* The owner of the token's repository may have the files that are new to it, and the disk has room for them, should they be made (xet_build.c): what is
 * compressed, or named by many terms, is no measure of a file. */
static fs_status check_room(ingest *g, const fs_shard *s, fs_error *err)
{
    uint64_t new = 0;
    fs_status rc = FS_OK;

    for (uint32_t i = 0; i < s->n_files && !rc; i++) {
        char sha256[65];
        bool held = false;
        uint64_t n_bytes;
        fs_hex(s->files[i].sha256, sizeof s->files[i].sha256, sha256);
        rc = fs_hub_object_of(g->c->hub, g->c->db, g->c->xet.repo, sha256, &held, &n_bytes, err);
        if (!held && s->files[i].n_bytes > (uint64_t)INT64_MAX - new)
            rc = fs_fail(err, FS_ERR_FORMAT, "shard: files of more bytes than can be");
        new += held ? 0 : s->files[i].n_bytes;
    }
    return rc ? rc : fs_hub_room_for(g->c->hub, g->c->db, g->c->xet.repo, new, true, err);
}

static fs_status ingest_files(ingest *g, const fs_shard *s, fs_error *err)
{
    fs_hub_call *c = g->c;
    fs_xet_hash *firsts = malloc((s->n_files + 1) * sizeof *firsts);
    bool *was_read = calloc(s->n_files + 1, sizeof *was_read);
    fs_status rc = firsts && was_read ? FS_OK : fs_fail_memory(err, s->n_files * sizeof *firsts);

    if (!rc)
        rc = check_room(g, s, err);
    g->total = s->n_files;
    for (uint32_t i = 0; i < s->n_files && !rc; i++) {
        const fs_shard_file *f = s->files + i;
        const fs_xorb *x = NULL;
        char sha256[65];
        bool known = false;
        rc = check_terms(g, f, err);
        if (!rc)
            rc = fs_xet_source_find(&g->source, &f->terms[0].xorb, &x, err);
        if (!rc)
            firsts[i] = x->chunks[f->terms[0].begin].hash;
        if (!rc)
            rc = fs_xet_file_is_known(c->db, f, &known, err);
        fs_hex(f->sha256, sizeof f->sha256, sha256);
        known = known && fs_hub_object_is_here(c->hub, c->db, sha256); /* it may have gone as garbage just now */
        if (!rc && !known)
            rc = c->hub->s3_url ? build(g, f, sha256, err) : check_content(g, f, sha256, err);
        was_read[i] = !known;
        g->verified++;
        if (!rc)
            rc = tell(g, err);
    }
    if (!rc && g->streamed) {
        static const char line[] = "{\"type\":\"committing\",\"stage\":\"syncing\"}\n";
        rc = fs_http_stream_write(c->http, line, sizeof line - 1, err);
    }
    if (!rc)
        rc = fs_db_begin(c->db, err);
    for (uint32_t i = 0; i < s->n_files && !rc; i++)
        rc = fs_xet_file_add(c->db, c->xet.repo, s->files + i, firsts + i, was_read[i], err);
    for (uint32_t i = 0; i < s->n_files && !rc; i++) { /* nothing goes as garbage within a transaction, but it may have gone before */
        char sha256[65];
        fs_hex(s->files[i].sha256, sizeof s->files[i].sha256, sha256);
        if (!fs_hub_object_is_here(c->hub, c->db, sha256))
            rc = fs_fail(err, FS_ERR_IO, "the object %s went as garbage: send the shard again", sha256);
    }
    if (!rc)
        rc = fs_db_commit(c->db, err);
    if (rc)
        fs_db_rollback(c->db);
    free(firsts);
    free(was_read);
    return rc;
}

static void take_shard(fs_hub_call *c, bool streamed)
{
    ingest g = { .c = c, .streamed = streamed, .source = { .hub = c->hub, .db = c->db, .c = c } };
    fs_shard s = { 0 };
    fs_emit e = { 0 };
    fs_status rc;

    if (!fs_xet_need_token(c, true))
        return;
    rc = fs_shard_read(fs_http_body(c->http), &s, &c->err);
    if (fs_hub_failed(c, rc))
        return;
    if (streamed) {
        c->replied = true;
        fs_http_reply_header(c->http, "Cache-Control", "no-cache");
        fs_http_stream_begin(c->http, 200, "application/x-ndjson");
    }
    rc = ingest_files(&g, &s, &c->err);
    fs_xet_source_done(&g.source);
    fs_shard_done(&s);
    fs_emit_begin(&e, '{');
    if (streamed) {
        fs_emit_str(&e, "type", rc ? "error" : "result");
        if (rc)
            fs_emit_str(&e, "message", c->err.message);
        else
            fs_emit_int(&e, "result", 1);
        fs_emit_end(&e, '}');
        if (e.rc || fs_buf_append(&e.out, "\n", 1, &c->err) || fs_http_stream_write(c->http, e.out.data, e.out.n_bytes, &c->err))
            fs_http_stream_break(c->http);
    } else if (!fs_hub_failed(c, rc)) {
        fs_emit_int(&e, "result", 1);
        fs_emit_end(&e, '}');
        fs_hub_reply(c, 200, &e);
    }
    fs_emit_done(&e);
}

void fs_hub_xet_shard(fs_hub_call *c)
{
    take_shard(c, false);
}

void fs_hub_xet_shard_stream(fs_hub_call *c)
{
    take_shard(c, true);
}

