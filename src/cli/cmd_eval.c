/* farseek eval: how many problems of a suite a model gets right. Prompts, judging and pass@k are in train/suite.c, sampling in
 * train/rollout.c. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/writer.h"
#include "cli/interrupt.h"
#include "cli/work.h"
#include "train/suite.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define AT_ONCE_BYTES ((size_t)64 << 20) /* of completions in memory */

static struct {
    const char *judge, *out, *isa;
    double temperature, top_p;
    uint64_t seed;
    int samples, k, max_tokens, n_items, batch, n_threads;
    bool thinking, exact_activations, json;
} opt = { .judge = "auto", .temperature = -1, .top_p = -1, .samples = 1, .batch = 32 };

static const fs_option options[] = {
    FS_OPT_STR("judge", 0, opt.judge, "auto|task|maths|exact", "by the record's task, by mathematical value, as a text (default: task, else maths)"),
    FS_OPT_INT("samples", 0, opt.samples, 1, 4096, "N", "completions of each problem (default 1)"),
    FS_OPT_INT("pass-k", 0, opt.k, 0, 4096, "K", "pass@K besides pass@1 (default: all samples)"),
    FS_OPT_FLOAT("temperature", 0, opt.temperature, 0, 100, "T", "0: greedy (default: greedy for one sample, 0.6 for several)"),
    FS_OPT_FLOAT("top-p", 0, opt.top_p, 0, 1, "P", "nucleus (default 1; with several samples 0.95)"),
    FS_OPT_U64("seed", 's', opt.seed, "N", "which completions (default 0)"),
    FS_OPT_INT("max-tokens", 'n', opt.max_tokens, 0, 1 << 20, "N", "of a completion (default 512, or what the context leaves)"),
    FS_OPT_INT("count", 0, opt.n_items, 0, 1 << 30, "N", "the first N problems (default: all)"),
    FS_OPT_STR("out", 'o', opt.out, "FILE", "every completion with its verdict, JSON lines"),
    FS_OPT_INT("batch", 'b', opt.batch, 1, 1024, "N", "sequences at once; changes nothing (default 32)"),
    FS_OPT_FLAG("thinking", 0, opt.thinking, "let a model that can think do so"),
    FS_OPT_FLAG("exact-activations", 0, opt.exact_activations, "f32 activations against GGUF's block types too"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, FS_POOL_THREADS_MAX, "N", "threads (default: one a usable CPU)"),
    FS_OPT_STR("isa", 0, opt.isa, "scalar|avx2|avx512|neon", "restrict the instruction set"),
    FS_OPT_FLAG("json", 0, opt.json, "answer in JSON"),
    FS_OPT_END
};

typedef struct evaluation {
    fs_model *model;
    fs_suite suite;
    fs_rollout *rollout;
    fs_sampling sampling;
    int32_t *stop_ids;
    size_t n_stop_ids;
    fs_writer out;
    uint32_t samples, k;
    /* Sums. */
    size_t n_done, n_right, n_formed, n_truncated, tokens, tokens_right;
    double squares, pass_k, start;
    fs_work work;
} evaluation;

/* ---- preparing ---- */

static fs_judging judging(void)
{
    return opt.judge[0] == 't' ? FS_JUDGE_TASK : opt.judge[0] == 'm' ? FS_JUDGE_MATHS : opt.judge[0] == 'e' ? FS_JUDGE_EXACT : FS_JUDGE_AUTO;
}

static fs_status find_stop_ids(evaluation *e, fs_error *err)
{
    int32_t v = fs_model_vocab_size(e->model);

    e->stop_ids = malloc((size_t)v * sizeof *e->stop_ids);
    if (!e->stop_ids)
        return fs_fail_memory(err, (size_t)v * sizeof *e->stop_ids);
    for (int32_t id = 0; id < v; id++)
        if (fs_model_is_stop(e->model, id))
            e->stop_ids[e->n_stop_ids++] = id;
    return FS_OK;
}

static fs_status prepare(evaluation *e, const char *model, const char *suite, fs_error *err)
{
    fs_model_options mo = { .n_threads = opt.n_threads, .isa = opt.isa, .exact_activations = opt.exact_activations };
    fs_rollout_options ro = { .sequences_max = (uint32_t)opt.batch };
    char *path = NULL;
    uint64_t need;
    fs_status rc = fs_model_path(model, &path, err);

    if (!rc)
        rc = fs_model_open(path, &mo, &e->model, err);
    free(path);
    if (!rc && !fs_model_tokenizer(e->model))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' has no tokenizer", model);
    if (!rc)
        rc = fs_suite_read(&e->suite, e->model, suite, judging(), opt.thinking, opt.n_items ? (size_t)opt.n_items : SIZE_MAX, err);
    if (rc)
        return rc;
    if (!opt.max_tokens)
        opt.max_tokens = fs_model_ctx_tokens_max(e->model) - (int)e->suite.prompt_max < 512 ? fs_model_ctx_tokens_max(e->model) - (int)e->suite.prompt_max : 512;
    if (opt.max_tokens < 1)
        opt.max_tokens = 1;
    need = (uint64_t)e->suite.prompt_max + (uint64_t)opt.max_tokens;
    if (need > (uint64_t)fs_model_ctx_tokens_max(e->model))
        return fs_fail(err, FS_ERR_CONTEXT_FULL, "the longest prompt and --max-tokens are %" PRIu64 " tokens, the model's context is %d", need,
                       fs_model_ctx_tokens_max(e->model));
    ro.ctx_tokens = (uint32_t)need;
    if ((size_t)opt.batch > e->suite.n * e->samples)
        ro.sequences_max = (uint32_t)(e->suite.n * e->samples);
    rc = find_stop_ids(e, err);
    if (!rc)
        rc = fs_rollout_on(fs_model_network(e->model), fs_model_pool(e->model), fs_model_kernels(e->model), &ro, &e->rollout, err);
    return rc;
}

