/* The parts of a training pass. Private to train/.
 * T tokens of a micro-batch, D hidden_size, H heads, V vocab, E routed experts, k experts a token, I an intermediate size. */
#ifndef FS_TRAIN_INTERNAL_H
#define FS_TRAIN_INTERNAL_H

#include "models/rope.h"
#include "train/distil.h"
#include "train/trainer.h"

#define FS_CHAIN_TOKENS 256 /* of RN1's A256 over the token index */

/* Rows [row0, row0 + n) of a parameter [.., k] as operand of products, both ways. */
typedef struct fs_operand {
    fs_param *p;
    const struct fs_merged *merged; /* its values are packed; NULL: the parameter's own */
    uint32_t row0, n, k;
    bool pairs; /* of class RN1-bf16 */
    fs_mat rows; /* x W^T: n outputs */
    fs_mat cols; /* y W: k outputs */
} fs_operand;

/* A pair that is trained beside a frozen linear. */
typedef struct fs_low_rank {
    fs_operand a, b; /* [r, in], [out, r] */
    float scale;
    uint32_t r; /* 0: there is none */
} fs_low_rank;

/* A frozen matrix that is multiplied together with its pair. */
typedef struct fs_merged {
    fs_param *w;
    fs_low_rank low;
    float *values, *g; /* as w; g: the gradient of values */
    float *turned;     /* [r, rows of w] B transposed */
    fs_mat columns;    /* of g, in packed */
    float *packed;
} fs_merged;

typedef struct fs_lin {
    fs_operand w;
    fs_param *bias; /* NULL: none */
    fs_low_rank low;
} fs_lin;

typedef struct fs_lin_ffn {
    fs_lin gate, up, down;
} fs_lin_ffn;

/* What a layer's forward keeps for its backward. With options.recompute all layers but for x and the router's part have one place for it. */
typedef struct fs_kept {
    float *x, *x_mid; /* [T, D] before attention, before the feed-forward */
    float *q, *k, *v; /* gqa: rope applied; mla: q [T, H, nope + rope] before rope, k [T, lora + rope] the cached rows */
    float *q_raw, *k_raw; /* before their norms; mla: k_raw is kv_a's output, q_raw q_a's */
    float *q_lat, *o_lat; /* mla: [T, H, lora + rope], [T, H, lora] */
    float *m, *l;         /* [T, H] of the softmax */
    float *att;           /* [T, H * v] */
    float *gate, *up;     /* [T, I]; moe: the shared expert's */
    float *scores, *top_weights;    /* [T, E], [T, k] */
    int32_t *top_ids;               /* [T, k] ascending */
    uint32_t *slot;                 /* [T, k] row by expert */
    uint32_t *row_token;            /* [T * k] */
    uint32_t *expert_begin;         /* [E + 1] */
    float *expert_gate, *expert_up; /* [T * k, I] */
} fs_kept;

typedef struct fs_train_layer {
    fs_param *input_norm, *post_norm;
    fs_lin q, k, v, o;                        /* gqa; mla: q (or q_b) and o */
    fs_param *q_norm, *k_norm;                /* qwen3 */
    fs_lin q_a, kv_a;                         /* mla */
    fs_param *q_a_norm, *kv_a_norm;
    fs_operand *uk, *uv;                      /* [H] rows of kv_b_proj */
    fs_merged *kv_b;                          /* NULL: no pair */
    bool is_moe;
    fs_lin_ffn ffn;                           /* dense, or the shared expert */
    bool has_shared;
    fs_lin router;
    fs_param *correction_bias;                /* NULL: none */
    fs_lin_ffn *experts;                      /* [E] */
    bool has_expert_pairs;
    uint64_t *load;                           /* [E] tokens since the step began */
    double *gates;                            /* [E] their weights added up, without routed_scaling_factor */
    float *qk_max;                            /* [H] the largest logit since the step began */
    fs_kept kept;
} fs_train_layer;

/* Runs of rows that are one chain each: [at[i], at[i + 1]), of one aligned block of token indices. */
typedef struct fs_chains {
    const uint32_t *at;
    uint32_t n;
} fs_chains;

/* A sequence's place among the micro-batch's tokens. */
typedef struct fs_span {
    uint32_t token0, n;
} fs_span;

typedef struct fs_query_tile {
    uint32_t span, pos0, n;
} fs_query_tile;

/* What targets are learnt from besides the tokens. */
typedef struct fs_distilling {
    fs_distil_options options;
    struct fs_teacher *teacher;
    float *logits;      /* [256, V] the teacher's */
    float *scratch;     /* [threads, 3 V] */
    float *divergences; /* [T] */
    size_t bytes;       /* of them, one behind the other */
    double sum;
} fs_distilling;

