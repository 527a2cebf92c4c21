/* See the header. */
#include "cli/chain.h"

#include "base/file.h"
#include "cli/step.h"
#include "train/checkpoint.h"
#include "train/report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STAGES_MAX       64
#define RESULT_BYTES_MAX ((size_t)1 << 24)

typedef struct stage {
    char *name;
    const char *word;      /* which stage it is */
    char *what;            /* in sentences: "recipe.yaml: stage 'base'" */
    char *product;         /* what a later stage gets */
    char *folder;          /* of a training: its checkpoints; else NULL */
    char *marker, *part;   /* of another stage: its result, and what it says while it runs */
    fs_recipe recipe;
    fs_step step;
    char sha256[65];
    bool needs[STAGES_MAX];
    bool done;
} stage;

struct fs_chain {
    char *folder, *out; /* folder: of the recipe, "" or "some/where/" */
    const char *path;
    uint64_t seed;
    stage *stages;
    size_t n, at; /* at: the stage that is read */
};

bool fs_is_chain(struct json_object *recipe)
{
    return json_object_is_type(recipe, json_type_object) && fs_json_member(recipe, "stages") != NULL;
}

/* ---- reading ---- */

static fs_status made(void *ud, const char *text, char **ret, fs_error *err)
{
    fs_chain *c = ud;
    size_t n = strcspn(text, "/");

    for (size_t i = 0; i < c->n; i++) {
        const stage *s = &c->stages[i];
        if (strlen(s->name) != n || memcmp(s->name, text, n) != 0)
            continue;
        if (i >= c->at)
            return fs_fail(err, FS_ERR_FORMAT, "%s: it needs stage '%s', which does not come before it", c->stages[c->at].what, s->name);
        c->stages[c->at].needs[i] = true;
        *ret = text[n] && text[n + 1] ? fs_path_join(s->folder ? s->folder : s->product, text + n + 1) : strdup(s->product);
        return *ret ? FS_OK : fs_fail_memory(err, strlen(text));
    }
    return FS_OK;
}

