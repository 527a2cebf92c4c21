/* Training of byte-level BPE: the most frequent pair of neighbours becomes a token, again and again.
 *
 * Merges are those of Hugging Face tokenizers' BpeTrainer, its ties and oddities included: of equally frequent pairs the one with
 * the smaller ids goes first; how often a merged pair stood is not taken back, which matters when two merges make the same token; a
 * pair that is merged twice counts as merged the second time. Other than there, no merge ever makes the text of a special token.
 * Pairs are counted once and then kept up to date; a heap holds candidates whose counts may be stale and are looked up when they
 * come out. Source: huggingface/tokenizers, models/bpe/trainer.rs, word.rs. */
#ifndef FS_DATA_BPE_TRAIN_H
#define FS_DATA_BPE_TRAIN_H

#include "data/word_count.h"
#include "text/vocab.h"

typedef struct fs_bpe_training {
    size_t vocab_size;      /* of all tokens; at most that many come out */
    uint64_t min_frequency; /* of a pair that is still merged; 0 is 1 */
    const fs_bytes *specials; /* get ids 0, 1, ... */
    size_t n_specials;
} fs_bpe_training;

/* Fills an empty vocabulary: special tokens (raw), the 256 bytes in the order of their letters in the GPT-2 alphabet, then what
 * merges make, and the merges. ret_vocab is not sealed. Progress counts tokens. */
fs_status fs_bpe_train(const fs_words *words, const fs_bpe_training *o, const fs_progress *progress, fs_vocab *ret_vocab, fs_error *err);

#endif
