/* Torrents of revisions. Its name is the commit's id, so that a web seed, ".../resolve/" and that name and a path, is what `resolve` answers; and so that the info hash says what the
 * commit does, whatever the repository is called and whoever serves it.
 *
 * What takes time is hashing, and it is done once: the pieces of a large file are kept by its SHA-256 (a row that goes with the object's), the torrent of a commit with the
 * repository (the last TORRENTS_KEPT). One thread of a low priority does it, a revision after the other; a request waits for a while and is told to come again. */
#include "hub/torrents.h"

#include "base/clock.h"
#include "base/file.h"
#include "crypto/sha256.h"
#include "net/url.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define FILES_MAX     ((size_t)200000)
#define TORRENTS_KEPT 16
#define JOBS_MAX      64
#define WAITING_MAX   16 /* requests, each a worker's thread */
#define WAIT_SECONDS  10

/* ---- making one ---- */

typedef struct item {
    fs_hub_file file;
    fs_piece_hashes pieces;
} item;

typedef struct work {
    fs_hub *hub;
    sqlite3 *db;
    git_repository *git;
    int64_t repo;
    fs_torrent_file *files; /* [n], beside items until they are sorted */
    item *items;
    size_t n, capacity;
    uint64_t done, total;
    const fs_progress *progress;
} work;

static fs_status add_file(void *ud, const char *path, const git_oid *oid, git_object_t type, fs_error *err)
{
    work *w = ud;
    item *x;
    fs_status rc;

    if (type != GIT_OBJECT_BLOB)
        return FS_OK;
    if (w->n == FILES_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "there is no torrent of more than %zu files", FILES_MAX);
    if (w->n == w->capacity) {
        size_t capacity = w->capacity ? 2 * w->capacity : 64;
        fs_torrent_file *files = realloc(w->files, capacity * sizeof *files);
        item *items;
        if (files)
            w->files = files;
        items = files ? realloc(w->items, capacity * sizeof *items) : NULL;
        if (!items)
            return fs_fail_memory(err, capacity * sizeof *items);
        w->items = items;
        w->capacity = capacity;
    }
    x = w->items + w->n;
    memset(x, 0, sizeof *x);
    rc = fs_hub_file_read(w->git, oid, &x->file, err);
    if (!rc && !fs_torrent_path_is_valid(fs_bytes_str(path)))
        rc = fs_fail(err, FS_ERR_FORMAT, "'%.200s' is a path that not every client of BitTorrent can write", path);
    if (!rc && x->file.lfs) {
        bool held = false;
        uint64_t n_bytes = 0;
        rc = fs_hub_object_of(w->hub, w->db, w->repo, x->file.sha256, &held, &n_bytes, err);
        if (!rc && (!held || n_bytes != x->file.n_bytes))
            rc = fs_fail(err, FS_ERR_NOT_FOUND, "'%.200s' is not in this hub: there is a torrent of what is whole", path);
    }
    if (rc)
        return rc;
    w->files[w->n] = (fs_torrent_file){ .path = strdup(path), .n_bytes = x->file.n_bytes };
    if (!w->files[w->n].path)
        return fs_fail_memory(err, strlen(path));
    w->total += x->file.n_bytes;
    w->n++;
    return FS_OK;
}

static bool tell(void *ud, uint64_t done, uint64_t total)
{
    const work *w = ud;

    (void)total;
    return fs_progress_tell(w->progress, w->done + done, w->total, NULL) == FS_OK;
}

