/* JSON written as it is said, into a buffer. The first failure stays in rc and what follows is dropped. */
#ifndef FS_HUB_EMIT_H
#define FS_HUB_EMIT_H

#include "base/json.h"

typedef struct fs_emit {
    fs_buf out;
    bool comma;
    fs_status rc;
} fs_emit;

void fs_emit_begin(fs_emit *e, char bracket); /* '{' or '[' */
void fs_emit_end(fs_emit *e, char bracket);   /* '}' or ']' */
void fs_emit_key(fs_emit *e, const char *key);
/* Values; key NULL: an array's item. */
void fs_emit_str(fs_emit *e, const char *key, const char *value); /* NULL: null */
void fs_emit_text(fs_emit *e, const char *key, fs_bytes value);
void fs_emit_int(fs_emit *e, const char *key, int64_t value);
void fs_emit_bool(fs_emit *e, const char *key, bool value);
void fs_emit_null(fs_emit *e, const char *key);
void fs_emit_time(fs_emit *e, const char *key, int64_t unix_ms);
/* Text that is JSON already; NULL: null. */
void fs_emit_json(fs_emit *e, const char *key, const char *json);
void fs_emit_done(fs_emit *e);

#endif
