/* WRAP_ALLOC. Prompts against Jinja with the published templates and DeepSeek's encoders (tests/vectors/chat_*.json,
 * tools_*.json), and that what somebody wrote never becomes a marker. */
#include "conversation.h"

#include "alloc_fail.h"

static const fs_chat_format formats[] = { FS_CHAT_CHATML, FS_CHAT_QWEN2, FS_CHAT_QWEN3, FS_CHAT_SMOLLM2, FS_CHAT_LLAMA3,
                                          FS_CHAT_DEEPSEEK_V3, FS_CHAT_DEEPSEEK_R1, FS_CHAT_DEEPSEEK_V31, FS_CHAT_DEEPSEEK_V32,
                                          FS_CHAT_DEEPSEEK_V4, FS_CHAT_DEEPSEEK_V41 };
#define N_FORMATS   (sizeof formats / sizeof *formats)
#define N_TEMPLATES 7 /* of them with chat_<format>.json of Jinja's */

static const char *const markers[] = { "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>",
                                       "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<｜begin▁of▁sentence｜>",
                                       "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "<tool_call>",
                                       "</tool_call>", "<tool_response>", "</tool_response>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
                                       "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>",
                                       "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>", "<｜tool▁sep｜>", "｜DSML｜", "<｜latest_reminder｜>",
                                       "<｜System｜>" };
#define N_MARKERS (sizeof markers / sizeof *markers)

static fs_tokenizer *with_markers(size_t n)
{
    return tiny_with_markers(markers, n);
}

static size_t count_markers(const fs_ids *ids)
{
    size_t n = 0;

    for (size_t i = 0; i < ids->n; i++)
        n += ids->data[i] >= MARKER_BASE;
    return n;
}

/* The prompts of a file's cases, under key, and that the ids say the same text. */
static void check_prompts(const fs_tokenizer *t, const char *file, fs_chat_format f, const char *key, size_t n_min)
{
    struct json_object *v = tiny_read(file), *cases = fs_json_member(v, "cases");

    assert_true(json_object_array_length(cases) >= n_min);
    for (size_t i = 0; i < json_object_array_length(cases); i++) {
        struct json_object *o = json_object_array_get_idx(cases, i);
        fs_bytes want = string_of(fs_json_member(o, key));
        fs_buf prompt = { 0 }, decoded = { 0 };
        fs_ids ids = { 0 };
        conversation c;
        fs_error err;
        read_conversation(o, &c);
        assert_ok(fs_chat_render(f, t, c.messages, c.n, &c.options, &prompt, &ids, &err), err);
        if (!fs_bytes_equal(fs_buf_bytes(&prompt), want))
            fail_msg("%s, case %zu: '%s', expected '%s'", file, i, prompt.data, (const char *)want.data);
        assert_ok(fs_tokenizer_decode(t, ids.data, ids.n, false, &decoded, &err), err);
        assert_true(fs_bytes_equal(fs_buf_bytes(&decoded), want));
        fs_buf_done(&prompt);
        fs_buf_done(&decoded);
        fs_ids_done(&ids);
    }
    json_object_put(v);
}

static void prompts_are_those_of_the_published_templates(void **state)
{
    static const fs_chat_format with_tools[] = { FS_CHAT_QWEN2, FS_CHAT_QWEN3, FS_CHAT_DEEPSEEK_V31, FS_CHAT_DEEPSEEK_V32 };
    fs_tokenizer *t = with_markers(N_MARKERS);
    char name[64];

    (void)state;
    for (size_t f = 0; f < N_TEMPLATES; f++) {
        snprintf(name, sizeof name, "chat_%s.json", fs_chat_format_name(formats[f]));
        check_prompts(t, name, formats[f], "prompt", 100);
    }
    for (size_t f = 0; f < sizeof with_tools / sizeof *with_tools; f++) {
        snprintf(name, sizeof name, "tools_%s.json", fs_chat_format_name(with_tools[f]));
        check_prompts(t, name, with_tools[f], "prompt", 40);
    }
    check_prompts(t, "chat_v4.json", FS_CHAT_DEEPSEEK_V4, "v4_prompt", 150);
    check_prompts(t, "chat_v4.json", FS_CHAT_DEEPSEEK_V41, "v41_prompt", 150);
    fs_tokenizer_close(t);
}

