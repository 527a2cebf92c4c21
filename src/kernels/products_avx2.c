/* The product on AVX2 with FMA and F16C: a panel is two vectors. */
#include "kernels/products_isa.h"
#include "kernels/transpose.h"

#include <immintrin.h>

typedef __m256 VF;
#define LANES 8
#define UNITS 2

#define vf_zero()       _mm256_setzero_ps()
#define vf_set1(f)      _mm256_set1_ps(f)
#define vf_load(p)      _mm256_loadu_ps(p)
#define vf_store(p, v)  _mm256_storeu_ps(p, v)
#define vf_add(a, b)    _mm256_add_ps(a, b)
#define vf_sub(a, b)    _mm256_sub_ps(a, b)
#define vf_mul(a, b)    _mm256_mul_ps(a, b)
#define vf_fma(a, b, c) _mm256_fmadd_ps(a, b, c)

static inline void from_u8(v16u8 b, VF *v)
{
    v[0] = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32((__m128i)b));
    v[1] = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64((__m128i)b, (__m128i)b)));
}

static inline void from_i8(v16u8 b, VF *v)
{
    v[0] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32((__m128i)b));
    v[1] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64((__m128i)b, (__m128i)b)));
}

static inline v16u8 lookup(v16u8 table, v16u8 index)
{
    return (v16u8)_mm_shuffle_epi8((__m128i)table, (__m128i)index);
}

static inline void from_bf16(const uint8_t *src, VF *v)
{
    for (int u = 0; u < 2; u++) {
        __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)src + u));
        v[u] = _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
    }
}

static inline void from_f16(const uint8_t *src, VF *v)
{
    for (int u = 0; u < 2; u++)
        v[u] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)src + u));
}

/* e4m3's exponent and fraction are those of an f16 that is 2^8 smaller, its denormals included; 0x7f is NaN. */
static inline void from_e4m3(const uint8_t *src, VF *v)
{
    __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)src));
    __m256i low = _mm256_and_si256(wide, _mm256_set1_epi16(0x7f));
    __m256i sign = _mm256_slli_epi16(_mm256_and_si256(wide, _mm256_set1_epi16(0x80)), 8);
    __m256i nan = _mm256_and_si256(_mm256_cmpeq_epi16(low, _mm256_set1_epi16(0x7f)), _mm256_set1_epi16(0x7e00));
    __m256i half = _mm256_or_si256(_mm256_or_si256(sign, nan), _mm256_slli_epi16(low, 7));
    v[0] = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(half)), _mm256_set1_ps(256.0f));
    v[1] = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(half, 1)), _mm256_set1_ps(256.0f));
}

static inline void bits_of_e4m3(const uint8_t *src, VF *v)
{
    for (int u = 0; u < 2; u++) {
        __m256i wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(src + 8 * u)));
        v[u] = _mm256_castsi256_ps(_mm256_and_si256(_mm256_slli_epi32(wide, 20), _mm256_set1_epi32((int)0x87f00000u)));
    }
}

static inline void bits_of_fours(const uint8_t *src, VF v[4][2])
{
    const __m256i mask = _mm256_set1_epi32((int)0x87f00000u);

    for (int u = 0; u < 2; u++) {
        __m256i codes = _mm256_loadu_si256((const __m256i *)(const void *)src + u);
        __m256i odd = _mm256_srai_epi16(codes, 4), even = _mm256_srai_epi16(_mm256_slli_epi16(codes, 8), 4);
        v[0][u] = _mm256_castsi256_ps(_mm256_and_si256(_mm256_slli_epi32(even, 16), mask));
        v[1][u] = _mm256_castsi256_ps(_mm256_and_si256(_mm256_slli_epi32(odd, 16), mask));
        v[2][u] = _mm256_castsi256_ps(_mm256_and_si256(even, mask));
        v[3][u] = _mm256_castsi256_ps(_mm256_and_si256(odd, mask));
    }
}

#define bits_of_fours_within bits_of_fours

#define ROWS            6
#define PANELS          1
#define PANELS_OF(rows) ((rows) == 1 ? 4 : (rows) <= 3 ? 2 : 1)
#include "kernels/products_simd.h"

void fs_gemm_avx2(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m,
                  const float *bias, float *y, size_t ldy, void *scratch)
{
    struct product g = { w, x, ldx, bias, y, ldy, scratch, false };
    gemm(&g, panel_begin, panel_end, m);
}

void fs_gemm_add_avx2(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m, float *y,
                      size_t ldy, void *scratch)
{
    struct product g = { w, x, ldx, NULL, y, ldy, scratch, true };
    gemm(&g, panel_begin, panel_end, m);
}

void fs_gemm_turned_avx2(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, const uint32_t *index, size_t m,
                        float *y, size_t ldy, void *scratch)
{
    struct product g = { w, x, ldx, NULL, y, ldy, scratch, true };
    gemm_turned(&g, index, panel_begin, panel_end, m);
}
