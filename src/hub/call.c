/* A request on its way: who asks, for which repository, with which right; and what errors look like to the clients. */
#include "hub/internal.h"
#include "hub/page.h"
#include "hub/through.h"

#include "crypto/sha256.h"

#include <openssl/evp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define GUEST_BYTES_MAX ((uint64_t)1 << 20) /* of a body from somebody without a token */

void fs_hub_error(fs_hub_call *c, int status, const char *code, const char *format, ...)
{
    char message[600];
    fs_emit e = { 0 };
    va_list ap;

    if (c->replied)
        return;
    c->replied = true;
    va_start(ap, format);
    vsnprintf(message, sizeof message, format, ap);
    va_end(ap);
    if (c->is_page) {
        c->replied = false;
        fs_page_error(c, status == 401 ? 404 : status, message);
        return;
    }
    fs_emit_begin(&e, '{');
    fs_emit_str(&e, "error", message);
    fs_emit_end(&e, '}');
    if (code)
        fs_http_reply_header(c->http, "X-Error-Code", code);
    fs_http_reply_header(c->http, "X-Error-Message", message);
    if (status == 401)
        fs_http_reply_header(c->http, "WWW-Authenticate", "Basic realm=\"hub\", charset=\"UTF-8\"");
    fs_http_reply_buf(c->http, status, "application/json; charset=utf-8", &e.out);
    fs_emit_done(&e);
}

bool fs_hub_failed(fs_hub_call *c, fs_status rc)
{
    if (!rc)
        return false;
    switch (rc) {
    case FS_ERR_ARGUMENT:
    case FS_ERR_FORMAT:
        fs_hub_error(c, strcmp(c->err.message, FS_HUB_QUOTA_USED) == 0 ? 413 : 400, NULL, "%s", c->err.message);
        break;
    case FS_ERR_NOT_FOUND:
        fs_hub_error(c, 404, NULL, "%s", c->err.message);
        break;
    case FS_ERR_IO: {
        bool full = strstr(c->err.message, "No space left") || strstr(c->err.message, "disk is full") || strstr(c->err.message, "quota exceeded");
        fs_hub_error(c, full ? 507 : 500, NULL, full ? "the hub's disk is full" : "%s", c->err.message);
        break;
    }
    case FS_ERR_MEMORY:
        fs_hub_error(c, 503, NULL, "%s", c->err.message);
        break;
    default:
        fs_hub_error(c, 500, NULL, "%s", c->err.message);
    }
    return true;
}

void fs_hub_reply(fs_hub_call *c, int status, fs_emit *e)
{
    if (c->replied)
        return;
    if (c->form && !e->rc) { /* a page says it */
        struct json_object *o = NULL;
        const char *message = status >= 400 && fs_json_parse(fs_buf_bytes(&e->out), "the answer", &o, NULL) == FS_OK ? json_object_get_string(fs_json_member(o, "error")) : NULL;
        if (status >= 400)
            fs_hub_error(c, status, NULL, "%s", message ? message : "It could not be done.");
        else if (!c->answered) {
            c->answer = e->out;
            e->out = (fs_buf){ 0 };
            c->answered = true;
        }
        json_object_put(o);
        return;
    }
    if (e->rc) {
        fs_hub_error(c, 503, NULL, "out of memory");
        return;
    }
    c->replied = true;
    fs_http_reply_buf(c->http, status, "application/json; charset=utf-8", &e->out);
}

void fs_hub_reply_ok(fs_hub_call *c)
{
    fs_emit e = { 0 };

    fs_emit_begin(&e, '{');
    fs_emit_bool(&e, "success", true);
    fs_emit_end(&e, '}');
    fs_hub_reply(c, 200, &e);
    fs_emit_done(&e);
}

struct json_object *fs_hub_body_json(fs_hub_call *c)
{
    fs_bytes body = fs_http_body(c->http);
    struct json_object *o = NULL;

    if (c->form)
        return json_object_get(c->form);
    if (body.n_bytes == 0)
        body = FS_BYTES_LIT("{}");
    if (fs_json_parse(body, "the request's body", &o, &c->err) != FS_OK || !json_object_is_type(o, json_type_object)) {
        fs_hub_error(c, 400, NULL, "%s", c->err.code ? c->err.message : "the request's body is no JSON object");
        json_object_put(o);
        return NULL;
    }
    return o;
}

