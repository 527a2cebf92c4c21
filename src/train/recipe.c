/* See the header. */
#include "train/recipe.h"

#include "base/file.h"
#include "base/options.h"
#include "base/yaml.h"
#include "crypto/sha256.h"
#include "train/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { INTEGER, NUMBER, FLAG, PATH, WORD, GLOB, GLOBS, PATHS, GROUPS };

/* Which stages have it. */
#define PRE    (1u << FS_STAGE_PRETRAIN | 1u << FS_STAGE_SFT | 1u << FS_STAGE_DISTIL)
#define GRPO   (1u << FS_STAGE_GRPO)
#define RL     (GRPO | 1u << FS_STAGE_ON_POLICY_DISTIL)
#define OWN    (1u << FS_STAGE_ON_POLICY_DISTIL)
#define DATA   (PRE | OWN)
#define TAUGHT (1u << FS_STAGE_DISTIL | 1u << FS_STAGE_ON_POLICY_DISTIL)
#define BOTH   (PRE | RL)

struct field {
    const char *section, *key; /* section "": top level */
    enum kind kind;
    void *to; /* uint64_t, double, bool, char *, const char *, char *, fs_recipe_globs, fs_recipe by kind */
    double min, max;
    unsigned stages;
};

struct reader {
    unsigned stage;
    const char *path; /* names the recipe in sentences */
    const fs_recipe_place *place;
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
        if (strcmp(f->section, r->section) == 0 && (f->stages & r->stage) && i-- == 0)
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

fs_status fs_recipe_path(const fs_recipe_place *place, const char *text, char **ret, fs_error *err)
{
    fs_status rc;

    free(*ret);
    *ret = NULL;
    rc = place->made ? place->made(place->ud, text, ret, err) : FS_OK;
    if (rc || *ret)
        return rc;
    if (*text == '/')
        *ret = strdup(text);
    else if ((*ret = malloc(strlen(place->folder) + strlen(text) + 1)) != NULL)
        strcat(strcpy(*ret, place->folder), text);
    return *ret ? FS_OK : fs_fail_memory(err, strlen(text));
}

static fs_status glob_of(struct reader *r, const char *text, char **ret)
{
    free(*ret);
    *ret = strdup(text);
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
    case FLAG:
        if (!json_object_is_type(o, json_type_boolean))
            return fs_fail(r->err, FS_ERR_FORMAT, "%s: %s%s%s is neither true nor false", r->path, f->section, dot, f->key);
        *(bool *)f->to = json_object_get_boolean(o);
        return FS_OK;
    default:
        if (!json_object_is_type(o, json_type_string) || json_object_get_string_len(o) == 0)
            return fs_fail(r->err, FS_ERR_FORMAT, "%s: %s%s%s is no text", r->path, f->section, dot, f->key);
        if (f->kind == PATH)
            return fs_recipe_path(r->place, json_object_get_string(o), f->to, r->err);
        if (f->kind == GLOB)
            return glob_of(r, json_object_get_string(o), f->to);
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
        struct field one = { "data", "files", PATH, &recipe->files[i], 0, 0, BOTH };
        fs_status rc = read_value(r, &one, json_object_array_get_idx(o, i));
        if (rc)
            return rc;
        recipe->n_files = (int)i + 1;
    }
    return FS_OK;
}

static fs_status read_globs(struct reader *r, const struct field *f, struct json_object *o)
{
    fs_recipe_globs *globs = f->to;
    size_t n = json_object_is_type(o, json_type_array) ? json_object_array_length(o) : 0;
    fs_status rc = FS_OK;

    if (n == 0 || n > FS_RECIPE_GLOBS_MAX)
        return fs_fail(r->err, FS_ERR_FORMAT, "%s: %s%s%s is no list of 1 to %d names", r->path, f->section, *f->section ? "." : "", f->key,
                       FS_RECIPE_GLOBS_MAX);
    for (size_t i = 0; i < n && !rc; i++) {
        const struct field one = { f->section, f->key, f->kind == PATHS ? PATH : GLOB, &globs->items[i], 0, 0, f->stages };
        rc = read_value(r, &one, json_object_array_get_idx(o, i));
        globs->n = (int)i + 1;
    }
    return rc;
}

static fs_status read_section(struct reader *r, const char *section, struct json_object *object, fs_recipe *recipe);

static fs_status read_groups(struct reader *r, struct json_object *o, fs_recipe *recipe)
{
    size_t n = json_object_is_type(o, json_type_array) ? json_object_array_length(o) : 0;
    fs_status rc = FS_OK;

    if (n == 0 || n > FS_RECIPE_GLOBS_MAX)
        return fs_fail(r->err, FS_ERR_FORMAT, "%s: optimizer.groups is no list of 1 to %d groups", r->path, FS_RECIPE_GLOBS_MAX);
    for (size_t i = 0; i < n && !rc; i++) {
        fs_recipe_group *g = &recipe->groups[i];
        const struct field fields[] = {
            { "optimizer.groups", "match", GLOB, &g->match, 0, 0, BOTH },
            { "optimizer.groups", "lr_scale", NUMBER, &g->lr_scale, 0, 1e6, BOTH },
            { "optimizer.groups", "weight_decay", NUMBER, &g->weight_decay, 0, 10, BOTH },
            { "", NULL, WORD, NULL, 0, 0, 0 },
        };
        struct reader inner = { r->stage, r->path, r->place, fields, "", r->err };
        *g = (fs_recipe_group){ .lr_scale = 1, .weight_decay = -1 };
        recipe->n_groups = (int)i + 1;
        rc = read_section(&inner, "optimizer.groups", json_object_array_get_idx(o, i), recipe);
        if (!rc && !g->match)
            rc = fs_fail(r->err, FS_ERR_FORMAT, "%s: optimizer.groups.match is missing", r->path);
    }
    return rc;
}

