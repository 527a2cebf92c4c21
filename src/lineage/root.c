/* See the header. Chunks are hashed by all threads, some hundreds at a time: of one large tensor or of many small ones. */
#include "lineage/root.h"

#include "base/utf8.h"
#include "crypto/sha256.h"
#include "tensor/blocks.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define CHUNKS_AT_ONCE 256
#define ROW_ELEMS_MAX  4096 /* looked through at a time */

bool fs_root_equal(const fs_root *a, const fs_root *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

void fs_root_hex(const fs_root *r, char ret[65])
{
    fs_hex(r->bytes, sizeof r->bytes, ret);
}

bool fs_root_read(fs_bytes text, fs_root *ret)
{
    return fs_hex_read(text, ret->bytes, sizeof ret->bytes);
}

/* ---- trees ---- */

static fs_status hash_node(const fs_root *left, const fs_root *right, fs_root *ret, fs_error *err)
{
    fs_sha256 h;
    fs_status rc = fs_sha256_init(&h, err);

    if (rc)
        return rc;
    fs_sha256_update(&h, "\x01", 1);
    fs_sha256_update(&h, left->bytes, sizeof left->bytes);
    fs_sha256_update(&h, right->bytes, sizeof right->bytes);
    fs_sha256_final(&h, ret->bytes);
    return FS_OK;
}

/* Joining neighbours level by level, an odd last one going up as it is, gives RFC 6962's shape: its left subtrees are the
 * largest full ones. */
fs_status fs_root_tree(fs_root *leaves, size_t n, fs_root *ret, fs_error *err)
{
    fs_status rc;

    if (n == 0)
        return fs_sha256_of((fs_bytes){ 0 }, ret->bytes, err);
    for (; n > 1; n = (n + 1) / 2) {
        for (size_t i = 0; i + 1 < n; i += 2) {
            rc = hash_node(&leaves[i], &leaves[i + 1], &leaves[i / 2], err);
            if (rc)
                return rc;
        }
        if (n % 2)
            leaves[n / 2] = leaves[n - 1];
    }
    *ret = leaves[0];
    return FS_OK;
}

/* ---- chunks ---- */

static fs_status hash_chunk(const uint8_t *data, size_t n_bytes, fs_root *ret)
{
    fs_sha256 h;
    fs_status rc = fs_sha256_init(&h, NULL);

    if (rc)
        return rc;
    fs_sha256_update(&h, "\x00", 1);
    fs_sha256_update(&h, data, n_bytes);
    fs_sha256_final(&h, ret->bytes);
    return FS_OK;
}

static size_t chunks_of(const fs_tensor *t)
{
    return t->n_bytes / FS_ROOT_CHUNK_BYTES + (t->n_bytes % FS_ROOT_CHUNK_BYTES != 0);
}

/* Tensors whose chunks are hashed together. */
typedef struct batch {
    const fs_tensor *const *tensors; /* [n] */
    size_t n;
    size_t *first;                   /* [n + 1] number of each one's first chunk */
    fs_root *chunks;                 /* [first[n]] */
    size_t begin;                    /* of the chunks under way */
    const fs_tensor *rows;           /* those of a block type are looked through */
    _Atomic(fs_status) failed;
    atomic_size_t nan;               /* the first tensor that has one; n: none */
} batch;

static void note_nan(batch *b, size_t tensor)
{
    size_t have = atomic_load(&b->nan);

    while (tensor < have && !atomic_compare_exchange_weak(&b->nan, &have, tensor))
        ;
}

static size_t tensor_of_chunk(const batch *b, size_t chunk)
{
    size_t low = 0, high = b->n;

    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        *(b->first[mid] <= chunk ? &low : &high) = mid;
    }
    return low;
}

static void hash_chunks(void *ud, size_t begin, size_t end, int thread)
{
    batch *b = ud;

    (void)thread;
    for (size_t i = b->begin + begin; i < b->begin + end; i++) {
        size_t k = tensor_of_chunk(b, i);
        const fs_tensor *t = b->tensors[k];
        size_t at = (i - b->first[k]) * FS_ROOT_CHUNK_BYTES, left = t->n_bytes - at, n = left < FS_ROOT_CHUNK_BYTES ? left : FS_ROOT_CHUNK_BYTES;
        fs_status rc = hash_chunk(t->data + at, n, &b->chunks[i]);
        if (rc)
            atomic_store(&b->failed, rc);
        if (fs_dtype_has_nan(t->dtype, t->data + at, n / fs_dtype_get(t->dtype)->block_bytes))
            note_nan(b, k);
    }
}

