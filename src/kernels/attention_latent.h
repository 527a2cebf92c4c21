/* Latent attention over sixteen lanes, the second half of attention_lanes.h. LATENT_KEYS, VALUE_ROWS and VALUE_COLUMNS say
 * how many registers of sixteen a step holds.
 *
 * All rows share the keys, so scores are vectorised over rows, sixteen a group: a key is broadcast as it lies in the
 * cache, and no transposition is needed. Values are vectorised over value_dim.
 *
 * scratch of a tile: the rows in panels [4][key_dim][16] | scores [4][256][16] | a block's outputs [64][value_dim]. */

static void latent_pack(const float *const *rows, size_t n, size_t key_dim, float *panel)
{
    size_t d = 0;

    for (; d + 4 <= key_dim; d += 4) {
        v4u32 a[16];
        UNROLL for (size_t r = 0; r < 16; r++)
        {
            a[r] = (v4u32){ 0 };
            if (r < n)
                memcpy(&a[r], rows[r] + d, sizeof a[r]);
        }
        transpose_32(a);
        memcpy(panel + d * LANES, a, sizeof a);
    }
    for (; d < key_dim; d++)
        for (size_t r = 0; r < 16; r++)
            panel[d * LANES + r] = r < n ? rows[r][d] : 0.0f;
}

/* y[c] += the chain over n elements of one chunk, for a few keys; the last chunk ends with the scale. */
INLINE void latent_step(const int keys, const float *q, const float *k, size_t stride, size_t n, bool first, bool last, float scale,
                        float *y)
{
    lanes s[LATENT_KEYS];
    size_t d = 0;

    UNROLL for (int c = 0; c < keys; c++)
        s[c] = lanes_set1(0.0f);
    for (; d + 4 <= n; d += 4) {
        lanes a[4];
        const float *x = k + d;
        for (size_t c = d / 4 % 4; c < (size_t)keys; c += 4) /* the keys behind these: a line of each while one passes */
            __builtin_prefetch((const void *)((uintptr_t)k + ((size_t)keys + c) * stride * sizeof *k + d / LANES * 64), 0, 2);
        UNROLL for (int i = 0; i < 4; i++)
            a[i] = lanes_load(q + (d + (size_t)i) * LANES);
        UNROLL for (int c = 0; c < keys; c++, x += stride)
            UNROLL for (int i = 0; i < 4; i++)
                s[c] = lanes_fma(lanes_set1(x[i]), a[i], s[c]);
    }
    for (; d < n; d++) {
        lanes a = lanes_load(q + d * LANES);
        UNROLL for (int c = 0; c < keys; c++)
            s[c] = lanes_fma(lanes_set1(k[(size_t)c * stride + d]), a, s[c]);
    }
    UNROLL for (int c = 0; c < keys; c++)
    {
        lanes total = lanes_add(first ? lanes_set1(0.0f) : lanes_load(y + c * LANES), s[c]);
        lanes_store(y + c * LANES, last ? lanes_mul(lanes_set1(scale), total) : total);
    }
}

typedef void latent_fn(const float *q, const float *k, size_t stride, size_t n, bool first, bool last, float scale, float *y);
#define DEFINE_LATENT(keys)                                                                                                   \
    static void latent_##keys(const float *q, const float *k, size_t stride, size_t n, bool first, bool last, float scale,    \
                              float *y)                                                                                       \
    {                                                                                                                         \
        latent_step(keys, q, k, stride, n, first, last, scale, y);                                                            \
    }
DEFINE_LATENT(1)
DEFINE_LATENT(2)
DEFINE_LATENT(4)
#if LATENT_KEYS == 16
DEFINE_LATENT(8)
DEFINE_LATENT(16)
static const struct latent_size {
    size_t n;
    latent_fn *fn;
} latent_sizes[] = { { 16, latent_16 }, { 8, latent_8 }, { 4, latent_4 }, { 2, latent_2 }, { 1, latent_1 } };
#elif LATENT_KEYS == 6
DEFINE_LATENT(6)
static const struct latent_size {
    size_t n;
    latent_fn *fn;
} latent_sizes[] = { { 6, latent_6 }, { 4, latent_4 }, { 2, latent_2 }, { 1, latent_1 } };
#endif

