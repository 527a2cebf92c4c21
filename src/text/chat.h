/* Chat formats, rendered at token level: the format's own markers become special tokens, what users and models
 * wrote is encoded with special tokens off, so text never becomes a marker by accident.
 *
 * Formats here: chatml (qwen2, SmolLM2 with its default system prompt), llama-3, deepseek-v3, deepseek-r1 (and its
 * distills), deepseek-v3.1, -v3.2, -v4 and -v4.1. Sources: the chat templates of the released models, and for V3.2 and
 * later, which have none, DeepSeek's encoders; ../docs/chat.md. What a model answers is parsed in text/parse.h. */
#ifndef FS_TEXT_CHAT_H
#define FS_TEXT_CHAT_H

#include "text/tokenizer.h"

typedef enum fs_chat_format {
    FS_CHAT_NONE, /* no format known: a base model */
    FS_CHAT_TEMPLATE, /* the model's own template through text/chat_template.h; fs_chat_render does not know it */
    FS_CHAT_CHATML,  /* no default system prompt */
    FS_CHAT_QWEN2,   /* ChatML with Qwen2.5's default system prompt */
    FS_CHAT_QWEN3,   /* ChatML with <think> handling */
    FS_CHAT_SMOLLM2, /* ChatML with SmolLM2's default system prompt */
    FS_CHAT_LLAMA3,
    FS_CHAT_DEEPSEEK_V3,
    FS_CHAT_DEEPSEEK_R1,
    FS_CHAT_DEEPSEEK_V31, /* V3.1, V3.1-Terminus, V3.2-Exp */
    FS_CHAT_DEEPSEEK_V32,
    FS_CHAT_DEEPSEEK_V4,
    FS_CHAT_DEEPSEEK_V41,
    FS_CHAT_FORMAT_END
} fs_chat_format;

/* "deepseek-r1", "chatml", ...: what --format takes. */
const char *fs_chat_format_name(fs_chat_format f);
/* FS_CHAT_FORMAT_END when unknown. */
fs_chat_format fs_chat_format_from_name(const char *name);
/* FS_CHAT_TEMPLATE for a template that is none of the other formats. From the Jinja template's text, and from the tokens the tokenizer has (t may be NULL: then the template alone). Without a
 * template, which V3.2 and later do not publish, from the tokens and the config's model_type (may be NULL). */
fs_chat_format fs_chat_format_detect(fs_bytes chat_template, const fs_tokenizer *t, const char *model_type);

typedef enum fs_role { FS_ROLE_SYSTEM, FS_ROLE_USER, FS_ROLE_ASSISTANT, FS_ROLE_TOOL } fs_role;

#define FS_CHAT_CALLS_MAX 1024 /* in one turn */

typedef struct fs_tool_call {
    fs_bytes id;        /* what a result refers to; may be empty */
    fs_bytes name;
    fs_bytes arguments; /* the text of a JSON object; other text is shown as it is */
} fs_tool_call;

typedef struct fs_message {
    fs_role role;
    fs_bytes content;
    fs_bytes reasoning; /* of an assistant turn; data is NULL when it says none */
    const fs_tool_call *calls; /* of an assistant turn */
    size_t n_calls;
    fs_bytes call_id; /* of a tool's result: the call it answers; data is NULL when it says none */
} fs_message;

typedef enum fs_effort { FS_EFFORT_DEFAULT, FS_EFFORT_LOW, FS_EFFORT_HIGH, FS_EFFORT_XHIGH, FS_EFFORT_MAX } fs_effort;

typedef struct fs_chat_options {
    bool thinking;              /* formats that have a switch */
    bool add_generation_prompt; /* end with the assistant's opening */
    fs_effort effort;           /* V4 and later, when thinking */
    fs_bytes tools;             /* a JSON array of {"name", "description", "parameters"} objects, or of the OpenAI API's
                                   {"type": "function", "function": {...}}; may be empty */
} fs_chat_options;

/* "low", "high", "xhigh", "max"; false for others. */
bool fs_effort_from_name(fs_bytes name, fs_effort *ret);

/* Appends the rendered text to *ret_prompt (if not NULL) and its ids to *ret_ids (if not NULL; then t is needed). A
 * conversation the format cannot say (tools in a format without them, results without calls) is a sentence. */
fs_status fs_chat_render(fs_chat_format f, const fs_tokenizer *t, const fs_message *messages, size_t n_messages,
                         const fs_chat_options *options, fs_buf *ret_prompt, fs_ids *ret_ids, fs_error *err);
/* The same for what the model is to say after the generation prompt, up to and with the marker that ends it: the
 * inverse of text/parse.h. message is an assistant's; its reasoning is said when options->thinking. */
fs_status fs_chat_render_reply(fs_chat_format f, const fs_tokenizer *t, const fs_message *message, const fs_chat_options *options,
                               fs_buf *ret_prompt, fs_ids *ret_ids, fs_error *err);
#define FS_CHAT_STOP_IDS_MAX 24
/* Ids that end an assistant turn in this format, beyond the config's eos; of FS_CHAT_TEMPLATE those special tokens of the
 * vocabulary that end a turn in some known template. Returns how many. */
int fs_chat_stop_ids(fs_chat_format f, const fs_tokenizer *t, int32_t ret_ids[FS_CHAT_STOP_IDS_MAX]);
/* The marker texts around reasoning ("<think>", "</think>") or empty; open_in_prompt tells that the generation prompt
 * already holds the opening one. */
void fs_chat_reasoning(fs_chat_format f, bool thinking, fs_bytes *ret_open, fs_bytes *ret_close, bool *ret_open_in_prompt);

#endif
