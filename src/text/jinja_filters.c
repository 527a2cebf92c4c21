/* Filters: value|name. */
#include "text/jinja_impl.h"

#include "base/utf8.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What all filters know of their call. */
typedef struct call {
    jinja_str name;
    jinja_value v;
    const jinja_args *args;
} call;

/* ---- text ---- */

static jinja_str soft(jinja *j, const call *c)
{
    return jinja_to_str(j, c->v);
}

static jinja_value filter_case(jinja *j, const call *c)
{
    jinja_check_args(j, c->name, c->args, 0, "");
    return jinja_string(jinja_case(j, soft(j, c), c->name.data[0]));
}

/* Jinja's title: words are split at white space and ([{<-. */
static jinja_value filter_title(jinja *j, const call *c)
{
    jinja_str s = soft(j, c);
    jinja_builder b = { 0 };
    size_t begin = 0;

    jinja_check_args(j, c->name, c->args, 0, "");
    for (size_t i = 0, n; i < s.n; i += n) {
        uint32_t code;
        n = fs_utf8_next((fs_bytes){ s.data, s.n }, i, &code);
        jinja_step(j, 1);
        if (!jinja_is_space(code) && !(code < 0x80 && strchr("-({[<", (int)code) && code))
            continue;
        jinja_put(j, &b, jinja_case(j, jinja_slice_bytes(s, begin, i), 'c'));
        jinja_put(j, &b, jinja_slice_bytes(s, i, i + n));
        begin = i + n;
    }
    jinja_put(j, &b, jinja_case(j, jinja_slice_bytes(s, begin, s.n), 'c'));
    return jinja_string(jinja_built(&b));
}

static jinja_value filter_trim(jinja *j, const call *c)
{
    const jinja_value *given = jinja_arg(c->args, 0, "chars");
    jinja_str chars;

    jinja_check_args(j, c->name, c->args, 1, "chars");
    if (!given || given->kind == J_NONE)
        return jinja_string(jinja_strip(j, soft(j, c), NULL, true, true));
    chars = jinja_arg_str(j, c->args, 0, "chars", JSTR(""));
    return jinja_string(jinja_strip(j, soft(j, c), &chars, true, true));
}

static jinja_value filter_replace(jinja *j, const call *c)
{
    const jinja_value *old = jinja_arg(c->args, 0, "old"), *with = jinja_arg(c->args, 1, "new"), *count = jinja_arg(c->args, 2, "count");

    jinja_check_args(j, c->name, c->args, 3, "old new count");
    if (!old || !with)
        jinja_fail(j, FS_ERR_FORMAT, "replace needs 2 arguments");
    return jinja_string(jinja_replace(j, soft(j, c), jinja_to_str(j, *old), jinja_to_str(j, *with),
                                      count && count->kind != J_NONE ? jinja_arg_int(j, c->args, 2, "count", -1) : -1));
}

static jinja_value filter_indent(jinja *j, const call *c)
{
    const jinja_value *width = jinja_arg(c->args, 0, "width");
    bool first = jinja_arg_truth(c->args, 1, "first", false), blank = jinja_arg_truth(c->args, 2, "blank", false);
    jinja_str s = soft(j, c), with;
    jinja_builder space = { 0 }, b = { 0 };
    size_t begin = 0;
    bool any = false;

    jinja_check_args(j, c->name, c->args, 3, "width first blank");
    if (width && width->kind == J_STRING) {
        with = width->s;
    } else {
        for (int64_t i = jinja_arg_int(j, c->args, 0, "width", 4); i > 0; i--)
            jinja_put_text(j, &space, " ");
        with = jinja_built(&space);
    }
    if (first)
        jinja_put(j, &b, with);
    for (size_t i = 0; i < s.n; i++) {
        uint8_t ch = s.data[i];
        jinja_step(j, 1);
        /* splitlines knows more line ends, which become \n; they do not occur in what templates indent. */
        if (ch == '\r' || ch == '\v' || ch == '\f' || (ch >= 0x1c && ch <= 0x1e) || (ch == 0xc2 && s.data[i + 1] == 0x85) ||
            (ch == 0xe2 && s.data[i + 1] == 0x80 && (s.data[i + 2] == 0xa8 || s.data[i + 2] == 0xa9)))
            jinja_fail(j, FS_ERR_UNSUPPORTED, "indenting a text with line ends other than U+000A is not supported");
        if (ch != '\n')
            continue;
        if (any && (blank || i > begin))
            jinja_put(j, &b, with);
        jinja_put(j, &b, jinja_slice_bytes(s, begin, i + 1));
        begin = i + 1;
        any = true;
    }
    if (any && (blank || begin < s.n))
        jinja_put(j, &b, with);
    jinja_put(j, &b, jinja_slice_bytes(s, begin, s.n));
    return jinja_string(jinja_built(&b));
}

