/* A file whose parts are read past the page cache, where the file system can: for a reader that keeps what it reads and
 * would otherwise have it in memory twice. Elsewhere parts are read as usual. */
#ifndef FS_BASE_DIRECT_H
#define FS_BASE_DIRECT_H

#include "base/mem.h"

#define FS_DIRECT_ALIGN ((size_t)4096)

typedef struct fs_direct {
    char *path; /* NULL: not open */
    int fd;
    bool is_direct;
    uint64_t n_bytes; /* when it was opened */
} fs_direct;

fs_status fs_direct_open(fs_direct *d, const char *path, fs_error *err);
void fs_direct_close(fs_direct *d);

/* Bytes of the buffer for a part of n bytes that may begin anywhere: whole blocks. */
static inline size_t fs_direct_room(size_t n)
{
    return (n + 2 * FS_DIRECT_ALIGN - 2) / FS_DIRECT_ALIGN * FS_DIRECT_ALIGN;
}

/* Reads n bytes at offset into buffer (aligned to FS_DIRECT_ALIGN, fs_direct_room(n) bytes); *ret points to the first of
 * them there. A file that ends before is FS_ERR_IO. Many threads may read one file at once. Allocates nothing. */
fs_status fs_direct_read(const fs_direct *d, uint64_t offset, size_t n, uint8_t *buffer, const uint8_t **ret, fs_error *err);

#endif
