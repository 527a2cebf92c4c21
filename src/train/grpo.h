/* Group relative policy optimisation: a group of completions for each prompt, their rewards against the group's mean, a step along
 * the policy's gradient (policy.h). Sampled on the trainer's own weights (rollout.h), so that at the first update of a step every
 * ratio is exactly 1.
 *
 * A step is a function of the weights, the optimiser's state, (seed, step) and what prompts and rewards are. */
#ifndef FS_TRAIN_GRPO_H
#define FS_TRAIN_GRPO_H

#include "train/optimizer.h"
#include "train/policy.h"
#include "train/rollout.h"
#include "train/trainer.h"

typedef struct fs_grpo_options {
    uint32_t prompts, group;      /* of a step */
    uint32_t prompt_max, max_tokens; /* tokens of a prompt, of a completion */
    uint32_t sequences_max;       /* sampled at once */
    uint32_t micro_tokens;        /* trained at once, about */
    float temperature;            /* > 0. With another than 1 ratios are of the tempered policy's samples to the policy itself */
    uint32_t updates;             /* of the weights a step, each over all completions */
    fs_policy_options policy;     /* max_tokens is the one above */
    fs_reward_scale scale;
    bool mask_truncated;          /* completions that were cut off do not count */
    bool skip_flat;               /* nor do groups whose rewards are all equal: they are not in a mean over tokens */
    uint32_t resamples;           /* how often groups whose rewards are all equal are given up for other prompts (dynamic sampling of DAPO); what
                                     is flat then stays */
    size_t keep_bytes_max;        /* of activations that sampling may keep for the first update, which then need not make them again;
                                     without logits where those would be too many, none where even that is; 0: none. Moves no bit */
    bool distil;                  /* completions are learnt from the trainer's teacher, rewards only watched */
    double bias_rate;             /* fs_trainer_move_biases */
    uint64_t seed;
    int32_t stop_ids[8];
    int n_stop_ids;
} fs_grpo_options;

/* What a step is about. Groups are in the order of the prompts: completion i answers prompt i / group. */
typedef struct fs_grpo_source {
    /* Writes the ids of prompt number `number` of the run, at most n_max; *ret_n tells. */
    fs_status (*prompt)(void *ud, uint64_t number, int32_t *ret_ids, uint32_t n_max, uint32_t *ret_n, fs_error *err);
    /* The reward of each completion, and whether it is right. numbers [n / group]: of the prompts. */
    fs_status (*reward)(void *ud, const uint64_t *numbers, const fs_sampled *items, size_t n, double *ret_rewards, bool *ret_right, fs_error *err);
    void *ud;
} fs_grpo_source;

typedef struct fs_grpo_step {
    double reward, reward_deviation; /* over all completions */
    double right;                    /* share */
    double length, length_right, length_wrong; /* mean tokens, the stop token too; NAN where there are none */
    double truncated;                /* share that no stop token ended */
    double flat_groups;              /* share whose rewards are all equal */
    double resampled;                /* groups given up, of prompts */
    double entropy;                  /* mean -log p of the drawn tokens, which estimates it */
    fs_policy_result policy;         /* of the last update; with a teacher the loss is the divergence from it */
    double off_policy;               /* greatest |log p drawn - log p trained| at the first update of weights at temperature 1: 0 */
    float grad_norm;
    double sample_seconds, train_seconds;
    uint64_t n_tokens, n_drawn;      /* of the completions; with those given up */
} fs_grpo_step;

typedef struct fs_grpo fs_grpo;

/* Borrows all of it; the trainer's moments are there, its room (fs_grpo_trainer_options) is. reference: another trainer of the
 * weights that beta refers to; NULL where beta is 0. */
fs_status fs_grpo_new(fs_trainer *t, fs_trainer *reference, const fs_config *c, fs_pool *pool, const fs_kernels *kernels, const fs_grpo_options *o,
                      fs_grpo **ret, fs_error *err);
void fs_grpo_free(fs_grpo *g);
size_t fs_grpo_bytes(const fs_grpo *g);
/* Sets what the trainer must have room for. */
void fs_grpo_trainer_room(const fs_grpo_options *o, fs_trainer_options *ret);

/* verify: computes every log-probability again, for off_policy. */
fs_status fs_grpo_run(fs_grpo *g, uint64_t step, const fs_grpo_source *source, fs_optimizer *optimizer, double lr, bool verify, fs_grpo_step *ret,
                      fs_error *err);

#endif
