/* LaTeX and plain expressions to trees, by recursive descent. */
#include "data/maths_parse.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef fs_maths_parser parser;
typedef fs_maths_node node;

static node *statement(parser *p);
static node *sum(parser *p);
static node *unary(parser *p);
static node *power(parser *p);

static node *group(parser *p)
{
    node *n;

    if (!fs_mp_take(p, "{"))
        return NULL;
    n = statement(p);
    return n && fs_mp_take(p, "}") ? n : NULL;
}

/* An argument of a command: {...}, or one letter, digit or command. */
static node *argument(parser *p)
{
    uint8_t c = fs_mp_peek(p);

    if (c == '{')
        return group(p);
    if (isdigit(c)) {
        p->at++;
        return fs_mp_int(p, c - '0');
    }
    return power(p);
}

static node *name_node(parser *p, fs_maths_kind kind, fs_bytes text)
{
    node *n = fs_maths_node_new(p->m, kind, 0);

    if (n)
        n->text = text;
    return n;
}

/* \text{...}: a number or letter in it is one; other words stand for themselves. */
static node *word_node(parser *p, fs_bytes text)
{
    fs_bytes s = text;
    parser inner;
    node *n;

    if (s.n_bytes > 2 && s.data[0] == '(' && s.data[s.n_bytes - 1] == ')')
        s = fs_bytes_trim((fs_bytes){ s.data + 1, s.n_bytes - 2 }, FS_SPACES);
    if (s.n_bytes == 1 && isalpha(s.data[0]))
        return name_node(p, FS_M_VARIABLE, s);
    inner = (parser){ .m = p->m, .s = s };
    if (s.n_bytes && (isdigit(s.data[0]) || s.data[0] == '-')) {
        n = sum(&inner);
        if (n && inner.at == s.n_bytes)
            return n;
    }
    return name_node(p, FS_M_TEXT, s);
}

static const char *const functions[] = { "\\arcsin", "\\arccos", "\\arctan", "\\sinh", "\\cosh", "\\tanh", "\\sin", "\\cos", "\\tan", "\\cot", "\\sec", "\\csc",
                                         "\\exp", "\\ln", NULL };

/* What a function is applied to: (...), {...}, or factors up to the next sign, operator or function. */
static node *applied(parser *p)
{
    node *n = NULL;

    if (fs_mp_peek(p) == '(' || fs_mp_peek(p) == '{')
        return power(p);
    if (fs_mp_peek(p) == '-') {
        p->at++;
        return fs_mp_node1(p, FS_M_NEG, power(p));
    }
    for (;;) {
        uint8_t c = fs_mp_peek(p);
        node *f;
        bool function = fs_mp_at(p, "\\log") || fs_mp_at(p, "\\lg");
        for (const char *const *w = functions; *w; w++)
            function |= fs_mp_at(p, *w);
        if (n && (function || !(isalpha(c) || fs_mp_at(p, "\\pi") || fs_mp_at(p, "\\theta") || fs_mp_at(p, "\\alpha") || fs_mp_at(p, "\\frac"))))
            return n;
        f = power(p);
        n = n ? fs_mp_node2(p, FS_M_MUL, n, f) : f;
        if (!n)
            return NULL;
    }
}

static node *function(parser *p, fs_bytes name)
{
    node *exponent = NULL, *n, *a;

    if (fs_mp_take(p, "^") && !(exponent = argument(p)))
        return NULL;
    a = applied(p);
    /* \sin^{-1} is the inverse */
    if (exponent && exponent->kind == FS_M_NEG && exponent->args[0]->kind == FS_M_NUMBER && mpq_cmp_si(exponent->args[0]->number, 1, 1) == 0 &&
        name.n_bytes == 3) {
        static const char *const inverse[][2] = { { "sin", "arcsin" }, { "cos", "arccos" }, { "tan", "arctan" } };
        for (int i = 0; i < 3; i++)
            if (fs_mp_is_word(name, inverse[i][0]))
                name = fs_bytes_str(inverse[i][1]);
        exponent = NULL;
    }
    n = fs_mp_node1(p, FS_M_FUNCTION, a);
    if (n)
        n->text = name;
    return exponent ? fs_mp_node2(p, FS_M_POW, n, exponent) : n;
}

