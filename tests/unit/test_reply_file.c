/* Replies from files. */
#include "unit.h"
#include "unit/client.h"

#include "base/clock.h"

#include <fcntl.h>
#include <netinet/tcp.h>

#define LARGE_FILE_BYTES ((off_t)64 << 20)
/* Of zeros. */
static void large_file(void *ud, fs_http_request *r)
{
    FILE *f = tmpfile();
    int fd = dup(fileno(f));

    (void)ud;
    fclose(f);
    assert_int_equal(ftruncate(fd, fs_http_query(r, "short", 0) ? LARGE_FILE_BYTES / 2 : LARGE_FILE_BYTES), 0);
    fs_http_reply_fd(r, fs_http_query(r, "part", 0) ? 206 : 200, NULL, fd, 0, (uint64_t)LARGE_FILE_BYTES);
}

static void small_file(void *ud, fs_http_request *r)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    (void)ud;
    fs_http_reply_fd(r, 200, NULL, fd, 1, 3);
}

static void endless(void *ud, fs_http_request *r)
{
    static const char part[4096];

    (void)ud;
    fs_http_stream_begin(r, 200, NULL);
    while (fs_http_stream_write(r, part, sizeof part, NULL) == FS_OK)
        ;
}

static const fs_http_route routes[] = {
    { "GET", "/large", large_file, NULL, 0, false },
    { "GET", "/small", small_file, NULL, 0, false },
    { "GET", "/endless", endless, NULL, 0, false },
};

static int start_with(int n_streams_max)
{
    return serve(&(fs_http_options){ .n_threads = 2, .n_streams_max = n_streams_max }, routes, sizeof routes / sizeof *routes, NULL);
}

static int setup(void **state)
{
    (void)state;
    return start_with(0);
}

static int setup_few(void **state)
{
    (void)state;
    return start_with(4);
}

static int connect_and_say(const char *text)
{
    int fd = connect_to();

    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    return fd;
}

static size_t n_body_bytes(const fs_buf *b)
{
    return b->n_bytes - (size_t)(strstr(b->data, "\r\n\r\n") + 4 - b->data);
}

#define LARGE "GET /large HTTP/1.1\r\nHost: x\r\n\r\n"

/* One that is whole: its connection ends with it. */
static void a_large_file_ends_its_connection(void **state)
{
    fs_buf b = ask(LARGE);
    const char *length = strstr(b.data, "Content-Length: 67108864\r\n"), *body = strstr(b.data, "\r\n\r\n") + 4;

    (void)state;
    assert_int_equal(strncmp(b.data, "HTTP/1.1 200 ", 13), 0);
    assert_true(length && length < body && strstr(b.data, "Connection: close\r\n"));
    assert_null(strstr(length + 1, "Content-Length"));
    assert_null(strstr(b.data, "chunked"));
    assert_int_equal(n_body_bytes(&b), LARGE_FILE_BYTES);
    for (off_t i = 0; i < LARGE_FILE_BYTES; i += 4093)
        assert_int_equal(body[i], 0);
    fs_buf_done(&b);
}

/* So does the one that asked whether it is there. */
static void the_question_for_it_too(void **state)
{
    fs_buf b = ask("HEAD /large HTTP/1.1\r\nHost: x\r\n\r\n");

    (void)state;
    assert_int_equal(strncmp(b.data, "HTTP/1.1 200 ", 13), 0);
    assert_non_null(strstr(b.data, "Content-Length: 67108864\r\n"));
    assert_non_null(strstr(b.data, "Connection: close\r\n"));
    assert_int_equal(n_body_bytes(&b), 0);
    fs_buf_done(&b);
}

/* After parts and small ones the connection goes on. */
static void others_do_not(void **state)
{
    fs_buf b = ask("GET /large?part=1 HTTP/1.1\r\nHost: x\r\n\r\nHEAD /small HTTP/1.1\r\nHost: x\r\n\r\nGET /small HTTP/1.1\r\n" END);

    (void)state;
    assert_true(b.n_bytes > (size_t)LARGE_FILE_BYTES);
    assert_int_equal(memcmp(b.data + b.n_bytes - 3, "ELF", 3), 0);
    fs_buf_done(&b);
}

/* A second request that comes during the first's reply is not answered, and takes nothing from it. */
static void a_request_too_many(void **state)
{
    int fd = connect_and_say(LARGE);
    fs_buf b;

    (void)state;
    usleep(100000); /* its buffers are full */
    assert_int_equal(write(fd, LARGE, strlen(LARGE)), strlen(LARGE));
    b = read_all(fd);
    assert_int_equal(n_body_bytes(&b), LARGE_FILE_BYTES);
    fs_buf_done(&b);
}

