/* Signatures of requests to AWS and to what speaks like it, Signature Version 4: in the Authorization header, or in the query of a link that carries its
 * own right. https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html */
#ifndef FS_NET_SIGV4_H
#define FS_NET_SIGV4_H

#include "base/mem.h"

typedef struct fs_sigv4_keys {
    const char *access_key, *secret_key;
    const char *region, *service; /* "us-east-1", "s3" */
} fs_sigv4_keys;

typedef struct fs_sigv4_pair {
    const char *name, *value;
} fs_sigv4_pair;

#define FS_SIGV4_PAIRS_MAX 16

typedef struct fs_sigv4_request {
    const char *method, *path; /* the path as it is sent, encoded, with its first '/' */
    const fs_sigv4_pair *query; /* [n_query], as they mean, in any order */
    size_t n_query;
    const fs_sigv4_pair *headers; /* [n_headers] all that are signed, names in lower case, in any order; host is one of them */
    size_t n_headers;
    const char *payload; /* SHA-256 of the body in hex, or "UNSIGNED-PAYLOAD" */
    const char *date;    /* "20130524T000000Z" */
} fs_sigv4_request;

/* "20130524T000000Z" of seconds since 1970. */
void fs_sigv4_date(int64_t seconds, char ret[17]);
/* The query as it is to be sent, sorted and encoded, and the value of Authorization; both appended. */
fs_status fs_sigv4_sign(const fs_sigv4_keys *k, const fs_sigv4_request *q, fs_buf *ret_query, fs_buf *ret_authorization, fs_error *err);
/* The query of a link that holds for so many seconds; token NULL: none. */
fs_status fs_sigv4_presign(const fs_sigv4_keys *k, const fs_sigv4_request *q, const char *token, int seconds, fs_buf *ret_query, fs_error *err);

#endif
