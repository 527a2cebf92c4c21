/* Quantised products by vectors of any width. A template: the file that includes it has one ISA's vectors.
 *
 *   VF VI         vectors of LANES floats and int32; UNITS = 16 / LANES of them hold one value of each row of a panel
 *   vf_load vf_store vf_set1 vf_mul vf_div vf_fma
 *   vi_load vi_store vi_set1 vi_zero vi_add vi_shl (by a constant) vi_and vf_of (VI: rounded) vi_of (VF: to
 *                 nearest, half to even)
 *   from_f16(const uint8_t *, VF *)    sixteen f16 to sixteen floats
 *   from_i8(v16u8, VI *)               sixteen signed bytes to sixteen int32
 *   lookup(table, index)               sixteen bytes out of sixteen, index < 16
 *   dots(const int limit, const int groups, const uint8_t *w, const int8_t *a, VI *acc)
 *                 sums over groups of four inputs of w [groups][16][4], int8, times a [groups][4]; |w| <= limit, which
 *                 tells how many products fit int16; limit < 0: w >= 0 too
 *   PRODUCTS      0: the file has products and a quantize of its own, and needs no lookup and no dots
 *   PAIRS         1 where two rows of x are multiplied at a time, with
 *   widen(const uint8_t *w, uint8_t *ret)   w [8][16][4] with eight inputs side by side: [4][16][8]
 *   dots_two(const int groups, const uint8_t *wide, const int8_t *a, const int8_t *b, VI *acc_a, VI *acc_b)
 *
 * 32 inputs of a panel are unpacked to signed codes in the first cache and swept by up to ROWS rows of x; the rows'
 * sums stay in the cache beside them. */
#ifndef FS_KERNELS_QUANTS_SIMD_H
#define FS_KERNELS_QUANTS_SIMD_H

#include "kernels/quants_isa.h"
#include "kernels/transpose.h"
#include "tensor/blocks.h"

#include <string.h>

#define EACH_UNIT UNROLL for (int u = 0; u < UNITS; u++)
#define ROWS      ((size_t)64)

/* ---- activations ---- */
INLINE float as_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* d of a block: top is the largest |x| as bits, rest that of the other groups. */
INLINE float scale_of_block(const uint32_t top, const uint32_t rest)
{
    float a = as_float(top) / 16319.0f, b = as_float(rest) / 127.0f, d = b > a ? b : a;

    return d < 0x1p-126f ? 0.0f : d;
}

/* All of a block but its codes: sum0 and sum1 are those of its halves. */
INLINE void describe_block(fs_quants_block *ret, const float d, const int group, const int32_t sum0, const int32_t sum1)
{
    ret->d = d;
    ret->minus_sum = -(sum0 + sum1);
    ret->minus_sums_32[0] = -32 * sum0;
    ret->minus_sums_32[1] = -32 * sum1;
    ret->d_sum = d * (float)(sum0 + sum1);
    ret->top = 64 * group;
    ret->shift_of[group / 4] = FS_QUANTS_SHIFT;
    ret->shift_of[1 - group / 4] = 32;
    ret->nibble = group / 4 * 4;
}

#if PRODUCTS
INLINE void quantize_block(const float *x, fs_quants_block *ret)
{
    uint32_t bits[FS_QUANTS_BLOCK], top = 0, rest = 0;
    int32_t v[FS_QUANTS_BLOCK] = { 0 };
    int group = 0, sum0 = 0, sum1 = 0;
    float d;

    for (int i = 0; i < FS_QUANTS_BLOCK; i += LANES)
        vi_store(bits + i, vi_and(vi_load(x + i), vi_set1(0x7fffffff)));
    for (int g = 0; g < 8; g++) {
        const uint32_t *p = bits + 4 * g;
        uint32_t low = p[0] > p[1] ? p[0] : p[1], high = p[2] > p[3] ? p[2] : p[3], most = low > high ? low : high;
        rest = most > top ? top : most > rest ? most : rest;
        group = most > top ? g : group;
        top = most > top ? most : top;
    }
    d = scale_of_block(top, rest);
    if (d > 0.0f && d < __builtin_inff()) {
        const VF divisor = vf_set1(d);
        for (int i = 0; i < FS_QUANTS_BLOCK; i += LANES)
            vi_store(v + i, vi_of(vf_div(vf_load(x + i), divisor)));
    }
    for (int i = 0; i < 16; i++) {
        sum0 += v[i];
        sum1 += v[16 + i];
    }
    describe_block(ret, d, group, sum0, sum1);
    for (int i = 0; i < 4; i++) {
        int32_t *p = v + 4 * group + i, high = (*p + (1 << (FS_QUANTS_SHIFT - 1))) >> FS_QUANTS_SHIFT;
        ret->high[i] = (int8_t)high;
        *p -= high * (1 << FS_QUANTS_SHIFT);
    }
    for (int i = 0; i < FS_QUANTS_BLOCK; i++)
        ret->low[i] = (int8_t)v[i];
}

