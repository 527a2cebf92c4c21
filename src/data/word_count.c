/* See the header. Files are cut into chunks at places that depend on the text alone; threads take chunks and count into
 * tables of their own, which are added up at the end. */
#include "data/word_count.h"

#include "data/records.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES ((size_t)1 << 20)
#define WORDS_MAX   ((size_t)UINT32_MAX - 1)

void fs_words_done(fs_words *w)
{
    if (!w)
        return;
    fs_buf_done(&w->blob);
    free(w->items);
    free(w->slots);
    *w = (fs_words){ 0 };
}

static uint64_t hash_of(fs_bytes b)
{
    uint64_t h = b.n_bytes * 0x9e3779b97f4a7c15u, k;
    size_t i = 0;

    for (; i + 8 <= b.n_bytes; i += 8) {
        memcpy(&k, b.data + i, 8);
        h = (h ^ k) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    for (k = 0; i < b.n_bytes; i++)
        k = k << 8 | b.data[i];
    h = (h ^ k) * 0xff51afd7ed558ccdu;
    return h ^ h >> 29;
}

static fs_status grow(fs_words *w, fs_error *err)
{
    size_t n_slots = w->n_slots ? w->n_slots * 2 : 1024;
    uint32_t *slots = calloc(n_slots, sizeof *slots);

    if (!slots)
        return fs_fail_memory(err, n_slots * sizeof *slots);
    free(w->slots);
    w->slots = slots;
    w->n_slots = n_slots;
    for (size_t i = 0; i < w->n; i++) {
        size_t s = (size_t)hash_of(fs_words_bytes(w, i)) & (n_slots - 1);
        while (slots[s])
            s = (s + 1) & (n_slots - 1);
        slots[s] = (uint32_t)i + 1;
    }
    return FS_OK;
}

fs_status fs_words_add(fs_words *w, fs_bytes word, uint64_t count, fs_error *err)
{
    uint64_t h = hash_of(word);
    uint32_t tag = (uint32_t)(h >> 32);
    size_t s;
    fs_status rc;

    if (w->n * 2 >= w->n_slots && (rc = grow(w, err)))
        return rc;
    for (s = (size_t)h & (w->n_slots - 1); w->slots[s]; s = (s + 1) & (w->n_slots - 1)) {
        fs_word *k = &w->items[w->slots[s] - 1];
        if (k->tag == tag && fs_bytes_equal(fs_words_bytes(w, w->slots[s] - 1), word)) {
            k->count += count;
            return FS_OK;
        }
    }
    if (w->n == WORDS_MAX || word.n_bytes > UINT32_MAX)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "the text has more than %zu words, or one of %zu bytes", w->n, word.n_bytes);
    if (w->n == w->capacity) {
        size_t capacity = w->capacity ? w->capacity * 2 : 512;
        fs_word *items = realloc(w->items, capacity * sizeof *items);
        if (!items)
            return fs_fail_memory(err, capacity * sizeof *items);
        w->items = items;
        w->capacity = capacity;
    }
    rc = fs_buf_append(&w->blob, word.data, word.n_bytes, err);
    if (rc)
        return rc;
    w->items[w->n] = (fs_word){ .offset = w->blob.n_bytes - word.n_bytes, .n_bytes = (uint32_t)word.n_bytes, .tag = tag, .count = count };
    w->slots[s] = (uint32_t)++w->n;
    return FS_OK;
}

/* ---- files ---- */

typedef struct chunk {
    size_t file, begin, end;
} chunk;

typedef struct worker {
    fs_words words;
    fs_pieces pieces;
    fs_buf text;
    fs_status rc; /* its first failure, in the chunk failed */
    fs_error err;
    size_t failed;
} worker;

typedef struct counting {
    const fs_tokenizer *t;
    const char *const *paths;
    fs_map *maps;
    chunk *chunks;
    size_t n_chunks, chunks_capacity;
    worker *workers;
    bool by_line;
    const fs_progress *progress;
    uint64_t n_bytes;
    _Atomic uint64_t done;
    _Atomic bool stop;
} counting;

static fs_status push_chunk(counting *c, chunk k, fs_error *err)
{
    if (c->n_chunks == c->chunks_capacity) {
        size_t capacity = c->chunks_capacity ? c->chunks_capacity * 2 : 64;
        chunk *chunks = realloc(c->chunks, capacity * sizeof *chunks);
        if (!chunks)
            return fs_fail_memory(err, capacity * sizeof *chunks);
        c->chunks = chunks;
        c->chunks_capacity = capacity;
    }
    c->chunks[c->n_chunks++] = k;
    return FS_OK;
}

/* The first byte of the line behind the first line end at `from` or later, of a line that may start a text. */
static size_t cut_after(fs_bytes text, size_t from, bool records)
{
    while (from < text.n_bytes) {
        const uint8_t *end = memchr(text.data + from, '\n', text.n_bytes - from);
        if (!end)
            break;
        from = (size_t)(end - text.data) + 1;
        if (records || (from < text.n_bytes && !strchr(" \t\r\n\v\f", text.data[from])))
            return from;
    }
    return text.n_bytes;
}

