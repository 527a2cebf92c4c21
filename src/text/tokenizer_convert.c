/* Both forms list the same things: tokens in the GPT-2 alphabet, merges, markers, and how text is cut into pieces: GGUF
 * by a name, tokenizer.json by its expressions. The table between the two is the reader's (tokenizer_gguf.c). */
#include "text/tokenizer_convert.h"

#include "base/file.h"
#include "base/json.h"
#include "base/pull.h"
#include "text/tokenizer_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JSON_BYTES_MAX ((size_t)256 << 20)

/* ---- to GGUF ---- */
typedef struct source_token {
    size_t at, n; /* into source.texts; n 0: none */
    int32_t type;
} source_token;

typedef struct source {
    fs_buf text, config_text, jinja;
    fs_bytes vocab, merges; /* their text */
    struct json_object *added, *pre_tokenizer, *config;
    fs_tokenizer *tokenizer;
    fs_buf texts;
    source_token *tokens;
    fs_bytes steps[FS_PRE_STEPS_MAX + 1];
    size_t n_steps;
} source;

static void source_done(source *s)
{
    json_object_put(s->added);
    json_object_put(s->pre_tokenizer);
    json_object_put(s->config);
    fs_tokenizer_close(s->tokenizer);
    fs_buf_done(&s->text);
    fs_buf_done(&s->config_text);
    fs_buf_done(&s->jinja);
    fs_buf_done(&s->texts);
    free(s->tokens);
}

static fs_status read_beside(const char *folder, const char *name, fs_buf *ret, bool *ret_found, fs_error *err)
{
    char *path = fs_path_join(folder, name);
    fs_status rc = FS_OK;

    if (!path)
        return fs_fail_memory(err, strlen(folder) + strlen(name) + 2);
    *ret_found = fs_file_exists(path);
    if (*ret_found)
        rc = fs_file_read(path, JSON_BYTES_MAX, ret, err);
    free(path);
    return rc;
}

static fs_bytes text_of(struct json_object *v)
{
    return json_object_is_type(v, json_type_string)
               ? (fs_bytes){ (const uint8_t *)json_object_get_string(v), (size_t)json_object_get_string_len(v) }
               : (fs_bytes){ 0 };
}

static bool is_true(struct json_object *o, const char *key)
{
    struct json_object *v = fs_json_member(o, key);

    return json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
}

static fs_status no_name(fs_error *err)
{
    return fs_fail(err, FS_ERR_UNSUPPORTED,
                   "tokenizer.json cuts text in a way that has no name in GGUF; --no-tokenizer converts the model without it");
}

/* The expressions in order, of what the reader has already accepted. */
static fs_status collect_steps(source *s, struct json_object *o, fs_error *err)
{
    fs_bytes type = text_of(fs_json_member(o, "type")), step = { 0 };
    struct json_object *list = fs_json_member(o, "pretokenizers"), *regex = fs_json_member(o, "use_regex");
    fs_status rc = FS_OK;

    if (fs_bytes_equal(type, FS_BYTES_LIT("Sequence"))) {
        for (size_t i = 0; i < json_object_array_length(list) && !rc; i++)
            rc = collect_steps(s, json_object_array_get_idx(list, i), err);
        return rc;
    }
    if (fs_bytes_equal(type, FS_BYTES_LIT("Split"))) {
        step = text_of(fs_json_member(fs_json_member(o, "pattern"), "Regex"));
        if (!step.n_bytes || is_true(o, "invert") || !fs_bytes_equal(text_of(fs_json_member(o, "behavior")), FS_BYTES_LIT("Isolated")))
            return no_name(err);
    } else if (fs_bytes_equal(type, FS_BYTES_LIT("Digits"))) {
        if (!is_true(o, "individual_digits"))
            return no_name(err);
        step = FS_BYTES_LIT("\\p{N}");
    } else if (!regex || json_object_get_boolean(regex)) {
        step = fs_bytes_str(fs_split_gpt2);
    }
    if (!step.n_bytes)
        return FS_OK;
    if (s->n_steps > FS_PRE_STEPS_MAX)
        return no_name(err);
    s->steps[s->n_steps++] = step;
    return FS_OK;
}

