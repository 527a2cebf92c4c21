/* See the header. */
#include "train/pretrain.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "data/pack.h"
#include "data/records.h"
#include "text/tokenizer.h"
#include "train/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOKENIZER_BYTES_MAX ((size_t)256 << 20)
#define CONFIG_BYTES_MAX    ((size_t)1 << 20)
#define TRACE_BYTES_MAX     ((size_t)1 << 32)

struct run {
    const fs_recipe *r;
    fs_pool *pool;
    const fs_kernels *kernels;
    const fs_pretrain_events *events;
    fs_config own_config;
    const fs_config *config;
    fs_weights *weights; /* model.from; NULL: from nothing */
    fs_tokenizer *tokenizer;
    char *tokenizer_folder; /* NULL: none */
    fs_documents documents; /* text and ids */
    fs_shards *shards;      /* or these */
    fs_pack *pack;
    int32_t *row_ids, *row_targets; /* [micro_rows, length] of shards */
    fs_pack_piece *row_pieces;      /* [length] */
    uint32_t pieces_max;            /* of a row */
    fs_trainer *trainer;
    fs_params *params;
    fs_optimizer optimizer;
    fs_train_sequence *sequences; /* of a micro-batch */
    char *resumed_from;
    int trace_fd;
};

/* ---- the model's shape ---- */
static fs_status open_model(struct run *u, fs_error *err)
{
    fs_buf text = { 0 };
    fs_status rc;

    if (u->r->from) {
        rc = fs_weights_open(u->r->from, &u->weights, err);
        if (!rc)
            u->config = fs_weights_config(u->weights);
        return rc;
    }
    rc = fs_file_read(u->r->config, CONFIG_BYTES_MAX, &text, err);
    if (!rc)
        rc = fs_config_from_json(&u->own_config, fs_buf_bytes(&text), u->r->config, err);
    if (!rc)
        u->config = &u->own_config;
    fs_buf_done(&text);
    return rc;
}

/* ---- data ---- */
static fs_status open_tokenizer(struct run *u, fs_error *err)
{
    const char *slash = u->r->tokenizer ? strrchr(u->r->tokenizer, '/') : NULL;
    char *path = u->r->tokenizer ? strdup(u->r->tokenizer) : u->r->from ? fs_path_join(u->r->from, "tokenizer.json") : NULL;
    fs_buf text = { 0 };
    fs_status rc;

    if (u->r->tokenizer)
        u->tokenizer_folder = slash ? strndup(u->r->tokenizer, (size_t)(slash - u->r->tokenizer) + 1) : strdup(".");
    else if (u->r->from)
        u->tokenizer_folder = strdup(u->r->from);
    if (u->r->data == FS_RECIPE_IDS || (u->r->data == FS_RECIPE_SHARDS && (!path || !fs_file_exists(path)))) {
        free(path);
        return FS_OK;
    }
    if (!u->r->tokenizer && !u->r->from)
        return fs_fail(err, FS_ERR_FORMAT, "data.kind text needs data.tokenizer");
    if (!path || !u->tokenizer_folder)
        rc = fs_fail_memory(err, 256);
    else
        rc = fs_file_read(path, TOKENIZER_BYTES_MAX, &text, err);
    if (!rc)
        rc = fs_tokenizer_open_json(fs_buf_bytes(&text), path, &u->tokenizer, err);
    fs_buf_done(&text);
    free(path);
    return rc;
}

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
        if (v < 0 || v >= (int64_t)u->config->vocab_size)
            rc = fs_fail(err, FS_ERR_FORMAT, "%s: line %zu holds something that is no id under %" PRIu32, path, number, u->config->vocab_size);
        else
            rc = fs_ids_push(ids, (int32_t)v, err);
    }
    json_object_put(json);
    return rc;
}

