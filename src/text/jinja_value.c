/* Memory, values, their order and their printed forms (Python's str and repr). */
#include "text/jinja_impl.h"

#include "base/utf8.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

const uint8_t jinja_all_foreign[1] = { 1 };

/* ---- memory and failure ---- */

#define BLOCK_BYTES_MIN ((size_t)2 << 10) /* of the first; each is twice the one before */
#define BLOCK_BYTES_MAX ((size_t)64 << 10)
#define BLOCK_HEAD  ((sizeof(jinja_block) + 15) & ~(size_t)15)

_Noreturn void jinja_fail(jinja *j, fs_status code, const char *format, ...)
{
    char text[400];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    j->rc = fs_fail(j->err, code, "chat template, line %d: %s", j->line, text);
    longjmp(j->give_up, 1);
}

void *jinja_alloc(jinja *j, size_t n_bytes)
{
    jinja_block *b = j->blocks;
    size_t size, regular;
    void *p;

    if (n_bytes > j->memory_bytes_max - j->memory_bytes)
        jinja_fail(j, FS_ERR_FORMAT, "it needs more than %zu bytes of memory", j->memory_bytes_max);
    n_bytes = (n_bytes + 15) & ~(size_t)15;
    if (!b || n_bytes > b->size_bytes - b->used_bytes) {
        regular = j->block_bytes ? j->block_bytes : BLOCK_BYTES_MIN;
        size = n_bytes > regular / 4 ? n_bytes : regular;
        b = calloc(1, BLOCK_HEAD + size);
        if (!b) {
            j->rc = fs_fail_memory(j->err, BLOCK_HEAD + size);
            longjmp(j->give_up, 1);
        }
        b->size_bytes = size;
        /* A block that is full from the start goes behind the one that still has room. */
        if (j->blocks && size == n_bytes) {
            b->next = j->blocks->next;
            j->blocks->next = b;
        } else {
            b->next = j->blocks;
            j->blocks = b;
            j->block_bytes = regular < BLOCK_BYTES_MAX ? 2 * regular : regular;
        }
    }
    p = (uint8_t *)b + BLOCK_HEAD + b->used_bytes;
    b->used_bytes += n_bytes;
    j->memory_bytes += n_bytes < j->memory_bytes_max - j->memory_bytes ? n_bytes : j->memory_bytes_max - j->memory_bytes;
    return p;
}

void *jinja_alloc_n(jinja *j, size_t n, size_t size)
{
    size_t n_bytes;

    if (!fs_mul_size(n, size, &n_bytes))
        n_bytes = SIZE_MAX;
    return jinja_alloc(j, n_bytes);
}

void jinja_release(jinja *j)
{
    while (j->blocks) {
        jinja_block *next = j->blocks->next;
        free(j->blocks);
        j->blocks = next;
    }
}

void jinja_step(jinja *j, uint64_t n)
{
    if (n > j->steps_max - j->steps)
        jinja_fail(j, FS_ERR_FORMAT, "it takes more than %" PRIu64 " steps", j->steps_max);
    j->steps += n;
}

void jinja_enter(jinja *j)
{
    if (++j->depth > JINJA_DEPTH_MAX)
        jinja_fail(j, FS_ERR_FORMAT, "it nests deeper than %d", JINJA_DEPTH_MAX);
}

/* ---- text ---- */

static void reserve(jinja *j, jinja_builder *b, size_t extra)
{
    size_t capacity = b->capacity;
    uint8_t *data;

    if (extra > SIZE_MAX / 4 - b->n)
        jinja_fail(j, FS_ERR_FORMAT, "it needs more than %zu bytes of memory", j->memory_bytes_max);
    if (b->n + extra <= capacity)
        return;
    capacity = capacity < 32 ? 32 : capacity;
    while (capacity < b->n + extra)
        capacity *= 2;
    data = jinja_alloc(j, capacity);
    if (b->n)
        memcpy(data, b->data, b->n);
    b->data = data;
    if (b->foreign) {
        uint8_t *foreign = jinja_alloc(j, capacity);
        memcpy(foreign, b->foreign, b->n);
        b->foreign = foreign;
    }
    b->capacity = capacity;
}

