/* The training kernels in plain C: the definition that the vector files equal to the bit. */
#include "kernels/grad_isa.h"
#include "kernels/math.h"

#include <math.h>

#define LANES 16

static float fold(float lane[LANES])
{
    for (int s = LANES / 2; s > 0; s /= 2)
        for (int j = 0; j < s; j++)
            lane[j] += lane[j + s];
    return lane[0];
}

static float dot(const float *a, const float *b, size_t n)
{
    float lane[LANES] = { 0 };

    for (size_t i = 0; i < n; i++)
        lane[i % LANES] = fmaf(a[i], b[i], lane[i % LANES]);
    return fold(lane);
}

static float exp_sum(const float *x, float m, float *y, size_t n)
{
    float lane[LANES] = { 0 };

    for (size_t i = 0; i < n; i++) {
        y[i] = fs_expf(x[i] - m);
        lane[i % LANES] += y[i];
    }
    return fold(lane);
}

static void div_scale(const float *x, float l, float c, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] / l * c;
}

static float rmsnorm(const float *x, const float *w, float eps, const float *dy, float *dx, float *g, size_t n)
{
    float r = 1.0f / sqrtf(dot(x, x, n) / (float)n + eps), a;

    for (size_t i = 0; i < n; i++)
        g[i] = dy[i] * w[i];
    a = r * r * r * (dot(g, x, n) / (float)n);
    for (size_t i = 0; i < n; i++)
        dx[i] += fmaf(-a, x[i], r * g[i]);
    return r;
}

static void norm_weight(const float *x, size_t ldx, const float *r, const float *dy, size_t lddy, size_t n_t, float *dw, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float s = 0.0f;
        for (size_t t = 0; t < n_t; t++)
            s = fmaf(dy[t * lddy + i], x[t * ldx + i] * r[t], s);
        dw[i] += s;
    }
}

static void bias(const float *dy, size_t lddy, size_t n_t, float *db, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float s = 0.0f;
        for (size_t t = 0; t < n_t; t++)
            s += dy[t * lddy + i];
        db[i] += s;
    }
}

static void swiglu(const float *g, const float *u, const float *dh, float *dg, float *du, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float x = g[i], d = dh[i], e = 1.0f + fs_expf(-x), s = 1.0f / e, slope = s * fmaf(x, 1.0f - s, 1.0f);
        float of_gate = d * u[i] * slope;
        du[i] = d * (x / e);
        dg[i] = of_gate;
    }
}

static void attention(float *s, float *dp, float scale, float m, float l, float d, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float x = scale * s[i];
        s[i] = fs_expf(x - m) / l;
        dp[i] = s[i] * (dp[i] - d);
    }
}

static void adamw(const fs_adamw *c, const float *grad, float *m, float *v, float *w, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float g = c->clip * grad[i], first, second, kept;
        first = c->rest1 * g;
        second = c->rest2 * g * g;
        m[i] = fmaf(c->beta1, m[i], first);
        v[i] = fmaf(c->beta2, v[i], second);
        kept = c->keep * w[i];
        w[i] = fmaf(-c->lr, c->scale1 * m[i] / (sqrtf(c->scale2 * v[i]) + c->eps), kept);
    }
}

const fs_grad_kernels fs_grad_ref = { dot, exp_sum, div_scale, rmsnorm, norm_weight, bias, swiglu, attention, adamw };
