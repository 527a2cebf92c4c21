/* Attention of class RN1-bf16 on NEON: a pair is two fmas. */
#define FS_LANES_NEON
#define ROWS        3
#define COLUMNS     2
#define LATENT_KEYS 4
#define VALUE_ROWS  3
#include "kernels/attention_pairs.h"

const fs_attention_bf16 fs_attention_bf16_neon = ATTENTION_BF16_KERNELS;
