/* See the header. */
#include "train/recipe.h"

#include "base/file.h"
#include "base/options.h"
#include "base/yaml.h"
#include "crypto/sha256.h"
#include "train/trainer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define RECIPE_BYTES_MAX ((size_t)1 << 20)

enum kind { INTEGER, NUMBER, PATH, WORD };

struct field {
    const char *section, *key; /* section "": top level */
    enum kind kind;
    void *to; /* uint64_t, double, char *, const char ** by kind */
    double min, max;
};

struct reader {
    const char *path, *folder; /* folder: "" or "some/where/" */
    const struct field *fields;
    const char *section;
    fs_error *err;
};

static const char *candidate(const void *ud, size_t i)
{
    const struct reader *r = ud;
    const struct field *f = r->fields;

    for (;; f++) {
        if (!f->key)
            return NULL;
        if (strcmp(f->section, r->section) == 0 && i-- == 0)
            return f->key;
    }
}

static fs_status fail_unknown(struct reader *r, const char *section, const char *key)
{
    const char *near;

    r->section = section;
    near = fs_suggest(key, candidate, r);
    return fs_fail(r->err, FS_ERR_FORMAT, "%s: unknown key '%.60s%s%.60s'%s%s%s", r->path, section, *section ? "." : "", key, near ? ": did you mean '" : "",
                   near ? near : "", near ? "'?" : "");
}

static fs_status path_of(struct reader *r, const char *text, char **ret)
{
    free(*ret);
    if (*text == '/')
        *ret = strdup(text);
    else if ((*ret = malloc(strlen(r->folder) + strlen(text) + 1)) != NULL)
        strcat(strcpy(*ret, r->folder), text);
    return *ret ? FS_OK : fs_fail_memory(r->err, strlen(text));
}

static fs_status read_value(struct reader *r, const struct field *f, struct json_object *o)
{
    const char *dot = *f->section ? "." : "";
    int64_t v;
    double x;

    switch (f->kind) {
    case INTEGER:
        v = json_object_is_type(o, json_type_int) ? json_object_get_int64(o) : -1;
        if ((double)v < f->min || (double)v > f->max || !json_object_is_type(o, json_type_int))
            return fs_fail(r->err, FS_ERR_FORMAT, "%s: %s%s%s is no integer from %.0f to %.0f", r->path, f->section, dot, f->key, f->min, f->max);
        *(uint64_t *)f->to = (uint64_t)v;
        return FS_OK;
    case NUMBER:
        x = json_object_get_double(o);
        if (!(json_object_is_type(o, json_type_int) || json_object_is_type(o, json_type_double)) || !(x >= f->min && x <= f->max))
            return fs_fail(r->err, FS_ERR_FORMAT, "%s: %s%s%s is no number from %g to %g", r->path, f->section, dot, f->key, f->min, f->max);
        *(double *)f->to = x;
        return FS_OK;
    default:
        if (!json_object_is_type(o, json_type_string) || json_object_get_string_len(o) == 0)
            return fs_fail(r->err, FS_ERR_FORMAT, "%s: %s%s%s is no text", r->path, f->section, dot, f->key);
        if (f->kind == PATH)
            return path_of(r, json_object_get_string(o), f->to);
        *(const char **)f->to = json_object_get_string(o);
        return FS_OK;
    }
}

static fs_status read_files(struct reader *r, struct json_object *o, fs_recipe *recipe)
{
    size_t n = json_object_is_type(o, json_type_array) ? json_object_array_length(o) : 0;

    if (n == 0 || n > FS_RECIPE_FILES_MAX)
        return fs_fail(r->err, FS_ERR_FORMAT, "%s: data.files is no list of 1 to %d files", r->path, FS_RECIPE_FILES_MAX);
    for (size_t i = 0; i < n; i++) {
        struct field one = { "data", "files", PATH, &recipe->files[i], 0, 0 };
        fs_status rc = read_value(r, &one, json_object_array_get_idx(o, i));
        if (rc)
            return rc;
        recipe->n_files = (int)i + 1;
    }
    return FS_OK;
}

