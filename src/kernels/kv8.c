/* Quantising a row, once for every machine, and the choice of an implementation. */
#include "kernels/kernels.h"
#include "kernels/kv8_isa.h"

#include <assert.h>

/* n <= 32 elements. */
static float quantise(const float *x, size_t n, int8_t *codes)
{
    const float round = 0x1.8p+23f; /* adding and subtracting it rounds half to even */
    uint32_t top = 0;
    float d;

    for (size_t i = 0; i < n; i++) {
        uint32_t b;
        memcpy(&b, &x[i], sizeof b);
        b &= 0x7fffffff;
        top = b > top ? b : top;
    }
    d = fs_float_of_bits(top) / 127.0f;
    if (d < 0x1p-126f)
        d = 0.0f;
    for (size_t i = 0; i < n; i++)
        codes[i] = d > 0.0f && d < INFINITY ? (int8_t)((x[i] / d + round) - round) : 0;
    return d;
}

void fs_kv8_put_row(uint8_t *row, const float *x, size_t n)
{
    int8_t *codes = (int8_t *)row + fs_kv8_blocks(n) * sizeof(float);

    for (size_t i = 0; i < n; i += FS_KV8_BLOCK) {
        float d = quantise(x + i, n - i < FS_KV8_BLOCK ? n - i : FS_KV8_BLOCK, codes + i);
        memcpy(row + i / FS_KV8_BLOCK * sizeof d, &d, sizeof d);
    }
}

void fs_kv8_put_key(uint8_t *panel, size_t r, const float *x, size_t n)
{
    uint8_t *codes = panel + fs_kv8_blocks(n) * FS_KV8_PANEL * sizeof(float);

    assert(n % 2 == 0 && r < FS_KV8_PANEL);
    for (size_t i = 0; i < n; i += FS_KV8_BLOCK) {
        int8_t block[FS_KV8_BLOCK];
        size_t m = n - i < FS_KV8_BLOCK ? n - i : FS_KV8_BLOCK;
        float d = quantise(x + i, m, block);
        memcpy(panel + (i / FS_KV8_BLOCK * FS_KV8_PANEL + r) * sizeof d, &d, sizeof d);
        for (size_t j = 0; j < m; j += 2)
            memcpy(codes + ((i + j) / 2 * FS_KV8_PANEL + r) * 2, block + j, 2);
    }
}

fs_kv8_kernels fs_kv8_kernels_of(unsigned isa)
{
    return FS_BEST_OF(fs_kv8, isa);
}
