#include "unit.h"

#include "base/file.h"
#include "base/json.h"
#include "train/policy.h"

#include <math.h>

#define TOKENS_MAX 128
#define ROWS_MAX   16

static double number(struct json_object *o, const char *key)
{
    return json_object_get_double(fs_json_member(o, key));
}

/* Rows of numbers one behind the other. */
static size_t flatten(struct json_object *rows, double *ret, size_t *ret_begin)
{
    size_t n = 0;

    for (size_t r = 0; r < json_object_array_length(rows); r++) {
        struct json_object *row = json_object_array_get_idx(rows, r);
        ret_begin[r] = n;
        for (size_t t = 0; t < json_object_array_length(row); t++)
            ret[n++] = json_object_get_double(json_object_array_get_idx(row, t));
        ret_begin[r + 1] = n;
    }
    return n;
}

static void as_floats(const double *x, size_t n, float *ret)
{
    for (size_t i = 0; i < n; i++)
        ret[i] = (float)x[i];
}

static struct json_object *vectors(void)
{
    struct json_object *v = NULL;
    fs_buf text = { 0 };
    fs_error err;

    assert_ok(fs_file_read("tests/vectors/policy.json", 1 << 20, &text, &err), err);
    assert_ok(fs_json_parse(fs_buf_bytes(&text), "policy.json", &v, &err), err);
    fs_buf_done(&text);
    return v;
}

static void one_case(struct json_object *c)
{
    double logp[TOKENS_MAX], old[TOKENS_MAX], ref[TOKENS_MAX], mask[TOKENS_MAX], want[TOKENS_MAX], advantages[ROWS_MAX];
    float logp_f[TOKENS_MAX], old_f[TOKENS_MAX], ref_f[TOKENS_MAX], gradient[TOKENS_MAX];
    uint8_t counts[TOKENS_MAX];
    size_t begin[ROWS_MAX + 1], n = flatten(fs_json_member(c, "logp"), logp, begin);
    fs_policy_options o = { .epsilon_low = number(c, "epsilon_low"), .epsilon_high = number(c, "epsilon_high"), .delta = number(c, "delta"),
                            .beta = number(c, "beta"), .kl_unbiased = json_object_get_boolean(fs_json_member(c, "kl_unbiased")),
                            .off_policy = number(c, "off_policy"), .max_tokens = (size_t)number(c, "max_tokens") };
    struct json_object *a = fs_json_member(c, "advantages");
    fs_policy_batch b = { .n_rows = json_object_array_length(a), .begin = begin, .logp = logp_f, .old = old_f, .reference = ref_f, .mask = counts,
                          .advantages = advantages };
    fs_policy_result r;
    fs_error err;

    assert_true(fs_policy_kind_of(json_object_get_string(fs_json_member(c, "kind")), &o.kind));
    flatten(fs_json_member(c, "old"), old, begin);
    flatten(fs_json_member(c, "ref"), ref, begin);
    flatten(fs_json_member(c, "mask"), mask, begin);
    flatten(fs_json_member(c, "gradient"), want, begin);
    as_floats(logp, n, logp_f);
    as_floats(old, n, old_f);
    as_floats(ref, n, ref_f);
    for (size_t i = 0; i < n; i++)
        counts[i] = mask[i] != 0;
    for (size_t i = 0; i < b.n_rows; i++)
        advantages[i] = json_object_get_double(json_object_array_get_idx(a, i));
    assert_ok(fs_policy_loss(&o, &b, &r, gradient, &err), err);
    if (!(fabs(r.loss - number(c, "loss")) <= 1e-9))
        fail_msg("%s: loss %.12g, TRL's %.12g", fs_policy_name(o.kind), r.loss, number(c, "loss"));
    for (size_t i = 0; i < n; i++)
        if (!(fabs(gradient[i] - want[i]) <= 1e-6 * fabs(want[i]) + 1e-9))
            fail_msg("%s, token %zu: gradient %.9g, torch's %.9g", fs_policy_name(o.kind), i, (double)gradient[i], want[i]);
}