static jinja_value filter_escape(jinja *j, const call *c)
{
    static const struct {
        char from;
        const char *to;
    } table[] = { { '&', "&amp;" }, { '<', "&lt;" }, { '>', "&gt;" }, { '\'', "&#39;" }, { '"', "&#34;" } };
    jinja_str s = soft(j, c);
    jinja_builder b = { 0 };
    size_t plain = 0;

    jinja_check_args(j, c->name, c->args, 0, "");
    jinja_step(j, s.n);
    for (size_t i = 0; i < s.n; i++)
        for (size_t k = 0; k < sizeof table / sizeof *table; k++)
            if (s.data[i] == (uint8_t)table[k].from) {
                jinja_put(j, &b, jinja_slice_bytes(s, plain, i));
                jinja_put_like(j, &b, table[k].to, jinja_slice_bytes(s, i, i + 1));
                plain = i + 1;
            }
    jinja_put(j, &b, jinja_slice_bytes(s, plain, s.n));
    return jinja_string(jinja_built(&b));
}

static jinja_value filter_string(jinja *j, const call *c)
{
    jinja_check_args(j, c->name, c->args, 0, "");
    return jinja_string(soft(j, c));
}

static jinja_value filter_wordcount(jinja *j, const call *c)
{
    jinja_str s = soft(j, c);
    int64_t n = 0;
    bool inside = false;

    jinja_check_args(j, c->name, c->args, 0, "");
    for (size_t i = 0; i < s.n; i++) {
        bool word = isalnum(s.data[i]) || s.data[i] == '_';
        if (s.data[i] >= 0x80)
            jinja_fail(j, FS_ERR_UNSUPPORTED, "wordcount of a text that is not ASCII is not supported");
        n += word && !inside;
        inside = word;
    }
    jinja_step(j, s.n);
    return jinja_int(n);
}

/* ---- JSON ---- */

static jinja_value filter_tojson(jinja *j, const call *c)
{
    const jinja_value *indent = jinja_arg(c->args, 1, "indent"), *separators = jinja_arg(c->args, 2, "separators");
    jinja_json_style style = { .ascii = jinja_arg_truth(c->args, 0, "ensure_ascii", false), .sort_keys = jinja_arg_truth(c->args, 3, "sort_keys", false),
                               .item = JSTR(", "), .key = JSTR(": ") };
    jinja_builder space = { 0 }, b = { 0 };

    jinja_check_args(j, c->name, c->args, 4, "ensure_ascii indent separators sort_keys");
    if (indent && indent->kind != J_NONE) {
        style.has_indent = true;
        style.item = JSTR(",");
        if (indent->kind == J_STRING) {
            style.indent = indent->s;
        } else {
            for (int64_t i = jinja_arg_int(j, c->args, 1, "indent", 0); i > 0; i--)
                jinja_put_text(j, &space, " ");
            style.indent = jinja_built(&space);
        }
    }
    if (separators && separators->kind != J_NONE) {
        jinja_list *l = jinja_iterate(j, *separators);
        if (l->n != 2 || l->items[0].kind != J_STRING || l->items[1].kind != J_STRING)
            jinja_fail(j, FS_ERR_FORMAT, "tojson: separators are no two strings");
        style.item = l->items[0].s;
        style.key = l->items[1].s;
    }
    jinja_to_json(j, &b, c->v, &style, 0);
    return jinja_string(jinja_built(&b));
}

