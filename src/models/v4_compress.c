/* V4's compressors and indexer. A compressor turns every window of ratio tokens into one entry: a softmax over the
 * window, a channel at a time, weighs what its tokens offer. Short windows overlap by one: an entry also pools the
 * window before its own, from a second series. The indexer scores the entries of its own, narrower compressor and keeps
 * the index_topk best. What is pooled stays in the cache by position, so that rewinding is a lower n_tokens.
 * Order of operations: docs/RN1.md, section 4, V4. */
#include "models/internal.h"

#include <math.h>
#include <string.h>

struct compress_job {
    fs_network *net;
    fs_workspace *ws;
    const fs_v4 *v4;
};

/* What tokens offer to one compressor, a sequence: rows of series * width by position. */
struct offers {
    const fs_compressor *c;
    float *kv, *gate;
};

static size_t row_floats(const fs_compressor *c)
{
    return (size_t)c->width * (c->overlap ? 2 : 1);
}

static void store(const fs_rows_kernels *rows, const struct offers *o, size_t pos, const float *kv, const float *gate)
{
    size_t n = row_floats(o->c);

    memcpy(o->kv + pos * n, kv, n * sizeof *kv);
    rows->add(gate, o->c->ape + pos % o->c->ratio * n, o->gate + pos * n, n);
}

/* Slot i of an entry: with overlap first the window before, whose series is the first. */
static size_t slot_at(const fs_compressor *c, size_t entry, size_t i)
{
    if (!c->overlap)
        return (entry * c->ratio + i) * c->width;
    return i < c->ratio ? ((entry - 1) * c->ratio + i) * 2 * c->width : (entry * c->ratio + i - c->ratio) * 2 * c->width + c->width;
}

/* buffers: 3 * width floats. */
static void pool(const fs_network *net, const struct offers *o, size_t entry, const float *cs, float *buffers, float *ret)
{
    const fs_compressor *c = o->c;
    const fs_rows_kernels *rows = &net->kernels->rows;
    size_t w = c->width, rope = net->rope.dim, n_slots = c->overlap ? 2 * (size_t)c->ratio : c->ratio;
    size_t first = c->overlap && entry == 0 ? c->ratio : 0; /* nothing stands before the first window */
    float *max = buffers, *sum = buffers + w, *p = buffers + 2 * w;

    memcpy(max, o->gate + slot_at(c, entry, first), w * sizeof *max);
    for (size_t i = first + 1; i < n_slots; i++) {
        const float *gate = o->gate + slot_at(c, entry, i);
        for (size_t d = 0; d < w; d++)
            max[d] = gate[d] > max[d] ? gate[d] : max[d];
    }
    memset(sum, 0, w * sizeof *sum);
    memset(ret, 0, w * sizeof *ret);
    for (size_t i = first; i < n_slots; i++) {
        const float *gate = o->gate + slot_at(c, entry, i), *kv = o->kv + slot_at(c, entry, i);
        for (size_t d = 0; d < w; d++)
            p[d] = gate[d] - max[d];
        rows->exp(p, p, w);
        rows->add(sum, p, sum, w);
        for (size_t d = 0; d < w; d++)
            ret[d] = fmaf(p[d], kv[d], ret[d]);
    }
    for (size_t d = 0; d < w; d++)
        ret[d] = ret[d] / sum[d];
    rows->rmsnorm(ret, c->norm, (float)net->config->rms_norm_eps, ret, w);
    rows->rope_interleaved(ret + w - rope, cs, rope);
}

static void store_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct compress_job *job = ud;
    fs_workspace *ws = job->ws;
    const fs_v4 *v4 = job->v4;
    const fs_config *c = job->net->config;
    const fs_rows_kernels *rows = &job->net->kernels->rows;

    (void)thread;
    for (size_t t = begin; t < end; t++) {
        fs_v4_cache at = fs_v4_cache_at(job->net, v4, ws->rows[ws->row_of[t]].cache);
        size_t pos = ws->positions[t], n = row_floats(&v4->compressor);
        store(rows, &(struct offers){ &v4->compressor, at.pool_kv, at.pool_gate }, pos, ws->v4.pool_kv + t * n, ws->v4.pool_gate + t * n);
        if (!v4->has_index)
            continue;
        n = row_floats(&v4->index_compressor);
        store(rows, &(struct offers){ &v4->index_compressor, at.index_kv, at.index_gate }, pos, ws->v4.index_kv + t * n,
              ws->v4.index_gate + t * n);
        n = c->index_n_heads;
        for (size_t h = 0; h < n; h++)
            rows->rope_interleaved(ws->index_q + (t * n + h + 1) * c->index_head_dim - c->qk_rope_head_dim,
                                   ws->v4.cs_compressed + t * c->qk_rope_head_dim, c->qk_rope_head_dim);
        rows->scale((float)(1 / sqrt((double)n) / sqrt((double)c->index_head_dim)), ws->index_w + t * n, ws->index_w + t * n, n);
    }
}

