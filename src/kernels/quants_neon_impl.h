/* Quantised products on NEON: a panel is four vectors. A template over NAME(f), the names of the two functions, and
 * DOTPROD, whether the CPU has sdot, and PAIRS, whether it has smmla. */
#include "kernels/quants_isa.h"
#include "kernels/transpose.h"

#include <arm_neon.h>
#include <string.h>

typedef float32x4_t VF;
typedef int32x4_t VI;
#define LANES 4
#define UNITS 4

#define vf_set1(f)      vdupq_n_f32(f)
#define vf_load(p)      vld1q_f32(p)
#define vf_store(p, v)  vst1q_f32(p, v)
#define vf_mul(a, b)    vmulq_f32(a, b)
#define vf_div(a, b)    vdivq_f32(a, b)
#define vf_fma(a, b, c) vfmaq_f32(c, a, b)
#define vf_of(v)        vcvtq_f32_s32(v)
#define vi_of(v)        vcvtnq_s32_f32(v)
#define vi_zero()       vdupq_n_s32(0)
#define vi_set1(i)      vdupq_n_s32(i)
#define vi_load(p)      vld1q_s32((const int32_t *)(const void *)(p))
#define vi_store(p, v)  vst1q_s32((int32_t *)(void *)(p), v)
#define vi_add(a, b)    vaddq_s32(a, b)
#define vi_shl(a, n)    vshlq_n_s32(a, n)
#define vi_and(a, b)    vandq_s32(a, b)

static inline void from_f16(const uint8_t *src, VF *v)
{
    for (int u = 0; u < 4; u++)
        v[u] = vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(src + 8 * u)));
}

static inline void from_i8(v16u8 b, VI *v)
{
    int8x16_t s = vreinterpretq_s8_u8((uint8x16_t)b);
    int16x8_t low = vmovl_s8(vget_low_s8(s)), high = vmovl_s8(vget_high_s8(s));
    v[0] = vmovl_s16(vget_low_s16(low));
    v[1] = vmovl_s16(vget_high_s16(low));
    v[2] = vmovl_s16(vget_low_s16(high));
    v[3] = vmovl_s16(vget_high_s16(high));
}

static inline v16u8 lookup(v16u8 table, v16u8 index)
{
    return (v16u8)vqtbl1q_u8((uint8x16_t)table, (uint8x16_t)index);
}

INLINE void dots(const int limit, const int groups, const uint8_t *w, const int8_t *a, VI acc[4])
{
    (void)limit;
    UNROLL for (int g = 0; g < groups; g++)
    {
        int32_t four;
        int8x16_t q;
        memcpy(&four, a + 4 * g, sizeof four);
        q = vreinterpretq_s8_s32(vdupq_n_s32(four));
        UNROLL for (int u = 0; u < 4; u++)
        {
            int8x16_t v = vreinterpretq_s8_u8(vld1q_u8(w + 64 * g + 16 * u));
#if DOTPROD
            acc[u] = vdotq_s32(acc[u], v, q);
#else
            int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(v), vget_low_s8(q)));
            int32x4_t high = vpaddlq_s16(vmull_s8(vget_high_s8(v), vget_high_s8(q)));
            acc[u] = vaddq_s32(acc[u], vpaddq_s32(low, high));
#endif
        }
    }
}

#if PAIRS
INLINE void widen(const uint8_t *w, uint8_t *ret)
{
    for (int g = 0; g < 8; g += 2)
        for (int i = 0; i < 64; i += 16, ret += 32) {
            uint32x4_t a = vreinterpretq_u32_u8(vld1q_u8(w + 64 * g + i)), b = vreinterpretq_u32_u8(vld1q_u8(w + 64 * (g + 1) + i));
            vst1q_u8(ret, vreinterpretq_u8_u32(vzip1q_u32(a, b)));
            vst1q_u8(ret + 16, vreinterpretq_u8_u32(vzip2q_u32(a, b)));
        }
}

/* smmla: two outputs of eight inputs times both rows, [output 0 row a, 0 b, 1 a, 1 b]. */
INLINE void dots_two(const int groups, const uint8_t *wide, const int8_t *a, const int8_t *b, VI acc_a[4], VI acc_b[4])
{
    VI low[4], high[4]; /* outputs 4u and 4u + 1, and the two behind */

    UNROLL for (int u = 0; u < 4; u++)
    {
        low[u] = vzip1q_s32(acc_a[u], acc_b[u]);
        high[u] = vzip2q_s32(acc_a[u], acc_b[u]);
    }
    UNROLL for (int g = 0; g < groups / 2; g++)
    {
        int8x16_t both = vcombine_s8(vld1_s8(a + 8 * g), vld1_s8(b + 8 * g));
        UNROLL for (int u = 0; u < 4; u++)
        {
            low[u] = vmmlaq_s32(low[u], vreinterpretq_s8_u8(vld1q_u8(wide + 128 * g + 32 * u)), both);
            high[u] = vmmlaq_s32(high[u], vreinterpretq_s8_u8(vld1q_u8(wide + 128 * g + 32 * u + 16)), both);
        }
    }
    UNROLL for (int u = 0; u < 4; u++)
    {
        acc_a[u] = vuzp1q_s32(low[u], high[u]);
        acc_b[u] = vuzp2q_s32(low[u], high[u]);
    }
}
#endif

#include "kernels/quants_simd.h"

void NAME(fs_quantize)(const fs_quants *q, size_t row, size_t n_rows, size_t block_begin, size_t block_end, const float *x, size_t ldx)
{
    quantize(q, row, n_rows, block_begin, block_end, x, ldx);
}

void NAME(fs_gemm_codes)(const fs_mat *w, size_t panel_begin, size_t panel_end, const fs_quants *x, size_t row, size_t m, const float *bias,
                         float *y, size_t ldy, void *scratch)
{
    (void)scratch;
    gemm_codes(w, panel_begin, panel_end, x, row, m, bias, y, ldy, sweeps);
}
