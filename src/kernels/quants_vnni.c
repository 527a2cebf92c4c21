/* Quantised products on AVX-512 with VNNI: 64 bytes of a panel, 16 rows times four inputs, meet four activations a row of
 * x in one vpdpbusd.
 *
 * Rows of x are taken in groups and first laid out so that everything a step needs of a group lies together: a tile of
 * 256 inputs of a group of T rows is
 *   8 times (a sub-block of 32)  codes [T][32], then two words [T] each: what the sum starts from (- offset * sum of
 *                                q, of 32 or of each 16) or, without an offset, d and (float)sum of q; see layout()
 *   d [T], then pairs of int16 sums [T][8]
 * A kernel takes one panel and one group: codes are unpacked into eight registers and swept by the group, so that the
 * dot unit also gets just the two multiplications that the definition wants. It reads the panel as one ascending
 * stream, which the hardware fetches ahead; fetching by software on top of it was slower. */
#include "kernels/quants_isa.h"
#include "kernels/transpose.h"
#include "tensor/blocks.h"

#include <assert.h>
#include <immintrin.h>
#include <string.h>

/* ---- activations ---- */
static inline float scale_of(__m512i abs_max, bool *ret_usable)
{
    uint32_t bits = _mm512_reduce_max_epu32(abs_max);
    float d;

    memcpy(&d, &bits, sizeof d);
    d /= 127.0f;
    d = d < 0x1p-126f ? 0.0f : d;
    *ret_usable = d > 0.0f && d < __builtin_inff();
    return d;
}

void fs_quantize_vnni(const fs_quants *q, size_t row, size_t n_rows, size_t block_begin, size_t block_end, const float *x, size_t ldx)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);

    for (size_t t = 0; t < n_rows; t++, x += ldx)
        for (size_t b = block_begin; b < block_end; b++) {
            const float *from = x + b * q->block;
            int8_t *codes = fs_quants_codes(q, row + t) + b * q->block;
            int16_t *sums = fs_quants_sums(q, row + t) + b * q->block / 16;
            __m512i abs_max = _mm512_setzero_si512();
            __mmask16 usable_lanes;
            __m512 d;
            bool usable;

            for (size_t i = 0; i < q->block; i += 16)
                abs_max = _mm512_max_epu32(abs_max, _mm512_and_si512(_mm512_loadu_si512(from + i), magnitude));
            fs_quants_scales(q, row + t)[b] = scale_of(abs_max, &usable);
            d = _mm512_set1_ps(fs_quants_scales(q, row + t)[b]);
            usable_lanes = usable ? 0xffff : 0;
            for (size_t i = 0; i < q->block; i += 16) {
                __m512i v = _mm512_maskz_cvtps_epi32(usable_lanes, _mm512_maskz_div_ps(usable_lanes, _mm512_loadu_ps(from + i), d));
                _mm_storeu_si128((__m128i *)(void *)(codes + i), _mm512_cvtepi32_epi8(v));
                sums[i / 16] = (int16_t)_mm512_reduce_add_epi32(v);
            }
        }
}

/* ---- what the types differ in ---- */
typedef struct shape {
    int offset;    /* that the unsigned codes have */
    int sub;       /* inputs a sub-block, 32 or 16 */
    bool super;    /* blocks of 256 with sub-scales */
    bool has_min;
} shape;

