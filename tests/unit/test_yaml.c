/* The strict subset of YAML. */
#include "base/yaml.h"

#include "unit.h"

static fs_error error;

static struct json_object *yaml(const char *text)
{
    struct json_object *v = NULL;
    assert_ok(fs_yaml_parse(fs_bytes_str(text), "c.yaml", &v, &error), error);
    return v;
}

static void yaml_is_strict(void **state)
{
    static const char *const bad[] = { "a: 1\na: 2\n", "a: &x 1\n", "a: *x\n", "a: !!str 1\n", "a: [1\n", "a: 1\n---\nb: 2\n",
                                       "a: 99999999999999999999999\n", "a: 1e999\n", "? [a]\n: 1\n", "a: \"\\xZZ\"\n", "a:\tb: c: d\n" };
    struct json_object *v = NULL;
    char deep[400];
    (void)state;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error = (fs_error){ 0 };
        assert_int_equal(fs_yaml_parse(fs_bytes_str(bad[i]), "c.yaml", &v, &error), FS_ERR_FORMAT);
        assert_memory_equal(error.message, "c.yaml: line ", 13);
        assert_null(v);
    }
    memset(deep, '[', 200);
    memset(deep + 200, ']', 200);
    assert_int_equal(fs_yaml_parse((fs_bytes){ (const uint8_t *)deep, 400 }, "c.yaml", &v, &error), FS_ERR_FORMAT);
    v = yaml("# comment\n");
    assert_string_equal(json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN), "{}");
    json_object_put(v);
}

static void yaml_scalars_follow_the_core_schema(void **state)
{
    struct json_object *v = yaml("a: no\nb: [1, -2, 0.50, 1e3, true, ~, '1', 0x10, 18446744073709551615]\nc:\n  d: x y\n");
    (void)state;
    assert_string_equal(json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN),
                        "{\"a\":\"no\",\"b\":[1,-2,0.50,1e3,true,null,\"1\",\"0x10\",18446744073709551615],\"c\":{\"d\":\"x y\"}}");
    json_object_put(v);
}

static void a_sentence_is_one_line_whatever_the_file_holds(void **state)
{
    struct json_object *v = NULL;
    (void)state;
    assert_int_equal(fs_yaml_parse(fs_bytes_str("\"a\\nb\": 1\n\"a\\nb\": 1\n"), "c.yaml", &v, &error), FS_ERR_FORMAT);
    assert_string_equal(error.message, "c.yaml: line 2: key 'a?b' stands twice");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(yaml_is_strict),
        cmocka_unit_test(yaml_scalars_follow_the_core_schema),
        cmocka_unit_test(a_sentence_is_one_line_whatever_the_file_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
