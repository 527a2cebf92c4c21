/* Reads the configuration strictly, since a key passed over could change what the model computes; the tensors are
 * views into the map, but for B of one expert, whose columns are gathered. */
#include "formats/adapter.h"

#include "base/file.h"
#include "base/json.h"
#include "formats/safetensors.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_BYTES_MAX ((size_t)16 << 20)
#define PREFIX           "base_model.model."
#define NAME_BYTES_MAX   256
#define PATTERNS_MAX     4096
#define MATCH_STEPS_MAX  100000

typedef struct pattern {
    pcre2_code *code;
    double value;
} pattern;

typedef struct patterns {
    pattern *items;
    size_t n;
} patterns;

struct fs_adapter {
    fs_map map;
    fs_safetensors *tensors;
    bool *used; /* of tensor i */
    double r, alpha;
    patterns ranks, alphas;
    struct json_object *saved; /* modules_to_save, or NULL */
    char *base;                /* base_model_name_or_path, or NULL */
    bool rslora;
    uint8_t *columns; /* of one expert's B */
    size_t columns_bytes;
};

/* What keys may hold is null, false, "none", or nothing; what they would change is in PEFT's LoraConfig. */
static const char *const refused_keys[] = {
    "use_dora", "fan_in_fan_out", "bias", "lora_bias", "layer_replication", "trainable_token_indices", "alora_invocation_tokens",
    "megatron_config", "use_qalora", "use_bdlora", "arrow_config", "velora_config", "monteclora_config", "kasa_config", "loftq_config",
    "corda_config", "lora_ga_config",
};

/* ---- configuration ---- */

static bool is_nothing(struct json_object *v)
{
    switch (json_object_get_type(v)) {
    case json_type_null:
        return true;
    case json_type_boolean:
        return !json_object_get_boolean(v);
    case json_type_string:
        return strcmp(json_object_get_string(v), "none") == 0;
    case json_type_array:
        return json_object_array_length(v) == 0;
    case json_type_object:
        return json_object_object_length(v) == 0;
    default:
        return false;
    }
}

/* Initialisations that only choose where training starts leave the base model as it is; PiSSA and the like do not. */
static bool init_is_harmless(struct json_object *v)
{
    const char *s;

    if (!v || json_object_is_type(v, json_type_boolean))
        return true;
    if (!json_object_is_type(v, json_type_string))
        return false;
    s = json_object_get_string(v);
    return strcmp(s, "gaussian") == 0 || strcmp(s, "eva") == 0 || strcmp(s, "orthogonal") == 0;
}

/* PEFT's: re.match(rf"(.*\\.)?({key})$", name). */
static fs_status add_pattern(patterns *p, const char *key, double value, fs_error *err)
{
    fs_buf text = { 0 };
    PCRE2_SIZE at;
    int code;
    fs_status rc = fs_buf_printf(&text, err, "(.*\\.)?(%s)$", key);

    if (rc)
        return rc;
    p->items[p->n].value = value;
    p->items[p->n].code = pcre2_compile((PCRE2_SPTR)text.data, text.n_bytes, PCRE2_ANCHORED, &code, &at, NULL);
    fs_buf_done(&text);
    if (!p->items[p->n].code)
        return fs_fail(err, code == PCRE2_ERROR_HEAP_FAILED ? FS_ERR_MEMORY : FS_ERR_FORMAT, "the key '%.60s' is no regular expression", key);
    p->n++;
    return FS_OK;
}

static fs_status read_patterns(struct json_object *json, const char *name, double min, patterns *ret, fs_error *err)
{
    struct json_object *o = fs_json_member(json, name);
    size_t n = json_object_is_type(o, json_type_object) ? (size_t)json_object_object_length(o) : 0;
    fs_status rc = FS_OK;

    if (!o)
        return FS_OK;
    if (!json_object_is_type(o, json_type_object) || n > PATTERNS_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "%s is no object of at most %d numbers", name, PATTERNS_MAX);
    ret->items = calloc(n + 1, sizeof *ret->items);
    if (!ret->items)
        return fs_fail_memory(err, (n + 1) * sizeof *ret->items);
    json_object_object_foreach(o, key, v)
    {
        double value = json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double) ? json_object_get_double(v) : -1;
        if (!rc && !(value >= min && value <= INT32_MAX))
            rc = fs_fail(err, FS_ERR_FORMAT, "%s of '%.60s' is no number from %g on", name, key, min);
        if (!rc && (rc = add_pattern(ret, key, value, err)) != FS_OK)
            fs_fail_prefix(err, "%s", name);
    }
    return rc;
}

