/* What the types differ in, of panels of codes on AVX-512 with VNNI: where a unit (quants_isa.h) has its codes and factors,
 * and how they become unsigned bytes and f32. Every function is for a constant type and vanishes into its kernels. */
#ifndef FS_KERNELS_QUANTS_VNNI_CODES_H
#define FS_KERNELS_QUANTS_VNNI_CODES_H

#include "kernels/quants_isa.h"
#include "kernels/transpose.h"
#include "tensor/blocks.h"

#include <immintrin.h>
#include <string.h>

typedef struct shape {
    int sub;     /* inputs a sub-block, 32 or 16 */
    bool super;  /* blocks of 256 with sub-scales */
    bool biased; /* codes + 128; + 32 if sub is 16 */
    bool has_min;
} shape;

INLINE shape shape_of(const fs_dtype t)
{
    switch (t) {
    case FS_DTYPE_Q4_0:
    case FS_DTYPE_Q5_0:
    case FS_DTYPE_MXFP4:
    case FS_DTYPE_Q8_0:
    case FS_DTYPE_IQ4_NL:
        return (shape){ 32, false, true, false };
    case FS_DTYPE_Q4_1:
    case FS_DTYPE_Q5_1:
        return (shape){ 32, false, false, true };
    case FS_DTYPE_Q2_K:
        return (shape){ 16, true, false, true };
    case FS_DTYPE_Q3_K:
    case FS_DTYPE_Q6_K:
        return (shape){ 16, true, true, false };
    case FS_DTYPE_Q4_K:
    case FS_DTYPE_Q5_K:
        return (shape){ 32, true, false, true };
    default: /* IQ4_XS */
        return (shape){ 32, true, true, false };
    }
}

/* Bytes that 16 rows have for 256 inputs. */
INLINE size_t tile_bytes_of(const fs_dtype t)
{
    switch (t) {
    case FS_DTYPE_Q4_0:
    case FS_DTYPE_IQ4_NL:
        return 16 * 8 * 18;
    case FS_DTYPE_Q4_1:
        return 16 * 8 * 20;
    case FS_DTYPE_Q5_0:
        return 16 * 8 * 22;
    case FS_DTYPE_Q5_1:
        return 16 * 8 * 24;
    case FS_DTYPE_Q8_0:
        return 16 * 8 * 34;
    case FS_DTYPE_MXFP4:
        return 16 * 8 * 17;
    case FS_DTYPE_Q2_K:
        return 16 * 84;
    case FS_DTYPE_Q3_K:
        return 16 * 110;
    case FS_DTYPE_Q4_K:
        return 16 * 144;
    case FS_DTYPE_Q5_K:
        return 16 * 176;
    case FS_DTYPE_Q6_K:
        return 16 * 210;
    default: /* IQ4_XS */
        return 16 * 136;
    }
}

INLINE __m512i load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}

INLINE __m512i word(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
}

/* Bits [shift, shift + width) of each byte. */
INLINE __m512i bits(__m512i v, const int shift, const int width)
{
    if (shift)
        v = _mm512_srli_epi16(v, (unsigned)shift);
    return shift + width == 8 && shift == 0 ? v : _mm512_and_si512(v, _mm512_set1_epi8((char)((1 << width) - 1)));
}

INLINE __m512i plus(__m512i v, const int i)
{
    return _mm512_add_epi8(v, _mm512_set1_epi8((char)i));
}

/* low, and bit from of each byte of high as its bit to. */
INLINE __m512i with_bit(__m512i low, __m512i high, const int from, const int to)
{
    if (from > to)
        high = _mm512_srli_epi16(high, (unsigned)(from - to));
    else if (from < to)
        high = _mm512_slli_epi16(high, (unsigned)(to - from));
    return _mm512_ternarylogic_epi32(low, high, _mm512_set1_epi8((char)(1 << to)), 0xf8); /* low | (high & bit) */
}

