/* A hub that the Hugging Face clients use unmodified: repositories are bare git repositories, large files content-addressed objects,
 * everything else one SQLite file. docs/hub.md says what it speaks.
 *
 *   DATA/hub.db          accounts, hashed tokens, repositories, discussions
 *   DATA/secret          32 random bytes that sign upload and download links
 *   DATA/key             seed of the Ed25519 key that signs the feed of refs
 *   DATA/repos/ab/X.git  bare repositories under random names: what a repository is called is in the database only
 *   DATA/objects/ab/cd/  large files under their SHA-256
 *   DATA/xorbs/ab/cd/    what clients of Xet upload, as it came
 *   DATA/cache           what is kept here of large files in an S3 store, in place of objects/ and xorbs/
 *   DATA/hooks           what git calls when something is pushed */
#ifndef FS_HUB_HUB_H
#define FS_HUB_HUB_H

#include "base/progress.h"
#include "net/http.h"

#include <stdio.h>

typedef struct fs_hub fs_hub;

/* Which files are not taken: what imports something dangerous, what nobody judged too, any pickle too. */
typedef enum fs_hub_refuse { FS_HUB_REFUSE_NONE, FS_HUB_REFUSE_UNSAFE, FS_HUB_REFUSE_SUSPICIOUS, FS_HUB_REFUSE_PICKLES } fs_hub_refuse;
/* "none", "unsafe", "suspicious", "pickles"; false: another word. */
bool fs_hub_refuse_read(const char *word, fs_hub_refuse *ret);

typedef struct fs_hub_options {
    const char *url;               /* how clients reach it; NULL: what each request's Host says */
    const char *program;           /* this executable, for git's hooks; NULL: pushes are refused */
    uint64_t multipart_bytes;      /* files from this size on are uploaded in parts of as many bytes; 0: 2 GiB */
    uint64_t regular_bytes_max;    /* of a file that git itself holds; 0: 10 MiB */
    fs_hub_refuse refuse;
    const char *upstream;          /* a hub that is asked for repositories that are not here, without a '/' at its end; NULL: none */
    bool peers_private;            /* a search of the peers goes to private addresses, too */
    uint64_t upstream_quota;       /* bytes of large files kept from there; 0: 50 GiB */
    const char *blobs;             /* "s3://BUCKET/PREFIX": large files go there, for ever; NULL: where they went before, at first into DATA */
    const char *s3_endpoint, *s3_region; /* with blobs; NULL: AWS's of the region, us-east-1 */
    bool s3_redirect;              /* with blobs: downloads are sent there */
    uint64_t s3_cache_bytes;       /* with blobs: of files that are kept here, too; 0: 10 GiB */
    const char *s3_access_key, *s3_secret_key, *s3_session_token; /* may be NULL */
} fs_hub_options;

/* Opens DATA, making what is missing. Several processes may have it open. */
fs_status fs_hub_open(const char *data, const fs_hub_options *options, fs_hub **ret, fs_error *err);
void fs_hub_close(fs_hub *h);

/* Whether the store of large files can be reached and is this hub's; marks it as this hub's. Beside files: yes. */
fs_status fs_hub_blobs_reach(fs_hub *h, fs_error *err);

/* Requests that wait for something to happen end soon. Any thread. */
void fs_hub_stopping(fs_hub *h);
/* The public key that the feed of refs is signed with, in hex. */
void fs_hub_key(const fs_hub *h, char ret[65]);

/* The routes to mount, with the hub as their ud, and who may send them large bodies. */
const fs_http_route *fs_hub_routes(size_t *ret_n);
fs_http_admit fs_hub_admit;

#define FS_HUB_TOKEN_BYTES 44 /* "hf_", 40 letters and digits, NUL */

/* Sends what webhooks wait for, until it is stopped. private_too: to private addresses as well. */
typedef struct fs_hub_sender fs_hub_sender;
fs_status fs_hub_sender_start(fs_hub *h, bool private_too, fs_hub_sender **ret, fs_error *err);
void fs_hub_sender_stop(fs_hub_sender *s);

/* Whether any account exists. */
fs_status fs_hub_has_users(fs_hub *h, bool *ret, fs_error *err);
fs_status fs_hub_user_add(fs_hub *h, const char *name, bool admin, char ret_token[FS_HUB_TOKEN_BYTES], fs_error *err);
/* role: "read" or "write". only: what it is for, separated by commas or blanks, of what the user may read: "org" (all that is its), "org/name", "datasets/org/name",
 * "spaces/org/name"; NULL or "": everything. */
