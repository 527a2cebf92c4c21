/* farseek run: a chat on a terminal, or one answer. Opening, settings and the one-shot are here; chat_loop.c talks. */
#include "cli/chat_loop.h"
#include "cli/cli.h"
#include "cli/pull_cli.h"
#include "cli/interrupt.h"
#include "cli/stream.h"

#include "base/file.h"
#include "base/numa.h"
#include "base/pool.h"
#include "text/chat_template.h"
#include "text/json_text.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define CTX_TOKENS_DEFAULT 4096
#define STDIN_BYTES_MAX    ((size_t)64 << 20)
#define TOOLS_BYTES_MAX    ((size_t)16 << 20)

/* Values the parser never stores mean: not set, see fill_settings. */
#define UNSET (-1)

extern const fs_command fs_command_run;

static struct {
    const char *model, *system, *adapter, *format, *chat_template, *tools, *date, *speculate;
    int ctx_tokens, n_threads, n_draft;
    const char *kv_type, *precision, *numa;
    uint64_t memory;
    bool json, raw, exact, mapped, pin, sandbox, verbose;
    fs_run_settings settings;
} opt = {
    .settings = { .temperature = UNSET, .top_p = UNSET, .min_p = UNSET, .repetition_penalty = UNSET, .top_k = UNSET, .thinking = true },
};

/* The part that /set changes too. */
#define SETTINGS \
    FS_OPT_FLOAT("temperature", 'T', opt.settings.temperature, 0, 100, "X", "0 always takes the likeliest token (default: the model's)"), \
    FS_OPT_FLOAT("top-p", 0, opt.settings.top_p, 1e-6, 1, "X", "sample from the likeliest tokens that make up X (default: the model's)"), \
    FS_OPT_INT("top-k", 0, opt.settings.top_k, 0, 1 << 24, "N", "sample from the N likeliest tokens; 0: all (default: the model's)"), \
    FS_OPT_FLOAT("min-p", 0, opt.settings.min_p, 0, 1, "X", "leave out tokens less likely than X times the likeliest (default 0)"), \
    FS_OPT_FLOAT("repetition-penalty", 0, opt.settings.repetition_penalty, 0.01, 100, "X", "above 1 avoids tokens that stood before (default 1)"), \
    FS_OPT_INT("max-tokens", 'n', opt.settings.max_tokens, 0, 1 << 24, "N", "the longest answer; 0: as the context allows (default 0)"), \
    FS_OPT_U64("seed", 0, opt.settings.seed, "N", "of the sampling; the same seed gives the same answer; 0: a random one (default 0)"), \
    FS_OPT_FLAG("thinking", 0, opt.settings.thinking, "let the model think first, if its format has the choice (default true; --no-thinking)"), \
    FS_OPT_FLAG("fold", 0, opt.settings.fold, "show one line in place of the thinking")

static const fs_option settings[] = { SETTINGS, FS_OPT_END };