/* The spans and small values of a tokenizer.json that the reader has accepted. */
static fs_status find_members(source *s, fs_bytes text, bool in_model, fs_error *err)
{
    fs_pull p = { .text = text, .what = "tokenizer.json" };
    fs_bytes key, value, model = { 0 };
    size_t n = 0;
    bool more;
    fs_status rc = fs_pull_expect(&p, '{', err);

    while (!rc && (rc = fs_pull_more(&p, '}', &n, &more, err)) == FS_OK && more) {
        bool is_vocab, is_merges, is_model, is_added, is_pre;
        rc = fs_pull_key(&p, &key, err);
        if (rc)
            break;
        is_vocab = in_model && fs_bytes_equal(key, FS_BYTES_LIT("vocab"));
        is_merges = in_model && fs_bytes_equal(key, FS_BYTES_LIT("merges"));
        is_model = !in_model && fs_bytes_equal(key, FS_BYTES_LIT("model"));
        is_added = !in_model && fs_bytes_equal(key, FS_BYTES_LIT("added_tokens"));
        is_pre = !in_model && fs_bytes_equal(key, FS_BYTES_LIT("pre_tokenizer"));
        rc = fs_pull_skip(&p, &value, err);
        if (is_vocab)
            s->vocab = value;
        if (is_merges)
            s->merges = value;
        if (is_model)
            model = value;
        if (!rc && (is_added || is_pre)) {
            struct json_object **to = is_added ? &s->added : &s->pre_tokenizer;
            json_object_put(*to);
            *to = NULL;
            rc = fs_json_parse(value, "tokenizer.json", to, err);
        }
    }
    fs_pull_done(&p);
    return rc || in_model ? rc : find_members(s, model, true, err);
}

static fs_status set_token(source *s, const fs_config *c, int64_t id, fs_bytes text, int32_t type, fs_error *err)
{
    size_t at = s->texts.n_bytes;

    if (id < 0 || id >= (int64_t)c->vocab_size)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "token %" PRId64 " '%.*s' is outside the vocabulary of %" PRIu32, id,
                       (int)(text.n_bytes < 60 ? text.n_bytes : 60), (const char *)text.data, c->vocab_size);
    s->tokens[id] = (source_token){ at, text.n_bytes, type };
    return fs_buf_append(&s->texts, text.data, text.n_bytes, err);
}

static fs_status collect_vocab(source *s, const fs_config *c, fs_error *err)
{
    fs_pull p = { .text = s->vocab, .what = "tokenizer.json" };
    size_t n = 0;
    bool more;
    fs_status rc = fs_pull_expect(&p, '{', err);

    while (!rc && (rc = fs_pull_more(&p, '}', &n, &more, err)) == FS_OK && more) {
        fs_bytes text;
        int64_t id;
        rc = fs_pull_key(&p, &text, err);
        if (!rc)
            rc = fs_pull_int(&p, &id, err); /* no string, so text stays borrowed */
        if (!rc)
            rc = set_token(s, c, id, text, FS_TOKEN_NORMAL, err);
    }
    fs_pull_done(&p);
    return rc;
}

static fs_status collect_tokens(source *s, const fs_config *c, fs_error *err)
{
    fs_status rc;

    s->tokens = calloc(c->vocab_size, sizeof *s->tokens);
    if (!s->tokens)
        return fs_fail_memory(err, c->vocab_size * sizeof *s->tokens);
    rc = collect_vocab(s, c, err);
    for (size_t i = 0; s->added && i < json_object_array_length(s->added) && !rc; i++) {
        struct json_object *o = json_object_array_get_idx(s->added, i);
        fs_bytes content = text_of(fs_json_member(o, "content"));
        if (is_true(o, "lstrip") || is_true(o, "rstrip") || is_true(o, "single_word"))
            return fs_fail(err, FS_ERR_UNSUPPORTED, "token '%.*s' strips white space or wants whole words, which GGUF cannot express",
                           (int)(content.n_bytes < 60 ? content.n_bytes : 60), (const char *)content.data);
        rc = set_token(s, c, json_object_get_int64(fs_json_member(o, "id")), content,
                       is_true(o, "special") ? FS_TOKEN_CONTROL : FS_TOKEN_USER_DEFINED, err);
    }
    return rc;
}

