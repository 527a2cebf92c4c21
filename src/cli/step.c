/* See the header. */
#include "cli/step.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGS_MAX 3

struct argument {
    const char *key; /* NULL: no more */
    fs_step_form form;
};

struct fs_step_kind {
    const char *stage, *command;
    struct argument args[ARGS_MAX]; /* before OUT */
    const char *suffix;
    bool out_option; /* OUT is --out, not the last argument */
};

static const fs_step_kind kinds[] = {
    { "make", "data make", { { "task", FS_STEP_WORD } }, ".jsonl", false },
    { "check", "data check", { { "task", FS_STEP_WORD }, { "file", FS_STEP_PATH } }, ".jsonl", false },
    { "reject", "data reject", { { "model", FS_STEP_PATH }, { "problems", FS_STEP_PATH } }, ".jsonl", false },
    { "dedup", "data dedup", { { "files", FS_STEP_PATHS } }, ".jsonl", false },
    { "decontaminate", "data decontaminate", { { "files", FS_STEP_PATHS } }, ".jsonl", false },
    { "filter", "data filter", { { "files", FS_STEP_PATHS } }, ".jsonl", false },
    { "mix", "data mix", { { "files", FS_STEP_WEIGHTS } }, ".jsonl", false },
    { "tokenizer", "tokenizer train", { { "files", FS_STEP_PATHS } }, "", false },
    { "tokenize", "data tokenize", { { "tokenizer", FS_STEP_PATH }, { "files", FS_STEP_PATHS } }, "", false },
    { "eval", "eval", { { "model", FS_STEP_PATH }, { "suite", FS_STEP_PATH } }, ".jsonl", true },
    { "convert", "convert", { { "model", FS_STEP_PATH } }, "", false },
    { "quantize", "quantize", { { "model", FS_STEP_PATH } }, "", false },
};

const fs_step_kind *fs_step_kind_of(const char *stage)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].stage, stage) == 0)
            return &kinds[i];
    return NULL;
}

const char *fs_step_word(size_t i)
{
    return i < sizeof kinds / sizeof *kinds ? kinds[i].stage : NULL;
}

const char *fs_step_stage(const fs_step_kind *k)
{
    return k->stage;
}

const char *fs_step_argument(const fs_step_kind *k, size_t i, fs_step_form *ret_form)
{
    if (i >= ARGS_MAX || !k->args[i].key)
        return NULL;
    *ret_form = k->args[i].form;
    return k->args[i].key;
}

const char *fs_step_suffix(const fs_step_kind *k, struct json_object *keys)
{
    struct json_object *type = fs_json_member(keys, "type");
    const char *word = json_object_is_type(type, json_type_string) ? json_object_get_string(type) : "Q4_K_M";

    return strcmp(k->stage, "quantize") == 0 && strncmp(word, "FP", 2) != 0 ? ".gguf" : k->suffix;
}

/* ---- the command's options ---- */

/* What the run as a whole decides. */
static bool is_kept_back(const fs_step_kind *k, const char *option)
{
    return strcmp(option, "json") == 0 || strcmp(option, "threads") == 0 || strcmp(option, "isa") == 0 || (k->out_option && strcmp(option, "out") == 0);
}

bool fs_step_is_path(const fs_option *o)
{
    return strcmp(o->name, "against") == 0 || strcmp(o->name, "adapter") == 0 || strcmp(o->arg ? o->arg : "", "FILE") == 0;
}

bool fs_step_decides(const fs_step_kind *k, const fs_option *o)
{
    return !is_kept_back(k, o->name) && !fs_step_is_path(o) && o->kind != FS_OPTION_SIZE && strcmp(o->name, "batch") != 0 && strcmp(o->name, "no-record") != 0;
}

static const fs_option *find_option(const fs_step_kind *k, const fs_command *c, const char *key)
{
    char name[64];
    size_t n = strlen(key);

    if (n >= sizeof name)
        return NULL;
    for (size_t i = 0; i <= n; i++)
        name[i] = key[i] == '_' ? '-' : key[i];
    for (const fs_option *o = c->set.options; o->kind != FS_OPTION_END; o++)
        if (strcmp(o->name, name) == 0)
            return is_kept_back(k, name) ? NULL : o;
    return NULL;
}

static bool has_option(const fs_command *c, const char *name)
{
    for (const fs_option *o = c->set.options; o->kind != FS_OPTION_END; o++)
        if (strcmp(o->name, name) == 0)
            return true;
    return false;
}

