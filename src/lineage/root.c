/* See the header. A tensor's chunks are hashed by all threads, some hundreds at a time. */
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
    fs_sha256 h;
    fs_status rc;

    if (n == 0) {
        rc = fs_sha256_init(&h, err);
        if (!rc)
            fs_sha256_final(&h, ret->bytes);
        return rc;
    }
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

/* ---- one tensor ---- */

typedef struct chunk_job {
    const fs_tensor *tensor;
    size_t first; /* chunk */
    fs_root *roots;
    _Atomic(fs_status) failed;
    atomic_bool nan;
} chunk_job;

static void hash_chunks(void *ud, size_t begin, size_t end, int thread)
{
    chunk_job *j = ud;
    fs_sha256 h;

    (void)thread;
    for (size_t i = j->first + begin; i < j->first + end; i++) {
        size_t at = i * FS_ROOT_CHUNK_BYTES, left = j->tensor->n_bytes - at, n = left < FS_ROOT_CHUNK_BYTES ? left : FS_ROOT_CHUNK_BYTES;
        fs_status rc = fs_sha256_init(&h, NULL);
        if (rc) {
            atomic_store(&j->failed, rc);
            return;
        }
        fs_sha256_update(&h, "\x00", 1);
        fs_sha256_update(&h, j->tensor->data + at, n);
        fs_sha256_final(&h, j->roots[i].bytes);
        if (fs_dtype_has_nan(j->tensor->dtype, j->tensor->data + at, n / fs_dtype_get(j->tensor->dtype)->block_bytes))
            atomic_store(&j->nan, true);
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
    chunk_job *j = ud;

    (void)thread;
    for (size_t row = begin; row < end && !atomic_load_explicit(&j->nan, memory_order_relaxed); row++)
        if (row_has_nan(j->tensor, row))
            atomic_store(&j->nan, true);
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

static fs_status root_of_tensor(const fs_tensor *t, walk *k, fs_root *ret, fs_error *err)
{
    size_t n = t->n_bytes / FS_ROOT_CHUNK_BYTES + (t->n_bytes % FS_ROOT_CHUNK_BYTES != 0), n_now;
    fs_root *chunks = malloc((n ? n : 1) * sizeof *chunks), top;
    chunk_job j = { .tensor = t, .roots = chunks };
    fs_status rc = FS_OK;

    if (!chunks)
        return fs_fail_memory(err, n * sizeof *chunks);
    if (fs_dtype_is_block(t->dtype) && t->n_bytes > 0)
        fs_pool_for(k->pool, (size_t)fs_tensor_rows(t), 64, look_through_rows, &j);
    for (; !rc && j.first < n; j.first += n_now) {
        n_now = n - j.first < CHUNKS_AT_ONCE ? n - j.first : CHUNKS_AT_ONCE;
        fs_pool_for(k->pool, n_now, 1, hash_chunks, &j);
        if (atomic_load(&j.failed))
            rc = fs_fail(err, atomic_load(&j.failed), "sha256: cannot start");
        else if (atomic_load(&j.nan))
            rc = fs_fail(err, FS_ERR_NUMERIC, "tensor '%s' has a NaN, so that it has no root", t->name);
        if (!rc)
            rc = fs_progress_tell(k->progress, k->done_bytes + (j.first + n_now) * FS_ROOT_CHUNK_BYTES, k->total_bytes, err);
    }
    if (!rc)
        rc = fs_root_tree(chunks, n, &top, err);
    if (!rc)
        rc = hash_tensor(t, &top, ret, err);
    k->done_bytes += t->n_bytes;
    free(chunks);
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

fs_status fs_roots_of(const fs_weights *w, fs_pool *pool, const fs_progress *progress, fs_roots *ret, fs_error *err)
{
    walk k = { .pool = pool, .progress = progress };
    const fs_tensor **stored = NULL;
    fs_roots r = { 0 };
    size_t n;
    fs_status rc = fs_weights_stored(w, &stored, &n, err);

    if (rc)
        return rc;
    for (size_t i = 0; i < n; i++)
        k.total_bytes += stored[i]->n_bytes;
    r.n_bytes = k.total_bytes;
    r.items = calloc(n ? n : 1, sizeof *r.items);
    if (!r.items)
        rc = fs_fail_memory(err, n * sizeof *r.items);
    for (; !rc && r.n < n; r.n += !rc) {
        r.items[r.n].name = strdup(stored[r.n]->name);
        rc = r.items[r.n].name ? root_of_tensor(stored[r.n], &k, &r.items[r.n].root, err) : fs_fail_memory(err, strlen(stored[r.n]->name) + 1);
        if (rc)
            free(r.items[r.n].name);
    }
    free(stored);
    if (!rc)
        rc = root_of_model(&r, err);
    if (rc) {
        fs_roots_done(&r);
        return rc;
    }
    *ret = r;
    return FS_OK;
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
