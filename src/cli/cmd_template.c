/* farseek template: a conversation as the prompt a model gets. */
#include "base/json.h"
#include "cli/cli.h"
#include "cli/tokens.h"
#include "base/file.h"

#include <stdlib.h>
#include <string.h>

#define MESSAGES_MAX 100000

static struct {
    bool json;
    const char *format, *jinja, *date;
} opt;

/* What the request owns beside its JSON: the calls, and the texts of arguments that came as objects. */
typedef struct request {
    struct json_object *json;
    fs_message *messages;
    size_t n_messages;
    fs_tool_call *calls;
    size_t n_calls;
    fs_chat_options options;
} request;

static void request_done(request *r)
{
    free(r->messages);
    free(r->calls);
    json_object_put(r->json);
}

/* The text of o, which o keeps. */
static fs_status json_text(struct json_object *o, fs_bytes *ret, fs_error *err)
{
    const char *s = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);

    if (!s)
        return fs_fail_memory(err, 1);
    *ret = fs_bytes_str(s);
    return FS_OK;
}

static fs_status read_call(struct json_object *o, fs_tool_call *ret, fs_error *err)
{
    struct json_object *function = fs_json_member(o, "function"), *arguments;
    bool found = false;
    fs_status rc;

    if (!function)
        function = o;
    if ((rc = fs_json_string(o, "id", &ret->id, NULL, err)) || (rc = fs_json_string(function, "name", &ret->name, &found, err)))
        return rc;
    if (!found)
        return fs_fail(err, FS_ERR_FORMAT, "a tool call has no name");
    arguments = fs_json_member(function, "arguments");
    if (json_object_is_type(arguments, json_type_object))
        return json_text(arguments, &ret->arguments, err);
    ret->arguments = FS_BYTES_LIT("{}");
    return fs_json_string(function, "arguments", &ret->arguments, NULL, err);
}

static size_t count_calls(struct json_object *messages)
{
    size_t n = 0;

    for (size_t i = 0; i < json_object_array_length(messages); i++) {
        struct json_object *calls = fs_json_member(json_object_array_get_idx(messages, i), "tool_calls");
        n += json_object_is_type(calls, json_type_array) ? json_object_array_length(calls) : 0;
    }
    return n;
}

static fs_status read_message(struct json_object *o, size_t i, request *r, fs_message *ret, fs_error *err)
{
    struct json_object *calls = fs_json_member(o, "tool_calls");
    static const char *const roles[] = { "system", "user", "assistant", "tool" };
    fs_bytes role = { 0 };
    bool found = false;
    size_t k = 0;
    fs_status rc;

    if ((rc = fs_json_string(o, "role", &role, &found, err)) || (rc = fs_json_string(o, "content", &ret->content, NULL, err)) ||
        (rc = fs_json_string(o, "reasoning_content", &ret->reasoning, NULL, err)) ||
        (rc = fs_json_string(o, "tool_call_id", &ret->call_id, NULL, err)))
        return fs_fail_prefix(err, "message %zu", i), rc;
    while (k < 4 && !(found && fs_bytes_equal(role, fs_bytes_str(roles[k]))))
        k++;
    if (k == 4)
        return fs_fail(err, FS_ERR_FORMAT, "message %zu has the role '%.*s', known are system, user, assistant and tool", i,
                       role.n_bytes < 40 ? (int)role.n_bytes : 40, found ? (const char *)role.data : "");
    ret->role = (fs_role)k;
    if (calls && !json_object_is_type(calls, json_type_array))
        return fs_fail(err, FS_ERR_FORMAT, "message %zu: tool_calls is no array", i);
    ret->calls = r->calls + r->n_calls;
    ret->n_calls = calls ? json_object_array_length(calls) : 0;
    for (k = 0; k < ret->n_calls; k++)
        if ((rc = read_call(json_object_array_get_idx(calls, k), &r->calls[r->n_calls++], err)))
            return fs_fail_prefix(err, "message %zu", i), rc;
    return FS_OK;
}

