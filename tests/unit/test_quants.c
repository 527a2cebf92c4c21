/* Quantised products: the panels hold the file's blocks, the reference is RN1 section 6 to the letter with the integers
 * of the published dequantisation, every implementation of this machine equals it to the bit. Buffers are of exact
 * size, so that sanitizers see a stray read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numbers.h"

#include "kernels/kernels.h"
#include "kernels/quants_isa.h"
#include "tensor/blocks.h"

/* The types with an integer kernel, and where their f16 scales are; MXFP4's is a byte. */
static const struct form {
    fs_dtype dtype;
    int d_at, m_at; /* -1: none */
    bool k_quant;   /* m is subtracted, times a sub-minimum */
    size_t sub;     /* inputs of one scale */
} forms[] = {
    { FS_DTYPE_Q4_0, 0, -1, false, 32 },  { FS_DTYPE_Q4_1, 0, 2, false, 32 },    { FS_DTYPE_Q5_0, 0, -1, false, 32 },
    { FS_DTYPE_Q5_1, 0, 2, false, 32 },   { FS_DTYPE_Q8_0, 0, -1, false, 32 },   { FS_DTYPE_Q2_K, 80, 82, true, 16 },
    { FS_DTYPE_Q3_K, 108, -1, true, 16 }, { FS_DTYPE_Q4_K, 0, 2, true, 32 },     { FS_DTYPE_Q5_K, 0, 2, true, 32 },
    { FS_DTYPE_Q6_K, 208, -1, true, 16 }, { FS_DTYPE_IQ4_NL, 0, -1, false, 32 }, { FS_DTYPE_IQ4_XS, 0, -1, true, 32 },
    { FS_DTYPE_MXFP4, -1, -1, false, 32 },
};
#define N_FORMS (sizeof forms / sizeof forms[0])

static void put_half(uint8_t *block, int at, uint16_t h)
{
    if (at >= 0)
        memcpy(block + at, &h, sizeof h);
}

enum scales { ORDINARY, EXTREME }; /* EXTREME: denormals, zeros, the largest, now and then no number */

static uint16_t random_half(enum scales scales)
{
    static const uint16_t extremes[] = { 0x0000, 0x8000, 0x0001, 0x83ff, 0x7bff, 0xfbff, 0x0400, 0x3c00 }, not_finite[] = { 0x7c01, 0x7c00, 0xfc00 };

    if (scales == EXTREME)
        return random_u32() % 64 == 0 ? not_finite[random_u32() % 3] : extremes[random_u32() % 8];
    return (uint16_t)((random_u32() & 0x83ff) | (0x2000 + (random_u32() % 8 << 10)));
}

static fs_tensor random_tensor(const struct form *form, uint64_t n, uint64_t k, enum scales scales)
{
    const fs_dtype_info *info = fs_dtype_get(form->dtype);
    fs_tensor t = { .name = "w", .dtype = form->dtype, .n_dims = 2, .dims = { n, k } };
    uint8_t *data;

    assert_true(fs_dtype_bytes(form->dtype, n * k, &t.n_bytes));
    t.data = data = malloc(t.n_bytes + !t.n_bytes);
    for (size_t at = 0; at < t.n_bytes; at += info->block_bytes) {
        uint32_t kind = random_u32() % 8; /* of the codes: all bits set, none set, the code -128, else any */
        for (size_t i = 0; i < info->block_bytes; i++)
            data[at + i] = (uint8_t)(kind == 0 ? 0xff : kind == 1 ? 0x00 : kind == 2 ? 0x80 : random_u32());
        put_half(data + at, form->d_at, random_half(scales));
        put_half(data + at, form->m_at, random_half(scales));
        if (form->dtype == FS_DTYPE_MXFP4)
            data[at] = (uint8_t)(scales == EXTREME ? random_u32() : 110 + random_u32() % 20);
    }
    return t;
}