bool fs_hub_json_str(fs_hub_call *c, struct json_object *o, const char *key, char *ret, size_t capacity)
{
    fs_bytes text = { 0 };
    bool found = false;

    ret[0] = 0;
    if (fs_json_string(o, key, &text, &found, &c->err) != FS_OK) {
        fs_hub_error(c, 400, NULL, "%s", c->err.message);
        return false;
    }
    if (!found)
        return true;
    if (text.n_bytes >= capacity || memchr(text.data, 0, text.n_bytes)) {
        fs_hub_error(c, 400, NULL, "'%s' has %zu bytes, at most %zu are allowed", key, text.n_bytes, capacity - 1);
        return false;
    }
    memcpy(ret, text.data, text.n_bytes);
    ret[text.n_bytes] = 0;
    return true;
}

/* ---- who ---- */

/* "Bearer T", or "Basic" with T as the password: git's way. False: a header that is neither. */
static bool token_of(fs_hub_call *c, char ret[256])
{
    const char *header = fs_http_header(c->http, "Authorization");
    uint8_t text[512];
    size_t n;
    int got;
    char *colon;

    ret[0] = 0;
    if (!header)
        return true;
    if (strncasecmp(header, "Bearer ", 7) == 0) {
        header += 7;
        while (*header == ' ')
            header++;
        return snprintf(ret, 256, "%s", header) < 256 && *ret;
    }
    if (strncasecmp(header, "Basic ", 6) != 0)
        return false;
    header += 6;
    n = strlen(header);
    if (n % 4 || n / 4 * 3 >= sizeof text || (got = EVP_DecodeBlock(text, (const uint8_t *)header, (int)n)) < 0)
        return false;
    text[got] = 0;
    colon = strchr((char *)text, ':');
    return colon && snprintf(ret, 256, "%s", colon[1] ? colon + 1 : (const char *)text) < 256;
}

static bool only_reads(const fs_hub_call *c)
{
    const char *method = fs_http_method(c->http);

    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

static bool authenticate(fs_hub_call *c)
{
    char token[256];
    fs_status rc;

    if (!token_of(c, token)) {
        fs_hub_error(c, 401, NULL, "Invalid credentials in Authorization header");
        return false;
    }
    if (!*token) /* a cookie shows; what it may change goes by forms of ours alone */
        return !only_reads(c) || !fs_hub_failed(c, fs_hub_session_read(c));
    if (fs_hub_xet_token_read(c, token))
        return true;
    rc = fs_hub_user_by_token(c->db, token, &c->user, &c->err);
    if (rc == FS_ERR_NOT_FOUND) {
        fs_hub_error(c, 401, NULL, "Invalid user token.");
        return false;
    }
    return !fs_hub_failed(c, rc);
}

bool fs_hub_need_user(fs_hub_call *c, bool writing)
{
    if (c->user.id == 0) {
        fs_hub_error(c, 401, NULL, "Invalid username or password.");
        return false;
    }
    if (writing && !c->user.may_write) {
        fs_hub_error(c, 403, NULL, "This token may read only: a token with the role 'write' is needed");
        return false;
    }
    c->writing = c->writing || writing;
    return true;
}

bool fs_hub_need_account(fs_hub_call *c)
{
    if (!fs_hub_need_user(c, true))
        return false;
    if (c->user.scope) {
        fs_hub_error(c, 403, NULL, "This token is for some repositories only");
        return false;
    }
    return true;
}

/* ---- which ---- */

bool fs_hub_type_is_valid(const char *type)
{
    return strcmp(type, "models") == 0 || strcmp(type, "datasets") == 0 || strcmp(type, "spaces") == 0;
}

const char *fs_hub_type_prefix(const char *type)
{
    return strcmp(type, "datasets") == 0 ? "datasets/" : strcmp(type, "spaces") == 0 ? "spaces/" : "";
}

void fs_hub_repo_read(sqlite3_stmt *st, fs_hub_repo *ret)
{
    *ret = (fs_hub_repo){ .id = sqlite3_column_int64(st, 0),
                          .owner = sqlite3_column_int64(st, 1),
                          .private = sqlite3_column_int(st, 6) != 0,
                          .disabled = sqlite3_column_int(st, 7) != 0,
                          .created_ms = sqlite3_column_int64(st, 9),
                          .modified_ms = sqlite3_column_int64(st, 10),
                          .downloads = sqlite3_column_int64(st, 11),
                          .likes = sqlite3_column_int64(st, 12) };
    snprintf(ret->type, sizeof ret->type, "%s", fs_db_text(st, 2));
    snprintf(ret->owner_name, sizeof ret->owner_name, "%s", fs_db_text(st, 3));
    snprintf(ret->name, sizeof ret->name, "%s", fs_db_text(st, 4));
    snprintf(ret->folder, sizeof ret->folder, "%s", fs_db_text(st, 5));
    snprintf(ret->gated, sizeof ret->gated, "%s", fs_db_text(st, 8));
    snprintf(ret->sha, sizeof ret->sha, "%s", fs_db_text(st, 13));
    snprintf(ret->mirror, sizeof ret->mirror, "%s", fs_db_text(st, 14));
}

static fs_status find_repo(fs_hub_call *c, const char *type, const char *owner, const char *name, bool *ret_found)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(c->db, &st, &c->err, "SELECT " FS_HUB_REPO_COLUMNS FS_HUB_REPO_TABLES "WHERE r.type = ? AND a.name = ? AND r.name = ?", "sss", type,
                               owner, name);

    if (rc)
        return rc;
    *ret_found = fs_db_next(st);
    if (*ret_found)
        fs_hub_repo_read(st, &c->repo);
    return fs_db_end(st, &c->err);
}

