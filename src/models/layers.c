/* The walk over a model: which tensors its layers have, by name and shape, each given to loader.c. It runs once to plan
 * and once to pack. An architecture that has layers of its own (deepseek_v4.c) walks by itself, with these parts. */
#include "models/experts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const ffn_names[3] = { "gate_proj", "up_proj", "down_proj" };

fs_status fs_loader_ffn(fs_loader *l, fs_ffn *f, uint64_t intermediate, bool bias, const char *prefix,
                        const char *const names[3], fs_error *err)
{
    uint64_t d = l->net->config->hidden_size;
    fs_status rc = fs_loader_linear(l, &f->gate, intermediate, d, bias, prefix, names[0], err);

    if (!rc)
        rc = fs_loader_linear(l, &f->up, intermediate, d, bias, prefix, names[1], err);
    if (!rc)
        rc = fs_loader_linear(l, &f->down, d, intermediate, bias, prefix, names[2], err);
    return rc;
}

/* What streaming the expert just walked would need. */
static void plan_expert(fs_loader *l)
{
    fs_network_plan *p = &l->net->plan;

    p->n_experts++;
    p->experts_bytes += l->expert_bytes;
    if (l->expert_bytes > p->expert_bytes)
        p->expert_bytes = l->expert_bytes;
    for (int i = 0; i < 3; i++)
        if (fs_piece_room(l->expert_tensors[i]) > p->expert_room)
            p->expert_room = fs_piece_room(l->expert_tensors[i]);
}

static fs_status load_experts_inputs(fs_loader *l, fs_moe *moe, const char *prefix, const char *const names[3], fs_error *err)
{
    const fs_config *c = l->net->config;
    char first[3][72];
    fs_status rc;

    for (int i = 0; i < 3; i++)
        snprintf(first[i], sizeof first[i], "experts.0.%s", names[i]);
    rc = fs_loader_input(l, &moe->input, prefix, first[0], first[1], c->n_routed_experts, c->hidden_size, err);
    return rc ? rc : fs_loader_input(l, &moe->mid, prefix, first[2], NULL, c->n_routed_experts, c->moe_intermediate_size, err);
}

fs_status fs_loader_experts(fs_loader *l, fs_moe *moe, const char *prefix, const char *const names[3], fs_error *err)
{
    const fs_config *c = l->net->config;
    char full[FS_NAME_MAX];
    fs_status rc = FS_OK;

    if (!moe->experts) {
        moe->experts = calloc(c->n_routed_experts, sizeof *moe->experts);
        if (!moe->experts)
            return fs_fail_memory(err, c->n_routed_experts * sizeof *moe->experts);
    }
    l->expert = true;
    if (l->net->experts)
        moe->layer = fs_experts_add_layer(l->net->experts);
    for (uint32_t e = 0; e < c->n_routed_experts && !rc; e++) {
        snprintf(full, sizeof full, "%sexperts.%" PRIu32 ".", prefix, e);
        l->expert_bytes = 0;
        l->n_expert_tensors = 0;
        rc = fs_loader_ffn(l, &moe->experts[e], c->moe_intermediate_size, false, full, names, err);
        moe->experts[e].met = false;
        if (!rc && l->planning && !l->net->options.mapped)
            plan_expert(l);
        else if (!rc && l->net->experts)
            fs_experts_add(l->net->experts, &moe->experts[e], l->expert_tensors);
    }
    l->expert = false;
    if (!rc)
        rc = load_experts_inputs(l, moe, prefix, names, err);
    moe->has_shared = c->n_shared_experts > 0;
    snprintf(full, sizeof full, "%sshared_experts.", prefix);
    if (!rc && moe->has_shared)
        rc = fs_loader_ffn(l, &moe->shared, (uint64_t)c->n_shared_experts * c->moe_intermediate_size, false, full, names, err);
    moe->experts_take = moe->downs_take = 0;
    for (uint32_t e = 0; e < c->n_routed_experts && !rc; e++) {
        moe->experts_take |= fs_linear_takes(&moe->experts[e].gate) | fs_linear_takes(&moe->experts[e].up);
        moe->downs_take |= fs_linear_takes(&moe->experts[e].down);
    }
    moe->takes = fs_linear_takes(&moe->router) | moe->experts_take;
    if (moe->has_shared)
        moe->takes |= fs_linear_takes(&moe->shared.gate) | fs_linear_takes(&moe->shared.up);
    return rc;
}

