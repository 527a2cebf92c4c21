/* See blake3_lanes.h. */
#define W 8
#include "crypto/blake3_lanes.h"

void fs_blake3_many_avx2(const blake3_job *j)
{
    many(j);
}
