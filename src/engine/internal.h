/* The objects behind farseek.h. Private to engine/. */
#ifndef FS_ENGINE_INTERNAL_H
#define FS_ENGINE_INTERNAL_H

#include "engine/engine.h"

#include <stdatomic.h>

struct fs_model {
    fs_pool *pool;
    fs_kernels kernels;
    fs_weights *weights;
    fs_adapter *adapter; /* NULL: none */
    fs_network *network;
    fs_network_plan plan;
    fs_workspace *workspace; /* shared by the sessions: steps are one at a time */
    fs_tokenizer *tokenizer;
    fs_chat_format chat_format;
    fs_sampling sampling;
    bool has_sampling;
    int32_t stop_ids[16];
    int n_stop_ids, n_config_stop_ids; /* the format's come after the config's */
};

struct fs_session {
    fs_model *model;
    fs_cache cache;
    int32_t *tokens; /* [ctx_tokens] the sequence */
    uint32_t n_tokens; /* of it; the cache may lag behind after a rewind, until the next step */
    float *logits;   /* [V] */
    fs_sampler *sampler;
    atomic_bool interrupted;
};

#endif
