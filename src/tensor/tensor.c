/* Views: rows in the Hub's order, as f32. */
#include "tensor/tensor.h"

#include "tensor/blocks.h"

#include <assert.h>
#include <string.h>

uint64_t fs_tensor_cols(const fs_tensor *t)
{
    return t->n_dims ? t->dims[t->n_dims - 1] : 1;
}

uint64_t fs_tensor_rows(const fs_tensor *t)
{
    uint64_t n = 1;
    for (int i = 0; i + 1 < t->n_dims; i++)
        n *= t->dims[i];
    return n;
}

uint64_t fs_tensor_elems(const fs_tensor *t)
{
    return fs_tensor_rows(t) * fs_tensor_cols(t);
}

uint64_t fs_tensor_stored_row(const fs_tensor *t, uint64_t row)
{
    uint64_t d, head, r;

    if (!t->rope_heads)
        return row;
    d = t->dims[0] / t->rope_heads;
    head = row / d;
    r = row % d;
    return head * d + (r < d / 2 ? 2 * r : 2 * (r - d / 2) + 1);
}

const uint8_t *fs_tensor_row_data(const fs_tensor *t, uint64_t row)
{
    size_t row_bytes = 0;
    bool ok = fs_dtype_bytes(t->dtype, fs_tensor_cols(t), &row_bytes);

    assert(ok);
    (void)ok;
    return t->data + fs_tensor_stored_row(t, row) * row_bytes;
}

float fs_tensor_scale(const fs_tensor *t, size_t i)
{
    float scale;

    if (t->scale_dtype == FS_DTYPE_F8_E8M0)
        return fs_e8m0_to_f32(t->scales[i]);
    assert(t->scale_dtype == FS_DTYPE_F32);
    memcpy(&scale, t->scales + i * sizeof scale, sizeof scale);
    return scale;
}

void fs_tensor_row_f32(const fs_tensor *t, uint64_t row, float *ret_dst)
{
    fs_tensor_part_f32(t, row, 0, (size_t)fs_tensor_cols(t), ret_dst);
}

void fs_tensor_part_f32(const fs_tensor *t, uint64_t row, size_t col, size_t n, float *ret_dst)
{
    const fs_dtype_info *info = fs_dtype_get(t->dtype);
    size_t per_row, end = col + n, at = col;
    float *w = ret_dst;

    fs_dequant_row(t->dtype, fs_tensor_row_data(t, row) + col / info->block_elems * info->block_bytes, ret_dst, n);
    if (!t->scales)
        return;
    per_row = ((size_t)fs_tensor_cols(t) + t->scale_cols - 1) / t->scale_cols;
    while (at < end) {
        size_t block = at / t->scale_cols, left = (block + 1) * t->scale_cols - at;
        float scale = fs_tensor_scale(t, (size_t)(row / t->scale_rows) * per_row + block);
        for (size_t i = left < end - at ? left : end - at; i > 0; i--, at++)
            *w++ *= scale;
    }
}

int fs_tensor_by_name(const void *a, const void *b)
{
    return strcmp(((const fs_tensor *)a)->name, ((const fs_tensor *)b)->name);
}

int fs_tensor_by_place(const void *a, const void *b)
{
    const fs_tensor *x = a, *y = b;

    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return x->n_bytes < y->n_bytes ? -1 : x->n_bytes > y->n_bytes;
}
