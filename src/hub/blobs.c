/* Blobs as files of DATA, and the choice of a store. */
#include "hub/blobs.h"

#include "hub/xet_store.h"

#include "base/file.h"
#include "crypto/sha256.h"
#include "net/s3.h"
#include "net/url.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CACHE_BYTES ((uint64_t)10 << 30)
#define GGUF_BYTES  ((uint64_t)32 << 20)
#define HEADER_MAX  ((uint64_t)100 << 20) /* safetensors allows no longer one */

static const char *const folders[] = { "objects", "xorbs" };

void fs_blob_folder(const fs_hub *h, fs_blob_kind kind, char ret[400])
{
    snprintf(ret, 400, "%s/%s", h->data, h->s3_url ? "cache" : folders[kind]);
}

static fs_status path_of(const fs_hub *h, fs_blob_kind kind, const char *name, char ret[512], fs_error *err)
{
    if (strlen(name) != 64 || snprintf(ret, 512, "%s/%s/%.2s/%.2s/%s", h->data, folders[kind], name, name + 2, name) >= 512)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.80s' is no hash", name);
    return FS_OK;
}

static fs_status is_here(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, const char *name, bool *ret, uint64_t *ret_bytes, fs_error *err)
{
    char path[512];
    struct stat st;
    fs_status rc = path_of(h, kind, name, path, err);

    *ret = !rc && stat(path, &st) == 0;
    if (!rc && !*ret && kind == FS_BLOB_OBJECT) {
        rc = fs_xet_object_is_here(h, db, name, ret, ret_bytes, err);
        if (rc || *ret)
            return rc;
        *ret = stat(path, &st) == 0; /* it left its xorbs just now (xet_plain.c) */
    }
    if (*ret)
        *ret_bytes = (uint64_t)st.st_size;
    return rc;
}

bool fs_blob_has_file(const fs_hub *h, const char *name)
{
    char path[512];

    return h->s3_url || (path_of(h, FS_BLOB_OBJECT, name, path, NULL) == FS_OK && access(path, F_OK) == 0);
}

static fs_status open_file(const fs_hub *h, fs_blob_kind kind, const char *name, int *ret_fd, uint64_t *ret_bytes, fs_error *err)
{
    char path[512];
    fs_status rc = path_of(h, kind, name, path, err);

    return rc ? rc : fs_hub_open_stored(path, ret_fd, ret_bytes, err);
}

static fs_status open_blob(const fs_hub *h, fs_blob_kind kind, const char *name, bool fresh, int *ret_fd, uint64_t *ret_bytes, fs_error *err)
{
    fs_status rc = open_file(h, kind, name, ret_fd, ret_bytes, err), made;

    (void)fresh;
    if (rc != FS_ERR_NOT_FOUND || kind != FS_BLOB_OBJECT)
        return rc;
    made = fs_xet_object_make(h, name, err);
    rc = open_file(h, kind, name, ret_fd, ret_bytes, made ? NULL : err); /* it may have been made by another, which took the xorbs away */
    return made && rc ? made : rc;
}

uint64_t fs_blob_head_bytes(int fd, uint64_t n_bytes)
{
    uint8_t first[8] = { 0 };
    uint64_t n = 0;

    if (pread(fd, first, sizeof first, 0) != sizeof first)
        return 0;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | first[i];
    n = memcmp(first, "GGUF", 4) == 0 ? GGUF_BYTES : n <= HEADER_MAX ? n + 8 : 0;
    return n < n_bytes ? n : n_bytes;
}

static fs_status open_head(const fs_hub *h, fs_blob_kind kind, const char *name, uint64_t n_bytes, int *ret_fd, fs_error *err)
{
    uint64_t is = 0, n_head = 0;
    sqlite3 *db = NULL;
    fs_status rc = open_file(h, kind, name, ret_fd, &is, err), ends;

    if (rc != FS_ERR_NOT_FOUND || kind != FS_BLOB_OBJECT)
        return rc;
    ends = fs_db_take(h->db, &db, err);
    if (!ends)
        ends = fs_xet_object_ends(h, db, name, n_bytes, true, 0, ret_fd, &n_head, err);
    fs_db_give(h->db, db);
    return ends ? (open_file(h, kind, name, ret_fd, &is, NULL) ? ends : FS_OK) : FS_OK;
}

