/* LoRA adapters: the pair of a linear, its shape, what is never asked for, and failing allocations. WRAP_ALLOC */
#include "unit.h"

#include "alloc_fail.h"
#include "base/file.h"
#include "formats/adapter.h"
#include "formats/safetensors.h"

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
    fs_adapter_pair p;
    fs_error err = { 0 };
    bool found = false;

    (void)state;
    assert_ok(fs_adapter_get(a, "model.layers.0.self_attn.q_proj", 64, 64, &found, &p, &err), err);
    assert_true(found && p.scale == 2); /* 8 / 4 */
    assert_int_equal(p.a.dims[0], 4);
    assert_int_equal(p.a.dims[1], 64);
    assert_int_equal(p.b.dims[0], 64);
    assert_int_equal(fs_adapter_get(a, "model.layers.0.self_attn.q_proj", 64, 32, &found, &p, &err), FS_ERR_FORMAT);
    assert_sentence(err, "model.layers.0.self_attn.q_proj");
    assert_ok(fs_adapter_get(a, "model.norm", 1, 1, &found, &p, &err), err);
    assert_false(found);
    fs_adapter_close(a);
    fs_adapter_close(NULL);
}

/* Of [E * r, in] and [out, r * E], with r 3 for down_proj by its pattern and E 16. */
static void an_expert_has_its_rows_and_columns(void **state)
{
    fs_adapter *a = open_ok("tests/vectors/adapters/ds_v3_experts");
    fs_adapter_pair p;
    const fs_tensor *t;
    fs_safetensors *file = NULL;
    fs_map map = { 0 };
    fs_error err = { 0 };
    bool found = false;

    (void)state;
    assert_ok(fs_adapter_get(a, "model.layers.1.mlp.experts.5.up_proj", 24, 64, &found, &p, &err), err);
    assert_true(found && p.scale == 2 && p.a.dims[0] == 2 && p.b.dims[0] == 24 && p.b.dims[1] == 2);
    assert_ok(fs_adapter_get(a, "model.layers.1.mlp.experts.5.down_proj", 64, 24, &found, &p, &err), err);
    assert_true(found && p.scale == (float)(5 / 3.0) && p.a.dims[0] == 3 && p.a.dims[1] == 24 && p.b.dims[0] == 64 && p.b.dims[1] == 3);
    fs_adapter_close(a);

    a = open_ok("tests/vectors/adapters/ds_v3_down");
    assert_ok(fs_adapter_get(a, "model.layers.1.mlp.experts.15.down_proj", 64, 24, &found, &p, &err), err);
    assert_true(found && p.a.dims[0] == 2);
    assert_ok(fs_map_open(&map, "tests/vectors/adapters/ds_v3_down/adapter_model.safetensors", &err), err);
    assert_ok(fs_safetensors_open(map.bytes, "it", &file, &err), err);
    t = fs_safetensors_find(file, "base_model.model.model.layers.1.mlp.experts.lora_A.weight");
    assert_memory_equal(p.a.data, t->data + (size_t)15 * 2 * 24 * 4, (size_t)2 * 24 * 4);
    t = fs_safetensors_find(file, "base_model.model.model.layers.1.mlp.experts.lora_B.weight");
    for (size_t o = 0; o < 64; o++)
        for (size_t i = 0; i < 2; i++)
            assert_memory_equal(p.b.data + (o * 2 + i) * 4, t->data + (o * 32 + i * 16 + 15) * 4, 4);
    fs_safetensors_close(file);
    fs_map_close(&map);
    assert_int_equal(fs_adapter_get(a, "model.layers.1.mlp.experts.16.down_proj", 64, 24, &found, &p, &err), FS_ERR_FORMAT);
    assert_ok(fs_adapter_get(a, "model.layers.1.mlp.experts.15.up_proj", 24, 64, &found, &p, &err), err);
    assert_false(found);
    fs_adapter_close(a);
}

static void v4_has_the_names_of_transformers(void **state)
{
    static const struct { const char *linear; uint64_t out, in; } linears[] = {
        { "layers.0.attn.wq_a", 24, 64 },         { "layers.0.attn.wkv", 32, 64 },
        { "layers.0.attn.wo_b", 64, 32 },         { "layers.0.ffn.shared_experts.w2", 64, 24 },
        { "layers.0.ffn.experts.7.w1", 24, 64 },  { "layers.0.ffn.experts.0.w3", 24, 64 },
        { "layers.0.ffn.experts.3.w2", 64, 24 },
    };
    static const char *const nothing[] = { "layers.0.attn.wo_a", "layers.0.ffn.experts.0.w4", "mtp.0.attn.wq_a", "head", "layers.0.", "" };
    fs_adapter *a = open_ok("tests/vectors/adapters/ds_v4_all");
    fs_adapter_pair p;
    fs_error err = { 0 };
    bool found = false;

    (void)state;
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++) {
        assert_ok(fs_adapter_get(a, linears[i].linear, linears[i].out, linears[i].in, &found, &p, &err), err);
        assert_true(found && p.a.dims[0] == 2);
    }
    for (size_t i = 0; i < sizeof nothing / sizeof *nothing; i++) {
        assert_ok(fs_adapter_get(a, nothing[i], 24, 64, &found, &p, &err), err);
        assert_false(found);
    }
    fs_adapter_close(a);
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
    fs_adapter_pair p = { 0 };
    bool found = false;

    (void)state;
    assert_int_equal(fs_adapter_get(a, "model.layers.0.self_attn.q_proj", 64, 64, &found, &p, NULL), FS_OK);
    assert_true(found && p.scale == (float)(5 / 1.7320508075688772));
    fs_adapter_close(a);
}

static void every_allocation_may_fail(void **state)
{
    static const char *const folders[] = { FOLDER, "tests/vectors/adapters/ds_v3_experts" };
    fs_adapter_pair p;
    bool found;
    long n;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        fs_status rc = FS_ERR_MEMORY;
        for (n = 1; rc; n++) {
            fs_adapter *a = NULL;
            alloc_fail_at(n);
            rc = fs_adapter_open(folders[i], &a, NULL);
            if (!rc)
                rc = fs_adapter_get(a, "model.layers.1.mlp.experts.5.down_proj", 64, 24, &found, &p, NULL);
            alloc_fail_off();
            fs_adapter_close(a);
            if (rc)
                assert_int_equal(rc, FS_ERR_MEMORY);
        }
        assert_true(n > 5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pair_has_the_shape_of_its_linear),
        cmocka_unit_test(an_expert_has_its_rows_and_columns),
        cmocka_unit_test(v4_has_the_names_of_transformers),
        cmocka_unit_test(what_no_linear_asked_for_is_named),
        cmocka_unit_test(rslora_divides_by_the_root),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
