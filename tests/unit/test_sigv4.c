#include "unit.h"

#include "net/sigv4.h"

#include <string.h>

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static const fs_sigv4_keys s3_keys = { "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1", "s3" };

static void is_signed(const fs_sigv4_keys *k, const fs_sigv4_request *q, const char *query, const char *authorization)
{
    fs_buf got_query = { 0 }, got = { 0 };
    fs_error err;

    assert_ok(fs_sigv4_sign(k, q, &got_query, &got, &err), err);
    assert_string_equal(got_query.data ? got_query.data : "", query);
    assert_string_equal(got.data, authorization);
    fs_buf_done(&got_query);
    fs_buf_done(&got);
}

#define S3_AUTHORIZATION(names, signature) \
    "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=" names ",Signature=" signature

/* The examples of "Authenticating Requests: Using the Authorization Header", Amazon S3 API reference. */
static void the_examples_of_s3s_reference(void **state)
{
    const fs_sigv4_pair get[] = { { "range", "bytes=0-9" }, { "host", "examplebucket.s3.amazonaws.com" }, { "x-amz-date", "20130524T000000Z" }, { "x-amz-content-sha256", EMPTY } };
    const char *content = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    const fs_sigv4_pair put[] = { { "date", "Fri, 24 May 2013 00:00:00 GMT" }, { "host", "examplebucket.s3.amazonaws.com" }, { "x-amz-content-sha256", content },
                                  { "x-amz-date", "20130524T000000Z" }, { "x-amz-storage-class", "REDUCED_REDUNDANCY" } };
    const fs_sigv4_pair lifecycle[] = { { "lifecycle", "" } }, list[] = { { "prefix", "J" }, { "max-keys", "2" } };

    (void)state;
    is_signed(&s3_keys, &(fs_sigv4_request){ "GET", "/test.txt", NULL, 0, get, 4, EMPTY, "20130524T000000Z" }, "",
              S3_AUTHORIZATION("host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"));
    is_signed(&s3_keys, &(fs_sigv4_request){ "PUT", "/test%24file.text", NULL, 0, put, 5, content, "20130524T000000Z" }, "",
              S3_AUTHORIZATION("date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"));
    is_signed(&s3_keys, &(fs_sigv4_request){ "GET", "/", lifecycle, 1, get + 1, 3, EMPTY, "20130524T000000Z" }, "lifecycle=",
              S3_AUTHORIZATION("host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"));
    is_signed(&s3_keys, &(fs_sigv4_request){ "GET", "/", list, 2, get + 1, 3, EMPTY, "20130524T000000Z" }, "max-keys=2&prefix=J",
              S3_AUTHORIZATION("host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"));
}

/* "get-vanilla" of AWS's Signature Version 4 test suite. */
static void the_test_suites_request(void **state)
{
    const fs_sigv4_keys keys = { "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", "service" };
    const fs_sigv4_pair headers[] = { { "host", "example.amazonaws.com" }, { "x-amz-date", "20150830T123600Z" } };

    (void)state;
    is_signed(&keys, &(fs_sigv4_request){ "GET", "/", NULL, 0, headers, 2, EMPTY, "20150830T123600Z" }, "",
              "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request,SignedHeaders=host;x-amz-date,"
              "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
}

/* The example of "Authenticating Requests: Using Query Parameters". */
static void a_link_that_carries_its_right(void **state)
{
    const fs_sigv4_pair host[] = { { "host", "examplebucket.s3.amazonaws.com" } };
    const fs_sigv4_request q = { "GET", "/test.txt", NULL, 0, host, 1, "UNSIGNED-PAYLOAD", "20130524T000000Z" };
    fs_buf got = { 0 };
    fs_error err;

    (void)state;
    assert_ok(fs_sigv4_presign(&s3_keys, &q, NULL, 86400, &got, &err), err);
    assert_string_equal(got.data, "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z"
                                  "&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
    fs_buf_clear(&got);
    assert_ok(fs_sigv4_presign(&s3_keys, &q, "a/token=", 86400, &got, &err), err);
    assert_non_null(strstr(got.data, "&X-Amz-Security-Token=a%2Ftoken%3D&X-Amz-SignedHeaders=host&")); /* in its order, and signed */
    assert_null(strstr(got.data, "aeeed9bb"));
    fs_buf_done(&got);
}

static void dates(void **state)
{
    char text[17];

    (void)state;
    fs_sigv4_date(1369353600, text);
    assert_string_equal(text, "20130524T000000Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_examples_of_s3s_reference),
        cmocka_unit_test(the_test_suites_request),
        cmocka_unit_test(a_link_that_carries_its_right),
        cmocka_unit_test(dates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
