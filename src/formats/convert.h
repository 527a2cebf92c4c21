/* One model, the other form: the Hub's layout into one GGUF file, and GGUF into the Hub's layout; with adapters, which
 * become part of it (merge.h), also the Hub's layout into itself. Numbers keep their type, or take the smallest plain one
 * that holds them; FP4 and MXFP4 become one another. Asked for a type, those that it cannot hold exactly are rounded to
 * nearest even, and so are sums with an adapter's. Vectors, routers and V4's small matrices are F32 in both forms, as
 * llama.cpp needs them; from the Hub's layout into itself they keep their type. What the other form cannot express is
 * refused by name before data is written. */
#ifndef FS_FORMATS_CONVERT_H
#define FS_FORMATS_CONVERT_H

#include "base/pool.h"
#include "formats/gguf_write.h"
#include "formats/merge.h"
#include "formats/weights.h"

/* What makes a conversion to GGUF a quantisation (quantize.h). */
typedef struct fs_convert_quant {
    fs_pool *pool;
    uint32_t file_type; /* general.file_type */
    /* The type of a tensor of at least two dimensions that would be kept as keep. */
    fs_status (*choose)(void *ud, const char *name, fs_dtype keep, int n_dims, const uint64_t *dims, fs_dtype *ret, fs_error *err);
    fs_status (*check)(void *ud, fs_error *err); /* when every tensor has one */
    /* The weights of the columns of a matrix, or of one of the experts; NULL: none. */
    const float *(*columns)(void *ud, const char *name, uint64_t expert, uint64_t n_experts, uint64_t n_cols);
    void *ud;
} fs_convert_quant;

typedef struct fs_convert_options {
    fs_dtype type;            /* of the matrices: F32, BF16, F16; NONE: one that holds what is stored */
    bool no_mtp;              /* leave out the layers that predict ahead */
    uint64_t shard_bytes_max; /* of safetensors; 0: one file */
    const fs_convert_quant *quant; /* of GGUF; may be NULL */
    fs_merge *merge;          /* adapters, whose whole tensors stand in w already; not with quant; may be NULL */
    /* More metadata for a GGUF, e.g. the tokenizer; may be NULL. */
    fs_status (*metadata)(void *ud, fs_gguf_writer *w, fs_error *err);
    /* Called now and then; false stops with FS_ERR_INTERRUPTED. May be NULL. */
    bool (*progress)(void *ud, uint64_t done_bytes, uint64_t total_bytes);
    void *ud;
} fs_convert_options;

/* w holds safetensors. The file appears at path, whole. */
fs_status fs_convert_to_gguf(const fs_weights *w, const char *path, const fs_convert_options *o, fs_error *err);
/* w holds GGUF, or safetensors where there are adapters. Writes safetensors, config.json and, if it is not there,
 * generation_config.json into folder, which exists; files of a conversion that fails are removed. */
fs_status fs_convert_to_hub(const fs_weights *w, const char *folder, const fs_convert_options *o, fs_error *err);

#endif
