/* Keys are those of llama.cpp's converter. What it derives (the length of MLA's latent keys, nextn blocks counted as
 * blocks) is derived here too. */
#include "formats/config_write.h"

#include "base/file.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PI               3.14159265358979323846
#define CONFIG_BYTES_MAX ((size_t)16 << 20)

typedef struct out {
    fs_gguf_writer *w;
    const char *arch;
    fs_status rc;
    fs_error *err;
} out;

static void u32(out *o, const char *name, uint32_t v)
{
    char key[96];

    snprintf(key, sizeof key, "%s.%s", o->arch, name);
    if (!o->rc)
        o->rc = fs_gguf_put_u32(o->w, key, v, o->err);
}

static void f32(out *o, const char *name, double v)
{
    char key[96];

    snprintf(key, sizeof key, "%s.%s", o->arch, name);
    if (!o->rc)
        o->rc = fs_gguf_put_f32(o->w, key, (float)v, o->err);
}

static void put_indexer(out *o, const fs_config *c)
{
    u32(o, "attention.indexer.head_count", c->index_n_heads);
    u32(o, "attention.indexer.key_length", c->index_head_dim);
    u32(o, "attention.indexer.top_k", c->index_topk);
}

static void put_mla(out *o, const fs_config *c)
{
    u32(o, "attention.head_count_kv", 1);
    u32(o, "attention.q_lora_rank", c->q_lora_rank); /* 0 too: llama.cpp expects no key of 26 and 27 layers alone */
    u32(o, "attention.kv_lora_rank", c->kv_lora_rank);
    u32(o, "attention.key_length", c->kv_lora_rank + c->qk_rope_head_dim);
    u32(o, "attention.value_length", c->kv_lora_rank);
    u32(o, "attention.key_length_mla", c->qk_nope_head_dim + c->qk_rope_head_dim);
    u32(o, "attention.value_length_mla", c->v_head_dim);
    u32(o, "rope.dimension_count", c->qk_rope_head_dim);
    if (c->index_n_heads)
        put_indexer(o, c);
}

static void put_heads(out *o, const fs_config *c, uint32_t n_rotated)
{
    u32(o, "attention.head_count_kv", c->num_key_value_heads);
    u32(o, "attention.key_length", c->head_dim);
    u32(o, "attention.value_length", c->head_dim);
    u32(o, "rope.dimension_count", n_rotated);
}

/* One limit for all in the model, one a layer in the file. */
static void put_swiglu_limit(out *o, const fs_config *c, const char *name)
{
    uint32_t n = c->num_hidden_layers + c->num_nextn_predict_layers;
    char key[96];

    snprintf(key, sizeof key, "%s.%s", o->arch, name);
    if (!o->rc)
        o->rc = fs_gguf_put_array(o->w, key, FS_GGUF_F32, n, o->err);
    for (uint32_t i = 0; i < n && !o->rc; i++)
        o->rc = fs_gguf_put_item_f32(o->w, (float)c->swiglu_limit, o->err);
}

static void put_v4(out *o, const fs_config *c)
{
    char key[96];

    put_heads(o, c, c->qk_rope_head_dim);
    u32(o, "attention.q_lora_rank", c->q_lora_rank);
    u32(o, "attention.sliding_window", c->sliding_window);
    u32(o, "attention.output_group_count", c->o_groups);
    u32(o, "attention.output_lora_rank", c->o_lora_rank);
    f32(o, "attention.compress_rope_freq_base", c->compress_rope_theta);
    u32(o, "hyper_connection.count", c->hc_mult);
    u32(o, "hyper_connection.sinkhorn_iterations", c->hc_sinkhorn_iters);
    f32(o, "hyper_connection.epsilon", c->hc_eps);
    u32(o, "hash_layer_count", c->num_hash_layers);
    u32(o, "embedding_length_out", c->hc_mult * c->hidden_size);
    put_indexer(o, c);
    snprintf(key, sizeof key, "%s.attention.compress_ratios", o->arch);
    if (!o->rc)
        o->rc = fs_gguf_put_array(o->w, key, FS_GGUF_I32, c->n_compress_ratios, o->err);
    for (uint32_t i = 0; i < c->n_compress_ratios && !o->rc; i++)
        o->rc = fs_gguf_put_item_i32(o->w, c->compress_ratios[i], o->err);
    put_swiglu_limit(o, c, "swiglu_clamp_exp");
    put_swiglu_limit(o, c, "swiglu_clamp_shexp");
}