/* Where no published template says how: V3 and R1 with tools, by the description of their format. */
static void v3_and_r1_call_tools(void **state)
{
    static const fs_tool_call calls[] = { { FS_BYTES_LIT("1"), FS_BYTES_LIT("f"), FS_BYTES_LIT("{\"a\": 1}") },
                                          { FS_BYTES_LIT("2"), FS_BYTES_LIT("g"), FS_BYTES_LIT("{}") } };
    fs_message m[] = { { .role = FS_ROLE_USER, .content = FS_BYTES_LIT("q") },
                       { .role = FS_ROLE_ASSISTANT, .content = FS_BYTES_LIT("c"), .calls = calls, .n_calls = 2 },
                       { .role = FS_ROLE_TOOL, .content = FS_BYTES_LIT("r") },
                       { .role = FS_ROLE_TOOL, .content = FS_BYTES_LIT("s") },
                       { .role = FS_ROLE_ASSISTANT, .content = FS_BYTES_LIT("d"), .calls = calls + 1, .n_calls = 1 },
                       { .role = FS_ROLE_TOOL, .content = FS_BYTES_LIT("u") } };
    fs_chat_options o = { .add_generation_prompt = true };
    fs_buf prompt = { 0 };
    fs_error err;

    (void)state;
    assert_ok(fs_chat_render(FS_CHAT_DEEPSEEK_V3, NULL, m, 6, &o, &prompt, NULL, &err), err);
    assert_string_equal(prompt.data,
                        "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜>c<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n"
                        "{\"a\": 1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜>"
                        "<｜tool▁calls▁end｜><｜end▁of▁sentence｜><｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>r<｜tool▁output▁end｜>"
                        "<｜tool▁output▁begin｜>s<｜tool▁output▁end｜><｜tool▁outputs▁end｜>d<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function"
                        "<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜><｜tool▁outputs▁begin｜>"
                        "<｜tool▁output▁begin｜>u<｜tool▁output▁end｜><｜tool▁outputs▁end｜>");
    fs_buf_done(&prompt);
}

/* V3.1's template knows no tools: its model card says how they stand behind the system message. */
static void v31_describes_tools_as_its_model_card(void **state)
{
    fs_message m[] = { { .role = FS_ROLE_SYSTEM, .content = FS_BYTES_LIT("S") }, { .role = FS_ROLE_USER, .content = FS_BYTES_LIT("q") } };
    fs_chat_options o = { .add_generation_prompt = true,
                          .tools = FS_BYTES_LIT("[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":\"the \\\"weather\\\"\","
                                                "\"parameters\":{\"type\":\"object\",\"properties\":{\"城\":{\"type\":\"string\"}}}}},"
                                                "{\"name\":\"now\",\"description\":\"\",\"parameters\":{}}]") };
    fs_tokenizer *t = with_markers(N_MARKERS);
    fs_buf prompt = { 0 };
    fs_ids ids = { 0 };
    fs_error err;

    (void)state;
    assert_ok(fs_chat_render(FS_CHAT_DEEPSEEK_V31, t, m, 2, &o, &prompt, &ids, &err), err);
    assert_string_equal(prompt.data,
                        "<｜begin▁of▁sentence｜>S\n\n## Tools\nYou have access to the following tools:\n\n### get_weather\nDescription: the \"weather\"\n\n"
                        "Parameters: {\"type\": \"object\", \"properties\": {\"城\": {\"type\": \"string\"}}}\n\n### now\nDescription: \n\nParameters: {}\n\n"
                        "IMPORTANT: ALWAYS adhere to this exact format for tool use:\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>"
                        "tool_call_arguments<｜tool▁call▁end｜>{additional_tool_calls}<｜tool▁calls▁end｜>\n\nWhere:\n- `tool_call_name` must be an exact match "
                        "to one of the available tools\n- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"
                        "- For multiple tool calls, chain them directly without separators or spaces\n<｜User｜>q<｜Assistant｜></think>");
    assert_int_equal(count_markers(&ids), 9);
    fs_buf_done(&prompt);
    fs_ids_done(&ids);
    fs_tokenizer_close(t);
}

