/* See the header. Every loop here is part of the hash: a change of any is a change of the constant in
 * tests/unit/test_conformance.c and of the list that other implementations must follow. */
#include "kernels/conformance.h"
#include "kernels/kv8.h"
#include "kernels/math.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define ROW_MAX   4099
#define N_LENGTHS (sizeof lengths / sizeof *lengths)

static const size_t lengths[] = { 1,   2,   7,   15,  16,  17,  31,  32,  33,   100,
                                  255, 256, 257, 300, 511, 512, 513, 768, 1000, ROW_MAX };

enum kind { PLAIN, WIDE, DENORMAL, SPECIAL, KIND_END };

typedef struct run {
    fs_kernels k;
    fs_sha256 *h;
    fs_arena arena;
    uint64_t random;
    uint64_t vector; /* number of the vector, from 1 */
} run;

static uint32_t random_u32(run *r)
{
    uint64_t z = r->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((z ^ z >> 31) >> 32);
}

/* Starts a vector: its inputs do not depend on how much randomness those before it took. */
static void begin(run *r)
{
    r->random = ++r->vector << 32;
    fs_arena_reset(&r->arena);
}

static float float_of(uint32_t b)
{
    float x;
    memcpy(&x, &b, sizeof x);
    return x;
}

static float random_f32(run *r, enum kind kind)
{
    static const uint32_t special[16] = { 0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x807fffff,
                                          0x00800000, 0x80800000, 0x7f800000, 0xff800000, 0x7f7fffff, 0xff7fffff,
                                          0x3f800000, 0xbf800000, 0x42b17218, 0xc2cff1b5 };
    uint32_t b = random_u32(r);

    switch (kind) {
    case WIDE: /* any finite value */
        return float_of((b & 0x7f800000) == 0x7f800000 ? b & 0x807fffff : b);
    case DENORMAL: /* and the first normal binade */
        return float_of(b & 0x80ffffff);
    case SPECIAL: /* now and then */
        if ((b & 0x700) == 0)
            return float_of(special[b & 15]);
        break;
    default:
        break;
    }
    return (float)((int32_t)b >> 8) * 0x1p-20f; /* exact, within +-8 */
}

static float *random_row(run *r, size_t n, enum kind kind)
{
    float *x = fs_arena_array(&r->arena, float, n);

    for (size_t i = 0; i < n; i++)
        x[i] = random_f32(r, kind);
    return x;
}

static void feed_name(run *r, const char *name)
{
    fs_sha256_update(r->h, name, strlen(name) + 1);
}

static void feed_u64(run *r, uint64_t v)
{
    uint8_t b[8];

    for (int i = 0; i < 8; i++)
        b[i] = (uint8_t)(v >> 8 * i);
    fs_sha256_update(r->h, b, sizeof b);
}

static void feed_f64(run *r, double x)
{
    uint64_t b;

    memcpy(&b, &x, sizeof b);
    feed_u64(r, x != x ? UINT64_C(0x7ff8000000000000) : b);
}

static void feed_row(run *r, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t v;
        uint8_t b[4];

        memcpy(&v, &x[i], sizeof v);
        v = x[i] != x[i] ? 0x7fc00000 : v;
        for (int j = 0; j < 4; j++)
            b[j] = (uint8_t)(v >> 8 * j);
        fs_sha256_update(r->h, b, sizeof b);
    }
}

static void feed_f32(run *r, float x)
{
    feed_row(r, &x, 1);
}

/* ---- math.h ---- */

static void feed_functions_f32(run *r)
{
    feed_name(r, "math f32");
    for (uint64_t b = 0; b < UINT64_C(1) << 32; b += 262139) {
        float x = float_of((uint32_t)b);

        feed_f32(r, fs_expf(x));
        feed_f32(r, fs_logf(x));
        feed_f32(r, fs_log1pf(x));
        feed_f32(r, fs_sinf(x));
        feed_f32(r, fs_cosf(x));
        feed_f32(r, fs_erff(x));
    }
}

