/* See the header. */
#include "train/pretrain.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "data/pack.h"
#include "data/records.h"
#include "train/documents.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct run {
    fs_stage s;
    const fs_recipe *r;
    const fs_stage_events *events;
    fs_documents documents; /* text and ids */
    fs_shards *shards;      /* or these */
    fs_pack *pack;
    int32_t *row_ids, *row_targets; /* [micro_rows, length] of shards */
    fs_pack_piece *row_pieces;      /* [length] */
    uint32_t pieces_max;            /* of a row */
    fs_train_sequence *sequences; /* of a micro-batch */
};

/* ---- data ---- */
static fs_status add_ids_line(struct run *u, fs_bytes line, const char *path, size_t number, fs_ids *ids, fs_error *err)
{
    struct json_object *json = NULL, *list;
    fs_status rc = fs_json_parse(line, path, &json, err);

    list = rc ? NULL : fs_json_member(json, "ids");
    if (!rc && (!list || !json_object_is_type(list, json_type_array)))
        rc = fs_fail(err, FS_ERR_FORMAT, "%s: line %zu has no \"ids\"", path, number);
    for (size_t i = 0; !rc && i < json_object_array_length(list); i++) {
        struct json_object *id = json_object_array_get_idx(list, i);
        int64_t v = id && json_object_is_type(id, json_type_int) ? json_object_get_int64(id) : -1;
        if (v < 0 || v >= (int64_t)u->s.config->vocab_size)
            rc = fs_fail(err, FS_ERR_FORMAT, "%s: line %zu holds something that is no id under %" PRIu32, path, number, u->s.config->vocab_size);
        else
            rc = fs_ids_push(ids, (int32_t)v, err);
    }
    json_object_put(json);
    return rc;
}

static fs_status check_ids(const struct run *u, const fs_ids *ids, const char *path, size_t number, fs_error *err)
{
    for (size_t i = 0; i < ids->n; i++)
        if ((uint32_t)ids->data[i] >= u->s.config->vocab_size)
            return fs_fail(err, FS_ERR_FORMAT, "%s: line %zu makes token %" PRId32 ", the model's vocabulary is %" PRIu32, path, number, ids->data[i],
                           u->s.config->vocab_size);
    return FS_OK;
}

/* The next document's ids, empty for a blank line. */
static fs_status next_document(struct run *u, fs_lines *lines, const char *path, fs_buf *words, fs_ids *ids, bool *ret_more, fs_error *err)
{
    fs_bytes line;
    fs_data_record record;
    fs_status rc;

    ids->n = 0;
    if (u->r->data == FS_RECIPE_IDS) {
        *ret_more = fs_lines_next(lines, &line);
        return *ret_more && line.n_bytes ? add_ids_line(u, line, path, lines->number, ids, err) : FS_OK;
    }
    rc = fs_data_record_next(lines, path, &record, ret_more, err);
    if (rc || !*ret_more)
        return rc;
    fs_buf_clear(words);
    rc = fs_data_record_words(&record, words, err);
    if (!rc)
        rc = fs_tokenizer_encode(u->s.tokenizer, fs_buf_bytes(words), 0, ids, err);
    return rc ? rc : check_ids(u, ids, path, lines->number, err);
}

static fs_status read_file(struct run *u, const char *path, fs_error *err)
{
    int32_t end = u->s.config->n_eos_token_ids ? u->s.config->eos_token_ids[0] : -1;
    fs_map map = { 0 };
    fs_buf words = { 0 };
    fs_ids ids = { 0 };
    bool more = true;
    fs_status rc = fs_map_open(&map, path, err);
    fs_lines lines = { .text = map.bytes };

    if (!rc && (end < -1 || end >= (int32_t)u->s.config->vocab_size))
        rc = fs_fail(err, FS_ERR_FORMAT, "eos_token_id %" PRId32 " is outside the vocabulary of %" PRIu32, end, u->s.config->vocab_size);
    while (!rc && more) {
        rc = next_document(u, &lines, path, &words, &ids, &more, err);
        if (!rc && more)
            rc = fs_documents_add(&u->documents, ids.data, ids.n, end, err);
    }
    fs_map_close(&map);
    fs_buf_done(&words);
    fs_ids_done(&ids);
    return rc;
}

