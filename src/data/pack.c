/* See the header. The order of one epoch is kept, with where its rows begin; another epoch's takes its place. */
#include "data/pack.h"

#include "base/philox.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define STREAM     0x7061636bu /* "pack" */
#define EPOCHS_MAX 1000000

struct fs_pack {
    const fs_shards *s;
    uint64_t seed;
    uint32_t length;
    fs_pack_mode mode;
    uint64_t epoch, n_rows; /* of what is kept */
    bool kept;
    uint32_t *order;   /* [n_documents] */
    uint64_t *begin;   /* cut: [n_documents + 1] where each begins in the epoch's tokens; whole: [n_documents + 1] the row of each */
    uint64_t *rows_before; /* [n_epochs] rows of all epochs before */
    size_t n_epochs, epochs_capacity;
};

fs_status fs_pack_new(const fs_shards *s, uint64_t seed, uint32_t length, fs_pack_mode mode, fs_pack **ret, fs_error *err)
{
    size_t n = fs_shards_n_documents(s);
    fs_pack *p;

    if (length < 2 || length > 1 << 30 || n > UINT32_MAX - 1)
        return fs_fail(err, FS_ERR_ARGUMENT, "rows of %" PRIu32 " tokens of %zu documents", length, n);
    p = calloc(1, sizeof *p);
    if (!p)
        return fs_fail_memory(err, sizeof *p);
    *p = (fs_pack){ .s = s, .seed = seed, .length = length, .mode = mode };
    p->order = malloc((n + 1) * sizeof *p->order);
    p->begin = malloc((n + 1) * sizeof *p->begin);
    if (!p->order || !p->begin) {
        fs_pack_free(p);
        return fs_fail_memory(err, n * (sizeof *p->order + sizeof *p->begin));
    }
    *ret = p;
    return FS_OK;
}

void fs_pack_free(fs_pack *p)
{
    if (!p)
        return;
    free(p->order);
    free(p->begin);
    free(p->rows_before);
    free(p);
}

static size_t document(const fs_pack *p, size_t i, const int32_t **ret_ids, const uint8_t **ret_learn)
{
    size_t n = fs_shards_document(p->s, p->order[i], ret_ids, ret_learn);

    return p->mode == FS_PACK_WHOLE && n > p->length ? p->length : n;
}

static void lay_out(fs_pack *p, uint64_t epoch)
{
    size_t n = fs_shards_n_documents(p->s), used = 0;
    uint64_t at = 0;
    const int32_t *ids;
    fs_random r;

    if (p->kept && p->epoch == epoch)
        return;
    fs_random_init(&r, p->seed, STREAM, epoch);
    fs_random_order(&r, p->order, n);
    for (size_t i = 0; i < n; i++) {
        size_t n_tokens = document(p, i, &ids, NULL);
        if (p->mode == FS_PACK_CUT) {
            p->begin[i] = at;
            at += n_tokens;
        } else {
            at += used && used + n_tokens > p->length;
            used = used + n_tokens > p->length ? n_tokens : used + n_tokens;
            p->begin[i] = at;
        }
    }
    p->begin[n] = p->mode == FS_PACK_CUT ? at : at + 1;
    p->n_rows = p->mode == FS_PACK_CUT ? at / p->length : n ? at + 1 : 0;
    p->epoch = epoch;
    p->kept = true;
}

fs_status fs_pack_rows(fs_pack *p, uint64_t epoch, uint64_t *ret, fs_error *err)
{
    lay_out(p, epoch);
    if (p->n_rows == 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "%" PRIu64 " tokens fill no row of %" PRIu32, fs_shards_n_tokens(p->s), p->length);
    *ret = p->n_rows;
    return FS_OK;
}

