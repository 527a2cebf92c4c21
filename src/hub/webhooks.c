/* Webhooks: what happens to a repository is told to the addresses that watch it. Told means written to a queue in the database, in the transaction of
 * what happened where it has one; threads of the server send, to a webhook one thing at a time and in order, once more after longer and longer waits
 * when nobody takes it, and a restart goes on.
 * An address is a stranger's choice: no private network is reached by it, no redirect followed, no answer read. */
#include "hub/feed.h"

#include "base/clock.h"
#include "net/fetch.h"
#include "net/url.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HOOKS_MAX    50   /* of a user */
#define WATCHED_MAX  100
#define QUEUE_MAX    1000 /* that wait for one webhook; more are lost */
#define TRIES_MAX    8    /* the last one about a day after the first */
#define SECONDS_MAX  15   /* that a receiver has */
#define LEASE_MS     60000
#define FIRST_MS     5000
#define N_THREADS    3

/* ---- what happens ---- */

static const char *kind_of(const char *types)
{
    return strcmp(types, "models") == 0 ? "model" : strcmp(types, "datasets") == 0 ? "dataset" : "space";
}

static void emit_id(fs_emit *e, const char *key, int64_t id)
{
    char text[25];

    snprintf(text, sizeof text, "%024llx", (unsigned long long)id);
    fs_emit_key(e, key);
    fs_emit_begin(e, '{');
    fs_emit_str(e, "id", text);
    fs_emit_end(e, '}');
}

static void emit_urls(fs_emit *e, const fs_hub_call *c, const char *tail)
{
    char url[700];

    fs_emit_key(e, "url");
    fs_emit_begin(e, '{');
    snprintf(url, sizeof url, "%s/%s%s/%s%s", c->base, fs_hub_type_prefix(c->repo.type), c->repo.owner_name, c->repo.name, tail);
    fs_emit_str(e, "web", url);
    snprintf(url, sizeof url, "%s/api/%s/%s/%s%s", c->base, c->repo.type, c->repo.owner_name, c->repo.name, tail);
    fs_emit_str(e, "api", url);
    fs_emit_end(e, '}');
}

static void emit_repo(fs_emit *e, const fs_hub_call *c)
{
    char id[220], number[25];

    snprintf(id, sizeof id, "%s/%s", c->repo.owner_name, c->repo.name);
    snprintf(number, sizeof number, "%024llx", (unsigned long long)c->repo.id);
    fs_emit_key(e, "repo");
    fs_emit_begin(e, '{');
    fs_emit_str(e, "type", kind_of(c->repo.type));
    fs_emit_str(e, "name", id);
    fs_emit_str(e, "id", number);
    fs_emit_bool(e, "private", c->repo.private);
    if (*c->repo.sha)
        fs_emit_str(e, "headSha", c->repo.sha);
    emit_id(e, "owner", c->repo.owner);
    emit_urls(e, c, "");
    fs_emit_end(e, '}');
}

static void emit_discussion(fs_emit *e, const fs_hub_call *c, int64_t num)
{
    sqlite3_stmt *st = NULL;
    char id[60], tail[60];

    if (fs_db_query(c->db, &st, NULL, "SELECT title, status, is_pr, author, base FROM discussions WHERE repo = ? AND num = ?", "ii", c->repo.id, num) != FS_OK)
        return;
    if (fs_db_next(st)) {
        snprintf(id, sizeof id, "%016llx%08llx", (unsigned long long)c->repo.id, (unsigned long long)num);
        snprintf(tail, sizeof tail, "/discussions/%lld", (long long)num);
        fs_emit_key(e, "discussion");
        fs_emit_begin(e, '{');
        fs_emit_str(e, "id", id);
        fs_emit_int(e, "num", num);
        fs_emit_str(e, "title", fs_db_text(st, 0));
        fs_emit_str(e, "status", fs_db_text(st, 1));
        fs_emit_bool(e, "isPullRequest", sqlite3_column_int(st, 2) != 0);
        emit_id(e, "author", sqlite3_column_int64(st, 3));
        emit_urls(e, c, tail);
        if (sqlite3_column_int(st, 2)) {
            fs_emit_key(e, "changes");
            fs_emit_begin(e, '{');
            fs_emit_str(e, "base", fs_db_text(st, 4));
            fs_emit_end(e, '}');
        }
        fs_emit_end(e, '}');
    }
    fs_db_end(st, NULL);
}

