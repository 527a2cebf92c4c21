/* What the architectures share: the loaded layers, the loader, and the parts of a step. Private to models/.
 * T tokens, D hidden_size, H heads, V vocab, E routed experts, k experts a token, I intermediate, n hc_mult. */
#ifndef FS_MODELS_INTERNAL_H
#define FS_MODELS_INTERNAL_H

#include "kernels/kv8.h"
#include "models/importance.h"
#include "models/network.h"
#include "models/rope.h"

#define FS_NAME_MAX 192

/* An adapter's y = fl(y + fl(scale * B (A x))). */
typedef struct fs_lora {
    uint32_t rank; /* 0: none */
    fs_mat a, b;   /* [rank, k], [n, rank] */
    float scale;
} fs_lora;

typedef struct fs_linear {
    fs_mat mat;
    const fs_tensor *stored; /* NULL: mat holds it. Else it is still where the file has it (stored.c), and mat.data is NULL */
    const float *bias; /* NULL: none */
    fs_lora lora;
    uint32_t input; /* of options.importance; 0: not counted, or by someone else */
} fs_linear;

/* Forms that products take their input in: bits. */
enum { FS_TAKES_F32 = 1, FS_TAKES_CODES = 2 /* of RN1 section 6 */ };
static inline unsigned fs_linear_takes(const fs_linear *l)
{
    unsigned of_mat = l->mat.codes ? FS_TAKES_CODES : FS_TAKES_F32;
    return l->lora.rank ? of_mat | FS_TAKES_F32 : of_mat;
}

typedef struct fs_ffn {
    fs_linear gate, up, down; /* [I, D], [I, D], [D, I] */
    bool met; /* of a routed expert: a step has used it */
} fs_ffn;

typedef struct fs_experts fs_experts;
typedef struct fs_moe {
    fs_linear router;             /* [E, D] */
    const float *correction_bias; /* [E] or NULL */
    const int32_t *token_experts; /* [V, k] ascending a row: the token id alone chooses; NULL: by scores */
    fs_ffn *experts;              /* E */
    fs_ffn shared;
    bool has_shared;
    unsigned takes;                    /* of the layer's input: router, gates and ups */
    unsigned experts_take, downs_take; /* gates and ups, and downs, of the routed experts */
    uint32_t layer;                    /* of net->experts */
    uint32_t input, mid;               /* of options.importance: of gates and ups, and of downs, an expert each */
    const struct fs_moe *next;         /* of the following layer; NULL: none, or nothing is streamed */
    const float *next_norm;            /* [D] of its input; NULL: there are streams */
} fs_moe;

typedef struct fs_gqa {
    fs_linear q, k, v, o;
    const float *q_norm, *k_norm; /* [head_dim] or NULL */
} fs_gqa;

/* The lightning indexer of V3.2. */
typedef struct fs_indexer {
    fs_linear wq_b;         /* [index_n_heads * index_head_dim, q_lora] */
    fs_linear wk;           /* [index_head_dim, D] */
    fs_linear weights_proj; /* [index_n_heads, D] */
    const float *k_norm, *k_norm_bias; /* [index_head_dim] */
} fs_indexer;

typedef struct fs_mla {
    fs_linear q;   /* q_proj, or q_b_proj behind q_a */
    fs_linear q_a; /* q_lora_rank > 0 only */
    const float *q_a_norm;
    fs_linear kv_a;         /* [kv_lora + rope, D] */
    const float *kv_a_norm; /* [kv_lora] */
    fs_mat *w_uk;           /* H times [kv_lora, nope]; values, or codes where the file holds them so */
    fs_mat *w_uv;           /* H times [v, kv_lora] */
    uint32_t uk_input, uv_input, up_input; /* of options.importance: k_b_proj, v_b_proj, and kv_b_proj whole */
    fs_linear o;
    fs_indexer indexer; /* has_indexer only */
} fs_mla;

/* V4's hyper-connections at one place: pre n, post n and comb n*n from the streams; at the model's end only pre. */
typedef struct fs_hc {
    fs_linear fn;              /* [n * (2 + n), n * D] */
    const float *base, *scale; /* [n * (2 + n)], [3] */
} fs_hc;

/* V4: pools every window of ratio tokens into one entry of width elements. overlap: two series a token; an entry takes
 * the first of the previous window and the second of its own. */
