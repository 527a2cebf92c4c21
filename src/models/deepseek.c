/* deepseek: DeepSeekMoE-16B. Llama's attention, with routed and shared experts behind the first dense layers: softmax
 * routing, greedy, unnormalised in the release. Source: DeepSeekMoE, arXiv 2401.06066; deepseek-ai/deepseek-moe-16b-base,
 * modeling_deepseek.py. */
#include "models/internal.h"

static fs_status load(fs_loader *l, fs_layer *layer, const char *prefix, fs_error *err)
{
    bool bias = l->net->config->attention_bias;

    return fs_gqa_load(l, &layer->gqa, prefix, bias, bias, false, err);
}

static fs_status check(const fs_config *c, fs_error *err)
{
    if (!c->n_routed_experts)
        return fs_fail(err, FS_ERR_FORMAT, "deepseek needs n_routed_experts");
    if (c->scoring_func != FS_SCORING_SOFTMAX || c->topk_method != FS_TOPK_GREEDY)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "deepseek routes by softmax with topk_method greedy");
    return fs_gqa_check(c, err);
}

const fs_arch fs_arch_deepseek = { .model_type = "deepseek", .check = check, .load_attention = load, .attention = fs_gqa_attention };
