/* The definition of attention in class RN1-bf16: one query and head at a time, as attention_ref.c with B256 in the place of
 * A256. */
#include "kernels/attention_isa.h"
#include "kernels/math.h"

#include <string.h>

#define CHAIN 256
#define LANES 16

/* Element d of key j, and value d of it. */
typedef float element_fn(const fs_attention_tile *t, size_t j, size_t d);

static float half_of(fs_pair p, size_t i)
{
    return i % 2 ? fs_pair_second(p) : fs_pair_first(p);
}

static float gqa_key(const fs_attention_tile *t, size_t j, size_t d)
{
    return half_of(t->k16[(j / LANES * fs_pairs(t->key_dim) + d / 2) * LANES + j % LANES], d);
}

static float gqa_value(const fs_attention_tile *t, size_t j, size_t d)
{
    return half_of(t->v16[j / 2 * t->v_stride + d], j);
}

static float latent_element(const fs_attention_tile *t, size_t j, size_t d)
{
    return half_of(t->k16[j * fs_pairs(t->key_dim) + d / 2], d);
}

static float score(const fs_attention_tile *t, element_fn *key, const float *q, size_t j)
{
    float y = 0.0f;

    for (size_t d0 = 0; d0 < t->key_dim; d0 += CHAIN) {
        size_t end = t->key_dim - d0 < CHAIN ? t->key_dim : d0 + CHAIN;
        float s = 0.0f;
        for (size_t d = d0; d < end; d++)
            s = fs_fma_flushed(fs_bf16(q[d]), key(t, j, d), s);
        y = fs_flushed(y + s);
    }
    return t->scale * y;
}

static float fold(float *lane)
{
    for (size_t s = LANES / 2; s; s /= 2)
        for (size_t i = 0; i < s; i++)
            lane[i] += lane[i + s];
    return lane[0];
}

/* Keys [j0, j0 + n), all visible. */
static void attend_block(const fs_attention_tile *t, element_fn *key, element_fn *value, const float *q, size_t j0, size_t n,
                         float *ret_m, float *ret_l, float *o)
{
    float p[FS_KV_BLOCK], m = 0.0f, lane[LANES] = { 0 };

    for (size_t j = 0; j < n; j++) {
        p[j] = score(t, key, q, j0 + j);
        m = j == 0 || p[j] > m ? p[j] : m;
    }
    for (size_t j = 0; j < n; j++) {
        p[j] = fs_bf16(fs_expf(p[j] - m));
        lane[j % LANES] += p[j];
    }
    for (size_t d = 0; d < t->value_dim; d++) {
        float s = 0.0f;
        for (size_t j = 0; j < n; j++)
            s = fs_fma_flushed(p[j], value(t, j0 + j, d), s);
        o[d] = 0.0f + s;
    }
    *ret_m = m;
    *ret_l = fold(lane);
}

static void all(const fs_attention_tile *t, element_fn *key, element_fn *value, float *o)
{
    for (size_t i = 0; i < t->n_q; i++)
        for (size_t h = 0; h < t->n_heads; h++) {
            const float *q = t->q + i * t->q_token_stride + h * t->q_head_stride;
            float *out = t->out + i * t->out_token_stride + h * t->out_head_stride, max, sum, m, l;
            size_t n_keys = t->pos0 + i + 1;

            attend_block(t, key, value, q, 0, n_keys < FS_KV_BLOCK ? n_keys : FS_KV_BLOCK, &max, &sum, out);
            for (size_t j = FS_KV_BLOCK; j < n_keys; j += FS_KV_BLOCK) {
                attend_block(t, key, value, q, j, n_keys - j < FS_KV_BLOCK ? n_keys - j : FS_KV_BLOCK, &m, &l, o);
                fs_attention_ref.join(&max, &sum, out, m, l, o, t->value_dim);
            }
            fs_attention_ref.finish(out, sum, t->value_dim);
        }
}

static void one_block(const fs_attention_tile *t, element_fn *key, element_fn *value, size_t block, float *m, float *l, float *o)
{
    size_t j0 = block * FS_KV_BLOCK;

    for (size_t r = 0; r < t->n_q * t->n_heads; r++) {
        size_t i = r / t->n_heads, h = r % t->n_heads, n_keys = t->pos0 + i + 1;
        const float *q = t->q + i * t->q_token_stride + h * t->q_head_stride;
        if (n_keys > j0)
            attend_block(t, key, value, q, j0, n_keys - j0 < FS_KV_BLOCK ? n_keys - j0 : FS_KV_BLOCK, &m[r], &l[r], o + r * t->value_dim);
    }
}

static void gqa(const fs_attention_tile *t, void *scratch)
{
    all(t, gqa_key, gqa_value, scratch);
}

static void mla(const fs_attention_tile *t, void *scratch)
{
    all(t, latent_element, latent_element, scratch);
}

static void gqa_part(const fs_attention_tile *t, size_t block, float *m, float *l, float *o, void *scratch)
{
    (void)scratch;
    one_block(t, gqa_key, gqa_value, block, m, l, o);
}

static void mla_part(const fs_attention_tile *t, size_t block, float *m, float *l, float *o, void *scratch)
{
    (void)scratch;
    one_block(t, latent_element, latent_element, block, m, l, o);
}

static void round_row(const float *x, size_t n, fs_pair *y)
{
    for (size_t d = 0; d < n; d += 2)
        y[d / 2] = fs_pair_of(x[d], d + 1 < n ? x[d + 1] : 0.0f);
}

const fs_attention_bf16 fs_attention_bf16_ref = { gqa, mla, gqa_part, mla_part, round_row };
