/* What the hub's files share. A request is a fs_hub_call; handlers reply through it and return. */
#ifndef FS_HUB_INTERNAL_H
#define FS_HUB_INTERNAL_H

#include "base/file.h"
#include "crypto/ed25519.h"
#include "hub/db.h"
#include "hub/emit.h"
#include "hub/hub.h"
#include "hub/scan.h"

#include <git2.h>
#include <pthread.h>
#include <stdatomic.h>

#define FS_HUB_LOCKS 64

typedef struct fs_hub_downloads fs_hub_downloads;
typedef struct fs_search fs_search;

struct fs_hub {
    char *data;
    fs_hub_options options;
    fs_db_pool *db;
    uint8_t secret[32];
    fs_ed25519_key key; /* signs the feed of refs */
    struct {
        pthread_mutex_t lock;
        bool looked; /* at everything, since the start */
        int n_waiting;
    } feed;
    atomic_bool stopping;
    struct fs_through *through; /* NULL: no upstream */
    struct fs_torrents *torrents;
    int64_t opened_ms;
    fs_hub_downloads *downloads; /* counted; NULL: not */
    fs_search *search;
    const struct fs_blob_store *store; /* of large files and xorbs: blobs.h */
    char *s3_url;                      /* "s3://bucket/prefix"; NULL: they are files of data */
    struct fs_s3 *s3;                  /* NULL, too, while its keys are not known */
    bool s3_redirect;
    uint64_t blob_cache_bytes;
    pthread_mutex_t locks[FS_HUB_LOCKS]; /* of repositories, by their number: one commit at a time */
};

/* ---- store.c: large files by their SHA-256 ---- */

typedef struct fs_hub_incoming {
    int fd; /* -1: none */
    uint64_t n_bytes;
    struct fs_sha256_stream *sha; /* NULL when its result is in oid */
    char oid[65];
    struct fs_blob_push *push; /* NULL: it goes to its store when it is whole */
} fs_hub_incoming;

/* An unnamed file in DATA. n_bytes: as many will come, at most; oid_hex NULL: what it will be is not known yet. */
fs_status fs_hub_incoming_open(const fs_hub *h, const char *oid_hex, uint64_t n_bytes, fs_hub_incoming *ret, fs_error *err);
fs_status fs_hub_incoming_put(fs_hub_incoming *in, const void *data, size_t n_bytes, fs_error *err);
/* A file grew: the disk is kept busy while the rest arrives. */
void fs_hub_write_behind(int fd, uint64_t before, uint64_t n_bytes);
/* The hash of all that came; nothing is put any more. */
void fs_hub_incoming_hash(fs_hub_incoming *in, char ret[65]);
/* Puts the file on the disk and gives it its name, if its hash is oid_hex; FS_ERR_FORMAT if not. A file that is there already stays. */
fs_status fs_hub_incoming_commit(const fs_hub *h, fs_hub_incoming *in, sqlite3 *db, const char *oid_hex, fs_error *err);
/* The same, and the repository holds it. */
fs_status fs_hub_incoming_add(const fs_hub *h, fs_hub_incoming *in, sqlite3 *db, int64_t repo, const char *oid_hex, fs_error *err);
/* The same for a file of DATA that is whole, open as fd; it keeps its old name beside. */
fs_status fs_hub_object_adopt(const fs_hub *h, sqlite3 *db, int64_t repo, const char *path, int fd, const char *oid_hex, uint64_t n_bytes, fs_error *err);
void fs_hub_incoming_close(fs_hub_incoming *in);
/* The lock of a file that parts are written to, waited for: alone, or beside others. Whoever has it alone may adopt the file. */
bool fs_hub_part_lock(int fd, bool alone, double seconds);
/* The same for who writes: false, too, when the file was adopted, so that its bytes are an object's. */
bool fs_hub_part_lock_to_write(int fd, bool alone);
/* The object open for reading and its size; FS_ERR_NOT_FOUND. */
fs_status fs_hub_object_open(const fs_hub *h, const char *oid_hex, int *ret_fd, uint64_t *ret_bytes, fs_error *err);
bool fs_hub_object_is_here(const fs_hub *h, sqlite3 *db, const char *oid_hex);
/* Writes that the object, which is in the store, belongs to the repository. */
fs_status fs_hub_object_add(sqlite3 *db, int64_t repo, const char *oid_hex, uint64_t n_bytes, fs_error *err);
/* The same in a transaction of its own, which fails when the file is not there: the collector of garbage removes files within one, so that an object goes
 * before it is held or not at all. */
