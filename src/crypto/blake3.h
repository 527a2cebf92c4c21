/* BLAKE3, plain and keyed, of any length, on one thread: as many chunks at once as the CPU has 32-bit lanes.
 * Source: "BLAKE3: one function, fast everywhere", O'Connor, Aumasson, Neves, Wilcox-O'Hearn, sections 2 and 5. */
#ifndef FS_CRYPTO_BLAKE3_H
#define FS_CRYPTO_BLAKE3_H

#include <stddef.h>
#include <stdint.h>

#define FS_BLAKE3_BYTES      32
#define FS_BLAKE3_PIECE      ((size_t)65536) /* chunks that are hashed as one subtree */
#define FS_BLAKE3_DEPTH_MAX  48

/* About 66 KiB: put it in memory of your own, not on a small stack. */
typedef struct fs_blake3 {
    uint32_t key[8];
    uint8_t flags;
    uint64_t n_pieces;                               /* whole subtrees so far; something follows the last one */
    uint32_t depth;                                  /* of the stack: the bits that are set in n_pieces */
    uint8_t stack[FS_BLAKE3_DEPTH_MAX][FS_BLAKE3_BYTES];
    size_t n_bytes;                                  /* in the buffer */
    uint8_t buffer[FS_BLAKE3_PIECE];
} fs_blake3;

/* key NULL: not keyed. */
void fs_blake3_init(fs_blake3 *h, const uint8_t key[32]);
void fs_blake3_update(fs_blake3 *h, const void *data, size_t n_bytes);
/* Does not change h: more may follow. */
void fs_blake3_final(const fs_blake3 *h, uint8_t ret[FS_BLAKE3_BYTES]);

/* Of data that is all there. key NULL: not keyed. */
void fs_blake3_hash(const uint8_t key[32], const void *data, size_t n_bytes, uint8_t ret[FS_BLAKE3_BYTES]);

/* Lanes that the hash uses on this CPU: 1, 4, 8 or 16. For tests, at most that many can be asked for; 0 is all. */
int fs_blake3_lanes(void);
void fs_blake3_lanes_limit(int n);

#endif
