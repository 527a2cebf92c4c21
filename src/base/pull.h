/* A reader of large JSON that stores nothing: headers of safetensors, their index, the vocabulary and the merges of a
 * tokenizer.json are read with it, small files by base/json.h. One pass, no recursion. */
#ifndef FS_BASE_PULL_H
#define FS_BASE_PULL_H

#include "base/mem.h"

typedef struct fs_pull {
    fs_bytes text;
    size_t at;
    const char *what; /* names the source in sentences */
    fs_buf scratch;   /* strings with escapes are decoded here */
} fs_pull;

void fs_pull_done(fs_pull *p);
/* The next byte that is not white space, not consumed; 0 at the end. */
uint8_t fs_pull_peek(fs_pull *p);
/* Consumes c, after white space. */
fs_status fs_pull_expect(fs_pull *p, char c, fs_error *err);
/* For loops over members or items, after '{' or '[': *ret_more tells whether another one follows (its comma is
 * consumed) or `close` was (then it is consumed). *n counts, from 0. */
fs_status fs_pull_more(fs_pull *p, char close, size_t *n, bool *ret_more, fs_error *err);
/* A string, valid UTF-8 not checked, surrogate escapes joined (a lone one becomes U+FFFD). Borrowed until the next
 * string. */
fs_status fs_pull_string(fs_pull *p, fs_bytes *ret, fs_error *err);
fs_status fs_pull_key(fs_pull *p, fs_bytes *ret, fs_error *err); /* a string and ':' */
fs_status fs_pull_int(fs_pull *p, int64_t *ret, fs_error *err);
/* Steps over one value of any kind; *ret is its text. Brackets are matched to a depth of 64, the rest is not
 * checked. */
fs_status fs_pull_skip(fs_pull *p, fs_bytes *ret, fs_error *err);

#endif
