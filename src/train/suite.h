/* A suite of problems that a model is measured with: records with prompt and answer, judged by what the record says: its "task"
 * (data/tasks.h) where it has one, else by mathematical value (data/maths.h), or as an exact text. */
#ifndef FS_TRAIN_SUITE_H
#define FS_TRAIN_SUITE_H

#include "data/tasks.h"
#include "text/tokenizer.h"

typedef enum fs_judging { FS_JUDGE_AUTO, FS_JUDGE_TASK, FS_JUDGE_MATHS, FS_JUDGE_EXACT } fs_judging;

typedef struct fs_suite_item {
    fs_buf prompt, answer; /* texts */
    fs_judging judging;    /* TASK, MATHS or EXACT */
    fs_task task;
    int32_t *ids;          /* [n_ids] the prompt for the model */
    uint32_t n_ids;
} fs_suite_item;

typedef struct fs_suite {
    fs_suite_item *items;
    size_t n, capacity;
    uint32_t prompt_max; /* ids of the longest */
} fs_suite;

/* "auto", "task", "maths", "exact"; false: none of them. */
bool fs_judging_of(const char *word, fs_judging *ret);

/* Appends the ids of the prompt that asks the question. */
typedef fs_status fs_ask_fn(void *ud, fs_bytes question, fs_ids *ret, fs_error *err);
/* At most n_max records of a .jsonl of problems, each asked by ask. */
fs_status fs_suite_read(fs_suite *ret, fs_ask_fn *ask, void *ud, const char *path, fs_judging judging, size_t n_max, fs_error *err);
void fs_suite_done(fs_suite *s);

/* What follows the end of a model's reasoning ("</think>") counts for EXACT and MATHS, white space around it does not. */
fs_status fs_suite_judge(const fs_suite_item *item, fs_bytes output, fs_verdict *ret, fs_error *err);

/* Of n samples of a problem c are right: the chance that one of k drawn from them is. 1 - C(n-c, k) / C(n, k), k <= n; HumanEval
 * (2107.03374), section 2.1. */
double fs_pass_at(uint32_t n, uint32_t c, uint32_t k);

#endif
