/* See the header. */
#include "train/pretrain.h"

#include "base/clock.h"
#include "train/checkpoint.h"
#include "train/esft.h"
#include "train/feed.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

struct run {
    fs_stage s;
    const fs_recipe *r;
    const fs_stage_events *events;
    fs_feed *feed;  /* NULL: its data is still to be made */
    fs_feed *held;  /* of validation; NULL: none */
    uint64_t n_held; /* rows */
    fs_train_sequence *sequences; /* of a micro-batch */
};

/* ---- data ---- */
static fs_status open_data(struct run *u, fs_error *err)
{
    const fs_recipe *r = u->r;
    fs_feed_options o = { .files = r->files, .n_files = r->n_files, .kind = r->data, .whole = r->whole, .length = r->length, .rows_max = r->micro_rows,
                          .seed = r->seed, .n_rows = r->steps * r->rows };
    fs_status rc;

    if (r->data_later)
        return FS_OK;
    rc = fs_stage_tokenizer(&u->s, r->data == FS_RECIPE_TEXT ? FS_STAGE_MUST_READ : r->data == FS_RECIPE_SHARDS ? FS_STAGE_MAY_READ : FS_STAGE_COPY, err);
    if (!rc)
        rc = fs_feed_open(&o, u->s.config, u->s.tokenizer, &u->feed, err);
    if (rc || !r->validation_files.n)
        return rc;
    o.files = r->validation_files.items;
    o.n_files = r->validation_files.n;
    o.n_rows = 0;
    rc = fs_feed_open(&o, u->s.config, u->s.tokenizer, &u->held, err);
    if (rc)
        return fs_fail_prefix(err, "validation");
    u->n_held = fs_feed_count(u->held).n_rows;
    if (r->validation_rows && r->validation_rows < u->n_held)
        u->n_held = r->validation_rows;
    return FS_OK;
}

/* ---- the trainer ---- */
static fs_status make_trainer(struct run *u, fs_error *err)
{
    const fs_recipe *r = u->r;
    fs_trainer_options o = { .mtp = r->mtp_weight > 0, .mtp_weight = r->mtp_weight, .balance_weight = r->balance_weight };
    uint32_t pieces = u->feed ? fs_feed_count(u->feed).pieces_max : 1, held = u->held ? fs_feed_count(u->held).pieces_max : 0;
    uint64_t tokens = (uint64_t)r->micro_rows * r->length, sequences = (uint64_t)r->micro_rows * (pieces > held ? pieces : held);
    fs_status rc;

    if (tokens > INT32_MAX || sequences > INT32_MAX)
        return fs_fail(err, FS_ERR_ARGUMENT, "%" PRIu64 " tokens at a time are too many: see batch.micro_rows", tokens);
    o.tokens_max = (uint32_t)tokens;
    o.sequences_max = (uint32_t)sequences;
    rc = fs_stage_trainer(&u->s, &o, err);
    if (rc)
        return rc;
    u->sequences = malloc(sequences * sizeof *u->sequences);
    return rc || u->sequences ? rc : fs_fail_memory(err, sequences * sizeof *u->sequences);
}

/* ---- the record ---- */

static fs_status tell_files(struct run *u, char *const *files, int n, bool held, fs_error *err)
{
    bool shards = u->r->data == FS_RECIPE_SHARDS;
    const char *kind = shards ? (held ? "held-shards" : "shards") : held ? "held-source" : "source";
    fs_status rc = FS_OK;

    for (int i = 0; i < n && !rc; i++)
        rc = fs_stage_tell_source(&u->s, kind, files[i], shards, err);
    return rc;
}

/* The sequences of the whole run: u32 n, n ids, n targets (i32, little-endian) of each. */
static fs_status tell_tokens(struct run *u, fs_error *err)
{
    uint64_t end = u->r->steps * u->r->rows;
    fs_root_stream stream = { 0 };
    fs_root root;
    uint32_t n = 0;
    fs_status rc = FS_OK;

    for (uint64_t row = 0; row < end && !rc; row += u->r->micro_rows) {
        uint64_t left = end - row;
        rc = fs_feed_rows(u->feed, row, left < u->r->micro_rows ? (uint32_t)left : u->r->micro_rows, 0, u->sequences, &n, err);
        for (uint32_t i = 0; i < n && !rc; i++) {
            const fs_train_sequence *s = &u->sequences[i];
            rc = fs_root_stream_put(&stream, &s->n, sizeof s->n, err);
            if (!rc)
                rc = fs_root_stream_put(&stream, s->ids, s->n * sizeof *s->ids, err);
            if (!rc)
                rc = fs_root_stream_put(&stream, s->targets, s->n * sizeof *s->targets, err);
        }
    }
    if (!rc)
        rc = fs_root_stream_end(&stream, &root, err);
    fs_root_stream_done(&stream);
    return rc ? rc : fs_stage_tell_root(&u->s, "tokens", &root, err);
}

static fs_status tell_data(struct run *u, fs_error *err)
{
    const fs_recipe *r = u->r;
    fs_status rc = fs_history_tells(&u->s.history) ? tell_tokens(u, err) : FS_OK;

    if (!rc)
        rc = tell_files(u, r->files, r->n_files, false, err);
    if (!rc)
        rc = tell_files(u, r->validation_files.items, r->validation_files.n, true, err);
    return rc ? rc : fs_stage_tell_tokenizer(&u->s, err);
}

