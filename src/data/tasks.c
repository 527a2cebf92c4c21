/* See the header. */
#include "data/tasks.h"

#include "base/philox.h"
#include "crypto/sha256.h"
#include "data/countdown.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define STREAM      0x7461736bu /* "task": plus the task's number */
#define DRAWS_MAX   10000
#define DIGITS_MAX  9
#define CARRIES_MAX 5 /* digits of a factor: 25 letters */
#define NUMBER_MAX  1000000
#define SPACES      " \t\r\n" /* around an answer */

static const char *const names[FS_TASK_END] = { "facts", "chain", "multiply", "sort", "countdown" };

const char *fs_task_name(fs_task t)
{
    return names[t];
}

fs_task fs_task_from_name(const char *name)
{
    int t = 0;

    while (t < FS_TASK_END && strcmp(names[t], name) != 0)
        t++;
    return (fs_task)t;
}

fs_task_options fs_task_defaults(fs_task t)
{
    static const int levels[FS_TASK_END][2] = { { 1, 2 }, { 3, 6 }, { 2, 3 }, { 3, 8 }, { 3, 4 } };

    return (fs_task_options){ .level_min = levels[t][0], .level_max = levels[t][1], .traced = 1, .budgets = { 2, 4, 8, 16 }, .n_budgets = 4,
                              .number_max = t == FS_TASK_SORT ? 99 : 25, .target_max = 200, .test_share = 0.1 };
}

fs_status fs_task_options_check(fs_task t, const fs_task_options *o, fs_error *err)
{
    static const int levels[FS_TASK_END][2] = { { 1, DIGITS_MAX }, { 1, FS_TASK_LEVEL_MAX }, { 1, DIGITS_MAX }, { 1, FS_TASK_LEVEL_MAX }, { 2, FS_COUNTDOWN_NUMBERS_MAX } };

    if (o->level_min < levels[t][0] || o->level_max > levels[t][1] || o->level_min > o->level_max)
        return fs_fail(err, FS_ERR_ARGUMENT, "%s: levels %d to %d, possible are %d to %d", names[t], o->level_min, o->level_max, levels[t][0],
                       levels[t][1]);
    if (o->carries && (t != FS_TASK_MULTIPLY || o->level_max > CARRIES_MAX))
        return fs_fail(err, FS_ERR_ARGUMENT, "%s: carries are written of multiply, of at most %d digits", names[t], CARRIES_MAX);
    if (!(o->traced >= 0 && o->traced <= 1) || !(o->test_share >= 0 && o->test_share <= 1))
        return fs_fail(err, FS_ERR_ARGUMENT, "%s: shares %g and %g must be from 0 to 1", names[t], o->traced, o->test_share);
    if (o->number_max < 1 || o->number_max > NUMBER_MAX || o->target_max < 1)
        return fs_fail(err, FS_ERR_ARGUMENT, "%s: numbers up to %d and targets up to %d", names[t], o->number_max, o->target_max);
    for (int i = 0; i < o->n_budgets; i++)
        if (o->budgets[i] < 1)
            return fs_fail(err, FS_ERR_ARGUMENT, "%s: a budget of %d tries", names[t], o->budgets[i]);
    if (t == FS_TASK_COUNTDOWN && o->n_budgets < 1)
        return fs_fail(err, FS_ERR_ARGUMENT, "countdown: no budget is given");
    return FS_OK;
}

void fs_task_item_done(fs_task_item *i)
{
    if (!i)
        return;
    fs_buf_done(&i->prompt);
    fs_buf_done(&i->trace);
    fs_buf_done(&i->answer);
}

/* What one item is made with; the first failure stays. */
typedef struct maker {
    const fs_task_options *o;
    fs_random r;
    fs_task_item *item;
    bool traced;
    fs_status rc;
    fs_error *err;
} maker;

static void put(maker *m, fs_buf *out, const char *text)
{
    if (!m->rc)
        m->rc = fs_buf_append_str(out, text, m->err);
}

