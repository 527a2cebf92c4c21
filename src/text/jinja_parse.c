/* Tokens to the tree: jinja2's grammar, whose precedences are not Python's (~ binds tighter than +, filters tighter than
 * everything). What a node's children are:
 *
 *   N_ATTR a.name | N_ITEM a[b] | N_SLICE a[b:c:d] | N_CALL a(list, named) | N_FILTER a|name(list, named); a is NULL where
 *   a block's text goes in | N_TEST a is name(list, named) | N_COND a if b else c | N_CONCAT list | N_COMPARE a, then
 *   list of (op, a) | N_BINARY a op b | N_IF list of conditions (NULL: else) and bodies by turns | N_FOR a: target,
 *   b: iterable, c: filter, list: body, else | N_SET a = b | N_SET_BLOCK a: target, b: filter, c: body | N_MACRO name,
 *   named: parameters (their a: default), c: body | N_CALL_BLOCK a: call, b: the N_MACRO | N_WITH named (their a), c: body */
#include "text/jinja_parse.h"

#include <string.h>

static jinja_node *parse_unary(jinja_parser *p, bool with_filter);

jinja_node *jinja_p_node(jinja_parser *p, jinja_node_kind kind)
{
    jinja_node *n = jinja_alloc(p->j, sizeof *n);

    n->kind = kind;
    n->line = p->t->line;
    return n;
}

jinja_node *jinja_p_node_of(jinja_parser *p, jinja_node_kind kind, int line, jinja_node *a, jinja_node *b)
{
    jinja_node *n = jinja_p_node(p, kind);

    n->line = line;
    n->a = a;
    n->b = b;
    return n;
}

void jinja_p_append(jinja_parser *p, jinja_nodes *l, jinja_node *n)
{
    if (l->n == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 4;
        jinja_node **items = jinja_alloc_n(p->j, capacity, sizeof *items);
        if (l->n)
            memcpy(items, l->items, l->n * sizeof *items);
        l->items = items;
        l->capacity = capacity;
    }
    l->items[l->n++] = n;
}

void jinja_p_give(jinja_node *n, jinja_nodes l)
{
    n->list = l.items;
    n->n_list = l.n;
}

void jinja_p_next(jinja_parser *p)
{
    if (p->t->kind != T_END)
        p->t++;
    p->j->line = p->t->line;
}

bool jinja_p_is_op(const jinja_token *t, const char *op)
{
    return t->kind == T_OP && jinja_str_is(t->text, op);
}

bool jinja_p_is_name(const jinja_token *t, const char *name)
{
    return t->kind == T_NAME && jinja_str_is(t->text, name);
}

bool jinja_p_skip_op(jinja_parser *p, const char *op)
{
    bool is = jinja_p_is_op(p->t, op);

    if (is)
        jinja_p_next(p);
    return is;
}

bool jinja_p_skip_name(jinja_parser *p, const char *name)
{
    bool is = jinja_p_is_name(p->t, name);

    if (is)
        jinja_p_next(p);
    return is;
}

_Noreturn void jinja_p_unexpected(jinja_parser *p, const char *wanted)
{
    static const char *const kinds[] = { "the end of the template", "text", "{{", "}}", "{%", "%}", "a name", "a string", "a number", "a number", "" };
    const jinja_token *t = p->t;

    if (t->kind == T_NAME || t->kind == T_OP)
        jinja_fail(p->j, FS_ERR_FORMAT, "expected %s, found '%.*s'", wanted, JFMT(t->text));
    jinja_fail(p->j, FS_ERR_FORMAT, "expected %s, found %s", wanted, kinds[t->kind]);
}

void jinja_p_expect_op(jinja_parser *p, const char *op)
{
    if (!jinja_p_skip_op(p, op))
        jinja_p_unexpected(p, op);
}

jinja_str jinja_p_expect_word(jinja_parser *p)
{
    jinja_str name = p->t->text;

    if (p->t->kind != T_NAME)
        jinja_p_unexpected(p, "a name");
    jinja_p_next(p);
    return name;
}

