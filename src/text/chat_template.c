/* See the header. */
#include "text/chat_template.h"

#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

#define TEMPLATE_BYTES_MAX ((size_t)16 << 20)
#define TEXT_BYTES_MAX     ((size_t)64 << 20) /* of one message */

/* tokenizer_config.json's member as text; NULL when it has none. */
static struct json_object *configured(struct json_object *config)
{
    struct json_object *t = fs_json_member(config, "chat_template");

    for (size_t i = 0; json_object_is_type(t, json_type_array) && i < json_object_array_length(t); i++) {
        struct json_object *one = json_object_array_get_idx(t, i);
        fs_bytes name = { 0 };
        if (!fs_json_string(one, "name", &name, NULL, NULL) && fs_bytes_equal(name, FS_BYTES_LIT("default")))
            t = fs_json_member(one, "template");
    }
    return json_object_is_type(t, json_type_string) ? t : NULL;
}

/* A token's text: a string, or an object with its content. NULL: neither. */
static struct json_object *token_text(struct json_object *v)
{
    if (json_object_is_type(v, json_type_object))
        v = fs_json_member(v, "content");
    return json_object_is_type(v, json_type_string) ? v : NULL;
}

/* Adds a reference to v as own's member. */
static fs_status put(struct json_object *own, const char *name, struct json_object *v, fs_error *err)
{
    if (json_object_object_add(own, name, json_object_get(v)) == 0)
        return FS_OK;
    json_object_put(v);
    return fs_fail_memory(err, strlen(name));
}

static fs_status read_tokens(struct json_object *config, fs_chat_config *c, fs_error *err)
{
    struct json_object *add_bos = fs_json_member(config, "add_bos_token");
    fs_status rc = FS_OK;

    c->own = json_object_new_object();
    if (!c->own)
        return fs_fail_memory(err, sizeof(void *));
    if (json_object_is_type(add_bos, json_type_boolean))
        c->add_bos = json_object_get_boolean(add_bos);
    if (!json_object_is_type(config, json_type_object))
        return FS_OK;
    json_object_object_foreach(config, key, value)
    {
        size_t n = strlen(key);
        struct json_object *text = n > 6 && strcmp(key + n - 6, "_token") == 0 ? token_text(value) : NULL;
        if (text && (rc = put(c->own, key, text, err)))
            break;
    }
    return rc;
}

fs_status fs_chat_config_read(const char *folder, fs_chat_config *ret, fs_error *err)
{
    char *jinja = fs_path_join(folder, "chat_template.jinja"), *config = fs_path_join(folder, "tokenizer_config.json");
    fs_chat_config c = { .add_bos = -1 };
    struct json_object *v = NULL, *t;
    fs_buf text = { 0 };
    fs_status rc = FS_OK;

    if (!jinja || !config)
        rc = fs_fail_memory(err, strlen(folder));
    if (!rc && fs_file_exists(jinja))
        rc = fs_file_read(jinja, TEMPLATE_BYTES_MAX, &c.source, err);
    if (!rc && fs_file_exists(config)) {
        rc = fs_file_read(config, TEMPLATE_BYTES_MAX, &text, err);
        if (!rc)
            rc = fs_json_parse(fs_buf_bytes(&text), config, &v, err);
        if (!rc)
            rc = read_tokens(v, &c, err);
        t = rc || c.source.n_bytes ? NULL : configured(v);
        if (t)
            rc = fs_buf_append(&c.source, json_object_get_string(t), (size_t)json_object_get_string_len(t), err);
    }
    json_object_put(v);
    fs_buf_done(&text);
    free(jinja);
    free(config);
    if (rc)
        fs_chat_config_done(&c);
    else
        *ret = c;
    return rc;
}