static void put_experts(out *o, const fs_config *c)
{
    static const uint32_t gating[] = { [FS_SCORING_SOFTMAX] = 1, [FS_SCORING_SIGMOID] = 2, [FS_SCORING_SQRTSOFTPLUS] = 4 };
    char key[96];

    snprintf(key, sizeof key, "%s.expert_weights_norm", o->arch);
    u32(o, "leading_dense_block_count", c->first_k_dense_replace);
    u32(o, "expert_count", c->n_routed_experts);
    u32(o, "expert_used_count", c->num_experts_per_tok);
    u32(o, "expert_shared_count", c->n_shared_experts);
    u32(o, "expert_feed_forward_length", c->moe_intermediate_size);
    f32(o, "expert_weights_scale", c->routed_scaling_factor);
    if (!o->rc)
        o->rc = fs_gguf_put_bool(o->w, key, c->norm_topk_prob, o->err);
    u32(o, "expert_gating_func", gating[c->scoring_func]);
    if (c->topk_method != FS_TOPK_GREEDY && c->n_group > 1) {
        u32(o, "expert_group_count", c->n_group);
        u32(o, "expert_group_used_count", c->topk_group);
    }
}

static void put_scaling(out *o, const fs_config *c)
{
    char key[96];
    bool yarn = c->rope_type == FS_ROPE_YARN;

    if (!yarn && c->rope_type != FS_ROPE_LINEAR)
        return;
    snprintf(key, sizeof key, "%s.rope.scaling.type", o->arch);
    if (!o->rc)
        o->rc = fs_gguf_put_string(o->w, key, fs_bytes_str(yarn ? "yarn" : "linear"), o->err);
    f32(o, "rope.scaling.factor", c->rope_factor);
    if (!yarn)
        return;
    u32(o, "rope.scaling.original_context_length", c->original_max_position_embeddings);
    if (c->beta_fast != 32)
        f32(o, "rope.scaling.yarn_beta_fast", c->beta_fast);
    if (c->beta_slow != 1)
        f32(o, "rope.scaling.yarn_beta_slow", c->beta_slow);
    if (c->kv_lora_rank && c->has_mscale_all_dim)
        f32(o, "rope.scaling.yarn_log_multiplier", 0.1 * c->mscale_all_dim);
}

static void put_tokens(out *o, const fs_config *c)
{
    static const char *const ends[] = { "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id" };

    if (!o->rc && c->bos_token_id >= 0)
        o->rc = fs_gguf_put_u32(o->w, "tokenizer.ggml.bos_token_id", (uint32_t)c->bos_token_id, o->err);
    for (int i = 0; i < c->n_eos_token_ids && i < 3 && !o->rc; i++)
        o->rc = fs_gguf_put_u32(o->w, ends[i], (uint32_t)c->eos_token_ids[i], o->err);
}

/* The model types that convert: GGUF's architecture, transformers' class. */
static const struct kind {
    const char *model_type, *arch, *class;
} kinds[] = {
    { "llama", "llama", "LlamaForCausalLM" },
    { "qwen2", "qwen2", "Qwen2ForCausalLM" },
    { "qwen3", "qwen3", "Qwen3ForCausalLM" },
    { "deepseek", "deepseek", "DeepseekForCausalLM" },
    { "deepseek_v2", "deepseek2", "DeepseekV2ForCausalLM" },
    { "deepseek_v3", "deepseek2", "DeepseekV3ForCausalLM" },
    { "deepseek_v32", "deepseek32", "DeepseekV32ForCausalLM" },
    { "deepseek_v4", "deepseek4", "DeepseekV4ForCausalLM" },
};

static const struct kind *kind_of(const fs_config *c)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(c->model_type, kinds[i].model_type) == 0)
            return &kinds[i];
    return NULL;
}

static bool is_v4(const fs_config *c)
{
    return strcmp(c->model_type, "deepseek_v4") == 0;
}

