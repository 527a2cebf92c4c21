/* qwen2: Qwen2, Qwen2.5, R1-Distill-Qwen. As llama, with biases on q, k and v. */
#include "models/internal.h"

static fs_status load(fs_loader *l, fs_layer *layer, const char *prefix, fs_error *err)
{
    return fs_gqa_load(l, &layer->gqa, prefix, true, false, false, err);
}

const fs_arch fs_arch_qwen2 = { .model_type = "qwen2", .check = fs_dense_check, .load_attention = load, .attention = fs_gqa_attention };
