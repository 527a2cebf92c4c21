/* Adapters that become part of a model: rows of a linear with its low-rank pairs added, in f32.
 *
 *   w'_ij = fl(w_ij + fl(scale * A256(B_i, A^T_j, r)))      of several adapters one after the other
 *
 * scale is the pair's own times the adapter's factor, rounded to f32. The pairs of one linear at a time are in memory.
 * Source: RN1 section 1a. */
#ifndef FS_FORMATS_MERGE_H
#define FS_FORMATS_MERGE_H

#include "formats/adapter.h"
#include "kernels/kernels.h"

typedef struct fs_merge fs_merge;
typedef struct fs_merge_rows fs_merge_rows; /* the pairs of one linear */

/* Borrows the kernels. */
fs_status fs_merge_new(const fs_kernels *kernels, fs_merge **ret, fs_error *err);
void fs_merge_free(fs_merge *m);
/* Opens the adapter in folder, behind those that are there. One with whole tensors has no other factor than 1. */
fs_status fs_merge_add(fs_merge *m, const char *folder, float factor, fs_error *err);
/* fs_adapter_base of the i-th. */
const char *fs_merge_base(const fs_merge *m, size_t i);
/* Puts the adapters' whole tensors in the place of w's, once. w borrows from m. */
fs_status fs_merge_replace(fs_merge *m, fs_weights *w, fs_error *err);

/* Whether an adapter has a pair of the linear whose weight [out, in] is called so ("....q_proj.weight"); checks its shape,
 * and counts it as used. An embedding has none. */
fs_status fs_merge_find(fs_merge *m, const char *weight, uint64_t out, uint64_t in, bool *ret, fs_error *err);
/* As fs_adapter_pass_over and fs_adapter_check_used, of all of them. */
void fs_merge_pass_over(fs_merge *m, const char *prefix);
fs_status fs_merge_check_used(const fs_merge *m, fs_error *err);

/* *ret is NULL, FS_OK, where there is no pair. FS_ERR_NUMERIC: A or B has a number that is not finite. */
fs_status fs_merge_rows_open(fs_merge *m, const char *weight, uint64_t out, uint64_t in, fs_merge_rows **ret, fs_error *err);
void fs_merge_rows_close(fs_merge_rows *r);
/* w [in], row i of the linear, becomes w'. r NULL: stays. False: a number of w' is not finite. */
bool fs_merge_row(const fs_merge_rows *r, uint64_t i, float *w);

/* ret [n] = fl(scale * A256(b, A^T_j, r)) for a [r, n] and b [r]; chunk [n] is lost. */
void fs_pair_row(const fs_kernels *k, const float *b, const float *a, size_t r, size_t n, float scale, float *chunk, float *ret);

#endif
