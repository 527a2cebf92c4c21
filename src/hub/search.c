/* See the header. Each peer is asked by a thread of its own, which may outlive the search that it was made for: whoever waits goes when the time is over, and
 * the thread ends with its request soon after. So no peer keeps an answer, and how many threads a peer may hold is bounded. */
#include "hub/search.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "crypto/sha256.h"
#include "net/fetch.h"
#include "net/url.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WAIT_SECONDS      1.0
#define REPLY_SECONDS     2  /* after which a request ends that nobody waits for */
#define SEARCHES_MAX      16 /* at a time: each holds a worker of the server */
#define PER_PEER_MAX      4
#define THREADS_MAX       (FS_SEARCH_PEERS_MAX * PER_PEER_MAX)
#define REPLY_BYTES_MAX   ((size_t)2 << 20)
#define TAGS_MAX          100
#define CLIENTS           1024
/* Searches at once and a second: of one client without a token, of all of them together, of one user. */
#define GUEST_BURST       10
#define GUEST_RATE        0.5
#define GUESTS_BURST      60
#define GUESTS_RATE       20
#define USER_BURST        40
#define USER_RATE         4

typedef struct bucket {
    double used, at;
} bucket;

struct fs_search {
    bool private_too;
    atomic_bool stopping;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n_searches, n_threads;
    struct {
        char url[300];
        int n;
    } running[THREADS_MAX]; /* n 0: free */
    uint64_t seed;
    bucket guests, clients[CLIENTS];
};

/* One search: the caller and its threads hold it. */
typedef struct fan {
    fs_search *search;
    int n_refs, n_left;
    atomic_bool over; /* nobody waits any more */
    char type[16];
    char *query;
    struct {
        fs_search_peer peer;
        fs_search_row *rows;
        size_t n, capacity;
    } asked[FS_SEARCH_PEERS_MAX];
} fan;

typedef struct errand {
    fan *fan;
    int i, slot;
    char url[300];
} errand;

