/* WRAP_ALLOC. Words, n-grams, MinHash and rules on small texts; whole steps: tests/e2e/test_data_corpus.py. */
#include "unit.h"

#include "alloc_fail.h"

#include "data/corpus.h"

static size_t hash(const char *text, fs_hashes *ret)
{
    ret->n = 0;
    assert_int_equal(fs_words_hash(fs_bytes_str(text), ret, NULL), FS_OK);
    return ret->n;
}

static void words_have_no_case_and_no_marks(void **state)
{
    fs_hashes a = { 0 }, b = { 0 };

    (void)state;
    assert_int_equal(hash("The cat, the CAT.", &a), 4);
    assert_true(a.data[0] == a.data[2] && a.data[1] == a.data[3] && a.data[0] != a.data[1]);
    assert_int_equal(hash("  the\tcat\n\nthe -- cat!", &b), 4);
    assert_memory_equal(a.data, b.data, 4 * sizeof *a.data);
    assert_int_equal(hash("\xe6\x97\xa5\xe6\x9c\xac and caf\xc3\xa9", &a), 4); /* two characters, two words */
    assert_int_equal(hash("", &a), 0);
    assert_int_equal(hash("a \xff b", &a), 3); /* bytes that are no UTF-8 are a letter */
    fs_hashes_done(&a);
    fs_hashes_done(&b);
}

static void similarity_is_near_jaccard(void **state)
{
    uint64_t a[400], b[400];
    fs_minhash x, y;

    (void)state;
    for (int shared = 0; shared <= 400; shared += 100) {
        double jaccard = shared / (800.0 - shared), s;
        for (int i = 0; i < 400; i++) {
            a[i] = (uint64_t)i * 0x9e3779b97f4a7c15u + 1;
            b[i] = i < shared ? a[i] : (uint64_t)(i + 1000) * 0x9e3779b97f4a7c15u;
        }
        fs_minhash_of(a, 400, 1, &x);
        fs_minhash_of(b, 400, 1, &y);
        s = fs_minhash_similarity(&x, &y);
        if (s < jaccard - 0.135 || s > jaccard + 0.135) /* three standard errors */
            fail_msg("%g for %g", s, jaccard);
    }
    assert_true(fs_minhash_similarity(&x, &x) == 1);
}

static void sets_know_what_they_hold(void **state)
{
    fs_hash_set s = { 0 };
    bool is_new;

    (void)state;
    assert_false(fs_hash_set_has(&s, 5));
    for (uint64_t i = 1; i < 5000; i++) {
        assert_int_equal(fs_hash_set_add(&s, i << 33, &is_new, NULL), FS_OK);
        assert_true(is_new);
    }
    for (uint64_t i = 1; i < 5000; i++) {
        assert_int_equal(fs_hash_set_add(&s, i << 33, &is_new, NULL), FS_OK);
        assert_false(is_new);
        assert_false(fs_hash_set_has(&s, (i << 33) + 1));
    }
    fs_hash_set_done(&s);
}

static void an_empty_text_breaks_no_rule_that_is_off(void **state)
{
    const char *rule = "x";
    fs_error err;

    (void)state;
    assert_ok(fs_quality_check(&fs_quality_none, fs_bytes_str(""), &rule, &err), err);
    assert_null(rule);
    assert_ok(fs_quality_check(&fs_quality_gopher, fs_bytes_str(""), &rule, &err), err);
    assert_string_equal(rule, "words-min");
}

static fs_status everything(fs_error *err)
{
    fs_hashes words = { 0 };
    fs_eval_grams grams = { .ngram = 3 };
    fs_near *near = NULL;
    fs_minhash m;
    const char *rule;
    bool is;
    fs_quality q = fs_quality_gopher;
    fs_status rc = fs_words_hash(FS_BYTES_LIT("one two three four five"), &words, err);

    q.repeated_grams_max = 0.5;
    q.words_min = 0;
    if (!rc)
        rc = fs_eval_grams_add(&grams, words.data, words.n, err);
    if (!rc)
        rc = fs_near_new(0.8, &near, err);
    for (int i = 0; i < 300 && !rc; i++) {
        uint64_t w[2] = { words.data[0] + (uint64_t)i, words.data[1] };
        fs_minhash_of(w, 2, 5, &m);
        rc = fs_near_add(near, &m, &is, err);
    }
    if (!rc)
        rc = fs_quality_check(&q, FS_BYTES_LIT("one two\nthree four five six"), &rule, err);
    fs_near_free(near);
    fs_eval_grams_done(&grams);
    fs_hashes_done(&words);
    return rc;
}

static void a_failing_allocation_is_a_sentence(void **state)
{
    fs_status rc = FS_ERR_MEMORY;
    fs_error err;

    (void)state;
    for (long n = 1; rc; n++) {
        alloc_fail_at(n);
        rc = everything(&err);
        alloc_fail_off();
        if (rc)
            assert_int_equal(rc, FS_ERR_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_have_no_case_and_no_marks),
        cmocka_unit_test(similarity_is_near_jaccard),
        cmocka_unit_test(sets_know_what_they_hold),
        cmocka_unit_test(an_empty_text_breaks_no_rule_that_is_off),
        cmocka_unit_test(a_failing_allocation_is_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
