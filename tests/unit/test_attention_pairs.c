/* Attention of class RN1-bf16: every implementation equals the reference to the bit, flushing included; any split of a tile
 * gives the same bits; what a query may not see does not matter; the result is near the exact one of the rounded inputs.
 * Buffers are of exact size, so that sanitizers see a stray read; slots behind the last visible key hold NaN. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tiles.h"

#include "kernels/attention_isa.h"

struct problem {
    fs_attention_tile t;
    bool latent;
    size_t n_keys, n_slots;
    float *q;
    fs_pair *k, *v;
};

static float half_of(fs_pair p, bool second)
{
    return second ? fs_pair_second(p) : fs_pair_first(p);
}

static fs_pair *key_pair(const struct problem *p, size_t j, size_t d)
{
    size_t n = fs_pairs(p->t.key_dim);
    return p->latent ? p->k + j * n + d / 2 : p->k + (j / 16 * n + d / 2) * 16 + j % 16;
}

static void put_key(const struct problem *p, size_t j, size_t d, float x)
{
    fs_pair_put(key_pair(p, j, d), d % 2, x);
}

static float key(const struct problem *p, size_t j, size_t d)
{
    return half_of(*key_pair(p, j, d), d % 2);
}

static void put_value(const struct problem *p, size_t j, size_t d, float x)
{
    if (p->latent)
        put_key(p, j, d, x);
    else
        fs_pair_put(p->v + j / 2 * p->t.v_stride + d, j % 2, x);
}

static float value(const struct problem *p, size_t j, size_t d)
{
    return p->latent ? key(p, j, d) : half_of(p->v[j / 2 * p->t.v_stride + d], j % 2);
}

static struct problem new_problem(bool latent, size_t n_q, size_t n_heads, size_t pos0, size_t key_dim, size_t value_dim, float spread)
{
    struct problem p = { .t = new_tile(n_q, n_heads, pos0, key_dim, value_dim, spread), .latent = latent, .n_keys = pos0 + n_q };
    size_t n_k, n_v;

    p.n_slots = latent ? p.n_keys : (p.n_keys + 15) / 16 * 16;
    n_k = p.n_slots * fs_pairs(key_dim);
    n_v = (fs_pairs(p.n_keys) - 1) * p.t.v_stride + value_dim;
    p.q = random_evens(query_floats(&p.t));
    p.k = calloc(n_k, sizeof *p.k);
    p.v = calloc(n_v, sizeof *p.v);
    for (size_t j = 0; j < p.n_slots; j++)
        for (size_t d = 0; d < key_dim; d++)
            put_key(&p, j, d, j < p.n_keys ? random_even() : NAN);
    for (size_t j = 0; !latent && j < 2 * fs_pairs(p.n_keys); j++)
        for (size_t d = 0; d < value_dim; d++)
            put_value(&p, j, d, j < p.n_keys ? random_even() : NAN);
    p.t.q = p.q;
    p.t.k16 = p.k;
    p.t.v16 = latent ? NULL : p.v;
    return p;
}

static void free_problem(struct problem *p)
{
    free(p->q);
    free(p->k);
    free(p->v);
}

static float *attend(const struct problem *p, const fs_attention_bf16 *k)
{
    return attend_by(p->latent ? k->mla : k->gqa, &p->t);
}

static bool available(const fs_attention_bf16_isa *b)
{
    return (!b->isa || fs_isa_detect() & b->isa) && (!b->available || b->available());
}

static void check_isas(const struct problem *p)
{
    float *want = attend(p, &fs_attention_bf16_ref);

    for (size_t b = 1; b < fs_n_attention_bf16_isas; b++) {
        const fs_attention_bf16_isa *isa = &fs_attention_bf16_isas[b];
        float *got;
        if (!available(isa))
            continue;
        assert_ptr_not_equal(isa->kernels->mla, fs_attention_bf16_ref.mla);
        got = attend(p, isa->kernels);
        check_out(isa->name, p->latent, &p->t, got, want);
        free(got);
    }
    free(want);
}

static void every_isa_equals_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_POSITIONS; i++)
        for (size_t j = 0; j < N_DIMS; j++)
            for (size_t l = (i + j) % 3; l < N_SHAPES; l += 3)
                for (int latent = 0; latent < 2; latent++) {
                    struct problem p;
                    if (positions[i] > 100 && dims[j].key > 72 && shapes[l].n_q * shapes[l].n_heads > 9 && (i + j) % 4)
                        continue; /* the scalar reference takes too long */
                    p = new_problem(latent, shapes[l].n_q, shapes[l].n_heads, positions[i], dims[j].key, dims[j].value, i % 2 ? 3.0f : 40.0f);
                    check_isas(&p);
                    free_problem(&p);
                }
}

