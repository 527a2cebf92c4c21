/* A xorb: chunks of files one behind the other, each compressed by itself.
 *
 *   OFFSET  SIZE  MEANING, of every chunk
 *   0       1     version, 0
 *   1       3     compressed bytes n, little-endian, at most 262144
 *   4       1     0 stored, 1 an LZ4 frame, 2 bytes grouped by position modulo 4, then an LZ4 frame
 *   5       3     bytes of the chunk, at most 131072
 *   8       n
 *
 * Behind the last chunk may stand a footer, which begins with "XETBLOB"; it says nothing that the chunks do not say.
 * Source: the Xet protocol specification, page "Xorb Formation & Serialization Format". */
#ifndef FS_HUB_XET_XORB_H
#define FS_HUB_XET_XORB_H

#include "hub/xet_hash.h"

#define FS_XORB_BYTES_MAX    ((size_t)65 << 20) /* clients fill it with chunks of 64 MiB; their headers and the footer come on top */
#define FS_XORB_CHUNKS_MAX   ((uint32_t)16384) /* 64 MiB of chunks of the least length, twice */
#define FS_XORB_HEADER_BYTES 8
#define FS_XORB_PACKED_MAX   (2 * FS_XET_CHUNK_MAX) /* bytes of a chunk as it is stored: no client sends one that compressing made longer */

typedef struct fs_xorb_chunk {
    fs_xet_hash hash;
    uint32_t end;     /* where its bytes end in the xorb; the next chunk's header stands there */
    uint32_t n_bytes; /* of the chunk, unpacked */
} fs_xorb_chunk;

typedef struct fs_xorb {
    fs_xet_hash hash;
    fs_xorb_chunk *chunks;
    uint32_t n_chunks;
    uint64_t n_bytes; /* of all chunks, unpacked */
} fs_xorb;

/* Unpacks and hashes every chunk of file, which must outlive nothing: ret owns what it needs. */
fs_status fs_xorb_read(fs_bytes file, fs_xorb *ret, fs_error *err);
void fs_xorb_done(fs_xorb *x);
/* Where chunk i begins, its header included; i = n_chunks: the end of the last. */
uint32_t fs_xorb_begin(const fs_xorb *x, uint32_t i);

/* The chunk at the start of bytes -> *ret, which lies in room [FS_XET_CHUNK_MAX] or, if it is stored as it is, in bytes; *ret_n_taken: its bytes there, header included. */
fs_status fs_xorb_unpack(fs_bytes bytes, uint8_t *room, fs_bytes *ret, uint32_t *ret_n_taken, fs_error *err);
/* Appends a chunk of 1 to FS_XET_CHUNK_MAX bytes, compressed in the way that takes the fewest. */
fs_status fs_xorb_pack(fs_buf *out, const uint8_t *data, uint32_t n_bytes, fs_error *err);

#endif
