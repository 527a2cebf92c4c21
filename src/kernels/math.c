/* RN1's elementary functions, scalar: this file is their definition (docs/RN1.md section 3).
 *
 * exp in f32 is the one the row kernels vectorise, operation by operation. log, log1p, sin, cos and erf of f32
 * are the binary64 functions rounded once: they are called a few hundred times a token, never a million. */
#include "kernels/math.h"
#include "kernels/math_const.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Adding and subtracting 1.5 * 2^(p-1) rounds to an integer, to nearest even, in every instruction set alike;
 * the integer also stands in the low bits of the sum. */
#define ROUND_F 0x1.8p+23f
#define ROUND_D 0x1.8p+52

static uint32_t bits_of_f32(float x)
{
    uint32_t b;
    memcpy(&b, &x, sizeof b);
    return b;
}

static float f32_of_bits(uint32_t b)
{
    float x;
    memcpy(&x, &b, sizeof x);
    return x;
}

static uint64_t bits_of_f64(double x)
{
    uint64_t b;
    memcpy(&b, &x, sizeof b);
    return b;
}

static double f64_of_bits(uint64_t b)
{
    double x;
    memcpy(&x, &b, sizeof x);
    return x;
}

/* The clamps let the arithmetic itself make +0 and +inf: e^-104 is below half the smallest denormal, e^89 above the
 * largest f32. A NaN fails both comparisons and runs through; its integer is garbage, which unsigned shifts bear. */
float fs_expf(float x)
{
    float t, n, r, q, p;
    uint32_t i, half;

    x = x < -104.0f ? -104.0f : x;
    x = x > 89.0f ? 89.0f : x;
    t = fmaf(x, FS_LOG2E_F, ROUND_F);
    n = t - ROUND_F;
    r = fmaf(n, -FS_LN2_HI_F, x);
    r = fmaf(n, -FS_LN2_LO_F, r);
    q = fmaf(fs_exp_f[4], r, fs_exp_f[3]);
    q = fmaf(q, r, fs_exp_f[2]);
    q = fmaf(q, r, fs_exp_f[1]);
    q = fmaf(q, r, fs_exp_f[0]);
    /* 1 + r + r^2 q, the rounding error of 1 + r put back. */
    p = 1.0f + r;
    p += fmaf(r * r, q, r - (p - 1.0f));
    /* p * 2^n as two factors, since 2^n alone may be no normal number: the first product is exact, the second
     * rounds once. i = n + 256 >= 0, so that the halves need no signed shift. */
    i = bits_of_f32(t) - bits_of_f32(ROUND_F) + 256;
    half = i >> 1;
    p *= f32_of_bits((half - 1) << 23);
    p *= f32_of_bits((i - half - 1) << 23);
    return p;
}

/* exp(h + l), |l| at most a few ulps of h. rh + rl = h + l - n ln2. */
static double exp_sum(double h, double l)
{
    double n, t, r, w, s, rh, rl, q, p, e;
    uint64_t i, half;

    if (!(h >= -746.0))
        return h < -746.0 ? 0.0 : h;
    if (h > 710.0)
        return INFINITY;
    t = fma(h, FS_LOG2E_D, ROUND_D);
    n = t - ROUND_D;
    r = fma(n, -FS_LN2_HI_D, h); /* exact: the constant has 42 bits, n 11 */
    w = n * FS_LN2_LO_D;
    s = r - w;
    l += (r - s) - w;
    rh = s + l;
    rl = l - (rh - s);
    q = fs_exp_d[10];
    for (int k = 9; k >= 0; k--)
        q = fma(q, rh, fs_exp_d[k]);
    /* 1 + rh + (rh^2 q + rl (1 + rh)), the rounding error e of 1 + rh put back. */
    p = 1.0 + rh;
    e = rh - (p - 1.0);
    p += e + fma(rh * rh, q, fma(rl, rh, rl));
    i = bits_of_f64(t) - bits_of_f64(ROUND_D) + 2046;
    half = i >> 1;
    p *= f64_of_bits(half << 52);
    p *= f64_of_bits((i - half) << 52);
    return p;
}

double fs_exp64(double x)
{
    return exp_sum(x, 0.0);
}

/* log(x) as an unevaluated sum, x positive, finite, denormal or not; relative error below 2^-58.
 * x = 2^k m, m in [sqrt(1/2), sqrt(2)); s = (m - 1) / (m + 1) as sh + sl; log m = 2s + s^3 P(s^2). */
static void log_sum(double x, double *ret_hi, double *ret_lo)
{
    uint64_t b;
    int64_t k = 0;
    double f, d, dl, sh, sl, z, p, a, c, hi, lo;

    if (x < 0x1p-1022) {
        x *= 0x1p+54;
        k = -54;
    }
    /* Subtracting the bits of sqrt(1/2) makes the exponent field change at sqrt(2) 2^k. */
    b = bits_of_f64(x) - UINT64_C(0x3fe6a09e667f3bcd) + (UINT64_C(1022) << 52);
    k += (int64_t)(b >> 52) - 1022;
    b = (b & UINT64_C(0x000fffffffffffff)) + UINT64_C(0x3fe6a09e667f3bcd);
    f = f64_of_bits(b) - 1.0;

    d = 2.0 + f;
    dl = f - (d - 2.0);
    sh = f / d;
    sl = fma(-sh, dl, fma(-sh, d, f)) / d;
    z = sh * sh;
    p = fs_log_d[7];
    for (int j = 6; j >= 0; j--)
        p = fma(p, z, fs_log_d[j]);

    a = (double)k * FS_LN2_HI_D; /* exact */
    c = 2.0 * sh;
    hi = a + c;
    lo = c - (hi - a); /* exact: a is 0 or the larger */
    lo += fma((double)k, FS_LN2_LO_D, fma(z * sh, p, 2.0 * sl));
    *ret_hi = hi + lo;
    *ret_lo = lo - (*ret_hi - hi);
}

