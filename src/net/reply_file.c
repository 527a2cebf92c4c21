/* Replies from files. libmicrohttpd sends them, by sendfile; what is large and whole the worker does after the handler has returned, while
 * there are places for streams, and the connection is closed after it.
 *
 * That is for clients that read 64 KiB at a time and collect larger pieces (httpx, and so huggingface_hub): where the answer's head comes
 * to them in one read with bytes of the body, no piece ends with a read any more, and each is copied once more into new pages, a fifth
 * of their time. libmicrohttpd's first bytes follow the head at once; ours wait until a client on the same machine has read it.
 * For the same reason the question whether a large file is there (HEAD) closes its connection: on one that has carried something the
 * reads come out uneven in most downloads, on a new one in few (bench/hub_clients.py). */
#include "net/request.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LARGE_BYTES ((uint64_t)8 << 20) /* below, it is not worth the while */
#define PIECE_BYTES ((size_t)2 << 20)
#define HEAD_NS     300000 /* in which the head is read */

/* ---- by libmicrohttpd ---- */

/* While it sends a file libmicrohttpd holds back what fills no packet (TCP_CORK), and the kernel then hands on half a window at a time:
 * a client on this machine gets a third less. It tells the socket so once, with the first bytes, and is contradicted here. */
#define CORK_LOOKS 8 /* each waits twice as long as the last: half a second in all */
static void uncork(fs_http_request *r)
{
    static const int off = 0;
    double pause = 2e-3;
    int corked = 0;

    pthread_mutex_lock(&r->lock); /* while it is held the socket is this connection's, or gone is true */
    for (int i = 0; i < CORK_LOOKS && r->connection && !r->gone && !corked; i++, pause *= 2) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        socklen_t n = sizeof corked;
        if (!info || getsockopt(info->connect_fd, IPPROTO_TCP, TCP_CORK, &corked, &n) != 0)
            break;
        if (corked)
            setsockopt(info->connect_fd, IPPROTO_TCP, TCP_CORK, &off, sizeof off);
        else
            fs_cond_wait_until(&r->changed, &r->lock, fs_seconds_now() + pause);
    }
    pthread_mutex_unlock(&r->lock);
}

/* ---- by a thread of ours ---- */

/* The connection's socket, once its head is sent and it rests; -1: it is gone. Another descriptor than libmicrohttpd's, which may be
 * closed, and be another connection's, while this one is written to. */
static int socket_after_head(fs_http_request *r)
{
    const union MHD_ConnectionInfo *info = NULL;
    int s = -1;

    pthread_mutex_lock(&r->lock);
    while (!r->head_sent && !r->gone)
        fs_cond_wait_until(&r->changed, &r->lock, fs_seconds_now() + 1);
    if (r->connection && !r->gone)
        info = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info)
        s = fcntl(info->connect_fd, F_DUPFD_CLOEXEC, 0);
    pthread_mutex_unlock(&r->lock);
    return s;
}

/* Whether all of it was sent: the client may leave, take nothing for as long as a connection may be idle, or the file be shorter.
 * A server that is stopped closes the connection under it. */
static bool send_part(int s, int fd, uint64_t offset, uint64_t n_bytes, int idle_seconds)
{
    struct pollfd ready = { .fd = s, .events = POLLOUT };
    double moved = fs_seconds_now();
    off_t at = (off_t)offset;

    while (n_bytes > 0) {
        ssize_t n = sendfile(s, fd, &at, n_bytes < PIECE_BYTES ? (size_t)n_bytes : PIECE_BYTES);
        if (n > 0) {
            n_bytes -= (uint64_t)n;
            moved = fs_seconds_now();
        } else if (n < 0 && errno == EAGAIN && fs_seconds_now() - moved < idle_seconds) {
            poll(&ready, 1, 1000);
        } else if (n == 0 || errno != EINTR) {
            break;
        }
    }
    return n_bytes == 0;
}

/* sendfile to who is gone raises SIGPIPE, which nobody wants. */
static bool send_quietly(int s, int fd, uint64_t offset, uint64_t n_bytes, int idle_seconds)
{
    static const struct timespec now = { 0 };
    sigset_t pipe, before;
    bool whole;

    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    whole = send_part(s, fd, offset, n_bytes, idle_seconds);
    if (!whole && !sigismember(&before, SIGPIPE))
        sigtimedwait(&pipe, NULL, &now);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return whole;
}

/* What came meanwhile, another request say: a socket that is closed with something unread throws away what it has still to send. */
static void drop_input(int s)
{
    char some[4096];

    for (int i = 0; i < 16 && recv(s, some, sizeof some, MSG_DONTWAIT) > 0; i++)
        ;
}

static void send_rest(fs_http_request *r)
{
    static const struct timespec head = { .tv_nsec = HEAD_NS };
    int s = socket_after_head(r);
    bool whole = false;

    if (s >= 0) {
        nanosleep(&head, NULL);
        whole = send_quietly(s, r->file, r->file_offset, r->file_bytes, r->server->options.idle_seconds);
        drop_input(s);
        close(s);
    }
    if (!whole)
        fs_http_stream_break(r);
    close(r->file);
}

void fs_http_file_send(fs_http_request *r)
{
    if (r->file_how == FILE_OURS)
        send_rest(r);
    else if (r->file_how == FILE_CORKED)
        uncork(r);
}

/* To libmicrohttpd ours is a body of unknown length that ends with the connection: it would count the bytes of any other. */
static struct MHD_Response *ours(fs_http_request *r, int fd, uint64_t offset, uint64_t n_bytes)
{
    struct MHD_Response *response = fs_http_stream_response(r, MHD_SIZE_UNKNOWN, 1);
    char length[24];

    r->file_how = FILE_OURS;
    r->file = fd;
    r->file_offset = offset;
    r->file_bytes = n_bytes;
    snprintf(length, sizeof length, "%llu", (unsigned long long)n_bytes);
    if (response && (MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT | MHD_RF_INSANITY_HEADER_CONTENT_LENGTH, MHD_RO_END) != MHD_YES ||
                     MHD_add_response_header(response, "Content-Length", length) != MHD_YES)) {
        MHD_destroy_response(response); /* without its length what is broken off would look whole */
        response = NULL;
    }
    return response;
}

static struct MHD_Response *the_librarys(fs_http_request *r, int fd, uint64_t offset, uint64_t n_bytes)
{
    struct MHD_Response *response = MHD_create_response_from_fd_at_offset64(n_bytes, fd, offset);

    if (!response)
        close(fd);
    if (n_bytes >= LARGE_BYTES && !r->server->options.tls_cert && strcmp(r->method, "HEAD") != 0)
        r->file_how = FILE_CORKED;
    return response;
}

void fs_http_reply_fd(fs_http_request *r, int status, const char *type, int fd, uint64_t offset, uint64_t n_bytes)
{
    bool is_large = n_bytes >= LARGE_BYTES && status == 200 && !r->server->options.tls_cert;

    if (n_bytes == 0) {
        close(fd);
        fs_http_reply(r, status, type, "", 0);
        return;
    }
    if (is_large && strcmp(r->method, "HEAD") == 0)
        fs_http_reply_header(r, "Connection", "close");
    if (is_large && strcmp(r->method, "GET") == 0 && fs_http_try_file(r))
        fs_http_reply_with(r, status, type, ours(r, fd, offset, n_bytes));
    else
        fs_http_reply_with(r, status, type, the_librarys(r, fd, offset, n_bytes));
}
