/* See the header. */
#include "train/problems.h"

#include "base/philox.h"
#include "train/rewards.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define COIN_STREAM  0xc011 /* of random numbers */
#define ORDER_STREAM 0x0d3e

/* What a step's completions are about: buffers are used again. */
typedef struct fs_asked {
    fs_buf prompt, answer; /* of a group */
    const fs_suite_item *item; /* NULL: a task's */
} fs_asked;

struct fs_problems {
    fs_task task;
    fs_task_options options;
    fs_problem_rewards rewards;
    const fs_tokenizer *tokenizer;
    uint32_t group, max_tokens;
    fs_suite suite;    /* empty: a task's */
    uint32_t *order;   /* [suite.n] of the epoch */
    uint64_t epoch;
    fs_task_item item;
    fs_ids ids;
    fs_asked *asked;  /* [n_asked] */
    fs_buf *texts;    /* [n_asked * group] */
    size_t n_asked;
    fs_judged *judged; /* [n_asked * group] */
    double *numbers;   /* [n_asked * group] of the program */
    size_t *lengths;   /* [group] */
    double *shorter;   /* [group] */
};

fs_status fs_problems_new(fs_suite *suite, fs_task task, const fs_task_options *options, const fs_problem_rewards *rewards, const fs_tokenizer *t, uint32_t group,
                          uint32_t max_tokens, fs_problems **ret, fs_error *err)
{
    fs_problems *p = NULL;
    fs_status rc = suite ? FS_OK : fs_task_options_check(task, options, err);

    if (!rc && !(p = calloc(1, sizeof *p)))
        rc = fs_fail_memory(err, sizeof *p);
    if (rc) {
        fs_suite_done(suite);
        return rc;
    }
    if (suite) {
        p->suite = *suite;
        *suite = (fs_suite){ 0 };
        p->order = malloc(p->suite.n * sizeof *p->order);
        p->epoch = UINT64_MAX;
    }
    p->task = task;
    p->options = *options;
    p->rewards = *rewards;
    p->tokenizer = t;
    p->group = group;
    p->max_tokens = max_tokens;
    p->lengths = calloc(group, sizeof *p->lengths);
    p->shorter = calloc(group, sizeof *p->shorter);
    if (!p->lengths || !p->shorter || (p->suite.n && !p->order)) {
        fs_problems_free(p);
        return fs_fail_memory(err, group * sizeof *p->shorter);
    }
    *ret = p;
    return FS_OK;
}

void fs_problems_free(fs_problems *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n_asked; i++) {
        fs_buf_done(&p->asked[i].prompt);
        fs_buf_done(&p->asked[i].answer);
    }
    for (size_t i = 0; i < p->n_asked * p->group; i++)
        fs_buf_done(&p->texts[i]);
    fs_suite_done(&p->suite);
    free(p->order);
    free(p->asked);
    free(p->texts);
    free(p->judged);
    free(p->numbers);
    free(p->lengths);
    free(p->shorter);
    fs_task_item_done(&p->item);
    fs_ids_done(&p->ids);
    free(p);
}

/* Of a suite. */
static const fs_suite_item *item_of(fs_problems *p, uint64_t number)
{
    uint64_t epoch = number / p->suite.n;
    fs_random r;

    if (epoch != p->epoch) {
        fs_random_init(&r, p->options.seed, ORDER_STREAM, epoch);
        fs_random_order(&r, p->order, p->suite.n);
        p->epoch = epoch;
    }
    return &p->suite.items[p->order[number % p->suite.n]];
}

static fs_status fail_length(uint64_t number, size_t n, uint32_t n_max, fs_error *err)
{
    return fs_fail(err, FS_ERR_ARGUMENT, "problem %" PRIu64 " is a prompt of %zu tokens, 1 to %" PRIu32 " fit", number, n, n_max);
}