static node *logarithm(parser *p, long base)
{
    node *b = NULL, *a;

    if (fs_mp_take(p, "_"))
        b = argument(p);
    else
        b = base ? fs_mp_int(p, base) : fs_maths_node_new(p->m, FS_M_E, 0); /* sympy's log is natural */
    if (!b)
        return NULL;
    a = applied(p);
    return fs_mp_node2(p, FS_M_LOG, a, b);
}

/* Items up to the closing bracket, which is not consumed. */
static node *items(parser *p, fs_maths_kind kind)
{
    node *list = fs_maths_node_new(p->m, kind, 0);

    for (;;) {
        node *n = list ? statement(p) : NULL;
        if (!n)
            return NULL;
        if (n->kind == FS_M_LIST) {
            for (size_t i = 0; i < n->n_args; i++)
                if (!fs_mp_append(p, list, n->args[i]))
                    return NULL;
        } else if (!fs_mp_append(p, list, n)) {
            return NULL;
        }
        if (!fs_mp_take(p, ",") && !fs_mp_take(p, ";"))
            return list;
    }
}

/* From '(' or '[': brackets around one expression, an interval, a tuple. */
static node *bracketed(parser *p)
{
    bool square = p->s.data[p->at] == '[', close_square;
    node *list;

    p->at++;
    p->n_brackets++;
    list = items(p, FS_M_TUPLE);
    p->n_brackets--;
    if (!list)
        return NULL;
    close_square = fs_mp_take(p, "]");
    if (!close_square && !fs_mp_take(p, ")"))
        return NULL;
    if (list->n_args == 1)
        return square == close_square ? list->args[0] : NULL;
    if (list->n_args == 2 && (square || close_square || list->args[0]->kind == FS_M_INFINITY || list->args[1]->kind == FS_M_INFINITY ||
                              (list->args[0]->kind == FS_M_NEG && list->args[0]->args[0]->kind == FS_M_INFINITY))) {
        list->kind = FS_M_INTERVAL;
        list->open_left = !square;
        list->open_right = !close_square;
    }
    return list;
}

static node *braces(parser *p)
{
    node *set;

    if (fs_mp_take(p, "\\}") || fs_mp_take(p, "\\rbrace"))
        return fs_maths_node_new(p->m, FS_M_SET, 0);
    p->n_brackets++;
    set = items(p, FS_M_SET);
    p->n_brackets--;
    return set && (fs_mp_take(p, "\\}") || fs_mp_take(p, "\\rbrace")) ? set : NULL;
}

static node *matrix(parser *p, const char *end)
{
    node *m = fs_maths_node_new(p->m, FS_M_MATRIX, 0);
    size_t in_row = 0;

    for (;;) {
        node *n = m ? sum(p) : NULL;
        if (!n || !fs_mp_append(p, m, n))
            return NULL;
        in_row++;
        if (fs_mp_take(p, "&"))
            continue;
        if (m->n_columns && in_row != m->n_columns)
            return NULL;
        m->n_columns = in_row;
        in_row = 0;
        if (fs_mp_take(p, "\\\\") && !fs_mp_at(p, end)) {
            fs_mp_peek(p);
            if (!fs_mp_at(p, end))
                continue;
        }
        return fs_mp_take(p, end) ? m : NULL;
    }
}

static node *environment(parser *p)
{
    static const char *const names[] = { "pmatrix", "bmatrix", "matrix", "vmatrix", "Bmatrix" };
    fs_bytes name;
    char end[32] = "\\end{";

    if (!fs_mp_raw_group(p, &name))
        return NULL;
    for (int i = 0; i < 5; i++)
        if (fs_mp_is_word(name, names[i])) {
            strcat(strcat(end, names[i]), "}");
            return matrix(p, end);
        }
    return NULL;
}

