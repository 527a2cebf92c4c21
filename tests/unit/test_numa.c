#include "unit.h"

#include "base/numa.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void lists_of_the_kernel(void **state)
{
    static const struct {
        const char *list;
        uint64_t first, second;
        size_t n;
    } good[] = { { "0\n", 1, 0, 1 }, { "0-1\n", 3, 0, 2 }, { "0,2-3", 13, 0, 3 }, { "1,1\n", 2, 0, 1 }, { "63-65\n", UINT64_C(1) << 63, 3, 3 } };
    static const char *const bad[] = { "", "\n", "a", "0-", "1-0", "0,", "0-1x", "1024", "99999999999999999999", "0\n1", "-1" };
    uint64_t mask[FS_NUMA_NODES_MAX / 64];
    fs_error err;
    size_t n;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_ok(fs_numa_nodes_parse(good[i].list, mask, &n, &err), err);
        assert_true(mask[0] == good[i].first && mask[1] == good[i].second && mask[2] == 0);
        assert_int_equal(n, good[i].n);
    }
    assert_ok(fs_numa_nodes_parse("1023", mask, &n, &err), err);
    assert_true(mask[15] == UINT64_C(1) << 63);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(fs_numa_nodes_parse(bad[i], mask, &n, &err), FS_ERR_FORMAT);
}

static void nodes_are_those_of_a_folder(void **state)
{
    char folder[] = "/tmp/farseek_numa_XXXXXX", path[64];
    uint64_t mask[FS_NUMA_NODES_MAX / 64];
    fs_error err;
    size_t n;
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_not_equal(fs_numa_nodes(folder, mask, &n, &err), FS_OK); /* a kernel without nodes */
    snprintf(path, sizeof path, "%s/has_memory", folder);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs("0-1\n", f);
    fclose(f);
    assert_ok(fs_numa_nodes(folder, mask, &n, &err), err);
    assert_int_equal(n, 2);
    assert_true(mask[0] == 3);
    unlink(path);
    rmdir(folder);
}

static void a_policy_is_the_kernels_own(void **state)
{
    int mode = -1;
    fs_error err;

    (void)state;
    assert_ok(fs_numa_set(NULL, &err), err);
    assert_int_equal(fs_numa_set("near", &err), FS_ERR_ARGUMENT);
    if (fs_numa_set("interleave", &err))
        skip(); /* not allowed here, or no nodes */
    assert_int_equal(syscall(SYS_get_mempolicy, &mode, NULL, 0UL, NULL, 0UL), 0);
    assert_int_equal(mode, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_of_the_kernel),
        cmocka_unit_test(nodes_are_those_of_a_folder),
        cmocka_unit_test(a_policy_is_the_kernels_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
