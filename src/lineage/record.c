/* See the header. */
#include "lineage/record.h"

#include "base/utf8.h"
#include "crypto/sha256.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEX 64

/* ---- what a value may be ---- */

static bool is_hash(const char *s, size_t n)
{
    fs_root r;

    return fs_root_read((fs_bytes){ (const uint8_t *)s, n }, &r);
}

/* A number without a leading zero, of at most 19 digits; *s moves behind it. */
static bool skip_number(const char **s)
{
    size_t n = strspn(*s, "0123456789");
    bool good = n > 0 && n < 20 && (n == 1 || **s != '0');

    *s += n;
    return good;
}

/* "HASH something" */
static bool is_hashed(const char *v)
{
    return strlen(v) > HEX + 1 && v[HEX] == ' ' && v[HEX + 1] != ' ' && is_hash(v, HEX);
}

static bool is_version(const char *v)
{
    return strcmp(v, "1") == 0;
}

static bool is_word(const char *v)
{
    size_t n = strspn(v, "abcdefghijklmnopqrstuvwxyz-_");

    return n > 0 && n < 32 && v[n] == 0;
}

static bool is_parent(const char *v)
{
    size_t n = strlen(v);

    return (n == HEX || (n == 2 * HEX + 1 && v[HEX] == ' ' && is_hash(v + HEX + 1, HEX))) && is_hash(v, HEX);
}

static bool is_made(const char *v)
{
    return strlen(v) == 2 * HEX + 1 && is_parent(v);
}

/* "key value" with a key of letters, digits, '_', '.', '-'; or a key alone, whose value is empty. */
static bool is_recipe(const char *v)
{
    size_t n = strspn(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");

    return n > 0 && n < 128 && (v[n] == 0 || (v[n] == ' ' && v[n + 1] != ' ' && v[n + 1] != 0));
}

static bool is_text(const char *v)
{
    return v[0] != 0;
}

/* "SEED rule" */
static bool is_init(const char *v)
{
    return skip_number(&v) && v[0] == ' ' && v[1] != ' ' && v[1] != 0;
}

/* "RN1 HASH" */
static bool is_arithmetic(const char *v)
{
    const char *blank = strchr(v, ' ');

    return blank && blank > v && strlen(blank + 1) == HEX && is_hash(blank + 1, HEX);
}

/* "ROOT number number" */
static bool is_root_and_numbers(const char *v)
{
    if (!is_hashed(v))
        return false;
    v += HEX + 1;
    return skip_number(&v) && *v++ == ' ' && skip_number(&v) && *v == 0;
}

/* "Name <mail>" */
static bool is_signer(const char *v)
{
    const char *mail = strstr(v, " <");

    return mail && mail > v && mail[2] != '>' && strchr(mail, '@') && strcspn(mail + 2, "<> ") == strlen(mail) - 3 && v[strlen(v) - 1] == '>';
}

static bool is_class(const char *v)
{
    return strlen(v) == 1 && v[0] >= 'A' && v[0] <= 'C';
}

static const struct key {
    const char *name;
    size_t min, max; /* lines */
    bool (*good)(const char *value);
    bool sorted;
} keys[FS_RECORD_KEY_END] = {
    [FS_RECORD_VERSION] = { "record", 1, 1, is_version, false },
    [FS_RECORD_VERB] = { "verb", 1, 1, is_word, false },
    [FS_RECORD_PARENT] = { "parent", 0, 4096, is_parent, false },
    [FS_RECORD_INIT] = { "init", 0, 1, is_init, false },
    [FS_RECORD_DATA] = { "data", 0, 65536, is_hashed, false },
    [FS_RECORD_MADE] = { "made", 0, 65536, is_made, false },
    [FS_RECORD_RECIPE] = { "recipe", 0, 65536, is_recipe, true },
    [FS_RECORD_ENGINE] = { "engine", 1, 1, is_text, false },
    [FS_RECORD_ARITHMETIC] = { "arithmetic", 1, 1, is_arithmetic, false },
    [FS_RECORD_TRACE] = { "trace", 0, 1, is_root_and_numbers, false },
    [FS_RECORD_RESULT] = { "result", 1, 1, is_root_and_numbers, false },
    [FS_RECORD_STATE] = { "state", 0, 1, is_root_and_numbers, false },
    [FS_RECORD_FILE] = { "file", 0, 65536, is_hashed, true },
    [FS_RECORD_LICENCE] = { "licence", 0, 1, is_text, false },
    [FS_RECORD_SIGNED_OFF] = { "signed-off-by", 0, 64, is_signer, false },
    [FS_RECORD_CLASS] = { "class", 1, 1, is_class, false },
};

const char *fs_record_key_name(fs_record_key key)
{
    return keys[key].name;
}

static bool is_value(fs_record_key key, const char *v)
{
    size_t n = strlen(v);

    if (n == 0 || v[0] == ' ' || v[n - 1] == ' ' || !fs_utf8_valid(fs_bytes_str(v)))
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)v[i] < 0x20 || v[i] == 0x7f)
            return false;
    return keys[key].good(v);
}

