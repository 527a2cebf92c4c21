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

/* An unnamed file for a xorb that arrives, open for reading and writing. */
fs_status fs_xet_incoming_open(const fs_hub *h, int *ret_fd, fs_error *err);
/* Puts it on the disk under its hash, and into the database as written for repo. x becomes what the file of that hash says: the same chunks may have
 * been there packed otherwise. */
fs_status fs_xet_xorb_add(const fs_hub *h, sqlite3 *db, int64_t repo, int fd, fs_xorb *x, bool *ret_new, fs_error *err);
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
/* Whether the file with this SHA-256 was found to be made so before. */
fs_status fs_xet_file_is_known(sqlite3 *db, const fs_shard_file *f, bool *ret, fs_error *err);
/* Within a transaction: f, whose content is in the store, belongs to repo. firsts [f->n_terms] is each term's first chunk. */
fs_status fs_xet_file_add(sqlite3 *db, int64_t repo, const fs_shard_file *f, const fs_xet_hash *first, fs_error *err);
/* The file with this SHA-256 in text form, "" where it did not come by Xet. */
fs_status fs_xet_file_of(sqlite3 *db, const char *sha256, char ret[65], fs_error *err);

/* Xorbs that hold the chunk or what stands near it, readable for the user, at most n_max: hashes appended to ret [n_max]. */
fs_status fs_xet_chunk_near(sqlite3 *db, const fs_xet_hash *chunk, fs_xet_hash *ret, size_t n_max, size_t *ret_n, fs_error *err);

/* ---- xet_check.c ---- */

/* Takes away what Xet knows of files that no repository holds, and xorbs made before made_ms that no file has, whichever repository they were written
 * for, with files that no row knows; counts them. An upload that names such a xorb just then fails, and comes again. */
fs_status fs_xet_gc(const fs_hub *h, sqlite3 *db, int64_t made_ms, uint64_t *ret_n, uint64_t *ret_n_bytes, fs_error *err);
/* Reads every xorb: its file is there, its chunks have its hash, the database has them as they are. With repair, what the database knows of one that is
 * not so is forgotten and its file moved to DATA/lost: its files stay, as large files, and whoever has the xorb brings it again. */
typedef void fs_xet_wrong_fn(void *ud, const char *sentence);
fs_status fs_xet_check(const fs_hub *h, sqlite3 *db, bool repair, fs_xet_wrong_fn *wrong, void *ud, uint64_t *ret_n, fs_error *err);

#endif
