/* The conformance hash of products: of panels, of quantised ones, of bf16 pairs. */
#include "kernels/conformance_run.h"

#include <assert.h>

/* ---- products.h ---- */

/* The storage types that have panels, in the order of the list, and where a block holds its f16 scales, which random bits would make NaN. */
static const struct weight_type {
    const char *name;
    fs_dtype dtype;
    int f16_at[2]; /* -1: none */
} weight_types[] = {
    { "F32", FS_DTYPE_F32, { -1, -1 } },        { "BF16", FS_DTYPE_BF16, { -1, -1 } },
    { "F16", FS_DTYPE_F16, { -1, -1 } },        { "F8_E4M3", FS_DTYPE_F8_E4M3, { -1, -1 } },
    { "Q4_0", FS_DTYPE_Q4_0, { 0, -1 } },       { "Q4_1", FS_DTYPE_Q4_1, { 0, 2 } },
    { "Q5_0", FS_DTYPE_Q5_0, { 0, -1 } },       { "Q5_1", FS_DTYPE_Q5_1, { 0, 2 } },
    { "Q8_0", FS_DTYPE_Q8_0, { 0, -1 } },       { "Q2_K", FS_DTYPE_Q2_K, { 80, 82 } },
    { "Q3_K", FS_DTYPE_Q3_K, { 108, -1 } },     { "Q4_K", FS_DTYPE_Q4_K, { 0, 2 } },
    { "Q5_K", FS_DTYPE_Q5_K, { 0, 2 } },        { "Q6_K", FS_DTYPE_Q6_K, { 208, -1 } },
    { "IQ4_NL", FS_DTYPE_IQ4_NL, { 0, -1 } },   { "IQ4_XS", FS_DTYPE_IQ4_XS, { 0, -1 } },
    { "MXFP4", FS_DTYPE_MXFP4, { -1, -1 } },    { "NVFP4", FS_DTYPE_NVFP4, { -1, -1 } },
    { "IQ1_S", FS_DTYPE_IQ1_S, { 0, -1 } },     { "IQ1_M", FS_DTYPE_IQ1_M, { -1, -1 } },
    { "IQ2_XXS", FS_DTYPE_IQ2_XXS, { 0, -1 } }, { "IQ2_XS", FS_DTYPE_IQ2_XS, { 0, -1 } },
    { "IQ2_S", FS_DTYPE_IQ2_S, { 0, -1 } },     { "IQ3_XXS", FS_DTYPE_IQ3_XXS, { 0, -1 } },
    { "IQ3_S", FS_DTYPE_IQ3_S, { 0, -1 } },     { "TQ1_0", FS_DTYPE_TQ1_0, { 52, -1 } },
    { "TQ2_0", FS_DTYPE_TQ2_0, { 64, -1 } },
};

static void put_u16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

/* One stored block, or one element of a plain type. */
static void random_block(run *r, const struct weight_type *w, size_t block_bytes, enum kind kind, uint8_t *p)
{
    switch (w->dtype) {
    case FS_DTYPE_F32: {
        float x = random_f32(r, kind);
        memcpy(p, &x, sizeof x);
        return;
    }
    case FS_DTYPE_BF16: {
        float x = random_f32(r, kind);
        uint32_t b;
        memcpy(&b, &x, sizeof b);
        b >>= 16;
        memcpy(p, &(uint16_t){ (uint16_t)b }, 2);
        return;
    }
    case FS_DTYPE_F16: {
        uint16_t b = (uint16_t)random_u32(r);
        b = (b & 0x7c00) == 0x7c00 ? b & 0x83ff : b; /* no NaN; a denormal or zero instead */
        memcpy(p, &b, 2);
        return;
    }
    case FS_DTYPE_F8_E4M3:
        p[0] = (uint8_t)random_u32(r);
        p[0] = (p[0] & 0x7f) == 0x7f ? 0x80 : p[0];
        return;
    default:
        for (size_t i = 0; i < block_bytes; i++)
            p[i] = (uint8_t)random_u32(r);
        for (int i = 0; i < 2; i++)
            if (w->f16_at[i] >= 0) /* sign, exponents up to 1 or a denormal, mantissa */
                put_u16(p + w->f16_at[i], random_u32(r) & 0xbfff & (random_u32(r) & 15 ? 0xffff : 0x83ff));
        if (w->dtype == FS_DTYPE_MXFP4)
            p[0] = (uint8_t)(119 + random_u32(r) % 16);
        for (int i = 0; w->dtype == FS_DTYPE_IQ1_M && i < 4; i++) /* its f16 is the high halves of four words */
            p[49 + 2 * i] &= i == 3 ? 0xbf : 0xff;
        return;
    }
}