fs_status fs_search_new(bool private_too, fs_search **ret, fs_error *err)
{
    fs_search *s = calloc(1, sizeof *s);
    struct timespec now;

    if (!s)
        return fs_fail_memory(err, sizeof *s);
    s->private_too = private_too;
    clock_gettime(CLOCK_REALTIME, &now);
    s->seed = (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15 ^ (uintptr_t)s;
    pthread_mutex_init(&s->lock, NULL);
    fs_cond_init(&s->changed);
    *ret = s;
    return FS_OK;
}

void fs_search_stop(fs_search *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void fs_search_free(fs_search *s)
{
    if (!s)
        return;
    fs_search_stop(s);
    pthread_mutex_lock(&s->lock);
    while (s->n_threads > 0)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---- rows ---- */

static fs_search_row *add_row(fs_search_row **rows, size_t *n, size_t *capacity)
{
    if (*n == *capacity) {
        size_t more = *capacity ? 2 * *capacity : 16;
        fs_search_row *list = realloc(*rows, more * sizeof *list);
        if (!list)
            return NULL;
        *rows = list;
        *capacity = more;
    }
    (*rows)[*n] = (fs_search_row){ .here = false };
    return *rows + (*n)++;
}

fs_search_row *fs_search_add(fs_search_result *r)
{
    fs_search_row *row = add_row(&r->rows, &r->n, &r->capacity);

    if (row)
        row->here = true;
    return row;
}

static void rows_done(fs_search_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fs_emit_done(&rows[i].json);
    free(rows);
}

void fs_search_done(fs_search_result *r)
{
    rows_done(r->rows, r->n);
    r->rows = NULL;
    r->n = r->capacity = 0;
}

/* ---- what a peer says ---- */

/* A string without control characters; "" where there is none, or no such one. */
static void read_text(struct json_object *o, const char *key, char *ret, size_t capacity)
{
    fs_bytes text = { 0 };

    ret[0] = 0;
    if (fs_json_string(o, key, &text, NULL, NULL) != FS_OK || !text.data || text.n_bytes >= capacity || !fs_utf8_valid(text))
        return;
    for (size_t i = 0; i < text.n_bytes; i++)
        if (text.data[i] < 32 || text.data[i] == 127)
            return;
    memcpy(ret, text.data, text.n_bytes);
    ret[text.n_bytes] = 0;
}

/* "2026-01-31T09:30:00.000Z", the fraction as it may be; 0: none. */
static int64_t read_time(struct json_object *o, const char *key)
{
    char text[40], again[32];
    struct tm t = { 0 };
    int n = 0;
    int64_t ms;

    read_text(o, key, text, sizeof text);
    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour, &t.tm_min, &t.tm_sec, &n) != 6 || n != 19 || t.tm_year < 1970)
        return 0;
    t.tm_year -= 1900;
    t.tm_mon -= 1;
    ms = (int64_t)timegm(&t) * 1000;
    fs_iso_time(ms, again);
    return ms > 0 && strncmp(again, text, 19) == 0 ? ms : 0; /* the 31st of February is no day */
}

static bool is_id(const char *id)
{
    const char *slash = strchr(id, '/');
    char owner[97];

    if (!slash || slash - id >= (ptrdiff_t)sizeof owner)
        return false;
    snprintf(owner, sizeof owner, "%.*s", (int)(slash - id), id);
    return fs_hub_name_is_valid(owner) && fs_hub_name_is_valid(slash + 1);
}

static void emit_tags(fs_emit *e, struct json_object *list)
{
    fs_emit_key(e, "tags");
    fs_emit_begin(e, '[');
    for (size_t i = 0; list && json_object_is_type(list, json_type_array) && i < json_object_array_length(list) && i < TAGS_MAX; i++) {
        struct json_object *x = json_object_array_get_idx(list, i);
        const char *tag = json_object_is_type(x, json_type_string) ? json_object_get_string(x) : "";
        if (*tag && strlen(tag) < 200 && fs_utf8_valid(fs_bytes_str(tag)))
            fs_emit_str(e, NULL, tag);
    }
    fs_emit_end(e, ']');
}

/* A row that everybody may see, with what it says about itself where that is of the form; false: it is none. */
static bool read_row(struct json_object *o, const char *type, fs_search_row *row)
{
    uint8_t sha[20];
    bool private = false, disabled = false;
    char library[97], gated[16];
    fs_emit *e = &row->json;
    int64_t created_ms;

    if (!json_object_is_type(o, json_type_object))
        return false;
    read_text(o, "id", row->id, sizeof row->id);
    read_text(o, "sha", row->sha, sizeof row->sha);
    if (fs_json_bool(o, "private", &private, NULL, NULL) != FS_OK || private || fs_json_bool(o, "disabled", &disabled, NULL, NULL) != FS_OK || disabled || !is_id(row->id) ||
        (*row->sha && !fs_hex_read(fs_bytes_str(row->sha), sha, sizeof sha)))
        return false;
    read_text(o, "pipeline_tag", row->task, sizeof row->task);
    read_text(o, "library_name", library, sizeof library);
    read_text(o, "gated", gated, sizeof gated);
    row->modified_ms = read_time(o, "lastModified");
    created_ms = read_time(o, "createdAt");
    if (fs_json_int(o, "downloads", 0, (int64_t)1 << 53, &row->downloads, NULL, NULL) != FS_OK || fs_json_int(o, "likes", 0, (int64_t)1 << 53, &row->likes, NULL, NULL) != FS_OK)
        return false;
    fs_emit_begin(e, '{');
    fs_emit_str(e, "id", row->id);
    if (strcmp(type, "models") == 0)
        fs_emit_str(e, "modelId", row->id);
    fs_emit_text(e, "author", (fs_bytes){ (const uint8_t *)row->id, strcspn(row->id, "/") });
    if (*row->sha)
        fs_emit_str(e, "sha", row->sha);
    if (row->modified_ms)
        fs_emit_time(e, "lastModified", row->modified_ms);
    if (created_ms)
        fs_emit_time(e, "createdAt", created_ms);
    fs_emit_bool(e, "private", false);
    if (strcmp(gated, "auto") == 0 || strcmp(gated, "manual") == 0)
        fs_emit_str(e, "gated", gated);
    else
        fs_emit_bool(e, "gated", false);
    fs_emit_int(e, "downloads", row->downloads);
    fs_emit_int(e, "likes", row->likes);
    emit_tags(e, fs_json_member(o, "tags"));
    if (*row->task)
        fs_emit_str(e, "pipeline_tag", row->task);
    if (*library)
        fs_emit_str(e, "library_name", library);
    return e->rc == FS_OK;
}

static fs_status read_rows(fs_bytes text, const char *type, fs_search_row **rows, size_t *n, size_t *capacity, fs_error *err)
{
    struct json_object *list = NULL;
    fs_status rc = fs_json_parse(text, "the answer", &list, err);

    if (!rc && !json_object_is_type(list, json_type_array))
        rc = fs_fail(err, FS_ERR_FORMAT, "its answer is no list");
    for (size_t i = 0; !rc && i < json_object_array_length(list) && *n < FS_SEARCH_ROWS_MAX; i++) {
        fs_search_row *row = add_row(rows, n, capacity);
        if (!row)
            rc = fs_fail_memory(err, sizeof *row);
        else if (!read_row(json_object_array_get_idx(list, i), type, row)) {
            fs_emit_done(&row->json);
            --*n;
        }
    }
    json_object_put(list);
    return rc;
}

/* ---- a peer, in a thread of its own ---- */

static bool go_on(void *ud)
{
    fan *f = ud;

    return !f->over && !f->search->stopping;
}

static fs_status ask(errand *a, fs_search_row **rows, size_t *n, size_t *capacity, fs_error *err)
{
    fs_fetch *f = NULL;
    fs_buf url = { 0 }, text = { 0 };
    fs_status rc = fs_fetch_new("Farseek-Hub", &f, err);

    if (!rc) {
        fs_fetch_guard(f, a->fan->search->private_too, REPLY_SECONDS);
        fs_fetch_watch(f, go_on, a->fan);
        rc = fs_buf_printf(&url, err, "%s/api/%s?%s", a->url, a->fan->type, a->fan->query);
    }
    if (!rc)
        rc = fs_fetch_whole(f, &(fs_fetch_request){ .url = url.data }, REPLY_BYTES_MAX, &text, err);
    if (!rc && fs_fetch_status(f) != 200)
        rc = fs_fail(err, FS_ERR_IO, "it answered %d", fs_fetch_status(f));
    if (!rc)
        rc = read_rows(fs_buf_bytes(&text), a->fan->type, rows, n, capacity, err);
    fs_buf_done(&url);
    fs_buf_done(&text);
    fs_fetch_free(f);
    return rc;
}

/* Under the lock. */
static void drop(fan *f)
{
    if (--f->n_refs > 0)
        return;
    for (int i = 0; i < FS_SEARCH_PEERS_MAX; i++)
        rows_done(f->asked[i].rows, f->asked[i].n);
    free(f->query);
    free(f);
}

static void *run(void *ud)
{
    errand *a = ud;
    fan *f = a->fan;
    fs_search *s = f->search;
    fs_search_row *rows = NULL;
    size_t n = 0, capacity = 0;
    fs_error err = { 0 };
    fs_status rc = ask(a, &rows, &n, &capacity, &err);

    pthread_mutex_lock(&s->lock);
    if (!f->over && !rc) {
        f->asked[a->i].rows = rows;
        f->asked[a->i].n = n;
        f->asked[a->i].peer.failure[0] = 0;
        rows = NULL;
        n = 0;
    } else if (!f->over) {
        snprintf(f->asked[a->i].peer.failure, sizeof f->asked[a->i].peer.failure, "%.100s",
                 rc == FS_ERR_FORMAT ? "its answer is no list of repositories" : strncmp(err.message, "it answered", 11) == 0 ? err.message : "it cannot be reached");
    }
    f->n_left--;
    s->running[a->slot].n--;
    s->n_threads--;
    drop(f);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    rows_done(rows, n);
    free(a);
    return NULL;
}

/* Under the lock: the place where the peer's threads are counted; -1: it has as many as it may. */
static int slot_of(fs_search *s, const char *url)
{
    int free_slot = -1;

    for (int i = 0; i < THREADS_MAX; i++) {
        if (s->running[i].n > 0 && strcmp(s->running[i].url, url) == 0)
            return s->running[i].n < PER_PEER_MAX ? i : -1;
        if (s->running[i].n == 0 && free_slot < 0)
            free_slot = i;
    }
    if (free_slot >= 0)
        snprintf(s->running[free_slot].url, sizeof s->running[0].url, "%s", url);
    return free_slot;
}

/* Under the lock. */
static bool start(fan *f, int i)
{
    fs_search *s = f->search;
    errand *a = calloc(1, sizeof *a);
    pthread_attr_t attr;
    pthread_t thread;
    bool ok = false;

    if (!a)
        return false;
    *a = (errand){ .fan = f, .i = i, .slot = s->n_threads < THREADS_MAX ? slot_of(s, f->asked[i].peer.url) : -1 };
    memcpy(a->url, f->asked[i].peer.url, sizeof a->url);
    if (a->slot >= 0) {
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        ok = pthread_create(&thread, &attr, run, a) == 0;
        pthread_attr_destroy(&attr);
    }
    if (!ok) {
        free(a);
        return false;
    }
    s->running[a->slot].n++;
    s->n_threads++;
    f->n_refs++;
    f->n_left++;
    return true;
}

/* ---- who may ask how often ---- */

static uint64_t mix(uint64_t h, const void *data, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        h = (h ^ ((const uint8_t *)data)[i]) * 0x100000001b3;
    return h ^ h >> 29;
}

/* A user, or an address; of IPv6 the network, since one client has all of its addresses. */
static uint64_t client_of(const fs_hub_call *c, uint64_t seed)
{
    const char *address = fs_hub_client_address(c);
    struct in6_addr six;

    if (c->user.id)
        return mix(seed, &c->user.id, sizeof c->user.id);
    address += strspn(address, " ");
    if (inet_pton(AF_INET6, address, &six) == 1 && !IN6_IS_ADDR_V4MAPPED(&six))
        return mix(seed + 1, &six, 8);
    return mix(seed + 2, address, strlen(address));
}

static bool has_room(bucket *b, double now, double burst, double rate)
{
    b->used -= (now - b->at) * rate;
    b->used = b->used > 0 ? b->used : 0;
    b->at = now;
    return b->used + 1 <= burst;
}

/* Under the lock. A bucket is kept for good and may be two clients': whoever fills it hides nobody. */
static bool may_ask(fs_search *s, const fs_hub_call *c)
{
    double now = fs_seconds_now();
    bucket *b = s->clients + client_of(c, s->seed) % CLIENTS;
    bool guest = c->user.id == 0;

    if (!has_room(b, now, guest ? GUEST_BURST : USER_BURST, guest ? GUEST_RATE : USER_RATE) || (guest && !has_room(&s->guests, now, GUESTS_BURST, GUESTS_RATE)))
        return false;
    b->used++;
    s->guests.used += guest;
    return true;
}

/* ---- a search ---- */

fs_status fs_search_query_add(fs_buf *query, const char *name, const char *value, fs_error *err)
{
    fs_status rc = fs_buf_printf(query, err, "%s%s=", query->n_bytes ? "&" : "", name);

    return rc ? rc : fs_url_encode(query, fs_bytes_str(value), "", err);
}

static fs_status read_peers(fs_hub_call *c, fan *f, int *ret_n)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(c->db, &st, &c->err, "SELECT url FROM peers WHERE url <> ? ORDER BY added_ms, url LIMIT ?", "si", c->base, (int64_t)FS_SEARCH_PEERS_MAX);

    *ret_n = 0;
    while (!rc && fs_db_next(st))
        snprintf(f->asked[(*ret_n)++].peer.url, sizeof f->asked[0].peer.url, "%s", fs_db_text(st, 0));
    return rc ? rc : fs_db_end(st, &c->err);
}

