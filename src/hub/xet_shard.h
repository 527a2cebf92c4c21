/* A shard: which files a client uploads and of which chunks of which xorbs they are, and what it put into new xorbs. The same
 * form answers the question whether a chunk is known. Records of 48 bytes, little-endian:
 *
 *   header    tag [32], version u64 (2), footer bytes u64 (0 where there is none)
 *   files     file hash [32], flags u32, terms n u32, 8 unused
 *               n times  xorb hash [32], flags u32, bytes u32, first chunk u32, end chunk u32
 *               n times  range hash [32], 16 unused                                  flag 1 << 31
 *               once     sha256 [32] (text form: xet_hash.h), 16 unused              flag 1 << 30
 *             end: 32 bytes of 0xff, 16 of 0
 *   xorbs     xorb hash [32], flags u32, chunks n u32, bytes u32, bytes in the file u32
 *               n times  chunk hash [32], where it begins u32, bytes u32, 8 unused
 *             end as above
 *   footer    of 200 bytes, in answers
 *
 * Source: the Xet protocol specification, page "MDB Shard File Format". */
#ifndef FS_HUB_XET_SHARD_H
#define FS_HUB_XET_SHARD_H

#include "hub/xet_xorb.h"

#define FS_SHARD_BYTES_MAX ((size_t)64 << 20)

typedef struct fs_shard_term {
    fs_xet_hash xorb, range;
    uint32_t n_bytes, begin, end; /* chunks begin..end of the xorb */
} fs_shard_term;

typedef struct fs_shard_file {
    fs_xet_hash hash;
    bool has_ranges, has_sha256;
    uint8_t sha256[32];
    fs_shard_term *terms; /* within fs_shard.terms */
    uint32_t n_terms;
    uint64_t n_bytes;
} fs_shard_file;

/* What a client uploads. Its list of xorbs is checked for its form and left: what is in a xorb its bytes say. */
typedef struct fs_shard {
    fs_shard_file *files;
    uint32_t n_files;
    fs_shard_term *terms;
} fs_shard;

fs_status fs_shard_read(fs_bytes bytes, fs_shard *ret, fs_error *err);
void fs_shard_done(fs_shard *s);

/* The answer to a question for a chunk: xorbs with their chunks' hashes hidden by key, valid until expires (seconds since 1970).
 * out holds nothing else. */
fs_status fs_shard_answer_begin(fs_buf *out, fs_error *err);
fs_status fs_shard_answer_xorb(fs_buf *out, const fs_xorb *x, const uint8_t key[32], fs_error *err);
fs_status fs_shard_answer_end(fs_buf *out, const uint8_t key[32], uint64_t now, uint64_t expires, fs_error *err);

/* For a client: the upload's shard, piece by piece. */
fs_status fs_shard_begin(fs_buf *out, fs_error *err);
fs_status fs_shard_put_file(fs_buf *out, const fs_shard_file *f, fs_error *err);
fs_status fs_shard_end_files(fs_buf *out, fs_error *err);
fs_status fs_shard_put_xorb(fs_buf *out, const fs_xorb *x, fs_error *err);
fs_status fs_shard_end_xorbs(fs_buf *out, fs_error *err);

#endif
