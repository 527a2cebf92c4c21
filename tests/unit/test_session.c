/* WRAP_ALLOC. Sessions over the fixtures: rewinding, batches, full contexts, memory. Run from the tree's root. */
#include "unit.h"

#include "alloc_fail.h"
#include "base/file.h"
#include "engine/internal.h"

#include <unistd.h>

static const char *const fixtures[] = { "qwen3", "llama3", "ds_v2_lite", "ds_v3", "ds_v3_fp8", "ds_v32", "deepseek_moe", "ds_v4_mtp" };
#define N_FIXTURES (sizeof fixtures / sizeof *fixtures)

static fs_model *open_fixture(const char *name, int threads)
{
    fs_model_options o = { .n_threads = threads, .mtp = true };
    char path[128];
    fs_model *m = NULL;
    fs_error err;

    snprintf(path, sizeof path, "tests/vectors/%s", name);
    assert_ok(fs_model_open(path, &o, &m, &err), err);
    return m;
}

static void truncate_keeps_the_prefix(void **state)
{
    const int32_t a[] = { 5, 9, 200, 31, 7, 7, 100 }, b[] = { 4, 150, 12 };
    fs_error err;

    (void)state;
    for (size_t f = 0; f < N_FIXTURES; f++) {
        fs_model *m = open_fixture(fixtures[f], 2);
        size_t v = (size_t)fs_model_vocab_size(m);
        float *want = malloc(v * sizeof *want), *got = malloc(v * sizeof *got);
        int32_t joined[7];
        fs_session *s, *fresh;
        memcpy(joined, a, 4 * sizeof *a);
        memcpy(joined + 4, b, sizeof b);
        for (int i = 0; i < 7; i++)
            joined[i] %= (int32_t)v;
        assert_ok(fs_session_new(m, 64, &fresh, &err), err);
        assert_ok(fs_session_eval(fresh, joined, 7, 0, NULL, want, NULL, &err), err);
        assert_ok(fs_session_new(m, 64, &s, &err), err);
        for (int i = 0; i < 7; i++) {
            int32_t id = a[i] % (int32_t)v;
            assert_ok(fs_session_eval(s, &id, 1, 0, NULL, NULL, NULL, &err), err);
        }
        fs_session_truncate(s, 4);
        assert_int_equal(fs_session_n_tokens(s), 4);
        assert_ok(fs_session_eval(s, joined + 4, 3, 0, NULL, got, NULL, &err), err);
        assert_memory_equal(got, want, v * sizeof *got);
        assert_memory_equal(fs_session_tokens(s), joined, sizeof joined);
        fs_session_free(s);
        fs_session_free(fresh);
        free(want);
        free(got);
        fs_model_close(m);
    }
}

/* What a cache keeps beside rows by position (windows under way, compressed entries, index keys) must follow a cut at any
 * token, in the middle of windows of 4 and 128 and behind them; other text after the cut leaves no trace. */