typedef struct fs_compressor {
    fs_linear kv, gate; /* [series * width, D] */
    const float *ape;   /* [ratio, series * width] */
    const float *norm;  /* [width] */
    uint32_t ratio, width;
    bool overlap;
} fs_compressor;

typedef struct fs_v4 {
    fs_hc hc_attention, hc_ffn;
    fs_linear q_a, q_b, kv;
    fs_linear o_a; /* [o_groups * o_lora_rank, H * head_dim / o_groups]: block-diagonal, a group's rows by its heads */
    fs_linear o_b;
    const float *q_a_norm, *kv_norm, *sink; /* [q_lora_rank], [head_dim], [H] */
    uint32_t ratio;                         /* 0: window only */
    fs_compressor compressor, index_compressor;
    bool has_index;
    fs_linear index_q, index_weights; /* [index_n_heads * index_head_dim, q_lora_rank], [index_n_heads, D] */
    size_t cache_offset, fixed_offset; /* floats a token, and floats, of the layers before */
} fs_v4;

typedef struct fs_layer {
    const float *input_norm, *post_attention_norm; /* [D] */
    fs_gqa gqa;
    fs_mla mla;
    fs_v4 v4;
    fs_ffn ffn;
    fs_moe moe;
    bool is_moe;
    unsigned attention_takes, ffn_takes; /* the first products of each, all of one input */
} fs_layer;

typedef struct fs_mtp {
    bool present;
    fs_layer layer;
    const float *enorm, *hnorm, *norm; /* [D] */
    fs_linear eh_proj;                 /* [D, 2D] */
    fs_linear e_proj, h_proj;          /* [D, D]: V4, in the place of eh_proj */
    fs_hc hc_head;                     /* V4 */
    const fs_tensor *embed_tokens;     /* its own copy, or the main one */
    fs_linear head;                    /* only when the file holds one that differs from lm_head */
    bool own_head;
} fs_mtp;

typedef struct fs_loader fs_loader;
typedef struct fs_ws_walk fs_ws_walk;

/* One architecture: how its layers are loaded and run. */
typedef struct fs_arch {
    const char *model_type;
    bool is_mla, has_indexer;
    /* A config the code could not run is refused by name here. */
    fs_status (*check)(const fs_config *c, fs_error *err);
    /* prefix: "model.layers.N." */
    fs_status (*load_attention)(fs_loader *l, fs_layer *layer, const char *prefix, fs_error *err);
    void (*attention)(fs_network *net, fs_workspace *ws, const fs_layer *layer, uint32_t index);

    /* What only V4 brings of its own, having streams for a residual and caches a layer; NULL elsewhere. */
    fs_status (*init)(fs_network *net, fs_error *err);   /* after rope and softmax_scale, before loading */
    fs_status (*load)(fs_loader *l, fs_error *err);      /* the whole model */
    size_t (*cache_floats)(const fs_network *net);       /* a token, all layers */
    size_t (*cache_fixed_floats)(const fs_network *net); /* besides */
    /* Makes the cache ready to go on from a position at or below n, which is under rewind_min, and returns that. */
    uint32_t (*cache_restore)(const fs_network *net, const fs_cache *c, uint32_t n);
    void (*workspace)(const fs_network *net, fs_workspace *ws, fs_ws_walk *w);
    void (*run)(fs_network *net, fs_workspace *ws);      /* embeddings and layers, ret_hidden; leaves ws->x before the final norm */
    /* The MTP layer over the step's rows; leaves ws->x before its norm. ret_hidden of the last n_last rows, or NULL. */
    void (*run_mtp)(fs_network *net, fs_workspace *ws, const float *hidden, uint32_t n_last, float *ret_hidden);
} fs_arch;

extern const fs_arch fs_arch_deepseek, fs_arch_llama, fs_arch_qwen2, fs_arch_qwen3, fs_arch_deepseek_v2, fs_arch_deepseek_v3,
    fs_arch_deepseek_v32, fs_arch_deepseek_v4;
/* NULL when unknown. */
const fs_arch *fs_arch_find(const char *model_type);
/* "llama, qwen2, ..." for sentences. */
const char *fs_arch_names(void);

