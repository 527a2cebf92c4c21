/* Multi-head latent attention in its absorbed form, everywhere: decode, prefill and training compute
 *   q_lat = W_uk^T q_nope,  score over [latent | rope],  v = W_uv o_lat
 * so that one arithmetic serves all three (RN1 section 4). Source: DeepSeek-V2, arXiv 2405.04434, section 2.1. */
#include "models/internal.h"

#include <string.h>

#define NORM_EPS 1e-6 /* of the q_a and kv_a norms, whatever rms_norm_eps says */

fs_status fs_mla_check(const fs_config *c, fs_error *err)
{
    if (!c->kv_lora_rank || !c->qk_nope_head_dim || !c->qk_rope_head_dim || !c->v_head_dim)
        return fs_fail(err, FS_ERR_FORMAT, "%s needs kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim and v_head_dim", c->model_type);
    if (c->qk_rope_head_dim % 2)
        return fs_fail(err, FS_ERR_FORMAT, "qk_rope_head_dim %u is odd", c->qk_rope_head_dim);
    if (c->kv_lora_rank > FS_ATTENTION_DIM_MAX - c->qk_rope_head_dim || c->qk_rope_head_dim > FS_ATTENTION_DIM_MAX)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "kv_lora_rank %u + qk_rope_head_dim %u is over %d", c->kv_lora_rank,
                       c->qk_rope_head_dim, FS_ATTENTION_DIM_MAX);
    if (c->attention_bias)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "%s with attention_bias is not supported", c->model_type);
    return FS_OK;
}

fs_status fs_mla_load(fs_loader *l, fs_mla *mla, const char *prefix, fs_error *err)
{
    const fs_config *c = l->net->config;
    uint64_t d = c->hidden_size, q_dim = (uint64_t)c->num_attention_heads * (c->qk_nope_head_dim + c->qk_rope_head_dim);
    fs_status rc;

    if (c->q_lora_rank) {
        rc = fs_loader_linear(l, &mla->q_a, c->q_lora_rank, d, false, prefix, "self_attn.q_a_proj", err);
        if (!rc)
            rc = fs_loader_vector(l, &mla->q_a_norm, c->q_lora_rank, prefix, "self_attn.q_a_layernorm.weight", err);
        if (!rc)
            rc = fs_loader_linear(l, &mla->q, q_dim, c->q_lora_rank, false, prefix, "self_attn.q_b_proj", err);
    } else {
        rc = fs_loader_linear(l, &mla->q, q_dim, d, false, prefix, "self_attn.q_proj", err);
    }
    if (!rc)
        rc = fs_loader_linear(l, &mla->kv_a, (uint64_t)c->kv_lora_rank + c->qk_rope_head_dim, d, false, prefix,
                              "self_attn.kv_a_proj_with_mqa", err);
    if (!rc)
        rc = fs_loader_vector(l, &mla->kv_a_norm, c->kv_lora_rank, prefix, "self_attn.kv_a_layernorm.weight", err);
    if (!rc)
        rc = fs_loader_mla_up(l, mla, prefix, err);
    if (!rc)
        rc = fs_loader_linear(l, &mla->o, d, (uint64_t)c->num_attention_heads * c->v_head_dim, false, prefix,
                              "self_attn.o_proj", err);
    return rc;
}

struct mla_job {
    fs_network *net;
    fs_workspace *ws;
    const fs_mla *mla;
    uint32_t layer;
    bool values_quantized; /* by the tiles that made them */
};

/* Rope of every head's q_pe into the tail of q_lat, and the cache's new row: norm(latent) | rope(k_pe). */
static void prepare_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct mla_job *job = ud;
    fs_workspace *ws = job->ws;
    const fs_config *c = job->net->config;
    const fs_rows_kernels *rows = &job->net->kernels->rows;
    size_t heads = c->num_attention_heads, nope = c->qk_nope_head_dim, rope = c->qk_rope_head_dim, lora = c->kv_lora_rank;

    (void)thread;
    for (size_t t = begin; t < end; t++) {
        const float *cs = ws->cs + t * rope;
        float *kv = ws->k + t * (lora + rope);
        uint8_t *row = fs_cache_k(job->net, ws->rows[ws->row_of[t]].cache, job->layer, 0);
        for (size_t h = 0; h < heads; h++) {
            float *q_pe = ws->q_lat + (t * heads + h) * (lora + rope) + lora;
            memcpy(q_pe, ws->q + (t * heads + h) * (nope + rope) + nope, rope * sizeof *q_pe);
            rows->rope_interleaved(q_pe, cs, rope);
        }
        rows->rmsnorm(kv, job->mla->kv_a_norm, (float)NORM_EPS, kv, lora);
        rows->rope_interleaved(kv + lora, cs, rope);
        row += ws->positions[t] * job->net->k_bytes;
        if (job->net->kv_q8)
            fs_kv8_put_row(row, kv, lora + rope);
        else if (job->net->kv_bf16)
            job->net->kernels->attention.bf16.round(kv, lora + rope, (fs_pair *)(void *)row);
        else
            memcpy(row, kv, job->net->k_bytes);
    }
}

