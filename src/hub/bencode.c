/* See the header. */
#include "hub/bencode.h"

#include <string.h>

/* ---- writing ---- */

static void put(fs_bencode *b, const void *data, size_t n_bytes)
{
    if (!b->rc)
        b->rc = fs_buf_append(&b->out, data, n_bytes, NULL);
}

void fs_bencode_open(fs_bencode *b, char kind)
{
    put(b, &kind, 1);
}

void fs_bencode_close(fs_bencode *b)
{
    put(b, "e", 1);
}

void fs_bencode_bytes(fs_bencode *b, fs_bytes value)
{
    if (!b->rc)
        b->rc = fs_buf_printf(&b->out, NULL, "%zu:", value.n_bytes);
    put(b, value.data, value.n_bytes);
}

void fs_bencode_str(fs_bencode *b, const char *value)
{
    fs_bencode_bytes(b, fs_bytes_str(value));
}

void fs_bencode_int(fs_bencode *b, int64_t value)
{
    if (!b->rc)
        b->rc = fs_buf_printf(&b->out, NULL, "i%llde", (long long)value);
}

void fs_bencode_raw(fs_bencode *b, fs_bytes encoded)
{
    put(b, encoded.data, encoded.n_bytes);
}

/* ---- reading ---- */

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* Digits without zeros before them, up to the byte end, which is taken too. */
static bool take_number(fs_bytes *rest, char end, uint64_t max, uint64_t *ret)
{
    uint64_t n = 0;
    size_t i = 0;

    for (; i < rest->n_bytes && is_digit(rest->data[i]); i++) {
        unsigned digit = rest->data[i] - '0';
        if (n > (max - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    if (i == 0 || i == rest->n_bytes || rest->data[i] != (uint8_t)end || (i > 1 && rest->data[0] == '0'))
        return false;
    *rest = (fs_bytes){ rest->data + i + 1, rest->n_bytes - i - 1 };
    *ret = n;
    return true;
}

static bool take_int(fs_bytes *rest, int64_t *ret)
{
    bool negative;
    uint64_t n;

    *rest = (fs_bytes){ rest->data + 1, rest->n_bytes - 1 };
    negative = rest->n_bytes > 0 && rest->data[0] == '-';
    if (negative)
        *rest = (fs_bytes){ rest->data + 1, rest->n_bytes - 1 };
    if (!take_number(rest, 'e', negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX, &n) || (negative && n == 0))
        return false;
    *ret = negative ? -(int64_t)(n - 1) - 1 : (int64_t)n;
    return true;
}

static bool take_string(fs_bytes *rest, fs_bytes *ret)
{
    uint64_t n;

    if (!take_number(rest, ':', SIZE_MAX, &n) || n > rest->n_bytes)
        return false;
    *ret = (fs_bytes){ rest->data, (size_t)n };
    *rest = (fs_bytes){ rest->data + n, rest->n_bytes - (size_t)n };
    return true;
}

static bool is_before(fs_bytes a, fs_bytes b)
{
    size_t n = a.n_bytes < b.n_bytes ? a.n_bytes : b.n_bytes;
    int order = n ? memcmp(a.data, b.data, n) : 0;

    return order < 0 || (order == 0 && a.n_bytes < b.n_bytes);
}

static bool take(fs_bytes *rest, int depth, fs_bvalue *ret)
{
    const uint8_t *begin = rest->data, *inner;
    fs_bvalue v = { 0 };

    if (rest->n_bytes == 0 || depth > FS_BENCODE_DEPTH_MAX)
        return false;
    v.kind = is_digit(*begin) ? 's' : (char)*begin;
    if (v.kind == 's' && is_digit(*begin)) {
        if (!take_string(rest, &v.inner))
            return false;
    } else if (v.kind == 'i') {
        if (!take_int(rest, &v.number))
            return false;
    } else if (v.kind == 'd' || v.kind == 'l') {
        fs_bvalue item;
        fs_bytes last = { 0 };
        bool first = true;
        *rest = (fs_bytes){ begin + 1, rest->n_bytes - 1 };
        inner = rest->data;
        while (rest->n_bytes > 0 && *rest->data != 'e') {
            fs_bytes key = { 0 };
            if (v.kind == 'd' && (!take_string(rest, &key) || (!first && !is_before(last, key))))
                return false;
            last = key;
            first = false;
            if (!take(rest, depth + 1, &item))
                return false;
        }
        if (rest->n_bytes == 0)
            return false;
        v.inner = (fs_bytes){ inner, (size_t)(rest->data - inner) };
        *rest = (fs_bytes){ rest->data + 1, rest->n_bytes - 1 };
    } else {
        return false;
    }
    v.whole = (fs_bytes){ begin, (size_t)(rest->data - begin) };
    *ret = v;
    return true;
}

fs_status fs_bencode_read(fs_bytes text, fs_bvalue *ret, fs_error *err)
{
    fs_bytes rest = text;
    fs_bvalue v;

    if (!take(&rest, 1, &v))
        return fs_fail(err, FS_ERR_FORMAT, "bencoding: broken, or not the only way to say it, before byte %zu of %zu", (size_t)(text.n_bytes - rest.n_bytes), text.n_bytes);
    if (rest.n_bytes)
        return fs_fail(err, FS_ERR_FORMAT, "bencoding: %zu bytes behind the value", rest.n_bytes);
    *ret = v;
    return FS_OK;
}

bool fs_bencode_next(fs_bytes *rest, fs_bvalue *ret)
{
    return rest->n_bytes > 0 && take(rest, 1, ret);
}

bool fs_bencode_member(const fs_bvalue *d, const char *key, char kind, fs_bvalue *ret)
{
    fs_bytes rest = d->kind == 'd' ? d->inner : (fs_bytes){ 0 };
    fs_bvalue name, value;

    while (fs_bencode_next(&rest, &name) && fs_bencode_next(&rest, &value))
        if (fs_bytes_equal(name.inner, fs_bytes_str(key))) {
            if (value.kind != kind)
                return false;
            *ret = value;
            return true;
        }
    return false;
}
