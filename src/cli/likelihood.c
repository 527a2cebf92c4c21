/* See the header. Every text becomes sequences of tokens whose last ones are scored; a sequence that begins as the one before it keeps the session's cache
 * so far. */
#include "cli/likelihood.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/writer.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/score.h"
#include "cli/work.h"
#include "data/records.h"
#include "engine/engine.h"
#include "kernels/math.h"
#include "text/tokenizer.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LOGITS_BYTES ((size_t)64 << 20)
#define LN2          0.6931471805599453

typedef struct sequence {
    int32_t *ids;
    size_t n, first; /* tokens [first, n) are scored */
    size_t n_bytes;  /* of text that they are */
    double nll;
} sequence;

/* A record: some of the sequences. */
typedef struct item {
    size_t begin, n;
    size_t right; /* of choices */
} item;

typedef struct measuring {
    fs_suite_kind kind;
    const fs_likelihood_options *o;
    const char *suite;
    fs_model *model;
    fs_session *session;
    sequence *sequences;
    size_t n_sequences, sequences_capacity;
    item *items;
    size_t n_items, items_capacity;
    size_t rows_max, longest, n_tokens, v;
    float *logits;    /* [rows_max, V] */
    fs_score *scores; /* [rows_max] */
    fs_writer out;
    double start;
} measuring;

/* ---- reading ---- */

static fs_status grow(void **items, size_t n, size_t *capacity, size_t size, fs_error *err)
{
    size_t more = *capacity ? 2 * *capacity : 256;
    void *p;

    if (n < *capacity)
        return FS_OK;
    p = realloc(*items, more * size);
    if (!p)
        return fs_fail_memory(err, more * size);
    *items = p;
    *capacity = more;
    return FS_OK;
}

static fs_status first_record(fs_bytes text, const char *path, struct json_object **ret, fs_error *err)
{
    fs_lines lines = { .text = text };
    fs_bytes line;

    while (fs_lines_next(&lines, &line))
        if (fs_bytes_trim(line, FS_SPACES).n_bytes)
            return fs_json_parse(line, path, ret, err);
    return fs_fail(err, FS_ERR_FORMAT, "'%s' has no records", path);
}

fs_status fs_suite_kind_of(const char *path, fs_suite_kind *ret, fs_error *err)
{
    struct json_object *json = NULL;
    fs_map map = { 0 };
    fs_status rc = fs_map_open(&map, path, err);

    if (!rc)
        rc = first_record(map.bytes, path, &json, err);
    if (!rc && !json_object_is_type(json, json_type_object))
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s', the first line is no JSON object", path);
    if (!rc)
        *ret = fs_json_member(json, "choices")                                     ? FS_SUITE_CHOICES
               : fs_json_member(json, "text") && !fs_json_member(json, "prompt") ? FS_SUITE_TEXTS
                                                                                 : FS_SUITE_PROBLEMS;
    json_object_put(json);
    fs_map_close(&map);
    return rc;
}

static fs_bytes string_of(struct json_object *o)
{
    return (fs_bytes){ (const uint8_t *)json_object_get_string(o), (size_t)json_object_get_string_len(o) };
}

static fs_status add_sequence(measuring *m, const int32_t *ids, size_t n, size_t first, size_t n_bytes, fs_error *err)
{
    sequence *s;
    fs_status rc = grow((void **)&m->sequences, m->n_sequences, &m->sequences_capacity, sizeof *m->sequences, err);

    if (rc)
        return rc;
    s = &m->sequences[m->n_sequences++];
    *s = (sequence){ .ids = malloc(n * sizeof *ids), .n = n, .first = first, .n_bytes = n_bytes };
    if (!s->ids)
        return fs_fail_memory(err, n * sizeof *ids);
    memcpy(s->ids, ids, n * sizeof *ids);
    m->longest = n > m->longest ? n : m->longest;
    m->n_tokens += n - first;
    return FS_OK;
}

static fs_status encode(const measuring *m, fs_bytes text, fs_ids *ids, fs_error *err)
{
    ids->n = 0;
    return fs_tokenizer_encode(fs_model_tokenizer(m->model), text, FS_ENCODE_PLAIN | FS_ENCODE_BOS, ids, err);
}

