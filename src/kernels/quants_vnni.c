/* Quantised products on AVX-512 with VNNI: 64 bytes of a panel, 16 rows times four inputs, meet four activations a row of
 * x in one vpdpbusd. Codes are unsigned, those that are signed + 128 (+ 32 in sub-blocks of 16).
 *
 * A kernel takes one panel and a group of rows of x, and reads the panel as one ascending stream, which the hardware
 * fetches ahead: bytes touched out of their order cost more than any instruction here. So the weights of a row's top
 * group, another one in each row, which meet its high codes too, are loaded behind the others. For more rows a tile of
 * 1024 inputs is unpacked once and swept by group after group. */
#include "kernels/quants_isa.h"
#include "kernels/transpose.h"
#include "tensor/blocks.h"

#include <assert.h>
#include <immintrin.h>
#include <stddef.h>
#include <string.h>

/* ---- activations ---- */
/* By the top group: top, shift_of and nibble of fs_quants_block. */
static const int32_t places[8][4] = {
    { 0, FS_QUANTS_SHIFT, 32, 0 },   { 64, FS_QUANTS_SHIFT, 32, 0 },  { 128, FS_QUANTS_SHIFT, 32, 0 }, { 192, FS_QUANTS_SHIFT, 32, 0 },
    { 256, 32, FS_QUANTS_SHIFT, 4 }, { 320, 32, FS_QUANTS_SHIFT, 4 }, { 384, 32, FS_QUANTS_SHIFT, 4 }, { 448, 32, FS_QUANTS_SHIFT, 4 },
};
_Static_assert(offsetof(fs_quants_block, nibble) == offsetof(fs_quants_block, top) + 12, "places");

/* Even and odd lanes of a and of b by twos: lanes 4L, 4L + 1 of a's L, the next two of b's. */
INLINE __m512i evens(__m512i a, __m512i b)
{
    return _mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0x88));
}

INLINE __m512i odds(__m512i a, __m512i b)
{
    return _mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0xdd));
}

INLINE __m512i max_pairs(__m512i a, __m512i b)
{
    return _mm512_max_epu32(evens(a, b), odds(a, b));
}

INLINE __m512i add_pairs(__m512i a, __m512i b)
{
    return _mm512_add_epi32(evens(a, b), odds(a, b));
}

/* The largest and the second of lanes 0 .. 7 in each of them, and of 8 .. 15. */
INLINE void max_eights(__m512i v, __m512i *ret_first, __m512i *ret_second)
{
    __m512i w = _mm512_shuffle_i64x2(v, v, 0xb1), first = _mm512_max_epu32(v, w), second = _mm512_min_epu32(v, w);

    v = _mm512_shuffle_epi32(first, _MM_PERM_BADC);
    w = _mm512_max_epu32(second, _mm512_shuffle_epi32(second, _MM_PERM_BADC));
    second = _mm512_max_epu32(w, _mm512_min_epu32(first, v));
    first = _mm512_max_epu32(first, v);
    v = _mm512_shuffle_epi32(first, _MM_PERM_CDAB);
    w = _mm512_max_epu32(second, _mm512_shuffle_epi32(second, _MM_PERM_CDAB));
    *ret_second = _mm512_max_epu32(w, _mm512_min_epu32(first, v));
    *ret_first = _mm512_max_epu32(first, v);
}

/* Of two blocks d and the place of the top group. */
INLINE void scale_two(const float *const x[2], fs_quants_block *const ret[2])
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    const __m512i by_block = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i chosen = _mm512_setr_epi32(0, 8, 16, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    __m512i v[4], top, rest;
    __m128 d, a_b;
    uint32_t lanes;

    UNROLL for (int i = 0; i < 4; i++)
        v[i] = _mm512_and_si512(_mm512_loadu_si512(x[i / 2] + i % 2 * 16), magnitude);
    v[0] = _mm512_permutexvar_epi32(by_block, max_pairs(max_pairs(v[0], v[1]), max_pairs(v[2], v[3]))); /* by group */
    max_eights(v[0], &top, &rest);
    lanes = _mm512_cmpeq_epi32_mask(v[0], top);
    a_b = _mm_castsi128_ps(_mm512_castsi512_si128(_mm512_permutex2var_epi32(top, chosen, rest)));
    a_b = _mm_div_ps(a_b, _mm_setr_ps(16319.0f, 16319.0f, 127.0f, 127.0f));
    d = _mm_max_ps(_mm_movehl_ps(a_b, a_b), a_b); /* b > a ? b : a */
    d = _mm_maskz_mov_ps(_mm_cmp_ps_mask(d, _mm_set1_ps(0x1p-126f), _CMP_NLT_UQ), d);
    ret[0]->d = _mm_cvtss_f32(d);
    ret[1]->d = _mm_cvtss_f32(_mm_movehdup_ps(d));
    memcpy(&ret[0]->top, places[__builtin_ctz(lanes)], sizeof places[0]);
    memcpy(&ret[1]->top, places[__builtin_ctz(lanes >> 8)], sizeof places[0]);
}

