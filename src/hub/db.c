/* See the header. */
#include "hub/db.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDLE_MAX 16

struct fs_db_pool {
    char *path;
    pthread_mutex_t lock;
    sqlite3 *idle[IDLE_MAX];
    int n_idle;
};

/* Each entry is a version; user_version counts those that the file has. */
static const char *const versions[] = {
    "CREATE TABLE accounts(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL COLLATE NOCASE UNIQUE, kind TEXT NOT NULL,"
    " fullname TEXT, email TEXT, is_admin INTEGER NOT NULL DEFAULT 0, quota_bytes INTEGER, created_ms INTEGER NOT NULL,"
    " CHECK(kind IN ('user', 'org')));"
    "CREATE TABLE tokens(id INTEGER PRIMARY KEY AUTOINCREMENT, account INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,"
    " name TEXT NOT NULL, hash BLOB NOT NULL UNIQUE, role TEXT NOT NULL CHECK(role IN ('read', 'write')), created_ms INTEGER NOT NULL);"
    "CREATE TABLE members(org INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE, account INTEGER NOT NULL REFERENCES accounts ON"
    " DELETE CASCADE, role TEXT NOT NULL CHECK(role IN ('read', 'write', 'admin')), PRIMARY KEY(org, account)) WITHOUT ROWID;"
    "CREATE TABLE repos(id INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT NOT NULL CHECK(type IN ('models', 'datasets', 'spaces')),"
    " owner INTEGER NOT NULL REFERENCES accounts, name TEXT NOT NULL COLLATE NOCASE, folder TEXT NOT NULL UNIQUE,"
    " private INTEGER NOT NULL DEFAULT 0, gated TEXT, disabled INTEGER NOT NULL DEFAULT 0, sdk TEXT,"
    " created_ms INTEGER NOT NULL, modified_ms INTEGER NOT NULL, downloads INTEGER NOT NULL DEFAULT 0, likes INTEGER NOT NULL DEFAULT 0,"
    " sha TEXT NOT NULL, card TEXT, pipeline_tag TEXT, library_name TEXT, next_num INTEGER NOT NULL DEFAULT 1,"
    " UNIQUE(type, owner, name));"
    "CREATE INDEX repos_modified ON repos(type, modified_ms, id);"
    "CREATE INDEX repos_created ON repos(type, created_ms, id);"
    "CREATE INDEX repos_downloads ON repos(type, downloads, id);"
    "CREATE INDEX repos_likes ON repos(type, likes, id);"
    "CREATE TABLE repo_tags(tag TEXT NOT NULL, repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE, PRIMARY KEY(tag, repo)) WITHOUT ROWID;"
    "CREATE INDEX repo_tags_repo ON repo_tags(repo);"
    "CREATE TABLE moved(type TEXT NOT NULL, owner TEXT NOT NULL COLLATE NOCASE, name TEXT NOT NULL COLLATE NOCASE,"
    " repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE, PRIMARY KEY(type, owner, name)) WITHOUT ROWID;"
    "CREATE TABLE objects(oid BLOB PRIMARY KEY, size INTEGER NOT NULL, created_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE repo_objects(oid BLOB NOT NULL REFERENCES objects, repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE,"
    " PRIMARY KEY(oid, repo)) WITHOUT ROWID;"
    "CREATE INDEX repo_objects_repo ON repo_objects(repo);"
    "CREATE TABLE uploads(id TEXT PRIMARY KEY, repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE, oid BLOB NOT NULL,"
    " size INTEGER NOT NULL, chunk INTEGER NOT NULL, created_ms INTEGER NOT NULL);"
    "CREATE TABLE parts(upload TEXT NOT NULL REFERENCES uploads ON DELETE CASCADE, n INTEGER NOT NULL, etag TEXT NOT NULL,"
    " PRIMARY KEY(upload, n)) WITHOUT ROWID;"
    "CREATE TABLE likes(account INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE, repo INTEGER NOT NULL REFERENCES repos ON DELETE"
    " CASCADE, created_ms INTEGER NOT NULL, PRIMARY KEY(account, repo)) WITHOUT ROWID;"
    "CREATE INDEX likes_repo ON likes(repo);"
    "CREATE TABLE discussions(repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE, num INTEGER NOT NULL, title TEXT NOT NULL,"
    " status TEXT NOT NULL, is_pr INTEGER NOT NULL, author INTEGER NOT NULL REFERENCES accounts, created_ms INTEGER NOT NULL,"
    " base TEXT, merge_commit TEXT, PRIMARY KEY(repo, num)) WITHOUT ROWID;"
    "CREATE TABLE events(id INTEGER PRIMARY KEY AUTOINCREMENT, repo INTEGER NOT NULL, num INTEGER NOT NULL, type TEXT NOT NULL,"
    " author INTEGER NOT NULL REFERENCES accounts, created_ms INTEGER NOT NULL, text TEXT, text2 TEXT, hidden INTEGER NOT NULL DEFAULT 0,"
    " edited_ms INTEGER, FOREIGN KEY(repo, num) REFERENCES discussions ON DELETE CASCADE);"
    "CREATE INDEX events_of ON events(repo, num, id);",
    "CREATE TABLE xet_xorbs(hash BLOB PRIMARY KEY, n_bytes INTEGER NOT NULL, chunks BLOB NOT NULL, created_ms INTEGER NOT NULL);"
    "CREATE TABLE xet_xorb_repos(xorb BLOB NOT NULL REFERENCES xet_xorbs, repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE,"
    " PRIMARY KEY(xorb, repo)) WITHOUT ROWID;"
    "CREATE INDEX xet_xorb_repos_repo ON xet_xorb_repos(repo);"
    "CREATE TABLE xet_chunks(hash BLOB NOT NULL, xorb BLOB NOT NULL REFERENCES xet_xorbs, PRIMARY KEY(hash, xorb)) WITHOUT ROWID;"
    "CREATE TABLE xet_files(hash BLOB PRIMARY KEY, sha256 BLOB NOT NULL, n_bytes INTEGER NOT NULL, terms BLOB NOT NULL);"
    "CREATE INDEX xet_files_sha256 ON xet_files(sha256);"
    "CREATE TABLE xet_file_xorbs(xorb BLOB NOT NULL REFERENCES xet_xorbs, file BLOB NOT NULL REFERENCES xet_files,"
    " PRIMARY KEY(xorb, file)) WITHOUT ROWID;"
    "CREATE INDEX xet_file_xorbs_file ON xet_file_xorbs(file);",
    ("CREATE TABLE mirrors(repo INTEGER PRIMARY KEY REFERENCES repos ON DELETE CASCADE, url TEXT NOT NULL, id TEXT NOT NULL, started_ms INTEGER NOT NULL,"
    " tried_ms INTEGER, done_ms INTEGER, failure TEXT);"),
    ("CREATE TABLE access_requests(id INTEGER PRIMARY KEY AUTOINCREMENT, repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE, account INTEGER NOT NULL"
     " REFERENCES accounts ON DELETE CASCADE, status TEXT NOT NULL CHECK(status IN ('pending', 'accepted', 'rejected')), created_ms INTEGER NOT NULL, fields TEXT,"
     " handled_ms INTEGER, handled_by INTEGER REFERENCES accounts ON DELETE SET NULL, reason TEXT, UNIQUE(repo, account));"),
    "CREATE TABLE sessions(hash BLOB PRIMARY KEY, token INTEGER NOT NULL REFERENCES tokens ON DELETE CASCADE, created_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX sessions_token ON sessions(token);"
    "ALTER TABLE repos ADD COLUMN description TEXT;",
    ("CREATE TABLE scans(key BLOB NOT NULL, kind TEXT NOT NULL, level INTEGER NOT NULL, message TEXT NOT NULL, imports TEXT, version INTEGER NOT NULL,"
     " scanned_ms INTEGER NOT NULL, PRIMARY KEY(key, kind)) WITHOUT ROWID;"),
    /* Federation: this hub's feed of refs and what it was last found to say (feed.c); feeds of others and what they say (follow.c). */
    "CREATE TABLE feed(seq INTEGER PRIMARY KEY, line TEXT NOT NULL, hash BLOB NOT NULL);"
    "CREATE TABLE feed_refs(repo INTEGER NOT NULL, ref TEXT NOT NULL, type TEXT NOT NULL, id TEXT NOT NULL, commit_id TEXT NOT NULL, owner TEXT NOT NULL,"
    " seen INTEGER NOT NULL, PRIMARY KEY(repo, ref)) WITHOUT ROWID;"
    "CREATE TABLE feed_marks(repo INTEGER PRIMARY KEY);"
    "CREATE TRIGGER feed_made AFTER INSERT ON repos BEGIN INSERT OR IGNORE INTO feed_marks VALUES(NEW.id); END;"
    "CREATE TRIGGER feed_gone AFTER DELETE ON repos BEGIN INSERT OR IGNORE INTO feed_marks VALUES(OLD.id); END;"
    "CREATE TRIGGER feed_changed AFTER UPDATE OF owner, name, private, gated, disabled, sha ON repos BEGIN INSERT OR IGNORE INTO feed_marks VALUES(NEW.id); END;"
    "ALTER TABLE mirrors ADD COLUMN owner TEXT;"
    "CREATE TABLE followed(id INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE, key BLOB NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL, head TEXT NOT NULL,"
    " head_ms INTEGER NOT NULL, refused TEXT);"
    "CREATE TABLE followed_hashes(feed INTEGER NOT NULL REFERENCES followed ON DELETE CASCADE, seq INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY(feed, seq)) WITHOUT ROWID;"
    "CREATE TABLE followed_refs(feed INTEGER NOT NULL REFERENCES followed ON DELETE CASCADE, type TEXT NOT NULL, id TEXT NOT NULL, ref TEXT NOT NULL, commit_id TEXT NOT NULL,"
    " owner TEXT NOT NULL, PRIMARY KEY(feed, type, id, ref)) WITHOUT ROWID;"
    "CREATE TABLE followed_due(feed INTEGER NOT NULL REFERENCES followed ON DELETE CASCADE, type TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY(feed, type, id)) WITHOUT ROWID;"
    "CREATE TABLE peers(url TEXT PRIMARY KEY, added_ms INTEGER NOT NULL);",
    "CREATE TABLE account_keys(id INTEGER PRIMARY KEY AUTOINCREMENT, account INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE, name TEXT NOT NULL, text TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL);"
    "CREATE INDEX account_keys_account ON account_keys(account);",
    ("CREATE TABLE repo_meta(repo INTEGER PRIMARY KEY REFERENCES repos ON DELETE CASCADE, sha TEXT NOT NULL, meta TEXT NOT NULL);"
     "CREATE TABLE downloads(repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE, day INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY(repo, day)) WITHOUT ROWID;"
     "CREATE TABLE advisories(id INTEGER PRIMARY KEY AUTOINCREMENT, repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE, rev TEXT NOT NULL, sentence TEXT NOT NULL,"
     " account INTEGER REFERENCES accounts ON DELETE SET NULL, created_ms INTEGER NOT NULL);"
     "CREATE INDEX advisories_repo ON advisories(repo);"),
    ("CREATE TABLE webhooks(id INTEGER PRIMARY KEY AUTOINCREMENT, account INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE, url TEXT NOT NULL, watched TEXT NOT NULL,"
     " domains TEXT NOT NULL, secret TEXT, disabled INTEGER NOT NULL, created_ms INTEGER NOT NULL);"
     "CREATE INDEX webhooks_account ON webhooks(account);"
     "CREATE TABLE deliveries(id INTEGER PRIMARY KEY AUTOINCREMENT, webhook INTEGER NOT NULL REFERENCES webhooks ON DELETE CASCADE, body TEXT NOT NULL,"
     " created_ms INTEGER NOT NULL, due_ms INTEGER NOT NULL, tries INTEGER NOT NULL);"
     "CREATE INDEX deliveries_due ON deliveries(due_ms);"
     "CREATE INDEX deliveries_webhook ON deliveries(webhook);"),
    "CREATE TABLE imports(repo INTEGER PRIMARY KEY REFERENCES repos ON DELETE CASCADE, started_ms INTEGER NOT NULL);",
    /* Reading through (through.c). */
    "ALTER TABLE mirrors ADD COLUMN lazy INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE accounts ADD COLUMN upstream TEXT;"
    "CREATE TABLE through_objects(repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE, oid BLOB NOT NULL, size INTEGER NOT NULL, PRIMARY KEY(repo, oid)) WITHOUT ROWID;"
    "CREATE TABLE through_used(oid BLOB PRIMARY KEY, used_ms INTEGER NOT NULL) WITHOUT ROWID;",
    ("CREATE TABLE forks(repo INTEGER PRIMARY KEY REFERENCES repos ON DELETE CASCADE, source INTEGER REFERENCES repos ON DELETE SET NULL, hub TEXT NOT NULL, id TEXT NOT NULL,"
     " sha TEXT NOT NULL, owner TEXT, was_open INTEGER NOT NULL, created_ms INTEGER NOT NULL);"
     "CREATE INDEX forks_source ON forks(source);"),
    /* Hashes of pieces, and torrents of revisions (torrents.c). */
    "CREATE TABLE torrent_pieces(oid BLOB NOT NULL REFERENCES objects ON DELETE CASCADE, piece_bytes INTEGER NOT NULL, sha1 BLOB NOT NULL, layer BLOB NOT NULL,"
    " PRIMARY KEY(oid, piece_bytes));"
    "CREATE TABLE torrents(repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE, commit_id BLOB NOT NULL, info BLOB NOT NULL, layers BLOB NOT NULL, made_ms INTEGER NOT NULL,"
    " PRIMARY KEY(repo, commit_id));",
    "ALTER TABLE tokens ADD COLUMN scoped INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE token_scopes(token INTEGER NOT NULL REFERENCES tokens ON DELETE CASCADE, account INTEGER REFERENCES accounts ON DELETE CASCADE, repo INTEGER REFERENCES repos ON"
    " DELETE CASCADE, writes INTEGER NOT NULL, CHECK((account IS NULL) <> (repo IS NULL)));"
    "CREATE INDEX token_scopes_token ON token_scopes(token);"
    "CREATE INDEX token_scopes_account ON token_scopes(account);"
    "CREATE INDEX token_scopes_repo ON token_scopes(repo);",
    /* Large files in another store (blobs.c, blobs_s3.c). */
    "CREATE TABLE blob_store(id INTEGER PRIMARY KEY CHECK(id = 1), url TEXT NOT NULL, endpoint TEXT NOT NULL, region TEXT NOT NULL, redirect INTEGER NOT NULL, cache_bytes INTEGER NOT NULL);"
    "CREATE TABLE blobs(kind INTEGER NOT NULL, name TEXT NOT NULL, n_bytes INTEGER NOT NULL, state INTEGER NOT NULL, touched_ms INTEGER NOT NULL, PRIMARY KEY(kind, name)) WITHOUT ROWID;",
    /* Protected branches (protect.c): patterns, a line each. */
    "ALTER TABLE repos ADD COLUMN protected TEXT NOT NULL DEFAULT 'main';"
    "ALTER TABLE repos ADD COLUMN protection TEXT NOT NULL DEFAULT 'default';",
    "ALTER TABLE repos ADD COLUMN protected_tags TEXT NOT NULL DEFAULT '';",
    /* Lists in pages, and what their choices count (pages_list.c). */
    "CREATE INDEX repos_owner ON repos(owner, modified_ms, id);"
    "CREATE INDEX repos_open ON repos(id, type) WHERE NOT private AND NOT disabled;"
    "CREATE INDEX repos_tasks ON repos(type, pipeline_tag) WHERE NOT private AND NOT disabled AND pipeline_tag <> '';"
    "CREATE INDEX repos_libraries ON repos(type, library_name) WHERE NOT private AND NOT disabled AND library_name <> '';",
};

