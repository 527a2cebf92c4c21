/* WRAP_ALLOC */
#include "unit.h"

#include "alloc_fail.h"
#include "base/philox.h"
#include "engine/sampler.h"

#include <math.h>

#define V 1000

static fs_kernels kernels;
static fs_sampler *sampler;

static int setup(void **state)
{
    (void)state;
    fs_kernels_init(&kernels, fs_isa_detect());
    return fs_sampler_new(&kernels, V, &sampler, NULL);
}

static int teardown(void **state)
{
    (void)state;
    fs_sampler_free(sampler);
    fs_sampler_free(NULL);
    return 0;
}

static fs_sampling sampling(float temperature)
{
    return (fs_sampling){ .temperature = temperature, .top_p = 1, .repetition_penalty = 1, .seed = 7 };
}

/* Logits of a falling geometric distribution over ids in a fixed scrambled order. */
static void fill(float *logits)
{
    for (int i = 0; i < V; i++)
        logits[(i * 389) % V] = -0.1f * (float)i;
}

static int32_t id_of_rank(int rank)
{
    return (int32_t)(rank * 389 % V);
}

static void greedy_takes_the_lowest_id_of_a_tie(void **state)
{
    float logits[V] = { 0 };
    fs_sampling o = sampling(0);

    (void)state;
    logits[40] = logits[700] = 3;
    assert_int_equal(fs_sampler_draw(sampler, &o, 0, 0, logits, NULL, 0, NULL), 40);
}

static void draws_follow_the_distribution(void **state)
{
    enum { DRAWS = 40000 };
    static int count[V];
    fs_sampling o = sampling(0.5f);
    float logits[V];
    double ratio = exp(-0.2), p = 1 - ratio;

    (void)state;
    memset(count, 0, sizeof count);
    for (uint32_t i = 0; i < DRAWS; i++) {
        fill(logits);
        count[fs_sampler_draw(sampler, &o, 0, i, logits, NULL, 0, NULL)]++;
    }
    for (int rank = 0; rank < 15; rank++) {
        double want = DRAWS * p * pow(ratio, rank), sigma = sqrt(want);
        assert_true(fabs(count[id_of_rank(rank)] - want) < 5 * sigma);
    }
}

static void a_draw_depends_on_seed_stream_and_position_alone(void **state)
{
    fs_sampling o = sampling(1);
    float logits[V];
    int32_t first[50];
    int differ = 0;

    (void)state;
    for (uint32_t i = 0; i < 50; i++) {
        fill(logits);
        first[i] = fs_sampler_draw(sampler, &o, 3, i, logits, NULL, 0, NULL);
    }
    for (uint32_t i = 50; i-- > 0;) {
        float logprob;
        fill(logits);
        assert_int_equal(fs_sampler_draw(sampler, &o, 3, i, logits, NULL, 0, &logprob), first[i]);
        fill(logits);
        differ += fs_sampler_draw(sampler, &o, 4, i, logits, NULL, 0, NULL) != first[i];
    }
    assert_true(differ > 20);
}

static void truncation_keeps_a_prefix_of_the_ranks(void **state)
{
    /* p of rank r is (1-q) q^r, q = exp(-0.1): cumulated 0.5 needs 7 ranks, min_p 0.5 keeps q^r >= 0.5, 7 ranks. */
    static const struct {
        int top_k;
        float top_p, min_p;
        int n_kept;
    } cases[] = { { 5, 1, 0, 5 }, { 0, 0.5f, 0, 7 }, { 0, 1, 0.5f, 7 }, { 3, 0.9999f, 0, 3 }, { 20, 0.5f, 0, 6 },
                  { 1, 1, 0, 1 }, { 0, 1e-6f, 0, 1 }, { 2000, 1, 0, V } };

    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        fs_sampling o = sampling(1);
        int seen = 0;
        static bool hit[V];
        float logits[V];
        memset(hit, 0, sizeof hit);
        o.top_k = cases[c].top_k;
        o.top_p = cases[c].top_p;
        o.min_p = cases[c].min_p;
        for (uint32_t i = 0; i < 3000; i++) {
            int32_t id;
            fill(logits);
            id = fs_sampler_draw(sampler, &o, 0, i, logits, NULL, 0, NULL);
            seen += !hit[id];
            hit[id] = true;
        }
        if (cases[c].n_kept < V)
            assert_int_equal(seen, cases[c].n_kept);
        for (int rank = 0; rank < cases[c].n_kept && cases[c].n_kept < V; rank++)
            assert_true(hit[id_of_rank(rank)]);
    }
}

