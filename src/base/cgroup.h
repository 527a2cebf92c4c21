/* What the control groups that this process is in let it still take. */
#ifndef FS_BASE_CGROUP_H
#define FS_BASE_CGROUP_H

#include <stddef.h>

/* Bytes of memory until the first limit of the process' group or of one above it, pages of files that can be dropped not counted as taken.
 * Versions 2 and 1, also where both are mounted; SIZE_MAX: no limit, or none that can be read.
 *   root  where the groups are mounted: /sys/fs/cgroup, version 1's under memory/
 *   self  which groups the process is in: /proc/self/cgroup; in a container the paths may be those outside of it, and the mount alone counts */
size_t fs_cgroup_memory_left(const char *root, const char *self);

#endif
