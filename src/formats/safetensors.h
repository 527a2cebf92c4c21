/* safetensors: u64 header length, JSON header, then the data. One file, mapped.
 * Source: huggingface/safetensors, README. Refused: a header over 100 MB, tensors that overlap, leave holes or
 * end outside the file, sizes that do not match dtype and shape, names twice, more than 4 dims. */
#ifndef FS_FORMATS_SAFETENSORS_H
#define FS_FORMATS_SAFETENSORS_H

#include "tensor/tensor.h"

#define FS_SAFETENSORS_HEADER_BYTES_MAX ((uint64_t)100 * 1000 * 1000)

typedef struct fs_safetensors fs_safetensors;

/* bytes: the whole file, which must outlive the result. */
fs_status fs_safetensors_open(fs_bytes bytes, const char *what, fs_safetensors **ret, fs_error *err);
void fs_safetensors_close(fs_safetensors *s);
size_t fs_safetensors_n_tensors(const fs_safetensors *s);
const fs_tensor *fs_safetensors_tensor_at(const fs_safetensors *s, size_t i); /* sorted by name bytes */
const fs_tensor *fs_safetensors_find(const fs_safetensors *s, const char *name);

#endif
