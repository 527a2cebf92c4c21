/* Products of GGUF's block types with activations quantised to eight bits: RN1 section 6.
 *
 *   activations, in blocks of 32 values (256 against K-quants and IQ4_XS):
 *     d = fl(amax / 127), +0 when that is below 2^-126; q = round-half-even(fl(x / d)), 0 when d = 0, NaN or infinite
 *   y = +0; for each block of rising k:
 *     i = the exact sum over its sub-blocks of scale * (sum of code * q)       y = fma(fl(d_w * d), (float)i, y)
 *     j = the exact sum over its sub-blocks of min * (sum of q), types with m  y = fma(fl(m_w * d), (float)j, y)
 *   fl(y + bias) last
 *
 * A NaN or an infinity in a block makes every output of the row NaN. Scales and codes by type: docs/RN1.md. */
#ifndef FS_KERNELS_QUANTS_H
#define FS_KERNELS_QUANTS_H

#include "kernels/products.h"

/* Rows of quantised activations. It owns nothing. A row, block = 32 or 256:
 *   OFFSET        SIZE           MEANING
 *   0             k              q, int8
 *   k             4 * k / block  d of each block, f32
 *   k + 4k/block  k / 8          the sum of each 16 q, int16
 * Rows are independent of each other and may be copied. */
typedef struct fs_quants {
    uint8_t *data; /* 64-byte aligned; row t begins at data + t * row_bytes */
    size_t row_bytes;
    uint32_t k, block;
} fs_quants;

/* Values a block of activations has against weights of dtype t; 0: t has no integer kernel, its products are those of
 * products.h. */
uint32_t fs_quants_block(fs_dtype t);
/* Bytes of a row of k values, k a multiple of block: a multiple of 64. */
size_t fs_quants_row_bytes(uint32_t k, uint32_t block);
static inline fs_quants fs_quants_init(uint32_t k, uint32_t block, void *data)
{
    return (fs_quants){ (uint8_t *)data, fs_quants_row_bytes(k, block), k, block };
}

static inline int8_t *fs_quants_codes(const fs_quants *q, size_t row)
{
    return (int8_t *)(q->data + row * q->row_bytes);
}

static inline float *fs_quants_scales(const fs_quants *q, size_t row)
{
    return (float *)(void *)(q->data + row * q->row_bytes + q->k);
}

static inline int16_t *fs_quants_sums(const fs_quants *q, size_t row)
{
    return (int16_t *)(void *)(q->data + row * q->row_bytes + q->k + (size_t)q->k / q->block * sizeof(float));
}

/* After fs_mat_init of a tensor that keeps its type, before fs_mat_pack: m's panels shall hold codes for
 * fs_quant_kernels.gemm, which is then the only product that takes m. As many bytes as before.
 * m->dtype must have a fs_quants_block. */
void fs_mat_take_codes(fs_mat *m);

typedef struct fs_quant_kernels {
    /* Blocks [block_begin, block_end) of n_rows rows from row on: x [n_rows, k] stride ldx, the whole rows.
     * Threads may write different rows or blocks of one q at once. */
    void (*quantize)(const fs_quants *q, size_t row, size_t n_rows, size_t block_begin, size_t block_end, const float *x, size_t ldx);
    /* y[t*ldy + o] = the product of w_o and row row + t of x, for t < m and the outputs o of panels [panel_begin,
     * panel_end), o < n; otherwise as fs_product_kernels.gemm. x->k = w->k, x->block = w->block. */
    void (*gemm)(const fs_mat *w, size_t panel_begin, size_t panel_end, const fs_quants *x, size_t row, size_t m, const float *bias,
                 float *y, size_t ldy, void *scratch);
} fs_quant_kernels;

void fs_quant_kernels_init(fs_quant_kernels *k, unsigned isa);

#endif
