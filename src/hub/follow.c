/* Following another hub's feed of refs (refs_feed.h): what it signed is kept, so that it cannot say otherwise later, nor to others; and repositories are
 * copied when their refs move, if git shows there what the feed says.
 *
 *   followed          an upstream: its key, and the last entry that was seen
 *   followed_hashes   the hash of every entry, to hold what others saw against
 *   followed_refs     what its refs say by the feed
 *   followed_due      what is to be copied: written together with the entries that say so, so that a killed run goes on there */
#include "hub/feed.h"
#include "hub/remote.h"

#include "crypto/sha256.h"
#include "net/url.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX    10000000 /* of one feed */
#define STEP_MS        ((int64_t)5 * 60 * 1000)       /* that a clock may be set back by */
#define STALE_MS       ((int64_t)24 * 60 * 60 * 1000)
#define TRIES          4 /* to find git and the feed of one mind, while upstream is at work */
#define HEADS_MAX      1000
#define HEADS_BYTES    (HEADS_MAX * FS_REFS_LINE_BYTES_MAX)

typedef struct following {
    fs_hub *hub;
    const fs_hub_follow_options *o;
    fs_hub_follow_result *result;
    sqlite3 *db;
    fs_fetch *fetch;
    int64_t id; /* 0: not seen before */
    uint64_t seq;
    uint8_t hash[32], key[32];
    int64_t head_ms;
} following;

static fs_status read_state(following *f, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    char refused[600] = "";
    fs_status rc = fs_db_query(f->db, &st, err, "SELECT id, seq, hash, key, head_ms, coalesce(refused, '') FROM followed WHERE url = ?", "s", f->o->url);

    if (rc)
        return rc;
    if (fs_db_next(st) && sqlite3_column_bytes(st, 2) == 32 && sqlite3_column_bytes(st, 3) == 32) {
        f->id = sqlite3_column_int64(st, 0);
        f->seq = (uint64_t)sqlite3_column_int64(st, 1);
        memcpy(f->hash, sqlite3_column_blob(st, 2), 32);
        memcpy(f->key, sqlite3_column_blob(st, 3), 32);
        f->head_ms = sqlite3_column_int64(st, 4);
        snprintf(refused, sizeof refused, "%s", fs_db_text(st, 5));
    }
    rc = fs_db_end(st, err);
    if (!rc && *refused)
        rc = fs_fail(err, FS_ERR_FORMAT, "%s", refused);
    if (!rc && f->o->key && !f->id && !fs_hex_read(fs_bytes_str(f->o->key), f->key, 32))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%.80s' is no key: 64 lower-case hex digits", f->o->key);
    if (!rc && f->o->key && f->id) {
        uint8_t key[32];
        if (!fs_hex_read(fs_bytes_str(f->o->key), key, 32) || memcmp(key, f->key, 32) != 0)
            rc = fs_fail(err, FS_ERR_ARGUMENT, "the key of %s was another one when it was first followed (--forget forgets it)", f->o->url);
    }
    if (!rc && f->o->key && !f->id)
        rc = fs_refs_first_hash(f->key, f->hash, err);
    return rc;
}

/* ---- the feed ---- */

static fs_status ask(following *f, const char *base, const char *url, int wait_seconds, size_t max_bytes, fs_buf *out, fs_error *err)
{
    int status;
    fs_status rc;

    if (!f->o->any_address)
        fs_fetch_keep_to(f->fetch, base);
    rc = fs_fetch_whole(f->fetch, &(fs_fetch_request){ .url = url, .silence_seconds = wait_seconds + 30 }, max_bytes, out, err);
    status = fs_fetch_status(f->fetch);
    if (!rc && status == 404)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "%s is not there: this hub has no feed to follow (--every asks now and then)", url);
    if (!rc && status != 200)
        rc = fs_fail(err, FS_ERR_IO, "%s answered %d", url, status);
    return rc;
}

