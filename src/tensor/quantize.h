/* Rows of numbers into the block formats that blocks.h gives back: codes and scales of small squared error, by a search
 * of our own. All is scalar f32 and f64 arithmetic in the order of the source, so the bytes are the same on every
 * machine. No reference defines them: what a format's reader makes of the bytes is the contract.
 *
 * The error that a block's encoder lowers is sum w[i] * (x[i] - y[i])^2, y being what is read back. */
#ifndef FS_TENSOR_QUANTIZE_H
#define FS_TENSOR_QUANTIZE_H

#include "tensor/dtype.h"

/* F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, IQ4_NL, IQ4_XS and MXFP4. */
bool fs_can_quantize(fs_dtype t);
/* x [n], a multiple of the block, finite and at most 65504 in magnitude for the block formats. w [n] or NULL: all 1; not
 * negative. dst: fs_dtype_bytes of n. */
void fs_quantize_row(fs_dtype t, const float *x, const float *w, size_t n, void *dst);

/* One block of the Hub's fp8: nearest even, 448 at most. */
uint8_t fs_f32_to_e4m3(float x);
/* The exponent byte of a block of 32 in FP4 and MXFP4, and its codes, one a byte. x [n], n <= 32. */
uint8_t fs_quantize_fp4(const float *x, const float *w, int n, uint8_t *ret_codes);

#endif