static fs_status check_ids(const struct run *u, const fs_ids *ids, const char *path, size_t number, fs_error *err)
{
    for (size_t i = 0; i < ids->n; i++)
        if ((uint32_t)ids->data[i] >= u->config->vocab_size)
            return fs_fail(err, FS_ERR_FORMAT, "%s: line %zu makes token %" PRId32 ", the model's vocabulary is %" PRIu32, path, number, ids->data[i],
                           u->config->vocab_size);
    return FS_OK;
}

/* The next document's ids, empty for a blank line. */
static fs_status next_document(struct run *u, fs_lines *lines, const char *path, fs_buf *words, fs_ids *ids, bool *ret_more, fs_error *err)
{
    fs_bytes line;
    fs_record record;
    fs_status rc;

    ids->n = 0;
    if (u->r->data == FS_RECIPE_IDS) {
        *ret_more = fs_lines_next(lines, &line);
        return *ret_more && line.n_bytes ? add_ids_line(u, line, path, lines->number, ids, err) : FS_OK;
    }
    rc = fs_record_next(lines, path, &record, ret_more, err);
    if (rc || !*ret_more)
        return rc;
    fs_buf_clear(words);
    rc = fs_record_words(&record, words, err);
    if (!rc)
        rc = fs_tokenizer_encode(u->tokenizer, fs_buf_bytes(words), 0, ids, err);
    return rc ? rc : check_ids(u, ids, path, lines->number, err);
}

static fs_status read_file(struct run *u, const char *path, fs_error *err)
{
    int32_t end = u->config->n_eos_token_ids ? u->config->eos_token_ids[0] : -1;
    fs_map map = { 0 };
    fs_buf words = { 0 };
    fs_ids ids = { 0 };
    bool more = true;
    fs_status rc = fs_map_open(&map, path, err);
    fs_lines lines = { .text = map.bytes };

    if (!rc && (end < -1 || end >= (int32_t)u->config->vocab_size))
        rc = fs_fail(err, FS_ERR_FORMAT, "eos_token_id %" PRId32 " is outside the vocabulary of %" PRIu32, end, u->config->vocab_size);
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

    if (!rc && fs_shards_vocab_size(u->shards) > u->config->vocab_size)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' has a vocabulary of %zu, the model's is %" PRIu32, r->files[0], fs_shards_vocab_size(u->shards),
                     u->config->vocab_size);
    if (!rc && u->tokenizer)
        rc = fs_shards_check_tokenizer(u->shards, u->tokenizer, err);
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
    fs_status rc = open_tokenizer(u, err);

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
    rc = fs_trainer_new(u->config, u->pool, u->kernels, &o, &u->trainer, err);
    if (rc)
        return rc;
    u->params = fs_trainer_params(u->trainer);
    rc = fs_params_add_moments(u->params, err);
    u->sequences = malloc(sequences * sizeof *u->sequences);
    return rc || u->sequences ? rc : fs_fail_memory(err, sequences * sizeof *u->sequences);
}

/* Weights of the newest checkpoint, or of the recipe. */
static fs_status fill(struct run *u, bool resume, fs_error *err)
{
    uint64_t step;
    fs_status rc = fs_checkpoint_newest(u->r->out, &step, &u->resumed_from, err);

    if (!rc && u->resumed_from && !resume)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' is there: --resume goes on from it", u->resumed_from);
    if (!rc && u->resumed_from)
        rc = fs_checkpoint_read(u->resumed_from, u->params, &u->optimizer, u->r->sha256, err);
    else if (!rc && u->weights)
        rc = fs_params_load(u->params, u->weights, err);
    else if (!rc)
        fs_params_init(u->params, u->r->seed, u->r->init_std);
    if (!rc)
        fs_trainer_pack(u->trainer);
    return rc;
}