static node *fraction(parser *p)
{
    node *a = argument(p);

    return fs_mp_node2(p, FS_M_DIV, a, a ? argument(p) : NULL);
}

static node *root(parser *p)
{
    node *degree = NULL, *a;

    if (fs_mp_peek(p) == '[') {
        p->at++;
        degree = sum(p);
        if (!degree || !fs_mp_take(p, "]"))
            return NULL;
    } else {
        degree = fs_mp_int(p, 2);
    }
    a = argument(p);
    return fs_mp_node2(p, FS_M_ROOT, a, degree);
}

static node *between(parser *p, fs_maths_kind kind, const char *end)
{
    node *n;

    p->bars += end[0] == '|';
    n = sum(p);
    p->bars -= end[0] == '|';
    return n && fs_mp_take(p, end) ? fs_mp_node1(p, kind, n) : NULL;
}

static node *greek(parser *p)
{
    static const char *const letters[] = { "\\alpha", "\\beta", "\\gamma", "\\delta", "\\theta", "\\lambda", "\\mu", "\\phi", "\\varphi", "\\omega", "\\sigma",
                                           "\\rho", "\\tau", "\\ell" };

    for (size_t i = 0; i < sizeof letters / sizeof *letters; i++) {
        size_t before = p->at;
        if (fs_mp_take(p, letters[i]))
            return name_node(p, FS_M_VARIABLE, (fs_bytes){ p->s.data + before, strlen(letters[i]) });
    }
    return NULL;
}

static node *several(parser *p, fs_maths_kind kind)
{
    node *list;

    if (!fs_mp_take(p, "("))
        return NULL;
    p->n_brackets++;
    list = items(p, kind);
    p->n_brackets--;
    return list && fs_mp_take(p, ")") ? list : NULL;
}

static node *command(parser *p)
{
    static const char *const fractions[] = { "\\frac", "\\dfrac", "\\tfrac", "\\cfrac", NULL };
    static const char *const binomials[] = { "\\binom", "\\dbinom", "\\tbinom", NULL };
    static const char *const empties[] = { "\\emptyset", "\\varnothing", NULL };
    size_t before;
    fs_bytes text;
    node *n;

    if (fs_mp_take_any(p, fractions))
        return fraction(p);
    if (fs_mp_take(p, "\\sqrt"))
        return root(p);
    if (fs_mp_take(p, "\\pi"))
        return fs_maths_node_new(p->m, FS_M_PI, 0);
    if (fs_mp_take(p, "\\infty"))
        return fs_maths_node_new(p->m, FS_M_INFINITY, 0);
    if (fs_mp_take(p, "\\boxed") || fs_mp_take(p, "\\fbox"))
        return group(p);
    if (fs_mp_take(p, "\\{") || fs_mp_take(p, "\\lbrace"))
        return braces(p);
    if (fs_mp_take_any(p, empties))
        return fs_maths_node_new(p->m, FS_M_SET, 0);
    if (fs_mp_take(p, "\\lfloor"))
        return between(p, FS_M_FLOOR, "\\rfloor");
    if (fs_mp_take(p, "\\lceil"))
        return between(p, FS_M_CEIL, "\\rceil");
    if (fs_mp_take(p, "\\lvert"))
        return between(p, FS_M_ABS, "\\rvert");
    if (fs_mp_take(p, "\\begin"))
        return environment(p);
    if (fs_mp_take_any(p, binomials)) {
        n = argument(p);
        return fs_mp_node2(p, FS_M_BINOMIAL, n, n ? argument(p) : NULL);
    }
    if (fs_mp_take(p, "\\log"))
        return logarithm(p, 0);
    if (fs_mp_take(p, "\\lg"))
        return logarithm(p, 10);
    if (fs_mp_take(p, "\\min"))
        return several(p, FS_M_MIN);
    if (fs_mp_take(p, "\\max"))
        return several(p, FS_M_MAX);
    if (fs_mp_take(p, "\\gcd"))
        return several(p, FS_M_GCD);
    for (const char *const *f = functions; *f; f++)
        if (fs_mp_take(p, *f))
            return function(p, fs_bytes_str(*f + 1));
    if (fs_mp_take(p, "\\imath"))
        return fs_maths_node_new(p->m, FS_M_I, 0);
    before = p->at;
    if (fs_mp_text(p, &text)) {
        if (text.n_bytes == 0)
            return unary(p);
        n = word_node(p, text);
        if (!n || n->kind != FS_M_TEXT)
            return n;
        /* Words in front of something ("x = ", "The answer is ") say nothing. */
        before = p->at;
        if (fs_mp_peek(p) && !strchr("},;)&]", fs_mp_peek(p)) && !fs_mp_at(p, "\\text") && !fs_mp_at(p, "\\}") && !fs_mp_at(p, "\\\\")) {
            node *behind = sum(p);
            if (behind)
                return behind;
            p->at = before;
        }
        return n;
    }
    p->at = before;
    return greek(p);
}

