/* The loops with 512-bit registers; int8 with VNNI where limits.c finds it, else as AVX2 does it. */
#include "kernels/limits_isa.h"

#include <immintrin.h>

static uint64_t read_words(const uint8_t *memory, size_t n_bytes)
{
    __m512i sums[4] = { _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512() };
    uint64_t words[8], x = 0;

    for (size_t i = 0; i < n_bytes; i += 256)
        for (int j = 0; j < 4; j++)
            sums[j] = _mm512_xor_si512(sums[j], _mm512_load_si512(memory + i + 64 * j));
    sums[0] = _mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]), _mm512_xor_si512(sums[2], sums[3]));
    _mm512_storeu_si512(words, sums[0]);
    for (int i = 0; i < 8; i++)
        x ^= words[i];
    return x;
}

#define CHAINS 16

static uint64_t f32(uint32_t rounds)
{
    __m512 a = _mm512_set1_ps(1), b = a, sums[CHAINS];
    float lanes[16];
    uint64_t n = 0;

    for (int i = 0; i < CHAINS; i++)
        sums[i] = _mm512_setzero_ps();
    for (uint32_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : "+v"(a), "+v"(b));
        for (int i = 0; i < CHAINS; i++)
            sums[i] = _mm512_fmadd_ps(a, b, sums[i]);
    }
    for (int i = 0; i < CHAINS; i++) {
        _mm512_storeu_ps(lanes, sums[i]);
        for (int j = 0; j < 16; j++)
            n += (uint64_t)lanes[j];
    }
    return n;
}

static uint64_t count_i32(const __m512i *sums)
{
    uint64_t n = 0;

    for (int i = 0; i < CHAINS; i++)
        n += (uint64_t)_mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_cvtepu32_epi64(_mm512_castsi512_si256(sums[i])),
                                                                _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(sums[i], 1))));
    return n;
}

static uint64_t int8(uint32_t rounds)
{
    __m512i a = _mm512_set1_epi8(1), b = a, ones = _mm512_set1_epi16(1), sums[CHAINS];

    for (int i = 0; i < CHAINS; i++)
        sums[i] = _mm512_setzero_si512();
    for (uint32_t r = 0; r < rounds; r++)
        for (int i = 0; i < CHAINS; i++) {
            __asm__ volatile("" : "+v"(a), "+v"(b));
            sums[i] = _mm512_add_epi32(sums[i], _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), ones));
        }
    return count_i32(sums);
}

__attribute__((target("avx512vnni"))) uint64_t fs_limits_int8_vnni(uint32_t rounds)
{
    __m512i a = _mm512_set1_epi8(1), b = a, sums[CHAINS];

    for (int i = 0; i < CHAINS; i++)
        sums[i] = _mm512_setzero_si512();
    for (uint32_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : "+v"(a), "+v"(b));
        for (int i = 0; i < CHAINS; i++)
            sums[i] = _mm512_dpbusd_epi32(sums[i], a, b);
    }
    return count_i32(sums);
}

const fs_limit_kernels fs_limits_avx512 = { .read = read_words, .f32 = f32, .int8 = int8 };
