/* The definition of quantised activations and their products: a block as in the file, its integers, one chain an output. */
#include "kernels/quants_isa.h"
#include "tensor/blocks.h"

#include <math.h>
#include <string.h>

/* The largest |x| of a group by its bits: NaN is above infinity, and that above the rest. */
static uint32_t group_max(const float x[4])
{
    uint32_t top = 0;

    for (int i = 0; i < 4; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffff;
        top = bits > top ? bits : top;
    }
    return top;
}

static void quantize_block(const float *x, fs_quants_block *ret)
{
    uint32_t top = 0, rest = 0; /* bits of A and B */
    int group = 0;
    float a, b;

    *ret = (fs_quants_block){ .top = 0 };
    for (int g = 0; g < 8; g++) {
        uint32_t bits = group_max(x + 4 * g);
        if (g == 0 || bits > top) {
            rest = top;
            top = bits;
            group = g;
        } else if (bits > rest) {
            rest = bits;
        }
    }
    memcpy(&a, &top, sizeof a);
    memcpy(&b, &rest, sizeof b);
    a /= 16319.0f;
    b /= 127.0f;
    ret->d = b > a ? b : a;
    ret->d = ret->d < 0x1p-126f ? 0.0f : ret->d;
    ret->top = 64 * group;
    ret->shift_of[group / 4] = FS_QUANTS_SHIFT;
    ret->shift_of[1 - group / 4] = 32;
    ret->nibble = group / 4 * 4;
    for (int i = 0; i < FS_QUANTS_BLOCK; i++) {
        int v = ret->d > 0.0f && ret->d < INFINITY ? (int)nearbyintf(x[i] / ret->d) : 0, high = 0;
        if (i / 4 == group) {
            high = (v + 128 * 128 + 64) / 128 - 128; /* the division rounds down */
            ret->high[i % 4] = (int8_t)high;
        }
        ret->low[i] = (int8_t)(v - 128 * high);
        ret->minus_sum -= v;
        ret->minus_sums_32[i / 16] -= 32 * v;
    }
    ret->d_sum = ret->d * (float)-ret->minus_sum;
}

void fs_quantize_ref(const fs_quants *q, size_t row, size_t n_rows, size_t block_begin, size_t block_end, const float *x, size_t ldx)
{
    for (size_t t = 0; t < n_rows; t++, x += ldx)
        for (size_t b = block_begin; b < block_end; b++)
            quantize_block(x + b * FS_QUANTS_BLOCK, fs_quants_row(q, row + t) + b);
}

/* A block's integers. scale and min belong to 16 inputs each, so that a type with sub-blocks of 32 has them twice. */
struct block {
    int q[FS_TILE], scale[FS_TILE / 16], min[FS_TILE / 16];
    size_t sub; /* inputs of one scale */
    float d, m;
    bool has_min;
};

static float half_at(const uint8_t *p)
{
    return fs_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

/* Of a type with sub-scales: an infinity is NaN. */
static float super_at(const uint8_t *p)
{
    float f = half_at(p);

    return f + (f - f);
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
    *ret = (struct block){ .d = half_at(b), .sub = dtype == FS_DTYPE_Q2_K || dtype == FS_DTYPE_Q3_K || dtype == FS_DTYPE_Q6_K ? 16 : 32 };
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
        ret->d = super_at(b + 80);
        ret->m = -super_at(b + 82);
        ret->has_min = true;
        return;
    case FS_DTYPE_Q3_K:
        for (int i = 0; i < 256; i++)
            ret->q[i] = two_bits(b + 32, i) + 4 * (b[i % 32] >> i / 32 & 1) - 4;
        for (int s = 0; s < 16; s++)
            ret->scale[s] = (b[96 + s % 8] >> s / 8 * 4 & 15) + 16 * (b[104 + s % 4] >> s / 4 * 2 & 3) - 32;
        ret->d = super_at(b + 108);
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
        ret->d = super_at(b);
        ret->m = -super_at(b + 2);
        ret->has_min = true;
        return;
    case FS_DTYPE_Q6_K:
        for (int i = 0; i < 256; i++)
            ret->q[i] = (b[64 * (i / 128) + i % 64] >> 4 * (i / 64 % 2) & 15) + 16 * two_bits(b + 128, i) - 32;
        for (int s = 0; s < 16; s++)
            ret->scale[s] = (int8_t)b[192 + s];
        ret->d = super_at(b + 208);
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
        ret->d = super_at(b);
        return;
    default: /* MXFP4: 2^(e - 128), since the values are doubled */
        nibbles(b + 1, ret);
        for (int i = 0; i < 32; i++)
            ret->q[i] = fs_e2m1_doubled[ret->q[i]];
        ret->d = ldexpf(1.0f, b[0] - 128);
    }
}

/* y and the products of a block of elems weights. */
static float add_block(const struct block *w, size_t elems, const fs_quants_block *x, float y)
{
    for (size_t i0 = 0; i0 < elems; i0 += w->sub) {
        const fs_quants_block *a = x + i0 / FS_QUANTS_BLOCK;
        int32_t sum = 0, v_sum = 0;

        for (size_t i = i0; i < i0 + w->sub; i++) {
            int v = a->low[i % 32];
            if (i % 32 / 4 == (size_t)a->top / 64)
                v += a->high[i % 4] * (1 << FS_QUANTS_SHIFT);
            sum += w->q[i] * v;
            v_sum += v;
        }
        y = fmaf(w->d * (float)w->scale[i0 / 16] * a->d, (float)sum, y);
        if (w->has_min)
            y = fmaf(w->m * (float)w->min[i0 / 16], a->d * (float)v_sum, y);
    }
    return y;
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
            for (size_t t = 0; t < m; t++)
                y[t * ldy + o] = add_block(&block, block_elems, fs_quants_row(x, row + t) + b * block_elems / FS_QUANTS_BLOCK, y[t * ldy + o]);
        }
        for (size_t t = 0; bias && t < m; t++)
            y[t * ldy + o] += bias[o];
    }
}
