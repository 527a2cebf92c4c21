/* A network's life: plan, load, free. */
#include "models/experts.h"

#include <stdlib.h>
#include <assert.h>
#include <string.h>

const fs_config *fs_network_config(const fs_network *net)
{
    return net->config;
}

bool fs_network_has_mtp(const fs_network *net)
{
    return net->mtp.present;
}

size_t fs_network_hidden_floats(const fs_network *net)
{
    return (net->arch->run ? (size_t)net->config->hc_mult : 1) * net->config->hidden_size;
}

const char *fs_network_activations(const fs_network *net)
{
    return net->options.bf16 ? "bf16" : net->takes & FS_TAKES_CODES ? "q8" : "exact";
}

fs_bytes fs_network_memory(const fs_network *net)
{
    return (fs_bytes){ net->memory, net->memory ? net->plan.weights_bytes : 0 };
}

void fs_network_keep(fs_network *net, const fs_activations *a)
{
    assert(!net->arch->run);
    net->activations = a;
}

const char *fs_network_kv_type(const fs_network *net)
{
    return net->kv_q8 ? "q8" : net->kv_bf16 ? "bf16" : "f32";
}

/* Attention that chooses keys reads f32. */
static fs_status choose_kv_type(fs_network *net, fs_error *err)
{
    bool can = !net->arch->has_indexer && !net->arch->cache_floats;

    if (net->options.bf16 && !can)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "%s has no class RN1-bf16: its attention chooses keys, in f32", net->config->model_type);
    if (net->options.bf16 && net->options.kv_type != FS_KV_DEFAULT && net->options.kv_type != FS_KV_BF16)
        return fs_fail(err, FS_ERR_ARGUMENT, "class RN1-bf16 has a bf16 cache and no other");
    if (net->options.kv_type > FS_KV_F32 && !can)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "%s has no %s cache: its attention chooses keys, in f32", net->config->model_type,
                       net->options.kv_type == FS_KV_Q8 ? "8-bit" : "bf16");
    net->kv_q8 = net->options.kv_type == FS_KV_Q8;
    net->kv_bf16 = net->options.bf16 || net->options.kv_type > FS_KV_F32 ||
                   (net->options.kv_type == FS_KV_DEFAULT && can && net->takes & FS_TAKES_CODES);
    net->k_bytes = net->kv_bf16 ? fs_pairs(net->k_dim) * sizeof(fs_pair) : net->k_dim * sizeof(float);
    net->v_bytes = net->v_dim * (net->kv_bf16 ? sizeof(fs_pair) / 2 : sizeof(float));
    if (net->kv_q8) {
        net->k_bytes = net->arch->is_mla ? fs_kv8_row_bytes(net->k_dim) : fs_kv8_key_bytes(net->k_dim);
        net->v_bytes = net->v_dim ? fs_kv8_row_bytes(net->v_dim) : 0;
    }
    return FS_OK;
}

void fs_network_free(fs_network *net)
{
    if (!net)
        return;
    fs_experts_free(net->experts); /* its readers may be at work on the layers */
    for (uint32_t i = 0; net->layers && i < net->config->num_hidden_layers; i++)
        fs_layer_done(&net->layers[i]);
    fs_layer_done(&net->mtp.layer);
    free(net->layers);
    fs_rope_done(&net->rope);
    fs_rope_done(&net->rope_compressed);
    fs_free_lazy(net->memory, net->plan.weights_bytes);
    free(net->late);
    free(net);
}

fs_status fs_network_check(const fs_config *c, fs_error *err)
{
    const fs_arch *arch = fs_arch_find(c->model_type);

    if (!arch)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "model_type '%s' is not supported; supported are %s", c->model_type, fs_arch_names());
    return arch->check(c, err);
}

