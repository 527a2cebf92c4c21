/* Methods of strings, lists, dictionaries and tuples, as Python's; global functions; arguments; and the text functions that
 * filters share. Methods that change their object are refused by the sandbox: here they are undefined. */
#include "text/jinja_impl.h"

#include "base/utf8.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

/* ---- arguments ---- */

const jinja_value *jinja_arg(const jinja_args *a, size_t i, const char *name)
{
    if (i < a->n)
        return &a->items[i];
    for (size_t k = 0; name && k < a->n_named; k++)
        if (jinja_str_is(a->names[k], name))
            return &a->named[k];
    return NULL;
}

static bool word_of(const char *words, jinja_str word)
{
    for (const char *w = words; *w;) {
        size_t n = strcspn(w, " ");
        if (n == word.n && memcmp(w, word.data, n) == 0)
            return true;
        w += n + (w[n] == ' ');
    }
    return false;
}

void jinja_check_args(jinja *j, jinja_str what, const jinja_args *a, size_t n_max, const char *names)
{
    if (a->n > n_max)
        jinja_fail(j, FS_ERR_FORMAT, "'%.*s' takes at most %zu arguments, found %zu", JFMT(what), n_max, a->n);
    for (size_t i = 0; i < a->n_named; i++)
        if (!word_of(names, a->names[i]))
            jinja_fail(j, FS_ERR_FORMAT, "'%.*s' has no argument '%.*s'", JFMT(what), JFMT(a->names[i]));
}

int64_t jinja_arg_int(jinja *j, const jinja_args *a, size_t i, const char *name, int64_t otherwise)
{
    const jinja_value *v = jinja_arg(a, i, name);

    if (!v)
        return otherwise;
    if (v->kind != J_INT && v->kind != J_BOOL)
        jinja_fail(j, FS_ERR_FORMAT, "argument %zu is a %s, expected an int", i + 1, jinja_kind_name(*v));
    return v->kind == J_INT ? v->i : v->b;
}

bool jinja_arg_truth(const jinja_args *a, size_t i, const char *name, bool otherwise)
{
    const jinja_value *v = jinja_arg(a, i, name);

    return v ? jinja_truth(*v) : otherwise;
}

jinja_str jinja_arg_str(jinja *j, const jinja_args *a, size_t i, const char *name, jinja_str otherwise)
{
    const jinja_value *v = jinja_arg(a, i, name);

    if (!v)
        return otherwise;
    if (v->kind != J_STRING)
        jinja_fail(j, FS_ERR_FORMAT, "argument %zu is a %s, expected a str", i + 1, jinja_kind_name(*v));
    return v->s;
}

/* ---- text ---- */

static bool strips(jinja_str s, size_t at, size_t end, const jinja_str *chars)
{
    uint32_t code;

    if (!chars) {
        fs_utf8_next((fs_bytes){ s.data, s.n }, at, &code);
        return jinja_is_space(code);
    }
    /* Whole characters of UTF-8 match only at character boundaries. */
    return chars->n >= end - at && memmem(chars->data, chars->n, s.data + at, end - at) != NULL;
}

jinja_str jinja_strip(jinja *j, jinja_str s, const jinja_str *chars, bool left, bool right)
{
    size_t begin = 0, end = s.n;

    while (left && begin < end) {
        size_t next = begin + 1;
        while (next < end && (s.data[next] & 0xc0) == 0x80)
            next++;
        if (!strips(s, begin, next, chars))
            break;
        jinja_step(j, 1 + (chars ? chars->n / 16 : 0));
        begin = next;
    }
    while (right && begin < end) {
        size_t prev = jinja_prev(s, end);
        if (!strips(s, prev, end, chars))
            break;
        jinja_step(j, 1 + (chars ? chars->n / 16 : 0));
        end = prev;
    }
    return jinja_slice_bytes(s, begin, end);
}

size_t jinja_find(jinja *j, jinja_str s, jinja_str part, size_t from)
{
    const uint8_t *p;

    if (from > s.n || part.n > s.n - from)
        return s.n + 1;
    if (part.n == 0)
        return from;
    p = memmem(s.data + from, s.n - from, part.data, part.n);
    jinja_step(j, (p ? (size_t)(p - s.data) - from : s.n - from) / 16 + 1);
    return p ? (size_t)(p - s.data) : s.n + 1;
}

