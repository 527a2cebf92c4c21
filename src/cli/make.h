/* Models made from a model, and adapters: what `convert` and `quantize` do, what a record tells of it, and doing it again. The work is in
 * formats/convert.c, formats/quantize.c and text/tokenizer_convert.c. */
#ifndef FS_CLI_MAKE_H
#define FS_CLI_MAKE_H

#include "lineage/record.h"

#define FS_MAKE_ADAPTERS_MAX 64

/* Strings are borrowed. */
typedef struct fs_make {
    bool quantise;
    const char *type, *rules, *imatrix, *save_imatrix; /* but for type of quantise; may be NULL */
    struct fs_make_adapter {
        const char *folder;
        float factor; /* times its own scale */
    } adapters[FS_MAKE_ADAPTERS_MAX]; /* that become part of the model, in this order; of convert */
    size_t n_adapters;
    const char *isa; /* NULL: the best; changes nothing */
    const char *licence, *signed_off_by; /* in the record; NULL: the licence that the model's record gives, and nobody */
    double shard_gib;
    int n_threads;
    bool pure, no_tokenizer, no_mtp;
    bool no_record;
} fs_make;

/* Makes out, which must not exist, from the model, and unless no_record its record (provenance.h). All of it appears, or
 * nothing. */
fs_status fs_make_model(const fs_make *m, const char *model, const char *out, fs_error *err);

/* What a record of convert, merge or quantise says, but for the adapters' folders: the record's parents behind the first. The result borrows from r. imatrix is where that file is now; a record that
 * wants one and has none is refused, and so is a file that is not the record's. */
fs_status fs_make_from_record(const fs_record *r, const char *imatrix, fs_make *ret, fs_error *err);
/* Whether adapter i is configured as the record's was. */
fs_status fs_make_check_adapter(const fs_record *r, size_t i, const char *folder, bool *ret_same, fs_error *err);
/* Whether out must end in .gguf. */
bool fs_make_is_gguf(const fs_record *r);

#endif
