/* Latent attention over selected keys: RN1 section 4 over the selected keys in their absolute blocks. Composed of the
 * pieces of the dense form, so that with every key selected the bits are equal. V4 calls it with two sets of keys, window
 * and compressed, and ends with a sink. */
#include "models/internal.h"

#include <assert.h>
#include <string.h>

/* Where the pieces lie in a thread's scratch, in floats. */
struct layout {
    size_t panel, gathered, scores, block_out, total;
};

static size_t round16(size_t n)
{
    return (n + 15) & ~(size_t)15;
}

static struct layout lay_out(size_t key_dim, size_t value_dim)
{
    struct layout l = { 0 };

    l.gathered = l.panel + FS_SPARSE_HEADS_MAX * key_dim;
    l.scores = l.gathered + round16(FS_KV_BLOCK * key_dim);
    l.block_out = l.scores + FS_KV_BLOCK * FS_SPARSE_HEADS_MAX;
    l.total = l.block_out + round16(FS_SPARSE_HEADS_MAX * value_dim);
    return l;
}

size_t fs_sparse_scratch_bytes(size_t key_dim, size_t value_dim)
{
    return lay_out(key_dim, value_dim).total * sizeof(float);
}

void fs_sparse_begin(fs_sparse *s, const fs_kernels *k, const fs_attention_tile *t, void *scratch)
{
    struct layout l = lay_out(t->key_dim, t->value_dim);
    const float *rows[FS_SPARSE_HEADS_MAX];
    float *f = scratch;

    assert(t->n_q == 1 && t->n_heads <= FS_SPARSE_HEADS_MAX);
    *s = (fs_sparse){ .kernels = k, .tile = t, .panel = f + l.panel, .gathered = f + l.gathered, .scores = f + l.scores,
                      .block_out = f + l.block_out };
    for (size_t h = 0; h < t->n_heads; h++)
        rows[h] = t->q + h * t->q_head_stride;
    k->attention.latent.pack(rows, t->n_heads, t->key_dim, s->panel);
}

/* Joins one block's m, l, o of head h into the running ones. */
static void join(fs_sparse *s, size_t h, float m, float l, const float *o)
{
    float *out = s->tile->out + h * s->tile->out_head_stride;
    size_t n = s->tile->value_dim;

    if (s->joined) {
        s->kernels->attention.join(&s->max[h], &s->sum[h], out, m, l, o, n);
        return;
    }
    s->max[h] = m;
    s->sum[h] = l;
    memcpy(out, o, n * sizeof *out);
}

/* n keys of one block, one behind the other; slots are those of selected[j], or of first + j. */
static void block(fs_sparse *s, const float *keys, const uint32_t *selected, size_t first, size_t n)
{
    const fs_attention_tile *t = s->tile;
    const fs_latent_kernels *k = &s->kernels->attention.latent;
    float m[FS_LATENT_ROWS], l[FS_LATENT_ROWS], *o[FS_SPARSE_HEADS_MAX];
    size_t visible[FS_LATENT_ROWS];
    uint32_t slots[FS_KV_BLOCK];

    for (size_t i = 0; i < FS_LATENT_ROWS; i++)
        visible[i] = n;
    for (size_t h = 0; h < t->n_heads; h++)
        o[h] = s->block_out + h * t->value_dim;
    for (size_t j = 0; j < n; j++)
        slots[j] = (selected ? selected[j] : (uint32_t)(first + j)) % FS_KV_BLOCK;
    k->scores(s->panel, 1, keys, t->key_dim, n, t->key_dim, t->scale, s->scores);
    k->softmax(s->scores, visible, slots, m, l);
    k->values(s->scores, visible, t->n_heads, keys, t->key_dim, t->value_dim, o);
    for (size_t h = 0; h < t->n_heads; h++)
        join(s, h, m[h], l[h], o[h]);
    s->joined = true;
}

void fs_sparse_keys(fs_sparse *s, const float *keys, const uint32_t *selected, size_t first, size_t n_keys)
{
    size_t dim = s->tile->key_dim;

    for (size_t i = 0, n; i < n_keys; i += n) {
        size_t at = selected ? selected[i] : first + i, end = at / FS_KV_BLOCK * FS_KV_BLOCK + FS_KV_BLOCK;
        if (!selected) {
            n = n_keys - i < end - at ? n_keys - i : end - at;
            block(s, keys + at * dim, NULL, at, n);
            continue;
        }
        for (n = 0; n < n_keys - i && selected[i + n] < end; n++)
            memcpy(s->gathered + n * dim, keys + selected[i + n] * dim, dim * sizeof *keys);
        block(s, s->gathered, selected + i, 0, n);
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
        s->kernels->attention.finish(t->out + h * t->out_head_stride, s->sum[h], t->value_dim);
}

void fs_sparse_attention(const fs_kernels *k, const fs_attention_tile *t, const uint32_t *selected, size_t n_selected, void *scratch)
{
    fs_sparse s;

    fs_sparse_begin(&s, k, t, scratch);
    fs_sparse_keys(&s, t->k, selected, 0, n_selected);
    fs_sparse_end(&s, NULL);
}
