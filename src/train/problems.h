/* The tasks of data/tasks.h as what a policy is trained on and measured with: prompts by number, rewards of completions, and
 * pass@1 of a model over a set of test problems. */
#ifndef FS_TRAIN_PROBLEMS_H
#define FS_TRAIN_PROBLEMS_H

#include "data/tasks.h"
#include "text/tokenizer.h"
#include "train/grpo.h"

typedef struct fs_problem_rewards {
    double right, well_formed;
    /* A control: the reward is 1 or 0 by the toss of a coin that lands so with this chance, whatever was said; 0: none. */
    double random;
} fs_problem_rewards;

typedef struct fs_problems fs_problems;

/* Problems of task by options, whose seed and split they have. t is borrowed. */
fs_status fs_problems_new(fs_task task, const fs_task_options *options, const fs_problem_rewards *rewards, const fs_tokenizer *t, fs_problems **ret,
                          fs_error *err);
void fs_problems_free(fs_problems *p);
/* Of p, which must outlive it. Groups of n completions each. */
fs_grpo_source fs_problems_source(fs_problems *p, uint32_t group);

typedef struct fs_problems_score {
    size_t n_problems, n_samples;
    double pass_1;             /* share of right completions */
    double pass_1_error;       /* standard error, over problems */
    double pass_n;             /* share of problems with a right completion among its samples */
    double length, length_right, length_wrong;
    double truncated, well_formed;
    double long_form;          /* share of completions with a trace: longer than the plain answer */
} fs_problems_score;

/* Problems [first, first + n) with `samples` completions each at the sampling's temperature (0: greedy, of which one will do).
 * each (may be NULL) is told every completion. */
typedef void fs_problem_fn(void *ud, size_t problem, const char *prompt, const char *output, fs_verdict verdict, const fs_sampled *c);
fs_status fs_problems_evaluate(fs_problems *p, fs_rollout *r, const fs_sampling *s, const int32_t *stop_ids, size_t n_stop_ids, uint64_t first,
                               size_t n, uint32_t samples, uint32_t prompt_max, uint32_t max_tokens, fs_problem_fn *each, void *ud,
                               fs_problems_score *ret, fs_error *err);

#endif