/* Then the rest of them. */
INLINE void quantize_two(const float *const x[2], fs_quants_block *const ret[2])
{
    __m512i v[4], halves;
    __m128i sums, both, zero = _mm_setzero_si128();
    __m128 d_sums;

    UNROLL for (int i = 0; i < 4; i++)
    {
        __m512 d = _mm512_set1_ps(ret[i / 2]->d);
        __mmask16 unusable = _mm512_fpclass_ps_mask(d, 0x01 | 0x02 | 0x08 | 0x80); /* NaN, 0, infinity */
        v[i] = _mm512_maskz_cvtps_epi32((__mmask16)~unusable, _mm512_div_ps(_mm512_loadu_ps(x[i / 2] + i % 2 * 16), d));
        _mm_storeu_si128((__m128i *)(void *)(ret[i / 2]->low + i % 2 * 16), _mm512_cvtepi32_epi8(v[i]));
    }
    halves = add_pairs(add_pairs(v[0], v[1]), add_pairs(v[2], v[3]));
    sums = _mm_add_epi32(_mm_add_epi32(_mm512_castsi512_si128(halves), _mm512_extracti32x4_epi32(halves, 1)),
                         _mm_add_epi32(_mm512_extracti32x4_epi32(halves, 2), _mm512_extracti32x4_epi32(halves, 3)));
    both = _mm_hadd_epi32(sums, sums);
    d_sums = _mm_mul_ps(_mm_setr_ps(ret[0]->d, ret[1]->d, 0.0f, 0.0f), _mm_cvtepi32_ps(both));
    both = _mm_sub_epi32(zero, both);
    sums = _mm_sub_epi32(zero, _mm_slli_epi32(sums, 5));
    UNROLL for (int i = 0; i < 2; i++)
    {
        const int32_t top = ret[i]->top / 16; /* input */
        __m128i pick = _mm_add_epi32(_mm_set1_epi32(top), _mm_setr_epi32(0, 1, 2, 3));
        int32_t low, high;
        pick = _mm512_castsi512_si128(_mm512_permutex2var_epi32(v[2 * i], _mm512_castsi128_si512(pick), v[2 * i + 1]));
        high = _mm_cvtsi128_si32(_mm_cvtepi32_epi8(_mm_srai_epi32(_mm_add_epi32(pick, _mm_set1_epi32(1 << (FS_QUANTS_SHIFT - 1))), FS_QUANTS_SHIFT)));
        low = _mm_cvtsi128_si32(_mm_cvtepi32_epi8(_mm_srai_epi32(_mm_slli_epi32(pick, 32 - FS_QUANTS_SHIFT), 32 - FS_QUANTS_SHIFT)));
        memcpy(ret[i]->high, &high, sizeof high);
        memcpy(ret[i]->low + top, &low, sizeof low);
        ret[i]->d_sum = _mm_cvtss_f32(i ? _mm_movehdup_ps(d_sums) : d_sums);
        ret[i]->minus_sum = i ? _mm_extract_epi32(both, 1) : _mm_cvtsi128_si32(both);
        _mm_storel_epi64((__m128i *)(void *)ret[i]->minus_sums_32, i ? _mm_unpackhi_epi64(sums, sums) : sums);
    }
}

typedef void two_fn(const float *const x[2], fs_quants_block *const ret[2]);

/* f of blocks [begin, end) by twos; the second of the last may be unused. */
INLINE void by_twos(two_fn *const f, const float *x, fs_quants_block *q, size_t begin, size_t end, fs_quants_block *unused)
{
    for (size_t b = begin; b < end; b += 2) {
        const bool one = b + 1 == end;
        const float *const from[2] = { x + b * FS_QUANTS_BLOCK, x + (b + !one) * FS_QUANTS_BLOCK };
        fs_quants_block *const ret[2] = { q + b, one ? unused : q + b + 1 };
        f(from, ret);
    }
}

/* In two passes, since each block is a long chain of its own and the CPU looks only so far ahead. */
void fs_quantize_vnni(const fs_quants *q, size_t row, size_t n_rows, size_t block_begin, size_t block_end, const float *x, size_t ldx)
{
    for (size_t t = 0; t < n_rows; t++, x += ldx) {
        fs_quants_block unused;
        by_twos(scale_two, x, fs_quants_row(q, row + t), block_begin, block_end, &unused);
        by_twos(quantize_two, x, fs_quants_row(q, row + t), block_begin, block_end, &unused);
    }
}

