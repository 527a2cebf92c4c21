/* Pages of who is signed in: the account, its tokens and sessions, and a new repository. */
#include "hub/page.h"

#include "net/url.h"

#include <stdlib.h>
#include <string.h>

bool fs_page_need_session(fs_hub_call *c)
{
    c->is_page = true;
    if (*c->session)
        return true;
    if (c->user.id)
        fs_page_error(c, 403, "Settings are for who is signed in with a browser.");
    else
        fs_page_go(c, strcmp(fs_http_uri(c->http), "/new") == 0 ? "/login?to=%2Fnew" : strcmp(fs_http_uri(c->http), "/new/organisation") == 0 ? "/login?to=%2Fnew%2Forganisation" : "/login?to=%2Fsettings");
    return false;
}

/* ---- settings ---- */

static fs_status put_profile(fs_page *p, fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    int64_t quota = -1, used = 0, loose = 0;
    fs_status rc = fs_db_query(c->db, &st, &c->err, "SELECT coalesce(fullname, ''), is_admin FROM accounts WHERE id = ?", "i", c->user.id);

    if (rc)
        return rc;
    fs_page_put(p, "<h1>Settings</h1><p>You are <a href=\"/");
    fs_page_path(p, c->user.name);
    fs_page_put(p, "\">");
    fs_page_text(p, c->user.name);
    fs_page_put(p, "</a>%s, by the token <b>", fs_db_next(st) && sqlite3_column_int(st, 1) ? ", an admin of this hub" : "");
    fs_page_text(p, c->user.token_name);
    fs_page_put(p, "</b> that may %s.</p>", c->user.may_write ? "read and write" : "read");
    fs_page_form(p, c, "inline", "/logout");
    fs_page_put(p, "<button>Sign out</button></form>");
    fs_page_form(p, c, "inline", "/settings/sessions/end");
    fs_page_put(p, "<button>Sign out all my other browsers</button></form>");
    if (c->user.may_write) {
        fs_page_form(p, c, "stack", "/settings/profile");
        fs_page_put(p, "<label>Full name<input name=\"fullname\" maxlength=\"100\" value=\"");
        fs_page_text(p, fs_db_text(st, 0));
        fs_page_put(p, "\"></label><button>Save</button></form>");
    }
    rc = fs_db_end(st, &c->err);
    if (!rc)
        rc = fs_hub_quota_of(c->db, c->user.id, &quota, &used, &loose, &c->err);
    if (!rc && quota >= 0) {
        fs_page_put(p, "<p>");
        fs_page_size(p, (uint64_t)used);
        fs_page_put(p, " of large files, of ");
        fs_page_size(p, (uint64_t)quota);
        fs_page_put(p, " that you may keep here.</p>");
    }
    return rc;
}

/* Its date, and the button that takes it away: columns 3 and, its number, 0. */
static void end_row(fs_page *p, const fs_hub_call *c, sqlite3_stmt *st, const char *action, const char *label)
{
    fs_page_put(p, "</td><td>");
    fs_page_date(p, sqlite3_column_int64(st, 3));
    fs_page_put(p, "</td><td>");
    if (c->user.may_write) {
        fs_page_form(p, c, "inline", action);
        fs_page_put(p, "<input type=\"hidden\" name=\"id\" value=\"%lld\"><button class=\"danger\">%s</button></form>", (long long)sqlite3_column_int64(st, 0), label);
    }
    fs_page_put(p, "</td></tr>");
}

