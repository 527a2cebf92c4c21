/* The conformance hash of RN1 (docs/RN1.md section 10): a fixed list of inputs, every kernel on each, all result
 * bits into one SHA-256. Two machines, compilers or instruction sets with the same hash compute the same arithmetic.
 *
 * Inputs come from an integer generator (splitmix64, seeded with the vector's number) and from written-out bit
 * patterns: ragged sizes around 16 and 256, denormals, signed zeros, infinities, rope angles to position 2^21. A
 * result enters as its little-endian bytes, every NaN as 0x7fc00000 (0x7ff8000000000000 in binary64); the name of
 * a group enters before its results. */
#ifndef FS_KERNELS_CONFORMANCE_H
#define FS_KERNELS_CONFORMANCE_H

#include "crypto/sha256.h"
#include "kernels/kernels.h"

/* Feeds the results of all kernels of k into h, which the caller has started and will finish. h may then take the
 * results of higher modules. On failure (memory) h has taken an unspecified part. */
fs_status fs_conformance_feed(const fs_kernels *k, fs_sha256 *h, fs_error *err);

/* The negative control: k's sum becomes one whose fold runs s = 1, 2, 4, 8, the same in exact arithmetic. A
 * conformance test whose hash does not change by that sees nothing. */
void fs_conformance_spoil(fs_kernels *k);

/* The hash of the kernels for isa: one bit of fs_isa_detect(), or 0 for the reference. FS_ERR_UNSUPPORTED when this
 * CPU lacks it. negative_control: spoiled as above. */
fs_status fs_conformance_hash(unsigned isa, bool negative_control, char ret_hex[65], fs_error *err);

/* Whether hex is the hash of a shorter list, as earlier versions had it, whose results are a part of this one's. */
bool fs_conformance_is_earlier(const char *hex);

#endif
