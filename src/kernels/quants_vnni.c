/* Quantised products on AVX-512 with VNNI: 64 bytes of a panel, 16 rows times four inputs, meet four activations a row of
 * x in one vpdpbusd. Codes are unsigned, those that are signed + 128.
 *
 * A kernel takes one panel and a group of rows of x: a block of codes is unpacked into eight registers and swept by the
 * group. It also lies in the first cache, since a row's top group, which meets its high codes too, is another one in each
 * row. For few rows the kernel unpacks the panel itself and reads it as one ascending stream, which the hardware
 * fetches ahead; fetching by software on top of it was slower. For many rows a tile of 1024 inputs is unpacked once and
 * swept by group after group. */
#include "kernels/quants_isa.h"
#include "kernels/transpose.h"
#include "tensor/blocks.h"

#include <assert.h>
#include <immintrin.h>
#include <string.h>

/* ---- activations ---- */
INLINE __m512i groups_max(__m512i v)
{
    v = _mm512_max_epu32(v, _mm512_shuffle_epi32(v, _MM_PERM_CDAB));
    return _mm512_max_epu32(v, _mm512_shuffle_epi32(v, _MM_PERM_BADC));
}

/* The largest of v's four groups, in every lane; its groups are of one value. */
INLINE __m512i group_max(__m512i v)
{
    v = _mm512_max_epu32(v, _mm512_shuffle_i64x2(v, v, 0x4e));
    return _mm512_max_epu32(v, _mm512_shuffle_i64x2(v, v, 0xb1));
}

/* Sums of v0 and of v1, in lanes 0 and 8. */
INLINE __m512i both_sums(__m512i v0, __m512i v1)
{
    __m512i v = _mm512_add_epi32(_mm512_shuffle_i64x2(v0, v1, 0x44), _mm512_shuffle_i64x2(v0, v1, 0xee));

    v = _mm512_add_epi32(v, _mm512_shuffle_i64x2(v, v, 0xb1));
    v = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, _MM_PERM_BADC));
    return _mm512_add_epi32(v, _mm512_shuffle_epi32(v, _MM_PERM_CDAB));
}

INLINE void quantize_block(const float *x, fs_quants_block *ret)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff), half = _mm512_set1_epi32(1 << (FS_QUANTS_SHIFT - 1));
    __m512 x0 = _mm512_loadu_ps(x), x1 = _mm512_loadu_ps(x + 16), divisor;
    __m512i m0 = groups_max(_mm512_and_si512(_mm512_castps_si512(x0), magnitude));
    __m512i m1 = groups_max(_mm512_and_si512(_mm512_castps_si512(x1), magnitude)), v0, v1, high0, high1;
    __m512i top = group_max(_mm512_max_epu32(m0, m1)), rest, sums;
    uint32_t lanes = (uint32_t)_mm512_cmpeq_epi32_mask(m0, top) | (uint32_t)_mm512_cmpeq_epi32_mask(m1, top) << 16;
    int group = __builtin_ctz(lanes) / 4, sum0, sum1, first, second;
    __m128 ab; /* a, b */
    __mmask16 usable, top0, top1;
    float d, b;

    lanes = 15u << 4 * group;
    top0 = (__mmask16)lanes;
    top1 = (__mmask16)(lanes >> 16);
    rest = group_max(_mm512_max_epu32(_mm512_maskz_mov_epi32((__mmask16)~top0, m0), _mm512_maskz_mov_epi32((__mmask16)~top1, m1)));
    ab = _mm_unpacklo_ps(_mm_castsi128_ps(_mm512_castsi512_si128(top)), _mm_castsi128_ps(_mm512_castsi512_si128(rest)));
    ab = _mm_div_ps(ab, _mm_setr_ps(16319.0f, 127.0f, 1.0f, 1.0f));
    d = _mm_cvtss_f32(ab);
    b = _mm_cvtss_f32(_mm_movehdup_ps(ab));
    d = b > d ? b : d;
    d = d < 0x1p-126f ? 0.0f : d;
    usable = d > 0.0f && d < __builtin_inff() ? 0xffff : 0;
    divisor = _mm512_set1_ps(d);
    v0 = _mm512_maskz_cvtps_epi32(usable, _mm512_maskz_div_ps(usable, x0, divisor));
    v1 = _mm512_maskz_cvtps_epi32(usable, _mm512_maskz_div_ps(usable, x1, divisor));
    sums = both_sums(v0, v1);
    sum0 = _mm_cvtsi128_si32(_mm512_castsi512_si128(sums));
    sum1 = _mm_cvtsi128_si32(_mm512_extracti32x4_epi32(sums, 2));
    ret->top = 64 * group;
    ret->d = d;
    ret->d_sum = d * (float)(sum0 + sum1);
    ret->minus_sum = -(sum0 + sum1);
    ret->minus_sums[0] = -sum0;
    ret->minus_sums[1] = -sum1;
    high0 = _mm512_maskz_srai_epi32(top0, _mm512_add_epi32(v0, half), FS_QUANTS_SHIFT);
    high1 = _mm512_maskz_srai_epi32(top1, _mm512_add_epi32(v1, half), FS_QUANTS_SHIFT);
    _mm_storeu_si128((__m128i *)(void *)ret->low, _mm512_cvtepi32_epi8(_mm512_sub_epi32(v0, _mm512_slli_epi32(high0, FS_QUANTS_SHIFT))));
    _mm_storeu_si128((__m128i *)(void *)(ret->low + 16), _mm512_cvtepi32_epi8(_mm512_sub_epi32(v1, _mm512_slli_epi32(high1, FS_QUANTS_SHIFT))));
    high0 = _mm512_maskz_compress_epi32(top0, high0);
    high1 = _mm512_maskz_compress_epi32(top1, high1);
    first = _mm_cvtsi128_si32(_mm512_cvtepi32_epi8(high0));
    second = _mm_cvtsi128_si32(_mm512_cvtepi32_epi8(high1));
    memcpy(ret->high_of[0], &first, 4);
    memcpy(ret->high_of[1], &second, 4);
    first |= second;
    memcpy(ret->high, &first, 4);
}