/* ---- what the types differ in ---- */
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

INLINE bool is_k(const fs_dtype t)
{
    return t == FS_DTYPE_Q2_K || t == FS_DTYPE_Q3_K || t == FS_DTYPE_Q4_K || t == FS_DTYPE_Q5_K || t == FS_DTYPE_Q6_K;
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
        else if (is_k(t))
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
    if (is_k(t))
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

/* ---- kernels ---- */
#ifdef __clang__
#define LOOP _Pragma("nounroll")
#else
#define LOOP _Pragma("GCC unroll 1")
#endif
#define ROWS_MAX 8
#define EACH_SIZE(F, t) F(t, 1) F(t, 2) F(t, 3) F(t, 4) F(t, 5) F(t, 6) F(t, 7) F(t, 8)
#define EACH_FEW(F, t)  F(t, 1) F(t, 2) F(t, 4)
/* Types with kernels for every size, and the others. */
#define EACH_OFTEN(F) F(Q4_0) F(Q4_1) F(Q5_0) F(Q8_0) F(Q4_K) F(Q6_K)
#define EACH_RARE(F)  F(Q5_1) F(Q2_K) F(Q3_K) F(Q5_K) F(IQ4_NL) F(IQ4_XS) F(MXFP4)

/* Up to so many blocks of a panel; d and m by sub-block. */
#define TILE_BLOCKS 32
struct tile {
    uint8_t codes[TILE_BLOCKS][512];
    float d[2 * TILE_BLOCKS][FS_PANEL], m[2 * TILE_BLOCKS][FS_PANEL];
} __attribute__((aligned(64)));

/* What one call of a kernel multiplies: the panel from some tile on and a group of rows. */
struct piece {
    const uint8_t *panel;
    const struct tile *tile; /* instead of panel, and of its one tile */
    size_t n_blocks;         /* of 32, that there are from there on */
    const fs_quants_block *x;
    size_t x_stride;         /* bytes from row to row */
    float *y;
    size_t ldy;
    uint32_t lanes;          /* outputs there are */
    const float *bias;       /* NULL before the last piece of k */
    bool first;              /* of k */
};

INLINE const fs_quants_block *row_at(const fs_quants_block *x, size_t stride, const int i)
{
    return (const fs_quants_block *)(const void *)((const uint8_t *)x + (size_t)i * stride);
}

/* The high codes' part of sums, v their weights: of the block, or of each half. It comes last, so that a panel is read
 * in its order first. */
INLINE void add_high(const shape s, __m512i v, const fs_quants_block *a, __m512i sum[2])
{
    __m512i high = s.biased && s.sub == 32 ? word(&a->minus_sum) : _mm512_setzero_si512();

    high = _mm512_dpbusd_epi32(high, v, word(a->high));
    if (s.sub == 32)
        sum[0] = _mm512_add_epi32(sum[0], _mm512_slli_epi32(high, FS_QUANTS_SHIFT));
    else
        UNROLL for (int h = 0; h < 2; h++)
            sum[h] = _mm512_add_epi32(sum[h], _mm512_sllv_epi32(high, word(&a->shift_of[h])));
}

/* What sums of half h begin with. */
INLINE __m512i first_sum(const shape s, const fs_quants_block *a, const int h)
{
    return s.biased && s.sub == 16 ? word(&a->minus_sums_32[h]) : _mm512_setzero_si512();
}

/* y and the product of sub-block h. */
INLINE __m512 add_sum(const shape s, __m512i sum, const fs_quants_block *a, const int h, __m512 d, __m512 m, __m512 y)
{
    y = _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(a->d)), _mm512_cvtepi32_ps(sum), y);
    if (s.has_min)
        y = _mm512_fmadd_ps(m, _mm512_set1_ps(s.sub == 32 ? a->d_sum : a->d * (float)(-a->minus_sums_32[h] / 32)), y);
    return y;
}

/* Block j of a unit of n blocks, or of a superblock: y and its products, codes w (of Q8_0 those in memory, as late as they are wanted,
 * since registers are few), with rows rows of x. d, m: of its sub-blocks. Few rows have two sums each, since one would wait for itself. */
