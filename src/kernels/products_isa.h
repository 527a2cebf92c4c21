/* Inside the family products: the implementations that fs_product_kernels_init chooses from, and the tile they
 * share. */
#ifndef FS_KERNELS_PRODUCTS_ISA_H
#define FS_KERNELS_PRODUCTS_ISA_H

#include "kernels/products.h"

/* The length of a chain in order A256. */
#define FS_CHAIN 256

/* The values of panel p for the inputs [k0, k1): dst [k1 - k0][16] f32. k0 is a multiple of 256, k1 - k0 <= 256 and
 * k1 = k or a multiple of 256, so that a tile holds whole blocks. This is the definition of a panel's values. */
void fs_mat_tile_ref(const fs_mat *w, size_t p, size_t k0, size_t k1, float *dst);

/* The scales of panel p, one for every *ret_cols inputs. */
static inline const float *fs_mat_scales(const fs_mat *w, size_t p, size_t *ret_cols)
{
    static const float one = 1.0f;

    *ret_cols = w->scales ? w->scale_cols : w->k;
    return w->scales ? w->scales + p * FS_PANEL / w->scale_rows * (((size_t)w->k + w->scale_cols - 1) / w->scale_cols) : &one;
}

/* The scale of the inputs from k0 on in panel p, and in *ret_end the first input that has another. */
static inline float fs_mat_scale(const fs_mat *w, size_t p, size_t k0, size_t *ret_end)
{
    size_t cols;
    const float *scales = fs_mat_scales(w, p, &cols);

    *ret_end = (k0 / cols + 1) * cols;
    return scales[k0 / cols];
}

typedef void fs_gemm_fn(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m,
                        const float *bias, float *y, size_t ldy, void *scratch);
fs_gemm_fn fs_gemm_ref, fs_gemm_avx2, fs_gemm_avx512, fs_gemm_neon;
typedef void fs_gemm_add_fn(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m, float *y,
                            size_t ldy, void *scratch);
fs_gemm_add_fn fs_gemm_add_ref, fs_gemm_add_avx2, fs_gemm_add_avx512, fs_gemm_add_neon;
typedef void fs_gemm_turned_fn(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, const uint32_t *index, size_t m,
                               float *y, size_t ldy, void *scratch);
fs_gemm_turned_fn fs_gemm_turned_ref, fs_gemm_turned_avx2, fs_gemm_turned_avx512, fs_gemm_turned_neon;

#endif