static void logprob_is_that_of_the_whole_distribution(void **state)
{
    fs_sampling o = sampling(2);
    float logits[V], logprob;
    double sum = 0;
    int32_t id;

    (void)state;
    o.top_k = 4;
    fill(logits);
    for (int i = 0; i < V; i++)
        sum += exp((double)logits[i] / 2);
    id = fs_sampler_draw(sampler, &o, 0, 1, logits, NULL, 0, &logprob);
    assert_true(fabs((double)logprob - ((double)logits[id] - log(sum))) < 1e-5); /* logits are divided in place */
}

static void penalties_count_the_history(void **state)
{
    const int32_t history[] = { 1, 2, 2, 3 };
    fs_sampling o = sampling(0);
    float logits[V] = { 0 };

    (void)state;
    o.repetition_penalty = 2;
    o.frequency_penalty = 0.25f;
    o.presence_penalty = 0.5f;
    logits[1] = 8;
    logits[2] = -8;
    logits[5] = 1;
    fs_sampler_draw(sampler, &o, 0, 0, logits, history, 4, NULL);
    assert_true(logits[1] == 8.0f / 2 - 0.25f - 0.5f);
    assert_true(logits[2] == -8.0f * 2 - 2 * 0.25f - 0.5f);
    assert_true(logits[3] == -0.75f && logits[5] == 1);
    o.penalty_last_n = 1;
    logits[1] = logits[3] = 8;
    fs_sampler_draw(sampler, &o, 0, 0, logits, history, 4, NULL);
    assert_true(logits[1] == 8 && logits[3] == 3.25f);
}

static void the_draw_never_meets_an_id_without_weight(void **state)
{
    float logits[V];
    fs_sampling o = sampling(1);

    (void)state;
    for (uint32_t i = 0; i < 500; i++) {
        for (int j = 0; j < V; j++)
            logits[j] = -INFINITY;
        logits[17] = -1e30f;
        assert_int_equal(fs_sampler_draw(sampler, &o, 0, i, logits, NULL, 0, NULL), 17);
    }
}

/* RN1 section 7 word by word: sort all, keep a prefix, walk the ids. */
static const float *rank_p;
static int by_rank(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return rank_p[x] != rank_p[y] ? (rank_p[x] > rank_p[y] ? -1 : 1) : (x > y) - (x < y);
}

static int32_t plain_draw(const fs_sampling *o, uint32_t position, const float *logits, size_t v)
{
    const uint32_t counter[4] = { 0, 0, position, 0 }, key[2] = { (uint32_t)o->seed, (uint32_t)(o->seed >> 32) };
    float *p = malloc(v * sizeof *p), max = -INFINITY, sum;
    int32_t *ranks = malloc(v * sizeof *ranks), choice = -1;
    bool *kept = calloc(v, sizeof *kept);
    double running = 0, total = 0;
    size_t n = 0, k;
    uint32_t r[4];

    for (size_t i = 0; i < v; i++)
        max = logits[i] / o->temperature > max ? logits[i] / o->temperature : max;
    for (size_t i = 0; i < v; i++)
        p[i] = logits[i] / o->temperature - max;
    kernels.rows.exp(p, p, v);
    sum = kernels.rows.sum(p, v);
    for (size_t i = 0; i < v; i++)
        if (p[i] > 0 && p[i] >= o->min_p)
            ranks[n++] = (int32_t)i;
    rank_p = p;
    qsort(ranks, n, sizeof *ranks, by_rank);
    n = o->top_k > 0 && (size_t)o->top_k < n ? (size_t)o->top_k : n;
    for (size_t i = 0; i < n; i++)
        total += (double)p[ranks[i]];
    if (o->top_k <= 0)
        total = (double)sum;
    for (k = 0; k < n && (o->top_p >= 1 || k == 0 || running < (double)o->top_p * total); k++) {
        running += (double)p[ranks[k]];
        kept[ranks[k]] = true;
    }
    fs_philox(counter, key, r);
    total = running = 0;
    for (size_t i = 0; i < v; i++)
        total += kept[i] ? (double)p[i] : 0;
    for (size_t i = 0; i < v; i++) {
        if (!kept[i])
            continue;
        choice = (int32_t)i;
        running += (double)p[i];
        if (running > (double)(((uint64_t)r[0] << 21) ^ (r[1] >> 11)) * 0x1p-53 * total)
            break;
    }
    free(p);
    free(ranks);
    free(kept);
    return choice;
}