static fs_status tell_plan(const struct run *u, fs_error *err)
{
    const fs_config *c = u->config;
    fs_pretrain_plan plan = { .n_documents = u->documents.n_documents, .n_tokens = u->documents.n_tokens, .n_rows = u->documents.n_rows,
                              .tokens_step = (uint64_t)u->r->rows * u->r->length, .bytes = fs_trainer_bytes(u->trainer),
                              .first_step = u->optimizer.step, .resumed_from = u->resumed_from };
    fs_status rc = FS_OK;

    if (u->shards) {
        plan.n_documents = fs_shards_n_documents(u->shards);
        plan.n_tokens = fs_shards_n_tokens(u->shards);
        rc = fs_pack_rows(u->pack, 0, &plan.n_rows, err);
    }
    for (size_t i = 0; i < u->params->n; i++) {
        const fs_param *p = &u->params->items[i];
        plan.n_parameters += p->n;
        if (strstr(p->name, ".mlp.experts."))
            plan.n_active += p->n / c->n_routed_experts * c->num_experts_per_tok;
        else if (strcmp(p->name, "model.embed_tokens.weight") != 0 || c->tie_word_embeddings)
            plan.n_active += p->n;
    }
    if (!rc && u->events->plan)
        u->events->plan(u->events->ud, &plan);
    return rc;
}

/* ---- the trace ---- */
/* Opens it behind the line of step n; lines of later steps, which a killed run may have written, go. */
static fs_status open_trace(struct run *u, uint64_t n, fs_error *err)
{
    char *path = fs_path_join(u->r->out, "trace.jsonl");
    fs_buf text = { 0 };
    fs_bytes line;
    fs_lines lines;
    size_t keep = 0;
    fs_status rc = path ? FS_OK : fs_fail_memory(err, strlen(u->r->out));

    if (!rc && n && fs_file_exists(path))
        rc = fs_file_read(path, TRACE_BYTES_MAX, &text, err);
    lines = (fs_lines){ .text = fs_buf_bytes(&text) };
    while (!rc && lines.number < n && fs_lines_next(&lines, &line))
        keep = lines.at;
    if (!rc && lines.number < n)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' has %zu lines, the checkpoint is of step %" PRIu64, path, lines.number, n);
    if (!rc)
        rc = fs_file_write_atomic(path, (fs_bytes){ (const uint8_t *)text.data, keep }, err);
    if (!rc) {
        u->trace_fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
        if (u->trace_fd < 0)
            rc = fs_fail_errno(err, errno, "cannot open '%s'", path);
    }
    fs_buf_done(&text);
    free(path);
    return rc;
}

/* Floats as hexadecimal: equal text is equal bits. */
static fs_status put_trace(struct run *u, const fs_pretrain_step *s, fs_error *err)
{
    fs_buf line = { 0 };
    fs_status rc = fs_buf_printf(&line, err, "{\"step\":%" PRIu64 ",\"loss\":\"%a\",\"mtp\":\"%a\",\"balance\":\"%a\",\"grad_norm\":\"%a\",\"lr\":\"%a\"}\n",
                                 s->step, s->loss.loss, s->loss.mtp, s->loss.balance, (double)s->grad_norm, s->lr);

    if (!rc && write(u->trace_fd, line.data, line.n_bytes) != (ssize_t)line.n_bytes)
        rc = fs_fail_errno(err, errno, "cannot write the trace");
    fs_buf_done(&line);
    return rc;
}

static fs_status write_checkpoint(struct run *u, fs_error *err)
{
    fs_status rc = fsync(u->trace_fd) == 0 ? FS_OK : fs_fail_errno(err, errno, "cannot sync the trace");

    if (!rc)
        rc = fs_checkpoint_write(u->r->out, u->config, u->params, &u->optimizer, u->r->sha256, u->tokenizer_folder, err);
    if (!rc && u->events->checkpoint)
        u->events->checkpoint(u->events->ud, u->optimizer.step);
    return rc;
}

