/* Training kernels for AVX2 with FMA, two registers of eight. */
#define FS_LANES_AVX2
#define FS_GRAD_NAME fs_grad_avx2
#include "kernels/grad_lanes.h"