fs_status fs_config_to_gguf(const fs_config *c, fs_gguf_writer *w, fs_error *err)
{
    const struct kind *kind = kind_of(c);
    out o = { .w = w, .err = err };

    if (!kind)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "model_type '%s' cannot be converted; llama, qwen2, qwen3, deepseek, deepseek_v2, "
                       "deepseek_v3, deepseek_v32 and deepseek_v4 can", c->model_type);
    o.arch = kind->arch;
    o.rc = fs_gguf_put_string(w, "general.architecture", fs_bytes_str(o.arch), err);
    u32(&o, "block_count", c->num_hidden_layers + c->num_nextn_predict_layers);
    u32(&o, "context_length", c->max_position_embeddings);
    u32(&o, "embedding_length", c->hidden_size);
    if (c->intermediate_size) /* V4 has no dense layer */
        u32(&o, "feed_forward_length", c->intermediate_size);
    u32(&o, "attention.head_count", c->num_attention_heads);
    f32(&o, "attention.layer_norm_rms_epsilon", c->rms_norm_eps);
    f32(&o, "rope.freq_base", c->rope_theta);
    u32(&o, "vocab_size", c->vocab_size);
    if (c->kv_lora_rank)
        put_mla(&o, c);
    else if (is_v4(c))
        put_v4(&o, c);
    else
        put_heads(&o, c, (uint32_t)(c->head_dim * c->partial_rotary_factor));
    if (c->num_nextn_predict_layers)
        u32(&o, "nextn_predict_layers", c->num_nextn_predict_layers);
    if (c->n_routed_experts)
        put_experts(&o, c);
    put_scaling(&o, c);
    put_tokens(&o, c);
    return o.rc;
}

/* ---- llama3 scaling ---- */
void fs_config_rope_freqs(const fs_config *c, float *ret)
{
    double low = c->low_freq_factor, high = c->high_freq_factor, n0 = c->original_max_position_embeddings;

    for (uint32_t i = 0; i < c->head_dim / 2; i++) {
        double wavelen = 2 * PI * pow(c->rope_theta, 2.0 * i / c->head_dim), smooth = (n0 / wavelen - low) / (high - low);
        ret[i] = (float)(wavelen < n0 / high ? 1 : wavelen > n0 / low ? c->rope_factor : 1 / ((1 - smooth) / c->rope_factor + smooth));
    }
}

/* Within a few roundings: other programs make the divisors in f32. */
static bool close_to(const float *a, const uint8_t *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        float f;
        memcpy(&f, b + i * sizeof f, sizeof f);
        if (!(fabsf(f - a[i]) <= 4e-6f * a[i]))
            return false;
    }
    return true;
}

fs_status fs_config_fold_rope_freqs(fs_config *c, fs_error *err)
{
    const fs_tensor *t = c->rope_freqs;
    uint32_t n = c->head_dim / 2;
    float *freqs, last;
    fs_status rc = FS_OK;

    if (!t)
        return FS_OK;
    freqs = malloc(n * sizeof *freqs);
    if (!freqs)
        return fs_fail_memory(err, n * sizeof *freqs);
    memcpy(&last, t->data + (size_t)(n - 1) * sizeof last, sizeof last); /* the lowest frequency has the whole factor */
    c->rope_factor = last;
    c->low_freq_factor = 1;
    c->high_freq_factor = 4;
    for (c->original_max_position_embeddings = 16;; c->original_max_position_embeddings *= 2) {
        fs_config_rope_freqs(c, freqs);
        if (close_to(freqs, t->data, n))
            break;
        if (c->original_max_position_embeddings >= 1u << 24) {
            rc = fs_fail(err, FS_ERR_UNSUPPORTED, "the divisors of '%s' are no llama3 rope scaling with the bands 1 and 4", t->name);
            break;
        }
    }
    free(freqs);
    if (!rc)
        c->rope_freqs = NULL;
    return rc;
}

/* ---- config.json ---- */
typedef struct json {
    fs_buf *b;
    fs_status rc;
    fs_error *err;
    bool started;
} json;

static void key(json *j, const char *name)
{
    if (!j->rc)
        j->rc = fs_buf_printf(j->b, j->err, "%s\n  \"%s\": ", j->started ? "," : "{", name);
    j->started = true;
}

static void raw(json *j, const char *text)
{
    if (!j->rc)
        j->rc = fs_buf_append_str(j->b, text, j->err);
}

static void word(json *j, const char *name, const char *v)
{
    key(j, name);
    if (!j->rc)
        j->rc = fs_buf_printf(j->b, j->err, "\"%s\"", v);
}

static void count(json *j, const char *name, uint32_t v)
{
    key(j, name);
    if (!j->rc)
        j->rc = fs_buf_printf(j->b, j->err, "%" PRIu32, v);
}

static void flag(json *j, const char *name, bool v)
{
    key(j, name);
    raw(j, v ? "true" : "false");
}

