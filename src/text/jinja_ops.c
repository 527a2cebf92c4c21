/* Subscripts and operators, as Python's. */
#include "text/jinja_impl.h"

#include "base/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- subscripts ---- */

jinja_value jinja_get_attr(jinja *j, jinja_value v, jinja_str name)
{
    bool unsafe = false;
    jinja_value *found;

    jinja_check_defined(j, v);
    if (v.kind == J_LOOP)
        return jinja_loop_attr(j, v.loop, name);
    if (v.kind == J_MACRO && jinja_str_is(name, "name"))
        return jinja_string(v.macro->node->name);
    if (v.kind == J_MACRO && (jinja_str_is(name, "arguments") || jinja_str_is(name, "catch_kwargs") || jinja_str_is(name, "catch_varargs") ||
                              jinja_str_is(name, "caller")))
        jinja_fail(j, FS_ERR_UNSUPPORTED, "a macro's '%.*s' is not supported", JFMT(name));
    if (jinja_has_method(v, name, &unsafe)) {
        jinja_bound *m = jinja_alloc(j, sizeof *m);
        *m = (jinja_bound){ v, name };
        return (jinja_value){ .kind = J_METHOD, .method = m };
    }
    if (!unsafe && (v.kind == J_DICT || v.kind == J_NAMESPACE)) {
        found = jinja_dict_find(j, v.dict, jinja_string(name));
        if (found)
            return *found;
    }
    return jinja_undefined(name);
}

/* The i-th character of s, from the end when i < 0; false: there is none. */
static bool char_at(jinja *j, jinja_str s, int64_t i, jinja_value *ret)
{
    int64_t n = (int64_t)jinja_str_chars(j, s);
    size_t at = 0;
    uint32_t code;

    if (i < 0)
        i += n;
    if (i < 0 || i >= n)
        return false;
    if (n == (int64_t)s.n)
        at = (size_t)i;
    else
        for (; i > 0; i--)
            at += fs_utf8_next((fs_bytes){ s.data, s.n }, at, &code);
    *ret = jinja_string(jinja_slice_bytes(s, at, at + fs_utf8_next((fs_bytes){ s.data, s.n }, at, &code)));
    return true;
}

jinja_value jinja_get_item(jinja *j, jinja_value v, jinja_value key)
{
    bool has_index = key.kind == J_INT || key.kind == J_BOOL;
    int64_t i = key.kind == J_INT ? key.i : key.kind == J_BOOL ? key.b : 0;
    jinja_value *found, item;

    jinja_check_defined(j, v);
    if (v.kind == J_DICT) {
        if (key.kind != J_LIST && key.kind != J_DICT && (found = jinja_dict_find(j, v.dict, key)) != NULL)
            return *found;
    } else if (v.kind == J_LIST || v.kind == J_TUPLE || v.kind == J_RANGE) {
        int64_t n = (int64_t)v.list->n;
        if (has_index && i < 0)
            i += n;
        if (has_index && i >= 0 && i < n)
            return v.list->items[i];
    } else if (v.kind == J_STRING && has_index && char_at(j, v.s, i, &item)) {
        return item;
    }
    if (key.kind == J_STRING)
        return jinja_get_attr(j, v, key.s);
    return jinja_undefined(jinja_to_str(j, key));
}

/* Python's slice.indices for one bound. */
static int64_t bound(int64_t at, int64_t n, bool down)
{
    if (at < 0) {
        at += n;
        if (at < 0)
            at = down ? -1 : 0;
    } else if (at >= n) {
        at = down ? n - 1 : n;
    }
    return at;
}