INLINE __m512i table16(const int8_t *values)
{
    v16u8 v;

    memcpy(&v, values, sizeof v);
    v ^= 0x80;
    return _mm512_broadcast_i32x4((__m128i)v);
}

/* Bytes before the codes that 16 rows have in a unit for each block. */
INLINE size_t head_bytes(const fs_dtype t)
{
    return t == FS_DTYPE_MXFP4 ? 16 : t == FS_DTYPE_Q4_1 ? 64 : t == FS_DTYPE_Q5_0 ? 96 : t == FS_DTYPE_Q5_1 || t == FS_DTYPE_IQ4_XS ? 128 : 32;
}

/* The unsigned codes of a K-quant's sub-block j (32 inputs): the group of four that begins at, 64 * group. */
INLINE __m512i k_group(const fs_dtype t, const uint8_t *tile, const int j, const size_t at)
{
    __m512i w, two;

    switch (t) {
    case FS_DTYPE_Q4_K:
        return bits(load(tile + 256 + j / 2 * 512 + at), j % 2 * 4, 4);
    case FS_DTYPE_Q5_K:
        return with_bit(bits(load(tile + 768 + j / 2 * 512 + at), j % 2 * 4, 4), load(tile + 256 + at), j, 4);
    case FS_DTYPE_Q6_K:
        two = load(tile + 288 + j / 4 * 1536 + 1024 + at);
        w = bits(load(tile + 288 + j / 4 * 1536 + j % 2 * 512 + at), j % 4 / 2 * 4, 4);
        if (j % 4 < 2)
            two = _mm512_slli_epi16(two, (unsigned)(4 - 2 * (j % 4)));
        else if (j % 4 == 3)
            two = _mm512_srli_epi16(two, 2);
        return _mm512_ternarylogic_epi32(w, two, _mm512_set1_epi8(0x30), 0xf8);
    case FS_DTYPE_Q2_K:
        return bits(load(tile + 320 + j / 4 * 512 + at), 2 * (j % 4), 2);
    default: /* Q3_K */
        return plus(with_bit(bits(load(tile + 736 + j / 4 * 512 + at), 2 * (j % 4), 2), load(tile + 224 + at), j, 2), 32 - 4);
    }
}

/* The unsigned codes of nibbles v; bit of each byte of high is the fifth, of types that have one. */
INLINE __m512i from_nibbles(const fs_dtype t, __m512i v, __m512i high, const int bit)
{
    if (t == FS_DTYPE_IQ4_NL || t == FS_DTYPE_IQ4_XS)
        return _mm512_shuffle_epi8(table16(fs_iq4_values), v);
    if (t == FS_DTYPE_MXFP4)
        return _mm512_shuffle_epi8(table16(fs_e2m1_doubled), v);
    if (t == FS_DTYPE_Q5_0 || t == FS_DTYPE_Q5_1)
        v = with_bit(v, high, bit, 4);
    return t == FS_DTYPE_Q4_0 ? plus(v, 128 - 8) : t == FS_DTYPE_Q5_0 ? plus(v, 128 - 16) : v;
}

/* Where the nibbles of block j of a unit of n blocks begin: inputs 4g + i low, 16 + 4g + i high; and the fifth bits. */
INLINE const uint8_t *nibbles_of(const fs_dtype t, const uint8_t *unit, const size_t n, const int j)
{
    return unit + n * head_bytes(t) + j * 256;
}

INLINE __m512i fifths_of(const fs_dtype t, const uint8_t *unit, const size_t n, const int j)
{
    return t == FS_DTYPE_Q5_0 || t == FS_DTYPE_Q5_1 ? load(unit + n * head_bytes(t) - (n - (size_t)j) * 64) : _mm512_setzero_si512();
}

