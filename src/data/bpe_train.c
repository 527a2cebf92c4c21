/* See the header. */
#include "data/bpe_train.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NO_LIST UINT32_MAX

/* Words by index, of one candidate. */
typedef struct list {
    uint32_t *words;
    uint32_t n, capacity;
} list;

typedef struct pair {
    uint32_t left, right;
    int64_t count;
    uint32_t merge;   /* its place among the merges + 1 */
    uint32_t pending; /* the list of the candidate that is being put together; NO_LIST: none */
} pair;

typedef struct candidate {
    int64_t count; /* of the pair when it was put here */
    uint32_t pair, list;
} candidate;

typedef struct trainer {
    const fs_bpe_training *o;
    fs_vocab *v;
    uint32_t *symbols; /* of all words */
    size_t *begin;     /* [n_words + 1] into symbols */
    uint32_t *length;  /* [n_words] symbols left */
    int64_t *count;    /* [n_words] */
    size_t n_words;
    pair *pairs;
    size_t n_pairs, pairs_capacity;
    uint32_t *slots; /* of pairs, index + 1 */
    size_t n_slots;
    list *lists;
    size_t n_lists, lists_capacity;
    uint32_t *touched; /* pairs with a pending list */
    size_t n_touched, touched_capacity;
    candidate *heap;
    size_t n_heap, heap_capacity;
    uint32_t *superseded; /* merges whose pair was merged again */
    size_t n_superseded, superseded_capacity;
} trainer;

/* Room for one more item. */
static fs_status more(void *items, size_t *capacity, size_t n, size_t item_bytes, fs_error *err)
{
    void **p = items;
    size_t wanted = *capacity ? *capacity * 2 : 256, n_bytes;
    void *larger;

    if (n < *capacity)
        return FS_OK;
    if (!fs_mul_size(wanted, item_bytes, &n_bytes) || !(larger = realloc(*p, n_bytes)))
        return fs_fail_memory(err, wanted * item_bytes);
    *p = larger;
    *capacity = wanted;
    return FS_OK;
}
#define MORE(t, items, n) more(&(t)->items, &(t)->items##_capacity, (t)->n, sizeof *(t)->items, err)

/* ---- pairs ---- */

static fs_status pair_slots(trainer *t, fs_error *err)
{
    size_t n_slots = t->n_slots ? t->n_slots * 2 : 4096;
    uint32_t *slots = calloc(n_slots, sizeof *slots);

    if (!slots)
        return fs_fail_memory(err, n_slots * sizeof *slots);
    free(t->slots);
    t->slots = slots;
    t->n_slots = n_slots;
    for (size_t i = 0; i < t->n_pairs; i++) {
        size_t s = fs_merge_hash(t->pairs[i].left, t->pairs[i].right) & (n_slots - 1);
        while (slots[s])
            s = (s + 1) & (n_slots - 1);
        slots[s] = (uint32_t)i + 1;
    }
    return FS_OK;
}

static fs_status pair_of(trainer *t, uint32_t left, uint32_t right, uint32_t *ret, fs_error *err)
{
    size_t s;
    fs_status rc;

    if (t->n_pairs * 2 >= t->n_slots && (rc = pair_slots(t, err)))
        return rc;
    for (s = fs_merge_hash(left, right) & (t->n_slots - 1); t->slots[s]; s = (s + 1) & (t->n_slots - 1)) {
        const pair *p = &t->pairs[t->slots[s] - 1];
        if (p->left == left && p->right == right) {
            *ret = t->slots[s] - 1;
            return FS_OK;
        }
    }
    if ((rc = MORE(t, pairs, n_pairs)))
        return rc;
    t->pairs[t->n_pairs] = (pair){ .left = left, .right = right, .pending = NO_LIST };
    *ret = (uint32_t)t->n_pairs++;
    t->slots[s] = (uint32_t)t->n_pairs;
    return FS_OK;
}

