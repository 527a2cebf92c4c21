/* The hashes that a torrent has of a file: SHA-1 of each piece, filled up with zeros (v1 with padding files), and the tree of SHA-256 over 16 KiB (v2).
 * Source: BEP 3, "pieces"; BEP 47, "Padding files"; BEP 52, "pieces root" and "piece layers". */
#ifndef FS_HUB_PIECES_H
#define FS_HUB_PIECES_H

#include "base/mem.h"
#include "base/progress.h"

#define FS_PIECES_LEAF      ((uint32_t)16 << 10) /* of the tree, and the least piece */
#define FS_PIECES_BYTES_MAX ((uint32_t)16 << 20)
#define FS_PIECES_SHA1      20
#define FS_PIECES_SHA256    32

typedef struct fs_piece_hashes {
    size_t n;                       /* pieces; an empty file has none */
    uint8_t *sha1;                  /* [n][20] */
    uint8_t *layer;                 /* [n][32] the tree's nodes over one piece each; of a file within one piece the root */
    uint8_t root[FS_PIECES_SHA256]; /* zeros of an empty file */
} fs_piece_hashes;

/* piece_bytes: a power of two from FS_PIECES_LEAF to FS_PIECES_BYTES_MAX. One thread, each byte read once; pages of content that were read are given back where it is a
 * map (mapped). FS_ERR_INTERRUPTED by progress, which is asked each MiB. */
fs_status fs_piece_hashes_of(fs_bytes content, uint32_t piece_bytes, bool mapped, const fs_progress *progress, fs_piece_hashes *ret, fs_error *err);
void fs_piece_hashes_done(fs_piece_hashes *p);
/* The root over the layer of a file of n_bytes > 0 with pieces of piece_bytes. */
fs_status fs_piece_hashes_root(const uint8_t *layer, size_t n, uint32_t piece_bytes, uint8_t ret[FS_PIECES_SHA256], fs_error *err);

#endif