/* A disk that an fsync finds full is an I/O error to SQLite; what the system said is kept with the file, the log's or the database's. */
static bool is_full(sqlite3 *db)
{
    sqlite3_file *files[2] = { NULL, NULL };

    if (!db || (sqlite3_errcode(db) & 0xff) != SQLITE_IOERR)
        return false;
    sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &files[0]);
    sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &files[1]);
    for (int i = 0; i < 2; i++) {
        int error = 0;
        if (files[i] && files[i]->pMethods && files[i]->pMethods->xFileControl(files[i], SQLITE_FCNTL_LAST_ERRNO, &error) == SQLITE_OK && (error == ENOSPC || error == EDQUOT))
            return true;
    }
    return false;
}

static fs_status failed(sqlite3 *db, fs_error *err)
{
    if (is_full(db))
        return fs_fail(err, FS_ERR_IO, "database: %s: %s", sqlite3_errmsg(db), strerror(ENOSPC));
    return fs_fail(err, FS_ERR_IO, "database: %s", db ? sqlite3_errmsg(db) : "out of memory");
}

static fs_status exec(sqlite3 *db, const char *sql, fs_error *err)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? FS_OK : failed(db, err);
}

static fs_status open_one(const char *path, sqlite3 **ret, fs_error *err)
{
    sqlite3 *db = NULL;
    fs_status rc = FS_OK;

    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        rc = fs_fail(err, FS_ERR_IO, "cannot open '%s': %s", path, db ? sqlite3_errmsg(db) : "out of memory");
    if (!rc) {
        sqlite3_busy_timeout(db, 20000);
        sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        rc = exec(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-512;", err);
    }
    if (rc)
        sqlite3_close_v2(db);
    else
        *ret = db;
    return rc;
}

static fs_status upgrade(sqlite3 *db, const char *path, fs_error *err)
{
    int64_t n = 0;
    const int64_t n_known = sizeof versions / sizeof *versions;
    char pragma[64];
    fs_status rc = fs_db_int(db, &n, NULL, err, "PRAGMA user_version", "");

    if (rc || n == n_known) /* nothing to write: the disk may be full */
        return rc;
    rc = fs_db_begin(db, err);
    if (!rc)
        rc = fs_db_int(db, &n, NULL, err, "PRAGMA user_version", "");
    if (!rc && n > n_known)
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "'%s' is of a newer farseek: version %d, this one knows %d", path, (int)n, (int)n_known);
    for (; !rc && n < n_known; n++)
        rc = exec(db, versions[n], err);
    snprintf(pragma, sizeof pragma, "PRAGMA user_version=%d", (int)n_known);
    if (!rc)
        rc = exec(db, pragma, err);
    if (!rc)
        rc = fs_db_commit(db, err);
    if (rc)
        fs_db_rollback(db);
    return rc;
}

