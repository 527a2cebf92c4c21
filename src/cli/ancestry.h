/* Every record of a folder, and what of it a record was made from, back to where nothing is before. */
#ifndef FS_CLI_ANCESTRY_H
#define FS_CLI_ANCESTRY_H

#include "lineage/provenance.h"

typedef struct fs_ancestor {
    char *path; /* of the model, the adapter or the data */
    fs_root id;
    fs_record record;
    bool wanted, seen;
} fs_ancestor;

/* Zeroed is empty. */
typedef struct fs_ancestry {
    fs_ancestor *items; /* [n], by path */
    size_t n, capacity;
} fs_ancestry;

/* The records in folder and in the folders in it; what cannot be read as one is left out. */
fs_status fs_ancestry_read(const char *folder, fs_ancestry *ret, fs_error *err);
void fs_ancestry_done(fs_ancestry *a);

/* Marks what r was made from as wanted. wrong: what should be there and is not, or is another; begins: what has nothing before it. */
void fs_ancestry_mark(fs_ancestry *a, const fs_record *r, fs_provenance_say *wrong, fs_provenance_say *begins, void *ud);
/* One that is wanted and was not seen, which it is then; NULL: none. */
fs_ancestor *fs_ancestry_next(fs_ancestry *a);

#endif
