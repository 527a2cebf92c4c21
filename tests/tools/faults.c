/* Preloaded into a program, lets its writes to the disk fail: fsync and its like, writes to regular files, names. What fails how often is in a file that
 * FS_FAULTS names, mapped: u32 kinds, u32 one in so many, i32 errno, u32 counter. tests/e2e/test_hub_faults.py builds it. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { SYNC = 1, WRITE = 2, NAME = 4 };

static struct control {
    _Atomic uint32_t kinds, one_in;
    _Atomic int32_t error;
    _Atomic uint32_t n;
} *control;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FS_FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *map = fd >= 0 ? mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;

    if (fd >= 0)
        close(fd);
    control = map == MAP_FAILED ? NULL : map;
}

/* Every n-th, scattered. */
static int fails(uint32_t kind)
{
    uint32_t i;

    if (!control || !(control->kinds & kind))
        return 0;
    i = atomic_fetch_add(&control->n, 1) * 2654435761u >> 8;
    if (i % (control->one_in ? control->one_in : 1))
        return 0;
    errno = control->error;
    return 1;
}

static int is_file(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

#define REAL(name) ((__typeof__(&name))(uintptr_t)dlsym(RTLD_NEXT, #name))

int fsync(int fd)
{
    return fails(SYNC) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    return fails(SYNC) ? -1 : REAL(fdatasync)(fd);
}

int syncfs(int fd)
{
    return fails(SYNC) ? -1 : REAL(syncfs)(fd);
}

ssize_t write(int fd, const void *data, size_t n)
{
    return is_file(fd) && fails(WRITE) ? -1 : REAL(write)(fd, data, n);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    return fails(WRITE) ? -1 : REAL(pwrite)(fd, data, n, at);
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at)
{
    return fails(WRITE) ? -1 : REAL(pwrite64)(fd, data, n, at);
}

int linkat(int a, const char *from, int b, const char *to, int flags)
{
    return fails(NAME) ? -1 : REAL(linkat)(a, from, b, to, flags);
}

int rename(const char *from, const char *to)
{
    return fails(NAME) ? -1 : REAL(rename)(from, to);
}
