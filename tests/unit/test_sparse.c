/* Sparse attention: bits of the dense form when all keys are selected, the same on every ISA, and near float64. */
#include "unit.h"

#include "models/internal.h"

#include <math.h>

enum { KEY_DIM = 288 + 16, VALUE_DIM = 288, HEADS = 5, CTX = 768 };

static float *random_floats(size_t n, uint32_t seed)
{
    float *x = malloc(n * sizeof *x);

    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)seed * 0x1p-31f;
    }
    return x;
}

static fs_attention_tile tile(const float *q, const float *k, float *out, size_t pos)
{
    return (fs_attention_tile){ .n_q = 1, .n_heads = HEADS, .pos0 = pos, .q = q, .q_head_stride = KEY_DIM, .key_dim = KEY_DIM,
                                .value_dim = VALUE_DIM, .scale = 0.3f, .k = k, .out = out, .out_head_stride = VALUE_DIM };
}

static void all_selected_is_dense(void **state)
{
    static uint32_t selected[CTX];
    float *q = random_floats(HEADS * KEY_DIM, 1), *k = random_floats((size_t)CTX * KEY_DIM, 2);
    float want[HEADS * VALUE_DIM], got[HEADS * VALUE_DIM];
    void *dense = fs_alloc_aligned(fs_attention_scratch_bytes(KEY_DIM, VALUE_DIM));
    void *sparse = fs_alloc_aligned(fs_sparse_scratch_bytes(KEY_DIM, VALUE_DIM));
    const size_t positions[] = { 0, 1, 16, 254, 255, 256, 257, 511, 512, 700, 767 };

    (void)state;
    for (uint32_t i = 0; i < CTX; i++)
        selected[i] = i;
    for (unsigned isa = 0; isa < FS_ISA_END; isa = isa ? isa << 1 : 1) {
        fs_kernels kernels;
        if (isa && !(fs_isa_detect() & isa))
            continue;
        fs_kernels_init(&kernels, isa);
        for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
            fs_attention_tile a = tile(q, k, want, positions[i]), b = tile(q, k, got, positions[i]);
            kernels.attention.mla(&a, dense);
            fs_sparse_attention(&kernels, &b, selected, positions[i] + 1, sparse);
            assert_memory_equal(got, want, sizeof got);
        }
    }
    fs_free_aligned(dense);
    fs_free_aligned(sparse);
    free(q);
    free(k);
}

static void gaps_and_empty_blocks_are_near_float64_and_equal_on_every_isa(void **state)
{
    static const uint32_t selected[] = { 3, 4, 17, 250, 255, 512, 515, 700, 766 };
    enum { N = sizeof selected / sizeof *selected };
    float *q = random_floats(HEADS * KEY_DIM, 3), *k = random_floats((size_t)CTX * KEY_DIM, 4);
    float first[HEADS * VALUE_DIM], got[HEADS * VALUE_DIM];
    void *scratch = fs_alloc_aligned(fs_sparse_scratch_bytes(KEY_DIM, VALUE_DIM));
    fs_kernels kernels;
    fs_attention_tile t = tile(q, k, first, 767);

    (void)state;
    fs_kernels_init(&kernels, 0);
    fs_sparse_attention(&kernels, &t, selected, N, scratch);
    for (int h = 0; h < HEADS; h++) {
        double p[N], sum = 0;
        for (int j = 0; j < N; j++) {
            double s = 0;
            for (int d = 0; d < KEY_DIM; d++)
                s += (double)q[h * KEY_DIM + d] * (double)k[selected[j] * KEY_DIM + (size_t)d];
            sum += p[j] = exp(0.3 * s);
        }
        for (int d = 0; d < VALUE_DIM; d++) {
            double o = 0;
            for (int j = 0; j < N; j++)
                o += p[j] / sum * (double)k[selected[j] * KEY_DIM + (size_t)d];
            assert_true(fabs(o - (double)first[h * VALUE_DIM + d]) < 1e-5);
        }
    }
    t.out = got;
    for (unsigned isa = 1; isa < FS_ISA_END; isa <<= 1) {
        if (!(fs_isa_detect() & isa))
            continue;
        fs_kernels_init(&kernels, isa);
        fs_sparse_attention(&kernels, &t, selected, N, scratch);
        assert_memory_equal(got, first, sizeof got);
    }
    fs_free_aligned(scratch);
    free(q);
    free(k);
}

/* V4's form: a window that starts inside a block, entries of an index space of their own, a sink without a value. */
static void two_sets_of_keys_and_a_sink_are_near_float64_and_equal_on_every_isa(void **state)
{
    enum { FIRST = 200, WINDOW = 100, ENTRIES = 300, N = WINDOW + ENTRIES };
    const float sink[HEADS] = { -1.0f, 0.5f, 30.0f, 2.0f, -60.0f };
    float *q = random_floats(HEADS * KEY_DIM, 5), *k = random_floats((size_t)CTX * KEY_DIM, 6);
    float *entries = random_floats((size_t)ENTRIES * KEY_DIM, 7), first[HEADS * VALUE_DIM], got[HEADS * VALUE_DIM];
    void *scratch = fs_alloc_aligned(fs_sparse_scratch_bytes(KEY_DIM, VALUE_DIM));

    (void)state;
    for (unsigned isa = 0; isa < FS_ISA_END; isa = isa ? isa << 1 : 1) {
        fs_attention_tile t = tile(q, k, isa ? got : first, 0);
        fs_kernels kernels;
        fs_sparse s;
        if (isa && !(fs_isa_detect() & isa))
            continue;
        fs_kernels_init(&kernels, isa);
        fs_sparse_begin(&s, &kernels, &t, scratch);
        fs_sparse_keys(&s, k, NULL, FIRST, WINDOW);
        fs_sparse_keys(&s, entries, NULL, 0, ENTRIES);
        fs_sparse_end(&s, sink);
        if (isa)
            assert_memory_equal(got, first, sizeof got);
    }
    for (int h = 0; h < HEADS; h++) {
        double p[N], sum = exp((double)sink[h]);
        for (int j = 0; j < N; j++) {
            const float *key = j < WINDOW ? k + (size_t)(FIRST + j) * KEY_DIM : entries + (size_t)(j - WINDOW) * KEY_DIM;
            double score = 0;
            for (int d = 0; d < KEY_DIM; d++)
                score += (double)q[h * KEY_DIM + d] * (double)key[d];
            sum += p[j] = exp((double)0.3f * score);
        }
        for (int d = 0; d < VALUE_DIM; d++) {
            double o = 0;
            for (int j = 0; j < N; j++)
                o += p[j] / sum * (double)(j < WINDOW ? k + (size_t)(FIRST + j) * KEY_DIM : entries + (size_t)(j - WINDOW) * KEY_DIM)[d];
            assert_true(fabs(o - (double)first[h * VALUE_DIM + d]) < 1e-5);
        }
    }
    fs_free_aligned(scratch);
    free(q);
    free(k);
    free(entries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_selected_is_dense),
        cmocka_unit_test(gaps_and_empty_blocks_are_near_float64_and_equal_on_every_isa),
        cmocka_unit_test(two_sets_of_keys_and_a_sink_are_near_float64_and_equal_on_every_isa),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