/* Where part begins last in s[0, end), or s.n + 1. */
static size_t find_last(jinja *j, jinja_str s, jinja_str part, size_t end)
{
    for (size_t at = end; at >= part.n; at--) {
        jinja_step(j, 1);
        if (part.n == 0 || memcmp(s.data + at - part.n, part.data, part.n) == 0)
            return at - part.n;
    }
    return s.n + 1;
}

jinja_str jinja_replace(jinja *j, jinja_str s, jinja_str old, jinja_str with, int64_t count)
{
    jinja_builder b = { 0 };
    size_t at = 0, found;

    for (; count != 0; count--) {
        jinja_step(j, 1);
        if (old.n == 0) { /* between all characters */
            uint32_t code;
            size_t n;
            jinja_put(j, &b, with);
            if (at >= s.n)
                return jinja_built(&b);
            n = fs_utf8_next((fs_bytes){ s.data, s.n }, at, &code);
            jinja_put(j, &b, jinja_slice_bytes(s, at, at + n));
            at += n;
            continue;
        }
        found = jinja_find(j, s, old, at);
        if (found > s.n)
            break;
        jinja_put(j, &b, jinja_slice_bytes(s, at, found));
        jinja_put(j, &b, with);
        at = found + old.n;
    }
    jinja_put(j, &b, jinja_slice_bytes(s, at, s.n));
    return jinja_built(&b);
}

static bool is_cased(uint32_t code)
{
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);

    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT;
}

static bool is_letter(uint32_t code)
{
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);

    return is_cased(code) || c == UTF8PROC_CATEGORY_LM || c == UTF8PROC_CATEGORY_LO;
}

jinja_str jinja_case(jinja *j, jinja_str s, int mode)
{
    jinja_builder b = { 0 };
    bool inside = false;

    for (size_t i = 0, n; i < s.n; i += n) {
        uint32_t code;
        bool up;
        n = fs_utf8_next((fs_bytes){ s.data, s.n }, i, &code);
        jinja_step(j, 1);
        up = mode == 'u' || (!inside && mode != 'l');
        inside = mode != 't' || is_cased(code);
        if (up && code == 0xdf) { /* the one common letter whose other case is two */
            jinja_put_code(j, &b, 'S', jinja_slice_bytes(s, i, i + n));
            jinja_put_code(j, &b, mode == 'u' ? 'S' : 's', jinja_slice_bytes(s, i, i + n));
            continue;
        }
        code = (uint32_t)(mode == 'u' ? utf8proc_toupper((utf8proc_int32_t)code) :
                          up          ? utf8proc_totitle((utf8proc_int32_t)code) :
                                        utf8proc_tolower((utf8proc_int32_t)code));
        jinja_put_code(j, &b, code, jinja_slice_bytes(s, i, i + n));
    }
    return jinja_built(&b);
}

/* ---- methods of strings ---- */

static void push_str(jinja *j, jinja_list *l, jinja_str s)
{
    jinja_list_push(j, l, jinja_string(s));
}

static jinja_list *split_space(jinja *j, jinja_str s, int64_t max)
{
    jinja_list *l = jinja_list_new(j);

    for (;;) {
        size_t end = 0;
        s = jinja_strip(j, s, NULL, true, false);
        if (s.n == 0)
            return l;
        if (max >= 0 && (int64_t)l->n >= max) {
            push_str(j, l, s);
            return l;
        }
        while (end < s.n) {
            uint32_t code;
            size_t n = fs_utf8_next((fs_bytes){ s.data, s.n }, end, &code);
            if (jinja_is_space(code))
                break;
            jinja_step(j, 1);
            end += n;
        }
        push_str(j, l, jinja_slice_bytes(s, 0, end));
        s = jinja_slice_bytes(s, end, s.n);
    }
}