static const fs_option options[] = {
    FS_OPT_STR("model", 'm', opt.model, "MODEL", "the model, instead of the first argument"),
    FS_OPT_STR("adapter", 0, opt.adapter, "FOLDER", "add a LoRA adapter, as PEFT saves it"),
    FS_OPT_STR("system", 's', opt.system, "TEXT", "the system prompt (default: the model's own)"),
    SETTINGS,
    FS_OPT_INT("ctx", 'c', opt.ctx_tokens, 0, 1 << 24, "N", "context in tokens (default 4096, or what the model was made for if less)"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, FS_POOL_THREADS_MAX, "N", "threads (default: one a usable CPU)"),
    FS_OPT_FLAG("pin", 0, opt.pin, "keep each thread on a CPU of its own"),
    FS_OPT_STR("numa", 0, opt.numa, "first-touch|interleave", "where memory lies on a machine of several nodes (default first-touch)"),
    FS_OPT_SIZE("memory", 0, opt.memory, "SIZE", "take no more than this, as 4GiB: experts that do not fit stay on disk (default: what is free)"),
    FS_OPT_STR("format", 'f', opt.format, "NAME", "the chat format, as `template` has them (default: the model's own)"),
    FS_OPT_STR("speculate", 0, opt.speculate, "off|lookup|mtp", "guess tokens ahead: the answer is the same, it may come faster (default off)"),
    FS_OPT_INT("draft", 0, opt.n_draft, 0, FS_DRAFT_MAX, "N", "tokens guessed at once; 0: 8 by lookup, 1 by mtp (default 0)"),
    FS_OPT_STR("chat-template", 0, opt.chat_template, "FILE", "run this Jinja chat template instead of the chat format"),
    FS_OPT_STR("tools", 0, opt.tools, "FILE", "functions the model may call, a JSON list as the OpenAI API's tools"),
    FS_OPT_STR("date", 0, opt.date, "DATE", "what a template's clock tells: 2026-01-31 or 2026-01-31T09:30:00 (default: local time)"),
    FS_OPT_FLAG("raw", 0, opt.raw, "continue the prompt as text, without a chat format"),
    FS_OPT_FLAG("exact-activations", 0, opt.exact, "f32 activations against block-quantised weights, not quantised ones"),
    FS_OPT_FLAG("mmap", 0, opt.mapped, "leave the weights in the file's map: starts at once, little memory, slower"),
    FS_OPT_STR("precision", 0, opt.precision, "f32|bf16", "bf16: the class RN1-bf16 of a model trained so (default: f32, of the weights)"),
    FS_OPT_STR("kv-type", 0, opt.kv_type, "f32|bf16|q8", "what attention's cache holds (default: bf16 with 8-bit activations, else f32)"),
    FS_OPT_FLAG("sandbox", 0, opt.sandbox, "once the model is loaded, give up files, network and new processes"),
    FS_OPT_FLAG("verbose", 0, opt.verbose, "say on stderr what experts on disk cost"),
    FS_OPT_FLAG("json", 0, opt.json, "one answer, as JSON"),
    FS_OPT_END
};

/* ---- settings ---- */

/* Where the command line, the environment and the configuration said nothing: the model's generation_config.json, else
 * temperature 0.6 and top-p 0.95; greedy when nobody watches, so that a pipeline's answer does not change from run to
 * run. */
static fs_status fill_settings(const fs_model *m, bool watched, fs_error *err)
{
    fs_run_settings *s = &opt.settings;
    fs_sampling d = fs_sampling_default();
    bool found = false;

    if (watched)
        d = fs_model_sampling(m, &found);
    if (watched && !found) {
        d.temperature = 0.6f;
        d.top_p = 0.95f;
    }
    if (s->temperature == UNSET)
        s->temperature = d.temperature;
    if (s->top_p == UNSET)
        s->top_p = d.top_p;
    if (s->top_k == UNSET)
        s->top_k = d.top_k;
    if (s->min_p == UNSET)
        s->min_p = d.min_p;
    if (s->repetition_penalty == UNSET)
        s->repetition_penalty = d.repetition_penalty;
    if (s->seed == 0 && getrandom(&s->seed, sizeof s->seed / 2, 0) != (ssize_t)(sizeof s->seed / 2))
        return fs_fail_errno(err, errno, "no random seed");
    return FS_OK;
}

/* ---- opening ---- */

static bool on_progress(void *ud, double fraction)
{
    int *shown = ud, percent = (int)(100 * fraction);

    if (shown && percent != *shown)
        fprintf(stderr, "\rloading %3d %%", *shown = percent);
    return !fs_interrupted();
}

static fs_status read_tools(fs_run *r, fs_error *err)
{
    fs_buf text = { 0 };
    fs_bytes list;
    fs_status rc = fs_file_read(opt.tools, TOOLS_BYTES_MAX, &text, err);

    if (!rc && (!fs_json_text_valid(fs_buf_bytes(&text), &list) || list.data[0] != '['))
        rc = fs_fail(err, FS_ERR_FORMAT, "'%.300s' is not a JSON list of tools", opt.tools);
    if (!rc)
        rc = fs_buf_append(&r->tools, list.data, list.n_bytes, err);
    fs_buf_done(&text);
    return rc;
}

