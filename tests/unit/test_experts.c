/* WRAP_ALLOC. Streamed experts: the bits of resident ones whatever fits, what is read, and failures. Run from the tree's root. */
#include "unit.h"

#include "alloc_fail.h"
#include "base/file.h"
#include "make_files.h"
#include "models/experts.h"

#include <unistd.h>

#define CTX      64
#define N_TOKENS 23

static const char *const fixtures[] = { "ds_v3", "ds_v3_fp8", "ds_v2_group", "ds_v32", "deepseek_moe", "ds_v4_fp4", "ds_v4_mtp" };

typedef struct bench {
    fs_weights *weights;
    fs_pool *pool;
    fs_kernels kernels;
    fs_network *net;
    fs_network_plan plan;
    fs_workspace *ws;
    fs_cache cache;
    size_t v;
} bench;

/* n_slots 0: resident. */
static fs_status open_bench(bench *b, const char *path, uint32_t n_slots, int n_threads, fs_error *err)
{
    fs_network_options o = { .mtp = true };
    fs_status rc;

    *b = (bench){ 0 };
    fs_kernels_init(&b->kernels, fs_isa_detect());
    rc = fs_weights_open(path, &b->weights, err);
    if (!rc)
        rc = fs_pool_new(n_threads, &b->pool, err);
    if (!rc)
        rc = fs_network_new(b->weights, b->pool, &b->kernels, &o, &b->net, &b->plan, err);
    if (!rc && n_slots)
        rc = fs_network_stream(b->net, n_slots, &b->plan, err);
    if (!rc)
        rc = fs_network_load(b->net, err);
    if (!rc)
        rc = fs_workspace_new(b->net, N_TOKENS, 2, &b->ws, err);
    if (!rc)
        rc = fs_cache_init(&b->cache, b->net, CTX, err);
    b->v = rc ? 0 : fs_network_config(b->net)->vocab_size;
    return rc;
}

static void close_bench(bench *b)
{
    fs_cache_done(&b->cache);
    fs_workspace_free(b->ws);
    fs_network_free(b->net);
    fs_pool_free(b->pool);
    fs_weights_close(b->weights);
}

static void open_fixture(bench *b, const char *name, uint32_t n_slots, int n_threads)
{
    char path[128];
    fs_error err;

    snprintf(path, sizeof path, "tests/vectors/%s", name);
    assert_ok(open_bench(b, path, n_slots, n_threads, &err), err);
}

/* Ids from first on, chunk a step. ret_logits [n, V]. */
static fs_status run(bench *b, uint32_t first, uint32_t n, uint32_t chunk, float *ret_logits, float *ret_hidden, fs_error *err)
{
    int32_t ids[N_TOKENS];
    size_t d = fs_network_hidden_floats(b->net);
    fs_status rc = FS_OK;

    for (uint32_t i = 0; i < N_TOKENS; i++)
        ids[i] = (int32_t)((first + i) * 37 % b->v);
    for (uint32_t done = 0; done < n && !rc;) {
        uint32_t m = n - done < chunk ? n - done : chunk;
        fs_step_rows row = { .cache = &b->cache, .ids = ids + done, .n = m, .n_logits = m, .ret_logits = ret_logits + done * b->v,
                             .ret_hidden = ret_hidden ? ret_hidden + done * d : NULL };
        rc = fs_network_step(b->net, b->ws, &row, 1, err);
        done += m;
    }
    return rc;
}