static jinja_list *split(jinja *j, jinja_str s, jinja_str by, int64_t max)
{
    jinja_list *l = jinja_list_new(j);
    size_t at = 0;

    if (by.n == 0)
        jinja_fail(j, FS_ERR_FORMAT, "split by an empty string");
    while (max < 0 || (int64_t)l->n < max) {
        size_t found = jinja_find(j, s, by, at);
        if (found > s.n)
            break;
        push_str(j, l, jinja_slice_bytes(s, at, found));
        at = found + by.n;
    }
    push_str(j, l, jinja_slice_bytes(s, at, s.n));
    return l;
}

static jinja_list *rsplit(jinja *j, jinja_str s, jinja_str by, int64_t max)
{
    jinja_list *l = jinja_list_new(j);
    size_t end = s.n;

    if (by.n == 0)
        jinja_fail(j, FS_ERR_FORMAT, "split by an empty string");
    while (max < 0 || (int64_t)l->n < max) {
        size_t found = find_last(j, s, by, end);
        if (found > s.n)
            break;
        push_str(j, l, jinja_slice_bytes(s, found + by.n, end));
        end = found;
    }
    push_str(j, l, jinja_slice_bytes(s, 0, end));
    for (size_t i = 0; i < l->n / 2; i++) {
        jinja_value v = l->items[i];
        l->items[i] = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = v;
    }
    return l;
}

static jinja_list *split_lines(jinja *j, jinja_str s, bool keep)
{
    jinja_list *l = jinja_list_new(j);
    size_t begin = 0, n;

    for (size_t i = 0; i < s.n; i += n) {
        uint32_t code;
        size_t end = i;
        n = fs_utf8_next((fs_bytes){ s.data, s.n }, i, &code);
        jinja_step(j, 1);
        if (!((code >= 10 && code <= 13) || (code >= 0x1c && code <= 0x1e) || code == 0x85 || code == 0x2028 || code == 0x2029))
            continue;
        if (code == '\r' && i + 1 < s.n && s.data[i + 1] == '\n')
            n++;
        push_str(j, l, jinja_slice_bytes(s, begin, keep ? i + n : end));
        begin = i + n;
    }
    if (begin < s.n)
        push_str(j, l, jinja_slice_bytes(s, begin, s.n));
    return l;
}

/* startswith and endswith take a string or a tuple of them. */
static bool has_end(jinja *j, jinja_str s, const jinja_value *v, bool at_end)
{
    if (!v || (v->kind != J_STRING && v->kind != J_TUPLE))
        jinja_fail(j, FS_ERR_FORMAT, "%s needs a str or a tuple of them", at_end ? "endswith" : "startswith");
    if (v->kind == J_TUPLE) {
        for (size_t i = 0; i < v->list->n; i++) {
            jinja_value item = v->list->items[i];
            if (item.kind != J_STRING)
                jinja_fail(j, FS_ERR_FORMAT, "%s needs a str or a tuple of them", at_end ? "endswith" : "startswith");
            if (has_end(j, s, &item, at_end))
                return true;
        }
        return false;
    }
    jinja_step(j, 1 + v->s.n / 16);
    return v->s.n <= s.n && (v->s.n == 0 || memcmp(s.data + (at_end ? s.n - v->s.n : 0), v->s.data, v->s.n) == 0);
}

/* isdigit and its like: true when there is a character and all are such. */
static bool all_are(jinja *j, jinja_str s, jinja_str name)
{
    bool cased = false, want_up = jinja_str_is(name, "isupper"), is_case = want_up || jinja_str_is(name, "islower");

    for (size_t i = 0, n; i < s.n; i += n) {
        uint32_t code;
        utf8proc_category_t c;
        bool digit, letter;
        n = fs_utf8_next((fs_bytes){ s.data, s.n }, i, &code);
        c = utf8proc_category((utf8proc_int32_t)code);
        digit = c == UTF8PROC_CATEGORY_ND;
        letter = is_letter(code);
        jinja_step(j, 1);
        if (is_case) {
            if (is_cased(code) && (c == UTF8PROC_CATEGORY_LU) != want_up)
                return false;
            cased = cased || is_cased(code);
        } else if (jinja_str_is(name, "isspace") ? !jinja_is_space(code) : jinja_str_is(name, "isalpha") ? !letter :
                   jinja_str_is(name, "isalnum") ? !letter && !digit : !digit) {
            return false;
        }
    }
    return is_case ? cased : s.n > 0;
}

