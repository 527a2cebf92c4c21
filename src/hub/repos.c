/* Repositories as such: made, removed, renamed, set, listed, described. */
#include "hub/search.h"

#include "net/url.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_MAX 1000

/* "model" and "models" alike; false after a reply. */
static bool read_type(fs_hub_call *c, struct json_object *o, char ret[16])
{
    char text[16];

    if (!fs_hub_json_str(c, o, "type", text, sizeof text))
        return false;
    if (!*text)
        snprintf(text, sizeof text, "model");
    snprintf(ret, 16, "%.14s%s", text, fs_ends_with(text, "s") ? "" : "s");
    if (!fs_hub_type_is_valid(ret)) {
        fs_hub_error(c, 400, NULL, "no such type of repository: %s", text);
        return false;
    }
    return true;
}

bool fs_hub_read_private(fs_hub_call *c, struct json_object *o, bool *ret)
{
    char text[16];
    fs_error err;

    if (!fs_hub_json_str(c, o, "visibility", text, sizeof text))
        return false;
    if (*text) {
        *ret = strcmp(text, "public") != 0;
        if (*ret && strcmp(text, "private") != 0) {
            fs_hub_error(c, 400, NULL, "a visibility is public or private, not '%s'", text);
            return false;
        }
    }
    if (fs_json_bool(o, "private", ret, NULL, &err) != FS_OK) {
        fs_hub_error(c, 400, NULL, "%s", err.message);
        return false;
    }
    return true;
}

bool fs_hub_need_owner(fs_hub_call *c, const char *name, int64_t *ret_id, char ret_name[97])
{
    sqlite3_stmt *st = NULL;
    fs_hub_right right = FS_HUB_NONE;
    bool found = false;

    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT id, name FROM accounts WHERE name = ?", "s", name)))
        return false;
    if (fs_db_next(st)) {
        found = true;
        *ret_id = sqlite3_column_int64(st, 0);
        snprintf(ret_name, 97, "%s", fs_db_text(st, 1));
    }
    if (fs_hub_failed(c, fs_db_end(st, &c->err)) || (found && fs_hub_failed(c, fs_hub_right_on_account(c->db, &c->user, *ret_id, &right, &c->err))))
        return false;
    if (right < FS_HUB_WRITE) {
        fs_hub_error(c, 403, NULL, "You don't have the rights to create a repository under the namespace '%.96s'", name);
        return false;
    }
    return true;
}

void fs_hub_reply_url(fs_hub_call *c, int status, const char *type, const char *owner, const char *name)
{
    char url[600], id[220];
    fs_emit e = { 0 };

    snprintf(id, sizeof id, "%s/%s", owner, name);
    snprintf(url, sizeof url, "%s/%s%s", c->base, fs_hub_type_prefix(type), id);
    fs_emit_begin(&e, '{');
    if (status == 409) {
        fs_emit_str(&e, "error", "You already created this repository");
        fs_http_reply_header(c->http, "X-Error-Message", "You already created this repository");
    }
    fs_emit_str(&e, "url", url);
    fs_emit_str(&e, "id", id);
    fs_emit_str(&e, "name", id);
    fs_emit_end(&e, '}');
    fs_hub_reply(c, status, &e);
    fs_emit_done(&e);
}

