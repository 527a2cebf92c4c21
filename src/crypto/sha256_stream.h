/* SHA-256 of a long stream on a thread of its own, so that a disk or a network is not kept waiting for it. */
#ifndef FS_CRYPTO_SHA256_STREAM_H
#define FS_CRYPTO_SHA256_STREAM_H

#include "base/status.h"

#include <stddef.h>

typedef struct fs_sha256_stream fs_sha256_stream;

/* The thread starts with the second megabyte; where none can be had, the caller's does it. One caller at a time. */
fs_status fs_sha256_stream_open(fs_sha256_stream **ret, fs_error *err);
/* Copies data; waits while half a megabyte is still to be hashed. */
void fs_sha256_stream_put(fs_sha256_stream *s, const void *data, size_t n_bytes);
/* Writes 64 hex digits and a NUL, and closes. */
void fs_sha256_stream_final_hex(fs_sha256_stream *s, char ret_hex[65]);
void fs_sha256_stream_close(fs_sha256_stream *s); /* s may be NULL */

#endif
