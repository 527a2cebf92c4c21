/* The interpreter's inside. jinja_lex.c cuts the source into tokens, jinja_statements.c and jinja_parse.c make a tree,
 * jinja_eval.c walks it with the operators of jinja_ops.c; jinja_value.c has values and their printed forms, jinja_json.c
 * reads and writes JSON, jinja_filters.c, jinja_tests.c and jinja_methods.c have what their names say. Nobody else
 * includes this.
 *
 * Everything is allocated from the blocks of one jinja and freed with it, and a failure anywhere jumps back to the public
 * function (setjmp there): no function in between owns anything that must be freed. */
#ifndef FS_TEXT_JINJA_IMPL_H
#define FS_TEXT_JINJA_IMPL_H

#include "text/jinja.h"

#include <inttypes.h>
#include <setjmp.h>

#define JINJA_DEPTH_MAX 500 /* of nested evaluation, and of nested values; of nested syntax a part of that */
#define JINJA_PARSE_DEPTH_MAX 100
#define JINJA_RANGE_MAX 100000 /* the sandbox's MAX_RANGE */

/* ---- memory and failure ---- */

typedef struct jinja_block {
    struct jinja_block *next;
    size_t size_bytes, used_bytes;
} jinja_block;

typedef struct jinja {
    jinja_block *blocks;
    size_t block_bytes; /* of the next one */
    size_t memory_bytes, memory_bytes_max;
    uint64_t steps, steps_max;
    size_t output_bytes_max;
    int depth, line; /* of what is being evaluated */
    const struct tm *now;
    struct jinja_scope *root;
    struct jinja_builder *out;
    fs_error *err;
    fs_status rc;
    jmp_buf give_up;
} jinja;

void *jinja_alloc(jinja *j, size_t n_bytes); /* 16-byte aligned, zeroed */
void *jinja_alloc_n(jinja *j, size_t n, size_t size);
void jinja_release(jinja *j);
_Noreturn void jinja_fail(jinja *j, fs_status code, const char *format, ...) __attribute__((format(printf, 3, 4)));
void jinja_step(jinja *j, uint64_t n); /* spends n steps */
void jinja_enter(jinja *j);            /* one level deeper */
static inline void jinja_leave(jinja *j)
{
    j->depth--;
}

/* ---- values ---- */

/* Counted UTF-8. foreign: NULL when every byte is the template's own, jinja_all_foreign when none is, else a byte for
 * each. */
typedef struct jinja_str {
    const uint8_t *data;
    size_t n;
    const uint8_t *foreign;
} jinja_str;
extern const uint8_t jinja_all_foreign[1];

#define JSTR(lit) ((jinja_str){ (const uint8_t *)(lit), sizeof(lit) - 1, NULL })
#define JFMT(s)   ((s).n > 60 ? 60 : (int)(s).n), (const char *)(s).data

typedef enum jinja_kind {
    J_UNDEFINED, J_NONE, J_BOOL, J_INT, J_FLOAT, J_STRING,
    J_LIST, J_TUPLE, J_RANGE, J_VIEW, J_ITERATOR, /* all with list */
    J_DICT, J_NAMESPACE, J_LOOP, J_MACRO, J_METHOD, J_GLOBAL
} jinja_kind;

typedef struct jinja_value {
    jinja_kind kind;
    union {
        bool b;
        int64_t i;
        double f;
        jinja_str s; /* of J_UNDEFINED: the name, for the sentence */
        struct jinja_list *list;
        struct jinja_dict *dict; /* of J_NAMESPACE too */
        struct jinja_loop *loop;
        const struct jinja_macro *macro;
        const struct jinja_bound *method;
        int global;
    };
} jinja_value;

typedef struct jinja_list {
    jinja_value *items;
    size_t n, capacity;
    size_t taken;    /* of J_ITERATOR: how many were consumed */
    const char *what; /* of J_VIEW: "dict_keys" ... */
    int64_t range[3]; /* of J_RANGE: start, stop, step */
} jinja_list;

typedef struct jinja_pair {
    jinja_value key, value;
} jinja_pair;

typedef struct jinja_dict {
    jinja_pair *pairs;
    size_t n, capacity;
} jinja_dict;

typedef struct jinja_bound {
    jinja_value self;
    jinja_str name;
} jinja_bound;

typedef struct jinja_scope {
    struct jinja_scope *parent;
    struct jinja_var *first;
} jinja_scope;

typedef struct jinja_macro {
    const struct jinja_node *node;
    jinja_scope *scope;
} jinja_macro;

typedef struct jinja_args {
    const jinja_value *items;
    size_t n;
    const jinja_str *names; /* of the keywords */
    const jinja_value *named;
    size_t n_named;
} jinja_args;

