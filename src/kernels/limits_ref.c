/* The loops in plain C. */
#include "kernels/limits_isa.h"

#include <string.h>

static uint64_t read_words(const uint8_t *memory, size_t n_bytes)
{
    uint64_t sum = 0, word;

    for (size_t i = 0; i < n_bytes; i += sizeof word) {
        memcpy(&word, memory + i, sizeof word);
        sum ^= word;
    }
    return sum;
}

#define CHAINS 8

static uint64_t f32(uint32_t rounds)
{
    volatile float one = 1;
    float a = one, b = one, sums[CHAINS] = { 0 };
    uint64_t n = 0;

    for (uint32_t r = 0; r < rounds; r++)
        for (int i = 0; i < CHAINS; i++)
            sums[i] = __builtin_fmaf(a, b, sums[i]);
    for (int i = 0; i < CHAINS; i++)
        n += (uint64_t)sums[i];
    return n;
}

static uint64_t int8(uint32_t rounds)
{
    volatile uint8_t one_u8 = 1;
    volatile int8_t one_i8 = 1;
    int32_t sums[CHAINS] = { 0 };
    uint64_t n = 0;

    for (uint32_t r = 0; r < rounds; r++) {
        uint8_t a = one_u8;
        int8_t b = one_i8;
        for (int i = 0; i < CHAINS; i++)
            sums[i] += a * b;
    }
    for (int i = 0; i < CHAINS; i++)
        n += (uint64_t)sums[i];
    return n;
}

const fs_limit_kernels fs_limits_ref = { .read = read_words, .f32 = f32, .int8 = int8 };
