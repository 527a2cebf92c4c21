/* POSIX files with sentences. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static fs_status open_regular(const char *path, int *ret_fd, size_t *ret_bytes, fs_error *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang us */

    if (fd < 0)
        return errno == ENOENT ? fs_fail(err, FS_ERR_NOT_FOUND, "cannot open '%s': no such file", path)
                               : fs_fail_errno(err, errno, "cannot open '%s'", path);
    if (fstat(fd, &st) != 0) {
        int e = errno;
        close(fd);
        return fs_fail_errno(err, e, "cannot stat '%s'", path);
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return fs_fail(err, FS_ERR_IO, "'%s' is not a regular file", path);
    }
    *ret_fd = fd;
    *ret_bytes = (size_t)st.st_size;
    return FS_OK;
}

fs_status fs_map_open(fs_map *m, const char *path, fs_error *err)
{
    size_t n;
    int fd;
    fs_status rc = open_regular(path, &fd, &n, err);

    if (rc)
        return rc;
    rc = fs_map_fd(m, fd, n, path, err);
    close(fd);
    return rc;
}

fs_status fs_map_fd(fs_map *m, int fd, size_t n_bytes, const char *what, fs_error *err)
{
    void *p = n_bytes ? mmap(NULL, n_bytes, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;

    if (p == MAP_FAILED)
        return fs_fail_errno(err, errno, "cannot map '%s' (%zu bytes)", what, n_bytes);
    m->bytes = (fs_bytes){ p, n_bytes };
    return FS_OK;
}

void fs_map_close(fs_map *m)
{
    if (!m)
        return;
    if (m->bytes.data)
        munmap((void *)(uintptr_t)m->bytes.data, m->bytes.n_bytes);
    m->bytes = (fs_bytes){ NULL, 0 };
}

void fs_map_drop(fs_bytes part)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = ((uintptr_t)part.data + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)part.data + part.n_bytes) / page * page;

    if (part.data && begin < end)
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}

fs_status fs_file_read(const char *path, size_t max_bytes, fs_buf *ret, fs_error *err)
{
    fs_buf b = { 0 };
    size_t n;
    int fd;
    fs_status rc = open_regular(path, &fd, &n, err);

    if (rc)
        return rc;
    if (n > max_bytes) {
        close(fd);
        return fs_fail(err, FS_ERR_FORMAT, "'%s' has %zu bytes, at most %zu are read", path, n, max_bytes);
    }
    rc = fs_buf_reserve(&b, n, err);
    while (!rc && b.n_bytes < n) {
        ssize_t got = read(fd, b.data + b.n_bytes, n - b.n_bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            rc = fs_fail_errno(err, errno, "cannot read '%s'", path);
        else if (got == 0)
            rc = fs_fail(err, FS_ERR_IO, "'%s' ended after %zu of %zu bytes", path, b.n_bytes, n);
        else
            b.n_bytes += (size_t)got;
    }
    close(fd);
    if (rc) {
        fs_buf_done(&b);
        return rc;
    }
    b.data[b.n_bytes] = 0;
    *ret = b;
    return FS_OK;
}

bool fs_file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool fs_file_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

fs_status fs_fd_write(int fd, const char *path, const void *data, size_t n_bytes, fs_error *err)
{
    const uint8_t *p = data;

    while (n_bytes > 0) {
        ssize_t put = write(fd, p, n_bytes);
        if (put < 0 && errno != EINTR)
            return fs_fail_errno(err, errno, "cannot write '%s'", path);
        if (put > 0) {
            p += put;
            n_bytes -= (size_t)put;
        }
    }
    return FS_OK;
}

bool fs_file_number(const char *path, const char *key, uint64_t *ret)
{
    char line[256];
    bool found = false;
    FILE *f = fopen(path, "re");

    while (f && !found && fgets(line, sizeof line, f))
        found = strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), "%" SCNu64, ret) == 1;
    if (f)
        fclose(f);
    return found;
}

fs_status fs_folder_make(const char *folder, mode_t mode, fs_error *err)
{
    char *path = strdup(folder);

    if (!path)
        return fs_fail_memory(err, strlen(folder) + 1);
    for (char *s = path + 1;; s++) {
        char c = *s;
        if (c && c != '/')
            continue;
        *s = 0;
        if (mkdir(path, mode) != 0 && errno != EEXIST) {
            fs_status rc = fs_fail_errno(err, errno, "cannot make the folder '%s'", path);
            free(path);
            return rc;
        }
        *s = c;
        if (!c)
            break;
    }
    free(path);
    return FS_OK;
}

void fs_folder_remove(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;

    while (d && (e = readdir(d)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
    rmdir(path);
}

fs_status fs_file_write_atomic(const char *path, fs_bytes content, fs_error *err)
{
    size_t n = strlen(path) + 32;
    char *temp = malloc(n);
    fs_status rc = FS_OK;
    int fd;

    if (!temp)
        return fs_fail_memory(err, n);
    snprintf(temp, n, "%s.tmp.XXXXXX", path);
    fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) {
        rc = fs_fail_errno(err, errno, "cannot create '%s'", path);
        free(temp);
        return rc;
    }
    rc = fs_fd_write(fd, path, content.data, content.n_bytes, err);
    if (!rc && (fchmod(fd, 0644) != 0 || fsync(fd) != 0))
        rc = fs_fail_errno(err, errno, "cannot write '%s'", path);
    if (close(fd) != 0 && !rc)
        rc = fs_fail_errno(err, errno, "cannot write '%s'", path);
    if (!rc && rename(temp, path) != 0)
        rc = fs_fail_errno(err, errno, "cannot rename to '%s'", path);
    if (rc)
        unlink(temp);
    free(temp);
    return rc;
}

char *fs_path_join(const char *folder, const char *name)
{
    size_t n = strlen(folder) + strlen(name) + 2;
    char *p = malloc(n);

    if (p)
        snprintf(p, n, "%s%s%s", folder, folder[0] && folder[strlen(folder) - 1] == '/' ? "" : "/", name);
    return p;
}
