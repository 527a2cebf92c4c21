/* base/json: what json-c alone would get wrong. */
#include "base/json.h"
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

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
        cmocka_unit_test(escaped_pairs_become_every_character_above_ffff),
        cmocka_unit_test(an_escaped_backslash_begins_no_pair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
