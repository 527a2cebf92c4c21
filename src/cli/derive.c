/* See the header. */
#include "cli/derive.h"

#include "base/file.h"
#include "cli/interrupt.h"
#include "cli/origin.h"
#include "cli/retrain.h"
#include "cli/step.h"
#include "text/json_text.h"
#include "train/history.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const model_files[] = { "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", NULL };
static const char *const tokenizer_files[] = { "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", NULL };

/* NULL: the stage makes a model, whose record is another's work (cli/make.h). */
static const char *verb_of(const char *stage)
{
    if (strcmp(stage, "convert") == 0 || strcmp(stage, "quantize") == 0)
        return NULL;
    return strcmp(stage, "eval") == 0 ? "eval" : strcmp(stage, "tokenize") == 0 ? "tokenise" : "data";
}

static const fs_command *command_of(const fs_step_kind *k)
{
    fs_step s;

    fs_step_begin(&s, k);
    return s.command;
}

/* ---- what is read ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static fs_status tell_file(fs_derive *d, const char *path, const char *kind, const char *name, fs_error *err)
{
    fs_buf what = { 0 };
    fs_status rc = fs_buf_printf(&what, err, "%s %s", kind, name);

    if (!rc)
        rc = fs_provenance_data(&d->record, path, what.data, err);
    fs_buf_done(&what);
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Every GGUF of a folder, by name. */
static fs_status tell_ggufs(fs_derive *d, const char *folder, const char *kind, fs_error *err)
{
    DIR *dir = opendir(folder);
    struct dirent *e;
    char **names = NULL;
    size_t n = 0;
    fs_status rc = dir ? FS_OK : fs_fail_errno(err, errno, "cannot read '%s'", folder);

    while (!rc && (e = readdir(dir)) != NULL) {
        char **more = fs_ends_with(e->d_name, ".gguf") ? realloc(names, (n + 1) * sizeof *names) : NULL;
        if (!fs_ends_with(e->d_name, ".gguf"))
            continue;
        names = more ? more : names;
        if (!more || !(names[n++] = strdup(e->d_name)))
            rc = fs_fail_memory(err, 256);
    }
    if (n > 1 && !rc)
        qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        char *path = rc ? NULL : fs_path_join(folder, names[i]);
        if (!rc)
            rc = path ? tell_file(d, path, kind, names[i], err) : fs_fail_memory(err, strlen(folder));
        free(path);
        free(names[i]);
    }
    free(names);
    if (dir)
        closedir(dir);
    return rc;
}

/* Those of names that a folder has; where the first is not there its GGUFs. */
static fs_status tell_folder(fs_derive *d, const char *folder, const char *kind, const char *const *names, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; names[i] && !rc; i++) {
        char *path = fs_path_join(folder, names[i]);
        bool there = path && fs_file_exists(path);
        if (!path)
            rc = fs_fail_memory(err, strlen(folder));
        else if (there)
            rc = tell_file(d, path, kind, names[i], err);
        else if (i == 0)
            rc = tell_ggufs(d, folder, kind, err);
        free(path);
        if (i == 0 && !there)
            break;
    }
    return rc;
}

static fs_status tell_model(fs_derive *d, const char *name, fs_error *err)
{
    fs_roots roots = { 0 };
    fs_pool *pool = NULL;
    char *path = NULL;
    fs_status rc = fs_model_path(name, &path, err);

    if (!rc)
        rc = fs_pool_new(0, &pool, err);
    if (!rc && (rc = fs_origin_roots(path, pool, &roots, err)) == FS_ERR_NUMERIC)
        fs_fail(err, rc, "'%s' has a NaN, so that no record can name it: --no-record", name);
    if (!rc)
        rc = fs_provenance_parent(&d->record, path, &roots, err);
    if (!rc)
        rc = fs_file_is_folder(path) ? tell_folder(d, path, "model", model_files, err) : tell_file(d, path, "model", base_name(path), err);
    fs_roots_done(&roots);
    fs_pool_free(pool);
    free(path);
    return rc;
}