static void tell_plan(struct run *u, double seconds_step)
{
    fs_feed_counts n = u->feed ? fs_feed_count(u->feed) : (fs_feed_counts){ 0 };
    fs_stage_plan plan = { .n_documents = n.n_documents, .n_tokens = n.n_tokens, .n_rows = n.n_rows, .tokens_step = (uint64_t)u->r->rows * u->r->length,
                           .seconds_step = seconds_step };

    fs_stage_plan_of(&u->s, &plan);
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
    return rc ? rc : fs_stage_metrics(&u->s, s->step, items, n, err);
}

/* ---- steps ---- */
/* Rows from row on of a step or of validation, as sequences: as many as a micro-batch has. */
static fs_status rows_of(struct run *u, fs_feed *feed, uint64_t first, uint64_t row, uint64_t n_rows, uint32_t *ret_n, fs_error *err)
{
    uint64_t left = n_rows - row;

    return fs_feed_rows(feed, first + row, left < u->r->micro_rows ? (uint32_t)left : u->r->micro_rows, row * u->r->length, u->sequences, ret_n, err);
}

typedef fs_status pass(fs_trainer *t, const fs_train_sequence *sequences, uint32_t n, fs_error *err);

/* Rows [first, first + n_rows) of feed by micro-batches, from begin to end. */
static fs_status run_rows(struct run *u, fs_feed *feed, uint64_t first, uint64_t n_rows, pass *run, fs_train_loss *ret, fs_error *err)
{
    fs_train_totals totals = { 0 };
    uint32_t n = 0;
    fs_status rc = FS_OK;

    for (uint64_t row = 0; row < n_rows && !rc; row += u->r->micro_rows) {
        rc = rows_of(u, feed, first, row, n_rows, &n, err);
        if (!rc)
            fs_train_totals_add(&totals, u->sequences, n);
    }
    fs_trainer_begin(u->s.trainer, &totals);
    for (uint64_t row = 0; row < n_rows && !rc; row += u->r->micro_rows) {
        rc = rows_of(u, feed, first, row, n_rows, &n, err);
        if (!rc && n)
            rc = run(u->s.trainer, u->sequences, n, err);
        if (rc)
            fs_fail_prefix(err, "rows %" PRIu64 " on", row);
    }
    if (!rc)
        fs_trainer_end(u->s.trainer, ret);
    return rc;
}

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
        rc = run_rows(u, u->feed, 0, u->r->micro_rows, fs_trainer_run, &unused, err);
    }
    *ret_seconds = (fs_seconds_now() - start) * u->r->rows / u->r->micro_rows;
    return rc;
}

/* The mean loss of the held-out rows by the weights as they are. */
static fs_status validate(struct run *u, double *ret, fs_error *err)
{
    fs_train_loss loss;
    fs_status rc = run_rows(u, u->held, 0, u->n_held, fs_trainer_evaluate, &loss, err);

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
    if (u->held && i == 0)
        rc = validate(u, &s->pretrain.start, err);
    start = fs_seconds_now();
    if (!rc && (rc = run_rows(u, u->feed, i * r->rows, r->rows, fs_trainer_run, &s->pretrain.loss, err)) != FS_OK)
        fs_fail_prefix(err, "step %" PRIu64, i + 1);
    if (rc)
        return rc;
    rc = fs_params_finite_norm(u->s.kernels, u->s.params, &s->pretrain.grad_norm, err);
    if (rc)
        return fs_fail_prefix(err, "step %" PRIu64 ", rows %" PRIu64 " to %" PRIu64 " of the run", i + 1, i * r->rows, (i + 1) * r->rows - 1);
    fs_optimizer_step(&u->s.optimizer, u->s.params, u->s.pool, u->s.kernels, s->pretrain.grad_norm, s->lr);
    if (u->r->bias_rate > 0)
        fs_trainer_move_biases(u->s.trainer, u->r->bias_rate);
    if (u->s.optimizer.qk_clip > 0)
        fs_trainer_clip_logits(u->s.trainer, u->s.optimizer.qk_clip);
    fs_trainer_pack_trained(u->s.trainer);
    s->seconds = fs_seconds_now() - start;
    if (u->held && ((r->validation_every && (i + 1) % r->validation_every == 0) || i + 1 == r->steps))
        rc = validate(u, &s->pretrain.validation, err);
    if (!rc)
        rc = put_trace(u, s, err);
    return rc ? rc : put_metrics(u, s, err);
}

/* Which experts are trained: what a checkpoint's run found, or by the first rows of the data and the weights as they are. */
static fs_status find_experts(struct run *u, bool loaded, fs_error *err)
{
    const fs_recipe *r = u->r;
    uint64_t step, n_rows = r->esft_rows && r->esft_rows < fs_feed_count(u->feed).n_rows ? r->esft_rows : fs_feed_count(u->feed).n_rows;
    char *folder = NULL;
    fs_train_loss unused;
    fs_status rc = fs_checkpoint_newest(r->out, &step, &folder, err);

    if (!rc && folder && !loaded)
        rc = fs_esft_resume(u->s.params, u->s.config, r->out, err);
    if (!rc && !folder && loaded)
        rc = run_rows(u, u->feed, 0, n_rows, fs_trainer_evaluate, &unused, err);
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
    if (!rc && dry_run && u.feed)
        rc = measure(&u, &seconds_step, err);
    if (!rc)
        tell_plan(&u, seconds_step);
    if (!rc && !dry_run)
        rc = fs_stage_run(&u.s, one_step, &u, events, err);
    free(u.sequences);
    fs_feed_close(u.feed);
    fs_feed_close(u.held);
    fs_stage_close(&u.s);
    return rc;
}
