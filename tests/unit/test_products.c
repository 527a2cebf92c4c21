/* Packing and products: the panels hold the tensor's values, the reference is order A256 to the letter, every ISA of
 * this machine equals the reference to the bit. Buffers are of exact size, so that sanitizers see a stray read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numbers.h"

#include "kernels/kernels.h"
#include "kernels/products_isa.h"
#include "tensor/blocks.h"

static float *random_floats(size_t n)
{
    float *x = malloc(n * sizeof *x + !n);
    for (size_t i = 0; i < n; i++)
        x[i] = random_float();
    return x;
}

struct form {
    fs_dtype dtype;
    uint32_t scale_rows, scale_cols; /* 0: no scales */
    bool e8m0; /* the scales, else F32 */
};

static const struct form forms[] = {
    { FS_DTYPE_F32, 0, 0, false }, { FS_DTYPE_BF16, 0, 0, false }, { FS_DTYPE_F16, 0, 0, false },
    { FS_DTYPE_F8_E4M3, 0, 0, false }, { FS_DTYPE_F8_E4M3, 128, 128, false }, { FS_DTYPE_F8_E4M3, 16, 32, false },
    { FS_DTYPE_F8_E4M3, 16, 7, false }, { FS_DTYPE_F8_E4M3, 1, 1 << 20, false }, { FS_DTYPE_F8_E4M3, 5, 3, false },
    { FS_DTYPE_Q4_0, 0, 0, false }, { FS_DTYPE_Q4_1, 0, 0, false }, { FS_DTYPE_Q5_0, 0, 0, false },
    { FS_DTYPE_Q5_1, 0, 0, false }, { FS_DTYPE_Q8_0, 0, 0, false }, { FS_DTYPE_Q2_K, 0, 0, false },
    { FS_DTYPE_Q3_K, 0, 0, false }, { FS_DTYPE_Q4_K, 0, 0, false }, { FS_DTYPE_Q5_K, 0, 0, false },
    { FS_DTYPE_Q6_K, 0, 0, false }, { FS_DTYPE_IQ4_NL, 0, 0, false }, { FS_DTYPE_IQ4_XS, 0, 0, false },
    { FS_DTYPE_MXFP4, 0, 0, false }, { FS_DTYPE_NVFP4, 0, 0, false }, { FS_DTYPE_IQ1_S, 0, 0, false },
    { FS_DTYPE_IQ1_M, 0, 0, false }, { FS_DTYPE_IQ2_XXS, 0, 0, false }, { FS_DTYPE_IQ2_XS, 0, 0, false },
    { FS_DTYPE_IQ2_S, 0, 0, false }, { FS_DTYPE_IQ3_XXS, 0, 0, false }, { FS_DTYPE_IQ3_S, 0, 0, false },
    { FS_DTYPE_TQ1_0, 0, 0, false }, { FS_DTYPE_TQ2_0, 0, 0, false }, { FS_DTYPE_F8_E4M3, 32, 32, true },
    { FS_DTYPE_F8_E4M3, 3, 32, true }, { FS_DTYPE_FP4_E2M1, 1, 32, true }, { FS_DTYPE_FP4_E2M1, 1, 32, false },
    { FS_DTYPE_FP4_E2M1, 3, 7, true },
};
#define N_FORMS (sizeof forms / sizeof forms[0])

/* A [n, k] tensor whose values are finite. Every bit pattern of codes and, for plain types, every exponent of weights
 * between 2^-126 and 1 occurs. */