fs_status fs_hub_token_add(fs_hub *h, const char *user, const char *name, const char *role, const char *only, char ret_token[FS_HUB_TOKEN_BYTES], fs_error *err);
/* Revokes every token of that name. */
fs_status fs_hub_token_remove(fs_hub *h, const char *user, const char *name, fs_error *err);
/* Everything may be done by it, or no more. */
fs_status fs_hub_user_set_admin(fs_hub *h, const char *name, bool admin, fs_error *err);
/* A user or an organisation that owns no repository and wrote nothing; its tokens and memberships go too. */
fs_status fs_hub_account_remove(fs_hub *h, const char *name, fs_error *err);
fs_status fs_hub_org_add(fs_hub *h, const char *name, const char *owner, fs_error *err);
/* role: "read", "write", "admin", or NULL to remove. */
fs_status fs_hub_org_member(fs_hub *h, const char *org, const char *user, const char *role, fs_error *err);
/* 0: none. */
fs_status fs_hub_quota_set(fs_hub *h, const char *account, uint64_t bytes, fs_error *err);
/* Calls fn with each account, or each token of a user: name, kind or role, quota (-1: none) or time of creation in ms. */
typedef void fs_hub_list_fn(void *ud, const char *name, const char *kind, int64_t number);
fs_status fs_hub_user_list(fs_hub *h, fs_hub_list_fn *fn, void *ud, fs_error *err);
/* Members and their roles. */
fs_status fs_hub_org_list(fs_hub *h, const char *org, fs_hub_list_fn *fn, void *ud, fs_error *err);
fs_status fs_hub_token_list(fs_hub *h, const char *user, fs_hub_list_fn *fn, void *ud, fs_error *err);

typedef struct fs_hub_gc_result {
    uint64_t n_objects, n_xorbs, n_uploads, n_repos, n_bytes;
} fs_hub_gc_result;

/* Takes away objects and xorbs that no repository holds, uploads that were given up and folders that no repository has, of what was not touched for
 * age_ms. Beside a running server too. */
fs_status fs_hub_gc(fs_hub *h, int64_t age_ms, fs_hub_gc_result *ret, fs_error *err);
/* Files all of whose xorbs came age_ms ago or earlier are no more files of Xet's, and stay as large files, which are made first where they are in xorbs alone;
 * xorbs that no file is made of then go with fs_hub_gc. hf-xet remembers for 21 days which chunks it sent, and fails when it names one that went. */
fs_status fs_hub_xet_forget(fs_hub *h, int64_t age_ms, uint64_t *ret_n_files, fs_error *err);

typedef struct fs_hub_check {
    bool repair;
    void (*on_wrong)(void *ud, const char *sentence, bool repaired);
    void *ud;
    uint64_t n_objects, n_xorbs, n_repos, n_wrong, n_repaired; /* filled */
} fs_hub_check;

/* Reads everything: every object against its hash, every xorb against its chunks', rows against files, each repository by git, every file of every ref against the store. A
 * status other than FS_OK: it could not be looked at. */
fs_status fs_hub_fsck(fs_hub *h, fs_hub_check *check, fs_error *err);

typedef struct fs_hub_backup_result {
    uint64_t n_repos, n_linked, n_copied, n_bytes; /* files that are linked, that are copied; bytes of the latter */
} fs_hub_backup_result;

/* A whole copy in a new folder, which a server can be started on; beside a running server, too. */
fs_status fs_hub_backup(fs_hub *h, const char *to, fs_hub_backup_result *ret, fs_error *err);

typedef struct fs_hub_bundle_result {
    uint64_t n_repos, n_objects, n_bytes; /* of what was written, or came */
} fs_hub_bundle_result;

/* Repositories "org/name" of type "models", "datasets" or "spaces", with branches, tags and large files, in one file. */
fs_status fs_hub_export(fs_hub *h, const char *type, const char *const *ids, int n_ids, const char *to, fs_hub_bundle_result *ret, fs_error *err);
/* Takes what such a file has; a repository that is here goes on, and is not rewritten. What came stays when it fails. */
fs_status fs_hub_import(fs_hub *h, const char *from, fs_hub_bundle_result *ret, fs_error *err);

/* A fork "org/name" of a repository that is here, for its account; private where from is. */
fs_status fs_hub_fork(fs_hub *h, const char *type, const char *from, const char *to, bool private_repo, fs_error *err);

typedef struct fs_hub_torrent_result {
    size_t n_files;
    uint64_t n_bytes;
    uint32_t piece_bytes;
    char commit[41], v1[41], v2[65]; /* info hashes */
} fs_hub_torrent_result;

/* The torrent of a revision of a repository "org/name"; options.url of the hub is where its web seed is. */
fs_status fs_hub_torrent_make(fs_hub *h, const char *type, const char *id, const char *rev, const fs_progress *progress, fs_buf *ret, fs_hub_torrent_result *ret_result, fs_error *err);