static jinja_value join(jinja *j, jinja_str between, jinja_value items)
{
    jinja_list *l = jinja_iterate(j, items);
    jinja_builder b = { 0 };

    for (size_t i = 0; i < l->n; i++) {
        if (l->items[i].kind != J_STRING)
            jinja_fail(j, FS_ERR_FORMAT, "join: item %zu is a %s, expected a str", i, jinja_kind_name(l->items[i]));
        if (i)
            jinja_put(j, &b, between);
        jinja_put(j, &b, l->items[i].s);
    }
    return jinja_string(jinja_built(&b));
}

static int64_t count_parts(jinja *j, jinja_str s, jinja_str part)
{
    int64_t n = 0;

    if (part.n == 0)
        return (int64_t)jinja_str_chars(j, s) + 1;
    for (size_t at = 0; (at = jinja_find(j, s, part, at)) <= s.n; at += part.n)
        n++;
    return n;
}

static jinja_value partition(jinja *j, jinja_str s, jinja_str by, bool last)
{
    jinja_list *l = jinja_list_new(j);
    size_t at;

    if (by.n == 0)
        jinja_fail(j, FS_ERR_FORMAT, "partition by an empty string");
    at = last ? find_last(j, s, by, s.n) : jinja_find(j, s, by, 0);
    if (at > s.n) {
        push_str(j, l, last ? JSTR("") : s);
        push_str(j, l, JSTR(""));
        push_str(j, l, last ? s : JSTR(""));
    } else {
        push_str(j, l, jinja_slice_bytes(s, 0, at));
        push_str(j, l, by);
        push_str(j, l, jinja_slice_bytes(s, at + by.n, s.n));
    }
    return jinja_of_list(J_TUPLE, l);
}

static jinja_value find_method(jinja *j, jinja_str s, jinja_str name, jinja_str part)
{
    bool last = name.data[0] == 'r';
    size_t at = last ? find_last(j, s, part, s.n) : jinja_find(j, s, part, 0);

    if (at <= s.n)
        return jinja_int((int64_t)jinja_str_chars(j, jinja_slice_bytes(s, 0, at)));
    if (name.data[name.n - 1] == 'x')
        jinja_fail(j, FS_ERR_FORMAT, "%.*s: the part is not there", JFMT(name));
    return jinja_int(-1);
}

static jinja_value split_method(jinja *j, jinja_str s, jinja_str name, jinja_args *args)
{
    const jinja_value *by = jinja_arg(args, 0, "sep");
    int64_t max = jinja_arg_int(j, args, 1, "maxsplit", -1);
    bool last = name.data[0] == 'r';

    jinja_check_args(j, name, args, 2, "sep maxsplit");
    if (by && by->kind != J_NONE) {
        jinja_str part = jinja_arg_str(j, args, 0, "sep", JSTR(""));
        return jinja_of_list(J_LIST, last ? rsplit(j, s, part, max) : split(j, s, part, max));
    }
    if (last && max >= 0)
        jinja_fail(j, FS_ERR_UNSUPPORTED, "rsplit at white space with a limit is not supported");
    return jinja_of_list(J_LIST, split_space(j, s, max));
}

static const char string_methods[] =
    "strip lstrip rstrip split rsplit splitlines startswith endswith replace upper lower title capitalize find rfind index rindex count "
    "join isdigit isalpha isalnum isspace isupper islower removeprefix removesuffix partition rpartition";
/* Methods that Python has and templates do not get here: known, so that calling one is refused by its name. */
static const char string_methods_unknown[] =
    "casefold center encode expandtabs format format_map isascii isdecimal isidentifier isnumeric isprintable istitle ljust maketrans "
    "rjust swapcase translate zfill";

