/* A panel's values, 256 inputs at a time, by vectors: the bits of fs_mat_tile_ref. A template: the file that includes
 * it has one ISA's vectors.
 *
 *   VF            a vector of LANES floats; UNITS = 16 / LANES of them hold one value of each row of a panel
 *   vf_load vf_store vf_set1 vf_zero vf_add vf_sub vf_mul vf_fma
 *   from_u8 from_i8 (v16u8, VF *)                  sixteen bytes to sixteen floats
 *   from_bf16 from_f16 from_e4m3 (const uint8_t *, VF *)   sixteen stored values to sixteen floats
 *   bits_of_e4m3 (const uint8_t *, VF *)           sixteen e4m3 to sixteen floats that are 2^120 smaller, NaN apart
 *   bits_of_fours (const uint8_t *, VF [4][UNITS]) the same of [16][4] e4m3: v[j] holds the j-th of every four
 *   bits_of_fours_within                           the same, where the byte before may be read too
 *   lookup(table, index)                           sixteen bytes out of sixteen, index < 16
 *
 * Blocks of 16 rows stand side by side. Sixteen bytes of each are transposed, so that a vector holds byte j of
 * every row, and a row's scale is a lane of the scale's vector. Every load lies inside its block. */
#ifndef FS_KERNELS_PRODUCTS_TILE_H
#define FS_KERNELS_PRODUCTS_TILE_H

#include "kernels/transpose.h"
#include "tensor/blocks.h"

#include <string.h>

#define EACH_UNIT UNROLL for (int u = 0; u < UNITS; u++)

INLINE v16u8 bytes_set1(unsigned b)
{
    v16u8 v = { 0 };
    return v + (uint8_t)b;
}

/* out[j] = byte at + j of every row. */
INLINE void columns(const uint8_t *blocks, size_t block_bytes, size_t at, v16u8 out[16])
{
    UNROLL for (int r = 0; r < 16; r++)
        memcpy(&out[r], blocks + (size_t)r * block_bytes + at, 16);
    transpose_8(out);
}

/* The f16 at byte at of every row. */
INLINE void halves(const uint8_t *blocks, size_t block_bytes, size_t at, VF v[UNITS])
{
    uint16_t h[FS_PANEL];

    for (size_t r = 0; r < FS_PANEL; r++)
        memcpy(&h[r], blocks + r * block_bytes + at, sizeof h[r]);
    from_f16((const uint8_t *)h, v);
}

INLINE void store(float *dst, const VF v[UNITS])
{
    EACH_UNIT vf_store(dst + u * LANES, v[u]);
}

/* dst = d * q, q signed. */
INLINE void put_scaled(float *dst, const VF d[UNITS], v16u8 q)
{
    VF v[UNITS];
    from_i8(q, v);
    EACH_UNIT v[u] = vf_mul(d[u], v[u]);
    store(dst, v);
}

/* dst = fl(d * q) + m. */
INLINE void put_plus(float *dst, const VF d[UNITS], const VF m[UNITS], v16u8 q)
{
    VF v[UNITS];
    from_u8(q, v);
    EACH_UNIT v[u] = vf_add(vf_mul(d[u], v[u]), m[u]);
    store(dst, v);
}

/* dst = fl(d * q) - m. */
INLINE void put_minus(float *dst, const VF d[UNITS], const VF m[UNITS], v16u8 q)
{
    VF v[UNITS];
    from_u8(q, v);
    EACH_UNIT v[u] = vf_sub(vf_mul(d[u], v[u]), m[u]);
    store(dst, v);
}

INLINE void times(VF y[UNITS], const VF d[UNITS], v16u8 scale, bool is_signed)
{
    VF v[UNITS];
    if (is_signed)
        from_i8(scale, v);
    else
        from_u8(scale, v);
    EACH_UNIT y[u] = vf_mul(d[u], v[u]);
}

