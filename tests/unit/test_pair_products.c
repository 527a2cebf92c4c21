/* Products of RN1-bf16: the reference is B256 to the letter, every implementation of this machine equals it to the bit, flushing
 * included, however it is cut; packing rounds. Buffers are of exact size, so that sanitizers see a stray read. */
#include "unit.h"

#include "numbers.h"

#include "kernels/kernels.h"
#include "kernels/pair_products_isa.h"

#include <math.h>

enum spread { EVEN, WIDE, TINY, SPECIAL, SPREAD_END };

static float draw(enum spread spread)
{
    static const float special[8] = { 0, -0.0f, INFINITY, -INFINITY, NAN, 0x1p-126f, -0x1.fffffep-127f, 0x1.fffffep127f };
    float x = (float)(int32_t)random_u32() * 0x1p-31f;

    if (spread == SPECIAL && random_u32() % 40 == 0)
        return special[random_u32() % 8];
    if (spread == TINY) /* products around 2^-126, denormal operands among them */
        return ldexpf(x, -55 - (int)(random_u32() % 16) - (random_u32() % 20 == 0 ? 70 : 0));
    return spread == WIDE ? ldexpf(x, (int)(random_u32() % 120) - 80) : x;
}

static float *draw_row(size_t n, enum spread spread)
{
    float *x = malloc(n * sizeof *x + !n);

    for (size_t i = 0; i < n; i++)
        x[i] = draw(spread);
    return x;
}

static void *aligned(size_t n_bytes)
{
    void *p = aligned_alloc(64, (n_bytes + 63) / 64 * 64);

    assert_non_null(p);
    return p;
}

static fs_mat new_mat(uint32_t n, uint32_t k)
{
    size_t n_bytes;
    fs_mat m;

    assert_true(fs_mat_pairs_bytes(n, k, &n_bytes));
    fs_mat_init_pairs(&m, n, k, aligned(n_bytes + !n_bytes));
    return m;
}

static void free_mat(fs_mat *m)
{
    free((void *)(uintptr_t)m->data);
}

static bool available(const fs_pair_isa *p)
{
    return (!p->isa || fs_isa_detect() & p->isa) && (!p->available || p->available());
}

/* Written out apart from the code under test. */
static float bf16(float x)
{
    double unit;

    if (!isfinite(x))
        return x;
    if (fabsf(x) < 0x1p-126f)
        return copysignf(0, x);
    unit = ldexp(1, ilogbf(x) - 7);
    return (float)(nearbyint((double)x / unit) * unit); /* above the largest: infinity by the conversion */
}

static float b256(const float *a, const float *b, size_t k, float y)
{
    for (size_t k0 = 0; k0 < k; k0 += 256) {
        float s = 0;
        for (size_t i = k0; i < k && i < k0 + 256; i++)
            s = fs_fma_flushed(bf16(a[i]), bf16(b[i]), s);
        y = fs_flushed(y + s);
    }
    return y;
}

static const uint32_t outputs[] = { 1, 15, 16, 17, 40, 130 };
static const uint32_t inputs[] = { 1, 2, 15, 31, 32, 33, 64, 255, 256, 257, 700 };
static const size_t rows[] = { 1, 2, 3, 4, 5, 7, 12, 13, 25, 200 };
#define COUNT(a) (sizeof(a) / sizeof *(a))

static void reference_is_the_definition(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(outputs); i++)
        for (size_t j = 0; j < COUNT(inputs); j++) {
            uint32_t n = outputs[i], k = inputs[j];
            enum spread spread = (enum spread)((i + j) % SPREAD_END);
            float *w = draw_row((size_t)n * k, spread), *x = draw_row(3 * (size_t)k, spread), *bias = draw_row(n, EVEN), *y = draw_row(3 * (size_t)n, EVEN);
            float *sum = malloc(3 * n * sizeof *sum);
            fs_mat m = new_mat(n, k);
            memcpy(sum, y, 3 * n * sizeof *sum);
            fs_mat_pack_pairs(&m, &fs_pair_ref, w, k, 0, fs_mat_panels(&m));
            fs_pair_ref.gemm_add(&m, 0, fs_mat_panels(&m), x, k, 3, sum, n, NULL);
            for (size_t o = 0; o < 3 * (size_t)n; o++)
                assert_true(same(sum[o], b256(x + o / n * k, w + o % n * k, k, y[o])));
            fs_pair_ref.gemm(&m, 0, fs_mat_panels(&m), x, k, 3, bias, y, n, NULL);
            for (size_t o = 0; o < 3 * (size_t)n; o++)
                assert_true(same(y[o], b256(x + o / n * k, w + o % n * k, k, 0) + bias[o % n]));
            free(w);
            free(x);
            free(bias);
            free(y);
            free(sum);
            free_mat(&m);
        }
}

