/* The loops of each instruction set, for limits.c and its like and for no one else. Contracts: limits.h. */
#ifndef FS_KERNELS_LIMITS_ISA_H
#define FS_KERNELS_LIMITS_ISA_H

#include "kernels/limits.h"

extern const fs_limit_kernels fs_limits_ref;
extern const fs_limit_kernels fs_limits_avx2;
extern const fs_limit_kernels fs_limits_avx512;
extern const fs_limit_kernels fs_limits_neon;
uint64_t fs_limits_int8_vnni(uint32_t rounds);    /* x86: AVX512_VNNI */
uint64_t fs_limits_int8_dotprod(uint32_t rounds); /* aarch64: FEAT_DotProd */

#endif