static fs_status put_tokens(const source *s, const fs_config *c, fs_gguf_writer *w, fs_error *err)
{
    fs_status rc = fs_gguf_put_array(w, "tokenizer.ggml.tokens", FS_GGUF_STRING, c->vocab_size, err);

    for (uint32_t i = 0; i < c->vocab_size && !rc; i++) {
        const source_token *t = &s->tokens[i];
        char pad[24];
        snprintf(pad, sizeof pad, "[PAD%" PRIu32 "]", i);
        rc = fs_gguf_put_item(w, t->n ? (fs_bytes){ (const uint8_t *)s->texts.data + t->at, t->n } : fs_bytes_str(pad), err);
    }
    if (!rc)
        rc = fs_gguf_put_array(w, "tokenizer.ggml.token_type", FS_GGUF_I32, c->vocab_size, err);
    for (uint32_t i = 0; i < c->vocab_size && !rc; i++)
        rc = fs_gguf_put_item_i32(w, s->tokens[i].n ? s->tokens[i].type : FS_TOKEN_UNUSED, err);
    return rc;
}

/* One merge as "left right"; both spellings, that and ["left", "right"], become it. */
static fs_status read_merge(fs_pull *p, fs_buf *ret, fs_error *err)
{
    bool pair = fs_pull_peek(p) == '[';
    fs_bytes text;
    fs_status rc = pair ? fs_pull_expect(p, '[', err) : FS_OK;

    fs_buf_clear(ret);
    if (!rc)
        rc = fs_pull_string(p, &text, err);
    if (!rc)
        rc = fs_buf_append(ret, text.data, text.n_bytes, err);
    if (rc || !pair)
        return rc;
    rc = fs_pull_expect(p, ',', err);
    if (!rc)
        rc = fs_pull_string(p, &text, err);
    if (!rc)
        rc = fs_buf_append(ret, " ", 1, err);
    if (!rc)
        rc = fs_buf_append(ret, text.data, text.n_bytes, err);
    return rc ? rc : fs_pull_expect(p, ']', err);
}

/* w NULL: only counts, since an array's length comes first. */
static fs_status walk_merges(const source *s, fs_gguf_writer *w, size_t *ret_n, fs_error *err)
{
    fs_pull p = { .text = s->merges, .what = "tokenizer.json" };
    fs_buf text = { 0 };
    bool more;
    fs_status rc = fs_pull_expect(&p, '[', err);

    *ret_n = 0;
    while (!rc && (rc = fs_pull_more(&p, ']', ret_n, &more, err)) == FS_OK && more) {
        rc = read_merge(&p, &text, err);
        if (!rc && w)
            rc = fs_gguf_put_item(w, fs_buf_bytes(&text), err);
    }
    fs_pull_done(&p);
    fs_buf_done(&text);
    return rc;
}

static fs_status put_merges(const source *s, fs_gguf_writer *w, fs_error *err)
{
    size_t n;
    fs_status rc = walk_merges(s, NULL, &n, err);

    if (!rc)
        rc = fs_gguf_put_array(w, "tokenizer.ggml.merges", FS_GGUF_STRING, n, err);
    return rc ? rc : walk_merges(s, w, &n, err);
}

/* chat_template.jinja, else tokenizer_config.json's chat_template, which may be a list with one called "default". */
static fs_bytes template_of(const source *s)
{
    struct json_object *t = fs_json_member(s->config, "chat_template");

    if (s->jinja.n_bytes)
        return fs_buf_bytes(&s->jinja);
    for (size_t i = 0; json_object_is_type(t, json_type_array) && i < json_object_array_length(t); i++)
        if (fs_bytes_equal(text_of(fs_json_member(json_object_array_get_idx(t, i), "name")), FS_BYTES_LIT("default")))
            return text_of(fs_json_member(json_object_array_get_idx(t, i), "template"));
    return text_of(t);
}

