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

void fs_attention_kernels_init(fs_attention_kernels *k, unsigned isa)
{
    (void)isa;
    *k = fs_attention_ref;
#if defined(__x86_64__)
    if (isa & FS_ISA_AVX2)
        *k = fs_attention_avx2;
    if (isa & FS_ISA_AVX512)
        *k = fs_attention_avx512;
#elif defined(__aarch64__)
    if (isa & FS_ISA_NEON)
        *k = fs_attention_neon;
#endif
}
