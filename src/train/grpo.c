/* See the header. */
#include "train/grpo.h"

#include "base/clock.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 256 /* RN1's chains over token indices */

struct fs_grpo {
    fs_trainer *t, *reference;
    fs_pool *pool;
    const fs_kernels *kernels;
    fs_grpo_options o;
    fs_rollout *rollout;
    fs_activations activations;    /* that sampling keeps */
    float *kept;                   /* [n, row] of them; NULL: none */
    size_t kept_bytes;
    size_t n, row; /* completions of a step; ids of one with its prompt */
    uint32_t micro_tokens;
    int32_t *ids, *targets;        /* [n, row] */
    float *slopes, *row_logp;      /* [n, row] */
    float *drawn;                  /* [n, max_tokens] */
    fs_sampled *items;          /* [n] */
    fs_train_sequence *sequences;  /* [n] */
    double *rewards, *advantages;  /* [n] */
    bool *right;                   /* [n] */
    uint64_t *numbers;             /* [prompts] */
    /* The groups that are asked now, side by side. */
    size_t *which;                 /* [prompts] */
    uint64_t *asked_numbers;       /* [prompts] */
    fs_sampled *asked;             /* [n] */
    double *asked_rewards;         /* [n] */
    bool *asked_right;             /* [n] */
    /* The completions one behind the other. */
    size_t *begin;                 /* [n + 1] */
    float *logp, *old, *ref, *gradient; /* [n * max_tokens] */
    uint8_t *mask;
    bool stale;                    /* the rollout has not the trainer's weights */
};

static uint32_t row_tokens(const fs_grpo_options *o)
{
    return o->prompt_max + o->max_tokens;
}

/* Of a row, which holds whole sequences: nothing but the longest one decides it, so that no bit depends on a micro-batch. */
static uint32_t packed_tokens(const fs_grpo_options *o)
{
    return (row_tokens(o) + BLOCK - 1) / BLOCK * BLOCK;
}

void fs_grpo_trainer_room(const fs_grpo_options *o, fs_trainer_options *ret)
{
    uint32_t row = packed_tokens(o);

    ret->tokens_max = o->micro_tokens > row ? o->micro_tokens / row * row : row;
    ret->sequences_max = ret->tokens_max;
}

static fs_status take_memory(fs_grpo *g, fs_error *err)
{
    size_t rows, drawn;

    if (!fs_mul_size(g->n, g->row, &rows) || !fs_mul_size(g->n, g->o.max_tokens, &drawn) || rows > SIZE_MAX / 64)
        return fs_fail(err, FS_ERR_ARGUMENT, "%zu completions of %zu tokens are too many", g->n, g->row);
    g->ids = malloc(rows * sizeof *g->ids);
    g->targets = malloc(rows * sizeof *g->targets);
    g->slopes = calloc(rows, sizeof *g->slopes);
    g->row_logp = malloc(rows * sizeof *g->row_logp);
    g->drawn = malloc(drawn * sizeof *g->drawn);
    g->items = calloc(g->n, sizeof *g->items);
    g->sequences = calloc(g->n, sizeof *g->sequences);
    g->rewards = calloc(g->n, sizeof *g->rewards);
    g->advantages = calloc(g->n, sizeof *g->advantages);
    g->right = calloc(g->n, sizeof *g->right);
    g->numbers = calloc(g->o.prompts, sizeof *g->numbers);
    g->which = calloc(g->o.prompts, sizeof *g->which);
    g->asked_numbers = calloc(g->o.prompts, sizeof *g->asked_numbers);
    g->asked = calloc(g->n, sizeof *g->asked);
    g->asked_rewards = calloc(g->n, sizeof *g->asked_rewards);
    g->asked_right = calloc(g->n, sizeof *g->asked_right);
    g->begin = calloc(g->n + 1, sizeof *g->begin);
    g->logp = malloc(drawn * sizeof *g->logp);
    g->old = malloc(drawn * sizeof *g->old);
    g->ref = malloc(drawn * sizeof *g->ref);
    g->gradient = malloc(drawn * sizeof *g->gradient);
    g->mask = malloc(drawn);
    if (!g->ids || !g->targets || !g->slopes || !g->row_logp || !g->drawn || !g->items || !g->sequences ||
        !g->rewards || !g->advantages || !g->right || !g->numbers || !g->which || !g->asked_numbers || !g->asked || !g->asked_rewards ||
        !g->asked_right || !g->begin || !g->logp || !g->old || !g->ref || !g->gradient || !g->mask)
        return fs_fail_memory(err, rows * 16);
    return FS_OK;
}

