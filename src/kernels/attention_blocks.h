/* What the forms of attention over sixteen lanes do with blocks of keys, included by their headers after the instruction set
 * is named (lanes.h): whole tiles and single blocks, given a function that attends to one block. */
#include "kernels/attention_isa.h"
#include "kernels/lanes.h"
#include "kernels/transpose.h"

#include <assert.h>
#include <math.h>

#define CHAIN    256
#define ROWS_MAX FS_ATTENTION_QUERIES_MAX

static float exp_1(float x)
{
    float lane[LANES];
    lanes_store(lane, lanes_exp(lanes_set1(x)));
    return lane[0];
}

static void join(float *max, float *sum, float *out, float m, float l, const float *o, size_t n)
{
    float joint = *max > m ? *max : m, a = exp_1(*max - joint), b = exp_1(m - joint);
    lanes x = lanes_set1(a), y = lanes_set1(b);

    *sum = fmaf(b, l, a * *sum);
    *max = joint;
    for (size_t d = 0; d < n; d += LANES) {
        size_t width = n - d < LANES ? n - d : LANES;
        lanes scaled = lanes_mul(x, lanes_load_n(out + d, width));
        lanes_store_n(out + d, lanes_fma(y, lanes_load_n(o + d, width), scaled), width);
    }
}

static void finish(float *out, float sum, size_t n)
{
    lanes l = lanes_set1(sum);

    for (size_t d = 0; d < n; d += LANES) {
        size_t width = n - d < LANES ? n - d : LANES;
        lanes_store_n(out + d, lanes_div(lanes_load_n(out + d, width), l), width);
    }
}

/* Rows of a tile are queries, heads within. */
INLINE const float *query_of(const fs_attention_tile *t, size_t r)
{
    return t->q + r / t->n_heads * t->q_token_stride + r % t->n_heads * t->q_head_stride;
}

INLINE size_t keys_of(const fs_attention_tile *t, size_t r)
{
    return t->pos0 + r / t->n_heads + 1;
}

/* The first row that sees the key j0. */
INLINE size_t first_row(const fs_attention_tile *t, size_t j0)
{
    return j0 > t->pos0 ? (j0 - t->pos0) * t->n_heads : 0;
}

/* Those of a row's n_keys that are in the block from j0 on. */
INLINE size_t in_block(size_t n_keys, size_t j0)
{
    return n_keys - j0 < FS_KV_BLOCK ? n_keys - j0 : FS_KV_BLOCK;
}

/* m, l and o of the rows of w that see keys of the block from j0 on. The index of the first of them. */
typedef size_t block_fn(const void *w, size_t j0, float *m, float *l, float *const *o);

INLINE void attend_part(const fs_attention_tile *t, const void *w, block_fn *block, size_t index, float *m, float *l, float *o)
{
    float *out[ROWS_MAX] = { NULL };

    for (size_t r = 0; r < t->n_q * t->n_heads; r++)
        out[r] = o + r * t->value_dim;
    block(w, index * FS_KV_BLOCK, m, l, out);
}

/* block_out: room for value_dim floats a row. */
INLINE void attend_tile(const fs_attention_tile *t, const void *w, block_fn *block, float *block_out)
{
    float max[ROWS_MAX], sum[ROWS_MAX], m[ROWS_MAX], l[ROWS_MAX], *out[ROWS_MAX] = { NULL }, *o[ROWS_MAX] = { NULL };
    size_t n = t->n_q * t->n_heads;

    for (size_t r = 0; r < n; r++) {
        out[r] = t->out + r / t->n_heads * t->out_token_stride + r % t->n_heads * t->out_head_stride;
        o[r] = block_out + r * t->value_dim;
    }
    block(w, 0, max, sum, out);
    for (size_t j0 = FS_KV_BLOCK; j0 < t->pos0 + t->n_q; j0 += FS_KV_BLOCK)
        for (size_t r = block(w, j0, m, l, o); r < n; r++)
            join(&max[r], &sum[r], out[r], m[r], l[r], o[r], t->value_dim);
    for (size_t r = 0; r < n; r++)
        finish(out[r], sum[r], t->value_dim);
}