static void patterns_done(patterns *p)
{
    for (size_t i = 0; i < p->n; i++)
        pcre2_code_free(p->items[i].code);
    free(p->items);
}

/* The value of the first key that fits the name, or otherwise. */
static fs_status match(const patterns *p, const char *name, double otherwise, double *ret, fs_error *err)
{
    pcre2_match_data *data = NULL;
    pcre2_match_context *context = NULL;
    fs_status rc = FS_OK;
    int found = PCRE2_ERROR_NOMATCH;

    *ret = otherwise;
    if (p->n == 0)
        return FS_OK;
    data = pcre2_match_data_create(1, NULL);
    context = pcre2_match_context_create(NULL);
    if (!data || !context)
        rc = fs_fail_memory(err, sizeof *p);
    else
        pcre2_set_match_limit(context, MATCH_STEPS_MAX);
    for (size_t i = 0; i < p->n && !rc && found == PCRE2_ERROR_NOMATCH; i++) {
        found = pcre2_match(p->items[i].code, (PCRE2_SPTR)name, strlen(name), 0, 0, data, context);
        if (found >= 0)
            *ret = p->items[i].value;
        else if (found != PCRE2_ERROR_NOMATCH)
            rc = fs_fail(err, FS_ERR_FORMAT, "a pattern takes too long to match '%s'", name);
    }
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    return rc;
}

static fs_status read_config(fs_adapter *a, struct json_object *json, fs_error *err)
{
    fs_bytes type = { 0 }, base = { 0 };
    int64_t r = 0;
    bool found_r, found_alpha;
    fs_status rc;

    if (!json_object_is_type(json, json_type_object))
        return fs_fail(err, FS_ERR_FORMAT, "not an object");
    rc = fs_json_string(json, "peft_type", &type, NULL, err);
    if (!rc && !fs_bytes_equal(type, FS_BYTES_LIT("LORA")))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "peft_type is '%.*s', only LORA is supported",
                     (int)(type.n_bytes < 40 ? type.n_bytes : 40), type.n_bytes ? (const char *)type.data : "");
    for (size_t i = 0; i < sizeof refused_keys / sizeof *refused_keys && !rc; i++)
        if (!is_nothing(fs_json_member(json, refused_keys[i])))
            rc = fs_fail(err, FS_ERR_UNSUPPORTED, "%s is set, which is not supported", refused_keys[i]);
    if (!rc && !init_is_harmless(fs_json_member(json, "init_lora_weights")))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "init_lora_weights is '%.40s', which changes the base model and is not supported",
                     json_object_get_string(fs_json_member(json, "init_lora_weights")));
    if (!rc && json_object_is_type(fs_json_member(json, "base_model_name_or_path"), json_type_string))
        rc = fs_json_string(json, "base_model_name_or_path", &base, NULL, err);
    if (!rc)
        rc = fs_json_int(json, "r", 1, INT32_MAX, &r, &found_r, err);
    if (!rc)
        rc = fs_json_double(json, "lora_alpha", &a->alpha, &found_alpha, err);
    if (!rc)
        rc = fs_json_bool(json, "use_rslora", &a->rslora, NULL, err);
    if (!rc)
        rc = read_patterns(json, "rank_pattern", 1, &a->ranks, err);
    if (!rc)
        rc = read_patterns(json, "alpha_pattern", 0, &a->alphas, err);
    if (rc)
        return rc;
    if (!found_r || !found_alpha)
        return fs_fail(err, FS_ERR_FORMAT, "there is no %s", found_r ? "lora_alpha" : "r");
    a->r = (double)r;
    if (base.n_bytes > 0 && !(a->base = strndup((const char *)base.data, base.n_bytes)))
        return fs_fail_memory(err, base.n_bytes);
    a->saved = json_object_get(fs_json_member(json, "modules_to_save"));
    if (!is_nothing(a->saved) && !json_object_is_type(a->saved, json_type_array))
        return fs_fail(err, FS_ERR_FORMAT, "modules_to_save is no list of names");
    if (!isfinite(a->alpha) || fabs(a->alpha) > INT32_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "lora_alpha %g makes no scale", a->alpha);
    return FS_OK;
}

