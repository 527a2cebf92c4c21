#include "unit.h"

#include "lineage/record.h"

#define H1 "1111111111111111111111111111111111111111111111111111111111111111"
#define H2 "2222222222222222222222222222222222222222222222222222222222222222"

static const char text[] = "record 1\nverb quantise\nparent " H1 " " H2 "\nparent " H2 "\ndata " H1 " imatrix\nrecipe mtp yes\nrecipe rules a.*=Q4_K; b =F16\n"
                           "recipe type Q4_K_M\nengine farseek 0.1.0 abc\narithmetic RN1 " H1 "\nresult " H2 " 12 3456\nfile " H2 " a b.json\nfile " H1
                           " config.json\nclass A\n";

static void what_is_written_is_read(void **state)
{
    fs_record r = { 0 }, again = { 0 };
    fs_buf out = { 0 }, twice = { 0 };
    fs_error err;
    fs_root root;

    (void)state;
    /* In any order: lines go where they belong. */
    assert_ok(fs_record_add(&r, &err, FS_RECORD_CLASS, "A"), err);
    assert_ok(fs_record_add(&r, &err, FS_RECORD_FILE, H1 " config.json"), err);
    assert_ok(fs_record_add(&r, &err, FS_RECORD_FILE, H2 " a b.json"), err);
    assert_ok(fs_record_add(&r, &err, FS_RECORD_VERSION, "1"), err);
    assert_ok(fs_record_add(&r, &err, FS_RECORD_RECIPE, "type %s", "Q4_K_M"), err);
    assert_ok(fs_record_add(&r, &err, FS_RECORD_RECIPE, "mtp yes"), err);
    assert_ok(fs_record_add(&r, &err, FS_RECORD_RECIPE, "rules a.*=Q4_K; b =F16"), err);
    assert_ok(fs_record_add(&r, &err, FS_RECORD_PARENT, H1 " " H2), err);
    assert_ok(fs_record_add(&r, &err, FS_RECORD_PARENT, H2), err); /* their order counts */
    assert_ok(fs_record_add(&r, &err, FS_RECORD_ENGINE, "farseek 0.1.0 abc"), err);
    assert_ok(fs_record_add(&r, &err, FS_RECORD_ARITHMETIC, "RN1 " H1), err);
    assert_ok(fs_record_add(&r, &err, FS_RECORD_VERB, "quantise"), err);
    assert_int_equal(fs_record_write(&r, &out, &err), FS_ERR_FORMAT);
    assert_sentence(err, "'result'");
    assert_ok(fs_record_add(&r, &err, FS_RECORD_RESULT, H2 " 12 3456"), err);
    assert_ok(fs_record_add(&r, &err, FS_RECORD_DATA, H1 " imatrix"), err);
    fs_buf_clear(&out);
    assert_ok(fs_record_write(&r, &out, &err), err);
    assert_string_equal(out.data, text);
    assert_ok(fs_record_read(fs_buf_bytes(&out), "a", &again, &err), err);
    assert_ok(fs_record_write(&again, &twice, &err), err);
    assert_string_equal(twice.data, text);
    assert_string_equal(fs_record_recipe(&again, "rules"), "a.*=Q4_K; b =F16");
    assert_null(fs_record_recipe(&again, "rule"));
    assert_string_equal(fs_record_get(&again, FS_RECORD_PARENT, 1), H2);
    assert_null(fs_record_get(&again, FS_RECORD_PARENT, 2));
    fs_record_result(&again, &root);
    assert_int_equal(root.bytes[0], 0x22);
    assert_string_equal(fs_record_hashed(fs_record_get(&again, FS_RECORD_FILE, 0), &root), "a b.json");
    fs_record_done(&r);
    fs_record_done(&again);
    fs_buf_done(&out);
    fs_buf_done(&twice);
}

