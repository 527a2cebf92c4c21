/* See the header. */
#include "cli/retrain.h"

#include "base/file.h"
#include "base/yaml.h"
#include "cli/interrupt.h"
#include "cli/work.h"
#include "lineage/provenance.h"
#include "train/pretrain.h"
#include "train/reinforce.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 8

bool fs_retrain_can(const fs_record *r)
{
    return fs_record_get(r, FS_RECORD_TRACE, 0) != NULL;
}

/* ---- looking for files ---- */

typedef struct search {
    const fs_root *hash;
    const char *name;    /* only files of this name; NULL: any other */
    bool records;        /* folders whose record has this result */
    char *found, *other; /* other: a file of that name with another hash */
} search;

/* Whether path is what is looked for; takes it over then. */
static fs_status look_at(search *s, char *path, const char *name, fs_error *err)
{
    fs_root have;
    fs_status rc;

    if (s->name && strcmp(s->name, name) != 0)
        return FS_OK;
    rc = fs_provenance_hash(path, &have, err);
    if (rc)
        return rc;
    if (fs_root_equal(&have, s->hash))
        s->found = strdup(path);
    else if (s->name && !s->other)
        s->other = strdup(path);
    return FS_OK;
}

static fs_status look_at_record(search *s, const char *path, fs_error *err)
{
    fs_record r = { 0 };
    fs_buf text = { 0 };
    fs_root root;
    fs_status rc = fs_provenance_read(path, &r, &text, err);

    if (!rc) {
        fs_record_result(&r, &root);
        if (!fs_record_is_data(&r) && fs_root_equal(&root, s->hash))
            s->found = strdup(path);
    }
    fs_record_done(&r);
    fs_buf_done(&text);
    return FS_OK; /* what is no record is none that is looked for */
}

static fs_status walk(search *s, const char *folder, int depth, fs_error *err)
{
    DIR *d = depth < DEPTH_MAX ? opendir(folder) : NULL;
    struct dirent *e;
    fs_status rc = FS_OK;

    if (s->records && d)
        rc = look_at_record(s, folder, NULL);
    while (d && !rc && !s->found && (e = readdir(d)) != NULL) {
        char *path;
        if (e->d_name[0] == '.')
            continue;
        path = fs_path_join(folder, e->d_name);
        if (!path)
            rc = fs_fail_memory(err, strlen(folder));
        else if (fs_file_is_folder(path))
            rc = walk(s, path, depth + 1, err);
        else if (s->records && fs_ends_with(path, ".gguf"))
            rc = look_at_record(s, path, NULL);
        else if (!s->records && fs_file_exists(path))
            rc = look_at(s, path, e->d_name, err);
        free(path);
    }
    if (d)
        closedir(d);
    return rc;
}

fs_status fs_retrain_find(const char *folder, const fs_root *hash, const char *name, char **ret, char **ret_other, fs_error *err)
{
    search s = { .hash = hash, .name = name };
    fs_status rc = walk(&s, folder, 0, err);

    s.name = NULL;
    if (!rc && !s.found)
        rc = walk(&s, folder, 0, err);
    *ret = s.found;
    if (ret_other)
        *ret_other = s.other;
    else
        free(s.other);
    return rc;
}

const char *fs_retrain_file_name(const char *what)
{
    static const char *const kinds[] = { "source", "held-source", "against", "tokenizer", "tokenizer-file" };
    const char *blank = strchr(what, ' ');

    if (strcmp(what, "tokenizer") == 0)
        return "tokenizer.json";
    if (strncmp(what, "shards ", 7) == 0 || strncmp(what, "held-shards ", 12) == 0)
        return "index.json";
    for (size_t i = 0; blank && i < sizeof kinds / sizeof *kinds; i++)
        if (strlen(kinds[i]) == (size_t)(blank - what) && strncmp(what, kinds[i], (size_t)(blank - what)) == 0)
            return blank + 1;
    return NULL;
}

/* ---- the recipe ---- */

static fs_status put(struct json_object *json, const char *section, const char *key, struct json_object *value, fs_error *err)
{
    struct json_object *in = *section ? fs_json_member(json, section) : json;

    if (!in && (in = json_object_new_object()) != NULL)
        json_object_object_add(json, section, in);
    if (!in || !value || json_object_object_add(in, key, value) != 0) {
        json_object_put(value);
        return fs_fail_memory(err, 64);
    }
    return FS_OK;
}

static fs_status put_text(struct json_object *json, const char *section, const char *key, const char *text, fs_error *err)
{
    return put(json, section, key, json_object_new_string(text), err);
}