static fs_status prompt_of_suite(fs_problems *p, uint64_t number, int32_t *ret_ids, uint32_t n_max, uint32_t *ret_n, fs_error *err)
{
    const fs_suite_item *item = item_of(p, number);

    if (item->n_ids > n_max)
        return fail_length(number, item->n_ids, n_max, err);
    memcpy(ret_ids, item->ids, item->n_ids * sizeof *ret_ids);
    *ret_n = item->n_ids;
    return FS_OK;
}

static fs_status prompt(void *ud, uint64_t number, int32_t *ret_ids, uint32_t n_max, uint32_t *ret_n, fs_error *err)
{
    fs_problems *p = ud;
    fs_status rc;

    if (p->suite.n)
        return prompt_of_suite(p, number, ret_ids, n_max, ret_n, err);
    rc = fs_task_make(p->task, &p->options, number, &p->item, err);
    p->ids.n = 0;
    if (!rc)
        rc = fs_tokenizer_encode(p->tokenizer, fs_buf_bytes(&p->item.prompt), FS_ENCODE_PLAIN | FS_ENCODE_BOS, &p->ids, err);
    if (!rc && (p->ids.n > n_max || p->ids.n == 0))
        rc = fail_length(number, p->ids.n, n_max, err);
    if (rc)
        return rc;
    memcpy(ret_ids, p->ids.data, p->ids.n * sizeof *ret_ids);
    *ret_n = (uint32_t)p->ids.n;
    return FS_OK;
}

/* ---- rewards ---- */

static fs_status make_room(fs_problems *p, size_t n_groups, fs_error *err)
{
    size_t n = n_groups * p->group;

    if (p->n_asked >= n_groups)
        return FS_OK;
    if (p->n_asked) /* a run's first step asks for all of its groups */
        return fs_fail(err, FS_ERR_ARGUMENT, "%zu groups, the first step had %zu", n_groups, p->n_asked);
    p->asked = calloc(n_groups, sizeof *p->asked);
    p->texts = calloc(n, sizeof *p->texts);
    p->judged = calloc(n, sizeof *p->judged);
    p->numbers = calloc(n, sizeof *p->numbers);
    if (!p->asked || !p->texts || !p->judged || !p->numbers)
        return fs_fail_memory(err, n * sizeof *p->texts);
    p->n_asked = n_groups;
    return FS_OK;
}

static fs_status copy(const fs_buf *from, fs_buf *to, fs_error *err)
{
    fs_buf_clear(to);
    return fs_buf_append(to, from->data, from->n_bytes, err);
}

/* Prompt and answer of a group. */
static fs_status read_problem(fs_problems *p, uint64_t number, fs_asked *a, fs_error *err)
{
    const fs_suite_item *item = p->suite.n ? item_of(p, number) : NULL;
    fs_status rc = item ? FS_OK : fs_task_make(p->task, &p->options, number, &p->item, err);

    a->item = item;
    if (!rc)
        rc = copy(item ? &item->prompt : &p->item.prompt, &a->prompt, err);
    return rc ? rc : copy(item ? &item->answer : &p->item.answer, &a->answer, err);
}

/* Special tokens are text: a mark of a task may be one. */
static fs_status read_completions(fs_problems *p, const uint64_t *numbers, const fs_sampled *items, size_t n, fs_error *err)
{
    fs_status rc = make_room(p, n / p->group, err);

    for (size_t i = 0; i < n && !rc; i++) {
        fs_asked *a = &p->asked[i / p->group];
        if (i % p->group == 0)
            rc = read_problem(p, numbers[i / p->group], a, err);
        fs_buf_clear(&p->texts[i]);
        rc = rc ? rc : fs_tokenizer_decode(p->tokenizer, items[i].ids, items[i].n - items[i].stopped, false, &p->texts[i], err);
        rc = rc ? rc : fs_buf_append(&p->texts[i], "", 0, err);
        p->judged[i] = (fs_judged){ fs_buf_bytes(&a->prompt), fs_buf_bytes(&p->texts[i]), fs_buf_bytes(&a->answer) };
    }
    return rc;
}

