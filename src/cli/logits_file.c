/* See the header. */
#include "cli/logits_file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define MAGIC        "FSLOGIT1"
#define HEADER_BYTES 32

size_t fs_windows_n_ids(const fs_windows *w)
{
    return (size_t)(w->n - 1) * w->stride + w->ctx;
}

size_t fs_windows_n_rows(const fs_windows *w)
{
    return (size_t)w->n * (w->ctx - 1 - w->first);
}

bool fs_logits_file_is(const char *path)
{
    char start[8];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is no such file and is not waited for */
    bool is = fd >= 0 && read(fd, start, sizeof start) == (ssize_t)sizeof start && memcmp(start, MAGIC, sizeof start) == 0;

    if (fd >= 0)
        close(fd);
    return is;
}

fs_status fs_logits_file_begin(fs_writer *out, uint32_t v, const fs_windows *w, const int32_t *ids, fs_error *err)
{
    const uint32_t numbers[6] = { v, w->ctx, w->first, w->stride, w->n, 0 };
    fs_status rc = fs_writer_put(out, MAGIC, 8, err);

    if (!rc)
        rc = fs_writer_put(out, numbers, sizeof numbers, err);
    return rc ? rc : fs_writer_put(out, ids, fs_windows_n_ids(w) * sizeof *ids, err);
}

fs_status fs_logits_file_rows(fs_bytes file, const char *path, uint32_t v, const fs_windows *w, const int32_t *ids,
                              const float **ret_rows, fs_error *err)
{
    uint32_t n[6];
    fs_windows has;
    size_t rows_at, rows_bytes, file_bytes;

    if (file.n_bytes < HEADER_BYTES || memcmp(file.data, MAGIC, 8) != 0)
        return fs_fail(err, FS_ERR_FORMAT, "'%s' is not a file of --save-logits", path);
    memcpy(n, file.data + 8, sizeof n);
    has = (fs_windows){ n[1], n[2], n[3], n[4] };
    if (n[0] != v)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' has logits of %" PRIu32 " tokens, the model's vocabulary is %" PRIu32, path, n[0], v);
    if (has.ctx != w->ctx || has.first != w->first || has.stride != w->stride)
        return fs_fail(err, FS_ERR_ARGUMENT,
                       "'%s' has windows of %" PRIu32 " tokens every %" PRIu32 ", scored from %" PRIu32 "; asked are %" PRIu32
                       " every %" PRIu32 " from %" PRIu32 ": give the same --ctx and --stride",
                       path, has.ctx, has.stride, has.first, w->ctx, w->stride, w->first);
    if (has.n < w->n)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' has %" PRIu32 " windows, the text has %" PRIu32 ": --chunks %" PRIu32 " takes those",
                       path, has.n, w->n, has.n);
    rows_at = HEADER_BYTES + 4 * fs_windows_n_ids(&has); /* its stride and ctx are ours, so neither product wraps */
    if (!fs_mul_size(fs_windows_n_rows(&has), (size_t)v * sizeof(float), &rows_bytes) || !fs_add_size(rows_at, rows_bytes, &file_bytes) ||
        file.n_bytes != file_bytes)
        return fs_fail(err, FS_ERR_FORMAT, "'%s' has %zu bytes, which is not what its header says: it was cut short or changed", path,
                       file.n_bytes);
    if (memcmp(file.data + HEADER_BYTES, ids, fs_windows_n_ids(w) * sizeof *ids) != 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' was made from another text or with another tokenizer", path);
    *ret_rows = (const float *)(const void *)(file.data + rows_at);
    return FS_OK;
}
