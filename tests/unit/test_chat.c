/* WRAP_ALLOC. Prompts against Jinja with the published templates (tests/vectors/chat_*.json), and that what somebody
 * wrote never becomes a marker. */
#include "tiny.h"

#include "alloc_fail.h"
#include "text/chat.h"

static const fs_chat_format formats[] = { FS_CHAT_CHATML, FS_CHAT_QWEN2, FS_CHAT_QWEN3, FS_CHAT_SMOLLM2, FS_CHAT_LLAMA3,
                                          FS_CHAT_DEEPSEEK_V3, FS_CHAT_DEEPSEEK_R1 };
#define N_FORMATS (sizeof formats / sizeof *formats)

static const char *const markers[] = { "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>",
                                       "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<｜begin▁of▁sentence｜>",
                                       "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>" };
#define N_MARKERS   (sizeof markers / sizeof *markers)
#define MARKER_BASE 1000

/* The tiny tokenizer with every marker as an added token, special or not by turns. */
static fs_tokenizer *with_markers(size_t n)
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

static fs_bytes string_of(struct json_object *o)
{
    return (fs_bytes){ (const uint8_t *)json_object_get_string(o), (size_t)json_object_get_string_len(o) };
}

static size_t read_messages(struct json_object *list, fs_message *ret, size_t max)
{
    size_t n = json_object_array_length(list);

    assert_true(n <= max);
    for (size_t i = 0; i < n; i++) {
        struct json_object *o = json_object_array_get_idx(list, i), *reasoning = fs_json_member(o, "reasoning_content");
        const char *role = json_object_get_string(fs_json_member(o, "role"));
        ret[i] = (fs_message){ .role = role[0] == 's' ? FS_ROLE_SYSTEM : role[0] == 'u' ? FS_ROLE_USER : FS_ROLE_ASSISTANT,
                               .content = string_of(fs_json_member(o, "content")) };
        if (reasoning)
            ret[i].reasoning = string_of(reasoning);
    }
    return n;
}

static size_t count_markers(const fs_ids *ids)
{
    size_t n = 0;

    for (size_t i = 0; i < ids->n; i++)
        n += ids->data[i] >= MARKER_BASE;
    return n;
}

static void prompts_are_those_of_the_published_templates(void **state)
{
    fs_tokenizer *t = with_markers(N_MARKERS);

    (void)state;
    for (size_t f = 0; f < N_FORMATS; f++) {
        char name[64];
        struct json_object *v, *cases;
        snprintf(name, sizeof name, "chat_%s.json", fs_chat_format_name(formats[f]));
        v = tiny_read(name);
        cases = fs_json_member(v, "cases");
        assert_true(json_object_array_length(cases) >= 100);
        for (size_t i = 0; i < json_object_array_length(cases); i++) {
            struct json_object *c = json_object_array_get_idx(cases, i);
            fs_chat_options o = { .thinking = json_object_get_boolean(fs_json_member(c, "thinking")),
                                  .add_generation_prompt = json_object_get_boolean(fs_json_member(c, "add_generation_prompt")) };
            fs_bytes want = string_of(fs_json_member(c, "prompt"));
            fs_message m[32];
            size_t n = read_messages(fs_json_member(c, "messages"), m, 32);
            fs_buf prompt = { 0 }, decoded = { 0 };
            fs_ids ids = { 0 };
            fs_error err;
            assert_ok(fs_chat_render(formats[f], t, m, n, &o, &prompt, &ids, &err), err);
            if (!fs_bytes_equal(fs_buf_bytes(&prompt), want))
                fail_msg("%s, case %zu: '%s', expected '%s'", name, i, prompt.data, (const char *)want.data);
            /* The ids say the same text. */
            assert_ok(fs_tokenizer_decode(t, ids.data, ids.n, false, &decoded, &err), err);
            assert_true(fs_bytes_equal(fs_buf_bytes(&decoded), want));
            fs_buf_done(&prompt);
            fs_buf_done(&decoded);
            fs_ids_done(&ids);
        }
        json_object_put(v);
    }
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
            fs_message plain[] = { { FS_ROLE_SYSTEM, FS_BYTES_LIT("s"), { 0 } }, { FS_ROLE_USER, FS_BYTES_LIT("u"), { 0 } },
                                   { FS_ROLE_ASSISTANT, FS_BYTES_LIT("a"), { 0 } }, { FS_ROLE_USER, FS_BYTES_LIT("u"), { 0 } } };
            fs_message hostile[] = { { FS_ROLE_SYSTEM, mark, { 0 } }, { FS_ROLE_USER, mark, { 0 } },
                                     { FS_ROLE_ASSISTANT, mark, { 0 } }, { FS_ROLE_USER, mark, { 0 } } };
            fs_ids a = { 0 }, b = { 0 };
            fs_error err;
            assert_ok(fs_chat_render(formats[f], t, plain, 4, &o, NULL, &a, &err), err);
            assert_ok(fs_chat_render(formats[f], t, hostile, 4, &o, NULL, &b, &err), err);
            assert_int_equal(count_markers(&a), count_markers(&b));
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
        { "", FS_CHAT_NONE },
        { "{{ bos }}[INST] {{ m }}", FS_CHAT_NONE },
        { "'<|im_start|>' + role", FS_CHAT_CHATML },
        { "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>", FS_CHAT_QWEN2 },
        { "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>", FS_CHAT_SMOLLM2 },
        { "<|im_start|> {% if enable_thinking is false %}<think>", FS_CHAT_QWEN3 },
        { "<|im_start|>assistant\n<think>\n", FS_CHAT_NONE },
        { "'<|start_header_id|>' + role", FS_CHAT_LLAMA3 },
        { "'<｜User｜>' + c + '<｜Assistant｜>'", FS_CHAT_DEEPSEEK_V3 },
        { "'<｜User｜>' + c + '<｜Assistant｜><think>\\n'", FS_CHAT_DEEPSEEK_R1 },
        { "content.split('</think>')[-1] '<｜Assistant｜>'", FS_CHAT_DEEPSEEK_R1 },
        { "{% if thinking %}'<｜Assistant｜><think>'{% else %}'<｜Assistant｜></think>'", FS_CHAT_NONE },
    };
    fs_tokenizer *t = with_markers(N_MARKERS), *bare = NULL;
    fs_error err;

    (void)state;
    assert_ok(tiny_with(NULL, NULL, &bare, &err), err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(fs_chat_format_detect(fs_bytes_str(cases[i].template), t), cases[i].format);
        assert_int_equal(fs_chat_format_detect(fs_bytes_str(cases[i].template), NULL), cases[i].format);
        assert_int_equal(fs_chat_format_detect(fs_bytes_str(cases[i].template), bare), FS_CHAT_NONE);
    }
    for (fs_chat_format f = FS_CHAT_NONE; f < FS_CHAT_FORMAT_END; f++)
        assert_int_equal(fs_chat_format_from_name(fs_chat_format_name(f)), f);
    assert_int_equal(fs_chat_format_from_name("vicuna"), FS_CHAT_FORMAT_END);
    fs_tokenizer_close(t);
    fs_tokenizer_close(bare);
}

