/* WRAP_ALLOC. Made problems: functions of their index, answers that the checker knows as right, splits, and verdicts. The
 * arithmetic is checked by Python in tests/e2e/test_data_make.py. */
#include "unit.h"

#include "alloc_fail.h"

#include "data/countdown.h"
#include "data/tasks.h"

static void outputs(const fs_task_item *i, fs_buf *ret)
{
    fs_buf_clear(ret);
    assert_int_equal(fs_buf_append_str(ret, i->trace.data, NULL), FS_OK);
    assert_int_equal(fs_buf_append_str(ret, i->answer.data, NULL), FS_OK);
}

static void what_is_made_is_right(void **state)
{
    fs_task_item a = { 0 }, b = { 0 };
    fs_buf out = { 0 };
    fs_error err;

    (void)state;
    for (fs_task t = 0; t < FS_TASK_END; t++) {
        fs_task_options o = fs_task_defaults(t);
        int n_traced = 0, n_solved = 0;
        o.traced = 0.5;
        o.seed = 7;
        assert_ok(fs_task_options_check(t, &o, &err), err);
        for (uint64_t i = 0; i < 600; i++) {
            assert_ok(fs_task_make(t, &o, i, &a, &err), err);
            outputs(&a, &out);
            assert_int_equal(fs_task_verify(t, fs_buf_bytes(&a.prompt), fs_buf_bytes(&out)), a.solved ? FS_VERDICT_RIGHT : FS_VERDICT_WELL_FORMED);
            assert_in_range(a.level, o.level_min, o.level_max);
            n_traced += a.traced;
            n_solved += a.solved;
            if (i % 50)
                continue;
            assert_ok(fs_task_make(t, &o, 599 - i, &b, &err), err);
            assert_ok(fs_task_make(t, &o, i, &b, &err), err);
            assert_string_equal(a.prompt.data, b.prompt.data);
            assert_string_equal(a.trace.data, b.trace.data);
            assert_string_equal(a.answer.data, b.answer.data);
        }
        assert_true(t == FS_TASK_FACTS ? n_traced == 0 : n_traced > 240 && n_traced < 360);
        assert_true(t == FS_TASK_COUNTDOWN ? n_solved > 300 && n_solved < 600 : n_solved == 600);
    }
    fs_task_item_done(&a);
    fs_task_item_done(&b);
    fs_buf_done(&out);
}

static void train_and_test_prompts_differ(void **state)
{
    fs_task_item i = { 0 };
    fs_error err;

    (void)state;
    for (fs_task t = 0; t < FS_TASK_END; t++)
        for (int seed = 0; seed < 4; seed++) {
            fs_task_options o = fs_task_defaults(t);
            o.seed = (uint64_t)seed;
            o.split = seed % 2 ? FS_TASK_TEST : FS_TASK_TRAIN;
            o.test_share = 0.25;
            o.level_max = t == FS_TASK_FACTS ? 3 : o.level_max;
            for (uint64_t k = 0; k < 100; k++) {
                bool is_test;
                assert_ok(fs_task_make(t, &o, k, &i, &err), err);
                assert_ok(fs_task_is_test(t, fs_buf_bytes(&i.prompt), 0.25, &is_test, &err), err);
                assert_int_equal(is_test, seed % 2);
            }
        }
    fs_task_item_done(&i);
}

static void no_prompt_of_an_empty_split_is_a_sentence(void **state)
{
    fs_task_options o = fs_task_defaults(FS_TASK_CHAIN);
    fs_task_item i = { 0 };
    fs_error err;

    (void)state;
    o.split = FS_TASK_TEST;
    o.test_share = 0;
    assert_int_equal(fs_task_make(FS_TASK_CHAIN, &o, 0, &i, &err), FS_ERR_ARGUMENT);
    assert_sentence(err, "chain: none of 10000");
    fs_task_item_done(&i);
    o.level_max = 65;
    assert_int_equal(fs_task_options_check(FS_TASK_CHAIN, &o, &err), FS_ERR_ARGUMENT);
    assert_sentence(err, "3 to 65");
}