/* The pair stands in this word; words come in rising order, so a word is entered once. */
static fs_status note_word(trainer *t, uint32_t p, uint32_t word, fs_error *err)
{
    uint32_t k = t->pairs[p].pending;
    list *l;
    fs_status rc;

    if (k == NO_LIST) {
        if ((rc = MORE(t, touched, n_touched)) || (rc = MORE(t, lists, n_lists)))
            return rc;
        t->touched[t->n_touched++] = p;
        k = t->pairs[p].pending = (uint32_t)t->n_lists++;
        t->lists[k] = (list){ 0 };
    }
    l = &t->lists[k];
    if (l->n && l->words[l->n - 1] == word)
        return FS_OK;
    if (l->n == l->capacity) {
        uint32_t capacity = l->capacity ? l->capacity * 2 : 2;
        uint32_t *words = realloc(l->words, capacity * sizeof *words);
        if (!words)
            return fs_fail_memory(err, capacity * sizeof *words);
        l->words = words;
        l->capacity = capacity;
    }
    l->words[l->n++] = word;
    return FS_OK;
}

static fs_status change(trainer *t, uint32_t left, uint32_t right, int64_t by, uint32_t word, fs_error *err)
{
    uint32_t p;
    fs_status rc = pair_of(t, left, right, &p, err);

    if (rc)
        return rc;
    t->pairs[p].count += by;
    return by > 0 ? note_word(t, p, word, err) : FS_OK;
}

/* ---- the heap of candidates ---- */

static bool before(const trainer *t, candidate a, candidate b)
{
    const pair *p = &t->pairs[a.pair], *q = &t->pairs[b.pair];

    if (a.count != b.count)
        return a.count > b.count;
    if (p->left != q->left)
        return p->left < q->left;
    return p->right != q->right ? p->right < q->right : a.list < b.list;
}

static void sift_down(trainer *t, size_t i)
{
    candidate c = t->heap[i];

    for (;;) {
        size_t k = 2 * i + 1;
        if (k >= t->n_heap)
            break;
        if (k + 1 < t->n_heap && before(t, t->heap[k + 1], t->heap[k]))
            k++;
        if (!before(t, t->heap[k], c))
            break;
        t->heap[i] = t->heap[k];
        i = k;
    }
    t->heap[i] = c;
}

static fs_status push(trainer *t, candidate c, fs_error *err)
{
    fs_status rc = MORE(t, heap, n_heap);
    size_t i = t->n_heap;

    if (rc)
        return rc;
    t->n_heap++;
    for (; i > 0 && before(t, c, t->heap[(i - 1) / 2]); i = (i - 1) / 2)
        t->heap[i] = t->heap[(i - 1) / 2];
    t->heap[i] = c;
    return FS_OK;
}

/* The pending lists become candidates. */
static fs_status push_touched(trainer *t, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < t->n_touched; i++) {
        pair *p = &t->pairs[t->touched[i]];
        if (!rc && p->count > 0)
            rc = push(t, (candidate){ p->count, t->touched[i], p->pending }, err);
        p->pending = NO_LIST;
    }
    t->n_touched = 0;
    return rc;
}

/* ---- words ---- */

static fs_status lay_out(trainer *t, const fs_words *words, const uint32_t byte_id[256], fs_error *err)
{
    size_t n = 0;

    for (size_t i = 0; i < words->n; i++)
        n += words->items[i].n_bytes;
    t->n_words = words->n;
    t->symbols = malloc((n ? n : 1) * sizeof *t->symbols);
    t->begin = malloc((words->n + 1) * sizeof *t->begin);
    t->length = malloc((words->n + 1) * sizeof *t->length);
    t->count = malloc((words->n + 1) * sizeof *t->count);
    if (!t->symbols || !t->begin || !t->length || !t->count)
        return fs_fail_memory(err, n * sizeof *t->symbols);
    n = 0;
    for (size_t i = 0; i < words->n; i++) {
        fs_bytes w = fs_words_bytes(words, i);
        t->begin[i] = n;
        t->length[i] = (uint32_t)w.n_bytes;
        t->count[i] = (int64_t)words->items[i].count;
        for (size_t k = 0; k < w.n_bytes; k++)
            t->symbols[n++] = byte_id[w.data[k]];
    }
    return FS_OK;
}

