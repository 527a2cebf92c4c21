/* WRAP_ALLOC. What was rendered is parsed again, however the stream is cut: the answers of tests/vectors/chat_v4.json and
 * 1,000 made ones a format. Markup that is not quite right loses nothing. */
#include "conversation.h"

#include "alloc_fail.h"
#include "text/json_text.h"
#include "text/parse.h"

#define N_MADE 1000

typedef struct heard {
    fs_buf reasoning, content, calls; /* calls: "name\narguments\n" each, arguments as json.dumps spells them */
    size_t n_calls;
} heard;

static void heard_done(heard *h)
{
    fs_buf_done(&h->reasoning);
    fs_buf_done(&h->content);
    fs_buf_done(&h->calls);
    *h = (heard){ 0 };
}

static void put_call(fs_buf *out, fs_bytes name, fs_bytes arguments)
{
    fs_bytes value;
    fs_error err;

    assert_true(fs_json_text_valid(arguments, &value) && value.data[0] == '{');
    assert_ok(fs_buf_append(out, name.data, name.n_bytes, &err), err);
    assert_ok(fs_buf_append_str(out, "\n", &err), err);
    assert_ok(fs_json_text_respell(value, 0, out, &err), err);
    assert_ok(fs_buf_append_str(out, "\n", &err), err);
}

static bool hear(void *ud, const fs_parsed *e)
{
    heard *h = ud;
    fs_error err;

    if (e->part == FS_PART_CALL) {
        assert_int_equal(e->call, h->n_calls++);
        put_call(&h->calls, e->name, e->arguments);
        return true;
    }
    assert_true(e->text.n_bytes > 0);
    assert_ok(fs_buf_append(e->part == FS_PART_REASONING ? &h->reasoning : &h->content, e->text.data, e->text.n_bytes, &err), err);
    return true;
}

static uint64_t seed;

static size_t draw(size_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (size_t)(seed >> 20) % n;
}

/* chunk 0: pieces of random sizes. */
static void parse(fs_chat_format f, bool thinking, bool tools, fs_bytes text, size_t chunk, heard *ret)
{
    fs_parser p;
    fs_error err;

    *ret = (heard){ 0 };
    fs_parser_init(&p, f, thinking, tools);
    for (size_t at = 0; at < text.n_bytes;) {
        size_t n = chunk ? chunk : 1 + draw(12);
        n = n < text.n_bytes - at ? n : text.n_bytes - at;
        assert_ok(fs_parser_push(&p, text.data + at, n, hear, ret, &err), err);
        at += n;
    }
    assert_ok(fs_parser_finish(&p, hear, ret, &err), err);
    fs_parser_done(&p);
}

static void assert_same(const char *what, fs_bytes text, const fs_buf *got, const fs_buf *want)
{
    if (!fs_bytes_equal(fs_buf_bytes(got), fs_buf_bytes(want)))
        fail_msg("'%s': %s '%s', expected '%s'", (const char *)text.data, what, got->data, want->data);
}

/* The stream in one piece, byte by byte and in random pieces. */
static void check(fs_chat_format f, bool thinking, fs_bytes text, const heard *want)
{
    static const size_t chunks[] = { SIZE_MAX, 1, 0 };

    for (size_t i = 0; i < 3; i++) {
        heard got;
        parse(f, thinking, true, text, chunks[i], &got);
        assert_same("reasoning", text, &got.reasoning, &want->reasoning);
        assert_same("content", text, &got.content, &want->content);
        assert_same("calls", text, &got.calls, &want->calls);
        heard_done(&got);
    }
}

static void check_text(fs_chat_format f, bool thinking, const char *text, const char *reasoning, const char *content, const char *calls)
{
    heard want = { 0 };
    fs_error err;

    assert_ok(fs_buf_append_str(&want.reasoning, reasoning, &err), err);
    assert_ok(fs_buf_append_str(&want.content, content, &err), err);
    assert_ok(fs_buf_append_str(&want.calls, calls, &err), err);
    check(f, thinking, fs_bytes_str(text), &want);
    heard_done(&want);
}

