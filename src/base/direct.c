/* O_DIRECT reads in whole blocks. */
#include "base/direct.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether the file system reads this way: some only say so at the first read. */
static bool reads(int fd)
{
    _Alignas(FS_DIRECT_ALIGN) uint8_t block[FS_DIRECT_ALIGN];

    return pread(fd, block, sizeof block, 0) >= 0;
}

static int open_either(const char *path, bool *ret_direct)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_DIRECT);

    *ret_direct = fd >= 0 && reads(fd);
    if (*ret_direct || (fd < 0 && errno != EINVAL))
        return fd;
    if (fd >= 0)
        close(fd);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    return fd;
}

fs_status fs_direct_open(fs_direct *d, const char *path, fs_error *err)
{
    struct stat st;
    fs_direct new = { .fd = open_either(path, &new.is_direct) };

    if (new.fd < 0)
        return errno == ENOENT ? fs_fail(err, FS_ERR_NOT_FOUND, "cannot open '%s': no such file", path)
                               : fs_fail_errno(err, errno, "cannot open '%s'", path);
    if (fstat(new.fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(new.fd);
        return fs_fail(err, FS_ERR_IO, "'%s' is not a regular file", path);
    }
    new.n_bytes = (uint64_t)st.st_size;
    new.path = strdup(path);
    if (!new.path) {
        close(new.fd);
        return fs_fail_memory(err, strlen(path) + 1);
    }
    *d = new;
    return FS_OK;
}

void fs_direct_close(fs_direct *d)
{
    if (!d || !d->path)
        return;
    close(d->fd);
    free(d->path);
    *d = (fs_direct){ 0 };
}

fs_status fs_direct_read(const fs_direct *d, uint64_t offset, size_t n, uint8_t *buffer, const uint8_t **ret, fs_error *err)
{
    uint64_t begin = offset / FS_DIRECT_ALIGN * FS_DIRECT_ALIGN;
    size_t head = (size_t)(offset - begin), done = 0;
    size_t whole = (head + n + FS_DIRECT_ALIGN - 1) / FS_DIRECT_ALIGN * FS_DIRECT_ALIGN;

    assert((uintptr_t)buffer % FS_DIRECT_ALIGN == 0);
    while (done < head + n) {
        ssize_t got = pread(d->fd, buffer + done, whole - done, (off_t)(begin + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fs_fail_errno(err, errno, "cannot read %zu bytes at %" PRIu64 " of '%.300s'", n, offset, d->path);
        done += (size_t)got;
        if (done < head + n && (got == 0 || (d->is_direct && done % FS_DIRECT_ALIGN))) /* no whole block: the end */
            return fs_fail(err, FS_ERR_IO, "'%.300s' ends at %" PRIu64 ", where %zu bytes at %" PRIu64 " were to be read", d->path,
                           begin + done, n, offset);
    }
    *ret = buffer + head;
    return FS_OK;
}
