/* Git LFS: the batch, uploads whole and in parts, verification, downloads. The clients send no token with an upload's bytes, so that its link
 * carries the right itself: what may be sent where until when, signed.
 * https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md */
#include "hub/lfs_batch.h"
#include "hub/blobs.h"
#include "hub/through.h"

#include "base/file.h"
#include "crypto/sha256.h"
#include "net/url.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINK_SECONDS (6 * 3600)
#define PARTS_MAX    1000
#define COPY_BYTES   ((size_t)256 << 10)
#define PART_SECONDS 5 /* that the end of an upload waits for parts that still arrive */

/* ---- links ---- */

/* verb, object, size, repository and time of a link; part: 0, or of an upload in parts. */
typedef struct lfs_link {
    const char *verb, *what;
    int64_t size, repo, part, expires;
} lfs_link;

static void sign_link(const fs_hub *h, const lfs_link *l, char ret[65])
{
    char text[300];

    snprintf(text, sizeof text, "%s %s %lld %lld %lld %lld", l->verb, l->what, (long long)l->size, (long long)l->repo, (long long)l->part, (long long)l->expires);
    fs_hub_sign(h, text, ret);
}

static void query_of(const fs_hub *h, const lfs_link *l, char ret[200])
{
    char signature[65];

    sign_link(h, l, signature);
    snprintf(ret, 200, "size=%lld&repo=%lld&exp=%lld&sig=%s", (long long)l->size, (long long)l->repo, (long long)l->expires, signature);
}

static int64_t number_of(const fs_hub_call *c, const char *name)
{
    const char *text = fs_http_query(c->http, name, 0);

    return text ? strtoll(text, NULL, 10) : -1;
}

/* The link of this request, if it was signed here and holds still; false after a 403. */
static bool need_link(fs_hub_call *c, const char *verb, const char *what, int64_t part, lfs_link *ret)
{
    char text[300];

    *ret = (lfs_link){ verb, what, number_of(c, "size"), number_of(c, "repo"), part, number_of(c, "exp") };
    snprintf(text, sizeof text, "%s %s %lld %lld %lld %lld", verb, what, (long long)ret->size, (long long)ret->repo, (long long)part, (long long)ret->expires);
    if (strlen(what) > 80 || !fs_hub_sign_check(c->hub, text, fs_http_query(c->http, "sig", 0)) || ret->expires < (int64_t)time(NULL)) {
        fs_hub_error(c, 403, NULL, "this link is not valid, or not any more");
        return false;
    }
    return true;
}

static lfs_link new_link(const fs_hub_call *c, const char *verb, const char *what, uint64_t size, int64_t part)
{
    return (lfs_link){ verb, what, (int64_t)size, c->repo.id, part, (int64_t)time(NULL) + LINK_SECONDS };
}

/* ---- the batch ---- */

typedef struct batch {
    fs_hub_call *c;
    fs_emit e;
    fs_lfs_batch asked;
    bool any_multipart;
    int64_t quota, used; /* of the owner; quota -1: none */
} batch;

/* Whether another repository that the user may read holds it: then it need not be sent again. */
static fs_status readable_elsewhere(fs_hub_call *c, const char *oid_hex, bool *ret, uint64_t *ret_bytes, fs_error *err)
{
    uint8_t oid[32];
    int64_t size = 0;
    fs_status rc;

    if (!fs_hex_read(fs_bytes_str(oid_hex), oid, sizeof oid))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.80s' is no SHA-256", oid_hex);
    rc = fs_db_int(c->db, &size, ret, err,
                   "SELECT o.size FROM objects o JOIN repo_objects ro USING(oid) JOIN repos r ON r.id = ro.repo WHERE o.oid = ?1 AND (" FS_HUB_REPO_IS_OPEN
                   " OR " FS_HUB_REPO_IS_OF("?2", "?3") ") LIMIT 1",
                   "bii", (fs_bytes){ oid, sizeof oid }, c->user.id, c->user.scope);
    *ret_bytes = (uint64_t)size;
    if (!rc && *ret) { /* and its file is there */
        uint64_t n_bytes = 0;
        rc = c->hub->store->is_here(c->hub, c->db, FS_BLOB_OBJECT, oid_hex, ret, &n_bytes, err);
        *ret = !rc && *ret && n_bytes == (uint64_t)size;
    }
    return rc;
}