/* ---- numbers ---- */

/* The number that text spells as Python's int(text, base) reads it; false: none. */
static bool read_int(jinja *j, jinja_str s, int base, int64_t *ret)
{
    char text[72];
    size_t n = 0;
    char *end;
    bool after_digit = false;

    s = jinja_strip(j, s, NULL, true, true);
    for (size_t i = 0; i < s.n; i++) {
        if (s.data[i] == '_') {
            if (!after_digit || i + 1 == s.n || !isalnum(s.data[i + 1]))
                return false;
            after_digit = false;
            continue;
        }
        if ((s.data[i] == '-' || s.data[i] == '+') ? i > 0 : !isalnum(s.data[i]))
            return false;
        after_digit = isalnum(s.data[i]);
        if (n == 64)
            jinja_fail(j, FS_ERR_UNSUPPORTED, "an integer of more than 64 bits is not supported");
        text[n++] = (char)s.data[i];
    }
    text[n] = 0;
    if (n == 0)
        return false;
    *ret = strtoll(text, &end, base);
    if (*end || end == text)
        return false;
    if (*ret == INT64_MAX || *ret == INT64_MIN)
        jinja_fail(j, FS_ERR_UNSUPPORTED, "an integer of more than 64 bits is not supported");
    return true;
}

static bool read_float(jinja *j, jinja_str s, double *ret)
{
    char text[100], *end;
    const char *p = text;

    s = jinja_strip(j, s, NULL, true, true);
    if (s.n == 0 || s.n >= sizeof text || memchr(s.data, 0, s.n))
        return false;
    memcpy(text, s.data, s.n);
    text[s.n] = 0;
    if (memchr(text, '_', s.n))
        jinja_fail(j, FS_ERR_UNSUPPORTED, "underscores in the text of a float are not supported");
    p += *p == '-' || *p == '+';
    if ((p[0] == '0' && (p[1] | 32) == 'x') || ((p[0] | 32) == 'n' && p[3] == '('))
        return false;
    *ret = strtod(text, &end);
    return *end == 0 && end != text;
}

static bool whole(jinja *j, double f, int64_t *ret)
{
    if (isnan(f) || isinf(f))
        return false;
    if (fabs(f) >= 0x1p63)
        jinja_fail(j, FS_ERR_UNSUPPORTED, "an integer of more than 64 bits is not supported");
    *ret = (int64_t)f;
    return true;
}

static jinja_value filter_int(jinja *j, const call *c)
{
    const jinja_value *otherwise = jinja_arg(c->args, 0, "default");
    int64_t base = jinja_arg_int(j, c->args, 1, "base", 10), i;
    double f;

    jinja_check_args(j, c->name, c->args, 2, "default base");
    if (base < 2 || base > 36)
        jinja_fail(j, FS_ERR_UNSUPPORTED, "int: base %" PRId64 " is not supported", base);
    jinja_check_defined(j, c->v);
    if (c->v.kind == J_INT || c->v.kind == J_BOOL)
        return jinja_int(c->v.kind == J_INT ? c->v.i : c->v.b);
    if (c->v.kind == J_STRING && base != 10 && base != 16)
        jinja_fail(j, FS_ERR_UNSUPPORTED, "int: base %" PRId64 " is not supported", base);
    if (c->v.kind == J_FLOAT ? whole(j, c->v.f, &i) :
        c->v.kind == J_STRING && (read_int(j, c->v.s, (int)base, &i) || (read_float(j, c->v.s, &f) && whole(j, f, &i))))
        return jinja_int(i);
    return otherwise ? *otherwise : jinja_int(0);
}