static jinja_value call_string(jinja *j, jinja_str s, jinja_str name, jinja_args args)
{
    const jinja_value *first = jinja_arg(&args, 0, NULL);
    jinja_str part;

    if (jinja_str_is(name, "split") || jinja_str_is(name, "rsplit"))
        return split_method(j, s, name, &args);
    if (jinja_str_is(name, "splitlines")) {
        jinja_check_args(j, name, &args, 1, "keepends");
        return jinja_of_list(J_LIST, split_lines(j, s, jinja_arg_truth(&args, 0, "keepends", false)));
    }
    if (jinja_str_is(name, "replace")) {
        jinja_check_args(j, name, &args, 3, "");
        if (args.n < 2)
            jinja_fail(j, FS_ERR_FORMAT, "replace needs 2 arguments, found %zu", args.n);
        return jinja_string(jinja_replace(j, s, jinja_arg_str(j, &args, 0, NULL, JSTR("")), jinja_arg_str(j, &args, 1, NULL, JSTR("")),
                                          jinja_arg_int(j, &args, 2, NULL, -1)));
    }
    if (word_of("upper lower title capitalize isdigit isalpha isalnum isspace isupper islower", name)) {
        jinja_check_args(j, name, &args, 0, "");
        return name.data[0] == 'i' ? jinja_bool(all_are(j, s, name)) : jinja_string(jinja_case(j, s, name.data[0]));
    }
    if (word_of("strip lstrip rstrip", name)) {
        jinja_check_args(j, name, &args, 1, "");
        part = jinja_arg_str(j, first && first->kind == J_NONE ? &(jinja_args){ 0 } : &args, 0, NULL, JSTR(""));
        return jinja_string(jinja_strip(j, s, first && first->kind != J_NONE ? &part : NULL, name.data[0] != 'r', name.data[0] != 'l'));
    }
    jinja_check_args(j, name, &args, 1, "");
    if (!first)
        jinja_fail(j, FS_ERR_FORMAT, "%.*s needs an argument", JFMT(name));
    if (jinja_str_is(name, "startswith") || jinja_str_is(name, "endswith"))
        return jinja_bool(has_end(j, s, first, name.data[0] == 'e'));
    if (jinja_str_is(name, "join"))
        return join(j, s, *first);
    part = jinja_arg_str(j, &args, 0, NULL, JSTR(""));
    if (jinja_str_is(name, "count"))
        return jinja_int(count_parts(j, s, part));
    if (jinja_str_is(name, "removeprefix"))
        return jinja_string(has_end(j, s, first, false) ? jinja_slice_bytes(s, part.n, s.n) : s);
    if (jinja_str_is(name, "removesuffix"))
        return jinja_string(has_end(j, s, first, true) ? jinja_slice_bytes(s, 0, s.n - part.n) : s);
    if (jinja_str_is(name, "partition") || jinja_str_is(name, "rpartition"))
        return partition(j, s, part, name.data[0] == 'r');
    return find_method(j, s, name, part);
}

/* ---- methods of the others ---- */

static jinja_value call_dict(jinja *j, const jinja_bound *m, jinja_args args)
{
    const jinja_dict *d = m->self.dict;
    jinja_dict *copy;
    jinja_list *l;
    jinja_value *found;
    bool keys = jinja_str_is(m->name, "keys"), values = jinja_str_is(m->name, "values");

    if (jinja_str_is(m->name, "get")) {
        jinja_check_args(j, m->name, &args, 2, "");
        if (args.n == 0)
            jinja_fail(j, FS_ERR_FORMAT, "get needs a key");
        found = jinja_dict_find(j, d, args.items[0]);
        return found ? *found : args.n > 1 ? args.items[1] : (jinja_value){ .kind = J_NONE };
    }
    jinja_check_args(j, m->name, &args, 0, "");
    if (jinja_str_is(m->name, "copy")) {
        copy = jinja_dict_new(j);
        for (size_t i = 0; i < d->n; i++)
            jinja_dict_push(j, copy, d->pairs[i].key, d->pairs[i].value);
        return (jinja_value){ .kind = J_DICT, .dict = copy };
    }
    l = jinja_list_new(j);
    for (size_t i = 0; i < d->n; i++) {
        jinja_list *pair;
        if (keys || values) {
            jinja_list_push(j, l, keys ? d->pairs[i].key : d->pairs[i].value);
            continue;
        }
        pair = jinja_list_new(j);
        jinja_list_push(j, pair, d->pairs[i].key);
        jinja_list_push(j, pair, d->pairs[i].value);
        jinja_list_push(j, l, jinja_of_list(J_TUPLE, pair));
    }
    l->what = keys ? "dict_keys" : values ? "dict_values" : "dict_items";
    return jinja_of_list(J_VIEW, l);
}

