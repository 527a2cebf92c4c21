/* Statements; jinja_parse.c has the expressions and says what the nodes hold. */
#include "text/jinja_parse.h"

#include <string.h>

static jinja_node *parse_body(jinja_parser *p, const char *const *ends, const char **ret_end);

static jinja_node *parse_target_item(jinja_parser *p)
{
    jinja_node *n = jinja_p_node(p, N_NAME);

    if (jinja_p_skip_op(p, "(")) {
        jinja_nodes l = { 0 };
        bool comma = false;
        jinja_p_deeper(p);
        while (!jinja_p_is_op(p->t, ")")) {
            jinja_p_append(p, &l, parse_target_item(p));
            if (!jinja_p_skip_op(p, ","))
                break;
            comma = true;
        }
        jinja_p_expect_op(p, ")");
        p->depth--;
        if (l.n == 1 && !comma)
            return l.items[0];
        n->kind = N_TUPLE;
        jinja_p_give(n, l);
        return n;
    }
    n->name = jinja_p_expect_word(p);
    if (jinja_str_is(n->name, "true") || jinja_str_is(n->name, "false") || jinja_str_is(n->name, "none") || jinja_str_is(n->name, "True") ||
        jinja_str_is(n->name, "False") || jinja_str_is(n->name, "None"))
        jinja_fail(p->j, FS_ERR_FORMAT, "cannot assign to '%.*s'", JFMT(n->name));
    return n;
}

/* What `for` and `set` assign to. */
static jinja_node *parse_target(jinja_parser *p, bool with_attribute)
{
    jinja_node *n;
    jinja_nodes l = { 0 };

    if (with_attribute && p->t->kind == T_NAME && jinja_p_is_op(p->t + 1, ".")) {
        jinja_node *of = jinja_p_node(p, N_NAME);
        of->name = jinja_p_expect_word(p);
        jinja_p_next(p);
        n = jinja_p_node_of(p, N_ATTR, of->line, of, NULL);
        n->name = jinja_p_expect_word(p);
        return n;
    }
    n = parse_target_item(p);
    if (!jinja_p_is_op(p->t, ","))
        return n;
    jinja_p_append(p, &l, n);
    while (jinja_p_skip_op(p, ","))
        jinja_p_append(p, &l, parse_target_item(p));
    n = jinja_p_node(p, N_TUPLE);
    jinja_p_give(n, l);
    return n;
}

static void expect_block_end(jinja_parser *p)
{
    if (p->t->kind != T_BLOCK_END)
        jinja_p_unexpected(p, "%}");
    jinja_p_next(p);
}

/* The body up to {% end %}. */
static jinja_node *parse_body_to(jinja_parser *p, const char *end)
{
    const char *const ends[] = { end, NULL };
    const char *found;
    jinja_node *n;

    expect_block_end(p);
    n = parse_body(p, ends, &found);
    expect_block_end(p);
    return n;
}

static jinja_node *parse_if(jinja_parser *p)
{
    static const char *const ends[] = { "elif", "else", "endif", NULL }, *const last[] = { "endif", NULL };
    jinja_node *n = jinja_p_node(p, N_IF);
    const char *end = "elif";
    jinja_nodes l = { 0 };

    while (strcmp(end, "endif") != 0) {
        bool is_else = strcmp(end, "else") == 0;
        jinja_p_append(p, &l, is_else ? NULL : jinja_p_tuple(p, false, false));
        expect_block_end(p);
        jinja_p_append(p, &l, parse_body(p, is_else ? last : ends, &end));
    }
    expect_block_end(p);
    jinja_p_give(n, l);
    return n;
}

static jinja_node *parse_for(jinja_parser *p)
{
    static const char *const ends[] = { "else", "endfor", NULL };
    jinja_node *n = jinja_p_node(p, N_FOR);
    const char *end;
    jinja_nodes l = { 0 };

    n->a = parse_target(p, false);
    if (!jinja_p_skip_name(p, "in"))
        jinja_p_unexpected(p, "in");
    n->b = jinja_p_tuple(p, false, false);
    if (jinja_p_skip_name(p, "if"))
        n->c = jinja_p_expression(p, true);
    if (jinja_p_is_name(p->t, "recursive"))
        jinja_fail(p->j, FS_ERR_UNSUPPORTED, "a recursive loop is not supported");
    expect_block_end(p);
    jinja_p_append(p, &l, parse_body(p, ends, &end));
    jinja_p_append(p, &l, strcmp(end, "else") == 0 ? parse_body_to(p, "endfor") : NULL);
    if (!l.items[1])
        expect_block_end(p);
    jinja_p_give(n, l);
    return n;
}

static jinja_node *parse_filters(jinja_parser *p)
{
    jinja_node *n = NULL;

    do
        n = jinja_p_filter(p, n);
    while (jinja_p_skip_op(p, "|"));
    return n;
}

static jinja_node *parse_set(jinja_parser *p)
{
    jinja_node *n = jinja_p_node(p, N_SET);

    n->a = parse_target(p, true);
    if (jinja_p_skip_op(p, "=")) {
        n->b = jinja_p_tuple(p, true, false);
        expect_block_end(p);
        return n;
    }
    n->kind = N_SET_BLOCK;
    if (jinja_p_skip_op(p, "|"))
        n->b = parse_filters(p);
    n->c = parse_body_to(p, "endset");
    return n;
}

