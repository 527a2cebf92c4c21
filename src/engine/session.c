/* A session: one sequence's cache and tokens, and generation on top of it. */
#include "engine/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

fs_sampling fs_sampling_default(void)
{
    return (fs_sampling){ .top_p = 1, .repetition_penalty = 1 };
}

fs_status fs_session_new(fs_model *m, int ctx_tokens, fs_session **ret_session, fs_error *err)
{
    size_t v = (size_t)fs_model_vocab_size(m);
    fs_session *s;
    fs_status rc;

    if (ctx_tokens <= 0 || ctx_tokens > fs_model_ctx_tokens_max(m))
        return fs_fail(err, FS_ERR_ARGUMENT, "a context of %d tokens was asked for, the model has 1 to %d", ctx_tokens,
                       fs_model_ctx_tokens_max(m));
    s = calloc(1, sizeof *s);
    if (!s)
        return fs_fail_memory(err, sizeof *s);
    s->model = m;
    rc = fs_cache_init(&s->cache, m->network, (uint32_t)ctx_tokens, err);
    if (!rc)
        rc = fs_sampler_new(&m->kernels, (int)v, &s->sampler, err);
    if (!rc) {
        s->tokens = malloc(s->cache.ctx_tokens * sizeof *s->tokens);
        s->logits = malloc(v * sizeof *s->logits);
        if (!s->tokens || !s->logits)
            rc = fs_fail_memory(err, s->cache.ctx_tokens * sizeof *s->tokens + v * sizeof *s->logits);
    }
    if (rc) {
        fs_session_free(s);
        return rc;
    }
    *ret_session = s;
    return FS_OK;
}

void fs_session_free(fs_session *s)
{
    if (!s)
        return;
    fs_cache_done(&s->cache);
    fs_sampler_free(s->sampler);
    fs_draft_done(&s->draft);
    free(s->tokens);
    free(s->logits);
    free(s);
}

int fs_session_n_tokens(const fs_session *s)
{
    return (int)s->n_tokens;
}

int fs_session_ctx_tokens(const fs_session *s)
{
    return (int)s->cache.ctx_limit;
}

const int32_t *fs_session_tokens(const fs_session *s)
{
    return s->tokens;
}

void fs_session_truncate(fs_session *s, int n_tokens)
{
    uint32_t n = (uint32_t)n_tokens;

    if (n_tokens < 0 || n >= s->n_tokens)
        return;
    s->n_tokens = n;
    fs_cache_rewind(s->model->network, &s->cache, n);
    fs_draft_truncate(&s->draft, n);
    if (n && s->cache.n_mtp_tokens == n)
        s->cache.n_mtp_tokens = n - 1; /* whose row had read the token at n */
}

void fs_session_interrupt(fs_session *s)
{
    atomic_store(&s->interrupted, true);
}

/* One step of new rows, or of rows that the session has and the cache lost. */
static fs_status step(fs_session *s, const fs_step_rows *row, size_t done, size_t n, fs_error *err)
{
    if (atomic_load(&s->interrupted))
        return fs_fail(err, FS_ERR_INTERRUPTED, "interrupted after %zu of %zu tokens", done, n);
    return fs_network_step(s->model->network, s->model->workspace, row, 1, err);
}

static fs_status catch_up(fs_session *s, fs_error *err)
{
    fs_status rc = FS_OK;

    while (s->cache.n_tokens < s->n_tokens && !rc) {
        uint32_t at = s->cache.n_tokens, n = s->n_tokens - at < FS_STEP_TOKENS ? s->n_tokens - at : FS_STEP_TOKENS;
        rc = step(s, &(fs_step_rows){ .cache = &s->cache, .ids = s->tokens + at, .n = n }, 0, n, err);
    }
    return rc;
}

static fs_status need_room(const fs_session *s, size_t n, fs_error *err)
{
    if (n > s->cache.ctx_limit - s->n_tokens)
        return fs_fail(err, FS_ERR_CONTEXT_FULL, "the context is full: %u tokens and %zu more, %u fit", s->n_tokens, n, s->cache.ctx_limit);
    return FS_OK;
}