static fs_status put_all(source *s, const fs_config *c, fs_gguf_writer *w, fs_error *err)
{
    const fs_tokenizer *t = s->tokenizer;
    struct json_object *add_bos = fs_json_member(s->config, "add_bos_token");
    bool bos = t->n_bos == 1;
    const fs_pre *pre;
    fs_bytes name, template;
    fs_status rc = collect_steps(s, s->pre_tokenizer, err);

    if (rc)
        return rc;
    pre = fs_pre_match(s->steps, s->n_steps, t->ignore_merges, t->nfc);
    if (!pre || t->n_bos > 1 || (t->n_bos == 1 && t->bos[0] != c->bos_token_id) || t->split.prefix_space)
        return no_name(err);
    if (json_object_is_type(add_bos, json_type_boolean) && c->bos_token_id >= 0)
        bos = json_object_get_boolean(add_bos);
    name = (fs_bytes){ (const uint8_t *)pre->names + 1, strcspn(pre->names + 1, " ") };
    rc = collect_tokens(s, c, err);
    if (!rc)
        rc = fs_gguf_put_string(w, "tokenizer.ggml.model", FS_BYTES_LIT("gpt2"), err);
    if (!rc)
        rc = fs_gguf_put_string(w, "tokenizer.ggml.pre", name, err);
    if (!rc)
        rc = put_tokens(s, c, w, err);
    if (!rc)
        rc = put_merges(s, w, err);
    if (!rc)
        rc = fs_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", bos, err);
    template = template_of(s);
    if (!rc && template.n_bytes)
        rc = fs_gguf_put_string(w, "tokenizer.chat_template", template, err);
    return rc;
}

fs_status fs_tokenizer_to_gguf(const char *folder, const fs_config *c, fs_gguf_writer *w, fs_error *err)
{
    source s = { 0 };
    bool found, found_config = false, found_jinja;
    fs_status rc = read_beside(folder, "tokenizer.json", &s.text, &found, err);

    if (rc || !found) {
        source_done(&s);
        return rc;
    }
    rc = read_beside(folder, "tokenizer_config.json", &s.config_text, &found_config, err);
    if (!rc)
        rc = read_beside(folder, "chat_template.jinja", &s.jinja, &found_jinja, err);
    if (!rc)
        rc = fs_tokenizer_open_json(fs_buf_bytes(&s.text), "tokenizer.json", &s.tokenizer, err);
    if (!rc)
        rc = find_members(&s, fs_buf_bytes(&s.text), false, err);
    if (!rc && found_config)
        rc = fs_json_parse(fs_buf_bytes(&s.config_text), "tokenizer_config.json", &s.config, err);
    if (!rc)
        rc = put_all(&s, c, w, err);
    source_done(&s);
    return rc;
}

/* ---- to the Hub's layout ---- */
typedef struct token {
    fs_bytes text; /* borrowed */
    int32_t type;
} token;

typedef struct target {
    const fs_gguf *g;
    const fs_config *c;
    const fs_pre *pre;
    token *tokens;
    size_t n_tokens;
    const fs_gguf_value *merges;
    fs_buf out;
    bool add_bos;
} target;

static bool is_padding(const token *t, size_t id)
{
    char pad[32];

    snprintf(pad, sizeof pad, "[PAD%zu]", id);
    return t->text.n_bytes == 0 || (t->type == FS_TOKEN_UNUSED && fs_bytes_equal(t->text, fs_bytes_str(pad)));
}

static fs_status collect(target *t, fs_error *err)
{
    const fs_gguf_value *tokens = fs_gguf_find(t->g, "tokenizer.ggml.tokens"), *types = fs_gguf_find(t->g, "tokenizer.ggml.token_type");
    fs_bytes name = { 0 };
    size_t at = 0;
    fs_status rc = fs_gguf_string(t->g, "tokenizer.ggml.pre", &name, NULL, err);

    if (!rc)
        rc = fs_pre_find(name, &t->pre, err);
    if (rc)
        return rc;
    t->add_bos = t->pre->add_bos;
    rc = fs_gguf_bool(t->g, "tokenizer.ggml.add_bos_token", &t->add_bos, NULL, err);
    t->merges = fs_gguf_find(t->g, "tokenizer.ggml.merges");
    t->n_tokens = (size_t)tokens->n_items;
    t->tokens = calloc(t->n_tokens + 1, sizeof *t->tokens);
    if (!t->tokens)
        return fs_fail_memory(err, t->n_tokens * sizeof *t->tokens);
    for (size_t i = 0; i < t->n_tokens; i++)
        t->tokens[i] = (token){ fs_gguf_next_string(tokens, &at), types ? (int32_t)fs_gguf_number_at(types, i) : FS_TOKEN_NORMAL };
    t->add_bos = t->add_bos && t->c->bos_token_id >= 0 && (size_t)t->c->bos_token_id < t->n_tokens;
    return rc;
}

