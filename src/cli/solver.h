/* A model at work on the problems of a suite: what eval and data reject share. */
#ifndef FS_CLI_SOLVER_H
#define FS_CLI_SOLVER_H

#include "cli/work.h"
#include "train/rollout.h"
#include "train/suite.h"

#define FS_SOLVER_SAMPLES_MAX 4096
#define FS_SOLVER_PROBLEMS_MAX ((size_t)1 << 20)

typedef struct fs_solver_options {
    fs_model_options model;
    const char *judge;   /* auto, task, maths, exact */
    size_t n_items;      /* the first of the suite; 0: all */
    uint32_t samples, max_tokens; /* of each problem; of a completion, 0: 512 or what the context leaves */
    uint32_t batch;      /* completions at once; changes nothing */
    fs_sampling sampling;
    bool thinking;
} fs_solver_options;

typedef struct fs_solver {
    fs_solver_options o; /* with max_tokens */
    char *path;          /* of the model */
    fs_model *model;
    fs_suite suite;
    fs_rollout *rollout;
    int32_t *stop_ids;
    size_t n_stop_ids;
    size_t at_once; /* problems */
    fs_sampled *items;   /* [at_once * samples] */
    int32_t *ids;
    fs_work work;
    size_t n_done; /* problems */
    fs_buf *texts;       /* [samples] */
    struct fs_solution *solutions; /* [samples] */
} fs_solver;

typedef struct fs_solution {
    const fs_sampled *sampled;
    fs_bytes text; /* without the stop token */
    fs_verdict verdict;
} fs_solution;

/* at_once: problems whose completions are in memory; 0: as many as fit. On failure fs_solver_close is still due. */
fs_status fs_solver_open(fs_solver *s, const char *model, const char *suite, const fs_solver_options *o, size_t at_once, fs_error *err);
void fs_solver_close(fs_solver *s);
/* Answers n problems from first on, at most at_once; fn gets the [samples] solutions of each in turn. Completion k of problem i is a function of the
 * model, the sampling and (seed, i, k). */
typedef fs_status fs_solver_fn(void *ud, size_t problem, const fs_solution *solutions, fs_error *err);
fs_status fs_solver_run(fs_solver *s, size_t first, size_t n, fs_solver_fn *fn, void *ud, fs_error *err);

#endif
