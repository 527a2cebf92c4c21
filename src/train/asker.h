/* Turns a question into a model's prompt: through the chat format of the files beside its tokenizer, or where there is none as the text itself. */
#ifndef FS_TRAIN_ASKER_H
#define FS_TRAIN_ASKER_H

#include "text/chat_template.h"

typedef struct fs_asker {
    fs_tokenizer *tokenizer; /* borrowed */
    fs_chat_config config;
    fs_chat_template *template;
    fs_chat_format format;
    bool thinking;
} fs_asker;

/* folder: of the tokenizer's files. format: a chat format's name; NULL: what the files say. What they say of a first token goes for tokenizer too. On
 * failure fs_asker_close is still due. */
fs_status fs_asker_open(fs_asker *a, const char *folder, fs_tokenizer *tokenizer, const char *format, bool thinking, fs_error *err);
void fs_asker_close(fs_asker *a);
/* Appends the prompt's ids; of the type that suite.h wants, ud is the asker. */
fs_status fs_asker_ask(void *ud, fs_bytes question, fs_ids *ret, fs_error *err);

#endif