static jinja_value filter_float(jinja *j, const call *c)
{
    const jinja_value *otherwise = jinja_arg(c->args, 0, "default");
    double f;

    jinja_check_args(j, c->name, c->args, 1, "default");
    jinja_check_defined(j, c->v);
    if (jinja_is_number(c->v))
        return c->v.kind == J_FLOAT ? c->v : jinja_float(c->v.kind == J_INT ? (double)c->v.i : c->v.b);
    if (c->v.kind == J_STRING && read_float(j, c->v.s, &f))
        return jinja_float(f);
    return otherwise ? *otherwise : jinja_float(0);
}

static jinja_value filter_abs(jinja *j, const call *c)
{
    jinja_check_args(j, c->name, c->args, 0, "");
    jinja_check_defined(j, c->v);
    if (!jinja_is_number(c->v))
        jinja_fail(j, FS_ERR_FORMAT, "abs of a %s", jinja_kind_name(c->v));
    if (c->v.kind == J_FLOAT)
        return jinja_float(fabs(c->v.f));
    if (c->v.kind == J_BOOL || c->v.i >= 0)
        return jinja_int(c->v.kind == J_BOOL ? c->v.b : c->v.i);
    return jinja_binary(j, OP_SUB, jinja_int(0), c->v);
}

static jinja_value filter_round(jinja *j, const call *c)
{
    int64_t precision = jinja_arg_int(j, c->args, 0, "precision", 0);
    jinja_str method = jinja_arg_str(j, c->args, 1, "method", JSTR("common"));
    char text[400];
    double f, scale;

    jinja_check_args(j, c->name, c->args, 2, "precision method");
    jinja_check_defined(j, c->v);
    if (!jinja_is_number(c->v))
        jinja_fail(j, FS_ERR_FORMAT, "round of a %s", jinja_kind_name(c->v));
    if (precision < 0 || precision > 30)
        jinja_fail(j, FS_ERR_UNSUPPORTED, "round: a precision of %" PRId64 " is not supported", precision);
    f = c->v.kind == J_FLOAT ? c->v.f : c->v.kind == J_INT ? (double)c->v.i : c->v.b;
    if (jinja_str_is(method, "common")) {
        if (c->v.kind != J_FLOAT)
            return jinja_int(c->v.kind == J_INT ? c->v.i : c->v.b);
        snprintf(text, sizeof text, "%.*f", (int)precision, f);
        return jinja_float(strtod(text, NULL));
    }
    if (!jinja_str_is(method, "ceil") && !jinja_str_is(method, "floor"))
        jinja_fail(j, FS_ERR_FORMAT, "round: the method '%.*s' is none of common, ceil and floor", JFMT(method));
    scale = strtod((snprintf(text, sizeof text, "1e%d", (int)precision), text), NULL);
    f = f * scale;
    return jinja_float((method.data[0] == 'c' ? ceil(f) : floor(f)) / scale);
}

/* ---- sequences ---- */

static jinja_value filter_length(jinja *j, const call *c)
{
    jinja_check_args(j, c->name, c->args, 0, "");
    return jinja_int((int64_t)jinja_length(j, c->v));
}

static jinja_value filter_default(jinja *j, const call *c)
{
    const jinja_value *other = jinja_arg(c->args, 0, "default_value");
    bool also_false = jinja_arg_truth(c->args, 1, "boolean", false);

    jinja_check_args(j, c->name, c->args, 2, "default_value boolean");
    if (c->v.kind == J_UNDEFINED || (also_false && !jinja_truth(c->v)))
        return other ? *other : jinja_string(JSTR(""));
    return c->v;
}

static jinja_value filter_first(jinja *j, const call *c)
{
    jinja_list *l = jinja_iterate(j, c->v);

    jinja_check_args(j, c->name, c->args, 0, "");
    if (c->v.kind == J_ITERATOR && l->n) /* takes one, leaves the rest */
        c->v.list->taken -= l->n - 1;
    return l->n ? l->items[0] : jinja_undefined(JSTR("the first item of nothing"));
}