static fs_status read_section(struct reader *r, const char *section, struct json_object *object, fs_recipe *recipe)
{
    if (!json_object_is_type(object, json_type_object))
        return fs_fail(r->err, FS_ERR_FORMAT, "%s: '%s' is no mapping", r->path, section);
    json_object_object_foreach(object, key, value) {
        const struct field *f = r->fields;
        fs_status rc;
        while (f->key && (strcmp(f->section, section) != 0 || strcmp(f->key, key) != 0))
            f++;
        if (!f->key)
            return fail_unknown(r, section, key);
        if (f->to)
            rc = read_value(r, f, value);
        else if (*section)
            rc = read_files(r, value, recipe);
        else
            rc = read_section(r, key, value, recipe);
        if (rc)
            return rc;
    }
    return FS_OK;
}

/* Which of the words, which end with NULL; -1: none. */
static int word_in(const char *word, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(word, words[i]) == 0)
            return i;
    return -1;
}

static fs_status check(const fs_recipe *r, const char *path, bool sft, fs_error *err)
{
    if (!r->steps || !r->out || !r->n_files || !r->length || !r->rows)
        return fs_fail(err, FS_ERR_FORMAT, "%s: %s is missing", path,
                       !r->steps ? "steps" : !r->out ? "out" : !r->n_files ? "data.files" : !r->length ? "data.length" : "batch.rows");
    if (!r->config == !r->from)
        return fs_fail(err, FS_ERR_FORMAT, "%s: model needs one of config and from", path);
    if (sft && (!r->from || r->data != FS_RECIPE_SHARDS))
        return fs_fail(err, FS_ERR_FORMAT, "%s: stage sft needs model.from and data.kind shards", path);
    if (r->data == FS_RECIPE_SHARDS && r->n_files != 1)
        return fs_fail(err, FS_ERR_FORMAT, "%s: data.files are %d, of kind shards it is one folder", path, r->n_files);
    if (r->length % FS_TRAIN_ROW_MULTIPLE)
        return fs_fail(err, FS_ERR_FORMAT, "%s: data.length %" PRIu32 " is no multiple of %d", path, r->length, FS_TRAIN_ROW_MULTIPLE);
    if (r->schedule.lr <= 0)
        return fs_fail(err, FS_ERR_FORMAT, "%s: schedule.lr is missing", path);
    return FS_OK;
}

