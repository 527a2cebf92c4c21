/* Adapters that become part of a model: the sums against float64, their bits on every instruction set, what is refused,
 * failing allocations. WRAP_ALLOC */
#include "unit.h"

#include "alloc_fail.h"
#include "formats/convert.h"
#include "make_files.h"
#include "small_disk.h"

#include <math.h>

#define ADAPTERS "tests/vectors/adapters/"

static float draw(uint64_t i)
{
    uint64_t x = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ (x >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
    return (float)((int64_t)(x >> 40) - (1 << 23)) * 0x1p-23f;
}

static float *drawn(size_t n, uint64_t seed)
{
    float *x = malloc(n * sizeof *x);

    for (size_t i = 0; i < n; i++)
        x[i] = draw(seed + i);
    return x;
}

/* A256 by hand, an output at a time: chains of 256 from +0, added in order. */
static float by_hand(const float *b, const float *a, size_t r, size_t n, float scale, size_t j)
{
    float y = 0;

    for (size_t from = 0; from < r; from += 256) {
        float s = 0;
        for (size_t k = from; k < r && k < from + 256; k++)
            s = fmaf(b[k], a[k * n + j], s);
        y = y + s;
    }
    return scale * y;
}

/* Of exact size, so that the sanitizers see a stray read or write; ranks on both sides of a chain's end. */
static void a_row_is_defined_to_the_bit(void **state)
{
    static const size_t ranks[] = { 1, 2, 8, 64, 255, 256, 257, 512, 700 }, widths[] = { 1, 7, 16, 33, 200 };
    fs_kernels kernels;

    (void)state;
    for (unsigned isa = 0; isa < FS_ISA_END; isa = isa ? isa << 1 : 1) {
        if (isa && !(fs_isa_detect() & isa))
            continue;
        fs_kernels_init(&kernels, isa);
        for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++)
            for (size_t k = 0; k < sizeof widths / sizeof *widths; k++) {
                size_t r = ranks[i], n = widths[k];
                float *a = drawn(r * n, 1000), *b = drawn(r, 7), *chunk = malloc(n * sizeof *chunk), *got = malloc(n * sizeof *got);
                fs_pair_row(&kernels, b, a, r, n, 0.7f, chunk, got);
                for (size_t j = 0; j < n; j++) {
                    float want = by_hand(b, a, r, n, 0.7f, j);
                    double exact = 0, size = 0;
                    for (size_t q = 0; q < r; q++) {
                        exact += (double)b[q] * a[q * n + j];
                        size += fabs((double)b[q] * a[q * n + j]);
                    }
                    assert_memory_equal(&got[j], &want, sizeof want);
                    assert_true(fabs(got[j] - 0.7f * exact) <= (double)(r < 256 ? r + 2 : 260) * 0x1p-24 * 0.7 * size + 0x1p-24 * fabs(got[j]));
                }
                free(a);
                free(b);
                free(chunk);
                free(got);
            }
    }
}

static fs_merge *open_ok(const fs_kernels *kernels, const char *folder, float factor)
{
    fs_merge *m = NULL;
    fs_error err = { 0 };

    assert_ok(fs_merge_new(kernels, &m, &err), err);
    assert_ok(fs_merge_add(m, folder, factor, &err), err);
    return m;
}