/* ---- the completions ---- */

static fs_status write_completion(evaluation *e, size_t problem, uint32_t sample, const fs_sampled *c, fs_verdict v, const fs_buf *text, fs_error *err)
{
    static const char *const words[] = { [FS_VERDICT_WRONG] = "wrong", [FS_VERDICT_WELL_FORMED] = "well-formed", [FS_VERDICT_RIGHT] = "right" };
    const fs_suite_item *item = &e->suite.items[problem];
    fs_buf line = { 0 };
    fs_status rc = fs_buf_printf(&line, err, "{\"problem\": %zu, \"sample\": %" PRIu32 ", \"verdict\": \"%s\", \"tokens\": %" PRIu32 ", \"stopped\": %s, \"prompt\": ",
                                 problem, sample, words[v], c->n, c->stopped ? "true" : "false");

    if (!rc)
        rc = fs_json_quote(&line, fs_buf_bytes(&item->prompt), err);
    if (!rc)
        rc = fs_buf_append_str(&line, ", \"answer\": ", err);
    if (!rc)
        rc = fs_json_quote(&line, fs_buf_bytes(&item->answer), err);
    if (!rc)
        rc = fs_buf_append_str(&line, ", \"output\": ", err);
    if (!rc)
        rc = fs_json_quote(&line, fs_buf_bytes(text), err);
    if (!rc)
        rc = fs_buf_append_str(&line, "}\n", err);
    if (!rc)
        rc = fs_writer_put(&e->out, line.data, line.n_bytes, err);
    fs_buf_done(&line);
    return rc;
}

static fs_status look_at(evaluation *e, size_t problem, const fs_sampled *samples, fs_error *err)
{
    uint32_t n_right = 0;
    fs_buf text = { 0 };
    fs_status rc = FS_OK;

    for (uint32_t k = 0; k < e->samples && !rc; k++) {
        const fs_sampled *c = &samples[k];
        fs_verdict v = FS_VERDICT_WRONG;
        fs_buf_clear(&text);
        rc = fs_tokenizer_decode(fs_model_tokenizer(e->model), c->ids, c->n - c->stopped, false, &text, err);
        if (!rc)
            rc = fs_suite_judge(&e->suite.items[problem], fs_buf_bytes(&text), &v, err);
        if (!rc && opt.out)
            rc = write_completion(e, problem, k, c, v, &text, err);
        e->n_truncated += !c->stopped;
        e->tokens += c->n;
        e->n_formed += v != FS_VERDICT_WRONG;
        e->tokens_right += v == FS_VERDICT_RIGHT ? c->n : 0;
        n_right += v == FS_VERDICT_RIGHT;
    }
    e->n_done++;
    e->n_right += n_right;
    e->squares += (double)n_right / e->samples * n_right / e->samples;
    e->pass_k += fs_pass_at(e->samples, n_right, e->k);
    fs_buf_done(&text);
    return rc;
}

/* Of a part of the completions, as of all. */
static bool on_progress(void *ud, uint64_t done, uint64_t total)
{
    evaluation *e = ud;

    (void)total;
    return e->work.progress.fn(e->work.progress.ud, e->n_done * e->samples + done, e->suite.n * e->samples);
}

static fs_status evaluate(evaluation *e, fs_error *err)
{
    size_t row = (size_t)opt.max_tokens, at_once = AT_ONCE_BYTES / (row * e->samples * sizeof(int32_t)) + 1;
    fs_sampled *items;
    int32_t *ids;
    fs_progress progress = { on_progress, e };
    fs_status rc = FS_OK;

    at_once = at_once < e->suite.n ? at_once : e->suite.n;
    items = calloc(at_once * e->samples, sizeof *items);
    ids = malloc(at_once * e->samples * row * sizeof *ids);
    if (!items || !ids)
        rc = fs_fail_memory(err, at_once * e->samples * row * sizeof *ids);
    fs_work_start(&e->work, "answering", "completions", 1);
    if (!rc)
        fs_rollout_watch(e->rollout, &progress);
    for (size_t first = 0, now; first < e->suite.n && !rc; first += now) {
        now = e->suite.n - first < at_once ? e->suite.n - first : at_once;
        for (size_t i = 0; i < now * e->samples; i++) {
            const fs_suite_item *item = &e->suite.items[first + i / e->samples];
            items[i] = (fs_sampled){ .prompt = item->ids, .n_prompt = item->n_ids, .stream = (uint32_t)(first * e->samples + i), .ids = ids + i * row,
                                        .n_max = (uint32_t)opt.max_tokens };
        }
        rc = fs_rollout_run(e->rollout, &e->sampling, e->stop_ids, e->n_stop_ids, items, now * e->samples, err);
        for (size_t i = 0; i < now && !rc; i++)
            rc = look_at(e, first + i, items + i * e->samples, err);
    }
    fs_work_end(&e->work);
    free(items);
    free(ids);
    return rc;
}

