/* See the header. */
#include "data/tokens.h"

#include "text/json_text.h"

#include <stdlib.h>
#include <string.h>

#define MESSAGES_MAX 4096

/* A conversation whose texts lie in words. */
typedef struct conversation {
    fs_message messages[MESSAGES_MAX];
    size_t n;
    fs_buf *words; /* one each for content and reasoning: [2 n] */
    size_t n_words;
} conversation;

typedef struct sample {
    fs_ids ids;
    fs_buf learn;
} sample;

static fs_status learn(sample *s, uint8_t value, fs_error *err)
{
    fs_status rc = FS_OK;

    while (!rc && s->learn.n_bytes < s->ids.n)
        rc = fs_buf_append(&s->learn, &value, 1, err);
    return rc;
}

static fs_status give(const sample *s, fs_sample_fn *fn, void *ud, fs_error *err)
{
    return s->ids.n ? fn(ud, s->ids.data, (const uint8_t *)s->learn.data, s->ids.n, err) : FS_OK;
}

static fs_status unquoted(conversation *c, fs_bytes json, fs_bytes *ret, fs_error *err)
{
    fs_buf *b = &c->words[c->n_words];
    fs_status rc = fs_json_text_unquote(json, b, err);

    if (rc)
        return rc;
    c->n_words++;
    *ret = b->data ? fs_buf_bytes(b) : (fs_bytes){ (const uint8_t *)"", 0 };
    return FS_OK;
}

static bool string_member(fs_bytes object, const char *name, fs_bytes *ret)
{
    return fs_json_text_member(object, name, ret) && ret->data[0] == '"';
}

static fs_status add_message(conversation *c, fs_bytes json, fs_error *err)
{
    static const char *const roles[] = { "system", "user", "assistant", "tool" };
    fs_message *m = &c->messages[c->n];
    fs_bytes value = { 0 }, calls;
    size_t k = 0;
    fs_status rc = FS_OK;

    *m = (fs_message){ .content = { (const uint8_t *)"", 0 } };
    string_member(json, "role", &value);
    while (k < 4 && !(value.n_bytes == strlen(roles[k]) + 2 && memcmp(value.data + 1, roles[k], value.n_bytes - 2) == 0))
        k++;
    if (k == 4)
        return fs_fail(err, FS_ERR_FORMAT, "message %zu has the role %.*s, known are system, user, assistant and tool", c->n + 1,
                       value.n_bytes < 40 ? (int)value.n_bytes : 40, (const char *)value.data);
    if (fs_json_text_member(json, "tool_calls", &calls) && calls.data[0] == '[' && calls.n_bytes > 2)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "message %zu has tool calls, which are not trained on", c->n + 1);
    m->role = (fs_role)k;
    if (string_member(json, "content", &value))
        rc = unquoted(c, value, &m->content, err);
    if (!rc && m->role == FS_ROLE_ASSISTANT && string_member(json, "reasoning_content", &value))
        rc = unquoted(c, value, &m->reasoning, err);
    c->n++;
    return rc;
}

/* A problem is a question and a reply. */
static fs_status read_problem(conversation *c, const fs_data_record *r, fs_error *err)
{
    fs_buf *reply;
    fs_status rc;

    c->words = calloc(2, sizeof *c->words);
    if (!c->words)
        return fs_fail_memory(err, 2 * sizeof *c->words);
    c->messages[0] = (fs_message){ .role = FS_ROLE_USER };
    c->messages[1] = (fs_message){ .role = FS_ROLE_ASSISTANT };
    c->n = 2;
    rc = unquoted(c, r->prompt, &c->messages[0].content, err);
    reply = &c->words[c->n_words++];
    if (!rc && r->trace.n_bytes)
        rc = fs_json_text_unquote(r->trace, reply, err);
    if (!rc)
        rc = fs_json_text_unquote(r->answer, reply, err);
    c->messages[1].content = reply->data ? fs_buf_bytes(reply) : (fs_bytes){ (const uint8_t *)"", 0 };
    return rc;
}

static fs_status read_conversation(conversation *c, const fs_data_record *r, fs_error *err)
{
    fs_json_walk walk;
    fs_bytes key, message;
    size_t n = 0;
    fs_status rc = FS_OK;

    if (r->kind == FS_DATA_PROBLEM)
        return read_problem(c, r, err);
    fs_json_walk_init(&walk, r->messages);
    while (fs_json_walk_next(&walk, &key, &message))
        n++;
    if (n > MESSAGES_MAX)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "%zu messages, at most %d are allowed", n, MESSAGES_MAX);
    c->words = calloc(2 * n, sizeof *c->words);
    if (!c->words)
        return fs_fail_memory(err, 2 * n * sizeof *c->words);
    fs_json_walk_init(&walk, r->messages);
    while (!rc && fs_json_walk_next(&walk, &key, &message))
        rc = add_message(c, message, err);
    return rc;
}

static void conversation_free(conversation *c)
{
    for (size_t i = 0; c && i < c->n_words; i++)
        fs_buf_done(&c->words[i]);
    if (c)
        free(c->words);
    free(c);
}

static fs_status render(const fs_token_form *f, const fs_message *m, size_t n, bool ask, fs_ids *ret, fs_error *err)
{
    fs_chat_options o = { .thinking = f->thinking, .add_generation_prompt = ask };

    return f->format == FS_CHAT_TEMPLATE ? fs_chat_template_messages(f->template, f->tokenizer, m, n, &o, NULL, NULL, ret, err)
                                         : fs_chat_render(f->format, f->tokenizer, m, n, &o, NULL, ret, err);
}