static void a_product_with_carries_is_right_step_by_step(void **state)
{
    fs_task_options o = fs_task_defaults(FS_TASK_MULTIPLY);
    fs_task_item a = { 0 }, plain = { 0 };
    fs_buf out = { 0 };
    fs_error err;

    (void)state;
    o.level_min = 1;
    o.level_max = 5;
    for (uint64_t i = 0; i < 300; i++) {
        o.carries = false;
        assert_ok(fs_task_make(FS_TASK_MULTIPLY, &o, i, &plain, &err), err);
        o.carries = true;
        assert_ok(fs_task_options_check(FS_TASK_MULTIPLY, &o, &err), err);
        assert_ok(fs_task_make(FS_TASK_MULTIPLY, &o, i, &a, &err), err);
        assert_string_equal(a.prompt.data, plain.prompt.data);
        assert_int_equal(a.trace.n_bytes, 2 + 5 * a.level * a.level);
        outputs(&a, &out);
        assert_int_equal(fs_task_verify(FS_TASK_MULTIPLY, fs_buf_bytes(&a.prompt), fs_buf_bytes(&out)), FS_VERDICT_RIGHT);
    }
    fs_task_item_done(&a);
    fs_task_item_done(&plain);
    fs_buf_done(&out);
    o.level_max = 6;
    assert_int_equal(fs_task_options_check(FS_TASK_MULTIPLY, &o, &err), FS_ERR_ARGUMENT);
    assert_sentence(err, "at most 5 digits");
    o = fs_task_defaults(FS_TASK_CHAIN);
    o.carries = true;
    assert_int_equal(fs_task_options_check(FS_TASK_CHAIN, &o, &err), FS_ERR_ARGUMENT);
    assert_sentence(err, "chain: carries are written of multiply");
}