/* One delivery for each webhook that watches; the webhook's own number is put in when it is sent. */
static void enqueue(const fs_hub_call *c, const char *domain, const char *body)
{
    char id[220];
    int64_t now = fs_unix_ms();

    snprintf(id, sizeof id, "%s/%s", c->repo.owner_name, c->repo.name);
    fs_db_run(c->db, NULL,
              "INSERT INTO deliveries(webhook, body, created_ms, due_ms, tries) SELECT w.id, ?1, ?2, ?2, 0 FROM webhooks w JOIN accounts a ON a.id = w.account WHERE NOT w.disabled"
              " AND EXISTS(SELECT 1 FROM json_each(w.domains) d WHERE d.value = ?3)"
              " AND EXISTS(SELECT 1 FROM json_each(w.watched) x WHERE (x.value->>'type' = ?4 AND lower(x.value->>'name') = lower(?5))"
              " OR (x.value->>'type' IN ('user', 'org') AND lower(x.value->>'name') = lower(?6)))"
              " AND (NOT ?7 OR a.is_admin OR w.account = ?8 OR EXISTS(SELECT 1 FROM members m WHERE m.org = ?8 AND m.account = w.account))"
              " AND (SELECT count(*) FROM deliveries q WHERE q.webhook = w.id) < ?9",
              "sissssiii", body, now, domain, kind_of(c->repo.type), id, c->repo.owner_name, (int64_t)c->repo.private, c->repo.owner, (int64_t)QUEUE_MAX);
}

void fs_hub_tell(const fs_hub_call *c, const char *action, const char *scope, int64_t num, const char *extra)
{
    fs_emit e = { 0 };
    int64_t any = 0;

    if (fs_db_int(c->db, &any, NULL, NULL, "SELECT EXISTS(SELECT 1 FROM webhooks WHERE NOT disabled)", "") != FS_OK || !any)
        return;
    fs_emit_begin(&e, '{');
    fs_emit_key(&e, "event");
    fs_emit_begin(&e, '{');
    fs_emit_str(&e, "action", action);
    fs_emit_str(&e, "scope", scope);
    fs_emit_end(&e, '}');
    emit_repo(&e, c);
    if (num)
        emit_discussion(&e, c, num);
    if (extra && !e.rc)
        e.rc = fs_buf_printf(&e.out, NULL, ",%s", extra);
    if (!e.rc)
        enqueue(c, strncmp(scope, "discussion", 10) == 0 ? "discussion" : "repo", e.out.data);
    fs_emit_done(&e);
}

static void emit_sha(fs_emit *e, const char *key, const char *hex)
{
    fs_emit_str(e, key, strspn(hex, "0") == GIT_OID_HEXSZ ? NULL : hex);
}

void fs_hub_tell_moves(const fs_hub_call *c, const fs_hub_move *moves, size_t n)
{
    fs_emit e = { 0 };

    if (n == 0)
        return;
    fs_hub_feed_mark(c->db, c->repo.id, NULL); /* one that cannot be made is made up for at the next start */
    fs_emit_key(&e, "updatedRefs");
    fs_emit_begin(&e, '[');
    for (size_t i = 0; i < n; i++) {
        fs_emit_begin(&e, '{');
        fs_emit_str(&e, "ref", moves[i].ref);
        emit_sha(&e, "oldSha", moves[i].old);
        emit_sha(&e, "newSha", moves[i].new);
        fs_emit_end(&e, '}');
    }
    fs_emit_end(&e, ']');
    if (!e.rc)
        fs_hub_tell(c, "update", "repo.content", 0, e.out.data);
    fs_emit_done(&e);
}

void fs_hub_tell_ref(const fs_hub_call *c, const char *ref, const git_oid *old, const git_oid *new)
{
    static const git_oid none;
    fs_hub_move move;

    snprintf(move.ref, sizeof move.ref, "%s", ref);
    git_oid_tostr(move.old, sizeof move.old, old ? old : &none);
    git_oid_tostr(move.new, sizeof move.new, new ? new : &none);
    if (strcmp(move.old, move.new) != 0)
        fs_hub_tell_moves(c, &move, 1);
}

/* ---- the API ---- */

#define HOOK_COLUMNS "id, url, watched, domains, coalesce(secret, ''), disabled"