static node *letter(parser *p)
{
    static const char *const plain[] = { "sqrt", "infinity", "inf", "pi", NULL };
    uint8_t c = fs_mp_peek(p);
    node *n;

    for (int i = 0; plain[i]; i++) {
        size_t k = strlen(plain[i]);
        if (!fs_mp_at(p, plain[i]) || (p->at + k < p->s.n_bytes && isalpha(p->s.data[p->at + k])))
            continue;
        p->at += k;
        if (i == 0)
            return fs_mp_peek(p) == '(' || fs_mp_peek(p) == '{' ? fs_mp_node2(p, FS_M_ROOT, argument(p), fs_mp_int(p, 2)) : NULL;
        return fs_maths_node_new(p->m, i == 3 ? FS_M_PI : FS_M_INFINITY, 0);
    }
    p->at++;
    if (c == 'e' || c == 'i')
        return fs_maths_node_new(p->m, c == 'e' ? FS_M_E : FS_M_I, 0);
    n = name_node(p, FS_M_VARIABLE, (fs_bytes){ p->s.data + p->at - 1, 1 });
    if (n && fs_mp_take(p, "_")) { /* a subscript is part of the name */
        fs_bytes sub;
        if (fs_mp_raw_group(p, &sub))
            n->text.n_bytes = (size_t)(sub.data + sub.n_bytes + 1 - n->text.data);
        else if (p->at < p->s.n_bytes && isalnum(p->s.data[p->at]))
            n->text.n_bytes = (size_t)(p->s.data + ++p->at - n->text.data);
        else
            return NULL;
    }
    return n;
}

static node *primary(parser *p)
{
    uint8_t c = fs_mp_peek(p);

    if (isdigit(c) || c == '.')
        return fs_mp_number(p);
    if (isalpha(c))
        return letter(p);
    if (c == '(' || c == '[')
        return bracketed(p);
    if (c == '{')
        return group(p);
    if (c == '|') {
        p->at++;
        return between(p, FS_M_ABS, "|");
    }
    if (fs_mp_take_bytes(p, "\xcf\x80"))
        return fs_maths_node_new(p->m, FS_M_PI, 0);
    if (fs_mp_take_bytes(p, "\xe2\x88\x9e"))
        return fs_maths_node_new(p->m, FS_M_INFINITY, 0);
    if (fs_mp_take_bytes(p, "\xe2\x88\x9a"))
        return fs_mp_node2(p, FS_M_ROOT, argument(p), fs_mp_int(p, 2));
    return c == '\\' ? command(p) : NULL;
}

static bool is_number(const node *n)
{
    return n->kind == FS_M_NUMBER;
}

/* 1\frac{1}{2} is a sum. */
static node *mixed(parser *p, node *whole)
{
    static const char *const fractions[] = { "\\frac", "\\dfrac", "\\tfrac", NULL };
    size_t before = p->at;
    node *f;

    if (!is_number(whole) || whole->decimal || !fs_mp_take_any(p, fractions)) {
        p->at = before;
        return whole;
    }
    f = fraction(p);
    if (f && is_number(f->args[0]) && is_number(f->args[1]))
        return fs_mp_node2(p, FS_M_ADD, whole, f);
    p->at = before;
    return whole;
}

