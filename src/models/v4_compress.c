/* V4's compressors and indexer. A compressor turns every window of ratio tokens into one entry: a softmax over the
 * window, a channel at a time, weighs what its tokens offer. Short windows overlap by one: an entry also pools the
 * window before its own, from a second series. The indexer scores the entries of its own, narrower compressor and keeps
 * the index_topk best. What is pooled comes from the step, and from the rows that the cache keeps of the steps before.
 * Order of operations: docs/RN1.md, section 4, V4. */
#include "models/internal.h"

#include <math.h>
#include <string.h>

struct compress_job {
    fs_network *net;
    fs_workspace *ws;
    const fs_v4 *v4;
};

static size_t row_floats(const fs_compressor *c)
{
    return (size_t)c->width * (c->overlap ? 2 : 1);
}

/* What one sequence's tokens offer: those of the step under way from position first on, older ones of the cache. */
struct source {
    fs_v4_offers old;
    const float *kv, *gate; /* of the step's tokens, from its first one of this sequence */
    size_t first;
};

static size_t step_first(const fs_workspace *ws, size_t t)
{
    return t - (ws->positions[t] - ws->rows[ws->row_of[t]].cache->n_tokens);
}

static struct source source_at(const fs_workspace *ws, size_t t, const fs_v4_offers *old, const float *kv, const float *gate)
{
    size_t first = step_first(ws, t), n = row_floats(old->compressor);

    return (struct source){ .old = *old, .kv = kv + first * n, .gate = gate + first * n, .first = ws->positions[first] };
}

/* Slot i of an entry: with overlap first the window before, whose series is the first. */
static void slot(const struct source *s, size_t entry, size_t i, const float **ret_kv, const float **ret_gate)
{
    const fs_compressor *c = s->old.compressor;
    size_t pos = entry * c->ratio + i - (c->overlap ? c->ratio : 0);
    size_t at = (pos >= s->first ? pos - s->first : pos % s->old.n_rows) * row_floats(c) + (c->overlap && i >= c->ratio ? c->width : 0);

    *ret_kv = (pos >= s->first ? s->kv : s->old.kv) + at;
    *ret_gate = (pos >= s->first ? s->gate : s->old.gate) + at;
}

/* buffers: 3 * width floats. */
static void pool(const fs_network *net, const struct source *s, size_t entry, const float *cs, float *buffers, float *ret)
{
    const fs_compressor *c = s->old.compressor;
    const fs_rows_kernels *rows = &net->kernels->rows;
    size_t w = c->width, rope = net->rope.dim, n_slots = c->overlap ? 2 * (size_t)c->ratio : c->ratio;
    size_t first = c->overlap && entry == 0 ? c->ratio : 0; /* nothing stands before the first window */
    float *max = buffers, *sum = buffers + w, *p = buffers + 2 * w;
    const float *kv, *gate;

    slot(s, entry, first, &kv, &gate);
    memcpy(max, gate, w * sizeof *max);
    for (size_t i = first + 1; i < n_slots; i++) {
        slot(s, entry, i, &kv, &gate);
        for (size_t d = 0; d < w; d++)
            max[d] = gate[d] > max[d] ? gate[d] : max[d];
    }
    memset(sum, 0, w * sizeof *sum);
    memset(ret, 0, w * sizeof *ret);
    for (size_t i = first; i < n_slots; i++) {
        slot(s, entry, i, &kv, &gate);
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

static void add_ape(const fs_rows_kernels *rows, const fs_compressor *c, size_t pos, float *gate)
{
    size_t n = row_floats(c);

    rows->add(gate, c->ape + pos % c->ratio * n, gate, n);
}

static void offer_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct compress_job *job = ud;
    fs_workspace *ws = job->ws;
    const fs_v4 *v4 = job->v4;
    const fs_config *c = job->net->config;
    const fs_rows_kernels *rows = &job->net->kernels->rows;
    size_t n = c->index_n_heads;

    (void)thread;
    for (size_t t = begin; t < end; t++) {
        add_ape(rows, &v4->compressor, ws->positions[t], ws->v4.pool_gate + t * row_floats(&v4->compressor));
        if (!v4->has_index)
            continue;
        add_ape(rows, &v4->index_compressor, ws->positions[t], ws->v4.index_gate + t * row_floats(&v4->index_compressor));
        for (size_t h = 0; h < n; h++)
            rows->rope_interleaved(ws->index_q + (t * n + h + 1) * c->index_head_dim - c->qk_rope_head_dim,
                                   ws->v4.cs_compressed + t * c->qk_rope_head_dim, c->qk_rope_head_dim);
        rows->scale((float)(1 / sqrt((double)n) / sqrt((double)c->index_head_dim)), ws->index_w + t * n, ws->index_w + t * n, n);
    }
}

static bool ends_window(const fs_workspace *ws, const fs_v4 *v4, size_t t)
{
    return (ws->positions[t] + 1) % v4->ratio == 0;
}

static bool any_ends_window(const fs_workspace *ws, const fs_v4 *v4)
{
    for (size_t t = 0; t < ws->n_tokens; t++)
        if (ends_window(ws, v4, t))
            return true;
    return false;
}

/* The entries whose last token is in the step. */
static void pool_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct compress_job *job = ud;
    fs_workspace *ws = job->ws;
    const fs_v4 *v4 = job->v4;
    const fs_network *net = job->net;
    size_t w = net->config->index_head_dim;
    float *cs = fs_v4_scratch(ws, thread), *key = cs + net->rope.dim, *buffers = key + w;

    for (size_t t = begin; t < end; t++) {
        const fs_cache *cache = ws->rows[ws->row_of[t]].cache;
        fs_v4_cache at = fs_v4_cache_at(net, v4, cache);
        size_t entry = ws->positions[t] / v4->ratio;
        struct source from;
        float *panel;
        if (!ends_window(ws, v4, t))
            continue;
        from = source_at(ws, t, &at.pooled, ws->v4.pool_kv, ws->v4.pool_gate);
        fs_rope_angles(&net->rope_compressed, (uint32_t)(entry * v4->ratio), cache->ctx_limit, cs);
        pool(net, &from, entry, cs, buffers, at.entries + entry * net->config->head_dim);
        if (!v4->has_index)
            continue;
        from = source_at(ws, t, &at.index, ws->v4.index_kv, ws->v4.index_gate);
        pool(net, &from, entry, cs, buffers, key);
        panel = at.index_keys + entry / FS_PANEL * w * FS_PANEL + entry % FS_PANEL;
        for (size_t d = 0; d < w; d++)
            panel[d * FS_PANEL] = key[d];
    }
}