static bool is_name(const char *s)
{
    return *s && *s != '-' && strlen(s) <= 60 && s[strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")] == 0;
}

static fs_status read_name(fs_chain *c, size_t i, struct json_object *keys, fs_error *err)
{
    struct json_object *name = json_object_is_type(keys, json_type_object) ? fs_json_member(keys, "name") : NULL;
    stage *s = &c->stages[i];
    fs_buf what = { 0 };
    fs_status rc;

    if (!json_object_is_type(name, json_type_string) || !is_name(json_object_get_string(name)))
        return fs_fail(err, FS_ERR_FORMAT, "%s: stage %zu has no name of letters, digits, - and _", c->path, i + 1);
    s->name = strdup(json_object_get_string(name));
    rc = s->name ? fs_buf_printf(&what, err, "%s: stage '%s'", c->path, s->name) : fs_fail_memory(err, 64);
    s->what = what.data;
    for (size_t k = 0; k < i && !rc; k++)
        if (strcmp(c->stages[k].name, s->name) == 0)
            rc = fs_fail(err, FS_ERR_FORMAT, "%s: two stages are called '%s'", c->path, s->name);
    return rc;
}

static const char *word_candidate(const void *ud, size_t i)
{
    (void)ud;
    return i < FS_STAGE_END ? fs_recipe_stage_word((fs_recipe_stage)i) : fs_step_word(i - FS_STAGE_END);
}

static fs_status fail_unknown_stage(const stage *s, fs_error *err)
{
    const char *near = fs_suggest(s->word, word_candidate, NULL);
    fs_buf words = { 0 };
    fs_status rc = FS_OK;

    for (size_t i = 0; word_candidate(NULL, i) && !near && !rc; i++)
        rc = fs_buf_printf(&words, err, "%s%s", i ? ", " : "; there are ", word_candidate(NULL, i));
    if (!rc)
        rc = fs_fail(err, FS_ERR_FORMAT, "%s: stage '%.60s' is not known%s%s%s%s", s->what, s->word, near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "",
                     words.data ? words.data : "");
    fs_buf_done(&words);
    return rc;
}

static char *path_of(const char *folder, const char *name, const char *suffix)
{
    char file[96];

    snprintf(file, sizeof file, "%s%s", name, suffix);
    return fs_path_join(folder, file);
}

static fs_status read_training(fs_chain *c, stage *s, struct json_object *keys, fs_error *err)
{
    const fs_recipe_place place = { c->folder, s->folder = path_of(c->out, s->name, ""), c->seed, made, c };
    char last[48];
    fs_status rc = s->folder ? FS_OK : fs_fail_memory(err, strlen(c->out));

    if (!rc && fs_json_member(keys, "out"))
        rc = fs_fail(err, FS_ERR_FORMAT, "%s: 'out' is the chain's, not a stage's", s->what);
    json_object_object_del(keys, "name");
    if (!rc)
        rc = fs_recipe_of(&s->recipe, keys, s->what, &place, err);
    if (rc)
        return rc;
    snprintf(last, sizeof last, "step-%08" PRIu64, s->recipe.steps);
    s->product = fs_path_join(s->folder, last);
    return s->product ? FS_OK : fs_fail_memory(err, strlen(s->folder));
}

static fs_status read_step(fs_chain *c, stage *s, const fs_step_kind *k, struct json_object *keys, fs_error *err)
{
    const fs_recipe_place place = { c->folder, NULL, c->seed, made, c };

    s->product = path_of(c->out, s->name, fs_step_suffix(k, keys));
    s->marker = path_of(c->out, s->name, ".json");
    s->part = path_of(c->out, s->name, ".part");
    if (!s->product || !s->marker || !s->part)
        return fs_fail_memory(err, strlen(c->out));
    return fs_step_read(&s->step, k, keys, s->what, s->product, &place, err);
}

/* keys_text: before the stage was read. */
static fs_status hash_stage(const fs_chain *c, stage *s, fs_buf *keys_text, fs_error *err)
{
    fs_recipe unused;
    fs_status rc = fs_buf_printf(keys_text, err, "\nseed %" PRIu64, c->seed);

    for (size_t i = 0; i < c->at && !rc; i++)
        if (s->needs[i])
            rc = fs_buf_printf(keys_text, err, "\n%s %s", c->stages[i].name, c->stages[i].sha256);
    if (!rc)
        rc = fs_recipe_hash(&unused, fs_buf_bytes(keys_text), err);
    if (!rc) {
        memcpy(s->sha256, unused.sha256, sizeof s->sha256);
        memcpy(s->recipe.sha256, unused.sha256, sizeof s->sha256);
    }
    return rc;
}

static fs_status read_stage(fs_chain *c, struct json_object *keys, fs_error *err)
{
    stage *s = &c->stages[c->at];
    struct json_object *word = fs_json_member(keys, "stage");
    const fs_step_kind *k;
    fs_recipe_stage training;
    fs_buf text = { 0 };
    fs_status rc;

    if (!json_object_is_type(word, json_type_string))
        return fs_fail(err, FS_ERR_FORMAT, "%s: stage is missing", s->what);
    s->word = json_object_get_string(word);
    k = fs_step_kind_of(s->word);
    if (!k && !fs_recipe_stage_of(s->word, &training))
        return fail_unknown_stage(s, err);
    rc = fs_buf_append_str(&text, json_object_to_json_string_ext(keys, JSON_C_TO_STRING_PLAIN), err);
    if (!rc)
        rc = k ? read_step(c, s, k, keys, err) : read_training(c, s, keys, err);
    if (!rc)
        rc = hash_stage(c, s, &text, err);
    fs_buf_done(&text);
    return rc;
}

static const char *key_candidate(const void *ud, size_t i)
{
    (void)ud;
    return i < 3 ? ((const char *const[]){ "seed", "out", "stages" })[i] : NULL;
}

static fs_status read_head(fs_chain *c, struct json_object *recipe, const char *out, fs_error *err)
{
    const fs_recipe_place place = { .folder = c->folder };
    struct json_object *given = fs_json_member(recipe, "out"), *list = fs_json_member(recipe, "stages");
    int64_t seed = 0;
    fs_status rc = fs_json_int(recipe, "seed", 0, INT64_MAX, &seed, NULL, err);

    json_object_object_foreach(recipe, key, v)
    {
        const char *near = NULL;
        (void)v;
        if (rc || strcmp(key, "seed") == 0 || strcmp(key, "out") == 0 || strcmp(key, "stages") == 0)
            continue;
        near = fs_suggest(key, key_candidate, NULL);
        rc = fs_fail(err, FS_ERR_FORMAT, "%s: unknown key '%.60s' beside stages%s%s%s", c->path, key, near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    if (rc)
        return rc;
    c->seed = (uint64_t)seed;
    if (!json_object_is_type(list, json_type_array) || json_object_array_length(list) < 1 || json_object_array_length(list) > STAGES_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "%s: stages is no list of 1 to %d stages", c->path, STAGES_MAX);
    if (!out && !json_object_is_type(given, json_type_string))
        return fs_fail(err, FS_ERR_FORMAT, "%s: out is missing", c->path);
    if (!out)
        return fs_recipe_path(&place, json_object_get_string(given), &c->out, err);
    c->out = strdup(out);
    return c->out ? FS_OK : fs_fail_memory(err, strlen(out));
}

static fs_status read_chain(fs_chain *c, struct json_object *recipe, const char *out, fs_error *err)
{
    const char *slash = strrchr(c->path, '/');
    struct json_object *list;
    fs_status rc;

    c->folder = strndup(c->path, slash ? (size_t)(slash - c->path) + 1 : 0);
    if (!c->folder)
        return fs_fail_memory(err, strlen(c->path));
    rc = read_head(c, recipe, out, err);
    if (rc)
        return rc;
    list = fs_json_member(recipe, "stages");
    c->n = json_object_array_length(list);
    c->stages = calloc(c->n, sizeof *c->stages);
    if (!c->stages)
        return fs_fail_memory(err, c->n * sizeof *c->stages);
    for (size_t i = 0; i < c->n && !rc; i++)
        rc = read_name(c, i, json_object_array_get_idx(list, i), err);
    for (c->at = 0; c->at < c->n && !rc; c->at++)
        rc = read_stage(c, json_object_array_get_idx(list, c->at), err);
    return rc;
}

fs_status fs_chain_new(struct json_object *recipe, const char *path, const char *out, fs_chain **ret, fs_error *err)
{
    fs_chain *c = calloc(1, sizeof *c);
    fs_status rc;

    if (!c)
        return fs_fail_memory(err, sizeof *c);
    c->path = path;
    rc = read_chain(c, recipe, out, err);
    if (rc) {
        fs_chain_free(c);
        return rc;
    }
    *ret = c;
    return FS_OK;
}

void fs_chain_free(fs_chain *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n && c->stages; i++) {
        stage *s = &c->stages[i];
        free(s->name);
        free(s->what);
        free(s->product);
        free(s->folder);
        free(s->marker);
        free(s->part);
        fs_recipe_done(&s->recipe);
        fs_step_done(&s->step);
    }
    free(c->stages);
    free(c->folder);
    free(c->out);
    free(c);
}

/* ---- what is done ---- */

static fs_status read_marker(const stage *s, struct json_object **ret, fs_error *err)
{
    fs_buf text = { 0 };
    fs_status rc = fs_file_read(s->marker, RESULT_BYTES_MAX, &text, err);

    if (!rc)
        rc = fs_json_parse(fs_buf_bytes(&text), s->marker, ret, err);
    fs_buf_done(&text);
    return rc;
}

static fs_status look_whether_done(stage *s, fs_error *err)
{
    struct json_object *marker = NULL;
    fs_bytes made_by = { 0 };
    fs_status rc;

    if (s->folder) {
        s->done = fs_file_exists(s->product);
        return s->done ? fs_checkpoint_check(s->product, s->sha256, err) : FS_OK;
    }
    if (!fs_file_exists(s->marker))
        return FS_OK;
    rc = read_marker(s, &marker, err);
    if (!rc)
        rc = fs_json_string(marker, "sha256", &made_by, NULL, err);
    if (!rc && !fs_bytes_equal(made_by, fs_bytes_str(s->sha256)))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' was made by another recipe: its hash is %.*s, this one's %s", s->product,
                     (int)(made_by.n_bytes < 64 ? made_by.n_bytes : 64), made_by.data ? (const char *)made_by.data : "", s->sha256);
    s->done = !rc && fs_file_exists(s->product);
    json_object_put(marker);
    return rc;
}

static fs_status check_needs(const fs_chain *c, const stage *s, fs_error *err)
{
    for (size_t i = 0; i < c->n; i++)
        if (s->needs[i] && !c->stages[i].done)
            return fs_fail(err, FS_ERR_ARGUMENT, "stage '%s' needs stage '%s', which has not run", s->name, c->stages[i].name);
    return FS_OK;
}

/* ---- running ---- */

/* What a killed run left, which says so by its part, goes. */
static fs_status clear(const stage *s, fs_error *err)
{
    if (!fs_file_exists(s->product))
        return FS_OK;
    if (!fs_file_exists(s->part))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' is there, and no stage of a recipe made it", s->product);
    if (fs_file_is_folder(s->product))
        fs_folder_remove(s->product);
    else
        unlink(s->product);
    return FS_OK;
}

static fs_status write_marker(const stage *s, fs_error *err)
{
    fs_buf said = { 0 }, text = { 0 };
    fs_bytes result;
    fs_status rc = fs_file_read(s->part, RESULT_BYTES_MAX, &said, err);

    result = fs_bytes_trim(fs_buf_bytes(&said), FS_SPACES);
    if (result.n_bytes == 0 || result.data[0] != '{')
        result = FS_BYTES_LIT("{}");
    if (!rc)
        rc = fs_buf_printf(&text, err, "{\"stage\": \"%s\", \"sha256\": \"%s\", \"result\": %.*s}\n", s->word, s->sha256, (int)result.n_bytes,
                           (const char *)result.data);
    if (!rc)
        rc = fs_file_write_atomic(s->marker, fs_buf_bytes(&text), err);
    if (!rc)
        unlink(s->part);
    fs_buf_done(&said);
    fs_buf_done(&text);
    return rc;
}

/* "problems     records 1000, traced 300" */
static fs_status tell(const stage *s, bool json, fs_error *err)
{
    struct json_object *marker = NULL, *result;
    const char *between = "";
    fs_status rc = read_marker(s, &marker, err);

    if (rc)
        return rc;
    result = fs_json_member(marker, "result");
    if (json) {
        printf("{\"name\": \"%s\", \"stage\": \"%s\", \"result\": %s}\n", s->name, s->word, json_object_to_json_string_ext(result, JSON_C_TO_STRING_SPACED));
        fflush(stdout);
    } else if (json_object_is_type(result, json_type_object)) {
        fprintf(stderr, "%-12s ", s->name);
        json_object_object_foreach(result, key, v)
        {
            if (strcmp(key, "out") == 0)
                continue;
            fprintf(stderr, "%s%s %s", between, key, json_object_get_string(v));
            between = ", ";
        }
        fprintf(stderr, "\n");
    }
    json_object_put(marker);
    return FS_OK;
}

static fs_status run_step(stage *s, const fs_chain_options *o, fs_error *err)
{
    fs_status rc = clear(s, err);

    if (!rc)
        rc = fs_step_run(&s->step, s->part, o->n_threads, o->isa, err);
    if (!rc)
        rc = write_marker(s, err);
    return rc ? rc : tell(s, o->json, err);
}

static fs_status run_training(stage *s, const fs_chain_options *o, fs_error *err)
{
    fs_status rc = fs_folder_make(s->folder, 0700, err);

    if (!rc && !o->json)
        fprintf(stderr, "== %s: %s\n", s->name, s->word);
    return rc ? rc : o->train(&s->recipe, err);
}

/* ---- the dry run ---- */

/* The shape of a model that an earlier training is still to make: that stage's. */
static fs_status find_shape(const fs_chain *c, stage *s, fs_error *err)
{
    fs_recipe *r = &s->recipe;

    if (!r->from || fs_file_exists(r->from))
        return FS_OK;
    for (size_t i = 0; i < c->n; i++) {
        const stage *maker = &c->stages[i];
        if (!s->needs[i] || !maker->folder || strncmp(r->from, maker->folder, strlen(maker->folder)) != 0)
            continue;
        r->config = maker->recipe.config ? strdup(maker->recipe.config) : fs_path_join(maker->recipe.from, "config.json");
        r->model_later = true;
        return r->config ? FS_OK : fs_fail_memory(err, strlen(maker->folder));
    }
    return FS_OK;
}

static fs_status preview_training(const fs_chain *c, stage *s, const fs_chain_options *o, fs_error *err)
{
    fs_recipe *r = &s->recipe;
    fs_status rc = find_shape(c, s, err);

    for (int i = 0; i < r->n_files && !rc; i++)
        r->data_later = r->data_later || !fs_file_exists(r->files[i]);
    for (int i = 0; i < r->validation_files.n; i++)
        r->data_later = r->data_later || !fs_file_exists(r->validation_files.items[i]);
    if ((r->tokenizer && !fs_file_exists(r->tokenizer)) || (r->task_file && !fs_file_exists(r->task_file)))
        r->data_later = true;
    if (r->model_later && !r->tokenizer && (fs_recipe_samples(r) || r->data == FS_RECIPE_TEXT))
        r->data_later = true;
    r->teacher_later = r->teacher && !fs_file_exists(r->teacher);
    if (!rc && r->from && !r->model_later && !fs_file_exists(r->from)) {
        printf("the model is still to be made\n");
        return FS_OK;
    }
    return rc ? rc : o->train(r, err);
}

static fs_status preview(const fs_chain *c, stage *s, const fs_chain_options *o, fs_error *err)
{
    fs_buf line = { 0 };
    fs_status rc = FS_OK;

    if (!o->json)
        printf("== %s: %s%s\n", s->name, s->word, s->done ? ", done" : "");
    if (s->folder)
        rc = preview_training(c, s, o, err);
    else
        rc = fs_step_show(&s->step, &line, err);
    if (!rc && line.data && !o->json)
        printf("%s\n", line.data);
    fflush(stdout);
    fs_buf_done(&line);
    return rc;
}

/* ---- the report ---- */

struct numbers {
    struct json_object *marker;
    const char **keys, **values;
};

static fs_status report_result(const stage *s, struct numbers *n, fs_report_stage *ret, fs_error *err)
{
    struct json_object *result;
    size_t count;
    fs_status rc = read_marker(s, &n->marker, err);

    result = rc ? NULL : fs_json_member(n->marker, "result");
    if (!json_object_is_type(result, json_type_object))
        return rc;
    count = (size_t)json_object_object_length(result);
    n->keys = calloc(count + 1, sizeof *n->keys);
    n->values = calloc(count + 1, sizeof *n->values);
    if (!n->keys || !n->values)
        return fs_fail_memory(err, count * sizeof *n->keys);
    json_object_object_foreach(result, key, v)
    {
        if (strcmp(key, "out") == 0)
            continue;
        n->keys[ret->n] = key;
        n->values[ret->n++] = json_object_get_string(v) ? json_object_get_string(v) : "";
    }
    ret->keys = n->keys;
    ret->values = n->values;
    return FS_OK;
}

static fs_status report_stage(const stage *s, struct numbers *n, fs_report_stage *ret, fs_error *err)
{
    char *metrics;
    fs_status rc = FS_OK;

    *ret = (fs_report_stage){ .name = s->name, .what = s->word };
    if (!s->folder)
        return report_result(s, n, ret, err);
    metrics = fs_path_join(s->folder, FS_METRICS_FILE);
    if (!metrics)
        return fs_fail_memory(err, strlen(s->folder));
    if (fs_file_exists(metrics))
        rc = fs_columns_read(metrics, &ret->columns, err);
    free(metrics);
    return rc;
}

static fs_status write_report(const fs_chain *c, fs_error *err)
{
    fs_report_stage *parts = calloc(c->n, sizeof *parts);
    struct numbers *numbers = calloc(c->n, sizeof *numbers);
    const char *slash = strrchr(c->path, '/');
    char *path = fs_path_join(c->out, "report.html");
    fs_buf page = { 0 };
    size_t n = 0;
    fs_status rc = parts && numbers && path ? FS_OK : fs_fail_memory(err, c->n * sizeof *parts);

    for (size_t i = 0; i < c->n && !rc; i++)
        if (c->stages[i].done) {
            rc = report_stage(&c->stages[i], &numbers[n], &parts[n], err);
            n++;
        }
    if (!rc)
        rc = fs_report_chain(parts, n, slash ? slash + 1 : c->path, &page, err);
    if (!rc)
        rc = fs_file_write_atomic(path, fs_buf_bytes(&page), err);
    for (size_t i = 0; i < n; i++) {
        fs_columns_done(&parts[i].columns);
        free(numbers[i].keys);
        free(numbers[i].values);
        json_object_put(numbers[i].marker);
    }
    free(parts);
    free(numbers);
    free(path);
    fs_buf_done(&page);
    return rc;
}

/* ---- all of it ---- */

static const char *name_candidate(const void *ud, size_t i)
{
    const fs_chain *c = ud;

    return i < c->n ? c->stages[i].name : NULL;
}

static fs_status find_stage(const fs_chain *c, const char *name, size_t *ret, fs_error *err)
{
    const char *near;

    for (*ret = 0; *ret < c->n; ++*ret)
        if (strcmp(c->stages[*ret].name, name) == 0)
            return FS_OK;
    near = fs_suggest(name, name_candidate, c);
    return fs_fail(err, FS_ERR_ARGUMENT, "'%s' has no stage '%.60s'%s%s%s", c->path, name, near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static fs_status take(fs_chain *c, stage *s, const fs_chain_options *o, fs_error *err)
{
    fs_status rc;

    if (o->dry_run)
        return preview(c, s, o, err);
    if (s->done)
        return FS_OK;
    rc = check_needs(c, s, err);
    if (!rc)
        rc = s->folder ? run_training(s, o, err) : run_step(s, o, err);
    if (rc)
        return s->folder || rc == FS_ERR_INTERRUPTED ? rc : fs_fail_prefix(err, "stage '%s'", s->name);
    s->done = true;
    return s->folder ? write_report(c, err) : FS_OK;
}

fs_status fs_chain_run(fs_chain *c, const fs_chain_options *o, fs_error *err)
{
    size_t first = 0, last = c->n - 1;
    fs_status rc = FS_OK;

    if (o->only && o->until)
        return fs_fail(err, FS_ERR_ARGUMENT, "--stage and --until exclude each other");
    if (o->only || o->until)
        rc = find_stage(c, o->only ? o->only : o->until, &last, err);
    if (o->only)
        first = last;
    for (size_t i = 0; i < c->n && !rc; i++)
        rc = look_whether_done(&c->stages[i], err);
    if (!rc && !o->dry_run)
        rc = fs_folder_make(c->out, 0700, err);
    for (size_t i = first; i <= last && !rc; i++)
        rc = take(c, &c->stages[i], o, err);
    return rc || o->dry_run ? rc : write_report(c, err);
}
