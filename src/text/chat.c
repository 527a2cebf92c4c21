/* See the header. One function a family of formats; what they share is the writer, which keeps the text between two
 * markers together, because the tokenizer must see it in one piece ("user\n" and a message that starts with a newline
 * make one token of two newlines). */
#include "text/chat.h"

#include "base/utf8.h"

#include <string.h>

#define BOS_DEEPSEEK  "<｜begin▁of▁sentence｜>"
#define EOS_DEEPSEEK  "<｜end▁of▁sentence｜>"
#define THINK         "<think>"
#define THINK_END     "</think>"

static const char *const names[FS_CHAT_FORMAT_END] = {
    [FS_CHAT_NONE] = "none",     [FS_CHAT_CHATML] = "chatml", [FS_CHAT_QWEN2] = "qwen2",
    [FS_CHAT_QWEN3] = "qwen3",   [FS_CHAT_SMOLLM2] = "smollm2", [FS_CHAT_LLAMA3] = "llama3",
    [FS_CHAT_DEEPSEEK_V3] = "deepseek-v3", [FS_CHAT_DEEPSEEK_R1] = "deepseek-r1",
};

static const char *const role_names[] = { "system", "user", "assistant", "tool" };

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

fs_chat_format fs_chat_format_detect(fs_bytes chat_template, const fs_tokenizer *t)
{
    if (holds(chat_template, "<｜Assistant｜>")) {
        if (!has_token(t, "<｜User｜>") || !has_token(t, "<｜Assistant｜>"))
            return FS_CHAT_NONE;
        /* V3.1 and later choose with a variable what follows <｜Assistant｜>. */
        if (holds(chat_template, "thinking"))
            return FS_CHAT_NONE;
        return holds(chat_template, THINK_END) || holds(chat_template, THINK) ? FS_CHAT_DEEPSEEK_R1 : FS_CHAT_DEEPSEEK_V3;
    }
    if (holds(chat_template, "<|start_header_id|>"))
        return has_token(t, "<|start_header_id|>") ? FS_CHAT_LLAMA3 : FS_CHAT_NONE;
    if (holds(chat_template, "<|im_start|>")) {
        if (!has_token(t, "<|im_start|>"))
            return FS_CHAT_NONE;
        if (holds(chat_template, "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."))
            return FS_CHAT_QWEN2;
        if (holds(chat_template, "You are a helpful AI assistant named SmolLM, trained by Hugging Face"))
            return FS_CHAT_SMOLLM2;
        if (holds(chat_template, "enable_thinking"))
            return FS_CHAT_QWEN3;
        return holds(chat_template, THINK) ? FS_CHAT_NONE : FS_CHAT_CHATML;
    }
    return FS_CHAT_NONE;
}

/* ---- the writer ---- */

typedef struct writer {
    const fs_tokenizer *t;
    fs_buf *prompt; /* or NULL */
    fs_ids *ids;    /* or NULL */
    fs_buf text;    /* since the last marker, not encoded yet */
    fs_chat_format format;
    fs_status rc;   /* the first failure; later calls do nothing */
    fs_error *err;
} writer;

static void put_text(writer *w, fs_bytes text)
{
    if (!w->rc && w->prompt)
        w->rc = fs_buf_append(w->prompt, text.data, text.n_bytes, w->err);
    if (!w->rc && w->ids)
        w->rc = fs_buf_append(&w->text, text.data, text.n_bytes, w->err);
}

static void put(writer *w, const char *text)
{
    put_text(w, fs_bytes_str(text));
}

static void flush(writer *w)
{
    if (!w->rc && w->ids && w->text.n_bytes)
        w->rc = fs_tokenizer_encode(w->t, fs_buf_bytes(&w->text), FS_ENCODE_PLAIN, w->ids, w->err);
    fs_buf_clear(&w->text);
}

