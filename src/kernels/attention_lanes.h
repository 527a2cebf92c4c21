/* Grouped-query attention over sixteen lanes, included by attention_avx2.c, attention_avx512.c and attention_neon.c after
 * they have named their instruction set (lanes.h), ROWS and COLUMNS: how many registers of sixteen a step holds at once.
 *
 * A row is one query and head. Scores are vectorised over keys, 16 a panel, values over value_dim. Within a block every
 * row goes through all visible keys in ascending order, so nothing here can change a bit: rows that share a step share
 * its loads only.
 *
 * scratch: scores [rows][256] | a block's outputs [rows][value_dim]. */
#include "kernels/attention_blocks.h"

struct rows {
    const fs_attention_tile *t;
    size_t n;
    const float *q[ROWS_MAX];
    size_t n_keys[ROWS_MAX]; /* visible, rising */
    float *scores;
};

/* fl(scale * A256(q, k)) of rows x columns panels; y is row r's at y + r * FS_KV_BLOCK. step: floats from one panel
 * to the next. */
INLINE void scores_step(const int rows, const int columns, const float *const *q, const float *k, size_t step,
                        size_t key_dim, float scale, float *y)
{
    lanes total[ROWS][COLUMNS], s[ROWS][COLUMNS];

    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < columns; c++)
            total[r][c] = lanes_set1(0.0f);
    for (size_t d0 = 0; d0 < key_dim; d0 += CHAIN) {
        size_t end = key_dim - d0 < CHAIN ? key_dim : d0 + CHAIN;

        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int c = 0; c < columns; c++)
                s[r][c] = lanes_set1(0.0f);
        for (size_t d = d0; d < end; d++) {
            lanes key[COLUMNS];
            UNROLL for (int c = 0; c < columns; c++)
                key[c] = lanes_load(k + (size_t)c * step + d * LANES);
            UNROLL for (int r = 0; r < rows; r++)
            {
                lanes a = lanes_set1(q[r][d]);
                UNROLL for (int c = 0; c < columns; c++)
                    s[r][c] = lanes_fma(a, key[c], s[r][c]);
            }
        }
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int c = 0; c < columns; c++)
                total[r][c] = lanes_add(total[r][c], s[r][c]);
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < columns; c++)
            lanes_store(y + r * FS_KV_BLOCK + c * LANES, lanes_mul(lanes_set1(scale), total[r][c]));
}

/* o = fma(p_j, v_j, o) for rows x columns registers of value dims, o from +0, j < n. */
INLINE void values_step(const int rows, const int columns, const float *p, const float *v, size_t v_stride, size_t n,
                        float *const *o)
{
    lanes s[ROWS][COLUMNS];

    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < columns; c++)
            s[r][c] = lanes_set1(0.0f);
    for (size_t j = 0; j < n; j++, v += v_stride) {
        lanes x[COLUMNS];
        UNROLL for (int c = 0; c < columns; c++)
            x[c] = lanes_load(v + c * LANES);
        UNROLL for (int r = 0; r < rows; r++)
        {
            lanes a = lanes_set1(p[(size_t)r * FS_KV_BLOCK + j]);
            UNROLL for (int c = 0; c < columns; c++)
                s[r][c] = lanes_fma(a, x[c], s[r][c]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < columns; c++)
            lanes_store(o[r] + c * LANES, s[r][c]);
}

#define DEFINE_STEPS(rows)                                                                                             \
    static void scores_##rows(bool wide, const float *const *q, const float *k, size_t step, size_t key_dim,           \
                              float scale, float *y)                                                                   \
    {                                                                                                                  \
        if (wide)                                                                                                      \
            scores_step(rows, COLUMNS, q, k, step, key_dim, scale, y);                                                 \
        else                                                                                                           \
            scores_step(rows, 1, q, k, step, key_dim, scale, y);                                                       \
    }                                                                                                                  \
    static void values_##rows(bool wide, const float *p, const float *v, size_t v_stride, size_t n, float *const *o)   \
    {                                                                                                                  \
        if (wide)                                                                                                      \
            values_step(rows, COLUMNS, p, v, v_stride, n, o);                                                          \
        else                                                                                                           \
            values_step(rows, 1, p, v, v_stride, n, o);                                                                \
    }
#if ROWS == 6
#define EACH_ROWS(F) F(1) F(2) F(3) F(4) F(5) F(6)
#elif ROWS == 3
#define EACH_ROWS(F) F(1) F(2) F(3)
#endif
EACH_ROWS(DEFINE_STEPS)

typedef void scores_fn(bool wide, const float *const *q, const float *k, size_t step, size_t key_dim, float scale, float *y);
typedef void values_fn(bool wide, const float *p, const float *v, size_t v_stride, size_t n, float *const *o);
#define SCORES_NAME(rows) scores_##rows,
#define VALUES_NAME(rows) values_##rows,
static scores_fn *const scores_steps[] = { NULL, EACH_ROWS(SCORES_NAME) };
static values_fn *const values_steps[] = { NULL, EACH_ROWS(VALUES_NAME) };

