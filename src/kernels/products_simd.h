/* The product by vectors. A template over products_tile.h's vectors and
 *
 *   ROWS             rows of x that the large kernel takes at once
 *   PANELS           panels it takes at once
 *   PANELS_OF(rows)  panels the kernel for few rows takes at once, a constant for a constant
 *
 * Outputs are vectorised, so a chain lives in one lane and the only freedom is how many chains run side by side.
 * Few rows (decode) read the panels once, widening on the way; many rows first copy 256 inputs of a block of x to
 * where no two rows meet in a cache set, and each panel's values to a tile that stays in the first cache. */
#ifndef FS_KERNELS_PRODUCTS_SIMD_H
#define FS_KERNELS_PRODUCTS_SIMD_H

#include "kernels/products_tile.h"

#include <assert.h>

#define TILE_FLOATS  ((size_t)FS_CHAIN * FS_PANEL)
#define PANELS_MAX   8
#define BLOCK_ROWS   ((size_t)192)
#define BLOCK_STRIDE ((size_t)FS_CHAIN + 16)
#define GROUP_FLOATS ((size_t)ROWS * FS_CHAIN + 16) /* of turned x, [FS_CHAIN][ROWS] */

_Static_assert((PANELS_MAX * TILE_FLOATS + BLOCK_ROWS * BLOCK_STRIDE) * sizeof(float) <= FS_GEMM_SCRATCH_BYTES, "scratch");
_Static_assert(BLOCK_ROWS % ROWS == 0 && PANELS <= PANELS_MAX && BLOCK_ROWS / ROWS * GROUP_FLOATS <= BLOCK_ROWS * BLOCK_STRIDE, "blocks");

/* How the values of a panel are read: as they are, or widened on the way. */
enum read { READ_F32, READ_BF16, READ_F16, READ_E4M3 };

INLINE void read_panel(enum read kind, const uint8_t *w, VF v[UNITS])
{
    if (kind == READ_BF16)
        from_bf16(w, v);
    else if (kind == READ_F16)
        from_f16(w, v);
    else
        EACH_UNIT v[u] = vf_load((const float *)(const void *)w + u * LANES);
}

/* Where a chain's sums go. */
struct sink {
    float *y; /* of the first row and output */
    size_t ldy, n; /* outputs there are from y on */
    const float *bias; /* of the first output, NULL before the last chunk */
    bool first;
};

/* y = fl(y + s) for the sums of a chunk, s [rows][panels][16], then the bias: where chunk does not do so itself. */
static __attribute__((noinline)) void add_up(const struct sink *to, size_t rows, size_t panels, const float *s)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t p = 0; p < panels; p++, s += FS_PANEL) {
            float *y = to->y + r * to->ldy + p * FS_PANEL;
            const float *bias = to->bias ? to->bias + p * FS_PANEL : NULL;

            if (to->n >= (p + 1) * FS_PANEL) {
                for (size_t u = 0; u < FS_PANEL; u += LANES) {
                    VF v = vf_add(to->first ? vf_zero() : vf_load(y + u), vf_load(s + u));
                    if (bias)
                        v = vf_add(v, vf_load(bias + u));
                    vf_store(y + u, v);
                }
                continue;
            }
            for (size_t o = 0; o < to->n - p * FS_PANEL; o++) {
                float v = (to->first ? 0.0f : y[o]) + s[o];
                y[o] = bias ? v + bias[o] : v;
            }
        }
}

/* Asks for the bytes that lie ahead of some of a panel's: the hardware does not look over the end of a page, and a chunk of a panel is
 * hardly more than one. */
INLINE void fetch_ahead(const uint8_t *src, size_t n_bytes, size_t ahead)
{
    UNROLL for (size_t i = 0; i < n_bytes; i += 64)
        __builtin_prefetch((const void *)((uintptr_t)src + i + ahead), 0, 2);
}

