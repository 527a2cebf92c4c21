/* The Xet protocol's server side: tokens, xorbs and questions for chunks. xet_shards.c takes files, xet_read.c gives them.
 * Source: the Xet protocol specification, page "CAS API". */
#include "hub/blobs.h"
#include "hub/xet_internal.h"

#include "base/file.h"
#include "crypto/sha256.h"
#include "net/url.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TOKEN_SECONDS  900
#define COPY_BYTES     ((size_t)256 << 10)
#define NEAR_MAX       64 /* xorbs in the answer to one question: 3 MiB of hashes, 4 GiB of chunks */
#define ANSWER_SECONDS (7 * 24 * 3600)

/* ---- tokens ---- */

/* "xet.REPO.USER.TOKEN.W.EXPIRES.SIGNATURE": for one repository, on behalf of a token that must still exist. */
static void token_text(char ret[160], int64_t repo, int64_t user, int64_t token, int may_write, int64_t expires)
{
    snprintf(ret, 160, "xet.%lld.%lld.%lld.%d.%lld", (long long)repo, (long long)user, (long long)token, may_write, (long long)expires);
}

bool fs_hub_xet_token_read(fs_hub_call *c, const char *token)
{
    long long repo, user, id, expires;
    int may_write, at = 0;
    int64_t scoped = 0;
    bool held = false;
    char text[160];

    if (strncmp(token, "xet.", 4) != 0 || sscanf(token, "xet.%lld.%lld.%lld.%d.%lld.%n", &repo, &user, &id, &may_write, &expires, &at) != 5 || at == 0)
        return false;
    token_text(text, repo, user, id, may_write, expires);
    if (!fs_hub_sign_check(c->hub, text, token + at) || expires < (long long)time(NULL))
        return false;
    if (user && (fs_db_int(c->db, &scoped, &held, &c->err, "SELECT scoped FROM tokens WHERE id = ? AND account = ?", "ii", (int64_t)id, (int64_t)user) != FS_OK || !held))
        return false;
    c->user.id = user;
    c->user.scope = scoped ? id : 0;
    c->xet.repo = repo;
    c->xet.may_write = may_write != 0;
    return true;
}

bool fs_xet_need_token(fs_hub_call *c, bool writing)
{
    if (!c->xet.repo)
        fs_hub_error(c, 401, NULL, "a token of this repository's Xet storage is needed");
    else if (writing && !c->xet.may_write)
        fs_hub_error(c, 403, NULL, "this token may read only");
    else
        return true;
    return false;
}

static void give_token(fs_hub_call *c, bool writing)
{
    const char *create_pr = fs_http_query(c->http, "create_pr", 0);
    bool pr = create_pr && strcmp(create_pr, "0") != 0;
    int64_t expires = (int64_t)time(NULL) + TOKEN_SECONDS;
    char text[160], signature[65], token[256];
    fs_emit e = { 0 };

    /* Whoever may open a pull request may upload what it needs. */
    if ((writing && !fs_hub_need_user(c, true)) || !fs_hub_need_repo_params(c, writing && !pr && strncmp(fs_http_param(c->http, 3), "refs/pr/", 8) != 0 ? FS_HUB_WRITE : FS_HUB_READ) ||
        !fs_hub_need_open(c))
        return;
    token_text(text, c->repo.id, c->user.id, c->user.token, writing, expires);
    fs_hub_sign(c->hub, text, signature);
    snprintf(token, sizeof token, "%s.%s", text, signature);
    fs_http_reply_header(c->http, "X-Xet-Access-Token", token);
    fs_http_reply_headerf(c->http, "X-Xet-Token-Expiration", "%lld", (long long)expires);
    fs_http_reply_header(c->http, "X-Xet-Cas-Url", c->base);
    fs_emit_begin(&e, '{');
    fs_emit_str(&e, "accessToken", token);
    fs_emit_int(&e, "exp", expires);
    fs_emit_str(&e, "casUrl", c->base);
    fs_emit_end(&e, '}');
    fs_hub_reply(c, 200, &e);
    fs_emit_done(&e);
}

void fs_hub_xet_read_token(fs_hub_call *c)
{
    give_token(c, false);
}

void fs_hub_xet_write_token(fs_hub_call *c)
{
    give_token(c, true);
}

void fs_hub_xet_headers(fs_hub_call *c, const char *rev, const char *sha256)
{
    char hash[65], route[600];

    if (fs_xet_file_of(c->db, sha256, hash, &c->err) != FS_OK || !*hash)
        return;
    snprintf(route, sizeof route, "%s/api/%s/%s/%s/xet-read-token/%s", c->base, c->repo.type, c->repo.owner_name, c->repo.name, rev);
    fs_http_reply_header(c->http, "X-Xet-Hash", hash);
    fs_http_reply_header(c->http, "X-Xet-Refresh-Route", route);
    fs_http_reply_headerf(c->http, "Link", "<%s>; rel=\"xet-auth\"", route);
}

bool fs_xet_need_hash(fs_hub_call *c, int i, fs_xet_hash *ret)
{
    if (fs_xet_hash_read(fs_bytes_str(fs_http_param(c->http, i)), ret))
        return true;
    fs_hub_error(c, 400, NULL, "'%.80s' is no hash of 64 hex digits", fs_http_param(c->http, i));
    return false;
}

/* ---- xorbs ---- */

