/* See the header. */
#include "train/reinforce.h"

#include "base/clock.h"
#include "train/asker.h"
#include "train/dataset.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VERIFY_EVERY 50

struct run {
    fs_stage s;
    const fs_recipe *r;
    const fs_stage_events *events;
    fs_grpo_options options;
    fs_problems *problems;
    fs_grpo_source source;
    fs_trainer *reference; /* NULL: beta is 0 */
    fs_grpo *grpo;
    fs_dataset data; /* of steps that do not sample */
};

/* What ends a completion: the configuration's end tokens. */
static fs_status find_stop_ids(struct run *u, fs_error *err)
{
    const fs_config *c = u->s.config;
    int max = (int)(sizeof u->options.stop_ids / sizeof *u->options.stop_ids);

    for (size_t i = 0; i < (size_t)c->n_eos_token_ids && u->options.n_stop_ids < max; i++)
        if (c->eos_token_ids[i] >= 0)
            u->options.stop_ids[u->options.n_stop_ids++] = (int32_t)c->eos_token_ids[i];
    if (u->options.n_stop_ids == 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "the model has no eos_token_id: nothing could end a completion");
    return FS_OK;
}

static fs_status read_suite(struct run *u, fs_suite *ret, fs_error *err)
{
    const fs_recipe *r = u->r;
    fs_asker asker = { 0 };
    fs_status rc = fs_asker_open(&asker, u->s.tokenizer_folder, u->s.tokenizer, r->task_format, r->thinking, err);

    if (!rc)
        rc = fs_suite_read(ret, fs_asker_ask, &asker, r->task_file, r->judging, SIZE_MAX, err);
    fs_asker_close(&asker);
    return rc;
}

static fs_status open_problems(struct run *u, fs_error *err)
{
    const fs_recipe *r = u->r;
    fs_problem_rewards rewards = r->rewards;
    fs_suite suite = { 0 };
    fs_status rc = r->task_file ? read_suite(u, &suite, err) : FS_OK;

    rewards.program.argv = r->program.n ? (const char *const *)r->program.items : NULL;
    return rc ? rc : fs_problems_new(r->task_file ? &suite : NULL, r->task, &r->task_options, &rewards, u->s.tokenizer, u->options.group, u->options.max_tokens,
                                     &u->problems, err);
}

static fs_status make(struct run *u, fs_error *err)
{
    const fs_recipe *r = u->r;
    fs_trainer_options room = { 0 };
    fs_status rc = r->data_later ? FS_OK : fs_stage_tokenizer(&u->s, FS_STAGE_MUST_READ, err);

    u->options = r->grpo;
    u->options.seed = r->seed;
    if (!rc && u->s.tokenizer && fs_tokenizer_n_ids(u->s.tokenizer) > u->s.config->vocab_size)
        rc = fs_fail(err, FS_ERR_FORMAT, "the tokenizer has %zu tokens, the model %" PRIu32, fs_tokenizer_n_ids(u->s.tokenizer), u->s.config->vocab_size);
    if (!rc && (uint64_t)r->grpo.prompt_max + r->grpo.max_tokens > u->s.config->max_position_embeddings)
        rc = fs_fail(err, FS_ERR_CONTEXT_FULL, "policy.prompt_max and policy.max_tokens are %" PRIu64 " tokens, the model's context is %" PRIu32,
                     (uint64_t)r->grpo.prompt_max + r->grpo.max_tokens, u->s.config->max_position_embeddings);
    if (!rc)
        rc = find_stop_ids(u, err);
    if (!rc && !r->data_later)
        rc = open_problems(u, err);
    if (rc)
        return rc;
    if (u->problems)
        u->source = fs_problems_source(u->problems);
    fs_grpo_trainer_room(&u->options, &room);
    if (fs_recipe_reads(r))
        rc = fs_dataset_open(&u->data, &u->s, err);
    if (!rc && fs_recipe_reads(r))
        rc = fs_dataset_room(&u->data, &room, err);
    return rc ? rc : fs_stage_trainer(&u->s, &room, err);
}

