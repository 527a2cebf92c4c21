/* Schedules against what their formulas say, and what a step does with a gradient: which parameters decay, when it is clipped. */
#include "unit.h"

#include "train/optimizer.h"

#include <math.h>

static void schedules_are_their_formulas(void **state)
{
    const fs_schedule wsd = { FS_SCHEDULE_WSD, 1, 0.1, 10, 20, 100 }, cosine = { FS_SCHEDULE_COSINE, 1, 0.1, 10, 0, 110 };
    const fs_schedule linear = { FS_SCHEDULE_LINEAR, 1, 0.2, 0, 0, 8 }, constant = { FS_SCHEDULE_CONSTANT, 3, 0, 2, 0, 5 };

    (void)state;
    assert_true(fs_schedule_at(&wsd, 0) == 0.1 && fs_schedule_at(&wsd, 9) == 1 && fs_schedule_at(&wsd, 79) == 1);
    assert_true(fabs(fs_schedule_at(&wsd, 90) - 0.55) < 1e-15 && fs_schedule_at(&wsd, 100) == 0.1);
    assert_true(fs_schedule_at(&cosine, 10) == 1 && fabs(fs_schedule_at(&cosine, 60) - 0.55) < 1e-15);
    assert_true(fabs(fs_schedule_at(&cosine, 35) - (0.1 + 0.9 * (1 + sqrt(0.5)) / 2)) < 1e-15 && fs_schedule_at(&cosine, 110) == 0.1);
    assert_true(fs_schedule_at(&linear, 0) == 1 && fabs(fs_schedule_at(&linear, 4) - 0.6) < 1e-15 && fs_schedule_at(&linear, 8) == 0.2);
    assert_true(fs_schedule_at(&constant, 0) == 1.5 && fs_schedule_at(&constant, 1) == 3 && fs_schedule_at(&constant, 4) == 3);
}

static void kinds_have_names(void **state)
{
    fs_schedule_kind kind;

    (void)state;
    assert_true(fs_schedule_kind_named("cosine", &kind) && kind == FS_SCHEDULE_COSINE);
    assert_true(fs_schedule_kind_named("wsd", &kind) && kind == FS_SCHEDULE_WSD);
    assert_false(fs_schedule_kind_named("wsb", &kind));
}

static fs_params *make_params(const char *config_json, fs_error *err)
{
    fs_params *p = NULL;
    fs_config c;

    assert_ok(fs_config_from_json(&c, fs_bytes_str(config_json), "config", err), *err);
    assert_ok(fs_params_new(&c, false, &p, err), *err);
    assert_ok(fs_params_add_moments(p, err), *err);
    fs_config_done(&c);
    return p;
}

#define CONFIG "{\"model_type\":\"llama\",\"vocab_size\":300,\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":1,"     \
               "\"num_attention_heads\":2,\"num_key_value_heads\":2,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-6}"

/* With zero gradients only decay moves a weight; the second step's moments know the first. */
static void matrices_decay_and_norms_do_not(void **state)
{
    fs_optimizer o = fs_optimizer_default();
    fs_kernels k;
    fs_pool *pool;
    fs_params *p;
    fs_param *norm, *matrix;
    fs_error err;
    float before;

    (void)state;
    fs_kernels_init(&k, fs_isa_detect());
    assert_ok(fs_pool_new(2, &pool, &err), err);
    p = make_params(CONFIG, &err);
    fs_params_init(p, 5, 0.1);
    norm = fs_params_find(p, "model.norm.weight");
    matrix = fs_params_find(p, "model.layers.0.mlp.up_proj.weight");
    before = matrix->w[7];
    fs_optimizer_step(&o, p, pool, &k, 0, 0.5);
    assert_true(norm->w[3] == 1);
    assert_true(matrix->w[7] == fmaf(-0.5f, 0.0f, (float)(1 - 0.5 * 0.1) * before));
    assert_true(o.step == 1 && o.beta1_t == 0.9);
    fs_params_free(p);
    fs_pool_free(pool);
}

/* A gradient of norm n over the limit moves the first moments as one of norm 1. */
static void long_gradients_are_clipped(void **state)
{
    fs_optimizer o = fs_optimizer_default();
    fs_kernels k;
    fs_pool *pool;
    fs_params *p;
    fs_error err;
    float norm;
    double sum = 0;

    (void)state;
    fs_kernels_init(&k, fs_isa_detect());
    assert_ok(fs_pool_new(1, &pool, &err), err);
    p = make_params(CONFIG, &err);
    for (size_t i = 0; i < p->n; i++)
        for (size_t j = 0; j < p->items[i].n; j++)
            p->items[i].g[j] = (float)(j % 7) - 2.5f;
    norm = fs_params_grad_norm(&k, p);
    for (size_t i = 0; i < p->n; i++)
        for (size_t j = 0; j < p->items[i].n; j++)
            sum += (double)p->items[i].g[j] * (double)p->items[i].g[j];
    assert_true(fabs((double)norm - sqrt(sum)) < 1e-5 * sqrt(sum));
    fs_optimizer_step(&o, p, pool, &k, norm, 0.5);
    sum = 0;
    for (size_t i = 0; i < p->n; i++)
        for (size_t j = 0; j < p->items[i].n; j++)
            sum += (double)p->items[i].m[j] * (double)p->items[i].m[j];
    assert_true(fabs(sqrt(sum) - 0.1) < 1e-6);
    fs_params_free(p);
    fs_pool_free(pool);
}