/* Room for what sampling keeps, if there is enough. */
static fs_status keep(fs_grpo *g, const fs_config *c, fs_error *err)
{
    fs_status rc = FS_OK;

    for (int logits = 1; logits >= 0 && !rc && !g->kept_bytes && g->o.keep_bytes_max; logits--) {
        size_t rows;
        fs_activations_done(&g->activations);
        rc = fs_activations_init(&g->activations, c, logits, err);
        if (!rc && fs_mul_size(g->n * g->row, g->activations.row * sizeof(float), &rows) && rows <= g->o.keep_bytes_max)
            g->kept_bytes = rows;
    }
    if (rc || !g->kept_bytes)
        return rc;
    g->kept = fs_alloc_lazy(g->kept_bytes);
    if (!g->kept)
        return fs_fail_memory(err, g->kept_bytes);
    fs_rollout_keep(g->rollout, &g->activations);
    fs_trainer_bring(g->t, &g->activations);
    return FS_OK;
}

fs_status fs_grpo_new(fs_trainer *t, fs_trainer *reference, const fs_config *c, fs_pool *pool, const fs_kernels *kernels, const fs_grpo_options *o,
                      fs_grpo **ret, fs_error *err)
{
    fs_rollout_options rollout = { o->sequences_max, row_tokens(o), fs_trainer_is_bf16(t) };
    fs_trainer_options room;
    fs_grpo *g = calloc(1, sizeof *g);
    fs_status rc;

    if (!g)
        return fs_fail_memory(err, sizeof *g);
    fs_grpo_trainer_room(o, &room);
    g->t = t;
    g->reference = reference;
    g->pool = pool;
    g->kernels = kernels;
    g->o = *o;
    g->o.policy.max_tokens = o->max_tokens;
    g->n = (size_t)o->prompts * o->group;
    g->row = row_tokens(o);
    g->micro_tokens = room.tokens_max;
    g->stale = true;
    rc = take_memory(g, err);
    if (!rc)
        rc = fs_rollout_new(c, fs_trainer_params(t), pool, kernels, &rollout, &g->rollout, err);
    if (!rc)
        rc = keep(g, c, err);
    if (rc) {
        fs_grpo_free(g);
        return rc;
    }
    *ret = g;
    return FS_OK;
}

void fs_grpo_free(fs_grpo *g)
{
    if (!g)
        return;
    fs_rollout_free(g->rollout);
    free(g->ids);
    free(g->targets);
    free(g->slopes);
    free(g->row_logp);
    free(g->drawn);
    free(g->items);
    free(g->sequences);
    free(g->rewards);
    free(g->advantages);
    free(g->right);
    free(g->numbers);
    free(g->which);
    free(g->asked_numbers);
    free(g->asked);
    free(g->asked_rewards);
    free(g->asked_right);
    free(g->begin);
    free(g->logp);
    free(g->old);
    free(g->ref);
    free(g->gradient);
    free(g->mask);
    fs_free_lazy(g->kept, g->kept_bytes);
    fs_activations_done(&g->activations);
    free(g);
}

size_t fs_grpo_bytes(const fs_grpo *g)
{
    return fs_rollout_bytes(g->rollout) + g->kept_bytes + g->n * g->row * 16 + g->n * g->o.max_tokens * 24;
}

/* ---- sampling ---- */

/* Prompt and place of the group's completions. Groups of round r of a step have numbers of their own, so that what is asked is a function of the step. */
static fs_status ask(fs_grpo *g, uint64_t step, uint32_t round, size_t group, const fs_grpo_source *source, fs_error *err)
{
    size_t first = group * g->o.group;
    fs_status rc = FS_OK;

    g->numbers[group] = (step * (g->o.resamples + 1) + round) * g->o.prompts + group;
    for (size_t i = first; i < first + g->o.group && !rc; i++) {
        fs_sampled *c = &g->items[i];
        int32_t *ids = g->ids + i * g->row;
        *c = (fs_sampled){ .kept = g->kept ? g->kept + i * g->row * g->activations.row : NULL, .prompt = ids, .stream = (uint32_t)(round * g->n + i), .logp = g->drawn + i * g->o.max_tokens, .n_max = g->o.max_tokens };
        if (i == first) {
            rc = source->prompt(source->ud, g->numbers[group], ids, g->o.prompt_max, &c->n_prompt, err);
        } else {
            c->n_prompt = g->items[first].n_prompt;
            memcpy(ids, g->ids + first * g->row, c->n_prompt * sizeof *ids);
        }
        c->ids = ids + c->n_prompt;
    }
    return rc;
}

