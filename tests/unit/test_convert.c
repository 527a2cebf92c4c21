/* Conversion both ways: failing allocations leave nothing behind, and the configuration says what it must. WRAP_ALLOC */
#include "unit.h"

#include "alloc_fail.h"
#include "formats/config_write.h"
#include "formats/convert.h"
#include "make_files.h"
#include "small_disk.h"

static const char *const hub_files[] = { "model.safetensors", "config.json", "generation_config.json", NULL };

static void clear(const char *folder, const char *const *names)
{
    for (; *names; names++) {
        char *path = fs_path_join(folder, *names);
        unlink(path);
        free(path);
    }
}

static void every_allocation_may_fail(void **state)
{
    static const char *const models[] = { "llama3", "ds_v3", "ds_v4_fp4" };
    fs_convert_options o = { .type = FS_DTYPE_NONE };

    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char source[64], *folder = make_folder(), *path = fs_path_join(folder, "m.gguf");
        fs_weights *w = NULL;
        fs_error err = { 0 };
        fs_status rc = FS_ERR_MEMORY;
        snprintf(source, sizeof source, "tests/vectors/%s", models[i]);
        assert_ok(fs_weights_open(source, &w, &err), err);
        for (long n = 1; rc; n++) {
            alloc_fail_at(n);
            rc = fs_convert_to_gguf(w, path, &o, &err);
            alloc_fail_off();
            if (rc) {
                assert_int_equal(rc, FS_ERR_MEMORY);
                assert_int_equal(count_files(folder), 0);
            }
        }
        fs_weights_close(w);
        assert_ok(fs_weights_open(path, &w, &err), err);
        rc = FS_ERR_MEMORY;
        for (long n = 1; rc; n++) {
            alloc_fail_at(n);
            rc = fs_convert_to_hub(w, folder, &o, &err);
            alloc_fail_off();
            if (rc) {
                assert_int_equal(rc, FS_ERR_MEMORY);
                assert_int_equal(count_files(folder), 1);
            }
        }
        assert_int_equal(count_files(folder), 4);
        fs_weights_close(w);
        clear(folder, hub_files);
        free(path);
        remove_folder(folder, (const char *const[]){ "m.gguf", NULL });
    }
}

static bool stop_at(void *ud, uint64_t done, uint64_t total)
{
    return done * 4 < total * *(int *)ud;
}

static void a_stop_leaves_nothing(void **state)
{
    char *folder = make_folder(), *path = fs_path_join(folder, "m.gguf");
    fs_weights *w = NULL;
    fs_error err = { 0 };

    (void)state;
    assert_ok(fs_weights_open("tests/vectors/qwen2", &w, &err), err);
    for (int quarter = 0; quarter < 4; quarter++) {
        fs_convert_options o = { .progress = stop_at, .ud = &quarter };
        assert_int_equal(fs_convert_to_gguf(w, path, &o, &err), FS_ERR_INTERRUPTED);
        assert_int_equal(count_files(folder), 0);
    }
    fs_weights_close(w);
    free(path);
    remove_folder(folder, (const char *const[]){ NULL });
}

static void a_value_too_large_for_f16_is_named(void **state)
{
    char *folder = make_folder(), *path = fs_path_join(folder, "m.gguf");
    fs_convert_options o = { .type = FS_DTYPE_F16 };
    fs_weights *w = NULL;
    fs_error err = { 0 };
    fs_tensor *t;

    (void)state;
    assert_ok(fs_weights_open("tests/vectors/qwen2", &w, &err), err);
    t = (fs_tensor *)(uintptr_t)fs_weights_find(w, "model.layers.1.mlp.up_proj.weight");
    t->data = malloc(t->n_bytes);
    memset((void *)(uintptr_t)t->data, 0x47, t->n_bytes); /* bf16 0x4747 is 50944 */
    assert_ok(fs_convert_to_gguf(w, path, &o, &err), err);
    unlink(path);
    ((uint8_t *)(uintptr_t)t->data)[t->n_bytes - 1] = 0x57; /* and 0x5747 is 2.2e14 */
    assert_int_equal(fs_convert_to_gguf(w, path, &o, &err), FS_ERR_NUMERIC);
    assert_sentence(err, "blk.1.ffn_up.weight");
    assert_int_equal(count_files(folder), 0);
    free((void *)(uintptr_t)t->data);
    fs_weights_close(w);
    free(path);
    remove_folder(folder, (const char *const[]){ NULL });
}

static void divisors_become_numbers_and_nothing_else_does(void **state)
{
    float freqs[64];
    fs_tensor t = { .name = "rope_freqs.weight", .dtype = FS_DTYPE_F32, .n_dims = 1, .dims = { 64 }, .data = (const uint8_t *)freqs, .n_bytes = sizeof freqs };
    fs_config c = { .head_dim = 128, .rope_theta = 500000, .rope_type = FS_ROPE_LLAMA3, .rope_factor = 32, .low_freq_factor = 1, .high_freq_factor = 4,
                    .original_max_position_embeddings = 8192 };
    fs_config back = { .head_dim = 128, .rope_theta = 500000, .rope_type = FS_ROPE_LLAMA3, .rope_freqs = &t };
    fs_error err = { 0 };

    (void)state;
    fs_config_rope_freqs(&c, freqs);
    assert_true(freqs[0] == 1 && freqs[63] == 32);
    assert_ok(fs_config_fold_rope_freqs(&back, &err), err);
    assert_true(back.rope_factor == 32 && back.low_freq_factor == 1 && back.high_freq_factor == 4);
    assert_int_equal(back.original_max_position_embeddings, 8192);
    assert_null(back.rope_freqs);
    back.rope_freqs = &t;
    freqs[30] *= 1.01f;
    assert_int_equal(fs_config_fold_rope_freqs(&back, &err), FS_ERR_UNSUPPORTED);
    assert_sentence(err, "rope_freqs.weight");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(a_stop_leaves_nothing),
        cmocka_unit_test(a_value_too_large_for_f16_is_named),
        cmocka_unit_test(divisors_become_numbers_and_nothing_else_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