static fs_tensor random_tensor(const struct form *form, uint64_t n, uint64_t k)
{
    const fs_dtype dtype = form->dtype;
    const uint32_t scale_rows = form->scale_rows, scale_cols = form->scale_cols;
    const fs_dtype_info *info = fs_dtype_get(dtype);
    fs_tensor t = { .name = "w", .dtype = dtype, .n_dims = 2, .dims = { n, k } };
    float values[256];
    uint8_t *data;

    assert_true(fs_dtype_bytes(dtype, n * k, &t.n_bytes));
    t.data = data = malloc(t.n_bytes + !t.n_bytes);
    for (size_t at = 0; at < t.n_bytes; at += info->block_bytes) {
        bool usable;
        do {
            for (size_t i = 0; i < info->block_bytes; i++)
                data[at + i] = (uint8_t)random_u32();
            if (dtype == FS_DTYPE_F32) {
                float x = random_float();
                memcpy(data + at, &x, sizeof x);
            } else if (dtype == FS_DTYPE_BF16) {
                uint16_t h = fs_f32_to_bf16(random_float());
                memcpy(data + at, &h, sizeof h);
            }
            usable = true;
            fs_dequant_row(dtype, data + at, values, info->block_elems);
            for (size_t i = 0; i < info->block_elems; i++)
                usable = usable && isfinite(values[i]) && fabsf(values[i]) < 0x1p60f;
        } while (!usable);
    }
    if (scale_rows) {
        size_t n_scales = (n + scale_rows - 1) / scale_rows * ((k + scale_cols - 1) / scale_cols);
        uint8_t *bytes = malloc(n_scales * sizeof(float) + 1);
        for (size_t i = 0; i < n_scales; i++) {
            float s = random_float() * 0.01f;
            if (form->e8m0)
                bytes[1 + i] = (uint8_t)(100 + random_u32() % 40);
            else
                memcpy(bytes + 1 + i * sizeof s, &s, sizeof s);
        }
        t.scale_dtype = form->e8m0 ? FS_DTYPE_F8_E8M0 : FS_DTYPE_F32;
        t.scales = bytes + 1; /* unaligned on purpose */
        t.scale_rows = scale_rows;
        t.scale_cols = scale_cols;
    }
    return t;
}

static void free_tensor(fs_tensor *t)
{
    free((void *)(uintptr_t)t->data);
    if (t->scales)
        free((void *)(uintptr_t)(t->scales - 1));
}

static fs_mat pack(const fs_tensor *t, uint64_t row0, uint32_t n)
{
    fs_dtype dtype = fs_mat_dtype(t);
    bool scaled = dtype == FS_DTYPE_F8_E4M3;
    size_t n_bytes;
    fs_mat m;

    assert_true(fs_mat_bytes(dtype, n, fs_tensor_cols(t), scaled ? t->scale_rows : 0, scaled ? t->scale_cols : 0, &n_bytes));
    assert_int_equal(n_bytes % 64, 0);
    fs_mat_init(&m, t, row0, n, allocate(n_bytes));
    assert_int_equal(m.dtype, dtype);
    for (size_t p = fs_mat_panels(&m); p-- > 0;) /* any order */
        fs_mat_pack(&m, t, row0, p, p + 1);
    m.finite = dtype == FS_DTYPE_F8_E4M3 && fs_mat_is_finite(&m, 0, fs_mat_panels(&m));
    m.ahead = n % 3 ? (size_t)1 << 20 : 0; /* wherever that is: it is only fetched */
    return m;
}

static void free_mat(fs_mat *m)
{
    fs_free_aligned((void *)(uintptr_t)m->data);
}

/* Which NaN is unspecified. */
static bool takes(fs_dtype dtype, size_t k)
{
    return k % fs_dtype_get(dtype)->block_elems == 0;
}

static const size_t ks[] = { 0, 1, 15, 16, 17, 31, 32, 96, 255, 256, 257, 288, 512, 544, 768, 1000 };
#define N_KS (sizeof ks / sizeof ks[0])

