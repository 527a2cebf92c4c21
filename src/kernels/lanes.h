/* Sixteen f32 lanes, the width of RN1's order B and of a weight panel, in the instruction set that the including
 * file names: FS_LANES_AVX512 (one register), FS_LANES_AVX2 (two) or FS_LANES_NEON (four). Code written with these
 * reads the same for all three; each function is one IEEE operation a lane, rounded once, so the bits are the same too.
 *
 * lanes_max(a, b) = a > b ? a : b and lanes_min(a, b) = a < b ? a : b: b when either is NaN.
 * load_n and store_n touch n floats, 0 <= n <= 16, and nothing behind them; the other lanes load as +0. */
#ifndef FS_KERNELS_LANES_H
#define FS_KERNELS_LANES_H

#include "kernels/math_const.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES 16

#if defined(FS_LANES_AVX512)

#include <immintrin.h>

typedef __m512 lanes;

static inline lanes lanes_set1(float v) { return _mm512_set1_ps(v); }
static inline lanes lanes_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void lanes_store(float *p, lanes a) { _mm512_storeu_ps(p, a); }
static inline lanes lanes_add(lanes a, lanes b) { return _mm512_add_ps(a, b); }
static inline lanes lanes_sub(lanes a, lanes b) { return _mm512_sub_ps(a, b); }
static inline lanes lanes_mul(lanes a, lanes b) { return _mm512_mul_ps(a, b); }
static inline lanes lanes_div(lanes a, lanes b) { return _mm512_div_ps(a, b); }
static inline lanes lanes_fma(lanes a, lanes b, lanes c) { return _mm512_fmadd_ps(a, b, c); }
static inline lanes lanes_max(lanes a, lanes b) { return _mm512_max_ps(a, b); }
static inline lanes lanes_min(lanes a, lanes b) { return _mm512_min_ps(a, b); }
static inline lanes lanes_sqrt(lanes a) { return _mm512_sqrt_ps(a); }
static inline lanes lanes_neg(lanes a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
static inline bool lanes_any_equal(lanes a, lanes b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ) != 0; }
static inline bool lanes_any_nan(lanes a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q) != 0; }

static inline lanes lanes_load_n(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}

static inline void lanes_store_n(float *p, lanes a, size_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
}

/* even, odd = the elements 2i, 2i + 1 of 32 floats. */
static inline void lanes_load_pairs(const float *p, lanes *even, lanes *odd)
{
    const __m512i pick = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    lanes a = lanes_load(p), b = lanes_load(p + 16);

    *even = _mm512_permutex2var_ps(a, pick, b);
    *odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(pick, _mm512_set1_epi32(1)), b);
}

static inline void lanes_store_pairs(float *p, lanes even, lanes odd)
{
    const __m512i pick = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);

    lanes_store(p, _mm512_permutex2var_ps(even, pick, odd));
    lanes_store(p + 16, _mm512_permutex2var_ps(even, _mm512_add_epi32(pick, _mm512_set1_epi32(8)), odd));
}

/* p * 2^n, rounded once, n = t - 1.5 * 2^23. */
static inline lanes lanes_scale(lanes p, lanes t)
{
    return _mm512_scalef_ps(p, _mm512_sub_ps(t, _mm512_set1_ps(0x1.8p+23f)));
}

/* lane[j] += lane[j + s], s = 8, 4, 2, 1. */
static inline float lanes_fold(lanes a)
{
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    q = _mm_add_ss(q, _mm_movehdup_ps(q));
    return _mm_cvtss_f32(q);
}

#elif defined(FS_LANES_AVX2)

#include <immintrin.h>

typedef struct lanes {
    __m256 lo, hi;
} lanes;

#define LANES_1(name, op)                                     \
    static inline lanes name(lanes a, lanes b)                \
    {                                                         \
        return (lanes){ op(a.lo, b.lo), op(a.hi, b.hi) };     \
    }
LANES_1(lanes_add, _mm256_add_ps)
LANES_1(lanes_sub, _mm256_sub_ps)
LANES_1(lanes_mul, _mm256_mul_ps)
LANES_1(lanes_div, _mm256_div_ps)
LANES_1(lanes_max, _mm256_max_ps)
LANES_1(lanes_min, _mm256_min_ps)
#undef LANES_1

static inline lanes lanes_set1(float v)
{
    return (lanes){ _mm256_set1_ps(v), _mm256_set1_ps(v) };
}

static inline lanes lanes_load(const float *p)
{
    return (lanes){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) };
}

static inline void lanes_store(float *p, lanes a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}

static inline lanes lanes_fma(lanes a, lanes b, lanes c)
{
    return (lanes){ _mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi) };
}

static inline lanes lanes_sqrt(lanes a)
{
    return (lanes){ _mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi) };
}

static inline lanes lanes_neg(lanes a)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (lanes){ _mm256_xor_ps(a.lo, sign), _mm256_xor_ps(a.hi, sign) };
}

static inline bool lanes_any_equal(lanes a, lanes b)
{
    return _mm256_movemask_ps(_mm256_or_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_EQ_OQ),
                                           _mm256_cmp_ps(a.hi, b.hi, _CMP_EQ_OQ))) != 0;
}

