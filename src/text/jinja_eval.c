/* Walking the tree: names, expressions, loops, statements. */
#include "text/jinja_impl.h"

typedef struct jinja_var {
    struct jinja_var *next;
    jinja_str name;
    jinja_value value;
} jinja_var;

/* A loop takes its items one by one, because its filter may look at what its body changes; loop.length and
 * loop.last look ahead. */
typedef struct jinja_loop {
    const jinja_node *node;
    jinja_scope *scope;   /* around the loop */
    const jinja_list *from;
    size_t from_at;       /* items of `from` looked at */
    jinja_list ahead;     /* items that passed the filter */
    size_t index;         /* from 0, into `ahead` */
    jinja_value changed;  /* what loop.changed() saw last */
    bool has_changed;
} jinja_loop;

typedef enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;

static jinja_value eval(jinja *j, const jinja_node *n, jinja_scope *scope);
static flow exec(jinja *j, const jinja_node *n, jinja_scope *scope);

/* ---- names ---- */

static jinja_scope *scope_in(jinja *j, jinja_scope *parent)
{
    jinja_scope *s = jinja_alloc(j, sizeof *s);

    s->parent = parent;
    return s;
}

static void set_var(jinja *j, jinja_scope *s, jinja_str name, jinja_value value)
{
    jinja_var *v;

    for (v = s->first; v; v = v->next) {
        jinja_step(j, 1);
        if (jinja_str_equal(v->name, name)) {
            v->value = value;
            return;
        }
    }
    v = jinja_alloc(j, sizeof *v);
    v->name = name;
    v->value = value;
    v->next = s->first;
    s->first = v;
}

static jinja_value get_var(jinja *j, const jinja_scope *s, jinja_str name)
{
    int global;

    for (; s; s = s->parent)
        for (const jinja_var *v = s->first; v; v = v->next) {
            jinja_step(j, 1);
            if (jinja_str_equal(v->name, name))
                return v->value;
        }
    global = jinja_global_by_name(name);
    return global < 0 ? jinja_undefined(name) : (jinja_value){ .kind = J_GLOBAL, .global = global };
}

/* ---- expressions ---- */

static jinja_args eval_args(jinja *j, const jinja_node *n, jinja_scope *scope)
{
    jinja_value *items = jinja_alloc_n(j, n->n_list + n->n_named, sizeof *items);
    jinja_str *names = jinja_alloc_n(j, n->n_named, sizeof *names);

    for (size_t i = 0; i < n->n_list; i++)
        items[i] = eval(j, n->list[i], scope);
    for (size_t i = 0; i < n->n_named; i++) {
        names[i] = n->named[i]->name;
        items[n->n_list + i] = eval(j, n->named[i]->a, scope);
    }
    return (jinja_args){ items, n->n_list, names, items + n->n_list, n->n_named };
}

static jinja_value call_macro(jinja *j, const jinja_macro *m, jinja_args args)
{
    jinja_scope *s = scope_in(j, m->scope);
    jinja_builder out = { 0 }, *outer = j->out;
    const jinja_node *n = m->node;
    int line = j->line;
    size_t used = 0;

    if (args.n > n->n_named)
        jinja_fail(j, FS_ERR_FORMAT, "macro '%.*s' takes %zu arguments, found %zu", JFMT(n->name), n->n_named, args.n);
    for (size_t i = 0; i < n->n_named; i++) {
        const jinja_value *given = jinja_arg(&args, i, NULL);
        for (size_t k = 0; k < args.n_named; k++)
            if (jinja_str_equal(args.names[k], n->named[i]->name)) {
                if (given)
                    jinja_fail(j, FS_ERR_FORMAT, "macro '%.*s' got its argument '%.*s' twice", JFMT(n->name), JFMT(n->named[i]->name));
                given = &args.named[k];
                used++;
            }
        if (given)
            set_var(j, s, n->named[i]->name, *given);
        else
            set_var(j, s, n->named[i]->name, n->named[i]->a ? eval(j, n->named[i]->a, s) : jinja_undefined(n->named[i]->name));
    }
    for (size_t k = 0; k < args.n_named; k++)
        if (jinja_str_is(args.names[k], "caller")) {
            set_var(j, s, args.names[k], args.named[k]);
            used++;
        }
    j->line = line;
    if (used < args.n_named)
        jinja_fail(j, FS_ERR_FORMAT, "macro '%.*s' got an argument that it has no name for", JFMT(n->name));
    j->out = &out;
    if (exec(j, n->c, s) != FLOW_ON)
        jinja_fail(j, FS_ERR_FORMAT, "break or continue outside a loop");
    j->out = outer;
    j->line = line;
    return jinja_string(jinja_built(&out));
}

