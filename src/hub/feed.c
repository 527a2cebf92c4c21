/* See the header. */
#include "hub/feed.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "crypto/sha256.h"
#include "net/url.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH_REPOS      100 /* marked repositories that one transaction looks at */
#define WAIT_SECONDS_MAX 25
#define WAITING_MAX      24 /* requests that may wait for something new, of the 128 at a time */
#define LOOK_MS          200

fs_status fs_hub_feed_mark(sqlite3 *db, int64_t repo, fs_error *err)
{
    return fs_db_run(db, err, "INSERT OR IGNORE INTO feed_marks(repo) VALUES(?)", "i", repo);
}

fs_status fs_hub_feed_hash(const fs_hub *h, sqlite3 *db, int64_t seq, fs_refs_head *ret, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_status rc;

    *ret = (fs_refs_head){ .seq = 0 };
    rc = fs_refs_first_hash(fs_ed25519_public(&h->key), ret->hash, err);
    if (!rc && seq < 0)
        rc = fs_db_query(db, &st, err, "SELECT seq, hash FROM feed ORDER BY seq DESC LIMIT 1", "");
    else if (!rc)
        rc = fs_db_query(db, &st, err, "SELECT seq, hash FROM feed WHERE seq = min(?, (SELECT coalesce(max(seq), 0) FROM feed))", "i", seq);
    if (rc)
        return rc;
    if (fs_db_next(st) && sqlite3_column_bytes(st, 1) == 32) {
        ret->seq = (uint64_t)sqlite3_column_int64(st, 0);
        memcpy(ret->hash, sqlite3_column_blob(st, 1), 32);
    }
    return fs_db_end(st, err);
}

fs_status fs_hub_feed_lines(sqlite3 *db, int64_t seq, int64_t n_max, fs_buf *out, int64_t *ret_n, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(db, &st, err, "SELECT line FROM feed WHERE seq > ? ORDER BY seq LIMIT ?", "ii", seq, n_max);

    *ret_n = 0;
    if (rc)
        return rc;
    while (!rc && fs_db_next(st)) {
        rc = fs_buf_printf(out, err, "%s\n", fs_db_text(st, 0));
        ++*ret_n;
    }
    if (rc) {
        fs_db_end(st, NULL);
        return rc;
    }
    return fs_db_end(st, err);
}

/* ---- the log ---- */

typedef struct updating {
    fs_hub *hub;
    sqlite3 *db;
    fs_refs_head head;
    int64_t now, repo;
    char type[16], id[200], owner[65];
    git_repository *git;
    fs_error *err;
    fs_status rc;
} updating;

static fs_status add_entry(updating *u, const char *type, const char *id, const char *ref, const char *old, const char *new, const char *owner)
{
    fs_refs_entry e = { .seq = u->head.seq + 1, .time_ms = u->now };
    fs_buf line = { 0 };
    fs_status rc;

    snprintf(e.type, sizeof e.type, "%s", type);
    snprintf(e.repo, sizeof e.repo, "%s", id);
    snprintf(e.ref, sizeof e.ref, "%s", ref);
    snprintf(e.old, sizeof e.old, "%s", old);
    snprintf(e.new, sizeof e.new, "%s", new);
    snprintf(e.owner, sizeof e.owner, "%s", owner);
    rc = fs_refs_entry_write(&e, &line, u->err);
    if (!rc)
        rc = fs_refs_next_hash(u->head.hash, fs_buf_bytes(&line), u->head.hash, u->err);
    if (!rc)
        rc = fs_db_run(u->db, u->err, "INSERT INTO feed(seq, line, hash) VALUES(?, ?, ?)", "isb", (int64_t)e.seq, line.data, (fs_bytes){ u->head.hash, 32 });
    if (!rc)
        u->head.seq = e.seq;
    fs_buf_done(&line);
    return rc;
}