static void every_shortcut_draws_what_a_full_sort_does(void **state)
{
    static const int vocab[] = { 1, 7, 100, 3001, 40000 }, top_k[] = { 0, 1, 3, 40, 500, 39999 };
    static const float top_p[] = { 1, 0.95f, 0.5f, 0.9999f, 1e-6f }, min_p[] = { 0, 0.05f, 0.7f, 1e-30f };
    uint32_t seed = 1, position = 0;

    (void)state;
    for (size_t a = 0; a < 5; a++) {
        size_t v = (size_t)vocab[a];
        float *logits = malloc(v * sizeof *logits), *copy = malloc(v * sizeof *copy);
        fs_sampler *s;
        assert_int_equal(fs_sampler_new(&kernels, vocab[a], &s, NULL), FS_OK);
        for (int shape = 0; shape < 6; shape++) /* flat, ordinary, peaked, of few values, rising, far down */
            for (size_t b = 0; b < 6 * 5 * 4; b++, position++) {
                fs_sampling o = sampling(0.8f);
                o.top_k = top_k[b % 6];
                o.top_p = top_p[b / 6 % 5];
                o.min_p = min_p[b / 30];
                if (v > 5000 && b % 3 != (size_t)shape % 3)
                    continue;
                for (size_t i = 0; i < v; i++) {
                    float x;
                    seed = seed * 1664525u + 1013904223u;
                    x = (float)(int32_t)seed * 0x1p-31f;
                    logits[i] = shape == 0 ? x * 0.01f : shape == 1 ? x * 8 : shape == 2 ? x * x * x * 60 : shape == 3 ? (float)(int)(x * 4)
                                : shape == 4 ? (float)i / (float)v * 12 : i % 100 ? -70 + x : x;
                }
                memcpy(copy, logits, v * sizeof *copy);
                assert_int_equal(fs_sampler_draw(s, &o, 0, position, copy, NULL, 0, NULL), plain_draw(&o, position, logits, v));
            }
        fs_sampler_free(s);
        free(logits);
        free(copy);
    }
}

static void a_failing_allocation_is_a_sentence(void **state)
{
    fs_sampler *s = NULL;
    long n = 1;

    (void)state;
    for (; alloc_fail_at(n), fs_sampler_new(&kernels, V, &s, NULL) != FS_OK; n++)
        assert_null(s);
    alloc_fail_off();
    assert_int_equal(n, 7);
    fs_sampler_free(s);
}

/* A file's weights can make a logit infinite, its generation_config.json a temperature of 1e-40: either leaves no
 * distribution to draw from. */
static void an_infinity_is_drawn_as_the_likeliest(void **state)
{
    fs_sampling o = sampling(1), cold = sampling(1e-40f);
    float logits[V], logprob;

    (void)state;
    for (int truncated = 0; truncated < 2; truncated++) {
        o.top_p = cold.top_p = truncated ? 0.9f : 1.0f;
        fill(logits);
        logits[77] = INFINITY;
        assert_int_equal(fs_sampler_draw(sampler, &o, 0, 0, logits, NULL, 0, &logprob), 77);
        fill(logits);
        logits[33] = 5;
        assert_int_equal(fs_sampler_draw(sampler, &cold, 0, 0, logits, NULL, 0, &logprob), 33);
        for (int i = 0; i < V; i++)
            logits[i] = -INFINITY;
        assert_in_range(fs_sampler_draw(sampler, &o, 0, 0, logits, NULL, 0, &logprob), 0, V - 1);
        fill(logits); /* and the next draw is an ordinary one */
        assert_in_range(fs_sampler_draw(sampler, &o, 0, 0, logits, NULL, 0, &logprob), 0, V - 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_infinity_is_drawn_as_the_likeliest),
        cmocka_unit_test(greedy_takes_the_lowest_id_of_a_tie),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(a_draw_depends_on_seed_stream_and_position_alone),
        cmocka_unit_test(truncation_keeps_a_prefix_of_the_ranks),
        cmocka_unit_test(logprob_is_that_of_the_whole_distribution),
        cmocka_unit_test(penalties_count_the_history),
        cmocka_unit_test(the_draw_never_meets_an_id_without_weight),
        cmocka_unit_test(every_shortcut_draws_what_a_full_sort_does),
        cmocka_unit_test(a_failing_allocation_is_a_sentence),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
