/* farseek bench: how fast a model reads a prompt and writes tokens here, and what share that is of what the machine can.
 * The ids are random, since a model's routing depends on them; what is measured is the forward step that every command
 * uses. docs/bench.md says what each figure means. */
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/reply.h"
#include "cli/score.h"
#include "cli/stream.h"
#include "cli/tally.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/numa.h"
#include "kernels/limits.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static struct {
    int n_prompt, n_tokens, n_depth, n_threads, n_batch, n_runs, chunk, n_draft;
    const char *isa, *speculate, *kv_type, *numa;
    uint64_t memory;
    int n_slots;
    bool exact, mapped, pin, limits, json;
} opt = { .n_prompt = 512, .n_tokens = 128, .n_batch = 1, .n_runs = 3, .limits = true };

static const fs_option options[] = {
    FS_OPT_INT("prompt-tokens", 'p', opt.n_prompt, 0, 1 << 20, "N", "tokens of the prompt (default 512; 0: do not measure reading)"),
    FS_OPT_INT("tokens", 'n', opt.n_tokens, 0, 1 << 20, "N", "tokens written (default 128; 0: do not measure writing)"),
    FS_OPT_INT("depth", 'd', opt.n_depth, 0, 1 << 20, "N", "tokens that stand in the context before both (default 0)"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, FS_POOL_THREADS_MAX, "N", "threads (default: one a usable CPU)"),
    FS_OPT_FLAG("pin", 0, opt.pin, "keep each thread on a CPU of its own"),
    FS_OPT_STR("numa", 0, opt.numa, "first-touch|interleave", "where memory lies on a machine of several nodes (default first-touch)"),
    FS_OPT_INT("batch", 'b', opt.n_batch, 1, FS_STEP_SEQUENCES, "N", "sequences that write at once (default 1)"),
    FS_OPT_INT("runs", 'r', opt.n_runs, 1, 100, "N", "measure N times and take the median (default 3)"),
    FS_OPT_INT("chunk", 0, opt.chunk, 0, FS_STEP_TOKENS, "N", "prompt tokens a step (default: as many as fit)"),
    FS_OPT_STR("speculate", 0, opt.speculate, "off|lookup|mtp", "write the model's own likeliest tokens, guessing ahead (default off)"),
    FS_OPT_INT("draft", 0, opt.n_draft, 0, FS_DRAFT_MAX, "N", "tokens guessed at once; 0: 8 by lookup, 1 by mtp (default 0)"),
    FS_OPT_INT("expert-slots", 0, opt.n_slots, 0, 1 << 24, "N", "keep N experts in memory, the others on disk (default 0: as many as fit)"),
    FS_OPT_SIZE("memory", 0, opt.memory, "SIZE", "take no more than this, as 4GiB: experts that do not fit stay on disk (default: what is free)"),
    FS_OPT_STR("isa", 0, opt.isa, "scalar|avx2|avx512|neon", "restrict the instruction set"),
    FS_OPT_FLAG("exact-activations", 0, opt.exact, "f32 activations against block-quantised weights, not quantised ones"),
    FS_OPT_FLAG("mmap", 0, opt.mapped, "leave the weights in the file's map instead of a packed copy"),
    FS_OPT_STR("kv-type", 0, opt.kv_type, "f32|bf16|q8", "what attention's cache holds (default: bf16 with 8-bit activations, else f32)"),
    FS_OPT_FLAG("limits", 0, opt.limits, "measure what the machine can, too (default; 1 s, 1 GiB)"),
    FS_OPT_FLAG("json", 0, opt.json, "answer in JSON"),
    FS_OPT_END
};

#define RUNS_MAX         100
#define READ_BYTES_MAX   ((size_t)1 << 30)
#define READ_BYTES_MIN   ((size_t)64 << 20)
#define LIMIT_RUNS       7
#define PROBE_BYTES  ((uint64_t)128 << 20) /* of the disk, each fourth token */
#define PROBE_TOKENS 4
#define KV_SAMPLE_TOKENS 4096