void jinja_p_deeper(jinja_parser *p)
{
    if (++p->depth > JINJA_PARSE_DEPTH_MAX)
        jinja_fail(p->j, FS_ERR_FORMAT, "the template nests deeper than %d", JINJA_PARSE_DEPTH_MAX);
}

/* ---- expressions ---- */

static bool tuple_ends(const jinja_parser *p)
{
    return p->t->kind == T_VAR_END || p->t->kind == T_BLOCK_END || jinja_p_is_op(p->t, ")");
}

/* Expressions with commas; one without a comma is itself. */
jinja_node *jinja_p_tuple(jinja_parser *p, bool with_condition, bool in_parentheses)
{
    jinja_node *t = jinja_p_node(p, N_TUPLE);
    jinja_nodes l = { 0 };
    bool is_tuple = false;

    for (;;) {
        if (l.n && !jinja_p_skip_op(p, ","))
            break;
        is_tuple = l.n > 0;
        if (tuple_ends(p))
            break;
        jinja_p_append(p, &l, jinja_p_expression(p, with_condition));
    }
    if (!is_tuple && l.n)
        return l.items[0];
    if (!l.n && !in_parentheses)
        jinja_p_unexpected(p, "an expression");
    jinja_p_give(t, l);
    return t;
}

static void parse_arguments(jinja_parser *p, jinja_node *call)
{
    jinja_nodes args = { 0 }, named = { 0 };

    jinja_p_expect_op(p, "(");
    while (!jinja_p_is_op(p->t, ")")) {
        if (args.n + named.n) {
            jinja_p_expect_op(p, ",");
            if (jinja_p_is_op(p->t, ")"))
                break;
        }
        if (jinja_p_is_op(p->t, "*") || jinja_p_is_op(p->t, "**"))
            jinja_fail(p->j, FS_ERR_UNSUPPORTED, "arguments given with '%.*s' are not supported", JFMT(p->t->text));
        if (p->t->kind == T_NAME && jinja_p_is_op(p->t + 1, "=")) {
            jinja_node *k = jinja_p_node(p, N_NAME);
            k->name = p->t->text;
            for (size_t i = 0; i < named.n; i++)
                if (jinja_str_equal(named.items[i]->name, k->name))
                    jinja_fail(p->j, FS_ERR_FORMAT, "the argument '%.*s' is given twice", JFMT(k->name));
            if (named.n == 64)
                jinja_fail(p->j, FS_ERR_FORMAT, "more than 64 named arguments");
            jinja_p_next(p);
            jinja_p_next(p);
            k->a = jinja_p_expression(p, true);
            jinja_p_append(p, &named, k);
        } else {
            if (named.n)
                jinja_fail(p->j, FS_ERR_FORMAT, "an argument without a name after one with a name");
            jinja_p_append(p, &args, jinja_p_expression(p, true));
        }
    }
    jinja_p_expect_op(p, ")");
    jinja_p_give(call, args);
    call->named = named.items;
    call->n_named = named.n;
}

static jinja_node *parse_dict(jinja_parser *p)
{
    jinja_node *d = jinja_p_node(p, N_DICT);
    jinja_nodes l = { 0 };

    jinja_p_next(p);
    while (!jinja_p_is_op(p->t, "}")) {
        if (l.n) {
            jinja_p_expect_op(p, ",");
            if (jinja_p_is_op(p->t, "}"))
                break;
        }
        jinja_p_append(p, &l, jinja_p_expression(p, true));
        jinja_p_expect_op(p, ":");
        jinja_p_append(p, &l, jinja_p_expression(p, true));
    }
    jinja_p_next(p);
    jinja_p_give(d, l);
    return d;
}