void jinja_put(jinja *j, jinja_builder *b, jinja_str s)
{
    bool all = s.foreign == jinja_all_foreign;

    if (s.n == 0)
        return;
    jinja_step(j, s.n / 16);
    reserve(j, b, s.n);
    memcpy(b->data + b->n, s.data, s.n);
    if (b->n == 0)
        b->all_foreign = all;
    if (b->all_foreign && !all && !b->foreign) { /* until now every byte was */
        b->foreign = jinja_alloc(j, b->capacity);
        memset(b->foreign, 1, b->n);
    } else if (s.foreign && !b->all_foreign && !b->foreign) {
        b->foreign = jinja_alloc(j, b->capacity);
    }
    b->all_foreign = b->all_foreign && all;
    if (b->foreign) {
        if (s.foreign && !all)
            memcpy(b->foreign + b->n, s.foreign, s.n);
        else
            memset(b->foreign + b->n, all, s.n);
    }
    b->n += s.n;
}

void jinja_put_text(jinja *j, jinja_builder *b, const char *text)
{
    jinja_put(j, b, (jinja_str){ (const uint8_t *)text, strlen(text), NULL });
}

static const uint8_t *any_foreign(jinja_str s)
{
    bool foreign = s.foreign == jinja_all_foreign;

    for (size_t i = 0; s.foreign && i < s.n && !foreign; i++)
        foreign = s.foreign[i];
    return foreign ? jinja_all_foreign : NULL;
}

void jinja_put_like(jinja *j, jinja_builder *b, const char *text, jinja_str like)
{
    jinja_put(j, b, (jinja_str){ (const uint8_t *)text, strlen(text), any_foreign(like) });
}

void jinja_put_code(jinja *j, jinja_builder *b, uint32_t code, jinja_str like)
{
    uint8_t bytes[4];

    jinja_put(j, b, (jinja_str){ bytes, fs_utf8_put(code, bytes), any_foreign(like) });
}

jinja_str jinja_built(const jinja_builder *b)
{
    return (jinja_str){ b->data, b->n, b->n == 0 ? NULL : b->all_foreign ? jinja_all_foreign : b->foreign };
}

bool jinja_str_equal(jinja_str a, jinja_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.data, b.data, a.n) == 0);
}

bool jinja_str_is(jinja_str a, const char *b)
{
    return a.n == strlen(b) && memcmp(a.data ? a.data : (const uint8_t *)"", b, a.n) == 0;
}

jinja_str jinja_slice_bytes(jinja_str s, size_t from, size_t to)
{
    if (from >= to)
        return (jinja_str){ s.data, 0, NULL };
    return (jinja_str){ s.data + from, to - from, s.foreign && s.foreign != jinja_all_foreign ? s.foreign + from : s.foreign };
}

size_t jinja_str_chars(jinja *j, jinja_str s)
{
    size_t n = 0;

    jinja_step(j, s.n / 16);
    for (size_t i = 0; i < s.n; i++)
        n += (s.data[i] & 0xc0) != 0x80;
    return n;
}

jinja_str jinja_copy_text(jinja *j, const char *text)
{
    jinja_builder b = { 0 };

    jinja_put_text(j, &b, text);
    return jinja_built(&b);
}

bool jinja_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

size_t jinja_prev(jinja_str s, size_t end)
{
    do
        end--;
    while (end > 0 && (s.data[end] & 0xc0) == 0x80);
    return end;
}

/* ---- kinds ---- */

const char *jinja_kind_name(jinja_value v)
{
    static const char *const names[] = { "undefined", "none", "bool", "int", "float", "str", "list", "tuple", "range", "view", "iterator",
                                         "dict", "namespace", "loop", "macro", "method", "function" };

    return names[v.kind];
}

void jinja_check_defined(jinja *j, jinja_value v)
{
    if (v.kind == J_UNDEFINED)
        jinja_fail(j, FS_ERR_FORMAT, "'%.*s' is undefined", JFMT(v.s));
}

bool jinja_truth(jinja_value v)
{
    switch (v.kind) {
    case J_UNDEFINED:
    case J_NONE:
        return false;
    case J_BOOL:
        return v.b;
    case J_INT:
        return v.i != 0;
    case J_FLOAT:
        return v.f != 0;
    case J_STRING:
        return v.s.n != 0;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW:
        return v.list->n != 0;
    case J_DICT:
        return v.dict->n != 0;
    default:
        return true;
    }
}