static void losses_and_gradients_are_trls(void **state)
{
    struct json_object *v = vectors(), *cases = fs_json_member(v, "cases");

    (void)state;
    assert_true(json_object_array_length(cases) == 54);
    for (size_t i = 0; i < json_object_array_length(cases); i++)
        one_case(json_object_array_get_idx(cases, i));
    json_object_put(v);
}

static void advantages_are_trls(void **state)
{
    struct json_object *v = vectors(), *list = fs_json_member(v, "advantages");

    (void)state;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *c = json_object_array_get_idx(list, i);
        const char *scale = json_object_get_string(fs_json_member(c, "scale"));
        double rewards[64], want[64], have[64];
        size_t begin[ROWS_MAX + 1], n = flatten(fs_json_member(c, "rewards"), rewards, begin), n_flat;
        flatten(fs_json_member(c, "advantages"), want, begin);
        fs_policy_advantages(rewards, 4, n / 4, scale[0] == 'n' ? FS_REWARD_SCALE_NONE : scale[0] == 'g' ? FS_REWARD_SCALE_GROUP : FS_REWARD_SCALE_BATCH,
                             have, &n_flat);
        assert_int_equal(n_flat, 1);
        for (size_t k = 0; k < n; k++)
            if (!(fabs(have[k] - want[k]) <= 1e-12))
                fail_msg("scale %s, reward %zu: %.12g, TRL's %.12g", scale, k, have[k], want[k]);
    }
    json_object_put(v);
}

/* On the policy's own samples r is exactly 1: nothing is clipped, and the gradient is that of the advantage alone. */
static void on_policy_nothing_is_clipped(void **state)
{
    float logp[] = { -1.5f, -0.25f, -3, -0.125f }, gradient[4];
    double advantages[] = { 2, -1 };
    size_t begin[] = { 0, 3, 4 };
    fs_policy_batch b = { .n_rows = 2, .begin = begin, .logp = logp, .old = logp, .advantages = advantages };
    fs_policy_options o = { .epsilon_low = 0.2, .epsilon_high = 0.28, .max_tokens = 8 };
    fs_policy_result r;
    fs_error err;

    (void)state;
    for (o.kind = 0; o.kind < FS_POLICY_END; o.kind++) {
        o.epsilon_high = o.kind == FS_POLICY_CISPO ? 5 : 0.28;
        assert_ok(fs_policy_loss(&o, &b, &r, gradient, &err), err);
        assert_true(r.mean_ratio == 1 && r.min_ratio == 1 && r.max_ratio == 1 && r.clipped_low == 0 && r.clipped_high == 0 && r.n_tokens == 4);
        assert_true(gradient[0] == gradient[1] && gradient[0] < 0 && gradient[3] > 0);
    }
    o.kind = FS_POLICY_DR_GRPO;
    assert_ok(fs_policy_loss(&o, &b, &r, gradient, &err), err);
    assert_true(gradient[0] == -2.0f / 16 && gradient[3] == 1.0f / 16);
}

static void a_nan_is_named(void **state)
{
    float logp[] = { -1, NAN }, old[] = { -1, -1 }, gradient[2];
    double advantages[] = { 1 };
    size_t begin[] = { 0, 2 };
    fs_policy_batch b = { .n_rows = 1, .begin = begin, .logp = logp, .old = old, .advantages = advantages };
    fs_policy_options o = { .epsilon_low = 0.2, .epsilon_high = 0.2, .max_tokens = 8 };
    fs_policy_result r;
    fs_error err;

    (void)state;
    for (o.kind = 0; o.kind < FS_POLICY_END; o.kind++) {
        assert_int_equal(fs_policy_loss(&o, &b, &r, gradient, &err), FS_ERR_NUMERIC);
        assert_sentence(err, "completion 0");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(losses_and_gradients_are_trls), cmocka_unit_test(advantages_are_trls),
                                        cmocka_unit_test(on_policy_nothing_is_clipped), cmocka_unit_test(a_nan_is_named) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
