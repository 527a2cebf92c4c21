/* See the header. */
#include "cli/reply.h"

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "base/clock.h"
#include "text/parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DIM   "\033[2m"
#define PLAIN "\033[0m"
#define ERASE "\r\033[K"

void fs_run_done(fs_run *r)
{
    if (!r)
        return;
    fs_talk_done(&r->talk);
    fs_buf_done(&r->reasoning);
    fs_buf_done(&r->calls);
    fs_buf_done(&r->tools);
    fs_session_free(r->session);
    fs_model_close(r->model);
    *r = (fs_run){ 0 };
}

/* ---- what is shown ---- */

typedef struct view {
    fs_run *run;
    fs_parser parser;
    fs_buf reasoning, content;
    fs_error failure; /* of showing: memory, or stdout */
    bool reasoning_open; /* dim is on, or the folded line stands */
    double started, line_drawn;
    char last; /* the last byte written */
    fs_talk called; /* one turn, with the calls */
} view;

static bool folded_line_wanted(const view *v)
{
    return v->run->on_terminal && v->run->settings->fold;
}

static void write_clean(view *v, const char *text, size_t n_bytes)
{
    fs_buf clean = { 0 };

    if (fs_text_clean(&clean, (fs_bytes){ (const uint8_t *)text, n_bytes }, &v->failure) == FS_OK && clean.n_bytes) {
        fwrite(clean.data, 1, clean.n_bytes, stdout);
        v->last = clean.data[clean.n_bytes - 1];
    }
    fs_buf_done(&clean);
}

static size_t count_tokens(const fs_model *m, fs_bytes text)
{
    size_t n = 0;
    return fs_tokenize(m, (const char *)text.data, text.n_bytes, false, NULL, 0, &n, NULL) ? 0 : n;
}

/* The reasoning is over: closes what stands for it on the screen. */
static void end_reasoning(view *v)
{
    fs_run *r = v->run;

    r->reasoning_seconds = fs_seconds_now() - v->started;
    r->n_reasoning_tokens = count_tokens(r->model, fs_buf_bytes(&v->reasoning));
    if (!v->reasoning_open)
        return;
    v->reasoning_open = false;
    if (folded_line_wanted(v)) {
        printf("%s%s\u25b8 thought for %.0f s, %zu tokens%s\n\n", r->colour ? ERASE : "", r->colour ? DIM : "",
               r->reasoning_seconds, r->n_reasoning_tokens, r->colour ? PLAIN : "");
    } else {
        printf("%s%s\n", r->colour ? PLAIN : "", v->last == '\n' ? "" : "\n");
    }
    v->last = '\n';
}

static void show_reasoning(view *v, const char *text, size_t n_bytes)
{
    fs_run *r = v->run;
    double now = fs_seconds_now();

    if (!r->on_terminal)
        return; /* elsewhere the answer stands alone */
    if (!v->reasoning_open && !folded_line_wanted(v) && r->colour)
        fputs(DIM, stdout);
    v->reasoning_open = true;
    if (!folded_line_wanted(v)) {
        write_clean(v, text, n_bytes);
    } else if (r->colour && now - v->line_drawn > 0.2) {
        printf("%s%s\u25b8 thinking, %.0f s%s", ERASE, DIM, now - v->started, PLAIN);
        v->line_drawn = now;
    }
}

/* A call is one line of JSON on its own: within valid JSON line ends are white space. */
static fs_status keep_call(view *v, const fs_parsed *e)
{
    fs_buf line = { 0 };
    fs_status rc = fs_buf_append_str(&line, "{\"name\": ", &v->failure);

    if (!rc)
        rc = fs_json_quote(&line, e->name, &v->failure);
    if (!rc)
        rc = fs_buf_append_str(&line, ", \"arguments\": ", &v->failure);
    if (!rc)
        rc = fs_buf_append(&line, e->arguments.data, e->arguments.n_bytes, &v->failure);
    if (!rc)
        rc = fs_buf_append_str(&line, "}", &v->failure);
    for (size_t i = 0; i < line.n_bytes && !rc; i++)
        if (strchr("\r\n\t", line.data[i]))
            line.data[i] = ' ';
    if (!rc)
        rc = fs_buf_append(&v->run->calls, line.data, line.n_bytes, &v->failure);
    if (!rc)
        rc = fs_buf_append(&v->run->calls, "\n", 1, &v->failure);
    if (!rc)
        rc = fs_talk_add_call(&v->called, e->name, e->arguments, &v->failure);
    if (!rc && v->run->show) {
        if (v->last != '\n')
            putchar('\n');
        write_clean(v, line.data, line.n_bytes);
        putchar('\n');
        v->last = '\n';
    }
    fs_buf_done(&line);
    return rc;
}

