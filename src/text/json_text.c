/* See the header. A scanner that moves over one value at a time; everything else asks it. */
#include "text/json_text.h"

#include "base/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void skip_space(fs_bytes text, size_t *at)
{
    while (*at < text.n_bytes && memchr(" \t\r\n", text.data[*at], 4))
        (*at)++;
}

static bool hex4(fs_bytes text, size_t at, uint32_t *ret)
{
    uint32_t v = 0;

    if (text.n_bytes - at < 4)
        return false;
    for (size_t i = at; i < at + 4; i++) {
        uint8_t c = text.data[i], lower = c | 32;
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint32_t)(c - '0');
        else if (lower >= 'a' && lower <= 'f')
            v = v << 4 | (uint32_t)(lower - 'a' + 10);
        else
            return false;
    }
    *ret = v;
    return true;
}

/* The character at *at inside a string, escaped or not; false: it cannot stand there. */
static bool next_char(fs_bytes text, size_t *at, uint32_t *ret)
{
    static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char *e;
    uint32_t low;
    size_t n;

    if (*at >= text.n_bytes || text.data[*at] < 0x20)
        return false;
    if (text.data[*at] != '\\') {
        n = fs_utf8_next(text, *at, ret);
        *at += n;
        return *ret != FS_UTF8_BAD;
    }
    if (text.n_bytes - *at < 2)
        return false;
    if (text.data[*at + 1] != 'u') {
        e = text.data[*at + 1] ? strchr(escapes, text.data[*at + 1]) : NULL;
        if (!e)
            return false;
        *ret = (uint8_t)meant[e - escapes];
        *at += 2;
        return true;
    }
    if (!hex4(text, *at + 2, ret) || (*ret >= 0xdc00 && *ret <= 0xdfff))
        return false;
    *at += 6;
    if (*ret < 0xd800 || *ret > 0xdbff)
        return true;
    if (text.n_bytes - *at < 6 || text.data[*at] != '\\' || text.data[*at + 1] != 'u' || !hex4(text, *at + 2, &low) || low < 0xdc00 ||
        low > 0xdfff)
        return false;
    *ret = 0x10000 + ((*ret - 0xd800) << 10) + (low - 0xdc00);
    *at += 6;
    return true;
}

static bool skip_string(fs_bytes text, size_t *at)
{
    uint32_t c;

    if (*at >= text.n_bytes || text.data[*at] != '"')
        return false;
    for ((*at)++; *at < text.n_bytes && text.data[*at] != '"';)
        if (!next_char(text, at, &c))
            return false;
    if (*at >= text.n_bytes)
        return false;
    (*at)++;
    return true;
}

static bool skip_digits(fs_bytes text, size_t *at)
{
    size_t from = *at;

    while (*at < text.n_bytes && text.data[*at] >= '0' && text.data[*at] <= '9')
        (*at)++;
    return *at > from;
}

static bool skip_number(fs_bytes text, size_t *at)
{
    size_t first;

    if (text.data[*at] == '-')
        (*at)++;
    first = *at;
    if (!skip_digits(text, at) || (text.data[first] == '0' && *at - first > 1))
        return false;
    if (*at < text.n_bytes && text.data[*at] == '.') {
        (*at)++;
        if (!skip_digits(text, at))
            return false;
    }
    if (*at < text.n_bytes && (text.data[*at] | 32) == 'e') {
        (*at)++;
        if (*at < text.n_bytes && (text.data[*at] == '+' || text.data[*at] == '-'))
            (*at)++;
        if (!skip_digits(text, at))
            return false;
    }
    return true;
}

static bool skip_word(fs_bytes text, size_t *at, const char *word)
{
    size_t n = strlen(word);

    if (text.n_bytes - *at < n || memcmp(text.data + *at, word, n) != 0)
        return false;
    *at += n;
    return true;
}

static bool skip_value(fs_bytes text, size_t *at, int depth);

static bool skip_members(fs_bytes text, size_t *at, bool object, int depth)
{
    uint8_t close = object ? '}' : ']';

    (*at)++;
    skip_space(text, at);
    if (*at < text.n_bytes && text.data[*at] == close) {
        (*at)++;
        return true;
    }
    for (;;) {
        if (object) {
            skip_space(text, at);
            if (!skip_string(text, at))
                return false;
            skip_space(text, at);
            if (*at >= text.n_bytes || text.data[*at] != ':')
                return false;
            (*at)++;
        }
        if (!skip_value(text, at, depth + 1))
            return false;
        skip_space(text, at);
        if (*at >= text.n_bytes || (text.data[*at] != ',' && text.data[*at] != close))
            return false;
        if (text.data[(*at)++] == close)
            return true;
    }
}

