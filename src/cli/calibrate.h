/* An importance matrix made from a text: the model reads it with exact activations, in windows, and what its linears are given is
 * squared and summed (models/importance.h). The same bits on every machine and for any number of threads. */
#ifndef FS_CLI_CALIBRATE_H
#define FS_CLI_CALIBRATE_H

#include "base/status.h"

#include <stdbool.h>

#define FS_CALIBRATE_TOKENS 512 /* of a window, or the model's context if that is less */

/* Whether the file begins as a GGUF does; else it is a text. */
fs_status fs_calibrate_is_matrix(const char *path, bool *ret, fs_error *err);
/* The model at path reads the text; the matrix goes to out, whole or not at all (formats/imatrix.h). name is the model's, for sentences. With a line
 * of progress, Ctrl-C, and a word on stderr on experts that few tokens chose. */
fs_status fs_calibrate(const char *path, const char *name, const char *text, int n_threads, const char *out, fs_error *err);

#endif