static bool is_flat(const fs_grpo *g, size_t group)
{
    const double *r = g->rewards + group * g->o.group;

    for (uint32_t i = 1; i < g->o.group; i++)
        if (r[i] != r[0])
            return false;
    return true;
}

/* Rewards of the groups listed in which [n], whose completions are side by side in g->asked. */
static fs_status reward(fs_grpo *g, const size_t *which, size_t n, const fs_grpo_source *source, fs_error *err)
{
    size_t group = g->o.group;
    fs_status rc;

    for (size_t k = 0; k < n; k++)
        g->asked_numbers[k] = g->numbers[which[k]];
    rc = source->reward(source->ud, g->asked_numbers, g->asked, n * group, g->asked_rewards, g->asked_right, err);
    for (size_t i = 0; i < n * group && !rc; i++) {
        size_t at = which[i / group] * group + i % group;
        g->rewards[at] = g->asked_rewards[i];
        g->right[at] = g->asked_right[i];
        if (!isfinite(g->rewards[at]))
            rc = fs_fail(err, FS_ERR_NUMERIC, "the reward of completion %zu is %g", at, g->rewards[at]);
    }
    return rc;
}

/* Drawing those asked for has failed by a NaN, of which the engine knows the logit alone: the trainer goes over what was drawn. */
static void name_drawn(fs_grpo *g, size_t n, fs_error *err)
{
    fs_trainer_begin(g->t, &(fs_train_totals){ 0 });
    memset(g->targets, 0, g->row * sizeof *g->targets);
    for (size_t i = 0; i < n; i++) {
        const fs_sampled *c = &g->asked[i];
        fs_train_sequence s = { .ids = c->prompt, .targets = g->targets, .n = c->n_prompt + c->n };
        if (fs_trainer_evaluate(g->t, &s, 1, err)) {
            fs_fail_prefix(err, "drawing completion %zu", g->which[i / g->o.group] * g->o.group + i % g->o.group);
            return;
        }
    }
    fs_fail_prefix(err, "drawing %zu completions", n);
}

static fs_status sample(fs_grpo *g, uint64_t step, const fs_grpo_source *source, fs_grpo_step *ret, fs_error *err)
{
    fs_sampling s = fs_sampling_default();
    size_t n = g->o.prompts, group = g->o.group;
    fs_status rc = g->stale ? fs_rollout_refresh(g->rollout, err) : FS_OK;

    g->stale = false;
    s.temperature = g->o.temperature;
    s.seed = g->o.seed + step;
    for (size_t k = 0; k < n; k++)
        g->which[k] = k;
    for (uint32_t round = 0; round <= g->o.resamples && n > 0 && !rc; round++) {
        size_t left = 0;
        for (size_t k = 0; k < n && !rc; k++) {
            rc = ask(g, step, round, g->which[k], source, err);
            memcpy(g->asked + k * group, g->items + g->which[k] * group, group * sizeof *g->asked);
        }
        if (!rc)
            rc = fs_rollout_run(g->rollout, &s, g->o.stop_ids, (size_t)g->o.n_stop_ids, g->asked, n * group, err);
        if (rc == FS_ERR_NUMERIC)
            name_drawn(g, n * group, err);
        for (size_t k = 0; k < n && !rc; k++)
            memcpy(g->items + g->which[k] * group, g->asked + k * group, group * sizeof *g->asked);
        for (size_t i = 0; i < n * group; i++)
            ret->n_drawn += rc ? 0 : g->asked[i].n;
        if (!rc)
            rc = reward(g, g->which, n, source, err);
        for (size_t k = 0; k < n && !rc; k++)
            if (is_flat(g, g->which[k]))
                g->which[left++] = g->which[k];
        n = left;
        ret->resampled += round < g->o.resamples ? (double)n / g->o.prompts : 0;
    }
    return rc;
}

/* ---- training ---- */

