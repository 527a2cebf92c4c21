/* Inside the conformance hash: the inputs of a vector and how results enter. Every line here is part of the hash. */
#ifndef FS_KERNELS_CONFORMANCE_RUN_H
#define FS_KERNELS_CONFORMANCE_RUN_H

#include "kernels/conformance.h"

#include <string.h>

enum kind { PLAIN, WIDE, DENORMAL, SPECIAL, KIND_END };

typedef struct run {
    fs_kernels k;
    fs_sha256 *h;
    fs_arena arena;
    uint64_t random;
    uint64_t vector; /* number of the vector, from 1 */
} run;

static inline uint32_t random_u32(run *r)
{
    uint64_t z = r->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((z ^ z >> 31) >> 32);
}

/* Starts a vector: its inputs do not depend on how much randomness those before it took. */
static inline void begin(run *r)
{
    r->random = ++r->vector << 32;
    fs_arena_reset(&r->arena);
}

static inline float float_of(uint32_t b)
{
    float x;
    memcpy(&x, &b, sizeof x);
    return x;
}

static inline float random_f32(run *r, enum kind kind)
{
    static const uint32_t special[16] = { 0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x807fffff,
                                          0x00800000, 0x80800000, 0x7f800000, 0xff800000, 0x7f7fffff, 0xff7fffff,
                                          0x3f800000, 0xbf800000, 0x42b17218, 0xc2cff1b5 };
    uint32_t b = random_u32(r);

    switch (kind) {
    case WIDE: /* any finite value */
        return float_of((b & 0x7f800000) == 0x7f800000 ? b & 0x807fffff : b);
    case DENORMAL: /* and the first normal binade */
        return float_of(b & 0x80ffffff);
    case SPECIAL: /* now and then */
        if ((b & 0x700) == 0)
            return float_of(special[b & 15]);
        break;
    default:
        break;
    }
    return (float)((int32_t)b >> 8) * 0x1p-20f; /* exact, within +-8 */
}

static inline float *random_row(run *r, size_t n, enum kind kind)
{
    float *x = fs_arena_array(&r->arena, float, n);

    for (size_t i = 0; i < n; i++)
        x[i] = random_f32(r, kind);
    return x;
}

static inline void feed_name(run *r, const char *name)
{
    fs_sha256_update(r->h, name, strlen(name) + 1);
}

static inline void feed_u64(run *r, uint64_t v)
{
    uint8_t b[8];

    for (int i = 0; i < 8; i++)
        b[i] = (uint8_t)(v >> 8 * i);
    fs_sha256_update(r->h, b, sizeof b);
}

static inline void feed_f64(run *r, double x)
{
    uint64_t b;

    memcpy(&b, &x, sizeof b);
    feed_u64(r, x != x ? UINT64_C(0x7ff8000000000000) : b);
}

static inline void feed_row(run *r, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t v;
        uint8_t b[4];

        memcpy(&v, &x[i], sizeof v);
        v = x[i] != x[i] ? 0x7fc00000 : v;
        for (int j = 0; j < 4; j++)
            b[j] = (uint8_t)(v >> 8 * j);
        fs_sha256_update(r->h, b, sizeof b);
    }
}

static inline void feed_f32(run *r, float x)
{
    feed_row(r, &x, 1);
}

/* conformance_products.c */
void fs_conformance_products(run *r);
void fs_conformance_quantised_products(run *r);
void fs_conformance_pair_products(run *r);

/* conformance_attention.c */
void fs_conformance_attentions(run *r);
void fs_conformance_attentions_bf16(run *r);
void fs_conformance_kv8(run *r);

#endif
