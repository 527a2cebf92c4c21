/* Torrents of revisions: made once and kept, by one thread at a time that is in nobody's way. */
#ifndef FS_HUB_TORRENTS_H
#define FS_HUB_TORRENTS_H

#include "hub/internal.h"
#include "hub/torrent_file.h"

typedef struct fs_torrents fs_torrents;

fs_torrents *fs_torrents_new(fs_hub *h); /* NULL: no memory */
/* Who waits is told to come again, and the thread stops soon. */
void fs_torrents_stop(fs_torrents *t);
void fs_torrents_free(fs_torrents *t);

/* Whether a path is one of a torrent's padding, as fs_torrent_write_info names it; *ret_bytes zeros. */
bool fs_torrent_is_padding(const char *path, uint64_t *ret_bytes);

#endif