static void put_number(maker *m, fs_buf *out, uint64_t n)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRIu64, n);
    put(m, out, text);
}

static void put_reversed(maker *m, fs_buf *out, uint64_t n)
{
    char text[24];
    int k = 0;

    do
        text[k++] = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    text[k] = 0;
    put(m, out, text);
}

/* The mark that tells the long form from an answer at its first token: else both begin with digits, and a model that draws the first
 * one of the answer goes on as if it were the first one of the trace. */
static void begin_trace(maker *m)
{
    if (m->traced)
        put(m, &m->item->trace, ">");
}

/* ---- facts ---- */

static uint64_t fact(uint64_t a, char op, uint64_t b)
{
    return op == '+' ? a + b : op == '-' ? a - b : a * b;
}

static void make_facts(maker *m)
{
    uint32_t below = 10;
    uint64_t a, b;
    char op[2] = { "+-*"[fs_random_below(&m->r, 3)], 0 };

    for (int i = 1; i < m->item->level; i++)
        below *= 10;
    a = fs_random_below(&m->r, below);
    b = fs_random_below(&m->r, below);
    if (op[0] == '-' && a < b) {
        uint64_t t = a;
        a = b;
        b = t;
    }
    put_number(m, &m->item->prompt, a);
    put(m, &m->item->prompt, op);
    put_number(m, &m->item->prompt, b);
    put(m, &m->item->prompt, "=");
    put_number(m, &m->item->answer, fact(a, op[0], b));
    m->item->traced = false;
}

static bool read_digits(fs_bytes text, size_t *at, uint64_t *ret)
{
    uint64_t v = 0;
    size_t begin = *at;

    for (; *at < text.n_bytes && text.data[*at] >= '0' && text.data[*at] <= '9' && *at - begin <= DIGITS_MAX; (*at)++)
        v = v * 10 + (uint64_t)(text.data[*at] - '0');
    *ret = v;
    return *at > begin && *at - begin <= DIGITS_MAX;
}

static bool solve_facts(fs_bytes prompt, fs_buf *ret_answer)
{
    uint64_t a, b;
    size_t at = 0;
    char op;

    if (!read_digits(prompt, &at, &a) || at == prompt.n_bytes)
        return false;
    op = (char)prompt.data[at++];
    if (!op || !strchr("+-*", op) || !read_digits(prompt, &at, &b) || at + 1 != prompt.n_bytes || prompt.data[at] != '=' || (op == '-' && a < b))
        return false;
    return fs_buf_printf(ret_answer, NULL, "%" PRIu64, fact(a, op, b)) == FS_OK;
}

/* ---- chain ---- */

static int chain_step(int value, char op, int n)
{
    return op == '+' ? (value + n) % 10 : op == '-' ? (value + 10 - n) % 10 : value * n % 10;
}

static void make_chain(maker *m)
{
    int value = (int)fs_random_below(&m->r, 10);

    put_number(m, &m->item->prompt, (uint64_t)value);
    begin_trace(m);
    for (int i = 0; i < m->item->level; i++) {
        char op[2] = { "+-*"[fs_random_below(&m->r, 3)], 0 };
        int n = (int)fs_random_below(&m->r, 10);
        put(m, &m->item->prompt, op);
        put_number(m, &m->item->prompt, (uint64_t)n);
        value = chain_step(value, op[0], n);
        if (m->traced && i + 1 < m->item->level) {
            put_number(m, &m->item->trace, (uint64_t)value);
            put(m, &m->item->trace, ">");
        }
    }
    put(m, &m->item->prompt, "=");
    put_number(m, &m->item->answer, (uint64_t)value);
}

static bool solve_chain(fs_bytes prompt, fs_buf *ret_answer)
{
    int value = 0;

    for (size_t i = 0; i < prompt.n_bytes; i += 2) {
        char op = i ? (char)prompt.data[i - 1] : '+';
        if (prompt.data[i] < '0' || prompt.data[i] > '9' || !strchr("+-*", op) || i + 1 == prompt.n_bytes)
            return false;
        value = chain_step(value, op, prompt.data[i] - '0');
    }
    return prompt.n_bytes >= 2 && prompt.n_bytes % 2 == 0 && prompt.data[prompt.n_bytes - 1] == '=' &&
           fs_buf_printf(ret_answer, NULL, "%d", value) == FS_OK;
}

