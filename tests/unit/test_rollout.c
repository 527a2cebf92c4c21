/* Completions on the trainer's own weights: what was drawn with which log-probability is what the trainer computes, to the bit. Run
 * from the tree's root. */
#include "unit.h"

#include "train/policy.h"
#include "train/rollout.h"
#include "train/trainer.h"

#include <math.h>

#define N_ITEMS  9
#define N_MAX    40
#define N_PROMPT 30

static const char *const fixtures[] = { "qwen2", "qwen2_tied", "qwen3", "llama3", "llama_linear", "ds_v2_lite", "ds_v2_group", "ds_v3", "deepseek_moe" };

static const char *adapter; /* of the next bed; NULL: none */
static bool bf16;           /* its class */
static fs_low_rank_options low_rank;

struct bed {
    fs_pool *pool;
    fs_kernels kernels;
    fs_weights *weights;
    fs_trainer *t;
    fs_rollout *r;
};

static void open_bed(struct bed *b, const char *fixture, int threads, unsigned isa, uint32_t sequences_max)
{
    fs_trainer_options o = { .bf16 = bf16, .tokens_max = 2048, .sequences_max = N_ITEMS, .low_rank = adapter ? &low_rank : NULL };
    fs_rollout_options ro = { sequences_max, N_PROMPT + N_MAX, bf16 };
    char path[128];
    fs_error err;

    *b = (struct bed){ 0 };
    snprintf(path, sizeof path, "tests/vectors/%s", fixture);
    fs_kernels_init(&b->kernels, isa);
    assert_ok(fs_pool_new(threads, &b->pool, &err), err);
    assert_ok(fs_weights_open(path, &b->weights, &err), err);
    assert_ok(fs_trainer_new(fs_weights_config(b->weights), b->pool, &b->kernels, &o, &b->t, &err), err);
    assert_ok(fs_params_load(fs_trainer_params(b->t), b->weights, &err), err);
    snprintf(path, sizeof path, "tests/vectors/adapters/%s", adapter ? adapter : "");
    if (adapter)
        assert_ok(fs_params_load_pairs(fs_trainer_params(b->t), path, &err), err);
    fs_trainer_pack(b->t);
    assert_ok(fs_rollout_new(fs_weights_config(b->weights), fs_trainer_params(b->t), b->pool, &b->kernels, &ro, &b->r, &err), err);
    assert_ok(fs_rollout_refresh(b->r, &err), err);
}

static void close_bed(struct bed *b)
{
    fs_rollout_free(b->r);
    fs_trainer_free(b->t);
    fs_weights_close(b->weights);
    fs_pool_free(b->pool);
}

/* Prompts of 1 to N_PROMPT tokens with their completions behind them: rows for the trainer. */
struct batch {
    int32_t ids[N_ITEMS][N_PROMPT + N_MAX], targets[N_ITEMS][N_PROMPT + N_MAX];
    float logp[N_ITEMS][N_MAX], trained[N_ITEMS][N_PROMPT + N_MAX], slopes[N_ITEMS][N_PROMPT + N_MAX];
    fs_sampled items[N_ITEMS];
    fs_train_sequence rows[N_ITEMS];
    uint64_t n_targets;
};

static void make_prompts(struct batch *b, uint32_t vocab)
{
    uint32_t seed = 11;

    memset(b, 0, sizeof *b);
    for (int i = 0; i < N_ITEMS; i++) {
        uint32_t n = 1 + (uint32_t)i * 7 % N_PROMPT;
        for (uint32_t k = 0; k < n; k++) {
            seed = seed * 1664525 + 1013904223;
            b->ids[i][k] = (int32_t)((seed >> 8) % vocab);
        }
        b->items[i] = (fs_sampled){ .prompt = b->ids[i], .n_prompt = n, .stream = (uint32_t)i, .ids = b->ids[i] + n, .logp = b->logp[i],
                                       .n_max = N_MAX - (uint32_t)i };
    }
}

