/* One buffer between the caller's small pieces and write(2). */
#include "base/writer.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_BYTES ((size_t)1 << 20)

static fs_status flush(fs_writer *w, fs_error *err)
{
    fs_status rc = fs_fd_write(w->fd, w->path, w->buffer, w->n_buffered, err);

    w->n_buffered = 0;
    return rc;
}

fs_status fs_writer_open(fs_writer *w, const char *path, fs_error *err)
{
    size_t n = strlen(path) + 16;

    *w = (fs_writer){ .fd = -1 };
    w->path = strdup(path);
    w->buffer = malloc(BUFFER_BYTES);
    w->temp = malloc(n);
    if (!w->path || !w->buffer || !w->temp) {
        free(w->temp);
        w->temp = NULL;
        fs_writer_close(w);
        return fs_fail_memory(err, BUFFER_BYTES + 2 * n);
    }
    snprintf(w->temp, n, "%s.tmp.XXXXXX", path);
    w->fd = mkostemp(w->temp, O_CLOEXEC);
    if (w->fd < 0) {
        fs_status rc = fs_fail_errno(err, errno, "cannot create '%s'", path);
        free(w->temp);
        w->temp = NULL;
        fs_writer_close(w);
        return rc;
    }
    return FS_OK;
}

fs_status fs_writer_put(fs_writer *w, const void *data, size_t n, fs_error *err)
{
    fs_status rc = FS_OK;

    if (n > BUFFER_BYTES - w->n_buffered)
        rc = flush(w, err);
    if (rc)
        return rc;
    if (n > BUFFER_BYTES) {
        rc = fs_fd_write(w->fd, w->path, data, n, err);
    } else if (n) {
        memcpy(w->buffer + w->n_buffered, data, n);
        w->n_buffered += n;
    }
    w->n_bytes += n;
    return rc;
}

fs_status fs_writer_pad(fs_writer *w, size_t align, uint8_t with, fs_error *err)
{
    fs_status rc = FS_OK;

    while (!rc && w->n_bytes % align)
        rc = fs_writer_put(w, &with, 1, err);
    return rc;
}

fs_status fs_writer_commit(fs_writer *w, fs_error *err)
{
    fs_status rc = flush(w, err);
    int fd = w->fd;

    if (!rc && (fchmod(fd, 0644) != 0 || fsync(fd) != 0))
        rc = fs_fail_errno(err, errno, "cannot write '%s'", w->path);
    if (rc)
        return rc;
    w->fd = -1;
    if (close(fd) != 0)
        return fs_fail_errno(err, errno, "cannot write '%s'", w->path);
    if (rename(w->temp, w->path) != 0)
        return fs_fail_errno(err, errno, "cannot rename to '%s'", w->path);
    free(w->temp);
    w->temp = NULL;
    fs_writer_close(w);
    return FS_OK;
}

void fs_writer_close(fs_writer *w)
{
    if (!w)
        return;
    if (w->temp) {
        if (w->fd >= 0)
            close(w->fd);
        unlink(w->temp);
    }
    free(w->temp);
    free(w->path);
    free(w->buffer);
    *w = (fs_writer){ .fd = -1 };
}
