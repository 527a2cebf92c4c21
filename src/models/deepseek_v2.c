/* deepseek_v2: V2, V2-Lite, V2.5, Coder-V2. MLA with or without q_lora, softmax routing, greedy or limited to groups by
 * their best expert. Source: DeepSeek-V2, arXiv 2405.04434. */
#include "models/internal.h"

static fs_status load(fs_loader *l, fs_layer *layer, const char *prefix, fs_error *err)
{
    return fs_mla_load(l, &layer->mla, prefix, err);
}

static fs_status check(const fs_config *c, fs_error *err)
{
    fs_status rc = fs_mla_check(c, err);

    if (!rc && c->n_routed_experts && (c->scoring_func != FS_SCORING_SOFTMAX || c->topk_method == FS_TOPK_NOAUX_TC))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "deepseek_v2 routes by softmax with topk_method greedy or group_limited_greedy");
    return rc;
}

const fs_arch fs_arch_deepseek_v2 = { .model_type = "deepseek_v2", .is_mla = true, .check = check, .load_attention = load,
                                      .attention = fs_mla_attention };
