/* A chain: one recipe of several stages, from the seeds to the model.
 *
 *   seed: 1                     of every stage that gives none
 *   out: runs/chain
 *   stages:
 *     - { name: problems, stage: make, task: chain, count: 1000, split: train }
 *     - { name: words, stage: tokenizer, files: [problems], vocab_size: 300, digits: true }
 *     - { name: tokens, stage: tokenize, tokenizer: words, files: [problems] }
 *     - { name: base, stage: pretrain, steps: 100, model: {config: config.json}, data: {kind: shards, files: [tokens], tokenizer: words, ... } }
 *     - { name: rl, stage: grpo, model: { from: base }, ... }
 *
 * A path that begins with the name of an earlier stage is what that stage made: OUT/problems.jsonl, OUT/words, OUT/base/step-00000100 (and
 * base/step-00000050 another checkpoint of it). Beside what a stage other than a training made stands OUT/NAME.json, {"stage": .., "sha256": ..,
 * "result": {..}}. The hash is of the stage's keys, its seed, and the hashes of the stages it names, so that nothing is taken for what another
 * recipe made. */
#ifndef FS_CLI_CHAIN_H
#define FS_CLI_CHAIN_H

#include "train/recipe.h"

#include <json-c/json.h>

typedef struct fs_chain fs_chain;

bool fs_is_chain(struct json_object *recipe);
/* recipe is read from the file at path, and borrowed. out: instead of the recipe's; may be NULL. Every stage is checked. */
fs_status fs_chain_new(struct json_object *recipe, const char *path, const char *out, fs_chain **ret, fs_error *err);
void fs_chain_free(fs_chain *c);

typedef struct fs_chain_options {
    const char *only, *until; /* stages; NULL: all */
    const char *isa;
    int n_threads;
    bool dry_run, json;
    /* Trains, resuming what is there; or tells its plan. */
    fs_status (*train)(const fs_recipe *r, fs_error *err);
} fs_chain_options;

/* Stages that are done are stepped over. Leaves OUT/report.html. */
fs_status fs_chain_run(fs_chain *c, const fs_chain_options *o, fs_error *err);

#endif
