/* A network: packed weights of one model and the forward step over batches of tokens.
 *
 * It owns the packed weights; it borrows the stored ones (embedding rows are read from the map), the pool and the
 * kernels. It knows no text and no sampling. What a token costs in arithmetic is RN1; docs/RN1.md. */
#ifndef FS_MODELS_NETWORK_H
#define FS_MODELS_NETWORK_H

#include "base/pool.h"
#include "formats/adapter.h"
#include "formats/weights.h"
#include "kernels/kernels.h"
#include "models/activations.h"
#include "models/importance.h"

typedef struct fs_network fs_network;

/* What the cache of dense and latent attention holds, and with it the class of the attention: f32 and RN1, or bf16 and RN1-bf16, or
 * 8-bit rows that RN1-bf16 reads (kernels/kv8.h). */
typedef enum fs_kv_type {
    FS_KV_DEFAULT, /* bf16 where a product of the model quantises its activations and the architecture has it, else f32 */
    FS_KV_F32,
    FS_KV_BF16,
    FS_KV_Q8,
} fs_kv_type;

typedef struct fs_network_options {
    bool mtp; /* load the multi-token-prediction layer too */
    bool exact; /* section 1 of RN1 for block types too, instead of section 6 */
    bool bf16; /* products and attention of class RN1-bf16 (RN1 section 8a), whatever the weights are stored as; not with mapped or streaming */
    bool mapped; /* linears stay in the file's map and are packed panel by panel whenever they are used */
    fs_kv_type kv_type;
    fs_adapter *adapter; /* added to the linears it names; may be NULL; borrowed for the life of the network */
    fs_importance *importance; /* filled by every step; may be NULL; borrowed for the life of the network, which is loaded once */
    bool (*progress)(void *ud, double fraction); /* may be NULL; false stops with FS_ERR_INTERRUPTED */
    void *ud;
} fs_network_options;

/* What a model needs, known before anything is allocated. */
typedef struct fs_network_plan {
    size_t weights_bytes;  /* packed; without the routed experts when they are streamed */
    size_t experts_bytes;  /* of the routed experts, all of them */
    size_t expert_bytes;   /* of the largest of them: a slot's, if they are streamed */
    size_t expert_room;    /* buffer of one reader, if they are streamed */
    uint32_t n_experts;    /* in all layers */
    size_t kv_token_bytes; /* cache a token, all layers */
    size_t kv_fixed_bytes; /* cache a sequence besides */
} fs_network_plan;

/* Checks every tensor the model needs (names, shapes, dtypes) and computes the plan; allocates next to nothing. */
fs_status fs_network_new(const fs_weights *weights, fs_pool *pool, const fs_kernels *kernels,
                         const fs_network_options *options, fs_network **ret, fs_network_plan *ret_plan, fs_error *err);
/* Before fs_network_load: routed experts stay in the files, and n_slots of them in memory (models/experts.h), at least
 * those that a token needs. Results are the same. A step whose experts cannot be read is FS_ERR_IO, or FS_ERR_NUMERIC where
 * one holds a NaN. */
fs_status fs_network_stream(fs_network *net, uint32_t n_slots, fs_network_plan *ret_plan, fs_error *err);
/* Memory of that besides the other weights; SIZE_MAX when it is beyond counting. */
size_t fs_network_stream_bytes(const fs_network *net, uint32_t n_slots);

/* What streaming has done since the network was loaded. */
typedef struct fs_stream_stats {
    uint32_t n_slots, n_experts;
    size_t slot_bytes;
    uint64_t n_wanted, n_hits;           /* experts that steps needed, once a layer and step; found in memory */
    uint64_t n_guessed, n_guessed_right; /* read ahead for a guess; needed then, and counted as no hit */
    uint64_t bytes_needed, bytes_read;   /* of the needed that were not in memory; of all reads, wrong guesses too */
    double wait_s;                       /* steps waited for reads */
} fs_stream_stats;
/* False: nothing is streamed. */
bool fs_network_stream_stats(const fs_network *net, fs_stream_stats *ret);
/* The readers of streamed experts only read, about n_bytes, between steps: how many bytes they got (0: nothing is streamed), in how
 * many seconds. */
uint64_t fs_network_probe_disk(const fs_network *net, uint64_t n_bytes, double *ret_s);

/* Packs the weights, but for linears of block types, which the first steps pack. A NaN in a weight is a
 * sentence; that of a block, or of a linear that stays in the map, shows in the results. Again, between steps, after stored
 * values have changed in place. */
fs_status fs_network_load(fs_network *net, fs_error *err);
/* Packs what still waits. Between steps. */
void fs_network_pack_all(fs_network *net);
void fs_network_free(fs_network *net);
/* A config whose model the code could not run is refused by name; fs_network_new does it too. */
fs_status fs_network_check(const fs_config *c, fs_error *err);
/* Where its packed weights stand, those of streamed experts aside; for measuring what reading them can be at most. */
fs_bytes fs_network_memory(const fs_network *net);
const fs_config *fs_network_config(const fs_network *net);
bool fs_network_has_mtp(const fs_network *net);
size_t fs_network_hidden_floats(const fs_network *net); /* of a token's hidden state */
/* "bf16" of class RN1-bf16; "q8" when a product of the model quantises its activations (RN1 section 6), else "exact". Known once it is
 * planned. */