/* What git's pre-receive hook runs, within git's environment and the repository's folder: lines are git's, "old new ref". user pushes to
 * repo, and may write to it or only to pull requests of its own. on_refused is called for each ref that may not move so; its sentences, and that of the failure,
 * are for whoever pushes. */
typedef void fs_hub_refused_fn(void *ud, const char *sentence);
fs_status fs_hub_pre_receive(fs_hub *h, int64_t repo, int64_t user, bool writer, FILE *lines, fs_hub_refused_fn *on_refused, void *ud, fs_error *err);

/* ---- mirrors ---- */

typedef struct fs_hub_mirror_options {
    const char *url;  /* of the hub that is copied from, without a '/' at its end */
    const char *type; /* "models", "datasets" or "spaces" */
    const char *id;   /* org/name, there and here */
    const char *token; /* NULL: none */
    bool private_repo; /* of a copy that is made now */
    bool force;        /* follow branches that were taken back */
    bool lazy;         /* large files are brought when they are asked for: reading through */
    bool any_address;  /* upstream may send to addresses of this machine and its neighbours, too; else to those of url alone */
    fs_progress progress; /* bytes of large files */
    /* Called with each ref that git shows there, "refs/heads/main" and its commit, then with NULL, before anything is brought but git's objects; a
     * failure ends it. NULL: git is believed. */
    fs_status (*on_ref)(void *ud, const char *ref, const char *commit, fs_error *err);
    void *ud;
    const char *owner; /* key of the hub that it is written on, in hex; NULL: not known */
} fs_hub_mirror_options;

typedef struct fs_hub_mirror_result {
    size_t n_refs, n_objects; /* that changed; that came */
    uint64_t n_bytes;
    bool was_whole; /* the copy was complete before */
} fs_hub_mirror_result;

/* Brings a repository here, or brings what is new there. Nothing is seen of it before it is whole. What came is kept when it fails. */
fs_status fs_hub_mirror(fs_hub *h, const fs_hub_mirror_options *o, fs_hub_mirror_result *ret, fs_error *err);
/* One large file of a lazy copy, held to its hash. repo: its number. */
fs_status fs_hub_mirror_object(fs_hub *h, const fs_hub_mirror_options *o, int64_t repo, const char *sha256, uint64_t n_bytes, fs_error *err);
/* done_ms 0: never whole yet; failure "": the last try succeeded. */
typedef void fs_hub_mirror_fn(void *ud, const char *url, const char *type, const char *id, int64_t done_ms, const char *failure);
fs_status fs_hub_mirror_list(fs_hub *h, fs_hub_mirror_fn *fn, void *ud, fs_error *err);

/* ---- feeds of other hubs ---- */

typedef struct fs_hub_follow_options {
    const char *url; /* of the hub that is followed, without a '/' at its end */
    const char *key; /* its key in hex; NULL: the one that it shows first */
    const char *type; /* of names */
    const char *const *names; /* [n_names] that are copied; none: what was copied from there before */
    size_t n_names;
    bool all; /* everything */
    const char *token; /* for git and files; NULL: none */
    bool private_repo, force, any_address; /* as for fs_hub_mirror */
    bool first; /* round of a run */
    bool compare; /* with what the peers saw, though nothing new comes */
    int wait_seconds; /* for something new */
    fs_progress progress; /* bytes of large files; asked while it waits, too */
    /* Each repository that was copied, or could not be: failure is the sentence. */
    void (*on_copy)(void *ud, const char *id, const fs_hub_mirror_result *r, const char *failure);
    void *ud;
} fs_hub_follow_options;

typedef struct fs_hub_follow_result {
    uint64_t seq; /* of the last entry that was seen */
    size_t n_entries, n_failed;
    char key[65];
} fs_hub_follow_result;

/* One round: takes what is new in the feed, and copies what it is about. FS_ERR_FORMAT: what upstream signed does not hold together, nothing of it was
 * taken. FS_ERR_IO: it did not answer. */
fs_status fs_hub_follow(fs_hub *h, const fs_hub_follow_options *o, fs_hub_follow_result *ret, fs_error *err);
/* Forgets the key and the feed of a hub; copies stay. */
fs_status fs_hub_forget(fs_hub *h, const char *url, fs_error *err);

/* Other hubs that this one knows: what they have seen of feeds is compared. */
fs_status fs_hub_peer_add(fs_hub *h, const char *url, fs_error *err);
fs_status fs_hub_peer_remove(fs_hub *h, const char *url, fs_error *err);
typedef void fs_hub_peer_fn(void *ud, const char *url);
fs_status fs_hub_peer_list(fs_hub *h, fs_hub_peer_fn *fn, void *ud, fs_error *err);

#endif
