/* Row operations of RN1: sums in order B, norms, softmax, elementwise functions. All pointers are f32, any
 * alignment; y may equal an input where the text says "in place". Which NaN is unspecified.
 *
 * Order B: sixteen lanes start at +0; element i goes to lane i % 16; the tail is padded with +0; then
 * lane[j] += lane[j+s] for j < s, s = 8, 4, 2, 1; the result is lane[0]. */
#ifndef FS_KERNELS_ROWS_H
#define FS_KERNELS_ROWS_H

#include <stddef.h>
#include <stdint.h>

typedef struct fs_rows_kernels {
    float (*sum)(const float *x, size_t n);   /* order B of x_i */
    float (*sumsq)(const float *x, size_t n); /* order B, lane = fma(x_i, x_i, lane) */
    /* n > 0. m = x[0], then m = x_i > m ? x_i : m, then fl(m + 0): no NaN is chosen unless x[0], and a maximum
     * of zero is +0, in whatever order a vector compares. */
    float (*max)(const float *x, size_t n);
    /* n > 0; the lowest index on ties (-0 ties with +0); a NaN is never chosen, except x[0], then 0. */
    size_t (*argmax)(const float *x, size_t n);
    void (*exp)(const float *x, float *y, size_t n);      /* in place; math.h's fs_expf */
    void (*sigmoid)(const float *x, float *y, size_t n);  /* in place; 1 / (1 + exp(-x)) */
    void (*silu)(const float *x, float *y, size_t n);     /* in place; x / (1 + exp(-x)) */
    void (*swiglu)(const float *g, const float *u, float *y, size_t n); /* in place; fl(silu(g) * u) */
    void (*add)(const float *a, const float *b, float *y, size_t n);    /* in place; fl(a + b) */
    void (*axpy)(float w, const float *x, float *y, size_t n);          /* y = fma(w, x, y) */
    void (*scale)(float w, const float *x, float *y, size_t n);         /* in place; fl(w * x) */
    /* RMSNorm: r = fl(1 / sqrt(fl(fl(sumsq/n) + eps))), y = fl(fl(x*r) * w); in place. w NULL: y = fl(x*r). */
    void (*rmsnorm)(const float *x, const float *w, float eps, float *y, size_t n);
    /* softmax: m = max; p_i = exp(fl(x_i - m)); l = order B of p; fl(p_i / l); in place. n > 0. */
    void (*softmax)(const float *x, float *y, size_t n);
    /* Rotary embedding of one head, in place. cs [d]: cos of frequency i at cs[2i], sin at cs[2i+1], both already
     * times the attention factor. a, b a pair: a' = fl(fl(a*c) - fl(b*s)), b' = fl(fl(b*c) + fl(a*s)).
     * half: pairs (x[i], x[i + d/2]); interleaved: pairs (x[2i], x[2i+1]). d even. */
    void (*rope_half)(float *x, const float *cs, size_t d);
    void (*rope_interleaved)(float *x, const float *cs, size_t d);
    /* The index + 1 of the first NaN, 0 when there is none. */
    size_t (*find_nan)(const float *x, size_t n);
} fs_rows_kernels;

void fs_rows_kernels_init(fs_rows_kernels *k, unsigned isa);

#endif
