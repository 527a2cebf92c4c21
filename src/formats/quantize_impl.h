/* Between quantize.c and quantize_hub.c. */
#ifndef FS_FORMATS_QUANTIZE_IMPL_H
#define FS_FORMATS_QUANTIZE_IMPL_H

#include "formats/imatrix.h"
#include "formats/quantize.h"

typedef enum fs_mix {
    FS_MIX_NONE,  /* every matrix the same */
    FS_MIX_PLAIN, /* the head alone more */
    FS_MIX_Q2_K, FS_MIX_Q3_K_M, FS_MIX_Q3_K_L, FS_MIX_Q4_K_S, FS_MIX_Q45_K_M, FS_MIX_IQ4,
    FS_MIX_MXFP4, /* experts alone */
    FS_MIX_HUB,
} fs_mix;

struct fs_quantizer {
    fs_pool *pool;
    fs_mix mix;
    fs_dtype base;
    uint32_t file_type;
    bool ue8m0;
    struct fs_rule *rules;
    size_t n_rules;
    fs_imatrix *imatrix; /* NULL: none */
    /* of the model under way */
    const fs_config *config;
    bool tied;
};

#endif
