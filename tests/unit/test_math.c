/* RN1's elementary functions: special values, symmetry, monotony, and errors against constants that mpmath gave in
 * 60 digits. bench/ulp.c measures every f32. */
#include "kernels/math.h"

#include "unit.h"
#include "vectors/rn1_math.h"

#include <math.h>

static uint32_t bits_of(float x)
{
    uint32_t b;
    memcpy(&b, &x, sizeof b);
    return b;
}

static float float_of(uint32_t b)
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

#define assert_same_bits(a, b)   assert_int_equal(bits_of(a), bits_of(b))
#define assert_same_bits64(a, b) assert_true(bits_of_f64(a) == bits_of_f64(b))

/* |y - exact| in spacings of f32 at exact. */
static double ulps_f32(float y, double exact)
{
    int e;
    frexp(exact, &e);
    return fabs((double)y - exact) * ldexp(1.0, e - 24 < -149 ? 149 : 24 - e);
}

/* exact is rounded itself, so below 1 ulp means at most the neighbour. */
static void assert_neighbour_f64(double y, double exact)
{
    int e;
    frexp(exact, &e);
    if (e - 53 < -1074)
        e = 53 - 1074;
    assert_true(fabs(y - exact) <= ldexp(1.0, e - 53));
}

static void exp_of_special_values(void **state)
{
    (void)state;
    assert_same_bits(fs_expf(0.0f), 1.0f);
    assert_same_bits(fs_expf(-0.0f), 1.0f);
    assert_same_bits(fs_expf(0x1p-30f), 1.0f);
    assert_same_bits(fs_expf(-INFINITY), 0.0f);
    assert_same_bits(fs_expf(-104.0f), 0.0f);
    assert_same_bits(fs_expf(-3e38f), 0.0f);
    assert_same_bits(fs_expf(-103.9f), 0x1p-149f);
    assert_same_bits(fs_expf(-88.0f), 0x41edc4p-149f); /* a denormal, 6.0546e-39 */
    assert_same_bits(fs_expf(0x1.62e42ep+6f), 0x1.ffff08p+127f);
    assert_same_bits(fs_expf(0x1.62e430p+6f), INFINITY);
    assert_same_bits(fs_expf(INFINITY), INFINITY);
    assert_true(isnan(fs_expf(NAN)));
    assert_same_bits64(fs_exp64(0.0), 1.0);
    assert_same_bits64(fs_exp64(-INFINITY), 0.0);
    assert_same_bits64(fs_exp64(-746.0), 0.0);
    assert_same_bits64(fs_exp64(-745.0), 0x1p-1074);
    assert_same_bits64(fs_exp64(710.0), INFINITY);
    assert_true(isnan(fs_exp64(NAN)));
}

static void logs_of_special_values(void **state)
{
    (void)state;
    assert_same_bits(fs_logf(1.0f), 0.0f);
    assert_same_bits(fs_logf(0.0f), -INFINITY);
    assert_same_bits(fs_logf(-0.0f), -INFINITY);
    assert_same_bits(fs_logf(INFINITY), INFINITY);
    assert_true(isnan(fs_logf(-1.0f)));
    assert_true(isnan(fs_logf(-INFINITY)));
    assert_true(isnan(fs_logf(NAN)));
    assert_same_bits(fs_logf(0x1p-149f), -0x1.9d1da0p+6f); /* -149 ln 2 = -103.27893 */
    assert_same_bits(fs_log1pf(0.0f), 0.0f);
    assert_same_bits(fs_log1pf(-0.0f), -0.0f);
    assert_same_bits(fs_log1pf(0x1p-149f), 0x1p-149f);
    assert_same_bits(fs_log1pf(-1.0f), -INFINITY);
    assert_same_bits(fs_log1pf(INFINITY), INFINITY);
    assert_true(isnan(fs_log1pf(-1.5f)));
    assert_true(isnan(fs_log1pf(NAN)));
}

static void sines_of_special_values(void **state)
{
    (void)state;
    assert_same_bits(fs_sinf(0.0f), 0.0f);
    assert_same_bits(fs_sinf(-0.0f), -0.0f);
    assert_same_bits(fs_cosf(-0.0f), 1.0f);
    assert_same_bits(fs_sinf(0x1p-149f), 0x1p-149f);
    assert_false(isnan(fs_sinf(0x1p21f)));
    assert_false(isnan(fs_cosf(-0x1p21f)));
    assert_true(isnan(fs_sinf(0x1.000002p21f)));
    assert_true(isnan(fs_cosf(-0x1.000002p21f)));
    assert_true(isnan(fs_sinf(INFINITY)));
    assert_true(isnan(fs_cosf(NAN)));
}

