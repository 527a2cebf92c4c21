/* deepseek_v3: V3, R1, V3.1. MLA, sigmoid routing with a correction bias that chooses experts but does not weigh them
 * (noaux_tc), limited to groups by their two best; an MTP layer behind the last. Source: DeepSeek-V3, arXiv 2412.19437. */
#include "models/internal.h"

static fs_status load(fs_loader *l, fs_layer *layer, const char *prefix, fs_error *err)
{
    return fs_mla_load(l, &layer->mla, prefix, err);
}

static fs_status check(const fs_config *c, fs_error *err)
{
    fs_status rc = fs_mla_check(c, err);

    if (!rc && c->n_routed_experts && (c->scoring_func != FS_SCORING_SIGMOID || c->topk_method != FS_TOPK_NOAUX_TC))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "deepseek_v3 routes by sigmoid with topk_method noaux_tc");
    return rc;
}

const fs_arch fs_arch_deepseek_v3 = { .model_type = "deepseek_v3", .is_mla = true, .check = check, .load_attention = load,
                                      .attention = fs_mla_attention };
