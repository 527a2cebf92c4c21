/* Attention on NEON. */
#define FS_LANES_NEON
#define ROWS    3
#define COLUMNS 2
#include "kernels/attention_lanes.h"

void fs_gqa_neon(const fs_attention_tile *t, void *scratch)
{
    attend(t, false, scratch);
}

void fs_mla_neon(const fs_attention_tile *t, void *scratch)
{
    attend(t, true, scratch);
}
