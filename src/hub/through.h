/* Reading through: what is not here is fetched from one upstream hub when somebody asks for it, held to its hashes, and kept while there is room.
 *
 * Upstream is asked as nobody, without any token, so that what it shows to some only is not shown here at all; and only for names in namespaces
 * that are nobody's here. A copy made so is marked in mirrors (lazy): its git is whole, its large files come one by one. */
#ifndef FS_HUB_THROUGH_H
#define FS_HUB_THROUGH_H

#include "hub/internal.h"

typedef struct fs_through fs_through;

fs_status fs_through_new(fs_hub *h, fs_through **ret, fs_error *err);
/* Fetches under way are broken off. Any thread. */
void fs_through_stop(fs_through *t);
void fs_through_free(fs_through *t); /* waits for them */

/* Before a repository is looked for: brings it from upstream if it is not here, and what is new there if that was not asked for a while. Whatever
 * comes of it, the repository is looked for afterwards. */
void fs_through_repo(fs_hub_call *c, const char *type, const char *owner, const char *name);
/* Whether repo's large files come when they are asked for. */
bool fs_through_is_lazy(const fs_hub *h, sqlite3 *db, int64_t repo);
/* Whether it is such a one, and a pointer in it names the file. */
bool fs_through_has(const fs_hub *h, sqlite3 *db, int64_t repo, const char *sha256, uint64_t n_bytes);
/* Replies with a large file of a lazy copy that does not hold it; it is sent on as it arrives, its end when its hash is known to hold. */
void fs_through_send(fs_hub_call *c, int64_t repo, const char *sha256, uint64_t n_bytes, const char *type);
/* A large file of a lazy copy was read: it goes later than others when there is no room. */
void fs_through_used(const fs_hub *h, sqlite3 *db, const char *sha256);

#endif
