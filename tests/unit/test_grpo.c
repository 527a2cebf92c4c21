/* A policy learns what is rewarded, and each of its steps is the same whatever runs it. Run from the tree's root. */
#include "unit.h"

#include "train/grpo.h"

#include <math.h>

#define N_PROMPT 4
#define N_STEPS  12

struct bed {
    fs_pool *pool;
    fs_kernels kernels;
    fs_weights *weights;
    fs_trainer *t, *reference;
    fs_grpo *g;
    fs_optimizer optimizer;
    uint32_t vocab;
};

static fs_grpo_options options(void)
{
    return (fs_grpo_options){ .prompts = 4, .group = 8, .prompt_max = N_PROMPT, .max_tokens = 6, .sequences_max = 16, .micro_tokens = 512,
                              .temperature = 1, .updates = 1, .policy = { .kind = FS_POLICY_DR_GRPO, .epsilon_low = 0.2, .epsilon_high = 0.2 }, .seed = 3 };
}

static const fs_low_rank_options *low_rank; /* of trainers that are opened; NULL: none */
static bool bf16;
static fs_trainer_options more; /* of trainers that are opened: recompute, mtp, balance_weight */

static fs_trainer *open_trainer(struct bed *b, const fs_grpo_options *o)
{
    fs_trainer_options room = { .bf16 = bf16, .low_rank = low_rank, .recompute = more.recompute, .mtp = more.mtp, .mtp_weight = more.mtp_weight,
                                .balance_weight = more.balance_weight };
    fs_trainer *t = NULL;
    fs_error err;

    fs_grpo_trainer_room(o, &room);
    assert_ok(fs_trainer_new(fs_weights_config(b->weights), b->pool, &b->kernels, &room, &t, &err), err);
    assert_ok(fs_params_load(fs_trainer_params(t), b->weights, &err), err);
    if (low_rank)
        fs_params_init_pairs(fs_trainer_params(t), 5);
    fs_trainer_pack(t);
    return t;
}

static void open_bed(struct bed *b, const char *fixture, const fs_grpo_options *o, int threads, unsigned isa)
{
    char path[128];
    fs_error err;

    *b = (struct bed){ .optimizer = fs_optimizer_default() };
    b->optimizer.weight_decay = 0;
    snprintf(path, sizeof path, "tests/vectors/%s", fixture);
    fs_kernels_init(&b->kernels, isa);
    assert_ok(fs_pool_new(threads, &b->pool, &err), err);
    assert_ok(fs_weights_open(path, &b->weights, &err), err);
    b->vocab = fs_weights_config(b->weights)->vocab_size;
    b->t = open_trainer(b, o);
    assert_ok(fs_params_add_moments(fs_trainer_params(b->t), &err), err);
    if (o->policy.beta > 0)
        b->reference = open_trainer(b, o);
    assert_ok(fs_grpo_new(b->t, b->reference, fs_weights_config(b->weights), b->pool, &b->kernels, o, &b->g, &err), err);
}

static void close_bed(struct bed *b)
{
    fs_grpo_free(b->g);
    fs_trainer_free(b->t);
    fs_trainer_free(b->reference);
    fs_weights_close(b->weights);
    fs_pool_free(b->pool);
}

static fs_status prompt(void *ud, uint64_t number, int32_t *ret_ids, uint32_t n_max, uint32_t *ret_n, fs_error *err)
{
    const struct bed *b = ud;

    (void)err;
    *ret_n = 1 + (uint32_t)(number % n_max);
    for (uint32_t i = 0; i < *ret_n; i++)
        ret_ids[i] = (int32_t)((number * 31 + i * 7 + 1) % b->vocab);
    return FS_OK;
}

/* Even ids are good. */
static fs_status reward(void *ud, const uint64_t *numbers, const fs_sampled *items, size_t n, double *ret_rewards, bool *ret_right, fs_error *err)
{
    (void)ud;
    (void)numbers;
    (void)err;
    for (size_t i = 0; i < n; i++) {
        uint32_t even = 0;
        for (uint32_t k = 0; k < items[i].n; k++)
            even += items[i].ids[k] % 2 == 0;
        ret_rewards[i] = (double)even / items[i].n;
        ret_right[i] = even == items[i].n;
    }
    return FS_OK;
}

