/* DeepSeek V3.2, V4 and V4.1: calls as DSML, tags around ｜DSML｜. Source: DeepSeek's own encoders (encoding_dsv32.py
 * beside V3.2; deepseek-recipe 0.2.0 for V4 and V4.1). */
#include "text/chat_write.h"

#include <stdlib.h>
#include <string.h>

const fs_dsml *fs_dsml_of(fs_chat_format f)
{
    static const fs_dsml v32 = { "function_calls", "" }, v4 = { "tool_calls", "" }, v41 = { " calls", " " };

    return f == FS_CHAT_DEEPSEEK_V32 ? &v32 : f == FS_CHAT_DEEPSEEK_V4 ? &v4 : &v41;
}

static unsigned json_flags(const fs_chat_writer *w)
{
    return w->format == FS_CHAT_DEEPSEEK_V4 ? FS_JSON_TEXT_RUST : 0;
}

/* ---- calls ---- */

/* "<｜DSML｜" or "</｜DSML｜", space and name: "invoke", "parameter" or the block's. */
static void put_tag(fs_chat_writer *w, bool close, const char *space, const char *name)
{
    fs_put_markup(w, close ? "</" FS_MARK_DSML : "<" FS_MARK_DSML);
    fs_put(w, space);
    fs_put(w, name);
}

static void put_parameter(fs_chat_writer *w, fs_bytes name, fs_bytes value, bool raw)
{
    const char *space = fs_dsml_of(w->format)->space;
    bool string = raw || value.data[0] == '"';

    put_tag(w, false, space, "parameter name=\"");
    if (raw)
        fs_put_text(w, name);
    else
        fs_put_unquoted(w, name);
    fs_put(w, string ? "\" string=\"true\">" : "\" string=\"false\">");
    if (raw)
        fs_put_text(w, value);
    else if (string)
        fs_put_unquoted(w, value);
    else
        fs_put_json(w, value, json_flags(w));
    put_tag(w, true, space, "parameter>");
}

static void put_invoke(fs_chat_writer *w, const fs_tool_call *c)
{
    const char *space = fs_dsml_of(w->format)->space;
    fs_bytes arguments, key, value;
    bool first = true;
    fs_json_walk walk;

    put_tag(w, false, space, "invoke name=\"");
    fs_put_text(w, c->name);
    fs_put(w, "\">\n");
    if (fs_json_text_valid(c->arguments, &arguments) && fs_json_walk_init(&walk, arguments) && walk.object) {
        for (; fs_json_walk_next(&walk, &key, &value); first = false) {
            if (!first)
                fs_put(w, "\n");
            put_parameter(w, key, value, false);
        }
    } else {
        put_parameter(w, FS_BYTES_LIT("arguments"), c->arguments, true);
        first = false;
    }
    /* V4 writes no empty line for a call without arguments. */
    if (!first || w->format != FS_CHAT_DEEPSEEK_V4)
        fs_put(w, "\n");
    put_tag(w, true, space, "invoke>");
}

static void put_calls(fs_chat_writer *w, const fs_message *m)
{
    const char *block = fs_dsml_of(w->format)->calls;

    if (m->n_calls == 0)
        return;
    fs_put(w, "\n\n");
    put_tag(w, false, "", block);
    fs_put(w, ">\n");
    for (size_t i = 0; i < m->n_calls; i++) {
        put_invoke(w, &m->calls[i]);
        fs_put(w, "\n");
    }
    put_tag(w, true, "", block);
    fs_put(w, ">");
}

/* The form of a call, as the tools' descriptions show it. */
static void put_example(fs_chat_writer *w, const char *what)
{
    const fs_dsml *d = fs_dsml_of(w->format);

    put_tag(w, false, "", d->calls);
    fs_put(w, ">\n");
    put_tag(w, false, d->space, "invoke name=\"$");
    fs_put(w, what);
    fs_put(w, "_NAME\">\n");
    put_tag(w, false, d->space, "parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE");
    put_tag(w, true, d->space, "parameter>\n...\n");
    put_tag(w, true, d->space, "invoke>\n");
    put_tag(w, false, d->space, "invoke name=\"$");
    fs_put(w, what);
    fs_put(w, "_NAME2\">\n...\n");
    put_tag(w, true, d->space, "invoke>\n");
    put_tag(w, true, "", d->calls);
    fs_put(w, ">\n");
}

void fs_reply_dsml(fs_chat_writer *w, const fs_message *m)
{
    if (w->options->thinking) {
        fs_put_text(w, m->reasoning);
        fs_put_markup(w, FS_MARK_THINK_END);
    }
    fs_put_text(w, m->content);
    put_calls(w, m);
    fs_put_marker(w, FS_MARK_EOS);
}

