/* The row kernels: what the definition says on small cases, and every instruction set of this machine against it,
 * to the bit. Buffers have the exact size, so that the sanitizers see a stray read or write. */
#include "kernels/kernels.h"
#include "kernels/math.h"

#include "unit.h"

#include <math.h>

#define N_MAX 400

static uint32_t bits_of(float x)
{
    uint32_t b;
    memcpy(&b, &x, sizeof b);
    return x != x ? 0x7fc00000 : b;
}

static float float_of(uint32_t b)
{
    float x;
    memcpy(&x, &b, sizeof x);
    return x;
}

#define assert_same_bits(a, b) assert_int_equal(bits_of(a), bits_of(b))

static void assert_same_rows(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_same_bits(a[i], b[i]);
}

static uint64_t seed = 1;

static uint32_t random_u32(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 32);
}

enum kind { PLAIN, WIDE, SPECIAL, ZEROS, WITH_NAN, KIND_END };

static float random_f32(enum kind kind)
{
    static const uint32_t special[] = { 0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x00800000,
                                        0x7f800000, 0xff800000, 0x7f7fffff, 0x3f800000, 0xbf800000, 0xc2ce0000 };
    uint32_t r = random_u32();

    switch (kind) {
    case PLAIN: /* sums, scores, activations: about +-8 */
        return (float)((int32_t)r >> 8) * 0x1p-20f;
    case WIDE: /* any finite value, denormals included */
        return float_of((r & 0x7f800000) == 0x7f800000 ? r & 0x807fffff : r);
    case SPECIAL:
        return r & 0x100 ? random_f32(PLAIN) : float_of(special[r % 12]);
    case ZEROS:
        return r & 1 ? -0.0f : 0.0f;
    default:
        return r % 64 == 0 ? NAN : random_f32(PLAIN);
    }
}

/* Never NULL, and malloc(0)'s block has no readable byte. */
static float *row(size_t n, enum kind kind)
{
    float *x = malloc(n * sizeof *x);

    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_f32(kind);
    return x;
}

static float *copy(const float *x, size_t n)
{
    float *y = malloc(n * sizeof *y);

    assert_non_null(y);
    if (n)
        memcpy(y, x, n * sizeof *y);
    return y;
}

typedef void each_fn(const fs_rows_kernels *ref, const fs_rows_kernels *k, size_t n, enum kind kind);

static void on_every_isa(each_fn *each)
{
    fs_rows_kernels ref, k;

    fs_rows_kernels_init(&ref, 0);
    for (unsigned isa = 1; isa < FS_ISA_END; isa <<= 1) {
        if (!(fs_isa_detect() & isa))
            continue;
        fs_rows_kernels_init(&k, isa);
        assert_ptr_not_equal(ref.sum, k.sum);
        for (size_t n = 0; n <= N_MAX; n++)
            for (int kind = 0; kind < KIND_END; kind++)
                each(&ref, &k, n, kind);
    }
}

static void each_reduction(const fs_rows_kernels *ref, const fs_rows_kernels *k, size_t n, enum kind kind)
{
    float *x = row(n, kind);

    assert_same_bits(ref->sum(x, n), k->sum(x, n));
    assert_same_bits(ref->sumsq(x, n), k->sumsq(x, n));
    assert_int_equal(ref->find_nan(x, n), k->find_nan(x, n));
    if (n) {
        assert_same_bits(ref->max(x, n), k->max(x, n));
        assert_int_equal(ref->argmax(x, n), k->argmax(x, n));
        x[random_u32() % n] = x[random_u32() % n];
        x[0] = random_u32() % 8 ? x[0] : NAN;
        assert_same_bits(ref->max(x, n), k->max(x, n));
        assert_int_equal(ref->argmax(x, n), k->argmax(x, n));
    }
    free(x);
}

typedef void map_fn(const float *x, float *y, size_t n);

static void same_map(map_fn *ref, map_fn *k, const float *x, size_t n)
{
    float *a = row(n, PLAIN), *b = row(n, PLAIN), *c = copy(x, n);

    ref(x, a, n);
    k(x, b, n);
    k(c, c, n);
    assert_same_rows(a, b, n);
    assert_same_rows(a, c, n);
    free(a);
    free(b);
    free(c);
}

static void each_map(const fs_rows_kernels *ref, const fs_rows_kernels *k, size_t n, enum kind kind)
{
    float *x = row(n, kind);

    same_map(ref->exp, k->exp, x, n);
    same_map(ref->sigmoid, k->sigmoid, x, n);
    same_map(ref->silu, k->silu, x, n);
    if (n)
        same_map(ref->softmax, k->softmax, x, n);
    free(x);
}

