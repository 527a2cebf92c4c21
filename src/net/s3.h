/* A client of a bucket in an S3 store, over fetch.h: objects by key, ranges, uploads in parts, listing, links that carry their own right. Any number of
 * threads use one; each request takes a connection that rests, or a new one.
 *
 * Addressed by path (ENDPOINT/BUCKET/KEY), which AWS and everything like it understands. Each body that is sent is signed by its SHA-256, so that the store
 * refuses what was changed on its way. A request that gets no answer, 408, 429 or 5xx is tried again, five times in all, after 0.2, 0.4, 0.8, 1.6 s; a body
 * that breaks off goes on where it stopped.
 *
 * https://docs.aws.amazon.com/AmazonS3/latest/API/Welcome.html */
#ifndef FS_NET_S3_H
#define FS_NET_S3_H

#include "net/fetch.h"
#include "net/s3_xml.h"

typedef struct fs_s3 fs_s3;

typedef struct fs_s3_options {
    const char *endpoint; /* "https://s3.eu-central-1.amazonaws.com", without a '/' at its end */
    const char *region, *bucket;
    const char *prefix; /* of every key, "" or with a '/' at its end: letters, digits, "-._/" */
    const char *access_key, *secret_key;
    const char *session_token; /* NULL: none */
} fs_s3_options;

/* Strings are copied. Nothing is asked yet. */
fs_status fs_s3_new(const fs_s3_options *o, fs_s3 **ret, fs_error *err);
void fs_s3_free(fs_s3 *s); /* no thread uses it */

/* Keys are relative to the prefix, of letters, digits, "-._/". FS_ERR_NOT_FOUND: there is no such object; FS_ERR_IO: the store did not do it. */

fs_status fs_s3_size(fs_s3 *s, const char *key, uint64_t *ret, fs_error *err);
/* n_bytes from begin to sink, all of them; n_bytes UINT64_MAX: what there is. A sink's failure ends it. */
fs_status fs_s3_get(fs_s3 *s, const char *key, uint64_t begin, uint64_t n_bytes, fs_fetch_sink *sink, void *ud, fs_error *err);
/* The first n_bytes of an open file; sha256: of them, in hex. At most 5 GiB. */
fs_status fs_s3_put(fs_s3 *s, const char *key, int fd, uint64_t n_bytes, const char *sha256, fs_error *err);
fs_status fs_s3_put_text(fs_s3 *s, const char *key, const char *text, fs_error *err);
/* One that is not there is no failure. */
fs_status fs_s3_remove(fs_s3 *s, const char *key, fs_error *err);

/* Uploads in parts: seen when completed. etags: the parts', in order, as fs_s3_part gave them. */
#define FS_S3_PART_BYTES_MIN ((uint64_t)8 << 20)
#define FS_S3_PARTS_MAX      10000
#define FS_S3_ETAG_BYTES     80
fs_status fs_s3_begin(fs_s3 *s, const char *key, char ret_upload[FS_S3_UPLOAD_BYTES], fs_error *err);
fs_status fs_s3_part(fs_s3 *s, const char *key, const char *upload, int n, int fd, uint64_t offset, uint64_t n_bytes, char ret_etag[FS_S3_ETAG_BYTES], fs_error *err);
fs_status fs_s3_complete(fs_s3 *s, const char *key, const char *upload, const char (*etags)[FS_S3_ETAG_BYTES], int n, uint64_t n_bytes, fs_error *err);
fs_status fs_s3_abort(fs_s3 *s, const char *key, const char *upload, fs_error *err);

/* Calls fn with each object under a key's beginning (net/s3_xml.h); stops at its first failure. */
fs_status fs_s3_list(fs_s3 *s, const char *begin, fs_s3_list_fn *fn, void *ud, fs_error *err);
/* Aborts uploads in parts that began before. */
fs_status fs_s3_abort_old(fs_s3 *s, const char *begin, int64_t before_ms, uint64_t *ret_n, fs_error *err);

/* A link to GET an object without a key, for so many seconds; whoever follows it gets it as plain bytes. */
fs_status fs_s3_link(const fs_s3 *s, const char *key, int seconds, fs_buf *ret, fs_error *err);

#endif