/* Uniform in [0, 1), 32 bits. */
static double uniform(run *r)
{
    return (double)random_u32(r) * 0x1p-32;
}

static void feed_functions_f64(run *r)
{
    begin(r);
    feed_name(r, "math f64");
    for (int i = 0; i < 4096; i++) {
        double s, c, x = uniform(r);

        feed_f64(r, fs_exp64(x * 1500.0 - 760.0));
        feed_f64(r, fs_log64(x * 4.0));
        feed_f64(r, fs_log1p64(x * 4.0 - 1.0));
        fs_sincos64(x * 0x1p22 - 0x1p21, &s, &c);
        feed_f64(r, s);
        feed_f64(r, c);
        feed_f64(r, fs_pow64(100.0 + x * 1e7, -uniform(r)));
    }
}

/* ---- rows.h ---- */

static void feed_reductions(run *r, size_t n, enum kind kind)
{
    const fs_rows_kernels *k = &r->k.rows;
    float *x;

    begin(r);
    x = random_row(r, n, kind);
    feed_f32(r, k->sum(x, n));
    feed_f32(r, k->sumsq(x, n));
    feed_f32(r, k->max(x, n));
    feed_u64(r, k->argmax(x, n));
    feed_u64(r, k->find_nan(x, n));
    x[random_u32(r) % n] = NAN;
    feed_f32(r, k->max(x, n));
    feed_u64(r, k->argmax(x, n));
    feed_u64(r, k->find_nan(x, n));
}

static void feed_elementwise(run *r, size_t n, enum kind kind)
{
    const fs_rows_kernels *k = &r->k.rows;
    float *a, *b, *y, w;

    begin(r);
    a = random_row(r, n, kind);
    b = random_row(r, n, kind);
    y = random_row(r, n, kind);
    w = random_f32(r, kind);
    k->axpy(w, a, y, n);
    feed_row(r, y, n);
    k->exp(a, y, n);
    feed_row(r, y, n);
    k->sigmoid(a, y, n);
    feed_row(r, y, n);
    k->silu(a, y, n);
    feed_row(r, y, n);
    k->swiglu(a, b, y, n);
    feed_row(r, y, n);
    k->add(a, b, y, n);
    feed_row(r, y, n);
    k->scale(w, a, y, n);
    feed_row(r, y, n);
    k->rmsnorm(a, b, 1e-6f, y, n);
    feed_row(r, y, n);
    k->rmsnorm(a, NULL, 1e-5f, y, n);
    feed_row(r, y, n);
    k->softmax(a, y, n);
    feed_row(r, y, n);
}

static void feed_rope(run *r, size_t d, uint32_t pos, enum kind kind)
{
    float *cs, *x;

    begin(r);
    cs = fs_arena_array(&r->arena, float, d);
    x = random_row(r, d, kind);
    for (size_t i = 0; i < d / 2; i++) {
        double s, c;

        fs_sincos64((double)pos * fs_pow64(10000.0, -2.0 * (double)i / (double)d), &s, &c);
        cs[2 * i] = (float)c;
        cs[2 * i + 1] = (float)s;
    }
    feed_row(r, cs, d);
    r->k.rows.rope_half(x, cs, d);
    feed_row(r, x, d);
    r->k.rows.rope_interleaved(x, cs, d);
    feed_row(r, x, d);
}

static void feed_rows(run *r)
{
    static const size_t dims[] = { 2, 30, 32, 34, 64, 96, 128, 192 };
    static const uint32_t positions[] = { 0, 1, 255, 256, 65535, 163839, 1048575, 2097152 };

    feed_name(r, "rows");
    for (size_t i = 0; i < N_LENGTHS; i++)
        for (int kind = 0; kind < KIND_END; kind++) {
            feed_reductions(r, lengths[i], kind);
            feed_elementwise(r, lengths[i], kind);
        }
    feed_name(r, "rope");
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (size_t p = 0; p < sizeof positions / sizeof *positions; p++)
            feed_rope(r, dims[i], positions[p], p % KIND_END);
}

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