static fs_status put_steps(target *t, fs_error *err)
{
    fs_status rc = fs_buf_append_str(&t->out, "{\"type\":\"Sequence\",\"pretokenizers\":[", err);

    for (int i = 0; i < FS_PRE_STEPS_MAX && t->pre->steps[i] && !rc; i++) {
        rc = fs_buf_append_str(&t->out, "\n{\"type\":\"Split\",\"pattern\":{\"Regex\":", err);
        if (!rc)
            rc = fs_json_quote(&t->out, fs_bytes_str(t->pre->steps[i]), err);
        if (!rc)
            rc = fs_buf_append_str(&t->out, "},\"behavior\":\"Isolated\",\"invert\":false},", err);
    }
    return rc ? rc : fs_buf_append_str(&t->out, "\n{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}]}", err);
}

static fs_status put_bos_template(target *t, fs_error *err)
{
    fs_bytes bos = t->tokens[t->c->bos_token_id].text;
    fs_buf name = { 0 };
    fs_status rc = fs_json_quote(&name, bos, err);

    if (!rc)
        rc = fs_buf_printf(&t->out, err,
                           "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":%s,\"type_id\":0}},{\"Sequence\":{\"id\":\"A\","
                           "\"type_id\":0}}],\"pair\":[{\"SpecialToken\":{\"id\":%s,\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
                           "{\"SpecialToken\":{\"id\":%s,\"type_id\":1}},{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],\"special_tokens\":{%s:"
                           "{\"id\":%s,\"ids\":[%" PRId32 "],\"tokens\":[%s]}}}",
                           name.data, name.data, name.data, name.data, name.data, t->c->bos_token_id, name.data);
    fs_buf_done(&name);
    return rc;
}

static fs_status put_added(target *t, fs_error *err)
{
    bool first = true;
    fs_status rc = fs_buf_append_str(&t->out, "[", err);

    for (size_t i = 0; i < t->n_tokens && !rc; i++) {
        const token *k = &t->tokens[i];
        bool special = k->type == FS_TOKEN_CONTROL || k->type == FS_TOKEN_UNKNOWN;
        if (is_padding(k, i) || (!special && k->type != FS_TOKEN_USER_DEFINED))
            continue;
        rc = fs_buf_printf(&t->out, err, "%s\n{\"id\":%zu,\"content\":", first ? "" : ",", i);
        if (!rc)
            rc = fs_json_quote(&t->out, k->text, err);
        if (!rc)
            rc = fs_buf_printf(&t->out, err, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":%s}",
                               special ? "true" : "false");
        first = false;
    }
    return rc ? rc : fs_buf_append_str(&t->out, "]", err);
}

/* Markers stand in the vocabulary too: Hugging Face tokenizers gives an added token its id only from there. */
static fs_status put_model(target *t, fs_error *err)
{
    size_t at = 0;
    bool first = true;
    fs_status rc = fs_buf_printf(&t->out, err,
                                 "{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,\"end_of_word_suffix\":"
                                 "null,\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":%s,\"vocab\":{",
                                 t->pre->ignore_merges ? "true" : "false");

    for (size_t i = 0; i < t->n_tokens && !rc; i++) {
        if (is_padding(&t->tokens[i], i))
            continue;
        rc = fs_buf_append_str(&t->out, first ? "\n" : ",\n", err);
        if (!rc)
            rc = fs_json_quote(&t->out, t->tokens[i].text, err);
        if (!rc)
            rc = fs_buf_printf(&t->out, err, ":%zu", i);
        first = false;
    }
    if (!rc)
        rc = fs_buf_append_str(&t->out, "},\"merges\":[", err);
    for (uint64_t i = 0; i < t->merges->n_items && !rc; i++) {
        rc = fs_buf_append_str(&t->out, i ? ",\n" : "\n", err);
        if (!rc)
            rc = fs_json_quote(&t->out, fs_gguf_next_string(t->merges, &at), err);
    }
    return rc ? rc : fs_buf_append_str(&t->out, "]}", err);
}