static void rewinding_forgets_at_any_token(void **state)
{
    static const char *const with_state[] = { "ds_v32", "ds_v4" };
    static const uint32_t cuts[] = { 1, 3, 4, 5, 7, 8, 63, 126, 127, 128, 129, 130, 137, 149 };
    enum { N = 150, M = 160 };
    fs_error err;

    (void)state;
    for (size_t f = 0; f < sizeof with_state / sizeof *with_state; f++) {
        fs_model *m = open_fixture(with_state[f], 2);
        size_t v = (size_t)fs_model_vocab_size(m), n = N, over = M;
        float *want = malloc(v * sizeof *want), *got = malloc(v * sizeof *got), *want_other = malloc(v * sizeof *want_other);
        int32_t text[N], other[M];
        fs_session *s, *fresh;
        if ((size_t)fs_model_ctx_tokens_max(m) < M) {
            n = (size_t)fs_model_ctx_tokens_max(m) - 10;
            over = n + 10;
        }
        for (int i = 0; i < N; i++)
            text[i] = (i * 37 + i / 5) % (int32_t)v;
        for (int i = 0; i < M; i++)
            other[i] = (i * 11 + 200) % (int32_t)v;
        assert_ok(fs_session_new(m, (int)over, &s, &err), err);
        assert_ok(fs_session_eval(s, text, (int)n, 0, NULL, want, NULL, &err), err);
        for (size_t i = 0; i < sizeof cuts / sizeof *cuts && cuts[i] < n; i++) {
            uint32_t cut = cuts[i];
            assert_ok(fs_session_new(m, (int)over, &fresh, &err), err);
            assert_ok(fs_session_eval(fresh, text, (int)cut, 0, NULL, NULL, NULL, &err), err);
            assert_ok(fs_session_eval(fresh, other + cut, (int)(over - cut), 0, NULL, want_other, NULL, &err), err);
            fs_session_free(fresh);
            fs_session_truncate(s, (int)cut);
            assert_ok(fs_session_eval(s, other + cut, (int)(over - cut), 0, NULL, got, NULL, &err), err);
            if (memcmp(got, want_other, v * sizeof *got) != 0)
                fail_msg("%s: what stood behind a cut at %u is still read", with_state[f], cut);
            fs_session_truncate(s, (int)cut);
            assert_ok(fs_session_eval(s, text + cut, (int)(n - cut), 0, NULL, got, NULL, &err), err);
            if (memcmp(got, want, v * sizeof *got) != 0)
                fail_msg("%s: a cut at %u left a trace", with_state[f], cut);
        }
        fs_session_free(s);
        free(want);
        free(want_other);
        free(got);
        fs_model_close(m);
    }
}

/* V4 keeps rows of its compressors for its open windows alone. To every position, from as far behind it as cuts says, with
 * other text in between and steps of several lengths: the logits from there on are those of a run that never went back. */
static void rewinding_to_every_position_gives_the_same_bits(void **state)
{
    enum { N = 300, AFTER = 9 };
    static const uint32_t cuts[] = { 1, 5, 17, FS_CACHE_REWIND, FS_CACHE_REWIND + 1, 130, 290 }, chunks[] = { 0, 1, 7, 50 };
    fs_model *m = open_fixture("ds_v4", 2);
    size_t v = (size_t)fs_model_vocab_size(m);
    float *want = malloc((N + AFTER) * v * sizeof *want), *got = malloc(AFTER * v * sizeof *got);
    int32_t text[N + AFTER], other[N];
    fs_session *s;
    fs_error err;

    (void)state;
    for (int i = 0; i < N + AFTER; i++)
        text[i] = (i * 37 + i / 5) % (int32_t)v;
    for (int i = 0; i < N; i++)
        other[i] = (i * 11 + 200) % (int32_t)v;
    assert_ok(fs_session_new(m, 2 * N + AFTER, &s, &err), err);
    assert_ok(fs_session_eval(s, text, N + AFTER, 0, want, NULL, NULL, &err), err);
    for (uint32_t p = 0; p < N; p++) {
        uint32_t cut = cuts[p % 7], chunk = chunks[p / 7 % 4], done;
        fs_session_truncate(s, (int)p);
        done = (uint32_t)fs_session_n_tokens(s);
        assert_int_equal(done, p);
        assert_ok(fs_session_eval(s, other, cut, chunk, NULL, NULL, NULL, &err), err);
        fs_session_truncate(s, (int)p + 1); /* twice in a row, the first one into what is forgotten again */
        fs_session_truncate(s, (int)p);
        assert_int_equal(fs_session_n_tokens(s), p);
        assert_int_equal(s->cache.n_tokens, cut <= FS_CACHE_REWIND ? p : p - p % 128); /* where steps go on from */
        assert_ok(fs_session_eval(s, text + p, AFTER, chunk, got, NULL, NULL, &err), err);
        if (memcmp(got, want + p * v, AFTER * v * sizeof *got) != 0)
            fail_msg("%u tokens back to %u: other bits", cut, p);
    }
    fs_session_free(s);
    free(want);
    free(got);
    fs_model_close(m);
}

