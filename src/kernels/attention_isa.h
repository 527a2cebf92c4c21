/* Inside the family attention: the implementations that fs_attention_kernels_init chooses from. */
#ifndef FS_KERNELS_ATTENTION_ISA_H
#define FS_KERNELS_ATTENTION_ISA_H

#include "kernels/attention.h"

extern const fs_attention_kernels fs_attention_ref, fs_attention_avx2, fs_attention_avx512, fs_attention_neon;

#endif
