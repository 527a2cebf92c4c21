/* DATA/cache: files of blobs that another store has, as many as there is room for. A file here is whole and was checked, or ("head-") has its beginning and
 * holes. What is removed stays with who has it open. */
#include "hub/blobs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void path_of(const fs_hub *h, fs_blob_kind kind, const char *name, bool head, char ret[600])
{
    snprintf(ret, 600, "%s/cache/%s%s-%s", h->data, head ? "head-" : "", kind == FS_BLOB_OBJECT ? "object" : "xorb", name);
}

fs_status fs_blob_cache_open(const fs_hub *h, fs_blob_kind kind, const char *name, bool head, int *ret_fd, uint64_t *ret_bytes)
{
    char path[600];
    fs_status rc;

    path_of(h, kind, name, head, path);
    rc = fs_hub_open_stored(path, ret_fd, ret_bytes, NULL);
    if (!rc)
        utimensat(AT_FDCWD, path, NULL, 0); /* used now */
    return rc;
}

typedef struct kept {
    char name[160];
    int64_t used_ns;
    uint64_t n_bytes;
} kept;

static int by_use(const void *a, const void *b)
{
    const kept *x = a, *y = b;

    return (x->used_ns > y->used_ns) - (x->used_ns < y->used_ns);
}

/* Down to the limit; newest stays. */
static void trim(const fs_hub *h, const char *newest)
{
    char folder[400];
    kept *list = NULL;
    size_t n = 0, room = 0;
    uint64_t total = 0;
    struct dirent *e;
    struct stat st;
    DIR *dir;

    snprintf(folder, sizeof folder, "%s/cache", h->data);
    dir = opendir(folder);
    while (dir && (e = readdir(dir)) != NULL) {
        if (e->d_name[0] == '.' || strlen(e->d_name) >= sizeof list->name || fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (n == room) {
            kept *more = realloc(list, (room = room ? 2 * room : 64) * sizeof *list);
            if (!more)
                break;
            list = more;
        }
        snprintf(list[n].name, sizeof list[n].name, "%.159s", e->d_name);
        list[n].used_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
        list[n].n_bytes = (uint64_t)st.st_blocks * 512;
        total += list[n++].n_bytes;
    }
    if (n)
        qsort(list, n, sizeof *list, by_use);
    for (size_t i = 0; i < n && total > h->blob_cache_bytes; i++)
        if (strcmp(list[i].name, newest) != 0 && unlinkat(dirfd(dir), list[i].name, 0) == 0)
            total -= list[i].n_bytes;
    free(list);
    if (dir)
        closedir(dir);
}

void fs_blob_cache_keep(const fs_hub *h, fs_blob_kind kind, const char *name, bool head, const char *from, int fd)
{
    char path[600], proc[64];

    path_of(h, kind, name, head, path);
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, from ? from : proc, AT_FDCWD, path, from ? 0 : AT_SYMLINK_FOLLOW) != 0 && errno != EEXIST)
        return; /* it is brought again when it is wanted */
    utimensat(AT_FDCWD, path, NULL, 0);
    trim(h, strrchr(path, '/') + 1);
}

void fs_blob_cache_drop(const fs_hub *h, fs_blob_kind kind, const char *name)
{
    char path[600];

    for (int head = 0; head < 2; head++) {
        path_of(h, kind, name, head, path);
        unlink(path);
    }
}