static fs_status get_page(following *f, uint64_t since, int limit, int wait_seconds, fs_buf *out, fs_error *err)
{
    char url[500];

    snprintf(url, sizeof url, "%s/.well-known/farseek/refs?since=%" PRIu64 "&limit=%d&wait=%d", f->o->url, since, limit, wait_seconds);
    return ask(f, f->o->url, url, wait_seconds, FS_REFS_PAGE_BYTES_MAX, out, err);
}

static fs_status check_time(const following *f, const fs_refs_head *h, fs_error *err)
{
    int64_t now = fs_unix_ms();

    if (h->time_ms < f->head_ms - STEP_MS)
        return fs_fail(err, FS_ERR_FORMAT, "the head was signed %lld s before the one that is known: it is an old one", (long long)((f->head_ms - h->time_ms) / 1000));
    if (h->time_ms < now - STALE_MS || h->time_ms > now + STALE_MS)
        return fs_fail(err, FS_ERR_FORMAT, "the head was signed %lld hours %s: somebody keeps the feed from going on, or a clock is wrong",
                       (long long)(llabs((long long)(now - h->time_ms)) / 3600000), h->time_ms < now ? "ago" : "from now");
    return FS_OK;
}

/* What the ref said before must be what the entry says that it said. */
static fs_status take_entry(following *f, const fs_refs_entry *e, const uint8_t hash[32], fs_error *err)
{
    sqlite3_stmt *st = NULL;
    char known[41] = FS_REFS_NO_COMMIT;
    bool wanted = f->o->all;
    int64_t copied = 0;
    fs_status rc = fs_db_query(f->db, &st, err, "SELECT commit_id FROM followed_refs WHERE feed = ? AND type = ? AND id = ? AND ref = ?", "isss", f->id, e->type, e->repo, e->ref);

    if (rc)
        return rc;
    if (fs_db_next(st))
        snprintf(known, sizeof known, "%s", fs_db_text(st, 0));
    rc = fs_db_end(st, err);
    if (!rc && strcmp(known, e->old) != 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "entry %" PRIu64 " moves %s of %s from %.10s, and the feed had it at %.10s", e->seq, e->ref, e->repo, e->old, known);
    if (!rc)
        rc = fs_db_run(f->db, err, "INSERT INTO followed_hashes(feed, seq, hash) VALUES(?, ?, ?)", "iib", f->id, (int64_t)e->seq, (fs_bytes){ hash, 32 });
    if (!rc && strcmp(e->new, FS_REFS_NO_COMMIT) == 0)
        rc = fs_db_run(f->db, err, "DELETE FROM followed_refs WHERE feed = ? AND type = ? AND id = ? AND ref = ?", "isss", f->id, e->type, e->repo, e->ref);
    else if (!rc)
        rc = fs_db_run(f->db, err, "INSERT OR REPLACE INTO followed_refs(feed, type, id, ref, commit_id, owner) VALUES(?, ?, ?, ?, ?, ?)", "isssss", f->id, e->type, e->repo, e->ref, e->new,
                       e->owner);
    for (size_t i = 0; i < f->o->n_names; i++)
        wanted |= strcmp(e->type, f->o->type) == 0 && strcmp(e->repo, f->o->names[i]) == 0;
    if (!rc && !wanted && f->o->n_names == 0) {
        rc = fs_db_int(f->db, &copied, NULL, err, "SELECT count(*) FROM mirrors m JOIN repos r ON r.id = m.repo WHERE m.url = ? AND r.type = ? AND m.id = ?", "sss", f->o->url, e->type, e->repo);
        wanted = copied > 0;
    }
    if (!rc && wanted)
        rc = fs_db_run(f->db, err, "INSERT OR IGNORE INTO followed_due(feed, type, id) VALUES(?, ?, ?)", "iss", f->id, e->type, e->repo);
    return rc;
}

