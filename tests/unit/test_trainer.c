/* WRAP_ALLOC. Training passes over the fixtures: logits are the engine's to the bit, gradients foretell what the loss does,
 * and no cut, thread or instruction set changes them. Run from the tree's root. */
#include "gradients.h"

#include "alloc_fail.h"
#include "bed.h"
#include "engine/internal.h"
#include "train/internal.h"

#include <math.h>

#define N_IDS 300 /* more than one block of keys */
#define FEW   24

static const char *const fixtures[] = { "qwen2", "qwen2_tied", "qwen3", "llama3", "llama_linear", "ds_v2_lite", "ds_v2_group", "ds_v3",
                                        "ds_v3_fp8", "deepseek_moe", "long_ds_v3", "long_qwen2" };

static int32_t ids[N_IDS], targets[N_IDS];

static void make_ids(uint32_t vocab, uint32_t seed)
{
    for (int i = 0; i < N_IDS; i++) {
        seed = seed * 1664525 + 1013904223;
        ids[i] = (int32_t)(seed >> 8) % (int32_t)vocab;
    }
    memcpy(targets, ids + 1, sizeof targets - sizeof *targets);
    targets[N_IDS - 1] = -1;
}

static void check_logits(bool bf16)
{
    fs_error err;

    for (size_t f = 0; f < sizeof fixtures / sizeof *fixtures; f++) {
        bool mtp = strcmp(fixtures[f], "ds_v3") == 0;
        fs_model_options o = { .n_threads = 2, .mtp = mtp, .precision = bf16 ? "bf16" : NULL };
        struct bed b;
        char path[128];
        fs_model *m;
        fs_session *s;
        float *want, *got, *want_mtp, *got_mtp, *hidden;
        size_t v, d, n = N_IDS;
        snprintf(path, sizeof path, "tests/vectors/%s", fixtures[f]);
        assert_ok(fs_model_open(path, &o, &m, &err), err);
        if ((size_t)fs_model_ctx_tokens_max(m) < n)
            n = (size_t)fs_model_ctx_tokens_max(m);
        v = (size_t)fs_model_vocab_size(m);
        d = fs_model_hidden_floats(m);
        make_ids((uint32_t)v, 7);
        want = malloc(n * v * sizeof *want);
        got = malloc(n * v * sizeof *got);
        want_mtp = malloc(n * v * sizeof *want_mtp);
        got_mtp = malloc(n * v * sizeof *got_mtp);
        hidden = malloc(n * d * sizeof *hidden);
        assert_ok(fs_session_new(m, (int)n, &s, &err), err);
        assert_ok(fs_session_eval(s, ids, n, 100, want, NULL, hidden, &err), err);
        assert_ok(open_bed(&b, fixtures[f], 2, fs_isa_detect(), (fs_trainer_options){ .bf16 = bf16, .mtp = mtp, .tokens_max = N_IDS, .sequences_max = 1 }, &err), err);
        assert_ok(fs_trainer_logits(b.t, &(fs_train_sequence){ .ids = ids, .targets = targets, .n = (uint32_t)n }, 1, got, mtp ? got_mtp : NULL, &err), err);
        assert_memory_equal(want, got, n * v * sizeof *want);
        if (mtp) {
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

static void logits_are_the_engines(void **state)
{
    (void)state;
    check_logits(false);
}

static void logits_are_the_engines_in_bf16(void **state)
{
    (void)state;
    check_logits(true);
}

/* Loss, MTP's and balance as the options weigh them. */
static double step_of(fs_trainer *t, uint32_t n_ids, uint32_t rows, uint32_t per_run)
{
    fs_train_sequence seq[6];
    fs_train_totals totals = { .n_sequences = rows };
    fs_train_loss loss;
    fs_error err;
    uint32_t n = n_ids / rows;

    for (uint32_t r = 0; r < rows; r++) {
        seq[r] = (fs_train_sequence){ .ids = ids + r * n, .targets = targets + r * n, .n = n, .index = (uint64_t)r * 512 };
        totals.n_targets += n - (targets[r * n + n - 1] < 0);
        totals.n_mtp_targets += n - 1 - (targets[r * n + n - 1] < 0);
    }
    fs_trainer_begin(t, &totals);
    for (uint32_t r = 0; r < rows; r += per_run)
        assert_ok(fs_trainer_run(t, seq + r, rows - r < per_run ? rows - r : per_run, &err), err);
    fs_trainer_end(t, &loss);
    assert_true(loss.loss == (double)(float)(t->loss_sum / (double)totals.n_targets));
    return t->loss_sum / (double)totals.n_targets + t->options.mtp_weight * t->mtp_sum / (double)totals.n_mtp_targets +
           t->options.balance_weight * t->balance_sum / rows; /* not yet rounded to f32 */
}

static double step(fs_trainer *t, uint32_t rows, uint32_t per_run)
{
    return step_of(t, N_IDS, rows, per_run);
}

static double loss_of_few(void *ud)
{
    return step_of(ud, FEW, 2, 2);
}

/* Along each tensor's gradient the loss changes by its norm: the whole backward against central differences. Few tokens: each
 * has its expert choices, and one that stands near a border makes a step where a slope is measured. */
static void gradients_foretell_the_loss(void **state)
{
    static const struct {
        const char *fixture;
        bool mtp;
        double balance;
    } cases[] = { { "ds_v3", true, 0.5 }, { "ds_v2_lite", false, 0.5 }, { "qwen3", false, 0 } };
    fs_error err;

    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        fs_trainer_options o = { .mtp = cases[c].mtp, .mtp_weight = cases[c].mtp ? 0.7 : 0, .balance_weight = cases[c].balance,
                                 .tokens_max = N_IDS, .sequences_max = 6 };
        struct bed b;
        assert_ok(open_bed(&b, cases[c].fixture, 2, fs_isa_detect(), o, &err), err);
        make_ids(fs_weights_config(b.weights)->vocab_size, 3);
        assert_true(assert_slopes(b.t, loss_of_few, b.t, cases[c].fixture, NULL, NULL) > 20);
        close_bed(&b);
    }
}

/* Single weights, so that a summand that is missing shows, which along a gradient may stand at a right angle to the rest. */
static void single_weights_foretell_the_loss(void **state)
{
    static const double steps[4] = { 4e-3, 1e-3, 3e-4, 1e-4 };
    fs_trainer_options o = { .mtp = true, .mtp_weight = 0.7, .balance_weight = 0.5, .tokens_max = N_IDS, .sequences_max = 6 };
    struct bed b;
    fs_params *p;
    float *g;
    fs_error err;
    uint32_t seed = 1;
    int n_checked = 0;

    (void)state;
    assert_ok(open_bed(&b, "ds_v3", 2, fs_isa_detect(), o, &err), err);
    p = fs_trainer_params(b.t);
    make_ids(fs_weights_config(b.weights)->vocab_size, 3);
    g = malloc(p->n_floats * sizeof *g);
    step_of(b.t, FEW, 2, 2);
    memcpy(g, p->g, p->n_floats * sizeof *g);
    for (size_t i = 0; i < p->n; i++) {
        fs_param *item = &p->items[i];
        for (int turn = 0; turn < 4; turn++) {
            bool agree = false;
            double slope = 0, want;
            float kept;
            size_t j, tries = 0;
            seed = seed * 1664525 + 1013904223;
            j = seed % item->n;
            while (g[item->offset + j] == 0 && tries++ < item->n) /* most rows of the embedding have no token */
                j = (j + 1) % item->n;
            want = (double)g[item->offset + j];
            if (fabs(want) < 3e-3)
                continue;
            kept = item->w[j];
            for (int s = 0; s < 4 && !agree; s++) {
                double up = 0, down = 0, x[2];
                for (int sign = 0; sign < 2; sign++) {
                    item->w[j] = (float)((double)kept + (sign ? -steps[s] : steps[s]));
                    x[sign] = (double)item->w[j];
                    fs_trainer_pack(b.t);
                    *(sign ? &down : &up) = step_of(b.t, FEW, 2, 2);
                }
                slope = (up - down) / (x[0] - x[1]);
                agree = fabs(slope - want) < 0.02 * fabs(want) + 1e-4;
            }
            item->w[j] = kept;
            if (!agree)
                fail_msg("%s[%zu]: the loss moves by %g, the gradient is %g", item->name, j, slope, want);
            n_checked++;
        }
    }
    assert_true(n_checked > 100);
    free(g);
    close_bed(&b);
}

static void check_cuts(bool bf16)
{
    static const char *const names[] = { "ds_v3", "qwen3", "ds_v2_group", "qwen2_tied" };
    fs_error err;

    for (size_t f = 0; f < sizeof names / sizeof *names; f++) {
        bool mtp = f == 0;
        fs_trainer_options o = { .bf16 = bf16, .mtp = mtp, .mtp_weight = mtp ? 0.3 : 0, .balance_weight = mtp ? 1e-3 : 0, .tokens_max = N_IDS, .sequences_max = 6 };
        float *want = NULL;
        double loss = 0;
        for (int turn = 0; turn < 7; turn++) {
            static const unsigned isas[7] = { 0, FS_ISA_AVX2, FS_ISA_AVX2 | FS_ISA_AVX512, FS_ISA_NEON, ~0u, ~0u, ~0u };
            static const int threads[7] = { 1, 1, 2, 2, 3, 2, 1 }, cuts[7] = { 6, 6, 6, 6, 6, 1, 4 };
            struct bed b;
            fs_params *p;
            double got;
            assert_ok(open_bed(&b, names[f], threads[turn], isas[turn] & fs_isa_detect(), o, &err), err);
            p = fs_trainer_params(b.t);
            make_ids(fs_weights_config(b.weights)->vocab_size, 3);
            got = step(b.t, 6, (uint32_t)cuts[turn]);
            if (!want) {
                want = malloc(p->n_floats * sizeof *want);
                memcpy(want, p->g, p->n_floats * sizeof *want);
                loss = got;
            }
            assert_true(got == loss);
            assert_memory_equal(want, p->g, p->n_floats * sizeof *want);
            close_bed(&b);
        }
        free(want);
    }
}

static void no_cut_changes_a_bit(void **state)
{
    (void)state;
    check_cuts(false);
}

static void no_cut_changes_a_bit_in_bf16(void **state)
{
    (void)state;
    check_cuts(true);
}

/* Activations that are made again are those that were: loss, log-probabilities, gradients, counts of experts and largest logits are the same. */
static void making_again_changes_no_bit(void **state)
{
    static const char *const names[] = { "ds_v3", "ds_v2_lite", "deepseek_moe", "qwen3", "qwen2_tied", "llama3" };
    fs_error err;

    (void)state;
    for (size_t f = 0; f < 2 * sizeof names / sizeof *names; f++) {
        bool mtp = f / 2 == 0;
        fs_trainer_options o = { .bf16 = f % 2, .mtp = mtp, .mtp_weight = mtp ? 0.3 : 0, .balance_weight = mtp ? 1e-3 : 0, .tokens_max = N_IDS, .sequences_max = 6 };
        struct bed want, got;
        fs_params *p, *q;
        double loss;
        assert_ok(open_bed(&want, names[f / 2], 2, fs_isa_detect(), o, &err), err);
        p = fs_trainer_params(want.t);
        make_ids(fs_weights_config(want.weights)->vocab_size, 3);
        loss = step(want.t, 6, 6);
        o.recompute = true;
        for (int turn = 0; turn < 4; turn++) {
            static const int threads[4] = { 1, 2, 3, 2 }, cuts[4] = { 6, 6, 2, 1 };
            const fs_config *c = fs_weights_config(want.weights);
            assert_ok(open_bed(&got, names[f / 2], threads[turn], turn ? fs_isa_detect() : 0, o, &err), err);
            assert_true(got.t->memory_bytes - got.t->scratch_bytes * (size_t)threads[turn] < want.t->memory_bytes - want.t->scratch_bytes * 2);
            q = fs_trainer_params(got.t);
            for (int again = 0; again < 2; again++) { /* the second has another micro-batch's activations at first */
                assert_true(step(got.t, 6, (uint32_t)cuts[turn]) == loss);
                assert_memory_equal(p->g, q->g, p->n_floats * sizeof *p->g);
                for (uint32_t l = 0; l < got.t->n_layers; l++) {
                    assert_memory_equal(fs_trainer_qk_max(want.t, l), fs_trainer_qk_max(got.t, l), c->num_attention_heads * sizeof(float));
                    if (fs_trainer_expert_load(want.t, l)) {
                        assert_memory_equal(fs_trainer_expert_load(want.t, l), fs_trainer_expert_load(got.t, l), c->n_routed_experts * sizeof(uint64_t));
                        assert_memory_equal(fs_trainer_expert_gates(want.t, l), fs_trainer_expert_gates(got.t, l), c->n_routed_experts * sizeof(double));
                    }
                }
            }
            close_bed(&got);
        }
        close_bed(&want);
    }
}

/* Tokens without targets are left out of the head: the same as tokens whose targets have a slope of zero. */
static void what_is_not_learnt_is_left_out(void **state)
{
    static const char *const names[] = { "ds_v3", "qwen2_tied", "llama3" };
    static const uint32_t learnt[][2] = { { 0, N_IDS }, { 9, 60 }, { 37, 38 }, { 130, 131 }, { 256, 290 }, { 255, 257 }, { 299, N_IDS } };
    static float slopes[N_IDS], logp[2][N_IDS];
    fs_error err;

    (void)state;
    for (size_t f = 0; f < 2 * sizeof names / sizeof *names; f++) {
        fs_trainer_options o = { .bf16 = f % 2, .tokens_max = N_IDS, .sequences_max = 1 };
        struct bed b;
        fs_params *p;
        float *want;
        assert_ok(open_bed(&b, names[f / 2], 2, fs_isa_detect(), o, &err), err);
        p = fs_trainer_params(b.t);
        want = malloc(p->n_floats * sizeof *want);
        for (size_t c = 0; c < sizeof learnt / sizeof *learnt; c++) {
            make_ids(fs_weights_config(b.weights)->vocab_size, 3);
            targets[N_IDS - 1] = 5;
            for (uint32_t i = 0; i < N_IDS; i++)
                slopes[i] = i >= learnt[c][0] && i < learnt[c][1] ? -0.01f * (float)(1 + i % 7) : 0.0f;
            for (int turn = 0; turn < 2; turn++) {
                fs_train_sequence seq = { .ids = ids, .targets = targets, .slopes = slopes, .ret_logp = logp[turn], .n = N_IDS };
                fs_train_totals totals = { .n_sequences = 1, .n_targets = 1 };
                fs_train_loss loss;
                for (uint32_t i = 0; i < N_IDS && turn; i++)
                    targets[i] = slopes[i] == 0 ? -1 : targets[i];
                fs_trainer_begin(b.t, &totals);
                assert_ok(fs_trainer_run(b.t, &seq, 1, &err), err);
                fs_trainer_end(b.t, &loss);
                if (turn == 0)
                    memcpy(want, p->g, p->n_floats * sizeof *want);
            }
            assert_memory_equal(want, p->g, p->n_floats * sizeof *want);
            assert_memory_equal(logp[0] + learnt[c][0], logp[1] + learnt[c][0], (learnt[c][1] - learnt[c][0]) * sizeof(float));
            for (uint32_t i = 0; i < N_IDS; i++)
                assert_true(slopes[i] != 0 || logp[1][i] == 0);
        }
        free(want);
        close_bed(&b);
    }
}

static double cosine(const float *a, const float *b, size_t n, double *ret_norm)
{
    double aa = 0, bb = 0, ab = 0;

    for (size_t i = 0; i < n; i++) {
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
        ab += (double)a[i] * (double)b[i];
    }
    *ret_norm = sqrt(aa);
    return ab / (sqrt(aa) * sqrt(bb) + 1e-300);
}

/* Rounded operands: loss and gradient are near those of class RN1, and are others. The fixtures' weights are so large that every
 * summand shows, and rounding flips choices of experts; those of a model from nothing are not. */
static void bf16_is_near_f32(void **state)
{
    static const char *const names[] = { "ds_v3", "ds_v2_lite", "ds_v2_group", "deepseek_moe", "qwen3", "llama3", "long_qwen2" };
    fs_error err;

    (void)state;
    for (size_t f = 0; f < 2 * sizeof names / sizeof *names; f++) {
        const char *name = names[f / 2];
        bool fresh = f % 2, mtp = f / 2 == 0;
        fs_trainer_options o = { .mtp = mtp, .mtp_weight = mtp ? 0.3 : 0, .tokens_max = N_IDS, .sequences_max = 6 };
        struct bed b[2];
        double loss[2], cos, norm;
        fs_params *p[2];
        for (int i = 0; i < 2; i++) {
            o.bf16 = i;
            assert_ok(open_bed(&b[i], name, 2, fs_isa_detect(), o, &err), err);
            p[i] = fs_trainer_params(b[i].t);
            if (fresh) {
                fs_params_init(p[i], 1, 0.02);
                fs_trainer_pack(b[i].t);
            }
            make_ids(fs_weights_config(b[i].weights)->vocab_size, 3);
            loss[i] = step(b[i].t, 3, 3);
        }
        assert_true(loss[0] != loss[1]);
        if (fabs(loss[0] - loss[1]) > 1e-2 * loss[0])
            fail_msg("%s: the loss is %g, in bf16 %g", name, loss[0], loss[1]);
        cos = cosine(p[0]->g, p[1]->g, p[0]->n_trained, &norm);
        if (cos < (fresh ? 0.999 : 0.97))
            fail_msg("%s: the cosine of the gradients is %g", name, cos);
        for (size_t i = 0; fresh && i < p[0]->n; i++) {
            const fs_param *a = &p[0]->items[i], *c = &p[1]->items[i];
            double of_all = norm, own;
            cos = a->g ? cosine(a->g, c->g, a->n, &own) : 1;
            if (a->g && !strstr(a->name, ".experts.") && /* a token more or less is much of an expert */ own > 0.01 * of_all && cos < 0.998)
                fail_msg("%s: the cosine of the gradients of %s is %g", name, a->name, cos);
        }
        close_bed(&b[0]);
        close_bed(&b[1]);
    }
}

/* The same gradients from 500 tokens in one document as from a plain sum would need a reference; that a second step leaves
 * nothing behind does not. */
static void a_step_leaves_nothing_behind(void **state)
{
    fs_trainer_options o = { .mtp = true, .mtp_weight = 0.3, .balance_weight = 1e-2, .tokens_max = N_IDS, .sequences_max = 6 };
    struct bed b;
    float *want;
    fs_params *p;
    fs_error err;

    (void)state;
    assert_ok(open_bed(&b, "ds_v3", 2, fs_isa_detect(), o, &err), err);
    p = fs_trainer_params(b.t);
    make_ids(fs_weights_config(b.weights)->vocab_size, 3);
    step(b.t, 1, 1);
    want = malloc(p->n_floats * sizeof *want);
    memcpy(want, p->g, p->n_floats * sizeof *want);
    make_ids(fs_weights_config(b.weights)->vocab_size, 11);
    step(b.t, 3, 2);
    assert_true(memcmp(want, p->g, p->n_floats * sizeof *want) != 0);
    make_ids(fs_weights_config(b.weights)->vocab_size, 3);
    step(b.t, 1, 1);
    assert_memory_equal(want, p->g, p->n_floats * sizeof *want);
    free(want);
    close_bed(&b);
}

/* What is frozen has no gradient, and the gradients of the others are the same to the bit: no product that is left out leaves stale
 * operands to those behind it. */
static void freezing_changes_no_other_gradient(void **state)
{
    static const struct {
        const char *fixture, *globs[4];
    } cases[] = {
        { "ds_v3", { "model.embed_tokens.weight", "*.experts.[0-3].*", "*.q_a_proj.weight", "*norm.weight" } },
        { "ds_v3", { "*.experts.*.gate_proj.weight", "*.kv_b_proj.weight", "*.shared_experts.gate_proj.weight", "lm_head.weight" } },
        { "qwen2_tied", { "*.q_proj.*", "*.gate_proj.weight", "model.embed_tokens.weight" } },
        { "qwen3", { "*.k_proj.weight", "*_norm.weight", "*.down_proj.weight", "model.layers.0.*" } },
    };
    fs_error err;

    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        bool mtp = strcmp(cases[c].fixture, "ds_v3") == 0;
        fs_trainer_options o = { .mtp = mtp, .mtp_weight = mtp ? 0.3 : 0, .balance_weight = mtp ? 1e-3 : 0, .tokens_max = N_IDS, .sequences_max = 6 };
        struct bed b;
        fs_params *p;
        float *want;
        size_t n_frozen = 0, n_floats = 0;
        double loss;
        assert_ok(open_bed(&b, cases[c].fixture, 2, fs_isa_detect(), o, &err), err);
        p = fs_trainer_params(b.t);
        make_ids(fs_weights_config(b.weights)->vocab_size, 3);
        loss = step(b.t, 6, 4);
        want = malloc(p->n_floats * sizeof *want);
        memcpy(want, p->g, p->n_floats * sizeof *want);
        for (int i = 0; i < 4 && cases[c].globs[i]; i++)
            assert_ok(fs_params_freeze(p, cases[c].globs[i], &err), err);
        memset(p->g, 0, p->n_floats * sizeof *p->g);
        assert_true(step(b.t, 6, 4) == loss);
        for (size_t i = 0; i < p->n; i++) {
            const fs_param *item = &p->items[i];
            n_frozen += item->frozen;
            n_floats += item->fixed ? 0 : item->n;
            assert_true(item->fixed == !item->g);
            for (size_t j = 0; item->fixed && j < item->n; j++)
                assert_true(p->g[item->offset + j] == 0);
            if (!item->fixed)
                assert_memory_equal(item->g, want + item->offset, item->n * sizeof *want);
        }
        assert_true(n_frozen >= 4 && n_floats == p->n_trained);
        free(want);
        close_bed(&b);
    }
}

/* DeepSeek-V3, section 2.1.2: up where the load is below the mean, down where it is above. */
static float moved(const uint64_t *load, uint32_t n, uint32_t e, float bias, float rate)
{
    double mean = 0;

    for (uint32_t i = 0; i < n; i++)
        mean += (double)load[i];
    mean /= n;
    return (double)load[e] < mean ? bias + rate : (double)load[e] > mean ? bias - rate : bias;
}

static void biases_move_by_the_rule(void **state)
{
    static const double rates[2] = { 1e-3, 0 };
    static float want[8][64];
    fs_trainer_options o = { .mtp = true, .tokens_max = N_IDS, .sequences_max = 1 };
    struct bed b;
    uint32_t n, n_moved = 0, n_still = 0;
    fs_error err;

    (void)state;
    assert_ok(open_bed(&b, "ds_v3", 2, fs_isa_detect(), o, &err), err);
    n = fs_weights_config(b.weights)->n_routed_experts;
    make_ids(fs_weights_config(b.weights)->vocab_size, 3);
    for (int turn = 0; turn < 8; turn++) { /* each rate; loads as they are, and some that are the mean; biases that move, and frozen ones */
        bool even = turn / 2 % 2, frozen = turn >= 4;
        float rate = (float)rates[turn % 2];
        if (turn == 4)
            assert_ok(fs_params_freeze(fs_trainer_params(b.t), "*.e_score_correction_bias", &err), err);
        step(b.t, 1, 1);
        for (uint32_t i = 0; i < b.t->n_layers; i++) {
            fs_train_layer *l = &b.t->layers[i];
            const uint64_t *load = fs_trainer_expert_load(b.t, i);
            for (uint32_t e = 0; l->correction_bias && e < n; e++) {
                if (even)
                    l->load[e] = 7 + 2 * (e % 3 == 1) - 2 * (e % 3 == 2); /* of 3 k + 1 experts */
                l->correction_bias->w[e] = 0.3f - 0.017f * (float)(e * (i + 1));
            }
            for (uint32_t e = 0; l->correction_bias && e < n; e++) {
                want[i][e] = frozen ? l->correction_bias->w[e] : moved(load, n, e, l->correction_bias->w[e], rate);
                n_moved += memcmp(&want[i][e], &l->correction_bias->w[e], sizeof **want) != 0;
                n_still += even && load[e] == 7;
            }
        }
        fs_trainer_move_biases(b.t, rates[turn % 2]);
        for (uint32_t i = 0; i < b.t->n_layers; i++)
            if (b.t->layers[i].correction_bias)
                assert_memory_equal(want[i], b.t->layers[i].correction_bias->w, n * sizeof **want);
    }
    assert_true(n % 3 == 1 && n_moved > n && n_still > n);
    close_bed(&b);
}

/* A loss that is not finite names its token and the weight, or what the first such activation came out of. */
static void what_spoils_the_loss_is_named(void **state)
{
    static const struct {
        const char *fixture, *weight, *words[3];
        float value;
        bool all, mtp;
    } cases[] = {
        { "qwen2", "model.layers.0.mlp.up_proj.weight", { "token 0 of", "is a NaN", "weight 'model.layers.0.mlp.up_proj.weight' holds a NaN at row 1, column 2" }, NAN, false, false },
        { "qwen2", "model.layers.1.self_attn.q_proj.weight", { "token ", "of the step is ", "weight 'model.layers.1.self_attn.q_proj.weight' holds an infinity at row 1, column 2" }, INFINITY, false, false },
        { "ds_v3", "model.layers.3.eh_proj.weight", { "MTP loss of token 0 of", "is a NaN", "weight 'model.layers.3.eh_proj.weight' holds a NaN" }, NAN, false, true },
        { "qwen2", "model.layers.0.mlp.down_proj.weight", { "token ", "of the step is ", "the weights are finite, what comes out of 'model.layers.0.mlp' is not" }, 3e38f, true, false },
        { "qwen2", "model.layers.1.self_attn.o_proj.weight", { "token ", "of the step is ", "what comes out of 'model.layers.1.self_attn' is not" }, 3e38f, true, false },
        { "ds_v3", "model.norm.weight", { "token ", "of the step is ", "what comes out of 'lm_head.weight' is not" }, 1e38f, true, true },
        { "ds_v3", "model.layers.3.eh_proj.weight", { "MTP loss of token ", "of the step is ", "what comes out of 'model.layers.3.eh_proj.weight' is not" }, 3e38f, true, true },
    };
    fs_error err;

    (void)state;
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        bool evaluates = i % 2;
        fs_trainer_options o = { .mtp = cases[i / 2].mtp, .mtp_weight = 0.3, .tokens_max = N_IDS, .sequences_max = 1 };
        fs_train_sequence seq = { .ids = ids, .targets = targets, .n = FEW };
        struct bed b;
        fs_param *p;
        assert_ok(open_bed(&b, cases[i / 2].fixture, 2, fs_isa_detect(), o, &err), err);
        make_ids(fs_weights_config(b.weights)->vocab_size, 3);
        p = fs_params_find(fs_trainer_params(b.t), cases[i / 2].weight);
        for (size_t j = 0; j < p->n; j++)
            if (cases[i / 2].all || j == (size_t)p->cols + 2)
                p->w[j] = cases[i / 2].value;
        fs_trainer_pack(b.t);
        fs_trainer_begin(b.t, &(fs_train_totals){ .n_targets = FEW, .n_mtp_targets = FEW, .n_sequences = 1 });
        assert_int_equal((evaluates ? fs_trainer_evaluate : fs_trainer_run)(b.t, &seq, 1, &err), FS_ERR_NUMERIC);
        for (int w = 0; w < 3; w++)
            assert_sentence(err, cases[i / 2].words[w]);
        close_bed(&b);
    }
}

