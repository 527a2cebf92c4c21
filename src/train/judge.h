/* A reward from another program, which reads completions and writes numbers:
 *
 *   stdin    a JSON object a line: {"prompt": "...", "completion": "...", "answer": "..."}
 *   stdout   a number a line, in the same order
 *
 * One process for a batch, in a process group of its own, that ends with it: killed when it takes too long, writes more than
 * asked, or its memory limit is reached. It runs with the user's rights: it is the user's program, what it is given is not. */
#ifndef FS_TRAIN_JUDGE_H
#define FS_TRAIN_JUDGE_H

#include "base/mem.h"

typedef struct fs_judge {
    const char *const *argv; /* NULL-terminated; argv[0] is looked for in $PATH */
    double seconds_max;      /* for a batch */
    uint64_t memory_bytes_max; /* address space of each of its processes; 0: no limit */
} fs_judge;

typedef struct fs_judged {
    fs_bytes prompt, completion, answer; /* answer may be empty */
} fs_judged;

/* ret [n]. A program that cannot be started, fails, is too slow, or says anything else than n finite numbers is an error that
 * says so: a reward is never made up. */
fs_status fs_judge_run(const fs_judge *j, const fs_judged *items, size_t n, double *ret, fs_error *err);

#endif