/* Stored weights [n, k] of a type. */
static fs_tensor random_weights(run *r, const struct weight_type *w, uint32_t n, uint32_t k, enum kind kind)
{
    const fs_dtype_info *info = fs_dtype_get(w->dtype);
    fs_tensor t = { .name = w->name, .dtype = w->dtype, .n_dims = 2, .dims = { n, k } };
    uint8_t *data;
    bool ok;

    ok = fs_dtype_bytes(w->dtype, (uint64_t)n * k, &t.n_bytes);
    assert(ok);
    (void)ok;
    data = fs_arena_alloc(&r->arena, t.n_bytes);
    for (size_t i = 0; i < t.n_bytes; i += info->block_bytes)
        random_block(r, w, info->block_bytes, kind, data + i);
    t.data = data;
    if (w->dtype == FS_DTYPE_F8_E4M3) {
        size_t n_scales = (size_t)((n + 31) / 32) * ((k + 127) / 128);
        float *scales = fs_arena_array(&r->arena, float, n_scales);
        for (size_t i = 0; i < n_scales; i++)
            scales[i] = random_f32(r, PLAIN) * 0x1p-6f;
        t.scales = (const uint8_t *)scales;
        t.scale_dtype = FS_DTYPE_F32;
        t.scale_rows = 32;
        t.scale_cols = 128;
    }
    return t;
}

static fs_mat packed(run *r, const fs_tensor *t, bool codes)
{
    uint32_t n = (uint32_t)fs_tensor_rows(t);
    size_t mat_bytes = 0;
    bool ok = fs_mat_bytes(t->dtype, n, fs_tensor_cols(t), t->scale_rows, t->scale_cols, &mat_bytes);
    fs_mat mat;

    assert(ok);
    (void)ok;
    fs_mat_init(&mat, t, 0, n, fs_arena_alloc(&r->arena, mat_bytes));
    if (codes)
        fs_mat_take_codes(&mat);
    fs_mat_pack(&mat, t, 0, 0, fs_mat_panels(&mat));
    mat.finite = mat.dtype == FS_DTYPE_F8_E4M3 && fs_mat_is_finite(&mat, 0, fs_mat_panels(&mat));
    return mat;
}

/* Weights [n, k] of a type times m rows, in two calls over the panels. */
static void feed_product(run *r, const struct weight_type *w, uint32_t n, uint32_t k, size_t m, enum kind kind)
{
    size_t panels, ldy = n + 3;
    float *x, *y, *bias;
    fs_tensor t;
    void *scratch;
    fs_mat mat;

    begin(r);
    t = random_weights(r, w, n, k, kind);
    mat = packed(r, &t, false);
    panels = fs_mat_panels(&mat);
    x = random_row(r, m * k, kind == SPECIAL ? PLAIN : kind);
    bias = random_row(r, n, kind);
    y = fs_arena_array(&r->arena, float, m * ldy);
    memset(y, 0, m * ldy * sizeof *y);
    scratch = fs_arena_alloc(&r->arena, FS_GEMM_SCRATCH_BYTES);
    r->k.products.gemm(&mat, 0, panels / 2, x, k, m, m % 2 ? bias : NULL, y, ldy, scratch);
    r->k.products.gemm(&mat, panels / 2, panels, x, k, m, m % 2 ? bias : NULL, y, ldy, scratch);
    feed_row(r, y, m * ldy);
}

void fs_conformance_products(run *r)
{
    static const uint32_t outputs[] = { 1, 16, 17, 49 };
    static const uint32_t inputs[] = { 1, 15, 16, 17, 255, 256, 257, 513, 768 };
    static const size_t rows[] = { 1, 2, 3, 5, 8, 13, 33 };
    size_t turn = 0;

    for (size_t w = 0; w < sizeof weight_types / sizeof *weight_types; w++) {
        const fs_dtype_info *info = fs_dtype_get(weight_types[w].dtype);

        feed_name(r, weight_types[w].name);
        for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
            if (inputs[i] % info->block_elems)
                continue;
            for (size_t o = 0; o < sizeof outputs / sizeof *outputs; o++, turn++) {
                feed_product(r, &weight_types[w], outputs[o], inputs[i], rows[turn % 7], PLAIN);
                feed_product(r, &weight_types[w], outputs[o], inputs[i], rows[(turn + 3) % 7], turn % KIND_END);
            }
        }
    }
}

/* ---- quants.h ---- */

/* Row t of quantised activations: of each block codes as bytes, its place and sums as 64-bit numbers, the floats. */
static void feed_quants(run *r, const fs_quants *q, size_t t)
{
    for (const fs_quants_block *b = fs_quants_row(q, t), *end = b + q->k / FS_QUANTS_BLOCK; b < end; b++) {
        fs_sha256_update(r->h, b->low, sizeof b->low);
        fs_sha256_update(r->h, b->high, sizeof b->high);
        feed_u64(r, (uint64_t)b->top);
        feed_row(r, &b->d, 1);
        feed_row(r, &b->d_sum, 1);
        for (int i = 0; i < 2; i++)
            feed_u64(r, (uint64_t)(int64_t)b->minus_sums_32[i] / 32);
    }
}