static fs_status take_page(following *f, const fs_refs_page *p, fs_error *err)
{
    fs_buf line = { 0 };
    int64_t was = f->id;
    fs_status rc = check_time(f, &p->head, err);

    if (!rc && p->head.seq > ENTRIES_MAX)
        rc = fs_fail(err, FS_ERR_FORMAT, "more than %d entries", ENTRIES_MAX);
    if (!rc)
        rc = fs_refs_head_write(&p->head, &line, err);
    if (!rc)
        rc = fs_db_begin(f->db, err);
    if (!rc && !f->id) {
        rc = fs_db_run(f->db, err, "INSERT INTO followed(url, key, seq, hash, head, head_ms) VALUES(?, ?, 0, '', '', 0)", "sb", f->o->url, (fs_bytes){ p->head.key, 32 });
        f->id = sqlite3_last_insert_rowid(f->db);
    }
    for (size_t i = 0; i < p->n && !rc; i++)
        rc = take_entry(f, p->entries + i, p->hashes[i], err);
    if (!rc)
        rc = fs_db_run(f->db, err, "UPDATE followed SET seq = ?, hash = ?, head = ?, head_ms = ? WHERE id = ?", "ibsii", (int64_t)p->head.seq, (fs_bytes){ p->head.hash, 32 }, line.data,
                       p->head.time_ms, f->id);
    if (!rc)
        rc = fs_db_commit(f->db, err);
    fs_buf_done(&line);
    if (rc) {
        fs_db_rollback(f->db);
        f->id = was;
        return rc;
    }
    f->seq = p->head.seq;
    memcpy(f->hash, p->head.hash, 32);
    memcpy(f->key, p->head.key, 32);
    f->head_ms = p->head.time_ms;
    f->result->n_entries += p->n;
    return FS_OK;
}

/* Every entry that upstream has now. */
static fs_status catch_up(following *f, int wait_seconds, fs_error *err)
{
    fs_buf text = { 0 };
    bool more = true;
    fs_status rc = FS_OK;

    while (!rc && more) {
        fs_refs_page p;
        bool pinned = f->id || f->o->key;
        rc = get_page(f, f->seq, FS_REFS_PAGE_MAX, wait_seconds, &text, err);
        if (rc)
            break;
        rc = fs_refs_page_read(fs_buf_bytes(&text), f->seq, f->hash, pinned ? f->key : NULL, &p, err);
        if (!rc) {
            more = p.n > 0;
            wait_seconds = 0;
            rc = take_page(f, &p, err);
            fs_refs_page_done(&p);
        }
        if (rc == FS_ERR_FORMAT)
            fs_fail_prefix(err, "%s: not followed", f->o->url);
        rc = rc ? rc : fs_progress_tell(&f->o->progress, 0, 0, err);
    }
    fs_buf_done(&text);
    return rc;
}

/* ---- what others saw ---- */

/* Upstream has signed two histories: nothing of it is believed until somebody has looked. */
static fs_status refuse(following *f, const char *peer, uint64_t seq, fs_error *err)
{
    fs_error why = { 0 };

    fs_fail(&why, FS_ERR_FORMAT, "%s: not followed: it has signed two different entries %" PRIu64 ", one for us and one for %s (--forget begins anew)", f->o->url, seq, peer);
    if (fs_db_run(f->db, err, "UPDATE followed SET refused = ? WHERE id = ?", "si", why.message, f->id))
        return FS_ERR_IO;
    return fs_fail(err, FS_ERR_FORMAT, "%s", why.message);
}

/* Upstream's own hash of entry seq, which lies behind what was seen here. */
static fs_status hash_there(following *f, const char *peer, uint64_t seq, uint8_t ret[32], fs_error *err)
{
    fs_buf text = { 0 };
    fs_refs_head head;
    fs_status rc = get_page(f, seq, 0, 0, &text, err);

    if (!rc && text.n_bytes > 0 && text.data[text.n_bytes - 1] == '\n')
        text.n_bytes--;
    if (!rc)
        rc = fs_refs_head_read(fs_buf_bytes(&text), &head, err);
    if (!rc && memcmp(head.key, f->key, 32) != 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "%s: not followed: its feed is signed with another key than the one it had", f->o->url);
    if (!rc && head.seq < seq)
        rc = fs_fail(err, FS_ERR_FORMAT, "%s: not followed: it shows us %" PRIu64 " entries and has shown %s %" PRIu64, f->o->url, head.seq, peer, seq);
    if (!rc)
        memcpy(ret, head.hash, 32);
    fs_buf_done(&text);
    return rc;
}