static jinja_value call_loop(jinja *j, jinja_loop *l, jinja_str name, jinja_args args);

jinja_value jinja_apply(jinja *j, jinja_value f, jinja_args args)
{
    jinja_value v;

    jinja_check_defined(j, f);
    jinja_enter(j);
    switch (f.kind) {
    case J_MACRO:
        v = call_macro(j, f.macro, args);
        break;
    case J_METHOD:
        v = f.method->self.kind == J_LOOP ? call_loop(j, f.method->self.loop, f.method->name, args) : jinja_call_method(j, f.method, args);
        break;
    case J_GLOBAL:
        v = jinja_call_global(j, f.global, args);
        break;
    case J_LOOP:
        jinja_fail(j, FS_ERR_UNSUPPORTED, "a recursive loop is not supported");
    default:
        jinja_fail(j, FS_ERR_FORMAT, "a %s cannot be called", jinja_kind_name(f));
    }
    jinja_leave(j);
    return v;
}

static jinja_value eval_compare(jinja *j, const jinja_node *n, jinja_scope *scope)
{
    jinja_value left = eval(j, n->a, scope);

    for (size_t i = 0; i < n->n_list; i++) {
        jinja_value right = eval(j, n->list[i]->a, scope);
        j->line = n->line;
        if (!jinja_ordered(j, n->list[i]->op, left, right))
            return jinja_bool(false);
        left = right;
    }
    return jinja_bool(true);
}

static jinja_value eval_slice(jinja *j, const jinja_node *n, jinja_scope *scope)
{
    const jinja_node *const nodes[3] = { n->b, n->c, n->d };
    jinja_value v = eval(j, n->a, scope), part[3];

    for (int i = 0; i < 3; i++) {
        part[i] = nodes[i] ? eval(j, nodes[i], scope) : (jinja_value){ .kind = J_NONE };
        if (part[i].kind == J_BOOL)
            part[i] = jinja_int(part[i].b);
    }
    j->line = n->line;
    jinja_check_defined(j, v);
    return jinja_slice(j, v, part);
}

static jinja_value eval_items(jinja *j, const jinja_node *n, jinja_scope *scope)
{
    jinja_list *l = jinja_list_new(j);

    for (size_t i = 0; i < n->n_list; i++)
        jinja_list_push(j, l, eval(j, n->list[i], scope));
    return jinja_of_list(n->kind == N_LIST ? J_LIST : J_TUPLE, l);
}

static jinja_value eval_dict(jinja *j, const jinja_node *n, jinja_scope *scope)
{
    jinja_dict *d = jinja_dict_new(j);

    for (size_t i = 0; i < n->n_list; i += 2) {
        jinja_value key = eval(j, n->list[i], scope);
        jinja_dict_set(j, d, key, eval(j, n->list[i + 1], scope));
    }
    return (jinja_value){ .kind = J_DICT, .dict = d };
}

static jinja_value eval_sign(jinja *j, const jinja_node *n, jinja_scope *scope)
{
    jinja_value v = eval(j, n->a, scope);

    j->line = n->line;
    jinja_check_defined(j, v);
    if (!jinja_is_number(v))
        jinja_fail(j, FS_ERR_FORMAT, "no sign of a %s", jinja_kind_name(v));
    if (n->kind == N_POS)
        return v.kind == J_BOOL ? jinja_int(v.b) : v;
    return v.kind == J_FLOAT ? jinja_float(-v.f) : jinja_arith_int(j, OP_SUB, 0, v.kind == J_INT ? v.i : v.b);
}

/* A filter whose own operand is `text` when it is a block's. */
static jinja_value eval_filter(jinja *j, const jinja_node *n, const jinja_value *text, jinja_scope *scope)
{
    jinja_value v;
    jinja_args args;

    jinja_enter(j);
    if (n->a && n->a->kind == N_FILTER)
        v = eval_filter(j, n->a, text, scope);
    else
        v = n->a ? eval(j, n->a, scope) : *text;
    args = eval_args(j, n, scope);
    j->line = n->line;
    jinja_step(j, 1);
    v = jinja_filter(j, n->name, v, args);
    jinja_leave(j);
    return v;
}