INLINE shape shape_of(const fs_dtype t)
{
    switch (t) {
    case FS_DTYPE_Q4_0:
        return (shape){ 8, 32, false, false };
    case FS_DTYPE_Q5_0:
    case FS_DTYPE_MXFP4:
        return (shape){ 16, 32, false, false };
    case FS_DTYPE_Q8_0:
    case FS_DTYPE_IQ4_NL:
        return (shape){ 128, 32, false, false };
    case FS_DTYPE_Q4_1:
    case FS_DTYPE_Q5_1:
        return (shape){ 0, 32, false, true };
    case FS_DTYPE_Q2_K:
        return (shape){ 0, 16, true, true };
    case FS_DTYPE_Q3_K:
        return (shape){ 4, 16, true, false };
    case FS_DTYPE_Q4_K:
    case FS_DTYPE_Q5_K:
        return (shape){ 0, 32, true, true };
    case FS_DTYPE_Q6_K:
        return (shape){ 32, 16, true, false };
    default: /* IQ4_XS */
        return (shape){ 128, 32, true, false };
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

/* low, and bit from of each byte of high as its bit to. */
INLINE __m512i with_bit(__m512i low, __m512i high, const int from, const int to)
{
    if (from > to)
        high = _mm512_srli_epi16(high, (unsigned)(from - to));
    else if (from < to)
        high = _mm512_slli_epi16(high, (unsigned)(to - from));
    return _mm512_ternarylogic_epi32(low, high, _mm512_set1_epi8((char)(1 << to)), 0xf8); /* low | (high & bit) */
}

INLINE __m512i table16(const int8_t *values, const int offset)
{
    v16u8 v;

    memcpy(&v, values, sizeof v);
    v += (uint8_t)offset;
    return _mm512_broadcast_i32x4((__m128i)v);
}

/* Bytes before the codes that 16 rows have in a unit for each block. */
INLINE size_t head_bytes(const fs_dtype t)
{
    return t == FS_DTYPE_MXFP4 ? 16 : t == FS_DTYPE_Q4_1 ? 64 : t == FS_DTYPE_Q5_0 || t == FS_DTYPE_IQ4_XS ? 96 : t == FS_DTYPE_Q5_1 ? 128 : 32;
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
    case FS_DTYPE_Q4_K:
    case FS_DTYPE_Q5_K:
        UNROLL for (int g = 0; g < 8; g++)
        {
            w[g] = bits(load(unit + (t == FS_DTYPE_Q5_K ? 704 : 192) + j / 2 * 512 + g * 64), j % 2 * 4, 4);
            if (t == FS_DTYPE_Q5_K)
                w[g] = with_bit(w[g], load(unit + 192 + g * 64), j, 4);
        }
        return;
    case FS_DTYPE_Q6_K:
        UNROLL for (int g = 0; g < 8; g++)
        {
            __m512i two = load(unit + 256 + j / 4 * 1536 + 1024 + g * 64);
            w[g] = bits(load(unit + 256 + j / 4 * 1536 + j % 2 * 512 + g * 64), j % 4 / 2 * 4, 4);
            if (j % 4 < 2)
                two = _mm512_slli_epi16(two, (unsigned)(4 - 2 * (j % 4)));
            else if (j % 4 == 3)
                two = _mm512_srli_epi16(two, 2);
            w[g] = _mm512_ternarylogic_epi32(w[g], two, _mm512_set1_epi8(0x30), 0xf8);
        }
        return;
    case FS_DTYPE_Q2_K:
    case FS_DTYPE_Q3_K:
        UNROLL for (int g = 0; g < 8; g++)
        {
            w[g] = bits(load(unit + (t == FS_DTYPE_Q3_K ? 704 : 256) + j / 4 * 512 + g * 64), 2 * (j % 4), 2);
            if (t == FS_DTYPE_Q3_K)
                w[g] = with_bit(w[g], load(unit + 192 + g * 64), j, 2);
        }
        return;
    default: /* blocks of 16 bytes of nibbles: inputs 4g + i low, 16 + 4g + i high */
        p = unit + n * head_bytes(t) + j * 256;
        if (t == FS_DTYPE_IQ4_NL || t == FS_DTYPE_IQ4_XS)
            table = table16(fs_iq4_values, 128);
        if (t == FS_DTYPE_MXFP4)
            table = table16(fs_e2m1_doubled, 16);
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

/* A superblock's sub-scales as int32, its minima as pairs of int16, and its factors. */
struct supers {
    __m512i scale[16], min[8];
    __m512 d, m;
};

INLINE __m512i bytes_at(__m512i four, const int i, const bool is_signed)
{
    __m128i v = i == 0   ? _mm512_castsi512_si128(four)
                : i == 1 ? _mm512_extracti32x4_epi32(four, 1)
                : i == 2 ? _mm512_extracti32x4_epi32(four, 2)
                         : _mm512_extracti32x4_epi32(four, 3);
    return is_signed ? _mm512_cvtepi8_epi32(v) : _mm512_cvtepu8_epi32(v);
}

/* Four vectors of bytes as two of pairs. */
INLINE void pairs_of(__m512i four, __m512i ret[2])
{
    UNROLL for (int i = 0; i < 2; i++)
        ret[i] = _mm512_or_si512(bytes_at(four, 2 * i, false), _mm512_slli_epi32(bytes_at(four, 2 * i + 1, false), 16));
}

INLINE void supers_of(const fs_dtype t, const uint8_t *p, struct supers *ret)
{
    const uint8_t *end = p + tile_bytes_of(t);
    const __m512i six = _mm512_set1_epi8(63), four = _mm512_set1_epi8(15);
    __m512i scale[4], min[4];

    if (t == FS_DTYPE_Q4_K || t == FS_DTYPE_Q5_K) {
        __m512i s0 = load(p), s1 = load(p + 64), s2 = load(p + 128), top = _mm512_set1_epi8(0x30);
        scale[0] = _mm512_and_si512(s0, six);
        min[0] = _mm512_and_si512(s1, six);
        scale[1] = _mm512_ternarylogic_epi32(_mm512_and_si512(s2, four), _mm512_srli_epi16(s0, 2), top, 0xf8);
        min[1] = _mm512_ternarylogic_epi32(bits(s2, 4, 4), _mm512_srli_epi16(s1, 2), top, 0xf8);
        UNROLL for (int j = 0; j < 8; j++)
            ret->scale[j] = bytes_at(scale[j / 4], j % 4, false);
        pairs_of(min[0], ret->min);
        pairs_of(min[1], ret->min + 2);
        ret->d = halves(end - 64);
        ret->m = halves(end - 32);
    } else if (t == FS_DTYPE_Q2_K) {
        UNROLL for (int i = 0; i < 4; i++)
        {
            __m512i s = load(p + i * 64);
            scale[i] = _mm512_and_si512(s, four);
            pairs_of(bits(s, 4, 4), ret->min + 2 * i);
        }
        UNROLL for (int s = 0; s < 16; s++)
            ret->scale[s] = bytes_at(scale[s / 4], s % 4, false);
        ret->d = halves(end - 64);
        ret->m = halves(end - 32);
    } else if (t == FS_DTYPE_Q3_K) {
        __m512i s0 = load(p), s1 = load(p + 64), s2 = load(p + 128), top = _mm512_set1_epi8(0x30), bias = _mm512_set1_epi8(32);
        scale[0] = _mm512_ternarylogic_epi32(_mm512_and_si512(s0, four), _mm512_slli_epi16(s2, 4), top, 0xf8);
        scale[1] = _mm512_ternarylogic_epi32(_mm512_and_si512(s1, four), _mm512_slli_epi16(s2, 2), top, 0xf8);
        scale[2] = _mm512_ternarylogic_epi32(bits(s0, 4, 4), s2, top, 0xf8);
        scale[3] = _mm512_ternarylogic_epi32(bits(s1, 4, 4), _mm512_srli_epi16(s2, 2), top, 0xf8);
        UNROLL for (int s = 0; s < 16; s++)
            ret->scale[s] = bytes_at(_mm512_sub_epi8(scale[s / 4], bias), s % 4, true);
        ret->d = halves(end - 32);
    } else if (t == FS_DTYPE_Q6_K) {
        UNROLL for (int s = 0; s < 16; s++)
            ret->scale[s] = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p + s * 16)));
        ret->d = halves(end - 32);
    } else { /* IQ4_XS */
        __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(p + 64)));
        UNROLL for (int j = 0; j < 8; j++)
        {
            __m512i low = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p + j / 2 * 16)));
            __m512i up = _mm512_and_si512(_mm512_srli_epi32(high, 2 * (unsigned)j), _mm512_set1_epi32(3));
            low = j % 2 ? _mm512_srli_epi32(low, 4) : _mm512_and_si512(low, _mm512_set1_epi32(15));
            ret->scale[j] = _mm512_sub_epi32(_mm512_or_si512(low, _mm512_slli_epi32(up, 4)), _mm512_set1_epi32(32));
        }
        ret->d = halves(end - 32);
    }
}