struct fs_network {
    const fs_arch *arch;
    const fs_weights *weights;
    const fs_config *config;
    fs_pool *pool;
    const fs_kernels *kernels;
    fs_network_options options;
    fs_network_plan plan;
    const fs_activations *activations; /* that steps keep; NULL: none */

    uint8_t *memory; /* every packed weight, plan.weights_bytes: first those that are packed at once */
    size_t late_bytes, late_used; /* of those that steps pack, in the order in which they do */
    fs_linear **late;             /* those of them that are no experts: n_late, the first n_late_packed packed */
    size_t n_late, n_late_packed, late_list_bytes;
    bool stepped;
    uint32_t n_slots;    /* 0: all experts are in memory, too */
    fs_experts *experts; /* NULL: they are */
    fs_layer *layers;
    fs_mtp mtp;
    const fs_tensor *embed_tokens;
    const float *norm;
    fs_linear lm_head;
    uint32_t head_input; /* of options.importance */
    fs_rope rope;
    fs_rope rope_compressed; /* V4: of the layers that compress, window part too */
    fs_hc hc_head;           /* V4 */
    float softmax_scale;

    size_t stored_panel_bytes; /* the largest panel of a linear that stays in the file; 0: none does */
    uint32_t lora_rank; /* the adapter's; 0: none */
    unsigned takes;     /* of all linears */
    uint32_t codes_k;   /* the longest input that is quantised */

    /* Cache geometry, floats a token of one layer: gqa k_dim and v_dim of each of n_cache_heads; mla k_dim of one. */
    uint32_t k_dim, v_dim, n_cache_heads, n_cache_layers;
    uint32_t index_dim; /* floats a token of the indexer's keys; 0: none */
    bool kv_bf16;            /* attention is of class RN1-bf16, keys and values are bf16 pairs (kernels/attention.h), else f32 */
    bool kv_q8;              /* and of these the cache holds 8-bit rows (kernels/kv8.h) */
    size_t k_bytes, v_bytes; /* of k_dim and v_dim a token and head */
};

/* ---- loader.c: two passes over the same code; the first plans and checks, the second packs ---- */
struct fs_loader {
    fs_network *net;
    bool planning;
    bool expert; /* the linears are those of routed experts */
    size_t used_bytes, n_late;
    size_t expert_bytes; /* of the expert under way */
    const fs_tensor *expert_tensors[3];
    int n_expert_tensors;
};

/* A NaN in the scales of t, if it has any, is a sentence. */
fs_status fs_scales_check(const fs_tensor *t, fs_error *err);

/* The adapter's pair for the linear name [n, k], if it has one; fs_loader_linear calls it. */
fs_status fs_loader_lora(fs_loader *l, fs_lora *ret, uint64_t n, uint64_t k, const char *name, fs_error *err);

/* prefix + name + ".weight" (and ".bias"). */
fs_status fs_loader_linear(fs_loader *l, fs_linear *ret, uint64_t n, uint64_t k, bool bias, const char *prefix,
                           const char *name, fs_error *err);
/* What prefix + name (and other) are given, a number of options.importance; 0 without one. */
fs_status fs_loader_input(fs_loader *l, uint32_t *ret, const char *prefix, const char *name, const char *other, uint64_t n, uint64_t k, fs_error *err);
/* Like fs_loader_linear, always by section 1 of RN1: routers, and what is multiplied by hand. */
fs_status fs_loader_exact(fs_loader *l, fs_linear *ret, uint64_t n, uint64_t k, const char *prefix, const char *name, fs_error *err);
/* prefix + name, as f32. */
fs_status fs_loader_vector(fs_loader *l, const float **ret, uint64_t n, const char *prefix, const char *name, fs_error *err);
/* prefix + name as packed f32 or as it is stored, by section 1: a matrix whose name ends in no ".weight". */
fs_status fs_loader_matrix(fs_loader *l, fs_linear *ret, uint64_t n, uint64_t k, const char *prefix, const char *name,
                           fs_error *err);
/* Columns [col, col + k) of prefix + name [n, n_cols], packed as f32. */
fs_status fs_loader_columns(fs_loader *l, fs_linear *ret, uint64_t n, uint64_t col, uint64_t k, uint64_t n_cols, const char *prefix,
                            const char *name, fs_error *err);
