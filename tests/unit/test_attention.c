/* Attention: every ISA of this machine equals the reference to the bit, any split of a tile gives the same bits, what
 * a query may not see does not matter, and the result is near the exact one. Buffers are of exact size, so that
 * sanitizers see a stray read; cache slots behind the last visible key hold NaN. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tiles.h"

struct problem {
    fs_attention_tile t;
    bool latent;
    float *q, *k, *v;
};

static float *key(const struct problem *p, size_t j, size_t d)
{
    size_t n = p->t.key_dim;
    return p->latent ? p->k + j * n + d : p->k + (j / 16 * n + d) * 16 + j % 16;
}

static const float *value(const struct problem *p, size_t j)
{
    return p->latent ? p->k + j * p->t.key_dim : p->v + j * p->t.v_stride;
}

static struct problem new_problem(bool latent, size_t n_q, size_t n_heads, size_t pos0, size_t key_dim, size_t value_dim,
                                  float spread)
{
    size_t n_keys = pos0 + n_q, n_ctx = (n_keys + 15) / 16 * 16;
    struct problem p = { .t = new_tile(n_q, n_heads, pos0, key_dim, value_dim, spread), .latent = latent };

    p.t.q = p.q = random_evens(query_floats(&p.t));
    p.t.k = p.k = random_evens((latent ? n_keys : n_ctx) * key_dim);
    for (size_t j = n_keys; !latent && j < n_ctx; j++)
        for (size_t d = 0; d < key_dim; d++)
            *key(&p, j, d) = NAN;
    p.v = random_evens((n_keys - 1) * p.t.v_stride + value_dim);
    p.t.v = latent ? NULL : p.v;
    return p;
}

static void free_problem(struct problem *p)
{
    free(p->q);
    free(p->k);
    free(p->v);
}

static float *attend(const struct problem *p, unsigned isa)
{
    fs_attention_kernels k;

    fs_attention_kernels_init(&k, isa);
    return attend_by(p->latent ? k.mla : k.gqa, &p->t);
}

static void check_isas(const struct problem *p)
{
    float *want = attend(p, 0);
    fs_attention_kernels ref, k;

    fs_attention_kernels_init(&ref, 0);
    for (unsigned isa = 1; isa < FS_ISA_END; isa <<= 1) {
        float *got;
        if (!(fs_isa_detect() & isa))
            continue;
        fs_attention_kernels_init(&k, isa);
        assert_ptr_not_equal(k.gqa, ref.gqa);
        assert_ptr_not_equal(k.mla, ref.mla);
        got = attend(p, isa);
        check_out(fs_isa_name(isa), p->latent, &p->t, got, want);
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
                    struct problem p = new_problem(latent, shapes[l].n_q, shapes[l].n_heads, positions[i], dims[j].key,
                                                   dims[j].value, i % 2 ? 3.0f : 40.0f);
                    check_isas(&p);
                    free_problem(&p);
                }
}

/* Denormals, infinities and NaN in keys, values and queries: which keys enter a chain, and in which order, shows. */
static void special_values_follow_the_reference(void **state)
{
    static const float specials[] = { 0.0f, -0.0f, 0x1p-149f, -0x1p-130f, 0x1p127f, -0x1p127f, INFINITY, -INFINITY, NAN };
    (void)state;
    for (int round = 0; round < 120; round++) {
        size_t n_kinds = round % 3 == 0 ? 4 : round % 3 == 1 ? 6 : 9;
        struct problem p = new_problem(round & 1, 5, 2, (size_t)round * 5, 33, 33, 1.0f);
        for (int i = 0; i < 12; i++) {
            size_t j = (size_t)((random_even() + 1) * 0.4999f * (float)(p.t.pos0 + 5)), d = (size_t)((random_even() + 1) * 16);
            float s = specials[(size_t)((random_even() + 1) * 0.4999f * (float)n_kinds)];
            switch (i % 4) {
            case 0:
                *key(&p, j, d) = s;
                break;
            case 1:
                p.v[j * p.t.v_stride + d] = s;
                break;
            case 2:
                if (n_kinds < 9)
                    p.q[d] = s;
                break;
            default:
                for (d = 0; d < 33; d++) /* a key whose score underflows or is zero */
                    *key(&p, j, d) = s;
            }
        }
        check_isas(&p);
        free_problem(&p);
    }
}