/* A marker of the format: its token. */
static void put_marker(writer *w, const char *marker)
{
    int32_t id;

    if (!w->rc && w->prompt)
        w->rc = fs_buf_append_str(w->prompt, marker, w->err);
    if (w->rc || !w->ids)
        return;
    id = fs_tokenizer_id(w->t, fs_bytes_str(marker));
    if (id < 0) {
        w->rc = fs_fail(w->err, FS_ERR_UNSUPPORTED, "chat format '%s' needs the token '%s', which the tokenizer has not",
                        names[w->format], marker);
        return;
    }
    flush(w);
    if (!w->rc)
        w->rc = fs_ids_push(w->ids, id, w->err);
}

/* <think> and </think> are tokens of some tokenizers and text for the others. */
static void put_think(writer *w, const char *marker)
{
    if (w->ids && !has_token(w->t, marker))
        put(w, marker);
    else
        put_marker(w, marker);
}

/* ---- pieces of text ---- */

static fs_bytes strip_newlines(fs_bytes s, bool left, bool right)
{
    while (left && s.n_bytes && s.data[0] == '\n') {
        s.data++;
        s.n_bytes--;
    }
    while (right && s.n_bytes && s.data[s.n_bytes - 1] == '\n')
        s.n_bytes--;
    return s;
}

/* What Jinja's trim (Python's str.strip) takes for white space. */
static bool is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static fs_bytes trim(fs_bytes s)
{
    uint32_t code;

    while (s.n_bytes) {
        size_t n = fs_utf8_next(s, 0, &code);
        if (!is_space(code))
            break;
        s.data += n;
        s.n_bytes -= n;
    }
    while (s.n_bytes) {
        size_t i = s.n_bytes - 1;
        while (i > 0 && s.n_bytes - i < 4 && (s.data[i] & 0xc0) == 0x80)
            i--;
        if (fs_utf8_next(s, i, &code) != s.n_bytes - i || !is_space(code))
            break;
        s.n_bytes = i;
    }
    return s;
}

/* Where part begins in s, the last time or the first; false: nowhere. */
static bool find_last(fs_bytes s, const char *part, size_t *ret)
{
    size_t n = strlen(part);

    for (size_t i = s.n_bytes; i >= n; i--)
        if (memcmp(s.data + i - n, part, n) == 0) {
            *ret = i - n;
            return true;
        }
    return false;
}

static bool find_first(fs_bytes s, const char *part, size_t *ret)
{
    const uint8_t *p = s.n_bytes ? memmem(s.data, s.n_bytes, part, strlen(part)) : NULL;

    if (p)
        *ret = (size_t)(p - s.data);
    return p != NULL;
}

static fs_bytes from(fs_bytes s, size_t i)
{
    return (fs_bytes){ s.data ? s.data + i : NULL, s.n_bytes - i };
}

/* ---- the formats ---- */

static void im_turn(writer *w, const char *role, fs_bytes content)
{
    put_marker(w, "<|im_start|>");
    put(w, role);
    put(w, "\n");
    put_text(w, content);
    put_marker(w, "<|im_end|>");
    put(w, "\n");
}

static void render_chatml(writer *w, const fs_message *m, size_t n, const fs_chat_options *o)
{
    if (m[0].role != FS_ROLE_SYSTEM && w->format == FS_CHAT_QWEN2)
        im_turn(w, "system", FS_BYTES_LIT("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."));
    if (m[0].role != FS_ROLE_SYSTEM && w->format == FS_CHAT_SMOLLM2)
        im_turn(w, "system", FS_BYTES_LIT("You are a helpful AI assistant named SmolLM, trained by Hugging Face"));
    for (size_t i = 0; i < n; i++)
        im_turn(w, role_names[m[i].role], m[i].content);
    if (o->add_generation_prompt) {
        put_marker(w, "<|im_start|>");
        put(w, "assistant\n");
    }
}