static fs_status read_blob(const fs_hub *h, fs_blob_kind kind, const char *name, uint64_t begin, uint64_t n_bytes, fs_fetch_sink *sink, void *ud, fs_error *err)
{
    size_t n_part = (size_t)256 << 10;
    char *part = malloc(n_part);
    uint64_t is = 0;
    int fd = -1;
    sqlite3 *db = NULL;
    fs_status rc = part ? open_file(h, kind, name, &fd, &is, err) : fs_fail_memory(err, n_part);

    if (rc == FS_ERR_NOT_FOUND && kind == FS_BLOB_OBJECT) {
        free(part);
        rc = fs_db_take(h->db, &db, err);
        if (!rc)
            rc = fs_xet_object_read(h, db, name, begin, n_bytes, sink, ud, err);
        fs_db_give(h->db, db);
        return rc;
    }
    if (n_bytes == UINT64_MAX)
        n_bytes = is - begin;
    while (!rc && n_bytes) {
        ssize_t n = pread(fd, part, n_bytes < n_part ? (size_t)n_bytes : n_part, (off_t)begin);
        if (n <= 0)
            rc = fs_fail_errno(err, n < 0 ? errno : EIO, "cannot read '%s'", name);
        else
            rc = sink(ud, part, (size_t)n, err);
        begin += n > 0 ? (uint64_t)n : 0;
        n_bytes -= n > 0 ? (uint64_t)n : 0;
    }
    if (fd >= 0)
        close(fd);
    free(part);
    return rc;
}

typedef struct download {
    fs_hub_call *c;
    const char *type;
    int status;
    uint64_t n_bytes;
    bool begun;
} download;

static fs_status pass_on(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    download *d = ud;

    if (!d->begun) {
        d->begun = true;
        d->c->replied = true;
        fs_http_stream_begin_sized(d->c->http, d->status, d->type, d->n_bytes);
    }
    return fs_http_stream_write(d->c->http, data, n_bytes, err);
}

/* One that is in xorbs alone goes from there. */
static void send_from_xorbs(fs_hub_call *c, const char *name, uint64_t n_bytes, const char *type)
{
    download d = { .c = c, .type = type ? type : "application/octet-stream" };
    uint64_t begin, is = 0;
    int fd;
    fs_status rc;

    if (strcmp(fs_http_method(c->http), "HEAD") == 0 || n_bytes == 0) {
        fs_hub_send_size(c, n_bytes, type);
        return;
    }
    if (!fs_hub_need_range(c, n_bytes, &begin, &d.n_bytes, &d.status))
        return;
    rc = fs_xet_object_read(c->hub, c->db, name, begin, d.n_bytes, pass_on, &d, &c->err);
    if (rc && d.begun)
        fs_http_stream_break(c->http);
    else if (rc && open_file(c->hub, FS_BLOB_OBJECT, name, &fd, &is, NULL) == FS_OK) /* it left its xorbs just now (xet_plain.c) */
        fs_hub_send_file(c, fd, is, type);
    else if (rc == FS_ERR_FORMAT)
        fs_hub_error(c, 500, NULL, "object %s: %s", name, c->err.message);
    else
        fs_hub_failed(c, rc);
}

static void send_blob(fs_hub_call *c, fs_blob_kind kind, const char *name, uint64_t n_bytes, const char *type)
{
    int fd;
    fs_status rc = open_file(c->hub, kind, name, &fd, &n_bytes, &c->err);

    if (rc == FS_ERR_NOT_FOUND && kind == FS_BLOB_OBJECT)
        send_from_xorbs(c, name, n_bytes, type);
    else if (!fs_hub_failed(c, rc))
        fs_hub_send_file(c, fd, n_bytes, type);
}

static fs_status no_link(const fs_hub *h, fs_blob_kind kind, const char *name, fs_buf *ret, fs_error *err)
{
    (void)h, (void)kind, (void)name, (void)ret, (void)err;
    return FS_OK;
}

static fs_status put(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, const char *name, const char *from, int fd, uint64_t n_bytes, fs_blob_push *push, fs_error *err)
{
    char path[512];
    fs_status rc = path_of(h, kind, name, path, err);

    (void)db, (void)n_bytes, (void)push;
    if (!rc && fsync(fd) != 0)
        rc = fs_fail_errno(err, errno, "cannot write '%s'", path);
    return rc ? rc : fs_hub_name_file(from ? -1 : fd, from, path, err);
}

static int64_t touched_ms(const struct stat *st)
{
    return (int64_t)st->st_ctim.tv_sec * 1000 + st->st_ctim.tv_nsec / 1000000;
}

typedef struct walk {
    int depth;
    int64_t before_ms;
    fs_blob_list_fn *fn;
    void *ud;
} walk;

static fs_status look(void *ud, const char *path, const char *name, fs_error *err)
{
    walk *w = ud;
    struct stat st;
    fs_status rc;

    if (w->depth < 2) {
        w->depth++;
        rc = fs_hub_each(path, look, w, err);
        w->depth--;
        return rc;
    }
    return stat(path, &st) != 0 || touched_ms(&st) > w->before_ms ? FS_OK : w->fn(w->ud, name, (uint64_t)st.st_size, err);
}