/* Units, and what else may stand behind a quantity. */
static node *after_quantity(parser *p, node *n)
{
    static const char *const percents[] = { "\\%", "%", "\\text{\\%}", "\\text{%}", "\\text{ percent}", "\\text{percent}", "percent", NULL };
    static const char *const degrees[] = { "^\\circ", "^{\\circ}", "\\degree", "\xc2\xb0", "^{\\,\\circ}", NULL };

    while (n) {
        size_t before;
        fs_bytes text;
        if (fs_mp_take(p, "!")) {
            n = fs_mp_node1(p, FS_M_FACTORIAL, n);
        } else if (fs_mp_take_any(p, percents)) {
            n = fs_mp_node1(p, FS_M_PERCENT, n);
        } else if (fs_mp_take_any(p, degrees)) {
            n = fs_mp_node1(p, FS_M_DEGREE, n);
        } else {
            before = p->at;
            if (!fs_mp_text(p, &text) || fs_mp_is_word(text, "or") || fs_mp_is_word(text, "and") || text.n_bytes < 1 || n->kind == FS_M_TEXT) {
                p->at = before;
                return n;
            }
            /* a unit, with its exponent, or two: cm^2, \mathrm{km} / \mathrm{h} */
            if (fs_mp_take(p, "^") && !argument(p))
                return NULL;
            before = p->at;
            if (!fs_mp_take(p, "/") || !fs_mp_text(p, &text))
                p->at = before;
            else if (fs_mp_take(p, "^") && !argument(p))
                return NULL;
        }
    }
    return n;
}

static node *power(parser *p)
{
    node *n, *e;

    if (++p->depth > FS_MATHS_DEPTH_MAX) {
        p->depth--;
        return NULL;
    }
    n = primary(p);
    if (n)
        n = mixed(p, n);
    n = after_quantity(p, n);
    while (n && fs_mp_peek(p) == '^') {
        p->at++;
        if (isdigit(fs_mp_peek(p)))
            e = fs_mp_number(p); /* x^10, as people mean it */
        else if (fs_mp_peek(p) == '-') {
            p->at++;
            e = fs_mp_node1(p, FS_M_NEG, argument(p));
        } else {
            e = argument(p);
        }
        n = after_quantity(p, fs_mp_node2(p, FS_M_POW, n, e));
    }
    p->depth--;
    return n;
}

static node *unary(parser *p)
{
    node *n;

    if (++p->depth > FS_MATHS_DEPTH_MAX) {
        p->depth--;
        return NULL;
    }
    if (fs_mp_take(p, "-") || fs_mp_take(p, "\xe2\x88\x92"))
        n = fs_mp_node1(p, FS_M_NEG, unary(p));
    else if (fs_mp_take(p, "+"))
        n = unary(p);
    else
        n = power(p);
    p->depth--;
    return n;
}

/* Whether a factor can start here without a sign for the product. */
static bool starts_factor(parser *p, const node *before)
{
    static const char *const ends[] = { "\\cup", "\\cap", "\\setminus", "\\text", "\\mathrm", "\\mbox", "\\le", "\\leq", "\\ge", "\\geq", "\\in", "\\ne", "\\neq",
                                        "\\leqslant", "\\geqslant", "\\lt", "\\gt", "\\approx", "\\pm", "\\mp", "\\cdot", "\\times", "\\div", "\\}", "\\\\",
                                        "\\rfloor", "\\rceil", "\\rvert", "\\rbrace", "\\end", "\\cdots", "\\ldots", "\\equiv", "\\to", "\\rightarrow",
                                        "\\textbf", "\\textit", "\\mid", "\\%", NULL };
    uint8_t c = fs_mp_peek(p);

    if (c == '|')
        return p->bars == 0;
    if (isdigit(c))
        return !is_number(before);
    if (c == '\\') {
        for (const char *const *e = ends; *e; e++)
            if (fs_mp_at(p, *e))
                return false;
        return true;
    }
    if (fs_mp_at(p, "and") || fs_mp_at(p, "or ") || fs_mp_at(p, "cup"))
        return false;
    return isalpha(c) || c == '(' || c == '{' || c == 0xcf || fs_mp_at(p, "\xe2\x88\x9a");
}

