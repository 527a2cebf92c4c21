/* The training kernels over sixteen lanes, included by grad_avx2.c, grad_avx512.c and grad_neon.c after they have named
 * their instruction set (lanes.h) and FS_GRAD_NAME. Each equals grad_ref.c to the bit: every function does the same IEEE
 * operations an element, and a tail runs with its other lanes at +0, their results dropped. */
#include "kernels/grad_isa.h"
#include "kernels/lanes.h"

#include <math.h>

/* Runs STEP(load, store) over whole registers, then over the tail. */
#define EACH_REGISTER(STEP)                         \
    do {                                            \
        size_t i = 0;                               \
        for (; n - i >= LANES; i += LANES) {        \
            STEP(LOAD_ALL, STORE_ALL)               \
        }                                           \
        if (i < n) {                                \
            STEP(LOAD_TAIL, STORE_TAIL)             \
        }                                           \
    } while (0)
#define LOAD_ALL(p)      lanes_load((p) + i)
#define LOAD_TAIL(p)     lanes_load_n((p) + i, n - i)
#define STORE_ALL(p, a)  lanes_store((p) + i, a)
#define STORE_TAIL(p, a) lanes_store_n((p) + i, a, n - i)

static float dot(const float *a, const float *b, size_t n)
{
    lanes s = lanes_set1(0.0f);

#define STEP(load, store) s = lanes_fma(load(a), load(b), s);
    EACH_REGISTER(STEP);
#undef STEP
    return lanes_fold(s);
}

static float exp_sum(const float *x, float m, float *y, size_t n)
{
    lanes s = lanes_set1(0.0f), max = lanes_set1(m);

#define STEP(load, store)                                \
    store(y, lanes_exp(lanes_sub(load(x), max)));        \
    s = lanes_add(s, load(y)); /* read back, so that a tail's other lanes are +0 */
    EACH_REGISTER(STEP);
#undef STEP
    return lanes_fold(s);
}

static void div_scale(const float *x, float l, float c, float *y, size_t n)
{
    lanes by = lanes_set1(l), times = lanes_set1(c);

#define STEP(load, store) store(y, lanes_mul(lanes_div(load(x), by), times));
    EACH_REGISTER(STEP);
#undef STEP
}

static float rmsnorm(const float *x, const float *w, float eps, const float *dy, float *dx, float *g, size_t n)
{
    float r = 1.0f / sqrtf(dot(x, x, n) / (float)n + eps), a;
    lanes factor = lanes_set1(r), back;

#define STEP(load, store) store(g, lanes_mul(load(dy), load(w)));
    EACH_REGISTER(STEP);
#undef STEP
    a = r * r * r * (dot(g, x, n) / (float)n);
    back = lanes_set1(-a);
#define STEP(load, store) store(dx, lanes_add(load(dx), lanes_fma(back, load(x), lanes_mul(factor, load(g)))));
    EACH_REGISTER(STEP);
#undef STEP
    return r;
}

static void norm_weight(const float *x, size_t ldx, const float *r, const float *dy, size_t lddy, size_t n_t, float *dw, size_t n)
{
#define STEP(load, store)                                                                                         \
    lanes s = lanes_set1(0.0f);                                                                                   \
    for (size_t t = 0; t < n_t; t++)                                                                              \
        s = lanes_fma(load(dy + t * lddy), lanes_mul(load(x + t * ldx), lanes_set1(r[t])), s);                    \
    store(dw, lanes_add(load(dw), s));
    EACH_REGISTER(STEP);
#undef STEP
}

static void bias(const float *dy, size_t lddy, size_t n_t, float *db, size_t n)
{
#define STEP(load, store)                                    \
    lanes s = lanes_set1(0.0f);                              \
    for (size_t t = 0; t < n_t; t++)                         \
        s = lanes_add(s, load(dy + t * lddy));               \
    store(db, lanes_add(load(db), s));
    EACH_REGISTER(STEP);
#undef STEP
}

static void swiglu(const float *g, const float *u, const float *dh, float *dg, float *du, size_t n)
{
    lanes one = lanes_set1(1.0f);

#define STEP(load, store)                                                                 \
    lanes x = load(g), d = load(dh), e = lanes_add(one, lanes_exp(lanes_neg(x)));         \
    lanes s = lanes_div(one, e), slope = lanes_mul(s, lanes_fma(x, lanes_sub(one, s), one)); \
    lanes of_gate = lanes_mul(lanes_mul(d, load(u)), slope);                              \
    store(du, lanes_mul(d, lanes_div(x, e)));                                             \
    store(dg, of_gate);
    EACH_REGISTER(STEP);
#undef STEP
}

static void attention(float *s, float *dp, float scale, float m, float l, float d, size_t n)
{
    lanes factor = lanes_set1(scale), max = lanes_set1(m), sum = lanes_set1(l), mean = lanes_set1(d);

#define STEP(load, store)                                                                              \
    lanes p = lanes_div(lanes_exp(lanes_sub(lanes_mul(factor, load(s)), max)), sum);                   \
    store(s, p);                                                                                       \
    store(dp, lanes_mul(p, lanes_sub(load(dp), mean)));
    EACH_REGISTER(STEP);
#undef STEP
}

static void adamw(const fs_adamw *c, const float *grad, float *m, float *v, float *w, size_t n)
{
    lanes clip = lanes_set1(c->clip), beta1 = lanes_set1(c->beta1), rest1 = lanes_set1(c->rest1), beta2 = lanes_set1(c->beta2);
    lanes rest2 = lanes_set1(c->rest2), scale1 = lanes_set1(c->scale1), scale2 = lanes_set1(c->scale2), eps = lanes_set1(c->eps);
    lanes lr = lanes_set1(-c->lr), keep = lanes_set1(c->keep);

#define STEP(load, store)                                                                                          \
    lanes g = lanes_mul(clip, load(grad)), first = lanes_fma(beta1, load(m), lanes_mul(rest1, g));                 \
    lanes second = lanes_fma(beta2, load(v), lanes_mul(lanes_mul(rest2, g), g));                                   \
    lanes u = lanes_div(lanes_mul(scale1, first), lanes_add(lanes_sqrt(lanes_mul(scale2, second)), eps));          \
    store(m, first);                                                                                               \
    store(v, second);                                                                                              \
    store(w, lanes_fma(lr, u, lanes_mul(keep, load(w))));
    EACH_REGISTER(STEP);
#undef STEP
}

const fs_grad_kernels FS_GRAD_NAME = { dot, exp_sum, div_scale, rmsnorm, norm_weight, bias, swiglu, attention, adamw };
