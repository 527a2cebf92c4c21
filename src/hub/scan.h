/* What a file does to whoever loads it: pickles, also within zips and arrays, layers of Keras that hold code, Python that clients run when they are
 * told to trust it, headers that are none. By the content; the name says only what a client would take it for. It is no search for viruses. */
#ifndef FS_HUB_SCAN_H
#define FS_HUB_SCAN_H

#include "hub/pickle.h"

typedef enum fs_scan_level {
    FS_SCAN_SAFE,
    FS_SCAN_CAUTION,    /* code that is asked for before it runs, or a file that is not what it is called */
    FS_SCAN_SUSPICIOUS, /* imports that nobody judged */
    FS_SCAN_UNSAFE      /* loading it can do anything */
} fs_scan_level;

typedef struct fs_scan {
    fs_scan_level level;
    bool is_pickle; /* holds one */
    fs_pickle pickle;
    uint64_t n_read;   /* the first bytes of a pickle or GGUF that made the result; besides, a zip is looked for at the end of what may be one */
    char message[300]; /* of what is not safe; "" */
} fs_scan;

#define FS_SCAN_VERSION 1 /* counts up when files are judged anew */

/* How a file of that path is looked at: "pickle", "array", "python", "config", "safetensors", "gguf", "keras", "graph", or "any" by its first bytes. */
const char *fs_scan_kind(const char *path);
fs_status fs_scan_file(fs_bytes file, const char *kind, fs_scan *ret, fs_error *err);
/* Whether a file of kind "any" that begins with these 8 bytes (or is no longer) is looked at at all. */
bool fs_scan_is_more(fs_bytes first);
void fs_scan_done(fs_scan *s);
const char *fs_scan_level_name(fs_scan_level level); /* "safe", "caution", "suspicious", "unsafe" */

#endif
