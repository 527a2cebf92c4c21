/* A training that is done again from its record, and compared with its trace row by row. */
#ifndef FS_CLI_RETRAIN_H
#define FS_CLI_RETRAIN_H

#include "lineage/record.h"
#include "lineage/trace.h"

typedef struct fs_retrain {
    const char *model;           /* whose record it is: a folder with config.json, and the tokenizer where there was one */
    const char *const *parents;  /* [n_parents] in the record's order; fewer: the others are looked for in data */
    int n_parents;
    const char *data;            /* a folder: files and parents are found in it by their hashes; NULL: none */
    const char *work;            /* a folder that is there and empty */
    const char *isa;             /* NULL: the best */
    int n_threads;
    uint64_t segment, n_segments; /* the segment-th of so many, from 1; 0: the whole */
    /* Filled in. */
    uint64_t first, last;        /* steps that were done again */
    bool departed;               /* the error says what is not as record and trace say */
} fs_retrain;

/* Whether a record is one of a training. */
bool fs_retrain_can(const fs_record *r);
fs_status fs_retrain_run(fs_retrain *o, const fs_record *r, const fs_trace *trace, fs_error *err);

/* The file in folder, or in a folder in it, of this hash: a new string, NULL when there is none. name is tried first; *ret_other: a file of that name
 * that has another hash, may be NULL. */
fs_status fs_retrain_find(const char *folder, const fs_root *hash, const char *name, char **ret, char **ret_other, fs_error *err);
/* The model in folder (NULL: nowhere) whose record has this result: a new string. */
fs_status fs_retrain_find_model(const char *folder, const fs_root *root, char **ret, fs_error *err);
/* What of a data line names a file ("source a.jsonl": a.jsonl, shards: index.json); NULL: a root of something else. */
const char *fs_retrain_file_name(const char *what);

#endif
