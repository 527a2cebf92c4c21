#include "unit.h"

#include "base/json.h"
#include "base/utf8.h"

static struct json_object *parse(const char *text)
{
    struct json_object *v = NULL;
    fs_error err;

    assert_ok(fs_json_parse(fs_bytes_str(text), "test", &v, &err), err);
    return v;
}

static void strict_or_a_sentence(void **state)
{
    static const char *const bad[] = { "", "{", "{}x", "{\"a\":1,}", "[1 2]", "nul", "[01]", "\"\xff\"", "{} {}" };
    char deep[300];
    struct json_object *v = NULL;
    fs_error err;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_not_equal(fs_json_parse(fs_bytes_str(bad[i]), "test", &v, &err), FS_OK);
        assert_sentence(err, "test");
        assert_null(v);
    }
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    assert_int_not_equal(fs_json_parse(fs_bytes_str(deep), "test", &v, &err), FS_OK);
}

/* 3 bytes of text are 800 in json-c: a million of them are refused before it sees them. */
static void a_small_text_makes_no_large_tree(void **state)
{
    enum { N = 1000000 };
    char *text = malloc(3 * N + 2);
    struct json_object *v = NULL;
    fs_error err;

    (void)state;
    text[0] = '[';
    for (size_t i = 0; i < N; i++)
        memcpy(text + 1 + 3 * i, i ? ",{}" : " {}", 3);
    text[3 * N + 1] = ']';
    assert_int_equal(fs_json_parse((fs_bytes){ (uint8_t *)text, 3 * N + 2 }, "test", &v, &err), FS_ERR_FORMAT);
    assert_sentence(err, "3000002 bytes of JSON would take over");
    assert_null(v);
    /* Brackets in strings are text. */
    memset(text, '{', 3 * N);
    text[0] = text[3 * N - 1] = '"';
    assert_ok(fs_json_parse((fs_bytes){ (uint8_t *)text, 3 * N }, "test", &v, &err), err);
    assert_int_equal(json_object_get_string_len(v), 3 * N - 2);
    json_object_put(v);
    free(text);
}

static void numbers_are_checked_by_name(void **state)
{
    struct json_object *o = parse(" {\"i\":9007199254740993,\"f\":2.0,\"h\":2.5,\"s\":\"1\",\"n\":null,\"z\":\"a\\u0000b\",\"t\":true} \n");
    int64_t i = 5;
    double d = 5;
    bool b = false, found = true;
    fs_bytes s = { 0 };
    fs_error err;

    (void)state;
    assert_ok(fs_json_int(o, "i", 0, INT64_MAX, &i, &found, &err), err);
    assert_true(found && i == 9007199254740993);
    assert_ok(fs_json_int(o, "f", 0, 10, &i, NULL, &err), err);
    assert_int_equal(i, 2);
    assert_ok(fs_json_int(o, "n", 0, 10, &i, &found, &err), err);
    assert_ok(fs_json_int(o, "absent", 0, 10, &i, &found, &err), err);
    assert_false(found);
    assert_int_equal(i, 2);
    assert_int_equal(fs_json_int(o, "h", 0, 10, &i, NULL, &err), FS_ERR_FORMAT);
    assert_int_equal(fs_json_int(o, "f", 3, 10, &i, NULL, &err), FS_ERR_FORMAT);
    assert_sentence(err, "'f' is 2");
    assert_int_equal(fs_json_double(o, "s", &d, NULL, &err), FS_ERR_FORMAT);
    assert_ok(fs_json_double(o, "h", &d, NULL, &err), err);
    assert_true(d == 2.5);
    assert_int_equal(fs_json_bool(o, "s", &b, NULL, &err), FS_ERR_FORMAT);
    assert_ok(fs_json_bool(o, "t", &b, NULL, &err), err);
    assert_true(b);
    assert_ok(fs_json_string(o, "z", &s, NULL, &err), err);
    assert_int_equal(s.n_bytes, 3);
    assert_memory_equal(s.data, "a\0b", 3);
    json_object_put(o);
    o = parse("12");
    assert_int_equal(json_object_get_int(o), 12);
    json_object_put(o);
}

static void quoting_survives_a_round_trip(void **state)
{
    static const char text[] = "a\"\\\n\0\x7f\xc3\xa9\xf0\x9f\x98\x80z";
    fs_buf b = { 0 };
    struct json_object *v = NULL;
    fs_error err;

    (void)state;
    assert_ok(fs_json_quote(&b, (fs_bytes){ (const uint8_t *)text, sizeof text - 1 }, &err), err);
    assert_ok(fs_json_parse(fs_buf_bytes(&b), "test", &v, &err), err);
    assert_int_equal(json_object_get_string_len(v), sizeof text - 1);
    assert_memory_equal(json_object_get_string(v), text, sizeof text - 1);
    json_object_put(v);
    fs_buf_clear(&b);
    assert_ok(fs_json_quote(&b, FS_BYTES_LIT("\xff"), &err), err);
    assert_string_equal(b.data, "\"\xef\xbf\xbd\"");
    fs_buf_done(&b);
}

static void escaped_pairs_become_every_character_above_ffff(void **state)
{
    (void)state;
    for (uint32_t code = 0x10000; code <= 0x10ffff; code += code % 0x10000 < 0xd700 ? 0xff : 1) {
        char text[32];
        uint8_t want[4];
        size_t n = fs_utf8_put(code, want);
        struct json_object *v = NULL;
        snprintf(text, sizeof text, "\"\\u%04x\\u%04X\"", 0xd800 + ((code - 0x10000) >> 10), 0xdc00 + (code & 0x3ff));
        assert_int_equal(fs_json_parse(fs_bytes_str(text), "test", &v, NULL), FS_OK);
        assert_int_equal(json_object_get_string_len(v), n);
        assert_memory_equal(json_object_get_string(v), want, n);
        json_object_put(v);
    }
}

static void an_escaped_backslash_begins_no_pair(void **state)
{
    struct json_object *v = NULL;

    (void)state;
    assert_int_equal(fs_json_parse(FS_BYTES_LIT("[\"\\\\ud800\\\\udc00\", \"\\ud83d\\ude00\"]"), "test", &v, NULL), FS_OK);
    assert_string_equal(json_object_get_string(json_object_array_get_idx(v, 0)), "\\ud800\\udc00");
    assert_string_equal(json_object_get_string(json_object_array_get_idx(v, 1)), "\xf0\x9f\x98\x80");
    json_object_put(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strict_or_a_sentence),
        cmocka_unit_test(a_small_text_makes_no_large_tree),
        cmocka_unit_test(numbers_are_checked_by_name),
        cmocka_unit_test(quoting_survives_a_round_trip),
        cmocka_unit_test(escaped_pairs_become_every_character_above_ffff),
        cmocka_unit_test(an_escaped_backslash_begins_no_pair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