/* prefix + name [n, k] as f32 rows, unpacked. */
fs_status fs_loader_rows(fs_loader *l, const float **ret, uint64_t n, uint64_t k, const char *prefix, const char *name,
                         fs_error *err);
/* prefix + name, I64 (GGUF: I32) [n, k] of ids below limit, each row sorted. */
fs_status fs_loader_ids(fs_loader *l, const int32_t **ret, uint64_t n, uint64_t k, uint32_t limit, const char *prefix,
                        const char *name, fs_error *err);
/* The per-head absorbed matrices, from kv_b_proj or from k_b_proj and v_b_proj. */
fs_status fs_loader_mla_up(fs_loader *l, fs_mla *mla, const char *prefix, fs_error *err);

/* ---- layers.c ---- */
/* prefix + names[0 .. 2] are gate, up and down. */
fs_status fs_loader_ffn(fs_loader *l, fs_ffn *f, uint64_t intermediate, bool bias, const char *prefix,
                        const char *const names[3], fs_error *err);
/* The routed experts prefix + "experts.N." and, with n_shared_experts, prefix + "shared_experts.". */
fs_status fs_loader_experts(fs_loader *l, fs_moe *moe, const char *prefix, const char *const names[3], fs_error *err);
/* The head's input is counted for every token by the step, not where it is multiplied. */
void fs_loader_head_input(fs_loader *l);
/* The whole model, by net->arch. */
fs_status fs_loader_run(fs_loader *l, fs_error *err);
void fs_layer_done(fs_layer *layer);

/* ---- cache.c ---- */
/* A step has written rows up to the position end; grown says whether they count. */
void fs_cache_written(const fs_network *net, fs_cache *c, uint32_t end, bool grown);
/* Addresses of layer index. */
void *fs_cache_k(const fs_network *net, const fs_cache *c, uint32_t layer, uint32_t kv_head); /* gqa panels; mla rows */
void *fs_cache_v(const fs_network *net, const fs_cache *c, uint32_t layer, uint32_t kv_head); /* gqa rows */
float *fs_cache_index(const fs_network *net, const fs_cache *c, uint32_t layer); /* the indexer's key panels */

/* ---- workspace.c ---- */
/* The input of products: f32 rows, and their codes where somebody takes them. */
typedef struct fs_input {
    const float *x; /* [m, ldx] */
    size_t ldx;
    fs_quants codes; /* data NULL: not made */
} fs_input;

/* One query tile of the attention region. */
typedef struct fs_tile_ref {
    uint32_t row;    /* which of the step's sequences */
    uint32_t token0; /* first token in the step */
    uint32_t n_q;
    uint32_t head0, n_heads; /* gqa: head0 is the first query head of one kv head */
    uint32_t unit0;          /* blocks of keys of the tiles before it */
} fs_tile_ref;

/* The part of a workspace that only V4 has; W its index width, S a compressor's series. */
typedef struct fs_v4_workspace {
    float *streams, *flat;        /* [T, n, D] the residual; the same normed */
    float *mix;                   /* [T, n * (2 + n)] */
    float *post, *comb;           /* [T, n], [T, n, n] of the place under way */
    float *cs_compressed;         /* [T, rope dim] */
    float *pool_kv, *pool_gate;   /* [T, S * head_dim] what tokens offer, ape in the gate */
    float *index_kv, *index_gate; /* [T, S * W] */
    float *o_low;                 /* [T, o_groups * o_lora_rank] */
    float *scratch;               /* [n_threads, scratch_floats] for streams and for pooling */
    size_t scratch_floats;
} fs_v4_workspace;

struct fs_workspace {
    uint32_t tokens_max, sequences_max;
    fs_arena arena;
    int n_threads;
    uint8_t *scratch; /* n_threads of them */
    size_t scratch_bytes;
    uint8_t *kv_block; /* n_threads of them: a block of an 8-bit cache as bf16, and a tile's output of it */
    size_t kv_block_bytes;
    uint8_t *panels; /* n_threads of them: panels of weights that stay in the file */
    size_t panels_bytes;

