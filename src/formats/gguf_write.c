/* Values and tensor entries collect in two buffers in the file's own encoding; only the counts before them are not
 * known until the header is wanted. */
#include "formats/gguf_write.h"

#include "base/writer.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct fs_gguf_writer {
    char *path;
    fs_buf values, entries;
    uint64_t n_values;
    uint64_t items_left; /* of the array being given */
    fs_gguf_type item_type;
    size_t *sizes; /* [n_tensors] bytes of data */
    size_t n_tensors, capacity;
    uint64_t data_bytes; /* with the padding behind each tensor */
    fs_writer file;
    bool begun;
    size_t at, left; /* the tensor under way and its bytes to come */
};

static fs_status put_le(fs_buf *b, uint64_t v, int n_bytes, fs_error *err)
{
    uint8_t bytes[8];

    for (int i = 0; i < n_bytes; i++, v >>= 8)
        bytes[i] = (uint8_t)v;
    return fs_buf_append(b, bytes, (size_t)n_bytes, err);
}

static fs_status put_text(fs_buf *b, fs_bytes s, fs_error *err)
{
    fs_status rc = put_le(b, s.n_bytes, 8, err);

    return rc ? rc : fs_buf_append(b, s.data, s.n_bytes, err);
}

static uint64_t padded(uint64_t n)
{
    return (n + FS_GGUF_ALIGNMENT - 1) / FS_GGUF_ALIGNMENT * FS_GGUF_ALIGNMENT;
}

fs_status fs_gguf_writer_new(const char *path, fs_gguf_writer **ret, fs_error *err)
{
    fs_gguf_writer *w = calloc(1, sizeof *w);

    if (!w || !(w->path = strdup(path))) {
        free(w);
        return fs_fail_memory(err, sizeof *w + strlen(path));
    }
    w->file.fd = -1;
    *ret = w;
    return FS_OK;
}

void fs_gguf_writer_close(fs_gguf_writer *w)
{
    if (!w)
        return;
    fs_writer_close(&w->file);
    fs_buf_done(&w->values);
    fs_buf_done(&w->entries);
    free(w->sizes);
    free(w->path);
    free(w);
}

static fs_status put_key(fs_gguf_writer *w, const char *key, fs_gguf_type type, fs_error *err)
{
    fs_status rc;

    assert(!w->begun && w->items_left == 0 && *key);
    rc = put_text(&w->values, fs_bytes_str(key), err);
    if (!rc)
        rc = put_le(&w->values, type, 4, err);
    if (!rc)
        w->n_values++;
    return rc;
}

fs_status fs_gguf_put_u32(fs_gguf_writer *w, const char *key, uint32_t v, fs_error *err)
{
    fs_status rc = put_key(w, key, FS_GGUF_U32, err);

    return rc ? rc : put_le(&w->values, v, 4, err);
}

fs_status fs_gguf_put_f32(fs_gguf_writer *w, const char *key, float v, fs_error *err)
{
    fs_status rc = put_key(w, key, FS_GGUF_F32, err);
    uint32_t bits;

    memcpy(&bits, &v, sizeof bits);
    return rc ? rc : put_le(&w->values, bits, 4, err);
}

fs_status fs_gguf_put_bool(fs_gguf_writer *w, const char *key, bool v, fs_error *err)
{
    fs_status rc = put_key(w, key, FS_GGUF_BOOL, err);

    return rc ? rc : put_le(&w->values, v, 1, err);
}

fs_status fs_gguf_put_string(fs_gguf_writer *w, const char *key, fs_bytes v, fs_error *err)
{
    fs_status rc = put_key(w, key, FS_GGUF_STRING, err);

    return rc ? rc : put_text(&w->values, v, err);
}

fs_status fs_gguf_put_array(fs_gguf_writer *w, const char *key, fs_gguf_type item_type, uint64_t n, fs_error *err)
{
    fs_status rc = put_key(w, key, FS_GGUF_ARRAY, err);

    assert(item_type == FS_GGUF_STRING || item_type == FS_GGUF_I32 || item_type == FS_GGUF_F32);
    if (!rc)
        rc = put_le(&w->values, item_type, 4, err);
    if (!rc)
        rc = put_le(&w->values, n, 8, err);
    w->items_left = n;
    w->item_type = item_type;
    return rc;
}

fs_status fs_gguf_put_item(fs_gguf_writer *w, fs_bytes v, fs_error *err)
{
    assert(w->items_left > 0 && w->item_type == FS_GGUF_STRING);
    w->items_left--;
    return put_text(&w->values, v, err);
}

fs_status fs_gguf_put_item_i32(fs_gguf_writer *w, int32_t v, fs_error *err)
{
    assert(w->items_left > 0 && w->item_type == FS_GGUF_I32);
    w->items_left--;
    return put_le(&w->values, (uint32_t)v, 4, err);
}

fs_status fs_gguf_put_item_f32(fs_gguf_writer *w, float v, fs_error *err)
{
    uint32_t bits;

    assert(w->items_left > 0 && w->item_type == FS_GGUF_F32);
    w->items_left--;
    memcpy(&bits, &v, sizeof bits);
    return put_le(&w->values, bits, 4, err);
}

