/* Plain types; see the header. */
#include "tensor/blocks.h"

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
    default:
        assert(!"fs_dequant_row: not a weight type");
    }
}