static fs_status read_section(struct reader *r, const char *section, struct json_object *object, fs_recipe *recipe)
{
    if (!json_object_is_type(object, json_type_object))
        return fs_fail(r->err, FS_ERR_FORMAT, "%s: '%s' is no mapping", r->path, section);
    json_object_object_foreach(object, key, value) {
        const struct field *f = r->fields;
        fs_status rc;
        while (f->key && (strcmp(f->section, section) != 0 || strcmp(f->key, key) != 0 || !(f->stages & r->stage)))
            f++;
        if (!f->key)
            return fail_unknown(r, section, key);
        if (f->kind == GLOBS || f->kind == PATHS)
            rc = read_globs(r, f, value);
        else if (f->kind == GROUPS)
            rc = read_groups(r, value, recipe);
        else if (f->to)
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

bool fs_recipe_samples(const fs_recipe *r)
{
    return 1u << r->stage & RL;
}

bool fs_recipe_reads(const fs_recipe *r)
{
    return !fs_recipe_samples(r) || r->lambda < 1;
}

static const char *missing(const fs_recipe *r)
{
    if (!r->steps || !r->out)
        return r->steps ? "out" : "steps";
    if ((1u << r->stage & TAUGHT) && !r->teacher)
        return "teacher.from";
    if (fs_recipe_samples(r) && (!r->grpo.prompts || !r->grpo.group))
        return r->grpo.prompts ? "policy.group" : "policy.prompts";
    return !fs_recipe_reads(r) ? NULL : !r->n_files ? "data.files" : !r->length ? "data.length" : !r->rows ? "batch.rows" : NULL;
}

static fs_status check(const fs_recipe *r, const char *path, fs_error *err)
{
    if (missing(r))
        return fs_fail(err, FS_ERR_FORMAT, "%s: %s is missing", path, missing(r));
    if (!r->config == !r->from)
        return fs_fail(err, FS_ERR_FORMAT, "%s: model needs one of config and from", path);
    if (r->stage == FS_STAGE_SFT && (!r->from || r->data != FS_RECIPE_SHARDS))
        return fs_fail(err, FS_ERR_FORMAT, "%s: stage sft needs model.from and data.kind shards", path);
    if (r->data == FS_RECIPE_SHARDS && r->n_files != 1)
        return fs_fail(err, FS_ERR_FORMAT, "%s: data.files are %d, of kind shards it is one folder", path, r->n_files);
    if (r->length % FS_TRAIN_ROW_MULTIPLE)
        return fs_fail(err, FS_ERR_FORMAT, "%s: data.length %" PRIu32 " is no multiple of %d", path, r->length, FS_TRAIN_ROW_MULTIPLE);
    if ((r->validation_every || r->validation_rows) && !r->validation_files.n)
        return fs_fail(err, FS_ERR_FORMAT, "%s: validation.files is missing", path);
    if (r->data == FS_RECIPE_SHARDS && r->validation_files.n > 1)
        return fs_fail(err, FS_ERR_FORMAT, "%s: validation.files are %d, of kind shards it is one folder", path, r->validation_files.n);
    if (r->lora.r ? !r->lora_targets.n || r->lora.alpha == 0 : r->lora_targets.n || r->lora.alpha > 0 || r->lora_from)
        return fs_fail(err, FS_ERR_FORMAT, "%s: lora.%s is missing", path, !r->lora.r ? "r" : r->lora.alpha == 0 ? "alpha" : "targets");
    if (r->esft_rows && r->esft.p == 0)
        return fs_fail(err, FS_ERR_FORMAT, "%s: esft.p is missing", path);
    if (r->esft.p > 0 && (!r->from || r->lora.r))
        return fs_fail(err, FS_ERR_FORMAT, "%s: esft needs model.from and no lora", path);
    if (r->lora.r && !r->from)
        return fs_fail(err, FS_ERR_FORMAT, "%s: lora needs model.from", path);
    if (r->rewards.overlong > 0 && (r->rewards.overlong_tokens == 0 || r->rewards.overlong_tokens > r->grpo.max_tokens))
        return fs_fail(err, FS_ERR_FORMAT, "%s: rewards.overlong needs overlong_tokens from 1 to policy.max_tokens", path);
    if (r->schedule.lr <= 0)
        return fs_fail(err, FS_ERR_FORMAT, "%s: schedule.lr is missing", path);
    if (fs_recipe_samples(r) && (uint64_t)r->grpo.prompts * r->grpo.group > UINT32_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "%s: policy.prompts times policy.group are too many", path);
    return FS_OK;
}

/* The word among names, which end with NULL. */
static fs_status choose(const char *path, const char *key, const char *word, const char *const *names, int *ret, fs_error *err)
{
    fs_buf all = { 0 };
    fs_status rc = FS_OK;

    for (int i = 0; names[i]; i++)
        if (strcmp(names[i], word) == 0) {
            *ret = i;
            return FS_OK;
        }
    for (int i = 0; names[i] && !rc; i++)
        rc = fs_buf_printf(&all, err, "%s%s", i ? ", " : "", names[i]);
    if (!rc)
        rc = fs_fail(err, FS_ERR_FORMAT, "%s: %s '%.60s' is not known; there are %s", path, key, word, all.data);
    fs_buf_done(&all);
    return rc;
}

static const char *const stages[] = { "pretrain", "sft", "grpo", "distil", "on_policy_distil", NULL }, *const packs[] = { "cut", "whole", NULL },
                         *const kinds[] = { "text", "ids", "shards", NULL }, *const esft_scores[] = { "token", "gate", NULL },
                         *const esft_saves[] = { "adapter", "model", NULL }, *const optimizers[] = { "adamw", "muon", NULL },
                         *const scales[] = { "none", "group", "batch", NULL }, *const precisions[] = { "f32", "bf16", NULL },
                         *const recomputes[] = { "none", "layer", NULL };

static fs_status find_stage(struct json_object *json, const char *path, fs_recipe_stage *ret, fs_error *err)
{
    struct json_object *word = json_object_is_type(json, json_type_object) ? fs_json_member(json, "stage") : NULL;
    int stage = 0;
    fs_status rc;

    if (!json_object_is_type(word, json_type_string))
        return fs_fail(err, FS_ERR_FORMAT, "%s: stage is missing", path);
    rc = choose(path, "stage", json_object_get_string(word), stages, &stage, err);
    *ret = (fs_recipe_stage)stage;
    return rc;
}

/* The task comes first: what is not given is as the task has it. */
static fs_status find_task(fs_recipe *r, struct json_object *json, const char *path, fs_error *err)
{
    struct json_object *task = fs_json_member(json, "task"), *name;

    name = json_object_is_type(task, json_type_object) ? fs_json_member(task, "name") : NULL;
    if (!name && json_object_is_type(task, json_type_object) && fs_json_member(task, "file"))
        return FS_OK;
    if (!json_object_is_type(name, json_type_string))
        return fs_fail(err, FS_ERR_FORMAT, "%s: task.name is missing", path);
    r->task = fs_task_from_name(json_object_get_string(name));
    if (r->task == FS_TASK_END)
        return fs_fail(err, FS_ERR_FORMAT, "%s: there is no task '%.60s'", path, json_object_get_string(name));
    r->task_options = fs_task_defaults(r->task);
    r->task_options.split = FS_TASK_TRAIN;
    return FS_OK;
}

/* Numbers as the recipe spells them, before they go where they belong. */
struct numbers {
    uint64_t length, rows, micro_rows, lora_r, task_seed, level_min, level_max, number_max, target_max;
    uint64_t prompts, group, max_tokens, prompt_max, updates, sequences, micro_tokens, keep_mib, resamples;
    uint64_t overlong_tokens, repetition_ngram, program_memory_mib;
    double temperature;
    const char *stage, *kind, *optimizer, *esft_score, *esft_save, *pack, *schedule, *task, *judge, *loss, *scale, *precision, *recompute;
};

/* What is not said of long completions is as of short ones. */
static void settle_rewards(fs_recipe *r, const struct numbers *n)
{
    fs_problem_rewards *w = &r->rewards;

    w->by_length = !isnan(w->right_long) || !isnan(w->wrong_long);
    w->right_long = isnan(w->right_long) ? w->right : w->right_long;
    w->wrong_long = isnan(w->wrong_long) ? w->wrong : w->wrong_long;
    w->overlong_tokens = (uint32_t)n->overlong_tokens;
    w->repetition_ngram = (uint32_t)n->repetition_ngram;
    w->program.memory_bytes_max = n->program_memory_mib << 20;
}

static fs_status settle(fs_recipe *r, const struct numbers *n, const char *path, fs_error *err)
{
    int kind = 0, pack = 0, scale = 0, optimizer = 0, precision = 0, recompute = 0, esft_score = 0, esft_save = 0;
    fs_status rc = choose(path, "data.kind", n->kind, kinds, &kind, err);

    if (!rc)
        rc = choose(path, "data.pack", n->pack, packs, &pack, err);
    if (!rc)
        rc = choose(path, "optimizer.kind", n->optimizer, optimizers, &optimizer, err);
    if (!rc)
        rc = choose(path, "esft.score", n->esft_score, esft_scores, &esft_score, err);
    if (!rc)
        rc = choose(path, "esft.save", n->esft_save, esft_saves, &esft_save, err);
    if (!rc)
        rc = choose(path, "policy.scale", n->scale, scales, &scale, err);
    if (!rc)
        rc = choose(path, "precision", n->precision, precisions, &precision, err);
    if (!rc)
        rc = choose(path, "recompute", n->recompute, recomputes, &recompute, err);
    if (!rc && !fs_policy_kind_of(n->loss, &r->grpo.policy.kind))
        rc = fs_fail(err, FS_ERR_FORMAT, "%s: policy.loss '%.60s' is none of grpo, bnpo, dr_grpo, dapo, gspo, cispo", path, n->loss);
    if (!rc && !fs_schedule_kind_named(n->schedule, &r->schedule.kind))
        rc = fs_fail(err, FS_ERR_FORMAT, "%s: schedule.kind '%.60s' is none of constant, linear, cosine, wsd", path, n->schedule);
    if (rc)
        return rc;
    r->schedule.steps = r->steps;
    r->length = (uint32_t)n->length;
    r->rows = (uint32_t)n->rows;
    r->micro_rows = (uint32_t)(n->micro_rows && n->micro_rows < n->rows ? n->micro_rows : n->rows);
    r->data = (enum fs_recipe_data)kind;
    r->lora.r = (uint32_t)n->lora_r;
    r->optimizer.muon = optimizer == 1;
    r->bf16 = precision == 1;
    r->recompute = recompute == 1;
    r->esft.gate = esft_score == 1;
    r->esft_model = esft_save == 1;
    r->whole = pack == 1;
    if (fs_recipe_samples(r)) {
        fs_task_options *t = &r->task_options;
        fs_grpo_options *g = &r->grpo;
        t->seed = n->task_seed;
        t->level_min = n->level_min ? (int)n->level_min : t->level_min;
        t->level_max = n->level_max ? (int)n->level_max : t->level_max;
        t->number_max = n->number_max ? (int)n->number_max : t->number_max;
        t->target_max = n->target_max ? (int)n->target_max : t->target_max;
        g->prompts = (uint32_t)n->prompts;
        g->group = (uint32_t)n->group;
        g->max_tokens = (uint32_t)n->max_tokens;
        g->prompt_max = (uint32_t)n->prompt_max;
        g->updates = (uint32_t)n->updates;
        g->sequences_max = (uint32_t)n->sequences;
        g->micro_tokens = (uint32_t)n->micro_tokens;
        g->keep_bytes_max = (size_t)n->keep_mib << 20;
        g->temperature = (float)n->temperature;
        g->resamples = (uint32_t)n->resamples;
        settle_rewards(r, n);
        g->scale = (fs_reward_scale)scale;
        g->distil = r->stage == FS_STAGE_ON_POLICY_DISTIL;
        if (r->task_file && n->task)
            rc = fs_fail(err, FS_ERR_FORMAT, "%s: task.name and task.file exclude each other", path);
        else if (n->judge && !fs_judging_of(n->judge, &r->judging))
            rc = fs_fail(err, FS_ERR_FORMAT, "%s: task.judge '%.60s' is none of auto, task, maths, exact", path, n->judge);
        else if (!r->task_file)
            rc = fs_task_options_check(r->task, t, err);
    }
    return rc ? rc : check(r, path, err);
}

/* The tokenizer's file, where its folder is given. */
static fs_status complete_tokenizer(fs_recipe *r, fs_error *err)
{
    char *path = r->tokenizer && !fs_ends_with(r->tokenizer, ".json") ? fs_path_join(r->tokenizer, "tokenizer.json") : r->tokenizer;

    if (!path && r->tokenizer)
        return fs_fail_memory(err, strlen(r->tokenizer));
    if (path != r->tokenizer)
        free(r->tokenizer);
    r->tokenizer = path;
    return FS_OK;
}

/* Words of the program that begin with ./ are in the recipe's folder. */
static fs_status complete_program(fs_recipe *r, const fs_recipe_place *place, fs_error *err)
{
    const fs_recipe_place beside = { .folder = place->folder };
    fs_status rc = FS_OK;

    for (int i = 0; i < r->program.n && !rc; i++)
        if (strncmp(r->program.items[i], "./", 2) == 0) {
            char *path = NULL;
            rc = fs_recipe_path(&beside, *place->folder ? r->program.items[i] + 2 : r->program.items[i], &path, err);
            if (rc)
                break;
            free(r->program.items[i]);
            r->program.items[i] = path;
        }
    return rc;
}

/* ---- the canonical text ---- */

/* What changes no bit; trace_every is told as it turns out. */
static bool is_free(const struct field *f)
{
    static const char *const names[][2] = { { "", "out" }, { "", "trace_every" }, { "", "recompute" }, { "", "licence" }, { "", "signed_off_by" }, { "batch", "micro_rows" },
                                             { "policy", "sequences" }, { "policy", "micro_tokens" }, { "policy", "keep_mib" } };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i][0], f->section) == 0 && strcmp(names[i][1], f->key) == 0)
            return true;
    return false;
}

