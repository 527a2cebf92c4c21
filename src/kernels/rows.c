/* The choice of row kernels. */
#include "kernels/kernels.h"
#include "kernels/rows_isa.h"

void fs_rows_kernels_init(fs_rows_kernels *k, unsigned isa)
{
    *k = fs_rows_ref;
#if defined(__x86_64__)
    if (isa & FS_ISA_AVX2)
        *k = fs_rows_avx2;
    if (isa & FS_ISA_AVX512)
        *k = fs_rows_avx512;
#elif defined(__aarch64__)
    if (isa & FS_ISA_NEON)
        *k = fs_rows_neon;
#else
    (void)isa;
#endif
}