static fs_status hash_here(following *f, uint64_t seq, uint8_t ret[32], fs_error *err)
{
    sqlite3_stmt *st = NULL;
    bool found = false;
    fs_status rc;

    if (seq == 0)
        return fs_refs_first_hash(f->key, ret, err);
    rc = fs_db_query(f->db, &st, err, "SELECT hash FROM followed_hashes WHERE feed = ? AND seq = ?", "ii", f->id, (int64_t)seq);
    if (rc)
        return rc;
    if (fs_db_next(st) && sqlite3_column_bytes(st, 0) == 32) {
        found = true;
        memcpy(ret, sqlite3_column_blob(st, 0), 32);
    }
    rc = fs_db_end(st, err);
    return rc || found ? rc : fs_fail(err, FS_ERR_IO, "the hash of entry %" PRIu64 " is missing here", seq);
}

static fs_status compare_head(following *f, const char *peer, const fs_refs_head *seen, fs_error *err)
{
    uint8_t hash[32];
    fs_status rc = seen->seq <= f->seq ? hash_here(f, seen->seq, hash, err) : hash_there(f, peer, seen->seq, hash, err);

    if (!rc && memcmp(hash, seen->hash, 32) != 0)
        rc = refuse(f, peer, seen->seq, err);
    return rc;
}

/* A peer that does not answer, or not in our language, tells nothing. */
static fs_status compare_peer(following *f, const char *peer, fs_error *err)
{
    char url[500];
    fs_buf text = { 0 };
    fs_refs_head head;
    int n = 0;
    fs_status rc = FS_OK;

    snprintf(url, sizeof url, "%.300s/.well-known/farseek/heads", peer);
    if (ask(f, peer, url, 0, HEADS_BYTES, &text, NULL) != FS_OK)
        return fs_buf_done(&text), FS_OK;
    for (char *line = text.data, *end; !rc && line && (end = strchr(line, '\n')) && n < HEADS_MAX; line = end + 1, n++)
        if (fs_refs_head_read((fs_bytes){ (const uint8_t *)line, (size_t)(end - line) }, &head, NULL) == FS_OK && memcmp(head.key, f->key, 32) == 0)
            rc = compare_head(f, peer, &head, err);
    fs_buf_done(&text);
    return rc;
}

static fs_status compare(following *f, fs_error *err)
{
    struct {
        char url[300];
    } peers[64];
    int n = 0;
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(f->db, &st, err, "SELECT url FROM peers WHERE url <> ? ORDER BY url LIMIT 64", "s", f->o->url);

    while (!rc && n < 64 && fs_db_next(st))
        snprintf(peers[n++].url, sizeof peers[0].url, "%s", fs_db_text(st, 0));
    if (!rc)
        rc = fs_db_end(st, err);
    for (int i = 0; i < n && !rc; i++)
        rc = compare_peer(f, peers[i].url, err);
    return rc;
}

/* ---- copies ---- */

typedef struct checking {
    following *f;
    const char *type, *id;
    int64_t n;
    bool differs;
} checking;