static node *product(parser *p)
{
    static const char *const times[] = { "\\cdot", "\\times", "\\ast", "*", "\xc3\x97", "\xc2\xb7", NULL };
    static const char *const over[] = { "/", "\\div", ":", NULL };
    node *n = unary(p);

    while (n) {
        if (fs_mp_take_any(p, times))
            n = fs_mp_node2(p, FS_M_MUL, n, unary(p));
        else if (fs_mp_take_any(p, over))
            n = fs_mp_node2(p, FS_M_DIV, n, unary(p));
        else if (starts_factor(p, n))
            n = fs_mp_node2(p, FS_M_MUL, n, power(p));
        else
            break;
    }
    return n;
}

static node *sum(parser *p)
{
    node *n;

    if (++p->depth > FS_MATHS_DEPTH_MAX) {
        p->depth--;
        return NULL;
    }
    if (fs_mp_take(p, "\\pm") || fs_mp_take(p, "\xc2\xb1")) {
        p->saw_plus_minus = true;
        n = product(p);
        n = p->minus ? fs_mp_node1(p, FS_M_NEG, n) : n;
    } else {
        n = product(p);
    }
    while (n) {
        if (fs_mp_take(p, "+")) {
            n = fs_mp_node2(p, FS_M_ADD, n, product(p));
        } else if (fs_mp_take(p, "-") || fs_mp_take(p, "\xe2\x88\x92")) {
            n = fs_mp_node2(p, FS_M_SUB, n, product(p));
        } else if (fs_mp_take(p, "\\pm") || fs_mp_take(p, "\xc2\xb1")) {
            p->saw_plus_minus = true;
            n = fs_mp_node2(p, p->minus ? FS_M_SUB : FS_M_ADD, n, product(p));
        } else if (fs_mp_take(p, "\\mp")) {
            p->saw_plus_minus = true;
            n = fs_mp_node2(p, p->minus ? FS_M_ADD : FS_M_SUB, n, product(p));
        } else {
            break;
        }
    }
    p->depth--;
    return n;
}

static node *sets(parser *p)
{
    node *n = sum(p);

    while (n) {
        if (fs_mp_take(p, "\\cup") || fs_mp_take(p, "\xe2\x88\xaa"))
            n = fs_mp_node2(p, FS_M_UNION, n, sum(p));
        else if (fs_mp_take(p, "\\cap"))
            n = fs_mp_node2(p, FS_M_INTERSECTION, n, sum(p));
        else if (fs_mp_take(p, "\\setminus"))
            n = fs_mp_node2(p, FS_M_MINUS, n, sum(p));
        else
            break;
    }
    return n;
}

static bool accept_relation(parser *p, fs_maths_relation *ret)
{
    static const struct {
        const char *word;
        fs_maths_relation r;
    } words[] = { { "\\leqslant", FS_R_LE }, { "\\leq", FS_R_LE }, { "\\le", FS_R_LE },   { "<=", FS_R_LE },      { "\xe2\x89\xa4", FS_R_LE }, { "\\geqslant", FS_R_GE },
                  { "\\geq", FS_R_GE },      { "\\ge", FS_R_GE },  { ">=", FS_R_GE },     { "\xe2\x89\xa5", FS_R_GE }, { "\\neq", FS_R_NE },    { "\\ne", FS_R_NE },
                  { "\\lt", FS_R_LT },       { "<", FS_R_LT },     { "\\gt", FS_R_GT },   { ">", FS_R_GT },       { "=", FS_R_EQ },          { "\\approx", FS_R_EQ },
                  { "\\in", FS_R_IN } };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (fs_mp_take(p, words[i].word)) {
            *ret = words[i].r;
            return true;
        }
    return false;
}