static void each_pair(const fs_rows_kernels *ref, const fs_rows_kernels *k, size_t n, enum kind kind)
{
    float *x = row(n, kind), *u = row(n, kind), *a = row(n, PLAIN), *b = copy(a, n), *c = copy(u, n);
    float w = random_f32(kind == WITH_NAN ? PLAIN : kind), eps = 1e-6f;

    ref->axpy(w, x, a, n);
    k->axpy(w, x, b, n);
    assert_same_rows(a, b, n);
    ref->swiglu(x, u, a, n);
    k->swiglu(x, u, b, n);
    k->swiglu(x, c, c, n);
    assert_same_rows(a, b, n);
    assert_same_rows(a, c, n);
    ref->add(x, u, a, n);
    k->add(x, u, b, n);
    assert_same_rows(a, b, n);
    ref->scale(w, x, a, n);
    k->scale(w, x, b, n);
    assert_same_rows(a, b, n);
    ref->rmsnorm(x, u, eps, a, n);
    k->rmsnorm(x, u, eps, b, n);
    assert_same_rows(a, b, n);
    ref->rmsnorm(x, NULL, eps, a, n);
    memcpy(c, x, n * sizeof *c);
    k->rmsnorm(c, NULL, eps, c, n);
    assert_same_rows(a, c, n);
    free(x);
    free(u);
    free(a);
    free(b);
    free(c);
}

static void each_rope(const fs_rows_kernels *ref, const fs_rows_kernels *k, size_t n, enum kind kind)
{
    size_t d = n & ~(size_t)1;
    float *a = row(d, kind), *b = copy(a, d), *cs = row(d, kind);

    ref->rope_half(a, cs, d);
    k->rope_half(b, cs, d);
    assert_same_rows(a, b, d);
    ref->rope_interleaved(a, cs, d);
    k->rope_interleaved(b, cs, d);
    assert_same_rows(a, b, d);
    free(a);
    free(b);
    free(cs);
}

static void reductions_are_the_reference(void **state)
{
    (void)state;
    on_every_isa(each_reduction);
}

static void maps_are_the_reference(void **state)
{
    (void)state;
    on_every_isa(each_map);
}

static void norms_and_products_are_the_reference(void **state)
{
    (void)state;
    on_every_isa(each_pair);
}

static void rope_is_the_reference(void **state)
{
    (void)state;
    on_every_isa(each_rope);
}

static void any_alignment_gives_the_same(void **state)
{
    fs_rows_kernels ref, k;
    (void)state;

    fs_rows_kernels_init(&ref, 0);
    for (unsigned isa = 1; isa < FS_ISA_END; isa <<= 1) {
        if (!(fs_isa_detect() & isa))
            continue;
        fs_rows_kernels_init(&k, isa);
        for (size_t off = 0; off < 17; off++) {
            size_t n = 257;
            float *x = row(n + off, PLAIN), *y = row(n + off, PLAIN), *z = copy(y, n + off);

            assert_same_bits(ref.sum(x + off, n), k.sum(x + off, n));
            ref.softmax(x + off, y + off, n);
            k.softmax(x + off, z + off, n);
            assert_same_rows(y, z, n + off);
            ref.rope_interleaved(y + off, x + off, n - 1);
            k.rope_interleaved(z + off, x + off, n - 1);
            assert_same_rows(y, z, n + off);
            free(x);
            free(y);
            free(z);
        }
    }
}

/* From here on the definition itself, on cases worked out by hand. */

static fs_rows_kernels reference(void)
{
    fs_rows_kernels k;
    fs_rows_kernels_init(&k, 0);
    return k;
}

static void sum_follows_order_b(void **state)
{
    fs_rows_kernels k = reference();
    float x[33] = { 0 };
    (void)state;

    /* 2^24 and 1 meet in a lane and the 1 is lost; in neighbouring lanes the fold adds 1 + 1 first. */
    x[0] = 0x1p24f;
    x[16] = 1.0f;
    x[32] = 1.0f;
    assert_same_bits(k.sum(x, 33), 0x1p24f);
    x[16] = x[32] = 0.0f;
    x[1] = x[3] = 1.0f;
    assert_same_bits(k.sum(x, 33), 0x1p24f + 2.0f);
    /* lanes 0 and 8 meet first: 2^24 + 1 is a tie and goes back to 2^24, then lane 4 */
    x[1] = x[3] = 0.0f;
    x[8] = x[4] = 1.0f;
    assert_same_bits(k.sum(x, 33), 0x1p24f);
    assert_same_bits(k.sum(x, 0), 0.0f);
    x[0] = -0.0f;
    assert_same_bits(k.sum(x, 1), 0.0f);
}

static void sumsq_rounds_once_a_step(void **state)
{
    fs_rows_kernels k = reference();
    float x[17] = { 0 };
    (void)state;

    /* (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: with -1 no fma could show; 2^-24 survives only unrounded, beside 2^-23. */
    x[0] = 0x1p-12f;
    x[16] = 1.0f + 0x1p-12f;
    assert_same_bits(k.sumsq(x, 17), 1.0f + 0x1p-11f + 0x1p-23f);
}

static void max_passes_over_nan_and_gives_plus_zero(void **state)
{
    fs_rows_kernels k = reference();
    const float a[4] = { -3.0f, NAN, -1.0f, -2.0f }, b[3] = { NAN, 1.0f, 2.0f }, z[2] = { -0.0f, -0.0f };
    (void)state;

    assert_same_bits(k.max(a, 4), -1.0f);
    assert_int_equal(k.argmax(a, 4), 2);
    assert_same_bits(k.max(b, 3), NAN);
    assert_int_equal(k.argmax(b, 3), 0);
    assert_same_bits(k.max(z, 2), 0.0f);
}

