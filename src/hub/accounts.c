/* Users, organisations, tokens, and who may do what. A token is kept as its SHA-256: it has 238 random bits, so that a slow hash
 * would add nothing, and looking it up by its hash tells nothing by its time. */
#include "hub/internal.h"

#include "crypto/sha256.h"
#include "net/url.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SCOPES_MAX 100 /* of a token */

bool fs_hub_name_is_valid(const char *name)
{
    size_t n = strlen(name);

    if (n < 1 || n > 96 || strstr(name, "--") || strstr(name, "..") || strchr("-.", name[0]) || strchr("-.", name[n - 1]) ||
        (n > 4 && strcasecmp(name + n - 4, ".git") == 0))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') || (name[i] >= '0' && name[i] <= '9') || strchr("-_.", name[i])))
            return false;
    return true;
}

bool fs_hub_name_is_reserved(const char *name)
{
    static const char *const reserved[] = { "api", "datasets", "spaces", "models", "lfs", "static", "settings", "login", "logout", "join",
                                            "new", "docs", "v1", "v2", "xet", "organizations", "users", "collections", "oauth", ".well-known", "health" };

    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (strcasecmp(name, reserved[i]) == 0)
            return true;
    return false;
}

static fs_status token_hash(const char *token, uint8_t ret[32], fs_error *err)
{
    fs_sha256 h;
    fs_status rc = fs_sha256_init(&h, err);

    if (rc)
        return rc;
    fs_sha256_update(&h, token, strlen(token));
    fs_sha256_final(&h, ret);
    return FS_OK;
}

#define USER "SELECT a.id, a.name, a.is_admin, t.role, t.name, t.id, t.scoped FROM tokens t JOIN accounts a ON a.id = t.account "

/* Of the row at st, if there is one; ends st. */
static fs_status user_read(sqlite3_stmt *st, fs_hub_user *ret, fs_error *err)
{
    bool found = false;
    fs_status rc;

    if (fs_db_next(st)) {
        found = true;
        ret->id = sqlite3_column_int64(st, 0);
        snprintf(ret->name, sizeof ret->name, "%s", fs_db_text(st, 1));
        ret->admin_in_scope = sqlite3_column_int(st, 2) != 0;
        ret->may_write = strcmp(fs_db_text(st, 3), "write") == 0;
        snprintf(ret->token_name, sizeof ret->token_name, "%s", fs_db_text(st, 4));
        ret->token = sqlite3_column_int64(st, 5);
        ret->scope = sqlite3_column_int(st, 6) ? ret->token : 0;
        ret->is_admin = ret->admin_in_scope && !ret->scope;
    }
    rc = fs_db_end(st, err);
    return rc || found ? rc : fs_fail(err, FS_ERR_NOT_FOUND, "Invalid user token.");
}

fs_status fs_hub_user_by_token(sqlite3 *db, const char *token, fs_hub_user *ret, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    uint8_t hash[32];
    fs_status rc = token_hash(token, hash, err);

    if (!rc)
        rc = fs_db_query(db, &st, err, USER "WHERE t.hash = ?", "b", (fs_bytes){ hash, sizeof hash });
    return rc ? rc : user_read(st, ret, err);
}

fs_status fs_hub_session_open(sqlite3 *db, const char *token, const char *session, fs_error *err)
{
    uint8_t hash[32], id[32];
    int64_t now = fs_unix_ms();
    fs_status rc = token_hash(token, hash, err);

    if (!rc)
        rc = token_hash(session, id, err);
    if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM sessions WHERE created_ms < ?", "i", now - FS_HUB_SESSION_MS);
    if (!rc)
        rc = fs_db_run(db, err, "INSERT INTO sessions(hash, token, created_ms) SELECT ?, id, ? FROM tokens WHERE hash = ?", "bib", (fs_bytes){ id, sizeof id }, now,
                       (fs_bytes){ hash, sizeof hash });
    return rc || sqlite3_changes(db) == 1 ? rc : fs_fail(err, FS_ERR_NOT_FOUND, "there is no such token");
}

