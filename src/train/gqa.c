/* Grouped-query attention: the sublayer of llama, qwen2, qwen3 and deepseek. */
#include "train/internal.h"

#include <string.h>

struct token_job {
    fs_trainer *t;
    const fs_train_layer *l;
};

static fs_heads heads_of(const fs_trainer *t, const fs_train_layer *l)
{
    const fs_config *c = t->config;
    const fs_kept *k = &l->kept;

    return (fs_heads){ .n_heads = c->num_attention_heads, .group = c->num_attention_heads / c->num_key_value_heads, .key_dim = c->head_dim,
                       .value_dim = c->head_dim, .q = k->q, .k = k->k, .v = k->v, .o = k->att, .m = k->m, .l = k->l };
}

/* Norms where there are any, and rope, of rows of heads. */
static void turn(const struct token_job *job, size_t token, const fs_param *norm, const float *raw, float *x, size_t n_heads)
{
    const fs_trainer *t = job->t;
    size_t hd = t->config->head_dim;

    for (size_t h = 0; h < n_heads; h++) {
        float *row = x + (token * n_heads + h) * hd;
        if (norm)
            t->kernels->rows.rmsnorm(raw + (token * n_heads + h) * hd, norm->w, t->norm_eps, row, hd);
        t->kernels->rows.rope_half(row, t->cs + (size_t)t->positions[token] * hd, hd);
    }
}

static void turn_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct token_job *job = ud;
    const fs_config *c = job->t->config;
    const fs_kept *k = &job->l->kept;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        turn(job, i, job->l->q_norm, k->q_raw, k->q, c->num_attention_heads);
        turn(job, i, job->l->k_norm, k->k_raw, k->k, c->num_key_value_heads);
    }
}

void fs_gqa_forward(fs_trainer *t, fs_train_layer *l, float *y)
{
    size_t d = t->config->hidden_size, m = t->n_tokens, nq = l->q.w.n, nkv = l->k.w.n;
    struct token_job job = { t, l };
    fs_heads a = heads_of(t, l);

    fs_lin_forward(t, &l->q, t->h, d, m, l->q_norm ? l->kept.q_raw : l->kept.q, nq);
    fs_lin_forward(t, &l->k, t->h, d, m, l->k_norm ? l->kept.k_raw : l->kept.k, nkv);
    fs_lin_forward(t, &l->v, t->h, d, m, l->kept.v, nkv);
    fs_pool_for(t->pool, m, fs_train_row_grain(t, m), turn_piece, &job);
    fs_attention_forward(t, &a);
    if (y)
        fs_lin_forward(t, &l->o, l->kept.att, nq, m, y, d);
}

static void turn_back_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct token_job *job = ud;
    fs_trainer *t = job->t;
    const fs_config *c = t->config;
    size_t hd = c->head_dim;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const float *cs = t->cs_back + (size_t)t->positions[i] * hd;
        for (size_t h = 0; h < c->num_attention_heads; h++)
            t->kernels->rows.rope_half(t->dq + (i * c->num_attention_heads + h) * hd, cs, hd);
        for (size_t h = 0; h < c->num_key_value_heads; h++)
            t->kernels->rows.rope_half(t->dk + (i * c->num_key_value_heads + h) * hd, cs, hd);
    }
}

/* The gradient of rows of heads before their norm, in t->d_raw, or d itself where there is none. */
static float *before_norm(fs_trainer *t, const fs_param *norm, const float *raw, float *d, size_t n_heads, float *to)
{
    size_t hd = t->config->head_dim;

    if (!norm)
        return d;
    memset(to, 0, t->n_tokens * n_heads * hd * sizeof *to);
    fs_norm_backward(t, norm, t->norm_eps, raw, hd, d, hd, to, hd, hd, n_heads);
    return to;
}

void fs_gqa_backward(fs_trainer *t, fs_train_layer *l, const float *dy)
{
    const fs_config *c = t->config;
    size_t d = c->hidden_size, m = t->n_tokens, nq = l->q.w.n, nkv = l->k.w.n;
    struct token_job job = { t, l };
    fs_heads a = heads_of(t, l);
    float *dq, *dk;

    fs_lin_grad(t, &l->o, dy, d, l->kept.att, nq, false);
    fs_lin_back(t, &l->o, dy, d, m, t->d_att, nq, false);
    fs_attention_backward(t, &a, t->d_att, t->dq, t->dk, t->dv);
    fs_pool_for(t->pool, m, fs_train_row_grain(t, m), turn_back_piece, &job);
    dq = before_norm(t, l->q_norm, l->kept.q_raw, t->dq, c->num_attention_heads, t->d_raw);
    dk = before_norm(t, l->k_norm, l->kept.k_raw, t->dk, c->num_key_value_heads, t->d_kv_raw);
    fs_lin_grad(t, &l->q, dq, nq, t->h, d, false);
    fs_lin_grad(t, &l->k, dk, nkv, t->h, d, true);
    fs_lin_grad(t, &l->v, t->dv, nkv, t->h, d, true);
    fs_lin_back(t, &l->q, dq, nq, m, t->dh, d, false);
    fs_lin_back(t, &l->k, dk, nkv, m, t->dh, d, true);
    fs_lin_back(t, &l->v, t->dv, nkv, m, t->dh, d, true);
}
