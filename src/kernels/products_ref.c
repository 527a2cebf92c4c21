/* The definition of the product: a panel's values 256 inputs at a time, one chain an output. */
#include "kernels/products_isa.h"
#include "tensor/blocks.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static void tile_of_blocks(const fs_mat *w, size_t p, size_t k0, size_t k1, float *dst)
{
    const fs_dtype_info *info = fs_dtype_get(w->dtype);
    size_t elems = info->block_elems, bytes = info->block_bytes;
    const uint8_t *src = w->data + p * w->panel_bytes + k0 / elems * FS_PANEL * bytes;
    float row[FS_CHAIN];

    for (size_t k = k0; k < k1; k += elems, dst += elems * FS_PANEL)
        for (size_t r = 0; r < FS_PANEL; r++, src += bytes) {
            fs_dequant_row(w->dtype, src, row, elems);
            for (size_t i = 0; i < elems; i++)
                dst[i * FS_PANEL + r] = row[i];
        }
}

static void tile_of_fp8(const fs_mat *w, size_t p, size_t k0, size_t k1, float *dst)
{
    const uint8_t *panel = w->data + p * w->panel_bytes;
    size_t fours = w->k & ~(uint32_t)3;

    while (k0 < k1) {
        size_t end;
        float scale = fs_mat_scale(w, p, k0, &end);
        if (end > k1)
            end = k1;
        for (; k0 < end; k0++)
            for (size_t r = 0; r < FS_PANEL; r++)
                *dst++ = fs_e4m3_to_f32(panel[k0 < fours ? (k0 / 4 * FS_PANEL + r) * 4 + k0 % 4 : k0 * FS_PANEL + r]) * scale;
    }
}

void fs_mat_tile_ref(const fs_mat *w, size_t p, size_t k0, size_t k1, float *dst)
{
    if (fs_dtype_is_block(w->dtype)) {
        tile_of_blocks(w, p, k0, k1, dst);
    } else if (w->dtype == FS_DTYPE_F8_E4M3) {
        tile_of_fp8(w, p, k0, k1, dst);
    } else {
        size_t elem_bytes = fs_dtype_get(w->dtype)->block_bytes;
        fs_dequant_row(w->dtype, w->data + p * w->panel_bytes + k0 * FS_PANEL * elem_bytes, dst,
                       (k1 - k0) * FS_PANEL);
    }
}

/* The chunks' sums of panel p onto y. */
static void add_chunks(const fs_mat *w, size_t p, const float *x, size_t ldx, size_t m, float *y, size_t ldy, float *tile)
{
    size_t o0 = p * FS_PANEL, n = w->n - o0 < FS_PANEL ? w->n - o0 : FS_PANEL;

    for (size_t k0 = 0; k0 < w->k; k0 += FS_CHAIN) {
        size_t n_k = w->k - k0 < FS_CHAIN ? w->k - k0 : FS_CHAIN;
        fs_mat_tile_ref(w, p, k0, k0 + n_k, tile);
        for (size_t t = 0; t < m; t++) {
            float s[FS_PANEL] = { 0 };
            for (size_t k = 0; k < n_k; k++)
                for (size_t o = 0; o < FS_PANEL; o++)
                    s[o] = fmaf(x[t * ldx + k0 + k], tile[k * FS_PANEL + o], s[o]);
            for (size_t o = 0; o < n; o++)
                y[t * ldy + o0 + o] += s[o];
        }
    }
}

void fs_gemm_ref(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m,
                 const float *bias, float *y, size_t ldy, void *scratch)
{
    assert(!w->codes);
    for (size_t p = panel_begin; p < panel_end; p++) {
        size_t o0 = p * FS_PANEL, n = w->n - o0 < FS_PANEL ? w->n - o0 : FS_PANEL;
        for (size_t t = 0; t < m; t++)
            for (size_t o = 0; o < n; o++)
                y[t * ldy + o0 + o] = 0.0f;
        add_chunks(w, p, x, ldx, m, y, ldy, scratch);
        for (size_t t = 0; bias && t < m; t++)
            for (size_t o = 0; o < n; o++)
                y[t * ldy + o0 + o] += bias[o0 + o];
    }
}

void fs_gemm_add_ref(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m, float *y,
                     size_t ldy, void *scratch)
{
    assert(!w->codes);
    for (size_t p = panel_begin; p < panel_end; p++)
        add_chunks(w, p, x, ldx, m, y, ldy, scratch);
}

void fs_gemm_turned_ref(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, const uint32_t *index, size_t m,
                        float *y, size_t ldy, void *scratch)
{
    assert(w->dtype == FS_DTYPE_F32);
    for (size_t k0 = 0; k0 < w->k; k0 += FS_CHAIN) {
        fs_mat part = *w; /* a chunk */
        float row[FS_CHAIN];
        part.k = (uint32_t)(w->k - k0 < FS_CHAIN ? w->k - k0 : FS_CHAIN);
        part.data += k0 * FS_PANEL * sizeof(float);
        for (size_t t = 0; t < m; t++) {
            for (size_t k = 0; k < part.k; k++)
                row[k] = x[(index ? index[k0 + k] : k0 + k) * ldx + t];
            fs_gemm_add_ref(&part, panel_begin, panel_end, row, FS_CHAIN, 1, y + t * ldy, ldy, scratch);
        }
    }
}