static fs_status parse_config(fs_adapter *a, fs_bytes text, fs_error *err)
{
    struct json_object *json = NULL;
    fs_status rc = fs_json_parse(text, "adapter_config.json", &json, err);

    if (!rc && (rc = fs_json_check_keys(text, json, "adapter_config.json", err)) == FS_OK && (rc = read_config(a, json, err)) != FS_OK)
        fs_fail_prefix(err, "adapter_config.json");
    json_object_put(json);
    return rc;
}

static fs_status open_config(fs_adapter *a, const char *folder, fs_error *err)
{
    char *path = fs_path_join(folder, "adapter_config.json");
    fs_buf text = { 0 };
    fs_status rc = path ? fs_file_read(path, CONFIG_BYTES_MAX, &text, err) : fs_fail_memory(err, strlen(folder) + 24);

    free(path);
    if (!rc)
        rc = parse_config(a, fs_buf_bytes(&text), err);
    fs_buf_done(&text);
    return rc;
}

static bool is_pair(const fs_tensor *t)
{
    return fs_ends_with(t->name, ".lora_A.weight") || fs_ends_with(t->name, ".lora_B.weight");
}

/* Every tensor is one of a pair or a whole one; what is of neither form is refused here. */
static fs_status check_tensors(const fs_adapter *a, fs_error *err)
{
    for (size_t i = 0; i < fs_safetensors_n_tensors(a->tensors); i++) {
        const fs_tensor *t = fs_safetensors_tensor_at(a->tensors, i);
        if (strncmp(t->name, PREFIX, strlen(PREFIX)) != 0 || (!is_pair(t) && (strstr(t->name, ".lora_") || strstr(t->name, ".base_layer."))))
            return fs_fail(err, FS_ERR_UNSUPPORTED, "adapter tensor '%s' is neither lora_A nor lora_B of a linear, nor a whole one", t->name);
        if (t->dtype != FS_DTYPE_F32 && t->dtype != FS_DTYPE_BF16 && t->dtype != FS_DTYPE_F16 && (is_pair(t) || t->dtype != FS_DTYPE_I64))
            return fs_fail(err, FS_ERR_UNSUPPORTED, "adapter tensor '%s' is %s; F32, BF16 and F16 are supported", t->name,
                           fs_dtype_get(t->dtype)->name);
    }
    return FS_OK;
}

/* Each of modules_to_save has a tensor: the end of a module's name, of which PEFT has replaced a part. */
static fs_status check_saved(const fs_adapter *a, fs_error *err)
{
    size_t n = json_object_is_type(a->saved, json_type_array) ? json_object_array_length(a->saved) : 0;

    for (size_t i = 0; i < n; i++) {
        struct json_object *v = json_object_array_get_idx(a->saved, i);
        const char *module = json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
        bool found = false;
        for (size_t k = 0; k < fs_safetensors_n_tensors(a->tensors) && !found && *module; k++) {
            const fs_tensor *t = fs_safetensors_tensor_at(a->tensors, k);
            const char *at = strstr(t->name, module);
            found = !is_pair(t) && at && at > t->name && at[strlen(module)] == '.';
        }
        if (!found)
            return fs_fail(err, FS_ERR_FORMAT, "modules_to_save names '%.80s', of which the adapter has no tensor", module);
    }
    return FS_OK;
}

static fs_status open_tensors(fs_adapter *a, fs_bytes file, fs_error *err)
{
    fs_status rc = fs_safetensors_open(file, "adapter_model.safetensors", &a->tensors, err);

    if (!rc)
        rc = check_tensors(a, err);
    if (!rc)
        rc = check_saved(a, err);
    if (!rc && !(a->used = calloc(fs_safetensors_n_tensors(a->tensors) + 1, sizeof *a->used)))
        rc = fs_fail_memory(err, fs_safetensors_n_tensors(a->tensors) + 1);
    return rc;
}

