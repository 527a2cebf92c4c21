/* See the header. Both tables are open-addressed with linear probing; a file crafted to make the probes long is
 * refused instead of served slowly. */
#include "text/vocab.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PROBES_MAX 2000

void fs_vocab_done(fs_vocab *v)
{
    if (!v)
        return;
    fs_buf_done(&v->blob);
    free(v->entries);
    free(v->slots);
    free(v->merges);
    free(v->merge_slots);
    *v = (fs_vocab){ 0 };
}

/* The alphabet keeps the printable Latin-1 bytes as themselves and numbers the other 68 from U+0100 in order. */
static bool keeps_itself(unsigned b)
{
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b != 0xad);
}

int fs_alphabet_byte(uint32_t code)
{
    static const uint8_t moved[FS_ALPHABET_END - 0x100] = {
        0,   1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  12,  13,  14,  15,  16,  17,  18,  19,  20,  21,  22,
        23,  24,  25,  26,  27,  28,  29,  30,  31,  32,  127, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138, 139,
        140, 141, 142, 143, 144, 145, 146, 147, 148, 149, 150, 151, 152, 153, 154, 155, 156, 157, 158, 159, 160, 173,
    };

    if (code < 0x100)
        return keeps_itself(code) ? (int)code : -1;
    return code < FS_ALPHABET_END ? moved[code - 0x100] : -1;
}

bool fs_alphabet_decode(fs_bytes text, uint8_t *ret_bytes, size_t *ret_n)
{
    size_t n = 0;

    for (size_t i = 0; i < text.n_bytes;) {
        uint8_t c = text.data[i];
        int b;
        if (c < 0x80) {
            b = fs_alphabet_byte(c);
            i++;
        } else if (c >= 0xc2 && c <= 0xc5 && i + 1 < text.n_bytes && (text.data[i + 1] & 0xc0) == 0x80) {
            b = fs_alphabet_byte((c & 0x1fu) << 6 | (text.data[i + 1] & 0x3fu));
            i += 2;
        } else {
            return false;
        }
        if (b < 0)
            return false;
        ret_bytes[n++] = (uint8_t)b;
    }
    *ret_n = n;
    return true;
}

fs_status fs_alphabet_encode(fs_bytes bytes, fs_buf *out, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < bytes.n_bytes && !rc; i++) {
        uint32_t b = bytes.data[i];
        uint8_t text[4];
        size_t n = fs_utf8_put(keeps_itself(b) ? b : 0x100 + (b <= 32 ? b : b <= 160 ? 33 + (b - 127) : 67), text);
        rc = fs_buf_append(out, text, n, err);
    }
    return rc;
}

