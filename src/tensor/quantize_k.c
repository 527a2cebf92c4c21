/* Superblocks of 256: a scale for the block, codes that scale its sub-blocks. Each sub-block is fitted alone; its scale is
 * rounded to a code; then codes next to it are tried, and the block's own scale is fitted to all codes, in turn. */
#include "tensor/quantize_impl.h"

#include "tensor/blocks.h"

#include <math.h>
#include <string.h>

#define ROUNDS 2

static int clamp(float v, int lo, int hi)
{
    return v <= (float)lo ? lo : v >= (float)hi ? hi : (int)rintf(v);
}

/* ---- scales without offsets: Q3_K, Q6_K, IQ4_XS ---- */
typedef struct scaled {
    fs_grid grid;
    int n_sub, sub, sc_lo, sc_hi; /* sub-blocks, their elements, the codes of their scales */
} scaled;

/* The code near the given one with the smallest error, and its integers. */
static double best_code(const scaled *s, const float *x, const float *w, float d, int near, int8_t *ret_code, int8_t *ret_q)
{
    int8_t q[32];
    double best = INFINITY;

    for (int c = near - 1; c <= near + 1; c++) {
        double error;
        if (c < s->sc_lo || c > s->sc_hi)
            continue;
        error = fs_grid_assign(&s->grid, x, w, s->sub, d * (float)c, q);
        if (error < best) {
            best = error;
            *ret_code = (int8_t)c;
            memcpy(ret_q, q, (size_t)s->sub);
        }
    }
    return best;
}

/* Returns the block's scale; ret_codes [n_sub], ret_q [256]. */
static float encode_scaled(const scaled *s, const float *x, const float *w, int8_t *ret_codes, int8_t *ret_q)
{
    float scales[16], top = 0, d, best_d = 0;
    int8_t codes[16], q[256];
    double best = INFINITY;

    for (int j = 0; j < s->n_sub; j++) {
        scales[j] = fs_grid_fit(&s->grid, x + j * s->sub, w + j * s->sub, s->sub);
        if (fabsf(scales[j]) > fabsf(top))
            top = scales[j];
    }
    memset(ret_codes, 0, (size_t)s->n_sub);
    memset(ret_q, 0, 256);
    d = fs_half(top / (float)s->sc_lo); /* the largest magnitude that a code has is that of the lowest */
    for (int round = 0; round <= ROUNDS && d != 0; round++) {
        double error = 0, xa = 0, aa = 0;
        for (int j = 0; j < s->n_sub; j++) {
            int near = clamp(scales[j] / d, s->sc_lo, s->sc_hi);
            error += best_code(s, x + j * s->sub, w + j * s->sub, d, near, &codes[j], q + j * s->sub);
        }
        if (!(error < best))
            break;
        best = error;
        best_d = d;
        memcpy(ret_codes, codes, (size_t)s->n_sub);
        memcpy(ret_q, q, 256);
        for (int i = 0; i < 256; i++) {
            float a = (float)(codes[i / s->sub] * q[i]);
            xa += (double)(w[i] * x[i] * a);
            aa += (double)(w[i] * a * a);
        }
        d = aa > 0 ? fs_half((float)(xa / aa)) : 0;
    }
    return best_d;
}

/* Two bits an element: byte 32 * (i / 128) + i % 32, the bit pair (i / 32) % 4. */
static void put_pairs(uint8_t *b, const uint8_t *codes)
{
    memset(b, 0, 64);
    for (int i = 0; i < 256; i++)
        b[32 * (i / 128) + i % 32] |= (uint8_t)((codes[i] & 3) << 2 * (i / 32 % 4));
}

void fs_encode_q3_k(const float *x, const float *w, uint8_t *b)
{
    static const scaled s = { { -4, 3, NULL }, 16, 16, -32, 31 };
    int8_t scales[16], q[256];
    uint8_t codes[256];
    float d = encode_scaled(&s, x, w, scales, q);

    memset(b, 0, 32);
    memset(b + 96, 0, 12);
    for (int i = 0; i < 256; i++) {
        codes[i] = (uint8_t)(q[i] + 4);
        b[i % 32] |= (uint8_t)((codes[i] >> 2) << i / 32);
    }
    put_pairs(b + 32, codes);
    for (int g = 0; g < 16; g++) {
        int code = scales[g] + 32;
        b[96 + g % 8] |= (uint8_t)((code & 15) << (g < 8 ? 0 : 4));
        b[96 + 8 + g % 4] |= (uint8_t)((code >> 4) << 2 * (g / 4));
    }
    fs_put_half(b + 108, d);
}

