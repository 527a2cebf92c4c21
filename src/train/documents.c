/* See the header. */
#include "train/documents.h"

#include "base/philox.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define STREAM_ORDER 2

void fs_documents_done(fs_documents *c)
{
    free(c->ids);
    free(c->targets);
    free(c->pieces);
    free(c->first_piece);
    free(c->order);
    *c = (fs_documents){ 0 };
}

static fs_status reserve(fs_documents *c, size_t more, fs_error *err)
{
    size_t need, capacity = c->capacity ? c->capacity : 4096;
    int32_t *ids, *targets;

    if (!fs_add_size(c->n_tokens, more, &need) || need > SIZE_MAX / 16)
        return fs_fail(err, FS_ERR_MEMORY, "the documents would not fit in the address space");
    if (need <= c->capacity)
        return FS_OK;
    while (capacity < need)
        capacity *= 2;
    ids = realloc(c->ids, capacity * sizeof *ids);
    if (ids)
        c->ids = ids;
    targets = ids ? realloc(c->targets, capacity * sizeof *targets) : NULL;
    if (!targets)
        return fs_fail_memory(err, capacity * sizeof *ids);
    c->targets = targets;
    c->capacity = capacity;
    return FS_OK;
}

fs_status fs_documents_add(fs_documents *c, const int32_t *ids, size_t n, int32_t end, fs_error *err)
{
    fs_status rc;

    assert(!c->length);
    if (n == 0)
        return FS_OK;
    rc = reserve(c, n + 1, err);
    if (rc)
        return rc;
    memcpy(c->ids + c->n_tokens, ids, n * sizeof *ids);
    memcpy(c->targets + c->n_tokens, ids + 1, (n - 1) * sizeof *ids);
    c->n_tokens += n;
    c->targets[c->n_tokens - 1] = end;
    if (end >= 0) {
        c->ids[c->n_tokens] = end;
        c->targets[c->n_tokens++] = -1;
    }
    c->n_documents++;
    return FS_OK;
}

/* The pieces of all rows; counted only while c->pieces is NULL. A document ends where no target is. */
static size_t cut(fs_documents *c)
{
    size_t n = 0;

    for (size_t row = 0; row < c->n_rows; row++) {
        size_t first = n;
        if (c->pieces)
            c->first_piece[row] = n;
        for (uint32_t at = 0, begin = 0; at < c->length; at++) {
            size_t token = row * c->length + at;
            if (c->targets[token] >= 0 && at + 1 < c->length)
                continue;
            if (c->pieces)
                c->pieces[n] = (fs_documents_piece){ token - (at - begin), at + 1 - begin, begin };
            n++;
            begin = at + 1;
        }
        if (n - first > c->pieces_max)
            c->pieces_max = (uint32_t)(n - first);
    }
    return n;
}

fs_status fs_documents_finish(fs_documents *c, uint32_t length, uint64_t seed, fs_error *err)
{
    size_t n;

    assert(length && length % FS_TRAIN_ROW_MULTIPLE == 0);
    c->length = length;
    c->seed = seed;
    c->n_rows = c->n_tokens / length;
    if (c->n_rows == 0 || c->n_rows > UINT32_MAX)
        return fs_fail(err, FS_ERR_ARGUMENT, "%zu tokens make %zu rows of %" PRIu32 ", of which there must be 1 to %" PRIu32, c->n_tokens, c->n_rows,
                       length, UINT32_MAX);
    n = cut(c);
    c->pieces = malloc(n * sizeof *c->pieces);
    c->first_piece = malloc((c->n_rows + 1) * sizeof *c->first_piece);
    c->order = malloc(c->n_rows * sizeof *c->order);
    if (!c->pieces || !c->first_piece || !c->order)
        return fs_fail_memory(err, n * sizeof *c->pieces);
    c->first_piece[c->n_rows] = cut(c);
    c->epoch = UINT64_MAX;
    return FS_OK;
}

static void draw_order(fs_documents *c, uint64_t epoch)
{
    fs_random r;

    fs_random_init(&r, c->seed, STREAM_ORDER, epoch);
    fs_random_order(&r, c->order, c->n_rows);
    c->epoch = epoch;
}

uint32_t fs_documents_row(fs_documents *c, uint64_t number, uint64_t index, fs_train_sequence *ret)
{
    size_t row;
    uint32_t n = 0;

    if (number / c->n_rows != c->epoch)
        draw_order(c, number / c->n_rows);
    row = c->order[number % c->n_rows];
    for (size_t i = c->first_piece[row]; i < c->first_piece[row + 1]; i++) {
        const fs_documents_piece *p = &c->pieces[i];
        ret[n++] = (fs_train_sequence){ .ids = c->ids + p->at, .targets = c->targets + p->at, .n = p->n, .index = index + p->row_at };
    }
    return n;
}
