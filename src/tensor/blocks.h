/* The values of stored weights: widening of plain types and the published dequantisation of GGUF's block
 * formats, each operation rounded to f32 in the order of the reference (ggml's dequantize_row_*, PyPI gguf's
 * quants.py). This is RN1's "w" for every product; src/kernels has faster forms with the same bits.
 * Byte layouts: docs/formats.md. */
#ifndef FS_TENSOR_BLOCKS_H
#define FS_TENSOR_BLOCKS_H

#include "tensor/dtype.h"

float fs_f16_to_f32(uint16_t h);
float fs_bf16_to_f32(uint16_t h);
float fs_e4m3_to_f32(uint8_t b);  /* OCP e4m3fn: finite, max 448; 0x7f and 0xff are NaN */
float fs_e8m0_to_f32(uint8_t b);  /* 2^(b-127); 255 is NaN */
uint16_t fs_f32_to_bf16(float x); /* nearest even */
uint16_t fs_f32_to_f16(float x);  /* nearest even */

/* Parts of their formats: what the sixteen codes of IQ4_NL and IQ4_XS stand for, and those of FP4, MXFP4 and NVFP4
 * doubled, so that they are integers; -0 does not occur. */
extern const int8_t fs_iq4_values[16], fs_e2m1_doubled[16];

/* n elements, a multiple of the block. src needs no alignment. F8_E4M3 and FP4_E2M1 widen without their scales; FP4's
 * -0 widens to +0, as in MXFP4. */
void fs_dequant_row(fs_dtype t, const void *src, float *ret_dst, size_t n);

#endif