void fs_encode_q6_k(const float *x, const float *w, uint8_t *b)
{
    static const scaled s = { { -32, 31, NULL }, 16, 16, -128, 127 };
    int8_t q[256];
    float d = encode_scaled(&s, x, w, (int8_t *)b + 192, q);

    memset(b, 0, 192);
    for (int i = 0; i < 256; i++) {
        int code = q[i] + 32;
        b[64 * (i / 128) + i % 64] |= (uint8_t)((code & 15) << 4 * (i / 64 % 2));
        b[128 + 32 * (i / 128) + i % 32] |= (uint8_t)((code >> 4) << 2 * (i / 32 % 4));
    }
    fs_put_half(b + 208, d);
}

void fs_encode_iq4_xs(const float *x, const float *w, uint8_t *b)
{
    scaled s = { fs_grid_iq4, 8, 32, -32, 31 };
    int8_t scales[16], q[256];
    float d = encode_scaled(&s, x, w, scales, q);

    memset(b, 0, 136);
    fs_put_half(b, d);
    for (int j = 0; j < 8; j++) {
        int code = scales[j] + 32;
        b[2 + j / 4] |= (uint8_t)((code >> 4) << 2 * (j % 4));
        b[4 + j / 2] |= (uint8_t)((code & 15) << 4 * (j % 2));
    }
    for (int i = 0; i < 256; i++) {
        int code = 0;
        while (fs_iq4_values[code] < q[i])
            code++;
        b[8 + 16 * (i / 32) + i % 16] |= (uint8_t)(code << (i % 32 < 16 ? 0 : 4));
    }
}

/* ---- scales and offsets: Q2_K, Q4_K, Q5_K ---- */
typedef struct affine {
    int n_sub, sub, q_max, code_max; /* code_max: of scales and of offsets */
} affine;

static double best_codes(const affine *a, const float *x, const float *w, float d, float dmin, int near, int near_min, uint8_t *ret_code,
                         uint8_t *ret_min, uint8_t *ret_q)
{
    uint8_t q[32];
    double best = INFINITY;

    for (int c = near - 1; c <= near + 1; c++)
        for (int m = near_min - 1; m <= near_min + 1; m++) {
            double error;
            if (c < 0 || c > a->code_max || m < 0 || m > a->code_max)
                continue;
            error = fs_affine_assign(a->q_max, x, w, a->sub, d * (float)c, -(dmin * (float)m), q);
            if (error < best) {
                best = error;
                *ret_code = (uint8_t)c;
                *ret_min = (uint8_t)m;
                memcpy(ret_q, q, (size_t)a->sub);
            }
        }
    return best;
}

/* d and dmin of x = d * (code * q) - dmin * min by least squares; they stay as they are when that has no answer. */
static void refit(const affine *a, const float *x, const float *w, const uint8_t *codes, const uint8_t *mins, const uint8_t *q, float *d,
                  float *dmin)
{
    double uu = 0, uv = 0, vv = 0, ux = 0, vx = 0, det;

    for (int i = 0; i < 256; i++) {
        float u = (float)(codes[i / a->sub] * q[i]), v = (float)mins[i / a->sub];
        uu += (double)(w[i] * u * u);
        uv += (double)(w[i] * u * v);
        vv += (double)(w[i] * v * v);
        ux += (double)(w[i] * u * x[i]);
        vx += (double)(w[i] * v * x[i]);
    }
    det = uu * vv - uv * uv;
    if (vv == 0 && uu > 0) {
        *d = fs_half((float)(ux / uu));
    } else if (det > 1e-9 * uu * vv) {
        double new_d = (ux * vv - uv * vx) / det, new_dmin = (ux * uv - uu * vx) / det;
        if (new_d > 0 && new_dmin >= 0) {
            *d = fs_half((float)new_d);
            *dmin = fs_half((float)new_dmin);
        }
    }
}

