/* The product on NEON: a panel is four vectors. */
#include "kernels/products_isa.h"
#include "kernels/transpose.h"

#include <arm_neon.h>

typedef float32x4_t VF;
#define LANES 4
#define UNITS 4

#define vf_zero()       vdupq_n_f32(0.0f)
#define vf_set1(f)      vdupq_n_f32(f)
#define vf_load(p)      vld1q_f32(p)
#define vf_store(p, v)  vst1q_f32(p, v)
#define vf_add(a, b)    vaddq_f32(a, b)
#define vf_sub(a, b)    vsubq_f32(a, b)
#define vf_mul(a, b)    vmulq_f32(a, b)
#define vf_fma(a, b, c) vfmaq_f32(c, a, b)

static inline void from_u8(v16u8 b, VF *v)
{
    uint16x8_t low = vmovl_u8(vget_low_u8((uint8x16_t)b)), high = vmovl_u8(vget_high_u8((uint8x16_t)b));
    v[0] = vcvtq_f32_u32(vmovl_u16(vget_low_u16(low)));
    v[1] = vcvtq_f32_u32(vmovl_u16(vget_high_u16(low)));
    v[2] = vcvtq_f32_u32(vmovl_u16(vget_low_u16(high)));
    v[3] = vcvtq_f32_u32(vmovl_u16(vget_high_u16(high)));
}

static inline void from_i8(v16u8 b, VF *v)
{
    int8x16_t s = vreinterpretq_s8_u8((uint8x16_t)b);
    int16x8_t low = vmovl_s8(vget_low_s8(s)), high = vmovl_s8(vget_high_s8(s));
    v[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(low)));
    v[1] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(low)));
    v[2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(high)));
    v[3] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)));
}

static inline v16u8 lookup(v16u8 table, v16u8 index)
{
    return (v16u8)vqtbl1q_u8((uint8x16_t)table, (uint8x16_t)index);
}

static inline void from_bf16(const uint8_t *src, VF *v)
{
    for (int u = 0; u < 4; u++)
        v[u] = vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(src + 8 * u)), 16));
}

static inline void from_f16(const uint8_t *src, VF *v)
{
    for (int u = 0; u < 4; u++)
        v[u] = vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(src + 8 * u)));
}

/* e4m3's exponent and fraction are those of an f16 that is 2^8 smaller, its denormals included; 0x7f is NaN. */
static inline void from_e4m3(const uint8_t *src, VF *v)
{
    for (int i = 0; i < 2; i++) {
        uint16x8_t wide = vmovl_u8(vld1_u8(src + 8 * i)), low = vandq_u16(wide, vdupq_n_u16(0x7f));
        uint16x8_t sign = vshlq_n_u16(vandq_u16(wide, vdupq_n_u16(0x80)), 8);
        uint16x8_t nan = vandq_u16(vceqq_u16(low, vdupq_n_u16(0x7f)), vdupq_n_u16(0x7e00));
        float16x8_t half = vreinterpretq_f16_u16(vorrq_u16(vorrq_u16(sign, nan), vshlq_n_u16(low, 7)));
        v[2 * i] = vmulq_n_f32(vcvt_f32_f16(vget_low_f16(half)), 256.0f);
        v[2 * i + 1] = vmulq_n_f32(vcvt_f32_f16(vget_high_f16(half)), 256.0f);
    }
}

static inline void bits_of_e4m3(const uint8_t *src, VF *v)
{
    int8x16_t b = vreinterpretq_s8_u8(vld1q_u8(src));
    for (int i = 0; i < 2; i++) {
        int16x8_t wide = vmovl_s8(i ? vget_high_s8(b) : vget_low_s8(b));
        for (int j = 0; j < 2; j++) {
            int32x4_t w = vshlq_n_s32(vmovl_s16(j ? vget_high_s16(wide) : vget_low_s16(wide)), 20);
            v[2 * i + j] = vreinterpretq_f32_s32(vandq_s32(w, vdupq_n_s32((int32_t)0x87f00000)));
        }
    }
}

static inline void bits_of_fours(const uint8_t *src, VF v[4][4])
{
    const int32x4_t mask = vdupq_n_s32((int32_t)0x87f00000);

    for (int u = 0; u < 4; u++) {
        int16x8_t codes = vreinterpretq_s16_u8(vld1q_u8(src + 16 * u));
        int32x4_t odd = vreinterpretq_s32_s16(vshrq_n_s16(codes, 4)), even = vreinterpretq_s32_s16(vshrq_n_s16(vshlq_n_s16(codes, 8), 4));
        v[0][u] = vreinterpretq_f32_s32(vandq_s32(vshlq_n_s32(even, 16), mask));
        v[1][u] = vreinterpretq_f32_s32(vandq_s32(vshlq_n_s32(odd, 16), mask));
        v[2][u] = vreinterpretq_f32_s32(vandq_s32(even, mask));
        v[3][u] = vreinterpretq_f32_s32(vandq_s32(odd, mask));
    }
}

#define bits_of_fours_within bits_of_fours

#define ROWS            6
#define PANELS          1
#define PANELS_OF(rows) ((rows) == 1 ? 4 : (rows) <= 3 ? 2 : 1)
#include "kernels/products_simd.h"

void fs_gemm_neon(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m,
                  const float *bias, float *y, size_t ldy, void *scratch)
{
    struct product g = { w, x, ldx, bias, y, ldy, scratch, false };
    gemm(&g, panel_begin, panel_end, m);
}

void fs_gemm_add_neon(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m, float *y,
                      size_t ldy, void *scratch)
{
    struct product g = { w, x, ldx, NULL, y, ldy, scratch, true };
    gemm(&g, panel_begin, panel_end, m);
}

void fs_gemm_turned_neon(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, const uint32_t *index, size_t m,
                        float *y, size_t ldy, void *scratch)
{
    struct product g = { w, x, ldx, NULL, y, ldy, scratch, true };
    gemm_turned(&g, index, panel_begin, panel_end, m);
}
