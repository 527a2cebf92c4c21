/* A file written piece by piece that appears whole or not at all: a temporary file in the same folder, fsync, rename. */
#ifndef FS_BASE_WRITER_H
#define FS_BASE_WRITER_H

#include "base/mem.h"

typedef struct fs_writer {
    char *path, *temp; /* temp NULL: nothing is open */
    int fd;
    uint64_t n_bytes; /* written so far, those in the buffer too */
    uint8_t *buffer;
    size_t n_buffered;
} fs_writer;

/* Opens a temporary file beside path. */
fs_status fs_writer_open(fs_writer *w, const char *path, fs_error *err);
fs_status fs_writer_put(fs_writer *w, const void *data, size_t n, fs_error *err);
/* Bytes `with` up to the next multiple of align. */
fs_status fs_writer_pad(fs_writer *w, size_t align, uint8_t with, fs_error *err);
/* fsync and rename; the writer is closed on success. */
fs_status fs_writer_commit(fs_writer *w, fs_error *err);
/* Removes the temporary file of a writer that was not committed. Zeroed writers are fine. */
void fs_writer_close(fs_writer *w);

#endif
