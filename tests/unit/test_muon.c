/* Muon against numpy in float64 (tools/make_muon_vectors.py), which parameters are its, equal bits; and the rule that holds attention's
 * logits down. Run from the tree's root. */
#include "gradients.h"

#include "train/internal.h"
#include "train/muon.h"
#include "train/optimizer.h"

#include <math.h>

#define CONFIG "{\"model_type\":\"llama\",\"vocab_size\":300,\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":1,"     \
               "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-6}"

static void draw(float *to, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        to[i] = (float)((int)((seed >> 8) % 2001) - 1000) / 1024.0f;
    }
}

static fs_params *make_params(const fs_optimizer *o, fs_pool *pool)
{
    fs_params *p = NULL;
    fs_error err;
    fs_config c;

    assert_ok(fs_config_from_json(&c, fs_bytes_str(CONFIG), "config", &err), err);
    assert_ok(fs_params_new(&c, false, &p, &err), err);
    assert_ok(fs_optimizer_prepare(o, p, pool, &err), err);
    assert_ok(fs_params_add_moments(p, &err), err);
    fs_params_init(p, 5, 0.1);
    fs_config_done(&c);
    return p;
}

static fs_param *layer_param(const fs_params *p, const char *linear)
{
    char name[128];

    snprintf(name, sizeof name, "model.layers.0.%s.weight", linear);
    return fs_params_find(p, name);
}

/* Three steps with the gradients of the vectors. */
static fs_params *run(struct json_object *all, int threads, unsigned isa, fs_pool **ret_pool)
{
    fs_optimizer o = fs_optimizer_default();
    fs_kernels k;
    fs_params *p;
    fs_error err;

    o.muon = true;
    o.clip = 0;
    fs_kernels_init(&k, isa);
    assert_ok(fs_pool_new(threads, ret_pool, &err), err);
    p = make_params(&o, *ret_pool);
    for (uint32_t step = 0; step < 3; step++) {
        uint32_t number = 0;
        json_object_object_foreach(all, name, value) {
            fs_param *item = layer_param(p, name);
            (void)value;
            if (step == 0)
                draw(item->w, item->n, number);
            draw(item->g, item->n, 100 * step + number + 10);
            number++;
        }
        fs_optimizer_step(&o, p, *ret_pool, &k, 0, 0.02);
    }
    return p;
}

static void steps_are_numpys(void **state)
{
    struct json_object *all = read_vectors("tests/vectors/muon.json");
    fs_pool *pool;
    fs_params *p = run(all, 2, fs_isa_detect(), &pool);
    int n = 0;

    (void)state;
    json_object_object_foreach(all, name, want) {
        const fs_param *item = layer_param(p, name);
        struct json_object *at = fs_json_member(want, "at"), *values = fs_json_member(want, "values");
        double squares = 0, l2 = json_object_get_double(fs_json_member(want, "l2"));
        for (size_t i = 0; i < item->n; i++)
            squares += (double)item->w[i] * (double)item->w[i];
        if (fabs(sqrt(squares) - l2) > 1e-6 * l2)
            fail_msg("%s: norm %.9g, numpy has %.9g", name, sqrt(squares), l2);
        for (size_t i = 0; i < json_object_array_length(at); i++) {
            double got = (double)item->w[json_object_get_int64(json_object_array_get_idx(at, i))];
            double value = json_object_get_double(json_object_array_get_idx(values, i));
            if (fabs(got - value) > 2e-6)
                fail_msg("%s, element %zu: %.9g, numpy has %.9g", name, i, got, value);
        }
        n++;
    }
    assert_int_equal(n, 4);
    fs_params_free(p);
    fs_pool_free(pool);
    json_object_put(all);
}

static void threads_and_instructions_change_no_bit(void **state)
{
    static const unsigned isas[] = { 0, FS_ISA_AVX2, FS_ISA_AVX2 | FS_ISA_AVX512, FS_ISA_NEON, ~0u };
    static const int threads[] = { 1, 1, 2, 2, 3 };
    struct json_object *all = read_vectors("tests/vectors/muon.json");
    float *want = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        fs_pool *pool;
        fs_params *p = run(all, threads[i], isas[i] & fs_isa_detect(), &pool);
        if (!want) {
            want = malloc(p->n_floats * sizeof *want);
            memcpy(want, p->w, p->n_floats * sizeof *want);
        }
        assert_memory_equal(want, p->w, p->n_floats * sizeof *want);
        fs_params_free(p);
        fs_pool_free(pool);
    }
    free(want);
    json_object_put(all);
}

