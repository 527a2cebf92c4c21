/* The loops that measure the machine: each does the work it says, on every instruction set of this machine. */
#include "base/mem.h"
#include "kernels/kernels.h"
#include "kernels/limits.h"

#include "unit.h"

#define N_BYTES ((size_t)5 * FS_LIMITS_READ_ALIGN)

static void read_meets_every_word(void **state)
{
    uint8_t *memory = fs_alloc_aligned(2 * N_BYTES), *aligned;
    fs_limit_kernels k;

    (void)state;
    assert_non_null(memory);
    aligned = memory + (-(uintptr_t)memory & (FS_LIMITS_READ_ALIGN - 1));
    for (unsigned isa = 0; isa < FS_ISA_END; isa = isa ? isa << 1 : 1) {
        if (isa && !(fs_isa_detect() & isa))
            continue;
        fs_limit_kernels_init(&k, isa);
        assert_true(k.read(aligned, 0) == 0);
        for (size_t i = 0; i < N_BYTES; i += 8) {
            aligned[i] = 5;
            assert_true(k.read(aligned, N_BYTES) == 5);
            assert_true(k.read(aligned, i / FS_LIMITS_READ_ALIGN * FS_LIMITS_READ_ALIGN) == 0);
            aligned[i] = 0;
        }
    }
    fs_free_aligned(memory);
}

static void counts_are_of_the_registers(void **state)
{
    fs_limit_kernels k;

    (void)state;
    for (unsigned isa = 0; isa < FS_ISA_END; isa = isa ? isa << 1 : 1) {
        uint64_t f32, int8;
        if (isa && !(fs_isa_detect() & isa))
            continue;
        fs_limit_kernels_init(&k, isa);
        f32 = k.f32(1);
        int8 = k.int8(1);
        assert_true(f32 > 0 && int8 > 0);
        assert_true(k.f32(0) == 0 && k.int8(0) == 0);
        assert_true(k.f32(1000) == 1000 * f32);
        assert_true(k.int8(1000) == 1000 * int8);
        assert_true(k.f32((1 << 24) - 1) == ((1 << 24) - 1) * f32);
        if (isa)
            assert_true(int8 >= 4 * f32); /* four bytes where one f32 stands */
    }
}

/* Anything this runs on, an emulator too, lies between these; a unit that is off by a thousand does not. */
static void rates_are_a_second(void **state)
{
    size_t n = (size_t)8 << 20;
    uint8_t *memory = fs_alloc_aligned(n);
    fs_pool *pool;
    fs_error err;

    (void)state;
    assert_non_null(memory);
    memset(memory, 1, n);
    assert_ok(fs_pool_new(2, &pool, &err), err);
    double read = fs_limit_read_bytes_s(pool, fs_isa_detect(), memory, n, 2), f32 = fs_limit_f32_ops_s(pool, fs_isa_detect(), 2),
           int8 = fs_limit_int8_ops_s(pool, fs_isa_detect(), 2);
    assert_true(read > 1e6 && read < 1e13);
    assert_true(f32 > 1e6 && f32 < 1e13);
    assert_true(int8 > 1e6 && int8 < 1e14);
    fs_pool_free(pool);
    fs_free_aligned(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_meets_every_word),
        cmocka_unit_test(counts_are_of_the_registers),
        cmocka_unit_test(rates_are_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
