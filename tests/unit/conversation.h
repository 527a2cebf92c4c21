/* Conversations of tests/vectors as messages, borrowed from their JSON. */
#ifndef FS_TESTS_CONVERSATION_H
#define FS_TESTS_CONVERSATION_H

#include "tiny.h"

#include "text/chat.h"

/* The tiny tokenizer with n markers as added tokens from MARKER_BASE on, special or not by turns. */
#define MARKER_BASE 1000
static inline fs_tokenizer *tiny_with_markers(const char *const *markers, size_t n)
{
    fs_buf json = { 0 };
    fs_tokenizer *t = NULL;
    fs_error err;

    assert_ok(fs_buf_append_str(&json, "[", &err), err);
    for (size_t i = 0; i < n; i++)
        assert_ok(fs_buf_printf(&json, &err, "%s{\"id\":%zu,\"content\":\"%s\",\"special\":%s,\"normalized\":false}", i ? "," : "",
                                MARKER_BASE + i, markers[i], i % 2 ? "true" : "false"), err);
    assert_ok(fs_buf_append_str(&json, "]", &err), err);
    assert_ok(tiny_with("added_tokens", json.data, &t, &err), err);
    fs_buf_done(&json);
    return t;
}

typedef struct conversation {
    fs_message messages[64];
    fs_tool_call calls[128];
    size_t n, n_calls;
    fs_chat_options options;
} conversation;

static fs_bytes string_of(struct json_object *o)
{
    return o ? (fs_bytes){ (const uint8_t *)json_object_get_string(o), (size_t)json_object_get_string_len(o) } : (fs_bytes){ 0 };
}

static inline fs_role role_of(const char *role)
{
    return role[0] == 's' ? FS_ROLE_SYSTEM : role[0] == 'u' ? FS_ROLE_USER : role[0] == 'a' ? FS_ROLE_ASSISTANT : FS_ROLE_TOOL;
}

static inline void read_conversation(struct json_object *c, conversation *ret)
{
    struct json_object *list = fs_json_member(c, "messages"), *tools = fs_json_member(c, "tools"), *gen = fs_json_member(c, "add_generation_prompt");
    struct json_object *effort = fs_json_member(c, "reasoning_effort");

    memset(ret, 0, sizeof *ret);
    ret->n = json_object_array_length(list);
    assert_true(ret->n <= 64);
    for (size_t i = 0; i < ret->n; i++) {
        struct json_object *o = json_object_array_get_idx(list, i), *calls = fs_json_member(o, "tool_calls");
        fs_message *m = &ret->messages[i];
        *m = (fs_message){ .role = role_of(json_object_get_string(fs_json_member(o, "role"))),
                           .content = string_of(fs_json_member(o, "content")),
                           .reasoning = string_of(fs_json_member(o, "reasoning_content")),
                           .call_id = string_of(fs_json_member(o, "tool_call_id")),
                           .calls = &ret->calls[ret->n_calls],
                           .n_calls = calls ? json_object_array_length(calls) : 0 };
        for (size_t k = 0; k < m->n_calls; k++) {
            struct json_object *call = json_object_array_get_idx(calls, k), *f = fs_json_member(call, "function");
            assert_true(ret->n_calls < 128);
            f = f ? f : call;
            ret->calls[ret->n_calls++] = (fs_tool_call){ string_of(fs_json_member(call, "id")), string_of(fs_json_member(f, "name")),
                                                         string_of(fs_json_member(f, "arguments")) };
        }
    }
    ret->options.thinking = json_object_get_boolean(fs_json_member(c, "thinking"));
    ret->options.add_generation_prompt = !gen || json_object_get_boolean(gen);
    if (tools)
        ret->options.tools = fs_bytes_str(json_object_to_json_string_ext(tools, JSON_C_TO_STRING_PLAIN));
    if (effort)
        assert_true(fs_effort_from_name(string_of(effort), &ret->options.effort));
}

#endif
