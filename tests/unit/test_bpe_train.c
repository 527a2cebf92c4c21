/* WRAP_ALLOC. Training of BPE on small texts whose merges can be told by hand, the same for every number of threads, and what a
 * failing allocation gives. Agreement with Hugging Face's trainer: tests/e2e/test_tokenizer_train.py. */
#include "unit.h"

#include "alloc_fail.h"

#include "data/bpe_train.h"
#include "text/tokenizer_write.h"

#include <unistd.h>

static char folder[] = "/tmp/farseek-test-bpe-XXXXXX";

static const char *file_with(const char *name, const char *text)
{
    static char path[256];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static void words_of(fs_words *w, const char *const *words, const uint64_t *counts)
{
    for (size_t i = 0; words[i]; i++)
        assert_int_equal(fs_words_add(w, fs_bytes_str(words[i]), counts[i], NULL), FS_OK);
}

static void text_of_merge(const fs_vocab *v, size_t i, char ret[64])
{
    fs_bytes l = fs_vocab_bytes(v, (int32_t)v->merges[i].left), r = fs_vocab_bytes(v, (int32_t)v->merges[i].right);

    snprintf(ret, 64, "%.*s+%.*s", (int)l.n_bytes, (const char *)l.data, (int)r.n_bytes, (const char *)r.data);
}

static void assert_merges(const fs_vocab *v, const char *const *want)
{
    char text[64];
    size_t n = 0;

    for (; want[n]; n++) {
        assert_in_range(n, 0, v->n_merges - 1);
        text_of_merge(v, n, text);
        assert_string_equal(text, want[n]);
    }
    assert_int_equal(v->n_merges, n);
}

/* Every merge of these makes a new token. */
static void assert_trains(const char *const *words, const uint64_t *counts, const fs_bpe_training *o, const char *const *want)
{
    fs_words w = { 0 };
    fs_vocab v = { 0 };
    fs_error err;

    words_of(&w, words, counts);
    assert_ok(fs_bpe_train(&w, o, NULL, &v, &err), err);
    assert_merges(&v, want);
    assert_int_equal(v.n_ids, 256 + v.n_merges);
    fs_vocab_done(&v);
    fs_words_done(&w);
}

static void the_most_frequent_pair_goes_first(void **state)
{
    const char *const words[] = { "hug", "pug", "pun", "bun", "hugs", NULL };
    const uint64_t counts[] = { 10, 5, 12, 4, 5 };
    fs_bpe_training o = { .vocab_size = 256 + 6 };

    (void)state;
    assert_trains(words, counts, &o, (const char *const[]){ "u+g", "u+n", "h+ug", "p+un", "p+ug", "hug+s", NULL });
    o.min_frequency = 16;
    assert_trains(words, counts, &o, (const char *const[]){ "u+g", "u+n", NULL });
}

static void of_equal_pairs_the_smaller_ids_go_first(void **state)
{
    (void)state;
    assert_trains((const char *const[]){ "zy", "ba", "ab", NULL }, (const uint64_t[]){ 3, 3, 3 }, &(fs_bpe_training){ .vocab_size = 300 },
                  (const char *const[]){ "a+b", "b+a", "z+y", NULL });
}

static void repeated_letters_merge_from_the_left(void **state)
{
    (void)state;
    assert_trains((const char *const[]){ "aaaaa", NULL }, (const uint64_t[]){ 2 }, &(fs_bpe_training){ .vocab_size = 300 },
                  (const char *const[]){ "a+a", "aa+a", "aa+aaa", NULL });
}

static void no_merge_makes_a_special_token(void **state)
{
    const char *const words[] = { "<s>", NULL };
    const uint64_t counts[] = { 9 };
    const fs_bytes specials[] = { FS_BYTES_LIT("<s>"), FS_BYTES_LIT("</s>") };
    fs_words w = { 0 };
    fs_vocab v = { 0 };
    fs_bpe_training o = { .vocab_size = 300, .specials = specials, .n_specials = 2 };
    fs_error err;

    (void)state;
    words_of(&w, words, counts);
    assert_ok(fs_bpe_train(&w, &o, NULL, &v, &err), err);
    assert_merges(&v, (const char *const[]){ "<+s", NULL });
    assert_int_equal(v.entries[0].kind, FS_VOCAB_RAW);
    assert_int_equal(fs_vocab_find(&v, FS_BYTES_LIT("!")), 2);
    fs_vocab_done(&v);
    o.vocab_size = 257;
    assert_int_equal(fs_bpe_train(&w, &o, NULL, &v, &err), FS_ERR_ARGUMENT);
    assert_sentence(err, "258");
    fs_vocab_done(&v);
    fs_words_done(&w);
}

static void open_cutter(fs_tokenizer **ret)
{
    fs_words none = { 0 };
    fs_vocab v = { 0 };
    fs_buf json = { 0 };
    fs_bpe_training o = { .vocab_size = 256 };
    fs_tokenizer_form f = { .pre = "deepseek-v3" };
    fs_error err;

    assert_ok(fs_bpe_train(&none, &o, NULL, &v, &err), err);
    assert_ok(fs_tokenizer_write_json(&v, &f, &json, &err), err);
    assert_ok(fs_tokenizer_open_json(fs_buf_bytes(&json), "cutter", ret, &err), err);
    fs_vocab_done(&v);
    fs_buf_done(&json);
}

/* Some MiB of words, so that there are several chunks. */
static void every_number_of_threads_gives_the_same_file(void **state)
{
    fs_tokenizer *t = NULL;
    fs_buf text = { 0 }, first = { 0 };
    uint32_t x = 1;
    char path[256];
    fs_error err;

    (void)state;
    for (size_t n = 0; n < 5 << 20;) {
        char word[16];
        int k = 0;
        for (x = x * 1664525u + 1013904223u; k < 3 + (int)(x >> 29); k++)
            word[k] = "etaoinsh"[(x >> (3 * k)) & 7];
        word[k] = x >> 24 & 15 ? ' ' : '\n';
        word[++k] = 0;
        assert_int_equal(fs_buf_append(&text, word, (size_t)k, NULL), FS_OK);
        n += (size_t)k;
    }
    snprintf(path, sizeof path, "%s", file_with("words.txt", text.data));
    open_cutter(&t);
    for (int threads = 1; threads <= 3; threads++) {
        fs_pool *pool = NULL;
        fs_words w = { 0 };
        fs_vocab v = { 0 };
        fs_buf json = { 0 };
        fs_bpe_training o = { .vocab_size = 900 };
        fs_tokenizer_form f = { .pre = "deepseek-v3" };
        uint64_t total = 0;
        assert_ok(fs_pool_new(threads, &pool, &err), err);
        assert_ok(fs_words_count(&w, t, (const char *const[]){ path }, 1, false, pool, NULL, &err), err);
        for (size_t i = 0; i < w.n; i++)
            total += w.items[i].count * w.items[i].n_bytes;
        assert_int_equal(total, text.n_bytes);
        assert_ok(fs_bpe_train(&w, &o, NULL, &v, &err), err);
        assert_int_equal(v.n_ids, 900);
        assert_ok(fs_tokenizer_write_json(&v, &f, threads == 1 ? &first : &json, &err), err);
        if (threads > 1)
            assert_string_equal(first.data, json.data);
        fs_words_done(&w);
        fs_vocab_done(&v);
        fs_buf_done(&json);
        fs_pool_free(pool);
    }
    unlink(path);
    fs_tokenizer_close(t);
    fs_buf_done(&text);
    fs_buf_done(&first);
}

static void records_count_their_words_and_bad_lines_are_named(void **state)
{
    fs_tokenizer *t = NULL;
    fs_pool *pool = NULL;
    fs_words w = { 0 };
    char good[256], bad[256];
    uint64_t n = 0;
    fs_error err;

    (void)state;
    open_cutter(&t);
    assert_ok(fs_pool_new(1, &pool, &err), err);
    snprintf(good, sizeof good, "%s", file_with("good.jsonl", "{\"text\":\"cat\"}\n\n{\"messages\":[{\"role\":\"user\",\"content\":\"cat\"}]}\n"
                                                              "{\"prompt\":\"cat\",\"answer\":\"cat\"}"));
    snprintf(bad, sizeof bad, "%s", file_with("bad.jsonl", "{\"text\":\"cat\"}\n\n{\"text\":7}\n"));
    assert_ok(fs_words_count(&w, t, (const char *const[]){ good }, 1, false, pool, NULL, &err), err);
    for (size_t i = 0; i < w.n; i++)
        if (fs_bytes_equal(fs_words_bytes(&w, i), FS_BYTES_LIT("cat")))
            n = w.items[i].count;
    assert_int_equal(n, 4);
    assert_int_equal(fs_words_count(&w, t, (const char *const[]){ bad }, 1, false, pool, NULL, &err), FS_ERR_FORMAT);
    assert_sentence(err, "bad.jsonl line 3: 'text' is not a string");
    unlink(good);
    unlink(bad);
    fs_words_done(&w);
    fs_pool_free(pool);
    fs_tokenizer_close(t);
}

static void the_alphabet_is_undone(void **state)
{
    uint8_t bytes[256], back[512];
    fs_buf text = { 0 };
    size_t n = 0;

    (void)state;
    for (int i = 0; i < 256; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(fs_alphabet_encode((fs_bytes){ bytes, 256 }, &text, NULL), FS_OK);
    assert_int_equal(text.n_bytes, 2 * 256 - 94); /* 94 are ASCII */
    assert_true(fs_alphabet_decode(fs_buf_bytes(&text), back, &n));
    assert_int_equal(n, 256);
    assert_memory_equal(back, bytes, 256);
    fs_buf_done(&text);
}

static void a_failing_allocation_is_a_sentence(void **state)
{
    const char *const words[] = { "hug", "pug", "pun", "bun", "hugs", NULL };
    fs_status rc = FS_ERR_MEMORY;

    (void)state;
    for (long n = 1; rc; n++) {
        fs_words w = { 0 };
        fs_vocab v = { 0 };
        fs_bpe_training o = { .vocab_size = 262 };
        fs_error err;
        alloc_fail_at(n);
        rc = FS_OK;
        for (size_t i = 0; words[i] && !rc; i++)
            rc = fs_words_add(&w, fs_bytes_str(words[i]), 3, &err);
        if (!rc)
            rc = fs_bpe_train(&w, &o, NULL, &v, &err);
        alloc_fail_off();
        if (rc)
            assert_int_equal(rc, FS_ERR_MEMORY);
        fs_words_done(&w);
        fs_vocab_done(&v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_most_frequent_pair_goes_first),
        cmocka_unit_test(of_equal_pairs_the_smaller_ids_go_first),
        cmocka_unit_test(repeated_letters_merge_from_the_left),
        cmocka_unit_test(no_merge_makes_a_special_token),
        cmocka_unit_test(every_number_of_threads_gives_the_same_file),
        cmocka_unit_test(records_count_their_words_and_bad_lines_are_named),
        cmocka_unit_test(the_alphabet_is_undone),
        cmocka_unit_test(a_failing_allocation_is_a_sentence),
    };
    int failed;

    if (!mkdtemp(folder))
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return failed;
}