static void panels_hold_the_values(void **state)
{
    (void)state;
    for (size_t f = 0; f < N_FORMS; f++)
        for (size_t i = 0; i < N_KS; i++) {
            size_t k = ks[i];
            const uint32_t rows = 48, row0s[] = { 0, 16 };
            fs_tensor t;
            float *row, tile[FS_CHAIN * FS_PANEL];

            if (!takes(forms[f].dtype, k) || (k == 0 && forms[f].scale_rows))
                continue;
            t = random_tensor(&forms[f], rows, k);
            if (!t.scales)
                t.rope_heads = i % 3 ? 0 : 3;
            row = malloc(k * sizeof *row + 1);
            for (size_t j = 0; j < 2; j++)
                for (uint32_t n = 1; n <= rows - row0s[j]; n += 5) {
                    fs_mat m;
                    if (t.scales && fs_mat_dtype(&t) == FS_DTYPE_F8_E4M3 && row0s[j] % t.scale_rows)
                        continue;
                    m = pack(&t, row0s[j], n);
                    for (size_t k0 = 0; k0 < k; k0 += FS_CHAIN) {
                        size_t n_k = k - k0 < FS_CHAIN ? k - k0 : FS_CHAIN;
                        for (size_t r = 0; r < fs_mat_panels(&m) * FS_PANEL; r++) {
                            fs_mat_tile_ref(&m, r / FS_PANEL, k0, k0 + n_k, tile);
                            if (r < n)
                                fs_tensor_row_f32(&t, row0s[j] + r, row);
                            for (size_t c = 0; c < n_k; c++) {
                                float x = tile[c * FS_PANEL + r % FS_PANEL];
                                if (r < n)
                                    assert_true(same(x, row[k0 + c]));
                                else if (!fs_dtype_is_block(t.dtype) && !t.scales)
                                    assert_true(x == 0.0f);
                            }
                        }
                    }
                    free_mat(&m);
                }
            free(row);
            free_tensor(&t);
        }
}

static void packs_f32_rows(void **state)
{
    static const fs_dtype dtypes[] = { FS_DTYPE_F32, FS_DTYPE_BF16, FS_DTYPE_F16 };
    (void)state;
    for (size_t d = 0; d < 3; d++)
        for (size_t i = 1; i < N_KS; i++) {
            uint32_t n = 21, k = (uint32_t)ks[i];
            size_t stride = k + 3, n_bytes;
            float *src = random_floats(n * stride), tile[FS_CHAIN * FS_PANEL];
            fs_mat m;
            for (size_t j = 0; j < n * stride; j++) {
                if (dtypes[d] == FS_DTYPE_BF16)
                    src[j] = fs_bf16_to_f32(fs_f32_to_bf16(src[j]));
                if (dtypes[d] == FS_DTYPE_F16)
                    src[j] = fs_f16_to_f32(fs_f32_to_f16(src[j]));
            }
            assert_true(fs_mat_bytes(dtypes[d], n, k, 0, 0, &n_bytes));
            fs_mat_init_f32(&m, dtypes[d], n, k, allocate(n_bytes));
            fs_mat_pack_f32(&m, src, stride, 0, 2);
            for (size_t r = 0; r < 32; r++)
                for (size_t k0 = 0; k0 < k; k0 += FS_CHAIN) {
                    size_t n_k = k - k0 < FS_CHAIN ? k - k0 : FS_CHAIN;
                    fs_mat_tile_ref(&m, r / FS_PANEL, k0, k0 + n_k, tile);
                    for (size_t c = 0; c < n_k; c++)
                        assert_true(same(tile[c * FS_PANEL + r % FS_PANEL], r < n ? src[r * stride + k0 + c] : 0.0f));
                }
            free_mat(&m);
            free(src);
        }
}

static void sizes_that_do_not_fit_are_refused(void **state)
{
    size_t n_bytes = 7;
    (void)state;
    assert_false(fs_mat_bytes(FS_DTYPE_F32, (uint64_t)UINT32_MAX + 1, 16, 0, 0, &n_bytes));
    assert_false(fs_mat_bytes(FS_DTYPE_F32, 16, (uint64_t)UINT32_MAX + 1, 0, 0, &n_bytes));
    assert_false(fs_mat_bytes(FS_DTYPE_F32, UINT32_MAX, UINT32_MAX, 0, 0, &n_bytes));
    assert_false(fs_mat_bytes(FS_DTYPE_Q4_0, 16, 33, 0, 0, &n_bytes));
    assert_int_equal(n_bytes, 7);
    assert_true(fs_mat_bytes(FS_DTYPE_BF16, 17, 3, 0, 0, &n_bytes));
    assert_int_equal(n_bytes, 192);
    assert_true(fs_mat_bytes(FS_DTYPE_F8_E4M3, 200, 130, 128, 128, &n_bytes));
    assert_int_equal(n_bytes, 13 * 16 * 130 + 32 + 64);
}

