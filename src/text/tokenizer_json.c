/* Hugging Face tokenizer.json. The two large members of "model" are pulled from the text, the rest goes through
 * json-c. Whatever changes ids and is not known here is refused by name; truncation and padding are what a batch
 * asks for, not what the text is, and are ignored.
 *
 * Source: huggingface/tokenizers (serde of Tokenizer and of each component). */
#include "text/tokenizer_impl.h"

#include "base/json.h"
#include "base/utf8.h"
#include "base/pull.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 8 /* of Sequence within Sequence */

typedef struct reader {
    fs_tokenizer *t;
    fs_pull pull;
    struct json_object *added, *normalizer, *pre_tokenizer, *post_processor, *decoder;
    struct json_object *model; /* the small members of "model" */
    fs_bytes merges;           /* the text of model.merges, when it came before the vocabulary */
    bool has_vocab, has_merges, has_model, byte_level;
} reader;

static bool key_is(fs_bytes key, const char *name)
{
    return fs_bytes_equal(key, fs_bytes_str(name));
}

/* ---- model ---- */

static fs_status read_vocab(reader *r, fs_error *err)
{
    uint8_t bytes[FS_VOCAB_TOKEN_MAX];
    fs_status rc = fs_pull_expect(&r->pull, '{', err);
    size_t n = 0;
    bool more;

    for (;;) {
        fs_bytes text;
        int64_t id;
        size_t n_bytes;
        if (rc || (rc = fs_pull_more(&r->pull, '}', &n, &more, err)) || !more)
            return rc;
        if ((rc = fs_pull_key(&r->pull, &text, err)))
            return rc;
        if (text.n_bytes > FS_VOCAB_TOKEN_MAX)
            return fs_fail(err, FS_ERR_FORMAT, "vocabulary entry %zu has %zu bytes, at most %d are allowed", n, text.n_bytes,
                           FS_VOCAB_TOKEN_MAX);
        if (fs_alphabet_decode(text, bytes, &n_bytes)) {
            if ((rc = fs_pull_int(&r->pull, &id, err)))
                return rc;
            rc = fs_vocab_set(&r->t->vocab, id, (fs_bytes){ bytes, n_bytes }, FS_VOCAB_BYTES, err);
        } else {
            if (!fs_utf8_valid(text))
                return fs_fail(err, FS_ERR_FORMAT, "vocabulary entry %zu is not UTF-8", n);
            /* The number is no string, so text stays borrowed. */
            if ((rc = fs_pull_int(&r->pull, &id, err)))
                return rc;
            rc = fs_vocab_set(&r->t->vocab, id, text, FS_VOCAB_RAW, err);
        }
    }
}

typedef struct part {
    uint8_t bytes[FS_VOCAB_TOKEN_MAX];
    size_t n;
} part;

static fs_status merge_part(fs_bytes text, part *p, size_t k, fs_error *err)
{
    if (text.n_bytes > FS_VOCAB_TOKEN_MAX || !fs_alphabet_decode(text, p->bytes, &p->n))
        return fs_fail(err, FS_ERR_FORMAT, "merge %zu: a part of %zu bytes is not in the byte alphabet", k, text.n_bytes);
    return FS_OK;
}

/* Both spellings: "left right", and ["left", "right"]. */
static fs_status read_merges(reader *r, fs_pull *p, fs_error *err)
{
    part left, right;
    fs_status rc = fs_pull_expect(p, '[', err);
    size_t n = 0;
    bool more;

    for (;;) {
        fs_bytes text;
        if (rc || (rc = fs_pull_more(p, ']', &n, &more, err)) || !more)
            return rc;
        if (fs_pull_peek(p) == '[') {
            p->at++;
            if ((rc = fs_pull_string(p, &text, err)) || (rc = merge_part(text, &left, n - 1, err)) ||
                (rc = fs_pull_expect(p, ',', err)) || (rc = fs_pull_string(p, &text, err)) ||
                (rc = merge_part(text, &right, n - 1, err)) || (rc = fs_pull_expect(p, ']', err)))
                return rc;
        } else {
            const uint8_t *space;
            size_t n_left;
            if ((rc = fs_pull_string(p, &text, err)))
                return rc;
            space = text.n_bytes ? memchr(text.data, ' ', text.n_bytes) : NULL;
            if (!space)
                return fs_fail(err, FS_ERR_FORMAT, "merge %zu has no space", n - 1);
            n_left = (size_t)(space - text.data);
            if ((rc = merge_part((fs_bytes){ text.data, n_left }, &left, n - 1, err)) ||
                (rc = merge_part((fs_bytes){ space + 1, text.n_bytes - n_left - 1 }, &right, n - 1, err)))
                return rc;
        }
        rc = fs_vocab_add_merge(&r->t->vocab, (fs_bytes){ left.bytes, left.n }, (fs_bytes){ right.bytes, right.n }, err);
    }
}

