/* Tests: value is name. */
#include "text/jinja_impl.h"


static bool is_sequence(jinja_value v)
{
    return v.kind == J_UNDEFINED || v.kind == J_STRING || v.kind == J_LIST || v.kind == J_TUPLE || v.kind == J_RANGE || v.kind == J_DICT;
}

static bool has_case(jinja *j, jinja_value v, int mode)
{
    jinja_str s = jinja_to_str(j, v), other = jinja_case(j, s, mode == 'u' ? 'l' : 'u');

    /* Some letter is there, and none of the other case. */
    return jinja_str_equal(jinja_case(j, s, mode), s) && !jinja_str_equal(s, other);
}

static bool same_object(jinja_value a, jinja_value b)
{
    if (a.kind != b.kind || a.kind == J_STRING || a.kind == J_INT || a.kind == J_FLOAT)
        return false;
    return a.kind <= J_BOOL ? a.kind != J_BOOL || a.b == b.b : a.kind == J_GLOBAL ? a.global == b.global : a.dict == b.dict;
}

typedef enum test_id {
    IS_DEFINED, IS_UNDEFINED, IS_NONE, IS_STRING, IS_MAPPING, IS_SEQUENCE, IS_ITERABLE, IS_NUMBER, IS_INTEGER, IS_FLOAT, IS_BOOLEAN,
    IS_TRUE, IS_FALSE, IS_CALLABLE, IS_LOWER, IS_UPPER, IS_ODD, IS_EVEN, IS_ESCAPED, IS_FILTER, IS_TEST,
    TAKES_ONE, IS_DIVISIBLEBY = TAKES_ONE, IS_EQ, IS_NE, IS_LT, IS_LE, IS_GT, IS_GE, IS_IN, IS_SAMEAS
} test_id;

static const struct {
    const char *name;
    test_id id;
} tests[] = {
    { "defined", IS_DEFINED },   { "undefined", IS_UNDEFINED }, { "none", IS_NONE },         { "string", IS_STRING },   { "mapping", IS_MAPPING },
    { "sequence", IS_SEQUENCE }, { "iterable", IS_ITERABLE },   { "number", IS_NUMBER },     { "integer", IS_INTEGER }, { "float", IS_FLOAT },
    { "boolean", IS_BOOLEAN },   { "true", IS_TRUE },           { "false", IS_FALSE },       { "callable", IS_CALLABLE }, { "lower", IS_LOWER },
    { "upper", IS_UPPER },       { "odd", IS_ODD },             { "even", IS_EVEN },         { "escaped", IS_ESCAPED }, { "filter", IS_FILTER },
    { "test", IS_TEST },         { "divisibleby", IS_DIVISIBLEBY }, { "eq", IS_EQ },         { "==", IS_EQ },           { "equalto", IS_EQ },
    { "ne", IS_NE },             { "!=", IS_NE },               { "lt", IS_LT },             { "<", IS_LT },            { "lessthan", IS_LT },
    { "le", IS_LE },             { "<=", IS_LE },               { "gt", IS_GT },             { ">", IS_GT },            { "greaterthan", IS_GT },
    { "ge", IS_GE },             { ">=", IS_GE },               { "in", IS_IN },             { "sameas", IS_SAMEAS },
};

static bool remainder_is(jinja *j, jinja_value v, jinja_value by, int64_t want)
{
    return jinja_equal(j, jinja_binary(j, OP_MOD, v, by), jinja_int(want));
}

static bool is_known(jinja *j, test_id id, jinja_value v)
{
    if (v.kind != J_STRING)
        jinja_fail(j, FS_ERR_FORMAT, "the name of a filter or test is a %s", jinja_kind_name(v));
    if (id == IS_FILTER)
        return jinja_filter_is_known(v.s);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (jinja_str_is(v.s, tests[i].name))
            return true;
    return false;
}

static bool test_of_one(jinja *j, test_id id, jinja_value v)
{
    switch (id) {
    case IS_DEFINED:
        return v.kind != J_UNDEFINED;
    case IS_UNDEFINED:
        return v.kind == J_UNDEFINED;
    case IS_NONE:
        return v.kind == J_NONE;
    case IS_STRING:
        return v.kind == J_STRING;
    case IS_MAPPING:
        return v.kind == J_DICT;
    case IS_SEQUENCE:
        return is_sequence(v);
    case IS_ITERABLE:
        return is_sequence(v) || v.kind == J_VIEW || v.kind == J_ITERATOR || v.kind == J_LOOP;
    case IS_NUMBER:
        return jinja_is_number(v);
    case IS_INTEGER:
        return v.kind == J_INT;
    case IS_FLOAT:
        return v.kind == J_FLOAT;
    case IS_BOOLEAN:
        return v.kind == J_BOOL;
    case IS_TRUE:
        return v.kind == J_BOOL && v.b;
    case IS_FALSE:
        return v.kind == J_BOOL && !v.b;
    case IS_CALLABLE:
        return v.kind == J_UNDEFINED || v.kind == J_LOOP || v.kind >= J_MACRO;
    case IS_LOWER:
    case IS_UPPER:
        return has_case(j, v, id == IS_LOWER ? 'l' : 'u');
    case IS_ODD:
    case IS_EVEN:
        return remainder_is(j, v, jinja_int(2), id == IS_ODD);
    case IS_ESCAPED:
        return false;
    default:
        return is_known(j, id, v);
    }
}

static bool test_of_two(jinja *j, test_id id, jinja_value v, jinja_value w)
{
    int o;

    switch (id) {
    case IS_DIVISIBLEBY:
        return remainder_is(j, v, w, 0);
    case IS_EQ:
        return jinja_equal(j, v, w);
    case IS_NE:
        return !jinja_equal(j, v, w);
    case IS_IN:
        return jinja_contains(j, v, w);
    case IS_SAMEAS:
        if (v.kind == w.kind && (v.kind == J_STRING || v.kind == J_INT || v.kind == J_FLOAT))
            jinja_fail(j, FS_ERR_UNSUPPORTED, "sameas of a %s is not supported", jinja_kind_name(v));
        return same_object(v, w);
    default:
        o = jinja_compare(j, v, w);
        return o != 2 && (id == IS_LT ? o < 0 : id == IS_LE ? o <= 0 : id == IS_GT ? o > 0 : o >= 0);
    }
}

bool jinja_test(jinja *j, jinja_str name, jinja_value v, jinja_args args)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        size_t n = tests[i].id >= TAKES_ONE;
        if (!jinja_str_is(name, tests[i].name))
            continue;
        jinja_check_args(j, name, &args, n, "");
        if (args.n < n)
            jinja_fail(j, FS_ERR_FORMAT, "the test '%.*s' needs an argument", JFMT(name));
        return n ? test_of_two(j, tests[i].id, v, args.items[0]) : test_of_one(j, tests[i].id, v);
    }
    jinja_fail(j, FS_ERR_UNSUPPORTED, "the test '%.*s' is not known here", JFMT(name));
}
