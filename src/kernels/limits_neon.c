/* The loops with NEON; int8 with dotprod where limits.c finds it, else products to 16 bits, added in pairs. */
#include "kernels/limits_isa.h"

#include <arm_neon.h>

#define CHAINS 16

static uint64_t read_words(const uint8_t *memory, size_t n_bytes)
{
    uint64x2_t sums[4] = { vdupq_n_u64(0), vdupq_n_u64(0), vdupq_n_u64(0), vdupq_n_u64(0) };

    for (size_t i = 0; i < n_bytes; i += 64)
        for (int j = 0; j < 4; j++)
            sums[j] = veorq_u64(sums[j], vreinterpretq_u64_u8(vld1q_u8(memory + i + 16 * j)));
    sums[0] = veorq_u64(veorq_u64(sums[0], sums[1]), veorq_u64(sums[2], sums[3]));
    return vgetq_lane_u64(sums[0], 0) ^ vgetq_lane_u64(sums[0], 1);
}

static uint64_t f32(uint32_t rounds)
{
    float32x4_t a = vdupq_n_f32(1), b = a, sums[CHAINS];
    float lanes[4];
    uint64_t n = 0;

    for (int i = 0; i < CHAINS; i++)
        sums[i] = vdupq_n_f32(0);
    for (uint32_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : "+w"(a), "+w"(b));
        for (int i = 0; i < CHAINS; i++)
            sums[i] = vfmaq_f32(sums[i], a, b);
    }
    for (int i = 0; i < CHAINS; i++) {
        vst1q_f32(lanes, sums[i]);
        for (int j = 0; j < 4; j++)
            n += (uint64_t)lanes[j];
    }
    return n;
}

static uint64_t count_i32(const int32x4_t *sums)
{
    uint64_t n = 0;

    for (int i = 0; i < CHAINS; i++)
        n += (uint64_t)vaddlvq_s32(sums[i]);
    return n;
}

static uint64_t int8(uint32_t rounds)
{
    int8x16_t a = vdupq_n_s8(1), b = a;
    int32x4_t sums[CHAINS];

    for (int i = 0; i < CHAINS; i++)
        sums[i] = vdupq_n_s32(0);
    for (uint32_t r = 0; r < rounds; r++)
        for (int i = 0; i < CHAINS; i++) {
            __asm__ volatile("" : "+w"(a), "+w"(b));
            sums[i] = vpadalq_s16(sums[i], vmlal_high_s8(vmull_s8(vget_low_s8(a), vget_low_s8(b)), a, b));
        }
    return count_i32(sums);
}

/* clang 14 shows vdotq_s32 only to files built for dotprod, hence the instruction itself. */
#if defined(__clang__)
__attribute__((target("dotprod")))
#else
__attribute__((target("arch=armv8.2-a+dotprod")))
#endif
uint64_t fs_limits_int8_dotprod(uint32_t rounds)
{
    int8x16_t a = vdupq_n_s8(1), b = a;
    int32x4_t sums[CHAINS];

    for (int i = 0; i < CHAINS; i++)
        sums[i] = vdupq_n_s32(0);
    for (uint32_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : "+w"(a), "+w"(b));
        for (int i = 0; i < CHAINS; i++)
            __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(sums[i]) : "w"(a), "w"(b));
    }
    return count_i32(sums);
}

const fs_limit_kernels fs_limits_neon = { .read = read_words, .f32 = f32, .int8 = int8 };
