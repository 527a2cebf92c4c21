/* deepseek_v32: V3.2-Exp, V3.2. V3 with the lightning indexer: attention reads the index_topk keys it likes best. */
#include "models/internal.h"

static fs_status load(fs_loader *l, fs_layer *layer, const char *prefix, fs_error *err)
{
    fs_status rc = fs_mla_load(l, &layer->mla, prefix, err);

    return rc ? rc : fs_indexer_load(l, &layer->mla.indexer, prefix, err);
}

static fs_status check(const fs_config *c, fs_error *err)
{
    fs_status rc = fs_mla_check(c, err);

    if (!rc && c->n_routed_experts && (c->scoring_func != FS_SCORING_SIGMOID || c->topk_method != FS_TOPK_NOAUX_TC))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "deepseek_v32 routes by sigmoid with topk_method noaux_tc");
    if (!rc && (!c->index_n_heads || !c->index_head_dim || !c->index_topk || !c->q_lora_rank))
        rc = fs_fail(err, FS_ERR_FORMAT, "deepseek_v32 needs index_n_heads, index_head_dim, index_topk and q_lora_rank");
    if (!rc && c->index_head_dim < c->qk_rope_head_dim)
        rc = fs_fail(err, FS_ERR_FORMAT, "index_head_dim %u is under qk_rope_head_dim %u", c->index_head_dim, c->qk_rope_head_dim);
    return rc;
}

const fs_arch fs_arch_deepseek_v32 = { .model_type = "deepseek_v32", .is_mla = true, .has_indexer = true, .check = check,
                                       .load_attention = load, .attention = fs_mla_attention };
