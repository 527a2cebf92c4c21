/* GGUF version 3 (and 2, whose layout is the same): metadata and tensor table of one file, mapped.
 *
 *   OFFSET  SIZE  MEANING
 *   0       4     "GGUF"
 *   4       4     version, u32
 *   8       8     n_tensors, u64
 *   16      8     n_kv, u64
 *   24            n_kv times: key (u64 length, bytes), u32 value type, value
 *                 n_tensors times: name (u64 length, bytes), u32 n_dims, u64 dims[n_dims] (first is contiguous),
 *                 u32 ggml type, u64 offset into the data
 *                 padding to general.alignment (default 32), then the data
 * Everything is little-endian. Source: ggml docs/gguf.md. Refused: counts and lengths beyond the file, arrays of
 * arrays, keys or names that are empty, no UTF-8, hold U+0000 or come twice, tensors that overlap, are not aligned or
 * leave the file, rows that are no multiple of their block, versions other than 2 and 3, big-endian files. */
#ifndef FS_FORMATS_GGUF_H
#define FS_FORMATS_GGUF_H

#include "tensor/tensor.h"

typedef enum fs_gguf_type {
    FS_GGUF_U8, FS_GGUF_I8, FS_GGUF_U16, FS_GGUF_I16, FS_GGUF_U32, FS_GGUF_I32, FS_GGUF_F32, FS_GGUF_BOOL,
    FS_GGUF_STRING, FS_GGUF_ARRAY, FS_GGUF_U64, FS_GGUF_I64, FS_GGUF_F64, FS_GGUF_TYPE_END
} fs_gguf_type;

/* A metadata value; strings and arrays borrow from the map. */
typedef struct fs_gguf_value {
    fs_bytes key;
    fs_gguf_type type;      /* of the value, or ARRAY */
    fs_gguf_type item_type; /* of an array's items */
    uint64_t n_items;       /* of an array */
    fs_bytes bytes;         /* a string's text; an array's encoded items; a scalar's bytes */
} fs_gguf_value;

typedef struct fs_gguf fs_gguf;

/* bytes: the whole file, which must outlive the result. what names it in sentences and is copied. */
fs_status fs_gguf_open(fs_bytes bytes, const char *what, fs_gguf **ret, fs_error *err);
void fs_gguf_close(fs_gguf *g);

const fs_gguf_value *fs_gguf_find(const fs_gguf *g, const char *key);
size_t fs_gguf_n_values(const fs_gguf *g);
const fs_gguf_value *fs_gguf_value_at(const fs_gguf *g, size_t i);

/* Typed reads. Absent: *ret untouched, FS_OK, *ret_found (may be NULL) false. Any integer type serves for an
 * integer, any number for a double. */
fs_status fs_gguf_int(const fs_gguf *g, const char *key, int64_t min, int64_t max, int64_t *ret, bool *ret_found, fs_error *err);
fs_status fs_gguf_double(const fs_gguf *g, const char *key, double *ret, bool *ret_found, fs_error *err);
fs_status fs_gguf_bool(const fs_gguf *g, const char *key, bool *ret, bool *ret_found, fs_error *err);
fs_status fs_gguf_string(const fs_gguf *g, const char *key, fs_bytes *ret, bool *ret_found, fs_error *err);

/* Walks an array of strings: *at starts at 0 and is moved past the string. The table was checked at open, so this
 * cannot fail before n_items strings. */
fs_bytes fs_gguf_next_string(const fs_gguf_value *array, size_t *at);
/* Item i of an array of integers or floats. */
double fs_gguf_number_at(const fs_gguf_value *array, uint64_t i);

/* Tensors under the names of the file, dims already row-major (GGUF's order reversed). */
size_t fs_gguf_n_tensors(const fs_gguf *g);
const fs_tensor *fs_gguf_tensor_at(const fs_gguf *g, size_t i); /* sorted by name bytes */
const fs_tensor *fs_gguf_find_tensor(const fs_gguf *g, const char *name);

#endif
