/* Problems that are made, and answers that are checked, exactly: what small reasoning models are trained and measured on.
 *
 * An item is a function of (task, settings, seed, index); no item depends on another. A model is asked the prompt and should say
 * trace and answer, one behind the other; the trace holds the marks between thinking and answer, so it may be just these.
 *
 *   facts      12+25=             37                    one operation, + - or *, nothing below zero; no trace
 *   chain      3+4*2-1=           >7>4>3                operations from left to right, modulo 10
 *   multiply   74*68=             >282+0673>2404        numbers with their lowest digit first; partial products, their sums
 *   --carries                     >a2424b4282c6546d2304>2404   a step for each two digits, the first number's from the lowest on within the second's:
 *              its letter, their product, and, added to it what stood in the place and the row's carry, the place's digit and the carry
 *   sort       5 31 9=            >5,5 31,>5 9 31       insertion, one number after the other
 *   countdown  3 7 12 25=104      <think>3+7=10,10*12=120,120-25=95;12+25=37,37*3=111,111-7=104</think><answer>(12+25)*3-7
 *              each number once, with + - *; tries, given up with ';', until one is right or the budget is used up. Then the answer
 *              is the try that came nearest: a guess.
 *
 * A prompt is a test prompt or a training prompt by its hash, whatever seed made it, so sets of the two never share one. */
#ifndef FS_DATA_TASKS_H
#define FS_DATA_TASKS_H

#include "base/mem.h"

typedef enum fs_task { FS_TASK_FACTS, FS_TASK_CHAIN, FS_TASK_MULTIPLY, FS_TASK_SORT, FS_TASK_COUNTDOWN, FS_TASK_END } fs_task;

/* "chain", ...; FS_TASK_END when unknown. */
const char *fs_task_name(fs_task t);
fs_task fs_task_from_name(const char *name);

typedef enum fs_task_split { FS_TASK_ANY, FS_TASK_TRAIN, FS_TASK_TEST } fs_task_split;

#define FS_TASK_BUDGETS_MAX 16
#define FS_TASK_LEVEL_MAX   64 /* chain and sort; 9 for facts and multiply (5 with carries, a letter a step), 6 for countdown */

typedef struct fs_task_options {
    uint64_t seed;
    int level_min, level_max;  /* digits of a fact's numbers (at most), operations of a chain, digits of a factor, numbers to sort or to use; each as likely as another */
    double traced;             /* share of items with a trace (the long form), 0 to 1 */
    bool carries;              /* multiply: the trace goes digit by digit */
    int budgets[FS_TASK_BUDGETS_MAX], n_budgets; /* countdown: tries, each budget as likely as another */
    int number_max, target_max; /* countdown: the given numbers are 1 to number_max; sort: 0 to number_max */
    fs_task_split split;
    double test_share;         /* of all prompts, that are test prompts */
} fs_task_options;

/* The settings that a task has by itself. */
fs_task_options fs_task_defaults(fs_task t);
/* FS_ERR_ARGUMENT for settings that make no sense. */
fs_status fs_task_options_check(fs_task t, const fs_task_options *o, fs_error *err);

typedef struct fs_task_item {
    fs_buf prompt, trace, answer; /* NUL-terminated */
    int level;
    int n_tries; /* countdown */
    bool traced;
    bool solved; /* the answer is right; only a countdown's guess is not */
} fs_task_item;

void fs_task_item_done(fs_task_item *i);
/* Fills *ret, whose buffers are used again. FS_ERR_ARGUMENT when no prompt of the wanted split turns up in 10,000 draws. */
fs_status fs_task_make(fs_task t, const fs_task_options *o, uint64_t index, fs_task_item *ret, fs_error *err);
/* Whether the prompt is a test prompt: SHA-256 of task and prompt, read as a fraction, is below test_share. */
fs_status fs_task_is_test(fs_task t, fs_bytes prompt, double test_share, bool *ret, fs_error *err);

typedef enum fs_verdict { FS_VERDICT_WRONG, FS_VERDICT_WELL_FORMED, FS_VERDICT_RIGHT } fs_verdict;

/* What a model said after the prompt; a prompt that is none of the task's gives FS_VERDICT_WRONG. The answer is what follows the
 * last mark ('>', "<answer>"), or all of it when there is none (not for countdown). White space around it does not matter. Right:
 * the result, or for countdown an expression of each given number once whose value is the target (+ - * / and brackets, exactly).
 * Well-formed: digits (numbers, an expression) all the same. */
fs_verdict fs_task_verify(fs_task t, fs_bytes prompt, fs_bytes output);

#endif
