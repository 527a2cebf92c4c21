/* DeepSeek's formats with markers for everything: V3 and R1, and V3.1, where a switch chooses <think> or </think>.
 * Source: the chat templates of the models and, for what tools look like in a prompt, V3.1's model card. Those of V3 and
 * R1 lose count of their markers once a conversation calls tools twice; here every turn has its own. */
#include "text/chat_write.h"

#include <string.h>

/* The tools as V3.1's model card has them; V3 and R1, for which none was published, see the same with their own calls. */
static void put_tools(fs_chat_writer *w, bool v31)
{
    fs_json_walk walk = { 0 };
    fs_bytes tool, function, value;

    fs_put(w, "## Tools\nYou have access to the following tools:\n");
    while (fs_next_tool(w->options, &walk, &tool, &function)) {
        fs_put(w, "\n### ");
        if (fs_json_text_member(function, "name", &value))
            fs_put_unquoted(w, value);
        fs_put(w, "\nDescription: ");
        if (fs_json_text_member(function, "description", &value) && value.data[0] == '"')
            fs_put_unquoted(w, value);
        fs_put(w, "\n\nParameters: ");
        if (fs_json_text_member(function, "parameters", &value))
            fs_put_json(w, value, 0);
        else
            fs_put(w, "{}");
        fs_put(w, "\n");
    }
    fs_put(w, "\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n");
    if (v31)
        fs_put_markup(w, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments<｜tool▁call▁end｜>"
                         "{additional_tool_calls}<｜tool▁calls▁end｜>\n");
    else
        fs_put_markup(w, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>tool_call_name\n```json\ntool_call_arguments\n```"
                         "<｜tool▁call▁end｜>{additional_tool_calls}<｜tool▁calls▁end｜>\n");
    fs_put(w, "\nWhere:\n- `tool_call_name` must be an exact match to one of the available tools\n- `tool_call_arguments` must be valid "
              "JSON that strictly follows the tool's Parameters Schema\n");
    fs_put(w, v31 ? "- For multiple tool calls, chain them directly without separators or spaces\n"
                  : "- For multiple tool calls, put a newline between them\n");
}

/* System messages come first, wherever they stood, then the tools. */
static void put_begin(fs_chat_writer *w, const fs_message *m, size_t n)
{
    bool first = true;

    fs_put_marker(w, FS_MARK_BOS);
    for (size_t i = 0; i < n; i++)
        if (m[i].role == FS_ROLE_SYSTEM) {
            if (!first)
                fs_put(w, "\n\n");
            first = false;
            fs_put_text(w, m[i].content);
        }
    if (w->options->tools.n_bytes) {
        if (!first)
            fs_put(w, "\n\n");
        put_tools(w, w->format == FS_CHAT_DEEPSEEK_V31);
    }
}

static void put_calls(fs_chat_writer *w, const fs_message *m)
{
    bool v31 = w->format == FS_CHAT_DEEPSEEK_V31;

    if (m->n_calls == 0)
        return;
    fs_put_marker(w, "<｜tool▁calls▁begin｜>");
    for (size_t i = 0; i < m->n_calls; i++) {
        if (i > 0 && !v31)
            fs_put(w, "\n");
        fs_put_marker(w, "<｜tool▁call▁begin｜>");
        if (!v31) {
            fs_put(w, "function");
            fs_put_marker(w, "<｜tool▁sep｜>");
        }
        fs_put_text(w, m->calls[i].name);
        if (v31)
            fs_put_marker(w, "<｜tool▁sep｜>");
        else
            fs_put(w, "\n```json\n");
        fs_put_text(w, m->calls[i].arguments);
        if (!v31)
            fs_put(w, "\n```");
        fs_put_marker(w, "<｜tool▁call▁end｜>");
    }
    fs_put_marker(w, "<｜tool▁calls▁end｜>");
}