static void qwen3_assistant(writer *w, const fs_message *m, bool last, bool after_query)
{
    fs_bytes reasoning = m->reasoning, content = m->content;
    size_t at;

    if (!reasoning.n_bytes && find_first(content, THINK_END, &at)) {
        reasoning = strip_newlines((fs_bytes){ content.data, at }, false, true);
        if (find_last(reasoning, THINK, &at))
            reasoning = from(reasoning, at + strlen(THINK));
        reasoning = strip_newlines(reasoning, true, false);
        find_last(content, THINK_END, &at);
        content = strip_newlines(from(content, at + strlen(THINK_END)), true, false);
    }
    if (!after_query || !(last || reasoning.n_bytes)) {
        im_turn(w, "assistant", content);
        return;
    }
    put_marker(w, "<|im_start|>");
    put(w, "assistant\n");
    put_think(w, THINK);
    put(w, "\n");
    put_text(w, strip_newlines(reasoning, true, true));
    put(w, "\n");
    put_think(w, THINK_END);
    put(w, "\n\n");
    put_text(w, strip_newlines(content, true, false));
    put_marker(w, "<|im_end|>");
    put(w, "\n");
}

static bool is_tool_response(fs_bytes s)
{
    static const char open[] = "<tool_response>", close[] = "</tool_response>";
    size_t n_open = sizeof open - 1, n_close = sizeof close - 1;

    return s.n_bytes >= n_open && s.n_bytes >= n_close && memcmp(s.data, open, n_open) == 0 &&
           memcmp(s.data + s.n_bytes - n_close, close, n_close) == 0;
}

static void render_qwen3(writer *w, const fs_message *m, size_t n, const fs_chat_options *o)
{
    size_t query = n - 1; /* reasoning is kept in what follows the last question */

    for (size_t i = n; i-- > 0;)
        if (m[i].role == FS_ROLE_USER && !is_tool_response(m[i].content)) {
            query = i;
            break;
        }
    for (size_t i = 0; i < n; i++) {
        if (m[i].role == FS_ROLE_ASSISTANT)
            qwen3_assistant(w, &m[i], i + 1 == n, i > query);
        else
            im_turn(w, role_names[m[i].role], m[i].content);
    }
    if (!o->add_generation_prompt)
        return;
    put_marker(w, "<|im_start|>");
    put(w, "assistant\n");
    if (!o->thinking) {
        put_think(w, THINK);
        put(w, "\n\n");
        put_think(w, THINK_END);
        put(w, "\n\n");
    }
}

static void llama3_header(writer *w, const char *role)
{
    put_marker(w, "<|start_header_id|>");
    put(w, role);
    put_marker(w, "<|end_header_id|>");
    put(w, "\n\n");
}

static void render_llama3(writer *w, const fs_message *m, size_t n, const fs_chat_options *o)
{
    put_marker(w, "<|begin_of_text|>");
    for (size_t i = 0; i < n; i++) {
        llama3_header(w, role_names[m[i].role]);
        put_text(w, trim(m[i].content));
        put_marker(w, "<|eot_id|>");
    }
    if (o->add_generation_prompt)
        llama3_header(w, "assistant");
}

/* System messages come first, wherever they stood. R1 forgets how it came to an answer. */
static void render_deepseek(writer *w, const fs_message *m, size_t n, const fs_chat_options *o)
{
    bool r1 = w->format == FS_CHAT_DEEPSEEK_R1, first = true;

    put_marker(w, BOS_DEEPSEEK);
    for (size_t i = 0; i < n; i++)
        if (m[i].role == FS_ROLE_SYSTEM) {
            if (!first)
                put(w, "\n\n");
            first = false;
            put_text(w, m[i].content);
        }
    for (size_t i = 0; i < n; i++) {
        fs_bytes content = m[i].content;
        size_t at;
        if (m[i].role == FS_ROLE_USER) {
            put_marker(w, "<｜User｜>");
            put_text(w, content);
        } else if (m[i].role == FS_ROLE_ASSISTANT) {
            if (r1 && find_last(content, THINK_END, &at))
                content = from(content, at + strlen(THINK_END));
            put_marker(w, "<｜Assistant｜>");
            put_text(w, content);
            put_marker(w, EOS_DEEPSEEK);
        }
    }
    if (!o->add_generation_prompt)
        return;
    put_marker(w, "<｜Assistant｜>");
    if (r1) {
        put_think(w, THINK);
        put(w, "\n");
    }
}

