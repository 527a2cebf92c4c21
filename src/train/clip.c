/* The largest logits of attention, and MuonClip's rule that holds them down: muon.h says how. */
#include "train/internal.h"

#include <math.h>

void fs_clip_begin(fs_trainer *t)
{
    for (uint32_t i = 0; i < t->n_layers; i++)
        for (uint32_t h = 0; h < t->config->num_attention_heads; h++)
            t->layers[i].qk_max[h] = -INFINITY;
}

void fs_clip_see(fs_trainer *t, fs_train_layer *l)
{
    size_t heads = t->config->num_attention_heads;

    for (size_t i = 0; i < t->n_tokens; i++)
        for (size_t h = 0; h < heads; h++)
            l->qk_max[h] = l->kept.m[i * heads + h] > l->qk_max[h] ? l->kept.m[i * heads + h] : l->qk_max[h];
}

const float *fs_trainer_qk_max(const fs_trainer *t, uint32_t layer)
{
    return t->layers[layer].qk_max;
}

static float factor(const fs_train_layer *l, size_t head, float tau)
{
    return l->qk_max[head] > tau ? tau / l->qk_max[head] : 1.0f;
}

static void scale_rows(const fs_trainer *t, fs_param *p, size_t row, size_t n, float by)
{
    if (by != 1.0f)
        t->kernels->rows.scale(by, p->w + row * p->cols, p->w + row * p->cols, n * p->cols);
}

/* Rows of a linear, and what of its bias belongs to them. */
static void scale_lin(const fs_trainer *t, const fs_lin *l, size_t row, size_t n, float by)
{
    scale_rows(t, l->w.p, row, n, by);
    if (l->bias && by != 1.0f)
        t->kernels->rows.scale(by, l->bias->w + row, l->bias->w + row, n);
}

static void clip_latent(const fs_trainer *t, const fs_train_layer *l, float tau)
{
    const fs_config *c = t->config;
    size_t nope = c->qk_nope_head_dim, rope = c->qk_rope_head_dim, v = c->v_head_dim;

    if (l->q.w.p->fixed || l->uk[0].p->fixed)
        return;
    for (size_t h = 0; h < c->num_attention_heads; h++) {
        float by = factor(l, h, tau), root = sqrtf(by);
        scale_lin(t, &l->q, h * (nope + rope), nope, root);
        scale_lin(t, &l->q, h * (nope + rope) + nope, rope, by);
        scale_rows(t, l->uk[0].p, h * (nope + v), nope, root);
    }
}

static void clip_grouped(const fs_trainer *t, const fs_train_layer *l, float tau)
{
    const fs_config *c = t->config;
    size_t hd = c->head_dim, group = c->num_attention_heads / c->num_key_value_heads;

    if (l->q_norm || l->q.w.p->fixed || l->k.w.p->fixed)
        return;
    for (size_t kv = 0; kv < c->num_key_value_heads; kv++) {
        float least = 1, root;
        for (size_t h = kv * group; h < (kv + 1) * group; h++)
            least = factor(l, h, tau) < least ? factor(l, h, tau) : least;
        root = sqrtf(least);
        scale_lin(t, &l->k, kv * hd, hd, root);
        for (size_t h = kv * group; h < (kv + 1) * group; h++)
            scale_lin(t, &l->q, h * hd, hd, factor(l, h, tau) / root);
    }
}

void fs_trainer_clip_logits(fs_trainer *t, double tau)
{
    for (uint32_t i = 0; i < t->n_layers; i++)
        (t->config->kv_lora_rank ? clip_latent : clip_grouped)(t, &t->layers[i], (float)tau);
}
