/* farseek eval: how many problems of a suite a model gets right. Prompts, judging and pass@k are in train/suite.c, the work in
 * cli/solver.c. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/writer.h"
#include "cli/derive.h"
#include "cli/interrupt.h"
#include "cli/likelihood.h"
#include "cli/solver.h"

#include <inttypes.h>
#include <math.h>

static struct {
    const char *judge, *out, *isa, *kv_type, *precision;
    uint64_t memory;
    double temperature, top_p;
    uint64_t seed;
    int samples, k, max_tokens, n_items, batch, n_threads;
    bool thinking, exact_activations, no_record, json;
} opt = { .judge = "auto", .temperature = -1, .top_p = -1, .samples = 1, .batch = 32 };

static const fs_option options[] = {
    FS_OPT_STR("judge", 0, opt.judge, "auto|task|maths|exact", "by the record's task, by mathematical value, as a text (default: task, else maths)"),
    FS_OPT_INT("samples", 0, opt.samples, 1, FS_SOLVER_SAMPLES_MAX, "N", "completions of each problem (default 1)"),
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
    FS_OPT_STR("precision", 0, opt.precision, "f32|bf16", "bf16: the class RN1-bf16 of a model trained so (default: f32, of the weights)"),
    FS_OPT_STR("kv-type", 0, opt.kv_type, "f32|bf16|q8", "what attention's cache holds (default: bf16 with 8-bit activations, else f32)"),
    FS_OPT_SIZE("memory", 0, opt.memory, "SIZE", "take no more than this, as 4GiB: experts that do not fit stay on disk (default: what is free)"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, FS_POOL_THREADS_MAX, "N", "threads (default: one a usable CPU)"),
    FS_OPT_STR("isa", 0, opt.isa, "scalar|avx2|avx512|neon", "restrict the instruction set"),
    FS_OPT_FLAG("no-record", 0, opt.no_record, "write no record of where --out comes from"),
    FS_OPT_FLAG("json", 0, opt.json, "answer in JSON"),
    FS_OPT_END
};

typedef struct evaluation {
    fs_solver solver;
    fs_writer out;
    uint32_t samples, k;
    /* Sums. */
    size_t n_right, n_formed, n_truncated, tokens, tokens_right;
    double squares, pass_k, start;
} evaluation;

/* ---- the completions ---- */

static fs_status write_completion(evaluation *e, size_t problem, uint32_t sample, const fs_solution *s, fs_error *err)
{
    static const char *const words[] = { [FS_VERDICT_WRONG] = "wrong", [FS_VERDICT_WELL_FORMED] = "well-formed", [FS_VERDICT_RIGHT] = "right" };
    const fs_suite_item *item = &e->solver.suite.items[problem];
    fs_buf line = { 0 };
    fs_status rc = fs_buf_printf(&line, err, "{\"problem\": %zu, \"sample\": %" PRIu32 ", \"verdict\": \"%s\", \"tokens\": %" PRIu32 ", \"stopped\": %s, \"prompt\": ",
                                 problem, sample, words[s->verdict], s->sampled->n, s->sampled->stopped ? "true" : "false");

    if (!rc)
        rc = fs_json_quote(&line, fs_buf_bytes(&item->prompt), err);
    if (!rc)
        rc = fs_buf_append_str(&line, ", \"answer\": ", err);
    if (!rc)
        rc = fs_json_quote(&line, fs_buf_bytes(&item->answer), err);
    if (!rc)
        rc = fs_buf_append_str(&line, ", \"output\": ", err);
    if (!rc)
        rc = fs_json_quote(&line, s->text, err);
    if (!rc)
        rc = fs_buf_append_str(&line, "}\n", err);
    if (!rc)
        rc = fs_writer_put(&e->out, line.data, line.n_bytes, err);
    fs_buf_done(&line);
    return rc;
}

static fs_status look_at(void *ud, size_t problem, const fs_solution *solutions, fs_error *err)
{
    evaluation *e = ud;
    uint32_t n_right = 0;
    fs_status rc = FS_OK;

    for (uint32_t k = 0; k < e->samples && !rc; k++) {
        const fs_solution *s = &solutions[k];
        bool right = s->verdict == FS_VERDICT_RIGHT;
        if (opt.out)
            rc = write_completion(e, problem, k, s, err);
        e->n_truncated += !s->sampled->stopped;
        e->tokens += s->sampled->n;
        e->n_formed += s->verdict != FS_VERDICT_WRONG;
        e->tokens_right += right ? s->sampled->n : 0;
        n_right += right;
    }
    e->n_right += n_right;
    e->squares += (double)n_right / e->samples * n_right / e->samples;
    e->pass_k += fs_pass_at(e->samples, n_right, e->k);
    return rc;
}

static fs_status evaluate(evaluation *e, fs_error *err)
{
    fs_solver *s = &e->solver;
    fs_status rc = FS_OK;

    fs_work_start(&s->work, "answering", "completions", 1);
    while (s->n_done < s->suite.n && !rc)
        rc = fs_solver_run(s, s->n_done, s->suite.n - s->n_done < s->at_once ? s->suite.n - s->n_done : s->at_once, look_at, e, err);
    fs_work_end(&s->work);
    return rc;
}

/* ---- the answer ---- */

