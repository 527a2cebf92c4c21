/* Matrix products of class RN1-bf16 in order B256 (kernels/pairs.h): the weights are bf16 pairs along the summed index, the
 * other operand is f32 and rounded to bf16 on the way; sums stay f32. Vectorised over outputs, as products.h is. */
#ifndef FS_KERNELS_PAIR_PRODUCTS_H
#define FS_KERNELS_PAIR_PRODUCTS_H

#include "kernels/pairs.h"
#include "kernels/products.h"

typedef struct fs_pair_kernels {
    /* y[t*ldy + o] = B256(w_o, bf16(x_t), k), then fl(+ bias[o]) if bias. w->pairs; all else as fs_product_kernels has it, m of any
     * size and any split over panels, scratch too. */
    void (*gemm)(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m, const float *bias, float *y, size_t ldy,
                 void *scratch);
    /* The same chunks added to what stands in y, in order: y = flush(fl(y + s)) for each. y holds no denormal, as these products leave none. */
    void (*gemm_add)(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m, float *y, size_t ldy, void *scratch);
    /* gemm_add of x turned: input k of x_t is x[(index ? index[k] : k) * ldx + t]. */
    void (*gemm_turned)(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, const uint32_t *index, size_t m, float *y,
                        size_t ldy, void *scratch);
    /* A panel [fs_pairs(k)][16], rounded, of n <= 16 rows of k; missing rows are zero. */
    void (*pack_rows)(const float *src, size_t stride, size_t n, size_t k, fs_pair *ret_panel);
    /* A panel [fs_pairs(k)][16] of n <= 16 columns of k rows; row i is at src + (index ? index[i] : i) * stride. */
    void (*pack_columns)(const float *src, size_t stride, const uint32_t *index, size_t n, size_t k, fs_pair *ret_panel);
} fs_pair_kernels;

/* Of fs_mat_init_pairs, a multiple of 64; false on overflow. */
bool fs_mat_pairs_bytes(uint64_t n, uint64_t k, size_t *ret_bytes);
/* Geometry: panel p [fs_pairs(k)][16] pairs, missing rows and the second of an odd end zero. */
void fs_mat_init_pairs(fs_mat *ret, uint32_t n, uint32_t k, void *data);
/* Packs panels [panel_begin, panel_end): of f32 rows; of the columns of rows (fs_mat_pack_columns); of rows row0 .. of t, widened. */
void fs_mat_pack_pairs(const fs_mat *m, const fs_pair_kernels *k, const float *src, size_t src_stride, size_t panel_begin, size_t panel_end);
void fs_mat_pack_pair_columns(const fs_mat *m, const fs_pair_kernels *k, const float *src, size_t src_stride, const uint32_t *index, size_t panel_begin,
                              size_t panel_end);
void fs_mat_pack_pairs_of(const fs_mat *m, const fs_pair_kernels *k, const fs_tensor *t, uint64_t row0, size_t panel_begin, size_t panel_end);

void fs_pair_kernels_init(fs_pair_kernels *k, unsigned isa);

#endif
