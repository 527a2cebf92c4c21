/* See the header. */
#include "train/problems.h"

#include "base/philox.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COIN_STREAM 0xc011 /* of random numbers */
#define AT_ONCE     4096   /* completions of an evaluation in memory */

struct fs_problems {
    fs_task task;
    fs_task_options options;
    fs_problem_rewards rewards;
    const fs_tokenizer *tokenizer;
    uint32_t group;
    fs_task_item item;
    fs_ids ids;
    fs_buf text;
};

fs_status fs_problems_new(fs_task task, const fs_task_options *options, const fs_problem_rewards *rewards, const fs_tokenizer *t, fs_problems **ret,
                          fs_error *err)
{
    fs_problems *p;
    fs_status rc = fs_task_options_check(task, options, err);

    if (rc)
        return rc;
    p = calloc(1, sizeof *p);
    if (!p)
        return fs_fail_memory(err, sizeof *p);
    p->task = task;
    p->options = *options;
    p->rewards = *rewards;
    p->tokenizer = t;
    *ret = p;
    return FS_OK;
}

void fs_problems_free(fs_problems *p)
{
    if (!p)
        return;
    fs_task_item_done(&p->item);
    fs_ids_done(&p->ids);
    fs_buf_done(&p->text);
    free(p);
}

static fs_status prompt(void *ud, uint64_t number, int32_t *ret_ids, uint32_t n_max, uint32_t *ret_n, fs_error *err)
{
    fs_problems *p = ud;
    fs_status rc = fs_task_make(p->task, &p->options, number, &p->item, err);

    p->ids.n = 0;
    if (!rc)
        rc = fs_tokenizer_encode(p->tokenizer, fs_buf_bytes(&p->item.prompt), 0, &p->ids, err);
    if (!rc && (p->ids.n > n_max || p->ids.n == 0))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "problem %" PRIu64 " is a prompt of %zu tokens, 1 to %" PRIu32 " fit", number, p->ids.n, n_max);
    if (rc)
        return rc;
    memcpy(ret_ids, p->ids.data, p->ids.n * sizeof *ret_ids);
    *ret_n = (uint32_t)p->ids.n;
    return FS_OK;
}

/* What a completion says, its stop token left out, as the text in p->text; what that is worth to the problem in p->item. */
static fs_status judge(fs_problems *p, const fs_sampled *c, fs_verdict *ret, fs_error *err)
{
    fs_status rc;

    fs_buf_clear(&p->text);
    rc = fs_tokenizer_decode(p->tokenizer, c->ids, c->n - c->stopped, true, &p->text, err);
    if (!rc)
        rc = fs_buf_append(&p->text, "", 0, err);
    if (!rc)
        *ret = c->stopped ? fs_task_verify(p->task, fs_buf_bytes(&p->item.prompt), fs_buf_bytes(&p->text)) : FS_VERDICT_WRONG;
    return rc;
}

static double worth(const fs_problems *p, fs_verdict v, uint64_t completion)
{
    fs_random coin;

    if (p->rewards.random > 0) {
        fs_random_init(&coin, p->options.seed, COIN_STREAM, completion);
        return fs_random_unit(&coin) < p->rewards.random ? 1 : 0;
    }
    return v == FS_VERDICT_RIGHT ? p->rewards.right : v == FS_VERDICT_WELL_FORMED ? p->rewards.well_formed : 0;
}

static fs_status reward(void *ud, uint64_t first, const fs_sampled *items, size_t n, double *ret_rewards, bool *ret_right, fs_error *err)
{
    fs_problems *p = ud;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < n && !rc; i++) {
        fs_verdict v = FS_VERDICT_WRONG;
        if (i % p->group == 0)
            rc = fs_task_make(p->task, &p->options, first + i / p->group, &p->item, err);
        if (!rc)
            rc = judge(p, &items[i], &v, err);
        ret_right[i] = v == FS_VERDICT_RIGHT;
        ret_rewards[i] = worth(p, v, first * p->group + i);
    }
    return rc;
}

fs_grpo_source fs_problems_source(fs_problems *p, uint32_t group)
{
    p->group = group;
    return (fs_grpo_source){ prompt, reward, p };
}

/* ---- measuring ---- */

typedef struct adding_up {
    size_t n_right, n_truncated, n_formed, n_long, tokens, tokens_right, n_problems_right;
    double squares; /* of the problems' shares of right samples */
} adding_up;