/* What lines of a sorted key are sorted by: the recipe's key, the file's name. It ends at a blank, or not at all. */
static const char *sort_key(fs_record_key key, const char *value, size_t *ret_n)
{
    if (key == FS_RECORD_FILE)
        value += HEX + 1;
    *ret_n = key == FS_RECORD_RECIPE ? strcspn(value, " ") : strlen(value);
    return value;
}

static int compare(fs_record_key key, const char *a, const char *b)
{
    size_t n, m;
    const char *x = sort_key(key, a, &n), *y = sort_key(key, b, &m);
    int c = memcmp(x, y, n < m ? n : m);

    return c ? c : (n > m) - (n < m);
}

/* ---- a list of lines ---- */

/* Takes value over. */
static fs_status insert(fs_record *r, fs_record_key key, char *value, fs_error *err)
{
    size_t at = r->n;

    while (at > 0 && (r->lines[at - 1].key > key || (keys[key].sorted && r->lines[at - 1].key == key &&
                                                     compare(key, r->lines[at - 1].value, value) > 0)))
        at--;
    if (r->n_of[key] == keys[key].max || r->n == FS_RECORD_LINES_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "a record has more than %zu lines '%s'", r->n_of[key], keys[key].name);
    if (keys[key].sorted && at > 0 && r->lines[at - 1].key == key && compare(key, r->lines[at - 1].value, value) == 0)
        return fs_fail(err, FS_ERR_FORMAT, "a record has '%s %.80s' twice", keys[key].name, value);
    if (r->n == r->capacity) {
        size_t capacity = r->capacity ? 2 * r->capacity : 32;
        fs_record_line *more = realloc(r->lines, capacity * sizeof *more);
        if (!more)
            return fs_fail_memory(err, capacity * sizeof *more);
        r->lines = more;
        r->capacity = capacity;
    }
    memmove(&r->lines[at + 1], &r->lines[at], (r->n - at) * sizeof *r->lines);
    r->lines[at] = (fs_record_line){ key, value };
    r->n++;
    r->n_of[key]++;
    return FS_OK;
}

fs_status fs_record_add(fs_record *r, fs_error *err, fs_record_key key, const char *format, ...)
{
    char *value = NULL;
    va_list args;
    fs_status rc = FS_OK;
    int n;

    va_start(args, format);
    n = vasprintf(&value, format, args);
    va_end(args);
    if (n < 0)
        return fs_fail_memory(err, strlen(format));
    if (!is_value(key, value))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "a record cannot say '%s %.80s'", keys[key].name, value);
    if (!rc)
        rc = insert(r, key, value, err);
    if (rc)
        free(value);
    return rc;
}

fs_status fs_record_add_all(fs_record *r, const fs_record *from, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < from->n && !rc; i++)
        rc = fs_record_add(r, err, from->lines[i].key, "%s", from->lines[i].value);
    return rc;
}

bool fs_record_is_data(const fs_record *r)
{
    const char *verb = fs_record_get(r, FS_RECORD_VERB, 0);

    return verb && (strcmp(verb, "data") == 0 || strcmp(verb, "tokenise") == 0 || strcmp(verb, "eval") == 0);
}

const char *fs_record_get(const fs_record *r, fs_record_key key, size_t i)
{
    for (size_t k = 0; k < r->n; k++)
        if (r->lines[k].key == key && i-- == 0)
            return r->lines[k].value;
    return NULL;
}

const char *fs_record_recipe(const fs_record *r, const char *key)
{
    size_t n = strlen(key);

    for (size_t i = 0; i < r->n; i++) {
        const char *v = r->lines[i].value;
        if (r->lines[i].key == FS_RECORD_RECIPE && strncmp(v, key, n) == 0 && (v[n] == ' ' || v[n] == 0))
            return v[n] ? v + n + 1 : v + n;
    }
    return NULL;
}

void fs_record_done(fs_record *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n; i++)
        free(r->lines[i].value);
    free(r->lines);
    *r = (fs_record){ 0 };
}

/* ---- the text ---- */

static fs_status check_complete(const fs_record *r, fs_error *err)
{
    for (int k = 0; k < FS_RECORD_KEY_END; k++)
        if (keys[k].min > 0 && !fs_record_get(r, (fs_record_key)k, 0))
            return fs_fail(err, FS_ERR_FORMAT, "a record has no line '%s'", keys[k].name);
    return FS_OK;
}