struct fs_trainer {
    const fs_config *config;
    fs_pool *pool;
    const fs_kernels *kernels;
    fs_trainer_options options;
    fs_params *params;
    fs_rope rope;
    float softmax_scale, norm_eps;
    size_t key_dim, value_dim, qk_dim; /* of attention's core; qk_dim: of a head of q */

    fs_train_layer *layers; /* num_hidden_layers, and MTP's behind */
    uint32_t n_layers;      /* all of them */
    fs_param *embed, *norm;
    fs_lin head;
    fs_param *enorm, *hnorm, *mtp_norm; /* MTP */
    fs_lin eh_proj;
    float *embed_scatter;  /* [V, D] where embed and head are one tensor: the main scatter's own sum */
    float *mtp_head_grad, *mtp_scatter; /* [V, D] the MTP layer's own sums */
    fs_low_rank mtp_head_low;           /* the head's pair, with gradients of its own: the MTP layer's */
    fs_param mtp_pair[2];
    float *grad_memory;
    size_t grad_memory_bytes;

    fs_operand **operands; /* every one of them */
    size_t n_operands, operands_capacity;
    struct fs_pack_item *pack_items;
    size_t n_pack_items;
    uint8_t *packed;
    size_t packed_bytes;

    /* The step. */
    fs_train_totals totals;
    double loss_sum, mtp_sum, balance_sum;

    /* The micro-batch. */
    uint32_t n_tokens, n_spans, n_tiles;
    fs_span *spans;
    fs_query_tile *tiles;
    int32_t *ids, *targets, *next_ids, *next_targets; /* [T]; the latter are the MTP layer's */
    float *coefficients; /* [T] of each target's -log p in the loss */
    uint32_t *positions, *span_of; /* [T] */
    const fs_activations *activations; /* that sequences may bring; NULL: none */
    const float **brought; /* [T] of each token */
    bool brings;           /* of all tokens of this micro-batch */
    uint64_t *index;     /* [T] token index */
    uint32_t *chain_at;  /* [T + 1] */
    fs_chains chains;
    uint32_t *chain_words; /* where the pairs of each chain of dW's x begin */
    uint32_t *own_chain_at; /* [T * k + 1] of one expert with pairs, from its first row */
    uint32_t *expert_chain_at, *expert_chain_begin; /* [T * k + 1], [E + 1] of the MoE layer under way */
    float *cs, *cs_back; /* [positions, rope dim]: cos and sin, and with the sine negated */
    uint32_t cs_positions;

    const fs_train_layer *made; /* whose activations stand in the place that all layers have; of recompute */
    float *memory; /* the activations */
    size_t memory_bytes;
    uint8_t *scratch; /* a thread's */
    size_t scratch_bytes;
    float *dx, *h, *dh, *y, *tmp;       /* [T, D]; tmp [T, widest] */
    float *final_x, *final_h, *d_final; /* [T, D] */
    float *mtp_cat, *d_mtp_cat;         /* [T, 2D] */
    float *r;                           /* [T * H] factors of norms */
    float *d_att, *dq, *dk, *dv, *dk_part, *dv_part, *dq_lat, *do_lat, *d_raw, *d_kv_raw, *q_normed; /* attention's backward */
    float *k_panels;                    /* gqa forward; bf16: the keys as pairs, and the values */
    fs_pair *v_pairs;
    float *mid, *d_gate, *d_up;         /* [rows, I] of the largest feed-forward */
    float *gathered, *by_expert;        /* [T * k, D] */
    float *router_grad;                 /* [T, E] */
    float *expert_dw;                   /* [T * k] */
    float *frequency;                   /* [spans, E] f_i of the balance loss */
    float *pack_x;                      /* operand of dW: panels of x */
    const float *packed_x;              /* what pack_x was made of; NULL: of something else since */
    bool packed_pairs;                  /* and how */
    uint32_t low_r;                     /* the largest of pairs; 0: there are none */
    float *low_u, *low_e;               /* [T, low_r] of the pair under way */
    float *low_tiles;                   /* a thread's */
    float *logits;                      /* [256, V] */
    float *nll, *mtp_nll;               /* [T] */
    fs_distilling *distil;              /* NULL: nothing but the tokens */
};

static inline void *fs_trainer_scratch(const fs_trainer *t, int thread)
{
    return t->scratch + (size_t)thread * t->scratch_bytes;
}

/* Outputs, with those that fill the last panel. */
static inline size_t fs_whole_panels(size_t n)
{
    return (n + FS_PANEL - 1) / FS_PANEL * FS_PANEL;
}

