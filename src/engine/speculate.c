/* Speculative decoding: a step runs the token that was drawn and a draft of those behind it, with logits of all. A draft
 * counts as far as its tokens are the ones that are drawn from those logits, and the rows behind are rewound; the draw at a
 * position depends on seed, position and logits alone (RN1, section 7), so that the text is that of plain decoding.
 * Drafts are looked up in the sequence itself (Saxena, prompt lookup decoding, 2023), or come from the model's MTP layer,
 * which is fed its own output again for those further ahead (DeepSeek-V3, arXiv 2412.19437, sections 2.2 and 5.4.3). */
#include "engine/internal.h"

#include "kernels/math.h"

#include <stdlib.h>
#include <string.h>

#define DRAFT_LOOKUP 8
#define DRAFT_MTP    1
#define NGRAM_MAX    4
#define NGRAM_MIN    2

/* A row that is less likely than this to be wanted costs more than it saves. */
#define DRAFT_LIKELY 0.5f
/* So many of the MTP layer's drafts that brought nothing, one after another, and it is left alone for a while, longer each time. */
#define MISSES_MAX 4
#define PAUSE_MAX  16

_Static_assert(FS_DRAFT_MAX <= FS_CACHE_REWIND, "a cache takes a whole draft back");

void fs_draft_done(fs_draft *d)
{
    free(d->hidden);
    free(d->mtp_hidden);
    free(d->mtp_logits);
    *d = (fs_draft){ 0 };
}

fs_status fs_session_speculate(fs_session *s, fs_speculation how, int n_draft, fs_error *err)
{
    size_t v = (size_t)fs_model_vocab_size(s->model), floats = fs_model_hidden_floats(s->model);
    fs_draft d = { .how = how, .likely = DRAFT_LIKELY };
    float *logits;

    if (how == FS_SPECULATE_MTP && !fs_model_has_mtp(s->model))
        return fs_fail(err, FS_ERR_UNSUPPORTED, "the model has no multi-token-prediction layer, or it was not loaded");
    if (n_draft < 0 || n_draft > FS_DRAFT_MAX)
        return fs_fail(err, FS_ERR_ARGUMENT, "a draft of %d tokens was asked for, at most %d can be", n_draft, FS_DRAFT_MAX);
    if (how != FS_SPECULATE_OFF)
        d.n_max = n_draft ? (uint32_t)n_draft : how == FS_SPECULATE_MTP ? DRAFT_MTP : DRAFT_LOOKUP;
    d.n_next = d.n_max;
    logits = malloc((d.n_max + 1) * v * sizeof *logits);
    if (how == FS_SPECULATE_MTP) {
        d.hidden = malloc(FS_STEP_TOKENS * floats * sizeof *d.hidden);
        d.mtp_hidden = malloc(floats * sizeof *d.mtp_hidden);
        d.mtp_logits = malloc(v * sizeof *d.mtp_logits);
    }
    if (!logits || (how == FS_SPECULATE_MTP && (!d.hidden || !d.mtp_hidden || !d.mtp_logits))) {
        free(logits);
        fs_draft_done(&d);
        return fs_fail_memory(err, (d.n_max + 1) * v * sizeof *logits);
    }
    free(s->logits);
    s->logits = logits;
    fs_draft_done(&s->draft);
    s->draft = d;
    return FS_OK;
}

void fs_draft_truncate(fs_draft *d, uint32_t n_tokens)
{
    if (n_tokens < d->hidden_first)
        d->n_hidden = 0;
    else if (d->n_hidden > n_tokens - d->hidden_first)
        d->n_hidden = n_tokens - d->hidden_first;
}

/* True when hidden states of the positions [begin, end) stand in the buffer. */
static bool holds(const fs_draft *d, size_t begin, size_t end)
{
    return begin >= end || (begin >= d->hidden_first && end <= (size_t)d->hidden_first + d->n_hidden);
}

/* A row of the MTP layer has read the token behind its position. */
static size_t mtp_rows(const fs_session *s, size_t n_cached)
{
    size_t n = n_cached ? n_cached - 1 : 0;

    return s->cache.n_mtp_tokens < n ? s->cache.n_mtp_tokens : n;
}

size_t fs_draft_resume(fs_session *s, size_t n_cached)
{
    size_t rows = mtp_rows(s, n_cached);

    if (s->draft.how == FS_SPECULATE_MTP && !holds(&s->draft, rows, n_cached))
        n_cached = rows;
    fs_session_truncate(s, (int)n_cached);
    if (s->draft.how == FS_SPECULATE_MTP)
        s->cache.n_mtp_tokens = (uint32_t)rows;
    return n_cached;
}

