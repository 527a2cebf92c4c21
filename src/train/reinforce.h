/* The stage grpo of a recipe: a model learns from rewards on problems of a task (grpo.h, problems.h); and on_policy_distil: from a teacher on them, with
 * teacher.lambda under 1 in the other steps on rows of data (dataset.h), which are those that the stage distil has at that step. The state after step n is a
 * function of the recipe and the first weights alone, through any kill and resume. */
#ifndef FS_TRAIN_REINFORCE_H
#define FS_TRAIN_REINFORCE_H

#include "train/problems.h"
#include "train/stage.h"

/* resume and dry_run as of fs_pretrain. Of 50 steps at the first that samples all log-probabilities are computed again: one that is not what the token
 * was drawn with, to the bit, stops the run. */
fs_status fs_reinforce(const fs_recipe *r, fs_pool *pool, const fs_kernels *kernels, bool resume, bool dry_run, const fs_stage_events *events,
                       fs_error *err);

#endif