static void verdicts(void **state)
{
    static const struct {
        fs_task t;
        const char *prompt, *output;
        fs_verdict want;
    } rows[] = {
        { FS_TASK_FACTS, "12+25=", "37", FS_VERDICT_RIGHT },
        { FS_TASK_FACTS, "12*25=", "37", FS_VERDICT_WELL_FORMED },
        { FS_TASK_FACTS, "12-25=", "-13", FS_VERDICT_WRONG },
        { FS_TASK_FACTS, "999999999*999999999=", "999999998000000001", FS_VERDICT_RIGHT },
        { FS_TASK_CHAIN, "3+4*2-1=", "7>4>3", FS_VERDICT_RIGHT },
        { FS_TASK_CHAIN, "3+4*2-1=", "3", FS_VERDICT_RIGHT },
        { FS_TASK_CHAIN, "3+4*2-1=", " 3\n", FS_VERDICT_RIGHT },
        { FS_TASK_CHAIN, "3+4*2-1=", "03", FS_VERDICT_WELL_FORMED },
        { FS_TASK_CHAIN, "3+4*2-1=", "7>4>4", FS_VERDICT_WELL_FORMED },
        { FS_TASK_CHAIN, "3+4*2-1=", "7>4>", FS_VERDICT_WRONG },
        { FS_TASK_CHAIN, "3+4*2-1=", "", FS_VERDICT_WRONG },
        { FS_TASK_CHAIN, "3+4*2-1", "3", FS_VERDICT_WRONG },
        { FS_TASK_CHAIN, "", "3", FS_VERDICT_WRONG },
        { FS_TASK_MULTIPLY, "74*68=", "2404", FS_VERDICT_RIGHT },
        { FS_TASK_MULTIPLY, "74*68=", "4042", FS_VERDICT_WELL_FORMED },
        { FS_TASK_MULTIPLY, "74*68=", "282+0673>2404", FS_VERDICT_RIGHT },
        { FS_TASK_MULTIPLY, "74*=", "2404", FS_VERDICT_WRONG },
        { FS_TASK_SORT, "5 31 9=", "5,>5 9 31", FS_VERDICT_RIGHT },
        { FS_TASK_SORT, "5 31 9=", "5 9 31 31", FS_VERDICT_WELL_FORMED },
        { FS_TASK_SORT, "5 31 9=", "5, 9, 31", FS_VERDICT_WRONG },
        { FS_TASK_COUNTDOWN, "3 7 12 25=104", "<answer>(12+25)*3-7", FS_VERDICT_RIGHT },
        { FS_TASK_COUNTDOWN, "3 7 12 25=104", "<think>x<answer>1</think><answer> 3*( 12 + 25 )-7 </answer> so", FS_VERDICT_RIGHT },
        { FS_TASK_COUNTDOWN, "3 7 12 25=104", "(12+25)*3-7", FS_VERDICT_WRONG },
        { FS_TASK_COUNTDOWN, "3 7 12 25=104", "<answer>(12+25)*3-7=104", FS_VERDICT_WRONG },
        { FS_TASK_COUNTDOWN, "3 7 12 25=104", "<answer>104", FS_VERDICT_WELL_FORMED },
        { FS_TASK_COUNTDOWN, "3 7 12 25=104", "<answer>(12+25)*3-7+3-3", FS_VERDICT_WELL_FORMED },
        { FS_TASK_COUNTDOWN, "3 7 12 25=104", "<answer>(12+25)*3-7*", FS_VERDICT_WRONG },
        { FS_TASK_COUNTDOWN, "2 3 3=1", "<answer>2/3+3", FS_VERDICT_WELL_FORMED },
        { FS_TASK_COUNTDOWN, "1 3 4 6=24", "<answer>6/(1-3/4)", FS_VERDICT_RIGHT },
        { FS_TASK_COUNTDOWN, "3 3 3=3", "<answer>3/(3-3)", FS_VERDICT_WELL_FORMED },
        { FS_TASK_COUNTDOWN, "5 5=10", "<answer>5+5", FS_VERDICT_RIGHT },
        { FS_TASK_COUNTDOWN, "5 5=5", "<answer>5", FS_VERDICT_WELL_FORMED },
        { FS_TASK_COUNTDOWN, "5 =5", "<answer>5", FS_VERDICT_WRONG },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (fs_task_verify(rows[i].t, fs_bytes_str(rows[i].prompt), fs_bytes_str(rows[i].output)) != rows[i].want)
            fail_msg("%s %s: not %d", rows[i].prompt, rows[i].output, rows[i].want);
}

/* With a budget for all ways, what can be made is found. */
static void a_whole_search_finds_what_there_is(void **state)
{
    fs_random r;
    fs_buf answer = { 0 };
    fs_error err;

    (void)state;
    for (uint64_t i = 0; i < 100; i++) {
        fs_countdown c;
        int n;
        bool solved, is_expression;
        fs_random_init(&r, 1, 2, i);
        fs_countdown_draw(&r, 3 + (int)(i % 2), 25, 200, &c);
        fs_buf_clear(&answer);
        assert_ok(fs_countdown_search(&c, &r, 1 << 20, NULL, &answer, &n, &solved, &err), err);
        assert_true(solved);
        assert_true(fs_countdown_check(&c, fs_buf_bytes(&answer), &is_expression));
    }
    fs_buf_done(&answer);
}

static void deep_brackets_are_no_expression(void **state)
{
    fs_countdown c = { .numbers = { 1, 2 }, .n = 2, .target = 3 };
    char text[5000];
    bool is_expression;

    (void)state;
    memset(text, '(', sizeof text);
    assert_false(fs_countdown_check(&c, (fs_bytes){ (uint8_t *)text, sizeof text }, &is_expression));
    assert_false(is_expression);
}

static void a_failing_allocation_is_a_sentence(void **state)
{
    fs_task_options o = fs_task_defaults(FS_TASK_COUNTDOWN);
    fs_status rc = FS_ERR_MEMORY;

    (void)state;
    for (long n = 1; rc; n++) {
        fs_task_item i = { 0 };
        fs_error err;
        alloc_fail_at(n);
        rc = fs_task_make(FS_TASK_COUNTDOWN, &o, 5, &i, &err);
        alloc_fail_off();
        if (rc)
            assert_int_equal(rc, FS_ERR_MEMORY);
        fs_task_item_done(&i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_made_is_right),
        cmocka_unit_test(train_and_test_prompts_differ),
        cmocka_unit_test(no_prompt_of_an_empty_split_is_a_sentence),
        cmocka_unit_test(a_product_with_carries_is_right_step_by_step),
        cmocka_unit_test(verdicts),
        cmocka_unit_test(a_whole_search_finds_what_there_is),
        cmocka_unit_test(deep_brackets_are_no_expression),
        cmocka_unit_test(a_failing_allocation_is_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