static void emit_hook(fs_emit *e, sqlite3_stmt *st)
{
    char id[25];

    snprintf(id, sizeof id, "%024llx", (unsigned long long)sqlite3_column_int64(st, 0));
    fs_emit_begin(e, '{');
    fs_emit_str(e, "id", id);
    fs_emit_str(e, "url", fs_db_text(st, 1));
    fs_emit_json(e, "watched", fs_db_text(st, 2));
    fs_emit_json(e, "domains", fs_db_text(st, 3));
    if (*fs_db_text(st, 4))
        fs_emit_str(e, "secret", fs_db_text(st, 4));
    fs_emit_bool(e, "disabled", sqlite3_column_int(st, 5) != 0);
    fs_emit_end(e, '}');
}

static void reply_hook(fs_hub_call *c, int64_t id)
{
    sqlite3_stmt *st = NULL;
    bool found = false;
    fs_emit e = { 0 };

    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT " HOOK_COLUMNS " FROM webhooks WHERE id = ? AND account = ?", "ii", id, c->user.id)))
        return;
    fs_emit_begin(&e, '{');
    fs_emit_key(&e, "webhook");
    if ((found = fs_db_next(st)))
        emit_hook(&e, st);
    fs_emit_end(&e, '}');
    if (!fs_hub_failed(c, fs_db_end(st, &c->err))) {
        if (found)
            fs_hub_reply(c, 200, &e);
        else
            fs_hub_error(c, 404, NULL, "there is no such webhook");
    }
    fs_emit_done(&e);
}

static int64_t hook_of(const fs_hub_call *c)
{
    return strtoll(fs_http_param(c->http, 0), NULL, 16);
}