static void make_rows(struct batch *b)
{
    for (int i = 0; i < N_ITEMS; i++) {
        uint32_t p = b->items[i].n_prompt, n = p + b->items[i].n;
        for (uint32_t k = 0; k < n; k++)
            b->targets[i][k] = k + 1 >= p && k + 1 < n ? b->ids[i][k + 1] : -1;
        b->rows[i] = (fs_train_sequence){ .ids = b->ids[i], .targets = b->targets[i], .n = n, .index = (uint64_t)i * 256, .ret_logp = b->trained[i] };
        b->n_targets += b->items[i].n;
    }
}

static const fs_sampling sampling = { .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 5 };

/* Samples and evaluates: every drawn token's log-probability is the trained one, to the bit. */
static void assert_sampled_is_trained(struct bed *bed, struct batch *b, const char *what)
{
    fs_train_totals totals = { 0 };
    size_t n_compared = 0;
    fs_error err;

    make_prompts(b, fs_weights_config(bed->weights)->vocab_size);
    assert_ok(fs_rollout_run(bed->r, &sampling, NULL, 0, b->items, N_ITEMS, &err), err);
    make_rows(b);
    fs_trainer_begin(bed->t, &totals);
    assert_ok(fs_trainer_evaluate(bed->t, b->rows, N_ITEMS, &err), err);
    for (int i = 0; i < N_ITEMS; i++) {
        assert_int_equal(b->items[i].n, b->items[i].n_max);
        for (uint32_t k = 0; k < b->items[i].n; k++, n_compared++)
            if (memcmp(&b->logp[i][k], &b->trained[i][b->items[i].n_prompt - 1 + k], sizeof(float)) != 0)
                fail_msg("%s, completion %d, token %u: drawn with %.9g, trained %.9g", what, i, k, (double)b->logp[i][k],
                         (double)b->trained[i][b->items[i].n_prompt - 1 + k]);
    }
    assert_true(n_compared == 9 * N_MAX - 36);
}

static void sampled_is_trained(void **state)
{
    static struct batch b;

    (void)state;
    for (size_t f = 0; f < sizeof fixtures / sizeof *fixtures; f++) {
        struct bed bed;
        open_bed(&bed, fixtures[f], 2, fs_isa_detect(), 4);
        assert_sampled_is_trained(&bed, &b, fixtures[f]);
        close_bed(&bed);
    }
}

/* Low-rank pairs are the engine's adapter, and follow what training makes of them. */
static void pairs_are_sampled_with(void **state)
{
    static const char *const attention[] = { "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj" };
    static const char *const experts[] = { "gate_proj", "up_proj", "down_proj", "*.mlp.experts.*" };
    static struct batch b, again;
    const struct {
        const char *adapter;
        fs_low_rank_options o;
    } cases[] = { { "ds_v3_attention", { 4, 6, false, attention, 5 } }, { "ds_v3_ffn", { 2, 4, false, experts, 4 } } };
    fs_error err;

    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct bed bed;
        fs_params *p;
        adapter = cases[c].adapter;
        low_rank = cases[c].o;
        open_bed(&bed, "ds_v3", 2, fs_isa_detect(), 4);
        p = fs_trainer_params(bed.t);
        assert_sampled_is_trained(&bed, &b, adapter);
        for (size_t i = 0; i < p->n; i++)
            for (size_t j = 0; p->items[i].is_pair && j < p->items[i].n; j++)
                p->items[i].w[j] *= 1.25f;
        fs_trainer_pack_trained(bed.t);
        assert_ok(fs_rollout_refresh(bed.r, &err), err);
        assert_sampled_is_trained(&bed, &again, adapter);
        assert_true(memcmp(b.logp, again.logp, sizeof b.logp) != 0);
        close_bed(&bed);
    }
    adapter = NULL;
}

