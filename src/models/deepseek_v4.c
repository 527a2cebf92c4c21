/* deepseek_v4: V4-Flash, V4-Pro. Multi-query attention over a sliding window and compressed entries, hyper-connections
 * instead of a residual, sqrt-softplus routing with hash-routed first layers, clamped SwiGLU, a multi-token-prediction
 * layer over the streams. Order of operations: docs/RN1.md, section 4, V4. Source: DeepSeek-V4's inference/model.py and
 * transformers' deepseek_v4. */
#include "models/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define RATIO_OVERLAP 4 /* windows this short overlap, and have an indexer */
#define RATIO_LONG    128

/* Of a layer, the layers that predict ahead behind the others; files may leave those out. */
static uint32_t ratio_of(const fs_config *c, uint32_t index)
{
    return index < c->n_compress_ratios ? c->compress_ratios[index] : 0;
}

static fs_status check(const fs_config *c, fs_error *err)
{
    if (!c->n_routed_experts || !c->num_experts_per_tok || c->first_k_dense_replace || c->moe_layer_freq != 1)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "deepseek_v4 has experts in every layer");
    if (c->scoring_func != FS_SCORING_SQRTSOFTPLUS || c->topk_method != FS_TOPK_NOAUX_TC || c->n_group != 1)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "deepseek_v4 routes by sqrtsoftplus with topk_method noaux_tc and no groups");
    if (c->kv_lora_rank || c->num_key_value_heads != 1)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "deepseek_v4 has one key-value head and no kv_lora_rank");
    if (c->attention_bias || c->mlp_bias || c->tie_word_embeddings)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "deepseek_v4 with attention_bias, mlp_bias or tie_word_embeddings is not supported");
    if (c->rope_type != FS_ROPE_DEFAULT && c->rope_type != FS_ROPE_YARN)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "deepseek_v4 stretches its rope by yarn alone");
    if (c->head_dim > FS_ATTENTION_DIM_MAX || c->o_lora_rank % FS_PANEL)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "head_dim %u is over %d, or o_lora_rank %u no multiple of %d", c->head_dim,
                       FS_ATTENTION_DIM_MAX, c->o_lora_rank, FS_PANEL);
    for (uint32_t i = 0; i < c->num_hidden_layers; i++) {
        uint32_t ratio = c->compress_ratios[i];
        if (ratio != 0 && ratio != RATIO_OVERLAP && ratio != RATIO_LONG)
            return fs_fail(err, FS_ERR_UNSUPPORTED, "compress_ratios[%u] is %u; known are 0, %d and %d", i, ratio, RATIO_OVERLAP,
                           RATIO_LONG);
        if (ratio == RATIO_OVERLAP && (!c->index_n_heads || !c->index_head_dim || !c->index_topk))
            return fs_fail(err, FS_ERR_FORMAT, "deepseek_v4 needs index_n_heads, index_head_dim and index_topk");
    }
    if (c->index_n_heads && c->index_head_dim < c->qk_rope_head_dim)
        return fs_fail(err, FS_ERR_FORMAT, "index_head_dim %u is under qk_rope_head_dim %u", c->index_head_dim, c->qk_rope_head_dim);
    return FS_OK;
}

static fs_status init(fs_network *net, fs_error *err)
{
    const fs_config *c = net->config;
    fs_status rc = fs_rope_init_v4(&net->rope, c, c->qk_rope_head_dim, false, err);

    return rc ? rc : fs_rope_init_v4(&net->rope_compressed, c, c->qk_rope_head_dim, true, err);
}

/* ---- loading ---- */
static fs_status load_hc(fs_loader *l, fs_hc *hc, uint64_t n_rows, uint64_t n_scales, const char *prefix, const char *name,
                         fs_error *err)
{
    const fs_config *c = l->net->config;
    char part[64];
    fs_status rc;

    snprintf(part, sizeof part, "%s_fn", name);
    rc = fs_loader_matrix(l, &hc->fn, n_rows, (uint64_t)c->hc_mult * c->hidden_size, prefix, part, err);
    snprintf(part, sizeof part, "%s_base", name);
    if (!rc)
        rc = fs_loader_vector(l, &hc->base, n_rows, prefix, part, err);
    snprintf(part, sizeof part, "%s_scale", name);
    if (!rc)
        rc = fs_loader_vector(l, &hc->scale, n_scales, prefix, part, err);
    return rc;
}

