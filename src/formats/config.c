/* config.json and generation_config.json into fs_config; what GGUF metadata shares with them (defaults, checks).
 * Defaults and key names follow transformers' configuration classes. */
#include "formats/config.h"

#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Far above every published model; they keep all products of two dimensions inside 64 bits with room. */
#define DIM_MAX      ((int64_t)1 << 22)
#define VOCAB_MAX    ((int64_t)1 << 26)
#define HEADS_MAX    ((int64_t)1 << 16)
#define CTX_MAX      ((int64_t)1 << 30)
#define EXPERTS_MAX  ((int64_t)1 << 16) /* of all layers; Kimi K2 has 23424 */
#define HC_MAX       ((int64_t)16)
#define HC_ITERS_MAX ((int64_t)1000)
#define RATIO_MAX    ((int64_t)4096)

static bool is_type(const fs_config *c, const char *type)
{
    return strcmp(c->model_type, type) == 0;
}

/* It is shown on terminals and put into JSON as it is. */
static bool is_type_name(fs_bytes s, size_t n_max)
{
    bool ok = s.n_bytes > 0 && s.n_bytes <= n_max;

    for (size_t i = 0; ok && i < s.n_bytes; i++) {
        uint8_t c = s.data[i], lower = c | 32;
        ok = (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
    }
    return ok;
}

fs_status fs_config_init(fs_config *ret, fs_bytes model_type, const char *what, fs_error *err)
{
    fs_config c = { .rms_norm_eps = 1e-6, .moe_layer_freq = 1, .n_group = 1, .topk_group = 1, .routed_scaling_factor = 1,
                    .rope_theta = 10000, .rope_factor = 1, .beta_fast = 32, .beta_slow = 1, .partial_rotary_factor = 1,
                    .bos_token_id = -1 };

    if (!is_type_name(model_type, sizeof c.model_type - 1))
        return fs_fail(err, FS_ERR_FORMAT, "%s: model_type is no name of 1 to %zu letters, digits, '_', '-' or '.'", what,
                       sizeof c.model_type - 1);
    memcpy(c.model_type, model_type.data, model_type.n_bytes);
    if (is_type(&c, "deepseek_v3") || is_type(&c, "deepseek_v32")) {
        c.scoring_func = FS_SCORING_SIGMOID;
        c.topk_method = FS_TOPK_NOAUX_TC;
        c.norm_topk_prob = true;
        c.routed_scaling_factor = 2.5;
    } else if (is_type(&c, "deepseek_v4")) {
        c.scoring_func = FS_SCORING_SQRTSOFTPLUS;
        c.topk_method = FS_TOPK_NOAUX_TC;
        c.norm_topk_prob = true;
        c.compress_rope_theta = 160000;
        c.hc_eps = 1e-6;
    }
    *ret = c;
    return FS_OK;
}

void fs_config_defaults(fs_config *c)
{
    if (c->num_key_value_heads == 0 || c->kv_lora_rank)
        c->num_key_value_heads = c->num_attention_heads;
    if (c->head_dim == 0 && c->kv_lora_rank)
        c->head_dim = c->qk_rope_head_dim;
    else if (c->head_dim == 0 && c->num_attention_heads && c->hidden_size % c->num_attention_heads == 0)
        c->head_dim = c->hidden_size / c->num_attention_heads;
}

void fs_config_done(fs_config *c)
{
    if (!c)
        return;
    free(c->rope_long_factor);
    free(c->rope_short_factor);
    *c = (fs_config){ 0 };
}

/* ---- checks ---- */

static fs_status bad(const fs_config *c, const char *what, fs_error *err, const char *relation, uint64_t a, uint64_t b)
{
    return fs_fail(err, FS_ERR_FORMAT, "%s (model_type '%s'): '%s' does not hold for %" PRIu64 " and %" PRIu64, what, c->model_type,
                   relation, a, b);
}

static fs_status check_sizes(const fs_config *c, const char *what, fs_error *err)
{
    const struct { const char *key; uint32_t value; int64_t max; bool needed; } sizes[] = {
        { "vocab_size", c->vocab_size, VOCAB_MAX, true },
        { "hidden_size", c->hidden_size, DIM_MAX, true },
        { "num_hidden_layers", c->num_hidden_layers, FS_CONFIG_LAYERS_MAX, true },
        { "num_attention_heads", c->num_attention_heads, HEADS_MAX, true },
        { "num_key_value_heads", c->num_key_value_heads, HEADS_MAX, true },
        { "head_dim", c->head_dim, HEADS_MAX, true },
        { "max_position_embeddings", c->max_position_embeddings, CTX_MAX, true },
        { "intermediate_size", c->intermediate_size, DIM_MAX,
          c->n_routed_experts == 0 || c->first_k_dense_replace > 0 || c->moe_layer_freq > 1 },
        { "q_lora_rank", c->q_lora_rank, DIM_MAX, false },
        { "kv_lora_rank", c->kv_lora_rank, DIM_MAX, false },
        { "qk_nope_head_dim", c->qk_nope_head_dim, HEADS_MAX, c->kv_lora_rank > 0 },
        { "qk_rope_head_dim", c->qk_rope_head_dim, HEADS_MAX, c->kv_lora_rank > 0 },
        { "v_head_dim", c->v_head_dim, HEADS_MAX, c->kv_lora_rank > 0 },
        { "n_routed_experts", c->n_routed_experts, FS_CONFIG_EXPERTS_MAX, false },
        { "n_shared_experts", c->n_shared_experts, FS_CONFIG_EXPERTS_MAX, false },
        { "num_experts_per_tok", c->num_experts_per_tok, FS_CONFIG_EXPERTS_MAX, c->n_routed_experts > 0 },
        { "moe_intermediate_size", c->moe_intermediate_size, DIM_MAX, c->n_routed_experts > 0 },
        { "moe_layer_freq", c->moe_layer_freq, FS_CONFIG_LAYERS_MAX, true },
        { "n_group", c->n_group, FS_CONFIG_EXPERTS_MAX, true },
        { "topk_group", c->topk_group, FS_CONFIG_EXPERTS_MAX, true },
        { "num_nextn_predict_layers", c->num_nextn_predict_layers, FS_CONFIG_LAYERS_MAX, false },
        { "index_n_heads", c->index_n_heads, HEADS_MAX, false },
        { "index_head_dim", c->index_head_dim, HEADS_MAX, c->index_n_heads > 0 },
        { "index_topk", c->index_topk, CTX_MAX, c->index_n_heads > 0 },
        { "o_groups", c->o_groups, HEADS_MAX, false },
        { "o_lora_rank", c->o_lora_rank, DIM_MAX, c->o_groups > 0 },
        { "sliding_window", c->sliding_window, CTX_MAX, false },
        { "num_hash_layers", c->num_hash_layers, FS_CONFIG_LAYERS_MAX, false },
        { "hc_mult", c->hc_mult, HC_MAX, false },
        { "hc_sinkhorn_iters", c->hc_sinkhorn_iters, HC_ITERS_MAX, c->hc_mult > 0 },
    };

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (sizes[i].value > sizes[i].max)
            return fs_fail(err, FS_ERR_FORMAT, "%s (model_type '%s'): '%s' is %" PRIu32 ", at most %" PRId64 " is allowed", what,
                           c->model_type, sizes[i].key, sizes[i].value, sizes[i].max);
        if (sizes[i].needed && sizes[i].value == 0)
            return fs_fail(err, FS_ERR_FORMAT, "%s (model_type '%s'): '%s' is missing or 0", what, c->model_type, sizes[i].key);
    }
    return FS_OK;
}

