/* Files that appear whole or not at all. WRAP_ALLOC */
#include "unit.h"

#include "base/writer.h"
#include "alloc_fail.h"
#include "make_files.h"
#include "small_disk.h"

static char *folder, *path;

static int set_up(void **state)
{
    (void)state;
    folder = make_folder();
    path = fs_path_join(folder, "file");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(path);
    remove_folder(folder, (const char *const[]){ "file", NULL });
    return 0;
}

static void pieces_of_any_size_come_back(void **state)
{
    static uint8_t big[(3 << 20) + 7];
    fs_writer w;
    fs_buf got = { 0 }, want = { 0 };
    fs_error err = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (uint8_t)(i * 131 >> 3);
    assert_ok(fs_writer_open(&w, path, &err), err);
    for (size_t at = 0, n = 0; at < sizeof big; at += n) {
        n = at < 1000 ? 7 : at < 900000 ? 100003 : at == 900000 ? 1 : sizeof big - at;
        n = n < sizeof big - at ? n : sizeof big - at;
        assert_ok(fs_writer_put(&w, big + at, n, &err), err);
        put_bytes(&want, big + at, n);
        assert_false(fs_file_exists(path));
    }
    assert_ok(fs_writer_pad(&w, 32, 9, &err), err);
    assert_int_equal(w.n_bytes % 32, 0);
    while (want.n_bytes % 32)
        put_bytes(&want, "\t", 1);
    assert_ok(fs_writer_commit(&w, &err), err);
    assert_ok(fs_file_read(path, (size_t)1 << 24, &got, &err), err);
    assert_int_equal(got.n_bytes, want.n_bytes);
    assert_memory_equal(got.data, want.data, want.n_bytes);
    assert_int_equal(count_files(folder), 1);
    fs_buf_done(&got);
    fs_buf_done(&want);
    fs_writer_close(&w);
}

static void closing_leaves_nothing_and_the_old_file(void **state)
{
    fs_writer w;
    fs_buf got = { 0 };
    fs_error err = { 0 };

    (void)state;
    put_text_file(folder, "file", "old");
    assert_ok(fs_writer_open(&w, path, &err), err);
    assert_ok(fs_writer_put(&w, "new", 3, &err), err);
    assert_int_equal(count_files(folder), 2);
    fs_writer_close(&w);
    assert_int_equal(count_files(folder), 1);
    assert_ok(fs_file_read(path, 100, &got, &err), err);
    assert_string_equal(got.data, "old");
    fs_buf_done(&got);
}

static void a_full_disk_is_a_sentence(void **state)
{
    static const uint8_t zeros[1 << 16];
    fs_writer w;
    fs_error err = { 0 };
    fs_status rc;

    (void)state;
    limit_files(1 << 20);
    rc = fs_writer_open(&w, path, &err);
    for (int i = 0; i < 100 && !rc; i++)
        rc = fs_writer_put(&w, zeros, sizeof zeros, &err);
    limit_files(RLIM_INFINITY);
    assert_int_equal(rc, FS_ERR_IO);
    assert_sentence(err, path);
    fs_writer_close(&w);
    assert_int_equal(count_files(folder), 0);
    assert_int_equal(fs_writer_open(&w, "/nowhere/at/all", &err), FS_ERR_IO);
    assert_sentence(err, "/nowhere/at/all");
}

static void every_allocation_may_fail(void **state)
{
    fs_writer w;
    fs_status rc = FS_ERR_MEMORY;

    (void)state;
    for (long n = 1; rc; n++) {
        alloc_fail_at(n);
        rc = fs_writer_open(&w, path, NULL);
        alloc_fail_off();
        if (rc)
            assert_int_equal(rc, FS_ERR_MEMORY);
    }
    fs_writer_close(&w);
    assert_int_equal(count_files(folder), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = { T(pieces_of_any_size_come_back), T(closing_leaves_nothing_and_the_old_file),
                                        T(a_full_disk_is_a_sentence), T(every_allocation_may_fail) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
