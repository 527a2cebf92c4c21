/* Completions that a model under training samples, on the engine's step: the same arithmetic as the trainer's, so that the
 * log-probability a token was drawn with is, bit for bit, the one that the trainer computes for it at temperature 1.
 *
 * Sequences run side by side, as many at once as there is room for; one that ends makes room for the next. A completion depends
 * on the weights, its prompt, its stream and the sampling alone (RN1 section 7), not on what runs beside it. */
#ifndef FS_TRAIN_ROLLOUT_H
#define FS_TRAIN_ROLLOUT_H

#include "base/progress.h"
#include "engine/engine.h"
#include "train/params.h"

typedef struct fs_rollout fs_rollout;

typedef struct fs_rollout_options {
    uint32_t sequences_max; /* at once */
    uint32_t ctx_tokens;    /* prompt and completion */
    bool bf16;              /* the class of the trainer; not of fs_rollout_on */
} fs_rollout_options;

typedef struct fs_sampled {
    const int32_t *prompt; /* [n_prompt], n_prompt > 0 */
    uint32_t n_prompt;
    uint32_t stream;       /* of random numbers: another one gives another completion */
    int32_t *ids;          /* [n_max] what was drawn, a stop token too */
    float *logp;           /* [n_max] of each; NULL: not wanted */
    float *kept;           /* [n_prompt + n_max, row] the activations of every token (fs_rollout_keep); NULL: not wanted */
    uint32_t n_max, n;     /* n is filled in */
    bool stopped;          /* by a stop token, not for want of room */
} fs_sampled;

/* On a network that is somebody's, e.g. of a model that is measured: nothing is copied, nothing need be refreshed. net, pool and
 * kernels are borrowed. */
fs_status fs_rollout_on(fs_network *net, fs_pool *pool, const fs_kernels *kernels, const fs_rollout_options *o, fs_rollout **ret, fs_error *err);
/* c, p, pool and kernels are borrowed. fs_rollout_refresh takes the weights of p: before the first run, and when they have changed. */
fs_status fs_rollout_new(const fs_config *c, const fs_params *p, fs_pool *pool, const fs_kernels *kernels, const fs_rollout_options *o, fs_rollout **ret,
                         fs_error *err);
void fs_rollout_free(fs_rollout *r);
fs_status fs_rollout_refresh(fs_rollout *r, fs_error *err); /* not of fs_rollout_on */
size_t fs_rollout_bytes(const fs_rollout *r);

/* progress (may be NULL) is told of every run: completions that are done, of n. */
void fs_rollout_watch(fs_rollout *r, const fs_progress *progress);
/* Completions that ask for it keep the activations of their tokens from here on, laid out by a, which is borrowed: logits, if a has
 * them, of tokens behind which something was drawn. The last token, which gives no logits, is run too then. */
void fs_rollout_keep(fs_rollout *r, const fs_activations *a);
/* Fills ids, logp, n and stopped of n completions; of their positions in random numbers 0 is the first drawn token. A prompt that
 * leaves no room is FS_ERR_CONTEXT_FULL; a NaN FS_ERR_NUMERIC. */
fs_status fs_rollout_run(fs_rollout *r, const fs_sampling *s, const int32_t *stop_ids, size_t n_stop_ids, fs_sampled *items, size_t n,
                         fs_error *err);

#endif
