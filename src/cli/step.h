/* What a stage of a recipe is besides a training: a command of the program, run in this process with the stage's keys as its
 * options. {stage: make, task: chain, count: 100, split: train} is `farseek data make chain OUT --count 100 --split train`. */
#ifndef FS_CLI_STEP_H
#define FS_CLI_STEP_H

#include "cli/cli.h"
#include "train/recipe.h"

typedef struct fs_step_kind fs_step_kind;

/* NULL: no such stage. */
const fs_step_kind *fs_step_kind_of(const char *stage);
/* The i-th stage's word; NULL behind the last. */
const char *fs_step_word(size_t i);

/* How a stage's key becomes arguments of its command: a word; a path; paths; FILE=WEIGHT. */
typedef enum fs_step_form { FS_STEP_WORD, FS_STEP_PATH, FS_STEP_PATHS, FS_STEP_WEIGHTS } fs_step_form;
/* The i-th key that is an argument, which stand before OUT; NULL behind the last. */
const char *fs_step_argument(const fs_step_kind *k, size_t i, fs_step_form *ret_form);
const char *fs_step_stage(const fs_step_kind *k);
/* Whether the option decides what the command makes, and is no path. */
bool fs_step_decides(const fs_step_kind *k, const fs_option *o);
bool fs_step_is_path(const fs_option *o);

typedef struct fs_step {
    const fs_step_kind *kind;
    const fs_command *command;
    char **argv; /* [argc], NULL behind */
    int argc, capacity;
} fs_step;

/* Ends OUT's name where the stage is called so and so: ".jsonl", or "" for folders. keys: the stage's. */
const char *fs_step_suffix(const fs_step_kind *k, struct json_object *keys);
/* The command line, whose options are checked: an unknown key is refused with the one most like it. what names the stage; out is what it
 * makes. place->seed is that of a command that has one and is given none. */
fs_status fs_step_read(fs_step *ret, const fs_step_kind *k, struct json_object *keys, const char *what, const char *out, const fs_recipe_place *place,
                       fs_error *err);
/* The command line, word by word: begin, words, then out. word is taken over, NULL is one that there was no memory for. */
void fs_step_begin(fs_step *ret, const fs_step_kind *k);
fs_status fs_step_push(fs_step *s, char *word, fs_error *err);
fs_status fs_step_push_out(fs_step *s, const char *out, fs_error *err);
/* What the command says on stdout goes to the file `said`. n_threads 0 and isa NULL: as the command has it. */
fs_status fs_step_run(const fs_step *s, const char *said, int n_threads, const char *isa, fs_error *err);
/* The command line as one would type it. */
fs_status fs_step_show(const fs_step *s, fs_buf *out, fs_error *err);
void fs_step_done(fs_step *s);

#endif