/* An answer to tools' results goes on without a marker. R1 forgets how it came to an answer. */
void fs_render_deepseek_v3(fs_chat_writer *w, const fs_message *m, size_t n)
{
    bool r1 = w->format == FS_CHAT_DEEPSEEK_R1, results = false;
    size_t at;

    put_begin(w, m, n);
    for (size_t i = 0; i < n; i++) {
        fs_bytes content = m[i].content;
        if (m[i].role == FS_ROLE_SYSTEM)
            continue;
        if (m[i].role == FS_ROLE_TOOL) {
            if (!results)
                fs_put_marker(w, "<｜tool▁outputs▁begin｜>");
            results = true;
            fs_put_marker(w, "<｜tool▁output▁begin｜>");
            fs_put_text(w, content);
            fs_put_marker(w, "<｜tool▁output▁end｜>");
            continue;
        }
        if (results)
            fs_put_marker(w, "<｜tool▁outputs▁end｜>");
        if (m[i].role == FS_ROLE_USER) {
            fs_put_marker(w, FS_MARK_USER);
            fs_put_text(w, content);
        } else {
            if (!results) {
                fs_put_marker(w, FS_MARK_ASSISTANT);
                if (r1 && fs_find_last(content, FS_MARK_THINK_END, &at))
                    content = fs_bytes_from(content, at + strlen(FS_MARK_THINK_END));
            }
            fs_put_text(w, content);
            put_calls(w, &m[i]);
            fs_put_marker(w, FS_MARK_EOS);
        }
        results = false;
    }
    if (results)
        fs_put_marker(w, "<｜tool▁outputs▁end｜>");
    if (!w->options->add_generation_prompt || results)
        return;
    fs_put_marker(w, FS_MARK_ASSISTANT);
    if (r1)
        fs_put_markup(w, "<think>\n");
}

/* Earlier answers follow </think>. What follows tools' results, or another answer, goes on without a marker, and so does
 * the next answer if the conversation ends there: the template's rule. */
void fs_render_deepseek_v31(fs_chat_writer *w, const fs_message *m, size_t n)
{
    bool question = false, results = false; /* the last thing said */
    size_t at;

    put_begin(w, m, n);
    for (size_t i = 0; i < n; i++) {
        fs_bytes content = m[i].content;
        switch (m[i].role) {
        case FS_ROLE_USER:
            fs_put_marker(w, FS_MARK_USER);
            fs_put_text(w, content);
            question = true;
            results = false;
            break;
        case FS_ROLE_ASSISTANT:
            if (question) {
                fs_put_marker(w, FS_MARK_ASSISTANT);
                fs_put_markup(w, FS_MARK_THINK_END);
            }
            if (!results && !m[i].n_calls && fs_find_first(content, FS_MARK_THINK_END, &at))
                content = fs_bytes_from(content, at + strlen(FS_MARK_THINK_END));
            fs_put_text(w, content);
            put_calls(w, &m[i]);
            fs_put_marker(w, FS_MARK_EOS);
            question = results = false;
            break;
        case FS_ROLE_TOOL:
            fs_put_marker(w, "<｜tool▁output▁begin｜>");
            fs_put_text(w, content);
            fs_put_marker(w, "<｜tool▁output▁end｜>");
            question = false;
            results = true;
            break;
        case FS_ROLE_SYSTEM:
            break;
        }
    }
    if (!w->options->add_generation_prompt || !question)
        return;
    fs_put_marker(w, FS_MARK_ASSISTANT);
    fs_put_markup(w, w->options->thinking ? FS_MARK_THINK : FS_MARK_THINK_END);
}

void fs_reply_deepseek(fs_chat_writer *w, const fs_message *m)
{
    if (w->format == FS_CHAT_DEEPSEEK_R1) {
        fs_put_text(w, fs_strip_newlines(m->reasoning, true, true));
        fs_put_markup(w, "\n</think>\n\n");
    } else if (w->format == FS_CHAT_DEEPSEEK_V31 && w->options->thinking) {
        fs_put_text(w, m->reasoning);
        fs_put_markup(w, FS_MARK_THINK_END);
    }
    fs_put_text(w, m->content);
    put_calls(w, m);
    fs_put_marker(w, FS_MARK_EOS);
}