/* The codes in ws->stage of w's inputs: those of a head at head h of rows of heads. */
static fs_quants head_codes(const struct mla_job *job, const fs_mat *w)
{
    return fs_quants_init(w->k, job->ws->stage);
}

/* y = W x of the matrix of head h, behind which those of the next ones are, over all tokens: x [T, ldx]. quantized: so are its codes already. */
static void head_product(const struct mla_job *job, const fs_mat *w, size_t h, const float *x, size_t ldx, bool quantized, float *y,
                         size_t ldy, int thread)
{
    const fs_kernels *k = job->net->kernels;
    const fs_workspace *ws = job->ws;
    void *scratch = fs_ws_scratch(ws, thread);

    if (w->codes) {
        fs_quants q = head_codes(job, w);
        q.data += h * q.row_bytes;
        q.row_bytes *= job->net->config->num_attention_heads;
        if (!quantized)
            k->quants.quantize(&q, 0, ws->n_tokens, 0, w->k / FS_QUANTS_BLOCK, x, ldx);
        k->quants.gemm(w, 0, fs_mat_panels(w), &q, 0, ws->n_tokens, NULL, y, ldy, scratch);
    } else {
        size_t threads = (size_t)fs_pool_threads(job->net->pool); /* heads are taken one by one */
        fs_mat head = *w;
        if (h + threads < job->net->config->num_attention_heads)
            head.ahead = (size_t)((uintptr_t)w[threads].data - (uintptr_t)w->data);
        fs_mat_gemm(k, &head, 0, fs_mat_panels(w), x, ldx, ws->n_tokens, NULL, y, ldy, scratch);
    }
}

static void absorb_q_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct mla_job *job = ud;
    fs_workspace *ws = job->ws;
    const fs_config *c = job->net->config;
    size_t heads = c->num_attention_heads, q_dim = c->qk_nope_head_dim + c->qk_rope_head_dim;
    size_t lat_dim = c->kv_lora_rank + c->qk_rope_head_dim;

    for (size_t h = begin; h < end; h++)
        head_product(job, &job->mla->w_uk[h], h, ws->q + h * q_dim, heads * q_dim, false, ws->q_lat + h * lat_dim, heads * lat_dim, thread);
}

static void value_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct mla_job *job = ud;
    fs_workspace *ws = job->ws;
    const fs_config *c = job->net->config;
    size_t heads = c->num_attention_heads, lora = c->kv_lora_rank, v = c->v_head_dim;

    for (size_t h = begin; h < end; h++)
        head_product(job, &job->mla->w_uv[h], h, ws->o_lat + h * lora, heads * lora, job->values_quantized, ws->att + h * v, heads * v, thread);
}

/* Queries that may read every key go to the dense kernel together; with an indexer the rest go one by one over their
 * selected keys. Both forms give the same bits where all keys are selected, so the border moves nothing. */
static void run_tile(const struct mla_job *job, const fs_attention_tile *tile, const fs_tile_ref *ref, int thread)
{
    fs_workspace *ws = job->ws;
    size_t top = job->net->config->index_topk, n_dense = tile->n_q;
    fs_attention_tile part = *tile;

    if (job->net->arch->has_indexer)
        n_dense = tile->pos0 >= top ? 0 : top - tile->pos0 < tile->n_q ? top - tile->pos0 : tile->n_q;
    if (job->net->kv_q8) {
        fs_attention_q8(job->net, ws, true, tile, thread);
        return;
    }
    if (n_dense) {
        part.n_q = n_dense;
        (job->net->kv_bf16 ? job->net->kernels->attention.bf16.mla : job->net->kernels->attention.mla)(&part, fs_ws_scratch(ws, thread));
    }
    part.n_q = 1;
    for (size_t i = n_dense; i < tile->n_q; i++) {
        part.pos0 = tile->pos0 + i;
        part.q = tile->q + i * tile->q_token_stride;
        part.out = tile->out + i * tile->out_token_stride;
        fs_sparse_attention(job->net->kernels, &part, ws->selected + (ref->token0 + i) * top, top,
                            ws->sparse_scratch + (size_t)thread * ws->sparse_scratch_bytes);
    }
}

