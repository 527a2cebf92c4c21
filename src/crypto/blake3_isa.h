/* What the implementations of BLAKE3's compression share. */
#ifndef FS_CRYPTO_BLAKE3_ISA_H
#define FS_CRYPTO_BLAKE3_ISA_H

#include <stddef.h>
#include <stdint.h>

enum { BLAKE3_CHUNK_START = 1, BLAKE3_CHUNK_END = 2, BLAKE3_PARENT = 4, BLAKE3_ROOT = 8, BLAKE3_KEYED = 16 };
#define BLAKE3_BLOCK 64
#define BLAKE3_CHUNK 1024


extern const uint32_t fs_blake3_iv[8];

/* n inputs of n_blocks whole blocks each, stride bytes apart -> 32 bytes of chaining value each. The counter is that of
 * the first and grows by step; flags go to every block, start to the first, end to the last. */
typedef struct blake3_job {
    const uint8_t *in;
    size_t stride, n, n_blocks;
    const uint32_t *key; /* [8] */
    uint64_t counter;
    uint32_t step;
    uint8_t flags, start, end;
    uint8_t *out; /* [n][32] */
} blake3_job;

typedef void blake3_many(const blake3_job *j);
blake3_many fs_blake3_many_avx2, fs_blake3_many_avx512, fs_blake3_many_neon;
/* One lane: any n. */
blake3_many fs_blake3_many_scalar;

#endif
