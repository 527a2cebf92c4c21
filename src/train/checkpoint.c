/* See the header. */
#include "train/checkpoint.h"

#include "base/file.h"
#include "base/json.h"
#include "formats/config_write.h"
#include "formats/safetensors.h"
#include "formats/safetensors_write.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART            ".part"
#define ADAPTER_FILE    "adapter_model.safetensors"
#define NAME_MAX_BYTES  224
#define STATE_BYTES_MAX ((size_t)1 << 16)
#define OTHER_BYTES_MAX ((size_t)256 << 20)

static const char *const beside[] = { "tokenizer.json", "tokenizer_config.json", "generation_config.json" };

/* ---- folders ---- */
static fs_status make_folder(const char *path, fs_error *err)
{
    return mkdir(path, 0777) == 0 || errno == EEXIST ? FS_OK : fs_fail_errno(err, errno, "cannot make folder '%s'", path);
}

static fs_status sync_folder(const char *path, fs_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    int saved = errno;

    if (fd >= 0)
        close(fd);
    return ok ? FS_OK : fs_fail_errno(err, saved, "cannot sync folder '%s'", path);
}

/* What a killed run left behind. */
static void remove_part(const char *path)
{
    static const char *const inside[] = { "optimizer", "average" };

    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
        char *inner = fs_path_join(path, inside[i]);
        if (inner)
            fs_folder_remove(inner);
        free(inner);
    }
    fs_folder_remove(path);
}

/* ---- writing ---- */
struct set {
    const char *suffix; /* of the name */
    size_t offset;      /* of the member of fs_param */
};

static const struct set weights_set[] = { { "", offsetof(fs_param, w) }, { NULL, 0 } };
static const struct set averages_set[] = { { "", offsetof(fs_param, e) }, { NULL, 0 } };
static const struct set moments_sets[] = { { ".m", offsetof(fs_param, m) }, { ".v", offsetof(fs_param, v) }, { NULL, 0 } };

static float *data_of(const fs_param *p, const struct set *s)
{
    float *data;

    memcpy(&data, (const char *)p + s->offset, sizeof data);
    return data ? data : p->w; /* what has no average is as it is */
}

/* What a model or an adapter has under its own name; what is trained has moments. */
static bool is_in(const fs_params *all, const fs_param *p, const struct set *s)
{
    float *data;

    memcpy(&data, (const char *)p + s->offset, sizeof data);
    return *s->suffix ? data != NULL : !all->adapter_of || p->is_pair || !p->fixed;
}

static void name_in(const fs_params *all, const fs_param *p, const struct set *s, char ret[NAME_MAX_BYTES])
{
    snprintf(ret, NAME_MAX_BYTES, "%s%s%s", all->adapter_of && !p->is_pair && !*s->suffix ? FS_PAIR_PREFIX : "", p->name, s->suffix);
}

static fs_status write_sets(const char *folder, const fs_params *p, const struct set *sets, fs_error *err)
{
    fs_safetensors_writer *w = NULL;
    const float **data = calloc(2 * p->n, sizeof *data);
    size_t *n = calloc(2 * p->n, sizeof *n), count = 0, next;
    fs_status rc = data && n ? fs_safetensors_writer_new(folder, 0, &w, err) : fs_fail_memory(err, 2 * p->n * sizeof *data);

    for (size_t i = 0; i < p->n && !rc; i++)
        for (const struct set *s = sets; s->suffix && !rc; s++) {
            const fs_param *item = &p->items[i];
            uint64_t dims[2] = { item->n_dims == 2 ? item->rows : item->cols, item->cols };
            char name[NAME_MAX_BYTES];
            if (!is_in(p, item, s))
                continue;
            name_in(p, item, s, name);
            rc = fs_safetensors_writer_add(w, name, FS_DTYPE_F32, item->n_dims, dims, err);
            data[count] = data_of(item, s);
            n[count++] = item->n;
        }
    if (!rc)
        rc = fs_safetensors_writer_begin(w, err);
    while (!rc && (next = fs_safetensors_writer_next(w)) < count)
        rc = fs_safetensors_writer_write(w, data[next], n[next] * sizeof **data, err);
    if (!rc)
        rc = fs_safetensors_writer_commit(w, err);
    fs_safetensors_writer_close(w);
    free(data);
    free(n);
    return rc;
}

