/* Finding the answer in what a model said, and comparing two answers; see the headers. */
#include "data/maths.h"

#include "data/maths_impl.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define PLACES      6
#define ITEMS_MAX   100
#define BOXES_MAX   8
#define OPEN_BOXES_MAX 64 /* without an end: each is looked for to the end of the text */
#define BOX_GAP     10 /* boxes nearer than this are one answer; further apart, up to BOX_GAP_WORD, when "and", "or" or a comma is between */
#define BOX_GAP_WORD 70
#define COMPARE_DEPTH_MAX 24

typedef fs_maths_node node;

/* ---- comparing ---- */

static bool same(fs_maths *m, const node *a, const node *b, int depth);

static bool is_relation(const node *n)
{
    return n->kind == FS_M_RELATION || (n->kind == FS_M_INTERSECTION && n->args[0]->kind == FS_M_RELATION && n->args[1]->kind == FS_M_RELATION);
}

static bool only_variables(const node *n)
{
    if (n->kind == FS_M_VARIABLE || n->kind == FS_M_TEXT)
        return true;
    if (n->kind != FS_M_TUPLE && n->kind != FS_M_LIST && n->kind != FS_M_MUL)
        return false;
    for (size_t i = 0; i < n->n_args; i++)
        if (!only_variables(n->args[i]))
            return false;
    return n->n_args > 0;
}

static bool is_equation(const node *n)
{
    return n->kind == FS_M_RELATION && n->relation == FS_R_EQ;
}

static bool is_assignment(const node *n)
{
    return is_equation(n) && only_variables(n->args[0]);
}

/* A literal, with a sign or percent sign. */
static const node *literal(const node *n, bool *ret_percent)
{
    *ret_percent = false;
    if (n->kind == FS_M_PERCENT) {
        *ret_percent = true;
        n = n->args[0];
    }
    if (n->kind == FS_M_NEG)
        n = n->args[0];
    if (n->kind == FS_M_PERCENT && !*ret_percent) {
        *ret_percent = true;
        n = n->args[0];
    }
    if (n->kind == FS_M_DEGREE)
        n = n->args[0];
    return n->kind == FS_M_NUMBER ? n : NULL;
}

/* An integer, whatever percent sign it has. */
static bool integer_of(const node *n, mpq_t ret, bool *ret_percent)
{
    const node *k = literal(n, ret_percent);

    if (!k || k->decimal || mpz_cmp_ui(mpq_denref(k->number), 1) != 0)
        return false;
    mpq_set(ret, k->number);
    if (n->kind == FS_M_NEG || (n->kind == FS_M_PERCENT && n->args[0]->kind == FS_M_NEG))
        mpq_neg(ret, ret);
    return true;
}

static bool same_number(const node *a, const node *b)
{
    bool percent_a, percent_b;
    const node *x = literal(a, &percent_a), *y = literal(b, &percent_b);

    if ((x && x->decimal) || (y && y->decimal))
        return fs_maths_same_rounded(a, b, PLACES) || fs_maths_same_value(a, b);
    if (percent_a != percent_b) {
        mpq_t p, q;
        bool equal;
        mpq_init(p);
        mpq_init(q);
        equal = integer_of(a, p, &percent_a) && integer_of(b, q, &percent_b) && mpq_equal(p, q);
        mpq_clear(p);
        mpq_clear(q);
        if (equal)
            return true;
    }
    return fs_maths_same_value(a, b);
}

/* The letters of a word, a variable, or a product of variables. */
static bool letters(const node *n, char *ret, size_t *at, size_t room)
{
    if (n->kind == FS_M_MUL)
        return letters(n->args[0], ret, at, room) && letters(n->args[1], ret, at, room);
    if (n->kind == FS_M_E || n->kind == FS_M_I) {
        if (*at + 1 >= room)
            return false;
        ret[(*at)++] = n->kind == FS_M_E ? 'e' : 'i';
        return true;
    }
    if (n->kind != FS_M_VARIABLE && n->kind != FS_M_TEXT)
        return false;
    for (size_t i = 0; i < n->text.n_bytes; i++) {
        if (*at + 1 >= room)
            return false;
        if (!isspace(n->text.data[i]))
            ret[(*at)++] = (char)n->text.data[i];
    }
    return true;
}

