/* SwiGLU feed-forward. */
#include "train/internal.h"

struct ffn_job {
    fs_trainer *t;
    const float *gate, *up;
    size_t n; /* floats of a row */
    bool back;
};

static void swiglu_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct ffn_job *job = ud;
    fs_trainer *t = job->t;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        size_t at = i * job->n;
        if (job->back)
            t->kernels->grad.swiglu(job->gate + at, job->up + at, t->d_gate + at, t->d_gate + at, t->d_up + at, job->n);
        else
            t->kernels->rows.swiglu(job->gate + at, job->up + at, t->mid + at, job->n);
    }
}

static void swiglu(fs_trainer *t, const float *gate, const float *up, size_t n, bool back)
{
    struct ffn_job job = { t, gate, up, n, back };

    fs_pool_for(t->pool, t->n_tokens, fs_train_row_grain(t, t->n_tokens), swiglu_piece, &job);
}

void fs_ffn_again(fs_trainer *t, const fs_lin_ffn *f, float *gate, float *up)
{
    size_t d = t->config->hidden_size, m = t->n_tokens, n = f->gate.w.n;

    fs_lin_forward(t, &f->gate, t->h, d, m, gate, n);
    fs_lin_forward(t, &f->up, t->h, d, m, up, n);
}

void fs_ffn_forward(fs_trainer *t, const fs_lin_ffn *f, float *gate, float *up, float *y)
{
    size_t d = t->config->hidden_size, m = t->n_tokens, n = f->gate.w.n;

    fs_ffn_again(t, f, gate, up);
    swiglu(t, gate, up, n, false);
    fs_lin_forward(t, &f->down, t->mid, n, m, y, d);
}

void fs_ffn_backward(fs_trainer *t, const fs_lin_ffn *f, const float *gate, const float *up, const float *dy, bool add)
{
    size_t d = t->config->hidden_size, m = t->n_tokens, n = f->gate.w.n;

    swiglu(t, gate, up, n, false);
    fs_lin_grad(t, &f->down, dy, d, t->mid, n, false);
    fs_lin_back(t, &f->down, dy, d, m, t->d_gate, n, false);
    swiglu(t, gate, up, n, true);
    fs_lin_grad(t, &f->gate, t->d_gate, n, t->h, d, false);
    fs_lin_grad(t, &f->up, t->d_up, n, t->h, d, true);
    fs_lin_back(t, &f->gate, t->d_gate, n, m, t->dh, d, add);
    fs_lin_back(t, &f->up, t->d_up, n, m, t->dh, d, true);
}