static void free_tensor(fs_tensor *t)
{
    free((void *)(uintptr_t)t->data);
}

static fs_mat pack(const fs_tensor *t, uint64_t row0, uint32_t n)
{
    size_t n_bytes;
    fs_mat m;

    assert_true(fs_mat_bytes(t->dtype, n, fs_tensor_cols(t), 0, 0, &n_bytes));
    fs_mat_init(&m, t, row0, n, allocate(n_bytes));
    assert_false(m.codes);
    fs_mat_take_codes(&m);
    assert_true(m.codes);
    for (size_t p = fs_mat_panels(&m); p-- > 0;) /* any order */
        fs_mat_pack(&m, t, row0, p, p + 1);
    return m;
}

static void free_mat(fs_mat *m)
{
    fs_free_aligned((void *)(uintptr_t)m->data);
}

static const uint32_t ks[] = { 0, 32, 64, 96, 224, 256, 288, 512, 576, 768, 1280, 1536 };
#define N_KS (sizeof ks / sizeof ks[0])

static bool takes(const struct form *form, size_t k)
{
    return k % fs_dtype_get(form->dtype)->block_elems == 0;
}

static void types_with_an_integer_kernel_are_served(void **state)
{
    size_t n = 0;
    (void)state;
    for (int t = 0; t < FS_DTYPE_END; t++) {
        bool want = false;
        for (size_t f = 0; f < N_FORMS; f++)
            want = want || forms[f].dtype == (fs_dtype)t;
        assert_int_equal(fs_quants_serve((fs_dtype)t), want);
        n += want;
    }
    assert_int_equal(n, 13);
}

static void fields_cover_the_block(void **state)
{
    (void)state;
    for (size_t f = 0; f < N_FORMS; f++) {
        const fs_dtype_info *info = fs_dtype_get(forms[f].dtype);
        uint8_t seen[256] = { 0 };
        for (const fs_codes_field *p = fs_codes_layout_of(forms[f].dtype); p->elem; p++)
            for (size_t i = 0; i < p->bytes; i++)
                seen[p->at + i]++;
        for (size_t i = 0; i < info->block_bytes; i++)
            assert_int_equal(seen[i], 1);
    }
}

static void panels_hold_the_blocks(void **state)
{
    const uint32_t rows = 48, row0s[] = { 0, 16, 5 };
    (void)state;
    for (size_t f = 0; f < N_FORMS; f++)
        for (size_t i = 0; i < N_KS; i++) {
            const fs_dtype_info *info = fs_dtype_get(forms[f].dtype);
            fs_tensor t;

            if (!takes(&forms[f], ks[i]))
                continue;
            t = random_tensor(&forms[f], rows, ks[i], EXTREME);
            t.rope_heads = i % 3 ? 0 : 3;
            for (size_t j = 0; j < 3; j++)
                for (uint32_t n = 1; n <= rows - row0s[j]; n += 7) {
                    fs_mat m = pack(&t, row0s[j], n);
                    for (uint32_t r = 0; r < n; r++)
                        for (size_t b = 0; b < ks[i] / info->block_elems; b++) {
                            uint8_t block[256];
                            fs_codes_unpack(&m, r / FS_PANEL, b, r % FS_PANEL, block);
                            assert_memory_equal(block, fs_tensor_row_data(&t, row0s[j] + r) + b * info->block_bytes,
                                                info->block_bytes);
                        }
                    free_mat(&m);
                }
            free_tensor(&t);
        }
}

/* ---- quantising ---- */

/* Values that meet every branch: ties of the rounding, denormals, zeros of both signs, infinities, NaN. */
static float hard_float(void)
{
    static const float specials[] = { 0.0f,     -0.0f,    0x1p-149f,      -0x1p-149f, 0x1.8p-127f, -0x1p-126f, 0x1.fcp-120f, 0x1.fbp-120f,
                                      0x1p-75f, 127.0f,   -127.0f,        0.5f,       -1.5f,       2.5f,       0x1.fffffep127f, -0x1.fffffep127f,
                                      INFINITY, -INFINITY, NAN };
    return specials[random_u32() % (sizeof specials / sizeof *specials - (random_u32() % 512 ? 3 : 0))];
}

