/* The regular expressions of tokenizer files, run by PCRE2 with JIT.
 *
 * The files are written for Oniguruma. A pattern is translated construct by construct: \s, \d, \w and script names
 * mean slightly different sets in PCRE2 (U+180E, marks, script extensions), possessive {n,m}+ means another thing,
 * $ is an end of line. A construct that the translation does not know is refused by name; nothing is passed
 * through in hope. Source: Oniguruma doc/RE; pcre2pattern(3). */
#ifndef FS_TEXT_REGEX_H
#define FS_TEXT_REGEX_H

#include "base/mem.h"

#define FS_REGEX_BYTES_MAX (1 << 16)

typedef struct fs_regex fs_regex;

/* literal: the pattern is text to be found as it is. */
fs_status fs_regex_compile(fs_bytes pattern, bool literal, fs_regex **ret, fs_error *err);
void fs_regex_free(fs_regex *r);

/* What one thread needs to match; zeroed is valid, made on first use. */
typedef struct fs_regex_scratch {
    struct pcre2_real_match_data_8 *match;
    struct pcre2_real_match_context_8 *context;
    struct pcre2_real_jit_stack_8 *jit_stack;
    int64_t slow_ns_left; /* what starts that backtrack much may still cost, with this scratch */
} fs_regex_scratch;

void fs_regex_scratch_done(fs_regex_scratch *s);
/* n_bytes of text more are to be matched: what that may cost grows with the text. */
void fs_regex_allow(fs_regex_scratch *s, size_t n_bytes);

/* The first match in valid UTF-8 text that starts at byte `from` or later: *ret_found, and then [*ret_begin,
 * *ret_end). FS_ERR_MEMORY; FS_ERR_FORMAT when matching runs into its limit of steps, time or memory. */
fs_status fs_regex_find(const fs_regex *r, fs_bytes text, size_t from, fs_regex_scratch *s, bool *ret_found,
                        size_t *ret_begin, size_t *ret_end, fs_error *err);

#endif