static fs_status add_choice(measuring *m, fs_bytes prompt, fs_bytes choice, size_t n_prompt, fs_ids *ids, fs_error *err)
{
    size_t ctx = (size_t)fs_model_ctx_tokens_max(m->model), first;
    fs_buf text = { 0 };
    fs_status rc = fs_buf_append(&text, prompt.data, prompt.n_bytes, err);

    if (!rc)
        rc = fs_buf_append(&text, choice.data, choice.n_bytes, err);
    if (!rc)
        rc = encode(m, fs_buf_bytes(&text), ids, err);
    if (!rc && (ids->n < 2 || ids->n > ctx))
        rc = fs_fail(err, FS_ERR_CONTEXT_FULL, "prompt and choice are %zu tokens, 2 to %zu fit", ids->n, ctx);
    first = n_prompt < 1 ? 1 : n_prompt < ids->n ? n_prompt : ids->n - 1;
    if (!rc)
        rc = add_sequence(m, ids->data, ids->n, first, choice.n_bytes, err);
    fs_buf_done(&text);
    return rc;
}

static fs_status find_answer(struct json_object *answer, struct json_object *choices, size_t *ret, fs_error *err)
{
    size_t n = json_object_array_length(choices);
    int64_t index = json_object_is_type(answer, json_type_int) ? json_object_get_int64(answer) : -1;

    if (index >= 0 && index < (int64_t)n) {
        *ret = (size_t)index;
        return FS_OK;
    }
    for (size_t i = 0; i < n && json_object_is_type(answer, json_type_string); i++)
        if (fs_bytes_equal(string_of(answer), string_of(json_object_array_get_idx(choices, i)))) {
            *ret = i;
            return FS_OK;
        }
    return fs_fail(err, FS_ERR_FORMAT, "the answer is no index from 0 to %zu, and none of the choices", n - 1);
}

static fs_status add_choices(measuring *m, struct json_object *json, item *it, fs_ids *ids, fs_error *err)
{
    struct json_object *prompt = fs_json_member(json, "prompt"), *choices = fs_json_member(json, "choices");
    size_t n = json_object_is_type(choices, json_type_array) ? json_object_array_length(choices) : 0, n_prompt;
    fs_bytes text, stem;
    fs_status rc;

    if (!json_object_is_type(prompt, json_type_string) || n < 2)
        return fs_fail(err, FS_ERR_FORMAT, "there is no prompt with two choices or more");
    for (size_t i = 0; i < n; i++)
        if (!json_object_is_type(json_object_array_get_idx(choices, i), json_type_string) || !string_of(json_object_array_get_idx(choices, i)).n_bytes)
            return fs_fail(err, FS_ERR_FORMAT, "choice %zu is no text", i);
    rc = find_answer(fs_json_member(json, "answer"), choices, &it->right, err);
    text = stem = string_of(prompt);
    while (stem.n_bytes && strchr(FS_SPACES, stem.data[stem.n_bytes - 1]))
        stem.n_bytes--;
    if (!rc)
        rc = encode(m, stem, ids, err);
    n_prompt = ids->n;
    for (size_t i = 0; i < n && !rc; i++)
        rc = add_choice(m, text, string_of(json_object_array_get_idx(choices, i)), n_prompt, ids, err);
    return rc;
}

static fs_status add_text(measuring *m, struct json_object *json, fs_ids *ids, fs_error *err)
{
    struct json_object *text = fs_json_member(json, "text");
    size_t ctx = (size_t)fs_model_ctx_tokens_max(m->model), bos, n = 0;
    fs_status rc;

    if (!json_object_is_type(text, json_type_string))
        return fs_fail(err, FS_ERR_FORMAT, "there is no text");
    rc = encode(m, (fs_bytes){ (const uint8_t *)"", 0 }, ids, err);
    bos = ids->n;
    if (!rc)
        rc = encode(m, string_of(text), ids, err);
    for (size_t at = 0; at < ids->n && !rc; at += n) {
        n = ids->n - at < ctx ? ids->n - at : ctx;
        if (n > 1)
            rc = add_sequence(m, ids->data + at, n, at == 0 && bos > 1 ? bos : 1, at == 0 ? string_of(text).n_bytes : 0, err);
    }
    return rc;
}

static fs_status add_record(measuring *m, fs_bytes line, size_t number, fs_ids *ids, fs_error *err)
{
    struct json_object *json = NULL;
    item *it;
    fs_status rc = grow((void **)&m->items, m->n_items, &m->items_capacity, sizeof *m->items, err);

    if (rc)
        return rc;
    it = &m->items[m->n_items++];
    *it = (item){ .begin = m->n_sequences };
    rc = fs_json_parse(line, m->suite, &json, err);
    if (!rc)
        rc = m->kind == FS_SUITE_CHOICES ? add_choices(m, json, it, ids, err) : add_text(m, json, ids, err);
    it->n = m->n_sequences - it->begin;
    json_object_put(json);
    return rc ? fs_fail_prefix(err, "'%s', line %zu", m->suite, number) : FS_OK;
}