INLINE void block(const shape s, const fs_dtype t, const int rows, const __m512i w[8], const uint8_t *unit, const size_t n, const int j,
                  const fs_quants_block *x, const size_t stride, const __m512 *d, const __m512 *m, __m512 y[ROWS_MAX])
{
    const bool halves = s.sub == 16, two = halves || rows <= 4;
    __m512i sum[ROWS_MAX][2];

    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int h = 0; h < 2; h++)
            sum[i][h] = first_sum(s, row_at(x, stride, i), h);
    UNROLL for (int k = 0; k < 8; k++)
    {
        const int g = halves ? k % 2 * 4 + k / 2 : k, c = halves ? g / 4 : two ? g % 2 : 0;
        const __m512i v = t == FS_DTYPE_Q8_0 ? load(unit + n * 32 + j * 512 + g * 64) : w[g];
        UNROLL for (int i = 0; i < rows; i++)
            sum[i][c] = _mm512_dpbusd_epi32(sum[i][c], v, word(row_at(x, stride, i)->low + g * 4));
    }
    UNROLL for (int i = 0; i < rows; i++)
    {
        const fs_quants_block *a = row_at(x, stride, i);
        add_high(s, top_codes(t, unit, n, j, a), a, sum[i]);
        if (!halves && two)
            sum[i][0] = _mm512_add_epi32(sum[i][0], sum[i][1]);
        y[i] = add_sum(s, sum[i][0], a, 0, d[0], m[0], y[i]);
        if (halves)
            y[i] = add_sum(s, sum[i][1], a, 1, d[1], m[1], y[i]);
    }
}

/* The same of Q4_K's sub-blocks j and j + 1, whose codes are the low and the high nibbles of the same bytes; sixteen times
 * the latter are shifted as a sum. */
INLINE void block_pair(const int rows, const uint8_t *unit, const int j, const fs_quants_block *x, const size_t stride, const __m512 *d,
                       const __m512 *m, __m512 y[ROWS_MAX])
{
    const shape s = shape_of(FS_DTYPE_Q4_K);
    const __m512i low = _mm512_set1_epi8(15), high = _mm512_set1_epi8((char)0xf0);
    const uint8_t *bytes = unit + 256 + j / 2 * 512;
    __m512i sum0[ROWS_MAX][2], sum1[ROWS_MAX][2];

    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int c = 0; c < 2; c++)
            sum0[i][c] = sum1[i][c] = _mm512_setzero_si512();
    UNROLL for (int g = 0; g < 8; g++)
    {
        __m512i v = load(bytes + g * 64), v0, v1;
        __asm__("" : "+v"(v)); /* not to be loaded twice */
        v0 = _mm512_and_si512(v, low);
        v1 = _mm512_and_si512(v, high);
        UNROLL for (int i = 0; i < rows; i++)
        {
            const fs_quants_block *a = row_at(x, stride, i);
            const int c = rows <= 2 ? g % 2 : 0;
            sum0[i][c] = _mm512_dpbusd_epi32(sum0[i][c], v0, word(a[0].low + g * 4));
            sum1[i][c] = _mm512_dpbusd_epi32(sum1[i][c], v1, word(a[1].low + g * 4));
        }
    }
    UNROLL for (int i = 0; i < rows; i++)
    {
        const fs_quants_block *a = row_at(x, stride, i);
        add_high(s, _mm512_and_si512(load(bytes + a[0].top), low), a, sum0[i]);
        add_high(s, _mm512_and_si512(load(bytes + a[1].top), high), a + 1, sum1[i]);
        if (rows <= 2) {
            sum0[i][0] = _mm512_add_epi32(sum0[i][0], sum0[i][1]);
            sum1[i][0] = _mm512_add_epi32(sum1[i][0], sum1[i][1]);
        }
        y[i] = add_sum(s, sum0[i][0], a, 0, d[0], m[0], y[i]);
        y[i] = add_sum(s, _mm512_srai_epi32(sum1[i][0], 4), a + 1, 0, d[1], m[1], y[i]);
    }
}

/* The codes of Q6_K's sub-blocks j to j + 3 of group g, which share the bytes low (of groups g and g + 8) and two. */
INLINE void codes_four(__m512i low_0, __m512i low_1, __m512i two, __m512i w[4])
{
    const __m512i low = _mm512_set1_epi8(15), even = _mm512_set1_epi8(0x33), odd = _mm512_set1_epi8((char)0xcc);
    __m512i two02 = _mm512_and_si512(two, even), two13 = _mm512_and_si512(two, odd);

    /* low ? first : second */
    w[0] = _mm512_ternarylogic_epi32(low, low_0, _mm512_slli_epi16(two02, 4), 0xca);
    w[1] = _mm512_ternarylogic_epi32(low, low_1, _mm512_slli_epi16(two13, 2), 0xca);
    w[2] = _mm512_ternarylogic_epi32(low, _mm512_srli_epi16(low_0, 4), two02, 0xca);
    w[3] = _mm512_ternarylogic_epi32(low, _mm512_srli_epi16(low_1, 4), _mm512_srli_epi16(two13, 2), 0xca);
}