    /* The step under way. */
    const fs_step_rows *rows;
    size_t n_rows;
    uint32_t n_tokens;
    int32_t *ids;        /* [T] */
    uint32_t *positions; /* [T] */
    uint32_t *row_of;    /* [T] sequence of a token */
    float **kept;        /* [T] where a token's activations go; NULL: nowhere */
    bool keeps;          /* some do */
    float *cs;           /* [T, rope dim] */
    float *x;            /* [T, D] residual stream */
    float *h;            /* [T, D] normed input */
    fs_input in;         /* h, with the codes that its first products take */
    uint8_t *h_codes;    /* [T, D]; this and other codes: NULL where the network never takes them */
    uint8_t *stage;      /* codes [T, the longest k] of whatever region is under way */
    float *y;            /* [T, D] output of a sublayer */
    float *q;            /* [T, H * key dim] */
    float *k, *v;        /* [T, KV * head_dim]; mla: k is [T, kv_lora + rope] */
    float *q_a;          /* [T, q_lora] */
    float *q_lat;        /* [T, H, kv_lora + rope] */
    float *o_lat;        /* [T, H, kv_lora] */
    float *att;          /* [T, H * v] */
    float *index_q, *index_k, *index_w; /* [T, index heads * dim], [T, dim], [T, index heads] */
    uint32_t *selected;                 /* [T, index_topk] positions, ascending */
    uint8_t *index_scratch, *sparse_scratch; /* n_threads of them */
    size_t index_scratch_bytes, sparse_scratch_bytes;
    float *gate, *up;    /* [rows, I], the largest of rows * I over the layers */
    fs_tile_ref *tiles;
    size_t n_tiles, n_tiles_max;
    uint32_t n_units;                /* blocks of keys of all tiles */
    size_t cut_rows;                 /* attend.c: results of blocks that may wait at once */
    float *cut_m, *cut_l, *cut_o;    /* [cut_rows], [cut_rows], [cut_rows, value dim] */
    float *cut_max, *cut_sum;        /* [tiles, FS_ATTENTION_QUERIES_MAX] of the rows, M and L */

    /* MoE. */
    float *router;          /* [T, E] scores */
    float *biased;          /* [n_threads, 2E] */
    int32_t *top_ids;       /* [T, k] ascending */
    float *top_weights;     /* [T, k] */
    uint32_t *slot;         /* [T, k] row of the gathered matrices */
    uint32_t *slot_of_row;  /* [T * k] its inverse; where activations are kept */
    uint32_t *expert_begin; /* [E + 1] */
    uint32_t *active;       /* [E + 1] experts with rows; E is the shared one */
    uint32_t n_active;
    int32_t *guess_ids;     /* [T, k] of the next layer */
    uint32_t *votes;        /* [E] of guess_ids */
    uint32_t *guess, *ready; /* [E], [E]: models/experts.h */
    float *gathered;        /* [T * k, D] inputs by expert */
    uint8_t *gathered_codes, *gate_codes; /* [T * k, D], [T * k, I] by expert */
    float *expert_out;      /* [T * k, D] */
    float *shared_gate, *shared_up; /* [T, I_shared] */
    float *shared_out;      /* [T, D] */
    float *head_in;         /* [T, D] rows whose logits are wanted */
    float *lora;            /* [FS_PRODUCTS_MAX, lora_rows, rank] A x of the products under way */
    size_t lora_rows;
    float *lora_tile;       /* [n_threads, FS_LORA_TILE_FLOATS] B (A x) */
    float *logits;          /* [logit_rows_max, V] when several sequences share the head product */
    uint32_t logit_rows_max;
    fs_v4_workspace v4;
};

/* An array of a * b elements; counted only while the plan is made, then NULL. */
void *fs_ws_array(fs_ws_walk *w, size_t elem_bytes, size_t a, size_t b);

static inline void *fs_ws_scratch(const fs_workspace *ws, int thread)
{
    return ws->scratch + (size_t)thread * ws->scratch_bytes;
}

/* ---- parts.c: the pieces of a step, each one region of the pool ---- */
/* The input x [m, ldx] of products of k inputs, with room in codes for what they take; nothing is quantised yet. */
fs_input fs_input_make(const float *x, size_t ldx, uint8_t *codes, size_t k, unsigned takes);
/* Codes of rows [row, row + n_rows), columns [begin, end) of the input: multiples of the blocks. */
void fs_input_quantize(const fs_network *net, const fs_input *in, size_t row, size_t n_rows, size_t begin, size_t end);
/* The same, only what l takes. */
void fs_input_quantize_for(const fs_network *net, const fs_linear *l, const fs_input *in, size_t row, size_t n_rows, size_t begin, size_t end);
/* Outputs of panels [panel_begin, panel_end) for rows [row, row + m) of the input, by the calling thread; y is row's. next: where
 * panels of the same layout lie that it is likely to read then, which are fetched meanwhile where that helps; NULL: not known. */
