/* See the header. */
#include "cli/reply.h"

#include "cli/answer.h"
#include "cli/cli.h"
#include "cli/interrupt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DIM   "\033[2m"
#define PLAIN "\033[0m"
#define ERASE "\r\033[K"

double fs_seconds_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void fs_run_done(fs_run *r)
{
    if (!r)
        return;
    fs_talk_done(&r->talk);
    fs_buf_done(&r->reasoning);
    fs_session_free(r->session);
    fs_model_close(r->model);
    *r = (fs_run){ 0 };
}

/* ---- what is shown ---- */

typedef struct view {
    fs_run *run;
    fs_answer answer;
    fs_error failure; /* of showing: memory, or stdout */
    bool reasoning_open; /* dim is on, or the folded line stands */
    double started, line_drawn;
    char last; /* the last byte written */
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
    r->n_reasoning_tokens = count_tokens(r->model, fs_buf_bytes(&v->answer.reasoning));
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

static bool show_part(void *ud, fs_answer_part part, const char *text, size_t n_bytes)
{
    view *v = ud;

    if (part == FS_ANSWER_CONTENT && v->run->reasoning_seconds < 0 && v->answer.reasoning.n_bytes)
        end_reasoning(v);
    if (!v->run->show)
        return true;
    if (part == FS_ANSWER_REASONING)
        show_reasoning(v, text, n_bytes);
    else
        write_clean(v, text, n_bytes);
    if (!v->failure.code && (fflush(stdout) != 0 || ferror(stdout)))
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
    rc = fs_answer_push(&v->answer, text, n_bytes, show_part, v, &e);
    if (rc && rc != FS_ERR_INTERRUPTED)
        v->failure = e;
    return !rc;
}

/* ---- tokens and generation ---- */

/* Calls tokenize twice: for the number, then for the ids, into a new array (free). */
typedef fs_status tokenize_fn(fs_run *r, int32_t *ids, size_t capacity, size_t *ret_n, fs_error *err);

static fs_status chat_tokens(fs_run *r, int32_t *ids, size_t capacity, size_t *ret_n, fs_error *err)
{
    fs_chat_message *messages;
    size_t n;
    fs_status rc = fs_talk_messages(&r->talk, &messages, &n, err);

    if (rc)
        return rc;
    rc = fs_chat_tokens(r->model, messages, n, r->settings->thinking, ids, capacity, ret_n, err);
    free(messages);
    return rc;
}

static fs_status raw_tokens(fs_run *r, int32_t *ids, size_t capacity, size_t *ret_n, fs_error *err)
{
    const fs_tokenizer *t = fs_model_tokenizer(r->model);
    fs_ids list = { 0 };
    fs_status rc;

    if (!t)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "model '%.200s' has no tokenizer", r->name);
    rc = fs_tokenizer_encode(t, fs_buf_bytes(&r->talk.turns[r->talk.n_turns - 1].content), FS_ENCODE_BOS, &list, err);
    if (!rc) {
        if (capacity)
            memcpy(ids, list.data, (list.n < capacity ? list.n : capacity) * sizeof *ids);
        *ret_n = list.n;
    }
    fs_ids_done(&list);
    return rc;
}

static fs_status prompt_tokens(fs_run *r, int32_t **ret, size_t *ret_n, fs_error *err)
{
    tokenize_fn *tokenize = r->raw ? raw_tokens : chat_tokens;
    int32_t *ids;
    size_t n = 0, again;
    fs_status rc = tokenize(r, NULL, 0, &n, err);

    if (rc)
        return rc;
    if (n == 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "the prompt has no tokens");
    ids = calloc(n, sizeof *ids);
    if (!ids)
        return fs_fail_memory(err, n * sizeof *ids);
    rc = tokenize(r, ids, n, &again, err);
    if (rc) {
        free(ids);
        return rc;
    }
    *ret = ids;
    *ret_n = n;
    return FS_OK;
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
    int32_t *ids = NULL;
    size_t n = 0;
    int room;
    fs_status rc = prompt_tokens(r, &ids, &n, err);

    if (rc)
        return rc;
    if (n >= (size_t)r->ctx_tokens) {
        free(ids);
        return fs_fail(err, FS_ERR_CONTEXT_FULL,
                       "the context is full: the conversation has %zu tokens, the context %d (--ctx sets a larger one, the model "
                       "was made for %d; in a chat /clear begins anew)", n, r->ctx_tokens, fs_model_ctx_tokens_max(r->model));
    }
    room = r->ctx_tokens - (int)n;
    if (r->settings->max_tokens > 0 && r->settings->max_tokens < room)
        room = r->settings->max_tokens;
    v->started = fs_seconds_now();
    rc = fs_generate(r->session, ids, n, &sampling, room, NULL, on_text, v, &r->generation, err);
    free(ids);
    if (rc == FS_ERR_INTERRUPTED) {
        r->generation.stop = FS_STOP_CALLBACK;
        rc = FS_OK;
    }
    if (!rc)
        rc = fs_answer_finish(&v->answer, show_part, v, err);
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

fs_status fs_run_reply(fs_run *r, fs_error *err)
{
    view v = { .run = r, .last = '\n' };
    fs_bytes open = { 0 }, close = { 0 };
    bool open_in_prompt = false;
    fs_status rc;

    if (!r->raw)
        fs_chat_reasoning(fs_model_chat_format(r->model), r->settings->thinking, &open, &close, &open_in_prompt);
    fs_answer_init(&v.answer, open, close, open_in_prompt);
    r->generation = (fs_generation){ 0 };
    r->reasoning_seconds = -1;
    r->n_reasoning_tokens = 0;
    rc = generate(r, &v, err);
    if (!rc && r->reasoning_seconds < 0 && v.answer.reasoning.n_bytes && !v.reasoning_open)
        end_reasoning(&v); /* for its length */
    end_show(&v);
    r->n_tokens_total += (uint64_t)r->generation.n_tokens;
    if (!rc && v.answer.content.n_bytes == 0 && v.answer.reasoning.n_bytes == 0 && r->generation.stop == FS_STOP_CALLBACK)
        fs_talk_pop(&r->talk);
    else if (!rc)
        rc = fs_talk_add(&r->talk, FS_TALK_ASSISTANT, fs_buf_bytes(&v.answer.content), fs_buf_bytes(&v.answer.reasoning), err);
    if (rc)
        fs_talk_pop(&r->talk);
    fs_buf_done(&r->reasoning);
    r->reasoning = v.answer.reasoning;
    v.answer.reasoning = (fs_buf){ 0 };
    fs_answer_done(&v.answer);
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
