/* The model's shape, from config.json or from GGUF metadata: one struct, fields named as in config.json. */
#ifndef FS_FORMATS_CONFIG_H
#define FS_FORMATS_CONFIG_H

#include "formats/gguf.h"

typedef enum fs_rope_type { FS_ROPE_DEFAULT, FS_ROPE_LINEAR, FS_ROPE_DYNAMIC, FS_ROPE_YARN, FS_ROPE_LLAMA3, FS_ROPE_LONGROPE } fs_rope_type;
typedef enum fs_topk_method { FS_TOPK_GREEDY, FS_TOPK_GROUP_LIMITED_GREEDY, FS_TOPK_NOAUX_TC } fs_topk_method;
typedef enum fs_scoring_func { FS_SCORING_SOFTMAX, FS_SCORING_SIGMOID, FS_SCORING_SQRTSOFTPLUS } fs_scoring_func;

#define FS_CONFIG_LAYERS_MAX  1024
#define FS_CONFIG_EXPERTS_MAX 4096
#define FS_CONFIG_EOS_MAX     8

typedef struct fs_config {
    char model_type[32]; /* "llama", "qwen2", "qwen3", "deepseek_v2", "deepseek_v3", ... */
    /* num_key_value_heads is num_attention_heads when absent and under MLA; head_dim is hidden_size /
     * num_attention_heads when absent, and qk_rope_head_dim under MLA, as transformers has it. */
    uint32_t vocab_size, hidden_size, num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim;
    uint32_t intermediate_size, max_position_embeddings;
    double rms_norm_eps;
    bool tie_word_embeddings, attention_bias, mlp_bias;

    /* MLA; kv_lora_rank 0 means not MLA, q_lora_rank 0 means q_proj. */
    uint32_t q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim;

    /* MoE; n_routed_experts 0 means dense. */
    uint32_t n_routed_experts, n_shared_experts, num_experts_per_tok, moe_intermediate_size;
    uint32_t first_k_dense_replace, moe_layer_freq, n_group, topk_group;
    fs_topk_method topk_method;
    fs_scoring_func scoring_func;
    bool norm_topk_prob;
    double routed_scaling_factor;
    uint32_t num_nextn_predict_layers;

    /* Lightning indexer (V3.2, V4); index_n_heads 0 means none. */
    uint32_t index_n_heads, index_head_dim, index_topk;
    /* V4. compress_ratios: one a layer, the MTP layers' behind; 0 means window only. swiglu_limit 0: no clamp. */
    uint32_t o_groups, o_lora_rank, sliding_window, num_hash_layers, hc_mult, hc_sinkhorn_iters;
    uint32_t n_compress_ratios;
    uint16_t compress_ratios[FS_CONFIG_LAYERS_MAX];
    double compress_rope_theta, hc_eps, swiglu_limit;

    /* Rope. */
    double rope_theta;
    fs_rope_type rope_type;
    double rope_factor, beta_fast, beta_slow, mscale, mscale_all_dim;
    bool has_mscale, has_mscale_all_dim, has_attention_factor;
    double attention_factor;
    double low_freq_factor, high_freq_factor;
    uint32_t original_max_position_embeddings;
    double partial_rotary_factor; /* 1 */
    uint32_t n_long_factor, n_short_factor; /* longrope: d/2 factors each */
    float *rope_long_factor, *rope_short_factor; /* owned; fs_config_done */
    /* GGUF llama3 scaling arrives as a tensor of divisors, rope_freqs.weight [head_dim/2]; NULL elsewhere. Borrowed. */
    const fs_tensor *rope_freqs;

    /* Storage. */
    bool fp8; /* quantization_config.quant_method fp8 */
    uint32_t weight_block_rows, weight_block_cols;

    int32_t bos_token_id; /* -1: none */
    int32_t eos_token_ids[FS_CONFIG_EOS_MAX];
    int n_eos_token_ids;
} fs_config;

/* config.json's text. Unknown keys are ignored; a known key with a value out of any sense is refused by name. */
fs_status fs_config_from_json(fs_config *ret, fs_bytes json, const char *what, fs_error *err);
/* generation_config.json's text: adds its eos_token_id (one or a list) to those of c. */
fs_status fs_config_add_generation(fs_config *c, fs_bytes json, const char *what, fs_error *err);
/* Architectures llama, qwen2, qwen3, deepseek, deepseek2, deepseek32, deepseek4; model_type is the Hub's name of it. The metadata are those of
 * parts[0]; tied embeddings, V3's bias and the like show in which tensors are in any part. rope_freqs borrows from
 * the part that has it. */
fs_status fs_config_from_gguf(fs_config *ret, const fs_gguf *const *parts, size_t n_parts, const char *what, fs_error *err);
void fs_config_done(fs_config *c);
/* Sizes and the relations between fields that every architecture relies on (heads divide, groups divide experts,
 * ...). The functions above call it. */
fs_status fs_config_check(const fs_config *c, const char *what, fs_error *err);
/* Whether layer index routes to experts; not of V4, all of whose layers do. */
bool fs_config_layer_is_moe(const fs_config *c, uint32_t index);
/* The values before anything is read: what transformers takes for a key that is absent. model_type, of at most 31
 * bytes, decides some of them. */
fs_status fs_config_init(fs_config *ret, fs_bytes model_type, const char *what, fs_error *err);
/* Fills num_key_value_heads and head_dim where they are still 0. Call before fs_config_check. */
void fs_config_defaults(fs_config *c);
fs_status fs_config_add_eos(fs_config *c, int64_t id, const char *what, fs_error *err);

#endif