/* The pieces of a large file, if they are known. */
static fs_status find_pieces(work *w, fs_bytes oid, uint64_t n_bytes, uint32_t piece_bytes, fs_piece_hashes *ret, fs_error *err)
{
    size_t n = (size_t)fs_torrent_pieces(n_bytes, piece_bytes);
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(w->db, &st, err, "SELECT sha1, layer FROM torrent_pieces WHERE oid = ? AND piece_bytes = ?", "bi", oid, (int64_t)piece_bytes);

    if (rc)
        return rc;
    if (fs_db_next(st) && (size_t)sqlite3_column_bytes(st, 0) == n * FS_PIECES_SHA1 && (size_t)sqlite3_column_bytes(st, 1) == n * FS_PIECES_SHA256) {
        fs_piece_hashes p = { .n = n, .sha1 = malloc(n * FS_PIECES_SHA1 + 1), .layer = malloc(n * FS_PIECES_SHA256 + 1) };
        rc = p.sha1 && p.layer ? FS_OK : fs_fail_memory(err, n * FS_PIECES_SHA256);
        if (!rc && n) {
            memcpy(p.sha1, sqlite3_column_blob(st, 0), n * FS_PIECES_SHA1);
            memcpy(p.layer, sqlite3_column_blob(st, 1), n * FS_PIECES_SHA256);
            memcpy(p.root, p.layer, sizeof p.root);
            if (n > 1)
                rc = fs_piece_hashes_root(p.layer, n, piece_bytes, p.root, err);
        }
        if (rc)
            fs_piece_hashes_done(&p);
        else
            *ret = p;
    }
    return rc ? (fs_db_end(st, NULL), rc) : fs_db_end(st, err);
}

static fs_status hash_large(work *w, const item *x, uint32_t piece_bytes, fs_piece_hashes *ret, fs_error *err)
{
    uint8_t oid[32];
    fs_bytes key = { oid, sizeof oid };
    fs_map map = { 0 };
    fs_status rc;

    if (!fs_hex_read(fs_bytes_str(x->file.sha256), oid, sizeof oid))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.80s' is no SHA-256", x->file.sha256);
    rc = find_pieces(w, key, x->file.n_bytes, piece_bytes, ret, err);
    if (rc || ret->sha1)
        return rc;
    rc = fs_hub_object_map(w->hub, x->file.sha256, &map, err);
    if (!rc && map.bytes.n_bytes != x->file.n_bytes)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "the object %s has %zu bytes, not %llu", x->file.sha256, map.bytes.n_bytes, (unsigned long long)x->file.n_bytes);
    if (!rc)
        rc = fs_piece_hashes_of(map.bytes, piece_bytes, true, &(fs_progress){ tell, w }, ret, err);
    fs_map_close(&map);
    if (!rc)
        rc = fs_db_run(w->db, err, "INSERT OR REPLACE INTO torrent_pieces(oid, piece_bytes, sha1, layer) VALUES(?, ?, ?, ?)", "bibb", key, (int64_t)piece_bytes,
                       (fs_bytes){ ret->sha1, ret->n * FS_PIECES_SHA1 }, (fs_bytes){ ret->layer, ret->n * FS_PIECES_SHA256 });
    return rc;
}

static fs_status hash_small(work *w, const item *x, uint32_t piece_bytes, fs_piece_hashes *ret, fs_error *err)
{
    git_blob *blob = NULL;
    fs_status rc;

    if (git_blob_lookup(&blob, w->git, &x->file.oid) != 0)
        return fs_hub_git_fail(err, "cannot read a file");
    rc = fs_piece_hashes_of((fs_bytes){ git_blob_rawcontent(blob), (size_t)git_blob_rawsize(blob) }, piece_bytes, false, &(fs_progress){ tell, w }, ret, err);
    git_blob_free(blob);
    return rc;
}

static fs_status hash_all(work *w, uint32_t piece_bytes, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < w->n && !rc; i++) {
        item *x = w->items + i;
        rc = x->file.lfs ? hash_large(w, x, piece_bytes, &x->pieces, err) : hash_small(w, x, piece_bytes, &x->pieces, err);
        if (rc)
            break;
        w->done += x->file.n_bytes;
        w->files[i].sha1 = x->pieces.sha1;
        w->files[i].layer = x->pieces.layer;
        w->files[i].root = x->file.n_bytes ? x->pieces.root : NULL;
    }
    return rc;
}

