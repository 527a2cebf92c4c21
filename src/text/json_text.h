/* JSON as spans of its own text, for what is shown to a model or read from it: no tree, so numbers keep their digits,
 * strings are counted and the order of the members stays. RFC 8259 exactly; a surrogate that stands alone is an error. A key
 * given twice stays twice. */
#ifndef FS_TEXT_JSON_TEXT_H
#define FS_TEXT_JSON_TEXT_H

#include "base/mem.h"

#define FS_JSON_TEXT_DEPTH_MAX 64

/* All of text is one value with white space around it; *ret_value (or NULL) is the value without it. */
bool fs_json_text_valid(fs_bytes text, fs_bytes *ret_value);

/* Walks the members of an object or the elements of an array; init is false when text (trusted to be valid, as
 * fs_json_text_valid gave it) is neither. ret_key is the key with its quotes, empty in an array. */
typedef struct fs_json_walk {
    fs_bytes text;
    size_t at;
    bool object;
} fs_json_walk;
bool fs_json_walk_init(fs_json_walk *w, fs_bytes text);
bool fs_json_walk_next(fs_json_walk *w, fs_bytes *ret_key, fs_bytes *ret_value);
/* The value of the first member that is named so; false: none, or not an object. */
bool fs_json_text_member(fs_bytes object, const char *name, fs_bytes *ret_value);

/* Appends the text that a string value (with its quotes) means. */
fs_status fs_json_text_unquote(fs_bytes string, fs_buf *out, fs_error *err);

/* Appends a valid value as Python's json.dumps(ensure_ascii=False) spells it: ", " and ": " between, numbers with a
 * point or an exponent, or beyond 64 bits, as the shortest text of their double. FS_JSON_TEXT_RUST spells small
 * numbers as Rust's serde_json does: 0.00001 and 1e-7, not 1e-05 and 1e-07. */
enum { FS_JSON_TEXT_RUST = 1 };
fs_status fs_json_text_respell(fs_bytes value, unsigned flags, fs_buf *out, fs_error *err);
/* Appends text (UTF-8) as a JSON string, spelled the same way. */
fs_status fs_json_text_quote(fs_bytes text, fs_buf *out, fs_error *err);

#endif
