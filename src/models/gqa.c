/* Grouped-query attention of the dense models. Keys are cached in panels of 16 positions, so that scores vectorise over
 * keys as products vectorise over outputs; values are cached in rows, since their sum runs over positions. */
#include "models/internal.h"

#include <string.h>

fs_status fs_gqa_check(const fs_config *c, fs_error *err)
{
    if (c->head_dim % 2 || c->head_dim > FS_ATTENTION_DIM_MAX)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "head_dim %u is odd or over %d", c->head_dim, FS_ATTENTION_DIM_MAX);
    if (c->partial_rotary_factor != 1)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "partial_rotary_factor %g is not supported", c->partial_rotary_factor);
    return FS_OK;
}

fs_status fs_dense_check(const fs_config *c, fs_error *err)
{
    if (c->kv_lora_rank || c->n_routed_experts)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "%s with latent attention or experts is not a model this program knows",
                       c->model_type);
    return fs_gqa_check(c, err);
}

fs_status fs_gqa_load(fs_loader *l, fs_gqa *g, const char *prefix, bool qkv_bias, bool o_bias, bool qk_norm, fs_error *err)
{
    const fs_config *c = l->net->config;
    uint64_t d = c->hidden_size, q = (uint64_t)c->num_attention_heads * c->head_dim;
    uint64_t kv = (uint64_t)c->num_key_value_heads * c->head_dim;
    fs_status rc = fs_loader_linear(l, &g->q, q, d, qkv_bias, prefix, "self_attn.q_proj", err);

    if (!rc)
        rc = fs_loader_linear(l, &g->k, kv, d, qkv_bias, prefix, "self_attn.k_proj", err);
    if (!rc)
        rc = fs_loader_linear(l, &g->v, kv, d, qkv_bias, prefix, "self_attn.v_proj", err);
    if (!rc)
        rc = fs_loader_linear(l, &g->o, d, q, o_bias, prefix, "self_attn.o_proj", err);
    if (!rc && qk_norm)
        rc = fs_loader_vector(l, &g->q_norm, c->head_dim, prefix, "self_attn.q_norm.weight", err);
    if (!rc && qk_norm)
        rc = fs_loader_vector(l, &g->k_norm, c->head_dim, prefix, "self_attn.k_norm.weight", err);
    return rc;
}

struct gqa_job {
    fs_network *net;
    fs_workspace *ws;
    const fs_gqa *g;
    uint32_t layer;
};

/* Position pos of a kv head in the cache. */
static void write_f32(const struct gqa_job *job, const fs_cache *cache, uint32_t head, size_t pos, const float *k, const float *v)
{
    size_t hd = job->net->config->head_dim;
    float *panel = (float *)fs_cache_k(job->net, cache, job->layer, head) + pos / FS_PANEL * hd * FS_PANEL + pos % FS_PANEL;

    for (size_t d = 0; d < hd; d++)
        panel[d * FS_PANEL] = k[d];
    memcpy((float *)fs_cache_v(job->net, cache, job->layer, head) + pos * hd, v, hd * sizeof *v);
}

static void write_bf16(const struct gqa_job *job, const fs_cache *cache, uint32_t head, size_t pos, const float *k, const float *v)
{
    size_t hd = job->net->config->head_dim, n_pairs = fs_pairs(hd);
    fs_pair *panel = (fs_pair *)fs_cache_k(job->net, cache, job->layer, head) + pos / FS_PANEL * n_pairs * FS_PANEL + pos % FS_PANEL;
    fs_pair *row = (fs_pair *)fs_cache_v(job->net, cache, job->layer, head) + pos / 2 * hd;

    for (size_t i = 0; i < n_pairs; i++)
        panel[i * FS_PANEL] = fs_pair_of(k[2 * i], k[2 * i + 1]);
    for (size_t d = 0; d < hd; d++)
        fs_pair_put(row + d, pos % 2, v[d]);
}

static void write_q8(const struct gqa_job *job, const fs_cache *cache, uint32_t head, size_t pos, const float *k, const float *v)
{
    size_t hd = job->net->config->head_dim;
    uint8_t *keys = fs_cache_k(job->net, cache, job->layer, head), *values = fs_cache_v(job->net, cache, job->layer, head);

    fs_kv8_put_key(keys + pos / FS_PANEL * FS_PANEL * job->net->k_bytes, pos % FS_PANEL, k, hd);
    fs_kv8_put_row(values + pos * job->net->v_bytes, v, hd);
}

