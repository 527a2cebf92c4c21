/* WRAP_ALLOC. A conversation through a model's own template: the published ones give what the formats written in C give, ids
 * too, and what stands beside the weights is read. */
#include "conversation.h"

#include "alloc_fail.h"
#include "text/chat_template.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const markers[] = { "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>",
                                       "<｜Assistant｜>", "<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>",
                                       "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>",
                                       "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>", "<｜tool▁sep｜>" };
#define N_MARKERS (sizeof markers / sizeof *markers)

static fs_tokenizer *with_markers(void)
{
    return tiny_with_markers(markers, N_MARKERS);
}

static struct json_object *own_tokens(void)
{
    struct json_object *own = json_object_new_object();

    json_object_object_add(own, "bos_token", json_object_new_string("<｜begin▁of▁sentence｜>"));
    return own;
}

static void published_templates_say_what_the_formats_say(void **state)
{
    struct json_object *v = tiny_read("jinja_templates.json"), *templates = fs_json_member(v, "templates"), *own = own_tokens();
    fs_tokenizer *t = with_markers();
    size_t n_compared = 0;

    (void)state;
    for (size_t i = 0; i < json_object_array_length(templates); i++) {
        struct json_object *one = json_object_array_get_idx(templates, i), *cases, *file;
        const char *name = json_object_get_string(fs_json_member(one, "name"));
        char path[80];
        fs_chat_template *c = NULL;
        fs_error err;
        snprintf(path, sizeof path, "chat_%s.json", name);
        file = tiny_read(path);
        cases = fs_json_member(file, "cases");
        assert_ok(fs_chat_template_open(string_of(fs_json_member(one, "text")), own, &c, &err), err);
        assert_string_equal(fs_chat_format_name(fs_chat_template_calls(c)), name);
        for (size_t k = 0; k < json_object_array_length(cases); k++) {
            fs_buf prompt = { 0 }, want = { 0 };
            fs_ids ids = { 0 }, want_ids = { 0 };
            conversation talk;
            read_conversation(json_object_array_get_idx(cases, k), &talk);
            assert_ok(fs_chat_render(fs_chat_format_from_name(name), t, talk.messages, talk.n, &talk.options, &want, &want_ids, &err), err);
            assert_ok(fs_chat_template_messages(c, t, talk.messages, talk.n, &talk.options, NULL, &prompt, &ids, &err), err);
            if (!fs_bytes_equal(fs_buf_bytes(&prompt), fs_buf_bytes(&want)))
                fail_msg("%s, case %zu: '%s', expected '%s'", name, k, prompt.data, want.data);
            assert_int_equal(ids.n, want_ids.n);
            assert_memory_equal(ids.data, want_ids.data, ids.n * sizeof *ids.data);
            fs_buf_done(&prompt);
            fs_buf_done(&want);
            fs_ids_done(&ids);
            fs_ids_done(&want_ids);
            n_compared++;
        }
        fs_chat_template_close(c);
        json_object_put(file);
    }
    assert_true(n_compared >= 500);
    fs_tokenizer_close(t);
    json_object_put(own);
    json_object_put(v);
}

/* Everything that a message can carry, on one line. */
static const char all[] = "{{ bos_token }}|{% for m in messages %}{{ m.role }}:{{ m.content }}{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}"
                          "{% for c in m.tool_calls or [] %}<{{ c.id }},{{ c.type }},{{ c.function.name }},{{ c.function.arguments | tojson }}>{% endfor %}"
                          "{% if m.tool_call_id %}#{{ m.tool_call_id }}{% endif %}|{% endfor %}"
                          "{% for t in tools or [] %}{{ t.type }} {{ t.function.name }};{% endfor %}{{ documents is none }}"
                          "{{ add_generation_prompt }}{{ enable_thinking }}{{ thinking }}{{ reasoning_effort }}{{ strftime_now('%Y') if strftime_now is defined }}";
static const fs_tool_call two[] = { { FS_BYTES_LIT("i"), FS_BYTES_LIT("f"), FS_BYTES_LIT("{\"a\": [1]}") }, { FS_BYTES_LIT(""), FS_BYTES_LIT("g"), FS_BYTES_LIT("no") } };
static const fs_message talk[] = { { .role = FS_ROLE_SYSTEM, .content = FS_BYTES_LIT("S") },
                                   { .role = FS_ROLE_USER, .content = FS_BYTES_LIT("\xff<think>") },
                                   { .role = FS_ROLE_ASSISTANT, .reasoning = FS_BYTES_LIT("why"), .calls = two, .n_calls = 2 },
                                   { .role = FS_ROLE_TOOL, .content = FS_BYTES_LIT("21"), .call_id = FS_BYTES_LIT("i") } };
static const fs_chat_options said = { .thinking = true, .add_generation_prompt = true, .effort = FS_EFFORT_HIGH,
                                      .tools = FS_BYTES_LIT("[{\"name\": \"f\"}, {\"type\": \"function\", \"function\": {\"name\": \"g\"}}]") };

static fs_status say_all(const fs_tokenizer *t, fs_buf *prompt, fs_ids *ids, fs_error *err)
{
    static const struct tm now = { .tm_year = 124, .tm_mday = 1 };
    struct json_object *own = json_object_new_object(), *bos = json_object_new_string("<｜begin▁of▁sentence｜>");
    fs_chat_template *c = NULL;
    fs_status rc = own && bos ? FS_OK : fs_fail_memory(err, 1);

    if (!rc && json_object_object_add(own, "bos_token", bos) != 0)
        rc = fs_fail_memory(err, 1);
    else if (!rc)
        bos = NULL;
    if (!rc)
        rc = fs_chat_template_open(fs_bytes_str(all), own, &c, err);
    if (!rc)
        rc = fs_chat_template_messages(c, t, talk, 4, &said, &now, prompt, ids, err);
    fs_chat_template_close(c);
    json_object_put(bos);
    json_object_put(own);
    return rc;
}