static fs_status put_tokens(fs_page *p, fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(c->db, &st, &c->err, "SELECT id, name, role || iif(scoped, ', some repositories', ''), created_ms FROM tokens WHERE account = ? ORDER BY id", "i", c->user.id);

    if (rc)
        return rc;
    fs_page_put(p, "<h2>Tokens</h2><div class=\"wide\"><table><tr><th>name</th><th>may</th><th>made</th><th></th></tr>");
    while (fs_db_next(st)) {
        fs_page_put(p, "<tr><td class=\"word\">");
        fs_page_text(p, fs_db_text(st, 1));
        fs_page_put(p, "</td><td>");
        fs_page_text(p, fs_db_text(st, 2));
        end_row(p, c, st, "/settings/tokens/revoke", "Revoke");
    }
    fs_page_put(p, "</table></div>");
    if (c->user.may_write) {
        fs_page_form(p, c, "stack", "/settings/tokens");
        fs_page_put(p, "<label>Name of a new token<input name=\"name\" required maxlength=\"96\"></label><label>It may<select name=\"role\"><option value=\"read\">read</option>"
                       "<option value=\"write\">read and write</option></select></label><label>Only what is of, or named (nothing: everything)<input name=\"only\" maxlength=\"4000\""
                       " placeholder=\"team, me/model, datasets/me/data\"></label><button class=\"main\">Make it</button></form>");
    }
    return fs_db_end(st, &c->err);
}

static fs_status put_orgs(fs_page *p, fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(c->db, &st, &c->err, "SELECT a.name, m.role FROM members m JOIN accounts a ON a.id = m.org WHERE m.account = ? ORDER BY a.name", "i", c->user.id);

    if (rc)
        return rc;
    fs_page_put(p, "<h2>Organisations</h2>");
    while (fs_db_next(st)) {
        fs_page_put(p, "<p><a href=\"/");
        fs_page_path(p, fs_db_text(st, 0));
        fs_page_put(p, "\">");
        fs_page_text(p, fs_db_text(st, 0));
        fs_page_put(p, "</a> <span class=\"tag\">%s</span></p>", fs_db_text(st, 1));
    }
    if (c->user.may_write)
        fs_page_put(p, "<p><a class=\"button\" href=\"/new/organisation\">New organisation</a></p>");
    return fs_db_end(st, &c->err);
}

static void put_owner(fs_page *p, const char *name)
{
    fs_page_put(p, "<option>");
    fs_page_text(p, name);
    fs_page_put(p, "</option>");
}

fs_status fs_page_owners(fs_hub_call *c, sqlite3_stmt **ret)
{
    return fs_db_query(c->db, ret, &c->err,
                       "SELECT a.name FROM accounts a WHERE ?2 AND a.id IN (SELECT ?1 UNION SELECT org FROM members WHERE account = ?1 AND role <> 'read' UNION SELECT account FROM token_scopes WHERE ?4 AND token = ?3)"
                       " AND (?3 = 0 OR a.id IN (SELECT account FROM token_scopes WHERE token = ?3 AND writes)) ORDER BY a.id <> ?1, a.name",
                       "iiii", c->user.id, (int64_t)c->user.may_write, c->user.scope, (int64_t)c->user.admin_in_scope);
}

/* Public keys, of the user and of the organisations that the user administers. */
static fs_status put_keys(fs_page *p, fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(c->db, &st, &c->err,
                               "SELECT k.id, k.name, a.name, k.created_ms FROM account_keys k JOIN accounts a ON a.id = k.account WHERE a.id = ?1 OR a.id IN (SELECT org FROM members"
                               " WHERE account = ?1 AND role = 'admin') ORDER BY k.id",
                               "i", c->user.id);

    if (rc)
        return rc;
    fs_page_put(p, "<h2>Signing keys</h2><p class=\"soft\">What these public keys sign (<code>farseek sign</code>, <code>model_signing</code>) is shown as verified in the owner's repositories.</p>"
                   "<div class=\"wide\"><table>");
    while (fs_db_next(st)) {
        fs_page_put(p, "<tr><td class=\"word\">");
        fs_page_text(p, fs_db_text(st, 1));
        fs_page_put(p, "</td><td>of ");
        fs_page_text(p, fs_db_text(st, 2));
        end_row(p, c, st, "/settings/keys/remove", "Remove");
    }
    fs_page_put(p, "</table></div>");
    rc = fs_db_end(st, &c->err);
    if (rc || !c->user.may_write)
        return rc;
    rc = fs_db_query(c->db, &st, &c->err, "SELECT a.name FROM members m JOIN accounts a ON a.id = m.org WHERE m.account = ? AND m.role = 'admin' ORDER BY a.name", "i", c->user.id);
    if (rc)
        return rc;
    fs_page_put(p, "<details><summary>Add a key</summary>");
    fs_page_form(p, c, "stack", "/settings/keys");
    fs_page_put(p, "<label>Name<input name=\"name\" required maxlength=\"96\"></label><label>Whose it is<select name=\"owner\">");
    put_owner(p, c->user.name);
    while (fs_db_next(st))
        put_owner(p, fs_db_text(st, 0));
    fs_page_put(p, "</select></label><label>Public key: minisign's, or PEM (P-256, P-384, P-521, Ed25519)<textarea name=\"text\" required maxlength=\"8000\"></textarea></label>"
                   "<button class=\"main\">Add it</button></form></details>");
    return fs_db_end(st, &c->err);
}