static fs_status tell_tokenizer(fs_derive *d, const char *name, fs_error *err)
{
    char *path = NULL;
    fs_status rc = fs_model_path(name, &path, err);

    if (!rc)
        rc = fs_file_is_folder(path) ? tell_folder(d, path, "tokenizer", tokenizer_files, err) : tell_file(d, path, "tokenizer-file", base_name(path), err);
    free(path);
    return rc;
}

/* FILE=WEIGHT: the file as a source, and the weight behind those in weights. */
static fs_status tell_weighed(fs_derive *d, const char *word, fs_buf *weights, fs_error *err)
{
    const char *equals = strrchr(word, '=');
    char *path;
    fs_status rc;

    if (!equals)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.100s' is not like FILE=WEIGHT, with a weight above 0", word);
    path = strndup(word, (size_t)(equals - word));
    rc = path ? tell_file(d, path, "source", base_name(path), err) : fs_fail_memory(err, strlen(word));
    if (!rc)
        rc = fs_buf_printf(weights, err, "%s%s", weights->n_bytes ? "," : "", equals + 1);
    free(path);
    return rc;
}

static fs_status tell_argument(fs_derive *d, const char *key, fs_step_form form, const char *word, fs_buf *weights, fs_error *err)
{
    if (form == FS_STEP_WORD)
        return fs_record_add(&d->record, err, FS_RECORD_RECIPE, "%s %s", key, word);
    if (form == FS_STEP_WEIGHTS)
        return tell_weighed(d, word, weights, err);
    if (form == FS_STEP_PATH && strcmp(key, "model") == 0)
        return tell_model(d, word, err);
    if (form == FS_STEP_PATH && strcmp(key, "tokenizer") == 0)
        return tell_tokenizer(d, word, err);
    return tell_file(d, word, "source", base_name(word), err);
}

static fs_status tell_arguments(fs_derive *d, const fs_step_kind *k, fs_error *err)
{
    int at = 0, end = d->args->n - (d->args->n > 0 && d->args->items[d->args->n - 1] == d->out);
    fs_buf weights = { 0 };
    const char *key;
    fs_step_form form;
    fs_status rc = FS_OK;

    for (size_t i = 0; !rc && (key = fs_step_argument(k, i, &form)) != NULL; i++) {
        bool several = form == FS_STEP_PATHS || form == FS_STEP_WEIGHTS;
        do
            rc = tell_argument(d, key, form, d->args->items[at++], &weights, err);
        while (several && at < end && !rc);
    }
    if (!rc && weights.n_bytes)
        rc = fs_record_add(&d->record, err, FS_RECORD_RECIPE, "weights %s", weights.data);
    fs_buf_done(&weights);
    return rc;
}

/* Paths of options: files with ';' between. */
static fs_status tell_option_files(fs_derive *d, const fs_option *o, fs_error *err)
{
    char *list = *o->to.str ? strdup(*o->to.str) : NULL, *next;
    fs_status rc = list || !*o->to.str ? FS_OK : fs_fail_memory(err, strlen(*o->to.str));

    for (char *path = list ? strtok_r(list, ";", &next) : NULL; path && !rc; path = strtok_r(NULL, ";", &next))
        rc = tell_file(d, path, o->name, base_name(path), err);
    free(list);
    return rc;
}

fs_status fs_derive_begin(fs_derive *d, const char *stage, const fs_args *args, const char *out, fs_error *err)
{
    const fs_step_kind *k = fs_step_kind_of(stage);
    fs_status rc;

    *d = (fs_derive){ .stage = stage, .out = out, .args = args };
    fs_interrupt_catch();
    rc = fs_record_add(&d->record, err, FS_RECORD_VERB, "%s", verb_of(stage));
    if (!rc)
        rc = tell_arguments(d, k, err);
    for (const fs_option *o = command_of(k)->set.options; o->kind != FS_OPTION_END && !rc; o++)
        if (fs_step_is_path(o) && strcmp(o->name, "out") != 0)
            rc = tell_option_files(d, o, err);
    return rc;
}

