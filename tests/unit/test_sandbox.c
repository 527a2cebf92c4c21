/* The sandbox closes a process for good, so every test closes a child and looks at its answer: a word of bits on a pipe. */
#include "unit.h"

#include "base/pool.h"
#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What a child found; message is the sentence when the sandbox did not come. */
struct answer {
    fs_status rc;
    char message[200];
    unsigned allowed; /* bit i: forbidden act i succeeded or failed otherwise than with EPERM */
    unsigned failed;  /* bit i: needed act i failed */
    int open_errno;   /* of opening a file afterwards; 0: it could */
};

enum { THREADS = 4 };

static bool refused(long rc)
{
    return rc == -1 && errno == EPERM;
}

static unsigned forbidden(void)
{
    long act[16];
    unsigned bits = 0, n = 0;

#define TRY(call) act[n] = (long)(call), bits |= refused(act[n]) ? 0 : 1u << n, n++
    TRY(open("/etc/passwd", O_RDONLY));
    TRY(open("/tmp/farseek-sandbox", O_WRONLY | O_CREAT, 0600));
    TRY(socket(AF_INET, SOCK_STREAM, 0));
    TRY(socket(AF_UNIX, SOCK_DGRAM, 0));
    TRY(syscall(SYS_clone, 17 /* SIGCHLD */, 0, 0, 0, 0));
    TRY(execl("/bin/true", "true", (char *)NULL));
    TRY(kill(getppid(), 0));
    TRY(ptrace(PTRACE_TRACEME, 0, 0, 0));
    TRY(unlink("/tmp/farseek-sandbox"));
    TRY(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    TRY(access("/etc/passwd", F_OK));
    TRY(syscall(SYS_io_uring_setup, 1, NULL));
    TRY(syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", NULL, 0));
    TRY(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
#undef TRY
    return bits;
}

static atomic_uint worst;
static atomic_int n_tried;

static void try_in_a_thread(void *ud, size_t begin, size_t end, int thread)
{
    (void)ud;
    (void)begin;
    (void)end;
    (void)thread;
    atomic_fetch_or(&worst, forbidden());
    atomic_fetch_add(&n_tried, 1);
    while (atomic_load(&n_tried) < THREADS) /* so that every thread takes one */
        ;
}

static unsigned needed(fs_pool *pool)
{
    struct timespec t, nap = { .tv_nsec = 1 };
    size_t n = (size_t)64 << 20;
    char *p = malloc(n), *more;
    unsigned bits = 0;

    bits |= p ? 0 : 1;
    if (p)
        memset(p, 1, n);
    more = realloc(p, 2 * n);
    bits |= more ? 0 : 2;
    free(more);
    bits |= clock_gettime(CLOCK_MONOTONIC, &t) == 0 && nanosleep(&nap, NULL) == 0 ? 0 : 4;
    fs_pool_for(pool, THREADS, 1, try_in_a_thread, NULL);
    bits |= atomic_load(&n_tried) == THREADS ? 0 : 8;
    fs_pool_free(pool); /* threads may end */
    return bits;
}

static struct answer in_a_child(void (*before)(void))
{
    struct answer a = { .rc = -1 };
    int fds[2], status = -1;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        fs_pool *pool = NULL;
        fs_error err = { 0 };
        if (before)
            before();
        if (fs_pool_new(THREADS, &pool, &err) != FS_OK)
            _exit(3);
        a.rc = fs_sandbox_enter(&err);
        snprintf(a.message, sizeof a.message, "%.199s", err.message);
        if (a.rc == FS_OK) {
            a.allowed = forbidden();
            a.failed = needed(pool);
            a.allowed |= atomic_load(&worst);
            a.failed |= fs_sandbox_enter(&err) == FS_OK ? 16 : 0; /* seccomp itself is given up too */
        }
        a.open_errno = open("/etc/passwd", O_RDONLY) >= 0 ? 0 : errno;
        _exit(write(fds[1], &a, sizeof a) == sizeof a ? 0 : 4);
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], &a, sizeof a), sizeof a);
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    return a;
}

static void what_inference_needs_is_left_and_nothing_else(void **state)
{
    struct answer a = in_a_child(NULL);

    (void)state;
    if (a.rc == FS_ERR_UNSUPPORTED) /* an emulator of another machine, an old kernel */
        skip();
    if (a.rc != FS_OK)
        fail_msg("%s", a.message);
    if (a.allowed || a.failed)
        fail_msg("forbidden acts %#x were possible, needed acts %#x were not", a.allowed, a.failed);
}

/* seccomp(2) is not there from now on: every use of it, or this one. */
static void take_away(uint32_t use, bool every)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, use, 0, every ? 0 : 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof *code, code };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        errno = 0; /* then there is none to take away */
}

static void take_seccomp_away(void)
{
    take_away(0, true);
}

static void take_filters_away(void)
{
    take_away(SECCOMP_SET_MODE_FILTER, false);
}

static void without_seccomp_it_says_so_and_changes_nothing(void **state)
{
    struct answer a = in_a_child(take_seccomp_away);

    (void)state;
    assert_int_equal(a.rc, FS_ERR_UNSUPPORTED);
    assert_non_null(strstr(a.message, "no seccomp filter"));
    assert_int_equal(a.open_errno, 0);
}

/* With the filter missing, Landlock shows: it refuses with EACCES. */
static void landlock_bars_files_by_itself(void **state)
{
    struct answer a = in_a_child(take_filters_away);

    (void)state;
    assert_int_not_equal(a.rc, FS_OK);
    if (a.rc == FS_ERR_UNSUPPORTED || syscall(444 /* landlock_create_ruleset */, NULL, 0, 1 /* its version */) < 1)
        skip();
    assert_non_null(strstr(a.message, "is refused"));
    assert_int_equal(a.open_errno, EACCES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_inference_needs_is_left_and_nothing_else),
        cmocka_unit_test(without_seccomp_it_says_so_and_changes_nothing),
        cmocka_unit_test(landlock_bars_files_by_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