static bool starts_with(const fs_ids *a, const fs_ids *b)
{
    return a->n >= b->n && (b->n == 0 || memcmp(a->data, b->data, b->n * sizeof *b->data) == 0);
}

/* Appends what the model says as message k, whose prompt is in *prompt. A template tells it only by the whole conversation. */
static fs_status render_reply(const fs_token_form *f, const fs_message *m, size_t k, const fs_ids *prompt, fs_ids *ret, fs_error *err)
{
    fs_chat_options o = { .thinking = f->thinking };
    fs_ids whole = { 0 };
    fs_status rc;

    if (f->format != FS_CHAT_TEMPLATE)
        return fs_chat_render_reply(f->format, f->tokenizer, &m[k], &o, NULL, ret, err);
    rc = render(f, m, k + 1, false, &whole, err);
    if (!rc && !starts_with(&whole, prompt))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "the chat template does not go on from the prompt with message %zu", k + 1);
    if (!rc)
        rc = fs_ids_append(ret, whole.data + prompt->n, whole.n - prompt->n, err);
    fs_ids_done(&whole);
    return rc;
}

static fs_status add_turn(const fs_token_form *f, const fs_message *m, size_t k, sample *s, fs_sample_fn *fn, void *ud, fs_error *err)
{
    fs_ids prompt = { 0 };
    fs_status rc = render(f, m, k, true, &prompt, err);

    if (!rc && s->ids.n && !starts_with(&prompt, &s->ids)) {
        rc = give(s, fn, ud, err);
        s->ids.n = 0;
        fs_buf_clear(&s->learn);
    }
    if (!rc)
        rc = fs_ids_append(&s->ids, prompt.data + s->ids.n, prompt.n - s->ids.n, err);
    if (!rc)
        rc = learn(s, 0, err);
    if (!rc)
        rc = render_reply(f, m, k, &prompt, &s->ids, err);
    if (!rc)
        rc = learn(s, 1, err);
    fs_ids_done(&prompt);
    return rc;
}

static fs_status chat(const fs_token_form *f, const fs_data_record *r, sample *s, fs_sample_fn *fn, void *ud, fs_error *err)
{
    conversation *c = calloc(1, sizeof *c);
    bool any = false;
    fs_status rc;

    if (!c)
        return fs_fail_memory(err, sizeof *c);
    rc = read_conversation(c, r, err);
    for (size_t k = 0; k < c->n && !rc; k++)
        if (c->messages[k].role == FS_ROLE_ASSISTANT) {
            any = true;
            rc = add_turn(f, c->messages, k, s, fn, ud, err);
        }
    if (!rc && !any)
        rc = fs_fail(err, FS_ERR_FORMAT, "the conversation has no assistant's message");
    conversation_free(c);
    return rc ? rc : give(s, fn, ud, err);
}

static fs_status encode(const fs_token_form *f, const fs_bytes *parts, size_t n, unsigned flags, sample *s, fs_error *err)
{
    fs_buf text = { 0 };
    fs_status rc = FS_OK;

    for (size_t i = 0; i < n && !rc; i++)
        if (parts[i].n_bytes)
            rc = fs_json_text_unquote(parts[i], &text, err);
    if (!rc && text.n_bytes)
        rc = fs_tokenizer_encode(f->tokenizer, fs_buf_bytes(&text), flags, &s->ids, err);
    fs_buf_done(&text);
    return rc;
}

static fs_status plain(const fs_token_form *f, const fs_data_record *r, sample *s, fs_sample_fn *fn, void *ud, fs_error *err)
{
    const fs_bytes reply[2] = { r->kind == FS_DATA_PROBLEM ? r->trace : r->text, r->kind == FS_DATA_PROBLEM ? r->answer : (fs_bytes){ 0 } };
    fs_status rc = f->bos ? fs_tokenizer_encode(f->tokenizer, (fs_bytes){ (const uint8_t *)"", 0 }, FS_ENCODE_BOS, &s->ids, err) : FS_OK;

    if (!rc && r->kind == FS_DATA_PROBLEM)
        rc = encode(f, &r->prompt, 1, FS_ENCODE_PLAIN, s, err);
    if (!rc)
        rc = learn(s, 0, err);
    if (!rc)
        rc = encode(f, reply, 2, f->marks && r->kind == FS_DATA_PROBLEM ? FS_ENCODE_SPECIAL : FS_ENCODE_PLAIN, s, err);
    if (!rc && f->eos >= 0)
        rc = fs_ids_push(&s->ids, f->eos, err);
    if (!rc)
        rc = learn(s, 1, err);
    return rc ? rc : give(s, fn, ud, err);
}

fs_status fs_data_record_tokens(const fs_token_form *f, const fs_data_record *r, const char *what, size_t line, fs_sample_fn *fn, void *ud, fs_error *err)
{
    sample s = { 0 };
    fs_status rc;

    if (r->kind == FS_DATA_MESSAGES && f->format == FS_CHAT_NONE)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "messages need a chat format, which the tokenizer does not tell");
    else if (r->kind == FS_DATA_TEXT || f->format == FS_CHAT_NONE)
        rc = plain(f, r, &s, fn, ud, err);
    else
        rc = chat(f, r, &s, fn, ud, err);
    fs_ids_done(&s.ids);
    fs_buf_done(&s.learn);
    if (rc && rc != FS_ERR_INTERRUPTED)
        fs_fail_prefix(err, "%s line %zu", what, line);
    return rc;
}
