/* See the header. */
#include "train/pretrain.h"

#include "base/clock.h"
#include "train/checkpoint.h"
#include "train/dataset.h"
#include "train/esft.h"

#include <math.h>
#include <stdlib.h>

struct run {
    fs_stage s;
    const fs_recipe *r;
    const fs_stage_events *events;
    fs_dataset data;
};

static fs_status open_data(struct run *u, fs_error *err)
{
    const fs_recipe *r = u->r;
    fs_stage_reading how = r->data == FS_RECIPE_TEXT ? FS_STAGE_MUST_READ : r->data == FS_RECIPE_SHARDS ? FS_STAGE_MAY_READ : FS_STAGE_COPY;
    fs_status rc = r->data_later ? FS_OK : fs_stage_tokenizer(&u->s, how, err);

    return rc ? rc : fs_dataset_open(&u->data, &u->s, err);
}

static fs_status make_trainer(struct run *u, fs_error *err)
{
    const fs_recipe *r = u->r;
    fs_trainer_options o = { .mtp = r->mtp_weight > 0, .mtp_weight = r->mtp_weight, .balance_weight = r->balance_weight };
    fs_status rc = fs_dataset_room(&u->data, &o, err);

    return rc ? rc : fs_stage_trainer(&u->s, &o, err);
}

static fs_status tell_data(struct run *u, fs_error *err)
{
    fs_status rc = fs_dataset_tell(&u->data, &u->s, err);

    return rc ? rc : fs_stage_tell_tokenizer(&u->s, err);
}

static void tell_plan(struct run *u, double seconds_step)
{
    fs_stage_plan plan = { .tokens_step = (uint64_t)u->r->rows * u->r->length, .seconds_step = seconds_step };

    fs_dataset_plan(&u->data, &plan);
    fs_stage_plan_of(&u->s, u->r->length, &plan);
    u->events->plan(u->events->ud, &plan);
}

/* Floats as hexadecimal: equal text is equal bits. */
static fs_status put_trace(struct run *u, const fs_stage_step *s, fs_error *err)
{
    const fs_train_loss *loss = &s->pretrain.loss;
    fs_buf fields = { 0 };
    fs_status rc = fs_buf_printf(&fields, err, ",\"mtp\":\"%a\",\"balance\":\"%a\",\"lr\":\"%a\"", loss->mtp, loss->balance, s->lr);

    if (!rc && !isnan(s->pretrain.start))
        rc = fs_buf_printf(&fields, err, ",\"start\":\"%a\"", s->pretrain.start);
    if (!rc && !isnan(s->pretrain.validation))
        rc = fs_buf_printf(&fields, err, ",\"validation\":\"%a\"", s->pretrain.validation);
    if (!rc && u->r->teacher)
        rc = fs_buf_printf(&fields, err, ",\"divergence\":\"%a\"", loss->divergence);
    if (!rc)
        rc = fs_stage_trace(&u->s, s, loss->loss, s->pretrain.grad_norm, fields.data, err);
    fs_buf_done(&fields);
    return rc;
}

/* What the curves show. */
static fs_status put_metrics(struct run *u, const fs_stage_step *s, fs_error *err)
{
    const fs_train_loss *loss = &s->pretrain.loss;
    double norm = s->pretrain.grad_norm, speed = (double)u->r->rows * u->r->length / s->seconds;
    fs_metric items[] = { { "loss", &loss->loss, 1 }, { "grad_norm", &norm, 1 }, { "lr", &s->lr, 1 }, { "tokens_s", &speed, 1 },
                          { "loss/mtp", &loss->mtp, 1 }, { "loss/balance", &loss->balance, 1 }, { "loss/validation", &s->pretrain.validation, 1 },
                          { "loss/divergence", &loss->divergence, 1 } };
    const fs_metric start = { "loss/validation", &s->pretrain.start, 1 };
    size_t n = 4;
    fs_status rc = isnan(s->pretrain.start) ? FS_OK : fs_stage_metrics(&u->s, 0, &start, 1, err);

    if (u->r->mtp_weight > 0)
        n = 5;
    if (u->r->balance_weight > 0)
        items[n++] = items[5];
    if (!isnan(s->pretrain.validation))
        items[n++] = items[6];
    if (u->r->teacher)
        items[n++] = items[7];
    return rc ? rc : fs_stage_step_metrics(&u->s, s, items, n, err);
}

/* ---- steps ---- */

