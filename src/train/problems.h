/* What a policy is trained on: prompts by number, rewards of completions. Problems are a task's (data/tasks.h), made as they are asked for, or a suite's
 * (suite.h), in an order of each epoch that Philox draws. */
#ifndef FS_TRAIN_PROBLEMS_H
#define FS_TRAIN_PROBLEMS_H

#include "data/tasks.h"
#include "text/tokenizer.h"
#include "train/grpo.h"
#include "train/judge.h"
#include "train/suite.h"

/* A completion's reward is the sum of its parts. */
typedef struct fs_problem_rewards {
    double right, well_formed, wrong; /* by its answer */
    double right_long, wrong_long;    /* with by_length: at max_tokens, a half cosine from the ones above (rewards.h) */
    bool by_length;
    double think, think_answer, tags; /* times the rewards of these forms */
    double shorter;                   /* times the length reward within its group */
    double overlong;                  /* times the punishment of the last overlong_tokens before max_tokens */
    uint32_t overlong_tokens;
    double repetition;                /* times the share of repeated n-grams, taken away */
    uint32_t repetition_ngram;
    fs_judge program;                 /* argv NULL: none. Its number times program_weight */
    double program_weight;
    /* A control: the reward is 1 or 0 by the toss of a coin that lands so with this chance, whatever was said; 0: none. */
    double random;
} fs_problem_rewards;

typedef struct fs_problems fs_problems;

/* Problems of task by options, whose seed and split they have, or of suite where it is not NULL, which is taken over, success or not;
 * groups of n completions of at most max_tokens. t and what rewards points to are borrowed. */
fs_status fs_problems_new(fs_suite *suite, fs_task task, const fs_task_options *options, const fs_problem_rewards *rewards, const fs_tokenizer *t,
                          uint32_t group, uint32_t max_tokens, fs_problems **ret, fs_error *err);
void fs_problems_free(fs_problems *p);
/* Of p, which must outlive it. */
fs_grpo_source fs_problems_source(fs_problems *p);

#endif