static bool same_words(const node *a, const node *b)
{
    char x[512], y[512];
    size_t n = 0, k = 0;

    if (!letters(a, x, &n, sizeof x) || !letters(b, y, &k, sizeof y) || n != k)
        return false;
    return n > 1 || a->kind == FS_M_TEXT || b->kind == FS_M_TEXT ? strncasecmp(x, y, n) == 0 : x[0] == y[0];
}

static bool same_in_order(fs_maths *m, const node *a, const node *b, int depth)
{
    if (a->n_args != b->n_args)
        return false;
    for (size_t i = 0; i < a->n_args; i++)
        if (!same(m, a->args[i], b->args[i], depth))
            return false;
    return true;
}

/* Every item of each is in the other. */
static bool same_as_sets(fs_maths *m, const node *a, const node *b, int depth)
{
    if (a->n_args > ITEMS_MAX || b->n_args > ITEMS_MAX)
        return false;
    for (int turn = 0; turn < 2; turn++) {
        const node *x = turn ? b : a, *y = turn ? a : b;
        for (size_t i = 0; i < x->n_args; i++) {
            bool found = false;
            for (size_t k = 0; k < y->n_args && !found; k++)
                found = same(m, turn ? y->args[k] : x->args[i], turn ? x->args[i] : y->args[k], depth);
            if (!found)
                return false;
        }
    }
    return true;
}

static bool is_list(const node *n)
{
    return n->kind == FS_M_SET || n->kind == FS_M_LIST;
}

static bool is_collection(const node *n)
{
    return is_list(n) || n->kind == FS_M_TUPLE || n->kind == FS_M_INTERVAL || n->kind == FS_M_UNION || n->kind == FS_M_INTERSECTION ||
           n->kind == FS_M_MINUS;
}

/* (1,2) may be meant as an open interval. */
static bool is_open_pair(const node *n)
{
    return n->n_args == 2 && (n->kind == FS_M_TUPLE || (n->kind == FS_M_INTERVAL && n->open_left && n->open_right));
}

static size_t parts_of(const node *n, fs_maths_kind kind, const node **ret, size_t at)
{
    if (n->kind == kind) {
        at = parts_of(n->args[0], kind, ret, at);
        return parts_of(n->args[1], kind, ret, at);
    }
    if (at < ITEMS_MAX)
        ret[at] = n;
    return at + 1;
}

/* Unions, whatever the order of their parts. */
static bool same_parts(fs_maths *m, const node *a, const node *b, int depth)
{
    const node *x[ITEMS_MAX], *y[ITEMS_MAX];
    size_t n = parts_of(a, a->kind, x, 0), k = parts_of(b, a->kind, y, 0);
    bool used[ITEMS_MAX] = { false };

    if (n != k || n > ITEMS_MAX)
        return false;
    for (size_t i = 0; i < n; i++) {
        size_t j = 0;
        while (j < n && (used[j] || !same(m, x[i], y[j], depth)))
            j++;
        if (j == n)
            return false;
        used[j] = true;
    }
    return true;
}

static int by_value(const void *a, const void *b)
{
    const node *const *x = a, *const *y = b;
    fs_maths_value v, w;
    int c;

    fs_maths_value_init(&v);
    fs_maths_value_init(&w);
    fs_maths_eval(*x, 0, &v);
    fs_maths_eval(*y, 0, &w);
    c = mpfr_cmp(v.re, w.re);
    fs_maths_value_done(&v);
    fs_maths_value_done(&w);
    return c;
}

/* A set and a tuple are the same when the tuple has the set's items in rising order. */
static bool same_sorted(fs_maths *m, const node *set, const node *tuple, int depth)
{
    node sorted = *set;
    bool is;

    if (set->n_args != tuple->n_args || set->n_args == 0 || set->n_args > ITEMS_MAX)
        return false;
    sorted.args = malloc(set->n_args * sizeof *sorted.args);
    if (!sorted.args) {
        m->no_memory = true;
        return false;
    }
    memcpy(sorted.args, set->args, set->n_args * sizeof *sorted.args);
    qsort(sorted.args, sorted.n_args, sizeof *sorted.args, by_value);
    is = same_in_order(m, &sorted, tuple, depth);
    free(sorted.args);
    return is;
}

