/* Attention on AVX2 with FMA. */
#define FS_LANES_AVX2
#define ROWS    3
#define COLUMNS 2
#include "kernels/attention_lanes.h"

void fs_gqa_avx2(const fs_attention_tile *t, void *scratch)
{
    attend(t, false, scratch);
}

void fs_mla_avx2(const fs_attention_tile *t, void *scratch)
{
    attend(t, true, scratch);
}
