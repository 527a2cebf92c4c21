/* Attention of class RN1-bf16 over sixteen lanes, included by attention_pairs_*.c and attention_bf16.c after they have
 * named their instruction set and how many registers of sixteen a step holds: ROWS and COLUMNS of the scores and values of
 * grouped queries, LATENT_KEYS of latent scores, VALUE_ROWS rows of two registers of latent values.
 *
 * The forms are those of attention_lanes.h and attention_latent.h, a pair of elements in the place of one: scores of
 * grouped queries are vectorised over keys, of latent ones over rows, values over value_dim. A latent row has its pairs
 * along the elements, as scores want them; where two rows meet in a sum of values they are paired on the way.
 *
 * Steps are functions of their own: they run with denormals flushed (pairs_lanes.h).
 *
 * scratch, gqa: scores [rows][256] | a block's outputs [rows][value_dim] | q [rows][pairs of key_dim]
 *          mla: scores [groups][256][16] | a block's outputs | q in panels [groups][pairs of key_dim][16]
 * Probabilities take the place of the scores they come from, two keys a word. */
#include "kernels/attention_blocks.h"
#include "kernels/pairs_lanes.h"

#define CHAIN_PAIRS (CHAIN / 2)
#define STEP        static __attribute__((noinline))

/* ---- grouped queries ---- */

struct rows {
    const fs_attention_tile *t;
    size_t n, n_pairs;       /* n_pairs: of a key */
    size_t n_keys[ROWS_MAX]; /* visible, rising */
    float *scores;
    fs_pair *q;
};

/* B256(q, k) of rows x columns panels; y is row r's at y + r * FS_KV_BLOCK. step: pairs from one panel to the next. */
INLINE void scores_step(const int rows, const int columns, const fs_pair *q, size_t n_pairs, const fs_pair *k, size_t step, float *y)
{
    lanes total[ROWS][COLUMNS], s[ROWS][COLUMNS];

    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < columns; c++)
            total[r][c] = lanes_set1(0.0f);
    for (size_t i0 = 0; i0 < n_pairs; i0 += CHAIN_PAIRS) {
        size_t end = n_pairs - i0 < CHAIN_PAIRS ? n_pairs : i0 + CHAIN_PAIRS;

        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int c = 0; c < columns; c++)
                s[r][c] = lanes_set1(0.0f);
        for (size_t i = i0; i < end; i++) {
            pairs key[COLUMNS];
            UNROLL for (int c = 0; c < columns; c++)
                key[c] = pairs_load(k + (size_t)c * step + i * LANES);
            UNROLL for (int r = 0; r < rows; r++)
            {
                pairs a = pairs_set1(q[(size_t)r * n_pairs + i]);
                UNROLL for (int c = 0; c < columns; c++)
                    s[r][c] = lanes_dot(s[r][c], a, key[c]);
            }
        }
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int c = 0; c < columns; c++)
                total[r][c] = lanes_add_flushed(total[r][c], s[r][c]);
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < columns; c++)
            lanes_store(y + r * FS_KV_BLOCK + c * LANES, total[r][c]);
}

