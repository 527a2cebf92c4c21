/* See the header. */
#include "data/countdown.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES  192 /* of an expression over six numbers */
#define MOVES_MAX   (FS_COUNTDOWN_NUMBERS_MAX * (FS_COUNTDOWN_NUMBERS_MAX - 1) / 2 * 3)
#define DEPTH_MAX   64
#define VALUE_MAX   ((int64_t)1 << 40)

/* A number that is there: given, or made. */
typedef struct item {
    int64_t value;
    char text[TEXT_BYTES];
    char op; /* the last operation; 0: a given number */
} item;

typedef struct move {
    uint8_t left, right;
    char op;
} move;

typedef struct search {
    const fs_countdown *c;
    fs_random *random;
    fs_buf *trace, *answer;
    char steps[FS_COUNTDOWN_NUMBERS_MAX][64];
    char best[TEXT_BYTES];
    int64_t best_distance;
    int budget, n_tries;
    bool solved;
    fs_status rc;
    fs_error *err;
} search;

static int64_t apply(int64_t a, char op, int64_t b)
{
    return op == '+' ? a + b : op == '-' ? a - b : a * b;
}

/* Brackets where precedence needs them. */
static void join(const item *a, char op, const item *b, item *ret)
{
    bool left = op == '*' && (a->op == '+' || a->op == '-');
    bool right = (op == '*' && (b->op == '+' || b->op == '-')) || (op == '-' && (b->op == '+' || b->op == '-'));

    ret->value = apply(a->value, op, b->value);
    ret->op = op;
    snprintf(ret->text, sizeof ret->text, "%s%.60s%s%c%s%.60s%s", left ? "(" : "", a->text, left ? ")" : "", op, right ? "(" : "", b->text, right ? ")" : "");
}

static size_t moves_of(const item *items, int n, move *ret)
{
    size_t n_moves = 0;

    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++)
            for (const char *op = "+-*"; *op; op++) {
                bool swap = *op == '-' && items[i].value < items[j].value; /* nothing gets negative */
                ret[n_moves++] = (move){ (uint8_t)(swap ? j : i), (uint8_t)(swap ? i : j), *op };
            }
    return n_moves;
}

/* Equal numbers make equal moves: whether one before moves[i] is the same. */
static bool repeats(const item *items, const move *moves, size_t i)
{
    int64_t a = items[moves[i].left].value, b = items[moves[i].right].value;

    for (size_t k = 0; k < i; k++) {
        int64_t c = items[moves[k].left].value, d = items[moves[k].right].value;
        if (moves[k].op == moves[i].op && ((a == c && b == d) || (a == d && b == c)))
            return true;
    }
    return false;
}

static void shuffle(fs_random *r, move *moves, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t k = fs_random_below(r, (uint32_t)i);
        move m = moves[i - 1];
        moves[i - 1] = moves[k];
        moves[k] = m;
    }
}

/* items [n] without the two of the move, with what it makes at the end. */
static void after(const item *items, int n, move m, item *ret)
{
    int k = 0;

    for (int i = 0; i < n; i++)
        if (i != m.left && i != m.right)
            ret[k++] = items[i];
    join(&items[m.left], m.op, &items[m.right], &ret[k]);
}

void fs_countdown_draw(fs_random *r, int n, int number_max, int target_max, fs_countdown *ret)
{
    item items[FS_COUNTDOWN_NUMBERS_MAX] = { 0 }, next[FS_COUNTDOWN_NUMBERS_MAX] = { 0 };
    move moves[MOVES_MAX];

    for (;;) {
        ret->n = n;
        for (int i = 0; i < n; i++) {
            ret->numbers[i] = 1 + (int64_t)fs_random_below(r, (uint32_t)number_max);
            items[i] = (item){ .value = ret->numbers[i] };
        }
        for (int k = n; k > 1; k--) {
            size_t n_moves = moves_of(items, k, moves);
            after(items, k, moves[fs_random_below(r, (uint32_t)n_moves)], next);
            memcpy(items, next, sizeof items);
        }
        ret->target = items[0].value;
        if (ret->target >= 1 && ret->target <= target_max)
            return;
    }
}

static void put_try(search *s, int n_steps)
{
    fs_buf *out = s->trace;

    if (!out)
        return;
    if (s->n_tries > 1 && !s->rc)
        s->rc = fs_buf_append_str(out, ";", s->err);
    for (int i = 0; i < n_steps && !s->rc; i++)
        s->rc = fs_buf_printf(out, s->err, "%s%s", i ? "," : "", s->steps[i]);
}

static void leaf(search *s, const item *made, int n_steps)
{
    int64_t distance = made->value > s->c->target ? made->value - s->c->target : s->c->target - made->value;

    s->n_tries++;
    put_try(s, n_steps);
    if (s->n_tries == 1 || distance < s->best_distance) {
        s->best_distance = distance;
        memcpy(s->best, made->text, sizeof s->best);
    }
    s->solved = distance == 0;
}

static void descend(search *s, const item *items, int n, int depth)
{
    item next[FS_COUNTDOWN_NUMBERS_MAX];
    move moves[MOVES_MAX];
    size_t n_moves;

    if (n == 1) {
        leaf(s, &items[0], depth);
        return;
    }
    n_moves = moves_of(items, n, moves);
    shuffle(s->random, moves, n_moves);
    for (size_t i = 0; i < n_moves && !s->solved && s->n_tries < s->budget && !s->rc; i++) {
        const item *a = &items[moves[i].left], *b = &items[moves[i].right];
        int64_t value = apply(a->value, moves[i].op, b->value);
        if (value > VALUE_MAX || repeats(items, moves, i))
            continue;
        snprintf(s->steps[depth], sizeof s->steps[depth], "%" PRId64 "%c%" PRId64 "=%" PRId64, a->value, moves[i].op, b->value, value);
        after(items, n, moves[i], next);
        descend(s, next, n - 1, depth + 1);
    }
}