fs_status fs_hub_object_hold(const fs_hub *h, sqlite3 *db, int64_t repo, const char *oid_hex, uint64_t n_bytes, fs_error *err);
/* Whether the repository holds it and the file is there, with its size. */
fs_status fs_hub_object_of(const fs_hub *h, sqlite3 *db, int64_t repo, const char *oid_hex, bool *ret_held, uint64_t *ret_bytes, fs_error *err);
/* What the account may use and uses, in bytes of large files and of loose xorbs, which are in no file yet; *ret_quota -1: no limit, and the others stay. */
fs_status fs_hub_quota_of(sqlite3 *db, int64_t owner, int64_t *ret_quota, int64_t *ret_used, int64_t *ret_loose, fs_error *err);
#define FS_HUB_QUOTA_USED "the owner's quota is used up"
/* Bytes that the disk has room for besides a rest; UINT64_MAX: nobody knows. */
uint64_t fs_hub_disk_left(const fs_hub *h);
/* FS_ERR_IO of ENOSPC when the disk has no room for so many bytes and a rest, which is for removing and looking after. */
fs_status fs_hub_disk_room(const fs_hub *h, uint64_t n_bytes, fs_error *err);
/* Whether the owner of the repository may store so many bytes more: FS_ERR_ARGUMENT with FS_HUB_QUOTA_USED if not, FS_ERR_IO of ENOSPC when the disk has no
 * room. of_xorbs: they are made of loose xorbs, which count no more then. */
fs_status fs_hub_room_for(const fs_hub *h, sqlite3 *db, int64_t repo, uint64_t n_bytes, bool of_xorbs, fs_error *err);
/* Gives a file that is on the disk the name path, whose folders are made: the unnamed one that fd is, or (fd -1) one more name for from. One that is
 * there already stays, and is new to the collector of garbage. */
fs_status fs_hub_name_file(int fd, const char *from, char *path, fs_error *err);
/* A file of DATA open for reading and its size; FS_ERR_NOT_FOUND. */
fs_status fs_hub_open_stored(const char *path, int *ret_fd, uint64_t *ret_bytes, fs_error *err);
fs_status fs_hub_folder_sync(const char *path, fs_error *err);
fs_status fs_hub_folders_make(const char *path, fs_error *err); /* all of path's folders, mode 700 */

/* Calls fn with every entry of a folder that does not begin with a dot; a folder that is not there has none. */
typedef fs_status fs_hub_file_fn(void *ud, const char *path, const char *name, fs_error *err);
fs_status fs_hub_each(const char *folder, fs_hub_file_fn *fn, void *ud, fs_error *err);

/* ---- accounts.c ---- */

typedef struct fs_hub_user {
    int64_t id; /* 0: nobody */
    char name[97];
    bool is_admin, may_write; /* the token's role; is_admin: of the hub, by a token that is for everything */
    char token_name[97];
    int64_t token;      /* its number */
    int64_t scope;      /* the same where it is for some repositories only (token_scopes), else 0 */
    bool admin_in_scope; /* of the hub, whatever the token is for */
} fs_hub_user;

typedef enum fs_hub_right { FS_HUB_NONE, FS_HUB_READ, FS_HUB_WRITE, FS_HUB_ADMIN } fs_hub_right;

/* Names of accounts and repositories: letters, digits, '-', '_', '.', 1 to 96 of them, as on the Hub. */
bool fs_hub_name_is_valid(const char *name);
bool fs_hub_name_is_reserved(const char *name);
/* A browser's session: a random name, kept as its SHA-256. It is the token's that it was opened with, and ends with it. */
#define FS_HUB_SESSION_MS ((int64_t)30 * 86400 * 1000)
/* FS_ERR_NOT_FOUND: no such token. */
fs_status fs_hub_session_open(sqlite3 *db, const char *token, const char *session, fs_error *err);
/* ret_id: what names the session in forms and in the database, in hex. FS_ERR_NOT_FOUND. */
fs_status fs_hub_user_by_session(sqlite3 *db, const char *session, fs_hub_user *ret, char ret_id[65], fs_error *err);
/* FS_ERR_NOT_FOUND: no such token. */
fs_status fs_hub_user_by_token(sqlite3 *db, const char *token, fs_hub_user *ret, fs_error *err);
/* What the user may do with what the account owns, by whatever token; by this one. */
fs_status fs_hub_right_of_user(sqlite3 *db, const fs_hub_user *u, int64_t account, fs_hub_right *ret, fs_error *err);
fs_status fs_hub_right_on_account(sqlite3 *db, const fs_hub_user *u, int64_t account, fs_hub_right *ret, fs_error *err);
/* What this token may do with one repository of the owner's; *ret_scope: what it is for there, at the most. */
fs_status fs_hub_right_on_repo(sqlite3 *db, const fs_hub_user *u, int64_t repo, int64_t owner, fs_hub_right *ret, fs_hub_right *ret_scope, fs_error *err);