static void feed_products(run *r)
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

static void feed_quantised_products(run *r)
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

/* ---- attention.h ---- */

#define KEYS_MAX 784

/* The slots behind the last visible key hold NaN: they must not be seen. */
static void feed_attention(run *r, bool latent, size_t n_q, size_t n_heads, size_t pos0, size_t key_dim, size_t value_dim)
{
    size_t n_keys = pos0 + n_q, n_slots = (n_keys + FS_KV_BLOCK) / FS_KV_BLOCK * FS_KV_BLOCK;
    fs_attention_tile t = { .n_q = n_q, .n_heads = n_heads, .pos0 = pos0, .key_dim = key_dim, .value_dim = value_dim };
    float *k, *v;
    void *scratch;

    begin(r);
    t.q = random_row(r, n_q * n_heads * key_dim, PLAIN);
    t.q_head_stride = key_dim;
    t.q_token_stride = n_heads * key_dim;
    t.scale = 0x1.6a09e6p-6f;
    k = random_row(r, n_slots * key_dim, PLAIN);
    v = random_row(r, n_slots * value_dim, PLAIN);
    for (size_t j = n_keys; j < n_slots; j++) {
        for (size_t d = 0; d < key_dim; d++)
            k[latent ? j * key_dim + d : (j / 16 * key_dim + d) * 16 + j % 16] = NAN;
        for (size_t d = 0; d < value_dim; d++)
            v[j * value_dim + d] = NAN;
    }
    t.k = k;
    t.v = latent ? NULL : v;
    t.v_stride = value_dim;
    t.out = fs_arena_array(&r->arena, float, n_q * n_heads * value_dim);
    t.out_head_stride = value_dim;
    t.out_token_stride = n_heads * value_dim;
    scratch = fs_arena_alloc(&r->arena, fs_attention_scratch_bytes(key_dim, value_dim));
    (latent ? r->k.attention.mla : r->k.attention.gqa)(&t, scratch);
    feed_row(r, t.out, n_q * n_heads * value_dim);
}

static void feed_attentions(run *r)
{
    static const size_t positions[] = { 0, 1, 14, 15, 16, 254, 255, 256, 257, 511, 512, 700 };

    for (int latent = 0; latent < 2; latent++) {
        feed_name(r, latent ? "mla" : "gqa");
        for (size_t i = 0; i < sizeof positions / sizeof *positions; i++)
            for (size_t n_q = 1; n_q < 8; n_q += 3) {
                assert(positions[i] + n_q <= KEYS_MAX);
                feed_attention(r, latent, n_q, 1 + i % 5, positions[i], latent ? 80 : 64, 64);
                feed_attention(r, latent, n_q, 1 + i % 3, positions[i], latent ? 288 : 40, latent ? 257 : 24);
            }
    }
}

