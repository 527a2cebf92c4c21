/* The parts of the S3 backend for blobs. Private to it. */
#ifndef FS_HUB_BLOBS_S3_H
#define FS_HUB_BLOBS_S3_H

#include "hub/blobs.h"

/* The key of a blob in the bucket. */
void fs_blob_s3_key(fs_blob_kind kind, const char *name, char ret[100]);
/* Fails where the hub was started without the keys of its store. */
fs_status fs_blob_s3_need_keys(const fs_hub *h, fs_error *err);

/* ---- blobs_s3_push.c: an upload that goes to the store in parts while it arrives ---- */
/* n_bytes have arrived, and that was all: returns when every part is in the store. */
fs_status fs_blob_push_end(fs_blob_push *p, uint64_t n_bytes, fs_error *err);
/* Behind that: the store shows the blob. */
fs_status fs_blob_push_complete(fs_blob_push *p, uint64_t n_bytes, fs_error *err);

#endif
