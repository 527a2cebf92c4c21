/* See the header. */
#include "train/policy.h"

#include "kernels/math.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static const char *const names[FS_POLICY_END] = { "grpo", "bnpo", "dr_grpo", "dapo", "gspo", "cispo" };

bool fs_policy_kind_of(const char *name, fs_policy_kind *ret)
{
    for (int k = 0; k < FS_POLICY_END; k++)
        if (strcmp(name, names[k]) == 0) {
            *ret = (fs_policy_kind)k;
            return true;
        }
    return false;
}

const char *fs_policy_name(fs_policy_kind k)
{
    return names[k];
}

typedef struct summing {
    const fs_policy_options *o;
    const fs_policy_batch *b;
    fs_policy_result *ret;
    float *gradient;
    double n_low, n_high, n_ratios, kl, ratios;
} summing;

static bool counts(const fs_policy_batch *b, size_t t)
{
    return !b->mask || b->mask[t];
}

static size_t count_tokens(const fs_policy_batch *b, size_t row)
{
    size_t n = 0;

    for (size_t t = b->begin[row]; t < b->begin[row + 1]; t++)
        n += counts(b, t);
    return n;
}

/* What a token's loss is divided by. A completion or step of which nothing counts is divided by 1. */
static double divisor(const summing *s, size_t row_tokens)
{
    double n_rows = (double)s->b->n_rows, tokens = s->ret->n_tokens ? (double)s->ret->n_tokens : 1;

    switch (s->o->kind) {
    case FS_POLICY_GRPO:
    case FS_POLICY_GSPO:
        return n_rows * (row_tokens ? (double)row_tokens : 1);
    case FS_POLICY_DR_GRPO:
        return n_rows * (double)s->o->max_tokens;
    default:
        return tokens;
    }
}

/* The clipped objective of a ratio: its loss and d loss / d ratio. Where both sides of the minimum are equal each gives
 * half of its slope. */
static double clipped(summing *s, double r, double a, double *ret_slope)
{
    const fs_policy_options *o = s->o;
    double low = 1 - o->epsilon_low, high = 1 + o->epsilon_high;
    double bounded = o->delta > 0 && r > o->delta ? o->delta : r, inside = r < low ? low : r > high ? high : r;
    double one = bounded * a, two = inside * a, slope_one = bounded == r ? a : 0, slope_two = inside == r ? a : 0;

    s->n_low += r < low && a < 0;
    s->n_high += r > high && a > 0;
    *ret_slope = one < two ? -slope_one : two < one ? -slope_two : -(0.5 * slope_one + 0.5 * slope_two);
    return -(one < two ? one : two);
}

static double capped(summing *s, double r, double a, double logp, double *ret_slope_logp)
{
    double factor = r > s->o->epsilon_high ? s->o->epsilon_high : r;

    s->n_high += r > s->o->epsilon_high && a > 0;
    *ret_slope_logp = -factor * a;
    return -factor * a * logp;
}

static void see_ratio(summing *s, double r)
{
    if (s->n_ratios == 0 || r < s->ret->min_ratio)
        s->ret->min_ratio = r;
    if (s->n_ratios == 0 || r > s->ret->max_ratio)
        s->ret->max_ratio = r;
    s->ratios += r;
    s->n_ratios++;
}

/* The divergence k of a token; *ret_loss is beta k, times r where it is unbiased, with its slopes by logp and by the ratio. */
static double divergence(const summing *s, size_t t, double r, double *ret_loss, double *ret_slope_logp, double *ret_slope_ratio)
{
    double d, e, k, factor = s->o->kl_unbiased ? r : 1;

    *ret_loss = *ret_slope_logp = *ret_slope_ratio = 0;
    if (s->o->beta == 0)
        return 0;
    d = (double)s->b->reference[t] - s->b->logp[t];
    e = fs_exp64(d);
    k = e - d - 1;
    *ret_loss = s->o->beta * factor * k;
    *ret_slope_logp = s->o->beta * factor * (1 - e);
    *ret_slope_ratio = s->o->kl_unbiased ? s->o->beta * k : 0;
    return k;
}

static bool is_off_policy(summing *s, size_t row, size_t n)
{
    const fs_policy_batch *b = s->b;
    double sum = 0;
    bool off;

    if (s->o->off_policy == 0 || n == 0 || b->advantages[row] >= 0)
        return false;
    for (size_t t = b->begin[row]; t < b->begin[row + 1]; t++)
        if (counts(b, t))
            sum += (double)b->old[t] - b->logp[t];
    off = sum / (double)n > s->o->off_policy;
    s->ret->off_policy += off ? 1 / (double)b->n_rows : 0;
    return off;
}