static void check(const fs_pair_isa *isa, const fs_mat *w, const float *x, size_t m, const float *bias, bool add)
{
    size_t ldy = w->n + 2, n_y = (m - 1) * ldy + w->n, panels = fs_mat_panels(w), cut = panels > 1 ? random_u32() % panels : 0;
    float *want = draw_row(n_y, EVEN), *got = malloc(n_y * sizeof *got);
    void *scratch = aligned(FS_GEMM_SCRATCH_BYTES);

    memcpy(got, want, n_y * sizeof *got);
    if (add) {
        fs_pair_ref.gemm_add(w, 0, panels, x, w->k, m, want, ldy, scratch);
        isa->kernels->gemm_add(w, 0, cut, x, w->k, m, got, ldy, scratch);
        isa->kernels->gemm_add(w, cut, panels, x, w->k, m, got, ldy, scratch);
    } else {
        fs_pair_ref.gemm(w, 0, panels, x, w->k, m, bias, want, ldy, scratch);
        isa->kernels->gemm(w, cut, panels, x, w->k, m, bias, got, ldy, scratch);
        isa->kernels->gemm(w, 0, cut, x, w->k, m, bias, got, ldy, scratch);
    }
    for (size_t i = 0; i < n_y; i++)
        if (!same(got[i], want[i]))
            fail_msg("%s n %u k %u m %zu add %d cut %zu: [%zu][%zu] is %a, reference %a", isa->name, w->n, w->k, m, add, cut, i / ldy, i % ldy,
                     (double)got[i], (double)want[i]);
    free(want);
    free(got);
    free(scratch);
}

/* The same x turned, in rows of another order if by_index. */
static void check_turned(const fs_pair_isa *isa, const fs_mat *w, const float *x, size_t m, bool by_index)
{
    size_t ldy = w->n + 2, n_y = (m - 1) * ldy + w->n, panels = fs_mat_panels(w), cut = panels > 1 ? random_u32() % panels : 0;
    float *want = draw_row(n_y, EVEN), *got = malloc(n_y * sizeof *got), *turned = malloc(m * w->k * sizeof *turned);
    uint32_t *index = malloc(w->k * sizeof *index);
    void *scratch = aligned(FS_GEMM_SCRATCH_BYTES);

    memcpy(got, want, n_y * sizeof *got);
    for (uint32_t k = 0; k < w->k; k++) {
        index[k] = by_index ? w->k - 1 - k : k;
        for (size_t t = 0; t < m; t++)
            turned[index[k] * m + t] = x[t * w->k + k];
    }
    fs_pair_ref.gemm_add(w, 0, panels, x, w->k, m, want, ldy, scratch);
    isa->kernels->gemm_turned(w, 0, cut, turned, m, by_index ? index : NULL, m, got, ldy, scratch);
    isa->kernels->gemm_turned(w, cut, panels, turned, m, by_index ? index : NULL, m, got, ldy, scratch);
    for (size_t i = 0; i < n_y; i++)
        if (!same(got[i], want[i]))
            fail_msg("%s turned n %u k %u m %zu cut %zu: [%zu][%zu] is %a, reference %a", isa->name, w->n, w->k, m, cut, i / ldy, i % ldy,
                     (double)got[i], (double)want[i]);
    free(want);
    free(got);
    free(turned);
    free(index);
    free(scratch);
}