static void what_is_rewarded_is_learnt(void **state)
{
    static const char *const fixtures[] = { "qwen2", "ds_v3" };
    fs_error err;

    (void)state;
    for (int f = 0; f < 2; f++)
        for (int k = 0; k < FS_POLICY_END; k++) {
            fs_grpo_options o = options();
            struct bed b;
            double first = 0, last = 0;
            o.policy.kind = (fs_policy_kind)k;
            o.policy.epsilon_high = k == FS_POLICY_CISPO ? 5 : 0.2;
            o.updates = k == FS_POLICY_GSPO ? 2 : 1;
            o.policy.beta = k == FS_POLICY_GRPO ? 0.001 : 0;
            open_bed(&b, fixtures[f], &o, 2, fs_isa_detect());
            fs_grpo_source source = { prompt, reward, &b };
            for (uint64_t s = 0; s < N_STEPS; s++) {
                fs_grpo_step r;
                assert_ok(fs_grpo_run(b.g, s, &source, &b.optimizer, 3e-3, true, &r, &err), err);
                assert_true(r.off_policy == 0); /* drawn and trained log-probabilities are one */
                assert_true(r.n_tokens == 4 * 8 * 6 && r.truncated == 1 && r.length == 6 && isfinite(r.grad_norm));
                if (o.updates == 1)
                    assert_true(r.policy.mean_ratio == 1 && r.policy.clipped_low == 0 && r.policy.clipped_high == 0);
                first += s < 3 ? r.reward / 3 : 0;
                last += s >= N_STEPS - 3 ? r.reward / 3 : 0;
            }
            if (!(last > first + 0.15))
                fail_msg("%s, %s: the reward was %.3f, is %.3f", fixtures[f], fs_policy_name(o.policy.kind), first, last);
            close_bed(&b);
        }
}

static void steps_are_the_same_everywhere(void **state)
{
    static const struct {
        int threads;
        bool scalar;
        uint32_t at_once, micro_tokens;
    } ways[] = { { 2, false, 16, 512 }, { 1, false, 5, 256 }, { 3, true, 32, 1024 } };
    float *want = NULL;
    fs_error err;

    (void)state;
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        fs_grpo_options o = options();
        struct bed b;
        fs_params *p;
        o.sequences_max = ways[w].at_once;
        o.micro_tokens = ways[w].micro_tokens;
        o.bias_rate = 0.001;
        open_bed(&b, "ds_v3", &o, ways[w].threads, ways[w].scalar ? 0 : fs_isa_detect());
        fs_grpo_source source = { prompt, reward, &b };
        for (uint64_t s = 0; s < 3; s++) {
            fs_grpo_step r;
            assert_ok(fs_grpo_run(b.g, s, &source, &b.optimizer, 1e-3, false, &r, &err), err);
        }
        p = fs_trainer_params(b.t);
        if (!want) {
            want = malloc(p->n_floats * sizeof *want);
            memcpy(want, p->w, p->n_floats * sizeof *want);
        }
        assert_memory_equal(want, p->w, p->n_floats * sizeof *want);
        close_bed(&b);
    }
    free(want);
}

/* In class RN1-bf16, pairs alone: what is drawn is what is trained, rewards rise, the model stays, and every way of running it ends alike. */
static void pairs_learn_in_bf16(void **state)
{
    static const char *const all[] = { "all-linear" };
    static const fs_low_rank_options pairs = { 4, 8, false, all, 1 };
    static const struct {
        int threads;
        bool scalar;
        uint32_t at_once, micro_tokens;
    } ways[] = { { 2, false, 16, 512 }, { 3, true, 5, 256 } };
    float *want = NULL;
    fs_error err;

    (void)state;
    bf16 = true;
    low_rank = &pairs;
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        fs_grpo_options o = options();
        struct bed b;
        fs_params *p;
        float *before;
        double first = 0, last = 0;
        o.sequences_max = ways[w].at_once;
        o.micro_tokens = ways[w].micro_tokens;
        open_bed(&b, "ds_v3", &o, ways[w].threads, ways[w].scalar ? 0 : fs_isa_detect());
        p = fs_trainer_params(b.t);
        before = malloc(p->n_floats * sizeof *before);
        memcpy(before, p->w, p->n_floats * sizeof *before);
        fs_grpo_source source = { prompt, reward, &b };
        for (uint64_t s = 0; s < N_STEPS; s++) {
            fs_grpo_step r;
            assert_ok(fs_grpo_run(b.g, s, &source, &b.optimizer, 3e-2, true, &r, &err), err);
            if (!(r.off_policy == 0 && r.policy.mean_ratio == 1 && isfinite(r.grad_norm)))
                fail_msg("step %u: off by %g, ratio %g, norm %g", (unsigned)s, r.off_policy, r.policy.mean_ratio, (double)r.grad_norm);
            first += s < 3 ? r.reward / 3 : 0;
            last += s >= N_STEPS - 3 ? r.reward / 3 : 0;
        }
        if (!(last > first + 0.1))
            fail_msg("the reward was %.3f, is %.3f", first, last);
        for (size_t i = 0; i < p->n; i++) {
            const fs_param *q = &p->items[i];
            assert_true(q->is_pair || memcmp(q->w, before + (q->w - p->w), q->n * sizeof *q->w) == 0);
        }
        if (!want) {
            want = malloc(p->n_floats * sizeof *want);
            memcpy(want, p->w, p->n_floats * sizeof *want);
        }
        assert_memory_equal(want, p->w, p->n_floats * sizeof *want);
        free(before);
        close_bed(&b);
    }
    free(want);
    low_rank = NULL;
    bf16 = false;
}