/* A growing text that keeps track of foreign bytes. */
typedef struct jinja_builder {
    uint8_t *data, *foreign; /* foreign: NULL until the first foreign byte */
    size_t n, capacity;
    bool all_foreign;
} jinja_builder;

void jinja_put(jinja *j, jinja_builder *b, jinja_str s);
void jinja_put_text(jinja *j, jinja_builder *b, const char *text);
/* The same, as foreign as the bytes of `like`: what an escape makes of them. */
void jinja_put_like(jinja *j, jinja_builder *b, const char *text, jinja_str like);
/* The character `code`, as foreign as the bytes of `like`. */
void jinja_put_code(jinja *j, jinja_builder *b, uint32_t code, jinja_str like);
jinja_str jinja_built(const jinja_builder *b);

static inline jinja_value jinja_bool(bool b)
{
    return (jinja_value){ .kind = J_BOOL, .b = b };
}
static inline jinja_value jinja_int(int64_t i)
{
    return (jinja_value){ .kind = J_INT, .i = i };
}
static inline jinja_value jinja_float(double f)
{
    return (jinja_value){ .kind = J_FLOAT, .f = f };
}
static inline jinja_value jinja_string(jinja_str s)
{
    return (jinja_value){ .kind = J_STRING, .s = s };
}
static inline jinja_value jinja_undefined(jinja_str name)
{
    return (jinja_value){ .kind = J_UNDEFINED, .s = name };
}
static inline bool jinja_is_list(jinja_value v) /* of the kinds that have list */
{
    return v.kind >= J_LIST && v.kind <= J_ITERATOR;
}
static inline bool jinja_is_number(jinja_value v)
{
    return v.kind == J_BOOL || v.kind == J_INT || v.kind == J_FLOAT;
}

bool jinja_str_equal(jinja_str a, jinja_str b);
bool jinja_str_is(jinja_str a, const char *b);
jinja_str jinja_slice_bytes(jinja_str s, size_t from, size_t to);
size_t jinja_str_chars(jinja *j, jinja_str s);
jinja_str jinja_copy_text(jinja *j, const char *text);

const char *jinja_kind_name(jinja_value v);
bool jinja_truth(jinja_value v);
bool jinja_equal(jinja *j, jinja_value a, jinja_value b);
/* -1, 0, 1; fails for what Python cannot order. */
int jinja_compare(jinja *j, jinja_value a, jinja_value b);
jinja_str jinja_to_str(jinja *j, jinja_value v);   /* Python's str() */
void jinja_repr(jinja *j, jinja_builder *b, jinja_value v); /* Python's repr() */
void jinja_put_double(jinja *j, jinja_builder *b, double f);
void jinja_check_defined(jinja *j, jinja_value v); /* fails as jinja2's UndefinedError */
bool jinja_is_space(uint32_t code); /* str.isspace() */
size_t jinja_prev(jinja_str s, size_t end); /* where the character before byte `end` begins */

jinja_list *jinja_list_new(jinja *j);
void jinja_list_push(jinja *j, jinja_list *l, jinja_value v);
static inline jinja_value jinja_of_list(jinja_kind kind, jinja_list *l)
{
    return (jinja_value){ .kind = kind, .list = l };
}
/* What iterating v gives, in a fresh list or v's own (not to be changed); an iterator is consumed. */
jinja_list *jinja_iterate(jinja *j, jinja_value v);
size_t jinja_length(jinja *j, jinja_value v);

jinja_dict *jinja_dict_new(jinja *j);
jinja_value *jinja_dict_find(jinja *j, const jinja_dict *d, jinja_value key);
void jinja_dict_set(jinja *j, jinja_dict *d, jinja_value key, jinja_value value);
void jinja_dict_push(jinja *j, jinja_dict *d, jinja_value key, jinja_value value); /* a key that is new for sure */

/* ---- JSON ---- */
jinja_value jinja_from_json(jinja *j, struct json_object *o, bool foreign);
typedef struct jinja_json_style {
    bool ascii, sort_keys, has_indent;
    jinja_str indent, item, key; /* the separators */
} jinja_json_style;
void jinja_to_json(jinja *j, jinja_builder *b, jinja_value v, const jinja_json_style *style, int level);

/* ---- the tree ---- */

typedef enum jinja_node_kind {
    /* expressions */
    N_CONST, N_NAME, N_LIST, N_TUPLE, N_DICT /* a: keys and values by turns */, N_ATTR, N_ITEM, N_SLICE, N_CALL, N_FILTER, N_TEST,
    N_NOT, N_NEG, N_POS, N_AND, N_OR, N_COND, N_CONCAT, N_COMPARE, N_BINARY,
    /* statements */
    N_TEXT, N_OUTPUT, N_IF, N_FOR, N_SET, N_SET_BLOCK, N_MACRO, N_CALL_BLOCK, N_FILTER_BLOCK, N_WITH, N_GENERATION,
    N_BREAK, N_CONTINUE, N_BODY
} jinja_node_kind;

