/* A tokenizer's other form: tokenizer.json with tokenizer_config.json, and GGUF metadata. */
#ifndef FS_TEXT_TOKENIZER_CONVERT_H
#define FS_TEXT_TOKENIZER_CONVERT_H

#include "formats/config.h"
#include "formats/gguf_write.h"

/* The tokenizer of a folder as tokenizer.ggml.* and its chat template; nothing when the folder has none. Ids without a
 * token, up to c->vocab_size, become unused tokens "[PAD<id>]". What GGUF cannot express (split expressions that have no
 * name there, tokens that strip white space) is refused. */
fs_status fs_tokenizer_to_gguf(const char *folder, const fs_config *c, fs_gguf_writer *w, fs_error *err);
/* tokenizer.json and tokenizer_config.json into folder; nothing when g has no tokenizer. */
fs_status fs_tokenizer_to_hub(const fs_gguf *g, const fs_config *c, const char *folder, fs_error *err);

#endif
