#include "unit.h"

#include "net/multipart.h"

#include <string.h>

static fs_status begin(void *ud, const char *name, const char *filename, fs_error *err)
{
    return fs_buf_printf(ud, err, "[%s|%s]", name, filename ? filename : "-");
}

static fs_status data(void *ud, const void *bytes, size_t n_bytes, fs_error *err)
{
    return fs_buf_append(ud, bytes, n_bytes, err);
}

static fs_status end(void *ud, fs_error *err)
{
    return fs_buf_append_str(ud, "\n", err);
}

static fs_status read_in(const char *body, size_t piece, fs_buf *ret, fs_error *err)
{
    fs_multipart_sink sink = { begin, data, end, ret };
    fs_multipart m;
    size_t n = strlen(body);
    fs_status rc = FS_OK;

    fs_multipart_init(&m, "b-1", &sink);
    for (size_t i = 0; i < n && !rc; i += piece)
        rc = fs_multipart_feed(&m, body + i, piece < n - i ? piece : n - i, err);
    if (!rc)
        rc = fs_multipart_end(&m, err);
    fs_multipart_done(&m);
    return rc;
}

static void any_pieces_give_the_same(void **state)
{
    static const char body[] = "before\r\n--b-1\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n--b-\r\r\n--b-2\r\n--\r\n--b-1 \t\r\n"
                               "X-Y: z\r\ncontent-disposition: form-data; filename=\"x%22\\\"\\z%0a%41.bin\" ; name=\"f\"\r\nContent-Type: t/u\r\n\r\n\r\n--b-1\r\n"
                               "Content-Disposition: form-data; name=\"g\"; filename=\"\"\r\n\r\none\r\n--b-1--behind\r\n--b-1\r\n";

    (void)state;
    for (size_t piece = 1; piece < sizeof body; piece++) {
        fs_buf seen = { 0 };
        fs_error err;
        assert_ok(read_in(body, piece, &seen, &err), err);
        assert_string_equal(seen.data, "[a|-]\r\n--b-\r\r\n--b-2\r\n--\n[f|x\"\"\\z\n%41.bin]\n[g|]one\n");
        fs_buf_done(&seen);
    }
}

static void refused(const char *body, const char *word)
{
    for (size_t piece = 1; piece < 40; piece += 13) {
        fs_buf seen = { 0 };
        fs_error err = { 0 };
        if (read_in(body, piece, &seen, &err) == FS_OK)
            fail_msg("'%s' passed", body);
        assert_sentence(err, word);
        fs_buf_done(&seen);
    }
}

#define HEAD(lines) "--b-1\r\n" lines "\r\n\r\nx\r\n--b-1--"

static void what_is_no_form_is_refused(void **state)
{
    static char large[9000];

    (void)state;
    refused("", "cut short");
    refused("--b-1\r\n", "cut short");
    refused("--b-1\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--b-1\r\n", "cut short");
    refused("--b-12\r\n", "something else");
    refused("--b-1-x", "something else");
    refused("--b-1\rx", "something else");
    refused(HEAD("X: y"), "no name");
    refused("--b-1\r\n\r\nx\r\n--b-1--", "no name");
    refused(HEAD("Content-Disposition: attachment; name=\"a\""), "Content-Disposition");
    refused(HEAD("Content-Disposition: form-data; name=a"), "Content-Disposition");
    refused(HEAD("Content-Disposition: form-data; name=\"a"), "Content-Disposition");
    refused(HEAD("Content-Disposition: form-data; name=\"a\"; name=\"b\""), "Content-Disposition");
    refused(HEAD("Content-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"b\""), "Content-Disposition");
    refused(HEAD("A: b\nContent-Disposition: form-data; name=\"a\""), "CR LF");
    memset(large, 'x', sizeof large - 1);
    memcpy(large, "--b-1\r\n", 7);
    refused(large, "bytes");
}

static void boundaries(void **state)
{
    char b[FS_MULTIPART_BOUNDARY_MAX + 1], long_one[200];

    (void)state;
    assert_true(fs_multipart_boundary("multipart/form-data; boundary=----WebKit", b));
    assert_string_equal(b, "----WebKit");
    assert_true(fs_multipart_boundary("Multipart/Form-Data ;charset=utf-8; Boundary=\"a b:c\"; x=y", b));
    assert_string_equal(b, "a b:c");
    assert_false(fs_multipart_boundary(NULL, b));
    assert_false(fs_multipart_boundary("multipart/form-data", b));
    assert_false(fs_multipart_boundary("multipart/form-data; boundary=", b));
    assert_false(fs_multipart_boundary("multipart/form-data; boundary=\"a \"", b));
    assert_false(fs_multipart_boundary("multipart/form-data; boundary=\"a\r\nb\"", b));
    assert_false(fs_multipart_boundary("multipart/mixed; boundary=a", b));
    snprintf(long_one, sizeof long_one, "multipart/form-data; boundary=%071d", 0);
    assert_false(fs_multipart_boundary(long_one, b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_pieces_give_the_same),
        cmocka_unit_test(what_is_no_form_is_refused),
        cmocka_unit_test(boundaries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
