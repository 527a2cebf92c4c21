/* A conversation as the program keeps it: the system prompt, the turns, and their JSON file. It knows no model. */
#ifndef FS_CLI_TALK_H
#define FS_CLI_TALK_H

#include "base/json.h"
#include "text/chat.h"

typedef enum fs_talk_role { FS_TALK_USER, FS_TALK_ASSISTANT, FS_TALK_TOOL /* a tool's result */ } fs_talk_role;

typedef struct fs_talk_call {
    fs_buf name, arguments; /* arguments: the text of a JSON object */
} fs_talk_call;

typedef struct fs_talk_turn {
    fs_talk_role role;
    fs_buf content;
    fs_buf reasoning; /* of an assistant's turn; the chat format decides whether the model sees it again */
    fs_talk_call *calls; /* of an assistant's turn */
    size_t n_calls;
} fs_talk_turn;

/* Zeroed is empty and valid. */
typedef struct fs_talk {
    fs_buf system; /* empty: the format's own default */
    fs_talk_turn *turns;
    size_t n_turns, capacity;
} fs_talk;

#define FS_TALK_TURNS_MAX 100000

void fs_talk_done(fs_talk *t);
void fs_talk_clear(fs_talk *t); /* keeps the system prompt */
fs_status fs_talk_set_system(fs_talk *t, fs_bytes text, fs_error *err);
fs_status fs_talk_add(fs_talk *t, fs_talk_role role, fs_bytes content, fs_bytes reasoning, fs_error *err);
/* A call more of the last turn, the assistant's. */
fs_status fs_talk_add_call(fs_talk *t, fs_bytes name, fs_bytes arguments, fs_error *err);
void fs_talk_pop(fs_talk *t); /* the last turn; there must be one */
/* How many results the last calls still wait for. */
size_t fs_talk_n_open_calls(const fs_talk *t);

/* The messages in the order a chat format takes them, borrowed from t, into a new array (free). */
fs_status fs_talk_messages(const fs_talk *t, fs_message **ret, size_t *ret_n, fs_error *err);

/* {"model": "...", "messages": [{"role": "system|user|assistant", "content": "...", "reasoning_content": "...",
 * "tool_calls": [...]}]}, and "role": "tool": the messages of the OpenAI API, so that other clients read it. Reading replaces *t only on success; a system message may
 * only stand first. what names the source. */
fs_status fs_talk_to_json(const fs_talk *t, const char *model, fs_buf *out, fs_error *err);
fs_status fs_talk_from_json(fs_talk *t, fs_bytes json, const char *what, fs_error *err);

#endif
