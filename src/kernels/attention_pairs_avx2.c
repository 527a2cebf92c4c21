/* Attention of class RN1-bf16 on AVX2 with FMA: a pair is two fmas. */
#define FS_LANES_AVX2
#define ROWS        3
#define COLUMNS     2
#define LATENT_KEYS 4
#define VALUE_ROWS  3
#include "kernels/attention_pairs.h"

const fs_attention_bf16 fs_attention_bf16_avx2 = ATTENTION_BF16_KERNELS;