static fs_status find_data(const fs_retrain *o, const char *value, char **ret, fs_error *err)
{
    char *tokenizer = fs_path_join(o->model, "tokenizer.json"), *slash;
    fs_root hash, have;
    const char *what = fs_record_hashed(value, &hash), *name = fs_retrain_file_name(what);
    fs_status rc = tokenizer ? FS_OK : fs_fail_memory(err, strlen(o->model));

    *ret = NULL;
    if (!rc && strcmp(what, "tokenizer") == 0 && fs_file_exists(tokenizer) && (rc = fs_provenance_hash(tokenizer, &have, err)) == FS_OK &&
        fs_root_equal(&have, &hash)) {
        *ret = tokenizer;
        return FS_OK;
    }
    free(tokenizer);
    if (!rc && o->data)
        rc = fs_retrain_find(o->data, &hash, name, ret, NULL, err);
    if (!rc && !*ret)
        rc = o->data ? fs_fail(err, FS_ERR_NOT_FOUND, "'%s' has no file whose SHA-256 is %.64s: the record's '%s'", o->data, value, what) :
                       fs_fail(err, FS_ERR_ARGUMENT, "the record has data '%s', whose SHA-256 is %.64s: --data tells where to look for it", what, value);
    if (!rc && strcmp(name, "index.json") == 0 && (slash = strrchr(*ret, '/')) != NULL)
        *slash = 0; /* shards are their folder */
    return rc;
}

static fs_status put_data(const fs_retrain *o, const fs_record *r, struct json_object *json, bool samples, fs_error *err)
{
    struct json_object *files = json_object_new_array(), *held = json_object_new_array();
    bool asks = samples && !fs_record_recipe(r, "task.name"); /* the first file has its problems */
    const char *value;
    fs_root hash;
    fs_status rc = files && held ? FS_OK : fs_fail_memory(err, 64);

    for (size_t i = 0; !rc && (value = fs_record_get(r, FS_RECORD_DATA, i)) != NULL; i++) {
        const char *what = fs_record_hashed(value, &hash);
        char *path = NULL;
        if (!fs_retrain_file_name(what))
            continue;
        rc = find_data(o, value, &path, err);
        if (!rc && strcmp(what, "tokenizer") == 0)
            rc = put_text(json, samples ? "model" : "data", "tokenizer", path, err);
        else if (!rc && asks) {
            rc = put_text(json, "task", "file", path, err);
            asks = false;
        } else if (!rc)
            json_object_array_add(strncmp(what, "held-", 5) == 0 ? held : files, json_object_new_string(path));
        free(path);
    }
    if (!rc && json_object_array_length(files))
        rc = put(json, "data", "files", json_object_get(files), err);
    if (!rc && json_object_array_length(held))
        rc = put(json, "validation", "files", json_object_get(held), err);
    json_object_put(files);
    json_object_put(held);
    return rc;
}

fs_status fs_retrain_find_model(const char *folder, const fs_root *root, char **ret, fs_error *err)
{
    search s = { .records = true, .hash = root };
    char hex[65];
    fs_status rc = folder ? walk(&s, folder, 0, err) : FS_OK;

    *ret = s.found;
    fs_root_hex(root, hex);
    return rc || *ret ? rc : fs_fail(err, FS_ERR_ARGUMENT, "it was made from a model whose root is %s: name it behind%s%s%s", hex,
                                     folder ? ", no record in '" : "", folder ? folder : "", folder ? "' has it" : ", or give --data");
}

static fs_status find_parent(const fs_retrain *o, const char *value, size_t number, char **ret, fs_error *err)
{
    fs_root root;

    fs_record_parent(value, &root);
    if (number >= (size_t)o->n_parents)
        return fs_retrain_find_model(o->data, &root, ret, err);
    *ret = strdup(o->parents[number]);
    return *ret ? FS_OK : fs_fail_memory(err, strlen(o->parents[number]));
}

/* model.from, then lora.from, then teacher.from: the order of train/stage.c. */
static fs_status put_parents(const fs_retrain *o, const fs_record *r, struct json_object *json, fs_error *err)
{
    bool begun = fs_record_get(r, FS_RECORD_INIT, 0) != NULL, taught = fs_json_member(json, "teacher") != NULL;
    const char *value;
    size_t n = 0;
    fs_status rc = FS_OK;

    while (fs_record_get(r, FS_RECORD_PARENT, n))
        n++;
    for (size_t i = 0; !rc && (value = fs_record_get(r, FS_RECORD_PARENT, i)) != NULL; i++) {
        char *path = NULL;
        rc = find_parent(o, value, i, &path, err);
        if (!rc)
            rc = put_text(json, i == 0 && !begun ? "model" : taught && i + 1 == n ? "teacher" : "lora", "from", path, err);
        free(path);
    }
    if (!rc && begun) {
        char *config = fs_path_join(o->model, "config.json");
        rc = config ? put_text(json, "model", "config", config, err) : fs_fail_memory(err, strlen(o->model));
        free(config);
    }
    return rc;
}

