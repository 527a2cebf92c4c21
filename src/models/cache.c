/* The KV cache of one sequence: one block of memory that takes RAM only as positions are written.
 *
 *   gqa, a layer: for each kv head, key panels [ctx/16][head_dim][16]; then for each, value rows [ctx][head_dim]
 *   mla, a layer: rows [ctx][kv_lora_rank + qk_rope_head_dim]; with an indexer then key panels [ctx/16][index_head_dim][16]
 * in f32, or without an indexer in bf16 pairs: a pair of elements of a key, of two positions of a value (kernels/attention.h); or
 * keys, values and latent rows of 8 bits (kernels/kv8.h). */
#include "models/internal.h"

#include <assert.h>
#include <string.h>

static uint8_t *layer_at(const fs_network *net, const fs_cache *c, uint32_t layer)
{
    size_t token_bytes = net->n_cache_heads * (net->k_bytes + net->v_bytes) + net->index_dim * sizeof(float);

    return (uint8_t *)c->memory + layer * token_bytes * c->ctx_tokens;
}

fs_status fs_cache_init(fs_cache *c, const fs_network *net, uint32_t ctx_tokens, fs_error *err)
{
    size_t n_bytes;

    *c = (fs_cache){ 0 };
    if (ctx_tokens == 0 || ctx_tokens > UINT32_MAX - FS_KV_BLOCK)
        return fs_fail(err, FS_ERR_ARGUMENT, "a context of %u tokens makes no sense", ctx_tokens);
    c->ctx_tokens = (ctx_tokens + FS_KV_BLOCK - 1) / FS_KV_BLOCK * FS_KV_BLOCK;
    if (!fs_mul_size(net->plan.kv_token_bytes, c->ctx_tokens, &n_bytes) || !fs_add_size(n_bytes, net->plan.kv_fixed_bytes, &n_bytes))
        return fs_fail(err, FS_ERR_MEMORY, "a KV cache of %u tokens would not fit in the address space", c->ctx_tokens);
    c->memory = fs_alloc_lazy(n_bytes);
    if (!c->memory)
        return fs_fail_memory(err, n_bytes);
    c->memory_bytes = n_bytes;
    c->ctx_limit = ctx_tokens;
    return FS_OK;
}

void fs_cache_done(fs_cache *c)
{
    if (!c)
        return;
    fs_free_lazy(c->memory, c->memory_bytes);
    *c = (fs_cache){ 0 };
}

static void restore(const fs_network *net, fs_cache *c, uint32_t n)
{
    c->n_tokens = net->arch->cache_restore(net, c, n);
    c->rewind_min = c->n_tokens;
}

void fs_cache_written(const fs_network *net, fs_cache *c, uint32_t end, bool grown)
{
    if (net->arch->cache_restore && end > FS_CACHE_REWIND && end - FS_CACHE_REWIND > c->rewind_min)
        c->rewind_min = end - FS_CACHE_REWIND;
    if (grown)
        c->n_tokens = end;
    else if (c->n_tokens < c->rewind_min)
        restore(net, c, c->n_tokens);
}

uint32_t fs_cache_rewind(const fs_network *net, fs_cache *c, uint32_t n_tokens)
{
    if (c->n_mtp_tokens > n_tokens)
        c->n_mtp_tokens = n_tokens;
    if (n_tokens >= c->n_tokens)
        return c->n_tokens;
    if (n_tokens < c->rewind_min)
        restore(net, c, n_tokens);
    else
        c->n_tokens = n_tokens;
    return c->n_tokens;
}

bool fs_cache_copy(const fs_network *net, const fs_cache *from, uint32_t n_tokens, fs_cache *to)
{
    size_t n = ((size_t)n_tokens + FS_PANEL - 1) / FS_PANEL * FS_PANEL; /* panels and pairs are whole */

    assert(n_tokens <= from->n_tokens && to->ctx_tokens == from->ctx_tokens && from != to);
    if (net->arch->cache_restore)
        return false;
    for (uint32_t l = 0; l < net->n_cache_layers; l++) {
        for (uint32_t h = 0; h < net->n_cache_heads; h++) {
            memcpy(fs_cache_k(net, to, l, h), fs_cache_k(net, from, l, h), n * net->k_bytes);
            if (net->v_bytes)
                memcpy(fs_cache_v(net, to, l, h), fs_cache_v(net, from, l, h), n * net->v_bytes);
        }
        if (net->index_dim)
            memcpy(fs_cache_index(net, to, l), fs_cache_index(net, from, l), n * net->index_dim * sizeof(float));
    }
    to->n_tokens = n_tokens;
    to->n_mtp_tokens = 0;
    return true;
}

void *fs_cache_k(const fs_network *net, const fs_cache *c, uint32_t layer, uint32_t kv_head)
{
    assert(layer < net->n_cache_layers && kv_head < net->n_cache_heads);
    return layer_at(net, c, layer) + kv_head * net->k_bytes * c->ctx_tokens;
}

void *fs_cache_v(const fs_network *net, const fs_cache *c, uint32_t layer, uint32_t kv_head)
{
    assert(layer < net->n_cache_layers && kv_head < net->n_cache_heads);
    return layer_at(net, c, layer) + (net->n_cache_heads * net->k_bytes + kv_head * net->v_bytes) * c->ctx_tokens;
}

float *fs_cache_index(const fs_network *net, const fs_cache *c, uint32_t layer)
{
    assert(layer < net->n_cache_layers && net->index_dim);
    return (float *)(void *)(layer_at(net, c, layer) + net->n_cache_heads * (net->k_bytes + net->v_bytes) * c->ctx_tokens);
}
