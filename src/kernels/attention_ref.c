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

/* o must not be out; both hold value_dim floats. */
static void attend(const fs_attention_tile *t, key_fn *key, const float *v, size_t v_stride, const float *q,
                   size_t n_keys, float *out, float *o)
{
    float p[FS_KV_BLOCK], max = 0.0f, sum = 0.0f;

    for (size_t j0 = 0; j0 < n_keys; j0 += FS_KV_BLOCK) {
        size_t n = n_keys - j0 < FS_KV_BLOCK ? n_keys - j0 : FS_KV_BLOCK;
        float m, l, lane[LANES] = { 0 };

        for (size_t j = 0; j < n; j++)
            p[j] = score(t, key, q, j0 + j);
        m = p[0];
        for (size_t j = 1; j < n; j++)
            m = p[j] > m ? p[j] : m;
        memset(o, 0, t->value_dim * sizeof *o);
        for (size_t j = 0; j < n; j++) {
            p[j] = fs_expf(p[j] - m);
            lane[j % LANES] += p[j];
            for (size_t d = 0; d < t->value_dim; d++)
                o[d] = fmaf(p[j], v[(j0 + j) * v_stride + d], o[d]);
        }
        for (size_t s = LANES / 2; s; s /= 2)
            for (size_t i = 0; i < s; i++)
                lane[i] += lane[i + s];
        l = lane[0];

        if (j0 == 0) {
            max = m;
            sum = l;
            memcpy(out, o, t->value_dim * sizeof *o);
        } else {
            float joint = max > m ? max : m, a = fs_expf(max - joint), b = fs_expf(m - joint);
            sum = fmaf(b, l, a * sum);
            for (size_t d = 0; d < t->value_dim; d++)
                out[d] = fmaf(b, o[d], a * out[d]);
            max = joint;
        }
    }
    for (size_t d = 0; d < t->value_dim; d++)
        out[d] /= sum;
}

static void all(const fs_attention_tile *t, key_fn *key, const float *v, size_t v_stride, float *o)
{
    for (size_t i = 0; i < t->n_q; i++)
        for (size_t h = 0; h < t->n_heads; h++)
            attend(t, key, v, v_stride, t->q + i * t->q_token_stride + h * t->q_head_stride, t->pos0 + i + 1,
                   t->out + i * t->out_token_stride + h * t->out_head_stride, o);
}

void fs_gqa_ref(const fs_attention_tile *t, void *scratch)
{
    all(t, gqa_key, t->v, t->v_stride, scratch);
}

void fs_mla_ref(const fs_attention_tile *t, void *scratch)
{
    all(t, mla_key, t->k, t->key_dim, scratch);
}
