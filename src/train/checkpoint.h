/* A checkpoint: an ordinary Hub folder with f32 weights, and what training needs to go on from it to the bit.
 *
 *   OUT/step-00000100/config.json, model.safetensors, tokenizer files    the model
 *                     optimizer/model.safetensors                        NAME.m and NAME.v of every tensor that has a gradient
 *                     training.json                                      steps taken, beta^t as hexadecimal floats, the recipe's hash, the class
 *                     average/                                           a model too: the moving averages of the weights, where there are any
 *
 * Of low-rank pairs step-00000100 and average are adapters as PEFT has them, adapter_config.json and adapter_model.safetensors.
 * It is written into OUT/step-00000100.part, synced, and renamed: a folder without that ending is whole. */
#ifndef FS_TRAIN_CHECKPOINT_H
#define FS_TRAIN_CHECKPOINT_H

#include "formats/config.h"
#include "lineage/root.h"
#include "train/optimizer.h"

/* What goes into the checkpoint's folder besides, before it has its name. */
typedef fs_status fs_checkpoint_beside(void *ud, const char *folder, fs_error *err);
/* precision: fs_precision_name of the trainer's class, which training.json names, and config.json (as
 * "farseek_precision") where it is bf16.
 * tokenizer_from: a folder whose tokenizer.json, tokenizer_config.json and generation_config.json go along where they are;
 * NULL: none. beside may be NULL. */
fs_status fs_checkpoint_write(const char *out, const fs_config *c, const fs_params *p, const fs_optimizer *o, const char *recipe_sha256,
                              const char *precision, const char *tokenizer_from, fs_checkpoint_beside *beside, void *ud, fs_error *err);
/* The newest whole checkpoint in out: its steps and its folder (free); *ret_folder NULL: there is none. */
fs_status fs_checkpoint_newest(const char *out, uint64_t *ret_step, char **ret_folder, fs_error *err);
/* Whether the recipe of that hash made the checkpoint; another one is a sentence. */
fs_status fs_checkpoint_check(const char *folder, const char *recipe_sha256, fs_error *err);
/* Weights, moments and the optimiser's counters. Another recipe than recipe_sha256's is a sentence; NULL: any. */
fs_status fs_checkpoint_read(const char *folder, fs_params *p, fs_optimizer *o, const char *recipe_sha256, fs_error *err);

/* Roots of what a checkpoint would hold: the weights of the model or adapter; the state, NAME.m, NAME.v, NAME.e of averages, and
 * beta^t as "beta_t", F64 [2]. */
fs_status fs_checkpoint_roots(const fs_params *p, const fs_optimizer *o, fs_pool *pool, fs_roots *ret_weights, fs_roots *ret_state, fs_error *err);
/* The state's of one that is there. */
fs_status fs_checkpoint_state_roots(const char *folder, fs_pool *pool, fs_roots *ret, fs_error *err);

#endif
