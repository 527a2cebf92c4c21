/* Latent attention over selected keys: RN1 section 4 over the selected keys in their absolute blocks. Composed of the
 * row and product kernels, so its bits are those of the dense form: with every key selected they are equal. */
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

/* Joins one block's m, l, o of head h into the running ones. */
struct running {
    float max[FS_SPARSE_HEADS_MAX], sum[FS_SPARSE_HEADS_MAX];
};

static void join(const fs_kernels *k, struct running *r, size_t h, bool first, float m, float l, const float *o, float *out, size_t n)
{
    float joint = r->max[h] > m ? r->max[h] : m, both[2] = { r->max[h] - joint, m - joint };

    if (first) {
        r->max[h] = m;
        r->sum[h] = l;
        memcpy(out, o, n * sizeof *out);
        return;
    }
    k->rows.exp(both, both, 2);
    r->sum[h] = __builtin_fmaf(both[1], l, both[0] * r->sum[h]);
    k->rows.scale(both[0], out, out, n);
    k->rows.axpy(both[1], o, out, n);
    r->max[h] = joint;
}

void fs_sparse_attention(const fs_kernels *k, const fs_attention_tile *t, const uint32_t *selected, size_t n_selected, void *scratch)
{
    struct layout l = lay_out(t->key_dim, t->value_dim);
    float *f = (float *)((uint8_t *)scratch + FS_GEMM_SCRATCH_BYTES), *gathered = f + l.gathered, *scores = f + l.scores;
    float *column = f + l.column, *o = f + l.block_out;
    struct running r;
    fs_mat q;

    assert(t->n_q == 1 && t->n_heads <= FS_SPARSE_HEADS_MAX && n_selected > 0);
    fs_mat_init_f32(&q, FS_DTYPE_F32, (uint32_t)t->n_heads, (uint32_t)t->key_dim, f + l.panels);
    fs_mat_pack_f32(&q, t->q, t->q_head_stride, 0, fs_mat_panels(&q));
    for (size_t i = 0, n; i < n_selected; i += n) {
        uint32_t block = selected[i] / FS_KV_BLOCK;
        for (n = 0; i + n < n_selected && selected[i + n] / FS_KV_BLOCK == block; n++)
            memcpy(gathered + n * t->key_dim, t->k + selected[i + n] * t->key_dim, t->key_dim * sizeof *gathered);
        k->products.gemm(&q, 0, fs_mat_panels(&q), gathered, t->key_dim, n, NULL, scores, FS_SPARSE_HEADS_MAX, scratch);
        for (size_t h = 0; h < t->n_heads; h++) {
            float m, lane[LANES] = { 0 };
            for (size_t j = 0; j < n; j++)
                column[j] = t->scale * scores[j * FS_SPARSE_HEADS_MAX + h];
            m = k->rows.max(column, n);
            for (size_t j = 0; j < n; j++)
                column[j] = column[j] - m;
            k->rows.exp(column, column, n);
            memset(o, 0, t->value_dim * sizeof *o);
            for (size_t j = 0; j < n; j++) {
                lane[selected[i + j] % LANES] += column[j];
                k->rows.axpy(column[j], gathered + j * t->key_dim, o, t->value_dim);
            }
            for (size_t s = LANES / 2; s; s /= 2)
                for (size_t j = 0; j < s; j++)
                    lane[j] += lane[j + s];
            join(k, &r, h, i == 0, m, lane[0], o, t->out + h * t->out_head_stride, t->value_dim);
        }
    }
    for (size_t h = 0; h < t->n_heads; h++)
        for (size_t d = 0; d < t->value_dim; d++)
            t->out[h * t->out_head_stride + d] /= r.sum[h];
}
