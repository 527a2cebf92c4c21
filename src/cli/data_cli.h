/* What the data commands share: files of records in and out, and the counts that each step reports. */
#ifndef FS_CLI_DATA_CLI_H
#define FS_CLI_DATA_CLI_H

#include "base/writer.h"
#include "cli/work.h"
#include "data/records.h"

/* Named counts of one step, in order. */
#define FS_COUNTS_MAX 24
typedef struct fs_counts {
    const char *names[FS_COUNTS_MAX];
    uint64_t values[FS_COUNTS_MAX];
    size_t n;
} fs_counts;

uint64_t *fs_counts_of(fs_counts *c, const char *name); /* made, 0, when it is new */
/* On stdout: "OUT: 3 records, 2 traced", or a JSON object with them and "out". */
fs_status fs_counts_print(const fs_counts *c, const char *out, bool json, fs_error *err);

/* A line and its end. */
fs_status fs_put_line(fs_writer *w, fs_bytes line, fs_error *err);

/* Calls fn for every record of the files in order, with progress in bytes. A failure of fn is returned. */
typedef fs_status fs_data_record_fn(void *ud, const fs_data_record *r, const char *path, size_t line, fs_error *err);
fs_status fs_records_walk(const char *const *paths, size_t n_paths, const char *what, fs_data_record_fn *fn, void *ud, fs_error *err);

#endif