static jinja_node *parse_list(jinja_parser *p)
{
    jinja_node *n = jinja_p_node(p, N_LIST);
    jinja_nodes l = { 0 };

    jinja_p_next(p);
    while (!jinja_p_is_op(p->t, "]")) {
        if (l.n) {
            jinja_p_expect_op(p, ",");
            if (jinja_p_is_op(p->t, "]"))
                break;
        }
        jinja_p_append(p, &l, jinja_p_expression(p, true));
    }
    jinja_p_next(p);
    jinja_p_give(n, l);
    return n;
}

static jinja_node *parse_primary(jinja_parser *p)
{
    const jinja_token *t = p->t;
    jinja_node *n;

    if (jinja_p_is_op(t, "(")) {
        jinja_p_next(p);
        n = jinja_p_tuple(p, true, true);
        jinja_p_expect_op(p, ")");
        return n;
    }
    if (jinja_p_is_op(t, "["))
        return parse_list(p);
    if (jinja_p_is_op(t, "{"))
        return parse_dict(p);
    n = jinja_p_node(p, N_CONST);
    if (t->kind == T_NAME) {
        if (jinja_str_is(t->text, "true") || jinja_str_is(t->text, "True") || jinja_str_is(t->text, "false") || jinja_str_is(t->text, "False")) {
            n->value = jinja_bool(t->text.n == 4);
        } else if (jinja_str_is(t->text, "none") || jinja_str_is(t->text, "None")) {
            n->value = (jinja_value){ .kind = J_NONE };
        } else {
            n->kind = N_NAME;
            n->name = t->text;
        }
    } else if (t->kind == T_STRING) {
        jinja_builder b = { 0 };
        if (t[1].kind != T_STRING) {
            n->value = jinja_string(t->text);
        } else {
            for (; p->t[1].kind == T_STRING; jinja_p_next(p))
                jinja_put(p->j, &b, p->t->text);
            jinja_put(p->j, &b, p->t->text);
            n->value = jinja_string(jinja_built(&b));
        }
    } else if (t->kind == T_INT) {
        n->value = jinja_int(t->i);
    } else if (t->kind == T_FLOAT) {
        n->value = jinja_float(t->f);
    } else {
        jinja_p_unexpected(p, "an expression");
    }
    jinja_p_next(p);
    return n;
}

static jinja_node *parse_subscript(jinja_parser *p, jinja_node *of)
{
    jinja_node *n = jinja_p_node_of(p, N_ITEM, p->t->line, of, NULL);

    jinja_p_next(p);
    if (!jinja_p_is_op(p->t, ":"))
        n->b = jinja_p_expression(p, true);
    if (jinja_p_is_op(p->t, ",") || (!n->b && jinja_p_is_op(p->t, "]")))
        jinja_fail(p->j, FS_ERR_UNSUPPORTED, "a subscript of several or no values is not supported");
    if (jinja_p_skip_op(p, ":")) {
        n->kind = N_SLICE;
        if (!jinja_p_is_op(p->t, ":") && !jinja_p_is_op(p->t, "]"))
            n->c = jinja_p_expression(p, true);
        if (jinja_p_skip_op(p, ":") && !jinja_p_is_op(p->t, "]"))
            n->d = jinja_p_expression(p, true);
    }
    jinja_p_expect_op(p, "]");
    return n;
}

static jinja_node *parse_call(jinja_parser *p, jinja_node *callee)
{
    jinja_node *n = jinja_p_node_of(p, N_CALL, p->t->line, callee, NULL);

    parse_arguments(p, n);
    return n;
}

static jinja_node *parse_postfix(jinja_parser *p, jinja_node *n)
{
    for (;;) {
        if (jinja_p_is_op(p->t, ".")) {
            jinja_node *attr;
            jinja_p_next(p);
            attr = jinja_p_node_of(p, N_ATTR, p->t->line, n, NULL);
            if (p->t->kind == T_INT) {
                attr->kind = N_ITEM;
                attr->b = jinja_p_node(p, N_CONST);
                attr->b->value = jinja_int(p->t->i);
                jinja_p_next(p);
            } else {
                attr->name = jinja_p_expect_word(p);
            }
            n = attr;
        } else if (jinja_p_is_op(p->t, "[")) {
            n = parse_subscript(p, n);
        } else if (jinja_p_is_op(p->t, "(")) {
            n = parse_call(p, n);
        } else {
            return n;
        }
    }
}