/* Zeros, the smallest and the largest numbers, infinities and NaN in keys, values and queries. */
static void special_values_follow_the_reference(void **state)
{
    static const float specials[] = { 0.0f, -0.0f, 0x1p-126f, -0x1.02p-126f, 0x1p127f, -0x1p127f, INFINITY, -INFINITY, NAN, 0x1p-149f };
    (void)state;
    for (int round = 0; round < 120; round++) {
        size_t n_kinds = round % 3 == 0 ? 4 : round % 3 == 1 ? 6 : 10;
        struct problem p = new_problem(round & 1, 5, 2, (size_t)round * 5, 33, 33, 1.0f);
        for (int i = 0; i < 12; i++) {
            size_t j = random_u32() % p.n_keys, d = random_u32() % 33;
            float s = specials[random_u32() % n_kinds];
            if (i % 4 == 0)
                put_key(&p, j, d, s);
            else if (i % 4 == 1)
                put_value(&p, j, d, s);
            else if (i % 4 == 2)
                p.q[d] = n_kinds < 10 ? s : p.q[d];
            else
                for (d = 0; d < 33; d++) /* a key whose score underflows or is zero */
                    put_key(&p, j, d, s);
        }
        check_isas(&p);
        free_problem(&p);
    }
}

/* Values next to 2^-126, whose sums with small probabilities fall to both sides of it. */
static void tiny_sums_follow_the_reference(void **state)
{
    (void)state;
    for (int round = 0; round < 200; round++) {
        struct problem p = new_problem(round & 1, 3, 2, (size_t)round * 3, 32, 32, round % 4 < 2 ? 20.0f : 60.0f);
        for (size_t j = 0; j < p.n_keys; j++)
            for (size_t d = 0; d < 32; d++) {
                float x = ldexpf(1.0f + (float)(random_u32() % 128) / 128.0f, -126 + (int)(random_u32() % (1u << round % 5)));
                put_value(&p, j, d, random_u32() % 2 ? x : -x);
            }
        for (size_t i = 0; p.latent && i < 32; i++) /* the scores come from the queries */
            p.q[i] *= 0x1p100f;
        check_isas(&p);
        free_problem(&p);
    }
}

/* A sum that is below 2^-126 and reaches it only by rounding: whether it counts as tiny is decided after rounding to 24 bits. */
static void tininess_is_found_after_rounding(void **state)
{
    int n_zeros = 0, n_kept = 0;
    (void)state;
    for (int latent = 0; latent < 2; latent++)
        for (int m = 0; m < 128; m += 3)
            for (int step = m % 2; step < 40; step += 2) {
                struct problem p = new_problem(latent, 1, 1, 1, 40, 32, 1.0f);
                float *out;
                p.t.scale = 1.0f;
                for (size_t j = 0; j < 2; j++)
                    for (size_t d = 0; d < 40; d++)
                        put_key(&p, j, d, 0.0f);
                memset(p.q, 0, 40 * sizeof *p.q);
                p.q[39] = 1.0f;
                put_key(&p, 1, 39, -16.5f - 0.0625f * (float)step); /* p of 2^-23.8 to 2^-27.3 */
                for (size_t d = 0; d < 32; d++) {
                    put_value(&p, 0, d, 0x1p-126f);
                    put_value(&p, 1, d, -ldexpf(1.0f + (float)m / 128.0f, -126));
                }
                out = attend(&p, &fs_attention_bf16_ref);
                n_zeros += out[31] == 0;
                n_kept += out[31] > 0;
                free(out);
                check_isas(&p);
                free_problem(&p);
            }
    assert_true(n_zeros > 200);
    assert_true(n_kept > 200);
}