static float *random_row(size_t n, int kind)
{
    float *x = malloc(n * sizeof *x + 1);

    for (size_t i = 0; i < n; i++) {
        uint32_t bits = random_u32();
        switch (kind) {
        case 0:
            x[i] = random_float();
            break;
        case 1: /* d = 1: every half is a tie; the top group is any, with others as large or not */
            x[i] = (float)((int32_t)(random_u32() % 509) - 254) * 0.5f;
            if (i % 32 == 7)
                x[i] = random_u32() % 2 ? 127.0f : -127.0f;
            if (i / 32 % 2 && i % 32 / 4 == i / 64 % 8)
                x[i] = (float)((int32_t)(random_u32() % 65277) - 32638) * 0.5f;
            break;
        case 2: /* any finite value */
            bits = (bits & 0x7f800000) == 0x7f800000 ? bits & 0x807fffff : bits;
            memcpy(&x[i], &bits, sizeof bits);
            break;
        case 3: /* blocks of tiny values */
            bits = random_u32() % 3 ? bits & 0x83ffffff : bits & 0x800001ff;
            memcpy(&x[i], &bits, sizeof bits);
            break;
        case 4:
            x[i] = i / 96 % 2 ? random_float() : hard_float();
            break;
        default: /* one value far above the others: d is that of the top group */
            x[i] = i % 32 == i / 32 % 32 ? 1e6f * random_float() : random_float();
        }
    }
    return x;
}

/* A block by the header's words, in binary64 where that is exact. */
static void check_block(const float *x, const fs_quants_block *got)
{
    float largest[8] = { 0 }, top = 0, rest = 0, d;
    int top_group = 0, sums[2] = { 0 };
    bool odd = false;

    for (int i = 0; i < 32; i++) {
        odd = odd || isnan(x[i]) || isinf(x[i]);
        largest[i / 4] = fabsf(x[i]) > largest[i / 4] ? fabsf(x[i]) : largest[i / 4];
    }
    for (int g = 0; g < 8; g++)
        top_group = largest[g] > largest[top_group] ? g : top_group;
    for (int g = 0; g < 8; g++)
        if (g == top_group)
            top = largest[g];
        else
            rest = largest[g] > rest ? largest[g] : rest;
    d = top / 16319 > rest / 127 ? top / 16319 : rest / 127;
    if (odd) {
        assert_false(isfinite(got->d));
        top_group = got->top / 64;
    } else {
        assert_true(same(got->d, d < 0x1p-126f ? 0.0f : d));
        assert_int_equal(got->top, 64 * top_group);
    }
    for (int i = 0; i < 32; i++) {
        int want = 0, v = got->low[i];
        if (!odd && got->d > 0) {
            double t = x[i] / got->d, down = floor(t), part = t - down; /* t a float */
            want = (int)down + (part > 0.5 || (part == 0.5 && fmod(down, 2) != 0));
        }
        if (i / 4 == top_group) {
            v += 128 * got->high[i % 4];
            assert_in_range(got->low[i] + 64, 0, 127);
            assert_in_range(got->high[i % 4] + 127, 0, 254);
            assert_int_equal(got->shift_of[i / 16], 7);
            assert_int_equal(got->shift_of[1 - i / 16], 32);
        } else {
            assert_in_range(got->low[i] + 127, 0, 254);
        }
        assert_int_equal(v, want);
        sums[i / 16] += want;
    }
    assert_int_equal(got->minus_sums_32[0], -32 * sums[0]);
    assert_int_equal(got->minus_sums_32[1], -32 * sums[1]);
    assert_int_equal(got->nibble, got->top < 256 ? 0 : 4);
    assert_int_equal(got->minus_sum, -sums[0] - sums[1]);
    assert_true(same(got->d_sum, got->d * (float)(sums[0] + sums[1])));
}

