/* Sixteen pairs of bf16 a register and what products of RN1-bf16 need of them, on the instruction set that the including
 * file has named for lanes.h; with FS_PAIRS_DOT AVX-512 has BF16 instructions besides. kernels/pairs.h is the definition.
 *
 * Between pairs_begin and pairs_end x86 flushes denormals (VDPBF16PS does so by itself): only chains and the additions of
 * their chunks may stand there, in functions that the compiler cannot take apart. */
#ifndef FS_KERNELS_PAIRS_LANES_H
#define FS_KERNELS_PAIRS_LANES_H

#include "kernels/lanes.h"
#include "kernels/pairs.h"

#if defined(FS_LANES_AVX512) || defined(FS_LANES_AVX2)

#define PAIRS_FLUSH 0x8040u /* MXCSR: results below 2^-126, found after rounding, and operands become zeros */

static inline unsigned pairs_begin(void)
{
    unsigned before, during;

    __asm__ volatile("stmxcsr %0" : "=m"(before) : : "memory");
    during = before | PAIRS_FLUSH;
    __asm__ volatile("ldmxcsr %0" : : "m"(during) : "memory");
    return before;
}

static inline void pairs_end(unsigned before)
{
    __asm__ volatile("ldmxcsr %0" : : "m"(before) : "memory");
}

static inline lanes lanes_add_flushed(lanes a, lanes b)
{
    return lanes_add(a, b);
}

#endif

#if defined(FS_LANES_AVX512)

typedef __m512i pairs;

static inline pairs pairs_load(const fs_pair *p) { return _mm512_loadu_si512(p); }
static inline pairs pairs_set1(fs_pair p) { return _mm512_set1_epi32((int)p); }
static inline void pairs_store(fs_pair *p, pairs a) { _mm512_storeu_si512(p, a); }

static inline pairs pairs_load_n(const fs_pair *p, size_t n)
{
    return _mm512_maskz_loadu_epi32((__mmask16)((1u << n) - 1), p);
}

/* Of rows a and b with elements 2i, 2i + 1: the elements 2i of both as pairs, and the elements 2i + 1. */
static inline pairs pairs_firsts(pairs a, pairs b)
{
    return _mm512_mask_blend_epi16(0x55555555, a, _mm512_srli_epi32(b, 16));
}

static inline pairs pairs_seconds(pairs a, pairs b)
{
    return _mm512_mask_blend_epi16(0x55555555, _mm512_slli_epi32(a, 16), b);
}

/* Both are bf16 values. */
static inline pairs pairs_join(lanes first, lanes second)
{
    return pairs_firsts(_mm512_castps_si512(first), _mm512_castps_si512(second));
}

#if defined(FS_PAIRS_DOT)

static inline lanes lanes_bf16(lanes x)
{
    __m512i b = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x));
    return _mm512_castsi512_ps(_mm512_slli_epi32(b, 16));
}

/* 32 floats, rounded. */
static inline pairs pairs_round(const float *p)
{
    __m512i b = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(p + 16), _mm512_loadu_ps(p));
    return _mm512_rol_epi32(b, 16);
}

static inline lanes lanes_dot(lanes s, pairs a, pairs b)
{
    return _mm512_dpbf16_ps(s, (__m512bh)a, (__m512bh)b);
}

#else

static inline lanes lanes_bf16(lanes x)
{
    __m512i b = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(b, 16), _mm512_set1_epi32(1)), r;

    r = _mm512_add_epi32(b, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), b, _mm512_set1_epi32(0x00400000));
    r = _mm512_and_si512(r, _mm512_set1_epi32((int)0xffff0000));
    r = _mm512_mask_and_epi32(r, _mm512_testn_epi32_mask(b, _mm512_set1_epi32(0x7f800000)), b, _mm512_set1_epi32((int)0x80000000));
    return _mm512_castsi512_ps(r);
}

static inline lanes lanes_dot(lanes s, pairs a, pairs b)
{
    const __m512i high = _mm512_set1_epi32((int)0xffff0000);

    s = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(a, high)), _mm512_castsi512_ps(_mm512_and_si512(b, high)), s);
    return _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(a, 16)), _mm512_castsi512_ps(_mm512_slli_epi32(b, 16)), s);
}

#endif

#elif defined(FS_LANES_AVX2)

typedef struct pairs {
    __m256i lo, hi;
} pairs;

static inline pairs pairs_load(const fs_pair *p)
{
    return (pairs){ _mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 8)) };
}

