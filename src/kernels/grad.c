/* The choice of training kernels, and the transposition that their products need. */
#include "kernels/grad_isa.h"
#include "kernels/kernels.h"
#include "kernels/transpose.h"

#include <string.h>

void fs_transpose(const float *src, size_t lds, const uint32_t *index, size_t n_rows, size_t n, float *dst, size_t ldd)
{
    for (size_t r = 0; r < n_rows; r += 16) {
        const float *row[16];
        size_t rows = n_rows - r < 16 ? n_rows - r : 16, c = 0;

        for (size_t i = 0; i < rows; i++)
            row[i] = src + (index ? index[r + i] : r + i) * lds;
        for (; rows == 16 && c + 4 <= n; c += 4) {
            v4u32 a[16];
            UNROLL for (int i = 0; i < 16; i++)
                memcpy(&a[i], row[i] + c, sizeof a[i]);
            transpose_32(a);
            UNROLL for (int i = 0; i < 4; i++)
                memcpy(dst + (c + (size_t)i) * ldd + r, &a[4 * i], 16 * sizeof *dst);
        }
        for (; c < n; c++)
            for (size_t i = 0; i < rows; i++)
                dst[c * ldd + r + i] = row[i][c];
    }
}

void fs_grad_kernels_init(fs_grad_kernels *k, unsigned isa)
{
    *k = FS_BEST_OF(fs_grad, isa);
}
