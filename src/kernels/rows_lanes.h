/* The row operations over sixteen lanes, included by rows_avx2.c, rows_avx512.c and rows_neon.c after they have
 * named their instruction set (lanes.h) and FS_ROWS_NAME. Each equals rows_ref.c to the bit: lane j of a register
 * set is lane j of order B, elementwise operations do the same IEEE operations, and a tail runs with its other
 * lanes at +0, their results dropped. */
#include "kernels/lanes.h"
#include "kernels/rows_isa.h"

#include <assert.h>
#include <math.h>

static float sum(const float *x, size_t n)
{
    lanes s = lanes_set1(0.0f);
    size_t i = 0;

    for (; n - i >= LANES; i += LANES)
        s = lanes_add(s, lanes_load(x + i));
    if (i < n)
        s = lanes_add(s, lanes_load_n(x + i, n - i));
    return lanes_fold(s);
}

static float sumsq(const float *x, size_t n)
{
    lanes s = lanes_set1(0.0f), v;
    size_t i = 0;

    for (; n - i >= LANES; i += LANES) {
        v = lanes_load(x + i);
        s = lanes_fma(v, v, s);
    }
    if (i < n) {
        v = lanes_load_n(x + i, n - i);
        s = lanes_fma(v, v, s);
    }
    return lanes_fold(s);
}

/* Every lane starts at x[0], so a lane is NaN only when x[0] is, as in the scalar chain. */
static float max(const float *x, size_t n)
{
    float m;
    size_t i = 0;

    assert(n > 0);
    m = x[0];
    if (n >= LANES) {
        float lane[LANES];
        lanes v = lanes_set1(m);

        for (; n - i >= LANES; i += LANES)
            v = lanes_max(lanes_load(x + i), v);
        lanes_store(lane, v);
        for (int j = 0; j < LANES; j++)
            m = lane[j] > m ? lane[j] : m;
    }
    for (; i < n; i++)
        m = x[i] > m ? x[i] : m;
    return m + 0.0f;
}

static size_t argmax(const float *x, size_t n)
{
    float m = max(x, n);
    lanes v = lanes_set1(m);
    size_t i = 0;

    while (n - i >= LANES && !lanes_any_equal(lanes_load(x + i), v))
        i += LANES;
    for (; i < n; i++)
        if (x[i] == m)
            return i;
    return 0; /* x[0] is NaN */
}

/* y = f(x) by f_lanes, tail included. */
#define MAP(name, f_lanes)                                              \
    static void name(const float *x, float *y, size_t n)                \
    {                                                                   \
        size_t i = 0;                                                   \
                                                                        \
        for (; n - i >= LANES; i += LANES)                              \
            lanes_store(y + i, f_lanes(lanes_load(x + i)));             \
        if (i < n)                                                      \
            lanes_store_n(y + i, f_lanes(lanes_load_n(x + i, n - i)), n - i); \
    }

static inline lanes one_plus_exp_neg(lanes x)
{
    return lanes_add(lanes_set1(1.0f), lanes_exp(lanes_neg(x)));
}

static inline lanes sigmoid_lanes(lanes x)
{
    return lanes_div(lanes_set1(1.0f), one_plus_exp_neg(x));
}

static inline lanes silu_lanes(lanes x)
{
    return lanes_div(x, one_plus_exp_neg(x));
}

MAP(exp_row, lanes_exp)
MAP(sigmoid, sigmoid_lanes)
MAP(silu, silu_lanes)

static void swiglu(const float *g, const float *u, float *y, size_t n)
{
    size_t i = 0;

    for (; n - i >= LANES; i += LANES)
        lanes_store(y + i, lanes_mul(silu_lanes(lanes_load(g + i)), lanes_load(u + i)));
    if (i < n)
        lanes_store_n(y + i, lanes_mul(silu_lanes(lanes_load_n(g + i, n - i)), lanes_load_n(u + i, n - i)), n - i);
}

static void add(const float *a, const float *b, float *y, size_t n)
{
    size_t i = 0;

    for (; n - i >= LANES; i += LANES)
        lanes_store(y + i, lanes_add(lanes_load(a + i), lanes_load(b + i)));
    if (i < n)
        lanes_store_n(y + i, lanes_add(lanes_load_n(a + i, n - i), lanes_load_n(b + i, n - i)), n - i);
}