typedef union value {
    const char *str;
    int i;
    uint64_t u64;
    double f;
    bool flag;
} value;

/* A command's variables hold its defaults before it is parsed, and shall again for the next stage. */
static void swap(const fs_command *c, value *values, bool restore)
{
    static const size_t sizes[] = { [FS_OPTION_STR] = sizeof(char *), [FS_OPTION_INT] = sizeof(int), [FS_OPTION_U64] = sizeof(uint64_t),
                                    [FS_OPTION_FLOAT] = sizeof(double), [FS_OPTION_FLAG] = sizeof(bool), [FS_OPTION_SIZE] = sizeof(uint64_t) };

    for (size_t i = 0; c->set.options[i].kind != FS_OPTION_END; i++) {
        const fs_option *o = &c->set.options[i];
        void *to;
        memcpy(&to, &o->to, sizeof to);
        memcpy(restore ? to : &values[i], restore ? (void *)&values[i] : to, sizes[o->kind]);
    }
}

/* ---- the command line ---- */

fs_status fs_step_push(fs_step *s, char *word, fs_error *err)
{
    char **more = s->argc + 1 < s->capacity ? s->argv : realloc(s->argv, (size_t)(s->capacity + 32) * sizeof *more);

    if (!word || !more) {
        free(word);
        return fs_fail_memory(err, 64);
    }
    s->capacity = more == s->argv ? s->capacity : s->capacity + 32;
    s->argv = more;
    s->argv[s->argc++] = word;
    s->argv[s->argc] = NULL;
    return FS_OK;
}

struct reading {
    fs_step *s;
    const char *what;
    const fs_recipe_place *place;
    fs_error *err;
};

static fs_status push_path(struct reading *r, struct json_object *v, const char *key, fs_error *err)
{
    char *path = NULL;
    fs_status rc;

    if (!json_object_is_type(v, json_type_string) || json_object_get_string_len(v) == 0)
        return fs_fail(err, FS_ERR_FORMAT, "%s: %s is no path", r->what, key);
    rc = fs_recipe_path(r->place, json_object_get_string(v), &path, err);
    return rc ? rc : fs_step_push(r->s, path, err);
}

/* FILE=WEIGHT of a mapping's member. */
static fs_status push_weight(struct reading *r, const char *file, struct json_object *weight)
{
    fs_buf word = { 0 };
    char *path = NULL;
    fs_status rc;

    if (!json_object_is_type(weight, json_type_int) && !json_object_is_type(weight, json_type_double))
        return fs_fail(r->err, FS_ERR_FORMAT, "%s: files.%s is no weight", r->what, file);
    rc = fs_recipe_path(r->place, file, &path, r->err);
    if (!rc)
        rc = fs_buf_printf(&word, r->err, "%s=%s", path, json_object_get_string(weight));
    free(path);
    if (rc) {
        fs_buf_done(&word);
        return rc;
    }
    return fs_step_push(r->s, word.data, r->err);
}

static fs_status put_argument(struct reading *r, const struct argument *a, struct json_object *v)
{
    bool list = json_object_is_type(v, json_type_array) && json_object_array_length(v) > 0;
    bool mapping = json_object_is_type(v, json_type_object) && json_object_object_length(v) > 0;
    fs_status rc = FS_OK;

    if (!v)
        return fs_fail(r->err, FS_ERR_FORMAT, "%s: %s is missing", r->what, a->key);
    switch (a->form) {
    case FS_STEP_WORD:
        if (!json_object_is_type(v, json_type_string))
            return fs_fail(r->err, FS_ERR_FORMAT, "%s: %s is no word", r->what, a->key);
        return fs_step_push(r->s, strdup(json_object_get_string(v)), r->err);
    case FS_STEP_PATH:
        return push_path(r, v, a->key, r->err);
    case FS_STEP_PATHS:
        if (!list)
            return fs_fail(r->err, FS_ERR_FORMAT, "%s: %s is no list of files", r->what, a->key);
        for (size_t i = 0; i < json_object_array_length(v) && !rc; i++)
            rc = push_path(r, json_object_array_get_idx(v, i), a->key, r->err);
        return rc;
    default:
        if (!mapping)
            return fs_fail(r->err, FS_ERR_FORMAT, "%s: %s is no mapping of files to weights", r->what, a->key);
        json_object_object_foreach(v, file, weight)
        {
            rc = rc ? rc : push_weight(r, file, weight);
        }
        return rc;
    }
}