/* Scores of the n keys from j0 on for rows [first, w->n). */
static void block_scores(const struct rows *w, size_t j0, size_t n, size_t first)
{
    const fs_attention_tile *t = w->t;
    size_t step = t->key_dim * LANES, n_panels = (n + LANES - 1) / LANES;

    for (size_t c = 0; c < n_panels;) {
        bool wide = n_panels - c >= COLUMNS;
        const float *k = t->k + (j0 / LANES + c) * step;

        for (size_t r = first; r < w->n;) {
            size_t rows = w->n - r < ROWS ? w->n - r : ROWS;
            scores_steps[rows](wide, w->q + r, k, step, t->key_dim, t->scale, w->scores + r * FS_KV_BLOCK + c * LANES);
            r += rows;
        }
        c += wide ? COLUMNS : 1;
    }
}

/* The n scores s become exp(s - max), the rest of their last register 0. */
static void softmax(float *s, size_t n, float *ret_max, float *ret_sum)
{
    size_t end = (n + LANES - 1) / LANES * LANES;
    lanes v = lanes_set1(s[0]), l = lanes_set1(0.0f), m;
    float lane[LANES], max = s[0];

    for (size_t j = n; j < end; j++)
        s[j] = s[0];
    for (size_t j = 0; j < end; j += LANES)
        v = lanes_max(lanes_load(s + j), v);
    lanes_store(lane, v);
    for (int i = 0; i < LANES; i++)
        max = lane[i] > max ? lane[i] : max;
    m = lanes_set1(max);
    for (size_t j = 0; j < end; j += LANES)
        lanes_store(s + j, lanes_exp(lanes_sub(lanes_load(s + j), m)));
    for (size_t j = n; j < end; j++)
        s[j] = 0.0f;
    for (size_t j = 0; j < end; j += LANES)
        l = lanes_add(l, lanes_load(s + j));
    *ret_max = max;
    *ret_sum = lanes_fold(l);
}

static void sum_values(const float *p, const float *v, size_t v_stride, size_t n, size_t from, size_t dims, float *o)
{
    for (size_t d = 0; d < dims; d += LANES) {
        size_t width = dims - d < LANES ? dims - d : LANES;
        lanes s = from ? lanes_load_n(o + d, width) : lanes_set1(0.0f);
        for (size_t j = from; j < n; j++)
            s = lanes_fma(lanes_set1(p[j]), lanes_load_n(v + j * v_stride + d, width), s);
        lanes_store_n(o + d, s, width);
    }
}

/* o[r] for rows [first, w->n) over the block's keys. */
static void block_values(const struct rows *w, size_t j0, size_t first, float *const *o)
{
    const float *v = w->t->v + j0 * w->t->v_stride;
    size_t v_stride = w->t->v_stride, dims = w->t->value_dim, whole = dims / LANES * LANES;
    size_t n[ROWS_MAX];

    for (size_t r = first; r < w->n; r++)
        n[r] = in_block(w->n_keys[r], j0);
    for (size_t d = 0; d < whole;) {
        bool wide = whole - d >= COLUMNS * LANES;
        for (size_t r = first; r < w->n;) {
            size_t rows = w->n - r < ROWS ? w->n - r : ROWS;
            float *part[ROWS];
            for (size_t i = 0; i < rows; i++)
                part[i] = o[r + i] + d;
            values_steps[rows](wide, w->scores + r * FS_KV_BLOCK, v + d, v_stride, n[r], part);
            r += rows;
        }
        d += wide ? COLUMNS * LANES : LANES;
    }
    for (size_t r = first; r < w->n; r++) {
        size_t shared = n[first + (r - first) / ROWS * ROWS]; /* what the first row of its step sees */
        if (whole && n[r] > shared)
            sum_values(w->scores + r * FS_KV_BLOCK, v, v_stride, n[r], shared, whole, o[r]);
        if (whole < dims)
            sum_values(w->scores + r * FS_KV_BLOCK, v + whole, v_stride, n[r], 0, dims - whole, o[r] + whole);
    }
}

static void init_rows(struct rows *w, const fs_attention_tile *t, void *scratch)
{
    w->t = t;
    w->n = t->n_q * t->n_heads;
    w->scores = scratch;
    assert(w->n <= ROWS_MAX);
    for (size_t r = 0; r < w->n; r++) {
        w->q[r] = query_of(t, r);
        w->n_keys[r] = keys_of(t, r);
    }
}

/* The rows that see keys of the block from j0 on: m, l and o of each. The index of the first of them. */
static size_t attend_block(const void *rows, size_t j0, float *m, float *l, float *const *o)
{
    const struct rows *w = rows;
    size_t first = first_row(w->t, j0);

    block_scores(w, j0, in_block(w->n_keys[w->n - 1], j0), first);
    for (size_t r = first; r < w->n; r++)
        softmax(w->scores + r * FS_KV_BLOCK, in_block(w->n_keys[r], j0), &m[r], &l[r]);
    block_values(w, j0, first, o);
    return first;
}

DEFINE_KERNELS(gqa, rows, init_rows, attend_block)

#include "kernels/attention_latent.h"
