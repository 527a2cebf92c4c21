/* What this machine can do at most: reading memory, multiplying and adding in f32 and in int8. Speeds of models are
 * stated as shares of these.
 *
 * Not operations of RN1: nothing here is part of a result. Each loop proves its own work: a read gives the xor of
 * what it read, and products of ones, added up in the registers, count themselves. */
#ifndef FS_KERNELS_LIMITS_H
#define FS_KERNELS_LIMITS_H

#include "base/pool.h"

#include <stddef.h>
#include <stdint.h>

#define FS_LIMITS_READ_ALIGN 512

typedef struct fs_limit_kernels {
    /* Xor of the 64-bit words of memory; n_bytes and the address are multiples of FS_LIMITS_READ_ALIGN. */
    uint64_t (*read)(const uint8_t *memory, size_t n_bytes);
    /* Multiply-adds of f32 in as many independent chains as the registers hold, rounds of each; returns their
     * number. rounds < 2^24, where f32 stops counting. */
    uint64_t (*f32)(uint32_t rounds);
    /* The same of u8 times i8 added to i32; rounds < 2^24. */
    uint64_t (*int8)(uint32_t rounds);
} fs_limit_kernels;

/* isa as in fs_kernels_init; the int8 loop also uses VNNI or dotprod where the CPU has it. */
void fs_limit_kernels_init(fs_limit_kernels *k, unsigned isa);

/* Of all threads of the pool together, the second best of n_runs: a limit is what was reached, and more than once, since on
 * a virtual machine a run may be timed by a clock that was corrected meanwhile. Operations are multiplications plus
 * additions, two a multiply-add. */
double fs_limit_read_bytes_s(fs_pool *pool, unsigned isa, const uint8_t *memory, size_t n_bytes, int n_runs);
double fs_limit_f32_ops_s(fs_pool *pool, unsigned isa, int n_runs);
double fs_limit_int8_ops_s(fs_pool *pool, unsigned isa, int n_runs);

#endif