/* Class RN1-bf16. kind is that of the values, and of latent keys. */
static void feed_attention_bf16(run *r, bool latent, size_t n_q, size_t n_heads, size_t pos0, size_t key_dim, size_t value_dim, enum kind kind)
{
    size_t n_keys = pos0 + n_q, n_slots = (n_keys + FS_KV_BLOCK) / FS_KV_BLOCK * FS_KV_BLOCK, n_pairs = fs_pairs(key_dim);
    fs_attention_tile t = { .n_q = n_q, .n_heads = n_heads, .pos0 = pos0, .key_dim = key_dim, .value_dim = value_dim };
    float *k, *v;
    fs_pair *k16, *v16;

    begin(r);
    t.q = random_row(r, n_q * n_heads * key_dim, PLAIN);
    t.q_head_stride = key_dim;
    t.q_token_stride = n_heads * key_dim;
    t.scale = 0x1.6a09e6p-6f;
    k = random_row(r, n_slots * key_dim, latent ? kind : PLAIN);
    v = random_row(r, n_slots * value_dim, kind);
    for (size_t j = n_keys; j < n_slots; j++) {
        for (size_t d = 0; d < key_dim; d++)
            k[j * key_dim + d] = NAN;
        for (size_t d = 0; d < value_dim; d++)
            v[j * value_dim + d] = NAN;
    }
    k16 = fs_arena_array(&r->arena, fs_pair, n_slots * n_pairs);
    v16 = fs_arena_array(&r->arena, fs_pair, n_slots / 2 * value_dim);
    for (size_t j = 0; j < n_slots; j++)
        for (size_t i = 0; i < n_pairs; i++)
            k16[latent ? j * n_pairs + i : (j / 16 * n_pairs + i) * 16 + j % 16] =
                fs_pair_of(k[j * key_dim + 2 * i], 2 * i + 1 < key_dim ? k[j * key_dim + 2 * i + 1] : 0.0f);
    for (size_t j = 0; j < n_slots; j += 2)
        for (size_t d = 0; d < value_dim; d++)
            v16[j / 2 * value_dim + d] = fs_pair_of(v[j * value_dim + d], v[(j + 1) * value_dim + d]);
    t.k16 = k16;
    t.v16 = latent ? NULL : v16;
    t.v_stride = value_dim;
    t.out = fs_arena_array(&r->arena, float, n_q * n_heads * value_dim);
    t.out_head_stride = value_dim;
    t.out_token_stride = n_heads * value_dim;
    (latent ? r->k.attention.bf16.mla : r->k.attention.bf16.gqa)(&t, fs_arena_alloc(&r->arena, fs_attention_scratch_bytes(key_dim, value_dim)));
    feed_row(r, t.out, n_q * n_heads * value_dim);
}

static void feed_attentions_bf16(run *r)
{
    static const size_t positions[] = { 0, 1, 14, 15, 16, 254, 255, 256, 257, 511, 512, 700 };

    for (int latent = 0; latent < 2; latent++) {
        feed_name(r, latent ? "mla bf16" : "gqa bf16");
        for (size_t i = 0; i < sizeof positions / sizeof *positions; i++)
            for (size_t n_q = 1; n_q < 8; n_q += 3)
                for (enum kind kind = PLAIN; kind <= DENORMAL; kind += DENORMAL) {
                    feed_attention_bf16(r, latent, n_q, 1 + i % 5, positions[i], latent ? 80 : 64, 64, kind);
                    feed_attention_bf16(r, latent, n_q, 1 + i % 3, positions[i], latent ? 289 : 40, latent ? 257 : 24, kind);
                }
    }
}

/* ---- grad.h ---- */

static void feed_grad_rows(run *r, size_t n, enum kind kind)
{
    const fs_grad_kernels *k = &r->k.grad;
    const fs_adamw c = { .clip = 0.75f, .beta1 = 0.9f, .rest1 = 0.1f, .beta2 = 0.95f, .rest2 = 0.05f, .scale1 = 10, .scale2 = 20, .eps = 1e-8f,
                         .lr = 0.01f, .keep = 0.999f };
    float *x, *w, *dy, *g, *y, f;

    begin(r);
    x = random_row(r, 3 * n, kind);
    w = random_row(r, n, kind);
    dy = random_row(r, 3 * n, kind);
    g = random_row(r, n, PLAIN);
    y = random_row(r, n, PLAIN);
    feed_f32(r, k->dot(x, dy, n));
    f = k->exp_sum(x, r->k.rows.max(x, n), g, n);
    feed_f32(r, f);
    feed_row(r, g, n);
    k->div_scale(g, f, 0.3f, g, n);
    feed_row(r, g, n);
    feed_f32(r, k->rmsnorm(x, w, 1e-6f, dy, y, g, n));
    feed_row(r, y, n);
    k->norm_weight(x, n, w, dy, n, n < 3 ? n : 3, y, n);
    feed_row(r, y, n);
    k->bias(dy, n, 3, y, n);
    feed_row(r, y, n);
    k->swiglu(x, w, dy, g, y, n);
    feed_row(r, g, n);
    feed_row(r, y, n);
    k->attention(x, dy, 0.125f, 2.0f, 3.0f, 0.5f, n);
    feed_row(r, x, n);
    feed_row(r, dy, n);
    for (size_t i = 0; i < n; i++)
        x[n + i] = x[n + i] * x[n + i];
    k->adamw(&c, dy + n, y, x + n, w, n);
    feed_row(r, y, n);
    feed_row(r, x + n, n);
    feed_row(r, w, n);
}

