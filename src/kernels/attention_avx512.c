/* Attention on AVX-512. */
#define FS_LANES_AVX512
#define ROWS    6
#define COLUMNS 4
#include "kernels/attention_lanes.h"

void fs_gqa_avx512(const fs_attention_tile *t, void *scratch)
{
    attend(t, false, scratch);
}

void fs_mla_avx512(const fs_attention_tile *t, void *scratch)
{
    attend(t, true, scratch);
}
