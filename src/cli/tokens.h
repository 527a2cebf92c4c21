/* Opening the tokenizer of what a command line names, for commands that need no weights. */
#ifndef FS_CLI_TOKENS_H
#define FS_CLI_TOKENS_H

#include "base/json.h"
#include "text/chat_template.h"

/* name: a MODEL (folder with tokenizer.json or a GGUF; .gguf file; Hub id), a tokenizer.json, or a .tiktoken rank file,
 * which is taken with Qwen2's split expression, NFC, and <|endoftext|>, <|im_start|>, <|im_end|> after the last rank.
 * ret_config, if not NULL, gets what the files say about chats (fs_chat_config_done). */
fs_status fs_tokens_open(const char *name, fs_tokenizer **ret, fs_chat_config *ret_config, fs_error *err);

/* The JSON object on stdin. */
fs_status fs_tokens_read_request(struct json_object **ret, fs_error *err);
/* The bytes of text up to the next separator of ids, at most 20: what a sentence shows of something that is no id. */
int fs_tokens_word_bytes(const char *text);
/* Appends "[1,2,3]". */
fs_status fs_tokens_write_ids(fs_buf *out, const int32_t *ids, size_t n, fs_error *err);

#endif
