#include "unit.h"

#include "net/s3_xml.h"

#include <string.h>
#include <time.h>

#define LIST(inner) "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>hub</Name>" inner "</ListBucketResult>"
#define OBJECT(key, size) "<Contents><Key>" key "</Key><LastModified>2013-05-24T00:00:01.000Z</LastModified><Size>" size "</Size></Contents>"
#define UPLOADS(inner) "<ListMultipartUploadsResult>" inner "</ListMultipartUploadsResult>"

static void texts_of_answers(void **state)
{
    fs_bytes rest = fs_bytes_str("<R><Contents><Key>a/b</Key><ETag>&quot;x&amp;lt;&quot;</ETag></Contents><Contents><Key>c</Key></Contents><Empty></Empty></R>"), one;
    char text[16];

    (void)state;
    assert_true(fs_s3_xml_next(&rest, "Contents", &one));
    assert_true(fs_s3_xml_text(one, "Key", text, sizeof text));
    assert_string_equal(text, "a/b");
    assert_true(fs_s3_xml_text(one, "ETag", text, sizeof text));
    assert_string_equal(text, "\"x&lt;\""); /* read once, not twice */
    assert_true(fs_s3_xml_next(&rest, "Contents", &one));
    assert_true(fs_s3_xml_text(one, "Key", text, sizeof text));
    assert_string_equal(text, "c");
    assert_false(fs_s3_xml_text(one, "ETag", text, sizeof text)); /* which is another's */
    assert_false(fs_s3_xml_next(&rest, "Contents", &one));
    assert_true(fs_s3_xml_text(rest, "Empty", text, sizeof text));
    assert_string_equal(text, "");
    assert_true(fs_s3_xml_text(fs_bytes_str("<Key>&unknown;&</Key>"), "Key", text, sizeof text));
    assert_string_equal(text, "&unknown;&");
    assert_true(fs_s3_xml_text(fs_bytes_str("<Key>0123456789abcde</Key>"), "Key", text, sizeof text)); /* just so */
}

static void texts_that_are_broken(void **state)
{
    static const char *const broken[] = { "", "<Key>", "<Key>a", "</Key><Key>", "<Key", "<Key>a</key>", "<Key>a<b/></Key>", "<Key>0123456789abcdef</Key>" /* no room */ };
    char text[16];

    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        if (fs_s3_xml_text(fs_bytes_str(broken[i]), "Key", text, sizeof text))
            fail_msg("'%s'", broken[i]);
    assert_false(fs_s3_xml_text(FS_BYTES_LIT("<Key>a\0b</Key>"), "Key", text, sizeof text));
}

static void numbers_and_keys(void **state)
{
    static const char *const no_numbers[] = { "", "-1", "+1", " 1", "1 ", "0x1", "9223372036854775808", "18446744073709551615", "00000000000000000001" };
    static const char *const no_keys[] = { "", "/", "a/", "/a", "a//b", ".", "..", "../a", "a/../b", "a/..", "a/./b", "a b", "a?b", "a#b", "a%2fb", "a\nb", "\xc3\xa9" };
    uint64_t n = 7;

    (void)state;
    for (size_t i = 0; i < sizeof no_numbers / sizeof *no_numbers; i++)
        if (fs_s3_number(no_numbers[i], &n) || n != 7)
            fail_msg("'%s'", no_numbers[i]);
    assert_true(fs_s3_number("9223372036854775807", &n) && n == INT64_MAX);
    assert_true(fs_s3_number("0", &n) && n == 0);
    for (size_t i = 0; i < sizeof no_keys / sizeof *no_keys; i++)
        if (fs_s3_key_is_plain(no_keys[i]))
            fail_msg("'%s'", no_keys[i]);
    assert_true(fs_s3_key_is_plain("objects/0a/..a/a.b-c_D"));
}

static fs_status note(void *ud, const char *key, uint64_t n_bytes, int64_t ms, fs_error *err)
{
    return fs_buf_printf(ud, err, "%s:%llu:%lld ", key, (unsigned long long)n_bytes, (long long)ms);
}

