/* Products of RN1-bf16 over sixteen lanes, included by pair_products_*.c after they have named their instruction set and
 *
 *   ROWS    rows of x that a step takes at most
 *   PANELS  panels it takes then
 *   TILES   rows times panels of any step at most: fewer rows take up to eight panels
 *
 * A chain lives in one lane, so the only freedom is how many run side by side. A block of rows is rounded 256 inputs at a time
 * to where no two rows meet in a cache set; the panels' pairs are read as they lie. Steps are functions of their own: they run
 * with denormals flushed (pairs_lanes.h). */
#include "kernels/pair_products_isa.h"
#include "kernels/pairs_lanes.h"
#include "kernels/products_isa.h"
#include "kernels/transpose.h"

#include <assert.h>

#define CHAIN_PAIRS  (FS_CHAIN / 2)
#define PANELS_MAX   8
#define BLOCK_ROWS   ((size_t)192)
#define BLOCK_STRIDE ((size_t)CHAIN_PAIRS + 16)
#define GROUP_PAIRS  ((size_t)ROWS * CHAIN_PAIRS + 16) /* of turned x, [CHAIN_PAIRS][ROWS]; a vector may be stored at the last */
#define STEP         static __attribute__((noinline))

_Static_assert(BLOCK_ROWS * BLOCK_STRIDE * sizeof(fs_pair) <= FS_GEMM_SCRATCH_BYTES, "scratch");
_Static_assert(BLOCK_ROWS % ROWS == 0 && ROWS * PANELS <= TILES, "blocks");
_Static_assert(BLOCK_ROWS / ROWS * GROUP_PAIRS * sizeof(fs_pair) <= FS_GEMM_SCRATCH_BYTES && ROWS <= LANES, "groups");

/* Where a chain's sums go. */
struct sink {
    float *y;      /* of the first row and output */
    size_t ldy, n; /* outputs there are from y on */
    bool first;
};

/* One chunk of n pairs for rows x panels, constants at every call. step: pairs from one panel to the next; pair i of row r is x[r * ldx + i * next]. */
INLINE void chunk(const int rows, const int panels, const fs_pair *w, size_t step, const fs_pair *x, size_t ldx, size_t next, size_t n,
                  const struct sink *to)
{
    lanes s[ROWS][PANELS_MAX];

    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int p = 0; p < panels; p++)
            s[r][p] = lanes_set1(0.0f);
    for (size_t i = 0; i < n; i++) {
        pairs v[PANELS_MAX];
        UNROLL for (int p = 0; p < panels; p++)
            v[p] = pairs_load(w + (size_t)p * step + i * LANES);
        UNROLL for (int r = 0; r < rows; r++)
        {
            pairs a = pairs_set1(x[(size_t)r * ldx + i * next]);
            UNROLL for (int p = 0; p < panels; p++)
                s[r][p] = lanes_dot(s[r][p], a, v[p]);
        }
    }
    if (to->n >= (size_t)panels * LANES) {
        const bool first = to->first;
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int p = 0; p < panels; p++)
            {
                float *y = to->y + (size_t)r * to->ldy + p * LANES;
                lanes_store(y, lanes_add_flushed(first ? lanes_set1(0.0f) : lanes_load(y), s[r][p]));
            }
        return;
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int p = 0; p < panels; p++)
        {
            float *y = to->y + (size_t)r * to->ldy + p * LANES;
            size_t n_out = to->n - (size_t)p * LANES < LANES ? to->n - (size_t)p * LANES : LANES;
            lanes_store_n(y, lanes_add_flushed(to->first ? lanes_set1(0.0f) : lanes_load_n(y, n_out), s[r][p]), n_out);
        }
}

typedef void step_fn(int panels, const fs_pair *w, size_t step, const fs_pair *x, size_t n, const struct sink *to);

#define OF_PANELS(rows, panels, ldx, next)                                                      \
    case panels:                                                                                \
        if ((rows) * (panels) <= TILES)                                                         \
            chunk(rows, (rows) * (panels) <= TILES ? panels : 1, w, step, x, ldx, next, n, to); \
        break
#define DEFINE_STEP(name, rows, ldx, next)                                                                                       \
    STEP void name(int panels, const fs_pair *w, size_t step, const fs_pair *x, size_t n, const struct sink *to)                 \
    {                                                                                                                            \
        switch (panels) {                                                                                                        \
            OF_PANELS(rows, 8, ldx, next);                                                                                       \
            OF_PANELS(rows, 4, ldx, next);                                                                                       \
            OF_PANELS(rows, 2, ldx, next);                                                                                       \
            OF_PANELS(rows, 1, ldx, next);                                                                                       \
        }                                                                                                                        \
    }
