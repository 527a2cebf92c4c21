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

/* The scale of the inputs from k0 on in panel p, and in *ret_end the first input that has another. */
static inline float fs_mat_scale(const fs_mat *w, size_t p, size_t k0, size_t *ret_end)
{
    size_t per_row, c;

    if (!w->scales) {
        *ret_end = w->k;
        return 1.0f;
    }
    per_row = ((size_t)w->k + w->scale_cols - 1) / w->scale_cols;
    c = k0 / w->scale_cols;
    *ret_end = (c + 1) * w->scale_cols;
    return w->scales[p * FS_PANEL / w->scale_rows * per_row + c];
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
