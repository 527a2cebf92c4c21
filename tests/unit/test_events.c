#include "unit.h"

#include "base/file.h"
#include "train/events.h"

/* tests/vectors/make_event_vectors.py: the same two events by TensorBoard. */
static void the_bytes_are_tensorboards(void **state)
{
    static const char *const tags[] = { "loss", "reward/format" };
    static const double one[] = { 1.25 }, two[] = { -0.1, 1e30 };
    fs_buf have = { 0 }, want = { 0 };
    fs_error err;

    (void)state;
    assert_ok(fs_file_read("tests/vectors/events.tfevents", 4096, &want, &err), err);
    assert_ok(fs_events_begin(&have, 1234.5, &err), err);
    assert_ok(fs_events_put(&have, 1235.25 + 7, 7, tags, one, 1, &err), err);
    assert_ok(fs_events_put(&have, 1235.25 + 300, 300, tags, two, 2, &err), err);
    assert_int_equal(have.n_bytes, want.n_bytes);
    assert_memory_equal(have.data, want.data, want.n_bytes);
    fs_buf_done(&have);
    fs_buf_done(&want);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_bytes_are_tensorboards) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