void fs_loader_head_input(fs_loader *l)
{
    l->net->head_input = l->net->lm_head.input;
    l->net->lm_head.input = 0;
}

static fs_status load_moe(fs_loader *l, fs_moe *moe, const char *prefix, fs_error *err)
{
    const fs_config *c = l->net->config;
    fs_status rc = fs_loader_exact(l, &moe->router, c->n_routed_experts, c->hidden_size, prefix, "gate", err);

    if (!rc && c->topk_method == FS_TOPK_NOAUX_TC)
        rc = fs_loader_vector(l, &moe->correction_bias, c->n_routed_experts, prefix, "gate.e_score_correction_bias", err);
    return rc ? rc : fs_loader_experts(l, moe, prefix, ffn_names, err);
}

/* The forms of the normed input that the first products of attention take. */
static unsigned attention_takes(const fs_network *net, const fs_layer *layer)
{
    const fs_gqa *g = &layer->gqa;
    const fs_mla *m = &layer->mla;
    unsigned takes;

    if (!net->arch->is_mla)
        return fs_linear_takes(&g->q) | fs_linear_takes(&g->k) | fs_linear_takes(&g->v);
    takes = fs_linear_takes(net->config->q_lora_rank ? &m->q_a : &m->q) | fs_linear_takes(&m->kv_a);
    if (net->arch->has_indexer)
        takes |= fs_linear_takes(&m->indexer.wk) | fs_linear_takes(&m->indexer.weights_proj);
    return takes;
}

static fs_status load_layer(fs_loader *l, fs_layer *layer, uint32_t index, fs_error *err)
{
    const fs_config *c = l->net->config;
    char prefix[64], mlp[72];
    fs_status rc;

    snprintf(prefix, sizeof prefix, "model.layers.%" PRIu32 ".", index);
    snprintf(mlp, sizeof mlp, "%smlp.", prefix);
    rc = fs_loader_vector(l, &layer->input_norm, c->hidden_size, prefix, "input_layernorm.weight", err);
    if (!rc)
        rc = l->net->arch->load_attention(l, layer, prefix, err);
    if (!rc)
        rc = fs_loader_vector(l, &layer->post_attention_norm, c->hidden_size, prefix, "post_attention_layernorm.weight", err);
    layer->is_moe = fs_config_layer_is_moe(c, index);
    if (!rc)
        rc = layer->is_moe ? load_moe(l, &layer->moe, mlp, err)
                           : fs_loader_ffn(l, &layer->ffn, c->intermediate_size, c->mlp_bias, mlp, ffn_names, err);
    layer->attention_takes = attention_takes(l->net, layer);
    layer->ffn_takes = layer->is_moe ? layer->moe.takes : fs_linear_takes(&layer->ffn.gate) | fs_linear_takes(&layer->ffn.up);
    return rc;
}

/* The MTP layer's embedding and head are copies of the main ones in every release; a copy that is equal to the byte is
 * not packed a second time. */
static bool same_tensor(const fs_tensor *a, const fs_tensor *b)
{
    return a->dtype == b->dtype && a->n_bytes == b->n_bytes && a->scales == b->scales && a->rope_heads == b->rope_heads &&
           memcmp(a->data, b->data, a->n_bytes) == 0;
}