/* A list that says one thing, once or again: "15\frac{39}{40} or \frac{639}{40}". */
static bool all_same(fs_maths *m, const node *list, const node *one, bool list_is_known, int depth)
{
    for (size_t i = 0; i < list->n_args; i++)
        if (!same(m, list_is_known ? list->args[i] : one, list_is_known ? one : list->args[i], depth))
            return false;
    return list->n_args > 0 && list->n_args <= ITEMS_MAX;
}

static bool same_collections(fs_maths *m, const node *a, const node *b, int depth)
{
    if (is_list(a) && is_list(b))
        return same_as_sets(m, a, b, depth);
    if (a->kind == FS_M_INTERVAL && b->kind == FS_M_INTERVAL)
        return a->open_left == b->open_left && a->open_right == b->open_right && same_in_order(m, a, b, depth);
    if (a->kind == FS_M_TUPLE && b->kind == FS_M_TUPLE)
        return same_in_order(m, a, b, depth);
    if (is_open_pair(a) && is_open_pair(b))
        return same_in_order(m, a, b, depth);
    if ((is_list(a) && b->kind == FS_M_TUPLE) || (is_open_pair(b) && is_list(a)))
        return a->kind == FS_M_LIST ? same_in_order(m, a, b, depth) : same_sorted(m, a, b, depth);
    if ((a->kind == FS_M_TUPLE || is_open_pair(a)) && is_list(b))
        return same_in_order(m, a, b, depth);
    if (a->kind == b->kind && (a->kind == FS_M_UNION || a->kind == FS_M_INTERSECTION))
        return same_parts(m, a, b, depth);
    if (a->kind == b->kind && a->kind == FS_M_MINUS)
        return same_in_order(m, a, b, depth);
    return (is_list(a) && !is_collection(b) && all_same(m, a, b, true, depth)) || (is_list(b) && !is_collection(a) && all_same(m, b, a, false, depth));
}

static fs_maths_relation flipped(fs_maths_relation r)
{
    return r == FS_R_LT ? FS_R_GT : r == FS_R_GT ? FS_R_LT : r == FS_R_LE ? FS_R_GE : r == FS_R_GE ? FS_R_LE : r;
}

static node *difference(fs_maths *m, node *a, node *b)
{
    node *n = fs_maths_node_new(m, FS_M_SUB, 2);

    if (n) {
        n->args[0] = a;
        n->args[1] = b;
    }
    return n;
}

/* Two equations that say the same but for a factor. */
static bool proportional(const node *x, const node *y)
{
    fs_maths_value a, b, first;
    bool is = true;

    fs_maths_value_init(&a);
    fs_maths_value_init(&b);
    fs_maths_value_init(&first);
    for (int k = 0; k < 3 && is; k++) {
        mpfr_t t;
        fs_maths_eval(x, k, &a);
        fs_maths_eval(y, k, &b);
        is = !a.no_value && !b.no_value && mpfr_zero_p(a.im) && mpfr_zero_p(b.im) && !mpfr_zero_p(a.re) && !mpfr_zero_p(b.re);
        if (!is)
            break;
        mpfr_div(a.re, a.re, b.re, MPFR_RNDN);
        if (k == 0) {
            mpfr_set(first.re, a.re, MPFR_RNDN);
            continue;
        }
        mpfr_init2(t, FS_MATHS_BITS);
        mpfr_sub(t, a.re, first.re, MPFR_RNDN);
        mpfr_div(t, t, first.re, MPFR_RNDN);
        is = mpfr_zero_p(t) || mpfr_get_exp(t) < -160;
        mpfr_clear(t);
    }
    fs_maths_value_done(&a);
    fs_maths_value_done(&b);
    fs_maths_value_done(&first);
    return is;
}

