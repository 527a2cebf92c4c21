/* A commit that is put together: its files become git objects as they come, and its ref moves last, when everything it leads to is on the disk. */
#ifndef FS_HUB_COMMIT_H
#define FS_HUB_COMMIT_H

#include "hub/internal.h"

typedef struct fs_commit_job {
    fs_hub_call *c;
    bool pr; /* becomes a pull request */
    git_oid base;
    char ref[256];
    fs_hub_edits edits;
    fs_hub_objects written;
    fs_hub_scans scans;
    char **lfs_paths;
    size_t n_lfs, lfs_capacity;
    bool has_header, sets_attributes;
    char summary[1024], parent[GIT_OID_HEXSZ + 1]; /* of one line; "" any */
    fs_buf message;
} fs_commit_job;

/* Of the repository that the route's parameters name: whether who asks may commit to rev, or propose it. False after a reply. With fs_commit_done. */
bool fs_commit_begin(fs_commit_job *j, fs_hub_call *c, const char *rev, bool pr);
/* The text of .gitattributes in a tree; empty without one. */
fs_status fs_commit_attributes(git_repository *git, const git_oid *tree, fs_buf *ret, fs_error *err);
/* Whether a file that begins with sample goes to Git LFS. */
bool fs_commit_is_large(const fs_hub_call *c, fs_bytes attributes, const char *path, uint64_t n_bytes, fs_bytes sample);
/* One file more, within git, or an object that the repository holds; n_bytes -1: whatever it has. path is valid. */
fs_status fs_commit_blob(fs_commit_job *j, const char *path, fs_bytes content, fs_error *err);
fs_status fs_commit_object(fs_commit_job *j, const char *path, const char *sha256, int64_t n_bytes, fs_error *err);
/* Moves the ref, or opens the pull request, and replies. */
void fs_commit_end(fs_commit_job *j);
void fs_commit_done(fs_commit_job *j);

#endif
