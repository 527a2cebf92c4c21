#include "unit.h"

#include "lineage/trace.h"

#define H1 "1111111111111111111111111111111111111111111111111111111111111111"
#define H2 "2222222222222222222222222222222222222222222222222222222222222222"

static const char text[] = "{\"step\":1,\"loss\":\"0x1.8p+1\",\"reward\":\"0x1p-1\",\"grad_norm\":\"0x1p-2\"}\n"
                           "{\"step\":2,\"loss\":\"-0x1.8p+1\",\"grad_norm\":\"0x1.000002p+0\",\"weights\":\"" H1 "\",\"state\":\"" H2 "\"}\n";

static fs_bytes text_of(const char *s)
{
    return (fs_bytes){ (const uint8_t *)s, strlen(s) };
}

/* Both rows as the header writes them: the bytes by hand. */
static void a_row_is_hashed_as_written(void **state)
{
    static const uint8_t first[] = { 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0x40, 0, 0, 0x80, 0x3e, 0 };
    uint8_t second[22 + 64] = { 3, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0xc0, 1, 0, 0x80, 0x3f, 1 };
    fs_root leaves[2], have, want;
    fs_trace t = { 0 };
    fs_error err;

    (void)state;
    memset(second + 22, 0x11, 32);
    memset(second + 54, 0x22, 32);
    assert_ok(fs_trace_read(text_of(text), "t", &t, &err), err);
    assert_int_equal(t.n, 2);
    assert_ok(fs_sha256_of((fs_bytes){ first, sizeof first }, leaves[0].bytes, &err), err);
    assert_ok(fs_sha256_of((fs_bytes){ second, sizeof second }, leaves[1].bytes, &err), err);
    for (size_t i = 0; i < 2; i++) {
        assert_ok(fs_trace_leaf(&t.rows[i], &have, &err), err);
        assert_true(fs_root_equal(&have, &leaves[i]));
    }
    assert_ok(fs_trace_root(&t, 1, &have, &err), err);
    assert_true(fs_root_equal(&have, &leaves[0]));
    assert_ok(fs_root_tree(leaves, 2, &want, &err), err);
    assert_ok(fs_trace_root(&t, 2, &have, &err), err);
    assert_true(fs_root_equal(&have, &want));
    fs_trace_done(&t);
}

static void what_is_no_trace_is_refused(void **state)
{
    static const char *const bad[][2] = {
        { "{\"step\":1,\"loss\":\"0x1p0\",\"grad_norm\":\"0x1p0\"}", "half a line" },
        { "{\"step\":2,\"loss\":\"0x1p0\",\"grad_norm\":\"0x1p0\"}\n", "step 2 where 1 is due" },
        { "{\"loss\":\"0x1p0\",\"grad_norm\":\"0x1p0\"}\n", "step 0" },
        { "{\"step\":1,\"loss\":\"0x1p0x\",\"grad_norm\":\"0x1p0\"}\n", "'loss'" },
        { "{\"step\":1,\"loss\":\"\",\"grad_norm\":\"0x1p0\"}\n", "'loss'" },
        { "{\"step\":1,\"loss\":\"0x1p0\",\"grad_norm\":\"0x1.0000001p0\"}\n", "binary32" },
        { "{\"step\":1,\"loss\":\"0x1p0\",\"grad_norm\":\"0x1p0\",\"weights\":\"" H1 "\"}\n", "'state' is missing" },
        { "{\"step\":1,\"loss\":\"0x1p0\",\"grad_norm\":\"0x1p0\",\"weights\":\"" H1 "\",\"state\":\"22\"}\n", "'state' is no hash" },
        { "[1]\n", "no JSON object" },
    };
    fs_trace t = { 0 };
    fs_error err;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(fs_trace_read(text_of(bad[i][0]), "t", &t, &err), FS_ERR_FORMAT);
        assert_sentence(err, bad[i][1]);
        assert_sentence(err, "line 1");
    }
}

static void what_differs_is_named(void **state)
{
    fs_trace t = { 0 };
    fs_trace_row row;
    char said[FS_TRACE_DIFFERENCES_MAX];
    fs_error err;

    (void)state;
    assert_ok(fs_trace_read(text_of(text), "t", &t, &err), err);
    row = t.rows[1];
    fs_trace_compare(&t.rows[1], &row, said);
    assert_string_equal(said, "");
    row.loss = 1;
    row.weights.bytes[31] ^= 1;
    fs_trace_compare(&t.rows[1], &row, said);
    assert_string_equal(said, "loss, weights");
    row = t.rows[1];
    row.grad_norm = 0;
    row.state.bytes[0] ^= 128;
    fs_trace_compare(&t.rows[1], &row, said);
    assert_string_equal(said, "gradient norm, state");
    row.traced = false;
    fs_trace_compare(&t.rows[1], &row, said);
    assert_string_equal(said, "gradient norm, roots taken");
    fs_trace_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(a_row_is_hashed_as_written), cmocka_unit_test(what_is_no_trace_is_refused),
                                        cmocka_unit_test(what_differs_is_named) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
