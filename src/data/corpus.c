/* See the header. */
#include "data/corpus.h"

#include "base/philox.h"
#include "base/utf8.h"
#include "data/records.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define PRIME ((uint64_t)0x1fffffffffffffff) /* 2^61 - 1 */
#define ROWS  (FS_MINHASH_N / FS_MINHASH_BANDS)

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

void fs_hashes_done(fs_hashes *h)
{
    if (!h)
        return;
    free(h->data);
    *h = (fs_hashes){ 0 };
}

static fs_status push(fs_hashes *h, uint64_t v, fs_error *err)
{
    if (h->n == h->capacity) {
        size_t capacity = h->capacity ? h->capacity * 2 : 256;
        uint64_t *data = realloc(h->data, capacity * sizeof *data);
        if (!data)
            return fs_fail_memory(err, capacity * sizeof *data);
        h->data = data;
        h->capacity = capacity;
    }
    h->data[h->n++] = v;
    return FS_OK;
}

fs_status fs_words_hash(fs_bytes text, fs_hashes *ret, fs_error *err)
{
    uint64_t h = 0;
    size_t in_word = 0;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < text.n_bytes && !rc;) {
        uint32_t code;
        size_t n = fs_utf8_next(text, i, &code);
        bool letter = code >= 0x80 || isalnum((int)code), alone = code >= 0x2e80;
        i += n;
        if ((!letter || alone) && in_word) {
            rc = push(ret, mix(h), err);
            in_word = 0;
            h = 0;
        }
        if (!letter || rc)
            continue;
        h = (h ^ (code < 0x80 ? (uint32_t)tolower((int)code) : code)) * 0x100000001b3u + 0x9e3779b97f4a7c15u;
        in_word++;
        if (alone) {
            rc = push(ret, mix(h), err);
            in_word = 0;
            h = 0;
        }
    }
    return rc || !in_word ? rc : push(ret, mix(h), err);
}

/* The hash of n neighbouring words. */
static uint64_t ngram_hash(const uint64_t *words, size_t n)
{
    uint64_t h = n;

    for (size_t i = 0; i < n; i++)
        h = mix(h * 0x9e3779b97f4a7c15u + words[i]);
    return h ? h : 1; /* 0 is an empty slot */
}

void fs_hash_set_done(fs_hash_set *s)
{
    if (!s)
        return;
    free(s->slots);
    *s = (fs_hash_set){ 0 };
}

static size_t slot_of(const uint64_t *slots, size_t n_slots, uint64_t h)
{
    size_t i = (size_t)(h ^ h >> 32) & (n_slots - 1);

    while (slots[i] && slots[i] != h)
        i = (i + 1) & (n_slots - 1);
    return i;
}

bool fs_hash_set_has(const fs_hash_set *s, uint64_t h)
{
    return s->n_slots && s->slots[slot_of(s->slots, s->n_slots, h)];
}

fs_status fs_hash_set_add(fs_hash_set *s, uint64_t h, bool *ret_new, fs_error *err)
{
    size_t i;

    if (s->n * 2 >= s->n_slots) {
        size_t n_slots = s->n_slots ? s->n_slots * 2 : 1024;
        uint64_t *slots = calloc(n_slots, sizeof *slots);
        if (!slots)
            return fs_fail_memory(err, n_slots * sizeof *slots);
        for (size_t k = 0; k < s->n_slots; k++)
            if (s->slots[k])
                slots[slot_of(slots, n_slots, s->slots[k])] = s->slots[k];
        free(s->slots);
        s->slots = slots;
        s->n_slots = n_slots;
    }
    i = slot_of(s->slots, s->n_slots, h);
    *ret_new = s->slots[i] == 0;
    s->slots[i] = h;
    s->n += *ret_new;
    return FS_OK;
}

/* ---- near-duplicates ---- */

