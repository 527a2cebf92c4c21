/* farseek perplexity: how well a model foretells a text, and how far its answers are from another model's. docs/perplexity.md
 * has the definitions. */
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/logits_file.h"
#include "cli/score.h"
#include "cli/stream.h"

#include "base/clock.h"
#include "base/file.h"
#include "engine/engine.h"
#include "kernels/math.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_BYTES_MAX ((size_t)1 << 30)
#define CTX_DEFAULT    512
#define LOGITS_BYTES   ((size_t)128 << 20) /* of one step's rows, at most, but for a single row */

static struct {
    int ctx, stride, chunks, n_threads;
    const char *base, *save, *adapter;
    const char *kv_type, *precision;
    uint64_t memory;
    bool exact, mapped, verbose, json;
} opt;

static const fs_option options[] = {
    FS_OPT_INT("ctx", 'c', opt.ctx, 4, 1 << 20, "N", "tokens of a window (default 512, or the model's context if that is less)"),
    FS_OPT_INT("stride", 0, opt.stride, 0, 1 << 20, "N",
               "begin a window every N tokens and score its last N (default 0: windows side by side, the second half of each is scored)"),
    FS_OPT_INT("chunks", 0, opt.chunks, 0, 1 << 30, "N", "at most the first N windows (default 0: all)"),
    FS_OPT_STR("kl", 0, opt.base, "MODEL|FILE", "compare with this model (exact activations), or with saved logits"),
    FS_OPT_STR("save-logits", 0, opt.save, "FILE", "keep the scored logits for a later --kl"),
    FS_OPT_STR("adapter", 0, opt.adapter, "FOLDER", "add a LoRA adapter, as PEFT saves it"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, FS_POOL_THREADS_MAX, "N", "threads (default: one a usable CPU)"),
    FS_OPT_SIZE("memory", 0, opt.memory, "SIZE",
                "take no more than this, as 4GiB: experts that do not fit stay on disk (default: what is free)"),
    FS_OPT_FLAG("exact-activations", 0, opt.exact, "f32 activations against block-quantised weights, not quantised ones"),
    FS_OPT_FLAG("mmap", 0, opt.mapped, "leave the weights in the file's map instead of a packed copy"),
    FS_OPT_STR("precision", 0, opt.precision, "f32|bf16", "bf16: the class RN1-bf16 of a model trained so (default: f32, of the weights)"),
    FS_OPT_STR("kv-type", 0, opt.kv_type, "f32|bf16|q8", "what attention's cache holds (default: bf16 with 8-bit activations, else f32)"),
    FS_OPT_FLAG("verbose", 0, opt.verbose, "say on stderr what experts on disk cost"),
    FS_OPT_FLAG("json", 0, opt.json, "answer in JSON"),
    FS_OPT_END
};

/* One model at work on up to n_sessions windows at once. */
typedef struct evaluator {
    fs_model *model;
    fs_session *sessions[FS_STEP_SEQUENCES];
    size_t n_sessions;
    float *logits; /* of the step's scored rows */
} evaluator;

typedef struct perplexity {
    const char *name, *text_name;
    evaluator model, base; /* base.model NULL: no base, or base_rows */
    fs_map base_map;
    const float *base_rows;
    fs_writer save;
    fs_ids ids, prefix; /* the text's tokens; what every window begins with in place of its own first ones */
    fs_windows windows;
    size_t v, n_scores, rows_max; /* rows_max: scored rows in one step */
    fs_score *scores;             /* in order of the rows */
    int32_t *window_ids;          /* [n_sessions, ctx - 1] of the windows at work */
    double started, seconds, shown;
    bool progress;
} perplexity;

/* ---- opening ---- */

static void evaluator_done(evaluator *e)
{
    for (size_t i = 0; i < e->n_sessions; i++)
        fs_session_free(e->sessions[i]);
    fs_model_close(e->model);
    free(e->logits);
}

static void perplexity_done(perplexity *p)
{
    evaluator_done(&p->model);
    evaluator_done(&p->base);
    fs_map_close(&p->base_map);
    fs_writer_close(&p->save);
    fs_ids_done(&p->ids);
    fs_ids_done(&p->prefix);
    free(p->scores);
    free(p->window_ids);
}

