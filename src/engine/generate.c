/* Generation: prompt, draw, text out. Text is held back while it could still become a stop string. */
#include "engine/internal.h"

#include <string.h>
#include <time.h>

#define HELD_BYTES 65536

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

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

fs_status fs_generate(fs_session *s, const int32_t *prompt, size_t n_prompt, const fs_sampling *sampling, int max_tokens,
                      const char *const *stop_strings, fs_text_fn *fn, void *ud, fs_generation *ret, fs_error *err)
{
    fs_model *m = s->model;
    fs_generation g = { .stop = FS_STOP_LENGTH, .n_prompt_tokens = (int)n_prompt };
    fs_sampling greedy = fs_sampling_default();
    const fs_sampling *o = sampling ? sampling : &greedy;
    struct output out = { .detok = { .tokenizer = m->tokenizer, .skip_special = true }, .stops = stop_strings, .fn = fn, .ud = ud };
    bool stop_string = false, stop_callback = false;
    double start = seconds();
    size_t cached;
    fs_status rc;

    if (!m->tokenizer)
        return fs_fail(err, FS_ERR_NOT_FOUND, "the model's files hold no tokenizer");
    if (n_prompt == 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "an empty prompt has nothing to continue");
    if (n_prompt > s->cache.ctx_limit)
        return fs_fail(err, FS_ERR_CONTEXT_FULL, "the prompt has %zu tokens, the context %u", n_prompt, s->cache.ctx_limit);
    if (!(o->temperature >= 0) || !(o->top_p > 0) || !(o->repetition_penalty > 0) || !(o->min_p >= 0 && o->min_p <= 1) || o->top_k < 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "sampling makes no sense: temperature %g, top_p %g, min_p %g, top_k %d, repetition_penalty %g",
                       (double)o->temperature, (double)o->top_p, (double)o->min_p, o->top_k, (double)o->repetition_penalty);
    atomic_store(&s->interrupted, false);
    cached = common_prefix(s, prompt, n_prompt - 1); /* the last token is always run: its logits are needed */
    fs_session_truncate(s, (int)cached);
    g.n_prompt_cached = (int)cached;
    rc = fs_buf_reserve(&out.held, HELD_BYTES, err); /* so that the loop below allocates nothing */
    if (!rc)
        rc = fs_session_eval(s, prompt + cached, n_prompt - cached, 0, NULL, s->logits, NULL, err);
    g.prompt_seconds = seconds() - start;
    start = seconds();
    while (!rc && g.n_tokens < max_tokens) {
        uint32_t position = s->n_tokens;
        int32_t id = fs_sampler_draw(s->sampler, o, 0, position, s->logits, s->tokens, position, NULL);
        g.n_tokens++;
        if (fs_model_is_stop(m, id)) {
            g.stop = FS_STOP_EOS;
            break;
        }
        rc = fs_detok_push(&out.detok, id, &out.held, err);
        if (!rc)
            emit(&out, false, &stop_string, &stop_callback);
        if (rc || stop_string || stop_callback)
            break;
        if (atomic_load(&s->interrupted)) {
            stop_callback = true;
            break;
        }
        if (g.n_tokens == max_tokens)
            break; /* its logits are not needed */
        rc = fs_session_eval(s, &id, 1, 1, NULL, s->logits, NULL, err);
        if (rc == FS_ERR_INTERRUPTED) {
            stop_callback = true;
            rc = FS_OK;
            break;
        }
    }
    if (!stop_string && !stop_callback && (!rc || rc == FS_ERR_CONTEXT_FULL)) {
        fs_error ignored;
        if (fs_detok_flush(&out.detok, &out.held, &ignored) == FS_OK)
            emit(&out, true, &stop_string, &stop_callback);
    }
    if (stop_string)
        g.stop = FS_STOP_STRING;
    if (stop_callback)
        g.stop = FS_STOP_CALLBACK;
    g.seconds = seconds() - start;
    fs_buf_done(&out.held);
    if (ret)
        *ret = g;
    return rc;
}