typedef struct bench {
    fs_model *model;
    fs_session *sessions[FS_STEP_SEQUENCES];
    int32_t *ids;   /* of one eval: depth or the prompt */
    float *logits;  /* [batch, V] */
    uint64_t seed;
    fs_speculation speculation;
    int n_drafted, n_accepted; /* of one run */
    double open_s, first_token_s, prompt_s[RUNS_MAX], tokens_s[RUNS_MAX];
    double rss_mib;
    fs_tallies tallies;
    bool streamed;
    fs_stream_stats prompt_stream, tokens_stream; /* of all runs */
    double disk_bytes, disk_s; /* what the disk gave when it was asked for nothing else; the seconds are in no run's */
    double disk_bytes_s;
    double could_read[RUNS_MAX]; /* bytes, in the time of each run, of weights that take a GiB and more */
    double read_bytes_s, f32_ops_s, int8_ops_s; /* of the machine; 0: not measured */
} bench;

static void bench_done(bench *b)
{
    for (int i = 0; i < opt.n_batch; i++)
        fs_session_free(b->sessions[i]);
    fs_model_close(b->model);
    free(b->ids);
    free(b->logits);
}

/* Random ids from a fixed seed (Steele, Lea and Flood, SplitMix64): every run of the program meets the same. */
static int32_t random_id(bench *b)
{
    uint64_t z = b->seed += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (int32_t)((z ^ z >> 31) % (uint64_t)fs_model_vocab_size(b->model));
}

static float *logits_of(bench *b, int sequence)
{
    return b->logits + (size_t)sequence * (size_t)fs_model_vocab_size(b->model);
}

static fs_status read_tokens(bench *b, int sequence, int n, fs_error *err)
{
    if (n == 0)
        return FS_OK;
    if (fs_interrupted())
        return fs_fail(err, FS_ERR_INTERRUPTED, "stopped");
    for (int i = 0; i < n; i++)
        b->ids[i] = random_id(b);
    return fs_session_eval(b->sessions[sequence], b->ids, (size_t)n, (size_t)opt.chunk, NULL, logits_of(b, sequence), NULL, err);
}

/* The rate of a disk may change from second to second: it is measured between the tokens. */
static void probe_disk(bench *b)
{
    double seconds;

    if (!opt.limits)
        return;
    b->disk_bytes += (double)fs_model_probe_disk(b->model, PROBE_BYTES, &seconds);
    b->disk_s += seconds;
}

/* n steps of one token in every sequence. */
static fs_status write_tokens(bench *b, int n, fs_error *err)
{
    fs_batch_item items[FS_STEP_SEQUENCES];
    int32_t ids[FS_STEP_SEQUENCES];
    fs_status rc = FS_OK;

    for (int t = 0; t < n && !rc; t++) {
        for (int i = 0; i < opt.n_batch; i++) {
            ids[i] = random_id(b);
            items[i] = (fs_batch_item){ .session = b->sessions[i], .ids = &ids[i], .n = 1, .n_logits = 1, .ret_logits = logits_of(b, i) };
        }
        rc = fs_interrupted() ? fs_fail(err, FS_ERR_INTERRUPTED, "stopped") : fs_batch_eval(items, (size_t)opt.n_batch, err);
        if (!rc && t % PROBE_TOKENS == 0)
            probe_disk(b);
    }
    return rc;
}

static bool go_on(void *ud, int32_t id)
{
    (void)ud;
    (void)id;
    return !fs_interrupted();
}

/* Behind the tokens at depth, or behind one. */
static fs_status write_guessing(bench *b, int n, fs_error *err)
{
    size_t n_before = opt.n_depth ? (size_t)opt.n_depth : 1;
    fs_generation g = { 0 };
    fs_status rc = opt.n_depth ? FS_OK : read_tokens(b, 0, 1, err);

    if (!rc)
        rc = fs_generate_tokens(b->sessions[0], fs_session_tokens(b->sessions[0]), n_before, NULL, n, go_on, NULL, &g, err);
    if (!rc && g.stop == FS_STOP_CALLBACK)
        rc = fs_fail(err, FS_ERR_INTERRUPTED, "stopped");
    b->n_drafted = g.n_drafted;
    b->n_accepted = g.n_accepted;
    return rc;
}

static void rewind_to_depth(bench *b)
{
    for (int i = 0; i < opt.n_batch; i++)
        fs_session_truncate(b->sessions[i], opt.n_depth);
}