static fs_quants new_quants(uint32_t k, size_t rows)
{
    return fs_quants_init(k, memset(allocate(rows * fs_quants_row_bytes(k)), 0x5a, rows * fs_quants_row_bytes(k)));
}

#define KINDS 6

/* NaN are one. */
static bool same_block(const fs_quants_block *a, const fs_quants_block *b)
{
    fs_quants_block x = *a, y = *b;

    x.d = y.d = x.d_sum = y.d_sum = 0;
    return same(a->d, b->d) && same(a->d_sum, b->d_sum) && memcmp(&x, &y, sizeof x) == 0;
}

static void quantising_is_the_definition_everywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_KS; i++)
        for (int kind = 0; kind < KINDS; kind++)
            for (size_t rows = 1; rows <= 3; rows += 2) {
                size_t ldx = ks[i] + 5, n_blocks = ks[i] / 32, cut = n_blocks / 2;
                float *x = random_row((rows - 1) * ldx + ks[i], kind);
                fs_quants want = new_quants(ks[i], rows);

                fs_quantize_ref(&want, 0, rows, 0, n_blocks, x, ldx);
                for (size_t r = 0; r < rows; r++)
                    for (size_t b = 0; b < n_blocks; b++)
                        check_block(x + r * ldx + b * 32, fs_quants_row(&want, r) + b);
                for (size_t j = 0; j < fs_n_quants_isas; j++) {
                    const fs_quants_isa *isa = &fs_quants_isas[j];
                    fs_quants got;
                    if (isa->available && !isa->available())
                        continue;
                    got = new_quants(ks[i], rows);
                    isa->kernels.quantize(&got, 0, rows, cut, n_blocks, x, ldx);
                    for (size_t r = 0; r < rows; r++)
                        isa->kernels.quantize(&got, r, 1, 0, cut, x + r * ldx, ldx);
                    for (size_t r = 0; r < rows; r++) {
                        for (size_t b = 0; b < n_blocks; b++)
                            if (!same_block(fs_quants_row(&want, r) + b, fs_quants_row(&got, r) + b))
                                fail_msg("%s k %u kind %d row %zu block %zu", isa->name, ks[i], kind, r, b);
                        for (size_t b = n_blocks * sizeof(fs_quants_block); b < got.row_bytes; b++)
                            assert_int_equal(got.data[r * got.row_bytes + b], 0x5a);
                    }
                    fs_free_aligned(got.data);
                }
                fs_free_aligned(want.data);
                free(x);
            }
}

/* ---- products ---- */

/* A K-quant's block with every sub-scale 1, and with every code 1. */
static void scales_one(fs_dtype dtype, uint8_t *block)
{
    switch (dtype) {
    case FS_DTYPE_Q2_K:
        memset(block, 0x01, 16);
        break;
    case FS_DTYPE_Q3_K: /* 33 - 32 */
        memset(block + 96, 0x11, 8);
        memset(block + 104, 0xaa, 4);
        break;
    case FS_DTYPE_Q4_K:
    case FS_DTYPE_Q5_K:
        memcpy(block + 4, "\1\1\1\1\0\0\0\0\1\1\1\1", 12);
        break;
    case FS_DTYPE_Q6_K:
        memset(block + 192, 0x01, 16);
        break;
    default: /* IQ4_XS, 33 - 32 */
        memset(block + 2, 0xaa, 2);
        memset(block + 4, 0x11, 4);
    }
}