/* Of a norm that is not finite the first gradient that is not is named, or whose squares overflow. */
static void what_spoils_the_norm_is_named(void **state)
{
    static const struct {
        float value;
        const char *word;
    } cases[] = { { NAN, "the gradient of 'model.layers.1.mlp.up_proj.weight' is a NaN at row 1, column 2" },
                  { -INFINITY, "the gradient of 'model.layers.1.mlp.up_proj.weight' is an infinity at row 1, column 2" },
                  { 3e30f, "the gradient of 'model.layers.1.mlp.up_proj.weight' is finite, the sum of its squares is inf" } };
    fs_trainer_options o = { .tokens_max = N_IDS, .sequences_max = 1 };
    struct bed b;
    fs_param *p;
    float norm = -1;
    fs_error err;

    (void)state;
    assert_ok(open_bed(&b, "qwen2", 2, fs_isa_detect(), o, &err), err);
    make_ids(fs_weights_config(b.weights)->vocab_size, 3);
    step_of(b.t, FEW, 1, 1);
    p = fs_params_find(fs_trainer_params(b.t), "model.layers.1.mlp.up_proj.weight");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        p->g[p->cols + 2] = cases[i].value;
        assert_int_equal(fs_params_finite_norm(&b.kernels, fs_trainer_params(b.t), &norm, &err), FS_ERR_NUMERIC);
        assert_sentence(err, cases[i].word);
    }
    assert_true(norm == -1);
    p->g[p->cols + 2] = 0;
    assert_ok(fs_params_finite_norm(&b.kernels, fs_trainer_params(b.t), &norm, &err), err);
    assert_true(norm > 0);
    close_bed(&b);
}