fs_status fs_hub_user_by_session(sqlite3 *db, const char *session, fs_hub_user *ret, char ret_id[65], fs_error *err)
{
    sqlite3_stmt *st = NULL;
    uint8_t id[32];
    fs_status rc = token_hash(session, id, err);

    if (!rc)
        rc = fs_db_query(db, &st, err, USER "JOIN sessions s ON s.token = t.id WHERE s.hash = ? AND s.created_ms >= ?", "bi", (fs_bytes){ id, sizeof id },
                         fs_unix_ms() - FS_HUB_SESSION_MS);
    if (!rc)
        rc = user_read(st, ret, err);
    if (!rc)
        fs_hex(id, sizeof id, ret_id);
    return rc;
}

fs_status fs_hub_right_of_user(sqlite3 *db, const fs_hub_user *u, int64_t account, fs_hub_right *ret, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_hub_right right = FS_HUB_NONE;
    fs_status rc;

    if (u->id != 0 && (u->id == account || u->admin_in_scope)) {
        right = FS_HUB_ADMIN;
    } else if (u->id != 0) {
        rc = fs_db_query(db, &st, err, "SELECT role FROM members WHERE org = ? AND account = ?", "ii", account, u->id);
        if (rc)
            return rc;
        if (fs_db_next(st)) {
            const char *role = fs_db_text(st, 0);
            right = strcmp(role, "admin") == 0 ? FS_HUB_ADMIN : strcmp(role, "write") == 0 ? FS_HUB_WRITE : FS_HUB_READ;
        }
        rc = fs_db_end(st, err);
        if (rc)
            return rc;
    }
    *ret = right;
    return FS_OK;
}

/* What the token is for: of the account's repositories all, or one (repo 0: all). A token for some repositories never administers. */
static fs_status scope_of(sqlite3 *db, const fs_hub_user *u, int64_t account, int64_t repo, fs_hub_right *ret, fs_error *err)
{
    int64_t writes = 0;
    bool found = false;
    fs_status rc;

    *ret = u->may_write ? FS_HUB_ADMIN : FS_HUB_READ;
    if (!u->scope)
        return FS_OK;
    rc = fs_db_int(db, &writes, &found, err, "SELECT writes FROM token_scopes WHERE token = ? AND (account = ? OR repo = ?) ORDER BY writes DESC LIMIT 1", "iii", u->scope, account, repo);
    *ret = !found ? FS_HUB_NONE : writes ? FS_HUB_WRITE : FS_HUB_READ;
    return rc;
}

fs_status fs_hub_right_on_repo(sqlite3 *db, const fs_hub_user *u, int64_t repo, int64_t owner, fs_hub_right *ret, fs_hub_right *ret_scope, fs_error *err)
{
    fs_hub_right right = FS_HUB_NONE;
    fs_status rc = fs_hub_right_of_user(db, u, owner, &right, err);

    if (!rc)
        rc = scope_of(db, u, owner, repo, ret_scope, err);
    if (!rc)
        *ret = right < *ret_scope ? right : *ret_scope;
    return rc;
}

fs_status fs_hub_right_on_account(sqlite3 *db, const fs_hub_user *u, int64_t account, fs_hub_right *ret, fs_error *err)
{
    fs_hub_right scope;

    return fs_hub_right_on_repo(db, u, 0, account, ret, &scope, err);
}

/* ---- the commands ---- */

fs_status fs_hub_has_users(fs_hub *h, bool *ret, fs_error *err)
{
    sqlite3 *db;
    int64_t n = 0;
    fs_status rc = fs_db_take(h->db, &db, err);

    if (rc)
        return rc;
    rc = fs_db_int(db, &n, NULL, err, "SELECT count(*) FROM accounts", "");
    fs_db_give(h->db, db);
    if (!rc)
        *ret = n > 0;
    return rc;
}

static fs_status account_id(sqlite3 *db, const char *name, const char *kind, int64_t *ret, fs_error *err)
{
    bool found = false;
    fs_status rc = fs_db_int(db, ret, &found, err, "SELECT id FROM accounts WHERE name = ? AND (kind = ? OR ? IS NULL)", "sss", name, kind, kind);

    return rc || found ? rc : fs_fail(err, FS_ERR_NOT_FOUND, "there is no %s '%.100s'", kind ? kind : "account", name);
}

