/* The parameters of a model under training: f32 masters, gradients and moments under the Hub's names. What each is for is
 * trainer.h's; this is the list, its memory, and how it is filled. */
#ifndef FS_TRAIN_PARAMS_H
#define FS_TRAIN_PARAMS_H

#include "base/pool.h"
#include "formats/weights.h"
#include "kernels/kernels.h"

typedef struct fs_param {
    char *name; /* the Hub's */
    int n_dims; /* 1 or 2 */
    uint32_t rows, cols; /* rows 1 where n_dims is 1 */
    size_t n, offset;
    bool fixed;  /* no gradient: frozen, or the router's correction bias, which moves by a rule of its own */
    bool frozen; /* nothing moves it */
    bool muon;    /* moved by Muon (muon.h), whose momentum is m: no v */
    bool is_pair; /* A or B of a low-rank pair: called as in PEFT's file */
    double lr_scale, weight_decay; /* of its group: 1, and -1: the optimiser's for matrices, none for others */
    float *w, *g;                  /* g: NULL where it is fixed */
    float *m, *v;                  /* moments; NULL before fs_params_add_moments, and where it is fixed */
    float *e;                      /* moving average of w; the same */
} fs_param;

/* Pairs A [r, in], B [out, r] beside linears (LoRA), as PEFT has them. A target is a linear's name or its end from a dot on, or a glob
 * over whole names; "all-linear" is every one but the head. Experts are taken only by targets that say so. */
#define FS_PAIR_PREFIX "base_model.model."
typedef struct fs_low_rank_options {
    uint32_t r;
    double alpha;
    bool rslora;
    const char *const *targets; /* borrowed */
    int n_targets;
} fs_low_rank_options;
float fs_low_rank_scale(const fs_low_rank_options *o); /* alpha / r, or alpha / sqrt(r) for rslora, in binary64 rounded once */

typedef struct fs_params {
    fs_param *items; /* by name bytes: the order of every sum over tensors */
    size_t n;
    size_t n_floats; /* of one set, padding included */
    size_t n_trained; /* floats of those that have a gradient */
    float *w, *g, *m, *v, *e;
    const fs_low_rank_options *low_rank; /* NULL: no pairs */
    const char *adapter_of; /* checkpoints are adapters of this model: pairs and whole tensors that are trained; NULL: models */
    fs_param **muon_items; /* [n_muon] */
    size_t n_muon, muon_floats; /* of a thread's room */
    int muon_threads;
    float *muon_room;
} fs_params;

/* The tensors that a model of config c has; with mtp, those of its first multi-token-prediction layer too, whose embedding and
 * head are the model's. Masters and gradients are zero. */
fs_status fs_params_new(const fs_config *c, bool mtp, fs_params **ret, fs_error *err);
/* The same and pairs; the model's own are frozen. low_rank is borrowed; NULL: none. */
fs_status fs_params_new_with(const fs_config *c, bool mtp, const fs_low_rank_options *low_rank, fs_params **ret, fs_error *err);
void fs_params_free(fs_params *p);
/* Parameters whose names match the glob (fnmatch's *, ? and [...]; a * goes over dots): frozen, or of a group with a learning rate of
 * its own, lr_scale times the schedule's, and a decay of its own (< 0: stays as it is). Before moments are added. A glob that matches
 * none is a sentence. */
fs_status fs_params_freeze(fs_params *p, const char *glob, fs_error *err);
void fs_param_freeze(fs_params *p, fs_param *item); /* one of p's */
fs_status fs_params_group(fs_params *p, const char *glob, double lr_scale, double weight_decay, fs_error *err);
fs_status fs_params_add_moments(fs_params *p, fs_error *err);
/* Moving averages, which begin as the masters when fs_params_begin_averages is called. */
fs_status fs_params_add_averages(fs_params *p, fs_error *err);
void fs_params_begin_averages(fs_params *p);
fs_param *fs_params_find(const fs_params *p, const char *name); /* NULL: absent */

/* How many weights one token is multiplied with: of experts those it goes to; the embedding only where it is the head too. trained: of those that
 * have a gradient. */
uint64_t fs_params_n_active(const fs_params *p, const fs_config *c, bool trained);

/* Masters from stored weights of any type, widened exactly; a missing tensor, another shape or a NaN is a sentence. */
fs_status fs_params_load(fs_params *p, const fs_weights *w, fs_error *err);
/* Masters from nothing: matrices normal(0, std) by Philox of (seed, number of the tensor, element), norms 1, the rest 0. */
void fs_params_init(fs_params *p, uint64_t seed, double std);
/* Pairs from nothing: A uniform in +-1/sqrt(in) (kaiming_uniform with a = sqrt(5)), 2^24 values of each draw by Philox of (seed, number of
 * the tensor by name, element), B zero. */
void fs_params_init_pairs(fs_params *p, uint64_t seed);
/* Pairs from an adapter's folder, which must have each with this r and scale, and nothing else. */
fs_status fs_params_load_pairs(fs_params *p, const char *folder, fs_error *err);

/* The sum of squares of a gradient: order B per 256 elements, the partial sums in a binary64 chain (RN1 section 8). */
double fs_param_grad_squares(const fs_kernels *k, const fs_param *p);
/* The norm of all gradients: the same chain through the tensors by name, rounded once to f32. */
float fs_params_grad_norm(const fs_kernels *k, const fs_params *p);
/* The same, which must be finite: else FS_ERR_NUMERIC with the name and place of the first gradient that is a NaN or an infinity, or, where it
 * is their squares that overflow, the name of the first whose own do. */
fs_status fs_params_finite_norm(const fs_kernels *k, const fs_params *p, float *ret, fs_error *err);

/* ---- once something is found not to be finite: slow ---- */
/* The index + 1 of the first NaN or infinity, 0 when there is none. */
size_t fs_find_not_finite(const float *x, size_t n);
const char *fs_not_finite_word(float x); /* "a NaN", "an infinity" */
/* The first parameter that holds one, where in *ret_at; NULL: every weight is finite. */
const fs_param *fs_params_find_not_finite(const fs_params *p, size_t *ret_at);

#endif