static fs_status open_model(const char *name, const char *adapter, bool exact, const char *kv_type, fs_model **ret, fs_error *err)
{
    fs_model_options o = { .n_threads = opt.n_threads, .adapter = adapter, .ctx_tokens = opt.ctx ? opt.ctx : CTX_DEFAULT,
                           .exact_activations = exact, .mapped = opt.mapped, .kv_type = kv_type, .precision = opt.precision, .memory_bytes_max = opt.memory };
    char *path = NULL;
    fs_status rc = fs_model_path(name, &path, err);

    if (!rc)
        rc = fs_model_open(path, &o, ret, err);
    free(path);
    return rc;
}

static fs_status encode(const fs_model *m, const char *name, fs_bytes text, fs_ids *ids, fs_error *err)
{
    if (!fs_model_tokenizer(m))
        return fs_fail(err, FS_ERR_NOT_FOUND, "model '%s' has no tokenizer, so it cannot read a text", name);
    return fs_tokenizer_encode(fs_model_tokenizer(m), text, FS_ENCODE_BOS, ids, err);
}

static fs_status read_text(const char *name, fs_buf *ret, fs_error *err)
{
    return strcmp(name, "-") == 0 ? fs_stdin_read(TEXT_BYTES_MAX, ret, err) : fs_file_read(name, TEXT_BYTES_MAX, ret, err);
}

/* How many windows there are, and which rows of them count. */
static fs_status plan_windows(perplexity *p, fs_error *err)
{
    int ctx_max = fs_model_ctx_tokens_max(p->model.model), ctx = opt.ctx ? opt.ctx : ctx_max < CTX_DEFAULT ? ctx_max : CTX_DEFAULT;
    size_t n;

    if (ctx > ctx_max)
        return fs_fail(err, FS_ERR_ARGUMENT, "--ctx is %d, the model was made for at most %d", ctx, ctx_max);
    if (opt.stride >= ctx)
        return fs_fail(err, FS_ERR_ARGUMENT, "--stride is %d, a window has %d tokens, so at most %d", opt.stride, ctx, ctx - 1);
    if (p->ids.n < (size_t)ctx)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' has %zu tokens, one window has %d: a longer text, or a smaller --ctx", p->text_name,
                       p->ids.n, ctx);
    p->windows = (fs_windows){ .ctx = (uint32_t)ctx,
                               .first = (uint32_t)(opt.stride ? ctx - 1 - opt.stride : ctx / 2),
                               .stride = (uint32_t)(opt.stride ? opt.stride : ctx) };
    n = (p->ids.n - (size_t)ctx) / p->windows.stride + 1;
    if (opt.chunks && (size_t)opt.chunks < n)
        n = (size_t)opt.chunks;
    p->windows.n = (uint32_t)n;
    return FS_OK;
}

/* As many windows at once as one step holds, when a whole one does. */
static size_t windows_at_once(const perplexity *p)
{
    size_t n = FS_STEP_TOKENS / (p->windows.ctx - 1), rows = p->windows.ctx - 1 - p->windows.first;

    if (n > p->rows_max / rows)
        n = p->rows_max / rows;
    if (n > p->windows.n)
        n = p->windows.n;
    return n < 1 ? 1 : n > FS_STEP_SEQUENCES ? FS_STEP_SEQUENCES : n;
}

static fs_status evaluator_start(evaluator *e, const perplexity *p, size_t n_sessions, fs_error *err)
{
    fs_status rc = FS_OK;

    e->logits = malloc(p->rows_max * p->v * sizeof *e->logits);
    if (!e->logits)
        return fs_fail_memory(err, p->rows_max * p->v * sizeof *e->logits);
    while (e->n_sessions < n_sessions && !rc) {
        rc = fs_session_new(e->model, (int)p->windows.ctx, &e->sessions[e->n_sessions], err);
        e->n_sessions += !rc;
    }
    return rc;
}