static inline pairs pairs_set1(fs_pair p)
{
    return (pairs){ _mm256_set1_epi32((int)p), _mm256_set1_epi32((int)p) };
}

static inline void pairs_store(fs_pair *p, pairs a)
{
    _mm256_storeu_si256((__m256i *)p, a.lo);
    _mm256_storeu_si256((__m256i *)(p + 8), a.hi);
}

static inline pairs pairs_load_n(const fs_pair *p, size_t n)
{
    const int32_t *m = lanes_mask + 16 - n;
    return (pairs){ _mm256_maskload_epi32((const int *)p, _mm256_loadu_si256((const __m256i *)m)),
                    _mm256_maskload_epi32((const int *)(p + 8), _mm256_loadu_si256((const __m256i *)(m + 8))) };
}

static inline pairs pairs_firsts(pairs a, pairs b)
{
    return (pairs){ _mm256_blend_epi16(a.lo, _mm256_srli_epi32(b.lo, 16), 0x55),
                    _mm256_blend_epi16(a.hi, _mm256_srli_epi32(b.hi, 16), 0x55) };
}

static inline pairs pairs_seconds(pairs a, pairs b)
{
    return (pairs){ _mm256_blend_epi16(_mm256_slli_epi32(a.lo, 16), b.lo, 0x55),
                    _mm256_blend_epi16(_mm256_slli_epi32(a.hi, 16), b.hi, 0x55) };
}

static inline pairs pairs_join(lanes first, lanes second)
{
    return pairs_firsts((pairs){ _mm256_castps_si256(first.lo), _mm256_castps_si256(first.hi) },
                        (pairs){ _mm256_castps_si256(second.lo), _mm256_castps_si256(second.hi) });
}

static inline __m256 bf16_8(__m256 x)
{
    const __m256i high = _mm256_set1_epi32((int)0xffff0000), exponent = _mm256_set1_epi32(0x7f800000);
    __m256i b = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(b, 16), _mm256_set1_epi32(1)), r, tiny;

    r = _mm256_add_epi32(b, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    r = _mm256_blendv_epi8(r, _mm256_or_si256(b, _mm256_set1_epi32(0x00400000)), _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
    tiny = _mm256_cmpeq_epi32(_mm256_and_si256(b, exponent), _mm256_setzero_si256());
    r = _mm256_blendv_epi8(_mm256_and_si256(r, high), _mm256_and_si256(b, _mm256_set1_epi32((int)0x80000000)), tiny);
    return _mm256_castsi256_ps(r);
}

static inline lanes lanes_bf16(lanes x)
{
    return (lanes){ bf16_8(x.lo), bf16_8(x.hi) };
}

static inline __m256 dot_8(__m256 s, __m256i a, __m256i b)
{
    const __m256i high = _mm256_set1_epi32((int)0xffff0000);

    s = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_and_si256(a, high)), _mm256_castsi256_ps(_mm256_and_si256(b, high)), s);
    return _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(b, 16)), s);
}

static inline lanes lanes_dot(lanes s, pairs a, pairs b)
{
    return (lanes){ dot_8(s.lo, a.lo, b.lo), dot_8(s.hi, a.hi, b.hi) };
}

#elif defined(FS_LANES_NEON)

/* NEON finds tiny results before rounding, so its own flushing is of no use here. */
static inline unsigned pairs_begin(void)
{
    return 0;
}

static inline void pairs_end(unsigned before)
{
    (void)before;
}

typedef struct pairs {
    uint32x4_t a, b, c, d;
} pairs;

#define PAIRS_2(name, op)                                                         \
    static inline pairs name(pairs x, pairs y)                                    \
    {                                                                             \
        return (pairs){ op(x.a, y.a), op(x.b, y.b), op(x.c, y.c), op(x.d, y.d) }; \
    }
static inline uint32x4_t firsts_4(uint32x4_t x, uint32x4_t y) { return vsriq_n_u32(x, y, 16); }
static inline uint32x4_t seconds_4(uint32x4_t x, uint32x4_t y) { return vsliq_n_u32(y, x, 16); }
PAIRS_2(pairs_firsts, firsts_4)
PAIRS_2(pairs_seconds, seconds_4)
#undef PAIRS_2

static inline pairs pairs_load(const fs_pair *p)
{
    return (pairs){ vld1q_u32(p), vld1q_u32(p + 4), vld1q_u32(p + 8), vld1q_u32(p + 12) };
}

static inline pairs pairs_set1(fs_pair p)
{
    uint32x4_t q = vdupq_n_u32(p);
    return (pairs){ q, q, q, q };
}