static float *border_row(const fs_v4_offers *o, size_t border, size_t which, size_t i)
{
    const fs_compressor *c = o->compressor;

    return o->borders + (((border - 1) * 2 + which) * c->ratio + i) * c->width;
}

/* The token's rows into the cache, if the step's later ones leave them there. */
static void keep(const fs_v4_offers *o, size_t pos, size_t end, const float *kv, const float *gate)
{
    const fs_compressor *c = o->compressor;
    size_t n = row_floats(c), bytes = n * sizeof *kv, to_border = FS_V4_BORDER - pos % FS_V4_BORDER;

    if (pos + o->n_rows >= end) {
        memcpy(o->kv + pos % o->n_rows * n, kv, bytes);
        memcpy(o->gate + pos % o->n_rows * n, gate, bytes);
    }
    if (o->borders && to_border <= c->ratio) {
        size_t border = pos / FS_V4_BORDER + 1;
        memcpy(border_row(o, border, 0, c->ratio - to_border), kv, c->width * sizeof *kv);
        memcpy(border_row(o, border, 1, c->ratio - to_border), gate, c->width * sizeof *gate);
    }
}

void fs_v4_offers_restore(const fs_v4_offers *o, uint32_t position)
{
    const fs_compressor *c = o->compressor;
    size_t n = row_floats(c);

    for (size_t i = 0; i < c->ratio; i++) {
        size_t at = (position - c->ratio + i) % o->n_rows * n;
        memcpy(o->kv + at, border_row(o, position / FS_V4_BORDER, 0, i), c->width * sizeof(float));
        memcpy(o->gate + at, border_row(o, position / FS_V4_BORDER, 1, i), c->width * sizeof(float));
    }
}

/* Behind the pooling, which reads rows that these take the place of. */
static void keep_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct compress_job *job = ud;
    fs_workspace *ws = job->ws;
    const fs_config *c = job->net->config;
    size_t heads = c->index_n_heads, width = row_floats(&job->v4->compressor);

    for (size_t t = begin; t < end; t++) {
        const fs_step_rows *row = &ws->rows[ws->row_of[t]];
        fs_v4_cache at = fs_v4_cache_at(job->net, job->v4, row->cache);
        size_t pos = ws->positions[t], n = (pos + 1) / job->v4->ratio, stop = (size_t)row->cache->n_tokens + row->n;
        keep(&at.pooled, pos, stop, ws->v4.pool_kv + t * width, ws->v4.pool_gate + t * width);
        if (!job->v4->has_index)
            continue;
        keep(&at.index, pos, stop, ws->v4.index_kv + t * 2 * c->index_head_dim, ws->v4.index_gate + t * 2 * c->index_head_dim);
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
    fs_pool_for(net->pool, m, fs_row_grain(net, m), offer_piece, &job);
    if (any_ends_window(ws, v4))
        fs_pool_for(net->pool, m, 1, pool_piece, &job);
    fs_pool_for(net->pool, m, v4->has_index ? 1 : fs_row_grain(net, m), keep_piece, &job);
}