/* -1, 0, 1, or 2 for a NaN. An integer and a float are compared exactly. */
static int order_numbers(jinja_value a, jinja_value b)
{
    int64_t ia = a.kind == J_BOOL ? a.b : a.i, ib = b.kind == J_BOOL ? b.b : b.i;

    if (a.kind != J_FLOAT && b.kind != J_FLOAT)
        return (ia > ib) - (ia < ib);
    if (a.kind == J_FLOAT && b.kind == J_FLOAT)
        return isnan(a.f) || isnan(b.f) ? 2 : (a.f > b.f) - (a.f < b.f);
    if (a.kind == J_FLOAT) {
        int o = order_numbers(b, a);
        return o == 2 ? 2 : -o;
    }
    if (isnan(b.f))
        return 2;
    if (b.f >= 0x1p63)
        return -1;
    if (b.f < -0x1p63)
        return 1;
    if (ia != (int64_t)b.f)
        return ia > (int64_t)b.f ? 1 : -1;
    return (b.f - (double)(int64_t)b.f > 0) ? -1 : (b.f - (double)(int64_t)b.f < 0);
}

bool jinja_equal(jinja *j, jinja_value a, jinja_value b)
{
    bool equal = true;

    jinja_step(j, 1);
    if (jinja_is_number(a) && jinja_is_number(b))
        return order_numbers(a, b) == 0;
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case J_UNDEFINED:
    case J_NONE:
        return true;
    case J_STRING:
        jinja_step(j, a.s.n == b.s.n ? a.s.n / 16 : 0);
        return jinja_str_equal(a.s, b.s);
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
        if (a.list->n != b.list->n)
            return false;
        jinja_enter(j);
        for (size_t i = 0; i < a.list->n && equal; i++)
            equal = jinja_equal(j, a.list->items[i], b.list->items[i]);
        jinja_leave(j);
        return equal;
    case J_DICT:
        if (a.dict->n != b.dict->n)
            return false;
        jinja_enter(j);
        for (size_t i = 0; i < a.dict->n && equal; i++) {
            jinja_value *v = jinja_dict_find(j, b.dict, a.dict->pairs[i].key);
            equal = v && jinja_equal(j, a.dict->pairs[i].value, *v);
        }
        jinja_leave(j);
        return equal;
    case J_VIEW:
        if (a.list != b.list && strcmp(a.list->what, "dict_values") != 0)
            jinja_fail(j, FS_ERR_UNSUPPORTED, "comparing the keys or items of dictionaries is not supported");
        return a.list == b.list;
    case J_GLOBAL:
        return a.global == b.global;
    case J_METHOD:
        return a.method == b.method;
    default:
        return a.dict == b.dict; /* the same object */
    }
}

int jinja_compare(jinja *j, jinja_value a, jinja_value b)
{
    int o = 0;

    jinja_step(j, 1);
    jinja_check_defined(j, a);
    jinja_check_defined(j, b);
    if (jinja_is_number(a) && jinja_is_number(b))
        return order_numbers(a, b);
    if (a.kind == J_STRING && b.kind == J_STRING) {
        size_t n = a.s.n < b.s.n ? a.s.n : b.s.n;
        jinja_step(j, n / 16);
        o = n ? memcmp(a.s.data, b.s.data, n) : 0; /* UTF-8 sorts as its characters do */
        return o ? (o > 0) - (o < 0) : (a.s.n > b.s.n) - (a.s.n < b.s.n);
    }
    if (a.kind != b.kind || (a.kind != J_LIST && a.kind != J_TUPLE))
        jinja_fail(j, FS_ERR_FORMAT, "%s and %s have no order", jinja_kind_name(a), jinja_kind_name(b));
    jinja_enter(j);
    for (size_t i = 0; i < a.list->n && i < b.list->n && o == 0; i++)
        if (!jinja_equal(j, a.list->items[i], b.list->items[i])) {
            o = jinja_compare(j, a.list->items[i], b.list->items[i]);
            jinja_leave(j);
            return o;
        }
    jinja_leave(j);
    return (a.list->n > b.list->n) - (a.list->n < b.list->n);
}

/* ---- printed forms ---- */

