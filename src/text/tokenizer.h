/* Byte-level BPE, driven wholly by the file: tokenizer.json (Hugging Face tokenizers) or GGUF metadata.
 *
 * Encoding: added tokens split the text (special ones only when asked for), the normaliser runs on the rest, the
 * Split regexes cut it into pieces in sequence, each piece becomes bytes in the GPT-2 alphabet, and merges apply by
 * rank, leftmost first. Source: huggingface/tokenizers, models/bpe, pre_tokenizers/split, added_vocabulary. */
#ifndef FS_TEXT_TOKENIZER_H
#define FS_TEXT_TOKENIZER_H

#include "formats/gguf.h"
#include "text/ids.h"
#include "text/split.h"

typedef struct fs_tokenizer fs_tokenizer;

fs_status fs_tokenizer_open_json(fs_bytes json, const char *what, fs_tokenizer **ret, fs_error *err);
/* qwen.tiktoken-like rank files: "base64 rank" lines, with the split regex, the normaliser and the special tokens
 * given; used by tests (the qwen2 oracle ships no tokenizer.json). specials get the ids after the last rank, in order. */
fs_status fs_tokenizer_open_tiktoken(fs_bytes ranks, const char *split_regex, bool nfc, const char *const *specials,
                                     size_t n_specials, const char *what, fs_tokenizer **ret, fs_error *err);
/* tokenizer.ggml.*; the split regexes of tokenizer.ggml.pre are those llama.cpp knows by that name. Copies what it
 * keeps: g may be closed afterwards. */
fs_status fs_tokenizer_open_gguf(const fs_gguf *g, const char *what, fs_tokenizer **ret, fs_error *err);
void fs_tokenizer_close(fs_tokenizer *t);

/* Ids are in [0, fs_tokenizer_n_ids); an id may be a hole with no text. */
size_t fs_tokenizer_n_ids(const fs_tokenizer *t);
/* -1 when no token has exactly this text (for added tokens) or these bytes. */
int32_t fs_tokenizer_id(const fs_tokenizer *t, fs_bytes content);
bool fs_tokenizer_is_special(const fs_tokenizer *t, int32_t id);
/* The bytes an id stands for (added tokens: their text). Borrowed. */
fs_bytes fs_tokenizer_bytes(const fs_tokenizer *t, int32_t id);

/* What FS_ENCODE_BOS puts first, when another file than the tokenizer's says so (tokenizer_config.json's
 * add_bos_token); -1: nothing. Not while other threads encode. */
void fs_tokenizer_set_bos(fs_tokenizer *t, int32_t id);

enum {
    FS_ENCODE_SPECIAL = 1, /* special tokens spelled in the text become those tokens; without it they are text.
                              Non-special added tokens always split. */
    FS_ENCODE_PLAIN = 4,   /* no added token splits at all: some files hold a format's markers as non-special ones
                              (DeepSeek's <｜User｜>), which nobody's words may become. Beats FS_ENCODE_SPECIAL. */
    FS_ENCODE_BOS = 2      /* what the file's post-processor / add_bos_token says about a first token */
};
/* Appends to *ids. Bytes that are not UTF-8 are replaced by U+FFFD, as HF does. Thread-safe (scratch is local).
 * FS_ERR_ARGUMENT never; FS_ERR_MEMORY; FS_ERR_FORMAT when a regex runs into its step limit. */
fs_status fs_tokenizer_encode(const fs_tokenizer *t, fs_bytes text, unsigned flags, fs_ids *ids, fs_error *err);

/* Text whose bytes are known as the caller's own (0) or somebody's words (1), byte by byte in foreign: added tokens,
 * special or not, are found only within runs of own bytes; everything between two of them is encoded in one piece with
 * FS_ENCODE_PLAIN. text must be UTF-8. Errors as fs_tokenizer_encode's. */
fs_status fs_tokenizer_encode_marked(const fs_tokenizer *t, fs_bytes text, const uint8_t *foreign, fs_ids *ids, fs_error *err);

/* The pieces that merging works on: what the normaliser and the split expressions make of text, in order; added tokens in it
 * are not looked for. Zeroed but for the tokenizer; one thread at a time. */
typedef struct fs_pieces {
    const fs_tokenizer *tokenizer;
    fs_regex_scratch regex;
    fs_buf repaired, normalized;
} fs_pieces;
void fs_pieces_done(fs_pieces *p);
fs_status fs_pieces_of(fs_pieces *p, fs_bytes text, fs_split_fn *fn, void *ud, fs_error *err);

/* Whole-text decoding: bytes of all ids (special ones skipped when skip_special), invalid UTF-8 replaced by U+FFFD. */
fs_status fs_tokenizer_decode(const fs_tokenizer *t, const int32_t *ids, size_t n, bool skip_special, fs_buf *out, fs_error *err);

/* Streaming: emits only whole characters; the same text as fs_tokenizer_decode after fs_detok_flush. */
typedef struct fs_detok {
    const fs_tokenizer *tokenizer;
    uint8_t pending[4];
    size_t n_pending;
    bool skip_special;
} fs_detok;
fs_status fs_detok_push(fs_detok *d, int32_t id, fs_buf *out, fs_error *err);
fs_status fs_detok_flush(fs_detok *d, fs_buf *out, fs_error *err);

#endif
