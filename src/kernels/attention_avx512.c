/* Attention on AVX-512. */
#define FS_LANES_AVX512
#define ROWS          6
#define COLUMNS       4
#define LATENT_KEYS   16
#define VALUE_ROWS    8
#define VALUE_COLUMNS 3
#include "kernels/attention_lanes.h"

const fs_attention_kernels fs_attention_avx512 = ATTENTION_KERNELS;
