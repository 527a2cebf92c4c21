/* This hub's feed of refs (refs_feed.h): kept in the database, signed with DATA/key.
 *
 * What changes a repository marks it; whoever reads the feed brings the log up to what the marked repositories' refs say then. So pushes,
 * merges and copies need no more than the mark, and what a killed server left unmarked is found by looking at everything once a start. Only
 * what everybody may read is in it: a repository that becomes private, gated or disabled, or goes, or changes its name is withdrawn ref by ref,
 * and nothing tells what it did meanwhile. */
#ifndef FS_HUB_FEED_H
#define FS_HUB_FEED_H

#include "hub/internal.h"
#include "hub/refs_feed.h"

/* Its refs may have moved. Rows of repos mark themselves (db.c). */
fs_status fs_hub_feed_mark(sqlite3 *db, int64_t repo, fs_error *err);
/* Brings the log up to date. */
fs_status fs_hub_feed_update(fs_hub *h, sqlite3 *db, fs_error *err);
/* Hash and number of the last entry, or of entry seq where seq >= 0. */
fs_status fs_hub_feed_hash(const fs_hub *h, sqlite3 *db, int64_t seq, fs_refs_head *ret, fs_error *err);
/* Appends lines of at most n_max entries behind seq; *ret_n: how many. */
fs_status fs_hub_feed_lines(sqlite3 *db, int64_t seq, int64_t n_max, fs_buf *out, int64_t *ret_n, fs_error *err);

/* peers.c: the list of peers, over HTTP. */
void fs_hub_reply_peers(fs_hub_call *c);

#endif
