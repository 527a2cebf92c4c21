/* The definition of quantised activations and their products: a block as in the file, its integers, one chain an output. */
#include "kernels/quants_isa.h"
#include "tensor/blocks.h"

#include <math.h>
#include <string.h>

void fs_quantize_ref(const fs_quants *q, size_t row, size_t n_rows, size_t block_begin, size_t block_end, const float *x, size_t ldx)
{
    for (size_t t = 0; t < n_rows; t++, x += ldx)
        for (size_t b = block_begin; b < block_end; b++) {
            int8_t *codes = fs_quants_codes(q, row + t) + b * q->block;
            int16_t *sums = fs_quants_sums(q, row + t) + b * q->block / 16;
            uint32_t amax_bits = 0; /* of |x|: NaN is above infinity, and that above the rest */
            float amax, d;

            for (size_t i = 0; i < q->block; i++) {
                uint32_t bits;
                memcpy(&bits, &x[b * q->block + i], sizeof bits);
                bits &= 0x7fffffff;
                amax_bits = bits > amax_bits ? bits : amax_bits;
            }
            memcpy(&amax, &amax_bits, sizeof amax);
            d = amax / 127.0f;
            d = d < 0x1p-126f ? 0.0f : d;
            memset(sums, 0, q->block / 16 * sizeof *sums);
            for (size_t i = 0; i < q->block; i++) {
                codes[i] = d > 0.0f && d < INFINITY ? (int8_t)nearbyintf(x[b * q->block + i] / d) : 0;
                sums[i / 16] = (int16_t)(sums[i / 16] + codes[i]);
            }
            fs_quants_scales(q, row + t)[b] = d;
        }
}

/* A block's integers. scale and min belong to 16 inputs each, so that a type with sub-blocks of 32 has them twice. */
struct block {
    int q[FS_TILE], scale[FS_TILE / 16], min[FS_TILE / 16];
    float d, m;
    bool has_min;
};

