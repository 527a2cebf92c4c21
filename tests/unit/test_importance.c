/* WRAP_ALLOC. What linears are given: the same sums on every instruction set, with any threads and steps, resident or streamed; counts that add up.
 * Run from the tree's root. */
#include "unit.h"

#include "alloc_fail.h"
#include "base/file.h"
#include "models/importance.h"
#include "models/network.h"

#include <math.h>

#define CTX      128
#define N_TOKENS 90

static const char *const fixtures[] = { "qwen3", "ds_v2_group", "ds_v3", "ds_v32", "deepseek_moe", "ds_v4_mtp", "ds_v3_fp8" };

/* n_slots 0: resident. */
static fs_importance *see(const char *fixture, unsigned isa, int n_threads, uint32_t chunk, uint32_t n_slots)
{
    fs_network_options o = { .mtp = true, .exact = true };
    fs_network_plan plan;
    fs_kernels kernels;
    fs_weights *weights;
    fs_pool *pool;
    fs_network *net;
    fs_workspace *ws;
    fs_cache cache;
    int32_t ids[N_TOKENS];
    float *hidden;
    size_t floats;
    char path[128];
    fs_error err;

    snprintf(path, sizeof path, "tests/vectors/%s", fixture);
    fs_kernels_init(&kernels, isa);
    assert_ok(fs_importance_new(&o.importance, &err), err);
    assert_ok(fs_weights_open(path, &weights, &err), err);
    assert_ok(fs_pool_new(n_threads, &pool, &err), err);
    assert_ok(fs_network_new(weights, pool, &kernels, &o, &net, &plan, &err), err);
    if (n_slots)
        assert_ok(fs_network_stream(net, n_slots, &plan, &err), err);
    assert_ok(fs_network_load(net, &err), err);
    assert_ok(fs_workspace_new(net, N_TOKENS, 2, &ws, &err), err);
    assert_ok(fs_cache_init(&cache, net, CTX, &err), err);
    for (uint32_t i = 0; i < N_TOKENS; i++)
        ids[i] = (int32_t)(i * 37 % fs_network_config(net)->vocab_size);
    floats = fs_network_hidden_floats(net);
    hidden = malloc(N_TOKENS * floats * sizeof *hidden);
    for (uint32_t done = 0, m; done < N_TOKENS; done += m) {
        m = N_TOKENS - done < chunk ? N_TOKENS - done : chunk;
        assert_ok(fs_network_step(net, ws, &(fs_step_rows){ .cache = &cache, .ids = ids + done, .n = m, .ret_hidden = hidden + done * floats }, 1, &err), err);
    }
    for (uint32_t done = 0, m; fs_network_has_mtp(net) && done < N_TOKENS - 1; done += m) {
        m = N_TOKENS - 1 - done < chunk ? N_TOKENS - 1 - done : chunk;
        assert_ok(fs_network_mtp_step(net, ws, &cache, hidden + done * floats, ids + done + 1, m, 0, NULL, NULL, &err), err);
    }
    free(hidden);
    fs_cache_done(&cache);
    fs_workspace_free(ws);
    fs_network_free(net);
    fs_pool_free(pool);
    fs_weights_close(weights);
    return o.importance;
}

static void assert_same(const fs_importance *a, const fs_importance *b, const char *what)
{
    assert_int_equal(fs_importance_n(a), fs_importance_n(b));
    for (size_t i = 0; i < fs_importance_n(a); i++) {
        const fs_importance_input *x = fs_importance_at(a, i), *y = fs_importance_at(b, i);
        assert_string_equal(x->names[0], y->names[0]);
        if (memcmp(x->counts, y->counts, x->n * sizeof *x->counts) != 0)
            fail_msg("%s: other counts of %s", what, x->names[0]);
        if (memcmp(x->sums, y->sums, (size_t)x->n * x->k * sizeof *x->sums) != 0)
            fail_msg("%s: other sums of %s", what, x->names[0]);
    }
}

static void the_same_bits_however_it_is_computed(void **state)
{
    (void)state;
    for (size_t f = 0; f < sizeof fixtures / sizeof *fixtures; f++) {
        fs_importance *want = see(fixtures[f], 0, 1, N_TOKENS, 0), *got;
        for (unsigned isa = 1; isa && isa <= fs_isa_detect(); isa <<= 1) {
            if (!(fs_isa_detect() & isa))
                continue;
            got = see(fixtures[f], isa | ((isa - 1) & fs_isa_detect()), 3, 7, 0);
            assert_same(want, got, fixtures[f]);
            fs_importance_free(got);
        }
        got = see(fixtures[f], fs_isa_detect(), 2, 1, 0);
        assert_same(want, got, fixtures[f]);
        fs_importance_free(got);
        if (strstr(fixtures[f], "ds_") || strstr(fixtures[f], "deepseek")) {
            got = see(fixtures[f], fs_isa_detect(), 2, 16, 6);
            assert_same(want, got, fixtures[f]);
            fs_importance_free(got);
        }
        fs_importance_free(want);
    }
}

static const fs_importance_input *find(const fs_importance *x, const char *name)
{
    for (size_t i = 0; i < fs_importance_n(x); i++)
        for (int k = 0; k < 2; k++)
            if (strcmp(fs_importance_at(x, i)->names[k], name) == 0)
                return fs_importance_at(x, i);
    fail_msg("nothing is called %s", name);
    return NULL;
}

