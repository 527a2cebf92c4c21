#include "unit.h"

#include "net/s3.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void what_is_no_store(void **state)
{
    static const fs_s3_options good = { "https://s3.example.org", "eu-central-1", "bucket", "a/b/", "key", "secret", NULL };
    fs_s3_options bad[13];
    fs_s3 *s = NULL;
    fs_buf link = { 0 };
    fs_error err;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        bad[i] = good;
    bad[0].endpoint = "ftp://s3.example.org";
    bad[1].endpoint = "https://";
    bad[2].endpoint = "https://s3.example.org/path";
    bad[3].endpoint = "https://key@s3.example.org";
    bad[4].bucket = "";
    bad[5].bucket = "a/b";
    bad[6].bucket = "bucket?x";
    bad[7].prefix = "a";
    bad[8].prefix = "/a/";
    bad[9].prefix = "../a/";
    bad[10].prefix = "a\n/";
    bad[11].region = "us/east";
    bad[12].secret_key = "";
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (fs_s3_new(&bad[i], &s, &err) != FS_ERR_ARGUMENT)
            fail_msg("%zu", i);
    bad[0] = good;
    bad[0].endpoint = "https://s3.example.org:443"; /* what is signed is what is sent */
    assert_ok(fs_s3_new(&bad[0], &s, &err), err);
    assert_ok(fs_s3_link(s, "objects/x", 60, &link, &err), err);
    assert_int_equal(strncmp(link.data, "https://s3.example.org/bucket/a/b/objects/x?X-Amz-Algorithm=AWS4-HMAC-SHA256&", 75), 0);
    assert_non_null(strstr(link.data, "&response-content-type=application%2Foctet-stream&X-Amz-Signature="));
    fs_buf_done(&link);
    fs_s3_free(s);
    fs_s3_free(NULL);
}

/* A store that sends a thousand bytes, whatever it is asked. */
static void *lie(void *ud)
{
    static const char head[] = "HTTP/1.1 206 Partial Content\r\nContent-Length: 1000\r\nContent-Range: bytes 0-999/1000\r\nConnection: close\r\n\r\n";
    char asked[4096], answer[sizeof head - 1 + 1000];
    int at = *(int *)ud, to;

    memcpy(answer, head, sizeof head - 1);
    memset(answer + sizeof head - 1, 'x', 1000);
    while ((to = accept(at, NULL, NULL)) >= 0) {
        if (read(to, asked, sizeof asked) > 0 && write(to, answer, sizeof answer) > 0)
            shutdown(to, SHUT_WR);
        while (read(to, asked, sizeof asked) > 0)
            ;
        close(to);
    }
    return NULL;
}

static fs_status count(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    (void)data;
    (void)err;
    *(size_t *)ud += n_bytes;
    return FS_OK;
}

static void more_than_was_asked_for_is_not_taken(void **state)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof a;
    int at = socket(AF_INET, SOCK_STREAM, 0);
    char endpoint[64];
    fs_s3_options o = { endpoint, "eu-central-1", "bucket", "", "key", "secret", NULL };
    size_t taken = 0;
    pthread_t thread;
    fs_s3 *s = NULL;
    fs_error err;

    (void)state;
    assert_true(at >= 0 && bind(at, (struct sockaddr *)&a, sizeof a) == 0 && listen(at, 8) == 0 && getsockname(at, (struct sockaddr *)&a, &n) == 0);
    assert_int_equal(pthread_create(&thread, NULL, lie, &at), 0);
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", ntohs(a.sin_port));
    assert_ok(fs_s3_new(&o, &s, &err), err);
    assert_ok(fs_s3_get(s, "objects/x", 0, 1000, count, &taken, &err), err);
    assert_int_equal(taken, 1000);
    taken = 0;
    assert_int_equal(fs_s3_get(s, "objects/x", 0, 10, count, &taken, &err), FS_ERR_IO);
    assert_non_null(strstr(err.message, "more of objects/x than was asked for"));
    assert_true(taken <= 10);
    fs_s3_free(s);
    shutdown(at, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_store),
        cmocka_unit_test(more_than_was_asked_for_is_not_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