/* Norm and rope of q and k, and the cache's new rows, a token at a time. */
static void prepare_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct gqa_job *job = ud;
    fs_workspace *ws = job->ws;
    const fs_config *c = job->net->config;
    const fs_rows_kernels *rows = &job->net->kernels->rows;
    size_t hd = c->head_dim, n_q = c->num_attention_heads, n_kv = c->num_key_value_heads;
    float eps = (float)c->rms_norm_eps;

    (void)thread;
    for (size_t t = begin; t < end; t++) {
        const float *cs = ws->cs + t * hd;
        const fs_cache *cache = ws->rows[ws->row_of[t]].cache;
        size_t pos = ws->positions[t];
        for (size_t h = 0; h < n_q; h++) {
            float *q = ws->q + (t * n_q + h) * hd;
            if (job->g->q_norm)
                rows->rmsnorm(q, job->g->q_norm, eps, q, hd);
            rows->rope_half(q, cs, hd);
        }
        for (size_t h = 0; h < n_kv; h++) {
            float *k = ws->k + (t * n_kv + h) * hd;
            if (job->g->k_norm)
                rows->rmsnorm(k, job->g->k_norm, eps, k, hd);
            rows->rope_half(k, cs, hd);
            (job->net->kv_q8 ? write_q8 : job->net->kv_bf16 ? write_bf16 : write_f32)(job, cache, (uint32_t)h, pos, k, ws->v + (t * n_kv + h) * hd);
        }
    }
}

static void tile_of(void *ud, const fs_tile_ref *ref, fs_attention_tile *ret)
{
    const struct gqa_job *job = ud;
    fs_workspace *ws = job->ws;
    const fs_config *c = job->net->config;
    size_t hd = c->head_dim, n_q = c->num_attention_heads, group = n_q / c->num_key_value_heads;
    const fs_cache *cache = ws->rows[ref->row].cache;
    uint32_t kv_head = (uint32_t)(ref->head0 / group);
    const void *k = fs_cache_k(job->net, cache, job->layer, kv_head), *v = fs_cache_v(job->net, cache, job->layer, kv_head);
    bool bf16 = job->net->kv_bf16;

    *ret = (fs_attention_tile){
        .n_q = ref->n_q,
        .n_heads = ref->n_heads,
        .pos0 = ws->positions[ref->token0],
        .q = ws->q + (ref->token0 * n_q + ref->head0) * hd,
        .q_token_stride = n_q * hd,
        .q_head_stride = hd,
        .key_dim = hd,
        .value_dim = hd,
        .scale = job->net->softmax_scale,
        .k = bf16 ? NULL : k,
        .v = bf16 ? NULL : v,
        .k16 = bf16 ? k : NULL,
        .v16 = bf16 ? v : NULL,
        .v_stride = hd,
        .out = ws->att + (ref->token0 * n_q + ref->head0) * hd,
        .out_token_stride = n_q * hd,
        .out_head_stride = hd,
    };
}

static void tile_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct gqa_job *job = ud;
    fs_attention_tile tile;

    for (size_t i = begin; i < end; i++) {
        tile_of(ud, &job->ws->tiles[i], &tile);
        if (job->net->kv_q8)
            fs_attention_q8(job->net, job->ws, false, &tile, thread);
        else
            (job->net->kv_bf16 ? job->net->kernels->attention.bf16.gqa : job->net->kernels->attention.gqa)(&tile, fs_ws_scratch(job->ws, thread));
    }
}

void fs_gqa_attention(fs_network *net, fs_workspace *ws, const fs_layer *layer, uint32_t index)
{
    const fs_config *c = net->config;
    const fs_gqa *g = &layer->gqa;
    size_t d = c->hidden_size, m = ws->n_tokens, nq = g->q.mat.n, nkv = g->k.mat.n;
    struct gqa_job job = { net, ws, g, index };
    fs_product qkv[3] = { { &g->q, ws->q, nq }, { &g->k, ws->k, nkv }, { &g->v, ws->v, nkv } };

    fs_products_run_in(net, ws, qkv, 3, &ws->in, m);
    fs_pool_for(net->pool, m, fs_row_grain(net, m), prepare_piece, &job);
    if (fs_attention_is_cut(net, ws))
        fs_attention_cut(net, ws, false, c->head_dim, tile_of, &job);
    else
        fs_pool_for(net->pool, ws->n_tiles, 1, tile_piece, &job);
    fs_linear_run(net, ws, &g->o, ws->att, nq, m, ws->y, d);
}