/* Up to the first token: the model, a session, the logits after one token. */
static fs_status bench_open(bench *b, const char *model, fs_error *err)
{
    int ctx_tokens = opt.n_depth + (opt.n_prompt > opt.n_tokens ? opt.n_prompt : opt.n_tokens) + 1;
    int ids_max = opt.n_depth > opt.n_prompt ? opt.n_depth : opt.n_prompt;
    fs_model_options o = { .n_threads = opt.n_threads, .pin = opt.pin, .isa = opt.isa, .ctx_tokens = ctx_tokens, .exact_activations = opt.exact,
                           .mapped = opt.mapped, .kv_type = opt.kv_type,
                           .memory_bytes_max = opt.memory, .n_expert_slots = opt.n_slots };
    char *path = NULL;
    size_t n;
    double start = fs_seconds_now();
    fs_status rc = fs_speculation_from_name(opt.speculate, &b->speculation, err);

    if (!rc && b->speculation && opt.n_batch > 1)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "--speculate writes one sequence, --batch is %d", opt.n_batch);
    if (!rc)
        rc = fs_numa_set(opt.numa, err);
    if (!rc)
        rc = fs_model_path(model, &path, err);
    o.mtp = b->speculation == FS_SPECULATE_MTP;
    if (!rc)
        rc = fs_model_open(path, &o, &b->model, err);
    free(path);
    if (rc)
        return rc;
    b->open_s = fs_seconds_now() - start;
    n = (size_t)fs_model_vocab_size(b->model) * sizeof *b->logits;
    b->ids = calloc((size_t)ids_max + 1, sizeof *b->ids);
    b->logits = fs_mul_size(n, (size_t)opt.n_batch, &n) ? malloc(n) : NULL;
    if (!b->ids || !b->logits)
        return fs_fail_memory(err, n);
    rc = fs_session_new(b->model, ctx_tokens, &b->sessions[0], err);
    if (!rc)
        rc = fs_session_speculate(b->sessions[0], b->speculation, opt.n_draft, err);
    if (!rc)
        rc = read_tokens(b, 0, 1, err);
    b->first_token_s = fs_seconds_now() - start;
    for (int i = 1; i < opt.n_batch && !rc; i++)
        rc = fs_session_new(b->model, ctx_tokens, &b->sessions[i], err);
    if (!rc)
        fs_session_truncate(b->sessions[0], 0);
    return rc;
}

/* Adds what streaming did since the last look, which this then is. */
static void count_stream(const bench *b, fs_stream_stats *look, fs_stream_stats *sum)
{
    fs_stream_stats now, d;

    if (!fs_model_stream_stats(b->model, &now))
        return;
    d = fs_stream_between(look, &now);
    *look = now;
    if (!sum)
        return;
    sum->n_wanted += d.n_wanted;
    sum->n_hits += d.n_hits;
    sum->n_guessed += d.n_guessed;
    sum->n_guessed_right += d.n_guessed_right;
    sum->bytes_needed += d.bytes_needed;
    sum->bytes_read += d.bytes_read;
    sum->wait_s += d.wait_s;
}

/* What reading the packed weights gives now; 0: they are few, and would come from a cache. The memory of a virtual machine may give half as
 * much from one second to the next, so that this is asked on both sides of each run. */
static double reading_now(const bench *b)
{
    fs_bytes weights = fs_network_memory(fs_model_network(b->model));

    if (!opt.limits || !opt.n_tokens || weights.n_bytes < READ_BYTES_MAX)
        return 0;
    return fs_limit_read_bytes_s(fs_model_pool(b->model), fs_model_kernels(b->model)->isa, weights.data,
                                 weights.n_bytes / FS_LIMITS_READ_ALIGN * FS_LIMITS_READ_ALIGN, 3);
}

/* Once what is before the measured part, and once that part without a clock; then n_runs times each. */
static fs_status measure(bench *b, fs_error *err)
{
    fs_stream_stats look = { 0 };
    fs_status rc = FS_OK;
    double start, probed, before;

    fs_model_pack_all(b->model);
    for (int i = 0; i < opt.n_batch && !rc; i++)
        rc = read_tokens(b, i, opt.n_depth, err);
    if (!rc)
        rc = read_tokens(b, 0, opt.n_prompt < FS_STEP_TOKENS ? opt.n_prompt : FS_STEP_TOKENS, err);
    rewind_to_depth(b);
    if (!rc && opt.n_tokens)
        rc = write_tokens(b, 1, err);
    for (int i = 0; i < opt.n_runs && !rc; i++) {
        rewind_to_depth(b);
        count_stream(b, &look, NULL);
        start = fs_seconds_now();
        rc = read_tokens(b, 0, opt.n_prompt, err);
        b->prompt_s[i] = fs_seconds_now() - start;
        count_stream(b, &look, &b->prompt_stream);
        rewind_to_depth(b);
        probe_disk(b);
        probed = b->disk_s;
        before = reading_now(b);
        start = fs_seconds_now();
        if (!rc)
            rc = b->speculation ? write_guessing(b, opt.n_tokens, err) : write_tokens(b, opt.n_tokens, err);
        b->tokens_s[i] = fs_seconds_now() - start - (b->disk_s - probed);
        count_stream(b, &look, &b->tokens_stream);
        b->could_read[i] = b->tokens_s[i] * (before + reading_now(b)) / 2;
    }
    return rc;
}

