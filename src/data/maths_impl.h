/* What the files of the maths checker share: expressions, their reading (maths_parse.c), their values (maths_eval.c). */
#ifndef FS_DATA_MATHS_IMPL_H
#define FS_DATA_MATHS_IMPL_H

#include "base/mem.h"

#include <gmp.h>
#include <mpfr.h>

#define FS_MATHS_BYTES_MAX 16384 /* of one expression */
#define FS_MATHS_NODES_MAX 2048 /* of both answers together */
#define FS_MATHS_DEPTH_MAX 200
#define FS_MATHS_BITS      256
#define FS_MATHS_EXACT_BITS 20000 /* of a numerator or denominator in exact arithmetic */

typedef enum fs_maths_kind {
    FS_M_NUMBER, FS_M_PI, FS_M_E, FS_M_I, FS_M_INFINITY, FS_M_VARIABLE, FS_M_TEXT,
    FS_M_ADD, FS_M_SUB, FS_M_MUL, FS_M_DIV, FS_M_NEG, FS_M_POW, FS_M_ROOT /* of args[0], its degree args[1] */, FS_M_FACTORIAL, FS_M_ABS, FS_M_FLOOR,
    FS_M_CEIL, FS_M_BINOMIAL, FS_M_PERCENT, FS_M_DEGREE, FS_M_LOG /* of args[0] to base args[1] */, FS_M_FUNCTION, FS_M_MIN, FS_M_MAX, FS_M_GCD, FS_M_LCM,
    FS_M_LIST, FS_M_SET, FS_M_TUPLE, FS_M_INTERVAL, FS_M_UNION, FS_M_INTERSECTION, FS_M_MINUS /* sets */, FS_M_RELATION, FS_M_MATRIX
} fs_maths_kind;

typedef enum fs_maths_relation { FS_R_EQ, FS_R_NE, FS_R_LT, FS_R_LE, FS_R_GT, FS_R_GE, FS_R_IN } fs_maths_relation;

typedef struct fs_maths_node {
    fs_maths_kind kind;
    bool decimal;                 /* a number written with a point */
    bool open_left, open_right;   /* interval */
    fs_maths_relation relation;
    fs_bytes text;                /* of a variable, function or word; borrowed */
    mpq_t number;                 /* of FS_M_NUMBER */
    struct fs_maths_node **args;
    size_t n_args, n_columns;     /* n_columns: of a matrix */
    struct fs_maths_node *next;   /* all nodes of a tree's owner */
} fs_maths_node;

/* Owns the nodes of some trees. Zeroed is empty and valid. */
typedef struct fs_maths {
    fs_maths_node *nodes;
    size_t n_nodes;
    bool no_memory;
} fs_maths;

void fs_maths_done(fs_maths *m);
/* NULL when text is no expression, or too large (or there is no memory: m->no_memory). Borrows text. */
fs_maths_node *fs_maths_parse(fs_maths *m, fs_bytes text);
/* A node of the owner with room for n_args; NULL: no memory, or too many. */
fs_maths_node *fs_maths_node_new(fs_maths *m, fs_maths_kind kind, size_t n_args);

/* A complex value of FS_MATHS_BITS bits. */
typedef struct fs_maths_value {
    mpfr_t re, im;
    bool no_value;
} fs_maths_value;

void fs_maths_value_init(fs_maths_value *v);
void fs_maths_value_done(fs_maths_value *v);
/* At the point-th choice of the variables. */
void fs_maths_eval(const fs_maths_node *n, int point, fs_maths_value *ret);
/* Whether the two have the same value: exactly, or to 160 bits at three points. */
bool fs_maths_same_value(const fs_maths_node *a, const fs_maths_node *b);
/* Whether both, rounded to `places` decimals, are the same number; false for what has variables or is not real. */
bool fs_maths_same_rounded(const fs_maths_node *a, const fs_maths_node *b, int places);

#endif
