/* A recursive walk over libyaml's event stream; the depth limit is JSON's. */
#include "base/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

typedef struct reader {
    yaml_parser_t parser;
    const char *what;
    size_t n_events; /* bounds the work a small file can ask for */
    fs_error *err;
} reader;

#define EVENTS_MAX 1000000u

static fs_status fail_at(reader *r, const yaml_event_t *e, const char *sentence)
{
    return fs_fail(r->err, FS_ERR_FORMAT, "%s: line %zu: %s", r->what, e->start_mark.line + 1, sentence);
}

static fs_status next_event(reader *r, yaml_event_t *ret)
{
    *ret = (yaml_event_t){ 0 };
    if (r->n_events++ >= EVENTS_MAX)
        return fs_fail(r->err, FS_ERR_FORMAT, "%s: more than %u items", r->what, EVENTS_MAX);
    if (yaml_parser_parse(&r->parser, ret))
        return FS_OK;
    if (r->parser.error == YAML_MEMORY_ERROR)
        return fs_fail_memory(r->err, 0);
    return fs_fail(r->err, FS_ERR_FORMAT, "%s: line %zu: %s", r->what, r->parser.problem_mark.line + 1,
                   r->parser.problem ? r->parser.problem : "not YAML");
}

static bool is_one_of(const char *s, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(s, *words) == 0)
            return true;
    return false;
}

/* Decimal digits with at most one sign; "0x10" and "1_000" are strings. */
static bool looks_like_int(const char *s)
{
    s += *s == '-' || *s == '+';
    return *s && s[strspn(s, "0123456789")] == 0;
}

static bool looks_like_float(const char *s)
{
    size_t n_digits;

    s += *s == '-' || *s == '+';
    n_digits = strspn(s, "0123456789");
    s += n_digits;
    if (*s == '.') {
        size_t n = strspn(s + 1, "0123456789");
        n_digits += n;
        s += 1 + n;
    }
    if (n_digits == 0)
        return false;
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '-' || *s == '+';
        if (!*s)
            return false;
        s += strspn(s, "0123456789");
    }
    return *s == 0;
}

static fs_status scalar(reader *r, const yaml_event_t *e, struct json_object **ret)
{
    static const char *const nulls[] = { "", "~", "null", "Null", "NULL", NULL };
    static const char *const trues[] = { "true", "True", "TRUE", NULL };
    static const char *const falses[] = { "false", "False", "FALSE", NULL };
    const char *s = (const char *)e->data.scalar.value;
    size_t n = e->data.scalar.length;
    bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && strlen(s) == n;
    struct json_object *v = NULL;

    if (e->data.scalar.anchor || e->data.scalar.tag)
        return fail_at(r, e, "anchors and tags are not read here");
    if (plain && is_one_of(s, nulls)) {
        *ret = NULL;
        return FS_OK;
    }
    if (plain && (is_one_of(s, trues) || is_one_of(s, falses))) {
        v = json_object_new_boolean(is_one_of(s, trues));
    } else if (plain && looks_like_int(s)) {
        errno = 0;
        long long i = strtoll(s, NULL, 10);
        if (errno && *s != '-') {
            errno = 0;
            unsigned long long u = strtoull(s, NULL, 10);
            if (!errno)
                v = json_object_new_uint64(u);
        } else if (!errno) {
            v = json_object_new_int64(i);
        }
        if (errno)
            return fail_at(r, e, "an integer that does not fit 64 bits");
    } else if (plain && looks_like_float(s)) {
        double d = strtod(s, NULL);
        if (!isfinite(d))
            return fail_at(r, e, "a number that does not fit a double");
        v = json_object_new_double_s(d, s);
    } else {
        if (n > INT32_MAX)
            return fail_at(r, e, "a string over 2 GiB");
        v = json_object_new_string_len(s, (int)n);
    }
    if (!v)
        return fs_fail_memory(r->err, n);
    *ret = v;
    return FS_OK;
}

/* The value that starts with event e (not yet read any further). */
static fs_status value(reader *r, const yaml_event_t *e, int depth, struct json_object **ret);

static fs_status sequence(reader *r, int depth, struct json_object *array)
{
    for (;;) {
        struct json_object *item = NULL;
        yaml_event_t e;
        fs_status rc = next_event(r, &e);
        if (rc)
            return rc;
        if (e.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&e);
            return FS_OK;
        }
        rc = value(r, &e, depth, &item);
        yaml_event_delete(&e);
        if (rc)
            return rc;
        if (json_object_array_add(array, item) != 0) {
            json_object_put(item);
            return fs_fail_memory(r->err, sizeof(void *));
        }
    }
}

