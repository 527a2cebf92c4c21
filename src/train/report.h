/* A page that shows what trainings told (metrics.h): self-contained HTML, its curves in SVG. Of one run a chart for each part
 * before '/' in a metric's name ("reward", "reward/format" together), of several one for each name with a line a run; lists
 * ("load/3") are maps of values over steps, for one run. */
#ifndef FS_TRAIN_REPORT_H
#define FS_TRAIN_REPORT_H

#include "train/metrics.h"

typedef struct fs_report_run {
    const char *name;
    fs_columns columns;
} fs_report_run;

fs_status fs_report_write(const fs_report_run *runs, size_t n_runs, const char *title, fs_buf *out, fs_error *err);

/* Of a chain of stages: a part for each, with its curves, or with the numbers that it gave. */
typedef struct fs_report_stage {
    const char *name, *what;
    fs_columns columns;          /* of a training */
    const char *const *keys;     /* [n] of another stage */
    const char *const *values;   /* [n] */
    size_t n;
} fs_report_stage;

fs_status fs_report_chain(const fs_report_stage *stages, size_t n, const char *title, fs_buf *out, fs_error *err);

#endif
