/* Random numbers as a function of what they are for: RN1 section 7. No state is carried from one use to the next, so the
 * order in which things are done changes nothing.
 *
 * Source: Philox4x32-10, Salmon et al., SC'11. */
#ifndef FS_BASE_PHILOX_H
#define FS_BASE_PHILOX_H

#include <stddef.h>
#include <stdint.h>

void fs_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t ret[4]);

/* The numbers of one item of a stream: counter = (stream, low word of item, 0, 1, 2, ..., high word of item), key = seed. */
typedef struct fs_random {
    uint32_t key[2], counter[4], words[4];
    int n_left;
} fs_random;

void fs_random_init(fs_random *r, uint64_t seed, uint32_t stream, uint64_t item);
uint32_t fs_random_u32(fs_random *r);
/* In [0, n), each alike; n >= 1. */
uint32_t fs_random_below(fs_random *r, uint32_t n);
/* In [0, 1), a multiple of 2^-53. */
double fs_random_unit(fs_random *r);
/* ret [n]: 0 to n - 1 in an order of which each is alike; n < 2^32. */
void fs_random_order(fs_random *r, uint32_t *ret, size_t n);

#endif