/* ---- multiply ---- */

static uint64_t draw_digits(fs_random *r, int n)
{
    uint64_t v = 1 + fs_random_below(r, 9);

    for (int i = 1; i < n; i++)
        v = v * 10 + fs_random_below(r, 10);
    return v;
}

/* a has n digits: each of its digits by each of b's, into the places of the result. */
static void put_carries(maker *m, uint64_t a, uint64_t b, int n)
{
    int places[2 * CARRIES_MAX] = { 0 };
    char step[] = "a....";

    for (int row = 0; row < n; row++, b /= 10) {
        uint64_t rest = a;
        for (int i = 0; i < n; i++, rest /= 10, step[0]++) {
            int product = (int)(rest % 10) * (int)(b % 10), sum = product + places[row + i] + places[row + n];
            step[1] = (char)('0' + product % 10);
            step[2] = (char)('0' + product / 10);
            places[row + i] = sum % 10;
            places[row + n] = sum / 10; /* the carry, and in the end the row's highest digit */
            step[3] = (char)('0' + sum % 10);
            step[4] = (char)('0' + sum / 10);
            put(m, &m->item->trace, step);
        }
    }
}

static void put_partial_products(maker *m, uint64_t a, uint64_t b)
{
    uint64_t total = 0, rest = b;
    fs_buf *trace = &m->item->trace;

    for (int i = 0; rest; i++, rest /= 10) {
        uint64_t part = a * (rest % 10);
        for (int k = 0; k < i; k++)
            part *= 10;
        if (i > 1) {
            put(m, trace, "=");
            put_reversed(m, trace, total);
        }
        if (i)
            put(m, trace, "+");
        for (int k = 0; k < i && part == 0; k++)
            put(m, trace, "0");
        put_reversed(m, trace, part);
        total += part;
    }
}

static void make_multiply(maker *m)
{
    uint64_t a = draw_digits(&m->r, m->item->level), b = draw_digits(&m->r, m->item->level);

    put_reversed(m, &m->item->prompt, a);
    put(m, &m->item->prompt, "*");
    put_reversed(m, &m->item->prompt, b);
    put(m, &m->item->prompt, "=");
    begin_trace(m);
    if (m->traced && m->o->carries)
        put_carries(m, a, b, m->item->level);
    else if (m->traced)
        put_partial_products(m, a, b);
    if (m->traced)
        put(m, &m->item->trace, ">");
    put_reversed(m, &m->item->answer, a * b);
}

static bool read_reversed(fs_bytes text, size_t *at, uint64_t *ret)
{
    uint64_t v = 0, unit = 1;
    size_t begin = *at;

    for (; *at < text.n_bytes && text.data[*at] >= '0' && text.data[*at] <= '9' && *at - begin <= DIGITS_MAX; (*at)++, unit *= 10)
        v += unit * (uint64_t)(text.data[*at] - '0');
    *ret = v;
    return *at > begin && *at - begin <= DIGITS_MAX;
}

static bool solve_multiply(fs_bytes prompt, fs_buf *ret_answer)
{
    uint64_t a, b, product;
    size_t at = 0;
    maker m = { 0 };

    if (!read_reversed(prompt, &at, &a) || at == prompt.n_bytes || prompt.data[at++] != '*' || !read_reversed(prompt, &at, &b) ||
        at + 1 != prompt.n_bytes || prompt.data[at] != '=')
        return false;
    product = a * b;
    put_reversed(&m, ret_answer, product);
    return m.rc == FS_OK;
}

/* ---- sort ---- */

static void put_numbers(maker *m, fs_buf *out, const uint32_t *x, int n)
{
    for (int i = 0; i < n; i++) {
        if (i)
            put(m, out, " ");
        put_number(m, out, x[i]);
    }
}