static void every_isa_equals_the_reference(void **state)
{
    (void)state;
    for (size_t p = 1; p < fs_n_pair_isas; p++) {
        if (!available(&fs_pair_isas[p]))
            continue;
        assert_ptr_not_equal(fs_pair_isas[p].kernels->gemm, fs_pair_ref.gemm);
        for (size_t i = 0; i < COUNT(outputs); i++)
            for (size_t j = 0; j < COUNT(inputs); j++)
                for (size_t l = (i + j) % 3; l < COUNT(rows); l += 3) {
                    enum spread spread = (enum spread)((i + j + l) % SPREAD_END);
                    uint32_t n = outputs[i], k = inputs[j];
                    float *values = draw_row((size_t)n * k, spread), *x = draw_row(rows[l] * k, spread), *bias = draw_row(n, EVEN);
                    fs_mat m = new_mat(n, k);
                    fs_mat_pack_pairs(&m, &fs_pair_ref, values, k, 0, fs_mat_panels(&m));
                    check(&fs_pair_isas[p], &m, x, rows[l], l % 2 ? bias : NULL, false);
                    check(&fs_pair_isas[p], &m, x, rows[l], NULL, true);
                    check_turned(&fs_pair_isas[p], &m, x, rows[l], l % 2);
                    check_turned(&fs_pair_isas[0], &m, x, rows[l], l % 2);
                    free(values);
                    free(x);
                    free(bias);
                    free_mat(&m);
                }
    }
}

static void no_inputs_give_zeros(void **state)
{
    (void)state;
    for (size_t p = 0; p < fs_n_pair_isas; p++) {
        fs_mat m = new_mat(3, 0);
        float y[3] = { 1, 2, 3 };
        void *scratch = aligned(FS_GEMM_SCRATCH_BYTES);
        if (available(&fs_pair_isas[p])) {
            fs_pair_isas[p].kernels->gemm_add(&m, 0, 1, y, 0, 1, y, 3, scratch);
            assert_true(y[0] == 1 && y[2] == 3);
            fs_pair_isas[p].kernels->gemm(&m, 0, 1, y, 0, 1, NULL, y, 3, scratch);
            assert_true(y[0] == 0 && y[1] == 0 && y[2] == 0);
        }
        free(scratch);
        free_mat(&m);
    }
}

static void every_packing_equals_the_reference(void **state)
{
    (void)state;
    for (size_t p = 0; p < fs_n_pair_isas; p++) {
        const fs_pair_kernels *kernels = fs_pair_isas[p].kernels;
        if (!available(&fs_pair_isas[p]))
            continue;
        for (size_t i = 0; i < COUNT(outputs); i++)
            for (size_t j = 0; j < COUNT(inputs); j++) {
                uint32_t n = outputs[i], k = inputs[j];
                size_t n_values = (size_t)n * k, n_bytes = fs_mat_panels(&(fs_mat){ .n = n }) * fs_pairs(k) * 64;
                float *values = draw_row(n_values, (enum spread)((i + j) % SPREAD_END)), *turned = malloc(n_values * sizeof *turned);
                uint32_t *index = malloc(k * sizeof *index);
                fs_mat want = new_mat(n, k), got = new_mat(n, k);
                fs_tensor t = { .name = "w", .dtype = FS_DTYPE_F32, .n_dims = 2, .dims = { n, k }, .data = (const uint8_t *)values, .n_bytes = n_values * 4 };
                fs_mat_pack_pairs(&want, &fs_pair_ref, values, k, 0, fs_mat_panels(&want));
                fs_mat_pack_pairs(&got, kernels, values, k, 0, fs_mat_panels(&got));
                assert_memory_equal(want.data, got.data, n_bytes);
                memset((void *)(uintptr_t)got.data, 0x5a, n_bytes);
                fs_mat_pack_pairs_of(&got, kernels, &t, 0, 0, fs_mat_panels(&got));
                assert_memory_equal(want.data, got.data, n_bytes);
                for (size_t r = 0; r < k; r++) { /* rows of the transposed in another order */
                    index[r] = (uint32_t)(k - 1 - r);
                    for (size_t o = 0; o < n; o++)
                        turned[index[r] * n + o] = values[o * k + r];
                }
                memset((void *)(uintptr_t)got.data, 0x5a, n_bytes);
                fs_mat_pack_pair_columns(&got, kernels, turned, n, index, 0, fs_mat_panels(&got));
                assert_memory_equal(want.data, got.data, n_bytes);
                free(values);
                free(turned);
                free(index);
                free_mat(&want);
                free_mat(&got);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_is_the_definition),
        cmocka_unit_test(every_isa_equals_the_reference),
        cmocka_unit_test(no_inputs_give_zeros),
        cmocka_unit_test(every_packing_equals_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
