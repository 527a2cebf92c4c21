/* The forward pass of tokens that bring what the engine made of them with the same weights (models/activations.h): residual streams, gates
 * and the router's choice are taken, attention, whose softmax the backward needs, is made again. */
#include "train/internal.h"

#include <string.h>

struct bring_job {
    const fs_trainer *t;
    const fs_train_layer *l;
    const fs_layer_activations *from;
};

static void take(const float *row, size_t at, size_t n, float *to, size_t i)
{
    memcpy(to + i * n, row + at, n * sizeof *to);
}

static void rows_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct bring_job *job = ud;
    size_t d = job->t->config->hidden_size;
    const fs_kept *to = &job->l->kept;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const float *row = job->t->brought[i];
        take(row, job->from->x, d, to->x, i);
        take(row, job->from->x_mid, d, to->x_mid, i);
        if (job->from->width) {
            take(row, job->from->gate, job->from->width, to->gate, i);
            take(row, job->from->up, job->from->width, to->up, i);
        }
    }
}

static void final_piece(void *ud, size_t begin, size_t end, int thread)
{
    const fs_trainer *t = ((const struct bring_job *)ud)->t;

    (void)thread;
    for (size_t i = begin; i < end; i++)
        take(t->brought[i], t->activations->x, t->config->hidden_size, t->final_x, i);
}

void fs_forward_brought(fs_trainer *t)
{
    size_t d = t->config->hidden_size, m = t->n_tokens, grain = fs_train_row_grain(t, m);
    struct bring_job job = { .t = t };

    for (uint32_t i = 0; i < t->config->num_hidden_layers; i++) {
        fs_train_layer *l = &t->layers[i];
        job.l = l;
        job.from = &t->activations->layers[i];
        fs_pool_for(t->pool, m, grain, rows_piece, &job);
        fs_norm_forward(t, l->input_norm, t->norm_eps, l->kept.x, d, t->h, d, d, m);
        (t->config->kv_lora_rank ? fs_latent_forward : fs_gqa_forward)(t, l, NULL);
        t->made = l;
        fs_clip_see(t, l);
        if (l->is_moe)
            fs_experts_bring(t, l, job.from);
    }
    fs_pool_for(t->pool, m, grain, final_piece, &job);
    fs_norm_forward(t, t->norm, t->norm_eps, t->final_x, d, t->final_h, d, d, m);
}