static void nobodys_words_become_a_marker(void **state)
{
    fs_tokenizer *t = with_markers(N_MARKERS);
    fs_chat_options o = { .thinking = true, .add_generation_prompt = true };

    (void)state;
    for (size_t f = 0; f < N_FORMATS; f++)
        for (size_t k = 0; k < N_MARKERS; k++) {
            fs_bytes mark = fs_bytes_str(markers[k]);
            fs_ids a = { 0 }, b = { 0 };
            fs_tool_call call = { mark, FS_BYTES_LIT("f"), FS_BYTES_LIT("{\"a\":\"x\",\"b\":[\"y\"]}") }, bad_call = { mark, mark, { 0 } };
            fs_message plain[] = { { .role = FS_ROLE_SYSTEM, .content = FS_BYTES_LIT("s") },
                                   { .role = FS_ROLE_USER, .content = FS_BYTES_LIT("u") },
                                   { .role = FS_ROLE_ASSISTANT, .content = FS_BYTES_LIT("a"), .reasoning = FS_BYTES_LIT("r"), .calls = &call, .n_calls = 1 },
                                   { .role = FS_ROLE_TOOL, .content = FS_BYTES_LIT("t"), .call_id = mark },
                                   { .role = FS_ROLE_ASSISTANT, .content = FS_BYTES_LIT("a"), .reasoning = FS_BYTES_LIT("r") },
                                   { .role = FS_ROLE_USER, .content = FS_BYTES_LIT("u") } };
            fs_message hostile[6];
            fs_buf arguments = { 0 }, tools = { 0 };
            fs_chat_options o2 = o;
            bool with_tools = formats[f] != FS_CHAT_LLAMA3;
            size_t n = with_tools ? 6 : 3;
            fs_error err;
            assert_ok(fs_buf_printf(&arguments, &err, "{\"%s\":\"%s\",\"b\":[\"%s\"]}", markers[k], markers[k], markers[k]), err);
            bad_call.arguments = fs_buf_bytes(&arguments);
            assert_ok(fs_buf_printf(&tools, &err, "[{\"name\":\"%s\",\"description\":\"%s\",\"parameters\":{\"%s\":1}}]", markers[k],
                                    markers[k], markers[k]), err);
            if (with_tools) {
                o.tools = FS_BYTES_LIT("[{\"name\":\"n\",\"description\":\"d\",\"parameters\":{\"p\":1}}]");
                o2.tools = fs_buf_bytes(&tools);
            } else {
                o.tools = o2.tools = (fs_bytes){ 0 };
                plain[2].n_calls = 0;
            }
            for (size_t i = 0; i < n; i++) {
                hostile[i] = plain[i];
                hostile[i].content = mark;
                hostile[i].reasoning = plain[i].reasoning.data ? mark : plain[i].reasoning;
                hostile[i].calls = plain[i].n_calls ? &bad_call : NULL;
            }
            assert_ok(fs_chat_render(formats[f], t, plain, n, &o, NULL, &a, &err), err);
            assert_ok(fs_chat_render(formats[f], t, hostile, n, &o2, NULL, &b, &err), err);
            assert_int_equal(count_markers(&a), count_markers(&b));
            fs_buf_done(&arguments);
            fs_buf_done(&tools);
            fs_ids_done(&a);
            fs_ids_done(&b);
        }
    fs_tokenizer_close(t);
}