/* The shortest decimal that reads as the same double, with a point or an exponent so that Python makes it a float. */
static void put_number(json *j, double v)
{
    char text[40];

    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    if (fabs(v) >= 1 && fabs(v) < 1e15 && strchr(text, 'e'))
        snprintf(text, sizeof text, "%.0f", v);
    if (!strpbrk(text, ".e"))
        strcat(text, ".0");
    raw(j, text);
}

static void number(json *j, const char *name, double v)
{
    key(j, name);
    put_number(j, v);
}

static void put_rope(json *j, const fs_config *c)
{
    static const char *const types[] = { "default", "linear", "dynamic", "yarn", "llama3", "longrope" };
    const struct { const char *name; bool there; double v; } parts[] = {
        { "factor", true, c->rope_factor },
        { "beta_fast", c->rope_type == FS_ROPE_YARN, c->beta_fast },
        { "beta_slow", c->rope_type == FS_ROPE_YARN, c->beta_slow },
        { "mscale", c->rope_type == FS_ROPE_YARN && c->has_mscale, c->mscale },
        { "mscale_all_dim", c->rope_type == FS_ROPE_YARN && c->has_mscale_all_dim, c->mscale_all_dim },
        { "attention_factor", c->has_attention_factor, c->attention_factor },
        { "low_freq_factor", c->rope_type == FS_ROPE_LLAMA3, c->low_freq_factor },
        { "high_freq_factor", c->rope_type == FS_ROPE_LLAMA3, c->high_freq_factor },
    };

    number(j, "rope_theta", c->rope_theta);
    if (c->rope_type == FS_ROPE_DEFAULT)
        return;
    key(j, "rope_scaling");
    if (!j->rc)
        j->rc = fs_buf_printf(j->b, j->err, "{\"%s\": \"%s\", \"rope_type\": \"%s\"", "type", types[c->rope_type], types[c->rope_type]);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!parts[i].there)
            continue;
        if (!j->rc)
            j->rc = fs_buf_printf(j->b, j->err, ", \"%s\": ", parts[i].name);
        put_number(j, parts[i].v);
    }
    if (c->rope_type != FS_ROPE_LINEAR && !j->rc)
        j->rc = fs_buf_printf(j->b, j->err, ", \"original_max_position_embeddings\": %" PRIu32, c->original_max_position_embeddings);
    raw(j, "}");
}

static void put_moe(json *j, const fs_config *c)
{
    static const char *const methods[] = { "greedy", "group_limited_greedy", "noaux_tc" };
    static const char *const scorings[] = { "softmax", "sigmoid", "sqrtsoftplus" };

    count(j, "n_routed_experts", c->n_routed_experts);
    if (c->n_shared_experts)
        count(j, "n_shared_experts", c->n_shared_experts);
    count(j, "num_experts_per_tok", c->num_experts_per_tok);
    count(j, "moe_intermediate_size", c->moe_intermediate_size);
    count(j, "first_k_dense_replace", c->first_k_dense_replace);
    count(j, "moe_layer_freq", c->moe_layer_freq);
    count(j, "n_group", c->n_group);
    count(j, "topk_group", c->topk_group);
    word(j, "topk_method", methods[c->topk_method]);
    word(j, "scoring_func", scorings[c->scoring_func]);
    flag(j, "norm_topk_prob", c->norm_topk_prob);
    number(j, "routed_scaling_factor", c->routed_scaling_factor);
}

static void put_sizes(json *j, const fs_config *c)
{
    const struct { const char *name; uint32_t v; bool there; } parts[] = {
        { "q_lora_rank", c->q_lora_rank, c->q_lora_rank > 0 },
        { "kv_lora_rank", c->kv_lora_rank, c->kv_lora_rank > 0 },
        { "qk_nope_head_dim", c->qk_nope_head_dim, c->kv_lora_rank > 0 },
        { "qk_rope_head_dim", c->qk_rope_head_dim, c->qk_rope_head_dim > 0 },
        { "v_head_dim", c->v_head_dim, c->kv_lora_rank > 0 },
        { "head_dim", c->head_dim, c->kv_lora_rank == 0 },
        { "num_nextn_predict_layers", c->num_nextn_predict_layers, c->kv_lora_rank > 0 || is_v4(c) },
        { "index_n_heads", c->index_n_heads, c->index_n_heads > 0 },
        { "index_head_dim", c->index_head_dim, c->index_n_heads > 0 },
        { "index_topk", c->index_topk, c->index_n_heads > 0 },
        { "o_groups", c->o_groups, is_v4(c) },
        { "o_lora_rank", c->o_lora_rank, is_v4(c) },
        { "sliding_window", c->sliding_window, is_v4(c) },
        { "num_hash_layers", c->num_hash_layers, is_v4(c) },
        { "hc_mult", c->hc_mult, is_v4(c) },
        { "hc_sinkhorn_iters", c->hc_sinkhorn_iters, is_v4(c) },
    };

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].there)
            count(j, parts[i].name, parts[i].v);
    if (c->kv_lora_rank && !c->q_lora_rank) {
        key(j, "q_lora_rank");
        raw(j, "null");
    }
    if (c->kv_lora_rank == 0)
        flag(j, "mlp_bias", c->mlp_bias);
    if (c->kv_lora_rank == 0 && c->partial_rotary_factor != 1)
        number(j, "partial_rotary_factor", c->partial_rotary_factor);
}