void fs_derive_done(fs_derive *d)
{
    fs_record_done(&d->record);
    *d = (fs_derive){ 0 };
}

/* ---- the recipe ---- */

/* The shortest decimal that reads as x again. */
static void write_float(double x, char ret[40])
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(ret, 40, "%.*g", digits, x);
        if (strtod(ret, NULL) == x)
            return;
    }
}

/* A word of a list of words stands as it is; any other text in quotes, as JSON and YAML have them. */
static fs_status tell_text(fs_derive *d, const fs_option *o, fs_error *err)
{
    const char *text = *o->to.str;
    fs_buf quoted = { 0 };
    fs_status rc;

    if (!text)
        return FS_OK;
    if (strchr(o->arg, '|') && text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-")] == 0)
        return fs_record_add(&d->record, err, FS_RECORD_RECIPE, "%s %s", o->name, text);
    rc = fs_json_quote(&quoted, fs_bytes_str(text), err);
    if (!rc)
        rc = fs_record_add(&d->record, err, FS_RECORD_RECIPE, "%s %s", o->name, quoted.data);
    fs_buf_done(&quoted);
    return rc;
}

static fs_status tell_option(fs_derive *d, const fs_option *o, fs_error *err)
{
    char number[40];

    switch (o->kind) {
    case FS_OPTION_STR:
        return tell_text(d, o, err);
    case FS_OPTION_INT:
        return fs_record_add(&d->record, err, FS_RECORD_RECIPE, "%s %d", o->name, *o->to.i);
    case FS_OPTION_U64:
        return fs_record_add(&d->record, err, FS_RECORD_RECIPE, "%s %" PRIu64, o->name, *o->to.u64);
    case FS_OPTION_FLOAT:
        write_float(*o->to.f, number);
        return fs_record_add(&d->record, err, FS_RECORD_RECIPE, "%s %s", o->name, number);
    default:
        return fs_record_add(&d->record, err, FS_RECORD_RECIPE, "%s %s", o->name, *o->to.flag ? "true" : "false");
    }
}

fs_status fs_derive_recipe(const fs_record *r, fs_bytes record_text, fs_buf *out, fs_error *err)
{
    fs_root id;
    char hex[65];
    fs_status rc = fs_record_id(record_text, &id, err);

    fs_root_hex(&id, hex);
    if (!rc)
        rc = fs_buf_printf(out, err, "# record %s\n", hex);
    return rc ? rc : fs_history_recipe(r, out, err);
}

static fs_status write_recipe(const char *out, fs_error *err)
{
    fs_provenance_paths paths = { 0 };
    fs_record record = { 0 };
    fs_buf record_text = { 0 }, text = { 0 };
    fs_status rc = fs_provenance_paths_of(out, &paths, err);

    if (!rc)
        rc = fs_provenance_read(out, &record, &record_text, err);
    if (!rc)
        rc = fs_derive_recipe(&record, fs_buf_bytes(&record_text), &text, err);
    if (!rc)
        rc = fs_file_write_atomic(paths.recipe, fs_buf_bytes(&text), err);
    fs_record_done(&record);
    fs_buf_done(&record_text);
    fs_buf_done(&text);
    fs_provenance_paths_done(&paths);
    return rc;
}

fs_status fs_derive_end(fs_derive *d, fs_error *err)
{
    const fs_step_kind *k = d->stage ? fs_step_kind_of(d->stage) : NULL;
    fs_roots roots = { 0 };
    fs_pool *pool = NULL;
    fs_status rc;

    if (!k)
        return FS_OK;
    rc = fs_origin_begin(&d->record, err);
    if (!rc)
        rc = fs_record_add(&d->record, err, FS_RECORD_RECIPE, "stage %s", d->stage);
    for (const fs_option *o = command_of(k)->set.options; o->kind != FS_OPTION_END && !rc; o++)
        if (fs_step_decides(k, o))
            rc = tell_option(d, o, err);
    if (!rc)
        rc = fs_pool_new(0, &pool, err);
    if (!rc)
        rc = fs_provenance_data_roots(d->out, pool, NULL, &roots, err);
    if (!rc)
        rc = fs_provenance_end(&d->record, d->out, &roots, err);
    if (!rc)
        rc = write_recipe(d->out, err);
    fs_roots_done(&roots);
    fs_pool_free(pool);
    return rc;
}

/* ---- again: what is read ---- */

struct again {
    fs_derive_again *o;
    const fs_record *r;
    size_t at; /* the next line data */
    const char *weights; /* of the files that are still to come */
    fs_step step;
    fs_buf against;
};

static void wrong(fs_derive_again *o, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void wrong(fs_derive_again *o, const char *format, ...)
{
    fs_error e;
    va_list args;

    va_start(args, format);
    fs_fail_va(&e, FS_ERR_FORMAT, format, args); /* without control characters */
    va_end(args);
    o->say(o->ud, e.message);
    o->n_wrong++;
}

/* The next data line's name, if it is of that kind: "source NAME". */
static const char *next_of(const struct again *a, const char *kind, fs_root *ret_hash)
{
    const char *value = fs_record_get(a->r, FS_RECORD_DATA, a->at), *what = value ? fs_record_hashed(value, ret_hash) : NULL;
    size_t n = strlen(kind);

    return what && strncmp(what, kind, n) == 0 && what[n] == ' ' && what[n + 1] ? what + n + 1 : NULL;
}

/* A link in the folder `in` of the work folder, called as the record calls it, to the file in data that has the hash. */
static fs_status link_input(struct again *a, const char *in, const char *name, const fs_root *hash, char **ret, fs_error *err)
{
    char *found = NULL, *real = NULL, *folder = fs_path_join(a->o->work, in), *path = NULL, hex[65];
    fs_status rc = folder ? FS_OK : fs_fail_memory(err, strlen(in));

    fs_root_hex(hash, hex);
    if (!rc && (strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0))
        rc = fs_fail(err, FS_ERR_FORMAT, "the record names a file '%.200s', which is no plain name", name);
    if (!rc && !a->o->data)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "the record has data '%.200s', whose SHA-256 is %s: --data tells where to look for it", name, hex);
    if (!rc)
        rc = fs_retrain_find(a->o->data, hash, name, &found, NULL, err);
    if (!rc && !found)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "'%s' has no file whose SHA-256 is %s: the record's '%.200s'", a->o->data, hex, name);
    if (!rc)
        rc = fs_folder_make(folder, 0700, err);
    if (!rc && (!(real = realpath(found, NULL)) || !(path = fs_path_join(folder, name)) || symlink(real, path) != 0))
        rc = fs_fail_errno(err, errno, "cannot link '%s' into '%s'", found, folder);
    free(found);
    free(real);
    free(folder);
    if (rc || !ret)
        free(path);
    else
        *ret = path;
    return rc;
}

