/* The row kernels of each instruction set, for rows.c and for no one else. Contracts: rows.h. */
#ifndef FS_KERNELS_ROWS_ISA_H
#define FS_KERNELS_ROWS_ISA_H

#include "kernels/rows.h"

extern const fs_rows_kernels fs_rows_ref;
extern const fs_rows_kernels fs_rows_avx2;
extern const fs_rows_kernels fs_rows_avx512;
extern const fs_rows_kernels fs_rows_neon;

#endif