/* Takes the row into r, or into one that is the same there. */
static fs_status take(fs_search_result *r, size_t n_here, fs_search_row *row, int peer)
{
    fs_search_row *new;

    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->rows[i].sha, row->sha) == 0 && strcasecmp(r->rows[i].id, row->id) == 0) {
            r->rows[i].peers |= (uint32_t)1 << peer;
            return FS_OK;
        }
    if (r->n - n_here >= FS_SEARCH_ROWS_MAX)
        return FS_OK;
    new = add_row(&r->rows, &r->n, &r->capacity);
    if (!new)
        return FS_ERR_MEMORY;
    *new = *row;
    new->peers = (uint32_t)1 << peer;
    row->json = (fs_emit){ 0 };
    return FS_OK;
}

static fs_status merge(fan *f, int n_peers, fs_search_result *r)
{
    const size_t n_here = r->n;
    fs_status rc = FS_OK;

    for (size_t k = 0; k < FS_SEARCH_ROWS_MAX && !rc; k++)
        for (int i = 0; i < n_peers && !rc; i++)
            if (k < f->asked[i].n)
                rc = take(r, n_here, f->asked[i].rows + k, i);
    r->n_peers = n_peers;
    for (int i = 0; i < n_peers; i++)
        r->peers[i] = f->asked[i].peer;
    return rc;
}

