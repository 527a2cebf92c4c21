/* See the header. Only as much of JSON is followed here as tells where the string value.content begins and ends; json-c decides whether the
 * rest is JSON. */
#include "hub/ndjson.h"

#include <string.h>

#define DEPTH_MAX 16

static const signed char digits[256] = {
    ['A'] = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, /* value + 1 */
    ['a'] = 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52,
    ['0'] = 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, ['+'] = 63, ['/'] = 64,
};

void fs_ndjson_init(fs_ndjson *n, size_t content_bytes_max, size_t n_lines_max, fs_ndjson_fn *fn, void *ud)
{
    *n = (fs_ndjson){ .fn = fn, .ud = ud, .content_bytes_max = content_bytes_max, .n_lines_max = n_lines_max };
}

void fs_ndjson_done(fs_ndjson *n)
{
    fs_buf_done(&n->text);
    fs_buf_done(&n->content);
}

static fs_status at_line(const fs_ndjson *n, fs_error *err, const char *what)
{
    return fs_fail(err, FS_ERR_FORMAT, "line %zu of the commit %s", n->n_lines + 1, what);
}

static fs_status finish_line(fs_ndjson *n, fs_error *err)
{
    struct json_object *o = NULL, *value;
    fs_bytes key = { 0 }, left = { 0 };
    char key_text[32];
    fs_status rc;

    if (n->depth != 0 || n->in_string)
        return at_line(n, err, "is cut short");
    rc = fs_json_parse(fs_buf_bytes(&n->text), "a line of the commit", &o, err);
    if (!rc && !json_object_is_type(o, json_type_object))
        rc = at_line(n, err, "is no object");
    value = rc ? NULL : fs_json_member(o, "value");
    if (!rc && (!value || !json_object_is_type(value, json_type_object)))
        rc = at_line(n, err, "has no value");
    if (!rc)
        rc = fs_json_string(o, "key", &key, NULL, err);
    if (!rc && (key.n_bytes == 0 || key.n_bytes >= sizeof key_text))
        rc = at_line(n, err, "has no key");
    if (!rc && fs_json_string(value, "content", &left, NULL, NULL) == FS_OK && left.n_bytes > 0)
        rc = at_line(n, err, "has content where none is looked for");
    if (!rc) {
        memcpy(key_text, key.data, key.n_bytes);
        key_text[key.n_bytes] = 0;
        rc = n->fn(n->ud, key_text, value, n->has_content ? (fs_bytes){ (const uint8_t *)(n->content.data ? n->content.data : ""), n->content.n_bytes } : (fs_bytes){ 0 },
                   err);
    }
    json_object_put(o);
    n->n_lines++;
    n->has_content = n->want_key = n->in_key = false;
    n->outer[0] = n->key[0] = 0;
    fs_buf_clear(&n->text);
    fs_buf_clear(&n->content);
    return rc;
}

/* Base64 up to the string's end; how much of data it is. */
static fs_status decode(fs_ndjson *n, const uint8_t *data, size_t n_bytes, size_t *ret_used, fs_error *err)
{
    size_t i = 0;
    uint8_t *out;
    fs_status rc = fs_buf_reserve(&n->content, n_bytes / 4 * 3 + 4, err);

    if (rc)
        return rc;
    out = (uint8_t *)n->content.data + n->content.n_bytes;
    for (; i < n_bytes && (data[i] != '"' || n->escaped); i++) {
        int d = digits[data[i]] - 1;
        if (n->escaped && data[i] != '/') /* the one escape that base64 has a use for */
            return at_line(n, err, "has content that is no base64");
        n->escaped = false;
        if (d >= 0 && n->n_padding == 0) {
            n->bits = n->bits << 6 | (uint32_t)d;
            if (++n->n_bits == 4) {
                *out++ = (uint8_t)(n->bits >> 16);
                *out++ = (uint8_t)(n->bits >> 8);
                *out++ = (uint8_t)n->bits;
                n->n_bits = 0;
                n->bits = 0;
            }
        } else if (data[i] == '=' && n->n_bits + n->n_padding < 4 && n->n_bits >= 2) {
            n->n_padding++;
        } else if (data[i] == '\\') {
            n->escaped = true;
        } else {
            return at_line(n, err, "has content that is no base64");
        }
    }
    n->content.n_bytes = (size_t)((char *)out - n->content.data);
    n->content.data[n->content.n_bytes] = 0;
    *ret_used = i;
    return n->content.n_bytes > n->content_bytes_max ? at_line(n, err, "has a file that is too large for git itself: upload it as a large file") : FS_OK;
}