/* ---- repos.c ---- */

typedef struct fs_hub_repo {
    int64_t id, owner;
    char type[16]; /* models, datasets, spaces */
    char owner_name[97], name[97], folder[40];
    bool private, disabled;
    char gated[16]; /* "", "auto", "manual" */
    int64_t created_ms, modified_ms, downloads, likes;
    char sha[41]; /* of main, as the columns of the card know it */
    char mirror[300]; /* the hub that it is a copy from; "": of none */
} fs_hub_repo;

/* SELECT fs_hub_repo's columns FROM repos r JOIN accounts a ON a.id = r.owner, for fs_hub_repo_read. */
#define FS_HUB_REPO_COLUMNS \
    "r.id, r.owner, r.type, a.name, r.name, r.folder, r.private, r.disabled, coalesce(r.gated, ''), r.created_ms, r.modified_ms, " \
    "r.downloads, r.likes, r.sha, (SELECT url FROM mirrors WHERE repo = r.id), r.card, r.pipeline_tag, r.library_name, (SELECT json_group_array(tag) FROM repo_tags WHERE repo = r.id)"
#define FS_HUB_REPO_CARD_COLUMN 15 /* and the three behind it */
/* Of a repository r: everybody may read it; it is the account's, whose number is the parameter who ("?2"), or of an organisation that it is in, and the token whose
 * number is the parameter scope, unless that is 0, is for it. */
#define FS_HUB_REPO_IS_OPEN "(NOT r.private AND r.gated IS NULL AND NOT r.disabled)"
#define FS_HUB_REPO_IS_OF(who, scope) \
    "((r.owner = " who " OR r.owner IN (SELECT org FROM members WHERE account = " who ")) AND (" scope " = 0 OR EXISTS(SELECT 1 FROM token_scopes s WHERE s.token = " scope \
    " AND (s.repo = r.id OR s.account = r.owner))))"
#define FS_HUB_REPO_TABLES " FROM repos r JOIN accounts a ON a.id = r.owner "
void fs_hub_repo_read(sqlite3_stmt *st, fs_hub_repo *ret);

/* ---- call.c ---- */

typedef struct fs_hub_call {
    fs_hub *hub;
    fs_http_request *http;
    sqlite3 *db;
    fs_hub_user user;
    fs_hub_repo repo;
    fs_hub_right right; /* on repo */
    fs_hub_right scope; /* what the token is for there, at the most */
    bool writing;       /* the token must be for writing to repo, whatever right is asked for */
    git_repository *git;
    char path[512]; /* of git */
    bool replied, is_page; /* a page: refusals are pages, too */
    char base[300]; /* "http://host:port" */
    char session[65];         /* of a browser that is signed in, else "" */
    struct json_object *form; /* a page's form, which is the body of a call of the API's; its answer goes to answer */
    fs_buf answer;
    bool answered;
    struct {
        int64_t repo; /* 0: the request has no token of Xet's */
        bool may_write;
    } xet;
    fs_error err;
} fs_hub_call;

typedef void fs_hub_fn(fs_hub_call *c);

