/* Rows of 8 bits for the cache of attention of class RN1-bf16 (docs/RN1.md, section 4b).
 *
 * A row x is cut into blocks of 32 elements, quantised as activations are (section 6): amax the largest |x| by bit pattern,
 * d = fl(amax / 127), one below 2^-126 counts as +0; q = round-half-even(fl(x / d)), 0 where d is +0, infinite or NaN. What
 * attention then reads in the place of x is bf16(fl(d * q)): a function of the row alone.
 *
 *   row    [scales: f32, one a block][codes: int8, n rounded up to 4]
 *   panel  of 16 rows: [scales: f32, block by block, 16 rows side by side][codes: pairs (2i, 2i + 1), 16 rows side by side] */
#ifndef FS_KERNELS_KV8_H
#define FS_KERNELS_KV8_H

#include "kernels/pairs.h"

#define FS_KV8_BLOCK 32
#define FS_KV8_PANEL 16

static inline size_t fs_kv8_blocks(size_t n)
{
    return (n + FS_KV8_BLOCK - 1) / FS_KV8_BLOCK;
}

static inline size_t fs_kv8_row_bytes(size_t n)
{
    return fs_kv8_blocks(n) * sizeof(float) + ((n + 3) & ~(size_t)3);
}

/* Of a panel, by 16. n is even. */
static inline size_t fs_kv8_key_bytes(size_t n)
{
    return fs_kv8_blocks(n) * sizeof(float) + n;
}

void fs_kv8_put_row(uint8_t *row, const float *x, size_t n);
/* Row r of a panel; each row's bytes are its own, so that several threads may fill one. */
void fs_kv8_put_key(uint8_t *panel, size_t r, const float *x, size_t n);

/* What is read, as pairs of bf16. */
typedef struct fs_kv8_kernels {
    /* n_rows rows, pairs along the elements: ret [n_rows][fs_pairs(n)]. */
    void (*rows)(const uint8_t *rows, size_t n_rows, size_t n, fs_pair *ret);
    /* The rows of n_panels panels, n even: ret [n_panels][n / 2][16]. */
    void (*panels)(const uint8_t *panels, size_t n_panels, size_t n, fs_pair *ret);
    /* n_rows rows, even, pairs of two rows: ret [n_rows / 2][n]. */
    void (*values)(const uint8_t *rows, size_t n_rows, size_t n, fs_pair *ret);
} fs_kv8_kernels;

fs_kv8_kernels fs_kv8_kernels_of(unsigned isa);

#endif