/* The MTP layer over all rows that it has not seen; the last one reads next. n_last 1: its logits and hidden state. */
static fs_status feed(fs_session *s, int32_t next, uint32_t n_last, fs_error *err)
{
    fs_draft *d = &s->draft;
    uint32_t at = s->cache.n_mtp_tokens, n = s->n_tokens - at;
    size_t floats = fs_model_hidden_floats(s->model);

    if (n == 0 || !holds(d, at, s->n_tokens))
        return fs_fail(err, FS_ERR_ARGUMENT, "hidden states of %u tokens are gone", n);
    s->tokens[s->n_tokens] = next; /* behind the sequence, where it belongs */
    return fs_network_mtp_step(s->model->network, s->model->workspace, &s->cache, d->hidden + (at - d->hidden_first) * floats,
                               s->tokens + at + 1, n, n_last, d->mtp_logits, d->mtp_hidden, err);
}

/* Hidden states that the MTP layer has still to read are moved to the buffer's front, where n more fit behind them; others are forgotten. */
static void keep_unread(fs_session *s, size_t n)
{
    fs_draft *d = &s->draft;
    size_t floats = fs_model_hidden_floats(s->model);
    uint32_t from = s->cache.n_mtp_tokens, unread = s->n_tokens - from;

    if (!d->hidden || from >= s->n_tokens || !holds(d, from, s->n_tokens) || unread + n > FS_STEP_TOKENS)
        from = s->n_tokens;
    else if (from > d->hidden_first)
        memmove(d->hidden, d->hidden + (from - d->hidden_first) * floats, unread * floats * sizeof *d->hidden);
    d->hidden_first = from;
    d->n_hidden = s->n_tokens - from;
}

/* One step, its hidden states kept where a draft needs them. */
static fs_status run(fs_session *s, const int32_t *ids, size_t n, float *ret_logits, float *ret_last, fs_error *err)
{
    fs_draft *d = &s->draft;
    fs_status rc;

    keep_unread(s, n);
    rc = fs_session_eval(s, ids, n, 0, ret_logits, ret_last, d->hidden ? d->hidden + d->n_hidden * fs_model_hidden_floats(s->model) : NULL, err);
    if (!rc && d->hidden)
        d->n_hidden += (uint32_t)n;
    return rc;
}

fs_status fs_draft_prompt(fs_session *s, const int32_t *ids, size_t n, fs_error *err)
{
    fs_draft *d = &s->draft;
    size_t chunk = d->hidden ? FS_STEP_TOKENS : n;
    fs_error ignored; /* a draft that cannot be made is none */
    fs_status rc = FS_OK;

    for (size_t done = 0; done < n && !rc; done += chunk) {
        size_t m = n - done < chunk ? n - done : chunk;
        if (d->hidden && s->n_tokens)
            feed(s, ids[done], 0, &ignored);
        rc = run(s, ids + done, m, NULL, done + m == n ? s->logits : NULL, err);
    }
    d->first = s->n_tokens ? s->n_tokens - 1 : 0;
    d->n_rows = 1;
    d->row = 0;
    d->n_next = d->how == FS_SPECULATE_MTP ? 1 : d->n_max;
    d->n_drafted = d->n_accepted = 0;
    d->asked = false;
    d->n_misses = d->pause = d->n_paused = 0;
    return rc;
}

uint32_t fs_draft_position(const fs_session *s)
{
    return s->draft.first + s->draft.row + 1;
}

float *fs_draft_logits(const fs_session *s)
{
    return s->logits + (size_t)s->draft.row * (size_t)fs_model_vocab_size(s->model);
}

/* ---- drafts: at most n tokens that may follow the sequence t [n_tokens] ---- */

/* What followed the longest of its ends, of NGRAM_MIN to NGRAM_MAX tokens, where that stood before, the last time; a
 * repetition goes on. */
static uint32_t look_up(const int32_t *t, size_t n_tokens, uint32_t n, int32_t *ret)
{
    size_t best = 0, from = 0;

    for (size_t at = n_tokens; --at >= NGRAM_MIN && best < NGRAM_MAX;) {
        size_t same = 0;
        while (same < NGRAM_MAX && same < at && t[at - 1 - same] == t[n_tokens - 1 - same])
            same++;
        if (same > best) {
            best = same;
            from = at;
        }
    }
    if (best < NGRAM_MIN)
        return 0;
    for (uint32_t i = 0; i < n; i++)
        ret[i] = from + i < n_tokens ? t[from + i] : ret[from + i - n_tokens];
    return n;
}

/* With the random numbers of the draw that will judge it, so that a layer that knows the distribution meets the token. */
static int32_t pick(fs_session *s, const fs_sampling *o, uint32_t position, float *ret_logprob)
{
    return fs_sampler_draw(s->sampler, o, 0, position, s->draft.mtp_logits, s->tokens, position, ret_logprob);
}

