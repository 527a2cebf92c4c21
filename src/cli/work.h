/* What commands that work long on files share: a line of progress and Ctrl-C. */
#ifndef FS_CLI_WORK_H
#define FS_CLI_WORK_H

#include "base/progress.h"

typedef struct fs_work {
    const char *what, *unit; /* "counting words", "MiB" */
    double unit_size;        /* how many of the work's own units make one that is shown */
    bool shown;
    double start, last;
    fs_progress progress; /* to be handed to the work */
} fs_work;

/* Catches Ctrl-C too. On a terminal a line with rate and time left is shown. */
void fs_work_start(fs_work *w, const char *what, const char *unit, double unit_size);
void fs_work_end(const fs_work *w);

#endif