/* Takes back what was published of the repository under another name than now, and refs that were not seen now. */
static fs_status withdraw(updating *u)
{
#define WITHDRAWN "FROM feed_refs WHERE repo = ?1 AND (type <> ?2 OR id <> ?3 OR NOT seen)"
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(u->db, &st, u->err, "SELECT type, id, ref, commit_id, owner " WITHDRAWN " ORDER BY ref", "iss", u->repo, u->type, u->id);

    if (rc)
        return rc;
    while (!rc && fs_db_next(st))
        rc = add_entry(u, fs_db_text(st, 0), fs_db_text(st, 1), fs_db_text(st, 2), fs_db_text(st, 3), FS_REFS_NO_COMMIT, fs_db_text(st, 4));
    if (rc) {
        fs_db_end(st, NULL);
        return rc;
    }
    rc = fs_db_end(st, u->err);
    return rc ? rc : fs_db_run(u->db, u->err, "DELETE " WITHDRAWN, "iss", u->repo, u->type, u->id);
}

static bool is_published(const char *ref)
{
    return (strncmp(ref, "refs/heads/", 11) == 0 || strncmp(ref, "refs/tags/", 10) == 0 || strncmp(ref, "refs/pr/", 8) == 0) && strlen(ref) < sizeof((fs_refs_entry *)0)->ref &&
           fs_utf8_valid(fs_bytes_str(ref));
}

static fs_status publish_ref(updating *u, const char *ref, const char *hex)
{
    sqlite3_stmt *st = NULL;
    char old[41] = FS_REFS_NO_COMMIT;
    fs_status rc = fs_db_query(u->db, &st, u->err, "SELECT commit_id FROM feed_refs WHERE repo = ? AND ref = ?", "is", u->repo, ref);

    if (rc)
        return rc;
    if (fs_db_next(st))
        snprintf(old, sizeof old, "%s", fs_db_text(st, 0));
    rc = fs_db_end(st, u->err);
    if (!rc && strcmp(old, hex) != 0)
        rc = add_entry(u, u->type, u->id, ref, old, hex, u->owner);
    if (!rc)
        rc = fs_db_run(u->db, u->err, "INSERT OR REPLACE INTO feed_refs(repo, ref, type, id, commit_id, owner, seen) VALUES(?, ?, ?, ?, ?, ?, 1)", "isssss", u->repo, ref, u->type, u->id,
                       hex, u->owner);
    return rc;
}

static int each_ref(const char *ref, void *ud)
{
    updating *u = ud;
    git_oid oid;
    char hex[GIT_OID_HEXSZ + 1];

    if (!is_published(ref) || git_reference_name_to_id(&oid, u->git, ref) != 0)
        return 0;
    git_oid_tostr(hex, sizeof hex, &oid);
    u->rc = publish_ref(u, ref, hex);
    return u->rc ? -1 : 0;
}

/* What the repository's refs say now. */
static fs_status publish(updating *u, const char *folder)
{
    char path[512];
    fs_status rc = fs_hub_repo_path(u->hub, folder, path, u->err);

    if (rc)
        return rc;
    if (git_repository_open_ext(&u->git, path, GIT_REPOSITORY_OPEN_NO_SEARCH | GIT_REPOSITORY_OPEN_BARE | GIT_REPOSITORY_OPEN_NO_DOTGIT, NULL) != 0)
        return FS_OK; /* removed just now, or broken: then the feed says what it said */
    rc = fs_db_run(u->db, u->err, "UPDATE feed_refs SET seen = 0 WHERE repo = ?", "i", u->repo);
    if (!rc) {
        int walked = git_reference_foreach_name(u->git, each_ref, u);
        rc = u->rc ? u->rc : walked != 0 ? fs_hub_git_fail(u->err, "cannot list refs") : FS_OK;
    }
    git_repository_free(u->git);
    u->git = NULL;
    return rc ? rc : withdraw(u);
}

