/* See the header. */
#include "train/dataset.h"

#include <inttypes.h>
#include <stdlib.h>

fs_status fs_dataset_open(fs_dataset *d, const fs_stage *s, fs_error *err)
{
    const fs_recipe *r = s->r;
    fs_feed_options o = { .files = r->files, .n_files = r->n_files, .kind = r->data, .whole = r->whole, .length = r->length, .rows_max = r->micro_rows,
                          .seed = r->seed, .n_rows = r->steps * r->rows };
    fs_status rc;

    *d = (fs_dataset){ .r = r };
    if (r->data_later)
        return FS_OK;
    rc = fs_feed_open(&o, s->config, s->tokenizer, &d->feed, err);
    if (rc || !r->validation_files.n)
        return rc;
    o.files = r->validation_files.items;
    o.n_files = r->validation_files.n;
    o.n_rows = 0;
    rc = fs_feed_open(&o, s->config, s->tokenizer, &d->held, err);
    if (rc)
        return fs_fail_prefix(err, "validation");
    d->n_held = fs_feed_count(d->held).n_rows;
    if (r->validation_rows && r->validation_rows < d->n_held)
        d->n_held = r->validation_rows;
    return FS_OK;
}

void fs_dataset_close(fs_dataset *d)
{
    free(d->sequences);
    fs_feed_close(d->feed);
    fs_feed_close(d->held);
    *d = (fs_dataset){ 0 };
}

fs_status fs_dataset_room(fs_dataset *d, fs_trainer_options *ret, fs_error *err)
{
    const fs_recipe *r = d->r;
    uint32_t pieces = d->feed ? fs_feed_count(d->feed).pieces_max : 1, held = d->held ? fs_feed_count(d->held).pieces_max : 0;
    uint64_t tokens = (uint64_t)r->micro_rows * r->length, sequences = (uint64_t)r->micro_rows * (pieces > held ? pieces : held);

    if (tokens > INT32_MAX || sequences > INT32_MAX)
        return fs_fail(err, FS_ERR_ARGUMENT, "%" PRIu64 " tokens at a time are too many: see batch.micro_rows", tokens);
    d->sequences = malloc(sequences * sizeof *d->sequences);
    if (!d->sequences)
        return fs_fail_memory(err, sequences * sizeof *d->sequences);
    ret->tokens_max = ret->tokens_max > tokens ? ret->tokens_max : (uint32_t)tokens;
    ret->sequences_max = ret->sequences_max > sequences ? ret->sequences_max : (uint32_t)sequences;
    return FS_OK;
}

void fs_dataset_plan(const fs_dataset *d, fs_stage_plan *ret)
{
    fs_feed_counts n = d->feed ? fs_feed_count(d->feed) : (fs_feed_counts){ 0 };

    ret->n_documents = n.n_documents;
    ret->n_tokens = n.n_tokens;
    ret->n_rows = n.n_rows;
}

/* ---- the record ---- */

static fs_status tell_files(const fs_dataset *d, fs_stage *s, char *const *files, int n, bool held, fs_error *err)
{
    bool shards = d->r->data == FS_RECIPE_SHARDS;
    const char *kind = shards ? (held ? "held-shards" : "shards") : held ? "held-source" : "source";
    fs_status rc = FS_OK;

    for (int i = 0; i < n && !rc; i++)
        rc = fs_stage_tell_source(s, kind, files[i], shards, err);
    return rc;
}

/* The sequences of the whole run: u32 n, n ids, n targets (i32, little-endian) of each. */
static fs_status tell_tokens(fs_dataset *d, fs_stage *s, fs_error *err)
{
    uint64_t end = d->r->steps * d->r->rows;
    fs_root_stream stream = { 0 };
    fs_root root;
    uint32_t n = 0;
    fs_status rc = FS_OK;

    for (uint64_t row = 0; row < end && !rc; row += d->r->micro_rows) {
        uint64_t left = end - row;
        rc = fs_feed_rows(d->feed, row, left < d->r->micro_rows ? (uint32_t)left : d->r->micro_rows, 0, d->sequences, &n, err);
        for (uint32_t i = 0; i < n && !rc; i++) {
            const fs_train_sequence *q = &d->sequences[i];
            rc = fs_root_stream_put(&stream, &q->n, sizeof q->n, err);
            if (!rc)
                rc = fs_root_stream_put(&stream, q->ids, q->n * sizeof *q->ids, err);
            if (!rc)
                rc = fs_root_stream_put(&stream, q->targets, q->n * sizeof *q->targets, err);
        }
    }
    if (!rc)
        rc = fs_root_stream_end(&stream, &root, err);
    fs_root_stream_done(&stream);
    return rc ? rc : fs_stage_tell_root(s, "tokens", &root, err);
}

