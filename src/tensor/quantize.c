/* Plain types, the blocks of 32, and the two searches that K-quants (quantize_k.c) use too: a scale for given integers is
 * a least-squares quotient, integers for a given scale are the nearest; both are done in turn from several starts. */
#include "tensor/quantize_impl.h"

#include "tensor/blocks.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define ROUNDS 3 /* of improving the best start */

static const float ones[256] = {
#define ONE8   1, 1, 1, 1, 1, 1, 1, 1
#define ONE64  ONE8, ONE8, ONE8, ONE8, ONE8, ONE8, ONE8, ONE8
    ONE64, ONE64, ONE64, ONE64
};

void fs_put_half(uint8_t *b, float d)
{
    uint16_t h = fs_f32_to_f16(d);

    b[0] = (uint8_t)h;
    b[1] = (uint8_t)(h >> 8);
}

float fs_half(float d)
{
    return fs_f16_to_f32(fs_f32_to_f16(d));
}

/* ---- integers and a scale ---- */
const fs_grid fs_grid_iq4 = { -127, 113, fs_iq4_values };

/* The sixteen of a table lie 10 to 25 apart: the code is near (v + 127) / 16, and at most two steps from that. */
static int nearest_in(const int8_t *table, float v)
{
    int c = v <= -127 ? 0 : v >= 113 ? 15 : (int)((v + 127) * 0.0625f);

    while (c < 15 && v + v > (float)(table[c] + table[c + 1]))
        c++;
    while (c > 0 && v + v <= (float)(table[c - 1] + table[c]))
        c--;
    return table[c];
}

static int nearest(const fs_grid *g, float v)
{
    if (g->table)
        return nearest_in(g->table, v);
    return v <= (float)g->lo ? g->lo : v >= (float)g->hi ? g->hi : (int)rintf(v);
}

double fs_grid_assign(const fs_grid *g, const float *x, const float *w, int n, float d, int8_t *ret)
{
    float inverse = d != 0 ? 1 / d : 0;
    double error = 0;

    if (!isfinite(inverse))
        inverse = 0;
    for (int i = 0; i < n; i++) {
        int q = nearest(g, x[i] * inverse);
        float e = x[i] - d * (float)q;
        ret[i] = (int8_t)q;
        error += (double)(w[i] * e * e);
    }
    return error;
}

/* How much of sum w x^2 the integers nearest to x * inverse explain, with the best scale for them. */
static double gain(const fs_grid *g, const float *x, const float *w, int n, float inverse, float *ret_d)
{
    double xq = 0, qq = 0;

    for (int i = 0; i < n; i++) {
        float q = (float)nearest(g, x[i] * inverse), wq = w[i] * q;
        xq += (double)(wq * x[i]);
        qq += (double)(wq * q);
    }
    if (!(qq > 0))
        return -1;
    *ret_d = (float)(xq / qq);
    return xq * xq / qq;
}

float fs_grid_fit(const fs_grid *g, const float *x, const float *w, int n)
{
    float extreme = 0, best_d = 0, d = 0;
    double best = -1;
    int steps = g->table ? 6 : g->hi > 100 ? 4 : 12;

    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(extreme))
            extreme = x[i];
    if (!(fabsf(extreme) >= 1e-30f)) /* whose inverse could overflow */
        return 0;
    for (int side = 0; side < 2; side++) {
        float end = (float)(side ? g->hi : g->lo), step = g->table ? 5.0f : g->hi > 100 ? 0.5f : g->hi > 20 ? 0.2f : 0.1f;
        for (int k = -steps; k <= steps; k++) {
            double got = gain(g, x, w, n, (end + (end < 0 ? -step : step) * (float)k) / extreme, &d);
            if (got > best) {
                best = got;
                best_d = d;
            }
        }
    }
    for (int round = 0; round < ROUNDS && best_d != 0; round++) {
        double got = gain(g, x, w, n, 1 / best_d, &d);
        if (!(got > best))
            break;
        best = got;
        best_d = d;
    }
    return best_d;
}

/* ---- integers, a scale and an offset ---- */
double fs_affine_assign(int q_max, const float *x, const float *w, int n, float d, float m, uint8_t *ret)
{
    float inverse = d != 0 ? 1 / d : 0;
    double error = 0;

    if (!isfinite(inverse))
        inverse = 0;
    for (int i = 0; i < n; i++) {
        float v = (x[i] - m) * inverse, e;
        int q = v <= 0 ? 0 : v >= (float)q_max ? q_max : (int)rintf(v);
        e = x[i] - (d * (float)q + m);
        ret[i] = (uint8_t)q;
        error += (double)(w[i] * e * e);
    }
    return error;
}

