/* The choice of row kernels. */
#include "kernels/kernels.h"
#include "kernels/rows_isa.h"

void fs_rows_kernels_init(fs_rows_kernels *k, unsigned isa)
{
    *k = FS_BEST_OF(fs_rows, isa);
}
