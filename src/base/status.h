/* Status codes and the one sentence that goes with a failure.
 *
 * Whatever comes from a file, a peer or the machine fails with an fs_status and a sentence that names the
 * thing and the numbers; a wrong argument from our own code is a bug and asserts. */
#ifndef FS_BASE_STATUS_H
#define FS_BASE_STATUS_H

#include "farseek.h" /* fs_status, fs_error: the public part */

#include <stdarg.h>

/* Fills *err (NULL is fine) with code and the formatted sentence; returns code. A sentence longer than
 * fs_error.message is cut at a character boundary; control characters become '?'. */
fs_status fs_fail(fs_error *err, fs_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

fs_status fs_fail_va(fs_error *err, fs_status code, const char *format, va_list ap);

/* Same, then appends ": " and strerror(saved_errno). */
fs_status fs_fail_errno(fs_error *err, int saved_errno, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the sentence already in *err; returns err->code. */
fs_status fs_fail_prefix(fs_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Makes the sentence in *err, if err is not NULL, name the file or folder at path: it goes before a sentence in which it does
 * not stand, there in place of the path's last part. */
void fs_fail_in(fs_error *err, const char *path);

/* The out-of-memory sentence, with the number of bytes asked for. */
fs_status fs_fail_memory(fs_error *err, size_t n_bytes);

#endif