/* Order A256 as the header writes it, from the tensor itself; *ret_exact in f64 and *ret_bound the usual bound of
 * its distance. */
static float a256(const float *w, const float *x, size_t k, double *ret_exact, double *ret_bound)
{
    float y = 0.0f;
    double exact = 0, size = 0;

    for (size_t j = 0; j < k; j += 256) {
        float s = 0.0f;
        for (size_t i = j; i < k && i < j + 256; i++) {
            s = fmaf(w[i], x[i], s);
            exact += (double)w[i] * x[i];
            size += fabs((double)w[i] * x[i]);
        }
        y = y + s;
    }
    *ret_exact = exact;
    *ret_bound = (256 + (double)k / 256 + 2) * 0x1p-24 * size + 1e-38;
    return y;
}

static void reference_is_the_definition(void **state)
{
    fs_product_kernels ref;
    void *scratch = allocate(FS_GEMM_SCRATCH_BYTES);
    (void)state;
    fs_product_kernels_init(&ref, 0);
    for (size_t f = 0; f < N_FORMS; f++)
        for (size_t i = 0; i < N_KS; i++) {
            const uint32_t n = 37;
            size_t k = ks[i], m = 3;
            float *x, *row, *bias, *y;
            fs_tensor t;
            fs_mat w;

            if (!takes(forms[f].dtype, k) || (k == 0 && forms[f].scale_rows))
                continue;
            t = random_tensor(&forms[f], n, k);
            w = pack(&t, 0, n);
            x = random_floats(m * k);
            row = random_floats(k);
            bias = random_floats(n);
            y = random_floats(m * n);
            ref.gemm(&w, 0, fs_mat_panels(&w), x, k, m, i % 2 ? bias : NULL, y, n, scratch);
            for (size_t o = 0; o < n; o++) {
                fs_tensor_row_f32(&t, o, row);
                for (size_t r = 0; r < m; r++) {
                    double exact, bound;
                    float want = a256(row, x + r * k, k, &exact, &bound);
                    assert_true(fabs(want - exact) <= bound);
                    assert_true(same(y[r * n + o], i % 2 ? want + bias[o] : want));
                }
            }
            free(x);
            free(row);
            free(bias);
            free(y);
            free_mat(&w);
            free_tensor(&t);
        }
    fs_free_aligned(scratch);
}

/* Every ISA against the reference: y of exact size with margins that must stay, panels split anyhow. */
static void check_isas(const fs_mat *w, const float *x, size_t ldx, size_t m, const float *bias)
{
    fs_product_kernels ref, k;
    size_t ldy = w->n + 2, n_y = m ? (m - 1) * ldy + w->n : 0, n_panels = fs_mat_panels(w);
    float *want = malloc(n_y * sizeof *want + 1), *y = malloc(n_y * sizeof *y + 1);
    void *scratch = allocate(FS_GEMM_SCRATCH_BYTES);

    memset(want, 0x5a, n_y * sizeof *want);
    fs_product_kernels_init(&ref, 0);
    ref.gemm(w, 0, n_panels, x, ldx, m, bias, want, ldy, scratch);
    for (unsigned isa = 1; isa < FS_ISA_END; isa <<= 1) {
        if (!(fs_isa_detect() & isa))
            continue;
        fs_product_kernels_init(&k, isa);
        assert_ptr_not_equal(k.gemm, ref.gemm);
        for (size_t step = 1; step <= n_panels; step = step == n_panels ? step + 1 : step * 3 > n_panels ? n_panels : step * 3) {
            memset(y, 0x5a, n_y * sizeof *y);
            for (size_t p = 0; p < n_panels; p += step) {
                size_t end = p + step < n_panels ? p + step : n_panels;
                k.gemm(w, p, end, x, ldx, m, bias, y, ldy, scratch);
                for (size_t r = 0; r < m; r++) /* panels to come are untouched */
                    for (size_t o = end * FS_PANEL; o < w->n; o++) {
                        uint32_t bits;
                        memcpy(&bits, &y[r * ldy + o], sizeof bits);
                        assert_int_equal(bits, 0x5a5a5a5a);
                    }
            }
            for (size_t i = 0; i < n_y; i++)
                if (!same(y[i], want[i]))
                    fail_msg("%s dtype %s n %u k %u m %zu step %zu: [%zu][%zu] is %a, reference %a", fs_isa_name(isa),
                             fs_dtype_get(w->dtype)->name, w->n, w->k, m, step, i / ldy, i % ldy, (double)y[i],
                             (double)want[i]);
        }
    }
    free(want);
    free(y);
    fs_free_aligned(scratch);
}

