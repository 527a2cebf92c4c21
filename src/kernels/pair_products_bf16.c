/* Products of RN1-bf16 on AVX-512 with BF16: a pair is a VDPBF16PS. */
#define FS_LANES_AVX512
#define FS_PAIRS_DOT
#define ROWS   12
#define PANELS 2
#define TILES  24
#include "kernels/pair_products_lanes.h"

const fs_pair_kernels fs_pair_dot = PAIR_KERNELS;