/* ---- the answer ---- */

static void print_score(const evaluation *e)
{
    double n = (double)e->suite.n, all = n * e->samples, mean = (double)e->n_right / all;
    double variance = n > 1 ? (e->squares - n * mean * mean) / (n - 1) : 0, error = sqrt((variance > 0 ? variance : 0) / n);
    double length_right = e->n_right ? (double)e->tokens_right / (double)e->n_right : 0;
    double length_wrong = all > (double)e->n_right ? (double)(e->tokens - e->tokens_right) / (all - (double)e->n_right) : 0;

    if (opt.json) {
        printf("{\"problems\": %zu, \"samples\": %" PRIu32 ", \"pass_1\": %.6f, \"pass_1_error\": %.6f, \"k\": %" PRIu32 ", \"pass_k\": %.6f, \"well_formed\": %.6f, "
               "\"truncated\": %.6f, \"length\": %.3f, \"length_right\": %.3f, \"length_wrong\": %.3f, \"temperature\": %g, \"seconds\": %.2f}\n",
               e->suite.n, e->samples, mean, error, e->k, e->pass_k / n, (double)e->n_formed / all, (double)e->n_truncated / all, (double)e->tokens / all,
               length_right, length_wrong, (double)e->sampling.temperature, fs_seconds_now() - e->start);
        return;
    }
    printf("problems     %zu, %" PRIu32 " completion%s each\n", e->suite.n, e->samples, e->samples == 1 ? "" : "s");
    printf("pass@1       %.4f +- %.4f\n", mean, error);
    if (e->samples > 1)
        printf("pass@%-7" PRIu32 " %.4f\n", e->k, e->pass_k / n);
    printf("well-formed  %.4f\n", (double)e->n_formed / all);
    printf("tokens       %.1f; %.1f of right ones, %.1f of wrong ones; %.2f %% cut off\n", (double)e->tokens / all, length_right, length_wrong,
           100 * (double)e->n_truncated / all);
}

static fs_status run(const fs_args *args, fs_error *err)
{
    evaluation e = { .samples = (uint32_t)opt.samples, .start = fs_seconds_now(), .sampling = fs_sampling_default() };
    fs_status rc = FS_OK;

    e.k = opt.k ? (uint32_t)opt.k : e.samples;
    if (e.k > e.samples)
        return fs_fail(err, FS_ERR_ARGUMENT, "pass@%" PRIu32 " wants %" PRIu32 " samples, there are %" PRIu32, e.k, e.k, e.samples);
    e.sampling.temperature = opt.temperature >= 0 ? (float)opt.temperature : e.samples > 1 ? 0.6f : 0.0f;
    e.sampling.top_p = opt.top_p >= 0 ? (float)opt.top_p : e.samples > 1 ? 0.95f : 1.0f;
    e.sampling.seed = opt.seed;
    if (e.sampling.temperature == 0 && e.samples > 1)
        return fs_fail(err, FS_ERR_ARGUMENT, "greedy completions of a problem are all the same: give --temperature, or one sample");
    fs_interrupt_catch();
    if (opt.out)
        rc = fs_writer_open(&e.out, opt.out, err);
    if (!rc)
        rc = prepare(&e, args->items[0], args->items[1], err);
    if (!rc)
        rc = evaluate(&e, err);
    if (!rc && opt.out)
        rc = fs_writer_commit(&e.out, err);
    if (!rc)
        print_score(&e);
    fs_writer_close(&e.out);
    free(e.stop_ids);
    fs_rollout_free(e.rollout);
    fs_suite_done(&e.suite);
    fs_model_close(e.model);
    return rc;
}

const fs_command fs_command_eval = {
    .set = { .name = "eval",
             .usage = "MODEL SUITE",
             .summary = "Measure how many problems of a suite a model gets right.",
             .text = "SUITE is a .jsonl of records with prompt and answer, e.g. of `farseek data make --split test`. Prints pass@1 with its standard error over "
                     "problems, pass@k, and lengths. What is printed depends on the model, the suite, the sampling and the seed alone.",
             .options = options,
             .n_args_min = 2,
             .n_args_max = 2 },
    .run = run,
};
