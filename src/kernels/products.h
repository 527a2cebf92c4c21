/* Matrix products in RN1 order A256.
 *
 *   A256(a, b, K): y = +0; for each chunk of 256 rising k: s = +0; s = fma(a_k, b_k, s) over the chunk; y = fl(y + s)
 *
 * vectorised over outputs: weights stand in panels of 16 rows, so one arithmetic serves decode and prefill. */
#ifndef FS_KERNELS_PRODUCTS_H
#define FS_KERNELS_PRODUCTS_H

#include "tensor/tensor.h"

#define FS_PANEL 16

/* A packed matrix. Panel p holds rows 16p .. 16p+15, missing rows zero:
 *   F32            [n/16][k][16] f32
 *   BF16, F16      [n/16][k][16] u16
 *   F8_E4M3        [n/16][k/4][16][4] u8 and, of the last k % 4 inputs, [k % 4][16]; value = fl(e4m3 * scale); scales [ceil(n/scale_rows)][ceil(k/scale_cols)] as f32
 *                  behind the panels; scale_rows is a multiple of 16
 *   block formats  [n/16][k/block][16] blocks as in the file, or codes for quantised activations (quants.h)
 * It owns nothing: data points into memory of the caller. */
typedef struct fs_mat {
    fs_dtype dtype;
    uint32_t n, k; /* outputs, inputs */
    const uint8_t *data;
    const float *scales;
    uint32_t scale_rows, scale_cols;
    size_t panel_bytes; /* from one panel to the next */
    size_t ahead;       /* from any byte of a panel to one that the thread reads a while later, modulo 2^64: few rows fetch it meanwhile; 0: not known */
    bool finite;        /* F8_E4M3: fs_mat_is_finite of all of it, which makes few rows faster; false where nobody has looked */
    bool pairs;         /* BF16 whose panels are [fs_pairs(k)][16] pairs, for products of RN1-bf16 (pair_products.h) */
    bool codes;         /* the panels hold codes, and x is quantised (quants.h); else x is f32 */
} fs_mat;

/* The dtype fs_mat_pack stores tensor t as: t's own, MXFP4 for FP4_E2M1 with an F8_E8M0 scale every 32 columns, or F32
 * where the own form has no panel layout (fp8 whose scale blocks are no multiple of 16 rows, 1-d scales, ...). */
fs_dtype fs_mat_dtype(const fs_tensor *t);
/* Bytes fs_mat_pack needs, a multiple of 64; false on overflow or when n or k does not fit u32. */
bool fs_mat_bytes(fs_dtype dtype, uint64_t n, uint64_t k, uint32_t scale_rows, uint32_t scale_cols, size_t *ret_bytes);
/* Fills *ret so that panels can be packed into data (64-byte aligned, fs_mat_bytes long): geometry only, and the
 * scales. Rows row0 .. row0+n-1 of t, in the Hub's order. row0 must be a multiple of scale_rows where t has scales
 * and keeps its dtype. */
void fs_mat_init(fs_mat *ret, const fs_tensor *t, uint64_t row0, uint32_t n, void *data);
/* The same of all of t without data: where to pack to is set later, data being where panel 0 would be. scales: 64-byte
 * aligned, fs_mat_scales_bytes long. */
void fs_mat_init_stored(fs_mat *ret, const fs_tensor *t, void *scales);
/* Bytes of t's scales as f32, a multiple of 64; 0: fs_mat_pack's form has none. t is one that fs_mat_bytes takes. */
size_t fs_mat_scales_bytes(const fs_tensor *t);
/* Geometry of the whole of t alone, without a place; then a place, or another, or none (NULL), for its panels and scales.
 * fs_mat_place returns the bytes that they take, which are those of fs_mat_bytes. */
void fs_mat_init_unplaced(fs_mat *ret, const fs_tensor *t);
size_t fs_mat_place(fs_mat *m, void *data);
/* Packs panels [panel_begin, panel_end). Threads may pack different panels at once. */
void fs_mat_pack(const fs_mat *m, const fs_tensor *t, uint64_t row0, size_t panel_begin, size_t panel_end);
/* The same from f32 rows: src [n, k], row stride src_stride floats. dtype F32, or BF16 / F16 when every value is
 * exactly representable (asserted). */
void fs_mat_init_f32(fs_mat *ret, fs_dtype dtype, uint32_t n, uint32_t k, void *data);
void fs_mat_pack_f32(const fs_mat *m, const float *src, size_t src_stride, size_t panel_begin, size_t panel_end);
/* No code of panels [panel_begin, panel_end) of F8_E4M3 is a NaN. */
bool fs_mat_is_finite(const fs_mat *m, size_t panel_begin, size_t panel_end);

/* The transposed of rows: output c is column c, input i is row i, of k rows. m is F32 [n, k]. Row i is the one at
 * src + (index ? index[i] : i) * src_stride, n floats. */
void fs_mat_pack_columns(const fs_mat *m, const float *src, size_t src_stride, const uint32_t *index, size_t panel_begin, size_t panel_end);

static inline size_t fs_mat_panels(const fs_mat *m)
{
    return (m->n + FS_PANEL - 1) / FS_PANEL;
}

typedef struct fs_product_kernels {
    /* w holds values (block = 0). y[t*ldy + o] = A256(w_o, x_t, k), then fl(+ bias[o]) if bias, for t < m and the outputs o of panels
     * [panel_begin, panel_end), o < n. x [m, k] stride ldx. y must not overlap x. Outputs of other panels are not
     * touched. scratch: FS_GEMM_SCRATCH_BYTES, 64-byte aligned, one a thread; contents lost.
     * Any split over panels and any m gives the same bits. */
    void (*gemm)(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m,
                 const float *bias, float *y, size_t ldy, void *scratch);
    /* The same chunks added to what stands in y, in order: y = fl(y + s) for each, s from +0. So a chain over an index that
     * comes in pieces, as tokens do in training, is a call a piece that ends where a chunk ends. */
    void (*gemm_add)(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m,
                     float *y, size_t ldy, void *scratch);
    /* gemm_add of x turned: input k of x_t is x[(index ? index[k] : k) * ldx + t]. w is F32. */
    void (*gemm_turned)(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, const uint32_t *index, size_t m,
                        float *y, size_t ldy, void *scratch);
} fs_product_kernels;

#define FS_GEMM_SCRATCH_BYTES ((size_t)512 << 10)

void fs_product_kernels_init(fs_product_kernels *k, unsigned isa);

#endif