static bool same_relation(fs_maths *m, const node *a, const node *b, int depth)
{
    node *x, *y;

    if (a->kind == FS_M_INTERSECTION || b->kind == FS_M_INTERSECTION)
        return a->kind == b->kind && ((same(m, a->args[0], b->args[0], depth) && same(m, a->args[1], b->args[1], depth)) ||
                                      (same(m, a->args[0], b->args[1], depth) && same(m, a->args[1], b->args[0], depth)));
    if (a->relation == FS_R_IN || b->relation == FS_R_IN)
        return a->relation == b->relation && same(m, a->args[0], b->args[0], depth) && same(m, a->args[1], b->args[1], depth);
    if (is_assignment(a) && is_assignment(b) && same(m, a->args[0], b->args[0], depth))
        return same(m, a->args[1], b->args[1], depth);
    x = difference(m, a->args[0], a->args[1]);
    y = difference(m, b->args[0], b->args[1]);
    if (!x || !y)
        return false;
    if (a->relation == b->relation && fs_maths_same_value(x, y))
        return true;
    if (a->relation == FS_R_EQ && b->relation == FS_R_EQ)
        return proportional(x, y);
    y = difference(m, b->args[1], b->args[0]);
    return y && flipped(a->relation) == b->relation && fs_maths_same_value(x, y);
}

static bool is_infinite(const node *n, int *ret_sign)
{
    *ret_sign = 1;
    if (n->kind == FS_M_NEG) {
        *ret_sign = -1;
        n = n->args[0];
    }
    return n->kind == FS_M_INFINITY;
}

/* x < 2 as (-oo, 2): the interval of one inequality with a variable on one side; NULL: it is none. */
static node *interval_of(fs_maths *m, const node *r)
{
    bool left = r->kind == FS_M_RELATION && only_variables(r->args[0]), right = r->kind == FS_M_RELATION && only_variables(r->args[1]);
    fs_maths_relation kind = r->kind == FS_M_RELATION ? (right && !left ? flipped(r->relation) : r->relation) : FS_R_EQ;
    node *n, *end, *infinity;
    bool below = kind == FS_R_LT || kind == FS_R_LE;

    if (left == right || (!below && kind != FS_R_GT && kind != FS_R_GE))
        return NULL;
    end = left ? r->args[1] : r->args[0];
    n = fs_maths_node_new(m, FS_M_INTERVAL, 2);
    infinity = fs_maths_node_new(m, FS_M_INFINITY, 0);
    if (infinity && below) {
        node *negative = fs_maths_node_new(m, FS_M_NEG, 1);
        if (negative)
            negative->args[0] = infinity;
        infinity = negative;
    }
    if (!n || !infinity)
        return NULL;
    n->args[below ? 0 : 1] = infinity;
    n->args[below ? 1 : 0] = end;
    n->open_left = below || kind == FS_R_GT;
    n->open_right = !below || kind == FS_R_LT;
    return n;
}

/* 0 <= x < 1 too. */
static node *interval_of_relations(fs_maths *m, const node *r)
{
    node *a, *b, *n;
    int sign;

    if (r->kind == FS_M_RELATION)
        return interval_of(m, r);
    a = interval_of(m, r->args[0]);
    b = interval_of(m, r->args[1]);
    if (!a || !b || is_infinite(a->args[0], &sign) == is_infinite(b->args[0], &sign))
        return NULL;
    n = is_infinite(a->args[0], &sign) ? b : a; /* has the lower end */
    a = n == a ? b : a;
    n->args[1] = a->args[1];
    n->open_right = a->open_right;
    return n;
}

