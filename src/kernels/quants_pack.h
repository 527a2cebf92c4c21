/* Panels of codes (quants_isa.h) out of rows of blocks as in the file. A template: the file that includes it defines
 *
 *   words16(rows, at, flip, dst)   dst [4][16][4] of the 16 bytes at at of each row, every 32 bits ^ flip
 *
 * All sixteen rows exist. Every load lies inside its block. */
#ifndef FS_KERNELS_QUANTS_PACK_H
#define FS_KERNELS_QUANTS_PACK_H

#include "kernels/quants_isa.h"
#include "kernels/transpose.h"

#include <assert.h>
#include <string.h>

static const fs_codes_layout layouts[FS_DTYPE_END] = {
    [FS_DTYPE_Q4_0] = { { 0, 2, 2, 0 }, { 2, 16, 4, 0 } },
    [FS_DTYPE_Q4_1] = { { 0, 4, 2, 0 }, { 4, 16, 4, 0 } },
    [FS_DTYPE_Q5_0] = { { 0, 2, 2, 0 }, { 2, 4, 4, FS_CODES_PLANES }, { 6, 16, 4, 0 } },
    [FS_DTYPE_Q5_1] = { { 0, 4, 2, 0 }, { 4, 4, 4, FS_CODES_PLANES }, { 8, 16, 4, 0 } },
    [FS_DTYPE_Q8_0] = { { 0, 2, 2, 0 }, { 2, 32, 4, FS_CODES_BIASED } },
    [FS_DTYPE_Q2_K] = { { 80, 4, 2, 0 }, { 0, 16, 1, 0 }, { 16, 64, 4, 0 } },
    [FS_DTYPE_Q3_K] = { { 108, 2, 2, 0 }, { 96, 12, 1, 0 }, { 0, 32, 4, 0 }, { 32, 64, 4, 0 } },
    [FS_DTYPE_Q4_K] = { { 0, 4, 2, 0 }, { 4, 12, 1, 0 }, { 16, 128, 4, 0 } },
    [FS_DTYPE_Q5_K] = { { 0, 4, 2, 0 }, { 4, 12, 1, 0 }, { 16, 32, 4, 0 }, { 48, 128, 4, 0 } },
    [FS_DTYPE_Q6_K] = { { 208, 2, 2, 0 }, { 192, 16, 1, 0 }, { 0, 64, 4, 0 }, { 128, 32, 4, 0 }, { 64, 64, 4, 0 }, { 160, 32, 4, 0 } },
    [FS_DTYPE_IQ4_NL] = { { 0, 2, 2, 0 }, { 2, 16, 4, 0 } },
    [FS_DTYPE_IQ4_XS] = { { 0, 2, 2, 0 }, { 4, 4, 1, 0 }, { 2, 2, 2, 0 }, { 8, 128, 4, 0 } },
    [FS_DTYPE_MXFP4] = { { 0, 1, 1, 0 }, { 1, 16, 4, 0 } },
};

INLINE void words16(const uint8_t *const rows[FS_PANEL], size_t at, uint32_t flip, uint8_t *dst);

/* Bit 4g + i of each to bit g of byte i. */
INLINE v4u32 to_planes(v4u32 x)
{
    v4u32 planes = { 0 };

    UNROLL for (int i = 0; i < 4; i++)
    {
        v4u32 y = x >> i & 0x11111111;
        y = (y | y >> 3) & 0x03030303;
        y = (y | y >> 6) & 0x000f000f;
        planes |= ((y | y >> 12) & 0xff) << 8 * i;
    }
    return planes;
}

/* dst [bytes / elem][16][elem] of a field of the blocks of block_bytes at at. */
INLINE void pack_field(const fs_codes_field *f, const size_t block_bytes, const uint8_t *const rows[FS_PANEL], size_t at, uint8_t *dst)
{
    const size_t bytes = f->bytes;

    if (f->how == FS_CODES_PLANES) {
        v4u32 x[4];
        UNROLL for (int r = 0; r < 16; r++)
        {
            uint32_t word;
            memcpy(&word, rows[r] + at + f->at, sizeof word);
            x[r / 4][r % 4] = word;
        }
        UNROLL for (int i = 0; i < 4; i++)
            x[i] = to_planes(x[i]);
        memcpy(dst, x, sizeof x);
    } else if (f->elem == 4 && bytes % 16 == 0) {
        UNROLL for (size_t c = 0; c < bytes; c += 16)
            words16(rows, at + f->at + c, f->how == FS_CODES_BIASED ? 0x80808080 : 0, dst + c * FS_PANEL);
    } else if (f->elem == 1 && bytes > 1) {
        const size_t from = f->at + 16u > block_bytes ? block_bytes - 16 : f->at;
        v16u8 a[16];
        UNROLL for (int r = 0; r < 16; r++)
            memcpy(&a[r], rows[r] + at + from, 16);
        transpose_8(a);
        memcpy(dst, a + (f->at - from), bytes * FS_PANEL);
    } else {
        UNROLL for (size_t c = 0; c < bytes; c += f->elem)
            UNROLL for (size_t r = 0; r < FS_PANEL; r++)
                memcpy(dst + c * FS_PANEL + r * f->elem, rows[r] + at + f->at + c, f->elem);
    }
}

INLINE void pack_blocks(const fs_dtype t, const size_t block_elems, const size_t block_bytes, const uint8_t *const rows[FS_PANEL], size_t n_blocks,
                        uint8_t *dst)
{
    const uint8_t *ahead = rows[FS_PANEL - 1] + n_blocks * block_bytes; /* most often the next panel */

    for (size_t b0 = 0, n; b0 < n_blocks; b0 += n) {
        n = n_blocks - b0 < FS_CODES_UNIT(block_elems) ? n_blocks - b0 : FS_CODES_UNIT(block_elems);
        for (size_t i = 0; i < n * FS_PANEL * block_bytes; i += 64) /* sixteen short streams are none to the CPU */
            __builtin_prefetch((const void *)((uintptr_t)ahead + b0 * FS_PANEL * block_bytes + i));
        UNROLL for (int i = 0; i < FS_CODES_FIELDS; i++)
        {
            const fs_codes_field *f = &layouts[t][i];
            for (size_t b = b0; f->elem && b < b0 + n; b++, dst += FS_PANEL * (size_t)f->bytes)
                pack_field(f, block_bytes, rows, b * block_bytes, dst);
        }
    }
}

/* dst [n_blocks]: whole units, but for the last. */
INLINE void pack_blocks_of(fs_dtype t, const uint8_t *const rows[FS_PANEL], size_t n_blocks, uint8_t *dst)
{
#define PACK(type, elems, bytes)                                                    \
    case FS_DTYPE_##type:                                                           \
        pack_blocks(FS_DTYPE_##type, elems, bytes, rows, n_blocks, dst);            \
        return
    switch (t) {
        PACK(Q4_0, 32, 18);
        PACK(Q4_1, 32, 20);
        PACK(Q5_0, 32, 22);
        PACK(Q5_1, 32, 24);
        PACK(Q8_0, 32, 34);
        PACK(Q2_K, 256, 84);
        PACK(Q3_K, 256, 110);
        PACK(Q4_K, 256, 144);
        PACK(Q5_K, 256, 176);
        PACK(Q6_K, 256, 210);
        PACK(IQ4_NL, 32, 18);
        PACK(IQ4_XS, 256, 136);
        PACK(MXFP4, 32, 17);
    default:
        assert(!"a type without codes");
    }
#undef PACK
}

#endif