static fs_status link_next(struct again *a, const char *kind, char **ret, fs_error *err)
{
    fs_root hash;
    const char *name = next_of(a, kind, &hash);
    char in[32];

    if (!name)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "the record's data is not what this program's stage '%s' reads: it wants '%s' as number %zu",
                       fs_step_stage(a->step.kind), kind, a->at + 1);
    snprintf(in, sizeof in, "in-%zu", a->at++);
    return link_input(a, in, name, &hash, ret, err);
}

/* The folder of a tokenizer's files, or its one file. */
static fs_status put_tokenizer(struct again *a, fs_error *err)
{
    fs_root hash;
    const char *name;
    char *path = NULL;
    fs_status rc = FS_OK;

    if (next_of(a, "tokenizer-file", &hash)) {
        rc = link_next(a, "tokenizer-file", &path, err);
        return rc ? rc : fs_step_push(&a->step, path, err);
    }
    if (!next_of(a, "tokenizer", &hash))
        return fs_fail(err, FS_ERR_UNSUPPORTED, "the record names no tokenizer");
    for (; !rc && (name = next_of(a, "tokenizer", &hash)) != NULL; a->at++)
        rc = link_input(a, "tokenizer", name, &hash, NULL, err);
    return rc ? rc : fs_step_push(&a->step, fs_path_join(a->o->work, "tokenizer"), err);
}

