/* The products of RN1-bf16 (docs/RN1.md, section 8): operands are bf16 and lie in pairs along the summed index.
 *
 * A pair is a 32-bit word, element 2i in its high half and element 2i + 1 in its low half; behind an odd end stands +0.
 * One VDPBF16PS then takes the elements in ascending order, since it begins with the high half.
 *
 *   B256(a, b, K): A256 of RN1 section 1 in which the result of every fma and of every addition of a chunk is flushed:
 *                  one that is below 2^-126 after rounding to 24 bits with an exponent without bounds is a zero of its sign.
 *
 * bf16 values here are never denormal: rounding makes zeros of what is below 2^-126, and so must whatever packs stored bf16.
 * A chunk that begins at +0 and is added to +0 takes zeros behind its end for nothing, so that padding is free. */
#ifndef FS_KERNELS_PAIRS_H
#define FS_KERNELS_PAIRS_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint32_t __attribute__((may_alias)) fs_pair; /* scores become pairs where they lie */

/* Pairs that hold n elements. */
static inline size_t fs_pairs(size_t n)
{
    return n / 2 + n % 2;
}

static inline float fs_float_of_bits(uint32_t b)
{
    float x;
    memcpy(&x, &b, sizeof x);
    return x;
}

/* x as bf16 in the high half, to nearest even; a denormal x becomes a zero of its sign, a NaN a quiet one. */
static inline uint32_t fs_bf16_bits(float x)
{
    uint32_t b;

    memcpy(&b, &x, sizeof b);
    if (x != x)
        return (b | 0x00400000) & 0xffff0000;
    if ((b & 0x7f800000) == 0)
        return b & 0x80000000;
    return (b + 0x7fff + (b >> 16 & 1)) & 0xffff0000;
}

static inline float fs_bf16(float x)
{
    return fs_float_of_bits(fs_bf16_bits(x));
}

static inline fs_pair fs_pair_of(float first, float second)
{
    return fs_bf16_bits(first) | fs_bf16_bits(second) >> 16;
}

/* One half, the other untouched: two threads may each write theirs. */
static inline void fs_pair_put(fs_pair *p, bool second, float x)
{
    typedef uint16_t __attribute__((may_alias)) half;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    ((half *)p)[!second] = (half)(fs_bf16_bits(x) >> 16);
#else
    ((half *)p)[second] = (half)(fs_bf16_bits(x) >> 16);
#endif
}

static inline float fs_pair_first(fs_pair p)
{
    return fs_float_of_bits(p & 0xffff0000);
}

static inline float fs_pair_second(fs_pair p)
{
    return fs_float_of_bits(p << 16);
}

/* A sum of two normal numbers or zeros: one that is below 2^-126 is exact. */
static inline float fs_flushed(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

/* fma(a, b, c), flushed. The gradual result 2^-126 stands for exact ones from 2^-126 - 2^-150 on, of which those under
 * 2^-126 - 2^-151 are tiny; there c is next to it or 0, and a * b has 16 bits, so that binary64 tells them apart. */
static inline float fs_fma_flushed(float a, float b, float c)
{
    float y = fmaf(a, b, c);

    if (fabsf(y) == 0x1p-126f && copysign(1.0, (double)y) * ((double)c - (double)y + (double)a * (double)b) < -0x1p-151)
        return copysignf(0.0f, y);
    return fs_flushed(y);
}

#endif