/* dW = dY^T X over n_t tokens, in pieces of 256 and one of what is left. */
static void feed_tokens(run *r, size_t n_t, uint32_t n_o, uint32_t n_i)
{
    fs_mat mat;
    size_t bytes;
    float *x, *dy, *turned, *dw;
    void *data, *scratch;
    bool ok = fs_mat_bytes(FS_DTYPE_F32, n_i, n_t, 0, 0, &bytes);

    assert(ok);
    (void)ok;
    begin(r);
    x = random_row(r, n_t * n_i, PLAIN);
    dy = random_row(r, n_t * n_o, PLAIN);
    dw = random_row(r, (size_t)n_o * n_i, PLAIN);
    turned = fs_arena_array(&r->arena, float, n_o, n_t);
    data = fs_arena_alloc(&r->arena, bytes);
    scratch = fs_arena_alloc(&r->arena, FS_GEMM_SCRATCH_BYTES);
    fs_mat_init_f32(&mat, FS_DTYPE_F32, n_i, (uint32_t)n_t, data);
    fs_mat_pack_columns(&mat, x, n_i, NULL, 0, fs_mat_panels(&mat));
    fs_transpose(dy, n_o, NULL, n_t, n_o, turned, n_t);
    for (size_t t = 0; t < n_t; t += 256) {
        fs_mat part = mat;
        part.k = (uint32_t)(n_t - t < 256 ? n_t - t : 256);
        part.data += t * FS_PANEL * sizeof(float);
        r->k.products.gemm_add(&part, 0, fs_mat_panels(&mat), turned + t, n_t, n_o, dw, n_i, scratch);
    }
    feed_row(r, dw, (size_t)n_o * n_i);
}

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

static void feed_pair_products(run *r)
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

static void feed_training(run *r)
{
    static const size_t tokens[] = { 1, 40, 255, 256, 257, 600 };

    feed_name(r, "training");
    for (size_t i = 0; i < N_LENGTHS; i++)
        for (int kind = 0; kind < KIND_END; kind++)
            feed_grad_rows(r, lengths[i], kind);
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        feed_tokens(r, tokens[i], 1 + 12 * (uint32_t)i, 17);
        feed_tokens(r, tokens[i], 13, 16 + 15 * (uint32_t)i);
    }
}

/* ---- kv8.h ---- */

static void feed_pairs(run *r, const fs_pair *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        feed_f32(r, fs_pair_first(p[i]));
        feed_f32(r, fs_pair_second(p[i]));
    }
}