static void a_training_tells_more(void **state)
{
    static const char training[] = "record 1\nverb sft\ninit 7 normal\ndata " H1 " tokens\nengine e\narithmetic RN1 " H1 "\ntrace " H2
                                   " 50 4\nresult " H1 " 2 30\nstate " H2 " 5 60\nclass A\n";
    fs_record r = { 0 }, copy = { 0 };
    fs_buf out = { 0 };
    fs_root root;
    uint64_t numbers[2];
    fs_error err;

    (void)state;
    assert_ok(fs_record_read((fs_bytes){ (const uint8_t *)training, sizeof training - 1 }, "t", &r, &err), err);
    fs_record_root_and_numbers(fs_record_get(&r, FS_RECORD_TRACE, 0), &root, numbers);
    assert_int_equal(root.bytes[31], 0x22);
    assert_int_equal(numbers[0], 50);
    assert_int_equal(numbers[1], 4);
    assert_ok(fs_record_add(&copy, &err, FS_RECORD_SIGNED_OFF, "Ada B. Example <ada@example.org>"), err);
    assert_ok(fs_record_add(&copy, &err, FS_RECORD_LICENCE, "MIT"), err);
    assert_ok(fs_record_add(&copy, &err, FS_RECORD_RECIPE, "a 1"), err);
    assert_ok(fs_record_add_all(&copy, &r, &err), err);
    assert_ok(fs_record_write(&copy, &out, &err), err);
    assert_non_null(strstr(out.data, "tokens\nrecipe a 1\nengine"));
    assert_non_null(strstr(out.data, " 5 60\nlicence MIT\nsigned-off-by Ada B. Example <ada@example.org>\nclass A\n"));
    assert_int_equal(copy.n, r.n + 3);
    fs_record_done(&r);
    fs_record_done(&copy);
    fs_buf_done(&out);
}

static void data_tells_by_what_record_it_was_made(void **state)
{
    static const char data[] = "record 1\nverb data\ndata " H1 " source a.jsonl\nmade " H1 " " H2 "\nrecipe stage dedup\nengine e\narithmetic RN1 " H1 "\nresult " H1
                               " 1 30\nfile " H2 " b.jsonl\nclass A\n";
    fs_record r = { 0 };
    fs_root id;
    fs_error err;

    (void)state;
    assert_ok(fs_record_read((fs_bytes){ (const uint8_t *)data, sizeof data - 1 }, "d", &r, &err), err);
    assert_true(fs_record_is_data(&r));
    assert_true(fs_record_id_of(fs_record_get(&r, FS_RECORD_MADE, 0), &id));
    assert_int_equal(id.bytes[0], 0x22);
    assert_false(fs_record_id_of(H1, &id));
    fs_record_done(&r);
    assert_ok(fs_record_read((fs_bytes){ (const uint8_t *)text, sizeof text - 1 }, "t", &r, &err), err);
    assert_false(fs_record_is_data(&r));
    fs_record_done(&r);
    assert_false(fs_record_is_data(&r));
}