static void streamed_has_the_bits_of_resident(void **state)
{
    fs_error err;

    (void)state;
    for (size_t f = 0; f < sizeof fixtures / sizeof *fixtures; f++) {
        float *want, *got, *hidden, *want_mtp = NULL, *got_mtp;
        uint32_t k, n;
        bench b;
        open_fixture(&b, fixtures[f], 0, 2);
        k = fs_network_config(b.net)->num_experts_per_tok;
        n = b.plan.n_experts;
        want = malloc(4 * N_TOKENS * b.v * sizeof *want);
        got = want + N_TOKENS * b.v;
        want_mtp = got + N_TOKENS * b.v;
        got_mtp = want_mtp + N_TOKENS * b.v;
        hidden = malloc(N_TOKENS * fs_network_hidden_floats(b.net) * sizeof *hidden);
        assert_ok(run(&b, 5, N_TOKENS, N_TOKENS, want, hidden, &err), err);
        if (fs_network_has_mtp(b.net)) {
            static const int32_t next[N_TOKENS] = { 1, 2, 3 };
            assert_ok(fs_network_mtp_step(b.net, b.ws, &b.cache, hidden, next, N_TOKENS, N_TOKENS, want_mtp, NULL, &err), err);
        }
        close_bench(&b);
        for (int threads = 1; threads <= 3; threads++)
            for (int s = 0; s < 4; s++) {
                const uint32_t slots[] = { k, k + 1, n / 2, n }, chunks[] = { 1, 5, N_TOKENS };
                open_fixture(&b, fixtures[f], slots[s], threads);
                for (int c = 0; c < 3; c++) { /* the later ones find experts of the earlier */
                    fs_cache_rewind(b.net, &b.cache, 0);
                    memset(got, 0, N_TOKENS * b.v * sizeof *got);
                    assert_ok(run(&b, 5, N_TOKENS, chunks[c], got, hidden, &err), err);
                    assert_memory_equal(got, want, N_TOKENS * b.v * sizeof *got);
                    if (fs_network_has_mtp(b.net)) {
                        static const int32_t next[N_TOKENS] = { 1, 2, 3 };
                        assert_ok(fs_network_mtp_step(b.net, b.ws, &b.cache, hidden, next, N_TOKENS, N_TOKENS, got_mtp, NULL, &err), err);
                        assert_memory_equal(got_mtp, want_mtp, N_TOKENS * b.v * sizeof *got);
                    }
                }
                close_bench(&b);
            }
        free(hidden);
        free(want);
    }
}

/* Every expert's bytes in the files. */
static uint64_t expert_file_bytes(const bench *b)
{
    uint64_t n = 0;

    for (size_t i = 0; i < fs_weights_n_tensors(b->weights); i++) {
        const fs_tensor *t = fs_weights_tensor_at(b->weights, i);
        if (strstr(t->name, ".experts.") && fs_ends_with(t->name, ".weight"))
            n += t->n_bytes;
    }
    return n;
}

static void a_step_reads_an_expert_at_most_once(void **state)
{
    fs_error err;

    (void)state;
    for (size_t f = 0; f < sizeof fixtures / sizeof *fixtures; f++)
        for (int s = 0; s < 3; s++) {
            fs_stream_stats before = { 0 }, after;
            float *logits;
            bench b;
            open_fixture(&b, fixtures[f], 0, 1);
            uint32_t k = fs_network_config(b.net)->num_experts_per_tok, n = b.plan.n_experts;
            close_bench(&b);
            open_fixture(&b, fixtures[f], s == 0 ? k : s == 1 ? n / 2 : n, 2);
            logits = malloc(N_TOKENS * b.v * sizeof *logits);
            for (int step = 0; step < 3; step++) {
                assert_true(fs_network_stream_stats(b.net, &before));
                fs_cache_rewind(b.net, &b.cache, 0);
                assert_ok(run(&b, 3, N_TOKENS, N_TOKENS, logits, NULL, &err), err);
                assert_true(fs_network_stream_stats(b.net, &after));
                assert_true(after.n_wanted > before.n_wanted);
                if (after.bytes_read - before.bytes_read > expert_file_bytes(&b))
                    fail_msg("%s, %u slots, step %d: %llu bytes were read, all experts have %llu", fixtures[f], after.n_slots, step,
                             (unsigned long long)(after.bytes_read - before.bytes_read), (unsigned long long)expert_file_bytes(&b));
                assert_true(after.n_hits - before.n_hits <= after.n_wanted - before.n_wanted);
                if (s == 2 && step) { /* all fit: nothing is read again, and everything is found */
                    assert_int_equal(after.bytes_read, before.bytes_read);
                    assert_int_equal(after.n_hits - before.n_hits, after.n_wanted - before.n_wanted);
                }
            }
            free(logits);
            close_bench(&b);
        }
}