/* 32 rows of n, as rows and, where n is even, as two panels: the stored scales and codes, then what is read of them. */
static void feed_kv8_rows(run *r, size_t n, enum kind kind)
{
    const fs_kv8_kernels k = fs_kv8_kernels_of(r->k.isa);
    size_t row_bytes = fs_kv8_row_bytes(n), n_panel = FS_KV8_PANEL * fs_kv8_key_bytes(n);
    uint8_t *rows, *panels;
    fs_pair *pairs;
    float *x;

    begin(r);
    x = random_row(r, 32 * n, kind);
    rows = fs_arena_alloc(&r->arena, 32 * row_bytes);
    panels = fs_arena_alloc(&r->arena, 2 * n_panel);
    pairs = fs_arena_array(&r->arena, fs_pair, 32 * fs_pairs(n));
    for (size_t i = 0; i < 32; i++) {
        uint8_t *row = rows + i * row_bytes;
        fs_kv8_put_row(row, x + i * n, n);
        feed_row(r, (const float *)(const void *)row, fs_kv8_blocks(n));
        fs_sha256_update(r->h, row + fs_kv8_blocks(n) * sizeof(float), n);
        if (n % 2 == 0)
            fs_kv8_put_key(panels + i / FS_KV8_PANEL * n_panel, i % FS_KV8_PANEL, x + i * n, n);
    }
    k.rows(rows, 32, n, pairs);
    feed_pairs(r, pairs, 32 * fs_pairs(n));
    k.values(rows, 32, n, pairs);
    feed_pairs(r, pairs, 16 * n);
    if (n % 2)
        return;
    k.panels(panels, 2, n, pairs);
    feed_pairs(r, pairs, 16 * n);
}

static void feed_kv8(run *r)
{
    static const size_t sizes[] = { 1, 2, 15, 30, 32, 33, 34, 62, 64, 80, 100, 128, 257, 576 };

    feed_name(r, "8-bit cache");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int kind = 0; kind < KIND_END; kind++)
            feed_kv8_rows(r, sizes[i], kind);
}

/* The largest vector: a product of 49 outputs or an attention of 1024 slots. */
#define ARENA_BYTES ((size_t)8 << 20)

fs_status fs_conformance_feed(const fs_kernels *k, fs_sha256 *h, fs_error *err)
{
    run r = { .k = *k, .h = h };
    fs_status rc = fs_arena_init(&r.arena, ARENA_BYTES, err);

    if (rc)
        return rc;
    feed_functions_f32(&r);
    feed_functions_f64(&r);
    feed_rows(&r);
    feed_products(&r);
    feed_quantised_products(&r);
    feed_attentions(&r);
    feed_attentions_bf16(&r);
    feed_training(&r);
    feed_pair_products(&r);
    feed_kv8(&r);
    fs_arena_done(&r.arena);
    return FS_OK;
}

static float sum_in_another_order(const float *x, size_t n)
{
    float lane[16] = { 0 };

    for (size_t i = 0; i < n; i++)
        lane[i % 16] += x[i];
    for (size_t s = 1; s < 16; s *= 2)
        for (size_t j = 0; j < 16; j += 2 * s)
            lane[j] += lane[j + s];
    return lane[0];
}

void fs_conformance_spoil(fs_kernels *k)
{
    k->rows.sum = sum_in_another_order;
}

bool fs_conformance_is_earlier(const char *hex)
{
    static const char *const earlier[] = {
        "98b2e5cc73edc37fae23ed976940a6a6eafc9ca5f5dc6fff2301efa72046296d", /* without the 8-bit cache */
    };

    for (size_t i = 0; i < sizeof earlier / sizeof *earlier; i++)
        if (strcmp(hex, earlier[i]) == 0)
            return true;
    return false;
}

fs_status fs_conformance_hash(unsigned isa, bool negative_control, char ret_hex[65], fs_error *err)
{
    fs_kernels k;
    fs_sha256 h;
    fs_status rc;

    if (isa & ~fs_isa_detect())
        return fs_fail(err, FS_ERR_UNSUPPORTED, "conformance: this CPU has no %s", fs_isa_name(isa));
    fs_kernels_init(&k, isa);
    if (negative_control)
        fs_conformance_spoil(&k);
    rc = fs_sha256_init(&h, err);
    if (rc)
        return rc;
    rc = fs_conformance_feed(&k, &h, err);
    if (rc) {
        fs_sha256_done(&h);
        return rc;
    }
    fs_sha256_final_hex(&h, ret_hex);
    return FS_OK;
}