/* The parent's weights, and what else of it the record names. */
static fs_status check_model(struct again *a, const char *path, const fs_root *want, fs_error *err)
{
    fs_roots roots = { 0 };
    fs_root hash, have;
    const char *name;
    char hex[65], want_hex[65];
    fs_status rc = fs_origin_roots(path, a->o->pool, &roots, err);

    if (rc)
        return rc;
    fs_root_hex(want, want_hex);
    fs_root_hex(&roots.model, hex);
    if (!fs_root_equal(want, &roots.model))
        wrong(a->o, "the parent's root is %s, the record says %s", hex, want_hex);
    fs_roots_done(&roots);
    for (; !rc && (name = next_of(a, "model", &hash)) != NULL; a->at++) {
        char *file = fs_file_is_folder(path) ? fs_path_join(path, name) : strdup(path);
        if (!file)
            rc = fs_fail_memory(err, strlen(path));
        else if (!fs_file_exists(file))
            wrong(a->o, "the parent '%s' has no '%.100s'", path, name);
        else if ((rc = fs_provenance_hash(file, &have, err)) == FS_OK && !fs_root_equal(&hash, &have))
            wrong(a->o, "the parent's '%.100s' is not the record's", name);
        free(file);
    }
    return rc;
}

static fs_status put_model(struct again *a, fs_error *err)
{
    const char *value = fs_record_get(a->r, FS_RECORD_PARENT, 0);
    char *path = NULL;
    fs_root root;
    fs_status rc = FS_OK;

    if (!value || fs_record_get(a->r, FS_RECORD_PARENT, 1))
        return fs_fail(err, FS_ERR_UNSUPPORTED, "the record has %s parent, one is wanted to do it again", value ? "more than one" : "no");
    fs_record_parent(value, &root);
    rc = a->o->n_parents ? fs_model_path(a->o->parents[0], &path, err) : fs_retrain_find_model(a->o->data, &root, &path, err);
    if (!rc)
        rc = check_model(a, path, &root, err);
    if (rc) {
        free(path);
        return rc;
    }
    return fs_step_push(&a->step, path, err);
}

static fs_status put_word(struct again *a, const char *key, fs_error *err)
{
    const char *word = fs_record_recipe(a->r, key);

    if (!word || *word == '-')
        return fs_fail(err, FS_ERR_FORMAT, "the record's recipe has no '%s' that could be one", key);
    return fs_step_push(&a->step, strdup(word), err);
}

static fs_status put_weighed(struct again *a, fs_error *err)
{
    size_t n = strcspn(a->weights, ",");
    fs_buf word = { 0 };
    char *path = NULL;
    fs_status rc = link_next(a, "source", &path, err);

    if (!rc)
        rc = fs_buf_printf(&word, err, "%s=%.*s", path, (int)n, a->weights);
    a->weights += n + (a->weights[n] == ',');
    free(path);
    if (rc) {
        fs_buf_done(&word);
        return rc;
    }
    return fs_step_push(&a->step, word.data, err);
}

static fs_status put_argument(struct again *a, const char *key, fs_step_form form, fs_error *err)
{
    char *path = NULL;
    fs_root hash;
    fs_status rc;

    if (form == FS_STEP_WORD)
        return put_word(a, key, err);
    if (form == FS_STEP_PATH && strcmp(key, "model") == 0)
        return put_model(a, err);
    if (form == FS_STEP_PATH && strcmp(key, "tokenizer") == 0)
        return put_tokenizer(a, err);
    do {
        rc = form == FS_STEP_WEIGHTS ? put_weighed(a, err) : link_next(a, "source", &path, err);
        if (!rc && form != FS_STEP_WEIGHTS)
            rc = fs_step_push(&a->step, path, err);
    } while (!rc && form != FS_STEP_PATH && next_of(a, "source", &hash));
    return rc;
}

/* ---- again: the options ---- */