static jinja_value call_list(jinja *j, const jinja_bound *m, jinja_args args)
{
    const jinja_list *l = m->self.list;
    jinja_list *copy;
    int64_t n = 0;

    if (jinja_str_is(m->name, "copy")) {
        jinja_check_args(j, m->name, &args, 0, "");
        copy = jinja_list_new(j);
        for (size_t i = 0; i < l->n; i++)
            jinja_list_push(j, copy, l->items[i]);
        return jinja_of_list(J_LIST, copy);
    }
    jinja_check_args(j, m->name, &args, 1, "");
    if (args.n == 0)
        jinja_fail(j, FS_ERR_FORMAT, "%.*s needs an argument", JFMT(m->name));
    for (size_t i = 0; i < l->n; i++)
        if (jinja_equal(j, l->items[i], args.items[0])) {
            if (jinja_str_is(m->name, "index"))
                return jinja_int((int64_t)i);
            n++;
        }
    if (jinja_str_is(m->name, "index"))
        jinja_fail(j, FS_ERR_FORMAT, "index: the item is not there");
    return jinja_int(n);
}

bool jinja_has_method(jinja_value v, jinja_str name, bool *ret_unsafe)
{
    *ret_unsafe = name.n > 1 && name.data[0] == '_' && name.data[1] == '_' && v.kind != J_NAMESPACE;
    switch (v.kind) {
    case J_STRING:
        return word_of(string_methods, name) || word_of(string_methods_unknown, name);
    case J_DICT:
        *ret_unsafe = *ret_unsafe || word_of("clear fromkeys pop popitem setdefault update", name);
        return word_of("get items keys values copy", name);
    case J_LIST:
        return word_of("index count copy", name);
    case J_TUPLE:
    case J_RANGE:
        return word_of("index count", name);
    default:
        return false;
    }
}

jinja_value jinja_call_method(jinja *j, const jinja_bound *m, jinja_args args)
{
    if (m->self.kind == J_STRING && word_of(string_methods_unknown, m->name))
        jinja_fail(j, FS_ERR_UNSUPPORTED, "the method '%.*s' of a string is not supported", JFMT(m->name));
    return m->self.kind == J_STRING ? call_string(j, m->self.s, m->name, args) :
           m->self.kind == J_DICT   ? call_dict(j, m, args) :
                                      call_list(j, m, args);
}

/* ---- global functions ---- */

static const char *const globals[] = { "range", "dict", "namespace", "raise_exception", "strftime_now", "lipsum", "cycler", "joiner", "self" };

int jinja_global_by_name(jinja_str name)
{
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (jinja_str_is(name, globals[i]))
            return (int)i;
    return -1;
}

