/* See the header. */
#include "train/feed.h"

#include "base/file.h"
#include "base/json.h"
#include "data/pack.h"
#include "data/records.h"
#include "train/documents.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct fs_feed {
    uint32_t length, rows_max;
    fs_feed_counts counts;
    fs_documents documents; /* of texts and ids */
    fs_shards *shards;      /* or these */
    fs_pack *pack;
    int32_t *ids, *targets; /* [rows_max, length] of shards */
    fs_pack_piece *pieces;  /* [length] */
};

struct reading {
    fs_feed *f;
    const fs_feed_options *o;
    const fs_config *c;
    const fs_tokenizer *tokenizer;
};

/* ---- texts and ids ---- */
static fs_status add_ids_line(struct reading *u, fs_bytes line, const char *path, size_t number, fs_ids *ids, fs_error *err)
{
    struct json_object *json = NULL, *list;
    fs_status rc = fs_json_parse(line, path, &json, err);

    list = rc ? NULL : fs_json_member(json, "ids");
    if (!rc && (!list || !json_object_is_type(list, json_type_array)))
        rc = fs_fail(err, FS_ERR_FORMAT, "%s: line %zu has no \"ids\"", path, number);
    for (size_t i = 0; !rc && i < json_object_array_length(list); i++) {
        struct json_object *id = json_object_array_get_idx(list, i);
        int64_t v = id && json_object_is_type(id, json_type_int) ? json_object_get_int64(id) : -1;
        if (v < 0 || v >= (int64_t)u->c->vocab_size)
            rc = fs_fail(err, FS_ERR_FORMAT, "%s: line %zu holds something that is no id under %" PRIu32, path, number, u->c->vocab_size);
        else
            rc = fs_ids_push(ids, (int32_t)v, err);
    }
    json_object_put(json);
    return rc;
}

static fs_status check_ids(const struct reading *u, const fs_ids *ids, const char *path, size_t number, fs_error *err)
{
    for (size_t i = 0; i < ids->n; i++)
        if ((uint32_t)ids->data[i] >= u->c->vocab_size)
            return fs_fail(err, FS_ERR_FORMAT, "%s: line %zu makes token %" PRId32 ", the model's vocabulary is %" PRIu32, path, number, ids->data[i],
                           u->c->vocab_size);
    return FS_OK;
}

/* The next document's ids, empty for a blank line. */
static fs_status next_document(struct reading *u, fs_lines *lines, const char *path, fs_buf *words, fs_ids *ids, bool *ret_more, fs_error *err)
{
    fs_bytes line;
    fs_data_record record;
    fs_status rc;

    ids->n = 0;
    if (u->o->kind == FS_RECIPE_IDS) {
        *ret_more = fs_lines_next(lines, &line);
        return *ret_more && line.n_bytes ? add_ids_line(u, line, path, lines->number, ids, err) : FS_OK;
    }
    rc = fs_data_record_next(lines, path, &record, ret_more, err);
    if (rc || !*ret_more)
        return rc;
    fs_buf_clear(words);
    rc = fs_data_record_words(&record, words, err);
    if (!rc)
        rc = fs_tokenizer_encode(u->tokenizer, fs_buf_bytes(words), 0, ids, err);
    return rc ? rc : check_ids(u, ids, path, lines->number, err);
}

static fs_status read_file(struct reading *u, const char *path, fs_error *err)
{
    int32_t end = u->c->n_eos_token_ids ? u->c->eos_token_ids[0] : -1;
    fs_map map = { 0 };
    fs_buf words = { 0 };
    fs_ids ids = { 0 };
    bool more = true;
    fs_status rc = fs_map_open(&map, path, err);
    fs_lines lines = { .text = map.bytes };

    if (!rc && (end < -1 || end >= (int32_t)u->c->vocab_size))
        rc = fs_fail(err, FS_ERR_FORMAT, "eos_token_id %" PRId32 " is outside the vocabulary of %" PRIu32, end, u->c->vocab_size);
    while (!rc && more) {
        rc = next_document(u, &lines, path, &words, &ids, &more, err);
        if (!rc && more)
            rc = fs_documents_add(&u->f->documents, ids.data, ids.n, end, err);
    }
    fs_map_close(&map);
    fs_buf_done(&words);
    fs_ids_done(&ids);
    return rc;
}

static fs_status read_files(struct reading *u, fs_error *err)
{
    fs_feed *f = u->f;
    fs_status rc = FS_OK;

    for (int i = 0; i < u->o->n_files && !rc; i++)
        rc = read_file(u, u->o->files[i], err);
    if (!rc)
        rc = fs_documents_finish(&f->documents, f->length, u->o->seed, err);
    f->counts = (fs_feed_counts){ f->documents.n_documents, f->documents.n_tokens, f->documents.n_rows, f->documents.pieces_max };
    return rc;
}