void fs_quantize_vnni(const fs_quants *q, size_t row, size_t n_rows, size_t block_begin, size_t block_end, const float *x, size_t ldx)
{
    for (size_t t = 0; t < n_rows; t++, x += ldx)
        for (size_t b = block_begin; b < block_end; b++)
            quantize_block(x + b * FS_QUANTS_BLOCK, fs_quants_row(q, row + t) + b);
}

/* ---- what the types differ in ---- */
typedef struct shape {
    int sub;     /* inputs a sub-block, 32 or 16 */
    bool super;  /* blocks of 256 with sub-scales */
    bool biased; /* codes + 128 */
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
    return t == FS_DTYPE_MXFP4 ? 16 : t == FS_DTYPE_Q4_1 ? 64 : t == FS_DTYPE_Q5_0 || t == FS_DTYPE_IQ4_XS ? 96 : t == FS_DTYPE_Q5_1 ? 128 : 32;
}

/* The unsigned codes of a K-quant's sub-block j (32 inputs): the group of four that begins at, 64 * group. */
INLINE __m512i k_group(const fs_dtype t, const uint8_t *tile, const int j, const size_t at)
{
    __m512i w, two;

    switch (t) {
    case FS_DTYPE_Q4_K:
        return bits(load(tile + 192 + j / 2 * 512 + at), j % 2 * 4, 4);
    case FS_DTYPE_Q5_K:
        return with_bit(bits(load(tile + 704 + j / 2 * 512 + at), j % 2 * 4, 4), load(tile + 192 + at), j, 4);
    case FS_DTYPE_Q6_K:
        two = load(tile + 256 + j / 4 * 1536 + 1024 + at);
        w = bits(load(tile + 256 + j / 4 * 1536 + j % 2 * 512 + at), j % 4 / 2 * 4, 4);
        if (j % 4 < 2)
            two = _mm512_slli_epi16(two, (unsigned)(4 - 2 * (j % 4)));
        else if (j % 4 == 3)
            two = _mm512_srli_epi16(two, 2);
        return plus(_mm512_ternarylogic_epi32(w, two, _mm512_set1_epi8(0x30), 0xf8), 128 - 32);
    case FS_DTYPE_Q2_K:
        return bits(load(tile + 256 + j / 4 * 512 + at), 2 * (j % 4), 2);
    default: /* Q3_K */
        return plus(with_bit(bits(load(tile + 704 + j / 4 * 512 + at), 2 * (j % 4), 2), load(tile + 192 + at), j, 2), 128 - 4);
    }
}

INLINE bool is_k(const fs_dtype t)
{
    return t == FS_DTYPE_Q2_K || t == FS_DTYPE_Q3_K || t == FS_DTYPE_Q4_K || t == FS_DTYPE_Q5_K || t == FS_DTYPE_Q6_K;
}