fs_status fs_record_write(const fs_record *r, fs_buf *out, fs_error *err)
{
    fs_status rc = check_complete(r, err);

    for (size_t i = 0; i < r->n && !rc; i++)
        rc = fs_buf_printf(out, err, "%s %s\n", keys[r->lines[i].key].name, r->lines[i].value);
    return rc;
}

static bool find_key(fs_bytes line, fs_record_key *ret, size_t *ret_n)
{
    for (int k = 0; k < FS_RECORD_KEY_END; k++) {
        size_t n = strlen(keys[k].name);
        if (line.n_bytes > n && line.data[n] == ' ' && memcmp(line.data, keys[k].name, n) == 0) {
            *ret = (fs_record_key)k;
            *ret_n = n + 1;
            return true;
        }
    }
    return false;
}

/* A line goes behind those before it, or the text is not the canonical one. */
static fs_status read_line(fs_record *r, fs_bytes line, fs_error *err)
{
    size_t skip;
    fs_record_key key;
    char *value;
    fs_status rc;

    if (!find_key(line, &key, &skip))
        return fs_fail(err, FS_ERR_FORMAT, "'%.*s' is no line of a record", line.n_bytes < 80 ? (int)line.n_bytes : 80, line.data);
    if (r->n > 0 && r->lines[r->n - 1].key > key)
        return fs_fail(err, FS_ERR_FORMAT, "'%s' stands behind '%s'", keys[key].name, keys[r->lines[r->n - 1].key].name);
    value = strndup((const char *)line.data + skip, line.n_bytes - skip);
    if (!value)
        return fs_fail_memory(err, line.n_bytes);
    if (strlen(value) != line.n_bytes - skip || !is_value(key, value))
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s %.80s' is not what a record may say", keys[key].name, value);
    else if (keys[key].sorted && r->n > 0 && r->lines[r->n - 1].key == key && compare(key, r->lines[r->n - 1].value, value) >= 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s %.80s' is not in order", keys[key].name, value);
    else
        rc = insert(r, key, value, err);
    if (rc)
        free(value);
    return rc;
}

fs_status fs_record_read(fs_bytes text, const char *what, fs_record *ret, fs_error *err)
{
    fs_record r = { 0 };
    fs_error why = { 0 };
    size_t at = 0, line_no = 0;
    fs_status rc = FS_OK;

    if (text.n_bytes == 0 || text.n_bytes > FS_RECORD_BYTES_MAX || text.data[text.n_bytes - 1] != '\n')
        return fs_fail(err, FS_ERR_FORMAT, "'%s' is no record: it has %zu bytes, whole lines and at most %zu are wanted", what, text.n_bytes,
                       FS_RECORD_BYTES_MAX);
    while (at < text.n_bytes && !rc) {
        const uint8_t *end = memchr(text.data + at, '\n', text.n_bytes - at);
        fs_bytes line = { text.data + at, (size_t)(end - (text.data + at)) };
        line_no++;
        rc = read_line(&r, line, &why);
        at += line.n_bytes + 1;
    }
    if (rc)
        rc = fs_fail(err, rc, "'%s', line %zu: %s", what, line_no, why.message);
    else if ((rc = check_complete(&r, &why)) != FS_OK)
        rc = fs_fail(err, rc, "'%s': %s", what, why.message);
    if (rc) {
        fs_record_done(&r);
        return rc;
    }
    *ret = r;
    return FS_OK;
}

fs_status fs_record_id(fs_bytes text, fs_root *ret, fs_error *err)
{
    return fs_sha256_of(text, ret->bytes, err);
}

/* ---- values ---- */

void fs_record_result(const fs_record *r, fs_root *ret_root)
{
    fs_record_parent(fs_record_get(r, FS_RECORD_RESULT, 0), ret_root);
}

void fs_record_parent(const char *value, fs_root *ret_root)
{
    bool good = fs_root_read((fs_bytes){ (const uint8_t *)value, HEX }, ret_root);

    assert(good);
    (void)good;
}

bool fs_record_id_of(const char *value, fs_root *ret_id)
{
    return value[HEX] == ' ' && fs_root_read(fs_bytes_str(value + HEX + 1), ret_id);
}

void fs_record_root_and_numbers(const char *value, fs_root *ret_root, uint64_t ret[2])
{
    char *end;

    fs_record_parent(value, ret_root);
    ret[0] = strtoull(value + HEX + 1, &end, 10);
    ret[1] = strtoull(end, NULL, 10);
}

const char *fs_record_hashed(const char *value, fs_root *ret_hash)
{
    fs_record_parent(value, ret_hash);
    return value + HEX + 1;
}