/* The repository holds what another holds now, if that still does: no garbage is collected meanwhile. */
static fs_status share(fs_hub_call *c, const char *oid, uint64_t size, fs_error *err)
{
    bool still = false;
    uint64_t n = 0;
    fs_status rc = fs_db_begin(c->db, err);

    if (!rc)
        rc = readable_elsewhere(c, oid, &still, &n, err);
    if (!rc && !still)
        rc = fs_fail(err, FS_ERR_IO, "the object %s is gone: try again", oid);
    if (!rc)
        rc = fs_hub_object_add(c->db, c->repo.id, oid, size, err);
    if (!rc)
        rc = fs_db_commit(c->db, err);
    if (rc)
        fs_db_rollback(c->db);
    return rc;
}

static void emit_error(fs_emit *e, int code, const char *message)
{
    fs_emit_key(e, "error");
    fs_emit_begin(e, '{');
    fs_emit_int(e, "code", code);
    fs_emit_str(e, "message", message);
    fs_emit_end(e, '}');
}

static void emit_href(batch *b, const char *action, const char *path, const lfs_link *l)
{
    char query[200], url[700];

    query_of(b->c->hub, l, query);
    snprintf(url, sizeof url, "%s/lfs/%s?%s", b->c->base, path, query);
    fs_emit_key(&b->e, action);
    fs_emit_begin(&b->e, '{');
    fs_emit_str(&b->e, "href", url);
}

/* A row for the upload, and the links of its parts. */
static fs_status emit_parts(batch *b, const char *oid_hex, uint64_t size, fs_error *err)
{
    fs_hub_call *c = b->c;
    uint64_t chunk = c->hub->options.multipart_bytes, n_parts;
    uint8_t oid[32];
    char id[33], path[120], query[200], url[700], key[24];
    lfs_link l;
    fs_status rc;

    while ((size + chunk - 1) / chunk > PARTS_MAX)
        chunk *= 2;
    n_parts = (size + chunk - 1) / chunk;
    fs_hub_random_name(id, sizeof id);
    fs_hex_read(fs_bytes_str(oid_hex), oid, sizeof oid);
    rc = fs_db_run(c->db, err, "INSERT INTO uploads(id, repo, oid, size, chunk, created_ms) VALUES(?, ?, ?, ?, ?, ?)", "sibiii", id, c->repo.id,
                   (fs_bytes){ oid, sizeof oid }, (int64_t)size, (int64_t)chunk, fs_unix_ms());
    if (rc)
        return rc;
    snprintf(path, sizeof path, "parts/%s", id);
    l = new_link(c, "complete", id, size, 0);
    emit_href(b, "upload", path, &l);
    fs_emit_key(&b->e, "header");
    fs_emit_begin(&b->e, '{');
    snprintf(key, sizeof key, "%llu", (unsigned long long)chunk);
    fs_emit_str(&b->e, "chunk_size", key);
    for (uint64_t i = 1; i <= n_parts; i++) {
        l = new_link(c, "part", id, i < n_parts ? chunk : size - (n_parts - 1) * chunk, (int64_t)i);
        query_of(c->hub, &l, query);
        snprintf(url, sizeof url, "%s/lfs/parts/%s/%llu?%s", c->base, id, (unsigned long long)i, query);
        snprintf(key, sizeof key, "%llu", (unsigned long long)i);
        fs_emit_str(&b->e, key, url);
    }
    fs_emit_end(&b->e, '}');
    fs_emit_end(&b->e, '}');
    b->any_multipart = true;
    return FS_OK;
}