static fs_status put_value(struct reading *r, const fs_option *o, struct json_object *v, fs_buf *out)
{
    char *path = NULL;
    fs_status rc = FS_OK;

    if (!v || json_object_is_type(v, json_type_object) || json_object_is_type(v, json_type_array))
        return fs_fail(r->err, FS_ERR_FORMAT, "%s: %s is no single value", r->what, o->name);
    if (fs_step_is_path(o))
        rc = fs_recipe_path(r->place, json_object_get_string(v), &path, r->err);
    if (!rc)
        rc = fs_buf_append_str(out, path ? path : json_object_get_string(v), r->err);
    free(path);
    return rc;
}

/* A list's values with what the option wants between them. */
static fs_status put_values(struct reading *r, const fs_option *o, struct json_object *v, fs_buf *out)
{
    const char *between = strcmp(o->name, "budgets") == 0 ? "," : ";";
    fs_status rc = FS_OK;

    if (!json_object_is_type(v, json_type_array))
        return put_value(r, o, v, out);
    for (size_t i = 0; i < json_object_array_length(v) && !rc; i++) {
        rc = i ? fs_buf_append_str(out, between, r->err) : FS_OK;
        rc = rc ? rc : put_value(r, o, json_object_array_get_idx(v, i), out);
    }
    return rc;
}

static fs_status put_option(struct reading *r, const fs_option *o, struct json_object *v)
{
    fs_buf word = { 0 };
    fs_status rc;

    if (o->kind != FS_OPTION_FLAG) {
        rc = fs_buf_printf(&word, r->err, "--%s=", o->name);
        rc = rc ? rc : put_values(r, o, v, &word);
    } else if (json_object_is_type(v, json_type_boolean)) {
        rc = fs_buf_printf(&word, r->err, "--%s%s", json_object_get_boolean(v) ? "" : "no-", o->name);
    } else {
        rc = fs_fail(r->err, FS_ERR_FORMAT, "%s: %s is neither true nor false", r->what, o->name);
    }
    if (rc) {
        fs_buf_done(&word);
        return rc;
    }
    return fs_step_push(r->s, word.data, r->err);
}

struct candidates {
    const fs_step_kind *kind;
    const fs_command *command;
};

static const char *candidate(const void *ud, size_t i)
{
    const struct candidates *c = ud;

    for (size_t k = 0; k < ARGS_MAX && c->kind->args[k].key; k++)
        if (i-- == 0)
            return c->kind->args[k].key;
    for (const fs_option *o = c->command->set.options; o->kind != FS_OPTION_END; o++)
        if (!is_kept_back(c->kind, o->name) && i-- == 0)
            return o->name;
    return NULL;
}

static bool is_argument(const fs_step_kind *k, const char *key)
{
    for (size_t i = 0; i < ARGS_MAX && k->args[i].key; i++)
        if (strcmp(k->args[i].key, key) == 0)
            return true;
    return strcmp(key, "stage") == 0 || strcmp(key, "name") == 0;
}

