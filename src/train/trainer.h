/* Forward and backward of a model by hand (RN1 section 8), in exact f32 or in class RN1-bf16: loss and gradients of a step, a
 * micro-batch at a time.
 *
 * It owns the parameters and every activation; it borrows the configuration, the pool and the kernels. The forward pass is the
 * engine's arithmetic, so its logits are the engine's to the bit; sums over tokens go by token index, so no bit depends on
 * threads, on the instruction set, or on how a step is cut into micro-batches.
 * Architectures: llama, qwen2, qwen3, deepseek, deepseek_v2, deepseek_v3. */
#ifndef FS_TRAIN_TRAINER_H
#define FS_TRAIN_TRAINER_H

#include "models/activations.h"
#include "train/distil.h"
#include "train/params.h"

typedef struct fs_trainer fs_trainer;

#define FS_TRAIN_ROW_MULTIPLE 256 /* of the tokens that a row is packed to */

/* One document: positions 0 .. n-1. */
typedef struct fs_train_sequence {
    const int32_t *ids;     /* [n] */
    const int32_t *targets; /* [n] the token that follows; -1: not learnt */
    const float *slopes;    /* [n] d loss / d log p of each target, e.g. a policy's; NULL: -1 / targets of the step */
    float *ret_logp;        /* [n] log p of each target, 0 where there is none; NULL: not wanted */
    const float *kept;      /* [n, row] its activations, as the engine made them of these tokens with these weights (fs_trainer_bring); NULL: none */
    uint32_t n;
    uint64_t index; /* the token index of its first token in the step: rows are packed to a length that is a multiple of 256 */
} fs_train_sequence;

typedef struct fs_trainer_options {
    bool bf16;             /* products and attention in class RN1-bf16 (section 8a), else in RN1; masters and gradients are f32 in both */
    bool recompute;        /* of each layer only the input and the router's choice are kept, the rest is made again on the way back; moves no bit */
    bool mtp;
    double mtp_weight;     /* of its loss */
    const fs_low_rank_options *low_rank; /* pairs are trained, the model is frozen; NULL: none; borrowed for the life of the trainer */
    double balance_weight; /* alpha of the sequence-wise balance loss (DeepSeek-V3, eq. 17-20); 0: none */
    uint32_t tokens_max, sequences_max; /* of a micro-batch */
} fs_trainer_options;

/* Sequences that fs_trainer_run is given may bring activations, laid out by a (borrowed), of all tokens of a micro-batch or of none, with
 * logits, if a has them, of those with a target: the forward pass takes them. That moves no bit. */
void fs_trainer_bring(fs_trainer *t, const fs_activations *a);

/* What a whole step adds up to. The means are over the targets of the step; 0 where there are none. */
typedef struct fs_train_totals {
    uint64_t n_targets, n_mtp_targets, n_sequences;
} fs_train_totals;
/* Counts n more sequences. */
void fs_train_totals_add(fs_train_totals *t, const fs_train_sequence *sequences, uint32_t n);

typedef struct fs_train_loss {
    double loss, mtp, balance; /* unweighted but for balance; each rounded once to f32 */
    double divergence;         /* from the teacher, unweighted; 0 without one */
} fs_train_loss;

/* FS_ERR_UNSUPPORTED names what cannot be trained. Nothing is loaded or initialised yet: fill the parameters, then pack. */
fs_status fs_trainer_new(const fs_config *c, fs_pool *pool, const fs_kernels *kernels, const fs_trainer_options *options, fs_trainer **ret,
                         fs_error *err);
void fs_trainer_free(fs_trainer *t);
fs_params *fs_trainer_params(fs_trainer *t);
/* What fs_trainer_run learns is from here on mixed with the distribution of a teacher (teacher.h), which is borrowed: distil.h. Once. */
struct fs_teacher;
fs_status fs_trainer_distil(fs_trainer *t, struct fs_teacher *teacher, const fs_distil_options *o, fs_error *err);
bool fs_trainer_is_bf16(const fs_trainer *t);
size_t fs_trainer_bytes(const fs_trainer *t); /* parameters, packed operands and activations */
/* The masters have changed: makes the operands of products from them. */
void fs_trainer_pack(fs_trainer *t);
/* The same once everything is packed and nothing that is frozen has changed: after a step. */
void fs_trainer_pack_trained(fs_trainer *t);

/* A step: begin, run each micro-batch in rising token index, end. A 256-aligned block of token indices lies in one micro-batch. */
void fs_trainer_begin(fs_trainer *t, const fs_train_totals *totals);
/* FS_ERR_ARGUMENT: an id or target outside the vocabulary; FS_ERR_NUMERIC: a loss that is not finite. The sentence names the token, and
 * the first weight that is not finite or what the first such activation came out of. */
fs_status fs_trainer_run(fs_trainer *t, const fs_train_sequence *sequences, uint32_t n_sequences, fs_error *err);
/* Gradients are complete in the parameters. */
void fs_trainer_end(fs_trainer *t, fs_train_loss *ret);

/* Forward alone: ret_logits [tokens of all sequences, V]; with ret_mtp those of the MTP layer too. */
fs_status fs_trainer_logits(fs_trainer *t, const fs_train_sequence *sequences, uint32_t n_sequences, float *ret_logits, float *ret_mtp,
                            fs_error *err);
/* The loss of the sequences without gradients: adds what fs_trainer_run would, between begin and end. */
fs_status fs_trainer_evaluate(fs_trainer *t, const fs_train_sequence *sequences, uint32_t n_sequences, fs_error *err);

/* With MTP's. */
uint32_t fs_trainer_n_layers(const fs_trainer *t);
/* Tokens that went to each expert since fs_trainer_begin: [E] of layer index (MTP's behind the others); NULL: a dense layer. */
const uint64_t *fs_trainer_expert_load(const fs_trainer *t, uint32_t layer);
/* The weights that those tokens gave each expert, without routed_scaling_factor, added up in binary64 by rising token: [E]; NULL as above. */
const double *fs_trainer_expert_gates(const fs_trainer *t, uint32_t layer);
/* The largest scaled logit of each head of attention since fs_trainer_begin: [H]. */
const float *fs_trainer_qk_max(const fs_trainer *t, uint32_t layer);
/* QK-clip by it (muon.h), in every layer that can be: not where q or k has a norm of its own, which bounds the logits, or is frozen. */
void fs_trainer_clip_logits(fs_trainer *t, double tau);
/* The aux-free balance rule (DeepSeek-V3, section 2.1.2): b_e = fl(b_e + rate * sign(mean load - load_e)), in every layer. */
void fs_trainer_move_biases(fs_trainer *t, double rate);

#endif
