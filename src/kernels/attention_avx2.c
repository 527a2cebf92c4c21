/* Attention on AVX2 with FMA. */
#define FS_LANES_AVX2
#define ROWS          3
#define COLUMNS       2
#define LATENT_KEYS   6
#define VALUE_ROWS    6
#define VALUE_COLUMNS 1
#include "kernels/attention_lanes.h"

const fs_attention_kernels fs_attention_avx2 = ATTENTION_KERNELS;