static void check_reply(fs_chat_format f, bool thinking, const fs_message *m)
{
    fs_chat_options o = { .thinking = thinking };
    fs_buf text = { 0 };
    heard want = { 0 };
    fs_bytes open, close;
    bool in_prompt;
    const char *end = f >= FS_CHAT_DEEPSEEK_V3 ? "<｜end▁of▁sentence｜>" : "<|im_end|>";
    fs_error err;

    assert_ok(fs_chat_render_reply(f, NULL, m, &o, &text, NULL, &err), err);
    assert_true(text.n_bytes >= strlen(end) && strcmp(text.data + text.n_bytes - strlen(end), end) == 0);
    text.data[text.n_bytes -= strlen(end)] = 0;
    assert_ok(fs_buf_append_str(&want.content, "", &err), err);
    assert_ok(fs_buf_append(&want.content, m->content.data, m->content.n_bytes, &err), err);
    fs_chat_reasoning(f, thinking, &open, &close, &in_prompt);
    if (close.n_bytes)
        assert_ok(fs_buf_append(&want.reasoning, m->reasoning.data, m->reasoning.n_bytes, &err), err);
    for (size_t i = 0; i < m->n_calls; i++)
        put_call(&want.calls, m->calls[i].name, m->calls[i].arguments);
    check(f, thinking, fs_buf_bytes(&text), &want);
    fs_buf_done(&text);
    heard_done(&want);
}

static void every_answer_of_the_vectors_comes_back(void **state)
{
    struct json_object *v = tiny_read("chat_v4.json"), *cases = fs_json_member(v, "cases");
    size_t n = 0, n_calls = 0;

    (void)state;
    seed = 1;
    for (size_t i = 0; i < json_object_array_length(cases); i++) {
        conversation c;
        read_conversation(json_object_array_get_idx(cases, i), &c);
        for (size_t k = 0; k < c.n; k++)
            for (int thinking = 0; c.messages[k].role == FS_ROLE_ASSISTANT && thinking < 2; thinking++) {
                for (fs_chat_format f = FS_CHAT_DEEPSEEK_V31; f <= FS_CHAT_DEEPSEEK_V41; f++)
                    check_reply(f, thinking, &c.messages[k]);
                n++;
                n_calls += c.messages[k].n_calls;
            }
    }
    assert_true(n > 300 && n_calls > 200);
    json_object_put(v);
}

/* Pieces that look like markup; no three of them make a marker. */
static const char *const pieces[] = { "a", "写", "😀", " ", "\n", "<", "</", "<tool", "</thin", "<｜DSML｜", "<｜tool▁", "｜", "\"", "{", "}", "[1]", "```", "\\", "tool_calls", "calls", "</｜DSML｜par", "true" };
#define N_PIECES (sizeof pieces / sizeof *pieces)

static void make_text(fs_buf *out, size_t n_max, bool plain_ends)
{
    fs_error err;

    fs_buf_clear(out);
    if (plain_ends)
        assert_ok(fs_buf_append_str(out, "x", &err), err);
    for (size_t n = draw(n_max); n > 0; n--)
        assert_ok(fs_buf_append_str(out, pieces[draw(N_PIECES)], &err), err);
    if (plain_ends)
        assert_ok(fs_buf_append_str(out, "x", &err), err);
}