static void a_template_gets_all_of_a_conversation(void **state)
{
    fs_tokenizer *t = with_markers();
    fs_buf prompt = { 0 };
    fs_ids ids = { 0 };
    fs_error err;
    size_t n_markers = 0;

    (void)state;
    assert_ok(say_all(t, &prompt, &ids, &err), err);
    assert_string_equal(prompt.data, "<｜begin▁of▁sentence｜>|system:S|user:\xef\xbf\xbd<think>|assistant:(why)<i,function,f,{\"a\": [1]}><,function,g,\"no\">|"
                                     "tool:21#i|function f;function g;TrueTrueTrueTruehigh2024");
    for (size_t i = 0; i < ids.n; i++)
        n_markers += ids.data[i] >= MARKER_BASE;
    assert_int_equal(n_markers, 1);
    fs_buf_done(&prompt);
    fs_ids_done(&ids);
    fs_tokenizer_close(t);
}

static void out_of_memory_anywhere_is_a_sentence(void **state)
{
    fs_tokenizer *t = with_markers();
    fs_status rc = FS_ERR_MEMORY;
    long n;

    (void)state;
    for (n = 1; rc && n < 5000; n++) {
        fs_buf prompt = { 0 };
        fs_ids ids = { 0 };
        fs_error err = { 0 };
        alloc_fail_at(n);
        rc = say_all(t, &prompt, &ids, &err);
        alloc_fail_off();
        if (rc) {
            assert_int_equal(rc, FS_ERR_MEMORY);
            assert_int_equal(prompt.n_bytes + ids.n, 0);
        }
        fs_buf_done(&prompt);
        fs_ids_done(&ids);
    }
    assert_true(n > 15 && n < 5000);
    fs_tokenizer_close(t);
}

static void bad_tools_and_templates_are_sentences(void **state)
{
    static const struct {
        const char *template, *tools, *word;
    } cases[] = {
        { "{{ messages[0].content }}\n{{ raise_exception('no') }}", "", "line 2: no" },
        { "{{ messages }}{% for", "", "line 1" },
        { "{{ messages }}", "{}", "not a JSON array" },
        { "{{ messages }}", "[", "tools" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fs_chat_options o = { .tools = fs_bytes_str(cases[i].tools) };
        fs_chat_template *c = NULL;
        fs_buf prompt = { 0 };
        fs_error err = { 0 };
        fs_status rc = fs_chat_template_open(fs_bytes_str(cases[i].template), NULL, &c, &err);
        if (!rc)
            rc = fs_chat_template_messages(c, NULL, talk, 2, &o, NULL, &prompt, NULL, &err);
        assert_true(rc != FS_OK && prompt.n_bytes == 0);
        assert_sentence(err, cases[i].word);
        fs_chat_template_close(c);
    }
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
}

static void what_stands_beside_the_weights_is_read(void **state)
{
    static const struct {
        const char *config, *jinja, *source, *bos;
        int add_bos;
    } cases[] = {
        { NULL, NULL, "", NULL, -1 },
        { "{\"chat_template\": \"T\", \"bos_token\": \"<think>\", \"add_bos_token\": true}", NULL, "T", "<think>", 1 },
        { "{\"chat_template\": \"T\", \"bos_token\": {\"content\": \"B\"}, \"pad_token\": null, \"add_bos_token\": false}", "J", "J", "B", 0 },
        { "{\"chat_template\": [{\"name\": \"x\", \"template\": \"X\"}, {\"name\": \"default\", \"template\": \"D\"}], \"add_bos_token\": 1}", NULL, "D", NULL, -1 },
    };
    char folder[] = "/tmp/farseek-test-XXXXXX", config[80], jinja[80];

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(config, sizeof config, "%s/tokenizer_config.json", folder);
    snprintf(jinja, sizeof jinja, "%s/chat_template.jinja", folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fs_chat_config c = { 0 };
        struct json_object *bos;
        fs_tokenizer *t = with_markers();
        fs_ids ids = { 0 };
        fs_error err;
        if (cases[i].config)
            write_file(config, cases[i].config);
        if (cases[i].jinja)
            write_file(jinja, cases[i].jinja);
        assert_ok(fs_chat_config_read(folder, &c, &err), err);
        assert_true(fs_bytes_equal(fs_buf_bytes(&c.source), fs_bytes_str(cases[i].source)));
        bos = fs_json_member(c.own, "bos_token");
        assert_true(cases[i].bos ? strcmp(json_object_get_string(bos), cases[i].bos) == 0 : !bos);
        assert_int_equal(c.add_bos, cases[i].add_bos);
        fs_tokenizer_set_bos(t, 5);
        fs_chat_config_set_bos(&c, t);
        assert_ok(fs_tokenizer_encode(t, (fs_bytes){ 0 }, FS_ENCODE_BOS, &ids, &err), err);
        assert_int_equal(ids.n, cases[i].add_bos != 0);
        if (ids.n)
            assert_int_equal(ids.data[0], cases[i].add_bos == 1 ? MARKER_BASE + 7 : 5);
        fs_ids_done(&ids);
        fs_chat_config_done(&c);
        fs_tokenizer_close(t);
        unlink(jinja);
    }
    unlink(config);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_templates_say_what_the_formats_say),
        cmocka_unit_test(a_template_gets_all_of_a_conversation),
        cmocka_unit_test(out_of_memory_anywhere_is_a_sentence),
        cmocka_unit_test(bad_tools_and_templates_are_sentences),
        cmocka_unit_test(what_stands_beside_the_weights_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