static void formats_are_known_by_name_and_by_template(void **state)
{
    static const struct {
        const char *template;
        fs_chat_format format;
    } cases[] = {
        { "{{ bos }}[INST] {{ m }}", FS_CHAT_TEMPLATE },
        { "'<|im_start|>' + role", FS_CHAT_CHATML },
        { "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>", FS_CHAT_QWEN2 },
        { "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>", FS_CHAT_SMOLLM2 },
        { "<|im_start|> {% if enable_thinking is false %}<think>", FS_CHAT_QWEN3 },
        { "<|im_start|>assistant\n<think>\n", FS_CHAT_TEMPLATE },
        { "'<|start_header_id|>' + role", FS_CHAT_LLAMA3 },
        { "'<|start_header_id|>' + role + 'Cutting Knowledge Date: '", FS_CHAT_TEMPLATE },
        { "'<｜User｜>' + c + '<｜Assistant｜>'", FS_CHAT_DEEPSEEK_V3 },
        { "'<｜User｜>' + c + '<｜Assistant｜><think>\\n'", FS_CHAT_DEEPSEEK_R1 },
        { "content.split('</think>')[-1] '<｜Assistant｜>'", FS_CHAT_DEEPSEEK_R1 },
        { "{% if thinking %}'<｜Assistant｜><think>'{% else %}'<｜Assistant｜></think>'", FS_CHAT_DEEPSEEK_V31 },
        { "{% if thinking %}'<｜Assistant｜><think>'", FS_CHAT_TEMPLATE },
        { "thinking '<｜Assistant｜>' '</think>' '<｜DSML｜function_calls>'", FS_CHAT_DEEPSEEK_V32 },
        { "thinking '<｜Assistant｜>' '</think>' '<｜DSML｜tool_calls>'", FS_CHAT_DEEPSEEK_V4 },
        { "thinking '<｜Assistant｜>' '</think>' '<｜DSML｜ calls>'", FS_CHAT_DEEPSEEK_V41 },
        { "thinking '<｜Assistant｜>' '</think>' '<｜DSML｜other>'", FS_CHAT_TEMPLATE },
    };
    fs_tokenizer *t = with_markers(N_MARKERS), *bare = NULL;
    fs_error err;

    (void)state;
    assert_ok(tiny_with(NULL, NULL, &bare, &err), err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(fs_chat_format_detect(fs_bytes_str(cases[i].template), t, "deepseek_v4"), cases[i].format);
        assert_int_equal(fs_chat_format_detect(fs_bytes_str(cases[i].template), NULL, NULL), cases[i].format);
        assert_int_equal(fs_chat_format_detect(fs_bytes_str(cases[i].template), bare, NULL), FS_CHAT_TEMPLATE);
    }
    /* Without a template the tokens tell. */
    for (size_t n = 0; n <= N_MARKERS; n++) {
        fs_tokenizer *some = with_markers(n);
        fs_chat_format want = n < N_MARKERS - 2   ? FS_CHAT_NONE
                              : n < N_MARKERS - 1 ? FS_CHAT_DEEPSEEK_V32
                              : n < N_MARKERS     ? FS_CHAT_DEEPSEEK_V4
                                                  : FS_CHAT_DEEPSEEK_V41;
        assert_int_equal(fs_chat_format_detect((fs_bytes){ 0 }, some, NULL), want);
        assert_int_equal(fs_chat_format_detect((fs_bytes){ 0 }, some, "llama"), want);
        /* A model's type tells more, and less than <｜System｜>. */
        assert_int_equal(fs_chat_format_detect((fs_bytes){ 0 }, some, "deepseek_v4"), want == FS_CHAT_DEEPSEEK_V32 ? FS_CHAT_DEEPSEEK_V4 : want);
        assert_int_equal(fs_chat_format_detect((fs_bytes){ 0 }, some, "deepseek_v32"), n > 11 ? FS_CHAT_DEEPSEEK_V32 : FS_CHAT_NONE);
        fs_tokenizer_close(some);
    }
    assert_int_equal(fs_chat_format_detect((fs_bytes){ 0 }, NULL, "deepseek_v4"), FS_CHAT_NONE);
    for (fs_chat_format f = FS_CHAT_NONE; f < FS_CHAT_FORMAT_END; f++)
        assert_int_equal(fs_chat_format_from_name(fs_chat_format_name(f)), f);
    assert_int_equal(fs_chat_format_from_name("vicuna"), FS_CHAT_FORMAT_END);
    fs_tokenizer_close(t);
    fs_tokenizer_close(bare);
}