static fs_status update_repo(updating *u)
{
    sqlite3_stmt *st = NULL;
    char folder[40] = "";
    fs_status rc = fs_db_query(u->db, &st, u->err,
                               "SELECT r.type, a.name || '/' || r.name, r.folder, coalesce(m.owner, '') FROM repos r JOIN accounts a ON a.id = r.owner LEFT JOIN mirrors m ON m.repo = r.id "
                               "WHERE r.id = ? AND NOT coalesce(m.lazy, 0) AND " FS_HUB_REPO_IS_OPEN, /* what was read through is on loan */
                               "i", u->repo);

    if (rc)
        return rc;
    u->type[0] = u->id[0] = 0;
    if (fs_db_next(st)) {
        snprintf(u->type, sizeof u->type, "%s", fs_db_text(st, 0));
        snprintf(u->id, sizeof u->id, "%s", fs_db_text(st, 1));
        snprintf(folder, sizeof folder, "%s", fs_db_text(st, 2));
        snprintf(u->owner, sizeof u->owner, "%s", fs_db_text(st, 3));
    }
    rc = fs_db_end(st, u->err);
    if (!*u->owner)
        fs_hex(fs_ed25519_public(&u->hub->key), 32, u->owner);
    if (!rc)
        rc = withdraw(u); /* all of it, where it is not for everybody now */
    return rc || !*folder ? rc : publish(u, folder);
}

static fs_status update_some(fs_hub *h, sqlite3 *db, bool *ret_more, fs_error *err)
{
    updating u = { .hub = h, .db = db, .now = fs_unix_ms(), .err = err };
    int64_t marked[BATCH_REPOS];
    int n = 0;
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_begin(db, err);

    if (!rc)
        rc = fs_hub_feed_hash(h, db, -1, &u.head, err);
    if (!rc)
        rc = fs_db_query(db, &st, err, "SELECT repo FROM feed_marks ORDER BY repo LIMIT ?", "i", (int64_t)BATCH_REPOS);
    while (!rc && n < BATCH_REPOS && fs_db_next(st))
        marked[n++] = sqlite3_column_int64(st, 0);
    if (st)
        rc = fs_db_end(st, err);
    for (int i = 0; i < n && !rc; i++) { /* a mark made from here on waits for the end of the transaction, and comes after it */
        u.repo = marked[i];
        rc = update_repo(&u);
        if (!rc)
            rc = fs_db_run(db, err, "DELETE FROM feed_marks WHERE repo = ?", "i", u.repo);
    }
    if (!rc)
        rc = fs_db_commit(db, err);
    if (rc)
        fs_db_rollback(db);
    *ret_more = n == BATCH_REPOS;
    return rc;
}

fs_status fs_hub_feed_update(fs_hub *h, sqlite3 *db, fs_error *err)
{
    int64_t any = 0;
    bool more = true;
    fs_status rc = FS_OK;

    pthread_mutex_lock(&h->feed.lock);
    if (!h->feed.looked) /* what moved and was not marked when the last server was killed */
        rc = fs_db_run(db, err, "INSERT OR IGNORE INTO feed_marks(repo) SELECT r.id FROM repos r WHERE " FS_HUB_REPO_IS_OPEN " UNION SELECT repo FROM feed_refs", "");
    h->feed.looked |= !rc;
    if (!rc)
        rc = fs_db_int(db, &any, NULL, err, "SELECT count(*) FROM (SELECT 1 FROM feed_marks LIMIT 1)", "");
    while (!rc && any && more)
        rc = update_some(h, db, &more, err);
    pthread_mutex_unlock(&h->feed.lock);
    return rc;
}

/* ---- over HTTP ---- */

/* A number of the query; false after a 400. */
static bool need_number(fs_hub_call *c, const char *name, int64_t max, int64_t *value)
{
    const char *text = fs_http_query(c->http, name, 0);
    char *end;

    if (!text)
        return true;
    *value = strtoll(text, &end, 10);
    if (!*text || *end || *value < 0 || *value > max) {
        fs_hub_error(c, 400, NULL, "%s is a number from 0 to %lld", name, (long long)max);
        return false;
    }
    return true;
}

static fs_status page(fs_hub_call *c, int64_t since, int64_t limit, fs_buf *out, int64_t *ret_n)
{
    fs_refs_head head;
    fs_status rc = fs_hub_feed_update(c->hub, c->db, &c->err);

    if (!rc)
        rc = fs_hub_feed_lines(c->db, since, limit, out, ret_n, &c->err);
    if (!rc)
        rc = fs_hub_feed_hash(c->hub, c->db, since + *ret_n, &head, &c->err);
    if (!rc) {
        head.time_ms = fs_unix_ms();
        fs_refs_head_sign(&head, &c->hub->key);
        rc = fs_refs_head_write(&head, out, &c->err);
    }
    return rc ? rc : fs_buf_append(out, "\n", 1, &c->err);
}