/* Of a block type, whose values tell. */
static bool row_has_nan(const fs_tensor *t, uint64_t row)
{
    float values[ROW_ELEMS_MAX];
    size_t n_cols = (size_t)fs_tensor_cols(t);

    for (size_t col = 0; col < n_cols; col += ROW_ELEMS_MAX) {
        size_t n = n_cols - col < ROW_ELEMS_MAX ? n_cols - col : ROW_ELEMS_MAX;
        fs_tensor_part_f32(t, row, col, n, values);
        for (size_t i = 0; i < n; i++)
            if (isnan(values[i]))
                return true;
    }
    return false;
}

static void look_through_rows(void *ud, size_t begin, size_t end, int thread)
{
    batch *b = ud;

    (void)thread;
    for (size_t row = begin; row < end; row++)
        if (row_has_nan(b->rows, row))
            note_nan(b, b->begin);
}

static void put_le(fs_sha256 *h, uint64_t v, size_t n_bytes)
{
    uint8_t b[8];

    for (size_t i = 0; i < 8; i++)
        b[i] = (uint8_t)(v >> 8 * i);
    fs_sha256_update(h, b, n_bytes);
}

static fs_status hash_tensor(const fs_tensor *t, const fs_root *chunks, fs_root *ret, fs_error *err)
{
    const fs_dtype_info *d = fs_dtype_get(t->dtype);
    const char *dtype = d->safetensors_name ? d->safetensors_name : d->name;
    fs_sha256 h;
    fs_status rc = fs_sha256_init(&h, err);

    if (rc)
        return rc;
    fs_sha256_update(&h, "\x02", 1);
    put_le(&h, strlen(t->name), 4);
    fs_sha256_update(&h, t->name, strlen(t->name));
    put_le(&h, strlen(dtype), 4);
    fs_sha256_update(&h, dtype, strlen(dtype));
    put_le(&h, (uint64_t)t->n_dims, 4);
    for (int i = 0; i < t->n_dims; i++)
        put_le(&h, t->dims[i], 8);
    fs_sha256_update(&h, chunks->bytes, sizeof chunks->bytes);
    fs_sha256_final(&h, ret->bytes);
    return FS_OK;
}

/* ---- a model ---- */

typedef struct walk {
    fs_pool *pool;
    const fs_progress *progress;
    uint64_t done_bytes, total_bytes;
} walk;

static fs_status hash_batch_chunks(batch *b, walk *k, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < b->n; i++) {
        b->begin = i;
        b->rows = b->tensors[i];
        if (fs_dtype_is_block(b->rows->dtype) && b->rows->n_bytes > 0)
            fs_pool_for(k->pool, (size_t)fs_tensor_rows(b->rows), 64, look_through_rows, b);
    }
    for (size_t begin = 0, n; begin < b->first[b->n] && !rc; begin += n) {
        n = b->first[b->n] - begin < CHUNKS_AT_ONCE ? b->first[b->n] - begin : CHUNKS_AT_ONCE;
        b->begin = begin;
        fs_pool_for(k->pool, n, 1, hash_chunks, b);
        if (atomic_load(&b->failed))
            rc = fs_fail(err, atomic_load(&b->failed), "sha256: cannot start");
        else if (atomic_load(&b->nan) < b->n)
            rc = fs_fail(err, FS_ERR_NUMERIC, "tensor '%s' has a NaN, so that it has no root", b->tensors[atomic_load(&b->nan)]->name);
        else
            rc = fs_progress_tell(k->progress, k->done_bytes + (begin + n) * FS_ROOT_CHUNK_BYTES, k->total_bytes, err);
    }
    return rc;
}

/* Appends the tensors' roots to r. */
static fs_status hash_batch(batch *b, walk *k, fs_roots *r, fs_error *err)
{
    fs_status rc = hash_batch_chunks(b, k, err);

    for (size_t i = 0; i < b->n && !rc; i++) {
        const fs_tensor *t = b->tensors[i];
        fs_root top;
        rc = fs_root_tree(b->chunks + b->first[i], b->first[i + 1] - b->first[i], &top, err);
        if (!rc)
            rc = hash_tensor(t, &top, &r->items[r->n].root, err);
        if (!rc && (r->items[r->n].name = strdup(t->name)) == NULL)
            rc = fs_fail_memory(err, strlen(t->name) + 1);
        r->n += !rc;
        k->done_bytes += t->n_bytes;
    }
    return rc;
}