static void create(fs_hub_call *c, const char *type, int64_t owner, const char *owner_name, const char *name, bool private, const char *sdk)
{
    char folder[33], sha[41];
    int64_t now = fs_unix_ms(), id = 0;
    bool found = false;
    int making;
    fs_status rc;

    if (fs_hub_failed(c, fs_db_int(c->db, &id, &found, &c->err, "SELECT id FROM repos WHERE type = ? AND owner = ? AND name = ?", "sis", type, owner, name)))
        return;
    if (found) {
        fs_hub_reply_url(c, 409, type, owner_name, name);
        return;
    }
    fs_hub_random_name(folder, sizeof folder);
    if (fs_hub_failed(c, fs_hub_making_begin(c->hub, &making, &c->err)))
        return;
    if (fs_hub_failed(c, fs_hub_git_init(c->hub, folder, c->user.name, sha, &c->err))) {
        fs_hub_making_end(making);
        return;
    }
    rc = fs_db_run(c->db, &c->err, "INSERT INTO repos(type, owner, name, folder, private, sdk, created_ms, modified_ms, sha) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
                   "sissisiis", type, owner, name, folder, (int64_t)private, *sdk ? sdk : NULL, now, now, sha);
    fs_hub_making_end(making);
    if (rc) {
        bool taken = fs_db_is_conflict(c->db);
        fs_hub_git_remove(c->hub, folder);
        if (taken)
            fs_hub_reply_url(c, 409, type, owner_name, name);
        else
            fs_hub_failed(c, rc);
        return;
    }
    fs_db_run(c->db, NULL, "DELETE FROM moved WHERE type = ? AND owner = ? AND name = ?", "sss", type, owner_name, name); /* the name means the new one */
    c->repo = (fs_hub_repo){ .id = sqlite3_last_insert_rowid(c->db), .owner = owner, .private = private };
    snprintf(c->repo.type, sizeof c->repo.type, "%s", type);
    snprintf(c->repo.owner_name, sizeof c->repo.owner_name, "%s", owner_name);
    snprintf(c->repo.name, sizeof c->repo.name, "%.96s", name);
    memcpy(c->repo.sha, sha, sizeof sha);
    fs_hub_tell(c, "create", "repo", 0, NULL);
    fs_hub_reply_url(c, 200, type, owner_name, name);
}

void fs_hub_repo_create(fs_hub_call *c)
{
    struct json_object *o;
    char type[16], name[200], owner[97], sdk[20], owner_name[97], *slash;
    int64_t owner_id = 0;
    bool private = false;

    if (!fs_hub_need_user(c, true) || !(o = fs_hub_body_json(c)))
        return;
    if (!read_type(c, o, type) || !fs_hub_json_str(c, o, "name", name, sizeof name) || !fs_hub_json_str(c, o, "organization", owner, sizeof owner) ||
        !fs_hub_json_str(c, o, "sdk", sdk, sizeof sdk) || !fs_hub_read_private(c, o, &private))
        goto out;
    if ((slash = strchr(name, '/')) != NULL && !*owner && slash - name < (ptrdiff_t)sizeof owner) {
        snprintf(owner, sizeof owner, "%.*s", (int)(slash - name), name);
        memmove(name, slash + 1, strlen(slash + 1) + 1);
    }
    if (!fs_hub_name_is_valid(name))
        fs_hub_error(c, 400, NULL, "'%.96s' is no name for a repository: 1 to 96 letters, digits, '-', '_', '.', no '--' or '..', and not at its ends '-' or '.'", name);
    else if (fs_hub_need_owner(c, *owner ? owner : c->user.name, &owner_id, owner_name))
        create(c, type, owner_id, owner_name, name, private, sdk);
out:
    json_object_put(o);
}

void fs_hub_repo_delete(fs_hub_call *c)
{
    struct json_object *o;
    char type[16], name[97], owner[97];

    if (!fs_hub_need_user(c, true) || !(o = fs_hub_body_json(c)))
        return;
    if (read_type(c, o, type) && fs_hub_json_str(c, o, "name", name, sizeof name) && fs_hub_json_str(c, o, "organization", owner, sizeof owner) &&
        fs_hub_need_repo(c, type, *owner ? owner : c->user.name, name, FS_HUB_ADMIN)) {
        fs_hub_repo_lock(c);
        if (!fs_hub_failed(c, fs_db_run(c->db, &c->err, "DELETE FROM repos WHERE id = ?", "i", c->repo.id))) {
            fs_hub_tell(c, "delete", "repo", 0, NULL);
            fs_hub_git_remove(c->hub, c->repo.folder);
            fs_hub_reply_ok(c);
        }
        fs_hub_repo_unlock(c);
    }
    json_object_put(o);
}