static fs_status answer_upload(batch *b, const char *oid, uint64_t size, bool held, uint64_t n_held, fs_error *err)
{
    fs_hub_call *c = b->c;
    char path[120];
    lfs_link l;
    fs_status rc = FS_OK;
    bool here = held;

    if (!held)
        rc = readable_elsewhere(c, oid, &here, &n_held, err);
    if (rc)
        return rc;
    if (here && n_held != size) {
        emit_error(&b->e, 422, "the object has another size");
        return FS_OK;
    }
    if (!held && b->quota >= 0 && (uint64_t)b->quota - (uint64_t)(b->used > b->quota ? b->quota : b->used) < size) {
        emit_error(&b->e, 413, FS_HUB_QUOTA_USED);
        return FS_OK;
    }
    if (!held)
        b->used += (int64_t)size;
    if (here)
        return held ? FS_OK : share(c, oid, size, err);
    fs_emit_key(&b->e, "actions");
    fs_emit_begin(&b->e, '{');
    if (b->asked.multipart && size >= c->hub->options.multipart_bytes) {
        rc = emit_parts(b, oid, size, err);
    } else {
        snprintf(path, sizeof path, "objects/%s", oid);
        l = new_link(c, "put", oid, size, 0);
        emit_href(b, "upload", path, &l);
        fs_emit_end(&b->e, '}');
    }
    snprintf(path, sizeof path, "objects/%s/verify", oid);
    l = new_link(c, "verify", oid, size, 0);
    emit_href(b, "verify", path, &l);
    fs_emit_end(&b->e, '}');
    fs_emit_end(&b->e, '}');
    return rc;
}

static fs_status answer_download(batch *b, const char *oid, bool held, uint64_t size, fs_error *err)
{
    fs_hub_call *c = b->c;
    char path[120];
    fs_buf url = { 0 };
    lfs_link l = new_link(c, "get", oid, size, 0);
    fs_status rc = held ? c->hub->store->link(c->hub, FS_BLOB_OBJECT, oid, &url, err) : FS_OK;

    if (rc)
        return rc;
    snprintf(path, sizeof path, "objects/%s", oid);
    fs_emit_key(&b->e, "actions");
    fs_emit_begin(&b->e, '{');
    if (url.n_bytes) {
        fs_emit_key(&b->e, "download");
        fs_emit_begin(&b->e, '{');
        fs_emit_str(&b->e, "href", url.data);
    } else {
        emit_href(b, "download", path, &l);
    }
    fs_emit_end(&b->e, '}');
    fs_emit_end(&b->e, '}');
    fs_buf_done(&url);
    return FS_OK;
}

static fs_status answer_object(batch *b, const fs_lfs_object *o, fs_error *err)
{
    uint64_t size = (uint64_t)o->n_bytes, n_held = 0;
    bool held = false;
    fs_status rc = fs_hub_object_of(b->c->hub, b->c->db, b->c->repo.id, o->oid, &held, &n_held, err);

    fs_emit_begin(&b->e, '{');
    fs_emit_str(&b->e, "oid", o->oid);
    fs_emit_int(&b->e, "size", o->n_bytes);
    fs_emit_bool(&b->e, "authenticated", true);
    if (!rc && b->asked.upload) {
        rc = answer_upload(b, o->oid, size, held, n_held, err);
    } else if (!rc && !held && !fs_through_has(b->c->hub, b->c->db, b->c->repo.id, o->oid, size)) {
        emit_error(&b->e, 404, "Object does not exist");
    } else if (!rc) {
        rc = answer_download(b, o->oid, held, held ? n_held : size, err);
    }
    fs_emit_end(&b->e, '}');
    return rc;
}