fs_status fs_chat_config_gguf(const fs_gguf *g, const fs_tokenizer *t, fs_chat_config *ret, fs_error *err)
{
    static const char *const ids[][2] = { { "tokenizer.ggml.bos_token_id", "bos_token" },     { "tokenizer.ggml.eos_token_id", "eos_token" },
                                          { "tokenizer.ggml.unknown_token_id", "unk_token" }, { "tokenizer.ggml.padding_token_id", "pad_token" } };
    fs_chat_config c = { .add_bos = -1, .own = json_object_new_object() };
    fs_bytes source = { 0 };
    fs_status rc = c.own ? fs_gguf_string(g, "tokenizer.chat_template", &source, NULL, err) : fs_fail_memory(err, sizeof(void *));

    if (!rc)
        rc = fs_buf_append(&c.source, source.data, source.n_bytes, err);
    for (size_t i = 0; t && i < sizeof ids / sizeof *ids && !rc; i++) {
        int64_t id = -1;
        fs_bytes text;
        struct json_object *v;
        if ((rc = fs_gguf_int(g, ids[i][0], 0, INT32_MAX, &id, NULL, err)) || id < 0 || (size_t)id >= fs_tokenizer_n_ids(t))
            continue;
        text = fs_tokenizer_bytes(t, (int32_t)id);
        v = json_object_new_string_len(text.n_bytes ? (const char *)text.data : "", (int)text.n_bytes);
        rc = v ? put(c.own, ids[i][1], v, err) : fs_fail_memory(err, text.n_bytes);
        json_object_put(v);
    }
    if (rc)
        fs_chat_config_done(&c);
    else
        *ret = c;
    return rc;
}

void fs_chat_config_done(fs_chat_config *c)
{
    if (!c)
        return;
    fs_buf_done(&c->source);
    json_object_put(c->own);
    *c = (fs_chat_config){ 0 };
}

void fs_chat_config_set_bos(const fs_chat_config *c, fs_tokenizer *t)
{
    struct json_object *bos = fs_json_member(c->own, "bos_token");
    int32_t id = -1;

    if (bos)
        id = fs_tokenizer_id(t, (fs_bytes){ (const uint8_t *)json_object_get_string(bos), (size_t)json_object_get_string_len(bos) });
    if (c->add_bos == 0 || (c->add_bos == 1 && id >= 0))
        fs_tokenizer_set_bos(t, c->add_bos ? id : -1);
}

static const char *const foreign_names[] = { "messages", "tools", "documents" };
#define N_FOREIGN (sizeof foreign_names / sizeof *foreign_names)

static bool is_foreign(const char *name)
{
    for (size_t i = 0; i < N_FOREIGN; i++)
        if (strcmp(name, foreign_names[i]) == 0)
            return true;
    return false;
}

/* Parts the request's members; both objects share its values. */
static fs_status divide(struct json_object *request, struct json_object *own, struct json_object *foreign, fs_error *err)
{
    int failed = 0;

    for (size_t i = 0; i < N_FOREIGN; i++)
        failed |= json_object_object_add(foreign, foreign_names[i], NULL);
    json_object_object_foreach(request, key, value)
    {
        if (json_object_object_add(is_foreign(key) ? foreign : own, key, json_object_get(value)) != 0) {
            json_object_put(value);
            failed = 1;
        }
    }
    return failed ? fs_fail_memory(err, sizeof(void *)) : FS_OK;
}

/* Both texts at once, or nothing. */
static fs_status render(const fs_jinja *jinja, const fs_tokenizer *t, const fs_jinja_input *in, fs_buf *ret_prompt, fs_ids *ret_ids, fs_error *err)
{
    size_t n_ids = ret_ids ? ret_ids->n : 0;
    fs_buf text = { 0 }, foreign = { 0 };
    fs_status rc = fs_jinja_render(jinja, in, &text, &foreign, err);

    if (!rc && ret_ids)
        rc = fs_tokenizer_encode_marked(t, fs_buf_bytes(&text), (const uint8_t *)foreign.data, ret_ids, err);
    if (!rc && ret_prompt)
        rc = fs_buf_append(ret_prompt, text.data, text.n_bytes, err);
    if (rc && ret_ids)
        ret_ids->n = n_ids;
    fs_buf_done(&text);
    fs_buf_done(&foreign);
    return rc;
}