/* The tensors from first on whose chunks are hashed together: one, or as many as have not too many of them. */
static size_t batch_end(const fs_tensor *const *tensors, size_t n, size_t first)
{
    size_t end = first, n_chunks = 0;

    do
        n_chunks += chunks_of(tensors[end++]);
    while (end < n && n_chunks + chunks_of(tensors[end]) <= CHUNKS_AT_ONCE);
    return end;
}

static fs_status hash_some(const fs_tensor *const *tensors, size_t n, walk *k, fs_roots *r, fs_error *err)
{
    batch b = { .tensors = tensors, .n = n, .first = malloc((n + 1) * sizeof *b.first) };
    fs_status rc = FS_OK;

    atomic_store(&b.nan, n);
    if (!b.first)
        return fs_fail_memory(err, (n + 1) * sizeof *b.first);
    b.first[0] = 0;
    for (size_t i = 0; i < n; i++)
        b.first[i + 1] = b.first[i] + chunks_of(tensors[i]);
    b.chunks = malloc((b.first[n] + 1) * sizeof *b.chunks);
    if (!b.chunks)
        rc = fs_fail_memory(err, (b.first[n] + 1) * sizeof *b.chunks);
    if (!rc)
        rc = hash_batch(&b, k, r, err);
    free(b.first);
    free(b.chunks);
    return rc;
}

static fs_status root_of_model(fs_roots *r, fs_error *err)
{
    fs_root *leaves = malloc((r->n ? r->n : 1) * sizeof *leaves);
    fs_status rc;

    if (!leaves)
        return fs_fail_memory(err, r->n * sizeof *leaves);
    for (size_t i = 0; i < r->n; i++)
        leaves[i] = r->items[i].root;
    rc = fs_root_tree(leaves, r->n, &r->model, err);
    free(leaves);
    return rc;
}

fs_status fs_roots_of_tensors(const fs_tensor *const *tensors, size_t n, fs_pool *pool, const fs_progress *progress, fs_roots *ret,
                              fs_error *err)
{
    walk k = { .pool = pool, .progress = progress };
    fs_roots r = { 0 };
    fs_status rc = FS_OK;

    for (size_t i = 0; i < n; i++)
        k.total_bytes += tensors[i]->n_bytes;
    r.n_bytes = k.total_bytes;
    r.items = calloc(n ? n : 1, sizeof *r.items);
    if (!r.items)
        rc = fs_fail_memory(err, n * sizeof *r.items);
    for (size_t i = 0, end; i < n && !rc; i = end) {
        end = batch_end(tensors, n, i);
        rc = hash_some(tensors + i, end - i, &k, &r, err);
    }
    if (!rc)
        rc = root_of_model(&r, err);
    if (rc) {
        fs_roots_done(&r);
        return rc;
    }
    *ret = r;
    return FS_OK;
}

fs_status fs_roots_of(const fs_weights *w, fs_pool *pool, const fs_progress *progress, fs_roots *ret, fs_error *err)
{
    const fs_tensor **stored = NULL;
    size_t n;
    fs_status rc = fs_weights_stored(w, &stored, &n, err);

    if (!rc)
        rc = fs_roots_of_tensors(stored, n, pool, progress, ret, err);
    free(stored);
    return rc;
}

void fs_roots_done(fs_roots *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n; i++)
        free(r->items[i].name);
    free(r->items);
    *r = (fs_roots){ 0 };
}

/* ---- streams ---- */

static fs_status end_chunk(fs_root_stream *s, fs_error *err)
{
    size_t capacity = s->capacity ? 2 * s->capacity : 64;
    fs_root *more = s->n < s->capacity ? s->chunks : realloc(s->chunks, capacity * sizeof *more);

    if (!more)
        return fs_fail_memory(err, capacity * sizeof *more);
    if (s->n == s->capacity) {
        s->chunks = more;
        s->capacity = capacity;
    }
    fs_sha256_final(&s->chunk, s->chunks[s->n++].bytes);
    s->chunk_bytes = 0;
    return FS_OK;
}

