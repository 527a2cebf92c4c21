/* What the two halves of pull share: pull.c lists and links, pull_blobs.c fetches. */
#ifndef FS_HUB_PULL_INTERNAL_H
#define FS_HUB_PULL_INTERNAL_H

#include "hub/pull.h"

#include "net/fetch.h"

typedef struct fs_pull_file {
    char *path;    /* in the repository */
    char etag[65]; /* SHA-256 of a large file, else git's SHA-1 of it as a blob */
    bool large;
    uint64_t n_bytes;
} fs_pull_file;

typedef struct fs_pull_list {
    fs_pull_file *items;
    size_t n, capacity;
} fs_pull_list;

/* Fetches every blob of the list that blobs does not have. */
fs_status fs_pull_blobs(const fs_pull_options *o, const char *commit, const char *blobs, const char *locks, const fs_pull_list *list, fs_pull_result *ret,
                        fs_error *err);

#endif
