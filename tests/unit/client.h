/* A server under test and plain sockets as its clients. */
#ifndef FS_TESTS_CLIENT_H
#define FS_TESTS_CLIENT_H

#include "net/request.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_SECONDS 60 /* with what comes as soon as the machine has time for it */

static fs_http_server *server;
static int port;

/* 0, or -1: for a group's setup. */
static int serve(const fs_http_options *options, const fs_http_route *routes, size_t n_routes, fs_http_admit *admit)
{
    fs_error err;

    if (fs_http_server_new(options, &server, &err) || fs_http_server_mount(server, routes, n_routes, NULL, admit, &err) || fs_http_server_start(server, &err))
        return -1;
    port = atoi(strrchr(fs_http_server_url(server), ':') + 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fs_http_server_stop(server, 1);
    return 0;
}

static int connect_to(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct timeval patience = { .tv_sec = PATIENCE_SECONDS };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

/* Everything until the server closes. */
static fs_buf read_all(int fd)
{
    fs_buf b = { 0 };
    char part[65536];
    ssize_t n;

    while ((n = read(fd, part, sizeof part)) > 0)
        assert_int_equal(fs_buf_append(&b, part, (size_t)n, NULL), FS_OK);
    close(fd);
    return b;
}

static fs_buf ask(const char *text)
{
    int fd = connect_to();

    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    return read_all(fd);
}

#define END "Host: x\r\nConnection: close\r\n\r\n"

static void expect(const char *request, const char *status, const char *contains)
{
    fs_buf b = ask(request);

    if (!b.data || strncmp(b.data + 9, status, 3) != 0 || !strstr(b.data, contains))
        fail_msg("%.60s: want %s and '%s': %.300s", request, status, contains, b.data ? b.data : "(nothing)");
    fs_buf_done(&b);
}

#endif