fs_status fs_session_eval(fs_session *s, const int32_t *ids, size_t n, size_t chunk, float *ret_logits, float *ret_last,
                          float *ret_hidden, fs_error *err)
{
    size_t v = (size_t)fs_model_vocab_size(s->model), d = fs_model_hidden_floats(s->model), done = 0;
    fs_status rc = need_room(s, n, err);

    if (chunk == 0 || chunk > FS_STEP_TOKENS)
        chunk = FS_STEP_TOKENS;
    if (!rc)
        rc = catch_up(s, err);
    while (!rc && done < n) {
        size_t m = n - done < chunk ? n - done : chunk;
        bool last = done + m == n;
        fs_step_rows row = {
            .cache = &s->cache,
            .ids = ids + done,
            .n = (uint32_t)m,
            .n_logits = (uint32_t)(ret_logits ? m : last && ret_last ? 1 : 0),
            .ret_logits = ret_logits ? ret_logits + done * v : ret_last,
            .ret_hidden = ret_hidden ? ret_hidden + done * d : NULL,
        };
        rc = step(s, &row, done, n, err);
        if (rc)
            break;
        memmove(s->tokens + s->n_tokens, ids + done, m * sizeof *ids); /* ids may be the session's own */
        s->n_tokens += (uint32_t)m;
        done += m;
    }
    if (!rc && ret_logits && ret_last && n)
        memcpy(ret_last, ret_logits + (n - 1) * v, v * sizeof *ret_last);
    return rc;
}

fs_status fs_session_mtp_eval(fs_session *s, const float *hidden, const int32_t *next_ids, size_t n, float *ret_logits, fs_error *err)
{
    size_t v = (size_t)fs_model_vocab_size(s->model), d = fs_model_hidden_floats(s->model);
    fs_status rc = FS_OK;

    for (size_t done = 0; done < n && !rc;) {
        size_t m = n - done < FS_STEP_TOKENS ? n - done : FS_STEP_TOKENS;
        rc = fs_network_mtp_step(s->model->network, s->model->workspace, &s->cache, hidden + done * d, next_ids + done,
                                 (uint32_t)m, ret_logits ? (uint32_t)m : 0, ret_logits ? ret_logits + done * v : NULL, NULL, err);
        done += m;
    }
    return rc;
}

fs_status fs_batch_eval(const fs_batch_item *items, size_t n_items, fs_error *err)
{
    fs_step_rows rows[FS_STEP_SEQUENCES];
    fs_model *m = items[0].session->model;
    size_t total = 0;
    fs_status rc;

    if (n_items == 0 || n_items > FS_STEP_SEQUENCES)
        return fs_fail(err, FS_ERR_ARGUMENT, "%zu sequences in one step, 1 to %d fit", n_items, FS_STEP_SEQUENCES);
    for (size_t i = 0; i < n_items; i++) {
        fs_session *s = items[i].session;
        assert(s->model == m);
        total += items[i].n;
        if (items[i].n == 0 || total > FS_STEP_TOKENS)
            return fs_fail(err, FS_ERR_ARGUMENT, "%zu tokens in one step, 1 to %d fit", total, FS_STEP_TOKENS);
        rc = need_room(s, items[i].n, err);
        if (!rc)
            rc = catch_up(s, err);
        if (rc)
            return rc;
        rows[i] = (fs_step_rows){ .cache = &s->cache, .ids = items[i].ids, .n = items[i].n, .ret_logits = items[i].ret_logits, .ret_hidden = items[i].ret_hidden,
                                  .n_logits = items[i].n_logits };
    }
    rc = fs_network_step(m->network, m->workspace, rows, n_items, err);
    for (size_t i = 0; i < n_items && !rc; i++) {
        fs_session *s = items[i].session;
        memcpy(s->tokens + s->n_tokens, items[i].ids, items[i].n * sizeof *items[i].ids);
        s->n_tokens += items[i].n;
    }
    return rc;
}