static void make_arguments(fs_buf *out, fs_buf *scratch)
{
    static const char *const values[] = { "1", "-2.5", "true", "null", "[1, \"x\", {}]", "{\"k\": \"</｜DSML｜parameter\"}", "12345678901234567890" };
    fs_error err;

    fs_buf_clear(out);
    assert_ok(fs_buf_append_str(out, "{", &err), err);
    for (size_t i = 0, n = draw(4); i < n; i++) {
        assert_ok(fs_buf_printf(out, &err, "%s\"k%zu 键\": ", i ? ", " : "", i), err);
        if (draw(2)) {
            assert_ok(fs_buf_append_str(out, values[draw(sizeof values / sizeof *values)], &err), err);
            continue;
        }
        make_text(scratch, 8, false);
        assert_ok(fs_json_text_quote(fs_buf_bytes(scratch), out, &err), err);
    }
    assert_ok(fs_buf_append_str(out, "}", &err), err);
}

static const char *const names[] = { "f", "get_weather", "运行", "db.query", "a b" };

static void made_answers_come_back(void **state)
{
    fs_buf reasoning = { 0 }, content = { 0 }, scratch = { 0 }, arguments[4] = { { 0 } };
    size_t n_calls = 0;

    (void)state;
    for (fs_chat_format f = FS_CHAT_CHATML; f < FS_CHAT_FORMAT_END; f++) {
        if (f == FS_CHAT_LLAMA3)
            continue;
        seed = 0x9e3779b97f4a7c15u + (uint64_t)f;
        for (int i = 0; i < N_MADE; i++) {
            bool trim = f == FS_CHAT_QWEN3 || f == FS_CHAT_DEEPSEEK_R1;
            fs_message m = { .role = FS_ROLE_ASSISTANT };
            fs_tool_call calls[4];
            make_text(&reasoning, 12, trim);
            make_text(&content, 12, trim && draw(2));
            if (trim && content.n_bytes && content.data[0] == '\n')
                fs_buf_clear(&content);
            m.reasoning = fs_buf_bytes(&reasoning);
            m.content = fs_buf_bytes(&content);
            m.calls = calls;
            m.n_calls = draw(5);
            for (size_t k = 0; k < m.n_calls; k++) {
                make_arguments(&arguments[k], &scratch);
                calls[k] = (fs_tool_call){ .name = fs_bytes_str(names[draw(5)]), .arguments = fs_buf_bytes(&arguments[k]) };
            }
            n_calls += m.n_calls;
            check_reply(f, draw(2), &m);
        }
    }
    assert_true(n_calls > 5 * N_MADE);
    fs_buf_done(&reasoning);
    fs_buf_done(&content);
    fs_buf_done(&scratch);
    for (size_t k = 0; k < 4; k++)
        fs_buf_done(&arguments[k]);
}

/* ---- whole conversations ---- */

#define ROUNDS_MAX 4
#define CALLS_MAX  3

/* The words of one conversation, and of the same one put together from what was parsed. */
typedef struct words {
    fs_message messages[2 + ROUNDS_MAX * (2 + CALLS_MAX)];
    fs_tool_call calls[2 + ROUNDS_MAX * (2 + CALLS_MAX)][CALLS_MAX];
    fs_buf texts[8 * ROUNDS_MAX * (2 + CALLS_MAX)];
    size_t n, n_texts;
} words;

static fs_buf *new_text(words *w)
{
    assert_true(w->n_texts < sizeof w->texts / sizeof *w->texts);
    return &w->texts[w->n_texts++];
}

static void words_done(words *w)
{
    for (size_t i = 0; i < w->n_texts; i++)
        fs_buf_done(&w->texts[i]);
}

static fs_bytes made_text(words *w, size_t n_max, bool plain_ends)
{
    fs_buf *b = new_text(w);

    make_text(b, n_max, plain_ends);
    return b->data ? fs_buf_bytes(b) : FS_BYTES_LIT("");
}