fs_status fs_adapter_open_memory(fs_bytes config, fs_bytes file, fs_adapter **ret, fs_error *err)
{
    fs_adapter *a = calloc(1, sizeof *a);
    fs_status rc = a ? parse_config(a, config, err) : fs_fail_memory(err, sizeof *a);

    if (!rc)
        rc = open_tensors(a, file, err);
    if (rc) {
        fs_adapter_close(a);
        return rc;
    }
    *ret = a;
    return FS_OK;
}

fs_status fs_adapter_open(const char *folder, fs_adapter **ret, fs_error *err)
{
    fs_adapter *a = calloc(1, sizeof *a);
    char *path = NULL;
    fs_status rc;

    if (!a)
        return fs_fail_memory(err, sizeof *a);
    rc = open_config(a, folder, err);
    if (!rc && !(path = fs_path_join(folder, "adapter_model.safetensors")))
        rc = fs_fail_memory(err, strlen(folder) + 32);
    if (!rc)
        rc = fs_map_open(&a->map, path, err);
    if (!rc)
        rc = open_tensors(a, a->map.bytes, err);
    free(path);
    if (rc) {
        fs_adapter_close(a);
        return rc;
    }
    *ret = a;
    return FS_OK;
}

void fs_adapter_close(fs_adapter *a)
{
    if (!a)
        return;
    fs_safetensors_close(a->tensors);
    fs_map_close(&a->map);
    json_object_put(a->saved);
    patterns_done(&a->ranks);
    patterns_done(&a->alphas);
    free(a->columns);
    free(a->used);
    free(a->base);
    free(a);
}

const char *fs_adapter_base(const fs_adapter *a)
{
    return a->base;
}

const char *fs_adapter_whole(const fs_adapter *a)
{
    for (size_t i = 0; i < fs_safetensors_n_tensors(a->tensors); i++)
        if (!is_pair(fs_safetensors_tensor_at(a->tensors, i)))
            return fs_safetensors_tensor_at(a->tensors, i)->name;
    return NULL;
}

/* ---- names ---- */

/* transformers' names of deepseek_v4's modules, where they are not the Hub's with "attn" as "self_attn" and "ffn" as "mlp". */
static const struct { const char *hub, *peft; } v4_modules[] = {
    { "attn_norm", "input_layernorm" },
    { "ffn_norm", "post_attention_layernorm" },
    { "attn.q_norm", "self_attn.q_a_norm" },
    { "attn.wq_a", "self_attn.q_a_proj" },
    { "attn.wq_b", "self_attn.q_b_proj" },
    { "attn.wkv", "self_attn.kv_proj" },
    { "attn.kv_norm", "self_attn.kv_norm" },
    { "attn.wo_a", "self_attn.o_a_proj" },
    { "attn.wo_b", "self_attn.o_b_proj" },
    { "attn.compressor.wkv", "self_attn.compressor.kv_proj" },
    { "attn.compressor.wgate", "self_attn.compressor.gate_proj" },
    { "attn.compressor.norm", "self_attn.compressor.kv_norm" },
    { "attn.indexer.wq_b", "self_attn.compressor.indexer.q_b_proj" },
    { "attn.indexer.weights_proj", "self_attn.compressor.indexer.scorer.weights_proj" },
    { "attn.indexer.compressor.wkv", "self_attn.compressor.indexer.kv_proj" },
    { "attn.indexer.compressor.wgate", "self_attn.compressor.indexer.gate_proj" },
    { "attn.indexer.compressor.norm", "self_attn.compressor.indexer.kv_norm" },
    { "ffn.gate", "mlp.gate" },
    { "ffn.shared_experts.w1", "mlp.shared_experts.gate_proj" },
    { "ffn.shared_experts.w2", "mlp.shared_experts.down_proj" },
    { "ffn.shared_experts.w3", "mlp.shared_experts.up_proj" },
};
static const struct { const char *hub, *peft; } v4_globals[] = {
    { "embed", "model.embed_tokens" },
    { "head", "lm_head" },
    { "norm", "model.norm" },
};

