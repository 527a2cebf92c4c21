/* Documents of token shards in rows of one length, in an order that is a function of the seed: row k of a run is the same
 * whoever asks, in whatever order.
 *
 * Each epoch goes through all documents once, in a permutation drawn from (seed, epoch). Documents lie one behind the other in
 * the rows, either cut at a row's end, their rest in the next row as a piece by itself (FS_PACK_CUT), or whole (FS_PACK_WHOLE): a
 * row takes documents until the next one does not fit, the rest of it is padding; of a longer document only the first length tokens
 * count. The rest of an epoch that fills no row is left out when documents are cut. A piece sees nothing of its
 * neighbours: train/trainer.h takes each as a sequence from position 0. */
#ifndef FS_DATA_PACK_H
#define FS_DATA_PACK_H

#include "data/shards.h"

typedef enum fs_pack_mode { FS_PACK_CUT, FS_PACK_WHOLE } fs_pack_mode;

typedef struct fs_pack fs_pack;

/* length: tokens of a row. Borrows s. */
fs_status fs_pack_new(const fs_shards *s, uint64_t seed, uint32_t length, fs_pack_mode mode, fs_pack **ret, fs_error *err);
void fs_pack_free(fs_pack *p);

/* Rows of an epoch. */
fs_status fs_pack_rows(fs_pack *p, uint64_t epoch, uint64_t *ret, fs_error *err);

typedef struct fs_pack_piece {
    uint32_t begin, n; /* in the row */
} fs_pack_piece;

/* Row k of all epochs, from 0: row r of step s of a run with R rows a step is row s R + r.
 *   ret_ids      [length]  padding is 0
 *   ret_targets  [length]  the token that follows in the same document, where it is to be learnt; -1 else
 *   ret_pieces   [length]  the documents' pieces, in order; *ret_n_pieces of them
 * *ret_epoch (or NULL): the row's. */
fs_status fs_pack_row(fs_pack *p, uint64_t k, int32_t *ret_ids, int32_t *ret_targets, fs_pack_piece *ret_pieces, uint32_t *ret_n_pieces,
                      uint64_t *ret_epoch, fs_error *err);

#endif