static inline void pairs_store(fs_pair *p, pairs x)
{
    vst1q_u32(p, x.a);
    vst1q_u32(p + 4, x.b);
    vst1q_u32(p + 8, x.c);
    vst1q_u32(p + 12, x.d);
}

static inline pairs pairs_load_n(const fs_pair *p, size_t n)
{
    fs_pair v[LANES] = { 0 };

    memcpy(v, p, n * sizeof *v);
    return pairs_load(v);
}

static inline pairs pairs_join(lanes first, lanes second)
{
    return pairs_firsts((pairs){ vreinterpretq_u32_f32(first.a), vreinterpretq_u32_f32(first.b), vreinterpretq_u32_f32(first.c),
                                 vreinterpretq_u32_f32(first.d) },
                        (pairs){ vreinterpretq_u32_f32(second.a), vreinterpretq_u32_f32(second.b), vreinterpretq_u32_f32(second.c),
                                 vreinterpretq_u32_f32(second.d) });
}

static inline float32x4_t bf16_4(float32x4_t x)
{
    const uint32x4_t high = vdupq_n_u32(0xffff0000);
    uint32x4_t b = vreinterpretq_u32_f32(x), odd = vandq_u32(vshrq_n_u32(b, 16), vdupq_n_u32(1)), r;

    r = vaddq_u32(b, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    r = vandq_u32(vbslq_u32(vceqq_f32(x, x), r, vorrq_u32(b, vdupq_n_u32(0x00400000))), high);
    r = vbslq_u32(vtstq_u32(b, vdupq_n_u32(0x7f800000)), r, vandq_u32(b, vdupq_n_u32(0x80000000)));
    return vreinterpretq_f32_u32(r);
}

static inline lanes lanes_bf16(lanes x)
{
    return (lanes){ bf16_4(x.a), bf16_4(x.b), bf16_4(x.c), bf16_4(x.d) };
}

/* No result but zero is at or below 2^-126 but rarely. */
static inline float32x4_t fma_flushed_4(float32x4_t s, float32x4_t x, float32x4_t y)
{
    float32x4_t r = vfmaq_f32(s, x, y);
    uint32x4_t small = vcaleq_f32(r, vdupq_n_f32(0x1p-126f)), bits = vshlq_n_u32(vreinterpretq_u32_f32(r), 1);

    if (vmaxvq_u32(vandq_u32(small, bits))) {
        float a[4], b[4], c[4];
        vst1q_f32(a, x);
        vst1q_f32(b, y);
        vst1q_f32(c, s);
        for (int i = 0; i < 4; i++)
            c[i] = fs_fma_flushed(a[i], b[i], c[i]);
        r = vld1q_f32(c);
    }
    return r;
}

static inline float32x4_t dot_4(float32x4_t s, uint32x4_t x, uint32x4_t y)
{
    const uint32x4_t high = vdupq_n_u32(0xffff0000);

    s = fma_flushed_4(s, vreinterpretq_f32_u32(vandq_u32(x, high)), vreinterpretq_f32_u32(vandq_u32(y, high)));
    return fma_flushed_4(s, vreinterpretq_f32_u32(vshlq_n_u32(x, 16)), vreinterpretq_f32_u32(vshlq_n_u32(y, 16)));
}

static inline lanes lanes_dot(lanes s, pairs x, pairs y)
{
    return (lanes){ dot_4(s.a, x.a, y.a), dot_4(s.b, x.b, y.b), dot_4(s.c, x.c, y.c), dot_4(s.d, x.d, y.d) };
}

static inline float32x4_t add_flushed_4(float32x4_t x, float32x4_t y)
{
    float32x4_t r = vaddq_f32(x, y);
    uint32x4_t b = vreinterpretq_u32_f32(r), keep = vtstq_u32(b, vdupq_n_u32(0x7f800000));
    return vreinterpretq_f32_u32(vandq_u32(b, vorrq_u32(keep, vdupq_n_u32(0x80000000))));
}

static inline lanes lanes_add_flushed(lanes x, lanes y)
{
    return (lanes){ add_flushed_4(x.a, y.a), add_flushed_4(x.b, y.b), add_flushed_4(x.c, y.c), add_flushed_4(x.d, y.d) };
}

#endif

#if !defined(FS_PAIRS_DOT)

static inline pairs pairs_round(const float *p)
{
    lanes even, odd;

    lanes_load_pairs(p, &even, &odd);
    return pairs_join(lanes_bf16(even), lanes_bf16(odd));
}

#endif

#endif
