/* See the header. */
#include "cli/answer.h"

#include <string.h>

void fs_answer_init(fs_answer *a, fs_bytes open, fs_bytes close, bool open_in_prompt)
{
    bool has = open.n_bytes && close.n_bytes;

    *a = (fs_answer){ .open = open, .close = close };
    a->part = has && open_in_prompt ? FS_ANSWER_REASONING : FS_ANSWER_CONTENT;
    a->begun = !has;
    a->skip_newlines = a->part == FS_ANSWER_REASONING;
}

void fs_answer_done(fs_answer *a)
{
    if (!a)
        return;
    fs_buf_done(&a->pending);
    fs_buf_done(&a->reasoning);
    fs_buf_done(&a->content);
    *a = (fs_answer){ 0 };
}

/* Hands on the first n_bytes of pending and drops n_drop more. */
static fs_status emit(fs_answer *a, size_t n_bytes, size_t n_drop, fs_answer_fn *fn, void *ud, fs_error *err)
{
    const char *text = a->pending.data;
    fs_status rc = FS_OK;
    size_t from = 0;

    if (a->skip_newlines)
        while (from < n_bytes && text[from] == '\n')
            from++;
    if (from < n_bytes) {
        a->skip_newlines = false;
        rc = fs_buf_append(a->part == FS_ANSWER_REASONING ? &a->reasoning : &a->content, text + from, n_bytes - from, err);
        if (!rc && !fn(ud, a->part, text + from, n_bytes - from))
            rc = fs_fail(err, FS_ERR_INTERRUPTED, "stopped");
    }
    memmove(a->pending.data, text + n_bytes + n_drop, a->pending.n_bytes - n_bytes - n_drop);
    a->pending.n_bytes -= n_bytes + n_drop;
    a->pending.data[a->pending.n_bytes] = 0;
    return rc;
}

static void enter(fs_answer *a, fs_answer_part part)
{
    a->part = part;
    a->begun = true;
    a->skip_newlines = true;
}

/* How many bytes at the end of text may be the beginning of marker. */
static size_t held_back(fs_bytes text, fs_bytes marker)
{
    size_t n = marker.n_bytes - 1 < text.n_bytes ? marker.n_bytes - 1 : text.n_bytes;

    while (n && memcmp(text.data + text.n_bytes - n, marker.data, n) != 0)
        n--;
    return n;
}

/* Only blanks may stand before the opening marker. */
static bool may_open(fs_bytes text, fs_bytes marker, size_t *ret_at, bool *ret_whole)
{
    size_t at = 0, left;

    while (at < text.n_bytes && strchr(" \t\r\n", text.data[at]) && text.data[at])
        at++;
    left = text.n_bytes - at;
    *ret_at = at;
    *ret_whole = left >= marker.n_bytes;
    return memcmp(text.data + at, marker.data, *ret_whole ? marker.n_bytes : left) == 0;
}

fs_status fs_answer_push(fs_answer *a, const char *text, size_t n_bytes, fs_answer_fn *fn, void *ud, fs_error *err)
{
    fs_status rc = fs_buf_append(&a->pending, text, n_bytes, err);

    while (!rc && a->pending.n_bytes) {
        fs_bytes p = fs_buf_bytes(&a->pending);
        const uint8_t *found;
        size_t at;
        bool whole;

        if (a->part == FS_ANSWER_REASONING) {
            found = memmem(p.data, p.n_bytes, a->close.data, a->close.n_bytes);
            if (!found)
                return emit(a, p.n_bytes - held_back(p, a->close), 0, fn, ud, err);
            rc = emit(a, (size_t)(found - p.data), a->close.n_bytes, fn, ud, err);
            enter(a, FS_ANSWER_CONTENT);
        } else if (a->begun) {
            return emit(a, p.n_bytes, 0, fn, ud, err);
        } else if (!may_open(p, a->open, &at, &whole)) {
            a->begun = true;
        } else if (whole) {
            rc = emit(a, 0, at + a->open.n_bytes, fn, ud, err);
            enter(a, FS_ANSWER_REASONING);
        } else {
            return FS_OK;
        }
    }
    return rc;
}

fs_status fs_answer_finish(fs_answer *a, fs_answer_fn *fn, void *ud, fs_error *err)
{
    if (!a->pending.n_bytes)
        return FS_OK;
    return emit(a, a->pending.n_bytes, 0, fn, ud, err);
}
