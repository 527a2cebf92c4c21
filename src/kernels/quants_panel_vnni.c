/* Quantised products on AVX-512 with VNNI: the kernels of a panel as it is, one for a type and a number of rows. */
#include "kernels/quants_vnni.h"

#ifdef __clang__
#define LOOP _Pragma("nounroll")
#else
#define LOOP _Pragma("GCC unroll 1")
#endif

/* block of Q4_K's sub-blocks j and j + 1, whose codes are the low and the high nibbles of the same bytes; sixteen times
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
            sum0[i][c] = times_word(sum0[i][c], v0, a[0].low + g * 4);
            sum1[i][c] = times_word(sum1[i][c], v1, a[1].low + g * 4);
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

#define DEFINE(t, rows)                                    \
    static void panel_##t##_##rows(const struct piece *p)  \
    {                                                      \
        panel_kernel(FS_DTYPE_##t, rows, p);               \
    }
#define DEFINE_OFTEN(t) EACH_SIZE(DEFINE, t)
#define DEFINE_RARE(t)  EACH_FEW(DEFINE, t)
EACH_OFTEN(DEFINE_OFTEN)
EACH_RARE(DEFINE_RARE)

#define PANEL(t, rows) [rows] = panel_##t##_##rows,
#define OFTEN(t)       [FS_DTYPE_##t] = { EACH_SIZE(PANEL, t) },
#define RARE(t)        [FS_DTYPE_##t] = { EACH_FEW(PANEL, t) },
kernel_fn *const fs_quants_panels_vnni[FS_DTYPE_END][ROWS_MAX + 1] = { EACH_OFTEN(OFTEN) EACH_RARE(RARE) };