/* The unsigned codes of sub-block j (32 inputs) of a unit of n blocks, four inputs a register. */
INLINE void codes_of(const fs_dtype t, const uint8_t *unit, const size_t n, const int j, __m512i w[8])
{
    const uint8_t *p;
    __m512i table = _mm512_setzero_si512(), high = _mm512_setzero_si512();

    switch (t) {
    case FS_DTYPE_Q8_0:
        UNROLL for (int g = 0; g < 8; g++)
            w[g] = load(unit + n * 32 + j * 512 + g * 64);
        return;
    case FS_DTYPE_Q2_K:
    case FS_DTYPE_Q3_K:
    case FS_DTYPE_Q4_K:
    case FS_DTYPE_Q5_K:
    case FS_DTYPE_Q6_K:
        UNROLL for (int g = 0; g < 8; g++)
            w[g] = k_group(t, unit, j, (size_t)g * 64);
        return;
    default: /* blocks of 16 bytes of nibbles: inputs 4g + i low, 16 + 4g + i high */
        p = unit + n * head_bytes(t) + j * 256;
        if (t == FS_DTYPE_IQ4_NL || t == FS_DTYPE_IQ4_XS)
            table = table16(fs_iq4_values);
        if (t == FS_DTYPE_MXFP4)
            table = table16(fs_e2m1_doubled);
        if (t == FS_DTYPE_Q5_0 || t == FS_DTYPE_Q5_1)
            high = load(p - j * 256 - (n - (size_t)j) * 64);
        UNROLL for (int g = 0; g < 4; g++)
        {
            __m512i v = load(p + g * 64);
            w[g] = bits(v, 0, 4);
            w[g + 4] = bits(v, 4, 4);
            if (t == FS_DTYPE_IQ4_NL || t == FS_DTYPE_IQ4_XS || t == FS_DTYPE_MXFP4) {
                w[g] = _mm512_shuffle_epi8(table, w[g]);
                w[g + 4] = _mm512_shuffle_epi8(table, w[g + 4]);
            }
            if (t == FS_DTYPE_Q5_0 || t == FS_DTYPE_Q5_1) {
                w[g] = with_bit(w[g], high, g, 4);
                w[g + 4] = with_bit(w[g + 4], high, g + 4, 4);
            }
            if (t == FS_DTYPE_Q4_0 || t == FS_DTYPE_Q5_0) {
                w[g] = plus(w[g], t == FS_DTYPE_Q4_0 ? 128 - 8 : 128 - 16);
                w[g + 4] = plus(w[g + 4], t == FS_DTYPE_Q4_0 ? 128 - 8 : 128 - 16);
            }
        }
    }
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

/* A superblock's factors by sub-block: fl(d * scale), fl(m * min). */
struct supers {
    __m512 scale[16], min[16];
};

INLINE __m512i bytes_at(__m512i four, const int i, const bool is_signed)
{
    __m128i v = i == 0   ? _mm512_castsi512_si128(four)
                : i == 1 ? _mm512_extracti32x4_epi32(four, 1)
                : i == 2 ? _mm512_extracti32x4_epi32(four, 2)
                         : _mm512_extracti32x4_epi32(four, 3);
    return is_signed ? _mm512_cvtepi8_epi32(v) : _mm512_cvtepu8_epi32(v);
}

/* n of ret: factor times the bytes of each fourth of four[]. */
INLINE void scaled(__m512 factor, const __m512i *four, const int n, const bool is_signed, __m512 *ret)
{
    UNROLL for (int s = 0; s < n; s++)
        ret[s] = _mm512_mul_ps(factor, _mm512_cvtepi32_ps(bytes_at(four[s / 4], s % 4, is_signed)));
}

INLINE void supers_of(const fs_dtype t, const uint8_t *p, struct supers *ret)
{
    const uint8_t *end = p + tile_bytes_of(t);
    const __m512i six = _mm512_set1_epi8(63), four = _mm512_set1_epi8(15), top = _mm512_set1_epi8(0x30);
    const __m512 negative = _mm512_set1_ps(-1.0f);
    __m512i scale[4], min[4];

    if (t == FS_DTYPE_Q4_K || t == FS_DTYPE_Q5_K) {
        __m512i s0 = load(p), s1 = load(p + 64), s2 = load(p + 128);
        scale[0] = _mm512_and_si512(s0, six);
        min[0] = _mm512_and_si512(s1, six);
        scale[1] = _mm512_ternarylogic_epi32(_mm512_and_si512(s2, four), _mm512_srli_epi16(s0, 2), top, 0xf8);
        min[1] = _mm512_ternarylogic_epi32(bits(s2, 4, 4), _mm512_srli_epi16(s1, 2), top, 0xf8);
        scaled(halves(end - 64), scale, 8, false, ret->scale);
        scaled(_mm512_mul_ps(halves(end - 32), negative), min, 8, false, ret->min);
    } else if (t == FS_DTYPE_Q2_K) {
        UNROLL for (int i = 0; i < 4; i++)
        {
            __m512i s = load(p + i * 64);
            scale[i] = _mm512_and_si512(s, four);
            min[i] = bits(s, 4, 4);
        }
        scaled(halves(end - 64), scale, 16, false, ret->scale);
        scaled(_mm512_mul_ps(halves(end - 32), negative), min, 16, false, ret->min);
    } else if (t == FS_DTYPE_Q3_K) {
        __m512i s0 = load(p), s1 = load(p + 64), s2 = load(p + 128), bias = _mm512_set1_epi8(32);
        scale[0] = _mm512_ternarylogic_epi32(_mm512_and_si512(s0, four), _mm512_slli_epi16(s2, 4), top, 0xf8);
        scale[1] = _mm512_ternarylogic_epi32(_mm512_and_si512(s1, four), _mm512_slli_epi16(s2, 2), top, 0xf8);
        scale[2] = _mm512_ternarylogic_epi32(bits(s0, 4, 4), s2, top, 0xf8);
        scale[3] = _mm512_ternarylogic_epi32(bits(s1, 4, 4), _mm512_srli_epi16(s2, 2), top, 0xf8);
        UNROLL for (int i = 0; i < 4; i++)
            scale[i] = _mm512_sub_epi8(scale[i], bias);
        scaled(halves(end - 32), scale, 16, true, ret->scale);
    } else if (t == FS_DTYPE_Q6_K) {
        UNROLL for (int i = 0; i < 4; i++)
            scale[i] = load(p + i * 64);
        scaled(halves(end - 32), scale, 16, true, ret->scale);
    } else { /* IQ4_XS */
        __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(p + 64)));
        __m512 d = halves(end - 32);
        UNROLL for (int j = 0; j < 8; j++)
        {
            __m512i low = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p + j / 2 * 16)));
            __m512i up = _mm512_and_si512(_mm512_srli_epi32(high, 2 * (unsigned)j), _mm512_set1_epi32(3));
            low = j % 2 ? _mm512_srli_epi32(low, 4) : _mm512_and_si512(low, _mm512_set1_epi32(15));
            low = _mm512_sub_epi32(_mm512_or_si512(low, _mm512_slli_epi32(up, 4)), _mm512_set1_epi32(32));
            ret->scale[j] = _mm512_mul_ps(d, _mm512_cvtepi32_ps(low));
        }
    }
}

