/* The line a user types on a terminal: libedit's editing and history, pastes of several lines as one message
 * (bracketed paste), completion of commands that start with '/'. */
#ifndef FS_CLI_INPUT_H
#define FS_CLI_INPUT_H

#include "base/mem.h"

typedef struct fs_input fs_input;

typedef enum fs_input_event {
    FS_INPUT_LINE,
    FS_INPUT_INTERRUPT, /* Ctrl-C on a line with text: the text is gone */
    FS_INPUT_INTERRUPT_EMPTY,
    FS_INPUT_END
} fs_input_event;

/* history_path: kept with mode 600, one process after another appends; NULL: none is kept. words: what Tab completes
 * at the start of a line, NULL-terminated, borrowed. A history that cannot be read is no reason to fail. */
fs_status fs_input_open(const char *history_path, const char *const *words, fs_input **ret, fs_error *err);
void fs_input_close(fs_input *in);
/* Waits for a line and puts it into *ret without its line end; a line ending in '\' goes on in the next. */
fs_status fs_input_read(fs_input *in, const char *prompt, fs_buf *ret, fs_input_event *ret_event, fs_error *err);

#endif
