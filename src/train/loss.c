/* Cross entropy: logits of 256 tokens at a time, which become their own gradient, are multiplied into dX and dW at once, and
 * never stand for the whole micro-batch.
 *
 * A token with a target: M = max, L = order B of exp(z - M); nll = fl(log(L) - fl(z_target - M));
 * dz = fl(fl(exp / L) * c), of the target fl(fl(fl(exp / L) - 1) * c), c = the loss's weight / targets of the step, rounded once,
 * or what the sequence says. */
#include "train/internal.h"

#include "kernels/math.h"

#include <inttypes.h>
#include <string.h>

struct loss_job {
    fs_trainer *t;
    const int32_t *targets; /* of the first row */
    float *nll;
    const float *coefficients; /* of the first row; NULL: c */
    float c;
    bool backward;
    float *soft; /* the teacher's logits, as the trainer's own; NULL: none */
    float *divergences;
};

/* A token whose distribution is learnt. */
static void soft_row(const struct loss_job *job, size_t i, float c, int thread)
{
    const fs_distilling *d = job->t->distil;
    size_t v = job->t->config->vocab_size;

    job->divergences[i] = fs_distil_row(&d->options, job->t->kernels, job->t->logits + i * v, job->soft + i * v, v, job->targets[i], c,
                                        d->scratch + (size_t)thread * 3 * v, &job->nll[i]);
}

static void rows_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct loss_job *job = ud;
    const fs_kernels *k = job->t->kernels;
    size_t v = job->t->config->vocab_size;

    for (size_t i = begin; i < end; i++) {
        float *z = job->t->logits + i * v, m, l, of_target, p, c = job->coefficients ? job->coefficients[i] : job->c;
        int32_t target = job->targets[i];
        if (target < 0) {
            job->nll[i] = 0.0f;
            if (job->soft)
                job->divergences[i] = 0.0f;
            memset(z, 0, v * sizeof *z);
            continue;
        }
        if (job->soft) {
            soft_row(job, i, c, thread);
            continue;
        }
        m = k->rows.max(z, v);
        of_target = z[target] - m;
        l = k->grad.exp_sum(z, m, z, v);
        job->nll[i] = fs_logf(l) - of_target;
        if (!job->backward)
            continue;
        p = z[target] / l;
        k->grad.div_scale(z, l, c, z, v);
        z[target] = (p - 1.0f) * c;
    }
}

/* Order B per aligned 256 token indices, the partial sums in a binary64 chain. */
static double sum_by_index(const fs_trainer *t, const float *nll, double sum)
{
    for (uint32_t c = 0; c < t->chains.n; c++) {
        float block[FS_CHAIN_TOKENS] = { 0 };
        for (uint32_t i = t->chains.at[c]; i < t->chains.at[c + 1]; i++)
            block[t->index[i] % FS_CHAIN_TOKENS] = nll[i];
        sum += (double)t->kernels->rows.sum(block, FS_CHAIN_TOKENS);
    }
    return sum;
}

fs_status fs_loss(fs_trainer *t, const float *h, const int32_t *targets, const float *coefficients, float coefficient, float *nll, double *sum, float *d_h,
                  float *head_grad, fs_error *err)
{
    fs_distilling *soft = t->distil && d_h && targets == t->targets ? t->distil : NULL;
    size_t d = t->config->hidden_size, v = t->config->vocab_size, nan;
    fs_status rc;

    for (uint32_t c = 0; c < t->chains.n; c++) {
        uint32_t row = t->chains.at[c], m = t->chains.at[c + 1] - row, own[2] = { 0, m };
        fs_chains one = { own, 1 };
        struct loss_job job = { t, targets + row, nll + row, coefficients ? coefficients + row : NULL, coefficient, d_h != NULL, soft ? soft->logits : NULL,
                                soft ? soft->divergences + row : NULL };
        if (soft && (rc = fs_teacher_logits(soft->teacher, t, row, m, soft->logits, err)))
            return rc;
        fs_lin_forward(t, &t->head, h + row * d, d, m, t->logits, v);
        fs_pool_for(t->pool, m, 1, rows_piece, &job);
        if (!d_h)
            continue;
        fs_outer(t, head_grad, t->head.w.pairs, t->logits, v, v, h + row * d, d, d, &one, false);
        if (t->head.low.r)
            fs_low_rank_grad(t, &t->head.low, t->logits, v, h + row * d, d, &one, true);
        fs_lin_back(t, &t->head, t->logits, v, m, d_h + row * d, d, false);
    }
    nan = t->kernels->rows.find_nan(nll, t->n_tokens);
    if (nan)
        return fs_fail(err, FS_ERR_NUMERIC, "the loss of token %" PRIu64 " of the step is a NaN", t->index[nan - 1]);
    *sum = sum_by_index(t, nll, *sum);
    if (soft)
        soft->sum = sum_by_index(t, soft->divergences, soft->sum);
    return FS_OK;
}