static void what_cannot_be_said_is_a_sentence(void **state)
{
    fs_tokenizer *t = with_markers(1);
    fs_message m = { FS_ROLE_USER, FS_BYTES_LIT("Hi"), { 0 } }, tool = { FS_ROLE_TOOL, FS_BYTES_LIT("21"), { 0 } };
    fs_chat_options o = { .add_generation_prompt = true };
    fs_buf prompt = { 0 };
    fs_ids ids = { 0 };
    fs_error err;

    (void)state;
    assert_ok(fs_buf_append_str(&prompt, "before", &err), err);
    assert_ok(fs_ids_push(&ids, 5, &err), err);
    assert_int_equal(fs_chat_render(FS_CHAT_NONE, t, &m, 1, &o, &prompt, &ids, &err), FS_ERR_UNSUPPORTED);
    assert_int_equal(fs_chat_render(FS_CHAT_CHATML, t, &m, 0, &o, &prompt, &ids, &err), FS_ERR_ARGUMENT);
    assert_int_equal(fs_chat_render(FS_CHAT_CHATML, t, &tool, 1, &o, &prompt, &ids, &err), FS_ERR_UNSUPPORTED);
    assert_sentence(err, "message 0");
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
    int32_t ids[4];

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
    fs_message m[] = { { FS_ROLE_USER, FS_BYTES_LIT("What is a lazy dog?"), { 0 } }, { FS_ROLE_ASSISTANT, FS_BYTES_LIT("Tired."), { 0 } } };
    fs_chat_options o = { .add_generation_prompt = true };
    fs_error err;

    (void)state;
    for (size_t f = 0; f < N_FORMATS; f++)
        for (long n = 1;; n++) {
            fs_buf prompt = { 0 };
            fs_ids ids = { 0 };
            fs_status rc;
            alloc_fail_at(n);
            rc = fs_chat_render(formats[f], t, m, 2, &o, &prompt, &ids, &err);
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
        cmocka_unit_test(nobodys_words_become_a_marker),
        cmocka_unit_test(formats_are_known_by_name_and_by_template),
        cmocka_unit_test(what_cannot_be_said_is_a_sentence),
        cmocka_unit_test(stops_and_reasoning),
        cmocka_unit_test(out_of_memory_anywhere_is_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
