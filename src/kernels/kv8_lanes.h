/* WIDTH pairs at a time in vectors of the compiler's, included by kv8_avx2.c, kv8_avx512.c and kv8_neon.c after WIDTH. */
#include "kernels/kv8_isa.h"

#define INLINE static inline __attribute__((always_inline))

typedef int8_t vi8 __attribute__((vector_size(WIDTH)));
typedef uint16_t vu16 __attribute__((vector_size(2 * WIDTH)));
typedef uint32_t vu32 __attribute__((vector_size(4 * WIDTH)));
typedef int32_t vi32 __attribute__((vector_size(4 * WIDTH)));
typedef float vf32 __attribute__((vector_size(4 * WIDTH)));

/* fs_bf16_bits of each. */
INLINE vu32 bf16_bits(vf32 x)
{
    vu32 b = (vu32)x, nan = (vu32)(x != x), tiny = (vu32)((b & 0x7f800000) == 0);
    vu32 r = (b + 0x7fff + (b >> 16 & 1)) & 0xffff0000;

    r = (nan & ((b | 0x00400000) & 0xffff0000)) | (~nan & r);
    return (tiny & (b & 0x80000000)) | (~tiny & r);
}

/* fl(d * code) as pairs, of the codes of WIDTH pairs. */
INLINE void store_pairs(fs_pair *ret, vf32 d, const uint8_t *codes)
{
    vu16 c;
    vi32 w;
    vu32 y;

    memcpy(&c, codes, sizeof c);
    w = __builtin_convertvector(c, vi32);
    y = bf16_bits(d * __builtin_convertvector(w << 24 >> 24, vf32)) | bf16_bits(d * __builtin_convertvector(w << 16 >> 24, vf32)) >> 16;
    memcpy(ret, &y, sizeof y);
}

INLINE vf32 set1(float x)
{
    return x - (vf32){ 0 }; /* x - 0 is x, -0 too */
}

INLINE float scale_of(const uint8_t *row, size_t i)
{
    float d;
    memcpy(&d, row + i / FS_KV8_BLOCK * sizeof d, sizeof d);
    return d;
}

static void rows(const uint8_t *row, size_t n_rows, size_t n, fs_pair *ret)
{
    size_t at = fs_kv8_blocks(n) * sizeof(float), row_bytes = fs_kv8_row_bytes(n), i;

    for (size_t r = 0; r < n_rows; r++, row += row_bytes, ret += fs_pairs(n)) {
        for (i = 0; i + FS_KV8_BLOCK <= n; i += FS_KV8_BLOCK)
            for (size_t j = 0; j < FS_KV8_BLOCK; j += 2 * WIDTH)
                store_pairs(ret + (i + j) / 2, set1(scale_of(row, i)), row + at + i + j);
        for (; i < n; i += 2)
            ret[i / 2] = fs_pair_of(fs_kv8_value(row, n, i), i + 1 < n ? fs_kv8_value(row, n, i + 1) : 0.0f);
    }
}

static void panels(const uint8_t *panel, size_t n_panels, size_t n, fs_pair *ret)
{
    for (size_t p = 0; p < n_panels; p++, panel += FS_KV8_PANEL * fs_kv8_key_bytes(n)) {
        const uint8_t *codes = panel + fs_kv8_blocks(n) * FS_KV8_PANEL * sizeof(float);
        for (size_t i = 0; i < n; i += 2)
            for (size_t r = 0; r < FS_KV8_PANEL; r += WIDTH, codes += 2 * WIDTH, ret += WIDTH) {
                vf32 d;
                memcpy(&d, panel + (i / FS_KV8_BLOCK * FS_KV8_PANEL + r) * sizeof(float), sizeof d);
                store_pairs(ret, d, codes);
            }
    }
}

INLINE vu32 bits_at(const uint8_t *row, size_t at, size_t i)
{
    vi8 c;

    memcpy(&c, row + at + i, sizeof c);
    return bf16_bits(set1(scale_of(row, i)) * __builtin_convertvector(c, vf32));
}

static void values(const uint8_t *row, size_t n_rows, size_t n, fs_pair *ret)
{
    size_t at = fs_kv8_blocks(n) * sizeof(float), row_bytes = fs_kv8_row_bytes(n), i;

    for (size_t r = 0; r + 1 < n_rows; r += 2, row += 2 * row_bytes, ret += n) {
        const uint8_t *next = row + row_bytes;
        for (i = 0; i + WIDTH <= n; i += WIDTH) {
            vu32 y = bits_at(row, at, i) | bits_at(next, at, i) >> 16;
            memcpy(ret + i, &y, sizeof y);
        }
        for (; i < n; i++)
            ret[i] = fs_pair_of(fs_kv8_value(row, n, i), fs_kv8_value(next, n, i));
    }
}
