/* Latent attention over selected keys: RN1 section 4 over the selected keys in their absolute blocks. Composed of the
 * row and product kernels, so its bits are those of the dense form: with every key selected they are equal. V4 calls it
 * with two sets of keys, window and compressed, and ends with a sink. */
#include "models/internal.h"

#include <assert.h>
#include <string.h>

#define LANES 16

/* Where the pieces lie in a thread's scratch, in floats. */
struct layout {
    size_t panels, gathered, scores, column, block_out, total;
};

static size_t round16(size_t n)
{
    return (n + 15) & ~(size_t)15;
}

static struct layout lay_out(size_t key_dim, size_t value_dim)
{
    struct layout l = { 0 };

    l.gathered = l.panels + round16(FS_SPARSE_HEADS_MAX * key_dim);
    l.scores = l.gathered + round16(FS_KV_BLOCK * key_dim);
    l.column = l.scores + FS_KV_BLOCK * FS_SPARSE_HEADS_MAX;
    l.block_out = l.column + FS_KV_BLOCK;
    l.total = l.block_out + round16(value_dim);
    return l;
}

size_t fs_sparse_scratch_bytes(size_t key_dim, size_t value_dim)
{
    return lay_out(key_dim, value_dim).total * sizeof(float) + FS_GEMM_SCRATCH_BYTES;
}

void fs_sparse_begin(fs_sparse *s, const fs_kernels *k, const fs_attention_tile *t, void *scratch)
{
    struct layout l = lay_out(t->key_dim, t->value_dim);
    float *f = (float *)((uint8_t *)scratch + FS_GEMM_SCRATCH_BYTES);

    assert(t->n_q == 1 && t->n_heads <= FS_SPARSE_HEADS_MAX);
    *s = (fs_sparse){ .kernels = k, .tile = t, .gathered = f + l.gathered, .scores = f + l.scores, .column = f + l.column,
                      .block_out = f + l.block_out, .gemm_scratch = scratch };
    fs_mat_init_f32(&s->q, FS_DTYPE_F32, (uint32_t)t->n_heads, (uint32_t)t->key_dim, f + l.panels);
    fs_mat_pack_f32(&s->q, t->q, t->q_head_stride, 0, fs_mat_panels(&s->q));
}

/* Joins one block's m, l, o of head h into the running ones. */
static void join(fs_sparse *s, size_t h, float m, float l, const float *o)
{
    const fs_rows_kernels *rows = &s->kernels->rows;
    float *out = s->tile->out + h * s->tile->out_head_stride, joint = s->max[h] > m ? s->max[h] : m;
    float both[2] = { s->max[h] - joint, m - joint };
    size_t n = s->tile->value_dim;

    if (!s->joined) {
        s->max[h] = m;
        s->sum[h] = l;
        memcpy(out, o, n * sizeof *out);
        return;
    }
    rows->exp(both, both, 2);
    s->sum[h] = __builtin_fmaf(both[1], l, both[0] * s->sum[h]);
    rows->scale(both[0], out, out, n);
    rows->axpy(both[1], o, out, n);
    s->max[h] = joint;
}

/* The n keys in gathered, all of one block; slots are those of first + j, or of selected[j]. */
static void block(fs_sparse *s, const uint32_t *selected, uint32_t first, size_t n)
{
    const fs_attention_tile *t = s->tile;
    const fs_kernels *k = s->kernels;
    float *column = s->column;

    k->products.gemm(&s->q, 0, fs_mat_panels(&s->q), s->gathered, t->key_dim, n, NULL, s->scores, FS_SPARSE_HEADS_MAX, s->gemm_scratch);
    for (size_t h = 0; h < t->n_heads; h++) {
        float m, lane[LANES] = { 0 };
        for (size_t j = 0; j < n; j++)
            column[j] = t->scale * s->scores[j * FS_SPARSE_HEADS_MAX + h];
        m = k->rows.max(column, n);
        for (size_t j = 0; j < n; j++)
            column[j] = column[j] - m;
        k->rows.exp(column, column, n);
        memset(s->block_out, 0, t->value_dim * sizeof *s->block_out);
        for (size_t j = 0; j < n; j++) {
            lane[(selected ? selected[j] : first + j) % LANES] += column[j];
            k->rows.axpy(column[j], s->gathered + j * t->key_dim, s->block_out, t->value_dim);
        }
        for (size_t w = LANES / 2; w; w /= 2)
            for (size_t j = 0; j < w; j++)
                lane[j] += lane[j + w];
        join(s, h, m, lane[0], s->block_out);
    }
    s->joined = true;
}

void fs_sparse_keys(fs_sparse *s, const float *keys, const uint32_t *selected, size_t first, size_t n_keys)
{
    size_t dim = s->tile->key_dim;

    for (size_t i = 0, n; i < n_keys; i += n) {
        size_t at = selected ? selected[i] : first + i, end = at / FS_KV_BLOCK * FS_KV_BLOCK + FS_KV_BLOCK, index = at;
        for (n = 0; index < end; index = selected ? selected[i + n] : first + i + n) {
            memcpy(s->gathered + n * dim, keys + index * dim, dim * sizeof *keys);
            if (++n == n_keys - i)
                break;
        }
        block(s, selected ? selected + i : NULL, (uint32_t)at, n);
    }
}

void fs_sparse_end(fs_sparse *s, const float *sink)
{
    const fs_attention_tile *t = s->tile;

    if (sink) {
        memset(s->block_out, 0, t->value_dim * sizeof *s->block_out);
        for (size_t h = 0; h < t->n_heads; h++)
            join(s, h, sink[h], 1.0f, s->block_out);
    }
    for (size_t h = 0; h < t->n_heads; h++)
        for (size_t d = 0; d < t->value_dim; d++)
            t->out[h * t->out_head_stride + d] /= s->sum[h];
}

void fs_sparse_attention(const fs_kernels *k, const fs_attention_tile *t, const uint32_t *selected, size_t n_selected, void *scratch)
{
    fs_sparse s;

    fs_sparse_begin(&s, k, t, scratch);
    fs_sparse_keys(&s, t->k, selected, 0, n_selected);
    fs_sparse_end(&s, NULL);
}
