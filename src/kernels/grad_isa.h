/* The training kernels of each instruction set, for grad.c and for no one else. Contracts: grad.h. */
#ifndef FS_KERNELS_GRAD_ISA_H
#define FS_KERNELS_GRAD_ISA_H

#include "kernels/grad.h"

extern const fs_grad_kernels fs_grad_ref, fs_grad_avx2, fs_grad_avx512, fs_grad_neon;

#endif