static fs_status check_experts(const fs_config *c, const char *what, fs_error *err)
{
    bool grouped = c->topk_method != FS_TOPK_GREEDY && c->n_group > 1;

    /* A GGUF's one tensor of a layer's experts becomes a view each: a small file must not make a large list. */
    if (((int64_t)c->num_hidden_layers + c->num_nextn_predict_layers) * c->n_routed_experts > EXPERTS_MAX)
        return bad(c, what, err, "(num_hidden_layers + num_nextn_predict_layers) * n_routed_experts is at most 2^16",
                   c->num_hidden_layers + c->num_nextn_predict_layers, c->n_routed_experts);
    if (c->num_experts_per_tok > c->n_routed_experts)
        return bad(c, what, err, "num_experts_per_tok is at most n_routed_experts", c->num_experts_per_tok, c->n_routed_experts);
    if (c->n_routed_experts % c->n_group)
        return bad(c, what, err, "n_routed_experts is a multiple of n_group", c->n_routed_experts, c->n_group);
    if (c->topk_group > c->n_group)
        return bad(c, what, err, "topk_group is at most n_group", c->topk_group, c->n_group);
    if (grouped && c->num_experts_per_tok > c->n_routed_experts / c->n_group * c->topk_group)
        return bad(c, what, err, "num_experts_per_tok is at most the experts of the kept groups", c->num_experts_per_tok,
                   c->n_routed_experts / c->n_group * c->topk_group);
    if (grouped && c->topk_method == FS_TOPK_NOAUX_TC && c->n_routed_experts / c->n_group < 2)
        return bad(c, what, err, "a group has at least two experts", c->n_routed_experts, c->n_group);
    if (!(c->routed_scaling_factor > 0))
        return fs_fail(err, FS_ERR_FORMAT, "%s: 'routed_scaling_factor' is %g, it must be above 0", what, c->routed_scaling_factor);
    return FS_OK;
}