static void every_isa_equals_the_reference(void **state)
{
    static const uint32_t ns[] = { 1, 16, 17, 47, 64, 130, 200 };
    static const size_t ms[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 17, 25, 29 };
    (void)state;
    for (size_t f = 0; f < N_FORMS; f++)
        for (size_t i = 0; i < N_KS; i++)
            for (size_t j = 0; j < sizeof ns / sizeof ns[0]; j++) {
                size_t k = ks[i], ldx = k + i % 2 * 3;
                fs_tensor t;
                fs_mat w;
                float *bias;

                if (!takes(forms[f].dtype, k) || (k == 0 && forms[f].scale_rows))
                    continue;
                t = random_tensor(&forms[f], ns[j], k);
                w = pack(&t, 0, ns[j]);
                bias = random_floats(ns[j]);
                for (size_t l = (i + j) % 3; l < sizeof ms / sizeof ms[0]; l += 3) {
                    size_t m = ms[l];
                    float *x = random_floats(m ? (m - 1) * ldx + k : 0);
                    check_isas(&w, x, ldx, m, l % 2 ? bias : NULL);
                    free(x);
                }
                free(bias);
                free_mat(&w);
                free_tensor(&t);
            }
}

/* Rows enough to pass every blocking of the large kernels. */
static void long_batches_equal_the_reference(void **state)
{
    static const struct form few[] = { { FS_DTYPE_F32, 0, 0, false }, { FS_DTYPE_BF16, 0, 0, false },
                                       { FS_DTYPE_F8_E4M3, 128, 128, false }, { FS_DTYPE_Q4_1, 0, 0, false } };
    (void)state;
    for (size_t f = 0; f < 4; f++) {
        fs_tensor t = random_tensor(&few[f], 90, 544);
        fs_mat w = pack(&t, 0, 90);
        float *x = random_floats(611 * 544);
        check_isas(&w, x, 544, 611, NULL);
        check_isas(&w, x, 544, 256, NULL);
        free(x);
        free_mat(&w);
        free_tensor(&t);
    }
}

static void row_of_a_batch_is_the_single_product(void **state)
{
    void *scratch = allocate(FS_GEMM_SCRATCH_BYTES);
    (void)state;
    for (unsigned isa = 0; isa < FS_ISA_END; isa = isa ? isa << 1 : 1) {
        fs_product_kernels k;
        if (isa && !(fs_isa_detect() & isa))
            continue;
        fs_product_kernels_init(&k, isa);
        for (size_t f = 0; f < N_FORMS; f++) {
            const size_t m = 61, n = 70, n_k = 768;
            fs_tensor t = random_tensor(&forms[f], n, n_k);
            fs_mat w = pack(&t, 0, (uint32_t)n);
            float *x = random_floats(m * n_k), *many = random_floats(m * n), *one = random_floats(n);
            k.gemm(&w, 0, fs_mat_panels(&w), x, n_k, m, NULL, many, n, scratch);
            for (size_t r = 0; r < m; r++) {
                k.gemm(&w, 0, fs_mat_panels(&w), x + r * n_k, n_k, 1, NULL, one, n, scratch);
                assert_memory_equal(one, many + r * n, n * sizeof *one);
            }
            free(x);
            free(many);
            free(one);
            free_mat(&w);
            free_tensor(&t);
        }
    }
    fs_free_aligned(scratch);
}