/* Prompts of an odd number give groups without spread, one and the same reward; they are given up for others, round by round. */
static fs_status odd_is_flat(void *ud, const uint64_t *numbers, const fs_sampled *items, size_t n, double *ret_rewards, bool *ret_right, fs_error *err)
{
    fs_status rc = reward(ud, numbers, items, n, ret_rewards, ret_right, err);

    for (size_t i = 0; i < n; i++) /* of the others the rewards are told apart by their places */
        ret_rewards[i] = numbers[i / 8] % 2 ? 0.5 : ret_rewards[i] + (double)(i % 8) * 1e-3;
    return rc;
}

/* What steps of two updates end in, of completions that may stop early, in groups that are given up. */
static float *end_of_steps(const char *fixture, size_t keep_bytes, uint32_t at_once, unsigned isa, size_t *ret_n)
{
    fs_grpo_options o = options();
    float *end;
    struct bed b;
    fs_params *p;
    fs_error err;

    o.keep_bytes_max = keep_bytes;
    o.sequences_max = at_once;
    o.micro_tokens = at_once == 16 ? 512 : 256;
    o.updates = 2;
    o.resamples = 1;
    o.bias_rate = 0.001;
    o.n_stop_ids = 8;
    for (int i = 0; i < 8; i++)
        o.stop_ids[i] = i * 5;
    open_bed(&b, fixture, &o, 2, isa);
    fs_grpo_source source = { prompt, odd_is_flat, &b };
    for (uint64_t s = 0; s < 3; s++) {
        fs_grpo_step r;
        assert_ok(fs_grpo_run(b.g, s, &source, &b.optimizer, 1e-3, s == 2, &r, &err), err);
        assert_true(r.truncated > 0 && r.off_policy == 0);
    }
    p = fs_trainer_params(b.t);
    *ret_n = p->n_floats;
    end = malloc(p->n_floats * sizeof *end);
    memcpy(end, p->w, p->n_floats * sizeof *end);
    close_bed(&b);
    return end;
}

static size_t kept_bytes(const char *fixture, bool logits)
{
    fs_weights *w;
    fs_activations a;
    fs_error err;
    char path[128];
    size_t n;

    snprintf(path, sizeof path, "tests/vectors/%s", fixture);
    assert_ok(fs_weights_open(path, &w, &err), err);
    assert_ok(fs_activations_init(&a, fs_weights_config(w), logits, &err), err);
    n = 4 * 8 * (N_PROMPT + 6) * a.row * sizeof(float);
    fs_activations_done(&a);
    fs_weights_close(w);
    return n;
}

static void assert_keeping_moves_no_bit(const char *fixture, const char *what, int n_ways)
{
    size_t with = kept_bytes(fixture, true), without = kept_bytes(fixture, false), n, n_again;
    float *want = end_of_steps(fixture, 0, 16, fs_isa_detect(), &n);

    assert_true(without < with);
    for (int way = 0; way < n_ways; way++) {
        float *end = end_of_steps(fixture, way == 0 ? with : way == 1 ? without : with - 1, way == 2 ? 5 : 16, way == 1 ? 0 : fs_isa_detect(), &n_again);
        if (n != n_again || memcmp(want, end, n * sizeof *want) != 0)
            fail_msg("%s, %s, way %d: what sampling kept moves the weights", fixture, what, way);
        free(end);
    }
    free(want);
}

