#include "unit.h"

#include "cli/score.h"

#include <math.h>

/* What the definition says, by libm and without the one-pass form. */
static fs_score defined(const float *q, const float *p, size_t v, int32_t next)
{
    double q_sum = 0, p_sum = 0;
    fs_score s = { 0 };

    for (size_t i = 0; i < v; i++) {
        q_sum += exp((double)q[i]);
        p_sum += exp((double)p[i]);
    }
    for (size_t i = 0; i < v; i++) {
        double a = exp((double)p[i]) / p_sum, b = exp((double)q[i]) / q_sum;
        s.kl += a * log(a / b);
    }
    s.nll = -log(exp((double)q[next]) / q_sum);
    s.base_nll = -log(exp((double)p[next]) / p_sum);
    s.dp = exp(-s.nll) - exp(-s.base_nll);
    return s;
}

static void rows_by_the_definition(void **state)
{
    float q[300], p[300];
    uint32_t seed = 1;
    fs_score got, want;

    (void)state;
    for (int round = 0; round < 50; round++) {
        size_t v = 2 + (size_t)round * 6;
        for (size_t i = 0; i < v; i++) {
            seed = seed * 1664525 + 1013904223;
            q[i] = (float)(seed >> 8) / (1 << 21) - 4;
            p[i] = q[i] + (float)(seed >> 4 & 255) / 300;
        }
        assert_true(fs_score_row(q, p, v, (int32_t)(v / 2), &got));
        want = defined(q, p, v, (int32_t)(v / 2));
        assert_true(fabs(got.nll - want.nll) < 1e-12 && fabs(got.base_nll - want.base_nll) < 1e-12);
        assert_true(fabs(got.kl - want.kl) < 1e-12 && got.kl >= 0 && fabs(got.dp - want.dp) < 1e-12);
        assert_true(fs_score_row(q, NULL, v, (int32_t)(v / 2), &want));
        assert_true(want.nll == got.nll && want.kl == 0 && want.base_nll == 0);
    }
}

static void equal_rows_differ_by_nothing(void **state)
{
    const float x[5] = { 1, -30, 7, 7, 200 }, y[5] = { 1, -30, 7, 7, -200 };
    fs_score s;

    (void)state;
    assert_true(fs_score_row(x, x, 5, 1, &s));
    assert_true(s.kl == 0 && s.dp == 0 && s.same_top == 1 && s.nll == s.base_nll);
    assert_true(fs_score_row(x, y, 5, 4, &s));
    assert_true(s.same_top == 0 && s.nll == 0 && s.kl > 100);
}

static void what_is_no_number_is_told(void **state)
{
    const float good[3] = { 1, 2, 3 }, nan_in[3] = { 1, NAN, 3 }, infinite[3] = { 1, INFINITY, 3 };
    fs_score s;

    (void)state;
    assert_false(fs_score_row(nan_in, NULL, 3, 0, &s));
    assert_false(fs_score_row(good, nan_in, 3, 0, &s));
    assert_false(fs_score_row(infinite, NULL, 3, 0, &s));
}

static void means_and_percentiles(void **state)
{
    double x[6] = { 5, -1, 3, -1, 4, -1 }, all[5] = { 4, 1, 3, 2, 5 };
    fs_mean m = fs_mean_of(x, 3, 2);

    (void)state;
    assert_true(m.mean == 4 && fabs(m.error - sqrt(1.0 / 3)) < 1e-15);
    assert_true(fs_mean_of(x, 1, 2).error == 0);
    fs_sort_f64(all, 5);
    assert_true(fs_percentile(all, 5, 0) == 1 && fs_percentile(all, 5, 0.5) == 3 && fs_percentile(all, 5, 1) == 5);
    assert_true(fs_percentile(all, 5, 0.125) == 1.5 && fs_percentile(all, 1, 0.9) == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_by_the_definition),
        cmocka_unit_test(equal_rows_differ_by_nothing),
        cmocka_unit_test(what_is_no_number_is_told),
        cmocka_unit_test(means_and_percentiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