static fs_status list(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, bool stored, int64_t before_ms, fs_blob_list_fn *fn, void *ud, fs_error *err)
{
    walk w = { .before_ms = before_ms, .fn = fn, .ud = ud };
    char path[400];

    (void)db, (void)stored;
    fs_blob_folder(h, kind, path);
    return fs_hub_each(path, look, &w, err);
}

static fs_status remove_blob(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, const char *name, int64_t before_ms, fs_blob_needed_fn *needed, bool *ret, uint64_t *ret_bytes, fs_error *err)
{
    char path[512];
    struct stat st;
    bool is_needed = true;
    fs_status rc = path_of(h, kind, name, path, err);

    *ret = false;
    if (!rc)
        rc = fs_db_begin(db, err);
    if (!rc)
        rc = needed(db, name, &is_needed, err);
    if (!rc && !is_needed && stat(path, &st) == 0 && touched_ms(&st) <= before_ms) {
        rc = unlink(path) == 0 ? FS_OK : fs_fail_errno(err, errno, "cannot remove '%s'", path);
        *ret = !rc;
        *ret_bytes = (uint64_t)st.st_size;
    }
    fs_db_rollback(db);
    return rc;
}

static fs_status take_out(const fs_hub *h, sqlite3 *db, fs_blob_kind kind, const char *name, fs_error *err)
{
    char path[512], lost[700];
    fs_status rc = path_of(h, kind, name, path, err);

    (void)db;
    snprintf(lost, sizeof lost, "%s/lost", h->data);
    if (!rc)
        rc = fs_hub_folders_make(lost, err);
    snprintf(lost, sizeof lost, "%s/lost/%s", h->data, name);
    if (!rc && rename(path, lost) != 0)
        rc = fs_fail_errno(err, errno, "cannot move '%s' away", path);
    return rc;
}

const fs_blob_store fs_blobs_files = { is_here, open_blob, open_head, read_blob, send_blob, no_link, put, list, remove_blob, take_out, NULL, NULL };

fs_status fs_blob_object_is_needed(sqlite3 *db, const char *name, bool *ret, fs_error *err)
{
    uint8_t oid[32];
    int64_t n = 1;
    fs_status rc = fs_hex_read(fs_bytes_str(name), oid, sizeof oid) ? fs_db_int(db, &n, NULL, err, "SELECT count(*) FROM objects WHERE oid = ?", "b", (fs_bytes){ oid, sizeof oid }) : FS_OK;

    *ret = n > 0;
    return rc;
}

/* ---- the choice ---- */

typedef struct choice {
    char url[300], endpoint[250], region[64];
    int64_t redirect, cache_bytes;
} choice;

static fs_status read_choice(sqlite3 *db, choice *ret, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(db, &st, err, "SELECT url, endpoint, region, redirect, cache_bytes FROM blob_store", "");

    if (rc)
        return rc;
    if (fs_db_next(st)) {
        snprintf(ret->url, sizeof ret->url, "%s", fs_db_text(st, 0));
        snprintf(ret->endpoint, sizeof ret->endpoint, "%s", fs_db_text(st, 1));
        snprintf(ret->region, sizeof ret->region, "%s", fs_db_text(st, 2));
        ret->redirect = sqlite3_column_int64(st, 3);
        ret->cache_bytes = sqlite3_column_int64(st, 4);
    }
    return fs_db_end(st, err);
}

