/* A conversation and its file. WRAP_ALLOC: every allocation may fail. */
#include "cli/talk.h"

#include "alloc_fail.h"
#include "unit.h"

static fs_error error;

static fs_status fill(fs_talk *t)
{
    fs_status rc = fs_talk_set_system(t, FS_BYTES_LIT("Be \"brief\".\n"), &error);
    if (!rc)
        rc = fs_talk_add(t, FS_TALK_USER, (fs_bytes){ (const uint8_t *)"a\0b", 3 }, (fs_bytes){ 0 }, &error);
    if (!rc)
        rc = fs_talk_add(t, FS_TALK_ASSISTANT, FS_BYTES_LIT("h\xc3\xa9"), FS_BYTES_LIT("hm"), &error);
    if (!rc)
        rc = fs_talk_add_call(t, FS_BYTES_LIT("f"), FS_BYTES_LIT("{\"a\": \"\\n\"}"), &error);
    if (!rc)
        rc = fs_talk_add_call(t, FS_BYTES_LIT("g"), FS_BYTES_LIT("{}"), &error);
    return rc;
}

static void the_file_reads_back_as_it_was(void **state)
{
    fs_talk t = { 0 }, back = { 0 };
    fs_buf first = { 0 }, second = { 0 };
    (void)state;
    assert_int_equal(fill(&t), FS_OK);
    assert_int_equal(fs_talk_to_json(&t, "m", &first, &error), FS_OK);
    assert_int_equal(fs_talk_from_json(&back, fs_buf_bytes(&first), "c.json", &error), FS_OK);
    assert_int_equal(back.n_turns, 2);
    assert_int_equal(back.turns[0].content.n_bytes, 3);
    assert_memory_equal(back.turns[0].content.data, "a\0b", 3);
    assert_string_equal(back.turns[1].reasoning.data, "hm");
    assert_int_equal(back.turns[1].n_calls, 2);
    assert_string_equal(back.turns[1].calls[0].arguments.data, "{\"a\": \"\\n\"}");
    assert_string_equal(back.system.data, "Be \"brief\".\n");
    assert_int_equal(fs_talk_to_json(&back, "m", &second, &error), FS_OK);
    assert_string_equal(first.data, second.data);
    fs_buf_done(&first);
    fs_buf_done(&second);
    fs_talk_done(&t);
    fs_talk_done(&back);
}

static void a_bad_file_is_a_sentence_and_changes_nothing(void **state)
{
    static const char *const bad[][2] = {
        { "{\"messages\": 3}", "c.json: no list 'messages'" },
        { "{\"messages\": [{\"role\": \"user\"}]}", "c.json: message 1 of 1: no 'content'" },
        { "{\"messages\": [{\"content\": \"\"}]}", "c.json: message 1 of 1: no 'role'" },
        { "{\"messages\": [{\"role\": \"user\", \"content\": \"\"}, {\"role\": \"system\", \"content\": \"\"}]}",
          "c.json: message 2 of 2: a system message that is not the first" },
        { "{\"messages\": [{\"role\": \"root\", \"content\": \"\"}]}",
          "c.json: message 1 of 1: role is 'root', known are system, user, assistant and tool" },
        { "{\"messages\": [{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": 1}]}", "c.json: message 1 of 1: 'tool_calls' is not a list" },
        { "{\"messages\": [{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [{}]}]}", "c.json: message 1 of 1: a tool call without a name" },
        { "{\"messages\": [3]}", "c.json: message 1 of 1: no 'role'" },
        { "{\"messages\": [{\"role\": \"user\", \"content\": 1}]}", "c.json: message 1 of 1: 'content' is not a string" },
    };
    fs_talk t = { 0 };
    (void)state;
    assert_int_equal(fill(&t), FS_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(fs_talk_from_json(&t, fs_bytes_str(bad[i][0]), "c.json", &error), FS_ERR_FORMAT);
        assert_string_equal(error.message, bad[i][1]);
        assert_int_equal(t.n_turns, 2);
    }
    fs_talk_done(&t);
}

static void messages_are_in_order_with_the_system_prompt_first(void **state)
{
    fs_message *m;
    fs_talk t = { 0 };
    size_t n;
    (void)state;
    assert_int_equal(fill(&t), FS_OK);
    assert_int_equal(fs_talk_messages(&t, &m, &n, &error), FS_OK);
    assert_int_equal(n, 3);
    assert_int_equal(m[0].role, FS_ROLE_SYSTEM);
    assert_int_equal(m[1].role, FS_ROLE_USER);
    assert_int_equal(m[1].content.n_bytes, 3);
    assert_int_equal(m[2].role, FS_ROLE_ASSISTANT);
    assert_int_equal(m[2].n_calls, 2);
    assert_true(fs_bytes_equal(m[2].calls[1].name, FS_BYTES_LIT("g")) && fs_bytes_equal(m[2].reasoning, FS_BYTES_LIT("hm")));
    free(m);
    fs_talk_pop(&t);
    fs_talk_clear(&t);
    assert_int_equal(t.n_turns, 0);
    assert_true(t.system.n_bytes > 0);
    fs_talk_done(&t);
}

static void results_are_counted(void **state)
{
    fs_talk t = { 0 };
    (void)state;
    assert_int_equal(fs_talk_n_open_calls(&t), 0);
    assert_int_equal(fill(&t), FS_OK);
    for (size_t left = 2; left > 0; left--) {
        assert_int_equal(fs_talk_n_open_calls(&t), left);
        assert_int_equal(fs_talk_add(&t, FS_TALK_TOOL, FS_BYTES_LIT("21"), (fs_bytes){ 0 }, &error), FS_OK);
    }
    assert_int_equal(fs_talk_n_open_calls(&t), 0);
    assert_int_equal(fs_talk_add(&t, FS_TALK_USER, FS_BYTES_LIT("?"), (fs_bytes){ 0 }, &error), FS_OK);
    assert_int_equal(fs_talk_n_open_calls(&t), 0);
    fs_talk_done(&t);
}

static void every_allocation_may_fail(void **state)
{
    fs_status rc = FS_ERR_MEMORY;
    int n;
    (void)state;
    for (n = 1; rc && n < 1000; n++) {
        fs_talk t = { 0 };
        fs_buf out = { 0 };
        alloc_fail_at(n);
        rc = fill(&t);
        if (!rc)
            rc = fs_talk_to_json(&t, "m", &out, &error);
        alloc_fail_off();
        if (rc)
            assert_int_equal(rc, FS_ERR_MEMORY);
        fs_talk_done(&t);
        fs_buf_done(&out);
    }
    assert_true(n > 4 && n < 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_reads_back_as_it_was),
        cmocka_unit_test(a_bad_file_is_a_sentence_and_changes_nothing),
        cmocka_unit_test(messages_are_in_order_with_the_system_prompt_first),
        cmocka_unit_test(results_are_counted),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
