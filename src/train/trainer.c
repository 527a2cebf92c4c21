/* A trainer's life: parameters found by name, operands, and every activation planned once. The plan and the allocation are
 * one walk, so that they cannot disagree. */
#include "train/internal.h"

#include "models/network.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- layers ---- */
static fs_status find(fs_trainer *t, fs_param **ret, const char *prefix, const char *name, fs_error *err)
{
    char full[192];

    snprintf(full, sizeof full, "%s%s", prefix, name);
    *ret = fs_params_find(t->params, full);
    return *ret ? FS_OK : fs_fail(err, FS_ERR_FORMAT, "tensor '%s' is missing", full);
}

static fs_status init_latent(fs_trainer *t, fs_train_layer *l, const char *prefix, fs_error *err)
{
    const fs_config *c = t->config;
    uint32_t heads = c->num_attention_heads, nope = c->qk_nope_head_dim, v = c->v_head_dim;
    fs_param *kv_b;
    char name[192];
    fs_status rc = FS_OK;

    if (c->q_lora_rank) {
        rc = fs_lin_init(t, &l->q_a, prefix, "self_attn.q_a_proj", err);
        if (!rc)
            rc = find(t, &l->q_a_norm, prefix, "self_attn.q_a_layernorm.weight", err);
    }
    if (!rc)
        rc = fs_lin_init(t, &l->q, prefix, c->q_lora_rank ? "self_attn.q_b_proj" : "self_attn.q_proj", err);
    if (!rc)
        rc = fs_lin_init(t, &l->kv_a, prefix, "self_attn.kv_a_proj_with_mqa", err);
    if (!rc)
        rc = find(t, &l->kv_a_norm, prefix, "self_attn.kv_a_layernorm.weight", err);
    if (!rc)
        rc = find(t, &kv_b, prefix, "self_attn.kv_b_proj.weight", err);
    if (!rc)
        rc = fs_lin_init(t, &l->o, prefix, "self_attn.o_proj", err);
    if (rc)
        return rc;
    snprintf(name, sizeof name, "%sself_attn.kv_b_proj", prefix);
    rc = fs_merged_new(t, kv_b, name, &l->kv_b, err);
    if (rc)
        return rc;
    l->uk = calloc(heads, sizeof *l->uk);
    l->uv = calloc(heads, sizeof *l->uv);
    if (!l->uk || !l->uv)
        return fs_fail_memory(err, heads * sizeof *l->uk);
    for (uint32_t h = 0; h < heads && !rc; h++) {
        rc = fs_operand_add(t, &l->uk[h], kv_b, h * (nope + v), nope, err);
        if (!rc)
            rc = fs_operand_add(t, &l->uv[h], kv_b, h * (nope + v) + nope, v, err);
        l->uk[h].merged = l->uv[h].merged = l->kv_b;
    }
    return rc;
}

static fs_status init_gqa(fs_trainer *t, fs_train_layer *l, const char *prefix, fs_error *err)
{
    fs_status rc = fs_lin_init(t, &l->q, prefix, "self_attn.q_proj", err);

    if (!rc)
        rc = fs_lin_init(t, &l->k, prefix, "self_attn.k_proj", err);
    if (!rc)
        rc = fs_lin_init(t, &l->v, prefix, "self_attn.v_proj", err);
    if (!rc)
        rc = fs_lin_init(t, &l->o, prefix, "self_attn.o_proj", err);
    if (!rc && strcmp(t->config->model_type, "qwen3") == 0) {
        rc = find(t, &l->q_norm, prefix, "self_attn.q_norm.weight", err);
        if (!rc)
            rc = find(t, &l->k_norm, prefix, "self_attn.k_norm.weight", err);
    }
    return rc;
}

static fs_status init_ffn(fs_trainer *t, fs_lin_ffn *f, const char *prefix, const char *name, fs_error *err)
{
    char full[128];
    fs_status rc;

    snprintf(full, sizeof full, "%s%s.", prefix, name);
    rc = fs_lin_init(t, &f->gate, full, "gate_proj", err);
    if (!rc)
        rc = fs_lin_init(t, &f->up, full, "up_proj", err);
    return rc ? rc : fs_lin_init(t, &f->down, full, "down_proj", err);
}

