/* Between blocks.c and blocks_grid.c: one block's values. What the bytes mean is in docs/formats.md. */
#ifndef FS_TENSOR_BLOCKS_IMPL_H
#define FS_TENSOR_BLOCKS_IMPL_H

#include "tensor/blocks.h"

typedef void fs_block_fn(const uint8_t *block, float *ret_y);
fs_block_fn fs_block_iq1_s, fs_block_iq1_m, fs_block_iq2_xxs, fs_block_iq2_xs, fs_block_iq2_s, fs_block_iq3_xxs, fs_block_iq3_s;

static inline uint16_t u16_at(const uint8_t *s)
{
    return (uint16_t)(s[0] | s[1] << 8);
}

static inline float half_at(const uint8_t *s)
{
    return fs_f16_to_f32(u16_at(s));
}

#endif