static const fs_option *option_of(const fs_command *c, const char *value)
{
    size_t n = strcspn(value, " ");

    for (const fs_option *o = c->set.options; o->kind != FS_OPTION_END; o++)
        if (strlen(o->name) == n && strncmp(o->name, value, n) == 0)
            return o;
    return NULL;
}

static bool is_argument(const fs_step_kind *k, const char *value)
{
    const char *key;
    size_t n = strcspn(value, " ");
    fs_step_form form;

    for (size_t i = 0; (key = fs_step_argument(k, i, &form)) != NULL; i++)
        if (strlen(key) == n && strncmp(key, value, n) == 0)
            return form == FS_STEP_WORD;
    return (n == 5 && strncmp(value, "stage", 5) == 0) || (n == 7 && strncmp(value, "weights", 7) == 0 && fs_step_argument(k, 0, &form) && form == FS_STEP_WEIGHTS);
}

static fs_status put_option(struct again *a, const char *value, fs_error *err)
{
    const fs_option *o = option_of(a->step.command, value);
    const char *text = value + strcspn(value, " ");
    fs_buf word = { 0 };
    fs_status rc;

    text += *text == ' ';
    if (!o || !fs_step_decides(a->step.kind, o))
        return fs_fail(err, FS_ERR_UNSUPPORTED, "the record's recipe has '%.80s', which this program's stage '%s' does not know", value, fs_step_stage(a->step.kind));
    if (o->kind == FS_OPTION_FLAG) {
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return fs_fail(err, FS_ERR_FORMAT, "the record's recipe has '%.80s', which is neither true nor false", value);
        rc = fs_buf_printf(&word, err, "--%s%s", *text == 't' ? "" : "no-", o->name);
    } else {
        rc = fs_buf_printf(&word, err, "--%s=", o->name);
        if (!rc)
            rc = o->kind == FS_OPTION_STR && *text == '"' ? fs_json_text_unquote(fs_bytes_str(text), &word, err) : fs_buf_append_str(&word, text, err);
    }
    if (rc) {
        fs_buf_done(&word);
        return rc;
    }
    return fs_step_push(&a->step, word.data, err);
}

static fs_status put_options(struct again *a, fs_error *err)
{
    const char *value;
    fs_root hash;
    char *path = NULL;
    fs_status rc = FS_OK;

    for (size_t i = 0; !rc && (value = fs_record_get(a->r, FS_RECORD_RECIPE, i)) != NULL; i++)
        if (!is_argument(a->step.kind, value))
            rc = put_option(a, value, err);
    while (!rc && next_of(a, "against", &hash)) {
        rc = link_next(a, "against", &path, err);
        if (!rc)
            rc = fs_buf_printf(&a->against, err, "%s%s", a->against.n_bytes ? ";" : "--against=", path);
        free(path);
        path = NULL;
    }
    if (!rc && a->against.n_bytes) {
        rc = fs_step_push(&a->step, a->against.data, err);
        a->against = (fs_buf){ 0 };
    }
    if (!rc && fs_record_get(a->r, FS_RECORD_DATA, a->at))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "the record has data that this program's stage '%s' does not know: '%.120s'", fs_step_stage(a->step.kind),
                     fs_record_get(a->r, FS_RECORD_DATA, a->at));
    return rc ? rc : fs_step_push(&a->step, strdup("--no-record"), err);
}

/* ---- again: comparing ---- */

/* Where two files depart: the line of text, the byte of anything else. */
static fs_status tell_departure(fs_derive_again *o, const char *name, const char *have, const char *again, fs_error *err)
{
    fs_map a = { 0 }, b = { 0 };
    size_t at = 0, line = 1, n;
    bool text = fs_ends_with(name, ".jsonl") || fs_ends_with(name, ".json");
    fs_status rc = fs_map_open(&a, have, err);

    if (!rc)
        rc = fs_map_open(&b, again, err);
    n = a.bytes.n_bytes < b.bytes.n_bytes ? a.bytes.n_bytes : b.bytes.n_bytes;
    for (; !rc && at < n && a.bytes.data[at] == b.bytes.data[at]; at++)
        line += a.bytes.data[at] == '\n';
    if (!rc && (at < n || a.bytes.n_bytes != b.bytes.n_bytes)) {
        if (text)
            wrong(o, "'%s' done again departs in line %zu", name, line);
        else
            wrong(o, "'%s' done again departs at byte %zu", name, at);
    }
    fs_map_close(&a);
    fs_map_close(&b);
    return rc;
}

