/* What the handlers of Xet share. */
#ifndef FS_HUB_XET_INTERNAL_H
#define FS_HUB_XET_INTERNAL_H

#include "hub/blobs.h"
#include "hub/xet_store.h"

/* The request has a token of Xet's; false after a 401 or 403. */
bool fs_xet_need_token(fs_hub_call *c, bool writing);
/* The i-th parameter as a hash; false after a 400. */
bool fs_xet_need_hash(fs_hub_call *c, int i, fs_xet_hash *ret);

/* Xorbs at hand: the terms of one file go back and forth between few. c: the request, for which only those count that it may read; NULL: all. */
#define FS_XET_XORBS 8
typedef struct fs_xet_source {
    const fs_hub *hub;
    sqlite3 *db;
    const fs_hub_call *c;
    fs_xorb kept[FS_XET_XORBS];
    unsigned n;
    bool is_open; /* fd, of the xorb opened */
    fs_xet_hash opened;
    int fd;
} fs_xet_source;

/* *ret is valid until FS_XET_XORBS others were found. Not there is FS_ERR_FORMAT. */
fs_status fs_xet_source_find(fs_xet_source *s, const fs_xet_hash *hash, const fs_xorb **ret, fs_error *err);
/* Bytes begin..end of the file of these terms, in order, to sink. */
fs_status fs_xet_source_read(fs_xet_source *s, const fs_shard_term *terms, uint32_t n_terms, uint64_t begin, uint64_t end, fs_fetch_sink *sink, void *ud, fs_error *err);
void fs_xet_source_done(fs_xet_source *s);

#endif