/* fs_fma_flushed against binary64, which holds every product and, next to 2^-126, every sum exactly. */
static void fma_is_flushed_after_rounding(void **state)
{
    const double tiny = 0x1p-126 - 0x1p-151; /* a tie that rounds up, to the even 2^-126 */
    (void)state;
    for (int i = 0; i < 300000; i++) {
        int e = (int)(random_u32() % 200) - 100, f = -126 - e + (int)(random_u32() % 40) - 32;
        float c = i % 3 ? (float)(0x800000 + random_u32() % 8) * 0x1p-149f : 0.0f;
        float a = ldexpf((float)(128 + random_u32() % 128), e), b = ldexpf((float)(128 + random_u32() % 128), f), got;
        double exact;
        a = random_u32() % 2 ? a : -a;
        b = fs_bf16(b);
        exact = (double)a * (double)b + (double)c;
        got = fs_fma_flushed(a, b, c);
        if (fabs(exact) < tiny)
            assert_true(got == 0.0f && (exact == 0 || !signbit(got) == !signbit(exact)));
        else
            assert_true(same(got, fmaf(a, b, c)) && fabsf(got) >= 0x1p-126f);
    }
    assert_true(fs_bf16_bits(0x1.fffffcp-127f) == 0 && fs_bf16_bits(-0x1p-149f) == 0x80000000);
    assert_true(fs_bf16_bits(0x1.01p0f) == 0x3f800000 && fs_bf16_bits(0x1.03p0f) == 0x3f820000 && fs_bf16_bits(0x1.010002p0f) == 0x3f810000);
    assert_true(fs_bf16_bits(0x1.fffffep127f) == 0x7f800000 && isnan(fs_bf16(NAN)) && fs_bf16_bits(-INFINITY) == 0xff800000);
}

/* Each query and head alone, and queries in pieces, give the bits of the whole tile. */
static void any_split_gives_the_same_bits(void **state)
{
    (void)state;
    for (size_t b = 0; b < fs_n_attention_bf16_isas; b++) {
        const fs_attention_bf16_isa *isa = &fs_attention_bf16_isas[b];
        if (!available(isa))
            continue;
        for (int latent = 0; latent < 2; latent++)
            for (size_t i = 0; i < N_POSITIONS; i += 3) {
                struct problem p = new_problem(latent, 9, 5, positions[i], 80, 72, 10.0f);
                float *whole = attend(&p, isa->kernels);
                for (size_t step = 1; step <= 5; step += 2)
                    for (size_t q = 0; q < 9; q += step)
                        for (size_t h = 0; h < 5; h += step) {
                            struct problem part = p;
                            float *out;
                            part.t.q += q * p.t.q_token_stride + h * p.t.q_head_stride;
                            part.t.pos0 += q;
                            part.t.n_q = 9 - q < step ? 9 - q : step;
                            part.t.n_heads = 5 - h < step ? 5 - h : step;
                            out = attend(&part, isa->kernels);
                            for (size_t x = 0; x < part.t.n_q; x++)
                                for (size_t y = 0; y < part.t.n_heads; y++)
                                    assert_memory_equal(out_at(&p.t, out, x, y), out_at(&p.t, whole, q + x, h + y), 72 * sizeof *out);
                            free(out);
                        }
                free(whole);
                free_problem(&p);
            }
    }
}