/* About how long a step takes, by one micro-batch on weights from nothing: once to touch the memory, once by the clock. */
static fs_status measure(struct run *u, double *ret_seconds, fs_error *err)
{
    fs_train_loss unused;
    double start = 0;
    fs_status rc = FS_OK;

    fs_params_init(u->s.params, u->r->seed, u->r->init_std);
    fs_trainer_pack(u->s.trainer);
    for (int i = 0; i < 2 && !rc; i++) {
        start = fs_seconds_now();
        rc = fs_dataset_run(&u->data, u->s.trainer, u->data.feed, 0, u->r->micro_rows, fs_trainer_run, &unused, err);
    }
    *ret_seconds = (fs_seconds_now() - start) * u->r->rows / u->r->micro_rows;
    return rc;
}

/* The mean loss of the held-out rows by the weights as they are. */
static fs_status validate(struct run *u, double *ret, fs_error *err)
{
    fs_train_loss loss;
    fs_status rc = fs_dataset_run(&u->data, u->s.trainer, u->data.held, 0, u->data.n_held, fs_trainer_evaluate, &loss, err);

    if (rc)
        return fs_fail_prefix(err, "validation");
    *ret = loss.loss;
    return FS_OK;
}

static fs_status one_step(void *ud, fs_stage_step *s, fs_error *err)
{
    struct run *u = ud;
    const fs_recipe *r = u->r;
    uint64_t i = u->s.optimizer.step;
    double start;
    fs_status rc = FS_OK;

    s->pretrain.start = s->pretrain.validation = NAN;
    if (u->data.held && i == 0)
        rc = validate(u, &s->pretrain.start, err);
    start = fs_seconds_now();
    if (!rc)
        rc = fs_dataset_step(&u->data, &u->s, s->lr, r->bias_rate, &s->pretrain.loss, &s->pretrain.grad_norm, err);
    if (rc)
        return rc;
    s->seconds = fs_seconds_now() - start;
    fs_stage_gauge(&u->s, s, (double)r->rows * r->length, r->length);
    if (u->data.held && ((r->validation_every && (i + 1) % r->validation_every == 0) || i + 1 == r->steps))
        rc = validate(u, &s->pretrain.validation, err);
    if (!rc)
        rc = put_trace(u, s, err);
    return rc ? rc : put_metrics(u, s, err);
}

/* Which experts are trained: what a checkpoint's run found, or by the first rows of the data and the weights as they are. */
static fs_status find_experts(struct run *u, bool loaded, fs_error *err)
{
    const fs_recipe *r = u->r;
    uint64_t step, n_rows = fs_feed_count(u->data.feed).n_rows;
    char *folder = NULL;
    fs_train_loss unused;
    fs_status rc = fs_checkpoint_newest(r->out, &step, &folder, err);

    n_rows = r->esft_rows && r->esft_rows < n_rows ? r->esft_rows : n_rows;
    if (!rc && folder && !loaded)
        rc = fs_esft_resume(u->s.params, u->s.config, r->out, err);
    if (!rc && !folder && loaded)
        rc = fs_dataset_run(&u->data, u->s.trainer, u->data.feed, 0, n_rows, fs_trainer_evaluate, &unused, err);
    if (!rc && !folder && loaded)
        rc = fs_esft_take(&r->esft, u->s.trainer, u->s.config, r->out, err);
    free(folder);
    return rc ? fs_fail_prefix(err, "esft") : FS_OK;
}

fs_status fs_pretrain(const fs_recipe *r, fs_pool *pool, const fs_kernels *kernels, bool resume, bool dry_run, const fs_stage_events *events,
                      fs_error *err)
{
    struct run u = { .r = r, .events = events };
    double seconds_step = 0;
    fs_status rc = fs_stage_open(&u.s, r, pool, kernels, events, err);

    if (!rc)
        rc = open_data(&u, err);
    if (!rc)
        rc = make_trainer(&u, err);
    if (!rc && !dry_run && r->esft.p > 0)
        rc = find_experts(&u, false, err);
    if (!rc && !dry_run)
        rc = fs_stage_fill(&u.s, resume, err);
    if (!rc && !dry_run && r->esft.p > 0)
        rc = find_experts(&u, true, err);
    if (!rc && !dry_run)
        rc = tell_data(&u, err);
    if (!rc && dry_run && u.data.feed)
        rc = measure(&u, &seconds_step, err);
    if (!rc)
        tell_plan(&u, seconds_step);
    if (!rc && !dry_run)
        rc = fs_stage_run(&u.s, one_step, &u, events, err);
    fs_dataset_close(&u.data);
    fs_stage_close(&u.s);
    return rc;
}