/* Those of all groups, at the bytes of the four. A panel is read in its order, once. */
INLINE void low_four(const uint8_t *bytes, __m512i v[16])
{
    UNROLL for (int g = 0; g < 16; g++)
    {
        v[g] = load(bytes + g * 64);
        __asm__("" : "+v"(v[g]));
    }
}

/* The product of Q6_K's sub-blocks j to j + 3 with one row. */
INLINE void block_four(const uint8_t *unit, const int j, const fs_quants_block *x, const __m512 *d, __m512 *y)
{
    const shape s = shape_of(FS_DTYPE_Q6_K);
    const uint8_t *bytes = unit + 288 + j / 4 * 1536;
    __m512i sum[4][2], v[16];

    UNROLL for (int b = 0; b < 4; b++)
        UNROLL for (int h = 0; h < 2; h++)
            sum[b][h] = first_sum(s, x + b, h);
    low_four(bytes, v);
    UNROLL for (int g = 0; g < 8; g++)
    {
        __m512i w[4];
        codes_four(v[g], v[8 + g], load(bytes + 1024 + g * 64), w);
        UNROLL for (int b = 0; b < 4; b++)
            sum[b][g / 4] = _mm512_dpbusd_epi32(sum[b][g / 4], w[b], word(x[b].low + g * 4));
    }
    UNROLL for (int b = 0; b < 4; b++)
    {
        add_high(s, k_group(FS_DTYPE_Q6_K, unit, j + b, (size_t)x[b].top), x + b, sum[b]);
        UNROLL for (int h = 0; h < 2; h++)
            *y = add_sum(s, sum[b][h], x + b, h, d[2 * b + h], d[0], *y);
    }
}

/* codes: theirs for several rows. */
INLINE void unpack_four(const uint8_t *unit, const int j, uint8_t codes[4][512])
{
    const uint8_t *bytes = unit + 288 + j / 4 * 1536;
    __m512i v[16];

    low_four(bytes, v);
    UNROLL for (int g = 0; g < 8; g++)
    {
        __m512i w[4];
        codes_four(v[g], v[8 + g], load(bytes + 1024 + g * 64), w);
        UNROLL for (int b = 0; b < 4; b++)
            _mm512_store_si512(codes[b] + g * 64, w[b]);
    }
}

/* How far ahead a panel is fetched by a kernel whose rows of x are too many streams for the hardware to tell apart, a few lines at a
 * time: a burst of them holds up what is read meanwhile. */
INLINE void ahead(const fs_dtype t, const uint8_t *unit, const int j, const int n, const size_t distance)
{
    const size_t bytes = tile_bytes_of(t) / 8;

    for (size_t i = 0; i < (size_t)n * bytes; i += 64)
        _mm_prefetch((const char *)unit + (size_t)j * bytes + i + distance, _MM_HINT_T0);
}

#define AHEAD_BYTES 2048
#define AHEAD_FOURS 4096 /* of Q6_K, whose bytes come in bursts themselves */

INLINE void unit_block(const fs_dtype t, const int rows, const uint8_t *unit, const size_t n, const int j, const fs_quants_block *x,
                       const size_t stride, const __m512 *d, const __m512 *m, __m512 y[ROWS_MAX])
{
    __m512i w[8];

    if (t != FS_DTYPE_Q8_0)
        codes_of(t, unit, n, j, w);
    if (rows > 3)
        ahead(t, unit, j, 1, AHEAD_BYTES);
    block(shape_of(t), t, rows, w, unit, n, j, x, stride, d, m, y);
}

INLINE void blocks32(const fs_dtype t, const int rows, const struct piece *p, __m512 y[ROWS_MAX])
{
    const size_t unit_bytes = tile_bytes_of(t) / 4;
    const uint8_t *unit = p->panel;
    const fs_quants_block *x = p->x;

    for (size_t b = 0; b < p->n_blocks; b += 2, unit += unit_bytes, x += 2) {
        const size_t n = p->n_blocks - b == 1 ? 1 : 2;
        __m512 d, m = _mm512_setzero_ps();

        factors_of(t, unit, n, 0, &d, &m);
        unit_block(t, rows, unit, n, 0, x, p->x_stride, &d, &m, y);
        if (n == 1)
            return;
        factors_of(t, unit, 2, 1, &d, &m);
        unit_block(t, rows, unit, 2, 1, x + 1, p->x_stride, &d, &m, y);
    }
}

