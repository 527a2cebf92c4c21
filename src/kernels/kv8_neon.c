#define WIDTH 4
#include "kernels/kv8_lanes.h"

const fs_kv8_kernels fs_kv8_neon = { rows, panels, values };
