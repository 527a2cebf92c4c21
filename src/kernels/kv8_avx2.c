#define WIDTH 8
#include "kernels/kv8_lanes.h"

const fs_kv8_kernels fs_kv8_avx2 = { rows, panels, values };