static fs_status find_moved(fs_hub_call *c, const char *type, const char *owner, const char *name, bool *ret_found)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(c->db, &st, &c->err,
                               "SELECT " FS_HUB_REPO_COLUMNS FS_HUB_REPO_TABLES "JOIN moved m ON m.repo = r.id WHERE m.type = ? AND m.owner = ? AND m.name = ?", "sss",
                               type, owner, name);

    if (rc)
        return rc;
    *ret_found = fs_db_next(st);
    if (*ret_found)
        fs_hub_repo_read(st, &c->repo);
    return fs_db_end(st, &c->err);
}

static fs_status find_right(fs_hub_call *c)
{
    fs_hub_right right;
    fs_status rc = fs_hub_right_on_repo(c->db, &c->user, c->repo.id, c->repo.owner, &right, &c->scope, &c->err);

    if (!rc)
        c->right = right == FS_HUB_NONE && !c->repo.private ? FS_HUB_READ : right;
    return rc;
}

bool fs_hub_need_repo(fs_hub_call *c, const char *type, const char *owner, const char *name, fs_hub_right need)
{
    bool found = false, moved = false;
    int open;

    fs_through_repo(c, type, owner, name);
    if (fs_hub_failed(c, find_repo(c, type, owner, name, &found)) || (!found && fs_hub_failed(c, find_moved(c, type, owner, name, &moved))) ||
        ((found || moved) && fs_hub_failed(c, find_right(c))))
        return false;
    if ((!found && !moved) || c->right == FS_HUB_NONE) { /* the same words for both */
        fs_hub_error(c, c->user.id ? 404 : 401, "RepoNotFound", c->user.id ? "Repository not found" : "Invalid username or password.");
        return false;
    }
    if (moved) { /* the parameters say where the name stands; what stands before and after it stays */
        char old[220], new[400];
        const char *uri = fs_http_uri(c->http), *at;
        snprintf(old, sizeof old, "/%s/%s", owner, name);
        at = strstr(uri, old);
        if (at && snprintf(new, sizeof new, "/%s/%s", c->repo.owner_name, c->repo.name) < (int)sizeof new) {
            fs_http_reply_headerf(c->http, "Location", "%s%.*s%s%s", c->base, (int)(at - uri), uri, new, at + strlen(old));
            fs_hub_error(c, 307, NULL, "This repository has moved to %s/%s", c->repo.owner_name, c->repo.name);
        } else {
            fs_hub_error(c, 404, "RepoNotFound", "This repository has moved to %s/%s", c->repo.owner_name, c->repo.name);
        }
        return false;
    }
    if (c->repo.disabled && c->right < FS_HUB_ADMIN) {
        fs_hub_error(c, 403, NULL, "Access to this resource is disabled.");
        return false;
    }
    if (c->writing && c->user.scope && c->scope < FS_HUB_WRITE) {
        fs_hub_error(c, 403, NULL, "This token is not for writing to %s/%s", c->repo.owner_name, c->repo.name);
        return false;
    }
    /* Nobody writes to a copy: what changes there comes here. It can be removed and set. */
    if (*c->repo.mirror && need < FS_HUB_ADMIN && c->right > FS_HUB_READ)
        c->right = FS_HUB_READ;
    if (c->right < need) {
        if (c->user.id == 0)
            fs_hub_error(c, 401, NULL, "Invalid username or password.");
        else
            fs_hub_error(c, 403, NULL, "You have no right to %s %s/%s", need == FS_HUB_WRITE ? "write to" : "administer", c->repo.owner_name, c->repo.name);
        return false;
    }
    if (fs_hub_failed(c, fs_hub_repo_path(c->hub, c->repo.folder, c->path, &c->err)))
        return false;
    open = git_repository_open_ext(&c->git, c->path, GIT_REPOSITORY_OPEN_NO_SEARCH | GIT_REPOSITORY_OPEN_BARE | GIT_REPOSITORY_OPEN_NO_DOTGIT, NULL);
    if (open != 0)
        return !fs_hub_failed(c, fs_hub_git_fail(&c->err, "cannot open the repository"));
    return true;
}

