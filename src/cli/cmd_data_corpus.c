/* farseek data dedup, decontaminate, filter and mix: the steps of a corpus. Each reads records, writes those that stay as they are, and prints its
 * counts. The work is in data/corpus.c. */
#include "cli/cli.h"
#include "cli/data_cli.h"
#include "cli/derive.h"

#include "base/philox.h"
#include "base/pool.h"
#include "crypto/sha256.h"
#include "data/corpus.h"
#include "text/json_text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define STREAM 0x6d697820u /* "mix " */

static fs_quality quality = { -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1 }; /* -1: not said */

static struct {
    const char *against, *rules;
    uint64_t seed;
    double threshold;
    int ngram, n, n_threads;
    bool near, no_record, json;
} opt = { .threshold = 0.8, .ngram = 0, .rules = "none" };

/* ---- what the steps share ---- */

typedef struct step {
    fs_writer w;
    fs_counts counts;
    fs_buf words; /* of one record */
    fs_hashes hashes;
    fs_derive derive;
} step;

/* Before the work; options are as they are meant. */
static fs_status step_begin(step *s, const char *stage, const fs_args *args, fs_error *err)
{
    return opt.no_record ? FS_OK : fs_derive_begin(&s->derive, stage, args, args->items[args->n - 1], err);
}

static fs_status step_end(step *s, fs_status rc, const char *out, fs_error *err)
{
    if (!rc)
        rc = fs_writer_commit(&s->w, err);
    fs_writer_close(&s->w);
    fs_buf_done(&s->words);
    fs_hashes_done(&s->hashes);
    if (!rc)
        rc = fs_derive_end(&s->derive, err);
    fs_derive_done(&s->derive);
    return rc ? rc : fs_counts_print(&s->counts, out, opt.json, err);
}

static fs_status words_of(step *s, const fs_data_record *r, fs_error *err)
{
    fs_buf_clear(&s->words);
    return fs_data_record_words(r, &s->words, err);
}

static fs_status hash_words(step *s, fs_error *err)
{
    s->hashes.n = 0;
    return fs_words_hash(fs_buf_bytes(&s->words), &s->hashes, err);
}

/* The record stays (reason NULL), or is left out and counted under the reason. */
static fs_status decide(step *s, const fs_data_record *r, const char *reason, fs_error *err)
{
    *fs_counts_of(&s->counts, "read") += 1;
    if (reason) {
        *fs_counts_of(&s->counts, reason) += 1;
        return FS_OK;
    }
    *fs_counts_of(&s->counts, "kept") += 1;
    return fs_put_line(&s->w, r->json, err);
}

/* ---- dedup ---- */

#define BATCH 1024

typedef struct entry {
    fs_data_record record;
    uint64_t hash[2];
    fs_minhash minhash;
    fs_status rc;
    fs_error err;
} entry;

typedef struct deduplication {
    step s;
    fs_pool *pool;
    entry *batch; /* [BATCH] */
    size_t n;
    fs_hash_set seen[2]; /* both halves of a hash must be old for the record to be old */
    fs_near *near;
} deduplication;

static fs_status hash_text(fs_bytes text, uint64_t ret[2], fs_error *err)
{
    uint8_t digest[32];
    fs_status rc = fs_sha256_of(text, digest, err);

    if (rc)
        return rc;
    memcpy(ret, digest, 16);
    ret[0] |= 1; /* 0 is an empty slot */
    ret[1] |= 1;
    return FS_OK;
}

static void look_at(void *ud, size_t begin, size_t end, int thread)
{
    deduplication *d = ud;
    fs_buf words = { 0 };
    fs_hashes hashes = { 0 };

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        entry *e = &d->batch[i];
        fs_buf_clear(&words);
        hashes.n = 0;
        e->rc = fs_data_record_words(&e->record, &words, &e->err);
        if (!e->rc)
            e->rc = hash_text(fs_buf_bytes(&words), e->hash, &e->err);
        if (!e->rc && d->near)
            e->rc = fs_words_hash(fs_buf_bytes(&words), &hashes, &e->err);
        if (!e->rc && d->near)
            fs_minhash_of(hashes.data, hashes.n, (size_t)opt.ngram, &e->minhash);
    }
    fs_buf_done(&words);
    fs_hashes_done(&hashes);
}