void fs_linear_panels(const fs_network *net, const fs_workspace *ws, const fs_linear *l, size_t panel_begin, size_t panel_end,
                      const uint8_t *next, const fs_input *in, size_t row, size_t m, float *y, size_t ldy, int thread);
/* Where panel of l's lies; NULL: where the file has it. */
static inline const uint8_t *fs_linear_panel(const fs_linear *l, size_t panel)
{
    return l->mat.data ? l->mat.data + panel * l->mat.panel_bytes : NULL;
}

typedef struct fs_product {
    const fs_linear *linear;
    float *y; /* [m, ldy] */
    size_t ldy;
} fs_product;
#define FS_PRODUCTS_MAX 4

/* The adapter's part of a product, in two pieces: A x of all rows once, then B (A x) added to the panels that a thread
 * has just computed. Both do nothing for a linear without an adapter.
 * Columns are the products' slots in ws->lora, [0, FS_PRODUCTS_MAX). */
#define FS_LORA_TILE_ROWS   64
#define FS_LORA_TILE_PANELS 16
#define FS_LORA_TILE_FLOATS ((size_t)FS_LORA_TILE_ROWS * FS_LORA_TILE_PANELS * FS_PANEL)
float *fs_lora_slot(const fs_network *net, const fs_workspace *ws, int slot);
/* u [m, rank] = A x, by the calling thread. */
void fs_lora_down(const fs_network *net, fs_workspace *ws, const fs_linear *l, const float *x, size_t ldx, size_t m, float *u, int thread);
/* y = fl(y + fl(scale * B u)) in the outputs of panels [panel_begin, panel_end), by the calling thread. */
void fs_lora_up(const fs_network *net, fs_workspace *ws, const fs_linear *l, size_t panel_begin, size_t panel_end, const float *u, size_t m,
                float *y, size_t ldy, int thread);

/* Several products of one input in one region. Codes that they take and the input does not have are made first, in
 * ws->stage. */
void fs_products_run_in(fs_network *net, fs_workspace *ws, const fs_product *products, int n_products, const fs_input *in, size_t m);
void fs_products_run(fs_network *net, fs_workspace *ws, const fs_product *products, int n_products, const float *x,
                     size_t ldx, size_t m);
void fs_linear_run(fs_network *net, fs_workspace *ws, const fs_linear *l, const float *x, size_t ldx, size_t m, float *y,
                   size_t ldy);
/* y = rmsnorm(x) over m rows of n. */
void fs_norm_rows(fs_network *net, const float *x, size_t ldx, const float *w, double eps, float *y, size_t ldy, size_t n,
                  size_t m);
/* ws->h = rmsnorm(x, w) over m rows of D, and ws->in is it, in the forms that takes names. */
void fs_norm_in(fs_network *net, fs_workspace *ws, const float *x, const float *w, unsigned takes, size_t m);
/* x = fl(x + y) over m rows of D, then fs_norm_in of it in the same pass; w NULL: only the sum. */
void fs_add_norm_in(fs_network *net, fs_workspace *ws, float *x, const float *y, const float *w, unsigned takes, size_t m);
/* The same, x kept at float `at` of the tokens' activations. */
void fs_add_norm_kept(fs_network *net, fs_workspace *ws, float *x, const float *y, const float *w, unsigned takes, size_t m, size_t at);
/* Columns [col, col + cols) of token t's gate and up [.., n], before SwiGLU, kept at those floats. */
void fs_keep_gate_up(const fs_workspace *ws, size_t t, size_t gate_at, size_t up_at, const float *gate, const float *up, size_t col, size_t cols);
/* y = down(silu(gate h) * up h) of ws->in. */
/* kept: where gate and up stand in the tokens' activations; NULL: they are not kept. */
void fs_ffn_run(fs_network *net, fs_workspace *ws, const fs_ffn *f, size_t m, float *y, const fs_layer_activations *kept);
/* The same of ws->h as it is. */
void fs_h_in(fs_network *net, fs_workspace *ws, unsigned takes, size_t m);
/* Panels a piece: a few pieces a thread, none too small to hide the latency of the fma chains. */
size_t fs_panel_grain(const fs_network *net, size_t n_panels);
/* The same, a multiple of align. */
size_t fs_block_grain(const fs_network *net, size_t n_panels, size_t align);
/* Panels that a piece must be a multiple of for its outputs to be whole blocks of the input of down. */
static inline size_t fs_down_align(const fs_linear *down)
{
    return down->mat.codes ? FS_QUANTS_BLOCK / FS_PANEL : 1;
}
size_t fs_row_grain(const fs_network *net, size_t m);