/* One at a time, all at once, another instruction set, another number of threads: the same completions. */
static void neighbours_change_nothing(void **state)
{
    static struct batch a, b;
    static const struct {
        int threads;
        bool scalar;
        uint32_t at_once;
    } ways[] = { { 1, false, 1 }, { 3, false, N_ITEMS }, { 2, true, 3 } };
    struct bed bed;
    fs_error err;

    (void)state;
    open_bed(&bed, "ds_v3", 2, fs_isa_detect(), 4);
    make_prompts(&a, fs_weights_config(bed.weights)->vocab_size);
    assert_ok(fs_rollout_run(bed.r, &sampling, NULL, 0, a.items, N_ITEMS, &err), err);
    close_bed(&bed);
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        open_bed(&bed, "ds_v3", ways[w].threads, ways[w].scalar ? 0 : fs_isa_detect(), ways[w].at_once);
        make_prompts(&b, fs_weights_config(bed.weights)->vocab_size);
        assert_ok(fs_rollout_run(bed.r, &sampling, NULL, 0, b.items, N_ITEMS, &err), err);
        assert_memory_equal(a.ids, b.ids, sizeof a.ids);
        assert_memory_equal(a.logp, b.logp, sizeof a.logp);
        close_bed(&bed);
    }
}

/* A prompt that several have is run once, at any moment that one of them comes; each gets what it gets alone. */
static void a_shared_prompt_changes_nothing(void **state)
{
    static const char *const names[] = { "ds_v3", "qwen3", "qwen2_tied", "deepseek_moe" };
    static struct batch b, alone;
    fs_error err;

    (void)state;
    for (size_t f = 0; f < 2 * sizeof names / sizeof *names; f++) {
        static const uint32_t rooms[3] = { N_ITEMS, 4, 2 };
        struct bed bed;
        bf16 = f % 2;
        for (int turn = -1; turn < 3; turn++) {
            open_bed(&bed, names[f / 2], 2, fs_isa_detect(), turn < 0 ? 1 : rooms[turn]);
            make_prompts(&b, fs_weights_config(bed.weights)->vocab_size);
            for (int i = 0; i < N_ITEMS; i++) { /* of three prompts, one of them of one token; completions end one after the other */
                int of = i % 3 == 2 ? 0 : 1 + i % 3;
                memcpy(b.ids[i], b.ids[of], sizeof b.ids[i]);
                b.items[i].n_prompt = b.items[of].n_prompt;
                b.items[i].ids = b.ids[i] + b.items[i].n_prompt;
            }
            if (turn < 0)
                for (int i = 0; i < N_ITEMS; i++)
                    assert_ok(fs_rollout_run(bed.r, &sampling, NULL, 0, &b.items[i], 1, &err), err);
            else
                assert_ok(fs_rollout_run(bed.r, &sampling, NULL, 0, b.items, N_ITEMS, &err), err);
            if (turn < 0)
                memcpy(&alone, &b, sizeof b);
            assert_memory_equal(alone.ids, b.ids, sizeof b.ids);
            assert_memory_equal(alone.logp, b.logp, sizeof b.logp);
            close_bed(&bed);
        }
    }
    bf16 = false;
}

static void stop_tokens_stop(void **state)
{
    static struct batch a, b;
    struct bed bed;
    int32_t stop;
    fs_error err;

    (void)state;
    open_bed(&bed, "qwen2", 2, fs_isa_detect(), 3);
    make_prompts(&a, fs_weights_config(bed.weights)->vocab_size);
    assert_ok(fs_rollout_run(bed.r, &sampling, NULL, 0, a.items, N_ITEMS, &err), err);
    stop = a.items[4].ids[6];
    make_prompts(&b, fs_weights_config(bed.weights)->vocab_size);
    assert_ok(fs_rollout_run(bed.r, &sampling, &stop, 1, b.items, N_ITEMS, &err), err);
    for (int i = 0; i < N_ITEMS; i++) { /* cut there, and the same before */
        uint32_t n = 0;
        while (n < a.items[i].n && a.items[i].ids[n] != stop)
            n++;
        assert_int_equal(b.items[i].stopped, n < a.items[i].n);
        assert_int_equal(b.items[i].n, n < a.items[i].n ? n + 1 : a.items[i].n);
        assert_memory_equal(a.items[i].ids, b.items[i].ids, b.items[i].n * sizeof(int32_t));
    }
    assert_true(b.items[4].stopped && b.items[4].n <= 7);
    b.items[0].n_max = N_PROMPT + N_MAX + 1;
    assert_int_equal(fs_rollout_run(bed.r, &sampling, NULL, 0, b.items, 1, &err), FS_ERR_CONTEXT_FULL);
    close_bed(&bed);
}

