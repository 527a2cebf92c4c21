/* Products of RN1-bf16 on NEON: a pair is two fmas, for BFDOT rounds otherwise. */
#define FS_LANES_NEON
#define ROWS   4
#define PANELS 1
#define TILES  4
#include "kernels/pair_products_lanes.h"

const fs_pair_kernels fs_pair_neon = PAIR_KERNELS;