static jinja_value filter_last(jinja *j, const call *c)
{
    jinja_list *l = jinja_iterate(j, c->v);

    jinja_check_args(j, c->name, c->args, 0, "");
    if (c->v.kind == J_ITERATOR || c->v.kind == J_UNDEFINED)
        jinja_fail(j, FS_ERR_FORMAT, "last of a %s", jinja_kind_name(c->v));
    return l->n ? l->items[l->n - 1] : jinja_undefined(JSTR("the last item of nothing"));
}

/* What "a.b.0" of an item is; a NULL path is the item. */
static jinja_value attribute(jinja *j, jinja_value item, const jinja_value *path, const jinja_value *otherwise)
{
    jinja_str s;

    if (!path || path->kind == J_NONE)
        return item;
    if (path->kind == J_INT)
        return jinja_get_item(j, item, *path);
    if (path->kind != J_STRING)
        jinja_fail(j, FS_ERR_FORMAT, "an attribute is a %s, expected a str", jinja_kind_name(*path));
    s = path->s;
    for (bool more = true; more;) {
        size_t dot = jinja_find(j, s, JSTR("."), 0);
        jinja_str part = jinja_slice_bytes(s, 0, dot < s.n ? dot : s.n);
        int64_t i;
        bool digits = part.n > 0 && part.n < 18;
        for (size_t k = 0; k < part.n && digits; k++)
            digits = isdigit(part.data[k]) != 0;
        item = jinja_get_item(j, item, digits && read_int(j, part, 10, &i) ? jinja_int(i) : jinja_string(part));
        if (otherwise && item.kind == J_UNDEFINED)
            item = *otherwise;
        more = dot < s.n;
        s = jinja_slice_bytes(s, dot + 1, s.n);
    }
    return item;
}

static jinja_value filter_join(jinja *j, const call *c)
{
    const jinja_value *between = jinja_arg(c->args, 0, "d"), *path = jinja_arg(c->args, 1, "attribute");
    jinja_list *l = jinja_iterate(j, c->v);
    jinja_builder b = { 0 };

    jinja_check_args(j, c->name, c->args, 2, "d attribute");
    for (size_t i = 0; i < l->n; i++) {
        if (i && between)
            jinja_put(j, &b, jinja_to_str(j, *between));
        jinja_put(j, &b, jinja_to_str(j, attribute(j, l->items[i], path, NULL)));
    }
    return jinja_string(jinja_built(&b));
}

static jinja_list *copy_items(jinja *j, jinja_value v)
{
    jinja_list *from = jinja_iterate(j, v), *l = jinja_list_new(j);

    for (size_t i = 0; i < from->n; i++)
        jinja_list_push(j, l, from->items[i]);
    return l;
}

static jinja_value filter_list(jinja *j, const call *c)
{
    jinja_check_args(j, c->name, c->args, 0, "");
    return jinja_of_list(J_LIST, copy_items(j, c->v));
}

static jinja_value pairs_of(jinja *j, const jinja_dict *d, jinja_kind kind)
{
    jinja_list *l = jinja_list_new(j);

    for (size_t i = 0; i < d->n; i++) {
        jinja_list *pair = jinja_list_new(j);
        jinja_list_push(j, pair, d->pairs[i].key);
        jinja_list_push(j, pair, d->pairs[i].value);
        jinja_list_push(j, l, jinja_of_list(J_TUPLE, pair));
    }
    return jinja_of_list(kind, l);
}

static jinja_value filter_items(jinja *j, const call *c)
{
    jinja_check_args(j, c->name, c->args, 0, "");
    if (c->v.kind == J_UNDEFINED)
        return jinja_of_list(J_ITERATOR, jinja_list_new(j));
    if (c->v.kind != J_DICT)
        jinja_fail(j, FS_ERR_FORMAT, "items of a %s", jinja_kind_name(c->v));
    return pairs_of(j, c->v.dict, J_ITERATOR);
}