/* One input of a chunk: w its values in the first panel, x that of the first row. */
INLINE void one_input(const int rows, const int panels, const enum read kind, const uint8_t *w, size_t step, const float *x, size_t ldx,
                      VF s[ROWS][PANELS_MAX][UNITS])
{
    VF v[PANELS_MAX][UNITS];

    UNROLL for (int p = 0; p < panels; p++)
        read_panel(kind, w + (size_t)p * step, v[p]);
    UNROLL for (int r = 0; r < rows; r++)
    {
        VF a = vf_set1(x[(size_t)r * ldx]);
        UNROLL for (int p = 0; p < panels; p++)
            EACH_UNIT s[r][p][u] = vf_fma(a, v[p][u], s[r][p][u]);
    }
}

/* One chunk for rows x panels, constants at every call. step: bytes from one panel to the next; input k of row r is x[r * ldx + k * next].
 * ahead: from the bytes of this chunk to those that are read next, 0 where nothing is to be fetched. */
INLINE void chunk(const int rows, const int panels, const enum read kind, const uint8_t *w, size_t step,
                  const float *x, size_t ldx, size_t next, size_t n_k, size_t ahead, const struct sink *to)
{
    const size_t bytes = FS_PANEL * (kind == READ_F32 ? 4 : 2);
    float sums[ROWS * PANELS_MAX * FS_PANEL] __attribute__((aligned(64)));
    VF s[ROWS][PANELS_MAX][UNITS];
    size_t k = 0;

    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int p = 0; p < panels; p++)
            EACH_UNIT s[r][p][u] = vf_zero();
    for (; ahead && k + 4 <= n_k; k += 4) {
        UNROLL for (int p = 0; p < panels; p++)
            fetch_ahead(w + (size_t)p * step + k * bytes, 4 * bytes, ahead);
        UNROLL for (size_t j = k; j < k + 4; j++)
            one_input(rows, panels, kind, w + j * bytes, step, x + j * next, ldx, s);
    }
    for (; k < n_k; k++)
        one_input(rows, panels, kind, w + k * bytes, step, x + k * next, ldx, s);
    if (rows == ROWS && to->n >= (size_t)panels * FS_PANEL && !to->bias) { /* most of a large product, from the registers */
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int p = 0; p < panels; p++)
                EACH_UNIT
                {
                    float *y = to->y + (size_t)r * to->ldy + (size_t)p * FS_PANEL + (size_t)u * LANES;
                    vf_store(y, vf_add(to->first ? vf_zero() : vf_load(y), s[r][p][u]));
                }
        return;
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int p = 0; p < panels; p++)
            EACH_UNIT vf_store(sums + (r * panels + p) * FS_PANEL + u * LANES, s[r][p][u]);
    add_up(to, (size_t)rows, (size_t)panels, sums);
}

/* Of each panel, one for every cols inputs. */
struct scales {
    const float *of[PANELS_MAX];
    size_t cols;
};

static inline struct scales scales_of(const fs_mat *w, size_t panel, int panels)
{
    struct scales s = { .cols = 0 };

    for (int p = 0; p < panels; p++)
        s.of[p] = fs_mat_scales(w, panel + (size_t)p, &s.cols);
    return s;
}

/* A chunk straight from finite e4m3, whose bits, moved into an f32's, are the value times 2^-120, denormals included: one exact
 * scaling of the scale makes up for it, w = fl(q * scale) is one multiplication. */
struct e4m3 {
    const uint8_t *src; /* of the first panel */
    size_t step;        /* bytes to the next one */
    size_t ahead;       /* fetch_ahead */
    const float *x;
    size_t ldx, k0, n_k;
    const struct scales *scales;
};

