/* One hash for every instruction set, compiler and architecture; another for the negative control. WRAP_ALLOC */
#include "kernels/conformance.h"

#include "alloc_fail.h"
#include "unit.h"

/* RN1's arithmetic. It changes only when vectors are added or the arithmetic gets a new version. */
static const char expected[] = "fb6183c95bfaa3754b691cf7db3f5f46ddc154299adf810d829344c415f6db78";

static void every_isa_prints_the_hash(void **state)
{
    char hex[65];
    (void)state;

    assert_int_equal(fs_conformance_hash(0, false, hex, NULL), FS_OK);
    assert_string_equal(hex, expected);
    for (unsigned isa = 1; isa < FS_ISA_END; isa <<= 1) {
        if (!(fs_isa_detect() & isa))
            continue;
        assert_int_equal(fs_conformance_hash(isa, false, hex, NULL), FS_OK);
        assert_string_equal(hex, expected);
    }
}

static void another_lane_order_prints_another(void **state)
{
    char hex[65];
    (void)state;

    assert_int_equal(fs_conformance_hash(0, true, hex, NULL), FS_OK);
    assert_string_not_equal(hex, expected);
}

static void an_absent_isa_is_refused(void **state)
{
    char hex[65];
    fs_error err;
    (void)state;

    for (unsigned isa = 1; isa < FS_ISA_END; isa <<= 1)
        if (!(fs_isa_detect() & isa)) {
            assert_int_equal(fs_conformance_hash(isa, false, hex, &err), FS_ERR_UNSUPPORTED);
            assert_sentence(err, fs_isa_name(isa));
        }
}

static void no_memory_is_an_error_and_writes_nothing(void **state)
{
    char hex[65] = "";
    fs_error err;
    fs_status rc;
    int refused = 0;
    (void)state;

    for (long n = 1; alloc_fail_at(n), (rc = fs_conformance_hash(0, false, hex, &err)) != FS_OK; n++) {
        assert_int_equal(rc, FS_ERR_MEMORY);
        assert_string_equal(hex, "");
        refused++;
    }
    alloc_fail_off();
    assert_true(refused > 0);
    assert_string_equal(hex, expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_isa_prints_the_hash),
        cmocka_unit_test(another_lane_order_prints_another),
        cmocka_unit_test(an_absent_isa_is_refused),
        cmocka_unit_test(no_memory_is_an_error_and_writes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