static bool show_part(void *ud, const fs_parsed *e)
{
    view *v = ud;
    const char *text = (const char *)e->text.data;

    if (e->part != FS_PART_REASONING && v->run->reasoning_seconds < 0 && v->reasoning.n_bytes)
        end_reasoning(v);
    if (e->part == FS_PART_CALL) {
        if (keep_call(v, e))
            return false;
    } else if (fs_buf_append(e->part == FS_PART_REASONING ? &v->reasoning : &v->content, text, e->text.n_bytes, &v->failure)) {
        return false;
    } else if (v->run->show) {
        if (e->part == FS_PART_REASONING)
            show_reasoning(v, text, e->text.n_bytes);
        else
            write_clean(v, text, e->text.n_bytes);
    }
    if (v->run->show && !v->failure.code && (fflush(stdout) != 0 || ferror(stdout)))
        fs_fail_errno(&v->failure, errno, "cannot write the answer");
    return !v->failure.code;
}

static bool on_text(void *ud, const char *text, size_t n_bytes)
{
    view *v = ud;
    fs_error e;
    fs_status rc;

    if (fs_interrupted())
        return false;
    rc = fs_parser_push(&v->parser, text, n_bytes, show_part, v, &e);
    if (rc && rc != FS_ERR_INTERRUPTED)
        v->failure = e;
    return !rc;
}

/* ---- tokens and generation ---- */

static fs_chat_options chat_options(const fs_run *r)
{
    return (fs_chat_options){ .thinking = r->settings->thinking, .add_generation_prompt = true, .tools = fs_buf_bytes(&r->tools) };
}

static fs_status chat_tokens(fs_run *r, fs_ids *ret, fs_error *err)
{
    fs_chat_options o = chat_options(r);
    fs_message *messages;
    size_t n;
    fs_status rc = fs_talk_messages(&r->talk, &messages, &n, err);

    if (rc)
        return rc;
    rc = fs_model_chat(r->model, messages, n, &o, NULL, ret, err);
    free(messages);
    return rc;
}

static fs_status raw_tokens(fs_run *r, fs_ids *ret, fs_error *err)
{
    const fs_tokenizer *t = fs_model_tokenizer(r->model);

    if (!t)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "model '%.200s' has no tokenizer", r->name);
    return fs_tokenizer_encode(t, fs_buf_bytes(&r->talk.turns[r->talk.n_turns - 1].content), FS_ENCODE_BOS, ret, err);
}

static fs_status prompt_tokens(fs_run *r, fs_parser *ret_parser, fs_ids *ret, fs_error *err)
{
    fs_chat_options o = chat_options(r);
    fs_status rc = r->raw ? raw_tokens(r, ret, err) : chat_tokens(r, ret, err);

    if (!rc && ret->n == 0)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "the prompt has no tokens");
    if (r->raw || rc)
        fs_parser_init(ret_parser, FS_CHAT_NONE, false, false);
    else
        fs_model_parser_init(r->model, ret->data, ret->n, &o, ret_parser);
    return rc;
}

static fs_sampling sampling_of(const fs_run_settings *s)
{
    fs_sampling o = fs_sampling_default();

    o.temperature = (float)s->temperature;
    o.top_k = s->top_k;
    o.top_p = (float)s->top_p;
    o.min_p = (float)s->min_p;
    o.repetition_penalty = (float)s->repetition_penalty;
    o.seed = s->seed;
    return o;
}