jinja_value jinja_slice(jinja *j, jinja_value v, const jinja_value part[3])
{
    int64_t n, step = 1, first, stop;
    jinja_list *l, *from;
    jinja_builder b = { 0 };

    if (v.kind != J_STRING && v.kind != J_LIST && v.kind != J_TUPLE && v.kind != J_RANGE)
        jinja_fail(j, FS_ERR_FORMAT, "no slice of a %s", jinja_kind_name(v));
    for (int i = 0; i < 3; i++)
        if (part[i].kind != J_NONE && part[i].kind != J_INT)
            jinja_fail(j, FS_ERR_FORMAT, "a slice's bound is a %s", jinja_kind_name(part[i]));
    if (part[2].kind == J_INT)
        step = part[2].i;
    if (step == 0)
        jinja_fail(j, FS_ERR_FORMAT, "a slice's step is 0");
    from = v.kind == J_STRING && step == 1 ? NULL : jinja_iterate(j, v);
    n = (int64_t)(from ? from->n : jinja_str_chars(j, v.s));
    first = part[0].kind == J_INT ? bound(part[0].i, n, step < 0) : step < 0 ? n - 1 : 0;
    stop = part[1].kind == J_INT ? bound(part[1].i, n, step < 0) : step < 0 ? -1 : n;
    if (!from) {
        size_t at = 0, begin = 0;
        for (int64_t i = 0; i <= stop && first < stop; i++) {
            uint32_t code;
            if (i == first)
                begin = at;
            if (i < stop)
                at += fs_utf8_next((fs_bytes){ v.s.data, v.s.n }, at, &code);
        }
        return jinja_string(first < stop ? jinja_slice_bytes(v.s, begin, at) : JSTR(""));
    }
    if (v.kind == J_RANGE)
        jinja_fail(j, FS_ERR_UNSUPPORTED, "a slice of a range is not supported");
    l = jinja_list_new(j);
    for (int64_t i = first; step > 0 ? i < stop : i > stop;) {
        if (v.kind == J_STRING)
            jinja_put(j, &b, from->items[i].s);
        else
            jinja_list_push(j, l, from->items[i]);
        if (step > 0 ? step >= stop - i : step <= stop - i)
            break;
        i += step;
    }
    return v.kind == J_STRING ? jinja_string(jinja_built(&b)) : jinja_of_list(v.kind, l);
}

/* ---- operators ---- */

bool jinja_contains(jinja *j, jinja_value item, jinja_value in)
{
    jinja_list *l;

    if (in.kind == J_STRING) {
        if (item.kind != J_STRING)
            jinja_fail(j, FS_ERR_FORMAT, "'in' a string needs a string, found %s", jinja_kind_name(item));
        return jinja_find(j, in.s, item.s, 0) <= in.s.n;
    }
    if (in.kind == J_DICT)
        return jinja_dict_find(j, in.dict, item) != NULL;
    l = jinja_iterate(j, in);
    for (size_t i = 0; i < l->n; i++)
        if (jinja_equal(j, l->items[i], item))
            return true;
    return false;
}

static jinja_value repeat(jinja *j, jinja_value v, int64_t times)
{
    if (v.kind == J_STRING) {
        jinja_builder b = { 0 };
        for (int64_t i = 0; i < times && v.s.n; i++) {
            jinja_step(j, 1);
            jinja_put(j, &b, v.s);
        }
        return jinja_string(jinja_built(&b));
    }
    jinja_list *l = jinja_list_new(j);
    for (int64_t i = 0; i < times && v.list->n; i++)
        for (size_t k = 0; k < v.list->n; k++)
            jinja_list_push(j, l, v.list->items[k]);
    return jinja_of_list(v.kind, l);
}

static double as_double(jinja_value v)
{
    return v.kind == J_FLOAT ? v.f : v.kind == J_INT ? (double)v.i : v.b;
}

static _Noreturn void too_big(jinja *j)
{
    jinja_fail(j, FS_ERR_UNSUPPORTED, "an integer of more than 64 bits is not supported");
}

jinja_value jinja_arith_int(jinja *j, jinja_op op, int64_t a, int64_t b)
{
    int64_t r = 0;

    if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && b == 0)
        jinja_fail(j, FS_ERR_FORMAT, "division by zero");
    switch (op) {
    case OP_ADD:
        if (__builtin_add_overflow(a, b, &r))
            too_big(j);
        return jinja_int(r);
    case OP_SUB:
        if (__builtin_sub_overflow(a, b, &r))
            too_big(j);
        return jinja_int(r);
    case OP_MUL:
        if (__builtin_mul_overflow(a, b, &r))
            too_big(j);
        return jinja_int(r);
    case OP_DIV:
        if (llabs(a / 2) > (int64_t)1 << 52 || llabs(b / 2) > (int64_t)1 << 52)
            jinja_fail(j, FS_ERR_UNSUPPORTED, "dividing integers of more than 53 bits is not supported");
        return jinja_float((double)a / (double)b);
    case OP_FLOORDIV:
    case OP_MOD:
        if (b == -1)
            return op == OP_MOD ? jinja_int(0) : jinja_arith_int(j, OP_SUB, 0, a);
        r = a % b;
        if (r && (r < 0) != (b < 0))
            r += b;
        return jinja_int(op == OP_MOD ? r : (a - r) / b);
    default:
        if (b < 0) {
            if (a == 0)
                jinja_fail(j, FS_ERR_FORMAT, "division by zero");
            return jinja_float(pow((double)a, (double)b));
        }
        for (r = 1; b > 0; b--) {
            if (__builtin_mul_overflow(r, a, &r))
                too_big(j);
            if (r == 0 || r == 1 || (r == -1 && b > 2)) /* a is 0, 1 or -1 */
                b = r == -1 ? b & 1 ? 1 : 2 : 1;
        }
        return jinja_int(r);
    }
}

