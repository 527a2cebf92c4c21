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

/* The first row of a tile that sees the key j0: rows are queries, heads within. */
INLINE size_t first_row(const fs_attention_tile *t, size_t j0)
{
    return j0 > t->pos0 ? (j0 - t->pos0) * t->n_heads : 0;
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