static fs_status note_upload(void *ud, const char *key, const char *upload, int64_t ms, fs_error *err)
{
    return fs_buf_printf(ud, err, "%s:%s:%lld ", key, upload, (long long)ms);
}

static void lists_of_objects(void **state)
{
    char more[FS_S3_TOKEN_BYTES];
    fs_buf seen = { 0 };
    fs_error err;

    (void)state;
    assert_ok(fs_s3_list_read(fs_bytes_str(LIST(OBJECT("p/a", "5") OBJECT("q/b", "6") OBJECT("p/../c", "7") OBJECT("p/d?e", "8") OBJECT("p/", "0")
                                                    OBJECT("p/f/g", "9") "<IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b</NextContinuationToken>")),
                              "p/", note, &seen, more, &err),
              err);
    assert_string_equal(seen.data, "a:5:1369353601000 f/g:9:1369353601000 "); /* what is another's, or no key of ours, is passed over */
    assert_string_equal(more, "a&b");
    fs_buf_clear(&seen);
    assert_ok(fs_s3_list_read(fs_bytes_str(LIST("<IsTruncated>false</IsTruncated>")), "p/", note, &seen, more, &err), err);
    assert_string_equal(more, "");
    assert_ok(fs_s3_uploads_read(fs_bytes_str(UPLOADS("<Upload><Key>p/a</Key><UploadId>u&lt;1</UploadId><Initiated>2013-05-24T00:00:01.000Z</Initiated></Upload>"
                                                      "<Upload><Key>b</Key><UploadId>u2</UploadId><Initiated>2013-05-24T00:00:01.000Z</Initiated></Upload>")),
                                 "p/", note_upload, &seen, &err),
              err);
    assert_string_equal(seen.data, "a:u<1:1369353601000 ");
    fs_buf_done(&seen);
}

static void lists_that_are_none(void **state)
{
    static const char *const broken[] = {
        "",
        "<html>Please log in</html>", /* no empty bucket */
        "<ListBucketResult><IsTruncated>false</IsTruncated>", /* cut short */
        LIST("<Contents><Key>p/a</Key>"),
        LIST("<Contents><LastModified>x</LastModified><Size>5</Size></Contents>" OBJECT("p/a", "5")), /* no key of its own */
        LIST(OBJECT("p/a", "-5")),
        LIST(OBJECT("p/a", "18446744073709551615")),
        LIST(OBJECT("p/a", "")),
        LIST("<IsTruncated>true</IsTruncated>"), /* there is more, and no way to it */
        LIST("<IsTruncated>true</IsTruncated><NextContinuationToken></NextContinuationToken>"),
    };
    static const char *const broken_uploads[] = { "", LIST(""), UPLOADS("<Upload><Key>p/a</Key>"), UPLOADS("<Upload><Key>p/a</Key><Initiated>x</Initiated></Upload>"),
                                                  UPLOADS("<Upload><Key>p/a</Key><UploadId></UploadId><Initiated>x</Initiated></Upload>") };
    char more[FS_S3_TOKEN_BYTES], upload[FS_S3_UPLOAD_BYTES] = "stays";
    fs_buf seen = { 0 };
    fs_error err;

    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        if (fs_s3_list_read(fs_bytes_str(broken[i]), "p/", note, &seen, more, &err) != FS_ERR_IO || *more)
            fail_msg("'%s'", broken[i]);
    for (size_t i = 0; i < sizeof broken_uploads / sizeof *broken_uploads; i++)
        if (fs_s3_uploads_read(fs_bytes_str(broken_uploads[i]), "p/", note_upload, &seen, &err) != FS_ERR_IO)
            fail_msg("'%s'", broken_uploads[i]);
    assert_int_equal(fs_s3_upload_read(fs_bytes_str("<UploadId></UploadId>"), upload, &err), FS_ERR_IO);
    assert_string_equal(upload, "stays");
    assert_ok(fs_s3_upload_read(fs_bytes_str("<R><UploadId>u-1</UploadId></R>"), upload, &err), err);
    assert_string_equal(upload, "u-1");
    fs_buf_done(&seen);
}

