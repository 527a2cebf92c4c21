#include "unit.h"

#include "hub/internal.h"

#define OID "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
#define V   "version https://git-lfs.github.com/spec/v1\n"

static void pointers_read_back(void **state)
{
    fs_buf b = { 0 };
    char oid[65];
    uint64_t n = 0;
    fs_error err;

    (void)state;
    assert_ok(fs_hub_pointer_write(&b, OID, 12345, &err), err);
    assert_true(fs_hub_pointer_read(fs_buf_bytes(&b), oid, &n));
    assert_string_equal(oid, OID);
    assert_int_equal(n, 12345);
    fs_buf_done(&b);
    assert_true(fs_hub_pointer_read(FS_BYTES_LIT(V "ext-0-foo sha256:" OID "\noid sha256:" OID "\nsize 0\n"), oid, &n));
    assert_int_equal(n, 0);
}

static void what_is_no_pointer_is_a_file(void **state)
{
    static const char *const texts[] = { "",
                                         "x",
                                         V,
                                         V "oid sha256:" OID "\n",
                                         V "oid sha256:" OID "\nsize 1",
                                         V "oid sha256:" OID "\nsize x\n",
                                         V "oid sha256:" OID "\nsize \n",
                                         V "oid sha256:" OID "\nsize 1\nmore\n",
                                         V "oid sha256:" OID "0\nsize 1\n",
                                         V "oid sha1:" OID "\nsize 1\n",
                                         V "oid sha256:" OID "\nsize 99999999999999999999\n",
                                         "version https://git-lfs.github.com/spec/v2\noid sha256:" OID "\nsize 1\n" };
    char oid[65];
    uint64_t n;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (fs_hub_pointer_read(fs_bytes_str(texts[i]), oid, &n))
            fail_msg("'%s'", texts[i]);
}

static void attributes_say_what_is_large(void **state)
{
    const fs_bytes text = FS_BYTES_LIT("# *.txt filter=lfs\n*.bin filter=lfs diff=lfs\nkeep.bin -filter\nsaved_model/**/* filter=lfs\n/top.dat filter=lfs\n"
                                       "a[[:space:]]b.dat\tfilter=lfs\n*.gz filter=lfs\n*.gz filter=none\nlast filter=lfs");

    (void)state;
    assert_true(fs_hub_attributes_lfs(text, "w.bin"));
    assert_true(fs_hub_attributes_lfs(text, "a/b/w.bin"));
    assert_false(fs_hub_attributes_lfs(text, "a.txt"));
    assert_false(fs_hub_attributes_lfs(text, "x/keep.bin"));
    assert_true(fs_hub_attributes_lfs(text, "saved_model/a/b"));
    assert_true(fs_hub_attributes_lfs(text, "top.dat"));
    assert_false(fs_hub_attributes_lfs(text, "a/top.dat"));
    assert_true(fs_hub_attributes_lfs(text, "a b.dat"));
    assert_false(fs_hub_attributes_lfs(text, "x.gz"));
    assert_true(fs_hub_attributes_lfs(text, "last"));
    assert_false(fs_hub_attributes_lfs((fs_bytes){ 0 }, "w.bin"));
    assert_true(fs_hub_attributes_lfs(fs_bytes_str(fs_hub_attributes_default), "model.safetensors"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pointers_read_back),
        cmocka_unit_test(what_is_no_pointer_is_a_file),
        cmocka_unit_test(attributes_say_what_is_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
