/* What the parser stands on: nodes, the bytes of an expression with what only sets type stepped over, and numbers. */
#include "data/maths_parse.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef fs_maths_parser parser;
typedef fs_maths_node node;

void fs_maths_done(fs_maths *m)
{
    for (node *n = m->nodes, *next; n; n = next) {
        next = n->next;
        if (n->kind == FS_M_NUMBER)
            mpq_clear(n->number);
        free(n->args);
        free(n);
    }
    *m = (fs_maths){ 0 };
}

node *fs_maths_node_new(fs_maths *m, fs_maths_kind kind, size_t n_args)
{
    node *n;

    if (m->n_nodes >= FS_MATHS_NODES_MAX)
        return NULL;
    n = calloc(1, sizeof *n);
    if (n && n_args && !(n->args = calloc(n_args, sizeof *n->args))) {
        free(n);
        n = NULL;
    }
    if (!n) {
        m->no_memory = true;
        return NULL;
    }
    n->kind = kind;
    n->n_args = n_args;
    if (kind == FS_M_NUMBER)
        mpq_init(n->number);
    n->next = m->nodes;
    m->nodes = n;
    m->n_nodes++;
    return n;
}

node *fs_mp_node1(parser *p, fs_maths_kind kind, node *a)
{
    node *n = a ? fs_maths_node_new(p->m, kind, 1) : NULL;

    if (n)
        n->args[0] = a;
    return n;
}

node *fs_mp_node2(parser *p, fs_maths_kind kind, node *a, node *b)
{
    node *n = a && b ? fs_maths_node_new(p->m, kind, 2) : NULL;

    if (n) {
        n->args[0] = a;
        n->args[1] = b;
    }
    return n;
}

node *fs_mp_int(parser *p, long v)
{
    node *n = fs_maths_node_new(p->m, FS_M_NUMBER, 0);

    if (n)
        mpq_set_si(n->number, v, 1);
    return n;
}

bool fs_mp_append(parser *p, node *list, node *item)
{
    node **args = item ? realloc(list->args, (list->n_args + 1) * sizeof *args) : NULL;

    if (!args) {
        p->m->no_memory |= item != NULL;
        return false;
    }
    list->args = args;
    list->args[list->n_args++] = item;
    return true;
}

/* ---- bytes ---- */

bool fs_mp_at(const parser *p, const char *word)
{
    size_t n = strlen(word);

    if (p->s.n_bytes - p->at < n || memcmp(p->s.data + p->at, word, n) != 0)
        return false;
    /* A command's name goes on while there are letters. */
    return !(word[0] == '\\' && isalpha((unsigned char)word[n - 1]) && p->at + n < p->s.n_bytes && isalpha(p->s.data[p->at + n]));
}

bool fs_mp_take_bytes(parser *p, const char *word)
{
    if (!fs_mp_at(p, word))
        return false;
    p->at += strlen(word);
    return true;
}

/* What only sets type. */
static void skip(parser *p)
{
    static const char *const nothing[] = { "\\,", "\\;", "\\:", "\\!", "\\ ", "\\quad", "\\qquad", "\\left", "\\right", "\\bigl", "\\bigr", "\\Bigl", "\\Bigr",
                                           "\\big", "\\Big", "\\displaystyle", "\\textstyle", "\\limits", "\\$", "$", "~", "{}", "\\phantom{}",
                                           "\xc2\xa0" };

    for (bool again = true; again;) {
        again = false;
        while (p->at < p->s.n_bytes && isspace(p->s.data[p->at]))
            p->at++;
        for (size_t i = 0; i < sizeof nothing / sizeof *nothing && !again; i++)
            again = fs_mp_take_bytes(p, nothing[i]);
    }
}

uint8_t fs_mp_peek(parser *p)
{
    skip(p);
    return p->at < p->s.n_bytes ? p->s.data[p->at] : 0;
}

bool fs_mp_take(parser *p, const char *word)
{
    skip(p);
    return fs_mp_take_bytes(p, word);
}

bool fs_mp_take_any(parser *p, const char *const *words)
{
    for (; *words; words++)
        if (fs_mp_take(p, *words))
            return true;
    return false;
}

/* The raw text of {...}, brackets matched. */
bool fs_mp_raw_group(parser *p, fs_bytes *ret)
{
    int depth = 0;
    size_t begin;

    if (fs_mp_peek(p) != '{')
        return false;
    for (begin = p->at + 1; p->at < p->s.n_bytes; p->at++) {
        uint8_t c = p->s.data[p->at];
        depth += (c == '{') - (c == '}');
        if (depth == 0) {
            *ret = (fs_bytes){ p->s.data + begin, p->at - begin };
            p->at++;
            return true;
        }
    }
    return false;
}

