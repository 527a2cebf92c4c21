/* Inside the family kv8: the implementations that fs_kv8_kernels_of chooses from. */
#ifndef FS_KERNELS_KV8_ISA_H
#define FS_KERNELS_KV8_ISA_H

#include "kernels/kv8.h"

extern const fs_kv8_kernels fs_kv8_ref, fs_kv8_avx2, fs_kv8_avx512, fs_kv8_neon;

/* Element i of a row. */
static inline float fs_kv8_value(const uint8_t *row, size_t n, size_t i)
{
    float d;

    memcpy(&d, row + i / FS_KV8_BLOCK * sizeof d, sizeof d);
    return d * (float)(int8_t)row[fs_kv8_blocks(n) * sizeof d + i];
}

#endif