fs_status fs_dataset_tell(fs_dataset *d, fs_stage *s, fs_error *err)
{
    const fs_recipe *r = d->r;
    fs_status rc = fs_history_tells(&s->history) ? tell_tokens(d, s, err) : FS_OK;

    if (!rc)
        rc = tell_files(d, s, r->files, r->n_files, false, err);
    return rc ? rc : tell_files(d, s, r->validation_files.items, r->validation_files.n, true, err);
}

/* ---- steps ---- */

/* Rows from row on of a step or of validation, as sequences: as many as a micro-batch has. */
static fs_status rows_of(fs_dataset *d, fs_feed *feed, uint64_t first, uint64_t row, uint64_t n_rows, uint32_t *ret_n, fs_error *err)
{
    uint64_t left = n_rows - row;

    return fs_feed_rows(feed, first + row, left < d->r->micro_rows ? (uint32_t)left : d->r->micro_rows, row * d->r->length, d->sequences, ret_n, err);
}

fs_status fs_dataset_run(fs_dataset *d, fs_trainer *t, fs_feed *feed, uint64_t first, uint64_t n_rows, fs_dataset_pass *run, fs_train_loss *ret, fs_error *err)
{
    fs_train_totals totals = { 0 };
    uint32_t n = 0;
    fs_status rc = FS_OK;

    for (uint64_t row = 0; row < n_rows && !rc; row += d->r->micro_rows) {
        rc = rows_of(d, feed, first, row, n_rows, &n, err);
        if (!rc)
            fs_train_totals_add(&totals, d->sequences, n);
    }
    fs_trainer_begin(t, &totals);
    for (uint64_t row = 0; row < n_rows && !rc; row += d->r->micro_rows) {
        rc = rows_of(d, feed, first, row, n_rows, &n, err);
        if (!rc && n)
            rc = run(t, d->sequences, n, err);
        if (rc)
            fs_fail_prefix(err, "rows %" PRIu64 " to %" PRIu64 "%s", first + row,
                           first + (n_rows - row < d->r->micro_rows ? n_rows : row + d->r->micro_rows) - 1, feed == d->feed ? " of the run" : "");
    }
    if (!rc)
        fs_trainer_end(t, ret);
    return rc;
}

fs_status fs_dataset_step(fs_dataset *d, fs_stage *s, double lr, double bias_rate, fs_train_loss *ret, float *ret_norm, fs_error *err)
{
    uint64_t i = s->optimizer.step, rows = d->r->rows;
    fs_status rc = fs_dataset_run(d, s->trainer, d->feed, i * rows, rows, fs_trainer_run, ret, err);

    if (rc)
        return fs_fail_prefix(err, "step %" PRIu64, i + 1);
    rc = fs_params_finite_norm(s->kernels, s->params, ret_norm, err);
    if (rc)
        return fs_fail_prefix(err, "step %" PRIu64 ", rows %" PRIu64 " to %" PRIu64 " of the run", i + 1, i * rows, (i + 1) * rows - 1);
    fs_optimizer_step(&s->optimizer, s->params, s->pool, s->kernels, *ret_norm, lr);
    if (bias_rate > 0)
        fs_trainer_move_biases(s->trainer, bias_rate);
    if (s->optimizer.qk_clip > 0)
        fs_trainer_clip_logits(s->trainer, s->optimizer.qk_clip);
    fs_trainer_pack_trained(s->trainer);
    return FS_OK;
}
