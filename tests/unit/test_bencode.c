#include "unit.h"

#include "hub/bencode.h"

static void examples_of_bep_3_are_written(void **state)
{
    fs_bencode b = { .rc = FS_OK };

    (void)state;
    fs_bencode_open(&b, 'd');
    fs_bencode_str(&b, "cow");
    fs_bencode_str(&b, "moo");
    fs_bencode_str(&b, "spam");
    fs_bencode_open(&b, 'l');
    fs_bencode_str(&b, "a");
    fs_bencode_int(&b, -3);
    fs_bencode_int(&b, 0);
    fs_bencode_bytes(&b, (fs_bytes){ 0 });
    fs_bencode_raw(&b, FS_BYTES_LIT("le"));
    fs_bencode_close(&b);
    fs_bencode_close(&b);
    assert_int_equal(b.rc, FS_OK);
    assert_string_equal(b.out.data, "d3:cow3:moo4:spaml1:ai-3ei0e0:leee");
    fs_buf_done(&b.out);
}

static fs_bvalue read_ok(const char *text)
{
    fs_bvalue v = { 0 };
    fs_error err;

    assert_ok(fs_bencode_read(fs_bytes_str(text), &v, &err), err);
    assert_int_equal(v.whole.n_bytes, strlen(text));
    return v;
}

static void examples_of_bep_3_are_read(void **state)
{
    fs_bvalue v = read_ok("4:spam"), item;
    fs_bytes rest;

    (void)state;
    assert_int_equal(v.kind, 's');
    assert_true(fs_bytes_equal(v.inner, FS_BYTES_LIT("spam")));
    assert_int_equal(read_ok("i3e").number, 3);
    assert_int_equal(read_ok("i-3e").number, -3);
    assert_int_equal(read_ok("i0e").number, 0);
    assert_true(read_ok("i9223372036854775807e").number == INT64_MAX);
    assert_true(read_ok("i-9223372036854775808e").number == INT64_MIN);
    v = read_ok("l4:spam4:eggse");
    rest = v.inner;
    assert_true(fs_bencode_next(&rest, &item) && fs_bytes_equal(item.inner, FS_BYTES_LIT("spam")));
    assert_true(fs_bencode_next(&rest, &item) && fs_bytes_equal(item.whole, FS_BYTES_LIT("4:eggs")));
    assert_false(fs_bencode_next(&rest, &item));
    v = read_ok("d3:cow3:moo4:spaml1:a1:bee");
    assert_true(fs_bencode_member(&v, "cow", 's', &item) && fs_bytes_equal(item.inner, FS_BYTES_LIT("moo")));
    assert_true(fs_bencode_member(&v, "spam", 'l', &item) && fs_bytes_equal(item.inner, FS_BYTES_LIT("1:a1:b")));
    assert_false(fs_bencode_member(&v, "spam", 's', &item));
    assert_false(fs_bencode_member(&v, "egg", 's', &item));
    assert_false(fs_bencode_member(&item, "egg", 's', &item));
    read_ok("d0:0:1:ai1e2:aa0:1:b0:e");
}

static void what_has_another_encoding_is_refused(void **state)
{
    static const char *const bad[] = { "",       "i-0e",  "i03e",   "i-03e",  "ie",     "i-e",     "i3",         "i+3e",       "i 3e",       "i9223372036854775808e",
                                       "i-9223372036854775809e",  "04:spam", "5:spam", "4:spam ", "4spam",      "4",          ":",          "-1:a",
                                       "18446744073709551616:a", "18446744073709551615:a", "l",      "li1e",    "d1:ae",      "d1:a",       "di1ei1ee",   "d1:bi1e1:ai1ee",
                                       "d1:ai1e1:ai1ee",         "d2:aai1e1:ai1ee",        "s",      "e",       "i3ei4e",     "x",          "d",          "l4:spam4:eggsee" };
    fs_bvalue v;
    fs_error err;
    char deep[600];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t n = strlen(bad[i]);
        uint8_t *exact = malloc(n + !n); /* so that a sanitizer sees a read behind it */
        memcpy(exact, bad[i], n);
        if (fs_bencode_read((fs_bytes){ exact, n }, &v, &err) == FS_OK)
            fail_msg("'%s' was read", bad[i]);
        assert_sentence(err, "bencoding");
        free(exact);
    }
    for (size_t depth = 126; depth < 132; depth++) {
        memset(deep, 'l', depth);
        memset(deep + depth, 'e', depth);
        assert_int_equal(fs_bencode_read((fs_bytes){ (uint8_t *)deep, 2 * depth }, &v, &err) == FS_OK, depth <= FS_BENCODE_DEPTH_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_of_bep_3_are_written),
        cmocka_unit_test(examples_of_bep_3_are_read),
        cmocka_unit_test(what_has_another_encoding_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