static void what_cannot_be_said_is_a_sentence(void **state)
{
    static const char *const bad_tools[] = { "{}", "[1]", "[{}]", "[{\"name\":1}]", "[{\"function\":[]}]", "[", "[{\"name\":\"f\"}] x" };
    fs_tokenizer *t = with_markers(1);
    fs_message m = { .role = FS_ROLE_USER, .content = FS_BYTES_LIT("Hi") }, tool = { .role = FS_ROLE_TOOL, .content = FS_BYTES_LIT("21") };
    fs_tool_call two[2] = { { .name = FS_BYTES_LIT("f") }, { .name = FS_BYTES_LIT("g") } };
    fs_message calls[] = { { .role = FS_ROLE_ASSISTANT, .calls = two, .n_calls = 2 }, tool, m };
    fs_chat_options o = { .add_generation_prompt = true };
    fs_buf prompt = { 0 };
    fs_ids ids = { 0 };
    fs_error err;

    (void)state;
    assert_ok(fs_buf_append_str(&prompt, "before", &err), err);
    assert_ok(fs_ids_push(&ids, 5, &err), err);
    assert_int_equal(fs_chat_render(FS_CHAT_NONE, t, &m, 1, &o, &prompt, &ids, &err), FS_ERR_UNSUPPORTED);
    assert_int_equal(fs_chat_render(FS_CHAT_TEMPLATE, t, &m, 1, &o, &prompt, &ids, &err), FS_ERR_UNSUPPORTED);
    assert_int_equal(fs_chat_render(FS_CHAT_CHATML, t, &m, 0, &o, &prompt, &ids, &err), FS_ERR_ARGUMENT);
    assert_int_equal(fs_chat_render(FS_CHAT_LLAMA3, t, &tool, 1, &o, &prompt, &ids, &err), FS_ERR_UNSUPPORTED);
    assert_sentence(err, "message 0");
    assert_int_equal(fs_chat_render(FS_CHAT_DEEPSEEK_V32, t, &tool, 1, &o, &prompt, NULL, &err), FS_ERR_FORMAT);
    assert_sentence(err, "message 0");
    assert_int_equal(fs_chat_render(FS_CHAT_DEEPSEEK_V32, t, calls, 3, &o, &prompt, NULL, &err), FS_ERR_FORMAT);
    assert_sentence(err, "1 of 2");
    calls[0].role = FS_ROLE_USER;
    assert_int_equal(fs_chat_render(FS_CHAT_DEEPSEEK_V4, t, calls, 3, &o, &prompt, NULL, &err), FS_ERR_FORMAT);
    assert_sentence(err, "not the assistant's");
    calls[0].role = FS_ROLE_ASSISTANT;
    calls[0].n_calls = FS_CHAT_CALLS_MAX + 1;
    assert_int_equal(fs_chat_render(FS_CHAT_DEEPSEEK_V4, t, calls, 3, &o, &prompt, NULL, &err), FS_ERR_FORMAT);
    assert_sentence(err, "1025");
    for (size_t i = 0; i < sizeof bad_tools / sizeof *bad_tools; i++) {
        o.tools = fs_bytes_str(bad_tools[i]);
        assert_int_equal(fs_chat_render(FS_CHAT_DEEPSEEK_V4, t, &m, 1, &o, &prompt, NULL, &err), FS_ERR_FORMAT);
        assert_sentence(err, "tool");
    }
    o.tools = FS_BYTES_LIT("[{\"name\":\"f\"}]");
    assert_int_equal(fs_chat_render(FS_CHAT_LLAMA3, t, &m, 1, &o, &prompt, NULL, &err), FS_ERR_UNSUPPORTED);
    o.tools = FS_BYTES_LIT(" [ ] ");
    /* A marker that the tokenizer has not; what stood in the buffers still does. */
    assert_int_equal(fs_chat_render(FS_CHAT_CHATML, t, &m, 1, &o, &prompt, &ids, &err), FS_ERR_UNSUPPORTED);
    assert_sentence(err, "<|im_end|>");
    assert_string_equal(prompt.data, "before");
    assert_int_equal(ids.n, 1);
    fs_buf_done(&prompt);
    fs_ids_done(&ids);
    fs_tokenizer_close(t);
}

