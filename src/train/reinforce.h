/* The stage grpo of a recipe: a model learns from rewards on problems of a task (grpo.h, problems.h). The state after step n is a
 * function of the recipe and the first weights alone, through any kill and resume. */
#ifndef FS_TRAIN_REINFORCE_H
#define FS_TRAIN_REINFORCE_H

#include "train/problems.h"
#include "train/stage.h"

typedef struct fs_reinforce_step {
    uint64_t step, steps; /* step counts from 1 */
    fs_grpo_step grpo;
    double lr, seconds;
} fs_reinforce_step;

typedef struct fs_reinforce_events {
    void (*plan)(void *ud, const fs_stage_plan *plan);
    /* false: the run writes a checkpoint and ends with FS_ERR_INTERRUPTED. */
    bool (*step)(void *ud, const fs_reinforce_step *step);
    void (*checkpoint)(void *ud, uint64_t step);
    void *ud;
} fs_reinforce_events;

/* resume and dry_run as of fs_pretrain. Every 50th step all log-probabilities are computed again: one that is not what the token
 * was drawn with, to the bit, stops the run. */
fs_status fs_reinforce(const fs_recipe *r, fs_pool *pool, const fs_kernels *kernels, bool resume, bool dry_run, const fs_reinforce_events *events,
                       fs_error *err);

#endif
