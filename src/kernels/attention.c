/* The size of scratch and the choice of an implementation. */
#include "kernels/attention_isa.h"
#include "kernels/kernels.h"

#include <assert.h>

/* Scores of a block for all rows, the rows in panels, and one block's output for all rows. */
size_t fs_attention_scratch_bytes(size_t key_dim, size_t value_dim)
{
    assert(key_dim <= FS_ATTENTION_DIM_MAX && value_dim <= FS_ATTENTION_DIM_MAX);
    return (FS_KV_BLOCK + key_dim + value_dim + 16) * FS_ATTENTION_QUERIES_MAX * sizeof(float);
}

const fs_attention_bf16_isa fs_attention_bf16_isas[] = {
    { "scalar", 0, NULL, &fs_attention_bf16_ref },
#if defined(__x86_64__)
    { "avx2", FS_ISA_AVX2, NULL, &fs_attention_bf16_avx2 },
    { "avx512", FS_ISA_AVX512, NULL, &fs_attention_bf16_avx512 },
    { "avx512bf16", FS_ISA_AVX512, fs_isa_has_bf16, &fs_attention_bf16_dot },
#elif defined(__aarch64__)
    { "neon", FS_ISA_NEON, NULL, &fs_attention_bf16_neon },
#endif
};
const size_t fs_n_attention_bf16_isas = sizeof fs_attention_bf16_isas / sizeof *fs_attention_bf16_isas;

void fs_attention_kernels_init(fs_attention_kernels *k, unsigned isa)
{
    *k = FS_BEST_OF(fs_attention, isa);
    for (size_t i = 0; i < fs_n_attention_bf16_isas; i++) {
        const fs_attention_bf16_isa *b = &fs_attention_bf16_isas[i];
        if ((!b->isa || b->isa & isa) && (!b->available || b->available()))
            k->bf16 = *b->kernels;
    }
}