typedef struct rate {
    double median, min, max; /* tokens a second */
} rate;

/* Sorts the times. */
static rate rate_of(double n_tokens, double *times)
{
    int n = opt.n_runs;

    fs_sort_f64(times, (size_t)n);
    return (rate){ n_tokens / (n % 2 ? times[n / 2] : (times[n / 2 - 1] + times[n / 2]) / 2), n_tokens / times[n - 1], n_tokens / times[0] };
}

/* Where the runs have not told: of a GiB, or less of it where there is little memory, or not at all. */
static void measure_reading(bench *b, fs_pool *pool, unsigned isa)
{
    size_t free_bytes = fs_memory_available(), left = opt.memory > b->rss_mib * 1048576 ? (size_t)(opt.memory - b->rss_mib * 1048576) : 0;
    size_t available = (opt.memory && left < free_bytes ? left : free_bytes) / 4, n = available < READ_BYTES_MAX ? available / FS_LIMITS_READ_ALIGN * FS_LIMITS_READ_ALIGN : READ_BYTES_MAX;
    uint8_t *memory = NULL;

    if (b->could_read[0] > 0) {
        fs_sort_f64(b->could_read, (size_t)opt.n_runs);
        b->read_bytes_s = rate_of(b->could_read[opt.n_runs / 2], b->tokens_s).median;
        return;
    }
    memory = n >= READ_BYTES_MIN ? fs_alloc_lazy(n) : NULL;
    if (memory) {
        memset(memory, 1, n);
        b->read_bytes_s = fs_limit_read_bytes_s(pool, isa, memory, n, LIMIT_RUNS);
        fs_free_lazy(memory, n);
    }
}

static void measure_limits(bench *b)
{
    fs_pool *pool = fs_model_pool(b->model);
    unsigned isa = fs_model_kernels(b->model)->isa;

    measure_reading(b, pool, isa);
    b->disk_bytes_s = b->disk_s > 0 ? b->disk_bytes / b->disk_s : 0;
    b->f32_ops_s = fs_limit_f32_ops_s(pool, isa, LIMIT_RUNS);
    b->int8_ops_s = fs_limit_int8_ops_s(pool, isa, LIMIT_RUNS);
}

/* ---- what it comes to ---- */

/* Multiplications plus additions with weights that reading the prompt takes; attention's own are not counted. */
static double prompt_ops(const bench *b)
{
    const fs_config *c = fs_model_config(b->model);
    double layers = (double)fs_tallies_active_layers(&b->tallies, c), all = (double)fs_tallies_active(&b->tallies, c);

    return 2 * (layers * opt.n_prompt + all - layers);
}

/* Bytes of the cache that a token reads, on average over those written: all positions before it. 0 where the model chooses
 * positions (V3.2, V4). */
static double cache_bytes(const bench *b)
{
    double token = (double)fs_model_memory(b->model, KV_SAMPLE_TOKENS).kv_bytes / KV_SAMPLE_TOKENS;

    return fs_model_config(b->model)->index_n_heads ? 0 : token * (opt.n_depth + (opt.n_tokens + 1) / 2.0);
}

/* Of the widest set the kernels use. */
static const char *isa_name(unsigned isa)
{
    unsigned top = FS_ISA_END >> 1;

    while (top && !(isa & top))
        top >>= 1;
    return fs_isa_name(top);
}

/* Seconds that the disk needs for what was not in memory, over the seconds that reading or writing took, all runs. */
static double disk_share(const bench *b, const fs_stream_stats *s, const double *times)
{
    double seconds = 0;

    for (int i = 0; i < opt.n_runs; i++)
        seconds += times[i];
    return b->disk_bytes_s > 0 && seconds > 0 ? (double)s->bytes_needed / b->disk_bytes_s / seconds : 0;
}

