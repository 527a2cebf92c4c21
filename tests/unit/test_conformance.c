/* One hash for every instruction set, compiler and architecture; another for the negative control. WRAP_ALLOC */
#include "kernels/conformance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* RN1's arithmetic. It changes only when vectors are added or the arithmetic gets a new version. */
static const char expected[] = "dbf1e3b41a8f652b0098cb7a1ad9836c9848631b3cbd6b70bf1411666db70995";

static long allocs_left = -1; /* < 0: all succeed */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);

static bool refuse(void)
{
    return allocs_left >= 0 && allocs_left-- == 0;
}

void *__wrap_malloc(size_t n)
{
    return refuse() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return refuse() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return refuse() ? NULL : __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return refuse() ? NULL : __real_aligned_alloc(align, n);
}

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
            assert_non_null(strstr(err.message, fs_isa_name(isa)));
        }
}

static void no_memory_is_an_error(void **state)
{
    char hex[65] = "";
    (void)state;

    allocs_left = 0;
    assert_int_equal(fs_conformance_hash(0, false, hex, NULL), FS_ERR_MEMORY);
    allocs_left = -1;
    assert_string_equal(hex, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_isa_prints_the_hash),
        cmocka_unit_test(another_lane_order_prints_another),
        cmocka_unit_test(an_absent_isa_is_refused),
        cmocka_unit_test(no_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
