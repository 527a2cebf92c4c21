/* farseek data reject: rejection sampling. A model answers problems several times, and what is right is kept as records to be learnt. Sampling and
 * judging are in cli/solver.c; here are the rule of what is kept, and going on after a stop.
 *
 * While it runs OUT.part has the records of the problems that are done, and OUT.state how many they are, of which sampling. */
#include "cli/cli.h"

#include "base/file.h"
#include "base/json.h"
#include "cli/derive.h"
#include "cli/interrupt.h"
#include "cli/solver.h"
#include "crypto/sha256.h"
#include "lineage/root.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_COMPLETIONS 1024 /* between two states, about */
#define STATE_BYTES_MAX   ((size_t)1 << 16)

static struct {
    const char *judge, *isa, *kv_type;
    double temperature, top_p, shortest, rate_min, rate_max;
    uint64_t seed, memory;
    int samples, keep, max_tokens, n_items, batch, n_threads;
    bool thinking, exact_activations, repeats, no_record, json;
} opt = { .judge = "auto", .temperature = 1, .top_p = 1, .shortest = 1, .rate_max = 1, .samples = 4, .batch = 32 };

static const fs_option options[] = {
    FS_OPT_INT("samples", 0, opt.samples, 1, FS_SOLVER_SAMPLES_MAX, "N", "completions of each problem (default 4)"),
    FS_OPT_INT("keep", 'k', opt.keep, 0, FS_SOLVER_SAMPLES_MAX, "N", "at most N of a problem, the first ones (default: all that are right)"),
    FS_OPT_FLOAT("shortest", 0, opt.shortest, 0, 1, "SHARE", "only this share of a problem's right ones, rounded up, the shortest (default 1)"),
    FS_OPT_FLAG("repeats", 0, opt.repeats, "keep completions of a problem that are alike (default: the first of them)"),
    FS_OPT_FLOAT("rate-min", 0, opt.rate_min, 0, 1, "SHARE", "only problems of which at least this share of the completions is right (default 0)"),
    FS_OPT_FLOAT("rate-max", 0, opt.rate_max, 0, 1, "SHARE", "only problems of which at most this share is right (default 1)"),
    FS_OPT_STR("judge", 0, opt.judge, "auto|task|maths|exact", "by the record's task, by mathematical value, as a text (default: task, else maths)"),
    FS_OPT_FLOAT("temperature", 0, opt.temperature, 0.001, 100, "T", "of the sampling (default 1)"),
    FS_OPT_FLOAT("top-p", 0, opt.top_p, 0, 1, "P", "nucleus (default 1)"),
    FS_OPT_U64("seed", 's', opt.seed, "N", "which completions (default 0)"),
    FS_OPT_INT("max-tokens", 'n', opt.max_tokens, 0, 1 << 20, "N", "of a completion, longer ones are not kept (default 512, or what the context leaves)"),
    FS_OPT_INT("count", 0, opt.n_items, 0, 1 << 30, "N", "the first N problems (default: all)"),
    FS_OPT_INT("batch", 'b', opt.batch, 1, 1024, "N", "sequences at once; changes nothing (default 32)"),
    FS_OPT_FLAG("thinking", 0, opt.thinking, "let a model that can think do so"),
    FS_OPT_FLAG("exact-activations", 0, opt.exact_activations, "f32 activations against GGUF's block types too"),
    FS_OPT_STR("kv-type", 0, opt.kv_type, "f32|bf16|q8", "what attention's cache holds (default: bf16 with 8-bit activations, else f32)"),
    FS_OPT_SIZE("memory", 0, opt.memory, "SIZE", "take no more than this, as 4GiB: experts that do not fit stay on disk (default: what is free)"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, FS_POOL_THREADS_MAX, "N", "threads (default: one a usable CPU)"),
    FS_OPT_STR("isa", 0, opt.isa, "scalar|avx2|avx512|neon", "restrict the instruction set"),
    FS_OPT_FLAG("no-record", 0, opt.no_record, "write no record of where OUT comes from"),
    FS_OPT_FLAG("json", 0, opt.json, "counts in JSON"),
    FS_OPT_END
};

typedef struct rejection {
    fs_solver solver;
    char *part, *state;
    char key[65]; /* of what decides the records */
    int fd;       /* of part */
    fs_buf lines; /* of the block under way */
    uint32_t *order; /* [samples] */
    bool *kept;      /* [samples] */
    /* Counts; they are in the state, in this order. */
    struct counts {
        uint64_t problems, completions, right, well_formed, truncated, repeats, solved, kept, tokens, n_bytes;
    } n;
} rejection;

static const char *const count_names[] = { "problems", "completions", "right", "well_formed", "truncated", "repeats", "solved", "kept", "tokens", "bytes" };
#define N_COUNTS (sizeof count_names / sizeof *count_names)