static fs_status init_layer(fs_trainer *t, fs_train_layer *l, uint32_t index, fs_error *err)
{
    const fs_config *c = t->config;
    char prefix[64], name[32];
    fs_status rc;

    snprintf(prefix, sizeof prefix, "model.layers.%" PRIu32 ".", index);
    l->qk_max = calloc(c->num_attention_heads, sizeof *l->qk_max);
    if (!l->qk_max)
        return fs_fail_memory(err, c->num_attention_heads * sizeof *l->qk_max);
    rc = find(t, &l->input_norm, prefix, "input_layernorm.weight", err);
    if (!rc)
        rc = c->kv_lora_rank ? init_latent(t, l, prefix, err) : init_gqa(t, l, prefix, err);
    if (!rc)
        rc = find(t, &l->post_norm, prefix, "post_attention_layernorm.weight", err);
    if (rc)
        return rc;
    l->is_moe = fs_config_layer_is_moe(c, index);
    if (!l->is_moe)
        return init_ffn(t, &l->ffn, prefix, "mlp", err);
    l->has_shared = c->n_shared_experts > 0;
    l->experts = calloc(c->n_routed_experts, sizeof *l->experts);
    l->load = calloc(c->n_routed_experts, sizeof *l->load);
    l->gates = calloc(c->n_routed_experts, sizeof *l->gates);
    if (!l->experts || !l->load || !l->gates)
        return fs_fail_memory(err, c->n_routed_experts * sizeof *l->experts);
    rc = fs_lin_init(t, &l->router, prefix, "mlp.gate", err);
    if (!rc && c->topk_method == FS_TOPK_NOAUX_TC)
        rc = find(t, &l->correction_bias, prefix, "mlp.gate.e_score_correction_bias", err);
    l->router.w.pairs = false; /* a rounded logit would flip choices */
    for (uint32_t e = 0; e < c->n_routed_experts && !rc; e++) {
        snprintf(name, sizeof name, "mlp.experts.%" PRIu32, e);
        rc = init_ffn(t, &l->experts[e], prefix, name, err);
        l->has_expert_pairs = l->has_expert_pairs || l->experts[e].gate.low.r || l->experts[e].up.low.r || l->experts[e].down.low.r;
    }
    return rc || !l->has_shared ? rc : init_ffn(t, &l->ffn, prefix, "mlp.shared_experts", err);
}

static fs_status init_model(fs_trainer *t, fs_error *err)
{
    const fs_config *c = t->config;
    char prefix[64];
    fs_status rc = find(t, &t->embed, "", "model.embed_tokens.weight", err);

    if (!rc)
        rc = find(t, &t->norm, "", "model.norm.weight", err);
    if (!rc)
        rc = c->tie_word_embeddings ? fs_operand_add(t, &t->head.w, t->embed, 0, c->vocab_size, err) : fs_lin_init(t, &t->head, "", "lm_head", err);
    if (!rc && c->tie_word_embeddings)
        rc = fs_low_rank_init(t, &t->head.low, "lm_head", err);
    for (uint32_t i = 0; i < t->n_layers && !rc; i++)
        rc = init_layer(t, &t->layers[i], i, err);
    if (rc || !t->options.mtp)
        return rc;
    snprintf(prefix, sizeof prefix, "model.layers.%" PRIu32 ".", c->num_hidden_layers);
    rc = find(t, &t->enorm, prefix, "enorm.weight", err);
    if (!rc)
        rc = find(t, &t->hnorm, prefix, "hnorm.weight", err);
    if (!rc)
        rc = find(t, &t->mtp_norm, prefix, "shared_head.norm.weight", err);
    return rc ? rc : fs_lin_init(t, &t->eh_proj, prefix, "eh_proj", err);
}

/* ---- activations ---- */
struct walk {
    uint8_t *base; /* NULL: planning */
    size_t n_bytes;
    bool overflow;
};

