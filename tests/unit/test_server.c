#include "unit.h"
#include "unit/client.h"

#include "base/clock.h"
#include "net/request.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#define LARGE ((size_t)3 << 20)

static atomic_ulong n_read; /* by the sink */
static atomic_bool hold;    /* the sink waits */
static atomic_bool heard;   /* the comment in a stream of events */

static void hello(void *ud, fs_http_request *r)
{
    (void)ud;
    fs_http_reply_headerf(r, "X-Path", "%s|%s|%s", fs_http_param(r, 0), fs_http_param(r, 1), fs_http_query(r, "q", 1) ? fs_http_query(r, "q", 1) : "");
    fs_http_reply_header(r, "X-Bad", "a\r\nSet-Cookie: x");
    fs_http_reply(r, 200, "text/plain", "hello", 5);
}

static void body(void *ud, fs_http_request *r)
{
    fs_bytes b = fs_http_body(r);

    (void)ud;
    fs_http_reply(r, 200, NULL, b.data, b.n_bytes);
}

static void sink(void *ud, fs_http_request *r)
{
    char buf[64 << 10];
    size_t n;
    fs_error err;

    (void)ud;
    if (fs_http_header(r, "X-Refuse")) {
        fs_http_reply(r, 403, NULL, "no", 2);
        return;
    }
    while (atomic_load(&hold))
        usleep(1000);
    for (;;) {
        if (fs_http_read(r, buf, sizeof buf, &n, &err) != FS_OK) {
            fs_http_reply(r, 413, NULL, err.message, strlen(err.message));
            return;
        }
        if (n == 0)
            break;
        n_read += n;
    }
    fs_http_reply(r, 200, NULL, "all", 3);
}

static void file(void *ud, fs_http_request *r)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    (void)ud;
    fs_http_reply_fd(r, 206, NULL, fd, 1, 3);
}

static void stream(void *ud, fs_http_request *r)
{
    char part[10000];

    (void)ud;
    memset(part, 'x', sizeof part);
    fs_http_stream_begin(r, 200, "text/plain");
    for (size_t n = 0; n < (fs_http_query(r, "endless", 0) ? SIZE_MAX - sizeof part : LARGE); n += sizeof part)
        if (fs_http_stream_write(r, part, sizeof part, NULL) != FS_OK)
            return;
    if (fs_http_query(r, "broken", 0))
        fs_http_stream_break(r);
}

static void events(void *ud, fs_http_request *r)
{
    (void)ud;
    fs_http_events_begin(r);
    fs_http_event(r, NULL, FS_BYTES_LIT("one"), NULL);
    for (double end = fs_seconds_now() + PATIENCE_SECONDS; !atomic_load(&heard) && fs_seconds_now() < end;)
        usleep(1000);
    fs_http_event(r, "two", FS_BYTES_LIT("a\nb\r\nc\rd\n"), NULL);
}

/* Who says nothing is refused, who is known may send what the route allows, others 32 KiB. */
static uint64_t admit(void *ud, fs_http_request *r, bool *ret_known)
{
    const char *who = fs_http_header(r, "X-Who");

    (void)ud;
    if (!who)
        fs_http_reply(r, 401, NULL, "who?", 4);
    *ret_known = who && strcmp(who, "known") == 0;
    return *ret_known ? UINT64_MAX : 32 << 10;
}

static void nothing(void *ud, fs_http_request *r)
{
    (void)ud;
    (void)r;
}

static const fs_http_route routes[] = {
    { "GET", "/a/{}/b/{*}", hello, NULL, 0, false },
    { "POST", "/body", body, NULL, 1000, false },
    { "PUT", "/sink", sink, NULL, 8 << 20, true },
    { "GET", "/file", file, NULL, 0, false },
    { "GET", "/stream", stream, NULL, 0, false },
    { "GET", "/nothing", nothing, NULL, 0, false },
    { "GET", "/events", events, NULL, 0, false },
    { "POST", "/large", body, NULL, 1 << 20, false },
};

static int start_with(const fs_http_options *options)
{
    return serve(options, routes, sizeof routes / sizeof *routes, admit);
}

