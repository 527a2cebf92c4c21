/* See the header. */
#include "hub/xet_xorb.h"

#include <assert.h>
#include <lz4frame.h>
#include <stdlib.h>
#include <string.h>

enum { STORED, LZ4, GROUPED_LZ4 };

static uint32_t u24(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
}

static void put_u24(uint8_t *p, uint32_t n)
{
    p[0] = (uint8_t)n;
    p[1] = (uint8_t)(n >> 8);
    p[2] = (uint8_t)(n >> 16);
}

/* ---- bytes by their position modulo 4 ---- */
static void group(const uint8_t *in, uint32_t n, uint8_t *ret)
{
    for (uint32_t g = 0; g < 4; g++)
        for (uint32_t i = g; i < n; i += 4)
            *ret++ = in[i];
}

static void ungroup(const uint8_t *in, uint32_t n, uint8_t *ret)
{
    for (uint32_t g = 0; g < 4; g++)
        for (uint32_t i = g; i < n; i += 4)
            ret[i] = *in++;
}

/* ---- one chunk ---- */
/* A whole frame and nothing behind it, of exactly n bytes. */
static fs_status unframe(const uint8_t *in, uint32_t n_in, uint8_t *ret, uint32_t n, fs_error *err)
{
    LZ4F_dctx *d = NULL;
    size_t left = n_in, to = n, hint = 1;
    bool ok = !LZ4F_isError(LZ4F_createDecompressionContext(&d, LZ4F_VERSION));

    if (!ok)
        return fs_fail(err, FS_ERR_MEMORY, "xorb: no memory to decompress");
    /* Where there is nothing to write to any more, the frame's end may still be there to read. */
    for (size_t done = 0; ok && hint != 0 && left > 0;) {
        size_t taken = left, made = to - done;
        hint = LZ4F_decompress(d, ret + done, &made, in + (n_in - left), &taken, NULL);
        ok = !LZ4F_isError(hint) && (taken > 0 || made > 0);
        left -= taken;
        done += made;
        n -= (uint32_t)made;
    }
    LZ4F_freeDecompressionContext(d);
    if (!ok || hint != 0 || left > 0 || n > 0)
        return fs_fail(err, FS_ERR_FORMAT, "xorb: a chunk is no LZ4 frame of its length");
    return FS_OK;
}

/* Looks at a chunk's header. */
static fs_status head(fs_bytes bytes, uint32_t *ret_packed, uint32_t *ret_n_bytes, fs_error *err)
{
    uint32_t packed, n;

    if (bytes.n_bytes < FS_XORB_HEADER_BYTES)
        return fs_fail(err, FS_ERR_FORMAT, "xorb: %zu bytes at the end are no chunk", bytes.n_bytes);
    packed = u24(bytes.data + 1);
    n = u24(bytes.data + 5);
    if (bytes.data[0] != 0)
        return fs_fail(err, FS_ERR_FORMAT, "xorb: a chunk of version %u, known is 0", bytes.data[0]);
    if (bytes.data[4] > GROUPED_LZ4)
        return fs_fail(err, FS_ERR_FORMAT, "xorb: compression %u is not known", bytes.data[4]);
    if (n == 0 || n > FS_XET_CHUNK_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "xorb: a chunk of %u bytes, 1 to %u are allowed", n, FS_XET_CHUNK_MAX);
    if (packed > bytes.n_bytes - FS_XORB_HEADER_BYTES)
        return fs_fail(err, FS_ERR_FORMAT, "xorb: a chunk of %u bytes where %zu are left", packed, bytes.n_bytes - FS_XORB_HEADER_BYTES);
    if (packed > FS_XORB_PACKED_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "xorb: a chunk of %u bytes takes %u", n, packed);
    if (bytes.data[4] == STORED && packed != n)
        return fs_fail(err, FS_ERR_FORMAT, "xorb: a stored chunk of %u bytes is said to have %u", packed, n);
    *ret_packed = packed;
    *ret_n_bytes = n;
    return FS_OK;
}

fs_status fs_xorb_unpack(fs_bytes bytes, uint8_t *room, fs_bytes *ret, uint32_t *ret_n_taken, fs_error *err)
{
    uint8_t grouped[FS_XET_CHUNK_MAX];
    uint32_t packed, n;
    const uint8_t *body = bytes.data + FS_XORB_HEADER_BYTES;
    fs_status rc = head(bytes, &packed, &n, err);

    if (rc)
        return rc;
    switch (bytes.data[4]) {
    case STORED:
        break;
    case LZ4:
        rc = unframe(body, packed, room, n, err);
        break;
    default:
        rc = unframe(body, packed, grouped, n, err);
        if (!rc)
            ungroup(grouped, n, room);
    }
    if (rc)
        return rc;
    *ret = (fs_bytes){ bytes.data[4] == STORED ? body : room, n };
    *ret_n_taken = FS_XORB_HEADER_BYTES + packed;
    return FS_OK;
}

