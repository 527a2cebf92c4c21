/* Gated repositories: everybody may see what is there, and asks to read it. The answer is kept for each user; "auto" says yes by itself. */
#include "hub/form.h"
#include "hub/internal.h"

#include "net/url.h"

#include <stdlib.h>
#include <string.h>

#define PAGE       100
#define FIELDS_MAX ((size_t)8 << 10)
#define ASKERS_MAX 100000 /* of one repository */

/* The right that the user has, whatever this token may do with it. */
static bool is_writer(fs_hub_call *c)
{
    fs_hub_right right = FS_HUB_NONE;

    return c->right >= FS_HUB_WRITE || (fs_hub_right_of_user(c->db, &c->user, c->repo.owner, &right, &c->err) == FS_OK && right >= FS_HUB_WRITE);
}

static bool is_in_scope(const fs_hub_call *c)
{
    return !c->user.scope || c->scope >= FS_HUB_READ;
}

static bool status_is_valid(const char *status)
{
    return strcmp(status, "pending") == 0 || strcmp(status, "accepted") == 0 || strcmp(status, "rejected") == 0;
}

/* What was answered to the account; "" when it never asked. */
static fs_status find_status(fs_hub_call *c, int64_t account, char ret[16])
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(c->db, &st, &c->err, "SELECT status FROM access_requests WHERE repo = ? AND account = ?", "ii", c->repo.id, account);

    ret[0] = 0;
    if (rc)
        return rc;
    if (fs_db_next(st))
        snprintf(ret, 16, "%s", fs_db_text(st, 0));
    return fs_db_end(st, &c->err);
}

bool fs_hub_may_read(fs_hub_call *c)
{
    char status[16] = "";

    if (!*c->repo.gated || !is_in_scope(c))
        return !*c->repo.gated;
    return is_writer(c) || (c->user.id && find_status(c, c->user.id, status) == FS_OK && strcmp(status, "accepted") == 0);
}

bool fs_hub_need_open(fs_hub_call *c)
{
    char status[16] = "";

    if (!*c->repo.gated || (is_in_scope(c) && is_writer(c)))
        return true;
    if (!is_in_scope(c)) {
        fs_hub_error(c, 403, "GatedRepo", "Access to %s/%s is restricted and this token is not for it.", c->repo.owner_name, c->repo.name);
        return false;
    }
    if (c->user.id && fs_hub_failed(c, find_status(c, c->user.id, status)))
        return false;
    if (strcmp(status, "accepted") == 0)
        return true;
    if (*status)
        fs_hub_error(c, 403, "GatedRepo", strcmp(status, "pending") == 0 ? "Your request to access %s/%s is awaiting a review from the repo authors."
                                                                         : "Your request to access %s/%s has been rejected by the repo's authors.",
                     c->repo.owner_name, c->repo.name);
    else
        fs_hub_error(c, c->user.id ? 403 : 401, "GatedRepo", "Access to %s/%s is restricted and you are not in the authorized list. Visit %s/%s%s/%s to ask for access.",
                     c->repo.owner_name, c->repo.name, c->base, fs_hub_type_prefix(c->repo.type), c->repo.owner_name, c->repo.name);
    return false;
}

/* ---- asking ---- */

/* The body's members, a JSON object's or a form's, as one JSON object; NULL after a reply. */
static struct json_object *read_fields(fs_hub_call *c)
{
    const char *type = fs_http_header(c->http, "Content-Type");
    fs_bytes body = fs_http_body(c->http);
    struct json_object *o = NULL;

    if (c->form)
        return json_object_get(c->form);
    if (body.n_bytes > FIELDS_MAX) {
        fs_hub_error(c, 413, NULL, "a request for access has at most %zu bytes", FIELDS_MAX);
        return NULL;
    }
    if (!type || !strstr(type, "urlencoded"))
        return fs_hub_body_json(c);
    fs_hub_failed(c, fs_form_read(body, &o, &c->err));
    return o;
}

