/* Attention of class RN1-bf16 on AVX-512 with BF16: a pair is a VDPBF16PS. */
#define FS_LANES_AVX512
#define FS_PAIRS_DOT
#define ROWS        6
#define COLUMNS     4
#define LATENT_KEYS 16
#define VALUE_ROWS  8
#include "kernels/attention_pairs.h"

const fs_attention_bf16 fs_attention_bf16_dot = ATTENTION_BF16_KERNELS;