/* Changed masters count after a refresh, and agree with the trainer again. */
static void refreshed_weights_are_the_trainers(void **state)
{
    static struct batch a, b;
    struct bed bed;
    fs_params *p;
    fs_train_totals totals = { 0 };
    fs_error err;

    (void)state;
    open_bed(&bed, "ds_v3", 2, fs_isa_detect(), 4);
    p = fs_trainer_params(bed.t);
    make_prompts(&a, fs_weights_config(bed.weights)->vocab_size);
    assert_ok(fs_rollout_run(bed.r, &sampling, NULL, 0, a.items, N_ITEMS, &err), err);
    for (size_t i = 0; i < p->n; i++)
        for (size_t k = 0; k < p->items[i].n; k++)
            p->items[i].w[k] *= 1.03125f;
    fs_trainer_pack(bed.t);
    assert_ok(fs_rollout_refresh(bed.r, &err), err);
    make_prompts(&b, fs_weights_config(bed.weights)->vocab_size);
    assert_ok(fs_rollout_run(bed.r, &sampling, NULL, 0, b.items, N_ITEMS, &err), err);
    assert_memory_not_equal(a.logp, b.logp, sizeof a.logp);
    make_rows(&b);
    fs_trainer_begin(bed.t, &totals);
    assert_ok(fs_trainer_evaluate(bed.t, b.rows, N_ITEMS, &err), err);
    for (int i = 0; i < N_ITEMS; i++)
        assert_memory_equal(b.logp[i], b.trained[i] + b.items[i].n_prompt - 1, b.items[i].n * sizeof(float));
    p->items[0].w[0] = NAN;
    assert_int_equal(fs_rollout_refresh(bed.r, &err), FS_ERR_NUMERIC);
    close_bed(&bed);
}

