/* The definition of attention: one query and head at a time, blocks of 256 keys in ascending order. */
#include "kernels/attention_isa.h"
#include "kernels/math.h"

#include <math.h>
#include <string.h>

#define CHAIN 256
#define LANES 16

/* Element d of key j. */
typedef float key_fn(const fs_attention_tile *t, size_t j, size_t d);

static float gqa_key(const fs_attention_tile *t, size_t j, size_t d)
{
    return t->k[(j / LANES * t->key_dim + d) * LANES + j % LANES];
}

static float mla_key(const fs_attention_tile *t, size_t j, size_t d)
{
    return t->k[j * t->key_dim + d];
}

static float score(const fs_attention_tile *t, key_fn *key, const float *q, size_t j)
{
    float y = 0.0f;

    for (size_t d0 = 0; d0 < t->key_dim; d0 += CHAIN) {
        size_t end = t->key_dim - d0 < CHAIN ? t->key_dim : d0 + CHAIN;
        float s = 0.0f;
        for (size_t d = d0; d < end; d++)
            s = fmaf(q[d], key(t, j, d), s);
        y += s;
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
static void attend_block(const fs_attention_tile *t, key_fn *key, const float *v, size_t v_stride, const float *q, size_t j0,
                         size_t n, float *ret_m, float *ret_l, float *o)
{
    float p[FS_KV_BLOCK], m = 0.0f, lane[LANES] = { 0 };

    for (size_t j = 0; j < n; j++) {
        p[j] = score(t, key, q, j0 + j);
        m = j == 0 || p[j] > m ? p[j] : m;
    }
    memset(o, 0, t->value_dim * sizeof *o);
    for (size_t j = 0; j < n; j++) {
        p[j] = fs_expf(p[j] - m);
        lane[j % LANES] += p[j];
        for (size_t d = 0; d < t->value_dim; d++)
            o[d] = fmaf(p[j], v[(j0 + j) * v_stride + d], o[d]);
    }
    *ret_m = m;
    *ret_l = fold(lane);
}

static void join(float *max, float *sum, float *out, float m, float l, const float *o, size_t n)
{
    float joint = *max > m ? *max : m, a = fs_expf(*max - joint), b = fs_expf(m - joint);

    *sum = fmaf(b, l, a * *sum);
    for (size_t d = 0; d < n; d++)
        out[d] = fmaf(b, o[d], a * out[d]);
    *max = joint;
}

static void finish(float *out, float sum, size_t n)
{
    for (size_t d = 0; d < n; d++)
        out[d] /= sum;
}

static void all(const fs_attention_tile *t, key_fn *key, const float *v, size_t v_stride, float *o)
{
    for (size_t i = 0; i < t->n_q; i++)
        for (size_t h = 0; h < t->n_heads; h++) {
            const float *q = t->q + i * t->q_token_stride + h * t->q_head_stride;
            float *out = t->out + i * t->out_token_stride + h * t->out_head_stride, max, sum, m, l;
            size_t n_keys = t->pos0 + i + 1;

            attend_block(t, key, v, v_stride, q, 0, n_keys < FS_KV_BLOCK ? n_keys : FS_KV_BLOCK, &max, &sum, out);
            for (size_t j = FS_KV_BLOCK; j < n_keys; j += FS_KV_BLOCK) {
                attend_block(t, key, v, v_stride, q, j, n_keys - j < FS_KV_BLOCK ? n_keys - j : FS_KV_BLOCK, &m, &l, o);
                join(&max, &sum, out, m, l, o, t->value_dim);
            }
            finish(out, sum, t->value_dim);
        }
}

static void one_block(const fs_attention_tile *t, key_fn *key, const float *v, size_t v_stride, size_t block, float *m, float *l, float *o)
{
    size_t j0 = block * FS_KV_BLOCK;

    for (size_t r = 0; r < t->n_q * t->n_heads; r++) {
        size_t i = r / t->n_heads, h = r % t->n_heads, n_keys = t->pos0 + i + 1;
        const float *q = t->q + i * t->q_token_stride + h * t->q_head_stride;
        if (n_keys > j0)
            attend_block(t, key, v, v_stride, q, j0, n_keys - j0 < FS_KV_BLOCK ? n_keys - j0 : FS_KV_BLOCK, &m[r], &l[r],
                         o + r * t->value_dim);
    }
}

static void gqa(const fs_attention_tile *t, void *scratch)
{
    all(t, gqa_key, t->v, t->v_stride, scratch);
}

static void mla(const fs_attention_tile *t, void *scratch)
{
    all(t, mla_key, t->k, t->key_dim, scratch);
}

static void gqa_part(const fs_attention_tile *t, size_t block, float *m, float *l, float *o, void *scratch)
{
    (void)scratch;
    one_block(t, gqa_key, t->v, t->v_stride, block, m, l, o);
}

static void mla_part(const fs_attention_tile *t, size_t block, float *m, float *l, float *o, void *scratch)
{
    (void)scratch;
    one_block(t, mla_key, t->k, t->key_dim, block, m, l, o);
}

static void latent_pack(const float *const *rows, size_t n, size_t key_dim, float *panel)
{
    for (size_t d = 0; d < key_dim; d++)
        for (size_t r = 0; r < LANES; r++)
            panel[d * LANES + r] = r < n ? rows[r][d] : 0.0f;
}

static void latent_scores(const float *panels, size_t n_groups, const float *keys, size_t stride, size_t n, size_t key_dim,
                          float scale, float *s)
{
    for (size_t g = 0; g < n_groups; g++)
        for (size_t j = 0; j < n; j++)
            for (size_t r = 0; r < LANES; r++) {
                const float *q = panels + g * key_dim * LANES + r;
                float y = 0.0f;
                for (size_t d0 = 0; d0 < key_dim; d0 += CHAIN) {
                    size_t end = key_dim - d0 < CHAIN ? key_dim : d0 + CHAIN;
                    float sum = 0.0f;
                    for (size_t d = d0; d < end; d++)
                        sum = fmaf(q[d * LANES], keys[j * stride + d], sum);
                    y += sum;
                }
                s[(g * FS_KV_BLOCK + j) * LANES + r] = scale * y;
            }
}

static void latent_softmax(float *s, const size_t *visible, const uint32_t *slots, float *ret_m, float *ret_l)
{
    size_t n = 0;

    for (size_t r = 0; r < LANES; r++)
        n = visible[r] > n ? visible[r] : n;
    for (size_t r = 0; r < LANES; r++) {
        float m = s[r], lane[LANES] = { 0 };
        for (size_t j = 1; j < visible[r]; j++)
            m = s[j * LANES + r] > m ? s[j * LANES + r] : m;
        for (size_t j = 0; j < n; j++) {
            s[j * LANES + r] = j < visible[r] ? fs_expf(s[j * LANES + r] - m) : 0.0f;
            lane[(slots ? slots[j] : j) % LANES] += s[j * LANES + r];
        }
        ret_m[r] = m;
        ret_l[r] = fold(lane);
    }
}

static void latent_values(const float *p, const size_t *visible, size_t n_rows, const float *keys, size_t stride, size_t value_dim,
                          float *const *o)
{
    for (size_t r = 0; r < n_rows; r++) {
        memset(o[r], 0, value_dim * sizeof *o[r]);
        for (size_t j = 0; j < visible[r]; j++)
            for (size_t d = 0; d < value_dim; d++)
                o[r][d] = fmaf(p[j * LANES + r], keys[j * stride + d], o[r][d]);
    }
}

const fs_attention_kernels fs_attention_ref = { gqa, mla, gqa_part, mla_part, join, finish,
                                                { latent_pack, latent_scores, latent_softmax, latent_values }, { 0 } };
