/* What the two files of the parser share. */
#ifndef FS_TEXT_JINJA_PARSE_H
#define FS_TEXT_JINJA_PARSE_H

#include "text/jinja_impl.h"

typedef struct jinja_parser {
    jinja *j;
    const jinja_token *t; /* the current one */
    int depth;
} jinja_parser;

typedef struct jinja_nodes {
    jinja_node **items;
    size_t n, capacity;
} jinja_nodes;

jinja_node *jinja_p_node(jinja_parser *p, jinja_node_kind kind);
jinja_node *jinja_p_node_of(jinja_parser *p, jinja_node_kind kind, int line, jinja_node *a, jinja_node *b);
void jinja_p_append(jinja_parser *p, jinja_nodes *l, jinja_node *n);
void jinja_p_give(jinja_node *n, jinja_nodes l);
void jinja_p_next(jinja_parser *p);
bool jinja_p_is_op(const jinja_token *t, const char *op);
bool jinja_p_is_name(const jinja_token *t, const char *name);
bool jinja_p_skip_op(jinja_parser *p, const char *op);
bool jinja_p_skip_name(jinja_parser *p, const char *name);
_Noreturn void jinja_p_unexpected(jinja_parser *p, const char *wanted);
void jinja_p_expect_op(jinja_parser *p, const char *op);
jinja_str jinja_p_expect_word(jinja_parser *p);
void jinja_p_deeper(jinja_parser *p);
jinja_node *jinja_p_tuple(jinja_parser *p, bool with_condition, bool in_parentheses);
jinja_node *jinja_p_filter(jinja_parser *p, jinja_node *of);
jinja_node *jinja_p_expression(jinja_parser *p, bool with_condition);

#endif
