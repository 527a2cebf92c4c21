/* 8-bit rows: every implementation reads what the reference does, to the bit; values are within half a step of the row's; a
 * row in a panel is the row by itself. */
#include "unit.h"

#include "kernels/kernels.h"
#include "kernels/kv8_isa.h"

#include <stdlib.h>

static uint32_t seed = 7;

static float uniform(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(int32_t)seed * 0x1p-31f;
}

/* Ordinary rows, and some with a block of zeros, of denormals, with an infinity, a NaN, or at the edge of what bf16 flushes. */
static void fill(float *x, size_t n, int kind)
{
    static const float scale[] = { 1, 1e-3f, 0, 0x1p-130f, 1, 1, 0x1p-119f };

    for (size_t i = 0; i < n; i++)
        x[i] = uniform() * scale[kind];
    if (kind == 4)
        x[n / 2] = INFINITY;
    if (kind == 5)
        x[n / 3] = NAN;
}

static void every_isa_reads_the_same(void **state)
{
    (void)state;
    for (size_t n = 2; n <= 200; n += n < 70 ? 2 : 26) {
        size_t n_rows = 32, P = fs_pairs(n);
        uint8_t *rows = malloc(n_rows * fs_kv8_row_bytes(n)), *panels = malloc(n_rows * fs_kv8_key_bytes(n));
        fs_pair *want[3], *got[3];
        float *x = malloc(n * sizeof *x);
        for (size_t r = 0; r < n_rows; r++) {
            fill(x, n, (int)(r % 7));
            memset(rows + r * fs_kv8_row_bytes(n), 0x55, fs_kv8_row_bytes(n));
            fs_kv8_put_row(rows + r * fs_kv8_row_bytes(n), x, n);
            fs_kv8_put_key(panels + r / 16 * 16 * fs_kv8_key_bytes(n), r % 16, x, n);
        }
        for (int i = 0; i < 3; i++) {
            want[i] = malloc(n_rows * P * sizeof **want);
            got[i] = malloc(n_rows * P * sizeof **got);
        }
        for (unsigned isa = 0; isa < FS_ISA_END; isa = isa ? isa << 1 : 1) {
            const fs_kv8_kernels k = isa ? fs_kv8_kernels_of(isa) : fs_kv8_ref;
            fs_pair **ret = isa ? got : want;
            if (isa && !(fs_isa_detect() & isa))
                continue;
            k.rows(rows, n_rows, n, ret[0]);
            k.panels(panels, n_rows / 16, n, ret[1]);
            k.values(rows, n_rows, n, ret[2]);
            for (int i = 0; i < 3 && isa; i++)
                assert_memory_equal(got[i], want[i], n_rows * P * sizeof **want);
        }
        for (size_t r = 0; r < n_rows; r++)
            for (size_t i = 0; i < n; i++) {
                fs_pair a = want[0][r * P + i / 2], b = want[1][(r / 16 * P + i / 2) * 16 + r % 16], c = want[2][r / 2 * n + i];
                assert_int_equal(i % 2 ? a & 0xffff : a >> 16, i % 2 ? b & 0xffff : b >> 16);
                assert_int_equal(i % 2 ? a & 0xffff : a >> 16, r % 2 ? c & 0xffff : c >> 16);
            }
        for (int i = 0; i < 3; i++) {
            free(want[i]);
            free(got[i]);
        }
        free(rows);
        free(panels);
        free(x);
    }
}

static void values_are_near(void **state)
{
    enum { N = 71 };
    float x[N];
    uint8_t row[80 + 16];
    fs_pair y[fs_pairs(80)];

    (void)state;
    assert_true(fs_kv8_row_bytes(N) <= sizeof row);
    for (int run = 0; run < 100; run++) {
        fill(x, N, run % 4);
        fs_kv8_put_row(row, x, N);
        fs_kv8_ref.rows(row, 1, N, y);
        assert_int_equal(y[N / 2] & 0xffff, 0);
        for (size_t b = 0; b < N; b += 32) {
            float amax = 0;
            for (size_t i = b; i < b + 32 && i < N; i++)
                amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
            for (size_t i = b; i < b + 32 && i < N; i++) {
                float got = i % 2 ? fs_pair_second(y[i / 2]) : fs_pair_first(y[i / 2]);
                assert_true(fabsf(got - x[i]) <= amax / 253 + fabsf(x[i]) / 250 + 0x1p-126f);
            }
        }
    }
    fill(x, N, 5);
    fs_kv8_put_row(row, x, N);
    fs_kv8_ref.rows(row, 1, N, y);
    assert_true(isnan(fs_pair_first(y[0])) && isnan(fs_pair_second(y[0]))); /* its block is; */
    assert_false(isnan(fs_pair_first(y[32 / 2])));                          /* the next is not */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_isa_reads_the_same),
        cmocka_unit_test(values_are_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
