/* One answer of a model in a conversation: tokens, generation, and what is shown while it streams. */
#ifndef FS_CLI_REPLY_H
#define FS_CLI_REPLY_H

#include "cli/talk.h"

#include "engine/engine.h"

#include <stdio.h>

typedef struct fs_run_settings {
    double temperature, top_p, min_p, repetition_penalty;
    int top_k, max_tokens; /* max_tokens 0: until the context is full */
    uint64_t seed;
    bool thinking, fold;
} fs_run_settings;

typedef struct fs_run {
    const char *name; /* the MODEL argument */
    fs_model *model;
    fs_session *session;
    int ctx_tokens;
    const fs_run_settings *settings; /* borrowed */
    fs_talk talk;
    fs_buf tools;      /* a JSON array; empty: none */
    bool raw;          /* no chat format: the prompt is continued as text */
    bool sandbox;      /* a chat enters it before the first line is read */
    bool show;         /* write to stdout while it streams */
    bool on_terminal;  /* stdout is one */
    bool colour;
    /* Of the last answer. */
    fs_generation generation;
    fs_buf reasoning;
    fs_buf calls;      /* of tools, a line of JSON each */
    double reasoning_seconds;
    size_t n_reasoning_tokens;
    uint64_t n_tokens_total;
} fs_run;

/* Frees the talk, the session and the model. */
void fs_run_done(fs_run *r);

/* Answers the talk's last turn, which must be the user's or a tool's, and adds the answer as a turn. After Ctrl-C
 * (fs_interrupted) the part that came is kept; when nothing came, that turn is taken back; generation.stop is
 * FS_STOP_CALLBACK in both cases. On failure the talk is as it was before that turn. */
fs_status fs_run_reply(fs_run *r, fs_error *err);

/* "off", "lookup" or "mtp"; NULL is off. */
fs_status fs_speculation_from_name(const char *name, fs_speculation *ret, fs_error *err);

/* "23 tokens, 41.2 tokens/s; prompt 31 tokens (12 cached) in 0.20 s; 9 of 12 guesses right (75 %)" */
void fs_run_print_speed(const fs_run *r, FILE *out);

#endif