static void *take(struct walk *w, size_t elem, size_t a, size_t b)
{
    size_t n, at = w->n_bytes;

    if (!fs_mul_size(elem, a, &n) || !fs_mul_size(n, b, &n) || !fs_add_size(n, 63, &n) || !fs_add_size(at, n & ~(size_t)63, &w->n_bytes)) {
        w->overflow = true;
        return NULL;
    }
    return w->base ? w->base + at : NULL;
}

#define TAKE(field, a, b) field = take(w, sizeof *(field), (a), (b))

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* What is kept whether the rest is made again or not. */
static void walk_input(const fs_trainer *t, fs_train_layer *l, struct walk *w)
{
    const fs_config *c = t->config;
    size_t m = t->options.tokens_max, k = c->num_experts_per_tok, e = c->n_routed_experts;
    fs_kept *kept = &l->kept;

    TAKE(kept->x, m, c->hidden_size);
    if (!l->is_moe)
        return;
    TAKE(kept->scores, m, e);
    TAKE(kept->top_weights, m, k);
    TAKE(kept->top_ids, m, k);
    TAKE(kept->slot, m, k);
    TAKE(kept->row_token, m, k);
    TAKE(kept->expert_begin, e + 1, 1);
}

static void walk_layer(const fs_trainer *t, fs_train_layer *l, struct walk *w)
{
    const fs_config *c = t->config;
    size_t m = t->options.tokens_max, heads = c->num_attention_heads, rows = m * c->num_experts_per_tok;
    fs_kept *kept = &l->kept;

    TAKE(kept->x_mid, m, c->hidden_size);
    TAKE(kept->q, m, l->q.w.n);
    TAKE(kept->m, m, heads);
    TAKE(kept->l, m, heads);
    TAKE(kept->att, m, l->o.w.k);
    if (c->kv_lora_rank) {
        TAKE(kept->q_raw, m, c->q_lora_rank);
        TAKE(kept->k_raw, m, t->key_dim);
        TAKE(kept->k, m, t->key_dim);
        TAKE(kept->q_lat, m, heads * t->key_dim);
        TAKE(kept->o_lat, m, heads * t->value_dim);
    } else {
        TAKE(kept->k, m, l->k.w.n);
        TAKE(kept->v, m, l->v.w.n);
        if (l->q_norm) {
            TAKE(kept->q_raw, m, l->q.w.n);
            TAKE(kept->k_raw, m, l->k.w.n);
        }
    }
    if (!l->is_moe || l->has_shared) {
        TAKE(kept->gate, m, l->ffn.gate.w.n);
        TAKE(kept->up, m, l->ffn.gate.w.n);
    }
    if (l->is_moe) {
        TAKE(kept->expert_gate, rows, c->moe_intermediate_size);
        TAKE(kept->expert_up, rows, c->moe_intermediate_size);
    }
}

/* What is made again lies in one place, of all layers. */
static void walk_layers(const fs_trainer *t, struct walk *w)
{
    size_t begin, end;

    for (uint32_t i = 0; i < t->n_layers; i++)
        walk_input(t, &t->layers[i], w);
    begin = end = w->n_bytes;
    for (uint32_t i = 0; i < t->n_layers; i++) {
        if (t->options.recompute)
            w->n_bytes = begin;
        walk_layer(t, &t->layers[i], w);
        end = larger(end, w->n_bytes);
    }
    w->n_bytes = end;
}

/* Of all operands. */
static size_t widest_input(const fs_trainer *t)
{
    size_t k = t->config->hidden_size;

    for (size_t i = 0; i < t->n_operands; i++)
        k = larger(k, t->operands[i]->k);
    return k;
}