static fs_status decide_entry(deduplication *d, entry *e, fs_error *err)
{
    bool is_new[2] = { true, true }, is_near = false;
    fs_status rc = e->rc;

    if (rc && err)
        *err = e->err;
    for (int i = 0; i < 2 && !rc; i++)
        rc = fs_hash_set_add(&d->seen[i], e->hash[i], &is_new[i], err);
    if (!rc && !is_new[0] && !is_new[1])
        return decide(&d->s, &e->record, "duplicates", err);
    if (!rc && d->near)
        rc = fs_near_add(d->near, &e->minhash, &is_near, err);
    return rc ? rc : decide(&d->s, &e->record, is_near ? "near-duplicates" : NULL, err);
}

static fs_status flush(deduplication *d, fs_error *err)
{
    fs_status rc = FS_OK;

    fs_pool_for(d->pool, d->n, 8, look_at, d);
    for (size_t i = 0; i < d->n && !rc; i++)
        rc = decide_entry(d, &d->batch[i], err);
    d->n = 0;
    return rc;
}

static fs_status dedup_record(deduplication *d, const fs_data_record *r, fs_error *err)
{
    d->batch[d->n].record = *r;
    return ++d->n == BATCH ? flush(d, err) : FS_OK;
}

/* A batch ends with its file, which is mapped no longer. */
static fs_status dedup_file(deduplication *d, const char *path, fs_error *err)
{
    fs_map map = { 0 };
    fs_lines lines = { 0 };
    fs_work work;
    fs_data_record r;
    bool more = true;
    fs_status rc = fs_map_open(&map, path, err);

    lines.text = map.bytes;
    fs_work_start(&work, "deduplicating", "MiB", 1048576);
    while (!rc && !(rc = fs_data_record_next(&lines, path, &r, &more, err)) && more) {
        rc = dedup_record(d, &r, err);
        if (!rc && d->n == 0)
            rc = fs_progress_tell(&work.progress, lines.at, map.bytes.n_bytes, err);
    }
    if (!rc)
        rc = flush(d, err);
    fs_work_end(&work);
    fs_map_close(&map);
    return rc;
}

static fs_status dedup(const fs_args *args, fs_error *err)
{
    const char *out = args->items[args->n - 1];
    deduplication d = { .s.w.fd = -1 };
    fs_status rc = fs_pool_new(opt.n_threads, &d.pool, err);

    opt.ngram = opt.ngram ? opt.ngram : 5;
    for (int i = 0; i < (opt.near ? 4 : 3); i++)
        fs_counts_of(&d.s.counts, ((const char *const[]){ "read", "kept", "duplicates", "near-duplicates" })[i]);
    if (!rc && !(d.batch = malloc(BATCH * sizeof *d.batch)))
        rc = fs_fail_memory(err, BATCH * sizeof *d.batch);
    if (!rc && opt.near)
        rc = fs_near_new(opt.threshold, &d.near, err);
    if (!rc)
        rc = step_begin(&d.s, "dedup", args, err);
    if (!rc)
        rc = fs_writer_open(&d.s.w, out, err);
    for (int i = 0; i + 1 < args->n && !rc; i++)
        rc = dedup_file(&d, args->items[i], err);
    rc = step_end(&d.s, rc, out, err);
    fs_hash_set_done(&d.seen[0]);
    fs_hash_set_done(&d.seen[1]);
    fs_near_free(d.near);
    free(d.batch);
    fs_pool_free(d.pool);
    return rc;
}

/* ---- decontaminate ---- */

typedef struct decontamination {
    step s;
    fs_eval_grams grams;
} decontamination;