static fs_status keep(work *w, const git_oid *commit, fs_bytes info, fs_bytes layers, fs_error *err)
{
    fs_status rc = fs_db_begin(w->db, err);

    if (!rc)
        rc = fs_db_run(w->db, err, "INSERT OR REPLACE INTO torrents(repo, commit_id, info, layers, made_ms) VALUES(?, ?, ?, ?, ?)", "ibbbi", w->repo,
                       (fs_bytes){ commit->id, GIT_OID_RAWSZ }, info, layers, fs_unix_ms());
    if (!rc)
        rc = fs_db_run(w->db, err,
                       "DELETE FROM torrents WHERE repo = ?1 AND commit_id NOT IN (SELECT commit_id FROM torrents WHERE repo = ?1 ORDER BY made_ms DESC, rowid DESC LIMIT ?2)", "ii",
                       w->repo, (int64_t)TORRENTS_KEPT);
    if (!rc)
        rc = fs_db_commit(w->db, err);
    if (rc)
        fs_db_rollback(w->db);
    return rc;
}

/* Makes the commit's torrent and keeps it. */
static fs_status make(fs_hub *h, sqlite3 *db, git_repository *git, int64_t repo, const git_oid *commit, const fs_progress *progress, fs_error *err)
{
    work w = { .hub = h, .db = db, .git = git, .repo = repo, .progress = progress };
    char name[GIT_OID_HEXSZ + 1];
    fs_buf info = { 0 }, layers = { 0 };
    uint32_t piece_bytes = 0;
    git_oid tree;
    fs_status rc = fs_hub_commit_tree(git, commit, &tree, err);

    git_oid_tostr(name, sizeof name, commit);
    if (!rc)
        rc = fs_hub_walk(git, &tree, "", true, add_file, &w, err);
    if (!rc && w.total == 0)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "this revision has no file with anything in it, and so no torrent");
    if (!rc) {
        piece_bytes = fs_torrent_piece_bytes(w.files, w.n);
        rc = hash_all(&w, piece_bytes, err);
    }
    if (!rc)
        rc = fs_torrent_write_info(name, piece_bytes, w.files, w.n, &info, &layers, err);
    if (!rc)
        rc = keep(&w, commit, fs_buf_bytes(&info), fs_buf_bytes(&layers), err);
    for (size_t i = 0; i < w.n; i++) {
        free(w.files[i].path);
        fs_piece_hashes_done(&w.items[i].pieces);
    }
    free(w.files);
    free(w.items);
    fs_buf_done(&info);
    fs_buf_done(&layers);
    return rc;
}

/* ---- the thread ---- */

typedef struct job {
    int64_t repo;
    git_oid commit;
    int n_refs; /* the list's, and who waits */
    bool ended;
    fs_status rc;
    fs_error err;
    uint64_t done, total;
} job;

struct fs_torrents {
    fs_hub *hub;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool started, stopping;
    job *jobs[JOBS_MAX]; /* the first is at work */
    size_t n_jobs;
    int n_waiting;
};

fs_torrents *fs_torrents_new(fs_hub *h)
{
    fs_torrents *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    t->hub = h;
    pthread_mutex_init(&t->lock, NULL);
    fs_cond_init(&t->changed);
    return t;
}

