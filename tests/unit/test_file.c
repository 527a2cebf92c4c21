/* WRAP_ALLOC */
#include "unit.h"

#include "alloc_fail.h"
#include "base/file.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/farseek-test-XXXXXX";

static int setup(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int count_files(void)
{
    DIR *d = opendir(folder);
    int n = 0;

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static int teardown(void **state)
{
    (void)state;
    return rmdir(folder);
}

static void atomic_write_reads_back_and_leaves_nothing_else(void **state)
{
    char *path = fs_path_join(folder, "a");
    fs_buf b = { 0 };
    fs_map m;
    fs_error err;

    (void)state;
    assert_ok(fs_file_write_atomic(path, FS_BYTES_LIT("one"), &err), err);
    assert_ok(fs_file_write_atomic(path, FS_BYTES_LIT("tw\0o"), &err), err);
    assert_int_equal(count_files(), 1);
    assert_ok(fs_file_read(path, 100, &b, &err), err);
    assert_int_equal(b.n_bytes, 4);
    assert_memory_equal(b.data, "tw\0o", 5);
    assert_int_equal(fs_file_read(path, 3, &b, &err), FS_ERR_FORMAT);
    assert_sentence(err, "4 bytes");
    assert_ok(fs_map_open(&m, path, &err), err);
    assert_memory_equal(m.bytes.data, "tw\0o", 4);
    fs_map_close(&m);
    fs_map_close(&m);
    for (long n = 1; alloc_fail_at(n), fs_file_write_atomic(path, FS_BYTES_LIT("three"), &err) != FS_OK; n++)
        ;
    alloc_fail_off();
    assert_int_equal(count_files(), 1);
    fs_buf_done(&b);
    unlink(path);
    free(path);
}

static void what_is_no_file_is_a_sentence(void **state)
{
    char *path = fs_path_join(folder, "fifo");
    fs_buf b = { 0 };
    fs_map m = { 0 };
    fs_error err;

    (void)state;
    assert_int_equal(fs_map_open(&m, path, &err), FS_ERR_NOT_FOUND);
    assert_sentence(err, path);
    assert_int_equal(fs_map_open(&m, folder, &err), FS_ERR_IO);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(fs_file_read(path, 10, &b, &err), FS_ERR_IO); /* and does not hang */
    unlink(path);
    assert_int_equal(fs_file_write_atomic("/proc/farseek", FS_BYTES_LIT("x"), &err), FS_ERR_IO);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(atomic_write_reads_back_and_leaves_nothing_else),
        cmocka_unit_test(what_is_no_file_is_a_sentence),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
