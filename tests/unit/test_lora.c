/* WRAP_ALLOC. Low-rank pairs under training: logits are the engine's with the adapter to the bit, gradients are torch's and foretell what
 * the loss does, and no cut, thread or instruction set changes them. Run from the tree's root. */
#include "gradients.h"

#include "alloc_fail.h"
#include "bed.h"
#include "engine/internal.h"
#include "train/internal.h"

#include <math.h>

#define N_IDS 300
#define FEW   24

static int32_t ids[N_IDS], targets[N_IDS];
static double balance;
static bool bf16, recompute; /* class RN1-bf16 of the products besides the pairs' */

static const char *const dense[] = { "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj" };
static const char *const head[] = { "q_proj", "down_proj", "lm_head" };
static const char *const tied[] = { "lm_head", "v_proj" };
static const char *const some[] = { "q_proj", "v_proj", "up_proj" };
static const char *const first_o[] = { "model.layers.0.self_attn.o_proj" };
static const char *const latent[] = { "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj" };
static const char *const experts[] = { "gate_proj", "up_proj", "down_proj", "*.mlp.experts.*" };
static const char *const router[] = { "q_a_proj", "kv_b_proj", "mlp.gate" };
static const char *const with_mtp[] = { "lm_head", "eh_proj", "q_a_proj", "kv_b_proj", "mlp.gate", "*.mlp.experts.1.*" };
static const char *const one_kv_b[] = { "*.1.self_attn.kv_b_proj" };

#define TARGETS(x) x, (int)(sizeof x / sizeof *x)

static const struct adapter {
    const char *name, *base;
    fs_low_rank_options o;
    bool mtp;
} adapters[] = {
    { "qwen2_all", "qwen2", { 4, 8, false, TARGETS(dense) }, false },        { "qwen2_rslora", "qwen2", { 3, 5, true, TARGETS(head) }, false },
    { "qwen2_tied_head", "qwen2_tied", { 2, 2, false, TARGETS(tied) }, false }, { "llama3_bf16", "llama3", { 8, 16, false, TARGETS(some) }, false },
    { "llama3_rank", "llama3", { 300, 300, false, TARGETS(first_o) }, false }, { "ds_v3_attention", "ds_v3", { 4, 6, false, TARGETS(latent) }, false },
    { "ds_v3_ffn", "ds_v3", { 2, 4, false, TARGETS(experts) }, false },
    { "ds_v3_kv_b", "ds_v3", { 2, 4, false, TARGETS(one_kv_b) }, false },
    { "ds_v3_router", "ds_v3", { 3, 6, false, TARGETS(router) }, false },
    { "ds_v3_mtp", "ds_v3", { 2, 4, false, TARGETS(with_mtp) }, true },
};
#define N_ADAPTERS (sizeof adapters / sizeof *adapters)

static void make_ids(uint32_t vocab, uint32_t seed, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        ids[i] = (int32_t)(seed >> 8) % (int32_t)vocab;
        targets[i] = -1;
        if (i > 0)
            targets[i - 1] = ids[i];
    }
}

static fs_status open_adapter(struct bed *b, const struct adapter *a, int threads, unsigned isa, fs_error *err)
{
    fs_trainer_options o = { .low_rank = &a->o, .bf16 = bf16, .recompute = recompute, .mtp = a->mtp, .mtp_weight = a->mtp ? 0.5 : 0, .balance_weight = balance, .tokens_max = N_IDS,
                            .sequences_max = 6 };
    char path[128];
    fs_status rc = open_bed(b, a->base, threads, isa, o, err);

    snprintf(path, sizeof path, "tests/vectors/adapters/%s", a->name);
    if (!rc)
        rc = fs_params_load_pairs(b->p, path, err);
    if (!rc)
        fs_trainer_pack(b->t);
    return rc;
}

static void logits_are_the_engines(void **state)
{
    fs_error err;

    (void)state;
    for (size_t f = 0; f < N_ADAPTERS; f++) {
        char path[128], adapter[128];
        fs_model_options o = { .n_threads = 2, .adapter = adapter, .mtp = adapters[f].mtp };
        struct bed b;
        fs_model *m;
        fs_session *s;
        float *want, *got, *want_mtp, *got_mtp, *hidden;
        size_t v, n = N_IDS;
        snprintf(path, sizeof path, "tests/vectors/%s", adapters[f].base);
        snprintf(adapter, sizeof adapter, "tests/vectors/adapters/%s", adapters[f].name);
        assert_ok(fs_model_open(path, &o, &m, &err), err);
        if ((size_t)fs_model_ctx_tokens_max(m) < n)
            n = (size_t)fs_model_ctx_tokens_max(m);
        v = (size_t)fs_model_vocab_size(m);
        make_ids((uint32_t)v, 7, n);
        want = malloc(n * v * sizeof *want);
        got = malloc(n * v * sizeof *got);
        want_mtp = malloc(n * v * sizeof *want_mtp);
        got_mtp = malloc(n * v * sizeof *got_mtp);
        hidden = malloc(n * fs_model_hidden_floats(m) * sizeof *hidden);
        assert_ok(fs_session_new(m, (int)n, &s, &err), err);
        assert_ok(fs_session_eval(s, ids, n, 100, want, NULL, adapters[f].mtp ? hidden : NULL, &err), err);
        assert_ok(open_adapter(&b, &adapters[f], 2, fs_isa_detect(), &err), err);
        assert_ok(fs_trainer_logits(b.t, &(fs_train_sequence){ .ids = ids, .targets = targets, .n = (uint32_t)n }, 1, got, adapters[f].mtp ? got_mtp : NULL, &err),
                  err);
        assert_memory_equal(want, got, n * v * sizeof *want);
        if (adapters[f].mtp) {
            assert_ok(fs_session_mtp_eval(s, hidden, ids + 1, n - 1, want_mtp, &err), err);
            assert_memory_equal(want_mtp, got_mtp, (n - 1) * v * sizeof *want);
        }
        close_bed(&b);
        fs_session_free(s);
        fs_model_close(m);
        free(want);
        free(got);
        free(want_mtp);
        free(got_mtp);
        free(hidden);
    }
}