void fs_hub_lfs_batch(fs_hub_call *c)
{
    batch b = { .c = c };
    int64_t loose = 0;
    fs_status rc = fs_lfs_batch_read(fs_http_body(c->http), &b.asked, &c->err);

    if (rc == FS_ERR_FORMAT)
        fs_hub_error(c, 422, NULL, "%s", c->err.message);
    if (fs_hub_failed(c, rc))
        return;
    fs_http_reply_header(c->http, "LFS-Authenticate", "Basic realm=\"hub\"");
    /* Whoever may open a pull request may upload what it needs. */
    if ((b.asked.upload && !fs_hub_need_user(c, true)) || !fs_hub_need_repo_path(c, 0, FS_HUB_READ) || !fs_hub_need_open(c))
        goto out;
    if (b.asked.upload)
        rc = fs_hub_quota_of(c->db, c->repo.owner, &b.quota, &b.used, &loose, &c->err);
    b.used += loose;
    fs_emit_begin(&b.e, '{');
    fs_emit_key(&b.e, "objects");
    fs_emit_begin(&b.e, '[');
    for (size_t i = 0; i < b.asked.n_objects && !rc; i++)
        rc = answer_object(&b, b.asked.objects + i, &c->err);
    fs_emit_end(&b.e, ']');
    fs_emit_str(&b.e, "transfer", b.any_multipart ? "multipart" : "basic");
    fs_emit_str(&b.e, "hash_algo", "sha256");
    fs_emit_end(&b.e, '}');
    if (!fs_hub_failed(c, rc) && !b.e.rc) {
        c->replied = true;
        fs_http_reply_buf(c->http, 200, "application/vnd.git-lfs+json", &b.e.out);
    }
out:
    fs_lfs_batch_done(&b.asked);
    fs_emit_done(&b.e);
}

/* ---- whole files ---- */

/* Links may be older than what others uploaded since. */
static fs_status room_for_object(fs_hub_call *c, int64_t repo, const char *oid, uint64_t n_bytes, fs_error *err)
{
    uint64_t n_held = 0;
    bool held = false;
    fs_status rc = fs_hub_object_of(c->hub, c->db, repo, oid, &held, &n_held, err);

    return rc || held ? rc : fs_hub_room_for(c->hub, c->db, repo, n_bytes, false, err);
}

void fs_hub_lfs_put(fs_hub_call *c)
{
    const char *oid = fs_http_param(c->http, 0);
    fs_hub_incoming in = { .fd = -1 };
    lfs_link l;
    char *buf = malloc(COPY_BYTES);
    uint64_t length;
    size_t n = 0;
    fs_status rc;

    if (!buf || !need_link(c, "put", oid, 0, &l))
        goto out;
    if (fs_http_content_length(c->http, &length) && length != (uint64_t)l.size) {
        fs_hub_error(c, 400, NULL, "the link is for %lld bytes, not %llu", (long long)l.size, (unsigned long long)length);
        goto out;
    }
    rc = room_for_object(c, l.repo, oid, (uint64_t)l.size, &c->err);
    if (!rc)
        rc = fs_hub_incoming_open(c->hub, oid, (uint64_t)l.size, &in, &c->err);
    while (!rc) {
        rc = fs_http_read(c->http, buf, COPY_BYTES, &n, &c->err);
        if (rc || n == 0)
            break;
        if (n > (uint64_t)l.size - in.n_bytes)
            rc = fs_fail(&c->err, FS_ERR_FORMAT, "more than the %lld bytes that the link is for", (long long)l.size);
        else
            rc = fs_hub_incoming_put(&in, buf, n, &c->err);
    }
    if (!rc && in.n_bytes != (uint64_t)l.size)
        rc = fs_fail(&c->err, FS_ERR_FORMAT, "%llu bytes arrived, the link is for %lld", (unsigned long long)in.n_bytes, (long long)l.size);
    if (!rc)
        rc = fs_hub_incoming_add(c->hub, &in, c->db, l.repo, oid, &c->err);
    if (!fs_hub_failed(c, rc)) {
        fs_http_reply_headerf(c->http, "ETag", "\"%s\"", oid);
        fs_hub_reply_ok(c);
    }
out:
    fs_hub_incoming_close(&in);
    free(buf);
}