static bool skip_value(fs_bytes text, size_t *at, int depth)
{
    skip_space(text, at);
    if (depth > FS_JSON_TEXT_DEPTH_MAX || *at >= text.n_bytes)
        return false;
    switch (text.data[*at]) {
    case '{':
    case '[':
        return skip_members(text, at, text.data[*at] == '{', depth);
    case '"':
        return skip_string(text, at);
    case 't':
        return skip_word(text, at, "true");
    case 'f':
        return skip_word(text, at, "false");
    case 'n':
        return skip_word(text, at, "null");
    default:
        return skip_number(text, at);
    }
}

bool fs_json_text_valid(fs_bytes text, fs_bytes *ret_value)
{
    size_t begin = 0, end;

    skip_space(text, &begin);
    end = begin;
    if (!skip_value(text, &end, 0))
        return false;
    if (ret_value)
        *ret_value = (fs_bytes){ text.data + begin, end - begin };
    skip_space(text, &end);
    return end == text.n_bytes;
}

bool fs_json_walk_init(fs_json_walk *w, fs_bytes text)
{
    *w = (fs_json_walk){ .text = text, .at = 1, .object = text.n_bytes && text.data[0] == '{' };
    return text.n_bytes && (text.data[0] == '{' || text.data[0] == '[');
}

bool fs_json_walk_next(fs_json_walk *w, fs_bytes *ret_key, fs_bytes *ret_value)
{
    size_t begin;

    *ret_key = (fs_bytes){ 0 };
    skip_space(w->text, &w->at);
    if (w->at < w->text.n_bytes && w->text.data[w->at] == ',') {
        w->at++;
        skip_space(w->text, &w->at);
    }
    begin = w->at;
    if (w->object) {
        if (!skip_string(w->text, &w->at))
            return false;
        *ret_key = (fs_bytes){ w->text.data + begin, w->at - begin };
        skip_space(w->text, &w->at);
        w->at++; /* the colon */
        skip_space(w->text, &w->at);
        begin = w->at;
    }
    if (!skip_value(w->text, &w->at, 0))
        return false;
    *ret_value = (fs_bytes){ w->text.data + begin, w->at - begin };
    return true;
}

bool fs_json_text_member(fs_bytes object, const char *name, fs_bytes *ret_value)
{
    size_t n = strlen(name);
    fs_json_walk w;
    fs_bytes key, value;

    if (!fs_json_walk_init(&w, object) || !w.object)
        return false;
    while (fs_json_walk_next(&w, &key, &value))
        if (key.n_bytes == n + 2 && memcmp(key.data + 1, name, n) == 0) {
            *ret_value = value;
            return true;
        }
    return false;
}

fs_status fs_json_text_unquote(fs_bytes string, fs_buf *out, fs_error *err)
{
    fs_bytes inner = { string.data + 1, string.n_bytes - 2 };
    uint8_t bytes[4];
    uint32_t c;
    fs_status rc;

    for (size_t at = 0; at < inner.n_bytes;) {
        if (!next_char(inner, &at, &c))
            return fs_fail(err, FS_ERR_FORMAT, "JSON string: byte %zu of %zu", at, inner.n_bytes);
        if ((rc = fs_buf_append(out, bytes, fs_utf8_put(c, bytes), err)))
            return rc;
    }
    return FS_OK;
}

