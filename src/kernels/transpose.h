/* Sixteen vectors of 16 bytes, transposed in place, for elements of 1, 2 or 4 bytes.
 *
 * Read as one array, the vectors hold element c of row r at index r * C + c, C = 16 / element bytes. Interleaving the
 * two halves of the array rotates the bits of the index by one; after four times element c of row r is at
 * c * 16 + r, whatever the size of an element. The vectors are the compiler's, so every target has them. */
#ifndef FS_KERNELS_TRANSPOSE_H
#define FS_KERNELS_TRANSPOSE_H

#include <stdint.h>

typedef uint8_t v16u8 __attribute__((vector_size(16)));
typedef uint16_t v8u16 __attribute__((vector_size(16)));
typedef uint32_t v4u32 __attribute__((vector_size(16)));

#if defined(__SANITIZE_ADDRESS__) /* an instrumented body is too much to repeat */
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
#define INLINE static inline __attribute__((always_inline))

#define LOW_8   0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_8  8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define LOW_16  0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_16 4, 12, 5, 13, 6, 14, 7, 15
#define LOW_32  0, 4, 1, 5
#define HIGH_32 2, 6, 3, 7

#define DEFINE_TRANSPOSE(bits, vector)                                                   \
    INLINE void interleave_##bits(const vector a[16], vector b[16])                      \
    {                                                                                    \
        UNROLL for (int i = 0; i < 8; i++)                                               \
        {                                                                                \
            b[2 * i] = __builtin_shufflevector(a[i], a[i + 8], LOW_##bits);              \
            b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + 8], HIGH_##bits);         \
        }                                                                                \
    }                                                                                    \
    INLINE void transpose_##bits(vector a[16])                                           \
    {                                                                                    \
        vector b[16];                                                                    \
        interleave_##bits(a, b);                                                         \
        interleave_##bits(b, a);                                                         \
        interleave_##bits(a, b);                                                         \
        interleave_##bits(b, a);                                                         \
    }
DEFINE_TRANSPOSE(8, v16u8)
DEFINE_TRANSPOSE(16, v8u16)
DEFINE_TRANSPOSE(32, v4u32)
#undef DEFINE_TRANSPOSE

#endif