/* What an evaluation asks: its prompt, its users' messages, or its text. */
static fs_status question_of(step *s, const fs_data_record *r, fs_error *err)
{
    fs_json_walk walk;
    fs_bytes key, message, role, content;
    fs_status rc = FS_OK;

    if (r->kind == FS_DATA_TEXT)
        return words_of(s, r, err);
    fs_buf_clear(&s->words);
    if (r->kind == FS_DATA_PROBLEM)
        return fs_json_text_unquote(r->prompt, &s->words, err);
    fs_json_walk_init(&walk, r->messages);
    while (!rc && fs_json_walk_next(&walk, &key, &message))
        if (fs_json_text_member(message, "role", &role) && fs_bytes_equal(role, FS_BYTES_LIT("\"user\"")) &&
            fs_json_text_member(message, "content", &content) && content.data[0] == '"') {
            rc = fs_buf_append_str(&s->words, "\n", err);
            if (!rc)
                rc = fs_json_text_unquote(content, &s->words, err);
        }
    return rc;
}

static fs_status add_item(void *ud, const fs_data_record *r, const char *path, size_t line, fs_error *err)
{
    decontamination *d = ud;
    fs_status rc = question_of(&d->s, r, err);

    (void)path;
    (void)line;
    if (!rc)
        rc = hash_words(&d->s, err);
    *fs_counts_of(&d->s.counts, "evaluation items") += 1;
    return rc ? rc : fs_eval_grams_add(&d->grams, d->s.hashes.data, d->s.hashes.n, err);
}

static fs_status look_for_items(void *ud, const fs_data_record *r, const char *path, size_t line, fs_error *err)
{
    decontamination *d = ud;
    bool meets;
    fs_status rc = words_of(&d->s, r, err);

    (void)path;
    (void)line;
    if (!rc)
        rc = hash_words(&d->s, err);
    if (rc)
        return rc;
    meets = fs_eval_grams_meet(&d->grams, d->s.hashes.data, d->s.hashes.n);
    if (!meets && r->kind != FS_DATA_TEXT) { /* a short question is found as a question */
        rc = question_of(&d->s, r, err);
        if (!rc)
            rc = hash_words(&d->s, err);
        meets = !rc && fs_eval_grams_meet(&d->grams, d->s.hashes.data, d->s.hashes.n);
    }
    return rc ? rc : decide(&d->s, r, meets ? "contaminated" : NULL, err);
}

static fs_status decontaminate(const fs_args *args, fs_error *err)
{
    const char *out = args->items[args->n - 1];
    decontamination d = { .s.w.fd = -1 };
    char *list, *next;
    fs_status rc;

    opt.ngram = opt.ngram ? opt.ngram : 13;
    d.grams.ngram = (size_t)opt.ngram;
    if (!opt.against || !*opt.against)
        return fs_fail(err, FS_ERR_ARGUMENT, "--against names no evaluation set");
    for (int i = 0; i < 4; i++)
        fs_counts_of(&d.s.counts, ((const char *const[]){ "evaluation items", "read", "kept", "contaminated" })[i]);
    list = strdup(opt.against);
    if (!list)
        return fs_fail_memory(err, strlen(opt.against) + 1);
    rc = step_begin(&d.s, "decontaminate", args, err);
    for (char *path = strtok_r(list, ";", &next); path && !rc; path = strtok_r(NULL, ";", &next))
        rc = fs_records_walk((const char *const[]){ path }, 1, "reading", add_item, &d, err);
    free(list);
    if (!rc)
        rc = fs_writer_open(&d.s.w, out, err);
    if (!rc)
        rc = fs_records_walk(args->items, (size_t)args->n - 1, "decontaminating", look_for_items, &d, err);
    rc = step_end(&d.s, rc, out, err);
    fs_eval_grams_done(&d.grams);
    return rc;
}

/* ---- filter ---- */

