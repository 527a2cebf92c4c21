/* Inside quants_vnni: one block of a panel times a group of rows of x, and the kernels that the sweep (quants_vnni.c)
 * chooses from. */
#ifndef FS_KERNELS_QUANTS_VNNI_H
#define FS_KERNELS_QUANTS_VNNI_H

#include "kernels/quants_vnni_codes.h"

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

/* sum and the products of v with four bytes of x, which the instruction takes from memory itself; gcc gives them one of their own. */
INLINE __m512i times_word(__m512i sum, __m512i v, const void *p)
{
#ifdef __clang__
    return _mm512_dpbusd_epi32(sum, v, word(p));
#else
    typedef int32_t __attribute__((may_alias, aligned(1))) loose;
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(v), "m"(*(const loose *)p));
    return sum;
#endif
}

/* The high codes' part of sums, v their weights: of the block, or of each half. It comes last, so that a panel is read
 * in its order first. */
INLINE void add_high(const shape s, __m512i v, const fs_quants_block *a, __m512i sum[2])
{
    __m512i high = s.biased && s.sub == 32 ? word(&a->minus_sum) : _mm512_setzero_si512();

    high = times_word(high, v, a->high);
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
            sum[i][c] = times_word(sum[i][c], v, row_at(x, stride, i)->low + g * 4);
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

typedef void kernel_fn(const struct piece *p);
typedef void unpack_fn(const uint8_t *p, size_t n_blocks, struct tile *ret);

/* By type and rows; NULL: none for so many. quants_panel_vnni.c. */
extern kernel_fn *const fs_quants_panels_vnni[FS_DTYPE_END][ROWS_MAX + 1];
/* quants_tile_vnni.c. The tile of n_blocks at p; and its kernels, [with a minimum][sub-blocks of 16]. */
extern unpack_fn *const fs_quants_unpack_vnni[FS_DTYPE_END];
extern kernel_fn *const fs_quants_tiles_vnni[2][2][ROWS_MAX + 1];

#endif
