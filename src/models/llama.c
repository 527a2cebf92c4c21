/* llama: Llama 2 and 3, SmolLM2, DeepSeek LLM and Coder, R1-Distill-Llama. Grouped-query attention with half-split
 * rope, SwiGLU, no biases unless attention_bias or mlp_bias say so. */
#include "models/internal.h"

static fs_status load(fs_loader *l, fs_layer *layer, const char *prefix, fs_error *err)
{
    bool bias = l->net->config->attention_bias;
    return fs_gqa_load(l, &layer->gqa, prefix, bias, bias, false, err);
}

const fs_arch fs_arch_llama = { .model_type = "llama", .check = fs_dense_check, .load_attention = load, .attention = fs_gqa_attention };