/* The unsigned codes of sub-block j (32 inputs) of a unit of n blocks, four inputs a register. */
INLINE void codes_of(const fs_dtype t, const uint8_t *unit, const size_t n, const int j, __m512i w[8])
{
    const uint8_t *p = nibbles_of(t, unit, n, j);
    __m512i high = fifths_of(t, unit, n, j);

    UNROLL for (int g = 0; g < 8; g++)
    {
        if (t == FS_DTYPE_Q8_0)
            w[g] = load(unit + n * 32 + j * 512 + g * 64);
        else if (fs_codes_is_k(t))
            w[g] = k_group(t, unit, j, (size_t)g * 64);
        else
            w[g] = from_nibbles(t, bits(load(p + g % 4 * 64), g / 4 * 4, 4), high, g);
    }
}

/* The same of the top group of x alone. */
INLINE __m512i top_codes(const fs_dtype t, const uint8_t *unit, const size_t n, const int j, const fs_quants_block *x)
{
    const size_t at = (size_t)x->top;
    __m512i v, high;

    if (t == FS_DTYPE_Q8_0)
        return load(unit + n * 32 + j * 512 + at);
    if (fs_codes_is_k(t))
        return k_group(t, unit, j, at);
    v = _mm512_srlv_epi32(load(nibbles_of(t, unit, n, j) + at % 256), word(&x->nibble));
    high = _mm512_srlv_epi32(fifths_of(t, unit, n, j), _mm512_set1_epi32(x->top / 64));
    return from_nibbles(t, _mm512_and_si512(v, _mm512_set1_epi8(15)), high, 0);
}

INLINE __m512 halves(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

/* d and m of block j of a unit of n blocks of 32. */
INLINE void factors_of(const fs_dtype t, const uint8_t *unit, const size_t n, const int j, __m512 *ret_d, __m512 *ret_m)
{
    if (t == FS_DTYPE_MXFP4) { /* 2^(e - 128) */
        __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(unit + j * 16)));
        __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
        __m512i denormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
        *ret_d = _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2)), denormal));
        (void)n;
    } else if (shape_of(t).has_min) {
        *ret_d = halves(unit + j * 64);
        *ret_m = halves(unit + j * 64 + 32);
    } else {
        *ret_d = halves(unit + j * 32);
    }
}

/* A superblock's sub-scales and sub-minima, sixteen bytes each, and its factors. */
struct supers {
    struct {
        uint8_t scale[16][16], min[16][16];
    } bytes __attribute__((aligned(64)));
    __m512 d, d_0, m, m_0;
};

/* f times sixteen bytes, less what they are above zero: f_0 = times_zero(f, offset). A byte b in a float's mantissa is
 * 2^15 + b. */
INLINE __m512 times(__m512 f, __m512 f_0, const uint8_t *bytes)
{
    const __m512i to = _mm512_setr_epi32(0, 1 << 8, 2 << 8, 3 << 8, 4 << 8, 5 << 8, 6 << 8, 7 << 8, 8 << 8, 9 << 8, 10 << 8, 11 << 8, 12 << 8,
                                         13 << 8, 14 << 8, 15 << 8);
    __m512i v = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)bytes));

    v = _mm512_mask_shuffle_epi8(_mm512_set1_epi32(0x47000000), 0x2222222222222222, v, to);
    return _mm512_fmadd_ps(_mm512_castsi512_ps(v), f, f_0);
}

/* Exact: f has eleven bits, 2^15 + offset nine. */
INLINE __m512 times_zero(__m512 f, const int offset)
{
    return _mm512_mul_ps(f, _mm512_set1_ps(-32768.0f - (float)offset));
}