fs_status fs_db_pool_open(const char *path, fs_db_pool **ret, fs_error *err)
{
    fs_db_pool *p = calloc(1, sizeof *p);
    sqlite3 *db;
    fs_status rc;

    if (!p || !(p->path = strdup(path))) {
        free(p);
        return fs_fail_memory(err, sizeof *p);
    }
    pthread_mutex_init(&p->lock, NULL);
    rc = open_one(path, &db, err);
    if (!rc) {
        p->idle[p->n_idle++] = db;
        rc = upgrade(db, path, err);
    }
    if (rc)
        fs_db_pool_close(p);
    else
        *ret = p;
    return rc;
}

void fs_db_pool_close(fs_db_pool *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n_idle; i++)
        sqlite3_close_v2(p->idle[i]);
    pthread_mutex_destroy(&p->lock);
    free(p->path);
    free(p);
}

fs_status fs_db_take(fs_db_pool *p, sqlite3 **ret, fs_error *err)
{
    sqlite3 *db = NULL;

    pthread_mutex_lock(&p->lock);
    if (p->n_idle > 0)
        db = p->idle[--p->n_idle];
    pthread_mutex_unlock(&p->lock);
    if (!db)
        return open_one(p->path, ret, err);
    *ret = db;
    return FS_OK;
}