/* Four inputs. within: bytes of the panel lie before src. */
INLINE void four_e4m3(const int rows, const int panels, const bool within, const struct e4m3 *e, const uint8_t *src, const float *x,
                      const VF factor[PANELS_MAX], VF s[ROWS][PANELS_MAX][UNITS])
{
    UNROLL for (int p = 0; p < panels; p++)
    {
        VF v[4][UNITS];
        fetch_ahead(src + (size_t)p * e->step, 4 * FS_PANEL, e->ahead);
        if (within)
            bits_of_fours_within(src + (size_t)p * e->step, v);
        else
            bits_of_fours(src + (size_t)p * e->step, v);
        UNROLL for (int j = 0; j < 4; j++)
        {
            EACH_UNIT v[j][u] = vf_mul(v[j][u], factor[p]);
            UNROLL for (int r = 0; r < rows; r++)
            {
                VF a = vf_set1(x[(size_t)r * e->ldx + (size_t)j]);
                EACH_UNIT s[r][p][u] = vf_fma(a, v[j][u], s[r][p][u]);
            }
        }
    }
}

INLINE void sums_e4m3(const int rows, const int panels, const struct e4m3 *in, float *sums)
{
    const struct e4m3 here = *in, *e = &here; /* in registers: sums may not be where *in is */
    VF s[ROWS][PANELS_MAX][UNITS];

    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int p = 0; p < panels; p++)
            EACH_UNIT s[r][p][u] = vf_zero();
    for (size_t k = 0, c = e->k0 / e->scales->cols, end; k < e->n_k; k = end, c++) {
        const uint8_t *src = e->src + k * FS_PANEL;
        const float *x = e->x + k;
        VF factor[PANELS_MAX];
        size_t n;
        UNROLL for (int p = 0; p < panels; p++)
            factor[p] = vf_set1(e->scales->of[p][c] * 0x1p120f);
        end = (c + 1) * e->scales->cols - e->k0 < e->n_k ? (c + 1) * e->scales->cols - e->k0 : e->n_k;
        n = end - k;
        if (n >= 4) {
            four_e4m3(rows, panels, false, e, src, x, factor, s);
            for (n -= 4, src += 4 * FS_PANEL, x += 4; n >= 4; n -= 4, src += 4 * FS_PANEL, x += 4)
                four_e4m3(rows, panels, true, e, src, x, factor, s);
        }
        for (; n; n--, src += FS_PANEL, x++)
            UNROLL for (int p = 0; p < panels; p++)
            {
                VF v[UNITS];
                bits_of_e4m3(src + (size_t)p * e->step, v);
                EACH_UNIT v[u] = vf_mul(v[u], factor[p]);
                UNROLL for (int r = 0; r < rows; r++)
                {
                    VF a = vf_set1(x[(size_t)r * e->ldx]);
                    EACH_UNIT s[r][p][u] = vf_fma(a, v[u], s[r][p][u]);
                }
            }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int p = 0; p < panels; p++)
            EACH_UNIT vf_store(sums + (r * panels + p) * FS_PANEL + u * LANES, s[r][p][u]);
}

/* Functions of their own: among the rest of a product their loops would find no registers. */
typedef void e4m3_fn(const struct e4m3 *e, float *sums);
#define E4M3_ROWS   4
#define E4M3_PANELS PANELS_OF(1)
#define DEFINE_E4M3_OF(rows, panels)                                                                \
    static __attribute__((noinline)) void e4m3_##rows##_##panels(const struct e4m3 *e, float *sums) \
    {                                                                                               \
        sums_e4m3(rows, panels <= PANELS_OF(rows) ? panels : 1, e, sums);                           \
    }
#define DEFINE_E4M3(rows) DEFINE_E4M3_OF(rows, 1) DEFINE_E4M3_OF(rows, 2) DEFINE_E4M3_OF(rows, 4) DEFINE_E4M3_OF(rows, 8)
DEFINE_E4M3(1) DEFINE_E4M3(2) DEFINE_E4M3(3) DEFINE_E4M3(4)
#define NAMES(rows) { [1] = e4m3_##rows##_1, [2] = e4m3_##rows##_2, [4] = e4m3_##rows##_4, [8] = e4m3_##rows##_8 }
static e4m3_fn *const e4m3_of[E4M3_ROWS + 1][PANELS_MAX + 1] = { [1] = NAMES(1), [2] = NAMES(2), [3] = NAMES(3), [4] = NAMES(4) };
#undef NAMES

