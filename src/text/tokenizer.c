/* Encoding; see the header for the order of things. */
#include "text/tokenizer_impl.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

const char fs_split_gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

fs_status fs_tokenizer_new(fs_tokenizer **ret, fs_error *err)
{
    fs_tokenizer *t = calloc(1, sizeof *t);

    if (!t)
        return fs_fail_memory(err, sizeof *t);
    t->bpe.unk_id = -1;
    *ret = t;
    return FS_OK;
}

void fs_tokenizer_close(fs_tokenizer *t)
{
    if (!t)
        return;
    fs_vocab_done(&t->vocab);
    fs_split_done(&t->split);
    fs_added_done(&t->raw);
    fs_added_done(&t->normalized);
    free((void *)t->whole);
    free(t);
}

fs_status fs_tokenizer_nfc(fs_bytes text, fs_buf *storage, fs_bytes *ret_text, fs_error *err)
{
    utf8proc_uint8_t *p = NULL;
    utf8proc_ssize_t n;
    size_t i = 0;
    fs_status rc;

    /* Below U+0300 nothing combines. Its first lead byte is CC. */
    while (i < text.n_bytes && text.data[i] < 0xcc)
        i++;
    if (i == text.n_bytes) {
        *ret_text = text;
        return FS_OK;
    }
    n = utf8proc_map(text.data, (utf8proc_ssize_t)text.n_bytes, &p, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (n < 0)
        return n == UTF8PROC_ERROR_NOMEM ? fs_fail_memory(err, text.n_bytes)
                                         : fs_fail(err, FS_ERR_FORMAT, "NFC of %zu bytes: %s", text.n_bytes, utf8proc_errmsg(n));
    fs_buf_clear(storage);
    rc = fs_buf_append(storage, p, (size_t)n, err);
    free(p);
    if (rc)
        return rc;
    *ret_text = fs_buf_bytes(storage);
    return FS_OK;
}

fs_status fs_tokenizer_add(fs_tokenizer *t, fs_bytes text, fs_added_token token, bool normalized, fs_error *err)
{
    fs_vocab *v = &t->vocab;
    fs_buf storage = { 0 };
    fs_bytes there = fs_vocab_bytes(v, token.id);
    fs_status rc = FS_OK;

    if (there.n_bytes && v->entries[token.id].kind == FS_VOCAB_BYTES) {
        /* A token of the model too: then its bytes are this text, or the alphabet's reading of it. */
        uint8_t bytes[FS_VOCAB_TOKEN_MAX];
        size_t n;
        if (!fs_bytes_equal(there, text) && (text.n_bytes > sizeof bytes || !fs_alphabet_decode(text, bytes, &n) ||
                                             !fs_bytes_equal(there, (fs_bytes){ bytes, n })))
            return fs_fail(err, FS_ERR_FORMAT, "added token %d is not what the vocabulary has there", (int)token.id);
    }
    if (normalized && t->nfc)
        rc = fs_tokenizer_nfc(text, &storage, &text, err);
    if (!rc && !(there.n_bytes && v->entries[token.id].kind == FS_VOCAB_BYTES))
        rc = fs_vocab_set(v, token.id, text, FS_VOCAB_RAW, err);
    if (!rc)
        rc = fs_added_add(normalized ? &t->normalized : &t->raw, text, token, err);
    if (!rc && token.special)
        v->entries[token.id].special = true;
    fs_buf_done(&storage);
    return rc;
}

fs_status fs_tokenizer_seal(fs_tokenizer *t, fs_error *err)
{
    fs_status rc = fs_vocab_seal(&t->vocab, err);

    if (rc)
        return rc;
    t->whole = calloc(t->vocab.n_ids ? t->vocab.n_ids : 1, 1);
    return t->whole ? FS_OK : fs_fail_memory(err, t->vocab.n_ids);
}

size_t fs_tokenizer_n_ids(const fs_tokenizer *t)
{
    return t->vocab.n_ids;
}

int32_t fs_tokenizer_id(const fs_tokenizer *t, fs_bytes content)
{
    const fs_added *const lists[2] = { &t->raw, &t->normalized };

    for (int k = 0; k < 2; k++) {
        const fs_added_token *a = fs_added_exact(lists[k], content);
        if (a)
            return a->id;
    }
    return fs_vocab_find(&t->vocab, content);
}

bool fs_tokenizer_is_special(const fs_tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->vocab.n_ids && t->vocab.entries[id].special;
}

fs_bytes fs_tokenizer_bytes(const fs_tokenizer *t, int32_t id)
{
    return fs_vocab_bytes(&t->vocab, id);
}

void fs_tokenizer_set_bos(fs_tokenizer *t, int32_t id)
{
    t->n_bos = id >= 0;
    t->bos[0] = id;
}

/* ---- encoding ---- */

typedef struct encoder {
    const fs_tokenizer *t;
    fs_regex_scratch regex;
    fs_bpe_scratch bpe;
    fs_buf normalized;
    fs_ids *ids;
} encoder;

static fs_status encode_piece(void *ud, fs_bytes piece, fs_error *err)
{
    encoder *e = ud;
    const fs_tokenizer *t = e->t;
    size_t before = e->ids->n;
    int32_t id;
    uint8_t whole;
    fs_status rc;

    id = fs_vocab_find(&t->vocab, piece);
    /* A piece that spells a special token is text all the same. */
    if (id < 0 || t->vocab.entries[id].special)
        return fs_bpe_encode(&t->vocab, &t->bpe, piece, &e->bpe, e->ids, err);
    whole = t->ignore_merges ? 1 : atomic_load_explicit(&t->whole[id], memory_order_relaxed);
    if (whole == 1)
        return fs_ids_push(e->ids, id, err);
    rc = fs_bpe_encode(&t->vocab, &t->bpe, piece, &e->bpe, e->ids, err);
    if (!rc && whole == 0)
        atomic_store_explicit(&t->whole[id], e->ids->n == before + 1 && e->ids->data[before] == id ? 1 : 2, memory_order_relaxed);
    return rc;
}

typedef fs_status text_fn(encoder *e, fs_bytes text, unsigned flags, fs_error *err);

/* Cuts text at the added tokens of `list`; the rest goes to fn. */
static fs_status encode_around(encoder *e, const fs_added *list, fs_bytes text, unsigned flags, text_fn *fn, fs_error *err)
{
    size_t at = 0, begin, end;
    fs_status rc;

    while (at < text.n_bytes) {
        const fs_added_token *a = NULL;
        if (list->n_tokens && !(flags & FS_ENCODE_PLAIN))
            a = fs_added_find(list, text, at, flags & FS_ENCODE_SPECIAL, &begin, &end);
        if (!a)
            return fn(e, (fs_bytes){ text.data + at, text.n_bytes - at }, flags, err);
        if (begin > at && (rc = fn(e, (fs_bytes){ text.data + at, begin - at }, flags, err)))
            return rc;
        if ((rc = fs_ids_push(e->ids, a->id, err)))
            return rc;
        at = end;
    }
    return FS_OK;
}

static fs_status encode_rest(encoder *e, fs_bytes text, unsigned flags, fs_error *err)
{
    (void)flags;
    return fs_split_run(&e->t->split, text, &e->regex, encode_piece, e, err);
}

static fs_status encode_unnormalized(encoder *e, fs_bytes text, unsigned flags, fs_error *err)
{
    fs_status rc = e->t->nfc ? fs_tokenizer_nfc(text, &e->normalized, &text, err) : FS_OK;

    return rc ? rc : encode_around(e, &e->t->normalized, text, flags, encode_rest, err);
}

static fs_status repair_utf8(fs_bytes text, fs_buf *out, fs_error *err)
{
    fs_status rc = fs_buf_reserve(out, text.n_bytes, err);

    for (size_t i = 0; i < text.n_bytes && !rc;) {
        uint32_t code;
        size_t n = fs_utf8_next(text, i, &code);
        rc = code == FS_UTF8_BAD ? fs_buf_append(out, "\xef\xbf\xbd", 3, err) : fs_buf_append(out, text.data + i, n, err);
        i += n;
    }
    return rc;
}

fs_status fs_tokenizer_encode(const fs_tokenizer *t, fs_bytes text, unsigned flags, fs_ids *ids, fs_error *err)
{
    encoder e = { .t = t, .ids = ids };
    fs_buf repaired = { 0 };
    fs_status rc = FS_OK;

    if (flags & FS_ENCODE_BOS)
        rc = fs_ids_append(ids, t->bos, t->n_bos, err);
    if (!rc && !fs_utf8_valid(text)) {
        rc = repair_utf8(text, &repaired, err);
        text = fs_buf_bytes(&repaired);
    }
    if (!rc)
        rc = encode_around(&e, &t->raw, text, flags, encode_unnormalized, err);
    fs_regex_scratch_done(&e.regex);
    fs_bpe_scratch_done(&e.bpe);
    fs_buf_done(&e.normalized);
    fs_buf_done(&repaired);
    return rc;
}

void fs_pieces_done(fs_pieces *p)
{
    if (!p)
        return;
    fs_regex_scratch_done(&p->regex);
    fs_buf_done(&p->repaired);
    fs_buf_done(&p->normalized);
}

fs_status fs_pieces_of(fs_pieces *p, fs_bytes text, fs_split_fn *fn, void *ud, fs_error *err)
{
    fs_status rc = FS_OK;

    if (!fs_utf8_valid(text)) {
        fs_buf_clear(&p->repaired);
        rc = repair_utf8(text, &p->repaired, err);
        text = fs_buf_bytes(&p->repaired);
    }
    if (!rc && p->tokenizer->nfc)
        rc = fs_tokenizer_nfc(text, &p->normalized, &text, err);
    return rc ? rc : fs_split_run(&p->tokenizer->split, text, &p->regex, fn, ud, err);
}

/* The next added token at `from` or later of one trie, within own bytes; kept until `from` passes it. */
typedef struct marked_search {
    const fs_added *added;
    const fs_added_token *token; /* NULL: none is left */
    size_t begin, end;
} marked_search;

static void search_marked(marked_search *s, fs_bytes text, const uint8_t *foreign, size_t from)
{
    while (from < text.n_bytes) {
        size_t stop;
        while (from < text.n_bytes && foreign[from])
            from++;
        for (stop = from; stop < text.n_bytes && !foreign[stop]; stop++)
            ;
        s->token = fs_added_find(s->added, (fs_bytes){ text.data, stop }, from, true, &s->begin, &s->end);
        if (s->token)
            return;
        from = stop;
    }
    s->token = NULL;
}

fs_status fs_tokenizer_encode_marked(const fs_tokenizer *t, fs_bytes text, const uint8_t *foreign, fs_ids *ids, fs_error *err)
{
    marked_search s[2] = { { .added = &t->raw }, { .added = &t->normalized } };
    size_t at = 0;
    fs_status rc = FS_OK;

    for (int i = 0; i < 2; i++)
        search_marked(&s[i], text, foreign, 0);
    while (!rc && at < text.n_bytes) {
        const marked_search *first = s[1].token && (!s[0].token || s[1].begin < s[0].begin) ? &s[1] : &s[0];
        size_t begin = first->token ? first->begin : text.n_bytes, end = first->token ? first->end : text.n_bytes;
        if (begin > at)
            rc = fs_tokenizer_encode(t, (fs_bytes){ text.data + at, begin - at }, FS_ENCODE_PLAIN, ids, err);
        if (!rc && first->token)
            rc = fs_ids_push(ids, first->token->id, err);
        at = end;
        for (int i = 0; i < 2; i++)
            if (s[i].token && s[i].begin < at)
                search_marked(&s[i], text, foreign, at);
    }
    return rc;
}
