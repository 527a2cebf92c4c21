/* Latent attention, differentiated in the absorbed form that the engine computes (models/mla.c). */
#include "train/internal.h"

#include <string.h>

#define NORM_EPS 1e-6f /* of the q_a and kv_a norms, whatever rms_norm_eps says */

struct latent_job {
    fs_trainer *t;
    const fs_train_layer *l;
};

static fs_heads heads_of(const fs_trainer *t, const fs_train_layer *l)
{
    const fs_config *c = t->config;
    const fs_kept *k = &l->kept;

    return (fs_heads){ .n_heads = c->num_attention_heads, .group = c->num_attention_heads, .latent = true,
                       .key_dim = c->kv_lora_rank + c->qk_rope_head_dim, .value_dim = c->kv_lora_rank, .q = k->q_lat, .k = k->k, .o = k->o_lat,
                       .m = k->m, .l = k->l };
}

static void prepare_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct latent_job *job = ud;
    fs_trainer *t = job->t;
    const fs_config *c = t->config;
    const fs_kept *k = &job->l->kept;
    const fs_rows_kernels *rows = &t->kernels->rows;
    size_t heads = c->num_attention_heads, nope = c->qk_nope_head_dim, rope = c->qk_rope_head_dim, lora = c->kv_lora_rank, lat = lora + rope;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const float *cs = t->cs + (size_t)t->positions[i] * rope, *raw = k->k_raw + i * lat;
        float *row = k->k + i * lat;
        for (size_t h = 0; h < heads; h++) {
            float *q_pe = k->q_lat + (i * heads + h) * lat + lora;
            memcpy(q_pe, k->q + (i * heads + h) * (nope + rope) + nope, rope * sizeof *q_pe);
            rows->rope_interleaved(q_pe, cs, rope);
        }
        rows->rmsnorm(raw, job->l->kv_a_norm->w, NORM_EPS, row, lora);
        memcpy(row + lora, raw + lora, rope * sizeof *row);
        rows->rope_interleaved(row + lora, cs, rope);
    }
}

/* q_a's output, normed, is the input of q_b. */
static const float *query_input(fs_trainer *t, const fs_train_layer *l)
{
    size_t n = t->config->q_lora_rank;

    if (!n)
        return t->h;
    fs_norm_forward(t, l->q_a_norm, NORM_EPS, l->kept.q_raw, n, t->q_normed, n, n, t->n_tokens);
    return t->q_normed;
}

void fs_latent_forward(fs_trainer *t, fs_train_layer *l, float *y)
{
    const fs_config *c = t->config;
    const fs_kept *k = &l->kept;
    size_t d = c->hidden_size, m = t->n_tokens, heads = c->num_attention_heads, nope = c->qk_nope_head_dim, rope = c->qk_rope_head_dim;
    size_t lora = c->kv_lora_rank, lat = lora + rope, v = c->v_head_dim, q_dim = heads * (nope + rope);
    struct latent_job job = { t, l };
    fs_heads a = heads_of(t, l);

    if (c->q_lora_rank)
        fs_lin_forward(t, &l->q_a, t->h, d, m, k->q_raw, c->q_lora_rank);
    fs_lin_forward(t, &l->q, query_input(t, l), l->q.w.k, m, k->q, q_dim);
    fs_lin_forward(t, &l->kv_a, t->h, d, m, k->k_raw, lat);
    fs_product_heads(t, l->uk, true, k->q, nope + rope, k->q_lat, lat);
    fs_pool_for(t->pool, m, fs_train_row_grain(t, m), prepare_piece, &job);
    fs_attention_forward(t, &a);
    fs_product_heads(t, l->uv, false, k->o_lat, lora, k->att, v);
    if (y)
        fs_lin_forward(t, &l->o, k->att, heads * v, m, y, d);
}

/* Of dq_lat the roped tail goes back to dq, whose first part the products give; of a key row the latent waits for its norm. */
static void turn_back_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct latent_job *job = ud;
    fs_trainer *t = job->t;
    const fs_config *c = t->config;
    size_t heads = c->num_attention_heads, nope = c->qk_nope_head_dim, rope = c->qk_rope_head_dim, lora = c->kv_lora_rank, lat = lora + rope;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const float *cs = t->cs_back + (size_t)t->positions[i] * rope;
        float *raw = t->d_kv_raw + i * lat;
        for (size_t h = 0; h < heads; h++) {
            float *q_pe = t->dq + (i * heads + h) * (nope + rope) + nope;
            memcpy(q_pe, t->dq_lat + (i * heads + h) * lat + lora, rope * sizeof *q_pe);
            t->kernels->rows.rope_interleaved(q_pe, cs, rope);
        }
        memset(raw, 0, lora * sizeof *raw);
        memcpy(raw + lora, t->dk + i * lat + lora, rope * sizeof *raw);
        t->kernels->rows.rope_interleaved(raw + lora, cs, rope);
    }
}

void fs_latent_backward(fs_trainer *t, fs_train_layer *l, const float *dy)
{
    const fs_config *c = t->config;
    const fs_kept *k = &l->kept;
    size_t d = c->hidden_size, m = t->n_tokens, heads = c->num_attention_heads, nope = c->qk_nope_head_dim, rope = c->qk_rope_head_dim;
    size_t lora = c->kv_lora_rank, lat = lora + rope, v = c->v_head_dim, q_dim = heads * (nope + rope), ql = c->q_lora_rank;
    struct latent_job job = { t, l };
    fs_heads a = heads_of(t, l);
    const float *q_in;

    fs_lin_grad(t, &l->o, dy, d, k->att, heads * v, false);
    fs_lin_back(t, &l->o, dy, d, m, t->d_att, heads * v, false);
    fs_outer_heads(t, l->uv, t->d_att, v, k->o_lat, lora);
    fs_product_heads(t, l->uv, true, t->d_att, v, t->do_lat, lora);
    fs_attention_backward(t, &a, t->do_lat, t->dq_lat, t->dk, NULL);
    fs_outer_heads(t, l->uk, k->q, nope + rope, t->dq_lat, lat);
    fs_product_heads(t, l->uk, false, t->dq_lat, lat, t->dq, nope + rope);
    fs_pool_for(t->pool, m, fs_train_row_grain(t, m), turn_back_piece, &job);
    fs_norm_backward(t, l->kv_a_norm, NORM_EPS, k->k_raw, lat, t->dk, lat, t->d_kv_raw, lat, lora, 1);
    q_in = query_input(t, l);
    fs_lin_grad(t, &l->q, t->dq, q_dim, q_in, l->q.w.k, false);
    if (ql) {
        fs_lin_back(t, &l->q, t->dq, q_dim, m, t->q_normed, ql, false); /* its gradient, in its place */
        memset(t->d_raw, 0, m * ql * sizeof *t->d_raw);
        fs_norm_backward(t, l->q_a_norm, NORM_EPS, k->q_raw, ql, t->q_normed, ql, t->d_raw, ql, ql, 1);
        fs_lin_grad(t, &l->q_a, t->d_raw, ql, t->h, d, false);
        fs_lin_back(t, &l->q_a, t->d_raw, ql, m, t->dh, d, false);
    } else {
        fs_lin_back(t, &l->q, t->dq, q_dim, m, t->dh, d, false);
    }
    fs_lin_grad(t, &l->kv_a, t->d_kv_raw, lat, t->h, d, true);
    fs_lin_back(t, &l->kv_a, t->d_kv_raw, lat, m, t->dh, d, true);
}