INLINE void blocks256(const fs_dtype t, const int rows, const struct piece *p, __m512 y[ROWS_MAX])
{
    const int period = t == FS_DTYPE_Q3_K || t == FS_DTYPE_Q5_K ? 8 : 4; /* of shifts */
    const size_t period_bytes = t == FS_DTYPE_Q2_K ? 512 / 4 : 256;
    const uint8_t *tile = p->panel;
    const fs_quants_block *x = p->x;

    for (size_t left = p->n_blocks; left; left -= 8, tile += tile_bytes_of(t)) {
        struct supers super;

        supers_of(t, tile, &super);
        if (t == FS_DTYPE_Q4_K) {
            LOOP for (int j = 0; j < 8; j += 2, x += 2)
            {
                __m512 d[3], m[3];
                supers_at(t, &super, j, d, m);
                supers_at(t, &super, j + 1, d + 1, m + 1);
                if (rows > 3)
                    ahead(t, tile, j, 2, AHEAD_BYTES);
                block_pair(rows, tile, j, x, p->x_stride, d, m, y);
            }
            continue;
        }
        if (t == FS_DTYPE_Q6_K && rows == 1) {
            LOOP for (int j = 0; j < 8; j += 4, x += 4)
            {
                __m512 d[8], m[2];
                UNROLL for (int b = 0; b < 4; b++)
                    supers_at(t, &super, j + b, d + 2 * b, m);
                block_four(tile, j, x, d, y);
            }
            continue;
        }
        if (t == FS_DTYPE_Q6_K) {
            LOOP for (int j = 0; j < 8; j += 4)
            {
                uint8_t codes[4][512] __attribute__((aligned(64)));
                unpack_four(tile, j, codes);
                LOOP for (int b = 0; b < 4; b++, x++)
                {
                    __m512 d[2], m[2];
                    ahead(t, tile, j + b, 1, AHEAD_FOURS);
                    supers_at(t, &super, j + b, d, m);
                    block(shape_of(t), FS_DTYPE_Q8_0, rows, NULL, codes[b], 0, 0, x, p->x_stride, d, m, y);
                }
            }
            continue;
        }
        LOOP for (int j0 = 0; j0 < 8; j0 += period) {
            UNROLL for (int j = 0; j < period; j++, x++)
            {
                __m512 d[2], m[2];
                supers_at(t, &super, j0 + j, d, m);
                unit_block(t, rows, tile + (size_t)j0 * period_bytes, 1, j, x, p->x_stride, d, m, y);
            }
        }
    }
}

INLINE void tile_blocks(const shape s, const int rows, const struct piece *p, __m512 y[ROWS_MAX])
{
    const struct tile *tile = p->tile;
    const int n_subs = 32 / s.sub;

    for (size_t b = 0; b < p->n_blocks; b++) {
        __m512 d[2], m[2];

        UNROLL for (int h = 0; h < n_subs; h++)
        {
            d[h] = _mm512_load_ps(tile->d[b * (size_t)n_subs + (size_t)h]);
            m[h] = s.has_min ? _mm512_load_ps(tile->m[b * (size_t)n_subs + (size_t)h]) : _mm512_setzero_ps();
        }
        block(s, FS_DTYPE_Q8_0, rows, NULL, tile->codes[b], 0, 0, p->x + b, p->x_stride, d, m, y);
    }
}

/* The parts before and behind a kernel's blocks. */
INLINE void begin(const int rows, const struct piece *p, __m512 y[ROWS_MAX])
{
    UNROLL for (int i = 0; i < rows; i++)
        y[i] = p->first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps((__mmask16)p->lanes, p->y + (size_t)i * p->ldy);
}

INLINE void finish(const int rows, const struct piece *p, const __m512 y[ROWS_MAX])
{
    const __mmask16 lanes = (__mmask16)p->lanes;
    __m512 bias = p->bias ? _mm512_maskz_loadu_ps(lanes, p->bias) : _mm512_setzero_ps();

    UNROLL for (int i = 0; i < rows; i++)
        _mm512_mask_storeu_ps(p->y + (size_t)i * p->ldy, lanes, p->bias ? _mm512_add_ps(y[i], bias) : y[i]);
}

INLINE void panel_kernel(const fs_dtype t, const int rows, const struct piece *p)
{
    __m512 y[ROWS_MAX];

    begin(rows, p, y);
    if (shape_of(t).super)
        blocks256(t, rows, p, y);
    else
        blocks32(t, rows, p, y);
    finish(rows, p, y);
}

