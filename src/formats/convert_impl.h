/* Between convert.c, convert_rows.c, convert_gguf.c and convert_hub.c: a list of items, one a tensor of the output, each of
 * which knows where its rows come from; rows pass through f32. */
#ifndef FS_FORMATS_CONVERT_IMPL_H
#define FS_FORMATS_CONVERT_IMPL_H

#include "formats/convert.h"
#include "formats/encode.h"
#include "formats/safetensors_write.h"

#define FS_ITEM_NAME_MAX 192
#define MXFP4_ELEMS      32

typedef enum fs_item_kind {
    FS_ITEM_PLAIN,      /* the rows of src */
    FS_ITEM_EXPERTS,    /* those of dims[0] tensors, src being the first's */
    FS_ITEM_K_B,        /* of kv_b_proj: W_uk a head, transposed */
    FS_ITEM_V_B,        /* of kv_b_proj: W_uv a head */
    FS_ITEM_KV_B,       /* of k_b (src) and v_b (src2) */
    FS_ITEM_FREQS,      /* llama3's divisors */
    FS_ITEM_SIDES,      /* of src and src2, side by side: V4's e_proj and h_proj */
    FS_ITEM_COLUMNS,    /* those of src from column first_col on */
    FS_ITEM_IDS,        /* integers, I32 or I64 */
    FS_ITEM_FP4,        /* of MXFP4: two codes a byte as the Hub has them */
    FS_ITEM_FP4_SCALES, /* of MXFP4: the scales alone */
} fs_item_kind;

typedef struct fs_item {
    char name[FS_ITEM_NAME_MAX];
    fs_item_kind kind;
    fs_dtype dtype;
    int n_dims;
    uint64_t dims[FS_TENSOR_DIMS_MAX];
    const fs_tensor *src, *src2;
    const char *weight; /* of PLAIN: the linear's weight whose pairs its rows have, if not src's */
    uint64_t first_col;
    uint32_t rope_heads; /* > 0: rows leave in interleaved order */
} fs_item;

typedef struct fs_convert_job {
    const fs_weights *w;
    const fs_config *c; /* of the output */
    const fs_convert_options *o;
    bool v4, fp4; /* fp4: some tensors are */
    bool same;    /* from the Hub's layout into itself */
    fs_item *items;
    size_t n, capacity;
    uint64_t done, total; /* bytes */
    fs_gguf_writer *gguf;
    fs_safetensors_writer *safetensors;
    float *row, *head; /* head: a matrix of one head, for K_B and KV_B */
    uint8_t *bytes;
    fs_encoder *encoder; /* of a quantisation */
    fs_merge_rows *pairs[2]; /* of the item under way: of src, and of the second of SIDES */
} fs_convert_job;

void fs_convert_job_done(fs_convert_job *j);
fs_status fs_convert_add(fs_convert_job *j, const fs_item *it, fs_error *err);
/* Of the output; its pointers stay borrowed. An adapter of a head that is the embedding makes it a matrix of its own. */
fs_status fs_convert_config_of(const fs_weights *w, const fs_convert_options *o, fs_config *ret, fs_error *err);
/* Not the copy of an embedding that is the head. */
bool fs_convert_is_own_head(const fs_convert_job *j, const fs_tensor *t);
/* Adds the head that an adapter makes of an embedding, if one does. */
fs_status fs_convert_add_head(fs_convert_job *j, fs_error *err);
/* What the output is said to be: the type of its embedding. */
fs_dtype fs_convert_main_dtype(const fs_convert_job *j);
/* Of a matrix of the output: the smallest of GGUF's plain types, or MXFP4, that holds every value. */
fs_dtype fs_convert_dtype_of(const fs_convert_job *j, const fs_tensor *t);
fs_item fs_convert_plain_item(const fs_convert_job *j, const fs_tensor *t);
/* A layer that predicts ahead. */
bool fs_convert_is_mtp(const fs_convert_job *j, const fs_tensor *t);
/* Scales of another tensor, whose values have them; and rotary frequencies, which config.json says. */
bool fs_convert_is_scale(const fs_tensor *t);
fs_status fs_convert_no_place(const fs_tensor *t, fs_error *err);
/* The tensor of expert e beside that of expert 0. */
fs_status fs_convert_get_expert(const fs_convert_job *j, const fs_item *it, uint64_t e, const fs_tensor **ret, fs_error *err);

/* A linear of which an item has rows: the name of its weight [out, in], as the Hub has it. */
typedef struct fs_item_linear {
    const char *weight;
    uint64_t out, in;
} fs_item_linear;
uint64_t fs_convert_n_linears(const fs_item *it);
fs_status fs_convert_linear(const fs_convert_job *j, const fs_item *it, uint64_t i, fs_item_linear *ret, fs_error *err);
/* An adapter has a pair of it. */
bool fs_convert_is_merged(const fs_convert_job *j, const fs_tensor *t);
/* Every pair of the adapters fits a linear of the items, and none is left. */
fs_status fs_convert_check_merge(const fs_convert_job *j, fs_error *err);

/* Buffers for the longest row, and for MLA a head; the sum of the output. */
fs_status fs_convert_plan(fs_convert_job *j, fs_error *err);
fs_status fs_convert_put_item(fs_convert_job *j, const fs_item *it, fs_error *err);

#endif