#define DEFINE_STEP_OF(rows) DEFINE_STEP(step_##rows, rows, BLOCK_STRIDE, 1)
#if ROWS == 12
#define EACH_ROWS(F) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12)
#elif ROWS == 4
#define EACH_ROWS(F) F(1) F(2) F(3) F(4)
#endif
EACH_ROWS(DEFINE_STEP_OF)
DEFINE_STEP(turned, ROWS, 1, ROWS)
#define STEP_NAME(rows) step_##rows,
static step_fn *const steps[] = { NULL, EACH_ROWS(STEP_NAME) };

static void round_row(const float *x, size_t n, fs_pair *ret)
{
    size_t i = 0;

    for (; i + 2 * LANES <= n; i += 2 * LANES)
        pairs_store(ret + i / 2, pairs_round(x + i));
    for (; i < n; i += 2)
        ret[i / 2] = fs_pair_of(x[i], i + 1 < n ? x[i + 1] : 0.0f);
}

/* All panels of one chunk for n_t rounded rows. */
static void panels_of_chunk(const fs_mat *w, size_t panel, size_t panel_end, size_t k0, const fs_pair *x, size_t n_t, float *y, size_t ldy, bool first)
{
    size_t n = fs_pairs(w->k - k0 < FS_CHAIN ? w->k - k0 : FS_CHAIN), step = w->panel_bytes / sizeof(fs_pair), panels = PANELS;
    unsigned before;

    if (n_t < ROWS)
        for (panels = PANELS_MAX; panels * n_t > TILES; panels /= 2)
            ;
    before = pairs_begin();
    while (panel < panel_end) {
        const fs_pair *src = (const fs_pair *)(const void *)(w->data + panel * w->panel_bytes) + k0 / 2 * LANES;
        while (panels > panel_end - panel)
            panels /= 2;
        for (size_t t = 0; t < n_t; t += ROWS) {
            struct sink to = { y + t * ldy + panel * LANES, ldy, w->n - panel * LANES, first };
            steps[n_t - t < ROWS ? n_t - t : ROWS]((int)panels, src, step, x + t * BLOCK_STRIDE, n, &to);
        }
        panel += panels;
    }
    pairs_end(before);
}

static void add_bias(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *bias, size_t m, float *y, size_t ldy)
{
    size_t end = panel_end * LANES < w->n ? panel_end * LANES : w->n;

    for (size_t t = 0; t < m; t++)
        for (size_t o = panel_begin * LANES; o < end; o += LANES) {
            size_t n = end - o < LANES ? end - o : LANES;
            lanes_store_n(y + t * ldy + o, lanes_add(lanes_load_n(y + t * ldy + o, n), lanes_load_n(bias + o, n)), n);
        }
}

static void run(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m, float *y, size_t ldy, bool add, void *scratch)
{
    fs_pair *block = scratch;

    assert(w->pairs);
    for (size_t t0 = 0; t0 < m; t0 += BLOCK_ROWS) {
        size_t n_t = m - t0 < BLOCK_ROWS ? m - t0 : BLOCK_ROWS;
        for (size_t k0 = 0; k0 < w->k; k0 += FS_CHAIN) {
            size_t n_k = w->k - k0 < FS_CHAIN ? w->k - k0 : FS_CHAIN;
            for (size_t t = 0; t < n_t; t++)
                round_row(x + (t0 + t) * ldx + k0, n_k, block + t * BLOCK_STRIDE);
            panels_of_chunk(w, panel_begin, panel_end, k0, block, n_t, y + t0 * ldy, ldy, k0 == 0 && !add);
        }
    }
}

static void gemm(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m, const float *bias, float *y, size_t ldy,
                 void *scratch)
{
    if (w->k == 0) { /* no chunk: y = +0 */
        fs_pair_ref.gemm(w, panel_begin, panel_end, x, ldx, m, bias, y, ldy, scratch);
        return;
    }
    run(w, panel_begin, panel_end, x, ldx, m, y, ldy, false, scratch);
    if (bias)
        add_bias(w, panel_begin, panel_end, bias, m, y, ldy);
}

static void gemm_add(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m, float *y, size_t ldy, void *scratch)
{
    run(w, panel_begin, panel_end, x, ldx, m, y, ldy, true, scratch);
}

/* x [n_k, n_t], its rows those of index, rounded, by groups of ROWS columns. A store may reach over what the next one of its group writes. */
static void bring_together(const float *x, size_t ldx, const uint32_t *index, size_t n_k, size_t n_t, fs_pair *groups)
{
    for (size_t k = 0; k < n_k; k += 2) {
        const float *a = x + (index ? index[k] : k) * ldx, *b = k + 1 < n_k ? x + (index ? index[k + 1] : k + 1) * ldx : NULL;
        for (size_t t = 0; t < n_t; t += ROWS) {
            size_t n = n_t - t < ROWS ? n_t - t : ROWS;
            bool whole = n_t - t >= LANES;
            lanes first = whole ? lanes_load(a + t) : lanes_load_n(a + t, n);
            lanes second = !b ? lanes_set1(0.0f) : whole ? lanes_load(b + t) : lanes_load_n(b + t, n);
            pairs_store(groups + t / ROWS * GROUP_PAIRS + k / 2 * ROWS, pairs_join(lanes_bf16(first), lanes_bf16(second)));
        }
    }
}