static bool split_id(fs_hub_call *c, char *id, char **ret_name)
{
    *ret_name = strchr(id, '/');
    if (!*ret_name) {
        fs_hub_error(c, 400, NULL, "'%.100s' is no namespace/name", id);
        return false;
    }
    *(*ret_name)++ = 0;
    return true;
}

void fs_hub_repo_move(fs_hub_call *c)
{
    struct json_object *o;
    char type[16], from[200], to[200], *from_name, *to_name, owner_name[97];
    int64_t owner = 0;
    fs_status rc;

    if (!fs_hub_need_user(c, true) || !(o = fs_hub_body_json(c)))
        return;
    if (!read_type(c, o, type) || !fs_hub_json_str(c, o, "fromRepo", from, sizeof from) || !fs_hub_json_str(c, o, "toRepo", to, sizeof to) ||
        !split_id(c, from, &from_name) || !split_id(c, to, &to_name) || !fs_hub_need_repo(c, type, from, from_name, FS_HUB_ADMIN) ||
        !fs_hub_need_owner(c, to, &owner, owner_name))
        goto out;
    if (!fs_hub_name_is_valid(to_name)) {
        fs_hub_error(c, 400, NULL, "'%.96s' is no name for a repository", to_name);
        goto out;
    }
    rc = fs_db_begin(c->db, &c->err);
    if (!rc) {
        rc = fs_db_run(c->db, &c->err, "UPDATE repos SET owner = ?, name = ? WHERE id = ?", "isi", owner, to_name, c->repo.id);
        if (rc && fs_db_is_conflict(c->db)) {
            fs_hub_error(c, 409, NULL, "there is a repository %s/%s already", owner_name, to_name);
            goto out;
        }
    }
    if (!rc)
        rc = fs_db_run(c->db, &c->err, "DELETE FROM moved WHERE type = ? AND owner = ? AND name = ?", "sss", type, owner_name, to_name);
    if (!rc)
        rc = fs_db_run(c->db, &c->err, "INSERT OR REPLACE INTO moved(type, owner, name, repo) VALUES(?, ?, ?, ?)", "sssi", type, c->repo.owner_name, c->repo.name,
                       c->repo.id);
    if (!rc)
        rc = fs_db_commit(c->db, &c->err);
    if (!fs_hub_failed(c, rc)) {
        char moved[400];
        snprintf(moved, sizeof moved, "\"movedTo\":{\"name\":\"%s/%s\",\"owner\":{\"id\":\"%024llx\"}}", owner_name, to_name, (unsigned long long)owner);
        fs_hub_tell(c, "move", "repo", 0, moved);
        fs_hub_reply_ok(c);
    }
out:
    json_object_put(o);
}

static void reply_settings(fs_hub_call *c, bool private, const char *gated, const fs_hub_rules *rules)
{
    fs_emit e = { 0 };

    fs_emit_begin(&e, '{');
    fs_emit_bool(&e, "private", private);
    if (*gated)
        fs_emit_str(&e, "gated", gated);
    else
        fs_emit_bool(&e, "gated", false);
    fs_hub_rules_emit(&e, rules);
    fs_emit_end(&e, '}');
    fs_hub_reply(c, 200, &e);
    fs_emit_done(&e);
}

void fs_hub_repo_settings_get(fs_hub_call *c)
{
    fs_hub_rules rules;

    if (fs_hub_need_repo_params(c, FS_HUB_READ) && !fs_hub_failed(c, fs_hub_rules_read(c->db, c->repo.id, &rules, &c->err)))
        reply_settings(c, c->repo.private, c->repo.gated, &rules);
}