/* 16 where bit of v is set. */
INLINE v16u8 bit4(v16u8 v, unsigned bit)
{
    v16u8 mask = bytes_set1(1u << bit);
    return (v16u8)((v & mask) == mask) & bytes_set1(16);
}

/* Bits [2i, 2i + 2) of v. */
INLINE v16u8 pair(v16u8 v, unsigned i)
{
    switch (i) {
    case 0:
        return v & 3;
    case 1:
        return v >> 2 & 3;
    case 2:
        return v >> 4 & 3;
    default:
        return v >> 6;
    }
}

static void tile_q4_0(const uint8_t *b, float *dst)
{
    VF d[UNITS];
    v16u8 q[16];

    halves(b, 18, 0, d);
    columns(b, 18, 2, q);
    for (int j = 0; j < 16; j++) {
        put_scaled(dst + j * 16, d, (q[j] & 15) - 8);
        put_scaled(dst + (j + 16) * 16, d, (q[j] >> 4) - 8);
    }
}

static void tile_q4_1(const uint8_t *b, float *dst)
{
    VF d[UNITS], m[UNITS];
    v16u8 q[16];

    halves(b, 20, 0, d);
    halves(b, 20, 2, m);
    columns(b, 20, 4, q);
    for (int j = 0; j < 16; j++) {
        put_plus(dst + j * 16, d, m, q[j] & 15);
        put_plus(dst + (j + 16) * 16, d, m, q[j] >> 4);
    }
}

static void tile_q5_0(const uint8_t *b, float *dst)
{
    VF d[UNITS];
    v16u8 head[16], q[16];

    halves(b, 22, 0, d);
    columns(b, 22, 0, head);
    columns(b, 22, 6, q);
    for (int j = 0; j < 16; j++) {
        put_scaled(dst + j * 16, d, ((q[j] & 15) | bit4(head[2 + j / 8], j % 8)) - 16);
        put_scaled(dst + (j + 16) * 16, d, (q[j] >> 4 | bit4(head[4 + j / 8], j % 8)) - 16);
    }
}

static void tile_q5_1(const uint8_t *b, float *dst)
{
    VF d[UNITS], m[UNITS];
    v16u8 head[16], q[16];

    halves(b, 24, 0, d);
    halves(b, 24, 2, m);
    columns(b, 24, 0, head);
    columns(b, 24, 8, q);
    for (int j = 0; j < 16; j++) {
        put_plus(dst + j * 16, d, m, (q[j] & 15) | bit4(head[4 + j / 8], j % 8));
        put_plus(dst + (j + 16) * 16, d, m, q[j] >> 4 | bit4(head[6 + j / 8], j % 8));
    }
}

static void tile_q8_0(const uint8_t *b, float *dst)
{
    VF d[UNITS];
    v16u8 q[16];

    halves(b, 34, 0, d);
    for (int i = 0; i < 32; i += 16) {
        columns(b, 34, 2 + (size_t)i, q);
        for (int j = 0; j < 16; j++)
            put_scaled(dst + (i + j) * 16, d, q[j]);
    }
}

static void tile_q2_k(const uint8_t *b, float *dst)
{
    VF d[UNITS], dmin[UNITS];
    v16u8 scales[16], q[16];

    halves(b, 84, 80, d);
    halves(b, 84, 82, dmin);
    columns(b, 84, 0, scales);
    for (int part = 0; part < 4; part++) { /* bytes 16 * part ..: elements 128 * (part / 2) + 32 * pair + 16 * (part % 2) .. */
        columns(b, 84, 16 + 16 * (size_t)part, q);
        UNROLL for (int i = 0; i < 4; i++)
        {
            int group = part / 2 * 8 + i * 2 + part % 2;
            VF dl[UNITS], ml[UNITS];
            times(dl, d, scales[group] & 15, false);
            times(ml, dmin, scales[group] >> 4, false);
            for (int j = 0; j < 16; j++)
                put_minus(dst + (group * 16 + j) * 16, dl, ml, pair(q[j], (unsigned)i));
        }
    }
}