static void print_stream(const bench *b, const char *title, const fs_stream_stats *s, const double *times, double n_tokens)
{
    double seconds = 0;

    for (int i = 0; i < opt.n_runs; i++)
        seconds += times[i];
    printf("%-16s %8.1f %%    of those needed in memory (%u of %u slots); %.1f MB a token needed from disk, %.1f read; waited %.0f %% of the time",
           title, 100 * fs_stream_hit_rate(s), b->tokens_stream.n_slots, b->tokens_stream.n_experts, (double)s->bytes_needed / n_tokens / 1e6,
           (double)s->bytes_read / n_tokens / 1e6, 100 * s->wait_s / seconds);
    if (b->disk_bytes_s > 0)
        printf("; %.0f %% of what the disk allows", 100 * disk_share(b, s, times));
    putchar('\n');
}

static void print_json_stream(const bench *b, const char *name, const fs_stream_stats *s, const double *times)
{
    printf("\"%s_hit_rate\": %.4f, \"%s_needed_bytes\": %.0f, \"%s_read_bytes\": %.0f, \"%s_wait_s\": %.3f, \"%s_guessed\": %llu, "
           "\"%s_guessed_right\": %llu, \"%s_disk_share\": %.3f, ",
           name, fs_stream_hit_rate(s), name, (double)s->bytes_needed / opt.n_runs, name, (double)s->bytes_read / opt.n_runs, name,
           s->wait_s / opt.n_runs, name, (unsigned long long)s->n_guessed, name, (unsigned long long)s->n_guessed_right, name,
           disk_share(b, s, times));
}

static void print(bench *b, const char *name)
{
    rate pp = rate_of(opt.n_prompt, b->prompt_s), tg = rate_of((double)opt.n_tokens * opt.n_batch, b->tokens_s);
    double ops_s = prompt_ops(b) / opt.n_prompt * pp.median, step = fs_tallies_step_bytes(&b->tallies, fs_model_config(b->model), opt.n_batch);
    double bytes = step / opt.n_batch + cache_bytes(b), bytes_s = bytes * tg.median;
    int threads = fs_pool_threads(fs_model_pool(b->model));

    printf("%s, %d thread%s, %s, activations %s, cache %s, median of %d (min - max)\n", name, threads, threads == 1 ? "" : "s",
           isa_name(fs_model_kernels(b->model)->isa), fs_model_activations(b->model), fs_model_kv_type(b->model), opt.n_runs);
    if (opt.n_prompt) {
        printf("%-16s %8.1f tokens/s  (%.1f - %.1f)   %d tokens%s, %.0f Gop/s", "prompt", pp.median, pp.min, pp.max, opt.n_prompt,
               opt.n_depth ? " at depth" : "", ops_s / 1e9);
        if (opt.limits)
            printf(": %.0f %% of int8, %.0f %% of f32", 100 * ops_s / b->int8_ops_s, 100 * ops_s / b->f32_ops_s);
        putchar('\n');
    }
    if (opt.n_tokens) {
        printf("%-16s %8.1f tokens/s  (%.1f - %.1f)   %d tokens%s, %d at once, %.1f GB/s", "writing", tg.median, tg.min, tg.max,
               opt.n_tokens, opt.n_depth ? " at depth" : "", opt.n_batch, bytes_s / 1e9);
        if (b->read_bytes_s > 0)
            printf(": %.0f %% of reading", 100 * bytes_s / b->read_bytes_s);
        putchar('\n');
        if (b->speculation)
            printf("%-16s %8.0f %%      %d of %d\n", "guesses right", b->n_drafted ? 100.0 * b->n_accepted / b->n_drafted : 0.0,
                   b->n_accepted, b->n_drafted);
        printf("%-16s %8.1f MB\n", "a token reads", bytes / 1e6);
    }
    if (b->streamed && opt.n_prompt)
        print_stream(b, "experts, prompt", &b->prompt_stream, b->prompt_s, (double)opt.n_prompt * opt.n_runs);
    if (b->streamed && opt.n_tokens)
        print_stream(b, "experts, writing", &b->tokens_stream, b->tokens_s, (double)opt.n_tokens * opt.n_batch * opt.n_runs);
    printf("%-16s %8.2f s        first token after %.2f s\n%-16s %8.1f MiB\n", "opening", b->open_s, b->first_token_s, "memory, peak",
           b->rss_mib);
    if (opt.limits) {
        printf("%-16s ", "this machine");
        if (b->read_bytes_s > 0)
            printf("reads %.1f GB/s, ", b->read_bytes_s / 1e9);
        if (b->disk_bytes_s > 0)
            printf("disk %.2f GB/s, ", b->disk_bytes_s / 1e9);
        printf("f32 %.0f Gop/s, int8 %.0f Gop/s\n", b->f32_ops_s / 1e9, b->int8_ops_s / 1e9);
    }
}

