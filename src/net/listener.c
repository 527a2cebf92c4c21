#include "net/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 1024

struct fs_listener {
    int fd;
    struct MHD_Daemon *daemon;
    unsigned n_max;
    bool started;
    pthread_t thread;
    _Atomic bool stopping;
};

fs_status fs_listener_new(const struct addrinfo *address, const char *name, int port, fs_listener **ret, fs_error *err)
{
    static const int one = 1;
    fs_listener *l = calloc(1, sizeof *l);
    int code;

    if (!l)
        return fs_fail_memory(err, sizeof *l);
    l->fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (l->fd >= 0 && setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
        (address->ai_family != AF_INET6 || setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) == 0) &&
        bind(l->fd, address->ai_addr, address->ai_addrlen) == 0 && listen(l->fd, BACKLOG) == 0) {
        *ret = l;
        return FS_OK;
    }
    code = errno;
    fs_listener_stop(l);
    return fs_fail_errno(err, code, "cannot listen at %s port %d", name, port);
}

int fs_listener_port(const fs_listener *l)
{
    struct sockaddr_storage at = { 0 };
    socklen_t n = sizeof at;

    if (getsockname(l->fd, (struct sockaddr *)&at, &n) != 0)
        return -1;
    return ntohs(at.ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)(const void *)&at)->sin6_port
                                          : ((const struct sockaddr_in *)(const void *)&at)->sin_port);
}

static void rest(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
}

static bool is_full(const fs_listener *l)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);

    return info && info->num_connections >= l->n_max;
}

static void *run(void *ud)
{
    fs_listener *l = ud;

    while (!l->stopping) {
        struct sockaddr_storage from;
        socklen_t n = sizeof from;
        int fd = accept4(l->fd, (struct sockaddr *)&from, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0) {
            if (errno != ECONNABORTED && errno != EINTR)
                rest(); /* no descriptors are left */
            continue;
        }
        while (is_full(l) && !l->stopping)
            rest();
        if (l->stopping)
            close(fd);
        else
            MHD_add_connection(l->daemon, fd, (struct sockaddr *)&from, n); /* closes it where it fails */
    }
    return NULL;
}

fs_status fs_listener_start(fs_listener *l, struct MHD_Daemon *daemon, unsigned n_max, fs_error *err)
{
    int code;

    l->daemon = daemon;
    l->n_max = n_max;
    code = pthread_create(&l->thread, NULL, run, l);
    l->started = code == 0;
    return code ? fs_fail_errno(err, code, "cannot start the thread that accepts connections") : FS_OK;
}

void fs_listener_stop(fs_listener *l)
{
    if (!l)
        return;
    l->stopping = true;
    if (l->fd >= 0)
        shutdown(l->fd, SHUT_RDWR); /* wakes accept4 */
    if (l->started)
        pthread_join(l->thread, NULL);
    if (l->fd >= 0)
        close(l->fd);
    free(l);
}