static fs_status count_pairs(trainer *t, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < t->n_words && !rc; i++) {
        const uint32_t *s = t->symbols + t->begin[i];
        for (uint32_t k = 0; k + 1 < t->length[i] && !rc; k++)
            rc = change(t, s[k], s[k + 1], t->count[i], (uint32_t)i, err);
    }
    return rc ? rc : push_touched(t, err);
}

/* Merges left and right in one word, from the left. The change of a neighbour's pair is looked at when its merge happens, so
 * what stands before is already merged and what stands behind is not. */
static fs_status merge_word(trainer *t, uint32_t word, uint32_t left, uint32_t right, uint32_t merged, fs_error *err)
{
    uint32_t *s = t->symbols + t->begin[word], n = t->length[word], out = 0;
    int64_t count = t->count[word];
    fs_status rc = FS_OK;

    for (uint32_t i = 0; i < n; i++) {
        if (i + 1 >= n || s[i] != left || s[i + 1] != right) {
            s[out++] = s[i];
            continue;
        }
        if (out > 0 && ((rc = change(t, s[out - 1], left, -count, word, err)) || (rc = change(t, s[out - 1], merged, count, word, err))))
            break;
        if (i + 2 < n && ((rc = change(t, right, s[i + 2], -count, word, err)) || (rc = change(t, merged, s[i + 2], count, word, err))))
            break;
        s[out++] = merged;
        i++;
    }
    t->length[word] = out;
    return rc;
}

static fs_status merge_words(trainer *t, const pair *p, list *l, uint32_t merged, fs_error *err)
{
    uint32_t left = p->left, right = p->right; /* pairs may move */
    fs_status rc = FS_OK;

    for (uint32_t i = 0; i < l->n && !rc; i++)
        rc = merge_word(t, l->words[i], left, right, merged, err);
    return rc ? rc : push_touched(t, err);
}

/* ---- tokens ---- */

/* The 256 bytes in the order of their letters. */
static fs_status put_bytes(trainer *t, uint32_t ret_id[256], fs_error *err)
{
    uint32_t id = (uint32_t)t->o->n_specials;
    fs_status rc = FS_OK;

    for (uint32_t code = 0; code < FS_ALPHABET_END && !rc; code++) {
        int b = fs_alphabet_byte(code);
        uint8_t byte = (uint8_t)b;
        if (b < 0)
            continue;
        ret_id[b] = id;
        rc = fs_vocab_set(t->v, id++, (fs_bytes){ &byte, 1 }, FS_VOCAB_BYTES, err);
    }
    return rc;
}

/* The id of what the pair makes, an old token with these bytes or a new one; -1: it may not be made. */
static fs_status token_of(trainer *t, const pair *p, int64_t *ret_id, fs_error *err)
{
    uint8_t bytes[FS_VOCAB_TOKEN_MAX];
    fs_bytes left = fs_vocab_bytes(t->v, (int32_t)p->left), right = fs_vocab_bytes(t->v, (int32_t)p->right);
    fs_bytes both = { bytes, left.n_bytes + right.n_bytes };
    fs_status rc;

    *ret_id = -1;
    if (both.n_bytes > sizeof bytes)
        return FS_OK;
    memcpy(bytes, left.data, left.n_bytes);
    memcpy(bytes + left.n_bytes, right.data, right.n_bytes);
    for (size_t i = 0; i < t->o->n_specials; i++)
        if (fs_bytes_equal(t->o->specials[i], both))
            return FS_OK;
    *ret_id = fs_vocab_find(t->v, both);
    if (*ret_id >= 0)
        return FS_OK;
    rc = fs_vocab_set(t->v, (int64_t)t->v->n_ids, both, FS_VOCAB_BYTES, err);
    *ret_id = (int64_t)t->v->n_ids - 1;
    return rc;
}

