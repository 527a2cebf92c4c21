/* The vocabulary: id -> bytes, bytes -> id, and the merges (left id, right id) -> (rank, merged id).
 *
 * A token of the model is the bytes it stands for; files spell them in the GPT-2 alphabet (every byte as one
 * printable character, U+0020 as U+0120), which fs_alphabet_decode undoes. Entries spelled with other characters
 * ("raw": markers such as <|im_end|>) can never come out of a merge, so they have text but no place in the table
 * from bytes to ids. */
#ifndef FS_TEXT_VOCAB_H
#define FS_TEXT_VOCAB_H

#include "base/mem.h"

#define FS_VOCAB_IDS_MAX      (1 << 22)
#define FS_VOCAB_TOKEN_MAX    (1 << 13) /* bytes of one token */
#define FS_VOCAB_NO_MERGE     UINT32_MAX
#define FS_VOCAB_SPARSE       (1 << 16) /* ids of a file may run this far ahead of its bytes */

typedef enum fs_vocab_kind { FS_VOCAB_HOLE, FS_VOCAB_BYTES, FS_VOCAB_RAW } fs_vocab_kind;

typedef struct fs_vocab_entry {
    uint32_t offset, n_bytes; /* into blob */
    uint8_t kind;             /* fs_vocab_kind */
    bool special;
} fs_vocab_entry;

typedef struct fs_vocab_slot {
    uint32_t tag; /* of the hash: what differs here need not be fetched and compared */
    uint32_t id;  /* id + 1; 0: empty */
} fs_vocab_slot;

typedef struct fs_merge {
    uint32_t left, right, rank, merged;
} fs_merge;

/* Zeroed is empty and valid. */
typedef struct fs_vocab {
    fs_buf blob;
    fs_vocab_entry *entries; /* [n_ids] */
    size_t n_ids, ids_capacity;
    size_t ids_max; /* 0: FS_VOCAB_IDS_MAX; a reader sets less, so that one large id in a small file makes no large list */
    fs_vocab_slot *slots; /* [n_slots]; n_slots is a power of two, at most half full */
    size_t n_slots, n_tokens;
    fs_merge *merges; /* as added, then (fs_vocab_seal) a table of n_merge_slots by pair */
    size_t n_merges, merges_capacity;
    int32_t merged_last; /* of fs_vocab_add_merge: files list the merges in the order of what they make */
    fs_merge *merge_slots; /* [n_merge_slots]; merged FS_VOCAB_NO_MERGE marks an empty one */
    size_t n_merge_slots;
    int32_t byte_id[256]; /* -1: no token is this byte alone; filled by fs_vocab_seal */
} fs_vocab;

void fs_vocab_done(fs_vocab *v);

/* Undoes the GPT-2 alphabet: *ret_n bytes to ret_bytes (room for text.n_bytes). false: a character is not in it. */
bool fs_alphabet_decode(fs_bytes text, uint8_t *ret_bytes, size_t *ret_n);
/* Appends bytes in the alphabet. */
fs_status fs_alphabet_encode(fs_bytes bytes, fs_buf *out, fs_error *err);
/* The byte that a character stands for; -1: none, as of all from FS_ALPHABET_END on. */
#define FS_ALPHABET_END (0x100 + 68)
int fs_alphabet_byte(uint32_t code);

/* Gives id its bytes. A second text for an id, or a second id for bytes, is a sentence; raw entries may be set again
 * (an added token names what the model's list already holds). */
fs_status fs_vocab_set(fs_vocab *v, int64_t id, fs_bytes bytes, fs_vocab_kind kind, fs_error *err);
/* The id of a token (not raw) with these bytes, or -1. */
int32_t fs_vocab_find(const fs_vocab *v, fs_bytes bytes);
fs_bytes fs_vocab_bytes(const fs_vocab *v, int32_t id); /* empty for holes and ids out of range */

/* left and right must be tokens whose bytes together are a token; rank is the count so far. */
fs_status fs_vocab_add_merge(fs_vocab *v, fs_bytes left, fs_bytes right, fs_error *err);
fs_status fs_vocab_push_merge(fs_vocab *v, fs_merge m, fs_error *err);
/* Builds the table of merges (a later merge of the same pair wins, as in HF; one that would make a special token out
 * of text is left out) and byte_id; call once, at the end. */
fs_status fs_vocab_seal(fs_vocab *v, fs_error *err);

static inline size_t fs_merge_hash(uint32_t left, uint32_t right)
{
    uint64_t k = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    return (size_t)(k ^ k >> 29);
}

/* The merge of a pair, or NULL. */
static inline const fs_merge *fs_vocab_merge(const fs_vocab *v, uint32_t left, uint32_t right)
{
    size_t mask = v->n_merge_slots - 1;

    for (size_t i = fs_merge_hash(left, right) & mask;; i = (i + 1) & mask) {
        const fs_merge *m = &v->merge_slots[i];
        if (m->merged == FS_VOCAB_NO_MERGE)
            return NULL;
        if (m->left == left && m->right == right)
            return m;
    }
}

#endif