fs_status fs_chat_render(fs_chat_format f, const fs_tokenizer *t, const fs_message *messages, size_t n_messages,
                         const fs_chat_options *options, fs_buf *ret_prompt, fs_ids *ret_ids, fs_error *err)
{
    writer w = { .t = t, .prompt = ret_prompt, .ids = ret_ids, .format = f, .err = err };
    size_t prompt_bytes = ret_prompt ? ret_prompt->n_bytes : 0, n_ids = ret_ids ? ret_ids->n : 0;

    if (f == FS_CHAT_NONE || f >= FS_CHAT_FORMAT_END)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "the model has no chat format that is known here");
    if (n_messages == 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "a conversation of 0 messages");
    for (size_t i = 0; i < n_messages; i++)
        if (messages[i].role == FS_ROLE_TOOL)
            return fs_fail(err, FS_ERR_UNSUPPORTED, "chat format '%s': message %zu is a tool's result, which is not supported", names[f], i);
    switch (f) {
    case FS_CHAT_QWEN3:
        render_qwen3(&w, messages, n_messages, options);
        break;
    case FS_CHAT_LLAMA3:
        render_llama3(&w, messages, n_messages, options);
        break;
    case FS_CHAT_DEEPSEEK_V3:
    case FS_CHAT_DEEPSEEK_R1:
        render_deepseek(&w, messages, n_messages, options);
        break;
    default:
        render_chatml(&w, messages, n_messages, options);
        break;
    }
    flush(&w);
    fs_buf_done(&w.text);
    if (w.rc) {
        if (ret_prompt && ret_prompt->data)
            ret_prompt->data[ret_prompt->n_bytes = prompt_bytes] = 0;
        if (ret_ids)
            ret_ids->n = n_ids;
    }
    return w.rc;
}

int fs_chat_stop_ids(fs_chat_format f, const fs_tokenizer *t, int32_t ret_ids[4])
{
    static const char *const im[] = { "<|im_end|>", "<|endoftext|>", NULL };
    static const char *const llama3[] = { "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>", NULL };
    static const char *const deepseek[] = { EOS_DEEPSEEK, NULL };
    static const char *const none[] = { NULL };
    const char *const *markers = none;
    int n = 0;

    if (f == FS_CHAT_CHATML || f == FS_CHAT_QWEN2 || f == FS_CHAT_QWEN3 || f == FS_CHAT_SMOLLM2)
        markers = im;
    else if (f == FS_CHAT_LLAMA3)
        markers = llama3;
    else if (f == FS_CHAT_DEEPSEEK_V3 || f == FS_CHAT_DEEPSEEK_R1)
        markers = deepseek;
    for (; *markers; markers++) {
        int32_t id = fs_tokenizer_id(t, fs_bytes_str(*markers));
        if (id >= 0)
            ret_ids[n++] = id;
    }
    return n;
}

void fs_chat_reasoning(fs_chat_format f, bool thinking, fs_bytes *ret_open, fs_bytes *ret_close, bool *ret_open_in_prompt)
{
    bool has = f == FS_CHAT_DEEPSEEK_R1 || (f == FS_CHAT_QWEN3 && thinking);

    *ret_open = has ? FS_BYTES_LIT(THINK) : (fs_bytes){ NULL, 0 };
    *ret_close = has ? FS_BYTES_LIT(THINK_END) : (fs_bytes){ NULL, 0 };
    *ret_open_in_prompt = f == FS_CHAT_DEEPSEEK_R1;
}
