/* Sending a folder to a repository of a hub, and small changes of one: what `hf upload` does, by Git LFS and one commit. */
#ifndef FS_HUB_PUSH_H
#define FS_HUB_PUSH_H

#include "base/mem.h"
#include "base/progress.h"

typedef struct fs_push_options {
    const char *type;     /* "models", "datasets" or "spaces" */
    const char *id;       /* "org/name" */
    const char *revision; /* NULL: main */
    const char *base;     /* the hub's URL */
    const char *token;
    const char *message, *description; /* NULL: a plain one; none */
    const char *const *include, *const *exclude, *const *remove; /* globs over paths, ended by NULL; NULL: all, none, none */
    bool create_pr, private_repo;
    fs_progress progress; /* bytes of large files, hashed and sent; called on the caller's thread */
} fs_push_options;

typedef struct fs_push_result {
    char commit[41];
    char *url; /* of the commit or pull request, as the hub says it; free */
    size_t n_files, n_changed, n_removed; /* looked at, in the commit */
    uint64_t n_bytes_sent;
} fs_push_result;

/* Makes the repository if it is not there. Files that the repository has already are not sent, so that a push that was cut short goes on.
 * folder NULL: nothing is added, o->remove says what goes. A folder without a change makes no commit: commit is "". */
fs_status fs_push(const fs_push_options *o, const char *folder, fs_push_result *ret, fs_error *err);

/* One line a file of the repository: fn(ud, path, bytes, hash). */
typedef void fs_push_file_fn(void *ud, const char *path, uint64_t n_bytes, const char *hash);
fs_status fs_push_files(const fs_push_options *o, fs_push_file_fn *fn, void *ud, fs_error *err);
/* Who the token is of. */
fs_status fs_push_whoami(const char *base, const char *token, fs_buf *ret_name, fs_error *err);

#endif