/* The chat format, its clock and the tools. */
static fs_status prepare_chat(fs_run *r, const char *model, fs_error *err)
{
    const fs_error *why;
    struct tm now;
    fs_buf text = { 0 };
    fs_status rc = FS_OK;

    if (opt.chat_template) {
        rc = fs_file_read(opt.chat_template, FS_JINJA_SOURCE_BYTES_MAX, &text, err);
        if (!rc && (rc = fs_model_set_chat_template(r->model, fs_buf_bytes(&text), err)))
            fs_fail_prefix(err, "'%.200s'", opt.chat_template);
        fs_buf_done(&text);
    } else if (opt.format) {
        fs_chat_format f = fs_chat_format_from_name(opt.format);
        if (f == FS_CHAT_NONE || f == FS_CHAT_FORMAT_END)
            return fs_fail(err, FS_ERR_ARGUMENT, "unknown chat format '%.100s' (farseek template --help lists them)", opt.format);
        rc = fs_model_set_chat_format(r->model, f, err);
    }
    why = fs_model_chat_error(r->model);
    if (!rc && why)
        return fs_fail(err, why->code, "model '%.100s': %.300s; --raw continues a text", model, why->message);
    if (!rc && fs_model_chat_format(r->model) == FS_CHAT_NONE)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "model '%.200s' has no chat template; --raw continues a text, --chat-template brings one", model);
    if (!rc && opt.date && !(rc = fs_date_read(opt.date, &now, err)))
        fs_model_set_time(r->model, &now);
    if (!rc && opt.tools)
        rc = read_tools(r, err);
    return rc;
}

static fs_status open_run(fs_run *r, const char *model, fs_error *err)
{
    bool shown = isatty(STDERR_FILENO);
    int percent = -1;
    fs_model_options o = { .n_threads = opt.n_threads, .pin = opt.pin, .adapter = opt.adapter, .ctx_tokens = opt.ctx_tokens, .progress = on_progress,
                           .exact_activations = opt.exact, .mapped = opt.mapped, .kv_type = opt.kv_type, .precision = opt.precision,
                           .memory_bytes_max = opt.memory, .ud = shown ? &percent : NULL };
    fs_speculation speculation = FS_SPECULATE_OFF;
    char *path = NULL;
    fs_status rc = fs_speculation_from_name(opt.speculate, &speculation, err);

    if (!rc)
        rc = fs_numa_set(opt.numa, err);
    if (!rc)
        rc = fs_model_path_or_fetch(model, &path, err);
    if (rc)
        return rc;
    o.mtp = speculation == FS_SPECULATE_MTP;
    rc = fs_model_open(path, &o, &r->model, err);
    free(path);
    if (shown)
        fprintf(stderr, "\r             \r");
    if (rc)
        return rc;
    r->name = model;
    r->ctx_tokens = opt.ctx_tokens;
    if (r->ctx_tokens == 0)
        r->ctx_tokens = fs_model_ctx_tokens_max(r->model) < CTX_TOKENS_DEFAULT ? fs_model_ctx_tokens_max(r->model) : CTX_TOKENS_DEFAULT;
    if (r->ctx_tokens > fs_model_ctx_tokens_max(r->model))
        return fs_fail(err, FS_ERR_ARGUMENT, "--ctx is %d, the model was made for at most %d", r->ctx_tokens,
                       fs_model_ctx_tokens_max(r->model));
    if (!opt.raw && (rc = prepare_chat(r, model, err)))
        return rc;
    rc = fs_session_new(r->model, r->ctx_tokens, &r->session, err);
    if (!rc)
        rc = fs_session_speculate(r->session, speculation, opt.n_draft, err);
    if (!rc && opt.system)
        rc = fs_talk_set_system(&r->talk, fs_bytes_str(opt.system), err);
    if (!rc)
        fs_interrupt_stops(r->session);
    return rc;
}

/* ---- one answer ---- */

static const char *stop_name(const fs_generation *g)
{
    switch (g->stop) {
    case FS_STOP_EOS:
        return "eos";
    case FS_STOP_LENGTH:
        return "length";
    case FS_STOP_STRING:
        return "string";
    case FS_STOP_CALLBACK:
        break;
    }
    return "interrupted";
}

/* The lines as a list. */
static fs_status put_calls(fs_buf *out, const fs_buf *lines, fs_error *err)
{
    fs_status rc = fs_buf_append_str(out, ", \"calls\": [", err);

    for (size_t i = 0; i < lines->n_bytes && !rc; i++)
        rc = lines->data[i] != '\n' ? fs_buf_append(out, lines->data + i, 1, err) : i + 1 < lines->n_bytes ? fs_buf_append_str(out, ", ", err) : FS_OK;
    return rc ? rc : fs_buf_append_str(out, "]", err);
}

