/* Training kernels for NEON, four registers of four. */
#define FS_LANES_NEON
#define FS_GRAD_NAME fs_grad_neon
#include "kernels/grad_lanes.h"
