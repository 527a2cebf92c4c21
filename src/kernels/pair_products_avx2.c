/* Products of RN1-bf16 on AVX2: a pair is two fmas. */
#define FS_LANES_AVX2
#define ROWS   4
#define PANELS 1
#define TILES  4
#include "kernels/pair_products_lanes.h"

const fs_pair_kernels fs_pair_avx2 = PAIR_KERNELS;
