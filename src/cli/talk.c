/* See the header. */
#include "cli/talk.h"

#include <assert.h>
#include <stdlib.h>

static void turn_done(fs_talk_turn *u)
{
    fs_buf_done(&u->content);
    fs_buf_done(&u->reasoning);
    for (size_t i = 0; i < u->n_calls; i++) {
        fs_buf_done(&u->calls[i].name);
        fs_buf_done(&u->calls[i].arguments);
    }
    free(u->calls);
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

fs_status fs_talk_add_call(fs_talk *t, fs_bytes name, fs_bytes arguments, fs_error *err)
{
    fs_talk_turn *u = &t->turns[t->n_turns - 1];
    fs_talk_call c = { .name = { 0 } }, *more;
    fs_status rc;

    assert(t->n_turns > 0 && u->role == FS_TALK_ASSISTANT);
    if (u->n_calls >= FS_CHAT_CALLS_MAX)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "an answer has at most %d tool calls", FS_CHAT_CALLS_MAX);
    more = realloc(u->calls, (u->n_calls + 1) * sizeof *more);
    if (!more)
        return fs_fail_memory(err, (u->n_calls + 1) * sizeof *more);
    u->calls = more;
    rc = fs_buf_append(&c.name, name.data, name.n_bytes, err);
    if (!rc)
        rc = fs_buf_append(&c.arguments, arguments.data, arguments.n_bytes, err);
    if (rc) {
        fs_buf_done(&c.name);
        fs_buf_done(&c.arguments);
        return rc;
    }
    u->calls[u->n_calls++] = c;
    return FS_OK;
}

size_t fs_talk_n_open_calls(const fs_talk *t)
{
    size_t n = 0, i = t->n_turns;

    for (; i && t->turns[i - 1].role == FS_TALK_TOOL; i--)
        n++;
    return i && t->turns[i - 1].n_calls > n ? t->turns[i - 1].n_calls - n : 0;
}

fs_status fs_talk_messages(const fs_talk *t, fs_message **ret, size_t *ret_n, fs_error *err)
{
    static const fs_role roles[] = { [FS_TALK_USER] = FS_ROLE_USER, [FS_TALK_ASSISTANT] = FS_ROLE_ASSISTANT, [FS_TALK_TOOL] = FS_ROLE_TOOL };
    size_t n = 0, n_calls = 0, n_bytes;
    fs_message *m;
    fs_tool_call *calls;

    for (size_t i = 0; i < t->n_turns; i++)
        n_calls += t->turns[i].n_calls;
    n_bytes = (t->n_turns + 1) * sizeof *m + n_calls * sizeof *calls;
    m = calloc(1, n_bytes);
    if (!m)
        return fs_fail_memory(err, n_bytes);
    calls = (fs_tool_call *)(m + t->n_turns + 1);
    if (t->system.n_bytes)
        m[n++] = (fs_message){ .role = FS_ROLE_SYSTEM, .content = fs_buf_bytes(&t->system) };
    for (size_t i = 0; i < t->n_turns; i++) {
        const fs_talk_turn *u = &t->turns[i];
        m[n++] = (fs_message){ .role = roles[u->role], .content = fs_buf_bytes(&u->content), .reasoning = fs_buf_bytes(&u->reasoning),
                               .calls = calls, .n_calls = u->n_calls };
        for (size_t k = 0; k < u->n_calls; k++)
            *calls++ = (fs_tool_call){ .name = fs_buf_bytes(&u->calls[k].name), .arguments = fs_buf_bytes(&u->calls[k].arguments) };
    }
    *ret = m;
    *ret_n = n;
    return FS_OK;
}

