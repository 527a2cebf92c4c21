/* Records as tokens, each with whether it is to be learnt.
 *
 * A document is learnt whole, with the end token behind it. Of a conversation the model's replies are learnt: each is what
 * the chat format makes the model say, up to and with the marker that ends it, behind the prompt that it would get. Where a
 * later prompt goes on from an earlier reply, the turns are one sample; where it does not (a format that drops earlier reasoning), the
 * later turn begins a sample of its own. A problem is a conversation of prompt and trace with answer where there is a chat
 * format; without one it is prompt, trace with answer, end token, encoded apart, as it is when a model is asked.
 * No word of a record becomes a special token, but the marks in traces and answers of problems when that is asked for. */
#ifndef FS_DATA_TOKENS_H
#define FS_DATA_TOKENS_H

#include "data/records.h"
#include "text/chat_template.h"

typedef struct fs_token_form {
    const fs_tokenizer *tokenizer;
    fs_chat_format format;              /* FS_CHAT_NONE: no conversations */
    const fs_chat_template *template;   /* of FS_CHAT_TEMPLATE */
    bool bos;                           /* documents, and problems without a chat format, start with what the tokenizer puts first */
    int32_t eos;                        /* their end token; -1: none */
    bool thinking;                      /* of the chat format */
    bool marks;                         /* special tokens spelled in a problem's trace or answer are those tokens; not with a chat format */
} fs_token_form;

/* learn[i]: the token is to be foretold. */
typedef fs_status fs_sample_fn(void *ud, const int32_t *ids, const uint8_t *learn, size_t n, fs_error *err);
/* Calls fn for the samples of a record, usually one. what and line name the record in sentences. */
fs_status fs_data_record_tokens(const fs_token_form *f, const fs_data_record *r, const char *what, size_t line, fs_sample_fn *fn, void *ud, fs_error *err);

#endif