static uint64_t modulo(unsigned __int128 x)
{
    uint64_t r = (uint64_t)(x & PRIME) + (uint64_t)(x >> 61);

    return r >= PRIME ? r - PRIME : r;
}

void fs_minhash_of(const uint64_t *words, size_t n_words, size_t ngram, fs_minhash *ret)
{
    size_t n = n_words < ngram ? 1 : n_words - ngram + 1;
    uint64_t a[FS_MINHASH_N], b[FS_MINHASH_N];
    fs_random r;

    fs_random_init(&r, 0, 0x6d696e68u, 0); /* "minh": the functions are the same for everybody */
    for (int i = 0; i < FS_MINHASH_N; i++) {
        a[i] = (((uint64_t)fs_random_u32(&r) << 29 | fs_random_u32(&r) >> 3) % (PRIME - 1)) + 1;
        b[i] = ((uint64_t)fs_random_u32(&r) << 29 | fs_random_u32(&r) >> 3) % PRIME;
        ret->min[i] = UINT32_MAX;
    }
    for (size_t k = 0; k < n; k++) {
        uint64_t h = ngram_hash(words + k, n_words < ngram ? n_words : ngram) % PRIME;
        for (int i = 0; i < FS_MINHASH_N; i++) {
            uint32_t v = (uint32_t)modulo((unsigned __int128)a[i] * h + b[i]);
            if (v < ret->min[i])
                ret->min[i] = v;
        }
    }
}

double fs_minhash_similarity(const fs_minhash *a, const fs_minhash *b)
{
    int n = 0;

    for (int i = 0; i < FS_MINHASH_N; i++)
        n += a->min[i] == b->min[i];
    return (double)n / FS_MINHASH_N;
}

/* Texts of one band's value are a chain: slots hold the last one + 1, next the one before. */
struct fs_near {
    double threshold;
    fs_minhash *kept;
    uint32_t *next; /* [capacity][bands] index + 1 of the text before with the same slot; 0: none */
    size_t n, capacity;
    uint32_t *slots; /* [bands][n_slots] */
    size_t n_slots;
};

fs_status fs_near_new(double threshold, fs_near **ret, fs_error *err)
{
    fs_near *n = calloc(1, sizeof *n);

    if (!n)
        return fs_fail_memory(err, sizeof *n);
    n->threshold = threshold;
    *ret = n;
    return FS_OK;
}

void fs_near_free(fs_near *n)
{
    if (!n)
        return;
    free(n->kept);
    free(n->next);
    free(n->slots);
    free(n);
}

static size_t band_slot(const fs_near *n, const fs_minhash *m, size_t band)
{
    uint64_t h = band;

    for (size_t i = 0; i < ROWS; i++)
        h = mix(h * 0x9e3779b97f4a7c15u + m->min[band * ROWS + i]);
    return band * n->n_slots + ((size_t)h & (n->n_slots - 1));
}

static void link_text(fs_near *n, size_t i)
{
    for (size_t band = 0; band < FS_MINHASH_BANDS; band++) {
        uint32_t *slot = &n->slots[band_slot(n, &n->kept[i], band)];
        n->next[i * FS_MINHASH_BANDS + band] = *slot;
        *slot = (uint32_t)i + 1;
    }
}

static fs_status grow(fs_near *n, fs_error *err)
{
    size_t capacity = n->capacity ? n->capacity * 2 : 256;
    fs_minhash *kept = realloc(n->kept, capacity * sizeof *kept);
    uint32_t *next, *slots;

    if (!kept)
        return fs_fail_memory(err, capacity * sizeof *kept);
    n->kept = kept;
    next = realloc(n->next, capacity * FS_MINHASH_BANDS * sizeof *next);
    if (!next)
        return fs_fail_memory(err, capacity * FS_MINHASH_BANDS * sizeof *next);
    n->next = next;
    slots = calloc(2 * capacity * FS_MINHASH_BANDS, sizeof *slots);
    if (!slots)
        return fs_fail_memory(err, 2 * capacity * FS_MINHASH_BANDS * sizeof *slots);
    free(n->slots);
    n->slots = slots;
    n->n_slots = 2 * capacity;
    n->capacity = capacity;
    for (size_t i = 0; i < n->n; i++)
        link_text(n, i);
    return FS_OK;
}

