/* An answer as it streams: tells the reasoning from the content by the chat format's markers, which may arrive in
 * pieces. Text inside is passed on as it came; line ends right after a marker belong to the marker. */
#ifndef FS_CLI_ANSWER_H
#define FS_CLI_ANSWER_H

#include "base/mem.h"

typedef enum fs_answer_part { FS_ANSWER_REASONING, FS_ANSWER_CONTENT } fs_answer_part;

typedef struct fs_answer {
    fs_bytes open, close; /* borrowed; empty: the format has no reasoning */
    fs_answer_part part;
    bool begun;         /* content has begun: an opening marker would be text */
    bool skip_newlines; /* right after a marker */
    fs_buf pending;     /* may be the beginning of a marker */
    fs_buf reasoning, content;
} fs_answer;

/* Called with text of one part, in order; false stops. */
typedef bool fs_answer_fn(void *ud, fs_answer_part part, const char *text, size_t n_bytes);

/* open_in_prompt: the prompt ended with the opening marker, so the answer begins inside the reasoning. */
void fs_answer_init(fs_answer *a, fs_bytes open, fs_bytes close, bool open_in_prompt);
void fs_answer_done(fs_answer *a);
/* FS_ERR_INTERRUPTED when fn said stop. */
fs_status fs_answer_push(fs_answer *a, const char *text, size_t n_bytes, fs_answer_fn *fn, void *ud, fs_error *err);
/* The end: what was held back is text after all. */
fs_status fs_answer_finish(fs_answer *a, fs_answer_fn *fn, void *ud, fs_error *err);

#endif
