/* Rotary embedding: frequencies of every scaling that config.json knows, and the angles of a position. */
#ifndef FS_MODELS_ROPE_H
#define FS_MODELS_ROPE_H

#include "formats/config.h"

/* Rotary frequencies: cos and sin of pos * inv_freq[i], times factor. */
typedef struct fs_rope {
    uint32_t dim;          /* rotated elements of a head */
    double *inv_freq;      /* [dim / 2] */
    double *inv_freq_long; /* longrope, for caches over original_max_position_embeddings; else NULL */
    uint32_t long_above;
    double factor;
} fs_rope;

fs_status fs_rope_init(fs_rope *r, const fs_config *c, uint32_t dim, fs_error *err);
/* V4's: theta without scaling, or compress_rope_theta with YaRN's frequencies; the factor is 1 in both. */
fs_status fs_rope_init_v4(fs_rope *r, const fs_config *c, uint32_t dim, bool compressed, fs_error *err);
void fs_rope_done(fs_rope *r);
/* ret_cs [dim]: cos at 2i, sin at 2i+1, for position pos in a cache of ctx_tokens. */
void fs_rope_angles(const fs_rope *r, uint32_t pos, uint32_t ctx_tokens, float *ret_cs);
/* MLA's softmax scale: (nope + rope)^-0.5 * g(factor, mscale_all_dim)^2. */
float fs_mla_softmax_scale(const fs_config *c);
float fs_gqa_softmax_scale(const fs_config *c);

#endif