static inline bool lanes_any_nan(lanes a)
{
    return _mm256_movemask_ps(_mm256_cmp_ps(a.lo, a.lo, _CMP_UNORD_Q)) != 0 ||
           _mm256_movemask_ps(_mm256_cmp_ps(a.hi, a.hi, _CMP_UNORD_Q)) != 0;
}

static const int32_t lanes_mask[32] = { -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1 };

static inline lanes lanes_load_n(const float *p, size_t n)
{
    const int32_t *m = lanes_mask + 16 - n;
    return (lanes){ _mm256_maskload_ps(p, _mm256_loadu_si256((const __m256i *)m)),
                    _mm256_maskload_ps(p + 8, _mm256_loadu_si256((const __m256i *)(m + 8))) };
}

static inline void lanes_store_n(float *p, lanes a, size_t n)
{
    const int32_t *m = lanes_mask + 16 - n;
    _mm256_maskstore_ps(p, _mm256_loadu_si256((const __m256i *)m), a.lo);
    _mm256_maskstore_ps(p + 8, _mm256_loadu_si256((const __m256i *)(m + 8)), a.hi);
}

/* [a0 b0 a1 b1 | a2 b2 a3 b3] [a4 ...] and back; the 64-bit permutation mends what the 128-bit halves keep apart. */
static inline __m256 pick_8(__m256 a, __m256 b, int odd)
{
    __m256 s = odd ? _mm256_shuffle_ps(a, b, 0xdd) : _mm256_shuffle_ps(a, b, 0x88);
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(s), 0xd8));
}

static inline void lanes_load_pairs(const float *p, lanes *even, lanes *odd)
{
    lanes a = lanes_load(p), b = lanes_load(p + 16);

    *even = (lanes){ pick_8(a.lo, a.hi, 0), pick_8(b.lo, b.hi, 0) };
    *odd = (lanes){ pick_8(a.lo, a.hi, 1), pick_8(b.lo, b.hi, 1) };
}

static inline void store_pairs_8(float *p, __m256 even, __m256 odd)
{
    __m256 a = _mm256_unpacklo_ps(even, odd), b = _mm256_unpackhi_ps(even, odd);

    _mm256_storeu_ps(p, _mm256_permute2f128_ps(a, b, 0x20));
    _mm256_storeu_ps(p + 8, _mm256_permute2f128_ps(a, b, 0x31));
}

static inline void lanes_store_pairs(float *p, lanes even, lanes odd)
{
    store_pairs_8(p, even.lo, odd.lo);
    store_pairs_8(p + 16, even.hi, odd.hi);
}

static inline __m256 scale_8(__m256 p, __m256 t)
{
    __m256i i = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(0x4b400000 - 256));
    __m256i half = _mm256_srli_epi32(i, 1), one = _mm256_set1_epi32(1);

    p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_sub_epi32(half, one), 23)));
    i = _mm256_sub_epi32(_mm256_sub_epi32(i, half), one);
    return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(i, 23)));
}

/* p * 2^n, the low bits of t hold n: the two factors of fs_expf. */
static inline lanes lanes_scale(lanes p, lanes t)
{
    return (lanes){ scale_8(p.lo, t.lo), scale_8(p.hi, t.hi) };
}

static inline float lanes_fold(lanes a)
{
    __m256 h = _mm256_add_ps(a.lo, a.hi);
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    q = _mm_add_ss(q, _mm_movehdup_ps(q));
    return _mm_cvtss_f32(q);
}

#elif defined(FS_LANES_NEON)

#include <arm_neon.h>

typedef struct lanes {
    float32x4_t a, b, c, d;
} lanes;

#define LANES_2(name, op)                                                               \
    static inline lanes name(lanes x, lanes y)                                          \
    {                                                                                   \
        return (lanes){ op(x.a, y.a), op(x.b, y.b), op(x.c, y.c), op(x.d, y.d) };       \
    }
/* Not vmaxq: it returns NaN where RN1's comparison passes it over. */
static inline float32x4_t max_4(float32x4_t x, float32x4_t y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }
static inline float32x4_t min_4(float32x4_t x, float32x4_t y) { return vbslq_f32(vcltq_f32(x, y), x, y); }
LANES_2(lanes_add, vaddq_f32)
LANES_2(lanes_sub, vsubq_f32)
LANES_2(lanes_mul, vmulq_f32)
LANES_2(lanes_div, vdivq_f32)
LANES_2(lanes_max, max_4)
LANES_2(lanes_min, min_4)
#undef LANES_2

static inline lanes lanes_set1(float v)
{
    float32x4_t q = vdupq_n_f32(v);
    return (lanes){ q, q, q, q };
}

static inline lanes lanes_load(const float *p)
{
    return (lanes){ vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12) };
}

static inline void lanes_store(float *p, lanes x)
{
    vst1q_f32(p, x.a);
    vst1q_f32(p + 4, x.b);
    vst1q_f32(p + 8, x.c);
    vst1q_f32(p + 12, x.d);
}