/* What has no meaning where every step learns from samples. */
static bool is_of_rows(const struct field *f)
{
    return strcmp(f->section, "data") == 0 || strcmp(f->section, "batch") == 0 || strcmp(f->key, "lambda") == 0;
}

/* The shortest spelling that reads as v. */
static fs_status put_number(fs_buf *out, double v, fs_error *err)
{
    char text[40];
    int digits = 1;

    do
        snprintf(text, sizeof text, "%.*g", digits, v);
    while (digits++ < 17 && strtod(text, NULL) != v);
    return fs_buf_append_str(out, text, err);
}

static fs_status put_globs(fs_buf *out, const fs_recipe_globs *globs, fs_error *err)
{
    fs_status rc = FS_OK;

    for (int i = 0; i < globs->n && !rc; i++) {
        rc = fs_buf_append_str(out, i ? ", " : "[", err);
        if (!rc)
            rc = fs_json_quote(out, fs_bytes_str(globs->items[i]), err);
    }
    return rc ? rc : fs_buf_append_str(out, globs->n ? "]" : "", err);
}

static fs_status put_groups(fs_buf *out, const fs_recipe *r, fs_error *err)
{
    fs_status rc = FS_OK;

    for (int i = 0; i < r->n_groups && !rc; i++) {
        const fs_recipe_group *g = &r->groups[i];
        rc = fs_buf_append_str(out, i ? ", {match: " : "[{match: ", err);
        if (!rc)
            rc = fs_json_quote(out, fs_bytes_str(g->match), err);
        if (!rc)
            rc = fs_buf_append_str(out, ", lr_scale: ", err);
        if (!rc)
            rc = put_number(out, g->lr_scale, err);
        if (!rc && g->weight_decay >= 0)
            rc = fs_buf_append_str(out, ", weight_decay: ", err);
        if (!rc && g->weight_decay >= 0)
            rc = put_number(out, g->weight_decay, err);
        if (!rc)
            rc = fs_buf_append_str(out, "}", err);
    }
    return rc ? rc : fs_buf_append_str(out, r->n_groups ? "]" : "", err);
}

