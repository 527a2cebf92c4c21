/* See the header. Files: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of Linux. */
#include "base/cgroup.h"

#include "base/file.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* What one version calls things. */
typedef struct names {
    const char *folder, *limit, *used, *inactive, *active;
} names;

static const names v2 = { "", "memory.max", "memory.current", "inactive_file ", "active_file " };
static const names v1 = { "/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ", "total_active_file " };

/* "max" is none. */
static size_t read_number(const char *group, const char *file, const char *key, size_t otherwise)
{
    char path[PATH_MAX];
    uint64_t n;

    if (snprintf(path, sizeof path, "%s/%s", group, file) >= (int)sizeof path || !fs_file_number(path, key, &n))
        return otherwise;
    return n > SIZE_MAX ? SIZE_MAX : (size_t)n;
}

static size_t left_in(const names *v, const char *group)
{
    size_t limit = read_number(group, v->limit, "", SIZE_MAX), used = read_number(group, v->used, "", SIZE_MAX);
    size_t inactive = read_number(group, "memory.stat", v->inactive, 0), active = read_number(group, "memory.stat", v->active, 0);

    if (limit >= SIZE_MAX / 4 || used == SIZE_MAX) /* version 1 says a number near 2^63 */
        return SIZE_MAX;
    used -= inactive < used ? inactive : used;
    used -= active < used ? active : used;
    return limit > used ? limit - used : 0;
}

/* The least of the group and those above it. path is shortened. */
static size_t left_up(const names *v, const char *root, char *path)
{
    char group[PATH_MAX];
    size_t least = SIZE_MAX;

    for (;;) {
        char *slash = strrchr(path, '/');
        if (snprintf(group, sizeof group, "%s%s%s", root, v->folder, path) < (int)sizeof group) {
            size_t left = left_in(v, group);
            least = left < least ? left : least;
        }
        if (!*path)
            return least;
        *(slash ? slash : path) = 0;
    }
}

/* "4:memory:/a/b", "0::/a/b": the controllers stand between the colons. */
static const names *version_of(char *line, char **ret_path)
{
    char *first = strchr(line, ':'), *second = first ? strchr(first + 1, ':') : NULL, *save = NULL;

    if (!second)
        return NULL;
    *second = 0;
    *ret_path = second + 1;
    (*ret_path)[strcspn(*ret_path, "\n")] = 0;
    if (strcmp(line, "0:") == 0)
        return &v2;
    for (char *word = strtok_r(first + 1, ",", &save); word; word = strtok_r(NULL, ",", &save))
        if (strcmp(word, "memory") == 0)
            return &v1;
    return NULL;
}

size_t fs_cgroup_memory_left(const char *root, const char *self)
{
    char line[PATH_MAX + 64], none[1] = "", *path;
    size_t least = left_up(&v2, root, none), left = left_up(&v1, root, none);
    FILE *f = fopen(self, "re");

    least = left < least ? left : least;
    while (f && fgets(line, sizeof line, f)) {
        const names *v = version_of(line, &path);
        if (!v)
            continue;
        left = left_up(v, root, path);
        least = left < least ? left : least;
    }
    if (f)
        fclose(f);
    return least;
}
