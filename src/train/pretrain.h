/* Pretraining by a recipe: data, steps, checkpoints, a trace. The state after step n is a function of the recipe, the data and
 * the first weights alone: a run that is killed and resumed ends in the same bits as one that was not. */
#ifndef FS_TRAIN_PRETRAIN_H
#define FS_TRAIN_PRETRAIN_H

#include "train/stage.h"

/* resume: goes on from the newest checkpoint in the recipe's out, if there is one; without it checkpoints there are refused.
 * dry_run: ends after the plan and writes nothing. The folder out is there (a dry run needs none). A loss or gradient that is
 * no finite number stops the run and is named; the checkpoints stay. */
fs_status fs_pretrain(const fs_recipe *r, fs_pool *pool, const fs_kernels *kernels, bool resume, bool dry_run, const fs_stage_events *events,
                      fs_error *err);

#endif