/* Rows 1 .. m of m + 1 quantised ones times weights [n, k], in two calls over the panels. */
static void feed_quantised(run *r, const struct weight_type *w, uint32_t n, uint32_t k, size_t m, enum kind kind)
{
    size_t panels, ldy = n + 3;
    float *x, *y, *bias;
    fs_quants q;
    fs_tensor t;
    void *scratch;
    fs_mat mat;

    begin(r);
    t = random_weights(r, w, n, k, PLAIN);
    mat = packed(r, &t, true);
    panels = fs_mat_panels(&mat);
    x = random_row(r, (m + 1) * k, kind);
    q = fs_quants_init(k, fs_arena_alloc(&r->arena, (m + 1) * fs_quants_row_bytes(k)));
    r->k.quants.quantize(&q, 0, m + 1, 0, k / FS_QUANTS_BLOCK, x, k);
    for (size_t i = 0; i <= m; i++)
        feed_quants(r, &q, i);
    bias = random_row(r, n, PLAIN);
    y = fs_arena_array(&r->arena, float, m * ldy);
    memset(y, 0, m * ldy * sizeof *y);
    scratch = fs_arena_alloc(&r->arena, FS_GEMM_SCRATCH_BYTES);
    r->k.quants.gemm(&mat, 0, panels / 2, &q, 1, m, m % 2 ? bias : NULL, y, ldy, scratch);
    r->k.quants.gemm(&mat, panels / 2, panels, &q, 1, m, m % 2 ? bias : NULL, y, ldy, scratch);
    feed_row(r, y, m * ldy);
}

void fs_conformance_quantised_products(run *r)
{
    static const uint32_t outputs[] = { 1, 16, 17, 49 };
    static const uint32_t inputs[] = { 32, 64, 96, 224, 256, 288, 512, 800 };
    static const size_t rows[] = { 1, 2, 3, 5, 8, 13, 33 };
    size_t turn = 0;

    for (size_t w = 0; w < sizeof weight_types / sizeof *weight_types; w++) {
        uint32_t block = fs_dtype_get(weight_types[w].dtype)->block_elems;

        if (!fs_quants_serve(weight_types[w].dtype))
            continue;
        feed_name(r, "quantised");
        feed_name(r, weight_types[w].name);
        for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
            for (size_t o = 0; inputs[i] % block == 0 && o < sizeof outputs / sizeof *outputs; o++, turn++) {
                feed_quantised(r, &weight_types[w], outputs[o], inputs[i], rows[turn % 7], PLAIN);
                feed_quantised(r, &weight_types[w], outputs[o], inputs[i], rows[(turn + 3) % 7], turn % KIND_END);
            }
    }
}

/* ---- pair_products.h ---- */

/* Class RN1-bf16: x W^T in two calls over the panels, then x W, packed by columns, added twice. */
static void feed_pair_product(run *r, uint32_t n, uint32_t k, size_t m, enum kind kind)
{
    size_t bytes, panels, ldy = n + 3;
    float *w, *x, *y, *bias;
    void *scratch;
    fs_mat mat;
    bool ok = fs_mat_pairs_bytes(n, k, &bytes);

    assert(ok);
    (void)ok;
    begin(r);
    w = random_row(r, (size_t)n * k, kind);
    x = random_row(r, m * k, kind == SPECIAL ? PLAIN : kind);
    bias = random_row(r, n, kind);
    y = fs_arena_array(&r->arena, float, m * ldy);
    memset(y, 0, m * ldy * sizeof *y);
    scratch = fs_arena_alloc(&r->arena, FS_GEMM_SCRATCH_BYTES);
    fs_mat_init_pairs(&mat, n, k, fs_arena_alloc(&r->arena, bytes));
    panels = fs_mat_panels(&mat);
    fs_mat_pack_pairs(&mat, &r->k.pairs, w, k, 0, panels);
    r->k.pairs.gemm(&mat, 0, panels / 2, x, k, m, m % 2 ? bias : NULL, y, ldy, scratch);
    r->k.pairs.gemm(&mat, panels / 2, panels, x, k, m, m % 2 ? bias : NULL, y, ldy, scratch);
    feed_row(r, y, m * ldy);
    fs_mat_pack_pair_columns(&mat, &r->k.pairs, w, n, NULL, 0, panels);
    memset(y, 0, m * ldy * sizeof *y);
    for (int i = 0; i < 2; i++)
        r->k.pairs.gemm_add(&mat, 0, panels, x, k, m, y, ldy, scratch);
    feed_row(r, y, m * ldy);
}

void fs_conformance_pair_products(run *r)
{
    static const uint32_t outputs[] = { 1, 16, 17, 49 }, inputs[] = { 1, 15, 16, 17, 255, 256, 257, 513, 768 };
    static const size_t rows[] = { 1, 2, 3, 5, 8, 13, 33 };
    size_t turn = 0;

    feed_name(r, "products bf16");
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        for (size_t o = 0; o < sizeof outputs / sizeof *outputs; o++)
            for (int kind = 0; kind < KIND_END; kind++)
                feed_pair_product(r, outputs[o], inputs[i], rows[turn++ % (sizeof rows / sizeof *rows)], kind);
}