/* ds_v4 in a new folder, with infinity in the embedding of token `id`. */
static void write_infinite(char *folder, int id)
{
    static const char *const names[] = { "config.json", "model.safetensors" };

    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < 2; i++) {
        char from[64];
        fs_buf b = { 0 };
        char *path = fs_path_join(folder, names[i]), *entry;
        unsigned long begin;
        uint64_t header;
        fs_error err;
        snprintf(from, sizeof from, "tests/vectors/ds_v4/%s", names[i]);
        assert_ok(fs_file_read(from, (size_t)1 << 26, &b, &err), err);
        if (i == 1) {
            memcpy(&header, b.data, sizeof header);
            entry = memmem(b.data + 8, (size_t)header, "\"embed.weight\"", 14);
            assert_non_null(entry);
            assert_int_equal(sscanf(strstr(entry, "data_offsets"), "data_offsets\":[%lu", &begin), 1);
            memcpy(b.data + 8 + header + begin + (size_t)id * 64 * 2, "\x80\x7f", 2);
        }
        assert_ok(fs_file_write_atomic(path, fs_buf_bytes(&b), &err), err);
        fs_buf_done(&b);
        free(path);
    }
}

/* A step that ends in a NaN has written over rows of the windows before it; what it wrote never shows. */
static void a_failed_step_leaves_what_stood_before(void **state)
{
    enum { N = 140, FAILED = 60, AFTER = 9, BAD = 319 };
    char folder[] = "/tmp/farseek-test-XXXXXX";
    fs_model *m = NULL;
    fs_session *s, *fresh;
    int32_t text[N + AFTER], bad[FAILED];
    float *want, *got;
    size_t v;
    fs_error err;

    (void)state;
    write_infinite(folder, BAD);
    assert_ok(fs_model_open(folder, NULL, &m, &err), err);
    v = (size_t)fs_model_vocab_size(m);
    want = malloc(v * sizeof *want);
    got = malloc(v * sizeof *got);
    for (int i = 0; i < N + AFTER; i++)
        text[i] = (i * 37 + i / 5) % 300;
    for (int i = 0; i < FAILED; i++)
        bad[i] = i + 1 < FAILED ? i : BAD;
    for (int n = 5; n <= N; n += 27) {
        assert_ok(fs_session_new(m, N + AFTER, &fresh, &err), err);
        assert_ok(fs_session_eval(fresh, text, (size_t)n + AFTER, 0, NULL, want, NULL, &err), err);
        assert_ok(fs_session_new(m, N + FAILED, &s, &err), err);
        assert_ok(fs_session_eval(s, text, (size_t)n, 0, NULL, NULL, NULL, &err), err);
        assert_int_equal(fs_session_eval(s, bad, FAILED, 0, NULL, got, NULL, &err), FS_ERR_NUMERIC);
        assert_int_equal(fs_session_n_tokens(s), n);
        assert_ok(fs_session_eval(s, text + n, AFTER, 4, NULL, got, NULL, &err), err);
        assert_memory_equal(got, want, v * sizeof *got);
        fs_session_free(s);
        fs_session_free(fresh);
    }
    free(want);
    free(got);
    fs_model_close(m);
    for (int i = 0; i < 2; i++) {
        char *path = fs_path_join(folder, i ? "model.safetensors" : "config.json");
        unlink(path);
        free(path);
    }
    rmdir(folder);
}

static void neighbours_change_nothing(void **state)
{
    enum { N = 40 };
    fs_error err;

    (void)state;
    for (size_t f = 0; f < N_FIXTURES; f++) {
        fs_model *m = open_fixture(fixtures[f], 3);
        size_t v = (size_t)fs_model_vocab_size(m);
        float *want = malloc(N * v * sizeof *want), *got = malloc(3 * N * v * sizeof *got);
        fs_session *s[N], *alone;
        fs_batch_item items[N];
        int32_t ids[N][3];
        for (int i = 0; i < N; i++) {
            for (int j = 0; j < 3; j++)
                ids[i][j] = (i * 31 + j * 17) % (int32_t)v;
            assert_ok(fs_session_new(m, 16, &alone, &err), err);
            assert_ok(fs_session_eval(alone, ids[i], 3, 1, NULL, want + (size_t)i * v, NULL, &err), err);
            fs_session_free(alone);
            assert_ok(fs_session_new(m, 16, &s[i], &err), err);
            items[i] = (fs_batch_item){ s[i], ids[i], 3, (uint32_t)(i % 4 == 0 ? 3 : 1), got + (size_t)i * 3 * v, NULL };
        }
        assert_ok(fs_batch_eval(items, N, &err), err); /* 40 sequences, 60 rows of logits: more than one head product */
        for (int i = 0; i < N; i++) {
            assert_memory_equal(got + ((size_t)i * 3 + items[i].n_logits - 1) * v, want + (size_t)i * v, v * sizeof *got);
            fs_session_free(s[i]);
        }
        free(want);
        free(got);
        fs_model_close(m);
    }
}

