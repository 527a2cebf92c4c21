/* What a record tells of the program that makes it, and hashing with a line of progress on a terminal. */
#ifndef FS_CLI_ORIGIN_H
#define FS_CLI_ORIGIN_H

#include "lineage/record.h"

/* The conformance hash of the instruction set that runs. */
fs_status fs_origin_arithmetic(char ret[65], fs_error *err);
/* Lines of the version, the engine, its arithmetic. */
fs_status fs_origin_begin(fs_record *r, fs_error *err);

fs_status fs_origin_roots_of(const fs_weights *w, fs_pool *pool, fs_roots *ret, fs_error *err);
/* Of the model or the data at path, as its record says what it is. */
fs_status fs_origin_roots_told(const fs_record *r, const char *path, fs_pool *pool, fs_roots *ret, fs_error *err);
fs_status fs_origin_roots(const char *path, fs_pool *pool, fs_roots *ret, fs_error *err);

#endif