/* Nothing where the value is not one that the key can be given: then it was not given, and has no meaning here. */
static fs_status put_value(fs_buf *out, const fs_recipe *r, const struct field *f, fs_error *err)
{
    double v;

    switch (f->kind) {
    case INTEGER:
        v = (double)*(const uint64_t *)f->to;
        return v >= f->min && v <= f->max ? fs_buf_printf(out, err, "%" PRIu64, *(const uint64_t *)f->to) : FS_OK;
    case NUMBER:
        v = *(const double *)f->to;
        return v >= f->min && v <= f->max ? put_number(out, v, err) : FS_OK;
    case FLAG:
        return fs_buf_append_str(out, *(const bool *)f->to ? "true" : "false", err);
    case WORD:
        return f->to && *(const char *const *)f->to ? fs_buf_append_str(out, *(const char *const *)f->to, err) : FS_OK;
    case GLOB:
        return *(char *const *)f->to ? fs_json_quote(out, fs_bytes_str(*(char *const *)f->to), err) : FS_OK;
    case GLOBS:
        return put_globs(out, f->to, err);
    case GROUPS:
        return put_groups(out, r, err);
    default:
        return FS_OK;
    }
}

static fs_status put_canonical(fs_recipe *r, const struct field *fields, fs_error *err)
{
    fs_buf value = { 0 };
    fs_status rc = FS_OK;

    for (const struct field *f = fields; f->key && !rc; f++) {
        if (!(f->stages & 1u << r->stage) || is_free(f) || (strcmp(f->section, "lora") == 0 && !r->lora.r) ||
            (strcmp(f->section, "validation") == 0 && !r->validation_files.n) || (strcmp(f->section, "esft") == 0 && r->esft.p == 0) ||
            (is_of_rows(f) && !fs_recipe_reads(r)))
            continue;
        fs_buf_clear(&value);
        rc = put_value(&value, r, f, err);
        if (!rc && value.n_bytes)
            rc = fs_buf_printf(&r->canonical, err, "%s%s%s %s\n", f->section, *f->section ? "." : "", f->key, value.data);
    }
    fs_buf_done(&value);
    return rc;
}

