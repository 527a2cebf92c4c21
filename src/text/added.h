/* Added tokens: texts that are found before anything else happens, leftmost first and of those the longest.
 *
 * Source: huggingface/tokenizers, added_vocabulary: tokens with normalized=false are looked for in the text itself,
 * the others (their own text normalised) in what the normaliser made of the rest. */
#ifndef FS_TEXT_ADDED_H
#define FS_TEXT_ADDED_H

#include "base/mem.h"

#define FS_ADDED_BYTES_MAX 4096 /* of one added token's text */

typedef struct fs_added_token {
    int32_t id;
    bool special, single_word, lstrip, rstrip;
} fs_added_token;

/* A trie over bytes. Zeroed is empty and valid. */
typedef struct fs_added {
    fs_added_token *tokens;
    size_t n_tokens, tokens_capacity;
    struct fs_added_node *nodes;
    size_t n_nodes, nodes_capacity;
    uint32_t first[256]; /* root's children by byte, 0: none */
} fs_added;

void fs_added_done(fs_added *a);
/* A text added twice keeps the later token. */
fs_status fs_added_add(fs_added *a, fs_bytes text, fs_added_token token, fs_error *err);

/* The next added token in text at byte `from` or later. Special ones are stepped over unless `special`. The match
 * [*ret_begin, *ret_end) includes the white space that lstrip and rstrip take, never before `from`. Returns NULL
 * when there is none. */
const fs_added_token *fs_added_find(const fs_added *a, fs_bytes text, size_t from, bool special, size_t *ret_begin, size_t *ret_end);
/* The token whose text is exactly this, or NULL. */
const fs_added_token *fs_added_exact(const fs_added *a, fs_bytes text);

#endif