/* A copy of the fixture's files in a folder of its own. */
static char *copy_fixture(const char *name, fs_buf *ret_weights)
{
    char *folder = make_folder(), path[128];
    fs_buf config = { 0 };
    fs_error err;

    snprintf(path, sizeof path, "tests/vectors/%s/config.json", name);
    assert_ok(fs_file_read(path, 1 << 20, &config, &err), err);
    put_file(folder, "config.json", config.data, config.n_bytes);
    snprintf(path, sizeof path, "tests/vectors/%s/model.safetensors", name);
    assert_ok(fs_file_read(path, 1 << 24, ret_weights, &err), err);
    put_file(folder, "model.safetensors", ret_weights->data, ret_weights->n_bytes);
    fs_buf_done(&config);
    return folder;
}

/* Over what is there: the same file, for who has it open. */
static void write_again(const char *folder, const fs_buf *content)
{
    char *path = fs_path_join(folder, "model.safetensors");
    FILE *f = fopen(path, "r+");

    assert_true(f && fwrite(content->data, 1, content->n_bytes, f) == content->n_bytes && fclose(f) == 0);
    free(path);
}

static const char *const copied[] = { "config.json", "model.safetensors", NULL };

/* A place in the file behind the embedding, where every routed expert of layer 2 is. */
static uint64_t first_expert(const bench *b, const char *layer)
{
    uint64_t first = UINT64_MAX, at;
    size_t file;

    for (size_t i = 0; i < fs_weights_n_tensors(b->weights); i++) {
        const fs_tensor *t = fs_weights_tensor_at(b->weights, i);
        if (strstr(t->name, layer) && strstr(t->name, ".experts.") && fs_weights_locate(b->weights, t->data, &file, &at) && at < first)
            first = at;
    }
    assert_true(first != UINT64_MAX);
    return first;
}

static void a_file_cut_short_is_a_sentence_and_the_step_can_be_repeated(void **state)
{
    fs_buf weights = { 0 };
    char *folder = copy_fixture("ds_v3", &weights), *path = fs_path_join(folder, "model.safetensors");
    float *want, *got;
    fs_stream_stats before, after;
    uint64_t cut;
    fs_error err;
    bench b;

    (void)state;
    assert_ok(open_bench(&b, folder, 4, 2, &err), err);
    want = malloc(2 * N_TOKENS * b.v * sizeof *want);
    got = want + N_TOKENS * b.v;
    assert_ok(run(&b, 1, N_TOKENS, 4, want, NULL, &err), err);
    fs_cache_rewind(b.net, &b.cache, 4);
    cut = first_expert(&b, ".layers.2.") / 4096 * 4096;
    assert_int_equal(truncate(path, (off_t)cut), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run(&b, 5, 3, 3, got, NULL, &err), FS_ERR_IO);
        assert_sentence(err, "model.layers.2.mlp.experts.");
        assert_sentence(err, "model.safetensors' ends at");
        assert_int_equal(b.cache.n_tokens, 4);
    }
    write_again(folder, &weights);
    assert_true(fs_network_stream_stats(b.net, &before));
    assert_ok(run(&b, 5, N_TOKENS - 4, 3, got, NULL, &err), err);
    assert_memory_equal(got, want + 4 * b.v, (N_TOKENS - 4) * b.v * sizeof *got);
    assert_true(fs_network_stream_stats(b.net, &after));
    assert_true(after.bytes_read > before.bytes_read);
    close_bench(&b);
    free(want);
    free(path);
    fs_buf_done(&weights);
    remove_folder(folder, copied);
}

