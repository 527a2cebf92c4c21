/* Quantised products on AVX2: a panel is two vectors. Codes are unsigned where they are small, so that vpmaddubsw needs no signs and
 * several of its sums fit int16; what they are above their value is undone with the sums of the activations.
 *
 * One or two rows meet the codes as they are unpacked in registers. For more a tile of 256 inputs is unpacked once to the first cache
 * and swept by four rows at a time. */
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

#define PRODUCTS 0
#include "kernels/quants_simd.h"

/* ---- codes ---- */
/* Types whose codes stay signed bytes. */
INLINE bool is_signed(const fs_dtype t)
{
    return t == FS_DTYPE_Q8_0 || t == FS_DTYPE_IQ4_NL || t == FS_DTYPE_IQ4_XS;
}

/* Groups of four inputs whose products of codes and activations fit int16 together: their largest code is 15 or less, 31, 63. */
INLINE int groups_of_i16(const fs_dtype t)
{
    switch (t) {
    case FS_DTYPE_Q6_K:
        return 2;
    case FS_DTYPE_Q5_0:
    case FS_DTYPE_Q5_1:
    case FS_DTYPE_Q5_K:
    case FS_DTYPE_MXFP4:
        return 4;
    default:
        return is_signed(t) ? 1 : 8;
    }
}

INLINE VI word(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return vi_set1(v);
}

/* Bits [shift, shift + width) of each byte. */
INLINE VI bits(VI v, const int shift, const int width)
{
    return vi_and(shift ? _mm256_srli_epi16(v, shift) : v, _mm256_set1_epi8((char)((1 << width) - 1)));
}

/* low, and bit from of each byte of high as its bit to. */
INLINE VI with_bit(VI low, VI high, const int from, const int to)
{
    high = from > to ? _mm256_srli_epi16(high, from - to) : from < to ? _mm256_slli_epi16(high, to - from) : high;
    return _mm256_or_si256(low, vi_and(high, _mm256_set1_epi8((char)(1 << to))));
}

/* Those of a K-quant's sub-block j (32 inputs): 32 bytes from at on, 64 * group + 32 * unit. */
INLINE VI k_codes(const fs_dtype t, const uint8_t *tile, const int j, const size_t at)
{
    VI two;

    switch (t) {
    case FS_DTYPE_Q4_K:
        return bits(vi_load(tile + 256 + j / 2 * 512 + at), j % 2 * 4, 4);
    case FS_DTYPE_Q5_K:
        return with_bit(bits(vi_load(tile + 768 + j / 2 * 512 + at), j % 2 * 4, 4), vi_load(tile + 256 + at), j, 4);
    case FS_DTYPE_Q6_K:
        two = vi_load(tile + 288 + j / 4 * 1536 + 1024 + at);
        two = j % 4 < 2 ? _mm256_slli_epi16(two, 4 - 2 * (j % 4)) : j % 4 == 3 ? _mm256_srli_epi16(two, 2) : two;
        return _mm256_or_si256(bits(vi_load(tile + 288 + j / 4 * 1536 + j % 2 * 512 + at), j % 4 / 2 * 4, 4), vi_and(two, _mm256_set1_epi8(0x30)));
    case FS_DTYPE_Q2_K:
        return bits(vi_load(tile + 320 + j / 4 * 512 + at), 2 * (j % 4), 2);
    default: /* Q3_K */
        return with_bit(bits(vi_load(tile + 736 + j / 4 * 512 + at), 2 * (j % 4), 2), vi_load(tile + 224 + at), j, 2);
    }
}

/* Of nibbles; bit of each byte of high is the fifth, of types that have one. */
INLINE VI from_nibbles(const fs_dtype t, VI v, VI high, const int bit)
{
    v16u8 table;

    if (t == FS_DTYPE_IQ4_NL || t == FS_DTYPE_IQ4_XS || t == FS_DTYPE_MXFP4) {
        memcpy(&table, t == FS_DTYPE_MXFP4 ? fs_e2m1_doubled : fs_iq4_values, sizeof table);
        if (t == FS_DTYPE_MXFP4)
            table += 12;
        return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256((__m128i)table), v);
    }
    return t == FS_DTYPE_Q5_0 || t == FS_DTYPE_Q5_1 ? with_bit(v, high, bit, 4) : v;
}