static void insert(uint32_t *x, int n, uint32_t v)
{
    int k = n;

    for (; k > 0 && x[k - 1] > v; k--)
        x[k] = x[k - 1];
    x[k] = v;
}

static void make_sort(maker *m)
{
    uint32_t x[FS_TASK_LEVEL_MAX] = { 0 }, sorted[FS_TASK_LEVEL_MAX] = { 0 };
    int n = m->item->level;

    for (int i = 0; i < n; i++)
        x[i] = fs_random_below(&m->r, (uint32_t)m->o->number_max + 1);
    put_numbers(m, &m->item->prompt, x, n);
    put(m, &m->item->prompt, "=");
    begin_trace(m);
    for (int i = 0; i < n; i++) {
        insert(sorted, i, x[i]);
        if (m->traced && i + 1 < n) {
            put_numbers(m, &m->item->trace, sorted, i + 1);
            put(m, &m->item->trace, ",");
        }
    }
    if (m->traced)
        put(m, &m->item->trace, ">");
    put_numbers(m, &m->item->answer, sorted, n);
}

static bool solve_sort(fs_bytes prompt, fs_buf *ret_answer)
{
    uint32_t x[FS_TASK_LEVEL_MAX] = { 0 };
    maker m = { 0 };
    int n = 0;

    for (size_t at = 0;; at++) {
        uint32_t v = 0;
        size_t begin = at;
        for (; at < prompt.n_bytes && prompt.data[at] >= '0' && prompt.data[at] <= '9' && v <= NUMBER_MAX; at++)
            v = v * 10 + (uint32_t)(prompt.data[at] - '0');
        if (at == begin || v > NUMBER_MAX || n == FS_TASK_LEVEL_MAX || at == prompt.n_bytes)
            return false;
        insert(x, n++, v);
        if (prompt.data[at] == '=') {
            put_numbers(&m, ret_answer, x, n);
            return at + 1 == prompt.n_bytes && m.rc == FS_OK;
        }
        if (prompt.data[at] != ' ')
            return false;
    }
}

/* ---- countdown ---- */

static void make_countdown(maker *m)
{
    fs_countdown c;
    int budget;

    fs_countdown_draw(&m->r, m->item->level, m->o->number_max, m->o->target_max, &c);
    for (int i = 0; i < c.n; i++) {
        if (i)
            put(m, &m->item->prompt, " ");
        put_number(m, &m->item->prompt, (uint64_t)c.numbers[i]);
    }
    put(m, &m->item->prompt, "=");
    put_number(m, &m->item->prompt, (uint64_t)c.target);
    budget = m->o->budgets[fs_random_below(&m->r, (uint32_t)m->o->n_budgets)];
    if (m->traced)
        put(m, &m->item->trace, "<think>");
    if (!m->rc)
        m->rc = fs_countdown_search(&c, &m->r, m->traced ? budget : 1 << 20, m->traced ? &m->item->trace : NULL, &m->item->answer, &m->item->n_tries,
                                    &m->item->solved, m->err);
    put(m, &m->item->trace, m->traced ? "</think><answer>" : "<answer>");
}

/* ---- all of them ---- */

static fs_status make_once(fs_task t, maker *m)
{
    static void (*const make[FS_TASK_END])(maker *) = { make_facts, make_chain, make_multiply, make_sort, make_countdown };
    fs_task_item *item = m->item;

    fs_buf_clear(&item->prompt);
    fs_buf_clear(&item->trace);
    fs_buf_clear(&item->answer);
    item->solved = true;
    item->n_tries = 0;
    put(m, &item->trace, ""); /* so that the text is there, if empty */
    item->level = m->o->level_min + (int)fs_random_below(&m->r, (uint32_t)(m->o->level_max - m->o->level_min + 1));
    m->traced = item->traced = fs_random_unit(&m->r) < m->o->traced;
    make[t](m);
    return m->rc;
}