bool fs_mp_is_word(fs_bytes s, const char *word)
{
    return s.n_bytes == strlen(word) && strncasecmp((const char *)s.data, word, s.n_bytes) == 0;
}

static const char *const text_commands[] = { "\\text", "\\textbf", "\\textit", "\\textrm", "\\textnormal", "\\mathrm", "\\mathbf", "\\mathit", "\\mbox",
                                             "\\operatorname", "\\mathsf", "\\texttt", "\\rm", NULL };

/* A text command at p: its words, p behind it. */
bool fs_mp_text(parser *p, fs_bytes *ret)
{
    size_t before = p->at;

    if (fs_mp_take_any(p, text_commands) && fs_mp_raw_group(p, ret)) {
        *ret = fs_bytes_trim(*ret, FS_SPACES);
        return true;
    }
    p->at = before;
    return false;
}

/* ---- numbers ---- */

static bool is_digit(const parser *p, size_t i)
{
    return i < p->s.n_bytes && isdigit(p->s.data[i]);
}

/* The length of a thousands separator at i, before three digits and no fourth; 0: there is none. */
static size_t thousands(const parser *p, size_t i)
{
    static const char *const marks[] = { "{,}", "\\,", "\\!", ",\\!", "," };

    for (size_t k = 0; k < 5; k++) {
        size_t n = strlen(marks[k]);
        if (p->s.n_bytes - i >= n && memcmp(p->s.data + i, marks[k], n) == 0 && is_digit(p, i + n) && is_digit(p, i + n + 1) &&
            is_digit(p, i + n + 2) && !is_digit(p, i + n + 3))
            return k == 4 && p->n_brackets ? 0 : n;
    }
    return 0;
}

/* 52_8: the number that the digits are in that base. */
static node *in_base(parser *p, node *n, size_t begin, size_t end)
{
    char digits[256];
    unsigned long base = 0;
    size_t before = p->at, n_digits = 0;
    fs_bytes sub = { 0 };

    if (!fs_mp_take(p, "_"))
        return n;
    if (!fs_mp_raw_group(p, &sub) && is_digit(p, p->at))
        sub = (fs_bytes){ p->s.data + p->at++, 1 };
    sub = fs_bytes_trim(sub, FS_SPACES);
    for (size_t i = 0; i < sub.n_bytes; i++)
        base = base < 100 && isdigit(sub.data[i]) ? base * 10 + (unsigned long)(sub.data[i] - '0') : 100;
    for (size_t i = begin; i < end && n_digits < sizeof digits - 1; i++)
        if (isdigit(p->s.data[i]))
            digits[n_digits++] = (char)p->s.data[i];
    digits[n_digits] = 0;
    if (n->decimal || base < 2 || base > 36 || mpz_set_str(mpq_numref(n->number), digits, (int)base) != 0) {
        p->at = before;
        return NULL;
    }
    return n;
}

node *fs_mp_number(parser *p)
{
    char digits[1024];
    size_t n = 0, begin = p->at, lead, places = 0;
    node *v;

    while (is_digit(p, p->at)) {
        if (n == sizeof digits - 1)
            return NULL;
        digits[n++] = (char)p->s.data[p->at++];
    }
    lead = p->at - begin;
    for (size_t k; lead >= 1 && lead <= 3 && (k = thousands(p, p->at)) > 0;) {
        if (n + 4 > sizeof digits)
            return NULL;
        memcpy(digits + n, p->s.data + p->at + k, 3);
        n += 3;
        p->at += k + 3;
    }
    v = fs_maths_node_new(p->m, FS_M_NUMBER, 0);
    if (!v)
        return NULL;
    if (p->at < p->s.n_bytes && p->s.data[p->at] == '.' && (is_digit(p, p->at + 1) || n)) {
        p->at++;
        while (is_digit(p, p->at)) {
            if (n == sizeof digits - 1)
                return NULL;
            digits[n++] = (char)p->s.data[p->at++];
            places++;
        }
        v->decimal = places > 0;
    }
    digits[n] = 0;
    if (n == 0 || mpz_set_str(mpq_numref(v->number), digits, 10) != 0)
        return NULL;
    mpz_ui_pow_ui(mpq_denref(v->number), 10, places);
    mpq_canonicalize(v->number);
    return fs_mp_peek(p) == '_' ? in_base(p, v, begin, p->at) : v;
}
