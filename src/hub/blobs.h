/* Where large files and xorbs are kept, each under its hash: in files of DATA, or in a bucket of an S3 store. What is above asks the same of both.
 *
 *   files   DATA/objects/ab/cd/SHA-256, DATA/xorbs/ab/cd/HASH (blobs.c). An object that came by Xet is in its xorbs alone until somebody must have a file of it
 *           (xet_build.c)
 *   S3      PREFIX/objects/ab/cd/SHA-256, PREFIX/xorbs/ab/cd/HASH (blobs_s3.c). What is there is known by rows of the database (blobs): a question whether
 *           something is here, within a transaction too, asks nobody. What is read with a file's means is brought to DATA/cache (blobs_cache.c).
 *
 * A blob is seen when all of it is there and its hash was checked, and it never changes. It goes only when nothing needs it, looked at within a transaction:
 * who adds a row that needs it looks within one, too, whether it is here. */
#ifndef FS_HUB_BLOBS_H
#define FS_HUB_BLOBS_H

#include "hub/internal.h"
#include "net/fetch.h"

typedef enum fs_blob_kind { FS_BLOB_OBJECT, FS_BLOB_XORB } fs_blob_kind;

/* Asked within a transaction. */
typedef fs_status fs_blob_needed_fn(sqlite3 *db, const char *name, bool *ret, fs_error *err);
typedef fs_status fs_blob_list_fn(void *ud, const char *name, uint64_t n_bytes, fs_error *err);
typedef void fs_blob_wrong_fn(void *ud, const char *sentence, bool repaired);

/* An upload that goes to its store while it still arrives. */
typedef struct fs_blob_push fs_blob_push;

typedef struct fs_blob_store {
    fs_status (*is_here)(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, const char *name, bool *ret, uint64_t *ret_bytes, fs_error *err);
    /* A local file of the whole; FS_ERR_NOT_FOUND. fresh: as the store has it now, not as it was kept here. */
    fs_status (*open)(const fs_hub *h, fs_blob_kind kind, const char *name, bool fresh, int *ret_fd, uint64_t *ret_bytes, fs_error *err);
    /* A local file of n_bytes that has at least its beginning: a safetensors file's header, 32 MiB of a GGUF file, 1 MiB of others. The rest may be zeros. */
    fs_status (*open_head)(const fs_hub *h, fs_blob_kind kind, const char *name, uint64_t n_bytes, int *ret_fd, fs_error *err);
    fs_status (*read)(const fs_hub *h, fs_blob_kind kind, const char *name, uint64_t begin, uint64_t n_bytes, fs_fetch_sink *sink, void *ud, fs_error *err);
    /* Replies with it, or the range that was asked for. */
    void (*send)(fs_hub_call *c, fs_blob_kind kind, const char *name, uint64_t n_bytes, const char *type);
    /* A link to it in the store; *ret stays empty where there is none. */
    fs_status (*link)(const fs_hub *h, fs_blob_kind kind, const char *name, fs_buf *ret, fs_error *err);
    /* Takes a file that was checked: the unnamed one that fd is, or (from) one more name of that file. push NULL: nothing of it was sent yet. */
    fs_status (*put)(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, const char *name, const char *from, int fd, uint64_t n_bytes, fs_blob_push *push, fs_error *err);
    /* What was not touched since before_ms; of the store itself with stored. */
    fs_status (*list)(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, bool stored, int64_t before_ms, fs_blob_list_fn *fn, void *ud, fs_error *err);
    /* Removes it, if nothing needs it and it was not touched since; *ret: whether it did. Outside of transactions. */
    fs_status (*remove)(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, const char *name, int64_t before_ms, fs_blob_needed_fn *needed, bool *ret, uint64_t *ret_bytes, fs_error *err);
    /* Takes one whose content is wrong out of the store, to DATA/lost. */
    fs_status (*take_out)(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, const char *name, fs_error *err);
    /* Looks whether the database and the store know of the same; NULL: there is only one of them. */
    fs_status (*compare)(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, bool repair, fs_blob_wrong_fn *wrong, void *ud, fs_error *err);
    /* What uploads that came to no end left; NULL: nothing. */
    fs_status (*tidy)(const fs_hub *h, sqlite3 *db, int64_t before_ms, uint64_t *ret_n, fs_error *err);
} fs_blob_store;

extern const fs_blob_store fs_blobs_files, fs_blobs_s3;

/* Whether the object has a file of its own, and is not in xorbs alone. */
bool fs_blob_has_file(const fs_hub *h, const char *name);
/* How much of a file's beginning is read to know its tensors: FS_BLOB_HEAD_BYTES of it are in fd, or all of its n_bytes. */
#define FS_BLOB_HEAD_BYTES ((uint64_t)1 << 20)
uint64_t fs_blob_head_bytes(int fd, uint64_t n_bytes);

/* The folder that files which arrive are made in. */
void fs_blob_folder(const fs_hub *h, fs_blob_kind kind, char ret[400]);
/* Chooses the store that the options or the database say, and writes that down; fs_hub_open's. */
fs_status fs_blobs_open(fs_hub *h, fs_error *err);
void fs_blobs_close(fs_hub *h);

#define FS_BLOB_NO_KEYS "the large files are in %s: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be in the environment"
/* A sink whose ud is a fs_buf. */
fs_status fs_blob_into_buf(void *ud, const void *data, size_t n_bytes, fs_error *err);

fs_status fs_blob_object_is_needed(sqlite3 *db, const char *name, bool *ret, fs_error *err);
fs_status fs_xet_xorb_is_needed(sqlite3 *db, const char *name, bool *ret, fs_error *err); /* xet_check.c */

/* ---- uploads that are sent while they arrive (blobs_s3.c) ---- */

/* NULL where the store takes files only when they are whole. fd stays the caller's, and open until the push is closed. */
fs_status fs_blob_push_open(const fs_hub *h, fs_blob_kind kind, const char *name, int fd, uint64_t n_bytes, fs_blob_push **ret, fs_error *err);
/* So many bytes of the file are there; fails when sending has. */
fs_status fs_blob_push_more(fs_blob_push *p, uint64_t n_bytes, fs_error *err);
/* What was not completed is taken back. */
void fs_blob_push_close(fs_blob_push *p);

/* ---- what is kept here of another store (blobs_cache.c) ---- */

/* FS_ERR_NOT_FOUND. head: of files of which the beginning is there alone. */
fs_status fs_blob_cache_open(const fs_hub *h, fs_blob_kind kind, const char *name, bool head, int *ret_fd, uint64_t *ret_bytes);
/* Keeps the file that fd is; what was not used for longest goes, down to the limit, but never this one. */
void fs_blob_cache_keep(const fs_hub *h, fs_blob_kind kind, const char *name, bool head, const char *from, int fd);
void fs_blob_cache_drop(const fs_hub *h, fs_blob_kind kind, const char *name);

#endif
