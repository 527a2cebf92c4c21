/* Quantised products on AVX2: a panel is two vectors. */
#include "kernels/quants_isa.h"
#include "kernels/transpose.h"

#include <immintrin.h>
#include <string.h>

typedef __m256 VF;
typedef __m256i VI;
#define LANES 8
#define UNITS 2

#define vf_set1(f)      _mm256_set1_ps(f)
#define vf_load(p)      _mm256_loadu_ps(p)
#define vf_store(p, v)  _mm256_storeu_ps(p, v)
#define vf_mul(a, b)    _mm256_mul_ps(a, b)
#define vf_div(a, b)    _mm256_div_ps(a, b)
#define vf_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define vf_of(v)        _mm256_cvtepi32_ps(v)
#define vi_of(v)        _mm256_cvtps_epi32(v)
#define vi_zero()       _mm256_setzero_si256()
#define vi_set1(i)      _mm256_set1_epi32(i)
#define vi_load(p)      _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define vi_store(p, v)  _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define vi_add(a, b)    _mm256_add_epi32(a, b)
#define vi_shl(a, n)    _mm256_slli_epi32(a, n)
#define vi_and(a, b)    _mm256_and_si256(a, b)

static inline void from_f16(const uint8_t *src, VF *v)
{
    for (int u = 0; u < 2; u++)
        v[u] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)src + u));
}

static inline void from_i8(v16u8 b, VI *v)
{
    v[0] = _mm256_cvtepi8_epi32((__m128i)b);
    v[1] = _mm256_cvtepi8_epi32(_mm_unpackhi_epi64((__m128i)b, (__m128i)b));
}

static inline v16u8 lookup(v16u8 table, v16u8 index)
{
    return (v16u8)_mm_shuffle_epi8((__m128i)table, (__m128i)index);
}

/* vpmaddubsw of |w| and a with w's sign: two products of 128 * 127 still fit int16, and a, unlike w, is never -128. */
INLINE void dots(const int limit, const int groups, const uint8_t *w, const int8_t *a, VI acc[2])
{
    const int holds = limit == 16 || limit == -16 ? 8 : limit == 32 || limit == -32 ? 4 : 1; /* groups that int16 does */
    const int fit = holds < groups ? holds : groups;
    const __m256i ones = _mm256_set1_epi16(1);

    UNROLL for (int g0 = 0; g0 < groups; g0 += fit)
    {
        __m256i sum[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() };
        UNROLL for (int i = 0; i < fit; i++)
        {
            const int g = g0 + i;
            int32_t four;
            memcpy(&four, a + 4 * g, sizeof four);
            UNROLL for (int u = 0; u < 2; u++)
            {
                __m256i v = _mm256_load_si256((const __m256i *)(const void *)(w + 64 * g) + u), q = _mm256_set1_epi32(four);
                __m256i pairs = limit < 0 ? _mm256_maddubs_epi16(v, q) : _mm256_maddubs_epi16(_mm256_abs_epi8(v), _mm256_sign_epi8(q, v));
                sum[u] = _mm256_add_epi16(sum[u], pairs);
            }
        }
        UNROLL for (int u = 0; u < 2; u++)
            acc[u] = _mm256_add_epi32(acc[u], _mm256_madd_epi16(sum[u], ones));
    }
}

#define PAIRS 0
#include "kernels/quants_simd.h"

void fs_quantize_avx2(const fs_quants *q, size_t row, size_t n_rows, size_t block_begin, size_t block_end, const float *x, size_t ldx)
{
    quantize(q, row, n_rows, block_begin, block_end, x, ldx);
}

void fs_gemm_codes_avx2(const fs_mat *w, size_t panel_begin, size_t panel_end, const fs_quants *x, size_t row, size_t m, const float *bias,
                        float *y, size_t ldy, void *scratch)
{
    (void)scratch;
    gemm_codes(w, panel_begin, panel_end, x, row, m, bias, y, ldy);
}