static fs_status check_ref(void *ud, const char *ref, const char *commit, fs_error *err)
{
    checking *c = ud;
    int64_t n = 0, same = 0;
    fs_status rc;

    if (!ref) {
        rc = fs_db_int(c->f->db, &n, NULL, err, "SELECT count(*) FROM followed_refs WHERE feed = ? AND type = ? AND id = ?", "iss", c->f->id, c->type, c->id);
        if (rc || n == c->n)
            return rc;
        c->differs = true;
        return fs_fail(err, FS_ERR_FORMAT, "git shows %lld refs there, and the signed feed has %lld: not copied", (long long)c->n, (long long)n);
    }
    c->n++;
    rc = fs_db_int(c->f->db, &same, NULL, err, "SELECT count(*) FROM followed_refs WHERE feed = ? AND type = ? AND id = ? AND ref = ? AND commit_id = ?", "issss", c->f->id, c->type, c->id, ref,
                   commit);
    if (rc || same)
        return rc;
    c->differs = true;
    return fs_fail(err, FS_ERR_FORMAT, "'%s' is at %s there, which the signed feed does not have: not copied", ref, commit);
}

/* The one key that all refs of the repository name; "" where it has none any more. */
static fs_status owner_of(following *f, const char *type, const char *id, char ret[65], fs_error *err)
{
    sqlite3_stmt *st = NULL;
    int n = 0;
    fs_status rc = fs_db_query(f->db, &st, err, "SELECT DISTINCT owner FROM followed_refs WHERE feed = ? AND type = ? AND id = ?", "iss", f->id, type, id);

    ret[0] = 0;
    if (rc)
        return rc;
    for (; fs_db_next(st); n++)
        snprintf(ret, 65, "%s", fs_db_text(st, 0));
    rc = fs_db_end(st, err);
    return rc || n <= 1 ? rc : fs_fail(err, FS_ERR_FORMAT, "the feed gives '%s' %d owners", id, n);
}

static fs_status copy(following *f, const char *type, const char *id, fs_hub_mirror_result *ret, fs_error *err)
{
    char owner[65];
    fs_status rc = FS_OK;

    for (int i = 0; i < TRIES; i++) {
        checking c = { .f = f, .type = type, .id = id };
        fs_hub_mirror_options o = { .url = f->o->url, .type = type, .id = id, .token = f->o->token, .private_repo = f->o->private_repo, .force = f->o->force, .any_address = f->o->any_address,
                                    .progress = f->o->progress, .on_ref = check_ref, .ud = &c, .owner = owner };
        rc = owner_of(f, type, id, owner, err);
        if (!rc && !*owner)
            return fs_fail(err, FS_ERR_NOT_FOUND, "%s publishes '%s' no more, or not to everybody: the copy stays as it is", f->o->url, id);
        if (!rc)
            rc = fs_hub_mirror(f->hub, &o, ret, err);
        if (!rc || !c.differs)
            return rc;
        if (catch_up(f, 0, err) != FS_OK) /* it may have moved between the two */
            return err ? err->code : FS_ERR_IO;
    }
    return rc;
}

/* Nothing is taken from the list before it is done, or withdrawn. */
static fs_status copy_due(following *f, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    char type[16], id[200], last_type[16] = "", last_id[200] = "";
    fs_status rc = FS_OK;

    while (!rc) {
        fs_hub_mirror_result r = { 0 };
        fs_error here = { 0 };
        fs_status one;
        bool any;
        rc = fs_db_query(f->db, &st, err, "SELECT type, id FROM followed_due WHERE feed = ? AND (type, id) > (?, ?) ORDER BY type, id LIMIT 1", "iss", f->id, last_type, last_id);
        if (rc)
            return rc;
        any = fs_db_next(st);
        snprintf(type, sizeof type, "%s", fs_db_text(st, 0));
        snprintf(id, sizeof id, "%s", fs_db_text(st, 1));
        rc = fs_db_end(st, err);
        if (rc || !any)
            return rc;
        memcpy(last_type, type, sizeof type);
        memcpy(last_id, id, sizeof id);
        one = copy(f, type, id, &r, &here);
        if (one == FS_ERR_INTERRUPTED) {
            if (err)
                *err = here;
            return one;
        }
        if (f->o->on_copy)
            f->o->on_copy(f->o->ud, id, &r, one ? here.message : NULL);
        f->result->n_failed += one && one != FS_ERR_NOT_FOUND;
        if (!one || one == FS_ERR_NOT_FOUND)
            rc = fs_db_run(f->db, err, "DELETE FROM followed_due WHERE feed = ? AND type = ? AND id = ?", "iss", f->id, type, id);
    }
    return rc;
}