static fs_status filter_record(void *ud, const fs_data_record *r, const char *path, size_t line, fs_error *err)
{
    step *s = ud;
    const char *rule = NULL;
    fs_status rc = words_of(s, r, err);

    (void)path;
    (void)line;
    if (!rc)
        rc = fs_quality_check(&quality, fs_buf_bytes(&s->words), &rule, err);
    return rc ? rc : decide(s, r, rule, err);
}

/* What was not said is as the set of rules has it; a negative value says nothing. */
static void complete(fs_quality *q, const fs_quality *rules)
{
    double *x = (double *)q;
    const double *y = (const double *)rules;

    for (size_t i = 0; i < sizeof *q / sizeof *x; i++)
        if (x[i] < 0)
            x[i] = y[i];
}

static fs_status filter(const fs_args *args, fs_error *err)
{
    const char *out = args->items[args->n - 1];
    step s = { .w.fd = -1 };
    fs_status rc;

    complete(&quality, strcmp(opt.rules, "gopher") == 0 ? &fs_quality_gopher : &fs_quality_none);
    fs_counts_of(&s.counts, "read");
    fs_counts_of(&s.counts, "kept");
    rc = step_begin(&s, "filter", args, err);
    if (!rc)
        rc = fs_writer_open(&s.w, out, err);
    if (!rc)
        rc = fs_records_walk(args->items, (size_t)args->n - 1, "filtering", filter_record, &s, err);
    return step_end(&s, rc, out, err);
}

/* ---- mix ---- */

#define SOURCES_MAX 20

typedef struct source {
    char *path;
    double weight;
    fs_map map;
    fs_bytes *records; /* lines */
    uint32_t *order;
    size_t n, capacity, at;
    uint64_t epoch;
} source;

static fs_status read_source(const char *text, source *s, fs_error *err)
{
    const char *equals = strrchr(text, '=');
    char *end;

    s->weight = equals ? strtod(equals + 1, &end) : 0;
    if (!equals || equals == text || end == equals + 1 || *end || !(s->weight > 0) || s->weight > 1e12)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.100s' is not like FILE=WEIGHT, with a weight above 0", text);
    s->path = strndup(text, (size_t)(equals - text));
    return s->path ? FS_OK : fs_fail_memory(err, strlen(text));
}

static fs_status open_source(source *s, fs_error *err)
{
    fs_lines lines = { 0 };
    fs_data_record r;
    bool more = true;
    fs_status rc = fs_map_open(&s->map, s->path, err);

    lines.text = s->map.bytes;
    while (!rc && !(rc = fs_data_record_next(&lines, s->path, &r, &more, err)) && more) {
        if (s->n == s->capacity) {
            size_t capacity = s->capacity ? s->capacity * 2 : 1024;
            fs_bytes *records = realloc(s->records, capacity * sizeof *records);
            if (!records)
                return fs_fail_memory(err, capacity * sizeof *records);
            s->records = records;
            s->capacity = capacity;
        }
        s->records[s->n++] = r.json;
    }
    if (!rc && (s->n == 0 || s->n > UINT32_MAX))
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' has %zu records", s->path, s->n);
    if (!rc && !(s->order = malloc(s->n * sizeof *s->order)))
        rc = fs_fail_memory(err, s->n * sizeof *s->order);
    s->at = s->n; /* a permutation is drawn first */
    return rc;
}

static fs_bytes draw_record(source *s, uint32_t number)
{
    if (s->at == s->n) {
        fs_random r;
        fs_random_init(&r, opt.seed, STREAM + 1 + number, s->epoch++);
        fs_random_order(&r, s->order, s->n);
        s->at = 0;
    }
    return s->records[s->order[s->at++]];
}

