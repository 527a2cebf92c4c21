/* The trace of a training: a row for each step, and one hash of them all.
 *
 *   row   = H(03 | u64 step | f64 loss | f32 norm of the gradient | 01 | weights' root | state's root)
 *           H(03 | u64 step | f64 loss | f32 norm of the gradient | 00) of a step at which no roots were taken
 *   trace = the tree of root.h over the rows of steps 1, 2, ...
 *
 * The weights' root is the model's, the state's that of what the optimiser keeps (train/checkpoint.h). As a text a row is a JSON
 * object a line with step, loss and grad_norm as hexadecimal floats, weights and state where they are; other members tell more
 * of the step and are in no hash. */
#ifndef FS_LINEAGE_TRACE_H
#define FS_LINEAGE_TRACE_H

#include "lineage/root.h"

typedef struct fs_trace_row {
    uint64_t step; /* from 1 */
    double loss;
    float grad_norm;
    bool traced;   /* the roots are there */
    fs_root weights, state;
} fs_trace_row;

fs_status fs_trace_leaf(const fs_trace_row *row, fs_root *ret, fs_error *err);

typedef struct fs_trace {
    fs_trace_row *rows; /* of steps 1 to n */
    size_t n, capacity;
} fs_trace;

/* Lines that are no rows, or not of steps 1, 2, ..., are refused with their number. what names the text. */
fs_status fs_trace_read(fs_bytes text, const char *what, fs_trace *ret, fs_error *err);
/* row->step must be n + 1. */
fs_status fs_trace_add(fs_trace *t, const fs_trace_row *row, fs_error *err);
/* Of its first n rows. */
fs_status fs_trace_root(const fs_trace *t, size_t n, fs_root *ret, fs_error *err);
void fs_trace_done(fs_trace *t);

/* In what two rows of a step differ: "loss, weights", into ret, which is empty when they are the same to the bit. */
#define FS_TRACE_DIFFERENCES_MAX 64
void fs_trace_compare(const fs_trace_row *a, const fs_trace_row *b, char ret[FS_TRACE_DIFFERENCES_MAX]);

#endif
