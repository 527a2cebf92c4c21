/* See the header. */
#include "cli/talk.h"

#include <assert.h>
#include <stdlib.h>

static void turn_done(fs_talk_turn *u)
{
    fs_buf_done(&u->content);
    fs_buf_done(&u->reasoning);
}

void fs_talk_clear(fs_talk *t)
{
    for (size_t i = 0; i < t->n_turns; i++)
        turn_done(&t->turns[i]);
    t->n_turns = 0;
}

void fs_talk_done(fs_talk *t)
{
    if (!t)
        return;
    fs_talk_clear(t);
    free(t->turns);
    fs_buf_done(&t->system);
    *t = (fs_talk){ 0 };
}

fs_status fs_talk_set_system(fs_talk *t, fs_bytes text, fs_error *err)
{
    fs_buf b = { 0 };
    fs_status rc = fs_buf_append(&b, text.data, text.n_bytes, err);

    if (rc)
        return rc;
    fs_buf_done(&t->system);
    t->system = b;
    return FS_OK;
}

fs_status fs_talk_add(fs_talk *t, fs_talk_role role, fs_bytes content, fs_bytes reasoning, fs_error *err)
{
    fs_talk_turn u = { .role = role };
    fs_status rc;

    if (t->n_turns >= FS_TALK_TURNS_MAX)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "a conversation has at most %d turns", FS_TALK_TURNS_MAX);
    if (t->n_turns == t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : 16;
        fs_talk_turn *more = realloc(t->turns, capacity * sizeof *more);
        if (!more)
            return fs_fail_memory(err, capacity * sizeof *more);
        t->turns = more;
        t->capacity = capacity;
    }
    rc = fs_buf_append(&u.content, content.data, content.n_bytes, err);
    if (!rc)
        rc = fs_buf_append(&u.reasoning, reasoning.data, reasoning.n_bytes, err);
    if (rc) {
        turn_done(&u);
        return rc;
    }
    t->turns[t->n_turns++] = u;
    return FS_OK;
}

void fs_talk_pop(fs_talk *t)
{
    assert(t->n_turns > 0);
    turn_done(&t->turns[--t->n_turns]);
}

fs_status fs_talk_messages(const fs_talk *t, fs_chat_message **ret, size_t *ret_n, fs_error *err)
{
    fs_chat_message *m = calloc(t->n_turns + 1, sizeof *m);
    size_t n = 0;

    if (!m)
        return fs_fail_memory(err, (t->n_turns + 1) * sizeof *m);
    if (t->system.n_bytes)
        m[n++] = (fs_chat_message){ "system", t->system.data, t->system.n_bytes };
    for (size_t i = 0; i < t->n_turns; i++) {
        const fs_talk_turn *u = &t->turns[i];
        m[n++] = (fs_chat_message){ u->role == FS_TALK_USER ? "user" : "assistant", u->content.data, u->content.n_bytes };
    }
    *ret = m;
    *ret_n = n;
    return FS_OK;
}

static fs_status put_message(fs_buf *out, bool first, const char *role, fs_bytes content, fs_bytes reasoning, fs_error *err)
{
    fs_status rc = fs_buf_printf(out, err, "%s\n    {\"role\": \"%s\", \"content\": ", first ? "" : ",", role);

    if (!rc)
        rc = fs_json_quote(out, content, err);
    if (!rc && reasoning.n_bytes)
        rc = fs_buf_append_str(out, ", \"reasoning_content\": ", err);
    if (!rc && reasoning.n_bytes)
        rc = fs_json_quote(out, reasoning, err);
    return rc ? rc : fs_buf_append_str(out, "}", err);
}

fs_status fs_talk_to_json(const fs_talk *t, const char *model, fs_buf *out, fs_error *err)
{
    bool first = true;
    fs_status rc = fs_buf_append_str(out, "{\n  \"model\": ", err);

    if (!rc)
        rc = fs_json_quote(out, fs_bytes_str(model), err);
    if (!rc)
        rc = fs_buf_append_str(out, ",\n  \"messages\": [", err);
    if (!rc && t->system.n_bytes) {
        rc = put_message(out, true, "system", fs_buf_bytes(&t->system), (fs_bytes){ 0 }, err);
        first = false;
    }
    for (size_t i = 0; i < t->n_turns && !rc; i++) {
        const fs_talk_turn *u = &t->turns[i];
        rc = put_message(out, first, u->role == FS_TALK_USER ? "user" : "assistant", fs_buf_bytes(&u->content),
                         fs_buf_bytes(&u->reasoning), err);
        first = false;
    }
    return rc ? rc : fs_buf_append_str(out, "\n  ]\n}\n", err);
}

static fs_status read_message(fs_talk *t, size_t i, struct json_object *message, fs_error *err)
{
    fs_bytes role = { 0 }, content = { 0 }, reasoning = { 0 };
    bool has_role, has_content;
    fs_status rc = fs_json_string(message, "role", &role, &has_role, err);

    if (!rc)
        rc = fs_json_string(message, "content", &content, &has_content, err);
    if (!rc)
        rc = fs_json_string(message, "reasoning_content", &reasoning, NULL, err);
    if (rc)
        return rc;
    if (!has_role || !has_content)
        return fs_fail(err, FS_ERR_FORMAT, "no '%s'", has_role ? "content" : "role");
    if (fs_bytes_equal(role, FS_BYTES_LIT("user")))
        return fs_talk_add(t, FS_TALK_USER, content, (fs_bytes){ 0 }, err);
    if (fs_bytes_equal(role, FS_BYTES_LIT("assistant")))
        return fs_talk_add(t, FS_TALK_ASSISTANT, content, reasoning, err);
    if (!fs_bytes_equal(role, FS_BYTES_LIT("system")))
        return fs_fail(err, FS_ERR_FORMAT, "role is '%.40s', known are system, user and assistant", (const char *)role.data);
    if (i > 0)
        return fs_fail(err, FS_ERR_FORMAT, "a system message that is not the first");
    return fs_talk_set_system(t, content, err);
}

fs_status fs_talk_from_json(fs_talk *t, fs_bytes json, const char *what, fs_error *err)
{
    struct json_object *v = NULL, *messages;
    fs_talk new = { 0 };
    fs_status rc = fs_json_parse(json, what, &v, err);

    if (rc)
        return rc;
    messages = fs_json_member(v, "messages");
    if (!json_object_is_type(messages, json_type_array))
        rc = fs_fail(err, FS_ERR_FORMAT, "%s: no list 'messages'", what);
    for (size_t i = 0, n = rc ? 0 : json_object_array_length(messages); i < n && !rc; i++) {
        rc = read_message(&new, i, json_object_array_get_idx(messages, i), err);
        if (rc)
            fs_fail_prefix(err, "%s: message %zu of %zu", what, i + 1, n);
    }
    json_object_put(v);
    if (rc) {
        fs_talk_done(&new);
        return rc;
    }
    fs_talk_done(t);
    *t = new;
    return FS_OK;
}