static fs_status token_by_token(summing *s, size_t row, double *ret_sum, fs_error *err)
{
    const fs_policy_batch *b = s->b;
    size_t n = count_tokens(b, row);
    double per = 1 / divisor(s, n), a = b->advantages[row];
    bool off = is_off_policy(s, row, n);

    for (size_t t = b->begin[row]; t < b->begin[row + 1]; t++) {
        double r, loss, kl_loss, kl_slope, kl_slope_ratio, slope_ratio = 0, slope_logp = 0;
        if (!counts(b, t))
            continue;
        r = fs_exp64((double)b->logp[t] - b->old[t]);
        see_ratio(s, r);
        loss = s->o->kind == FS_POLICY_CISPO ? capped(s, r, a, b->logp[t], &slope_logp) : clipped(s, r, a, &slope_ratio);
        if (off)
            loss = slope_logp = slope_ratio = 0;
        s->kl += divergence(s, t, r, &kl_loss, &kl_slope, &kl_slope_ratio);
        *ret_sum += (loss + kl_loss) * per;
        s->gradient[t] = (float)((slope_logp + kl_slope + (slope_ratio + kl_slope_ratio) * r) * per);
        if (!isfinite(loss + kl_loss) || !isfinite(s->gradient[t]))
            return fs_fail(err, FS_ERR_NUMERIC, "policy loss: completion %zu, token %zu: the log-probabilities %g and %g give %g", row,
                           t - b->begin[row], (double)b->logp[t], (double)b->old[t], loss + kl_loss);
    }
    return FS_OK;
}

/* The ratio is every token's, so is its slope: the sum over the tokens, shared by all. */
static fs_status by_sequence(summing *s, size_t row, double *ret_sum, fs_error *err)
{
    const fs_policy_batch *b = s->b;
    size_t n = count_tokens(b, row);
    double per = 1 / divisor(s, n), mean = 0, slopes = 0, r, loss, slope, kl_loss, kl_slope, kl_slope_ratio;

    if (n == 0)
        return FS_OK;
    for (size_t t = b->begin[row]; t < b->begin[row + 1]; t++)
        if (counts(b, t))
            mean += (double)b->logp[t] - b->old[t];
    r = fs_exp64(mean / (double)n);
    see_ratio(s, r);
    loss = clipped(s, r, b->advantages[row], &slope);
    if (is_off_policy(s, row, n))
        loss = slope = 0;
    for (size_t t = b->begin[row]; t < b->begin[row + 1]; t++)
        if (counts(b, t)) {
            s->kl += divergence(s, t, r, &kl_loss, &kl_slope, &kl_slope_ratio);
            *ret_sum += (loss + kl_loss) * per;
            slopes += slope + kl_slope_ratio;
        }
    for (size_t t = b->begin[row]; t < b->begin[row + 1]; t++)
        if (counts(b, t)) {
            divergence(s, t, r, &kl_loss, &kl_slope, &kl_slope_ratio);
            s->gradient[t] = (float)((kl_slope + slopes * r / (double)n) * per);
        }
    if (!isfinite(*ret_sum) || !isfinite(slopes * r))
        return fs_fail(err, FS_ERR_NUMERIC, "policy loss: completion %zu has the ratio %g and gives %g", row, r, *ret_sum);
    return FS_OK;
}

fs_status fs_policy_loss(const fs_policy_options *o, const fs_policy_batch *b, fs_policy_result *ret, float *ret_gradient, fs_error *err)
{
    fs_policy_result r = { 0 };
    summing s = { .o = o, .b = b, .ret = &r, .gradient = ret_gradient };
    size_t n = b->begin[b->n_rows];
    fs_status rc = FS_OK;

    assert(o->beta == 0 || b->reference);
    assert(o->kind != FS_POLICY_DR_GRPO || o->max_tokens > 0);
    for (size_t t = 0; t < n; t++)
        ret_gradient[t] = 0;
    for (size_t row = 0; row < b->n_rows; row++)
        r.n_tokens += count_tokens(b, row);
    for (size_t row = 0; row < b->n_rows && !rc; row++)
        rc = o->kind == FS_POLICY_GSPO ? by_sequence(&s, row, &r.loss, err) : token_by_token(&s, row, &r.loss, err);
    if (rc)
        return rc;
    if (s.n_ratios > 0) {
        r.mean_ratio = s.ratios / s.n_ratios;
        r.clipped_low = s.n_low / s.n_ratios;
        r.clipped_high = s.n_high / s.n_ratios;
    }
    r.mean_kl = r.n_tokens ? s.kl / (double)r.n_tokens : 0;
    *ret = r;
    return FS_OK;
}

/* ---- advantages ---- */

/* Standard deviation with n - 1; 0 of one value. */
static double deviation(const double *x, size_t n)
{
    double mean = 0, sum = 0;

    for (size_t i = 0; i < n; i++)
        mean += x[i];
    mean /= (double)n;
    for (size_t i = 0; i < n; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return n > 1 ? sqrt(sum / (double)(n - 1)) : 0;
}

void fs_policy_advantages(const double *rewards, size_t n_groups, size_t n_group, fs_reward_scale scale, double *ret, size_t *ret_n_flat)
{
    double all = deviation(rewards, n_groups * n_group);

    *ret_n_flat = 0;
    for (size_t g = 0; g < n_groups; g++) {
        const double *r = rewards + g * n_group;
        double mean = 0, by = scale == FS_REWARD_SCALE_GROUP ? deviation(r, n_group) + 1e-4 : scale == FS_REWARD_SCALE_BATCH ? all + 1e-4 : 1;
        bool flat = true;
        for (size_t i = 0; i < n_group; i++) {
            mean += r[i];
            flat = flat && r[i] == r[0];
        }
        mean /= (double)n_group;
        *ret_n_flat += flat;
        for (size_t i = 0; i < n_group; i++) /* exactly 0 where all are equal, whatever rounding makes of the mean */
            ret[g * n_group + i] = flat ? 0 : (r[i] - mean) / by;
    }
}