/* The rows of the run are gone through once, for the most pieces of any. */
static fs_status open_shards(struct run *u, fs_error *err)
{
    const fs_recipe *r = u->r;
    size_t floats = (size_t)r->micro_rows * r->length;
    fs_status rc = fs_shards_open(r->files[0], &u->shards, err);

    if (!rc && fs_shards_vocab_size(u->shards) > u->s.config->vocab_size)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' has a vocabulary of %zu, the model's is %" PRIu32, r->files[0], fs_shards_vocab_size(u->shards),
                     u->s.config->vocab_size);
    if (!rc && u->s.tokenizer)
        rc = fs_shards_check_tokenizer(u->shards, u->s.tokenizer, err);
    if (!rc)
        rc = fs_pack_new(u->shards, r->seed, r->length, r->whole ? FS_PACK_WHOLE : FS_PACK_CUT, &u->pack, err);
    if (rc)
        return rc;
    u->row_ids = malloc(floats * sizeof *u->row_ids);
    u->row_targets = malloc(floats * sizeof *u->row_targets);
    u->row_pieces = malloc(r->length * sizeof *u->row_pieces);
    if (!u->row_ids || !u->row_targets || !u->row_pieces)
        return fs_fail_memory(err, floats * sizeof *u->row_ids);
    for (uint64_t k = 0; k < r->steps * r->rows && !rc; k++) {
        uint32_t n = 0;
        rc = fs_pack_row(u->pack, k, u->row_ids, u->row_targets, u->row_pieces, &n, NULL, err);
        u->pieces_max = n > u->pieces_max ? n : u->pieces_max;
    }
    return rc;
}

static fs_status read_data(struct run *u, fs_error *err)
{
    fs_status rc;

    if (u->r->data_later) {
        u->pieces_max = 1;
        return FS_OK;
    }
    rc = fs_stage_tokenizer(&u->s, u->r->data == FS_RECIPE_TEXT ? FS_STAGE_MUST_READ : u->r->data == FS_RECIPE_SHARDS ? FS_STAGE_MAY_READ : FS_STAGE_COPY, err);

    if (!rc && u->r->data == FS_RECIPE_SHARDS)
        return open_shards(u, err);
    for (int i = 0; i < u->r->n_files && !rc; i++)
        rc = read_file(u, u->r->files[i], err);
    if (!rc)
        rc = fs_documents_finish(&u->documents, u->r->length, u->r->seed, err);
    u->pieces_max = u->documents.pieces_max;
    return rc;
}