static fs_status check_v4(const fs_config *c, const char *what, fs_error *err)
{
    const struct { const char *key; double value; } positive[] = {
        { "compress_rope_theta", c->compress_rope_theta }, { "hc_eps", c->hc_eps },
    };

    if (!is_type(c, "deepseek_v4"))
        return FS_OK;
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
        if (!(positive[i].value > 0) || !isfinite(positive[i].value))
            return fs_fail(err, FS_ERR_FORMAT, "%s: '%s' is %g, it must be above 0", what, positive[i].key, positive[i].value);
    if (!(c->swiglu_limit >= 0) || !isfinite(c->swiglu_limit))
        return fs_fail(err, FS_ERR_FORMAT, "%s: 'swiglu_limit' is %g, it is at least 0", what, c->swiglu_limit);
    if (!c->q_lora_rank || !c->qk_rope_head_dim || !c->o_groups || !c->sliding_window || !c->hc_mult)
        return fs_fail(err, FS_ERR_FORMAT,
                       "%s: deepseek_v4 needs q_lora_rank, qk_rope_head_dim, o_groups, sliding_window and hc_mult", what);
    if (c->hc_mult > HC_MAX || c->hc_sinkhorn_iters > HC_ITERS_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "%s: 'hc_mult' is %" PRIu32 " and 'hc_sinkhorn_iters' %" PRIu32 ", at most %" PRId64
                       " and %" PRId64 " are read", what, c->hc_mult, c->hc_sinkhorn_iters, HC_MAX, HC_ITERS_MAX);
    for (uint32_t i = 0; i < c->n_compress_ratios; i++)
        if (c->compress_ratios[i] > RATIO_MAX)
            return fs_fail(err, FS_ERR_FORMAT, "%s: 'compress_ratios'[%" PRIu32 "] is %d, over %" PRId64, what, i, c->compress_ratios[i],
                           RATIO_MAX);
    if (c->n_compress_ratios < c->num_hidden_layers)
        return bad(c, what, err, "compress_ratios has an entry for every layer", c->n_compress_ratios, c->num_hidden_layers);
    if (c->num_attention_heads % c->o_groups)
        return bad(c, what, err, "num_attention_heads is a multiple of o_groups", c->num_attention_heads, c->o_groups);
    if ((int64_t)c->o_groups * c->o_lora_rank > DIM_MAX)
        return bad(c, what, err, "o_groups * o_lora_rank is at most 2^22", c->o_groups, c->o_lora_rank);
    if (c->qk_rope_head_dim % 2 || c->qk_rope_head_dim > c->head_dim)
        return bad(c, what, err, "qk_rope_head_dim is even and at most head_dim", c->qk_rope_head_dim, c->head_dim);
    return FS_OK;
}