static fs_status write_text(const char *folder, const char *name, const fs_buf *text, fs_error *err)
{
    char *path = fs_path_join(folder, name);
    fs_status rc = path ? fs_file_write_atomic(path, fs_buf_bytes(text), err) : fs_fail_memory(err, strlen(name));

    free(path);
    return rc;
}

static fs_status copy_file(const char *from, const char *to, const char *name, fs_error *err)
{
    char *path = fs_path_join(from, name);
    fs_buf text = { 0 };
    fs_status rc = FS_OK;

    if (!path)
        return fs_fail_memory(err, strlen(name));
    if (fs_file_exists(path)) {
        rc = fs_file_read(path, OTHER_BYTES_MAX, &text, err);
        if (!rc)
            rc = write_text(to, name, &text, err);
    }
    fs_buf_done(&text);
    free(path);
    return rc;
}

#define ROUTER_A ".mlp.gate.lora_A.weight"

/* PEFT takes names and ends of names; what it would not take is given by the names of the linears. A router is no linear of
 * transformers', but a module with a weight: a target parameter. */
static void list_targets(const fs_params *p, struct json_object *ret, struct json_object *ret_parameters)
{
    const fs_low_rank_options *o = p->low_rank;
    bool plain = o != NULL;

    for (int i = 0; o && i < o->n_targets; i++)
        plain = plain && !strpbrk(o->targets[i], "*?[") && strcmp(o->targets[i], "all-linear") != 0;
    for (size_t i = 0; i < p->n; i++)
        plain = plain && !(p->items[i].is_pair && fs_ends_with(p->items[i].name, ROUTER_A));
    for (int i = 0; plain && i < o->n_targets; i++)
        json_object_array_add(ret, json_object_new_string(o->targets[i]));
    for (size_t i = 0; !plain && i < p->n; i++) {
        char name[256];
        int n = (int)(strlen(p->items[i].name) - strlen(FS_PAIR_PREFIX) - strlen(".lora_A.weight"));
        if (!p->items[i].is_pair || !fs_ends_with(p->items[i].name, ".lora_A.weight"))
            continue;
        snprintf(name, sizeof name, "%.*s%s", n, p->items[i].name + strlen(FS_PAIR_PREFIX), fs_ends_with(p->items[i].name, ROUTER_A) ? ".weight" : "");
        json_object_array_add(fs_ends_with(name, ".weight") ? ret_parameters : ret, json_object_new_string(name));
    }
}

/* Modules whose tensors are trained whole. */
static void list_saved(const fs_params *p, struct json_object *ret)
{
    for (size_t i = 0; i < p->n; i++) {
        const char *name = p->items[i].name, *dot = strrchr(name, '.');
        if (!p->items[i].fixed && !p->items[i].is_pair && (i == 0 || strncmp(p->items[i - 1].name, name, (size_t)(dot - name) + 1) != 0))
            json_object_array_add(ret, json_object_new_string_len(name, (int)(dot - name)));
    }
}

