/* WRAP_ALLOC. Rows by hand on three small documents, and what a failing allocation gives; more in tests/e2e/test_data_tokens.py. */
#include "tiny.h"

#include "alloc_fail.h"

#include "data/pack.h"

#include <unistd.h>

static char folder[] = "/tmp/farseek-test-pack-XXXXXX", path[128];

static fs_tokenizer *tiny_tokenizer(void)
{
    struct json_object *v = tiny_read("tiny_tokenizer.json");
    fs_tokenizer *t = NULL;
    fs_error err;

    assert_ok(tiny_open(v, &t, &err), err);
    json_object_put(v);
    return t;
}

static fs_status write_shards(const fs_tokenizer *t, fs_error *err)
{
    static const int32_t ids[] = { 10, 11, 12, 20, 21, 30, 31, 32, 33, 34 };
    static const uint8_t learn[] = { 0, 1, 1, 0, 1, 0, 0, 1, 1, 1 };
    fs_shards_writer *w = NULL;
    fs_status rc = fs_shards_writer_new(path, t, 4, &w, err);

    if (!rc)
        rc = fs_shards_writer_put(w, ids, learn, 3, err);
    if (!rc)
        rc = fs_shards_writer_put(w, ids + 3, learn + 3, 2, err);
    if (!rc)
        rc = fs_shards_writer_put(w, ids + 5, learn + 5, 5, err);
    if (!rc)
        rc = fs_shards_writer_commit(w, err);
    fs_shards_writer_close(w);
    return rc;
}

static void remove_shards(void)
{
    static const char *const names[] = { "index.json", "tokens-00001.safetensors", "tokens-00002.safetensors" };
    char file[256];

    for (int i = 0; i < 3; i++) {
        snprintf(file, sizeof file, "%s/%s", path, names[i]);
        unlink(file);
    }
    rmdir(path);
}

static void shards_hold_what_was_put(void **state)
{
    fs_tokenizer *t = tiny_tokenizer();
    fs_shards *s = NULL;
    const int32_t *ids;
    const uint8_t *learn;
    fs_error err;

    (void)state;
    assert_ok(write_shards(t, &err), err);
    assert_int_equal(write_shards(t, &err), FS_ERR_ARGUMENT);
    assert_sentence(err, "exists already");
    assert_ok(fs_shards_open(path, &s, &err), err);
    assert_int_equal(fs_shards_n_documents(s), 3);
    assert_int_equal(fs_shards_n_tokens(s), 10);
    assert_int_equal(fs_shards_document(s, 1, &ids, &learn), 2);
    assert_true(ids[0] == 20 && ids[1] == 21 && learn[0] == 0 && learn[1] == 1);
    assert_int_equal(fs_shards_document(s, 2, &ids, NULL), 5);
    assert_int_equal(ids[4], 34);
    assert_ok(fs_shards_check_tokenizer(s, t, &err), err);
    fs_shards_close(s);
    fs_tokenizer_close(t);
    remove_shards();
}

/* Whatever the order, pieces are whole documents, and targets stay within them. */
static void rows_of_whole_documents(void **state)
{
    fs_tokenizer *t = tiny_tokenizer();
    fs_shards *s = NULL;
    fs_error err;

    (void)state;
    assert_ok(write_shards(t, &err), err);
    assert_ok(fs_shards_open(path, &s, &err), err);
    for (uint64_t seed = 0; seed < 20; seed++) {
        fs_pack *p = NULL;
        int32_t ids[5], targets[5];
        fs_pack_piece pieces[5];
        uint32_t n;
        uint64_t n_rows, epoch, seen = 0;
        assert_ok(fs_pack_new(s, seed, 5, FS_PACK_WHOLE, &p, &err), err);
        assert_ok(fs_pack_rows(p, 3, &n_rows, &err), err);
        assert_in_range(n_rows, 2, 3);
        assert_ok(fs_pack_rows(p, 0, &n_rows, &err), err);
        for (uint64_t k = 0; k < n_rows; k++) {
            assert_ok(fs_pack_row(p, k, ids, targets, pieces, &n, &epoch, &err), err);
            assert_int_equal(epoch, 0);
            for (uint32_t i = 0; i < n; i++) {
                int32_t first = ids[pieces[i].begin];
                seen += (uint64_t)first;
                assert_int_equal(pieces[i].n, first == 10 ? 3 : first == 20 ? 2 : 5);
                assert_int_equal(targets[pieces[i].begin + pieces[i].n - 1], -1);
                assert_int_equal(targets[pieces[i].begin], first == 30 ? -1 : first + 1);
            }
        }
        assert_int_equal(seen, 60);
        assert_ok(fs_pack_row(p, n_rows, ids, targets, pieces, &n, &epoch, &err), err);
        assert_int_equal(epoch, 1);
        fs_pack_free(p);
    }
    fs_shards_close(s);
    fs_tokenizer_close(t);
    remove_shards();
}

static void too_few_tokens_for_a_row_are_a_sentence(void **state)
{
    fs_tokenizer *t = tiny_tokenizer();
    fs_shards *s = NULL;
    fs_pack *p = NULL;
    int32_t ids[11], targets[11];
    fs_pack_piece pieces[11];
    uint32_t n;
    fs_error err;

    (void)state;
    assert_ok(write_shards(t, &err), err);
    assert_ok(fs_shards_open(path, &s, &err), err);
    assert_ok(fs_pack_new(s, 0, 11, FS_PACK_CUT, &p, &err), err);
    assert_int_equal(fs_pack_row(p, 0, ids, targets, pieces, &n, NULL, &err), FS_ERR_ARGUMENT);
    assert_sentence(err, "10 tokens fill no row of 11");
    fs_pack_free(p);
    fs_shards_close(s);
    fs_tokenizer_close(t);
    remove_shards();
}

static void a_failing_allocation_leaves_nothing(void **state)
{
    fs_tokenizer *t = tiny_tokenizer();
    fs_status rc = FS_ERR_MEMORY;
    fs_error err;

    (void)state;
    for (long n = 1; rc; n++) {
        alloc_fail_at(n);
        rc = write_shards(t, &err);
        alloc_fail_off();
        if (rc) {
            assert_int_equal(rc, FS_ERR_MEMORY);
            assert_int_not_equal(access(path, F_OK), 0);
        }
    }
    for (long n = 1, done = 0; !done; n++) {
        fs_shards *s = NULL;
        fs_pack *p = NULL;
        alloc_fail_at(n);
        rc = fs_shards_open(path, &s, &err);
        if (!rc)
            rc = fs_pack_new(s, 1, 5, FS_PACK_WHOLE, &p, &err);
        alloc_fail_off();
        done = rc == FS_OK;
        fs_pack_free(p);
        fs_shards_close(s);
        assert_true(n < 10000);
    }
    fs_tokenizer_close(t);
    remove_shards();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_hold_what_was_put),
        cmocka_unit_test(rows_of_whole_documents),
        cmocka_unit_test(too_few_tokens_for_a_row_are_a_sentence),
        cmocka_unit_test(a_failing_allocation_leaves_nothing),
    };
    int failed;

    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/shards", folder);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return failed;
}