/* Replies {"error": ...} with the header's code (NULL: none). Does nothing after the first reply. */
void fs_hub_error(fs_hub_call *c, int status, const char *code, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Replies for a failed status with c->err's sentence; returns true if rc is one. */
bool fs_hub_failed(fs_hub_call *c, fs_status rc);
/* Replies with e's text, and frees it. */
void fs_hub_reply(fs_hub_call *c, int status, fs_emit *e);
/* Replies with the names that st selects, as a list of users; ends st. */
void fs_hub_reply_people(fs_hub_call *c, sqlite3_stmt *st);
void fs_hub_reply_ok(fs_hub_call *c); /* {"success": true} */
/* The body as a JSON object; NULL after a reply. An empty body is an empty object. */
struct json_object *fs_hub_body_json(fs_hub_call *c);
/* A member's string, copied into ret; "" when absent. False after a reply. */
bool fs_hub_json_str(fs_hub_call *c, struct json_object *o, const char *key, char *ret, size_t capacity);
/* Someone is logged in; false after a 401. writing: the token must allow it, else 403. */
bool fs_hub_need_user(fs_hub_call *c, bool writing);
/* The same for what is no repository's: the token must allow it, and be for everything. */
bool fs_hub_need_account(fs_hub_call *c);
/* Fills c->repo and c->right and opens c->git; false after a reply, when it is not there or the right is less than need. type is
 * "models", "datasets" or "spaces". */
bool fs_hub_need_repo(fs_hub_call *c, const char *type, const char *owner, const char *name, fs_hub_right need);
/* The same by the first three parameters of the route. */
bool fs_hub_need_repo_params(fs_hub_call *c, fs_hub_right need);
/* The same by the first two of them, or three behind "datasets" or "spaces"; n_tail more follow. "name.git" means name. */
bool fs_hub_need_repo_path(fs_hub_call *c, int n_tail, fs_hub_right need);
/* gate.c: gated repositories are read by who may write to them and by who was let in; false after a reply. */
bool fs_hub_need_open(fs_hub_call *c);
bool fs_hub_may_read(fs_hub_call *c); /* the same as a question */
bool fs_hub_type_is_valid(const char *type);
/* "", "datasets/" or "spaces/". */
const char *fs_hub_type_prefix(const char *type);

void fs_hub_repo_lock(fs_hub_call *c);
void fs_hub_repo_unlock(fs_hub_call *c);

/* ---- repos.c: what its handlers and forks share ---- */

/* private, from "visibility" or "private"; *ret stays without either. False after a reply. */
bool fs_hub_read_private(fs_hub_call *c, struct json_object *o, bool *ret);
/* The account a name is in, which the user may write to; false after a reply. */
bool fs_hub_need_owner(fs_hub_call *c, const char *name, int64_t *ret_id, char ret_name[97]);
/* Where a repository is; 409: it is there already. */
void fs_hub_reply_url(fs_hub_call *c, int status, const char *type, const char *owner, const char *name);

/* ---- fork.c ---- */

typedef struct fs_hub_fork_options {
    const fs_hub_repo *from;
    int64_t owner;
    char owner_name[97];
    const char *name;
    bool private_repo;
} fs_hub_fork_options;

/* *ret_taken: the name is another's already, a failure. */
fs_status fs_hub_fork_make(fs_hub *h, sqlite3 *db, const fs_hub_fork_options *o, int64_t *ret_id, bool *ret_taken, fs_error *err);

typedef struct fs_hub_origin {
    char hub[300]; /* "": this one */
    char id[220];  /* "": it is no fork, or of what the asker may not see */
    char sha[41], key[65]; /* of main when it was forked; of the hub that the origin is written on, "" not known */
} fs_hub_origin;
fs_status fs_hub_fork_origin(const fs_hub_call *c, fs_hub_origin *ret, fs_error *err);

/* ---- backup.c ---- */

/* A bare repository's refs, then what they need, in a new folder; objects are linked where the file system can. */
fs_status fs_hub_git_copy(const char *from, const char *to, fs_hub_backup_result *r, fs_error *err);

/* ---- session.c ---- */

/* Fills c->user and c->session by the browser's cookie, if it has one that counts. */
fs_status fs_hub_session_read(fs_hub_call *c);
/* The body is a form of one of our pages, sent by who is signed in: fills c->form. False after a page that says no. */
bool fs_hub_need_form(fs_hub_call *c);
/* The same when c->form is filled already. */
bool fs_hub_need_signed_form(fs_hub_call *c);
const char *fs_hub_form_text(const fs_hub_call *c, const char *name); /* "" when absent */

/* ---- sign.c ---- */

/* 64 hex digits over text. */
void fs_hub_sign(const fs_hub *h, const char *text, char ret[65]);
bool fs_hub_sign_check(const fs_hub *h, const char *text, const char *signature); /* in constant time */
void fs_hub_random_name(char ret[], size_t n); /* n - 1 letters and digits, NUL */

/* ---- git.c ---- */

typedef struct fs_hub_edit {
    char *path;
    bool remove;
    git_oid oid;
    uint32_t mode; /* GIT_FILEMODE_BLOB */
    size_t order;
} fs_hub_edit;

typedef struct fs_hub_edits {
    fs_hub_edit *items;
    size_t n, capacity;
} fs_hub_edits;

fs_status fs_hub_edits_add(fs_hub_edits *e, const char *path, bool remove, const git_oid *oid, fs_error *err);
void fs_hub_edits_done(fs_hub_edits *e);

/* Objects written for a commit, to be put on the disk together. */
typedef struct fs_hub_objects {
    git_oid *items;
    size_t n, capacity;
} fs_hub_objects;

void fs_hub_git_setup(void); /* once */
fs_status fs_hub_git_fail(fs_error *err, const char *what);
fs_status fs_hub_repo_path(const fs_hub *h, const char *folder, char ret[512], fs_error *err);
/* A new repository with one commit on main. */
fs_status fs_hub_git_init(const fs_hub *h, const char *folder, const char *author, char ret_sha[41], fs_error *err);
void fs_hub_git_remove(const fs_hub *h, const char *folder);
void fs_hub_tree_remove(const char *path); /* a folder and all below it */
/* Held by who makes a repository, from before its folder is there until its row is: garbage is no folder meanwhile. -1: not held. */
fs_status fs_hub_making_begin(const fs_hub *h, int *ret_making, fs_error *err);
void fs_hub_making_end(int making);
bool fs_hub_making_nobody(const fs_hub *h);
/* Before git, which would wait for them in vain: takes away the locks that a killed process left on the repository. */
void fs_hub_locks_drop(fs_hub *h, const char *path);
fs_status fs_hub_git_write(git_repository *git, git_object_t type, const void *data, size_t n_bytes, fs_hub_objects *written, git_oid *ret, fs_error *err);
/* base (NULL: empty) with edits, of which later ones win; sorts them. FS_ERR_NOT_FOUND: something to remove is not there. */
fs_status fs_hub_tree_edit(git_repository *git, const git_oid *base, fs_hub_edits *edits, fs_hub_objects *written, git_oid *ret, fs_error *err);
fs_status fs_hub_commit_write(git_repository *git, const git_oid *tree, const git_oid *parents, size_t n_parents, const char *author, const char *message,
                              fs_hub_objects *written, git_oid *ret, fs_error *err);
/* All of written is on the disk afterwards. */
fs_status fs_hub_git_sync(const char *path, const fs_hub_objects *written, fs_error *err);
void fs_hub_objects_done(fs_hub_objects *o);
/* Lets ref say new, on the disk, if it says old now (NULL: it must not be there). FS_ERR_ARGUMENT: it says something else. */
fs_status fs_hub_ref_set(const fs_hub *h, const char *path, git_repository *git, const char *ref, const git_oid *old, const git_oid *new, fs_error *err);
fs_status fs_hub_ref_remove(const char *path, git_repository *git, const char *ref, fs_error *err);
bool fs_hub_ref_name_is_valid(const char *name); /* of a branch or tag */
/* The commit that a revision means: a branch, a tag, refs/..., or a commit's id. ret_ref (may be NULL): the ref that commits to it go to,
 * "" for none. FS_ERR_NOT_FOUND. */
fs_status fs_hub_rev_find(git_repository *git, const char *rev, git_oid *ret, char ret_ref[256], fs_error *err);
bool fs_hub_need_rev(fs_hub_call *c, const char *rev, git_oid *ret, char ret_ref[256]);
/* When it says that it was made, within the years that a date can show: the number is whoever pushes it's. */
int64_t fs_hub_commit_ms(const git_commit *commit);
fs_status fs_hub_commit_tree(git_repository *git, const git_oid *commit, git_oid *ret, fs_error *err);
/* The entry at path ("" the root tree itself). FS_ERR_NOT_FOUND. */
fs_status fs_hub_entry_find(git_repository *git, const git_oid *tree, const char *path, git_oid *ret, git_object_t *ret_type, fs_error *err);
bool fs_hub_path_is_valid(const char *path);

/* ---- protect.c: protected branches and tags ---- */

/* What is refused of branches; each refuses what the one before does: removing and forced pushes; what rewrites history on purpose (super-squash, large files
 * deleted from it); whatever is not the merge of a pull request. A protected tag stays where it is under each. */
typedef enum fs_hub_protection { FS_HUB_PROTECT, FS_HUB_KEEP_HISTORY, FS_HUB_BY_PULL_REQUEST } fs_hub_protection;
/* "default", "keep-history", "pull-request"; false: another word. */
bool fs_hub_protection_read(const char *word, fs_hub_protection *ret);
const char *fs_hub_protection_word(fs_hub_protection protection);

#define FS_HUB_PATTERNS_BYTES 4096

typedef struct fs_hub_rules {
    fs_hub_protection protection;
    char branches[FS_HUB_PATTERNS_BYTES], tags[FS_HUB_PATTERNS_BYTES]; /* patterns of their names, a line each */
} fs_hub_rules;

/* FS_HUB_FORCE: to a commit that lacks some of its history. FS_HUB_EXTEND: to one that has all of it, or it is new. */
typedef enum fs_hub_change { FS_HUB_REMOVE, FS_HUB_FORCE, FS_HUB_REWRITE, FS_HUB_EXTEND } fs_hub_change;

fs_status fs_hub_rules_read(sqlite3 *db, int64_t repo, fs_hub_rules *ret, fs_error *err);
/* The patterns of text, which blanks separate. FS_ERR_ARGUMENT; ret stays. */
fs_status fs_hub_patterns_read(const char *text, char ret[FS_HUB_PATTERNS_BYTES], fs_error *err);
/* Whether a ref, by its whole name, is a protected branch or tag. */
bool fs_hub_rules_cover(const fs_hub_rules *r, const char *ref);
/* FS_ERR_ARGUMENT with the sentence when this cannot be done to ref. */
fs_status fs_hub_rules_check(const fs_hub_rules *r, const char *ref, fs_hub_change change, fs_error *err);
/* The same by the rules of c's repository; false after a 403. */
bool fs_hub_need_rules(fs_hub_call *c, const char *ref, fs_hub_change change);
/* protectedBranches, protectedTags and branchProtection, those that o has, into r; FS_ERR_ARGUMENT. */
fs_status fs_hub_rules_take(struct json_object *o, fs_hub_rules *r, fs_error *err);
void fs_hub_rules_emit(fs_emit *e, const fs_hub_rules *r);

/* ---- child.c: git as another process ---- */

#define FS_HUB_WORDS_MAX 96

/* An argv or an environment: list ends with NULL. Zeroed is empty. */
typedef struct fs_hub_words {
    char *list[FS_HUB_WORDS_MAX];
    int n;
    bool failed; /* a word had no room or no memory */
} fs_hub_words;

void fs_hub_words_add(fs_hub_words *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fs_hub_words_done(fs_hub_words *w);
/* No home and no configuration of the machine's: only pairs [n] of name and value. They go by the environment, since a command line is for
 * everybody to read. */
void fs_hub_git_environment(fs_hub_words *env, const char *const (*pairs)[2], int n);

/* ---- mirror.c ---- */

/* Runs git; what it says on its error stream is the sentence. */
fs_status fs_hub_git_run(const fs_hub_words *argv, const fs_hub_words *env, fs_error *err);
/* The account that the name is in; an organisation of the first administrator's if there is none. */
fs_status fs_hub_owner_make(fs_hub *h, sqlite3 *db, const char *name, int64_t *ret, fs_error *err);

/* ---- pointer.c: LFS pointers and .gitattributes ---- */

#define FS_HUB_POINTER_BYTES_MAX 1024

typedef struct fs_hub_file {
    git_oid oid;
    uint64_t n_bytes;     /* of the content */
    uint64_t n_git_bytes; /* of the blob */
    bool lfs;
    char sha256[65];
} fs_hub_file;

/* version, oid, size: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md */
bool fs_hub_pointer_read(fs_bytes text, char ret_sha256[65], uint64_t *ret_bytes);
fs_status fs_hub_pointer_write(fs_buf *out, const char *sha256, uint64_t n_bytes, fs_error *err);
fs_status fs_hub_file_read(git_repository *git, const git_oid *oid, fs_hub_file *ret, fs_error *err);
/* Whether .gitattributes' text sends path to LFS. */
bool fs_hub_attributes_lfs(fs_bytes text, const char *path);
extern const char fs_hub_attributes_default[];

/* ---- content.c: the bytes of files ---- */

/* bytes belongs to one of the others; fs_hub_content_done ends it, after a failure too. */
typedef struct fs_hub_content {
    fs_bytes bytes;
    git_blob *blob;
    fs_map map;
} fs_hub_content;

fs_status fs_hub_object_map(const fs_hub *h, const char *sha256, fs_map *ret, fs_error *err); /* FS_ERR_NOT_FOUND */
/* A file of c's repository. FS_ERR_NOT_FOUND: a large one that it does not hold. */
fs_status fs_hub_content_open(fs_hub_call *c, const fs_hub_file *f, fs_hub_content *ret, fs_error *err);
/* The same of what its header says: behind the beginning of a large file there may be zeros. */
fs_status fs_hub_content_open_head(fs_hub_call *c, const fs_hub_file *f, fs_hub_content *ret, fs_error *err);
void fs_hub_content_done(fs_hub_content *x);
/* The file at path of a tree. FS_ERR_NOT_FOUND: there is none, or a folder. */
fs_status fs_hub_file_find(git_repository *git, const git_oid *tree, const char *path, fs_hub_file *ret, fs_error *err);

/* ---- scans.c: what files do to whoever loads them ---- */

typedef struct fs_hub_scan {
    uint8_t key[32]; /* of the content: a large file's SHA-256, or git's id */
    size_t n_key;
    const char *kind;
    fs_scan_level level;
    bool is_pickle;
    char message[300];
    char *imports; /* of pickles, JSON */
} fs_hub_scan;

/* Kept together when they are many: a commit's. */
typedef struct fs_hub_scans {
    fs_hub_scan *items;
    size_t n, capacity;
} fs_hub_scans;

/* Looks at a file, once a content; batch NULL: and keeps it at once. With fs_hub_scan_done. */
fs_status fs_hub_scan_bytes(sqlite3 *db, const git_oid *oid, fs_bytes content, const char *path, fs_hub_scans *batch, fs_hub_scan *ret, fs_error *err);
fs_status fs_hub_scan_object(const fs_hub *h, sqlite3 *db, const char *sha256, const char *path, fs_hub_scans *batch, fs_hub_scan *ret, fs_error *err);
fs_status fs_hub_scan_file(const fs_hub *h, sqlite3 *db, git_repository *git, const fs_hub_file *f, const char *path, fs_hub_scans *batch, fs_hub_scan *ret, fs_error *err);
void fs_hub_scan_done(fs_hub_scan *s);
fs_status fs_hub_scans_keep(sqlite3 *db, fs_hub_scans *batch, fs_error *err);
void fs_hub_scans_done(fs_hub_scans *batch);
/* Whether this hub takes such a file. */
fs_status fs_hub_scan_refuse(const fs_hub *h, const fs_hub_scan *s, const char *path, fs_error *err);
void fs_hub_emit_scan(fs_emit *e, const fs_hub_scan *s);
/* securityRepoStatus: every file of the commit that is not safe. */
fs_status fs_hub_emit_security(fs_hub_call *c, fs_emit *e, const git_oid *commit, fs_error *err);

/* ---- meta.c ---- */

/* config, safetensors and gguf of a model, those that wanted says. */
fs_status fs_hub_emit_meta(fs_hub_call *c, fs_emit *e, const git_oid *commit, bool (*wanted)(const fs_hub_call *c, const char *key), fs_error *err);

/* ---- downloads.c ---- */

fs_hub_downloads *fs_hub_downloads_new(void); /* NULL: no memory */
void fs_hub_downloads_free(fs_hub_downloads *d, fs_db_pool *pool);
/* Before counts are shown. */
void fs_hub_downloads_show(fs_hub_call *c);
/* Whoever asks, behind a proxy too. */
const char *fs_hub_client_address(const fs_hub_call *c);
/* A file was asked for. */
void fs_hub_download_count(fs_hub_call *c, const char *path);

/* ---- advisories.c ---- */

/* Before the reply to a request about a commit: what is said against it. */
void fs_hub_warn(fs_hub_call *c, const git_oid *commit);

/* ---- webhooks.c ---- */

/* Something happened to c->repo, to its discussion num (0: none); extra: more members of the payload, JSON without braces, or NULL. */
void fs_hub_tell(const fs_hub_call *c, const char *action, const char *scope, int64_t num, const char *extra);
/* Refs that moved, of one push or one call; the feed is told, too. Before the reply: who has it finds them there. */
typedef struct fs_hub_move {
    char ref[300], old[GIT_OID_HEXSZ + 1], new[GIT_OID_HEXSZ + 1]; /* forty zeros: it was not there, it went */
} fs_hub_move;
void fs_hub_tell_moves(const fs_hub_call *c, const fs_hub_move *moves, size_t n);
/* The same for one; old or new NULL: it was not there, it went. */
void fs_hub_tell_ref(const fs_hub_call *c, const char *ref, const git_oid *old, const git_oid *new);

/* ---- resolve.c ---- */

/* Before the reply with a file: what part is asked for; false after a 416. */
bool fs_hub_need_range(fs_hub_call *c, uint64_t n_bytes, uint64_t *ret_begin, uint64_t *ret_n, int *ret_status);
/* Replies with a file of that size, zeros: to a HEAD, say. */
void fs_hub_send_size(fs_hub_call *c, uint64_t n_bytes, const char *type);
/* Replies with a file, or the range of it that was asked for; takes fd. type NULL: bytes. */
void fs_hub_send_file(fs_hub_call *c, int fd, uint64_t n_bytes, const char *type);

/* ---- card.c ---- */

/* Reads README.md at main's head again and writes its columns and tags, when main is not what they know. */
fs_status fs_hub_card_refresh(fs_hub_call *c, fs_error *err);
/* The YAML between the first two lines "---"; n_bytes 0: none. */
fs_bytes fs_hub_card_yaml(fs_bytes readme);

/* ---- commit.c ---- */

/* Writes to the PR's discussion what came to its ref, and to the repository what came to main; tells webhooks. old NULL: the ref was not there. */
fs_status fs_hub_after_ref(fs_hub_call *c, const char *ref, const git_oid *old, const git_oid *new, const char *subject, fs_error *err);
/* Opens a discussion or pull request; *ret_num. For a PR, refs/pr/N is set to at. */
fs_status fs_hub_discussion_new(fs_hub_call *c, const char *title, const char *text, bool is_pr, const char *status, const char *base, const git_oid *at,
                                int64_t *ret_num, fs_error *err);
fs_status fs_hub_event_add(fs_hub_call *c, int64_t num, const char *type, const char *text, const char *text2, int64_t *ret_id, fs_error *err);

/* ---- discussions.c ---- */
/* Who opened a pull request that is open. */
fs_status fs_hub_pr_author(sqlite3 *db, int64_t repo, int64_t num, int64_t *ret_author, bool *ret_found, fs_error *err);

/* What a pull request changes, as a patch, and how many files conflict with base_ref; false: it has no commit in common with it. merge_commit: "" or
 * what it was merged by. */
bool fs_hub_pr_look(fs_hub_call *c, int64_t num, const char *base_ref, const char *merge_commit, fs_buf *ret_diff, size_t *ret_n_conflicts);

/* ---- xet_api.c ---- */

/* A token of Xet's: fills c->user and c->xet. False: it is none. */
bool fs_hub_xet_token_read(fs_hub_call *c, const char *token);
/* Before the reply to a download of a large file: where a client of Xet's finds it. */
void fs_hub_xet_headers(fs_hub_call *c, const char *rev, const char *sha256);

/* ---- read.c ---- */

/* Calls fn with every entry of a tree, and with recursive of the trees in it, in git's order; a folder before what is in it. Stops at the first
 * failure. */
typedef fs_status fs_hub_walk_fn(void *ud, const char *path, const git_oid *oid, git_object_t type, fs_error *err);
fs_status fs_hub_walk(git_repository *git, const git_oid *tree, const char *prefix, bool recursive, fs_hub_walk_fn *fn, void *ud, fs_error *err);

/* Whether path is the same in both trees; NULL: an empty one. */
bool fs_hub_same_entry(git_tree *a, git_tree *b, const char *path);

/* ---- handlers, one for each route in routes.c ---- */
#define FS_HUB_HANDLERS(X) \
    X(whoami) X(user_overview) X(org_overview) X(org_members) \
    X(repo_create) X(repo_delete) X(repo_move) X(repo_settings) X(repo_settings_get) X(repo_duplicate) X(repo_list) X(repo_info) X(auth_check) X(auth_check_write) \
    X(tree) X(paths_info) X(refs) X(commits) X(branch_create) X(branch_delete) X(tag_create) X(tag_delete) X(squash) \
    X(preupload) X(commit) X(validate_yaml) X(resolve) X(torrent) \
    X(lfs_batch) X(lfs_verify) X(lfs_put) X(lfs_get) X(lfs_part) X(lfs_complete) \
    X(git_info_refs) X(git_service) \
    X(discussion_list) X(discussion_create) X(discussion_get) X(discussion_comment) X(discussion_title) X(discussion_status) \
    X(discussion_merge) X(comment_edit) X(comment_hide) X(like) X(unlike) X(likers) X(not_here) \
    X(xet_read_token) X(xet_write_token) X(xet_xorb_put) X(xet_xorb_head) X(xet_shard) X(xet_shard_stream) X(xet_chunk) \
    X(page_models) X(page_datasets) X(page_spaces) X(page_owner) X(page_style) X(page_login) X(page_repo) X(page_tree) X(page_blob) \
    X(page_commits) X(page_discussions) X(page_discussion) X(xet_file) X(xet_file_v1) X(xet_file_head) X(xet_data) \
    X(ask_access) X(ask_access_path) X(access_cancel) X(access_list) X(access_handle) X(access_grant) \
    X(advisory_list) X(advisory_add) X(advisory_remove) X(lfs_files) X(lfs_files_batch) X(lfs_files_duplicate) \
    X(webhook_list) X(webhook_get) X(webhook_create) X(webhook_update) X(webhook_enable) X(webhook_disable) X(webhook_delete) \
    X(form_login) X(form_logout) X(page_settings) X(form_profile) X(form_token) X(form_token_revoke) X(form_sessions_end) X(form_key) X(form_key_remove) X(form_ask) X(form_access) \
    X(page_new) X(form_new) X(page_new_org) X(form_new_org) X(form_member) X(page_repo_settings) X(form_like) X(form_unlike) X(form_repo_settings) X(form_move) X(form_fork) X(form_delete) \
    X(page_upload) X(form_upload) X(form_discussion) X(form_comment) X(form_comment_edit) X(form_comment_hide) X(form_title) X(form_status) X(form_merge) \
    X(well_known)
#define FS_HUB_DECLARE(name) void fs_hub_##name(fs_hub_call *c);
FS_HUB_HANDLERS(FS_HUB_DECLARE)

#endif