static fs_status open_base(perplexity *p, fs_bytes text, fs_error *err)
{
    fs_ids ids = { 0 };
    size_t v;
    fs_status rc;

    if (fs_logits_file_is(opt.base)) {
        rc = fs_map_open(&p->base_map, opt.base, err);
        return rc ? rc : fs_logits_file_rows(p->base_map.bytes, opt.base, (uint32_t)p->v, &p->windows, p->ids.data, &p->base_rows, err);
    }
    rc = open_model(opt.base, NULL, true, NULL, &p->base.model, err);
    if (rc)
        return rc;
    v = (size_t)fs_model_vocab_size(p->base.model);
    if (v != p->v)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' has a vocabulary of %zu, '%s' one of %zu: they cannot be compared", p->name, p->v,
                       opt.base, v);
    if (fs_model_tokenizer(p->base.model))
        rc = encode(p->base.model, opt.base, text, &ids, err);
    if (!rc && ids.n && (ids.n != p->ids.n || memcmp(ids.data, p->ids.data, ids.n * sizeof *ids.data) != 0))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' and '%s' make other tokens of the text: they cannot be compared", p->name, opt.base);
    fs_ids_done(&ids);
    return rc;
}

static fs_status start(perplexity *p, fs_error *err)
{
    fs_buf text = { 0 };
    size_t at_once, n_rows, n_bytes;
    fs_status rc = read_text(p->text_name, &text, err);

    if (!rc)
        rc = open_model(p->name, opt.adapter, opt.exact, opt.kv_type, &p->model.model, err);
    if (!rc)
        rc = encode(p->model.model, p->name, fs_buf_bytes(&text), &p->ids, err);
    if (!rc)
        rc = encode(p->model.model, p->name, (fs_bytes){ 0 }, &p->prefix, err);
    if (!rc)
        rc = plan_windows(p, err);
    if (rc)
        goto done;
    p->v = (size_t)fs_model_vocab_size(p->model.model);
    if (opt.base)
        rc = open_base(p, fs_buf_bytes(&text), err);
    if (rc)
        goto done;
    p->rows_max = LOGITS_BYTES / (p->v * sizeof(float));
    p->rows_max = p->rows_max < 1 ? 1 : p->rows_max > FS_STEP_TOKENS ? FS_STEP_TOKENS : p->rows_max;
    at_once = windows_at_once(p);
    n_rows = fs_windows_n_rows(&p->windows);
    p->scores = fs_mul_size(n_rows, sizeof *p->scores, &n_bytes) ? malloc(n_bytes) : NULL;
    p->window_ids = malloc(at_once * p->windows.ctx * sizeof *p->window_ids);
    if (!p->scores || !p->window_ids)
        rc = fs_fail_memory(err, n_rows * sizeof *p->scores);
    if (!rc)
        rc = evaluator_start(&p->model, p, at_once, err);
    if (!rc && p->base.model)
        rc = evaluator_start(&p->base, p, at_once, err);
    if (!rc && opt.save)
        rc = fs_writer_open(&p->save, opt.save, err);
    if (!rc && opt.save)
        rc = fs_logits_file_begin(&p->save, (uint32_t)p->v, &p->windows, p->ids.data, err);
done:
    fs_buf_done(&text);
    return rc;
}

/* ---- scoring ---- */

/* The rows of a step, in order of their windows: each m tokens, of which the last n_scored count. */
typedef struct rows {
    perplexity *p;
    const float *logits, *base;
    size_t window, position, m, n_scored;
    bool *bad; /* [threads] */
} rows;

static void score_rows(void *ud, size_t begin, size_t end, int thread)
{
    const rows *r = ud;
    perplexity *p = r->p;

    for (size_t i = begin; i < end; i++) {
        size_t w = r->window + i / r->n_scored, row = r->position + r->m - r->n_scored + i % r->n_scored;
        int32_t next = p->ids.data[w * p->windows.stride + row + 1];
        if (!fs_score_row(r->logits + i * p->v, r->base ? r->base + i * p->v : NULL, p->v, next, &p->scores[p->n_scores + i]))
            r->bad[thread] = true;
    }
}