fs_status fs_near_add(fs_near *n, const fs_minhash *m, bool *ret_is, fs_error *err)
{
    fs_status rc = n->n == n->capacity ? grow(n, err) : FS_OK;

    if (rc)
        return rc;
    *ret_is = false;
    for (size_t band = 0; band < FS_MINHASH_BANDS && !*ret_is; band++)
        for (uint32_t i = n->slots[band_slot(n, m, band)]; i && !*ret_is; i = n->next[(size_t)(i - 1) * FS_MINHASH_BANDS + band])
            *ret_is = fs_minhash_similarity(&n->kept[i - 1], m) >= n->threshold;
    if (*ret_is)
        return FS_OK;
    if (n->n >= UINT32_MAX - 1)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "more than %zu texts", n->n);
    n->kept[n->n] = *m;
    link_text(n, n->n++);
    return FS_OK;
}

/* ---- decontamination ---- */

void fs_eval_grams_done(fs_eval_grams *g)
{
    if (!g)
        return;
    fs_hash_set_done(&g->grams);
    fs_hash_set_done(&g->wholes);
}

fs_status fs_eval_grams_add(fs_eval_grams *g, const uint64_t *words, size_t n, fs_error *err)
{
    size_t length = n < g->ngram ? n : g->ngram;
    bool is_new;
    fs_status rc = FS_OK;

    if (n == 0)
        return FS_OK;
    if (length < FS_ITEM_WORDS_MIN && length < g->ngram)
        return fs_hash_set_add(&g->wholes, ngram_hash(words, n), &is_new, err);
    g->lengths[length] = true;
    for (size_t i = 0; i + length <= n && !rc; i++)
        rc = fs_hash_set_add(&g->grams, ngram_hash(words + i, length), &is_new, err);
    return rc;
}

bool fs_eval_grams_meet(const fs_eval_grams *g, const uint64_t *words, size_t n)
{
    if (n && n < FS_ITEM_WORDS_MIN && fs_hash_set_has(&g->wholes, ngram_hash(words, n)))
        return true;
    for (size_t length = 1; length <= g->ngram; length++)
        for (size_t i = 0; g->lengths[length] && i + length <= n; i++)
            if (fs_hash_set_has(&g->grams, ngram_hash(words + i, length)))
                return true;
    return false;
}

/* ---- quality ---- */

const fs_quality fs_quality_none = { 0, 1e12, 0, 1e12, 0, 1e12, 1, 1, 1, 1, 0 };
const fs_quality fs_quality_gopher = { 50, 100000, 3, 10, 0.8, 0.1, 0.3, 0.9, 0.3, 1, 2 };

typedef struct counts {
    double words, characters, letter_words, symbols, lines, ellipsis_lines, bullet_lines, repeated_lines;
    unsigned stop_words;
} counts;

static bool ends_in_ellipsis(fs_bytes s)
{
    return (s.n_bytes >= 3 && (memcmp(s.data + s.n_bytes - 3, "...", 3) == 0 || memcmp(s.data + s.n_bytes - 3, "\xe2\x80\xa6", 3) == 0));
}

static bool starts_with_bullet(fs_bytes s)
{
    return s.n_bytes && (s.data[0] == '-' || s.data[0] == '*' || (s.n_bytes >= 3 && memcmp(s.data, "\xe2\x80\xa2", 3) == 0));
}

