/* What a training tells while it runs, in its folder: metrics.jsonl, a line {"step": 7, "loss": 1.25, "load/3": [..]} a step,
 * and an event file of TensorBoard with the single numbers. Steps rise; a training that goes on from a checkpoint takes the lines
 * behind it away first. A line is in the file when fs_metrics_log returns: a killed process loses none. */
#ifndef FS_TRAIN_METRICS_H
#define FS_TRAIN_METRICS_H

#include "base/mem.h"

#define FS_METRICS_FILE "metrics.jsonl"

typedef struct fs_metric {
    const char *name; /* letters, digits and "_-./"; the part before '/' names its chart */
    const double *values;
    size_t n;         /* 1: a number; else a list, e.g. a share an expert */
} fs_metric;

typedef struct fs_metrics fs_metrics;

/* Goes on behind step: lines of step and later are removed, so is half a line. wall: seconds since 1970, for the events.
 * tensorboard: with events. */
fs_status fs_metrics_open(const char *folder, uint64_t step, bool tensorboard, double wall, fs_metrics **ret, fs_error *err);
/* A value that is not finite is written as null. */
fs_status fs_metrics_log(fs_metrics *m, uint64_t step, double wall, const fs_metric *items, size_t n, fs_error *err);
void fs_metrics_close(fs_metrics *m);

/* The columns of a metrics.jsonl. */
typedef struct fs_column {
    char *name;
    double *steps, *values; /* [n], [n, width]; NAN where null */
    size_t n, width, capacity;
} fs_column;

typedef struct fs_columns {
    fs_column *items;
    size_t n, capacity;
} fs_columns;

#define FS_COLUMNS_MAX 4096 /* and as many values in a list */

/* Half a last line is left out. Lines that are no such object are refused with their number. */
fs_status fs_columns_read(const char *path, fs_columns *ret, fs_error *err);
void fs_columns_done(fs_columns *c);

#endif
