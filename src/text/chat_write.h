/* What the files that render chat formats share: the writer, which keeps the text between two markers together, because
 * the tokenizer must see it in one piece ("user\n" and a message that starts with a newline make one token of two
 * newlines), and looking at pieces of text. */
#ifndef FS_TEXT_CHAT_WRITE_H
#define FS_TEXT_CHAT_WRITE_H

#include "text/chat.h"
#include "text/json_text.h"

#define FS_MARK_BOS       "<｜begin▁of▁sentence｜>"
#define FS_MARK_EOS       "<｜end▁of▁sentence｜>"
#define FS_MARK_USER      "<｜User｜>"
#define FS_MARK_ASSISTANT "<｜Assistant｜>"
#define FS_MARK_SYSTEM    "<｜System｜>"
#define FS_MARK_THINK     "<think>"
#define FS_MARK_THINK_END "</think>"
#define FS_MARK_DSML      "｜DSML｜"

typedef struct fs_chat_writer {
    const fs_tokenizer *t;
    fs_buf *prompt; /* or NULL */
    fs_ids *ids;    /* or NULL */
    fs_buf text;    /* since the last marker, not encoded yet */
    fs_chat_format format;
    const fs_chat_options *options;
    fs_status rc;   /* the first failure; later calls do nothing */
    fs_error *err;
} fs_chat_writer;

/* What somebody wrote: no marker whatever it says. */
void fs_put_text(fs_chat_writer *w, fs_bytes text);
/* The format's own words; without markers in it. */
void fs_put(fs_chat_writer *w, const char *text);
/* A marker of the format: its token, which the tokenizer must have. */
void fs_put_marker(fs_chat_writer *w, const char *marker);
/* The format's own words with any markers in them; a marker that the tokenizer has not is text. */
void fs_put_markup(fs_chat_writer *w, const char *text);
/* A valid JSON value as fs_json_text_respell spells it; a JSON string's meaning; text as a JSON string. */
void fs_put_json(fs_chat_writer *w, fs_bytes value, unsigned flags);
void fs_put_unquoted(fs_chat_writer *w, fs_bytes string);
void fs_put_quoted(fs_chat_writer *w, fs_bytes text);
/* Encodes what is left. */
void fs_put_flush(fs_chat_writer *w);

fs_bytes fs_strip_newlines(fs_bytes s, bool left, bool right);
/* White space at both ends, as Python's str.strip takes it. */
fs_bytes fs_trim(fs_bytes s);
/* Where part begins in s, the first time or the last; false: nowhere. */
bool fs_find_first(fs_bytes s, const char *part, size_t *ret);
bool fs_find_last(fs_bytes s, const char *part, size_t *ret);
fs_bytes fs_bytes_from(fs_bytes s, size_t i);

/* The next of the options' tools, out of its {"type": "function", "function": ...} if it has one. *walk starts zeroed. */
bool fs_next_tool(const fs_chat_options *o, fs_json_walk *walk, fs_bytes *ret_tool, fs_bytes *ret_function);

/* chat_chatml.c, chat_deepseek.c, chat_dsml.c: a whole conversation; and an assistant's turn as the model says it after
 * the generation prompt, up to and with the marker that ends it. */
void fs_render_chatml(fs_chat_writer *w, const fs_message *m, size_t n);
void fs_render_qwen3(fs_chat_writer *w, const fs_message *m, size_t n);
void fs_render_llama3(fs_chat_writer *w, const fs_message *m, size_t n);
void fs_render_deepseek_v3(fs_chat_writer *w, const fs_message *m, size_t n); /* and R1 */
void fs_render_deepseek_v31(fs_chat_writer *w, const fs_message *m, size_t n);
void fs_render_deepseek_v32(fs_chat_writer *w, const fs_message *m, size_t n);
void fs_render_deepseek_v4(fs_chat_writer *w, const fs_message *m, size_t n); /* and V4.1 */
void fs_reply_chatml(fs_chat_writer *w, const fs_message *m); /* and Qwen3 */
void fs_reply_deepseek(fs_chat_writer *w, const fs_message *m); /* V3, R1, V3.1 */
void fs_reply_dsml(fs_chat_writer *w, const fs_message *m);

/* Spelling of the DSML formats. */
typedef struct fs_dsml {
    const char *calls; /* what follows <｜DSML｜ in the tag of the block */
    const char *space; /* before invoke and parameter */
} fs_dsml;
const fs_dsml *fs_dsml_of(fs_chat_format f);

#endif