static void codes_one(fs_dtype dtype, uint8_t *block)
{
    switch (dtype) {
    case FS_DTYPE_Q2_K:
        memset(block + 16, 0x55, 64);
        break;
    case FS_DTYPE_Q3_K: /* 1 + 4 - 4 */
        memset(block, 0xff, 32);
        memset(block + 32, 0x55, 64);
        break;
    case FS_DTYPE_Q4_K:
        memset(block + 16, 0x11, 128);
        break;
    case FS_DTYPE_Q5_K:
        memset(block + 16, 0x00, 32);
        memset(block + 48, 0x11, 128);
        break;
    case FS_DTYPE_Q6_K: /* 33 - 32 */
        memset(block, 0x11, 128);
        memset(block + 128, 0xaa, 64);
        break;
    default: /* IQ4_XS: fs_iq4_values[8] */
        memset(block + 8, 0x88, 128);
    }
}

/* The integers of a block as the published dequantisation has them, by input: codes with every scale 1, scales with every
 * code 1, minima with the scale 0. */
struct integers {
    float code[256], scale[256], min[256];
};

static void integers(const struct form *form, const uint8_t *file, struct integers *ret)
{
    const fs_dtype_info *info = fs_dtype_get(form->dtype);
    uint8_t block[256], ones[256];

    memcpy(block, file, info->block_bytes);
    put_half(block, form->d_at, 0x3c00);
    put_half(block, form->m_at, 0x0000);
    if (form->dtype == FS_DTYPE_MXFP4)
        block[0] = 128;
    memcpy(ones, block, sizeof ones);
    for (int i = 0; i < 256; i++)
        ret->scale[i] = 1.0f;
    if (form->k_quant) {
        codes_one(form->dtype, ones);
        fs_dequant_row(form->dtype, ones, ret->scale, info->block_elems);
        scales_one(form->dtype, block);
    }
    fs_dequant_row(form->dtype, block, ret->code, info->block_elems);
    memcpy(block, file, info->block_bytes);
    put_half(block, form->d_at, 0x0000);
    put_half(block, form->m_at, 0x3c00);
    if (form->m_at >= 0)
        fs_dequant_row(form->dtype, block, ret->min, info->block_elems);
}

static float block_scale(const struct form *form, const uint8_t *file, int at)
{
    float one[256];
    uint8_t block[256] = { 0 };
    uint16_t h;

    if (form->dtype == FS_DTYPE_MXFP4) { /* the code of 1 with its scale, doubled codes */
        block[0] = file[0];
        block[1] = 1;
        fs_dequant_row(form->dtype, block, one, 32);
        return one[0];
    }
    memcpy(&h, file + at, sizeof h);
    return fs_f16_to_f32(h);
}

static int value_of(const fs_quants_block *x, size_t i)
{
    return x->low[i] + (i / 4 == (size_t)x->top / 64 ? 128 * x->high[i % 4] : 0);
}

static float product(const struct form *form, const uint8_t *row, const fs_quants *x, size_t t)
{
    const fs_dtype_info *info = fs_dtype_get(form->dtype);
    const size_t elems = info->block_elems, sub = form->sub;
    float y = 0.0f;

    for (size_t b = 0; b < x->k / elems; b++) {
        const uint8_t *file = row + b * info->block_bytes;
        struct integers of;

        integers(form, file, &of);
        for (size_t i0 = 0; i0 < elems; i0 += sub) {
            const fs_quants_block *a = fs_quants_row(x, t) + (b * elems + i0) / 32;
            double sum = 0, v_sum = 0;
            for (size_t i = i0; i < i0 + sub; i++) {
                sum += (double)of.code[i] * value_of(a, i % 32);
                v_sum += value_of(a, i % 32);
            }
            y = fmaf(block_scale(form, file, form->d_at) * of.scale[i0] * a->d, (float)(int32_t)sum, y);
            if (form->m_at >= 0) /* K-quants: m is - dmin, and min is what dequantising subtracts */
                y = fmaf((form->k_quant ? -block_scale(form, file, form->m_at) * -of.min[i0] : block_scale(form, file, form->m_at)),
                         a->d * (float)(int32_t)v_sum, y);
        }
    }
    return y;
}

