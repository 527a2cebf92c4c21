/* Data that commands make of other data: the record that stands beside it, and making it again.
 *
 * The record (lineage/record.h) has, in the order of the command's arguments,
 *
 *   parent ROOT [ID]                the model that answered, of reject and eval
 *   data HASH model NAME            what of that model is no weight: its configuration, its tokenizer, a GGUF as a whole
 *   data HASH tokenizer NAME        the files of tokenize's tokenizer, in their folder; "tokenizer-file NAME": it is one file
 *   data HASH source NAME           each file that is read; "against NAME": an evaluation set of decontaminate
 *   recipe stage make               the stage's word as in recipes, the command's words, weights of files, and every option that decides the result
 *
 * and no path, time or number of threads: equal data made alike has equal records. */
#ifndef FS_CLI_DERIVE_H
#define FS_CLI_DERIVE_H

#include "base/options.h"
#include "lineage/provenance.h"

/* Zeroed: no record is made, and nothing is to be done. */
typedef struct fs_derive {
    const char *stage, *out;
    const fs_args *args;
    fs_record record;
} fs_derive;

/* Before the work: what is read, by its hashes. stage: a stage's word (cli/step.h); out is an argument or the option --out. */
fs_status fs_derive_begin(fs_derive *d, const char *stage, const fs_args *args, const char *out, fs_error *err);
/* Behind it: the options as they are now, which have no default left to be found out, and the files of out; writes record and recipe beside out. */
fs_status fs_derive_end(fs_derive *d, fs_error *err);
void fs_derive_done(fs_derive *d);
/* What stands in the recipe's file beside data: a comment with the record's id, so that a record that changed is seen, and the recipe. */
fs_status fs_derive_recipe(const fs_record *r, fs_bytes record_text, fs_buf *out, fs_error *err);

typedef struct fs_derive_again {
    const char *path;           /* what the record is of, as its record says */
    const char *const *parents; /* [n_parents] that were named; others are looked for in data */
    int n_parents;
    const char *data;           /* a folder in which inputs are found by their hashes; NULL: none */
    const char *work;           /* a folder that is there and empty */
    const char *isa;            /* NULL: the best */
    int n_threads;
    fs_pool *pool;
    fs_provenance_say *say;     /* what departs, and where first */
    void *ud;
    size_t n_wrong;             /* filled in */
} fs_derive_again;

fs_status fs_derive_do_again(fs_derive_again *o, const fs_record *r, fs_error *err);

#endif
