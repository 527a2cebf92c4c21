/* How often each word stands in files: what a tokenizer's training starts from. Words are the pieces that the tokenizer
 * itself cuts text into, so training and encoding see the same. */
#ifndef FS_DATA_WORD_COUNT_H
#define FS_DATA_WORD_COUNT_H

#include "base/pool.h"
#include "base/progress.h"
#include "text/tokenizer.h"

typedef struct fs_word {
    size_t offset; /* into blob */
    uint32_t n_bytes, tag;
    uint64_t count;
} fs_word;

/* Zeroed is empty and valid. */
typedef struct fs_words {
    fs_buf blob;
    fs_word *items;
    size_t n, capacity;
    uint32_t *slots; /* index + 1; 0: empty */
    size_t n_slots;
} fs_words;

void fs_words_done(fs_words *w);
fs_status fs_words_add(fs_words *w, fs_bytes word, uint64_t count, fs_error *err);
static inline fs_bytes fs_words_bytes(const fs_words *w, size_t i)
{
    return (fs_bytes){ (const uint8_t *)w->blob.data + w->items[i].offset, w->items[i].n_bytes };
}

/* Adds the words of the files. A file whose name ends in .jsonl is records (data/records.h); of another each line with its
 * end is a text by itself (by_line), or its text is cut only every MiB, before a line that does not start with white space.
 * Words and counts do not depend on the threads; their order does. Bytes that are not UTF-8 count as U+FFFD. */
fs_status fs_words_count(fs_words *w, const fs_tokenizer *t, const char *const *paths, size_t n_paths, bool by_line, fs_pool *pool,
                         const fs_progress *progress, fs_error *err);

#endif
