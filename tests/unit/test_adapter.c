/* LoRA adapters: the pair of a linear, its shape, what is never asked for, and failing allocations. WRAP_ALLOC */
#include "unit.h"

#include "alloc_fail.h"
#include "formats/adapter.h"

#define FOLDER "tests/vectors/adapters/qwen2_all"

static fs_adapter *open_ok(const char *folder)
{
    fs_adapter *a = NULL;
    fs_error err = { 0 };

    assert_ok(fs_adapter_open(folder, &a, &err), err);
    return a;
}

static void a_pair_has_the_shape_of_its_linear(void **state)
{
    fs_adapter *a = open_ok(FOLDER);
    const fs_tensor *ta = NULL, *tb = NULL;
    fs_error err = { 0 };

    (void)state;
    assert_true(fs_adapter_scale(a) == 2); /* 8 / 4 */
    assert_ok(fs_adapter_get(a, "model.layers.0.self_attn.q_proj", 64, 64, &ta, &tb, &err), err);
    assert_non_null(ta);
    assert_int_equal(ta->dims[0], 4);
    assert_int_equal(ta->dims[1], 64);
    assert_int_equal(tb->dims[0], 64);
    assert_int_equal(fs_adapter_get(a, "model.layers.0.self_attn.q_proj", 64, 32, &ta, &tb, &err), FS_ERR_FORMAT);
    assert_sentence(err, "model.layers.0.self_attn.q_proj");
    assert_ok(fs_adapter_get(a, "model.norm", 1, 1, &ta, &tb, &err), err);
    assert_null(ta);
    assert_null(tb);
    fs_adapter_close(a);
    fs_adapter_close(NULL);
}

static void what_no_linear_asked_for_is_named(void **state)
{
    fs_adapter *a = open_ok(FOLDER);
    fs_error err = { 0 };

    (void)state;
    assert_int_equal(fs_adapter_check_used(a, &err), FS_ERR_FORMAT);
    assert_sentence(err, "base_model.model.model.layers.0.");
    fs_adapter_close(a);
}

static void rslora_divides_by_the_root(void **state)
{
    fs_adapter *a = open_ok("tests/vectors/adapters/qwen2_rslora");

    (void)state;
    assert_true(fs_adapter_scale(a) == (float)(5 / 1.7320508075688772));
    fs_adapter_close(a);
}

static void every_allocation_may_fail(void **state)
{
    fs_adapter *a = NULL;
    fs_status rc = FS_ERR_MEMORY;
    long n;

    (void)state;
    for (n = 1; rc; n++) {
        alloc_fail_at(n);
        rc = fs_adapter_open(FOLDER, &a, NULL);
        alloc_fail_off();
        if (rc)
            assert_int_equal(rc, FS_ERR_MEMORY);
    }
    assert_true(n > 5);
    fs_adapter_close(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pair_has_the_shape_of_its_linear),
        cmocka_unit_test(what_no_linear_asked_for_is_named),
        cmocka_unit_test(rslora_divides_by_the_root),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
