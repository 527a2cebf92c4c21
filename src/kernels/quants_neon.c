/* Quantised products on any aarch64. */
#define NAME(f) f##_neon
#define DOTPROD 0
#define PRODUCTS 1
#define PAIRS   0
#include "kernels/quants_neon_impl.h"