static void walk(fs_trainer *t, struct walk *w)
{
    const fs_config *c = t->config;
    size_t m = t->options.tokens_max, d = c->hidden_size, heads = c->num_attention_heads, spans = t->options.sequences_max;
    size_t k = c->n_routed_experts ? c->num_experts_per_tok : 0, e = c->n_routed_experts, rows = k ? m * k : 0, widest_k = widest_input(t);
    size_t kv = c->kv_lora_rank ? t->key_dim : (size_t)c->num_key_value_heads * c->head_dim, ffn = m * c->intermediate_size;

    TAKE(t->spans, spans, 1);
    TAKE(t->tiles, m, 1);
    TAKE(t->ids, m, 1);
    TAKE(t->targets, m, 1);
    TAKE(t->coefficients, m, 1);
    TAKE(t->next_ids, m, 1);
    TAKE(t->next_targets, m, 1);
    TAKE(t->positions, m, 1);
    TAKE(t->span_of, m, 1);
    TAKE(t->brought, m, 1);
    TAKE(t->index, m, 1);
    TAKE(t->chain_at, m + 1, 1);
    TAKE(t->chain_words, larger(m, rows), 1);
    TAKE(t->cs, c->max_position_embeddings < m ? c->max_position_embeddings : m, t->rope.dim);
    TAKE(t->cs_back, c->max_position_embeddings < m ? c->max_position_embeddings : m, t->rope.dim);
    walk_layers(t, w);
    t->scratch_bytes = larger(fs_attention_backward_bytes(t->key_dim, t->value_dim),
                              FS_ATTENTION_QUERIES_MAX * t->value_dim * sizeof(float) + fs_attention_scratch_bytes(t->key_dim, t->value_dim));
    t->scratch_bytes = (larger(t->scratch_bytes, 2 * e * sizeof(float)) + 4095) & ~(size_t)4095;
    TAKE(t->scratch, (size_t)fs_pool_threads(t->pool), t->scratch_bytes);
    TAKE(t->dx, m, d);
    TAKE(t->h, m, d);
    TAKE(t->dh, m, d);
    TAKE(t->y, m, d);
    TAKE(t->tmp, m, larger(widest_k, t->options.mtp ? 2 * d : d));
    TAKE(t->final_x, m, d);
    TAKE(t->final_h, m, d);
    TAKE(t->d_final, m, d);
    if (t->options.mtp) {
        TAKE(t->mtp_cat, m, 2 * d);
        TAKE(t->d_mtp_cat, m, 2 * d);
        TAKE(t->mtp_nll, m, 1);
    }
    TAKE(t->r, m, heads);
    TAKE(t->nll, m, 1);
    TAKE(t->d_att, m, t->layers[0].o.w.k);
    TAKE(t->dq, m, t->layers[0].q.w.n);
    TAKE(t->dk, m, kv);
    TAKE(t->d_kv_raw, m, kv);
    TAKE(t->d_raw, m, larger(t->layers[0].q.w.n, c->q_lora_rank));
    TAKE(t->dk_part, m, heads * t->key_dim);
    TAKE(t->dv_part, m, heads * t->value_dim);
    if (c->kv_lora_rank) {
        TAKE(t->dq_lat, m, heads * t->key_dim);
        TAKE(t->do_lat, m, heads * t->value_dim);
        TAKE(t->q_normed, m, c->q_lora_rank);
    } else {
        TAKE(t->dv, m, kv);
        TAKE(t->k_panels, m + FS_PANEL * spans, kv);
        if (t->options.bf16)
            TAKE(t->v_pairs, m / 2 + 1 + spans, kv);
    }
    if (c->kv_lora_rank && t->options.bf16)
        TAKE(t->k_panels, m, fs_pairs(t->key_dim));
    ffn = larger(ffn, larger(rows * c->moe_intermediate_size, m * c->n_shared_experts * c->moe_intermediate_size));
    TAKE(t->mid, ffn, 1);
    TAKE(t->d_gate, ffn, 1);
    TAKE(t->d_up, ffn, 1);
    if (rows) {
        TAKE(t->gathered, rows, d);
        TAKE(t->by_expert, rows, d);
        TAKE(t->router_grad, m, e);
        TAKE(t->expert_dw, rows, 1);
        TAKE(t->frequency, spans, e);
        TAKE(t->expert_chain_at, rows + 1, 1);
        TAKE(t->own_chain_at, t->low_r ? rows + 1 : 0, 1);
        TAKE(t->expert_chain_begin, e + 1, 1);
    }
    TAKE(t->low_u, larger(m, FS_CHAIN_TOKENS), t->low_r);
    TAKE(t->low_e, larger(m, FS_CHAIN_TOKENS), t->low_r);
    TAKE(t->low_tiles, (size_t)fs_pool_threads(t->pool), fs_low_rank_tile_floats(t));
    TAKE(t->logits, FS_CHAIN_TOKENS, c->vocab_size);
    TAKE(t->pack_x, larger(m, rows), fs_whole_panels(widest_k));
}

