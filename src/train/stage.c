/* See the header. */
#include "train/stage.h"

#include "base/file.h"
#include "lineage/provenance.h"
#include "train/checkpoint.h"
#include "train/esft.h"
#include "train/teacher.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TOKENIZER_BYTES_MAX ((size_t)256 << 20)
#define CONFIG_BYTES_MAX    ((size_t)1 << 20)

static fs_status open_model(fs_stage *u, fs_error *err)
{
    fs_buf text = { 0 };
    fs_status rc;

    if (u->r->from && !u->r->model_later) {
        rc = fs_weights_open(u->r->from, &u->weights, err);
        if (!rc)
            u->config = fs_weights_config(u->weights);
        return rc;
    }
    rc = fs_file_read(u->r->config, CONFIG_BYTES_MAX, &text, err);
    if (!rc)
        rc = fs_config_from_json(&u->own_config, fs_buf_bytes(&text), u->r->config, err);
    if (!rc)
        u->config = &u->own_config;
    fs_buf_done(&text);
    return rc;
}

fs_status fs_stage_open(fs_stage *u, const fs_recipe *r, fs_pool *pool, const fs_kernels *kernels, const fs_stage_events *events, fs_error *err)
{
    *u = (fs_stage){ .r = r, .pool = pool, .kernels = kernels, .optimizer = r->optimizer,
                     .history = { .fd = -1, .origin = events->origin, .check = events->check } };
    return open_model(u, err);
}

void fs_stage_close(fs_stage *u)
{
    fs_history_close(&u->history);
    fs_roots_done(&u->roots);
    fs_roots_done(&u->state_roots);
    fs_metrics_close(u->metrics);
    fs_gauges_close(&u->gauges);
    free(u->resumed_from);
    fs_trainer_free(u->trainer);
    fs_teacher_close(u->teacher);
    fs_tokenizer_close(u->tokenizer);
    free(u->tokenizer_folder);
    fs_weights_close(u->weights);
    fs_config_done(&u->own_config);
    *u = (fs_stage){ .history = { .fd = -1 } };
}

fs_status fs_stage_tokenizer(fs_stage *u, fs_stage_reading how, fs_error *err)
{
    const char *slash = u->r->tokenizer ? strrchr(u->r->tokenizer, '/') : NULL;
    char *path = u->r->tokenizer ? strdup(u->r->tokenizer) : u->r->from ? fs_path_join(u->r->from, "tokenizer.json") : NULL;
    fs_buf text = { 0 };
    fs_status rc;

    if (u->r->tokenizer)
        u->tokenizer_folder = slash ? strndup(u->r->tokenizer, (size_t)(slash - u->r->tokenizer) + 1) : strdup(".");
    else if (u->r->from)
        u->tokenizer_folder = strdup(u->r->from);
    if (how == FS_STAGE_COPY || (how == FS_STAGE_MAY_READ && (!path || !fs_file_exists(path)))) {
        free(path);
        return FS_OK;
    }
    if (!u->r->tokenizer && !u->r->from)
        return fs_fail(err, FS_ERR_FORMAT, "%s.tokenizer is missing", fs_recipe_samples(u->r) ? "model" : "data");
    if (!path || !u->tokenizer_folder)
        rc = fs_fail_memory(err, 256);
    else
        rc = fs_file_read(path, TOKENIZER_BYTES_MAX, &text, err);
    if (!rc)
        rc = fs_tokenizer_open_json(fs_buf_bytes(&text), path, &u->tokenizer, err);
    fs_buf_done(&text);
    free(path);
    return rc;
}

static fs_status add_teacher(fs_stage *u, fs_error *err)
{
    const fs_recipe *r = u->r;
    uint32_t sampled = fs_recipe_samples(r) ? r->grpo.prompt_max + r->grpo.max_tokens : 0, longest = sampled > r->length ? sampled : r->length;
    fs_status rc;

    if (!r->teacher || r->teacher_later)
        return FS_OK;
    rc = fs_teacher_open(r->teacher, u->config, u->tokenizer, u->pool, u->kernels, longest, &u->teacher, err);
    return rc ? rc : fs_trainer_distil(u->trainer, u->teacher, &r->distil, err);
}

