/* One model with its matrices in other storage types: a GGUF of block formats from either form, or the Hub's own fp8 and
 * fp4 from safetensors. One tensor at a time; the output appears whole or not at all; its bytes do not depend on the
 * number of threads.
 *
 * Which type a tensor gets in a mixture is llama-quantize's choice (llama.cpp, src/llama-quant.cpp) for the same name:
 * vectors, routers and V4's small matrices stay as they are; the head, or a tied embedding, gets Q6_K; some layers'
 * attn_v and ffn_down more than the rest. Its rules for models of exactly eight experts are left out. A matrix whose rows
 * are no multiple of 256 gets the nearest format of 32, or F16. */
#ifndef FS_FORMATS_QUANTIZE_H
#define FS_FORMATS_QUANTIZE_H

#include "base/pool.h"
#include "formats/convert.h"

typedef struct fs_quantizer fs_quantizer;

/* What the words of fs_quantizer_new's type are, for a sentence. */
#define FS_QUANTIZE_TYPES                                                                                                          \
    "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K_S, Q3_K_M, Q3_K_L, Q4_K_S, Q4_K_M, Q5_K_S, Q5_K_M, Q6_K, IQ4_NL, "   \
    "IQ4_XS and MXFP4 for GGUF, FP8, FP8_UE8M0 and FP4 for safetensors"

/* type: one of those words. rules: "REGEX=TYPE" separated by ';', or NULL: a matrix whose GGUF name has a match of an
 * expression gets that type, of the first that has one. pure: every matrix has the type itself. */
fs_status fs_quantizer_new(const char *type, const char *rules, bool pure, fs_pool *pool, fs_quantizer **ret, fs_error *err);
void fs_quantizer_free(fs_quantizer *q);
/* Whether the type is the Hub's. */
bool fs_quantizer_is_hub(const fs_quantizer *q);
/* The importance of columns, from a GGUF (imatrix.h). Tensors that it does not have are quantised as without. */
fs_status fs_quantizer_set_imatrix(fs_quantizer *q, const char *path, fs_error *err);

/* o->type is not used. Hub's layout or GGUF into the GGUF file at path; of a GGUF every value is kept. */
fs_status fs_quantize_to_gguf(fs_quantizer *q, const fs_weights *w, const char *path, const fs_convert_options *o, fs_error *err);
/* The Hub's layout into safetensors and config.json in folder, which exists: every linear that DeepSeek stores as fp8
 * becomes F8_E4M3 with a scale for 128 x 128 (F32, and powers of two where so asked; E8M0 of V4), with FP4 V4's routed
 * experts FP4 with a scale for 32. Files of a quantisation that fails are removed. */
fs_status fs_quantize_to_hub(fs_quantizer *q, const fs_weights *w, const char *folder, const fs_convert_options *o, fs_error *err);

#endif