static void stops_and_reasoning(void **state)
{
    fs_tokenizer *t = with_markers(N_MARKERS);
    fs_bytes open, close;
    bool in_prompt;
    int32_t ids[FS_CHAT_STOP_IDS_MAX];

    (void)state;
    assert_int_equal(fs_chat_stop_ids(FS_CHAT_QWEN2, t, ids), 2);
    assert_int_equal(ids[0], MARKER_BASE + 1);
    assert_int_equal(ids[1], MARKER_BASE + 2);
    assert_int_equal(fs_chat_stop_ids(FS_CHAT_LLAMA3, t, ids), 2);
    assert_int_equal(fs_chat_stop_ids(FS_CHAT_DEEPSEEK_R1, t, ids), 1);
    assert_int_equal(ids[0], MARKER_BASE + 9);
    assert_int_equal(fs_chat_stop_ids(FS_CHAT_NONE, t, ids), 0);
    fs_chat_reasoning(FS_CHAT_DEEPSEEK_R1, false, &open, &close, &in_prompt);
    assert_true(in_prompt && fs_bytes_equal(open, FS_BYTES_LIT("<think>")) && fs_bytes_equal(close, FS_BYTES_LIT("</think>")));
    fs_chat_reasoning(FS_CHAT_QWEN3, true, &open, &close, &in_prompt);
    assert_true(!in_prompt && open.n_bytes && close.n_bytes);
    fs_chat_reasoning(FS_CHAT_QWEN3, false, &open, &close, &in_prompt);
    assert_true(!in_prompt && !open.n_bytes && !close.n_bytes);
    fs_chat_reasoning(FS_CHAT_DEEPSEEK_V3, true, &open, &close, &in_prompt);
    assert_true(!in_prompt && !open.n_bytes && !close.n_bytes);
    fs_tokenizer_close(t);
}

static void out_of_memory_anywhere_is_a_sentence(void **state)
{
    fs_tokenizer *t = with_markers(N_MARKERS);
    fs_tool_call call = { .name = FS_BYTES_LIT("f"), .arguments = FS_BYTES_LIT("{\"a\": \"b\", \"c\": [1.5]}") };
    fs_message m[] = { { .role = FS_ROLE_USER, .content = FS_BYTES_LIT("What is a lazy dog?") },
                       { .role = FS_ROLE_ASSISTANT, .content = FS_BYTES_LIT("Tired."), .calls = &call, .n_calls = 1 },
                       { .role = FS_ROLE_TOOL, .content = FS_BYTES_LIT("r") } };
    fs_chat_options o = { .thinking = true, .add_generation_prompt = true };
    fs_error err;

    (void)state;
    for (size_t f = 0; f < N_FORMATS; f++)
        for (long n = 1;; n++) {
            fs_buf prompt = { 0 };
            fs_ids ids = { 0 };
            fs_status rc;
            m[1].n_calls = formats[f] != FS_CHAT_LLAMA3;
            o.tools = m[1].n_calls ? FS_BYTES_LIT("[{\"name\":\"f\",\"description\":\"d\",\"parameters\":{}}]") : (fs_bytes){ 0 };
            alloc_fail_at(n);
            rc = fs_chat_render(formats[f], t, m, m[1].n_calls ? 3 : 2, &o, &prompt, &ids, &err);
            alloc_fail_off();
            if (rc) {
                assert_int_equal(rc, FS_ERR_MEMORY);
                assert_true(prompt.n_bytes == 0 && ids.n == 0);
            }
            fs_buf_done(&prompt);
            fs_ids_done(&ids);
            if (!rc) {
                assert_true(n > 4);
                break;
            }
        }
    fs_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_are_those_of_the_published_templates),
        cmocka_unit_test(v3_and_r1_call_tools),
        cmocka_unit_test(v31_describes_tools_as_its_model_card),
        cmocka_unit_test(nobodys_words_become_a_marker),
        cmocka_unit_test(formats_are_known_by_name_and_by_template),
        cmocka_unit_test(what_cannot_be_said_is_a_sentence),
        cmocka_unit_test(stops_and_reasoning),
        cmocka_unit_test(out_of_memory_anywhere_is_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