static fs_status read_suite(measuring *m, fs_error *err)
{
    fs_map map = { 0 };
    fs_lines lines;
    fs_bytes line;
    fs_ids ids = { 0 };
    fs_status rc = fs_map_open(&map, m->suite, err);

    lines = (fs_lines){ .text = map.bytes };
    while (!rc && (!m->o->n_items || m->n_items < m->o->n_items) && fs_lines_next(&lines, &line))
        if (fs_bytes_trim(line, FS_SPACES).n_bytes)
            rc = add_record(m, line, lines.number, &ids, err);
    if (!rc && m->n_tokens == 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' has nothing to foretell", m->suite);
    fs_ids_done(&ids);
    fs_map_close(&map);
    return rc;
}

/* ---- scoring ---- */

struct rows {
    measuring *m;
    const int32_t *next;
};

static void score_rows(void *ud, size_t begin, size_t end, int thread)
{
    struct rows *r = ud;
    measuring *m = r->m;

    (void)thread;
    for (size_t i = begin; i < end; i++)
        if (!fs_score_row(m->logits + i * m->v, NULL, m->v, r->next[i], &m->scores[i]))
            m->scores[i].nll = NAN;
}

static size_t in_common(const measuring *m, const sequence *s)
{
    const int32_t *had = fs_session_tokens(m->session);
    size_t n = (size_t)fs_session_n_tokens(m->session), k = 0;

    n = n < s->first - 1 ? n : s->first - 1;
    while (k < n && had[k] == s->ids[k])
        k++;
    return k;
}

static fs_status score(measuring *m, sequence *s, fs_error *err)
{
    size_t at = in_common(m, s), n;
    fs_status rc = FS_OK;

    fs_session_truncate(m->session, (int)at);
    if (at < s->first - 1)
        rc = fs_session_eval(m->session, s->ids + at, s->first - 1 - at, 0, NULL, NULL, NULL, err);
    for (at = s->first - 1; at + 1 < s->n && !rc; at += n) {
        struct rows r = { .m = m, .next = s->ids + at + 1 };
        n = s->n - 1 - at < m->rows_max ? s->n - 1 - at : m->rows_max;
        rc = fs_session_eval(m->session, s->ids + at, n, 0, m->logits, NULL, NULL, err);
        if (rc)
            break;
        fs_pool_for(fs_model_pool(m->model), n, 1, score_rows, &r);
        for (size_t i = 0; i < n; i++)
            s->nll += m->scores[i].nll;
        if (isnan(s->nll))
            rc = fs_fail(err, FS_ERR_NUMERIC, "a probability is not a number");
    }
    return rc;
}

static fs_status score_all(measuring *m, fs_error *err)
{
    size_t done = 0;
    fs_work work;
    fs_status rc = FS_OK;

    fs_work_start(&work, "reading", "tokens", 1);
    for (size_t i = 0; i < m->n_items && !rc; i++)
        for (size_t k = m->items[i].begin; k < m->items[i].begin + m->items[i].n && !rc; k++) {
            rc = score(m, &m->sequences[k], err);
            done += m->sequences[k].n - m->sequences[k].first;
            if (!rc)
                rc = fs_progress_tell(&work.progress, done, m->n_tokens, err);
            else if (rc != FS_ERR_INTERRUPTED)
                fs_fail_prefix(err, "record %zu", i);
        }
    fs_work_end(&work);
    return rc;
}

/* ---- answers ---- */

/* The choice of the greatest log-likelihood, or the greatest a byte; the first of equals. */
static size_t chosen(const sequence *s, size_t n, bool per_byte)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        if (s[i].nll / (per_byte ? (double)s[i].n_bytes : 1) < s[best].nll / (per_byte ? (double)s[best].n_bytes : 1))
            best = i;
    return best;
}

static fs_status write_item(measuring *m, size_t i, fs_error *err)
{
    const item *it = &m->items[i];
    const sequence *s = m->sequences + it->begin;
    size_t n_tokens = 0;
    double nll = 0;
    fs_buf line = { 0 };
    fs_status rc;

    if (m->kind == FS_SUITE_CHOICES) {
        rc = fs_buf_printf(&line, err, "{\"problem\": %zu, \"answer\": %zu, \"chosen\": %zu, \"chosen_byte\": %zu, \"log_likelihood\": [", i, it->right,
                           chosen(s, it->n, false), chosen(s, it->n, true));
        for (size_t k = 0; k < it->n && !rc; k++)
            rc = fs_buf_printf(&line, err, "%s%.9g", k ? ", " : "", -s[k].nll);
        rc = rc ? rc : fs_buf_append_str(&line, "]}\n", err);
    } else {
        for (size_t k = 0; k < it->n; k++) {
            nll += s[k].nll;
            n_tokens += s[k].n - s[k].first;
        }
        rc = fs_buf_printf(&line, err, "{\"document\": %zu, \"tokens\": %zu, \"bytes\": %zu, \"nll\": %.9g}\n", i, n_tokens, it->n ? s->n_bytes : 0, nll);
    }
    if (!rc)
        rc = fs_writer_put(&m->out, line.data, line.n_bytes, err);
    fs_buf_done(&line);
    return rc;
}

