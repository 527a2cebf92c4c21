/* See the header. */
#include "train/distil.h"

#include "base/philox.h"
#include "kernels/math.h"

#define LAMBDA_STREAM 0x676b6420u /* "gkd " */

/* The cross entropy and, where c is not 0, its gradient in g. */
static float cross_entropy(const fs_kernels *k, const float *z, size_t n, int32_t target, float c, float *g)
{
    float m = k->rows.max(z, n), of_target = z[target] - m, l = k->grad.exp_sum(z, m, g, n), p = g[target] / l;

    if (c != 0.0f) {
        k->grad.div_scale(g, l, c, g, n);
        g[target] = (p - 1.0f) * c;
    }
    return fs_logf(l) - of_target;
}

/* A distribution: its values, and their logarithms but for a constant. */
typedef struct distribution {
    float *p, *u, log_l;
} distribution;

static distribution distribution_of(const fs_kernels *k, float *z, float *p, float scale, size_t n)
{
    float m, l;

    for (size_t i = 0; i < n; i++)
        z[i] = z[i] * scale;
    m = k->rows.max(z, n);
    l = k->grad.exp_sum(z, m, p, n);
    k->grad.div_scale(p, l, 1.0f, p, n);
    for (size_t i = 0; i < n; i++)
        z[i] = z[i] - m;
    return (distribution){ p, z, fs_logf(l) };
}

static float log_of(const distribution *d, size_t i)
{
    return d->u[i] - d->log_l;
}

/* Each returns the divergence; the gradient by the student's logits takes the place of s->u. */

static float forward(distribution *s, const distribution *t, float k, size_t n)
{
    double d = 0;

    for (size_t i = 0; i < n; i++) {
        if (t->p[i] != 0.0f)
            d += (double)t->p[i] * ((double)log_of(t, i) - (double)log_of(s, i));
        s->u[i] = k * (s->p[i] - t->p[i]);
    }
    return (float)d;
}

static float reverse(distribution *s, const distribution *t, float k, size_t n)
{
    double sum = 0;
    float d;

    for (size_t i = 0; i < n; i++) {
        s->u[i] = s->p[i] != 0.0f ? log_of(s, i) - log_of(t, i) : 0.0f;
        sum += (double)s->p[i] * (double)s->u[i];
    }
    d = (float)sum;
    for (size_t i = 0; i < n; i++)
        s->u[i] = k * s->p[i] * (s->u[i] - d);
    return d;
}

static float between(distribution *s, const distribution *t, double beta, float k, size_t n)
{
    float of_t = (float)beta, of_s = (float)(1 - beta), by = k * of_s, d;
    double sum_t = 0, sum_s = 0;

    for (size_t i = 0; i < n; i++) {
        float m = of_t * t->p[i] + of_s * s->p[i], log_m = m > 0.0f ? fs_logf(m) : 0.0f;
        s->u[i] = s->p[i] != 0.0f ? log_of(s, i) - log_m : 0.0f;
        sum_s += (double)s->p[i] * (double)s->u[i];
        if (t->p[i] != 0.0f)
            sum_t += (double)t->p[i] * ((double)log_of(t, i) - (double)log_m);
    }
    d = (float)sum_s;
    for (size_t i = 0; i < n; i++)
        s->u[i] = by * s->p[i] * (s->u[i] - d);
    return (float)(beta * sum_t + (1 - beta) * sum_s);
}

float fs_distil_row(const fs_distil_options *o, const fs_kernels *k, float *z, float *q, size_t n, int32_t target, float c, float *scratch, float *ret_nll)
{
    float *ce = scratch + 2 * n, rest = c * (float)(1 - o->weight), by = c * (float)o->weight / (float)o->temperature, scale = (float)(1 / o->temperature), d;
    distribution s, t;

    *ret_nll = cross_entropy(k, z, n, target, rest, ce);
    s = distribution_of(k, z, scratch, scale, n);
    t = distribution_of(k, q, scratch + n, scale, n);
    d = o->beta == 0 ? forward(&s, &t, by, n) : o->beta == 1 ? reverse(&s, &t, by, n) : between(&s, &t, o->beta, by, n);
    for (size_t i = 0; i < n && rest != 0.0f; i++)
        z[i] = z[i] + ce[i];
    return d;
}

bool fs_distil_samples(double lambda, uint64_t seed, uint64_t step)
{
    fs_random r;

    fs_random_init(&r, seed, LAMBDA_STREAM, step);
    return fs_random_unit(&r) < lambda;
}