/* ---- stored.c: weights that are still where the file has them ---- */
/* fs_linear_panels of a linear that has no place of its own. */
void fs_stored_panels(const fs_network *net, const fs_workspace *ws, const fs_linear *l, size_t panel_begin, size_t panel_end,
                      const fs_input *in, size_t row, size_t m, float *y, size_t ldy, int thread);
/* A step of n_tokens begins, or (stored.c's choice) the use of n experts in it: packs what is worth it by now. */
void fs_stored_begin(fs_network *net, size_t n_tokens);
void fs_stored_experts(fs_network *net, const fs_moe *moe, const uint32_t *experts, uint32_t n, size_t n_tokens);

/* ---- moe.c ---- */
/* Of ws->in, which must have the codes that the layer takes. */
void fs_moe_run(fs_network *net, fs_workspace *ws, const fs_moe *moe, size_t m, float *y, const fs_layer_activations *kept);

/* ---- step.c ---- */
/* From ws->x and ws->in to ws->x after the layer, and ws->in for the next: its norm and its first products' forms. */
void fs_layer_run(fs_network *net, fs_workspace *ws, const fs_layer *layer, uint32_t index, const float *next_norm, unsigned next_takes);

/* ---- attend.c ---- */
/* Query tiles over heads_per_tile heads each; heads0 steps by heads_per_tile up to n_heads. */
void fs_tiles_plan(fs_workspace *ws, uint32_t n_heads, uint32_t heads_per_tile);
#define FS_CUT_MAX (4 * FS_POOL_THREADS_MAX)
size_t fs_cut_tiles_max(int n_threads); /* <= FS_CUT_MAX; 0: never cut */
size_t fs_cut_rows(int n_threads);
/* Whether the step has so few tiles that they are cut into blocks of keys. */
bool fs_attention_is_cut(const fs_network *net, const fs_workspace *ws);
/* All tiles of the step, in pieces. tile_of: what a whole tile would be; it is asked many times. */
typedef void fs_tile_fn(void *ud, const fs_tile_ref *ref, fs_attention_tile *ret);
void fs_attention_cut(fs_network *net, fs_workspace *ws, bool latent, size_t value_dim, fs_tile_fn *tile_of, void *ud);
/* A whole tile over an 8-bit cache, whose k16 and v16 are the cache's bytes. */
void fs_attention_q8(const fs_network *net, const fs_workspace *ws, bool latent, const fs_attention_tile *t, int thread);

/* ---- indexer.c: ws->h and ws->q_a -> ws->selected for tokens past the first index_topk positions ---- */
fs_status fs_indexer_load(fs_loader *l, fs_indexer *x, const char *prefix, fs_error *err);
size_t fs_indexer_scratch_bytes(const fs_config *c);
/* One query [index_n_heads, index_head_dim] over n_keys > index_topk keys in panels: the best, ascending. */
void fs_indexer_select(const fs_network *net, const float *q, const float *weights, const float *panels, size_t n_keys,
                       uint32_t *selected, uint8_t *scratch);
void fs_indexer_run(fs_network *net, fs_workspace *ws, const fs_indexer *x, uint32_t layer);

/* ---- sparse.c: a tile of one query and at most FS_SPARSE_HEADS_MAX heads over some keys ---- */
#define FS_SPARSE_HEADS_MAX FS_LATENT_ROWS
typedef struct fs_sparse {
    const fs_kernels *kernels;
    const fs_attention_tile *tile;
    float *panel, *gathered, *scores, *block_out;
    float max[FS_SPARSE_HEADS_MAX], sum[FS_SPARSE_HEADS_MAX]; /* M and L, out holds O */
    bool joined;
} fs_sparse;
size_t fs_sparse_scratch_bytes(size_t key_dim, size_t value_dim);
/* Of the tile n_q is 1; pos0, k and v are not read. */
void fs_sparse_begin(fs_sparse *s, const fs_kernels *k, const fs_attention_tile *t, void *scratch);
/* Joins rows of keys [., key_dim], whose first value_dim are their values, in blocks of FS_KV_BLOCK indices: those of
 * selected [n], ascending, or with NULL the n from first on. Every call has an index space of its own. */