/* Parses one small value of the text. */
static fs_status small_value(reader *r, struct json_object **ret, fs_error *err)
{
    fs_bytes text;
    fs_status rc = fs_pull_skip(&r->pull, &text, err);

    return rc ? rc : fs_json_parse(text, r->pull.what, ret, err);
}

static fs_status read_model(reader *r, fs_error *err)
{
    fs_status rc = fs_pull_expect(&r->pull, '{', err);
    size_t n = 0;
    bool more;

    if (rc)
        return rc;
    if (r->has_model)
        return fs_fail(err, FS_ERR_FORMAT, "two members are called 'model'");
    r->has_model = true;
    r->model = json_object_new_object();
    if (!r->model)
        return fs_fail_memory(err, 64);
    for (;;) {
        fs_bytes key;
        if (rc || (rc = fs_pull_more(&r->pull, '}', &n, &more, err)) || !more || (rc = fs_pull_key(&r->pull, &key, err)))
            break;
        if (key_is(key, "vocab")) {
            if (r->has_vocab)
                return fs_fail(err, FS_ERR_FORMAT, "two members are called 'vocab'");
            r->has_vocab = true;
            rc = read_vocab(r, err);
        } else if (key_is(key, "merges")) {
            if (r->has_merges)
                return fs_fail(err, FS_ERR_FORMAT, "two members are called 'merges'");
            r->has_merges = true;
            rc = r->has_vocab ? read_merges(r, &r->pull, err) : fs_pull_skip(&r->pull, &r->merges, err);
        } else {
            struct json_object *v = NULL;
            char name[64];
            snprintf(name, sizeof name, "%.*s", (int)(key.n_bytes < 63 ? key.n_bytes : 63), (const char *)key.data);
            if (!(rc = small_value(r, &v, err)) && json_object_object_add(r->model, name, v)) {
                json_object_put(v);
                rc = fs_fail_memory(err, 64);
            }
        }
    }
    if (!rc && (!r->has_vocab || !r->has_merges))
        return fs_fail(err, FS_ERR_FORMAT, "the model has no %s", r->has_vocab ? "merges" : "vocab");
    if (!rc && r->merges.data) {
        fs_pull later = { .text = r->merges, .what = r->pull.what };
        rc = read_merges(r, &later, err);
        fs_pull_done(&later);
    }
    return rc;
}

static fs_status check_model(reader *r, fs_error *err)
{
    static const char *const affixes[] = { "continuing_subword_prefix", "end_of_word_suffix" };
    fs_bytes text = { 0 };
    bool found = false, byte_fallback = false;
    double dropout = 0;
    fs_status rc;

    if ((rc = fs_json_string(r->model, "type", &text, &found, err)))
        return rc;
    if (found && !key_is(text, "BPE"))
        return fs_fail(err, FS_ERR_UNSUPPORTED, "the model's type is '%.*s', known is BPE", (int)text.n_bytes, (const char *)text.data);
    for (int i = 0; i < 2; i++) {
        if ((rc = fs_json_string(r->model, affixes[i], &text, &found, err)))
            return rc;
        if (found && text.n_bytes)
            return fs_fail(err, FS_ERR_UNSUPPORTED, "the model has a %s, '%.*s'", affixes[i], (int)text.n_bytes, (const char *)text.data);
    }
    if ((rc = fs_json_double(r->model, "dropout", &dropout, NULL, err)))
        return rc;
    if (dropout != 0)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "the model has dropout %g: its ids are random", dropout);
    if ((rc = fs_json_bool(r->model, "byte_fallback", &byte_fallback, NULL, err)) ||
        (rc = fs_json_bool(r->model, "ignore_merges", &r->t->ignore_merges, NULL, err)) ||
        (rc = fs_json_bool(r->model, "fuse_unk", &r->t->bpe.fuse_unk, NULL, err)) ||
        (rc = fs_json_string(r->model, "unk_token", &text, &found, err)))
        return rc;
    for (int b = 0; b < 256 && byte_fallback; b++) {
        uint8_t byte = (uint8_t)b;
        if (fs_vocab_find(&r->t->vocab, (fs_bytes){ &byte, 1 }) < 0)
            return fs_fail(err, FS_ERR_UNSUPPORTED, "byte_fallback with a vocabulary that lacks byte %d", b);
    }
    if (found) {
        uint8_t *bytes = malloc(text.n_bytes ? text.n_bytes : 1);
        size_t n;
        if (!bytes)
            return fs_fail_memory(err, text.n_bytes);
        if (fs_alphabet_decode(text, bytes, &n))
            r->t->bpe.unk_id = fs_vocab_find(&r->t->vocab, (fs_bytes){ bytes, n });
        for (size_t i = 0; i < r->t->vocab.n_ids && r->t->bpe.unk_id < 0; i++)
            if (r->t->vocab.entries[i].kind == FS_VOCAB_RAW && fs_bytes_equal(fs_vocab_bytes(&r->t->vocab, (int32_t)i), text))
                r->t->bpe.unk_id = (int32_t)i;
        free(bytes);
        if (r->t->bpe.unk_id < 0)
            return fs_fail(err, FS_ERR_FORMAT, "unk_token '%.*s' is not in the vocabulary", (int)text.n_bytes, (const char *)text.data);
    }
    return FS_OK;
}