/* The blocks of a tile joined in ascending order are the whole tile. */
static void joined_blocks_are_the_whole(void **state)
{
    enum { Q = 7, H = 5, DIM = 72 };
    fs_attention_kernels ref;
    (void)state;
    fs_attention_kernels_init(&ref, 0);
    for (size_t b = 0; b < fs_n_attention_bf16_isas; b++) {
        const fs_attention_bf16_isa *isa = &fs_attention_bf16_isas[b];
        if (!available(isa))
            continue;
        for (int latent = 0; latent < 2; latent++)
            for (size_t i = 0; i < N_POSITIONS; i++) {
                struct problem p = new_problem(latent, Q, H, positions[i], 80, DIM, 10.0f);
                float *whole = attend(&p, isa->kernels), m[Q * H], l[Q * H], max[Q * H], sum[Q * H];
                float *o = malloc(Q * H * DIM * sizeof *o), *out = malloc(Q * H * DIM * sizeof *out);
                void *scratch = fs_alloc_aligned(fs_attention_scratch_bytes(80, DIM));
                for (size_t block = 0; block * FS_KV_BLOCK < p.n_keys; block++) {
                    (latent ? isa->kernels->mla_part : isa->kernels->gqa_part)(&p.t, block, m, l, o, scratch);
                    for (size_t r = 0; r < Q * H; r++) {
                        if (positions[i] + r / H + 1 <= block * FS_KV_BLOCK)
                            continue;
                        if (block == 0) {
                            max[r] = m[r];
                            sum[r] = l[r];
                            memcpy(out + r * DIM, o + r * DIM, DIM * sizeof *o);
                        } else {
                            ref.join(&max[r], &sum[r], out + r * DIM, m[r], l[r], o + r * DIM, DIM);
                        }
                    }
                }
                for (size_t r = 0; r < Q * H; r++) {
                    ref.finish(out + r * DIM, sum[r], DIM);
                    assert_memory_equal(out + r * DIM, out_at(&p.t, whole, r / H, r % H), DIM * sizeof *out);
                }
                free(whole);
                free(o);
                free(out);
                fs_free_aligned(scratch);
                free_problem(&p);
            }
    }
}

/* The first queries of a tile with all keys and values behind them replaced by NaN. */
static void later_keys_do_not_matter(void **state)
{
    (void)state;
    for (size_t b = 0; b < fs_n_attention_bf16_isas; b++) {
        const fs_attention_bf16_isa *isa = &fs_attention_bf16_isas[b];
        if (!available(isa))
            continue;
        for (int latent = 0; latent < 2; latent++)
            for (size_t i = 0; i < N_POSITIONS; i++) {
                struct problem p = new_problem(latent, 6, 2, positions[i], 40, 36, 5.0f);
                float *before = attend(&p, isa->kernels), *after;
                for (size_t j = p.t.pos0 + 3; j < p.t.pos0 + 6; j++) {
                    for (size_t d = 0; d < 40; d++)
                        put_key(&p, j, d, NAN);
                    for (size_t d = 0; d < 36; d++)
                        put_value(&p, j, d, NAN);
                }
                after = attend(&p, isa->kernels);
                for (size_t q = 0; q < 3; q++)
                    for (size_t h = 0; h < 2; h++) {
                        assert_memory_equal(out_at(&p.t, before, q, h), out_at(&p.t, after, q, h), 36 * sizeof *after);
                        assert_false(isnan(*out_at(&p.t, after, q, h)));
                    }
                assert_true(isnan(*out_at(&p.t, after, 5, 0)));
                free(before);
                free(after);
                free_problem(&p);
            }
    }
}