static void a_nan_is_a_sentence(void **state)
{
    static const struct { const char *fixture, *tensor, *sentence; uint8_t bytes[4]; size_t n; bool scales; } cases[] = {
        { "ds_v3", "model.layers.1.mlp.experts.3.up_proj.weight", "' holds a NaN", { 0xc0, 0x7f }, 2, false },
        { "ds_v3_fp8", "model.layers.1.mlp.experts.0.down_proj.weight", "' holds a NaN", { 0x7f }, 1, false },
        { "ds_v3_fp8", "model.layers.1.mlp.experts.0.gate_proj.weight", "the scales of", { 0, 0, 0xc0, 0x7f }, 4, true },
        { "ds_v4_fp4", "layers.1.ffn.experts.1.w2.weight", "the scales of", { 0xff }, 1, true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fs_buf weights = { 0 };
        char *folder = copy_fixture(cases[i].fixture, &weights);
        const fs_tensor *t;
        float *logits;
        uint64_t at;
        size_t file;
        fs_error err;
        bench b;
        assert_ok(open_bench(&b, folder, 8, 2, &err), err);
        t = fs_weights_find(b.weights, cases[i].tensor);
        assert_non_null(t);
        assert_true(fs_weights_locate(b.weights, cases[i].scales ? t->scales : t->data, &file, &at));
        memcpy(weights.data + at, cases[i].bytes, cases[i].n);
        write_again(folder, &weights);
        logits = malloc(N_TOKENS * b.v * sizeof *logits);
        assert_int_equal(run(&b, 1, N_TOKENS, N_TOKENS, logits, NULL, &err), FS_ERR_NUMERIC);
        assert_sentence(err, cases[i].tensor);
        assert_sentence(err, cases[i].sentence);
        assert_int_equal(b.cache.n_tokens, 0);
        free(logits);
        close_bench(&b);
        fs_buf_done(&weights);
        remove_folder(folder, copied);
    }
}

static void slots_have_limits(void **state)
{
    double seconds;
    fs_error err;
    bench b;

    (void)state;
    open_fixture(&b, "ds_v3", 0, 1);
    assert_true(fs_network_probe_disk(b.net, 1 << 20, &seconds) == 0);
    assert_false(fs_network_stream_stats(b.net, &(fs_stream_stats){ 0 }));
    close_bench(&b);
    assert_int_equal(open_bench(&b, "tests/vectors/ds_v3", 1, 1, &err), FS_ERR_ARGUMENT);
    assert_sentence(err, "1 expert slots");
    close_bench(&b);
    assert_int_equal(open_bench(&b, "tests/vectors/ds_v3", 1000000, 1, &err), FS_ERR_ARGUMENT);
    close_bench(&b);
    open_fixture(&b, "ds_v3", 4, 1);
    assert_true(fs_network_probe_disk(b.net, 1 << 20, &seconds) > 0 && seconds > 0);
    close_bench(&b);
}

static void opening_without_memory_leaks_nothing(void **state)
{
    fs_status rc = FS_OK;
    fs_error err;
    bench b;

    (void)state;
    for (long n = 1; alloc_fail_at(n), (rc = open_bench(&b, "tests/vectors/ds_v3", 5, 2, &err)) != FS_OK; n++) {
        alloc_fail_off();
        assert_int_equal(rc, FS_ERR_MEMORY);
        close_bench(&b);
    }
    alloc_fail_off();
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streamed_has_the_bits_of_resident),
        cmocka_unit_test(a_step_reads_an_expert_at_most_once),
        cmocka_unit_test(a_file_cut_short_is_a_sentence_and_the_step_can_be_repeated),
        cmocka_unit_test(a_nan_is_a_sentence),
        cmocka_unit_test(slots_have_limits),
        cmocka_unit_test(opening_without_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
