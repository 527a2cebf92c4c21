/* WRAP_ALLOC. Documents cut into rows: no token is lost but those of the last, unfinished row; nothing looks over a border. */
#include "unit.h"

#include "alloc_fail.h"
#include "train/documents.h"

static fs_status build(fs_documents *c, uint64_t seed, fs_error *err)
{
    int32_t ids[700], next = 0;
    fs_status rc = FS_OK;

    *c = (fs_documents){ 0 };
    for (size_t n = 0; n < 60 && !rc; n++) {
        size_t length = n * n % 701;
        for (size_t i = 0; i < length; i++)
            ids[i] = next++;
        rc = fs_documents_add(c, ids, length, n % 3 ? 1000000 : -1, err);
    }
    return rc ? rc : fs_documents_finish(c, 256, seed, err);
}

static void rows_hold_the_documents(void **state)
{
    fs_train_sequence s[256];
    fs_documents c;
    fs_error err;
    size_t n_pieces = 0;

    (void)state;
    assert_ok(build(&c, 4, &err), err);
    assert_int_equal(c.n_rows, c.n_tokens / 256);
    for (uint64_t number = 0; number < c.n_rows; number++) {
        uint32_t n = fs_documents_row(&c, number, 512, s), tokens = 0;
        assert_true(n >= 1 && n <= c.pieces_max);
        n_pieces += n;
        for (uint32_t i = 0; i < n; i++) {
            assert_int_equal(s[i].index, 512 + tokens);
            for (uint32_t j = 0; j + 1 < s[i].n; j++) {
                assert_int_equal(s[i].targets[j], s[i].ids[j + 1]);
                assert_true(s[i].ids[j + 1] == s[i].ids[j] + 1 || s[i].ids[j + 1] == 1000000);
            }
            if (i + 1 < n)
                assert_int_equal(s[i].targets[s[i].n - 1], -1);
            tokens += s[i].n;
        }
        assert_int_equal(tokens, 256);
    }
    assert_true(n_pieces > c.n_rows);
    fs_documents_done(&c);
}

static void an_epoch_has_every_row_once(void **state)
{
    fs_train_sequence s[256];
    fs_documents c, other;
    fs_error err;
    const int32_t *first[2][200], *again[200];
    int n_moved = 0, n_other = 0;

    (void)state;
    assert_ok(build(&c, 4, &err), err);
    assert_ok(build(&other, 5, &err), err);
    assert_true(c.n_rows > 20 && c.n_rows <= 200);
    for (uint64_t i = 0; i < 2 * c.n_rows; i++) {
        fs_documents_row(&c, i, 0, s);
        first[i / c.n_rows][i % c.n_rows] = s[0].ids;
    }
    for (size_t i = 0; i < c.n_rows; i++) {
        int n_same[2] = { 0 };
        for (size_t j = 0; j < c.n_rows; j++)
            for (int e = 0; e < 2; e++)
                n_same[e] += first[e][j] == first[0][i];
        assert_true(n_same[0] == 1 && n_same[1] == 1);
        n_moved += first[1][i] != first[0][i];
        fs_documents_row(&other, i, 0, s);
        n_other += s[0].ids - other.ids != first[0][i] - c.ids;
    }
    assert_true(n_moved > (int)c.n_rows / 2 && n_other > (int)c.n_rows / 2);
    for (size_t i = c.n_rows; i > 0; i--) { /* a row is a function of its number, whatever was asked before */
        fs_documents_row(&c, i - 1, 0, s);
        again[i - 1] = s[0].ids;
    }
    assert_memory_equal(again, first[0], c.n_rows * sizeof *again);
    fs_documents_done(&c);
    fs_documents_done(&other);
}

static void too_little_is_a_sentence(void **state)
{
    int32_t ids[100] = { 0 };
    fs_documents c = { 0 };
    fs_error err;

    (void)state;
    assert_ok(fs_documents_add(&c, ids, 100, 1, &err), err);
    assert_int_equal(fs_documents_finish(&c, 256, 1, &err), FS_ERR_ARGUMENT);
    assert_sentence(err, "101 tokens");
    fs_documents_done(&c);
}

static void without_memory(void **state)
{
    fs_documents c;
    fs_error err;
    fs_status rc;
    int n_failures = 0;

    (void)state;
    for (long n = 1; alloc_fail_at(n), (rc = build(&c, 1, &err)) != FS_OK; n++, n_failures++) {
        alloc_fail_off();
        assert_int_equal(rc, FS_ERR_MEMORY);
        fs_documents_done(&c);
    }
    alloc_fail_off();
    assert_true(n_failures > 5);
    fs_documents_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_hold_the_documents),
        cmocka_unit_test(an_epoch_has_every_row_once),
        cmocka_unit_test(too_little_is_a_sentence),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