/* The codes of group g, rows 8u to 8u + 7, of block j of a unit of n blocks, or of a superblock. */
INLINE VI codes_of(const fs_dtype t, const uint8_t *unit, const size_t n, const int j, const int g, const int u)
{
    const uint8_t *p = unit + head_bytes(t, n);
    const VI none = vi_zero();

    if (t == FS_DTYPE_Q8_0)
        return _mm256_xor_si256(vi_load(p + j * 512 + g * 64 + u * 32), _mm256_set1_epi8((char)0x80));
    if (fs_codes_is_k(t))
        return k_codes(t, unit, j, (size_t)(g * 64 + u * 32));
    return from_nibbles(t, bits(vi_load(p + j * 256 + g % 4 * 64 + u * 32), g / 4 * 4, 4),
                        t == FS_DTYPE_Q5_0 || t == FS_DTYPE_Q5_1 ? vi_load(p - (n - (size_t)j) * 64 + u * 32) : none, g);
}

/* The same of the top group of x. */
INLINE VI top_codes(const fs_dtype t, const uint8_t *unit, const size_t n, const int j, const fs_quants_block *x, const int u)
{
    const uint8_t *p = unit + head_bytes(t, n);
    const size_t at = (size_t)x->top + (size_t)u * 32;
    VI high = vi_zero(), v;

    if (t == FS_DTYPE_Q8_0)
        return _mm256_xor_si256(vi_load(p + j * 512 + at), _mm256_set1_epi8((char)0x80));
    if (fs_codes_is_k(t))
        return k_codes(t, unit, j, at);
    v = bits(_mm256_srl_epi16(vi_load(p + j * 256 + at % 256), _mm_cvtsi32_si128(x->nibble)), 0, 4);
    if (t == FS_DTYPE_Q5_0 || t == FS_DTYPE_Q5_1)
        high = _mm256_srl_epi16(vi_load(p - (n - (size_t)j) * 64 + u * 32), _mm_cvtsi32_si128(x->top / 64));
    return from_nibbles(t, v, high, 0);
}

#define ROLLED _Pragma("GCC unroll 1")
#define IN_REGISTER(v) __asm__("" : "+x"(v)) /* gcc 12 keeps sums of a loop in memory else, although there are registers */

/* ---- sums ---- */
/* Products of v and a by pairs. A product of two signs is that of |v| and a with v's sign: 128 * 127 twice fit, and a, unlike v, is
 * never -128. */
INLINE VI products(const fs_dtype t, VI v, VI magnitude, VI a)
{
    return is_signed(t) ? _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(a, v)) : _mm256_maddubs_epi16(v, a);
}