static fs_status print_json(const fs_run *r, fs_error *err)
{
    const fs_talk_turn *last = &r->talk.turns[r->talk.n_turns - 1];
    const fs_generation *g = &r->generation;
    fs_buf out = { 0 };
    fs_status rc = fs_buf_append_str(&out, "{\"model\": ", err);

    if (!rc)
        rc = fs_json_quote(&out, fs_bytes_str(r->name), err);
    if (!rc)
        rc = fs_buf_append_str(&out, ", \"answer\": ", err);
    if (!rc)
        rc = fs_json_quote(&out, last->role == FS_TALK_ASSISTANT ? fs_buf_bytes(&last->content) : (fs_bytes){ 0 }, err);
    if (!rc)
        rc = fs_buf_append_str(&out, ", \"reasoning\": ", err);
    if (!rc)
        rc = fs_json_quote(&out, fs_buf_bytes(&r->reasoning), err);
    if (!rc && r->tools.n_bytes)
        rc = put_calls(&out, &r->calls, err);
    if (!rc)
        rc = fs_buf_printf(&out, err,
                           ", \"stop\": \"%s\", \"seed\": %" PRIu64 ", \"temperature\": %g, \"prompt_tokens\": %d, \"tokens\": %d, "
                           "\"prompt_s\": %.6f, \"tokens_s\": %.6f, \"drafted\": %d, \"accepted\": %d, \"activations\": \"%s\", \"kv_type\": \"%s\"}\n",
                           stop_name(g), r->settings->seed, r->settings->temperature, g->n_prompt_tokens, g->n_tokens,
                           g->prompt_seconds, g->seconds, g->n_drafted, g->n_accepted, fs_model_activations(r->model), fs_model_kv_type(r->model));
    if (!rc)
        fwrite(out.data, 1, out.n_bytes, stdout);
    fs_buf_done(&out);
    return rc;
}

static fs_status one_shot(fs_run *r, const fs_buf *prompt, fs_error *err)
{
    fs_status rc = fs_talk_add(&r->talk, FS_TALK_USER, fs_buf_bytes(prompt), (fs_bytes){ 0 }, err);
    bool dim = fs_colour_wanted(stderr);

    r->show = !opt.json;
    if (!rc)
        rc = fs_run_reply(r, err);
    if (rc)
        return rc;
    if (r->generation.stop == FS_STOP_CALLBACK)
        return fs_fail(err, FS_ERR_INTERRUPTED, "stopped after %d tokens", r->generation.n_tokens);
    if (opt.json)
        return print_json(r, err);
    if (r->generation.stop == FS_STOP_LENGTH)
        fprintf(stderr, "farseek: the answer was cut off after %d tokens (--max-tokens %d, --ctx %d)\n", r->generation.n_tokens,
                r->settings->max_tokens, r->ctx_tokens);
    if (r->on_terminal && isatty(STDERR_FILENO)) {
        fprintf(stderr, "%s", dim ? "\033[2m" : "");
        fs_run_print_speed(r, stderr);
        fprintf(stderr, "%s\n", dim ? "\033[0m" : "");
    }
    return FS_OK;
}

/* The words joined by blanks; a single - stands for all of stdin. Without words stdin is the prompt. */
static fs_status read_prompt(const char *const *words, fs_buf *ret, fs_error *err)
{
    static const char *const from_stdin[] = { "-", NULL };
    fs_buf b = { 0 };
    fs_status rc = FS_OK;

    for (const char *const *w = *words ? words : from_stdin; *w && !rc; w++) {
        fs_buf in = { 0 };
        if (w != words && *words)
            rc = fs_buf_append(&b, " ", 1, err);
        if (!rc && strcmp(*w, "-") == 0) {
            rc = fs_stdin_read(STDIN_BYTES_MAX, &in, err);
            while (!rc && in.n_bytes && strchr("\r\n", in.data[in.n_bytes - 1]) && in.data[in.n_bytes - 1])
                in.n_bytes--;
            if (!rc)
                rc = fs_buf_append(&b, in.data, in.n_bytes, err);
            fs_buf_done(&in);
        } else if (!rc) {
            rc = fs_buf_append_str(&b, *w, err);
        }
    }
    if (!rc && b.n_bytes == 0)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "the prompt is empty: farseek run MODEL PROMPT, or text on stdin");
    if (rc) {
        fs_buf_done(&b);
        return rc;
    }
    *ret = b;
    return FS_OK;
}

