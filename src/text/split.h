/* The pre-tokenizer: split steps in sequence, each cutting every piece that the one before left.
 *
 * A step sees its piece alone: look-around does not reach into the neighbours. Source: huggingface/tokenizers,
 * pre_tokenizers/split, tokenizer/normalizer (SplitDelimiterBehavior). */
#ifndef FS_TEXT_SPLIT_H
#define FS_TEXT_SPLIT_H

#include "text/regex.h"

#define FS_SPLIT_STEPS_MAX 16

typedef enum fs_split_behavior {
    FS_SPLIT_ISOLATED, FS_SPLIT_REMOVED, FS_SPLIT_MERGED_WITH_PREVIOUS, FS_SPLIT_MERGED_WITH_NEXT, FS_SPLIT_CONTIGUOUS,
    FS_SPLIT_BEHAVIOR_END
} fs_split_behavior;

typedef struct fs_split_step {
    fs_regex *regex; /* NULL: matches nothing */
    fs_split_behavior behavior;
    bool invert; /* what the expression does not match is the delimiter */
} fs_split_step;

/* Zeroed is empty and valid: one piece, the text. */
typedef struct fs_split {
    fs_split_step steps[FS_SPLIT_STEPS_MAX];
    size_t n_steps;
    bool prefix_space; /* before step prefix_step, a piece that does not start with U+0020 gets one */
    size_t prefix_step;
} fs_split;

void fs_split_done(fs_split *s);
/* pattern: as fs_regex_compile; empty matches nothing. */
fs_status fs_split_add(fs_split *s, fs_bytes pattern, bool literal, fs_split_behavior behavior, bool invert, fs_error *err);

/* Calls fn(ud, piece, err) for the pieces of valid UTF-8 text in order, none empty; a failure of fn is returned. */
typedef fs_status fs_split_fn(void *ud, fs_bytes piece, fs_error *err);
fs_status fs_split_run(const fs_split *s, fs_bytes text, fs_regex_scratch *scratch, fs_split_fn *fn, void *ud, fs_error *err);

#endif
