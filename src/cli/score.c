/* See the header. */
#include "cli/score.h"

#include "kernels/math.h"

#include <math.h>
#include <stdlib.h>

static size_t likeliest(const float *x, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

/* With a and b the logits less their maxima and s_a, s_b the sums of their exponentials,
 * KL(b || a) = sum e^b (b - a) / s_b + log s_a - log s_b: one pass, and exactly 0 for equal rows. */
bool fs_score_row(const float *logits, const float *base, size_t v, int32_t next, fs_score *ret)
{
    size_t top = likeliest(logits, v), base_top = base ? likeliest(base, v) : 0;
    double max = (double)logits[top], base_max = base ? (double)base[base_top] : 0, sum = 0, base_sum = 0, dot = 0;
    fs_score s = { 0 };

    for (size_t i = 0; i < v; i++) {
        double a = (double)logits[i] - max;
        sum += fs_exp64(a);
        if (base) {
            double b = (double)base[i] - base_max, e = fs_exp64(b);
            base_sum += e;
            dot += e * (b - a);
        }
    }
    s.nll = fs_log64(sum) - ((double)logits[next] - max);
    if (base) {
        s.base_nll = fs_log64(base_sum) - ((double)base[next] - base_max);
        s.kl = dot / base_sum + (fs_log64(sum) - fs_log64(base_sum));
        s.dp = fs_exp64(-s.nll) - fs_exp64(-s.base_nll);
        s.same_top = top == base_top;
    }
    *ret = s;
    return isfinite(s.nll) && isfinite(s.base_nll) && isfinite(s.kl) && isfinite(s.dp);
}

fs_mean fs_mean_of(const double *x, size_t n, size_t stride)
{
    double sum = 0, squares = 0;
    fs_mean m = { 0 };

    for (size_t i = 0; i < n; i++)
        sum += x[i * stride];
    m.mean = n ? sum / (double)n : 0;
    for (size_t i = 0; i < n; i++) {
        double d = x[i * stride] - m.mean;
        squares += d * d;
    }
    m.error = n > 1 ? sqrt(squares / (double)(n - 1) / (double)n) : 0;
    return m;
}

double fs_percentile(const double *sorted, size_t n, double fraction)
{
    double at = fraction * (double)(n - 1);
    size_t i = (size_t)at;

    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void fs_sort_f64(double *x, size_t n)
{
    qsort(x, n, sizeof *x, by_value);
}
