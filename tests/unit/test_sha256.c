#include "unit.h"

#include "crypto/sha256.h"
#include "crypto/sha256_stream.h"

#include <stdio.h>
#include <string.h>

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

/* Whatever the pieces are, and whether the thread was needed; closed in the middle, too. */
static void a_stream_hashes_like_its_bytes(void **state)
{
    static const size_t lengths[] = { 0, 1, 65536, 1 << 20, (1 << 20) + 1, 5000003 }, pieces[] = { 1000, 65536, 65537, 300000, 4000000 };
    uint8_t *data = malloc(5000003), digest[32];
    char hex[65], want[65];
    fs_error err;

    (void)state;
    assert_non_null(data);
    for (size_t i = 0; i < 5000003; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
        for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
            fs_sha256_stream *s = NULL, *cut = NULL;
            assert_ok(fs_sha256_of((fs_bytes){ data, lengths[l] }, digest, &err), err);
            fs_hex(digest, sizeof digest, want);
            assert_ok(fs_sha256_stream_open(&s, &err), err);
            assert_ok(fs_sha256_stream_open(&cut, &err), err);
            for (size_t at = 0, n; at < lengths[l]; at += n) {
                n = lengths[l] - at < pieces[p] ? lengths[l] - at : pieces[p];
                fs_sha256_stream_put(s, data + at, n);
                if (at < lengths[l] / 2)
                    fs_sha256_stream_put(cut, data + at, n);
            }
            fs_sha256_stream_final_hex(s, hex);
            assert_string_equal(hex, want);
            fs_sha256_stream_close(cut);
        }
    fs_sha256_stream_close(NULL);
    free(data);
}

static bool stop_at_once(void *ud, uint64_t done, uint64_t total)
{
    uint64_t *seen = ud;

    assert_true(done <= total);
    *seen = done;
    return false;
}

static void a_file_hashes_like_its_bytes(void **state)
{
    FILE *f = tmpfile();
    char block[4096], hex[65], want[65];
    uint8_t digest[32];
    uint64_t seen = 0;
    const fs_progress stop = { stop_at_once, &seen };
    fs_sha256 h;
    fs_error err;

    (void)state;
    assert_non_null(f);
    assert_ok(fs_sha256_init(&h, &err), err);
    for (int i = 0; i < 700; i++) { /* more than is read at a time */
        memset(block, i, sizeof block);
        assert_int_equal(fwrite(block, 1, sizeof block, f), sizeof block);
        fs_sha256_update(&h, block, sizeof block);
    }
    fflush(f);
    fs_sha256_final_hex(&h, want);
    assert_ok(fs_sha256_of_file(fileno(f), "it", 700 * sizeof block, NULL, hex, &err), err);
    assert_string_equal(hex, want);
    memset(block, 0, sizeof block);
    assert_ok(fs_sha256_of((fs_bytes){ (uint8_t *)block, 10 }, digest, &err), err);
    fs_hex(digest, sizeof digest, want);
    assert_ok(fs_sha256_of_file(fileno(f), "it", 10, NULL, hex, &err), err);
    assert_string_equal(hex, want);
    assert_int_equal(fs_sha256_of_file(fileno(f), "it", 700 * sizeof block + 1, NULL, hex, &err), FS_ERR_IO);
    assert_non_null(strstr(err.message, "'it' ended after"));
    assert_int_equal(fs_sha256_of_file(fileno(f), "it", 700 * sizeof block, &stop, hex, &err), FS_ERR_INTERRUPTED);
    assert_true(seen > 0 && seen < 700 * sizeof block);
    assert_int_equal(fs_sha256_of_file(-1, "it", 1, NULL, hex, &err), FS_ERR_IO);
    fclose(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(a_stream_hashes_like_its_bytes),
        cmocka_unit_test(a_file_hashes_like_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