typedef enum jinja_op {
    OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_IN, OP_NOT_IN, OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_FLOORDIV, OP_MOD, OP_POW
} jinja_op;

typedef struct jinja_node {
    jinja_node_kind kind;
    int line;
    jinja_op op;
    jinja_str name;    /* N_NAME, N_ATTR, N_FILTER, N_TEST, N_MACRO; a keyword argument's or parameter's own */
    jinja_value value; /* N_CONST; N_TEXT */
    /* The children, by kind: operands and items; arguments and (n_named) keywords; a statement's bodies. */
    struct jinja_node *a, *b, *c, *d; /* see jinja_parse.c */
    struct jinja_node **list;
    size_t n_list;
    struct jinja_node **named;
    size_t n_named;
} jinja_node;

struct fs_jinja {
    jinja heap;
    const jinja_node *body;
};

/* ---- tokens ---- */

typedef enum jinja_token_kind {
    T_END, T_TEXT, T_VAR_BEGIN, T_VAR_END, T_BLOCK_BEGIN, T_BLOCK_END, T_NAME, T_STRING, T_INT, T_FLOAT, T_OP
} jinja_token_kind;

typedef struct jinja_token {
    jinja_token_kind kind;
    int line;
    jinja_str text; /* of T_OP the operator; of T_STRING the unescaped text */
    int64_t i;
    double f;
} jinja_token;

typedef struct jinja_tokens {
    jinja_token *items;
    size_t n, capacity;
} jinja_tokens;

void jinja_lex(jinja *j, fs_bytes source, jinja_tokens *ret);
const jinja_node *jinja_parse_tokens(jinja *j, const jinja_tokens *tokens);

/* ---- evaluation ---- */
jinja_value jinja_apply(jinja *j, jinja_value callee, jinja_args args);
jinja_value jinja_get_attr(jinja *j, jinja_value v, jinja_str name);
jinja_value jinja_get_item(jinja *j, jinja_value v, jinja_value key);
bool jinja_contains(jinja *j, jinja_value item, jinja_value in);
jinja_value jinja_slice(jinja *j, jinja_value v, const jinja_value part[3]); /* start, stop, step: none or int */
bool jinja_ordered(jinja *j, jinja_op op, jinja_value a, jinja_value b); /* OP_EQ to OP_NOT_IN */
jinja_value jinja_arith_int(jinja *j, jinja_op op, int64_t a, int64_t b);
jinja_value jinja_loop_attr(jinja *j, struct jinja_loop *l, jinja_str name);
void jinja_set_variable(jinja *j, jinja_str name, jinja_value value); /* one from outside, before the run */
void jinja_run(jinja *j, const jinja_node *body);
jinja_value jinja_binary(jinja *j, jinja_op op, jinja_value a, jinja_value b);

jinja_value jinja_filter(jinja *j, jinja_str name, jinja_value v, jinja_args args);
bool jinja_filter_is_known(jinja_str name);
bool jinja_test(jinja *j, jinja_str name, jinja_value v, jinja_args args);
bool jinja_has_method(jinja_value v, jinja_str name, bool *ret_unsafe);
jinja_value jinja_call_method(jinja *j, const jinja_bound *m, jinja_args args);
int jinja_global_by_name(jinja_str name); /* -1: none */
jinja_value jinja_call_global(jinja *j, int global, jinja_args args);

/* The i-th argument or the keyword `name`, or NULL. */
const jinja_value *jinja_arg(const jinja_args *a, size_t i, const char *name);
/* Fails when there are other arguments than these: at most n_max by position, keywords of the space-separated list. */
void jinja_check_args(jinja *j, jinja_str what, const jinja_args *a, size_t n_max, const char *names);
int64_t jinja_arg_int(jinja *j, const jinja_args *a, size_t i, const char *name, int64_t otherwise);
bool jinja_arg_truth(const jinja_args *a, size_t i, const char *name, bool otherwise);
jinja_str jinja_arg_str(jinja *j, const jinja_args *a, size_t i, const char *name, jinja_str otherwise);

/* Text functions that filters and methods share. chars: NULL strips white space. */
jinja_str jinja_strip(jinja *j, jinja_str s, const jinja_str *chars, bool left, bool right);
jinja_str jinja_replace(jinja *j, jinja_str s, jinja_str old, jinja_str with, int64_t count);
jinja_str jinja_case(jinja *j, jinja_str s, int mode); /* 'u', 'l', 'c' capitalize, 't' title() */
/* The byte where part begins in s at `from` or later; s.n + 1: nowhere. */
size_t jinja_find(jinja *j, jinja_str s, jinja_str part, size_t from);

#endif