/* The string is over: the digits that are left. */
static fs_status decode_end(fs_ndjson *n, fs_error *err)
{
    uint8_t last[2] = { (uint8_t)(n->n_bits == 3 ? n->bits >> 10 : n->bits >> 4), (uint8_t)(n->bits >> 2) };
    int n_bits = n->n_bits;

    if (n_bits == 1 || (n->n_padding && n_bits + n->n_padding != 4))
        return at_line(n, err, "has content that is no base64");
    n->n_bits = n->n_padding = 0;
    n->bits = 0;
    n->in_content = n->in_string = false;
    return n_bits ? fs_buf_append(&n->content, last, (size_t)n_bits - 1, err) : FS_OK;
}

static bool in_object(const fs_ndjson *n)
{
    return n->depth > 0 && (n->objects >> (n->depth - 1) & 1);
}

/* What a character outside of strings, or the beginning of one, changes. */
static fs_status structure(fs_ndjson *n, char ch, fs_error *err)
{
    switch (ch) {
    case '{':
    case '[':
        if (n->depth == DEPTH_MAX)
            return at_line(n, err, "is nested too deeply");
        n->objects &= ~((uint64_t)1 << n->depth);
        n->objects |= (uint64_t)(ch == '{') << n->depth;
        n->depth++;
        n->want_key = ch == '{';
        break;
    case '}':
    case ']':
        if (n->depth == 0)
            return at_line(n, err, "is no JSON");
        n->depth--;
        n->want_key = false;
        break;
    case ',':
        n->want_key = in_object(n);
        break;
    case '"':
        n->in_string = true;
        n->in_key = n->want_key;
        n->want_key = false;
        n->n_key = 0;
        n->in_content = !n->in_key && n->depth == 2 && in_object(n) && strcmp(n->outer, "value") == 0 && strcmp(n->key, "content") == 0;
        if (n->in_content && n->has_content)
            return at_line(n, err, "has content twice");
        n->has_content = n->has_content || n->in_content;
        break;
    default:
        break;
    }
    return FS_OK;
}

static void string_char(fs_ndjson *n, char ch)
{
    if (n->escaped) {
        n->escaped = false;
    } else if (ch == '\\') {
        n->escaped = true;
    } else if (ch == '"') {
        n->in_string = false;
        if (n->in_key) {
            n->key[n->n_key < sizeof n->key ? n->n_key : 0] = 0;
            if (n->depth == 1)
                memcpy(n->outer, n->key, sizeof n->outer);
        }
        n->in_key = false;
        return;
    }
    if (n->in_key && n->n_key < sizeof n->key)
        n->key[n->n_key++] = ch;
}

fs_status fs_ndjson_feed(fs_ndjson *n, const void *data, size_t n_bytes, fs_error *err)
{
    const uint8_t *p = data;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < n_bytes && !rc;) {
        char ch = (char)p[i];
        if (n->in_content) {
            size_t used = 0;
            rc = decode(n, p + i, n_bytes - i, &used, err);
            i += used;
            if (!rc && i < n_bytes) { /* the closing quote */
                rc = decode_end(n, err);
                if (!rc)
                    rc = fs_buf_append(&n->text, "\"", 1, err);
                i++;
            }
            continue;
        }
        if (ch == '\n' && !n->in_string) {
            if (n->text.n_bytes > 0)
                rc = n->n_lines < n->n_lines_max ? finish_line(n, err) : at_line(n, err, "is one too many");
            i++;
            continue;
        }
        if (ch == '\n')
            rc = at_line(n, err, "is cut within a string");
        if (n->in_string)
            string_char(n, ch);
        else if (!rc)
            rc = structure(n, ch, err);
        if (!rc && n->text.n_bytes == FS_NDJSON_LINE_BYTES_MAX)
            rc = at_line(n, err, "is too long");
        if (!rc)
            rc = fs_buf_append(&n->text, &ch, 1, err);
        i++;
    }
    return rc;
}

fs_status fs_ndjson_end(fs_ndjson *n, fs_error *err)
{
    return n->text.n_bytes > 0 || n->in_content ? n->n_lines < n->n_lines_max ? finish_line(n, err) : at_line(n, err, "is one too many") : FS_OK;
}