static fs_status record_merge(trainer *t, pair *p, uint32_t merged, fs_error *err)
{
    fs_status rc;

    if (p->merge) {
        if ((rc = MORE(t, superseded, n_superseded)))
            return rc;
        t->superseded[t->n_superseded++] = p->merge - 1;
    }
    rc = fs_vocab_push_merge(t->v, (fs_merge){ p->left, p->right, (uint32_t)t->v->n_merges, merged }, err);
    p->merge = (uint32_t)t->v->n_merges;
    return rc;
}

static fs_status merge_all(trainer *t, const fs_progress *progress, fs_error *err)
{
    int64_t least = t->o->min_frequency > 1 ? (int64_t)(t->o->min_frequency < INT64_MAX ? t->o->min_frequency : INT64_MAX) : 1;
    fs_status rc = FS_OK;

    for (size_t n = 0; t->n_heap && t->v->n_ids < t->o->vocab_size && !rc;) {
        candidate c = t->heap[0];
        pair *p = &t->pairs[c.pair];
        int64_t merged;
        if (c.count != p->count) {
            t->heap[0].count = p->count;
            sift_down(t, 0);
            continue;
        }
        if (c.count < least)
            break;
        t->heap[0] = t->heap[--t->n_heap];
        sift_down(t, 0);
        rc = token_of(t, p, &merged, err);
        if (!rc && merged >= 0)
            rc = record_merge(t, p, (uint32_t)merged, err);
        if (!rc && merged >= 0) {
            list l = t->lists[c.list]; /* lists may move */
            rc = merge_words(t, p, &l, (uint32_t)merged, err);
        }
        free(t->lists[c.list].words);
        t->lists[c.list] = (list){ 0 };
        if (!rc && n++ % 64 == 0)
            rc = fs_progress_tell(progress, t->v->n_ids, t->o->vocab_size, err);
    }
    return rc;
}

static int by_index(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void drop_superseded(trainer *t)
{
    size_t n = 0, k = 0;

    if (t->n_superseded)
        qsort(t->superseded, t->n_superseded, sizeof *t->superseded, by_index);
    for (size_t i = 0; i < t->v->n_merges; i++) {
        if (k < t->n_superseded && t->superseded[k] == i) {
            k++;
            continue;
        }
        t->v->merges[n] = t->v->merges[i];
        t->v->merges[n].rank = (uint32_t)n;
        n++;
    }
    t->v->n_merges = n;
}

fs_status fs_bpe_train(const fs_words *words, const fs_bpe_training *o, const fs_progress *progress, fs_vocab *ret_vocab, fs_error *err)
{
    trainer t = { .o = o, .v = ret_vocab };
    uint32_t byte_id[256];
    fs_status rc = FS_OK;

    if (o->vocab_size < o->n_specials + 256 || o->vocab_size > FS_VOCAB_IDS_MAX)
        return fs_fail(err, FS_ERR_ARGUMENT, "a vocabulary of %zu tokens; the bytes and the special tokens need %zu, at most %d are possible",
                       o->vocab_size, o->n_specials + 256, FS_VOCAB_IDS_MAX);
    for (size_t i = 0; i < o->n_specials && !rc; i++)
        rc = fs_vocab_set(t.v, (int64_t)i, o->specials[i], FS_VOCAB_RAW, err);
    if (!rc)
        rc = put_bytes(&t, byte_id, err);
    if (!rc)
        rc = lay_out(&t, words, byte_id, err);
    if (!rc)
        rc = count_pairs(&t, err);
    if (!rc)
        rc = merge_all(&t, progress, err);
    if (!rc)
        drop_superseded(&t);
    for (size_t i = 0; i < t.n_lists; i++)
        free(t.lists[i].words);
    free(t.lists);
    free(t.touched);
    free(t.superseded);
    free(t.heap);
    free(t.slots);
    free(t.pairs);
    free(t.count);
    free(t.length);
    free(t.begin);
    free(t.symbols);
    return rc;
}
