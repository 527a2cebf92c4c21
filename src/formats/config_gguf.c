/* GGUF metadata into fs_config. What the keys mean is what llama.cpp's converter and loader make of them; where its
 * files say less than config.json, the released models' values are known and filled in. */
#include "formats/config.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* What of general.architecture the code asks about. */
static const struct arch {
    const char *name, *model_type;
    bool moe, mla, indexer, v4;
} archs[] = {
    { "llama", "llama", false, false, false, false },
    { "qwen2", "qwen2", false, false, false, false },
    { "qwen3", "qwen3", false, false, false, false },
    { "deepseek", "deepseek", true, false, false, false },
    { "deepseek2", "deepseek_v2", true, true, false, false }, /* or deepseek_v3 */
    { "deepseek32", "deepseek_v32", true, true, true, false },
    { "deepseek4", "deepseek_v4", true, false, true, true },
};
#define ARCHS "llama, qwen2, qwen3, deepseek, deepseek2, deepseek32 and deepseek4"

typedef struct reader {
    const fs_gguf *const *parts;
    size_t n_parts;
    const struct arch *arch;
} reader;

/* "{arch}.{name}", for keys that are shorter than this by far. */
typedef struct key {
    char text[96];
} key;

static key key_of(const reader *r, const char *name)
{
    key k;

    snprintf(k.text, sizeof k.text, "%s.%s", r->arch->name, name);
    return k;
}

static const fs_tensor *find_tensor(const reader *r, const char *name)
{
    const fs_tensor *t = NULL;

    for (size_t i = 0; i < r->n_parts && !t; i++)
        t = fs_gguf_find_tensor(r->parts[i], name);
    return t;
}

static bool any_tensor_ends_with(const reader *r, const char *end)
{
    for (size_t i = 0; i < r->n_parts; i++)
        for (size_t k = 0; k < fs_gguf_n_tensors(r->parts[i]); k++)
            if (fs_ends_with(fs_gguf_tensor_at(r->parts[i], k)->name, end))
                return true;
    return false;
}

static fs_status get_size(const reader *r, const char *name, int64_t min, uint32_t *ret, bool *ret_found, fs_error *err)
{
    int64_t v = *ret;
    fs_status rc = fs_gguf_int(r->parts[0], key_of(r, name).text, min, INT32_MAX, &v, ret_found, err);

    *ret = (uint32_t)v;
    return rc;
}

static fs_status need_size(const reader *r, const char *name, uint32_t *ret, const char *what, fs_error *err)
{
    bool found;
    fs_status rc = get_size(r, name, 1, ret, &found, err);

    return rc || found ? rc : fs_fail(err, FS_ERR_FORMAT, "%s: '%s.%s' is missing", what, r->arch->name, name);
}

/* GGUF stores as f32 what config.json writes as a decimal. The decimal with the fewest places that rounds to the same
 * f32 is taken, so that both files give the same double: 1e-6, not 9.99999997e-07. */
static double decimal_of(double v)
{
    double power = 1;

    for (int places = 0; places <= 22 && fabs(v) * power < 0x1p53; places++, power *= 10)
        if ((float)(rint(v * power) / power) == (float)v)
            return rint(v * power) / power;
    return v;
}

static fs_status get_number(const reader *r, const char *name, double *ret, bool *ret_found, fs_error *err)
{
    bool found;
    fs_status rc = fs_gguf_double(r->parts[0], key_of(r, name).text, ret, &found, err);

    if (!rc && found)
        *ret = decimal_of(*ret);
    if (ret_found)
        *ret_found = found;
    return rc;
}