static void argmax_takes_the_lowest_of_a_tie(void **state)
{
    fs_rows_kernels k = reference();
    float x[40];
    (void)state;

    for (int i = 0; i < 40; i++)
        x[i] = -(float)i;
    x[7] = x[23] = x[39] = 5.0f;
    assert_int_equal(k.argmax(x, 40), 7);
}

static void find_nan_names_the_first(void **state)
{
    fs_rows_kernels k = reference();
    float x[40] = { 0 };
    (void)state;

    x[3] = INFINITY;
    assert_int_equal(k.find_nan(x, 40), 0);
    x[37] = x[21] = NAN;
    assert_int_equal(k.find_nan(x, 40), 22);
}

static void sigmoid_and_silu_at_the_ends(void **state)
{
    fs_rows_kernels k = reference();
    const float x[5] = { 0.0f, 200.0f, -200.0f, 20.0f, -1.0f };
    float s[5], w[5];
    (void)state;

    k.sigmoid(x, s, 5);
    k.silu(x, w, 5);
    assert_same_bits(s[0], 0.5f);
    assert_same_bits(s[1], 1.0f);
    assert_same_bits(s[2], 0.0f);
    assert_same_bits(s[3], 1.0f);
    assert_true(fabs(s[4] - 0.26894142136999512) < 2e-8);
    assert_same_bits(w[0], 0.0f);
    assert_same_bits(w[1], 200.0f);
    assert_same_bits(w[2], -0.0f);
    assert_same_bits(w[4], -1.0f / (1.0f + fs_expf(1.0f)));
}

static void softmax_of_equal_scores_is_even(void **state)
{
    fs_rows_kernels k = reference();
    float x[32];
    (void)state;

    for (int i = 0; i < 32; i++)
        x[i] = i < 16 ? 11.5f : -INFINITY;
    k.softmax(x, x, 32);
    for (int i = 0; i < 32; i++)
        assert_same_bits(x[i], i < 16 ? 0x1p-4f : 0.0f);
}

static void rmsnorm_of_a_known_row(void **state)
{
    fs_rows_kernels k = reference();
    const float x[4] = { 3.0f, -3.0f, 3.0f, -3.0f }, w[4] = { 1.0f, 2.0f, -1.0f, 0.5f };
    float y[4], r = 1.0f / sqrtf(9.0f + 0.5f);
    (void)state;

    k.rmsnorm(x, w, 0.5f, y, 4);
    for (int i = 0; i < 4; i++)
        assert_same_bits(y[i], x[i] * r * w[i]);
}

static void rope_turns_pairs_and_rounds_each_product(void **state)
{
    fs_rows_kernels k = reference();
    const float cs[4] = { 0.0f, 1.0f, 1.0f, 0.0f };
    float h[4] = { 1.0f, 2.0f, 3.0f, 4.0f }, p[4] = { 1.0f, 2.0f, 3.0f, 4.0f }, x[64], tenth[64];
    (void)state;

    k.rope_half(h, cs, 4); /* pair (0, 2) by a quarter turn, pair (1, 3) stays */
    assert_same_bits(h[0], -3.0f);
    assert_same_bits(h[1], 2.0f);
    assert_same_bits(h[2], 1.0f);
    assert_same_bits(h[3], 4.0f);
    k.rope_interleaved(p, cs, 4);
    assert_same_bits(p[0], -2.0f);
    assert_same_bits(p[1], 1.0f);
    assert_same_bits(p[2], 3.0f);
    assert_same_bits(p[3], 4.0f);
    /* A contracted a*c - b*s would leave the rounding error of one product. Long enough for a compiler's vectoriser,
     * which has done just that. */
    for (int i = 0; i < 64; i++) {
        x[i] = 0.3f;
        tenth[i] = 0.1f;
    }
    k.rope_interleaved(x, tenth, 64);
    for (int i = 0; i < 64; i += 2)
        assert_same_bits(x[i], 0.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reductions_are_the_reference),
        cmocka_unit_test(maps_are_the_reference),
        cmocka_unit_test(norms_and_products_are_the_reference),
        cmocka_unit_test(rope_is_the_reference),
        cmocka_unit_test(any_alignment_gives_the_same),
        cmocka_unit_test(sum_follows_order_b),
        cmocka_unit_test(sumsq_rounds_once_a_step),
        cmocka_unit_test(max_passes_over_nan_and_gives_plus_zero),
        cmocka_unit_test(argmax_takes_the_lowest_of_a_tie),
        cmocka_unit_test(find_nan_names_the_first),
        cmocka_unit_test(sigmoid_and_silu_at_the_ends),
        cmocka_unit_test(softmax_of_equal_scores_is_even),
        cmocka_unit_test(rmsnorm_of_a_known_row),
        cmocka_unit_test(rope_turns_pairs_and_rounds_each_product),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