static void print_score(const evaluation *e)
{
    double n = (double)e->solver.suite.n, all = n * e->samples, mean = (double)e->n_right / all;
    double variance = n > 1 ? (e->squares - n * mean * mean) / (n - 1) : 0, error = sqrt((variance > 0 ? variance : 0) / n);
    double length_right = e->n_right ? (double)e->tokens_right / (double)e->n_right : 0;
    double length_wrong = all > (double)e->n_right ? (double)(e->tokens - e->tokens_right) / (all - (double)e->n_right) : 0;

    if (opt.json) {
        printf("{\"problems\": %zu, \"samples\": %" PRIu32 ", \"pass_1\": %.6f, \"pass_1_error\": %.6f, \"k\": %" PRIu32 ", \"pass_k\": %.6f, \"well_formed\": %.6f, "
               "\"truncated\": %.6f, \"length\": %.3f, \"length_right\": %.3f, \"length_wrong\": %.3f, \"temperature\": %g, \"seconds\": %.2f}\n",
               e->solver.suite.n, e->samples, mean, error, e->k, e->pass_k / n, (double)e->n_formed / all, (double)e->n_truncated / all, (double)e->tokens / all,
               length_right, length_wrong, (double)e->solver.o.sampling.temperature, fs_seconds_now() - e->start);
        return;
    }
    printf("problems     %zu, %" PRIu32 " completion%s each\n", e->solver.suite.n, e->samples, e->samples == 1 ? "" : "s");
    printf("pass@1       %.4f +- %.4f\n", mean, error);
    if (e->samples > 1)
        printf("pass@%-7" PRIu32 " %.4f\n", e->k, e->pass_k / n);
    printf("well-formed  %.4f\n", (double)e->n_formed / all);
    printf("tokens       %.1f; %.1f of right ones, %.1f of wrong ones; %.2f %% cut off\n", (double)e->tokens / all, length_right, length_wrong,
           100 * (double)e->n_truncated / all);
}

static fs_status solve(const fs_args *args, fs_derive *d, fs_error *err)
{
    fs_solver_options o = { .model = { .n_threads = opt.n_threads, .isa = opt.isa, .exact_activations = opt.exact_activations, .kv_type = opt.kv_type, .precision = opt.precision,
                                       .memory_bytes_max = opt.memory },
                            .judge = opt.judge, .n_items = (size_t)opt.n_items, .samples = (uint32_t)opt.samples, .max_tokens = (uint32_t)opt.max_tokens,
                            .batch = (uint32_t)opt.batch, .thinking = opt.thinking, .sampling = fs_sampling_default() };
    evaluation e = { .samples = o.samples, .k = opt.k ? (uint32_t)opt.k : o.samples, .start = fs_seconds_now() };
    fs_status rc = FS_OK;

    if (e.k > e.samples)
        return fs_fail(err, FS_ERR_ARGUMENT, "pass@%" PRIu32 " wants %" PRIu32 " samples, there are %" PRIu32, e.k, e.k, e.samples);
    o.sampling.temperature = (float)opt.temperature;
    o.sampling.top_p = (float)opt.top_p;
    o.sampling.seed = opt.seed;
    if (o.sampling.temperature == 0 && e.samples > 1)
        return fs_fail(err, FS_ERR_ARGUMENT, "greedy completions of a problem are all the same: give --temperature, or one sample");
    fs_interrupt_catch();
    if (opt.out)
        rc = fs_writer_open(&e.out, opt.out, err);
    if (!rc)
        rc = fs_solver_open(&e.solver, args->items[0], args->items[1], &o, 0, err);
    if (!rc)
        rc = evaluate(&e, err);
    if (!rc && opt.out)
        rc = fs_writer_commit(&e.out, err);
    if (!rc) {
        opt.kv_type = fs_model_kv_type(e.solver.model);
        opt.max_tokens = (int)e.solver.o.max_tokens;
        opt.k = (int)e.k;
        rc = fs_derive_end(d, err);
    }
    if (!rc)
        print_score(&e);
    fs_writer_close(&e.out);
    fs_solver_close(&e.solver);
    return rc;
}

static fs_status run(const fs_args *args, fs_error *err)
{
    const fs_likelihood_options o = { .model = { .n_threads = opt.n_threads, .isa = opt.isa, .exact_activations = opt.exact_activations, .kv_type = opt.kv_type, .precision = opt.precision,
                                                 .memory_bytes_max = opt.memory },
                                      .n_items = (size_t)opt.n_items, .out = opt.out, .json = opt.json };
    fs_suite_kind kind = FS_SUITE_PROBLEMS;
    fs_derive d = { 0 };
    fs_status rc = fs_suite_kind_of(args->items[1], &kind, err);

    opt.temperature = opt.temperature >= 0 ? opt.temperature : opt.samples > 1 ? 0.6 : 0;
    opt.top_p = opt.top_p >= 0 ? opt.top_p : opt.samples > 1 ? 0.95 : 1;
    if (!rc && opt.out && !opt.no_record)
        rc = fs_derive_begin(&d, "eval", args, opt.out, err);
    if (!rc && kind == FS_SUITE_PROBLEMS) {
        rc = solve(args, &d, err);
    } else if (!rc) {
        fs_interrupt_catch();
        rc = fs_likelihood(args->items[0], args->items[1], kind, &o, err);
        if (!rc)
            rc = fs_derive_end(&d, err);
    }
    fs_derive_done(&d);
    return rc;
}

const fs_command fs_command_eval = {
    .set = { .name = "eval",
             .usage = "MODEL SUITE",
             .summary = "Measure how many problems of a suite a model gets right.",
             .text = "SUITE is a .jsonl of records with prompt and answer, e.g. of `farseek data make --split test`. Prints pass@1 with its standard error over "
                     "problems, pass@k, and lengths. Records with choices are multiple choice, by log-likelihood; records with text give perplexity. What is printed depends on the model, the suite, the sampling and the seed alone.",
             .options = options,
             .n_args_min = 2,
             .n_args_max = 2 },
    .run = run,
};
