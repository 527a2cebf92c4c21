/* farseek bench: how fast a model reads a prompt and writes tokens here. The ids are fixed and mean nothing; what is
 * measured is the same forward step that every command uses. */
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/reply.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static struct {
    int n_prompt, n_tokens, n_threads, n_batch, n_runs, chunk;
    const char *isa;
    bool json;
} opt = { .n_prompt = 512, .n_tokens = 128, .n_batch = 1, .n_runs = 3 };

static const fs_option options[] = {
    FS_OPT_INT("prompt-tokens", 'p', opt.n_prompt, 1, 1 << 20, "N", "tokens of the prompt (default 512)"),
    FS_OPT_INT("tokens", 'n', opt.n_tokens, 1, 1 << 20, "N", "tokens written (default 128)"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, FS_POOL_THREADS_MAX, "N", "threads (default: one a usable CPU)"),
    FS_OPT_INT("batch", 'b', opt.n_batch, 1, FS_STEP_SEQUENCES, "N", "sequences that write at once (default 1)"),
    FS_OPT_INT("runs", 'r', opt.n_runs, 1, 100, "N", "measure N times and take the median (default 3)"),
    FS_OPT_INT("chunk", 0, opt.chunk, 0, FS_STEP_TOKENS, "N", "prompt tokens a step (default: as many as fit)"),
    FS_OPT_STR("isa", 0, opt.isa, "scalar|avx2|avx512|neon", "restrict the instruction set"),
    FS_OPT_FLAG("json", 0, opt.json, "answer in JSON"),
    FS_OPT_END
};

#define RUNS_MAX 100

typedef struct bench {
    fs_model *model;
    fs_session *sessions[FS_STEP_SEQUENCES];
    int32_t *prompt;
    float *logits; /* [batch, V] */
    double load_s, prompt_s[RUNS_MAX], tokens_s[RUNS_MAX];
} bench;

static void bench_done(bench *b)
{
    for (int i = 0; i < opt.n_batch; i++)
        fs_session_free(b->sessions[i]);
    fs_model_close(b->model);
    free(b->prompt);
    free(b->logits);
}

static fs_status bench_open(bench *b, const char *model, fs_error *err)
{
    fs_model_options o = { .n_threads = opt.n_threads, .isa = opt.isa, .ctx_tokens = opt.n_prompt + opt.n_tokens };
    char *path = NULL;
    size_t v, n;
    double start = fs_seconds_now();
    fs_status rc = fs_model_path(model, &path, err);

    if (!rc)
        rc = fs_model_open(path, &o, &b->model, err);
    free(path);
    if (rc)
        return rc;
    b->load_s = fs_seconds_now() - start;
    v = (size_t)fs_model_vocab_size(b->model);
    b->prompt = calloc((size_t)opt.n_prompt, sizeof *b->prompt);
    b->logits = fs_mul_size(v * sizeof *b->logits, (size_t)opt.n_batch, &n) ? malloc(n) : NULL;
    if (!b->prompt || !b->logits)
        return fs_fail_memory(err, v * sizeof *b->logits);
    for (int i = 0; i < opt.n_prompt; i++)
        b->prompt[i] = (int32_t)(((uint64_t)i * 7919 + 17) % v);
    for (int i = 0; i < opt.n_batch && !rc; i++)
        rc = fs_session_new(b->model, opt.n_prompt + opt.n_tokens, &b->sessions[i], err);
    return rc;
}

