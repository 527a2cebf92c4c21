/* JSON in, as variables, and out, as Python's json.dumps writes it. */
#include "text/jinja_impl.h"

#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static jinja_str borrow(jinja *j, const char *data, size_t n, bool foreign)
{
    jinja_step(j, n / 16);
    if (!fs_utf8_valid((fs_bytes){ (const uint8_t *)data, n }))
        jinja_fail(j, FS_ERR_ARGUMENT, "a string of the conversation is not UTF-8");
    return (jinja_str){ (const uint8_t *)data, n, foreign && n ? jinja_all_foreign : NULL };
}

/* A role is one of few words that templates put between their own "<|" and "|>", which is to stay a marker. */
static bool is_role(jinja_str key, struct json_object *value)
{
    static const char *const roles[] = { "system", "user", "assistant", "tool", "developer" };

    if (jinja_str_is(key, "role") && json_object_is_type(value, json_type_string))
        for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
            if (strcmp(json_object_get_string(value), roles[i]) == 0)
                return true;
    return false;
}

jinja_value jinja_from_json(jinja *j, struct json_object *o, bool foreign)
{
    jinja_value v = { .kind = J_NONE };
    int64_t i;

    jinja_step(j, 1);
    jinja_enter(j);
    switch (json_object_get_type(o)) {
    case json_type_null:
        break;
    case json_type_boolean:
        v = jinja_bool(json_object_get_boolean(o));
        break;
    case json_type_double:
        v = jinja_float(json_object_get_double(o));
        break;
    case json_type_int:
        i = json_object_get_int64(o);
        if (i == INT64_MAX && json_object_get_uint64(o) > INT64_MAX)
            jinja_fail(j, FS_ERR_UNSUPPORTED, "a number of more than 64 bits in the conversation is not supported");
        v = jinja_int(i);
        break;
    case json_type_string:
        v = jinja_string(borrow(j, json_object_get_string(o), (size_t)json_object_get_string_len(o), foreign));
        break;
    case json_type_array:
        v = jinja_of_list(J_LIST, jinja_list_new(j));
        for (size_t k = 0; k < json_object_array_length(o); k++)
            jinja_list_push(j, v.list, jinja_from_json(j, json_object_array_get_idx(o, k), foreign));
        break;
    case json_type_object:
        v = (jinja_value){ .kind = J_DICT, .dict = jinja_dict_new(j) };
        json_object_object_foreach(o, key, item)
        {
            jinja_str k = borrow(j, key, strlen(key), foreign);
            jinja_dict_push(j, v.dict, jinja_string(k), jinja_from_json(j, item, foreign && !is_role(k, item)));
        }
        break;
    }
    jinja_leave(j);
    return v;
}

static void quote(jinja *j, jinja_builder *b, jinja_str s, bool ascii)
{
    size_t plain = 0;

    jinja_put_text(j, b, "\"");
    for (size_t i = 0, n; i < s.n; i += n) {
        static const char letters[] = "\"\"\\\\\nn\rr\tt\bb\ff";
        const char *p = letters;
        char text[16];
        uint32_t code;
        n = fs_utf8_next((fs_bytes){ s.data, s.n }, i, &code);
        if (code >= 0x20 && code != '"' && code != '\\' && !(ascii && code > 0x7e))
            continue;
        while (*p && (uint8_t)*p != code)
            p += 2;
        if (*p)
            snprintf(text, sizeof text, "\\%c", p[1]);
        else if (code < 0x10000)
            snprintf(text, sizeof text, "\\u%04x", code);
        else
            snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xd800 + ((code - 0x10000) >> 10), 0xdc00 + (code & 0x3ff));
        jinja_put(j, b, jinja_slice_bytes(s, plain, i));
        jinja_put_like(j, b, text, jinja_slice_bytes(s, i, i + n));
        plain = i + n;
    }
    jinja_put(j, b, jinja_slice_bytes(s, plain, s.n));
    jinja_put_text(j, b, "\"");
}

static void put_scalar(jinja *j, jinja_builder *b, jinja_value v)
{
    char text[32];

    switch (v.kind) {
    case J_NONE:
        jinja_put_text(j, b, "null");
        break;
    case J_BOOL:
        jinja_put_text(j, b, v.b ? "true" : "false");
        break;
    case J_INT:
        snprintf(text, sizeof text, "%" PRId64, v.i);
        jinja_put_text(j, b, text);
        break;
    case J_FLOAT:
        if (isnan(v.f) || isinf(v.f))
            jinja_put_text(j, b, isnan(v.f) ? "NaN" : v.f > 0 ? "Infinity" : "-Infinity");
        else
            jinja_put_double(j, b, v.f);
        break;
    default:
        jinja_fail(j, FS_ERR_FORMAT, "tojson of a %s", jinja_kind_name(v));
    }
}

static void newline(jinja *j, jinja_builder *b, const jinja_json_style *style, int level)
{
    if (!style->has_indent)
        return;
    jinja_put_text(j, b, "\n");
    for (int i = 0; i < level; i++)
        jinja_put(j, b, style->indent);
}

static void put_key(jinja *j, jinja_builder *b, jinja_value key, const jinja_json_style *style)
{
    if (key.kind == J_STRING) {
        quote(j, b, key.s, style->ascii);
        return;
    }
    jinja_put_text(j, b, "\"");
    put_scalar(j, b, key);
    jinja_put_text(j, b, "\"");
}

static void sort_pairs(jinja *j, jinja_pair *pairs, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        jinja_pair p = pairs[i];
        size_t k = i;
        for (; k > 0 && jinja_compare(j, pairs[k - 1].key, p.key) > 0; k--)
            pairs[k] = pairs[k - 1];
        pairs[k] = p;
    }
}

void jinja_to_json(jinja *j, jinja_builder *b, jinja_value v, const jinja_json_style *style, int level)
{
    const jinja_pair *pairs;

    jinja_step(j, 1);
    jinja_enter(j);
    switch (v.kind) {
    case J_STRING:
        quote(j, b, v.s, style->ascii);
        break;
    case J_LIST:
    case J_TUPLE:
        jinja_put_text(j, b, "[");
        for (size_t i = 0; i < v.list->n; i++) {
            if (i)
                jinja_put(j, b, style->item);
            newline(j, b, style, level + 1);
            jinja_to_json(j, b, v.list->items[i], style, level + 1);
        }
        if (v.list->n)
            newline(j, b, style, level);
        jinja_put_text(j, b, "]");
        break;
    case J_DICT:
        pairs = v.dict->pairs;
        if (style->sort_keys && v.dict->n) {
            jinja_pair *copy = jinja_alloc_n(j, v.dict->n, sizeof *copy);
            memcpy(copy, pairs, v.dict->n * sizeof *copy);
            sort_pairs(j, copy, v.dict->n);
            pairs = copy;
        }
        jinja_put_text(j, b, "{");
        for (size_t i = 0; i < v.dict->n; i++) {
            if (i)
                jinja_put(j, b, style->item);
            newline(j, b, style, level + 1);
            put_key(j, b, pairs[i].key, style);
            jinja_put(j, b, style->key);
            jinja_to_json(j, b, pairs[i].value, style, level + 1);
        }
        if (v.dict->n)
            newline(j, b, style, level);
        jinja_put_text(j, b, "}");
        break;
    default:
        put_scalar(j, b, v);
    }
    jinja_leave(j);
}