fs_status fs_xorb_pack(fs_buf *out, const uint8_t *data, uint32_t n_bytes, fs_error *err)
{
    uint8_t grouped[FS_XET_CHUNK_MAX], header[FS_XORB_HEADER_BYTES] = { 0 };
    size_t bound = LZ4F_compressFrameBound(FS_XET_CHUNK_MAX, NULL), best = n_bytes;
    uint8_t *packed[2] = { NULL, NULL };
    const uint8_t *body = data;
    fs_status rc = FS_OK;

    assert(n_bytes > 0 && n_bytes <= FS_XET_CHUNK_MAX);
    group(data, n_bytes, grouped);
    for (int i = 0; i < 2 && !rc; i++) {
        size_t n;
        packed[i] = malloc(bound);
        if (!packed[i]) {
            rc = fs_fail(err, FS_ERR_MEMORY, "xorb: no memory to compress");
            break;
        }
        n = LZ4F_compressFrame(packed[i], bound, i ? grouped : data, n_bytes, NULL);
        if (!LZ4F_isError(n) && n < best) {
            best = n;
            body = packed[i];
            header[4] = i ? GROUPED_LZ4 : LZ4;
        }
    }
    put_u24(header + 1, (uint32_t)best);
    put_u24(header + 5, n_bytes);
    if (!rc)
        rc = fs_buf_append(out, header, sizeof header, err);
    if (!rc)
        rc = fs_buf_append(out, body, best, err);
    free(packed[0]);
    free(packed[1]);
    return rc;
}

/* ---- all of them ---- */
uint32_t fs_xorb_begin(const fs_xorb *x, uint32_t i)
{
    return i ? x->chunks[i - 1].end : 0;
}

void fs_xorb_done(fs_xorb *x)
{
    if (!x)
        return;
    free(x->chunks);
    *x = (fs_xorb){ 0 };
}

static bool is_footer(fs_bytes rest)
{
    return rest.n_bytes >= 7 && !memcmp(rest.data, "XETBLOB", 7);
}

/* How many chunks there are, by their headers. */
static fs_status count(fs_bytes file, uint32_t *ret, fs_error *err)
{
    uint32_t n = 0, packed, n_bytes;

    for (fs_bytes rest = file; rest.n_bytes && !is_footer(rest); n++) {
        fs_status rc = head(rest, &packed, &n_bytes, err);
        if (rc)
            return rc;
        if (n == FS_XORB_CHUNKS_MAX)
            return fs_fail(err, FS_ERR_FORMAT, "xorb: more than %u chunks", FS_XORB_CHUNKS_MAX);
        rest.data += FS_XORB_HEADER_BYTES + packed;
        rest.n_bytes -= FS_XORB_HEADER_BYTES + packed;
    }
    if (n == 0)
        return fs_fail(err, FS_ERR_FORMAT, "xorb: no chunk");
    *ret = n;
    return FS_OK;
}

fs_status fs_xorb_read(fs_bytes file, fs_xorb *ret, fs_error *err)
{
    fs_xorb x = { 0 };
    fs_xet_tree tree = { 0 };
    uint8_t *room;
    uint32_t at = 0, n_taken;
    fs_status rc;

    if (file.n_bytes > FS_XORB_BYTES_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "xorb: %zu bytes, at most %zu are allowed", file.n_bytes, FS_XORB_BYTES_MAX);
    rc = count(file, &x.n_chunks, err);
    if (rc)
        return rc;
    x.chunks = calloc(x.n_chunks, sizeof *x.chunks);
    room = malloc(FS_XET_CHUNK_MAX);
    if (!x.chunks || !room)
        rc = fs_fail(err, FS_ERR_MEMORY, "xorb: no memory for %u chunks", x.n_chunks);
    for (uint32_t i = 0; i < x.n_chunks && !rc; i++) {
        fs_xorb_chunk *c = x.chunks + i;
        fs_bytes data;
        rc = fs_xorb_unpack((fs_bytes){ file.data + at, file.n_bytes - at }, room, &data, &n_taken, err);
        if (rc)
            break;
        at += n_taken;
        c->end = at;
        c->n_bytes = (uint32_t)data.n_bytes;
        x.n_bytes += c->n_bytes;
        fs_xet_chunk_hash(data.data, c->n_bytes, &c->hash);
        fs_xet_tree_add(&tree, &c->hash, c->n_bytes);
    }
    if (!rc)
        fs_xet_tree_end_xorb(&tree, &x.hash);
    free(room);
    if (rc)
        fs_xorb_done(&x);
    else
        *ret = x;
    return rc;
}
