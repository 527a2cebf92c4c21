/* Counting tensors. */
#include "cli/tally.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const fs_part_names[FS_PART_END] = { "embedding", "attention", "experts", "shared experts", "router",
                                                 "dense mlp", "hyper-connections", "norms", "head", "mtp", "other" };

static bool contains(const char *name, const char *piece)
{
    return strstr(name, piece) != NULL;
}

static fs_part part_of(const char *name, uint32_t n_layers)
{
    const char *layer = strstr(name, "layers.");

    if (n_layers && layer && strtoul(layer + strlen("layers."), NULL, 10) >= n_layers)
        return FS_PART_MTP;
    if (strncmp(name, "mtp.", 4) == 0)
        return FS_PART_MTP;
    if (contains(name, "embed_tokens") || contains(name, "token_embd") || strcmp(name, "embed.weight") == 0)
        return FS_PART_EMBEDDING;
    if (contains(name, "lm_head") || strcmp(name, "output.weight") == 0 || strcmp(name, "head.weight") == 0)
        return FS_PART_HEAD;
    if (fs_ends_with(name, "norm.weight") || fs_ends_with(name, "norm.bias"))
        return FS_PART_NORMS;
    if (contains(name, ".shared_experts.") || contains(name, "_shexp."))
        return FS_PART_SHARED;
    if (contains(name, ".experts.") || contains(name, "_exps."))
        return FS_PART_EXPERTS;
    if (contains(name, "hc_attn_") || contains(name, "hc_ffn_") || contains(name, "hc_head_"))
        return FS_PART_STREAMS;
    if (contains(name, ".mlp.gate.") || contains(name, ".ffn.gate.") || contains(name, "ffn_gate_inp") || contains(name, "exp_probs_b"))
        return FS_PART_ROUTER;
    if (contains(name, "attn"))
        return FS_PART_ATTENTION;
    if (contains(name, ".mlp.") || contains(name, "ffn_"))
        return FS_PART_MLP;
    return FS_PART_OTHER;
}

static void add(fs_tally *t, uint64_t n_params, uint64_t n_bytes)
{
    t->n_tensors++;
    t->n_params += n_params;
    t->n_bytes += n_bytes;
}

static bool is_no_parameter(const char *name)
{
    return fs_ends_with(name, "_scale_inv") || fs_ends_with(name, ".scale") || fs_ends_with(name, ".tid2eid");
}

void fs_tallies_add(fs_tallies *t, const fs_tensor *tensor, uint32_t n_layers)
{
    uint64_t params = is_no_parameter(tensor->name) ? 0 : fs_tensor_elems(tensor);

    add(&t->parts[part_of(tensor->name, n_layers)], params, tensor->n_bytes);
    add(&t->dtypes[tensor->dtype], params, tensor->n_bytes);
    add(&t->all, params, tensor->n_bytes);
}

uint64_t fs_tallies_active(const fs_tallies *t, const fs_config *c)
{
    uint64_t n = t->all.n_params - t->parts[FS_PART_MTP].n_params, experts = t->parts[FS_PART_EXPERTS].n_params;

    if (!c)
        return n;
    if (c->n_routed_experts)
        n -= experts - experts / c->n_routed_experts * c->num_experts_per_tok;
    if (t->parts[FS_PART_HEAD].n_tensors)
        n -= t->parts[FS_PART_EMBEDDING].n_params; /* one row is read; where the head is tied it works as the head */
    return n;
}

uint64_t fs_tallies_active_layers(const fs_tallies *t, const fs_config *c)
{
    const fs_tally *head = &t->parts[FS_PART_HEAD];

    return fs_tallies_active(t, c) - (head->n_tensors ? head : &t->parts[FS_PART_EMBEDDING])->n_params;
}

double fs_tallies_step_bytes(const fs_tallies *t, const fs_config *c, int n_sequences)
{
    double n = (double)(t->all.n_bytes - t->parts[FS_PART_MTP].n_bytes), experts = (double)t->parts[FS_PART_EXPERTS].n_bytes;

    if (c->n_routed_experts)
        n -= experts * pow(1 - (double)c->num_experts_per_tok / c->n_routed_experts, n_sequences);
    if (t->parts[FS_PART_HEAD].n_tensors)
        n -= (double)t->parts[FS_PART_EMBEDDING].n_bytes;
    return n;
}