/* The configuration of the adapter as PEFT reads it. */
static fs_status write_adapter_config(const char *folder, const fs_params *p, fs_error *err)
{
    const fs_low_rank_options *o = p->low_rank;
    struct json_object *json = json_object_new_object(), *targets = json_object_new_array(), *saved = json_object_new_array(),
                       *parameters = json_object_new_array();
    double alpha = o ? o->alpha : 1;
    const char *written;
    fs_buf text = { 0 };
    fs_status rc;

    json_object_object_add(json, "base_model_name_or_path", json_object_new_string(p->adapter_of));
    json_object_object_add(json, "bias", json_object_new_string("none"));
    json_object_object_add(json, "fan_in_fan_out", json_object_new_boolean(false));
    json_object_object_add(json, "inference_mode", json_object_new_boolean(true));
    json_object_object_add(json, "init_lora_weights", json_object_new_boolean(true));
    json_object_object_add(json, "lora_alpha", alpha == floor(alpha) ? json_object_new_int64((int64_t)alpha) : json_object_new_double(alpha));
    json_object_object_add(json, "lora_dropout", json_object_new_double(0));
    json_object_object_add(json, "modules_to_save", saved);
    json_object_object_add(json, "peft_type", json_object_new_string("LORA"));
    json_object_object_add(json, "r", json_object_new_int64(o ? o->r : 1));
    json_object_object_add(json, "target_modules", targets);
    json_object_object_add(json, "task_type", json_object_new_string("CAUSAL_LM"));
    json_object_object_add(json, "use_dora", json_object_new_boolean(false));
    json_object_object_add(json, "use_rslora", json_object_new_boolean(o && o->rslora));
    list_targets(p, targets, parameters);
    if (json_object_array_length(parameters) > 0)
        json_object_object_add(json, "target_parameters", json_object_get(parameters));
    json_object_put(parameters);
    list_saved(p, saved);
    written = json_object_to_json_string_ext(json, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
    rc = written ? fs_buf_printf(&text, err, "%s\n", written) : fs_fail_memory(err, 1024);
    if (!rc)
        rc = write_text(folder, "adapter_config.json", &text, err);
    json_object_put(json);
    fs_buf_done(&text);
    return rc;
}

static fs_status write_adapter(const char *folder, const fs_params *p, const struct set *set, fs_error *err)
{
    char *from = fs_path_join(folder, "model.safetensors"), *to = fs_path_join(folder, ADAPTER_FILE);
    fs_status rc = from && to ? write_adapter_config(folder, p, err) : fs_fail_memory(err, strlen(folder));

    if (!rc)
        rc = write_sets(folder, p, set, err);
    if (!rc && rename(from, to) != 0)
        rc = fs_fail_errno(err, errno, "cannot rename to '%s'", to);
    free(from);
    free(to);
    return rc;
}

/* A model of the weights in set. */
static fs_status write_model(const char *folder, const fs_config *c, const fs_params *p, const struct set *set, const char *precision,
                             const char *tokenizer_from, fs_error *err)
{
    const fs_config_storage storage = { .torch_dtype = "float32", .precision = strcmp(precision, "f32") == 0 ? NULL : precision };
    fs_buf text = { 0 };
    fs_status rc;

    if (p->adapter_of)
        return write_adapter(folder, p, set, err);
    rc = fs_config_to_json(c, &storage, &text, err);
    if (!rc)
        rc = write_text(folder, "config.json", &text, err);
    for (size_t i = 0; tokenizer_from && i < sizeof beside / sizeof *beside && !rc; i++)
        rc = copy_file(tokenizer_from, folder, beside[i], err);
    if (!rc)
        rc = write_sets(folder, p, set, err);
    fs_buf_done(&text);
    return rc;
}

static fs_status write_averages(const char *folder, const fs_config *c, const fs_params *p, const char *precision, const char *tokenizer_from, fs_error *err)
{
    char *inner = fs_path_join(folder, "average");
    fs_status rc = inner ? make_folder(inner, err) : fs_fail_memory(err, strlen(folder));

    if (!rc)
        rc = write_model(inner, c, p, averages_set, precision, tokenizer_from, err);
    if (!rc)
        rc = sync_folder(inner, err);
    free(inner);
    return rc;
}

static fs_status write_parts(const char *folder, const fs_config *c, const fs_params *p, const fs_optimizer *o, const char *recipe_sha256,
                             const char *precision, const char *tokenizer_from, fs_checkpoint_beside *beside_it, void *ud, fs_error *err)
{
    char *inner = fs_path_join(folder, "optimizer");
    fs_buf text = { 0 };
    fs_status rc = inner ? make_folder(inner, err) : fs_fail_memory(err, strlen(folder));

    if (!rc)
        rc = write_model(folder, c, p, weights_set, precision, tokenizer_from, err);
    if (!rc)
        rc = write_sets(inner, p, moments_sets, err);
    if (!rc && p->e)
        rc = write_averages(folder, c, p, precision, tokenizer_from, err);
    if (!rc)
        rc = fs_buf_printf(&text, err, "{\"step\":%" PRIu64 ",\"beta1_t\":\"%a\",\"beta2_t\":\"%a\",\"recipe_sha256\":\"%s\",\"precision\":\"%s\"}\n", o->step, o->beta1_t,
                           o->beta2_t, recipe_sha256, precision);
    if (!rc)
        rc = write_text(folder, "training.json", &text, err);
    if (!rc && beside_it)
        rc = beside_it(ud, folder, err);
    if (!rc)
        rc = sync_folder(inner, err);
    if (!rc)
        rc = sync_folder(folder, err);
    fs_buf_done(&text);
    free(inner);
    return rc;
}

fs_status fs_checkpoint_write(const char *out, const fs_config *c, const fs_params *p, const fs_optimizer *o, const char *recipe_sha256,
                              const char *precision, const char *tokenizer_from, fs_checkpoint_beside *beside_it, void *ud, fs_error *err)
{
    char name[48], part_name[56], *path, *part;
    fs_status rc = FS_OK;

    snprintf(name, sizeof name, "step-%08" PRIu64, o->step);
    snprintf(part_name, sizeof part_name, "%s" PART, name);
    path = fs_path_join(out, name);
    part = fs_path_join(out, part_name);
    if (!path || !part)
        rc = fs_fail_memory(err, strlen(out));
    if (!rc) {
        remove_part(part);
        rc = make_folder(part, err);
    }
    if (!rc)
        rc = write_parts(part, c, p, o, recipe_sha256, precision, tokenizer_from, beside_it, ud, err);
    if (!rc && rename(part, path) != 0)
        rc = fs_fail_errno(err, errno, "cannot rename to '%s'", path);
    if (!rc)
        rc = sync_folder(out, err);
    free(path);
    free(part);
    return rc;
}

/* ---- reading ---- */
fs_status fs_checkpoint_newest(const char *out, uint64_t *ret_step, char **ret_folder, fs_error *err)
{
    DIR *d = opendir(out);
    struct dirent *e;
    bool found = false;
    char name[48];

    *ret_folder = NULL;
    if (!d)
        return errno == ENOENT ? FS_OK : fs_fail_errno(err, errno, "cannot read folder '%s'", out);
    while ((e = readdir(d)) != NULL) {
        size_t n = strspn(e->d_name + (strncmp(e->d_name, "step-", 5) == 0 ? 5 : 0), "0123456789");
        uint64_t step;
        if (strncmp(e->d_name, "step-", 5) != 0 || n < 8 || n > 18 || e->d_name[5 + n])
            continue;
        step = strtoull(e->d_name + 5, NULL, 10);
        if (!found || step > *ret_step)
            *ret_step = step;
        found = true;
    }
    closedir(d);
    if (!found)
        return FS_OK;
    snprintf(name, sizeof name, "step-%08" PRIu64, *ret_step);
    *ret_folder = fs_path_join(out, name);
    return *ret_folder ? FS_OK : fs_fail_memory(err, strlen(out));
}

static fs_status read_sets(const char *folder, fs_params *p, const struct set *sets, fs_error *err)
{
    char *path = fs_path_join(folder, p->adapter_of && !*sets->suffix ? ADAPTER_FILE : "model.safetensors");
    fs_map map = { 0 };
    fs_safetensors *s = NULL;
    fs_status rc = path ? fs_map_open(&map, path, err) : fs_fail_memory(err, strlen(folder));

    if (!rc)
        rc = fs_safetensors_open(map.bytes, path, &s, err);
    for (size_t i = 0; i < p->n && !rc; i++)
        for (const struct set *set = sets; set->suffix && !rc; set++) {
            const fs_param *item = &p->items[i];
            const fs_tensor *t;
            char name[NAME_MAX_BYTES];
            if (!is_in(p, item, set))
                continue;
            name_in(p, item, set, name);
            t = fs_safetensors_find(s, name);
            if (!t || t->dtype != FS_DTYPE_F32 || t->n_bytes != item->n * sizeof(float))
                rc = fs_fail(err, FS_ERR_FORMAT, "'%s' has no tensor '%s' of %zu f32", path, name, item->n);
            else
                memcpy(data_of(item, set), t->data, t->n_bytes);
        }
    fs_safetensors_close(s);
    fs_map_close(&map);
    free(path);
    return rc;
}

static fs_status read_power(struct json_object *json, const char *key, double *ret, fs_error *err)
{
    fs_bytes text = { 0 };
    bool found = false;
    char *end = NULL;
    fs_status rc = fs_json_string(json, key, &text, &found, err);

    if (!rc && found)
        *ret = strtod((const char *)text.data, &end);
    if (!rc && (!found || *end || !(*ret >= 0 && *ret <= 1)))
        rc = fs_fail(err, FS_ERR_FORMAT, "training.json: '%s' is no number from 0 to 1", key);
    return rc;
}

static fs_status read_state(const char *folder, fs_optimizer *o, const char *recipe_sha256, fs_error *err)
{
    char *path = fs_path_join(folder, "training.json");
    struct json_object *json = NULL;
    fs_buf text = { 0 };
    fs_bytes recipe = { 0 };
    int64_t step = -1;
    fs_status rc = path ? fs_file_read(path, STATE_BYTES_MAX, &text, err) : fs_fail_memory(err, strlen(folder));

    if (!rc)
        rc = fs_json_parse(fs_buf_bytes(&text), path, &json, err);
    if (!rc)
        rc = fs_json_int(json, "step", 0, INT64_MAX, &step, NULL, err);
    if (!rc)
        rc = fs_json_string(json, "recipe_sha256", &recipe, NULL, err);
    if (!rc)
        rc = read_power(json, "beta1_t", &o->beta1_t, err);
    if (!rc)
        rc = read_power(json, "beta2_t", &o->beta2_t, err);
    if (!rc && step < 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' has no step", path);
    if (!rc && recipe_sha256 && !fs_bytes_equal(recipe, fs_bytes_str(recipe_sha256)))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' was made by another recipe: its hash is %.*s, this one's %s", folder,
                     (int)(recipe.n_bytes < 64 ? recipe.n_bytes : 64), recipe.data ? (const char *)recipe.data : "", recipe_sha256);
    if (!rc)
        o->step = (uint64_t)step;
    json_object_put(json);
    fs_buf_done(&text);
    free(path);
    return rc;
}

fs_status fs_checkpoint_check(const char *folder, const char *recipe_sha256, fs_error *err)
{
    fs_optimizer unused = { 0 };

    return read_state(folder, &unused, recipe_sha256, err);
}

fs_status fs_checkpoint_read(const char *folder, fs_params *p, fs_optimizer *o, const char *recipe_sha256, fs_error *err)
{
    char *inner = fs_path_join(folder, "optimizer"), *average = fs_path_join(folder, "average");
    fs_status rc = inner && average ? read_state(folder, o, recipe_sha256, err) : fs_fail_memory(err, strlen(folder));

    if (!rc)
        rc = read_sets(folder, p, weights_set, err);
    if (!rc)
        rc = read_sets(inner, p, moments_sets, err);
    if (!rc && p->e)
        rc = read_sets(average, p, averages_set, err);
    free(inner);
    free(average);
    return rc;
}

/* ---- roots ---- */

/* Tensors that point elsewhere, with names of their own. */
struct list {
    fs_tensor *tensors;
    const fs_tensor **order; /* by name */
    size_t n, capacity;
};

static fs_status list_new(struct list *l, size_t capacity, fs_error *err)
{
    *l = (struct list){ .tensors = calloc(capacity, sizeof *l->tensors), .order = calloc(capacity, sizeof *l->order), .capacity = capacity };
    return l->tensors && l->order ? FS_OK : fs_fail_memory(err, capacity * sizeof *l->tensors);
}

static void list_done(struct list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free((char *)(uintptr_t)l->tensors[i].name);
    free(l->tensors);
    free(l->order);
}

static fs_status list_add(struct list *l, const fs_tensor *t, const char *suffix, fs_error *err)
{
    char *name = malloc(strlen(t->name) + strlen(suffix) + 1);

    if (!name)
        return fs_fail_memory(err, strlen(t->name) + 8);
    assert(l->n < l->capacity);
    strcat(strcpy(name, t->name), suffix);
    l->tensors[l->n] = *t;
    l->tensors[l->n++].name = name;
    return FS_OK;
}

static fs_status list_params(struct list *l, const fs_params *p, const struct set *set, const char *suffix, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < p->n && !rc; i++) {
        const fs_param *item = &p->items[i];
        char name[NAME_MAX_BYTES];
        fs_tensor t = { .name = name, .dtype = FS_DTYPE_F32, .n_dims = item->n_dims, .n_bytes = item->n * sizeof(float) };
        if (!is_in(p, item, set))
            continue;
        name_in(p, item, set, name);
        t.dims[0] = item->n_dims == 2 ? item->rows : item->cols;
        t.dims[1] = item->n_dims == 2 ? item->cols : 0;
        t.data = (const uint8_t *)data_of(item, set);
        rc = list_add(l, &t, suffix, err);
    }
    return rc;
}