static fs_status get_common(const reader *r, fs_config *c, const char *what, fs_error *err)
{
    uint32_t n_rot = 0;
    bool found;
    fs_status rc = need_size(r, "block_count", &c->num_hidden_layers, what, err);

    if (!rc)
        rc = need_size(r, "context_length", &c->max_position_embeddings, what, err);
    if (!rc)
        rc = need_size(r, "embedding_length", &c->hidden_size, what, err);
    if (!rc && r->arch->v4) /* which has no dense layer */
        rc = get_size(r, "feed_forward_length", 0, &c->intermediate_size, NULL, err);
    else if (!rc)
        rc = need_size(r, "feed_forward_length", &c->intermediate_size, what, err);
    if (!rc)
        rc = need_size(r, "attention.head_count", &c->num_attention_heads, what, err);
    if (!rc)
        rc = get_size(r, "attention.head_count_kv", 1, &c->num_key_value_heads, NULL, err);
    if (!rc)
        rc = get_size(r, "attention.key_length", 1, &c->head_dim, NULL, err);
    if (!rc)
        rc = get_number(r, "attention.layer_norm_rms_epsilon", &c->rms_norm_eps, NULL, err);
    if (!rc)
        rc = get_number(r, "rope.freq_base", &c->rope_theta, NULL, err);
    if (!rc)
        rc = get_size(r, "vocab_size", 1, &c->vocab_size, &found, err);
    if (!rc && !found) {
        const fs_tensor *embd = find_tensor(r, "token_embd.weight");
        if (!embd || embd->n_dims != 2 || embd->dims[0] > INT32_MAX)
            return fs_fail(err, FS_ERR_FORMAT, "%s: neither '%s.vocab_size' nor a matrix 'token_embd.weight'", what, r->arch->name);
        c->vocab_size = (uint32_t)embd->dims[0];
    }
    if (!rc)
        rc = get_size(r, "nextn_predict_layers", 0, &c->num_nextn_predict_layers, NULL, err);
    if (rc)
        return rc;
    if (c->num_nextn_predict_layers >= c->num_hidden_layers)
        return fs_fail(err, FS_ERR_FORMAT, "%s: %" PRIu32 " of %" PRIu32 " blocks predict ahead", what, c->num_nextn_predict_layers,
                       c->num_hidden_layers);
    c->num_hidden_layers -= c->num_nextn_predict_layers; /* GGUF counts them in */

    rc = get_size(r, "rope.dimension_count", 1, &n_rot, &found, err);
    if (rc || !found || r->arch->mla || r->arch->v4)
        return rc;
    fs_config_defaults(c);
    if (n_rot > c->head_dim)
        return fs_fail(err, FS_ERR_FORMAT, "%s: %" PRIu32 " rotated dimensions of a head of %" PRIu32, what, n_rot, c->head_dim);
    c->partial_rotary_factor = (double)n_rot / c->head_dim;
    return FS_OK;
}

static fs_status get_yarn(const reader *r, fs_config *c, fs_error *err)
{
    double log_multiplier = 0, attention = 0;
    bool has_log, has_attention;
    fs_status rc = get_number(r, "rope.scaling.yarn_beta_fast", &c->beta_fast, NULL, err);

    if (!rc)
        rc = get_number(r, "rope.scaling.yarn_beta_slow", &c->beta_slow, NULL, err);
    if (!rc)
        rc = get_number(r, "rope.scaling.yarn_log_multiplier", &log_multiplier, &has_log, err);
    if (!rc)
        rc = get_number(r, "rope.scaling.yarn_attn_factor", &attention, &has_attention, err);
    if (rc)
        return rc;
    if (c->kv_lora_rank && has_log) {
        /* The file has 0.1 * mscale_all_dim; mscale is the same number in every DeepSeek release. */
        c->mscale = c->mscale_all_dim = decimal_of((float)(10 * log_multiplier));
        c->has_mscale = c->has_mscale_all_dim = true;
    } else if (c->kv_lora_rank) {
        c->attention_factor = 1;
        c->has_attention_factor = true;
    } else if (has_attention && attention != 1) {
        /* llama.cpp multiplies its own 0.1 ln s + 1 by it. */
        c->attention_factor = attention * (0.1 * log(c->rope_factor) + 1);
        c->has_attention_factor = true;
    }
    return FS_OK;
}

