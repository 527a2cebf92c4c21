/* Byte-pair merging of one piece: the lowest rank first, the leftmost of equal ones, until none applies.
 *
 * O(n^2) with a small constant for short pieces, O(n log n) with a heap for long ones; both give the same ids.
 * Source: huggingface/tokenizers, models/bpe, Word::merge_all. */
#ifndef FS_TEXT_BPE_H
#define FS_TEXT_BPE_H

#include "text/ids.h"
#include "text/vocab.h"

typedef struct fs_bpe_options {
    int32_t unk_id; /* for bytes without a token; -1: such bytes vanish, as in HF */
    bool fuse_unk;  /* neighbouring unknown bytes become one unk */
} fs_bpe_options;

/* Grows as needed; zeroed is empty and valid. One thread at a time. */
typedef struct fs_bpe_scratch {
    struct fs_bpe_symbol *symbols;
    size_t n_symbols;
    struct fs_bpe_candidate *heap;
    size_t heap_capacity;
} fs_bpe_scratch;

void fs_bpe_scratch_done(fs_bpe_scratch *s);

/* Appends the ids of piece. At most INT32_MAX bytes (more is FS_ERR_FORMAT); FS_ERR_MEMORY. */
fs_status fs_bpe_encode(const fs_vocab *v, const fs_bpe_options *o, fs_bytes piece, fs_bpe_scratch *s, fs_ids *ids, fs_error *err);

#endif
