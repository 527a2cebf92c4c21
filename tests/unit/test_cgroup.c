/* What control groups leave: trees of files as Linux shows them, both versions. */
#include "unit.h"

#include "base/cgroup.h"
#include "base/file.h"

#include <sys/stat.h>
#include <unistd.h>

static char root[] = "/tmp/farseek-test-XXXXXX";

static void put(const char *name, const char *text)
{
    char path[400];
    fs_error err;

    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = 0;
        mkdir(path, 0700);
    }
    assert_ok(fs_file_write_atomic(path, (fs_bytes){ (const uint8_t *)text, strlen(text) }, &err), err);
}

static size_t left(const char *self)
{
    char path[400];

    put("self", self);
    snprintf(path, sizeof path, "%s/self", root);
    return fs_cgroup_memory_left(root, path);
}

/* Of the test before, files within files too. */
static void clear(void)
{
    char command[100];

    snprintf(command, sizeof command, "rm -rf '%s'/*", root);
    assert_int_equal(system(command), 0);
}

static void no_limit_is_no_number(void **state)
{
    (void)state;
    clear();
    assert_int_equal(left("0::/\n"), SIZE_MAX);
    assert_int_equal(fs_cgroup_memory_left("/nonexistent", "/nonexistent"), SIZE_MAX);
    put("a/memory.max", "max\n");
    put("a/memory.current", "4096\n");
    assert_int_equal(left("0::/a\n"), SIZE_MAX);
    put("memory/b/memory.limit_in_bytes", "9223372036854771712\n");
    put("memory/b/memory.usage_in_bytes", "4096\n");
    assert_int_equal(left("4:memory:/b\n0::/a\n"), SIZE_MAX);
}

static void the_tightest_group_above_counts(void **state)
{
    (void)state;
    clear();
    put("a/memory.max", "1000000\n");
    put("a/memory.current", "700000\n");
    put("a/b/memory.max", "900000\n");
    put("a/b/memory.current", "100000\n");
    put("a/b/c/memory.max", "max\n");
    put("a/b/c/memory.current", "50000\n");
    assert_int_equal(left("0::/a/b/c\n"), 300000);
    assert_int_equal(left("0::/a/b\n"), 300000);
    put("a/memory.current", "100\n");
    assert_int_equal(left("0::/a/b/c\n"), 800000);
    put("a/memory.max", "99\n");
    assert_int_equal(left("0::/a/b/c\n"), 0);
    assert_int_equal(left("0::/\n"), SIZE_MAX);
    /* a container sees its own group at the mount, whatever its path is outside */
    put("memory.max", "5000\n");
    put("memory.current", "1000\n");
    assert_int_equal(left("0::/kubepods/pod1\n"), 4000);
}

static void pages_of_files_can_go(void **state)
{
    (void)state;
    clear();
    put("a/memory.max", "1000000\n");
    put("a/memory.current", "990000\n");
    put("a/memory.stat", "anon 1\nfile 800000\nactive_file 300000\ninactive_file 400000\n");
    assert_int_equal(left("0::/a\n"), 710000);
    put("memory/x/memory.limit_in_bytes", "2000000\n");
    put("memory/x/memory.usage_in_bytes", "1999999\n");
    put("memory/x/memory.stat", "inactive_file 5\nactive_file 6\ntotal_inactive_file 500000\ntotal_active_file 1\n");
    assert_int_equal(left("9:name=systemd:/x\n5:cpu,cpuacct:/y\n4:hugetlb,memory:/x/lower\n"), 500002);
    assert_int_equal(left("3:memory_other:/x\n1::\nnonsense\n"), SIZE_MAX);
}

static int setup(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    clear();
    return rmdir(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_limit_is_no_number),
        cmocka_unit_test(the_tightest_group_above_counts),
        cmocka_unit_test(pages_of_files_can_go),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
