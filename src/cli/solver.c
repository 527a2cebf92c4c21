/* See the header. */
#include "cli/solver.h"

#include "cli/cli.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define AT_ONCE_BYTES ((size_t)64 << 20) /* of completions in memory */

/* The model's chat format, or where it has none the text itself. */
static fs_status ask(void *ud, fs_bytes question, fs_ids *ret, fs_error *err)
{
    const fs_solver *s = ud;
    const fs_chat_options options = { .thinking = s->o.thinking, .add_generation_prompt = true };
    const fs_message user = { .role = FS_ROLE_USER, .content = question };

    return fs_model_chat_format(s->model) == FS_CHAT_NONE ?
               fs_tokenizer_encode(fs_model_tokenizer(s->model), question, FS_ENCODE_PLAIN | FS_ENCODE_BOS, ret, err) :
               fs_model_chat(s->model, &user, 1, &options, NULL, ret, err);
}

static fs_status find_stop_ids(fs_solver *s, fs_error *err)
{
    int32_t v = fs_model_vocab_size(s->model);

    s->stop_ids = malloc((size_t)v * sizeof *s->stop_ids);
    if (!s->stop_ids)
        return fs_fail_memory(err, (size_t)v * sizeof *s->stop_ids);
    for (int32_t id = 0; id < v; id++)
        if (fs_model_is_stop(s->model, id))
            s->stop_ids[s->n_stop_ids++] = id;
    return FS_OK;
}

static fs_status open_model(fs_solver *s, const char *model, const char *suite, fs_error *err)
{
    fs_judging judging = FS_JUDGE_AUTO;
    fs_status rc = fs_model_path(model, &s->path, err);

    if (!rc)
        rc = fs_model_open(s->path, &s->o.model, &s->model, err);
    if (!rc && !fs_model_tokenizer(s->model))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' has no tokenizer", model);
    fs_judging_of(s->o.judge, &judging);
    if (!rc)
        rc = fs_suite_read(&s->suite, ask, s, suite, judging, s->o.n_items ? s->o.n_items : SIZE_MAX, err);
    if (!rc && s->suite.n > FS_SOLVER_PROBLEMS_MAX)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' has %zu problems, at most %zu are taken", suite, s->suite.n, FS_SOLVER_PROBLEMS_MAX);
    return rc;
}

/* Tokens of a completion, and of the longest sequence. */
static fs_status fit_context(fs_solver *s, uint32_t *ret_ctx_tokens, fs_error *err)
{
    int64_t ctx = fs_model_ctx_tokens_max(s->model), left = ctx - (int64_t)s->suite.prompt_max;
    uint64_t need;

    if (!s->o.max_tokens)
        s->o.max_tokens = left < 1 ? 1 : left < 512 ? (uint32_t)left : 512;
    need = (uint64_t)s->suite.prompt_max + s->o.max_tokens;
    if (need > (uint64_t)ctx)
        return fs_fail(err, FS_ERR_CONTEXT_FULL, "the longest prompt and --max-tokens are %" PRIu64 " tokens, the model's context is %" PRId64, need, ctx);
    *ret_ctx_tokens = (uint32_t)need;
    return FS_OK;
}

static fs_status take_memory(fs_solver *s, size_t at_once, fs_error *err)
{
    size_t row = s->o.max_tokens, samples = s->o.samples, fit = AT_ONCE_BYTES / (row * samples * sizeof(int32_t)) + 1;

    s->at_once = at_once ? at_once : fit;
    s->at_once = s->at_once < s->suite.n ? s->at_once : s->suite.n;
    s->items = calloc(s->at_once * samples, sizeof *s->items);
    s->ids = malloc(s->at_once * samples * row * sizeof *s->ids);
    s->texts = calloc(samples, sizeof *s->texts);
    s->solutions = calloc(samples, sizeof *s->solutions);
    return s->items && s->ids && s->texts && s->solutions ? FS_OK : fs_fail_memory(err, s->at_once * samples * row * sizeof *s->ids);
}

fs_status fs_solver_open(fs_solver *s, const char *model, const char *suite, const fs_solver_options *o, size_t at_once, fs_error *err)
{
    fs_rollout_options ro = { .sequences_max = o->batch };
    fs_status rc;

    *s = (fs_solver){ .o = *o };
    rc = open_model(s, model, suite, err);
    if (!rc)
        rc = fit_context(s, &ro.ctx_tokens, err);
    if (!rc)
        rc = find_stop_ids(s, err);
    if (!rc)
        rc = take_memory(s, at_once, err);
    if (!rc && ro.sequences_max > s->at_once * o->samples)
        ro.sequences_max = (uint32_t)(s->at_once * o->samples);
    if (!rc)
        rc = fs_rollout_on(fs_model_network(s->model), fs_model_pool(s->model), fs_model_kernels(s->model), &ro, &s->rollout, err);
    return rc;
}

void fs_solver_close(fs_solver *s)
{
    for (uint32_t k = 0; s->texts && k < s->o.samples; k++)
        fs_buf_done(&s->texts[k]);
    free(s->texts);
    free(s->solutions);
    free(s->items);
    free(s->ids);
    free(s->stop_ids);
    fs_rollout_free(s->rollout);
    fs_suite_done(&s->suite);
    fs_model_close(s->model);
    free(s->path);
    *s = (fs_solver){ 0 };
}

/* Of a part of the completions, as of all. */
static bool on_progress(void *ud, uint64_t done, uint64_t total)
{
    fs_solver *s = ud;

    (void)total;
    return s->work.progress.fn(s->work.progress.ud, s->n_done * s->o.samples + done, s->suite.n * s->o.samples);
}

static fs_status solve(fs_solver *s, size_t problem, const fs_sampled *samples, fs_solver_fn *fn, void *ud, fs_error *err)
{
    fs_status rc = FS_OK;

    for (uint32_t k = 0; k < s->o.samples && !rc; k++) {
        fs_solution *to = &s->solutions[k];
        fs_buf *text = &s->texts[k];
        fs_buf_clear(text);
        rc = fs_tokenizer_decode(fs_model_tokenizer(s->model), samples[k].ids, samples[k].n - samples[k].stopped, false, text, err);
        *to = (fs_solution){ &samples[k], fs_buf_bytes(text), FS_VERDICT_WRONG };
        if (!rc)
            rc = fs_suite_judge(&s->suite.items[problem], to->text, &to->verdict, err);
    }
    return rc ? rc : fn(ud, problem, s->solutions, err);
}

fs_status fs_solver_run(fs_solver *s, size_t first, size_t n, fs_solver_fn *fn, void *ud, fs_error *err)
{
    fs_progress progress = { on_progress, s };
    size_t row = s->o.max_tokens, samples = s->o.samples;
    fs_status rc;

    fs_rollout_watch(s->rollout, &progress);
    for (size_t i = 0; i < n * samples; i++) {
        const fs_suite_item *item = &s->suite.items[first + i / samples];
        s->items[i] = (fs_sampled){ .prompt = item->ids, .n_prompt = item->n_ids, .ids = s->ids + i * row, .n_max = s->o.max_tokens,
                                    .stream = (uint32_t)((first + i / samples) * FS_SOLVER_SAMPLES_MAX + i % samples) };
    }
    rc = fs_rollout_run(s->rollout, &s->o.sampling, s->stop_ids, s->n_stop_ids, s->items, n * samples, err);
    for (size_t i = 0; i < n && !rc; i++) {
        rc = solve(s, first + i, s->items + i * samples, fn, ud, err);
        s->n_done++;
    }
    return rc;
}