bool fs_hub_need_repo_params(fs_hub_call *c, fs_hub_right need)
{
    const char *type = fs_http_param(c->http, 0);

    if (!fs_hub_type_is_valid(type)) {
        fs_hub_error(c, 404, NULL, "no such type of repository: %.50s", type);
        return false;
    }
    return fs_hub_need_repo(c, type, fs_http_param(c->http, 1), fs_http_param(c->http, 2), need);
}

bool fs_hub_need_repo_path(fs_hub_call *c, int n_tail, fs_hub_right need)
{
    int n = fs_http_n_params(c->http) - n_tail;
    const char *type = n == 3 ? fs_http_param(c->http, 0) : "models";
    char name[101];

    if (strcmp(type, "datasets") != 0 && strcmp(type, "spaces") != 0 && n == 3) {
        fs_hub_not_here(c);
        return false;
    }
    snprintf(name, sizeof name, "%s", fs_http_param(c->http, n - 1));
    if (fs_ends_with(name, ".git"))
        name[strlen(name) - 4] = 0;
    return fs_hub_need_repo(c, type, fs_http_param(c->http, n - 2), name, need);
}

bool fs_hub_need_rev(fs_hub_call *c, const char *rev, git_oid *ret, char ret_ref[256])
{
    fs_status rc = fs_hub_rev_find(c->git, rev, ret, ret_ref, &c->err);

    if (rc == FS_ERR_NOT_FOUND) {
        fs_hub_error(c, 404, "RevisionNotFound", "%s", c->err.message);
        return false;
    }
    if (!rc)
        fs_hub_warn(c, ret);
    return !fs_hub_failed(c, rc);
}

static pthread_mutex_t *lock_of(fs_hub_call *c)
{
    return &c->hub->locks[(uint64_t)c->repo.id % FS_HUB_LOCKS];
}

void fs_hub_repo_lock(fs_hub_call *c)
{
    pthread_mutex_lock(lock_of(c));
}

void fs_hub_repo_unlock(fs_hub_call *c)
{
    pthread_mutex_unlock(lock_of(c));
}

/* ---- all requests ---- */

/* A token of Xet's opens Xet's doors and no other. */
static bool is_place_of_xet(const char *uri)
{
    return strncmp(uri, "/v1/", 4) == 0 || strncmp(uri, "/v2/", 4) == 0 || strncmp(uri, "/xet/", 5) == 0;
}

/* A browser that another site lets send something with the user's password; no other client has an Origin. */
static bool is_of_another_site(const fs_hub_call *c)
{
    const char *origin = fs_http_header(c->http, "Origin"), *host = fs_http_header(c->http, "Host");
    const char *authority = origin ? strstr(origin, "://") : NULL;

    if (only_reads(c) || !origin || strcmp(origin, c->base) == 0)
        return false;
    return !authority || !host || strcmp(authority + 3, host) != 0;
}

static void set_base(fs_hub_call *c)
{
    const char *host = fs_http_header(c->http, "Host");

    if (c->hub->options.url)
        snprintf(c->base, sizeof c->base, "%s", c->hub->options.url);
    else
        snprintf(c->base, sizeof c->base, "http%s://%s", fs_http_is_tls(c->http) ? "s" : "", host && strlen(host) < 200 && strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.:[]") == strlen(host) ? host : "localhost");
}

uint64_t fs_hub_admit(void *ud, fs_http_request *r, bool *ret_known)
{
    fs_hub_call c = { .hub = ud, .http = r };

    set_base(&c);
    if (!fs_hub_failed(&c, fs_db_take(c.hub->db, &c.db, &c.err)))
        authenticate(&c);
    fs_db_give(c.hub->db, c.db);
    *ret_known = c.user.id != 0;
    return c.user.id ? UINT64_MAX : GUEST_BYTES_MAX;
}

void fs_hub_handle(void *ud, fs_http_request *r)
{
    fs_hub_call c = { .hub = ud, .http = r };
    fs_hub_fn *const *fn = fs_http_route_arg(r);
    char id[17];

    fs_hub_random_name(id, sizeof id);
    fs_http_reply_header(r, "X-Request-Id", id);
    set_base(&c);
    if (!fs_hub_failed(&c, fs_db_take(c.hub->db, &c.db, &c.err)) && authenticate(&c)) {
        if (c.xet.repo && !is_place_of_xet(fs_http_uri(r)))
            fs_hub_error(&c, 401, NULL, "Invalid user token.");
        else if (is_of_another_site(&c))
            fs_hub_error(&c, 403, NULL, "this request comes from a page of another site");
        else
            (*fn)(&c);
    }
    json_object_put(c.form);
    fs_buf_done(&c.answer);
    git_repository_free(c.git);
    fs_db_give(c.hub->db, c.db);
}
