/* See the header. */
#include "data/records.h"

#include "text/json_text.h"

#include <string.h>

bool fs_lines_next(fs_lines *l, fs_bytes *ret_line)
{
    const uint8_t *begin, *end;
    size_t left = l->text.n_bytes - l->at, n;

    if (left == 0)
        return false;
    begin = l->text.data + l->at;
    end = memchr(begin, '\n', left);
    n = end ? (size_t)(end - begin) : left;
    l->at += n + (end != NULL);
    l->number++;
    if (end && n && begin[n - 1] == '\r')
        n--;
    *ret_line = (fs_bytes){ begin, n };
    return true;
}

static bool member(fs_bytes object, const char *name, fs_bytes *ret)
{
    return fs_json_text_member(object, name, ret) && !(ret->n_bytes == 4 && memcmp(ret->data, "null", 4) == 0);
}

static fs_status string_member(fs_bytes object, const char *name, const char *what, size_t line, fs_bytes *ret, fs_error *err)
{
    fs_bytes value = { 0 };

    if (!member(object, name, &value))
        return FS_OK;
    if (value.data[0] != '"')
        return fs_fail(err, FS_ERR_FORMAT, "%s line %zu: '%s' is not a string", what, line, name);
    *ret = value;
    return FS_OK;
}

static fs_status check_messages(fs_bytes messages, const char *what, size_t line, fs_error *err)
{
    fs_json_walk walk;
    fs_bytes key, message, value;
    size_t n = 0;

    if (messages.data[0] != '[' || !fs_json_walk_init(&walk, messages))
        return fs_fail(err, FS_ERR_FORMAT, "%s line %zu: 'messages' is not a list", what, line);
    for (; fs_json_walk_next(&walk, &key, &message); n++)
        if (!fs_json_text_member(message, "role", &value) || value.data[0] != '"')
            return fs_fail(err, FS_ERR_FORMAT, "%s line %zu: message %zu has no role", what, line, n + 1);
        else if (member(message, "content", &value) && value.data[0] != '"')
            return fs_fail(err, FS_ERR_FORMAT, "%s line %zu: the content of message %zu is not a string", what, line, n + 1);
    return n ? FS_OK : fs_fail(err, FS_ERR_FORMAT, "%s line %zu: there are no messages", what, line);
}

fs_status fs_data_record_parse(fs_bytes line, const char *what, size_t line_number, fs_data_record *ret, fs_error *err)
{
    fs_data_record r = { 0 };
    fs_status rc;

    if (!fs_json_text_valid(line, &r.json) || r.json.data[0] != '{')
        return fs_fail(err, FS_ERR_FORMAT, "%s line %zu is not a JSON object", what, line_number);
    if ((rc = string_member(r.json, "text", what, line_number, &r.text, err)) ||
        (rc = string_member(r.json, "prompt", what, line_number, &r.prompt, err)) ||
        (rc = string_member(r.json, "answer", what, line_number, &r.answer, err)) ||
        (rc = string_member(r.json, "trace", what, line_number, &r.trace, err)))
        return rc;
    if (member(r.json, "messages", &r.messages)) {
        r.kind = FS_DATA_MESSAGES;
        rc = check_messages(r.messages, what, line_number, err);
    } else if (r.prompt.n_bytes && r.answer.n_bytes) {
        r.kind = FS_DATA_PROBLEM;
    } else if (r.text.n_bytes) {
        r.kind = FS_DATA_TEXT;
    } else {
        rc = fs_fail(err, FS_ERR_FORMAT, "%s line %zu has neither 'text' nor 'messages' nor 'prompt' with 'answer'", what, line_number);
    }
    if (!rc)
        *ret = r;
    return rc;
}

/* A JSON string, behind a line end when something stands before it. */
static fs_status put(fs_bytes string, size_t begin, fs_buf *out, fs_error *err)
{
    fs_status rc = string.n_bytes && out->n_bytes > begin ? fs_buf_append_str(out, "\n", err) : FS_OK;

    return rc || !string.n_bytes ? rc : fs_json_text_unquote(string, out, err);
}

fs_status fs_data_record_words(const fs_data_record *r, fs_buf *out, fs_error *err)
{
    size_t begin = out->n_bytes;
    fs_bytes key, message, value;
    fs_json_walk walk;
    fs_status rc;

    if (r->kind == FS_DATA_TEXT)
        return put(r->text, begin, out, err);
    if (r->kind == FS_DATA_PROBLEM) {
        rc = put(r->prompt, begin, out, err);
        if (!rc)
            rc = put(r->trace, begin, out, err);
        return rc ? rc : put(r->answer, begin, out, err);
    }
    rc = FS_OK;
    fs_json_walk_init(&walk, r->messages);
    while (!rc && fs_json_walk_next(&walk, &key, &message)) {
        static const char *const names[] = { "reasoning_content", "content" };
        for (int i = 0; i < 2 && !rc; i++)
            if (member(message, names[i], &value) && value.data[0] == '"')
                rc = put(value, begin, out, err);
    }
    return rc;
}

fs_status fs_data_record_next(fs_lines *l, const char *what, fs_data_record *ret, bool *ret_more, fs_error *err)
{
    fs_bytes line;

    while (fs_lines_next(l, &line))
        if (fs_bytes_trim(line, " \t\r").n_bytes) {
            *ret_more = true;
            return fs_data_record_parse(line, what, l->number, ret, err);
        }
    *ret_more = false;
    return FS_OK;
}
