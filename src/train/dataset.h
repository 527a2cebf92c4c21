/* The data of a stage that learns from rows: feeds of a recipe's files (feed.h), steps on them by micro-batches, what the record says of them.
 *
 * Step i, from 0, takes rows [i * batch.rows, (i + 1) * batch.rows), whatever other steps do. */
#ifndef FS_TRAIN_DATASET_H
#define FS_TRAIN_DATASET_H

#include "train/feed.h"
#include "train/stage.h"

/* Zeroed is one that is not open. */
typedef struct fs_dataset {
    const fs_recipe *r;
    fs_feed *feed;   /* NULL: its data is still to be made */
    fs_feed *held;   /* of validation; NULL: none */
    uint64_t n_held; /* rows */
    fs_train_sequence *sequences; /* of a micro-batch */
} fs_dataset;

/* Reads the files of s's recipe, with its tokenizer where it has one; nothing where the recipe says that they are still to be made. On failure
 * fs_dataset_close is still due. */
fs_status fs_dataset_open(fs_dataset *d, const fs_stage *s, fs_error *err);
void fs_dataset_close(fs_dataset *d);
/* Makes room for a micro-batch, here and in a trainer's options, which keep what they have beyond it. */
fs_status fs_dataset_room(fs_dataset *d, fs_trainer_options *ret, fs_error *err);
/* Fills in documents, tokens and rows. */
void fs_dataset_plan(const fs_dataset *d, fs_stage_plan *ret);
/* Lines of the record: the root of the run's tokens, the files. */
fs_status fs_dataset_tell(fs_dataset *d, fs_stage *s, fs_error *err);

/* Rows [first, first + n_rows) of feed by micro-batches, from begin to end; run is fs_trainer_run or fs_trainer_evaluate. */
typedef fs_status fs_dataset_pass(fs_trainer *t, const fs_train_sequence *sequences, uint32_t n, fs_error *err);
fs_status fs_dataset_run(fs_dataset *d, fs_trainer *t, fs_feed *feed, uint64_t first, uint64_t n_rows, fs_dataset_pass *run, fs_train_loss *ret, fs_error *err);
/* The step that s's optimiser is at: loss, gradient, and the weights moved along it. bias_rate: fs_trainer_move_biases. */
fs_status fs_dataset_step(fs_dataset *d, fs_stage *s, double lr, double bias_rate, fs_train_loss *ret, float *ret_norm, fs_error *err);

#endif