static void assert_near(const double *a, const double *b, size_t n, double factor)
{
    for (size_t i = 0; i < n; i++)
        assert_true(fabs(a[i] * factor - b[i]) <= 1e-9 * fabs(b[i]));
}

static void every_token_counts(void **state)
{
    fs_importance *x = see("ds_v3", fs_isa_detect(), 2, 32, 0);
    const fs_importance_input *experts = find(x, "model.layers.1.mlp.experts.0.gate_proj.weight"), *down, *shared;
    double *all = calloc(experts->k, sizeof *all);
    uint64_t n = 0, n_down = 0;

    (void)state;
    for (size_t i = 0; i < fs_importance_n(x); i++) {
        const fs_importance_input *in = fs_importance_at(x, i);
        bool mtp = strncmp(in->names[0], "model.layers.3.", 15) == 0;
        for (uint32_t e = 0; e < in->n && !strstr(in->names[0], ".experts."); e++) /* heads too */
            if (in->counts[e] != N_TOKENS - (mtp ? 1u : 0u))
                fail_msg("%s %u: %llu rows", in->names[0], e, (unsigned long long)in->counts[e]);
    }
    /* the up-projection has the same input; all experts together had every token four times, as the shared expert had it once */
    assert_ptr_equal(experts, find(x, "model.layers.1.mlp.experts.0.up_proj.weight"));
    down = find(x, "model.layers.1.mlp.experts.0.down_proj.weight");
    shared = find(x, "model.layers.1.mlp.shared_experts.gate_proj.weight");
    assert_int_equal(experts->n, 16);
    for (uint32_t e = 0; e < experts->n; e++) {
        n += experts->counts[e];
        n_down += down->counts[e];
        for (uint32_t c = 0; c < experts->k; c++)
            all[c] += experts->sums[(size_t)e * experts->k + c];
    }
    assert_int_equal(n, 4 * N_TOKENS);
    assert_int_equal(n_down, 4 * N_TOKENS);
    assert_near(shared->sums, all, experts->k, 4);
    assert_near(find(x, "model.layers.1.mlp.shared_experts.up_proj.weight")->sums, shared->sums, experts->k, 1);
    /* one input, whoever reads it */
    assert_near(find(x, "model.layers.2.self_attn.q_a_proj.weight")->sums, find(x, "model.layers.2.self_attn.kv_a_proj_with_mqa.weight")->sums, 64, 1);
    assert_int_equal(find(x, "lm_head.weight")->counts[0], N_TOKENS);
    free(all);
    fs_importance_free(x);
}

static void sums_are_of_squares(void **state)
{
    static const float x[4 * 5] = { 1, 2, 3, 0, 9, 4, -5, 6, 0, 9, 0.5f, 0, -1, 0, 9, 3, 3, 3, 0, 9 };
    static const uint32_t begin[] = { 0, 1, 1, 4 }, active[] = { 0, 2 };
    fs_importance *imp;
    fs_pool *pool;
    fs_error err;
    uint32_t id, other;

    (void)state;
    assert_ok(fs_pool_new(2, &pool, &err), err);
    assert_ok(fs_importance_new(&imp, &err), err);
    assert_ok(fs_importance_add(imp, "a.", "b", NULL, 2, 3, &id, &err), err);
    assert_ok(fs_importance_add(imp, "a.experts.0.", "up", "gate", 3, 4, &other, &err), err);
    fs_importance_see(imp, pool, 0, 0, NULL, 0, 3);
    fs_importance_see(imp, pool, id, 1, x, 5, 3);
    assert_string_equal(fs_importance_at(imp, 0)->names[0], "a.b.weight");
    assert_memory_equal(fs_importance_at(imp, 0)->sums, ((double[]){ 0, 0, 0, 17.25, 29, 46 }), 6 * sizeof(double));
    assert_memory_equal(fs_importance_at(imp, 0)->counts, ((uint64_t[]){ 0, 3 }), 2 * sizeof(uint64_t));
    fs_importance_see_groups(imp, pool, other, active, 2, begin, x, 5, false);
    assert_memory_equal(fs_importance_at(imp, 1)->sums, ((double[]){ 1, 4, 9, 0, 0, 0, 0, 0, 25.25, 34, 46, 0 }), 12 * sizeof(double));
    assert_memory_equal(fs_importance_at(imp, 1)->counts, ((uint64_t[]){ 1, 0, 3 }), 3 * sizeof(uint64_t));
    fs_importance_free(imp);
    fs_pool_free(pool);
}

static void every_failing_allocation_is_a_sentence(void **state)
{
    fs_error err;
    int n = 0;

    (void)state;
    for (bool failed = true; failed; n++) {
        fs_importance *imp = NULL;
        uint32_t id;
        fs_status rc;
        alloc_fail_at(n + 1);
        rc = fs_importance_new(&imp, &err);
        for (int i = 0; i < 65 && !rc; i++) /* past the first list */
            rc = fs_importance_add(imp, "a.", "b", NULL, 2, 3, &id, &err);
        failed = alloc_failed();
        alloc_fail_off();
        assert_true(failed ? rc == FS_ERR_MEMORY : rc == FS_OK);
        fs_importance_free(imp);
    }
    assert_true(n > 130);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_of_squares),
        cmocka_unit_test(every_token_counts),
        cmocka_unit_test(the_same_bits_however_it_is_computed),
        cmocka_unit_test(every_failing_allocation_is_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