/* ---- operands.c ---- */
fs_status fs_operand_add(fs_trainer *t, fs_operand *ret, fs_param *p, uint32_t row0, uint32_t n, fs_error *err);
fs_status fs_lin_init(fs_trainer *t, fs_lin *ret, const char *prefix, const char *name, fs_error *err); /* ".weight", ".bias" where there is one */
fs_status fs_operands_plan(fs_trainer *t, fs_error *err); /* once all are added: memory, and what fs_trainer_pack does */
void fs_operands_done(fs_trainer *t);

/* ---- products.c: each one region of the pool, or a few ---- */
/* y [m, n] = x W^T (+ bias), and its pair's. */
void fs_lin_forward(fs_trainer *t, const fs_lin *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy);
/* y [T, H, y_dim] = x [T, H, x_dim] W_h^T of each head, or with cols W_h. */
void fs_product_heads(fs_trainer *t, const fs_operand *w, bool cols, const float *x, size_t x_dim, float *y, size_t y_dim);
/* dW and the bias of l from dy [T, n] and x, or its pair's gradients. */
void fs_lin_grad(fs_trainer *t, const fs_lin *l, const float *dy, size_t lddy, const float *x, size_t ldx, bool same_x);
/* dx [m, k] = dy W, its pair's behind it; add: dx goes on by both. */
void fs_lin_back(fs_trainer *t, const fs_lin *l, const float *dy, size_t lddy, size_t m, float *dx, size_t lddx, bool add);

/* ---- outer.c ---- */
/* The first n columns of k rows of src, ld apart, as an operand at data: outputs are columns, of the trainer's class. */
void fs_pack_columns(const fs_trainer *t, fs_mat *ret, void *data, size_t n, size_t k, const float *src, size_t ld);
/* g [n_o, n_i] goes on by dy^T x over the chains, in class RN1-bf16 if pairs; NULL: nothing is done. same_x: x is what the last call had. */
void fs_outer(fs_trainer *t, float *g, bool pairs, const float *dy, size_t lddy, size_t n_o, const float *x, size_t ldx, size_t n_i,
              const fs_chains *chains, bool same_x);
/* The same of each head: dy [T, H, dy_dim], of it the first w.n, and x [T, H, x_dim], of it the first w.k. */
void fs_outer_heads(fs_trainer *t, const fs_operand *w, const float *dy, size_t dy_dim, const float *x, size_t x_dim);
/* The same for the rows of each expert, chains of them all in t->expert_chain_*: gradients of operand which of experts. */
enum fs_expert_part { FS_EXPERT_GATE, FS_EXPERT_UP, FS_EXPERT_DOWN };
void fs_outer_experts(fs_trainer *t, fs_train_layer *layer, enum fs_expert_part part, const float *dy, size_t lddy, const uint32_t *dy_index,
                      size_t n_o, const float *x, size_t ldx, const uint32_t *x_index, size_t n_i, bool same_x);

/* ---- clip.c ---- */
void fs_clip_begin(fs_trainer *t);
void fs_clip_see(fs_trainer *t, fs_train_layer *l); /* behind the layer's forward */

/* ---- lora.c ---- */
/* The pair of the linear, called as on the Hub, if the parameters have one. */
fs_status fs_low_rank_init(fs_trainer *t, fs_low_rank *ret, const char *linear, fs_error *err);
size_t fs_low_rank_tile_floats(const fs_trainer *t);
/* Each of a linear that has a pair: y goes on; dx goes on; the pair's gradients over the chains, as fs_outer's. */
void fs_low_rank_forward(fs_trainer *t, const fs_low_rank *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy);
void fs_low_rank_back(fs_trainer *t, const fs_low_rank *l, const float *dy, size_t lddy, size_t m, float *dx, size_t lddx);
void fs_low_rank_grad(fs_trainer *t, const fs_low_rank *l, const float *dy, size_t lddy, const float *x, size_t ldx, const fs_chains *chains, bool same_x);
/* The first two by one thread within a region, of a linear that may have a pair. */
void fs_low_rank_forward_on(fs_trainer *t, const fs_low_rank *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy, int thread);
void fs_low_rank_back_on(fs_trainer *t, const fs_low_rank *l, const float *dy, size_t lddy, size_t m, float *dx, size_t lddx, int thread);
/* *ret stays NULL where w has no pair. */
fs_status fs_merged_new(fs_trainer *t, fs_param *w, const char *linear, fs_merged **ret, fs_error *err);
void fs_merged_free(fs_merged *m);
void fs_merged_pack(fs_trainer *t, fs_merged *m); /* once its pair is packed */
void fs_merged_end(fs_trainer *t, fs_merged *m);  /* the pair's gradients from g */