fs_status fs_countdown_search(const fs_countdown *c, fs_random *r, int budget, fs_buf *trace, fs_buf *answer, int *ret_n_tries, bool *ret_solved,
                              fs_error *err)
{
    search s = { .c = c, .random = r, .trace = trace, .budget = budget, .err = err };
    item items[FS_COUNTDOWN_NUMBERS_MAX];

    for (int i = 0; i < c->n; i++) {
        items[i] = (item){ .value = c->numbers[i] };
        snprintf(items[i].text, sizeof items[i].text, "%" PRId64, c->numbers[i]);
    }
    descend(&s, items, c->n, 0);
    *ret_n_tries = s.n_tries;
    *ret_solved = s.solved;
    return s.rc ? s.rc : fs_buf_append_str(answer, s.best, err);
}

/* ---- reading ---- */

static bool read_number(fs_bytes text, size_t *at, int64_t *ret)
{
    int64_t v = 0;
    size_t begin = *at;

    for (; *at < text.n_bytes && text.data[*at] >= '0' && text.data[*at] <= '9' && v < VALUE_MAX; (*at)++)
        v = v * 10 + (text.data[*at] - '0');
    *ret = v;
    return *at > begin && v < VALUE_MAX;
}

bool fs_countdown_read(fs_bytes prompt, fs_countdown *ret)
{
    size_t at = 0;

    ret->n = 0;
    for (;;) {
        if (ret->n == FS_COUNTDOWN_NUMBERS_MAX || !read_number(prompt, &at, &ret->numbers[ret->n]))
            return false;
        ret->n++;
        if (at == prompt.n_bytes)
            return false;
        if (prompt.data[at] == '=')
            break;
        if (prompt.data[at++] != ' ')
            return false;
    }
    at++;
    return read_number(prompt, &at, &ret->target) && at == prompt.n_bytes;
}

/* A fraction, in lowest terms, n > 0 below. */
typedef struct fraction {
    int64_t over, under;
} fraction;

typedef struct expression {
    fs_bytes text;
    size_t at;
    const fs_countdown *c;
    bool used[FS_COUNTDOWN_NUMBERS_MAX];
    bool foreign;  /* a number that is not given, or not any more */
    bool no_value; /* division by zero, or beyond 64 bits */
    bool bad;
} expression;

static fraction reduce(expression *e, __int128 over, __int128 under)
{
    __int128 a = over < 0 ? -over : over, b = under < 0 ? -under : under;

    if (under == 0) {
        e->no_value = true;
        return (fraction){ 0, 1 };
    }
    while (b) {
        __int128 t = a % b;
        a = b;
        b = t;
    }
    if (under < 0)
        a = -a;
    over /= a;
    under /= a;
    if (over > VALUE_MAX || over < -VALUE_MAX || under > VALUE_MAX) {
        e->no_value = true;
        return (fraction){ 0, 1 };
    }
    return (fraction){ (int64_t)over, (int64_t)under };
}

static uint8_t peek(expression *e)
{
    while (e->at < e->text.n_bytes && e->text.data[e->at] == ' ')
        e->at++;
    return e->at < e->text.n_bytes ? e->text.data[e->at] : 0;
}

static fraction sum(expression *e, int depth);

static fraction factor(expression *e, int depth)
{
    uint8_t c = peek(e);
    fraction v = { 0, 1 };
    int64_t n;

    if (e->bad || depth > DEPTH_MAX || (c != '(' && !(c >= '0' && c <= '9'))) {
        e->bad = true;
        return v;
    }
    if (c == '(') {
        e->at++;
        v = sum(e, depth + 1);
        if (peek(e) != ')')
            e->bad = true;
        e->at++;
        return v;
    }
    if (!read_number(e->text, &e->at, &n)) {
        e->bad = true;
        return v;
    }
    for (int i = 0; i < e->c->n; i++)
        if (!e->used[i] && e->c->numbers[i] == n) {
            e->used[i] = true;
            return (fraction){ n, 1 };
        }
    e->foreign = true;
    return (fraction){ n, 1 };
}

static fraction product(expression *e, int depth)
{
    fraction v = factor(e, depth);

    for (uint8_t c; !e->bad && ((c = peek(e)) == '*' || c == '/');) {
        fraction w;
        e->at++;
        w = factor(e, depth);
        v = c == '*' ? reduce(e, (__int128)v.over * w.over, (__int128)v.under * w.under)
                     : reduce(e, (__int128)v.over * w.under, (__int128)v.under * w.over);
    }
    return v;
}

static fraction sum(expression *e, int depth)
{
    fraction v = product(e, depth);

    for (uint8_t c; !e->bad && ((c = peek(e)) == '+' || c == '-');) {
        fraction w;
        e->at++;
        w = product(e, depth);
        v = reduce(e, (__int128)v.over * w.under + (c == '+' ? 1 : -1) * (__int128)w.over * v.under, (__int128)v.under * w.under);
    }
    return v;
}

bool fs_countdown_check(const fs_countdown *c, fs_bytes text, bool *ret_is_expression)
{
    expression e = { .text = text, .c = c };
    fraction v = sum(&e, 0);

    *ret_is_expression = !e.bad && peek(&e) == 0 && e.at >= text.n_bytes;
    for (int i = 0; i < c->n; i++)
        if (!e.used[i])
            return false;
    return *ret_is_expression && !e.foreign && !e.no_value && v.under == 1 && v.over == c->target;
}
