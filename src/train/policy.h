/* Policy losses over a step's sampled completions, and their gradient with respect to each token's log-probability.
 *
 * r = exp(logp - old) is a token's ratio, of gspo its sequence's: exp(mean of logp - old). A is the completion's advantage.
 *
 *   token loss   -min(min(r, delta) A, clip(r, 1 - epsilon_low, 1 + epsilon_high) A), of cispo -min(r, epsilon_high) A logp
 *                with a constant first factor; plus beta * k, k = exp(ref - logp) - (ref - logp) - 1, times r where
 *                kl_unbiased (DeepSeek-V3.2). With off_policy > 0 a completion with A < 0 whose mean of old - logp is above it has
 *                nothing but the latter part (DeepSeek-V3.2's off-policy sequence masking)
 *   step's loss  grpo, gspo: mean over completions of the mean over their tokens; bnpo, dapo, cispo: sum / tokens of the
 *                step; dr_grpo: sum / (completions * max_tokens)
 *
 * Computed in binary64 in the order of the tokens, so that the bits depend on nothing else; the gradient is rounded once.
 * Sources: DeepSeekMath (2402.03300), DAPO (2503.14476), Dr. GRPO (2503.20783), GSPO (2507.18071), CISPO (2506.13585); TRL 1.16
 * computes the same values (tests/vectors/policy.json). */
#ifndef FS_TRAIN_POLICY_H
#define FS_TRAIN_POLICY_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum fs_policy_kind { FS_POLICY_GRPO, FS_POLICY_BNPO, FS_POLICY_DR_GRPO, FS_POLICY_DAPO, FS_POLICY_GSPO, FS_POLICY_CISPO, FS_POLICY_END } fs_policy_kind;

/* "grpo", ...; false: no such loss. */
bool fs_policy_kind_of(const char *name, fs_policy_kind *ret);
const char *fs_policy_name(fs_policy_kind k);

typedef struct fs_policy_options {
    fs_policy_kind kind;
    double epsilon_low, epsilon_high; /* >= 0; of cispo epsilon_high bounds the ratio itself */
    double delta;                     /* two-sided clipping, > 1 + epsilon_high; 0: none */
    double beta;                      /* of the divergence from the reference; 0: none */
    bool kl_unbiased;
    double off_policy;                /* 0: none */
    size_t max_tokens; /* of a completion: dr_grpo's divisor */
} fs_policy_options;

/* Completions one behind the other: row i has the tokens from begin[i] to begin[i + 1]. */
typedef struct fs_policy_batch {
    size_t n_rows;
    const size_t *begin;                 /* [n_rows + 1] */
    const float *logp, *old, *reference; /* [begin[n_rows]]; reference NULL where beta is 0 */
    const uint8_t *mask;                 /* 1: the token counts; NULL: all do */
    const double *advantages;            /* [n_rows] */
} fs_policy_batch;

typedef struct fs_policy_result {
    double loss;
    double mean_kl;                     /* over counting tokens; 0 without a reference */
    double clipped_low, clipped_high;   /* shares of counting tokens (gspo: completions) whose clipping took the gradient away */
    double mean_ratio, min_ratio, max_ratio;
    double off_policy;                  /* share of completions that are too far off */
    size_t n_tokens;                    /* that count */
} fs_policy_result;

/* ret_gradient [begin[n_rows]]: d loss / d logp; 0 where a token does not count. A value that is not finite is
 * FS_ERR_NUMERIC, and the sentence names row and token. */
fs_status fs_policy_loss(const fs_policy_options *o, const fs_policy_batch *b, fs_policy_result *ret, float *ret_gradient, fs_error *err);

/* Advantages of groups of n_group completions of one prompt: reward - mean of the group, divided, where asked, by the
 * standard deviation (n - 1) of the group or of all rewards, plus 1e-4. *ret_n_flat counts groups whose rewards are all
 * equal: they teach nothing. */
typedef enum fs_reward_scale { FS_REWARD_SCALE_NONE, FS_REWARD_SCALE_GROUP, FS_REWARD_SCALE_BATCH } fs_reward_scale;
void fs_policy_advantages(const double *rewards, size_t n_groups, size_t n_group, fs_reward_scale scale, double *ret, size_t *ret_n_flat);

#endif