void fs_db_give(fs_db_pool *p, sqlite3 *db)
{
    if (!db)
        return;
    fs_db_rollback(db);
    pthread_mutex_lock(&p->lock);
    if (p->n_idle < IDLE_MAX) {
        p->idle[p->n_idle++] = db;
        db = NULL;
    }
    pthread_mutex_unlock(&p->lock);
    if (db)
        sqlite3_close_v2(db);
}

static fs_status query(sqlite3 *db, sqlite3_stmt **ret, fs_error *err, const char *sql, const char *types, va_list ap)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);

    for (int i = 1; rc == SQLITE_OK && types[i - 1]; i++) {
        if (types[i - 1] == 's') {
            rc = sqlite3_bind_text(st, i, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
        } else if (types[i - 1] == 'b') {
            fs_bytes b = va_arg(ap, fs_bytes);
            rc = sqlite3_bind_blob64(st, i, b.data, b.n_bytes, SQLITE_TRANSIENT);
        } else {
            rc = sqlite3_bind_int64(st, i, va_arg(ap, int64_t));
        }
    }
    if (rc != SQLITE_OK) {
        sqlite3_finalize(st);
        return failed(db, err);
    }
    *ret = st;
    return FS_OK;
}

fs_status fs_db_query(sqlite3 *db, sqlite3_stmt **ret, fs_error *err, const char *sql, const char *types, ...)
{
    va_list ap;
    fs_status rc;

    va_start(ap, types);
    rc = query(db, ret, err, sql, types, ap);
    va_end(ap);
    return rc;
}