/* Denormal operands and results, signed zeros, infinities and what they make. */
static void special_values_follow_ieee(void **state)
{
    static const float specials[] = { 0.0f, -0.0f, 0x1p-149f, -0x1p-149f, 0x1.8p-127f, -0x1p-126f, 0x1p-75f, -0x1p-74f, 1.0f, -1.0f,
                                      0x1.fffffep127f, -0x1p100f, INFINITY, -INFINITY };
    const size_t n_specials = sizeof specials / sizeof specials[0];
    static const fs_dtype dtypes[] = { FS_DTYPE_F32, FS_DTYPE_BF16 };
    (void)state;
    for (size_t round = 0; round < 60; round++) {
        uint32_t n = 35, k = round % 2 ? 40 : 300;
        size_t m = 1 + round % 15, kinds = round % 4 ? n_specials - 6 : n_specials, n_bytes;
        fs_dtype dtype = dtypes[round / 2 % 2];
        float *src = malloc(n * k * sizeof *src), *x = malloc(m * k * sizeof *x);
        fs_mat w;
        for (size_t i = 0; i < n * k; i++)
            src[i] = fs_bf16_to_f32(fs_f32_to_bf16(specials[random_u32() % kinds]));
        for (size_t i = 0; i < m * k; i++)
            x[i] = specials[random_u32() % (kinds == n_specials && random_u32() % 64 ? kinds - 2 : kinds)];
        assert_true(fs_mat_bytes(dtype, n, k, 0, 0, &n_bytes));
        fs_mat_init_f32(&w, dtype, n, k, allocate(n_bytes));
        fs_mat_pack_f32(&w, src, k, 0, fs_mat_panels(&w));
        check_isas(&w, x, k, m, NULL);
        free(src);
        free(x);
        free_mat(&w);
    }
}

/* Codes that are NaN and scales that a quick widening cannot take, zeros and denormals among them. */
static void odd_fp8_equals_the_reference(void **state)
{
    static const float scales[] = { 1.0f, -0.0f, 127.0f, 128.0f, -0x1p100f, 0x1p-140f, 0x1.234568p-130f, 0x1p-126f };
    static const struct form form = { FS_DTYPE_F8_E4M3, 16, 32, false };
    (void)state;
    for (size_t round = 0; round < 40; round++) {
        const uint32_t n = 150, k = round % 2 ? 259 : 515;
        size_t m = 1 + round % 5, n_scales = (n + 15) / 16 * ((k + 31) / 32);
        fs_tensor t = random_tensor(&form, n, k);
        uint8_t *data = (uint8_t *)(uintptr_t)t.data, *stored = (uint8_t *)(uintptr_t)t.scales;
        float *x = random_floats(m * k);
        fs_mat w;
        for (size_t i = 0; i < n_scales; i++)
            if (random_u32() % 4 == 0)
                memcpy(stored + 4 * i, &scales[random_u32() % (round % 4 ? 8 : 3)], sizeof(float));
        for (size_t i = 0; i < round % 3; i++)
            data[random_u32() % (n * k)] = random_u32() % 2 ? 0x7f : 0xff;
        if (round % 3)
            data[(size_t)(n - 1) * k + k - 1] = 0xff; /* in the ragged end */
        w = pack(&t, 0, n);
        assert_int_equal(w.finite, round % 3 == 0);
        check_isas(&w, x, k, m, NULL);
        free(x);
        free_mat(&w);
        free_tensor(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(panels_hold_the_values),
        cmocka_unit_test(packs_f32_rows),
        cmocka_unit_test(sizes_that_do_not_fit_are_refused),
        cmocka_unit_test(reference_is_the_definition),
        cmocka_unit_test(every_isa_equals_the_reference),
        cmocka_unit_test(long_batches_equal_the_reference),
        cmocka_unit_test(row_of_a_batch_is_the_single_product),
        cmocka_unit_test(special_values_follow_ieee),
        cmocka_unit_test(odd_fp8_equals_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
