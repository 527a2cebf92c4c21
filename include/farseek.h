/* Farseek: run open models. The whole public library: model, session, tokens, status; nothing about tensors.
 *
 * Ownership: what a function returns through ret_* with _open or _new is freed by its _close or _free; all of
 * them accept NULL. Strings in are UTF-8 and counted in bytes, so U+0000 is text.
 * Threads: different sessions of one model may be used from one thread at a time (they share its pool).
 * The library does not print, does not exit and does not read the environment. */
#ifndef FARSEEK_H
#define FARSEEK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fs_status {
    FS_OK = 0,
    FS_ERR_ARGUMENT,    /* the caller asked for something that has no meaning */
    FS_ERR_MEMORY,      /* the machine has not enough */
    FS_ERR_IO,          /* the operating system said no */
    FS_ERR_FORMAT,      /* the file is not what it claims to be */
    FS_ERR_UNSUPPORTED, /* a valid file or request that this program does not know */
    FS_ERR_NOT_FOUND,
    FS_ERR_CONTEXT_FULL, /* the session has no room for more tokens */
    FS_ERR_INTERRUPTED,  /* a callback asked to stop */
    FS_ERR_NUMERIC       /* a NaN appeared: the result is invalid (RN1 section 0) */
} fs_status;

typedef struct fs_error {
    fs_status code;
    char message[500]; /* one sentence, no newline */
} fs_error;

const char *fs_version(void);

/* ---- model ---- */
typedef struct fs_model fs_model;

typedef struct fs_model_options {
    int n_threads;               /* 0: one a usable CPU */
    const char *isa;             /* "scalar", "avx2", "avx512", "neon"; NULL: the best the CPU has */
    const char *adapter;         /* a folder with a PEFT LoRA adapter to add; NULL: none */
    bool pin;                    /* keep each thread, the opening one too, on a CPU of its own */
    bool mtp;                    /* load the multi-token-prediction layer, if there is one */
    bool exact_activations;      /* f32 activations against GGUF's block types too (RN1 section 1 instead of 6) */
    bool mapped;                 /* leave the weights in the map of the file instead of a packed copy: little memory of its own, slower */
    const char *precision;       /* "bf16": products and attention of class RN1-bf16, that of a model trained so; "f32" or NULL: of the weights' */
    const char *kv_type;         /* what attention's cache holds: "f32", "bf16", "q8"; NULL: bf16 with 8-bit activations, else f32 */
    uint64_t memory_bytes_max;   /* take no more; 0: what the machine has free. Where that is too little for all routed
                                    experts of a model they stay on disk and are streamed; else it is refused */
    int n_expert_slots;          /* routed experts in memory at a time; 0: as many as fit */
    int ctx_tokens;              /* context the memory estimate counts with; 0: 4096 or the model's, if less */
    bool (*progress)(void *ud, double fraction); /* may be NULL; returning false stops the load */
    void *ud;
} fs_model_options;

/* Opens a folder in the Hub's layout, a .safetensors or a .gguf file. options may be NULL. */
fs_status fs_model_open(const char *path, const fs_model_options *options, fs_model **ret_model, fs_error *err);
void fs_model_close(fs_model *m);
int fs_model_vocab_size(const fs_model *m);
int fs_model_ctx_tokens_max(const fs_model *m); /* max_position_embeddings */
/* How activations meet weights, part of every result's name: "q8" (quantised against block-quantised ones, RN1 section 6), "exact" (f32,
 * section 1: with exact_activations, and of models that hold no such weights) or "bf16" (section 8a, with that precision). */
const char *fs_model_activations(const fs_model *m);
/* What attention's cache holds, and so the arithmetic of attention, part of that name too: "f32" (RN1 section 4) or "bf16" (4a). */
const char *fs_model_kv_type(const fs_model *m);

/* ---- tokens ---- */
/* Both fill at most capacity and set *ret_n to what was needed; *ret_n > capacity means call again with more.
 * special: text that spells a special token becomes that token (never do this with a user's words). */
fs_status fs_tokenize(const fs_model *m, const char *text, size_t n_bytes, bool special, int32_t *ret_ids,
                      size_t capacity, size_t *ret_n, fs_error *err);
fs_status fs_detokenize(const fs_model *m, const int32_t *ids, size_t n_ids, char *ret_text, size_t capacity,
                        size_t *ret_n, fs_error *err);

typedef struct fs_chat_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
    size_t content_bytes;
} fs_chat_message;

/* The model's own chat format; ends with the generation prompt. thinking matters to formats that have it. */
fs_status fs_chat_tokens(const fs_model *m, const fs_chat_message *messages, size_t n_messages, bool thinking,
                         int32_t *ret_ids, size_t capacity, size_t *ret_n, fs_error *err);

/* ---- session ---- */
typedef struct fs_session fs_session;

fs_status fs_session_new(fs_model *m, int ctx_tokens, fs_session **ret_session, fs_error *err);
void fs_session_free(fs_session *s);
int fs_session_n_tokens(const fs_session *s);
/* Drops all tokens from n_tokens on. Of deepseek_v4, up to 127 tokens before them may have to be run again, with the next step. */
void fs_session_truncate(fs_session *s, int n_tokens);

typedef enum fs_speculation { FS_SPECULATE_OFF, FS_SPECULATE_LOOKUP, FS_SPECULATE_MTP } fs_speculation;
#define FS_DRAFT_MAX 32
/* How the session's generations guess tokens ahead, so that one step checks several: what followed the last tokens where
 * they stood before, or what the model's multi-token-prediction layer says (FS_ERR_UNSUPPORTED where none is loaded), as
 * far as it is sure; it is left alone for a while where it is wrong again and again. n_draft tokens a step at most, up to
 * FS_DRAFT_MAX; 0: 8 looked up, 1 by the layer. A guess counts only where it is the very token that is drawn, so that
 * answers are the same, token for token. */
fs_status fs_session_speculate(fs_session *s, fs_speculation how, int n_draft, fs_error *err);

typedef struct fs_sampling {
    float temperature; /* 0: greedy */
    int top_k;         /* 0: off */
    float top_p;       /* 1: off */
    float min_p;       /* 0: off */
    float repetition_penalty; /* 1: off */
    float presence_penalty, frequency_penalty;
    int penalty_last_n; /* tokens the penalties look back on; 0: all */
    uint64_t seed;
} fs_sampling;

fs_sampling fs_sampling_default(void); /* greedy */

typedef struct fs_generation {
    int n_prompt_tokens, n_prompt_cached, n_tokens;
    int n_drafted, n_accepted; /* tokens guessed ahead, and those of them that were drawn */
    double prompt_seconds, seconds;
    enum { FS_STOP_EOS, FS_STOP_LENGTH, FS_STOP_STRING, FS_STOP_CALLBACK } stop;
} fs_generation;

/* Called with whole UTF-8 characters as they become certain; false stops. */
typedef bool fs_text_fn(void *ud, const char *text, size_t n_bytes);

/* Makes the session hold prompt (keeping the common prefix it already has), then generates up to max_tokens.
 * stop_strings: NULL-terminated list or NULL; a stop string is not emitted. sampling NULL: greedy.
 * ret may be NULL. */
fs_status fs_generate(fs_session *s, const int32_t *prompt, size_t n_prompt, const fs_sampling *sampling,
                      int max_tokens, const char *const *stop_strings, fs_text_fn *fn, void *ud,
                      fs_generation *ret, fs_error *err);

#ifdef __cplusplus
}
#endif
#endif