static void put_v4_json(json *j, const fs_config *c)
{
    number(j, "compress_rope_theta", c->compress_rope_theta);
    number(j, "hc_eps", c->hc_eps);
    if (c->swiglu_limit > 0)
        number(j, "swiglu_limit", c->swiglu_limit);
    key(j, "compress_ratios");
    for (uint32_t i = 0; i < c->n_compress_ratios && !j->rc; i++)
        j->rc = fs_buf_printf(j->b, j->err, "%s%d", i ? ", " : "[", c->compress_ratios[i]);
    raw(j, "]");
}

static void put_storage(json *j, const fs_config_storage *s)
{
    if (s->expert_dtype)
        word(j, "expert_dtype", s->expert_dtype);
    if (!s->fp8)
        return;
    key(j, "quantization_config");
    if (!j->rc)
        j->rc = fs_buf_printf(j->b, j->err, "{\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", \"activation_scheme\": \"dynamic\", "
                              "%s\"weight_block_size\": [%d, %d]}", s->ue8m0 ? "\"scale_fmt\": \"ue8m0\", " : "", FS_FP8_BLOCK, FS_FP8_BLOCK);
}

fs_status fs_config_to_json(const fs_config *c, const fs_config_storage *s, fs_buf *b, fs_error *err)
{
    const struct kind *kind = kind_of(c);
    json j = { .b = b, .err = err };

    if (kind) {
        key(&j, "architectures");
        if (!j.rc)
            j.rc = fs_buf_printf(b, err, "[\"%s\"]", kind->class);
    }
    word(&j, "model_type", c->model_type);
    word(&j, "torch_dtype", s->torch_dtype);
    if (s->precision)
        word(&j, "farseek_precision", s->precision);
    word(&j, "hidden_act", "silu");
    count(&j, "vocab_size", c->vocab_size);
    count(&j, "hidden_size", c->hidden_size);
    if (c->intermediate_size)
        count(&j, "intermediate_size", c->intermediate_size);
    count(&j, "num_hidden_layers", c->num_hidden_layers);
    count(&j, "num_attention_heads", c->num_attention_heads);
    count(&j, "num_key_value_heads", c->num_key_value_heads);
    count(&j, "max_position_embeddings", c->max_position_embeddings);
    number(&j, "rms_norm_eps", c->rms_norm_eps);
    flag(&j, "tie_word_embeddings", c->tie_word_embeddings);
    flag(&j, "attention_bias", c->attention_bias);
    put_sizes(&j, c);
    if (c->n_routed_experts)
        put_moe(&j, c);
    if (is_v4(c))
        put_v4_json(&j, c);
    put_rope(&j, c);
    put_storage(&j, s);
    if (c->bos_token_id >= 0)
        count(&j, "bos_token_id", (uint32_t)c->bos_token_id);
    if (c->n_eos_token_ids) {
        key(&j, "eos_token_id");
        for (int i = 0; i < c->n_eos_token_ids && !j.rc; i++)
            j.rc = fs_buf_printf(b, err, "%s%" PRId32, i ? ", " : c->n_eos_token_ids > 1 ? "[" : "", c->eos_token_ids[i]);
        raw(&j, c->n_eos_token_ids > 1 ? "]" : "");
    }
    raw(&j, "\n}\n");
    return j.rc;
}