/* ---- a group of rows of x ---- */
#define SUB_BYTES(rows)  ((size_t)(rows) * 40)
#define TILE_BYTES(rows) ((size_t)(rows) * (8 * 40 + 36))

/* Tiles [tile0, tile1) of n rows of x from row on, as a group of rows rows; those missing are zeros. */
static void layout(const shape s, const fs_quants *x, size_t row, size_t n, size_t rows, size_t tile0, size_t tile1, uint8_t *dst)
{
    const size_t n_blocks = x->k / 32;

    if (n < rows)
        memset(dst, 0, (tile1 - tile0) * TILE_BYTES(rows));
    for (size_t t = 0; t < n; t++) {
        const int8_t *codes = fs_quants_codes(x, row + t);
        const float *d = fs_quants_scales(x, row + t);
        const int16_t *sums = fs_quants_sums(x, row + t);
        uint8_t *to = dst;

        for (size_t tile = tile0; tile < tile1; tile++, to += TILE_BYTES(rows)) {
            size_t n_subs = n_blocks - tile * 8 < 8 ? n_blocks - tile * 8 : 8;
            uint8_t *tail = to + 8 * SUB_BYTES(rows);
            for (size_t j = 0; j < n_subs; j++) {
                size_t b = tile * 8 + j;
                uint8_t *sub = to + j * SUB_BYTES(rows), *words = sub + rows * 32 + t * 4;
                int32_t first = sums[2 * b], second = sums[2 * b + 1], word[2] = { 0, 0 };
                memcpy(sub + t * 32, codes + b * 32, 32);
                if (s.sub == 16 && !s.has_min) {
                    word[0] = -s.offset * first;
                    word[1] = -s.offset * second;
                } else if (!s.has_min) {
                    word[0] = -s.offset * (first + second);
                } else if (!s.super) {
                    float sum = (float)(first + second);
                    memcpy(&word[0], &sum, sizeof sum);
                }
                if (!s.super)
                    memcpy(&word[1], &d[b], sizeof d[b]);
                memcpy(words, &word[0], 4);
                memcpy(words + rows * 4, &word[1], 4);
            }
            if (s.super) {
                int16_t pairs[16];
                memcpy(tail + t * 4, &d[tile], sizeof d[tile]);
                memcpy(pairs, sums + tile * 16, sizeof pairs);
                for (size_t j = 0; s.sub == 32 && j < 8; j++)
                    pairs[j] = (int16_t)(sums[tile * 16 + 2 * j] + sums[tile * 16 + 2 * j + 1]);
                memcpy(tail + rows * 4 + t * 32, pairs, sizeof pairs);
            }
        }
    }
}

