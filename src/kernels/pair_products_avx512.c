/* Products of RN1-bf16 on AVX-512 without BF16: a pair is two fmas. */
#define FS_LANES_AVX512
#define ROWS   12
#define PANELS 2
#define TILES  24
#include "kernels/pair_products_lanes.h"

const fs_pair_kernels fs_pair_avx512 = PAIR_KERNELS;