/* A group of fewer than ROWS, through a block that holds what they add to. */
static void turned_rest(size_t rows, int panels, const fs_pair *w, size_t step, const fs_pair *x, size_t n, const struct sink *to)
{
    size_t outputs = to->n < (size_t)panels * LANES ? to->n : (size_t)panels * LANES;
    float y[ROWS][PANELS * LANES] = { 0 };
    struct sink part = { .y = y[0], .ldy = PANELS * LANES, .n = outputs };

    for (size_t r = 0; r < rows; r++)
        memcpy(y[r], to->y + r * to->ldy, outputs * sizeof(float));
    turned(panels, w, step, x, n, &part);
    for (size_t r = 0; r < rows; r++)
        memcpy(to->y + r * to->ldy, y[r], outputs * sizeof(float));
}

/* All panels of one chunk for n_t columns brought together. */
static void turned_panels(const fs_mat *w, size_t panel, size_t panel_end, size_t k0, const fs_pair *groups, size_t n_t, float *y, size_t ldy)
{
    size_t n = fs_pairs(w->k - k0 < FS_CHAIN ? w->k - k0 : FS_CHAIN), step = w->panel_bytes / sizeof(fs_pair), panels = PANELS;
    unsigned before = pairs_begin();

    for (; panel < panel_end; panel += panels) {
        const fs_pair *src = (const fs_pair *)(const void *)(w->data + panel * w->panel_bytes) + k0 / 2 * LANES;
        while (panels > panel_end - panel)
            panels /= 2;
        for (size_t t = 0; t < n_t; t += ROWS) {
            struct sink to = { y + t * ldy + panel * LANES, ldy, w->n - panel * LANES, false };
            const fs_pair *x = groups + t / ROWS * GROUP_PAIRS;
            if (n_t - t < ROWS)
                turned_rest(n_t - t, (int)panels, src, step, x, n, &to);
            else
                turned((int)panels, src, step, x, n, &to);
        }
    }
    pairs_end(before);
}

static void gemm_turned(const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, const uint32_t *index, size_t m, float *y,
                        size_t ldy, void *scratch)
{
    assert(w->pairs);
    for (size_t t0 = 0; t0 < m; t0 += BLOCK_ROWS) {
        size_t n_t = m - t0 < BLOCK_ROWS ? m - t0 : BLOCK_ROWS;
        for (size_t k0 = 0; k0 < w->k; k0 += FS_CHAIN) {
            size_t n_k = w->k - k0 < FS_CHAIN ? w->k - k0 : FS_CHAIN;
            bring_together(x + t0 + (index ? 0 : k0 * ldx), ldx, index ? index + k0 : NULL, n_k, n_t, scratch);
            turned_panels(w, panel_begin, panel_end, k0, scratch, n_t, y + t0 * ldy, ldy);
        }
    }
}

/* Sixteen pairs of each row, turned by fours. */
static void pack_rows(const float *src, size_t stride, size_t n, size_t k, fs_pair *panel)
{
    fs_pair rounded[FS_PANEL][LANES] = { 0 };

    for (size_t c = 0; c < k; c += 2 * LANES) {
        size_t width = k - c < 2 * LANES ? k - c : 2 * LANES, words = fs_pairs(width);
        v4u32 a[16];
        for (size_t r = 0; r < n; r++)
            round_row(src + r * stride + c, width, rounded[r]);
        for (size_t i = 0; i < words; i += 4) {
            fs_pair out[4 * FS_PANEL];
            UNROLL for (int r = 0; r < 16; r++)
                memcpy(&a[r], &rounded[r][i], sizeof a[r]);
            transpose_32(a);
            memcpy(out, a, sizeof a);
            memcpy(panel + (c / 2 + i) * FS_PANEL, out, (words - i < 4 ? words - i : 4) * FS_PANEL * sizeof *panel);
        }
    }
}

static void pack_columns(const float *src, size_t stride, const uint32_t *index, size_t n, size_t k, fs_pair *panel)
{
    for (size_t i = 0; i < k; i += 2, panel += LANES) {
        const float *a = src + (index ? index[i] : i) * stride, *b = i + 1 < k ? src + (index ? index[i + 1] : i + 1) * stride : NULL;
        lanes first = n == LANES ? lanes_load(a) : lanes_load_n(a, n);
        lanes second = !b ? lanes_set1(0.0f) : n == LANES ? lanes_load(b) : lanes_load_n(b, n);
        pairs_store(panel, pairs_join(lanes_bf16(first), lanes_bf16(second)));
    }
}

#define PAIR_KERNELS { gemm, gemm_add, gemm_turned, pack_rows, pack_columns }
