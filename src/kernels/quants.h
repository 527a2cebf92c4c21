/* Products of GGUF's block types with quantised activations: RN1 section 6.
 *
 *   activations, in blocks of 32 values, eight groups of four:
 *     A = the largest |x|, in the lowest group that has it, the top group; B = the largest |x| of the other groups
 *     a = fl(A / 16319), b = fl(B / 127), d = b > a ? b : a, +0 when that is below 2^-126
 *     v = round-half-even(fl(x / d)), 0 when d = 0, NaN or infinite: eight bits, fifteen in the top group, where
 *     v = low + 128 * high, -64 <= low < 64
 *   y = +0; for each sub-block of weights, 32 or 16 of one scale, of rising k:
 *     i = the exact sum of code * v                                 y = fma(fl(fl(d_w * scale) * d), (float)i, y)
 *     j = the exact sum of v, types with a minimum                  y = fma(fl(m_w * min), fl(d * (float)j), y)
 *   fl(y + bias) last; of types with sub-scales an infinite d_w or m_w counts as NaN
 *
 * A NaN or an infinity in a block makes every output of the row NaN. Scales and codes by type: docs/RN1.md. */
#ifndef FS_KERNELS_QUANTS_H
#define FS_KERNELS_QUANTS_H

#include "kernels/products.h"

#define FS_QUANTS_BLOCK 32
#define FS_QUANTS_SHIFT 7 /* of high */

/* A block of quantised activations, with all that a kernel wants to know of it: v of the top group is
 * low + (high << FS_QUANTS_SHIFT), of the others low. Sums are those of v, negative as sums over codes with an offset want
 * to begin: the high codes come first, and minus_sum is shifted with them. */
typedef struct fs_quants_block {
    int8_t low[FS_QUANTS_BLOCK], high[4];
    int32_t top;         /* 64 * the top group: where it begins in a panel's codes [8][16][4] */
    int32_t shift_of[2]; /* FS_QUANTS_SHIFT for the half that has the top group; for the other 32, which shifts high away */
    int32_t nibble;      /* 4 if the top group is in the second half, else 0 */
    float d, d_sum;      /* d_sum = fl(d * (float)sum) */
    int32_t minus_sum, minus_sums_32[2]; /* of the block; 32 times those of each half */
} fs_quants_block;

/* Rows of quantised activations, k / 32 blocks each. It owns nothing. Rows are independent of each other and may be
 * copied. */
typedef struct fs_quants {
    uint8_t *data; /* row t begins at data + t * row_bytes */
    size_t row_bytes;
    uint32_t k;
} fs_quants;

/* Whether weights of dtype t have an integer kernel; the products of the others are those of products.h. */
bool fs_quants_serve(fs_dtype t);
/* Bytes of a row of k values, k a multiple of 32; rows need no alignment but that of 4. */
size_t fs_quants_row_bytes(uint32_t k);
static inline fs_quants fs_quants_init(uint32_t k, void *data)
{
    return (fs_quants){ (uint8_t *)data, fs_quants_row_bytes(k), k };
}

static inline fs_quants_block *fs_quants_row(const fs_quants *q, size_t row)
{
    return (fs_quants_block *)(void *)(q->data + row * q->row_bytes);
}

/* After fs_mat_init of a tensor that keeps its type, before fs_mat_pack: m's panels shall hold codes for
 * fs_quant_kernels.gemm, which is then the only product that takes m. As many bytes as before.
 * m->dtype must be served. */
void fs_mat_take_codes(fs_mat *m);

typedef struct fs_quant_kernels {
    /* Blocks [block_begin, block_end) of n_rows rows from row on: x [n_rows, k] stride ldx, the whole rows.
     * Threads may write different rows or blocks of one q at once. */
    void (*quantize)(const fs_quants *q, size_t row, size_t n_rows, size_t block_begin, size_t block_end, const float *x, size_t ldx);
    /* y[t*ldy + o] = the product of w_o and row row + t of x, for t < m and the outputs o of panels [panel_begin,
     * panel_end), o < n; otherwise as fs_product_kernels.gemm. x->k = w->k. */
    void (*gemm)(const fs_mat *w, size_t panel_begin, size_t panel_end, const fs_quants *x, size_t row, size_t m, const float *bias,
                 float *y, size_t ldy, void *scratch);
} fs_quant_kernels;

void fs_quant_kernels_init(fs_quant_kernels *k, unsigned isa);

#endif
