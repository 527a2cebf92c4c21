/* Cross entropy: logits of 256 tokens at a time, which become their own gradient, are multiplied into dX and dW at once, and
 * never stand for the whole micro-batch. Two neighbours without targets, as in a prompt, take no part: their gradients are zeros, which
 * no chain of sums feels, and the other pairs of class RN1-bf16 stay pairs.
 *
 * A token with a target: M = max, L = order B of exp(z - M); nll = fl(log(L) - fl(z_target - M));
 * dz = fl(fl(exp / L) * c), of the target fl(fl(fl(exp / L) - 1) * c), c = the loss's weight / targets of the step, rounded once,
 * or what the sequence says. */
#include "train/internal.h"

#include "kernels/math.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
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

/* ---- a loss that is not finite: what made it so, as far as it still stands ---- */
static bool rows_are_finite(const fs_trainer *t, const float *x, uint32_t begin, uint32_t end)
{
    size_t d = t->config->hidden_size;

    return fs_find_not_finite(x + begin * d, (end - begin) * d) == 0;
}

/* The output of layer i is out. With recompute the place of its x_mid may be another's. */
static bool name_layer(const fs_trainer *t, uint32_t i, const float *out, uint32_t begin, uint32_t end, char ret[64])
{
    const fs_train_layer *l = &t->layers[i];
    bool stands = !t->options.recompute || t->made == l;

    if (rows_are_finite(t, out, begin, end))
        return false;
    snprintf(ret, 64, "model.layers.%" PRIu32 "%s", i, !stands ? "" : rows_are_finite(t, l->kept.x_mid, begin, end) ? ".mlp" : ".self_attn");
    return true;
}

/* What the first value that is not finite came out of, of tokens [begin, end) on their way to h, whose last has the loss; NULL: nothing. */
static const char *name_activation(fs_trainer *t, const float *h, uint32_t begin, uint32_t end, char room[64])
{
    uint32_t n = t->config->num_hidden_layers;
    size_t d = t->config->hidden_size, v = t->config->vocab_size;

    for (uint32_t i = 0; i < n; i++)
        if (name_layer(t, i, i + 1 < n ? t->layers[i + 1].kept.x : t->final_x, begin, end, room))
            return room;
    if (!rows_are_finite(t, t->final_h, begin, end))
        return t->norm->name;
    if (h != t->final_h) {
        if (!rows_are_finite(t, t->layers[n].kept.x, begin, end))
            return t->eh_proj.w.p->name;
        if (name_layer(t, n, t->dx, begin, end, room))
            return room;
        if (!rows_are_finite(t, h, begin, end))
            return t->mtp_norm->name;
    }
    fs_lin_forward(t, &t->head, h + (end - 1) * d, d, 1, t->logits, v);
    return fs_find_not_finite(t->logits, v) ? t->head.w.p->name : NULL;
}

/* Why the token's loss is not finite. */
static void name_cause(fs_trainer *t, const float *h, uint32_t token, bool of_teacher, fs_error *err)
{
    size_t at;
    const fs_param *weight = fs_params_find_not_finite(t->params, &at);
    const char *activation;
    char room[64];

    if (weight) {
        fs_fail(err, FS_ERR_NUMERIC, "the weight '%s' holds %s at row %zu, column %zu", weight->name, fs_not_finite_word(weight->w[at]), at / weight->cols,
                at % weight->cols);
        return;
    }
    activation = name_activation(t, h, t->spans[t->span_of[token]].token0, token + 1, room);
    if (activation)
        fs_fail(err, FS_ERR_NUMERIC, "the weights are finite, what comes out of '%s' is not", activation);
    else
        fs_fail(err, FS_ERR_NUMERIC, "the logits of '%s' are finite, but too far apart%s", t->head.w.p->name, of_teacher ? ", or the teacher's are not" : "");
}

/* x [T]: the losses, or the divergences from the teacher. Of finite ones that cannot be added up the largest is named. */
static fs_status not_finite(fs_trainer *t, const float *h, const float *x, fs_error *err)
{
    bool of_teacher = t->distil && x == t->distil->divergences;
    const char *what = of_teacher ? "divergence" : h == t->final_h ? "loss" : "MTP loss";
    size_t found = fs_find_not_finite(x, t->n_tokens);
    uint32_t at = found ? (uint32_t)found - 1 : 0;

    for (uint32_t i = 1; i < t->n_tokens && !found; i++)
        at = x[i] > x[at] ? i : at;
    name_cause(t, h, at, of_teacher, err);
    if (found)
        fs_fail_prefix(err, "the %s of token %" PRIu64 " of the step is %s", what, t->index[at], fs_not_finite_word(x[at]));
    else
        fs_fail_prefix(err, "the %s of token %" PRIu64 " of the step is %g, too much to be added up", what, t->index[at], (double)x[at]);
    return FS_ERR_NUMERIC;
}