/* Sequences for the trainer, one behind the other in token indices; one that would reach over a row's end begins the next. */
static void make_sequences(fs_grpo *g, uint64_t *ret_n_targets)
{
    uint64_t index = 0, packed = packed_tokens(&g->o);

    *ret_n_targets = 0;
    for (size_t i = 0; i < g->n; i++) {
        const fs_sampled *c = &g->items[i];
        uint32_t n = c->n_prompt + c->n;
        int32_t *targets = g->targets + i * g->row;
        const int32_t *ids = g->ids + i * g->row;
        for (uint32_t k = 0; k < n; k++)
            targets[k] = k + 1 >= c->n_prompt && k + 1 < n ? ids[k + 1] : -1;
        if (index / packed != (index + n - 1) / packed)
            index = (index / packed + 1) * packed;
        g->sequences[i] = (fs_train_sequence){ .ids = ids, .targets = targets, .slopes = g->slopes + i * g->row, .n = n, .index = index, .kept = c->kept };
        index += n;
        *ret_n_targets += c->n;
    }
}

static void flatten(fs_grpo *g)
{
    for (size_t i = 0; i < g->n; i++) {
        const fs_sampled *c = &g->items[i];
        bool counts = (c->stopped || !g->o.mask_truncated) && !(g->o.skip_flat && is_flat(g, i / g->o.group));
        g->begin[i + 1] = g->begin[i] + c->n;
        memcpy(g->old + g->begin[i], c->logp, c->n * sizeof *g->old);
        memcpy(g->logp + g->begin[i], c->logp, c->n * sizeof *g->logp);
        memset(g->mask + g->begin[i], counts, c->n);
    }
}

typedef fs_status pass(fs_trainer *t, const fs_train_sequence *sequences, uint32_t n, fs_error *err);

/* Of sequences [begin, end), which fail: the completion that does so by itself, else all of them. */
static void name_completion(const fs_grpo *g, fs_trainer *t, pass *run, size_t begin, size_t end, fs_error *err)
{
    for (size_t i = begin; i < end; i++)
        if (run(t, g->sequences + i, 1, err)) {
            fs_fail_prefix(err, "completion %zu", i);
            return;
        }
    fs_fail_prefix(err, "completions %zu to %zu", begin, end - 1);
}

static fs_status each_micro_batch(const fs_grpo *g, fs_trainer *t, pass *run, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0, k; i < g->n && !rc; i = k) {
        for (k = i + 1; k < g->n && g->sequences[k].index / g->micro_tokens == g->sequences[i].index / g->micro_tokens;)
            k++;
        rc = run(t, g->sequences + i, (uint32_t)(k - i), err);
        if (rc == FS_ERR_NUMERIC)
            name_completion(g, t, run, i, k, err);
    }
    return rc;
}

/* Log-probabilities by t into flat [begin[n]]. */
static fs_status log_probabilities(fs_grpo *g, fs_trainer *t, float *flat, fs_error *err)
{
    fs_status rc;

    for (size_t i = 0; i < g->n; i++)
        g->sequences[i].ret_logp = g->row_logp + i * g->row;
    fs_trainer_begin(t, &(fs_train_totals){ 0 });
    rc = each_micro_batch(g, t, fs_trainer_evaluate, err);
    for (size_t i = 0; i < g->n && !rc; i++)
        memcpy(flat + g->begin[i], g->row_logp + i * g->row + g->items[i].n_prompt - 1, g->items[i].n * sizeof *flat);
    return rc;
}

/* The slopes of every sequence: the policy's, or none where a teacher says what is learnt. */
static fs_status set_slopes(fs_grpo *g, fs_policy_result *ret, fs_error *err)
{
    fs_policy_batch b = { .n_rows = g->n, .begin = g->begin, .logp = g->logp, .old = g->old, .reference = g->reference ? g->ref : NULL,
                          .mask = g->mask, .advantages = g->advantages };
    fs_status rc = g->o.distil ? FS_OK : fs_policy_loss(&g->o.policy, &b, ret, g->gradient, err);

    for (size_t i = 0; i < g->n && !rc; i++) {
        float *slopes = g->slopes + i * g->row;
        g->sequences[i].ret_logp = NULL;
        g->sequences[i].slopes = g->o.distil ? NULL : slopes;
        if (g->o.distil)
            continue;
        memset(slopes, 0, g->row * sizeof *slopes);
        memcpy(slopes + g->items[i].n_prompt - 1, g->gradient + g->begin[i], g->items[i].n * sizeof *slopes);
    }
    return rc;
}