void fs_hub_lfs_get(fs_hub_call *c)
{
    const char *oid = fs_http_param(c->http, 0);
    uint64_t n_bytes = 0;
    bool here = false;
    lfs_link l;

    if (!need_link(c, "get", oid, 0, &l))
        return;
    if (fs_through_is_lazy(c->hub, c->db, l.repo)) {
        bool held = false; /* others' objects are none of this repository's */
        if (fs_hub_failed(c, fs_hub_object_of(c->hub, c->db, l.repo, oid, &held, &n_bytes, &c->err)))
            return;
        if (!held) {
            fs_through_send(c, l.repo, oid, (uint64_t)l.size, NULL);
            return;
        }
        fs_through_used(c->hub, c->db, oid);
    }
    if (fs_hub_failed(c, c->hub->store->is_here(c->hub, c->db, FS_BLOB_OBJECT, oid, &here, &n_bytes, &c->err)))
        return;
    if (!here) {
        fs_hub_error(c, 404, NULL, "no %s", oid);
        return;
    }
    fs_http_reply_headerf(c->http, "ETag", "\"%s\"", oid);
    c->hub->store->send(c, FS_BLOB_OBJECT, oid, n_bytes, NULL);
}

void fs_hub_lfs_verify(fs_hub_call *c)
{
    const char *oid = fs_http_param(c->http, 0);
    uint64_t n_bytes = 0;
    bool held = false;
    lfs_link l;

    if (!need_link(c, "verify", oid, 0, &l) || fs_hub_failed(c, fs_hub_object_of(c->hub, c->db, l.repo, oid, &held, &n_bytes, &c->err)))
        return;
    if (!held || n_bytes != (uint64_t)l.size)
        fs_hub_error(c, 404, NULL, "the object %s was not uploaded, or not with %lld bytes", oid, (long long)l.size);
    else
        fs_hub_reply_ok(c);
}

/* ---- files in parts ---- */

typedef struct upload {
    int64_t repo, size, chunk;
    char oid[65];
} upload;

static bool need_upload(fs_hub_call *c, const char *id, upload *ret)
{
    sqlite3_stmt *st = NULL;
    bool found = false;

    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT repo, size, chunk, lower(hex(oid)) FROM uploads WHERE id = ?", "s", id)))
        return false;
    if (fs_db_next(st)) {
        found = true;
        *ret = (upload){ .repo = sqlite3_column_int64(st, 0), .size = sqlite3_column_int64(st, 1), .chunk = sqlite3_column_int64(st, 2) };
        snprintf(ret->oid, sizeof ret->oid, "%s", fs_db_text(st, 3));
    }
    if (fs_hub_failed(c, fs_db_end(st, &c->err)))
        return false;
    if (!found)
        fs_hub_error(c, 404, NULL, "there is no such upload");
    return found;
}