static fs_status list_powers(struct list *l, const double beta_t[2], fs_error *err)
{
    const fs_tensor t = { .name = "beta_t", .dtype = FS_DTYPE_F64, .n_dims = 1, .dims = { 2 }, .data = (const uint8_t *)beta_t, .n_bytes = 2 * sizeof *beta_t };

    return list_add(l, &t, "", err);
}

static fs_status list_roots(struct list *l, fs_pool *pool, fs_roots *ret, fs_error *err)
{
    qsort(l->tensors, l->n, sizeof *l->tensors, fs_tensor_by_name);
    for (size_t i = 0; i < l->n; i++)
        l->order[i] = &l->tensors[i];
    return fs_roots_of_tensors(l->order, l->n, pool, NULL, ret, err);
}

static fs_status state_roots(const fs_params *p, const fs_optimizer *o, fs_pool *pool, fs_roots *ret, fs_error *err)
{
    const double beta_t[2] = { o->beta1_t, o->beta2_t };
    struct list l;
    fs_status rc = list_new(&l, 3 * p->n + 1, err);

    for (const struct set *s = moments_sets; s->suffix && !rc; s++)
        rc = list_params(&l, p, s, "", err);
    if (!rc && p->e)
        rc = list_params(&l, p, averages_set, ".e", err);
    if (!rc)
        rc = list_powers(&l, beta_t, err);
    if (!rc)
        rc = list_roots(&l, pool, ret, err);
    list_done(&l);
    return rc;
}