static fs_status read_messages(request *r, fs_error *err)
{
    struct json_object *list = fs_json_member(r->json, "messages");
    size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0, n_calls;
    fs_status rc = FS_OK;

    if (n == 0 || n > MESSAGES_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "stdin has %zu 'messages', allowed are 1 to %d", n, MESSAGES_MAX);
    n_calls = count_calls(list);
    r->messages = calloc(n, sizeof *r->messages);
    r->calls = calloc(n_calls + 1, sizeof *r->calls);
    if (!r->messages || !r->calls)
        return fs_fail_memory(err, n * sizeof *r->messages + n_calls * sizeof *r->calls);
    for (size_t i = 0; i < n && !rc; i++)
        rc = read_message(json_object_array_get_idx(list, i), i, r, &r->messages[i], err);
    r->n_messages = n;
    return rc;
}

static fs_status read_request(request *r, fs_error *err)
{
    struct json_object *tools;
    fs_bytes effort = { 0 };
    bool found = false;
    fs_status rc;

    r->options = (fs_chat_options){ .thinking = true, .add_generation_prompt = true };
    if ((rc = fs_tokens_read_request(&r->json, err)) || (rc = fs_json_bool(r->json, "thinking", &r->options.thinking, NULL, err)) ||
        (rc = fs_json_bool(r->json, "add_generation_prompt", &r->options.add_generation_prompt, NULL, err)) ||
        (rc = fs_json_string(r->json, "reasoning_effort", &effort, &found, err)))
        return rc;
    if (found && !fs_effort_from_name(effort, &r->options.effort))
        return fs_fail(err, FS_ERR_FORMAT, "reasoning_effort '%.*s' is none of low, high, xhigh and max",
                       effort.n_bytes < 40 ? (int)effort.n_bytes : 40, (const char *)effort.data);
    tools = fs_json_member(r->json, "tools");
    if (tools && (rc = json_text(tools, &r->options.tools, err)))
        return rc;
    return read_messages(r, err);
}

/* The format by name, or the model's own with its tokenizer and what stands beside it. */
static fs_status choose(const char *name, fs_chat_format *ret, fs_tokenizer **ret_tokenizer, fs_chat_config *ret_config, fs_error *err)
{
    fs_status rc;

    *ret = fs_chat_format_from_name(name);
    if (*ret != FS_CHAT_FORMAT_END && *ret != FS_CHAT_NONE && *ret != FS_CHAT_TEMPLATE)
        return FS_OK;
    rc = fs_tokens_open(name, ret_tokenizer, ret_config, err);
    if (!rc)
        *ret = opt.format ? fs_chat_format_from_name(opt.format) : fs_chat_format_detect(fs_buf_bytes(&ret_config->source), *ret_tokenizer, NULL);
    if (!rc && *ret == FS_CHAT_FORMAT_END)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "unknown chat format '%.100s' (farseek template --help lists them)", opt.format);
    if (!rc && *ret == FS_CHAT_TEMPLATE && ret_config->source.n_bytes == 0)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "'%.300s' has no chat template", name);
    return rc;
}

/* A request for a template, which may use whatever it says. The model's own tokens, add_generation_prompt and thinking
 * are given where the request does not, as fs_chat_template_messages gives them. */
static fs_status complete(struct json_object *request, const fs_chat_config *config, fs_error *err)
{
    struct json_object *thinking = fs_json_member(request, "thinking");
    int failed = 0;

    if (config->own) {
        json_object_object_foreach(config->own, key, value)
        {
            if (!json_object_object_get_ex(request, key, NULL) && json_object_object_add(request, key, json_object_get(value)) != 0)
                failed = 1;
        }
    }
    if (!opt.jinja && !fs_json_member(request, "add_generation_prompt"))
        failed |= json_object_object_add(request, "add_generation_prompt", json_object_new_boolean(true));
    if (!opt.jinja && !thinking)
        failed |= json_object_object_add(request, "thinking", json_object_new_boolean(true));
    if (!opt.jinja && !fs_json_member(request, "enable_thinking"))
        failed |= json_object_object_add(request, "enable_thinking", json_object_new_boolean(!thinking || json_object_get_boolean(thinking)));
    return failed ? fs_fail_memory(err, sizeof(void *)) : FS_OK;
}