/* ---- the trainer ---- */
static fs_status make_trainer(struct run *u, fs_error *err)
{
    const fs_recipe *r = u->r;
    fs_trainer_options o = { .mtp = r->mtp_weight > 0, .mtp_weight = r->mtp_weight, .balance_weight = r->balance_weight };
    uint64_t tokens = (uint64_t)r->micro_rows * r->length, sequences = (uint64_t)r->micro_rows * u->pieces_max;
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

static fs_status tell_plan(struct run *u, fs_error *err)
{
    fs_stage_plan plan = { .n_documents = u->documents.n_documents, .n_tokens = u->documents.n_tokens, .n_rows = u->documents.n_rows,
                           .tokens_step = (uint64_t)u->r->rows * u->r->length };
    fs_status rc = FS_OK;

    if (u->shards) {
        plan.n_documents = fs_shards_n_documents(u->shards);
        plan.n_tokens = fs_shards_n_tokens(u->shards);
        rc = fs_pack_rows(u->pack, 0, &plan.n_rows, err);
    }
    fs_stage_plan_of(&u->s, &plan);
    if (!rc)
        u->events->plan(u->events->ud, &plan);
    return rc;
}

/* Floats as hexadecimal: equal text is equal bits. */
static fs_status put_trace(struct run *u, const fs_stage_step *s, fs_error *err)
{
    const fs_train_loss *loss = &s->pretrain.loss;
    fs_buf line = { 0 };
    fs_status rc = fs_buf_printf(&line, err, "{\"step\":%" PRIu64 ",\"loss\":\"%a\",\"mtp\":\"%a\",\"balance\":\"%a\",\"grad_norm\":\"%a\",\"lr\":\"%a\"}\n",
                                 s->step, loss->loss, loss->mtp, loss->balance, (double)s->pretrain.grad_norm, s->lr);

    if (!rc)
        rc = fs_stage_trace_put(&u->s, &line, err);
    fs_buf_done(&line);
    return rc;
}

/* What the curves show. */
static fs_status put_metrics(struct run *u, const fs_stage_step *s, fs_error *err)
{
    const fs_train_loss *loss = &s->pretrain.loss;
    double norm = s->pretrain.grad_norm, speed = (double)u->r->rows * u->r->length / s->seconds;
    fs_metric items[] = { { "loss", &loss->loss, 1 }, { "grad_norm", &norm, 1 }, { "lr", &s->lr, 1 }, { "tokens_s", &speed, 1 },
                          { "loss/mtp", &loss->mtp, 1 }, { "loss/balance", &loss->balance, 1 } };
    size_t n = 4;

    if (u->r->mtp_weight > 0)
        n = 5;
    if (u->r->balance_weight > 0)
        items[n++] = items[5];
    return fs_stage_metrics(&u->s, s->step, items, n, err);
}

/* ---- steps ---- */
/* Row number of the run, the at-th of the micro-batch; adds its sequences at *n. */
static fs_status shard_row(struct run *u, uint64_t number, uint32_t at, uint64_t index, uint32_t *n, fs_error *err)
{
    int32_t *ids = u->row_ids + (size_t)at * u->r->length, *targets = u->row_targets + (size_t)at * u->r->length;
    uint32_t n_pieces = 0;
    fs_status rc = fs_pack_row(u->pack, number, ids, targets, u->row_pieces, &n_pieces, NULL, err);

    for (uint32_t i = 0; i < n_pieces && !rc; i++) {
        const fs_pack_piece *p = &u->row_pieces[i];
        u->sequences[(*n)++] = (fs_train_sequence){ .ids = ids + p->begin, .targets = targets + p->begin, .n = p->n, .index = index + p->begin };
    }
    return rc;
}

/* Rows from row on of step number step, as sequences: as many as a micro-batch has. */
static fs_status rows_of(struct run *u, uint64_t step, uint32_t row, uint32_t *ret_n, fs_error *err)
{
    uint32_t end = u->r->rows - row < u->r->micro_rows ? u->r->rows : row + u->r->micro_rows, n = 0;
    fs_status rc = FS_OK;

    for (uint32_t i = row; i < end && !rc; i++) {
        uint64_t number = step * u->r->rows + i, index = (uint64_t)i * u->r->length;
        if (u->shards)
            rc = shard_row(u, number, i - row, index, &n, err);
        else
            n += fs_documents_row(&u->documents, number, index, u->sequences + n);
    }
    *ret_n = n;
    return rc;
}

static fs_status gradients(struct run *u, uint64_t step, fs_train_loss *ret, fs_error *err)
{
    const fs_recipe *r = u->r;
    fs_train_totals totals = { 0 };
    uint32_t n = 0;
    fs_status rc = FS_OK;

    for (uint32_t row = 0; row < r->rows && !rc; row += r->micro_rows) {
        rc = rows_of(u, step, row, &n, err);
        if (!rc)
            fs_train_totals_add(&totals, u->sequences, n);
    }
    fs_trainer_begin(u->s.trainer, &totals);
    for (uint32_t row = 0; row < r->rows && !rc; row += r->micro_rows) {
        rc = rows_of(u, step, row, &n, err);
        if (!rc && n)
            rc = fs_trainer_run(u->s.trainer, u->sequences, n, err);
        if (rc)
            fs_fail_prefix(err, "step %" PRIu64 ", rows %" PRIu32 " on", step + 1, row);
    }
    if (!rc)
        fs_trainer_end(u->s.trainer, ret);
    return rc;
}

static fs_status one_step(void *ud, fs_stage_step *s, fs_error *err)
{
    struct run *u = ud;
    uint64_t i = u->s.optimizer.step;
    double start = fs_seconds_now();
    fs_status rc;

    rc = gradients(u, i, &s->pretrain.loss, err);
    if (rc)
        return rc;
    rc = fs_params_finite_norm(u->s.kernels, u->s.params, &s->pretrain.grad_norm, err);
    if (rc)
        return fs_fail_prefix(err, "step %" PRIu64, i + 1);
    fs_optimizer_step(&u->s.optimizer, u->s.params, u->s.pool, u->s.kernels, s->pretrain.grad_norm, s->lr);
    if (u->r->bias_rate > 0)
        fs_trainer_move_biases(u->s.trainer, u->r->bias_rate);
    fs_trainer_pack(u->s.trainer);
    s->seconds = fs_seconds_now() - start;
    rc = put_trace(u, s, err);
    return rc ? rc : put_metrics(u, s, err);
}

fs_status fs_pretrain(const fs_recipe *r, fs_pool *pool, const fs_kernels *kernels, bool resume, bool dry_run, const fs_stage_events *events,
                      fs_error *err)
{
    struct run u = { .r = r, .events = events };
    fs_status rc = fs_stage_open(&u.s, r, pool, kernels, err);

    if (!rc)
        rc = read_data(&u, err);
    if (!rc)
        rc = make_trainer(&u, err);
    if (!rc && !dry_run)
        rc = fs_stage_fill(&u.s, resume, err);
    if (!rc)
        rc = tell_plan(&u, err);
    if (!rc && !dry_run)
        rc = fs_stage_run(&u.s, one_step, &u, events, err);
    free(u.sequences);
    free(u.row_ids);
    free(u.row_targets);
    free(u.row_pieces);
    fs_pack_free(u.pack);
    fs_shards_close(u.shards);
    fs_documents_done(&u.documents);
    fs_stage_close(&u.s);
    return rc;
}