static fs_status get_rope_scaling(const reader *r, fs_config *c, const char *what, fs_error *err)
{
    fs_bytes type = FS_BYTES_LIT("none");
    fs_status rc = fs_gguf_string(r->parts[0], key_of(r, "rope.scaling.type").text, &type, NULL, err);
    const fs_tensor *freqs = find_tensor(r, "rope_freqs.weight");
    double factor = 0;
    bool found;

    if (!rc)
        rc = get_number(r, "rope.scaling.factor", &factor, &found, err);
    if (!rc && !found)
        rc = get_number(r, "rope.scale_linear", &factor, &found, err);
    if (rc)
        return rc;
    if (factor == 0)
        factor = 1;
    if (fs_bytes_equal(type, FS_BYTES_LIT("linear")) || (fs_bytes_equal(type, FS_BYTES_LIT("none")) && factor != 1)) {
        c->rope_type = FS_ROPE_LINEAR;
        c->rope_factor = factor;
    } else if (fs_bytes_equal(type, FS_BYTES_LIT("yarn"))) {
        c->rope_type = FS_ROPE_YARN;
        c->rope_factor = factor;
        c->original_max_position_embeddings = c->max_position_embeddings;
        rc = get_size(r, "rope.scaling.original_context_length", 1, &c->original_max_position_embeddings, NULL, err);
        if (!rc)
            rc = get_yarn(r, c, err);
    } else if (!fs_bytes_equal(type, FS_BYTES_LIT("none"))) {
        return fs_fail(err, FS_ERR_UNSUPPORTED, "%s: rope scaling '%.*s' is not known here", what,
                       (int)(type.n_bytes < 64 ? type.n_bytes : 64), (const char *)type.data);
    }
    if (rc || !freqs)
        return rc;
    if (c->rope_type != FS_ROPE_DEFAULT || c->kv_lora_rank)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "%s: 'rope_freqs.weight' besides another rope scaling", what);
    if (freqs->dtype != FS_DTYPE_F32 || freqs->n_dims != 1 || freqs->dims[0] != c->head_dim / 2)
        return fs_fail(err, FS_ERR_FORMAT, "%s: 'rope_freqs.weight' is no list of %" PRIu32 " F32 values", what, c->head_dim / 2);
    c->rope_type = FS_ROPE_LLAMA3;
    c->original_max_position_embeddings = c->max_position_embeddings;
    c->rope_freqs = freqs;
    return FS_OK;
}

static fs_status get_mla(const reader *r, fs_config *c, const char *what, fs_error *err)
{
    uint32_t key_length = 0, n_rot = 0;
    bool found;
    fs_status rc = need_size(r, "attention.kv_lora_rank", &c->kv_lora_rank, what, err);

    if (!rc)
        rc = get_size(r, "attention.q_lora_rank", 0, &c->q_lora_rank, NULL, err);
    if (!rc)
        rc = need_size(r, "rope.dimension_count", &n_rot, what, err);
    /* Files with kv_b split have the lengths of a head under ..._mla and those of the latent under the plain keys. */
    if (!rc)
        rc = get_size(r, "attention.key_length_mla", 1, &key_length, &found, err);
    if (!rc && !found)
        rc = need_size(r, "attention.key_length", &key_length, what, err);
    if (!rc)
        rc = get_size(r, "attention.value_length_mla", 1, &c->v_head_dim, &found, err);
    if (!rc && !found)
        rc = need_size(r, "attention.value_length", &c->v_head_dim, what, err);
    if (rc)
        return rc;
    if (key_length <= n_rot)
        return fs_fail(err, FS_ERR_FORMAT, "%s: a key of %" PRIu32 " dimensions, of which %" PRIu32 " rotate", what, key_length, n_rot);
    c->qk_rope_head_dim = n_rot;
    c->qk_nope_head_dim = key_length - n_rot;
    c->head_dim = 0; /* as without the key */
    return FS_OK;
}

static fs_status get_indexer(const reader *r, fs_config *c, const char *what, fs_error *err)
{
    fs_status rc = need_size(r, "attention.indexer.head_count", &c->index_n_heads, what, err);

    if (!rc)
        rc = need_size(r, "attention.indexer.key_length", &c->index_head_dim, what, err);
    return rc ? rc : need_size(r, "attention.indexer.top_k", &c->index_topk, what, err);
}

/* The array of numbers called name, of 1 to FS_CONFIG_LAYERS_MAX items; absent: *ret stays NULL. */
static fs_status get_array(const reader *r, const char *name, const fs_gguf_value **ret, const char *what, fs_error *err)
{
    const fs_gguf_value *v = fs_gguf_find(r->parts[0], key_of(r, name).text);

    if (!v)
        return FS_OK;
    if (v->type != FS_GGUF_ARRAY || v->item_type == FS_GGUF_STRING || v->item_type == FS_GGUF_BOOL || v->n_items == 0 ||
        v->n_items > FS_CONFIG_LAYERS_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "%s: '%s.%s' is no list of 1 to %d numbers", what, r->arch->name, name, FS_CONFIG_LAYERS_MAX);
    *ret = v;
    return FS_OK;
}

/* One limit a layer in the file, one for all in the model. */
static fs_status get_swiglu_limit(const reader *r, const char *name, double *ret, const char *what, fs_error *err)
{
    const fs_gguf_value *limits = NULL;
    fs_status rc = get_array(r, name, &limits, what, err);

    for (uint64_t i = 0; limits && i < limits->n_items; i++)
        if (fs_gguf_number_at(limits, i) != fs_gguf_number_at(limits, 0))
            return fs_fail(err, FS_ERR_UNSUPPORTED, "%s: '%s.%s' differs between layers", what, r->arch->name, name);
    if (limits)
        *ret = decimal_of(fs_gguf_number_at(limits, 0));
    return rc;
}