/* Two of them one after the other, each with a factor; against the adapter's own tensors. */
static void pairs_are_added_in_their_order(void **state)
{
    const char *weight = "model.layers.0.self_attn.q_proj.weight", *linear = "model.layers.0.self_attn.q_proj";
    fs_adapter *all = NULL, *rslora = NULL;
    fs_adapter_pair p[2];
    float w[64], want[64], row[64], a[16 * 64], b[16], chunk[64], sum[64];
    fs_merge_rows *rows = NULL;
    fs_kernels kernels;
    fs_error err = { 0 };
    bool found[2];
    fs_merge *m;

    (void)state;
    fs_kernels_init(&kernels, fs_isa_detect());
    m = open_ok(&kernels, ADAPTERS "qwen2_all", 0.5f);
    assert_ok(fs_merge_add(m, ADAPTERS "qwen2_rslora", -3, &err), err);
    assert_ok(fs_adapter_open(ADAPTERS "qwen2_all", &all, &err), err);
    assert_ok(fs_adapter_open(ADAPTERS "qwen2_rslora", &rslora, &err), err);
    assert_ok(fs_adapter_get(all, linear, 64, 64, &found[0], &p[0], &err), err);
    assert_ok(fs_adapter_get(rslora, linear, 64, 64, &found[1], &p[1], &err), err);
    assert_true(found[0]);
    assert_ok(fs_merge_rows_open(m, weight, 64, 64, &rows, &err), err);
    assert_non_null(rows);
    for (uint64_t i = 0; i < 64; i++) {
        for (size_t j = 0; j < 64; j++)
            w[j] = want[j] = draw(i * 64 + j);
        for (int k = 0; k < 2; k++) {
            size_t r = found[k] ? (size_t)p[k].a.dims[0] : 0;
            assert_true(r <= 16);
            for (size_t q = 0; q < r; q++) {
                fs_tensor_row_f32(&p[k].a, q, row);
                memcpy(a + q * 64, row, sizeof row);
            }
            if (!r)
                continue;
            fs_tensor_row_f32(&p[k].b, i, b);
            fs_pair_row(&kernels, b, a, r, 64, p[k].scale * (k ? -3 : 0.5f), chunk, sum);
            for (size_t j = 0; j < 64; j++)
                want[j] += sum[j];
        }
        assert_true(fs_merge_row(rows, i, w));
        assert_memory_equal(w, want, sizeof w);
    }
    fs_merge_rows_close(rows);
    assert_ok(fs_merge_rows_open(m, "model.norm.weight", 1, 64, &rows, &err), err);
    assert_null(rows);
    assert_true(fs_merge_row(NULL, 0, w));
    assert_memory_equal(w, want, sizeof w);
    assert_int_equal(fs_merge_rows_open(m, weight, 64, 32, &rows, &err), FS_ERR_FORMAT);
    assert_sentence(err, "qwen2_all");
    fs_adapter_close(all);
    fs_adapter_close(rslora);
    fs_merge_free(m);
}

static void numbers_that_are_not_finite_are_named(void **state)
{
    fs_kernels kernels;
    fs_merge_rows *rows = NULL;
    fs_error err = { 0 };
    fs_merge *m;
    float w[64] = { 0 };

    (void)state;
    fs_kernels_init(&kernels, 0);
    m = open_ok(&kernels, ADAPTERS "qwen2_all", 0x1p127f);
    assert_ok(fs_merge_rows_open(m, "model.layers.0.self_attn.q_proj.weight", 64, 64, &rows, &err), err);
    assert_false(fs_merge_row(rows, 0, w)); /* 2 * 2^127 */
    fs_merge_rows_close(rows);
    fs_merge_free(m);
    m = open_ok(&kernels, ADAPTERS "qwen2_all", 1);
    assert_ok(fs_merge_rows_open(m, "model.layers.0.self_attn.q_proj.weight", 64, 64, &rows, &err), err);
    memset(w, 0, sizeof w);
    assert_true(fs_merge_row(rows, 0, w));
    w[63] = -INFINITY;
    assert_false(fs_merge_row(rows, 1, w));
    fs_merge_rows_close(rows);
    fs_merge_free(m);
}