static fs_status put_char(uint32_t c, fs_buf *out, fs_error *err)
{
    static const char specials[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *s = c && c < 0x80 ? strchr(specials, (int)c) : NULL;
    uint8_t bytes[4];

    if (s)
        return fs_buf_append(out, (char[]){ '\\', letters[s - specials] }, 2, err);
    if (c < 0x20)
        return fs_buf_printf(out, err, "\\u%04x", c);
    return fs_buf_append(out, bytes, fs_utf8_put(c, bytes), err);
}

fs_status fs_json_text_quote(fs_bytes text, fs_buf *out, fs_error *err)
{
    fs_status rc = fs_buf_append(out, "\"", 1, err);

    for (size_t at = 0; at < text.n_bytes && !rc;) {
        uint32_t c;
        at += fs_utf8_next(text, at, &c);
        rc = put_char(c == FS_UTF8_BAD ? 0xfffd : c, out, err);
    }
    return rc ? rc : fs_buf_append(out, "\"", 1, err);
}

static fs_status respell_string(fs_bytes string, fs_buf *out, fs_error *err)
{
    fs_status rc = fs_buf_append(out, "\"", 1, err);

    for (size_t at = 1; at + 1 < string.n_bytes && !rc;) {
        uint32_t c;
        if (!next_char(string, &at, &c))
            return fs_fail(err, FS_ERR_FORMAT, "JSON string: byte %zu of %zu", at, string.n_bytes);
        rc = put_char(c, out, err);
    }
    return rc ? rc : fs_buf_append(out, "\"", 1, err);
}

/* The shortest digits that give the same double, laid out as Python's repr does: plain between 1e-4 (Rust: 1e-5) and 1e16. */
static fs_status respell_double(double v, unsigned flags, fs_buf *out, fs_error *err)
{
    char e[40], digits[24];
    int n = 0, exponent, precision = 0;
    fs_status rc = FS_OK;

    do
        snprintf(e, sizeof e, "%.*e", precision, v);
    while (strtod(e, NULL) != v && ++precision < 17);
    for (const char *p = e; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9')
            digits[n++] = *p;
    exponent = atoi(strchr(e, 'e') + 1);
    while (n > 1 && digits[n - 1] == '0')
        n--;
    if (signbit(v))
        rc = fs_buf_append(out, "-", 1, err);
    if (!rc && (exponent < (flags & FS_JSON_TEXT_RUST ? -5 : -4) || exponent >= 16)) {
        rc = fs_buf_append(out, digits, 1, err);
        if (!rc && n > 1)
            rc = fs_buf_printf(out, err, ".%.*s", n - 1, digits + 1);
        return rc ? rc : fs_buf_printf(out, err, flags & FS_JSON_TEXT_RUST ? "e%c%d" : "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    }
    if (!rc && exponent < 0)
        return fs_buf_printf(out, err, "0.%.*s%.*s", -exponent - 1, "0000", n, digits);
    for (int i = 0; i < n || i <= exponent + 1; i++) {
        if (!rc && i == exponent + 1)
            rc = fs_buf_append(out, ".", 1, err);
        if (!rc)
            rc = fs_buf_append(out, i < n ? &digits[i] : "0", 1, err);
    }
    return rc;
}

static fs_status respell_number(fs_bytes number, unsigned flags, fs_buf *out, fs_error *err)
{
    char short_text[64], *text = short_text;
    bool integer = true;
    fs_status rc;

    for (size_t i = 0; i < number.n_bytes; i++)
        integer = integer && number.data[i] != '.' && (number.data[i] | 32) != 'e';
    if (number.n_bytes >= sizeof short_text && !(text = malloc(number.n_bytes + 1)))
        return fs_fail_memory(err, number.n_bytes + 1);
    memcpy(text, number.data, number.n_bytes);
    text[number.n_bytes] = 0;
    errno = 0;
    if (integer) {
        if (text[0] == '-')
            strtoll(text, NULL, 10);
        else
            strtoull(text, NULL, 10);
    }
    if (integer && errno != ERANGE) {
        rc = fs_buf_append(out, number.data, number.n_bytes, err);
    } else {
        double v = strtod(text, NULL);
        /* Beyond a double: as it was written. */
        rc = isfinite(v) ? respell_double(v, flags, out, err) : fs_buf_append(out, number.data, number.n_bytes, err);
    }
    if (text != short_text)
        free(text);
    return rc;
}

fs_status fs_json_text_respell(fs_bytes value, unsigned flags, fs_buf *out, fs_error *err)
{
    fs_json_walk w;
    fs_bytes key, member;
    bool first = true;
    fs_status rc;

    if (value.data[0] == '"')
        return respell_string(value, out, err);
    if (value.data[0] == '-' || (value.data[0] >= '0' && value.data[0] <= '9'))
        return respell_number(value, flags, out, err);
    if (!fs_json_walk_init(&w, value))
        return fs_buf_append(out, value.data, value.n_bytes, err);
    if ((rc = fs_buf_append(out, w.object ? "{" : "[", 1, err)))
        return rc;
    for (; fs_json_walk_next(&w, &key, &member); first = false)
        if ((!first && (rc = fs_buf_append(out, ", ", 2, err))) ||
            (w.object && ((rc = respell_string(key, out, err)) || (rc = fs_buf_append(out, ": ", 2, err)))) ||
            (rc = fs_json_text_respell(member, flags, out, err)))
            return rc;
    return fs_buf_append(out, w.object ? "}" : "]", 1, err);
}