static void put_think(fs_chat_writer *w, bool open)
{
    fs_put_markup(w, open ? FS_MARK_THINK : FS_MARK_THINK_END);
}

/* ---- V3.2 ---- */

static void put_tools_v32(fs_chat_writer *w)
{
    fs_json_walk walk = { 0 };
    fs_bytes tool, function;

    fs_put(w, "\n\n## Tools\nYou have access to a set of tools you can use to answer the user's question.\nYou can invoke functions by "
              "writing a \"");
    put_tag(w, false, "", "function_calls>\" block like the following as part of your reply to the user:\n");
    put_example(w, "FUNCTION");
    fs_put(w, "String and scalar parameters should be specified as is without any escaping or quotes, while lists and objects should use "
              "JSON format. The \"string\" attribute should be set to \"true\" for string type parameters and \"false\" for other types "
              "(numbers, booleans, arrays, objects).\nIf the thinking_mode is enabled, then after function results you should strongly "
              "consider outputting a thinking block. Here is an example:\n");
    put_tag(w, false, "", "function_calls>\n...\n");
    put_tag(w, true, "", "function_calls>\n<function_results>\n...\n</function_results>\n");
    fs_put_markup(w, "<think>...thinking about results</think>\nHere are the functions available in JSONSchema format:\n<functions>\n");
    for (bool first = true; fs_next_tool(w->options, &walk, &tool, &function); first = false) {
        if (!first)
            fs_put(w, "\n");
        fs_put_json(w, function, 0);
    }
    fs_put(w, "\n</functions>\n");
}

/* The question or result before an answer opens it: with <think> if the answer may still be coming, </think> else. */
void fs_render_deepseek_v32(fs_chat_writer *w, const fs_message *m, size_t n)
{
    bool tools = w->options->tools.n_bytes > 0, thinking = w->options->thinking;
    size_t last_user = 0, n_calls = 0, n_results = 0;

    for (size_t i = 0; i < n; i++)
        if (m[i].role == FS_ROLE_USER)
            last_user = i;
    fs_put_marker(w, FS_MARK_BOS);
    if (tools && m[0].role != FS_ROLE_SYSTEM)
        put_tools_v32(w);
    for (size_t i = 0; i < n && !w->rc; i++) {
        bool answered = i + 1 < n || w->options->add_generation_prompt;
        if (m[i].role != FS_ROLE_TOOL && n_results < n_calls) {
            w->rc = fs_fail(w->err, FS_ERR_FORMAT, "message %zu stands where %zu of %zu tool results are missing", i, n_calls - n_results, n_calls);
            return;
        }
        switch (m[i].role) {
        case FS_ROLE_SYSTEM:
            fs_put_text(w, m[i].content);
            if (tools && i == 0)
                put_tools_v32(w);
            break;
        case FS_ROLE_USER:
            fs_put_marker(w, FS_MARK_USER);
            fs_put_text(w, m[i].content);
            if (answered) {
                fs_put_marker(w, FS_MARK_ASSISTANT);
                put_think(w, i == last_user && thinking);
            }
            n_calls = n_results = 0;
            break;
        case FS_ROLE_ASSISTANT:
            if (thinking && i > last_user) {
                fs_put_text(w, m[i].reasoning);
                put_think(w, false);
            }
            fs_put_text(w, m[i].content);
            put_calls(w, &m[i]);
            fs_put_marker(w, FS_MARK_EOS);
            n_calls = m[i].n_calls;
            n_results = 0;
            break;
        case FS_ROLE_TOOL:
            if (n_results == n_calls) {
                w->rc = fs_fail(w->err, FS_ERR_FORMAT, "message %zu is a tool's result, but the calls before it have theirs (%zu)", i, n_calls);
                return;
            }
            if (n_results++ == 0)
                fs_put(w, "\n\n<function_results>");
            fs_put(w, "\n<result>");
            fs_put_text(w, m[i].content);
            fs_put(w, "</result>");
            if (n_results < n_calls)
                break;
            fs_put(w, "\n</function_results>");
            if (answered) {
                fs_put(w, "\n\n");
                put_think(w, i >= last_user && thinking);
            }
            break;
        }
    }
}

/* ---- V4 and V4.1 ---- */

