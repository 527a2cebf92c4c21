/* A conversation through a model's own chat template, which the interpreter runs (text/jinja.h), as text and as tokens:
 * special tokens and the tokenizer's other added tokens are found only in what the template itself wrote, so nobody's
 * words become a marker. ../docs/chat.md. */
#ifndef FS_TEXT_CHAT_TEMPLATE_H
#define FS_TEXT_CHAT_TEMPLATE_H

#include "text/jinja.h"
#include "text/tokenizer.h"

/* Appends the template that stands beside a model's weights: chat_template.jinja, else tokenizer_config.json's
 * chat_template, which is a string or a list of named ones, then the one named default. Nothing when there is none. */
fs_status fs_chat_template_read(const char *folder, fs_buf *ret, fs_error *err);

/* request is a JSON object. Its messages, tools and documents are strangers' words; they are passed to the template as
 * they are, absent tools and documents as none. Every other member (add_generation_prompt, enable_thinking, bos_token)
 * becomes a variable that the caller vouches for. Appends to *ret_prompt and, if ret_ids is not NULL, to *ret_ids (then t
 * is needed). now may be NULL: no clock. Errors: fs_jinja_parse's, fs_jinja_render's and fs_tokenizer_encode's. */
fs_status fs_chat_template_render(fs_bytes chat_template, const fs_tokenizer *t, struct json_object *request, const struct tm *now,
                                  fs_buf *ret_prompt, fs_ids *ret_ids, fs_error *err);

#endif
