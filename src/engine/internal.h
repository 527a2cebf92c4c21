/* The objects behind farseek.h. Private to engine/. */
#ifndef FS_ENGINE_INTERNAL_H
#define FS_ENGINE_INTERNAL_H

#include "engine/engine.h"
#include "text/chat_template.h"
#include "text/parse.h"

#include <stdatomic.h>

struct fs_model {
    fs_pool *pool;
    fs_kernels kernels;
    fs_weights *weights;
    fs_adapter *adapter; /* NULL: none */
    fs_network *network;
    fs_network_plan plan;
    size_t stream_bytes; /* of slots and readers; 0: every expert is in memory */
    fs_workspace *workspace; /* shared by the sessions: steps are one at a time */
    fs_tokenizer *tokenizer;
    fs_chat_format chat_format;
    fs_chat_config chat_config;
    fs_chat_template *chat_template; /* NULL: none was needed, or chat_error says why it is of no use */
    fs_error chat_error;
    struct tm now; /* what a template's clock tells */
    fs_sampling sampling;
    bool has_sampling;
    int32_t stop_ids[16 + FS_CHAT_STOP_IDS_MAX];
    int n_stop_ids, n_config_stop_ids; /* the format's come after the config's */
};

/* The last step of a generation, which ran a drawn token and the draft behind it, and what drafts are made of. */
typedef struct fs_draft {
    fs_speculation how;
    uint32_t n_max, n_next;          /* tokens a step */
    uint32_t first, n_rows, row;     /* the step's position and rows; the token behind row is the next to be drawn */
    int32_t ids[FS_DRAFT_MAX + 1];   /* [n_rows] */
    float *hidden;                   /* [FS_STEP_TOKENS, hidden_floats] of the last step; NULL: no MTP layer is asked */
    uint32_t hidden_first, n_hidden; /* positions that stand there */
    float *mtp_hidden, *mtp_logits;  /* [hidden_floats], [V] */
    float likely;                    /* the least probability that a draft of the MTP layer is to have */
    bool asked;                      /* it, for the last step */
    uint32_t n_misses;               /* of its drafts, one after another, that brought nothing */
    uint32_t pause, n_paused;        /* steps it is left alone for that, and those of them still to come */
    int n_drafted, n_accepted;       /* of the generation */
} fs_draft;

struct fs_session {
    fs_model *model;
    fs_cache cache;
    int32_t *tokens; /* [ctx_tokens] the sequence */
    uint32_t n_tokens; /* of it; the cache may lag behind after a rewind, until the next step */
    float *logits;   /* [draft.n_max + 1, V] */
    fs_draft draft;
    fs_sampler *sampler;
    atomic_bool interrupted;
};

/* ---- speculate.c ---- */
void fs_draft_done(fs_draft *d);
void fs_draft_truncate(fs_draft *d, uint32_t n_tokens);
/* Goes back to the n_cached tokens that the session shares with a prompt, or as many of them as it can go on from. */
size_t fs_draft_resume(fs_session *s, size_t n_cached);
/* Runs the end of a prompt; s->draft.row's logits are its last. */
fs_status fs_draft_prompt(fs_session *s, const int32_t *ids, size_t n, fs_error *err);
/* Tokens that are certain: the sequence up to the one that is drawn next. */
uint32_t fs_draft_position(const fs_session *s);
float *fs_draft_logits(const fs_session *s); /* of the token to draw */
/* Takes id as drawn: the next row where the draft had it, else a step, in which at most n_left tokens are drawn. */
fs_status fs_draft_next(fs_session *s, const fs_sampling *o, int32_t id, int n_left, fs_error *err);
/* Forgets what was run ahead. */
void fs_draft_finish(fs_session *s);

#endif