/* The prompt in every session (timed in the first), then tokens in all of them at once. */
static fs_status measure(bench *b, double *ret_prompt_s, double *ret_tokens_s, fs_error *err)
{
    size_t v = (size_t)fs_model_vocab_size(b->model);
    fs_batch_item items[FS_STEP_SEQUENCES];
    int32_t ids[FS_STEP_SEQUENCES];
    fs_status rc = FS_OK;
    double start;

    for (int i = 0; i < opt.n_batch && !rc; i++) {
        fs_session_truncate(b->sessions[i], 0);
        start = fs_seconds_now();
        rc = fs_session_eval(b->sessions[i], b->prompt, (size_t)opt.n_prompt, (size_t)opt.chunk, NULL, b->logits + (size_t)i * v, NULL, err);
        if (i == 0)
            *ret_prompt_s = fs_seconds_now() - start;
    }
    start = fs_seconds_now();
    for (int t = 0; t < opt.n_tokens && !rc; t++) {
        for (int i = 0; i < opt.n_batch; i++) {
            float *logits = b->logits + (size_t)i * v;
            ids[i] = (int32_t)fs_model_kernels(b->model)->rows.argmax(logits, v);
            items[i] = (fs_batch_item){ .session = b->sessions[i], .ids = &ids[i], .n = 1, .n_logits = 1, .ret_logits = logits };
        }
        rc = fs_interrupted() ? fs_fail(err, FS_ERR_INTERRUPTED, "stopped") : fs_batch_eval(items, (size_t)opt.n_batch, err);
    }
    *ret_tokens_s = fs_seconds_now() - start;
    return rc;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts the times; the median of n. */
static double median(double *times, int n)
{
    qsort(times, (size_t)n, sizeof *times, by_value);
    return n % 2 ? times[n / 2] : (times[n / 2 - 1] + times[n / 2]) / 2;
}

/* Of the widest set the kernels use. */
static const char *isa_name(unsigned isa)
{
    unsigned top = FS_ISA_END >> 1;

    while (top && !(isa & top))
        top >>= 1;
    return fs_isa_name(top);
}

static void print(bench *b, const char *name)
{
    double prompt_s = median(b->prompt_s, opt.n_runs), tokens_s = median(b->tokens_s, opt.n_runs);
    double pp = opt.n_prompt / prompt_s, tg = (double)opt.n_tokens * opt.n_batch / tokens_s;
    double pp_min = opt.n_prompt / b->prompt_s[opt.n_runs - 1], pp_max = opt.n_prompt / b->prompt_s[0];
    double tg_min = (double)opt.n_tokens * opt.n_batch / b->tokens_s[opt.n_runs - 1], tg_max = (double)opt.n_tokens * opt.n_batch / b->tokens_s[0];
    int threads = fs_pool_threads(fs_model_pool(b->model));
    const char *isa = isa_name(fs_model_kernels(b->model)->isa);
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    if (opt.json) {
        printf("{\"pp_tok_s\": %.2f, \"tg_tok_s\": %.2f, \"pp_tok_s_min\": %.2f, \"pp_tok_s_max\": %.2f, \"tg_tok_s_min\": %.2f, "
               "\"tg_tok_s_max\": %.2f, \"load_s\": %.3f, \"rss_mib\": %.1f, \"prompt_tokens\": %d, \"tokens\": %d, \"batch\": %d, "
               "\"threads\": %d, \"isa\": \"%s\", \"runs\": %d}\n",
               pp, tg, pp_min, pp_max, tg_min, tg_max, b->load_s, (double)usage.ru_maxrss / 1024, opt.n_prompt, opt.n_tokens, opt.n_batch,
               threads, isa, opt.n_runs);
        return;
    }
    printf("%s, %d thread%s, %s, median of %d (min - max)\n", name, threads, threads == 1 ? "" : "s", isa, opt.n_runs);
    printf("%-16s %8.1f tokens/s  (%.1f - %.1f)   %d tokens\n", "prompt", pp, pp_min, pp_max, opt.n_prompt);
    printf("%-16s %8.1f tokens/s  (%.1f - %.1f)   %d tokens, %d at once\n", "writing", tg, tg_min, tg_max, opt.n_tokens, opt.n_batch);
    printf("%-16s %8.2f s\n%-16s %8.1f MiB\n", "loading", b->load_s, "memory, peak", (double)usage.ru_maxrss / 1024);
}

static fs_status run(const fs_args *args, fs_error *err)
{
    bench b = { 0 };
    fs_status rc;

    fs_interrupt_catch();
    rc = bench_open(&b, args->items[0], err);
    for (int i = 0; i < opt.n_runs && !rc; i++)
        rc = measure(&b, &b.prompt_s[i], &b.tokens_s[i], err);
    if (!rc)
        print(&b, args->items[0]);
    bench_done(&b);
    return rc;
}

const fs_command fs_command_bench = {
    .set = { .name = "bench",
             .usage = "MODEL",
             .summary = "Measure how fast a model reads and writes on this machine.",
             .options = options,
             .n_args_min = 1,
             .n_args_max = 1 },
    .run = run,
};
