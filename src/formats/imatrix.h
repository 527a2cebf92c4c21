/* Importance matrices as llama-imatrix writes them: of the matrix X, X.in_sum2 [n, columns], the sums of its inputs' squares, and
 * X.counts [n, 1], the rows that were summed, both F32; n is 1, or the experts, or the heads of attn_k_b and attn_v_b, for which
 * llama-imatrix has one count and all sums in one row. */
#ifndef FS_FORMATS_IMATRIX_H
#define FS_FORMATS_IMATRIX_H

#include "formats/config.h"
#include "formats/gguf.h"

typedef struct fs_imatrix_input {
    const char *name; /* the Hub's, ".weight" and all; of experts that of the first */
    uint32_t n, k;
    const double *sums;     /* [n, k] */
    const uint64_t *counts; /* [n] */
} fs_imatrix_input;

/* A GGUF at path, whole or not at all. Inputs that nothing was seen of, and names that GGUF does not have, are left out. text: what it was made
 * of, in windows of chunk_tokens. */
fs_status fs_imatrix_write(const char *path, const fs_config *c, const fs_imatrix_input *inputs, size_t n, const char *text, uint32_t n_chunks,
                           uint32_t chunk_tokens, fs_error *err);

/* ---- reading ---- */
/* An expert that few tokens chose is taken to have seen this many more: for gate and up such as all experts of its layer saw, for down of
 * equal columns. */
#define FS_IMATRIX_FEW 32

typedef struct fs_imatrix fs_imatrix;
/* Maps the file. */
fs_status fs_imatrix_open(const char *path, fs_imatrix **ret, fs_error *err);
void fs_imatrix_close(fs_imatrix *m);
/* The mean square of each input of matrix i of n under GGUF's name, good until the next call; NULL: it has none that is of use. */
const float *fs_imatrix_columns(fs_imatrix *m, const char *name, uint64_t i, uint64_t n, uint64_t n_cols);

#endif