const char *fs_network_activations(const fs_network *net);
/* "f32" or "bf16". Known once it is planned. */
const char *fs_network_kv_type(const fs_network *net);

/* ---- cache: what one sequence remembers ---- */
#define FS_CACHE_REWIND 32 /* tokens that any cache takes back without running others again */

typedef struct fs_cache {
    uint32_t ctx_tokens; /* room: a multiple of FS_KV_BLOCK */
    uint32_t ctx_limit;  /* positions that may be used, <= ctx_tokens */
    uint32_t n_tokens;   /* rows that are valid; steps append, fs_cache_rewind forgets */
    uint32_t n_mtp_tokens;
    uint32_t rewind_min; /* fs_cache_rewind goes to any position from here on as it is asked */
    float *memory;
    size_t memory_bytes;
} fs_cache;

fs_status fs_cache_init(fs_cache *c, const fs_network *net, uint32_t ctx_tokens, fs_error *err);
void fs_cache_done(fs_cache *c);
/* Forgets the rows from n_tokens on, those of the MTP layer too. Returns the position, now c->n_tokens, from which tokens must
 * be run again to stand at n_tokens: n_tokens itself, and for caches of rows by position always so. V4's compressors keep
 * only their open windows and what FS_CACHE_REWIND tokens back were those: further back it is the multiple of 128 at or
 * below n_tokens. The same tokens run again give the same bits. */
uint32_t fs_cache_rewind(const fs_network *net, fs_cache *c, uint32_t n_tokens);
/* to, of as much room, stands where from stood behind its first n_tokens, which it has. False: a cache that is not of rows by position (V4's);
 * nothing is done. */
bool fs_cache_copy(const fs_network *net, const fs_cache *from, uint32_t n_tokens, fs_cache *to);

/* Steps keep the activations of rows that ask for it, laid out by a (borrowed), from here on. Not V4. */
void fs_network_keep(fs_network *net, const fs_activations *a);

/* ---- step ---- */
/* Room for the activations of one step; planned once, so that a step allocates nothing. */
typedef struct fs_workspace fs_workspace;
size_t fs_workspace_bytes(const fs_network *net, uint32_t tokens_max, uint32_t sequences_max);
fs_status fs_workspace_new(const fs_network *net, uint32_t tokens_max, uint32_t sequences_max, fs_workspace **ret, fs_error *err);
void fs_workspace_free(fs_workspace *ws);
uint32_t fs_workspace_tokens_max(const fs_workspace *ws);
uint32_t fs_workspace_sequences_max(const fs_workspace *ws);

/* Consecutive new tokens of one sequence; their positions are cache->n_tokens onward. */
typedef struct fs_step_rows {
    fs_cache *cache;
    const int32_t *ids;
    uint32_t n;
    float *ret_logits; /* [n_logits, vocab_size] of the last n_logits rows; may be NULL when n_logits is 0 */
    uint32_t n_logits;
    float *ret_hidden; /* [n, fs_network_hidden_floats] what the MTP layer reads; may be NULL */
    float *ret_kept;   /* [n, row] as fs_network_keep says, without logits; may be NULL */
} fs_step_rows;

/* Appends the rows of several sequences in one forward pass. The same rows give the same bits whatever stands
 * beside them and however they are cut into steps.
 * FS_ERR_ARGUMENT: an id outside the vocabulary; FS_ERR_CONTEXT_FULL: a cache is too short (nothing was changed);
 * FS_ERR_IO: a streamed expert cannot be read; FS_ERR_NUMERIC: a NaN in the result (in both the caches have not grown; V4's may have gone back as by fs_cache_rewind). The sum of n is at most tokens_max, n_rows at
 * most sequences_max, every n > 0 (assert). */
fs_status fs_network_step(fs_network *net, fs_workspace *ws, const fs_step_rows *rows, size_t n_rows, fs_error *err);

/* The MTP layer (DeepSeek-V3, arXiv 2412.19437, section 2.2): row i takes the main model's hidden state at position i
 * and the token at i+1, and predicts the token at i+2. In V3 hidden states are those after the final norm, in V4 the
 * hc_mult streams before hc_head.
 *   hidden [n, fs_network_hidden_floats], next_ids [n]; positions cache->n_mtp_tokens onward; n <= tokens_max
 *   ret_logits [n_last, vocab_size] and ret_hidden of the last n_last rows, of which the latter may be NULL: fed back in as
 *   hidden with the token predicted it predicts one further */
fs_status fs_network_mtp_step(fs_network *net, fs_workspace *ws, fs_cache *cache, const float *hidden, const int32_t *next_ids,
                              uint32_t n, uint32_t n_last, float *ret_logits, float *ret_hidden, fs_error *err);

#endif
