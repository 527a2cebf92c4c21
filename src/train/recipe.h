/* A recipe: what a training is made of, from YAML. Strict: an unknown key is refused with the one most like it.
 *
 *   stage: pretrain                  or sft: shards with replies to learn, on a model that is there
 *   seed: 1
 *   steps: 100
 *   out: runs/a                      checkpoints, trace
 *   checkpoint_every: 50             steps; 0: at the end only
 *   precision: f32                   or bf16: products of class RN1-bf16, masters stay f32
 *   recompute: none                  or layer: a layer's activations are made again on the way back; less memory, the same bits
 *   trace_every: 10                  steps between roots of weights and state in the trace; by default so that they cost less than 2 %
 *   licence: MIT                     of the result; and who vouches that it may be given away; both are lines of the record, and change no bit
 *   signed_off_by: Ada Example <ada@example.org>
 *   model:
 *     config: config.json            a model from nothing, or
 *     from: FOLDER                   one that goes on
 *     init_std: 0.006
 *   data:
 *     files: [a.jsonl]
 *     kind: text                     records (data/records.h), ids: {"ids":[...]} a line, or shards: one folder (data/shards.h)
 *     pack: cut                      shards only: cut or whole (data/pack.h)
 *     tokenizer: tokenizer.json      or its folder; by default that of `from`
 *     length: 256                    tokens a row, a multiple of 256
 *   batch: { rows: 16, micro_rows: 4 }
 *   optimizer: { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, clip: 1 }
 *   schedule: { kind: wsd, lr: 1e-3, min_lr: 0, warmup: 10, decay: 20 }
 *   loss: { mtp_weight: 0, balance_weight: 0, bias_rate: 0 }
 *   freeze: ["model.embed_tokens.*"] globs of parameters that stay as they are
 *   average: 0.99                    decay of a moving average of the weights, which is saved beside them
 *
 *   esft: { score: token, p: 0.2, rows: 64, save: adapter }
 *                                    of each layer only the experts that the first rows of the data need most are trained (esft.h); saved as an
 *                                    adapter of whole tensors, or with the model
 *   validation: { files: [b.jsonl], every: 20, rows: 0 }
 *                                    of data's kind: the mean loss of the first rows (0: all) before the first step, every so many and at the end
 *   lora: { r: 8, alpha: 16, rslora: false, targets: [q_proj, v_proj], from: ADAPTER }
 *                                    low-rank pairs are trained beside the frozen model, and saved as an adapter; from: one to go on from
 *
 * optimizer.kind: muon, momentum: 0.95, qk_clip: 100 are Muon for matrices (muon.h), the rest of optimizer then is AdamW's for what is left.
 * optimizer.groups: [{ match: "*norm*", lr_scale: 0.5, weight_decay: 0 }] are parameters with a rate and a decay of their own.
 *
 * stage: grpo has no data, batch and loss, but
 *
 *   task: { name: chain, min: 3, max: 6, number_max: 25, target_max: 200, test_share: 0.1, seed: 1 }
 *         or { file: problems.jsonl, judge: auto, format: chatml, thinking: false, seed: 1 }
 *   rewards: { right: 1, well_formed: 0, wrong: 0, right_long: 1, wrong_long: 0, think: 0, think_answer: 0, tags: 0, shorter: 0, overlong: 0,
 *              overlong_tokens: 0, repetition: 0, repetition_ngram: 3, random: 0,
 *              program: [./judge.py], program_weight: 1, program_seconds: 60, program_memory_mib: 0 }
 *   policy: { loss: dr_grpo, epsilon_low: 0.2, epsilon_high: 0.2, delta: 0, beta: 0, kl_unbiased: false, off_policy: 0, scale: none,
 *             prompts: 16, group: 16, max_tokens: 32, prompt_max: 64, updates: 1, temperature: 1, mask_truncated: false,
 *             skip_flat: false, resamples: 0, bias_rate: 0, sequences: 64, micro_tokens: 4096, keep_mib: 512 }
 *
 * stage: distil is pretrain or sft with
 *
 *   teacher: { from: FOLDER, beta: 0, temperature: 1, weight: 1 }      whose distribution is learnt (distil.h)
 *
 * and stage: on_policy_distil is grpo without rewards' part in it: task, policy, and a teacher whose beta is 1. teacher.lambda under 1 is the share of
 * steps that learn from the model's own samples; the others take their rows of data and batch, which are pretrain's.
 *
 * Paths are relative to the recipe's folder. */
#ifndef FS_TRAIN_RECIPE_H
#define FS_TRAIN_RECIPE_H

#include "base/mem.h"
#include "train/optimizer.h"
#include "train/esft.h"
#include "train/problems.h"

