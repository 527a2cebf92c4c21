/* Between the files of quantize.h. */
#ifndef FS_TENSOR_QUANTIZE_IMPL_H
#define FS_TENSOR_QUANTIZE_IMPL_H

#include "tensor/quantize.h"

/* The integers that a code stands for: lo to hi, or, when table is there, its n entries, ascending. */
typedef struct fs_grid {
    int lo, hi;
    const int8_t *table;
} fs_grid;

extern const fs_grid fs_grid_iq4;

typedef void fs_encode_fn(const float *x, const float *w, uint8_t *b);
fs_encode_fn fs_encode_q2_k, fs_encode_q3_k, fs_encode_q4_k, fs_encode_q5_k, fs_encode_q6_k, fs_encode_iq4_xs;

/* The integers nearest to x / d: ret [n]. Returns sum w * (x - d * ret)^2. */
double fs_grid_assign(const fs_grid *g, const float *x, const float *w, int n, float d, int8_t *ret);
/* A real scale for which that is small; 0 for zeros. */
float fs_grid_fit(const fs_grid *g, const float *x, const float *w, int n);

/* The same of x = d * q + m, q in 0..q_max. sign -1: m is not above 0; 0: any. */
double fs_affine_assign(int q_max, const float *x, const float *w, int n, float d, float m, uint8_t *ret);
void fs_affine_fit(int q_max, const float *x, const float *w, int n, int sign, float *ret_d, float *ret_m);

void fs_put_half(uint8_t *b, float d);
float fs_half(float d); /* what fs_put_half leaves of it */

#endif