/* A step of few tokens cuts attention into blocks of keys, one of many does not, and one of 112 over 700 fills what may
 * wait to be joined: the bits are those of one thread. */
static void threads_and_cuts_of_attention_change_nothing(void **state)
{
    static const char *const long_ones[] = { "qwen2", "llama3", "ds_v2_lite", "ds_v3", "ds_v32", "long_ds_v32", "ds_v4" };
    enum { N = 840 };
    fs_error err;

    (void)state;
    for (size_t f = 0; f < sizeof long_ones / sizeof *long_ones; f++) {
        float *want = NULL;
        for (int threads = 1; threads <= 5; threads += 2) {
            fs_model *m = open_fixture(long_ones[f], threads);
            size_t v = (size_t)fs_model_vocab_size(m);
            float *got = malloc(3 * v * sizeof *got);
            fs_session *s;
            int32_t ids[N];
            for (int i = 0; i < N; i++)
                ids[i] = (i * 37 + i / 5) % (int32_t)v;
            assert_ok(fs_session_new(m, N, &s, &err), err);
            assert_ok(fs_session_eval(s, ids, 600, 0, NULL, NULL, NULL, &err), err);
            assert_ok(fs_session_eval(s, ids + 600, 224, 112, NULL, got, NULL, &err), err);
            assert_ok(fs_session_eval(s, ids + 824, 14, 7, NULL, got + v, NULL, &err), err);
            assert_ok(fs_session_eval(s, ids + 838, 2, 1, NULL, got + 2 * v, NULL, &err), err);
            if (!want)
                want = got;
            else if (memcmp(got, want, 3 * v * sizeof *got) != 0)
                fail_msg("%s: %d threads give other bits than one", long_ones[f], threads);
            if (want != got)
                free(got);
            fs_session_free(s);
            fs_model_close(m);
        }
        free(want);
    }
}

