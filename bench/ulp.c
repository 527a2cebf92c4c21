/* Maximal errors of kernels/math.h, in ulps of the result (2^-149, 2^-1074 among denormals).
 *
 *   ulp exp log log1p sin cos erf    every f32 (sin, cos: |x| <= 2^21) against libm in binary64, whose own error is
 *                                    below 2^-28 of an f32 ulp
 *   ulp exp64 log64 log1p64 sincos64 pow64    10^7 inputs over the ranges below against libquadmath
 *   ulp lanes                        the row kernel exp of every instruction set against fs_expf, every f32
 *
 * A line a function: name, inputs, largest error, where. x86 with gcc only, for libquadmath. Takes minutes. */
#include "kernels/kernels.h"
#include "kernels/math.h"

#include <math.h>
#include <quadmath.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float float_of(uint32_t b)
{
    float x;
    memcpy(&x, &b, sizeof x);
    return x;
}

static uint32_t bits_of(float x)
{
    uint32_t b;
    memcpy(&b, &x, sizeof b);
    return x != x ? 0x7fc00000 : b;
}

static double error_f32(float y, double exact)
{
    int e;

    if (isnan(exact) || isnan(y))
        return isnan(exact) && isnan(y) ? 0.0 : INFINITY;
    if (isinf(y) || isinf((float)exact))
        return y == (float)exact ? 0.0 : INFINITY;
    frexp(exact, &e);
    return fabs((double)y - exact) * ldexp(1.0, e - 24 < -149 ? 149 : 24 - e);
}

static double error_f64(double y, __float128 exact)
{
    int e;

    if (isinf(y) || isinf((double)exact))
        return y == (double)exact ? 0.0 : INFINITY;
    frexpq(exact, &e);
    return (double)(fabsq((__float128)y - exact) * ldexpq(1, e - 53 < -1074 ? 1074 : 53 - e));
}

typedef struct function_f32 {
    const char *name;
    float (*own)(float);
    double (*libm)(double);
    float limit;
} function_f32;

static const function_f32 functions_f32[] = {
    { "exp", fs_expf, exp, INFINITY },    { "log", fs_logf, log, INFINITY },  { "log1p", fs_log1pf, log1p, INFINITY },
    { "sin", fs_sinf, sin, 0x1p21f },     { "cos", fs_cosf, cos, 0x1p21f },   { "erf", fs_erff, erf, INFINITY },
};

static void sweep_f32(const function_f32 *f)
{
    double worst = 0.0;
    float at = 0.0f;
    uint64_t n = 0;

    for (uint64_t b = 0; b < UINT64_C(1) << 32; b++) {
        float x = float_of((uint32_t)b);
        double e;

        if (fabsf(x) > f->limit)
            continue;
        e = error_f32(f->own(x), f->libm((double)x));
        n++;
        if (e > worst) {
            worst = e;
            at = x;
        }
    }
    printf("%-9s %10llu inputs  %.4f ulp at %a\n", f->name, (unsigned long long)n, worst, (double)at);
}

/* Uniform in [0, 1). */
static double uniform(void)
{
    static uint64_t s = 1;
    s = s * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(s >> 11) * 0x1p-53;
}

static void report_f64(const char *name, const char *range, double worst, double at)
{
    printf("%-9s %s  %.4f ulp at %a\n", name, range, worst, at);
}

#define SAMPLES 10000000

static void sample_f64(const char *name)
{
    double worst = 0.0, worst_cos = 0.0, at = 0.0, at_cos = 0.0;

    for (int i = 0; i < SAMPLES; i++) {
        double x, e, s, c;

        if (!strcmp(name, "exp64")) {
            x = i & 1 ? 1453.0 * uniform() - 744.0 : 2.0 * uniform() - 1.0;
            e = error_f64(fs_exp64(x), expq(x));
        } else if (!strcmp(name, "log64")) {
            x = i & 1 ? ldexp(1.0 + uniform(), (int)(uniform() * 2097) - 1074) : 0.5 + 1.5 * uniform();
            e = error_f64(fs_log64(x), logq(x));
        } else if (!strcmp(name, "log1p64")) {
            x = i & 1 ? ldexp(uniform(), -(int)(uniform() * 60)) : -ldexp(uniform(), -(int)(uniform() * 60));
            e = error_f64(fs_log1p64(x), log1pq(x));
        } else if (!strcmp(name, "pow64")) {
            /* rope: theta^(-2i/d) for theta of 100 to 10^8 */
            double y = -uniform();
            x = exp(4.6 + 13.9 * uniform());
            e = error_f64(fs_pow64(x, y), powq(x, y));
        } else {
            x = i & 1 ? 0x1p22 * uniform() - 0x1p21 : (double)(int)(uniform() * 0x1p21) * exp(-16.0 * uniform());
            fs_sincos64(x, &s, &c);
            e = error_f64(s, sinq(x));
            if (error_f64(c, cosq(x)) > worst_cos) {
                worst_cos = error_f64(c, cosq(x));
                at_cos = x;
            }
        }
        if (e > worst) {
            worst = e;
            at = x;
        }
    }
    report_f64(name, "10^7 inputs", worst, at);
    if (worst_cos > 0.0)
        report_f64("  cosine", "10^7 inputs", worst_cos, at_cos);
}

static void sweep_lanes(void)
{
    static float x[1 << 16], y[1 << 16];
    fs_rows_kernels k;

    for (unsigned isa = 1; isa < FS_ISA_END; isa <<= 1) {
        uint64_t differ = 0;

        if (!(fs_isa_detect() & isa))
            continue;
        fs_rows_kernels_init(&k, isa);
        for (uint32_t high = 0; high < 1 << 16; high++) {
            for (uint32_t low = 0; low < 1 << 16; low++)
                x[low] = float_of(high << 16 | low);
            k.exp(x, y, 1 << 16);
            for (uint32_t low = 0; low < 1 << 16; low++)
                differ += bits_of(y[low]) != bits_of(fs_expf(x[low]));
        }
        printf("%-9s 4294967296 inputs  %llu differ from fs_expf\n", fs_isa_name(isa), (unsigned long long)differ);
    }
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const function_f32 *f = NULL;

        for (size_t j = 0; j < sizeof functions_f32 / sizeof *functions_f32; j++)
            if (!strcmp(argv[i], functions_f32[j].name))
                f = &functions_f32[j];
        if (f)
            sweep_f32(f);
        else if (!strcmp(argv[i], "lanes"))
            sweep_lanes();
        else if (!strcmp(argv[i], "exp64") || !strcmp(argv[i], "log64") || !strcmp(argv[i], "log1p64") ||
                 !strcmp(argv[i], "pow64") || !strcmp(argv[i], "sincos64"))
            sample_f64(argv[i]);
        else {
            fprintf(stderr, "ulp: no function '%s'\n", argv[i]);
            return EXIT_FAILURE;
        }
        fflush(stdout);
    }
    return EXIT_SUCCESS;
}