INLINE __m512i word(const uint8_t *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
}

INLINE __m512 number(const uint8_t *p)
{
    float v;
    memcpy(&v, p, sizeof v);
    return _mm512_set1_ps(v);
}

/* ---- kernels ---- */
struct piece {
    const uint8_t *panel; /* its first tile */
    size_t n_blocks;      /* of 32, that it has from there on */
    const uint8_t *x;     /* a laid out group */
    float *y;
    size_t ldy, rows;     /* rows there are: at most the group's */
    uint32_t lanes;       /* outputs there are */
    const float *bias;    /* NULL before the last piece of k */
    bool first;           /* of k */
};

#define ROWS_MAX 8

/* Sums of sub-block (or half sub-block, from g0 to g1) of rows t0 .. t0 + n - 1. */
INLINE void dots(const __m512i w[8], const int g0, const int g1, const uint8_t *sub, const int t0, const int n, __m512i acc[4])
{
    UNROLL for (int g = g0; g < g1; g++)
        UNROLL for (int i = 0; i < n; i++)
            acc[i] = _mm512_dpbusd_epi32(acc[i], w[g], word(sub + (t0 + i) * 32 + g * 4));
}

INLINE void block32(const fs_dtype t, const int rows, const uint8_t *unit, const size_t n, const int j, const uint8_t *sub, __m512 y[ROWS_MAX])
{
    const shape s = shape_of(t);
    __m512i w[8];
    __m512 d, m = _mm512_setzero_ps();

    codes_of(t, unit, n, j, w);
    factors_of(t, unit, n, j, &d, &m);
    UNROLL for (int t0 = 0; t0 < rows; t0 += 4)
    {
        const int count = rows - t0 < 4 ? rows - t0 : 4;
        __m512i acc[4];
        UNROLL for (int i = 0; i < count; i++)
            acc[i] = s.offset ? word(sub + rows * 32 + (t0 + i) * 4) : _mm512_setzero_si512();
        dots(w, 0, 8, sub, t0, count, acc);
        UNROLL for (int i = 0; i < count; i++)
        {
            __m512 d_a = number(sub + rows * 36 + (t0 + i) * 4);
            y[t0 + i] = _mm512_fmadd_ps(_mm512_mul_ps(d, d_a), _mm512_cvtepi32_ps(acc[i]), y[t0 + i]);
            if (s.has_min)
                y[t0 + i] = _mm512_fmadd_ps(_mm512_mul_ps(m, d_a), number(sub + rows * 32 + (t0 + i) * 4), y[t0 + i]);
        }
    }
}