static fs_status check_rope(const fs_config *c, const char *what, fs_error *err)
{
    const struct { const char *key; double value; } positive[] = {
        { "rms_norm_eps", c->rms_norm_eps }, { "rope_theta", c->rope_theta },
        { "beta_fast", c->beta_fast },       { "beta_slow", c->beta_slow },
        { "partial_rotary_factor", c->partial_rotary_factor },
    };

    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
        if (!(positive[i].value > 0) || !isfinite(positive[i].value))
            return fs_fail(err, FS_ERR_FORMAT, "%s: '%s' is %g, it must be above 0", what, positive[i].key, positive[i].value);
    if (c->partial_rotary_factor > 1)
        return fs_fail(err, FS_ERR_FORMAT, "%s: 'partial_rotary_factor' is %g, it is at most 1", what, c->partial_rotary_factor);
    if (!(c->rope_factor >= 1) || !isfinite(c->rope_factor))
        return fs_fail(err, FS_ERR_FORMAT, "%s: the rope scaling 'factor' is %g, it is at least 1", what, c->rope_factor);
    if (c->has_attention_factor && !(c->attention_factor > 0))
        return fs_fail(err, FS_ERR_FORMAT, "%s: 'attention_factor' is %g, it must be above 0", what, c->attention_factor);
    if ((c->has_mscale && !(c->mscale >= 0)) || (c->has_mscale_all_dim && !(c->mscale_all_dim >= 0)))
        return fs_fail(err, FS_ERR_FORMAT, "%s: 'mscale' is %g and 'mscale_all_dim' %g, they are at least 0", what, c->mscale,
                       c->mscale_all_dim);
    if (c->rope_type != FS_ROPE_DEFAULT && c->rope_type != FS_ROPE_LINEAR && c->rope_type != FS_ROPE_DYNAMIC &&
        (c->original_max_position_embeddings == 0 || c->original_max_position_embeddings > CTX_MAX))
        return fs_fail(err, FS_ERR_FORMAT, "%s: 'original_max_position_embeddings' is %" PRIu32 ", allowed are 1 to %" PRId64, what,
                       c->original_max_position_embeddings, CTX_MAX);
    /* From GGUF the bands are folded into a tensor, and both factors stay 0. */
    if (c->rope_type == FS_ROPE_LLAMA3 && (c->low_freq_factor != 0 || c->high_freq_factor != 0) &&
        !(c->low_freq_factor > 0 && c->high_freq_factor > c->low_freq_factor))
        return fs_fail(err, FS_ERR_FORMAT, "%s: 'low_freq_factor' is %g and 'high_freq_factor' %g, they must rise from above 0",
                       what, c->low_freq_factor, c->high_freq_factor);
    return FS_OK;
}

bool fs_config_layer_is_moe(const fs_config *c, uint32_t index)
{
    return c->n_routed_experts > 0 && index >= c->first_k_dense_replace && index % c->moe_layer_freq == 0;
}

fs_status fs_config_check(const fs_config *c, const char *what, fs_error *err)
{
    fs_status rc = check_sizes(c, what, err);

    if (!rc && c->num_attention_heads % c->num_key_value_heads)
        return bad(c, what, err, "num_attention_heads is a multiple of num_key_value_heads", c->num_attention_heads, c->num_key_value_heads);
    if (!rc && (int64_t)c->num_attention_heads * c->head_dim > DIM_MAX)
        return bad(c, what, err, "num_attention_heads * head_dim is at most 2^22", c->num_attention_heads, c->head_dim);
    if (!rc && (c->kv_lora_rank ? c->qk_rope_head_dim : c->head_dim) % 2)
        return bad(c, what, err, "the rotated dimensions are even (head_dim, qk_rope_head_dim)", c->head_dim, c->qk_rope_head_dim);
    if (!rc && (int64_t)c->num_attention_heads * ((int64_t)c->qk_nope_head_dim + c->qk_rope_head_dim + c->v_head_dim) > DIM_MAX)
        return bad(c, what, err, "num_attention_heads * (qk_nope_head_dim + qk_rope_head_dim + v_head_dim) is at most 2^22",
                   c->num_attention_heads, (uint64_t)c->qk_nope_head_dim + c->qk_rope_head_dim + c->v_head_dim);
    if (!rc && c->num_hidden_layers + c->num_nextn_predict_layers > FS_CONFIG_LAYERS_MAX)
        return bad(c, what, err, "num_hidden_layers + num_nextn_predict_layers is at most 1024", c->num_hidden_layers,
                   c->num_nextn_predict_layers);
    if (!rc && c->first_k_dense_replace > c->num_hidden_layers && c->n_routed_experts)
        return bad(c, what, err, "first_k_dense_replace is at most num_hidden_layers", c->first_k_dense_replace, c->num_hidden_layers);
    if (!rc && c->n_routed_experts)
        rc = check_experts(c, what, err);
    if (!rc && (int64_t)c->index_n_heads * c->index_head_dim > DIM_MAX)
        return bad(c, what, err, "index_n_heads * index_head_dim is at most 2^22", c->index_n_heads, c->index_head_dim);
    if (!rc)
        rc = check_rope(c, what, err);
    if (!rc)
        rc = check_v4(c, what, err);
    if (!rc && c->bos_token_id >= 0 && (uint32_t)c->bos_token_id >= c->vocab_size)
        return bad(c, what, err, "bos_token_id is below vocab_size", (uint32_t)c->bos_token_id, c->vocab_size);
    for (int i = 0; !rc && i < c->n_eos_token_ids; i++)
        if ((uint32_t)c->eos_token_ids[i] >= c->vocab_size)
            return bad(c, what, err, "eos_token_id is below vocab_size", (uint32_t)c->eos_token_ids[i], c->vocab_size);
    return rc;
}

/* ---- config.json ---- */

