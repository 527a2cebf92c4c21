/* What the two halves of pull share: pull.c lists and links, pull_blobs.c fetches. */
#ifndef FS_HUB_PULL_INTERNAL_H
#define FS_HUB_PULL_INTERNAL_H

#include "hub/pull.h"

#include "hub/remote.h"

/* Fetches every blob of the list that blobs does not have. */
fs_status fs_pull_blobs(const fs_pull_options *o, const char *commit, const char *blobs, const char *locks, const fs_remote_list *list, fs_pull_result *ret,
                        fs_error *err);

#endif
