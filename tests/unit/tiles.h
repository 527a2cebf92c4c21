/* What the tests of both classes of attention share: which tiles, with gaps in every stride, and their outputs. */
#ifndef FS_TESTS_TILES_H
#define FS_TESTS_TILES_H

#include "numbers.h"

#include "kernels/kernels.h"

#include <stdlib.h>

static const size_t positions[] = { 0, 1, 14, 15, 16, 17, 100, 250, 254, 255, 256, 257, 300, 511, 512, 700 };
#define N_POSITIONS (sizeof positions / sizeof positions[0])
static const struct dims {
    size_t key, value;
} dims[] = { { 64, 64 }, { 1, 1 }, { 20, 17 }, { 72, 72 }, { 128, 96 }, { 257, 130 }, { 300, 256 }, { 576, 512 }, { 48, 15 } };
#define N_DIMS (sizeof dims / sizeof dims[0])
static const struct shape {
    size_t n_q, n_heads;
} shapes[] = { { 1, 1 }, { 1, 3 }, { 3, 2 }, { 20, 3 }, { 2, 16 }, { 7, 7 }, { 64, 1 }, { 1, 64 }, { 1, 6 } };
#define N_SHAPES (sizeof shapes / sizeof shapes[0])

/* In [-1, 1], each as likely. */
static inline float random_even(void)
{
    return (float)(int32_t)random_u32() * 0x1p-31f;
}

static inline float *random_evens(size_t n)
{
    float *x = malloc(n * sizeof *x + !n);

    for (size_t i = 0; i < n; i++)
        x[i] = random_even();
    return x;
}

/* Scores spread over about +-spread. */
static inline fs_attention_tile new_tile(size_t n_q, size_t n_heads, size_t pos0, size_t key_dim, size_t value_dim, float spread)
{
    return (fs_attention_tile){ .n_q = n_q, .n_heads = n_heads, .pos0 = pos0, .key_dim = key_dim, .value_dim = value_dim,
                                .scale = spread / sqrtf((float)key_dim), .q_head_stride = key_dim + 1,
                                .q_token_stride = n_heads * (key_dim + 1) + 2, .v_stride = value_dim + 3,
                                .out_head_stride = value_dim + 1, .out_token_stride = n_heads * (value_dim + 1) + 1 };
}

static inline size_t query_floats(const fs_attention_tile *t)
{
    return (t->n_q - 1) * t->q_token_stride + (t->n_heads - 1) * t->q_head_stride + t->key_dim;
}

static inline size_t out_floats(const fs_attention_tile *t)
{
    return (t->n_q - 1) * t->out_token_stride + (t->n_heads - 1) * t->out_head_stride + t->value_dim;
}

static inline float *out_at(const fs_attention_tile *t, float *out, size_t q, size_t h)
{
    return out + q * t->out_token_stride + h * t->out_head_stride;
}

/* The tile's output, gaps filled with a pattern that must stay. */
static inline float *attend_by(void (*fn)(const fs_attention_tile *t, void *scratch), const fs_attention_tile *tile)
{
    fs_attention_tile t = *tile;
    size_t n = out_floats(&t), n_bytes = fs_attention_scratch_bytes(t.key_dim, t.value_dim);
    float *out = malloc(n * sizeof *out);
    void *scratch = malloc(n_bytes + 64); /* exact behind an aligned start */

    memset(out, 0x5a, n * sizeof *out);
    t.out = out;
    fn(&t, (void *)(((uintptr_t)scratch + 63) / 64 * 64));
    free(scratch);
    return out;
}

static inline void check_out(const char *isa, bool latent, const fs_attention_tile *t, const float *got, const float *want)
{
    for (size_t i = 0; i < out_floats(t); i++)
        if (!same(got[i], want[i]))
            fail_msg("%s %s n_q %zu heads %zu pos0 %zu key %zu value %zu: [%zu] is %a, reference %a", isa, latent ? "mla" : "gqa", t->n_q,
                     t->n_heads, t->pos0, t->key_dim, t->value_dim, i, (double)got[i], (double)want[i]);
}

#endif