/* Those that o has; under the repository's lock, so that what another call sets beside it stays, and what a rule forbids is done no more. */
static void set_settings(fs_hub_call *c, struct json_object *o)
{
    struct json_object *gated = fs_json_member(o, "gated");
    bool private = true;
    char description[500], now_gated[sizeof c->repo.gated] = "";
    const char *word = now_gated;
    fs_hub_rules rules;
    sqlite3_stmt *st = NULL;

    if (fs_hub_failed(c, fs_hub_rules_read(c->db, c->repo.id, &rules, &c->err)) ||
        fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT private, coalesce(gated, '') FROM repos WHERE id = ?", "i", c->repo.id)))
        return;
    if (fs_db_next(st)) {
        private = sqlite3_column_int(st, 0) != 0;
        snprintf(now_gated, sizeof now_gated, "%s", fs_db_text(st, 1));
    }
    if (fs_hub_failed(c, fs_db_end(st, &c->err)))
        return;
    if (gated && json_object_is_type(gated, json_type_string))
        word = json_object_get_string(gated);
    else if (gated)
        word = "";
    if (strcmp(word, "") != 0 && strcmp(word, "auto") != 0 && strcmp(word, "manual") != 0)
        fs_hub_error(c, 400, NULL, "gated is auto, manual or false, not '%.20s'", word);
    else if (fs_hub_read_private(c, o, &private) && fs_hub_json_str(c, o, "description", description, sizeof description) &&
             !fs_hub_failed(c, fs_hub_rules_take(o, &rules, &c->err)) &&
             !fs_hub_failed(c, fs_db_run(c->db, &c->err,
                                         "UPDATE repos SET private = ?, gated = nullif(?, ''), description = CASE WHEN ? THEN nullif(?, '') ELSE description END, protected = ?, protection = ?,"
                                         " protected_tags = ? WHERE id = ?",
                                         "isissssi", (int64_t)private, word, (int64_t)(fs_json_member(o, "description") != NULL), description, rules.branches,
                                         fs_hub_protection_word(rules.protection), rules.tags, c->repo.id))) {
        c->repo.private = private;
        fs_hub_tell(c, "update", "repo.config", 0, NULL);
        reply_settings(c, private, word, &rules);
    }
}

void fs_hub_repo_settings(fs_hub_call *c)
{
    struct json_object *o;

    if (!fs_hub_need_user(c, true) || !fs_hub_need_repo_params(c, FS_HUB_ADMIN) || !(o = fs_hub_body_json(c)))
        return;
    fs_hub_repo_lock(c);
    set_settings(c, o);
    fs_hub_repo_unlock(c);
    json_object_put(o);
}

void fs_hub_auth_check(fs_hub_call *c)
{
    if (fs_hub_need_repo_params(c, FS_HUB_READ) && fs_hub_need_open(c))
        fs_hub_reply_ok(c);
}

void fs_hub_auth_check_write(fs_hub_call *c)
{
    if (fs_hub_need_user(c, true) && fs_hub_need_repo_params(c, FS_HUB_WRITE))
        fs_hub_reply_ok(c);
}

/* ---- info ---- */

/* The members that lists and single answers share, of the row at st. */
static void emit_row(fs_emit *e, sqlite3_stmt *st, const fs_hub_repo *r, const char *sha, bool with_card)
{
    char id[220];

    snprintf(id, sizeof id, "%s/%s", r->owner_name, r->name);
    fs_emit_str(e, "_id", r->folder);
    fs_emit_str(e, "id", id);
    if (strcmp(r->type, "models") == 0)
        fs_emit_str(e, "modelId", id);
    fs_emit_str(e, "author", r->owner_name);
    fs_emit_str(e, "sha", sha);
    fs_emit_time(e, "lastModified", r->modified_ms);
    fs_emit_time(e, "createdAt", r->created_ms);
    fs_emit_bool(e, "private", r->private);
    if (*r->gated)
        fs_emit_str(e, "gated", r->gated);
    else
        fs_emit_bool(e, "gated", false);
    fs_emit_bool(e, "disabled", r->disabled);
    fs_emit_int(e, "downloads", r->downloads);
    fs_emit_int(e, "likes", r->likes);
    fs_emit_json(e, "tags", fs_db_text(st, FS_HUB_REPO_CARD_COLUMN + 3));
    if (*fs_db_text(st, FS_HUB_REPO_CARD_COLUMN + 1))
        fs_emit_str(e, "pipeline_tag", fs_db_text(st, FS_HUB_REPO_CARD_COLUMN + 1));
    if (*fs_db_text(st, FS_HUB_REPO_CARD_COLUMN + 2))
        fs_emit_str(e, "library_name", fs_db_text(st, FS_HUB_REPO_CARD_COLUMN + 2));
    if (with_card && *fs_db_text(st, FS_HUB_REPO_CARD_COLUMN))
        fs_emit_json(e, "cardData", fs_db_text(st, FS_HUB_REPO_CARD_COLUMN));
}

static bool asks(const fs_hub_call *c, const char *name)
{
    const char *value = fs_http_query(c->http, name, 0);

    return value && strcmp(value, "False") != 0 && strcmp(value, "false") != 0 && strcmp(value, "0") != 0;
}

static bool expands(const fs_hub_call *c, const char *what)
{
    const char *value;

    for (int i = 0; (value = fs_http_query(c->http, "expand", i)) != NULL; i++)
        if (strcmp(value, what) == 0)
            return true;
    return false;
}

static bool is_wanted(const fs_hub_call *c, const char *key)
{
    return !fs_http_query(c->http, "expand", 0) || expands(c, key);
}

typedef struct siblings {
    fs_hub_call *c;
    fs_emit *e;
    bool blobs;
} siblings;

static fs_status add_sibling(void *ud, const char *path, const git_oid *oid, git_object_t type, fs_error *err)
{
    siblings *s = ud;
    char hex[GIT_OID_HEXSZ + 1];
    fs_hub_file f;
    fs_status rc;

    if (type != GIT_OBJECT_BLOB)
        return FS_OK;
    fs_emit_begin(s->e, '{');
    fs_emit_str(s->e, "rfilename", path);
    if (s->blobs) {
        rc = fs_hub_file_read(s->c->git, oid, &f, err);
        if (rc)
            return rc;
        git_oid_tostr(hex, sizeof hex, oid);
        fs_emit_str(s->e, "blobId", hex);
        fs_emit_int(s->e, "size", (int64_t)f.n_bytes);
        if (f.lfs) {
            fs_emit_key(s->e, "lfs");
            fs_emit_begin(s->e, '{');
            fs_emit_str(s->e, "sha256", f.sha256);
            fs_emit_int(s->e, "size", (int64_t)f.n_bytes);
            fs_emit_int(s->e, "pointerSize", (int64_t)f.n_git_bytes);
            fs_emit_end(s->e, '}');
        }
    }
    fs_emit_end(s->e, '}');
    return s->e->rc;
}

static void emit_siblings(fs_hub_call *c, fs_emit *e, const git_oid *commit)
{
    siblings s = { c, e, asks(c, "blobs") };
    git_oid tree;

    fs_emit_key(e, "siblings");
    fs_emit_begin(e, '[');
    if (!fs_hub_failed(c, fs_hub_commit_tree(c->git, commit, &tree, &c->err)))
        fs_hub_failed(c, fs_hub_walk(c->git, &tree, "", true, add_sibling, &s, &c->err));
    fs_emit_end(e, ']');
}

void fs_hub_repo_info(fs_hub_call *c)
{
    const char *rev = fs_http_param(c->http, 3);
    sqlite3_stmt *st = NULL;
    fs_emit e = { 0 };
    fs_hub_repo r;
    git_oid commit;
    char sha[GIT_OID_HEXSZ + 1];
    int64_t used = 0, all = 0;
    fs_hub_origin origin;

    fs_hub_downloads_show(c);
    if (!fs_hub_need_repo_params(c, FS_HUB_READ) || !fs_hub_need_rev(c, *rev ? rev : "main", &commit, NULL) || fs_hub_failed(c, fs_hub_card_refresh(c, &c->err)) ||
        fs_hub_failed(c, fs_db_int(c->db, &used, NULL, &c->err, "SELECT coalesce(sum(size), 0) FROM repo_objects JOIN objects USING(oid) WHERE repo = ?", "i",
                                   c->repo.id)) ||
        fs_hub_failed(c, fs_hub_fork_origin(c, &origin, &c->err)) || fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT " FS_HUB_REPO_COLUMNS FS_HUB_REPO_TABLES "WHERE r.id = ?", "i", c->repo.id)))
        return;
    git_oid_tostr(sha, sizeof sha, &commit);
    fs_emit_begin(&e, '{');
    if (fs_db_next(st)) {
        fs_hub_repo_read(st, &r);
        emit_row(&e, st, &r, sha, true);
    }
    if (fs_hub_failed(c, fs_db_end(st, &c->err)))
        goto out;
    fs_emit_int(&e, "usedStorage", used);
    if (*origin.id) {
        fs_emit_key(&e, "forkedFrom");
        fs_emit_begin(&e, '{');
        fs_emit_str(&e, "hub", *origin.hub ? origin.hub : c->base);
        fs_emit_str(&e, "id", origin.id);
        fs_emit_str(&e, "sha", origin.sha);
        if (*origin.key)
            fs_emit_str(&e, "owner", origin.key);
        fs_emit_end(&e, '}');
    }
    if (expands(c, "downloadsAllTime")) {
        if (fs_hub_failed(c, fs_db_int(c->db, &all, NULL, &c->err, "SELECT coalesce(sum(n), 0) FROM downloads WHERE repo = ?", "i", c->repo.id)))
            goto out;
        fs_emit_int(&e, "downloadsAllTime", all);
    }
    if (fs_hub_failed(c, fs_hub_emit_meta(c, &e, &commit, is_wanted, &c->err)))
        goto out;
    if (!fs_http_query(c->http, "expand", 0) || expands(c, "siblings"))
        emit_siblings(c, &e, &commit);
    if (asks(c, "securityStatus") && fs_hub_failed(c, fs_hub_emit_security(c, &e, &commit, &c->err)))
        goto out;
    fs_emit_end(&e, '}');
    fs_hub_reply(c, 200, &e);
out:
    fs_emit_done(&e);
}

/* ---- lists ---- */

static const char *sort_column(const char *sort)
{
    static const char *const columns[][2] = { { "lastModified", "modified_ms" }, { "last_modified", "modified_ms" }, { "createdAt", "created_ms" },
                                              { "created_at", "created_ms" },    { "downloads", "downloads" },       { "likes", "likes" } };

    for (size_t i = 0; sort && i < sizeof columns / sizeof *columns; i++)
        if (strcmp(sort, columns[i][0]) == 0)
            return columns[i][1];
    return "modified_ms";
}

/* ["tag", ...] of the filters. */
static void emit_filters(fs_hub_call *c, fs_emit *e)
{
    const char *value;

    fs_emit_begin(e, '[');
    for (int i = 0; i < 16 && (value = fs_http_query(c->http, "filter", i)) != NULL; i++)
        fs_emit_str(e, NULL, value);
    fs_emit_end(e, ']');
}

/* The same question for the peers, who ask nobody else. */
static fs_status query_of(fs_hub_call *c, long long limit, fs_buf *query)
{
    static const char *const names[] = { "search", "author", "pipeline_tag", "sort", "filter" };
    char text[24];
    const char *value;
    fs_status rc;

    snprintf(text, sizeof text, "%lld", limit);
    rc = fs_search_query_add(query, "limit", text, &c->err);
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        for (int i = 0; !rc && i < 16 && (value = fs_http_query(c->http, names[k], i)) != NULL; i++)
            rc = fs_search_query_add(query, names[k], value, &c->err);
    return rc;
}

static void reply_federated(fs_hub_call *c, const char *type, long long limit, fs_search_result *found)
{
    fs_buf query = { 0 };
    fs_emit e = { 0 };

    if (!fs_hub_failed(c, query_of(c, limit, &query)) && fs_search_peers(c, type, query.data, found)) {
        fs_search_emit(c, found, &e);
        fs_hub_reply(c, 200, &e);
    }
    fs_buf_done(&query);
    fs_emit_done(&e);
}

/* A Link to the page behind (key, id). */
static void link_next(fs_hub_call *c, const char *type, int64_t key, int64_t id)
{
    fs_bytes rest = fs_bytes_str(fs_http_query_raw(c->http)), name, value;
    fs_buf url = { 0 };
    fs_status rc = fs_buf_printf(&url, NULL, "<%s/api/%s?", c->base, type);

    while (!rc && fs_url_next_pair(&rest, &name, &value))
        if (!fs_bytes_equal(name, FS_BYTES_LIT("cursor")))
            rc = fs_buf_printf(&url, NULL, "%.*s=%.*s&", (int)name.n_bytes, (const char *)name.data, (int)value.n_bytes, (const char *)value.data);
    if (!rc)
        rc = fs_buf_printf(&url, NULL, "cursor=%lld.%lld>; rel=\"next\"", (long long)key, (long long)id);
    if (!rc)
        fs_http_reply_header(c->http, "Link", url.data);
    fs_buf_done(&url);
}

void fs_hub_repo_list(fs_hub_call *c)
{
    const char *type = fs_http_param(c->http, 0), *text, *column = sort_column(fs_http_query(c->http, "sort", 0));
    bool full = asks(c, "full") || asks(c, "cardData") || expands(c, "cardData"), federated = asks(c, "federated");
    long long key = INT64_MAX, id = INT64_MAX, limit = PAGE_MAX;
    int64_t n = 0;
    sqlite3_stmt *st = NULL;
    fs_emit e = { 0 }, filters = { 0 };
    fs_buf sql = { 0 };
    fs_hub_repo r = { 0 };
    fs_search_result found = { .n = 0 };

    if (!fs_hub_type_is_valid(type)) {
        fs_hub_not_here(c);
        return;
    }
    if ((text = fs_http_query(c->http, "limit", 0)) != NULL)
        limit = strtoll(text, NULL, 10);
    if (limit < 1 || limit > PAGE_MAX)
        limit = PAGE_MAX;
    if (federated && limit > FS_SEARCH_ROWS_MAX)
        limit = FS_SEARCH_ROWS_MAX;
    if (federated && (fs_http_query(c->http, "cursor", 0) || (!fs_http_query(c->http, "search", 0) && !fs_http_query(c->http, "author", 0) && !fs_http_query(c->http, "filter", 0)))) {
        fs_hub_error(c, 400, NULL, "peers are searched for something (search, author or filter), and for one page");
        return;
    }
    if ((text = fs_http_query(c->http, "cursor", 0)) != NULL && sscanf(text, "%lld.%lld", &key, &id) != 2) {
        fs_hub_error(c, 400, NULL, "a broken cursor");
        return;
    }
    fs_hub_downloads_show(c);
    emit_filters(c, &filters);
    if (filters.rc || fs_buf_printf(&sql, NULL,
                                    "SELECT " FS_HUB_REPO_COLUMNS ", r.%s" FS_HUB_REPO_TABLES
                                    "WHERE r.type = ?1 AND (?2 IS NULL OR a.name = ?2) AND (?3 IS NULL OR instr(lower(a.name || '/' || r.name), lower(?3)) > 0)"
                                    " AND (?4 IS NULL OR r.pipeline_tag = ?4) AND (NOT r.private OR ?5 OR " FS_HUB_REPO_IS_OF("?6", "?11") ") AND NOT EXISTS (SELECT 1 FROM json_each(?7) f WHERE NOT EXISTS"
                                    " (SELECT 1 FROM repo_tags t WHERE t.tag = f.value AND t.repo = r.id)) AND (r.%s, r.id) < (?8, ?9)"
                                    " ORDER BY r.%s DESC, r.id DESC LIMIT ?10", column, column, column)) {
        fs_hub_error(c, 503, NULL, "out of memory");
        goto out;
    }
    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, sql.data, "ssssiisiiii", type, fs_http_query(c->http, "author", 0), fs_http_query(c->http, "search", 0),
                                     fs_http_query(c->http, "pipeline_tag", 0), (int64_t)(c->user.is_admin), c->user.id, filters.out.data, (int64_t)key,
                                     (int64_t)id, (int64_t)limit + 1, c->user.scope)))
        goto out;
    fs_emit_begin(&e, '[');
    while (fs_db_next(st)) {
        fs_search_row *row = NULL;
        if (n++ == limit) {
            if (!federated)
                link_next(c, type, key, r.id);
            break;
        }
        fs_hub_repo_read(st, &r);
        key = sqlite3_column_int64(st, FS_HUB_REPO_CARD_COLUMN + 4);
        if (federated && (row = fs_search_add(&found)) == NULL) {
            fs_db_end(st, NULL);
            fs_hub_failed(c, fs_fail_memory(&c->err, sizeof *row));
            goto out;
        }
        if (row) {
            snprintf(row->id, sizeof row->id, "%s/%s", r.owner_name, r.name);
            memcpy(row->sha, r.sha, sizeof row->sha);
        }
        fs_emit_begin(row ? &row->json : &e, '{');
        emit_row(row ? &row->json : &e, st, &r, r.sha, full);
        if (!row)
            fs_emit_end(&e, '}');
    }
    fs_emit_end(&e, ']');
    if (fs_hub_failed(c, fs_db_end(st, &c->err)))
        goto out;
    if (federated)
        reply_federated(c, type, limit, &found);
    else
        fs_hub_reply(c, 200, &e);