static void print_json(bench *b)
{
    rate pp = rate_of(opt.n_prompt, b->prompt_s), tg = rate_of((double)opt.n_tokens * opt.n_batch, b->tokens_s);
    double step = fs_tallies_step_bytes(&b->tallies, fs_model_config(b->model), opt.n_batch);

    printf("{");
    if (opt.n_prompt)
        printf("\"pp_tok_s\": %.2f, \"pp_tok_s_min\": %.2f, \"pp_tok_s_max\": %.2f, \"pp_ops_s\": %.0f, ", pp.median, pp.min, pp.max,
               prompt_ops(b) / opt.n_prompt * pp.median);
    if (opt.n_tokens)
        printf("\"tg_tok_s\": %.2f, \"tg_tok_s_min\": %.2f, \"tg_tok_s_max\": %.2f, \"tg_bytes_s\": %.0f, \"token_bytes\": %.0f, ",
               tg.median, tg.min, tg.max, (step / opt.n_batch + cache_bytes(b)) * tg.median, step / opt.n_batch + cache_bytes(b));
    if (b->speculation)
        printf("\"drafted\": %d, \"accepted\": %d, ", b->n_drafted, b->n_accepted);
    if (b->streamed) {
        printf("\"expert_slots\": %u, \"experts\": %u, ", b->tokens_stream.n_slots, b->tokens_stream.n_experts);
        if (opt.n_prompt)
            print_json_stream(b, "pp", &b->prompt_stream, b->prompt_s);
        if (opt.n_tokens)
            print_json_stream(b, "tg", &b->tokens_stream, b->tokens_s);
        if (opt.limits)
            printf("\"limit_disk_bytes_s\": %.0f, ", b->disk_bytes_s);
    }
    if (opt.limits)
        printf("\"limit_read_bytes_s\": %.0f, \"limit_f32_ops_s\": %.0f, \"limit_int8_ops_s\": %.0f, ", b->read_bytes_s, b->f32_ops_s,
               b->int8_ops_s);
    printf("\"load_s\": %.3f, \"first_token_s\": %.3f, \"rss_mib\": %.1f, \"prompt_tokens\": %d, \"tokens\": %d, \"depth\": %d, "
           "\"batch\": %d, \"threads\": %d, \"isa\": \"%s\", \"activations\": \"%s\", \"kv_type\": \"%s\", \"runs\": %d}\n",
           b->open_s, b->first_token_s, b->rss_mib, opt.n_prompt, opt.n_tokens, opt.n_depth, opt.n_batch,
           fs_pool_threads(fs_model_pool(b->model)), isa_name(fs_model_kernels(b->model)->isa), fs_model_activations(b->model), fs_model_kv_type(b->model), opt.n_runs);
}

static fs_status run(const fs_args *args, fs_error *err)
{
    bench b = { 0 };
    struct rusage usage;
    fs_stream_stats last = { 0 };
    fs_status rc;

    if (opt.n_prompt + opt.n_tokens == 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "-p 0 and -n 0 leave nothing to measure");
    fs_interrupt_catch();
    rc = bench_open(&b, args->items[0], err);
    if (!rc)
        rc = measure(&b, err);
    if (!rc) {
        const fs_weights *w = fs_model_weights(b.model);
        getrusage(RUSAGE_SELF, &usage);
        b.rss_mib = (double)usage.ru_maxrss / 1024;
        b.streamed = fs_model_stream_stats(b.model, &last);
        b.tokens_stream.n_slots = last.n_slots;
        b.tokens_stream.n_experts = last.n_experts;
        for (size_t i = 0; i < fs_weights_n_tensors(w); i++)
            fs_tallies_add(&b.tallies, fs_weights_tensor_at(w, i), fs_model_config(b.model)->num_hidden_layers);
        if (opt.limits)
            measure_limits(&b);
        if (opt.json)
            print_json(&b);
        else
            print(&b, args->items[0]);
    }
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