bool fs_db_next(sqlite3_stmt *st)
{
    return sqlite3_step(st) == SQLITE_ROW;
}

fs_status fs_db_end(sqlite3_stmt *st, fs_error *err)
{
    sqlite3 *db = st ? sqlite3_db_handle(st) : NULL;

    return sqlite3_finalize(st) == SQLITE_OK ? FS_OK : failed(db, err);
}

fs_status fs_db_run(sqlite3 *db, fs_error *err, const char *sql, const char *types, ...)
{
    sqlite3_stmt *st = NULL;
    va_list ap;
    fs_status rc;

    va_start(ap, types);
    rc = query(db, &st, err, sql, types, ap);
    va_end(ap);
    if (rc)
        return rc;
    while (fs_db_next(st))
        ;
    return fs_db_end(st, err);
}

fs_status fs_db_int(sqlite3 *db, int64_t *ret, bool *ret_found, fs_error *err, const char *sql, const char *types, ...)
{
    sqlite3_stmt *st = NULL;
    va_list ap;
    fs_status rc;
    bool found = false;

    va_start(ap, types);
    rc = query(db, &st, err, sql, types, ap);
    va_end(ap);
    if (rc)
        return rc;
    if (fs_db_next(st)) {
        found = true;
        *ret = sqlite3_column_int64(st, 0);
    }
    if (ret_found)
        *ret_found = found;
    return fs_db_end(st, err);
}

const char *fs_db_text(sqlite3_stmt *st, int column)
{
    const char *text = (const char *)sqlite3_column_text(st, column);

    return text ? text : "";
}

fs_status fs_db_begin(sqlite3 *db, fs_error *err)
{
    return exec(db, "BEGIN IMMEDIATE", err);
}

fs_status fs_db_commit(sqlite3 *db, fs_error *err)
{
    return exec(db, "COMMIT", err);
}

void fs_db_rollback(sqlite3 *db)
{
    if (db && !sqlite3_get_autocommit(db))
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
}

bool fs_db_is_conflict(sqlite3 *db)
{
    int code = sqlite3_extended_errcode(db);

    return code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY;
}