/* As far as the layer believes in all of it. */
static uint32_t ask_mtp(fs_session *s, const fs_sampling *o, int32_t id, uint32_t n, int32_t *ret)
{
    fs_draft *d = &s->draft;
    uint32_t made = 0, rows;
    float logprob, sum = 0, least = fs_logf(d->likely);
    fs_error ignored;
    fs_status rc = feed(s, id, 1, &ignored);

    rows = s->cache.n_mtp_tokens;
    while (!rc) {
        ret[made] = pick(s, o, s->n_tokens + 1 + made, &logprob);
        sum += logprob;
        if (sum < least || ++made == n)
            break;
        s->tokens[s->n_tokens + made] = ret[made - 1];
        rc = fs_network_mtp_step(s->model->network, s->model->workspace, &s->cache, d->mtp_hidden, &ret[made - 1], 1, 1, d->mtp_logits,
                                 d->mtp_hidden, &ignored);
    }
    s->cache.n_mtp_tokens = rows; /* those further ahead read hidden states that are guesses */
    return made;
}

/* True where the layer has brought nothing for a while, as long as what it has to read later fits the buffer. */
static bool is_paused(fs_session *s)
{
    fs_draft *d = &s->draft;
    uint32_t unread = s->n_tokens - s->cache.n_mtp_tokens;

    if (d->n_paused == 0 || unread + 1 > FS_STEP_TOKENS)
        return false;
    d->n_paused--;
    return true;
}

/* Tokens behind id, which was drawn and goes to s->n_tokens, that are worth a row: not beyond the last one to be drawn or
 * the context. */
static uint32_t make_draft(fs_session *s, const fs_sampling *o, int32_t id, int n_left, int32_t *ret)
{
    fs_draft *d = &s->draft;
    uint32_t n = d->n_next, room = s->cache.ctx_limit - s->n_tokens;

    d->asked = false;
    if (n_left < 1 || room < 2)
        return 0;
    n = n < (uint32_t)n_left - 1 ? n : (uint32_t)n_left - 1;
    n = n < room - 1 ? n : room - 1;
    if (n == 0 || d->how == FS_SPECULATE_OFF)
        return 0;
    if (d->how == FS_SPECULATE_MTP) {
        d->asked = !is_paused(s);
        return d->asked ? ask_mtp(s, o, id, n, ret) : 0;
    }
    s->tokens[s->n_tokens] = id;
    return look_up(s->tokens, (size_t)s->n_tokens + 1, n, ret);
}

/* After a step of the MTP layer's draft: one more token where the whole of it held, no more than held where it did not, for a layer that is fed its
 * own guesses is surer than it should be. */
static void judge_mtp(fs_draft *d)
{
    uint32_t n_draft = d->n_rows - 1;

    if (!d->asked)
        return;
    if (n_draft && d->row == n_draft)
        d->n_next = n_draft < d->n_next || d->n_next == d->n_max ? d->n_next : d->n_next + 1;
    else if (n_draft)
        d->n_next = d->row ? d->row : 1;
    d->n_misses = d->row ? 0 : d->n_misses + 1;
    if (d->n_misses == 0)
        d->pause = 0;
    else if (d->n_misses >= MISSES_MAX)
        d->n_paused = d->pause = d->pause == 0 ? 1 : d->pause < PAUSE_MAX ? 2 * d->pause : PAUSE_MAX;
}

/* Longer drafts while they hold, shorter ones where they do not. */
static void adapt(fs_draft *d)
{
    uint32_t n_draft = d->n_rows - 1;

    if (d->how == FS_SPECULATE_MTP)
        judge_mtp(d);
    else if (n_draft && d->row == n_draft)
        d->n_next = d->n_next + 2 < d->n_max ? d->n_next + 2 : d->n_max;
    else if (n_draft && d->n_next > 1)
        d->n_next--;
}

fs_status fs_draft_next(fs_session *s, const fs_sampling *o, int32_t id, int n_left, fs_error *err)
{
    fs_draft *d = &s->draft;
    uint32_t n;
    fs_status rc;

    if (d->row + 1 < d->n_rows && d->ids[d->row + 1] == id) {
        d->row++;
        d->n_accepted++;
        return FS_OK;
    }
    adapt(d);
    fs_session_truncate(s, (int)fs_draft_position(s));
    d->ids[0] = id;
    n = make_draft(s, o, id, n_left, d->ids + 1);
    rc = run(s, d->ids, n + 1, s->logits, NULL, err);
    if (rc == FS_ERR_NUMERIC && n) { /* of a guess, perhaps: what plain decoding would not have met */
        n = 0;
        rc = run(s, d->ids, 1, s->logits, NULL, err);
    }
    if (rc)
        return rc;
    d->first = s->n_tokens - n - 1;
    d->n_rows = n + 1;
    d->row = 0;
    d->n_drafted += (int)n;
    return FS_OK;
}

void fs_draft_finish(fs_session *s)
{
    fs_session_truncate(s, (int)fs_draft_position(s));
}