/* At a run's start: what is wanted and was not copied under this feed yet. */
static fs_status find_due(following *f, fs_error *err)
{
    static const char not_copied[] = "NOT EXISTS(SELECT 1 FROM mirrors m JOIN repos r ON r.id = m.repo WHERE m.url = ?2 AND m.id = x.id AND r.type = x.type AND m.done_ms AND m.owner IS NOT NULL)";
    fs_buf sql = { 0 };
    fs_status rc = FS_OK;

    for (size_t i = 0; i < f->o->n_names && !rc; i++) {
        int64_t n = 0;
        rc = fs_db_int(f->db, &n, NULL, err, "SELECT count(*) FROM followed_refs WHERE feed = ? AND type = ? AND id = ?", "iss", f->id, f->o->type, f->o->names[i]);
        if (!rc && n == 0)
            rc = fs_fail(err, FS_ERR_NOT_FOUND, "the feed of %s has no '%s': it is not there, or not for everybody", f->o->url, f->o->names[i]);
        if (!rc)
            rc = fs_buf_printf(&sql, err, "INSERT OR IGNORE INTO followed_due(feed, type, id) SELECT ?1, x.type, x.id FROM (SELECT ?3 AS type, ?4 AS id) x WHERE %s", not_copied);
        if (!rc)
            rc = fs_db_run(f->db, err, sql.data, "isss", f->id, f->o->url, f->o->type, f->o->names[i]);
        fs_buf_clear(&sql);
    }
    if (!rc && f->o->n_names == 0) {
        rc = fs_buf_printf(&sql, err, "INSERT OR IGNORE INTO followed_due(feed, type, id) SELECT DISTINCT ?1, x.type, x.id FROM %s x WHERE %s",
                           f->o->all ? "followed_refs" : "(SELECT r.type, m.id FROM mirrors m JOIN repos r ON r.id = m.repo WHERE m.url = ?2)", not_copied);
        if (!rc && f->o->all)
            rc = fs_buf_append_str(&sql, " AND x.feed = ?1", err);
        if (!rc)
            rc = fs_db_run(f->db, err, sql.data, "is", f->id, f->o->url);
    }
    fs_buf_done(&sql);
    return rc;
}

static bool go_on(void *ud)
{
    const fs_hub_follow_options *o = ud;

    return fs_progress_tell(&o->progress, 0, 0, NULL) == FS_OK;
}

fs_status fs_hub_follow(fs_hub *h, const fs_hub_follow_options *o, fs_hub_follow_result *ret, fs_error *err)
{
    following f = { .hub = h, .o = o, .result = ret };
    fs_status rc = fs_db_take(h->db, &f.db, err);

    *ret = (fs_hub_follow_result){ .n_entries = 0 };
    if (rc)
        return rc;
    rc = fs_fetch_new("farseek/" FS_VERSION, &f.fetch, err);
    if (!rc) {
        fs_fetch_watch(f.fetch, go_on, (void *)(uintptr_t)o);
        rc = read_state(&f, err);
    }
    if (!rc)
        rc = catch_up(&f, o->wait_seconds, err);
    if (!rc && (o->first || ret->n_entries || o->compare))
        rc = compare(&f, err);
    if (!rc && o->first)
        rc = find_due(&f, err);
    if (!rc)
        rc = copy_due(&f, err);
    ret->seq = f.seq;
    if (f.id)
        fs_hex(f.key, 32, ret->key);
    fs_fetch_free(f.fetch);
    fs_db_give(h->db, f.db);
    return rc;
}

fs_status fs_hub_forget(fs_hub *h, const char *url, fs_error *err)
{
    sqlite3 *db = NULL;
    fs_status rc = fs_db_take(h->db, &db, err);

    if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM followed WHERE url = ?", "s", url);
    fs_db_give(h->db, db);
    return rc;
}
