/* What S3 stores answer in XML, read as far as it is needed. A store is a stranger: an answer that is not what was asked for is refused, keys that are none of
 * ours are passed over, and the time is linear in the answer's bytes. Nothing is asked of anybody here. */
#ifndef FS_NET_S3_XML_H
#define FS_NET_S3_XML_H

#include "base/mem.h"

#define FS_S3_KEY_BYTES    1100 /* S3's keys have at most 1024 */
#define FS_S3_UPLOAD_BYTES 1024
#define FS_S3_TOKEN_BYTES  1100

/* What stands in the next <name> of *rest, and *rest behind </name>; false: there is none. */
bool fs_s3_xml_next(fs_bytes *rest, const char *name, fs_bytes *ret);
/* The text of the first <name> within, its entities read; false: there is none, it holds an element or a NUL, or it has no room. */
bool fs_s3_xml_text(fs_bytes within, const char *name, char *ret, size_t capacity);
/* Digits alone, up to 2^63 - 1. */
bool fs_s3_number(const char *text, uint64_t *ret);
/* Of letters, digits and others, and no name within is empty, "." or "..". */
bool fs_s3_key_is_plain(const char *key);

/* Calls fn with each object of a list whose key begins with prefix and is plain; key: behind it; ms: when it was written, since 1970. Stops at fn's first failure.
 * ret_more: what the next list is asked with, "" at the end. */
typedef fs_status fs_s3_list_fn(void *ud, const char *key, uint64_t n_bytes, int64_t ms, fs_error *err);
fs_status fs_s3_list_read(fs_bytes answer, const char *prefix, fs_s3_list_fn *fn, void *ud, char ret_more[FS_S3_TOKEN_BYTES], fs_error *err);
/* Likewise uploads in parts; ms: when it began. */
typedef fs_status fs_s3_uploads_fn(void *ud, const char *key, const char *upload, int64_t ms, fs_error *err);
fs_status fs_s3_uploads_read(fs_bytes answer, const char *prefix, fs_s3_uploads_fn *fn, void *ud, fs_error *err);
/* The name of an upload that began. */
fs_status fs_s3_upload_read(fs_bytes answer, char ret_upload[FS_S3_UPLOAD_BYTES], fs_error *err);
/* Of an upload that was completed. */
fs_status fs_s3_completed_read(fs_bytes answer, fs_error *err);
/* Whether it says that something failed, as it may with status 200; code and message: what it says, "" where it does not. */
bool fs_s3_error_read(fs_bytes answer, char ret_code[100], char ret_message[300]);

#endif