static jinja_value eval_inner(jinja *j, const jinja_node *n, jinja_scope *scope)
{
    jinja_value v, w;
    jinja_args args;
    jinja_builder b = { 0 };

    switch (n->kind) {
    case N_CONST:
        return n->value;
    case N_NAME:
        return get_var(j, scope, n->name);
    case N_LIST:
    case N_TUPLE:
        return eval_items(j, n, scope);
    case N_DICT:
        return eval_dict(j, n, scope);
    case N_ATTR:
        v = eval(j, n->a, scope);
        j->line = n->line;
        return jinja_get_attr(j, v, n->name);
    case N_ITEM:
        v = eval(j, n->a, scope);
        w = eval(j, n->b, scope);
        j->line = n->line;
        return jinja_get_item(j, v, w);
    case N_SLICE:
        return eval_slice(j, n, scope);
    case N_CALL:
        v = eval(j, n->a, scope);
        args = eval_args(j, n, scope);
        j->line = n->line;
        return jinja_apply(j, v, args);
    case N_FILTER:
        return eval_filter(j, n, NULL, scope);
    case N_TEST:
        v = eval(j, n->a, scope);
        args = eval_args(j, n, scope);
        j->line = n->line;
        return jinja_bool(jinja_test(j, n->name, v, args));
    case N_NOT:
        return jinja_bool(!jinja_truth(eval(j, n->a, scope)));
    case N_NEG:
    case N_POS:
        return eval_sign(j, n, scope);
    case N_AND:
    case N_OR:
        v = eval(j, n->a, scope);
        return jinja_truth(v) == (n->kind == N_OR) ? v : eval(j, n->b, scope);
    case N_COND:
        if (jinja_truth(eval(j, n->b, scope)))
            return eval(j, n->a, scope);
        return n->c ? eval(j, n->c, scope) : jinja_undefined(JSTR("the else of an inline if"));
    case N_CONCAT:
        for (size_t i = 0; i < n->n_list; i++)
            jinja_put(j, &b, jinja_to_str(j, eval(j, n->list[i], scope)));
        return jinja_string(jinja_built(&b));
    case N_COMPARE:
        return eval_compare(j, n, scope);
    default: /* N_BINARY */
        v = eval(j, n->a, scope);
        w = eval(j, n->b, scope);
        j->line = n->line;
        return jinja_binary(j, n->op, v, w);
    }
}

static jinja_value eval(jinja *j, const jinja_node *n, jinja_scope *scope)
{
    jinja_value v;

    jinja_step(j, 1);
    jinja_enter(j);
    v = eval_inner(j, n, scope);
    jinja_leave(j);
    return v;
}

/* ---- loops ---- */

static void assign(jinja *j, const jinja_node *target, jinja_value v, jinja_scope *scope)
{
    if (target->kind == N_NAME) {
        set_var(j, scope, target->name, v);
    } else if (target->kind == N_ATTR) {
        jinja_value ns = get_var(j, scope, target->a->name);
        if (ns.kind != J_NAMESPACE)
            jinja_fail(j, FS_ERR_FORMAT, "cannot set an attribute of '%.*s', which is a %s and no namespace", JFMT(target->a->name), jinja_kind_name(ns));
        if (target->name.n && target->name.data[0] == '_')
            jinja_fail(j, FS_ERR_FORMAT, "a namespace's attribute '%.*s' begins with an underscore", JFMT(target->name));
        jinja_dict_set(j, ns.dict, jinja_string(target->name), v);
    } else {
        jinja_list *l;
        jinja_check_defined(j, v);
        l = jinja_iterate(j, v);
        if (l->n != target->n_list)
            jinja_fail(j, FS_ERR_FORMAT, "%zu values for %zu names", l->n, target->n_list);
        for (size_t i = 0; i < l->n; i++)
            assign(j, target->list[i], l->items[i], scope);
    }
}

/* Whether the loop has an item at `index`, looking as far ahead as needed. */
static bool loop_has(jinja *j, jinja_loop *l, size_t index)
{
    while (l->ahead.n <= index && l->from_at < l->from->n) {
        jinja_value v = l->from->items[l->from_at++];
        jinja_step(j, 1);
        if (l->node->c) {
            jinja_scope *s = scope_in(j, l->scope);
            assign(j, l->node->a, v, s);
            if (!jinja_truth(eval(j, l->node->c, s)))
                continue;
        }
        jinja_list_push(j, &l->ahead, v);
    }
    return l->ahead.n > index;
}