void fs_hub_webhook_list(fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    fs_emit e = { 0 };

    if (!fs_hub_need_account(c) ||
        fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT " HOOK_COLUMNS " FROM webhooks WHERE account = ? ORDER BY id", "i", c->user.id)))
        return;
    fs_emit_begin(&e, '[');
    while (fs_db_next(st))
        emit_hook(&e, st);
    fs_emit_end(&e, ']');
    if (!fs_hub_failed(c, fs_db_end(st, &c->err)))
        fs_hub_reply(c, 200, &e);
    fs_emit_done(&e);
}

void fs_hub_webhook_get(fs_hub_call *c)
{
    if (fs_hub_need_account(c)) /* it shows the secret */
        reply_hook(c, hook_of(c));
}

/* watched as it is kept: [{"type", "name"}, ...]; NULL after a reply. */
static char *read_watched(fs_hub_call *c, struct json_object *o)
{
    static const char *const types[] = { "model", "dataset", "space", "user", "org" };
    struct json_object *list = fs_json_member(o, "watched");
    fs_emit e = { 0 };
    char *ret = NULL;
    bool ok = list && json_object_is_type(list, json_type_array) && json_object_array_length(list) >= 1 && json_object_array_length(list) <= WATCHED_MAX;

    fs_emit_begin(&e, '[');
    for (size_t i = 0; ok && i < json_object_array_length(list); i++) {
        struct json_object *x = json_object_array_get_idx(list, i);
        fs_bytes type = { 0 }, name = { 0 };
        bool known = false;
        ok = json_object_is_type(x, json_type_object) && fs_json_string(x, "type", &type, NULL, NULL) == FS_OK && fs_json_string(x, "name", &name, NULL, NULL) == FS_OK &&
             name.n_bytes >= 1 && name.n_bytes < 220;
        for (size_t k = 0; ok && k < sizeof types / sizeof *types; k++)
            known = known || fs_bytes_equal(type, fs_bytes_str(types[k]));
        ok = ok && known;
        if (ok) {
            fs_emit_begin(&e, '{');
            fs_emit_text(&e, "type", type);
            fs_emit_text(&e, "name", name);
            fs_emit_end(&e, '}');
        }
    }
    fs_emit_end(&e, ']');
    if (!ok)
        fs_hub_error(c, 400, NULL, "watched must be a list of 1 to %d objects of type (model, dataset, space, user, org) and name", WATCHED_MAX);
    else if (e.rc || !(ret = strdup(e.out.data)))
        fs_hub_failed(c, fs_fail_memory(&c->err, 1));
    fs_emit_done(&e);
    return ret;
}

/* The JSON text of the domains; NULL after a reply. */
static const char *read_domains(fs_hub_call *c, struct json_object *o)
{
    static const char *const texts[] = { "[\"repo\",\"discussion\"]", "[\"repo\"]", "[\"discussion\"]", "[\"repo\",\"discussion\"]" };
    struct json_object *list = fs_json_member(o, "domains");
    unsigned mask = 0;

    for (size_t i = 0; list && json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
        struct json_object *x = json_object_array_get_idx(list, i);
        const char *word = json_object_is_type(x, json_type_string) ? json_object_get_string(x) : "";
        if (strcmp(word, "repo") != 0 && strcmp(word, "discussion") != 0) {
            fs_hub_error(c, 400, NULL, "a domain is repo or discussion, not '%.30s'", word);
            return NULL;
        }
        mask |= strcmp(word, "repo") == 0 ? 1 : 2;
    }
    return texts[mask];
}

static bool read_url(fs_hub_call *c, struct json_object *o, char url[1000], char secret[300])
{
    if (!fs_hub_json_str(c, o, "url", url, 1000) || !fs_hub_json_str(c, o, "secret", secret, 300))
        return false;
    if (*url && strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0) {
        fs_hub_error(c, 400, NULL, "a webhook's url begins with https:// or http://");
        return false;
    }
    for (const char *p = url; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f) {
            fs_hub_error(c, 400, NULL, "a webhook's url has no spaces");
            return false;
        }
    for (const char *p = secret; *p; p++)
        if ((unsigned char)*p < ' ' || (unsigned char)*p >= 0x7f) {
            fs_hub_error(c, 400, NULL, "a webhook's secret is of printable ASCII characters");
            return false;
        }
    return true;
}

void fs_hub_webhook_create(fs_hub_call *c)
{
    struct json_object *o = NULL;
    char url[1000], secret[300], *watched = NULL;
    const char *domains;
    int64_t n = 0;

    if (!fs_hub_need_account(c) || !(o = fs_hub_body_json(c)) || !read_url(c, o, url, secret) ||
        fs_hub_failed(c, fs_db_int(c->db, &n, NULL, &c->err, "SELECT count(*) FROM webhooks WHERE account = ?", "i", c->user.id)))
        goto out;
    if (!*url || n >= HOOKS_MAX)
        fs_hub_error(c, 400, NULL, *url ? "a user has at most %d webhooks" : "a webhook needs a url (%d)", *url ? HOOKS_MAX : 0);
    else if ((watched = read_watched(c, o)) != NULL && (domains = read_domains(c, o)) != NULL &&
             !fs_hub_failed(c, fs_db_run(c->db, &c->err, "INSERT INTO webhooks(account, url, watched, domains, secret, disabled, created_ms) VALUES(?, ?, ?, ?, nullif(?, ''), 0, ?)",
                                         "issssi", c->user.id, url, watched, domains, secret, fs_unix_ms())))
        reply_hook(c, sqlite3_last_insert_rowid(c->db));
out:
    free(watched);
    json_object_put(o);
}

/* The client sends an empty list for what stays. */
static bool is_list(struct json_object *o, const char *key)
{
    struct json_object *list = fs_json_member(o, key);

    return list && json_object_is_type(list, json_type_array) && json_object_array_length(list) > 0;
}

void fs_hub_webhook_update(fs_hub_call *c)
{
    struct json_object *o = NULL;
    char url[1000], secret[300], *watched = NULL;
    const char *domains = NULL;

    if (!fs_hub_need_account(c) || !(o = fs_hub_body_json(c)) || !read_url(c, o, url, secret) || (is_list(o, "watched") && !(watched = read_watched(c, o))) ||
        (is_list(o, "domains") && !(domains = read_domains(c, o))))
        goto out;
    if (!fs_hub_failed(c, fs_db_run(c->db, &c->err,
                                    "UPDATE webhooks SET url = coalesce(nullif(?1, ''), url), watched = coalesce(?2, watched), domains = coalesce(?3, domains),"
                                    " secret = coalesce(nullif(?4, ''), secret) WHERE id = ?5 AND account = ?6",
                                    "ssssii", url, watched, domains, secret, hook_of(c), c->user.id)))
        reply_hook(c, hook_of(c));
out:
    free(watched);
    json_object_put(o);
}

static void set_disabled(fs_hub_call *c, bool disabled)
{
    if (fs_hub_need_account(c) &&
        !fs_hub_failed(c, fs_db_run(c->db, &c->err, "UPDATE webhooks SET disabled = ? WHERE id = ? AND account = ?", "iii", (int64_t)disabled, hook_of(c), c->user.id)))
        reply_hook(c, hook_of(c));
}

void fs_hub_webhook_enable(fs_hub_call *c)
{
    set_disabled(c, false);
}

void fs_hub_webhook_disable(fs_hub_call *c)
{
    set_disabled(c, true);
}

void fs_hub_webhook_delete(fs_hub_call *c)
{
    if (!fs_hub_need_account(c) || fs_hub_failed(c, fs_db_run(c->db, &c->err, "DELETE FROM webhooks WHERE id = ? AND account = ?", "ii", hook_of(c), c->user.id)))
        return;
    if (sqlite3_changes(c->db) == 0)
        fs_hub_error(c, 404, NULL, "there is no such webhook");
    else
        fs_hub_reply_ok(c);
}

/* ---- sending ---- */

struct fs_hub_sender {
    fs_hub *hub;
    bool private_too;
    struct sender_thread {
        fs_hub_sender *sender;
        pthread_t id;
        int64_t webhook; /* whose delivery it has, 0: none; under taking */
    } threads[N_THREADS];
    int n_threads;
    pthread_mutex_t lock, taking;
    pthread_cond_t changed;
    bool stopping;
};

typedef struct delivery {
    int64_t id, webhook, tries;
    char url[1000], secret[300];
    fs_buf body;
} delivery;

#define OTHERS "webhook NOT IN (?2, ?3, ?4)" /* than those that are being told something */
_Static_assert(N_THREADS == 3, "OTHERS");

/* The next that is due, leased, so that a kill delays it only. */
static fs_status lease(fs_hub_sender *s, sqlite3 *db, delivery *ret, bool *ret_found)
{
    const int64_t a = s->threads[0].webhook, b = s->threads[1].webhook, c = s->threads[2].webhook, now = fs_unix_ms();
    fs_status rc = fs_db_int(db, &ret->id, ret_found, NULL, "SELECT id FROM deliveries WHERE due_ms <= ?1 AND " OTHERS " LIMIT 1", "iiii", now, a, b, c);

    if (rc || !*ret_found) /* no writing where nothing waits */
        return rc;
    return fs_db_int(db, &ret->id, ret_found, NULL,
                     "UPDATE deliveries SET due_ms = ?5, tries = tries + 1 WHERE id ="
                     " (SELECT id FROM deliveries WHERE due_ms <= ?1 AND " OTHERS " ORDER BY due_ms, id LIMIT 1) RETURNING id", "iiiii",
                     now, a, b, c, now + LEASE_MS);
}

static fs_status read_delivery(sqlite3 *db, delivery *ret, bool *ret_found)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(db, &st, NULL, "SELECT w.id, d.tries, w.url, coalesce(w.secret, ''), d.body FROM deliveries d JOIN webhooks w ON w.id = d.webhook WHERE d.id = ?", "i", ret->id);

    if (rc)
        return rc;
    if (fs_db_next(st)) {
        ret->webhook = sqlite3_column_int64(st, 0);
        ret->tries = sqlite3_column_int64(st, 1);
        snprintf(ret->url, sizeof ret->url, "%s", fs_db_text(st, 2));
        snprintf(ret->secret, sizeof ret->secret, "%s", fs_db_text(st, 3));
        rc = fs_buf_printf(&ret->body, NULL, "%s,\"webhook\":{\"id\":\"%024llx\",\"version\":3}}", fs_db_text(st, 4), (unsigned long long)ret->webhook);
    } else {
        *ret_found = false;
    }
    return rc ? (fs_db_end(st, NULL), rc) : fs_db_end(st, NULL);
}