static void axpy(float w, const float *x, float *y, size_t n)
{
    lanes v = lanes_set1(w);
    size_t i = 0;

    for (; n - i >= LANES; i += LANES)
        lanes_store(y + i, lanes_fma(v, lanes_load(x + i), lanes_load(y + i)));
    if (i < n)
        lanes_store_n(y + i, lanes_fma(v, lanes_load_n(x + i, n - i), lanes_load_n(y + i, n - i)), n - i);
}

static void scale(float w, const float *x, float *y, size_t n)
{
    lanes v = lanes_set1(w);
    size_t i = 0;

    for (; n - i >= LANES; i += LANES)
        lanes_store(y + i, lanes_mul(v, lanes_load(x + i)));
    if (i < n)
        lanes_store_n(y + i, lanes_mul(v, lanes_load_n(x + i, n - i)), n - i);
}

static void rmsnorm(const float *x, const float *w, float eps, float *y, size_t n)
{
    float r = 1.0f / sqrtf(sumsq(x, n) / (float)n + eps);
    lanes v = lanes_set1(r);
    size_t i = 0;

    if (!w) {
        scale(r, x, y, n);
        return;
    }
    for (; n - i >= LANES; i += LANES)
        lanes_store(y + i, lanes_mul(lanes_mul(lanes_load(x + i), v), lanes_load(w + i)));
    if (i < n)
        lanes_store_n(y + i, lanes_mul(lanes_mul(lanes_load_n(x + i, n - i), v), lanes_load_n(w + i, n - i)), n - i);
}

static void softmax(const float *x, float *y, size_t n)
{
    lanes m = lanes_set1(max(x, n)), s = lanes_set1(0.0f), l, p;
    size_t i = 0;

    for (; n - i >= LANES; i += LANES) {
        p = lanes_exp(lanes_sub(lanes_load(x + i), m));
        lanes_store(y + i, p);
        s = lanes_add(s, p);
    }
    if (i < n) {
        lanes_store_n(y + i, lanes_exp(lanes_sub(lanes_load_n(x + i, n - i), m)), n - i);
        s = lanes_add(s, lanes_load_n(y + i, n - i)); /* read back, so that the other lanes are +0 */
    }
    l = lanes_set1(lanes_fold(s));
    for (i = 0; n - i >= LANES; i += LANES)
        lanes_store(y + i, lanes_div(lanes_load(y + i), l));
    if (i < n)
        lanes_store_n(y + i, lanes_div(lanes_load_n(y + i, n - i), l), n - i);
}

static inline void rotate_lanes(lanes *a, lanes *b, lanes c, lanes s)
{
    lanes a0 = *a, b0 = *b;

    *a = lanes_sub(lanes_mul(a0, c), lanes_mul(b0, s));
    *b = lanes_add(lanes_mul(b0, c), lanes_mul(a0, s));
}

static inline void rotate(float *a, float *b, float c, float s)
{
    float a0 = *a, b0 = *b;

    *a = a0 * c - b0 * s;
    *b = b0 * c + a0 * s;
}

static void rope_half(float *x, const float *cs, size_t d)
{
    size_t i = 0, half = d / 2;

    for (; half - i >= LANES; i += LANES) {
        lanes c, s, a = lanes_load(x + i), b = lanes_load(x + half + i);

        lanes_load_pairs(cs + 2 * i, &c, &s);
        rotate_lanes(&a, &b, c, s);
        lanes_store(x + i, a);
        lanes_store(x + half + i, b);
    }
    for (; i < half; i++)
        rotate(&x[i], &x[half + i], cs[2 * i], cs[2 * i + 1]);
}

static void rope_interleaved(float *x, const float *cs, size_t d)
{
    size_t i = 0, half = d / 2;

    for (; half - i >= LANES; i += LANES) {
        lanes c, s, a, b;

        lanes_load_pairs(cs + 2 * i, &c, &s);
        lanes_load_pairs(x + 2 * i, &a, &b);
        rotate_lanes(&a, &b, c, s);
        lanes_store_pairs(x + 2 * i, a, b);
    }
    for (; i < half; i++)
        rotate(&x[2 * i], &x[2 * i + 1], cs[2 * i], cs[2 * i + 1]);
}

static size_t find_nan(const float *x, size_t n)
{
    size_t i = 0;

    while (n - i >= LANES && !lanes_any_nan(lanes_load(x + i)))
        i += LANES;
    for (; i < n; i++)
        if (x[i] != x[i])
            return i + 1;
    return 0;
}

const fs_rows_kernels FS_ROWS_NAME = {
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
