/* What the program's commands may use beyond farseek.h: the model's parts, evaluation of given tokens in one or several
 * sequences, and the memory estimate. */
#ifndef FS_ENGINE_ENGINE_H
#define FS_ENGINE_ENGINE_H

#include "engine/sampler.h"
#include "models/network.h"
#include "text/chat.h"

#include <time.h>

#define FS_STEP_TOKENS    512 /* tokens of one forward step at most */
#define FS_STEP_SEQUENCES 64

/* fs_model_open, where importance (models/importance.h), which may be NULL, learns what the model's linears are given. Borrowed for the
 * model's life. */
fs_status fs_model_open_counting(const char *path, const fs_model_options *options, fs_importance *importance, fs_model **ret_model, fs_error *err);

/* All borrowed from the model. */
const fs_config *fs_model_config(const fs_model *m);
const fs_weights *fs_model_weights(const fs_model *m);
const fs_tokenizer *fs_model_tokenizer(const fs_model *m); /* NULL: the files hold none */
fs_chat_format fs_model_chat_format(const fs_model *m);
/* FS_CHAT_TEMPLATE is the model's own template, also where its format is known: fails when it has none of use. */
fs_status fs_model_set_chat_format(fs_model *m, fs_chat_format f, fs_error *err);
/* This template from now on, a Jinja source. On failure nothing changes. */
fs_status fs_model_set_chat_template(fs_model *m, fs_bytes source, fs_error *err);
/* Why the model's own template is of no use, where that leaves it without a chat format; else NULL. */
const fs_error *fs_model_chat_error(const fs_model *m);
/* What a template's clock tells: at first the local time when the model was opened, so that a chat's prompts do not
 * change with the clock and keep their computed tokens. */
void fs_model_set_time(fs_model *m, const struct tm *now);
/* A conversation as the model's prompt; each of ret_prompt and ret_ids is appended to, or NULL. Errors: fs_chat_render's. */
fs_status fs_model_chat(const fs_model *m, const fs_message *messages, size_t n_messages, const fs_chat_options *options, fs_buf *ret_prompt,
                        fs_ids *ret_ids, fs_error *err);
/* For the answer to that prompt (text/parse.h). Without tools calls are content. */
typedef struct fs_parser fs_parser;
void fs_model_parser_init(const fs_model *m, const int32_t *prompt, size_t n_prompt, const fs_chat_options *options, fs_parser *ret);
const fs_kernels *fs_model_kernels(const fs_model *m);
fs_network *fs_model_network(const fs_model *m);
fs_pool *fs_model_pool(const fs_model *m);
/* Packs the experts that no step has used yet. */
void fs_model_pack_all(const fs_model *m);
/* fs_sandbox_enter of a process that goes on running m. */
fs_status fs_model_sandbox(const fs_model *m, fs_error *err);
bool fs_model_has_mtp(const fs_model *m);
size_t fs_model_hidden_floats(const fs_model *m); /* see fs_network_hidden_floats */
/* generation_config.json's temperature, top_k, top_p, repetition_penalty where the files have one; *ret_found tells. */
fs_sampling fs_model_sampling(const fs_model *m, bool *ret_found);
/* True for ids that end an answer: the config's eos ids and those of the chat format. */
bool fs_model_is_stop(const fs_model *m, int32_t id);

/* What streaming of experts has done since the model was opened; false where all are in memory. See models/network.h. */
bool fs_model_stream_stats(const fs_model *m, fs_stream_stats *ret);
uint64_t fs_model_probe_disk(const fs_model *m, uint64_t n_bytes, double *ret_s);

/* Bytes a model takes with one session of ctx_tokens. Of streamed experts, the slots and what reads them. */
typedef struct fs_memory_estimate {
    size_t weights_bytes, experts_bytes, kv_bytes, work_bytes, total_bytes;
    size_t available_bytes; /* what the machine can give (MemAvailable, cgroup limit) */
} fs_memory_estimate;
fs_memory_estimate fs_model_memory(const fs_model *m, int ctx_tokens);
/* MemAvailable of the machine, or what the cgroups leave (base/cgroup.h) if that is less; SIZE_MAX when unknown. */
size_t fs_memory_available(void);

/* Appends ids to the session, chunk tokens a step (0: as many as fit). ret_logits [n, V] of every position, ret_last [V]
 * of the last, ret_hidden [n, fs_model_hidden_floats] for the MTP layer; each may be NULL. Stops at an interrupt set by
 * fs_session_interrupt between steps. */
fs_status fs_session_eval(fs_session *s, const int32_t *ids, size_t n, size_t chunk, float *ret_logits, float *ret_last,
                          float *ret_hidden, fs_error *err);
/* The MTP layer over n rows behind what it saw before; see fs_network_mtp_step. ret_logits [n, V] or NULL. */
fs_status fs_session_mtp_eval(fs_session *s, const float *hidden, const int32_t *next_ids, size_t n, float *ret_logits,
                              fs_error *err);
const int32_t *fs_session_tokens(const fs_session *s);
int fs_session_ctx_tokens(const fs_session *s);

/* fs_generate without text: fn gets every id as it is drawn, those that end an answer too; false stops. sampling NULL:
 * greedy. ret->stop is FS_STOP_LENGTH or FS_STOP_CALLBACK, the latter for an interrupt too. */
typedef bool fs_token_fn(void *ud, int32_t id);
fs_status fs_generate_tokens(fs_session *s, const int32_t *prompt, size_t n_prompt, const fs_sampling *sampling, int max_tokens,
                             fs_token_fn *fn, void *ud, fs_generation *ret, fs_error *err);

/* One step over several sessions of one model, each with its own new ids: sum of n at most FS_STEP_TOKENS, at most
 * FS_STEP_SEQUENCES sessions. Logits of the last n_logits ids of each go to ret_logits [n_logits, V]. */
typedef struct fs_batch_item {
    fs_session *session;
    const int32_t *ids;
    uint32_t n, n_logits;
    float *ret_logits;
    float *ret_hidden; /* [n, fs_model_hidden_floats], or NULL */
} fs_batch_item;
fs_status fs_batch_eval(const fs_batch_item *items, size_t n_items, fs_error *err);

/* May be called from a signal handler or another thread: the generation or evaluation under way stops after its step. */
void fs_session_interrupt(fs_session *s);

#endif