static int setup(void **state)
{
    (void)state;
    return start_with(&(fs_http_options){ .n_threads = 2 });
}

/* A server with little memory for bodies. */
static int setup_tight(void **state)
{
    (void)state;
    return start_with(&(fs_http_options){ .n_threads = 2, .n_workers_max = 2, .buffered_bytes_max = 200000 });
}

/* A server that soon loses its patience. */
static int start_small(int patience_seconds)
{
    return start_with(&(fs_http_options){ .n_threads = 2, .n_workers_max = 2, .n_streams_max = 2, .patience_seconds = patience_seconds, .keep_alive_seconds = 1 });
}

static int setup_small(void **state)
{
    (void)state;
    return start_small(1);
}

static void routes_and_parameters(void **state)
{
    (void)state;
    expect("GET /a/x%2Fy/b/c/d%20?q=1&q=2+3 HTTP/1.1\r\n" END, "200", "X-Path: x/y|c/d%20|2 3\r\n");
    expect("GET /a/x/b HTTP/1.1\r\n" END, "200", "X-Path: x||\r\n");
    expect("GET /a//b HTTP/1.1\r\n" END, "404", "");
    expect("GET /a/x HTTP/1.1\r\n" END, "404", "");
    expect("GET /a/%00/b HTTP/1.1\r\n" END, "400", "");
    expect("GET /a/x/b?q=%zz HTTP/1.1\r\n" END, "400", "");
    expect("POST /a/x/b HTTP/1.1\r\nContent-Length: 0\r\n" END, "405", "");
    expect("HEAD /a/x/b HTTP/1.1\r\n" END, "200", "Content-Length: 5\r\n");
    expect("GET /file HTTP/1.1\r\n" END, "206", "\r\n\r\nELF");
    expect("GET /nothing HTTP/1.1\r\n" END, "500", "");
}

static void a_value_with_a_line_end_is_no_header(void **state)
{
    fs_buf b = ask("GET /a/x/b HTTP/1.1\r\n" END);

    (void)state;
    assert_null(strstr(b.data, "Set-Cookie"));
    fs_buf_done(&b);
}