static fs_status compare(fs_derive_again *o, const fs_record *r, const char *again, fs_error *err)
{
    fs_roots roots = { 0 };
    fs_root want;
    size_t before = o->n_wrong;
    fs_status rc = fs_provenance_data_roots(again, o->pool, NULL, &roots, err);

    if (rc)
        return rc;
    fs_record_result(r, &want);
    if (!fs_root_equal(&want, &roots.model)) {
        const char *value;
        fs_root hash;
        for (size_t i = 0; !rc && (value = fs_record_get(r, FS_RECORD_FILE, i)) != NULL; i++) {
            const char *name = fs_record_hashed(value, &hash);
            bool folder = fs_file_is_folder(o->path);
            char *a = folder ? fs_path_join(o->path, name) : strdup(o->path), *b = folder ? fs_path_join(again, name) : strdup(again);
            if (!a || !b)
                rc = fs_fail_memory(err, strlen(again));
            else if (!fs_file_exists(b))
                wrong(o, "'%s' is not made again", name);
            else
                rc = tell_departure(o, name, a, b, err);
            free(a);
            free(b);
        }
        if (!rc && o->n_wrong == before)
            wrong(o, "done again it has another root than the record's");
    }
    fs_roots_done(&roots);
    return rc;
}

static fs_status run_again(struct again *a, fs_error *err)
{
    bool folder = fs_file_is_folder(a->o->path);
    char *out = fs_path_join(a->o->work, folder ? "again" : fs_ends_with(a->o->path, ".json") ? "again.json" : "again.jsonl");
    char *said = fs_path_join(a->o->work, "said");
    fs_status rc = out && said ? fs_step_push_out(&a->step, out, err) : fs_fail_memory(err, strlen(a->o->work));

    if (!rc)
        rc = put_options(a, err);
    if (!rc && a->o->n_wrong == 0)
        rc = fs_step_run(&a->step, said, a->o->n_threads, a->o->isa, err);
    if (!rc && a->o->n_wrong == 0)
        rc = compare(a->o, a->r, out, err);
    free(out);
    free(said);
    return rc;
}

/* The folders that were made in the work folder. */
static void clean(const char *work)
{
    DIR *d = opendir(work);
    struct dirent *e;

    while (d && (e = readdir(d)) != NULL) {
        char *path = e->d_name[0] == '.' ? NULL : fs_path_join(work, e->d_name);
        if (path && fs_file_is_folder(path))
            fs_folder_remove(path);
        free(path);
    }
    if (d)
        closedir(d);
}

fs_status fs_derive_do_again(fs_derive_again *o, const fs_record *r, fs_error *err)
{
    const char *stage = fs_record_recipe(r, "stage"), *key;
    const fs_step_kind *k = stage ? fs_step_kind_of(stage) : NULL;
    struct again a = { .o = o, .r = r, .weights = fs_record_recipe(r, "weights") };
    fs_step_form form;
    fs_status rc = FS_OK;

    if (!k || !verb_of(stage) || strcmp(verb_of(stage), fs_record_get(r, FS_RECORD_VERB, 0)) != 0)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "the record is of a stage that this program does not know");
    a.weights = a.weights ? a.weights : "";
    fs_step_begin(&a.step, k);
    for (size_t i = 0; !rc && (key = fs_step_argument(k, i, &form)) != NULL; i++)
        rc = put_argument(&a, key, form, err);
    if (!rc)
        rc = run_again(&a, err);
    clean(o->work);
    fs_buf_done(&a.against);
    fs_step_done(&a.step);
    return rc;
}