INLINE void tile_kernel(const shape s, const int rows, const struct piece *p)
{
    __m512 y[ROWS_MAX];

    begin(rows, p, y);
    tile_blocks(s, rows, p, y);
    finish(rows, p, y);
}

/* The tile of n_blocks at p. */
INLINE void unpack(const fs_dtype t, const uint8_t *p, const size_t n_blocks, struct tile *ret)
{
    const shape s = shape_of(t);
    __m512i w[8];

    for (size_t b = 0; s.super && b < n_blocks; b += 8, p += tile_bytes_of(t)) {
        struct supers super;
        supers_of(t, p, &super);
        UNROLL for (int j = 0; j < 8; j++)
        {
            __m512 d[2], m[2];
            supers_at(t, &super, j, d, m);
            UNROLL for (int h = 0; h < 32 / s.sub; h++)
            {
                _mm512_store_ps(ret->d[(b + (size_t)j) * (32 / (size_t)s.sub) + (size_t)h], d[h]);
                if (s.has_min)
                    _mm512_store_ps(ret->m[(b + (size_t)j) * (32 / (size_t)s.sub) + (size_t)h], m[h]);
            }
            codes_of(t, p, 1, j, w);
            UNROLL for (int g = 0; g < 8; g++)
                _mm512_store_si512(ret->codes[b + (size_t)j] + g * 64, w[g]);
        }
    }
    for (size_t b = 0; !s.super && b < n_blocks; b += 2, p += tile_bytes_of(t) / 4) {
        const size_t n = n_blocks - b == 1 ? 1 : 2;
        UNROLL for (int j = 0; j < 2; j++)
        {
            __m512 d, m = _mm512_setzero_ps();
            if ((size_t)j == n)
                break;
            factors_of(t, p, n, j, &d, &m);
            _mm512_store_ps(ret->d[b + (size_t)j], d);
            if (s.has_min)
                _mm512_store_ps(ret->m[b + (size_t)j], m);
            codes_of(t, p, n, j, w);
            UNROLL for (int g = 0; g < 8; g++)
                _mm512_store_si512(ret->codes[b + (size_t)j] + g * 64, w[g]);
        }
    }
}

typedef void kernel_fn(const struct piece *p);
typedef void unpack_fn(const uint8_t *p, size_t n_blocks, struct tile *ret);

