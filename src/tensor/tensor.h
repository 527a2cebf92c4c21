/* A named view of stored weights. It borrows its bytes from the map of a file. */
#ifndef FS_TENSOR_TENSOR_H
#define FS_TENSOR_TENSOR_H

#include "tensor/dtype.h"

#define FS_TENSOR_DIMS_MAX 4

typedef struct fs_tensor {
    const char *name; /* the Hub's name, whatever the file calls it; NUL-terminated */
    fs_dtype dtype;
    int n_dims;
    uint64_t dims[FS_TENSOR_DIMS_MAX]; /* row-major, dims[n_dims-1] is contiguous: a linear is [out, in] */
    const uint8_t *data;
    size_t n_bytes;
    /* Block-scaled formats: scale of element [r, c] is scales[r / scale_rows][c / scale_cols], F32 or F8_E8M0, row-major
     * [ceil(out / scale_rows), ceil(in / scale_cols)]; NULL elsewhere. The bytes may be unaligned. */
    const uint8_t *scales;
    fs_dtype scale_dtype;
    uint32_t scale_rows, scale_cols;
    /* GGUF llama files store each head's q and k rows in interleaved rope order; the Hub's order is half-split.
     * > 0: row r of the Hub's tensor, r = head * d + h * d/2 + i, is row head * d + 2 * i + h of data, with
     * d = dims[0] / rope_heads. 0: rows are as stored. */
    uint32_t rope_heads;
} fs_tensor;

uint64_t fs_tensor_rows(const fs_tensor *t); /* product of all dims but the last */
uint64_t fs_tensor_cols(const fs_tensor *t); /* the last dim; 1 for a scalar */
uint64_t fs_tensor_elems(const fs_tensor *t);

/* The stored row that holds the Hub's row. */
uint64_t fs_tensor_stored_row(const fs_tensor *t, uint64_t row);
const uint8_t *fs_tensor_row_data(const fs_tensor *t, uint64_t row);

/* Scale i, counted row-major, of a tensor that has scales; an F8_E8M0 of 255 is NaN. */
float fs_tensor_scale(const fs_tensor *t, size_t i);

/* Row row (Hub order) as f32, scales applied: w = fl(q * scale). ret_dst [cols]. */
void fs_tensor_row_f32(const fs_tensor *t, uint64_t row, float *ret_dst);
/* The n elements of the row from column col on; both are multiples of the block. */
void fs_tensor_part_f32(const fs_tensor *t, uint64_t row, size_t col, size_t n, float *ret_dst);

/* Orders of a list of fs_tensor, for qsort and bsearch: by name bytes; by where the data lies, shorter first. */
int fs_tensor_by_name(const void *a, const void *b);
int fs_tensor_by_place(const void *a, const void *b);

#endif