static fs_status token_add(sqlite3 *db, int64_t account, const char *name, const char *role, char ret_token[FS_HUB_TOKEN_BYTES], fs_error *err)
{
    uint8_t hash[32];
    fs_status rc;

    memcpy(ret_token, "hf_", 3);
    fs_hub_random_name(ret_token + 3, FS_HUB_TOKEN_BYTES - 3);
    rc = token_hash(ret_token, hash, err);
    if (!rc)
        rc = fs_db_run(db, err, "INSERT INTO tokens(account, name, hash, role, created_ms) VALUES(?, ?, ?, ?, ?)", "isbsi", account, name,
                       (fs_bytes){ hash, sizeof hash }, role, fs_unix_ms());
    return rc;
}

static fs_status account_add(sqlite3 *db, const char *name, const char *kind, bool admin, int64_t *ret_id, fs_error *err)
{
    fs_status rc;

    if (!fs_hub_name_is_valid(name) || fs_hub_name_is_reserved(name))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.100s' is no name for an account: 1 to 96 letters, digits, '-', '_', '.', and none that the hub uses itself", name);
    rc = fs_db_run(db, err, "INSERT INTO accounts(name, kind, is_admin, created_ms) VALUES(?, ?, ?, ?)", "ssii", name, kind, (int64_t)admin, fs_unix_ms());
    if (rc && fs_db_is_conflict(db))
        return fs_fail(err, FS_ERR_ARGUMENT, "there is an account '%s' already", name);
    *ret_id = sqlite3_last_insert_rowid(db);
    return rc;
}

/* Takes a connection and begins; *ret_db is NULL after a failure. */
static fs_status writing(fs_hub *h, sqlite3 **ret_db, fs_error *err)
{
    fs_status rc = fs_db_take(h->db, ret_db, err);

    if (rc)
        *ret_db = NULL;
    return rc ? rc : fs_db_begin(*ret_db, err);
}

static fs_status written(fs_hub *h, sqlite3 *db, fs_status rc, fs_error *err)
{
    if (!rc)
        rc = fs_db_commit(db, err);
    fs_db_give(h->db, db);
    return rc;
}

fs_status fs_hub_user_add(fs_hub *h, const char *name, bool admin, char ret_token[FS_HUB_TOKEN_BYTES], fs_error *err)
{
    sqlite3 *db;
    int64_t id = 0;
    fs_status rc = writing(h, &db, err);

    if (!rc)
        rc = account_add(db, name, "user", admin, &id, err);
    if (!rc)
        rc = token_add(db, id, "first", "write", ret_token, err);
    return written(h, db, rc, err);
}

fs_status fs_hub_user_set_admin(fs_hub *h, const char *name, bool admin, fs_error *err)
{
    sqlite3 *db;
    int64_t id = 0;
    fs_status rc = writing(h, &db, err);

    if (!rc)
        rc = account_id(db, name, "user", &id, err);
    if (!rc)
        rc = fs_db_run(db, err, "UPDATE accounts SET is_admin = ? WHERE id = ?", "ii", (int64_t)admin, id);
    return written(h, db, rc, err);
}

fs_status fs_hub_account_remove(fs_hub *h, const char *name, fs_error *err)
{
    sqlite3 *db;
    int64_t id = 0, n = 0;
    fs_status rc = writing(h, &db, err);

    if (!rc)
        rc = account_id(db, name, NULL, &id, err);
    if (!rc)
        rc = fs_db_int(db, &n, NULL, err, "SELECT count(*) FROM repos WHERE owner = ?", "i", id);
    if (!rc && n > 0)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%.100s' owns %lld repositories: delete or move them first", name, (long long)n);
    if (!rc)
        rc = fs_db_int(db, &n, NULL, err, "SELECT (SELECT count(*) FROM events WHERE author = ?1) + (SELECT count(*) FROM discussions WHERE author = ?1)", "i", id);
    if (!rc && n > 0)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%.100s' took part in discussions, which keep its name: revoke its tokens instead", name);
    if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM accounts WHERE id = ?", "i", id);
    return written(h, db, rc, err);
}

