/* The tokenizer's inside, shared by its readers (tokenizer_json.c, tokenizer_gguf.c, tokenizer_tiktoken.c), tokenizer_convert.c, the
 * encoder (tokenizer.c) and the decoder (detok.c). Nobody else includes this. */
#ifndef FS_TEXT_TOKENIZER_IMPL_H
#define FS_TEXT_TOKENIZER_IMPL_H

#include "text/added.h"
#include "text/bpe.h"
#include "text/split.h"
#include "text/tokenizer.h"

#include <stdatomic.h>

#define FS_TOKENIZER_BOS_MAX 4

struct fs_tokenizer {
    fs_vocab vocab;
    fs_bpe_options bpe;
    bool ignore_merges;    /* a piece that is a token is that token, whatever the merges say */
    bool nfc;
    fs_split split;
    fs_added raw, normalized; /* added tokens to be found before and after the normaliser */
    int32_t bos[FS_TOKENIZER_BOS_MAX];
    size_t n_bos;
    /* Whether merging a token's own bytes gives that token alone: 0 not known yet, 1 yes, 2 no. Most words are such
     * tokens, and then one look-up replaces the merging. Threads may find it out twice; the answer is the same. */
    _Atomic uint8_t *whole;
};

fs_status fs_tokenizer_new(fs_tokenizer **ret, fs_error *err);
/* An added token: its text to the vocabulary (kept as it is when the model has the same) and to the trie. */
fs_status fs_tokenizer_add(fs_tokenizer *t, fs_bytes text, fs_added_token token, bool normalized, fs_error *err);
/* The last step of every reader. */
fs_status fs_tokenizer_seal(fs_tokenizer *t, fs_error *err);
/* *ret_text is the NFC of valid UTF-8 text: text itself when that is so already, else the bytes of *storage. */
fs_status fs_tokenizer_nfc(fs_bytes text, fs_buf *storage, fs_bytes *ret_text, fs_error *err);

/* What tokenizer.ggml.token_type says of an id. */
enum { FS_TOKEN_NORMAL = 1, FS_TOKEN_UNKNOWN = 2, FS_TOKEN_CONTROL = 3, FS_TOKEN_USER_DEFINED = 4, FS_TOKEN_UNUSED = 5, FS_TOKEN_BYTE = 6 };

/* A name of tokenizer.ggml.pre and the tokenizer.json behind it; the table is in tokenizer_gguf.c. */
#define FS_PRE_STEPS_MAX 7
typedef struct fs_pre {
    const char *names; /* each with a space before and behind */
    bool ignore_merges, nfc, add_bos;
    const char *steps[FS_PRE_STEPS_MAX]; /* NULL after the last */
} fs_pre;
fs_status fs_pre_find(fs_bytes name, const fs_pre **ret, fs_error *err);
/* The entry with exactly these expressions, or NULL. */
const fs_pre *fs_pre_match(const fs_bytes *steps, size_t n_steps, bool ignore_merges, bool nfc);

/* GPT-2's own split expression, which the ByteLevel step applies unless told otherwise. */
extern const char fs_split_gpt2[];

#endif