/* Of a task, what it has by itself is given too. */
static void give_task(struct numbers *n, const fs_recipe *r)
{
    const fs_task_options *t = &r->task_options;

    n->level_min = (uint64_t)t->level_min;
    n->level_max = (uint64_t)t->level_max;
    n->number_max = (uint64_t)t->number_max;
    n->target_max = (uint64_t)t->target_max;
}

static fs_status read_all(fs_recipe *r, struct json_object *json, const char *path, const fs_recipe_place *place, fs_error *err)
{
    struct numbers n = { .kind = "text", .optimizer = "adamw", .esft_score = "token", .esft_save = "adapter", .pack = "cut", .schedule = "wsd", .loss = "dr_grpo",
                         .scale = "none", .precision = "f32", .recompute = "none", .max_tokens = 64, .prompt_max = 64, .updates = 1, .sequences = 64, .micro_tokens = 4096, .keep_mib = 512, .temperature = 1,
                         .repetition_ngram = 3 };
    const struct field fields[] = {
        { "", "stage", WORD, &n.stage, 0, 0, BOTH },
        { "", "seed", INTEGER, &r->seed, 0, 1e18, BOTH },
        { "", "steps", INTEGER, &r->steps, 1, 1e9, BOTH },
        { "", "out", PATH, &r->out, 0, 0, BOTH },
        { "", "checkpoint_every", INTEGER, &r->checkpoint_every, 0, 1e9, BOTH },
        { "", "precision", WORD, &n.precision, 0, 0, BOTH },
        { "", "recompute", WORD, &n.recompute, 0, 0, BOTH },
        { "", "trace_every", INTEGER, &r->trace_every, 1, 1e9, BOTH },
        { "", "licence", GLOB, &r->licence, 0, 0, BOTH },
        { "", "signed_off_by", GLOB, &r->signed_off_by, 0, 0, BOTH },
        { "", "model", WORD, NULL, 0, 0, BOTH },
        { "", "data", WORD, NULL, 0, 0, DATA },
        { "", "batch", WORD, NULL, 0, 0, DATA },
        { "", "optimizer", WORD, NULL, 0, 0, BOTH },
        { "", "schedule", WORD, NULL, 0, 0, BOTH },
        { "", "loss", WORD, NULL, 0, 0, PRE },
        { "", "task", WORD, NULL, 0, 0, RL },
        { "", "rewards", WORD, NULL, 0, 0, GRPO },
        { "", "policy", WORD, NULL, 0, 0, RL },
        { "", "freeze", GLOBS, &r->freeze, 0, 0, BOTH },
        { "", "esft", WORD, NULL, 0, 0, PRE },
        { "esft", "score", WORD, &n.esft_score, 0, 0, PRE },
        { "esft", "p", NUMBER, &r->esft.p, 1e-6, 1, PRE },
        { "esft", "rows", INTEGER, &r->esft_rows, 1, 1e9, PRE },
        { "esft", "save", WORD, &n.esft_save, 0, 0, PRE },
        { "", "validation", WORD, NULL, 0, 0, PRE },
        { "validation", "files", PATHS, &r->validation_files, 0, 0, PRE },
        { "validation", "every", INTEGER, &r->validation_every, 1, 1e9, PRE },
        { "validation", "rows", INTEGER, &r->validation_rows, 0, 1e9, PRE },
        { "", "lora", WORD, NULL, 0, 0, BOTH },
        { "lora", "r", INTEGER, &n.lora_r, 1, 1 << 16, BOTH },
        { "lora", "alpha", NUMBER, &r->lora.alpha, 1e-6, 1e6, BOTH },
        { "lora", "rslora", FLAG, &r->lora.rslora, 0, 0, BOTH },
        { "lora", "targets", GLOBS, &r->lora_targets, 0, 0, BOTH },
        { "lora", "from", PATH, &r->lora_from, 0, 0, BOTH },
        { "", "average", NUMBER, &r->optimizer.average, 0, 0.999999, BOTH },
        { "model", "config", PATH, &r->config, 0, 0, BOTH },
        { "model", "from", PATH, &r->from, 0, 0, BOTH },
        { "model", "tokenizer", PATH, &r->tokenizer, 0, 0, RL },
        { "model", "init_std", NUMBER, &r->init_std, 0, 10, BOTH },
        { "data", "files", WORD, NULL, 0, 0, DATA },
        { "data", "kind", WORD, &n.kind, 0, 0, DATA },
        { "data", "pack", WORD, &n.pack, 0, 0, DATA },
        { "data", "tokenizer", PATH, &r->tokenizer, 0, 0, PRE },
        { "data", "length", INTEGER, &n.length, 256, 1 << 20, DATA },
        { "batch", "rows", INTEGER, &n.rows, 1, 1 << 20, DATA },
        { "batch", "micro_rows", INTEGER, &n.micro_rows, 1, 1 << 20, DATA },
        { "optimizer", "beta1", NUMBER, &r->optimizer.beta1, 0, 0.999999, BOTH },
        { "optimizer", "beta2", NUMBER, &r->optimizer.beta2, 0, 0.999999, BOTH },
        { "optimizer", "eps", NUMBER, &r->optimizer.eps, 0, 1, BOTH },
        { "optimizer", "weight_decay", NUMBER, &r->optimizer.weight_decay, 0, 10, BOTH },
        { "optimizer", "clip", NUMBER, &r->optimizer.clip, 0, 1e9, BOTH },
        { "optimizer", "kind", WORD, &n.optimizer, 0, 0, BOTH },
        { "optimizer", "momentum", NUMBER, &r->optimizer.momentum, 0, 0.999999, BOTH },
        { "optimizer", "qk_clip", NUMBER, &r->optimizer.qk_clip, 0, 1e9, BOTH },
        { "optimizer", "groups", GROUPS, NULL, 0, 0, BOTH },
        { "schedule", "kind", WORD, &n.schedule, 0, 0, BOTH },
        { "schedule", "lr", NUMBER, &r->schedule.lr, 0, 100, BOTH },
        { "schedule", "min_lr", NUMBER, &r->schedule.min_lr, 0, 100, BOTH },
        { "schedule", "warmup", INTEGER, &r->schedule.warmup, 0, 1e9, BOTH },
        { "schedule", "decay", INTEGER, &r->schedule.decay, 0, 1e9, BOTH },
        { "loss", "mtp_weight", NUMBER, &r->mtp_weight, 0, 100, PRE },
        { "loss", "balance_weight", NUMBER, &r->balance_weight, 0, 100, PRE },
        { "loss", "bias_rate", NUMBER, &r->bias_rate, 0, 1, PRE },
        { "", "teacher", WORD, NULL, 0, 0, TAUGHT },
        { "teacher", "from", PATH, &r->teacher, 0, 0, TAUGHT },
        { "teacher", "beta", NUMBER, &r->distil.beta, 0, 1, TAUGHT },
        { "teacher", "temperature", NUMBER, &r->distil.temperature, 0.01, 100, TAUGHT },
        { "teacher", "weight", NUMBER, &r->distil.weight, 0, 1, TAUGHT },
        { "teacher", "lambda", NUMBER, &r->lambda, 0, 1, OWN },
        { "task", "name", WORD, &n.task, 0, 0, RL },
        { "task", "file", PATH, &r->task_file, 0, 0, RL },
        { "task", "format", GLOB, &r->task_format, 0, 0, RL },
        { "task", "judge", WORD, &n.judge, 0, 0, RL },
        { "task", "thinking", FLAG, &r->thinking, 0, 0, RL },
        { "task", "seed", INTEGER, &n.task_seed, 0, 1e18, RL },
        { "task", "min", INTEGER, &n.level_min, 1, FS_TASK_LEVEL_MAX, RL },
        { "task", "max", INTEGER, &n.level_max, 1, FS_TASK_LEVEL_MAX, RL },
        { "task", "number_max", INTEGER, &n.number_max, 1, 1e6, RL },
        { "task", "target_max", INTEGER, &n.target_max, 1, 1e6, RL },
        { "task", "test_share", NUMBER, &r->task_options.test_share, 0, 1, RL },
        { "rewards", "right", NUMBER, &r->rewards.right, -1e6, 1e6, GRPO },
        { "rewards", "well_formed", NUMBER, &r->rewards.well_formed, -1e6, 1e6, GRPO },
        { "rewards", "wrong", NUMBER, &r->rewards.wrong, -1e6, 1e6, GRPO },
        { "rewards", "right_long", NUMBER, &r->rewards.right_long, -1e6, 1e6, GRPO },
        { "rewards", "wrong_long", NUMBER, &r->rewards.wrong_long, -1e6, 1e6, GRPO },
        { "rewards", "think", NUMBER, &r->rewards.think, -1e6, 1e6, GRPO },
        { "rewards", "think_answer", NUMBER, &r->rewards.think_answer, -1e6, 1e6, GRPO },
        { "rewards", "tags", NUMBER, &r->rewards.tags, -1e6, 1e6, GRPO },
        { "rewards", "shorter", NUMBER, &r->rewards.shorter, -1e6, 1e6, GRPO },
        { "rewards", "overlong", NUMBER, &r->rewards.overlong, 0, 1e6, GRPO },
        { "rewards", "overlong_tokens", INTEGER, &n.overlong_tokens, 1, 1 << 20, GRPO },
        { "rewards", "repetition", NUMBER, &r->rewards.repetition, 0, 1e6, GRPO },
        { "rewards", "repetition_ngram", INTEGER, &n.repetition_ngram, 1, 1000, GRPO },
        { "rewards", "program", GLOBS, &r->program, 0, 0, GRPO },
        { "rewards", "program_weight", NUMBER, &r->rewards.program_weight, -1e6, 1e6, GRPO },
        { "rewards", "program_seconds", NUMBER, &r->rewards.program.seconds_max, 0.001, 1e6, GRPO },
        { "rewards", "program_memory_mib", INTEGER, &n.program_memory_mib, 0, 1 << 24, GRPO },
        { "rewards", "random", NUMBER, &r->rewards.random, 0, 1, GRPO },
        { "policy", "loss", WORD, &n.loss, 0, 0, GRPO },
        { "policy", "epsilon_low", NUMBER, &r->grpo.policy.epsilon_low, 0, 1e6, GRPO },
        { "policy", "epsilon_high", NUMBER, &r->grpo.policy.epsilon_high, 0, 1e6, GRPO },
        { "policy", "delta", NUMBER, &r->grpo.policy.delta, 0, 1e6, GRPO },
        { "policy", "beta", NUMBER, &r->grpo.policy.beta, 0, 1e6, GRPO },
        { "policy", "off_policy", NUMBER, &r->grpo.policy.off_policy, 0, 1e6, GRPO },
        { "policy", "kl_unbiased", FLAG, &r->grpo.policy.kl_unbiased, 0, 0, GRPO },
        { "policy", "scale", WORD, &n.scale, 0, 0, GRPO },
        { "policy", "prompts", INTEGER, &n.prompts, 1, 1 << 20, RL },
        { "policy", "group", INTEGER, &n.group, 2, 1 << 16, GRPO },
        { "policy", "group", INTEGER, &n.group, 1, 1 << 16, RL & ~GRPO },
        { "policy", "max_tokens", INTEGER, &n.max_tokens, 1, 1 << 20, RL },
        { "policy", "prompt_max", INTEGER, &n.prompt_max, 1, 1 << 20, RL },
        { "policy", "updates", INTEGER, &n.updates, 1, 1000, GRPO },
        { "policy", "temperature", NUMBER, &n.temperature, 0.001, 100, RL },
        { "policy", "skip_flat", FLAG, &r->grpo.skip_flat, 0, 0, GRPO },
        { "policy", "resamples", INTEGER, &n.resamples, 0, 100, GRPO },
        { "policy", "mask_truncated", FLAG, &r->grpo.mask_truncated, 0, 0, GRPO },
        { "policy", "bias_rate", NUMBER, &r->grpo.bias_rate, 0, 1, RL },
        { "policy", "sequences", INTEGER, &n.sequences, 1, 4096, RL },
        { "policy", "micro_tokens", INTEGER, &n.micro_tokens, 256, 1 << 24, RL },
        { "policy", "keep_mib", INTEGER, &n.keep_mib, 0, 1 << 20, RL },
        { "", NULL, WORD, NULL, 0, 0, 0 },
    };
    struct reader reader = { 0, path, place, fields, "", err };
    fs_status rc = find_stage(json, path, &r->stage, err);

    if (!rc && fs_recipe_samples(r))
        rc = find_task(r, json, path, err);
    r->distil = (fs_distil_options){ r->stage == FS_STAGE_ON_POLICY_DISTIL ? 1 : 0, 1, 1 };
    reader.stage = 1u << r->stage;
    if (!rc)
        rc = read_section(&reader, "", json, r);
    if (!rc && place->out) {
        free(r->out);
        r->out = strdup(place->out);
        rc = r->out ? FS_OK : fs_fail_memory(err, strlen(place->out));
    }
    if (!rc)
        rc = complete_tokenizer(r, err);
    if (!rc)
        rc = complete_program(r, place, err);
    if (!rc && !fs_recipe_reads(r) && (fs_json_member(json, "data") || fs_json_member(json, "batch")))
        rc = fs_fail(err, FS_ERR_FORMAT, "%s: data and batch are of steps that do not sample, and with teacher.lambda 1 every step does", path);
    if (!rc)
        rc = settle(r, &n, path, err);
    if (!rc && fs_recipe_samples(r))
        give_task(&n, r);
    return rc ? rc : put_canonical(r, fields, err);
}

