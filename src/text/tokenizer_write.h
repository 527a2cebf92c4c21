/* A vocabulary with its merges as a tokenizer.json and tokenizer_config.json, as Hugging Face tokenizers and transformers read them. */
#ifndef FS_TEXT_TOKENIZER_WRITE_H
#define FS_TEXT_TOKENIZER_WRITE_H

#include "text/vocab.h"

typedef struct fs_tokenizer_form {
    const char *pre;    /* how text is cut, normalised: a name of tokenizer.ggml.pre ("gpt-2", "llama-bpe", "qwen2", "deepseek-v3", ...) */
    bool single_digits; /* every digit is a piece by itself */
    fs_bytes bos, eos;  /* special tokens of the vocabulary; data NULL: none. bos stands before every text */
} fs_tokenizer_form;

/* Appends the file's text; FS_ERR_UNSUPPORTED for an unknown f->pre. Raw entries are special tokens; merges are those pushed into v, sealed or not, in their order. */
fs_status fs_tokenizer_write_json(const fs_vocab *v, const fs_tokenizer_form *f, fs_buf *out, fs_error *err);
fs_status fs_tokenizer_write_config(const fs_tokenizer_form *f, fs_buf *out, fs_error *err);

#endif