static void refusals_are_sentences(void **state)
{
    fs_trainer_options o = { .tokens_max = 8, .sequences_max = 1 };
    int32_t bad[2] = { 1, 99999 };
    struct bed b;
    fs_error err;

    (void)state;
    assert_int_equal(open_bed(&b, "ds_v4", 1, 0, o, &err), FS_ERR_UNSUPPORTED);
    assert_sentence(err, "deepseek_v4");
    close_bed(&b);
    o.mtp = true;
    assert_int_equal(open_bed(&b, "qwen2", 1, 0, o, &err), FS_ERR_ARGUMENT);
    close_bed(&b);
    o.mtp = false;
    assert_ok(open_bed(&b, "qwen2", 1, 0, o, &err), err);
    assert_int_equal(fs_trainer_logits(b.t, &(fs_train_sequence){ .ids = bad, .n = 2 }, 1, NULL, NULL, &err), FS_ERR_ARGUMENT);
    assert_sentence(err, "99999");
    fs_params_find(fs_trainer_params(b.t), "model.layers.0.mlp.up_proj.weight")->w[0] = NAN;
    fs_trainer_pack(b.t);
    fs_trainer_begin(b.t, &(fs_train_totals){ .n_targets = 1, .n_sequences = 1 });
    bad[1] = 2;
    assert_int_equal(fs_trainer_run(b.t, &(fs_train_sequence){ .ids = bad, .targets = bad, .n = 2 }, 1, &err), FS_ERR_NUMERIC);
    close_bed(&b);
}

