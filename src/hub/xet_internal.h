/* What the handlers of Xet share. */
#ifndef FS_HUB_XET_INTERNAL_H
#define FS_HUB_XET_INTERNAL_H

#include "hub/xet_store.h"

/* The request has a token of Xet's; false after a 401 or 403. */
bool fs_xet_need_token(fs_hub_call *c, bool writing);
/* The i-th parameter as a hash; false after a 400. */
bool fs_xet_need_hash(fs_hub_call *c, int i, fs_xet_hash *ret);

/* Xorbs at hand: the terms of one file go back and forth between few. Zeroed is empty. */
#define FS_XET_XORBS 8
typedef struct fs_xet_xorbs {
    fs_xorb kept[FS_XET_XORBS];
    unsigned n;
} fs_xet_xorbs;
/* The xorb, if the request may read it; *ret is valid until FS_XET_XORBS others were found. Not there is FS_ERR_FORMAT. */
fs_status fs_xet_xorbs_find(fs_hub_call *c, fs_xet_xorbs *x, const fs_xet_hash *hash, const fs_xorb **ret, fs_error *err);
void fs_xet_xorbs_done(fs_xet_xorbs *x);

#endif
