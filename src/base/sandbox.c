/* A seccomp filter of our own, a list of what is allowed, and Landlock behind it. The filter is built at run time, an
 * instruction after the other, so that the list below reads as a list. */
#include "base/sandbox.h"

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif
#define REFUSED (SECCOMP_RET_ERRNO | EPERM)

/* ---- seccomp ---- */

typedef struct filter {
    struct sock_filter code[256];
    unsigned short n;
} filter;

static void put(filter *f, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
    assert(f->n < sizeof f->code / sizeof *f->code);
    f->code[f->n++] = (struct sock_filter){ code, jt, jf, k };
}

static void load(filter *f, size_t offset)
{
    put(f, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void give(filter *f, uint32_t verdict)
{
    put(f, BPF_RET | BPF_K, verdict, 0, 0);
}

/* What follows decides on call nr and is n instructions long. The number is loaded. */
static void when(filter *f, long nr, uint8_t n)
{
    put(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, n);
}

static void load_argument(filter *f, int i)
{
    load(f, offsetof(struct seccomp_data, args) + 8 * (size_t)i); /* the low half: both machines are little-endian */
}

static void allow(filter *f, long nr)
{
    when(f, nr, 1);
    give(f, SECCOMP_RET_ALLOW);
}

static void allow_if_one_of(filter *f, long nr, int argument, const uint32_t *values, uint8_t n)
{
    when(f, nr, (uint8_t)(n + 3));
    load_argument(f, argument);
    for (uint8_t i = 0; i < n; i++)
        put(f, BPF_JMP | BPF_JEQ | BPF_K, values[i], (uint8_t)(n - i), 0);
    give(f, REFUSED);
    give(f, SECCOMP_RET_ALLOW);
}

static void allow_without_bits(filter *f, long nr, int argument, uint32_t bits)
{
    when(f, nr, 4);
    load_argument(f, argument);
    put(f, BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
    give(f, REFUSED);
    give(f, SECCOMP_RET_ALLOW);
}

static void make_filter(filter *f)
{
    static const long calls[] = {
        /* what is open already */
        SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_lseek, SYS_close, SYS_fstat, SYS_ppoll, SYS_pselect6,
        /* memory */
        SYS_munmap, SYS_mremap, SYS_madvise, SYS_brk,
        /* threads that run, time, chance */
        SYS_futex, SYS_sched_yield, SYS_sched_getaffinity, SYS_set_robust_list, SYS_rseq, SYS_clock_gettime, SYS_clock_nanosleep,
        SYS_nanosleep, SYS_gettimeofday, SYS_getrandom, SYS_getrusage, SYS_gettid, SYS_getpid, SYS_exit, SYS_exit_group,
        /* signals of its own */
        SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack, SYS_restart_syscall,
#if defined(__x86_64__)
        SYS_poll, SYS_select, SYS_time,
#endif
    };
    /* The terminal's modes and size; not TIOCSTI, which types. */
    static const uint32_t terminal[] = { TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGWINSZ, FIONREAD };
    static const uint32_t flags[] = { F_GETFL, F_SETFL, F_GETFD };
    const uint32_t self = (uint32_t)getpid(), of_descriptor = AT_EMPTY_PATH;

    load(f, offsetof(struct seccomp_data, arch));
    put(f, BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
    give(f, SECCOMP_RET_KILL_PROCESS); /* another call table */
    load(f, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        allow(f, calls[i]);
    allow_without_bits(f, SYS_mmap, 2, PROT_EXEC);
    allow_without_bits(f, SYS_mprotect, 2, PROT_EXEC);
    allow_if_one_of(f, SYS_ioctl, 1, terminal, sizeof terminal / sizeof *terminal);
    allow_if_one_of(f, SYS_fcntl, 1, flags, sizeof flags / sizeof *flags);
    allow_if_one_of(f, SYS_tgkill, 0, &self, 1);              /* abort */
    allow_if_one_of(f, SYS_newfstatat, 3, &of_descriptor, 1); /* glibc's fstat */
    give(f, REFUSED);
}

/* ---- Landlock ---- */

/* struct landlock_ruleset_attr of the newest kernel; an older header has less of it. Rights the kernel does not know are not
 * asked for, and zeros behind what it knows are accepted. */
struct ruleset {
    uint64_t handled_access_fs, handled_access_net, scoped;
};

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_restrict_self  446
#endif

/* Nothing is allowed, so there are no rules. A kernel without Landlock leaves it at the filter. */
static void bar_files(void)
{
    static const int fs_bits[] = { 0, 13, 14, 15, 15 }; /* access rights of ABI 1, 2, 3, 4; then IOCTL_DEV */
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
    struct ruleset r = { 0 };
    int fd;

    if (abi < 1)
        return;
    r.handled_access_fs = (UINT64_C(1) << (abi < 5 ? fs_bits[abi] : 16)) - 1;
    r.handled_access_net = abi >= 4 ? 3 : 0; /* bind and connect TCP */
    r.scoped = abi >= 6 ? 3 : 0;             /* abstract sockets and signals of others */
    fd = (int)syscall(SYS_landlock_create_ruleset, &r, sizeof r, 0);
    if (fd < 0)
        return;
    syscall(SYS_landlock_restrict_self, fd, 0);
    close(fd);
}

fs_status fs_sandbox_enter(fs_error *err)
{
    const uint32_t action = SECCOMP_RET_ERRNO;
    filter f = { .n = 0 };
    struct sock_fprog program;
    long rc = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action);

    if (rc != 0) /* before anything is given up */
        return fs_fail(err, FS_ERR_UNSUPPORTED, "sandbox: this kernel has no seccomp filter (error %d)", errno);
    make_filter(&f);
    program = (struct sock_fprog){ .len = f.n, .filter = f.code };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fs_fail_errno(err, errno, "sandbox: cannot give up new privileges");
    bar_files();
    rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    if (rc > 0)
        return fs_fail(err, FS_ERR_IO, "sandbox: thread %ld has a filter of its own", rc);
    return rc == 0 ? FS_OK : fs_fail_errno(err, errno, "sandbox: the filter of system calls is refused");
}

#else

fs_status fs_sandbox_enter(fs_error *err)
{
    return fs_fail(err, FS_ERR_UNSUPPORTED, "sandbox: there is none for this system; it needs Linux on x86-64 or aarch64");
}

#endif