static fs_status load_compressor(fs_loader *l, fs_compressor *x, uint32_t ratio, uint32_t width, const char *prefix,
                                 const char *name, fs_error *err)
{
    uint64_t d = l->net->config->hidden_size, rows;
    char full[FS_NAME_MAX];
    fs_status rc;

    x->ratio = ratio;
    x->width = width;
    x->overlap = ratio == RATIO_OVERLAP;
    rows = (uint64_t)width * (x->overlap ? 2 : 1);
    snprintf(full, sizeof full, "%s%s", prefix, name);
    rc = fs_loader_linear(l, &x->kv, rows, d, false, full, "wkv", err);
    if (!rc)
        rc = fs_loader_linear(l, &x->gate, rows, d, false, full, "wgate", err);
    if (!rc)
        rc = fs_loader_rows(l, &x->ape, ratio, rows, full, "ape", err);
    if (!rc)
        rc = fs_loader_vector(l, &x->norm, width, full, "norm.weight", err);
    return rc;
}

static fs_status load_attention(fs_loader *l, fs_v4 *v, const char *prefix, fs_error *err)
{
    const fs_config *c = l->net->config;
    uint64_t d = c->hidden_size, width = (uint64_t)c->num_attention_heads * c->head_dim;
    uint64_t low = (uint64_t)c->o_groups * c->o_lora_rank;
    fs_status rc = fs_loader_linear(l, &v->q_a, c->q_lora_rank, d, false, prefix, "attn.wq_a", err);

    if (!rc)
        rc = fs_loader_vector(l, &v->q_a_norm, c->q_lora_rank, prefix, "attn.q_norm.weight", err);
    if (!rc)
        rc = fs_loader_linear(l, &v->q_b, width, c->q_lora_rank, false, prefix, "attn.wq_b", err);
    if (!rc)
        rc = fs_loader_linear(l, &v->kv, c->head_dim, d, false, prefix, "attn.wkv", err);
    if (!rc)
        rc = fs_loader_vector(l, &v->kv_norm, c->head_dim, prefix, "attn.kv_norm.weight", err);
    if (!rc)
        rc = fs_loader_exact(l, &v->o_a, low, width / c->o_groups, prefix, "attn.wo_a", err);
    if (!rc)
        rc = fs_loader_input(l, &v->o_a.input, prefix, "attn.wo_a", NULL, 1, width / c->o_groups, err);
    if (!rc && v->o_a.lora.rank)
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "an adapter of '%sattn.wo_a', which works in groups, is not supported", prefix);
    if (!rc)
        rc = fs_loader_linear(l, &v->o_b, d, low, false, prefix, "attn.wo_b", err);
    if (!rc)
        rc = fs_loader_vector(l, &v->sink, c->num_attention_heads, prefix, "attn.attn_sink", err);
    if (rc || !v->ratio)
        return rc;
    rc = load_compressor(l, &v->compressor, v->ratio, c->head_dim, prefix, "attn.compressor.", err);
    v->has_index = v->ratio == RATIO_OVERLAP;
    if (rc || !v->has_index)
        return rc;
    rc = load_compressor(l, &v->index_compressor, v->ratio, c->index_head_dim, prefix, "attn.indexer.compressor.", err);
    if (!rc)
        rc = fs_loader_linear(l, &v->index_q, (uint64_t)c->index_n_heads * c->index_head_dim, c->q_lora_rank, false, prefix,
                              "attn.indexer.wq_b", err);
    if (!rc)
        rc = fs_loader_linear(l, &v->index_weights, c->index_n_heads, d, false, prefix, "attn.indexer.weights_proj", err);
    return rc;
}