static double by_answer(const fs_problem_rewards *r, fs_verdict v, size_t n_tokens, size_t max_tokens)
{
    const fs_cosine_reward cosine = { r->right, r->right_long, r->wrong, r->wrong_long, max_tokens };

    if (v == FS_VERDICT_WELL_FORMED)
        return r->well_formed;
    if (r->by_length)
        return fs_reward_cosine(&cosine, n_tokens, v == FS_VERDICT_RIGHT);
    return v == FS_VERDICT_RIGHT ? r->right : r->wrong;
}

static fs_status by_form(const fs_problems *p, const fs_sampled *c, fs_bytes text, double *ret, fs_error *err)
{
    const fs_problem_rewards *r = &p->rewards;
    double repeated = 0;
    fs_status rc = r->repetition != 0 ? fs_reward_repetition(c->ids, c->n - c->stopped, r->repetition_ngram, -1, &repeated, err) : FS_OK;

    if (r->think != 0)
        *ret += r->think * fs_reward_think(text);
    if (r->think_answer != 0)
        *ret += r->think_answer * fs_reward_think_answer(text);
    if (r->tags != 0)
        *ret += r->tags * fs_reward_tags(text);
    if (r->overlong != 0)
        *ret += r->overlong * fs_reward_overlong(c->n, p->max_tokens, r->overlong_tokens);
    *ret += r->repetition * repeated;
    return rc;
}

static void by_group_length(fs_problems *p, const fs_sampled *items, const bool *right, double *ret)
{
    for (uint32_t i = 0; i < p->group; i++)
        p->lengths[i] = items[i].n;
    fs_reward_lengths(p->lengths, right, p->group, p->shorter);
    for (uint32_t i = 0; i < p->group; i++)
        ret[i] += p->rewards.shorter * p->shorter[i];
}

static fs_status verify(const fs_problems *p, size_t i, fs_bytes text, fs_verdict *ret, fs_error *err)
{
    const fs_suite_item *item = p->asked[i / p->group].item;

    if (item)
        return fs_suite_judge(item, text, ret, err);
    *ret = fs_task_verify(p->task, p->judged[i].prompt, text);
    return FS_OK;
}

static double toss(const fs_problems *p, uint64_t completion)
{
    fs_random coin;

    fs_random_init(&coin, p->options.seed, COIN_STREAM, completion);
    return fs_random_unit(&coin) < p->rewards.random ? 1 : 0;
}

static fs_status reward(void *ud, const uint64_t *numbers, const fs_sampled *items, size_t n, double *ret_rewards, bool *ret_right, fs_error *err)
{
    fs_problems *p = ud;
    const fs_problem_rewards *r = &p->rewards;
    fs_status rc = read_completions(p, numbers, items, n, err);

    if (!rc && r->program.argv)
        rc = fs_judge_run(&r->program, p->judged, n, p->numbers, err);
    for (size_t i = 0; i < n && !rc; i++) {
        fs_bytes text = fs_buf_bytes(&p->texts[i]);
        fs_verdict v = FS_VERDICT_WRONG;
        rc = items[i].stopped ? verify(p, i, text, &v, err) : FS_OK;
        if (rc)
            break;
        ret_right[i] = v == FS_VERDICT_RIGHT;
        if (r->random > 0) {
            ret_rewards[i] = toss(p, numbers[i / p->group] * p->group + i % p->group);
            continue;
        }
        ret_rewards[i] = by_answer(r, v, items[i].n, p->max_tokens);
        rc = by_form(p, &items[i], text, &ret_rewards[i], err);
        if (r->program.argv)
            ret_rewards[i] += r->program_weight * p->numbers[i];
    }
    for (size_t i = 0; i < n && !rc && r->shorter != 0 && !(r->random > 0); i += p->group)
        by_group_length(p, items + i, ret_right + i, ret_rewards + i);
    return rc;
}

fs_grpo_source fs_problems_source(fs_problems *p)
{
    return (fs_grpo_source){ prompt, reward, p };
}
