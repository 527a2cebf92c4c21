/* Row operations of a pass, each one region of the pool: by tokens where rows are made, by columns where sums go over tokens. */
#include "train/internal.h"

#include <math.h>
#include <string.h>

#define COLUMNS 32 /* of one piece */

size_t fs_train_row_grain(const fs_trainer *t, size_t m)
{
    size_t grain = m / (8 * (size_t)fs_pool_threads(t->pool));

    return grain < 1 ? 1 : grain > 64 ? 64 : grain;
}

struct rows_job {
    fs_trainer *t;
    const float *x, *w, *add;
    float *y, *dx, *g, *r;
    float eps;
    size_t ldx, ldy, lddx, n, per_token;
    const int32_t *ids;
};

static size_t column_pieces(size_t n)
{
    return (n + COLUMNS - 1) / COLUMNS;
}

/* ---- norms ---- */
static void norm_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct rows_job *job = ud;

    (void)thread;
    for (size_t i = begin; i < end; i++)
        job->t->kernels->rows.rmsnorm(job->x + i * job->ldx, job->w, job->eps, job->y + i * job->ldy, job->n);
}

void fs_norm_forward(fs_trainer *t, const fs_param *w, float eps, const float *x, size_t ldx, float *y, size_t ldy, size_t n, size_t m)
{
    struct rows_job job = { .t = t, .x = x, .w = w->w, .y = y, .eps = eps, .ldx = ldx, .ldy = ldy, .n = n };

    fs_pool_for(t->pool, m, fs_train_row_grain(t, m), norm_piece, &job);
}

static void factors_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct rows_job *job = ud;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        float ss = job->t->kernels->rows.sumsq(job->x + i * job->ldx, job->n);
        job->r[i] = 1.0f / sqrtf(ss / (float)job->n + job->eps);
    }
}

static void norm_weight_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct rows_job *job = ud;
    const fs_chains *chains = &job->t->chains;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        size_t col = i * COLUMNS, n = job->n - col < COLUMNS ? job->n - col : COLUMNS;
        for (uint32_t c = 0; c < chains->n; c++) {
            size_t row = chains->at[c] * job->per_token, rows = (chains->at[c + 1] - chains->at[c]) * job->per_token;
            job->t->kernels->grad.norm_weight(job->x + row * job->ldx + col, job->ldx, job->r + row, job->y + row * job->ldy + col, job->ldy, rows,
                                              job->g + col, n);
        }
    }
}

static void norm_back_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct rows_job *job = ud;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        float *dy = job->y + i * job->ldy;
        job->t->kernels->grad.rmsnorm(job->x + i * job->ldx, job->w, job->eps, dy, job->dx + i * job->lddx, dy, job->n);
    }
}

void fs_norm_backward(fs_trainer *t, const fs_param *w, float eps, const float *x, size_t ldx, float *dy, size_t lddy, float *dx, size_t lddx,
                      size_t n, size_t per_token)
{
    size_t m = t->n_tokens * per_token;
    struct rows_job job = { .t = t, .x = x, .w = w->w, .y = dy, .dx = dx, .g = w->g, .r = t->r, .eps = eps, .ldx = ldx, .ldy = lddy, .lddx = lddx,
                            .n = n, .per_token = per_token };

    if (w->g) {
        fs_pool_for(t->pool, m, fs_train_row_grain(t, m), factors_piece, &job);
        fs_pool_for(t->pool, column_pieces(n), 1, norm_weight_piece, &job);
    }
    fs_pool_for(t->pool, m, fs_train_row_grain(t, m), norm_back_piece, &job);
}

/* ---- sums ---- */
static void add_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct rows_job *job = ud;
    size_t at = begin * 4096, n = (end * 4096 < job->n ? end * 4096 : job->n) - at;

    (void)thread;
    job->t->kernels->rows.add(job->x + at, job->add + at, job->y + at, n);
}

void fs_add_rows(fs_trainer *t, const float *a, const float *b, float *y, size_t n_floats)
{
    struct rows_job job = { .t = t, .x = a, .add = b, .y = y, .n = n_floats };

    fs_pool_for(t->pool, (n_floats + 4095) / 4096, 4, add_piece, &job);
}

static void bias_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct rows_job *job = ud;
    const fs_chains *chains = &job->t->chains;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        size_t col = i * COLUMNS, n = job->n - col < COLUMNS ? job->n - col : COLUMNS;
        for (uint32_t c = 0; c < chains->n; c++)
            job->t->kernels->grad.bias(job->x + chains->at[c] * job->ldx + col, job->ldx, chains->at[c + 1] - chains->at[c], job->g + col, n);
    }
}

void fs_bias_backward(fs_trainer *t, const fs_param *bias, const float *dy, size_t lddy)
{
    struct rows_job job = { .t = t, .x = dy, .g = bias->g, .ldx = lddy, .n = bias->n };

    fs_pool_for(t->pool, column_pieces(bias->n), 1, bias_piece, &job);
}

/* ---- embedding ---- */
static void embed_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct rows_job *job = ud;

    (void)thread;
    for (size_t i = begin; i < end; i++)
        memcpy(job->y + i * job->n, job->x + (size_t)job->ids[i] * job->n, job->n * sizeof(float));
}

void fs_embed(fs_trainer *t, const int32_t *ids, float *y)
{
    struct rows_job job = { .t = t, .x = t->embed->w, .y = y, .n = t->config->hidden_size, .ids = ids };

    fs_pool_for(t->pool, t->n_tokens, fs_train_row_grain(t, t->n_tokens), embed_piece, &job);
}

static void scatter_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct rows_job *job = ud;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        size_t col = i * COLUMNS, n = job->n - col < COLUMNS ? job->n - col : COLUMNS;
        for (size_t r = 0; r < job->t->n_tokens; r++) {
            float *g = job->g + (size_t)job->ids[r] * job->n + col;
            job->t->kernels->rows.add(g, job->x + r * job->ldx + col, g, n);
        }
    }
}

void fs_embed_backward(fs_trainer *t, const int32_t *ids, const float *dy, size_t lddy, float *g)
{
    struct rows_job job = { .t = t, .x = dy, .ldx = lddy, .g = g, .n = t->config->hidden_size, .ids = ids };

    if (g)
        fs_pool_for(t->pool, column_pieces(job.n), 1, scatter_piece, &job);
}