/* False, and nothing done, where a scale is too large for that or changes within four inputs. */
static bool chunk_e4m3(int rows, int panels, const struct e4m3 *e, const struct sink *to)
{
    float sums[E4M3_ROWS * E4M3_PANELS * FS_PANEL] __attribute__((aligned(64)));
    size_t c0 = e->k0 / e->scales->cols, c1 = (e->k0 + e->n_k - 1) / e->scales->cols;

    if (c0 != c1 && e->scales->cols % 4)
        return false;
    for (int p = 0; p < panels; p++)
        for (size_t c = c0; c <= c1; c++)
            if (!(e->scales->of[p][c] > -128.0f && e->scales->of[p][c] < 128.0f))
                return false;
    e4m3_of[rows][panels](e, sums);
    add_up(to, (size_t)rows, (size_t)panels, sums);
    return true;
}

struct product {
    const fs_mat *w;
    const float *x;
    size_t ldx;
    const float *bias;
    float *y;
    size_t ldy;
    float *scratch;
    bool add; /* to what y holds */
};

static inline struct sink sink_of(const struct product *g, size_t panel, size_t row, size_t k0)
{
    size_t o = panel * FS_PANEL;
    bool last = g->w->k - k0 <= FS_CHAIN;

    return (struct sink){ .y = g->y + row * g->ldy + o, .ldy = g->ldy, .n = g->w->n - o, .first = k0 == 0 && !g->add,
                          .bias = last && g->bias ? g->bias + o : NULL };
}

/* From the chunk of panels at k0 to what few reads then; 0: nothing. */
static inline size_t next_chunk(const fs_mat *w, size_t panel, size_t panel_end, size_t panels, size_t k0, size_t value_bytes)
{
    if (k0 + FS_CHAIN < w->k)
        return FS_CHAIN * FS_PANEL * value_bytes;
    return panel + panels < panel_end ? panels * w->panel_bytes - k0 * FS_PANEL * value_bytes : 0;
}

/* rows rows, panels panels from panel on, all chunks. */
INLINE void few(const struct product *g, const int rows, const int panels, const enum read kind, size_t panel, size_t panel_end)
{
    const fs_mat *w = g->w;
    const size_t value_bytes = kind == READ_F32 ? 4 : kind == READ_E4M3 ? 1 : 2;
    const bool direct = kind == READ_BF16 || kind == READ_F16 || w->dtype == FS_DTYPE_F32;

    struct scales scales;

    if (kind == READ_E4M3)
        scales = scales_of(w, panel, panels);
    for (size_t k0 = 0; k0 < w->k; k0 += FS_CHAIN) {
        size_t n_k = w->k - k0 < FS_CHAIN ? w->k - k0 : FS_CHAIN;
        size_t here = k0 * FS_PANEL * value_bytes;
        size_t ahead = w->ahead ? w->ahead : next_chunk(w, panel, panel_end, (size_t)panels, k0, value_bytes);
        struct sink to = sink_of(g, panel, 0, k0);
        const uint8_t *src = (const uint8_t *)g->scratch;
        size_t step = TILE_FLOATS * sizeof(float);

        if (kind == READ_E4M3) {
            struct e4m3 e = { w->data + panel * w->panel_bytes + here, w->panel_bytes, ahead, g->x + k0, g->ldx, k0, n_k, &scales };
            if (chunk_e4m3(rows, panels, &e, &to))
                continue;
        }
        if (direct) {
            src = w->data + panel * w->panel_bytes + here;
            step = w->panel_bytes;
        } else {
            for (int p = 0; p < panels; p++)
                tile(w, panel + (size_t)p, k0, k0 + n_k, g->scratch + (size_t)p * TILE_FLOATS);
        }
        chunk(rows, panels, kind == READ_E4M3 ? READ_F32 : kind, src, step, g->x + k0, g->ldx, 1, n_k, direct ? ahead : 0, &to);
    }
}