static void print_choices(const measuring *m)
{
    double n = (double)m->n_items, right = 0, right_byte = 0, error, error_byte;

    for (size_t i = 0; i < m->n_items; i++) {
        const item *it = &m->items[i];
        right += chosen(m->sequences + it->begin, it->n, false) == it->right;
        right_byte += chosen(m->sequences + it->begin, it->n, true) == it->right;
    }
    right /= n;
    right_byte /= n;
    error = n > 1 ? sqrt(right * (1 - right) / (n - 1)) : 0;
    error_byte = n > 1 ? sqrt(right_byte * (1 - right_byte) / (n - 1)) : 0;
    if (m->o->json)
        printf("{\"problems\": %zu, \"right\": %.6f, \"right_error\": %.6f, \"right_byte\": %.6f, \"right_byte_error\": %.6f, \"seconds\": %.2f}\n", m->n_items, right,
               error, right_byte, error_byte, fs_seconds_now() - m->start);
    else
        printf("problems     %zu, multiple choice\nright        %.4f +- %.4f\nright, byte  %.4f +- %.4f\n", m->n_items, right, error, right_byte, error_byte);
}

static void print_texts(const measuring *m)
{
    double nll = 0, bytes = 0, tokens = (double)m->n_tokens;

    for (size_t i = 0; i < m->n_sequences; i++) {
        nll += m->sequences[i].nll;
        bytes += (double)m->sequences[i].n_bytes;
    }
    if (m->o->json)
        printf("{\"documents\": %zu, \"tokens\": %zu, \"bytes\": %.0f, \"nll_token\": %.9g, \"perplexity\": %.9g, \"bits_byte\": %.9g, \"seconds\": %.2f}\n", m->n_items,
               m->n_tokens, bytes, nll / tokens, fs_exp64(nll / tokens), nll / bytes / LN2, fs_seconds_now() - m->start);
    else
        printf("documents    %zu, %zu tokens, %.0f bytes\nperplexity   %.4f\nbits a byte  %.4f\n", m->n_items, m->n_tokens, bytes, fs_exp64(nll / tokens),
               nll / bytes / LN2);
}

/* ---- all of it ---- */

static fs_status open_session(measuring *m, fs_error *err)
{
    fs_status rc = fs_session_new(m->model, (int)m->longest, &m->session, err);

    m->v = (size_t)fs_model_vocab_size(m->model);
    m->rows_max = LOGITS_BYTES / (m->v * sizeof *m->logits) + 1;
    m->rows_max = m->rows_max < m->longest ? m->rows_max : m->longest;
    m->logits = malloc(m->rows_max * m->v * sizeof *m->logits);
    m->scores = calloc(m->rows_max, sizeof *m->scores);
    return rc || (m->logits && m->scores) ? rc : fs_fail_memory(err, m->rows_max * m->v * sizeof *m->logits);
}

static fs_status open_all(measuring *m, const char *model, fs_error *err)
{
    char *path = NULL;
    fs_status rc = fs_model_path(model, &path, err);

    if (!rc)
        rc = fs_model_open(path, &m->o->model, &m->model, err);
    free(path);
    if (!rc && !fs_model_tokenizer(m->model))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' has no tokenizer", model);
    if (!rc)
        rc = read_suite(m, err);
    return rc ? rc : open_session(m, err);
}

fs_status fs_likelihood(const char *model, const char *suite, fs_suite_kind kind, const fs_likelihood_options *o, fs_error *err)
{
    measuring m = { .kind = kind, .o = o, .suite = suite, .out = { .fd = -1 }, .start = fs_seconds_now() };
    fs_status rc = o->out ? fs_writer_open(&m.out, o->out, err) : FS_OK;

    if (!rc)
        rc = open_all(&m, model, err);
    if (!rc)
        rc = score_all(&m, err);
    for (size_t i = 0; i < m.n_items && o->out && !rc; i++)
        rc = write_item(&m, i, err);
    if (!rc && o->out)
        rc = fs_writer_commit(&m.out, err);
    if (!rc)
        (kind == FS_SUITE_CHOICES ? print_choices : print_texts)(&m);
    fs_writer_close(&m.out);
    for (size_t i = 0; i < m.n_sequences; i++)
        free(m.sequences[i].ids);
    free(m.sequences);
    free(m.items);
    free(m.logits);
    free(m.scores);
    fs_session_free(m.session);
    fs_model_close(m.model);
    return rc;
}
