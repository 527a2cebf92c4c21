/* One repository of a hub, as a client asks for it. */
#ifndef FS_HUB_REMOTE_H
#define FS_HUB_REMOTE_H

#include "base/json.h"
#include "net/fetch.h"

typedef struct fs_remote {
    fs_fetch *fetch;
    const char *base;                /* the hub's URL */
    const char *type, *id;           /* "models", "datasets" or "spaces"; "org/name" */
    const char *revision;            /* NULL: main */
    const char *token;               /* NULL: none */
} fs_remote;

typedef struct fs_remote_file {
    char *path;    /* in the repository */
    char etag[65]; /* SHA-256 of a large file, else git's SHA-1 of it as a blob */
    bool large;
    uint64_t n_bytes;
} fs_remote_file;

typedef struct fs_remote_list {
    fs_remote_file *items;
    size_t n, capacity;
} fs_remote_list;

/* What the last reply's refusal means, in a sentence: its status is none of success. */
fs_status fs_remote_refused(const fs_remote *r, const char *url, fs_error *err);
/* GET url -> JSON. */
fs_status fs_remote_json(const fs_remote *r, const char *url, struct json_object **ret, fs_error *err);
/* The commit that the revision means. */
fs_status fs_remote_commit(const fs_remote *r, char ret[41], fs_error *err);
/* Appends the files of a commit or revision that are wanted. */
fs_status fs_remote_files(const fs_remote *r, const char *commit, const char *const *include, const char *const *exclude, fs_remote_list *list, fs_error *err);
void fs_remote_list_done(fs_remote_list *l);

/* No part of a path is empty, "." or "..", and none has a control character or backslash: what a hub says never leaves a folder. */
bool fs_remote_path_is_safe(const char *path);
/* Globs over whole paths, ended by NULL. No include is all, no exclude is none. */
bool fs_remote_wants(const char *path, const char *const *include, const char *const *exclude);

#endif
