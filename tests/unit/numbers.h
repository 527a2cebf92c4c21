/* Inputs and comparisons of the tests of kernels. */
#ifndef FS_TESTS_NUMBERS_H
#define FS_TESTS_NUMBERS_H

#include "base/mem.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

static uint64_t seed = 1;

static inline uint32_t random_u32(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 32);
}

static inline float random_float(void)
{
    float x = (float)(int32_t)random_u32() * 0x1p-31f;

    return x * x * x + x;
}

static inline void *allocate(size_t n_bytes)
{
    void *p = fs_alloc_aligned(n_bytes ? n_bytes : 64);

    assert_non_null(p);
    return p;
}

/* The same bits, or both a NaN. */
static inline bool same(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

#endif