/* False: there is nothing to send. */
static bool take(struct sender_thread *t, sqlite3 *db, delivery *ret)
{
    bool found = false;

    pthread_mutex_lock(&t->sender->taking);
    if (lease(t->sender, db, ret, &found) != FS_OK || (found && read_delivery(db, ret, &found) != FS_OK))
        found = false;
    t->webhook = found ? ret->webhook : 0;
    pthread_mutex_unlock(&t->sender->taking);
    return found;
}

/* Its webhook may be told what is next. */
static void leave(struct sender_thread *t)
{
    pthread_mutex_lock(&t->sender->taking);
    t->webhook = 0;
    pthread_mutex_unlock(&t->sender->taking);
}

static bool go_on(void *ud)
{
    fs_hub_sender *s = ud;
    bool on;

    pthread_mutex_lock(&s->lock);
    on = !s->stopping;
    pthread_mutex_unlock(&s->lock);
    return on;
}

/* Nothing of the answer is kept. */
static fs_status drop(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    size_t *n = ud;

    (void)data;
    *n += n_bytes;
    return *n > 65536 ? fs_fail(err, FS_ERR_FORMAT, "a long answer") : FS_OK;
}

static bool send_it(fs_fetch *f, const delivery *d)
{
    char secret[330];
    const char *headers[] = { "Content-Type: application/json", *d->secret ? secret : NULL, NULL };
    fs_fetch_request q = { .method = "POST", .url = d->url, .headers = headers, .body = fs_buf_bytes(&d->body), .silence_seconds = SECONDS_MAX };
    size_t n = 0;
    fs_error err;

    snprintf(secret, sizeof secret, "X-Webhook-Secret: %s", d->secret);
    return fs_fetch_run(f, &q, drop, &n, &err) == FS_OK && fs_fetch_status(f) >= 200 && fs_fetch_status(f) <= 299;
}