static void bodies_have_limits(void **state)
{
    char text[3000];

    (void)state;
    expect("POST /body HTTP/1.1\r\nContent-Length: 3\r\n" END "abc", "200", "\r\n\r\nabc");
    expect("POST /body HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" END "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "200", "\r\n\r\nabc");
    expect("POST /body HTTP/1.1\r\nContent-Length: 1001\r\n" END, "413", "");
    snprintf(text, sizeof text, "POST /body HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" END "3e9\r\n%01001d\r\n0\r\n\r\n", 0);
    expect(text, "413", "");
    expect("PUT /sink HTTP/1.1\r\nX-Refuse: 1\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n" END, "403", "no");
}

static void what_could_be_cut_two_ways_is_refused(void **state)
{
    (void)state;
    expect("POST /body HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n" END "0\r\n\r\n", "400", "");
    expect("POST /body HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n" END "abcd", "400", "");
    expect("POST /body HTTP/1.1\r\nContent-Length: +3\r\n" END "abc", "400", "");
    expect("POST /body HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n" END "0\r\n\r\n", "400", "");
    expect("POST /body HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n" END "0\r\n\r\n", "400", "");
    expect("POST /body HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n" END "0\r\n\r\n", "400", "");
    expect("POST /body HTTP/1.1\r\nContent-Length : 3\r\n" END "abc", "400", "");
    expect("POST /body HTTP/1.1\r\nTransfer-Encoding\t: chunked\r\n" END "0\r\n\r\n", "400", "");
    expect("GET /file HTTP/1.1\r\nHost: a\r\n" END, "400", ""); /* END has one, too */
    expect("GET /file HTTP/1.1\r\nConnection: close\r\n\r\n", "400", ""); /* no Host */
}

static void a_connection_serves_again(void **state)
{
    int fd = connect_to();
    const char *first = "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", *last = "GET /file HTTP/1.1\r\n" END;
    fs_buf b;

    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(write(fd, first, strlen(first)), strlen(first));
    assert_int_equal(write(fd, last, strlen(last)), strlen(last));
    b = read_all(fd);
    assert_non_null(strstr(b.data, "\r\n\r\nELF"));
    fs_buf_done(&b);
}

static void *send_large(void *ud)
{
    int fd = *(int *)ud;
    char *text = malloc(LARGE);

    for (size_t i = 0; i < LARGE; i++)
        text[i] = (char)('a' + i % 23);
    for (size_t n = 0; n < LARGE;) {
        ssize_t put = write(fd, text + n, LARGE - n);
        if (put <= 0)
            break;
        n += (size_t)put;
    }
    free(text);
    return NULL;
}

/* What the handler does not read stays with the client: at most the socket's buffers and a ring are taken. */
static void a_slow_sink_slows_the_client(void **state)
{
    char head[200];
    pthread_t thread;
    int fd = connect_to();
    fs_buf b;

    (void)state;
    atomic_store(&hold, true);
    snprintf(head, sizeof head, "PUT /sink HTTP/1.1\r\nContent-Length: %zu\r\n" END, LARGE);
    assert_int_equal(write(fd, head, strlen(head)), strlen(head));
    pthread_create(&thread, NULL, send_large, &fd);
    usleep(100000);
    assert_int_equal(atomic_load(&n_read), 0);
    expect("GET /file HTTP/1.1\r\n" END, "206", "ELF"); /* others go on */
    atomic_store(&hold, false);
    pthread_join(thread, NULL);
    b = read_all(fd);
    assert_non_null(strstr(b.data, "\r\n\r\nall"));
    assert_int_equal(atomic_load(&n_read), LARGE);
    fs_buf_done(&b);
}

static void a_streamed_body_has_a_limit_too(void **state)
{
    char head[200];
    pthread_t thread;
    int fd = connect_to();
    fs_buf b;

    (void)state;
    snprintf(head, sizeof head, "PUT /sink HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" END "%zx\r\n", (size_t)9 << 20);
    assert_int_equal(write(fd, head, strlen(head)), strlen(head));
    for (int i = 0; i < 3; i++) {
        pthread_create(&thread, NULL, send_large, &fd);
        pthread_join(thread, NULL);
    }
    assert_int_equal(write(fd, "\r\n0\r\n\r\n", 7), 7);
    b = read_all(fd);
    assert_non_null(strstr(b.data, " 413 "));
    fs_buf_done(&b);
}

static void streams_arrive_whole(void **state)
{
    fs_buf b = ask("GET /stream HTTP/1.1\r\n" END);
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < b.n_bytes; i++)
        n += b.data[i] == 'x';
    assert_true(n >= LARGE);
    assert_memory_equal(b.data + b.n_bytes - 5, "0\r\n\r\n", 5);
    fs_buf_done(&b);
    b = ask("GET /stream?broken=1 HTTP/1.1\r\n" END);
    assert_memory_not_equal(b.data + b.n_bytes - 5, "0\r\n\r\n", 5);
    fs_buf_done(&b);
    expect("HEAD /stream HTTP/1.1\r\n" END, "200", "");
}

static void a_client_that_leaves_ends_its_stream(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        int fd = connect_to();
        const char *text = "GET /stream HTTP/1.1\r\n" END;
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        if (i % 2)
            usleep(2000);
        close(fd);
    }
    for (int i = 0; i < 20; i++) { /* and one that leaves within its body */
        int fd = connect_to();
        const char *text = "PUT /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc";
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        if (i % 2)
            usleep(2000);
        close(fd);
    }
    expect("GET /file HTTP/1.1\r\n" END, "206", "ELF");
}

static void *ask_many(void *ud)
{
    (void)ud;
    for (int i = 0; i < 50; i++)
        expect("POST /body HTTP/1.1\r\nContent-Length: 3\r\n" END "abc", "200", "\r\n\r\nabc");
    return NULL;
}