static fs_status render_jinja(const fs_tokenizer *t, const fs_chat_config *config, fs_buf *ret_prompt, fs_ids *ret_ids, fs_error *err)
{
    struct json_object *request = NULL;
    fs_buf text = { 0 };
    struct tm now;
    fs_status rc = fs_date_read(opt.date, &now, err);

    if (!rc && opt.jinja)
        rc = fs_file_read(opt.jinja, FS_JINJA_SOURCE_BYTES_MAX, &text, err);
    if (!rc && !(rc = fs_tokens_read_request(&request, err)) && !(rc = complete(request, config, err)))
        rc = fs_chat_template_render(fs_buf_bytes(opt.jinja ? &text : &config->source), t, request, &now, ret_prompt, t ? ret_ids : NULL, err);
    json_object_put(request);
    fs_buf_done(&text);
    return rc;
}

static fs_status render(fs_chat_format f, const fs_tokenizer *t, fs_buf *ret_prompt, fs_ids *ret_ids, fs_error *err)
{
    request r = { 0 };
    fs_status rc = read_request(&r, err);

    if (!rc)
        rc = fs_chat_render(f, t, r.messages, r.n_messages, &r.options, ret_prompt, t ? ret_ids : NULL, err);
    request_done(&r);
    return rc;
}

static fs_status answer(fs_chat_format f, const fs_tokenizer *t, const fs_chat_config *config, fs_buf *out, fs_error *err)
{
    fs_buf prompt = { 0 };
    fs_ids ids = { 0 };
    bool jinja = opt.jinja || f == FS_CHAT_TEMPLATE;
    fs_status rc = jinja ? render_jinja(t, config, &prompt, &ids, err) : render(f, t, &prompt, &ids, err);

    if (rc)
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
    fs_buf_done(&prompt);
    fs_ids_done(&ids);
    return rc;
}

static fs_status run(const fs_args *args, fs_error *err)
{
    fs_chat_format f = FS_CHAT_NONE;
    fs_chat_config config = { .add_bos = -1 };
    fs_tokenizer *t = NULL;
    fs_buf out = { 0 };
    fs_status rc = FS_OK;

    if (args->n == 0 && !opt.jinja)
        return fs_fail(err, FS_ERR_ARGUMENT, "template needs a MODEL or a FORMAT, or --jinja");
    if (args->n)
        rc = opt.jinja ? fs_tokens_open(args->items[0], &t, &config, err) : choose(args->items[0], &f, &t, &config, err);
    if (!rc)
        rc = answer(f, t, &config, &out, err);
    if (!rc && out.n_bytes)
        fwrite(out.data, 1, out.n_bytes, stdout);
    fs_buf_done(&out);
    fs_chat_config_done(&config);
    fs_tokenizer_close(t);
    return rc;
}

static const fs_option options[] = {
    FS_OPT_STR("format", 'f', opt.format, "NAME", "the chat format of a MODEL (default: its own)"),
    FS_OPT_STR("jinja", 'j', opt.jinja, "FILE", "run this chat template instead (default: the chat format)"),
    FS_OPT_STR("date", 0, opt.date, "DATE", "what a template's clock tells: 2026-01-31 or 2026-01-31T09:30:00 (default: local time)"),
    FS_OPT_FLAG("json", 0, opt.json, "answer {\"prompt\": \"...\", \"ids\": [...]}"),
    FS_OPT_END
};

const fs_command fs_command_template = {
    .set = { .name = "template",
             .usage = "[MODEL|FORMAT]",
             .summary = "Render the conversation on stdin as a model's prompt.",
             .text = "Stdin is a JSON object: {\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"thinking\": true, "
                     "\"add_generation_prompt\": true, \"reasoning_effort\": \"high\", \"tools\": [...]}, the messages and tools of the "
                     "OpenAI API. FORMAT is chatml, qwen2, qwen3, smollm2, llama3, deepseek-v3, deepseek-r1, deepseek-v3.1, deepseek-v3.2, "
                     "deepseek-v4 or deepseek-v4.1; with a MODEL the answer has the token ids too. A MODEL with another chat template, and "
                     "--format template, run the template of its files.\n\n"
                     "With --jinja the template FILE is run; each member of the object is a variable of it (bos_token, "
                     "enable_thinking), and MODEL, which may be missing, gives the token ids. No word of messages, tools or documents "
                     "becomes a special token.",
             .options = options,
             .n_args_min = 0,
             .n_args_max = 1 },
    .run = run,
};