static void reference_is_the_definition(void **state)
{
    (void)state;
    for (size_t f = 0; f < N_FORMS; f++)
        for (size_t i = 0; i < N_KS; i++)
            for (int scales = ORDINARY; scales <= EXTREME; scales++) {
                const uint32_t n = 21, m = 3;
                uint32_t k = ks[i];
                float *x, *bias, *y;
                fs_quants q;
                fs_tensor t;
                fs_mat w;

                if (!takes(&forms[f], k))
                    continue;
                t = random_tensor(&forms[f], n, k, (enum scales)scales);
                w = pack(&t, 0, n);
                x = random_row(m * k, scales == EXTREME ? (int)i % KINDS : 0);
                bias = random_row(n, 0);
                y = random_row(m * n, 0);
                q = new_quants(k, m);
                fs_quantize_ref(&q, 0, m, 0, k / 32, x, k);
                fs_gemm_codes_ref(&w, 0, fs_mat_panels(&w), &q, 0, m, i % 2 ? bias : NULL, y, n, NULL);
                for (size_t o = 0; o < n; o++)
                    for (size_t r = 0; r < m; r++) {
                        float want = product(&forms[f], fs_tensor_row_data(&t, o), &q, r);
                        if (!same(y[r * n + o], i % 2 ? want + bias[o] : want))
                            fail_msg("%s k %u: %a, definition %a", fs_dtype_get(t.dtype)->name, k, (double)y[r * n + o], (double)want);
                    }
                free(x);
                free(bias);
                free(y);
                fs_free_aligned(q.data);
                free_mat(&w);
                free_tensor(&t);
            }
}

/* The quantised product stays within the rounding of the activations of the exact one. */
static void products_are_close_to_the_exact_ones(void **state)
{
    (void)state;
    for (size_t f = 0; f < N_FORMS; f++) {
        const uint32_t n = 40, k = 1024;
        fs_tensor t = random_tensor(&forms[f], n, k, ORDINARY);
        fs_mat w = pack(&t, 0, n);
        float *x = random_row(k, 0), *row = random_row(k, 0), y[40];
        fs_quants q = new_quants(k, 1);

        fs_quantize_ref(&q, 0, 1, 0, k / 32, x, k);
        fs_gemm_codes_ref(&w, 0, fs_mat_panels(&w), &q, 0, 1, NULL, y, n, NULL);
        for (size_t o = 0; o < n; o++) {
            double exact = 0, bound = 0;
            fs_tensor_row_f32(&t, o, row);
            for (size_t i = 0; i < k; i++) {
                exact += (double)row[i] * x[i];
                bound += fabs((double)row[i]) * 0.501 * fs_quants_row(&q, 0)[i / 32].d;
            }
            assert_true(fabs(y[o] - exact) <= bound * 1.01 + 1e-6 * fabs(exact));
        }
        free(x);
        free(row);
        fs_free_aligned(q.data);
        free_mat(&w);
        free_tensor(&t);
    }
}

/* Every implementation against the reference: rows from row on, y of exact size with margins that must stay, panels
 * split anyhow. */
