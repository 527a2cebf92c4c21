/* See blake3_lanes.h. */
#define W 4
#include "crypto/blake3_lanes.h"

void fs_blake3_many_neon(const blake3_job *j)
{
    many(j);
}
