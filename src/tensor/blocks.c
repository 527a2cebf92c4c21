/* Plain types and block formats but those with codebooks (blocks_grid.c); see the header. Every product and sum below is one f32 operation, in the order of
 * quants.py: for the formats with an offset fl(fl(d * q) + m), for K-quants fl(fl(d * scale) * q) first. */
#include "tensor/blocks_impl.h"

#include <assert.h>
#include <string.h>

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint32_t to_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

float fs_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, frac = h & 0x3ff;

    if (exp == 31)
        return from_bits(sign | 0x7f800000u | frac << 13);
    if (exp)
        return from_bits(sign | (exp + 112) << 23 | frac << 13);
    return from_bits(sign | to_bits((float)frac * 0x1p-24f)); /* zero and denormals: exact */
}

float fs_bf16_to_f32(uint16_t h)
{
    return from_bits((uint32_t)h << 16);
}

float fs_e4m3_to_f32(uint8_t b)
{
    uint32_t sign = (uint32_t)(b & 0x80) << 24, exp = b >> 3 & 15, frac = b & 7;

    if ((b & 0x7f) == 0x7f)
        return from_bits(sign | 0x7fc00000u);
    if (exp)
        return from_bits(sign | (exp + 120) << 23 | frac << 20);
    return from_bits(sign | to_bits((float)frac * 0x1p-9f));
}

float fs_e8m0_to_f32(uint8_t b)
{
    if (b == 255)
        return from_bits(0x7fc00000u);
    return b ? from_bits((uint32_t)b << 23) : 0x1p-127f;
}

uint16_t fs_f32_to_bf16(float x)
{
    uint32_t u = to_bits(x);

    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40); /* quiet, and never rounded to infinity */
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

uint16_t fs_f32_to_f16(float x)
{
    uint32_t u = to_bits(x), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;

    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00);
    if (a >= 0x477ff000u) /* rounds to 2^16 or more */
        return (uint16_t)(sign | 0x7c00);
    if (a >= 0x38800000u) /* normal: 2^-14 and up */
        return (uint16_t)(sign | ((a - 0x38000000u + 0xfffu + (a >> 13 & 1)) >> 13));
    /* Denormal: adding 2^-1 puts the unit of f16's denormals at the unit of the f32, which rounds it. */
    return (uint16_t)(sign | (to_bits(from_bits(a) + 0.5f) - 0x3f000000u));
}

const int8_t fs_iq4_values[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };
const int8_t fs_e2m1_doubled[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

/* Blocks of 32 with nibbles: byte j of qs holds element j (low) and element j + 16 (high); qh, where a format has
 * it, holds bit 4 of element j in its bit j. */
static void q4_0(const uint8_t *b, float *y)
{
    float d = half_at(b);

    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)((b[2 + j] & 15) - 8);
        y[j + 16] = d * (float)((b[2 + j] >> 4) - 8);
    }
}

static void q4_1(const uint8_t *b, float *y)
{
    float d = half_at(b), m = half_at(b + 2);

    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)(b[4 + j] & 15) + m;
        y[j + 16] = d * (float)(b[4 + j] >> 4) + m;
    }
}

static void q5_0(const uint8_t *b, float *y)
{
    float d = half_at(b);

    for (int j = 0; j < 32; j++) {
        int low = j < 16 ? b[6 + j] & 15 : b[6 + j - 16] >> 4, high = b[2 + j / 8] >> j % 8 & 1;
        y[j] = d * (float)((low | high << 4) - 16);
    }
}

static void q5_1(const uint8_t *b, float *y)
{
    float d = half_at(b), m = half_at(b + 2);

    for (int j = 0; j < 32; j++) {
        int low = j < 16 ? b[8 + j] & 15 : b[8 + j - 16] >> 4, high = b[4 + j / 8] >> j % 8 & 1;
        y[j] = d * (float)(low | high << 4) + m;
    }
}

static void q8_0(const uint8_t *b, float *y)
{
    float d = half_at(b);

    for (int j = 0; j < 32; j++)
        y[j] = (float)(int8_t)b[2 + j] * d;
}

static void iq4_nl(const uint8_t *b, float *y)
{
    float d = half_at(b);

    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)fs_iq4_values[b[2 + j] & 15];
        y[j + 16] = d * (float)fs_iq4_values[b[2 + j] >> 4];
    }
}

static void mxfp4(const uint8_t *b, float *y)
{
    /* 2^(e-128), half of E8M0's value, since the table is doubled; e = 255 is not a NaN here. */
    float d = from_bits(b[0] < 2 ? 0x00200000u << b[0] : (uint32_t)(b[0] - 1) << 23);

    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)fs_e2m1_doubled[b[1 + j] & 15];
        y[j + 16] = d * (float)fs_e2m1_doubled[b[1 + j] >> 4];
    }
}