/* new_token: one that was just made, or NULL. */
static void settings(fs_hub_call *c, const char *new_token)
{
    fs_page p = { .rc = FS_OK };

    fs_page_begin(&p, c, "Settings");
    if (new_token)
        fs_page_put(&p, "<div class=\"note\" role=\"status\"><p>The new token, which is not shown again:</p><p><code>%s</code></p></div>", new_token);
    if (!fs_hub_failed(c, put_profile(&p, c)) && !fs_hub_failed(c, put_tokens(&p, c)) && !fs_hub_failed(c, put_keys(&p, c)) && !fs_hub_failed(c, put_orgs(&p, c)))
        fs_page_end(&p, c, 200);
    fs_buf_done(&p.out);
}

/* A session that opens no settings ends here, too. */
static void settings_of_scoped(fs_hub_call *c)
{
    fs_page p = { .rc = FS_OK };

    fs_page_begin(&p, c, "Settings");
    fs_page_put(&p, "<h1>Settings</h1><p>You signed in with a token that is for some repositories only, and not for settings.</p>");
    fs_page_form(&p, c, "inline", "/logout");
    fs_page_put(&p, "<button>Sign out</button></form>");
    fs_page_end(&p, c, 403);
}

void fs_hub_page_settings(fs_hub_call *c)
{
    if (!fs_page_need_session(c))
        return;
    if (c->user.scope)
        settings_of_scoped(c);
    else
        settings(c, NULL);
}

void fs_hub_form_profile(fs_hub_call *c)
{
    const char *name;

    if (!fs_hub_need_form(c) || !fs_hub_need_account(c))
        return;
    name = fs_hub_form_text(c, "fullname");
    if (strlen(name) > 400)
        fs_page_error(c, 400, "That name is too long.");
    else if (!fs_hub_failed(c, fs_db_run(c->db, &c->err, "UPDATE accounts SET fullname = nullif(?, '') WHERE id = ?", "si", name, c->user.id)))
        fs_page_go(c, "/settings");
}

void fs_hub_form_token(fs_hub_call *c)
{
    char token[FS_HUB_TOKEN_BYTES];
    const char *role;

    if (!fs_hub_need_form(c) || !fs_hub_need_account(c))
        return;
    role = fs_hub_form_text(c, "role");
    if (strcmp(role, "read") != 0 && strcmp(role, "write") != 0)
        fs_page_error(c, 400, "A token may read, or read and write.");
    else if (!fs_hub_failed(c, fs_hub_token_add(c->hub, c->user.name, fs_hub_form_text(c, "name"), role, fs_hub_form_text(c, "only"), token, &c->err))) {
        settings(c, token);
        explicit_bzero(token, sizeof token);
    }
}

void fs_hub_form_token_revoke(fs_hub_call *c)
{
    if (!fs_hub_need_form(c) || !fs_hub_need_account(c) ||
        fs_hub_failed(c, fs_db_run(c->db, &c->err, "DELETE FROM tokens WHERE id = ? AND account = ?", "ii", (int64_t)strtoll(fs_hub_form_text(c, "id"), NULL, 10), c->user.id)))
        return;
    if (sqlite3_changes(c->db) == 0)
        fs_page_error(c, 404, "There is no such token of yours.");
    else
        fs_page_go(c, "/settings");
}