/* A few keys stay in the first-level cache while every group's chunk passes by. */
static void latent_scores(const float *panels, size_t n_groups, const float *keys, size_t stride, size_t n_keys, size_t key_dim,
                          float scale, float *s)
{
    const struct latent_size *size = latent_sizes;

    for (size_t j = 0; j < n_keys; j += size->n) {
        const float *k = keys + j * stride;
        while (size->n > n_keys - j)
            size++;
        for (size_t d = 0; d < key_dim; d += CHAIN) {
            size_t n = key_dim - d < CHAIN ? key_dim - d : CHAIN;
            for (size_t g = 0; g < n_groups; g++)
                size->fn(panels + (g * key_dim + d) * LANES, k + d, stride, n, d == 0, d + n == key_dim, scale,
                         s + (g * FS_KV_BLOCK + j) * LANES);
        }
    }
}

/* Every lane is a row, so the order of a row's additions is the order of the loop. */
static void latent_softmax(float *s, const size_t *visible, const uint32_t *slots, float *ret_m, float *ret_l)
{
    size_t n, shared;
    lanes m;

    visible_range(visible, &shared, &n);
    hide(s, visible, shared, n, true);
    m = lanes_load(s);
    for (size_t j = 1; j < n; j++)
        m = lanes_max(lanes_load(s + j * LANES), m);
    for (size_t j = 0; j < n; j++)
        lanes_store(s + j * LANES, lanes_exp(lanes_sub(lanes_load(s + j * LANES), m)));
    hide(s, visible, shared, n, false);
    sum_lanes(s, n, slots, ret_l);
    lanes_store(ret_m, m);
}

/* o = fma(p_j, v_j, o) for rows x columns registers, o from +0, j < n. */
INLINE void latent_values_step(const int rows, const int columns, const float *p, const float *v, size_t stride, size_t n, size_t d,
                               float *const *o)
{
    lanes s[VALUE_ROWS][VALUE_COLUMNS];

    v += d;
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < columns; c++)
            s[r][c] = lanes_set1(0.0f);
    for (size_t j = 0; j < n; j++, v += stride, p += LANES) {
        lanes x[VALUE_COLUMNS];
        UNROLL for (int c = 0; c < columns; c++)
            x[c] = lanes_load(v + c * LANES);
        UNROLL for (int r = 0; r < rows; r++)
        {
            lanes a = lanes_set1(p[r]);
            UNROLL for (int c = 0; c < columns; c++)
                s[r][c] = lanes_fma(a, x[c], s[r][c]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < columns; c++)
            lanes_store(o[r] + d + c * LANES, s[r][c]);
}

typedef void latent_values_fn(bool wide, const float *p, const float *v, size_t stride, size_t n, size_t d, float *const *o);
#define DEFINE_LATENT_VALUES(rows)                                                                                            \
    static void latent_values_##rows(bool wide, const float *p, const float *v, size_t stride, size_t n, size_t d,            \
                                     float *const *o)                                                                         \
    {                                                                                                                         \
        if (wide)                                                                                                             \
            latent_values_step(rows, VALUE_COLUMNS, p, v, stride, n, d, o);                                                   \
        else                                                                                                                  \
            latent_values_step(rows, 1, p, v, stride, n, d, o);                                                               \
    }
#if VALUE_ROWS == 8
#define EACH_VALUE_ROWS(F) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8)
#elif VALUE_ROWS == 6
#define EACH_VALUE_ROWS(F) F(1) F(2) F(3) F(4) F(5) F(6)
#endif
EACH_VALUE_ROWS(DEFINE_LATENT_VALUES)
#define LATENT_VALUES_NAME(rows) latent_values_##rows,
static latent_values_fn *const latent_values_steps[] = { NULL, EACH_VALUE_ROWS(LATENT_VALUES_NAME) };

