/* The multi-token-prediction layer's loss and every gradient against torch's in float64 (tools/make_mtp_vectors.py). Run from the tree's
 * root. */
#include "gradients.h"

#include "train/trainer.h"

static void gradients_are_torchs(void **state)
{
    struct json_object *all = read_vectors("tests/vectors/mtp_grads.json"), *list = fs_json_member(all, "ids");
    uint32_t n = (uint32_t)json_object_array_length(list);
    fs_trainer_options o = { .mtp = true, .mtp_weight = json_object_get_double(fs_json_member(all, "weight")), .tokens_max = n, .sequences_max = 1 };
    int32_t ids[64], targets[64];
    fs_train_sequence s = { .ids = ids, .targets = targets, .n = n };
    fs_train_totals totals = { 0 };
    fs_train_loss loss;
    fs_kernels kernels;
    fs_pool *pool;
    fs_weights *weights;
    fs_trainer *t;
    fs_error err;

    (void)state;
    assert_true(n <= 64);
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = json_object_get_int(json_object_array_get_idx(list, i));
        targets[i] = i + 1 < n ? json_object_get_int(json_object_array_get_idx(list, i + 1)) : -1;
    }
    fs_kernels_init(&kernels, fs_isa_detect());
    assert_ok(fs_pool_new(2, &pool, &err), err);
    assert_ok(fs_weights_open("tests/vectors/ds_v3", &weights, &err), err);
    assert_ok(fs_trainer_new(fs_weights_config(weights), pool, &kernels, &o, &t, &err), err);
    assert_ok(fs_params_load(fs_trainer_params(t), weights, &err), err);
    fs_trainer_pack(t);
    fs_train_totals_add(&totals, &s, 1);
    fs_trainer_begin(t, &totals);
    assert_ok(fs_trainer_run(t, &s, 1, &err), err);
    fs_trainer_end(t, &loss);
    assert_true(fabs(loss.loss - json_object_get_double(fs_json_member(all, "loss"))) < 1e-5);
    assert_true(fabs(loss.mtp - json_object_get_double(fs_json_member(all, "mtp_loss"))) < 1e-5);
    assert_gradients(&kernels, fs_trainer_params(t), fs_json_member(all, "grads"), "ds_v3");
    fs_trainer_free(t);
    fs_weights_close(weights);
    fs_pool_free(pool);
    json_object_put(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(gradients_are_torchs) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