fs_status fs_stage_trainer(fs_stage *u, const fs_trainer_options *o, fs_error *err)
{
    fs_trainer_options options = *o;
    fs_status rc;

    options.bf16 = u->r->bf16;
    options.recompute = u->r->recompute;
    if (u->r->lora.r) {
        u->low_rank = u->r->lora;
        u->low_rank.targets = (const char *const *)u->r->lora_targets.items;
        u->low_rank.n_targets = u->r->lora_targets.n;
        options.low_rank = &u->low_rank;
    }
    rc = fs_trainer_new(u->config, u->pool, u->kernels, &options, &u->trainer, err);
    if (rc)
        return rc;
    u->params = fs_trainer_params(u->trainer);
    u->params->adapter_of = u->r->lora.r || (u->r->esft.p > 0 && !u->r->esft_model) ? u->r->from : NULL;
    if (u->r->esft.p > 0)
        rc = fs_esft_begin(u->params, u->config, err);
    for (int i = 0; i < u->r->freeze.n && !rc; i++)
        rc = fs_params_freeze(u->params, u->r->freeze.items[i], err);
    for (int i = 0; i < u->r->n_groups && !rc; i++)
        rc = fs_params_group(u->params, u->r->groups[i].match, u->r->groups[i].lr_scale, u->r->groups[i].weight_decay, err);
    if (!rc && u->params->n_trained == 0)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "every parameter is frozen: nothing is left to train");
    if (!rc)
        rc = fs_optimizer_prepare(&u->r->optimizer, u->params, u->pool, err);
    if (!rc)
        rc = fs_params_add_moments(u->params, err);
    if (!rc)
        rc = add_teacher(u, err);
    return rc || u->r->optimizer.average == 0 ? rc : fs_params_add_averages(u->params, err);
}

/* ---- roots ---- */

/* Of weights and state as they are now. */
static fs_status find_roots(fs_stage *u, fs_error *err)
{
    fs_status rc;

    if (u->rooted == u->optimizer.step && u->roots.items)
        return FS_OK;
    fs_roots_done(&u->roots);
    fs_roots_done(&u->state_roots);
    rc = fs_checkpoint_roots(u->params, &u->optimizer, u->pool, &u->roots, &u->state_roots, err);
    u->rooted = u->optimizer.step;
    return rc;
}

/* ---- the record ---- */

fs_status fs_stage_tell_file(fs_stage *u, const char *what, const char *path, fs_error *err)
{
    return fs_history_tells(&u->history) ? fs_provenance_data(&u->history.made, path, what, err) : FS_OK;
}

static const char *base_name(const char *path)
{
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    return path + n;
}

/* Of shards the index, which has the hash of each. */
fs_status fs_stage_tell_source(fs_stage *u, const char *kind, const char *path, bool shards, fs_error *err)
{
    char *file = shards ? fs_path_join(path, "index.json") : strdup(path);
    fs_buf what = { 0 };
    fs_status rc = file ? fs_buf_printf(&what, err, "%s %s", kind, base_name(path)) : fs_fail_memory(err, strlen(path));

    if (!rc)
        rc = fs_stage_tell_file(u, what.data, file, err);
    free(file);
    fs_buf_done(&what);
    return rc;
}

fs_status fs_stage_tell_root(fs_stage *u, const char *what, const fs_root *root, fs_error *err)
{
    char hex[65];

    fs_root_hex(root, hex);
    return fs_history_tells(&u->history) ? fs_record_add(&u->history.made, err, FS_RECORD_DATA, "%s %s", hex, what) : FS_OK;
}

fs_status fs_stage_tell_tokenizer(fs_stage *u, fs_error *err)
{
    char *path = u->tokenizer_folder ? fs_path_join(u->tokenizer_folder, "tokenizer.json") : NULL;
    fs_status rc = FS_OK;

    if (u->r->tokenizer || (path && fs_file_exists(path)))
        rc = fs_stage_tell_file(u, "tokenizer", u->r->tokenizer ? u->r->tokenizer : path, err);
    free(path);
    return rc;
}

fs_status fs_stage_tell_parent(fs_stage *u, const char *path, fs_error *err)
{
    fs_roots roots = { 0 };
    fs_status rc;

    if (!fs_history_tells(&u->history))
        return FS_OK;
    rc = fs_provenance_roots(path, u->pool, NULL, &roots, err);
    if (!rc)
        rc = fs_provenance_parent(&u->history.made, path, &roots, err);
    fs_roots_done(&roots);
    return rc;
}

static fs_status tell_recipe(fs_stage *u, fs_error *err)
{
    fs_record *made = &u->history.made;
    fs_status rc = fs_record_add(made, err, FS_RECORD_RECIPE, "trace_every %" PRIu64, u->history.every);

    for (char *line = u->r->canonical.data, *end; !rc && line && *line; line = end + 1) {
        end = strchr(line, '\n');
        rc = fs_record_add(made, err, FS_RECORD_RECIPE, "%.*s", (int)(end - line), line);
    }
    return rc;
}