/* Each query and head alone, and queries in pieces, give the bits of the whole tile. */
static void any_split_gives_the_same_bits(void **state)
{
    (void)state;
    for (unsigned isa = 0; isa < FS_ISA_END; isa = isa ? isa << 1 : 1) {
        if (isa && !(fs_isa_detect() & isa))
            continue;
        for (int latent = 0; latent < 2; latent++)
            for (size_t i = 0; i < N_POSITIONS; i += 3) {
                struct problem p = new_problem(latent, 9, 5, positions[i], 80, 72, 10.0f);
                float *whole = attend(&p, isa);
                for (size_t step = 1; step <= 5; step += 2)
                    for (size_t q = 0; q < 9; q += step)
                        for (size_t h = 0; h < 5; h += step) {
                            struct problem part = p;
                            float *out;
                            part.t.q += q * p.t.q_token_stride + h * p.t.q_head_stride;
                            part.t.pos0 += q;
                            part.t.n_q = 9 - q < step ? 9 - q : step;
                            part.t.n_heads = 5 - h < step ? 5 - h : step;
                            out = attend(&part, isa);
                            for (size_t a = 0; a < part.t.n_q; a++)
                                for (size_t b = 0; b < part.t.n_heads; b++)
                                    assert_memory_equal(out_at(&p.t, out, a, b), out_at(&p.t, whole, q + a, h + b), 72 * sizeof *out);
                            free(out);
                        }
                free(whole);
                free_problem(&p);
            }
    }
}

