/* Inside the family of pair products: the implementations that fs_pair_kernels_init chooses from. */
#ifndef FS_KERNELS_PAIR_PRODUCTS_ISA_H
#define FS_KERNELS_PAIR_PRODUCTS_ISA_H

#include "kernels/pair_products.h"

/* dot: AVX-512 with BF16. */
extern const fs_pair_kernels fs_pair_ref, fs_pair_avx2, fs_pair_avx512, fs_pair_dot, fs_pair_neon;

/* What there is, best last, for tests of each: the ISA to choose it by, and whether this CPU has more that it needs (NULL: nothing). */
typedef struct fs_pair_isa {
    const char *name;
    unsigned isa;
    bool (*available)(void);
    const fs_pair_kernels *kernels;
} fs_pair_isa;
extern const fs_pair_isa fs_pair_isas[];
extern const size_t fs_n_pair_isas;

#endif
