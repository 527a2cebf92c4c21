/* See the header: which format, and what is checked of a conversation before one of chat_chatml.c, chat_deepseek.c and
 * chat_dsml.c renders it. */
#include "text/chat_write.h"

#include <stdio.h>
#include <string.h>

static const char *const names[FS_CHAT_FORMAT_END] = {
    [FS_CHAT_NONE] = "none",     [FS_CHAT_TEMPLATE] = "template", [FS_CHAT_CHATML] = "chatml", [FS_CHAT_QWEN2] = "qwen2",
    [FS_CHAT_QWEN3] = "qwen3",   [FS_CHAT_SMOLLM2] = "smollm2", [FS_CHAT_LLAMA3] = "llama3",
    [FS_CHAT_DEEPSEEK_V3] = "deepseek-v3", [FS_CHAT_DEEPSEEK_R1] = "deepseek-r1",
    [FS_CHAT_DEEPSEEK_V31] = "deepseek-v3.1", [FS_CHAT_DEEPSEEK_V32] = "deepseek-v3.2",
    [FS_CHAT_DEEPSEEK_V4] = "deepseek-v4", [FS_CHAT_DEEPSEEK_V41] = "deepseek-v4.1",
};

const char *fs_chat_format_name(fs_chat_format f)
{
    return f < FS_CHAT_FORMAT_END ? names[f] : "unknown";
}

fs_chat_format fs_chat_format_from_name(const char *name)
{
    fs_chat_format f = FS_CHAT_NONE;

    while (f < FS_CHAT_FORMAT_END && strcmp(names[f], name) != 0)
        f++;
    return f;
}

static bool holds(fs_bytes text, const char *part)
{
    return text.n_bytes && memmem(text.data, text.n_bytes, part, strlen(part)) != NULL;
}

static bool has_token(const fs_tokenizer *t, const char *marker)
{
    return !t || fs_tokenizer_id(t, fs_bytes_str(marker)) >= 0;
}

static bool is_deepseek(fs_chat_format f)
{
    return f >= FS_CHAT_DEEPSEEK_V3 && f <= FS_CHAT_DEEPSEEK_V41;
}

/* V3.2 and later publish no template. The model's type tells, or else the tokens: V4 has some that V3.2 does not use,
 * V4.1 one more. */
static fs_chat_format detect_by_tokens(const fs_tokenizer *t, const char *model_type)
{
    bool v32 = model_type && strcmp(model_type, "deepseek_v32") == 0, v4 = model_type && strcmp(model_type, "deepseek_v4") == 0;

    if (!t || !has_token(t, FS_MARK_USER) || !has_token(t, FS_MARK_ASSISTANT) || !(v32 || has_token(t, FS_MARK_DSML)))
        return FS_CHAT_NONE;
    if (v32)
        return FS_CHAT_DEEPSEEK_V32;
    if (has_token(t, FS_MARK_SYSTEM))
        return FS_CHAT_DEEPSEEK_V41;
    return v4 || has_token(t, "<｜latest_reminder｜>") ? FS_CHAT_DEEPSEEK_V4 : FS_CHAT_DEEPSEEK_V32;
}

static fs_chat_format detect_deepseek(fs_bytes chat_template)
{
    for (fs_chat_format f = FS_CHAT_DEEPSEEK_V32; f <= FS_CHAT_DEEPSEEK_V41; f++) {
        char tag[64];
        snprintf(tag, sizeof tag, "%s%s", FS_MARK_DSML, fs_dsml_of(f)->calls);
        if (holds(chat_template, tag))
            return f;
    }
    if (holds(chat_template, FS_MARK_DSML))
        return FS_CHAT_TEMPLATE;
    /* V3.1 chooses with a variable what follows <｜Assistant｜>. */
    if (holds(chat_template, "thinking"))
        return holds(chat_template, FS_MARK_THINK_END) ? FS_CHAT_DEEPSEEK_V31 : FS_CHAT_TEMPLATE;
    return holds(chat_template, FS_MARK_THINK_END) || holds(chat_template, FS_MARK_THINK) ? FS_CHAT_DEEPSEEK_R1 : FS_CHAT_DEEPSEEK_V3;
}