static inline lanes lanes_fma(lanes x, lanes y, lanes z)
{
    return (lanes){ vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c),
                    vfmaq_f32(z.d, x.d, y.d) };
}

static inline lanes lanes_sqrt(lanes x)
{
    return (lanes){ vsqrtq_f32(x.a), vsqrtq_f32(x.b), vsqrtq_f32(x.c), vsqrtq_f32(x.d) };
}

static inline lanes lanes_neg(lanes x)
{
    return (lanes){ vnegq_f32(x.a), vnegq_f32(x.b), vnegq_f32(x.c), vnegq_f32(x.d) };
}

static inline bool lanes_any_equal(lanes x, lanes y)
{
    uint32x4_t m = vorrq_u32(vorrq_u32(vceqq_f32(x.a, y.a), vceqq_f32(x.b, y.b)),
                             vorrq_u32(vceqq_f32(x.c, y.c), vceqq_f32(x.d, y.d)));
    return vmaxvq_u32(m) != 0;
}

static inline bool lanes_any_nan(lanes x)
{
    uint32x4_t m = vandq_u32(vandq_u32(vceqq_f32(x.a, x.a), vceqq_f32(x.b, x.b)),
                             vandq_u32(vceqq_f32(x.c, x.c), vceqq_f32(x.d, x.d)));
    return vminvq_u32(m) == 0;
}

static inline lanes lanes_load_n(const float *p, size_t n)
{
    float v[LANES] = { 0 };

    memcpy(v, p, n * sizeof *v);
    return lanes_load(v);
}

static inline void lanes_store_n(float *p, lanes x, size_t n)
{
    float v[LANES];

    lanes_store(v, x);
    memcpy(p, v, n * sizeof *v);
}

static inline void lanes_load_pairs(const float *p, lanes *even, lanes *odd)
{
    float32x4x2_t a = vld2q_f32(p), b = vld2q_f32(p + 8), c = vld2q_f32(p + 16), d = vld2q_f32(p + 24);

    *even = (lanes){ a.val[0], b.val[0], c.val[0], d.val[0] };
    *odd = (lanes){ a.val[1], b.val[1], c.val[1], d.val[1] };
}

static inline void lanes_store_pairs(float *p, lanes even, lanes odd)
{
    vst2q_f32(p, (float32x4x2_t){ { even.a, odd.a } });
    vst2q_f32(p + 8, (float32x4x2_t){ { even.b, odd.b } });
    vst2q_f32(p + 16, (float32x4x2_t){ { even.c, odd.c } });
    vst2q_f32(p + 24, (float32x4x2_t){ { even.d, odd.d } });
}

static inline float32x4_t scale_4(float32x4_t p, float32x4_t t)
{
    uint32x4_t i = vsubq_u32(vreinterpretq_u32_f32(t), vdupq_n_u32(0x4b400000 - 256));
    uint32x4_t half = vshrq_n_u32(i, 1), one = vdupq_n_u32(1);

    p = vmulq_f32(p, vreinterpretq_f32_u32(vshlq_n_u32(vsubq_u32(half, one), 23)));
    i = vsubq_u32(vsubq_u32(i, half), one);
    return vmulq_f32(p, vreinterpretq_f32_u32(vshlq_n_u32(i, 23)));
}

/* p * 2^n, the low bits of t hold n: the two factors of fs_expf. */
static inline lanes lanes_scale(lanes p, lanes t)
{
    return (lanes){ scale_4(p.a, t.a), scale_4(p.b, t.b), scale_4(p.c, t.c), scale_4(p.d, t.d) };
}

static inline float lanes_fold(lanes x)
{
    float32x4_t q = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
    float32x2_t h = vadd_f32(vget_low_f32(q), vget_high_f32(q));
    return vget_lane_f32(h, 0) + vget_lane_f32(h, 1);
}

#else
#error "name the instruction set before including lanes.h"
#endif

/* fs_expf of each lane, operation by operation. */
static inline lanes lanes_exp(lanes x)
{
    lanes t, n, r, q, p, one = lanes_set1(1.0f), magic = lanes_set1(0x1.8p+23f);

    x = lanes_min(lanes_set1(89.0f), lanes_max(lanes_set1(-104.0f), x));
    t = lanes_fma(x, lanes_set1(FS_LOG2E_F), magic);
    n = lanes_sub(t, magic);
    r = lanes_fma(n, lanes_set1(-FS_LN2_HI_F), x);
    r = lanes_fma(n, lanes_set1(-FS_LN2_LO_F), r);
    q = lanes_fma(lanes_set1(fs_exp_f[4]), r, lanes_set1(fs_exp_f[3]));
    q = lanes_fma(q, r, lanes_set1(fs_exp_f[2]));
    q = lanes_fma(q, r, lanes_set1(fs_exp_f[1]));
    q = lanes_fma(q, r, lanes_set1(fs_exp_f[0]));
    p = lanes_add(one, r);
    p = lanes_add(p, lanes_fma(lanes_mul(r, r), q, lanes_sub(r, lanes_sub(p, one))));
    return lanes_scale(p, t);
}

#endif
