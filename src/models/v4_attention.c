/* V4's attention: every head reads one key-value row a position, those of the sliding window and, in layers that
 * compress, entries that stand for older windows. A row is key and value at once, so its rope is turned back on what is
 * summed. A sink a head takes part in the softmax without a value.
 * Order of operations: docs/RN1.md, section 4, V4. */
#include "models/internal.h"

struct attention_job {
    fs_network *net;
    fs_workspace *ws;
    const fs_v4 *v4;
    const float *cs; /* [T, rope dim] of this kind of layer */
};

/* Norm and rope of every query head and of the cache's new row. */
static void prepare_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct attention_job *job = ud;
    fs_workspace *ws = job->ws;
    const fs_config *c = job->net->config;
    const fs_rows_kernels *rows = &job->net->kernels->rows;
    size_t heads = c->num_attention_heads, d = c->head_dim, rope = c->qk_rope_head_dim;
    float eps = (float)c->rms_norm_eps;

    (void)thread;
    for (size_t t = begin; t < end; t++) {
        const float *cs = job->cs + t * rope;
        float *row = fs_v4_cache_at(job->net, job->v4, ws->rows[ws->row_of[t]].cache).kv + ws->positions[t] * d;
        for (size_t h = 0; h < heads; h++) {
            float *q = ws->q + (t * heads + h) * d;
            rows->rmsnorm(q, NULL, eps, q, d);
            rows->rope_interleaved(q + d - rope, cs, rope);
        }
        rows->rmsnorm(ws->k + t * d, job->v4->kv_norm, eps, row, d);
        rows->rope_interleaved(row + d - rope, cs, rope);
    }
}

/* One tile: a token and up to FS_SPARSE_HEADS_MAX heads. */
static void attend(const struct attention_job *job, size_t t, size_t head0, size_t n_heads, int thread)
{
    fs_workspace *ws = job->ws;
    const fs_v4 *v4 = job->v4;
    const fs_config *c = job->net->config;
    fs_v4_cache at = fs_v4_cache_at(job->net, v4, ws->rows[ws->row_of[t]].cache);
    size_t d = c->head_dim, rope = c->qk_rope_head_dim, heads = c->num_attention_heads, n = (size_t)ws->positions[t] + 1;
    size_t window = n < c->sliding_window ? n : c->sliding_window, n_entries = v4->ratio ? n / v4->ratio : 0;
    float *out = ws->att + (t * heads + head0) * d, *back = fs_v4_scratch(ws, thread);
    fs_attention_tile tile = {
        .n_q = 1,
        .n_heads = n_heads,
        .q = ws->q + (t * heads + head0) * d,
        .q_head_stride = d,
        .key_dim = d,
        .value_dim = d,
        .scale = job->net->softmax_scale,
        .out = out,
        .out_head_stride = d,
    };
    fs_sparse sparse;

    fs_sparse_begin(&sparse, job->net->kernels, &tile, ws->sparse_scratch + (size_t)thread * ws->sparse_scratch_bytes);
    fs_sparse_keys(&sparse, at.kv, NULL, n - window, window);
    if (v4->has_index && n_entries > c->index_topk)
        fs_sparse_keys(&sparse, at.entries, ws->selected + t * c->index_topk, 0, c->index_topk);
    else
        fs_sparse_keys(&sparse, at.entries, NULL, 0, n_entries);
    fs_sparse_end(&sparse, v4->sink + head0);
    for (size_t i = 0; i < rope; i += 2) { /* the rotation by -pos */
        back[i] = job->cs[t * rope + i];
        back[i + 1] = -job->cs[t * rope + i + 1];
    }
    for (size_t h = 0; h < n_heads; h++)
        job->net->kernels->rows.rope_interleaved(out + (h + 1) * d - rope, back, rope);
}

static size_t tiles_a_token(const fs_config *c)
{
    return (c->num_attention_heads + FS_SPARSE_HEADS_MAX - 1) / FS_SPARSE_HEADS_MAX;
}

static void tile_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct attention_job *job = ud;
    size_t heads = job->net->config->num_attention_heads, n_tiles = tiles_a_token(job->net->config);

    for (size_t i = begin; i < end; i++) {
        size_t head0 = i % n_tiles * FS_SPARSE_HEADS_MAX;
        attend(job, i / n_tiles, head0, heads - head0 < FS_SPARSE_HEADS_MAX ? heads - head0 : FS_SPARSE_HEADS_MAX, thread);
    }
}

/* The block-diagonal wo_a: panels of group g read the outputs of its heads. */
static void o_a_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct attention_job *job = ud;
    const fs_config *c = job->net->config;
    const fs_mat *mat = &job->v4->o_a.mat;
    size_t width = (size_t)c->num_attention_heads * c->head_dim, panels = c->o_lora_rank / FS_PANEL;

    while (begin < end) {
        size_t group = begin / panels, stop = (group + 1) * panels < end ? (group + 1) * panels : end;
        job->net->kernels->products.gemm(mat, begin, stop, job->ws->att + group * mat->k, width, job->ws->n_tokens, NULL,
                                         job->ws->v4.o_low, mat->n, fs_ws_scratch(job->ws, thread));
        begin = stop;
    }
}

void fs_v4_attention(fs_network *net, fs_workspace *ws, const fs_layer *layer)
{
    const fs_config *c = net->config;
    const fs_v4 *v4 = &layer->v4;
    size_t m = ws->n_tokens, d = c->hidden_size, q_lora = c->q_lora_rank, panels = fs_mat_panels(&v4->o_a.mat);
    struct attention_job job = { net, ws, v4, v4->ratio ? ws->v4.cs_compressed : ws->cs };
    fs_product first[2] = { { &v4->q_a, ws->q_a, q_lora }, { &v4->kv, ws->k, c->head_dim } };

    fs_products_run(net, ws, first, 2, ws->h, d, m);
    fs_norm_rows(net, ws->q_a, q_lora, v4->q_a_norm, c->rms_norm_eps, ws->q_a, q_lora, q_lora, m);
    fs_linear_run(net, ws, &v4->q_b, ws->q_a, q_lora, m, ws->q, v4->q_b.mat.n);
    fs_pool_for(net->pool, m, fs_row_grain(net, m), prepare_piece, &job);
    if (v4->ratio)
        fs_v4_compress(net, ws, v4);
    fs_pool_for(net->pool, m * tiles_a_token(c), 1, tile_piece, &job);
    fs_pool_for(net->pool, panels, fs_panel_grain(net, panels), o_a_piece, &job);
    fs_importance_see(net->options.importance, net->pool, v4->o_a.input, 0, ws->att, v4->o_a.mat.k, m * c->o_groups);
    fs_linear_run(net, ws, &v4->o_b, ws->v4.o_low, v4->o_a.mat.n, m, ws->y, d);
}