/* ---- the small components ---- */

static fs_status type_of(struct json_object *o, const char *component, fs_bytes *ret, fs_error *err)
{
    bool found = false;
    fs_status rc;

    if (!json_object_is_type(o, json_type_object))
        return fs_fail(err, FS_ERR_FORMAT, "%s is not an object", component);
    rc = fs_json_string(o, "type", ret, &found, err);
    return rc || found ? rc : fs_fail(err, FS_ERR_FORMAT, "%s has no type", component);
}

static fs_status unknown(const char *component, fs_bytes type, fs_error *err)
{
    return fs_fail(err, FS_ERR_UNSUPPORTED, "%s '%.*s' is not known", component, type.n_bytes < 100 ? (int)type.n_bytes : 100,
                   (const char *)type.data);
}

/* The items of a Sequence: the array called `member`. */
static fs_status items_of(struct json_object *o, const char *component, const char *member, int depth, struct json_object **ret,
                          fs_error *err)
{
    struct json_object *list = fs_json_member(o, member);

    if (!json_object_is_type(list, json_type_array))
        return fs_fail(err, FS_ERR_FORMAT, "%s 'Sequence' has no list '%s'", component, member);
    if (depth >= DEPTH_MAX)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "%s nests deeper than %d", component, DEPTH_MAX);
    *ret = list;
    return FS_OK;
}

static fs_status read_normalizer(reader *r, struct json_object *o, int depth, fs_error *err)
{
    struct json_object *list;
    fs_bytes type = { 0 };
    fs_status rc;

    if (!o)
        return FS_OK;
    if ((rc = type_of(o, "normalizer", &type, err)))
        return rc;
    if (key_is(type, "NFC")) {
        r->t->nfc = true;
        return FS_OK;
    }
    if (!key_is(type, "Sequence"))
        return unknown("normalizer", type, err);
    rc = items_of(o, "normalizer", "normalizers", depth, &list, err);
    for (size_t i = 0; !rc && i < json_object_array_length(list); i++)
        rc = read_normalizer(r, json_object_array_get_idx(list, i), depth + 1, err);
    return rc;
}

static fs_status read_split(reader *r, struct json_object *o, fs_error *err)
{
    static const char *const names[FS_SPLIT_BEHAVIOR_END] = { "Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous" };
    struct json_object *pattern = fs_json_member(o, "pattern");
    fs_bytes text = { 0 }, behavior = { 0 };
    bool is_regex = false, is_string = false, invert = false, found = false;
    fs_status rc;
    int b = 0;

    if ((rc = fs_json_string(pattern, "Regex", &text, &is_regex, err)) ||
        (!is_regex && (rc = fs_json_string(pattern, "String", &text, &is_string, err))) ||
        (rc = fs_json_bool(o, "invert", &invert, NULL, err)) || (rc = fs_json_string(o, "behavior", &behavior, &found, err)))
        return rc;
    if (!is_regex && !is_string)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "pre_tokenizer 'Split' has a pattern that is neither Regex nor String");
    while (b < FS_SPLIT_BEHAVIOR_END && !(found && key_is(behavior, names[b])))
        b++;
    if (b == FS_SPLIT_BEHAVIOR_END)
        return unknown("the behavior of a Split,", behavior, err);
    return fs_split_add(&r->t->split, text, is_string, (fs_split_behavior)b, invert, err);
}

