/* A LoRA adapter as PEFT saves it: a folder with adapter_config.json and adapter_model.safetensors.
 *
 *   base_model.model.<linear>.lora_A.weight   A [r, in]
 *   base_model.model.<linear>.lora_B.weight   B [out, r]
 *   base_model.model.<module>.weight          a whole tensor (modules_to_save), in place of the model's own
 *
 * with <linear> the Hub's name of a weight without ".weight"; of deepseek_v4, whose modules transformers calls otherwise
 * than the Hub's files, transformers' name. A linear W becomes W + scale * B A, scale = lora_alpha / r, or
 * lora_alpha / sqrt(r) with use_rslora; rank_pattern and alpha_pattern give some linears another r and lora_alpha: the first
 * key that, as a regular expression, is the end of the name from a dot on.
 *
 * Experts that transformers holds as one parameter (target_parameters) have one pair for all E of them:
 *   base_model.model.<layer>.mlp.experts.lora_A.weight   A [E * r, in]: rows e * r + i are those of expert e
 *   base_model.model.<layer>.mlp.experts.lora_B.weight   B [out, r * E]: column i * E + e is its column i
 * and, when both parameters have one, "experts.base_layer." for the other. gate_up_proj is gate's rows, then up's.
 *
 * A configuration that asks for anything more (DoRA, biases, initialisations that change the base model, ...) is
 * refused by the name of its key.
 * Source: huggingface/peft, tuners/lora/config.py and layer.py, utils/other.py; LoRA, arXiv 2106.09685. */
#ifndef FS_FORMATS_ADAPTER_H
#define FS_FORMATS_ADAPTER_H

#include "formats/weights.h"

typedef struct fs_adapter fs_adapter;

typedef struct fs_adapter_pair {
    fs_tensor a, b; /* [r, in], [out, r]; b's data is lost at the next fs_adapter_get */
    float scale;
} fs_adapter_pair;

fs_status fs_adapter_open(const char *folder, fs_adapter **ret, fs_error *err);
/* The same from the text of a configuration and the bytes of a safetensors file, which is borrowed: its values may change between uses. */
fs_status fs_adapter_open_memory(fs_bytes config, fs_bytes file, fs_adapter **ret, fs_error *err);
void fs_adapter_close(fs_adapter *a);

/* The model that it says it was trained on; NULL: it says none. */
const char *fs_adapter_base(const fs_adapter *a);
/* The name of its first whole tensor; NULL: it has none. */
const char *fs_adapter_whole(const fs_adapter *a);

/* Puts the adapter's whole tensors in the place of the model's, once, before anything is loaded. One that the model has
 * not, or has with another shape, is refused by name, as is one of two that are tied, and one that stands there from
 * another adapter. w borrows from a. */
fs_status fs_adapter_replace(fs_adapter *a, fs_weights *w, fs_error *err);
/* The pair of a linear [out, in], called as in the Hub's files, checked against its shape, and marked as used. Absent:
 * *ret_found false, FS_OK. */
fs_status fs_adapter_get(fs_adapter *a, const char *linear, uint64_t out, uint64_t in, bool *ret_found, fs_adapter_pair *ret,
                         fs_error *err);
/* The tensors of modules whose names begin so count as used: of a part of the model that is not loaded. */
void fs_adapter_pass_over(fs_adapter *a, const char *prefix);
/* A sentence when a tensor was never asked for: leaving it out would run another model. */
fs_status fs_adapter_check_used(const fs_adapter *a, fs_error *err);

#endif