static float half_at(const uint8_t *p)
{
    return fs_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

/* Bits [width * i, width * (i + 1)) of the bytes at b. */
static int bits_at(const uint8_t *b, int i, int width)
{
    return b[width * i / 8] >> width * i % 8 & ((1 << width) - 1);
}

static void nibbles(const uint8_t *qs, struct block *ret)
{
    for (int i = 0; i < 16; i++) {
        ret->q[i] = qs[i] & 15;
        ret->q[i + 16] = qs[i] >> 4;
    }
}

/* Element i of the two-bit and of the four-bit parts of K-quants. */
static int two_bits(const uint8_t *qs, int i)
{
    return qs[32 * (i / 128) + i % 32] >> 2 * (i / 32 % 4) & 3;
}

static int four_bits(const uint8_t *qs, int i)
{
    return qs[32 * (i / 64) + i % 32] >> 4 * (i / 32 % 2) & 15;
}

static void decode(fs_dtype dtype, const uint8_t *b, struct block *ret)
{
    *ret = (struct block){ .d = half_at(b) };
    for (int s = 0; s < 2; s++)
        ret->scale[s] = ret->min[s] = 1;
    switch (dtype) {
    case FS_DTYPE_Q4_0:
        nibbles(b + 2, ret);
        for (int i = 0; i < 32; i++)
            ret->q[i] -= 8;
        return;
    case FS_DTYPE_Q4_1:
        nibbles(b + 4, ret);
        ret->m = half_at(b + 2);
        ret->has_min = true;
        return;
    case FS_DTYPE_Q5_0:
        nibbles(b + 6, ret);
        for (int i = 0; i < 32; i++)
            ret->q[i] += 16 * bits_at(b + 2, i, 1) - 16;
        return;
    case FS_DTYPE_Q5_1:
        nibbles(b + 8, ret);
        for (int i = 0; i < 32; i++)
            ret->q[i] += 16 * bits_at(b + 4, i, 1);
        ret->m = half_at(b + 2);
        ret->has_min = true;
        return;
    case FS_DTYPE_Q8_0:
        for (int i = 0; i < 32; i++)
            ret->q[i] = (int8_t)b[2 + i];
        return;
    case FS_DTYPE_Q2_K:
        for (int i = 0; i < 256; i++)
            ret->q[i] = two_bits(b + 16, i);
        for (int s = 0; s < 16; s++) {
            ret->scale[s] = b[s] & 15;
            ret->min[s] = b[s] >> 4;
        }
        ret->d = half_at(b + 80);
        ret->m = -half_at(b + 82);
        ret->has_min = true;
        return;
    case FS_DTYPE_Q3_K:
        for (int i = 0; i < 256; i++)
            ret->q[i] = two_bits(b + 32, i) + 4 * (b[i % 32] >> i / 32 & 1) - 4;
        for (int s = 0; s < 16; s++)
            ret->scale[s] = (b[96 + s % 8] >> s / 8 * 4 & 15) + 16 * (b[104 + s % 4] >> s / 4 * 2 & 3) - 32;
        ret->d = half_at(b + 108);
        return;
    case FS_DTYPE_Q4_K:
    case FS_DTYPE_Q5_K:
        for (int i = 0; i < 256; i++)
            ret->q[i] = dtype == FS_DTYPE_Q4_K ? four_bits(b + 16, i) : four_bits(b + 48, i) + 16 * (b[16 + i % 32] >> i / 32 & 1);
        for (int s = 0; s < 16; s++) {
            const uint8_t *p = b + 4;
            int j = s / 2;
            ret->scale[s] = j < 4 ? p[j] & 63 : (p[j + 4] & 15) + 16 * (p[j - 4] >> 6);
            ret->min[s] = j < 4 ? p[j + 4] & 63 : (p[j + 4] >> 4) + 16 * (p[j] >> 6);
        }
        ret->m = -half_at(b + 2);
        ret->has_min = true;
        return;
    case FS_DTYPE_Q6_K:
        for (int i = 0; i < 256; i++)
            ret->q[i] = (b[64 * (i / 128) + i % 64] >> 4 * (i / 64 % 2) & 15) + 16 * two_bits(b + 128, i) - 32;
        for (int s = 0; s < 16; s++)
            ret->scale[s] = (int8_t)b[192 + s];
        ret->d = half_at(b + 208);
        return;
    case FS_DTYPE_IQ4_NL:
        nibbles(b + 2, ret);
        for (int i = 0; i < 32; i++)
            ret->q[i] = fs_iq4_values[ret->q[i]];
        return;
    case FS_DTYPE_IQ4_XS:
        for (int i = 0; i < 256; i++)
            ret->q[i] = fs_iq4_values[b[8 + 16 * (i / 32) + i % 16] >> 4 * (i / 16 % 2) & 15];
        for (int s = 0; s < 16; s++)
            ret->scale[s] = bits_at(b + 4, s / 2, 4) + 16 * bits_at(b + 2, s / 2, 2) - 32;
        return;
    default: /* MXFP4: 2^(e - 128), since the values are doubled */
        nibbles(b + 1, ret);
        for (int i = 0; i < 32; i++)
            ret->q[i] = fs_e2m1_doubled[ret->q[i]];
        ret->d = ldexpf(1.0f, b[0] - 128);
    }
}

void fs_gemm_codes_ref(const fs_mat *w, size_t panel_begin, size_t panel_end, const fs_quants *x, size_t row, size_t m, const float *bias,
                       float *y, size_t ldy, void *scratch)
{
    size_t block_elems = fs_dtype_get(w->dtype)->block_elems, n_blocks = w->k / block_elems;
    (void)scratch;

    for (size_t o = panel_begin * FS_PANEL; o < panel_end * FS_PANEL && o < w->n; o++) {
        for (size_t t = 0; t < m; t++)
            y[t * ldy + o] = 0.0f;
        for (size_t b = 0; b < n_blocks; b++) {
            uint8_t bytes[FS_TILE];
            struct block block;

            fs_codes_unpack(w, o / FS_PANEL, b, o % FS_PANEL, bytes);
            decode(w->dtype, bytes, &block);
            for (size_t t = 0; t < m; t++) {
                const int8_t *codes = fs_quants_codes(x, row + t) + b * block_elems;
                const int16_t *sums = fs_quants_sums(x, row + t) + b * block_elems / 16;
                float d = fs_quants_scales(x, row + t)[b], *to = &y[t * ldy + o];
                int32_t sum = 0, min_sum = 0;

                for (size_t s = 0; s < block_elems / 16; s++) {
                    int32_t dot = 0;
                    for (size_t i = 16 * s; i < 16 * s + 16; i++)
                        dot += block.q[i] * codes[i];
                    sum += block.scale[s] * dot;
                    min_sum += block.min[s] * sums[s];
                }
                *to = fmaf(block.d * d, (float)sum, *to);
                if (block.has_min)
                    *to = fmaf(block.m * d, (float)min_sum, *to);
            }
        }
        for (size_t t = 0; bias && t < m; t++)
            y[t * ldy + o] += bias[o];
    }
}