static fs_status read_all(fs_recipe *r, struct json_object *json, const char *path, const char *folder, fs_error *err)
{
    uint64_t length = 0, rows = 0, micro_rows = 0;
    static const char *const stages[] = { "pretrain", "sft", NULL }, *const kinds[] = { "text", "ids", "shards", NULL };
    static const char *const packs[] = { "cut", "whole", NULL };
    const char *stage = "", *kind = "text", *schedule = "wsd", *pack = "cut";
    const struct field fields[] = {
        { "", "stage", WORD, &stage, 0, 0 },
        { "", "seed", INTEGER, &r->seed, 0, 1e18 },
        { "", "steps", INTEGER, &r->steps, 1, 1e9 },
        { "", "out", PATH, &r->out, 0, 0 },
        { "", "checkpoint_every", INTEGER, &r->checkpoint_every, 0, 1e9 },
        { "", "model", WORD, NULL, 0, 0 },
        { "", "data", WORD, NULL, 0, 0 },
        { "", "batch", WORD, NULL, 0, 0 },
        { "", "optimizer", WORD, NULL, 0, 0 },
        { "", "schedule", WORD, NULL, 0, 0 },
        { "", "loss", WORD, NULL, 0, 0 },
        { "model", "config", PATH, &r->config, 0, 0 },
        { "model", "from", PATH, &r->from, 0, 0 },
        { "model", "init_std", NUMBER, &r->init_std, 0, 10 },
        { "data", "files", WORD, NULL, 0, 0 },
        { "data", "kind", WORD, &kind, 0, 0 },
        { "data", "pack", WORD, &pack, 0, 0 },
        { "data", "tokenizer", PATH, &r->tokenizer, 0, 0 },
        { "data", "length", INTEGER, &length, 256, 1 << 20 },
        { "batch", "rows", INTEGER, &rows, 1, 1 << 20 },
        { "batch", "micro_rows", INTEGER, &micro_rows, 1, 1 << 20 },
        { "optimizer", "beta1", NUMBER, &r->optimizer.beta1, 0, 0.999999 },
        { "optimizer", "beta2", NUMBER, &r->optimizer.beta2, 0, 0.999999 },
        { "optimizer", "eps", NUMBER, &r->optimizer.eps, 0, 1 },
        { "optimizer", "weight_decay", NUMBER, &r->optimizer.weight_decay, 0, 10 },
        { "optimizer", "clip", NUMBER, &r->optimizer.clip, 0, 1e9 },
        { "schedule", "kind", WORD, &schedule, 0, 0 },
        { "schedule", "lr", NUMBER, &r->schedule.lr, 0, 100 },
        { "schedule", "min_lr", NUMBER, &r->schedule.min_lr, 0, 100 },
        { "schedule", "warmup", INTEGER, &r->schedule.warmup, 0, 1e9 },
        { "schedule", "decay", INTEGER, &r->schedule.decay, 0, 1e9 },
        { "loss", "mtp_weight", NUMBER, &r->mtp_weight, 0, 100 },
        { "loss", "balance_weight", NUMBER, &r->balance_weight, 0, 100 },
        { "loss", "bias_rate", NUMBER, &r->bias_rate, 0, 1 },
        { "", NULL, WORD, NULL, 0, 0 },
    };
    struct reader reader = { path, folder, fields, "", err };
    fs_status rc = read_section(&reader, "", json, r);

    if (rc)
        return rc;
    if (!fs_schedule_kind_named(schedule, &r->schedule.kind))
        return fs_fail(err, FS_ERR_FORMAT, "%s: schedule.kind '%.60s' is none of constant, linear, cosine, wsd", path, schedule);
    if (word_in(stage, stages) < 0)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "%s: stage '%.60s' is not known; there are pretrain and sft", path, stage);
    if (word_in(kind, kinds) < 0)
        return fs_fail(err, FS_ERR_FORMAT, "%s: data.kind '%.60s' is none of text, ids, shards", path, kind);
    if (word_in(pack, packs) < 0)
        return fs_fail(err, FS_ERR_FORMAT, "%s: data.pack '%.60s' is none of cut, whole", path, pack);
    r->data = (enum fs_recipe_data)word_in(kind, kinds);
    r->whole = word_in(pack, packs) == 1;
    r->schedule.steps = r->steps;
    r->length = (uint32_t)length;
    r->rows = (uint32_t)rows;
    r->micro_rows = (uint32_t)(micro_rows && micro_rows < rows ? micro_rows : rows);
    return check(r, path, strcmp(stage, "sft") == 0, err);
}

static fs_status hash(fs_recipe *r, fs_bytes text, fs_error *err)
{
    fs_sha256 h;
    fs_status rc = fs_sha256_init(&h, err);

    if (rc)
        return rc;
    fs_sha256_update(&h, text.data, text.n_bytes);
    fs_sha256_final_hex(&h, r->sha256);
    return FS_OK;
}

fs_status fs_recipe_parse(fs_recipe *ret, fs_bytes text, const char *path, fs_error *err)
{
    const char *slash = strrchr(path, '/');
    char *folder = strndup(path, slash ? (size_t)(slash - path) + 1 : 0);
    struct json_object *json = NULL;
    fs_status rc;

    *ret = (fs_recipe){ .optimizer = fs_optimizer_default(), .init_std = 0.006 };
    if (!folder)
        return fs_fail_memory(err, strlen(path));
    rc = fs_yaml_parse(text, path, &json, err);
    if (!rc)
        rc = hash(ret, text, err);
    if (!rc)
        rc = read_all(ret, json, path, folder, err);
    json_object_put(json);
    free(folder);
    return rc;
}

fs_status fs_recipe_read(fs_recipe *ret, const char *path, fs_error *err)
{
    fs_buf text = { 0 };
    fs_status rc = fs_file_read(path, RECIPE_BYTES_MAX, &text, err);

    *ret = (fs_recipe){ 0 };
    if (!rc)
        rc = fs_recipe_parse(ret, fs_buf_bytes(&text), path, err);
    fs_buf_done(&text);
    return rc;
}

void fs_recipe_done(fs_recipe *r)
{
    for (int i = 0; i < FS_RECIPE_FILES_MAX; i++)
        free(r->files[i]);
    free(r->out);
    free(r->config);
    free(r->from);
    free(r->tokenizer);
    *r = (fs_recipe){ 0 };
}
