/* See the header. One socket pair is both ends: writing and reading go on together, so that neither waits for the other. */
#include "train/judge.h"

#include "base/clock.h"
#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_BYTES_MAX 64 /* of a number */

typedef struct talk {
    const fs_judge *judge;
    pid_t pid;
    int fd;
    fs_buf in, out; /* what it is told; what it said */
    size_t n_sent, n_items;
    double end;
} talk;

static fs_status put_member(fs_buf *b, const char *name, fs_bytes value, fs_error *err)
{
    fs_status rc = fs_buf_append_str(b, name, err);

    return rc ? rc : fs_json_quote(b, value, err);
}

static fs_status put_items(talk *t, const fs_judged *items, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < t->n_items && !rc; i++) {
        rc = put_member(&t->in, "{\"prompt\": ", items[i].prompt, err);
        if (!rc)
            rc = put_member(&t->in, ", \"completion\": ", items[i].completion, err);
        if (!rc)
            rc = put_member(&t->in, ", \"answer\": ", items[i].answer, err);
        if (!rc)
            rc = fs_buf_append_str(&t->in, "}\n", err);
    }
    return rc;
}

/* ---- the process ---- */

/* In the child, between fork and exec: only what a signal handler may call. */
static void become(const fs_judge *j, int fd)
{
    struct rlimit none = { 0, 0 }, memory = { j->memory_bytes_max, j->memory_bytes_max };
    sigset_t all;

    setpgid(0, 0);
    sigfillset(&all);
    sigprocmask(SIG_UNBLOCK, &all, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    setrlimit(RLIMIT_CORE, &none);
    if (j->memory_bytes_max)
        setrlimit(RLIMIT_AS, &memory);
    if (dup2(fd, STDIN_FILENO) >= 0 && dup2(fd, STDOUT_FILENO) >= 0)
        execvp(j->argv[0], (char *const *)(uintptr_t)j->argv);
    _exit(127);
}

static fs_status start(talk *t, fs_error *err)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return fs_fail_errno(err, errno, "reward program '%s': no sockets", t->judge->argv[0]);
    t->pid = fork();
    if (t->pid == 0)
        become(t->judge, ends[1]);
    close(ends[1]);
    if (t->pid < 0) {
        close(ends[0]);
        return fs_fail_errno(err, errno, "reward program '%s' cannot be started", t->judge->argv[0]);
    }
    setpgid(t->pid, t->pid); /* the child does so too; whichever is first */
    t->fd = ends[0];
    return FS_OK;
}

/* Waits for its end, if gracefully as long as it has time, and ends what is left of its group before its number is free for
 * others. *ret_status as of waitpid. */
static void end(talk *t, bool gracefully, int *ret_status)
{
    siginfo_t info = { 0 };

    close(t->fd);
    while (gracefully && fs_seconds_now() < t->end && waitid(P_PID, (id_t)t->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0)
        poll(NULL, 0, 1);
    kill(-t->pid, SIGKILL);
    while (waitpid(t->pid, ret_status, 0) < 0 && errno == EINTR) {}
}

/* ---- the talk ---- */

static fs_status send_some(talk *t, fs_error *err)
{
    ssize_t n = send(t->fd, t->in.data + t->n_sent, t->in.n_bytes - t->n_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
        n = (ssize_t)(t->in.n_bytes - t->n_sent); /* it wants no more: what it says decides */
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return fs_fail_errno(err, errno, "reward program '%s'", t->judge->argv[0]);
    t->n_sent += n > 0 ? (size_t)n : 0;
    if (t->n_sent == t->in.n_bytes)
        shutdown(t->fd, SHUT_WR);
    return FS_OK;
}

static fs_status receive_some(talk *t, bool *ret_done, fs_error *err)
{
    char bytes[4096];
    ssize_t n = recv(t->fd, bytes, sizeof bytes, MSG_DONTWAIT);

    if (n == 0 || (n < 0 && errno == ECONNRESET)) {
        *ret_done = true;
        return FS_OK;
    }
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? FS_OK : fs_fail_errno(err, errno, "reward program '%s'", t->judge->argv[0]);
    if (t->out.n_bytes + (size_t)n > t->n_items * LINE_BYTES_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "reward program '%s' says more than %zu numbers", t->judge->argv[0], t->n_items);
    return fs_buf_append(&t->out, bytes, (size_t)n, err);
}

static fs_status exchange(talk *t, fs_error *err)
{
    bool done = false;
    fs_status rc = FS_OK;

    while (!rc && !done) {
        struct pollfd p = { .fd = t->fd, .events = (short)(POLLIN | (t->n_sent < t->in.n_bytes ? POLLOUT : 0)) };
        double left = t->end - fs_seconds_now();
        if (left <= 0)
            return fs_fail(err, FS_ERR_IO, "reward program '%s' took longer than %g s for %zu completions", t->judge->argv[0],
                           t->judge->seconds_max, t->n_items);
        if (poll(&p, 1, left > 1 ? 1000 : (int)(left * 1000) + 1) <= 0)
            continue;
        if (p.revents & (POLLIN | POLLHUP | POLLERR))
            rc = receive_some(t, &done, err);
        if (!rc && (p.revents & POLLOUT) && t->n_sent < t->in.n_bytes)
            rc = send_some(t, err);
    }
    return rc;
}

/* ---- the answer ---- */

static fs_status check_status(const talk *t, int status, fs_error *err)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return fs_fail(err, FS_ERR_NOT_FOUND, "reward program '%s' cannot be started", t->judge->argv[0]);
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        return fs_fail(err, FS_ERR_IO, "reward program '%s' ended with %d", t->judge->argv[0], WEXITSTATUS(status));
    if (WIFSIGNALED(status))
        return fs_fail(err, FS_ERR_IO, "reward program '%s' was ended by signal %d (%s)", t->judge->argv[0], WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
    return FS_OK;
}

static fs_status read_numbers(const talk *t, double *ret, fs_error *err)
{
    const char *p = t->out.data ? t->out.data : "";

    if (strlen(p) != t->out.n_bytes)
        return fs_fail(err, FS_ERR_FORMAT, "reward program '%s' writes U+0000", t->judge->argv[0]);
    for (size_t i = 0; i < t->n_items; i++) {
        char *after = NULL;
        size_t n = strcspn(p, "\n");
        ret[i] = n > 0 ? strtod(p, &after) : NAN;
        if (n == 0 || after != p + n || !isfinite(ret[i]))
            return fs_fail(err, FS_ERR_FORMAT, "reward program '%s': line %zu of %zu is '%.*s', not a number", t->judge->argv[0], i + 1,
                           t->n_items, n < 40 ? (int)n : 40, p);
        p += n + (p[n] == '\n');
    }
    return *p ? fs_fail(err, FS_ERR_FORMAT, "reward program '%s' says more than %zu numbers", t->judge->argv[0], t->n_items) : FS_OK;
}

fs_status fs_judge_run(const fs_judge *j, const fs_judged *items, size_t n, double *ret, fs_error *err)
{
    talk t = { .judge = j, .fd = -1, .n_items = n, .end = fs_seconds_now() + j->seconds_max };
    int status = 0;
    fs_status rc;

    if (n == 0)
        return FS_OK;
    rc = put_items(&t, items, err);
    if (!rc)
        rc = start(&t, err);
    if (!rc) {
        rc = exchange(&t, err);
        end(&t, !rc, &status);
        if (!rc)
            rc = check_status(&t, status, err);
        if (!rc)
            rc = read_numbers(&t, ret, err);
    }
    fs_buf_done(&t.in);
    fs_buf_done(&t.out);
    return rc;
}
