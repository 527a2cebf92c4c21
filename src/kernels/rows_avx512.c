/* Row kernels for AVX-512 F and DQ, one register of sixteen. */
#define FS_LANES_AVX512
#define FS_ROWS_NAME fs_rows_avx512
#include "kernels/rows_lanes.h"
