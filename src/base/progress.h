/* How long work tells how far it is, and is told to stop. */
#ifndef FS_BASE_PROGRESS_H
#define FS_BASE_PROGRESS_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* done of total units; false stops the work, which then fails with FS_ERR_INTERRUPTED. Called on the caller's thread. */
typedef bool fs_progress_fn(void *ud, uint64_t done, uint64_t total);

typedef struct fs_progress {
    fs_progress_fn *fn; /* NULL: nobody wants to know */
    void *ud;
} fs_progress;

static inline fs_status fs_progress_tell(const fs_progress *p, uint64_t done, uint64_t total, fs_error *err)
{
    if (!p || !p->fn || p->fn(p->ud, done, total))
        return FS_OK;
    return fs_fail(err, FS_ERR_INTERRUPTED, "interrupted");
}

#endif