static void to_an_old_client(void **state)
{
    fs_buf b = ask("GET /large HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");

    (void)state;
    assert_non_null(strstr(b.data, "Content-Length: 67108864\r\n"));
    assert_int_equal(n_body_bytes(&b), LARGE_FILE_BYTES);
    fs_buf_done(&b);
}

/* A file that is shorter than was said, and clients that leave: nothing stays behind, and no signal ends the server. */
static void it_may_be_broken_off(void **state)
{
    fs_buf b = ask("GET /large?short=1 HTTP/1.1\r\nHost: x\r\n\r\n");
    char some[1000];

    (void)state;
    assert_int_equal(n_body_bytes(&b), LARGE_FILE_BYTES / 2);
    fs_buf_done(&b);
    for (int i = 0; i < 20; i++) {
        int fd = connect_and_say(LARGE);
        for (int reads = 0; reads < i % 4; reads++)
            assert_true(read(fd, some, sizeof some) > 0);
        close(fd);
    }
    expect("GET /small HTTP/1.1\r\n" END, "200", "ELF");
}

/* With one of four places for streams taken libmicrohttpd sends it: the connection goes on. */
static void without_a_place_it_goes_as_others_do(void **state)
{
    int held = connect_and_say("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n");
    char some[1000];
    fs_buf b;

    (void)state;
    assert_true(read(held, some, sizeof some) > 0);
    b = ask(LARGE "GET /small HTTP/1.1\r\n" END);
    assert_true(b.n_bytes > (size_t)LARGE_FILE_BYTES);
    assert_int_equal(memcmp(b.data + b.n_bytes - 3, "ELF", 3), 0);
    fs_buf_done(&b);
    close(held);
}

/* The server's end of a connection: this process has both. */
static int other_end(int fd)
{
    struct sockaddr_in mine, peer;
    socklen_t n = sizeof mine;

    assert_int_equal(getsockname(fd, (struct sockaddr *)&mine, &n), 0);
    for (int other = 0; other < 1024; other++) {
        n = sizeof peer;
        if (other != fd && getpeername(other, (struct sockaddr *)&peer, &n) == 0 && n == sizeof peer && peer.sin_family == AF_INET &&
            peer.sin_port == mine.sin_port)
            return other;
    }
    fail_msg("no other end");
    return -1;
}

static bool is_corked(int fd)
{
    int corked = 0;
    socklen_t n = sizeof corked;

    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_CORK, &corked, &n), 0);
    return corked;
}

/* Once the first bytes of what libmicrohttpd sends have come the socket would be corked, to the end. */
static void a_file_is_not_held_back(void **state)
{
    int fd = connect_and_say("GET /large?part=1 HTTP/1.1\r\n" END), other;
    double end = fs_seconds_now() + 60;
    char *some = malloc(1 << 17);
    off_t n = 0;
    ssize_t got;

    (void)state;
    for (int i = 0; i < 20; i++) { /* of the body, not the header alone */
        assert_true((got = read(fd, some, 1 << 17)) > 0);
        n += got;
    }
    other = other_end(fd);
    while (is_corked(other) && fs_seconds_now() < end)
        usleep(1000);
    assert_false(is_corked(other));
    while ((got = read(fd, some, 1 << 17)) > 0)
        n += got;
    assert_true(n > LARGE_FILE_BYTES && n < LARGE_FILE_BYTES + 4096);
    close(fd);
    free(some);
}

/* A server that is stopped does not wait for who takes nothing. */
static void stopping_breaks_it_off(void **state)
{
    int fd = connect_and_say(LARGE);
    double begin;
    fs_buf b;

    (void)state;
    usleep(200000);
    begin = fs_seconds_now();
    fs_http_server_stop(server, 0.1);
    server = NULL;
    assert_true(fs_seconds_now() - begin < PATIENCE_SECONDS);
    b = read_all(fd);
    assert_true(b.n_bytes < (size_t)LARGE_FILE_BYTES);
    fs_buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest few[] = {
        cmocka_unit_test(without_a_place_it_goes_as_others_do),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_file_ends_its_connection),
        cmocka_unit_test(the_question_for_it_too),
        cmocka_unit_test(others_do_not),
        cmocka_unit_test(a_request_too_many),
        cmocka_unit_test(to_an_old_client),
        cmocka_unit_test(it_may_be_broken_off),
        cmocka_unit_test(a_file_is_not_held_back),
        cmocka_unit_test(stopping_breaks_it_off),
    };
    return cmocka_run_group_tests(tests, setup, teardown) + cmocka_run_group_tests(few, setup_few, teardown);
}