/* "org", or "org/name" with the type before it. The same sentence for what is not there and what the user may not see. */
static fs_status scope_add(sqlite3 *db, const fs_hub_user *u, int64_t token, char *what, bool writes, fs_error *err)
{
    static const char *const types[] = { "models", "datasets", "spaces" };
    const char *type = "models";
    char *name, *owner = what;
    int64_t account = 0, repo = 0, private = 0;
    fs_hub_right right = FS_HUB_NONE;
    bool found = false;
    fs_status rc;

    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        size_t n = strlen(types[i]);
        if (strncmp(what, types[i], n) == 0 && what[n] == '/') {
            type = types[i];
            owner = what + n + 1;
        }
    }
    name = strchr(owner, '/');
    if (name)
        *name++ = 0;
    rc = fs_db_int(db, &account, &found, err, "SELECT id FROM accounts WHERE name = ?", "s", owner);
    if (!rc && found)
        rc = fs_hub_right_of_user(db, u, account, &right, err);
    if (!rc && found && name) {
        rc = fs_db_int(db, &repo, &found, err, "SELECT id FROM repos WHERE type = ? AND owner = ? AND name = ?", "sis", type, account, name);
        if (!rc && found)
            rc = fs_db_int(db, &private, NULL, err, "SELECT private FROM repos WHERE id = ?", "i", repo);
        found = found && (!private || right > FS_HUB_NONE);
    } else {
        found = found && right > FS_HUB_NONE && owner == what;
    }
    if (!rc && !found)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "there is no '%.200s%s%.100s' that the token could be for", what, name ? "/" : "", name ? name : "");
    if (!rc)
        rc = fs_db_run(db, err, "INSERT INTO token_scopes(token, account, repo, writes) VALUES(?, nullif(?, 0), nullif(?, 0), ?)", "iiii", token, repo ? 0 : account, repo, (int64_t)writes);
    return rc;
}

static fs_status scopes_add(sqlite3 *db, int64_t account, const char *role, const char *only, fs_error *err)
{
    static const char gaps[] = ", \t\r\n";
    fs_hub_user u = { .id = account };
    int64_t token = sqlite3_last_insert_rowid(db), is_admin = 0;
    char *list = strdup(only), *rest = NULL;
    int n = 0;
    fs_status rc = list ? fs_db_int(db, &is_admin, NULL, err, "SELECT is_admin FROM accounts WHERE id = ?", "i", account) : fs_fail_memory(err, strlen(only));

    u.admin_in_scope = is_admin != 0;
    for (char *word = rc ? NULL : strtok_r(list, gaps, &rest); word && !rc; word = strtok_r(NULL, gaps, &rest))
        rc = ++n > SCOPES_MAX ? fs_fail(err, FS_ERR_ARGUMENT, "a token is for at most %d repositories or accounts", SCOPES_MAX) : scope_add(db, &u, token, word, strcmp(role, "write") == 0, err);
    free(list);
    return rc || n == 0 ? rc : fs_db_run(db, err, "UPDATE tokens SET scoped = 1 WHERE id = ?", "i", token);
}

fs_status fs_hub_token_add(fs_hub *h, const char *user, const char *name, const char *role, const char *only, char ret_token[FS_HUB_TOKEN_BYTES], fs_error *err)
{
    sqlite3 *db;
    int64_t id = 0;
    fs_status rc = writing(h, &db, err);

    if (!rc)
        rc = account_id(db, user, "user", &id, err);
    if (!rc && (strlen(name) < 1 || strlen(name) > 96))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "a token's name has 1 to 96 characters");
    if (!rc)
        rc = token_add(db, id, name, role, ret_token, err);
    if (!rc && only)
        rc = scopes_add(db, id, role, only, err);
    return written(h, db, rc, err);
}

fs_status fs_hub_token_remove(fs_hub *h, const char *user, const char *name, fs_error *err)
{
    sqlite3 *db;
    int64_t id = 0;
    fs_status rc = writing(h, &db, err);

    if (!rc)
        rc = account_id(db, user, "user", &id, err);
    if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM tokens WHERE account = ? AND name = ?", "is", id, name);
    if (!rc && sqlite3_changes(db) == 0)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "'%.100s' has no token '%.100s'", user, name);
    return written(h, db, rc, err);
}