static fs_status load_layer(fs_loader *l, fs_layer *layer, uint32_t index, const char *prefix, fs_error *err)
{
    static const char *const ffn_names[3] = { "w1", "w3", "w2" };
    const fs_config *c = l->net->config;
    uint64_t n_rows = (uint64_t)c->hc_mult * (2 + c->hc_mult);
    char ffn[72];
    fs_status rc;

    snprintf(ffn, sizeof ffn, "%sffn.", prefix);
    layer->v4.ratio = ratio_of(c, index);
    layer->is_moe = true;
    rc = load_hc(l, &layer->v4.hc_attention, n_rows, 3, prefix, "hc_attn", err);
    if (!rc)
        rc = fs_loader_vector(l, &layer->input_norm, c->hidden_size, prefix, "attn_norm.weight", err);
    if (!rc)
        rc = load_attention(l, &layer->v4, prefix, err);
    if (!rc)
        rc = load_hc(l, &layer->v4.hc_ffn, n_rows, 3, prefix, "hc_ffn", err);
    if (!rc)
        rc = fs_loader_vector(l, &layer->post_attention_norm, c->hidden_size, prefix, "ffn_norm.weight", err);
    if (!rc)
        rc = fs_loader_exact(l, &layer->moe.router, c->n_routed_experts, c->hidden_size, ffn, "gate", err);
    if (!rc && index < c->num_hash_layers)
        rc = fs_loader_ids(l, &layer->moe.token_experts, c->vocab_size, c->num_experts_per_tok, c->n_routed_experts, ffn,
                           "gate.tid2eid", err);
    else if (!rc)
        rc = fs_loader_vector(l, &layer->moe.correction_bias, c->n_routed_experts, ffn, "gate.bias", err);
    return rc ? rc : fs_loader_experts(l, &layer->moe, ffn, ffn_names, err);
}

/* e_proj and h_proj, which llama.cpp's files hold side by side in one tensor. */
static fs_status load_mtp_inputs(fs_loader *l, fs_mtp *m, const char *prefix, fs_error *err)
{
    uint64_t d = l->net->config->hidden_size;
    char full[FS_NAME_MAX];
    fs_status rc;

    snprintf(full, sizeof full, "%seh_proj.weight", prefix);
    if (fs_weights_find(l->net->weights, full)) {
        rc = fs_loader_columns(l, &m->e_proj, d, 0, d, 2 * d, prefix, "eh_proj.weight", err);
        return rc ? rc : fs_loader_columns(l, &m->h_proj, d, d, d, 2 * d, prefix, "eh_proj.weight", err);
    }
    rc = fs_loader_linear(l, &m->e_proj, d, d, false, prefix, "e_proj", err);
    return rc ? rc : fs_loader_linear(l, &m->h_proj, d, d, false, prefix, "h_proj", err);
}

/* Absent from files that transformers wrote, and of another kind in builds with a DSpark drafter. */
static bool has_mtp(const fs_network *net)
{
    return fs_weights_find(net->weights, "mtp.0.h_proj.weight") || fs_weights_find(net->weights, "mtp.0.eh_proj.weight");
}

static fs_status load_mtp(fs_loader *l, fs_error *err)
{
    static const char prefix[] = "mtp.0.";
    fs_network *net = l->net;
    const fs_config *c = net->config;
    fs_mtp *m = &net->mtp;
    uint32_t index = c->num_hidden_layers;
    fs_status rc;

    if (ratio_of(c, index) != 0)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "compress_ratios[%" PRIu32 "] is %" PRIu32 "; a layer that predicts ahead has 0", index,
                       ratio_of(c, index));
    rc = load_mtp_inputs(l, m, prefix, err);
    if (!rc)
        rc = fs_loader_vector(l, &m->enorm, c->hidden_size, prefix, "enorm.weight", err);
    if (!rc)
        rc = fs_loader_vector(l, &m->hnorm, c->hidden_size, prefix, "hnorm.weight", err);
    if (!rc)
        rc = load_layer(l, &m->layer, index, prefix, err);
    if (!rc)
        rc = load_hc(l, &m->hc_head, c->hc_mult, 1, prefix, "hc_head", err);
    if (!rc)
        rc = fs_loader_vector(l, &m->norm, c->hidden_size, prefix, "norm.weight", err);
    m->embed_tokens = net->embed_tokens;
    m->present = !rc;
    return rc;
}