INLINE void quantize(const fs_quants *q, size_t row, size_t n_rows, size_t block_begin, size_t block_end, const float *x, size_t ldx)
{
    for (size_t t = 0; t < n_rows; t++, x += ldx)
        for (size_t b = block_begin; b < block_end; b++)
            quantize_block(x + b * FS_QUANTS_BLOCK, fs_quants_row(q, row + t) + b);
}
#endif

/* ---- panels ---- */
INLINE v16u8 at(const uint8_t *p)
{
    v16u8 v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Bit bit of each byte as its bit to. */
INLINE v16u8 moved_bit(v16u8 v, const int bit, const int to)
{
    return ((v >> bit) & 1) << to;
}

/* Bytes before the codes (Q6_K: of its first half) in a unit of n blocks. */
INLINE size_t head_bytes(const fs_dtype t, const size_t n)
{
    switch (t) {
    case FS_DTYPE_MXFP4:
        return n * 16;
    case FS_DTYPE_Q4_1:
        return n * 64;
    case FS_DTYPE_Q5_0:
        return n * 96;
    case FS_DTYPE_Q5_1:
        return n * 128;
    case FS_DTYPE_Q2_K:
        return 320;
    case FS_DTYPE_Q6_K:
        return 288;
    case FS_DTYPE_Q4_K:
        return 256;
    case FS_DTYPE_Q3_K:
        return 736;
    case FS_DTYPE_Q5_K:
        return 768;
    case FS_DTYPE_IQ4_XS:
        return 128;
    default:
        return n * 32;
    }
}

/* Bytes of a unit of n blocks. */
INLINE size_t unit_bytes(const fs_dtype t, const size_t n)
{
    return FS_PANEL * n * fs_dtype_get(t)->block_bytes;
}

#if PRODUCTS
/* The signed codes of sub-block j (32 inputs) of a unit of n blocks: dst [8][16][4]. */
INLINE void unpack(const fs_dtype t, const uint8_t *unit, const size_t n, const size_t j, uint8_t *dst)
{
    const uint8_t *p = unit + head_bytes(t, n);
    const int half = (int)(j / 4), quarter = (int)(j % 4);
    v16u8 table = { 0 };

    if (t == FS_DTYPE_IQ4_NL || t == FS_DTYPE_IQ4_XS)
        memcpy(&table, fs_iq4_values, sizeof table);
    if (t == FS_DTYPE_MXFP4)
        memcpy(&table, fs_e2m1_doubled, sizeof table);
    for (size_t i = 0; i < 512; i += 16) { /* group i / 64, rows i % 64 / 4 .. */
        v16u8 q;
        switch (t) {
        case FS_DTYPE_Q8_0:
            q = at(p + j * 512 + i) ^ 0x80;
            break;
        case FS_DTYPE_Q4_K:
        case FS_DTYPE_Q5_K:
            q = at(p + j / 2 * 512 + i);
            q = j % 2 ? q >> 4 : q & 15;
            if (t == FS_DTYPE_Q5_K)
                q |= moved_bit(at(unit + 256 + i), (int)j, 4);
            break;
        case FS_DTYPE_Q6_K:
            q = at(p + half * 1536 + quarter % 2 * 512 + i);
            q = quarter / 2 ? q >> 4 : q & 15;
            q |= (at(p + half * 1536 + 1024 + i) >> 2 * quarter & 3) << 4;
            q -= 32;
            break;
        case FS_DTYPE_Q2_K:
        case FS_DTYPE_Q3_K:
            q = at(p + half * 512 + i) >> 2 * quarter & 3;
            if (t == FS_DTYPE_Q3_K)
                q = (q | moved_bit(at(unit + 224 + i), (int)j, 2)) - 4;
            break;
        default: /* nibbles: groups 0 .. 3 low, 4 .. 7 high */
            q = at(p + j * 256 + i % 256);
            q = i < 256 ? q & 15 : q >> 4;
            if (t == FS_DTYPE_IQ4_NL || t == FS_DTYPE_IQ4_XS || t == FS_DTYPE_MXFP4)
                q = lookup(table, q);
            if (t == FS_DTYPE_Q5_0 || t == FS_DTYPE_Q5_1)
                q |= moved_bit(at(p - (n - j) * 64 + i % 64), (int)(i / 64), 4);
            if (t == FS_DTYPE_Q4_0)
                q -= 8;
            if (t == FS_DTYPE_Q5_0)
                q -= 16;
        }
        memcpy(dst + i, &q, sizeof q);
    }
}

/* The largest |code|, negative when no code is below zero. */
INLINE int limit_of(const fs_dtype t)
{
    switch (t) {
    case FS_DTYPE_Q4_0:
    case FS_DTYPE_Q5_0:
    case FS_DTYPE_MXFP4:
    case FS_DTYPE_Q3_K:
        return 16;
    case FS_DTYPE_Q4_1:
    case FS_DTYPE_Q4_K:
    case FS_DTYPE_Q2_K:
        return -16;
    case FS_DTYPE_Q5_1:
    case FS_DTYPE_Q5_K:
        return -32;
    case FS_DTYPE_Q6_K:
        return 32;
    default:
        return 128;
    }
}

#endif

/* Types whose blocks have a minimum; their sub-blocks. */
INLINE bool has_min(const fs_dtype t)
{
    return t == FS_DTYPE_Q4_1 || t == FS_DTYPE_Q5_1 || t == FS_DTYPE_Q2_K || t == FS_DTYPE_Q4_K || t == FS_DTYPE_Q5_K;
}

INLINE int sub_of(const fs_dtype t)
{
    return t == FS_DTYPE_Q2_K || t == FS_DTYPE_Q3_K || t == FS_DTYPE_Q6_K ? 16 : 32;
}

/* d and m of block j of a unit of n blocks of 32. */
INLINE void factors_of(const fs_dtype t, const uint8_t *unit, const size_t j, VF d[UNITS], VF m[UNITS])
{
    if (t == FS_DTYPE_MXFP4) { /* 2^(e - 128) */
        float scales[FS_PANEL];
        for (size_t r = 0; r < FS_PANEL; r++) {
            uint32_t e = unit[j * 16 + r], bits = e < 2 ? 0x00200000u << e : (e - 1) << 23;
            memcpy(&scales[r], &bits, sizeof bits);
        }
        EACH_UNIT d[u] = vf_load(scales + u * LANES);
    } else if (has_min(t)) {
        from_f16(unit + j * 64, d);
        from_f16(unit + j * 64 + 32, m);
    } else {
        from_f16(unit + j * 32, d);
    }
}

/* The sub-scale of 32 or 16 inputs s of a superblock, and its minimum. */
INLINE v16u8 scale_of(const fs_dtype t, const uint8_t *p, const int s, v16u8 *ret_min)
{
    switch (t) {
    case FS_DTYPE_Q4_K:
    case FS_DTYPE_Q5_K:
        if (s < 4) {
            *ret_min = at(p + 64 + s * 16) & 63;
            return at(p + s * 16) & 63;
        }
        *ret_min = at(p + 64 + s * 16) >> 4 | at(p + s * 16) >> 6 << 4;
        return (at(p + 64 + s * 16) & 15) | at(p + (s - 4) * 16) >> 6 << 4;
    case FS_DTYPE_Q2_K:
        *ret_min = at(p + s * 16) >> 4;
        return at(p + s * 16) & 15;
    case FS_DTYPE_Q3_K: {
        v16u8 low = at(p + s % 8 * 16), high = at(p + 128 + s % 4 * 16);
        return ((low >> s / 8 * 4 & 15) | (high >> s / 4 * 2 & 3) << 4) - 32;
    }
    case FS_DTYPE_Q6_K:
        return at(p + s * 16);
    default: { /* IQ4_XS */
        v16u8 low = at(p + s / 2 * 16) >> s % 2 * 4 & 15, high = { 0 };
        for (int r = 0; r < 16; r++)
            high[r] = (uint8_t)(p[64 + 2 * r + s / 4] >> s % 4 * 2 & 3);
        return (low | high << 4) - 32;
    }
    }
}

/* d and m of a superblock. */
INLINE void supers_of(const fs_dtype t, const uint8_t *unit, VF d[UNITS], VF m[UNITS])
{
    from_f16(unit, d);
    EACH_UNIT d[u] = vf_fma(d[u], vf_set1(0.0f), d[u]); /* an infinity is NaN */
    if (has_min(t)) {
        from_f16(unit + 32, m);
        EACH_UNIT m[u] = vf_mul(vf_fma(m[u], vf_set1(0.0f), m[u]), vf_set1(-1.0f));
    }
}

/* d times the scale of its sub-block s, and m times the minimum. */
INLINE void supers_at(const fs_dtype t, const uint8_t *unit, const int s, const VF d[UNITS], const VF m[UNITS], VF ret_d[UNITS], VF ret_m[UNITS])
{
    v16u8 low = { 0 };
    VI i[UNITS];

    from_i8(scale_of(t, unit + (has_min(t) ? 64 : 32), s, &low), i);
    EACH_UNIT ret_d[u] = vf_mul(d[u], vf_of(i[u]));
    from_i8(low, i);
    if (has_min(t))
        EACH_UNIT ret_m[u] = vf_mul(m[u], vf_of(i[u]));
}

/* ---- kernels: one panel, up to ROWS rows ---- */
struct sweep {
    const fs_mat *w;
    const fs_quants *x;
    size_t row, m;
    float y[ROWS][FS_PANEL];
};

#define EACH_TYPE(F) F(Q4_0) F(Q4_1) F(Q5_0) F(Q5_1) F(Q8_0) F(Q2_K) F(Q3_K) F(Q4_K) F(Q5_K) F(Q6_K) F(IQ4_NL) F(IQ4_XS) F(MXFP4)

/* The sums of part h to the row y. */
INLINE void add_part(const fs_dtype t, float *y, const fs_quants_block *x, const int h, const VI acc[UNITS], VF (*d)[UNITS], VF (*m)[UNITS])
{
    const float sum = !has_min(t) ? 0 : sub_of(t) == 32 ? x->d_sum : x->d * (float)(-x->minus_sums_32[h] / 32);

    EACH_UNIT
    {
        VF v = vf_fma(vf_mul(d[h][u], vf_set1(x->d)), vf_of(acc[u]), vf_load(y + u * LANES));
        if (has_min(t))
            v = vf_fma(m[h][u], vf_set1(sum), v);
        vf_store(y + u * LANES, v);
    }
}

#if PRODUCTS
/* acc = the high parts of the top group, if that is in part h. */
INLINE void dot_top(const fs_dtype t, const fs_quants_block *x, const uint8_t *codes, const int h, VI acc[UNITS])
{
    EACH_UNIT acc[u] = vi_zero();
    if (sub_of(t) == 32 || x->top / 256 == h) {
        dots(limit_of(t), 1, codes + x->top, x->high, acc);
        EACH_UNIT acc[u] = vi_shl(acc[u], FS_QUANTS_SHIFT);
    }
}

/* A block of 32 inputs: codes [8][16][4], signed, times block b of every row. d, m: of its sub-blocks. */
INLINE void sweep_block(const fs_dtype t, struct sweep *s, const uint8_t *codes, size_t b, VF (*d)[UNITS], VF (*m)[UNITS])
{
    const int n_subs = 32 / sub_of(t), groups = 8 / n_subs;
    size_t r = 0;

#if PAIRS
    uint8_t wide[512] __attribute__((aligned(64)));
    if (s->m > 1)
        widen(codes, wide);
    for (; r + 1 < s->m; r += 2) {
        const fs_quants_block *x = fs_quants_row(s->x, s->row + r) + b, *next = fs_quants_row(s->x, s->row + r + 1) + b;
        for (int h = 0; h < n_subs; h++) {
            VI acc[UNITS], acc_next[UNITS];
            dot_top(t, x, codes, h, acc);
            dot_top(t, next, codes, h, acc_next);
            dots_two(groups, wide + 64 * groups * h, x->low + 4 * groups * h, next->low + 4 * groups * h, acc, acc_next);
            add_part(t, s->y[r], x, h, acc, d, m);
            add_part(t, s->y[r + 1], next, h, acc_next, d, m);
        }
    }
#endif
    for (; r < s->m; r++) {
        const fs_quants_block *x = fs_quants_row(s->x, s->row + r) + b;
        for (int h = 0; h < n_subs; h++) {
            VI acc[UNITS];
            dot_top(t, x, codes, h, acc);
            dots(limit_of(t), groups, codes + 64 * groups * h, x->low + 4 * groups * h, acc);
            add_part(t, s->y[r], x, h, acc, d, m);
        }
    }
}

INLINE void sweep32(const fs_dtype t, struct sweep *s, size_t panel)
{
    const size_t n_blocks = s->w->k / 32;
    const uint8_t *unit = s->w->data + panel * s->w->panel_bytes;

    for (size_t b = 0; b < n_blocks; b++) {
        const size_t j = b % 2, n = n_blocks - (b - j) < 2 ? 1 : 2;
        uint8_t codes[512] __attribute__((aligned(64)));
        VF d[1][UNITS], m[1][UNITS];

        unpack(t, unit, n, j, codes);
        factors_of(t, unit, j, d[0], m[0]);
        sweep_block(t, s, codes, b, d, m);
        if (j)
            unit += unit_bytes(t, 2);
    }
}

INLINE void sweep256(const fs_dtype t, struct sweep *s, size_t panel)
{
    const int n_subs = 32 / sub_of(t);
    const uint8_t *unit = s->w->data + panel * s->w->panel_bytes;

    for (size_t b = 0; b < s->w->k / FS_TILE; b++, unit += unit_bytes(t, 1)) {
        VF d[UNITS], m[UNITS];

        supers_of(t, unit, d, m);
        for (size_t j = 0; j < 8; j++) {
            uint8_t codes[512] __attribute__((aligned(64)));
            VF scale[2][UNITS], min[2][UNITS];
            unpack(t, unit, 1, j, codes);
            for (int h = 0; h < n_subs; h++)
                supers_at(t, unit, (int)j * n_subs + h, d, m, scale[h], min[h]);
            sweep_block(t, s, codes, b * 8 + j, scale, min);
        }
    }
}

#define DEFINE(t)                                                                                               \
    static void sweep_##t(struct sweep *s, size_t panel)                                                        \
    {                                                                                                           \
        const fs_dtype type = FS_DTYPE_##t;                                                                     \
        if (fs_codes_is_k(type) || type == FS_DTYPE_IQ4_XS)                                                     \
            sweep256(type, s, panel);                                                                           \
        else                                                                                                    \
            sweep32(type, s, panel);                                                                            \
    }
EACH_TYPE(DEFINE)

#define SWEEP(t) [FS_DTYPE_##t] = sweep_##t,
typedef void sweep_fn(struct sweep *s, size_t panel);
static sweep_fn *const sweeps[FS_DTYPE_END] = { EACH_TYPE(SWEEP) };
#endif

/* sweeps: y [m][16] += the product of one panel, by type. */
INLINE void gemm_codes(const fs_mat *w, size_t panel_begin, size_t panel_end, const fs_quants *x, size_t row, size_t m, const float *bias,
                       float *y, size_t ldy, void (*const sweeps_of[FS_DTYPE_END])(struct sweep *s, size_t panel))
{
    struct sweep s = { .w = w, .x = x };

    for (size_t t0 = 0; t0 < m; t0 += ROWS) {
        s.row = row + t0;
        s.m = m - t0 < ROWS ? m - t0 : ROWS;
        for (size_t p = panel_begin; p < panel_end; p++) {
            size_t o0 = p * FS_PANEL, n = w->n - o0 < FS_PANEL ? w->n - o0 : FS_PANEL;
            memset(s.y, 0, s.m * sizeof s.y[0]);
            sweeps_of[w->dtype](&s, p);
            for (size_t r = 0; r < s.m; r++)
                for (size_t o = 0; o < n; o++)
                    y[(t0 + r) * ldy + o0 + o] = bias ? s.y[r][o] + bias[o0 + o] : s.y[r][o];
        }
    }
}

#endif