/* PEFT's name of a module that the Hub's files call hub. Of deepseek_v4, "layers.N.ffn.experts.E.w1" becomes
 * "model.layers.N.mlp.experts.E.gate_proj". */
static void peft_name(const char *hub, char *ret, size_t n)
{
    static const char *const projections[] = { "gate_proj", "down_proj", "up_proj" }; /* w1, w2, w3 */
    const char *rest;
    uint32_t layer, expert, w;
    int at = 0, end = 0;

    snprintf(ret, n, "%s", hub);
    for (size_t i = 0; i < sizeof v4_globals / sizeof *v4_globals; i++)
        if (strcmp(hub, v4_globals[i].hub) == 0)
            snprintf(ret, n, "%s", v4_globals[i].peft);
    if (sscanf(hub, "layers.%5" SCNu32 ".%n", &layer, &at) != 1 || at == 0)
        return;
    rest = hub + at;
    for (size_t i = 0; i < sizeof v4_modules / sizeof *v4_modules; i++)
        if (strcmp(rest, v4_modules[i].hub) == 0)
            snprintf(ret, n, "model.layers.%" PRIu32 ".%s", layer, v4_modules[i].peft);
    if (sscanf(rest, "ffn.experts.%5" SCNu32 ".w%1" SCNu32 "%n", &expert, &w, &end) == 2 && rest[end] == 0 && w >= 1 && w <= 3)
        snprintf(ret, n, "model.layers.%" PRIu32 ".mlp.experts.%" PRIu32 ".%s", layer, expert, projections[w - 1]);
}

static const fs_tensor *find(const fs_adapter *a, const char *module, const char *tail)
{
    char name[NAME_BYTES_MAX + 64];

    snprintf(name, sizeof name, PREFIX "%s%s", module, tail);
    return fs_safetensors_find(a->tensors, name);
}

static void mark(fs_adapter *a, const fs_tensor *t)
{
    a->used[t - fs_safetensors_tensor_at(a->tensors, 0)] = true;
}

/* ---- whole tensors ---- */
static fs_status replace_one(fs_adapter *a, fs_weights *w, const fs_tensor *old, const fs_tensor *new, fs_error *err)
{
    bool tied = fs_weights_config(w)->tie_word_embeddings;
    fs_tensor t = *new;
    uint64_t offset;
    size_t file;

    if (!fs_weights_locate(w, old->data, &file, &offset))
        return fs_fail(err, FS_ERR_UNSUPPORTED, "adapter tensor '%s' takes the place of one that another adapter has replaced", new->name);
    if (tied && (fs_ends_with(old->name, "embed_tokens.weight") || strcmp(old->name, "lm_head.weight") == 0))
        return fs_fail(err, FS_ERR_UNSUPPORTED, "adapter tensor '%s' is one of two that the model ties", new->name);
    if (new->n_dims != old->n_dims || memcmp(new->dims, old->dims, (size_t)old->n_dims * sizeof *old->dims) != 0)
        return fs_fail(err, FS_ERR_FORMAT, "adapter tensor '%s' is [%" PRIu64 ", %" PRIu64 "], the model's [%" PRIu64 ", %" PRIu64 "]",
                       new->name, new->n_dims > 0 ? new->dims[0] : 1, new->n_dims > 1 ? new->dims[1] : 1,
                       old->n_dims > 0 ? old->dims[0] : 1, old->n_dims > 1 ? old->dims[1] : 1);
    if (fs_dtype_get(new->dtype)->is_weight != fs_dtype_get(old->dtype)->is_weight && !old->scales)
        return fs_fail(err, FS_ERR_FORMAT, "adapter tensor '%s' is %s, the model's %s", new->name, fs_dtype_get(new->dtype)->name,
                       fs_dtype_get(old->dtype)->name);
    t.name = old->name;
    fs_weights_replace(w, &t);
    mark(a, new);
    return FS_OK;
}