static fs_status make_recipe(const fs_retrain *o, const fs_record *r, fs_recipe *ret, fs_error *err)
{
    const fs_recipe_place place = { .folder = "", .out = o->work };
    const char *stage = fs_record_recipe(r, "stage");
    struct json_object *json = NULL;
    fs_buf text = { 0 };
    fs_recipe_stage kind = FS_STAGE_END;
    fs_status rc = fs_history_recipe(r, &text, err);

    if (!rc && (!stage || !fs_recipe_stage_of(stage, &kind)))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "the record is of a stage that this program does not know");
    if (!rc)
        rc = fs_yaml_parse(fs_buf_bytes(&text), "the record's recipe", &json, err);
    if (!rc)
        rc = put_parents(o, r, json, err);
    if (!rc)
        rc = put_data(o, r, json, fs_recipe_samples(&(fs_recipe){ .stage = kind }), err);
    if (!rc)
        rc = fs_recipe_of(ret, json, "the record's recipe", &place, err);
    json_object_put(json);
    fs_buf_done(&text);
    return rc;
}

/* ---- the segment ---- */

/* Segments lie between kept checkpoints. */
static fs_status find_segment(fs_retrain *o, const fs_recipe *r, const fs_trace *trace, fs_error *err)
{
    uint64_t every = r->checkpoint_every, kept = every ? (trace->n + every - 1) / every : 1, n = o->n_segments ? o->n_segments : 1;
    uint64_t i = o->segment ? o->segment : 1;

    if (n > kept || i > n)
        return fs_fail(err, FS_ERR_ARGUMENT, "--segment %" PRIu64 "/%" PRIu64 ": checkpoints cut the training's %zu steps into %" PRIu64, i, n, trace->n, kept);
    o->first = (i - 1) * kept / n * every + 1;
    o->last = i == n ? trace->n : i * kept / n * every;
    if (o->first > 1 && r->esft.p > 0)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "which experts ESFT trains is found in the beginning: only its whole can be done again");
    return FS_OK;
}

/* The checkpoint behind step `step`: beside the model, or in data. */
static fs_status find_checkpoint(const fs_retrain *o, uint64_t step, char **ret, fs_error *err)
{
    size_t n = strlen(o->model);
    char name[64];

    while (n > 1 && o->model[n - 1] == '/')
        n--;
    while (n > 0 && o->model[n - 1] != '/')
        n--;
    snprintf(name, sizeof name, "step-%08" PRIu64, step);
    if (asprintf(ret, "%.*s%s", (int)n, o->model, name) < 0)
        return fs_fail_memory(err, n + sizeof name);
    if (!fs_file_is_folder(*ret) && o->data) {
        free(*ret);
        *ret = fs_path_join(o->data, name);
        if (!*ret)
            return fs_fail_memory(err, strlen(o->data));
    }
    return fs_file_is_folder(*ret) ? FS_OK : fs_fail(err, FS_ERR_NOT_FOUND, "the segment begins with checkpoint '%s', which is not there", *ret);
}

/* ---- running ---- */

struct show {
    fs_work work;
    uint64_t first, n;
};

static void no_plan(void *ud, const fs_stage_plan *plan)
{
    (void)ud;
    (void)plan;
}

static bool on_step(void *ud, const fs_stage_step *s)
{
    struct show *show = ud;

    return show->work.progress.fn(show->work.progress.ud, s->step + 1 - show->first, show->n) && !fs_interrupted();
}

static void no_checkpoint(void *ud, uint64_t step)
{
    (void)ud;
    (void)step;
}

fs_status fs_retrain_run(fs_retrain *o, const fs_record *r, const fs_trace *trace, fs_error *err)
{
    fs_history_check check = { .record = r, .trace = trace };
    struct show show = { 0 };
    const fs_stage_events events = { no_plan, on_step, no_checkpoint, &show, NULL, &check };
    fs_recipe recipe = { 0 };
    fs_kernels kernels;
    fs_pool *pool = NULL;
    char *begin = NULL;
    fs_status rc = make_recipe(o, r, &recipe, err);

    if (!rc)
        rc = find_segment(o, &recipe, trace, err);
    if (!rc && o->first > 1)
        rc = find_checkpoint(o, o->first - 1, &begin, err);
    if (!rc)
        rc = fs_kernels_init_named(&kernels, o->isa, err);
    if (!rc)
        rc = fs_pool_new(o->n_threads, &pool, err);
    if (!rc) {
        check.begin = begin;
        check.end = o->last;
        show.first = o->first;
        show.n = o->last + 1 - o->first;
        fs_work_start(&show.work, "training", "steps", 1);
        fs_pool_keep_all(pool);
        rc = (fs_recipe_samples(&recipe) ? fs_reinforce : fs_pretrain)(&recipe, pool, &kernels, false, false, &events, err);
        fs_work_end(&show.work);
        o->departed = check.departed;
    }
    fs_pool_free(pool);
    fs_recipe_done(&recipe);
    free(begin);
    return rc;
}