/* The blocks of a tile joined in ascending order are the whole tile, on every ISA. */
static void joined_blocks_are_the_whole(void **state)
{
    (void)state;
    for (unsigned isa = 0; isa < FS_ISA_END; isa = isa ? isa << 1 : 1) {
        fs_attention_kernels k;
        if (isa && !(fs_isa_detect() & isa))
            continue;
        fs_attention_kernels_init(&k, isa);
        for (int latent = 0; latent < 2; latent++)
            for (size_t i = 0; i < N_POSITIONS; i++) {
                enum { Q = 7, H = 5, DIM = 72 };
                struct problem p = new_problem(latent, Q, H, positions[i], 80, DIM, 10.0f);
                float *whole = attend(&p, isa), m[Q * H], l[Q * H], max[Q * H], sum[Q * H];
                float *o = malloc(Q * H * DIM * sizeof *o), *out = malloc(Q * H * DIM * sizeof *out);
                void *scratch = fs_alloc_aligned(fs_attention_scratch_bytes(80, DIM));
                for (size_t block = 0; block * FS_KV_BLOCK < positions[i] + Q; block++) {
                    (latent ? k.mla_part : k.gqa_part)(&p.t, block, m, l, o, scratch);
                    for (size_t r = 0; r < Q * H; r++) {
                        if (positions[i] + r / H + 1 <= block * FS_KV_BLOCK)
                            continue;
                        if (block == 0) {
                            max[r] = m[r];
                            sum[r] = l[r];
                            memcpy(out + r * DIM, o + r * DIM, DIM * sizeof *o);
                        } else {
                            k.join(&max[r], &sum[r], out + r * DIM, m[r], l[r], o + r * DIM, DIM);
                        }
                    }
                }
                for (size_t r = 0; r < Q * H; r++) {
                    k.finish(out + r * DIM, sum[r], DIM);
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

/* The pieces that sparse attention is made of: ragged visibility, slots with gaps, every count of keys and rows. */
static void latent_pieces_equal_the_reference(void **state)
{
    enum { DIM = 276, VALUE = 70, STRIDE = 279, GROUPS = 2, S = FS_KV_BLOCK * FS_LATENT_ROWS };
    fs_attention_kernels ref, k;
    float *keys = random_evens(FS_KV_BLOCK * STRIDE), *q = random_evens(GROUPS * FS_LATENT_ROWS * DIM);
    float *panels[2], *s[2], m[2][FS_LATENT_ROWS], l[2][FS_LATENT_ROWS], o[2][FS_LATENT_ROWS][VALUE];
    const float *rows[FS_LATENT_ROWS];
    uint32_t slots[FS_KV_BLOCK];

    (void)state;
    fs_attention_kernels_init(&ref, 0);
    for (int i = 0; i < 2; i++) {
        panels[i] = malloc(GROUPS * FS_LATENT_ROWS * DIM * sizeof **panels);
        s[i] = malloc(GROUPS * S * sizeof **s);
    }
    for (unsigned isa = 1; isa < FS_ISA_END; isa <<= 1) {
        if (!(fs_isa_detect() & isa))
            continue;
        fs_attention_kernels_init(&k, isa);
        for (size_t n = 1; n <= FS_KV_BLOCK; n += n < 40 ? 1 : 27) {
            const fs_attention_kernels *both[2] = { &ref, &k };
            size_t n_rows = n % FS_LATENT_ROWS + 1, visible[FS_LATENT_ROWS];
            for (size_t j = 0; j < n; j++)
                slots[j] = (uint32_t)(FS_KV_BLOCK - n + j);
            for (size_t r = 0; r < FS_LATENT_ROWS; r++) {
                size_t less = (FS_LATENT_ROWS - r) * (n % 3);
                visible[r] = n > less ? n - less : 1;
            }
            for (int i = 0; i < 2; i++) {
                float *out[FS_LATENT_ROWS];
                memset(s[i], 0, GROUPS * S * sizeof **s);
                memset(o[i], 0, sizeof o[i]);
                for (size_t g = 0; g < GROUPS; g++) {
                    for (size_t r = 0; r < n_rows; r++)
                        rows[r] = q + (g * FS_LATENT_ROWS + r) * DIM;
                    both[i]->latent.pack(rows, n_rows, DIM, panels[i] + g * FS_LATENT_ROWS * DIM);
                }
                both[i]->latent.scores(panels[i], GROUPS, keys, STRIDE, n, DIM, 0.1f, s[i]);
                both[i]->latent.softmax(s[i] + S, visible, n % 2 ? slots : NULL, m[i], l[i]);
                for (size_t r = 0; r < n_rows; r++)
                    out[r] = o[i][r];
                both[i]->latent.values(s[i] + S, visible, n_rows, keys, STRIDE, VALUE, out);
            }
            assert_memory_equal(panels[0], panels[1], GROUPS * FS_LATENT_ROWS * DIM * sizeof **panels);
            assert_memory_equal(s[0], s[1], GROUPS * S * sizeof **s);
            assert_memory_equal(m[0], m[1], sizeof m[0]);
            assert_memory_equal(l[0], l[1], sizeof l[0]);
            assert_memory_equal(o[0], o[1], sizeof o[0]);
        }
    }
    for (int i = 0; i < 2; i++) {
        free(panels[i]);
        free(s[i]);
    }
    free(keys);
    free(q);
}

/* Query 0 of a tile with all later keys and values replaced by NaN. */
static void later_keys_do_not_matter(void **state)
{
    (void)state;
    for (unsigned isa = 0; isa < FS_ISA_END; isa = isa ? isa << 1 : 1) {
        if (isa && !(fs_isa_detect() & isa))
            continue;
        for (int latent = 0; latent < 2; latent++)
            for (size_t i = 0; i < N_POSITIONS; i++) {
                struct problem p = new_problem(latent, 6, 2, positions[i], 40, 36, 5.0f);
                float *before = attend(&p, isa), *after;
                for (size_t j = p.t.pos0 + 3; j < p.t.pos0 + 6; j++) {
                    for (size_t d = 0; d < 40; d++)
                        *key(&p, j, d) = NAN;
                    for (size_t d = 0; d < 36; d++)
                        p.v[j * p.t.v_stride + d] = NAN;
                }
                after = attend(&p, isa);
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

static void reference_is_near_the_exact_result(void **state)
{
    (void)state;
    for (int latent = 0; latent < 2; latent++)
        for (size_t i = 0; i < N_POSITIONS; i++) {
            size_t dim = i % 2 ? 64 : 576;
            struct problem p = new_problem(latent, 3, 2, positions[i], dim, dim - 16, 8.0f);
            float *got = attend(&p, 0);
            double *s = malloc((p.t.pos0 + 3) * sizeof *s);
            for (size_t q = 0; q < 3; q++)
                for (size_t h = 0; h < 2; h++) {
                    size_t n = p.t.pos0 + q + 1;
                    const float *x = p.q + q * p.t.q_token_stride + h * p.t.q_head_stride;
                    double max = -INFINITY, sum = 0;
                    for (size_t j = 0; j < n; j++) {
                        s[j] = 0;
                        for (size_t d = 0; d < dim; d++)
                            s[j] += (double)x[d] * *key(&p, j, d);
                        s[j] *= p.t.scale;
                        max = fmax(max, s[j]);
                    }
                    for (size_t j = 0; j < n; j++)
                        sum += s[j] = exp(s[j] - max);
                    for (size_t d = 0; d < p.t.value_dim; d++) {
                        double o = 0;
                        for (size_t j = 0; j < n; j++)
                            o += s[j] / sum * value(&p, j)[d];
                        /* |v| <= 1; scores within +-8 carry an error of some 2^-20. */
                        assert_true(fabs(o - out_at(&p.t, got, q, h)[d]) < 4e-6);
                    }
                }
            free(s);
            free(got);
            free_problem(&p);
        }
}

/* One key: p = exp(0) = 1, l = 1, out = v to the bit. */
static void one_key_gives_its_value(void **state)
{
    (void)state;
    for (unsigned isa = 0; isa < FS_ISA_END; isa = isa ? isa << 1 : 1)
        if (!isa || fs_isa_detect() & isa)
            for (int latent = 0; latent < 2; latent++) {
                struct problem p = new_problem(latent, 1, 3, 0, 50, 50, 10.0f);
                float *out = attend(&p, isa);
                for (size_t h = 0; h < 3; h++)
                    assert_memory_equal(out_at(&p.t, out, 0, h), value(&p, 0), 50 * sizeof *out);
                free(out);
                free_problem(&p);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_key_gives_its_value),
        cmocka_unit_test(reference_is_near_the_exact_result),
        cmocka_unit_test(every_isa_equals_the_reference),
        cmocka_unit_test(special_values_follow_the_reference),
        cmocka_unit_test(any_split_gives_the_same_bits),
        cmocka_unit_test(joined_blocks_are_the_whole),
        cmocka_unit_test(latent_pieces_equal_the_reference),
        cmocka_unit_test(later_keys_do_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