/* K-quants: superblocks of 256. Two-bit parts: byte 32 * (i / 128) + i % 32 holds element i in the bit pair
 * (i / 32) % 4. Four-bit parts: byte 32 * (i / 64) + i % 32 holds element i in the low (i / 32 even) or high half. */
static void q2_k(const uint8_t *b, float *y)
{
    const uint8_t *scales = b, *qs = b + 16;
    float d = half_at(b + 80), dmin = half_at(b + 82);

    for (int i = 0; i < 256; i++) {
        float dl = d * (float)(scales[i / 16] & 15), ml = dmin * (float)(scales[i / 16] >> 4);
        int q = qs[32 * (i / 128) + i % 32] >> 2 * (i / 32 % 4) & 3;
        y[i] = dl * (float)q - ml;
    }
}

static void q3_k(const uint8_t *b, float *y)
{
    const uint8_t *hmask = b, *qs = b + 32, *scales = b + 96;
    float d = half_at(b + 108);

    for (int i = 0; i < 256; i++) {
        int g = i / 16;
        int low = (g < 8 ? scales[g] : scales[g - 8] >> 4) & 15, high = scales[8 + g % 4] >> 2 * (g / 4) & 3;
        float dl = d * (float)((low | high << 4) - 32);
        int q = qs[32 * (i / 128) + i % 32] >> 2 * (i / 32 % 4) & 3;
        if (!(hmask[i % 32] >> i / 32 & 1))
            q -= 4;
        y[i] = dl * (float)q;
    }
}

