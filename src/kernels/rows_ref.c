/* The row operations of RN1 in plain C: the definition that the vector files equal to the bit. */
#include "kernels/math.h"
#include "kernels/rows_isa.h"

#include <assert.h>
#include <math.h>

#define LANES 16

static float fold(float lane[LANES])
{
    for (int s = LANES / 2; s > 0; s /= 2)
        for (int j = 0; j < s; j++)
            lane[j] += lane[j + s];
    return lane[0];
}

/* A lane starts at +0 and so is never -0: padding the tail with +0 changes nothing and is left out. */
static float sum(const float *x, size_t n)
{
    float lane[LANES] = { 0 };

    for (size_t i = 0; i < n; i++)
        lane[i % LANES] += x[i];
    return fold(lane);
}

static float sumsq(const float *x, size_t n)
{
    float lane[LANES] = { 0 };

    for (size_t i = 0; i < n; i++)
        lane[i % LANES] = fmaf(x[i], x[i], lane[i % LANES]);
    return fold(lane);
}

static float max(const float *x, size_t n)
{
    float m;

    assert(n > 0);
    m = x[0];
    for (size_t i = 1; i < n; i++)
        m = x[i] > m ? x[i] : m;
    return m + 0.0f;
}

static size_t argmax(const float *x, size_t n)
{
    size_t best = 0;

    assert(n > 0);
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

static void exp_row(const float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = fs_expf(x[i]);
}

static void sigmoid(const float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = 1.0f / (1.0f + fs_expf(-x[i]));
}

static float silu_1(float x)
{
    return x / (1.0f + fs_expf(-x));
}

static void silu(const float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = silu_1(x[i]);
}

static void swiglu(const float *g, const float *u, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = silu_1(g[i]) * u[i];
}

static void add(const float *a, const float *b, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

static void axpy(float w, const float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = fmaf(w, x[i], y[i]);
}

static void scale(float w, const float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = w * x[i];
}

static void rmsnorm(const float *x, const float *w, float eps, float *y, size_t n)
{
    float r = 1.0f / sqrtf(sumsq(x, n) / (float)n + eps);

    for (size_t i = 0; i < n; i++) {
        float v = x[i] * r;
        y[i] = w ? v * w[i] : v;
    }
}

static void softmax(const float *x, float *y, size_t n)
{
    float m = max(x, n), l;

    for (size_t i = 0; i < n; i++)
        y[i] = fs_expf(x[i] - m);
    l = sum(y, n);
    for (size_t i = 0; i < n; i++)
        y[i] /= l;
}

static void rotate(float *a, float *b, float c, float s)
{
    float a0 = *a, b0 = *b;

    *a = a0 * c - b0 * s;
    *b = b0 * c + a0 * s;
}

static void rope_half(float *x, const float *cs, size_t d)
{
    for (size_t i = 0; i < d / 2; i++)
        rotate(&x[i], &x[i + d / 2], cs[2 * i], cs[2 * i + 1]);
}

static void rope_interleaved(float *x, const float *cs, size_t d)
{
    for (size_t i = 0; i < d / 2; i++)
        rotate(&x[2 * i], &x[2 * i + 1], cs[2 * i], cs[2 * i + 1]);
}

static size_t find_nan(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (x[i] != x[i])
            return i + 1;
    return 0;
}

const fs_rows_kernels fs_rows_ref = {
    .sum = sum,
    .sumsq = sumsq,
    .max = max,
    .argmax = argmax,
    .exp = exp_row,
    .sigmoid = sigmoid,
    .silu = silu,
    .swiglu = swiglu,
    .add = add,
    .axpy = axpy,
    .scale = scale,
    .rmsnorm = rmsnorm,
    .softmax = softmax,
    .rope_half = rope_half,
    .rope_interleaved = rope_interleaved,
    .find_nan = find_nan,
};