/* The next m tokens of n windows. Rows of logits lie window by window. */
static fs_status evaluate(evaluator *e, const perplexity *p, size_t n, size_t position, size_t m, size_t n_scored, fs_error *err)
{
    fs_batch_item items[FS_STEP_SEQUENCES];

    for (size_t i = 0; i < n; i++)
        items[i] = (fs_batch_item){ .session = e->sessions[i],
                                    .ids = p->window_ids + i * (p->windows.ctx - 1) + position,
                                    .n = (uint32_t)m,
                                    .n_logits = (uint32_t)n_scored,
                                    .ret_logits = n_scored ? e->logits + i * n_scored * p->v : NULL };
    return fs_batch_eval(items, n, err);
}

static fs_status step(perplexity *p, size_t window, size_t n, size_t position, size_t m, size_t n_scored, fs_error *err)
{
    bool bad[FS_POOL_THREADS_MAX] = { false }, any = false;
    rows r = { p, p->model.logits, NULL, window, position, m, n_scored, bad };
    fs_status rc = fs_interrupted() ? fs_fail(err, FS_ERR_INTERRUPTED, "stopped in window %zu of %" PRIu32, window + 1, p->windows.n) : FS_OK;

    if (!rc)
        rc = evaluate(&p->model, p, n, position, m, n_scored, err);
    if (!rc && p->base.model)
        rc = evaluate(&p->base, p, n, position, m, n_scored, err);
    if (rc || !n_scored)
        return rc;
    r.base = p->base.model ? p->base.logits : p->base_rows ? p->base_rows + p->n_scores * p->v : NULL;
    fs_pool_for(fs_model_pool(p->model.model), n * n_scored, 1, score_rows, &r);
    for (int i = 0; i < FS_POOL_THREADS_MAX; i++)
        any |= bad[i];
    if (any)
        return fs_fail(err, FS_ERR_NUMERIC, "window %zu: a probability is not a number%s", window + 1,
                       p->base_rows ? "; the saved logits may be damaged" : "");
    p->n_scores += n * n_scored;
    return opt.save ? fs_writer_put(&p->save, p->model.logits, n * n_scored * p->v * sizeof(float), err) : FS_OK;
}

static void show_progress(perplexity *p, size_t n_windows)
{
    double now = fs_seconds_now(), seconds = now - p->started, rate = (double)n_windows / seconds, sum = 0;
    int left = (int)((p->windows.n - (double)n_windows) / rate + 0.5);

    if (!p->progress || now - p->shown < 0.2)
        return;
    p->shown = now;
    for (size_t i = 0; i < p->n_scores; i++)
        sum += p->scores[i].nll;
    fprintf(stderr, "\rwindow %zu of %" PRIu32 "  perplexity %.3f  %.0f tokens/s  %d:%02d left    ", n_windows, p->windows.n,
            fs_exp64(sum / (double)p->n_scores), rate * p->windows.ctx, left / 60, left % 60);
}

/* n windows from `window` on, from their first token to the last but one, which foretells the last. */
static fs_status group(perplexity *p, size_t window, size_t n, fs_error *err)
{
    size_t n_tokens = p->windows.ctx - 1, first = p->windows.first, m;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < n; i++) {
        int32_t *ids = p->window_ids + i * n_tokens;
        memcpy(ids, p->ids.data + (window + i) * p->windows.stride, n_tokens * sizeof *ids);
        memcpy(ids, p->prefix.data, (p->prefix.n < n_tokens ? p->prefix.n : n_tokens) * sizeof *ids);
        fs_session_truncate(p->model.sessions[i], 0);
        if (p->base.model)
            fs_session_truncate(p->base.sessions[i], 0);
    }
    for (size_t at = 0; at < n_tokens && !rc; at += m) {
        size_t scored;
        m = n_tokens - at < FS_STEP_TOKENS / n ? n_tokens - at : FS_STEP_TOKENS / n;
        scored = at + m > first ? at + m - (at > first ? at : first) : 0;
        if (n * scored > p->rows_max) { /* only where n is 1 */
            m -= scored - p->rows_max;
            scored = p->rows_max;
        }
        rc = step(p, window, n, at, m, scored, err);
    }
    return rc;
}