static jinja_value filter_reverse(jinja *j, const call *c)
{
    jinja_list *l;

    jinja_check_args(j, c->name, c->args, 0, "");
    if (c->v.kind == J_ITERATOR || c->v.kind == J_UNDEFINED)
        jinja_fail(j, FS_ERR_FORMAT, "reverse of a %s", jinja_kind_name(c->v));
    l = copy_items(j, c->v);
    for (size_t i = 0; i < l->n / 2; i++) {
        jinja_value v = l->items[i];
        l->items[i] = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = v;
    }
    if (c->v.kind == J_STRING) {
        jinja_builder b = { 0 };
        for (size_t i = 0; i < l->n; i++)
            jinja_put(j, &b, l->items[i].s);
        return jinja_string(jinja_built(&b));
    }
    return jinja_of_list(J_ITERATOR, l);
}

static jinja_value fold(jinja *j, jinja_value v, bool case_sensitive)
{
    return v.kind == J_STRING && !case_sensitive ? jinja_string(jinja_case(j, v.s, 'l')) : v;
}

/* Merge sort of items by keys, which keeps equal ones in order (reversed too, as Python's). */
static void sort_by(jinja *j, jinja_value *keys, jinja_value *items, size_t n, bool down)
{
    jinja_value *k = jinja_alloc_n(j, n, sizeof *k), *v = jinja_alloc_n(j, n, sizeof *v);

    for (size_t half = 1; half < n; half *= 2) {
        for (size_t begin = 0; begin < n; begin += 2 * half) {
            size_t mid = begin + half < n ? begin + half : n, end = mid + half < n ? mid + half : n, a = begin, b = mid;
            for (size_t i = begin; i < end; i++) {
                bool left = b == end;
                if (a < mid && b < end) {
                    int o = jinja_compare(j, keys[b], keys[a]);
                    left = o == 2 || (down ? o <= 0 : o >= 0);
                }
                k[i] = left ? keys[a] : keys[b];
                v[i] = left ? items[a++] : items[b++];
            }
        }
        memcpy(keys, k, n * sizeof *k);
        memcpy(items, v, n * sizeof *v);
    }
}

static jinja_value filter_sort(jinja *j, const call *c)
{
    bool down = jinja_arg_truth(c->args, 0, "reverse", false), case_sensitive = jinja_arg_truth(c->args, 1, "case_sensitive", false);
    const jinja_value *path = jinja_arg(c->args, 2, "attribute");
    jinja_list *l = copy_items(j, c->v);
    jinja_value *keys = jinja_alloc_n(j, l->n, sizeof *keys);

    jinja_check_args(j, c->name, c->args, 3, "reverse case_sensitive attribute");
    if (path && path->kind == J_STRING && path->s.n && memchr(path->s.data, ',', path->s.n))
        jinja_fail(j, FS_ERR_UNSUPPORTED, "sort by several attributes is not supported");
    for (size_t i = 0; i < l->n; i++)
        keys[i] = fold(j, attribute(j, l->items[i], path, NULL), case_sensitive);
    sort_by(j, keys, l->items, l->n, down);
    return jinja_of_list(J_LIST, l);
}

static jinja_value filter_dictsort(jinja *j, const call *c)
{
    bool case_sensitive = jinja_arg_truth(c->args, 0, "case_sensitive", false), down = jinja_arg_truth(c->args, 2, "reverse", false);
    jinja_str by = jinja_arg_str(j, c->args, 1, "by", JSTR("key"));
    jinja_value pairs, *keys;

    jinja_check_args(j, c->name, c->args, 3, "case_sensitive by reverse");
    jinja_check_defined(j, c->v);
    if (c->v.kind != J_DICT || !(jinja_str_is(by, "key") || jinja_str_is(by, "value")))
        jinja_fail(j, FS_ERR_FORMAT, "dictsort of a %s by '%.*s'", jinja_kind_name(c->v), JFMT(by));
    pairs = pairs_of(j, c->v.dict, J_LIST);
    keys = jinja_alloc_n(j, pairs.list->n, sizeof *keys);
    for (size_t i = 0; i < pairs.list->n; i++)
        keys[i] = fold(j, pairs.list->items[i].list->items[by.n == 5], case_sensitive);
    sort_by(j, keys, pairs.list->items, pairs.list->n, down);
    return pairs;
}