static fs_status get_size(struct json_object *o, const char *key, int64_t min, int64_t max, uint32_t *ret, fs_error *err)
{
    int64_t v = *ret;
    fs_status rc = fs_json_int(o, key, min, max, &v, NULL, err);

    *ret = (uint32_t)v;
    return rc;
}

static fs_status get_sizes(struct json_object *o, fs_config *c, fs_error *err)
{
    const struct { const char *key; int64_t min, max; uint32_t *ret; } sizes[] = {
        { "vocab_size", 1, VOCAB_MAX, &c->vocab_size },
        { "hidden_size", 1, DIM_MAX, &c->hidden_size },
        { "num_hidden_layers", 1, FS_CONFIG_LAYERS_MAX, &c->num_hidden_layers },
        { "num_attention_heads", 1, HEADS_MAX, &c->num_attention_heads },
        { "num_key_value_heads", 1, HEADS_MAX, &c->num_key_value_heads },
        { "head_dim", 1, HEADS_MAX, &c->head_dim },
        { "intermediate_size", 1, DIM_MAX, &c->intermediate_size },
        { "max_position_embeddings", 1, CTX_MAX, &c->max_position_embeddings },
        { "q_lora_rank", 0, DIM_MAX, &c->q_lora_rank },
        { "kv_lora_rank", 0, DIM_MAX, &c->kv_lora_rank },
        { "qk_nope_head_dim", 0, HEADS_MAX, &c->qk_nope_head_dim },
        { "qk_rope_head_dim", 0, HEADS_MAX, &c->qk_rope_head_dim },
        { "v_head_dim", 0, HEADS_MAX, &c->v_head_dim },
        { "n_routed_experts", 0, FS_CONFIG_EXPERTS_MAX, &c->n_routed_experts },
        { "n_shared_experts", 0, FS_CONFIG_EXPERTS_MAX, &c->n_shared_experts },
        { "num_experts_per_tok", 0, FS_CONFIG_EXPERTS_MAX, &c->num_experts_per_tok },
        { "moe_intermediate_size", 0, DIM_MAX, &c->moe_intermediate_size },
        { "first_k_dense_replace", 0, FS_CONFIG_LAYERS_MAX, &c->first_k_dense_replace },
        { "moe_layer_freq", 1, FS_CONFIG_LAYERS_MAX, &c->moe_layer_freq },
        { "n_group", 1, FS_CONFIG_EXPERTS_MAX, &c->n_group },
        { "topk_group", 1, FS_CONFIG_EXPERTS_MAX, &c->topk_group },
        { "num_nextn_predict_layers", 0, FS_CONFIG_LAYERS_MAX, &c->num_nextn_predict_layers },
        { "index_n_heads", 0, HEADS_MAX, &c->index_n_heads },
        { "index_head_dim", 0, HEADS_MAX, &c->index_head_dim },
        { "index_topk", 0, CTX_MAX, &c->index_topk },
    };
    fs_status rc = FS_OK;

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && !rc; i++)
        rc = get_size(o, sizes[i].key, sizes[i].min, sizes[i].max, sizes[i].ret, err);
    return rc;
}

/* The index of key's string in names, which ends with NULL; absent leaves *ret alone. */
static fs_status get_name(struct json_object *o, const char *key, const char *const *names, int *ret, bool *ret_found, fs_error *err)
{
    fs_bytes s = { 0 };
    bool found;
    fs_status rc = fs_json_string(o, key, &s, &found, err);

    if (ret_found)
        *ret_found = found;
    if (rc || !found)
        return rc;
    for (int i = 0; names[i]; i++)
        if (fs_bytes_equal(s, fs_bytes_str(names[i]))) {
            *ret = i;
            return FS_OK;
        }
    return fs_fail(err, FS_ERR_UNSUPPORTED, "'%s' is '%.*s', which is not known here", key, (int)(s.n_bytes < 64 ? s.n_bytes : 64),
                   (const char *)s.data);
}

static fs_status get_factors(struct json_object *o, const char *key, float **ret, uint32_t *ret_n, fs_error *err)
{
    struct json_object *a = fs_json_member(o, key);
    size_t n = json_object_is_type(a, json_type_array) ? json_object_array_length(a) : 0;
    float *f;

    if (n == 0 || n > (size_t)HEADS_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "'%s' is no list of 1 to %" PRId64 " numbers", key, HEADS_MAX);
    f = malloc(n * sizeof *f);
    if (!f)
        return fs_fail_memory(err, n * sizeof *f);
    for (size_t i = 0; i < n; i++) {
        struct json_object *v = json_object_array_get_idx(a, i);
        f[i] = json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double) ? (float)json_object_get_double(v) : 0;
        if (!(f[i] > 0) || !isfinite(f[i])) {
            free(f);
            return fs_fail(err, FS_ERR_FORMAT, "'%s'[%zu] is no number above 0", key, i);
        }
    }
    free(*ret);
    *ret = f;
    *ret_n = (uint32_t)n;
    return FS_OK;
}