static void erf_of_special_values(void **state)
{
    (void)state;
    assert_same_bits(fs_erff(0.0f), 0.0f);
    assert_same_bits(fs_erff(-0.0f), -0.0f);
    assert_same_bits(fs_erff(4.0f), 1.0f);
    assert_same_bits(fs_erff(-INFINITY), -1.0f);
    assert_true(isnan(fs_erff(NAN)));
}

static void pow_of_special_values(void **state)
{
    (void)state;
    assert_same_bits64(fs_pow64(10000.0, 0.0), 1.0);
    assert_same_bits64(fs_pow64(10000.0, -0.0), 1.0);
    assert_same_bits64(fs_pow64(1.0, -0.75), 1.0);
    assert_same_bits64(fs_pow64(4.0, 0.5), 2.0);
    assert_same_bits64(fs_pow64(10000.0, -0.5), 0.01);
    assert_same_bits64(fs_pow64(10000.0, -0.25), 0.1);
    assert_same_bits64(fs_pow64(10.0, 400.0), INFINITY);
    assert_same_bits64(fs_pow64(10.0, -400.0), 0.0);
    assert_same_bits64(fs_pow64(INFINITY, -1.0), 0.0);
}

/* Every 1009th f32 against libm in binary64. */
static void every_function_keeps_its_bound(void **state)
{
    (void)state;
    for (uint64_t b = 0; b < UINT64_C(1) << 32; b += 1009) {
        float x = float_of((uint32_t)b);

        if (isnan(x))
            continue;
        if (x > -104.0f && x < 88.7f)
            assert_true(ulps_f32(fs_expf(x), exp((double)x)) <= 0.87);
        if (x > 0.0f && x < INFINITY)
            assert_true(ulps_f32(fs_logf(x), log((double)x)) <= 0.5001);
        if (x > -1.0f && x < INFINITY)
            assert_true(ulps_f32(fs_log1pf(x), log1p((double)x)) <= 0.5001);
        if (fabsf(x) <= 0x1p21f) {
            assert_true(ulps_f32(fs_sinf(x), sin((double)x)) <= 0.5001);
            assert_true(ulps_f32(fs_cosf(x), cos((double)x)) <= 0.5001);
        }
        assert_true(ulps_f32(fs_erff(x), erf((double)x)) <= 0.5001);
    }
}

/* Where the reduction changes its n, at the first and last denormal, and around 0: exp never falls. */
static void exp_is_monotonic_where_it_is_pieced_together(void **state)
{
    (void)state;
    for (int n = -150; n <= 127; n++) {
        uint32_t b = bits_of((float)((n + 0.5) * 0.69314718055994531)) - 200;
        float before = fs_expf(float_of(b));

        for (uint32_t i = 1; i < 400; i++) {
            float here = fs_expf(float_of(b + i));

            assert_true(n < 0 ? here <= before : here >= before); /* bits rise away from 0 */
            before = here;
        }
    }
}