static fs_status open_files(counting *c, size_t n_paths, fs_error *err)
{
    c->maps = calloc(n_paths, sizeof *c->maps);
    if (!c->maps)
        return fs_fail_memory(err, n_paths * sizeof *c->maps);
    for (size_t f = 0; f < n_paths; f++) {
        bool records = fs_ends_with(c->paths[f], ".jsonl");
        fs_status rc = fs_map_open(&c->maps[f], c->paths[f], err);
        fs_bytes text = c->maps[f].bytes;
        for (size_t begin = 0, end; !rc && begin < text.n_bytes; begin = end) {
            end = text.n_bytes - begin <= CHUNK_BYTES ? text.n_bytes : cut_after(text, begin + CHUNK_BYTES, records || c->by_line);
            rc = push_chunk(c, (chunk){ f, begin, end }, err);
        }
        if (rc)
            return rc;
        c->n_bytes += text.n_bytes;
    }
    return FS_OK;
}

static fs_status count_word(void *ud, fs_bytes piece, fs_error *err)
{
    return fs_words_add(ud, piece, 1, err);
}

static fs_status count_chunk(counting *c, worker *w, const chunk *k)
{
    const char *path = c->paths[k->file];
    fs_bytes text = { c->maps[k->file].bytes.data + k->begin, k->end - k->begin }, line;
    fs_lines lines = { .text = text };
    fs_status rc = FS_OK;

    if (fs_ends_with(path, ".jsonl")) {
        for (;;) {
            fs_data_record r;
            bool more;
            rc = fs_data_record_next(&lines, path, &r, &more, &w->err);
            if (rc && k->begin) { /* once more, with the line's number in the file */
                fs_lines before = { .text = { text.data - k->begin, k->begin + lines.at } };
                while (fs_lines_next(&before, &line))
                    ;
                return fs_data_record_parse(line, path, before.number, &r, &w->err);
            }
            if (rc || !more)
                return rc;
            fs_buf_clear(&w->text);
            rc = fs_data_record_words(&r, &w->text, &w->err);
            if (!rc)
                rc = fs_pieces_of(&w->pieces, fs_buf_bytes(&w->text), count_word, &w->words, &w->err);
            if (rc)
                return rc;
        }
    }
    if (!c->by_line)
        return fs_pieces_of(&w->pieces, text, count_word, &w->words, &w->err);
    for (size_t at = 0; !rc && fs_lines_next(&lines, &line); at = lines.at)
        rc = fs_pieces_of(&w->pieces, (fs_bytes){ text.data + at, lines.at - at }, count_word, &w->words, &w->err);
    return rc;
}

static void count_range(void *ud, size_t begin, size_t end, int thread)
{
    counting *c = ud;
    worker *w = &c->workers[thread];

    for (size_t i = begin; i < end && !atomic_load(&c->stop) && !w->rc; i++) {
        const chunk *k = &c->chunks[i];
        uint64_t done;
        w->rc = count_chunk(c, w, k);
        w->failed = i;
        done = atomic_fetch_add(&c->done, k->end - k->begin) + k->end - k->begin;
        if (!w->rc && thread == 0)
            w->rc = fs_progress_tell(c->progress, done, c->n_bytes, &w->err);
        if (w->rc)
            atomic_store(&c->stop, true);
    }
}

fs_status fs_words_count(fs_words *w, const fs_tokenizer *t, const char *const *paths, size_t n_paths, bool by_line, fs_pool *pool,
                         const fs_progress *progress, fs_error *err)
{
    counting c = { .t = t, .paths = paths, .by_line = by_line, .progress = progress };
    int n_threads = fs_pool_threads(pool);
    const worker *failed = NULL;
    fs_status rc = open_files(&c, n_paths, err);

    if (!rc && !(c.workers = calloc((size_t)n_threads, sizeof *c.workers)))
        rc = fs_fail_memory(err, (size_t)n_threads * sizeof *c.workers);
    if (!rc) {
        for (int i = 0; i < n_threads; i++)
            c.workers[i].pieces.tokenizer = t;
        fs_pool_for(pool, c.n_chunks, 1, count_range, &c);
    }
    for (int i = 0; i < n_threads && c.workers && !rc; i++)
        if (c.workers[i].rc && (!failed || c.workers[i].failed < failed->failed))
            failed = &c.workers[i];
    if (failed) {
        if (err)
            *err = failed->err;
        rc = failed->rc;
    }
    for (int i = 0; i < n_threads && c.workers; i++) {
        worker *k = &c.workers[i];
        if (!rc && i == 0 && w->n == 0) {
            *w = k->words;
            k->words = (fs_words){ 0 };
        }
        for (size_t j = 0; j < k->words.n && !rc; j++)
            rc = fs_words_add(w, fs_words_bytes(&k->words, j), k->words.items[j].count, err);
        fs_words_done(&k->words);
        fs_pieces_done(&k->pieces);
        fs_buf_done(&k->text);
    }
    for (size_t f = 0; f < n_paths && c.maps; f++)
        fs_map_close(&c.maps[f]);
    free(c.maps);
    free(c.chunks);
    free(c.workers);
    return rc;
}
