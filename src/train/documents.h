/* Documents as rows of one length. Documents follow one another, each with its end token, and are cut into rows; within a row
 * every document is a sequence of its own (no attention over its border), and a piece that goes on in the next row knows the
 * token that follows. Which row comes when is a function of (seed, number): an epoch's rows in an order that Philox draws. */
#ifndef FS_TRAIN_DOCUMENTS_H
#define FS_TRAIN_DOCUMENTS_H

#include "train/trainer.h"

typedef struct fs_documents_piece {
    size_t at; /* of its first token */
    uint32_t n;
    uint32_t row_at; /* its place in the row */
} fs_documents_piece;

typedef struct fs_documents {
    int32_t *ids, *targets; /* [n_tokens] */
    size_t n_tokens, capacity;
    uint64_t n_documents;
    uint32_t length;     /* tokens a row, a multiple of 256 */
    size_t n_rows;       /* whole ones: the rest of the last is left out */
    fs_documents_piece *pieces;
    size_t *first_piece; /* [n_rows + 1] */
    uint32_t pieces_max; /* of a row */
    uint64_t seed, epoch;
    uint32_t *order;     /* [n_rows] of the epoch; NULL before the first */
} fs_documents;

void fs_documents_done(fs_documents *c);
/* end: the token behind each document; -1: none. An empty document adds nothing. */
fs_status fs_documents_add(fs_documents *c, const int32_t *ids, size_t n, int32_t end, fs_error *err);
/* Cuts rows; nothing can be added any more. FS_ERR_ARGUMENT when there is not one whole row. */
fs_status fs_documents_finish(fs_documents *c, uint32_t length, uint64_t seed, fs_error *err);
/* The row that is number `number` of a run, counted from 0: its pieces as sequences, the token index of the row's first token
 * being index. ret has room for pieces_max. Returns how many. */
uint32_t fs_documents_row(fs_documents *c, uint64_t number, uint64_t index, fs_train_sequence *ret);

#endif
