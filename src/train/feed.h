/* A recipe's data as rows of one length, each row as sequences: texts and ids (documents.h), or token shards (data/pack.h). Which row has
 * which number is a function of data and seed. */
#ifndef FS_TRAIN_FEED_H
#define FS_TRAIN_FEED_H

#include "text/tokenizer.h"
#include "train/recipe.h"
#include "train/trainer.h"

typedef struct fs_feed fs_feed;

typedef struct fs_feed_options {
    char *const *files;
    int n_files;
    enum fs_recipe_data kind;
    bool whole;
    uint32_t length, rows_max; /* rows_max: asked for at a time */
    uint64_t seed, n_rows;     /* n_rows: what will be asked for; 0: those of the first epoch */
} fs_feed_options;

/* Borrows nothing behind the call. tokenizer: of texts; of shards it is compared where there is one. */
fs_status fs_feed_open(const fs_feed_options *o, const fs_config *c, const fs_tokenizer *tokenizer, fs_feed **ret, fs_error *err);
void fs_feed_close(fs_feed *f);

typedef struct fs_feed_counts {
    uint64_t n_documents, n_tokens, n_rows; /* rows of the first epoch */
    uint32_t pieces_max;                    /* sequences of a row */
} fs_feed_counts;
fs_feed_counts fs_feed_count(const fs_feed *f);

/* Rows [number, number + n) as *ret_n sequences, the first row's first token index being index. They stand until the next call. */
fs_status fs_feed_rows(fs_feed *f, uint64_t number, uint32_t n, uint64_t index, fs_train_sequence *ret, uint32_t *ret_n, fs_error *err);

#endif