/* The key has its own default for each kind; what a kind needs and does not have is refused. */
static fs_status need_number(struct json_object *o, const char *key, double *ret, fs_error *err)
{
    bool found;
    fs_status rc = fs_json_double(o, key, ret, &found, err);

    return rc || found ? rc : fs_fail(err, FS_ERR_FORMAT, "'%s' is missing", key);
}

/* top: config.json, scaling: rope_scaling or rope_parameters. */
static fs_status get_rope_scaling(struct json_object *top, struct json_object *scaling, fs_config *c, fs_error *err)
{
    static const char *const names[] = { "default", "linear", "dynamic", "yarn", "llama3", "longrope", NULL };
    int type = FS_ROPE_DEFAULT;
    bool found;
    fs_status rc = get_name(scaling, "rope_type", names, &type, &found, err);

    if (!rc && !found)
        rc = get_name(scaling, "type", names, &type, &found, err);
    if (!rc)
        rc = fs_json_double(scaling, "rope_theta", &c->rope_theta, NULL, err);
    if (!rc)
        rc = fs_json_double(scaling, "partial_rotary_factor", &c->partial_rotary_factor, NULL, err);
    if (rc)
        return rc;
    c->rope_type = (fs_rope_type)type;
    if (type == FS_ROPE_DEFAULT)
        return FS_OK;

    if (type == FS_ROPE_LONGROPE)
        rc = fs_json_double(scaling, "factor", &c->rope_factor, NULL, err);
    else
        rc = need_number(scaling, "factor", &c->rope_factor, err);
    if (type != FS_ROPE_LINEAR) /* which does not ask */
        c->original_max_position_embeddings = c->max_position_embeddings;
    if (!rc)
        rc = get_size(top, "original_max_position_embeddings", 1, CTX_MAX, &c->original_max_position_embeddings, err);
    if (!rc)
        rc = get_size(scaling, "original_max_position_embeddings", 1, CTX_MAX, &c->original_max_position_embeddings, err);
    if (!rc)
        rc = fs_json_double(scaling, "attention_factor", &c->attention_factor, &c->has_attention_factor, err);
    if (!rc && type == FS_ROPE_YARN) {
        rc = fs_json_double(scaling, "beta_fast", &c->beta_fast, NULL, err);
        if (!rc)
            rc = fs_json_double(scaling, "beta_slow", &c->beta_slow, NULL, err);
        if (!rc)
            rc = fs_json_double(scaling, "mscale", &c->mscale, &c->has_mscale, err);
        if (!rc)
            rc = fs_json_double(scaling, "mscale_all_dim", &c->mscale_all_dim, &c->has_mscale_all_dim, err);
    }
    if (!rc && type == FS_ROPE_LLAMA3) {
        rc = need_number(scaling, "low_freq_factor", &c->low_freq_factor, err);
        if (!rc)
            rc = need_number(scaling, "high_freq_factor", &c->high_freq_factor, err);
    }
    if (!rc && type == FS_ROPE_LONGROPE) {
        rc = get_factors(scaling, "long_factor", &c->rope_long_factor, &c->n_long_factor, err);
        if (!rc)
            rc = get_factors(scaling, "short_factor", &c->rope_short_factor, &c->n_short_factor, err);
    }
    return rc;
}

static fs_status get_rope(struct json_object *top, fs_config *c, fs_error *err)
{
    struct json_object *scaling = fs_json_member(top, "rope_scaling");
    fs_status rc = fs_json_double(top, "rope_theta", &c->rope_theta, NULL, err);

    if (!rc)
        rc = fs_json_double(top, "partial_rotary_factor", &c->partial_rotary_factor, NULL, err);
    if (rc)
        return rc;
    if (!scaling)
        scaling = fs_json_member(top, "rope_parameters");
    if (!scaling)
        return FS_OK;
    if (!json_object_is_type(scaling, json_type_object))
        return fs_fail(err, FS_ERR_FORMAT, "'rope_scaling' is not an object");
    rc = get_rope_scaling(top, scaling, c, err);
    if (rc)
        fs_fail_prefix(err, "rope scaling");
    return rc;
}

