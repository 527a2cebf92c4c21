/* JSON, thin over json-c: strict parsing (but single quotes, control characters in strings, NaN and Infinity pass:
 * numbers are checked when they are read) of one value with a depth limit, and typed look-ups that fail with a
 * sentence. Strings are counted, so U+0000 survives; integers are 64 bit. */
#ifndef FS_BASE_JSON_H
#define FS_BASE_JSON_H

#include "base/mem.h"

#include <json-c/json.h>

#define FS_JSON_DEPTH_MAX      64
#define FS_JSON_TREE_BYTES_MAX ((size_t)48 << 20)

/* Parses all of text (trailing white space allowed). what names the source in the sentence. Free the result with
 * json_object_put. Text whose values would take over FS_JSON_TREE_BYTES_MAX is refused: large data is for base/pull.h. */
fs_status fs_json_parse(fs_bytes text, const char *what, struct json_object **ret, fs_error *err);

/* Refuses what json-c drops silently: a key given twice in one object (only the last stays) and a key with U+0000
 * (cut there). text and root are those of fs_json_parse. */
fs_status fs_json_check_keys(fs_bytes text, struct json_object *root, const char *what, fs_error *err);

/* Member look-up: *ret is untouched and FS_OK returned when key is absent or null; a wrong type, or a number out
 * of [min, max], fails and names the key. *ret strings are borrowed from obj. ret_found may be NULL. */
fs_status fs_json_int(struct json_object *obj, const char *key, int64_t min, int64_t max, int64_t *ret, bool *ret_found, fs_error *err);
fs_status fs_json_double(struct json_object *obj, const char *key, double *ret, bool *ret_found, fs_error *err);
fs_status fs_json_bool(struct json_object *obj, const char *key, bool *ret, bool *ret_found, fs_error *err);
fs_status fs_json_string(struct json_object *obj, const char *key, fs_bytes *ret, bool *ret_found, fs_error *err);
/* NULL when absent or null. */
struct json_object *fs_json_member(struct json_object *obj, const char *key);

/* Appends text as a JSON string with quotes; bytes that are not UTF-8 become U+FFFD. */
fs_status fs_json_quote(fs_buf *out, fs_bytes text, fs_error *err);

#endif
