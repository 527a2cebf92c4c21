/* The hub's database: SQLite with a write-ahead log, one file, a connection for every request under way. What is acknowledged is on the
 * disk (synchronous=FULL). */
#ifndef FS_HUB_DB_H
#define FS_HUB_DB_H

#include "base/mem.h"

#include <sqlite3.h>

typedef struct fs_db_pool fs_db_pool;

/* Opens or makes the file and brings its tables up to date. */
fs_status fs_db_pool_open(const char *path, fs_db_pool **ret, fs_error *err);
void fs_db_pool_close(fs_db_pool *p); /* every connection was given back */
fs_status fs_db_take(fs_db_pool *p, sqlite3 **ret, fs_error *err);
/* Rolls back what is open. */
void fs_db_give(fs_db_pool *p, sqlite3 *db);

/* Statements with values in place of '?', one letter of types each: s a string (NULL: null), b fs_bytes, i int64_t. */
fs_status fs_db_run(sqlite3 *db, fs_error *err, const char *sql, const char *types, ...);
/* Rows: while (fs_db_next(st)) ...; then fs_db_end gives the error, if there was one. */
fs_status fs_db_query(sqlite3 *db, sqlite3_stmt **ret, fs_error *err, const char *sql, const char *types, ...);
bool fs_db_next(sqlite3_stmt *st);
fs_status fs_db_end(sqlite3_stmt *st, fs_error *err);
/* The first column of the first row; *ret stays as it is without one. */
fs_status fs_db_int(sqlite3 *db, int64_t *ret, bool *ret_found, fs_error *err, const char *sql, const char *types, ...);
/* A column as a string, "" for null; valid until the next row. */
const char *fs_db_text(sqlite3_stmt *st, int column);

fs_status fs_db_begin(sqlite3 *db, fs_error *err); /* for writing, at once */
fs_status fs_db_commit(sqlite3 *db, fs_error *err);
void fs_db_rollback(sqlite3 *db);
/* Whether the last failure was a row that is there already. */
bool fs_db_is_conflict(sqlite3 *db);

#endif