/* As many panels at once as fit, then half as many, and so on: one alone would wait for its own sums. */
INLINE void few_rows(const struct product *g, const int rows, const enum read kind, size_t panel, size_t panel_end)
{
    for (; panel + PANELS_OF(rows) <= panel_end; panel += PANELS_OF(rows))
        few(g, rows, PANELS_OF(rows), kind, panel, panel_end);
    if (PANELS_OF(rows) > 4 && panel + 4 <= panel_end) {
        few(g, rows, 4, kind, panel, panel_end);
        panel += 4;
    }
    if (PANELS_OF(rows) > 2 && panel + 2 <= panel_end) {
        few(g, rows, 2, kind, panel, panel_end);
        panel += 2;
    }
    if (panel < panel_end)
        few(g, rows, 1, kind, panel, panel_end);
}

#define DEFINE_FEW(rows)                                                                       \
    static void few_##rows(const struct product *g, size_t panel_begin, size_t panel_end)      \
    {                                                                                          \
        if (g->w->dtype == FS_DTYPE_BF16)                                                      \
            few_rows(g, rows, READ_BF16, panel_begin, panel_end);                              \
        else if (g->w->dtype == FS_DTYPE_F16)                                                  \
            few_rows(g, rows, READ_F16, panel_begin, panel_end);                               \
        else if (g->w->dtype == FS_DTYPE_F8_E4M3 && g->w->finite && (rows) <= E4M3_ROWS)       \
            few_rows(g, rows, READ_E4M3, panel_begin, panel_end);                              \
        else                                                                                   \
            few_rows(g, rows, READ_F32, panel_begin, panel_end);                               \
    }
/* Of rows brought together, those of a block or turned ones. */
#define DEFINE_BLOCK(name, rows, ldx, next)                                                                      \
    static void name(const uint8_t *w, size_t step, int panels, const float *x, size_t n_k, const struct sink *to) \
    {                                                                                                            \
        if (panels == PANELS)                                                                                    \
            chunk(rows, PANELS, READ_F32, w, step, x, ldx, next, n_k, 0, to);                                    \
        else                                                                                                     \
            for (int p = 0; p < panels; p++) {                                                                   \
                struct sink one = *to;                                                                           \
                one.y += (size_t)p * FS_PANEL;                                                                   \
                one.n -= (size_t)p * FS_PANEL;                                                                   \
                one.bias = to->bias ? to->bias + (size_t)p * FS_PANEL : NULL;                                    \
                chunk(rows, 1, READ_F32, w + (size_t)p * step, step, x, ldx, next, n_k, 0, &one);                   \
            }                                                                                                    \
    }
#define DEFINE_BLOCK_OF(rows) DEFINE_BLOCK(block_##rows, rows, BLOCK_STRIDE, 1)

#if ROWS == 12
#define EACH_ROWS(F) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12)
#elif ROWS == 6
#define EACH_ROWS(F) F(1) F(2) F(3) F(4) F(5) F(6)
#endif

EACH_ROWS(DEFINE_FEW)
EACH_ROWS(DEFINE_BLOCK_OF)
DEFINE_BLOCK(turned, ROWS, 1, ROWS)
typedef void block_fn(const uint8_t *w, size_t step, int panels, const float *x, size_t n_k, const struct sink *to);

#define AHEAD_FLOATS ((size_t)512) /* of rows to be copied, which are short and far apart: the hardware sees no stream */

INLINE void fetch_row(const float *src, size_t n)
{
    for (size_t i = 0; i < n; i += 16)
        __builtin_prefetch(src + i, 0, 3);
}

/* n_k inputs of n_t rows, BLOCK_STRIDE apart. */
static __attribute__((noinline)) void copy_block(const float *x, size_t ldx, size_t n_k, size_t n_t, float *block)
{
    size_t ahead = AHEAD_FLOATS / n_k + 1;

    for (size_t t = 0; t < n_t; t++, x += ldx, block += BLOCK_STRIDE) {
        size_t i = 0;
        if (t + ahead < n_t)
            fetch_row(x + ahead * ldx, n_k);
        for (; i + FS_PANEL <= n_k; i += FS_PANEL)
            EACH_UNIT vf_store(block + i + u * LANES, vf_load(x + i + u * LANES));
        for (; i < n_k; i++)
            block[i] = x[i];
    }
}