double fs_log64(double x)
{
    double hi, lo;

    if (!(x > 0.0))
        return x == 0.0 ? -INFINITY : NAN;
    if (x == INFINITY)
        return x;
    log_sum(x, &hi, &lo);
    return hi;
}

double fs_log1p64(double x)
{
    double u, c, hi, lo;

    if (!(x > -1.0))
        return x == -1.0 ? -INFINITY : NAN;
    if (x == 0.0 || x == INFINITY)
        return x;
    u = 1.0 + x;
    c = x >= 1.0 ? 1.0 - (u - x) : x - (u - 1.0); /* u + c = 1 + x exactly */
    log_sum(u, &hi, &lo);
    return hi + (lo + c / u);
}

/* *h + *e = a - b exactly. */
static void two_diff(double a, double b, double *h, double *e)
{
    double v;

    *h = a - b;
    v = *h - a;
    *e = (a - (*h - v)) - (b + v);
}

void fs_sincos64(double x, double *ret_sin, double *ret_cos)
{
    double n, r, rh, rl, e1, e2, z, zl, p, s, c, h, e;
    uint64_t quadrant;

    if (!(x >= -0x1p+21 && x <= 0x1p+21)) {
        *ret_sin = *ret_cos = NAN;
        return;
    }
    if (x == 0.0) {
        *ret_sin = x;
        *ret_cos = 1.0;
        return;
    }
    /* pi/2 in four parts; n has 21 bits, the first three parts 32, so their products with n are exact. */
    r = fma(x, FS_2_OVER_PI_D, ROUND_D);
    quadrant = bits_of_f64(r) & 3;
    n = r - ROUND_D;
    r = fma(n, -FS_PIO2_1_D, x);
    two_diff(r, n * FS_PIO2_2_D, &rh, &e1);
    two_diff(rh, n * FS_PIO2_3_D, &rh, &e2);
    e = fma(n, -FS_PIO2_4_D, e1 + e2);
    r = rh + e;
    rl = e - (r - rh);
    rh = r;

    z = rh * rh;
    zl = fma(rh, rh, -z);
    p = fs_sin_d[6];
    for (int k = 5; k >= 0; k--)
        p = fma(p, z, fs_sin_d[k]);
    s = rh + fma(rh * z, p, rl * fma(-0.5, z, 1.0));

    p = fs_cos_d[6];
    for (int k = 5; k >= 0; k--)
        p = fma(p, z, fs_cos_d[k]);
    h = 0.5 * z;
    c = 1.0 - h;
    e = (1.0 - c) - h;
    c += e + fma(z * z, p, -fma(rh, rl, 0.5 * zl));

    *ret_sin = quadrant & 1 ? c : s;
    *ret_cos = quadrant & 1 ? s : c;
    if (quadrant & 2)
        *ret_sin = -*ret_sin;
    if (quadrant == 1 || quadrant == 2)
        *ret_cos = -*ret_cos;
}

/* y log(x) keeps the low part of both factors: its error is that of log_sum, below 2^-57 |y log x|. */
double fs_pow64(double x, double y)
{
    double hi, lo, h, l;

    assert(x > 0.0);
    if (x == INFINITY)
        return y == 0.0 ? 1.0 : y > 0.0 ? INFINITY : 0.0;
    log_sum(x, &hi, &lo);
    h = y * hi;
    l = fma(y, lo, fma(y, hi, -h));
    return exp_sum(h, l);
}

float fs_logf(float x)
{
    return (float)fs_log64((double)x);
}

float fs_log1pf(float x)
{
    return (float)fs_log1p64((double)x);
}

float fs_sinf(float x)
{
    double s, c;

    fs_sincos64((double)x, &s, &c);
    return (float)s;
}

float fs_cosf(float x)
{
    double s, c;

    fs_sincos64((double)x, &s, &c);
    return (float)c;
}

float fs_erff(float x)
{
    double v = (double)x, a = v < 0.0 ? -v : v, t, p;

    if (!(a < 4.0)) /* 1 - erf(4) is 1.5e-8, below a quarter ulp */
        return a >= 4.0 ? (v < 0.0 ? -1.0f : 1.0f) : x;
    if (a < 1.0) {
        t = v * v;
        p = fs_erf_0_d[11];
        for (int k = 10; k >= 0; k--)
            p = fma(p, t, fs_erf_0_d[k]);
        return (float)(v * p);
    }
    const double *coef = a < 2.0 ? fs_erf_d[0] : a < 3.0 ? fs_erf_d[1] : fs_erf_d[2];
    t = a - (a < 2.0 ? 1.5 : a < 3.0 ? 2.5 : 3.5);
    p = coef[13];
    for (int k = 12; k >= 0; k--)
        p = fma(p, t, coef[k]);
    return (float)(v < 0.0 ? -p : p);
}
