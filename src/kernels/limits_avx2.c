/* The loops with 256-bit registers; int8 as AVX2 has it: products in pairs to 16 bits, those in pairs to 32. */
#include "kernels/limits_isa.h"

#include <immintrin.h>

static uint64_t read_words(const uint8_t *memory, size_t n_bytes)
{
    __m256i sums[4] = { _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256() };
    uint64_t words[4];

    for (size_t i = 0; i < n_bytes; i += 128)
        for (int j = 0; j < 4; j++)
            sums[j] = _mm256_xor_si256(sums[j], _mm256_load_si256((const __m256i *)(const void *)(memory + i + 32 * j)));
    sums[0] = _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
    _mm256_storeu_si256((__m256i *)(void *)words, sums[0]);
    return words[0] ^ words[1] ^ words[2] ^ words[3];
}

#define CHAINS 12

static uint64_t f32(uint32_t rounds)
{
    __m256 a = _mm256_set1_ps(1), b = a, sums[CHAINS];
    float lanes[8];
    uint64_t n = 0;

    for (int i = 0; i < CHAINS; i++)
        sums[i] = _mm256_setzero_ps();
    for (uint32_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : "+x"(a), "+x"(b));
        for (int i = 0; i < CHAINS; i++)
            sums[i] = _mm256_fmadd_ps(a, b, sums[i]);
    }
    for (int i = 0; i < CHAINS; i++) {
        _mm256_storeu_ps(lanes, sums[i]);
        for (int j = 0; j < 8; j++)
            n += (uint64_t)lanes[j];
    }
    return n;
}

static uint64_t int8(uint32_t rounds)
{
    __m256i a = _mm256_set1_epi8(1), b = a, ones = _mm256_set1_epi16(1), sums[CHAINS];
    int32_t lanes[8];
    uint64_t n = 0;

    for (int i = 0; i < CHAINS; i++)
        sums[i] = _mm256_setzero_si256();
    for (uint32_t r = 0; r < rounds; r++)
        for (int i = 0; i < CHAINS; i++) {
            __asm__ volatile("" : "+x"(a), "+x"(b));
            sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
        }
    for (int i = 0; i < CHAINS; i++) {
        _mm256_storeu_si256((__m256i *)(void *)lanes, sums[i]);
        for (int j = 0; j < 8; j++)
            n += (uint64_t)lanes[j];
    }
    return n;
}

const fs_limit_kernels fs_limits_avx2 = { .read = read_words, .f32 = f32, .int8 = int8 };