static jinja_value arith_float(jinja *j, jinja_op op, double a, double b)
{
    double r;

    if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && b == 0)
        jinja_fail(j, FS_ERR_FORMAT, "division by zero");
    switch (op) {
    case OP_ADD:
        return jinja_float(a + b);
    case OP_SUB:
        return jinja_float(a - b);
    case OP_MUL:
        return jinja_float(a * b);
    case OP_DIV:
        return jinja_float(a / b);
    case OP_FLOORDIV:
    case OP_MOD:
        r = fmod(a, b);
        if (r && (r < 0) != (b < 0))
            r += b;
        if (op == OP_MOD)
            return jinja_float(r == 0 ? copysign(0, b) : r);
        r = (a - r) / b;
        return jinja_float(r - floor(r) > 0.5 ? floor(r) + 1 : floor(r));
    default:
        if ((a < 0 && b != floor(b)) || (a == 0 && b < 0))
            jinja_fail(j, FS_ERR_FORMAT, "a power that is no real number");
        r = pow(a, b);
        if (isinf(r) && !isinf(a) && !isinf(b))
            jinja_fail(j, FS_ERR_FORMAT, "a power too large for a float");
        return jinja_float(r);
    }
}

jinja_value jinja_binary(jinja *j, jinja_op op, jinja_value a, jinja_value b)
{
    static const char *const texts[] = { "==", "!=", "<", "<=", ">", ">=", "in", "not in", "+", "-", "*", "/", "//", "%", "**" };
    bool a_seq = a.kind == J_STRING || a.kind == J_LIST || a.kind == J_TUPLE, b_seq = b.kind == J_STRING || b.kind == J_LIST || b.kind == J_TUPLE;

    jinja_check_defined(j, a);
    jinja_check_defined(j, b);
    if (jinja_is_number(a) && jinja_is_number(b)) {
        if (a.kind == J_FLOAT || b.kind == J_FLOAT)
            return arith_float(j, op, as_double(a), as_double(b));
        return jinja_arith_int(j, op, a.kind == J_INT ? a.i : a.b, b.kind == J_INT ? b.i : b.b);
    }
    if (op == OP_ADD && a.kind == J_STRING && b.kind == J_STRING) {
        jinja_builder text = { 0 };
        if (a.s.n == 0 || b.s.n == 0)
            return a.s.n ? a : b;
        jinja_put(j, &text, a.s);
        jinja_put(j, &text, b.s);
        return jinja_string(jinja_built(&text));
    }
    if (op == OP_ADD && a.kind == b.kind && a_seq) {
        jinja_list *l = jinja_list_new(j);
        for (size_t i = 0; i < a.list->n; i++)
            jinja_list_push(j, l, a.list->items[i]);
        for (size_t i = 0; i < b.list->n; i++)
            jinja_list_push(j, l, b.list->items[i]);
        return jinja_of_list(a.kind, l);
    }
    if (op == OP_MUL && a_seq && (b.kind == J_INT || b.kind == J_BOOL))
        return repeat(j, a, b.kind == J_INT ? b.i : b.b);
    if (op == OP_MUL && b_seq && (a.kind == J_INT || a.kind == J_BOOL))
        return repeat(j, b, a.kind == J_INT ? a.i : a.b);
    if (op == OP_MOD && a.kind == J_STRING)
        jinja_fail(j, FS_ERR_UNSUPPORTED, "formatting a string with %% is not supported");
    jinja_fail(j, FS_ERR_FORMAT, "no %s of %s and %s", texts[op], jinja_kind_name(a), jinja_kind_name(b));
}

bool jinja_ordered(jinja *j, jinja_op op, jinja_value a, jinja_value b)
{
    int o;

    switch (op) {
    case OP_EQ:
        return jinja_equal(j, a, b);
    case OP_NE:
        return !jinja_equal(j, a, b);
    case OP_IN:
        return jinja_contains(j, a, b);
    case OP_NOT_IN:
        return !jinja_contains(j, a, b);
    default:
        o = jinja_compare(j, a, b);
        return o != 2 && (op == OP_LT ? o < 0 : op == OP_LE ? o <= 0 : op == OP_GT ? o > 0 : o >= 0);
    }
}