/* ---- which rows ---- */
/* The rows of a chain that take part, in order: those of pairs with a target. */
struct taking {
    uint32_t rows[FS_CHAIN_TOKENS], n;
    int32_t targets[FS_CHAIN_TOKENS];
    float coefficients[FS_CHAIN_TOKENS], nll[FS_CHAIN_TOKENS];
};

static void find_rows(struct taking *k, const int32_t *targets, const float *coefficients, uint32_t m)
{
    k->n = 0;
    for (uint32_t i = 0; i < m; i++) {
        uint32_t other = i ^ 1;
        if (targets[i] < 0 && (other >= m || targets[other] < 0))
            continue;
        k->rows[k->n] = i;
        k->targets[k->n] = targets[i];
        k->coefficients[k->n++] = coefficients ? coefficients[i] : 0;
    }
}

static void gather(const struct taking *k, const float *x, size_t d, float *ret)
{
    for (uint32_t i = 0; i < k->n; i++)
        memcpy(ret + i * d, x + k->rows[i] * d, d * sizeof *ret);
}

static void spread(const struct taking *k, uint32_t m, const float *x, size_t d, float *ret)
{
    for (uint32_t i = 0, at = 0; i < m; i++) {
        bool takes = at < k->n && k->rows[at] == i;
        if (takes)
            memcpy(ret + i * d, x + at++ * d, d * sizeof *ret);
        else
            memset(ret + i * d, 0, d * sizeof *ret);
    }
}

/* Logits of n rows, those of taken (NULL: all) from the micro-batch's row on: of the ones without a target none are needed. */
struct logits_job {
    const fs_trainer *t;
    const uint32_t *taken;
    const int32_t *targets;
    size_t row;
};

static void logits_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct logits_job *job = ud;
    const fs_trainer *t = job->t;
    size_t v = t->config->vocab_size;

    (void)thread;
    for (size_t i = begin; i < end; i++)
        if (job->targets[i] >= 0)
            memcpy(t->logits + i * v, t->brought[job->row + (job->taken ? job->taken[i] : i)] + t->activations->logits, v * sizeof(float));
}

fs_status fs_loss(fs_trainer *t, const float *h, const int32_t *targets, const float *coefficients, float coefficient, float *nll, double *sum, float *d_h,
                  float *head_grad, const fs_low_rank *head_low, fs_error *err)
{
    fs_distilling *soft = t->distil && d_h && targets == t->targets ? t->distil : NULL;
    bool brought = t->brings && t->activations->has_logits && targets == t->targets;
    size_t d = t->config->hidden_size, v = t->config->vocab_size;
    double total, divergence;
    fs_status rc;

    for (uint32_t c = 0; c < t->chains.n; c++) {
        uint32_t row = t->chains.at[c], m = t->chains.at[c + 1] - row, own[2] = { 0, m };
        const float *x = h + row * d;
        float *dx = d_h ? d_h + row * d : NULL;
        fs_chains one = { own, 1 };
        struct loss_job job = { t, targets + row, nll + row, coefficients ? coefficients + row : NULL, coefficient, d_h != NULL, soft ? soft->logits : NULL,
                                soft ? soft->divergences + row : NULL };
        struct logits_job logits = { t, NULL, NULL, row };
        struct taking some;
        if (soft && (rc = fs_teacher_logits(soft->teacher, t, row, m, soft->logits, err)))
            return rc;
        find_rows(&some, job.targets, job.coefficients, m);
        if (!soft && some.n < m) {
            gather(&some, x, d, t->tmp);
            x = t->tmp;
            dx = d_h ? t->y : NULL;
            own[1] = some.n;
            job.targets = some.targets;
            job.coefficients = coefficients ? some.coefficients : NULL;
            job.nll = some.nll;
            logits.taken = some.rows;
        }
        logits.targets = job.targets;
        if (own[1]) {
            if (brought)
                fs_pool_for(t->pool, own[1], fs_train_row_grain(t, own[1]), logits_piece, &logits);
            else
                fs_lin_forward(t, &t->head, x, d, own[1], t->logits, v);
            fs_pool_for(t->pool, own[1], 1, rows_piece, &job);
        }
        if (d_h && own[1]) {
            fs_outer(t, head_grad, t->head.w.pairs, t->logits, v, v, x, d, d, &one, false);
            if (head_low->r)
                fs_low_rank_grad(t, head_low, t->logits, v, x, d, &one, true);
            fs_lin_back(t, &t->head, t->logits, v, own[1], dx, d, false);
        }
        if (job.nll == some.nll) {
            spread(&some, m, some.nll, 1, nll + row);
            if (d_h)
                spread(&some, m, dx, d, d_h + row * d);
        }
    }
    total = sum_by_index(t, nll, *sum);
    divergence = soft ? sum_by_index(t, soft->divergences, soft->sum) : 0;
    if (!isfinite(total) || !isfinite(divergence))
        return not_finite(t, h, isfinite(total) ? soft->divergences : nll, err);
    *sum = total;
    if (soft)
        soft->sum = divergence;
    return FS_OK;
}