static void ask(fs_hub_call *c)
{
    struct json_object *fields;
    char status[16];
    int64_t n = 0;
    bool some;

    if (!*c->repo.gated) {
        fs_hub_error(c, 400, NULL, "%s/%s is not gated", c->repo.owner_name, c->repo.name);
        return;
    }
    if (fs_hub_failed(c, find_status(c, c->user.id, status)) ||
        fs_hub_failed(c, fs_db_int(c->db, &n, NULL, &c->err, "SELECT count(*) FROM access_requests WHERE repo = ?", "i", c->repo.id)) || !(fields = read_fields(c)))
        return;
    some = json_object_object_length(fields) > 0;
    if (n >= ASKERS_MAX)
        fs_hub_error(c, 429, NULL, "too many users ask for this repository");
    else if (*status || !fs_hub_failed(c, fs_db_run(c->db, &c->err, /* who was answered is not asked again */
                                                    "INSERT OR IGNORE INTO access_requests(repo, account, status, created_ms, fields) VALUES(?, ?, ?, ?, ?)", "iisis",
                                                    c->repo.id, c->user.id, strcmp(c->repo.gated, "auto") == 0 ? "accepted" : "pending", fs_unix_ms(),
                                                    some ? json_object_to_json_string_ext(fields, JSON_C_TO_STRING_PLAIN) : NULL))) {
        fs_emit e = { 0 };
        if (!fs_hub_failed(c, find_status(c, c->user.id, status))) {
            fs_emit_begin(&e, '{');
            fs_emit_str(&e, "status", status);
            fs_emit_end(&e, '}');
            fs_hub_reply(c, 200, &e);
        }
        fs_emit_done(&e);
    }
    json_object_put(fields);
}

void fs_hub_ask_access(fs_hub_call *c)
{
    if (fs_hub_need_user(c, true) && fs_hub_need_repo_params(c, FS_HUB_READ))
        ask(c);
}

void fs_hub_ask_access_path(fs_hub_call *c)
{
    if (fs_hub_need_user(c, true) && fs_hub_need_repo_path(c, 0, FS_HUB_READ))
        ask(c);
}

void fs_hub_access_cancel(fs_hub_call *c)
{
    if (!fs_hub_need_user(c, true) || !fs_hub_need_repo_params(c, FS_HUB_READ) ||
        fs_hub_failed(c, fs_db_run(c->db, &c->err, "DELETE FROM access_requests WHERE repo = ? AND account = ? AND status = 'pending'", "ii", c->repo.id, c->user.id)))
        return;
    if (sqlite3_changes(c->db) == 0)
        fs_hub_error(c, 404, NULL, "you have no request that waits for an answer");
    else
        fs_hub_reply_ok(c);
}

/* ---- answering ---- */

static void emit_request(fs_emit *e, sqlite3_stmt *st)
{
    char id[25];

    snprintf(id, sizeof id, "%024llx", (unsigned long long)sqlite3_column_int64(st, 0));
    fs_emit_begin(e, '{');
    fs_emit_str(e, "requestId", id);
    fs_emit_key(e, "user");
    fs_emit_begin(e, '{');
    fs_emit_str(e, "user", fs_db_text(st, 1));
    fs_emit_str(e, "fullname", *fs_db_text(st, 2) ? fs_db_text(st, 2) : fs_db_text(st, 1));
    if (*fs_db_text(st, 3))
        fs_emit_str(e, "email", fs_db_text(st, 3));
    fs_emit_str(e, "avatarUrl", "");
    fs_emit_end(e, '}');
    fs_emit_str(e, "status", fs_db_text(st, 4));
    fs_emit_time(e, "timestamp", sqlite3_column_int64(st, 5));
    if (*fs_db_text(st, 6))
        fs_emit_json(e, "fields", fs_db_text(st, 6));
    if (*fs_db_text(st, 7)) {
        fs_emit_key(e, "grantedBy");
        fs_emit_begin(e, '{');
        fs_emit_str(e, "user", fs_db_text(st, 7));
        fs_emit_end(e, '}');
    }
    if (*fs_db_text(st, 8))
        fs_emit_str(e, "rejectionReason", fs_db_text(st, 8));
    fs_emit_end(e, '}');
}

void fs_hub_access_list(fs_hub_call *c)
{
    const char *status = fs_http_param(c->http, 3), *cursor = fs_http_query(c->http, "cursor", 0);
    sqlite3_stmt *st = NULL;
    int64_t after = cursor ? strtoll(cursor, NULL, 10) : 0, last = 0;
    int n = 0;
    fs_emit e = { 0 };

    if (!fs_hub_need_user(c, true) || !fs_hub_need_repo_params(c, FS_HUB_WRITE))
        return;
    if (!status_is_valid(status)) {
        fs_hub_error(c, 404, NULL, "requests are pending, accepted or rejected, not '%.50s'", status);
        return;
    }
    if (!*c->repo.gated) {
        fs_hub_error(c, 400, NULL, "%s/%s is not gated", c->repo.owner_name, c->repo.name);
        return;
    }
    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err,
                                     "SELECT q.id, a.name, a.fullname, a.email, q.status, q.created_ms, q.fields, b.name, q.reason FROM access_requests q"
                                     " JOIN accounts a ON a.id = q.account LEFT JOIN accounts b ON b.id = q.handled_by WHERE q.repo = ? AND q.status = ? AND q.id > ?"
                                     " ORDER BY q.id LIMIT ?",
                                     "isii", c->repo.id, status, after, (int64_t)PAGE + 1)))
        return;
    fs_emit_begin(&e, '[');
    while (fs_db_next(st)) {
        if (n++ == PAGE) {
            fs_http_reply_headerf(c->http, "Link", "<%s/api/%s/%s/%s/user-access-request/%s?cursor=%lld>; rel=\"next\"", c->base, c->repo.type, c->repo.owner_name,
                                  c->repo.name, status, (long long)last);
            break;
        }
        last = sqlite3_column_int64(st, 0);
        emit_request(&e, st);
    }
    fs_emit_end(&e, ']');
    if (!fs_hub_failed(c, fs_db_end(st, &c->err)))
        fs_hub_reply(c, 200, &e);
    fs_emit_done(&e);
}

