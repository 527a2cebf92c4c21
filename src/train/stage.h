/* What every stage of a recipe has: a model with its tokenizer, a trainer, an optimiser; the loop of steps with its checkpoints, trace
 * and metrics. The stages themselves are pretrain.c and reinforce.c. */
#ifndef FS_TRAIN_STAGE_H
#define FS_TRAIN_STAGE_H

#include "text/tokenizer.h"
#include "train/gauges.h"
#include "train/history.h"
#include "train/metrics.h"
#include "train/recipe.h"
#include "train/trainer.h"

/* What is known before the first step. */
typedef struct fs_stage_plan {
    uint64_t n_parameters, n_active, n_trained; /* active: multiplied with one token; trained: what has a gradient */
    uint64_t n_documents, n_tokens, n_rows; /* of pretraining */
    uint64_t tokens_step;            /* of RL the most that a step may have */
    double flop_token;               /* forward and backward at the length of a row (gauges.h); of RL of prompt_max + max_tokens, and drawing it */
    double seconds_step;             /* of a dry run: about, by the passes of a micro-batch; 0: not measured */
    size_t bytes;                    /* parameters, moments, operands, activations, rollouts */
    const fs_config *config;
    uint64_t first_step;             /* of those done before: resumed */
    const char *resumed_from;        /* NULL: nothing; valid during the call */
} fs_stage_plan;

typedef struct fs_stage_step {
    uint64_t step, steps; /* step counts from 1 */
    double lr, seconds;   /* seconds: of the step */
    double mfu;           /* gauges.h; NAN: not known */
    bool read;            /* of on-policy distillation: it learnt rows of data, which pretrain tells of */
    union {
        struct {
            fs_train_loss loss;
            float grad_norm;
            double validation, start; /* held-out loss behind the step, and before the first; NAN: not measured */
        } pretrain;
        fs_grpo_step grpo;
    };
} fs_stage_step;

/* What a run tells of; all three functions are there. */
typedef struct fs_stage_events {
    void (*plan)(void *ud, const fs_stage_plan *plan);
    /* false: the run writes a checkpoint and ends with FS_ERR_INTERRUPTED. */
    bool (*step)(void *ud, const fs_stage_step *step);
    void (*checkpoint)(void *ud, uint64_t step);
    void *ud;
    const fs_record *origin; /* of the records that checkpoints get (history.h); NULL: they get none */
    fs_history_check *check; /* a run that is only compared, and writes nothing; NULL: an ordinary one */
} fs_stage_events;

typedef struct fs_stage {
    const fs_recipe *r;
    fs_pool *pool;
    const fs_kernels *kernels;
    fs_config own_config;
    const fs_config *config;
    fs_weights *weights; /* model.from; NULL: from nothing */
    fs_tokenizer *tokenizer; /* NULL: not asked for */
    char *tokenizer_folder;  /* NULL: none */
    struct fs_teacher *teacher; /* NULL: none */
    fs_trainer *trainer;
    fs_params *params;
    fs_low_rank_options low_rank; /* of the recipe's lora */
    fs_optimizer optimizer;
    char *resumed_from;
    fs_history history;
    fs_metrics *metrics;     /* NULL: a check */
    fs_gauges gauges;        /* nothing in a check */
    fs_roots roots, state_roots; /* of weights and state behind step rooted */
    uint64_t rooted;
} fs_stage;

/* The model's shape. On failure fs_stage_close is still due. */
fs_status fs_stage_open(fs_stage *s, const fs_recipe *r, fs_pool *pool, const fs_kernels *kernels, const fs_stage_events *events, fs_error *err);
void fs_stage_close(fs_stage *s);
/* Finds the tokenizer's folder, which goes along with checkpoints, and opens it: not at all, if there is one, or there must be one. */
typedef enum fs_stage_reading { FS_STAGE_COPY, FS_STAGE_MAY_READ, FS_STAGE_MUST_READ } fs_stage_reading;
fs_status fs_stage_tokenizer(fs_stage *s, fs_stage_reading how, fs_error *err);
/* The trainer with its moments, nothing is in them; and the recipe's teacher. */
fs_status fs_stage_trainer(fs_stage *s, const fs_trainer_options *o, fs_error *err);
/* Weights as a run that goes on from nothing has them, packed; nothing is written or told. */
fs_status fs_stage_begin(fs_stage *s, fs_error *err);
/* Weights of the newest checkpoint in the recipe's out, which resume must allow, or of the recipe. */
fs_status fs_stage_fill(fs_stage *s, bool resume, fs_error *err);
/* Parameters, flop_token of that length, and what is resumed; ret has tokens_step. */
void fs_stage_plan_of(fs_stage *s, uint32_t length, fs_stage_plan *ret);

/* Lines of the record, before the run: the file at path as data ("source a.jsonl"), the same of a source or of a folder of shards, called as the
 * path ends; or a root. Nothing where no record is wanted. */
fs_status fs_stage_tell_file(fs_stage *s, const char *what, const char *path, fs_error *err);
fs_status fs_stage_tell_source(fs_stage *s, const char *kind, const char *path, bool shards, fs_error *err);
fs_status fs_stage_tell_root(fs_stage *s, const char *what, const fs_root *root, fs_error *err);
/* The tokenizer's file, where there is one. */
fs_status fs_stage_tell_tokenizer(fs_stage *s, fs_error *err);
/* The model or adapter at path as a parent, behind model.from, which fs_stage_fill tells. */
fs_status fs_stage_tell_parent(fs_stage *s, const char *path, fs_error *err);

/* Steps from the optimiser's to the recipe's last, with checkpoints when they are due. take does one: it has step, steps and lr, fills
 * in the rest, moves the optimiser's step on by one, and puts the step's row of the trace and its metrics.
 * metrics.jsonl in out begins behind the line of the optimiser's step. */
typedef fs_status fs_stage_take_fn(void *ud, fs_stage_step *step, fs_error *err);
fs_status fs_stage_run(fs_stage *s, fs_stage_take_fn *take, void *ud, const fs_stage_events *events, fs_error *err);
/* The step's row, with the roots where they are due; fields: what else its line says, ",\"reward\":...", or empty. */
fs_status fs_stage_trace(fs_stage *s, const fs_stage_step *step, double loss, float grad_norm, const char *fields, fs_error *err);
/* Behind a step of so many tokens, forward and backward, in sequences of length: mfu, and the experts' loads of its last update, which go with its metrics. */
void fs_stage_gauge(fs_stage *s, fs_stage_step *step, double tokens, double length);
fs_status fs_stage_step_metrics(fs_stage *s, const fs_stage_step *step, const fs_metric *items, size_t n, fs_error *err);
/* tokens_s and the like may differ from run to run: metrics are for looking at, the trace is what is compared. */
fs_status fs_stage_metrics(fs_stage *s, uint64_t step, const fs_metric *items, size_t n, fs_error *err);

#endif