/* A question or an answer's turn, with as many results as calls. */
static void make_round(words *w, fs_chat_format f, bool calls)
{
    static const char *const ids[CALLS_MAX] = { "call_0", "call_1", "call_2" };
    bool trim = f == FS_CHAT_QWEN3 || f == FS_CHAT_DEEPSEEK_R1;
    fs_message *m;
    size_t n;

    w->messages[w->n++] = (fs_message){ .role = FS_ROLE_USER, .content = made_text(w, 8, false) };
    do {
        fs_buf scratch = { 0 };
        n = calls && w->n < 2 + ROUNDS_MAX ? draw(CALLS_MAX + 1) : 0;
        m = &w->messages[w->n];
        *m = (fs_message){ .role = FS_ROLE_ASSISTANT, .content = made_text(w, 8, trim), .reasoning = made_text(w, 8, trim), .calls = w->calls[w->n], .n_calls = n };
        for (size_t k = 0; k < n; k++) {
            fs_buf *arguments = new_text(w);
            make_arguments(arguments, &scratch);
            w->calls[w->n][k] = (fs_tool_call){ fs_bytes_str(ids[k]), fs_bytes_str(names[draw(5)]), fs_buf_bytes(arguments) };
        }
        w->n++;
        for (size_t k = 0; k < n; k++)
            w->messages[w->n++] = (fs_message){ .role = FS_ROLE_TOOL, .content = made_text(w, 6, false), .call_id = fs_bytes_str(ids[k]) };
        fs_buf_done(&scratch);
    } while (n);
}

typedef struct heard_turn {
    words *w;
    fs_message *m;
    fs_tool_call *calls; /* of m */
    fs_buf *reasoning, *content;
} heard_turn;

static bool hear_turn(void *ud, const fs_parsed *e)
{
    heard_turn *h = ud;
    fs_error err;

    if (e->part == FS_PART_CALL) {
        fs_buf *name = new_text(h->w), *arguments = new_text(h->w);
        assert_ok(fs_buf_append(name, e->name.data, e->name.n_bytes, &err), err);
        assert_ok(fs_buf_append(arguments, e->arguments.data, e->arguments.n_bytes, &err), err);
        assert_true(h->m->n_calls < CALLS_MAX);
        h->calls[h->m->n_calls].name = fs_buf_bytes(name);
        h->calls[h->m->n_calls++].arguments = fs_buf_bytes(arguments);
    } else {
        assert_ok(fs_buf_append(e->part == FS_PART_REASONING ? h->reasoning : h->content, e->text.data, e->text.n_bytes, &err), err);
    }
    return true;
}

/* The assistant's message i of said, as a client of the stream has it, into heard. */
static void hear_message(fs_chat_format f, bool thinking, const words *said, size_t i, words *heard)
{
    heard_turn h = { .w = heard, .m = &heard->messages[i], .calls = heard->calls[i], .reasoning = new_text(heard), .content = new_text(heard) };
    fs_chat_options o = { .thinking = thinking };
    size_t end = strlen(f >= FS_CHAT_DEEPSEEK_V3 ? "<｜end▁of▁sentence｜>" : "<|im_end|>");
    fs_buf text = { 0 };
    fs_parser p;
    fs_error err;

    *h.m = (fs_message){ .role = FS_ROLE_ASSISTANT, .calls = heard->calls[i] };
    for (size_t k = 0; k < CALLS_MAX; k++)
        h.calls[k].id = said->calls[i][k].id;
    assert_ok(fs_chat_render_reply(f, NULL, &said->messages[i], &o, &text, NULL, &err), err);
    fs_parser_init(&p, f, thinking, true);
    for (size_t at = 0; at < text.n_bytes - end;) {
        size_t n = 1 + draw(9), left = text.n_bytes - end - at;
        n = n < left ? n : left;
        assert_ok(fs_parser_push(&p, text.data + at, n, hear_turn, &h, &err), err);
        at += n;
    }
    assert_ok(fs_parser_finish(&p, hear_turn, &h, &err), err);
    fs_parser_done(&p);
    fs_buf_done(&text);
    h.m->content = h.content->data ? fs_buf_bytes(h.content) : FS_BYTES_LIT("");
    h.m->reasoning = h.reasoning->data ? fs_buf_bytes(h.reasoning) : said->messages[i].reasoning.n_bytes ? (fs_bytes){ 0 } : FS_BYTES_LIT("");
}