static double step(struct bed *b, size_t n_ids, uint32_t rows, uint32_t per_run)
{
    fs_train_sequence seq[6];
    fs_train_totals totals = { 0 };
    fs_train_loss loss;
    fs_error err;
    uint32_t n = (uint32_t)n_ids / rows;

    for (uint32_t r = 0; r < rows; r++)
        seq[r] = (fs_train_sequence){ .ids = ids + r * n, .targets = targets + r * n, .n = n, .index = (uint64_t)r * 512 };
    fs_train_totals_add(&totals, seq, rows);
    fs_trainer_begin(b->t, &totals);
    for (uint32_t r = 0; r < rows; r += per_run)
        assert_ok(fs_trainer_run(b->t, seq + r, rows - r < per_run ? rows - r : per_run, &err), err);
    fs_trainer_end(b->t, &loss);
    return b->t->loss_sum / (double)totals.n_targets + (totals.n_mtp_targets ? b->t->options.mtp_weight * b->t->mtp_sum / (double)totals.n_mtp_targets : 0) +
           b->t->options.balance_weight * b->t->balance_sum / rows;
}

/* tools/make_lora_vectors.py */
static void gradients_are_torchs(void **state)
{
    struct json_object *all = read_vectors("tests/vectors/lora_grads.json");
    fs_error err;
    int n_cases = 0;

    (void)state;
    for (size_t f = 0; f < N_ADAPTERS; f++) {
        struct json_object *want = fs_json_member(all, adapters[f].name), *list;
        struct bed b;
        size_t n;
        double loss, want_loss;
        if (!want)
            continue;
        n_cases++;
        assert_ok(open_adapter(&b, &adapters[f], 2, fs_isa_detect(), &err), err);
        list = fs_json_member(want, "ids");
        n = json_object_array_length(list);
        make_ids(fs_weights_config(b.weights)->vocab_size, 7, n);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(ids[i], json_object_get_int(json_object_array_get_idx(list, i)));
        loss = step(&b, n, 1, 1);
        want_loss = json_object_get_double(fs_json_member(want, "loss"));
        if (adapters[f].mtp)
            want_loss += json_object_get_double(fs_json_member(want, "weight")) * json_object_get_double(fs_json_member(want, "mtp_loss"));
        assert_true(fabs(loss - want_loss) < 1e-5);
        assert_gradients(&b.kernels, b.p, fs_json_member(want, "grads"), adapters[f].name);
        close_bed(&b);
    }
    assert_int_equal(n_cases, 8);
    json_object_put(all);
}

static double loss_of_few(void *ud)
{
    return step(ud, FEW, 2, 2);
}

/* With routers, multi-token prediction and the balance loss. Few tokens: one that stands near the border of an expert's choice makes a step
 * where a slope is measured. */
static void gradients_foretell_the_loss(void **state)
{
    struct bed b;
    fs_error err;
    int n_checked, n_routers = 0;

    (void)state;
    balance = 0.5;
    assert_ok(open_adapter(&b, &adapters[9], 2, fs_isa_detect(), &err), err);
    make_ids(fs_weights_config(b.weights)->vocab_size, 3, FEW);
    n_checked = assert_slopes(b.t, loss_of_few, &b, adapters[9].name, ".mlp.gate.", &n_routers);
    assert_true(n_checked > 20 && n_routers >= 4);
    balance = 0;
    close_bed(&b);
}