/* What a record tells but for parents and data, which are told where they are opened. */
static fs_status tell(fs_stage *u, fs_error *err)
{
    fs_record *made = &u->history.made;
    fs_status rc = FS_OK;

    if (!fs_history_tells(&u->history))
        return FS_OK;
    if (u->history.origin)
        rc = fs_record_add_all(made, u->history.origin, err);
    if (!rc)
        rc = fs_record_add(made, err, FS_RECORD_VERB, "%s", fs_recipe_stage_word(u->r->stage));
    if (!rc && !u->weights)
        rc = fs_record_add(made, err, FS_RECORD_INIT, "%" PRIu64 " normal", u->r->seed);
    if (!rc && u->r->program.n) /* whose rewards nothing here tells */
        rc = fs_record_add(made, err, FS_RECORD_CLASS, "C");
    if (!rc)
        rc = tell_recipe(u, err);
    if (!rc)
        rc = fs_provenance_vouch(made, u->r->licence, u->r->signed_off_by, err);
    return rc || !u->history.check ? rc : fs_history_compare(&u->history, err);
}

/* ---- the beginning ---- */

static fs_status fill_new(fs_stage *u, fs_error *err)
{
    fs_status rc = u->weights ? fs_params_load(u->params, u->weights, err) : FS_OK;

    if (!rc && u->low_rank.r && u->r->lora_from)
        rc = fs_params_load_pairs(u->params, u->r->lora_from, err);
    else if (!rc && u->low_rank.r)
        fs_params_init_pairs(u->params, u->r->seed);
    else if (!rc && !u->weights)
        fs_params_init(u->params, u->r->seed, u->r->init_std);
    if (!rc)
        fs_params_begin_averages(u->params);
    return rc;
}

fs_status fs_stage_begin(fs_stage *u, fs_error *err)
{
    fs_status rc = fill_new(u, err);

    if (!rc)
        fs_trainer_pack(u->trainer);
    return rc;
}

/* From a checkpoint, of a run of this very recipe unless it is compared with a trace. */
static fs_status fill_from(fs_stage *u, const char *folder, fs_error *err)
{
    fs_history_check *check = u->history.check;
    fs_status rc = u->weights && u->params->adapter_of ? fs_params_load(u->params, u->weights, err) : FS_OK;

    if (!rc)
        rc = fs_checkpoint_read(folder, u->params, &u->optimizer, check ? NULL : u->r->sha256, err);
    if (!rc && check && (u->optimizer.step == 0 || u->optimizer.step > check->trace->n))
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' is of step %" PRIu64 ", the trace has %zu", folder, u->optimizer.step, check->trace->n);
    if (!rc && check)
        rc = find_roots(u, err);
    return rc || !check ? rc : fs_history_compare_roots(&u->history, u->optimizer.step, &u->roots.model, &u->state_roots.model, err);
}

fs_status fs_stage_fill(fs_stage *u, bool resume, fs_error *err)
{
    const char *from = u->history.check ? u->history.check->begin : NULL;
    uint64_t step;
    fs_status rc = u->history.check ? FS_OK : fs_checkpoint_newest(u->r->out, &step, &u->resumed_from, err);

    if (!rc && u->resumed_from && !resume)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' is there: --resume goes on from it", u->resumed_from);
    from = u->resumed_from ? u->resumed_from : from;
    if (!rc)
        rc = from ? fill_from(u, from, err) : fill_new(u, err);
    if (!rc && u->weights)
        rc = fs_stage_tell_parent(u, u->r->from, err);
    if (!rc && u->r->lora_from)
        rc = fs_stage_tell_parent(u, u->r->lora_from, err);
    if (!rc && u->r->teacher)
        rc = fs_stage_tell_parent(u, u->r->teacher, err);
    if (!rc)
        fs_trainer_pack(u->trainer);
    return rc;
}

void fs_stage_plan_of(fs_stage *u, uint32_t length, fs_stage_plan *ret)
{
    ret->config = u->config;
    ret->flop_token = fs_flop_token(u->params, u->config, length);
    ret->bytes += fs_trainer_bytes(u->trainer) + (u->teacher ? fs_teacher_bytes(u->teacher) : 0);
    ret->first_step = u->optimizer.step;
    ret->resumed_from = u->resumed_from;
    ret->n_trained = u->params->n_trained;
    ret->n_active = fs_params_n_active(u->params, u->config, false);
    for (size_t i = 0; i < u->params->n; i++)
        ret->n_parameters += u->params->items[i].n;
    u->history.every = u->r->trace_every ? u->r->trace_every : fs_history_every(ret->n_parameters, u->params->n, ret->n_active, ret->tokens_step);
}

/* ---- steps ---- */