static fs_status get_compress_ratios(const reader *r, fs_config *c, const char *what, fs_error *err)
{
    const fs_gguf_value *ratios = NULL;
    fs_status rc = get_array(r, "attention.compress_ratios", &ratios, what, err);

    if (!rc && !ratios)
        rc = fs_fail(err, FS_ERR_FORMAT, "%s: '%s.attention.compress_ratios' is missing", what, r->arch->name);
    for (uint64_t i = 0; !rc && i < ratios->n_items; i++) {
        double ratio = fs_gguf_number_at(ratios, i);
        if (!(ratio >= 0 && ratio <= UINT16_MAX) || ratio != floor(ratio))
            return fs_fail(err, FS_ERR_FORMAT, "%s: '%s.attention.compress_ratios'[%" PRIu64 "] is %g", what, r->arch->name, i, ratio);
        c->compress_ratios[i] = (uint16_t)ratio;
    }
    if (!rc)
        c->n_compress_ratios = (uint32_t)ratios->n_items;
    return rc;
}

static fs_status get_v4(const reader *r, fs_config *c, const char *what, fs_error *err)
{
    const struct { const char *name; uint32_t *ret; } sizes[] = {
        { "attention.key_length", &c->head_dim },
        { "attention.q_lora_rank", &c->q_lora_rank },
        { "rope.dimension_count", &c->qk_rope_head_dim },
        { "attention.sliding_window", &c->sliding_window },
        { "attention.output_group_count", &c->o_groups },
        { "attention.output_lora_rank", &c->o_lora_rank },
        { "hyper_connection.count", &c->hc_mult },
        { "hyper_connection.sinkhorn_iterations", &c->hc_sinkhorn_iters },
    };
    double shared_limit;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && !rc; i++)
        rc = need_size(r, sizes[i].name, sizes[i].ret, what, err);
    if (!rc)
        rc = get_size(r, "hash_layer_count", 0, &c->num_hash_layers, NULL, err);
    if (!rc)
        rc = get_number(r, "hyper_connection.epsilon", &c->hc_eps, NULL, err);
    if (!rc)
        rc = get_number(r, "attention.compress_rope_freq_base", &c->compress_rope_theta, NULL, err);
    if (!rc)
        rc = get_compress_ratios(r, c, what, err);
    if (!rc)
        rc = get_swiglu_limit(r, "swiglu_clamp_exp", &c->swiglu_limit, what, err);
    shared_limit = c->swiglu_limit;
    if (!rc)
        rc = get_swiglu_limit(r, "swiglu_clamp_shexp", &shared_limit, what, err);
    if (!rc && shared_limit != c->swiglu_limit)
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "%s: the shared experts are clamped at %g, the others at %g", what, shared_limit,
                     c->swiglu_limit);
    return rc;
}

/* Files older than the group keys: the released shapes tell. */
static void known_groups(fs_config *c)
{
    bool v3 = c->scoring_func == FS_SCORING_SIGMOID && c->n_routed_experts == 256 && c->num_hidden_layers == 61;
    bool v2 = c->scoring_func == FS_SCORING_SOFTMAX && c->n_routed_experts == 160 && c->num_hidden_layers == 60;

    if (v3 || v2) {
        c->n_group = 8;
        c->topk_group = v3 ? 4 : 3;
    }
}