/* ---- what is kept ---- */

static bool is_right(const fs_solution *s)
{
    return s->verdict == FS_VERDICT_RIGHT && s->sampled->stopped;
}

static bool came_before(const fs_solution *s, const bool *kept, uint32_t k)
{
    for (uint32_t i = 0; i < k; i++)
        if (kept[i] && fs_bytes_equal(s[i].text, s[k].text))
            return true;
    return false;
}

/* Of the kept ones the shortest, of equal lengths the first; then at most opt.keep, the first. */
static void choose(rejection *r, const fs_solution *s)
{
    uint32_t n = 0, samples = r->solver.o.samples, left = opt.keep ? (uint32_t)opt.keep : samples;

    for (uint32_t k = 0; k < samples; k++) {
        uint32_t at = n;
        if (!r->kept[k])
            continue;
        for (; at > 0 && s[r->order[at - 1]].sampled->n > s[k].sampled->n; at--)
            r->order[at] = r->order[at - 1];
        r->order[at] = k;
        n++;
    }
    for (uint32_t i = (uint32_t)ceil(opt.shortest * n); i < n; i++)
        r->kept[r->order[i]] = false;
    for (uint32_t k = 0; k < samples; k++) {
        bool keep = r->kept[k] && left > 0;
        left -= keep;
        r->kept[k] = keep;
    }
}

/* Where the answer begins in what was said: as the task has it, or as the known answer where that is the end; else all of it is the answer. */
static size_t answer_begin(const fs_suite_item *item, fs_bytes text)
{
    size_t n = item->answer.n_bytes, at = text.n_bytes;

    if (item->judging == FS_JUDGE_TASK) {
        while (at > 0 && text.data[at - 1] != '>')
            at--;
        return at;
    }
    return n > 0 && n <= text.n_bytes && memcmp(text.data + text.n_bytes - n, item->answer.data, n) == 0 ? text.n_bytes - n : 0;
}

static fs_status put_record(rejection *r, size_t problem, uint32_t k, const fs_solution *s, fs_error *err)
{
    const fs_suite_item *item = &r->solver.suite.items[problem];
    size_t begin = answer_begin(item, s->text);
    fs_buf *out = &r->lines;
    fs_status rc = fs_buf_append_str(out, "{", err);

    if (!rc && item->judging == FS_JUDGE_TASK)
        rc = fs_buf_printf(out, err, "\"task\": \"%s\", ", fs_task_name(item->task));
    if (!rc)
        rc = fs_buf_printf(out, err, "\"problem\": %zu, \"sample\": %" PRIu32 ", \"tokens\": %" PRIu32 ", \"prompt\": ", problem, k, s->sampled->n);
    if (!rc)
        rc = fs_json_quote(out, fs_buf_bytes(&item->prompt), err);
    if (!rc && begin > 0)
        rc = fs_buf_append_str(out, ", \"trace\": ", err);
    if (!rc && begin > 0)
        rc = fs_json_quote(out, (fs_bytes){ s->text.data, begin }, err);
    if (!rc)
        rc = fs_buf_append_str(out, ", \"answer\": ", err);
    if (!rc)
        rc = fs_json_quote(out, (fs_bytes){ s->text.data + begin, s->text.n_bytes - begin }, err);
    return rc ? rc : fs_buf_append_str(out, "}\n", err);
}

static fs_status look_at(void *ud, size_t problem, const fs_solution *s, fs_error *err)
{
    rejection *r = ud;
    uint32_t samples = r->solver.o.samples, n_right = 0;
    double rate;
    fs_status rc = FS_OK;

    for (uint32_t k = 0; k < samples; k++) {
        bool repeat;
        r->kept[k] = is_right(&s[k]);
        n_right += r->kept[k];
        repeat = r->kept[k] && !opt.repeats && came_before(s, r->kept, k);
        r->n.repeats += repeat;
        r->kept[k] = r->kept[k] && !repeat;
        r->n.well_formed += s[k].verdict == FS_VERDICT_WELL_FORMED;
        r->n.truncated += !s[k].sampled->stopped;
    }
    rate = (double)n_right / samples;
    choose(r, s);
    for (uint32_t k = 0; k < samples && rate >= opt.rate_min && rate <= opt.rate_max && !rc; k++)
        if (r->kept[k]) {
            rc = put_record(r, problem, k, &s[k], err);
            r->n.kept++;
            r->n.tokens += s[k].sampled->n;
        }
    r->n.problems++;
    r->n.completions += samples;
    r->n.right += n_right;
    r->n.solved += n_right > 0;
    return rc;
}

/* ---- going on after a stop ---- */