static fs_status leave(void *ud, const char *folder, fs_error *err)
{
    const fs_stage *u = ud;

    return fs_history_leave(&u->history, folder, &u->roots, &u->state_roots, err);
}

static fs_status checkpoint(fs_stage *u, fs_error *err)
{
    fs_status rc = fs_history_sync(&u->history, err);

    if (!rc)
        rc = find_roots(u, err);
    if (!rc)
        rc = fs_checkpoint_write(u->r->out, u->config, u->params, &u->optimizer, u->r->sha256, fs_precision_name(u->r->bf16), u->tokenizer_folder, leave, u, err);
    return rc;
}

/* Behind the step just done. */
static bool is_due(const fs_stage *u)
{
    uint64_t step = u->optimizer.step;

    return step == u->r->steps || (u->r->checkpoint_every && step % u->r->checkpoint_every == 0);
}

static fs_status open_logs(fs_stage *u, fs_error *err)
{
    uint64_t n = u->optimizer.step;
    fs_status rc = fs_history_open(&u->history, u->r->out, n, err);

    if (rc || u->history.check)
        return rc;
    rc = fs_gauges_open(&u->gauges, u->trainer, u->config, u->pool, u->kernels->isa, err);
    return rc ? rc : fs_metrics_open(u->r->out, n ? n + 1 : 0, true, (double)time(NULL), &u->metrics, err);
}

fs_status fs_stage_run(fs_stage *u, fs_stage_take_fn *take, void *ud, const fs_stage_events *events, fs_error *err)
{
    fs_history_check *check = u->history.check;
    uint64_t end = check ? check->end : u->r->steps;
    fs_status rc = tell(u, err);

    if (!rc)
        rc = open_logs(u, err);
    while (!rc && u->optimizer.step < end) {
        fs_stage_step s = { .step = u->optimizer.step + 1, .steps = u->r->steps, .lr = fs_schedule_at(&u->r->schedule, u->optimizer.step) };
        bool go_on;
        rc = take(ud, &s, err);
        if (rc)
            break;
        go_on = events->step(events->ud, &s);
        if (!check && (!go_on || is_due(u))) {
            rc = checkpoint(u, err);
            if (!rc)
                events->checkpoint(events->ud, s.step);
        }
        if (!rc && !go_on)
            rc = fs_fail(err, FS_ERR_INTERRUPTED, check ? "stopped after step %" PRIu64 : "stopped after step %" PRIu64 "; --resume goes on", s.step);
    }
    if (!rc && check && end == check->trace->n)
        rc = find_roots(u, err);
    return rc || !check || end != check->trace->n ? rc : fs_history_compare_result(&u->history, &u->roots.model, &u->state_roots.model, err);
}

fs_status fs_stage_trace(fs_stage *u, const fs_stage_step *s, double loss, float grad_norm, const char *fields, fs_error *err)
{
    fs_trace_row row = { .step = s->step, .loss = loss, .grad_norm = grad_norm, .traced = s->step % u->history.every == 0 || is_due(u) };
    fs_status rc = row.traced ? find_roots(u, err) : FS_OK;

    if (rc)
        return fs_fail_prefix(err, "step %" PRIu64, s->step);
    if (row.traced) {
        row.weights = u->roots.model;
        row.state = u->state_roots.model;
    }
    return fs_history_put(&u->history, &row, fields, err);
}

void fs_stage_gauge(fs_stage *u, fs_stage_step *s, double tokens, double length)
{
    s->mfu = fs_gauges_mfu(&u->gauges, tokens, length, s->seconds);
    fs_gauges_read(&u->gauges, u->trainer);
}

fs_status fs_stage_step_metrics(fs_stage *u, const fs_stage_step *s, const fs_metric *items, size_t n, fs_error *err)
{
    size_t n_all = n + 1 + u->gauges.n_loads;
    fs_metric *all = calloc(n_all, sizeof *all);
    fs_status rc;

    if (!all)
        return fs_fail_memory(err, n_all * sizeof *all);
    memcpy(all, items, n * sizeof *all);
    all[n] = (fs_metric){ "mfu", &s->mfu, 1 };
    if (u->gauges.n_loads)
        memcpy(all + n + 1, u->gauges.loads, u->gauges.n_loads * sizeof *all);
    rc = fs_stage_metrics(u, s->step, all, n_all, err);
    free(all);
    return rc;
}

fs_status fs_stage_metrics(fs_stage *u, uint64_t step, const fs_metric *items, size_t n, fs_error *err)
{
    return u->history.check ? FS_OK : fs_metrics_log(u->metrics, step, (double)time(NULL), items, n, err);
}
