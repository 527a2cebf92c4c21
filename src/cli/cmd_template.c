/* farseek template: a conversation as the prompt a model gets. */
#include "base/json.h"
#include "cli/cli.h"
#include "cli/tokens.h"

#include <stdlib.h>
#include <string.h>

#define MESSAGES_MAX 100000

static struct {
    bool json;
    const char *format;
} opt;

static fs_status read_message(struct json_object *o, size_t i, fs_message *ret, fs_error *err)
{
    static const char *const roles[] = { "system", "user", "assistant", "tool" };
    fs_bytes role = { 0 };
    bool found = false;
    size_t k = 0;
    fs_status rc;

    if ((rc = fs_json_string(o, "role", &role, &found, err)) || (rc = fs_json_string(o, "content", &ret->content, NULL, err)) ||
        (rc = fs_json_string(o, "reasoning_content", &ret->reasoning, NULL, err)))
        return fs_fail_prefix(err, "message %zu", i), rc;
    while (k < 4 && !(found && fs_bytes_equal(role, fs_bytes_str(roles[k]))))
        k++;
    if (k == 4)
        return fs_fail(err, FS_ERR_FORMAT, "message %zu has the role '%.*s', known are system, user, assistant and tool", i,
                       role.n_bytes < 40 ? (int)role.n_bytes : 40, found ? (const char *)role.data : "");
    if (fs_json_member(o, "tool_calls"))
        return fs_fail(err, FS_ERR_UNSUPPORTED, "message %zu has tool_calls, which are not supported", i);
    ret->role = (fs_role)k;
    return FS_OK;
}

static fs_status read_messages(struct json_object *request, fs_message **ret, size_t *ret_n, fs_error *err)
{
    struct json_object *list = fs_json_member(request, "messages"), *tools = fs_json_member(request, "tools");
    size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    fs_message *m;
    fs_status rc = FS_OK;

    if (n == 0 || n > MESSAGES_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "stdin has %zu 'messages', allowed are 1 to %d", n, MESSAGES_MAX);
    if (json_object_is_type(tools, json_type_array) && json_object_array_length(tools))
        return fs_fail(err, FS_ERR_UNSUPPORTED, "'tools' are not supported");
    m = calloc(n, sizeof *m);
    if (!m)
        return fs_fail_memory(err, n * sizeof *m);
    for (size_t i = 0; i < n && !rc; i++)
        rc = read_message(json_object_array_get_idx(list, i), i, &m[i], err);
    if (rc) {
        free(m);
        return rc;
    }
    *ret = m;
    *ret_n = n;
    return FS_OK;
}

/* The format by name, or the model's own with its tokenizer. */
static fs_status choose(const char *name, fs_chat_format *ret, fs_tokenizer **ret_tokenizer, fs_error *err)
{
    fs_buf template = { 0 };
    fs_status rc;

    *ret = fs_chat_format_from_name(name);
    if (*ret != FS_CHAT_FORMAT_END && *ret != FS_CHAT_NONE)
        return FS_OK;
    rc = fs_tokens_open(name, ret_tokenizer, &template, err);
    if (!rc)
        *ret = opt.format ? fs_chat_format_from_name(opt.format) : fs_chat_format_detect(fs_buf_bytes(&template), *ret_tokenizer);
    if (!rc && *ret == FS_CHAT_FORMAT_END)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "unknown chat format '%.100s'", opt.format);
    fs_buf_done(&template);
    return rc;
}

static fs_status answer(fs_chat_format f, const fs_tokenizer *t, fs_buf *out, fs_error *err)
{
    fs_chat_options options = { .thinking = true, .add_generation_prompt = true };
    struct json_object *request = NULL;
    fs_message *messages = NULL;
    fs_buf prompt = { 0 };
    fs_ids ids = { 0 };
    size_t n = 0;
    fs_status rc;

    if ((rc = fs_tokens_read_request(&request, err)) || (rc = fs_json_bool(request, "thinking", &options.thinking, NULL, err)) ||
        (rc = fs_json_bool(request, "add_generation_prompt", &options.add_generation_prompt, NULL, err)) ||
        (rc = read_messages(request, &messages, &n, err)) ||
        (rc = fs_chat_render(f, t, messages, n, &options, &prompt, t ? &ids : NULL, err)))
        goto done;
    if (!opt.json) {
        rc = fs_buf_append(out, prompt.data, prompt.n_bytes, err);
        goto done;
    }
    if ((rc = fs_buf_append_str(out, "{\"prompt\":", err)) || (rc = fs_json_quote(out, fs_buf_bytes(&prompt), err)))
        goto done;
    if (t && ((rc = fs_buf_append_str(out, ",\"ids\":", err)) || (rc = fs_tokens_write_ids(out, ids.data, ids.n, err))))
        goto done;
    rc = fs_buf_append_str(out, "}\n", err);
done:
    free(messages);
    json_object_put(request);
    fs_buf_done(&prompt);
    fs_ids_done(&ids);
    return rc;
}

static fs_status run(const fs_args *args, fs_error *err)
{
    fs_chat_format f = FS_CHAT_NONE;
    fs_tokenizer *t = NULL;
    fs_buf out = { 0 };
    fs_status rc = choose(args->items[0], &f, &t, err);

    if (!rc)
        rc = answer(f, t, &out, err);
    if (!rc && out.n_bytes)
        fwrite(out.data, 1, out.n_bytes, stdout);
    fs_buf_done(&out);
    fs_tokenizer_close(t);
    return rc;
}

static const fs_option options[] = {
    FS_OPT_STR("format", 'f', opt.format, "NAME", "the chat format of a MODEL (default: its own)"),
    FS_OPT_FLAG("json", 0, opt.json, "answer {\"prompt\": \"...\", \"ids\": [...]}"),
    FS_OPT_END
};

const fs_command fs_command_template = {
    .set = { .name = "template",
             .usage = "MODEL|FORMAT",
             .summary = "Render the conversation on stdin as a model's prompt.",
             .text = "Stdin is a JSON object: {\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"thinking\": true, "
                     "\"add_generation_prompt\": true}. FORMAT is chatml, qwen2, qwen3, smollm2, llama3, deepseek-v3 or deepseek-r1; "
                     "with a MODEL the answer has the token ids too.",
             .options = options,
             .n_args_min = 1,
             .n_args_max = 1 },
    .run = run,
};
