#include "unit.h"

#include "net/url.h"

static void escapes_there_and_back(void **state)
{
    char out[64];
    fs_buf b = { 0 };
    fs_error err;

    (void)state;
    assert_true(fs_url_decode(FS_BYTES_LIT("a%2Fb+c%C3%a9"), false, out));
    assert_string_equal(out, "a/b+c\xc3\xa9");
    assert_true(fs_url_decode(FS_BYTES_LIT("a+b%2B"), true, out));
    assert_string_equal(out, "a b+");
    assert_false(fs_url_decode(FS_BYTES_LIT("a%0"), false, out));
    assert_false(fs_url_decode(FS_BYTES_LIT("%"), false, out));
    assert_false(fs_url_decode(FS_BYTES_LIT("%zz"), false, out));
    assert_false(fs_url_decode(FS_BYTES_LIT("a%00b"), false, out));
    assert_ok(fs_url_encode(&b, FS_BYTES_LIT("a b/c%\xff~"), "/", &err), err);
    assert_string_equal(b.data, "a%20b/c%25%FF~");
    fs_buf_done(&b);
}

static void pairs_of_a_query(void **state)
{
    fs_bytes rest = FS_BYTES_LIT("&a=1&&b&c=x=y&"), name, value;

    (void)state;
    assert_true(fs_url_next_pair(&rest, &name, &value));
    assert_true(fs_bytes_equal(name, FS_BYTES_LIT("a")) && fs_bytes_equal(value, FS_BYTES_LIT("1")));
    assert_true(fs_url_next_pair(&rest, &name, &value));
    assert_true(fs_bytes_equal(name, FS_BYTES_LIT("b")) && value.n_bytes == 0);
    assert_true(fs_url_next_pair(&rest, &name, &value));
    assert_true(fs_bytes_equal(name, FS_BYTES_LIT("c")) && fs_bytes_equal(value, FS_BYTES_LIT("x=y")));
    assert_false(fs_url_next_pair(&rest, &name, &value));
}

static void ranges_of_rfc_9110(void **state)
{
    static const struct {
        const char *header;
        int n;
        fs_http_range first;
    } cases[] = {
        { "bytes=10-19", 1, { 10, 10 } }, { "bytes=90-", 1, { 90, 10 } },  { "bytes=-7", 1, { 93, 7 } },    { "bytes=-700", 1, { 0, 100 } },
        { "bytes=0-999", 1, { 0, 100 } }, { "bytes=100-", -1, { 0, 0 } },  { "bytes=-0", -1, { 0, 0 } },    { "bytes=5-4", 0, { 0, 0 } },
        { "bytes=", 0, { 0, 0 } },        { "bytes=a-b", 0, { 0, 0 } },    { "lines=1-2", 0, { 0, 0 } },    { "bytes=0-0, 5-6 ,200-", 2, { 0, 1 } },
        { "bytes=--1", 0, { 0, 0 } },     { "bytes=1-2x", 0, { 0, 0 } },   { "bytes=0-99999999999999999999999", 1, { 0, 100 } },
        { "bytes=99999999999999999999999-", -1, { 0, 0 } },
    };
    fs_http_range r[FS_HTTP_RANGES_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (fs_http_ranges(cases[i].header, 100, r) != cases[i].n)
            fail_msg("'%s'", cases[i].header);
        if (cases[i].n > 0 && (r[0].begin != cases[i].first.begin || r[0].n_bytes != cases[i].first.n_bytes))
            fail_msg("'%s': %lu + %lu", cases[i].header, (unsigned long)r[0].begin, (unsigned long)r[0].n_bytes);
    }
    assert_int_equal(fs_http_ranges(NULL, 100, r), 0);
    assert_int_equal(fs_http_ranges("bytes=0-", 0, r), -1);
}

static void times_of_clients(void **state)
{
    char text[32];

    (void)state;
    fs_iso_time(1769851800123, text);
    assert_string_equal(text, "2026-01-31T09:30:00.123Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes_there_and_back),
        cmocka_unit_test(pairs_of_a_query),
        cmocka_unit_test(ranges_of_rfc_9110),
        cmocka_unit_test(times_of_clients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
