/* See blake3_lanes.h. */
#define W 16
#include "crypto/blake3_lanes.h"

void fs_blake3_many_avx512(const blake3_job *j)
{
    many(j);
}