fs_chat_format fs_chat_format_detect(fs_bytes chat_template, const fs_tokenizer *t, const char *model_type)
{
    if (chat_template.n_bytes == 0)
        return detect_by_tokens(t, model_type);
    if (holds(chat_template, FS_MARK_ASSISTANT))
        return has_token(t, FS_MARK_USER) && has_token(t, FS_MARK_ASSISTANT) ? detect_deepseek(chat_template) : FS_CHAT_TEMPLATE;
    /* Llama 3.1 and later put dates into the system message: their template says how. */
    if (holds(chat_template, "<|start_header_id|>"))
        return has_token(t, "<|start_header_id|>") && !holds(chat_template, "Cutting Knowledge Date") ? FS_CHAT_LLAMA3 : FS_CHAT_TEMPLATE;
    if (holds(chat_template, "<|im_start|>")) {
        if (!has_token(t, "<|im_start|>"))
            return FS_CHAT_TEMPLATE;
        if (holds(chat_template, "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."))
            return FS_CHAT_QWEN2;
        if (holds(chat_template, "You are a helpful AI assistant named SmolLM, trained by Hugging Face"))
            return FS_CHAT_SMOLLM2;
        if (holds(chat_template, "enable_thinking"))
            return FS_CHAT_QWEN3;
        return holds(chat_template, FS_MARK_THINK) ? FS_CHAT_TEMPLATE : FS_CHAT_CHATML;
    }
    return FS_CHAT_TEMPLATE;
}

bool fs_effort_from_name(fs_bytes name, fs_effort *ret)
{
    static const char *const efforts[] = { "low", "high", "xhigh", "max" };

    for (size_t i = 0; i < 4; i++)
        if (fs_bytes_equal(name, fs_bytes_str(efforts[i]))) {
            *ret = (fs_effort)(FS_EFFORT_LOW + i);
            return true;
        }
    return false;
}

/* *tools becomes empty, or one JSON array of objects with a name each. */
static fs_status check_tools(fs_chat_format f, fs_bytes *tools, fs_error *err)
{
    fs_chat_options o = { .tools = *tools };
    fs_json_walk walk = { 0 };
    fs_bytes tool, function, name;
    size_t n = 0;

    if (tools->n_bytes == 0)
        return FS_OK;
    if (!fs_json_text_valid(*tools, &o.tools) || o.tools.data[0] != '[')
        return fs_fail(err, FS_ERR_FORMAT, "the tools are not a JSON array");
    for (; fs_next_tool(&o, &walk, &tool, &function); n++)
        if (!fs_json_text_member(function, "name", &name) || name.data[0] != '"')
            return fs_fail(err, FS_ERR_FORMAT, "tool %zu is no object with a name", n);
    if (n && f == FS_CHAT_LLAMA3)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "chat format '%s' has no tools", names[f]);
    *tools = n ? o.tools : (fs_bytes){ 0 };
    return FS_OK;
}

static fs_status check_message(fs_chat_format f, const fs_message *m, size_t i, fs_error *err)
{
    if (f == FS_CHAT_LLAMA3 && (m->role == FS_ROLE_TOOL || m->n_calls))
        return fs_fail(err, FS_ERR_UNSUPPORTED, "chat format '%s' has no tools, but message %zu %s", names[f], i,
                       m->n_calls ? "calls one" : "is a tool's result");
    if (m->n_calls > FS_CHAT_CALLS_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "message %zu has %zu tool calls, allowed are %d", i, m->n_calls, FS_CHAT_CALLS_MAX);
    if (m->n_calls && m->role != FS_ROLE_ASSISTANT)
        return fs_fail(err, FS_ERR_FORMAT, "message %zu calls tools, but is not the assistant's", i);
    return FS_OK;
}

typedef void render_fn(fs_chat_writer *w, const fs_message *m, size_t n);
typedef void reply_fn(fs_chat_writer *w, const fs_message *m);

static void reply_llama3(fs_chat_writer *w, const fs_message *m)
{
    fs_put_text(w, fs_trim(m->content));
    fs_put_marker(w, "<|eot_id|>");
}

static const struct {
    render_fn *render;
    reply_fn *reply;
} formats[FS_CHAT_FORMAT_END] = {
    [FS_CHAT_CHATML] = { fs_render_chatml, fs_reply_chatml },
    [FS_CHAT_QWEN2] = { fs_render_chatml, fs_reply_chatml },
    [FS_CHAT_QWEN3] = { fs_render_qwen3, fs_reply_chatml },
    [FS_CHAT_SMOLLM2] = { fs_render_chatml, fs_reply_chatml },
    [FS_CHAT_LLAMA3] = { fs_render_llama3, reply_llama3 },
    [FS_CHAT_DEEPSEEK_V3] = { fs_render_deepseek_v3, fs_reply_deepseek },
    [FS_CHAT_DEEPSEEK_R1] = { fs_render_deepseek_v3, fs_reply_deepseek },
    [FS_CHAT_DEEPSEEK_V31] = { fs_render_deepseek_v31, fs_reply_deepseek },
    [FS_CHAT_DEEPSEEK_V32] = { fs_render_deepseek_v32, fs_reply_dsml },
    [FS_CHAT_DEEPSEEK_V4] = { fs_render_deepseek_v4, fs_reply_dsml },
    [FS_CHAT_DEEPSEEK_V41] = { fs_render_deepseek_v4, fs_reply_dsml },
};