static fs_status score_all(perplexity *p, fs_error *err)
{
    fs_status rc = FS_OK;

    p->started = fs_seconds_now();
    for (size_t i = 0; i < p->windows.n && !rc; i += p->model.n_sessions) {
        size_t n = p->windows.n - i < p->model.n_sessions ? p->windows.n - i : p->model.n_sessions;
        rc = group(p, i, n, err);
        if (!rc)
            show_progress(p, i + n);
    }
    p->seconds = fs_seconds_now() - p->started;
    if (p->shown > 0)
        fprintf(stderr, "\r%*s\r", 79, "");
    return rc || !opt.save ? rc : fs_writer_commit(&p->save, err);
}

/* ---- printing ---- */

static const double fractions[] = { 0.01, 0.05, 0.5, 0.95, 0.99, 0.999 };
#define N_FRACTIONS (sizeof fractions / sizeof *fractions)

typedef struct comparison {
    fs_mean base_nll, log_ratio, kl, dp, same_top;
    double dp_rms, kl_min, kl_max, kl_at[N_FRACTIONS];
} comparison;

static fs_status compare(const perplexity *p, comparison *ret, fs_error *err)
{
    const size_t stride = sizeof *p->scores / sizeof(double), n = p->n_scores;
    double *x = malloc(n * sizeof *x);
    comparison c = { .base_nll = fs_mean_of(&p->scores->base_nll, n, stride),
                     .kl = fs_mean_of(&p->scores->kl, n, stride),
                     .dp = fs_mean_of(&p->scores->dp, n, stride),
                     .same_top = fs_mean_of(&p->scores->same_top, n, stride) };

    if (!x)
        return fs_fail_memory(err, n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = p->scores[i].nll - p->scores[i].base_nll;
    c.log_ratio = fs_mean_of(x, n, 1);
    for (size_t i = 0; i < n; i++)
        x[i] = p->scores[i].dp * p->scores[i].dp;
    c.dp_rms = sqrt(fs_mean_of(x, n, 1).mean);
    for (size_t i = 0; i < n; i++)
        x[i] = p->scores[i].kl;
    fs_sort_f64(x, n);
    c.kl_min = x[0];
    c.kl_max = x[n - 1];
    for (size_t i = 0; i < N_FRACTIONS; i++)
        c.kl_at[i] = fs_percentile(x, n, fractions[i]);
    free(x);
    *ret = c;
    return FS_OK;
}

static fs_status print_json(const perplexity *p, const fs_mean *nll, const comparison *c, fs_error *err)
{
    size_t per_window = p->n_scores / p->windows.n;
    fs_buf out = { 0 };
    fs_status rc = fs_buf_printf(&out, err,
                                 "{\"perplexity\": %.17g, \"perplexity_error\": %.17g, \"nll\": %.17g, \"nll_error\": %.17g, \"tokens\": %zu, "
                                 "\"scored_tokens\": %zu, \"ctx\": %" PRIu32 ", \"stride\": %" PRIu32 ", \"windows\": %" PRIu32
                                 ", \"activations\": \"%s\", \"kv_type\": \"%s\", \"seconds\": %.3f, \"window_nll\": [",
                                 fs_exp64(nll->mean), fs_exp64(nll->mean) * nll->error, nll->mean, nll->error, p->ids.n, p->n_scores,
                                 p->windows.ctx, p->windows.stride, p->windows.n, fs_model_activations(p->model.model), fs_model_kv_type(p->model.model), p->seconds);

    for (size_t i = 0; i < p->windows.n && !rc; i++)
        rc = fs_buf_printf(&out, err, "%s%.17g", i ? ", " : "",
                           fs_mean_of(&p->scores[i * per_window].nll, per_window, sizeof *p->scores / sizeof(double)).mean);
    if (!rc)
        rc = fs_buf_append_str(&out, "]", err);
    if (!rc && c) {
        rc = fs_buf_printf(&out, err,
                           ", \"base\": {\"perplexity\": %.17g, \"perplexity_error\": %.17g, \"ratio\": %.17g, \"ratio_error\": %.17g, "
                           "\"kl\": %.17g, \"kl_error\": %.17g, \"same_top\": %.17g, \"same_top_error\": %.17g, \"dp\": %.17g, "
                           "\"dp_error\": %.17g, \"dp_rms\": %.17g, \"kl_min\": %.17g, \"kl_max\": %.17g, \"kl_percentiles\": {",
                           fs_exp64(c->base_nll.mean), fs_exp64(c->base_nll.mean) * c->base_nll.error, fs_exp64(c->log_ratio.mean),
                           fs_exp64(c->log_ratio.mean) * c->log_ratio.error, c->kl.mean, c->kl.error, c->same_top.mean, c->same_top.error,
                           c->dp.mean, c->dp.error, c->dp_rms, c->kl_min, c->kl_max);
        for (size_t i = 0; i < N_FRACTIONS && !rc; i++)
            rc = fs_buf_printf(&out, err, "%s\"%g\": %.17g", i ? ", " : "", 100 * fractions[i], c->kl_at[i]);
        if (!rc)
            rc = fs_buf_append_str(&out, "}}", err);
    }
    if (!rc)
        rc = fs_buf_append_str(&out, "}\n", err);
    if (!rc)
        fwrite(out.data, 1, out.n_bytes, stdout);
    fs_buf_done(&out);
    return rc;
}

static void print_text(const perplexity *p, const fs_mean *nll, const comparison *c)
{
    printf("%-16s %" PRIu32 " of %" PRIu32 " tokens, %zu tokens scored, %.0f tokens/s\n", "windows", p->windows.n, p->windows.ctx, p->n_scores,
           p->windows.n * (double)p->windows.ctx / p->seconds);
    printf("%-16s %.5f +- %.5f\n", "perplexity", fs_exp64(nll->mean), fs_exp64(nll->mean) * nll->error);
    if (!c)
        return;
    printf("against %s\n", opt.base);
    printf("%-16s %.5f +- %.5f\n", "its perplexity", fs_exp64(c->base_nll.mean), fs_exp64(c->base_nll.mean) * c->base_nll.error);
    printf("%-16s %.6f +- %.6f\n", "ratio", fs_exp64(c->log_ratio.mean), fs_exp64(c->log_ratio.mean) * c->log_ratio.error);
    printf("%-16s %.6g +- %.2g nats, most %.6g\n", "KL divergence", c->kl.mean, c->kl.error, c->kl_max);
    printf("%-16s", "percentiles");
    for (size_t i = 0; i < N_FRACTIONS; i++)
        printf("%s %g %%: %.3g", i ? "," : "", 100 * fractions[i], c->kl_at[i]);
    printf("\n%-16s %.3f +- %.3f %%\n", "same best token", 100 * c->same_top.mean, 100 * c->same_top.error);
    printf("%-16s mean %.4f +- %.4f %%, root mean square %.4f %%\n", "p(next) differs", 100 * c->dp.mean, 100 * c->dp.error, 100 * c->dp_rms);
}

static fs_status run(const fs_args *args, fs_error *err)
{
    perplexity p = { .name = args->items[0], .text_name = args->items[1], .progress = isatty(STDERR_FILENO) };
    bool with_base = opt.base != NULL;
    comparison c;
    fs_mean nll;
    fs_status rc;

    fs_interrupt_catch();
    rc = start(&p, err);
    if (!rc)
        rc = score_all(&p, err);
    if (!rc && with_base)
        rc = compare(&p, &c, err);
    if (!rc) {
        nll = fs_mean_of(&p.scores->nll, p.n_scores, sizeof *p.scores / sizeof(double));
        if (opt.json)
            rc = print_json(&p, &nll, with_base ? &c : NULL, err);
        else
            print_text(&p, &nll, with_base ? &c : NULL);
        if (opt.verbose)
            fs_stream_print(p.model.model, stderr);
    }
    perplexity_done(&p);
    return rc;
}

const fs_command fs_command_perplexity = {
    .set = { .name = "perplexity",
             .usage = "MODEL TEXT",
             .summary = "Measure how well a model foretells a text, and how far it is from another model.",
             .text = "TEXT is a file, or - for stdin. Its tokens are cut into windows; within a window every scored token is foretold from "
                     "all before it. With --kl the same tokens are given to another model, usually the one that MODEL was quantised from.",
             .options = options,
             .n_args_min = 2,
             .n_args_max = 2 },
    .run = run,
};
