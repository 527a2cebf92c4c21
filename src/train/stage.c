/* See the header. */
#include "train/stage.h"

#include "base/file.h"
#include "data/records.h"
#include "train/checkpoint.h"
#include "train/esft.h"
#include "train/teacher.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TOKENIZER_BYTES_MAX ((size_t)256 << 20)
#define CONFIG_BYTES_MAX    ((size_t)1 << 20)
#define TRACE_BYTES_MAX     ((size_t)1 << 32)

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

fs_status fs_stage_open(fs_stage *u, const fs_recipe *r, fs_pool *pool, const fs_kernels *kernels, fs_error *err)
{
    *u = (fs_stage){ .r = r, .pool = pool, .kernels = kernels, .optimizer = r->optimizer, .trace_fd = -1 };
    return open_model(u, err);
}

void fs_stage_close(fs_stage *u)
{
    if (u->trace_fd >= 0)
        close(u->trace_fd);
    fs_metrics_close(u->metrics);
    free(u->resumed_from);
    fs_trainer_free(u->trainer);
    fs_teacher_close(u->teacher);
    fs_tokenizer_close(u->tokenizer);
    free(u->tokenizer_folder);
    fs_weights_close(u->weights);
    fs_config_done(&u->own_config);
    *u = (fs_stage){ .trace_fd = -1 };
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
    uint32_t longest = fs_recipe_samples(r) ? r->grpo.prompt_max + r->grpo.max_tokens : r->length;
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

fs_status fs_stage_fill(fs_stage *u, bool resume, fs_error *err)
{
    uint64_t step;
    fs_status rc = fs_checkpoint_newest(u->r->out, &step, &u->resumed_from, err);

    if (!rc && u->resumed_from && !resume)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' is there: --resume goes on from it", u->resumed_from);
    if (!rc && u->weights && u->params->adapter_of)
        rc = fs_params_load(u->params, u->weights, err);
    if (!rc && u->resumed_from)
        rc = fs_checkpoint_read(u->resumed_from, u->params, &u->optimizer, u->r->sha256, err);
    else if (!rc && u->low_rank.r && u->r->lora_from)
        rc = fs_params_load_pairs(u->params, u->r->lora_from, err);
    else if (!rc && u->low_rank.r)
        fs_params_init_pairs(u->params, u->r->seed);
    else if (!rc && u->weights && !u->params->adapter_of)
        rc = fs_params_load(u->params, u->weights, err);
    else if (!rc && !u->weights)
        fs_params_init(u->params, u->r->seed, u->r->init_std);
    if (!rc && !u->resumed_from)
        fs_params_begin_averages(u->params);
    if (!rc)
        fs_trainer_pack(u->trainer);
    return rc;
}

void fs_stage_plan_of(const fs_stage *u, fs_stage_plan *ret)
{
    ret->bytes += fs_trainer_bytes(u->trainer) + (u->teacher ? fs_teacher_bytes(u->teacher) : 0);
    ret->first_step = u->optimizer.step;
    ret->resumed_from = u->resumed_from;
    ret->n_trained = u->params->n_trained;
    ret->n_active = fs_params_n_active(u->params, u->config);
    for (size_t i = 0; i < u->params->n; i++)
        ret->n_parameters += u->params->items[i].n;
}

static fs_status open_trace(fs_stage *u, fs_error *err)
{
    uint64_t n = u->optimizer.step;
    char *path = fs_path_join(u->r->out, "trace.jsonl");
    fs_buf text = { 0 };
    fs_bytes line;
    fs_lines lines;
    size_t keep = 0;
    fs_status rc = path ? FS_OK : fs_fail_memory(err, strlen(u->r->out));

    if (!rc && n && fs_file_exists(path))
        rc = fs_file_read(path, TRACE_BYTES_MAX, &text, err);
    lines = (fs_lines){ .text = fs_buf_bytes(&text) };
    while (!rc && lines.number < n && fs_lines_next(&lines, &line))
        keep = lines.at;
    if (!rc && lines.number < n)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' has %zu lines, the checkpoint is of step %" PRIu64, path, lines.number, n);
    if (!rc)
        rc = fs_file_write_atomic(path, (fs_bytes){ (const uint8_t *)text.data, keep }, err);
    if (!rc) {
        u->trace_fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
        if (u->trace_fd < 0)
            rc = fs_fail_errno(err, errno, "cannot open '%s'", path);
    }
    if (!rc)
        rc = fs_metrics_open(u->r->out, n ? n + 1 : 0, true, (double)time(NULL), &u->metrics, err);
    fs_buf_done(&text);
    free(path);
    return rc;
}

static fs_status checkpoint(fs_stage *u, fs_error *err)
{
    fs_status rc = fsync(u->trace_fd) == 0 ? FS_OK : fs_fail_errno(err, errno, "cannot sync the trace");

    if (!rc)
        rc = fs_checkpoint_write(u->r->out, u->config, u->params, &u->optimizer, u->r->sha256, fs_precision_name(u->r->bf16), u->tokenizer_folder, err);
    return rc;
}

/* Behind the step just done. */
static bool is_due(const fs_stage *u)
{
    uint64_t step = u->optimizer.step;

    return step == u->r->steps || (u->r->checkpoint_every && step % u->r->checkpoint_every == 0);
}

fs_status fs_stage_run(fs_stage *u, fs_stage_take_fn *take, void *ud, const fs_stage_events *events, fs_error *err)
{
    fs_status rc = open_trace(u, err);

    while (!rc && u->optimizer.step < u->r->steps) {
        fs_stage_step s = { .step = u->optimizer.step + 1, .steps = u->r->steps, .lr = fs_schedule_at(&u->r->schedule, u->optimizer.step) };
        bool go_on;
        rc = take(ud, &s, err);
        if (rc)
            break;
        go_on = events->step(events->ud, &s);
        if (!go_on || is_due(u)) {
            rc = checkpoint(u, err);
            if (!rc)
                events->checkpoint(events->ud, s.step);
        }
        if (!rc && !go_on)
            rc = fs_fail(err, FS_ERR_INTERRUPTED, "stopped after step %" PRIu64 "; --resume goes on", s.step);
    }
    return rc;
}

fs_status fs_stage_trace_put(fs_stage *u, const fs_buf *line, fs_error *err)
{
    return fs_fd_write(u->trace_fd, "trace.jsonl", line->data, line->n_bytes, err);
}

fs_status fs_stage_metrics(fs_stage *u, uint64_t step, const fs_metric *items, size_t n, fs_error *err)
{
    return fs_metrics_log(u->metrics, step, (double)time(NULL), items, n, err);
}
