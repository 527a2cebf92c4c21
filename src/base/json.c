/* See the header; json-c does the parsing. */
#include "base/json.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <string.h>

static bool hex4(fs_bytes text, size_t at, uint32_t *ret)
{
    uint32_t v = 0;

    if (at > text.n_bytes || text.n_bytes - at < 4)
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

/* json-c 0.16 takes a character such as U+2DB34, whose low 16 bits look like a surrogate, for a broken pair and gives
 * U+FFFD. So pairs of escaped surrogates become the characters they mean before it sees them. *ret_text is text
 * itself when it has none. */
static fs_status join_surrogates(fs_bytes text, fs_buf *storage, fs_bytes *ret_text, fs_error *err)
{
    size_t copied = 0;
    fs_status rc;

    *ret_text = text;
    for (size_t i = 0; i < text.n_bytes;) {
        const uint8_t *p = memchr(text.data + i, '\\', text.n_bytes - i);
        uint32_t high, low;
        uint8_t bytes[4];
        if (!p)
            break;
        i = (size_t)(p - text.data);
        if (!hex4(text, i + 2, &high) || text.data[i + 1] != 'u' || high < 0xd800 || high > 0xdbff || !hex4(text, i + 8, &low) ||
            text.data[i + 6] != '\\' || text.data[i + 7] != 'u' || low < 0xdc00 || low > 0xdfff) {
            i += 2; /* the escaped character cannot begin an escape */
            continue;
        }
        if ((rc = fs_buf_append(storage, text.data + copied, i - copied, err)) ||
            (rc = fs_buf_append(storage, bytes, fs_utf8_put(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00), bytes), err)))
            return rc;
        copied = i += 12;
    }
    if (copied == 0)
        return FS_OK;
    rc = fs_buf_append(storage, text.data + copied, text.n_bytes - copied, err);
    if (!rc)
        *ret_text = fs_buf_bytes(storage);
    return rc;
}

static fs_status parse(fs_bytes text, const char *what, struct json_object **ret, fs_error *err)
{
    struct json_tokener *t;
    struct json_object *v;
    size_t end;

    if (text.n_bytes == 0)
        return fs_fail(err, FS_ERR_FORMAT, "%s is empty, JSON was expected", what);
    if (text.n_bytes > INT_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "%s has %zu bytes, which is too much JSON", what, text.n_bytes);
    t = json_tokener_new_ex(FS_JSON_DEPTH_MAX);
    if (!t)
        return fs_fail_memory(err, sizeof(void *));
    json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS | JSON_TOKENER_VALIDATE_UTF8);
    v = json_tokener_parse_ex(t, (const char *)text.data, (int)text.n_bytes);
    if (json_tokener_get_error(t) == json_tokener_continue) {
        /* A bare number at the very end is only complete once something follows it. */
        v = json_tokener_parse_ex(t, "\n", 1);
        if (json_tokener_get_error(t) == json_tokener_success) {
            json_tokener_free(t);
            *ret = v;
            return FS_OK;
        }
    }
    end = json_tokener_get_parse_end(t);
    if (json_tokener_get_error(t) != json_tokener_success) {
        fs_status rc = fs_fail(err, FS_ERR_FORMAT, "%s: not JSON at byte %zu of %zu: %s", what, end, text.n_bytes,
                               json_tokener_get_error(t) == json_tokener_continue ? "it ends inside a value"
                                                                                  : json_tokener_error_desc(json_tokener_get_error(t)));
        json_object_put(v);
        json_tokener_free(t);
        return rc;
    }
    json_tokener_free(t);
    while (end < text.n_bytes && memchr(" \t\r\n", text.data[end], 4))
        end++;
    if (end < text.n_bytes) {
        json_object_put(v);
        return fs_fail(err, FS_ERR_FORMAT, "%s: something follows the JSON value at byte %zu of %zu", what, end, text.n_bytes);
    }
    *ret = v;
    return FS_OK;
}

static size_t count_members(struct json_object *v)
{
    size_t n = 0;

    if (json_object_is_type(v, json_type_object)) {
        n = (size_t)json_object_object_length(v);
        json_object_object_foreach(v, key, item) {
            (void)key;
            n += count_members(item);
        }
    } else if (json_object_is_type(v, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(v); i++)
            n += count_members(json_object_array_get_idx(v, i));
    }
    return n;
}

/* In JSON that has parsed, every colon outside of strings is one member, so the text tells how many were written. */
fs_status fs_json_check_keys(fs_bytes text, struct json_object *root, const char *what, fs_error *err)
{
    size_t n_written = 0, n_kept = count_members(root);
    bool nul = false;

    for (size_t i = 0; i < text.n_bytes; i++) {
        if (text.data[i] == '"') {
            nul = false;
            for (i++; i < text.n_bytes && text.data[i] != '"'; i++)
                if (text.data[i] == '\\' && text.n_bytes - i > 5 && memcmp(text.data + i, "\\u0000", 6) == 0)
                    nul = true, i += 5;
                else if (text.data[i] == '\\')
                    i++;
        } else if (text.data[i] == ':') {
            if (nul)
                return fs_fail(err, FS_ERR_FORMAT, "%s: the key that ends at byte %zu holds U+0000", what, i);
            n_written++;
        }
    }
    if (n_written != n_kept)
        return fs_fail(err, FS_ERR_FORMAT, "%s: %zu keys, but only %zu different ones: a key is given twice", what, n_written, n_kept);
    return FS_OK;
}

