/* What training adds to the row operations: backward of norms, activations, softmax and cross entropy, and AdamW.
 * Products of training are gemm and gemm_add (products.h) over packed rows and columns; dW = dY^T X is one of them.
 * All pointers are f32, any alignment; fl() is one rounding, fma() one. Order B is rows.h's, sixteen lanes. */
#ifndef FS_KERNELS_GRAD_H
#define FS_KERNELS_GRAD_H

#include <stddef.h>
#include <stdint.h>

/* The constants of one AdamW step, each made in binary64 and rounded once. */
typedef struct fs_adamw {
    float clip;           /* of the gradient, 1: none */
    float beta1, rest1;   /* rest = 1 - beta */
    float beta2, rest2;
    float scale1, scale2; /* 1 / (1 - beta^t) */
    float eps, lr;
    float keep;           /* 1 - lr * weight_decay */
} fs_adamw;

typedef struct fs_grad_kernels {
    /* Order B, lane = fma(a_i, b_i, lane). */
    float (*dot)(const float *a, const float *b, size_t n);
    /* y = exp(fl(x - m)), in place; returns the order B sum of y. */
    float (*exp_sum)(const float *x, float m, float *y, size_t n);
    /* y = fl(fl(x / l) * c), in place. */
    void (*div_scale)(const float *x, float l, float c, float *y, size_t n);
    /* RMSNorm y = fl(fl(x*r) * w), r as in rows.h: g_i = fl(dy_i * w_i); c = dot(g, x); a = fl(fl(fl(r*r) * r) * fl(c / n));
     * dx_i = fl(dx_i + fma(-a, x_i, fl(r * g_i))). Returns r. g: n floats of scratch; dy may be it. */
    float (*rmsnorm)(const float *x, const float *w, float eps, const float *dy, float *dx, float *g, size_t n);
    /* One chain of n_t <= 256 tokens: s = +0, s = fma(dy_ti, fl(x_ti * r_t), s) in rising t, then dw_i = fl(dw_i + s). Row t is
     * at x + t*ldx, dy + t*lddy. */
    void (*norm_weight)(const float *x, size_t ldx, const float *r, const float *dy, size_t lddy, size_t n_t, float *dw, size_t n);
    /* The same of a bias: s = fl(s + dy_ti). */
    void (*bias)(const float *dy, size_t lddy, size_t n_t, float *db, size_t n);
    /* h = fl(silu(g) * u): e = fl(1 + exp(-g)), s = fl(1 / e), du = fl(dh * fl(g / e)),
     * dg = fl(fl(dh * u) * fl(s * fma(g, fl(1 - s), 1))). dg and du may be g and u, or dh. */
    void (*swiglu)(const float *g, const float *u, const float *dh, float *dg, float *du, size_t n);
    /* A row of attention, s the scores before their scale, dp the products of dO with the values: s becomes
     * p = fl(exp(fl(fl(scale * s) - m)) / l), dp becomes fl(p * fl(dp - d)). */
    void (*attention)(float *s, float *dp, float scale, float m, float l, float d, size_t n);
    /* g = fl(clip * g); m = fma(beta1, m, fl(rest1 * g)); v = fma(beta2, v, fl(fl(rest2 * g) * g));
     * u = fl(fl(scale1 * m) / fl(sqrt(fl(scale2 * v)) + eps)); w = fma(-lr, u, fl(keep * w)). g is only read. */
    void (*adamw)(const fs_adamw *c, const float *g, float *m, float *v, float *w, size_t n);
} fs_grad_kernels;

void fs_grad_kernels_init(fs_grad_kernels *k, unsigned isa);

/* dst[c][r] = row r's element c, r < n_rows, c < n: dst [n, ldd]. Row r is at src + (index ? index[r] : r) * lds. */
void fs_transpose(const float *src, size_t lds, const uint32_t *index, size_t n_rows, size_t n, float *dst, size_t ldd);

#endif