static void what_sampling_kept_moves_no_bit(void **state)
{
    static const char *const all[] = { "all-linear" };
    static const fs_low_rank_options pairs = { 4, 8, false, all, 1 };
    static const char *const fixtures[] = { "qwen2_tied", "qwen3", "ds_v2_lite", "ds_v2_group", "deepseek_moe" };

    (void)state;
    for (size_t f = 0; f < sizeof fixtures / sizeof *fixtures; f++)
        assert_keeping_moves_no_bit(fixtures[f], "f32", 1);
    assert_keeping_moves_no_bit("ds_v3", "f32", 3);
    bf16 = true;
    assert_keeping_moves_no_bit("ds_v3", "bf16", 2);
    assert_keeping_moves_no_bit("qwen3", "bf16", 1);
    bf16 = false;
    more = (fs_trainer_options){ .mtp = true, .mtp_weight = 0.3, .balance_weight = 0.01 };
    assert_keeping_moves_no_bit("ds_v3", "MTP and balance", 1);
    more = (fs_trainer_options){ .recompute = true, .balance_weight = 0.01 };
    assert_keeping_moves_no_bit("ds_v3", "recompute", 1);
    more = (fs_trainer_options){ 0 };
    low_rank = &pairs;
    assert_keeping_moves_no_bit("ds_v3", "pairs", 1);
    low_rank = NULL;
}

/* A group whose rewards are all equal teaches nothing; completions that were cut off need not count. */
static fs_status same_reward(void *ud, const uint64_t *numbers, const fs_sampled *items, size_t n, double *ret_rewards, bool *ret_right, fs_error *err)
{
    (void)ud;
    (void)numbers;
    (void)items;
    (void)err;
    for (size_t i = 0; i < n; i++) {
        ret_rewards[i] = 0.3;
        ret_right[i] = false;
    }
    return FS_OK;
}

static void what_teaches_nothing_moves_nothing(void **state)
{
    fs_error err;

    (void)state;
    for (int masked = 0; masked < 2; masked++) {
        fs_grpo_options o = options();
        struct bed b;
        fs_params *p;
        fs_grpo_step r;
        float *before;
        o.mask_truncated = masked;
        open_bed(&b, "qwen2", &o, 2, fs_isa_detect());
        p = fs_trainer_params(b.t);
        before = malloc(p->n_floats * sizeof *before);
        memcpy(before, p->w, p->n_floats * sizeof *before);
        fs_grpo_source source = { prompt, masked ? reward : same_reward, &b };
        assert_ok(fs_grpo_run(b.g, 0, &source, &b.optimizer, 1e-3, false, &r, &err), err);
        assert_memory_equal(before, p->w, p->n_floats * sizeof *before);
        assert_true(r.grad_norm == 0 && (masked || r.flat_groups == 1));
        free(before);
        close_bed(&b);
    }
}

static void groups_without_spread_are_given_up(void **state)
{
    static const double want_flat[] = { 0.5, 0.5, 0 }, want_resampled[] = { 0, 0.5, 0.5 };
    fs_error err;

    (void)state;
    for (uint32_t k = 0; k < 3; k++) {
        fs_grpo_options o = options();
        struct bed b;
        fs_grpo_step r;
        o.resamples = k; /* 4 prompts a round: with 1 resample the numbers of a step are 8 s + 4 round + group, and odd groups stay odd */
        o.prompts = k == 2 ? 3 : 4; /* with 3 an odd one is even in the next round */
        open_bed(&b, "qwen2", &o, 2, fs_isa_detect());
        fs_grpo_source source = { prompt, odd_is_flat, &b };
        assert_ok(fs_grpo_run(b.g, k == 2 ? 0 : 1, &source, &b.optimizer, 1e-3, true, &r, &err), err);
        if (k < 2)
            assert_true(r.flat_groups == want_flat[k] && r.resampled == want_resampled[k]);
        else
            assert_true(r.flat_groups == want_flat[k] && r.resampled > 0.3 && r.resampled < 0.34);
        assert_true(r.off_policy == 0 && r.n_drawn == (uint64_t)(r.n_tokens * (1 + r.resampled) + 0.5));
        close_bed(&b);
    }
}

