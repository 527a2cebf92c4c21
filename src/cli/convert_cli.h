/* What convert and quantize share: names, the line of progress, a folder that appears whole. */
#ifndef FS_CLI_CONVERT_CLI_H
#define FS_CLI_CONVERT_CLI_H

#include "cli/work.h"
#include "formats/convert.h"

typedef struct fs_convert_progress {
    fs_work work;
    bool no_tokenizer;
    const fs_weights *weights;
} fs_convert_progress;

bool fs_convert_is_gguf_name(const char *path);
/* Sets o->metadata, o->progress and o->ud; catches Ctrl-C. */
void fs_convert_progress_start(fs_convert_progress *p, const fs_weights *w, bool no_tokenizer, fs_convert_options *o);
void fs_convert_progress_end(const fs_convert_progress *p);

/* Calls make for a folder beside out, which takes out's name when make succeeds and goes away when it fails. */
typedef fs_status fs_convert_make(void *ud, const fs_weights *w, const char *folder, const fs_convert_options *o, fs_error *err);
fs_status fs_convert_in_folder(const fs_weights *w, const char *out, const fs_convert_options *o, fs_convert_make *make, void *ud, fs_error *err);
/* Copies the tokenizer's files, the chat template and generation_config.json, those that there are. */
fs_status fs_convert_copy_texts(const char *from, const char *to, fs_error *err);

#endif
