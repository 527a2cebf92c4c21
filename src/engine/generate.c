/* Generation: prompt, draw, text out. Text is held back while it could still become a stop string. */
#include "engine/internal.h"

#include "base/clock.h"

#include <string.h>

#define HELD_BYTES 65536

/* Where in text, from byte `from` on, the first stop string begins; else text's length less the longest tail that begins
 * a stop string. *ret_whole tells which. */
static size_t find_stop(const fs_buf *text, const char *const *stops, bool *ret_whole)
{
    size_t hold = text->n_bytes;

    *ret_whole = false;
    for (size_t i = 0; i < text->n_bytes; i++) {
        for (size_t j = 0; stops && stops[j]; j++) {
            size_t n = strlen(stops[j]), left = text->n_bytes - i;
            if (n == 0)
                continue;
            if (left >= n && memcmp(text->data + i, stops[j], n) == 0) {
                *ret_whole = true;
                return i;
            }
            if (left < n && memcmp(text->data + i, stops[j], left) == 0 && i < hold)
                hold = i;
        }
    }
    return hold;
}

struct output {
    fs_detok detok;
    fs_buf held; /* decoded, not yet emitted */
    const char *const *stops;
    fs_text_fn *fn;
    void *ud;
};

/* Emits what is certain. *ret_stop: a stop string came whole, or the callback said no. */
static void emit(struct output *o, bool all, bool *ret_stop_string, bool *ret_stop_callback)
{
    bool whole = false;
    size_t n = find_stop(&o->held, o->stops, &whole);

    if (all && !whole)
        n = o->held.n_bytes;
    if (n && !o->fn(o->ud, o->held.data, n))
        *ret_stop_callback = true;
    if (whole)
        *ret_stop_string = true;
    memmove(o->held.data, o->held.data + n, o->held.n_bytes - n);
    o->held.n_bytes -= n;
}

static size_t common_prefix(const fs_session *s, const int32_t *ids, size_t n)
{
    size_t i = 0;

    while (i < n && i < s->n_tokens && s->tokens[i] == ids[i])
        i++;
    return i;
}

static fs_status check_request(const fs_session *s, size_t n_prompt, const fs_sampling *o, fs_error *err)
{
    if (n_prompt == 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "an empty prompt has nothing to continue");
    if (n_prompt > s->cache.ctx_limit)
        return fs_fail(err, FS_ERR_CONTEXT_FULL, "the prompt has %zu tokens, the context %u", n_prompt, s->cache.ctx_limit);
    if (!(o->temperature >= 0) || !(o->top_p > 0) || !(o->repetition_penalty > 0) || !(o->min_p >= 0 && o->min_p <= 1) || o->top_k < 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "sampling makes no sense: temperature %g, top_p %g, min_p %g, top_k %d, repetition_penalty %g",
                       (double)o->temperature, (double)o->top_p, (double)o->min_p, o->top_k, (double)o->repetition_penalty);
    return FS_OK;
}

fs_status fs_generate_tokens(fs_session *s, const int32_t *prompt, size_t n_prompt, const fs_sampling *sampling, int max_tokens,
                             fs_token_fn *fn, void *ud, fs_generation *ret, fs_error *err)
{
    fs_generation g = { .stop = FS_STOP_LENGTH, .n_prompt_tokens = (int)n_prompt };
    fs_sampling greedy = fs_sampling_default();
    const fs_sampling *o = sampling ? sampling : &greedy;
    double start = fs_seconds_now();
    size_t cached;
    fs_status rc = check_request(s, n_prompt, o, err);

    if (rc)
        return rc;
    atomic_store(&s->interrupted, false);
    cached = fs_draft_resume(s, common_prefix(s, prompt, n_prompt - 1)); /* the last token is always run: its logits are needed */
    g.n_prompt_cached = (int)cached;
    rc = fs_draft_prompt(s, prompt + cached, n_prompt - cached, err);
    g.prompt_seconds = fs_seconds_now() - start;
    start = fs_seconds_now();
    while (!rc && g.n_tokens < max_tokens) {
        uint32_t position = fs_draft_position(s);
        int32_t id = fs_sampler_draw(s->sampler, o, 0, position, fs_draft_logits(s), s->tokens, position, NULL);
        g.n_tokens++;
        if (!fn(ud, id) || atomic_load(&s->interrupted)) {
            g.stop = FS_STOP_CALLBACK;
            break;
        }
        if (g.n_tokens == max_tokens)
            break; /* its logits are not needed */
        rc = fs_draft_next(s, o, id, max_tokens - g.n_tokens, err);
    }
    if (rc == FS_ERR_INTERRUPTED && g.n_tokens) {
        g.stop = FS_STOP_CALLBACK;
        rc = FS_OK;
    }
    fs_draft_finish(s);
    g.n_drafted = s->draft.n_drafted;
    g.n_accepted = s->draft.n_accepted;
    g.seconds = fs_seconds_now() - start;
    if (ret)
        *ret = g;
    return rc;
}

/* What the drawn tokens come to. */
struct reply {
    const fs_model *model;
    struct output out;
    bool eos, stop_string, stop_callback;
    fs_status rc;
    fs_error *err;
};

static bool take_token(void *ud, int32_t id)
{
    struct reply *r = ud;

    r->eos = fs_model_is_stop(r->model, id);
    if (r->eos)
        return false;
    r->rc = fs_detok_push(&r->out.detok, id, &r->out.held, r->err);
    if (!r->rc)
        emit(&r->out, false, &r->stop_string, &r->stop_callback);
    return !r->rc && !r->stop_string && !r->stop_callback;
}

fs_status fs_generate(fs_session *s, const int32_t *prompt, size_t n_prompt, const fs_sampling *sampling, int max_tokens,
                      const char *const *stop_strings, fs_text_fn *fn, void *ud, fs_generation *ret, fs_error *err)
{
    fs_model *m = s->model;
    fs_generation g = { .stop = FS_STOP_LENGTH, .n_prompt_tokens = (int)n_prompt };
    struct reply r = { .model = m, .err = err,
                       .out = { .detok = { .tokenizer = m->tokenizer, .skip_special = true }, .stops = stop_strings, .fn = fn, .ud = ud } };
    bool interrupted;
    fs_status rc;

    if (!m->tokenizer)
        return fs_fail(err, FS_ERR_NOT_FOUND, "the model's files hold no tokenizer");
    rc = fs_buf_reserve(&r.out.held, HELD_BYTES, err); /* so that tokens allocate nothing */
    if (!rc)
        rc = fs_generate_tokens(s, prompt, n_prompt, sampling, max_tokens, take_token, &r, &g, err);
    if (!rc)
        rc = r.rc;
    interrupted = g.stop == FS_STOP_CALLBACK && !r.eos && !r.stop_string;
    if (!r.stop_string && !interrupted && (!rc || rc == FS_ERR_CONTEXT_FULL)) {
        fs_error ignored;
        if (fs_detok_flush(&r.out.detok, &r.out.held, &ignored) == FS_OK)
            emit(&r.out, true, &r.stop_string, &r.stop_callback);
    }
    if (r.eos)
        g.stop = FS_STOP_EOS;
    if (r.stop_string)
        g.stop = FS_STOP_STRING;
    if (r.stop_callback)
        g.stop = FS_STOP_CALLBACK;
    fs_buf_done(&r.out.held);
    if (ret)
        *ret = g;
    return rc;
}
