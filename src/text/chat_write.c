/* See the header. */
#include "text/chat_write.h"

#include "base/utf8.h"
#include "text/json_text.h"

#include <string.h>

/* ---- the writer ---- */

void fs_put_text(fs_chat_writer *w, fs_bytes text)
{
    if (!w->rc && w->prompt)
        w->rc = fs_buf_append(w->prompt, text.data, text.n_bytes, w->err);
    if (!w->rc && w->ids)
        w->rc = fs_buf_append(&w->text, text.data, text.n_bytes, w->err);
}

void fs_put(fs_chat_writer *w, const char *text)
{
    fs_put_text(w, fs_bytes_str(text));
}

void fs_put_flush(fs_chat_writer *w)
{
    if (!w->rc && w->ids && w->text.n_bytes)
        w->rc = fs_tokenizer_encode(w->t, fs_buf_bytes(&w->text), FS_ENCODE_PLAIN, w->ids, w->err);
    fs_buf_clear(&w->text);
}

static void put_id(fs_chat_writer *w, fs_bytes marker, int32_t id)
{
    if (!w->rc && w->prompt)
        w->rc = fs_buf_append(w->prompt, marker.data, marker.n_bytes, w->err);
    if (!w->rc && w->ids) {
        fs_put_flush(w);
        if (!w->rc)
            w->rc = fs_ids_push(w->ids, id, w->err);
    }
}

void fs_put_marker(fs_chat_writer *w, const char *marker)
{
    int32_t id = w->ids ? fs_tokenizer_id(w->t, fs_bytes_str(marker)) : -1;

    if (!w->rc && w->ids && id < 0)
        w->rc = fs_fail(w->err, FS_ERR_UNSUPPORTED, "chat format '%s' needs the token '%s', which the tokenizer has not",
                        fs_chat_format_name(w->format), marker);
    put_id(w, fs_bytes_str(marker), id);
}

void fs_put_markup(fs_chat_writer *w, const char *text)
{
    static const char *const markers[] = { FS_MARK_THINK, FS_MARK_THINK_END, FS_MARK_DSML, "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
                                           "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>",
                                           "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>", "<｜tool▁sep｜>", "<tool_call>", "</tool_call>",
                                           "<tool_response>", "</tool_response>" };
    const char *from = text;

    while (*text) {
        int32_t id = -1;
        size_t n = 0;
        for (size_t i = 0; i < sizeof markers / sizeof *markers && id < 0; i++) {
            n = strlen(markers[i]);
            if (w->ids && strncmp(text, markers[i], n) == 0)
                id = fs_tokenizer_id(w->t, fs_bytes_str(markers[i]));
        }
        if (id < 0) {
            text++;
            continue;
        }
        fs_put_text(w, (fs_bytes){ (const uint8_t *)from, (size_t)(text - from) });
        put_id(w, (fs_bytes){ (const uint8_t *)text, n }, id);
        from = text += n;
    }
    fs_put(w, from);
}

static void put_made(fs_chat_writer *w, fs_status rc, fs_buf *text)
{
    if (!w->rc)
        w->rc = rc;
    if (!w->rc)
        fs_put_text(w, fs_buf_bytes(text));
    fs_buf_done(text);
}

void fs_put_json(fs_chat_writer *w, fs_bytes value, unsigned flags)
{
    fs_buf text = { 0 };

    if (!w->rc)
        put_made(w, fs_json_text_respell(value, flags, &text, w->err), &text);
}

void fs_put_unquoted(fs_chat_writer *w, fs_bytes string)
{
    fs_buf text = { 0 };

    if (!w->rc)
        put_made(w, fs_json_text_unquote(string, &text, w->err), &text);
}

void fs_put_quoted(fs_chat_writer *w, fs_bytes string)
{
    fs_buf text = { 0 };

    if (!w->rc)
        put_made(w, fs_json_text_quote(string, &text, w->err), &text);
}

bool fs_next_tool(const fs_chat_options *o, fs_json_walk *walk, fs_bytes *ret_tool, fs_bytes *ret_function)
{
    fs_bytes key;

    if (!o->tools.n_bytes || (!walk->text.n_bytes && !fs_json_walk_init(walk, o->tools)) || !fs_json_walk_next(walk, &key, ret_tool))
        return false;
    if (!fs_json_text_member(*ret_tool, "function", ret_function))
        *ret_function = *ret_tool;
    return true;
}

/* ---- pieces of text ---- */

fs_bytes fs_strip_newlines(fs_bytes s, bool left, bool right)
{
    while (left && s.n_bytes && s.data[0] == '\n') {
        s.data++;
        s.n_bytes--;
    }
    while (right && s.n_bytes && s.data[s.n_bytes - 1] == '\n')
        s.n_bytes--;
    return s;
}

/* What Jinja's trim (Python's str.strip) takes for white space. */
static bool is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

fs_bytes fs_trim(fs_bytes s)
{
    uint32_t code;

    while (s.n_bytes) {
        size_t n = fs_utf8_next(s, 0, &code);
        if (!is_space(code))
            break;
        s.data += n;
        s.n_bytes -= n;
    }
    while (s.n_bytes) {
        size_t i = s.n_bytes - 1;
        while (i > 0 && s.n_bytes - i < 4 && (s.data[i] & 0xc0) == 0x80)
            i--;
        if (fs_utf8_next(s, i, &code) != s.n_bytes - i || !is_space(code))
            break;
        s.n_bytes = i;
    }
    return s;
}

bool fs_find_last(fs_bytes s, const char *part, size_t *ret)
{
    size_t n = strlen(part);

    for (size_t i = s.n_bytes; i >= n; i--)
        if (memcmp(s.data + i - n, part, n) == 0) {
            *ret = i - n;
            return true;
        }
    return false;
}

bool fs_find_first(fs_bytes s, const char *part, size_t *ret)
{
    const uint8_t *p = s.n_bytes ? memmem(s.data, s.n_bytes, part, strlen(part)) : NULL;

    if (p)
        *ret = (size_t)(p - s.data);
    return p != NULL;
}

fs_bytes fs_bytes_from(fs_bytes s, size_t i)
{
    return (fs_bytes){ s.data ? s.data + i : NULL, s.n_bytes - i };
}