void jinja_put_double(jinja *j, jinja_builder *b, double f)
{
    char text[40], digits[60], *e;
    int n_digits, exponent;

    if (isnan(f) || isinf(f)) {
        jinja_put_text(j, b, isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    for (n_digits = 1; n_digits < 17; n_digits++) {
        snprintf(text, sizeof text, "%.*e", n_digits - 1, f);
        if (strtod(text, NULL) == f)
            break;
    }
    snprintf(text, sizeof text, "%.*e", n_digits - 1, f);
    e = strchr(text, 'e');
    exponent = atoi(e + 1);
    if (exponent >= -4 && exponent < 16) {
        int decimals = n_digits - 1 - exponent;
        snprintf(digits, sizeof digits, "%.*f", decimals > 1 ? decimals : 1, f);
        jinja_put_text(j, b, digits);
        return;
    }
    *e = 0;
    snprintf(digits, sizeof digits, "%se%c%02d", text, exponent < 0 ? '-' : '+', abs(exponent));
    jinja_put_text(j, b, digits);
}

static bool is_printable(uint32_t code)
{
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return code == ' ';
    default:
        return true;
    }
}

static void repr_string(jinja *j, jinja_builder *b, jinja_str s)
{
    bool single = s.n && memchr(s.data, '\'', s.n), both = single && memchr(s.data, '"', s.n);
    uint8_t quote = single && !both ? '"' : '\'';

    jinja_put(j, b, (jinja_str){ &quote, 1, NULL });
    for (size_t i = 0, n; i < s.n; i += n) {
        uint32_t code;
        char text[16];
        n = fs_utf8_next((fs_bytes){ s.data, s.n }, i, &code);
        jinja_step(j, 1);
        if (code == quote || code == '\\')
            snprintf(text, sizeof text, "\\%c", (char)code);
        else if (code == '\n' || code == '\r' || code == '\t')
            snprintf(text, sizeof text, "\\%c", code == '\n' ? 'n' : code == '\r' ? 'r' : 't');
        else if (is_printable(code))
            text[0] = 0;
        else
            snprintf(text, sizeof text, code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x", code);
        if (text[0])
            jinja_put_like(j, b, text, jinja_slice_bytes(s, i, i + n));
        else
            jinja_put(j, b, jinja_slice_bytes(s, i, i + n));
    }
    jinja_put(j, b, (jinja_str){ &quote, 1, NULL });
}

static void repr_items(jinja *j, jinja_builder *b, const jinja_list *l, const char *open, const char *close)
{
    jinja_put_text(j, b, open);
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            jinja_put_text(j, b, ", ");
        jinja_repr(j, b, l->items[i]);
    }
    jinja_put_text(j, b, close);
}

static void repr_range(jinja *j, jinja_builder *b, const jinja_list *l)
{
    char text[100];
    int64_t first = l->range[0], stop = l->range[1], step = l->range[2];

    if (step == 1)
        snprintf(text, sizeof text, "range(%" PRId64 ", %" PRId64 ")", first, stop);
    else
        snprintf(text, sizeof text, "range(%" PRId64 ", %" PRId64 ", %" PRId64 ")", first, stop, step);
    jinja_put_text(j, b, text);
}

void jinja_repr(jinja *j, jinja_builder *b, jinja_value v)
{
    char text[32];

    jinja_step(j, 1);
    jinja_enter(j);
    switch (v.kind) {
    case J_UNDEFINED:
        jinja_put_text(j, b, "Undefined");
        break;
    case J_NONE:
        jinja_put_text(j, b, "None");
        break;
    case J_BOOL:
        jinja_put_text(j, b, v.b ? "True" : "False");
        break;
    case J_INT:
        snprintf(text, sizeof text, "%" PRId64, v.i);
        jinja_put_text(j, b, text);
        break;
    case J_FLOAT:
        jinja_put_double(j, b, v.f);
        break;
    case J_STRING:
        repr_string(j, b, v.s);
        break;
    case J_LIST:
        repr_items(j, b, v.list, "[", "]");
        break;
    case J_TUPLE:
        repr_items(j, b, v.list, "(", v.list->n == 1 ? ",)" : ")");
        break;
    case J_RANGE:
        repr_range(j, b, v.list);
        break;
    case J_VIEW:
        jinja_put_text(j, b, v.list->what);
        repr_items(j, b, v.list, "([", "])");
        break;
    case J_DICT:
        jinja_put_text(j, b, "{");
        for (size_t i = 0; i < v.dict->n; i++) {
            if (i)
                jinja_put_text(j, b, ", ");
            jinja_repr(j, b, v.dict->pairs[i].key);
            jinja_put_text(j, b, ": ");
            jinja_repr(j, b, v.dict->pairs[i].value);
        }
        jinja_put_text(j, b, "}");
        break;
    default:
        jinja_fail(j, FS_ERR_UNSUPPORTED, "printing a %s is not supported", jinja_kind_name(v));
    }
    jinja_leave(j);
}

jinja_str jinja_to_str(jinja *j, jinja_value v)
{
    jinja_builder b = { 0 };

    if (v.kind == J_STRING)
        return v.s;
    if (v.kind == J_UNDEFINED)
        return JSTR("");
    jinja_repr(j, &b, v);
    return jinja_built(&b);
}

/* ---- lists and dictionaries ---- */

jinja_list *jinja_list_new(jinja *j)
{
    return jinja_alloc(j, sizeof(jinja_list));
}

void jinja_list_push(jinja *j, jinja_list *l, jinja_value v)
{
    if (l->n == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 4;
        jinja_value *items = jinja_alloc_n(j, capacity, sizeof *items);
        if (l->n)
            memcpy(items, l->items, l->n * sizeof *items);
        l->items = items;
        l->capacity = capacity;
    }
    jinja_step(j, 1);
    l->items[l->n++] = v;
}

jinja_list *jinja_iterate(jinja *j, jinja_value v)
{
    jinja_list *l = jinja_list_new(j);
    size_t n;

    switch (v.kind) {
    case J_UNDEFINED:
        return l;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW:
        return v.list;
    case J_ITERATOR:
        if (v.list->taken == v.list->n)
            return l;
        l->items = v.list->items + v.list->taken;
        l->n = v.list->n - v.list->taken;
        l->capacity = l->n; /* so that a push copies */
        v.list->taken = v.list->n;
        return l;
    case J_DICT:
        for (size_t i = 0; i < v.dict->n; i++)
            jinja_list_push(j, l, v.dict->pairs[i].key);
        return l;
    case J_STRING:
        for (size_t i = 0; i < v.s.n; i += n) {
            uint32_t code;
            n = fs_utf8_next((fs_bytes){ v.s.data, v.s.n }, i, &code);
            jinja_list_push(j, l, jinja_string(jinja_slice_bytes(v.s, i, i + n)));
        }
        return l;
    default:
        jinja_fail(j, FS_ERR_FORMAT, "a %s cannot be iterated", jinja_kind_name(v));
    }
}

size_t jinja_length(jinja *j, jinja_value v)
{
    switch (v.kind) {
    case J_UNDEFINED:
        return 0;
    case J_STRING:
        return jinja_str_chars(j, v.s);
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW:
        return v.list->n;
    case J_DICT:
        return v.dict->n;
    default:
        jinja_fail(j, FS_ERR_FORMAT, "a %s has no length", jinja_kind_name(v));
    }
}

jinja_dict *jinja_dict_new(jinja *j)
{
    return jinja_alloc(j, sizeof(jinja_dict));
}

static void check_key(jinja *j, jinja_value key)
{
    if (key.kind == J_LIST || key.kind == J_DICT)
        jinja_fail(j, FS_ERR_FORMAT, "a %s cannot be a key", jinja_kind_name(key));
    if (key.kind == J_TUPLE) {
        jinja_enter(j);
        for (size_t i = 0; i < key.list->n; i++)
            check_key(j, key.list->items[i]);
        jinja_leave(j);
    }
}

jinja_value *jinja_dict_find(jinja *j, const jinja_dict *d, jinja_value key)
{
    check_key(j, key);
    jinja_step(j, d->n / 8);
    for (size_t i = 0; i < d->n; i++) {
        jinja_value k = d->pairs[i].key;
        if (k.kind == J_STRING ? key.kind == J_STRING && jinja_str_equal(k.s, key.s) : key.kind != J_STRING && jinja_equal(j, k, key))
            return &d->pairs[i].value;
    }
    return NULL;
}

void jinja_dict_push(jinja *j, jinja_dict *d, jinja_value key, jinja_value value)
{
    if (d->n == d->capacity) {
        size_t capacity = d->capacity ? 2 * d->capacity : 4;
        jinja_pair *pairs = jinja_alloc_n(j, capacity, sizeof *pairs);
        if (d->n)
            memcpy(pairs, d->pairs, d->n * sizeof *pairs);
        d->pairs = pairs;
        d->capacity = capacity;
    }
    jinja_step(j, 1);
    d->pairs[d->n++] = (jinja_pair){ key, value };
}

void jinja_dict_set(jinja *j, jinja_dict *d, jinja_value key, jinja_value value)
{
    jinja_value *old = jinja_dict_find(j, d, key);

    if (old)
        *old = value;
    else
        jinja_dict_push(j, d, key, value);
}
