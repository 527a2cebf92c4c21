/* Downloads counted: of a model, requests for the one file that every client of it fetches, of others, for any; the same client within five minutes
 * counts once. Counts are written every few seconds, so that a request waits for no disk: what a kill takes is the last of them. */
#include "hub/internal.h"

#include "net/url.h"

#include <stdlib.h>
#include <string.h>

#define SAME_MS     (5 * 60 * 1000)
#define FLUSH_MS    2000
#define SEEN        ((size_t)1 << 14) /* clients remembered; one that is forgotten counts again */
#define PENDING_MAX 256
#define DAY_MS      ((int64_t)24 * 3600 * 1000)

struct fs_hub_downloads {
    pthread_mutex_t lock;
    struct {
        uint64_t who;
        int64_t at_ms;
    } seen[SEEN];
    struct {
        int64_t repo, day, n;
    } pending[PENDING_MAX];
    size_t n_pending;
    int64_t flushed_ms;
};

fs_hub_downloads *fs_hub_downloads_new(void)
{
    fs_hub_downloads *d = calloc(1, sizeof *d);

    if (d)
        pthread_mutex_init(&d->lock, NULL);
    return d;
}

/* Writes what is pending; the month's sum of each. Under the lock. */
static void flush(fs_hub_downloads *d, sqlite3 *db)
{
    int64_t since = fs_unix_ms() / DAY_MS - 30;
    fs_status rc = d->n_pending ? fs_db_begin(db, NULL) : FS_OK;

    for (size_t i = 0; i < d->n_pending && !rc; i++) {
        rc = fs_db_run(db, NULL, "INSERT INTO downloads(repo, day, n) SELECT id, ?2, ?3 FROM repos WHERE id = ?1 ON CONFLICT DO UPDATE SET n = n + ?3", "iii", d->pending[i].repo,
                       d->pending[i].day, d->pending[i].n);
        if (!rc)
            rc = fs_db_run(db, NULL, "UPDATE repos SET downloads = (SELECT coalesce(sum(n), 0) FROM downloads WHERE repo = ?1 AND day > ?2) WHERE id = ?1", "ii",
                           d->pending[i].repo, since);
    }
    if (!rc && d->n_pending)
        rc = fs_db_commit(db, NULL);
    if (rc)
        fs_db_rollback(db);
    else
        d->n_pending = 0; /* else they wait for the next time */
    d->flushed_ms = fs_unix_ms();
}

/* Repositories that nobody fetched lately: their month passes, too. */
static void age(sqlite3 *db)
{
    fs_db_run(db, NULL, "UPDATE repos SET downloads = (SELECT coalesce(sum(n), 0) FROM downloads WHERE repo = repos.id AND day > ?) WHERE downloads > 0", "i",
              fs_unix_ms() / DAY_MS - 30);
}

void fs_hub_downloads_free(fs_hub_downloads *d, fs_db_pool *pool)
{
    sqlite3 *db;

    if (!d)
        return;
    if (d->n_pending && pool && fs_db_take(pool, &db, NULL) == FS_OK) {
        flush(d, db);
        fs_db_give(pool, db);
    }
    pthread_mutex_destroy(&d->lock);
    free(d);
}

/* FNV-1a; whoever makes two clients one has lowered a count by one. */
static uint64_t hash(uint64_t h, const char *text)
{
    for (; *text; text++)
        h = (h ^ (uint8_t)*text) * 0x100000001b3;
    return h;
}

const char *fs_hub_client_address(const fs_hub_call *c)
{
    const char *forwarded = c->hub->options.url ? fs_http_header(c->http, "X-Forwarded-For") : NULL, *last = forwarded ? strrchr(forwarded, ',') : NULL;

    return last ? last + 1 : forwarded ? forwarded : fs_http_client(c->http);
}

static uint64_t client_of(const fs_hub_call *c)
{
    char repo[32];

    snprintf(repo, sizeof repo, "%lld/%lld/", (long long)c->repo.id, (long long)c->user.id);
    return hash(hash(0xcbf29ce484222325, repo), c->user.id ? "" : fs_hub_client_address(c));
}

static bool counts(const fs_hub_call *c, const char *path)
{
    static const char *const files[] = { "config.json", "config.yaml", "hyperparams.yaml", "params.json", "meta.yaml", "model_index.json", "adapter_config.json" };

    if (strcmp(c->repo.type, "models") != 0 || fs_ends_with(path, ".gguf"))
        return true;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (strcmp(path, files[i]) == 0)
            return true;
    return false;
}

/* Under the lock: writes what is due. */
static void flush_due(fs_hub_downloads *d, sqlite3 *db)
{
    int64_t now = fs_unix_ms();

    if (d->n_pending == 0 || (now - d->flushed_ms < FLUSH_MS && d->n_pending < PENDING_MAX))
        return;
    if (d->flushed_ms / DAY_MS != now / DAY_MS)
        age(db);
    flush(d, db);
}

void fs_hub_downloads_show(fs_hub_call *c)
{
    if (!c->hub->downloads)
        return;
    pthread_mutex_lock(&c->hub->downloads->lock);
    flush_due(c->hub->downloads, c->db);
    pthread_mutex_unlock(&c->hub->downloads->lock);
}

void fs_hub_download_count(fs_hub_call *c, const char *path)
{
    fs_hub_downloads *d = c->hub->downloads;
    int64_t now = fs_unix_ms(), day = now / DAY_MS;
    uint64_t who;
    size_t i;

    if (!d || !counts(c, path))
        return;
    who = client_of(c);
    pthread_mutex_lock(&d->lock);
    i = who % SEEN;
    if (d->seen[i].who != who || now - d->seen[i].at_ms >= SAME_MS) {
        d->seen[i].who = who;
        d->seen[i].at_ms = now;
        for (i = 0; i < d->n_pending && (d->pending[i].repo != c->repo.id || d->pending[i].day != day); i++)
            ;
        if (i == d->n_pending && i < PENDING_MAX) {
            d->pending[i].repo = c->repo.id;
            d->pending[i].day = day;
            d->pending[i].n = 0;
            d->n_pending++;
        }
        if (i < PENDING_MAX)
            d->pending[i].n++;
    }
    flush_due(d, c->db);
    pthread_mutex_unlock(&d->lock);
}
