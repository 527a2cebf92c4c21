/* Xet's hashes: keyed BLAKE3 of chunks, and a tree of them for xorbs and files.
 * Source: the Xet protocol specification, pages "Hashing", "API" (text form) and "Content-Defined Chunking"; the tree's
 * groups as xet-core builds them. */
#ifndef FS_HUB_XET_HASH_H
#define FS_HUB_XET_HASH_H

#include "base/mem.h"

#define FS_XET_HASH_BYTES 32
#define FS_XET_CHUNK_MIN  ((uint32_t)8 << 10)
#define FS_XET_CHUNK_MAX  ((uint32_t)128 << 10)

typedef struct fs_xet_hash {
    uint8_t bytes[FS_XET_HASH_BYTES];
} fs_xet_hash;

/* A chunk, or a node above some: its hash and the bytes of the file that it stands for. */
typedef struct fs_xet_node {
    fs_xet_hash hash;
    uint64_t n_bytes;
} fs_xet_node;

/* Text form, 64 lower-case hex digits: four little-endian 64-bit numbers, each as %016x. */
void fs_xet_hash_text(const fs_xet_hash *h, char ret[65]);
bool fs_xet_hash_read(fs_bytes text, fs_xet_hash *ret);
bool fs_xet_hash_equal(const fs_xet_hash *a, const fs_xet_hash *b);
/* The sha256 of a file as shards hold it: the bytes whose text form is the digest's usual one. Its own inverse. */
void fs_xet_hash_of_sha256(const uint8_t sha256[32], fs_xet_hash *ret);

void fs_xet_chunk_hash(const void *data, size_t n_bytes, fs_xet_hash *ret);

/* Of a xorb and of a file, from their chunks in order: a tree whose levels each remember less than a group, so that it takes the same memory whatever stands
 * below it. Zeroed is empty; ended it takes no more. Of no chunks: zeros. */
#define FS_XET_TREE_LEVELS 42 /* a group has three at the least: over 2^64 */
#define FS_XET_GROUP_MAX   9
typedef struct fs_xet_tree {
    struct {
        fs_xet_node nodes[FS_XET_GROUP_MAX];
        int n;
        bool has_parents;
    } levels[FS_XET_TREE_LEVELS];
} fs_xet_tree;
void fs_xet_tree_add(fs_xet_tree *t, const fs_xet_hash *chunk, uint64_t n_bytes);
void fs_xet_tree_end_xorb(fs_xet_tree *t, fs_xet_hash *ret);
void fs_xet_tree_end_file(fs_xet_tree *t, fs_xet_hash *ret);

/* What proves that a term's chunks are known: over their hashes one behind the other. */
void fs_xet_range_hash(const fs_xet_hash *hashes, size_t n, fs_xet_hash *ret);
/* A chunk's hash as a reply to a query shows it. */
void fs_xet_hash_hide(const fs_xet_hash *h, const uint8_t key[32], fs_xet_hash *ret);
/* Chunks that clients ask a server for, beside the first of every file. */
bool fs_xet_hash_is_asked(const fs_xet_hash *h);

/* Where chunks end: behind a byte where the top 16 bits of a rolling sum of the last 64 bytes are zero. Zeroed is the start of
 * a file. */
typedef struct fs_xet_cutter {
    uint64_t sum;
    uint32_t n_bytes; /* of the chunk so far */
} fs_xet_cutter;
/* Takes bytes up to the end of a chunk: returns how many, and whether one ended there. */
size_t fs_xet_cut(fs_xet_cutter *c, const uint8_t *data, size_t n_bytes, bool *ret_ended);

#endif