static fs_status refuse(void *ud, const char *key, uint64_t n_bytes, int64_t ms, fs_error *err)
{
    int *n = ud;

    (void)key, (void)n_bytes, (void)ms;
    ++*n;
    return fs_fail(err, FS_ERR_MEMORY, "no more");
}

static void who_lists_may_stop(void **state)
{
    char more[FS_S3_TOKEN_BYTES];
    int n = 0;
    fs_error err;

    (void)state;
    assert_int_equal(fs_s3_list_read(fs_bytes_str(LIST(OBJECT("p/a", "5") OBJECT("p/b", "6"))), "p/", refuse, &n, more, &err), FS_ERR_MEMORY);
    assert_int_equal(n, 1);
}

static void errors(void **state)
{
    char code[100], message[300];
    fs_error err;

    (void)state;
    assert_true(fs_s3_error_read(fs_bytes_str("<?xml?><Error><Code>NoSuchKey</Code><Message>It &lt;is&gt; not\nhere</Message></Error>"), code, message));
    assert_string_equal(code, "NoSuchKey");
    assert_string_equal(message, "It <is> not\nhere");
    assert_true(fs_s3_error_read(fs_bytes_str("<Error>"), code, message));
    assert_string_equal(code, "");
    assert_ok(fs_s3_completed_read(fs_bytes_str("  \n <?xml?><CompleteMultipartUploadResult xmlns=\"x\"><Key>p/a</Key></CompleteMultipartUploadResult>"), &err), err);
    assert_int_equal(fs_s3_completed_read(fs_bytes_str("<html></html>"), &err), FS_ERR_IO);
    assert_false(fs_s3_error_read(fs_bytes_str("<Code>x</Code><Message>y</Message>"), code, message));
    assert_string_equal(message, "");
}

/* An answer of 4 MiB that would be read from each of its elements to its end. */
static void time_is_linear(void **state)
{
    fs_buf objects = { 0 }, uploads = { 0 }, seen = { 0 };
    char more[FS_S3_TOKEN_BYTES];
    fs_error err;
    clock_t begin = clock();

    (void)state;
    assert_ok(fs_buf_append_str(&objects, "<ListBucketResult>", &err), err);
    assert_ok(fs_buf_append_str(&uploads, "<ListMultipartUploadsResult>", &err), err);
    for (int i = 0; i < 400000; i++) {
        assert_ok(fs_buf_append_str(&objects, "<Contents>", &err), err);
        assert_ok(fs_buf_append_str(&uploads, "<Upload>", &err), err);
    }
    assert_ok(fs_buf_append_str(&objects, "<Key>p/a</Key><Size>5</Size><LastModified>x</LastModified></ListBucketResult>", &err), err);
    assert_ok(fs_buf_append_str(&uploads, "<Key>p/a</Key><UploadId>x</UploadId><Initiated>x</Initiated></ListMultipartUploadsResult>", &err), err);
    assert_int_equal(fs_s3_list_read(fs_buf_bytes(&objects), "p/", note, &seen, more, &err), FS_ERR_IO);
    assert_int_equal(fs_s3_uploads_read(fs_buf_bytes(&uploads), "p/", note_upload, &seen, &err), FS_ERR_IO);
    assert_null(seen.data);
    assert_true((double)(clock() - begin) / CLOCKS_PER_SEC < 20); /* of minutes, if each were */
    fs_buf_done(&objects);
    fs_buf_done(&uploads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_of_answers), cmocka_unit_test(texts_that_are_broken), cmocka_unit_test(numbers_and_keys), cmocka_unit_test(lists_of_objects),
        cmocka_unit_test(lists_that_are_none), cmocka_unit_test(who_lists_may_stop), cmocka_unit_test(errors), cmocka_unit_test(time_is_linear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