/* ---- kernels ---- */
#define ROWS_MAX 8
/* Group sizes that have kernels. */
#define EACH_FEW(F, t)  F(t, 1) F(t, 2) F(t, 4)
#define EACH_SIZE(F, t) EACH_FEW(F, t) F(t, 3) F(t, 8)
#define EACH_TYPE(F) F(Q4_0) F(Q4_1) F(Q5_0) F(Q5_1) F(Q8_0) F(Q2_K) F(Q3_K) F(Q4_K) F(Q5_K) F(Q6_K) F(IQ4_NL) F(IQ4_XS) F(MXFP4)

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

INLINE __m512i word(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
}

INLINE const fs_quants_block *row_at(const fs_quants_block *x, size_t stride, const int i)
{
    return (const fs_quants_block *)(const void *)((const uint8_t *)x + (size_t)i * stride);
}

/* A block of 32 inputs: y and the products of codes w with rows rows of x. d, m: of its sub-blocks. The codes also lie at
 * codes; or, k a K-quant, they are unpacked from its tile at codes again. */
INLINE void block(const shape s, const fs_dtype k, const int rows, const __m512i w[8], const uint8_t *codes, const int j,
                  const fs_quants_block *x, const size_t stride, const __m512 *d, const __m512 *m, __m512 y[ROWS_MAX])
{
    const int n_subs = 32 / s.sub;

    UNROLL for (int t0 = 0; t0 < rows; t0 += 4)
    {
        const int count = rows - t0 < 4 ? rows - t0 : 4;

        UNROLL for (int h = 0; h < n_subs; h++)
        {
            __m512i acc[4];
            UNROLL for (int i = 0; i < count; i++)
                acc[i] = _mm512_setzero_si512();
            UNROLL for (int g = h * s.sub / 4; g < (h + 1) * s.sub / 4; g++)
                UNROLL for (int i = 0; i < count; i++)
                    acc[i] = _mm512_dpbusd_epi32(acc[i], w[g], word(row_at(x, stride, t0 + i)->low + g * 4));
            UNROLL for (int i = 0; i < count; i++)
            {
                const fs_quants_block *a = row_at(x, stride, t0 + i);
                __m512 *to = &y[t0 + i], sum;
                __m512i high = s.biased ? word(n_subs == 1 ? &a->minus_sum : &a->minus_sums[h]) : _mm512_setzero_si512();
                high = _mm512_dpbusd_epi32(high, is_k(k) ? k_group(k, codes, j, (size_t)a->top) : load(codes + a->top), word(n_subs == 1 ? a->high : a->high_of[h]));
                acc[i] = _mm512_add_epi32(acc[i], _mm512_slli_epi32(high, FS_QUANTS_SHIFT));
                *to = _mm512_fmadd_ps(_mm512_mul_ps(d[h], _mm512_set1_ps(a->d)), _mm512_cvtepi32_ps(acc[i]), *to);
                if (!s.has_min)
                    continue;
                sum = n_subs == 1 ? _mm512_set1_ps(a->d_sum) : _mm512_set1_ps(a->d * (float)-a->minus_sums[h]);
                *to = _mm512_fmadd_ps(m[h], sum, *to);
            }
        }
    }
}

