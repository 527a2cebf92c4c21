/* Row kernels for AVX2 with FMA, two registers of eight. */
#define FS_LANES_AVX2
#define FS_ROWS_NAME fs_rows_avx2
#include "kernels/rows_lanes.h"