/* ---- shards ---- */
/* The rows are gone through once, for the most pieces of any. */
static fs_status count_pieces(struct reading *u, fs_error *err)
{
    fs_feed *f = u->f;
    uint64_t n_rows = u->o->n_rows;
    fs_status rc = fs_pack_rows(f->pack, 0, &f->counts.n_rows, err);

    if (!rc && n_rows == 0)
        n_rows = f->counts.n_rows;
    for (uint64_t k = 0; k < n_rows && !rc; k++) {
        uint32_t n = 0;
        rc = fs_pack_row(f->pack, k, f->ids, f->targets, f->pieces, &n, NULL, err);
        f->counts.pieces_max = n > f->counts.pieces_max ? n : f->counts.pieces_max;
    }
    return rc;
}

static fs_status open_shards(struct reading *u, fs_error *err)
{
    fs_feed *f = u->f;
    size_t n = (size_t)f->rows_max * f->length;
    fs_status rc = fs_shards_open(u->o->files[0], &f->shards, err);

    if (!rc && fs_shards_vocab_size(f->shards) > u->c->vocab_size)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' has a vocabulary of %zu, the model's is %" PRIu32, u->o->files[0], fs_shards_vocab_size(f->shards),
                     u->c->vocab_size);
    if (!rc && u->tokenizer)
        rc = fs_shards_check_tokenizer(f->shards, u->tokenizer, err);
    if (!rc)
        rc = fs_pack_new(f->shards, u->o->seed, f->length, u->o->whole ? FS_PACK_WHOLE : FS_PACK_CUT, &f->pack, err);
    if (rc)
        return rc;
    f->counts.n_documents = fs_shards_n_documents(f->shards);
    f->counts.n_tokens = fs_shards_n_tokens(f->shards);
    f->ids = malloc(n * sizeof *f->ids);
    f->targets = malloc(n * sizeof *f->targets);
    f->pieces = malloc(f->length * sizeof *f->pieces);
    if (!f->ids || !f->targets || !f->pieces)
        return fs_fail_memory(err, n * sizeof *f->ids);
    return count_pieces(u, err);
}

/* Row number, the at-th of those asked for; adds its sequences at *n. */
static fs_status shard_row(fs_feed *f, uint64_t number, uint32_t at, uint64_t index, fs_train_sequence *ret, uint32_t *n, fs_error *err)
{
    int32_t *ids = f->ids + (size_t)at * f->length, *targets = f->targets + (size_t)at * f->length;
    uint32_t n_pieces = 0;
    fs_status rc = fs_pack_row(f->pack, number, ids, targets, f->pieces, &n_pieces, NULL, err);

    for (uint32_t i = 0; i < n_pieces && !rc; i++) {
        const fs_pack_piece *p = &f->pieces[i];
        ret[(*n)++] = (fs_train_sequence){ .ids = ids + p->begin, .targets = targets + p->begin, .n = p->n, .index = index + p->begin };
    }
    return rc;
}

/* ---- both ---- */
fs_status fs_feed_open(const fs_feed_options *o, const fs_config *c, const fs_tokenizer *tokenizer, fs_feed **ret, fs_error *err)
{
    fs_feed *f = calloc(1, sizeof *f);
    struct reading u = { f, o, c, tokenizer };
    fs_status rc;

    if (!f)
        return fs_fail_memory(err, sizeof *f);
    f->length = o->length;
    f->rows_max = o->rows_max;
    rc = o->kind == FS_RECIPE_SHARDS ? open_shards(&u, err) : read_files(&u, err);
    if (rc) {
        fs_feed_close(f);
        return rc;
    }
    *ret = f;
    return FS_OK;
}

void fs_feed_close(fs_feed *f)
{
    if (!f)
        return;
    free(f->ids);
    free(f->targets);
    free(f->pieces);
    fs_pack_free(f->pack);
    fs_shards_close(f->shards);
    fs_documents_done(&f->documents);
    free(f);
}

fs_feed_counts fs_feed_count(const fs_feed *f)
{
    return f->counts;
}

fs_status fs_feed_rows(fs_feed *f, uint64_t number, uint32_t n, uint64_t index, fs_train_sequence *ret, uint32_t *ret_n, fs_error *err)
{
    uint32_t count = 0;
    fs_status rc = FS_OK;

    for (uint32_t i = 0; i < n && !rc; i++) {
        if (f->shards)
            rc = shard_row(f, number + i, i, index + (uint64_t)i * f->length, ret, &count, err);
        else
            count += fs_documents_row(&f->documents, number + i, index + (uint64_t)i * f->length, ret + count);
    }
    *ret_n = count;
    return rc;
}