fs_status fs_checkpoint_roots(const fs_params *p, const fs_optimizer *o, fs_pool *pool, fs_roots *ret_weights, fs_roots *ret_state, fs_error *err)
{
    struct list l;
    fs_status rc = list_new(&l, p->n, err);

    if (!rc)
        rc = list_params(&l, p, weights_set, "", err);
    if (!rc)
        rc = list_roots(&l, pool, ret_weights, err);
    list_done(&l);
    if (!rc && (rc = state_roots(p, o, pool, ret_state, err)) != FS_OK)
        fs_roots_done(ret_weights);
    return rc;
}

/* A file of tensors that is there. */
struct stored {
    fs_map map;
    fs_safetensors *tensors;
};

static fs_status open_stored(struct stored *f, const char *folder, const char *inner, const char *name, fs_error *err)
{
    char *in = fs_path_join(folder, inner), *path = in ? fs_path_join(in, name) : NULL;
    fs_status rc = path ? fs_map_open(&f->map, path, err) : fs_fail_memory(err, strlen(folder));

    if (!rc)
        rc = fs_safetensors_open(f->map.bytes, path, &f->tensors, err);
    free(in);
    free(path);
    return rc;
}

static fs_status list_stored(struct list *l, const struct stored *f, const char *suffix, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; f->tensors && i < fs_safetensors_n_tensors(f->tensors) && !rc; i++)
        rc = list_add(l, fs_safetensors_tensor_at(f->tensors, i), suffix, err);
    return rc;
}