static fs_status get_experts(struct json_object *o, fs_config *c, fs_error *err)
{
    static const char *const methods[] = { "greedy", "group_limited_greedy", "noaux_tc", NULL };
    static const char *const scorings[] = { "softmax", "sigmoid", "sqrtsoftplus", NULL };
    int method = (int)c->topk_method, scoring = (int)c->scoring_func;
    fs_status rc = FS_OK;

    if (c->n_routed_experts == 0)
        return FS_OK;
    rc = get_name(o, "topk_method", methods, &method, NULL, err);
    if (!rc)
        rc = get_name(o, "scoring_func", scorings, &scoring, NULL, err);
    if (!rc)
        rc = fs_json_bool(o, "norm_topk_prob", &c->norm_topk_prob, NULL, err);
    if (!rc)
        rc = fs_json_double(o, "routed_scaling_factor", &c->routed_scaling_factor, NULL, err);
    c->topk_method = (fs_topk_method)method;
    c->scoring_func = (fs_scoring_func)scoring;
    return rc;
}

/* What only V4 has; other models' sliding_window and the like mean other things. */
static fs_status get_v4(struct json_object *o, fs_config *c, fs_error *err)
{
    const struct { const char *key; int64_t min, max; uint32_t *ret; } sizes[] = {
        { "o_groups", 1, HEADS_MAX, &c->o_groups },
        { "o_lora_rank", 1, DIM_MAX, &c->o_lora_rank },
        { "sliding_window", 1, CTX_MAX, &c->sliding_window },
        { "num_hash_layers", 0, FS_CONFIG_LAYERS_MAX, &c->num_hash_layers },
        { "hc_mult", 1, HC_MAX, &c->hc_mult },
        { "hc_sinkhorn_iters", 1, HC_ITERS_MAX, &c->hc_sinkhorn_iters },
    };
    struct json_object *ratios = fs_json_member(o, "compress_ratios");
    size_t n = json_object_is_type(ratios, json_type_array) ? json_object_array_length(ratios) : 0;
    fs_status rc = FS_OK;

    if (!is_type(c, "deepseek_v4"))
        return FS_OK;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && !rc; i++)
        rc = get_size(o, sizes[i].key, sizes[i].min, sizes[i].max, sizes[i].ret, err);
    if (!rc)
        rc = fs_json_double(o, "compress_rope_theta", &c->compress_rope_theta, NULL, err);
    if (!rc)
        rc = fs_json_double(o, "hc_eps", &c->hc_eps, NULL, err);
    if (!rc)
        rc = fs_json_double(o, "swiglu_limit", &c->swiglu_limit, NULL, err);
    if (rc)
        return rc;
    if (n == 0 || n > FS_CONFIG_LAYERS_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "'compress_ratios' is no list of 1 to %d numbers", FS_CONFIG_LAYERS_MAX);
    for (size_t i = 0; i < n; i++) {
        struct json_object *v = json_object_array_get_idx(ratios, i);
        int64_t ratio = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : -1;
        if (ratio < 0 || ratio > RATIO_MAX)
            return fs_fail(err, FS_ERR_FORMAT, "'compress_ratios'[%zu] is no number of 0 to %" PRId64, i, RATIO_MAX);
        c->compress_ratios[i] = (uint16_t)ratio;
    }
    c->n_compress_ratios = (uint32_t)n;
    return FS_OK;
}

static fs_status get_quantization(struct json_object *top, fs_config *c, fs_error *err)
{
    static const char *const methods[] = { "fp8", NULL }, *const formats[] = { "e4m3", NULL };
    struct json_object *q = fs_json_member(top, "quantization_config"), *block;
    uint32_t *const sizes[2] = { &c->weight_block_rows, &c->weight_block_cols };
    int ignored = 0;
    bool found;
    fs_status rc;

    if (!q)
        return FS_OK;
    rc = get_name(q, "quant_method", methods, &ignored, &found, err);
    if (!rc && !found)
        rc = fs_fail(err, FS_ERR_FORMAT, "'quant_method' is missing");
    if (!rc)
        rc = get_name(q, "fmt", formats, &ignored, NULL, err);
    if (rc) {
        fs_fail_prefix(err, "quantization_config");
        return rc;
    }
    block = fs_json_member(q, "weight_block_size");
    if (!json_object_is_type(block, json_type_array) || json_object_array_length(block) != 2)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "quantization_config: 'weight_block_size' is no pair; only block-scaled fp8 is read");
    for (size_t i = 0; i < 2; i++) {
        struct json_object *v = json_object_array_get_idx(block, i);
        int64_t n = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : 0;
        if (n < 1 || n > HEADS_MAX)
            return fs_fail(err, FS_ERR_FORMAT, "quantization_config: 'weight_block_size'[%zu] is out of 1 to %" PRId64, i, HEADS_MAX);
        *sizes[i] = (uint32_t)n;
    }
    c->fp8 = true;
    return FS_OK;
}