fs_status fs_task_is_test(fs_task t, fs_bytes prompt, double test_share, bool *ret, fs_error *err)
{
    fs_sha256 h;
    uint8_t digest[32];
    uint64_t first = 0;
    fs_status rc = fs_sha256_init(&h, err);

    if (rc)
        return rc;
    fs_sha256_update(&h, names[t], strlen(names[t]) + 1);
    fs_sha256_update(&h, prompt.data, prompt.n_bytes);
    fs_sha256_final(&h, digest);
    for (int i = 0; i < 8; i++)
        first = first << 8 | digest[i];
    *ret = (double)(first >> 12) * 0x1p-52 < test_share; /* 52 bits, which a double holds */
    return FS_OK;
}

fs_status fs_task_make(fs_task t, const fs_task_options *o, uint64_t index, fs_task_item *ret, fs_error *err)
{
    maker m = { .o = o, .item = ret, .err = err };

    fs_random_init(&m.r, o->seed, STREAM + (uint32_t)t, index);
    for (int i = 0; i < DRAWS_MAX; i++) {
        bool is_test;
        fs_status rc = make_once(t, &m);
        if (rc || o->split == FS_TASK_ANY)
            return rc;
        rc = fs_task_is_test(t, fs_buf_bytes(&ret->prompt), o->test_share, &is_test, err);
        if (rc || is_test == (o->split == FS_TASK_TEST))
            return rc;
    }
    return fs_fail(err, FS_ERR_ARGUMENT, "%s: none of %d prompts is a %s prompt at a test share of %g", names[t], DRAWS_MAX,
                   o->split == FS_TASK_TEST ? "test" : "training", o->test_share);
}

static fs_bytes behind_last(fs_bytes s, const char *mark, bool *ret_found)
{
    size_t n = strlen(mark);

    *ret_found = false;
    for (size_t i = s.n_bytes; i >= n && i > 0; i--)
        if (memcmp(s.data + i - n, mark, n) == 0) {
            *ret_found = true;
            return (fs_bytes){ s.data + i, s.n_bytes - i };
        }
    return s;
}

static fs_verdict verify_countdown(fs_bytes prompt, fs_bytes output)
{
    static const char end[] = "</answer>";
    fs_countdown c;
    bool found, is_expression, right;
    fs_bytes answer = behind_last(output, "<answer>", &found);
    const uint8_t *stop = found && answer.n_bytes ? memmem(answer.data, answer.n_bytes, end, sizeof end - 1) : NULL;

    if (!found || !fs_countdown_read(prompt, &c))
        return FS_VERDICT_WRONG;
    if (stop)
        answer.n_bytes = (size_t)(stop - answer.data);
    right = fs_countdown_check(&c, fs_bytes_trim(answer, SPACES), &is_expression);
    return right ? FS_VERDICT_RIGHT : is_expression ? FS_VERDICT_WELL_FORMED : FS_VERDICT_WRONG;
}

fs_verdict fs_task_verify(fs_task t, fs_bytes prompt, fs_bytes output)
{
    static bool (*const solve[FS_TASK_END])(fs_bytes, fs_buf *) = { solve_facts, solve_chain, solve_multiply, solve_sort, NULL };
    fs_buf want = { 0 };
    fs_bytes answer;
    fs_verdict v = FS_VERDICT_WRONG;
    bool found, numbers;

    if (t == FS_TASK_COUNTDOWN)
        return verify_countdown(prompt, output);
    answer = fs_bytes_trim(behind_last(output, ">", &found), SPACES);
    numbers = answer.n_bytes > 0;
    for (size_t i = 0; i < answer.n_bytes; i++)
        numbers &= (answer.data[i] >= '0' && answer.data[i] <= '9') || (t == FS_TASK_SORT && answer.data[i] == ' ');
    if (solve[t](prompt, &want) && numbers)
        v = fs_bytes_equal(answer, fs_buf_bytes(&want)) ? FS_VERDICT_RIGHT : FS_VERDICT_WELL_FORMED;
    fs_buf_done(&want);
    return v;
}