/* The least squares of x = d * q + m for the q nearest to (x - m) * inverse; false: none. */
static bool affine_step(int q_max, const float *x, const float *w, int n, int sign, float inverse, float *m, float *ret_d, double *ret_error)
{
    double sw = 0, sx = 0, sq = 0, sxx = 0, sxq = 0, sqq = 0, det, d, b;

    for (int i = 0; i < n; i++) {
        float v = (x[i] - *m) * inverse, q = v <= 0 ? 0 : v >= (float)q_max ? (float)q_max : rintf(v), wx = w[i] * x[i], wq = w[i] * q;
        sw += (double)w[i];
        sx += (double)wx;
        sq += (double)wq;
        sxx += (double)(wx * x[i]);
        sxq += (double)(wx * q);
        sqq += (double)(wq * q);
    }
    det = sw * sqq - sq * sq;
    if (!(sqq > 0) || (!(det > 1e-9 * sw * sqq) && sign == 0))
        return false;
    d = (sw * sxq - sx * sq) / det;
    b = (sqq * sx - sq * sxq) / det;
    if (!(det > 1e-9 * sw * sqq) || (sign < 0 && b > 0)) { /* one q for all, or no offset allowed */
        b = 0;
        d = sxq / sqq;
    }
    *ret_error = sxx - 2 * d * sxq - 2 * b * sx + d * d * sqq + 2 * d * b * sq + b * b * sw;
    *ret_d = (float)d;
    *m = (float)b;
    return d > 0;
}

