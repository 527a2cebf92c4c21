/* Manifold-constrained hyper-connections: n residual streams. A sublayer reads a mixture of them (pre), and what it says
 * is added to each (post) beside a doubly stochastic mixture of the old ones (comb), all three of the streams themselves.
 * Order of operations: docs/RN1.md, section 4, V4. Source: mHC, arXiv 2512.24880; DeepSeek-V4's inference/model.py. */
#include "models/internal.h"

#include <math.h>
#include <string.h>

struct hc_job {
    fs_network *net;
    fs_workspace *ws;
    const fs_hc *hc;
    const float *norm; /* NULL: the model's end, only pre; the result goes to ws->x */
};

static void flatten_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct hc_job *job = ud;
    const fs_config *c = job->net->config;
    size_t n = (size_t)c->hc_mult * c->hidden_size;

    (void)thread;
    for (size_t t = begin; t < end; t++)
        job->net->kernels->rows.rmsnorm(job->ws->v4.streams + t * n, NULL, (float)c->rms_norm_eps, job->ws->v4.flat + t * n, n);
}

/* x_i / fl(sum + eps) for n elements stride apart; the sum ascends from +0. */
static void normalise(float *x, size_t n, size_t stride, float eps)
{
    float sum = 0;

    for (size_t i = 0; i < n; i++)
        sum = sum + x[i * stride];
    sum = sum + eps;
    for (size_t i = 0; i < n; i++)
        x[i * stride] = x[i * stride] / sum;
}

/* Rows and columns in turn to sums of one; columns first, and last. */
static void sinkhorn(const fs_config *c, float *comb)
{
    size_t n = c->hc_mult;
    float eps = (float)c->hc_eps;

    for (uint32_t i = 0; i < c->hc_sinkhorn_iters; i++) {
        for (size_t j = 0; i > 0 && j < n; j++)
            normalise(comb + j * n, n, 1, eps);
        for (size_t k = 0; k < n; k++)
            normalise(comb + k, n, n, eps);
    }
}

/* mix becomes pre in its first n; post and comb are for fs_hc_post. */
static void coefficients(const struct hc_job *job, float *mix, float *post, float *comb)
{
    const fs_config *c = job->net->config;
    const fs_rows_kernels *rows = &job->net->kernels->rows;
    size_t n = c->hc_mult, n_mix = job->norm ? n * (2 + n) : n;
    float eps = (float)c->hc_eps;

    for (size_t i = 0; i < n_mix; i++)
        mix[i] = mix[i] * job->hc->scale[i < n ? 0 : i < 2 * n ? 1 : 2] + job->hc->base[i];
    rows->sigmoid(mix, mix, n);
    for (size_t i = 0; i < n; i++)
        mix[i] = mix[i] + eps;
    if (!job->norm)
        return;
    rows->sigmoid(mix + n, post, n);
    for (size_t i = 0; i < n; i++)
        post[i] = 2 * post[i];
    for (size_t j = 0; j < n; j++)
        rows->softmax(mix + (2 + j) * n, comb + j * n, n);
    for (size_t i = 0; i < n * n; i++)
        comb[i] = comb[i] + eps;
    sinkhorn(c, comb);
}

static void collapse_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct hc_job *job = ud;
    const fs_config *c = job->net->config;
    const fs_rows_kernels *rows = &job->net->kernels->rows;
    fs_v4_workspace *v = &job->ws->v4;
    size_t n = c->hc_mult, d = c->hidden_size, n_mix = job->norm ? n * (2 + n) : n;

    (void)thread;
    for (size_t t = begin; t < end; t++) {
        const float *x = v->streams + t * n * d;
        float *mix = v->mix + t * n_mix, *y = (job->norm ? job->ws->h : job->ws->x) + t * d;
        coefficients(job, mix, v->post + t * n, v->comb + t * n * n);
        memset(y, 0, d * sizeof *y);
        for (size_t j = 0; j < n; j++)
            rows->axpy(mix[j], x + j * d, y, d);
        if (job->norm)
            rows->rmsnorm(y, job->norm, (float)c->rms_norm_eps, y, d);
    }
}

static void collapse(struct hc_job *job)
{
    fs_network *net = job->net;
    fs_workspace *ws = job->ws;
    const fs_config *c = net->config;
    size_t m = ws->n_tokens, n = c->hc_mult, width = n * c->hidden_size;

    fs_pool_for(net->pool, m, fs_row_grain(net, m), flatten_piece, job);
    fs_linear_run(net, ws, &job->hc->fn, ws->v4.flat, width, m, ws->v4.mix, job->norm ? n * (2 + n) : n);
    fs_pool_for(net->pool, m, fs_row_grain(net, m), collapse_piece, job);
}

void fs_hc_pre(fs_network *net, fs_workspace *ws, const fs_hc *hc, const float *norm)
{
    struct hc_job job = { net, ws, hc, norm };
    collapse(&job);
}

void fs_hc_head(fs_network *net, fs_workspace *ws, const fs_hc *hc)
{
    struct hc_job job = { net, ws, hc, NULL };
    collapse(&job);
}

static void post_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct hc_job *job = ud;
    const fs_rows_kernels *rows = &job->net->kernels->rows;
    fs_v4_workspace *v = &job->ws->v4;
    size_t n = job->net->config->hc_mult, d = job->net->config->hidden_size;
    float *next = fs_v4_scratch(job->ws, thread);

    for (size_t t = begin; t < end; t++) {
        float *x = v->streams + t * n * d;
        memset(next, 0, n * d * sizeof *next);
        for (size_t k = 0; k < n; k++) {
            for (size_t j = 0; j < n; j++)
                rows->axpy(v->comb[(t * n + j) * n + k], x + j * d, next + k * d, d);
            rows->axpy(v->post[t * n + k], job->ws->y + t * d, next + k * d, d);
        }
        memcpy(x, next, n * d * sizeof *x);
    }
}

void fs_hc_post(fs_network *net, fs_workspace *ws)
{
    struct hc_job job = { net, ws, NULL, NULL };
    fs_pool_for(net->pool, ws->n_tokens, fs_row_grain(net, ws->n_tokens), post_piece, &job);
}