static fs_status read_pre_tokenizer(reader *r, struct json_object *o, int depth, fs_error *err)
{
    struct json_object *list;
    fs_bytes type = { 0 };
    bool use_regex = true, individual = false;
    fs_status rc = type_of(o, "pre_tokenizer", &type, err);

    if (rc)
        return rc;
    if (key_is(type, "Sequence")) {
        rc = items_of(o, "pre_tokenizer", "pretokenizers", depth, &list, err);
        for (size_t i = 0; !rc && i < json_object_array_length(list); i++)
            rc = read_pre_tokenizer(r, json_object_array_get_idx(list, i), depth + 1, err);
        return rc;
    }
    if (r->byte_level)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "pre_tokenizer '%.*s' comes after ByteLevel", (int)type.n_bytes, (const char *)type.data);
    if (key_is(type, "Split"))
        return read_split(r, o, err);
    if (key_is(type, "Digits")) {
        rc = fs_json_bool(o, "individual_digits", &individual, NULL, err);
        return rc ? rc : fs_split_add(&r->t->split, FS_BYTES_LIT("\\p{N}"), false,
                                      individual ? FS_SPLIT_ISOLATED : FS_SPLIT_CONTIGUOUS, false, err);
    }
    if (!key_is(type, "ByteLevel"))
        return unknown("pre_tokenizer", type, err);
    r->byte_level = true;
    if ((rc = fs_json_bool(o, "add_prefix_space", &r->t->split.prefix_space, NULL, err)) ||
        (rc = fs_json_bool(o, "use_regex", &use_regex, NULL, err)))
        return rc;
    r->t->split.prefix_step = r->t->split.n_steps;
    return use_regex ? fs_split_add(&r->t->split, fs_bytes_str(fs_split_gpt2), false, FS_SPLIT_ISOLATED, false, err) : FS_OK;
}

/* Only what comes before the text matters: FS_ENCODE_BOS. */
static fs_status read_template(reader *r, struct json_object *o, fs_error *err)
{
    struct json_object *single = fs_json_member(o, "single"), *tokens = fs_json_member(o, "special_tokens");

    if (!json_object_is_type(single, json_type_array))
        return fs_fail(err, FS_ERR_FORMAT, "post_processor 'TemplateProcessing' has no list 'single'");
    for (size_t i = 0; i < json_object_array_length(single); i++) {
        struct json_object *piece = json_object_array_get_idx(single, i), *ids;
        fs_bytes name = { 0 };
        bool found = false;
        fs_status rc;
        if (fs_json_member(piece, "Sequence"))
            return FS_OK;
        rc = fs_json_string(fs_json_member(piece, "SpecialToken"), "id", &name, &found, err);
        if (rc)
            return rc;
        ids = found ? fs_json_member(fs_json_member(tokens, (const char *)name.data), "ids") : NULL;
        if (!json_object_is_type(ids, json_type_array))
            return fs_fail(err, FS_ERR_FORMAT, "post_processor: piece %zu of the template names no token", i);
        for (size_t k = 0; k < json_object_array_length(ids); k++) {
            struct json_object *id = json_object_array_get_idx(ids, k);
            int64_t v = json_object_is_type(id, json_type_int) ? json_object_get_int64(id) : -1;
            if (v < 0 || v >= FS_VOCAB_IDS_MAX || r->t->n_bos == FS_TOKENIZER_BOS_MAX)
                return fs_fail(err, FS_ERR_FORMAT, "post_processor: token id %" PRId64 ", the %zuth in front of the text", v, r->t->n_bos + 1);
            r->t->bos[r->t->n_bos++] = (int32_t)v;
        }
    }
    return FS_OK;
}

static fs_status read_post_processor(reader *r, struct json_object *o, int depth, fs_error *err)
{
    struct json_object *list;
    fs_bytes type = { 0 };
    fs_status rc;

    if (!o)
        return FS_OK;
    if ((rc = type_of(o, "post_processor", &type, err)))
        return rc;
    if (key_is(type, "ByteLevel")) /* moves offsets, changes no id */
        return FS_OK;
    if (key_is(type, "TemplateProcessing"))
        return read_template(r, o, err);
    if (!key_is(type, "Sequence"))
        return unknown("post_processor", type, err);
    rc = items_of(o, "post_processor", "processors", depth, &list, err);
    for (size_t i = 0; !rc && i < json_object_array_length(list); i++)
        rc = read_post_processor(r, json_object_array_get_idx(list, i), depth + 1, err);
    return rc;
}

static fs_status check_decoder(struct json_object *o, fs_error *err)
{
    fs_bytes type = { 0 };
    fs_status rc;

    if (!o)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "there is no decoder, known is ByteLevel");
    rc = type_of(o, "decoder", &type, err);
    return rc || key_is(type, "ByteLevel") ? rc : unknown("decoder", type, err);
}

