/* Fetching a repository from a hub, or from several that mirror each other, into the Hub cache that all clients share.
 *
 *   CACHE/models--ORG--NAME/refs/REVISION        the commit
 *                           snapshots/COMMIT/    links into blobs, under the files' names
 *                           blobs/ETAG           content: SHA-256 of large files, git's SHA-1 of the others
 *                           blobs/ETAG.part      what has arrived of one, and
 *                           blobs/ETAG.parts     which pieces of it
 *   CACHE/.locks/models--ORG--NAME/ETAG.lock     held while a blob is fetched
 *
 * The first hub that answers says which commit and files there are; every byte of a file comes from whichever mirror is fastest, and none is
 * believed: a file counts when its hash is the one that it was listed with. */
#ifndef FS_HUB_PULL_H
#define FS_HUB_PULL_H

#include "base/mem.h"
#include "base/progress.h"

#define FS_PULL_MIRRORS_MAX 16

typedef struct fs_pull_options {
    const char *type;     /* "models", "datasets" or "spaces" */
    const char *id;       /* "org/name" */
    const char *revision; /* NULL: main */
    const char *cache;
    const char *token;    /* NULL: none; goes to the first mirror only */
    const char *mirrors[FS_PULL_MIRRORS_MAX]; /* base URLs, at least one */
    size_t n_mirrors;
    const char *const *include, *const *exclude; /* globs over paths, ended by NULL; NULL: all, none */
    int n_connections;    /* 0: 8 */
    fs_progress progress; /* bytes; called on the caller's thread */
} fs_pull_options;

typedef struct fs_pull_result {
    char *path; /* the snapshot's folder; free */
    char commit[41];
    size_t n_files, n_fetched;
    uint64_t n_bytes, n_bytes_fetched;
} fs_pull_result;

/* What was fetched before is not fetched again, whoever fetched it; what was cut short goes on. */
fs_status fs_pull(const fs_pull_options *o, fs_pull_result *ret, fs_error *err);

#endif