static void check_isas(const fs_mat *w, const fs_quants *x, size_t row, size_t m, const float *bias)
{
    size_t ldy = w->n + 2, n_y = m ? (m - 1) * ldy + w->n : 0, n_panels = fs_mat_panels(w);
    float *want = malloc(n_y * sizeof *want + 1), *y = malloc(n_y * sizeof *y + 1);
    void *scratch = allocate(FS_GEMM_SCRATCH_BYTES);

    memset(want, 0x5a, n_y * sizeof *want);
    fs_gemm_codes_ref(w, 0, n_panels, x, row, m, bias, want, ldy, NULL);
    for (size_t i = 1; i < fs_n_quants_isas; i++) {
        const fs_quants_isa *isa = &fs_quants_isas[i];
        if (isa->available && !isa->available())
            continue;
        for (size_t step = 1; step <= n_panels; step = step == n_panels ? step + 1 : step * 3 > n_panels ? n_panels : step * 3) {
            memset(y, 0x5a, n_y * sizeof *y);
            for (size_t p = 0; p < n_panels; p += step) {
                size_t end = p + step < n_panels ? p + step : n_panels;
                isa->kernels.gemm(w, p, end, x, row, m, bias, y, ldy, scratch);
                for (size_t r = 0; r < m; r++) /* panels to come are untouched */
                    for (size_t o = end * FS_PANEL; o < w->n; o++) {
                        uint32_t bits;
                        memcpy(&bits, &y[r * ldy + o], sizeof bits);
                        assert_int_equal(bits, 0x5a5a5a5a);
                    }
            }
            for (size_t j = 0; j < n_y; j++)
                if (!same(y[j], want[j]))
                    fail_msg("%s dtype %s n %u k %u m %zu step %zu: [%zu][%zu] is %a, reference %a", isa->name,
                             fs_dtype_get(w->dtype)->name, w->n, w->k, m, step, j / ldy, j % ldy, (double)y[j], (double)want[j]);
        }
    }
    free(want);
    free(y);
    fs_free_aligned(scratch);
}

static void check_shape(const struct form *form, uint32_t n, uint32_t k, size_t m, enum scales scales, int kind, bool has_bias)
{
    size_t row = m % 3;
    fs_tensor t = random_tensor(form, n, k, scales);
    fs_mat w = pack(&t, 0, n);
    fs_quants q = new_quants(k, row + m);
    float *x = random_row((row + m) * k, kind), *bias = random_row(n, 0);

    fs_quantize_ref(&q, 0, row + m, 0, k / 32, x, k);
    check_isas(&w, &q, row, m, has_bias ? bias : NULL);
    free(x);
    free(bias);
    fs_free_aligned(q.data);
    free_mat(&w);
    free_tensor(&t);
}

static void every_isa_equals_the_reference(void **state)
{
    static const uint32_t ns[] = { 1, 16, 17, 70, 130 };
    static const size_t ms[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 25, 33, 40 };
    size_t turn = 0;
    (void)state;
    for (size_t f = 0; f < N_FORMS; f++)
        for (size_t i = 0; i < N_KS; i++)
            for (size_t j = 0; j < sizeof ns / sizeof ns[0]; j++)
                for (size_t l = (f + i + 2 * j) % 6; l < sizeof ms / sizeof ms[0]; l += 6, turn++)
                    if (takes(&forms[f], ks[i]))
                        check_shape(&forms[f], ns[j], ks[i], ms[l], turn % 3 ? ORDINARY : EXTREME, turn % 3 ? 0 : (int)(turn / 3 % KINDS), turn % 2);
}

/* Rows and inputs enough to pass every blocking of the large kernels. */
static void long_batches_equal_the_reference(void **state)
{
    (void)state;
    for (size_t f = 0; f < N_FORMS; f++)
        check_shape(&forms[f], 33, forms[f].k_quant ? 768 : 800, 300 + f, ORDINARY, 0, true);
    check_shape(&forms[1], 20, 9984, 45, ORDINARY, 0, false);
    check_shape(&forms[7], 20, 9984, 45, ORDINARY, 0, false);
    check_shape(&forms[4], 20, 9984, 3, ORDINARY, 0, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_with_an_integer_kernel_are_served),
        cmocka_unit_test(fields_cover_the_block),
        cmocka_unit_test(panels_hold_the_blocks),
        cmocka_unit_test(quantising_is_the_definition_everywhere),
        cmocka_unit_test(reference_is_the_definition),
        cmocka_unit_test(products_are_close_to_the_exact_ones),
        cmocka_unit_test(every_isa_equals_the_reference),
        cmocka_unit_test(long_batches_equal_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
