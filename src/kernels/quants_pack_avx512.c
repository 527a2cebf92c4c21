/* Panels of codes at the speed of memory. */
#include "kernels/quants_pack.h"

#include <immintrin.h>

INLINE __m128i at16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* Rows r, r + 4, r + 8, r + 12 in the four lanes. */
INLINE __m512i lanes(const uint8_t *const rows[FS_PANEL], const int r, size_t at)
{
    __m512i v = _mm512_castsi128_si512(at16(rows[r] + at));

    v = _mm512_inserti32x4(v, at16(rows[r + 4] + at), 1);
    v = _mm512_inserti32x4(v, at16(rows[r + 8] + at), 2);
    return _mm512_inserti32x4(v, at16(rows[r + 12] + at), 3);
}

INLINE void words16(const uint8_t *const rows[FS_PANEL], size_t at, uint32_t flip, uint8_t *dst)
{
    const __m512i a = lanes(rows, 0, at), b = lanes(rows, 1, at), c = lanes(rows, 2, at), d = lanes(rows, 3, at);
    const __m512i ab = _mm512_unpacklo_epi32(a, b), cd = _mm512_unpacklo_epi32(c, d);
    const __m512i ab_high = _mm512_unpackhi_epi32(a, b), cd_high = _mm512_unpackhi_epi32(c, d), mask = _mm512_set1_epi32((int)flip);

    _mm512_storeu_si512(dst, _mm512_xor_si512(mask, _mm512_unpacklo_epi64(ab, cd)));
    _mm512_storeu_si512(dst + 64, _mm512_xor_si512(mask, _mm512_unpackhi_epi64(ab, cd)));
    _mm512_storeu_si512(dst + 128, _mm512_xor_si512(mask, _mm512_unpacklo_epi64(ab_high, cd_high)));
    _mm512_storeu_si512(dst + 192, _mm512_xor_si512(mask, _mm512_unpackhi_epi64(ab_high, cd_high)));
}

void fs_codes_blocks_avx512(fs_dtype t, const uint8_t *const rows[FS_PANEL], size_t n_blocks, uint8_t *dst)
{
    pack_blocks_of(t, rows, n_blocks, dst);
}