static fs_status generate(fs_run *r, view *v, fs_error *err)
{
    fs_sampling sampling = sampling_of(r->settings);
    fs_ids ids = { 0 };
    size_t n;
    int room;
    fs_status rc = prompt_tokens(r, &v->parser, &ids, err);

    n = ids.n;
    if (rc) {
        fs_ids_done(&ids);
        return rc;
    }
    if (n >= (size_t)r->ctx_tokens) {
        fs_ids_done(&ids);
        return fs_fail(err, FS_ERR_CONTEXT_FULL,
                       "the context is full: the conversation has %zu tokens, the context %d (--ctx sets a larger one, the model "
                       "was made for %d; in a chat /clear begins anew)", n, r->ctx_tokens, fs_model_ctx_tokens_max(r->model));
    }
    room = r->ctx_tokens - (int)n;
    if (r->settings->max_tokens > 0 && r->settings->max_tokens < room)
        room = r->settings->max_tokens;
    v->started = fs_seconds_now();
    rc = fs_generate(r->session, ids.data, n, &sampling, room, NULL, on_text, v, &r->generation, err);
    fs_ids_done(&ids);
    if (rc == FS_ERR_INTERRUPTED) {
        r->generation.stop = FS_STOP_CALLBACK;
        rc = FS_OK;
    }
    if (!rc)
        rc = fs_parser_finish(&v->parser, show_part, v, err);
    if (!v->failure.code)
        return rc == FS_ERR_INTERRUPTED ? FS_OK : rc;
    if (err)
        *err = v->failure;
    return v->failure.code;
}

static void end_show(view *v)
{
    if (!v->run->show)
        return;
    if (v->reasoning_open)
        end_reasoning(v);
    else if (v->last != '\n')
        putchar('\n');
    fflush(stdout);
}

/* The answer as a turn of the talk. */
static fs_status keep_answer(fs_run *r, view *v, fs_error *err)
{
    const fs_talk_turn *called = v->called.turns;
    fs_status rc = fs_talk_add(&r->talk, FS_TALK_ASSISTANT, fs_buf_bytes(&v->content), fs_buf_bytes(&v->reasoning), err);

    for (size_t i = 0; !rc && i < called->n_calls; i++) {
        rc = fs_talk_add_call(&r->talk, fs_buf_bytes(&called->calls[i].name), fs_buf_bytes(&called->calls[i].arguments), err);
        if (rc)
            fs_talk_pop(&r->talk);
    }
    return rc;
}

fs_status fs_run_reply(fs_run *r, fs_error *err)
{
    view v = { .run = r, .last = '\n' };
    fs_status rc;

    r->generation = (fs_generation){ 0 };
    r->reasoning_seconds = -1;
    r->n_reasoning_tokens = 0;
    fs_buf_clear(&r->calls);
    rc = fs_talk_add(&v.called, FS_TALK_ASSISTANT, (fs_bytes){ 0 }, (fs_bytes){ 0 }, err);
    if (!rc)
        rc = generate(r, &v, err);
    if (!rc && r->reasoning_seconds < 0 && v.reasoning.n_bytes && !v.reasoning_open)
        end_reasoning(&v); /* for its length */
    end_show(&v);
    r->n_tokens_total += (uint64_t)r->generation.n_tokens;
    if (!rc && v.content.n_bytes == 0 && v.reasoning.n_bytes == 0 && r->calls.n_bytes == 0 && r->generation.stop == FS_STOP_CALLBACK)
        fs_talk_pop(&r->talk);
    else if (!rc)
        rc = keep_answer(r, &v, err);
    if (rc)
        fs_talk_pop(&r->talk);
    fs_buf_done(&r->reasoning);
    r->reasoning = v.reasoning;
    fs_buf_done(&v.content);
    fs_talk_done(&v.called);
    fs_parser_done(&v.parser);
    return rc;
}

fs_status fs_speculation_from_name(const char *name, fs_speculation *ret, fs_error *err)
{
    static const char *const names[] = { "off", "lookup", "mtp" };

    for (int i = 0; i < 3; i++)
        if (!name || strcmp(name, names[i]) == 0) {
            *ret = (fs_speculation)i;
            return FS_OK;
        }
    return fs_fail(err, FS_ERR_ARGUMENT, "--speculate '%.60s' is none of off, lookup, mtp", name);
}

void fs_run_print_speed(const fs_run *r, FILE *out)
{
    const fs_generation *g = &r->generation;

    fprintf(out, "%d token%s", g->n_tokens, g->n_tokens == 1 ? "" : "s");
    if (g->seconds > 0 && g->n_tokens > 0)
        fprintf(out, ", %.1f tokens/s", g->n_tokens / g->seconds);
    fprintf(out, "; prompt %d tokens (%d cached) in %.2f s", g->n_prompt_tokens, g->n_prompt_cached, g->prompt_seconds);
    if (g->n_drafted)
        fprintf(out, "; %d of %d guesses right (%.0f %%)", g->n_accepted, g->n_drafted, 100.0 * g->n_accepted / g->n_drafted);
}
