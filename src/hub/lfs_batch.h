/* What a client of Git LFS asks for in one batch. https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md */
#ifndef FS_HUB_LFS_BATCH_H
#define FS_HUB_LFS_BATCH_H

#include "base/mem.h"

#define FS_LFS_OBJECTS_MAX 1000

typedef struct fs_lfs_object {
    char oid[65]; /* SHA-256, hex in lower case */
    int64_t n_bytes;
} fs_lfs_object;

typedef struct fs_lfs_batch {
    bool upload, multipart; /* else download; whether the client can send in parts */
    fs_lfs_object *objects; /* [n_objects] */
    size_t n_objects;
} fs_lfs_batch;

/* FS_ERR_FORMAT with a sentence for what is none. With fs_lfs_batch_done. */
fs_status fs_lfs_batch_read(fs_bytes json, fs_lfs_batch *ret, fs_error *err);
void fs_lfs_batch_done(fs_lfs_batch *b);

#endif