fs_status fs_chat_template_render(fs_bytes chat_template, const fs_tokenizer *t, struct json_object *request, const struct tm *now,
                                  fs_buf *ret_prompt, fs_ids *ret_ids, fs_error *err)
{
    fs_jinja_input in = { .own = json_object_new_object(), .foreign = json_object_new_object(), .now = now, .limits = FS_JINJA_LIMITS_DEFAULT };
    fs_jinja *jinja = NULL;
    fs_status rc;

    rc = in.own && in.foreign ? divide(request, in.own, in.foreign, err) : fs_fail_memory(err, sizeof(void *));
    if (!rc)
        rc = fs_jinja_parse(chat_template, &jinja, err);
    if (!rc)
        rc = render(jinja, t, &in, ret_prompt, ret_ids, err);
    fs_jinja_free(jinja);
    json_object_put(in.own);
    json_object_put(in.foreign);
    return rc;
}

/* ---- a model's template ---- */

struct fs_chat_template {
    fs_jinja *jinja;
    struct json_object *own;
    fs_chat_format calls;
};

fs_status fs_chat_template_open(fs_bytes source, struct json_object *own, fs_chat_template **ret, fs_error *err)
{
    static const char tag[] = "<tool_call>";
    fs_chat_template *c = calloc(1, sizeof *c);
    fs_status rc = c ? fs_jinja_parse(source, &c->jinja, err) : fs_fail_memory(err, sizeof *c);

    if (rc) {
        free(c);
        return rc;
    }
    c->own = json_object_get(own);
    c->calls = fs_chat_format_detect(source, NULL, NULL);
    if (c->calls == FS_CHAT_TEMPLATE)
        c->calls = memmem(source.data, source.n_bytes, tag, sizeof tag - 1) ? FS_CHAT_CHATML : FS_CHAT_NONE;
    *ret = c;
    return FS_OK;
}

void fs_chat_template_close(fs_chat_template *c)
{
    if (!c)
        return;
    fs_jinja_free(c->jinja);
    json_object_put(c->own);
    free(c);
}

fs_chat_format fs_chat_template_calls(const fs_chat_template *c)
{
    return c->calls;
}

/* Objects under construction; after a failure nothing more is added. */
typedef struct maker {
    fs_status rc;
    fs_error *err;
} maker;

/* Takes v, also when it fails; NULL is a failure. */
static void give(maker *k, struct json_object *object, const char *name, struct json_object *v)
{
    if (!k->rc && object && v && (name ? json_object_object_add(object, name, v) : json_object_array_add(object, v)) == 0)
        return;
    json_object_put(v);
    if (!k->rc)
        k->rc = fs_fail_memory(k->err, sizeof(void *));
}

/* Bytes that are not UTF-8 become U+FFFD, as fs_tokenizer_encode makes them. */
static struct json_object *string_of(maker *k, fs_bytes text)
{
    struct json_object *v = NULL;
    fs_buf good = { 0 };

    for (size_t i = 0; i < text.n_bytes && !k->rc;) {
        uint32_t code;
        size_t n = fs_utf8_next(text, i, &code);
        k->rc = code == FS_UTF8_BAD ? fs_buf_append_str(&good, "\xef\xbf\xbd", k->err) : fs_buf_append(&good, text.data + i, n, k->err);
        i += n;
    }
    if (!k->rc && good.n_bytes > TEXT_BYTES_MAX)
        k->rc = fs_fail(k->err, FS_ERR_ARGUMENT, "a message of %zu bytes, allowed are %zu", good.n_bytes, TEXT_BYTES_MAX);
    if (!k->rc)
        v = json_object_new_string_len(good.data ? good.data : "", (int)good.n_bytes);
    fs_buf_done(&good);
    return v;
}

static struct json_object *call_of(maker *k, const fs_tool_call *c)
{
    struct json_object *call = json_object_new_object(), *function = json_object_new_object(), *arguments = NULL;

    if (fs_json_parse(c->arguments, "arguments", &arguments, NULL) != FS_OK || !json_object_is_type(arguments, json_type_object)) {
        json_object_put(arguments);
        arguments = string_of(k, c->arguments);
    }
    if (c->id.n_bytes)
        give(k, call, "id", string_of(k, c->id));
    give(k, function, "name", string_of(k, c->name));
    give(k, function, "arguments", arguments);
    give(k, call, "type", json_object_new_string("function"));
    give(k, call, "function", function);
    return call;
}

static struct json_object *message_of(maker *k, const fs_message *m)
{
    static const char *const roles[] = { "system", "user", "assistant", "tool" };
    struct json_object *o = json_object_new_object(), *calls = m->n_calls ? json_object_new_array() : NULL;

