/* What a pickle imports, found without running it: its opcodes are followed with strings as the only values that matter, since whatever a pickle can
 * do it does by something that it imports.
 * Source: CPython, Lib/pickletools.py, protocols 0 to 5. */
#ifndef FS_HUB_PICKLE_H
#define FS_HUB_PICKLE_H

#include "base/mem.h"

typedef enum fs_pickle_level { FS_PICKLE_INNOCUOUS, FS_PICKLE_SUSPICIOUS, FS_PICKLE_DANGEROUS } fs_pickle_level;

typedef struct fs_pickle_import {
    char module[128], name[128]; /* clean text; "?" where the pickle computes it */
    fs_pickle_level level;
} fs_pickle_import;

typedef struct fs_pickle {
    fs_pickle_import *imports; /* each once, in the order they come */
    size_t n_imports, capacity;
    size_t n_whole; /* pickles that came to their end */
    size_t n_read;  /* bytes of data that were looked at, the longest time */
    bool cut;       /* more imports or a deeper stack than are followed: what is listed is not all */
} fs_pickle;

#define FS_PICKLE_IMPORTS_MAX 4096

/* Adds the imports of every pickle at the beginning of data, one behind the other as torch.save of old wrote them. What breaks off ends it, as it
 * would end whoever loads it. Fails for want of memory only. ret is zeroed, or of an earlier call. */
fs_status fs_pickle_read(fs_bytes data, fs_pickle *ret, fs_error *err);
void fs_pickle_done(fs_pickle *p);
/* The worst of the imports; a pickle that is cut is suspicious at least. */
fs_pickle_level fs_pickle_worst(const fs_pickle *p);
/* What importing this lets a pickle do: tensors and plain values, anything, or nobody knows. */
fs_pickle_level fs_pickle_judge(const char *module, const char *name);

#endif