/* The entries whose last token is in the step. */
static void pool_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct compress_job *job = ud;
    fs_workspace *ws = job->ws;
    const fs_v4 *v4 = job->v4;
    const fs_network *net = job->net;
    float *cs = fs_v4_scratch(ws, thread), *buffers = cs + net->rope.dim;

    for (size_t t = begin; t < end; t++) {
        const fs_cache *cache = ws->rows[ws->row_of[t]].cache;
        fs_v4_cache at = fs_v4_cache_at(net, v4, cache);
        size_t entry = ws->positions[t] / v4->ratio, w = net->config->index_head_dim;
        float *key = ws->v4.index_kv + t * 2 * w, *panel; /* the token's row is in the cache by now */
        if ((ws->positions[t] + 1) % v4->ratio)
            continue;
        fs_rope_angles(&net->rope_compressed, (uint32_t)(entry * v4->ratio), cache->ctx_limit, cs);
        pool(net, &(struct offers){ &v4->compressor, at.pool_kv, at.pool_gate }, entry, cs, buffers,
             at.entries + entry * net->config->head_dim);
        if (!v4->has_index)
            continue;
        pool(net, &(struct offers){ &v4->index_compressor, at.index_kv, at.index_gate }, entry, cs, buffers, key);
        panel = at.index_keys + entry / FS_PANEL * w * FS_PANEL + entry % FS_PANEL;
        for (size_t d = 0; d < w; d++)
            panel[d * FS_PANEL] = key[d];
    }
}

static void select_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct compress_job *job = ud;
    fs_workspace *ws = job->ws;
    const fs_config *c = job->net->config;
    size_t heads = c->index_n_heads;

    for (size_t t = begin; t < end; t++) {
        fs_v4_cache at = fs_v4_cache_at(job->net, job->v4, ws->rows[ws->row_of[t]].cache);
        size_t n = (ws->positions[t] + 1) / job->v4->ratio;
        if (n > c->index_topk)
            fs_indexer_select(job->net, ws->index_q + t * heads * c->index_head_dim, ws->index_w + t * heads, at.index_keys, n,
                              ws->selected + t * c->index_topk, ws->index_scratch + (size_t)thread * ws->index_scratch_bytes);
    }
}

void fs_v4_compress(fs_network *net, fs_workspace *ws, const fs_v4 *v4)
{
    const fs_config *c = net->config;
    size_t m = ws->n_tokens, n = row_floats(&v4->compressor);
    struct compress_job job = { net, ws, v4 };
    fs_product pooled[2] = { { &v4->compressor.kv, ws->v4.pool_kv, n }, { &v4->compressor.gate, ws->v4.pool_gate, n } };

    fs_products_run(net, ws, pooled, 2, ws->h, c->hidden_size, m);
    if (v4->has_index) {
        size_t w = row_floats(&v4->index_compressor);
        fs_product index[3] = { { &v4->index_compressor.kv, ws->v4.index_kv, w },
                                { &v4->index_compressor.gate, ws->v4.index_gate, w },
                                { &v4->index_weights, ws->index_w, c->index_n_heads } };
        fs_products_run(net, ws, index, 3, ws->h, c->hidden_size, m);
        fs_linear_run(net, ws, &v4->index_q, ws->q_a, c->q_lora_rank, m, ws->index_q, v4->index_q.mat.n);
    }
    fs_pool_for(net->pool, m, fs_row_grain(net, m), store_piece, &job);
    fs_pool_for(net->pool, m, 1, pool_piece, &job);
    if (v4->has_index)
        fs_pool_for(net->pool, m, 1, select_piece, &job);
}