static fs_status put_tokenizer(target *t, fs_error *err)
{
    fs_status rc = fs_buf_append_str(&t->out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n\"added_tokens\":", err);

    if (!rc)
        rc = put_added(t, err);
    if (!rc)
        rc = fs_buf_printf(&t->out, err, ",\n\"normalizer\":%s,\n\"pre_tokenizer\":", t->pre->nfc ? "{\"type\":\"NFC\"}" : "null");
    if (!rc)
        rc = put_steps(t, err);
    if (!rc)
        rc = fs_buf_append_str(&t->out, ",\n\"post_processor\":", err);
    if (!rc)
        rc = t->add_bos ? put_bos_template(t, err) : fs_buf_append_str(&t->out, "null", err);
    if (!rc)
        rc = fs_buf_append_str(&t->out, ",\n\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},\n\"model\":", err);
    if (!rc)
        rc = put_model(t, err);
    return rc ? rc : fs_buf_append_str(&t->out, "}\n", err);
}

static fs_status put_token_key(target *t, const char *key, int32_t id, fs_error *err)
{
    fs_status rc;

    if (id < 0 || (size_t)id >= t->n_tokens)
        return FS_OK;
    rc = fs_buf_printf(&t->out, err, ",\n  \"%s\": ", key);
    return rc ? rc : fs_json_quote(&t->out, t->tokens[id].text, err);
}

static fs_status put_config(target *t, fs_error *err)
{
    fs_bytes template = { 0 };
    fs_status rc = fs_gguf_string(t->g, "tokenizer.chat_template", &template, NULL, err);

    if (!rc)
        rc = fs_buf_printf(&t->out, err,
                           "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n  \"clean_up_tokenization_spaces\": false,\n  \"add_bos_token\": "
                           "%s,\n  \"model_max_length\": %" PRIu32, t->add_bos ? "true" : "false", t->c->max_position_embeddings);
    if (!rc)
        rc = put_token_key(t, "bos_token", t->c->bos_token_id, err);
    if (!rc && t->c->n_eos_token_ids)
        rc = put_token_key(t, "eos_token", t->c->eos_token_ids[0], err);
    if (!rc && template.n_bytes) {
        rc = fs_buf_append_str(&t->out, ",\n  \"chat_template\": ", err);
        if (!rc)
            rc = fs_json_quote(&t->out, template, err);
    }
    return rc ? rc : fs_buf_append_str(&t->out, "\n}\n", err);
}

static fs_status write_out(target *t, const char *folder, const char *name, fs_error *err)
{
    char *path = fs_path_join(folder, name);
    fs_status rc = path ? fs_file_write_atomic(path, fs_buf_bytes(&t->out), err) : fs_fail_memory(err, strlen(folder) + strlen(name) + 2);

    free(path);
    fs_buf_clear(&t->out);
    return rc;
}

static void remove_files(const char *folder)
{
    static const char *const names[] = { "tokenizer.json", "tokenizer_config.json" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = fs_path_join(folder, names[i]);
        if (path)
            unlink(path);
        free(path);
    }
}

fs_status fs_tokenizer_to_hub(const fs_gguf *g, const fs_config *c, const char *folder, fs_error *err)
{
    target t = { .g = g, .c = c };
    fs_tokenizer *check = NULL;
    fs_status rc;

    if (!fs_gguf_find(g, "tokenizer.ggml.model"))
        return FS_OK;
    rc = fs_tokenizer_open_gguf(g, "the GGUF", &check, err); /* which checks all that is read here */
    fs_tokenizer_close(check);
    if (!rc)
        rc = collect(&t, err);
    if (!rc)
        rc = put_tokenizer(&t, err);
    if (!rc)
        rc = write_out(&t, folder, "tokenizer.json", err);
    if (!rc)
        rc = put_config(&t, err);
    if (!rc)
        rc = write_out(&t, folder, "tokenizer_config.json", err);
    free(t.tokens);
    fs_buf_done(&t.out);
    if (rc)
        remove_files(folder);
    return rc;
}
