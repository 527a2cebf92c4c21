/* ChatML with its defaults, tools and reasoning (Qwen2.5, Qwen3, SmolLM2), and Llama 3's format. Source: the published
 * chat templates. */
#include "text/chat_write.h"

#include <string.h>

static const char *const role_names[] = { "system", "user", "assistant" };

static void im_turn(fs_chat_writer *w, const char *role, fs_bytes content)
{
    fs_put_marker(w, "<|im_start|>");
    fs_put(w, role);
    fs_put(w, "\n");
    fs_put_text(w, content);
    fs_put_marker(w, "<|im_end|>");
    fs_put(w, "\n");
}

static void open_answer(fs_chat_writer *w)
{
    fs_put_marker(w, "<|im_start|>");
    fs_put(w, "assistant\n");
}

/* Calls stand on lines of their own, behind the content if there is any. */
static void put_calls(fs_chat_writer *w, const fs_message *m, bool has_content)
{
    for (size_t i = 0; i < m->n_calls; i++) {
        fs_bytes arguments;
        if (i > 0 || has_content)
            fs_put(w, "\n");
        fs_put_markup(w, "<tool_call>\n{\"name\": ");
        fs_put_quoted(w, m->calls[i].name);
        fs_put(w, ", \"arguments\": ");
        if (fs_json_text_valid(m->calls[i].arguments, &arguments))
            fs_put_json(w, arguments, 0);
        else
            fs_put_text(w, m->calls[i].arguments);
        fs_put_markup(w, "}\n</tool_call>");
    }
}

/* Results in a row are one turn of the user's. */
static void put_result(fs_chat_writer *w, const fs_message *m, size_t n, size_t i)
{
    if (i == 0 || m[i - 1].role != FS_ROLE_TOOL) {
        fs_put_marker(w, "<|im_start|>");
        fs_put(w, "user");
    }
    fs_put_markup(w, "\n<tool_response>\n");
    fs_put_text(w, m[i].content);
    fs_put_markup(w, "\n</tool_response>");
    if (i + 1 == n || m[i + 1].role != FS_ROLE_TOOL) {
        fs_put_marker(w, "<|im_end|>");
        fs_put(w, "\n");
    }
}

/* The first system message, or the format's own, with the tools. Returns how many messages that took. */
static size_t put_system(fs_chat_writer *w, const fs_message *m)
{
    bool own = m[0].role == FS_ROLE_SYSTEM;
    const char *fallback = w->format == FS_CHAT_QWEN2     ? "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
                           : w->format == FS_CHAT_SMOLLM2 ? "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
                                                          : NULL;
    fs_json_walk walk = { 0 };
    fs_bytes tool, function;

    if (!own && !fallback && !w->options->tools.n_bytes)
        return 0;
    fs_put_marker(w, "<|im_start|>");
    fs_put(w, "system\n");
    if (own)
        fs_put_text(w, m[0].content);
    else if (fallback)
        fs_put(w, fallback);
    if (w->options->tools.n_bytes) {
        if (own || fallback)
            fs_put(w, "\n\n");
        fs_put_markup(w, "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function "
                         "signatures within <tools></tools> XML tags:\n<tools>");
        while (fs_next_tool(w->options, &walk, &tool, &function)) {
            fs_put(w, "\n");
            fs_put_json(w, tool, 0);
        }
        fs_put_markup(w, "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
                         "<tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": "
                         "<args-json-object>}\n</tool_call>");
    }
    fs_put_marker(w, "<|im_end|>");
    fs_put(w, "\n");
    return own;
}

void fs_render_chatml(fs_chat_writer *w, const fs_message *m, size_t n)
{
    for (size_t i = put_system(w, m); i < n; i++) {
        if (m[i].role == FS_ROLE_TOOL) {
            put_result(w, m, n, i);
            continue;
        }
        if (m[i].n_calls == 0) {
            im_turn(w, role_names[m[i].role], m[i].content);
            continue;
        }
        open_answer(w);
        fs_put_text(w, m[i].content);
        put_calls(w, &m[i], m[i].content.n_bytes > 0);
        fs_put_marker(w, "<|im_end|>");
        fs_put(w, "\n");
    }
    if (w->options->add_generation_prompt)
        open_answer(w);
}

