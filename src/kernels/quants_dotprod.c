/* Quantised products on aarch64 with sdot. */
#define NAME(f) f##_dotprod
#define DOTPROD 1
#define PRODUCTS 1
#define PAIRS   0
#include "kernels/quants_neon_impl.h"