static fs_status load(fs_loader *l, fs_error *err)
{
    fs_network *net = l->net;
    const fs_config *c = net->config;
    char prefix[64];
    size_t offset = 0, fixed = 0;
    fs_status rc = fs_weights_get(net->weights, "embed.weight", &net->embed_tokens, err, 2, (uint64_t)c->vocab_size,
                                  (uint64_t)c->hidden_size);

    for (uint32_t i = 0; i < c->num_hidden_layers && !rc; i++) {
        net->layers[i].v4.cache_offset = offset;
        net->layers[i].v4.fixed_offset = fixed;
        offset += fs_v4_layer_floats(c, ratio_of(c, i));
        fixed += fs_v4_layer_fixed_floats(c, ratio_of(c, i));
        snprintf(prefix, sizeof prefix, "layers.%" PRIu32 ".", i);
        rc = load_layer(l, &net->layers[i], i, prefix, err);
    }
    if (!rc)
        rc = load_hc(l, &net->hc_head, c->hc_mult, 1, "", "hc_head", err);
    if (!rc)
        rc = fs_loader_vector(l, &net->norm, c->hidden_size, "", "norm.weight", err);
    if (!rc)
        rc = fs_loader_linear(l, &net->lm_head, c->vocab_size, c->hidden_size, false, "", "head", err);
    fs_loader_head_input(l);
    net->mtp.layer.v4.cache_offset = offset;
    return !rc && net->options.mtp && has_mtp(net) ? load_mtp(l, err) : rc;
}

/* ---- cache ---- */
static size_t round_up_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

/* Floats a token of the border rows of one compressor. */
static size_t border_floats(uint32_t ratio, size_t width)
{
    return round_up_div(2 * (size_t)ratio * width, FS_V4_BORDER);
}

/* Window rows and entries stand by position, so that they need nothing to be rewound. Every part takes whole floats a
 * token, so that for a context of whole blocks each starts at a multiple of 256. */
size_t fs_v4_layer_floats(const fs_config *c, uint32_t ratio)
{
    size_t d = c->head_dim, w = c->index_head_dim, n = d;

    if (ratio)
        n += round_up_div(d, ratio);
    if (ratio == RATIO_OVERLAP)
        n += round_up_div(w, ratio) + border_floats(ratio, d) + border_floats(ratio, w);
    return n;
}

/* Rows a compressor keeps: what one that went back FS_CACHE_REWIND tokens still has to pool. */
static size_t offer_rows(uint32_t ratio)
{
    return (ratio == RATIO_OVERLAP ? 2 : 1) * (size_t)ratio + FS_CACHE_REWIND;
}

static size_t offer_floats(uint32_t ratio, size_t width) /* of kv, or of gate */
{
    return (offer_rows(ratio) * (ratio == RATIO_OVERLAP ? 2 : 1) * width + 15) & ~(size_t)15;
}

size_t fs_v4_layer_fixed_floats(const fs_config *c, uint32_t ratio)
{
    return (ratio ? 2 * offer_floats(ratio, c->head_dim) : 0) + (ratio == RATIO_OVERLAP ? 2 * offer_floats(ratio, c->index_head_dim) : 0);
}

static size_t sum_of_layers(const fs_network *net, size_t (*floats)(const fs_config *, uint32_t))
{
    size_t n = net->mtp.present ? floats(net->config, net->mtp.layer.v4.ratio) : 0;

    for (uint32_t i = 0; i < net->config->num_hidden_layers; i++)
        n += floats(net->config, net->layers[i].v4.ratio);
    return n;
}

static size_t cache_floats(const fs_network *net)
{
    return sum_of_layers(net, fs_v4_layer_floats);
}

static size_t cache_fixed_floats(const fs_network *net)
{
    return sum_of_layers(net, fs_v4_layer_fixed_floats);
}

static fs_v4_offers offers_at(const fs_compressor *x, float *rows, float *borders)
{
    return (fs_v4_offers){ .compressor = x, .kv = rows, .gate = rows + offer_floats(x->ratio, x->width), .borders = borders,
                           .n_rows = offer_rows(x->ratio) };
}

fs_v4_cache fs_v4_cache_at(const fs_network *net, const fs_v4 *v4, const fs_cache *cache)
{
    const fs_config *c = net->config;
    size_t ctx = cache->ctx_tokens, d = c->head_dim, w = c->index_head_dim;
    float *rows = cache->memory + net->plan.kv_token_bytes / sizeof(float) * ctx + v4->fixed_offset, *borders;
    fs_v4_cache r = { .kv = cache->memory + v4->cache_offset * ctx };

    if (!v4->ratio)
        return r;
    r.entries = r.kv + ctx * d;
    if (!v4->has_index) {
        r.pooled = offers_at(&v4->compressor, rows, NULL);
        return r;
    }
    r.index_keys = r.entries + ctx * round_up_div(d, v4->ratio);
    borders = r.index_keys + ctx * round_up_div(w, v4->ratio);
    r.pooled = offers_at(&v4->compressor, rows, borders);
    r.index = offers_at(&v4->index_compressor, rows + 2 * offer_floats(v4->ratio, d), borders + ctx * border_floats(v4->ratio, d));
    return r;
}

