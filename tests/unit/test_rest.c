#include "unit.h"

#include "base/rest.h"

/* n times: worked_us of CPU time in as many microseconds, then a stall. How many of them rest, and how long. */
static int rests(fs_rest *r, int n, uint64_t worked_us, uint64_t stall_us, uint64_t *cpu_us, uint64_t *now_us, uint64_t *ret_us)
{
    int count = 0;

    *ret_us = 0;
    for (int i = 0; i < n; i++) {
        *cpu_us += worked_us;
        *now_us += worked_us + stall_us;
        if (!fs_rest_begins(r, stall_us, *cpu_us, *now_us))
            continue;
        count++;
        *ret_us += r->until_us - *now_us;
        *now_us = r->until_us;
    }
    return count;
}

/* One that loses one time slice of 3 ms in 100: it would rest for half of the time if every stall did it. */
static void who_stalls_seldom_works_on(void **state)
{
    uint64_t cpu = 0, now = 1000000, rested;
    fs_rest r = { 0 };

    (void)state;
    assert_int_equal(rests(&r, 50, 300000, 3000, &cpu, &now, &rested), 0);
    assert_true(rested == 0);
    assert_int_equal(rests(&r, 50, 20000, 3000, &cpu, &now, &rested), 0);
}

/* One whose core another process wants as much: it hardly works. */
static void who_stalls_as_long_as_it_works_rests_longer_each_time(void **state)
{
    uint64_t cpu = 0, now = 1000000, rested, start;
    fs_rest r = { 0 };

    (void)state;
    assert_int_equal(rests(&r, 3, 3000, 3000, &cpu, &now, &rested), 3);
    assert_true(rested == (16 + 32 + 64) * 3000);
    start = now;
    assert_int_equal(rests(&r, 50, 3000, 3000, &cpu, &now, &rested), 50);
    assert_true(rested > (now - start) / 100 * 98);
    assert_true(r.us == FS_REST_US_MAX);
}

static void who_gets_its_core_back_works_on(void **state)
{
    uint64_t cpu = 0, now = 1000000, rested;
    fs_rest r = { 0 };

    (void)state;
    assert_int_equal(rests(&r, 50, 3000, 3000, &cpu, &now, &rested), 50);
    assert_true(rests(&r, 50, 300000, 3000, &cpu, &now, &rested) <= 1);
    assert_int_equal(rests(&r, 1, 600, 30000, &cpu, &now, &rested), 0); /* after so much work */
    assert_int_equal(rests(&r, 3, 600, 30000, &cpu, &now, &rested), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_stalls_seldom_works_on),
        cmocka_unit_test(who_stalls_as_long_as_it_works_rests_longer_each_time),
        cmocka_unit_test(who_gets_its_core_back_works_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