/* What decides the records: the weights, the problems, the options. */
static fs_status make_key(rejection *r, const char *suite, fs_error *err)
{
    fs_map map = { 0 };
    fs_weights *w = NULL;
    fs_roots roots = { 0 };
    fs_buf text = { 0 };
    fs_sha256 h;
    fs_status rc = fs_map_open(&map, suite, err);

    if (!rc)
        rc = fs_weights_open(r->solver.path, &w, err);
    if (!rc)
        rc = fs_roots_of(w, fs_model_pool(r->solver.model), NULL, &roots, err);
    if (!rc)
        rc = fs_buf_printf(&text, err, "%d %d %a %d %a %a %s %a %a %" PRIu64 " %" PRIu32 " %d %d %d %s\n", opt.samples, opt.keep, opt.shortest, opt.repeats, opt.rate_min,
                           opt.rate_max, opt.judge, opt.temperature, opt.top_p, opt.seed, r->solver.o.max_tokens, opt.n_items, opt.thinking, opt.exact_activations,
                           fs_model_kv_type(r->solver.model));
    if (!rc)
        rc = fs_sha256_init(&h, err);
    if (!rc) {
        fs_sha256_update(&h, text.data, text.n_bytes);
        fs_sha256_update(&h, roots.model.bytes, sizeof roots.model.bytes);
        fs_sha256_update(&h, map.bytes.data, map.bytes.n_bytes);
        fs_sha256_final_hex(&h, r->key);
    }
    fs_buf_done(&text);
    fs_roots_done(&roots);
    fs_weights_close(w);
    fs_map_close(&map);
    return rc;
}

static fs_status write_state(rejection *r, fs_error *err)
{
    uint64_t values[N_COUNTS];
    fs_buf text = { 0 };
    fs_status rc = fs_buf_printf(&text, err, "{\"key\": \"%s\"", r->key);

    memcpy(values, &r->n, sizeof values);
    for (size_t i = 0; i < N_COUNTS && !rc; i++)
        rc = fs_buf_printf(&text, err, ", \"%s\": %" PRIu64, count_names[i], values[i]);
    if (!rc)
        rc = fs_buf_append_str(&text, "}\n", err);
    if (!rc)
        rc = fs_file_write_atomic(r->state, fs_buf_bytes(&text), err);
    fs_buf_done(&text);
    return rc;
}

/* The counts of an earlier run of the same sampling; false: there is none, or it cannot be read. */
static bool read_state(const rejection *r, struct counts *ret)
{
    struct json_object *json = NULL;
    fs_buf text = { 0 };
    fs_bytes key = { 0 };
    uint64_t values[N_COUNTS] = { 0 };
    struct stat st;
    bool ok = fs_file_read(r->state, STATE_BYTES_MAX, &text, NULL) == FS_OK && fs_json_parse(fs_buf_bytes(&text), r->state, &json, NULL) == FS_OK &&
              fs_json_string(json, "key", &key, NULL, NULL) == FS_OK && fs_bytes_equal(key, fs_bytes_str(r->key));

    for (size_t i = 0; i < N_COUNTS && ok; i++) {
        int64_t v = -1;
        ok = fs_json_int(json, count_names[i], 0, INT64_MAX, &v, NULL, NULL) == FS_OK && v >= 0;
        values[i] = (uint64_t)v;
    }
    memcpy(ret, values, sizeof values);
    ok = ok && stat(r->part, &st) == 0 && (uint64_t)st.st_size >= ret->n_bytes && ret->problems <= r->solver.suite.n;
    json_object_put(json);
    fs_buf_done(&text);
    return ok;
}