fs_status fs_hub_org_add(fs_hub *h, const char *name, const char *owner, fs_error *err)
{
    sqlite3 *db;
    int64_t id = 0, user = 0;
    fs_status rc = writing(h, &db, err);

    if (!rc)
        rc = account_id(db, owner, "user", &user, err);
    if (!rc)
        rc = account_add(db, name, "org", false, &id, err);
    if (!rc)
        rc = fs_db_run(db, err, "INSERT INTO members(org, account, role) VALUES(?, ?, 'admin')", "ii", id, user);
    return written(h, db, rc, err);
}

fs_status fs_hub_org_member(fs_hub *h, const char *org, const char *user, const char *role, fs_error *err)
{
    sqlite3 *db;
    int64_t id = 0, account = 0;
    fs_status rc = writing(h, &db, err);

    if (!rc)
        rc = account_id(db, org, "org", &id, err);
    if (!rc)
        rc = account_id(db, user, "user", &account, err);
    if (!rc && role)
        rc = fs_db_run(db, err, "INSERT OR REPLACE INTO members(org, account, role) VALUES(?, ?, ?)", "iis", id, account, role);
    else if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM members WHERE org = ? AND account = ?", "ii", id, account);
    return written(h, db, rc, err);
}

fs_status fs_hub_quota_set(fs_hub *h, const char *account, uint64_t bytes, fs_error *err)
{
    sqlite3 *db;
    int64_t id = 0;
    fs_status rc = writing(h, &db, err);

    if (!rc)
        rc = account_id(db, account, NULL, &id, err);
    if (!rc)
        rc = fs_db_run(db, err, "UPDATE accounts SET quota_bytes = nullif(?, 0) WHERE id = ?", "ii",
                       (int64_t)(bytes > INT64_MAX ? INT64_MAX : bytes), id);
    return written(h, db, rc, err);
}

static fs_status list(fs_hub *h, const char *sql, const char *types, int64_t id, fs_hub_list_fn *fn, void *ud, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    sqlite3 *db;
    fs_status rc = fs_db_take(h->db, &db, err);

    if (rc)
        return rc;
    rc = fs_db_query(db, &st, err, sql, types, id);
    while (!rc && fs_db_next(st))
        fn(ud, fs_db_text(st, 0), fs_db_text(st, 1), sqlite3_column_int64(st, 2));
    if (!rc)
        rc = fs_db_end(st, err);
    fs_db_give(h->db, db);
    return rc;
}

fs_status fs_hub_user_list(fs_hub *h, fs_hub_list_fn *fn, void *ud, fs_error *err)
{
    return list(h, "SELECT name, CASE WHEN is_admin THEN 'admin' ELSE kind END, coalesce(quota_bytes, -1) FROM accounts ORDER BY name", "", 0, fn, ud, err);
}

fs_status fs_hub_org_list(fs_hub *h, const char *org, fs_hub_list_fn *fn, void *ud, fs_error *err)
{
    sqlite3 *db;
    int64_t id = 0;
    fs_status rc = fs_db_take(h->db, &db, err);

    if (rc)
        return rc;
    rc = account_id(db, org, "org", &id, err);
    fs_db_give(h->db, db);
    return rc ? rc : list(h, "SELECT a.name, m.role, -1 FROM members m JOIN accounts a ON a.id = m.account WHERE m.org = ? ORDER BY a.name", "i", id, fn, ud, err);
}