/* The MTP layer's sums of the head's pair begin at g. */
static void share_head_pair(fs_trainer *t, float *g)
{
    t->mtp_head_low = t->head.low;
    t->mtp_pair[0] = *t->head.low.a.p;
    t->mtp_pair[1] = *t->head.low.b.p;
    t->mtp_pair[0].g = g;
    t->mtp_pair[1].g = g + t->mtp_pair[0].n;
    t->mtp_head_low.a.p = &t->mtp_pair[0];
    t->mtp_head_low.b.p = &t->mtp_pair[1];
}

static fs_status plan(fs_trainer *t, fs_error *err)
{
    const fs_config *c = t->config;
    struct walk w = { 0 };
    bool frozen = t->options.low_rank != NULL;
    size_t n = (size_t)c->vocab_size * c->hidden_size, sets = frozen ? 0 : (c->tie_word_embeddings ? 1 : 0) + (t->options.mtp ? 2 : 0);
    size_t pair = t->options.mtp && t->head.low.r ? t->head.low.a.p->n + t->head.low.b.p->n : 0, floats;

    walk(t, &w);
    if (w.overflow)
        return fs_fail(err, FS_ERR_MEMORY, "the activations of %" PRIu32 " tokens would not fit in the address space", t->options.tokens_max);
    t->memory_bytes = w.n_bytes;
    t->memory = fs_alloc_lazy(w.n_bytes);
    if (!t->memory)
        return fs_fail_memory(err, w.n_bytes);
    w = (struct walk){ .base = (uint8_t *)t->memory };
    walk(t, &w);
    if (!sets && !pair)
        return FS_OK;
    if (!fs_mul_size(n, sets, &floats) || !fs_add_size(floats, pair, &floats) || !fs_mul_size(floats, sizeof(float), &t->grad_memory_bytes))
        return fs_fail(err, FS_ERR_MEMORY, "the gradients of the embedding would not fit in the address space");
    t->grad_memory = fs_alloc_lazy(t->grad_memory_bytes);
    if (!t->grad_memory)
        return fs_fail_memory(err, t->grad_memory_bytes);
    if (pair)
        share_head_pair(t, t->grad_memory + sets * n);
    if (t->options.mtp && sets) {
        t->mtp_head_grad = t->grad_memory;
        t->mtp_scatter = t->grad_memory + n;
    }
    if (c->tie_word_embeddings && sets)
        t->embed_scatter = t->grad_memory + (sets - 1) * n;
    return FS_OK;
}

/* ---- life ---- */
static fs_status check(const fs_config *c, const fs_trainer_options *o, fs_error *err)
{
    static const char *const types[] = { "llama", "qwen2", "qwen3", "deepseek", "deepseek_v2", "deepseek_v3" };
    size_t i = 0;
    fs_status rc = fs_network_check(c, err);

    if (rc)
        return rc;
    while (i < sizeof types / sizeof *types && strcmp(types[i], c->model_type) != 0)
        i++;
    if (i == sizeof types / sizeof *types)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "model_type '%s' cannot be trained; llama, qwen2, qwen3, deepseek, deepseek_v2 and deepseek_v3 can",
                       c->model_type);
    if (c->rope_type == FS_ROPE_LONGROPE)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "longrope cannot be trained: its frequencies change with the context");
    if (o->mtp && !c->num_nextn_predict_layers)
        return fs_fail(err, FS_ERR_ARGUMENT, "the model has no multi-token-prediction layer");
    if (!o->tokens_max || !o->sequences_max)
        return fs_fail(err, FS_ERR_ARGUMENT, "a micro-batch of no tokens makes no sense");
    return FS_OK;
}