static uint64_t hash_bytes(fs_bytes b)
{
    uint64_t h = 0x2545f4914f6cdd1du ^ b.n_bytes, w;
    size_t i = 0;

    for (; i + 8 <= b.n_bytes; i += 8) {
        memcpy(&w, b.data + i, 8);
        h = (h ^ w) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    if (i < b.n_bytes) {
        w = 0;
        memcpy(&w, b.data + i, b.n_bytes - i);
        h = (h ^ w) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    h *= 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

fs_bytes fs_vocab_bytes(const fs_vocab *v, int32_t id)
{
    if (id < 0 || (size_t)id >= v->n_ids || v->entries[id].kind == FS_VOCAB_HOLE)
        return (fs_bytes){ NULL, 0 };
    return (fs_bytes){ (const uint8_t *)v->blob.data + v->entries[id].offset, v->entries[id].n_bytes };
}

/* The slot that holds bytes, or the empty one where they belong; SIZE_MAX after too many probes. */
static size_t probe(const fs_vocab *v, fs_bytes bytes, uint64_t hash)
{
    size_t mask = v->n_slots - 1, i = hash & mask;

    for (size_t n = 0; n < PROBES_MAX; n++, i = (i + 1) & mask)
        if (v->slots[i].id == 0 ||
            (v->slots[i].tag == hash >> 32 && fs_bytes_equal(fs_vocab_bytes(v, (int32_t)v->slots[i].id - 1), bytes)))
            return i;
    return SIZE_MAX;
}

int32_t fs_vocab_find(const fs_vocab *v, fs_bytes bytes)
{
    size_t i;

    if (v->n_slots == 0)
        return -1;
    i = probe(v, bytes, hash_bytes(bytes));
    return i == SIZE_MAX ? -1 : (int32_t)v->slots[i].id - 1;
}

static fs_status grow_ids(fs_vocab *v, size_t n, fs_error *err)
{
    if (n > v->ids_capacity) {
        size_t cap = v->ids_capacity + v->ids_capacity / 2;
        fs_vocab_entry *e;
        if (cap < n)
            cap = n < 1024 ? 1024 : n;
        e = realloc(v->entries, cap * sizeof *e);
        if (!e)
            return fs_fail_memory(err, cap * sizeof *e);
        v->entries = e;
        v->ids_capacity = cap;
    }
    if (n > v->n_ids) {
        memset(v->entries + v->n_ids, 0, (n - v->n_ids) * sizeof *v->entries);
        v->n_ids = n;
    }
    return FS_OK;
}

static fs_status grow_slots(fs_vocab *v, fs_error *err)
{
    size_t n = v->n_slots ? 2 * v->n_slots : 4096, old_n = v->n_slots;
    fs_vocab_slot *old = v->slots, *s = calloc(n, sizeof *s);

    if (!s)
        return fs_fail_memory(err, n * sizeof *s);
    v->slots = s;
    v->n_slots = n;
    for (size_t i = 0; i < old_n; i++)
        if (old[i].id) {
            fs_bytes bytes = fs_vocab_bytes(v, (int32_t)old[i].id - 1);
            size_t at = probe(v, bytes, hash_bytes(bytes));
            if (at == SIZE_MAX) {
                v->slots = old;
                v->n_slots = old_n;
                free(s);
                return fs_fail(err, FS_ERR_FORMAT, "the vocabulary was made to collide");
            }
            s[at] = old[i];
        }
    free(old);
    return FS_OK;
}

fs_status fs_vocab_set(fs_vocab *v, int64_t id, fs_bytes bytes, fs_vocab_kind kind, fs_error *err)
{
    fs_status rc;
    size_t at = 0, offset = v->blob.n_bytes, ids_max = v->ids_max ? v->ids_max : FS_VOCAB_IDS_MAX;
    uint64_t hash = 0;
    fs_vocab_entry *e;

    if (id < 0 || id >= (int64_t)ids_max)
        return fs_fail(err, FS_ERR_FORMAT, "token id %" PRId64 ", allowed are 0 to %zu", id, ids_max - 1);
    if (bytes.n_bytes == 0 || bytes.n_bytes > FS_VOCAB_TOKEN_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "token %" PRId64 " has %zu bytes, allowed are 1 to %d", id, bytes.n_bytes, FS_VOCAB_TOKEN_MAX);
    rc = grow_ids(v, (size_t)id + 1, err);
    if (rc)
        return rc;
    e = &v->entries[id];
    if (e->kind == FS_VOCAB_BYTES || (e->kind == FS_VOCAB_RAW && kind != FS_VOCAB_RAW))
        return fs_fail(err, FS_ERR_FORMAT, "two tokens have id %" PRId64, id);
    if (bytes.n_bytes > UINT32_MAX - offset)
        return fs_fail(err, FS_ERR_FORMAT, "the vocabulary has more than %" PRIu32 " bytes", UINT32_MAX);
    if (kind == FS_VOCAB_BYTES) {
        if (2 * (v->n_tokens + 1) > v->n_slots && (rc = grow_slots(v, err)))
            return rc;
        hash = hash_bytes(bytes);
        at = probe(v, bytes, hash);
        if (at == SIZE_MAX)
            return fs_fail(err, FS_ERR_FORMAT, "the vocabulary was made to collide");
        if (v->slots[at].id)
            return fs_fail(err, FS_ERR_FORMAT, "tokens %" PRIu32 " and %" PRId64 " are the same", v->slots[at].id - 1, id);
    }
    rc = fs_buf_append(&v->blob, bytes.data, bytes.n_bytes, err);
    if (rc)
        return rc;
    e->offset = (uint32_t)offset;
    e->n_bytes = (uint32_t)bytes.n_bytes;
    e->kind = (uint8_t)kind;
    if (kind == FS_VOCAB_BYTES) {
        v->slots[at] = (fs_vocab_slot){ (uint32_t)(hash >> 32), (uint32_t)id + 1 };
        v->n_tokens++;
    }
    return FS_OK;
}

fs_status fs_vocab_push_merge(fs_vocab *v, fs_merge m, fs_error *err)
{
    if (v->n_merges == v->merges_capacity) {
        size_t cap = v->merges_capacity ? v->merges_capacity + v->merges_capacity / 2 : 1024;
        fs_merge *p = realloc(v->merges, cap * sizeof *p);
        if (!p)
            return fs_fail_memory(err, cap * sizeof *p);
        v->merges = p;
        v->merges_capacity = cap;
    }
    v->merges[v->n_merges++] = m;
    return FS_OK;
}

static bool is_token(const fs_vocab *v, int32_t id)
{
    return id >= 0 && (size_t)id < v->n_ids && v->entries[id].kind == FS_VOCAB_BYTES;
}

fs_status fs_vocab_add_merge(fs_vocab *v, fs_bytes left, fs_bytes right, fs_error *err)
{
    uint8_t both[2 * FS_VOCAB_TOKEN_MAX];
    fs_bytes merged = { both, left.n_bytes + right.n_bytes };
    int32_t l = fs_vocab_find(v, left), r = fs_vocab_find(v, right), m;

    if (l < 0 || r < 0)
        return fs_fail(err, FS_ERR_FORMAT, "merge %zu: its %s part, %zu bytes, is not in the vocabulary", v->n_merges,
                       l < 0 ? "left" : "right", l < 0 ? left.n_bytes : right.n_bytes);
    memcpy(both, left.data, left.n_bytes); /* found, so each is at most FS_VOCAB_TOKEN_MAX */
    memcpy(both + left.n_bytes, right.data, right.n_bytes);
    m = v->merged_last;
    for (int k = 0; k < 2 && !(is_token(v, m) && fs_bytes_equal(fs_vocab_bytes(v, m), merged)); k++)
        m++;
    if (m == v->merged_last + 2)
        m = fs_vocab_find(v, merged);
    v->merged_last = m;
    if (m < 0)
        return fs_fail(err, FS_ERR_FORMAT, "merge %zu: tokens %" PRId32 " and %" PRId32 " together are not in the vocabulary",
                       v->n_merges, l, r);
    return fs_vocab_push_merge(v, (fs_merge){ (uint32_t)l, (uint32_t)r, (uint32_t)v->n_merges, (uint32_t)m }, err);
}

/* The most slots in a row that are taken: what a look-up of a pair that does not merge may have to walk. */
static size_t longest_run(const fs_merge *slots, size_t n)
{
    size_t longest = 0, run = 0;

    for (size_t i = 0; i < 2 * n; i++) { /* twice around: a run may pass the end */
        run = slots[i & (n - 1)].merged == FS_VOCAB_NO_MERGE ? 0 : run + 1;
        longest = run > longest ? run : longest;
    }
    return longest;
}

fs_status fs_vocab_seal(fs_vocab *v, fs_error *err)
{
    size_t n = 64, mask;

    while (n < v->n_merges + v->n_merges / 2)
        n *= 2;
    v->merge_slots = malloc(n * sizeof *v->merge_slots);
    if (!v->merge_slots)
        return fs_fail_memory(err, n * sizeof *v->merge_slots);
    v->n_merge_slots = n;
    mask = n - 1;
    for (size_t i = 0; i < n; i++)
        v->merge_slots[i].merged = FS_VOCAB_NO_MERGE;
    for (size_t k = 0; k < v->n_merges; k++) {
        const fs_merge *m = &v->merges[k];
        size_t i = fs_merge_hash(m->left, m->right) & mask, probes = 0;
        if (v->entries[m->merged].special)
            continue;
        while (v->merge_slots[i].merged != FS_VOCAB_NO_MERGE &&
               (v->merge_slots[i].left != m->left || v->merge_slots[i].right != m->right)) {
            i = (i + 1) & mask;
            if (++probes > PROBES_MAX)
                return fs_fail(err, FS_ERR_FORMAT, "the merges were made to collide");
        }
        v->merge_slots[i] = *m;
    }
    if (longest_run(v->merge_slots, n) > PROBES_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "the merges were made to collide");
    free(v->merges);
    v->merges = NULL;
    v->merges_capacity = 0;
    for (int b = 0; b < 256; b++) {
        uint8_t byte = (uint8_t)b;
        v->byte_id[b] = fs_vocab_find(v, (fs_bytes){ &byte, 1 });
    }
    return FS_OK;
}