fs_status fs_root_stream_put(fs_root_stream *s, const void *data, size_t n_bytes, fs_error *err)
{
    const uint8_t *at = data;
    fs_status rc = FS_OK;

    while (n_bytes > 0 && !rc) {
        size_t left = FS_ROOT_CHUNK_BYTES - s->chunk_bytes, n = n_bytes < left ? n_bytes : left;
        if (s->chunk_bytes == 0 && (rc = fs_sha256_init(&s->chunk, err)) == FS_OK)
            fs_sha256_update(&s->chunk, "\x00", 1);
        if (rc)
            return rc;
        fs_sha256_update(&s->chunk, at, n);
        s->chunk_bytes += n;
        at += n;
        n_bytes -= n;
        if (s->chunk_bytes == FS_ROOT_CHUNK_BYTES)
            rc = end_chunk(s, err);
    }
    return rc;
}

fs_status fs_root_stream_end(fs_root_stream *s, fs_root *ret, fs_error *err)
{
    fs_status rc = s->chunk_bytes > 0 ? end_chunk(s, err) : FS_OK;

    if (!rc)
        rc = fs_root_tree(s->chunks, s->n, ret, err);
    fs_root_stream_done(s);
    return rc;
}

void fs_root_stream_done(fs_root_stream *s)
{
    if (s->chunk_bytes > 0)
        fs_sha256_done(&s->chunk);
    free(s->chunks);
    *s = (fs_root_stream){ 0 };
}

/* ---- the list ---- */

fs_status fs_roots_write(const fs_roots *r, fs_buf *out, fs_error *err)
{
    char hex[65];
    fs_status rc = FS_OK;

    for (size_t i = 0; i < r->n && !rc; i++) {
        fs_root_hex(&r->items[i].root, hex);
        rc = fs_buf_printf(out, err, "%s %s\n", hex, r->items[i].name);
    }
    return rc;
}

/* "hex name"; names are what a tensor may be called: UTF-8 without control characters. */
static bool read_line(fs_bytes line, struct fs_tensor_root *ret, fs_bytes *ret_name)
{
    if (line.n_bytes < 66 || line.data[64] != ' ' || !fs_root_read((fs_bytes){ line.data, 64 }, &ret->root))
        return false;
    *ret_name = (fs_bytes){ line.data + 65, line.n_bytes - 65 };
    for (size_t i = 0; i < ret_name->n_bytes; i++)
        if (ret_name->data[i] < 0x20)
            return false;
    return fs_utf8_valid(*ret_name);
}

fs_status fs_roots_read(fs_bytes text, const char *what, fs_roots *ret, fs_error *err)
{
    fs_roots r = { 0 };
    size_t n_lines = 0, at = 0;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < text.n_bytes; i++)
        n_lines += text.data[i] == '\n';
    if (text.n_bytes > 0 && text.data[text.n_bytes - 1] != '\n')
        return fs_fail(err, FS_ERR_FORMAT, "'%s' ends in the middle of a line", what);
    r.items = calloc(n_lines ? n_lines : 1, sizeof *r.items);
    if (!r.items)
        return fs_fail_memory(err, n_lines * sizeof *r.items);
    for (size_t i = 0; i < n_lines && !rc; i++) {
        const uint8_t *end = memchr(text.data + at, '\n', text.n_bytes - at);
        fs_bytes line = { text.data + at, (size_t)(end - (text.data + at)) }, name;
        if (!read_line(line, &r.items[i], &name)) {
            rc = fs_fail(err, FS_ERR_FORMAT, "'%s', line %zu: not a hash and a tensor's name", what, i + 1);
            break;
        }
        r.items[i].name = strndup((const char *)name.data, name.n_bytes);
        if (!r.items[i].name) {
            rc = fs_fail_memory(err, name.n_bytes + 1);
            break;
        }
        r.n++;
        if (i > 0 && strcmp(r.items[i - 1].name, r.items[i].name) >= 0)
            rc = fs_fail(err, FS_ERR_FORMAT, "'%s', line %zu: tensor '%s' is not behind the one before it", what, i + 1, r.items[i].name);
        at += line.n_bytes + 1;
    }
    if (!rc)
        rc = root_of_model(&r, err);
    if (rc) {
        fs_roots_done(&r);
        return rc;
    }
    *ret = r;
    return FS_OK;
}