static bool same(fs_maths *m, const node *a, const node *b, int depth)
{
    int sign_a, sign_b;

    if (++depth > COMPARE_DEPTH_MAX)
        return false;
    if (a->kind == FS_M_RELATION && a->relation == FS_R_IN && !(b->kind == FS_M_RELATION && b->relation == FS_R_IN))
        a = a->args[1];
    else if (b->kind == FS_M_RELATION && b->relation == FS_R_IN && !(a->kind == FS_M_RELATION && a->relation == FS_R_IN))
        b = b->args[1];
    if (is_equation(b) && !is_equation(a))
        b = only_variables(b->args[1]) && !only_variables(b->args[0]) ? b->args[0] : b->args[1];
    else if (is_assignment(a) && !is_equation(b))
        a = a->args[1];
    if (is_relation(a) && (b->kind == FS_M_INTERVAL || b->kind == FS_M_TUPLE)) {
        node *interval = interval_of_relations(m, a);
        if (interval)
            return same(m, interval, b, depth);
    }
    if (is_relation(a) || is_relation(b))
        return is_relation(a) && is_relation(b) && same_relation(m, a, b, depth);
    if (is_collection(a) || is_collection(b))
        return same_collections(m, a, b, depth);
    if (a->kind == FS_M_MATRIX || b->kind == FS_M_MATRIX)
        return a->kind == b->kind && a->n_columns == b->n_columns && same_in_order(m, a, b, depth);
    if (is_infinite(a, &sign_a) || is_infinite(b, &sign_b))
        return is_infinite(a, &sign_a) && is_infinite(b, &sign_b) && sign_a == sign_b;
    if (a->kind == FS_M_TEXT || b->kind == FS_M_TEXT || a->kind == FS_M_VARIABLE || b->kind == FS_M_VARIABLE) {
        if (same_words(a, b))
            return true;
        if (a->kind == FS_M_TEXT || b->kind == FS_M_TEXT)
            return false;
    }
    return same_number(a, b);
}

/* ---- finding ---- */

static fs_bytes slice(fs_bytes s, size_t begin, size_t end)
{
    return (fs_bytes){ s.data + begin, end - begin };
}

static fs_bytes trim(fs_bytes s)
{
    return fs_bytes_trim(s, FS_SPACES);
}

static bool at_word(fs_bytes s, size_t i, const char *word)
{
    size_t n = strlen(word);

    return s.n_bytes - i >= n && strncasecmp((const char *)s.data + i, word, n) == 0;
}

/* The content of the command's braces at i, or nothing; *ret_end is behind them. */
static bool box_at(fs_bytes s, size_t i, fs_bytes *ret, size_t *ret_end)
{
    size_t begin;
    int depth = 0;

    if (!at_word(s, i, "\\boxed") && !at_word(s, i, "\\fbox"))
        return false;
    i += at_word(s, i, "\\boxed") ? 6 : 5;
    while (i < s.n_bytes && isspace(s.data[i]))
        i++;
    if (i == s.n_bytes || s.data[i] != '{')
        return false;
    for (begin = i + 1; i < s.n_bytes; i++) {
        depth += (s.data[i] == '{') - (s.data[i] == '}');
        if (depth == 0) {
            *ret = trim(slice(s, begin, i));
            *ret_end = i + 1;
            return true;
        }
    }
    return false;
}

static bool joins(fs_bytes between)
{
    if (between.n_bytes < BOX_GAP)
        return true;
    if (between.n_bytes >= BOX_GAP_WORD)
        return false;
    for (size_t i = 0; i < between.n_bytes; i++) {
        bool starts = i == 0 || !isalpha(between.data[i - 1]);
        if (between.data[i] == ',' || between.data[i] == ';')
            return true;
        if (starts && ((at_word(between, i, "and") && (i + 3 == between.n_bytes || !isalpha(between.data[i + 3]))) ||
                       (at_word(between, i, "or") && (i + 2 == between.n_bytes || !isalpha(between.data[i + 2])))))
            return true;
    }
    return false;
}

/* The last box and those that belong to it, with commas between, into *ret. */
static bool find_boxes(fs_bytes s, fs_buf *ret, bool *ret_no_memory)
{
    fs_bytes boxes[BOXES_MAX];
    size_t n = 0, n_open = 0, next_begin = 0, end;

    for (size_t i = s.n_bytes; i-- > 0 && n < BOXES_MAX && n_open < OPEN_BOXES_MAX;) {
        fs_bytes box;
        if (s.data[i] != '\\' || (!at_word(s, i, "\\boxed") && !at_word(s, i, "\\fbox")))
            continue;
        if (!box_at(s, i, &box, &end)) {
            n_open++;
            continue;
        }
        if (n && end > next_begin)
            continue; /* holds the one that was found */
        if (n && !joins(slice(s, end, next_begin)))
            break;
        if (!n || !fs_bytes_equal(boxes[n - 1], box))
            boxes[n++] = box;
        next_begin = i;
    }
    for (size_t i = n; i-- > 0;)
        *ret_no_memory |= (ret->n_bytes && fs_buf_append_str(ret, ",", NULL)) || fs_buf_append(ret, boxes[i].data, boxes[i].n_bytes, NULL);
    return n > 0;
}