static fs_status load_mtp(fs_loader *l, fs_error *err)
{
    fs_network *net = l->net;
    const fs_config *c = net->config;
    fs_mtp *m = &net->mtp;
    uint64_t d = c->hidden_size;
    char prefix[64], full[FS_NAME_MAX];
    const fs_tensor *t;
    fs_status rc;

    snprintf(prefix, sizeof prefix, "model.layers.%" PRIu32 ".", c->num_hidden_layers);
    rc = load_layer(l, &m->layer, c->num_hidden_layers, err);
    if (!rc)
        rc = fs_loader_vector(l, &m->enorm, d, prefix, "enorm.weight", err);
    if (!rc)
        rc = fs_loader_vector(l, &m->hnorm, d, prefix, "hnorm.weight", err);
    if (!rc)
        rc = fs_loader_linear(l, &m->eh_proj, d, 2 * d, false, prefix, "eh_proj", err);
    if (!rc)
        rc = fs_loader_vector(l, &m->norm, d, prefix, "shared_head.norm.weight", err);
    if (rc)
        return rc;
    m->embed_tokens = net->embed_tokens;
    snprintf(full, sizeof full, "%sembed_tokens.weight", prefix);
    if (fs_weights_find(net->weights, full)) {
        rc = fs_weights_get(net->weights, full, &m->embed_tokens, err, 2, (uint64_t)c->vocab_size, d);
        if (rc)
            return rc;
    }
    snprintf(full, sizeof full, "%sshared_head.head.weight", prefix);
    t = fs_weights_find(net->weights, full);
    if (t) {
        const fs_tensor *main_head =
            fs_weights_find(net->weights, c->tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
        if (l->planning)
            m->own_head = !main_head || !same_tensor(t, main_head);
        if (m->own_head)
            rc = fs_loader_linear(l, &m->head, c->vocab_size, d, false, prefix, "shared_head.head", err);
    }
    m->present = !rc;
    return rc;
}

static fs_status run(fs_loader *l, fs_error *err)
{
    fs_network *net = l->net;
    const fs_config *c = net->config;
    fs_status rc = fs_weights_get(net->weights, "model.embed_tokens.weight", &net->embed_tokens, err, 2,
                                  (uint64_t)c->vocab_size, (uint64_t)c->hidden_size);

    for (uint32_t i = 0; i < c->num_hidden_layers && !rc; i++)
        rc = load_layer(l, &net->layers[i], i, err);
    if (!rc)
        rc = fs_loader_vector(l, &net->norm, c->hidden_size, "model.", "norm.weight", err);
    if (!rc)
        rc = fs_loader_linear(l, &net->lm_head, c->vocab_size, c->hidden_size, false,
                              c->tie_word_embeddings ? "model." : "", c->tie_word_embeddings ? "embed_tokens" : "lm_head", err);
    fs_loader_head_input(l);
    if (!rc && c->tie_word_embeddings) /* the embedding's rows as a head: an adapter of lm_head adapts the head alone */
        rc = fs_loader_lora(l, &net->lm_head.lora, c->vocab_size, c->hidden_size, "lm_head", err);
    if (!rc && net->options.mtp)
        rc = load_mtp(l, err);
    return rc;
}

fs_status fs_loader_run(fs_loader *l, fs_error *err)
{
    const fs_config *c = l->net->config;
    fs_status rc = l->net->arch->load ? l->net->arch->load(l, err) : run(l, err);
    char prefix[64];

    snprintf(prefix, sizeof prefix, "model.layers.%" PRIu32 ".", c->num_hidden_layers);
    if (!rc && l->net->options.adapter && l->planning && c->num_nextn_predict_layers && !l->net->options.mtp)
        fs_adapter_pass_over(l->net->options.adapter, prefix);
    if (!rc && l->net->options.adapter && l->planning)
        rc = fs_adapter_check_used(l->net->options.adapter, err);
    return rc;
}

void fs_layer_done(fs_layer *layer)
{
    free(layer->mla.w_uk);
    free(layer->mla.w_uv);
    free(layer->moe.experts);
    *layer = (fs_layer){ 0 };
}
