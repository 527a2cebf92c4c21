/* llama.cpp's tensor names to the Hub's. */
#ifndef FS_FORMATS_NAMES_H
#define FS_FORMATS_NAMES_H

#include "formats/config.h"
#include "formats/gguf.h"

/* All tensors of the parts under the Hub's names, unsorted: 3-d expert tensors as one view an expert, the q and k
 * rows of architectures llama and deepseek marked as permuted (fs_tensor.rope_heads). "rope_freqs.weight" keeps its
 * name. On success the caller frees *ret_tensors and *ret_names, which holds the names. A tensor that has no place in
 * the architecture is refused, since leaving it out could change what the model computes. Table: docs/formats.md. */
fs_status fs_names_to_hub(const fs_gguf *const *parts, size_t n_parts, const fs_config *c, fs_tensor **ret_tensors,
                          size_t *ret_n, char **ret_names, fs_error *err);

/* The other way, for one tensor that is no expert's: "model.layers.3.self_attn.q_proj.weight" gives "blk.3.attn_q.weight".
 * false: it has no name there (of a layer that c does not have, for one), or ret [n] is too small. */
bool fs_name_to_gguf(const fs_config *c, const char *hub, char *ret, size_t n);
/* "model.layers.3.mlp.experts.5.up_proj.weight" gives "blk.3.ffn_up_exps.weight" and expert 5. */
bool fs_expert_name_to_gguf(const fs_config *c, const char *hub, char *ret, size_t n, uint32_t *ret_expert);

#endif