/* The file that an upload's parts go to; its id is ours, letters and digits, since a signature named it. */
static int open_parts(fs_hub_call *c, const char *id, int flags, char ret_path[512])
{
    snprintf(ret_path, 512, "%s/parts/%s", c->hub->data, id);
    return open(ret_path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static fs_status write_part(fs_hub_call *c, int fd, int64_t offset, int64_t size, char ret_etag[65], fs_error *err)
{
    char *buf = malloc(COPY_BYTES);
    fs_sha256 sha = { 0 };
    int64_t done = 0;
    size_t n = 0;
    fs_status rc = buf ? fs_sha256_init(&sha, err) : fs_fail_memory(err, COPY_BYTES);

    while (!rc) {
        rc = fs_http_read(c->http, buf, COPY_BYTES, &n, err);
        if (rc || n == 0)
            break;
        if ((int64_t)n > size - done)
            rc = fs_fail(err, FS_ERR_FORMAT, "the part has more than %lld bytes", (long long)size);
        for (size_t put = 0; put < n && !rc;) {
            ssize_t k = pwrite(fd, buf + put, n - put, (off_t)(offset + done + (int64_t)put));
            if (k < 0 && errno != EINTR)
                rc = fs_fail_errno(err, errno, "cannot write a part");
            else if (k > 0)
                put += (size_t)k;
        }
        if (!rc)
            fs_sha256_update(&sha, buf, n);
        fs_hub_write_behind(fd, (uint64_t)(offset + done), (uint64_t)(offset + done) + n);
        done += (int64_t)n;
    }
    if (!rc && done != size)
        rc = fs_fail(err, FS_ERR_FORMAT, "the part has %lld bytes, not %lld", (long long)done, (long long)size);
    if (!rc)
        fs_sha256_final_hex(&sha, ret_etag);
    fs_sha256_done(&sha);
    free(buf);
    return rc;
}

void fs_hub_lfs_part(fs_hub_call *c)
{
    const char *id = fs_http_param(c->http, 0);
    int64_t part = strtoll(fs_http_param(c->http, 1), NULL, 10);
    char path[512], etag[65];
    upload u;
    lfs_link l;
    int fd;
    fs_status rc;

    if (!need_link(c, "part", id, part, &l) || !need_upload(c, id, &u))
        return;
    fd = open_parts(c, id, O_RDWR | O_CREAT, path);
    if (fd < 0) {
        fs_hub_failed(c, fs_fail_errno(&c->err, errno, "cannot open '%s'", path));
        return;
    }
    if (!fs_hub_part_lock_to_write(fd, false)) {
        close(fd);
        fs_hub_error(c, 409, NULL, "this upload is at its end");
        return;
    }
    rc = fs_hub_room_for(c->hub, c->db, u.repo, (uint64_t)l.size, false, &c->err);
    if (!rc)
        rc = fs_db_run(c->db, &c->err, "DELETE FROM parts WHERE upload = ? AND n = ?", "si", id, part); /* what was there is written over */
    if (!rc)
        rc = write_part(c, fd, (part - 1) * u.chunk, l.size, etag, &c->err);
    close(fd);
    if (!rc)
        rc = fs_db_run(c->db, &c->err, "INSERT OR REPLACE INTO parts(upload, n, etag) VALUES(?, ?, ?)", "sis", id, part, etag);
    if (!fs_hub_failed(c, rc)) {
        fs_http_reply_headerf(c->http, "ETag", "\"%s\"", etag);
        fs_hub_reply_ok(c);
    }
}

void fs_hub_lfs_complete(fs_hub_call *c)
{
    const char *id = fs_http_param(c->http, 0);
    char path[512];
    int64_t n_parts = 0;
    upload u;
    lfs_link l;
    int fd;
    fs_status rc;

    if (!need_link(c, "complete", id, 0, &l) || !need_upload(c, id, &u) ||
        fs_hub_failed(c, fs_db_int(c->db, &n_parts, NULL, &c->err, "SELECT count(*) FROM parts WHERE upload = ?", "s", id)))
        return;
    if (n_parts != (u.size + u.chunk - 1) / u.chunk) {
        fs_hub_error(c, 400, NULL, "%lld of %lld parts were uploaded", (long long)n_parts, (long long)((u.size + u.chunk - 1) / u.chunk));
        return;
    }
    fd = open_parts(c, id, O_RDONLY, path);
    if (fd < 0) {
        fs_hub_failed(c, fs_fail_errno(&c->err, errno, "cannot open '%s'", path));
        return;
    }
    if (!fs_hub_part_lock(fd, true, PART_SECONDS)) { /* what it writes would change the object */
        close(fd);
        fs_hub_error(c, 409, NULL, "a part of this upload still arrives");
        return;
    }
    rc = fs_hub_object_adopt(c->hub, c->db, u.repo, path, fd, u.oid, (uint64_t)u.size, &c->err);
    close(fd);
    if (!rc)
        rc = fs_db_run(c->db, &c->err, "DELETE FROM uploads WHERE id = ?", "s", id);
    if (fs_hub_failed(c, rc))
        return;
    unlink(path);
    fs_hub_reply_ok(c);
}