static fs_status update(fs_grpo *g, uint64_t n_targets, fs_optimizer *optimizer, double lr, fs_grpo_step *ret, fs_error *err)
{
    fs_train_loss loss;
    fs_params *p = fs_trainer_params(g->t);
    fs_status rc = set_slopes(g, &ret->policy, err);

    if (rc)
        return rc;
    fs_trainer_begin(g->t, &(fs_train_totals){ .n_targets = n_targets, .n_sequences = g->n });
    rc = each_micro_batch(g, g->t, fs_trainer_run, err);
    if (rc)
        return rc;
    fs_trainer_end(g->t, &loss);
    if (g->o.distil)
        ret->policy.loss = loss.divergence;
    rc = fs_params_finite_norm(g->kernels, p, &ret->grad_norm, err);
    if (rc)
        return fs_fail_prefix(err, "completions 0 to %zu", g->n - 1);
    fs_optimizer_step(optimizer, p, g->pool, g->kernels, ret->grad_norm, lr);
    if (g->o.bias_rate > 0)
        fs_trainer_move_biases(g->t, g->o.bias_rate);
    if (optimizer->qk_clip > 0)
        fs_trainer_clip_logits(g->t, optimizer->qk_clip);
    fs_trainer_pack_trained(g->t);
    g->stale = true;
    return FS_OK;
}

/* ---- what it was like ---- */

static double share(size_t n, size_t of)
{
    return of ? (double)n / (double)of : NAN;
}

static void describe(const fs_grpo *g, size_t n_flat, fs_grpo_step *ret)
{
    size_t n_right = 0, n_stopped = 0, tokens_right = 0;
    double sum = 0, squares = 0, mean;

    ret->n_tokens = g->begin[g->n];
    for (size_t i = 0; i < g->n; i++) {
        n_right += g->right[i];
        n_stopped += g->items[i].stopped;
        tokens_right += g->right[i] ? g->items[i].n : 0;
        sum += g->rewards[i];
    }
    mean = sum / (double)g->n;
    for (size_t i = 0; i < g->n; i++)
        squares += (g->rewards[i] - mean) * (g->rewards[i] - mean);
    ret->reward = mean;
    ret->reward_deviation = sqrt(squares / (double)g->n);
    ret->right = share(n_right, g->n);
    ret->truncated = share(g->n - n_stopped, g->n);
    ret->length = share(ret->n_tokens, g->n);
    ret->length_right = share(tokens_right, n_right);
    ret->length_wrong = share(ret->n_tokens - tokens_right, g->n - n_right);
    ret->flat_groups = share(n_flat, g->o.prompts);
    sum = 0;
    for (size_t i = 0; i < ret->n_tokens; i++)
        sum -= g->old[i];
    ret->entropy = sum / (double)ret->n_tokens;
}

static double largest_difference(const float *a, const float *b, size_t n)
{
    double most = 0;

    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)a[i] - b[i]));
    return most;
}

fs_status fs_grpo_run(fs_grpo *g, uint64_t step, const fs_grpo_source *source, fs_optimizer *optimizer, double lr, bool verify, fs_grpo_step *ret,
                      fs_error *err)
{
    double start = fs_seconds_now();
    fs_grpo_step s = { 0 };
    size_t n_flat = 0;
    uint64_t n_targets = 0;
    fs_status rc = sample(g, step, source, &s, err);

    if (rc)
        return fs_fail_prefix(err, "step %" PRIu64, step + 1);
    s.sample_seconds = fs_seconds_now() - start;
    flatten(g);
    make_sequences(g, &n_targets);
    fs_policy_advantages(g->rewards, g->o.prompts, g->o.group, g->o.scale, g->advantages, &n_flat);
    if (g->reference && (rc = log_probabilities(g, g->reference, g->ref, err)))
        fs_fail_prefix(err, "the reference");
    for (uint32_t u = 0; u < g->o.updates && !rc; u++) {
        if (u > 0 || verify || g->o.temperature != 1)
            rc = log_probabilities(g, g->t, g->logp, err);
        if (!rc && u == 0 && verify)
            s.off_policy = largest_difference(g->logp, g->old, g->begin[g->n]);
        if (!rc)
            rc = update(g, n_targets, optimizer, lr, &s, err);
        for (size_t i = 0; i < g->n; i++)
            g->sequences[i].kept = NULL; /* the weights have moved */
    }
    if (rc)
        return fs_fail_prefix(err, "step %" PRIu64, step + 1);
    describe(g, n_flat, &s);
    s.train_seconds = fs_seconds_now() - start - s.sample_seconds;
    *ret = s;
    return FS_OK;
}
