/* The encoders of block formats: what is read back is near, what a format holds exactly comes back, columns that weigh more
 * are nearer, and the bytes are the same on every machine. */
#include "unit.h"

#include "tensor/blocks.h"
#include "tensor/quantize.h"

#include <math.h>
#include <stdlib.h>

#define N 2048

/* rmse: of normal numbers of variance 1, a little above what is measured. bytes: FNV-1a of the blocks of those. */
static const struct { fs_dtype type; double rmse; uint64_t bytes; } types[] = {
    { FS_DTYPE_Q8_0, 0.0047, 0x27554fbd6716f40b }, { FS_DTYPE_Q4_0, 0.0788, 0x10161b2533a9dddc },
    { FS_DTYPE_Q4_1, 0.0670, 0xa8de2309134548f3 }, { FS_DTYPE_Q5_0, 0.0388, 0xef151a7a411f7e83 },
    { FS_DTYPE_Q5_1, 0.0334, 0x0979ef5ee84f8698 }, { FS_DTYPE_Q2_K, 0.2576, 0x9d210459811c8562 },
    { FS_DTYPE_Q3_K, 0.1416, 0x2b0729abb2530349 }, { FS_DTYPE_Q4_K, 0.0675, 0x73fe346500e9c908 },
    { FS_DTYPE_Q5_K, 0.0344, 0x0667e496ca693208 }, { FS_DTYPE_Q6_K, 0.0162, 0xe545856583b90b4c },
    { FS_DTYPE_IQ4_NL, 0.0718, 0xfd939155cbde9b29 }, { FS_DTYPE_IQ4_XS, 0.0724, 0x10c64cb4e1579edd },
    { FS_DTYPE_MXFP4, 0.1066, 0x706269e71bcd93b4 },
};

static uint64_t seed;

static float uniform(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(seed >> 40) * 0x1p-24f;
}

/* The sum of twelve uniform numbers: near normal, and exact in its order. */
static void normal(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = -6;
        for (int k = 0; k < 12; k++)
            x[i] += uniform();
    }
}

static double error_of(fs_dtype t, const float *x, const float *w, const float *of, size_t n, uint8_t *bytes)
{
    float *y = malloc(n * sizeof *y);
    double e = 0, sum = 0;

    fs_quantize_row(t, x, w, n, bytes);
    fs_dequant_row(t, bytes, y, n);
    for (size_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)y[i], weight = of ? (double)of[i] : 1;
        assert_true(isfinite(y[i]));
        e += weight * d * d;
        sum += weight;
    }
    free(y);
    return sqrt(e / sum);
}

static uint64_t fnv(const uint8_t *b, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * 0x100000001b3u;
    return h;
}

static void normal_numbers_come_back_near_and_the_bytes_are_known(void **state)
{
    float *x = malloc(N * sizeof *x);
    uint8_t *bytes = malloc(N * sizeof(float));

    (void)state;
    seed = 1;
    normal(x, N);
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        const fs_dtype_info *info = fs_dtype_get(types[k].type);
        double rmse = error_of(types[k].type, x, NULL, NULL, N, bytes);
        uint64_t h = fnv(bytes, N / info->block_elems * info->block_bytes);
        assert_true(fs_can_quantize(types[k].type));
        if (!(rmse < types[k].rmse) || h != types[k].bytes)
            print_message("%s: rmse %.4f, bytes 0x%016llx\n", info->name, rmse, (unsigned long long)h);
        assert_true(rmse < types[k].rmse);
        assert_true(h == types[k].bytes);
    }
    free(x);
    free(bytes);
}

static void odd_blocks_are_finite_and_near(void **state)
{
    float *x = malloc(N * sizeof *x);
    uint8_t *bytes = malloc(N * sizeof(float));

    (void)state;
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        fs_dtype t = types[k].type;
        seed = 2;
        memset(x, 0, N * sizeof *x);
        assert_true(error_of(t, x, NULL, NULL, N, bytes) == 0);
        x[5] = 65504; /* one large number among zeros */
        assert_true(error_of(t, x, NULL, NULL, N, bytes) < 65504 / 8.0);
        for (size_t i = 0; i < N; i++)
            x[i] = 3.25f;
        assert_true(error_of(t, x, NULL, NULL, N, bytes) < 0.26);
        for (size_t i = 0; i < N; i++)
            x[i] = -3.25f - 0.001f * (float)(i % 7);
        assert_true(error_of(t, x, NULL, NULL, N, bytes) < 0.26);
        normal(x, N);
        for (size_t i = 0; i < N; i++)
            x[i] *= 1e-38f;
        assert_true(error_of(t, x, NULL, NULL, N, bytes) < 1e-36);
        for (size_t i = 0; i < N; i++)
            x[i] *= 1e34f;
        assert_true(error_of(t, x, NULL, NULL, N, bytes) < 1e-4);
    }
    free(x);
    free(bytes);
}

