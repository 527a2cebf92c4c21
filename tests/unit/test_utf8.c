#include "unit.h"

#include "base/utf8.h"

static void every_character_comes_back(void **state)
{
    uint8_t b[4];

    (void)state;
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        uint32_t got;
        size_t n = fs_utf8_put(c, b);
        if (c >= 0xd800 && c <= 0xdfff)
            continue;
        assert_int_equal(fs_utf8_next((fs_bytes){ b, n }, 0, &got), n);
        assert_int_equal(got, c);
    }
}

/* The Unicode standard's own example of maximal subparts (table 3-8). */
static void ill_formed_parts_have_the_standard_length(void **state)
{
    static const uint8_t text[] = { 0x61, 0xf1, 0x80, 0x80, 0xe1, 0x80, 0xc2, 0x62, 0x80, 0x63, 0x80, 0xbf, 0x64 };
    static const size_t lengths[] = { 1, 3, 2, 1, 1, 1, 1, 1, 1, 1 };
    size_t i = 0;

    (void)state;
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        uint32_t c;
        size_t n = fs_utf8_next((fs_bytes){ text, sizeof text }, i, &c);
        assert_int_equal(n, lengths[k]);
        i += n;
    }
    assert_int_equal(i, sizeof text);
}

static void surrogates_and_overlong_forms_are_no_text(void **state)
{
    (void)state;
    assert_false(fs_utf8_valid(FS_BYTES_LIT("\xed\xa0\x80")));
    assert_false(fs_utf8_valid(FS_BYTES_LIT("\xc0\x80")));
    assert_false(fs_utf8_valid(FS_BYTES_LIT("\xe0\x80\x80")));
    assert_false(fs_utf8_valid(FS_BYTES_LIT("\xf4\x90\x80\x80")));
    assert_false(fs_utf8_valid(FS_BYTES_LIT("a\xc3")));
    assert_true(fs_utf8_valid(FS_BYTES_LIT("a\0b\xc3\xa9")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character_comes_back),
        cmocka_unit_test(ill_formed_parts_have_the_standard_length),
        cmocka_unit_test(surrogates_and_overlong_forms_are_no_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
