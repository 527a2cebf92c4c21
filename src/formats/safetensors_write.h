/* Writes a checkpoint in the Hub's layout: model.safetensors, or shards of a limited size with
 * model.safetensors.index.json. Tensors are declared, then their data is streamed; each file appears whole, and a writer
 * that is closed before its commit removes those it made. Layout: safetensors.h. */
#ifndef FS_FORMATS_SAFETENSORS_WRITE_H
#define FS_FORMATS_SAFETENSORS_WRITE_H

#include "tensor/tensor.h"

typedef struct fs_safetensors_writer fs_safetensors_writer;

/* shard_bytes_max: of a file's data; a larger tensor gets a file of its own. 0: one file. */
fs_status fs_safetensors_writer_new(const char *folder, uint64_t shard_bytes_max, fs_safetensors_writer **ret, fs_error *err);
void fs_safetensors_writer_close(fs_safetensors_writer *w);
fs_status fs_safetensors_writer_add(fs_safetensors_writer *w, const char *name, fs_dtype dtype, int n_dims, const uint64_t *dims,
                                    fs_error *err);
/* Plans the shards; nothing can be declared any more. */
fs_status fs_safetensors_writer_begin(fs_safetensors_writer *w, fs_error *err);
/* Which tensor, counted as declared, is to be written next; the number of tensors when all are. Within a file the
 * widest elements come first, so that every tensor is aligned to its elements. */
size_t fs_safetensors_writer_next(const fs_safetensors_writer *w);
/* The next bytes of that tensor, in pieces of any size; none may reach over its end. */
fs_status fs_safetensors_writer_write(fs_safetensors_writer *w, const void *data, size_t n, fs_error *err);
fs_status fs_safetensors_writer_commit(fs_safetensors_writer *w, fs_error *err);

#endif
