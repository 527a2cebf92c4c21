/* Lists of nodes as sysfs writes them (Documentation/ABI/stable/sysfs-devices-node), and set_mempolicy(2). */
#include "base/numa.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define POLICY_INTERLEAVE 3 /* MPOL_INTERLEAVE of linux/mempolicy.h */

/* Digits at *s, which then is behind them; -1: none, or too large. */
static long number(const char **s)
{
    long n = 0;

    if (**s < '0' || **s > '9')
        return -1;
    for (; **s >= '0' && **s <= '9'; (*s)++)
        n = n < FS_NUMA_NODES_MAX ? n * 10 + (**s - '0') : FS_NUMA_NODES_MAX;
    return n < FS_NUMA_NODES_MAX ? n : -1;
}

fs_status fs_numa_nodes_parse(const char *list, uint64_t *ret_mask, size_t *ret_n, fs_error *err)
{
    uint64_t mask[FS_NUMA_NODES_MAX / 64] = { 0 };
    const char *s = list;
    size_t n = 0;

    do {
        long first = number(&s), last = first;
        if (first >= 0 && *s == '-') {
            s++;
            last = number(&s);
        }
        if (first < 0 || last < first)
            return fs_fail(err, FS_ERR_FORMAT, "'%.*s' is no list of memory nodes", (int)strcspn(list, "\n"), list);
        for (long i = first; i <= last; i++) {
            n += !(mask[i / 64] >> (i % 64) & 1);
            mask[i / 64] |= (uint64_t)1 << (i % 64);
        }
    } while (*s++ == ',');
    if (s[-1] != '\0' && strcmp(s - 1, "\n") != 0)
        return fs_fail(err, FS_ERR_FORMAT, "'%.*s' is no list of memory nodes", (int)strcspn(list, "\n"), list);
    memcpy(ret_mask, mask, sizeof mask);
    *ret_n = n;
    return FS_OK;
}

fs_status fs_numa_nodes(const char *folder, uint64_t *ret_mask, size_t *ret_n, fs_error *err)
{
    char path[512], line[512] = "";
    FILE *f;

    snprintf(path, sizeof path, "%s/has_memory", folder);
    f = fopen(path, "r");
    if (!f)
        return fs_fail_errno(err, errno, "cannot read '%s'", path);
    if (!fgets(line, sizeof line, f))
        line[0] = '\0';
    fclose(f);
    return fs_numa_nodes_parse(line, ret_mask, ret_n, err);
}

fs_status fs_numa_set(const char *policy, fs_error *err)
{
    uint64_t mask[FS_NUMA_NODES_MAX / 64];
    size_t n;
    fs_status rc;

    if (!policy || strcmp(policy, "first-touch") == 0)
        return FS_OK;
    if (strcmp(policy, "interleave") != 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "placement '%s' is none of first-touch, interleave", policy);
    rc = fs_numa_nodes("/sys/devices/system/node", mask, &n, err);
    if (!rc && syscall(SYS_set_mempolicy, POLICY_INTERLEAVE, mask, (unsigned long)FS_NUMA_NODES_MAX + 1))
        rc = fs_fail_errno(err, errno, "cannot interleave memory over %zu nodes", n);
    return rc;
}
