/* GGUF's codebook types, superblocks of 256: rows of 8 or 4 values out of a book, signs beside them, a scale for 16 or 32
 * elements. The order of the roundings is that of quants.py: the scale first, then the value; signs are exact. */
#include "tensor/blocks_impl.h"

#include "tensor/grids.h"

/* ret_y = fl(d * value), negated where signs has a bit, of a row of 8. */
static void put_row8(float d, const int8_t *values, uint16_t row, unsigned signs, float *ret_y)
{
    for (int j = 0; j < 8; j++) {
        float y = d * (float)values[row >> 2 * j & 3];
        ret_y[j] = signs >> j & 1 ? -y : y;
    }
}

/* The same of two rows of 4. */
static void put_rows4(float d, const int8_t *values, uint16_t row0, uint16_t row1, unsigned signs, float *ret_y)
{
    for (int j = 0; j < 8; j++) {
        float y = d * (float)values[(j < 4 ? row0 : row1) >> 4 * (j % 4) & 7];
        ret_y[j] = signs >> j & 1 ? -y : y;
    }
}

/* Seven signs are stored; the eighth makes their number even. */
static unsigned all_signs(unsigned seven)
{
    return seven | (unsigned)__builtin_parity(seven) << 7;
}

static uint32_t u32_at(const uint8_t *s)
{
    return u16_at(s) | (uint32_t)u16_at(s + 2) << 16;
}

/* dl * (value + delta), delta an eighth up or down; the sum is exact. */
static void put_row1(float dl, uint16_t row, bool down, float *ret_y)
{
    for (int j = 0; j < 8; j++)
        ret_y[j] = dl * ((float)iq1_values[row >> 2 * j & 3] + (down ? -0.125f : 0.125f));
}

void fs_block_iq1_s(const uint8_t *b, float *y)
{
    const uint8_t *qs = b + 2, *qh = b + 34;
    float d = half_at(b);

    for (int i = 0; i < 32; i++, y += 8) {
        unsigned h = u16_at(qh + i / 4 * 2), high = h >> 3 * (i % 4) & 7;
        put_row1(d * (float)(2 * (h >> 12 & 7) + 1), iq1_rows[qs[i] | high << 8], h >> 15, y);
    }
}

/* d's sixteen bits are the upper nibbles of the four words of scales. */
void fs_block_iq1_m(const uint8_t *b, float *y)
{
    const uint8_t *qs = b, *qh = b + 32, *scales = b + 48;
    unsigned half = 0;
    float d;

    for (int i = 0; i < 4; i++)
        half |= (unsigned)(scales[2 * i + 1] >> 4) << 4 * i;
    d = fs_f16_to_f32((uint16_t)half);
    for (int i = 0; i < 32; i++, y += 8) {
        unsigned h = qh[i / 2] >> 4 * (i % 2), scale = u16_at(scales + i / 8 * 2) >> 3 * (i / 2 % 4) & 7u;
        put_row1(d * (float)(2 * scale + 1), iq1_rows[qs[i] | (h & 7) << 8], h & 8, y);
    }
}

void fs_block_iq2_xxs(const uint8_t *b, float *y)
{
    float d = half_at(b);

    b += 2;
    for (int i = 0; i < 8; i++, b += 8) {
        uint32_t signs = u32_at(b + 4);
        float db = d * (0.5f + (float)(signs >> 28)) * 0.25f;
        for (int j = 0; j < 4; j++, y += 8)
            put_row8(db, iq2_xxs_values, iq2_xxs_rows[b[j]], all_signs(signs >> 7 * j & 127), y);
    }
}

void fs_block_iq2_xs(const uint8_t *b, float *y)
{
    const uint8_t *qs = b + 2, *scales = b + 66;
    float d = half_at(b);

    for (int i = 0; i < 32; i++, y += 8) {
        unsigned q = u16_at(qs + 2 * i), scale = scales[i / 4] >> 4 * (i / 2 % 2) & 15u;
        put_row8(d * (0.5f + (float)scale) * 0.25f, iq2_xs_values, iq2_xs_rows[q & 511], all_signs(q >> 9), y);
    }
}

void fs_block_iq2_s(const uint8_t *b, float *y)
{
    const uint8_t *qs = b + 2, *signs = b + 34, *qh = b + 66, *scales = b + 74;
    float d = half_at(b);

    for (int i = 0; i < 32; i++, y += 8) {
        unsigned high = qh[i / 4] >> 2 * (i % 4) & 3u, scale = scales[i / 4] >> 4 * (i / 2 % 2) & 15u;
        put_row8(d * (0.5f + (float)scale) * 0.25f, iq2_s_values, iq2_s_rows[qs[i] | high << 8], signs[i], y);
    }
}

void fs_block_iq3_xxs(const uint8_t *b, float *y)
{
    const uint8_t *qs = b + 2;
    float d = half_at(b);

    for (int i = 0; i < 8; i++) {
        uint32_t signs = u32_at(b + 66 + 4 * i);
        float db = d * (0.5f + (float)(signs >> 28)) * 0.5f;
        for (int j = 0; j < 4; j++, qs += 2, y += 8)
            put_rows4(db, iq3_xxs_values, iq3_xxs_rows[qs[0]], iq3_xxs_rows[qs[1]], all_signs(signs >> 7 * j & 127), y);
    }
}

void fs_block_iq3_s(const uint8_t *b, float *y)
{
    const uint8_t *qs = b + 2, *qh = b + 66, *signs = b + 74, *scales = b + 106;
    float d = half_at(b);

    for (int i = 0; i < 32; i++, y += 8) {
        unsigned scale = scales[i / 8] >> 4 * (i / 4 % 2) & 15u, high = (unsigned)qh[i / 4] >> 2 * (i % 4);
        put_rows4(d * (float)(1 + 2 * scale), iq3_s_values, iq3_s_rows[qs[2 * i] | (high & 1) << 8],
                  iq3_s_rows[qs[2 * i + 1] | (high >> 1 & 1) << 8], signs[i], y);
    }
}
