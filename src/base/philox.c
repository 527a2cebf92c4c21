/* See the header. */
#include "base/philox.h"

void fs_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t ret[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];

    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ k0, n2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    ret[0] = c0;
    ret[1] = c1;
    ret[2] = c2;
    ret[3] = c3;
}

void fs_random_init(fs_random *r, uint64_t seed, uint32_t stream, uint64_t item)
{
    *r = (fs_random){ .key = { (uint32_t)seed, (uint32_t)(seed >> 32) }, .counter = { stream, (uint32_t)item, 0, (uint32_t)(item >> 32) }, .n_left = 0 };
}

uint32_t fs_random_u32(fs_random *r)
{
    if (r->n_left == 0) {
        fs_philox(r->counter, r->key, r->words);
        r->counter[2]++;
        r->n_left = 4;
    }
    return r->words[4 - r->n_left--];
}

uint32_t fs_random_below(fs_random *r, uint32_t n)
{
    uint32_t reject = -n % n; /* 2^32 mod n: the values below it would make some results more frequent */
    uint64_t product;

    do
        product = (uint64_t)fs_random_u32(r) * n;
    while ((uint32_t)product < reject);
    return (uint32_t)(product >> 32);
}

double fs_random_unit(fs_random *r)
{
    uint64_t high = fs_random_u32(r), low = fs_random_u32(r);

    return (double)((high << 21) ^ (low >> 11)) * 0x1p-53;
}

/* Fisher and Yates. */
void fs_random_order(fs_random *r, uint32_t *ret, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ret[i] = (uint32_t)i;
    for (size_t i = n; i > 1; i--) {
        uint32_t k = fs_random_below(r, (uint32_t)i), last = ret[i - 1];
        ret[i - 1] = ret[k];
        ret[k] = last;
    }
}
