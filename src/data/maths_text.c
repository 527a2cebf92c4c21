/* What the parser stands on: nodes, and the bytes of an expression with what only sets type stepped over. */
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

bool fs_mp_is_digit(const parser *p, size_t i)
{
    return i < p->s.n_bytes && isdigit(p->s.data[i]);
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