static fs_status render(fs_chat_format f, const fs_tokenizer *t, const fs_message *m, size_t n, bool reply, const fs_chat_options *options,
                        fs_buf *ret_prompt, fs_ids *ret_ids, fs_error *err)
{
    fs_chat_options o = *options;
    fs_chat_writer w = { .t = t, .prompt = ret_prompt, .ids = ret_ids, .format = f, .options = &o, .err = err };
    size_t prompt_bytes = ret_prompt ? ret_prompt->n_bytes : 0, n_ids = ret_ids ? ret_ids->n : 0;
    fs_status rc;

    if (f == FS_CHAT_NONE || f == FS_CHAT_TEMPLATE || f >= FS_CHAT_FORMAT_END)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "the model has no chat format that is known here");
    if (n == 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "a conversation of 0 messages");
    if ((rc = check_tools(f, &o.tools, err)))
        return rc;
    for (size_t i = 0; i < n; i++)
        if ((rc = check_message(f, &m[i], i, err)))
            return rc;
    if (reply)
        formats[f].reply(&w, m);
    else
        formats[f].render(&w, m, n);
    fs_put_flush(&w);
    fs_buf_done(&w.text);
    if (w.rc) {
        if (ret_prompt && ret_prompt->data)
            ret_prompt->data[ret_prompt->n_bytes = prompt_bytes] = 0;
        if (ret_ids)
            ret_ids->n = n_ids;
    }
    return w.rc;
}

fs_status fs_chat_render(fs_chat_format f, const fs_tokenizer *t, const fs_message *messages, size_t n_messages,
                         const fs_chat_options *options, fs_buf *ret_prompt, fs_ids *ret_ids, fs_error *err)
{
    return render(f, t, messages, n_messages, false, options, ret_prompt, ret_ids, err);
}

fs_status fs_chat_render_reply(fs_chat_format f, const fs_tokenizer *t, const fs_message *message, const fs_chat_options *options,
                               fs_buf *ret_prompt, fs_ids *ret_ids, fs_error *err)
{
    return render(f, t, message, 1, true, options, ret_prompt, ret_ids, err);
}

int fs_chat_stop_ids(fs_chat_format f, const fs_tokenizer *t, int32_t ret_ids[FS_CHAT_STOP_IDS_MAX])
{
    /* What ends a turn or a message in the templates that llama.cpp knows (its end-of-generation tokens). */
    static const char *const any[] = { "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<turn|>", "<|endoftext|>", "<|end_of_text|>",
                                       "<EOT>", "_<EOT>", "[EOT]", "<end_of_utterance>", FS_MARK_EOS, "<|eom_id|>", "<|return|>", "<|call|>",
                                       "<|flush|>", "<|calls|>", "<|eot|>", "<|endofturn|>", "<|END_OF_TURN_TOKEN|>", NULL };
    static const char *const im[] = { "<|im_end|>", "<|endoftext|>", NULL };
    static const char *const llama3[] = { "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>", NULL };
    static const char *const deepseek[] = { FS_MARK_EOS, NULL };
    static const char *const none[] = { NULL };
    const char *const *markers = none;
    int n = 0;

    if (f == FS_CHAT_CHATML || f == FS_CHAT_QWEN2 || f == FS_CHAT_QWEN3 || f == FS_CHAT_SMOLLM2)
        markers = im;
    else if (f == FS_CHAT_LLAMA3)
        markers = llama3;
    else if (is_deepseek(f))
        markers = deepseek;
    else if (f == FS_CHAT_TEMPLATE)
        markers = any;
    for (; *markers; markers++) {
        int32_t id = fs_tokenizer_id(t, fs_bytes_str(*markers));
        if (id >= 0 && (f != FS_CHAT_TEMPLATE || fs_tokenizer_is_special(t, id)))
            ret_ids[n++] = id;
    }
    return n;
}

void fs_chat_reasoning(fs_chat_format f, bool thinking, fs_bytes *ret_open, fs_bytes *ret_close, bool *ret_open_in_prompt)
{
    bool open_in_prompt = f == FS_CHAT_DEEPSEEK_R1 || (thinking && f >= FS_CHAT_DEEPSEEK_V31 && f <= FS_CHAT_DEEPSEEK_V41);
    bool has = open_in_prompt || (f == FS_CHAT_QWEN3 && thinking);

    *ret_open = has ? FS_BYTES_LIT(FS_MARK_THINK) : (fs_bytes){ NULL, 0 };
    *ret_close = has ? FS_BYTES_LIT(FS_MARK_THINK_END) : (fs_bytes){ NULL, 0 };
    *ret_open_in_prompt = open_in_prompt;
}
