/* See the header. */
#include "train/problems.h"

#include "base/philox.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define COIN_STREAM 0xc011 /* of random numbers */

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
        rc = fs_tokenizer_encode(p->tokenizer, fs_buf_bytes(&p->item.prompt), FS_ENCODE_PLAIN | FS_ENCODE_BOS, &p->ids, err);
    if (!rc && (p->ids.n > n_max || p->ids.n == 0))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "problem %" PRIu64 " is a prompt of %zu tokens, 1 to %" PRIu32 " fit", number, p->ids.n, n_max);
    if (rc)
        return rc;
    memcpy(ret_ids, p->ids.data, p->ids.n * sizeof *ret_ids);
    *ret_n = (uint32_t)p->ids.n;
    return FS_OK;
}

/* What a completion says, its stop token left out, is to the problem in p->item. */
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