fs_status fs_hub_token_list(fs_hub *h, const char *user, fs_hub_list_fn *fn, void *ud, fs_error *err)
{
    sqlite3 *db;
    int64_t id = 0;
    fs_status rc = fs_db_take(h->db, &db, err);

    if (rc)
        return rc;
    rc = account_id(db, user, "user", &id, err);
    fs_db_give(h->db, db);
    return rc ? rc : list(h, 
                          "SELECT name, role || coalesce(' only ' || (SELECT group_concat(coalesce(a.name, iif(r.type = 'models', '', r.type || '/') || o.name || '/' || r.name), ', ')"
                          " FROM token_scopes s LEFT JOIN accounts a ON a.id = s.account LEFT JOIN repos r ON r.id = s.repo LEFT JOIN accounts o ON o.id = r.owner WHERE s.token = t.id),"
                          " iif(scoped, ' only what is gone', '')), created_ms FROM tokens t WHERE account = ? ORDER BY id", "i", id, fn, ud, err);
}

/* ---- the API ---- */

/* As huggingface.co says it of a fine-grained token. */
static fs_status emit_scopes(fs_hub_call *c, fs_emit *e, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(c->db, &st, err,
                               "SELECT s.writes, coalesce(a.kind, substr(r.type, 1, length(r.type) - 1)), coalesce(a.name, o.name || '/' || r.name), coalesce(s.account, s.repo) FROM token_scopes s"
                               " LEFT JOIN accounts a ON a.id = s.account LEFT JOIN repos r ON r.id = s.repo LEFT JOIN accounts o ON o.id = r.owner WHERE s.token = ? ORDER BY s.rowid",
                               "i", c->user.scope);

    if (rc)
        return rc;
    fs_emit_key(e, "fineGrained");
    fs_emit_begin(e, '{');
    fs_emit_bool(e, "canReadGatedRepos", false);
    fs_emit_key(e, "global");
    fs_emit_begin(e, '[');
    fs_emit_end(e, ']');
    fs_emit_key(e, "scoped");
    fs_emit_begin(e, '[');
    while (fs_db_next(st)) {
        char id[25];
        snprintf(id, sizeof id, "%024llx", (unsigned long long)sqlite3_column_int64(st, 3));
        fs_emit_begin(e, '{');
        fs_emit_key(e, "entity");
        fs_emit_begin(e, '{');
        fs_emit_str(e, "_id", id);
        fs_emit_str(e, "type", fs_db_text(st, 1));
        fs_emit_str(e, "name", fs_db_text(st, 2));
        fs_emit_end(e, '}');
        fs_emit_key(e, "permissions");
        fs_emit_begin(e, '[');
        fs_emit_str(e, NULL, "repo.content.read");
        if (sqlite3_column_int(st, 0)) {
            fs_emit_str(e, NULL, "repo.write");
            fs_emit_str(e, NULL, "discussion.write");
        }
        fs_emit_end(e, ']');
        fs_emit_end(e, '}');
    }
    fs_emit_end(e, ']');
    fs_emit_end(e, '}');
    return fs_db_end(st, err);
}

void fs_hub_whoami(fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    fs_emit e = { 0 };

    if (!fs_hub_need_user(c, false))
        return;
    fs_emit_begin(&e, '{');
    fs_emit_str(&e, "type", "user");
    fs_emit_int(&e, "id", c->user.id);
    fs_emit_str(&e, "name", c->user.name);
    fs_emit_str(&e, "fullname", c->user.name);
    fs_emit_bool(&e, "isPro", false);
    fs_emit_key(&e, "orgs");
    fs_emit_begin(&e, '[');
    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT a.name, m.role FROM members m JOIN accounts a ON a.id = m.org WHERE m.account = ? ORDER BY a.name",
                                     "i", c->user.id)))
        goto out;
    while (fs_db_next(st)) {
        fs_emit_begin(&e, '{');
        fs_emit_str(&e, "type", "org");
        fs_emit_str(&e, "name", fs_db_text(st, 0));
        fs_emit_str(&e, "fullname", fs_db_text(st, 0));
        fs_emit_str(&e, "roleInOrg", fs_db_text(st, 1));
        fs_emit_end(&e, '}');
    }
    fs_emit_end(&e, ']');
    if (fs_hub_failed(c, fs_db_end(st, &c->err)))
        goto out;
    fs_emit_key(&e, "auth");
    fs_emit_begin(&e, '{');
    fs_emit_str(&e, "type", "access_token");
    fs_emit_key(&e, "accessToken");
    fs_emit_begin(&e, '{');
    fs_emit_str(&e, "displayName", c->user.token_name);
    fs_emit_str(&e, "role", c->user.scope ? "fineGrained" : c->user.may_write ? "write" : "read");
    if (c->user.scope && fs_hub_failed(c, emit_scopes(c, &e, &c->err)))
        goto out;
    fs_emit_end(&e, '}');
    fs_emit_end(&e, '}');
    fs_emit_end(&e, '}');
    fs_hub_reply(c, 200, &e);