/* The weights that the recipe begins with, whatever is resumed. */
static fs_status make_reference(struct run *u, fs_error *err)
{
    fs_trainer_options room = { 0 };
    fs_status rc;

    if (u->r->grpo.policy.beta == 0)
        return FS_OK;
    if (!u->s.weights && !u->r->model_later)
        return fs_fail(err, FS_ERR_ARGUMENT, "policy.beta wants a reference: give model.from");
    fs_grpo_trainer_room(&u->options, &room);
    room.bf16 = u->r->bf16;
    room.recompute = true; /* it goes no way back */
    rc = fs_trainer_new(u->s.config, u->s.pool, u->s.kernels, &room, &u->reference, err);
    if (!rc && u->s.weights)
        rc = fs_params_load(fs_trainer_params(u->reference), u->s.weights, err);
    if (!rc)
        fs_trainer_pack(u->reference);
    return rc;
}

static void tell_plan(struct run *u, double seconds_step)
{
    const fs_grpo_options *o = &u->options;
    fs_stage_plan plan = { .n_rows = (uint64_t)o->prompts * o->group, .tokens_step = (uint64_t)o->prompts * o->group * (o->prompt_max + o->max_tokens),
                           .seconds_step = seconds_step };

    if (fs_recipe_reads(u->r)) {
        uint64_t tokens = (uint64_t)u->r->rows * u->r->length;
        fs_dataset_plan(&u->data, &plan);
        plan.tokens_step = tokens > plan.tokens_step ? tokens : plan.tokens_step;
    }
    plan.bytes = fs_grpo_bytes(u->grpo) + (u->reference ? fs_trainer_bytes(u->reference) : 0);
    fs_stage_plan_of(&u->s, o->prompt_max + o->max_tokens, &plan);
    plan.flop_token *= 1 + 1.0 / 3; /* drawn, and learnt from */
    u->events->plan(u->events->ud, &plan);
}

/* ---- steps ---- */

/* Floats as hexadecimal: equal text is equal bits. */
static fs_status put_trace(struct run *u, const fs_stage_step *s, fs_error *err)
{
    fs_buf fields = { 0 };
    fs_status rc = fs_buf_printf(&fields, err, ",\"reward\":\"%a\",\"entropy\":\"%a\",\"tokens\":%" PRIu64 ",\"lr\":\"%a\"", s->grpo.reward, s->grpo.entropy,
                                 s->grpo.n_tokens, s->lr);

    if (!rc)
        rc = fs_stage_trace(&u->s, s, s->grpo.policy.loss, s->grpo.grad_norm, fields.data, err);
    fs_buf_done(&fields);
    return rc;
}

static fs_status put_metrics(struct run *u, const fs_stage_step *s, fs_error *err)
{
    const fs_grpo_step *g = &s->grpo;
    double norm = g->grad_norm, speed = (double)g->n_tokens / s->seconds, sampling = (double)g->n_drawn / g->sample_seconds;
    const fs_metric items[] = {
        { "reward", &g->reward, 1 },          { "right", &g->right, 1 },
        { "length", &g->length, 1 },          { "length/right", &g->length_right, 1 },
        { "length/wrong", &g->length_wrong, 1 }, { "entropy", &g->entropy, 1 },
        { "truncated", &g->truncated, 1 },    { "flat_groups", &g->flat_groups, 1 },
        { "flat_groups/resampled", &g->resampled, 1 },
        { "loss", &g->policy.loss, 1 },       { "kl", &g->policy.mean_kl, 1 },
        { "off_policy", &g->policy.off_policy, 1 },
        { "grad_norm", &norm, 1 },            { "lr", &s->lr, 1 },
        { "tokens_s", &speed, 1 },            { "tokens_s/sampling", &sampling, 1 },
    };

    return fs_stage_step_metrics(&u->s, s, items, sizeof items / sizeof *items, err);
}

static bool samples(const struct run *u, uint64_t i)
{
    return fs_distil_samples(u->r->lambda, u->r->seed, i);
}

/* Whether step i is the first of its VERIFY_EVERY that samples. */
static bool is_first(const struct run *u, uint64_t i)
{
    while (i % VERIFY_EVERY != 0 && !samples(u, i - 1))
        i--;
    return i % VERIFY_EVERY == 0;
}

