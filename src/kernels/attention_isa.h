/* Inside the family attention: the implementations that fs_attention_kernels_init chooses from. */
#ifndef FS_KERNELS_ATTENTION_ISA_H
#define FS_KERNELS_ATTENTION_ISA_H

#include "kernels/attention.h"

typedef void fs_attention_fn(const fs_attention_tile *t, void *scratch);
fs_attention_fn fs_gqa_ref, fs_gqa_avx2, fs_gqa_avx512, fs_gqa_neon;
fs_attention_fn fs_mla_ref, fs_mla_avx2, fs_mla_avx512, fs_mla_neon;

#endif