static void a_line_says_only_what_it_may(void **state)
{
    static const struct {
        fs_record_key key;
        const char *value;
    } bad[] = {
        { FS_RECORD_VERSION, "2" },           { FS_RECORD_VERB, "Quantise" },       { FS_RECORD_VERB, "a b" },
        { FS_RECORD_PARENT, H1 " " },         { FS_RECORD_PARENT, H1 "1" },         { FS_RECORD_PARENT, H1 "  " H2 },
        { FS_RECORD_DATA, H1 },               { FS_RECORD_DATA, H1 "  x" },         { FS_RECORD_RECIPE, "a\nb" },
        { FS_RECORD_RECIPE, "a/b c" },        { FS_RECORD_RECIPE, "a  c" },         { FS_RECORD_RESULT, H1 " 1" },
        { FS_RECORD_RESULT, H1 " 01 2" },     { FS_RECORD_RESULT, H1 " 1 2 " },     { FS_RECORD_RESULT, H1 " 99999999999999999999 2" },
        { FS_RECORD_CLASS, "D" },             { FS_RECORD_ENGINE, "" },             { FS_RECORD_ENGINE, "a\x80" },
        { FS_RECORD_ARITHMETIC, "RN1 x" H1 }, { FS_RECORD_FILE, H1 " a\tb" },       { FS_RECORD_FILE, "x" },
        { FS_RECORD_INIT, "7" },              { FS_RECORD_INIT, "07 a" },           { FS_RECORD_STATE, H1 " 1" },
        { FS_RECORD_MADE, H1 },               { FS_RECORD_MADE, H1 " " H2 " a" },   { FS_RECORD_LICENCE, "" },
        { FS_RECORD_SIGNED_OFF, "Ada" },      { FS_RECORD_SIGNED_OFF, "<a@b>" },    { FS_RECORD_SIGNED_OFF, "Ada <ab>" },
        { FS_RECORD_SIGNED_OFF, "Ada <a@b" }, { FS_RECORD_SIGNED_OFF, "Ada <>@" },  { FS_RECORD_SIGNED_OFF, "Ada <a@b> x" },
        { FS_RECORD_SIGNED_OFF, "A <a@b> <c@d>" },
    };
    fs_record r = { 0 };
    fs_error err;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(fs_record_add(&r, &err, bad[i].key, "%s", bad[i].value), FS_ERR_ARGUMENT);
        assert_sentence(err, fs_record_key_name(bad[i].key));
    }
    assert_ok(fs_record_add(&r, &err, FS_RECORD_CLASS, "B"), err);
    assert_int_equal(fs_record_add(&r, &err, FS_RECORD_CLASS, "B"), FS_ERR_FORMAT);
    assert_ok(fs_record_add(&r, &err, FS_RECORD_RECIPE, "lr 1e-4"), err);
    assert_int_equal(fs_record_add(&r, &err, FS_RECORD_RECIPE, "lr 1e-5"), FS_ERR_FORMAT);
    fs_record_done(&r);
}

/* One record has one text: every other order, a line more or less, a blank more is refused or another record. */
static void only_the_canonical_text_is_read(void **state)
{
    static const char *const bad[] = {
        "", "record 1", "record 1\n", "record 1\n\n", "record  1\nverb convert\n", "verb convert\nrecord 1\n", "record 1\r\n", "x\n",
    };
    fs_record r = { 0 };
    fs_error err;
    fs_buf swapped = { 0 };
    const char *lines[32];
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(fs_record_read(fs_bytes_str(bad[i]), "bad", &r, &err), FS_ERR_FORMAT);
    for (const char *p = text; *p; p = strchr(p, '\n') + 1)
        lines[n++] = p;
    for (size_t k = 0; k + 1 < n; k++) { /* neighbours swapped */
        bool parents = strncmp(lines[k], "parent", 6) == 0 && strncmp(lines[k + 1], "parent", 6) == 0;
        fs_buf_clear(&swapped);
        for (size_t i = 0; i < n; i++) {
            size_t from = i == k ? k + 1 : i == k + 1 ? k : i;
            assert_ok(fs_buf_append(&swapped, lines[from], (size_t)(strchr(lines[from], '\n') + 1 - lines[from]), &err), err);
        }
        assert_int_equal(fs_record_read(fs_buf_bytes(&swapped), "swapped", &r, &err), parents ? FS_OK : FS_ERR_FORMAT);
        fs_record_done(&r);
    }
    fs_buf_clear(&swapped);
    assert_ok(fs_buf_append(&swapped, text, sizeof text - 1, &err), err);
    swapped.data[20] = 0; /* U+0000 ends no value */
    assert_int_equal(fs_record_read(fs_buf_bytes(&swapped), "zero", &r, &err), FS_ERR_FORMAT);
    fs_buf_done(&swapped);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(what_is_written_is_read), cmocka_unit_test(a_training_tells_more),
        cmocka_unit_test(data_tells_by_what_record_it_was_made),
                                         cmocka_unit_test(a_line_says_only_what_it_may),
                                        cmocka_unit_test(only_the_canonical_text_is_read) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