/* Against binary64 on the rounded inputs; |v| <= 1, and p is off by 2^-9 at most, in sum and products alike. */
static void reference_is_near_the_exact_result(void **state)
{
    double worst = 0;
    (void)state;
    for (int latent = 0; latent < 2; latent++)
        for (size_t i = 0; i < N_POSITIONS; i++) {
            size_t dim = i % 2 ? 64 : 576, n_values = dim - 16;
            struct problem p = new_problem(latent, 3, 2, positions[i], dim, n_values, 8.0f);
            float *got = attend(&p, &fs_attention_bf16_ref);
            double *s = malloc(p.n_keys * sizeof *s);
            for (size_t q = 0; q < 3; q++)
                for (size_t h = 0; h < 2; h++) {
                    size_t n = p.t.pos0 + q + 1;
                    const float *x = p.q + q * p.t.q_token_stride + h * p.t.q_head_stride;
                    double max = -INFINITY, sum = 0;
                    for (size_t j = 0; j < n; j++) {
                        s[j] = 0;
                        for (size_t d = 0; d < dim; d++)
                            s[j] += (double)fs_bf16(x[d]) * key(&p, j, d);
                        s[j] *= p.t.scale;
                        max = fmax(max, s[j]);
                    }
                    for (size_t j = 0; j < n; j++)
                        sum += s[j] = exp(s[j] - max);
                    for (size_t d = 0; d < n_values; d++) {
                        double o = 0;
                        for (size_t j = 0; j < n; j++)
                            o += s[j] / sum * value(&p, j, d);
                        worst = fmax(worst, fabs(o - out_at(&p.t, got, q, h)[d]));
                    }
                }
            free(s);
            free(got);
            free_problem(&p);
        }
    print_message("at most %.1e from the exact result\n", worst);
    assert_true(worst < 0x1p-8);
    assert_true(worst > 0x1p-14); /* p is rounded */
}

/* One key: p = 1, l = 1, out = v to the bit. */
static void one_key_gives_its_value(void **state)
{
    (void)state;
    for (size_t b = 0; b < fs_n_attention_bf16_isas; b++)
        for (int latent = 0; latent < 2 && available(&fs_attention_bf16_isas[b]); latent++) {
            struct problem p = new_problem(latent, 1, 3, 0, 50, 50, 10.0f);
            float *out = attend(&p, fs_attention_bf16_isas[b].kernels);
            for (size_t h = 0; h < 3; h++)
                for (size_t d = 0; d < 50; d++)
                    assert_true(out_at(&p.t, out, 0, h)[d] == value(&p, 0, d));
            free(out);
            free_problem(&p);
        }
}

/* Rows of every length as pairs, on every ISA. */
static void rounding_follows_the_reference(void **state)
{
    (void)state;
    for (size_t b = 1; b < fs_n_attention_bf16_isas; b++)
        for (size_t n = 1; n < 200 && available(&fs_attention_bf16_isas[b]); n++) {
            float *x = malloc(n * sizeof *x);
            fs_pair *want = malloc(fs_pairs(n) * sizeof *want), *got = malloc(fs_pairs(n) * sizeof *got);
            for (size_t i = 0; i < n; i++) {
                uint32_t bits = random_u32();
                bits = bits % 4 == 0 ? bits & 0x80ffffff : bits % 4 == 1 ? bits | 0x7f800000 : bits; /* denormals; NaN and infinities */
                memcpy(&x[i], &bits, sizeof bits);
            }
            fs_attention_bf16_ref.round(x, n, want);
            fs_attention_bf16_isas[b].kernels->round(x, n, got);
            for (size_t i = 0; i < n; i++)
                assert_true(same(half_of(want[i / 2], i % 2), half_of(got[i / 2], i % 2)));
            if (n % 2)
                assert_int_equal(got[n / 2] & 0xffff, 0);
            free(x);
            free(want);
            free(got);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fma_is_flushed_after_rounding),
        cmocka_unit_test(rounding_follows_the_reference),
        cmocka_unit_test(one_key_gives_its_value),
        cmocka_unit_test(reference_is_near_the_exact_result),
        cmocka_unit_test(every_isa_equals_the_reference),
        cmocka_unit_test(special_values_follow_the_reference),
        cmocka_unit_test(tiny_sums_follow_the_reference),
        cmocka_unit_test(tininess_is_found_after_rounding),
        cmocka_unit_test(any_split_gives_the_same_bits),
        cmocka_unit_test(joined_blocks_are_the_whole),
        cmocka_unit_test(later_keys_do_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