void fs_affine_fit(int q_max, const float *x, const float *w, int n, int sign, float *ret_d, float *ret_m)
{
    float lo = x[0], hi = x[0], d = 0, best_d = 0, best_m;
    double best = INFINITY, error;

    for (int i = 1; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    if (sign < 0 && lo > 0)
        lo = 0;
    best_m = lo;
    *ret_d = 0;
    *ret_m = lo;
    if (!(hi - lo >= 1e-30f))
        return;
    for (int k = -5; k <= 9; k++) {
        float m = lo, inverse = ((float)q_max + 0.12f * (float)k * (q_max > 3 ? 1.0f : 0.5f)) / (hi - lo);
        for (int round = 0; round < 2; round++) {
            if (!affine_step(q_max, x, w, n, sign, inverse, &m, &d, &error))
                break;
            if (error < best) {
                best = error;
                best_d = d;
                best_m = m;
            }
            inverse = 1 / d;
        }
    }
    for (int round = 0; round < ROUNDS && best_d > 0; round++) {
        float m = best_m;
        if (!affine_step(q_max, x, w, n, sign, 1 / best_d, &m, &d, &error) || !(error < best))
            break;
        best = error;
        best_d = d;
        best_m = m;
    }
    *ret_d = best_d;
    *ret_m = best_m;
}

/* ---- blocks of 32 ---- */

/* Element j in the low half of byte j, j + 16 in the high one. */
static void put_nibbles(uint8_t *b, const uint8_t *codes)
{
    for (int j = 0; j < 16; j++)
        b[j] = (uint8_t)((codes[j] & 15) | (codes[j + 16] & 15) << 4);
}

static void put_fifth_bits(uint8_t *b, const uint8_t *codes)
{
    memset(b, 0, 4);
    for (int j = 0; j < 32; j++)
        b[j / 8] |= (uint8_t)((codes[j] >> 4 & 1) << j % 8);
}

/* The scale as it is stored, and the integers for that. */
static void fit_block(const fs_grid *g, const float *x, const float *w, uint8_t *b, int8_t *q)
{
    float d = fs_half(fs_grid_fit(g, x, w, 32));

    fs_put_half(b, d);
    fs_grid_assign(g, x, w, 32, d, q);
}

static void q4_0(const float *x, const float *w, uint8_t *b)
{
    static const fs_grid grid = { -8, 7, NULL };
    int8_t q[32];
    uint8_t codes[32];

    fit_block(&grid, x, w, b, q);
    for (int j = 0; j < 32; j++)
        codes[j] = (uint8_t)(q[j] + 8);
    put_nibbles(b + 2, codes);
}

static void q5_0(const float *x, const float *w, uint8_t *b)
{
    static const fs_grid grid = { -16, 15, NULL };
    int8_t q[32];
    uint8_t codes[32];

    fit_block(&grid, x, w, b, q);
    for (int j = 0; j < 32; j++)
        codes[j] = (uint8_t)(q[j] + 16);
    put_fifth_bits(b + 2, codes);
    put_nibbles(b + 6, codes);
}

static void q8_0(const float *x, const float *w, uint8_t *b)
{
    static const fs_grid grid = { -127, 127, NULL };

    fit_block(&grid, x, w, b, (int8_t *)b + 2);
}

static void fit_affine_block(int q_max, const float *x, const float *w, uint8_t *b, uint8_t *codes)
{
    float d, m;

    fs_affine_fit(q_max, x, w, 32, 0, &d, &m);
    d = fs_half(d);
    m = fs_half(m);
    fs_put_half(b, d);
    fs_put_half(b + 2, m);
    fs_affine_assign(q_max, x, w, 32, d, m, codes);
}

static void q4_1(const float *x, const float *w, uint8_t *b)
{
    uint8_t codes[32];

    fit_affine_block(15, x, w, b, codes);
    put_nibbles(b + 4, codes);
}

static void q5_1(const float *x, const float *w, uint8_t *b)
{
    uint8_t codes[32];

    fit_affine_block(31, x, w, b, codes);
    put_fifth_bits(b + 4, codes);
    put_nibbles(b + 8, codes);
}

static void iq4_nl(const float *x, const float *w, uint8_t *b)
{
    int8_t q[32];
    uint8_t codes[32];

    fit_block(&fs_grid_iq4, x, w, b, q);
    for (int j = 0; j < 32; j++)
        for (codes[j] = 0; fs_iq4_values[codes[j]] != q[j];)
            codes[j]++;
    put_nibbles(b + 2, codes);
}

/* ---- fp4 and fp8 ---- */
static int e2m1_code(float v)
{
    static const float middles[7] = { 0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5 }; /* between 0, .5, 1, 1.5, 2, 3, 4, 6 */
    float a = fabsf(v);
    int code = 0;

    while (code < 7 && (a > middles[code] || (a == middles[code] && code % 2))) /* a tie to the even code */
        code++;
    return code == 0 || v > 0 ? code : code | 8;
}

uint8_t fs_quantize_fp4(const float *x, const float *w, int n, uint8_t *ret_codes)
{
    float a = 0;
    double best = INFINITY;
    int top, best_e = 0;

    for (int i = 0; i < n; i++) {
        a = fabsf(x[i]) > a ? fabsf(x[i]) : a;
        ret_codes[i] = 0;
    }
    if (a == 0)
        return 0;
    frexpf(a, &top); /* a is in [2^(top-1), 2^top) and the largest code 1.5 * 2^2 */
    for (int e = top - 5 + 127; e <= top - 1 + 127; e++) {
        double error = 0;
        float d;
        if (e < 1 || e > 254)
            continue;
        d = fs_e8m0_to_f32((uint8_t)e);
        for (int i = 0; i < n; i++) {
            int code = e2m1_code(x[i] / d);
            float diff = x[i] - d * 0.5f * (float)fs_e2m1_doubled[code];
            error += (double)(w[i] * diff * diff);
        }
        if (error < best) {
            best = error;
            best_e = e;
        }
    }
    for (int i = 0; i < n && best_e; i++)
        ret_codes[i] = (uint8_t)e2m1_code(x[i] / fs_e8m0_to_f32((uint8_t)best_e));
    return (uint8_t)best_e;
}

static void mxfp4(const float *x, const float *w, uint8_t *b)
{
    uint8_t codes[32];

    b[0] = fs_quantize_fp4(x, w, 32, codes);
    put_nibbles(b + 1, codes);
}

uint8_t fs_f32_to_e4m3(float x)
{
    uint8_t sign = signbit(x) ? 0x80 : 0;
    float a = fabsf(x);
    int e;

    if (a != a)
        return 0x7f;
    if (a >= 448)
        return sign | 0x7e;
    if (a < 0x1p-6f) /* denormal: units of 2^-9 */
        return sign | (uint8_t)rintf(a * 0x1p9f);
    frexpf(a, &e); /* a = f * 2^e, f in [0.5, 1): 8 to 16 units of 2^(e-4) */
    return sign | (uint8_t)((e + 5) * 8 + (int)rintf(ldexpf(a, 4 - e)));
}

/* ---- rows ---- */
static fs_encode_fn *const encode_fns[FS_DTYPE_END] = {
    [FS_DTYPE_Q4_0] = q4_0, [FS_DTYPE_Q4_1] = q4_1, [FS_DTYPE_Q5_0] = q5_0, [FS_DTYPE_Q5_1] = q5_1, [FS_DTYPE_Q8_0] = q8_0,
    [FS_DTYPE_Q2_K] = fs_encode_q2_k, [FS_DTYPE_Q3_K] = fs_encode_q3_k, [FS_DTYPE_Q4_K] = fs_encode_q4_k,
    [FS_DTYPE_Q5_K] = fs_encode_q5_k, [FS_DTYPE_Q6_K] = fs_encode_q6_k, [FS_DTYPE_IQ4_NL] = iq4_nl,
    [FS_DTYPE_IQ4_XS] = fs_encode_iq4_xs, [FS_DTYPE_MXFP4] = mxfp4,
};

bool fs_can_quantize(fs_dtype t)
{
    return t == FS_DTYPE_F32 || t == FS_DTYPE_F16 || t == FS_DTYPE_BF16 || encode_fns[t];
}

void fs_quantize_row(fs_dtype t, const float *x, const float *w, size_t n, void *dst)
{
    const fs_dtype_info *info = fs_dtype_get(t);
    uint8_t *b = dst;

    assert(fs_can_quantize(t) && n % info->block_elems == 0);
    if (t == FS_DTYPE_F32) {
        memcpy(dst, x, n * sizeof *x);
        return;
    }
    for (size_t i = 0; i < n; i += info->block_elems, b += info->block_bytes) {
        uint16_t h;
        if (encode_fns[t]) {
            encode_fns[t](x + i, w ? w + i : ones, b);
            continue;
        }
        h = t == FS_DTYPE_BF16 ? fs_f32_to_bf16(x[i]) : fs_f32_to_f16(x[i]);
        b[0] = (uint8_t)h;
        b[1] = (uint8_t)(h >> 8);
    }
}
