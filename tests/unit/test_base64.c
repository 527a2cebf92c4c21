#include "unit.h"

#include "crypto/base64.h"

#include <string.h>

/* RFC 4648, section 10. */
static void known_answers(void **state)
{
    static const char *const pairs[][2] = { { "", "" },         { "f", "Zg==" },         { "fo", "Zm8=" },        { "foo", "Zm9v" },
                                            { "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" } };
    fs_buf out = { 0 };
    fs_error err;

    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        fs_buf_clear(&out);
        assert_ok(fs_buf_append_str(&out, "before ", &err), err);
        assert_ok(fs_base64_append(&out, fs_bytes_str(pairs[i][0]), &err), err);
        assert_string_equal(out.data + 7, pairs[i][1]);
        assert_int_equal(out.n_bytes, 7 + strlen(pairs[i][1]));
    }
    fs_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(known_answers) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
