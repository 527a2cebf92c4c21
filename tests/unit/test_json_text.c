/* WRAP_ALLOC. JSON texts: what is valid, how values are spelled again (as Python 3 and serde_json spell them), members. */
#include "unit.h"

#include "alloc_fail.h"
#include "base/mem.h"
#include "text/json_text.h"

static void valid_is_what_rfc_8259_says(void **state)
{
    static const char *const good[] = { "{}", " [ ] ", "null", "true", "false", "0", "-0.5e+3", "\"\\u00e9\\ud83d\\ude00\\/\"", "{\"a\":{\"b\":[1,2]}}", "1E5" };
    static const char *const bad[] = { "", " ", "{", "[1,]", "{\"a\":1,}", "{a:1}", "01", "1.", ".5", "+1", "-", "1e", "nul", "\"\n\"", "\"\\x\"",
                                       "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"\\u12\"", "\"\xff\"", "'a'", "NaN", "1 2", "{\"a\" 1}", "\"a", "\"\\" };
    fs_bytes value;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(fs_json_text_valid(fs_bytes_str(good[i]), &value));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (fs_json_text_valid(fs_bytes_str(bad[i]), &value))
            fail_msg("'%s' passes", bad[i]);
    assert_true(fs_json_text_valid(FS_BYTES_LIT(" [1] \n"), &value));
    assert_true(fs_bytes_equal(value, FS_BYTES_LIT("[1]")));
    assert_false(fs_json_text_valid(FS_BYTES_LIT("\"\\\0\""), &value));
}

static void depth_is_bounded(void **state)
{
    char text[2 * FS_JSON_TEXT_DEPTH_MAX + 8];

    (void)state;
    for (int n = FS_JSON_TEXT_DEPTH_MAX; n <= FS_JSON_TEXT_DEPTH_MAX + 2; n++) {
        memset(text, '[', (size_t)n);
        memset(text + n, ']', (size_t)n);
        assert_int_equal(fs_json_text_valid((fs_bytes){ (uint8_t *)text, 2 * (size_t)n }, NULL), n <= FS_JSON_TEXT_DEPTH_MAX + 1);
    }
}

static const struct {
    const char *text, *python, *rust; /* rust NULL: as python */
} spellings[] = {
    { "{ \"a\":1 ,\"b\" : [true,null , {} ] }", "{\"a\": 1, \"b\": [true, null, {}]}", NULL },
    { "\"\\u00e9\\/\\ud83d\\ude00\\u0007\\b\\f\\n\\r\\t\\\\\\\"\\u007f\"", "\"\u00e9/\U0001f600\\u0007\\b\\f\\n\\r\\t\\\\\\\"\x7f\"", NULL },
    { "1.0", "1.0", NULL },
    { "-0.0", "-0.0", NULL },
    { "1e10", "10000000000.0", NULL },
    { "1E5", "100000.0", NULL },
    { "1e-7", "1e-07", "1e-7" },
    { "0.00001", "1e-05", "0.00001" },
    { "0.0001", "0.0001", NULL },
    { "1.5e300", "1.5e+300", NULL },
    { "123456789012345680.0", "1.2345678901234568e+17", NULL },
    { "1234567890123456.5", "1234567890123456.5", NULL },
    { "0.1", "0.1", NULL },
    { "5e-324", "5e-324", NULL },
    { "18446744073709551615", "18446744073709551615", NULL },
    { "-9223372036854775808", "-9223372036854775808", NULL },
    { "12345678901234567890123", "1.2345678901234568e+22", NULL },
    { "[1e400]", "[1e400]", NULL },
};

static void values_are_spelled_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++)
        for (unsigned flags = 0; flags <= FS_JSON_TEXT_RUST; flags++) {
            fs_buf out = { 0 };
            fs_error err;
            assert_true(fs_json_text_valid(fs_bytes_str(spellings[i].text), NULL));
            assert_ok(fs_json_text_respell(fs_bytes_str(spellings[i].text), flags, &out, &err), err);
            assert_string_equal(out.data, flags && spellings[i].rust ? spellings[i].rust : spellings[i].python);
            fs_buf_done(&out);
        }
}

static void members_and_strings(void **state)
{
    fs_bytes object = FS_BYTES_LIT("{\"a\" : \"x\\u0000y\", \"b\":[1, 2],\"a\":3}"), value;
    fs_buf out = { 0 };
    fs_error err;

    (void)state;
    assert_true(fs_json_text_member(object, "a", &value));
    assert_ok(fs_json_text_unquote(value, &out, &err), err);
    assert_int_equal(out.n_bytes, 3);
    assert_memory_equal(out.data, "x\0y", 3);
    fs_buf_clear(&out);
    assert_true(fs_json_text_member(object, "b", &value));
    assert_true(fs_bytes_equal(value, FS_BYTES_LIT("[1, 2]")));
    assert_false(fs_json_text_member(object, "c", &value));
    assert_false(fs_json_text_member(FS_BYTES_LIT("[\"a\"]"), "a", &value));
    assert_ok(fs_json_text_quote(FS_BYTES_LIT("a\0\"\xff"), &out, &err), err);
    assert_string_equal(out.data, "\"a\\u0000\\\"\xef\xbf\xbd\"");
    fs_buf_done(&out);
}

static void out_of_memory_is_a_sentence(void **state)
{
    static const char text[] = "{\"k\": [1, 2.5, 0.00000000000000000000000000000000000000000000000000000000000000000000000001, \"s\\n\"]}";
    fs_error err;

    (void)state;
    for (long n = 1;; n++) {
        fs_buf out = { 0 };
        fs_status rc;
        alloc_fail_at(n);
        rc = fs_json_text_respell(fs_bytes_str(text), 0, &out, &err);
        alloc_fail_off();
        fs_buf_done(&out);
        if (!rc) {
            assert_true(n > 2);
            break;
        }
        assert_int_equal(rc, FS_ERR_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_is_what_rfc_8259_says), cmocka_unit_test(depth_is_bounded),           cmocka_unit_test(values_are_spelled_again),
        cmocka_unit_test(members_and_strings),         cmocka_unit_test(out_of_memory_is_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