INLINE void blocks32(const fs_dtype t, const int rows, const struct piece *p, __m512 y[ROWS_MAX])
{
    const size_t unit_bytes = tile_bytes_of(t) / 4;
    const uint8_t *unit = p->panel, *sub = p->x;

    for (size_t b = 0; b < p->n_blocks; b += 2, unit += unit_bytes) {
        if (b && b % 8 == 0)
            sub += TILE_BYTES(rows) - 8 * SUB_BYTES(rows);
        block32(t, rows, unit, p->n_blocks - b == 1 ? 1 : 2, 0, sub, y);
        sub += SUB_BYTES(rows);
        if (p->n_blocks - b == 1)
            return;
        block32(t, rows, unit, 2, 1, sub, y);
        sub += SUB_BYTES(rows);
    }
}

INLINE void blocks256(const fs_dtype t, const int rows, const struct piece *p, __m512 y[ROWS_MAX])
{
    const shape s = shape_of(t);
    const size_t tile_bytes = tile_bytes_of(t);
    const uint8_t *tile = p->panel, *x = p->x;

    for (size_t left = p->n_blocks; left; left -= 8, tile += tile_bytes, x += TILE_BYTES(rows)) {
        const uint8_t *tail = x + 8 * SUB_BYTES(rows);
        struct supers super;
        __m512i sum[ROWS_MAX];

        supers_of(t, tile, &super);
        UNROLL for (int i = 0; i < rows; i++)
            sum[i] = _mm512_setzero_si512();
        UNROLL for (int j = 0; j < 8; j++)
        {
            const uint8_t *sub = x + (size_t)j * SUB_BYTES(rows);
            __m512i w[8];
            codes_of(t, tile, 1, j, w);
            UNROLL for (int h = 0; h < 32 / s.sub; h++)
                UNROLL for (int t0 = 0; t0 < rows; t0 += 4)
                {
                    const int count = rows - t0 < 4 ? rows - t0 : 4;
                    __m512i acc[4];
                    UNROLL for (int i = 0; i < count; i++)
                        acc[i] = s.offset ? word(sub + rows * (32 + 4 * h) + (t0 + i) * 4) : _mm512_setzero_si512();
                    dots(w, h * 4, s.sub == 32 ? 8 : h * 4 + 4, sub, t0, count, acc);
                    UNROLL for (int i = 0; i < count; i++)
                        sum[t0 + i] = _mm512_add_epi32(sum[t0 + i], _mm512_mullo_epi32(acc[i], super.scale[j * (32 / s.sub) + h]));
                }
        }
        UNROLL for (int i = 0; i < rows; i++)
        {
            __m512 d_a = number(tail + i * 4);
            y[i] = _mm512_fmadd_ps(_mm512_mul_ps(super.d, d_a), _mm512_cvtepi32_ps(sum[i]), y[i]);
            if (s.has_min) { /* m is - super.m */
                __m512i min = _mm512_setzero_si512();
                UNROLL for (int h = 0; h < 128 / s.sub; h++)
                    min = _mm512_dpwssd_epi32(min, super.min[h], word(tail + rows * 4 + i * 32 + h * 4));
                y[i] = _mm512_fnmadd_ps(_mm512_mul_ps(super.m, d_a), _mm512_cvtepi32_ps(min), y[i]);
            }
        }
    }
}

INLINE void kernel(const fs_dtype t, const int rows, const struct piece *p)
{
    const __mmask16 lanes = (__mmask16)p->lanes;
    __m512 y[ROWS_MAX], bias = p->bias ? _mm512_maskz_loadu_ps(lanes, p->bias) : _mm512_setzero_ps();

    UNROLL for (int i = 0; i < rows; i++)
        y[i] = p->first || (size_t)i >= p->rows ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(lanes, p->y + (size_t)i * p->ldy);
    if (shape_of(t).super)
        blocks256(t, rows, p, y);
    else
        blocks32(t, rows, p, y);
    UNROLL for (int i = 0; i < rows; i++)
        if ((size_t)i < p->rows)
            _mm512_mask_storeu_ps(p->y + (size_t)i * p->ldy, lanes, p->bias ? _mm512_add_ps(y[i], bias) : y[i]);
}