bool fs_recipe_stage_of(const char *word, fs_recipe_stage *ret)
{
    for (int i = 0; stages[i]; i++)
        if (strcmp(stages[i], word) == 0) {
            *ret = (fs_recipe_stage)i;
            return true;
        }
    return false;
}

const char *fs_recipe_stage_word(fs_recipe_stage stage)
{
    return stages[stage];
}

fs_status fs_recipe_hash(fs_recipe *r, fs_bytes text, fs_error *err)
{
    uint8_t digest[32];
    fs_status rc = fs_sha256_of(text, digest, err);

    if (!rc)
        fs_hex(digest, sizeof digest, r->sha256);
    return rc;
}

fs_status fs_recipe_of(fs_recipe *ret, struct json_object *json, const char *path, const fs_recipe_place *place, fs_error *err)
{
    *ret = (fs_recipe){ .seed = place->seed, .optimizer = fs_optimizer_default(), .init_std = 0.006, .lambda = 1,
                        .rewards = { .right = 1, .right_long = NAN, .wrong_long = NAN, .program_weight = 1, .program = { .seconds_max = 60 } },
                        .grpo = { .policy = { .epsilon_low = 0.2, .epsilon_high = 0.2 } } };
    return read_all(ret, json, path, place, err);
}

fs_status fs_recipe_parse(fs_recipe *ret, fs_bytes text, const char *path, fs_error *err)
{
    const char *slash = strrchr(path, '/');
    char *folder = strndup(path, slash ? (size_t)(slash - path) + 1 : 0);
    const fs_recipe_place place = { .folder = folder };
    struct json_object *json = NULL;
    fs_status rc;

    *ret = (fs_recipe){ 0 };
    if (!folder)
        return fs_fail_memory(err, strlen(path));
    rc = fs_yaml_parse(text, path, &json, err);
    if (!rc)
        rc = fs_recipe_of(ret, json, path, &place, err);
    if (!rc)
        rc = fs_recipe_hash(ret, text, err);
    json_object_put(json);
    free(folder);
    return rc;
}

void fs_recipe_done(fs_recipe *r)
{
    for (int i = 0; i < FS_RECIPE_FILES_MAX; i++)
        free(r->files[i]);
    for (int i = 0; i < FS_RECIPE_GLOBS_MAX; i++)
        free(r->freeze.items[i]);
    for (int i = 0; i < FS_RECIPE_GLOBS_MAX; i++)
        free(r->program.items[i]);
    for (int i = 0; i < FS_RECIPE_GLOBS_MAX; i++)
        free(r->lora_targets.items[i]);
    for (int i = 0; i < FS_RECIPE_GLOBS_MAX; i++)
        free(r->validation_files.items[i]);
    free(r->lora_from);
    for (int i = 0; i < r->n_groups; i++)
        free(r->groups[i].match);
    fs_buf_done(&r->canonical);
    free(r->out);
    free(r->config);
    free(r->from);
    free(r->licence);
    free(r->signed_off_by);
    free(r->tokenizer);
    free(r->teacher);
    free(r->task_file);
    free(r->task_format);
    *r = (fs_recipe){ 0 };
}