/* The kernels name and name_part: init(struct rows *, tile, scratch), then block of what it has made. */
#define DEFINE_KERNELS(name, rows, init, block)                                                                         \
    static void name##_part(const fs_attention_tile *t, size_t index, float *m, float *l, float *o, void *scratch)      \
    {                                                                                                                   \
        struct rows w;                                                                                                  \
                                                                                                                        \
        init(&w, t, scratch);                                                                                           \
        attend_part(t, &w, block, index, m, l, o);                                                                      \
    }                                                                                                                   \
    static void name(const fs_attention_tile *t, void *scratch)                                                         \
    {                                                                                                                   \
        struct rows w;                                                                                                  \
                                                                                                                        \
        init(&w, t, scratch);                                                                                           \
        attend_tile(t, &w, block, w.scores + ROWS_MAX * FS_KV_BLOCK);                                                   \
    }

/* ---- latent rows: sixteen a group, a lane each ---- */

/* Queries of group g of a tile of n rows; how many. */
INLINE size_t group_queries(const fs_attention_tile *t, size_t n, size_t g, const float *ret_q[LANES])
{
    size_t n_rows = n - g * LANES < LANES ? n - g * LANES : LANES;

    for (size_t i = 0; i < n_rows; i++)
        ret_q[i] = query_of(t, g * LANES + i);
    return n_rows;
}

/* Keys of the block from j0 on that each lane sees. Rows [*ret_begin, *ret_end) are those at or behind first; the other lanes do
 * as a row beside them. */
INLINE void group_visible(const fs_attention_tile *t, size_t n, size_t g, size_t j0, size_t first, size_t ret[LANES], size_t *ret_begin,
                          size_t *ret_end)
{
    size_t begin = g == first / LANES ? first % LANES : 0, end = n - g * LANES < LANES ? n - g * LANES : LANES;

    for (size_t i = 0; i < LANES; i++)
        ret[i] = in_block(keys_of(t, g * LANES + (i < begin ? begin : i < end ? i : end - 1)), j0);
    *ret_begin = begin;
    *ret_end = end;
}

/* Keys that every lane sees, and that any does. */
INLINE void visible_range(const size_t visible[LANES], size_t *ret_all, size_t *ret_any)
{
    *ret_all = SIZE_MAX;
    *ret_any = 0;
    for (size_t r = 0; r < LANES; r++) {
        *ret_any = visible[r] > *ret_any ? visible[r] : *ret_any;
        *ret_all = visible[r] < *ret_all ? visible[r] : *ret_all;
    }
}

/* Before a softmax over s [any][16] an invisible score repeats the first, then it counts for nothing. */
INLINE void hide(float *s, const size_t visible[LANES], size_t all, size_t any, bool before)
{
    for (size_t j = all; j < any; j++)
        for (size_t r = 0; r < LANES; r++)
            if (j >= visible[r])
                s[j * LANES + r] = before ? s[r] : 0.0f;
}

/* Order B of each lane of p [n][16]; key j stands at slots[j], or at j. */
INLINE void sum_lanes(const float *p, size_t n, const uint32_t *slots, float *ret)
{
    float lane[LANES * LANES] = { 0 };

    for (size_t j = 0; j < n; j++) {
        float *sum = lane + (slots ? slots[j] : j) % LANES * LANES;
        lanes_store(sum, lanes_add(lanes_load(sum), lanes_load(p + j * LANES)));
    }
    for (size_t h = LANES / 2; h; h /= 2)
        for (size_t i = 0; i < h; i++)
            lanes_store(lane + i * LANES, lanes_add(lanes_load(lane + i * LANES), lanes_load(lane + (i + h) * LANES)));
    lanes_store(ret, lanes_load(lane));
}
