/* What the hub knows of Xet: which xorbs it holds with which chunks, which files are made of them, and who may read them.
 *
 *   blobs (blobs.h)         xorbs as they came
 *   xet_xorbs, xet_chunks, xet_files, ... in the database (db.c)
 *
 * A xorb is written for a repository and read by who may read one of its repositories. A file belongs to the repositories that hold its
 * content, its SHA-256. */
#ifndef FS_HUB_XET_STORE_H
#define FS_HUB_XET_STORE_H

#include "hub/internal.h"
#include "hub/xet_shard.h"
#include "net/fetch.h"

/* An unnamed file for a xorb that arrives, open for reading and writing. */
fs_status fs_xet_incoming_open(const fs_hub *h, int *ret_fd, fs_error *err);
/* Puts it on the disk under its hash, and into the database as written for repo. x becomes what the file of that hash says: the same chunks may have
 * been there packed otherwise. */
fs_status fs_xet_xorb_add(const fs_hub *h, sqlite3 *db, int64_t repo, int fd, fs_xorb *x, bool *ret_new, fs_error *err);
/* Writes what is known of it anew. */
fs_status fs_xet_xorb_write(sqlite3 *db, const fs_xorb *x, fs_error *err);
/* The chunks of a file that is a xorb. */
fs_status fs_xet_xorb_read_fd(int fd, uint64_t n_bytes, fs_xorb *ret, fs_error *err);
/* The xorb's chunks, if it was written for repo, is in a file of repo, or the user may read a repository that it was written for; FS_ERR_NOT_FOUND. */
fs_status fs_xet_xorb_find(sqlite3 *db, int64_t repo, const fs_hub_user *u, const fs_xet_hash *hash, fs_xorb *ret, fs_error *err);
/* What its row says; FS_ERR_NOT_FOUND. */
fs_status fs_xet_xorb_row(sqlite3 *db, const fs_xet_hash *hash, fs_xorb *ret, fs_error *err);
/* A local file of it; fresh: as its store has it now. FS_ERR_NOT_FOUND. */
fs_status fs_xet_xorb_open(const fs_hub *h, const fs_xet_hash *hash, bool fresh, int *ret_fd, uint64_t *ret_bytes, fs_error *err);

/* A file of the repository; FS_ERR_NOT_FOUND. ret_terms is the caller's to free. */
fs_status fs_xet_file_find(sqlite3 *db, int64_t repo, const fs_xet_hash *hash, fs_shard_term **ret_terms, uint32_t *ret_n, uint64_t *ret_bytes, fs_error *err);
/* The same, whichever repository's. */
fs_status fs_xet_file_row(sqlite3 *db, const fs_xet_hash *hash, fs_shard_term **ret_terms, uint32_t *ret_n, uint64_t *ret_bytes, fs_error *err);
/* Whether the file with this SHA-256 was found to be made so before. */
fs_status fs_xet_file_is_known(sqlite3 *db, const fs_shard_file *f, bool *ret, fs_error *err);
/* Within a transaction: f, whose content is in the store, belongs to repo. first is its first chunk. again: it is made of these terms from now on, should it be known. */
fs_status fs_xet_file_add(sqlite3 *db, int64_t repo, const fs_shard_file *f, const fs_xet_hash *first, bool again, fs_error *err);
/* The file with this SHA-256 in text form, "" where it did not come by Xet. */
fs_status fs_xet_file_of(sqlite3 *db, const char *sha256, char ret[65], fs_error *err);

/* Xorbs that hold the chunk or what stands near it, readable for the user, at most n_max: hashes appended to ret [n_max]. */
fs_status fs_xet_chunk_near(sqlite3 *db, const fs_xet_hash *chunk, fs_xet_hash *ret, size_t n_max, size_t *ret_n, fs_error *err);

/* ---- xet_build.c: objects that are in xorbs ---- */

/* Whether its chunks are known, and the xorbs are here. */
fs_status fs_xet_object_is_here(const fs_hub *h, sqlite3 *db, const char *sha256, bool *ret, uint64_t *ret_bytes, fs_error *err);
/* Bytes begin..begin + n_bytes, or to the end; FS_ERR_NOT_FOUND. FS_ERR_FORMAT: a xorb is not what it was. */
fs_status fs_xet_object_read(const fs_hub *h, sqlite3 *db, const char *sha256, uint64_t begin, uint64_t n_bytes, fs_fetch_sink *sink, void *ud, fs_error *err);
/* Makes a file of it, in the store of objects, if its content has the hash; FS_ERR_NOT_FOUND. */
fs_status fs_xet_object_make(const fs_hub *h, const char *sha256, fs_error *err);
/* An unnamed file of its n_bytes with *ret_head of its first, as many as fs_blob_store.open_head gives (tensors) or less, and its last n_tail; zeros are between. */
fs_status fs_xet_object_ends(const fs_hub *h, sqlite3 *db, const char *sha256, uint64_t n_bytes, bool tensors, uint64_t n_tail, int *ret_fd, uint64_t *ret_head, fs_error *err);
/* The SHA-256 that the content of a file of Xet's has. */
fs_status fs_xet_file_hash(const fs_hub *h, sqlite3 *db, const fs_xet_hash *file, char ret[65], fs_error *err);

/* ---- xet_check.c ---- */

/* Takes away what Xet knows of files that no repository holds, and xorbs made before made_ms that no file has, whichever repository they were written
 * for, with files that no row knows; counts them. An upload that names such a xorb just then fails, and comes again. */
fs_status fs_xet_gc(const fs_hub *h, sqlite3 *db, int64_t made_ms, uint64_t *ret_n, uint64_t *ret_n_bytes, fs_error *err);
/* Forgets which chunks a file is made of. */
fs_status fs_xet_forget_file(sqlite3 *db, const fs_xet_hash *file, fs_error *err);
/* Reads every xorb: its file is there, its chunks have its hash, the database has them as they are. With repair, what the database knows of one that is
 * not so is forgotten and its file moved to DATA/lost: its files stay where they have files of their own, and whoever has the xorb brings it again. */
typedef void fs_xet_wrong_fn(void *ud, const char *sentence);
fs_status fs_xet_check(const fs_hub *h, sqlite3 *db, bool repair, fs_xet_wrong_fn *wrong, void *ud, uint64_t *ret_n, fs_error *err);

#endif