#define FS_RECIPE_FILES_MAX 64
#define FS_RECIPE_GLOBS_MAX 64
#define FS_RECIPE_BYTES_MAX ((size_t)1 << 20)

typedef enum fs_recipe_stage { FS_STAGE_PRETRAIN, FS_STAGE_SFT, FS_STAGE_GRPO, FS_STAGE_DISTIL, FS_STAGE_ON_POLICY_DISTIL, FS_STAGE_END } fs_recipe_stage;

typedef struct fs_recipe_globs {
    char *items[FS_RECIPE_GLOBS_MAX + 1]; /* NULL behind the last */
    int n;
} fs_recipe_globs;

typedef struct fs_recipe_group {
    char *match;
    double lr_scale, weight_decay; /* 1, and -1: as without a group */
} fs_recipe_group;

typedef struct fs_recipe {
    uint64_t seed, steps, checkpoint_every, trace_every; /* trace_every 0: not given */
    char *out, *config, *from, *tokenizer; /* paths as they are to be opened; NULL: not given */
    char *licence, *signed_off_by; /* of the record; NULL: not given */
    char *files[FS_RECIPE_FILES_MAX];
    int n_files;
    fs_recipe_stage stage;
    bool bf16; /* class RN1-bf16, else RN1 */
    bool recompute;
    enum fs_recipe_data { FS_RECIPE_TEXT, FS_RECIPE_IDS, FS_RECIPE_SHARDS } data;
    bool whole; /* documents of shards are not cut */
    double init_std;
    uint32_t length, rows, micro_rows;
    fs_optimizer optimizer; /* its step is 0 */
    fs_recipe_globs freeze, lora_targets, validation_files;
    uint64_t validation_every, validation_rows;
    fs_low_rank_options lora; /* r 0: none; its targets and base are not filled in */
    char *lora_from;
    fs_esft esft;
    uint64_t esft_rows;
    bool esft_model; /* saved as a model */
    fs_recipe_group groups[FS_RECIPE_GLOBS_MAX];
    int n_groups;
    fs_schedule schedule;
    double mtp_weight, balance_weight, bias_rate;
    char *teacher; /* of the two stages of distillation */
    fs_distil_options distil;
    double lambda; /* share of steps that learn from samples; 1 but in on-policy distillation */
    /* Of grpo. */
    char *task_file, *task_format; /* problems of a file instead of a task; the format NULL: what the tokenizer's files say */
    fs_judging judging;
    bool thinking;
    fs_task task;
    fs_task_options task_options;
    fs_problem_rewards rewards; /* without the program's words */
    fs_recipe_globs program;
    fs_grpo_options grpo; /* its seed and stop tokens are not filled in */
    char sha256[65]; /* of the recipe's text */
    fs_buf canonical; /* a line "section.key value" for every key that decides bits, but for paths; every default is written out */
    /* Of a dry run: what an earlier stage is still to make. model: config is of the shape that from will have. */
    bool model_later, data_later, teacher_later;
} fs_recipe;

/* Where a recipe stands. */
typedef struct fs_recipe_place {
    const char *folder; /* what its paths are relative to: "" or "some/where/" */
    const char *out;    /* instead of the recipe's; NULL: none */
    uint64_t seed;      /* where the recipe gives none */
    /* What an earlier stage made that text names, as a new string; *ret stays NULL when it names none. NULL: there are no stages. */
    fs_status (*made)(void *ud, const char *text, char **ret, fs_error *err);
    void *ud;
} fs_recipe_place;

/* path names it in sentences and gives the folder. */
fs_status fs_recipe_parse(fs_recipe *ret, fs_bytes text, const char *path, fs_error *err);
/* The same from its values, without the hash. */
struct json_object;
fs_status fs_recipe_of(fs_recipe *ret, struct json_object *json, const char *path, const fs_recipe_place *place, fs_error *err);
/* Sets sha256. */
fs_status fs_recipe_hash(fs_recipe *r, fs_bytes text, fs_error *err);
/* "pretrain", ...; false: no such stage. FS_STAGE_END has no word: NULL. */
bool fs_recipe_stage_of(const char *word, fs_recipe_stage *ret);
const char *fs_recipe_stage_word(fs_recipe_stage stage);
/* Whether it learns from what the model itself samples. */
bool fs_recipe_samples(const fs_recipe *r);
/* Whether it learns from rows of data; both where lambda is under 1. */
bool fs_recipe_reads(const fs_recipe *r);
/* A path of a recipe as it is to be opened; *ret, which is freed first, is a new string. */
fs_status fs_recipe_path(const fs_recipe_place *place, const char *text, char **ret, fs_error *err);
/* Zeroed recipes, and ones whose reading stopped, are fine. */
void fs_recipe_done(fs_recipe *r);

#endif