fs_status fs_config_add_eos(fs_config *c, int64_t id, const char *what, fs_error *err)
{
    if (id < 0 || id >= VOCAB_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "%s: eos_token_id %" PRId64 " is no token", what, id);
    for (int i = 0; i < c->n_eos_token_ids; i++)
        if (c->eos_token_ids[i] == id)
            return FS_OK;
    if (c->n_eos_token_ids == FS_CONFIG_EOS_MAX)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "%s: more than %d eos tokens", what, FS_CONFIG_EOS_MAX);
    c->eos_token_ids[c->n_eos_token_ids++] = (int32_t)id;
    return FS_OK;
}

static fs_status get_eos(struct json_object *o, fs_config *c, const char *what, fs_error *err)
{
    struct json_object *v = fs_json_member(o, "eos_token_id");
    size_t n = json_object_is_type(v, json_type_array) ? json_object_array_length(v) : 1;
    fs_status rc = FS_OK;

    if (!v)
        return FS_OK;
    for (size_t i = 0; i < n && !rc; i++) {
        struct json_object *id = json_object_is_type(v, json_type_array) ? json_object_array_get_idx(v, i) : v;
        if (!json_object_is_type(id, json_type_int))
            return fs_fail(err, FS_ERR_FORMAT, "%s: 'eos_token_id' is neither a token nor a list of tokens", what);
        rc = fs_config_add_eos(c, json_object_get_int64(id), what, err);
    }
    return rc;
}

static fs_status from_object(struct json_object *o, fs_config *c, fs_error *err)
{
    int64_t bos = -1;
    fs_status rc = get_sizes(o, c, err);

    if (!rc)
        rc = fs_json_double(o, "rms_norm_eps", &c->rms_norm_eps, NULL, err);
    if (!rc)
        rc = fs_json_bool(o, "tie_word_embeddings", &c->tie_word_embeddings, NULL, err);
    if (!rc)
        rc = fs_json_bool(o, "attention_bias", &c->attention_bias, NULL, err);
    if (!rc)
        rc = fs_json_bool(o, "mlp_bias", &c->mlp_bias, NULL, err);
    if (!rc)
        rc = get_experts(o, c, err);
    if (!rc)
        rc = get_rope(o, c, err);
    if (!rc)
        rc = get_v4(o, c, err);
    if (!rc)
        rc = get_quantization(o, c, err);
    if (!rc)
        rc = fs_json_int(o, "bos_token_id", -1, VOCAB_MAX - 1, &bos, NULL, err);
    c->bos_token_id = (int32_t)bos;
    return rc;
}

fs_status fs_config_from_json(fs_config *ret, fs_bytes json, const char *what, fs_error *err)
{
    struct json_object *o = NULL;
    fs_config c = { 0 };
    fs_bytes type = { 0 };
    bool found = false;
    fs_status rc = fs_json_parse(json, what, &o, err);

    if (rc)
        return rc;
    if (!json_object_is_type(o, json_type_object)) {
        json_object_put(o);
        return fs_fail(err, FS_ERR_FORMAT, "%s: not an object", what);
    }
    rc = fs_json_string(o, "model_type", &type, &found, err);
    if (rc)
        fs_fail_prefix(err, "%s", what);
    else if (!found)
        rc = fs_fail(err, FS_ERR_FORMAT, "%s: 'model_type' is missing", what);
    else
        rc = fs_config_init(&c, type, what, err);
    if (!rc) {
        rc = from_object(o, &c, err);
        if (rc)
            fs_fail_prefix(err, "%s", what);
    }
    if (!rc)
        rc = get_eos(o, &c, what, err);
    if (!rc) {
        fs_config_defaults(&c);
        rc = fs_config_check(&c, what, err);
    }
    json_object_put(o);
    if (rc) {
        fs_config_done(&c);
        return rc;
    }
    *ret = c;
    return FS_OK;
}

fs_status fs_config_add_generation(fs_config *c, fs_bytes json, const char *what, fs_error *err)
{
    struct json_object *o = NULL;
    fs_status rc = fs_json_parse(json, what, &o, err);

    if (!rc)
        rc = get_eos(o, c, what, err);
    if (!rc)
        rc = fs_config_check(c, what, err);
    json_object_put(o);
    return rc;
}
