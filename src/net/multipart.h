/* multipart/form-data as it arrives, in any pieces: fields and files of a browser's form. Of a part's content nothing is kept.
 * RFC 7578, RFC 2046 section 5.1; names as https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data writes them. */
#ifndef FS_NET_MULTIPART_H
#define FS_NET_MULTIPART_H

#include "base/mem.h"

#define FS_MULTIPART_BOUNDARY_MAX 70
#define FS_MULTIPART_HEAD_BYTES_MAX ((size_t)8 << 10) /* of a part's header lines */

/* A failure of any of them ends the reading. */
typedef struct fs_multipart_sink {
    fs_status (*begin)(void *ud, const char *name, const char *filename, fs_error *err); /* filename NULL: a field */
    fs_status (*data)(void *ud, const void *data, size_t n_bytes, fs_error *err);
    fs_status (*end)(void *ud, fs_error *err);
    void *ud;
} fs_multipart_sink;

typedef struct fs_multipart {
    fs_multipart_sink sink;
    char delimiter[4 + FS_MULTIPART_BOUNDARY_MAX + 1]; /* "\r\n--" and the boundary */
    size_t n_delimiter, n_matched;                     /* how much of it the last bytes were */
    int state;
    bool dash;   /* the first of the two behind the last boundary */
    bool in_part;
    fs_buf head; /* header lines */
} fs_multipart;

/* The boundary that a Content-Type names; false: it is none of multipart/form-data. */
bool fs_multipart_boundary(const char *content_type, char ret[FS_MULTIPART_BOUNDARY_MAX + 1]);
/* boundary is one of the above. */
void fs_multipart_init(fs_multipart *m, const char *boundary, const fs_multipart_sink *sink);
fs_status fs_multipart_feed(fs_multipart *m, const void *data, size_t n_bytes, fs_error *err);
fs_status fs_multipart_end(fs_multipart *m, fs_error *err); /* FS_ERR_FORMAT: it was cut short */
void fs_multipart_done(fs_multipart *m);

#endif