static void put_effort(fs_chat_writer *w)
{
    fs_effort e = w->options->effort;

    if (!w->options->thinking)
        return;
    if (w->format == FS_CHAT_DEEPSEEK_V41) {
        fs_put(w, "Reasoning Effort: ");
        fs_put(w, e == FS_EFFORT_LOW ? "50" : e == FS_EFFORT_MAX ? "100" : "75");
        fs_put(w, " (range 1-100, the higher the value, the more thorough the reasoning)\n\n");
    } else if (e == FS_EFFORT_MAX) {
        fs_put(w, "Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.\nYou MUST reason with the utmost depth "
                  "and rigor, leaving absolutely nothing to chance: exhaustively decompose the problem into its most fundamental "
                  "components, trace every causal chain to its root, and resolve the underlying cause rather than any surface "
                  "symptom.\nDo not stop reasoning until you have independently verified the solution from multiple angles and are "
                  "certain that no assumption remains unchecked and no error remains undiscovered.\n\n");
    } else if (e != FS_EFFORT_LOW) {
        fs_put(w, "Reasoning Effort: Absolute maximum with no shortcuts permitted.\nYou MUST be very thorough in your thinking and "
                  "comprehensively decompose the problem to resolve the root cause, rigorously stress-testing your logic against all "
                  "potential paths, edge cases, and adversarial scenarios.\nExplicitly write out your entire deliberation process, "
                  "documenting every intermediate step, considered alternative, and rejected hypothesis to ensure absolutely no "
                  "assumption is left unchecked.\n\n");
    }
}

static void put_tools_v4(fs_chat_writer *w)
{
    fs_json_walk walk = { 0 };
    fs_bytes tool, function, value;

    fs_put(w, "\n\n## Tools\n\nYou have access to a set of tools to help answer the user's question. You can invoke tools by writing a \"");
    put_tag(w, false, "", fs_dsml_of(w->format)->calls);
    fs_put(w, ">\" block like the following:\n\n");
    put_example(w, "TOOL");
    fs_put_markup(w, "\nString parameters should be specified as is and set `string=\"true\"`. For all other types (numbers, booleans, "
                     "arrays, objects), pass the value in JSON format and set `string=\"false\"`.\n\nIf thinking_mode is enabled "
                     "(triggered by <think>), you MUST output your complete reasoning inside <think>...</think> BEFORE any tool calls "
                     "or final response.\n\nOtherwise, output directly after </think> with tool calls or final response.\n\n### Available "
                     "Tool Schemas\n\n");
    while (fs_next_tool(w->options, &walk, &tool, &function)) {
        fs_put(w, "{\"name\": ");
        if (fs_json_text_member(function, "name", &value))
            fs_put_json(w, value, json_flags(w));
        fs_put(w, ", \"description\": ");
        if (fs_json_text_member(function, "description", &value) && value.data[0] == '"')
            fs_put_json(w, value, json_flags(w));
        else
            fs_put(w, "\"\"");
        fs_put(w, ", \"parameters\": ");
        if (fs_json_text_member(function, "parameters", &value))
            fs_put_json(w, value, json_flags(w));
        else
            fs_put(w, "{}");
        fs_put(w, "}\n");
    }
    fs_put(w, "\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.\n");
}

/* A result and its place: the number of the call it answers, then its own. */
typedef struct place {
    long call;
    size_t message;
} place;

static int by_call(const void *a, const void *b)
{
    const place *p = a, *q = b;

    if (p->call != q->call)
        return p->call < q->call ? -1 : 1;
    return (p->message > q->message) - (p->message < q->message);
}

/* unknown when no call has the id. */
static long call_number(const fs_message *assistant, fs_bytes id, long unknown)
{
    for (size_t i = 0; assistant && i < assistant->n_calls; i++)
        if (fs_bytes_equal(assistant->calls[i].id, id))
            return (long)i;
    return unknown;
}

/* Results stand in the order of the calls. V4 sorts the results right behind the calls, as many as there were calls;
 * V4.1 those of one turn that name a call, in their places. order [n] is the identity before. */
static void sort_results(bool v41, const fs_message *m, size_t n, place *places, size_t *order)
{
    const fs_message *calls = NULL;

    for (size_t i = 0; i < n;) {
        size_t end = i + 1, k = 0;
        bool turn = m[i].role == FS_ROLE_TOOL || (v41 && m[i].role == FS_ROLE_USER);
        if (m[i].role == FS_ROLE_ASSISTANT && (m[i].n_calls || !v41))
            calls = m[i].n_calls ? &m[i] : NULL;
        while (turn && end < n && (m[end].role == FS_ROLE_TOOL || (v41 && m[end].role == FS_ROLE_USER)))
            end++;
        for (size_t j = i; turn && calls && j < end; j++) {
            if (m[j].role != FS_ROLE_TOOL || (v41 && !m[j].call_id.data) || (!v41 && k == calls->n_calls))
                continue;
            places[k++] = (place){ !m[j].call_id.data ? -1 : call_number(calls, m[j].call_id, v41 ? 0 : (long)calls->n_calls), j };
        }
        if (k > 1) {
            qsort(places, k, sizeof *places, by_call);
            for (size_t j = i, next = 0; next < k; j++)
                if (m[j].role == FS_ROLE_TOOL && !(v41 && !m[j].call_id.data))
                    order[j] = places[next++].message;
        }
        if (!v41 && m[i].role != FS_ROLE_ASSISTANT)
            calls = NULL; /* the first run only */
        i = end;
    }
}

