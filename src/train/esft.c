/* See the header. */
#include "train/esft.h"

#include "base/file.h"
#include "base/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_NAME      "experts.json"
#define FILE_BYTES_MAX ((size_t)64 << 20)

uint32_t fs_esft_choose(const double *scores, uint32_t n_experts, double p, bool *ret_taken)
{
    double sum = 0;
    uint32_t n = 0;

    memset(ret_taken, 0, n_experts * sizeof *ret_taken);
    while (n < n_experts && sum < p) {
        uint32_t best = n_experts;
        for (uint32_t e = 0; e < n_experts; e++)
            if (!ret_taken[e] && (best == n_experts || scores[e] > scores[best]))
                best = e;
        ret_taken[best] = true;
        sum += scores[best];
        n++;
    }
    return n;
}

fs_status fs_esft_begin(fs_params *p, const fs_config *c, fs_error *err)
{
    for (size_t i = 0; i < p->n; i++) {
        uint32_t layer;
        if (sscanf(p->items[i].name, "model.layers.%" SCNu32 ".", &layer) != 1 || layer >= c->num_hidden_layers ||
            !strstr(p->items[i].name, ".mlp.experts."))
            fs_param_freeze(p, &p->items[i]);
    }
    return p->n_trained ? FS_OK : fs_fail(err, FS_ERR_ARGUMENT, "the model has no routed experts to train");
}

static fs_status freeze_expert(fs_params *p, uint32_t layer, uint32_t expert, fs_error *err)
{
    char glob[64];

    snprintf(glob, sizeof glob, "model.layers.%" PRIu32 ".mlp.experts.%" PRIu32 ".*", layer, expert);
    return fs_params_freeze(p, glob, err);
}

/* The layer's scores; false: it has no experts. */
static bool score(const fs_esft *o, const fs_trainer *t, const fs_config *c, uint32_t layer, double *ret, uint64_t *ret_tokens)
{
    const uint64_t *load = fs_trainer_expert_load(t, layer);
    const double *gates = fs_trainer_expert_gates(t, layer);
    uint64_t choices = 0;

    if (!load)
        return false;
    for (uint32_t e = 0; e < c->n_routed_experts; e++)
        choices += load[e];
    *ret_tokens = choices / c->num_experts_per_tok;
    for (uint32_t e = 0; e < c->n_routed_experts; e++)
        ret[e] = choices == 0 ? 0 : o->gate ? gates[e] / (double)*ret_tokens : (double)load[e] / (double)choices;
    return true;
}

static fs_status put_layer(fs_buf *text, uint32_t layer, const double *scores, const bool *taken, uint32_t n, bool first, fs_error *err)
{
    const char *comma = "";
    fs_status rc = fs_buf_printf(text, err, "%s\n\"%" PRIu32 "\":{\"experts\":[", first ? "" : ",", layer);

    for (uint32_t e = 0; e < n && !rc; e++)
        if (taken[e]) {
            rc = fs_buf_printf(text, err, "%s%" PRIu32, comma, e);
            comma = ",";
        }
    for (uint32_t e = 0; e < n && !rc; e++)
        rc = fs_buf_printf(text, err, "%s%.6g", e ? "," : "],\"scores\":[", scores[e]);
    return rc ? rc : fs_buf_append_str(text, "]}", err);
}

static fs_status take_layers(const fs_esft *o, fs_trainer *t, const fs_config *c, double *scores, bool *taken, fs_buf *text, fs_error *err)
{
    fs_buf layers = { 0 };
    uint64_t tokens = 0;
    fs_status rc = FS_OK;

    for (uint32_t i = 0; i < c->num_hidden_layers && !rc; i++) {
        if (!score(o, t, c, i, scores, &tokens))
            continue;
        fs_esft_choose(scores, c->n_routed_experts, o->p, taken);
        for (uint32_t e = 0; e < c->n_routed_experts && !rc; e++)
            if (!taken[e])
                rc = freeze_expert(fs_trainer_params(t), i, e, err);
        if (!rc)
            rc = put_layer(&layers, i, scores, taken, c->n_routed_experts, layers.n_bytes == 0, err);
    }
    if (!rc)
        rc = fs_buf_printf(text, err, "{\"score\":\"%s\",\"p\":%.17g,\"tokens\":%" PRIu64 ",\"layers\":{%.*s\n}}\n", o->gate ? "gate" : "token", o->p, tokens,
                           (int)layers.n_bytes, layers.data ? (const char *)layers.data : "");
    fs_buf_done(&layers);
    return rc;
}

fs_status fs_esft_take(const fs_esft *o, fs_trainer *t, const fs_config *c, const char *out, fs_error *err)
{
    double *scores = malloc(c->n_routed_experts * sizeof *scores);
    bool *taken = malloc(c->n_routed_experts * sizeof *taken);
    char *path = fs_path_join(out, FILE_NAME);
    fs_buf text = { 0 };
    fs_status rc = scores && taken && path ? take_layers(o, t, c, scores, taken, &text, err) : fs_fail_memory(err, c->n_routed_experts * sizeof *scores);

    if (!rc)
        rc = fs_file_write_atomic(path, fs_buf_bytes(&text), err);
    fs_buf_done(&text);
    free(path);
    free(scores);
    free(taken);
    return rc;
}

static bool names(struct json_object *list, uint32_t expert)
{
    for (size_t i = 0; i < json_object_array_length(list); i++)
        if (json_object_get_int64(json_object_array_get_idx(list, i)) == expert)
            return true;
    return false;
}

fs_status fs_esft_resume(fs_params *p, const fs_config *c, const char *out, fs_error *err)
{
    char *path = fs_path_join(out, FILE_NAME), key[16];
    struct json_object *json = NULL, *layers;
    fs_buf text = { 0 };
    fs_status rc = path ? fs_file_read(path, FILE_BYTES_MAX, &text, err) : fs_fail_memory(err, strlen(out));

    if (!rc)
        rc = fs_json_parse(fs_buf_bytes(&text), path, &json, err);
    layers = rc ? NULL : fs_json_member(json, "layers");
    if (!rc && !json_object_is_type(layers, json_type_object))
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' has no layers", path);
    for (uint32_t i = 0; i < c->num_hidden_layers && !rc; i++) {
        struct json_object *layer, *list;
        snprintf(key, sizeof key, "%" PRIu32, i);
        layer = fs_json_member(layers, key);
        list = json_object_is_type(layer, json_type_object) ? fs_json_member(layer, "experts") : NULL;
        if (layer && !json_object_is_type(list, json_type_array))
            rc = fs_fail(err, FS_ERR_FORMAT, "'%s' has no experts of layer %s", path, key);
        for (uint32_t e = 0; layer && e < c->n_routed_experts && !rc; e++)
            if (!names(list, e))
                rc = freeze_expert(p, i, e, err);
    }
    json_object_put(json);
    fs_buf_done(&text);
    free(path);
    return rc;
}