jinja_node *jinja_p_filter(jinja_parser *p, jinja_node *of)
{
    jinja_node *n = jinja_p_node_of(p, N_FILTER, p->t->line, of, NULL);

    n->name = jinja_p_expect_word(p);
    if (jinja_p_is_op(p->t, "."))
        jinja_fail(p->j, FS_ERR_UNSUPPORTED, "no filter '%.*s.'", JFMT(n->name));
    if (jinja_p_is_op(p->t, "("))
        parse_arguments(p, n);
    return n;
}

static jinja_node *parse_test(jinja_parser *p, jinja_node *of)
{
    bool negated = jinja_p_skip_name(p, "not");
    jinja_node *n = jinja_p_node_of(p, N_TEST, p->t->line, of, NULL);
    const jinja_token *t;

    n->name = jinja_p_expect_word(p);
    t = p->t;
    if (jinja_p_is_op(t, "(")) {
        parse_arguments(p, n);
    } else if (((t->kind == T_NAME && !jinja_p_is_name(t, "else") && !jinja_p_is_name(t, "or") && !jinja_p_is_name(t, "and")) || t->kind == T_STRING ||
                t->kind == T_INT || t->kind == T_FLOAT || jinja_p_is_op(t, "[") || jinja_p_is_op(t, "{"))) {
        jinja_nodes l = { 0 };
        if (jinja_p_is_name(t, "is"))
            jinja_fail(p->j, FS_ERR_FORMAT, "tests cannot be chained with 'is'");
        jinja_p_append(p, &l, parse_postfix(p, parse_primary(p)));
        jinja_p_give(n, l);
    }
    return negated ? jinja_p_node_of(p, N_NOT, n->line, n, NULL) : n;
}

static jinja_node *parse_unary(jinja_parser *p, bool with_filter)
{
    int line = p->t->line;
    jinja_node *n;

    jinja_p_deeper(p);
    if (jinja_p_skip_op(p, "-"))
        n = jinja_p_node_of(p, N_NEG, line, parse_unary(p, false), NULL);
    else if (jinja_p_skip_op(p, "+"))
        n = jinja_p_node_of(p, N_POS, line, parse_unary(p, false), NULL);
    else
        n = parse_primary(p);
    n = parse_postfix(p, n);
    while (with_filter) {
        if (jinja_p_skip_op(p, "|"))
            n = jinja_p_filter(p, n);
        else if (jinja_p_skip_name(p, "is"))
            n = parse_test(p, n);
        else if (jinja_p_is_op(p->t, "("))
            n = parse_call(p, n);
        else
            break;
    }
    p->depth--;
    return n;
}

static bool binary_op(const jinja_parser *p, const char *const *texts, const jinja_op *ops, size_t n, jinja_op *ret)
{
    for (size_t i = 0; i < n; i++)
        if (jinja_p_is_op(p->t, texts[i])) {
            *ret = ops[i];
            return true;
        }
    return false;
}

/* The three levels of left-associative operators: ** over * / // % over (~) over + -. */
static jinja_node *parse_power(jinja_parser *p)
{
    jinja_node *n = parse_unary(p, true);

    while (jinja_p_is_op(p->t, "**")) {
        int line = p->t->line;
        jinja_p_next(p);
        n = jinja_p_node_of(p, N_BINARY, line, n, parse_unary(p, true));
        n->op = OP_POW;
    }
    return n;
}