static void put_answer_v4(fs_chat_writer *w, const fs_message *m)
{
    bool tools = w->options->tools.n_bytes > 0, v41 = w->format == FS_CHAT_DEEPSEEK_V41;
    /* Without tools no answer keeps its reasoning. */
    bool shown = tools && (v41 ? w->options->thinking : m->reasoning.data != NULL);

    fs_put_marker(w, FS_MARK_ASSISTANT);
    if (shown) {
        put_think(w, true);
        fs_put_text(w, m->reasoning);
    }
    put_think(w, false);
    fs_put_text(w, m->content);
    put_calls(w, m);
    fs_put_marker(w, FS_MARK_EOS);
}

/* V4: the effort, all system messages wherever they stood, the tools. */
static void put_begin_v4(fs_chat_writer *w, const fs_message *m, size_t n)
{
    bool first = true;

    put_effort(w);
    for (size_t i = 0; i < n; i++)
        if (m[i].role == FS_ROLE_SYSTEM && m[i].content.n_bytes) {
            if (!first)
                fs_put(w, "\n\n");
            first = false;
            fs_put_text(w, m[i].content);
        }
    if (w->options->tools.n_bytes)
        put_tools_v4(w);
}

/* V4.1: the effort, the tools, and the first message if it is the system's; returns how many messages that took. */
static size_t put_begin_v41(fs_chat_writer *w, const fs_message *m)
{
    bool system = m[0].role == FS_ROLE_SYSTEM;

    if (!system && !w->options->thinking && !w->options->tools.n_bytes)
        return 0;
    fs_put_marker(w, FS_MARK_SYSTEM);
    put_effort(w);
    if (system)
        fs_put_text(w, m[0].content);
    if (w->options->tools.n_bytes)
        put_tools_v4(w);
    return system;
}

/* What users and tools say in a row is one turn, with an empty line between its parts. In V4 a result after a user's
 * words begins a new turn, and an empty message joins no other of the user's. */
static void render_v4(fs_chat_writer *w, const fs_message *m, size_t n, const size_t *order)
{
    bool v41 = w->format == FS_CHAT_DEEPSEEK_V41, words = false; /* the user has said some since a result */
    const fs_message *last = NULL; /* of the turn */
    size_t i = 0;

    fs_put_marker(w, FS_MARK_BOS);
    if (v41)
        i = put_begin_v41(w, m);
    else
        put_begin_v4(w, m, n);
    for (; i < n; i++) {
        const fs_message *x = &m[order[i]];
        bool tool = x->role == FS_ROLE_TOOL;
        if (x->role == FS_ROLE_SYSTEM && !v41)
            continue;
        if (x->role == FS_ROLE_SYSTEM || x->role == FS_ROLE_ASSISTANT) {
            if (x->role == FS_ROLE_ASSISTANT) {
                put_answer_v4(w, x);
            } else {
                fs_put_marker(w, FS_MARK_SYSTEM);
                fs_put_text(w, x->content);
            }
            last = NULL;
            continue;
        }
        if (!last || (!v41 && tool && last->role == FS_ROLE_USER))
            fs_put_marker(w, FS_MARK_USER);
        else if (v41 || last->role == FS_ROLE_TOOL || (words && x->content.n_bytes))
            fs_put(w, "\n\n");
        words = !tool && ((last && last->role == FS_ROLE_USER && words) || x->content.n_bytes);
        if (tool)
            fs_put(w, "<tool_result>");
        fs_put_text(w, x->content);
        if (tool)
            fs_put(w, "</tool_result>");
        last = x;
    }
    if (!w->options->add_generation_prompt)
        return;
    fs_put_marker(w, FS_MARK_ASSISTANT);
    put_think(w, w->options->thinking);
}

void fs_render_deepseek_v4(fs_chat_writer *w, const fs_message *m, size_t n)
{
    size_t *order = malloc(n * sizeof *order);
    place *places = malloc(n * sizeof *places);

    if (!order || !places) {
        w->rc = fs_fail_memory(w->err, n * (sizeof *order + sizeof *places));
    } else {
        for (size_t i = 0; i < n; i++)
            order[i] = i;
        sort_results(w->format == FS_CHAT_DEEPSEEK_V41, m, n, places, order);
        render_v4(w, m, n, order);
    }
    free(order);
    free(places);
}