/* What json-c will take for text, from above: an empty object costs it 800 bytes where the text has 3. */
static size_t tree_bytes(fs_bytes text)
{
    size_t n = 0;
    bool in_string = false;

    for (size_t i = 0; i < text.n_bytes; i++) {
        uint8_t c = text.data[i];
        if (in_string) {
            i += c == '\\';
            in_string = c != '"';
            continue;
        }
        in_string = c == '"';
        n += c == '{' ? 800 : c == '[' ? 400 : c == ':' ? 200 : c == ',' ? 80 : 0;
    }
    return n;
}

fs_status fs_json_parse(fs_bytes text, const char *what, struct json_object **ret, fs_error *err)
{
    fs_buf storage = { 0 };
    fs_status rc;

    if (tree_bytes(text) > FS_JSON_TREE_BYTES_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "%s: the values in %zu bytes of JSON would take over %d MiB", what, text.n_bytes,
                       (int)(FS_JSON_TREE_BYTES_MAX >> 20));
    rc = join_surrogates(text, &storage, &text, err);
    if (!rc)
        rc = parse(text, what, ret, err);
    fs_buf_done(&storage);
    return rc;
}

struct json_object *fs_json_member(struct json_object *obj, const char *key)
{
    struct json_object *v = NULL;

    if (!json_object_is_type(obj, json_type_object) || !json_object_object_get_ex(obj, key, &v))
        return NULL;
    return v;
}

static void found(bool *ret_found, bool yes)
{
    if (ret_found)
        *ret_found = yes;
}

fs_status fs_json_int(struct json_object *obj, const char *key, int64_t min, int64_t max, int64_t *ret, bool *ret_found, fs_error *err)
{
    struct json_object *v = fs_json_member(obj, key);
    int64_t i;

    found(ret_found, v != NULL);
    if (!v)
        return FS_OK;
    if (json_object_is_type(v, json_type_int)) {
        i = json_object_get_int64(v);
    } else if (json_object_is_type(v, json_type_double) && json_object_get_double(v) == floor(json_object_get_double(v)) &&
               fabs(json_object_get_double(v)) < 9e15) {
        i = (int64_t)json_object_get_double(v); /* some configs write 40.0 for 40 */
    } else {
        return fs_fail(err, FS_ERR_FORMAT, "'%s' is not an integer", key);
    }
    if (i < min || i > max)
        return fs_fail(err, FS_ERR_FORMAT, "'%s' is %" PRId64 ", allowed are %" PRId64 " to %" PRId64, key, i, min, max);
    *ret = i;
    return FS_OK;
}

fs_status fs_json_double(struct json_object *obj, const char *key, double *ret, bool *ret_found, fs_error *err)
{
    struct json_object *v = fs_json_member(obj, key);

    found(ret_found, v != NULL);
    if (!v)
        return FS_OK;
    if (!json_object_is_type(v, json_type_int) && !json_object_is_type(v, json_type_double))
        return fs_fail(err, FS_ERR_FORMAT, "'%s' is not a number", key);
    if (!isfinite(json_object_get_double(v)))
        return fs_fail(err, FS_ERR_FORMAT, "'%s' is not finite", key);
    *ret = json_object_get_double(v);
    return FS_OK;
}

fs_status fs_json_bool(struct json_object *obj, const char *key, bool *ret, bool *ret_found, fs_error *err)
{
    struct json_object *v = fs_json_member(obj, key);

    found(ret_found, v != NULL);
    if (!v)
        return FS_OK;
    if (!json_object_is_type(v, json_type_boolean))
        return fs_fail(err, FS_ERR_FORMAT, "'%s' is not true or false", key);
    *ret = json_object_get_boolean(v);
    return FS_OK;
}

fs_status fs_json_string(struct json_object *obj, const char *key, fs_bytes *ret, bool *ret_found, fs_error *err)
{
    struct json_object *v = fs_json_member(obj, key);

    found(ret_found, v != NULL);
    if (!v)
        return FS_OK;
    if (!json_object_is_type(v, json_type_string))
        return fs_fail(err, FS_ERR_FORMAT, "'%s' is not a string", key);
    *ret = (fs_bytes){ (const uint8_t *)json_object_get_string(v), (size_t)json_object_get_string_len(v) };
    return FS_OK;
}

fs_status fs_json_quote(fs_buf *out, fs_bytes text, fs_error *err)
{
    static const char hex[] = "0123456789abcdef";
    fs_status rc = fs_buf_append(out, "\"", 1, err);

    for (size_t i = 0; i < text.n_bytes && !rc;) {
        uint8_t c = text.data[i];
        uint32_t code;
        size_t n = fs_utf8_next(text, i, &code);
        if (c == '"' || c == '\\') {
            char e[2] = { '\\', (char)c };
            rc = fs_buf_append(out, e, 2, err);
        } else if (c < 0x20 || c == 0x7f) {
            char e[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };
            rc = fs_buf_append(out, e, 6, err);
        } else if (code == FS_UTF8_BAD) {
            rc = fs_buf_append(out, "\xef\xbf\xbd", 3, err);
        } else {
            rc = fs_buf_append(out, text.data + i, n, err);
        }
        i += n;
    }
    return rc ? rc : fs_buf_append(out, "\"", 1, err);
}
