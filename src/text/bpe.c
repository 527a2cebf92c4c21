/* See the header. */
#include "text/bpe.h"

#include <stdlib.h>
#include <string.h>

#define SHORT_SYMBOLS 48

struct fs_bpe_symbol {
    int32_t id; /* -1: merged into the one before */
    int32_t prev, next;
};

struct fs_bpe_candidate {
    uint32_t rank, merged;
    int32_t left; /* index of the left symbol */
};

void fs_bpe_scratch_done(fs_bpe_scratch *s)
{
    if (!s)
        return;
    free(s->symbols);
    free(s->heap);
    *s = (fs_bpe_scratch){ 0 };
}

/* The symbols a piece starts with: a token a byte. Returns how many; ret_ids has room for piece.n_bytes. */
static size_t start_ids(const fs_vocab *v, const fs_bpe_options *o, fs_bytes piece, int32_t *ret_ids)
{
    size_t n = 0;
    bool after_unk = false;

    for (size_t i = 0; i < piece.n_bytes; i++) {
        int32_t id = v->byte_id[piece.data[i]];
        bool unk = id < 0;
        if (unk) {
            if (o->unk_id < 0 || (after_unk && o->fuse_unk))
                continue;
            id = o->unk_id;
        }
        after_unk = unk;
        ret_ids[n++] = id;
    }
    return n;
}

static fs_status encode_short(const fs_vocab *v, int32_t *id, size_t n, fs_ids *ids, fs_error *err)
{
    uint32_t rank[SHORT_SYMBOLS], merged[SHORT_SYMBOLS];

#define LOOK(i)                                                                                  \
    do {                                                                                         \
        const fs_merge *m_ = fs_vocab_merge(v, (uint32_t)id[i], (uint32_t)id[(i) + 1]);          \
        rank[i] = m_ ? m_->rank : UINT32_MAX;                                                    \
        merged[i] = m_ ? m_->merged : 0;                                                         \
    } while (0)
    for (size_t i = 0; i + 1 < n; i++)
        LOOK(i);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == UINT32_MAX)
            break;
        id[best] = (int32_t)merged[best];
        memmove(id + best + 1, id + best + 2, (n - best - 2) * sizeof *id);
        if (best + 2 < n) {
            memmove(rank + best, rank + best + 1, (n - best - 2) * sizeof *rank);
            memmove(merged + best, merged + best + 1, (n - best - 2) * sizeof *merged);
        }
        n--;
        if (best + 1 < n)
            LOOK(best);
        if (best > 0)
            LOOK(best - 1);
    }
#undef LOOK
    return fs_ids_append(ids, id, n, err);
}

static bool before(struct fs_bpe_candidate a, struct fs_bpe_candidate b)
{
    return a.rank < b.rank || (a.rank == b.rank && a.left < b.left);
}

static void sift_up(struct fs_bpe_candidate *heap, size_t i)
{
    struct fs_bpe_candidate c = heap[i];

    while (i > 0 && before(c, heap[(i - 1) / 2])) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = c;
}

static void sift_down(struct fs_bpe_candidate *heap, size_t n, size_t i)
{
    struct fs_bpe_candidate c = heap[i];

    for (;;) {
        size_t k = 2 * i + 1;
        if (k >= n)
            break;
        if (k + 1 < n && before(heap[k + 1], heap[k]))
            k++;
        if (!before(heap[k], c))
            break;
        heap[i] = heap[k];
        i = k;
    }
    heap[i] = c;
}

static fs_status reserve(fs_bpe_scratch *s, size_t n, fs_error *err)
{
    size_t heap_n, bytes;
    void *p;

    if (n > s->n_symbols) {
        if (!fs_mul_size(n, sizeof *s->symbols, &bytes) || !(p = realloc(s->symbols, bytes)))
            return fs_fail_memory(err, n);
        s->symbols = p;
        s->n_symbols = n;
    }
    /* At most one candidate a pair at the start and two more a merge, of which each removes its own. */
    if (!fs_mul_size(n, 2, &heap_n))
        return fs_fail_memory(err, n);
    if (heap_n > s->heap_capacity) {
        if (!fs_mul_size(heap_n, sizeof *s->heap, &bytes) || !(p = realloc(s->heap, bytes)))
            return fs_fail_memory(err, heap_n);
        s->heap = p;
        s->heap_capacity = heap_n;
    }
    return FS_OK;
}

static size_t offer(const fs_vocab *v, fs_bpe_scratch *s, size_t n_heap, int32_t left)
{
    struct fs_bpe_symbol *y = s->symbols;
    const fs_merge *m;

    if (left < 0 || y[left].next < 0)
        return n_heap;
    m = fs_vocab_merge(v, (uint32_t)y[left].id, (uint32_t)y[y[left].next].id);
    if (!m)
        return n_heap;
    s->heap[n_heap] = (struct fs_bpe_candidate){ m->rank, m->merged, left };
    sift_up(s->heap, n_heap);
    return n_heap + 1;
}

/* s->symbols holds n >= 2 ids in order. */
static fs_status encode_long(const fs_vocab *v, fs_bpe_scratch *s, size_t n, fs_ids *ids, fs_error *err)
{
    struct fs_bpe_symbol *y = s->symbols;
    size_t n_heap = 0;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < n; i++) {
        y[i].prev = (int32_t)i - 1;
        y[i].next = i + 1 < n ? (int32_t)i + 1 : -1;
    }
    for (size_t i = 0; i + 1 < n; i++)
        n_heap = offer(v, s, n_heap, (int32_t)i);
    while (n_heap > 0) {
        struct fs_bpe_candidate c = s->heap[0];
        struct fs_bpe_symbol *l = &y[c.left], *r;
        const fs_merge *m;

        s->heap[0] = s->heap[--n_heap];
        if (n_heap)
            sift_down(s->heap, n_heap, 0);
        if (l->id < 0 || l->next < 0)
            continue;
        r = &y[l->next];
        /* The pair may have changed since; then it has its own candidate. */
        m = fs_vocab_merge(v, (uint32_t)l->id, (uint32_t)r->id);
        if (!m || m->merged != c.merged || m->rank != c.rank)
            continue;
        l->id = (int32_t)c.merged;
        r->id = -1;
        l->next = r->next;
        if (r->next >= 0)
            y[r->next].prev = c.left;
        n_heap = offer(v, s, n_heap, l->prev);
        n_heap = offer(v, s, n_heap, c.left);
    }
    for (int32_t i = 0; i >= 0 && !rc; i = y[i].next)
        rc = fs_ids_push(ids, y[i].id, err);
    return rc;
}

fs_status fs_bpe_encode(const fs_vocab *v, const fs_bpe_options *o, fs_bytes piece, fs_bpe_scratch *s, fs_ids *ids, fs_error *err)
{
    int32_t id[SHORT_SYMBOLS], *start;
    size_t n;
    fs_status rc;

    if (piece.n_bytes <= SHORT_SYMBOLS)
        return encode_short(v, id, start_ids(v, o, piece, id), ids, err);
    if (piece.n_bytes > INT32_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "a piece of text has %zu bytes, at most %d are merged", piece.n_bytes, INT32_MAX);
    rc = reserve(s, piece.n_bytes, err);
    if (rc)
        return rc;
    /* The ids are made in the heap's memory, which is larger, and moved. */
    start = (int32_t *)(void *)s->heap;
    n = start_ids(v, o, piece, start);
    if (n < 2)
        return fs_ids_append(ids, start, n, err);
    for (size_t i = 0; i < n; i++)
        s->symbols[i].id = start[i];
    return encode_long(v, s, n, ids, err);
}