/* At a multiple of FS_V4_BORDER the long windows are empty; the short ones go on from their border rows. */
static uint32_t cache_restore(const fs_network *net, const fs_cache *c, uint32_t n)
{
    n -= n % FS_V4_BORDER;
    for (uint32_t i = 0; i < net->config->num_hidden_layers; i++) {
        fs_v4_cache at = fs_v4_cache_at(net, &net->layers[i].v4, c);
        if (n && net->layers[i].v4.has_index) {
            fs_v4_offers_restore(&at.pooled, n);
            fs_v4_offers_restore(&at.index, n);
        }
    }
    return n;
}

/* ---- workspace ---- */
#define ARRAY(field, a, b) v->field = fs_ws_array(w, sizeof *v->field, (a), (b))

static void workspace(const fs_network *net, fs_workspace *ws, fs_ws_walk *w)
{
    const fs_config *c = net->config;
    fs_v4_workspace *v = &ws->v4;
    size_t t = ws->tokens_max, n = c->hc_mult, d = c->hidden_size, index = c->index_head_dim;
    size_t pooling = 4 * (size_t)(c->head_dim > index ? c->head_dim : index);

    ARRAY(streams, t, n * d);
    ARRAY(flat, t, n * d);
    ARRAY(mix, t, n * (2 + n));
    ARRAY(post, t, n);
    ARRAY(comb, t, n * n);
    ARRAY(cs_compressed, t, net->rope_compressed.dim);
    ARRAY(pool_kv, t, 2 * (size_t)c->head_dim);
    ARRAY(pool_gate, t, 2 * (size_t)c->head_dim);
    ARRAY(index_kv, t, 2 * index);
    ARRAY(index_gate, t, 2 * index);
    ARRAY(o_low, t, (size_t)c->o_groups * c->o_lora_rank);
    v->scratch_floats = ((n * d > pooling ? n * d : pooling) + c->qk_rope_head_dim + 15) & ~(size_t)15;
    ARRAY(scratch, (size_t)ws->n_threads, v->scratch_floats);
    ws->q_a = fs_ws_array(w, sizeof *ws->q_a, t, c->q_lora_rank);
    ws->sparse_scratch_bytes = (fs_sparse_scratch_bytes(c->head_dim, c->head_dim) + 63) & ~(size_t)63;
    ws->sparse_scratch = fs_ws_array(w, 1, (size_t)ws->n_threads, ws->sparse_scratch_bytes);
    if (c->index_n_heads) {
        ws->index_q = fs_ws_array(w, sizeof *ws->index_q, t, (size_t)c->index_n_heads * index);
        ws->index_w = fs_ws_array(w, sizeof *ws->index_w, t, c->index_n_heads);
        ws->selected = fs_ws_array(w, sizeof *ws->selected, t, c->index_topk);
        ws->index_scratch_bytes = (fs_indexer_scratch_bytes(c) + 63) & ~(size_t)63;
        ws->index_scratch = fs_ws_array(w, 1, (size_t)ws->n_threads, ws->index_scratch_bytes);
    }
}

float *fs_v4_scratch(const fs_workspace *ws, int thread)
{
    return ws->v4.scratch + (size_t)thread * ws->v4.scratch_floats;
}

/* ---- step ---- */
struct embed_job {
    fs_network *net;
    fs_workspace *ws;
};

static void angles(const struct embed_job *job, size_t t)
{
    const fs_network *net = job->net;
    fs_workspace *ws = job->ws;
    uint32_t ctx = ws->rows[ws->row_of[t]].cache->ctx_limit;

    fs_rope_angles(&net->rope, ws->positions[t], ctx, ws->cs + t * net->rope.dim);
    fs_rope_angles(&net->rope_compressed, ws->positions[t], ctx, ws->v4.cs_compressed + t * net->rope_compressed.dim);
}

static void embed_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct embed_job *job = ud;
    fs_workspace *ws = job->ws;
    size_t d = job->net->config->hidden_size, n = job->net->config->hc_mult;

    (void)thread;
    for (size_t t = begin; t < end; t++) {
        float *x = ws->v4.streams + t * n * d;
        fs_tensor_row_f32(job->net->embed_tokens, (uint64_t)ws->ids[t], x);
        for (size_t i = 1; i < n; i++)
            memcpy(x + i * d, x, d * sizeof *x);
        angles(job, t);
    }
}

