/* Attention on NEON. */
#define FS_LANES_NEON
#define ROWS          3
#define COLUMNS       2
#define LATENT_KEYS   6
#define VALUE_ROWS    6
#define VALUE_COLUMNS 1
#include "kernels/attention_lanes.h"

const fs_attention_kernels fs_attention_neon = ATTENTION_KERNELS;
