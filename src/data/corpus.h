/* What the steps of a corpus look at: the words of a text as hashes, near-duplicates by MinHash, n-grams of evaluation sets, rules of
 * quality. Everything is a function of the text and the options; nothing depends on threads or on the machine.
 *
 * A word is a run of letters and digits, ASCII letters without case; a character from U+2E80 on (scripts without spaces between words) is a
 * word by itself. */
#ifndef FS_DATA_CORPUS_H
#define FS_DATA_CORPUS_H

#include "base/mem.h"

/* Appends the 64-bit hash of each word. */
typedef struct fs_hashes {
    uint64_t *data;
    size_t n, capacity;
} fs_hashes;
void fs_hashes_done(fs_hashes *h);
fs_status fs_words_hash(fs_bytes text, fs_hashes *ret, fs_error *err);

/* A set of 64-bit hashes. Zeroed is empty and valid. */
typedef struct fs_hash_set {
    uint64_t *slots; /* 0: empty */
    size_t n_slots, n;
} fs_hash_set;
void fs_hash_set_done(fs_hash_set *s);
fs_status fs_hash_set_add(fs_hash_set *s, uint64_t h, bool *ret_new, fs_error *err);
bool fs_hash_set_has(const fs_hash_set *s, uint64_t h);

/* ---- near-duplicates ---- */

#define FS_MINHASH_N     128
#define FS_MINHASH_BANDS 32 /* of 4: two texts of Jaccard similarity 0.8 share none with a probability of 5e-8, of 0.5 with 0.13 */

typedef struct fs_minhash {
    uint32_t min[FS_MINHASH_N];
} fs_minhash;
/* Of the text's n-grams of words; a text of fewer words is one n-gram. Source: Broder, 1997; universal hashes modulo 2^61 - 1. */
void fs_minhash_of(const uint64_t *words, size_t n_words, size_t ngram, fs_minhash *ret);
/* The share of equal minima: an estimate of the Jaccard similarity, its standard error at most 0.045. */
double fs_minhash_similarity(const fs_minhash *a, const fs_minhash *b);

/* Texts that are kept, to be asked for near ones: those that share a band and whose similarity is at least the threshold. */
typedef struct fs_near fs_near;
fs_status fs_near_new(double threshold, fs_near **ret, fs_error *err);
void fs_near_free(fs_near *n);
/* *ret_is: whether one is near; if not, this one is kept. */
fs_status fs_near_add(fs_near *n, const fs_minhash *m, bool *ret_is, fs_error *err);

/* ---- decontamination ---- */

/* The n-grams of evaluation sets. An item of fewer than ngram words is looked for as a whole, if it has FS_ITEM_WORDS_MIN; a shorter one only
 * as the whole of a text. */
#define FS_ITEM_WORDS_MIN 5
#define FS_NGRAM_MAX      64
typedef struct fs_eval_grams {
    size_t ngram;
    fs_hash_set grams, wholes;
    bool lengths[FS_NGRAM_MAX + 1]; /* that stand in grams */
} fs_eval_grams;
void fs_eval_grams_done(fs_eval_grams *g);
fs_status fs_eval_grams_add(fs_eval_grams *g, const uint64_t *words, size_t n, fs_error *err);
bool fs_eval_grams_meet(const fs_eval_grams *g, const uint64_t *words, size_t n);

/* ---- quality ---- */

/* A rule is off at its value in fs_quality_none. Most are those of Gopher (Rae et al., 2021, appendix A.1.1), whose values fs_quality_gopher has. */
typedef struct fs_quality {
    double words_min, words_max;
    double word_length_min, word_length_max; /* mean, in characters, of what stands between white space */
    double letter_words_min;  /* share of words with a letter */
    double symbols_max;       /* '#' and ellipses, for each word */
    double ellipsis_lines_max, bullet_lines_max; /* share of lines that end in an ellipsis, start with a bullet */
    double repeated_lines_max; /* share of lines that stood before */
    double repeated_grams_max; /* share of 5-grams of words that stood before */
    double stop_words_min;    /* how many of: the, be, to, of, and, that, have, with */
} fs_quality;
extern const fs_quality fs_quality_none, fs_quality_gopher;
/* The rule that the text breaks first, in the order above ("words-min", ...); NULL: none. */
fs_status fs_quality_check(const fs_quality *q, fs_bytes text, const char **ret_rule, fs_error *err);

#endif