static void parse_parameters(jinja_parser *p, jinja_node *macro)
{
    jinja_nodes l = { 0 };

    jinja_p_expect_op(p, "(");
    while (!jinja_p_is_op(p->t, ")")) {
        jinja_node *k;
        if (l.n)
            jinja_p_expect_op(p, ",");
        k = parse_target_item(p);
        if (k->kind != N_NAME)
            jinja_fail(p->j, FS_ERR_FORMAT, "a parameter is no name");
        if (jinja_p_skip_op(p, "="))
            k->a = jinja_p_expression(p, true);
        else if (l.n && l.items[l.n - 1]->a)
            jinja_fail(p->j, FS_ERR_FORMAT, "the parameter '%.*s' without a default follows one with a default", JFMT(k->name));
        if (l.n == 64)
            jinja_fail(p->j, FS_ERR_FORMAT, "more than 64 parameters");
        jinja_p_append(p, &l, k);
    }
    jinja_p_next(p);
    macro->named = l.items;
    macro->n_named = l.n;
}

static jinja_node *parse_macro(jinja_parser *p)
{
    jinja_node *n = jinja_p_node(p, N_MACRO);

    n->name = jinja_p_expect_word(p);
    parse_parameters(p, n);
    n->c = parse_body_to(p, "endmacro");
    return n;
}

static jinja_node *parse_call_block(jinja_parser *p)
{
    jinja_node *n = jinja_p_node(p, N_CALL_BLOCK), *caller = jinja_p_node(p, N_MACRO);

    caller->name = JSTR("caller");
    if (jinja_p_is_op(p->t, "("))
        parse_parameters(p, caller);
    n->a = jinja_p_expression(p, true);
    if (n->a->kind != N_CALL)
        jinja_fail(p->j, FS_ERR_FORMAT, "{%% call %%} without a call");
    n->b = caller;
    caller->c = parse_body_to(p, "endcall");
    return n;
}

static jinja_node *parse_with(jinja_parser *p)
{
    jinja_node *n = jinja_p_node(p, N_WITH);
    jinja_nodes l = { 0 };

    while (p->t->kind != T_BLOCK_END) {
        jinja_node *k;
        if (l.n)
            jinja_p_expect_op(p, ",");
        k = parse_target_item(p);
        jinja_p_expect_op(p, "=");
        k->a = jinja_p_expression(p, true);
        jinja_p_append(p, &l, k);
    }
    n->named = l.items;
    n->n_named = l.n;
    n->c = parse_body_to(p, "endwith");
    return n;
}

static jinja_node *parse_statement(jinja_parser *p)
{
    jinja_str name = p->t->text;
    jinja_node *n = jinja_p_node(p, N_BREAK);

    if (p->t->kind != T_NAME)
        jinja_p_unexpected(p, "the name of a statement");
    jinja_p_next(p);
    if (jinja_str_is(name, "if"))
        return parse_if(p);
    if (jinja_str_is(name, "for"))
        return parse_for(p);
    if (jinja_str_is(name, "set"))
        return parse_set(p);
    if (jinja_str_is(name, "macro"))
        return parse_macro(p);
    if (jinja_str_is(name, "call"))
        return parse_call_block(p);
    if (jinja_str_is(name, "with"))
        return parse_with(p);
    if (jinja_str_is(name, "filter")) {
        n->kind = N_FILTER_BLOCK;
        n->b = parse_filters(p);
        n->c = parse_body_to(p, "endfilter");
        return n;
    }
    if (jinja_str_is(name, "generation")) {
        n->kind = N_GENERATION;
        n->c = parse_body_to(p, "endgeneration");
        return n;
    }
    if (jinja_str_is(name, "break") || jinja_str_is(name, "continue")) {
        n->kind = name.n == 5 ? N_BREAK : N_CONTINUE;
        expect_block_end(p);
        return n;
    }
    p->j->line = n->line;
    jinja_fail(p->j, FS_ERR_UNSUPPORTED, "the statement '%.*s' is not known here", JFMT(name));
}

/* Statements up to one of ends (NULL: up to the end), which is consumed. */
static jinja_node *parse_body(jinja_parser *p, const char *const *ends, const char **ret_end)
{
    jinja_node *body = jinja_p_node(p, N_BODY);
    jinja_nodes l = { 0 };

    jinja_p_deeper(p);
    for (;;) {
        jinja_node *n = jinja_p_node(p, N_TEXT);
        switch (p->t->kind) {
        case T_END:
            if (ends)
                jinja_fail(p->j, FS_ERR_FORMAT, "the template ends before {%% %s %%}", ends[0]);
            jinja_p_give(body, l);
            p->depth--;
            return body;
        case T_TEXT:
            n->value = jinja_string(p->t->text);
            jinja_p_next(p);
            break;
        case T_VAR_BEGIN:
            n->kind = N_OUTPUT;
            jinja_p_next(p);
            n->a = jinja_p_tuple(p, true, false);
            if (p->t->kind != T_VAR_END)
                jinja_p_unexpected(p, "}}");
            jinja_p_next(p);
            break;
        default: /* T_BLOCK_BEGIN */
            jinja_p_next(p);
            for (size_t i = 0; ends && ends[i]; i++)
                if (jinja_p_skip_name(p, ends[i])) {
                    *ret_end = ends[i];
                    jinja_p_give(body, l);
                    p->depth--;
                    return body;
                }
            n = parse_statement(p);
            break;
        }
        jinja_p_append(p, &l, n);
    }
}

const jinja_node *jinja_parse_tokens(jinja *j, const jinja_tokens *tokens)
{
    jinja_parser p = { .j = j, .t = tokens->items };
    const char *end;

    return parse_body(&p, NULL, &end);
}
