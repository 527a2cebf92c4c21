/* Reasoning and content told apart while text streams, however it is cut. */
#include "cli/answer.h"

#include "unit.h"

static bool keep_going(void *ud, fs_answer_part part, const char *text, size_t n_bytes)
{
    fs_buf *both = ud;
    return fs_buf_printf(both, NULL, "%c", part == FS_ANSWER_REASONING ? 'R' : 'C') == FS_OK && fs_buf_append(both, text, n_bytes, NULL) == FS_OK;
}

/* text in pieces of step bytes; what must come out, and that the callback saw it in order. */
static void stream(const char *text, bool open_in_prompt, const char *reasoning, const char *content)
{
    size_t n = strlen(text);

    for (size_t step = 1; step <= n; step++) {
        fs_answer a;
        fs_buf both = { 0 };
        fs_error err;
        fs_answer_init(&a, FS_BYTES_LIT("<think>"), FS_BYTES_LIT("</think>"), open_in_prompt);
        for (size_t i = 0; i < n; i += step)
            assert_int_equal(fs_answer_push(&a, text + i, n - i < step ? n - i : step, keep_going, &both, &err), FS_OK);
        assert_int_equal(fs_answer_finish(&a, keep_going, &both, &err), FS_OK);
        assert_string_equal(a.reasoning.data ? a.reasoning.data : "", reasoning);
        assert_string_equal(a.content.data ? a.content.data : "", content);
        if (*reasoning && *content) /* no reasoning after the content has begun */
            assert_null(strchr(strchr(both.data, 'C'), 'R'));
        fs_answer_done(&a);
        fs_buf_done(&both);
    }
}

static void markers_may_come_in_pieces(void **state)
{
    (void)state;
    stream("<think>\nwhy\n</think>\n\nbecause", false, "why\n", "because");
    stream("\n <think>\nwhy</think>because", false, "why", "because");
    stream("\nwhy <b> </thin \n</think>\n\nbecause", true, "why <b> </thin \n", "because");
    stream("because", false, "", "because");
    stream("<thin", false, "", "<thin");
    stream("a <think>b</think>", false, "", "a <think>b</think>");
    stream("unfinished </thi", true, "unfinished </thi", "");
    stream("<think></think>a", false, "", "a");
    stream("a</think>b</think>c", true, "a", "b</think>c");
}

static void a_format_without_reasoning_passes_all_text(void **state)
{
    fs_answer a;
    fs_buf both = { 0 };
    (void)state;
    fs_answer_init(&a, (fs_bytes){ 0 }, (fs_bytes){ 0 }, false);
    assert_int_equal(fs_answer_push(&a, "<think>x", 8, keep_going, &both, NULL), FS_OK);
    assert_string_equal(both.data, "C<think>x");
    fs_answer_done(&a);
    fs_buf_done(&both);
}

static bool stop(void *ud, fs_answer_part part, const char *text, size_t n_bytes)
{
    (void)ud;
    (void)part;
    (void)text;
    (void)n_bytes;
    return false;
}

static void the_callback_stops(void **state)
{
    fs_answer a;
    (void)state;
    fs_answer_init(&a, (fs_bytes){ 0 }, (fs_bytes){ 0 }, false);
    assert_int_equal(fs_answer_push(&a, "x", 1, stop, NULL, NULL), FS_ERR_INTERRUPTED);
    assert_string_equal(a.content.data, "x");
    fs_answer_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(markers_may_come_in_pieces),
        cmocka_unit_test(a_format_without_reasoning_passes_all_text),
        cmocka_unit_test(the_callback_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