/* ret_codes, ret_mins [n_sub], ret_q [256]. */
static void encode_affine(const affine *a, const float *x, const float *w, float *ret_d, float *ret_dmin, uint8_t *ret_codes, uint8_t *ret_mins,
                          uint8_t *ret_q)
{
    float scales[16], mins[16], top = 0, top_min = 0, d, dmin;
    uint8_t codes[16], min_codes[16], q[256];
    double best = INFINITY;

    for (int j = 0; j < a->n_sub; j++) {
        fs_affine_fit(a->q_max, x + j * a->sub, w + j * a->sub, a->sub, -1, &scales[j], &mins[j]);
        mins[j] = -mins[j];
        top = scales[j] > top ? scales[j] : top;
        top_min = mins[j] > top_min ? mins[j] : top_min;
    }
    memset(ret_codes, 0, (size_t)a->n_sub);
    memset(ret_mins, 0, (size_t)a->n_sub);
    memset(ret_q, 0, 256);
    d = fs_half(top / (float)a->code_max);
    dmin = fs_half(top_min / (float)a->code_max);
    *ret_d = *ret_dmin = 0;
    for (int round = 0; round <= ROUNDS; round++) {
        double error = 0;
        for (int j = 0; j < a->n_sub; j++) {
            int near = d > 0 ? clamp(scales[j] / d, 0, a->code_max) : 0, near_min = dmin > 0 ? clamp(mins[j] / dmin, 0, a->code_max) : 0;
            error += best_codes(a, x + j * a->sub, w + j * a->sub, d, dmin, near, near_min, &codes[j], &min_codes[j], q + j * a->sub);
        }
        if (!(error < best))
            break;
        best = error;
        *ret_d = d;
        *ret_dmin = dmin;
        memcpy(ret_codes, codes, (size_t)a->n_sub);
        memcpy(ret_mins, min_codes, (size_t)a->n_sub);
        memcpy(ret_q, q, 256);
        refit(a, x, w, codes, min_codes, q, &d, &dmin);
    }
}

void fs_encode_q2_k(const float *x, const float *w, uint8_t *b)
{
    static const affine a = { 16, 16, 3, 15 };
    uint8_t codes[16], mins[16], q[256];
    float d, dmin;

    encode_affine(&a, x, w, &d, &dmin, codes, mins, q);
    for (int j = 0; j < 16; j++)
        b[j] = (uint8_t)(codes[j] | mins[j] << 4);
    put_pairs(b + 16, q);
    fs_put_half(b + 80, d);
    fs_put_half(b + 82, dmin);
}

/* The six-bit codes of eight sub-blocks in the twelve bytes of Q4_K and Q5_K. */
static void put_codes(uint8_t *s, const uint8_t *codes, const uint8_t *mins)
{
    for (int j = 0; j < 4; j++) {
        s[j] = (uint8_t)(codes[j] | (codes[j + 4] >> 4) << 6);
        s[j + 4] = (uint8_t)(mins[j] | (mins[j + 4] >> 4) << 6);
        s[j + 8] = (uint8_t)((codes[j + 4] & 15) | (mins[j + 4] & 15) << 4);
    }
}

/* Four bits an element: byte 32 * (i / 64) + i % 32, the low half where i / 32 is even. */
static void put_halves(uint8_t *b, const uint8_t *q)
{
    memset(b, 0, 128);
    for (int i = 0; i < 256; i++)
        b[32 * (i / 64) + i % 32] |= (uint8_t)((q[i] & 15) << 4 * (i / 32 % 2));
}

static void q45_k(int q_max, const float *x, const float *w, uint8_t *b, uint8_t *q)
{
    affine a = { 8, 32, q_max, 63 };
    uint8_t codes[16], mins[16];
    float d, dmin;

    encode_affine(&a, x, w, &d, &dmin, codes, mins, q);
    fs_put_half(b, d);
    fs_put_half(b + 2, dmin);
    put_codes(b + 4, codes, mins);
}

void fs_encode_q4_k(const float *x, const float *w, uint8_t *b)
{
    uint8_t q[256];

    q45_k(15, x, w, b, q);
    put_halves(b + 16, q);
}

void fs_encode_q5_k(const float *x, const float *w, uint8_t *b)
{
    uint8_t q[256];

    q45_k(31, x, w, b, q);
    memset(b + 16, 0, 32);
    for (int i = 0; i < 256; i++)
        b[16 + i % 32] |= (uint8_t)((q[i] >> 4) << i / 32);
    put_halves(b + 48, q);
}