/* The epoch of row k; *ret_k is its row there. Every epoch has as many rows when documents are cut. */
static fs_status find_epoch(fs_pack *p, uint64_t k, uint64_t *ret_epoch, uint64_t *ret_k, fs_error *err)
{
    uint64_t n = 0;
    fs_status rc;

    if (p->mode == FS_PACK_CUT) {
        rc = fs_pack_rows(p, p->kept ? p->epoch : 0, &n, err);
        if (rc)
            return rc;
        *ret_epoch = k / n;
        *ret_k = k % n;
        return FS_OK;
    }
    while (p->n_epochs == 0 || p->rows_before[p->n_epochs - 1] <= k) {
        if (p->n_epochs + 1 >= p->epochs_capacity) {
            size_t capacity = p->epochs_capacity ? p->epochs_capacity * 2 : 16;
            uint64_t *rows = realloc(p->rows_before, capacity * sizeof *rows);
            if (!rows)
                return fs_fail_memory(err, capacity * sizeof *rows);
            p->rows_before = rows;
            p->epochs_capacity = capacity;
        }
        if (p->n_epochs == 0) {
            p->rows_before[p->n_epochs++] = 0;
            continue;
        }
        if (p->n_epochs > EPOCHS_MAX)
            return fs_fail(err, FS_ERR_ARGUMENT, "row %" PRIu64 " is behind %d epochs", k, EPOCHS_MAX);
        rc = fs_pack_rows(p, p->n_epochs - 1, &n, err);
        if (rc)
            return rc;
        p->rows_before[p->n_epochs] = p->rows_before[p->n_epochs - 1] + n;
        p->n_epochs++;
    }
    for (size_t e = p->n_epochs - 1; e-- > 0;)
        if (p->rows_before[e] <= k) {
            *ret_epoch = e;
            *ret_k = k - p->rows_before[e];
            break;
        }
    return FS_OK;
}

/* The last i with begin[i] <= at (cut), the first with begin[i] == at (whole). */
static size_t first_document(const fs_pack *p, uint64_t at)
{
    size_t low = 0, high = fs_shards_n_documents(p->s);

    while (low < high) {
        size_t mid = (low + high) / 2;
        if (p->mode == FS_PACK_CUT ? p->begin[mid + 1] <= at : p->begin[mid] < at)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void put_piece(const int32_t *ids, const uint8_t *learn, size_t from, size_t n, size_t n_document, int32_t *ret_ids, int32_t *ret_targets)
{
    memcpy(ret_ids, ids + from, n * sizeof *ids);
    for (size_t i = 0; i < n; i++) {
        size_t next = from + i + 1;
        ret_targets[i] = next < n_document && learn[next] ? ids[next] : -1;
    }
}

fs_status fs_pack_row(fs_pack *p, uint64_t k, int32_t *ret_ids, int32_t *ret_targets, fs_pack_piece *ret_pieces, uint32_t *ret_n_pieces,
                      uint64_t *ret_epoch, fs_error *err)
{
    uint64_t epoch = 0, row = 0, skip = 0;
    uint32_t n_pieces = 0, at = 0;
    fs_status rc = find_epoch(p, k, &epoch, &row, err);
    size_t i, n_documents = fs_shards_n_documents(p->s);

    if (rc)
        return rc;
    lay_out(p, epoch);
    i = first_document(p, p->mode == FS_PACK_CUT ? row * p->length : row);
    if (p->mode == FS_PACK_CUT)
        skip = row * p->length - p->begin[i];
    for (; at < p->length && i < n_documents && (p->mode == FS_PACK_CUT || p->begin[i] == row); i++) {
        const int32_t *ids;
        const uint8_t *learn;
        size_t n_document = document(p, i, &ids, &learn), n = n_document - (size_t)skip;
        n = n < p->length - at ? n : p->length - at;
        put_piece(ids, learn, (size_t)skip, n, n_document, ret_ids + at, ret_targets + at);
        ret_pieces[n_pieces++] = (fs_pack_piece){ at, (uint32_t)n };
        at += (uint32_t)n;
        skip = 0;
    }
    for (; at < p->length; at++) {
        ret_ids[at] = 0;
        ret_targets[at] = -1;
    }
    *ret_n_pieces = n_pieces;
    if (ret_epoch)
        *ret_epoch = epoch;
    return FS_OK;
}