/* What was quantised once is not changed by doing it again, where the block's largest integer was in use. */
static void grids_are_found_again(void **state)
{
    float x[256], y[256];
    uint8_t b[1024];

    (void)state;
    seed = 3;
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 256; i++) {
            int q = (int)(uniform() * 255) - 127;
            x[i] = (float)(i % 32 == 7 ? 127 : q) * 0.0078125f;
            y[i] = (float)(i % 32 == 7 ? -8 : (int)(uniform() * 15.9f) - 8) * 0.25f;
        }
        assert_true(error_of(FS_DTYPE_Q8_0, x, NULL, NULL, 256, b) == 0);
        assert_true(error_of(FS_DTYPE_Q4_0, y, NULL, NULL, 256, b) == 0);
        for (int i = 0; i < 256; i++)
            y[i] = 0.5f * (float)fs_e2m1_doubled[(int)(uniform() * 15.9f)] * 0x1p-9f;
        y[0] = y[32] = y[64] = y[96] = y[128] = y[160] = y[192] = y[224] = 6 * 0x1p-9f;
        assert_true(error_of(FS_DTYPE_MXFP4, y, NULL, NULL, 256, b) == 0);
    }
}

static void weights_move_the_error(void **state)
{
    float *x = malloc(N * sizeof *x), *w = malloc(N * sizeof *w);
    uint8_t *bytes = malloc(N * sizeof(float));

    (void)state;
    seed = 4;
    normal(x, N);
    for (size_t i = 0; i < N; i++)
        w[i] = i % 8 == 0 ? 100 : 0.5f * uniform();
    for (size_t k = 0; k < sizeof types / sizeof *types; k++)
        assert_true(error_of(types[k].type, x, w, w, N, bytes) < error_of(types[k].type, x, NULL, w, N, bytes));
    memset(w, 0, N * sizeof *w); /* of no column anything is known: any finite block will do */
    for (size_t k = 0; k < sizeof types / sizeof *types; k++)
        assert_true(error_of(types[k].type, x, w, NULL, N, bytes) < 10);
    free(x);
    free(w);
    free(bytes);
}

static void plain_types_round_to_even(void **state)
{
    static const float x[4] = { 1.00390625f, 1.01171875f, -2049, 65504 };
    uint16_t h[4];
    float y[4];

    (void)state;
    fs_quantize_row(FS_DTYPE_BF16, x, NULL, 4, h);
    assert_true(h[0] == 0x3f80 && h[1] == 0x3f82);
    fs_quantize_row(FS_DTYPE_F16, x, NULL, 4, h);
    assert_true(h[2] == 0xe800 && h[3] == 0x7bff);
    fs_quantize_row(FS_DTYPE_F32, x, NULL, 4, y);
    assert_memory_equal(x, y, sizeof x);
    assert_false(fs_can_quantize(FS_DTYPE_IQ2_XS));
    assert_false(fs_can_quantize(FS_DTYPE_F8_E4M3));
}

static void e4m3_is_the_nearest_code(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++)
        if ((c & 0x7f) != 0x7f)
            assert_int_equal(fs_f32_to_e4m3(fs_e4m3_to_f32((uint8_t)c)), c);
    for (int c = 0; c < 0x7e; c++) {
        float a = fs_e4m3_to_f32((uint8_t)c), b = fs_e4m3_to_f32((uint8_t)(c + 1)), middle = (a + b) / 2;
        assert_int_equal(fs_f32_to_e4m3(middle), c % 2 ? c + 1 : c);
        assert_int_equal(fs_f32_to_e4m3(nextafterf(middle, a)), c);
        assert_int_equal(fs_f32_to_e4m3(-nextafterf(middle, b)), (c + 1) | 0x80);
    }
    assert_int_equal(fs_f32_to_e4m3(1e9f), 0x7e);
    assert_int_equal(fs_f32_to_e4m3(-INFINITY), 0xfe);
    assert_int_equal(fs_f32_to_e4m3(NAN) & 0x7f, 0x7f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normal_numbers_come_back_near_and_the_bytes_are_known),
        cmocka_unit_test(odd_blocks_are_finite_and_near),
        cmocka_unit_test(grids_are_found_again),
        cmocka_unit_test(weights_move_the_error),
        cmocka_unit_test(plain_types_round_to_even),
        cmocka_unit_test(e4m3_is_the_nearest_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