static void no_cut_changes_a_bit(void **state)
{
    static const size_t which[] = { 0, 2, 5, 6, 9 };
    double exact[2] = { 0, 0 };
    fs_error err;

    (void)state;
    for (size_t f = 0; f < 2 * (sizeof which / sizeof *which); f++) {
        float *want = NULL;
        double loss = 0, norm = 0;
        size_t w = which[f / 2];
        bf16 = f % 2;
        for (int turn = 0; turn < 7; turn++) {
            static const unsigned isas[7] = { 0, FS_ISA_AVX2, FS_ISA_AVX2 | FS_ISA_AVX512, FS_ISA_NEON, ~0u, ~0u, ~0u };
            static const int threads[7] = { 1, 1, 2, 2, 3, 2, 1 }, cuts[7] = { 6, 6, 6, 6, 6, 1, 4 };
            struct bed b;
            double got;
            recompute = turn == 4 || turn == 5;
            assert_ok(open_adapter(&b, &adapters[w], threads[turn], isas[turn] & fs_isa_detect(), &err), err);
            make_ids(fs_weights_config(b.weights)->vocab_size, 3, N_IDS);
            got = step(&b, N_IDS, 6, (uint32_t)cuts[turn]);
            if (!want) {
                want = malloc(b.p->n_floats * sizeof *want);
                memcpy(want, b.p->g, b.p->n_floats * sizeof *want);
                loss = got;
                norm = (double)fs_params_grad_norm(&b.kernels, b.p);
                if (!bf16) {
                    exact[0] = loss;
                    exact[1] = norm;
                }
                assert_true(bf16 == (loss != exact[0]) && fabs(loss - exact[0]) < 0.02 * exact[0] && fabs(norm - exact[1]) < 0.1 * exact[1]);
            }
            assert_true(got == loss);
            assert_memory_equal(want, b.p->g, b.p->n_floats * sizeof *want);
            close_bed(&b);
        }
        free(want);
    }
    bf16 = recompute = false;
}

/* B is zero and A within +-1/sqrt(in), of no mean to speak of; the numbers are the seed's. */
static void pairs_from_nothing(void **state)
{
    struct bed b;
    fs_error err;
    float *first;

    (void)state;
    assert_ok(open_adapter(&b, &adapters[0], 1, 0, &err), err);
    for (size_t i = 0; i < b.p->n; i++)
        if (b.p->items[i].is_pair)
            memset(b.p->items[i].w, 0, b.p->items[i].n * sizeof(float));
    fs_params_init_pairs(b.p, 9);
    first = malloc(b.p->n_floats * sizeof *first);
    memcpy(first, b.p->w, b.p->n_floats * sizeof *first);
    for (size_t i = 0; i < b.p->n; i++) {
        const fs_param *p = &b.p->items[i];
        double bound = 1 / sqrt(p->cols), sum = 0, squares = 0;
        bool is_a = fs_ends_with(p->name, "lora_A.weight");
        for (size_t j = 0; p->is_pair && j < p->n; j++) {
            sum += (double)p->w[j];
            squares += (double)p->w[j] * (double)p->w[j];
            assert_true(is_a ? fabs((double)p->w[j]) < bound && p->w[j] != 0 : p->w[j] == 0);
        }
        if (p->is_pair && is_a)
            assert_true(fabs(sum / (double)p->n) < 4 * bound / sqrt(3.0 * (double)p->n) &&
                        fabs(squares / (double)p->n / (bound * bound / 3) - 1) < 0.25);
    }
    fs_params_init_pairs(b.p, 10);
    assert_true(memcmp(first, b.p->w, b.p->n_floats * sizeof *first) != 0);
    fs_params_init_pairs(b.p, 9);
    assert_memory_equal(first, b.p->w, b.p->n_floats * sizeof *first);
    free(first);
    close_bed(&b);
}

static void refusals_are_sentences(void **state)
{
    static const char *const nothing[] = { "w_proj" };
    struct adapter a = adapters[5];
    struct bed b;
    fs_error err;

    (void)state;
    a.o.n_targets = 1;
    a.o.targets = nothing;
    assert_int_equal(open_adapter(&b, &a, 1, 0, &err), FS_ERR_ARGUMENT);
    close_bed(&b);
    a = adapters[5];
    a.o.alpha = 7;
    assert_int_equal(open_adapter(&b, &a, 1, 0, &err), FS_ERR_ARGUMENT);
    assert_sentence(err, "1.75");
    close_bed(&b);
    a = adapters[5];
    a.o.n_targets = 2;
    assert_int_equal(open_adapter(&b, &a, 1, 0, &err), FS_ERR_FORMAT);
    assert_sentence(err, "belongs to no linear");
    close_bed(&b);
}

static void without_memory(void **state)
{
    struct bed b;
    fs_error err;
    fs_status rc;
    int n_failures = 0;

    (void)state;
    for (long n = 1; alloc_fail_at(n), (rc = open_adapter(&b, &adapters[5], 1, 0, &err)) != FS_OK; n++, n_failures++) {
        alloc_fail_off();
        assert_int_equal(rc, FS_ERR_MEMORY);
        close_bed(&b);
    }
    alloc_fail_off();
    assert_true(n_failures > 20);
    close_bed(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_the_engines), cmocka_unit_test(gradients_are_torchs), cmocka_unit_test(gradients_foretell_the_loss),   cmocka_unit_test(no_cut_changes_a_bit),
        cmocka_unit_test(pairs_from_nothing),     cmocka_unit_test(refusals_are_sentences), cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