/* ---- steps ---- */
static void count(const fs_train_sequence *s, uint32_t n, fs_train_totals *to)
{
    to->n_sequences += n;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < s[i].n; j++) {
            to->n_targets += s[i].targets[j] >= 0;
            to->n_mtp_targets += s[i].targets[j] >= 0 && j + 1 < s[i].n && s[i].targets[j + 1] >= 0;
        }
}

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
            count(u->sequences, n, &totals);
    }
    fs_trainer_begin(u->trainer, &totals);
    for (uint32_t row = 0; row < r->rows && !rc; row += r->micro_rows) {
        rc = rows_of(u, step, row, &n, err);
        if (!rc && n)
            rc = fs_trainer_run(u->trainer, u->sequences, n, err);
        if (rc)
            fs_fail_prefix(err, "step %" PRIu64 ", rows %" PRIu32 " on", step + 1, row);
    }
    if (!rc)
        fs_trainer_end(u->trainer, ret);
    return rc;
}

static fs_status one_step(struct run *u, fs_pretrain_step *s, fs_error *err)
{
    uint64_t i = u->optimizer.step;
    double start = fs_seconds_now();
    fs_status rc;

    *s = (fs_pretrain_step){ .step = i + 1, .steps = u->r->steps, .lr = fs_schedule_at(&u->r->schedule, i) };
    rc = gradients(u, i, &s->loss, err);
    if (rc)
        return rc;
    s->grad_norm = fs_params_grad_norm(u->kernels, u->params);
    if (!isfinite(s->grad_norm)) {
        rc = fs_params_check(u->kernels, u->params, err);
        if (!rc)
            rc = fs_fail(err, FS_ERR_NUMERIC, "the gradient's norm is %g", (double)s->grad_norm);
        return fs_fail_prefix(err, "step %" PRIu64, i + 1);
    }
    fs_optimizer_step(&u->optimizer, u->params, u->pool, u->kernels, s->grad_norm, s->lr);
    if (u->r->bias_rate > 0)
        fs_trainer_move_biases(u->trainer, u->r->bias_rate);
    fs_trainer_pack(u->trainer);
    s->seconds = fs_seconds_now() - start;
    return put_trace(u, s, err);
}

static fs_status steps(struct run *u, fs_error *err)
{
    fs_status rc = open_trace(u, u->optimizer.step, err);

    while (!rc && u->optimizer.step < u->r->steps) {
        fs_pretrain_step s;
        bool go_on;
        rc = one_step(u, &s, err);
        if (rc)
            break;
        go_on = !u->events->step || u->events->step(u->events->ud, &s);
        if (!go_on || s.step == u->r->steps || (u->r->checkpoint_every && s.step % u->r->checkpoint_every == 0))
            rc = write_checkpoint(u, err);
        if (!rc && !go_on)
            rc = fs_fail(err, FS_ERR_INTERRUPTED, "stopped after step %" PRIu64 "; --resume goes on", s.step);
    }
    return rc;
}

fs_status fs_pretrain(const fs_recipe *r, fs_pool *pool, const fs_kernels *kernels, bool resume, bool dry_run, const fs_pretrain_events *events,
                      fs_error *err)
{
    struct run u = { .r = r, .pool = pool, .kernels = kernels, .events = events, .optimizer = r->optimizer, .trace_fd = -1 };
    fs_status rc = open_model(&u, err);

    if (!rc)
        rc = read_data(&u, err);
    if (!rc)
        rc = make_trainer(&u, err);
    if (!rc && !dry_run)
        rc = fill(&u, resume, err);
    if (!rc)
        rc = tell_plan(&u, err);
    if (!rc && !dry_run)
        rc = steps(&u, err);
    if (u.trace_fd >= 0)
        close(u.trace_fd);
    free(u.resumed_from);
    free(u.sequences);
    fs_trainer_free(u.trainer);
    fs_documents_done(&u.documents);
    free(u.row_ids);
    free(u.row_targets);
    free(u.row_pieces);
    fs_pack_free(u.pack);
    fs_shards_close(u.shards);
    fs_tokenizer_close(u.tokenizer);
    free(u.tokenizer_folder);
    fs_weights_close(u.weights);
    fs_config_done(&u.own_config);
    return rc;
}
