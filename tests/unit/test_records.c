/* Records and the words in them. */
#include "unit.h"

#include "data/records.h"

static void assert_words(const char *line, fs_data_record_kind kind, const char *want)
{
    fs_buf out = { 0 };
    fs_data_record r;
    fs_error err;

    assert_ok(fs_data_record_parse(fs_bytes_str(line), "f", 1, &r, &err), err);
    assert_int_equal(r.kind, kind);
    assert_ok(fs_data_record_words(&r, &out, &err), err);
    assert_string_equal(out.data, want);
    fs_buf_done(&out);
}

static void every_kind_has_its_words(void **state)
{
    (void)state;
    assert_words("{\"text\": \"a\\nb\", \"id\": 3}", FS_DATA_TEXT, "a\nb");
    assert_words("{\"prompt\": \"p\", \"answer\": \"\"}", FS_DATA_PROBLEM, "p\n");
    assert_words("{\"answer\": \"42\", \"trace\": \"t\", \"prompt\": \"p\", \"text\": null}", FS_DATA_PROBLEM, "p\nt\n42");
    assert_words("{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"reasoning_content\": \"hm\", \"content\": "
                 "\"\\u00e9\"}, {\"role\": \"assistant\", \"content\": null}]}",
                 FS_DATA_MESSAGES, "q\nhm\n\xc3\xa9");
}

static void what_is_no_record_is_named(void **state)
{
    static const char *const lines[][2] = { { "[1]", "line 7 is not a JSON object" },
                                            { "{\"text\": 1}", "'text' is not a string" },
                                            { "{\"prompt\": \"x\"}", "neither" },
                                            { "{\"messages\": {}}", "not a list" },
                                            { "{\"messages\": []}", "no messages" },
                                            { "{\"messages\": [{\"content\": \"x\"}]}", "message 1 has no role" },
                                            { "{\"messages\": [{\"role\": \"user\", \"content\": [1]}]}", "content of message 1" },
                                            { "{\"text\": \"x\"", "not a JSON object" } };
    fs_data_record r;
    fs_error err;

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        assert_int_equal(fs_data_record_parse(fs_bytes_str(lines[i][0]), "file", 7, &r, &err), FS_ERR_FORMAT);
        assert_sentence(err, lines[i][1]);
    }
}

static void lines_may_end_in_crlf_or_nothing(void **state)
{
    fs_lines l = { .text = FS_BYTES_LIT("a\r\n\nb\n\rc") };
    const char *const want[] = { "a", "", "b", "\rc" };
    fs_bytes line;
    size_t n = 0;

    (void)state;
    for (; fs_lines_next(&l, &line); n++)
        assert_true(n < 4 && fs_bytes_equal(line, fs_bytes_str(want[n])));
    assert_int_equal(n, 4);
    assert_int_equal(l.number, 4);
}

static void blank_lines_are_no_records(void **state)
{
    fs_lines l = { .text = FS_BYTES_LIT("\n  \n{\"text\": \"x\"}\n\t\n") };
    fs_data_record r;
    fs_error err;
    bool more;

    (void)state;
    assert_ok(fs_data_record_next(&l, "f", &r, &more, &err), err);
    assert_true(more);
    assert_int_equal(l.number, 3);
    assert_ok(fs_data_record_next(&l, "f", &r, &more, &err), err);
    assert_false(more);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_has_its_words),
        cmocka_unit_test(what_is_no_record_is_named),
        cmocka_unit_test(lines_may_end_in_crlf_or_nothing),
        cmocka_unit_test(blank_lines_are_no_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