/* The panels that are read next, a share of their lines with each group of rows: the hardware looks over no page's end. */
struct ahead {
    const uint8_t *at;        /* of the first of PANELS */
    size_t left, share, step; /* bytes; step: to the next panel */
};

static inline struct ahead ahead_of(const uint8_t *panels, size_t step, size_t n_k, size_t groups)
{
    size_t line = FS_PANEL * sizeof(float); /* an input */

    return (struct ahead){ panels, n_k * line, (n_k + groups - 1) / groups * line, step };
}

INLINE void fetch_share(struct ahead *a)
{
    size_t n = a->left < a->share ? a->left : a->share;

    if (!n)
        return;
    for (size_t i = 0; i < n; i += 64)
        UNROLL for (size_t p = 0; p < PANELS; p++)
            __builtin_prefetch(a->at + p * a->step + i, 0, 2);
    a->at += n;
    a->left -= n;
}

static void many_rows(const struct product *g, size_t panel_begin, size_t panel_end, size_t m)
{
#define NAME(rows) block_##rows,
    static block_fn *const blocks[] = { NULL, EACH_ROWS(NAME) };
#undef NAME
    const fs_mat *w = g->w;
    float *x_block = g->scratch, *tiles = g->scratch + BLOCK_ROWS * BLOCK_STRIDE;

    for (size_t t0 = 0; t0 < m; t0 += BLOCK_ROWS) {
        size_t n_t = m - t0 < BLOCK_ROWS ? m - t0 : BLOCK_ROWS;
        for (size_t k0 = 0; k0 < w->k; k0 += FS_CHAIN) {
            size_t n_k = w->k - k0 < FS_CHAIN ? w->k - k0 : FS_CHAIN;
            copy_block(g->x + t0 * g->ldx + k0, g->ldx, n_k, n_t, x_block);
            for (size_t panel = panel_begin; panel < panel_end; panel += PANELS) {
                int panels = (int)(panel_end - panel < PANELS ? panel_end - panel : PANELS);
                const uint8_t *src = w->data + panel * w->panel_bytes + k0 * FS_PANEL * sizeof(float);
                size_t step = w->panel_bytes;
                struct ahead next = { 0 };
                if (w->dtype == FS_DTYPE_F32 && panel + 2 * PANELS <= panel_end)
                    next = ahead_of(src + PANELS * step, step, n_k, (n_t + ROWS - 1) / ROWS);
                if (w->dtype != FS_DTYPE_F32) {
                    for (int p = 0; p < panels; p++)
                        tile(w, panel + (size_t)p, k0, k0 + n_k, tiles + (size_t)p * TILE_FLOATS);
                    src = (const uint8_t *)tiles;
                    step = TILE_FLOATS * sizeof(float);
                }
                for (size_t t = 0; t < n_t; t += ROWS) {
                    size_t rows = n_t - t < ROWS ? n_t - t : ROWS;
                    struct sink to = sink_of(g, panel, t0 + t, k0);
                    fetch_share(&next);
                    blocks[rows](src, step, panels, x_block + t * BLOCK_STRIDE, n_k, &to);
                }
            }
        }
    }
}

/* x [n_k, n_t], its rows those of index, by groups of ROWS columns. */
static __attribute__((noinline)) void bring_together(const float *x, size_t ldx, const uint32_t *index, size_t n_k, size_t n_t, float *groups)
{
    size_t ahead = AHEAD_FLOATS / n_t + 1;

    for (size_t k = 0; k < n_k; k++) {
        const float *src = x + (index ? index[k] : k) * ldx;
        float *dst = groups + k * ROWS;
        size_t t = 0;
        if (k + ahead < n_k)
            fetch_row(x + (index ? index[k + ahead] : k + ahead) * ldx, n_t);
        for (; t + ROWS <= n_t; t += ROWS, dst += GROUP_FLOATS)
            memcpy(dst, src + t, ROWS * sizeof *dst);
        for (size_t i = 0; t < n_t && i < ROWS; i++) /* the last group has as many */
            dst[i] = t + i < n_t ? src[t + i] : 0.0f;
    }
}