INLINE VI by_fours(VI pairs)
{
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* sum, and the high parts of x's top group, whose codes are v, if that is in part h. */
INLINE VI with_top(const fs_dtype t, VI sum, VI v, const fs_quants_block *x, const int h)
{
    const VI high = products(t, v, is_signed(t) ? _mm256_abs_epi8(v) : v, word(x->high));

    if (sub_of(t) == 32)
        return vi_add(sum, _mm256_madd_epi16(high, _mm256_set1_epi16(1 << FS_QUANTS_SHIFT)));
    return vi_add(sum, _mm256_sllv_epi32(by_fours(high), word(&x->shift_of[h])));
}

/* What the sum of half h, or of the block, begins with: less than nothing by what the codes are too large. */
INLINE VI first_sum(const fs_dtype t, const fs_quants_block *x, const int h)
{
    switch (t) {
    case FS_DTYPE_Q4_0:
        return vi_set1(8 * x->minus_sum);
    case FS_DTYPE_Q5_0:
        return vi_set1(16 * x->minus_sum);
    case FS_DTYPE_MXFP4:
        return vi_set1(12 * x->minus_sum);
    case FS_DTYPE_Q6_K:
        return vi_set1(x->minus_sums_32[h]);
    case FS_DTYPE_Q3_K:
        return vi_set1(x->minus_sums_32[h] / 8);
    default:
        return vi_zero();
    }
}

/* Up to 256 inputs of a panel; d and m by sub-block. */
struct tile {
    uint8_t codes[8][512];
    VF d[16][UNITS], m[16][UNITS];
} __attribute__((aligned(64)));

/* Block j of a unit of n blocks: its products with rows rows of x, each x_bytes behind the other, to y. d and m: of its sub-blocks. */
INLINE void block(const fs_dtype t, const int rows, const uint8_t *unit, const size_t n, const int j, const uint8_t *x, const size_t x_bytes,
                  VF (*d)[UNITS], VF (*m)[UNITS], float (*y)[FS_PANEL])
{
    const int n_subs = 32 / sub_of(t), groups = 8 / n_subs, fit = groups_of_i16(t) < groups ? groups_of_i16(t) : groups;

    UNROLL for (int h = 0; h < n_subs; h++)
    {
        VI sum[2][UNITS], pairs[2][UNITS]; /* as many rows are taken so */

        UNROLL for (int i = 0; i < rows; i++)
        {
            const fs_quants_block *a = (const fs_quants_block *)(const void *)(x + (size_t)i * x_bytes);
            EACH_UNIT sum[i][u] = first_sum(t, a, h);
        }
        UNROLL for (int k = 0; k < groups; k++)
        {
            const int g = h * groups + k;
            EACH_UNIT
            {
                VI v = codes_of(t, unit, n, j, g, u), magnitude = is_signed(t) ? _mm256_abs_epi8(v) : v;
                UNROLL for (int i = 0; i < rows; i++)
                {
                    VI p = products(t, v, magnitude, word(((const fs_quants_block *)(const void *)(x + (size_t)i * x_bytes))->low + 4 * g));
                    pairs[i][u] = k % fit ? _mm256_add_epi16(pairs[i][u], p) : p;
                    if (k % fit == fit - 1)
                        sum[i][u] = vi_add(sum[i][u], by_fours(pairs[i][u]));
                }
            }
        }
        UNROLL for (int i = 0; i < rows; i++)
        {
            const fs_quants_block *a = (const fs_quants_block *)(const void *)(x + (size_t)i * x_bytes);
            EACH_UNIT sum[i][u] = with_top(t, sum[i][u], top_codes(t, unit, n, j, a, u), a, h);
            add_part(t, y[i], a, h, sum[i], d, m);
        }
    }
}

/* The factors of n_blocks blocks. */
INLINE void factors(const fs_dtype t, const uint8_t *unit, const size_t n_blocks, struct tile *ret)
{
    if (fs_codes_is_k(t) || t == FS_DTYPE_IQ4_XS) {
        VF d[UNITS], m[UNITS];
        supers_of(t, unit, d, m);
        UNROLL for (int s = 0; s < 256 / sub_of(t); s++)
            supers_at(t, unit, s, d, m, ret->d[s], ret->m[s]);
        return;
    }
    for (size_t b = 0; b < n_blocks; b++)
        factors_of(t, unit + b / 2 * unit_bytes(t, 2), b % 2, ret->d[b], ret->m[b]);
}

/* Asks for the bytes that a panel has AHEAD_BYTES behind n of its own at p. */
#define AHEAD_BYTES 2048
INLINE void ahead(const uint8_t *p, const size_t n)
{
    for (size_t i = 0; i < n; i += 64)
        _mm_prefetch((const char *)p + AHEAD_BYTES + i, _MM_HINT_T0);
}

/* Blocks [0, n_blocks) of a tile at unit with rows rows. */
INLINE void direct(const fs_dtype t, const int rows, const uint8_t *unit, const size_t n_blocks, struct tile *f, const uint8_t *x, const size_t x_bytes,
                   float (*y)[FS_PANEL])
{
    const size_t n_subs = 32 / (size_t)sub_of(t), block_bytes = sizeof(fs_quants_block);

    if (fs_codes_is_k(t)) {
        UNROLL for (int j = 0; j < 8; j++)
        {
            ahead(unit + (size_t)j * (unit_bytes(t, 1) / 8), unit_bytes(t, 1) / 8);
            block(t, rows, unit, 1, j, x + (size_t)j * block_bytes, x_bytes, f->d + (size_t)j * n_subs, f->m + (size_t)j * n_subs, y);
        }
        return;
    }
    for (size_t b = 0; b < n_blocks; b++) {
        const size_t super = t == FS_DTYPE_IQ4_XS, n = super || n_blocks - b / 2 * 2 < 2 ? 1 : 2;
        const uint8_t *p = super ? unit + b * 256 : unit + b / 2 * unit_bytes(t, 2);
        ahead(unit + b * (unit_bytes(t, 2) / 2), super ? 256 : unit_bytes(t, 2) / 2);
        block(t, rows, p, n, super ? 0 : (int)(b % 2), x + b * block_bytes, x_bytes, f->d + b, f->m + b, y);
    }
}

INLINE void unpack_tile(const fs_dtype t, const uint8_t *unit, const size_t n_blocks, struct tile *ret)
{
    if (fs_codes_is_k(t)) {
        UNROLL for (int j = 0; j < 8; j++)
            UNROLL for (int g = 0; g < 8; g++)
                EACH_UNIT vi_store(ret->codes[j] + g * 64 + u * 32, codes_of(t, unit, 1, j, g, u));
        return;
    }
    for (size_t b = 0; b < n_blocks; b++) {
        const size_t super = t == FS_DTYPE_IQ4_XS, n = super || n_blocks - b / 2 * 2 < 2 ? 1 : 2;
        const uint8_t *p = super ? unit + b * 256 : unit + b / 2 * unit_bytes(t, 2);
        UNROLL for (int g = 0; g < 8; g++)
            EACH_UNIT vi_store(ret->codes[b] + g * 64 + u * 32, codes_of(t, p, n, super ? 0 : (int)(b % 2), g, u));
    }
}

/* pairs += the products of a group's codes and rows rows of x, each x_bytes behind the other. */
INLINE void add_group(const fs_dtype t, const int rows, const uint8_t *codes, const uint8_t *x, const size_t x_bytes, VI pairs[4][UNITS])
{
    const VI v[UNITS] = { vi_load(codes), vi_load(codes + 32) };
    const VI magnitude[UNITS] = { is_signed(t) ? _mm256_abs_epi8(v[0]) : v[0], is_signed(t) ? _mm256_abs_epi8(v[1]) : v[1] };

    UNROLL for (int i = 0; i < rows; i++)
    {
        const VI four = word(x + (size_t)i * x_bytes);
        EACH_UNIT
        {
            pairs[i][u] = _mm256_add_epi16(pairs[i][u], products(t, v[u], magnitude[u], four));
            IN_REGISTER(pairs[i][u]);
        }
    }
}

/* The products of groups [k, k + n) of a tile's codes and rows rows of x, which fit int16 together, to sum. */
INLINE void add_groups(const fs_dtype t, const int rows, const int k, const int n, const uint8_t *codes, const uint8_t *x, const size_t x_bytes, VI sum[4][UNITS])
{
    VI pairs[4][UNITS];

    UNROLL for (int i = 0; i < rows; i++)
        EACH_UNIT pairs[i][u] = vi_zero();
    UNROLL for (int g = k; g < k + n; g++) add_group(t, rows, codes + g * 64, x + 4 * g, x_bytes, pairs);
    UNROLL for (int i = 0; i < rows; i++)
        EACH_UNIT sum[i][u] = vi_add(sum[i][u], by_fours(pairs[i][u]));
}

/* Block j of a tile with rows rows of x, at most four. */
INLINE void tiled_block(const fs_dtype t, const int rows, struct tile *tile, const size_t j, const uint8_t *x, const size_t x_bytes, float (*y)[FS_PANEL])
{
    const size_t n_subs = 32 / (size_t)sub_of(t);
    const int groups = 8 / (int)n_subs, fit = groups_of_i16(t) < groups ? groups_of_i16(t) : groups;

    UNROLL for (int h = 0; h < 8 / groups; h++)
    {
        const uint8_t *codes = tile->codes[j] + h * groups * 64, *a = x + h * groups * 4;
        VI sum[4][UNITS];

        UNROLL for (int i = 0; i < rows; i++)
            EACH_UNIT sum[i][u] = vi_zero();
        if (is_signed(t)) /* signs leave no registers for all at once */
            ROLLED for (int k = 0; k < groups; k += fit) add_groups(t, rows, k, fit, codes, a, x_bytes, sum);
        else
            UNROLL for (int k = 0; k < groups; k += fit) add_groups(t, rows, k, fit, codes, a, x_bytes, sum);
        UNROLL for (int i = 0; i < rows; i++)
        {
            const fs_quants_block *b = (const fs_quants_block *)(const void *)(x + (size_t)i * x_bytes);
            const VI first = first_sum(t, b, h);
            EACH_UNIT sum[i][u] = with_top(t, vi_add(sum[i][u], first), vi_load(tile->codes[j] + b->top + u * 32), b, h);
            add_part(t, y[i], b, h, sum[i], tile->d + j * n_subs, tile->m + j * n_subs);
        }
    }
}

INLINE void tiled(const fs_dtype t, const int rows, const size_t n_blocks, struct tile *tile, const uint8_t *x, const size_t x_bytes, float (*y)[FS_PANEL])
{
    for (size_t b = 0; b < n_blocks; b++)
        tiled_block(t, rows, tile, b, x + b * sizeof(fs_quants_block), x_bytes, y);
}

/* The panel, by tiles. A tile of blocks of 32 is four units, so that none begins within one. */
INLINE void sweep_panel(const fs_dtype t, struct sweep *s, const size_t panel)
{
    const size_t n_blocks = s->w->k / 32, x_bytes = s->x->row_bytes;
    const uint8_t *unit = s->w->data + panel * s->w->panel_bytes;
    struct tile tile;

    for (size_t b = 0; b < n_blocks; b += 8) {
        const size_t n = n_blocks - b < 8 ? n_blocks - b : 8;
        const uint8_t *x = (const uint8_t *)(fs_quants_row(s->x, s->row) + b);
        size_t r = 0;

        factors(t, unit, n, &tile);
        if (s->m == 1) {
            direct(t, 1, unit, n, &tile, x, x_bytes, s->y);
        } else if (s->m == 2) {
            direct(t, 2, unit, n, &tile, x, x_bytes, s->y);
        } else {
            unpack_tile(t, unit, n, &tile);
            for (; r + 4 <= s->m; r += 4)
                tiled(t, 4, n, &tile, x + r * x_bytes, x_bytes, s->y + r);
            if (s->m - r >= 2) {
                tiled(t, 2, n, &tile, x + r * x_bytes, x_bytes, s->y + r);
                r += 2;
            }
            if (r < s->m)
                tiled(t, 1, n, &tile, x + r * x_bytes, x_bytes, s->y + r);
        }
        unit += fs_codes_is_k(t) || t == FS_DTYPE_IQ4_XS ? unit_bytes(t, 1) : 4 * unit_bytes(t, 2);
    }
}

#define DEFINE(t)                                        \
    static void sweep_##t(struct sweep *s, size_t panel) \
    {                                                    \
        sweep_panel(FS_DTYPE_##t, s, panel);             \
    }
EACH_TYPE(DEFINE)
#define SWEEP(t) [FS_DTYPE_##t] = sweep_##t,
static void (*const sweeps[FS_DTYPE_END])(struct sweep *s, size_t panel) = { EACH_TYPE(SWEEP) };

/* ---- activations ---- */
/* The largest of four neighbours, in each of them: of absolute values as bits, which order like integers. */
INLINE VI most_of_four(VI v)
{
    v = _mm256_max_epi32(v, _mm256_shuffle_epi32(v, 0xb1));
    return _mm256_max_epi32(v, _mm256_shuffle_epi32(v, 0x4e));
}

INLINE uint32_t most_of(VI v)
{
    v = most_of_four(v);
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)));
}

