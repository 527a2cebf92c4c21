/* The tasks of data/tasks.h as what a policy is trained on: prompts by number, rewards of completions. suite.h is what measures. */
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

#endif