static void count_word(counts *c, fs_bytes w)
{
    static const char *const stops[] = { "the", "be", "to", "of", "and", "that", "have", "with" };
    bool letter = false;

    c->words++;
    for (size_t i = 0; i < w.n_bytes; i++) {
        letter |= w.data[i] >= 0x80 || isalpha(w.data[i]);
        c->characters += (w.data[i] & 0xc0) != 0x80;
        c->symbols += w.data[i] == '#';
    }
    c->letter_words += letter;
    c->symbols += ends_in_ellipsis(w);
    for (unsigned i = 0; i < 8; i++)
        if (w.n_bytes == strlen(stops[i]) && strncasecmp((const char *)w.data, stops[i], w.n_bytes) == 0)
            c->stop_words |= 1u << i;
}

static fs_status count_lines(counts *c, fs_bytes text, fs_error *err)
{
    fs_hash_set seen = { 0 };
    fs_lines lines = { .text = text };
    fs_bytes line;
    fs_status rc = FS_OK;

    while (!rc && fs_lines_next(&lines, &line)) {
        uint64_t h;
        bool is_new = true;
        line = fs_bytes_trim(line, FS_SPACES);
        if (!line.n_bytes)
            continue;
        h = line.n_bytes;
        c->lines++;
        c->ellipsis_lines += ends_in_ellipsis(line);
        c->bullet_lines += starts_with_bullet(line);
        for (size_t i = 0; i < line.n_bytes; i++)
            h = (h ^ line.data[i]) * 0x100000001b3u;
        h = mix(h);
        rc = fs_hash_set_add(&seen, h ? h : 1, &is_new, err);
        c->repeated_lines += !is_new;
        for (size_t i = 0; i < line.n_bytes;) {
            size_t k = i;
            while (k < line.n_bytes && !isspace(line.data[k]))
                k++;
            if (k > i)
                count_word(c, (fs_bytes){ line.data + i, k - i });
            i = k + 1;
        }
    }
    fs_hash_set_done(&seen);
    return rc;
}

static fs_status repeated_grams(fs_bytes text, double *ret, fs_error *err)
{
    fs_hashes words = { 0 };
    fs_hash_set seen = { 0 };
    size_t n = 0, repeated = 0;
    fs_status rc = fs_words_hash(text, &words, err);

    for (size_t i = 0; i + 5 <= words.n && !rc; i++, n++) {
        bool is_new = true;
        rc = fs_hash_set_add(&seen, ngram_hash(words.data + i, 5), &is_new, err);
        repeated += !is_new;
    }
    *ret = n ? (double)repeated / (double)n : 0;
    fs_hashes_done(&words);
    fs_hash_set_done(&seen);
    return rc;
}

fs_status fs_quality_check(const fs_quality *q, fs_bytes text, const char **ret_rule, fs_error *err)
{
    counts c = { 0 };
    double grams = 0, words, lines;
    int n_stops = 0;
    fs_status rc = count_lines(&c, text, err);

    if (!rc && q->repeated_grams_max < 1)
        rc = repeated_grams(text, &grams, err);
    if (rc)
        return rc;
    words = c.words > 0 ? c.words : 1;
    lines = c.lines > 0 ? c.lines : 1;
    for (unsigned i = 0; i < 8; i++)
        n_stops += c.stop_words >> i & 1;
    *ret_rule = c.words < q->words_min                          ? "words-min"
                : c.words > q->words_max                        ? "words-max"
                : c.characters / words < q->word_length_min     ? "word-length-min"
                : c.characters / words > q->word_length_max     ? "word-length-max"
                : c.letter_words / words < q->letter_words_min  ? "letter-words-min"
                : c.symbols / words > q->symbols_max            ? "symbols-max"
                : c.ellipsis_lines / lines > q->ellipsis_lines_max ? "ellipsis-lines-max"
                : c.bullet_lines / lines > q->bullet_lines_max  ? "bullet-lines-max"
                : c.repeated_lines / lines > q->repeated_lines_max ? "repeated-lines-max"
                : grams > q->repeated_grams_max                 ? "repeated-grams-max"
                : n_stops < q->stop_words_min                   ? "stop-words-min"
                                                                : NULL;
    return FS_OK;
}
