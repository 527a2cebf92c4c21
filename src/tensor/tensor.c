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

void fs_tensor_row_f32(const fs_tensor *t, uint64_t row, float *ret_dst)
{
    size_t n = (size_t)fs_tensor_cols(t);

    fs_dequant_row(t->dtype, fs_tensor_row_data(t, row), ret_dst, n);
    if (t->scales) {
        size_t per_row = (n + t->scale_cols - 1) / t->scale_cols;
        const uint8_t *s = t->scales + row / t->scale_rows * per_row * sizeof(float);
        for (size_t i = 0; i < n; i++) {
            float scale;
            memcpy(&scale, s + i / t->scale_cols * sizeof scale, sizeof scale);
            ret_dst[i] *= scale;
        }
    }
}
