/* Inside the family attention: the implementations that fs_attention_kernels_init chooses from. */
#ifndef FS_KERNELS_ATTENTION_ISA_H
#define FS_KERNELS_ATTENTION_ISA_H

#include "kernels/attention.h"

#include <stdbool.h>

/* Without the member bf16. */
extern const fs_attention_kernels fs_attention_ref, fs_attention_avx2, fs_attention_avx512, fs_attention_neon;
/* dot: AVX-512 with BF16. */
extern const fs_attention_bf16 fs_attention_bf16_ref, fs_attention_bf16_avx2, fs_attention_bf16_avx512, fs_attention_bf16_dot,
    fs_attention_bf16_neon;

/* What there is, best last, for tests of each: the ISA to choose it by, and whether this CPU has more that it needs (NULL: nothing). */
typedef struct fs_attention_bf16_isa {
    const char *name;
    unsigned isa;
    bool (*available)(void);
    const fs_attention_bf16 *kernels;
} fs_attention_bf16_isa;
extern const fs_attention_bf16_isa fs_attention_bf16_isas[];
extern const size_t fs_n_attention_bf16_isas;

#endif