fs_status fs_gguf_put_value(fs_gguf_writer *w, const fs_gguf_value *v, fs_error *err)
{
    fs_status rc = put_text(&w->values, v->key, err);

    assert(!w->begun && w->items_left == 0);
    if (!rc)
        rc = put_le(&w->values, v->type, 4, err);
    if (!rc && v->type == FS_GGUF_ARRAY)
        rc = put_le(&w->values, v->item_type, 4, err);
    if (!rc && (v->type == FS_GGUF_ARRAY || v->type == FS_GGUF_STRING))
        rc = put_le(&w->values, v->type == FS_GGUF_ARRAY ? v->n_items : v->bytes.n_bytes, 8, err);
    if (!rc)
        rc = fs_buf_append(&w->values, v->bytes.data, v->bytes.n_bytes, err);
    if (!rc)
        w->n_values++;
    return rc;
}

fs_status fs_gguf_put_tensor(fs_gguf_writer *w, const char *name, fs_dtype dtype, int n_dims, const uint64_t *dims, fs_error *err)
{
    const fs_dtype_info *info = fs_dtype_get(dtype);
    uint64_t n = 1;
    size_t n_bytes, row_bytes;
    fs_status rc;

    assert(!w->begun && n_dims > 0 && n_dims <= FS_TENSOR_DIMS_MAX);
    if (info->ggml_type < 0)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s': GGUF has no type for %s", name, info->name);
    for (int i = 0; i < n_dims; i++)
        if (__builtin_mul_overflow(n, dims[i], &n))
            return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' is too large", name);
    if (n == 0 || !fs_dtype_bytes(dtype, dims[n_dims - 1], &row_bytes) || !fs_dtype_bytes(dtype, n, &n_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' has %" PRIu64 " elements in rows of %" PRIu64 ", which %s cannot hold", name, n,
                       dims[n_dims - 1], info->name);
    if (w->n_tensors == w->capacity) {
        size_t capacity = w->capacity ? 2 * w->capacity : 64;
        size_t *more = realloc(w->sizes, capacity * sizeof *more);
        if (!more)
            return fs_fail_memory(err, capacity * sizeof *more);
        w->sizes = more;
        w->capacity = capacity;
    }
    rc = put_text(&w->entries, fs_bytes_str(name), err);
    if (!rc)
        rc = put_le(&w->entries, (uint64_t)n_dims, 4, err);
    for (int i = n_dims; i > 0 && !rc; i--)
        rc = put_le(&w->entries, dims[i - 1], 8, err);
    if (!rc)
        rc = put_le(&w->entries, (uint64_t)info->ggml_type, 4, err);
    if (!rc)
        rc = put_le(&w->entries, w->data_bytes, 8, err);
    if (rc)
        return rc;
    w->sizes[w->n_tensors++] = n_bytes;
    w->data_bytes += padded(n_bytes);
    return FS_OK;
}

uint64_t fs_gguf_writer_data_bytes(const fs_gguf_writer *w)
{
    return w->data_bytes;
}

fs_status fs_gguf_writer_header(const fs_gguf_writer *w, fs_buf *ret, fs_error *err)
{
    size_t start = ret->n_bytes;
    fs_status rc = fs_buf_append(ret, "GGUF", 4, err);

    assert(w->items_left == 0);
    if (!rc)
        rc = put_le(ret, 3, 4, err);
    if (!rc)
        rc = put_le(ret, w->n_tensors, 8, err);
    if (!rc)
        rc = put_le(ret, w->n_values, 8, err);
    if (!rc)
        rc = fs_buf_append(ret, w->values.data, w->values.n_bytes, err);
    if (!rc)
        rc = fs_buf_append(ret, w->entries.data, w->entries.n_bytes, err);
    while (!rc && (ret->n_bytes - start) % FS_GGUF_ALIGNMENT)
        rc = fs_buf_append(ret, "", 1, err);
    return rc;
}

fs_status fs_gguf_writer_begin(fs_gguf_writer *w, fs_error *err)
{
    fs_buf header = { 0 };
    fs_status rc = fs_gguf_writer_header(w, &header, err);

    assert(!w->begun);
    if (!rc)
        rc = fs_writer_open(&w->file, w->path, err);
    if (!rc)
        rc = fs_writer_put(&w->file, header.data, header.n_bytes, err);
    fs_buf_done(&header);
    w->begun = true;
    w->left = w->n_tensors ? w->sizes[0] : 0;
    return rc;
}

fs_status fs_gguf_writer_write(fs_gguf_writer *w, const void *data, size_t n, fs_error *err)
{
    const uint8_t *p = data;
    fs_status rc = FS_OK;

    assert(w->begun);
    while (n > 0 && !rc) {
        size_t now = n < w->left ? n : w->left;
        assert(w->at < w->n_tensors && "more data than was declared");
        rc = fs_writer_put(&w->file, p, now, err);
        p += now;
        n -= now;
        w->left -= now;
        if (!rc && w->left == 0) {
            rc = fs_writer_pad(&w->file, FS_GGUF_ALIGNMENT, 0, err);
            w->at++;
            w->left = w->at < w->n_tensors ? w->sizes[w->at] : 0;
        }
    }
    return rc;
}

fs_status fs_gguf_writer_commit(fs_gguf_writer *w, fs_error *err)
{
    assert(w->begun && w->at == w->n_tensors && "less data than was declared");
    return fs_writer_commit(&w->file, err);
}