/* The last $...$, $$...$$, \(...\) or \[...\]. */
static bool find_environment(fs_bytes s, fs_bytes *ret)
{
    bool found = false;

    for (size_t i = 0; i < s.n_bytes; i++) {
        const char *close = NULL;
        size_t n_open = 2, n_close, k;
        if (s.data[i] == '\\' && i + 1 < s.n_bytes) {
            close = s.data[i + 1] == '(' ? "\\)" : s.data[i + 1] == '[' ? "\\]" : NULL;
            if (!close) {
                i++; /* \$ is no environment */
                continue;
            }
        } else if (s.data[i] == '$') {
            close = i + 1 < s.n_bytes && s.data[i + 1] == '$' ? "$$" : "$";
            n_open = strlen(close);
        } else {
            continue;
        }
        n_close = strlen(close);
        for (k = i + n_open; k + n_close <= s.n_bytes; k++) {
            if (memcmp(s.data + k, close, n_close) == 0)
                break;
            if (s.data[k] == '\\' && n_close == 1)
                k++;
        }
        if (k + n_close > s.n_bytes)
            return found;
        if (trim(slice(s, i + n_open, k)).n_bytes) {
            *ret = trim(slice(s, i + n_open, k));
            found = true;
        }
        i = k + n_close - 1;
    }
    return found;
}

/* What stands behind the last "answer is" or "answer:", to the end of its line. */
static bool find_announced(fs_bytes s, fs_bytes *ret)
{
    static const char *const words[] = { "answer is", "answer:", "answer:**", "####" };

    for (size_t i = s.n_bytes; i-- > 0;)
        for (size_t k = 0; k < 4; k++)
            if (at_word(s, i, words[k])) {
                size_t begin = i + strlen(words[k]), end;
                while (begin < s.n_bytes && (s.data[begin] == '*' || s.data[begin] == ':' || isspace(s.data[begin])))
                    begin++;
                for (end = begin; end < s.n_bytes && s.data[end] != '\n'; end++)
                    ;
                *ret = trim(slice(s, begin, end));
                return ret->n_bytes > 0;
            }
    return false;
}

/* The last number of plain text: sign, digits with thousands separators, decimals, /digits, %. */
static bool find_number(fs_bytes s, bool first, fs_bytes *ret)
{
    bool found = false;

    for (size_t i = 0; i < s.n_bytes; i++) {
        size_t k = i;
        if (!isdigit(s.data[i]) && !(s.data[i] == '.' && i + 1 < s.n_bytes && isdigit(s.data[i + 1])))
            continue;
        while (k < s.n_bytes && (isdigit(s.data[k]) ||
                                 ((s.data[k] == ',' || s.data[k] == '.' || s.data[k] == '/') && k + 1 < s.n_bytes && isdigit(s.data[k + 1]))))
            k++;
        if (k < s.n_bytes && s.data[k] == '%')
            k++;
        if (i > 0 && s.data[i - 1] == '-')
            i--;
        *ret = slice(s, i, k);
        found = true;
        if (first)
            break;
        i = k;
    }
    return found;
}

/* Sentences, whose letters are no variables: words beside others, or beside digits. Within $...$ (what lies between two
 * prices) two words of three small letters are needed. */
static bool is_prose(fs_bytes s, bool in_dollars)
{
    static const char *const known[] = { "sqrt", "pi", "or", "and", "inf", "infinity" };
    size_t n_words = 0;
    bool digits = false;

    for (size_t i = 0; i < s.n_bytes; i++) {
        size_t k = i;
        digits |= isdigit(s.data[i]) != 0;
        if (s.data[i] == '\\') { /* a command, and its text */
            for (i++; i + 1 < s.n_bytes && isalpha(s.data[i + 1]); i++)
                ;
            if (i + 1 < s.n_bytes && s.data[i + 1] == '{' && s.n_bytes - i > 2)
                for (i++; i + 1 < s.n_bytes && s.data[i] != '}'; i++)
                    digits |= isdigit(s.data[i]) != 0;
            continue;
        }
        while (k < s.n_bytes && isalpha(s.data[k]))
            k++;
        if (k > i + 1) {
            bool is_known = false;
            for (size_t w = 0; w < sizeof known / sizeof *known; w++)
                is_known |= strlen(known[w]) == k - i && at_word(s, i, known[w]);
            for (size_t w = i; w < k && in_dollars; w++)
                is_known |= k - i < 3 || !islower(s.data[w]);
            n_words += !is_known;
            i = k - 1;
        }
    }
    return n_words > 1 || (n_words == 1 && digits && !in_dollars);
}