fs_status fs_network_new(const fs_weights *weights, fs_pool *pool, const fs_kernels *kernels,
                         const fs_network_options *options, fs_network **ret, fs_network_plan *ret_plan, fs_error *err)
{
    const fs_config *c = fs_weights_config(weights);
    const fs_arch *arch;
    fs_loader l = { .planning = true };
    fs_network *net;
    size_t token_bytes;
    fs_status rc = fs_network_check(c, err);

    if (rc)
        return rc;
    arch = fs_arch_find(c->model_type);
    net = calloc(1, sizeof *net);
    if (!net)
        return fs_fail_memory(err, sizeof *net);
    net->arch = arch;
    net->weights = weights;
    net->config = c;
    net->pool = pool;
    net->kernels = kernels;
    if (options)
        net->options = *options;
    if (net->options.bf16 && net->options.mapped) {
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "class RN1-bf16 packs its weights: they cannot stay in the map of the file");
        goto fail;
    }
    net->options.mtp = net->options.mtp && c->num_nextn_predict_layers > 0;
    if (!arch->init)
        rc = fs_rope_init(&net->rope, c, arch->is_mla ? c->qk_rope_head_dim : c->head_dim, err);
    if (rc)
        goto fail;
    net->softmax_scale = arch->is_mla ? fs_mla_softmax_scale(c) : fs_gqa_softmax_scale(c);
    net->n_cache_layers = c->num_hidden_layers + (net->options.mtp ? 1 : 0);
    net->n_cache_heads = arch->is_mla ? 1 : c->num_key_value_heads;
    net->k_dim = arch->is_mla ? c->kv_lora_rank + c->qk_rope_head_dim : c->head_dim;
    net->v_dim = arch->is_mla ? 0 : c->head_dim;
    net->index_dim = arch->has_indexer ? c->index_head_dim : 0;
    net->layers = calloc(c->num_hidden_layers, sizeof *net->layers);
    if (!net->layers) {
        rc = fs_fail_memory(err, c->num_hidden_layers * sizeof *net->layers);
        goto fail;
    }
    if (arch->init)
        rc = arch->init(net, err);
    l.net = net;
    if (!rc)
        rc = fs_loader_run(&l, err);
    if (rc)
        goto fail;
    if (!fs_add_size(l.used_bytes, net->late_bytes, &net->plan.weights_bytes)) {
        rc = fs_fail(err, FS_ERR_FORMAT, "the packed weights would not fit in the address space");
        goto fail;
    }
    rc = choose_kv_type(net, err);
    if (rc)
        goto fail;
    token_bytes = net->n_cache_heads * (net->k_bytes + net->v_bytes) + net->index_dim * sizeof(float);
    if (arch->cache_fixed_floats)
        net->plan.kv_fixed_bytes = arch->cache_fixed_floats(net) * sizeof(float);
    if (arch->cache_floats ? !fs_mul_size(arch->cache_floats(net), sizeof(float), &net->plan.kv_token_bytes)
                           : !fs_mul_size(token_bytes, net->n_cache_layers, &net->plan.kv_token_bytes)) {
        rc = fs_fail(err, FS_ERR_FORMAT, "the KV cache of one token would not fit in the address space");
        goto fail;
    }
    *ret_plan = net->plan;
    *ret = net;
    return FS_OK;
fail:
    fs_network_free(net);
    return rc;
}

fs_status fs_network_stream(fs_network *net, uint32_t n_slots, fs_network_plan *ret_plan, fs_error *err)
{
    if (net->options.bf16)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "the routed experts do not fit in memory, and class RN1-bf16 streams none");
    if (n_slots < net->config->num_experts_per_tok || n_slots > net->plan.n_experts)
        return fs_fail(err, FS_ERR_ARGUMENT, "%u expert slots were asked for, allowed are %u to %u", n_slots, net->config->num_experts_per_tok,
                       net->plan.n_experts);
    net->n_slots = n_slots;
    net->plan.weights_bytes -= net->plan.experts_bytes;
    net->late_bytes = net->late_list_bytes = net->n_late = 0;
    *ret_plan = net->plan;
    return FS_OK;
}

size_t fs_network_stream_bytes(const fs_network *net, uint32_t n_slots)
{
    return fs_experts_bytes(&net->plan, n_slots);
}

bool fs_network_stream_stats(const fs_network *net, fs_stream_stats *ret)
{
    if (net->experts)
        fs_experts_stats(net->experts, ret);
    return net->experts != NULL;
}

uint64_t fs_network_probe_disk(const fs_network *net, uint64_t n_bytes, double *ret_s)
{
    *ret_s = 0;
    return net->experts ? fs_experts_probe(net->experts, n_bytes, ret_s) : 0;
}

/* Who looks ahead at whom. */
static void chain_layers(fs_network *net)
{
    for (uint32_t i = 0; i + 1 < net->config->num_hidden_layers; i++) {
        fs_layer *layer = &net->layers[i], *next = layer + 1;
        if (!layer->is_moe || !next->is_moe)
            continue;
        layer->moe.next = &next->moe;
        layer->moe.next_norm = net->arch->run ? NULL : next->post_attention_norm;
    }
}

fs_status fs_network_load(fs_network *net, fs_error *err)
{
    fs_loader l = { .net = net };
    fs_status rc = FS_OK;

    if (!net->memory)
        net->memory = fs_alloc_lazy(net->plan.weights_bytes);
    if (!net->memory)
        return fs_fail_memory(err, net->plan.weights_bytes);
    if (!net->late)
        net->late = calloc(net->n_late + 1, sizeof *net->late);
    net->late_used = net->n_late_packed = 0;
    net->stepped = false;
    if (!net->late)
        return fs_fail_memory(err, net->n_late * sizeof *net->late);
    fs_experts_free(net->experts);
    net->experts = NULL;
    if (net->n_slots)
        rc = fs_experts_new(net, net->n_slots, &net->experts, err);
    if (!rc)
        rc = fs_loader_run(&l, err);
    if (!rc && net->experts)
        chain_layers(net);
    return rc;
}

void fs_network_pack_all(fs_network *net)
{
    const fs_config *c = net->config;

    fs_stored_begin(net, SIZE_MAX);
    for (uint32_t i = 0; i < c->num_hidden_layers + (net->mtp.present ? 1 : 0); i++) {
        const fs_layer *layer = i < c->num_hidden_layers ? &net->layers[i] : &net->mtp.layer;
        for (uint32_t e = 0; layer->is_moe && e < c->n_routed_experts; e++)
            fs_stored_experts(net, &layer->moe, &e, 1, SIZE_MAX);
    }
}