static void whole_tensors_have_no_factor_and_one_place(void **state)
{
    fs_kernels kernels;
    fs_merge *m = NULL;
    fs_weights *w = NULL;
    fs_error err = { 0 };

    (void)state;
    fs_kernels_init(&kernels, 0);
    assert_ok(fs_merge_new(&kernels, &m, &err), err);
    assert_int_equal(fs_merge_add(m, ADAPTERS "qwen2_saved", 2, &err), FS_ERR_UNSUPPORTED);
    assert_sentence(err, "cannot be scaled");
    assert_ok(fs_merge_add(m, ADAPTERS "qwen2_saved", 1, &err), err);
    assert_ok(fs_merge_add(m, ADAPTERS "qwen2_saved", 1, &err), err);
    assert_ok(fs_weights_open("tests/vectors/qwen2", &w, &err), err);
    assert_int_equal(fs_merge_replace(m, w, &err), FS_ERR_UNSUPPORTED);
    assert_sentence(err, "another adapter has replaced");
    fs_weights_close(w);
    fs_merge_free(m);
}

/* One whole merge, into folder/merged.gguf or folder. */
static fs_status merged(const char *base, const char *adapter, const char *folder, bool gguf, fs_error *err)
{
    fs_kernels kernels;
    fs_weights *w = NULL;
    fs_convert_options o = { .type = FS_DTYPE_NONE };
    char *path = NULL;
    fs_status rc;

    fs_kernels_init(&kernels, fs_isa_detect());
    rc = fs_weights_open(base, &w, err);
    if (!rc)
        rc = fs_merge_new(&kernels, &o.merge, err);
    if (!rc)
        rc = fs_merge_add(o.merge, adapter, 1, err);
    if (!rc)
        rc = fs_merge_replace(o.merge, w, err);
    if (!rc && !(path = fs_path_join(folder, "m.gguf")))
        rc = fs_fail_memory(err, 1);
    if (!rc)
        rc = gguf ? fs_convert_to_gguf(w, path, &o, err) : fs_convert_to_hub(w, folder, &o, err);
    free(path);
    fs_weights_close(w);
    fs_merge_free(o.merge);
    return rc;
}

static void every_allocation_may_fail(void **state)
{
    static const struct { const char *base, *adapter; bool gguf; } cases[] = {
        { "tests/vectors/ds_v3", ADAPTERS "ds_v3_experts", true },
        { "tests/vectors/qwen2_tied", ADAPTERS "qwen2_tied_head", false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *folder = make_folder();
        fs_status rc = FS_ERR_MEMORY;
        fs_error err = { 0 };
        for (long n = 1; rc; n += n < 400 ? 1 : 37) {
            alloc_fail_at(n);
            rc = merged(cases[i].base, cases[i].adapter, folder, cases[i].gguf, &err);
            alloc_fail_off();
            if (rc) {
                if (rc != FS_ERR_MEMORY)
                    fail_msg("%s", err.message);
                assert_int_equal(count_files(folder), 0);
            }
        }
        assert_int_equal(count_files(folder), cases[i].gguf ? 1 : 3);
        remove_folder(folder, (const char *const[]){ "m.gguf", "model.safetensors", "config.json", "generation_config.json", NULL });
    }
}

static void what_fits_no_linear_leaves_nothing(void **state)
{
    char *folder = make_folder();
    fs_error err = { 0 };

    (void)state;
    for (int gguf = 0; gguf < 2; gguf++) {
        assert_int_equal(merged("tests/vectors/llama3", ADAPTERS "qwen2_all", folder, gguf, &err), FS_ERR_FORMAT);
        assert_sentence(err, "the adapter's pair of 'model.layers.0.");
        assert_int_equal(merged("tests/vectors/qwen2", ADAPTERS "ds_v3_kv_b", folder, gguf, &err), FS_ERR_FORMAT);
        assert_sentence(err, "belongs to no linear of the model");
        assert_int_equal(count_files(folder), 0);
    }
    remove_folder(folder, (const char *const[]){ NULL });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_is_defined_to_the_bit),
        cmocka_unit_test(pairs_are_added_in_their_order),
        cmocka_unit_test(numbers_that_are_not_finite_are_named),
        cmocka_unit_test(whole_tensors_have_no_factor_and_one_place),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(what_fits_no_linear_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