static fs_status mix_all(source *sources, size_t n, step *s, fs_error *err)
{
    double total = 0;
    fs_work work;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < n; i++)
        total += sources[i].weight;
    *fs_counts_of(&s->counts, "records") = (uint64_t)opt.n;
    fs_work_start(&work, "mixing", "records", 1);
    for (uint64_t k = 0; k < (uint64_t)opt.n && !rc; k++) {
        fs_random r;
        double u;
        size_t i = 0;
        fs_random_init(&r, opt.seed, STREAM, k);
        for (u = fs_random_unit(&r) * total; i + 1 < n && u >= sources[i].weight; i++)
            u -= sources[i].weight;
        rc = fs_put_line(&s->w, draw_record(&sources[i], (uint32_t)i), err);
        *fs_counts_of(&s->counts, sources[i].path) += 1;
        if (!rc)
            rc = fs_progress_tell(&work.progress, k + 1, (uint64_t)opt.n, err);
    }
    fs_work_end(&work);
    return rc;
}

static fs_status mix(const fs_args *args, fs_error *err)
{
    const char *out = args->items[args->n - 1];
    size_t n = (size_t)args->n - 1;
    source sources[SOURCES_MAX] = { 0 };
    step s = { .w.fd = -1 };
    fs_status rc = n > SOURCES_MAX ? fs_fail(err, FS_ERR_ARGUMENT, "%zu files, at most %d are mixed", n, SOURCES_MAX) : FS_OK;

    n = rc ? 0 : n;
    fs_counts_of(&s.counts, "records");
    for (size_t i = 0; i < n && !rc; i++) {
        rc = read_source(args->items[i], &sources[i], err);
        for (size_t k = 0; k < i && !rc; k++)
            if (strcmp(sources[k].path, sources[i].path) == 0)
                rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' is named twice", sources[i].path);
        if (!rc)
            fs_counts_of(&s.counts, sources[i].path);
    }
    for (size_t i = 0; i < n && !rc; i++)
        rc = open_source(&sources[i], err);
    if (!rc)
        rc = step_begin(&s, "mix", args, err);
    if (!rc)
        rc = fs_writer_open(&s.w, out, err);
    if (!rc)
        rc = mix_all(sources, n, &s, err);
    rc = step_end(&s, rc, out, err);
    for (size_t i = 0; i < n; i++) {
        fs_map_close(&sources[i].map);
        free(sources[i].path);
        free(sources[i].records);
        free(sources[i].order);
    }
    return rc;
}

/* ---- their faces ---- */

static const fs_option dedup_options[] = {
    FS_OPT_FLAG("near", 0, opt.near, "near-duplicates too"),
    FS_OPT_FLOAT("threshold", 0, opt.threshold, 0.1, 1, "SIMILARITY", "of their n-grams, from which on two are near (default 0.8)"),
    FS_OPT_INT("ngram", 0, opt.ngram, 0, FS_NGRAM_MAX, "N", "words of an n-gram (default 5)"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, FS_POOL_THREADS_MAX, "N", "threads (default: one a usable CPU)"),
    FS_OPT_FLAG("no-record", 0, opt.no_record, "write no record of where OUT comes from"),
    FS_OPT_FLAG("json", 0, opt.json, "counts in JSON"),
    FS_OPT_END
};

static const fs_option decontaminate_options[] = {
    FS_OPT_STR("against", 0, opt.against, "FILE;FILE", "evaluation sets, records"),
    FS_OPT_INT("ngram", 0, opt.ngram, 0, FS_NGRAM_MAX, "N", "words of an n-gram (default 13)"),
    FS_OPT_FLAG("no-record", 0, opt.no_record, "write no record of where OUT comes from"),
    FS_OPT_FLAG("json", 0, opt.json, "counts in JSON"),
    FS_OPT_END
};