INLINE void supers_of(const fs_dtype t, const uint8_t *p, struct supers *ret)
{
    const __m512 d = halves(p), m = shape_of(t).has_min ? _mm512_mul_ps(halves(p + 32), _mm512_set1_ps(-1.0f)) : _mm512_setzero_ps();
    const __m512i six = _mm512_set1_epi8(63), four = _mm512_set1_epi8(15), top = _mm512_set1_epi8(0x30);
    __m512i scale[4], min[4];
    int n = 4, offset = 0;

    p += shape_of(t).has_min ? 64 : 32;
    if (t == FS_DTYPE_Q4_K || t == FS_DTYPE_Q5_K) {
        __m512i s0 = load(p), s1 = load(p + 64), s2 = load(p + 128);
        scale[0] = _mm512_and_si512(s0, six);
        min[0] = _mm512_and_si512(s1, six);
        scale[1] = _mm512_ternarylogic_epi32(_mm512_and_si512(s2, four), _mm512_srli_epi16(s0, 2), top, 0xf8);
        min[1] = _mm512_ternarylogic_epi32(bits(s2, 4, 4), _mm512_srli_epi16(s1, 2), top, 0xf8);
        n = 2;
    } else if (t == FS_DTYPE_Q2_K) {
        UNROLL for (int i = 0; i < 4; i++)
        {
            __m512i s = load(p + i * 64);
            scale[i] = _mm512_and_si512(s, four);
            min[i] = bits(s, 4, 4);
        }
    } else if (t == FS_DTYPE_Q3_K) {
        __m512i s0 = load(p), s1 = load(p + 64), s2 = load(p + 128);
        scale[0] = _mm512_ternarylogic_epi32(_mm512_and_si512(s0, four), _mm512_slli_epi16(s2, 4), top, 0xf8);
        scale[1] = _mm512_ternarylogic_epi32(_mm512_and_si512(s1, four), _mm512_slli_epi16(s2, 2), top, 0xf8);
        scale[2] = _mm512_ternarylogic_epi32(bits(s0, 4, 4), s2, top, 0xf8);
        scale[3] = _mm512_ternarylogic_epi32(bits(s1, 4, 4), _mm512_srli_epi16(s2, 2), top, 0xf8);
        offset = 32;
    } else if (t == FS_DTYPE_Q6_K) {
        UNROLL for (int i = 0; i < 4; i++)
            scale[i] = _mm512_xor_si512(load(p + i * 64), _mm512_set1_epi8((char)0x80));
        offset = 128;
    } else { /* IQ4_XS */
        __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(p + 64)));
        UNROLL for (int j = 0; j < 8; j++)
        {
            __m512i low = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p + j / 2 * 16)));
            __m512i up = _mm512_and_si512(_mm512_srli_epi32(high, 2 * (unsigned)j), _mm512_set1_epi32(3));
            low = j % 2 ? _mm512_srli_epi32(low, 4) : _mm512_and_si512(low, _mm512_set1_epi32(15));
            _mm_storeu_si128((__m128i *)(void *)ret->bytes.scale[j], _mm512_cvtepi32_epi8(_mm512_or_si512(low, _mm512_slli_epi32(up, 4))));
        }
        n = 0;
        offset = 32;
    }
    UNROLL for (int i = 0; i < n; i++)
    {
        _mm512_storeu_si512(ret->bytes.scale[4 * i], scale[i]);
        if (shape_of(t).has_min)
            _mm512_storeu_si512(ret->bytes.min[4 * i], min[i]);
    }
    __asm__("" : "+m"(ret->bytes)); /* to be broadcast from there, not taken out of registers */
    ret->d = d;
    ret->d_0 = times_zero(d, offset);
    ret->m = m;
    ret->m_0 = times_zero(m, 0);
}

/* fl(d_w * scale) and fl(m_w * min) of the sub-blocks of block j. */
INLINE void supers_at(const fs_dtype t, const struct supers *s, const int j, __m512 d[2], __m512 m[2])
{
    const int n_subs = 32 / shape_of(t).sub;

    UNROLL for (int h = 0; h < n_subs; h++)
    {
        d[h] = times(s->d, s->d_0, s->bytes.scale[j * n_subs + h]);
        m[h] = shape_of(t).has_min ? times(s->m, s->m_0, s->bytes.min[j * n_subs + h]) : _mm512_setzero_ps();
    }
}

#endif
