/* A full disk, for tests of what writes files: files may have at most so many bytes, and the next write fails. */
#ifndef FS_TESTS_SMALL_DISK_H
#define FS_TESTS_SMALL_DISK_H

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

static inline void limit_files(rlim_t n_bytes)
{
    struct rlimit l;

    signal(SIGXFSZ, SIG_IGN);
    if (getrlimit(RLIMIT_FSIZE, &l) != 0)
        abort();
    l.rlim_cur = n_bytes;
    if (setrlimit(RLIMIT_FSIZE, &l) != 0)
        abort();
}

/* Files in a folder, hidden ones too. */
static inline int count_files(const char *folder)
{
    DIR *d = opendir(folder);
    int n = 0;

    if (!d)
        abort();
    for (struct dirent *e; (e = readdir(d));)
        n += !(e->d_name[0] == '.' && (!e->d_name[1] || (e->d_name[1] == '.' && !e->d_name[2])));
    closedir(d);
    return n;
}

#endif