static jinja_value call_range(jinja *j, jinja_args args)
{
    jinja_list *l = jinja_list_new(j);
    int64_t first = 0, stop, step;

    jinja_check_args(j, JSTR("range"), &args, 3, "");
    if (args.n == 0)
        jinja_fail(j, FS_ERR_FORMAT, "range needs an argument");
    stop = jinja_arg_int(j, &args, 0, NULL, 0);
    if (args.n > 1) {
        first = stop;
        stop = jinja_arg_int(j, &args, 1, NULL, 0);
    }
    step = jinja_arg_int(j, &args, 2, NULL, 1);
    if (step == 0)
        jinja_fail(j, FS_ERR_FORMAT, "range with a step of 0");
    for (int64_t i = first; step > 0 ? i < stop : i > stop;) {
        if (l->n == JINJA_RANGE_MAX)
            jinja_fail(j, FS_ERR_FORMAT, "a range of more than %d", JINJA_RANGE_MAX);
        jinja_list_push(j, l, jinja_int(i));
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    l->range[0] = first;
    l->range[1] = stop;
    l->range[2] = step;
    return jinja_of_list(J_RANGE, l);
}

/* dict(...) and namespace(...): an optional mapping, then keywords. */
static jinja_value call_dict_of(jinja *j, jinja_args args, bool is_namespace)
{
    jinja_dict *d = jinja_dict_new(j);

    jinja_check_args(j, JSTR("dict"), &(jinja_args){ .n = args.n }, 1, "");
    if (args.n && args.items[0].kind == J_DICT) {
        for (size_t i = 0; i < args.items[0].dict->n; i++)
            jinja_dict_push(j, d, args.items[0].dict->pairs[i].key, args.items[0].dict->pairs[i].value);
    } else if (args.n) {
        jinja_list *l = jinja_iterate(j, args.items[0]);
        for (size_t i = 0; i < l->n; i++) {
            jinja_list *pair = jinja_iterate(j, l->items[i]);
            if (pair->n != 2)
                jinja_fail(j, FS_ERR_FORMAT, "dict: item %zu has %zu parts, expected 2", i, pair->n);
            jinja_dict_set(j, d, pair->items[0], pair->items[1]);
        }
    }
    for (size_t i = 0; i < args.n_named; i++)
        jinja_dict_set(j, d, jinja_string(args.names[i]), args.named[i]);
    for (size_t i = 0; i < d->n && is_namespace; i++)
        if (d->pairs[i].key.kind == J_STRING && d->pairs[i].key.s.n && d->pairs[i].key.s.data[0] == '_')
            jinja_fail(j, FS_ERR_FORMAT, "a namespace's attribute '%.*s' begins with an underscore", JFMT(d->pairs[i].key.s));
    return (jinja_value){ .kind = is_namespace ? J_NAMESPACE : J_DICT, .dict = d };
}

static jinja_value call_strftime(jinja *j, jinja_args args)
{
    jinja_str format = jinja_arg_str(j, &args, 0, "format", JSTR(""));
    char text[256], pattern[100];
    size_t n;

    jinja_check_args(j, JSTR("strftime_now"), &args, 1, "format");
    if (!j->now)
        jinja_fail(j, FS_ERR_UNSUPPORTED, "it asks for the time, and there is no clock");
    if (format.n == 0)
        return jinja_string(JSTR(""));
    if (format.n >= sizeof pattern || memchr(format.data, 0, format.n))
        jinja_fail(j, FS_ERR_FORMAT, "strftime_now: a format of %zu bytes, allowed are %zu without U+0000", format.n, sizeof pattern - 1);
    memcpy(pattern, format.data, format.n);
    pattern[format.n] = 0;
    for (const char *p = pattern; (p = strchr(p, '%')) != NULL; p += 2) {
        p += p[1] == '-'; /* glibc: no padding */
        if (!p[1] || !strchr("aAbBcdHIjmMpSUwWxXyYZ%DeFhnRtTCGgklPrsuV", p[1]))
            jinja_fail(j, FS_ERR_UNSUPPORTED, "strftime_now: no '%%%c'", p[1] ? p[1] : ' ');
    }
    n = strftime(text, sizeof text, pattern, j->now);
    text[n] = 0;
    return jinja_string(jinja_copy_text(j, text));
}

jinja_value jinja_call_global(jinja *j, int global, jinja_args args)
{
    jinja_value message;

    switch (global) {
    case 0:
        return call_range(j, args);
    case 1:
    case 2:
        return call_dict_of(j, args, global == 2);
    case 3:
        jinja_check_args(j, JSTR("raise_exception"), &args, 1, "message");
        message = jinja_arg(&args, 0, "message") ? *jinja_arg(&args, 0, "message") : jinja_string(JSTR(""));
        jinja_fail(j, FS_ERR_ARGUMENT, "%.*s", message.kind == J_STRING && message.s.n < 300 ? (int)message.s.n : 0,
                   message.kind == J_STRING ? (const char *)message.s.data : "");
    case 4:
        return call_strftime(j, args);
    default:
        jinja_fail(j, FS_ERR_UNSUPPORTED, "the function '%s' is not supported", globals[global]);
    }
}
