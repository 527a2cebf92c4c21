/* Zip files as readers of checkpoints see them: by their central directory, also of 64 bits, entries stored or deflated.
 * Source: PKWARE, APPNOTE.TXT 6.3. */
#ifndef FS_HUB_ZIP_H
#define FS_HUB_ZIP_H

#include "base/mem.h"

typedef struct fs_zip {
    fs_bytes file;
    uint64_t at, end; /* of the directory: what is left of it */
    uint64_t base;    /* what stands before the zip */
} fs_zip;

typedef struct fs_zip_entry {
    fs_bytes name;
    uint64_t n_bytes;
    fs_bytes packed; /* the content as it stands */
    bool deflated;
} fs_zip_entry;

/* FS_ERR_NOT_FOUND: it is none. */
fs_status fs_zip_open(fs_bytes file, fs_zip *ret, fs_error *err);
/* The next entry; *ret_more false at the end. */
fs_status fs_zip_next(fs_zip *z, fs_zip_entry *ret, bool *ret_more, fs_error *err);
/* The content: of a stored entry where it stands, else in buf, at most max_bytes of it. */
fs_status fs_zip_read(const fs_zip_entry *e, size_t max_bytes, fs_buf *buf, fs_bytes *ret, fs_error *err);

#endif