/* Sub-block j's six-bit scale and minimum out of the twelve bytes of Q4_K and Q5_K. */
static void k_scale_min(const uint8_t *s, int j, int *ret_scale, int *ret_min)
{
    if (j < 4) {
        *ret_scale = s[j] & 63;
        *ret_min = s[j + 4] & 63;
    } else {
        *ret_scale = (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        *ret_min = s[j + 4] >> 4 | s[j] >> 6 << 4;
    }
}

/* qh NULL: Q4_K. */
static void q45_k(const uint8_t *b, const uint8_t *qh, const uint8_t *qs, float *y)
{
    float d = half_at(b), dmin = half_at(b + 2);

    for (int j = 0; j < 8; j++) {
        int scale, min;
        float dl, ml;
        k_scale_min(b + 4, j, &scale, &min);
        dl = d * (float)scale;
        ml = dmin * (float)min;
        for (int i = 0; i < 32; i++) {
            int q = qs[32 * (j / 2) + i] >> 4 * (j % 2) & 15;
            if (qh)
                q |= (qh[i] >> j & 1) << 4;
            y[32 * j + i] = dl * (float)q - ml;
        }
    }
}

static void q4_k(const uint8_t *b, float *y)
{
    q45_k(b, NULL, b + 16, y);
}

static void q5_k(const uint8_t *b, float *y)
{
    q45_k(b, b + 16, b + 48, y);
}

static void q6_k(const uint8_t *b, float *y)
{
    const uint8_t *ql = b, *qh = b + 128, *scales = b + 192;
    float d = half_at(b + 208);

    for (int i = 0; i < 256; i++) {
        int low = ql[64 * (i / 128) + i % 64] >> 4 * (i / 64 % 2) & 15;
        int high = qh[32 * (i / 128) + i % 32] >> 2 * (i / 32 % 4) & 3;
        y[i] = d * (float)(int8_t)scales[i / 16] * (float)((low | high << 4) - 32);
    }
}

static void iq4_xs(const uint8_t *b, float *y)
{
    float d = half_at(b);
    int scales_h = b[2] | b[3] << 8;

    for (int j = 0; j < 8; j++) {
        int low = b[4 + j / 2] >> 4 * (j % 2) & 15, high = scales_h >> 2 * j & 3;
        float dl = d * (float)((low | high << 4) - 32);
        for (int i = 0; i < 16; i++) {
            uint8_t q = b[8 + 16 * j + i];
            y[32 * j + i] = dl * (float)fs_iq4_values[q & 15];
            y[32 * j + 16 + i] = dl * (float)fs_iq4_values[q >> 4];
        }
    }
}

/* Half of E4M3 without a sign, since the table is doubled. 0x7f is zero, 0xff is no NaN either. */
static float nvfp4_scale(uint8_t b)
{
    return b == 0x7f ? 0.0f : b == 0xff ? 240.0f : 0.5f * fs_e4m3_to_f32(b & 0x7f);
}

static void nvfp4(const uint8_t *b, float *y)
{
    for (int s = 0; s < 4; s++) {
        float d = nvfp4_scale(b[s]);
        for (int j = 0; j < 8; j++) {
            uint8_t q = b[4 + 8 * s + j];
            y[16 * s + j] = d * (float)fs_e2m1_doubled[q & 15];
            y[16 * s + 8 + j] = d * (float)fs_e2m1_doubled[q >> 4];
        }
    }
}

/* Ternary digits, five to a byte as a fraction of 243 in 256ths: digit j is the integer part of 3 * frac(b * 3^j / 256).
 * Digit j of n bytes from b on gives elements j * n .. j * n + n - 1. */
static void put_trits(const uint8_t *b, int n, int n_digits, float d, float *y)
{
    uint8_t power = 1;

    for (int j = 0; j < n_digits; j++, power = (uint8_t)(3 * power))
        for (int i = 0; i < n; i++)
            *y++ = d * (float)(((uint8_t)(b[i] * power) * 3 >> 8) - 1);
}

static void tq1_0(const uint8_t *b, float *y)
{
    float d = half_at(b + 52);

    put_trits(b, 32, 5, d, y);
    put_trits(b + 32, 16, 5, d, y + 160);
    put_trits(b + 48, 4, 4, d, y + 240);
}

static void tq2_0(const uint8_t *b, float *y)
{
    float d = half_at(b + 64);

    for (int i = 0; i < 256; i++)
        y[i] = d * (float)((b[32 * (i / 128) + i % 32] >> 2 * (i / 32 % 4) & 3) - 1);
}

static fs_block_fn *const block_fns[FS_DTYPE_END] = {
    [FS_DTYPE_Q4_0] = q4_0, [FS_DTYPE_Q4_1] = q4_1, [FS_DTYPE_Q5_0] = q5_0, [FS_DTYPE_Q5_1] = q5_1,
    [FS_DTYPE_Q8_0] = q8_0, [FS_DTYPE_Q2_K] = q2_k, [FS_DTYPE_Q3_K] = q3_k, [FS_DTYPE_Q4_K] = q4_k,
    [FS_DTYPE_Q5_K] = q5_k, [FS_DTYPE_Q6_K] = q6_k, [FS_DTYPE_IQ4_NL] = iq4_nl, [FS_DTYPE_IQ4_XS] = iq4_xs,
    [FS_DTYPE_MXFP4] = mxfp4, [FS_DTYPE_NVFP4] = nvfp4, [FS_DTYPE_TQ1_0] = tq1_0, [FS_DTYPE_TQ2_0] = tq2_0,
    [FS_DTYPE_IQ1_S] = fs_block_iq1_s, [FS_DTYPE_IQ1_M] = fs_block_iq1_m, [FS_DTYPE_IQ2_XXS] = fs_block_iq2_xxs,
    [FS_DTYPE_IQ2_XS] = fs_block_iq2_xs, [FS_DTYPE_IQ2_S] = fs_block_iq2_s, [FS_DTYPE_IQ3_XXS] = fs_block_iq3_xxs,
    [FS_DTYPE_IQ3_S] = fs_block_iq3_s,
};

void fs_dequant_row(fs_dtype t, const void *src, float *ret_dst, size_t n)
{
    const uint8_t *s = src;

    assert(n % fs_dtype_get(t)->block_elems == 0);
    switch (t) {
    case FS_DTYPE_F32:
        memcpy(ret_dst, s, n * sizeof *ret_dst);
        return;
    case FS_DTYPE_F16:
        for (size_t i = 0; i < n; i++)
            ret_dst[i] = fs_f16_to_f32((uint16_t)(s[2 * i] | s[2 * i + 1] << 8));
        return;
    case FS_DTYPE_BF16:
        for (size_t i = 0; i < n; i++)
            ret_dst[i] = fs_bf16_to_f32((uint16_t)(s[2 * i] | s[2 * i + 1] << 8));
        return;
    case FS_DTYPE_F8_E4M3:
        for (size_t i = 0; i < n; i++)
            ret_dst[i] = fs_e4m3_to_f32(s[i]);
        return;
    case FS_DTYPE_FP4_E2M1:
        for (size_t i = 0; i < n; i++)
            ret_dst[i] = 0.5f * (float)fs_e2m1_doubled[s[i / 2] >> i % 2 * 4 & 15];
        return;
    default:
        assert(block_fns[t] && "fs_dequant_row: not a weight type");
        for (size_t i = 0; i < n; i += fs_dtype_get(t)->block_elems, s += fs_dtype_get(t)->block_bytes)
            block_fns[t](s, ret_dst + i);
    }
}
