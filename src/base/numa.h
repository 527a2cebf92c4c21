/* Where the memory of a machine with several nodes lies. By default a page is on the node of the thread that touches it
 * first, which for weights is the one that packs them, not the one that reads them; interleaved, pages go round over the
 * nodes and every thread reads from all. Not yet run on a machine of two nodes. */
#ifndef FS_BASE_NUMA_H
#define FS_BASE_NUMA_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define FS_NUMA_NODES_MAX 1024

/* The kernel's list, as "0-1,4" and a newline, as bits of ret_mask [FS_NUMA_NODES_MAX / 64]; how many there are. */
fs_status fs_numa_nodes_parse(const char *list, uint64_t *ret_mask, size_t *ret_n, fs_error *err);
/* Those that have memory: of folder/has_memory. folder: /sys/devices/system/node but in tests. */
fs_status fs_numa_nodes(const char *folder, uint64_t *ret_mask, size_t *ret_n, fs_error *err);

/* policy NULL, "first-touch": nothing. "interleave": pages that this process touches from now on, in threads that start from now
 * on too, go round over the nodes that have memory. */
fs_status fs_numa_set(const char *policy, fs_error *err);

#endif
