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

static void a_folder_of_ours_goes(void **state)
{
    char *ours = fs_path_join(folder, "ours"), *kept = fs_path_join(folder, "ours/kept"), *file = fs_path_join(folder, "ours/file");
    fs_error err;

    (void)state;
    assert_int_equal(mkdir(ours, 0700), 0);
    assert_int_equal(mkdir(kept, 0700), 0);
    assert_ok(fs_file_write_atomic(file, FS_BYTES_LIT("x"), &err), err);
    fs_folder_remove(ours); /* a folder in it stays, and so does it */
    assert_false(fs_file_exists(file));
    assert_true(fs_file_is_folder(kept));
    fs_folder_remove(kept);
    fs_folder_remove(ours);
    fs_folder_remove(ours); /* which is not there */
    assert_int_equal(count_files(), 0);
    free(ours);
    free(kept);
    free(file);
}

static void all_of_it_is_written(void **state)
{
    int ends[2];
    char bytes[8] = "";
    fs_error err;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_ok(fs_fd_write(ends[1], "pipe", "abc", 3, &err), err);
    assert_ok(fs_fd_write(ends[1], "pipe", NULL, 0, &err), err);
    assert_int_equal(read(ends[0], bytes, sizeof bytes), 3);
    assert_string_equal(bytes, "abc");
    assert_int_equal(fs_fd_write(ends[0], "the wrong end", "abc", 3, &err), FS_ERR_IO);
    assert_sentence(err, "the wrong end");
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(atomic_write_reads_back_and_leaves_nothing_else),
        cmocka_unit_test(what_is_no_file_is_a_sentence),
        cmocka_unit_test(a_folder_of_ours_goes),
        cmocka_unit_test(all_of_it_is_written),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