static void a_full_context_is_a_sentence_and_changes_nothing(void **state)
{
    fs_model *m = open_fixture("qwen3", 1);
    const int32_t ids[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, wrong = 320;
    fs_session *s;
    fs_error err;

    (void)state;
    assert_int_equal(fs_session_new(m, 0, &s, &err), FS_ERR_ARGUMENT);
    assert_int_equal(fs_session_new(m, 129, &s, &err), FS_ERR_ARGUMENT);
    assert_sentence(err, "128");
    assert_ok(fs_session_new(m, 10, &s, &err), err);
    assert_ok(fs_session_eval(s, ids, 8, 0, NULL, NULL, NULL, &err), err);
    assert_int_equal(fs_session_eval(s, ids, 3, 0, NULL, NULL, NULL, &err), FS_ERR_CONTEXT_FULL);
    assert_sentence(err, "10 fit");
    assert_int_equal(fs_session_eval(s, &wrong, 1, 0, NULL, NULL, NULL, &err), FS_ERR_ARGUMENT);
    assert_sentence(err, "320");
    assert_int_equal(fs_session_n_tokens(s), 8);
    assert_ok(fs_session_eval(s, ids, 2, 0, NULL, NULL, NULL, &err), err);
    fs_session_free(s);
    fs_model_close(m);
}

static void too_little_memory_is_refused_with_the_numbers(void **state)
{
    fs_model_options o = { .memory_bytes_max = 1 << 20 };
    fs_model *m = NULL;
    fs_error err;

    (void)state;
    assert_int_equal(fs_model_open("tests/vectors/ds_v3", &o, &m, &err), FS_ERR_MEMORY);
    assert_sentence(err, "the limit is 1.0 MiB");
    assert_null(m);
}

static void unknown_things_are_refused_by_name(void **state)
{
    fs_model_options o = { .isa = "mmx" };
    fs_model *m = NULL;
    fs_error err;

    (void)state;
    assert_int_equal(fs_model_open("tests/vectors/qwen2", &o, &m, &err), FS_ERR_ARGUMENT);
    assert_sentence(err, "mmx");
    assert_int_equal(fs_model_open("tests/vectors/nowhere", NULL, &m, &err), FS_ERR_NOT_FOUND);
    assert_sentence(err, "nowhere");
}

/* The forward step and the draw allocate nothing once a session stands. */
static void the_token_loop_allocates_nothing(void **state)
{
    fs_error err;

    (void)state;
    for (size_t f = 0; f < N_FIXTURES; f++) {
        fs_model *m = open_fixture(fixtures[f], 2);
        size_t v = (size_t)fs_model_vocab_size(m);
        float *logits = malloc(v * sizeof *logits);
        fs_sampling o = { .temperature = 0.8f, .top_k = 20, .top_p = 0.9f, .repetition_penalty = 1.1f };
        fs_sampler *sampler;
        fs_session *s;
        long before;
        int32_t id = 3;
        assert_ok(fs_session_new(m, 100, &s, &err), err);
        assert_ok(fs_sampler_new(fs_model_kernels(m), (int)v, &sampler, &err), err);
        before = atomic_load(&alloc_count);
        for (uint32_t i = 0; i < 40; i++) {
            assert_int_equal(fs_session_eval(s, &id, 1, 0, NULL, logits, NULL, &err), FS_OK);
            id = fs_sampler_draw(sampler, &o, 0, i, logits, fs_session_tokens(s), i + 1, NULL);
        }
        assert_int_equal(atomic_load(&alloc_count), before);
        fs_sampler_free(sampler);
        fs_session_free(s);
        free(logits);
        fs_model_close(m);
    }
}

/* Opening, a session and a step with the n-th allocation failing: a clean error, no leak (ASan), and it works at last. */
static fs_status open_and_step(const char *path)
{
    fs_model_options o = { .n_threads = 2, .mtp = true };
    const int32_t ids[] = { 1, 2, 3 };
    fs_model *m = NULL;
    fs_session *s = NULL;
    fs_error err;
    fs_status rc = fs_model_open(path, &o, &m, &err);

    if (!rc)
        rc = fs_session_new(m, 32, &s, &err);
    if (!rc)
        rc = fs_session_eval(s, ids, 3, 0, NULL, NULL, NULL, &err);
    fs_session_free(s);
    fs_model_close(m);
    if (rc && err.code != rc)
        fail_msg("%s", "the sentence's code is not the status");
    return rc;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t f = 0; f < N_FIXTURES; f++) {
        char path[128];
        long n = 1, failures = 0;
        snprintf(path, sizeof path, "tests/vectors/%s", fixtures[f]);
        for (;; n++) {
            alloc_fail_at(n);
            if (open_and_step(path) == FS_OK && !alloc_failed())
                break;
            failures++;
        }
        alloc_fail_off();
        assert_true(failures > 20);
        assert_int_equal(open_and_step(path), FS_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(truncate_keeps_the_prefix),
        cmocka_unit_test(rewinding_forgets_at_any_token),
        cmocka_unit_test(rewinding_to_every_position_gives_the_same_bits),
        cmocka_unit_test(a_failed_step_leaves_what_stood_before),
        cmocka_unit_test(neighbours_change_nothing),
        cmocka_unit_test(threads_and_cuts_of_attention_change_nothing),
        cmocka_unit_test(a_full_context_is_a_sentence_and_changes_nothing),
        cmocka_unit_test(too_little_memory_is_refused_with_the_numbers),
        cmocka_unit_test(unknown_things_are_refused_by_name),
        cmocka_unit_test(the_token_loop_allocates_nothing),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