fs_status fs_adapter_replace(fs_adapter *a, fs_weights *w, fs_error *err)
{
    char stem[NAME_BYTES_MAX], module[NAME_BYTES_MAX];
    fs_status rc = FS_OK;

    for (size_t i = 0; i < fs_weights_n_tensors(w) && !rc; i++) {
        const fs_tensor *old = fs_weights_tensor_at(w, i), *new;
        const char *dot = strrchr(old->name, '.');
        if (!dot || strlen(old->name) >= sizeof stem)
            continue;
        snprintf(stem, sizeof stem, "%.*s", (int)(dot - old->name), old->name);
        peft_name(stem, module, sizeof module);
        new = find(a, module, fs_ends_with(old->name, ".ffn.gate.bias") ? ".e_score_correction_bias" : dot);
        if (new)
            rc = replace_one(a, w, old, new, err);
    }
    for (size_t i = 0; i < fs_safetensors_n_tensors(a->tensors) && !rc; i++)
        if (!is_pair(fs_safetensors_tensor_at(a->tensors, i)) && !a->used[i])
            rc = fs_fail(err, FS_ERR_FORMAT, "adapter tensor '%s' is none of the model's", fs_safetensors_tensor_at(a->tensors, i)->name);
    return rc;
}

/* ---- pairs ---- */

/* r of the module, and the scale of its pair. */
static fs_status get_rank(const fs_adapter *a, const char *module, double *ret_r, float *ret_scale, fs_error *err)
{
    double alpha;
    fs_status rc = match(&a->ranks, module, a->r, ret_r, err);

    if (!rc)
        rc = match(&a->alphas, module, a->alpha, &alpha, err);
    if (!rc)
        *ret_scale = (float)(alpha / (a->rslora ? sqrt(*ret_r) : *ret_r));
    return rc;
}

static fs_status wrong_shape(const char *linear, const fs_tensor *ta, const fs_tensor *tb, uint64_t out, uint64_t in, double r, fs_error *err)
{
    return fs_fail(err, FS_ERR_FORMAT,
                   "the adapter's pair of '%s' is [%" PRIu64 ", %" PRIu64 "] and [%" PRIu64 ", %" PRIu64 "], the linear [%" PRIu64
                   ", %" PRIu64 "] with r %g", linear, ta->n_dims > 0 ? ta->dims[0] : 0, ta->n_dims > 1 ? ta->dims[1] : 0,
                   tb->n_dims > 0 ? tb->dims[0] : 0, tb->n_dims > 1 ? tb->dims[1] : 0, out, in, r);
}

/* B's columns i * n_experts + expert, rows from row on. */
static fs_status gather(fs_adapter *a, const fs_tensor *b, uint64_t row, uint64_t out, uint64_t r, uint64_t expert, fs_tensor *ret, fs_error *err)
{
    size_t width = fs_dtype_get(b->dtype)->block_bytes, n_bytes;
    uint64_t n_experts = b->dims[1] / r;
    uint8_t *to;

    if (!fs_mul_size((size_t)out, (size_t)r * width, &n_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "adapter tensor '%s' is too large", b->name);
    if (n_bytes > a->columns_bytes) {
        to = realloc(a->columns, n_bytes);
        if (!to)
            return fs_fail_memory(err, n_bytes);
        a->columns = to;
        a->columns_bytes = n_bytes;
    }
    to = a->columns;
    for (uint64_t o = 0; o < out; o++)
        for (uint64_t i = 0; i < r; i++, to += width)
            memcpy(to, b->data + ((row + o) * b->dims[1] + i * n_experts + expert) * width, width);
    *ret = *b;
    ret->dims[0] = out;
    ret->dims[1] = r;
    ret->data = a->columns;
    ret->n_bytes = n_bytes;
    return FS_OK;
}

/* The pair of an expert, of a parameter that holds all of them. Which of two parameters a pair belongs to shows in its
 * shape: no expert has both as many inputs as outputs and twice as many outputs as inputs. */
static fs_status get_expert(fs_adapter *a, const char *module, uint64_t out, uint64_t in, bool *ret_found, fs_adapter_pair *ret, fs_error *err)
{
    static const char *const levels[] = { "", ".base_layer" };
    const char *mark_at = strstr(module, ".experts."), *projection;
    char experts[NAME_BYTES_MAX], parameter[NAME_BYTES_MAX + 16], tail[40];
    uint32_t expert;
    uint64_t r, row;
    int end = 0;
    bool down, up;

    if (!mark_at || sscanf(mark_at, ".experts.%5" SCNu32 ".%n", &expert, &end) != 1 || end == 0)
        return FS_OK;
    projection = mark_at + end;
    down = strcmp(projection, "down_proj") == 0;
    up = strcmp(projection, "up_proj") == 0;
    row = up ? out : 0;
    snprintf(experts, sizeof experts, "%.*s", (int)(mark_at + strlen(".experts") - module), module);
    snprintf(parameter, sizeof parameter, "%s.%s", experts, down ? "down_proj" : "gate_up_proj");
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        const fs_tensor *ta, *tb;
        double want;
        fs_status rc;
        snprintf(tail, sizeof tail, "%s.lora_A.weight", levels[i]);
        ta = find(a, experts, tail);
        snprintf(tail, sizeof tail, "%s.lora_B.weight", levels[i]);
        tb = find(a, experts, tail);
        if (!ta || !tb || ta->n_dims != 2 || tb->n_dims != 2 || ta->dims[1] != in || tb->dims[0] != (down ? out : 2 * out))
            continue;
        rc = get_rank(a, parameter, &want, &ret->scale, err);
        if (rc)
            return rc;
        r = (uint64_t)want;
        if (ta->dims[0] != tb->dims[1] || (double)r != want || ta->dims[0] % r || expert >= ta->dims[0] / r)
            return wrong_shape(parameter, ta, tb, out, in, want, err);
        if (expert == ta->dims[0] / r - 1) { /* a model of fewer experts never asks for it */
            mark(a, ta);
            mark(a, tb);
        }
        ret->a = *ta;
        ret->a.dims[0] = r;
        ret->a.n_bytes = ta->n_bytes / (ta->dims[0] / r);
        ret->a.data += expert * ret->a.n_bytes;
        *ret_found = true;
        return gather(a, tb, row, out, r, expert, &ret->b, err);
    }
    return FS_OK;
}

