/* The definition of the products of RN1-bf16: one chain of B256 an output. */
#include "kernels/pair_products_isa.h"
#include "kernels/products_isa.h"

#include <assert.h>

static float weight(const fs_mat *w, size_t o, size_t k)
{
    const fs_pair *panel = (const fs_pair *)(const void *)(w->data + o / FS_PANEL * w->panel_bytes);
    fs_pair p = panel[k / 2 * FS_PANEL + o % FS_PANEL];

    return k % 2 ? fs_pair_second(p) : fs_pair_first(p);
}

static float add_chunks(const fs_mat *w, size_t o, const float *x, float y)
{
    for (size_t k0 = 0; k0 < w->k; k0 += FS_CHAIN) {
        size_t end = w->k - k0 < FS_CHAIN ? w->k : k0 + FS_CHAIN;
        float s = 0.0f;
        for (size_t k = k0; k < end; k++)
            s = fs_fma_flushed(fs_bf16(x[k]), weight(w, o, k), s);
        y = fs_flushed(y + s);
    }
    return y;
}

static size_t outputs_end(const fs_mat *w, size_t panel_end)
{
    return panel_end * FS_PANEL < w->n ? panel_end * FS_PANEL : w->n;
}

static void gemm(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m, const float *bias, float *y, size_t ldy,
                 void *scratch)
{
    (void)scratch;
    assert(w->pairs);
    for (size_t t = 0; t < m; t++)
        for (size_t o = panel_begin * FS_PANEL; o < outputs_end(w, panel_end); o++) {
            float sum = add_chunks(w, o, x + t * ldx, 0.0f);
            y[t * ldy + o] = bias ? sum + bias[o] : sum;
        }
}

static void gemm_add(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m, float *y, size_t ldy, void *scratch)
{
    (void)scratch;
    assert(w->pairs);
    for (size_t t = 0; t < m; t++)
        for (size_t o = panel_begin * FS_PANEL; o < outputs_end(w, panel_end); o++)
            y[t * ldy + o] = add_chunks(w, o, x + t * ldx, y[t * ldy + o]);
}

static void gemm_turned(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, const uint32_t *index, size_t m, float *y,
                        size_t ldy, void *scratch)
{
    for (size_t k0 = 0; k0 < w->k; k0 += FS_CHAIN) {
        fs_mat part = *w; /* a chunk */
        float row[FS_CHAIN];
        part.k = (uint32_t)(w->k - k0 < FS_CHAIN ? w->k - k0 : FS_CHAIN);
        part.data += k0 / 2 * FS_PANEL * sizeof(fs_pair);
        for (size_t t = 0; t < m; t++) {
            for (size_t k = 0; k < part.k; k++)
                row[k] = x[(index ? index[k0 + k] : k0 + k) * ldx + t];
            gemm_add(&part, panel_begin, panel_end, row, FS_CHAIN, 1, y + t * ldy, ldy, scratch);
        }
    }
}

static void pack_rows(const float *src, size_t stride, size_t n, size_t k, fs_pair *panel)
{
    for (size_t i = 0; i < k; i += 2, panel += FS_PANEL)
        for (size_t r = 0; r < FS_PANEL; r++)
            panel[r] = r < n ? fs_pair_of(src[r * stride + i], i + 1 < k ? src[r * stride + i + 1] : 0.0f) : 0;
}

static void pack_columns(const float *src, size_t stride, const uint32_t *index, size_t n, size_t k, fs_pair *panel)
{
    for (size_t i = 0; i < k; i += 2, panel += FS_PANEL) {
        const float *a = src + (index ? index[i] : i) * stride, *b = i + 1 < k ? src + (index ? index[i + 1] : i + 1) * stride : NULL;
        for (size_t c = 0; c < FS_PANEL; c++)
            panel[c] = c < n ? fs_pair_of(a[c], b ? b[c] : 0.0f) : 0;
    }
}

const fs_pair_kernels fs_pair_ref = { gemm, gemm_add, gemm_turned, pack_rows, pack_columns };