static void without_memory(void **state)
{
    fs_trainer_options o = { .mtp = true, .tokens_max = 8, .sequences_max = 1 };
    struct bed b;
    fs_error err;
    fs_status rc;
    int n_failures = 0;

    (void)state;
    for (long n = 1; alloc_fail_at(n), (rc = open_bed(&b, "ds_v3", 1, 0, o, &err)) != FS_OK; n++, n_failures++) {
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
        cmocka_unit_test(logits_are_the_engines), cmocka_unit_test(logits_are_the_engines_in_bf16),      cmocka_unit_test(gradients_foretell_the_loss),
        cmocka_unit_test(single_weights_foretell_the_loss), cmocka_unit_test(no_cut_changes_a_bit),
        cmocka_unit_test(no_cut_changes_a_bit_in_bf16), cmocka_unit_test(bf16_is_near_f32),
        cmocka_unit_test(making_again_changes_no_bit), cmocka_unit_test(what_is_not_learnt_is_left_out),
        cmocka_unit_test(a_step_leaves_nothing_behind), cmocka_unit_test(freezing_changes_no_other_gradient),
        cmocka_unit_test(biases_move_by_the_rule),    cmocka_unit_test(what_spoils_the_loss_is_named),
        cmocka_unit_test(what_spoils_the_norm_is_named), cmocka_unit_test(refusals_are_sentences),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