static fs_status get_experts(const reader *r, fs_config *c, const char *what, fs_error *err)
{
    static const fs_scoring_func scorings[] = { FS_SCORING_SOFTMAX, FS_SCORING_SOFTMAX, FS_SCORING_SIGMOID, FS_SCORING_SOFTMAX,
                                                FS_SCORING_SQRTSOFTPLUS };
    int64_t gating = 0;
    bool found;
    fs_status rc = get_size(r, "expert_count", 0, &c->n_routed_experts, NULL, err);

    if (rc || c->n_routed_experts == 0)
        return rc;
    rc = need_size(r, "expert_used_count", &c->num_experts_per_tok, what, err);
    if (!rc)
        rc = get_size(r, "expert_shared_count", 0, &c->n_shared_experts, NULL, err);
    if (!rc)
        rc = need_size(r, "expert_feed_forward_length", &c->moe_intermediate_size, what, err);
    if (!rc)
        rc = get_size(r, "leading_dense_block_count", 0, &c->first_k_dense_replace, NULL, err);
    if (!rc)
        rc = fs_gguf_int(r->parts[0], key_of(r, "expert_gating_func").text, 0, 4, &gating, NULL, err);
    if (!rc && gating == 3)
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "%s: expert_gating_func 3 is not known here", what);
    c->norm_topk_prob = false;
    if (!rc)
        rc = fs_gguf_bool(r->parts[0], key_of(r, "expert_weights_norm").text, &c->norm_topk_prob, NULL, err);
    c->routed_scaling_factor = 1;
    if (!rc)
        rc = get_number(r, "expert_weights_scale", &c->routed_scaling_factor, NULL, err);
    if (c->routed_scaling_factor == 0)
        c->routed_scaling_factor = 1;
    if (rc)
        return rc;
    c->scoring_func = scorings[gating];
    known_groups(c);
    rc = get_size(r, "expert_group_count", 1, &c->n_group, &found, err);
    if (!rc && found)
        c->topk_group = c->n_group;
    if (!rc)
        rc = get_size(r, "expert_group_used_count", 1, &c->topk_group, NULL, err);
    if (r->arch->v4 || any_tensor_ends_with(r, ".exp_probs_b.bias"))
        c->topk_method = FS_TOPK_NOAUX_TC;
    else
        c->topk_method = c->n_group > 1 ? FS_TOPK_GROUP_LIMITED_GREEDY : FS_TOPK_GREEDY;
    return rc;
}

static fs_status get_tokens(const reader *r, fs_config *c, const char *what, fs_error *err)
{
    static const char *const ends[] = { "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id" };
    int64_t id = -1;
    bool found;
    fs_status rc = fs_gguf_int(r->parts[0], "tokenizer.ggml.bos_token_id", 0, INT32_MAX, &id, NULL, err);

    c->bos_token_id = (int32_t)id;
    for (size_t i = 0; i < sizeof ends / sizeof *ends && !rc; i++) {
        rc = fs_gguf_int(r->parts[0], ends[i], 0, INT32_MAX, &id, &found, err);
        if (!rc && found)
            rc = fs_config_add_eos(c, id, what, err);
    }
    return rc;
}

fs_status fs_config_from_gguf(fs_config *ret, const fs_gguf *const *parts, size_t n_parts, const char *what, fs_error *err)
{
    reader r = { parts, n_parts, NULL };
    fs_bytes arch = { 0 };
    fs_config c = { 0 };
    fs_status rc = fs_gguf_string(parts[0], "general.architecture", &arch, NULL, err);

    if (rc)
        return rc;
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        if (fs_bytes_equal(arch, fs_bytes_str(archs[i].name)))
            r.arch = &archs[i];
    if (!r.arch)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "%s: general.architecture is '%.*s'; " ARCHS " are read", what,
                       (int)(arch.n_bytes < 64 ? arch.n_bytes : 64), arch.data ? (const char *)arch.data : "");
    rc = fs_config_init(&c, fs_bytes_str(r.arch->model_type), what, err);
    if (!rc)
        rc = get_common(&r, &c, what, err);
    if (!rc && r.arch->mla)
        rc = get_mla(&r, &c, what, err);
    if (!rc && r.arch->indexer)
        rc = get_indexer(&r, &c, what, err);
    if (!rc && r.arch->v4)
        rc = get_v4(&r, &c, what, err);
    if (!rc)
        rc = get_experts(&r, &c, what, err);
    if (!rc && c.n_routed_experts && !r.arch->moe)
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "%s: architecture '%s' with %" PRIu32 " experts is not read", what, r.arch->name,
                     c.n_routed_experts);
    if (!rc && strcmp(c.model_type, "deepseek_v2") == 0 && (c.topk_method == FS_TOPK_NOAUX_TC || c.scoring_func == FS_SCORING_SIGMOID))
        strcpy(c.model_type, "deepseek_v3");
    if (!rc)
        fs_config_defaults(&c);
    if (!rc)
        rc = get_rope_scaling(&r, &c, what, err);
    if (!rc)
        rc = get_tokens(&r, &c, what, err);
    c.tie_word_embeddings = !find_tensor(&r, "output.weight");
    if (strcmp(r.arch->name, "qwen2") != 0) /* whose biases config.json does not mention */
        c.attention_bias = find_tensor(&r, "blk.0.attn_q.bias") != NULL;
    c.mlp_bias = find_tensor(&r, "blk.0.ffn_gate.bias") != NULL;
    if (!rc)
        rc = fs_config_check(&c, what, err);
    if (rc) {
        fs_config_done(&c);
        return rc;
    }
    *ret = c;
    return FS_OK;
}