static void put_reasoning(fs_chat_writer *w, fs_bytes reasoning)
{
    fs_put_markup(w, "<think>\n");
    fs_put_text(w, fs_strip_newlines(reasoning, true, true));
    fs_put_markup(w, "\n</think>\n\n");
}

static void qwen3_assistant(fs_chat_writer *w, const fs_message *m, bool last, bool after_query)
{
    fs_bytes reasoning = m->reasoning, content = m->content;
    bool has_content;
    size_t at;

    if (!reasoning.n_bytes && fs_find_first(content, FS_MARK_THINK_END, &at)) {
        reasoning = fs_strip_newlines((fs_bytes){ content.data, at }, false, true);
        if (fs_find_last(reasoning, FS_MARK_THINK, &at))
            reasoning = fs_bytes_from(reasoning, at + strlen(FS_MARK_THINK));
        reasoning = fs_strip_newlines(reasoning, true, false);
        fs_find_last(content, FS_MARK_THINK_END, &at);
        content = fs_strip_newlines(fs_bytes_from(content, at + strlen(FS_MARK_THINK_END)), true, false);
    }
    has_content = content.n_bytes > 0;
    open_answer(w);
    if (after_query && (last || reasoning.n_bytes)) {
        put_reasoning(w, reasoning);
        content = fs_strip_newlines(content, true, false);
    }
    fs_put_text(w, content);
    put_calls(w, m, has_content);
    fs_put_marker(w, "<|im_end|>");
    fs_put(w, "\n");
}

void fs_reply_chatml(fs_chat_writer *w, const fs_message *m)
{
    if (w->format == FS_CHAT_QWEN3 && w->options->thinking)
        put_reasoning(w, m->reasoning);
    fs_put_text(w, m->content);
    put_calls(w, m, m->content.n_bytes > 0);
    fs_put_marker(w, "<|im_end|>");
}

static bool is_tool_response(fs_bytes s)
{
    static const char open[] = "<tool_response>", close[] = "</tool_response>";
    size_t n_open = sizeof open - 1, n_close = sizeof close - 1;

    return s.n_bytes >= n_open && s.n_bytes >= n_close && memcmp(s.data, open, n_open) == 0 &&
           memcmp(s.data + s.n_bytes - n_close, close, n_close) == 0;
}

void fs_render_qwen3(fs_chat_writer *w, const fs_message *m, size_t n)
{
    size_t query = n - 1; /* reasoning is kept in what follows the last question */

    for (size_t i = n; i-- > 0;)
        if (m[i].role == FS_ROLE_USER && !is_tool_response(m[i].content)) {
            query = i;
            break;
        }
    for (size_t i = put_system(w, m); i < n; i++) {
        if (m[i].role == FS_ROLE_ASSISTANT)
            qwen3_assistant(w, &m[i], i + 1 == n, i > query);
        else if (m[i].role == FS_ROLE_TOOL)
            put_result(w, m, n, i);
        else
            im_turn(w, role_names[m[i].role], m[i].content);
    }
    if (!w->options->add_generation_prompt)
        return;
    open_answer(w);
    if (!w->options->thinking)
        fs_put_markup(w, "<think>\n\n</think>\n\n");
}

static void llama3_header(fs_chat_writer *w, const char *role)
{
    fs_put_marker(w, "<|start_header_id|>");
    fs_put(w, role);
    fs_put_marker(w, "<|end_header_id|>");
    fs_put(w, "\n\n");
}

void fs_render_llama3(fs_chat_writer *w, const fs_message *m, size_t n)
{
    fs_put_marker(w, "<|begin_of_text|>");
    for (size_t i = 0; i < n; i++) {
        llama3_header(w, role_names[m[i].role]);
        fs_put_text(w, fs_trim(m[i].content));
        fs_put_marker(w, "<|eot_id|>");
    }
    if (w->options->add_generation_prompt)
        llama3_header(w, "assistant");
}