/* farseek-mini, beside the tree's build folder or where it was installed; NULL: it is not there. */
static const char *find_mini(void)
{
    static const char *const places[] = { "../models/farseek-mini", "../share/farseek/farseek-mini" };
    static char path[PATH_MAX + 64];
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);

    while (n > 0 && path[n - 1] != '/')
        n--;
    for (size_t i = 0; i < sizeof places / sizeof *places && n > 0; i++) {
        snprintf(path + n, sizeof path - (size_t)n, "%s", places[i]);
        if (fs_file_exists(path))
            return path;
    }
    return NULL;
}

static fs_status run(const fs_args *args, fs_error *err)
{
    bool named = fs_args_given(&fs_command_run.set, args, "model");
    const char *model = named || !args->n ? opt.model : args->items[0];
    const char *const *words = args->items + (!named && args->n ? 1 : 0);
    bool typed = isatty(STDIN_FILENO), watched = typed && isatty(STDOUT_FILENO) && !opt.json;
    bool chat = watched && !*words;
    fs_run r = { .settings = &opt.settings, .raw = opt.raw, .sandbox = opt.sandbox, .show = true, .on_terminal = isatty(STDOUT_FILENO),
                 .colour = fs_colour_wanted(stdout) };
    fs_buf prompt = { 0 };
    fs_status rc = FS_OK;

    if (!model && (model = find_mini()) != NULL)
        fprintf(stderr, "no model is named: farseek-mini works out chains like 3+4*2-1*7+5-8*3+6, from left to right, modulo 10\n");
    if (!model)
        return fs_fail(err, FS_ERR_ARGUMENT, "no model: farseek run MODEL, or 'model' in the configuration");
    if (chat && opt.raw)
        return fs_fail(err, FS_ERR_ARGUMENT, "--raw continues a text: give one as an argument or on stdin");
    if (opt.raw && (opt.tools || opt.chat_template))
        return fs_fail(err, FS_ERR_ARGUMENT, "--raw continues a text: it goes with neither --tools nor --chat-template");
    if (!chat)
        rc = read_prompt(words, &prompt, err);
    fs_interrupt_catch();
    if (!rc)
        rc = open_run(&r, model, err);
    if (!rc)
        rc = fill_settings(r.model, watched, err);
    if (!rc && opt.sandbox && !chat) /* a chat opens its terminal first */
        rc = fs_model_sandbox(r.model, err);
    if (!rc)
        rc = chat ? fs_chat_loop(&r, &opt.settings, settings, err) : one_shot(&r, &prompt, err);
    if (!rc && opt.verbose)
        fs_stream_print(r.model, stderr);
    fs_interrupt_stops(NULL);
    fs_buf_done(&prompt);
    fs_run_done(&r);
    return rc;
}

const fs_command fs_command_run = {
    .set = { .name = "run",
             .usage = "[MODEL] [PROMPT...]",
             .summary = "Chat with a model, or get one answer.",
             .text = "\nOn a terminal without a prompt this is a chat; /help in it lists what it can do. With a prompt, or with text "
                     "on stdin, the answer alone goes to stdout. A '-' among the words of the prompt stands for stdin:\n\n"
                     "  farseek run model.gguf\n"
                     "  farseek run model.gguf 'Why is the sky blue?'\n"
                     "  git diff | farseek run model.gguf 'Write a commit message for this:' -\n\n"
                     "Where no model is named, farseek-mini of the tree answers, which works out chains of operations.\n\n"
                     "On a terminal, temperature, top-p, top-k and repetition-penalty default to the model's "
                     "generation_config.json, else to 0.6, 0.95, 0 and 1. When stdin or stdout is not a terminal the likeliest "
                     "token is taken (temperature 0), so that a pipeline gives the same answer every time.\n",
             .options = options,
             .n_args_max = -1 },
    .run = run,
};
