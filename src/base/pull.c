/* See the header. Source: RFC 8259. */
#include "base/pull.h"

#include "base/utf8.h"

#include <string.h>

#define DEPTH_MAX 64

void fs_pull_done(fs_pull *p)
{
    fs_buf_done(&p->scratch);
}

static fs_status bad(const fs_pull *p, const char *expected, fs_error *err)
{
    return fs_fail(err, FS_ERR_FORMAT, "%s: not JSON at byte %zu of %zu: %s expected", p->what, p->at, p->text.n_bytes, expected);
}

uint8_t fs_pull_peek(fs_pull *p)
{
    while (p->at < p->text.n_bytes) {
        uint8_t c = p->text.data[p->at];
        if (c != ' ' && c != '\n' && c != '\t' && c != '\r')
            return c;
        p->at++;
    }
    return 0;
}

fs_status fs_pull_expect(fs_pull *p, char c, fs_error *err)
{
    char name[4] = { '\'', c, '\'', 0 };

    if (fs_pull_peek(p) != (uint8_t)c)
        return bad(p, name, err);
    p->at++;
    return FS_OK;
}

fs_status fs_pull_more(fs_pull *p, char close, size_t *n, bool *ret_more, fs_error *err)
{
    fs_status rc;

    if (fs_pull_peek(p) == (uint8_t)close) {
        p->at++;
        *ret_more = false;
        return FS_OK;
    }
    if (*n && (rc = fs_pull_expect(p, ',', err)))
        return rc;
    (*n)++;
    *ret_more = true;
    return FS_OK;
}

static bool hex4(const fs_pull *p, size_t at, uint32_t *ret)
{
    uint32_t code = 0;

    if (p->text.n_bytes - at < 4)
        return false;
    for (size_t i = at; i < at + 4; i++) {
        uint8_t c = p->text.data[i];
        if (c >= '0' && c <= '9')
            code = code << 4 | (uint32_t)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            code = code << 4 | (uint32_t)((c | 32) - 'a' + 10);
        else
            return false;
    }
    *ret = code;
    return true;
}

/* The escape at p->at (after the backslash) into scratch. */
static fs_status unescape(fs_pull *p, fs_error *err)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint8_t c = p->at < p->text.n_bytes ? p->text.data[p->at] : 0, bytes[4];
    const char *k = c ? strchr(from, c) : NULL;
    uint32_t code, low;

    if (k) {
        p->at++;
        return fs_buf_append(&p->scratch, &to[k - from], 1, err);
    }
    if (c != 'u' || !hex4(p, p->at + 1, &code))
        return bad(p, "an escape", err);
    p->at += 5;
    if (code >= 0xd800 && code < 0xdc00 && p->text.n_bytes - p->at >= 6 && p->text.data[p->at] == '\\' &&
        p->text.data[p->at + 1] == 'u' && hex4(p, p->at + 2, &low) && low >= 0xdc00 && low < 0xe000) {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        p->at += 6;
    } else if (code >= 0xd800 && code < 0xe000) {
        code = 0xfffd;
    }
    return fs_buf_append(&p->scratch, bytes, fs_utf8_put(code, bytes), err);
}

fs_status fs_pull_string(fs_pull *p, fs_bytes *ret, fs_error *err)
{
    fs_status rc = fs_pull_expect(p, '"', err);
    size_t begin = p->at;
    bool escaped = false;

    if (rc)
        return rc;
    for (;;) {
        uint8_t c;
        if (p->at >= p->text.n_bytes)
            return bad(p, "the end of a string", err);
        c = p->text.data[p->at];
        if (c == '"')
            break;
        if (c < 0x20)
            return bad(p, "an escaped control character", err);
        if (c != '\\') {
            p->at++;
            continue;
        }
        if (!escaped)
            fs_buf_clear(&p->scratch);
        escaped = true;
        rc = fs_buf_append(&p->scratch, p->text.data + begin, p->at - begin, err);
        p->at++;
        if (rc || (rc = unescape(p, err)))
            return rc;
        begin = p->at;
    }
    *ret = (fs_bytes){ p->text.data + begin, p->at - begin };
    if (escaped) {
        rc = fs_buf_append(&p->scratch, p->text.data + begin, p->at - begin, err);
        if (rc)
            return rc;
        *ret = fs_buf_bytes(&p->scratch);
    }
    p->at++;
    return FS_OK;
}

fs_status fs_pull_key(fs_pull *p, fs_bytes *ret, fs_error *err)
{
    fs_status rc = fs_pull_string(p, ret, err);

    return rc ? rc : fs_pull_expect(p, ':', err);
}

fs_status fs_pull_int(fs_pull *p, int64_t *ret, fs_error *err)
{
    int64_t v = 0;
    size_t begin;

    fs_pull_peek(p);
    for (begin = p->at; p->at < p->text.n_bytes && p->text.data[p->at] >= '0' && p->text.data[p->at] <= '9'; p->at++) {
        if (p->at - begin == 18)
            return bad(p, "a smaller number", err);
        v = v * 10 + (p->text.data[p->at] - '0');
    }
    if (p->at == begin || (p->text.data[begin] == '0' && p->at - begin > 1))
        return bad(p, "a count", err);
    *ret = v;
    return FS_OK;
}

/* Steps over a string without decoding it. */
static fs_status skip_string(fs_pull *p, fs_error *err)
{
    for (p->at++; p->at < p->text.n_bytes; p->at++) {
        if (p->text.data[p->at] == '"') {
            p->at++;
            return FS_OK;
        }
        if (p->text.data[p->at] == '\\')
            p->at++;
    }
    p->at = p->text.n_bytes;
    return bad(p, "the end of a string", err);
}

fs_status fs_pull_skip(fs_pull *p, fs_bytes *ret, fs_error *err)
{
    char close[DEPTH_MAX];
    size_t depth = 0, begin;

    fs_pull_peek(p);
    begin = p->at;
    do {
        uint8_t c = fs_pull_peek(p);
        if (c == 0)
            return bad(p, "a value", err);
        if (c == '"') {
            fs_status rc = skip_string(p, err);
            if (rc)
                return rc;
        } else if (c == '{' || c == '[') {
            if (depth == DEPTH_MAX)
                return bad(p, "less nesting", err);
            close[depth++] = c == '{' ? '}' : ']';
            p->at++;
        } else if (c == '}' || c == ']') {
            if (depth == 0 || close[depth - 1] != (char)c)
                return bad(p, depth ? "another bracket" : "a value", err);
            depth--;
            p->at++;
        } else if (c == ',' || c == ':') {
            if (depth == 0)
                return bad(p, "a value", err);
            p->at++;
        } else {
            /* A number or a word, to the next byte that can follow one. */
            while (p->at < p->text.n_bytes && !memchr(",:]}\" \t\r\n[{", p->text.data[p->at], 11))
                p->at++;
        }
    } while (depth > 0);
    *ret = (fs_bytes){ p->text.data + begin, p->at - begin };
    return FS_OK;
}