static void add(adding_up *a, const fs_sampled *c, fs_verdict v, size_t n_plain)
{
    a->tokens += c->n;
    a->n_truncated += !c->stopped;
    a->n_formed += v != FS_VERDICT_WRONG;
    a->n_long += c->n > n_plain;
    if (v == FS_VERDICT_RIGHT) {
        a->n_right++;
        a->tokens_right += c->n;
    }
}

static double over(double a, size_t n)
{
    return n ? a / (double)n : NAN;
}

static fs_problems_score score(const adding_up *a, size_t n, uint32_t samples)
{
    size_t all = n * samples;
    double mean = over((double)a->n_right, all), variance = n > 1 ? (a->squares - (double)n * mean * mean) / (double)(n - 1) : 0;

    return (fs_problems_score){ .n_problems = n,
                                .n_samples = samples,
                                .pass_1 = mean,
                                .pass_1_error = n ? sqrt((variance > 0 ? variance : 0) / (double)n) : NAN,
                                .pass_n = over((double)a->n_problems_right, n),
                                .length = over((double)a->tokens, all),
                                .length_right = over((double)a->tokens_right, a->n_right),
                                .length_wrong = over((double)(a->tokens - a->tokens_right), all - a->n_right),
                                .truncated = over((double)a->n_truncated, all),
                                .well_formed = over((double)a->n_formed, all),
                                .long_form = over((double)a->n_long, all) };
}

/* Tokens of the plain answer with its end. */
static fs_status plain_tokens(fs_problems *p, size_t *ret, fs_error *err)
{
    fs_status rc;

    p->ids.n = 0;
    rc = fs_tokenizer_encode(p->tokenizer, fs_buf_bytes(&p->item.answer), 0, &p->ids, err);
    *ret = p->ids.n + 1;
    return rc;
}

static fs_status look_at(fs_problems *p, const fs_sampled *items, uint64_t number, size_t n, uint32_t samples, size_t first_problem, adding_up *a,
                         fs_problem_fn *each, void *ud, fs_error *err)
{
    size_t n_plain = 0;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < n && !rc; i++) {
        size_t right_before = a->n_right;
        rc = fs_task_make(p->task, &p->options, number + i, &p->item, err);
        if (!rc)
            rc = plain_tokens(p, &n_plain, err);
        for (uint32_t k = 0; k < samples && !rc; k++) {
            const fs_sampled *c = &items[i * samples + k];
            fs_verdict v = FS_VERDICT_WRONG;
            rc = judge(p, c, &v, err);
            if (rc)
                break;
            add(a, c, v, n_plain);
            if (each)
                each(ud, first_problem + i, p->item.prompt.data, p->text.data ? p->text.data : "", v, c);
        }
        a->n_problems_right += a->n_right > right_before;
        a->squares += (double)(a->n_right - right_before) / samples * ((double)(a->n_right - right_before) / samples);
    }
    return rc;
}

fs_status fs_problems_evaluate(fs_problems *p, fs_rollout *r, const fs_sampling *s, const int32_t *stop_ids, size_t n_stop_ids, uint64_t first,
                               size_t n, uint32_t samples, uint32_t prompt_max, uint32_t max_tokens, fs_problem_fn *each, void *ud,
                               fs_problems_score *ret, fs_error *err)
{
    size_t at_once = AT_ONCE / samples ? AT_ONCE / samples : 1, row = (size_t)prompt_max + max_tokens;
    fs_sampled *items = calloc(at_once * samples, sizeof *items);
    int32_t *ids = malloc(at_once * samples * row * sizeof *ids);
    adding_up a = { 0 };
    fs_status rc = items && ids ? FS_OK : fs_fail_memory(err, at_once * samples * row * sizeof *ids);

    for (size_t done = 0, now; done < n && !rc; done += now) {
        now = n - done < at_once ? n - done : at_once;
        for (size_t i = 0; i < now * samples && !rc; i++) {
            int32_t *at = ids + i * row;
            items[i] = (fs_sampled){ .prompt = at, .stream = (uint32_t)(done * samples + i), .n_max = max_tokens };
            rc = prompt(p, first + done + i / samples, at, prompt_max, &items[i].n_prompt, err);
            items[i].ids = at + items[i].n_prompt;
        }
        if (!rc)
            rc = fs_rollout_run(r, s, stop_ids, n_stop_ids, items, now * samples, err);
        if (!rc)
            rc = look_at(p, items, first + done, now, samples, done, &a, each, ud, err);
    }
    if (!rc)
        *ret = score(&a, n, samples);
    free(items);
    free(ids);
    return rc;
}