typedef void kernel_fn(const struct piece *p);

/* Group sizes that have kernels. */
#define EACH_SIZE(F, t) F(t, 1) F(t, 2) F(t, 4) F(t, 8)
#define EACH_TYPE(F)                                                                                                   \
    F(Q4_0) F(Q4_1) F(Q5_0) F(Q5_1) F(Q8_0) F(Q2_K) F(Q3_K) F(Q4_K) F(Q5_K) F(Q6_K) F(IQ4_NL) F(IQ4_XS) F(MXFP4)
#define DEFINE(t, rows)                                   \
    static void kernel_##t##_##rows(const struct piece *p) \
    {                                                     \
        kernel(FS_DTYPE_##t, rows, p);                    \
    }
#define DEFINE_TYPE(t) EACH_SIZE(DEFINE, t)
EACH_TYPE(DEFINE_TYPE)

#define NAME(t, rows) [rows] = kernel_##t##_##rows,
#define NAMES(t)      [FS_DTYPE_##t] = { EACH_SIZE(NAME, t) },
static kernel_fn *const kernels[FS_DTYPE_END][ROWS_MAX + 1] = { EACH_TYPE(NAMES) };

/* Bytes of laid out rows that stay in the second cache beside a panel. */
#define X_BYTES ((size_t)384 << 10)
_Static_assert(X_BYTES <= FS_GEMM_SCRATCH_BYTES, "scratch");

/* Rows of x that the next group takes when m are left: those of the kernel in *ret_size, or fewer. Seven go to the
 * kernel for eight and three to that for four, filled up with zeros. */
static size_t next_group(size_t m, size_t *ret_size)
{
    *ret_size = m >= 7 ? 8 : m >= 3 ? 4 : m;
    return m < *ret_size ? m : *ret_size;
}

void fs_gemm_codes_vnni(const fs_mat *w, size_t panel_begin, size_t panel_end, const fs_quants *x, size_t row, size_t m, const float *bias,
                        float *y, size_t ldy, void *scratch)
{
    const shape s = shape_of(w->dtype);
    const size_t tile_bytes = tile_bytes_of(w->dtype);
    size_t n_tiles = ((size_t)w->k + FS_TILE - 1) / FS_TILE, tiles, rows_at_once;

    if (!n_tiles) {
        fs_gemm_codes_ref(w, panel_begin, panel_end, x, row, m, bias, y, ldy, scratch);
        return;
    }
    tiles = n_tiles * TILE_BYTES(ROWS_MAX) <= X_BYTES ? n_tiles : X_BYTES / TILE_BYTES(ROWS_MAX);
    rows_at_once = X_BYTES / (tiles * TILE_BYTES(1)) / ROWS_MAX * ROWS_MAX;
    for (size_t t0 = 0; t0 < m; t0 += rows_at_once) {
        size_t n_t = m - t0 < rows_at_once ? m - t0 : rows_at_once;
        for (size_t tile0 = 0; tile0 < n_tiles; tile0 += tiles) {
            size_t tile1 = tile0 + tiles < n_tiles ? tile0 + tiles : n_tiles;
            for (size_t t = 0, n, size; t < n_t; t += n) {
                n = next_group(n_t - t, &size);
                layout(s, x, row + t0 + t, n, size, tile0, tile1, (uint8_t *)scratch + t * tiles * TILE_BYTES(1));
            }
            for (size_t p = panel_begin; p < panel_end; p++) {
                size_t o = p * FS_PANEL, n_o = w->n - o < FS_PANEL ? w->n - o : FS_PANEL;
                struct piece piece = { .panel = w->data + p * w->panel_bytes + tile0 * tile_bytes,
                                       .n_blocks = (tile1 == n_tiles ? w->k / 32 : tile1 * 8) - tile0 * 8,
                                       .ldy = ldy, .lanes = (1u << n_o) - 1, .first = tile0 == 0,
                                       .bias = bias && tile1 == n_tiles ? bias + o : NULL };
                for (size_t t = 0, size; t < n_t; t += piece.rows) {
                    piece.rows = next_group(n_t - t, &size);
                    piece.x = (uint8_t *)scratch + t * tiles * TILE_BYTES(1);
                    piece.y = y + (t0 + t) * ldy + o;
                    kernels[w->dtype][size](&piece);
                }
            }
        }
    }
}