static fs_status put_options(struct reading *r, struct json_object *keys)
{
    const struct candidates c = { r->s->kind, r->s->command };
    bool seeded = false;
    fs_status rc = FS_OK;

    json_object_object_foreach(keys, key, v)
    {
        const fs_option *o = find_option(c.kind, c.command, key);
        if (rc || is_argument(c.kind, key))
            continue;
        seeded = seeded || strcmp(key, "seed") == 0;
        if (o) {
            rc = put_option(r, o, v);
        } else {
            const char *near = fs_suggest(key, candidate, &c);
            rc = fs_fail(r->err, FS_ERR_FORMAT, "%s: unknown key '%.60s'%s%s%s", r->what, key, near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
        }
    }
    if (!rc && !seeded && has_option(c.command, "seed")) {
        fs_buf word = { 0 };
        rc = fs_buf_printf(&word, r->err, "--seed=%llu", (unsigned long long)r->place->seed);
        rc = rc ? rc : fs_step_push(r->s, word.data, r->err);
    }
    return rc;
}

void fs_step_begin(fs_step *ret, const fs_step_kind *k)
{
    *ret = (fs_step){ .kind = k, .command = fs_command_find(k->command) };
    assert(ret->command);
}

fs_status fs_step_push_out(fs_step *s, const char *out, fs_error *err)
{
    fs_buf word = { 0 };
    fs_status rc = fs_buf_printf(&word, err, "%s%s", s->kind->out_option ? "--out=" : "", out);

    if (rc) {
        fs_buf_done(&word);
        return rc;
    }
    return fs_step_push(s, word.data, err);
}

/* Parses the words into the command's variables; then, where it is to run, runs it. */
static fs_status parse(const fs_step *s, bool run, fs_error *err)
{
    value values[FS_OPTIONS_MAX];
    fs_args args = { 0 };
    fs_status rc;

    swap(s->command, values, false);
    rc = fs_options_parse(&s->command->set, s->argc, s->argv, NULL, NULL, &args, err);
    if (!rc && run)
        rc = s->command->run(&args, err);
    fs_args_done(&args);
    swap(s->command, values, true);
    return rc;
}

fs_status fs_step_read(fs_step *ret, const fs_step_kind *k, struct json_object *keys, const char *what, const char *out, const fs_recipe_place *place,
                       fs_error *err)
{
    struct reading r = { ret, what, place, err };
    fs_status rc = FS_OK;

    fs_step_begin(ret, k);
    for (size_t i = 0; i < ARGS_MAX && k->args[i].key && !rc; i++)
        rc = put_argument(&r, &k->args[i], fs_json_member(keys, k->args[i].key));
    if (!rc)
        rc = fs_step_push_out(ret, out, err);
    if (!rc)
        rc = put_options(&r, keys);
    if (!rc && (rc = parse(ret, false, err)))
        fs_fail_prefix(err, "%s", what);
    return rc;
}

void fs_step_done(fs_step *s)
{
    for (int i = 0; i < s->argc; i++)
        free(s->argv[i]);
    free(s->argv);
    *s = (fs_step){ 0 };
}

fs_status fs_step_show(const fs_step *s, fs_buf *out, fs_error *err)
{
    fs_status rc = fs_buf_printf(out, err, "farseek %s", s->command->set.name);

    for (int i = 0; i < s->argc && !rc; i++) {
        bool plain = s->argv[i][0] && strspn(s->argv[i], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./=,:+") == strlen(s->argv[i]);
        rc = fs_buf_printf(out, err, plain ? " %s" : " '%s'", s->argv[i]);
    }
    return rc;
}

/* ---- running ---- */

static fs_status add_common(fs_step *s, int n_threads, const char *isa, fs_error *err)
{
    fs_buf threads = { 0 }, word = { 0 };
    fs_status rc = FS_OK;

    if (n_threads > 0 && has_option(s->command, "threads")) {
        rc = fs_buf_printf(&threads, err, "--threads=%d", n_threads);
        rc = rc ? rc : fs_step_push(s, threads.data, err);
    }
    if (!rc && isa && has_option(s->command, "isa")) {
        rc = fs_buf_printf(&word, err, "--isa=%s", isa);
        rc = rc ? rc : fs_step_push(s, word.data, err);
    }
    if (!rc && has_option(s->command, "json"))
        rc = fs_step_push(s, strdup("--json"), err);
    return rc;
}

static fs_status run_into(const fs_step *s, int fd, fs_error *err)
{
    int before;
    fs_status rc;

    fflush(stdout);
    before = dup(STDOUT_FILENO);
    if (before < 0 || dup2(fd, STDOUT_FILENO) < 0)
        rc = fs_fail_errno(err, errno, "cannot redirect what '%s' says", s->command->set.name);
    else
        rc = parse(s, true, err);
    if (fflush(stdout) != 0 && !rc)
        rc = fs_fail_errno(err, errno, "cannot write what '%s' says", s->command->set.name);
    if (before >= 0) {
        dup2(before, STDOUT_FILENO);
        close(before);
    }
    return rc;
}

fs_status fs_step_run(const fs_step *s, const char *said, int n_threads, const char *isa, fs_error *err)
{
    fs_step all = { .kind = s->kind, .command = s->command };
    int fd = -1;
    fs_status rc = FS_OK;

    for (int i = 0; i < s->argc && !rc; i++)
        rc = fs_step_push(&all, strdup(s->argv[i]), err);
    if (!rc)
        rc = add_common(&all, n_threads, isa, err);
    if (!rc && (fd = open(said, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) < 0)
        rc = fs_fail_errno(err, errno, "cannot write '%s'", said);
    if (!rc)
        rc = run_into(&all, fd, err);
    if (fd >= 0)
        close(fd);
    fs_step_done(&all);
    return rc;
}