/* Normal of the given width, and a function of seed and name alone. */
static void initial_values_are_drawn(void **state)
{
    fs_error err;
    fs_params *a = make_params(CONFIG, &err), *b = make_params(CONFIG, &err);
    const fs_param *m = fs_params_find(a, "lm_head.weight");
    double sum = 0, squares = 0;
    size_t within = 0;

    (void)state;
    fs_params_init(a, 9, 0.02);
    fs_params_init(b, 9, 0.02);
    assert_memory_equal(a->w, b->w, a->n_floats * sizeof *a->w);
    fs_params_init(b, 10, 0.02);
    assert_true(memcmp(a->w, b->w, a->n_floats * sizeof *a->w) != 0);
    for (size_t i = 0; i < m->n; i++) {
        sum += (double)m->w[i];
        squares += (double)m->w[i] * (double)m->w[i];
        within += fabsf(m->w[i]) < 0.02f;
    }
    assert_true(fabs(sum / (double)m->n) < 5e-4 && fabs(sqrt(squares / (double)m->n) - 0.02) < 5e-4);
    assert_true(fabs((double)within / (double)m->n - 0.6827) < 0.015);
    fs_params_free(a);
    fs_params_free(b);
}

/* A group's rate and decay are its own; what is frozen stays; averages follow the weights. */
static void groups_freezing_and_averages(void **state)
{
    fs_optimizer o = fs_optimizer_default();
    fs_kernels k;
    fs_pool *pool;
    fs_params *p;
    fs_param *up, *down, *norm, *embed;
    fs_error err;
    float before[3], rest;
    fs_config c;

    (void)state;
    fs_kernels_init(&k, fs_isa_detect());
    assert_ok(fs_pool_new(2, &pool, &err), err);
    assert_ok(fs_config_from_json(&c, fs_bytes_str(CONFIG), "config", &err), err);
    assert_ok(fs_params_new(&c, false, &p, &err), err);
    fs_config_done(&c);
    assert_int_equal(fs_params_freeze(p, "model.embed*s.w", &err), FS_ERR_ARGUMENT);
    assert_sentence(err, "model.embed*s.w");
    assert_int_equal(fs_params_group(p, "nothing", 1, 0, &err), FS_ERR_ARGUMENT);
    assert_ok(fs_params_freeze(p, "model.embed_*", &err), err);
    assert_ok(fs_params_group(p, "*.up_proj.weight", 0.5, -1, &err), err);
    assert_ok(fs_params_group(p, "*norm*", 1, 0.25, &err), err);
    assert_ok(fs_params_add_moments(p, &err), err);
    assert_ok(fs_params_add_averages(p, &err), err);
    fs_params_init(p, 5, 0.1);
    fs_params_begin_averages(p);
    up = fs_params_find(p, "model.layers.0.mlp.up_proj.weight");
    down = fs_params_find(p, "model.layers.0.mlp.down_proj.weight");
    norm = fs_params_find(p, "model.norm.weight");
    embed = fs_params_find(p, "model.embed_tokens.weight");
    assert_true(embed->fixed && !embed->g && !embed->m && !embed->e && up->e[7] == up->w[7]);
    before[0] = up->w[7];
    before[1] = down->w[7];
    before[2] = embed->w[7];
    o.average = 0.75;
    rest = (float)(1 - 0.75);
    fs_optimizer_step(&o, p, pool, &k, 0, 0.5);
    assert_true(up->w[7] == (float)(1 - 0.25 * 0.1) * before[0] && down->w[7] == (float)(1 - 0.5 * 0.1) * before[1]);
    assert_true(norm->w[3] == (float)(1 - 0.5 * 0.25) && embed->w[7] == before[2]);
    assert_true(up->e[7] == before[0] + rest * (up->w[7] - before[0]) && norm->e[3] == 1.0f + rest * (norm->w[3] - 1.0f));
    fs_params_free(p);
    fs_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedules_are_their_formulas), cmocka_unit_test(kinds_have_names),
        cmocka_unit_test(matrices_decay_and_norms_do_not), cmocka_unit_test(groups_freezing_and_averages),
        cmocka_unit_test(long_gradients_are_clipped), cmocka_unit_test(initial_values_are_drawn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
