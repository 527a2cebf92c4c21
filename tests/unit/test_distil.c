#include "unit.h"

#include "base/file.h"
#include "base/json.h"
#include "base/philox.h"
#include "train/distil.h"

#include <math.h>

#define N_MAX 512

static double number(struct json_object *o, const char *key)
{
    return json_object_get_double(fs_json_member(o, key));
}

static size_t floats(struct json_object *list, float *ret)
{
    size_t n = json_object_array_length(list);

    assert_true(n <= N_MAX);
    for (size_t i = 0; i < n; i++)
        ret[i] = (float)json_object_get_double(json_object_array_get_idx(list, i));
    return n;
}

static fs_kernels scalar(void)
{
    fs_kernels k;

    fs_kernels_init(&k, 0);
    return k;
}

static void one_case(struct json_object *c)
{
    fs_distil_options o = { number(c, "beta"), number(c, "temperature"), number(c, "weight") };
    float z[N_MAX], q[N_MAX], want[N_MAX], scratch[3 * N_MAX], nll, d;
    size_t n = floats(fs_json_member(c, "student"), z);
    fs_kernels k = scalar();

    floats(fs_json_member(c, "teacher"), q);
    floats(fs_json_member(c, "gradient"), want);
    d = fs_distil_row(&o, &k, z, q, n, (int32_t)number(c, "target"), 1, scratch, &nll);
    if (!(fabs(d - number(c, "kl")) <= 1e-6 * fmax(1, number(c, "kl"))) || !(fabs(nll - number(c, "ce")) <= 1e-6 * fmax(1, number(c, "ce"))))
        fail_msg("beta %g, T %g: %.9g, %.9g; TRL's %.9g, torch's %.9g", o.beta, o.temperature, (double)d, (double)nll, number(c, "kl"), number(c, "ce"));
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(z[i] - want[i]) <= 1e-6f))
            fail_msg("beta %g, T %g, weight %g: gradient %zu is %.9g, TRL's %.9g", o.beta, o.temperature, o.weight, i, (double)z[i], (double)want[i]);
}

static void as_trl(void **state)
{
    struct json_object *v = NULL, *cases;
    fs_buf text = { 0 };
    fs_error err;

    (void)state;
    assert_ok(fs_file_read("tests/vectors/distil.json", 1 << 20, &text, &err), err);
    assert_ok(fs_json_parse(fs_buf_bytes(&text), "distil.json", &v, &err), err);
    cases = fs_json_member(v, "cases");
    assert_true(json_object_array_length(cases) >= 40);
    for (size_t i = 0; i < json_object_array_length(cases); i++)
        one_case(json_object_array_get_idx(cases, i));
    json_object_put(v);
    fs_buf_done(&text);
}

static void random_row(uint64_t seed, float *x, size_t n, double spread)
{
    fs_random r;

    fs_random_init(&r, seed, 1, n);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((fs_random_unit(&r) - 0.5) * spread);
}

static const fs_distil_options forms[] = { { 0, 1, 1 }, { 1, 1, 1 }, { 0.3, 1, 1 }, { 0, 2, 0.5 }, { 1, 0.7, 0.25 }, { 0.5, 3, 0.9 } };
#define N_FORMS (sizeof forms / sizeof *forms)

static void the_same_bits_on_every_isa(void **state)
{
    (void)state;
    for (unsigned isa = 1; isa < FS_ISA_END; isa <<= 1) {
        fs_kernels k, ref = scalar();
        if (!(fs_isa_detect() & isa))
            continue;
        fs_kernels_init(&k, isa);
        for (size_t n = 1; n < 200; n++)
            for (size_t f = 0; f < N_FORMS; f++) {
                float z[2][N_MAX], q[N_MAX], scratch[3 * N_MAX], nll[2], d[2];
                for (int i = 0; i < 2; i++) {
                    random_row(n, z[i], n, 20);
                    random_row(n + 1000, q, n, 20);
                    d[i] = fs_distil_row(&forms[f], i ? &k : &ref, z[i], q, n, (int32_t)(n / 2), 0.01f, scratch, &nll[i]);
                }
                assert_memory_equal(z[0], z[1], n * sizeof *z[0]);
                assert_memory_equal(d, d + 1, sizeof *d);
                assert_memory_equal(nll, nll + 1, sizeof *nll);
            }
    }
}

/* A student that is its teacher has nothing to learn. */
static void equal_distributions(void **state)
{
    (void)state;
    for (size_t f = 0; f < 2; f++) {
        fs_kernels k = scalar();
        float z[N_MAX], q[N_MAX], scratch[3 * N_MAX], nll, d;
        random_row(5, z, 100, 30);
        random_row(5, q, 100, 30);
        d = fs_distil_row(&forms[f], &k, z, q, 100, 3, 1, scratch, &nll);
        assert_true(d == 0);
        for (size_t i = 0; i < 100; i++)
            assert_true(z[i] == 0);
    }
}

/* What a distribution holds impossible neither divides by 0 nor disappears. */
static void far_apart(void **state)
{
    (void)state;
    for (size_t f = 0; f < N_FORMS; f++) {
        fs_kernels k = scalar();
        float z[4] = { 400, -400, 0, 1 }, q[4] = { -400, 400, 0, -1 }, scratch[12], nll, d, sum = 0;
        d = fs_distil_row(&forms[f], &k, z, q, 4, 1, 1, scratch, &nll);
        assert_true(isfinite(d) && d > 0.3f && isfinite(nll) && nll == 800);
        for (size_t i = 0; i < 4; i++) {
            assert_true(isfinite(z[i]));
            sum += z[i];
        }
        assert_true(fabsf(sum) < 1e-4f); /* a gradient by logits adds up to nothing */
    }
}

/* Steps that sample: a function of lambda, seed and step; those of a smaller lambda are among those of a larger one. */
static void which_steps_sample(void **state)
{
    static const double lambdas[] = { 0, 0.1, 0.5, 0.9, 1 };
    enum { N_LAMBDAS = 5, N_STEPS = 10000 };
    size_t counts[N_LAMBDAS] = { 0 }, n_other = 0, n_runs = 1;

    (void)state;
    for (uint64_t i = 0; i < N_STEPS; i++) {
        for (size_t k = 0; k < N_LAMBDAS; k++) {
            bool samples = fs_distil_samples(lambdas[k], 7, i);
            assert_true(samples == fs_distil_samples(lambdas[k], 7, i));
            assert_true(k == 0 || samples || !fs_distil_samples(lambdas[k - 1], 7, i));
            counts[k] += samples;
        }
        n_other += fs_distil_samples(0.5, 7, i) != fs_distil_samples(0.5, 8, i);
        n_runs += i > 0 && fs_distil_samples(0.5, 7, i) != fs_distil_samples(0.5, 7, i - 1);
    }
    assert_int_equal(counts[0], 0);
    assert_int_equal(counts[N_LAMBDAS - 1], N_STEPS);
    for (size_t k = 1; k + 1 < N_LAMBDAS; k++) {
        double deviation = sqrt(N_STEPS * lambdas[k] * (1 - lambdas[k]));
        assert_true(fabs((double)counts[k] - N_STEPS * lambdas[k]) < 4 * deviation);
    }
    assert_true(n_other > 4800 && n_other < 5200); /* another seed, other steps */
    assert_true(n_runs > 4800 && n_runs < 5200);   /* and of one seed each by itself */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_trl),
        cmocka_unit_test(the_same_bits_on_every_isa),
        cmocka_unit_test(equal_distributions),
        cmocka_unit_test(far_apart),
        cmocka_unit_test(which_steps_sample),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