/* A client that keeps what it parsed sends the same conversation as one that keeps what was said, after every turn. */
static void made_conversations_come_back(void **state)
{
    size_t n_calls = 0, n_results = 0, n_turns = 0;

    (void)state;
    for (fs_chat_format f = FS_CHAT_CHATML; f < FS_CHAT_FORMAT_END; f++) {
        if (f == FS_CHAT_LLAMA3)
            continue;
        seed = 0xb5297a4d3f84d5b5u + (uint64_t)f;
        for (int i = 0; i < N_MADE; i++) {
            bool thinking = draw(2);
            fs_chat_options o = { .thinking = thinking, .add_generation_prompt = true, .tools = FS_BYTES_LIT("[{\"name\": \"f\", \"parameters\": {}}]") };
            words said = { .n = 0 }, heard = { .n = 0 };
            if (draw(2))
                said.messages[said.n++] = (fs_message){ .role = FS_ROLE_SYSTEM, .content = made_text(&said, 6, false) };
            for (size_t r = 1 + draw(ROUNDS_MAX - 1); r > 0; r--)
                make_round(&said, f, r > 1);
            for (size_t k = 0; k < said.n; k++) {
                fs_buf a = { 0 }, b = { 0 };
                fs_error err;
                heard.messages[k] = said.messages[k];
                n_results += said.messages[k].role == FS_ROLE_TOOL;
                if (said.messages[k].role != FS_ROLE_ASSISTANT)
                    continue;
                n_turns++;
                n_calls += said.messages[k].n_calls;
                hear_message(f, thinking, &said, k, &heard);
                if (!thinking) /* nobody hears reasoning that was not said */
                    heard.messages[k].reasoning = said.messages[k].reasoning;
                if (said.messages[k].n_calls || k + 1 == said.n)
                    continue;
                assert_ok(fs_chat_render(f, NULL, said.messages, k + 2, &o, &a, NULL, &err), err);
                heard.messages[k + 1] = said.messages[k + 1];
                assert_ok(fs_chat_render(f, NULL, heard.messages, k + 2, &o, &b, NULL, &err), err);
                assert_same(fs_chat_format_name(f), fs_buf_bytes(&a), &b, &a);
                fs_buf_done(&a);
                fs_buf_done(&b);
            }
            words_done(&said);
            words_done(&heard);
        }
    }
    assert_true(n_calls > 5 * N_MADE && n_results == n_calls && n_turns > 15 * N_MADE);
}

#define OPEN   "\n\n<｜DSML｜tool_calls>\n"
#define INVOKE "<｜DSML｜invoke name=\"f\">\n"
#define CLOSE  "</｜DSML｜invoke>\n</｜DSML｜tool_calls>"