/* Of groups without spread nothing is in a mean over tokens, nor in a divergence from the reference. */
static void flat_groups_are_skipped(void **state)
{
    fs_error err;

    (void)state;
    for (int skip = 0; skip < 2; skip++) {
        fs_grpo_options o = options();
        struct bed b;
        fs_grpo_step r;
        o.policy.kind = FS_POLICY_DAPO;
        o.skip_flat = skip;
        open_bed(&b, "qwen2", &o, 2, fs_isa_detect());
        fs_grpo_source source = { prompt, odd_is_flat, &b };
        assert_ok(fs_grpo_run(b.g, 0, &source, &b.optimizer, 1e-3, false, &r, &err), err);
        assert_int_equal(r.policy.n_tokens, skip ? r.n_tokens / 2 : r.n_tokens);
        close_bed(&b);
    }
}

static fs_status bad_reward(void *ud, const uint64_t *numbers, const fs_sampled *items, size_t n, double *ret_rewards, bool *ret_right, fs_error *err)
{
    fs_status rc = same_reward(ud, numbers, items, n, ret_rewards, ret_right, err);

    ret_rewards[n - 1] = NAN;
    return rc;
}

static void a_nan_reward_stops(void **state)
{
    fs_grpo_options o = options();
    struct bed b;
    fs_grpo_step r;
    fs_error err;

    (void)state;
    open_bed(&b, "qwen2", &o, 2, fs_isa_detect());
    fs_grpo_source source = { prompt, bad_reward, &b };
    assert_int_equal(fs_grpo_run(b.g, 6, &source, &b.optimizer, 1e-3, false, &r, &err), FS_ERR_NUMERIC);
    assert_sentence(err, "step 7");
    assert_sentence(err, "completion 31");
    close_bed(&b);
}

static fs_status huge_reward(void *ud, const uint64_t *numbers, const fs_sampled *items, size_t n, double *ret_rewards, bool *ret_right, fs_error *err)
{
    fs_status rc = reward(ud, numbers, items, n, ret_rewards, ret_right, err);

    for (size_t i = 0; i < n; i++)
        ret_rewards[i] *= 1e33;
    return rc;
}

/* While drawing, between updates, and in the gradient. */
static void what_is_not_finite_stops_and_is_named(void **state)
{
    static const struct {
        float weight; /* of all of a tensor; 0: as they are */
        double lr;
        fs_status (*reward)(void *, const uint64_t *, const fs_sampled *, size_t, double *, bool *, fs_error *);
        const char *words[3];
    } cases[] = { { NAN, 1e-3, reward, { "step 7: ", "tensor 'model.layers.0.mlp.up_proj.weight' holds a NaN", "" } },
                  { 3e38f, 1e-3, reward, { "step 7: drawing completion 0: the loss of token 0 of", "is a NaN", "what comes out of 'model.layers.0.mlp' is not" } },
                  { 0, 1e30, reward, { "step 7: completion 0: the loss of token ", "the weights are finite, ", "comes out of 'model.layers.0.self_attn'" } },
                  { 0, 1e-3, huge_reward, { "step 7: completions 0 to 31: the gradient of '", ".weight' is finite, the sum of its squares is inf", "" } } };
    fs_error err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fs_grpo_options o = options();
        struct bed b;
        fs_grpo_step r;
        fs_param *p;
        o.updates = 2;
        open_bed(&b, "qwen2", &o, 2, fs_isa_detect());
        p = fs_params_find(fs_trainer_params(b.t), "model.layers.0.mlp.up_proj.weight");
        for (size_t j = 0; j < p->n && cases[i].weight != 0; j++)
            p->w[j] = cases[i].weight;
        fs_trainer_pack(b.t);
        fs_grpo_source source = { prompt, cases[i].reward, &b };
        assert_int_equal(fs_grpo_run(b.g, 6, &source, &b.optimizer, cases[i].lr, false, &r, &err), FS_ERR_NUMERIC);
        for (int w = 0; w < 3; w++)
            assert_sentence(err, cases[i].words[w]);
        close_bed(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(what_is_rewarded_is_learnt), cmocka_unit_test(steps_are_the_same_everywhere),
                                        cmocka_unit_test(what_teaches_nothing_moves_nothing), cmocka_unit_test(pairs_learn_in_bf16), cmocka_unit_test(what_sampling_kept_moves_no_bit),
                                        cmocka_unit_test(groups_without_spread_are_given_up), cmocka_unit_test(flat_groups_are_skipped),
                                        cmocka_unit_test(a_nan_reward_stops), cmocka_unit_test(what_is_not_finite_stops_and_is_named) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