static fs_status make_choice(fs_hub *h, sqlite3 *db, choice *c, fs_error *err)
{
    const fs_hub_options *o = &h->options;
    char url[300];
    int64_t n = 0;
    size_t n_url;
    fs_status rc;

    if (strncmp(o->blobs, "s3://", 5) != 0 || strlen(o->blobs) >= sizeof url - 1 || (o->s3_endpoint && strlen(o->s3_endpoint) >= sizeof c->endpoint) ||
        (o->s3_region && strlen(o->s3_region) >= sizeof c->region))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' is no place for blobs: s3://BUCKET or s3://BUCKET/PREFIX", o->blobs);
    snprintf(url, sizeof url, "%s", o->blobs);
    n_url = strlen(url);
    while (n_url > 6 && url[n_url - 1] == '/')
        url[--n_url] = 0;
    if (*c->url && strcmp(c->url, url) != 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "this hub's large files are in %s, not in %s: hub backup makes a copy with its files beside it", c->url, url);
    rc = *c->url ? FS_OK : fs_db_int(db, &n, NULL, err, "SELECT (SELECT count(*) FROM objects) + (SELECT count(*) FROM xet_xorbs)", "");
    if (!rc && n > 0)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "this hub has %lld large files beside its database: a store is chosen before the first", (long long)n);
    if (rc)
        return rc;
    *c = (choice){ .redirect = o->s3_redirect, .cache_bytes = (int64_t)(o->s3_cache_bytes ? o->s3_cache_bytes : CACHE_BYTES) };
    memcpy(c->url, url, sizeof url);
    snprintf(c->region, sizeof c->region, "%s", o->s3_region ? o->s3_region : "us-east-1");
    if (o->s3_endpoint)
        snprintf(c->endpoint, sizeof c->endpoint, "%s", o->s3_endpoint);
    else
        snprintf(c->endpoint, sizeof c->endpoint, "https://s3.%s.amazonaws.com", c->region);
    return fs_db_run(db, err, "INSERT INTO blob_store(id, url, endpoint, region, redirect, cache_bytes) VALUES(1, ?1, ?2, ?3, ?4, ?5) ON CONFLICT(id) DO UPDATE SET endpoint = ?2, region = ?3,"
                              " redirect = ?4, cache_bytes = ?5",
                     "sssii", c->url, c->endpoint, c->region, c->redirect, c->cache_bytes);
}

static fs_status connect_s3(fs_hub *h, const choice *c, fs_error *err)
{
    const fs_hub_options *o = &h->options;
    char bucket[300], prefix[310] = "", *slash;
    fs_s3_options s = { .endpoint = c->endpoint, .region = c->region, .bucket = bucket, .prefix = prefix, .access_key = o->s3_access_key, .secret_key = o->s3_secret_key,
                        .session_token = o->s3_session_token };

    snprintf(bucket, sizeof bucket, "%s", c->url + strlen("s3://"));
    slash = strchr(bucket, '/');
    if (slash) {
        *slash = 0;
        snprintf(prefix, sizeof prefix, "%s/", slash + 1);
    }
    h->s3_url = strdup(c->url);
    h->store = &fs_blobs_s3;
    h->s3_redirect = c->redirect != 0;
    h->blob_cache_bytes = (uint64_t)c->cache_bytes;
    if (!h->s3_url)
        return fs_fail_memory(err, sizeof c->url);
    /* Without keys accounts can be looked after, and questions answered whether something is here. */
    return o->s3_access_key && *o->s3_access_key && o->s3_secret_key && *o->s3_secret_key ? fs_s3_new(&s, &h->s3, err) : FS_OK;
}

/* The bucket's prefix is this hub's alone: it says so itself, since collecting garbage removes what the database does not know. */
static fs_status mark_bucket(fs_hub *h, fs_error *err)
{
    char mine[65], have[80] = "";
    uint64_t n = 0;
    fs_buf text = { 0 };
    fs_status rc;

    fs_hub_key(h, mine);
    rc = fs_s3_size(h->s3, "hub", &n, err);
    if (rc == FS_ERR_NOT_FOUND)
        return fs_s3_put_text(h->s3, "hub", mine, err);
    if (!rc && n == 64)
        rc = fs_s3_get(h->s3, "hub", 0, n, fs_blob_into_buf, &text, err);
    snprintf(have, sizeof have, "%.64s", text.data ? text.data : "");
    fs_buf_done(&text);
    if (!rc && strcmp(have, mine) != 0)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "%s belongs to another hub, %s", h->s3_url, have);
    return rc;
}

fs_status fs_blob_into_buf(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    return fs_buf_append(ud, data, n_bytes, err);
}

fs_status fs_blobs_open(fs_hub *h, fs_error *err)
{
    choice c = { .url = "" };
    sqlite3 *db = NULL;
    char path[400];
    fs_status rc = fs_db_take(h->db, &db, err);

    h->store = &fs_blobs_files;
    if (!rc)
        rc = read_choice(db, &c, err);
    if (!rc && h->options.blobs)
        rc = make_choice(h, db, &c, err);
    fs_db_give(h->db, db);
    if (rc || !*c.url)
        return rc;
    rc = connect_s3(h, &c, err);
    snprintf(path, sizeof path, "%s/cache", h->data);
    if (!rc)
        rc = fs_hub_folders_make(path, err);
    return rc;
}

fs_status fs_hub_blobs_reach(fs_hub *h, fs_error *err)
{
    if (!h->s3_url)
        return FS_OK;
    if (!h->s3)
        return fs_fail(err, FS_ERR_ARGUMENT, FS_BLOB_NO_KEYS, h->s3_url);
    return mark_bucket(h, err);
}

void fs_blobs_close(fs_hub *h)
{
    fs_s3_free(h->s3);
    free(h->s3_url);
}
