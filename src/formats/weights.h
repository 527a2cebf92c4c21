/* A model's stored weights under the Hub's names, whatever the files are: one safetensors file, a sharded
 * checkpoint with its index, one GGUF or a split one. GGUF names become Hub names here (names.c), 3-d expert
 * tensors become one view an expert, so that models/ has one code path.
 *
 * MLA's up-projection: safetensors and old GGUFs have "...self_attn.kv_b_proj.weight" [H*(nope+v), kv_lora]; new
 * GGUFs have it split, under names that the Hub does not use:
 *   "...self_attn.k_b_proj.weight" [H, kv_lora, nope]  (W_uk transposed a head)
 *   "...self_attn.v_b_proj.weight" [H, v, kv_lora]
 *
 * Block-scaled fp8 and fp4: the view of "X.weight" carries the scales of "X.weight_scale_inv" (V3) or "X.scale" (V4),
 * which stays in the list too. FP4 packed as I8 [out, in / 2] is given as FP4_E2M1 [out, in]. */
#ifndef FS_FORMATS_WEIGHTS_H
#define FS_FORMATS_WEIGHTS_H

#include "formats/config.h"
#include "formats/gguf.h"
#include "tensor/tensor.h"

typedef struct fs_weights fs_weights;

/* path: a folder (config.json with model.safetensors, or model.safetensors.index.json with shards; or one .gguf),
 * a .safetensors file (config.json beside it), a .gguf file (for a split one its first part). Shard names must be
 * plain file names in the same folder. Fails with a sentence on anything inconsistent. */
fs_status fs_weights_open(const char *path, fs_weights **ret, fs_error *err);
/* A model that is in memory: names, values, shapes and c are borrowed and may change between uses, but for the list itself. Of
 * the functions below those about files are not for it. */
fs_status fs_weights_of_memory(const fs_config *c, const fs_tensor *tensors, size_t n, fs_weights **ret, fs_error *err);
void fs_weights_close(fs_weights *w);

const fs_config *fs_weights_config(const fs_weights *w);
/* The metadata of the (first) GGUF, or NULL for safetensors. */
const fs_gguf *fs_weights_gguf(const fs_weights *w);
/* Part i of a GGUF that may be split; NULL behind the last, and for safetensors. */
const fs_gguf *fs_weights_gguf_part(const fs_weights *w, size_t i);
/* The folder that holds config.json, tokenizer.json, tokenizer_config.json, generation_config.json; for a GGUF
 * the folder of the file. */
const char *fs_weights_folder(const fs_weights *w);

size_t fs_weights_n_tensors(const fs_weights *w);
const fs_tensor *fs_weights_tensor_at(const fs_weights *w, size_t i); /* sorted by name */
const fs_tensor *fs_weights_find(const fs_weights *w, const char *name); /* NULL: absent */
/* Absent, or dims that differ from the n_dims given (uint64_t each), or a type that holds no weights, is a sentence:
 * what this returns is safe for fs_tensor_row_f32. */
fs_status fs_weights_get(const fs_weights *w, const char *name, const fs_tensor **ret, fs_error *err, int n_dims, ...);
/* Puts t in the place of the tensor of that name, which is there; its bytes must outlive w. */
void fs_weights_replace(fs_weights *w, const fs_tensor *t);
/* What the files hold, under the names and types that they give, dims row-major, sorted by name. *ret [*ret_n] is a new
 * array of borrowed tensors. */
fs_status fs_weights_stored(const fs_weights *w, const fs_tensor ***ret, size_t *ret_n, fs_error *err);
size_t fs_weights_file_bytes(const fs_weights *w);
/* The files that hold tensors, one behind the other: "folder/name" of file i into a new string (free), NULL without memory. */
size_t fs_weights_n_files(const fs_weights *w);
char *fs_weights_file_path(const fs_weights *w, size_t i);
/* Which of them has the bytes that stand at data in its map, and where; false: none (what fs_weights_replace has put there). */
bool fs_weights_locate(const fs_weights *w, const uint8_t *data, size_t *ret_file, uint64_t *ret_offset);
/* t's bytes have been copied: their pages of the map need not stay in memory. */
void fs_weights_drop(const fs_weights *w, const fs_tensor *t);

#endif