/* Whether one more may wait. */
static bool begin_waiting(fs_hub *h)
{
    bool may;

    pthread_mutex_lock(&h->feed.lock);
    may = h->feed.n_waiting < WAITING_MAX;
    h->feed.n_waiting += may;
    pthread_mutex_unlock(&h->feed.lock);
    return may;
}

static void end_waiting(fs_hub *h)
{
    pthread_mutex_lock(&h->feed.lock);
    h->feed.n_waiting--;
    pthread_mutex_unlock(&h->feed.lock);
}

/* Until something is marked or there is an entry behind since. */
static void wait_for_more(fs_hub_call *c, int64_t since, int64_t seconds)
{
    double until = fs_seconds_now() + (double)seconds;

    while (fs_seconds_now() < until && !c->hub->stopping) {
        int64_t any = 0;
        nanosleep(&(struct timespec){ .tv_nsec = LOOK_MS * 1000000L }, NULL);
        if (fs_db_int(c->db, &any, NULL, &c->err, "SELECT EXISTS(SELECT 1 FROM feed_marks) OR EXISTS(SELECT 1 FROM feed WHERE seq > ?)", "i", since) || any)
            return;
    }
}

static void reply_feed(fs_hub_call *c)
{
    int64_t since = 0, limit = FS_REFS_PAGE_MAX, wait = 0, n = 0;
    fs_buf out = { 0 };
    fs_status rc;

    if (!need_number(c, "since", INT64_MAX / 2, &since) || !need_number(c, "limit", FS_REFS_PAGE_MAX, &limit) || !need_number(c, "wait", 3600, &wait))
        return;
    rc = page(c, since, limit, &out, &n);
    if (!rc && n == 0 && limit > 0 && wait > 0 && begin_waiting(c->hub)) {
        wait_for_more(c, since, wait < WAIT_SECONDS_MAX ? wait : WAIT_SECONDS_MAX);
        end_waiting(c->hub);
        fs_buf_clear(&out);
        rc = page(c, since, limit, &out, &n);
    }
    if (!fs_hub_failed(c, rc)) {
        c->replied = true;
        fs_http_reply_header(c->http, "Cache-Control", "no-store");
        fs_http_reply_buf(c->http, 200, "application/x-ndjson", &out);
    }
    fs_buf_done(&out);
}

static void reply_key(fs_hub_call *c)
{
    char key[65];
    fs_emit e = { 0 };

    fs_hex(fs_ed25519_public(&c->hub->key), 32, key);
    fs_emit_begin(&e, '{');
    fs_emit_str(&e, "key", key);
    fs_emit_end(&e, '}');
    fs_hub_reply(c, 200, &e);
    fs_emit_done(&e);
}

/* What this hub has seen of others' feeds, for peers to hold against what they saw: heads as they were signed. */
static void reply_heads(fs_hub_call *c)
{
    fs_buf out = { 0 };
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(c->db, &st, &c->err, "SELECT head FROM followed WHERE head <> '' ORDER BY head_ms DESC LIMIT 1000", "");

    while (!rc && fs_db_next(st))
        rc = fs_buf_printf(&out, &c->err, "%s\n", fs_db_text(st, 0));
    if (st && rc)
        fs_db_end(st, NULL);
    else if (st)
        rc = fs_db_end(st, &c->err);
    if (!fs_hub_failed(c, rc)) {
        c->replied = true;
        fs_http_reply_header(c->http, "Cache-Control", "no-store");
        fs_http_reply_buf(c->http, 200, "application/x-ndjson", &out);
    }
    fs_buf_done(&out);
}

void fs_hub_well_known(fs_hub_call *c)
{
    const char *what = fs_http_param(c->http, 0);

    if (strcmp(what, "refs") == 0)
        reply_feed(c);
    else if (strcmp(what, "key") == 0)
        reply_key(c);
    else if (strcmp(what, "heads") == 0)
        reply_heads(c);
    else if (strcmp(what, "peers") == 0)
        fs_hub_reply_peers(c);
    else
        fs_hub_not_here(c);
}