/* B256 of probabilities and values for rows x columns registers of value dims over n pairs of keys. */
INLINE void values_step(const int rows, const int columns, const fs_pair *p, const fs_pair *v, size_t v_stride, size_t n, float *const *o)
{
    lanes s[ROWS][COLUMNS];

    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < columns; c++)
            s[r][c] = lanes_set1(0.0f);
    for (size_t j = 0; j < n; j++, v += v_stride) {
        pairs x[COLUMNS];
        UNROLL for (int c = 0; c < columns; c++)
            x[c] = pairs_load(v + c * LANES);
        UNROLL for (int r = 0; r < rows; r++)
        {
            pairs a = pairs_set1(p[(size_t)r * FS_KV_BLOCK + j]);
            UNROLL for (int c = 0; c < columns; c++)
                s[r][c] = lanes_dot(s[r][c], a, x[c]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < columns; c++)
            lanes_store(o[r] + c * LANES, lanes_add_flushed(lanes_set1(0.0f), s[r][c]));
}

typedef void scores_fn(bool wide, const fs_pair *q, size_t n_pairs, const fs_pair *k, size_t step, float *y);
typedef void values_fn(bool wide, const fs_pair *p, const fs_pair *v, size_t v_stride, size_t n, float *const *o);
#define DEFINE_STEPS(rows)                                                                                             \
    STEP void scores_##rows(bool wide, const fs_pair *q, size_t n_pairs, const fs_pair *k, size_t step, float *y)      \
    {                                                                                                                  \
        if (wide)                                                                                                      \
            scores_step(rows, COLUMNS, q, n_pairs, k, step, y);                                                        \
        else                                                                                                           \
            scores_step(rows, 1, q, n_pairs, k, step, y);                                                              \
    }                                                                                                                  \
    STEP void values_##rows(bool wide, const fs_pair *p, const fs_pair *v, size_t v_stride, size_t n, float *const *o) \
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
#define SCORES_NAME(rows) scores_##rows,
#define VALUES_NAME(rows) values_##rows,
static scores_fn *const scores_steps[] = { NULL, EACH_ROWS(SCORES_NAME) };
static values_fn *const values_steps[] = { NULL, EACH_ROWS(VALUES_NAME) };

/* Products of the n keys from j0 on for rows [first, w->n). */
static void block_scores(const struct rows *w, size_t j0, size_t n, size_t first)
{
    size_t step = w->n_pairs * LANES, n_panels = (n + LANES - 1) / LANES;
    unsigned before = pairs_begin();

    for (size_t c = 0; c < n_panels;) {
        bool wide = n_panels - c >= COLUMNS;
        const fs_pair *k = w->t->k16 + (j0 / LANES + c) * step;

        for (size_t r = first; r < w->n;) {
            size_t rows = w->n - r < ROWS ? w->n - r : ROWS;
            scores_steps[rows](wide, w->q + r * w->n_pairs, w->n_pairs, k, step, w->scores + r * FS_KV_BLOCK + c * LANES);
            r += rows;
        }
        c += wide ? COLUMNS : 1;
    }
    pairs_end(before);
}

/* n products y become p = bf16(exp(fl(scale * y) - max)), two a word, 0 behind n up to the next multiple of 32. */
static void softmax(float *s, size_t n, float scale, float *ret_max, float *ret_sum)
{
    size_t end = (n + 2 * LANES - 1) / (2 * LANES) * (2 * LANES);
    lanes v, l = lanes_set1(0.0f), factor = lanes_set1(scale), m;
    float lane[LANES], max = scale * s[0];
    fs_pair *p = (fs_pair *)(void *)s;

    for (size_t j = n; j < end; j++)
        s[j] = s[0];
    v = lanes_set1(max);
    for (size_t j = 0; j < end; j += LANES) {
        lanes x = lanes_mul(factor, lanes_load(s + j));
        lanes_store(s + j, x);
        v = lanes_max(x, v);
    }
    lanes_store(lane, v);
    for (int i = 0; i < LANES; i++)
        max = lane[i] > max ? lane[i] : max;
    m = lanes_set1(max);
    for (size_t j = 0; j < end; j += LANES)
        lanes_store(s + j, lanes_bf16(lanes_exp(lanes_sub(lanes_load(s + j), m))));
    for (size_t j = n; j < end; j++)
        s[j] = 0.0f;
    for (size_t j = 0; j < end; j += LANES)
        l = lanes_add(l, lanes_load(s + j));
    for (size_t j = 0; j < end; j += 2 * LANES) {
        lanes even, odd;
        lanes_load_pairs(s + j, &even, &odd);
        pairs_store(p + j / 2, pairs_join(even, odd));
    }
    *ret_max = max;
    *ret_sum = lanes_fold(l);
}

/* The rest of one row: n keys, whole pairs of which before from are done; the second of an odd last pair is not seen. */
STEP void sum_values(const fs_pair *p, const fs_pair *v, size_t v_stride, size_t n, size_t from, size_t dims, float *o)
{
    for (size_t d = 0; d < dims; d += LANES) {
        size_t width = dims - d < LANES ? dims - d : LANES;
        lanes s = from ? lanes_load_n(o + d, width) : lanes_set1(0.0f);
        for (size_t j = from; j < n / 2; j++)
            s = lanes_dot(s, pairs_set1(p[j]), pairs_load_n(v + j * v_stride + d, width));
        if (n % 2) {
            pairs x = pairs_firsts(pairs_load_n(v + n / 2 * v_stride + d, width), pairs_set1(0));
            s = lanes_dot(s, pairs_set1(p[n / 2]), x);
        }
        lanes_store_n(o + d, lanes_add_flushed(lanes_set1(0.0f), s), width);
    }
}

/* o[r] for rows [first, w->n) over the block's keys. */
static void block_values(const struct rows *w, size_t j0, size_t first, float *const *o)
{
    size_t v_stride = w->t->v_stride, dims = w->t->value_dim, whole = dims / LANES * LANES;
    const fs_pair *v = w->t->v16 + j0 / 2 * v_stride, *p = (const fs_pair *)(const void *)w->scores;
    size_t n[ROWS_MAX];
    unsigned before = pairs_begin();

    for (size_t r = first; r < w->n; r++)
        n[r] = in_block(w->n_keys[r], j0);
    for (size_t d = 0; d < whole;) {
        bool wide = whole - d >= COLUMNS * LANES;
        for (size_t r = first; r < w->n;) {
            size_t rows = w->n - r < ROWS ? w->n - r : ROWS;
            float *part[ROWS];
            for (size_t i = 0; i < rows; i++)
                part[i] = o[r + i] + d;
            values_steps[rows](wide, p + r * FS_KV_BLOCK, v + d, v_stride, n[r] / 2, part);
            r += rows;
        }
        d += wide ? COLUMNS * LANES : LANES;
    }
    for (size_t r = first; r < w->n; r++) {
        size_t shared = n[first + (r - first) / ROWS * ROWS] / 2; /* pairs that the first row of its step sees whole */
        if (whole && n[r] > 2 * shared)
            sum_values(p + r * FS_KV_BLOCK, v, v_stride, n[r], shared, whole, o[r]);
        if (whole < dims)
            sum_values(p + r * FS_KV_BLOCK, v + whole, v_stride, n[r], 0, dims - whole, o[r] + whole);
    }
    pairs_end(before);
}

/* n floats as pairs. */
static void round_row(const float *x, size_t n, fs_pair *y)
{
    size_t d = 0;

    for (; d + 2 * LANES <= n; d += 2 * LANES)
        pairs_store(y + d / 2, pairs_round(x + d));
    for (; d < n; d += 2)
        y[d / 2] = fs_pair_of(x[d], d + 1 < n ? x[d + 1] : 0.0f);
}

static void init_rows(struct rows *w, const fs_attention_tile *t, void *scratch)
{
    w->t = t;
    w->n = t->n_q * t->n_heads;
    w->n_pairs = fs_pairs(t->key_dim);
    w->scores = scratch;
    w->q = (fs_pair *)(void *)(w->scores + ROWS_MAX * (FS_KV_BLOCK + t->value_dim));
    assert(w->n <= ROWS_MAX);
    for (size_t r = 0; r < w->n; r++) {
        round_row(query_of(t, r), t->key_dim, w->q + r * w->n_pairs);
        w->n_keys[r] = keys_of(t, r);
    }
}

static size_t attend_block(const void *rows, size_t j0, float *m, float *l, float *const *o)
{
    const struct rows *w = rows;
    size_t first = first_row(w->t, j0);

    block_scores(w, j0, in_block(w->n_keys[w->n - 1], j0), first);
    for (size_t r = first; r < w->n; r++)
        softmax(w->scores + r * FS_KV_BLOCK, in_block(w->n_keys[r], j0), w->t->scale, &m[r], &l[r]);
    block_values(w, j0, first, o);
    return first;
}

DEFINE_KERNELS(gqa16, rows, init_rows, attend_block)

/* ---- latent rows ---- */

struct latent_rows {
    const fs_attention_tile *t;
    size_t n, n_groups, n_pairs;
    float *scores;
    fs_pair *panels;
};

/* n <= 16 rows of key_dim floats as a panel [pairs][16]; missing rows are zero. */
static void latent_pack(const float *const *rows, size_t n, size_t key_dim, fs_pair *panel)
{
    size_t d = 0;

    for (; d + 2 * LANES <= key_dim; d += 2 * LANES) {
        fs_pair x[LANES][LANES] = { 0 };
        for (size_t r = 0; r < n; r++)
            pairs_store(x[r], pairs_round(rows[r] + d));
        for (size_t i = 0; i < LANES; i += 4) {
            v4u32 a[16];
            UNROLL for (size_t r = 0; r < 16; r++)
                memcpy(&a[r], x[r] + i, sizeof a[r]);
            transpose_32(a);
            memcpy(panel + (d / 2 + i) * LANES, a, sizeof a);
        }
    }
    for (; d < key_dim; d += 2)
        for (size_t r = 0; r < 16; r++)
            panel[d / 2 * LANES + r] = r < n ? fs_pair_of(rows[r][d], d + 1 < key_dim ? rows[r][d + 1] : 0.0f) : 0;
}

/* y[c] += the chain over n pairs of one chunk, for a few keys. */
INLINE void latent_step(const int keys, const fs_pair *q, const fs_pair *k, size_t stride, size_t n, bool first, float *y)
{
    lanes s[LATENT_KEYS];
    size_t i = 0;

    UNROLL for (int c = 0; c < keys; c++)
        s[c] = lanes_set1(0.0f);
    for (; i + 4 <= n; i += 4) {
        pairs a[4];
        const fs_pair *x = k + i;
        for (size_t c = i / 4 % 4; c < (size_t)keys; c += 4) /* the keys behind these: a line of each while one passes */
            __builtin_prefetch((const void *)((uintptr_t)k + ((size_t)keys + c) * stride * sizeof *k + i / LANES * 64), 0, 2);
        UNROLL for (int b = 0; b < 4; b++)
            a[b] = pairs_load(q + (i + (size_t)b) * LANES);
        UNROLL for (int c = 0; c < keys; c++, x += stride)
            UNROLL for (int b = 0; b < 4; b++)
                s[c] = lanes_dot(s[c], a[b], pairs_set1(x[b]));
    }
    for (; i < n; i++) {
        pairs a = pairs_load(q + i * LANES);
        UNROLL for (int c = 0; c < keys; c++)
            s[c] = lanes_dot(s[c], a, pairs_set1(k[(size_t)c * stride + i]));
    }
    UNROLL for (int c = 0; c < keys; c++)
        lanes_store(y + c * LANES, lanes_add_flushed(first ? lanes_set1(0.0f) : lanes_load(y + c * LANES), s[c]));
}

typedef void latent_fn(const fs_pair *q, const fs_pair *k, size_t stride, size_t n, bool first, float *y);
#define DEFINE_LATENT(keys)                                                                                      \
    STEP void latent_##keys(const fs_pair *q, const fs_pair *k, size_t stride, size_t n, bool first, float *y)   \
    {                                                                                                            \
        latent_step(keys, q, k, stride, n, first, y);                                                            \
    }
DEFINE_LATENT(1)
DEFINE_LATENT(2)
DEFINE_LATENT(4)
#if LATENT_KEYS == 16
DEFINE_LATENT(8)
DEFINE_LATENT(16)
#endif
static const struct latent_size {
    size_t n;
    latent_fn *fn;
} latent_sizes[] = {
#if LATENT_KEYS == 16
    { 16, latent_16 }, { 8, latent_8 },
#endif
    { 4, latent_4 }, { 2, latent_2 }, { 1, latent_1 }
};

/* Products of n_keys keys with groups [begin, end). A few keys stay in the first-level cache while every group's chunk
 * passes by. */
static void latent_scores(const struct latent_rows *w, size_t begin, size_t end, const fs_pair *keys, size_t n_keys)
{
    const struct latent_size *size = latent_sizes;
    unsigned before = pairs_begin();

    for (size_t j = 0; j < n_keys; j += size->n) {
        const fs_pair *k = keys + j * w->n_pairs;
        while (size->n > n_keys - j)
            size++;
        for (size_t i = 0; i < w->n_pairs; i += CHAIN_PAIRS) {
            size_t n = w->n_pairs - i < CHAIN_PAIRS ? w->n_pairs - i : CHAIN_PAIRS;
            for (size_t g = begin; g < end; g++)
                size->fn(w->panels + (g * w->n_pairs + i) * LANES, k + i, w->n_pairs, n, i == 0, w->scores + (g * FS_KV_BLOCK + j) * LANES);
        }
    }
    pairs_end(before);
}

/* One group's products become p, two keys a word: word j/2 of lane r, 0 where it sees no key. Lane r sees the first
 * visible[r]. Every lane is a row, so the order of a row's additions is the order of the loop. */
static void latent_softmax(float *s, const size_t *visible, float scale, float *ret_m, float *ret_l)
{
    size_t n, shared;
    lanes m, factor = lanes_set1(scale);
    fs_pair *p = (fs_pair *)(void *)s;

    visible_range(visible, &shared, &n);
    hide(s, visible, shared, n, true);
    m = lanes_mul(factor, lanes_load(s));
    for (size_t j = 0; j < n; j++) {
        lanes x = lanes_mul(factor, lanes_load(s + j * LANES));
        lanes_store(s + j * LANES, x);
        m = lanes_max(x, m);
    }
    for (size_t j = 0; j < n; j++)
        lanes_store(s + j * LANES, lanes_bf16(lanes_exp(lanes_sub(lanes_load(s + j * LANES), m))));
    hide(s, visible, shared, n, false);
    sum_lanes(s, n, NULL, ret_l);
    for (size_t j = 0; j < n; j += 2)
        pairs_store(p + j / 2 * LANES,
                    pairs_join(lanes_load(s + j * LANES), j + 1 < n ? lanes_load(s + (j + 1) * LANES) : lanes_set1(0.0f)));
    lanes_store(ret_m, m);
}

/* B256 of probabilities and the values 2i .. 2i + 31 over n pairs of keys. v: at word i. */
INLINE void latent_values_step(const int rows, const fs_pair *p, const fs_pair *v, size_t stride, size_t n, size_t d, float *const *o)
{
    lanes s[VALUE_ROWS][2];

    UNROLL for (int r = 0; r < rows; r++)
        s[r][0] = s[r][1] = lanes_set1(0.0f);
    for (size_t j = 0; j < n; j++, v += 2 * stride, p += LANES) {
        pairs a = pairs_load(v), b = pairs_load(v + stride), even = pairs_firsts(a, b), odd = pairs_seconds(a, b);
        UNROLL for (int r = 0; r < rows; r++)
        {
            pairs x = pairs_set1(p[r]);
            s[r][0] = lanes_dot(s[r][0], x, even);
            s[r][1] = lanes_dot(s[r][1], x, odd);
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        lanes_store_pairs(o[r] + d, lanes_add_flushed(lanes_set1(0.0f), s[r][0]), lanes_add_flushed(lanes_set1(0.0f), s[r][1]));
}

typedef void latent_values_fn(const fs_pair *p, const fs_pair *v, size_t stride, size_t n, size_t d, float *const *o);
#define DEFINE_LATENT_VALUES(rows)                                                                                          \
    STEP void latent_values_##rows(const fs_pair *p, const fs_pair *v, size_t stride, size_t n, size_t d, float *const *o)  \
    {                                                                                                                       \
        latent_values_step(rows, p, v, stride, n, d, o);                                                                    \
    }
#if VALUE_ROWS == 8
#define EACH_VALUE_ROWS(F) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8)
#elif VALUE_ROWS == 3
#define EACH_VALUE_ROWS(F) F(1) F(2) F(3)
#endif
EACH_VALUE_ROWS(DEFINE_LATENT_VALUES)
#define LATENT_VALUES_NAME(rows) latent_values_##rows,
static latent_values_fn *const latent_values_steps[] = { NULL, EACH_VALUE_ROWS(LATENT_VALUES_NAME) };

/* The rest of one row: n keys, whole pairs of which before from are done; dims values from word 0 of v on. */
STEP void latent_values_rest(const fs_pair *p, const fs_pair *v, size_t stride, size_t from, size_t n, size_t dims, float *o)
{
    for (size_t d = 0; d < dims; d += 2 * LANES) {
        size_t width = dims - d < 2 * LANES ? dims - d : 2 * LANES, words = fs_pairs(width);
        lanes s[2] = { lanes_set1(0.0f), lanes_set1(0.0f) };
        float y[2 * LANES] = { 0 };
        if (from) {
            memcpy(y, o + d, width * sizeof *y);
            lanes_load_pairs(y, &s[0], &s[1]);
        }
        for (size_t j = 2 * from; j < n; j += 2) {
            pairs a = pairs_load_n(v + j * stride + d / 2, words), x = pairs_set1(p[j / 2 * LANES]), b = pairs_set1(0);
            if (j + 1 < n)
                b = pairs_load_n(v + (j + 1) * stride + d / 2, words);
            s[0] = lanes_dot(s[0], x, pairs_firsts(a, b));
            s[1] = lanes_dot(s[1], x, pairs_seconds(a, b));
        }
        lanes_store_pairs(y, lanes_add_flushed(lanes_set1(0.0f), s[0]), lanes_add_flushed(lanes_set1(0.0f), s[1]));
        memcpy(o + d, y, width * sizeof *y);
    }
}

/* o[r] of n_rows rows of one group, whose visible rise and are not 0. */
static void latent_values(const fs_pair *p, const size_t *visible, size_t n_rows, const fs_pair *keys, size_t stride, size_t value_dim,
                          float *const *o)
{
    size_t whole = value_dim / (2 * LANES) * (2 * LANES);
    unsigned before = pairs_begin();

    for (size_t d = 0; d < whole; d += 2 * LANES)
        for (size_t r = 0; r < n_rows; r += VALUE_ROWS)
            latent_values_steps[n_rows - r < VALUE_ROWS ? n_rows - r : VALUE_ROWS](p + r, keys + d / 2, stride, visible[r] / 2, d, o + r);
    for (size_t r = 0; r < n_rows; r++) {
        size_t shared = visible[r / VALUE_ROWS * VALUE_ROWS] / 2; /* pairs that the first row of its step sees whole */
        if (whole && visible[r] > 2 * shared)
            latent_values_rest(p + r, keys, stride, shared, visible[r], whole, o[r]);
        if (whole < value_dim)
            latent_values_rest(p + r, keys + whole / 2, stride, 0, visible[r], value_dim - whole, o[r] + whole);
    }
    pairs_end(before);
}

static void init_latent(struct latent_rows *w, const fs_attention_tile *t, void *scratch)
{
    const float *q[LANES];

    *w = (struct latent_rows){ t, t->n_q * t->n_heads, (t->n_q * t->n_heads + LANES - 1) / LANES, fs_pairs(t->key_dim), scratch, NULL };
    w->panels = (fs_pair *)(void *)(w->scores + ROWS_MAX * (FS_KV_BLOCK + t->value_dim));
    assert(w->n <= ROWS_MAX);
    for (size_t g = 0; g < w->n_groups; g++)
        latent_pack(q, group_queries(t, w->n, g, q), t->key_dim, w->panels + g * LANES * w->n_pairs);
}

static size_t latent_block(const void *rows, size_t j0, float *m, float *l, float *const *o)
{
    const struct latent_rows *w = rows;
    const fs_attention_tile *t = w->t;
    size_t first = first_row(t, j0), group = first / LANES;
    const fs_pair *keys = t->k16 + j0 * w->n_pairs;

    latent_scores(w, group, w->n_groups, keys, in_block(keys_of(t, w->n - 1), j0));
    for (size_t g = group; g < w->n_groups; g++) {
        float *s = w->scores + g * FS_KV_BLOCK * LANES, group_m[LANES], group_l[LANES];
        size_t visible[LANES], begin, end;
        group_visible(t, w->n, g, j0, first, visible, &begin, &end);
        latent_softmax(s, visible, t->scale, group_m, group_l);
        memcpy(m + g * LANES + begin, group_m + begin, (end - begin) * sizeof *m);
        memcpy(l + g * LANES + begin, group_l + begin, (end - begin) * sizeof *l);
        latent_values((const fs_pair *)(const void *)s + begin, visible + begin, end - begin, keys, w->n_pairs, t->value_dim,
                      o + g * LANES + begin);
    }
    return first;
}

DEFINE_KERNELS(mla16, latent_rows, init_latent, latent_block)

#define ATTENTION_BF16_KERNELS                                                 \
    {                                                                          \
        gqa16, mla16, gqa16_part, mla16_part, round_row                        \
    }
