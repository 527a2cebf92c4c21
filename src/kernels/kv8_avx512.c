#define WIDTH 16
#include "kernels/kv8_lanes.h"

const fs_kv8_kernels fs_kv8_avx512 = { rows, panels, values };
