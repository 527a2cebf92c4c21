#include "unit.h"

#include "train/suite.h"

#include <math.h>

static void put(fs_buf *b, const char *s)
{
    fs_error err;

    assert_ok(fs_buf_append_str(b, s, &err), err);
}

static fs_verdict judged(fs_judging how, fs_task task, const char *prompt, const char *answer, const char *output)
{
    fs_suite_item item = { .judging = how, .task = task };
    fs_verdict v = FS_VERDICT_WRONG;
    fs_error err;

    put(&item.prompt, prompt);
    put(&item.answer, answer);
    assert_ok(fs_suite_judge(&item, fs_bytes_str(output), &v, &err), err);
    fs_buf_done(&item.prompt);
    fs_buf_done(&item.answer);
    return v;
}

static void verdicts(void **state)
{
    (void)state;
    assert_int_equal(judged(FS_JUDGE_EXACT, FS_TASK_END, "?", "Paris", " Paris\n"), FS_VERDICT_RIGHT);
    assert_int_equal(judged(FS_JUDGE_EXACT, FS_TASK_END, "?", "Paris", "Paris."), FS_VERDICT_WRONG);
    assert_int_equal(judged(FS_JUDGE_EXACT, FS_TASK_END, "?", "Paris", "London? No.</think>Paris"), FS_VERDICT_RIGHT);
    assert_int_equal(judged(FS_JUDGE_MATHS, FS_TASK_END, "?", "1/2", "4</think> It is $0.5$."), FS_VERDICT_RIGHT);
    assert_int_equal(judged(FS_JUDGE_MATHS, FS_TASK_END, "?", "1/2", "1/2</think> It is 2."), FS_VERDICT_WELL_FORMED);
    assert_int_equal(judged(FS_JUDGE_TASK, FS_TASK_CHAIN, "3+4*2-1=", "3", "7>4>3"), FS_VERDICT_RIGHT);
    assert_int_equal(judged(FS_JUDGE_TASK, FS_TASK_CHAIN, "3+4*2-1=", "3", "4"), FS_VERDICT_WELL_FORMED);
}

/* Against counting: of all ways to draw k of n, those with a right one. */
static void pass_at_k_is_the_share_of_draws(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 10; n++)
        for (uint32_t c = 0; c <= n; c++)
            for (uint32_t k = 1; k <= n; k++) {
                uint32_t all = 0, hit = 0;
                for (uint32_t set = 0; set < 1u << n; set++)
                    if ((uint32_t)__builtin_popcount(set) == k) {
                        all++;
                        hit += (set & ((1u << c) - 1)) != 0;
                    }
                assert_true(fabs(fs_pass_at(n, c, k) - (double)hit / all) < 1e-12);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(verdicts), cmocka_unit_test(pass_at_k_is_the_share_of_draws) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