/* How far ahead a panel is fetched by a kernel whose rows of x are too many streams for the hardware to tell apart. */
#define AHEAD_BYTES 2048

/* Block j of a unit of n blocks, or of a superblock. */
INLINE void unit_block(const fs_dtype t, const int rows, const uint8_t *unit, const size_t n, const int j, const fs_quants_block *x,
                       const size_t stride, const __m512 *d, const __m512 *m, __m512 y[ROWS_MAX])
{
    uint8_t codes[512] __attribute__((aligned(64)));
    __m512i w[8];

    codes_of(t, unit, n, j, w);
    for (size_t i = 0; rows > 4 && i < tile_bytes_of(t) / 8; i += 64)
        _mm_prefetch((const char *)unit + (size_t)j * tile_bytes_of(t) / 8 + i + AHEAD_BYTES, _MM_HINT_T0);
    if (t == FS_DTYPE_Q8_0 || is_k(t)) {
        block(shape_of(t), t, rows, w, is_k(t) ? unit : unit + n * 32 + j * 512, j, x, stride, d, m, y);
        return;
    }
    UNROLL for (int g = 0; g < 8; g++)
        _mm512_store_si512(codes + g * 64, w[g]);
    block(shape_of(t), t, rows, w, codes, j, x, stride, d, m, y);
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
    const shape s = shape_of(t);
    const uint8_t *tile = p->panel;
    const fs_quants_block *x = p->x;

    for (size_t left = p->n_blocks; left; left -= 8, tile += tile_bytes_of(t)) {
        struct supers super;

        supers_of(t, tile, &super);
        UNROLL for (int j = 0; j < 8; j++, x++)
            unit_block(t, rows, tile, 1, j, x, p->x_stride, super.scale + j * 32 / s.sub, super.min + j * 32 / s.sub, y);
    }
}

