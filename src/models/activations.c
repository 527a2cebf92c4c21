/* See the header. */
#include "models/activations.h"

#include <stdlib.h>

static size_t take(fs_activations *a, size_t n)
{
    size_t at = a->row;

    a->row += (n + 15) & ~(size_t)15; /* parts begin at cache lines of an aligned row */
    return at;
}

static void plan_layer(fs_activations *a, const fs_config *c, uint32_t index)
{
    fs_layer_activations *l = &a->layers[index];
    size_t k = c->num_experts_per_tok;

    l->is_moe = fs_config_layer_is_moe(c, index);
    l->width = l->is_moe ? (size_t)c->n_shared_experts * c->moe_intermediate_size : c->intermediate_size;
    l->x = take(a, c->hidden_size);
    l->x_mid = take(a, c->hidden_size);
    l->gate = take(a, l->width);
    l->up = take(a, l->width);
    if (!l->is_moe)
        return;
    l->scores = take(a, c->n_routed_experts);
    l->top_weights = take(a, k);
    l->top_ids = take(a, k);
    l->expert_gate = take(a, k * c->moe_intermediate_size);
    l->expert_up = take(a, k * c->moe_intermediate_size);
}

fs_status fs_activations_init(fs_activations *ret, const fs_config *c, bool logits, fs_error *err)
{
    *ret = (fs_activations){ .n_layers = c->num_hidden_layers, .has_logits = logits };
    ret->layers = calloc(c->num_hidden_layers, sizeof *ret->layers);
    if (!ret->layers)
        return fs_fail_memory(err, c->num_hidden_layers * sizeof *ret->layers);
    for (uint32_t i = 0; i < c->num_hidden_layers; i++)
        plan_layer(ret, c, i);
    ret->x = take(ret, c->hidden_size);
    ret->logits = ret->row;
    if (logits)
        take(ret, c->vocab_size);
    return FS_OK;
}

void fs_activations_done(fs_activations *a)
{
    free(a->layers);
    *a = (fs_activations){ 0 };
}