static void run_layer(fs_network *net, fs_workspace *ws, const fs_layer *layer)
{
    fs_hc_pre(net, ws, &layer->v4.hc_attention, layer->input_norm);
    fs_v4_attention(net, ws, layer);
    fs_hc_post(net, ws);
    fs_hc_pre(net, ws, &layer->v4.hc_ffn, layer->post_attention_norm);
    fs_h_in(net, ws, layer->moe.takes, ws->n_tokens);
    fs_moe_run(net, ws, &layer->moe, ws->n_tokens, ws->y, NULL);
    fs_hc_post(net, ws);
}

static void streams_out(const fs_network *net, const fs_workspace *ws, size_t first, size_t n, float *ret)
{
    size_t width = (size_t)net->config->hc_mult * net->config->hidden_size;

    memcpy(ret, ws->v4.streams + first * width, n * width * sizeof *ret);
}

static void run(fs_network *net, fs_workspace *ws)
{
    struct embed_job embed = { net, ws };

    fs_pool_for(net->pool, ws->n_tokens, fs_row_grain(net, ws->n_tokens), embed_piece, &embed);
    for (uint32_t i = 0; i < net->config->num_hidden_layers; i++)
        run_layer(net, ws, &net->layers[i]);
    for (size_t r = 0, t = 0; r < ws->n_rows; t += ws->rows[r++].n)
        if (ws->rows[r].ret_hidden)
            streams_out(net, ws, t, ws->rows[r].n, ws->rows[r].ret_hidden);
    fs_hc_head(net, ws, &net->hc_head);
}

/* ---- the layer that predicts ahead ---- */
static void mtp_embed_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct embed_job *job = ud;
    const fs_config *c = job->net->config;
    const fs_mtp *m = &job->net->mtp;
    fs_workspace *ws = job->ws;
    size_t d = c->hidden_size;

    (void)thread;
    for (size_t t = begin; t < end; t++) {
        fs_tensor_row_f32(m->embed_tokens, (uint64_t)ws->ids[t], ws->h + t * d);
        job->net->kernels->rows.rmsnorm(ws->h + t * d, m->enorm, (float)c->rms_norm_eps, ws->h + t * d, d);
        angles(job, t);
    }
}

/* The embedding's part to every stream. */
static void mtp_join_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct embed_job *job = ud;
    fs_workspace *ws = job->ws;
    size_t d = job->net->config->hidden_size, n = job->net->config->hc_mult;

    (void)thread;
    for (size_t t = begin; t < end; t++)
        for (size_t i = 0; i < n; i++) {
            float *x = ws->v4.streams + (t * n + i) * d;
            job->net->kernels->rows.add(ws->x + t * d, x, x, d);
        }
}

static void run_mtp(fs_network *net, fs_workspace *ws, const float *hidden, uint32_t n_last, float *ret_hidden)
{
    const fs_mtp *m = &net->mtp;
    size_t d = net->config->hidden_size, n = net->config->hc_mult, t = ws->n_tokens, grain = fs_row_grain(net, t);
    struct embed_job embed = { net, ws };

    fs_pool_for(net->pool, t, grain, mtp_embed_piece, &embed);
    fs_linear_run(net, ws, &m->e_proj, ws->h, d, t, ws->x, d);
    fs_norm_rows(net, hidden, d, m->hnorm, net->config->rms_norm_eps, ws->v4.flat, d, d, t * n);
    fs_linear_run(net, ws, &m->h_proj, ws->v4.flat, d, t * n, ws->v4.streams, d);
    fs_pool_for(net->pool, t, grain, mtp_join_piece, &embed);
    run_layer(net, ws, &m->layer);
    if (ret_hidden)
        streams_out(net, ws, t - n_last, n_last, ret_hidden);
    fs_hc_head(net, ws, &m->hc_head);
}

const fs_arch fs_arch_deepseek_v4 = { .model_type = "deepseek_v4", .check = check, .init = init, .load = load,
                                      .cache_floats = cache_floats, .cache_fixed_floats = cache_fixed_floats, .cache_restore = cache_restore,
                                      .workspace = workspace, .run = run, .run_mtp = run_mtp };