static size_t loop_length(jinja *j, jinja_loop *l)
{
    while (loop_has(j, l, l->ahead.n))
        ;
    return l->ahead.n;
}

jinja_value jinja_loop_attr(jinja *j, jinja_loop *l, jinja_str name)
{
    int64_t i = (int64_t)l->index;

    if (jinja_str_is(name, "index"))
        return jinja_int(i + 1);
    if (jinja_str_is(name, "index0"))
        return jinja_int(i);
    if (jinja_str_is(name, "first"))
        return jinja_bool(i == 0);
    if (jinja_str_is(name, "last"))
        return jinja_bool(!loop_has(j, l, l->index + 1));
    if (jinja_str_is(name, "length"))
        return jinja_int((int64_t)loop_length(j, l));
    if (jinja_str_is(name, "revindex"))
        return jinja_int((int64_t)loop_length(j, l) - i);
    if (jinja_str_is(name, "revindex0"))
        return jinja_int((int64_t)loop_length(j, l) - i - 1);
    if (jinja_str_is(name, "depth") || jinja_str_is(name, "depth0"))
        return jinja_int(name.n == 5);
    if (jinja_str_is(name, "previtem"))
        return i ? l->ahead.items[i - 1] : jinja_undefined(JSTR("there is no previous item"));
    if (jinja_str_is(name, "nextitem"))
        return loop_has(j, l, l->index + 1) ? l->ahead.items[i + 1] : jinja_undefined(JSTR("there is no next item"));
    if (jinja_str_is(name, "cycle") || jinja_str_is(name, "changed")) {
        jinja_bound *m = jinja_alloc(j, sizeof *m);
        *m = (jinja_bound){ { .kind = J_LOOP, .loop = l }, name };
        return (jinja_value){ .kind = J_METHOD, .method = m };
    }
    return jinja_undefined(name);
}

static jinja_value call_loop(jinja *j, jinja_loop *l, jinja_str name, jinja_args args)
{
    jinja_value seen = jinja_of_list(J_TUPLE, jinja_list_new(j));
    bool same;

    jinja_check_args(j, name, &args, SIZE_MAX, "");
    if (jinja_str_is(name, "cycle")) {
        if (args.n == 0)
            jinja_fail(j, FS_ERR_FORMAT, "loop.cycle without items");
        return args.items[l->index % args.n];
    }
    for (size_t i = 0; i < args.n; i++)
        jinja_list_push(j, seen.list, args.items[i]);
    same = l->has_changed && jinja_equal(j, l->changed, seen);
    l->changed = seen;
    l->has_changed = true;
    return jinja_bool(!same);
}

static flow exec_for(jinja *j, const jinja_node *n, jinja_scope *scope)
{
    jinja_loop *l = jinja_alloc(j, sizeof *l);
    flow f = FLOW_ON;
    bool completed = false; /* a round that break or continue cut short does not count for else, in Jinja */

    l->node = n;
    l->scope = scope;
    l->from = jinja_iterate(j, eval(j, n->b, scope));
    for (; f != FLOW_BREAK && loop_has(j, l, l->index); l->index++) {
        jinja_scope *s = scope_in(j, scope);
        j->line = n->line;
        set_var(j, s, JSTR("loop"), (jinja_value){ .kind = J_LOOP, .loop = l });
        assign(j, n->a, l->ahead.items[l->index], s);
        f = exec(j, n->list[0], s);
        completed = completed || f == FLOW_ON;
    }
    if (!completed && n->list[1])
        return exec(j, n->list[1], scope_in(j, scope));
    return FLOW_ON;
}

/* ---- statements ---- */

/* The text that a block's body makes. */
static jinja_value capture(jinja *j, const jinja_node *body, jinja_scope *scope)
{
    jinja_builder text = { 0 }, *outer = j->out;

    j->out = &text;
    if (exec(j, body, scope_in(j, scope)) != FLOW_ON)
        jinja_fail(j, FS_ERR_UNSUPPORTED, "break or continue that leaves a block is not supported");
    j->out = outer;
    return jinja_string(jinja_built(&text));
}