out:
    fs_search_done(&found);
    fs_buf_done(&sql);
    fs_emit_done(&filters);
    fs_emit_done(&e);
}

/* ---- likes ---- */

static void set_like(fs_hub_call *c, bool on)
{
    fs_status rc;

    if (!fs_hub_need_user(c, true) || !fs_hub_need_repo_params(c, FS_HUB_READ))
        return;
    rc = fs_db_begin(c->db, &c->err);
    if (!rc)
        rc = on ? fs_db_run(c->db, &c->err, "INSERT OR IGNORE INTO likes(account, repo, created_ms) VALUES(?, ?, ?)", "iii", c->user.id, c->repo.id, fs_unix_ms())
                : fs_db_run(c->db, &c->err, "DELETE FROM likes WHERE account = ? AND repo = ?", "ii", c->user.id, c->repo.id);
    if (!rc)
        rc = fs_db_run(c->db, &c->err, "UPDATE repos SET likes = (SELECT count(*) FROM likes WHERE repo = repos.id) WHERE id = ?", "i", c->repo.id);
    if (!rc)
        rc = fs_db_commit(c->db, &c->err);
    if (!fs_hub_failed(c, rc))
        fs_hub_reply_ok(c);
}

void fs_hub_like(fs_hub_call *c)
{
    set_like(c, true);
}

void fs_hub_unlike(fs_hub_call *c)
{
    set_like(c, false);
}

void fs_hub_likers(fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;

    if (!fs_hub_need_repo_params(c, FS_HUB_READ) ||
        fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT a.name FROM likes l JOIN accounts a ON a.id = l.account WHERE l.repo = ? ORDER BY l.created_ms", "i",
                                     c->repo.id)))
        return;
    fs_hub_reply_people(c, st);
}