/* A step on rows of data: the loss is the divergence, as of one on samples. */
static fs_status read_step(struct run *u, fs_stage_step *s, fs_error *err)
{
    const fs_train_loss *loss = &s->pretrain.loss;
    double start = fs_seconds_now(), norm, speed;
    const fs_metric items[] = { { "loss", &loss->divergence, 1 }, { "loss/cross_entropy", &loss->loss, 1 }, { "grad_norm", &norm, 1 }, { "lr", &s->lr, 1 },
                                { "tokens_s", &speed, 1 } };
    fs_buf fields = { 0 };
    fs_status rc;

    s->read = true;
    s->pretrain.start = s->pretrain.validation = NAN;
    rc = fs_dataset_step(&u->data, &u->s, s->lr, u->options.bias_rate, &s->pretrain.loss, &s->pretrain.grad_norm, err);
    s->seconds = fs_seconds_now() - start;
    fs_stage_gauge(&u->s, s, (double)u->r->rows * u->r->length, u->r->length);
    norm = s->pretrain.grad_norm;
    speed = (double)u->r->rows * u->r->length / s->seconds;
    if (!rc)
        rc = fs_buf_printf(&fields, err, ",\"read\":true,\"cross_entropy\":\"%a\",\"lr\":\"%a\"", loss->loss, s->lr);
    if (!rc)
        rc = fs_stage_trace(&u->s, s, loss->divergence, s->pretrain.grad_norm, fields.data, err);
    fs_buf_done(&fields);
    return rc ? rc : fs_stage_step_metrics(&u->s, s, items, sizeof items / sizeof *items, err);
}

static fs_status one_step(void *ud, fs_stage_step *s, fs_error *err)
{
    struct run *u = ud;
    uint64_t i = u->s.optimizer.step;
    bool verify = u->options.temperature == 1 && is_first(u, i);
    double start = fs_seconds_now();
    fs_status rc;

    if (!samples(u, i))
        return read_step(u, s, err);
    rc = fs_grpo_run(u->grpo, i, &u->source, &u->s.optimizer, s->lr, verify, &s->grpo, err);
    if (!rc && s->grpo.off_policy != 0)
        rc = fs_fail(err, FS_ERR_NUMERIC, "step %" PRIu64 ": a token was drawn with a log-probability that is %g off the trained one", i + 1,
                     s->grpo.off_policy);
    u->s.optimizer.step = i + 1; /* updates within a step are counted as one */
    s->seconds = fs_seconds_now() - start;
    /* Drawing is a third of it; prompts are not counted. */
    fs_stage_gauge(&u->s, s, (double)s->grpo.n_drawn / 3 + (double)s->grpo.n_tokens * u->options.updates, s->grpo.length);
    if (!rc)
        rc = put_trace(u, s, err);
    return rc ? rc : put_metrics(u, s, err);
}

/* The first step that samples, from the weights that the run would begin with; what it makes of them is thrown away. */
static fs_status measure(struct run *u, double *ret_seconds, fs_error *err)
{
    fs_grpo_step unused;
    double start;
    fs_status rc = fs_stage_begin(&u->s, err);

    start = fs_seconds_now();
    if (!rc)
        rc = fs_grpo_run(u->grpo, 0, &u->source, &u->s.optimizer, 0, false, &unused, err);
    *ret_seconds = fs_seconds_now() - start;
    return rc;
}

fs_status fs_reinforce(const fs_recipe *r, fs_pool *pool, const fs_kernels *kernels, bool resume, bool dry_run, const fs_stage_events *events,
                       fs_error *err)
{
    struct run u = { .r = r, .events = events };
    double seconds_step = 0;
    fs_status rc = fs_stage_open(&u.s, r, pool, kernels, events, err);

    if (!rc)
        rc = make(&u, err);
    if (!rc)
        rc = make_reference(&u, err);
    if (!rc)
        rc = fs_grpo_new(u.s.trainer, u.reference, u.s.config, pool, kernels, &u.options, &u.grpo, err);
    if (!rc && !dry_run)
        rc = fs_stage_fill(&u.s, resume, err);
    if (!rc && !dry_run)
        rc = fs_stage_tell_tokenizer(&u.s, err);
    if (!rc && !dry_run && r->task_file)
        rc = fs_stage_tell_source(&u.s, "source", r->task_file, false, err);
    if (!rc && !dry_run && fs_recipe_reads(r))
        rc = fs_dataset_tell(&u.data, &u.s, err);
    if (!rc && dry_run && u.problems && !r->program.n) /* of a chain the tokenizer may yet be to be made; and a dry run starts no program of others */
        rc = measure(&u, &seconds_step, err);
    if (!rc)
        tell_plan(&u, seconds_step);
    if (!rc && !dry_run)
        rc = fs_stage_run(&u.s, one_step, &u, events, err);
    fs_grpo_free(u.grpo);
    fs_trainer_free(u.reference);
    fs_problems_free(u.problems);
    fs_dataset_close(&u.data);
    fs_stage_close(&u.s);
    return rc;
}