static void many_at_once(void **state)
{
    pthread_t threads[16];

    (void)state;
    for (int i = 0; i < 16; i++)
        pthread_create(&threads[i], NULL, ask_many, NULL);
    for (int i = 0; i < 16; i++)
        pthread_join(threads[i], NULL);
}

/* What is under way comes to its end, what waits for ever is broken off. */
static void stopping_drains(void **state)
{
    char head[200];
    int fd = connect_to(), idle = connect_to();
    fs_buf b;

    (void)state;
    snprintf(head, sizeof head, "PUT /sink HTTP/1.1\r\nContent-Length: 5\r\n" END "abc");
    assert_int_equal(write(fd, head, strlen(head)), strlen(head));
    usleep(50000);
    fs_http_server_stop(server, 0.2);
    b = read_all(fd);
    assert_null(b.data ? strstr(b.data, "all") : NULL);
    fs_buf_done(&b);
    close(idle);
    assert_int_equal(setup(NULL), 0);
}

/* Asks until it is told to end, whether somebody answers or not. */
static void *knock(void *ud)
{
    static const char text[] = "GET /file HTTP/1.1\r\n" END;
    atomic_bool *end = ud;

    while (!*end) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        char part[4096];

        if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0 && send(fd, text, sizeof text - 1, MSG_NOSIGNAL) > 0)
            while (read(fd, part, sizeof part) > 0)
                ;
        close(fd);
    }
    return NULL;
}

/* libmicrohttpd's own way to stop listening aborts the process now and then, where a thread of its has just woken. */
static void stopping_while_clients_come(void **state)
{
    pthread_t clients[4];
    atomic_bool end = false;
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(clients + i, NULL, knock, &end), 0);
    for (int i = 0; i < 300; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0), old = port;

        usleep(1000 * (i % 4));
        fs_http_server_stop(server, 1);
        a.sin_port = htons((uint16_t)old);
        assert_true(connect(fd, (struct sockaddr *)&a, sizeof a) != 0 && errno == ECONNREFUSED); /* nobody hangs in a queue */
        close(fd);
        assert_int_equal(setup(NULL), 0);
    }
    end = true;
    for (int i = 0; i < 4; i++)
        pthread_join(clients[i], NULL);
}