static void exp64_meets_mpmath(void **state)
{
    static const double t[][2] = {
    { 0x1.0000000000000p+0, 0x1.5bf0a8b145769p+1 },
    { -0x1.0000000000000p+0, 0x1.78b56362cef38p-2 },
    { 0x1.0000000000000p-1, 0x1.a61298e1e069cp+0 },
    { 0x1.4f8b588e368f1p-17, 0x1.0000a7c5e340ep+0 },
    { -0x1.e400000000000p+4, 0x1.4835bd010a41bp-44 },
    { 0x1.5e40000000000p+9, 0x1.8625c7d4f56c2p+1010 },
    { -0x1.6200000000000p+9, 0x1.7c8ab2288c9abp-1022 },
    { -0x1.7200000000000p+9, 0x0.0000000000055p-1022 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        assert_neighbour_f64(fs_exp64(t[i][0]), t[i][1]);
}

static void log64_meets_mpmath(void **state)
{
    static const double t[][2] = {
    { 0x1.0000000000000p+1, 0x1.62e42fefa39efp-1 },
    { 0x1.0000000000000p-1, -0x1.62e42fefa39efp-1 },
    { 0x1.000001ad7f29bp+0, 0x1.ad7f2847b6492p-24 },
    { 0x1.fff2e48e8a71ep-1, -0x1.a3738d2cf1cc2p-14 },
    { 0x1.4000000000000p+3, 0x1.26bb1bbb55516p+1 },
    { 0x0.012688b70e62bp-1022, -0x1.64e69394d9508p+9 },
    { 0x1.7e43c8800759cp+996, 0x1.5963447f87fb5p+9 },
    { 0x1.6a09e65dc27dfp-1, -0x1.62e4300c77ae8p-2 },
    { 0x1.6a09e7098ef50p+0, 0x1.62e431b8bb196p-2 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        assert_neighbour_f64(fs_log64(t[i][0]), t[i][1]);
}

static void log1p64_meets_mpmath(void **state)
{
    static const double t[][2] = {
    { 0x1.79ca10c924223p-67, 0x1.79ca10c924223p-67 },
    { -0x1.79ca10c924223p-67, -0x1.79ca10c924223p-67 },
    { 0x1.12e0be826d695p-30, 0x1.12e0be801f1d9p-30 },
    { -0x1.3333333333333p-2, -0x1.6d3c324e13f4ep-2 },
    { 0x1.a8240b780346ep-2, 0x1.62e1ac5b1d182p-2 },
    { -0x1.fffffca501acbp-1, -0x1.01e3b8440ed2fp+4 },
    { 0x1.2a05f20000000p+33, 0x1.7069e2aa3184ep+4 },
    { 0x1.8000000000000p-52, 0x1.7ffffffffffffp-52 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        assert_neighbour_f64(fs_log1p64(t[i][0]), t[i][1]);
}

static void sincos64_meets_mpmath(void **state)
{
    static const double t[][3] = {
    { 0x1.0000000000000p-1, 0x1.eaee8744b05f0p-2, 0x1.c1528065b7d50p-1 },
    { -0x1.0000000000000p+1, -0x1.d18f6ead1b446p-1, -0x1.aa22657537205p-2 },
    { 0x1.921fb54442d18p+1, 0x1.1a62633145c07p-53, -0x1.0000000000000p+0 },
    { 0x1.921fb54442d18p+0, 0x1.0000000000000p+0, 0x1.1a62633145c07p-54 },
    { 0x1.6000000000000p+4, -0x1.220a29f6eb9f4p-7, -0x1.fffadd8d4acdap-1 },
    { 0x1.6300000000000p+8, -0x1.f9bd0307d1de3p-16, -0x1.fffffffc18e4cp-1 },
    { 0x1.ffffe00000000p+19, -0x1.3b32b2ca06654p-1, 0x1.937a45bd49642p-1 },
    { 0x1.0000000000000p+20, 0x1.526ccb2fc8656p-2, 0x1.e33ada92fe2aep-1 },
    { -0x1.0000000000000p+21, -0x1.3f68887a137efp-1, 0x1.9027224e704fap-1 },
    { 0x1.5ddb200000000p+20, -0x1.6a09f7d6abaf0p-1, -0x1.6a09d4f93af3bp-1 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        double s, c;

        fs_sincos64(t[i][0], &s, &c);
        assert_neighbour_f64(s, t[i][1]);
        assert_neighbour_f64(c, t[i][2]);
        fs_sincos64(-t[i][0], &s, &c);
        assert_neighbour_f64(-s, t[i][1]);
        assert_neighbour_f64(c, t[i][2]);
    }
}

static void erf_meets_mpmath(void **state)
{
    static const struct {
        float x;
        double erf;
    } t[] = {
    { 0x1.99999a0000000p-4f, 0x1.cca5ea9760a8cp-4 },
    { 0x1.cccccc0000000p-1f, 0x1.98045a05bc921p-1 },
    { 0x1.0000000000000p+0f, 0x1.af767a741088bp-1 },
    { 0x1.b333340000000p+0f, 0x1.f7b3622537024p-1 },
    { 0x1.3333340000000p+1f, 0x1.ffa5c151932e2p-1 },
    { 0x1.a666660000000p+1f, 0x1.ffff996676d7dp-1 },
    { 0x1.f333340000000p+1f, 0x1.fffffed523185p-1 },
    { -0x1.0000000000000p-1f, -0x1.0a7ef5c18edd2p-1 },
    { -0x1.0000000000000p+1f, -0x1.fd9ae142795e3p-1 },
    { 0x1.4484c00000000p-100f, 0x1.6e2e12efb2b40p-100 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        assert_true(ulps_f32(fs_erff(t[i].x), t[i].erf) <= 0.5001);
}

static double inv_freq(double theta, int i, int d)
{
    return fs_pow64(theta, -(2.0 * i) / d);
}

static void rope_frequencies_meet_mpmath(void **state)
{
    static const struct {
        double theta;
        int i, d;
        double inv_freq;
    } t[] = {
    { 0x1.3880000000000p+13, 1, 64, 0x1.7ff2224115d9ap-1 },
    { 0x1.3880000000000p+13, 31, 64, 0x1.17a8e301c4436p-13 },
    { 0x1.3880000000000p+13, 16, 64, 0x1.47ae147ae147bp-7 },
    { 0x1.3880000000000p+17, 5, 64, 0x1.3ae8ea06d9e93p-3 },
    { 0x1.e848000000000p+19, 63, 128, 0x1.4d1c97f4e952fp-20 },
    { 0x1.e848000000000p+18, 7, 128, 0x1.e788c2ed352b4p-3 },
    { 0x1.312d000000000p+23, 31, 64, 0x1.635e883bbc816p-23 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        assert_neighbour_f64(inv_freq(t[i].theta, t[i].i, t[i].d), t[i].inv_freq);
}

/* cos and sin at positions up to V4's last, angle = fl64(pos * inv_freq): rounding the angle costs 2^-53 of up to a
 * million radians, so the f32 is the exact value's or, near a tie, its neighbour. */
static void rope_tables_meet_mpmath(void **state)
{
    static const struct {
        double theta;
        int i, d, pos;
        double cos, sin;
    } t[] = {
    { 0x1.3880000000000p+13, 1, 64, 1, 0x1.76a95fe716d1fp-1, 0x1.5cf59bfbfca96p-1 },
    { 0x1.3880000000000p+13, 0, 64, 163839, 0x1.d4589dfe818a9p-3, -0x1.f26eaa3047212p-1 },
    { 0x1.3880000000000p+13, 3, 64, 131071, 0x1.152cb70a10453p-1, -0x1.ae7c6b0c2dcfbp-1 },
    { 0x1.3880000000000p+13, 0, 64, 1048575, 0x1.937a45bd49642p-1, -0x1.3b32b2ca06654p-1 },
    { 0x1.3880000000000p+17, 1, 64, 1048575, 0x1.afc8e5385ff28p-1, 0x1.1325a8f36823fp-1 },
    { 0x1.3880000000000p+13, 31, 64, 1048575, -0x1.d89eeeb524caep-6, 0x1.ffc97471066ebp-1 },
    { 0x1.3880000000000p+13, 7, 64, 65535, 0x1.8ebdfceb95672p-1, -0x1.412aefcd27c91p-1 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        double s, c;

        fs_sincos64((double)t[i].pos * inv_freq(t[i].theta, t[i].i, t[i].d), &s, &c);
        assert_true(fabs(c - t[i].cos) < 3e-10);
        assert_true(fabs(s - t[i].sin) < 3e-10);
        assert_true(ulps_f32((float)c, t[i].cos) < 0.51);
        assert_true(ulps_f32((float)s, t[i].sin) < 0.51);
    }
}

/* The vectors come from docs/RN1.md in exact rational arithmetic: text and code say the same, to the bit. */
static void the_text_gives_the_same_bits(void **state)
{
    (void)state;
#define EACH(table) for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    EACH(rn1_exp32)
    assert_same_bits(fs_expf(rn1_exp32[i][0]), rn1_exp32[i][1]);
    EACH(rn1_log32)
    assert_same_bits(fs_logf(rn1_log32[i][0]), rn1_log32[i][1]);
    EACH(rn1_log1p32)
    assert_same_bits(fs_log1pf(rn1_log1p32[i][0]), rn1_log1p32[i][1]);
    EACH(rn1_erf32)
    assert_same_bits(fs_erff(rn1_erf32[i][0]), rn1_erf32[i][1]);
    EACH(rn1_exp64)
    assert_same_bits64(fs_exp64(rn1_exp64[i][0]), rn1_exp64[i][2]);
    EACH(rn1_log64)
    assert_same_bits64(fs_log64(rn1_log64[i][0]), rn1_log64[i][2]);
    EACH(rn1_log1p64)
    assert_same_bits64(fs_log1p64(rn1_log1p64[i][0]), rn1_log1p64[i][2]);
    EACH(rn1_pow64)
    assert_same_bits64(fs_pow64(rn1_pow64[i][0], rn1_pow64[i][1]), rn1_pow64[i][2]);
    EACH(rn1_sincos64)
    {
        double s, c;

        fs_sincos64(rn1_sincos64[i][0], &s, &c);
        assert_same_bits64(s, rn1_sincos64[i][1]);
        assert_same_bits64(c, rn1_sincos64[i][2]);
    }
#undef EACH
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_of_special_values),
        cmocka_unit_test(logs_of_special_values),
        cmocka_unit_test(sines_of_special_values),
        cmocka_unit_test(erf_of_special_values),
        cmocka_unit_test(pow_of_special_values),
        cmocka_unit_test(every_function_keeps_its_bound),
        cmocka_unit_test(exp_is_monotonic_where_it_is_pieced_together),
        cmocka_unit_test(the_text_gives_the_same_bits),
        cmocka_unit_test(exp64_meets_mpmath),
        cmocka_unit_test(log64_meets_mpmath),
        cmocka_unit_test(log1p64_meets_mpmath),
        cmocka_unit_test(sincos64_meets_mpmath),
        cmocka_unit_test(erf_meets_mpmath),
        cmocka_unit_test(rope_frequencies_meet_mpmath),
        cmocka_unit_test(rope_tables_meet_mpmath),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
