/* TensorBoard's event files: scalars only. A file is records of
 *
 *   u64 n, u32 crc(n), n bytes, u32 crc(bytes)      little-endian; crc: CRC-32C rotated right by 15 plus 0xa282ead8
 *
 * each holding an Event of protocol buffers: wall_time (1, double), step (2, int64), file_version (3, string, in the first
 * one) or summary (5) with values (1) of tag (1, string) and simple_value (2, float). Source: tensorflow/core/util/event.proto,
 * tensorflow/core/lib/io/record_writer. */
#ifndef FS_TRAIN_EVENTS_H
#define FS_TRAIN_EVENTS_H

#include "base/mem.h"

/* wall: seconds since 1970. */
fs_status fs_events_begin(fs_buf *out, double wall, fs_error *err);
/* One event with n values. */
fs_status fs_events_put(fs_buf *out, double wall, uint64_t step, const char *const *tags, const double *values, size_t n, fs_error *err);

#endif