/* The body into an unnamed file. */
static fs_status receive(fs_hub_call *c, int *ret_fd, uint64_t *ret_bytes, fs_error *err)
{
    char *buf = malloc(COPY_BYTES);
    uint64_t n_bytes = 0;
    size_t n = 0;
    int fd = -1;
    fs_status rc = buf ? fs_xet_incoming_open(c->hub, &fd, err) : fs_fail_memory(err, COPY_BYTES);

    while (!rc) {
        rc = fs_http_read(c->http, buf, COPY_BYTES, &n, err);
        if (rc || n == 0)
            break;
        rc = fs_fd_write(fd, "xorbs", buf, n, err);
        n_bytes += n;
        fs_hub_write_behind(fd, n_bytes - n, n_bytes);
    }
    free(buf);
    if (rc && fd >= 0)
        close(fd);
    if (!rc) {
        *ret_fd = fd;
        *ret_bytes = n_bytes;
    }
    return rc;
}

void fs_hub_xet_xorb_put(fs_hub_call *c)
{
    fs_xet_hash want;
    fs_xorb x = { 0 };
    uint64_t n_bytes = 0;
    int fd = -1;
    bool new = false;
    fs_emit e = { 0 };
    fs_status rc;

    if (!fs_xet_need_token(c, true) || !fs_xet_need_hash(c, 1, &want))
        return;
    if (!fs_http_content_length(c->http, &n_bytes))
        n_bytes = FS_XORB_BYTES_MAX;
    rc = fs_hub_room_for(c->hub, c->db, c->xet.repo, n_bytes, false, &c->err);
    if (!rc)
        rc = receive(c, &fd, &n_bytes, &c->err);
    if (!rc)
        rc = fs_xet_xorb_read_fd(fd, n_bytes, &x, &c->err);
    if (!rc && !fs_xet_hash_equal(&x.hash, &want))
        rc = fs_fail(&c->err, FS_ERR_FORMAT, "the xorb's hash is another than the address says");
    if (!rc)
        rc = fs_xet_xorb_add(c->hub, c->db, c->xet.repo, fd, &x, &new, &c->err);
    if (fd >= 0)
        close(fd);
    fs_xorb_done(&x);
    if (fs_hub_failed(c, rc))
        return;
    fs_emit_begin(&e, '{');
    fs_emit_bool(&e, "was_inserted", new);
    fs_emit_end(&e, '}');
    fs_hub_reply(c, 200, &e);
    fs_emit_done(&e);
}

void fs_hub_xet_xorb_head(fs_hub_call *c)
{
    fs_xet_hash hash;
    fs_xorb x;
    uint64_t n_bytes = 0;
    char name[65];
    bool here = false;

    if (!fs_xet_need_token(c, false) || !fs_xet_need_hash(c, 1, &hash) || fs_hub_failed(c, fs_xet_xorb_find(c->db, c->xet.repo, &c->user, &hash, &x, &c->err)))
        return;
    fs_xorb_done(&x);
    fs_xet_hash_text(&hash, name);
    if (fs_hub_failed(c, c->hub->store->is_here(c->hub, c->db, FS_BLOB_XORB, name, &here, &n_bytes, &c->err)))
        return;
    if (here)
        c->hub->store->send(c, FS_BLOB_XORB, name, n_bytes, NULL);
    else
        fs_hub_error(c, 404, NULL, "no xorb %s", name);
}

/* ---- questions for chunks ---- */

void fs_hub_xet_chunk(fs_hub_call *c)
{
    fs_xet_hash chunk, near[NEAR_MAX];
    char text[80], hex[65];
    uint8_t key[32];
    size_t n = 0, n_shown = 0;
    uint64_t now = (uint64_t)time(NULL);
    fs_buf out = { 0 };
    fs_status rc;

    if (!fs_xet_need_token(c, false) || !fs_xet_need_hash(c, 1, &chunk))
        return;
    /* The key is the answer's own: what one client learns tells it nothing of another's. */
    snprintf(text, sizeof text, "xet hide %lld %llu", (long long)c->user.id, (unsigned long long)(now / ANSWER_SECONDS));
    fs_hub_sign(c->hub, text, hex);
    if (!fs_hex_read(fs_bytes_str(hex), key, sizeof key)) {
        fs_hub_error(c, 503, NULL, "out of memory");
        return;
    }
    rc = fs_xet_chunk_near(c->db, &chunk, near, NEAR_MAX, &n, &c->err);
    if (!rc)
        rc = fs_shard_answer_begin(&out, &c->err);
    for (size_t i = 0; i < n && !rc; i++) {
        fs_xorb x = { 0 };
        rc = fs_xet_xorb_find(c->db, c->xet.repo, &c->user, near + i, &x, &c->err);
        if (rc == FS_ERR_NOT_FOUND) { /* of somebody else */
            rc = FS_OK;
            continue;
        }
        if (!rc)
            rc = fs_shard_answer_xorb(&out, &x, key, &c->err);
        fs_xorb_done(&x);
        n_shown++;
    }
    if (!rc && n_shown == 0)
        fs_hub_error(c, 404, NULL, "this chunk is not known");
    if (!rc)
        rc = fs_shard_answer_end(&out, key, now, now + ANSWER_SECONDS, &c->err);
    if (!fs_hub_failed(c, rc) && !c->replied) {
        c->replied = true;
        fs_http_reply_buf(c->http, 200, "application/octet-stream", &out);
    }
    fs_buf_done(&out);
}