/* V4, without thinking: each of these is content to the last byte. */
static void malformed_markup_is_content(void **state)
{
    static const char *const v4[] = {
        "text\n\n", "\n\n<", OPEN, OPEN INVOKE, OPEN "x" INVOKE CLOSE, OPEN "</｜DSML｜tool_calls>", "\n\n<｜DSML｜ calls>\n" INVOKE CLOSE,
        OPEN INVOKE "junk" CLOSE, OPEN "<｜DSML｜invoke name=\"\">\n" CLOSE, OPEN "<｜DSML｜invoke id=\"f\">\n" CLOSE,
        OPEN INVOKE "<｜DSML｜parameter name=\"a\" string=\"false\">Paris</｜DSML｜parameter>\n" CLOSE,
        OPEN INVOKE "<｜DSML｜parameter name=\"a\" string=\"maybe\">1</｜DSML｜parameter>\n" CLOSE,
        OPEN INVOKE "<｜DSML｜parameter name=\"a\">1</｜DSML｜parameter>\n" CLOSE,
        OPEN INVOKE "<｜DSML｜parameter name=\"a\" string=\"true\">1</｜DSML｜ parameter>\n" CLOSE,
        "</think>", "<tool_call>{\"name\": \"f\"}</tool_call>",
    };
    static const char *const qwen[] = {
        "<tool_call>", "a\n<tool_call>\n{\"name\": \"f\"}", "<tool_call>[]</tool_call>", "<tool_call>{\"name\": 1}</tool_call>", "<tool_call>{}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>", "<tool_call>{\"name\": \"f\", \"arguments\": \"x\"}</tool_call>",
        "<tool_call>{\"name\": \"f\"} </tool_calls>", "<tool_call>{\"name\": \"f\",}</tool_call>", "<tool_call>{\"a}</tool_call>",
    };
    static const char *const v3[] = {
        "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f<｜tool▁call▁end｜>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n[]\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    };

    (void)state;
    for (size_t i = 0; i < sizeof v4 / sizeof *v4; i++)
        check_text(FS_CHAT_DEEPSEEK_V4, false, v4[i], "", v4[i], "");
    for (size_t i = 0; i < sizeof qwen / sizeof *qwen; i++)
        check_text(FS_CHAT_QWEN2, false, qwen[i], "", qwen[i], "");
    for (size_t i = 0; i < sizeof v3 / sizeof *v3; i++)
        check_text(FS_CHAT_DEEPSEEK_V3, false, v3[i], "", v3[i], "");
}

static void good_calls_are_told_among_bad_ones(void **state)
{
    (void)state;
    check_text(FS_CHAT_DEEPSEEK_V4, false, "a" OPEN INVOKE "</｜DSML｜invoke>\n<｜DSML｜invoke oops>\n</｜DSML｜tool_calls> tail", "",
               "a\n<｜DSML｜invoke oops>\n</｜DSML｜tool_calls> tail", "f\n{}\n");
    check_text(FS_CHAT_DEEPSEEK_V4, false, "a" OPEN INVOKE CLOSE "\n b", "", "ab", "f\n{}\n");
    check_text(FS_CHAT_QWEN2, false, "<tool_call> junk\n<tool_call>\n{\"name\": \"f\"}\n</tool_call>\n", "", "<tool_call> junk", "f\n{}\n");
    check_text(FS_CHAT_QWEN2, false, "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": \\\"}\\\"}\"}</tool_call>", "", "", "f\n{\"a\": \"}\"}\n");
    check_text(FS_CHAT_DEEPSEEK_V31, false, "c<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜> {\"a\":1} <｜tool▁call▁end｜><｜tool▁calls▁end｜>", "", "c",
               "f\n{\"a\": 1}\n");
}

static void reasoning_ends_at_its_marker(void **state)
{
    (void)state;
    check_text(FS_CHAT_DEEPSEEK_V4, true, "r\n</think>\n\na", "r\n", "\n\na", "");
    check_text(FS_CHAT_DEEPSEEK_V4, true, "r</think", "r</think", "", "");
    check_text(FS_CHAT_DEEPSEEK_V4, true, "r" OPEN INVOKE CLOSE, "r" OPEN INVOKE CLOSE, "", "");
    check_text(FS_CHAT_DEEPSEEK_V4, true, "</think>a</think>b", "", "a</think>b", "");
    check_text(FS_CHAT_DEEPSEEK_V4, false, "a", "", "a", "");
    check_text(FS_CHAT_DEEPSEEK_R1, true, "\nr\n\n</think>\n\na\n", "r", "a\n", "");
    check_text(FS_CHAT_DEEPSEEK_R1, true, "r\n\n", "r\n\n", "", "");
    check_text(FS_CHAT_QWEN3, true, "\n<think>\nr\n</think>\n\na", "r", "a", "");
    check_text(FS_CHAT_QWEN3, true, "\n<thin", "", "\n<thin", "");
    check_text(FS_CHAT_QWEN3, true, " a<think>", "", " a<think>", "");
    check_text(FS_CHAT_QWEN3, false, "<think>a", "", "<think>a", "");
    check_text(FS_CHAT_LLAMA3, true, "<think>a<tool_call>{}", "", "<think>a<tool_call>{}", "");
}

static void names_have_a_limit(void **state)
{
    char name[FS_PARSE_NAME_MAX + 2], text[FS_PARSE_NAME_MAX + 200], calls[FS_PARSE_NAME_MAX + 20];

    (void)state;
    for (int n = FS_PARSE_NAME_MAX; n <= FS_PARSE_NAME_MAX + 1; n++) {
        bool good = n == FS_PARSE_NAME_MAX;
        memset(name, 'n', (size_t)n);
        name[n] = 0;
        snprintf(text, sizeof text, OPEN "<｜DSML｜invoke name=\"%s\">\n" CLOSE, name);
        snprintf(calls, sizeof calls, "%s\n{}\n", name);
        check_text(FS_CHAT_DEEPSEEK_V4, false, text, "", good ? "" : text, good ? calls : "");
    }
}

static void without_tools_their_markup_is_content(void **state)
{
    static const char text[] = "a" OPEN INVOKE CLOSE;
    heard got;

    (void)state;
    parse(FS_CHAT_DEEPSEEK_V4, false, false, fs_bytes_str(text), 1, &got);
    assert_string_equal(got.content.data, text);
    assert_int_equal(got.n_calls, 0);
    heard_done(&got);
}

static bool stop(void *ud, const fs_parsed *e)
{
    (void)e;
    return ++*(int *)ud < 2;
}

static bool ignore(void *ud, const fs_parsed *e)
{
    (void)ud;
    (void)e;
    return true;
}

static void stopping_and_running_out_of_memory_are_errors(void **state)
{
    static const char v4[] = "r</think>c" OPEN INVOKE "<｜DSML｜parameter name=\"a\" string=\"true\">1</｜DSML｜parameter>\n" CLOSE;
    static const char qwen[] = "<think>r</think>c\n<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call>";
    fs_parser p;
    fs_error err;
    int n_told = 0;

    (void)state;
    fs_parser_init(&p, FS_CHAT_DEEPSEEK_V4, true, true);
    assert_int_equal(fs_parser_push(&p, v4, sizeof v4 - 1, stop, &n_told, &err), FS_ERR_INTERRUPTED);
    assert_int_equal(n_told, 2);
    fs_parser_done(&p);
    for (int k = 0; k < 2; k++)
        for (long n = 1;; n++) {
            fs_status rc;
            fs_parser_init(&p, k ? FS_CHAT_QWEN3 : FS_CHAT_DEEPSEEK_V4, true, true);
            alloc_fail_at(n);
            rc = k ? fs_parser_push(&p, qwen, sizeof qwen - 1, ignore, NULL, &err) : fs_parser_push(&p, v4, sizeof v4 - 1, ignore, NULL, &err);
            alloc_fail_off();
            assert_int_equal(p.n_calls, rc ? p.n_calls : 1);
            fs_parser_done(&p);
            if (!rc) {
                assert_true(n > 3);
                break;
            }
            assert_int_equal(rc, FS_ERR_MEMORY);
        }
    fs_parser_done(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_answer_of_the_vectors_comes_back),
        cmocka_unit_test(made_answers_come_back),
        cmocka_unit_test(made_conversations_come_back),
        cmocka_unit_test(malformed_markup_is_content),
        cmocka_unit_test(good_calls_are_told_among_bad_ones),
        cmocka_unit_test(reasoning_ends_at_its_marker),
        cmocka_unit_test(names_have_a_limit),
        cmocka_unit_test(without_tools_their_markup_is_content),
        cmocka_unit_test(stopping_and_running_out_of_memory_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
