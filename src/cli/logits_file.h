/* A file of logits, so that a large model answers once for many comparisons (farseek perplexity --save-logits, --kl).
 *
 *   OFFSET  SIZE       MEANING, all little-endian
 *   0       8          "FSLOGIT1"
 *   8       4          v, the vocabulary
 *   12      4          ctx, tokens of a window
 *   16      4          first, the row of a window where the stored ones begin; they end at ctx - 2
 *   20      4          stride, tokens from one window to the next
 *   24      4          n, windows
 *   28      4          0
 *   32      4 n_ids    the text's tokens, i32: n_ids = (n - 1) * stride + ctx
 *   ...                rows of v f32, window by window: row r of a window foretells its token r + 1 */
#ifndef FS_CLI_LOGITS_FILE_H
#define FS_CLI_LOGITS_FILE_H

#include "base/writer.h"

typedef struct fs_windows {
    uint32_t ctx, first, stride, n;
} fs_windows;

/* Tokens that the windows cover, and the rows that are kept of all of them. */
size_t fs_windows_n_ids(const fs_windows *w);
size_t fs_windows_n_rows(const fs_windows *w);

bool fs_logits_file_is(const char *path);
/* Everything before the rows. */
fs_status fs_logits_file_begin(fs_writer *out, uint32_t v, const fs_windows *w, const int32_t *ids, fs_error *err);
/* The rows of a mapped file, which must be about the same windows of the same tokens; it may hold more windows. */
fs_status fs_logits_file_rows(fs_bytes file, const char *path, uint32_t v, const fs_windows *w, const int32_t *ids,
                              const float **ret_rows, fs_error *err);

#endif
