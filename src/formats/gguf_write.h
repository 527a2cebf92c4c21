/* Writes one GGUF file of version 3 (layout: gguf.h): values and tensors are declared, then the data is streamed in the
 * order of declaration. The file appears at commit, whole. */
#ifndef FS_FORMATS_GGUF_WRITE_H
#define FS_FORMATS_GGUF_WRITE_H

#include "formats/gguf.h"

#define FS_GGUF_ALIGNMENT 32

typedef struct fs_gguf_writer fs_gguf_writer;

fs_status fs_gguf_writer_new(const char *path, fs_gguf_writer **ret, fs_error *err);
/* Removes what was written, unless it was committed. */
void fs_gguf_writer_close(fs_gguf_writer *w);

/* A key is given once. */
fs_status fs_gguf_put_u32(fs_gguf_writer *w, const char *key, uint32_t v, fs_error *err);
fs_status fs_gguf_put_f32(fs_gguf_writer *w, const char *key, float v, fs_error *err);
fs_status fs_gguf_put_bool(fs_gguf_writer *w, const char *key, bool v, fs_error *err);
fs_status fs_gguf_put_string(fs_gguf_writer *w, const char *key, fs_bytes v, fs_error *err);
/* An array: its items follow by fs_gguf_put_item (strings), _i32 or _f32, exactly n of them. */
fs_status fs_gguf_put_array(fs_gguf_writer *w, const char *key, fs_gguf_type item_type, uint64_t n, fs_error *err);
fs_status fs_gguf_put_item(fs_gguf_writer *w, fs_bytes v, fs_error *err);
fs_status fs_gguf_put_item_i32(fs_gguf_writer *w, int32_t v, fs_error *err);
fs_status fs_gguf_put_item_f32(fs_gguf_writer *w, float v, fs_error *err);

/* A value as another file has it, key and all. */
fs_status fs_gguf_put_value(fs_gguf_writer *w, const fs_gguf_value *v, fs_error *err);

/* dims row-major, as everywhere here; the dtype must be one that GGUF has. */
fs_status fs_gguf_put_tensor(fs_gguf_writer *w, const char *name, fs_dtype dtype, int n_dims, const uint64_t *dims, fs_error *err);
uint64_t fs_gguf_writer_data_bytes(const fs_gguf_writer *w);

/* The header, with the padding behind it, as it will stand at the front of the file: a reader may check it, given as
 * many bytes of data as fs_gguf_writer_data_bytes says. Appended to *ret. */
fs_status fs_gguf_writer_header(const fs_gguf_writer *w, fs_buf *ret, fs_error *err);
/* Opens the file and writes the header; nothing can be declared any more. */
fs_status fs_gguf_writer_begin(fs_gguf_writer *w, fs_error *err);
/* The next bytes of the tensors' data, in pieces of any size that may span tensors; padding between them is added. */
fs_status fs_gguf_writer_write(fs_gguf_writer *w, const void *data, size_t n, fs_error *err);
/* Every tensor's bytes must have been written. */
fs_status fs_gguf_writer_commit(fs_gguf_writer *w, fs_error *err);

#endif