static void tile_q3_k(const uint8_t *b, float *dst)
{
    VF d[UNITS];
    v16u8 s[16], high[2][16], q[16];

    halves(b, 110, 108, d);
    columns(b, 110, 94, s); /* the twelve bytes of scales begin at s[2] */
    columns(b, 110, 0, high[0]);
    columns(b, 110, 16, high[1]);
    for (int part = 0; part < 4; part++) {
        columns(b, 110, 32 + 16 * (size_t)part, q);
        UNROLL for (int i = 0; i < 4; i++)
        {
            int g = part / 2 * 8 + i * 2 + part % 2;
            v16u8 low = g < 8 ? s[2 + g] & 15 : s[2 + g - 8] >> 4;
            v16u8 up = pair(s[10 + g % 4], (unsigned)g / 4);
            VF dl[UNITS];
            times(dl, d, (low | up << 4) - 32, true);
            for (int j = 0; j < 16; j++) {
                v16u8 has = bit4(high[part % 2][j], (unsigned)g / 2) >> 2; /* 4 where set */
                put_scaled(dst + (g * 16 + j) * 16, dl, pair(q[j], (unsigned)i) + has - 4);
            }
        }
    }
}

/* The six-bit scale and minimum of sub-block j out of the twelve bytes s of Q4_K and Q5_K. */
INLINE void k_scale_min(const v16u8 *s, int j, v16u8 *ret_scale, v16u8 *ret_min)
{
    if (j < 4) {
        *ret_scale = s[j] & 63;
        *ret_min = s[j + 4] & 63;
    } else {
        *ret_scale = (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        *ret_min = s[j + 4] >> 4 | s[j] >> 6 << 4;
    }
}

INLINE void tile_q45_k(const uint8_t *b, size_t bytes, size_t qh_at, size_t qs_at, float *dst)
{
    VF d[UNITS], dmin[UNITS];
    v16u8 s[16], high[2][16], q[16];

    halves(b, bytes, 0, d);
    halves(b, bytes, 2, dmin);
    columns(b, bytes, 4, s);
    for (size_t i = 0; qh_at && i < 2; i++)
        columns(b, bytes, qh_at + 16 * i, high[i]);
    for (int j = 0; j < 8; j += 2) { /* 32 bytes hold sub-blocks j in the low and j + 1 in the high halves */
        VF dl[2][UNITS], ml[2][UNITS];
        for (int i = 0; i < 2; i++) {
            v16u8 scale, min;
            k_scale_min(s, j + i, &scale, &min);
            times(dl[i], d, scale, false);
            times(ml[i], dmin, min, false);
        }
        for (int part = 0; part < 2; part++) {
            float *y = dst + (32 * j + 16 * part) * 16;
            columns(b, bytes, qs_at + 16 * (size_t)(j + part), q);
            for (int i = 0; i < 16; i++, y += 16) {
                v16u8 low = q[i] & 15, up = q[i] >> 4;
                if (qh_at) {
                    low |= bit4(high[part][i], (unsigned)j);
                    up |= bit4(high[part][i], (unsigned)j + 1);
                }
                put_minus(y, dl[0], ml[0], low);
                put_minus(y + 32 * 16, dl[1], ml[1], up);
            }
        }
    }
}

static void tile_q4_k(const uint8_t *b, float *dst)
{
    tile_q45_k(b, 144, 0, 16, dst);
}

static void tile_q5_k(const uint8_t *b, float *dst)
{
    tile_q45_k(b, 176, 16, 48, dst);
}

static void tile_q6_k(const uint8_t *b, float *dst)
{
    VF d[UNITS];
    v16u8 scales[16], low[16], high[16];

    halves(b, 210, 208, d);
    columns(b, 210, 192, scales);
    for (int part = 0; part < 8; part++) { /* 16 bytes of low halves: 128 * (part / 4) + 16 * (part % 4), and + 64 */
        columns(b, 210, 16 * (size_t)part, low);
        columns(b, 210, 128 + 32 * (size_t)(part / 4) + 16 * (size_t)(part % 2), high);
        UNROLL for (int i = 0; i < 2; i++)
        {
            int group = part / 4 * 8 + i * 4 + part % 4;
            VF dl[UNITS];
            times(dl, d, scales[group], true);
            for (int j = 0; j < 16; j++) {
                v16u8 two = part % 4 / 2 ? pair(high[j], 1 + 2 * (unsigned)i) : pair(high[j], 2 * (unsigned)i);
                put_scaled(dst + (group * 16 + j) * 16, dl, ((i ? low[j] >> 4 : low[j] & 15) | two << 4) - 32);
            }
        }
    }
}

/* 32 elements out of 16 columns of nibbles, each a place in table. */
INLINE void put_looked_up(float *dst, const VF d[UNITS], const int8_t *table, const v16u8 q[16])
{
    v16u8 values;

    memcpy(&values, table, sizeof values);
    for (int j = 0; j < 16; j++) {
        put_scaled(dst + j * 16, d, lookup(values, q[j] & 15));
        put_scaled(dst + (j + 16) * 16, d, lookup(values, q[j] >> 4));
    }
}

static void tile_iq4_nl(const uint8_t *b, float *dst)
{
    VF d[UNITS];
    v16u8 q[16];

    halves(b, 18, 0, d);
    columns(b, 18, 2, q);
    put_looked_up(dst, d, fs_iq4_values, q);
}

static void tile_iq4_xs(const uint8_t *b, float *dst)
{
    VF d[UNITS];
    v16u8 head[16], q[16];

    halves(b, 136, 0, d);
    columns(b, 136, 0, head);
    UNROLL for (int j = 0; j < 8; j++)
    {
        v16u8 low = j % 2 ? head[4 + j / 2] >> 4 : head[4 + j / 2] & 15;
        VF dl[UNITS];
        times(dl, d, (low | pair(head[2 + j / 4], (unsigned)j % 4) << 4) - 32, true);
        columns(b, 136, 8 + 16 * (size_t)j, q);
        put_looked_up(dst + 32 * j * 16, dl, fs_iq4_values, q);
    }
}

static void tile_mxfp4(const uint8_t *b, float *dst)
{
    uint32_t bits[FS_PANEL]; /* of 2^(e-128) */
    float scales[FS_PANEL];
    VF d[UNITS];
    v16u8 q[16];

    for (size_t r = 0; r < FS_PANEL; r++) {
        uint32_t e = b[r * 17];
        bits[r] = e < 2 ? 0x00200000u << e : (e - 1) << 23;
    }
    memcpy(scales, bits, sizeof scales);
    EACH_UNIT d[u] = vf_load(scales + u * LANES);
    columns(b, 17, 1, q);
    put_looked_up(dst, d, fs_e2m1_doubled, q);
}

/* [16][4] bytes as [4][16]. */
INLINE void inputs_of_fours(const uint8_t *src, v16u8 out[4])
{
    v4u32 a[4], low[2], high[2];

    UNROLL for (int i = 0; i < 4; i++)
    {
        v16u8 v;
        memcpy(&v, src + 16 * i, sizeof v);
        a[i] = (v4u32)__builtin_shufflevector(v, v, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    }
    UNROLL for (int i = 0; i < 2; i++)
    {
        low[i] = __builtin_shufflevector(a[2 * i], a[2 * i + 1], LOW_32);
        high[i] = __builtin_shufflevector(a[2 * i], a[2 * i + 1], HIGH_32);
    }
    out[0] = (v16u8)__builtin_shufflevector(low[0], low[1], 0, 1, 4, 5);
    out[1] = (v16u8)__builtin_shufflevector(low[0], low[1], 2, 3, 6, 7);
    out[2] = (v16u8)__builtin_shufflevector(high[0], high[1], 0, 1, 4, 5);
    out[3] = (v16u8)__builtin_shufflevector(high[0], high[1], 2, 3, 6, 7);
}

INLINE void tile_blocks(const fs_mat *w, size_t p, size_t k0, size_t k1, float *dst, void (*block)(const uint8_t *, float *))
{
    const fs_dtype_info *info = fs_dtype_get(w->dtype);
    size_t elems = info->block_elems, step = (size_t)FS_PANEL * info->block_bytes;
    const uint8_t *src = w->data + p * w->panel_bytes + k0 / elems * step;

    for (size_t k = k0; k < k1; k += elems, src += step, dst += elems * FS_PANEL)
        block(src, dst);
}

/* fs_mat_tile_ref's contract; dst is aligned to 64 bytes. */
static __attribute__((noinline)) void tile(const fs_mat *w, size_t p, size_t k0, size_t k1, float *dst)
{
    const uint8_t *src;
    v16u8 fours[4];

    switch (w->dtype) {
    case FS_DTYPE_BF16:
    case FS_DTYPE_F16:
        src = w->data + p * w->panel_bytes + k0 * FS_PANEL * 2;
        for (size_t k = k0; k < k1; k++, src += FS_PANEL * 2, dst += FS_PANEL) {
            VF v[UNITS];
            if (w->dtype == FS_DTYPE_BF16)
                from_bf16(src, v);
            else
                from_f16(src, v);
            store(dst, v);
        }
        return;
    case FS_DTYPE_F8_E4M3:
        src = w->data + p * w->panel_bytes;
        while (k0 < k1) {
            size_t end;
            VF scale = vf_set1(fs_mat_scale(w, p, k0, &end));
            if (end > k1)
                end = k1;
            for (; k0 < end; k0++, dst += FS_PANEL) {
                const uint8_t *codes = src + k0 * FS_PANEL; /* of the last, fewer than four */
                VF v[UNITS];
                if (k0 - k0 % 4 + 4 <= w->k) {
                    if (k0 % 4 == 0)
                        inputs_of_fours(codes, fours);
                    codes = (const uint8_t *)&fours[k0 % 4];
                }
                from_e4m3(codes, v);
                EACH_UNIT v[u] = vf_mul(v[u], scale);
                store(dst, v);
            }
        }
        return;
    case FS_DTYPE_Q4_0:
        tile_blocks(w, p, k0, k1, dst, tile_q4_0);
        return;
    case FS_DTYPE_Q4_1:
        tile_blocks(w, p, k0, k1, dst, tile_q4_1);
        return;
    case FS_DTYPE_Q5_0:
        tile_blocks(w, p, k0, k1, dst, tile_q5_0);
        return;
    case FS_DTYPE_Q5_1:
        tile_blocks(w, p, k0, k1, dst, tile_q5_1);
        return;
    case FS_DTYPE_Q8_0:
        tile_blocks(w, p, k0, k1, dst, tile_q8_0);
        return;
    case FS_DTYPE_Q2_K:
        tile_blocks(w, p, k0, k1, dst, tile_q2_k);
        return;
    case FS_DTYPE_Q3_K:
        tile_blocks(w, p, k0, k1, dst, tile_q3_k);
        return;
    case FS_DTYPE_Q4_K:
        tile_blocks(w, p, k0, k1, dst, tile_q4_k);
        return;
    case FS_DTYPE_Q5_K:
        tile_blocks(w, p, k0, k1, dst, tile_q5_k);
        return;
    case FS_DTYPE_Q6_K:
        tile_blocks(w, p, k0, k1, dst, tile_q6_k);
        return;
    case FS_DTYPE_IQ4_NL:
        tile_blocks(w, p, k0, k1, dst, tile_iq4_nl);
        return;
    case FS_DTYPE_IQ4_XS:
        tile_blocks(w, p, k0, k1, dst, tile_iq4_xs);
        return;
    case FS_DTYPE_MXFP4:
        tile_blocks(w, p, k0, k1, dst, tile_mxfp4);
        return;
    default: /* codebooks; rare enough */
        fs_mat_tile_ref(w, p, k0, k1, dst);
    }
}

#endif