fs_status fs_adapter_get(fs_adapter *a, const char *linear, uint64_t out, uint64_t in, bool *ret_found, fs_adapter_pair *ret,
                         fs_error *err)
{
    char module[NAME_BYTES_MAX];
    const fs_tensor *ta, *tb;
    double r;
    fs_status rc;

    *ret_found = false;
    peft_name(linear, module, sizeof module);
    ta = find(a, module, ".lora_A.weight");
    tb = find(a, module, ".lora_B.weight");
    if (!ta && !tb)
        return get_expert(a, module, out, in, ret_found, ret, err);
    if (!ta || !tb)
        return fs_fail(err, FS_ERR_FORMAT, "the adapter has lora_%c of '%s' but not lora_%c", ta ? 'A' : 'B', linear, ta ? 'B' : 'A');
    rc = get_rank(a, module, &r, &ret->scale, err);
    if (rc)
        return rc;
    if (ta->n_dims != 2 || tb->n_dims != 2 || ta->dims[1] != in || tb->dims[0] != out || ta->dims[0] != tb->dims[1] ||
        (double)ta->dims[0] != r)
        return wrong_shape(linear, ta, tb, out, in, r, err);
    mark(a, ta);
    mark(a, tb);
    ret->a = *ta;
    ret->b = *tb;
    *ret_found = true;
    return FS_OK;
}

void fs_adapter_pass_over(fs_adapter *a, const char *prefix)
{
    for (size_t i = 0; i < fs_safetensors_n_tensors(a->tensors); i++)
        if (strncmp(fs_safetensors_tensor_at(a->tensors, i)->name + strlen(PREFIX), prefix, strlen(prefix)) == 0)
            a->used[i] = true;
}

fs_status fs_adapter_check_used(const fs_adapter *a, fs_error *err)
{
    if (fs_safetensors_n_tensors(a->tensors) == 0)
        return fs_fail(err, FS_ERR_FORMAT, "the adapter has no tensors");
    for (size_t i = 0; i < fs_safetensors_n_tensors(a->tensors); i++)
        if (!a->used[i])
            return fs_fail(err, FS_ERR_FORMAT, "adapter tensor '%s' belongs to no linear of the model",
                           fs_safetensors_tensor_at(a->tensors, i)->name);
    return FS_OK;
}
