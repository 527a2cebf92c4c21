/* What a network's linears are given: the squares of every input, summed over the tokens that it runs. It is what an
 * importance matrix is made of. A network that is opened with one (fs_network_options) fills it in every step.
 *
 * Sums are binary64 chains over ascending tokens, so they do not depend on threads, instruction set or step size. One for a
 * linear's own input; of routed experts one each, gate and up together, over the tokens that chose it; of MLA's k_b_proj and
 * v_b_proj one a head; of V4's wo_a one of all groups. Of the head, every token's, asked for or not. */
#ifndef FS_MODELS_IMPORTANCE_H
#define FS_MODELS_IMPORTANCE_H

#include "base/pool.h"

#define FS_IMPORTANCE_NAME_MAX 192

typedef struct fs_importance fs_importance;

fs_status fs_importance_new(fs_importance **ret, fs_error *err);
void fs_importance_free(fs_importance *x);

/* An input of n matrices alike with k columns each. */
typedef struct fs_importance_input {
    char names[2][FS_IMPORTANCE_NAME_MAX]; /* the Hub's, of the linear or of the first expert's; the second may be empty */
    uint32_t n, k;
    double *sums;     /* [n, k] */
    uint64_t *counts; /* [n] rows */
} fs_importance_input;
size_t fs_importance_n(const fs_importance *x);
const fs_importance_input *fs_importance_at(const fs_importance *x, size_t i);

/* ---- for the network ---- */
/* A number above 0 for the input of prefix + name + ".weight"; other NULL, or the name of a second linear with the same. */
fs_status fs_importance_add(fs_importance *x, const char *prefix, const char *name, const char *other, uint32_t n, uint32_t k, uint32_t *ret,
                            fs_error *err);
/* The m rows x [m, ldx] of matrix i of input id. Nothing where id is 0. */
void fs_importance_see(fs_importance *imp, fs_pool *pool, uint32_t id, uint32_t i, const float *x, size_t ldx, size_t m);
/* Rows of several matrices of one input: those of matrices[j], n of them, are [begin[matrices[j]], begin[matrices[j] + 1]) of x; one_row:
 * they all have the one row x. */
void fs_importance_see_groups(fs_importance *imp, fs_pool *pool, uint32_t id, const uint32_t *matrices, uint32_t n, const uint32_t *begin,
                              const float *x, size_t ldx, bool one_row);

#endif