INLINE void tile_blocks(const shape s, const int rows, const struct piece *p, __m512 y[ROWS_MAX])
{
    const struct tile *tile = p->tile;
    const int n_subs = 32 / s.sub;

    for (size_t b = 0; b < p->n_blocks; b++) {
        __m512i w[8];
        __m512 d[2], m[2];

        UNROLL for (int g = 0; g < 8; g++)
            w[g] = load(tile->codes[b] + g * 64);
        UNROLL for (int h = 0; h < n_subs; h++)
        {
            d[h] = _mm512_load_ps(tile->d[b * (size_t)n_subs + (size_t)h]);
            m[h] = s.has_min ? _mm512_load_ps(tile->m[b * (size_t)n_subs + (size_t)h]) : _mm512_setzero_ps();
        }
        block(s, FS_DTYPE_Q8_0, rows, w, tile->codes[b], 0, p->x + b, p->x_stride, d, m, y);
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
        UNROLL for (int i = 0; i < 256 / s.sub; i++)
        {
            _mm512_store_ps(ret->d[b * (32 / (size_t)s.sub) + (size_t)i], super.scale[i]);
            if (s.has_min)
                _mm512_store_ps(ret->m[b * (32 / (size_t)s.sub) + (size_t)i], super.min[i]);
        }
        UNROLL for (int j = 0; j < 8; j++)
        {
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
#define DEFINE_TYPE(t)                                                              \
    EACH_FEW(DEFINE, t)                                                             \
    static void unpack_##t(const uint8_t *p, size_t n_blocks, struct tile *ret)     \
    {                                                                               \
        unpack(FS_DTYPE_##t, p, n_blocks, ret);                                     \
    }
EACH_TYPE(DEFINE_TYPE)
DEFINE(Q8_0, 8)

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
#define PANEL_MANY(t)  [8] = FS_DTYPE_##t == FS_DTYPE_Q8_0 ? panel_Q8_0_8 : NULL
#define PANELS(t)      [FS_DTYPE_##t] = { EACH_FEW(PANEL, t) PANEL_MANY(t) },
#define UNPACK(t)      [FS_DTYPE_##t] = unpack_##t,
static kernel_fn *const panel_kernels[FS_DTYPE_END][ROWS_MAX + 1] = { EACH_TYPE(PANELS) };
static unpack_fn *const unpacks[FS_DTYPE_END] = { EACH_TYPE(UNPACK) };
static kernel_fn *const tile_kernels[2][2][ROWS_MAX + 1] = { /* [with a minimum][sub-blocks of 16] */
    { { EACH_SIZE(TILE, BIASED_32) }, { EACH_SIZE(TILE, BIASED_16) } },
    { { EACH_SIZE(TILE, MIN_32) }, { EACH_SIZE(TILE, MIN_16) } },
};

/* Bytes of rows that stay in the second cache beside a panel. */
#define X_BYTES ((size_t)384 << 10)
_Static_assert(sizeof(struct tile) <= FS_GEMM_SCRATCH_BYTES, "scratch");
/* Rows from which on a tile is unpacked by itself. Codes of Q8_0 need no unpacking. */
#define TILE_ROWS 5

/* Rows of x that the next kernel takes when m are left. */
static size_t next_group(kernel_fn *const by_rows[ROWS_MAX + 1], size_t m)
{
    size_t rows = m < ROWS_MAX ? m : ROWS_MAX;

    while (!by_rows[rows])
        rows--;
    return rows;
}

/* n rows of x times one panel, of which *piece has the rest. Bytes that are wanted next are fetched meanwhile. */
static void rows_times(kernel_fn *const by_rows[ROWS_MAX + 1], struct piece piece, size_t n, const uint8_t *next, size_t next_bytes)
{
    size_t share = (next_bytes / ((n + ROWS_MAX - 1) / ROWS_MAX) + 63) & ~(size_t)63;

    for (size_t t = 0, rows; t < n; t += rows) {
        rows = next_group(by_rows, n - t);
        for (size_t i = 0; i < share && next_bytes; i += 64, next += 64, next_bytes -= next_bytes < 64 ? next_bytes : 64)
            _mm_prefetch((const char *)next, _MM_HINT_T1);
        by_rows[rows](&piece);
        piece.x = (const fs_quants_block *)(const void *)((const uint8_t *)piece.x + rows * piece.x_stride);
        piece.y += rows * piece.ldy;
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
            if (n < TILE_ROWS || w->dtype == FS_DTYPE_Q8_0) {
                rows_times(panel_kernels[w->dtype], piece, n, panel + w->panel_bytes, n > ROWS_MAX ? w->panel_bytes : 0);
                continue;
            }
            piece.tile = tile;
            for (size_t b = 0, bytes; b < n_blocks; b += blocks, panel += bytes) {
                piece.n_blocks = n_blocks - b < blocks ? n_blocks - b : blocks;
                bytes = piece.n_blocks * tile_bytes_of(w->dtype) / 8;
                piece.x = fs_quants_row(x, row + t) + b;
                piece.first = b == 0;
                piece.bias = bias && b + blocks >= n_blocks ? bias + o : NULL;
                unpacks[w->dtype](panel, piece.n_blocks, tile);
                rows_times(tile_kernels[s.has_min][s.sub == 16], piece, n, panel + bytes, bytes);
            }
        }
    }
}
