/* Between weights.c, weights_open.c and weights_index.c. */
#ifndef FS_FORMATS_WEIGHTS_IMPL_H
#define FS_FORMATS_WEIGHTS_IMPL_H

#include "base/file.h"
#include "formats/safetensors.h"
#include "formats/weights.h"

#define FS_SHARDS_MAX 4096

/* One mapped file; either safetensors or gguf is open. */
typedef struct fs_weights_part {
    char *name;
    fs_map map;
    fs_safetensors *safetensors;
    fs_gguf *gguf;
} fs_weights_part;

struct fs_weights {
    char *folder;
    fs_config config;
    bool in_memory; /* what config holds is another's */
    fs_weights_part *parts;
    size_t n_parts, parts_capacity;
    fs_tensor *tensors; /* names belong to the parts, or are in names */
    size_t n_tensors;
    char *names;
};

/* weights.c: by name, where each may be there once. */
fs_status fs_weights_sort(fs_weights *w, fs_error *err);
fs_tensor *fs_weights_entry(const fs_weights *w, const char *name); /* NULL: absent */
/* weights_open.c: folder/name as one more part. */
fs_status fs_weights_add_safetensors(fs_weights *w, const char *name, fs_error *err);
fs_status fs_weights_read_in_folder(const fs_weights *w, const char *name, size_t max_bytes, fs_buf *ret, fs_error *err);
/* weights_index.c: every shard that model.safetensors.index.json names as a part; index and shards agree on every tensor. */
fs_status fs_weights_open_index(fs_weights *w, fs_error *err);

#endif