static void output(jinja *j, jinja_str s)
{
    if (s.n > j->output_bytes_max - j->out->n)
        jinja_fail(j, FS_ERR_FORMAT, "it writes more than %zu bytes", j->output_bytes_max);
    jinja_put(j, j->out, s);
}

static flow exec_if(jinja *j, const jinja_node *n, jinja_scope *scope)
{
    for (size_t i = 0; i < n->n_list; i += 2)
        if (!n->list[i] || jinja_truth(eval(j, n->list[i], scope)))
            return exec(j, n->list[i + 1], scope);
    return FLOW_ON;
}

static jinja_value macro_of(jinja *j, const jinja_node *n, jinja_scope *scope)
{
    jinja_macro *m = jinja_alloc(j, sizeof *m);

    *m = (jinja_macro){ n, scope };
    return (jinja_value){ .kind = J_MACRO, .macro = m };
}

/* The call gets the block's body as the macro `caller`. */
static void exec_call_block(jinja *j, const jinja_node *n, jinja_scope *scope)
{
    jinja_value f = eval(j, n->a->a, scope), v;
    jinja_args args = eval_args(j, n->a, scope);
    jinja_str *names = jinja_alloc_n(j, args.n_named + 1, sizeof *names);
    jinja_value *named = jinja_alloc_n(j, args.n_named + 1, sizeof *named);

    for (size_t i = 0; i < args.n_named; i++) {
        names[i] = args.names[i];
        named[i] = args.named[i];
    }
    names[args.n_named] = n->b->name;
    named[args.n_named] = macro_of(j, n->b, scope);
    args.names = names;
    args.named = named;
    args.n_named++;
    v = jinja_apply(j, f, args);
    output(j, jinja_to_str(j, v));
}

static flow exec_inner(jinja *j, const jinja_node *n, jinja_scope *scope)
{
    jinja_scope *inner;
    jinja_value v;
    flow f = FLOW_ON;

    switch (n->kind) {
    case N_BODY:
        for (size_t i = 0; i < n->n_list && f == FLOW_ON; i++)
            f = exec(j, n->list[i], scope);
        return f;
    case N_TEXT:
        output(j, n->value.s);
        return FLOW_ON;
    case N_OUTPUT:
        output(j, jinja_to_str(j, eval(j, n->a, scope)));
        return FLOW_ON;
    case N_IF:
        return exec_if(j, n, scope);
    case N_FOR:
        return exec_for(j, n, scope);
    case N_SET:
        v = eval(j, n->b, scope);
        j->line = n->line;
        assign(j, n->a, v, scope);
        return FLOW_ON;
    case N_SET_BLOCK:
        v = capture(j, n->c, scope);
        assign(j, n->a, n->b ? eval_filter(j, n->b, &v, scope) : v, scope);
        return FLOW_ON;
    case N_MACRO:
        set_var(j, scope, n->name, macro_of(j, n, scope));
        return FLOW_ON;
    case N_CALL_BLOCK:
        exec_call_block(j, n, scope);
        return FLOW_ON;
    case N_FILTER_BLOCK:
        v = capture(j, n->c, scope);
        output(j, jinja_to_str(j, eval_filter(j, n->b, &v, scope)));
        return FLOW_ON;
    case N_WITH:
        inner = scope_in(j, scope);
        for (size_t i = 0; i < n->n_named; i++)
            assign(j, n->named[i], eval(j, n->named[i]->a, scope), inner);
        return exec(j, n->c, inner);
    case N_GENERATION:
        output(j, capture(j, n->c, scope).s);
        return FLOW_ON;
    default:
        return n->kind == N_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
    }
}

static flow exec(jinja *j, const jinja_node *n, jinja_scope *scope)
{
    flow f;

    jinja_step(j, 1);
    jinja_enter(j);
    j->line = n->line;
    f = exec_inner(j, n, scope);
    jinja_leave(j);
    return f;
}

void jinja_run(jinja *j, const jinja_node *body)
{
    /* Variables that came from outside are below the template's own. */
    if (exec(j, body, scope_in(j, j->root)) != FLOW_ON)
        jinja_fail(j, FS_ERR_FORMAT, "break or continue outside a loop");
}

void jinja_set_variable(jinja *j, jinja_str name, jinja_value value)
{
    if (!j->root)
        j->root = scope_in(j, NULL);
    set_var(j, j->root, name, value);
}