out:
    fs_emit_done(&e);
}

/* An account of that kind by the route's parameter; false after a reply. */
static bool need_account(fs_hub_call *c, const char *kind, int64_t *ret_id)
{
    fs_status rc = account_id(c->db, fs_http_param(c->http, 0), kind, ret_id, &c->err);

    if (rc == FS_ERR_NOT_FOUND) {
        fs_hub_error(c, 404, NULL, "%s", c->err.message);
        return false;
    }
    return !fs_hub_failed(c, rc);
}

static void overview(fs_hub_call *c, const char *kind)
{
    sqlite3_stmt *st = NULL;
    fs_emit e = { 0 };
    int64_t id;

    if (!need_account(c, kind, &id))
        return;
    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err,
                                     "SELECT a.name, a.created_ms, (SELECT count(*) FROM members WHERE org = a.id),"
                                     " (SELECT count(*) FROM repos WHERE owner = a.id AND type = 'models' AND NOT private),"
                                     " (SELECT count(*) FROM repos WHERE owner = a.id AND type = 'datasets' AND NOT private),"
                                     " (SELECT count(*) FROM repos WHERE owner = a.id AND type = 'spaces' AND NOT private),"
                                     " (SELECT count(*) FROM likes WHERE account = a.id) FROM accounts a WHERE a.id = ?", "i", id)))
        return;
    fs_emit_begin(&e, '{');
    if (fs_db_next(st)) {
        bool user = strcmp(kind, "user") == 0;
        fs_emit_str(&e, "type", kind);
        fs_emit_str(&e, user ? "user" : "name", fs_db_text(st, 0));
        fs_emit_str(&e, "fullname", fs_db_text(st, 0));
        fs_emit_str(&e, "avatarUrl", "");
        fs_emit_time(&e, "createdAt", sqlite3_column_int64(st, 1));
        if (!user)
            fs_emit_int(&e, "numUsers", sqlite3_column_int64(st, 2));
        fs_emit_int(&e, "numModels", sqlite3_column_int64(st, 3));
        fs_emit_int(&e, "numDatasets", sqlite3_column_int64(st, 4));
        fs_emit_int(&e, "numSpaces", sqlite3_column_int64(st, 5));
        fs_emit_int(&e, "numLikes", sqlite3_column_int64(st, 6));
    }
    fs_emit_end(&e, '}');
    if (!fs_hub_failed(c, fs_db_end(st, &c->err)))
        fs_hub_reply(c, 200, &e);
    fs_emit_done(&e);
}

void fs_hub_user_overview(fs_hub_call *c)
{
    overview(c, "user");
}

void fs_hub_org_overview(fs_hub_call *c)
{
    overview(c, "org");
}

void fs_hub_reply_people(fs_hub_call *c, sqlite3_stmt *st)
{
    fs_emit e = { 0 };

    fs_emit_begin(&e, '[');
    while (fs_db_next(st)) {
        fs_emit_begin(&e, '{');
        fs_emit_str(&e, "user", fs_db_text(st, 0));
        fs_emit_str(&e, "fullname", fs_db_text(st, 0));
        fs_emit_str(&e, "avatarUrl", "");
        fs_emit_end(&e, '}');
    }
    fs_emit_end(&e, ']');
    if (!fs_hub_failed(c, fs_db_end(st, &c->err)))
        fs_hub_reply(c, 200, &e);
    fs_emit_done(&e);
}

void fs_hub_org_members(fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    int64_t id;

    if (!need_account(c, "org", &id))
        return;
    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT a.name FROM members m JOIN accounts a ON a.id = m.account WHERE m.org = ? ORDER BY a.name", "i", id)))
        return;
    fs_hub_reply_people(c, st);
}