static void tile_of(void *ud, const fs_tile_ref *ref, fs_attention_tile *ret)
{
    const struct mla_job *job = ud;
    fs_workspace *ws = job->ws;
    const fs_config *c = job->net->config;
    size_t heads = c->num_attention_heads, lora = c->kv_lora_rank, lat_dim = lora + c->qk_rope_head_dim;
    const void *k = fs_cache_k(job->net, ws->rows[ref->row].cache, job->layer, 0);

    *ret = (fs_attention_tile){
        .n_q = ref->n_q,
        .n_heads = ref->n_heads,
        .pos0 = ws->positions[ref->token0],
        .q = ws->q_lat + (ref->token0 * heads + ref->head0) * lat_dim,
        .q_token_stride = heads * lat_dim,
        .q_head_stride = lat_dim,
        .key_dim = lat_dim,
        .value_dim = lora,
        .scale = job->net->softmax_scale,
        .k = job->net->kv_bf16 ? NULL : k,
        .k16 = job->net->kv_bf16 ? k : NULL,
        .out = ws->o_lat + (ref->token0 * heads + ref->head0) * lora,
        .out_token_stride = heads * lora,
        .out_head_stride = lora,
    };
}

static void tile_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct mla_job *job = ud;
    const fs_mat *w = &job->mla->w_uv[0]; /* as those of the other heads */
    size_t heads = job->net->config->num_attention_heads;

    for (size_t i = begin; i < end; i++) {
        const fs_tile_ref *ref = &job->ws->tiles[i];
        fs_attention_tile tile;
        tile_of(ud, ref, &tile);
        run_tile(job, &tile, ref, thread);
        for (size_t t = 0; job->values_quantized && t < ref->n_q; t++) { /* while they are in the cache of this CPU */
            fs_quants q = head_codes(job, w);
            job->net->kernels->quants.quantize(&q, (ref->token0 + t) * heads + ref->head0, ref->n_heads, 0, w->k / FS_QUANTS_BLOCK,
                                               tile.out + t * tile.out_token_stride, tile.out_head_stride);
        }
    }
}

/* Whether no token of the step chooses its keys. */
static bool all_dense(const fs_network *net, const fs_workspace *ws)
{
    for (uint32_t t = 0; net->arch->has_indexer && t < ws->n_tokens; t++)
        if (ws->positions[t] >= net->config->index_topk)
            return false;
    return true;
}

/* What k_b_proj and v_b_proj of each head were given, and kv_b_proj in one piece: the normed latent. */
static void see_inputs(const struct mla_job *job)
{
    const fs_workspace *ws = job->ws;
    const fs_config *c = job->net->config;
    const fs_mla *mla = job->mla;
    fs_importance *imp = job->net->options.importance;
    size_t heads = c->num_attention_heads, q_dim = c->qk_nope_head_dim + c->qk_rope_head_dim, lora = c->kv_lora_rank, m = ws->n_tokens;

    for (uint32_t h = 0; h < heads; h++) {
        fs_importance_see(imp, job->net->pool, mla->uk_input, h, ws->q + h * q_dim, heads * q_dim, m);
        fs_importance_see(imp, job->net->pool, mla->uv_input, h, ws->o_lat + h * lora, heads * lora, m);
    }
    fs_importance_see(imp, job->net->pool, mla->up_input, 0, ws->k, lora + c->qk_rope_head_dim, m);
}

void fs_mla_attention(fs_network *net, fs_workspace *ws, const fs_layer *layer, uint32_t index)
{
    const fs_config *c = net->config;
    const fs_mla *mla = &layer->mla;
    size_t d = c->hidden_size, m = ws->n_tokens, heads = c->num_attention_heads;
    struct mla_job job = { net, ws, mla, index, false };
    fs_product kv = { &mla->kv_a, ws->k, mla->kv_a.mat.n };

    if (c->q_lora_rank) {
        fs_product first[2] = { { &mla->q_a, ws->q_a, c->q_lora_rank }, kv };
        fs_products_run_in(net, ws, first, 2, &ws->in, m);
        fs_norm_rows(net, ws->q_a, c->q_lora_rank, mla->q_a_norm, NORM_EPS, ws->q_a, c->q_lora_rank, c->q_lora_rank, m);
        fs_linear_run(net, ws, &mla->q, ws->q_a, c->q_lora_rank, m, ws->q, mla->q.mat.n);
    } else {
        fs_product first[2] = { { &mla->q, ws->q, mla->q.mat.n }, kv };
        fs_products_run_in(net, ws, first, 2, &ws->in, m);
    }
    if (net->arch->has_indexer)
        fs_indexer_run(net, ws, &mla->indexer, index);
    fs_pool_for(net->pool, heads, 1, absorb_q_piece, &job);
    fs_pool_for(net->pool, m, fs_row_grain(net, m), prepare_piece, &job);
    if (fs_attention_is_cut(net, ws) && all_dense(net, ws)) {
        fs_attention_cut(net, ws, true, c->kv_lora_rank, tile_of, &job);
    } else {
        job.values_quantized = mla->w_uv[0].codes;
        fs_pool_for(net->pool, ws->n_tiles, 1, tile_piece, &job);
    }
    fs_pool_for(net->pool, heads, 1, value_piece, &job);
    if (net->options.importance)
        see_inputs(&job);
    fs_linear_run(net, ws, &mla->o, ws->att, heads * c->v_head_dim, m, ws->y, d);
}
