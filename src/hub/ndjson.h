/* The body of a commit: a JSON object a line, {"key": ..., "value": {...}}. A file's content, which stands in it in base64, is decoded as it
 * arrives and never kept as text; the rest of a line is small. */
#ifndef FS_HUB_NDJSON_H
#define FS_HUB_NDJSON_H

#include "base/json.h"

#define FS_NDJSON_LINE_BYTES_MAX ((size_t)64 << 10) /* without the content */

/* value is a JSON object without what content holds; content.data is NULL where the line has none. */
typedef fs_status fs_ndjson_fn(void *ud, const char *key, struct json_object *value, fs_bytes content, fs_error *err);

typedef struct fs_ndjson {
    fs_ndjson_fn *fn;
    void *ud;
    size_t content_bytes_max, n_lines, n_lines_max;
    /* the state within a line */
    fs_buf text, content;
    uint64_t objects; /* a bit for every open bracket: whether it is an object's */
    int depth;
    bool in_string, escaped, want_key, in_key, in_content, has_content, in_value;
    char key[16], outer[16]; /* the last key of the innermost object, and of the line */
    size_t n_key;
    uint32_t bits;
    int n_bits, n_padding;
} fs_ndjson;

void fs_ndjson_init(fs_ndjson *n, size_t content_bytes_max, size_t n_lines_max, fs_ndjson_fn *fn, void *ud);
/* The next bytes, in any pieces. */
fs_status fs_ndjson_feed(fs_ndjson *n, const void *data, size_t n_bytes, fs_error *err);
fs_status fs_ndjson_end(fs_ndjson *n, fs_error *err); /* the last line needs no line end */
void fs_ndjson_done(fs_ndjson *n);

#endif