INLINE int32_t sum_of(VI v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

/* The bytes of four values that fit them. */
INLINE void store_bytes(int8_t ret[4], __m128i v)
{
    const __m128i low = _mm_set1_epi32(0x0c080400);
    const int32_t four = _mm_cvtsi128_si32(_mm_shuffle_epi8(v, low));
    memcpy(ret, &four, sizeof four);
}

INLINE void quantize_32(const float *x, fs_quants_block *ret)
{
    const VI magnitude = vi_set1(0x7fffffff), lanes = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    int32_t values[FS_QUANTS_BLOCK] __attribute__((aligned(32)));
    VI v[4], most;
    uint32_t top, rest;
    int group;
    float d;

    UNROLL for (int i = 0; i < 4; i++) v[i] = most_of_four(vi_and(vi_load(x + 8 * i), magnitude)); /* groups 2i and 2i + 1 */
    most = _mm256_blend_epi32(_mm256_blend_epi32(v[0], v[1], 0x22), _mm256_blend_epi32(v[2], v[3], 0x88), 0xcc); /* of groups 0 2 4 6 1 3 5 7 */
    most = _mm256_permutevar8x32_epi32(most, lanes);
    top = most_of(most);
    group = __builtin_ctz((unsigned)_mm256_movemask_ps((__m256)_mm256_cmpeq_epi32(most, vi_set1((int32_t)top))));
    rest = most_of(_mm256_andnot_si256(_mm256_cmpeq_epi32(vi_set1(group), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)), most));
    d = scale_of_block(top, rest);
    UNROLL for (int i = 0; i < 4; i++) v[i] = vi_zero();
    if (d > 0.0f && d < __builtin_inff())
        UNROLL for (int i = 0; i < 4; i++) v[i] = vi_of(vf_div(vf_load(x + 8 * i), vf_set1(d)));
    UNROLL for (int i = 0; i < 4; i++) vi_store(values + 8 * i, v[i]);
    describe_block(ret, d, group, sum_of(vi_add(v[0], v[1])), sum_of(vi_add(v[2], v[3])));
    vi_store(ret->low, _mm256_permutevar8x32_epi32(_mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3])), lanes));
    {
        const __m128i four = _mm_load_si128((const __m128i *)(const void *)(values + 4 * group));
        const __m128i high = _mm_srai_epi32(_mm_add_epi32(four, _mm_set1_epi32(1 << (FS_QUANTS_SHIFT - 1))), FS_QUANTS_SHIFT);
        store_bytes(ret->high, high);
        store_bytes(ret->low + 4 * group, _mm_sub_epi32(four, _mm_slli_epi32(high, FS_QUANTS_SHIFT)));
    }
}

void fs_quantize_avx2(const fs_quants *q, size_t row, size_t n_rows, size_t block_begin, size_t block_end, const float *x, size_t ldx)
{
    for (size_t t = 0; t < n_rows; t++, x += ldx)
        for (size_t b = block_begin; b < block_end; b++)
            quantize_32(x + b * FS_QUANTS_BLOCK, fs_quants_row(q, row + t) + b);
}

void fs_gemm_codes_avx2(const fs_mat *w, size_t panel_begin, size_t panel_end, const fs_quants *x, size_t row, size_t m, const float *bias,
                        float *y, size_t ldy, void *scratch)
{
    (void)scratch;
    gemm_codes(w, panel_begin, panel_end, x, row, m, bias, y, ldy, sweeps);
}