static void the_rest_is_adamws(void **state)
{
    fs_optimizer o = fs_optimizer_default();
    fs_pool *pool;
    fs_params *p;
    fs_error err;

    (void)state;
    o.muon = true;
    assert_ok(fs_pool_new(1, &pool, &err), err);
    p = make_params(&o, pool);
    for (size_t i = 0; i < p->n; i++) {
        const fs_param *item = &p->items[i];
        bool want = item->n_dims == 2 && strcmp(item->name, "lm_head.weight") != 0 && strcmp(item->name, "model.embed_tokens.weight") != 0;
        assert_true(item->muon == want && item->m && !item->v == want);
    }
    assert_int_equal(p->n_muon, 7);
    fs_params_free(p);
    fs_pool_free(pool);
}

/* Of the first layer, whose input stays: behind the rule its heads' largest logits are at most tau, and those under it as they were. */
static void large_logits_are_held_down(void **state)
{
    static const char *const fixtures[] = { "ds_v3", "ds_v2_lite", "qwen2", "llama3" };
    fs_error err;

    (void)state;
    for (size_t f = 0; f < sizeof fixtures / sizeof *fixtures; f++) {
        fs_trainer_options o = { .tokens_max = 64, .sequences_max = 1 };
        fs_train_loss loss;
        fs_kernels kernels;
        fs_pool *pool;
        fs_weights *weights;
        fs_trainer *t;
        int32_t ids[40];
        char path[128];
        float before[64], tau = 0, least = INFINITY;
        uint32_t heads, n_over = 0, n_under = 0;
        fs_train_totals totals = { .n_targets = 1, .n_sequences = 1 };
        fs_train_sequence s = { .ids = ids, .targets = ids, .n = 40 };
        snprintf(path, sizeof path, "tests/vectors/%s", fixtures[f]);
        fs_kernels_init(&kernels, fs_isa_detect());
        assert_ok(fs_pool_new(2, &pool, &err), err);
        assert_ok(fs_weights_open(path, &weights, &err), err);
        assert_ok(fs_trainer_new(fs_weights_config(weights), pool, &kernels, &o, &t, &err), err);
        assert_ok(fs_params_load(fs_trainer_params(t), weights, &err), err);
        heads = fs_weights_config(weights)->num_attention_heads;
        for (int i = 0; i < 40; i++)
            ids[i] = (i * 37 + 11) % (int)fs_weights_config(weights)->vocab_size;
        for (int turn = 0; turn < 2; turn++) {
            fs_trainer_pack(t);
            fs_trainer_begin(t, &totals);
            assert_ok(fs_trainer_run(t, &s, 1, &err), err);
            fs_trainer_end(t, &loss);
            for (uint32_t h = 0; h < heads; h++) {
                float now = fs_trainer_qk_max(t, 0)[h], want;
                if (turn == 0) {
                    before[h] = now;
                    tau = now > tau ? now : tau;
                    least = now < least ? now : least;
                    continue;
                }
                want = before[h] > tau ? tau : before[h];
                n_over += before[h] > tau;
                n_under += before[h] <= tau;
                if (fabsf(now - want) > 1e-4f * fabsf(want) + 1e-5f)
                    fail_msg("%s: head %u had %g and has %g, tau is %g", fixtures[f], h, (double)before[h], (double)now, (double)tau);
            }
            if (turn == 0) {
                assert_true(least > 0);
                tau = (tau + least) / 2;
                fs_trainer_clip_logits(t, (double)tau);
            }
        }
        assert_true(n_over > 0 && n_under > 0);
        fs_trainer_free(t);
        fs_weights_close(weights);
        fs_pool_free(pool);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_numpys), cmocka_unit_test(threads_and_instructions_change_no_bit), cmocka_unit_test(the_rest_is_adamws),
        cmocka_unit_test(large_logits_are_held_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
