#include "unit.h"

#include "crypto/sha256.h"

/* FIPS 180-4's examples. */
static void known_answers(void **state)
{
    fs_sha256 h;
    char hex[65];
    fs_error err;

    (void)state;
    assert_ok(fs_sha256_init(&h, &err), err);
    fs_sha256_update(&h, "ab", 2);
    fs_sha256_update(&h, "c", 1);
    fs_sha256_final_hex(&h, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_ok(fs_sha256_init(&h, &err), err);
    fs_sha256_final_hex(&h, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_ok(fs_sha256_init(&h, &err), err);
    fs_sha256_done(&h);
    fs_sha256_done(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(known_answers) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