/* A group of fewer than ROWS, through a block that holds what they add to. */
static void turned_rest(size_t rows, const uint8_t *w, size_t step, int panels, const float *x, size_t n_k, const struct sink *to)
{
    size_t n = to->n < (size_t)panels * FS_PANEL ? to->n : (size_t)panels * FS_PANEL;
    float y[ROWS][PANELS * FS_PANEL] = { 0 };
    struct sink part = { .y = y[0], .ldy = PANELS * FS_PANEL, .n = n };

    for (size_t r = 0; r < rows; r++)
        memcpy(y[r], to->y + r * to->ldy, n * sizeof(float));
    turned(w, step, panels, x, n_k, &part);
    for (size_t r = 0; r < rows; r++)
        memcpy(to->y + r * to->ldy, y[r], n * sizeof(float));
}

/* Many rows of x turned. */
static void gemm_turned(const struct product *g, const uint32_t *index, size_t panel_begin, size_t panel_end, size_t m)
{
    const fs_mat *w = g->w;

    assert(!w->codes && w->dtype == FS_DTYPE_F32);
    for (size_t t0 = 0; t0 < m; t0 += BLOCK_ROWS) {
        size_t n_t = m - t0 < BLOCK_ROWS ? m - t0 : BLOCK_ROWS;
        for (size_t k0 = 0; k0 < w->k; k0 += FS_CHAIN) {
            size_t n_k = w->k - k0 < FS_CHAIN ? w->k - k0 : FS_CHAIN;
            bring_together(g->x + t0 + (index ? 0 : k0 * g->ldx), g->ldx, index ? index + k0 : NULL, n_k, n_t, g->scratch);
            for (size_t panel = panel_begin; panel < panel_end; panel += PANELS) {
                int panels = (int)(panel_end - panel < PANELS ? panel_end - panel : PANELS);
                const uint8_t *src = w->data + panel * w->panel_bytes + k0 * FS_PANEL * sizeof(float);
                struct ahead next = { 0 };
                if (panel + 2 * PANELS <= panel_end)
                    next = ahead_of(src + PANELS * w->panel_bytes, w->panel_bytes, n_k, (n_t + ROWS - 1) / ROWS);
                for (size_t t = 0; t < n_t; t += ROWS) {
                    struct sink to = sink_of(g, panel, t0 + t, k0);
                    const float *x = g->scratch + t / ROWS * GROUP_FLOATS;
                    fetch_share(&next);
                    if (n_t - t < ROWS)
                        turned_rest(n_t - t, src, w->panel_bytes, panels, x, n_k, &to);
                    else
                        turned(src, w->panel_bytes, panels, x, n_k, &to);
                }
            }
        }
    }
}

INLINE void gemm(const struct product *g, size_t panel_begin, size_t panel_end, size_t m)
{
    typedef void few_fn(const struct product *g, size_t panel_begin, size_t panel_end);
#define NAME(rows) few_##rows,
    static few_fn *const fews[] = { NULL, EACH_ROWS(NAME) };
#undef NAME

    assert(!g->w->codes);
    if (g->w->k == 0 && g->add)
        return;
    if (g->w->k == 0) /* no chunk: y = +0 */
        fs_gemm_ref(g->w, panel_begin, panel_end, g->x, g->ldx, m, g->bias, g->y, g->ldy, g->scratch);
    else if (m > ROWS)
        many_rows(g, panel_begin, panel_end, m);
    else if (m)
        fews[m](g, panel_begin, panel_end);
}

#endif