/* ---- comparison ---- */
const char *fs_config_differs(const fs_config *a, const fs_config *b)
{
    bool mla = a->kv_lora_rank > 0, v4 = is_v4(a), indexer = a->index_n_heads > 0;
    bool moe = a->n_routed_experts > 0, grouped = moe && a->topk_method != FS_TOPK_GREEDY;
    bool scaled = a->rope_type != FS_ROPE_DEFAULT && a->rope_type != FS_ROPE_LLAMA3, yarn = a->rope_type == FS_ROPE_YARN;
    const struct { const char *name; double a, b; bool matters; } fields[] = {
#define FIELD(field, when) { #field, (double)a->field, (double)b->field, (when) }
        FIELD(vocab_size, true), FIELD(hidden_size, true), FIELD(num_hidden_layers, true), FIELD(num_attention_heads, true),
        FIELD(num_key_value_heads, !mla), FIELD(head_dim, !mla), FIELD(intermediate_size, true), FIELD(max_position_embeddings, true),
        FIELD(rms_norm_eps, true), FIELD(tie_word_embeddings, true), FIELD(attention_bias, strcmp(a->model_type, "qwen2") != 0),
        FIELD(mlp_bias, true), FIELD(q_lora_rank, true), FIELD(kv_lora_rank, true), FIELD(qk_nope_head_dim, true),
        FIELD(qk_rope_head_dim, true), FIELD(v_head_dim, true), FIELD(n_routed_experts, true), FIELD(n_shared_experts, moe),
        FIELD(num_experts_per_tok, moe), FIELD(moe_intermediate_size, moe), FIELD(first_k_dense_replace, moe), FIELD(moe_layer_freq, moe),
        FIELD(topk_method, moe), FIELD(n_group, grouped), FIELD(topk_group, grouped), FIELD(scoring_func, moe), FIELD(norm_topk_prob, moe),
        FIELD(routed_scaling_factor, moe), FIELD(num_nextn_predict_layers, true), FIELD(rope_theta, true), FIELD(rope_type, true),
        FIELD(rope_factor, scaled), FIELD(original_max_position_embeddings, yarn), FIELD(beta_fast, yarn), FIELD(beta_slow, yarn),
        FIELD(has_mscale, yarn), FIELD(has_mscale_all_dim, yarn), FIELD(mscale, yarn && a->has_mscale),
        FIELD(mscale_all_dim, yarn && a->has_mscale_all_dim), FIELD(has_attention_factor, scaled),
        FIELD(attention_factor, scaled && a->has_attention_factor), FIELD(partial_rotary_factor, !mla && !v4), FIELD(bos_token_id, true),
        FIELD(index_n_heads, true), FIELD(index_head_dim, indexer), FIELD(index_topk, indexer), FIELD(o_groups, v4), FIELD(o_lora_rank, v4),
        FIELD(sliding_window, v4), FIELD(num_hash_layers, v4), FIELD(hc_mult, v4), FIELD(hc_sinkhorn_iters, v4),
        FIELD(compress_rope_theta, v4), FIELD(hc_eps, v4), FIELD(swiglu_limit, v4),
        { "compress_ratios", (double)a->n_compress_ratios, (double)b->n_compress_ratios, v4 },
        { "eos_token_id", (double)a->n_eos_token_ids, (double)b->n_eos_token_ids, true },
#undef FIELD
    };

    if (strcmp(a->model_type, b->model_type) != 0)
        return "model_type";
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].matters && fields[i].a != fields[i].b)
            return fields[i].name;
    for (int i = 0; i < a->n_eos_token_ids; i++)
        if (a->eos_token_ids[i] != b->eos_token_ids[i])
            return "eos_token_id";
    return v4 && memcmp(a->compress_ratios, b->compress_ratios, a->n_compress_ratios * sizeof *a->compress_ratios) != 0 ? "compress_ratios" : NULL;
}

fs_status fs_config_edited(const char *folder, fs_config_edit *edit, void *ud, fs_buf *out, fs_error *err)
{
    char *path = fs_path_join(folder, "config.json");
    struct json_object *json = NULL;
    const char *text;
    fs_buf old = { 0 };
    fs_status rc = path ? fs_file_read(path, CONFIG_BYTES_MAX, &old, err) : fs_fail_memory(err, strlen(folder) + 16);

    if (!rc)
        rc = fs_json_parse(fs_buf_bytes(&old), "config.json", &json, err);
    if (!rc)
        rc = edit(ud, json, err);
    if (!rc) {
        text = json_object_to_json_string_ext(json, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
        rc = text ? fs_buf_printf(out, err, "%s\n", text) : fs_fail_memory(err, old.n_bytes);
    }
    json_object_put(json);
    fs_buf_done(&old);
    free(path);
    return rc;
}