/* A chain a = b = c is its first side and its last, a < b < c two relations. */
static node *relation(parser *p)
{
    node *n = sets(p), *r = NULL;
    fs_maths_relation kind;

    while (n && accept_relation(p, &kind)) {
        node *right = sets(p), *next;
        if (r && r->kind == FS_M_RELATION && r->relation == FS_R_EQ && kind == FS_R_EQ && right) {
            r->args[1] = right;
            n = right;
            continue;
        }
        next = fs_mp_node2(p, FS_M_RELATION, n, right);
        if (!next)
            return NULL;
        next->relation = kind;
        if (r) { /* both hold */
            next = fs_mp_node2(p, FS_M_INTERSECTION, r, next);
            if (!next)
                return NULL;
        }
        r = next;
        n = right;
    }
    return r ? r : n;
}

static bool accept_separator(parser *p)
{
    size_t before;
    fs_bytes text;
    bool comma = false;

    if (p->n_brackets == 0)
        comma = fs_mp_take(p, ",") || fs_mp_take(p, ";");
    before = p->at;
    if (fs_mp_text(p, &text)) {
        while (text.n_bytes && strchr(",.; ", text.data[0]))
            text = (fs_bytes){ text.data + 1, text.n_bytes - 1 };
        if (fs_mp_is_word(text, "or") || fs_mp_is_word(text, "and") || (comma && text.n_bytes == 0))
            return true;
    }
    p->at = before;
    if (fs_mp_take(p, "and ") || fs_mp_take(p, "or ") || fs_mp_take(p, "\\lor") || fs_mp_take(p, "\\vee"))
        return true;
    return comma;
}

static node *statement(parser *p)
{
    node *n, *list = NULL;

    if (++p->depth > FS_MATHS_DEPTH_MAX) {
        p->depth--;
        return NULL;
    }
    n = relation(p);
    while (n && accept_separator(p)) {
        node *next;
        if (fs_mp_peek(p) == 0 || fs_mp_peek(p) == '}')
            break; /* a comma at the end */
        next = relation(p);
        if (!list && (!(list = fs_maths_node_new(p->m, FS_M_LIST, 0)) || !fs_mp_append(p, list, n))) {
            n = NULL;
            break;
        }
        if (!next || !fs_mp_append(p, list, next)) {
            n = NULL;
            break;
        }
        n = list;
    }
    p->depth--;
    return n;
}

static node *parse_all(fs_maths *m, fs_bytes text, bool minus, bool *ret_plus_minus)
{
    parser p = { .m = m, .s = text, .minus = minus };
    node *n = statement(&p);
    uint8_t c = fs_mp_peek(&p);

    if (c == '.' || c == ',' || c == ';') {
        p.at++;
        c = fs_mp_peek(&p);
    }
    *ret_plus_minus = p.saw_plus_minus;
    return c == 0 && p.at >= text.n_bytes ? n : NULL;
}

node *fs_maths_parse(fs_maths *m, fs_bytes text)
{
    bool plus_minus, again;
    parser p = { .m = m };
    node *n, *other, *list;

    if (text.n_bytes > FS_MATHS_BYTES_MAX)
        return NULL;
    n = parse_all(m, text, false, &plus_minus);
    if (!n || !plus_minus)
        return n;
    other = parse_all(m, text, true, &again);
    list = other ? fs_maths_node_new(m, FS_M_LIST, 0) : NULL;
    if (!list)
        return NULL;
    for (int k = 0; k < 2; k++) {
        node *one = k ? other : n;
        for (size_t i = 0; i < (one->kind == FS_M_LIST ? one->n_args : 1); i++)
            if (!fs_mp_append(&p, list, one->kind == FS_M_LIST ? one->args[i] : one))
                return NULL;
    }
    return list;
}
