/* See the header. Pieces go depth first through the steps, so nothing is stored. */
#include "text/split.h"

#include "base/utf8.h"


void fs_split_done(fs_split *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n_steps; i++)
        fs_regex_free(s->steps[i].regex);
    *s = (fs_split){ 0 };
}

fs_status fs_split_add(fs_split *s, fs_bytes pattern, bool literal, fs_split_behavior behavior, bool invert, fs_error *err)
{
    fs_split_step step = { NULL, behavior, invert };
    fs_status rc;

    if (s->n_steps == FS_SPLIT_STEPS_MAX)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "more than %d split steps", FS_SPLIT_STEPS_MAX);
    if (pattern.n_bytes) {
        rc = fs_regex_compile(pattern, literal, &step.regex, err);
        if (rc)
            return rc;
    }
    s->steps[s->n_steps++] = step;
    return FS_OK;
}

typedef struct run {
    const fs_split *split;
    fs_regex_scratch *scratch;
    fs_split_fn *fn;
    void *ud;
    fs_error *err;
    fs_buf *prefixed; /* of the one piece that is past the prefix step */
} run;

static fs_status split_from(const run *r, size_t k, fs_bytes text);

/* Segments [begin, end) arrive in order, match or gap; `open` is the piece that a later one may still join. */
typedef struct segments {
    fs_bytes text;
    size_t k;
    bool is_open, open_match;
    size_t open_begin, open_end;
} segments;

static fs_status emit(const run *r, const segments *g, size_t begin, size_t end)
{
    if (begin == end)
        return FS_OK;
    return split_from(r, g->k + 1, (fs_bytes){ g->text.data + begin, end - begin });
}

static fs_status close_open(const run *r, segments *g)
{
    if (!g->is_open)
        return FS_OK;
    g->is_open = false;
    return emit(r, g, g->open_begin, g->open_end);
}

static fs_status segment(const run *r, segments *g, size_t begin, size_t end, bool match)
{
    const fs_split_step *step = &r->split->steps[g->k];
    bool joins = false;
    fs_status rc;

    match ^= step->invert;
    switch (step->behavior) {
    case FS_SPLIT_ISOLATED:
        return emit(r, g, begin, end);
    case FS_SPLIT_REMOVED:
        return match ? FS_OK : emit(r, g, begin, end);
    case FS_SPLIT_MERGED_WITH_PREVIOUS:
        joins = g->is_open && match && !g->open_match;
        break;
    case FS_SPLIT_MERGED_WITH_NEXT:
        joins = g->is_open && !match && g->open_match;
        break;
    default:
        joins = g->is_open && match == g->open_match;
        break;
    }
    if (joins) {
        g->open_end = end;
        /* A gap with its delimiter is complete: neither a match nor a gap joins it further. */
        if (step->behavior != FS_SPLIT_CONTIGUOUS)
            return close_open(r, g);
        return FS_OK;
    }
    rc = close_open(r, g);
    g->is_open = true;
    g->open_match = match;
    g->open_begin = begin;
    g->open_end = end;
    return rc;
}

/* Matches are taken as rust-onig's find_iter does: an empty match right after a match does not count. */
static fs_status split_from(const run *r, size_t k, fs_bytes text)
{
    segments g = { .text = text, .k = k };
    size_t previous = 0, from = 0, last_match_end = 0;
    bool any = false;
    const fs_split_step *step;
    fs_status rc = FS_OK;

    if (r->split->prefix_space && k == r->split->prefix_step && text.data[0] != ' ') {
        fs_buf_clear(r->prefixed);
        if ((rc = fs_buf_append(r->prefixed, " ", 1, r->err)) || (rc = fs_buf_append(r->prefixed, text.data, text.n_bytes, r->err)))
            return rc;
        g.text = text = fs_buf_bytes(r->prefixed);
    }
    if (k == r->split->n_steps)
        return r->fn(r->ud, text, r->err);
    step = &r->split->steps[k];
    while (step->regex && from <= text.n_bytes) {
        bool found;
        size_t begin = 0, end = 0;
        rc = fs_regex_find(step->regex, text, from, r->scratch, &found, &begin, &end, r->err);
        if (rc)
            return rc;
        if (!found)
            break;
        if (begin == end && any && last_match_end == end) {
            uint32_t code;
            from += from < text.n_bytes ? fs_utf8_next(text, from, &code) : 1;
            continue;
        }
        from = last_match_end = end;
        any = true;
        if (begin > previous && (rc = segment(r, &g, previous, begin, false)))
            return rc;
        rc = segment(r, &g, begin, end, true);
        if (rc)
            return rc;
        previous = end;
    }
    if (previous < text.n_bytes && (rc = segment(r, &g, previous, text.n_bytes, false)))
        return rc;
    return close_open(r, &g);
}

fs_status fs_split_run(const fs_split *s, fs_bytes text, fs_regex_scratch *scratch, fs_split_fn *fn, void *ud, fs_error *err)
{
    fs_buf prefixed = { 0 };
    run r = { s, scratch, fn, ud, err, &prefixed };
    fs_status rc;

    fs_regex_allow(scratch, text.n_bytes);
    rc = text.n_bytes ? split_from(&r, 0, text) : FS_OK;

    fs_buf_done(&prefixed);
    return rc;
}
