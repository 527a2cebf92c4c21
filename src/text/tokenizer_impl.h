/* The tokenizer's inside, shared by its readers (tokenizer_json.c, tokenizer_gguf.c, tokenizer_tiktoken.c), the
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

/* GPT-2's own split expression, which the ByteLevel step applies unless told otherwise. */
extern const char fs_split_gpt2[];

#endif