static void close_stored(struct stored *f)
{
    fs_safetensors_close(f->tensors);
    fs_map_close(&f->map);
}

static bool has_averages(const char *folder)
{
    char *path = fs_path_join(folder, "average");
    bool is = path && fs_file_is_folder(path);

    free(path);
    return is;
}

fs_status fs_checkpoint_state_roots(const char *folder, fs_pool *pool, fs_roots *ret, fs_error *err)
{
    char *pairs = fs_path_join(folder, ADAPTER_FILE);
    struct stored moments = { 0 }, averages = { 0 };
    struct list l = { 0 };
    fs_optimizer o = { 0 };
    double beta_t[2];
    fs_status rc = pairs ? read_state(folder, &o, NULL, err) : fs_fail_memory(err, strlen(folder));

    if (!rc)
        rc = open_stored(&moments, folder, "optimizer", "model.safetensors", err);
    if (!rc && has_averages(folder))
        rc = open_stored(&averages, folder, "average", fs_file_exists(pairs) ? ADAPTER_FILE : "model.safetensors", err);
    if (!rc)
        rc = list_new(&l, fs_safetensors_n_tensors(moments.tensors) + (averages.tensors ? fs_safetensors_n_tensors(averages.tensors) : 0) + 1, err);
    if (!rc)
        rc = list_stored(&l, &moments, "", err);
    if (!rc)
        rc = list_stored(&l, &averages, ".e", err);
    beta_t[0] = o.beta1_t;
    beta_t[1] = o.beta2_t;
    if (!rc)
        rc = list_powers(&l, beta_t, err);
    if (!rc)
        rc = list_roots(&l, pool, ret, err);
    list_done(&l);
    close_stored(&moments);
    close_stored(&averages);
    free(pairs);
    return rc;
}