static const fs_option filter_options[] = {
    FS_OPT_STR("rules", 0, opt.rules, "none|gopher", "what holds where nothing else is said (default none)"),
    FS_OPT_FLOAT("words-min", 0, quality.words_min, -1, 1e12, "N", "least words (gopher 50)"),
    FS_OPT_FLOAT("words-max", 0, quality.words_max, -1, 1e12, "N", "most words (gopher 100000)"),
    FS_OPT_FLOAT("word-length-min", 0, quality.word_length_min, -1, 1e12, "N", "least mean length of a word (gopher 3)"),
    FS_OPT_FLOAT("word-length-max", 0, quality.word_length_max, -1, 1e12, "N", "greatest mean length of a word (gopher 10)"),
    FS_OPT_FLOAT("letter-words-min", 0, quality.letter_words_min, -1, 1, "SHARE", "of words with a letter (gopher 0.8)"),
    FS_OPT_FLOAT("symbols-max", 0, quality.symbols_max, -1, 1e12, "RATIO", "'#' and ellipses for each word (gopher 0.1)"),
    FS_OPT_FLOAT("ellipsis-lines-max", 0, quality.ellipsis_lines_max, -1, 1, "SHARE", "of lines that end in an ellipsis (gopher 0.3)"),
    FS_OPT_FLOAT("bullet-lines-max", 0, quality.bullet_lines_max, -1, 1, "SHARE", "of lines that start with a bullet (gopher 0.9)"),
    FS_OPT_FLOAT("repeated-lines-max", 0, quality.repeated_lines_max, -1, 1, "SHARE", "of lines that stood before (gopher 0.3)"),
    FS_OPT_FLOAT("repeated-grams-max", 0, quality.repeated_grams_max, -1, 1, "SHARE", "of 5-grams of words that stood before (default: any)"),
    FS_OPT_FLOAT("stop-words-min", 0, quality.stop_words_min, -1, 8, "N", "how many of the, be, to, of, and, that, have, with (gopher 2)"),
    FS_OPT_FLAG("no-record", 0, opt.no_record, "write no record of where OUT comes from"),
    FS_OPT_FLAG("json", 0, opt.json, "counts in JSON"),
    FS_OPT_END
};

static const fs_option mix_options[] = {
    FS_OPT_INT("count", 'n', opt.n, 1, 1 << 30, "N", "records (needed)"),
    FS_OPT_U64("seed", 's', opt.seed, "N", "of the draws (default 0)"),
    FS_OPT_FLAG("no-record", 0, opt.no_record, "write no record of where OUT comes from"),
    FS_OPT_FLAG("json", 0, opt.json, "counts in JSON"),
    FS_OPT_END
};

static fs_status mix_checked(const fs_args *args, fs_error *err)
{
    return opt.n ? mix(args, err) : fs_fail(err, FS_ERR_ARGUMENT, "--count is needed");
}

const fs_command fs_command_data_dedup = {
    .set = { .name = "data dedup",
             .usage = "FILE... OUT",
             .summary = "Leave out records that stood before.",
             .text = "Of records with the same words the first stays. --near leaves out a record, too, whose n-grams of words are nearly those of one that "
                     "stays (MinHash, 128 values in 32 bands).",
             .options = dedup_options,
             .n_args_min = 2,
             .n_args_max = -1 },
    .run = dedup,
};

const fs_command fs_command_data_decontaminate = {
    .set = { .name = "data decontaminate",
             .usage = "FILE... OUT",
             .summary = "Leave out records that hold questions of evaluation sets.",
             .text = "A record that has N words in a row in common with a question goes; of a question of fewer words all of them count, and one of fewer than "
                     "five words must be the record's whole question.",
             .options = decontaminate_options,
             .n_args_min = 2,
             .n_args_max = -1 },
    .run = decontaminate,
};

const fs_command fs_command_data_filter = {
    .set = { .name = "data filter",
             .usage = "FILE... OUT",
             .summary = "Leave out records by rules of quality.",
             .text = "A record goes when it breaks one of the rules; it is counted under the first. --rules gopher has the values of Gopher's paper.",
             .options = filter_options,
             .n_args_min = 2,
             .n_args_max = -1 },
    .run = filter,
};

const fs_command fs_command_data_mix = {
    .set = { .name = "data mix",
             .usage = "FILE=WEIGHT... OUT",
             .summary = "Draw records from files by weight.",
             .text = "Each record comes from a file drawn by weight, and of that file the next one in a random order; a file that ends begins again in another order.",
             .options = mix_options,
             .n_args_min = 2,
             .n_args_max = -1 },
    .run = mix_checked,
};