void fs_hub_form_sessions_end(fs_hub_call *c)
{
    if (fs_hub_need_form(c) && (!c->user.scope || fs_hub_need_account(c)) && !fs_hub_failed(c, fs_db_run(c->db, &c->err, "DELETE FROM sessions WHERE token IN (SELECT id FROM tokens WHERE account = ?) AND lower(hex(hash)) <> ?",
                                                           "is", c->user.id, c->session)))
        fs_page_go(c, "/settings");
}

void fs_hub_form_key(fs_hub_call *c)
{
    const char *name, *text;
    fs_hub_right right = FS_HUB_NONE;
    int64_t owner = 0;
    bool found = false;

    if (!fs_hub_need_form(c) || !fs_hub_need_account(c) ||
        fs_hub_failed(c, fs_db_int(c->db, &owner, &found, &c->err, "SELECT id FROM accounts WHERE name = ?", "s", fs_hub_form_text(c, "owner"))) ||
        (found && fs_hub_failed(c, fs_hub_right_on_account(c->db, &c->user, owner, &right, &c->err))))
        return;
    name = fs_hub_form_text(c, "name");
    text = fs_hub_form_text(c, "text");
    if (right < FS_HUB_ADMIN)
        fs_page_error(c, 403, "Whose key it is, only who administers that account can say.");
    else if (!*name || strlen(name) > 96 || strlen(text) > 8000 || !fs_hub_key_is_valid(text))
        fs_page_error(c, 400, "A key has a name, and is a public key of minisign's, or PEM of P-256, P-384, P-521 or Ed25519.");
    else if (!fs_hub_failed(c, fs_db_run(c->db, &c->err, "INSERT INTO account_keys(account, name, text, created_ms) VALUES(?, ?, ?, ?)", "issi", owner, name, text, fs_unix_ms())))
        fs_page_go(c, "/settings");
}

void fs_hub_form_key_remove(fs_hub_call *c)
{
    if (!fs_hub_need_form(c) || !fs_hub_need_account(c) ||
        fs_hub_failed(c, fs_db_run(c->db, &c->err,
                                   "DELETE FROM account_keys WHERE id = ?1 AND (account = ?2 OR account IN (SELECT org FROM members WHERE account = ?2 AND role = 'admin'))", "ii",
                                   (int64_t)strtoll(fs_hub_form_text(c, "id"), NULL, 10), c->user.id)))
        return;
    if (sqlite3_changes(c->db) == 0)
        fs_page_error(c, 404, "There is no such key of yours.");
    else
        fs_page_go(c, "/settings");
}

/* ---- a new repository ---- */

void fs_hub_page_new(fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    fs_page p = { .rc = FS_OK };

    if (!fs_page_need_session(c) || fs_hub_failed(c, fs_page_owners(c, &st)))
        return;
    if (!fs_db_next(st)) {
        if (!fs_hub_failed(c, fs_db_end(st, &c->err)))
            fs_page_error(c, 403, "The token that you signed in with makes no repositories.");
        return;
    }
    fs_page_begin(&p, c, "New repository");
    fs_page_put(&p, "<h1>New repository</h1>");
    fs_page_form(&p, c, "stack", "/new");
    fs_page_put(&p, "<label>Kind<select name=\"type\"><option value=\"model\">model</option><option value=\"dataset\">dataset</option><option value=\"space\">space</option></select></label>"
                    "<label>Owner<select name=\"organization\">");
    do
        put_owner(&p, fs_db_text(st, 0));
    while (fs_db_next(st));
    fs_page_put(&p, "</select></label><label>Name<input name=\"name\" required maxlength=\"96\" pattern=\"[A-Za-z0-9_.\\-]+\"></label>"
                    "<label>Who sees it<select name=\"visibility\"><option value=\"public\">everybody</option><option value=\"private\">only who owns it</option></select></label>"
                    "<button class=\"main\">Make it</button></form>");
    if (!fs_hub_failed(c, fs_db_end(st, &c->err)))
        fs_page_end(&p, c, 200);
    fs_buf_done(&p.out);
}
