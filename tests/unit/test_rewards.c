#include "unit.h"

#include "base/file.h"
#include "base/json.h"
#include "train/rewards.h"

#include <math.h>

static double number(struct json_object *o, const char *key)
{
    return json_object_get_double(fs_json_member(o, key));
}

static struct json_object *vectors(void)
{
    struct json_object *v = NULL;
    fs_buf text = { 0 };
    fs_error err;

    assert_ok(fs_file_read("tests/vectors/rewards.json", 1 << 20, &text, &err), err);
    assert_ok(fs_json_parse(fs_buf_bytes(&text), "rewards.json", &v, &err), err);
    fs_buf_done(&text);
    return v;
}

static void assert_near(double have, double want, const char *what, size_t i)
{
    if (!(fabs(have - want) <= 1e-12))
        fail_msg("%s %zu: %.17g, TRL's %.17g", what, i, have, want);
}

static void formats_are_trls(void **state)
{
    struct json_object *v = vectors(), *list = fs_json_member(v, "think");
    size_t n_good = 0;

    (void)state;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *c = json_object_array_get_idx(list, i), *text = fs_json_member(c, "text");
        fs_bytes b = { (const uint8_t *)json_object_get_string(text), (size_t)json_object_get_string_len(text) };
        assert_near(fs_reward_think(b), number(c, "reward"), "think", i);
        n_good += number(c, "reward") == 1;
    }
    assert_true(n_good > 20);
    json_object_put(v);
}

static void lengths_are_trls(void **state)
{
    struct json_object *v = vectors(), *overlong = fs_json_member(v, "overlong"), *cosine = fs_json_member(v, "cosine");

    (void)state;
    for (size_t i = 0; i < json_object_array_length(overlong); i++) {
        struct json_object *c = json_object_array_get_idx(overlong, i);
        assert_near(fs_reward_overlong((size_t)number(c, "n"), (size_t)number(c, "max"), (size_t)number(c, "cache")), number(c, "reward"), "overlong", i);
    }
    for (size_t i = 0; i < json_object_array_length(cosine); i++) {
        struct json_object *c = json_object_array_get_idx(cosine, i);
        fs_cosine_reward o = { number(c, "right_short"), number(c, "right_long"), number(c, "wrong_short"), number(c, "wrong_long"),
                               (size_t)number(c, "max") };
        assert_near(fs_reward_cosine(&o, (size_t)number(c, "n"), json_object_get_boolean(fs_json_member(c, "right"))), number(c, "reward"), "cosine", i);
    }
    json_object_put(v);
}

static void repetition_is_trls(void **state)
{
    struct json_object *v = vectors(), *list = fs_json_member(v, "repetition");
    fs_error err;

    (void)state;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *c = json_object_array_get_idx(list, i), *ids = fs_json_member(c, "ids");
        size_t n = json_object_array_length(ids);
        int32_t *copy = malloc((n + 1) * sizeof *copy);
        double have;
        for (size_t k = 0; k < n; k++)
            copy[k] = json_object_get_int(json_object_array_get_idx(ids, k));
        assert_ok(fs_reward_repetition(copy, n, (size_t)number(c, "n"), number(c, "penalty"), &have, &err), err);
        assert_near(have, number(c, "reward"), "repetition", i);
        free(copy);
    }
    json_object_put(v);
}

static double think_answer(const char *s)
{
    return fs_reward_think_answer(fs_bytes_str(s));
}

static void r1s_format(void **state)
{
    (void)state;
    assert_true(think_answer("<think>a</think><answer>b</answer>") == 1);
    assert_true(think_answer(" <think>\na\n</think>\n<answer>\nb\n</answer>\n") == 1);
    assert_true(think_answer("<think></think> <answer></answer>") == 1);
    assert_true(think_answer("x<think>a</think><answer>b</answer>") == 0);
    assert_true(think_answer("<think>a</think>x<answer>b</answer>") == 0);
    assert_true(think_answer("<think>a</think><answer>b</answer>x") == 0);
    assert_true(think_answer("<think>a<think></think><answer>b</answer>") == 0);
    assert_true(think_answer("<answer>b</answer><think>a</think>") == 0);
    assert_true(think_answer("<think>a</think><answer>b") == 0);
    assert_true(think_answer("") == 0);
    assert_true(fs_reward_tags(fs_bytes_str("<think>\na\n</think>\n<answer>\nb\n</answer>")) == 1);
    assert_true(fs_reward_tags(fs_bytes_str("<think>\na\n</think> <answer>\nb\n</answer>")) == 0.5);
    assert_true(fs_reward_tags(fs_bytes_str("<think>\n<think>\n\n</answer>")) == 0.25);
}

static void kimis_lengths(void **state)
{
    const size_t n[] = { 10, 20, 30, 20 };
    const bool right[] = { true, true, false, false };
    double r[4];

    (void)state;
    fs_reward_lengths(n, right, 4, r);
    assert_true(r[0] == 0.5 && r[1] == 0 && r[2] == -0.5 && r[3] == 0);
    fs_reward_lengths((const size_t[]){ 7, 7 }, right, 2, r);
    assert_true(r[0] == 0 && r[1] == 0);
    fs_reward_lengths((const size_t[]){ 5, 9 }, (const bool[]){ false, false }, 2, r); /* a short wrong one earns nothing */
    assert_true(r[0] == 0 && r[1] == -0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(formats_are_trls), cmocka_unit_test(lengths_are_trls), cmocka_unit_test(repetition_is_trls),
                                        cmocka_unit_test(r1s_format), cmocka_unit_test(kimis_lengths) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
