/* Quantised products on AVX-512 with VNNI: a tile, whose codes are bytes and whose factors are f32, out of a panel; and the
 * kernels of tiles, which know a type's shape alone. */
#include "kernels/quants_vnni.h"

/* The tile of n_blocks at p. */
INLINE void unpack(const fs_dtype t, const uint8_t *p, const size_t n_blocks, struct tile *ret)
{
    const shape s = shape_of(t);
    __m512i w[8];

    for (size_t b = 0; s.super && b < n_blocks; b += 8, p += tile_bytes_of(t)) {
        struct supers super;
        supers_of(t, p, &super);
        UNROLL for (int j = 0; j < 8; j++)
        {
            __m512 d[2], m[2];
            supers_at(t, &super, j, d, m);
            UNROLL for (int h = 0; h < 32 / s.sub; h++)
            {
                _mm512_store_ps(ret->d[(b + (size_t)j) * (32 / (size_t)s.sub) + (size_t)h], d[h]);
                if (s.has_min)
                    _mm512_store_ps(ret->m[(b + (size_t)j) * (32 / (size_t)s.sub) + (size_t)h], m[h]);
            }
            codes_of(t, p, 1, j, w);
            UNROLL for (int g = 0; g < 8; g++)
                _mm512_store_si512(ret->codes[b + (size_t)j] + g * 64, w[g]);
        }
    }
    for (size_t b = 0; !s.super && b < n_blocks; b += 2, p += tile_bytes_of(t) / 4) {
        const size_t n = n_blocks - b == 1 ? 1 : 2;
        UNROLL for (int j = 0; j < 2; j++)
        {
            __m512 d, m = _mm512_setzero_ps();
            if ((size_t)j == n)
                break;
            factors_of(t, p, n, j, &d, &m);
            _mm512_store_ps(ret->d[b + (size_t)j], d);
            if (s.has_min)
                _mm512_store_ps(ret->m[b + (size_t)j], m);
            codes_of(t, p, n, j, w);
            UNROLL for (int g = 0; g < 8; g++)
                _mm512_store_si512(ret->codes[b + (size_t)j] + g * 64, w[g]);
        }
    }
}

#define DEFINE_UNPACK(t)                                                            \
    static void unpack_##t(const uint8_t *p, size_t n_blocks, struct tile *ret)     \
    {                                                                               \
        unpack(FS_DTYPE_##t, p, n_blocks, ret);                                     \
    }
EACH_OFTEN(DEFINE_UNPACK)
EACH_RARE(DEFINE_UNPACK)

INLINE void tile_blocks(const shape s, const int rows, const struct piece *p, __m512 y[ROWS_MAX])
{
    const struct tile *tile = p->tile;
    const int n_subs = 32 / s.sub;

    for (size_t b = 0; b < p->n_blocks; b++) {
        __m512 d[2], m[2];

        UNROLL for (int h = 0; h < n_subs; h++)
        {
            d[h] = _mm512_load_ps(tile->d[b * (size_t)n_subs + (size_t)h]);
            m[h] = s.has_min ? _mm512_load_ps(tile->m[b * (size_t)n_subs + (size_t)h]) : _mm512_setzero_ps();
        }
        block(s, FS_DTYPE_Q8_0, rows, NULL, tile->codes[b], 0, 0, p->x + b, p->x_stride, d, m, y);
    }
}

INLINE void tile_kernel(const shape s, const int rows, const struct piece *p)
{
    __m512 y[ROWS_MAX];

    begin(rows, p, y);
    tile_blocks(s, rows, p, y);
    finish(rows, p, y);
}

#define DEFINE_TILE(t, rows)                               \
    static void tile_##t##_##rows(const struct piece *p)   \
    {                                                      \
        tile_kernel(SHAPE_##t, rows, p);                   \
    }
#define SHAPE_BIASED_32 ((shape){ 32, false, true, false })
#define SHAPE_BIASED_16 ((shape){ 16, false, true, false })
#define SHAPE_MIN_32    ((shape){ 32, false, false, true })
#define SHAPE_MIN_16    ((shape){ 16, false, false, true })
EACH_SIZE(DEFINE_TILE, BIASED_32)
EACH_SIZE(DEFINE_TILE, BIASED_16)
EACH_SIZE(DEFINE_TILE, MIN_32)
EACH_SIZE(DEFINE_TILE, MIN_16)

#define TILE(t, rows)  [rows] = tile_##t##_##rows,
#define UNPACK(t)      [FS_DTYPE_##t] = unpack_##t,
unpack_fn *const fs_quants_unpack_vnni[FS_DTYPE_END] = { EACH_OFTEN(UNPACK) EACH_RARE(UNPACK) };
kernel_fn *const fs_quants_tiles_vnni[2][2][ROWS_MAX + 1] = { /* [with a minimum][sub-blocks of 16] */
    { { EACH_SIZE(TILE, BIASED_32) }, { EACH_SIZE(TILE, BIASED_16) } },
    { { EACH_SIZE(TILE, MIN_32) }, { EACH_SIZE(TILE, MIN_16) } },
};
