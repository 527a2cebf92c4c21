/* Rows of stored weights into another storage type, all threads on each tensor, a bounded number of rows at a time. */
#ifndef FS_FORMATS_ENCODE_H
#define FS_FORMATS_ENCODE_H

#include "base/pool.h"
#include "tensor/tensor.h"

typedef struct fs_encoder fs_encoder;

/* For rows of at most max_cols elements. Borrows the pool. */
fs_status fs_encoder_new(fs_pool *pool, size_t max_cols, fs_encoder **ret, fs_error *err);
void fs_encoder_free(fs_encoder *e);

typedef fs_status fs_encode_sink(void *ud, const void *data, size_t n_bytes, fs_error *err);

/* Every row of t, in order, as dtype (quantize.h) to the sink. rope_heads > 0: each head's rows leave in interleaved
 * order, as GGUF has them. w [cols] or NULL: weights of the columns. FS_ERR_NUMERIC, with name, for a number that is not
 * finite or, in block formats and F16, above 65504. */
fs_status fs_encode_rows(fs_encoder *e, const char *name, const fs_tensor *t, uint32_t rope_heads, fs_dtype dtype, const float *w,
                         fs_encode_sink *sink, void *ud, fs_error *err);
/* The same check of a row that the caller encodes. */
fs_status fs_encode_check(const char *name, const float *row, size_t n, fs_dtype dtype, fs_error *err);

#endif
