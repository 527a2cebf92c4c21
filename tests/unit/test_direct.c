/* WRAP_ALLOC */
#include "unit.h"

#include "alloc_fail.h"
#include "base/direct.h"
#include "make_files.h"

#include <fcntl.h>
#include <unistd.h>

#define N ((size_t)3 * FS_DIRECT_ALIGN + 1234) /* the last block is no whole one */

static uint8_t content[N];
static const char *const names[] = { "a", NULL };

static uint8_t *new_buffer(size_t n)
{
    return fs_alloc_lazy(fs_direct_room(n) + 1);
}

static char *path_in(const char *folder)
{
    char *path = fs_path_join(folder, "a");

    assert_non_null(path);
    for (size_t i = 0; i < N; i++)
        content[i] = (uint8_t)(i * 7 + i / 251);
    put_file(folder, "a", content, N);
    return path;
}

static void any_part_is_what_the_file_holds(void **state)
{
    static const size_t places[] = { 0, 1, 511, 512, 4095, 4096, 4097, 8191, 8192, 12288, N - 1, N };
    static const size_t lengths[] = { 0, 1, 2, 4095, 4096, 4097, 8193, N };
    char *folder = make_folder(), *path = path_in(folder);
    uint8_t *buffer = new_buffer(N);
    fs_direct d = { 0 };
    fs_error err;

    (void)state;
    assert_ok(fs_direct_open(&d, path, &err), err);
    assert_int_equal(d.n_bytes, N);
    for (int direct = 0; direct < 2; direct++) { /* whatever the file system here can: the usual way, too */
        if (direct && !d.is_direct)
            break;
        if (!direct)
            assert_int_equal(fcntl(d.fd, F_SETFL, fcntl(d.fd, F_GETFL) & ~O_DIRECT), 0);
        else
            assert_int_equal(fcntl(d.fd, F_SETFL, fcntl(d.fd, F_GETFL) | O_DIRECT), 0);
        for (size_t i = 0; i < sizeof places / sizeof *places; i++)
            for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
                const uint8_t *got = NULL;
                fs_status rc = fs_direct_read(&d, places[i], lengths[k], buffer, &got, &err);
                if (places[i] + lengths[k] > N) {
                    assert_int_equal(rc, FS_ERR_IO);
                    assert_sentence(err, "ends at");
                    assert_null(got);
                    continue;
                }
                assert_ok(rc, err);
                assert_memory_equal(got, content + places[i], lengths[k]);
                assert_true(got >= buffer && got + lengths[k] <= buffer + fs_direct_room(lengths[k]));
            }
    }
    fs_direct_close(&d);
    fs_direct_close(&d);
    fs_direct_close(NULL);
    fs_free_lazy(buffer, fs_direct_room(N) + 1);
    free(path);
    remove_folder(folder, names);
}

static void memory_file_systems_are_read_the_usual_way(void **state)
{
    char folder[] = "/dev/shm/farseek-test-XXXXXX", *path;
    uint8_t *buffer = new_buffer(N);
    const uint8_t *got;
    fs_direct d = { 0 };
    fs_error err;

    (void)state;
    if (!mkdtemp(folder)) {
        fs_free_lazy(buffer, fs_direct_room(N) + 1);
        skip();
    }
    path = path_in(folder);
    assert_ok(fs_direct_open(&d, path, &err), err);
    assert_ok(fs_direct_read(&d, 5, N - 5, buffer, &got, &err), err);
    assert_memory_equal(got, content + 5, N - 5);
    fs_direct_close(&d);
    unlink(path);
    rmdir(folder);
    free(path);
    fs_free_lazy(buffer, fs_direct_room(N) + 1);
}

static void a_failing_read_is_a_sentence(void **state)
{
    char *folder = make_folder(), *path = path_in(folder);
    uint8_t *buffer = new_buffer(100);
    const uint8_t *got = NULL;
    fs_direct d = { 0 };
    fs_error err;
    int fd;

    (void)state;
    assert_int_equal(fs_direct_open(&d, "/nowhere", &err), FS_ERR_NOT_FOUND);
    assert_sentence(err, "/nowhere");
    assert_int_equal(fs_direct_open(&d, folder, &err), FS_ERR_IO);
    assert_ok(fs_direct_open(&d, path, &err), err);
    fd = open(path, O_WRONLY);
    assert_true(fd >= 0 && dup2(fd, d.fd) == d.fd); /* the kernel refuses to read it */
    assert_int_equal(fs_direct_read(&d, 10, 100, buffer, &got, &err), FS_ERR_IO);
    assert_sentence(err, "cannot read 100 bytes at 10 of");
    assert_null(got);
    close(fd);
    fs_direct_close(&d);
    fs_free_lazy(buffer, fs_direct_room(100) + 1);
    free(path);
    remove_folder(folder, names);
}

static void opening_without_memory_leaks_nothing(void **state)
{
    char *folder = make_folder(), *path = path_in(folder);
    fs_direct d = { 0 };
    fs_error err;
    fs_status rc = FS_OK;
    int before = dup(0);

    (void)state;
    close(before);
    for (long n = 1; alloc_fail_at(n), (rc = fs_direct_open(&d, path, &err)) != FS_OK; n++) {
        alloc_fail_off();
        assert_int_equal(rc, FS_ERR_MEMORY);
        assert_int_equal(dup(0), before); /* no descriptor is left open */
        close(before);
    }
    alloc_fail_off();
    fs_direct_close(&d);
    free(path);
    remove_folder(folder, names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_part_is_what_the_file_holds),
        cmocka_unit_test(memory_file_systems_are_read_the_usual_way),
        cmocka_unit_test(a_failing_read_is_a_sentence),
        cmocka_unit_test(opening_without_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
