/* Row kernels for NEON, four registers of four. */
#define FS_LANES_NEON
#define FS_ROWS_NAME fs_rows_neon
#include "kernels/rows_lanes.h"