/* The rest of one row: keys [from, n), dims values. */
static void latent_values_rest(const float *p, const float *v, size_t stride, size_t from, size_t n, size_t dims, float *o)
{
    for (size_t d = 0; d < dims; d += LANES) {
        size_t width = dims - d < LANES ? dims - d : LANES;
        lanes s = from ? lanes_load_n(o + d, width) : lanes_set1(0.0f);
        for (size_t j = from; j < n; j++)
            s = lanes_fma(lanes_set1(p[j * LANES]), lanes_load_n(v + j * stride + d, width), s);
        lanes_store_n(o + d, s, width);
    }
}

static void latent_values(const float *p, const size_t *visible, size_t n_rows, const float *keys, size_t stride, size_t value_dim,
                          float *const *o)
{
    size_t whole = value_dim / LANES * LANES;

    for (size_t d = 0; d < whole;) {
        bool wide = whole - d >= VALUE_COLUMNS * LANES;
        for (size_t r = 0; r < n_rows; r += VALUE_ROWS)
            latent_values_steps[n_rows - r < VALUE_ROWS ? n_rows - r : VALUE_ROWS](wide, p + r, keys, stride, visible[r], d, o + r);
        d += wide ? VALUE_COLUMNS * LANES : LANES;
    }
    for (size_t r = 0; r < n_rows; r++) {
        size_t shared = visible[r / VALUE_ROWS * VALUE_ROWS]; /* what the first row of its step sees */
        if (whole && visible[r] > shared)
            latent_values_rest(p + r, keys, stride, shared, visible[r], whole, o[r]);
        if (whole < value_dim)
            latent_values_rest(p + r, keys + whole, stride, 0, visible[r], value_dim - whole, o[r] + whole);
    }
}

struct latent_rows {
    const fs_attention_tile *t;
    size_t n, n_groups;
    float *panels, *scores;
};

static void init_latent(struct latent_rows *w, const fs_attention_tile *t, void *scratch)
{
    const float *q[LANES];

    *w = (struct latent_rows){ t, t->n_q * t->n_heads, (t->n_q * t->n_heads + LANES - 1) / LANES, scratch, NULL };
    w->scores = w->panels + ROWS_MAX * t->key_dim;
    assert(w->n <= ROWS_MAX);
    for (size_t g = 0; g < w->n_groups; g++)
        latent_pack(q, group_queries(t, w->n, g, q), t->key_dim, w->panels + g * LANES * t->key_dim);
}

/* m, l and o of the rows that see keys of the block from j0 on. The index of the first of them. */
static size_t latent_block(const void *rows, size_t j0, float *m, float *l, float *const *o)
{
    const struct latent_rows *w = rows;
    const fs_attention_tile *t = w->t;
    size_t first = first_row(t, j0), group = first / LANES;
    const float *keys = t->k + j0 * t->key_dim;

    latent_scores(w->panels + group * LANES * t->key_dim, w->n_groups - group, keys, t->key_dim,
                  in_block(keys_of(t, w->n - 1), j0), t->key_dim, t->scale, w->scores + group * FS_KV_BLOCK * LANES);
    for (size_t g = group; g < w->n_groups; g++) {
        float *s = w->scores + g * FS_KV_BLOCK * LANES, group_m[LANES], group_l[LANES];
        size_t visible[LANES], begin, end;
        group_visible(t, w->n, g, j0, first, visible, &begin, &end);
        latent_softmax(s, visible, NULL, group_m, group_l);
        memcpy(m + g * LANES + begin, group_m + begin, (end - begin) * sizeof *m);
        memcpy(l + g * LANES + begin, group_l + begin, (end - begin) * sizeof *l);
        latent_values(s + begin, visible + begin, end - begin, keys, t->key_dim, t->value_dim, o + g * LANES + begin);
    }
    return first;
}

DEFINE_KERNELS(mla, latent_rows, init_latent, latent_block)

#define ATTENTION_KERNELS                                                                                                     \
    {                                                                                                                         \
        gqa, mla, gqa_part, mla_part, join, finish, { latent_pack, latent_scores, latent_softmax, latent_values }, { 0 }      \
    }
