/* Training kernels for AVX-512 F and DQ, one register of sixteen. */
#define FS_LANES_AVX512
#define FS_GRAD_NAME fs_grad_avx512
#include "kernels/grad_lanes.h"