/* Under the lock, until all have answered or the time is over. */
static void wait_for(fan *f)
{
    fs_search *s = f->search;
    double end = fs_seconds_now() + WAIT_SECONDS;

    while (f->n_left > 0 && !s->stopping && fs_cond_wait_until(&s->changed, &s->lock, end))
        ;
}

bool fs_search_peers(fs_hub_call *c, const char *type, const char *query, fs_search_result *r)
{
    fs_search *s = c->hub->search;
    fan *f = calloc(1, sizeof *f);
    int n_peers = 0;
    bool allowed, room;
    fs_status rc = f && (f->query = strdup(query)) ? FS_OK : fs_fail_memory(&c->err, sizeof *f);

    if (!rc)
        rc = read_peers(c, f, &n_peers);
    if (rc) {
        if (f)
            free(f->query);
        free(f);
        return !fs_hub_failed(c, rc);
    }
    f->search = s;
    f->n_refs = 1;
    snprintf(f->type, sizeof f->type, "%s", type);
    pthread_mutex_lock(&s->lock);
    room = s->n_searches < SEARCHES_MAX && !s->stopping;
    allowed = room && may_ask(s, c);
    if (allowed) {
        s->n_searches++;
        for (int i = 0; i < n_peers; i++)
            snprintf(f->asked[i].peer.failure, sizeof f->asked[i].peer.failure, "%s", start(f, i) ? "it did not answer in time" : "too many searches wait for it");
        wait_for(f);
        f->over = true;
        s->n_searches--;
        rc = merge(f, n_peers, r);
    }
    drop(f);
    pthread_mutex_unlock(&s->lock);
    if (!allowed) {
        fs_http_reply_header(c->http, "Retry-After", room ? "2" : "1");
        fs_hub_error(c, room ? 429 : 503, NULL, room ? "too many searches of the peers from you: wait a little" : "too many searches of the peers at a time: try again");
        return false;
    }
    return !fs_hub_failed(c, rc ? fs_fail_memory(&c->err, sizeof *r->rows) : FS_OK);
}

void fs_search_emit(const fs_hub_call *c, fs_search_result *r, fs_emit *e)
{
    fs_emit_begin(e, '[');
    for (size_t i = 0; i < r->n; i++) {
        fs_search_row *row = r->rows + i;
        fs_emit *j = &row->json;
        fs_emit_key(j, "origins");
        fs_emit_begin(j, '[');
        if (row->here)
            fs_emit_str(j, NULL, c->base);
        for (int k = 0; k < r->n_peers; k++)
            if (row->peers >> k & 1)
                fs_emit_str(j, NULL, r->peers[k].url);
        fs_emit_end(j, ']');
        fs_emit_end(j, '}');
        e->rc = e->rc ? e->rc : j->rc;
        fs_emit_json(e, NULL, j->out.data ? j->out.data : "null");
    }
    fs_emit_end(e, ']');
    for (int k = 0; k < r->n_peers; k++) {
        if (*r->peers[k].failure)
            fs_http_reply_headerf(c->http, "X-Farseek-Unanswered", "%s (%s)", r->peers[k].url, r->peers[k].failure);
        else
            fs_http_reply_headerf(c->http, "X-Farseek-Answered", "%s", r->peers[k].url);
    }
}
