#include "unit.h"

#include "base/philox.h"

/* Known answers of Random123, tests/kat_vectors. */
static void philox_known_answers(void **state)
{
    static const uint32_t want[3][4] = { { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 },
                                         { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd },
                                         { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } };
    const uint32_t counter[3][4] = { { 0 }, { ~0u, ~0u, ~0u, ~0u }, { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 } };
    const uint32_t key[3][2] = { { 0 }, { ~0u, ~0u }, { 0xa4093822, 0x299f31d0 } };

    (void)state;
    for (int i = 0; i < 3; i++) {
        uint32_t got[4];
        fs_philox(counter[i], key[i], got);
        assert_memory_equal(got, want[i], sizeof got);
    }
}

/* The words of an item are those of the counters (stream, item, 0, 0), (stream, item, 1, 0), ... */
static void an_item_has_its_own_numbers(void **state)
{
    fs_random r, other;
    uint32_t want[4];

    (void)state;
    fs_random_init(&r, 0x100000007u, 5, 9);
    for (uint32_t block = 0; block < 3; block++) {
        fs_philox((uint32_t[4]){ 5, 9, block, 0 }, (uint32_t[2]){ 7, 1 }, want);
        for (int i = 0; i < 4; i++)
            assert_int_equal(fs_random_u32(&r), want[i]);
    }
    fs_random_init(&r, 7, 5, 9);
    fs_random_init(&other, 7, 5, 9 + ((uint64_t)1 << 32));
    assert_int_not_equal(fs_random_u32(&r), fs_random_u32(&other));
}

static void numbers_below_n_are_alike(void **state)
{
    size_t count[7] = { 0 };
    fs_random r;

    (void)state;
    fs_random_init(&r, 1, 2, 3);
    for (int i = 0; i < 70000; i++)
        count[fs_random_below(&r, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(count[i], 9600, 10400);
    for (int i = 0; i < 1000; i++) {
        double u = fs_random_unit(&r);
        assert_true(u >= 0 && u < 1);
    }
    assert_int_equal(fs_random_below(&r, 1), 0);
}

/* Every order of three turns up about as often. */
static void every_order_is_alike(void **state)
{
    size_t count[3][3] = { { 0 } };
    uint32_t order[3];
    fs_random r;

    (void)state;
    fs_random_init(&r, 1, 2, 3);
    for (int i = 0; i < 60000; i++) {
        fs_random_order(&r, order, 3);
        assert_int_equal((1u << order[0] | 1u << order[1] | 1u << order[2]), 7);
        count[order[0]][order[1]]++;
    }
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++)
            assert_in_range(count[a][b], a == b ? 0 : 9600, a == b ? 0 : 10400);
    fs_random_order(&r, order, 0);
    fs_random_order(&r, order, 1);
    assert_int_equal(order[0], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(an_item_has_its_own_numbers),
        cmocka_unit_test(numbers_below_n_are_alike),
        cmocka_unit_test(every_order_is_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