/* The account that "user" or "requestId" names, and what it was answered; false after a reply. */
static bool need_asker(fs_hub_call *c, struct json_object *o, int64_t *ret_account, char ret_status[16])
{
    char name[97], id[25];
    bool found = false;

    if (!fs_hub_json_str(c, o, "user", name, sizeof name) || !fs_hub_json_str(c, o, "requestId", id, sizeof id))
        return false;
    if (fs_hub_failed(c, *name ? fs_db_int(c->db, ret_account, &found, &c->err, "SELECT id FROM accounts WHERE name = ? AND kind = 'user'", "s", name)
                               : fs_db_int(c->db, ret_account, &found, &c->err, "SELECT account FROM access_requests WHERE repo = ? AND id = ?", "ii", c->repo.id,
                                           (int64_t)strtoll(id, NULL, 16))))
        return false;
    if (!found) {
        fs_hub_error(c, 404, NULL, *name ? "there is no user '%s'" : "there is no request '%s'", *name ? name : id);
        return false;
    }
    return !fs_hub_failed(c, find_status(c, *ret_account, ret_status));
}

static fs_status set_answer(fs_hub_call *c, int64_t account, const char *status, const char *reason)
{
    return fs_db_run(c->db, &c->err,
                     "INSERT INTO access_requests(repo, account, status, created_ms, handled_ms, handled_by, reason) VALUES(?1, ?2, ?3, ?4, ?4, ?5, nullif(?6, ''))"
                     " ON CONFLICT(repo, account) DO UPDATE SET status = ?3, handled_ms = ?4, handled_by = ?5, reason = nullif(?6, '')",
                     "iisiis", c->repo.id, account, status, fs_unix_ms(), c->user.id, reason);
}

/* Who may write answers; NULL after a reply. */
static struct json_object *need_gate(fs_hub_call *c)
{
    if (!fs_hub_need_user(c, true) || !fs_hub_need_repo_params(c, FS_HUB_WRITE))
        return NULL;
    if (!*c->repo.gated) {
        fs_hub_error(c, 400, NULL, "%s/%s is not gated", c->repo.owner_name, c->repo.name);
        return NULL;
    }
    return fs_hub_body_json(c);
}

void fs_hub_access_handle(fs_hub_call *c)
{
    struct json_object *o = need_gate(c);
    char status[16], reason[1000], now[16];
    int64_t account = 0;

    if (o && fs_hub_json_str(c, o, "status", status, sizeof status) && fs_hub_json_str(c, o, "rejectionReason", reason, sizeof reason) && need_asker(c, o, &account, now)) {
        if (!status_is_valid(status))
            fs_hub_error(c, 400, NULL, "an answer is accepted, rejected or pending, not '%s'", status);
        else if (!*now)
            fs_hub_error(c, 404, NULL, "this user did not ask");
        else if (strcmp(now, status) == 0)
            fs_hub_error(c, 404, NULL, "the request is in the list of those %s already", status);
        else if (!fs_hub_failed(c, set_answer(c, account, status, strcmp(status, "rejected") == 0 ? reason : "")))
            fs_hub_reply_ok(c);
    }
    json_object_put(o);
}

void fs_hub_access_grant(fs_hub_call *c)
{
    struct json_object *o = need_gate(c);
    char now[16];
    int64_t account = 0;

    if (o && need_asker(c, o, &account, now)) {
        if (strcmp(now, "accepted") == 0)
            fs_hub_error(c, 400, NULL, "this user has access already");
        else if (!fs_hub_failed(c, set_answer(c, account, "accepted", "")))
            fs_hub_reply_ok(c);
    }
    json_object_put(o);
}
