/* Reads the configuration strictly, since a key passed over could change what the model computes; the tensors are
 * views into the map. */
#include "formats/adapter.h"

#include "base/file.h"
#include "base/json.h"
#include "formats/safetensors.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_BYTES_MAX ((size_t)16 << 20)
#define PREFIX           "base_model.model."

struct fs_adapter {
    fs_map map;
    fs_safetensors *tensors;
    bool *used; /* of tensor i */
    double r;
    bool rslora;
    float scale;
};

/* What keys may hold is null, false, "none", or nothing; what they would change is in PEFT's LoraConfig. */
static const char *const refused_keys[] = {
    "use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "bias", "lora_bias", "layer_replication",
    "target_parameters", "trainable_token_indices", "alora_invocation_tokens", "megatron_config", "use_qalora", "use_bdlora",
    "arrow_config", "velora_config", "monteclora_config", "kasa_config", "loftq_config", "corda_config", "lora_ga_config",
};

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

static fs_status read_config(fs_adapter *a, struct json_object *json, fs_error *err)
{
    fs_bytes type = { 0 };
    int64_t r = 0;
    bool found_r, found_alpha;
    double alpha = 0;
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
    if (!rc)
        rc = fs_json_int(json, "r", 1, INT32_MAX, &r, &found_r, err);
    if (!rc)
        rc = fs_json_double(json, "lora_alpha", &alpha, &found_alpha, err);
    if (!rc)
        rc = fs_json_bool(json, "use_rslora", &a->rslora, NULL, err);
    if (rc)
        return rc;
    if (!found_r || !found_alpha)
        return fs_fail(err, FS_ERR_FORMAT, "there is no %s", found_r ? "lora_alpha" : "r");
    a->r = (double)r;
    a->scale = (float)(alpha / (a->rslora ? sqrt(a->r) : a->r));
    if (!isfinite(a->scale))
        return fs_fail(err, FS_ERR_FORMAT, "lora_alpha %g over r %g is no scale", alpha, a->r);
    return FS_OK;
}

static fs_status open_config(fs_adapter *a, const char *folder, fs_error *err)
{
    char *path = fs_path_join(folder, "adapter_config.json");
    struct json_object *json = NULL;
    fs_buf text = { 0 };
    fs_status rc = path ? fs_file_read(path, CONFIG_BYTES_MAX, &text, err) : fs_fail_memory(err, strlen(folder) + 24);

    free(path);
    if (!rc) {
        rc = fs_json_parse(fs_buf_bytes(&text), "adapter_config.json", &json, err);
        if (!rc && (rc = fs_json_check_keys(fs_buf_bytes(&text), json, "adapter_config.json", err)) == FS_OK &&
            (rc = read_config(a, json, err)) != FS_OK)
            fs_fail_prefix(err, "adapter_config.json");
    }
    json_object_put(json);
    fs_buf_done(&text);
    return rc;
}

/* Every tensor is one of a pair; what is neither A nor B of a linear is refused here. */
static fs_status check_tensors(const fs_adapter *a, fs_error *err)
{
    for (size_t i = 0; i < fs_safetensors_n_tensors(a->tensors); i++) {
        const fs_tensor *t = fs_safetensors_tensor_at(a->tensors, i);
        size_t n = strlen(t->name), suffix = strlen(".lora_A.weight");
        bool is_pair = n > suffix + strlen(PREFIX) && strncmp(t->name, PREFIX, strlen(PREFIX)) == 0 &&
                       (strcmp(t->name + n - suffix, ".lora_A.weight") == 0 || strcmp(t->name + n - suffix, ".lora_B.weight") == 0);
        if (!is_pair)
            return fs_fail(err, FS_ERR_UNSUPPORTED, "adapter tensor '%s' is neither lora_A nor lora_B of a linear", t->name);
        if (t->dtype != FS_DTYPE_F32 && t->dtype != FS_DTYPE_BF16 && t->dtype != FS_DTYPE_F16)
            return fs_fail(err, FS_ERR_UNSUPPORTED, "adapter tensor '%s' is %s; F32, BF16 and F16 are supported", t->name,
                           fs_dtype_get(t->dtype)->name);
    }
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
        rc = fs_safetensors_open(a->map.bytes, "adapter_model.safetensors", &a->tensors, err);
    if (!rc)
        rc = check_tensors(a, err);
    if (!rc && !(a->used = calloc(fs_safetensors_n_tensors(a->tensors) + 1, sizeof *a->used)))
        rc = fs_fail_memory(err, fs_safetensors_n_tensors(a->tensors) + 1);
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
    free(a->used);
    free(a);
}

static const fs_tensor *find(fs_adapter *a, const char *linear, char which)
{
    char name[256];
    const fs_tensor *t;

    snprintf(name, sizeof name, PREFIX "%s.lora_%c.weight", linear, which);
    t = fs_safetensors_find(a->tensors, name);
    if (t)
        a->used[t - fs_safetensors_tensor_at(a->tensors, 0)] = true;
    return t;
}

fs_status fs_adapter_get(fs_adapter *a, const char *linear, uint64_t out, uint64_t in, const fs_tensor **ret_a,
                         const fs_tensor **ret_b, fs_error *err)
{
    const fs_tensor *ta = find(a, linear, 'A'), *tb = find(a, linear, 'B');

    if (!ta && !tb) {
        *ret_a = *ret_b = NULL;
        return FS_OK;
    }
    if (!ta || !tb)
        return fs_fail(err, FS_ERR_FORMAT, "the adapter has lora_%c of '%s' but not lora_%c", ta ? 'A' : 'B', linear, ta ? 'B' : 'A');
    if (ta->n_dims != 2 || tb->n_dims != 2 || ta->dims[1] != in || tb->dims[0] != out || ta->dims[0] != tb->dims[1] ||
        (double)ta->dims[0] != a->r)
        return fs_fail(err, FS_ERR_FORMAT,
                       "the adapter's pair of '%s' is [%" PRIu64 ", %" PRIu64 "] and [%" PRIu64 ", %" PRIu64 "], the linear [%" PRIu64
                       ", %" PRIu64 "] with r %g", linear, ta->n_dims > 0 ? ta->dims[0] : 0, ta->n_dims > 1 ? ta->dims[1] : 0,
                       tb->n_dims > 0 ? tb->dims[0] : 0, tb->n_dims > 1 ? tb->dims[1] : 0, out, in, a->r);
    *ret_a = ta;
    *ret_b = tb;
    return FS_OK;
}

float fs_adapter_scale(const fs_adapter *a)
{
    return a->scale;
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
