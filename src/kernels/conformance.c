/* See the header. Every loop here, in conformance_products.c and in conformance_attention.c is part of the hash: a change of
 * any is a change of the constant in tests/unit/test_conformance.c and of the list that other implementations must follow. */
#include "kernels/conformance_run.h"
#include "kernels/math.h"

#include <assert.h>
#include <math.h>

#define ROW_MAX   4099
#define N_LENGTHS (sizeof lengths / sizeof *lengths)

static const size_t lengths[] = { 1,   2,   7,   15,  16,  17,  31,  32,  33,   100,
                                  255, 256, 257, 300, 511, 512, 513, 768, 1000, ROW_MAX };

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
    fs_conformance_products(&r);
    fs_conformance_quantised_products(&r);
    fs_conformance_attentions(&r);
    fs_conformance_attentions_bf16(&r);
    feed_training(&r);
    fs_conformance_pair_products(&r);
    fs_conformance_kv8(&r);
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