static fs_status mapping_pair(reader *r, const yaml_event_t *key, int depth, struct json_object *obj)
{
    struct json_object *item = NULL;
    yaml_event_t e;
    const char *name;
    fs_status rc;

    if (key->type != YAML_SCALAR_EVENT)
        return fail_at(r, key, "a key that is not a string");
    name = (const char *)key->data.scalar.value;
    if (key->data.scalar.anchor || key->data.scalar.tag || strlen(name) != key->data.scalar.length)
        return fail_at(r, key, "a key with an anchor, a tag or U+0000");
    if (json_object_object_get_ex(obj, name, NULL))
        return fs_fail(r->err, FS_ERR_FORMAT, "%s: line %zu: key '%.100s' stands twice", r->what, key->start_mark.line + 1,
                       name);
    rc = next_event(r, &e);
    if (rc)
        return rc;
    rc = value(r, &e, depth, &item);
    yaml_event_delete(&e);
    if (rc)
        return rc;
    if (json_object_object_add(obj, name, item) != 0) {
        json_object_put(item);
        return fs_fail_memory(r->err, strlen(name));
    }
    return FS_OK;
}

static fs_status mapping(reader *r, int depth, struct json_object *obj)
{
    for (;;) {
        yaml_event_t key;
        fs_status rc = next_event(r, &key);
        if (rc)
            return rc;
        if (key.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&key);
            return FS_OK;
        }
        rc = mapping_pair(r, &key, depth, obj);
        yaml_event_delete(&key);
        if (rc)
            return rc;
    }
}

static fs_status value(reader *r, const yaml_event_t *e, int depth, struct json_object **ret)
{
    struct json_object *v;
    bool is_map = e->type == YAML_MAPPING_START_EVENT;
    fs_status rc;

    if (e->type == YAML_SCALAR_EVENT)
        return scalar(r, e, ret);
    if (e->type == YAML_ALIAS_EVENT)
        return fail_at(r, e, "aliases are not read here");
    if (!is_map && e->type != YAML_SEQUENCE_START_EVENT)
        return fail_at(r, e, "a value was expected");
    if (is_map ? e->data.mapping_start.anchor || e->data.mapping_start.tag
               : e->data.sequence_start.anchor || e->data.sequence_start.tag)
        return fail_at(r, e, "anchors and tags are not read here");
    if (depth >= FS_JSON_DEPTH_MAX)
        return fail_at(r, e, "nested too deep");
    v = is_map ? json_object_new_object() : json_object_new_array();
    if (!v)
        return fs_fail_memory(r->err, sizeof(void *));
    rc = is_map ? mapping(r, depth + 1, v) : sequence(r, depth + 1, v);
    if (rc) {
        json_object_put(v);
        return rc;
    }
    *ret = v;
    return FS_OK;
}

/* STREAM-START [DOCUMENT-START value DOCUMENT-END] STREAM-END */
static fs_status document(reader *r, struct json_object **ret)
{
    struct json_object *v = NULL;
    bool seen = false;

    for (;;) {
        yaml_event_t e;
        yaml_event_type_t type;
        fs_status rc = next_event(r, &e);
        if (!rc && e.type == YAML_DOCUMENT_START_EVENT && seen)
            rc = fail_at(r, &e, "a second document");
        else if (!rc && e.type != YAML_STREAM_START_EVENT && e.type != YAML_DOCUMENT_START_EVENT &&
                 e.type != YAML_DOCUMENT_END_EVENT && e.type != YAML_STREAM_END_EVENT) {
            rc = value(r, &e, 0, &v);
            seen = true;
        }
        if (rc) {
            yaml_event_delete(&e);
            json_object_put(v);
            return rc;
        }
        type = e.type;
        yaml_event_delete(&e);
        if (type == YAML_STREAM_END_EVENT)
            break;
    }
    if (!v)
        v = json_object_new_object();
    if (!v)
        return fs_fail_memory(r->err, sizeof(void *));
    *ret = v;
    return FS_OK;
}

fs_status fs_yaml_parse(fs_bytes text, const char *what, struct json_object **ret, fs_error *err)
{
    reader r = { .what = what, .err = err };
    fs_status rc;

    if (!yaml_parser_initialize(&r.parser))
        return fs_fail_memory(err, sizeof r.parser);
    yaml_parser_set_input_string(&r.parser, text.data ? text.data : (const uint8_t *)"", text.n_bytes);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    rc = document(&r, ret);
    yaml_parser_delete(&r.parser);
    return rc;
}