#define DEFINE(t, rows)                                    \
    static void panel_##t##_##rows(const struct piece *p)  \
    {                                                      \
        panel_kernel(FS_DTYPE_##t, rows, p);               \
    }
#define DEFINE_OFTEN(t) EACH_SIZE(DEFINE, t)
#define DEFINE_RARE(t)  EACH_FEW(DEFINE, t)
EACH_OFTEN(DEFINE_OFTEN)
EACH_RARE(DEFINE_RARE)

#define DEFINE_UNPACK(t)                                                            \
    static void unpack_##t(const uint8_t *p, size_t n_blocks, struct tile *ret)     \
    {                                                                               \
        unpack(FS_DTYPE_##t, p, n_blocks, ret);                                     \
    }
EACH_OFTEN(DEFINE_UNPACK)
EACH_RARE(DEFINE_UNPACK)

#define DEFINE_TILE(t, rows)                               \
    static void tile_##t##_##rows(const struct piece *p)   \
    {                                                      \
        tile_kernel(SHAPE_##t, rows, p);                   \
    }
#define SHAPE_BIASED_32 ((shape){ 32, false, true, false })
#define SHAPE_BIASED_16 ((shape){ 16, false, true, false })
#define SHAPE_MIN_32    ((shape){ 32, false, false, true })
#define SHAPE_MIN_16    ((shape){ 16, false, false, true })
EACH_SIZE(DEFINE_TILE, BIASED_32)
EACH_SIZE(DEFINE_TILE, BIASED_16)
EACH_SIZE(DEFINE_TILE, MIN_32)
EACH_SIZE(DEFINE_TILE, MIN_16)

#define PANEL(t, rows) [rows] = panel_##t##_##rows,
#define TILE(t, rows)  [rows] = tile_##t##_##rows,
#define OFTEN(t)       [FS_DTYPE_##t] = { EACH_SIZE(PANEL, t) },
#define RARE(t)        [FS_DTYPE_##t] = { EACH_FEW(PANEL, t) },
#define UNPACK(t)      [FS_DTYPE_##t] = unpack_##t,
static kernel_fn *const panel_kernels[FS_DTYPE_END][ROWS_MAX + 1] = { EACH_OFTEN(OFTEN) EACH_RARE(RARE) };
static unpack_fn *const unpacks[FS_DTYPE_END] = { EACH_OFTEN(UNPACK) EACH_RARE(UNPACK) };
static kernel_fn *const tile_kernels[2][2][ROWS_MAX + 1] = { /* [with a minimum][sub-blocks of 16] */
    { { EACH_SIZE(TILE, BIASED_32) }, { EACH_SIZE(TILE, BIASED_16) } },
    { { EACH_SIZE(TILE, MIN_32) }, { EACH_SIZE(TILE, MIN_16) } },
};

/* Bytes of rows that stay in the second cache beside a panel. */
#define X_BYTES ((size_t)384 << 10)
_Static_assert(sizeof(struct tile) <= FS_GEMM_SCRATCH_BYTES, "scratch");
/* Rows of x that the next kernel takes when m are left. */
static size_t next_group(kernel_fn *const by_rows[ROWS_MAX + 1], size_t m)
{
    size_t rows = m < ROWS_MAX ? m : ROWS_MAX;

    while (!by_rows[rows])
        rows--;
    return rows;
}

/* n rows of x times one panel, of which *piece has the rest; its x and y move on. Bytes that are wanted next are fetched meanwhile. */
static void rows_times(kernel_fn *const by_rows[ROWS_MAX + 1], struct piece *piece, size_t n, const uint8_t *next, size_t next_bytes)
{
    size_t share = (next_bytes / ((n + ROWS_MAX - 1) / ROWS_MAX) + 63) & ~(size_t)63;

    for (size_t t = 0, rows; t < n; t += rows) {
        rows = next_group(by_rows, n - t);
        for (size_t i = 0; i < share && next_bytes; i += 64, next += 64, next_bytes -= next_bytes < 64 ? next_bytes : 64)
            _mm_prefetch((const char *)next, _MM_HINT_T1);
        by_rows[rows](piece);
        piece->x = (const fs_quants_block *)(const void *)((const uint8_t *)piece->x + rows * piece->x_stride);
        piece->y += rows * piece->ldy;
    }
}

void fs_gemm_codes_vnni(const fs_mat *w, size_t panel_begin, size_t panel_end, const fs_quants *x, size_t row, size_t m, const float *bias,
                        float *y, size_t ldy, void *scratch)
{
    const shape s = shape_of(w->dtype);
    const size_t n_blocks = w->k / FS_QUANTS_BLOCK;
    size_t at_once = X_BYTES / (x->row_bytes + !x->row_bytes) / ROWS_MAX * ROWS_MAX;
    struct tile *tile = scratch;

    if (!n_blocks) {
        fs_gemm_codes_ref(w, panel_begin, panel_end, x, row, m, bias, y, ldy, scratch);
        return;
    }
    at_once = at_once ? at_once : ROWS_MAX;
    for (size_t t = 0; t < m; t += at_once) {
        const size_t n = m - t < at_once ? m - t : at_once, blocks = n < 32 ? 8 : TILE_BLOCKS;
        for (size_t p = panel_begin; p < panel_end; p++) {
            const uint8_t *panel = w->data + p * w->panel_bytes;
            size_t o = p * FS_PANEL, n_o = w->n - o < FS_PANEL ? w->n - o : FS_PANEL;
            struct piece piece = { .panel = panel, .n_blocks = n_blocks, .x = fs_quants_row(x, row + t), .x_stride = x->row_bytes,
                                   .y = y + t * ldy + o, .ldy = ldy, .lanes = (1u << n_o) - 1, .first = true, .bias = bias ? bias + o : NULL };
            if (n <= 4 || (n <= ROWS_MAX && panel_kernels[w->dtype][ROWS_MAX]) || w->dtype == FS_DTYPE_Q8_0) { /* codes as they are */
                rows_times(panel_kernels[w->dtype], &piece, n, panel + w->panel_bytes, n > ROWS_MAX ? w->panel_bytes : 0);
                continue;
            }
            piece.tile = tile;
            for (size_t b = 0, bytes; b < n_blocks; b += blocks, panel += bytes) {
                piece.n_blocks = n_blocks - b < blocks ? n_blocks - b : blocks;
                bytes = piece.n_blocks * tile_bytes_of(w->dtype) / 8;
                piece.x = fs_quants_row(x, row + t) + b;
                piece.y = y + t * ldy + o;
                piece.first = b == 0;
                piece.bias = bias && b + blocks >= n_blocks ? bias + o : NULL;
                unpacks[w->dtype](panel, piece.n_blocks, tile);
                rows_times(tile_kernels[s.has_min][s.sub == 16], &piece, n, panel + bytes, bytes);
            }
        }
    }
}
