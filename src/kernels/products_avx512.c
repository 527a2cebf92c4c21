/* The product on AVX-512: a panel is one vector. */
#include "kernels/products_isa.h"
#include "kernels/transpose.h"

#include <immintrin.h>

typedef __m512 VF;
#define LANES 16
#define UNITS 1

#define vf_zero()       _mm512_setzero_ps()
#define vf_set1(f)      _mm512_set1_ps(f)
#define vf_load(p)      _mm512_loadu_ps(p)
#define vf_store(p, v)  _mm512_storeu_ps(p, v)
#define vf_add(a, b)    _mm512_add_ps(a, b)
#define vf_sub(a, b)    _mm512_sub_ps(a, b)
#define vf_mul(a, b)    _mm512_mul_ps(a, b)
#define vf_fma(a, b, c) _mm512_fmadd_ps(a, b, c)

static inline void from_u8(v16u8 b, VF *v)
{
    *v = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32((__m128i)b));
}

static inline void from_i8(v16u8 b, VF *v)
{
    *v = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32((__m128i)b));
}

static inline v16u8 lookup(v16u8 table, v16u8 index)
{
    return (v16u8)_mm_shuffle_epi8((__m128i)table, (__m128i)index);
}

static inline void from_bf16(const uint8_t *src, VF *v)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)src));
    *v = _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

static inline void from_f16(const uint8_t *src, VF *v)
{
    *v = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)src));
}

/* e4m3's exponent and fraction are those of an f16 that is 2^8 smaller, its denormals included; 0x7f is NaN. */
static inline void from_e4m3(const uint8_t *src, VF *v)
{
    __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)src));
    __m256i low = _mm256_and_si256(wide, _mm256_set1_epi16(0x7f));
    __m256i sign = _mm256_slli_epi16(_mm256_and_si256(wide, _mm256_set1_epi16(0x80)), 8);
    __m256i nan = _mm256_and_si256(_mm256_cmpeq_epi16(low, _mm256_set1_epi16(0x7f)), _mm256_set1_epi16(0x7e00));
    __m256i half = _mm256_or_si256(_mm256_or_si256(sign, nan), _mm256_slli_epi16(low, 7));
    *v = _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(256.0f));
}

static inline void bits_of_e4m3(const uint8_t *src, VF *v)
{
    __m512i wide = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)src));
    *v = _mm512_castsi512_ps(_mm512_and_si512(_mm512_slli_epi32(wide, 20), _mm512_set1_epi32((int)0x87f00000u)));
}

static inline void codes_of_fours(__m512i even, __m512i odd, VF v[4][1])
{
    const __m512i mask = _mm512_set1_epi32((int)0x87f00000u);

    v[0][0] = _mm512_castsi512_ps(_mm512_and_si512(_mm512_slli_epi32(even, 16), mask));
    v[1][0] = _mm512_castsi512_ps(_mm512_and_si512(_mm512_slli_epi32(odd, 16), mask));
    v[2][0] = _mm512_castsi512_ps(_mm512_and_si512(even, mask));
    v[3][0] = _mm512_castsi512_ps(_mm512_and_si512(odd, mask));
}

static inline void bits_of_fours(const uint8_t *src, VF v[4][1])
{
    __m512i codes = _mm512_loadu_si512(src);

    codes_of_fours(_mm512_srai_epi16(_mm512_slli_epi16(codes, 8), 4), _mm512_srai_epi16(codes, 4), v);
}

/* The byte before src is read too, which saves a shift: shifts and multiplications share a port. */
static inline void bits_of_fours_within(const uint8_t *src, VF v[4][1])
{
    codes_of_fours(_mm512_srai_epi16(_mm512_loadu_si512(src - 1), 4), _mm512_srai_epi16(_mm512_loadu_si512(src), 4), v);
}

#define ROWS           12
#define PANELS         2
#define PANELS_OF(rows) ((rows) <= 2 ? 8 : (rows) <= 6 ? 4 : 2)
#include "kernels/products_simd.h"

void fs_gemm_avx512(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m,
                    const float *bias, float *y, size_t ldy, void *scratch)
{
    struct product g = { w, x, ldx, bias, y, ldy, scratch, false };
    gemm(&g, panel_begin, panel_end, m);
}

void fs_gemm_add_avx512(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m, float *y,
                        size_t ldy, void *scratch)
{
    struct product g = { w, x, ldx, NULL, y, ldy, scratch, true };
    gemm(&g, panel_begin, panel_end, m);
}

void fs_gemm_turned_avx512(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, const uint32_t *index, size_t m,
                        float *y, size_t ldy, void *scratch)
{
    struct product g = { w, x, ldx, NULL, y, ldy, scratch, true };
    gemm_turned(&g, index, panel_begin, panel_end, m);
}