static void connections_have_a_limit(void **state)
{
    static const char text[] = "GET /file HTTP/1.1\r\nHost: x\r\n\r\n";
    struct timeval soon = { .tv_usec = 300000 }, patience = { .tv_sec = PATIENCE_SECONDS };
    int fd[3];
    char part[4096];

    (void)state;
    fs_http_server_stop(server, 1);
    assert_int_equal(start_with(&(fs_http_options){ .n_threads = 2, .n_connections_max = 2 }), 0);
    for (int i = 0; i < 3; i++) {
        fd[i] = connect_to();
        assert_int_equal(write(fd[i], text, sizeof text - 1), sizeof text - 1);
        if (i < 2)
            assert_true(read(fd[i], part, sizeof part) > 0);
    }
    setsockopt(fd[2], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
    assert_true(read(fd[2], part, sizeof part) < 0 && errno == EAGAIN); /* it waits, and is not sent away */
    close(fd[0]);
    setsockopt(fd[2], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_true(read(fd[2], part, sizeof part) > 0);
    close(fd[1]);
    close(fd[2]);
    fs_http_server_stop(server, 1);
    assert_int_equal(setup(NULL), 0);
}

/* ---- what clients can hold ---- */

static void before_a_large_body_its_sender_is_looked_at(void **state)
{
    char text[80000];

    (void)state;
    expect("POST /large HTTP/1.1\r\nContent-Length: 16385\r\n" END, "401", "who?"); /* and no byte of it is waited for */
    expect("POST /large HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" END, "401", "who?");
    expect("POST /large HTTP/1.1\r\nX-Who: guest\r\nContent-Length: 32769\r\n" END, "413", "");
    snprintf(text, sizeof text, "POST /large HTTP/1.1\r\nX-Who: guest\r\nContent-Length: 32768\r\n" END "%032768d", 7);
    expect(text, "200", "00007");
    snprintf(text, sizeof text, "POST /large HTTP/1.1\r\nX-Who: guest\r\nTransfer-Encoding: chunked\r\n" END "8001\r\n%032769d\r\n0\r\n\r\n", 7);
    expect(text, "413", "");
    snprintf(text, sizeof text, "POST /large HTTP/1.1\r\nX-Who: known\r\nContent-Length: 70000\r\n" END "%070000d", 7);
    expect(text, "200", "00007");
    snprintf(text, sizeof text, "POST /large HTTP/1.1\r\nX-Who: known\r\nTransfer-Encoding: chunked\r\n" END "11170\r\n%070000d\r\n0\r\n\r\n", 7);
    expect(text, "200", "00007");
    snprintf(text, sizeof text, "POST /large HTTP/1.1\r\nContent-Length: 16384\r\n" END "%016384d", 7);
    expect(text, "200", "00007");
}

/* Sends a body but for its last byte. */
static int send_most(const char *head, size_t n_bytes)
{
    int fd = connect_to();
    char *text = calloc(1, n_bytes);

    memset(text, 'x', n_bytes);
    assert_int_equal(write(fd, head, strlen(head)), strlen(head));
    for (size_t n = 0; n < n_bytes - 1;) {
        ssize_t put = write(fd, text + n, n_bytes - 1 - n);
        assert_true(put > 0);
        n += (size_t)put;
    }
    free(text);
    return fd;
}

/* Until bodies in memory, all of them unknown people's, come to n_bytes: they arrive, and are given back, when the server has time for it. */
static void await_buffered(uint64_t n_bytes)
{
    double end = fs_seconds_now() + PATIENCE_SECONDS;

    while (atomic_load(&server->n_buffered) != n_bytes || atomic_load(&server->n_buffered_unknown) != n_bytes) {
        if (fs_seconds_now() > end)
            fail_msg("bodies of %llu bytes are in memory, want %llu", (unsigned long long)atomic_load(&server->n_buffered), (unsigned long long)n_bytes);
        usleep(1000);
    }
}

/* The last byte of a body, and what is said to it. */
static void expect_at_end(int fd, const char *status, const char *contains)
{
    fs_buf b;

    assert_int_equal(write(fd, "x", 1), 1);
    b = read_all(fd);
    if (!b.data || strncmp(b.data + 9, status, 3) != 0 || !strstr(b.data, contains))
        fail_msg("want %s: %.300s", status, b.data ? b.data : "(nothing)");
    fs_buf_done(&b);
}

static void bodies_in_memory_are_bounded_together(void **state)
{
    const char *guests = "POST /large HTTP/1.1\r\nX-Who: guest\r\nContent-Length: 32768\r\n" END;
    const uint64_t held = 3 * 32767;
    int fds[3];

    (void)state;
    for (int i = 0; i < 3; i++) /* half is for those who are known */
        fds[i] = send_most(guests, 32768);
    await_buffered(held);
    expect("POST /large HTTP/1.1\r\nContent-Length: 3\r\n" END "abc", "200", "abc"); /* a small one fits */
    await_buffered(held);
    expect_at_end(send_most(guests, 32768), "503", "Retry-After: 1\r\n");
    await_buffered(held);
    expect_at_end(send_most("POST /large HTTP/1.1\r\nX-Who: known\r\nContent-Length: 90000\r\n" END, 90000), "200", "xxx");
    await_buffered(held);
    for (int i = 0; i < 3; i++)
        expect_at_end(fds[i], "200", "xxx");
    await_buffered(0); /* all of it is free again */
    expect_at_end(send_most("POST /large HTTP/1.1\r\nX-Who: known\r\nContent-Length: 199000\r\n" END, 199000), "200", "xxx");
}

static bool is_open(int fd)
{
    char c;

    return recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* Whether others are answered before the first of the slow is broken off. */
static bool others_go_on_beside(const char *request)
{
    bool beside = true;
    int slow[8];
    double begin = fs_seconds_now();

    for (int i = 0; i < 8; i++) { /* more than there are places of both kinds */
        slow[i] = connect_to();
        assert_int_equal(write(slow[i], request, strlen(request)), strlen(request));
    }
    usleep(100000);
    if (request[0] == 'P') {
        expect("GET /file HTTP/1.1\r\n" END, "206", "ELF");
        beside = is_open(slow[0]);
    }
    /* and those that wait for a place get one, when the slow are broken off */
    expect("PUT /sink HTTP/1.1\r\nContent-Length: 3\r\n" END "abc", "200", "all");
    assert_true(fs_seconds_now() - begin < 100); /* a silent connection would be closed after two minutes */
    for (int i = 0; i < 8; i++)
        close(slow[i]);
    return beside;
}

static void slow_clients_hold_no_worker(void **state)
{
    bool beside = others_go_on_beside("PUT /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc");

    (void)state;
    for (int patience_seconds = 2; patience_seconds <= 8 && !beside; patience_seconds *= 2) { /* a busy machine may be late */
        fs_http_server_stop(server, 1);
        assert_int_equal(start_small(patience_seconds), 0);
        beside = others_go_on_beside("PUT /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc");
    }
    assert_true(beside);
    others_go_on_beside("GET /stream?endless=1 HTTP/1.1\r\nHost: x\r\n\r\n");
}

/* One byte now and then, of a body that is taken into memory: it is given up. */
static void a_body_that_trickles_is_given_up(void **state)
{
    const char *head = "POST /large HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n";
    int fd = connect_to();
    double begin = fs_seconds_now();

    (void)state;
    assert_int_equal(write(fd, head, strlen(head)), strlen(head));
    while (send(fd, "x", 1, MSG_NOSIGNAL) == 1 && fs_seconds_now() - begin < 40)
        usleep(100000);
    assert_true(fs_seconds_now() - begin < 40); /* the whole of it would take a quarter of an hour */
    close(fd);
}

static void events_are_streamed_and_silence_is_commented(void **state)
{
    const char *text = "GET /events HTTP/1.1\r\n" END, *one, *silence;
    int fd = connect_to();
    char part[1000];
    fs_buf b = { 0 };
    ssize_t n;

    (void)state;
    atomic_store(&heard, false);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    while ((n = read(fd, part, sizeof part)) > 0) {
        assert_int_equal(fs_buf_append(&b, part, (size_t)n, NULL), FS_OK);
        if (strstr(b.data, "\n:\n\n"))
            atomic_store(&heard, true);
    }
    close(fd);
    assert_non_null(strstr(b.data, "Content-Type: text/event-stream\r\n"));
    one = strstr(b.data, "data: one\n\n");
    assert_non_null(one);
    silence = strstr(one, ":\n\n");
    assert_non_null(silence);
    assert_non_null(strstr(silence, "event: two\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"));
    fs_buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tight[] = {
        cmocka_unit_test(bodies_in_memory_are_bounded_together),
    };
    const struct CMUnitTest small[] = {
        cmocka_unit_test(slow_clients_hold_no_worker),
        cmocka_unit_test(a_body_that_trickles_is_given_up),
        cmocka_unit_test(events_are_streamed_and_silence_is_commented),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes_and_parameters),
        cmocka_unit_test(a_value_with_a_line_end_is_no_header),
        cmocka_unit_test(bodies_have_limits),
        cmocka_unit_test(what_could_be_cut_two_ways_is_refused),
        cmocka_unit_test(a_connection_serves_again),
        cmocka_unit_test(a_slow_sink_slows_the_client),
        cmocka_unit_test(a_streamed_body_has_a_limit_too),
        cmocka_unit_test(streams_arrive_whole),
        cmocka_unit_test(a_client_that_leaves_ends_its_stream),
        cmocka_unit_test(many_at_once),
        cmocka_unit_test(before_a_large_body_its_sender_is_looked_at),
        cmocka_unit_test(stopping_drains),
        cmocka_unit_test(stopping_while_clients_come),
        cmocka_unit_test(connections_have_a_limit),
    };
    return cmocka_run_group_tests(tests, setup, teardown) + cmocka_run_group_tests(tight, setup_tight, teardown) +
           cmocka_run_group_tests(small, setup_small, teardown);
}
