/* A conversation through a model's own chat template, which the interpreter runs (text/jinja.h), as text and as tokens:
 * special tokens and the tokenizer's other added tokens are found only in what the template itself wrote, so nobody's
 * words become a marker. And what stands beside a model's weights about its chats. ../docs/chat.md. */
#ifndef FS_TEXT_CHAT_TEMPLATE_H
#define FS_TEXT_CHAT_TEMPLATE_H

#include "text/chat.h"
#include "text/jinja.h"

/* What tokenizer_config.json and chat_template.jinja say, or a GGUF's metadata. Zeroed is empty and valid. */
typedef struct fs_chat_config {
    fs_buf source;           /* of the chat template; empty: none */
    struct json_object *own; /* {"bos_token": "...", "eos_token": "...", ...}: what a template may count on; NULL: nothing */
    int add_bos;             /* 1, 0; -1: not said */
} fs_chat_config;

/* chat_template.jinja, else tokenizer_config.json's chat_template, which is a string or a list of named ones, then the one
 * named default; members of tokenizer_config.json that end in _token and are a string, or an object with its content. */
fs_status fs_chat_config_read(const char *folder, fs_chat_config *ret, fs_error *err);
/* tokenizer.chat_template, and the texts of tokenizer.ggml's bos, eos, unknown and padding ids. t may be NULL. */
fs_status fs_chat_config_gguf(const fs_gguf *g, const fs_tokenizer *t, fs_chat_config *ret, fs_error *err);
void fs_chat_config_done(fs_chat_config *c);
/* What add_bos_token says of FS_ENCODE_BOS; nothing where it is not said. */
void fs_chat_config_set_bos(const fs_chat_config *c, fs_tokenizer *t);

/* A parsed template. */
typedef struct fs_chat_template fs_chat_template;

/* own as in fs_chat_config, may be NULL; both may go away afterwards. Errors: fs_jinja_parse's. */
fs_status fs_chat_template_open(fs_bytes source, struct json_object *own, fs_chat_template **ret, fs_error *err);
void fs_chat_template_close(fs_chat_template *c);
/* The format whose markup of calls the template shows, as text/parse.h takes it; FS_CHAT_NONE: none that is known. */
fs_chat_format fs_chat_template_calls(const fs_chat_template *c);
/* Renders as fs_chat_render does. The variables are messages, tools, add_generation_prompt, enable_thinking and thinking
 * (both options->thinking), reasoning_effort where it is set, and those of own. now is what strftime_now tells. */
fs_status fs_chat_template_messages(const fs_chat_template *c, const fs_tokenizer *t, const fs_message *messages, size_t n_messages,
                                    const fs_chat_options *options, const struct tm *now, fs_buf *ret_prompt, fs_ids *ret_ids, fs_error *err);

/* request is a JSON object. Its messages, tools and documents are strangers' words; they are passed to the template as
 * they are, absent tools and documents as none. Every other member (add_generation_prompt, enable_thinking, bos_token)
 * becomes a variable that the caller vouches for. Appends to *ret_prompt and, if ret_ids is not NULL, to *ret_ids (then t
 * is needed). now may be NULL: no clock. Errors: fs_jinja_parse's, fs_jinja_render's and fs_tokenizer_encode's. */
fs_status fs_chat_template_render(fs_bytes chat_template, const fs_tokenizer *t, struct json_object *request, const struct tm *now,
                                  fs_buf *ret_prompt, fs_ids *ret_ids, fs_error *err);

#endif
