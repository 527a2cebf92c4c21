/* qwen3: dense Qwen3, R1-0528-Qwen3-8B. As llama, with an RMS norm over each head's q and k before rope. */
#include "models/internal.h"

static fs_status load(fs_loader *l, fs_layer *layer, const char *prefix, fs_error *err)
{
    bool bias = l->net->config->attention_bias;
    return fs_gqa_load(l, &layer->gqa, prefix, bias, bias, true, err);
}

const fs_arch fs_arch_qwen3 = { .model_type = "qwen3", .check = fs_dense_check, .load_attention = load, .attention = fs_gqa_attention };