    give(k, o, "role", json_object_new_string(roles[m->role]));
    give(k, o, "content", string_of(k, m->content));
    if (m->reasoning.data)
        give(k, o, "reasoning_content", string_of(k, m->reasoning));
    for (size_t i = 0; i < m->n_calls; i++)
        give(k, calls, NULL, call_of(k, &m->calls[i]));
    if (m->n_calls)
        give(k, o, "tool_calls", calls);
    if (m->call_id.data)
        give(k, o, "tool_call_id", string_of(k, m->call_id));
    return o;
}

/* Templates expect the OpenAI API's {"type": "function", "function": {...}}. */
static struct json_object *tools_of(maker *k, fs_bytes text)
{
    struct json_object *list = NULL, *out = json_object_new_array();

    k->rc = fs_json_parse(text, "the tools", &list, k->err);
    if (!k->rc && !json_object_is_type(list, json_type_array))
        k->rc = fs_fail(k->err, FS_ERR_FORMAT, "the tools are not a JSON array");
    for (size_t i = 0; !k->rc && i < json_object_array_length(list); i++) {
        struct json_object *one = json_object_array_get_idx(list, i), *whole;
        if (fs_json_member(one, "function")) {
            give(k, out, NULL, json_object_get(one));
            continue;
        }
        whole = json_object_new_object();
        give(k, whole, "type", json_object_new_string("function"));
        give(k, whole, "function", json_object_get(one));
        give(k, out, NULL, whole);
    }
    json_object_put(list);
    return out;
}

static void make_variables(maker *k, const fs_chat_template *c, const fs_message *m, size_t n, const fs_chat_options *o, fs_jinja_input *in)
{
    static const char *const efforts[] = { [FS_EFFORT_LOW] = "low", [FS_EFFORT_HIGH] = "high", [FS_EFFORT_XHIGH] = "xhigh", [FS_EFFORT_MAX] = "max" };
    struct json_object *messages = json_object_new_array();

    for (size_t i = 0; i < n; i++)
        give(k, messages, NULL, message_of(k, &m[i]));
    give(k, in->foreign, "messages", messages);
    if (!k->rc && o->tools.n_bytes)
        give(k, in->foreign, "tools", tools_of(k, o->tools));
    else if (!k->rc && json_object_object_add(in->foreign, "tools", NULL) != 0)
        k->rc = fs_fail_memory(k->err, sizeof(void *));
    if (!k->rc && json_object_object_add(in->foreign, "documents", NULL) != 0)
        k->rc = fs_fail_memory(k->err, sizeof(void *));
    if (c->own) {
        json_object_object_foreach(c->own, key, value)
        {
            give(k, in->own, key, json_object_get(value));
        }
    }
    give(k, in->own, "add_generation_prompt", json_object_new_boolean(o->add_generation_prompt));
    give(k, in->own, "enable_thinking", json_object_new_boolean(o->thinking));
    give(k, in->own, "thinking", json_object_new_boolean(o->thinking));
    if (o->effort != FS_EFFORT_DEFAULT)
        give(k, in->own, "reasoning_effort", json_object_new_string(efforts[o->effort]));
}

fs_status fs_chat_template_messages(const fs_chat_template *c, const fs_tokenizer *t, const fs_message *messages, size_t n_messages,
                                    const fs_chat_options *options, const struct tm *now, fs_buf *ret_prompt, fs_ids *ret_ids, fs_error *err)
{
    fs_jinja_input in = { .own = json_object_new_object(), .foreign = json_object_new_object(), .now = now, .limits = FS_JINJA_LIMITS_DEFAULT };
    maker k = { .rc = FS_OK, .err = err };

    if (n_messages == 0)
        k.rc = fs_fail(err, FS_ERR_ARGUMENT, "a conversation of 0 messages");
    else if (!in.own || !in.foreign)
        k.rc = fs_fail_memory(err, sizeof(void *));
    else
        make_variables(&k, c, messages, n_messages, options, &in);
    if (!k.rc)
        k.rc = render(c->jinja, t, &in, ret_prompt, ret_ids, err);
    json_object_put(in.own);
    json_object_put(in.foreign);
    return k.rc;
}
