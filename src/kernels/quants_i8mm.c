/* Quantised products on aarch64 with smmla, and sdot for single rows. */
#define NAME(f) f##_i8mm
#define DOTPROD 1
#define PRODUCTS 1
#define PAIRS   1
#include "kernels/quants_neon_impl.h"