void fs_sparse_keys(fs_sparse *s, const float *keys, const uint32_t *selected, size_t first, size_t n);
/* Joins a sink a head where sink is not NULL, and divides. There was at least one key. */
void fs_sparse_end(fs_sparse *s, const float *sink);
/* All of it over t->k, without a sink. */
void fs_sparse_attention(const fs_kernels *k, const fs_attention_tile *t, const uint32_t *selected, size_t n_selected, void *scratch);

/* ---- gqa.c, mla.c: ws->h -> ws->y with o_proj applied; cache rows written ---- */
void fs_gqa_attention(fs_network *net, fs_workspace *ws, const fs_layer *layer, uint32_t index);
void fs_mla_attention(fs_network *net, fs_workspace *ws, const fs_layer *layer, uint32_t index);
fs_status fs_gqa_load(fs_loader *l, fs_gqa *gqa, const char *prefix, bool qkv_bias, bool o_bias, bool qk_norm, fs_error *err);
fs_status fs_mla_load(fs_loader *l, fs_mla *mla, const char *prefix, fs_error *err);
fs_status fs_gqa_check(const fs_config *c, fs_error *err); /* head sizes */

/* ---- v4_mhc.c, v4_compress.c, v4_attention.c ---- */
float *fs_v4_scratch(const fs_workspace *ws, int thread);
/* Streams -> ws->h, the normed input of a sublayer; post and comb are kept for fs_hc_post. */
void fs_hc_pre(fs_network *net, fs_workspace *ws, const fs_hc *hc, const float *norm);
/* Streams from ws->y, the sublayer's output, and the streams before. */
void fs_hc_post(fs_network *net, fs_workspace *ws);
/* Streams -> ws->x. */
void fs_hc_head(fs_network *net, fs_workspace *ws, const fs_hc *hc);

/* What tokens offer to one compressor: kv and gate rows of series * width, ape in the gate, of the last n_rows positions,
 * position p in row p % n_rows: an open window, and what was one FS_CACHE_REWIND tokens before. Where windows overlap, also
 * the first series of the last window before every multiple of FS_V4_BORDER, from where a cache rewound further goes on. */
#define FS_V4_BORDER 128
typedef struct fs_v4_offers {
    const fs_compressor *compressor;
    float *kv, *gate;
    float *borders; /* [ctx / FS_V4_BORDER, 2, ratio, width]; NULL: no overlap */
    size_t n_rows;
} fs_v4_offers;

/* Where one layer keeps what one sequence remembers; every pointer is 64-byte aligned. */
typedef struct fs_v4_cache {
    float *kv;             /* [ctx, head_dim] */
    float *entries;        /* [ctx / ratio, head_dim] */
    float *index_keys;     /* panels [ctx / ratio / 16][W][16] */
    fs_v4_offers pooled, index;
} fs_v4_cache;
fs_v4_cache fs_v4_cache_at(const fs_network *net, const fs_v4 *v4, const fs_cache *c);
size_t fs_v4_layer_floats(const fs_config *c, uint32_t ratio);       /* a token */
size_t fs_v4_layer_fixed_floats(const fs_config *c, uint32_t ratio); /* besides */
/* Takes back into the rows of o what its border at position holds. */
void fs_v4_offers_restore(const fs_v4_offers *o, uint32_t position);
/* ws->h and ws->q_a -> new entries of both compressors in the caches, and ws->selected for tokens that see more than
 * index_topk of them. */
void fs_v4_compress(fs_network *net, fs_workspace *ws, const fs_v4 *v4);
void fs_v4_attention(fs_network *net, fs_workspace *ws, const fs_layer *layer);

fs_status fs_dense_check(const fs_config *c, fs_error *err);
fs_status fs_mla_check(const fs_config *c, fs_error *err);

#endif