static jinja_value filter_unique(jinja *j, const call *c)
{
    bool case_sensitive = jinja_arg_truth(c->args, 0, "case_sensitive", false);
    const jinja_value *path = jinja_arg(c->args, 1, "attribute");
    jinja_list *from = jinja_iterate(j, c->v), *l = jinja_list_new(j);
    jinja_dict *seen = jinja_dict_new(j);

    jinja_check_args(j, c->name, c->args, 2, "case_sensitive attribute");
    for (size_t i = 0; i < from->n; i++) {
        jinja_value key = fold(j, attribute(j, from->items[i], path, NULL), case_sensitive);
        if (jinja_dict_find(j, seen, key))
            continue;
        jinja_dict_push(j, seen, key, key);
        jinja_list_push(j, l, from->items[i]);
    }
    return jinja_of_list(J_ITERATOR, l);
}

static jinja_value filter_min_max(jinja *j, const call *c)
{
    bool case_sensitive = jinja_arg_truth(c->args, 0, "case_sensitive", false), max = c->name.data[1] == 'a';
    const jinja_value *path = jinja_arg(c->args, 1, "attribute");
    jinja_list *l = jinja_iterate(j, c->v);
    jinja_value best_key = { .kind = J_NONE }, best = jinja_undefined(JSTR("the extreme of nothing"));

    jinja_check_args(j, c->name, c->args, 2, "case_sensitive attribute");
    for (size_t i = 0; i < l->n; i++) {
        jinja_value key = fold(j, attribute(j, l->items[i], path, NULL), case_sensitive);
        int o = i ? jinja_compare(j, key, best_key) : 0;
        if (i && (o == 2 || (max ? o <= 0 : o >= 0)))
            continue;
        best_key = key;
        best = l->items[i];
    }
    return best;
}

static jinja_value filter_sum(jinja *j, const call *c)
{
    const jinja_value *path = jinja_arg(c->args, 0, "attribute"), *start = jinja_arg(c->args, 1, "start");
    jinja_list *l = jinja_iterate(j, c->v);
    jinja_value sum = start ? *start : jinja_int(0);

    jinja_check_args(j, c->name, c->args, 2, "attribute start");
    if (sum.kind == J_STRING)
        jinja_fail(j, FS_ERR_FORMAT, "sum of strings");
    for (size_t i = 0; i < l->n; i++)
        sum = jinja_binary(j, OP_ADD, sum, attribute(j, l->items[i], path, NULL));
    return sum;
}

static jinja_args rest_of(const jinja_args *a, size_t n)
{
    return (jinja_args){ a->items + n, a->n - n, a->names, a->named, a->n_named };
}

/* map and select look at nothing when the value is false, even where that is none. */
static jinja_list *items_if_any(jinja *j, jinja_value v)
{
    return jinja_truth(v) ? jinja_iterate(j, v) : jinja_list_new(j);
}

static jinja_value filter_map(jinja *j, const call *c)
{
    const jinja_value *path = c->args->n ? NULL : jinja_arg(c->args, 0, "attribute"), *otherwise = jinja_arg(&(jinja_args){ .names = c->args->names, .named = c->args->named, .n_named = c->args->n_named }, 0, "default");
    jinja_list *from = items_if_any(j, c->v), *l = jinja_list_new(j);

    if (path)
        jinja_check_args(j, c->name, c->args, 0, "attribute default");
    else if (c->args->n == 0 || c->args->items[0].kind != J_STRING)
        jinja_fail(j, FS_ERR_FORMAT, "map needs the name of a filter, or an attribute");
    for (size_t i = 0; i < from->n; i++)
        jinja_list_push(j, l, path ? attribute(j, from->items[i], path, otherwise) :
                                     jinja_filter(j, c->args->items[0].s, from->items[i], rest_of(c->args, 1)));
    return jinja_of_list(J_ITERATOR, l);
}

