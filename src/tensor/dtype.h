/* Storage types of weights: the Hub's safetensors dtypes and GGUF's block formats, with their sizes. */
#ifndef FS_TENSOR_DTYPE_H
#define FS_TENSOR_DTYPE_H

#include "base/mem.h"

typedef enum fs_dtype {
    FS_DTYPE_NONE = 0,
    FS_DTYPE_F32,
    FS_DTYPE_F16,
    FS_DTYPE_BF16,
    FS_DTYPE_F8_E4M3,
    FS_DTYPE_F64, /* the rest of the plain types only index or scale; they are never weights here */
    FS_DTYPE_I8,
    FS_DTYPE_I16,
    FS_DTYPE_I32,
    FS_DTYPE_I64,
    FS_DTYPE_U8,
    FS_DTYPE_F8_E5M2,
    FS_DTYPE_F8_E8M0,
    FS_DTYPE_BOOL,
    FS_DTYPE_FP4_E2M1, /* the Hub's packed FP4: element 2j in the low half of byte j, 2j + 1 in the high one; stored as I8 */
    FS_DTYPE_Q4_0, /* first block format */
    FS_DTYPE_Q4_1,
    FS_DTYPE_Q5_0,
    FS_DTYPE_Q5_1,
    FS_DTYPE_Q8_0,
    FS_DTYPE_Q2_K,
    FS_DTYPE_Q3_K,
    FS_DTYPE_Q4_K,
    FS_DTYPE_Q5_K,
    FS_DTYPE_Q6_K,
    FS_DTYPE_IQ4_NL,
    FS_DTYPE_IQ4_XS,
    FS_DTYPE_MXFP4,
    FS_DTYPE_NVFP4,
    FS_DTYPE_IQ1_S,
    FS_DTYPE_IQ1_M,
    FS_DTYPE_IQ2_XXS,
    FS_DTYPE_IQ2_XS,
    FS_DTYPE_IQ2_S,
    FS_DTYPE_IQ3_XXS,
    FS_DTYPE_IQ3_S,
    FS_DTYPE_TQ1_0,
    FS_DTYPE_TQ2_0,
    FS_DTYPE_END
} fs_dtype;

typedef struct fs_dtype_info {
    const char *name;             /* "BF16", "Q4_K" */
    const char *safetensors_name; /* NULL: not a safetensors dtype */
    int ggml_type;                /* -1: not a GGUF type */
    uint16_t block_elems;         /* 1 for plain types, 2 for FP4, 32, 64 or 256 for blocks */
    uint16_t block_bytes;
    bool is_weight; /* fs_dequant_row knows it */
} fs_dtype_info;

/* Asserts a valid dtype. */
const fs_dtype_info *fs_dtype_get(fs_dtype t);
static inline bool fs_dtype_is_block(fs_dtype t)
{
    return t >= FS_DTYPE_Q4_0;
}
/* FS_DTYPE_NONE when unknown. */
fs_dtype fs_dtype_from_safetensors(fs_bytes name);
fs_dtype fs_dtype_from_ggml(uint32_t type);

/* Whether one of n plain elements is a NaN; of integers, FP4 and blocks: false. */
bool fs_dtype_has_nan(fs_dtype t, const uint8_t *data, size_t n);

/* Bytes of n elements; false when n is no multiple of the block or the product wraps. */
bool fs_dtype_bytes(fs_dtype t, uint64_t n_elems, size_t *ret_bytes);

#endif