static fs_status read_added(reader *r, fs_error *err)
{
    if (!r->added)
        return FS_OK;
    if (!json_object_is_type(r->added, json_type_array))
        return fs_fail(err, FS_ERR_FORMAT, "added_tokens is not a list");
    for (size_t i = 0; i < json_object_array_length(r->added); i++) {
        struct json_object *o = json_object_array_get_idx(r->added, i);
        fs_added_token token = { .id = -1 };
        fs_bytes text = { 0 };
        bool found_id = false, found_text = false, normalized = false;
        int64_t id = -1;
        fs_status rc;

        if ((rc = fs_json_int(o, "id", 0, FS_VOCAB_IDS_MAX - 1, &id, &found_id, err)) ||
            (rc = fs_json_string(o, "content", &text, &found_text, err)) ||
            (rc = fs_json_bool(o, "special", &token.special, NULL, err)) ||
            (rc = fs_json_bool(o, "normalized", &normalized, NULL, err)) ||
            (rc = fs_json_bool(o, "single_word", &token.single_word, NULL, err)) ||
            (rc = fs_json_bool(o, "lstrip", &token.lstrip, NULL, err)) || (rc = fs_json_bool(o, "rstrip", &token.rstrip, NULL, err)))
            return fs_fail_prefix(err, "added token %zu", i), rc;
        if (!found_id || !found_text)
            return fs_fail(err, FS_ERR_FORMAT, "added token %zu has no %s", i, found_id ? "content" : "id");
        token.id = (int32_t)id;
        rc = fs_tokenizer_add(r->t, text, token, normalized, err);
        if (rc)
            return rc;
    }
    return FS_OK;
}

static fs_status read_all(reader *r, fs_error *err)
{
    static const char *const names[] = { "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder" };
    struct json_object **const values[] = { &r->added, &r->normalizer, &r->pre_tokenizer, &r->post_processor, &r->decoder };
    fs_status rc = fs_pull_expect(&r->pull, '{', err);
    size_t n = 0;
    bool more;

    for (;;) {
        struct json_object *v = NULL;
        fs_bytes key;
        size_t k = 0;
        if (rc)
            return rc;
        if ((rc = fs_pull_more(&r->pull, '}', &n, &more, err)))
            return rc;
        if (!more)
            break;
        if ((rc = fs_pull_key(&r->pull, &key, err)))
            return rc;
        if (key_is(key, "model")) {
            rc = read_model(r, err);
            continue;
        }
        while (k < 5 && !key_is(key, names[k]))
            k++;
        if (k == 5) {
            rc = fs_pull_skip(&r->pull, &(fs_bytes){ 0 }, err);
            continue;
        }
        if ((rc = small_value(r, &v, err)))
            return rc;
        json_object_put(*values[k]);
        *values[k] = v;
    }
    if (fs_pull_peek(&r->pull))
        return fs_fail(err, FS_ERR_FORMAT, "something follows the JSON value at byte %zu of %zu", r->pull.at, r->pull.text.n_bytes);
    if (!r->has_model)
        return fs_fail(err, FS_ERR_FORMAT, "there is no model");
    if (!r->pre_tokenizer)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "there is no pre_tokenizer, known is ByteLevel");
    if ((rc = check_model(r, err)) || (rc = read_normalizer(r, r->normalizer, 0, err)) ||
        (rc = read_pre_tokenizer(r, r->pre_tokenizer, 0, err)) || (rc = read_post_processor(r, r->post_processor, 0, err)) ||
        (rc = check_decoder(r->decoder, err)))
        return rc;
    if (!r->byte_level)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "the pre_tokenizer does not end with ByteLevel");
    rc = read_added(r, err);
    return rc ? rc : fs_tokenizer_seal(r->t, err);
}

fs_status fs_tokenizer_open_json(fs_bytes json, const char *what, fs_tokenizer **ret, fs_error *err)
{
    reader r = { .pull = { .text = json, .what = what } };
    fs_status rc = fs_tokenizer_new(&r.t, err);

    if (!rc) {
        r.t->vocab.ids_max = json.n_bytes < FS_VOCAB_IDS_MAX - FS_VOCAB_SPARSE ? json.n_bytes + FS_VOCAB_SPARSE : FS_VOCAB_IDS_MAX;
        rc = read_all(&r, err);
    }
    fs_pull_done(&r.pull);
    json_object_put(r.added);
    json_object_put(r.normalizer);
    json_object_put(r.pre_tokenizer);
    json_object_put(r.post_processor);
    json_object_put(r.decoder);
    json_object_put(r.model);
    if (rc) {
        fs_tokenizer_close(r.t);
        fs_fail_prefix(err, "tokenizer '%s'", what);
        return rc;
    }
    *ret = r.t;
    return FS_OK;
}