static fs_status put_calls(fs_buf *out, const fs_talk_turn *u, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < u->n_calls && !rc; i++) {
        rc = fs_buf_append_str(out, i ? ", {\"type\": \"function\", \"function\": {\"name\": " : ", \"tool_calls\": [{\"type\": \"function\", \"function\": {\"name\": ", err);
        if (!rc)
            rc = fs_json_quote(out, fs_buf_bytes(&u->calls[i].name), err);
        if (!rc)
            rc = fs_buf_append_str(out, ", \"arguments\": ", err);
        if (!rc)
            rc = fs_json_quote(out, fs_buf_bytes(&u->calls[i].arguments), err);
        if (!rc)
            rc = fs_buf_append_str(out, "}}", err);
    }
    return rc || !u->n_calls ? rc : fs_buf_append_str(out, "]", err);
}

static fs_status put_message(fs_buf *out, bool first, const char *role, const fs_talk_turn *u, fs_error *err)
{
    fs_status rc = fs_buf_printf(out, err, "%s\n    {\"role\": \"%s\", \"content\": ", first ? "" : ",", role);

    if (!rc)
        rc = fs_json_quote(out, fs_buf_bytes(&u->content), err);
    if (!rc && u->reasoning.n_bytes)
        rc = fs_buf_append_str(out, ", \"reasoning_content\": ", err);
    if (!rc && u->reasoning.n_bytes)
        rc = fs_json_quote(out, fs_buf_bytes(&u->reasoning), err);
    if (!rc)
        rc = put_calls(out, u, err);
    return rc ? rc : fs_buf_append_str(out, "}", err);
}

fs_status fs_talk_to_json(const fs_talk *t, const char *model, fs_buf *out, fs_error *err)
{
    static const char *const roles[] = { [FS_TALK_USER] = "user", [FS_TALK_ASSISTANT] = "assistant", [FS_TALK_TOOL] = "tool" };
    bool first = true;
    fs_status rc = fs_buf_append_str(out, "{\n  \"model\": ", err);

    if (!rc)
        rc = fs_json_quote(out, fs_bytes_str(model), err);
    if (!rc)
        rc = fs_buf_append_str(out, ",\n  \"messages\": [", err);
    if (!rc && t->system.n_bytes) {
        rc = put_message(out, true, "system", &(fs_talk_turn){ .content = t->system }, err);
        first = false;
    }
    for (size_t i = 0; i < t->n_turns && !rc; i++) {
        rc = put_message(out, first, roles[t->turns[i].role], &t->turns[i], err);
        first = false;
    }
    return rc ? rc : fs_buf_append_str(out, "\n  ]\n}\n", err);
}

static fs_status read_calls(fs_talk *t, struct json_object *calls, fs_error *err)
{
    fs_status rc = FS_OK;

    if (calls && !json_object_is_type(calls, json_type_array))
        return fs_fail(err, FS_ERR_FORMAT, "'tool_calls' is not a list");
    for (size_t i = 0, n = calls ? json_object_array_length(calls) : 0; i < n && !rc; i++) {
        struct json_object *function = fs_json_member(json_object_array_get_idx(calls, i), "function");
        fs_bytes name = { 0 }, arguments = FS_BYTES_LIT("{}");
        rc = fs_json_string(function, "name", &name, NULL, err);
        if (!rc)
            rc = fs_json_string(function, "arguments", &arguments, NULL, err);
        if (!rc && name.n_bytes == 0)
            rc = fs_fail(err, FS_ERR_FORMAT, "a tool call without a name");
        if (!rc)
            rc = fs_talk_add_call(t, name, arguments, err);
    }
    return rc;
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
    if (fs_bytes_equal(role, FS_BYTES_LIT("tool")))
        return fs_talk_add(t, FS_TALK_TOOL, content, (fs_bytes){ 0 }, err);
    if (fs_bytes_equal(role, FS_BYTES_LIT("assistant"))) {
        rc = fs_talk_add(t, FS_TALK_ASSISTANT, content, reasoning, err);
        return rc ? rc : read_calls(t, fs_json_member(message, "tool_calls"), err);
    }
    if (!fs_bytes_equal(role, FS_BYTES_LIT("system")))
        return fs_fail(err, FS_ERR_FORMAT, "role is '%.40s', known are system, user, assistant and tool", (const char *)role.data);
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