/* ends: what may stand behind it, of a sentence or of bold text. */
static node *parse_plain(fs_maths *m, fs_bytes s, const char *ends)
{
    s = trim(s);
    while (s.n_bytes && strchr(ends, s.data[s.n_bytes - 1]) && s.data[s.n_bytes - 1])
        s.n_bytes--;
    return s.n_bytes && !is_prose(s, false) ? fs_maths_parse(m, s) : NULL;
}

static node *parse_announced(fs_maths *m, fs_bytes s)
{
    fs_bytes part;
    node *n = NULL;

    if (find_environment(s, &part) && !is_prose(part, true))
        return fs_maths_parse(m, part);
    for (size_t i = 0; i + 1 < s.n_bytes; i++)
        if (s.data[i] == '.' && isspace(s.data[i + 1])) {
            s.n_bytes = i; /* the sentence ends */
            break;
        }
    n = parse_plain(m, s, ".!*");
    if (!n && find_number(s, true, &part))
        n = fs_maths_parse(m, part);
    return n;
}

static node *find_answer(fs_maths *m, fs_bytes s, fs_buf *boxes)
{
    fs_bytes part;
    node *n = NULL;

    if (find_boxes(s, boxes, &m->no_memory))
        return fs_maths_parse(m, fs_buf_bytes(boxes));
    if (find_announced(s, &part) && (n = parse_announced(m, part)))
        return n;
    if (find_environment(s, &part) && !is_prose(part, true))
        return fs_maths_parse(m, part); /* the answer is there, read or not */
    if ((n = parse_plain(m, s, ".!*")))
        return n;
    return find_number(s, false, &part) ? fs_maths_parse(m, part) : NULL;
}

static node *read_known(fs_maths *m, fs_bytes s, fs_buf *boxes)
{
    bool boxed = memmem(s.data, s.n_bytes, "\\boxed", 6) != NULL;
    fs_bytes part;
    node *n = boxed ? NULL : parse_plain(m, s, ".*"); /* 5! is 120 */

    if (!n && !boxed && !find_environment(s, &part))
        n = fs_maths_parse(m, trim(s)); /* words that are the answer: "no solution" */

    return n ? n : find_answer(m, s, boxes);
}

/* What cannot be read is the same when it is written the same, but for white space. */
static bool same_text(fs_bytes a, fs_bytes b)
{
    size_t i = 0, k = 0;

    for (;; i++, k++) {
        while (i < a.n_bytes && isspace(a.data[i]))
            i++;
        while (k < b.n_bytes && isspace(b.data[k]))
            k++;
        if (i == a.n_bytes || k == b.n_bytes || a.data[i] != b.data[k])
            return i == a.n_bytes && k == b.n_bytes;
    }
}

fs_status fs_maths_verify(fs_bytes answer, fs_bytes output, fs_maths_verdict *ret, fs_error *err)
{
    fs_maths m = { 0 };
    fs_buf known_boxes = { 0 }, boxes = { 0 };
    node *known = answer.n_bytes ? read_known(&m, answer, &known_boxes) : NULL, *said = output.n_bytes ? find_answer(&m, output, &boxes) : NULL;
    bool is = known && said ? same(&m, known, said, 0) : boxes.n_bytes && same_text(answer, fs_buf_bytes(&boxes)), no_memory = m.no_memory;

    fs_maths_done(&m);
    fs_buf_done(&known_boxes);
    fs_buf_done(&boxes);
    mpfr_free_cache();
    if (no_memory)
        return fs_fail_memory(err, output.n_bytes);
    *ret = is ? FS_MATHS_EQUAL : !known || !said ? FS_MATHS_NO_ANSWER : FS_MATHS_OTHER;
    return FS_OK;
}
