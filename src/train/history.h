/* What a training leaves for whoever wants to check it: a row of its trace each step (lineage/trace.h), and with every checkpoint the
 * record of how it was made (lineage/record.h), its recipe with every default written out (recipe.yaml) and the trace so far
 * (trace.jsonl). Or a training that is such a check: it is compared row by row, and writes nothing. */
#ifndef FS_TRAIN_HISTORY_H
#define FS_TRAIN_HISTORY_H

#include "lineage/record.h"
#include "lineage/trace.h"

#define FS_TRACE_FILE  "trace.jsonl"
#define FS_RECIPE_FILE "recipe.yaml"
#define FS_TRACE_BYTES_MAX ((size_t)1 << 32)

/* What a training is held against. */
typedef struct fs_history_check {
    const fs_record *record;
    const fs_trace *trace;
    const char *begin; /* a checkpoint's folder; NULL: from the recipe's beginning */
    uint64_t end;      /* the last step */
    bool departed;     /* filled in: the run failed because something is not as record or trace say */
} fs_history_check;

/* Zeroed, with fd -1, is one that is not open. */
typedef struct fs_history {
    const fs_record *origin; /* lines record, engine and arithmetic of who makes records; NULL: none are made */
    fs_history_check *check; /* NULL: none */
    fs_record made;          /* what a record tells but for what a checkpoint adds */
    fs_trace trace;
    uint64_t every;          /* steps between roots of weights and state */
    char *path;              /* of the trace's file; NULL: a check */
    int fd;
} fs_history;

/* How many steps lie between roots so that hashing takes less than 2 % of the time: a function of the model and of the tokens of a step. */
uint64_t fs_history_every(uint64_t n_parameters, size_t n_tensors, uint64_t n_active, uint64_t tokens_step);

/* Opens out's trace behind the row of step n; later ones, which a killed run may have written, go. With a check nothing is opened. */
fs_status fs_history_open(fs_history *h, const char *out, uint64_t n, fs_error *err);
void fs_history_close(fs_history *h);
/* Whether lines for a record are wanted. */
bool fs_history_tells(const fs_history *h);
/* What is to be made, as the check's record says it? Else the error is the first line that is not, and the check has departed. */
fs_status fs_history_compare(fs_history *h, fs_error *err);
/* The next row, and what else its line says (fields: ",\"lr\":...", or empty). Of a check: a row that is not the trace's is an error
 * that names the step and what differs. */
fs_status fs_history_put(fs_history *h, const fs_trace_row *row, const char *fields, fs_error *err);
/* Whether weights and state are those of the check's trace behind step n. */
fs_status fs_history_compare_roots(fs_history *h, uint64_t n, const fs_root *weights, const fs_root *state, fs_error *err);
/* Whether they are those that the check's record has as result and state. */
fs_status fs_history_compare_result(fs_history *h, const fs_root *weights, const fs_root *state, fs_error *err);
/* Puts recipe, trace and record into a checkpoint's folder, whose roots those are. */
fs_status fs_history_leave(const fs_history *h, const char *folder, const fs_roots *weights, const fs_roots *state, fs_error *err);
fs_status fs_history_sync(const fs_history *h, fs_error *err);

/* The recipe of a record as YAML: nothing in it is a path. */
fs_status fs_history_recipe(const fs_record *r, fs_buf *out, fs_error *err);

#endif
