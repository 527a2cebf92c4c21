/* A LoRA adapter as PEFT saves it: a folder with adapter_config.json and adapter_model.safetensors.
 *
 *   base_model.model.<linear>.lora_A.weight   A [rank, in]
 *   base_model.model.<linear>.lora_B.weight   B [out, rank]
 *
 * with <linear> the Hub's name of a weight without ".weight". A linear W becomes W + scale * B A, scale =
 * lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora. A configuration that asks for anything more (DoRA, saved
 * modules, patterns, initialisations that change the base model, ...) is refused by the name of its key.
 * Source: huggingface/peft, tuners/lora/config.py and layer.py; LoRA, arXiv 2106.09685. */
#ifndef FS_FORMATS_ADAPTER_H
#define FS_FORMATS_ADAPTER_H

#include "tensor/tensor.h"

typedef struct fs_adapter fs_adapter;

fs_status fs_adapter_open(const char *folder, fs_adapter **ret, fs_error *err);
void fs_adapter_close(fs_adapter *a);

/* A and B of a linear [out, in], checked against its shape, and marked as used. Absent: *ret_a NULL, FS_OK. */
fs_status fs_adapter_get(fs_adapter *a, const char *linear, uint64_t out, uint64_t in, const fs_tensor **ret_a,
                         const fs_tensor **ret_b, fs_error *err);
float fs_adapter_scale(const fs_adapter *a);
/* A sentence when a tensor was never asked for: leaving it out would run another model. */
fs_status fs_adapter_check_used(const fs_adapter *a, fs_error *err);

#endif