static fs_status begin(rejection *r, const char *out, const char *suite, fs_error *err)
{
    struct counts earlier;
    fs_buf name = { 0 }, other = { 0 };
    fs_status rc = fs_buf_printf(&name, err, "%s.part", out);

    r->part = name.data;
    rc = rc ? rc : fs_buf_printf(&other, err, "%s.state", out);
    r->state = other.data;
    rc = rc ? rc : make_key(r, suite, err);
    if (rc)
        return rc;
    if (read_state(r, &earlier)) {
        r->n = earlier;
        r->solver.n_done = earlier.problems;
        if (!opt.json && earlier.problems)
            fprintf(stderr, "going on behind problem %" PRIu64 "\n", earlier.problems);
    }
    r->fd = open(r->part, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (r->fd < 0 || ftruncate(r->fd, (off_t)r->n.n_bytes) != 0)
        return fs_fail_errno(err, errno, "cannot write '%s'", r->part);
    return FS_OK;
}

static fs_status end(rejection *r, const char *out, fs_error *err)
{
    if (rename(r->part, out) != 0)
        return fs_fail_errno(err, errno, "cannot rename '%s' to '%s'", r->part, out);
    unlink(r->state);
    return FS_OK;
}

static fs_status work(rejection *r, fs_error *err)
{
    fs_solver *s = &r->solver;
    fs_status rc = FS_OK;

    fs_work_start(&s->work, "answering", "completions", 1);
    while (s->n_done < s->suite.n && !rc) {
        fs_buf_clear(&r->lines);
        rc = fs_solver_run(s, s->n_done, s->suite.n - s->n_done < s->at_once ? s->suite.n - s->n_done : s->at_once, look_at, r, err);
        if (!rc)
            rc = fs_fd_write(r->fd, r->part, r->lines.data, r->lines.n_bytes, err);
        if (!rc && fsync(r->fd) != 0)
            rc = fs_fail_errno(err, errno, "cannot sync '%s'", r->part);
        r->n.n_bytes += r->lines.n_bytes;
        if (!rc)
            rc = write_state(r, err);
    }
    fs_work_end(&s->work);
    return rc;
}

static void print_counts(const rejection *r, const char *out)
{
    const struct counts *n = &r->n;
    double rate = n->completions ? (double)n->right / (double)n->completions : 0, length = n->kept ? (double)n->tokens / (double)n->kept : 0;

    if (opt.json)
        printf("{\"problems\": %" PRIu64 ", \"completions\": %" PRIu64 ", \"right\": %" PRIu64 ", \"well-formed\": %" PRIu64 ", \"cut off\": %" PRIu64
               ", \"repeats\": %" PRIu64 ", \"solved\": %" PRIu64 ", \"kept\": %" PRIu64 ", \"acceptance\": %.6f, \"length\": %.3f}\n",
               n->problems, n->completions, n->right, n->well_formed, n->truncated, n->repeats, n->solved, n->kept, rate, length);
    else
        printf("%s: %" PRIu64 " records of %.1f tokens; %.2f %% of %" PRIu64 " completions are right, %" PRIu64 " repeats; %" PRIu64 " of %" PRIu64
               " problems solved, %" PRIu64 " completions cut off\n",
               out, n->kept, length, 100 * rate, n->completions, n->repeats, n->solved, n->problems, n->truncated);
}

static fs_status run(const fs_args *args, fs_error *err)
{
    const char *out = args->items[2];
    fs_solver_options o = { .model = { .n_threads = opt.n_threads, .isa = opt.isa, .exact_activations = opt.exact_activations, .kv_type = opt.kv_type,
                                       .memory_bytes_max = opt.memory },
                            .judge = opt.judge, .n_items = (size_t)opt.n_items, .samples = (uint32_t)opt.samples, .max_tokens = (uint32_t)opt.max_tokens,
                            .batch = (uint32_t)opt.batch, .thinking = opt.thinking, .sampling = fs_sampling_default() };
    rejection r = { .fd = -1 };
    fs_derive d = { 0 };
    fs_status rc;

    o.sampling.temperature = (float)opt.temperature;
    o.sampling.top_p = (float)opt.top_p;
    o.sampling.seed = opt.seed;
    r.order = malloc(o.samples * sizeof *r.order);
    r.kept = malloc(o.samples * sizeof *r.kept);
    fs_interrupt_catch();
    rc = r.order && r.kept ? fs_solver_open(&r.solver, args->items[0], args->items[1], &o, BLOCK_COMPLETIONS / o.samples + 1, err)
                           : fs_fail_memory(err, o.samples * sizeof *r.order);
    if (!rc && !opt.no_record)
        rc = fs_derive_begin(&d, "reject", args, out, err);
    if (!rc)
        rc = begin(&r, out, args->items[1], err);
    if (!rc)
        rc = work(&r, err);
    if (!rc)
        rc = end(&r, out, err);
    if (!rc) {
        opt.kv_type = fs_model_kv_type(r.solver.model);
        opt.max_tokens = (int)r.solver.o.max_tokens;
        rc = fs_derive_end(&d, err);
    }
    fs_derive_done(&d);
    if (!rc)
        print_counts(&r, out);
    if (r.fd >= 0)
        close(r.fd);
    free(r.part);
    free(r.state);
    free(r.order);
    free(r.kept);
    fs_buf_done(&r.lines);
    fs_solver_close(&r.solver);
    return rc;
}

const fs_command fs_command_data_reject = {
    .set = { .name = "data reject",
             .usage = "MODEL PROBLEMS OUT",
             .summary = "Let a model answer problems and keep what is right.",
             .text = "Rejection sampling: PROBLEMS is a .jsonl of records with prompt and answer; of each problem's --samples completions the right ones become "
                     "records of OUT with prompt, trace and answer, to be learnt. Completion k of problem i depends on the model, --seed, i and k alone. A run "
                     "that was stopped goes on where it was and ends in the same bytes.",
             .options = options,
             .n_args_min = 3,
             .n_args_max = 3 },
    .run = run,
};
