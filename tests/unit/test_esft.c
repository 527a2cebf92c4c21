/* Which experts are taken: three layers of DeepSeek-V2-Lite with the token scores and the choice at p = 0.2 that the paper's authors
 * published (deepseek-ai/ESFT, results/expert_scores/intent/summary.json and results/expert_configs/intent.json), in ten thousandths. */
#include "unit.h"

#include "train/esft.h"

static const struct {
    int scores[64], taken[8];
} layers[] = {
    { { 101, 119, 177, 80, 82, 131, 423, 240, 653, 102, 118, 119, 96, 99, 30, 55, 61, 48, 84, 72, 399, 85, 181, 47, 185, 279, 463, 148, 41, 40, 102, 129,
        321, 243, 78, 86, 65, 61, 75, 167, 105, 60, 85, 347, 69, 95, 161, 115, 193, 178, 162, 109, 219, 55, 65, 435, 257, 297, 33, 70, 309, 75, 342, 83 },
      { 8, 26, 55, 6, 20, -1 } },
    { { 250, 102, 147, 138, 81, 47, 231, 89, 133, 128, 66, 55, 160, 117, 307, 116, 99, 146, 87, 412, 83, 40, 129, 33, 246, 150, 54, 134, 87, 43, 193, 67,
        55, 224, 291, 344, 274, 140, 164, 162, 98, 87, 312, 61, 157, 96, 168, 376, 99, 43, 71, 258, 114, 90, 145, 134, 28, 457, 82, 300, 359, 131, 214, 297 },
      { 57, 19, 47, 60, 35, 42, -1 } },
    { { 28, 57, 63, 2, 56, 210, 625, 117, 65, 82, 155, 367, 23, 108, 99, 130, 37, 209, 104, 271, 54, 209, 79, 160, 111, 34, 214, 77, 28, 538, 224, 180,
        63, 424, 196, 125, 195, 621, 102, 121, 31, 233, 72, 55, 205, 79, 42, 76, 142, 203, 16, 11, 82, 53, 67, 417, 54, 402, 205, 61, 22, 338, 111, 462 },
      { 6, 37, 29, 63, -1 } },
};

static void the_authors_choice(void **state)
{
    (void)state;
    for (size_t l = 0; l < sizeof layers / sizeof *layers; l++) {
        double scores[64];
        bool taken[64];
        uint32_t n = 0;
        for (int e = 0; e < 64; e++)
            scores[e] = layers[l].scores[e] / 10000.0;
        while (layers[l].taken[n] >= 0)
            n++;
        assert_int_equal(fs_esft_choose(scores, 64, 0.2, taken), n);
        for (uint32_t i = 0; i < n; i++)
            assert_true(taken[layers[l].taken[i]]);
        for (int e = 0; e < 64; e++)
            n -= taken[e];
        assert_int_equal(n, 0);
    }
}

static void equal_scores_and_all_of_them(void **state)
{
    const double scores[4] = { 0.25, 0.25, 0.25, 0.25 };
    bool taken[4];

    (void)state;
    assert_int_equal(fs_esft_choose(scores, 4, 0.5, taken), 2);
    assert_true(taken[0] && taken[1] && !taken[2] && !taken[3]);
    assert_int_equal(fs_esft_choose(scores, 4, 1e-9, taken), 1);
    assert_int_equal(fs_esft_choose(scores, 4, 2, taken), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_authors_choice), cmocka_unit_test(equal_scores_and_all_of_them) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