/* Slopes of -1 / n are plain training, to the bit; a policy's slopes foretell how its loss moves along their gradient. */
static void slopes_are_the_losses(void **state)
{
    static struct batch b;
    struct bed bed;
    fs_params *p;
    fs_train_loss loss;
    float *plain, logp[N_ITEMS * N_MAX], old[N_ITEMS * N_MAX], slopes[N_ITEMS * N_MAX];
    double advantages[N_ITEMS], moved[2], norm = 0;
    size_t begin[N_ITEMS + 1] = { 0 };
    fs_policy_options o = { .kind = FS_POLICY_DAPO, .epsilon_low = 0.2, .epsilon_high = 0.28, .max_tokens = N_MAX };
    fs_policy_batch policy = { .n_rows = N_ITEMS, .begin = begin, .logp = logp, .old = old, .advantages = advantages };
    fs_policy_result result;
    fs_error err;

    (void)state;
    open_bed(&bed, "qwen2", 2, fs_isa_detect(), 4); /* no routing, whose changes are no slope */
    p = fs_trainer_params(bed.t);
    make_prompts(&b, fs_weights_config(bed.weights)->vocab_size);
    assert_ok(fs_rollout_run(bed.r, &sampling, NULL, 0, b.items, N_ITEMS, &err), err);
    make_rows(&b);
    fs_trainer_begin(bed.t, &(fs_train_totals){ .n_targets = b.n_targets, .n_sequences = N_ITEMS });
    assert_ok(fs_trainer_run(bed.t, b.rows, N_ITEMS, &err), err);
    fs_trainer_end(bed.t, &loss);
    plain = malloc(p->n_floats * sizeof *plain);
    memcpy(plain, p->g, p->n_floats * sizeof *plain);
    for (int i = 0; i < N_ITEMS; i++) {
        begin[i + 1] = begin[i] + b.items[i].n;
        memcpy(old + begin[i], b.logp[i], b.items[i].n * sizeof *old);
        advantages[i] = i % 2 ? -1.25 : 0.5 + i;
        for (uint32_t k = 0; k < b.rows[i].n; k++)
            b.slopes[i][k] = -(float)(1 / (double)b.n_targets);
        b.rows[i].slopes = b.slopes[i];
    }
    fs_trainer_begin(bed.t, &(fs_train_totals){ .n_targets = b.n_targets, .n_sequences = N_ITEMS });
    assert_ok(fs_trainer_run(bed.t, b.rows, N_ITEMS, &err), err);
    fs_trainer_end(bed.t, &loss);
    assert_memory_equal(plain, p->g, p->n_floats * sizeof *plain);

    memcpy(logp, old, sizeof logp);
    assert_ok(fs_policy_loss(&o, &policy, &result, slopes, &err), err);
    for (int i = 0; i < N_ITEMS; i++)
        memcpy(b.slopes[i] + b.items[i].n_prompt - 1, slopes + begin[i], b.items[i].n * sizeof *slopes);
    fs_trainer_begin(bed.t, &(fs_train_totals){ .n_targets = b.n_targets, .n_sequences = N_ITEMS });
    assert_ok(fs_trainer_run(bed.t, b.rows, N_ITEMS, &err), err);
    fs_trainer_end(bed.t, &loss);
    for (size_t i = 0; i < p->n_floats; i++)
        norm += (double)p->g[i] * p->g[i];
    assert_true(norm > 0);
    memcpy(plain, p->g, p->n_floats * sizeof *plain); /* the direction */
    for (int side = 0; side < 2; side++) {
        double by = (side ? -1 : 1) * 2e-4 / sqrt(norm);
        for (size_t i = 0; i < p->n_floats; i++)
            p->w[i] += (float)((side ? 2 : 1) * by * plain[i]);
        fs_trainer_pack(bed.t);
        fs_trainer_begin(bed.t, &(fs_train_totals){ 0 });
        assert_ok(fs_trainer_evaluate(bed.t, b.rows, N_ITEMS, &err), err);
        for (int i = 0; i < N_ITEMS; i++)
            memcpy(logp + begin[i], b.trained[i] + b.items[i].n_prompt - 1, b.items[i].n * sizeof *logp);
        assert_ok(fs_policy_loss(&o, &policy, &result, slopes, &err), err);
        moved[side] = result.loss;
    }
    /* (L(w + h g/|g|) - L(w - h g/|g|)) / 2 h = |g| */
    if (fabs((moved[0] - moved[1]) / 4e-4 - sqrt(norm)) > 0.01 * sqrt(norm))
        fail_msg("the loss moves by %.6g, the gradient's norm is %.6g", (moved[0] - moved[1]) / 4e-4, sqrt(norm));
    free(plain);
    close_bed(&bed);
}

/* All of it again in class RN1-bf16. */
static int in_bf16(void **state)
{
    (void)state;
    bf16 = true;
    return 0;
}

static int in_f32(void **state)
{
    (void)state;
    bf16 = false;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(sampled_is_trained, in_bf16, in_f32),
                                        cmocka_unit_test_setup_teardown(pairs_are_sampled_with, in_bf16, in_f32),
                                        cmocka_unit_test_setup_teardown(neighbours_change_nothing, in_bf16, in_f32),
                                        cmocka_unit_test_setup_teardown(refreshed_weights_are_the_trainers, in_bf16, in_f32),
                                        cmocka_unit_test(sampled_is_trained), cmocka_unit_test(pairs_are_sampled_with),
                                        cmocka_unit_test(neighbours_change_nothing), cmocka_unit_test(a_shared_prompt_changes_nothing),
                                        cmocka_unit_test(stop_tokens_stop), cmocka_unit_test(refreshed_weights_are_the_trainers),
                                        cmocka_unit_test(slopes_are_the_losses) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