static void settle(sqlite3 *db, const delivery *d, bool sent)
{
    int64_t wait = FIRST_MS;

    for (int64_t i = 1; i < d->tries; i++)
        wait *= 4;
    if (sent || d->tries >= TRIES_MAX)
        fs_db_run(db, NULL, "DELETE FROM deliveries WHERE id = ?", "i", d->id);
    else
        fs_db_run(db, NULL, "UPDATE deliveries SET due_ms = ? WHERE id = ?", "ii", fs_unix_ms() + wait, d->id);
}

static void *run(void *ud)
{
    struct sender_thread *t = ud;
    fs_hub_sender *s = t->sender;
    fs_fetch *f = NULL;

    if (fs_fetch_new("Farseek-Hub", &f, NULL) != FS_OK)
        return NULL;
    fs_fetch_guard(f, s->private_too, SECONDS_MAX);
    fs_fetch_watch(f, go_on, s);
    while (go_on(s)) {
        delivery d = { 0 };
        sqlite3 *db = NULL;
        bool found = false, sent = false;
        if (fs_db_take(s->hub->db, &db, NULL) == FS_OK) {
            found = take(t, db, &d);
            fs_db_give(s->hub->db, db);
        }
        if (found) {
            sent = send_it(f, &d);
            if (go_on(s) && fs_db_take(s->hub->db, &db, NULL) == FS_OK) {
                settle(db, &d, sent);
                fs_db_give(s->hub->db, db);
            }
            leave(t);
        }
        fs_buf_done(&d.body);
        if (!found) {
            pthread_mutex_lock(&s->lock);
            if (!s->stopping)
                fs_cond_wait_until(&s->changed, &s->lock, fs_seconds_now() + 1);
            pthread_mutex_unlock(&s->lock);
        }
    }
    fs_fetch_free(f);
    return NULL;
}

fs_status fs_hub_sender_start(fs_hub *h, bool private_too, fs_hub_sender **ret, fs_error *err)
{
    fs_hub_sender *s = calloc(1, sizeof *s);

    if (!s)
        return fs_fail_memory(err, sizeof *s);
    s->hub = h;
    s->private_too = private_too;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->taking, NULL);
    fs_cond_init(&s->changed);
    for (int i = 0; i < N_THREADS; i++)
        s->threads[i].sender = s;
    while (s->n_threads < N_THREADS && pthread_create(&s->threads[s->n_threads].id, NULL, run, &s->threads[s->n_threads]) == 0)
        s->n_threads++;
    if (s->n_threads == 0) {
        fs_hub_sender_stop(s);
        return fs_fail(err, FS_ERR_MEMORY, "no thread for webhooks");
    }
    *ret = s;
    return FS_OK;
}

void fs_hub_sender_stop(fs_hub_sender *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->n_threads; i++)
        pthread_join(s->threads[i].id, NULL);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->taking);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