fs_status fs_trainer_new(const fs_config *c, fs_pool *pool, const fs_kernels *kernels, const fs_trainer_options *options, fs_trainer **ret,
                         fs_error *err)
{
    bool latent = c->kv_lora_rank > 0;
    fs_status rc = check(c, options, err);
    fs_trainer *t;

    if (rc)
        return rc;
    t = calloc(1, sizeof *t);
    if (!t)
        return fs_fail_memory(err, sizeof *t);
    t->config = c;
    t->pool = pool;
    t->kernels = kernels;
    t->options = *options;
    t->norm_eps = (float)c->rms_norm_eps;
    t->softmax_scale = latent ? fs_mla_softmax_scale(c) : fs_gqa_softmax_scale(c);
    t->key_dim = latent ? c->kv_lora_rank + c->qk_rope_head_dim : c->head_dim;
    t->value_dim = latent ? c->kv_lora_rank : c->head_dim;
    t->n_layers = c->num_hidden_layers + (options->mtp ? 1 : 0);
    t->layers = calloc(t->n_layers, sizeof *t->layers);
    rc = t->layers ? fs_rope_init(&t->rope, c, latent ? c->qk_rope_head_dim : c->head_dim, err) : fs_fail_memory(err, t->n_layers * sizeof *t->layers);
    if (!rc)
        rc = fs_params_new_with(c, options->mtp, options->low_rank, &t->params, err);
    if (!rc)
        rc = init_model(t, err);
    if (!rc)
        rc = fs_operands_plan(t, err);
    if (!rc)
        rc = plan(t, err);
    if (rc) {
        fs_trainer_free(t);
        return rc;
    }
    *ret = t;
    return FS_OK;
}

void fs_trainer_free(fs_trainer *t)
{
    if (!t)
        return;
    for (uint32_t i = 0; t->layers && i < t->n_layers; i++) {
        fs_merged_free(t->layers[i].kv_b);
        free(t->layers[i].uk);
        free(t->layers[i].uv);
        free(t->layers[i].experts);
        free(t->layers[i].load);
        free(t->layers[i].gates);
        free(t->layers[i].qk_max);
    }
    free(t->layers);
    fs_rope_done(&t->rope);
    fs_operands_done(t);
    fs_params_free(t->params);
    fs_distilling_free(t->distil);
    fs_free_lazy(t->grad_memory, t->grad_memory_bytes);
    fs_free_lazy(t->memory, t->memory_bytes);
    free(t);
}

fs_params *fs_trainer_params(fs_trainer *t)
{
    return t->params;
}

bool fs_trainer_is_bf16(const fs_trainer *t)
{
    return t->options.bf16;
}

size_t fs_trainer_bytes(const fs_trainer *t)
{
    size_t sets = (t->params->m ? 3 : 1) + (t->params->e ? 1 : 0);

    return (t->params->n_floats + sets * t->params->n_trained) * sizeof(float) + t->packed_bytes + t->memory_bytes + t->grad_memory_bytes +
           (t->distil ? t->distil->bytes : 0);
}

uint32_t fs_trainer_n_layers(const fs_trainer *t)
{
    return t->n_layers;
}

const uint64_t *fs_trainer_expert_load(const fs_trainer *t, uint32_t layer)
{
    return t->layers[layer].load;
}

const double *fs_trainer_expert_gates(const fs_trainer *t, uint32_t layer)
{
    return t->layers[layer].gates;
}

void fs_trainer_move_biases(fs_trainer *t, double rate)
{
    uint32_t n = t->config->n_routed_experts;
    float step = (float)rate;

    for (uint32_t i = 0; i < t->n_layers; i++) {
        const fs_train_layer *l = &t->layers[i];
        uint64_t total = 0;
        if (!l->correction_bias || l->correction_bias->frozen)
            continue;
        for (uint32_t e = 0; e < n; e++)
            total += l->load[e];
        for (uint32_t e = 0; e < n; e++) /* load against total / n, in integers */
            if (l->load[e] * n != total)
                l->correction_bias->w[e] = l->correction_bias->w[e] + (l->load[e] * n < total ? step : -step);
    }
}