void fs_torrents_stop(fs_torrents *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->stopping = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

/* Under the lock. */
static void unref(job *j)
{
    if (--j->n_refs == 0)
        free(j);
}

void fs_torrents_free(fs_torrents *t)
{
    if (!t)
        return;
    fs_torrents_stop(t);
    if (t->started)
        pthread_join(t->thread, NULL);
    for (size_t i = 0; i < t->n_jobs; i++)
        unref(t->jobs[i]);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

typedef struct at_work {
    fs_torrents *torrents;
    job *job;
} at_work;

static bool go_on(void *ud, uint64_t done, uint64_t total)
{
    at_work *a = ud;
    bool go;

    pthread_mutex_lock(&a->torrents->lock);
    a->job->done = done;
    a->job->total = total;
    go = !a->torrents->stopping;
    pthread_mutex_unlock(&a->torrents->lock);
    return go;
}

static fs_status open_git(fs_hub *h, sqlite3 *db, int64_t repo, git_repository **ret, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    char folder[40] = "", path[512];
    fs_status rc = fs_db_query(db, &st, err, "SELECT folder FROM repos WHERE id = ?", "i", repo);

    if (rc)
        return rc;
    if (fs_db_next(st))
        snprintf(folder, sizeof folder, "%s", fs_db_text(st, 0));
    rc = fs_db_end(st, err);
    if (!rc && !*folder)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "the repository is not there any more");
    if (!rc)
        rc = fs_hub_repo_path(h, folder, path, err);
    if (!rc && git_repository_open_ext(ret, path, GIT_REPOSITORY_OPEN_NO_SEARCH | GIT_REPOSITORY_OPEN_BARE | GIT_REPOSITORY_OPEN_NO_DOTGIT, NULL) != 0)
        rc = fs_hub_git_fail(err, "cannot open the repository");
    return rc;
}

static void *run(void *ud)
{
    fs_torrents *t = ud;

    setpriority(PRIO_PROCESS, (id_t)gettid(), 10); /* of this thread alone, on Linux */
    pthread_mutex_lock(&t->lock);
    while (!t->stopping) {
        job *j = t->n_jobs ? t->jobs[0] : NULL;
        sqlite3 *db = NULL;
        git_repository *git = NULL;
        fs_error err = { 0 };
        fs_status rc;
        if (!j) {
            pthread_cond_wait(&t->changed, &t->lock);
            continue;
        }
        pthread_mutex_unlock(&t->lock);
        rc = fs_db_take(t->hub->db, &db, &err);
        if (!rc)
            rc = open_git(t->hub, db, j->repo, &git, &err);
        if (!rc)
            rc = make(t->hub, db, git, j->repo, &j->commit, &(fs_progress){ go_on, &(at_work){ t, j } }, &err);
        git_repository_free(git);
        fs_db_give(t->hub->db, db);
        pthread_mutex_lock(&t->lock);
        j->ended = true;
        j->rc = rc;
        j->err = err;
        memmove(t->jobs, t->jobs + 1, --t->n_jobs * sizeof *t->jobs);
        unref(j);
        pthread_cond_broadcast(&t->changed);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* The job of that revision, a new one if there is none; NULL: there is no room. Under the lock. */
static job *find_job(fs_torrents *t, int64_t repo, const git_oid *commit)
{
    job *j;

    for (size_t i = 0; i < t->n_jobs; i++)
        if (t->jobs[i]->repo == repo && git_oid_equal(&t->jobs[i]->commit, commit))
            return t->jobs[i];
    if (t->n_jobs == JOBS_MAX || t->stopping || !(j = calloc(1, sizeof *j)))
        return NULL;
    if (!t->started && pthread_create(&t->thread, NULL, run, t) != 0) {
        free(j);
        return NULL;
    }
    t->started = true;
    *j = (job){ .repo = repo, .commit = *commit, .n_refs = 1 };
    t->jobs[t->n_jobs++] = j;
    pthread_cond_broadcast(&t->changed);
    return j;
}

/* Waits for the revision's torrent to be made; false after a reply. */
static bool need_made(fs_hub_call *c, const git_oid *commit)
{
    fs_torrents *t = c->hub->torrents;
    double end = fs_seconds_now() + WAIT_SECONDS;
    bool ended = false;
    uint64_t done = 0, total = 0;
    fs_status rc = FS_OK;
    job *j;

    pthread_mutex_lock(&t->lock);
    j = find_job(t, c->repo.id, commit);
    if (j) {
        bool waits = t->n_waiting < WAITING_MAX;
        j->n_refs++;
        t->n_waiting += waits;
        while (waits && !j->ended && !t->stopping && fs_cond_wait_until(&t->changed, &t->lock, end))
            ;
        t->n_waiting -= waits;
        ended = j->ended && !t->stopping;
        rc = j->rc;
        if (rc && ended)
            c->err = j->err;
        done = j->done;
        total = j->total;
        unref(j);
    }
    pthread_mutex_unlock(&t->lock);
    if (ended)
        return !fs_hub_failed(c, rc);
    fs_http_reply_header(c->http, "Retry-After", "5");
    if (j)
        fs_hub_error(c, 503, NULL, "The torrent is being made: %.1f of %.1f MB are hashed. Ask again.", (double)done * 1e-6, (double)total * 1e-6);
    else
        fs_hub_error(c, 503, NULL, "Too many torrents are being made. Ask again.");
    return false;
}

/* ---- the answer ---- */

static fs_status find(sqlite3 *db, int64_t repo, const git_oid *commit, bool is_private, const char *const *urls, size_t n_urls, fs_buf *ret, bool *ret_found, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(db, &st, err, "SELECT info, layers FROM torrents WHERE repo = ? AND commit_id = ?", "ib", repo, (fs_bytes){ commit->id, GIT_OID_RAWSZ });

    *ret_found = false;
    if (rc)
        return rc;
    if (fs_db_next(st)) {
        fs_bytes info = { sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0) }, layers = { sqlite3_column_blob(st, 1), (size_t)sqlite3_column_bytes(st, 1) };
        *ret_found = info.n_bytes > 1;
        if (*ret_found)
            rc = fs_torrent_write(info, layers, is_private, urls, n_urls, ret, err);
    }
    return rc ? (fs_db_end(st, NULL), rc) : fs_db_end(st, err);
}

/* This hub's, and of a copy that everybody may read the one's that it is a copy from. */
static fs_status find_urls(sqlite3 *db, const fs_hub_repo *r, const char *base, fs_buf ret[2], size_t *ret_n, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_buf_printf(ret, err, "%s/%s%s/%s/resolve/", base, fs_hub_type_prefix(r->type), r->owner_name, r->name);

    *ret_n = 1;
    if (rc || !*r->mirror || r->private || *r->gated)
        return rc;
    rc = fs_db_query(db, &st, err, "SELECT url, id FROM mirrors WHERE repo = ? AND NOT lazy", "i", r->id);
    if (rc)
        return rc;
    if (fs_db_next(st) && !strchr(fs_db_text(st, 0), '@')) { /* who is asked with a name and a password is nobody's business */
        rc = fs_buf_printf(ret + 1, err, "%s/%s%s/resolve/", fs_db_text(st, 0), fs_hub_type_prefix(r->type), fs_db_text(st, 1));
        *ret_n = 2;
    }
    return rc ? (fs_db_end(st, NULL), rc) : fs_db_end(st, err);
}

/* FS_OK and *ret_found false: it is to be made. */
static fs_status write_torrent(sqlite3 *db, const fs_hub_repo *r, const git_oid *commit, const char *base, fs_buf *ret, bool *ret_found, fs_error *err)
{
    fs_buf urls[2] = { { 0 } };
    size_t n = 0;
    fs_status rc = find_urls(db, r, base, urls, &n, err);

    if (!rc)
        rc = find(db, r->id, commit, r->private || *r->gated, (const char *const[]){ urls[0].data, urls[1].data }, n, ret, ret_found, err);
    fs_buf_done(urls);
    fs_buf_done(urls + 1);
    return rc;
}

void fs_hub_torrent(fs_hub_call *c)
{
    const char *rev = fs_http_param(c->http, fs_http_n_params(c->http) - 1);
    char hex[GIT_OID_HEXSZ + 1];
    fs_buf text = { 0 };
    bool found = false;
    git_oid commit;

    if (!fs_hub_need_repo_path(c, 1, FS_HUB_READ) || !fs_hub_need_open(c) || !fs_hub_need_rev(c, rev, &commit, NULL) ||
        fs_hub_failed(c, write_torrent(c->db, &c->repo, &commit, c->base, &text, &found, &c->err)) ||
        (!found && (!need_made(c, &commit) || fs_hub_failed(c, write_torrent(c->db, &c->repo, &commit, c->base, &text, &found, &c->err)))))
        return;
    if (!found) {
        fs_hub_error(c, 503, NULL, "The torrent went again. Ask again.");
        return;
    }
    git_oid_tostr(hex, sizeof hex, &commit);
    fs_http_reply_header(c->http, "X-Repo-Commit", hex);
    fs_http_reply_headerf(c->http, "Content-Disposition", "attachment; filename=\"%s-%s-%.12s.torrent\"", c->repo.owner_name, c->repo.name, hex);
    fs_http_reply_header(c->http, "X-Content-Type-Options", "nosniff");
    c->replied = true;
    fs_http_reply_buf(c->http, 200, "application/x-bittorrent", &text);
    fs_buf_done(&text);
}

bool fs_torrent_is_padding(const char *path, uint64_t *ret_bytes)
{
    uint64_t n = 0;

    if (strncmp(path, ".pad", 4) != 0)
        return false;
    path += 4 + strspn(path + 4, "_");
    if (*path != '/' || path[1] < '1' || path[1] > '9' || strlen(path) > 9)
        return false;
    for (path++; *path >= '0' && *path <= '9'; path++)
        n = n * 10 + (uint64_t)(*path - '0');
    *ret_bytes = n;
    return !*path && n < FS_PIECES_BYTES_MAX;
}

/* ---- by hand ---- */

static fs_status find_repo(sqlite3 *db, const char *type, const char *id, fs_hub_repo *ret, fs_error *err)
{
    const char *slash = strchr(id, '/');
    char owner[97];
    sqlite3_stmt *st = NULL;
    bool found = false;
    fs_status rc;

    if (!slash || (size_t)(slash - id) >= sizeof owner)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' is no repository: wanted ORG/NAME", id);
    snprintf(owner, sizeof owner, "%.*s", (int)(slash - id), id);
    rc = fs_db_query(db, &st, err, "SELECT " FS_HUB_REPO_COLUMNS FS_HUB_REPO_TABLES "WHERE r.type = ? AND a.name = ? AND r.name = ?", "sss", type, owner, slash + 1);
    if (rc)
        return rc;
    found = fs_db_next(st);
    if (found)
        fs_hub_repo_read(st, ret);
    rc = fs_db_end(st, err);
    return rc || found ? rc : fs_fail(err, FS_ERR_NOT_FOUND, "there is no '%.200s' in %s", id, type);
}

fs_status fs_hub_torrent_make(fs_hub *h, const char *type, const char *id, const char *rev, const fs_progress *progress, fs_buf *ret, fs_hub_torrent_result *ret_result, fs_error *err)
{
    fs_hub_repo r = { 0 };
    git_repository *git = NULL;
    sqlite3 *db = NULL;
    fs_torrent t = { 0 };
    bool found = false;
    git_oid commit;
    fs_status rc = fs_db_take(h->db, &db, err);

    if (!rc)
        rc = find_repo(db, type, id, &r, err);
    if (!rc)
        rc = open_git(h, db, r.id, &git, err);
    if (!rc)
        rc = fs_hub_rev_find(git, rev, &commit, NULL, err);
    if (!rc)
        rc = write_torrent(db, &r, &commit, h->options.url, ret, &found, err);
    if (!rc && !found) {
        rc = make(h, db, git, r.id, &commit, progress, err);
        if (!rc)
            rc = write_torrent(db, &r, &commit, h->options.url, ret, &found, err);
    }
    if (!rc && !found)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "the torrent went again");
    if (!rc)
        rc = fs_torrent_read(fs_buf_bytes(ret), &t, err); /* held to itself before anybody has it */
    if (!rc) {
        *ret_result = (fs_hub_torrent_result){ .n_files = t.n, .piece_bytes = t.piece_bytes };
        fs_hex(t.v1, sizeof t.v1, ret_result->v1);
        fs_hex(t.v2, sizeof t.v2, ret_result->v2);
        git_oid_tostr(ret_result->commit, sizeof ret_result->commit, &commit);
        for (size_t i = 0; i < t.n; i++)
            ret_result->n_bytes += t.files[i].n_bytes;
    }
    fs_torrent_done(&t);
    git_repository_free(git);
    fs_db_give(h->db, db);
    return rc;
}
