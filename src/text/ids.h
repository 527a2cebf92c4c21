/* A growing list of token ids. Zeroed is empty and valid. */
#ifndef FS_TEXT_IDS_H
#define FS_TEXT_IDS_H

#include "base/mem.h"

typedef struct fs_ids {
    int32_t *data;
    size_t n, capacity;
} fs_ids;

void fs_ids_done(fs_ids *l);
fs_status fs_ids_push(fs_ids *l, int32_t id, fs_error *err);
fs_status fs_ids_append(fs_ids *l, const int32_t *ids, size_t n, fs_error *err);

#endif