/* ---- rows.c ---- */
size_t fs_train_row_grain(const fs_trainer *t, size_t m);
void fs_norm_forward(fs_trainer *t, const fs_param *w, float eps, const float *x, size_t ldx, float *y, size_t ldy, size_t n, size_t m);
/* dx = fl(dx + backward), w's gradient where it has one; rows are m = T * per_token, per_token of a token in a chain. dy is lost. */
void fs_norm_backward(fs_trainer *t, const fs_param *w, float eps, const float *x, size_t ldx, float *dy, size_t lddy, float *dx, size_t lddx,
                      size_t n, size_t per_token);
void fs_add_rows(fs_trainer *t, const float *a, const float *b, float *y, size_t n_floats); /* y = fl(a + b) */
void fs_embed(fs_trainer *t, const int32_t *ids, float *y);
void fs_embed_backward(fs_trainer *t, const int32_t *ids, const float *dy, size_t lddy, float *g); /* [V, D], ascending tokens; NULL: nothing is done */
void fs_bias_backward(fs_trainer *t, const fs_param *bias, const float *dy, size_t lddy);

/* ---- attention.c: the core, of heads that share keys ---- */
typedef struct fs_heads {
    size_t n_heads, group; /* heads of one kv head */
    bool latent;           /* a key is a row of key_dim whose first value_dim are its value; one kv head */
    size_t key_dim, value_dim;
    const float *q; /* [T, H, key_dim] */
    const float *k; /* [T, KV, key_dim] */
    const float *v; /* [T, KV, value_dim]; latent: NULL */
    float *o;       /* [T, H, value_dim] */
    float *m, *l;   /* [T, H] */
} fs_heads;
size_t fs_attention_backward_bytes(size_t key_dim, size_t value_dim); /* scratch of a thread */
uint32_t fs_attention_tile_queries(const fs_trainer *t);
void fs_attention_forward(fs_trainer *t, const fs_heads *a);
/* dq [T, H, key_dim]; dk [T, KV, key_dim], of latent rows with their values' part; dv [T, KV, value_dim]. */
void fs_attention_backward(fs_trainer *t, const fs_heads *a, const float *d_o, float *dq, float *dk, float *dv);

/* ---- bring.c: what fs_trainer_run's forward leaves, of tokens that bring it ---- */
void fs_forward_brought(fs_trainer *t);

/* ---- the sublayers: y = f(t->h), of attention NULL: all but the output is wanted; from dy, t->dh = its input's gradient, with t->h as it was ---- */
void fs_gqa_forward(fs_trainer *t, fs_train_layer *l, float *y);
void fs_gqa_backward(fs_trainer *t, fs_train_layer *l, const float *dy);
void fs_latent_forward(fs_trainer *t, fs_train_layer *l, float *y);
void fs_latent_backward(fs_trainer *t, fs_train_layer *l, const float *dy);
void fs_ffn_forward(fs_trainer *t, const fs_lin_ffn *f, float *gate, float *up, float *y);
/* What of the forward the backward reads, once more. */
void fs_ffn_again(fs_trainer *t, const fs_lin_ffn *f, float *gate, float *up);
/* add: t->dh goes on. */
void fs_ffn_backward(fs_trainer *t, const fs_lin_ffn *f, const float *gate, const float *up, const float *dy, bool add);
void fs_experts_forward(fs_trainer *t, fs_train_layer *l, float *y);
void fs_experts_again(fs_trainer *t, fs_train_layer *l); /* by the choice that was made: nothing is counted twice */
void fs_experts_bring(fs_trainer *t, fs_train_layer *l, const fs_layer_activations *from); /* what the forward keeps, from t->brought */
void fs_experts_backward(fs_trainer *t, fs_train_layer *l, const float *dy);

/* ---- teacher.c ---- */
/* Of tokens [row, row + m) of the micro-batch, m <= 256, blocks in rising order: ret [m, V]. */
fs_status fs_teacher_logits(struct fs_teacher *t, const fs_trainer *of, uint32_t row, uint32_t m, float *ret, fs_error *err);
void fs_distilling_free(fs_distilling *d);

/* ---- loss.c ---- */
/* Cross entropy of h [T, D]: nll [T] is filled and added to sum; with d_h the gradient of the sum of coefficients [T] * nll, or
 * where that is NULL of coefficient * nll, and those of the head and its pair in head_grad and head_low. */
fs_status fs_loss(fs_trainer *t, const float *h, const int32_t *targets, const float *coefficients, float coefficient, float *nll, double *sum, float *d_h,
                  float *head_grad, const fs_low_rank *head_low, fs_error *err);

#endif