static jinja_node *parse_product(jinja_parser *p)
{
    static const char *const texts[] = { "*", "/", "//", "%" };
    static const jinja_op ops[] = { OP_MUL, OP_DIV, OP_FLOORDIV, OP_MOD };
    jinja_node *n = parse_power(p);
    jinja_op op;

    while (binary_op(p, texts, ops, 4, &op)) {
        int line = p->t->line;
        jinja_p_next(p);
        n = jinja_p_node_of(p, N_BINARY, line, n, parse_power(p));
        n->op = op;
    }
    return n;
}

static jinja_node *parse_concat(jinja_parser *p)
{
    jinja_node *n = parse_product(p), *whole;
    jinja_nodes l = { 0 };

    if (!jinja_p_is_op(p->t, "~"))
        return n;
    whole = jinja_p_node(p, N_CONCAT);
    jinja_p_append(p, &l, n);
    while (jinja_p_skip_op(p, "~"))
        jinja_p_append(p, &l, parse_product(p));
    jinja_p_give(whole, l);
    return whole;
}

static jinja_node *parse_sum(jinja_parser *p)
{
    static const char *const texts[] = { "+", "-" };
    static const jinja_op ops[] = { OP_ADD, OP_SUB };
    jinja_node *n = parse_concat(p);
    jinja_op op;

    while (binary_op(p, texts, ops, 2, &op)) {
        int line = p->t->line;
        jinja_p_next(p);
        n = jinja_p_node_of(p, N_BINARY, line, n, parse_concat(p));
        n->op = op;
    }
    return n;
}

static jinja_node *parse_compare(jinja_parser *p)
{
    static const char *const texts[] = { "==", "!=", "<", "<=", ">", ">=" };
    static const jinja_op ops[] = { OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE };
    jinja_node *n = parse_sum(p), *whole;
    int line = p->t->line;
    jinja_nodes l = { 0 };

    for (;;) {
        jinja_op op;
        jinja_node *operand;
        if (binary_op(p, texts, ops, 6, &op)) {
            jinja_p_next(p);
        } else if (jinja_p_is_name(p->t, "in")) {
            op = OP_IN;
            jinja_p_next(p);
        } else if (jinja_p_is_name(p->t, "not") && jinja_p_is_name(p->t + 1, "in")) {
            op = OP_NOT_IN;
            jinja_p_next(p);
            jinja_p_next(p);
        } else {
            break;
        }
        operand = jinja_p_node_of(p, N_COMPARE, p->t->line, NULL, NULL);
        operand->op = op;
        operand->a = parse_sum(p);
        jinja_p_append(p, &l, operand);
    }
    if (!l.n)
        return n;
    whole = jinja_p_node_of(p, N_COMPARE, line, n, NULL);
    jinja_p_give(whole, l);
    return whole;
}

static jinja_node *parse_not(jinja_parser *p)
{
    int line = p->t->line;
    jinja_node *n;

    if (!jinja_p_skip_name(p, "not"))
        return parse_compare(p);
    jinja_p_deeper(p);
    n = jinja_p_node_of(p, N_NOT, line, parse_not(p), NULL);
    p->depth--;
    return n;
}

static jinja_node *parse_and(jinja_parser *p)
{
    jinja_node *n = parse_not(p);
    int line = p->t->line;

    while (jinja_p_skip_name(p, "and"))
        n = jinja_p_node_of(p, N_AND, line, n, parse_not(p));
    return n;
}

static jinja_node *parse_or(jinja_parser *p)
{
    jinja_node *n = parse_and(p);
    int line = p->t->line;

    while (jinja_p_skip_name(p, "or"))
        n = jinja_p_node_of(p, N_OR, line, n, parse_and(p));
    return n;
}

jinja_node *jinja_p_expression(jinja_parser *p, bool with_condition)
{
    jinja_node *n;
    int line;

    jinja_p_deeper(p);
    n = parse_or(p);
    while (with_condition && (line = p->t->line, jinja_p_skip_name(p, "if"))) {
        n = jinja_p_node_of(p, N_COND, line, n, parse_or(p));
        if (jinja_p_skip_name(p, "else"))
            n->c = jinja_p_expression(p, true);
    }
    p->depth--;
    return n;
}