/* select, reject, selectattr, rejectattr */
static jinja_value filter_select(jinja *j, const call *c)
{
    bool keep = c->name.data[0] == 's', by_attribute = c->name.n > 6;
    size_t n = by_attribute;
    jinja_list *from = items_if_any(j, c->v), *l = jinja_list_new(j);

    if (c->args->n < n)
        jinja_fail(j, FS_ERR_FORMAT, "%.*s needs an attribute", JFMT(c->name));
    if (c->args->n > n && c->args->items[n].kind != J_STRING)
        jinja_fail(j, FS_ERR_FORMAT, "%.*s needs the name of a test", JFMT(c->name));
    for (size_t i = 0; i < from->n; i++) {
        jinja_value v = by_attribute ? attribute(j, from->items[i], &c->args->items[0], NULL) : from->items[i];
        bool is = c->args->n > n ? jinja_test(j, c->args->items[n].s, v, rest_of(c->args, n + 1)) : jinja_truth(v);
        if (is == keep)
            jinja_list_push(j, l, from->items[i]);
    }
    return jinja_of_list(J_ITERATOR, l);
}

static jinja_value filter_attr(jinja *j, const call *c)
{
    bool unsafe;
    jinja_str name = jinja_arg_str(j, c->args, 0, "name", JSTR(""));

    jinja_check_args(j, c->name, c->args, 1, "name");
    jinja_check_defined(j, c->v);
    if (c->v.kind != J_DICT || jinja_has_method(c->v, name, &unsafe))
        return jinja_get_attr(j, c->v, name);
    return jinja_undefined(name); /* an attribute, never an item */
}

typedef jinja_value filter_fn(jinja *j, const call *c);

static const struct {
    const char *name;
    filter_fn *fn;
} filters[] = {
    { "abs", filter_abs },           { "attr", filter_attr },         { "capitalize", filter_case }, { "count", filter_length },
    { "d", filter_default },         { "default", filter_default },   { "dictsort", filter_dictsort }, { "e", filter_escape },
    { "escape", filter_escape },     { "first", filter_first },       { "float", filter_float },     { "indent", filter_indent },
    { "int", filter_int },           { "items", filter_items },       { "join", filter_join },       { "last", filter_last },
    { "length", filter_length },     { "list", filter_list },         { "lower", filter_case },      { "map", filter_map },
    { "max", filter_min_max },       { "min", filter_min_max },       { "reject", filter_select },   { "rejectattr", filter_select },
    { "replace", filter_replace },   { "reverse", filter_reverse },   { "round", filter_round },     { "safe", filter_string },
    { "select", filter_select },     { "selectattr", filter_select }, { "sort", filter_sort },       { "string", filter_string },
    { "sum", filter_sum },           { "title", filter_title },       { "tojson", filter_tojson },   { "trim", filter_trim },
    { "unique", filter_unique },     { "upper", filter_case },        { "wordcount", filter_wordcount },
};

jinja_value jinja_filter(jinja *j, jinja_str name, jinja_value v, jinja_args args)
{
    call c = { name, v, &args };

    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (jinja_str_is(name, filters[i].name)) {
            jinja_enter(j);
            v = filters[i].fn(j, &c);
            jinja_leave(j);
            return v;
        }
    jinja_fail(j, FS_ERR_UNSUPPORTED, "the filter '%.*s' is not known here", JFMT(name));
}

bool jinja_filter_is_known(jinja_str name)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (jinja_str_is(name, filters[i].name))
            return true;
    return false;
}
